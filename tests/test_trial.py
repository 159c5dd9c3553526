"""Trials by visit: who was seen when, and a stated sequence of residual structures."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import (
    DataError,
    DataWarning,
    FormulaError,
    LevelError,
    ModelError,
    UnknownColumnError,
)

ROWS = pd.DataFrame(
    {
        "id": ["a", "a", "a", "b", "b", "c", "d", "d", "d"],
        "week": [0, 4, 8, 0, 8, 0, 0, 4, 8],
        "arm": ["drug"] * 3 + ["placebo"] * 2 + ["drug"] + ["placebo"] * 3,
        "y": [1.0, 2.0, 3.0, 1.0, 2.0, 1.0, np.nan, np.nan, np.nan],
    }
)  # fmt: skip
CALL = {"subject": "id", "visit": "week"}


def test_absent_rows_and_empty_values_are_missing():
    found = ranef.missing_patterns(ROWS, "y", arm="arm", **CALL)
    visits = found.tidy()
    whole = visits[visits["arm"] == "all"]
    assert whole["week"].tolist() == [0, 4, 8]
    assert whole["observed"].tolist() == [3, 1, 2]
    assert whole["missing"].tolist() == [1, 3, 2]
    assert whole["percent_missing"].tolist() == [25.0, 75.0, 50.0]
    drug = visits[visits["arm"] == "drug"]
    assert drug["subjects"].tolist() == [2, 2, 2]
    assert drug["observed"].tolist() == [2, 1, 1]


def test_patterns_and_their_kinds():
    found = ranef.missing_patterns(ROWS, "y", arm="arm", **CALL)
    table = found.tidy("patterns")
    whole = table[table["arm"] == "all"].set_index("pattern")
    assert whole["kind"].to_dict() == {
        "xxx": "complete", "x..": "left", "x.x": "intermittent", "...": "none",
    }  # fmt: skip
    assert whole["subjects"].tolist() == [1, 1, 1, 1]
    assert whole["percent"].sum() == pytest.approx(100.0)
    assert found.kinds.tolist() == ["complete", "intermittent", "left", "none"]
    assert "1 have none" in found.sentences()[0]


def test_order_of_rows_and_kind_of_table_do_not_matter():
    one = ranef.missing_patterns(ROWS, "y", **CALL)
    other = ranef.missing_patterns(ROWS.sample(frac=1, random_state=1), "y", **CALL)
    pd.testing.assert_frame_equal(one.tidy(), other.tidy())
    polars = pytest.importorskip("polars")
    frame = ranef.missing_patterns(polars.DataFrame(ROWS), "y", **CALL).tidy("patterns")
    assert isinstance(frame, polars.DataFrame)
    assert frame["pattern"].to_list() == one.tidy("patterns")["pattern"].tolist()


def test_visits_in_their_order_and_those_that_nobody_made():
    named = ROWS.assign(week=ROWS["week"].map({0: "start", 4: "middle", 8: "end"}))
    order = ["start", "middle", "end", "later"]
    found = ranef.missing_patterns(named, "y", visits=order, **CALL)
    assert found.tidy()["week"].tolist() == order
    assert found.tidy()["observed"].tolist() == [3, 1, 2, 0]
    category = named.assign(week=pd.Categorical(named["week"], order[:3]))
    assert ranef.missing_patterns(category, "y", **CALL).visits == order[:3]
    with pytest.raises(DataError, match="visits that visits= does not name: end"):
        ranef.missing_patterns(named, "y", visits=order[:2], **CALL)
    with pytest.raises(ModelError, match="each once"):
        ranef.missing_patterns(named, "y", visits=["start", "start"], **CALL)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: pd.concat([t, t.iloc[[1]]]), DataError, "id a has 2 at week 4"),
        (lambda t: t.assign(arm=["drug"] * 4 + ["placebo"] * 5), DataError, "not for b"),
        (lambda t: t.assign(id=t["id"].where(t["id"] != "c")), DataError, "1 of 9 rows"),
        (lambda t: t.drop(columns="y"), UnknownColumnError, "no column 'y' for outcome"),
        (lambda t: t.iloc[:0], DataError, "no rows"),
    ],
)
def test_tables_that_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        ranef.missing_patterns(change(ROWS), "y", arm="arm", **CALL)


def test_picture_and_exports():
    found = ranef.missing_patterns(ROWS, "y", arm="arm", **CALL)
    axes = found.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["drug", "placebo"]
    assert "placebo" in found.to_markdown(table="patterns")
    with pytest.raises(ModelError, match="table"):
        found.tidy("nothing")


# --- a stated sequence


def visits(n: int, m: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 1)) + rng.normal(size=(n, m)).cumsum(axis=1)
    return pd.DataFrame(
        {
            "id": np.repeat(np.arange(n), m),
            "v": np.tile(np.arange(m), n).astype(str),
            "y": y.ravel(),
        }
    )


SEQUENCE = ["us(v | id)", "toep(v | id)", "cs(v | id)"]


def test_the_first_structure_that_can_be_fitted_is_taken():
    table = visits(40, 4)
    fit = ranef.lmm("y ~ v", table, residual=SEQUENCE)
    alone = ranef.lmm("y ~ v", table, residual=SEQUENCE[0])
    assert fit.loglik == alone.loglik
    found = fit.residual_structures()
    assert found["chosen"].tolist() == [True, False, False]
    assert found["outcome"].tolist() == ["optimum is proved", "not tried", "not tried"]
    assert "Of the 3 structures stated this is number 1" in str(fit).replace("\n", " ")


def test_a_structure_without_a_maximum_is_passed_over_and_the_fit_says_why(tmp_path):
    table = visits(5, 7)
    fit = ranef.lmm("y ~ v", table, residual=SEQUENCE)
    found = fit.residual_structures()
    assert found["chosen"].tolist()[0] is False
    assert "unbounded" in found["outcome"][0]
    said = " ".join(str(fit).split())
    assert "passed over were us(v | id): the likelihood is unbounded" in said
    assert "passed over were us(v | id)" in fit.methods()
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    pd.testing.assert_frame_equal(again.residual_structures(), found)


def test_what_the_data_do_not_determine_is_passed_over():
    """A random intercept beside compound symmetry is the same variance twice."""
    table = visits(30, 3)
    fit = ranef.lmm("y ~ v + (1 | id)", table, residual=["homcs(v | id)", "ar1(v | id)"])
    assert fit.residual_structures()["chosen"].tolist() == [False, True]
    assert "do not" in fit.residual_structures()["outcome"][0]


def test_sequences_that_are_refused():
    table = visits(5, 7)
    with pytest.raises(ModelError, match=r"none of the residual structures.*us\(v \| id\)"):
        ranef.lmm("y ~ v", table, residual=SEQUENCE[:1])
    with pytest.raises(ModelError, match="a list of them to be tried in turn"):
        ranef.lmm("y ~ v", table, residual=[])
    with pytest.raises(ModelError, match="states a structure twice"):
        ranef.lmm("y ~ v", table, residual=["cs(v | id)"] * 2)
    with pytest.raises(FormulaError, match="no residual structure 'nope'"):
        ranef.lmm("y ~ v", table, residual=["nope(v | id)", "cs(v | id)"])
    with pytest.raises(UnknownColumnError):
        ranef.lmm("y ~ v", table, residual=["us(w | id)", "cs(v | id)"])
    plain = ranef.lmm("y ~ v + (1 | id)", table)
    with pytest.raises(ModelError, match="residuals of this model are independent"):
        plain.residual_structures()


def visits_as_text():
    """Visits under two names, the last of the second arm lost."""
    rng = np.random.default_rng(12)
    names, rows = ["Wk 4", "Week 12", "Week 24"], []
    for k in range(40):
        own = rng.normal()
        for j, name in enumerate(names):
            lost = j == 2 and k % 4 == 1
            score = None if lost else own + rng.normal()
            rows.append((f"S{k:02d}", ["placebo", "drug"][k % 2], name, score))
    return pd.DataFrame(rows, columns=["id", "arm", "visit", "score"]), names


def test_visits_as_text_are_warned_of_where_numbers_order_them():
    table, names = visits_as_text()
    keys = {"subject": "id", "visit": "visit", "arm": "arm"}
    with pytest.warns(DataWarning, match="are in alphabetical order, Week 12, Week 24, Wk 4, and"):
        ranef.missing_patterns(table, "score", **keys)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ranef.missing_patterns(table, "score", **keys, visits=names)
        assert "10 left for good, 0 missed a visit" in found.sentences()[0]
        plain = table.assign(visit=table["visit"].map({"Wk 4": "V1", "Week 12": "V2"}).fillna("V3"))
        ranef.missing_patterns(plain, "score", **keys)
    fit = ranef.lmm("score ~ visit * arm", table, residual="us(visit | id)")
    with pytest.warns(DataWarning, match="who withdrew depends on it; make it a category"):
        drawn = ranef.impute(fit, table, arm="arm", reference="placebo", n=2, rng=1)
    assert len(drawn) == 2


def test_marks_among_numbers_are_no_responses():
    table, names = visits_as_text()
    table["score"] = table["score"].map("{:.1f}".format).replace("nan", "ND")
    with pytest.raises(DataError, match=r"score holds numbers and text \(ND\): where the text"):
        ranef.missing_patterns(table, "score", subject="id", visit="visit", visits=names)


def test_a_reference_that_is_no_arm_is_refused_by_every_method():
    table, names = visits_as_text()
    table["visit"] = pd.Categorical(table["visit"], names)
    fit = ranef.lmm("score ~ visit * arm", table, residual="us(visit | id)")
    for method in ("mar", "j2r"):
        with pytest.raises(LevelError, match=r"'arm' has no level 'Placebo'; did you mean"):
            ranef.impute(fit, table, arm="arm", reference="Placebo", method=method, n=2, rng=1)
