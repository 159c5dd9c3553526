"""Hypotheses about coefficients that are written as equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ranef
from ranef.errors import ModelError
from ranef.fits.equations import read_equation

TERMS = ["(Intercept)", "age", "`blood pressure`", "I(age == 8)TRUE", "age:I(x^2)", "armA/B-1"]


@pytest.fixture(scope="module")
def teeth() -> Any:
    return ranef.lmm("distance ~ age * Sex + (1 | Subject)", ranef.data.load("Orthodont"))


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("age = 1", [0, 1, 0, 0, 0, 0], 1),
        ("1 == age", [0, -1, 0, 0, 0, 0], -1),
        ("2*age/4 - blood pressure + 3=.5e1", [0, 0.5, -1, 0, 0, 0], 2),
        ("-(Intercept) + `blood pressure` = age - 2", [-1, -1, 1, 0, 0, 0], -2),
        ("I(age == 8)TRUE = age:I(x^2)", [0, 0, 0, 1, -1, 0], 0),
        ("armA/B-1 - age", [0, -1, 0, 0, 0, 1], 0),
        ("age * 2 * 3 = 1", [0, 6, 0, 0, 0, 0], 1),
    ],
)
def test_equations_are_read(text: str, row: list[float], value: float) -> None:
    found = read_equation(text, TERMS)
    assert found is not None
    np.testing.assert_allclose(found[0], row)
    assert found[1] == value


@pytest.mark.parametrize("text", ["age", "agee", "age > 1", "weight/height", "age - height"])
def test_what_is_no_equation_is_a_name(text: str) -> None:
    assert read_equation(text, TERMS) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agee = 1", "'agee' is no coefficient; did you mean 'age'?"),
        ("age = ", "a coefficient or a number is missing"),
        ("age = 1 = 2", "'= 2' comes after what is read"),
        ("age Sex = 0", "an operator is missing before 'Sex = 0'"),
        ("age * age = 1", "multiplied and divided by numbers alone"),
        ("age / 0 = 1", "multiplied and divided by numbers alone"),
        ("1 = 1", "holds no coefficient"),
    ],
)
def test_wrong_equations(teeth: Any, text: str, said: str) -> None:
    with pytest.raises(ModelError, match=text.replace("*", r"\*")) as caught:
        teeth.test(text)
    assert said in str(caught.value)


def test_an_equation_is_its_matrix_and_value(teeth: Any) -> None:
    written = teeth.test(["age = 1", "age + age:SexFemale = 1/2", "SexFemale"])
    stated = teeth.test([[0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]], rhs=[1, 0.5, 0])
    assert written.statistic == stated.statistic
    assert written.hypotheses == ("age = 1", "age + age:SexFemale = 0.5", "SexFemale = 0")
    robust = teeth.robust()
    assert robust.test("age = 1").p_value == robust.test([[0, 1, 0, 0]], rhs=[1]).p_value
    with pytest.raises(ModelError, match="in the equations or as rhs, not both"):
        teeth.test("age = 1", rhs=[1])
