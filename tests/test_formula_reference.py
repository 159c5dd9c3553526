"""Model matrices against R's model.matrix (tests/reference/formula.R)."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from saved import again

from ranef.design.contrasts import read_contrast
from ranef.design.matrix import lay_out, model_matrix
from ranef.design.specify import specify
from ranef.design.variables import Frame
from ranef.errors import ModelError, RankWarning
from ranef.formula.model import read_formula
from ranef.tables import Table

REFERENCE = json.loads((Path(__file__).parent / "reference" / "formula.json").read_text())
CASES = REFERENCE["cases"]
FACTORS = {"a": list("123"), "b": list("uv"), "c": list("pq")}


def table(part):
    frame = pd.DataFrame(REFERENCE[part])
    for name, levels in FACTORS.items():
        frame[name] = pd.Categorical(frame[name], categories=levels)
    return frame


DATA = table("data")
NEW = table("new")


def columns(formula, contrasts=None):
    """Names and full model matrix of a fixed part, redundant columns included."""
    model = read_formula(formula)
    frame = Frame(Table.of(DATA), {}, {}, fitting=True)
    frame.add_terms(model.fixed)
    frame.contrasts = {name: read_contrast(v, name) for name, v in (contrasts or {}).items()}
    variables = frame.variables(model.fixed)
    layout = lay_out(model.fixed, variables, len(DATA))
    return list(layout.names), model_matrix(layout, variables, len(DATA))


RANDOM = REFERENCE["random"]


@pytest.mark.parametrize("case", RANDOM, ids=[c["bars"] for c in RANDOM])
def test_random_terms_are_those_of_lme4(case):
    """Columns, levels and codes of lFormula; enough rows that no check objects."""
    data = pd.concat([DATA] * 6, ignore_index=True)
    spec = specify(f"y ~ 1 + {case['bars']}", data.assign(y=np.arange(len(data)) ** 1.5))
    assert len(spec.terms) == len(case["terms"])
    for i, (term, theirs) in enumerate(zip(spec.terms, case["terms"], strict=True)):
        factor = spec.factors[term.factor]
        assert list(term.names) == theirs["names"]
        assert factor.name == theirs["factor"].replace("(", "").replace(")", "")
        assert [str(level) for level in factor.levels] == theirs["levels"]
        codes, z = spec.recipe.random(DATA, i)
        np.testing.assert_array_equal(codes, theirs["codes"])
        if "poly" not in case["bars"] and "scale" not in case["bars"]:
            np.testing.assert_allclose(z, theirs["z"], rtol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=[c["formula"] for c in CASES])
def test_names_and_values_are_those_of_r(case):
    names, X = columns(case["formula"], case["contrasts"])
    assert names == case["names"]
    np.testing.assert_allclose(X, case["matrix"], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:in a formula")  # x^2 is x, and says so
@pytest.mark.parametrize("case", CASES, ids=[c["formula"] for c in CASES])
def test_redundant_columns_and_prediction_are_those_of_r(case):
    data = DATA.assign(y=np.arange(len(DATA)) ** 2.0, g=list("aabbccaabbcc"))
    data = pd.concat([data, data], ignore_index=True)
    basis = any(word in case["formula"] for word in ("scale", "poly", "ns(", "bs("))
    formula = f"y {case['formula']} + (1 | g)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RankWarning)
        spec = specify(formula, data, contrasts=case["contrasts"] or None)
    redundant = len(case["kept"]) < len(case["names"])
    assert bool(caught) == redundant
    assert list(spec.names) == [case["names"][j] for j in case["kept"]]
    assert set(spec.names) | set(spec.dropped_columns) == set(case["names"])
    X, kept = again(spec.recipe).fixed(NEW)
    assert kept.all()
    if not basis:
        expected = np.array(case["new"]).reshape(len(NEW), -1)[:, case["kept"]]
        np.testing.assert_allclose(X, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:in a formula")  # x^2 is x, and says so
@pytest.mark.parametrize("case", CASES, ids=[c["formula"] for c in CASES])
def test_bases_are_evaluated_at_new_values_as_r_does(case):
    data = DATA.assign(y=np.arange(len(DATA)) ** 2.0, g=list("aabbccaabbcc"))
    if len(case["kept"]) >= len(data):
        with pytest.raises(ModelError, match="too few"):
            specify(f"y {case['formula']} + (1 | g)", data)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        spec = specify(f"y {case['formula']} + (1 | g)", data, contrasts=case["contrasts"] or None)
    expected = np.array(case["new"]).reshape(len(NEW), -1)[:, case["kept"]]
    X, _ = spec.recipe.fixed(NEW)
    np.testing.assert_allclose(X, expected, rtol=1e-11, atol=1e-11)
