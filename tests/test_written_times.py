"""Times that come as text: in structures of residuals, lags, dynamic models and diaries."""

from __future__ import annotations

import numpy as np
import pytest

import ranef
from ranef.errors import DataError, ModelError
from ranef.tables import Table
from ranef.tables.moments import are_dates, are_times, written_times

pd = pytest.importorskip("pandas")

FORMS = {
    "datetime": lambda t: t,
    "iso": lambda t: t.dt.strftime("%Y-%m-%dT%H:%M:%S"),
    "offset": lambda t: t.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo").map(str),
    "dots": lambda t: t.dt.strftime("%d.%m.%Y %H:%M:%S"),
    "slashes": lambda t: t.dt.strftime("%m/%d/%Y %H:%M:%S"),
    "twelve": lambda t: t.dt.strftime("%m/%d/%Y %I:%M:%S %p"),
}


def diary(form: str = "datetime"):
    rng = np.random.default_rng(4)
    hours = np.cumsum(rng.uniform(1, 9, size=(25, 12)), axis=1).ravel()
    sent = pd.Series(pd.Timestamp("2026-03-20") + pd.to_timedelta(hours, "h")).dt.floor("s")
    table = pd.DataFrame({
        "person": np.repeat(np.arange(25), 12), "sent": FORMS[form](sent),
        "x": rng.normal(size=300), "y": np.repeat(rng.normal(size=25), 12) + rng.normal(size=300),
    })  # fmt: skip
    return table.sample(frac=1, random_state=2)


def answers(table):
    fit = ranef.lmm("y ~ x + (1 | person)", table, residual="ou(sent | person)")
    lagged = ranef.lmm("y ~ lag(x, person, time = sent, max_gap = '5h') + (1 | person)", table)
    own = ranef.dynamic("y ~ x + (1 | person)", table, residual="ou(sent | person)")
    return [fit.loglik, lagged.loglik, own.loglik, fit.predict(table.head(4)).to_numpy().sum()]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "datetime"])
def test_text_is_read_as_the_datetimes_it_stands_for(form):
    np.testing.assert_allclose(answers(diary(form)), answers(diary()), rtol=1e-9)


def test_a_cell_that_is_no_time_is_named():
    table = diary("iso")
    table.loc[3, "sent"] = "soon"
    for formula, how in (
        ("y ~ x + (1 | person)", {"residual": "ou(sent | person)"}),
        ("y ~ lag(x, person, time = sent) + (1 | person)", {}),
    ):
        with pytest.raises(DataError, match=r"'soon' in row .* is no time as 2025-03-29T14:05"):
            ranef.lmm(formula, table, **how)
    with pytest.raises(DataError, match=r"31\.02\.2026"):
        ranef.lmm("y ~ x + (1 | person)", table.assign(sent="31.02.2026 9:00"),
                  residual="ou(sent | person)")  # fmt: skip


def test_words_are_no_times_and_days_count_as_days():
    table = Table.of({"g": ["a", "b"], "d": ["2026-03-29", "30.3.2026"], "n": [1.0, 2.0]})
    assert [are_times(table, name) for name in ("g", "d", "n")] == [False, True, False]
    assert are_dates(table, "d")
    np.testing.assert_allclose(np.diff(written_times(table, "d")[0]), 86400.0)
    rows = diary().drop(columns="sent").sort_values("person")
    day = np.tile(np.arange(12), 25)
    dates = (pd.Timestamp("2026-03-01") + pd.to_timedelta(day, "D")).strftime("%Y-%m-%d")
    structure = {"residual": "ou(day | person)"}
    number = ranef.lmm("y ~ x", rows.assign(day=day), **structure)
    text = ranef.lmm("y ~ x", rows.assign(day=dates), **structure)
    np.testing.assert_allclose(text.theta, number.theta, rtol=1e-9)


def test_a_power_of_zero_is_refused_in_the_users_words():
    table = diary().assign(hours=np.tile(np.arange(12.0), 25))
    with pytest.raises(DataError, match=r"above zero; it is 0 in row.*exponential\(hours\)"):
        ranef.lmm("y ~ x", table, dispersion="~ power(hours)")
    with pytest.raises(DataError, match=r"power\(person\) needs numbers"):
        ranef.lmm("y ~ x", table.assign(person="p"), dispersion="~ power(person)")
    fit = ranef.lmm("y ~ x", table, dispersion="~ power(hours + 1)")
    assert fit.tidy("variance").parameter.tolist()[-1] == "power"


def test_pedigrees_of_few_words():
    family = pd.DataFrame({"id": ["c", "d"], "sire": ["a", "c"], "dam": [".", "0"]})
    columns = {"id": "id", "sire": "sire", "dam": "dam"}
    assert set(ranef.pedigree(family, **columns).labels) == {"a", "c", "d"}
    with pytest.raises(DataError, match="no rows"):
        ranef.pedigree(family.head(0), **columns)
    with pytest.raises(ModelError, match="'sire' is given twice"):
        ranef.pedigree(family, id="id", sire="sire", dam="sire")
    with pytest.raises(ModelError, match="two or more imputed tables, not 1"):
        ranef.pool(ranef.lmm("y ~ x + (1 | person)", diary()))


def test_inbreeding_of_brothers_and_sisters_is_wrights():
    """Full sibs mated for generations: 0, 0, 1/4, 3/8, 1/2, 19/32 (Wright 1921)."""
    rows = [("s0", None, None), ("d0", None, None)]
    for k in range(1, 6):
        rows += [(f"{sex}{k}", f"s{k - 1}", f"d{k - 1}") for sex in "sd"]
    table = pd.DataFrame(rows, columns=["id", "sire", "dam"]).sample(frac=1, random_state=1)
    found = ranef.pedigree(table, id="id", sire="sire", dam="dam").tidy().set_index("id")
    expected = [0, 0, 0.25, 0.375, 0.5, 0.59375]
    for sex in "sd":
        np.testing.assert_allclose(
            found.loc[[f"{sex}{k}" for k in range(6)], "inbreeding"], expected
        )
