"""What a generalised fit says when the data say too little, or an approximation fails."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import priors  # noqa: F401  (read by eval)
from ranef.errors import ConvergenceWarning, DataError, DataWarning, ModelError

RNG = np.random.default_rng(0)
N = 200
GROUP = np.repeat(np.arange(20), 10)
X = RNG.normal(size=N)
F = np.where(X > 0.3, "b", "a")
EFFECT = RNG.normal(size=20)[GROUP]
BINARY = RNG.binomial(1, 1 / (1 + np.exp(-0.2 - EFFECT)))
COUNTS = RNG.poisson(np.exp(1 + 0.3 * X + 0.3 * EFFECT))
THREE = RNG.integers(1, 4, N)


def table(**columns: Any) -> dict[str, Any]:
    return {"g": GROUP, "x": X, "f": F, **columns}


def warned(formula: str, data: dict[str, Any], **how: Any) -> tuple[Any, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = ranef.glmm(formula, data, **how)
    return fit, " ".join(str(w.message) for w in caught if w.category is ConvergenceWarning)


SEPARATED = {
    "all of one level": ("z ~ f + (1 | g)", {"z": np.where(F == "b", 1, BINARY)}, "binomial", {}),
    "both levels": ("z ~ f + (1 | g)", {"z": (F == "a") * 1}, "binomial", {}),
    "zero part": (
        "y ~ x + (1 | g)",
        {"y": COUNTS * np.where(F == "b", 1, RNG.binomial(1, 0.6, N))},
        "poisson",
        {"zero": "~ f"},
    ),
    "ordinal": ("o ~ f + (1 | g)", {"o": np.where(F == "b", 3, THREE)}, "cumulative", {}),
    "ordinal by a number": ("o ~ x + (1 | g)", {"o": np.digitize(X, [-1, 0, 1])}, "cumulative", {}),
    "multinomial": (
        "o ~ f + (1 | g)",
        {"o": np.where(F == "b", np.minimum(THREE, 2), THREE)},
        "multinomial",
        {},
    ),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_the_prior_that_is_offered_gives_a_finite_estimate(case: str) -> None:
    formula, columns, family, how = SEPARATED[case]
    fit, text = warned(formula, table(**columns), family=family, **how)
    assert not fit.optimum.converged
    assert "show separation" in text
    assert "towards" in text
    offered = re.search(r"priors=(\{.*?\});", text)
    assert offered is not None
    held, text = warned(
        formula, table(**columns), family=family, priors=eval(offered.group(1)), **how
    )
    assert text == ""
    assert held.optimum.converged
    assert np.abs(held.estimate.coefficients).max() < 20


@pytest.mark.parametrize(
    ("family", "y", "says"),
    [
        ("poisson", np.zeros(N), "the response is 0 in every row, so that the fit diverges: (I"),
        ("nbinom2", np.zeros(N), "the response is 0 in every row"),
        ("binomial", np.zeros(N), "the response is a failure in every row"),
        ("binomial", np.ones(N), "the response is a success in every row"),
    ],
)
def test_one_outcome_names_no_column(family: str, y: np.ndarray, says: str) -> None:
    fit, text = warned("y ~ x + (1 | g)", table(y=y), family=family)
    assert says in text
    assert "x towards" not in text
    assert says in str(fit).replace("\n", " ").replace("The response", "the response")


def test_a_zero_part_without_extra_zeros_is_not_separation() -> None:
    fit, text = warned("y ~ x + (1 | g)", table(y=COUNTS), family="poisson", zero="~ 1")
    assert "leave zero out" in text
    assert "separation" not in text
    plain = ranef.glmm("y ~ x + (1 | g)", table(y=COUNTS), family="poisson")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-3)


def test_a_laplace_approximation_that_breaks_down_says_so() -> None:
    """Its criterion has no minimum here (glmmTMB ends with a gradient of 9e6 as well); nodes have.

    With 5, 9 and 15 nodes the log-likelihood is -814.549, -814.369 and -814.368.
    """
    data = ranef.data.load("Salamanders")
    how = {"family": "nbinom2", "zero": "~ mined + (1 | site)", "dispersion": "~ mined"}
    fit, text = warned("count ~ spp + mined + (1 | site)", data, **how)
    assert not fit.optimum.converged
    assert "the Laplace approximation breaks down: given the data, the effects of site R-" in text
    assert "quadrature=9" in text
    exact, text = warned("count ~ spp + mined + (1 | site)", data, quadrature=5, **how)
    assert text == ""
    assert exact.loglik == pytest.approx(-814.549, abs=2e-3)


def test_counts_beyond_the_digits_of_a_density_get_other_advice() -> None:
    mu = 1e11 * np.exp(0.3 * X + 0.4 * EFFECT)
    y = np.random.default_rng(3).poisson(10 * mu)
    fit, text = warned("y ~ x + (x | g)", table(y=y), family="poisson")
    assert not fit.optimum.converged
    assert "take a family of positive numbers (Gamma, lognormal)" in text


def test_the_gaussian_family_is_exact() -> None:
    sleep = ranef.data.load("sleepstudy")
    fit = ranef.glmm("Reaction ~ Days + (Days | Subject)", sleep, family="gaussian")
    assert "Laplace approximation (exact in this model)" in " ".join(str(fit).split())
    linear = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep, reml=False)
    assert fit.loglik == pytest.approx(linear.loglik, abs=1e-9)
    with pytest.warns(DataWarning, match=r"0\.79 below that by quadrature"):
        spread = ranef.glmm(
            "Reaction ~ Days + (1 | Subject)",
            sleep,
            family="gaussian",
            dispersion="~ (1 | Subject)",
        )
    assert "(exact in this model)" not in str(spread)
    exact = ranef.glmm(
        "Reaction ~ Days + (1 | Subject)", sleep, family="gaussian",
        dispersion="~ (1 | Subject)", quadrature=25,
    )  # fmt: skip
    assert 0.5 < exact.loglik - spread.loglik < 1.1


def test_an_offset_on_the_wrong_scale_is_named() -> None:
    exposure = np.linspace(1000, 9000, N)
    with pytest.raises(
        ModelError, match=r"The offset goes from 1000 to 9000 .* offset\(log\(x\)\)"
    ):
        ranef.glmm("y ~ x + (1 | g)", table(y=COUNTS, e=exposure), family="poisson", offset="e")


@pytest.mark.parametrize(
    ("name", "known"), [("gamma", "Gamma"), ("beta_family", "beta"), ("t_family", "t")]
)
def test_names_of_other_software_are_known(name: str, known: str) -> None:
    with pytest.raises(ModelError, match=f"did you mean '{known}'"):
        ranef.glmm("y ~ x + (1 | g)", table(y=COUNTS + 1.0), family=name)


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="complex"):
        ranef.glmm("y ~ x + (1 | g)", pd.DataFrame(table(y=COUNTS + 0j)), family="poisson")


def test_a_wide_response_costs_a_conway_maxwell_poisson_little() -> None:
    """The start takes no spread that effects explain for the family's own."""
    start = ranef.families.family("compois").start(np.array([10.0, 1000.0, 3000.0]))
    assert start.constants[1] < np.log(10)
