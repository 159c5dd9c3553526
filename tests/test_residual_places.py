"""Where new rows stand in a structure of residuals, and processes told from residuals in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.api.own_places import by_own_places
from ranef.design.call import ModelArguments
from ranef.errors import DataError, FormulaWarning


@pytest.fixture(scope="module")
def visits():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"id": np.repeat(range(30), 4), "visit": np.tile([1, 2, 3, 4], 30)})
    table["x"] = rng.normal(size=120)
    table["y"] = rng.normal(size=120) + np.repeat(rng.normal(size=30), 4)
    table["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(24 * table["visit"], unit="h")
    return table


@pytest.mark.parametrize("structure", ["ar1(visit | id)", "us(visit | id)", "ou(visit | id)"])
def test_text_in_place_of_numbers_is_refused_with_and_without_a_history(visits, structure):
    fit = ranef.lmm("y ~ x", visits, residual=structure)
    new = {"x": [0.5], "visit": ["one"], "id": [3]}
    with pytest.raises(DataError, match=r"visit holds categories here \(such as 'one'\), and"):
        fit.predict(new)
    with pytest.raises(DataError, match="holds numbers in the rows of the fit, and categories"):
        fit.predict(new, history=visits.tail(2))
    for other in ([9], [np.nan], [None]):  # the mean does not depend on it
        assert np.isfinite(fit.predict({**new, "visit": other})).all()
    assert np.isfinite(fit.predict({"x": [0.5]})).all()


def test_times_may_be_written(visits):
    fit = ranef.lmm("y ~ x", visits, residual="ou(when | id)")
    assert np.isfinite(fit.predict({"x": [0.5], "when": ["2024-01-09"], "id": [3]})).all()
    with pytest.raises(DataError, match="numbers or times in the rows"):
        fit.predict({"x": [0.5], "when": ["later"], "id": [3]})


def test_the_next_row_without_a_time_is_missing_and_between_two_steps_refused(visits):
    fit = ranef.lmm("y ~ x", visits, residual="ar1(visit | id)")
    new = {"x": [0.5, 0.5], "visit": [np.nan, 5], "id": [29, 29]}
    found = fit.predict(new, history=visits.tail(2))
    assert np.isnan(found).tolist() == [True, False]
    alone = fit.predict({k: v[:1] for k, v in new.items()}, history=visits.tail(2))
    assert np.isnan(alone).tolist() == [True]
    with pytest.raises(DataError, match=r"ar1\(\) counts whole steps of visit"):
        fit.predict({"x": [0.5], "visit": [4.5], "id": [29]}, history=visits.tail(2))


def test_a_process_is_told_from_the_residual_that_is_one():
    """The same model by a random `ou` and by a residual with a nugget; no note for each time."""
    rng = np.random.default_rng(8)
    time = np.sort(rng.uniform(0, 60, size=(15, 6)), axis=1)
    gap = np.abs(time[:, :, None] - time[:, None, :])
    root = np.linalg.cholesky(np.exp(-gap / 6) + 0.6 * np.eye(6))
    y = np.einsum("gij,gj->gi", root, rng.normal(size=(15, 6)))
    table = pd.DataFrame({"person": np.repeat(range(15), 6), "hours": time.ravel(), "y": y.ravel()})
    process = ranef.lmm("y ~ 1 + ou(0 + hours | person)", table)
    residual = ranef.lmm("y ~ 1", table, residual="ou(hours | person, nugget=True)")
    assert process.loglik == pytest.approx(residual.loglik, abs=1e-6)
    words = " ".join(str(process).split())
    assert "Beside the process ou(0 + hours | person) each row has an independent residual" in words
    assert 'residual="ou(hours | person)" the process would be the residual itself' in words
    assert "rests on 1 row" not in words
    assert "Effects of 90 places of hours vary between the 15 levels of person" in (
        process.methods()
    )
    assert "Beside the process" not in str(residual)


def test_a_series_that_begins_anew_is_answered_by_its_nesting():
    table = pd.DataFrame({"id": [1, 1, 1, 1, 2, 2], "beep": [1, 2, 1, 2, 1, 2]})
    table["y"] = np.arange(6.0) ** 2
    with pytest.raises(DataError, match=r"begins anew each day, write beep \| id/day"):
        ranef.lmm("y ~ 1", table, residual="ar1(beep | id)")


def scattered(persons: int, rows: int, seed: int = 5) -> pd.DataFrame:
    """Rows at times that no two persons share."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), rows)
    hours, x = rng.uniform(0, 40, size=(2, persons * rows))
    y = x / 20 + np.sin(hours / 4 + person) + 0.5 * rng.normal(size=persons * rows)
    return pd.DataFrame({"person": person, "hours": hours, "x": x, "y": y})


@pytest.mark.parametrize("term", ["ou(0 + hours | person)", "gau(0 + hours | person)"])
def test_a_process_at_own_places_is_the_same_model_either_way(term, monkeypatch):
    """Twice the same likelihood: an effect at each place of all, and residuals with a nugget."""
    table = scattered(8, 12)
    formula = f"y ~ x + (1 | person) + {term}"
    effects = ranef.lmm(formula, table)
    monkeypatch.setattr("ranef.api.own_places.MUCH", 1e3)
    with pytest.warns(FormulaWarning, match="has places of its own in each person: fitted as"):
        residual = ranef.lmm(formula, table)
    assert residual.formula == "y ~ x + (1 | person)"
    assert effects.formula == formula
    assert residual.loglik == pytest.approx(effects.loglik, abs=1e-6)
    np.testing.assert_allclose(residual.coefficients, effects.coefficients, rtol=1e-4)


def test_a_process_with_as_many_times_as_rows_ends():
    """360 times in each of 30 persons took minutes as effects at all of them."""
    table = scattered(30, 12)
    with pytest.warns(FormulaWarning, match=r'residual="ou\(hours \| person, nugget=True\)"'):
        fit = ranef.lmm("y ~ ou(0 + hours | person) + x", table)
    assert fit.optimum.converged
    assert fit.formula == "y ~ x"
    same = ranef.lmm("y ~ x", table, residual="ou(hours | person, nugget=True)")
    assert fit.loglik == pytest.approx(same.loglik, abs=1e-8)


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("y ~ x + ou(0 + hour | person)", {}),
        ("y ~ x + ou(0 + hours | person)", {"weights": "x"}),
        ("y ~ x + (1 | item) + ou(0 + hours | person)", {}),
        ("y ~ x + ou(0 + hours | person:item)", {}),
        ("y ~ x + ou(hours | person)", {"dispersion": "~ x"}),
    ],
)
def test_a_process_stays_where_places_are_shared_or_more_is_said(formula, more):
    table = scattered(30, 12)
    table["hour"], table["item"] = np.floor(table["hours"] / 10), np.arange(360) % 5
    call = ModelArguments(formula, table, **more)
    assert by_own_places(call) is call
