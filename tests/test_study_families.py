"""Long studies of generalised models, run by ``make study``: every family recovers its truth.

Each case draws data sets from the model through `Family.simulate`, with a random
intercept in every part that has one, and fits them. Of each coefficient, shape and
standard deviation, over the draws:

- the mean estimate is within four Monte Carlo standard errors of the truth, plus the
  second-order bias of maximum likelihood: s^2 for a coefficient of standard error s
  (the order of Cox and Snell 1968, with third derivatives of the order of the
  information), and for a standard deviation sd of q levels sd / (2 q) for the fixed
  effects it is estimated beside and s^2 / (2 sd) for the root of an unbiased variance;
- the 95% Wald intervals (of sd on the log scale) cover in at least 95% less four
  standard errors of a proportion.

Bernoulli responses, where the Laplace approximation itself is biased, are fitted by
quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ranef import families
from ranef.design.generalised import specify_generalised
from ranef.families import Cumulative, Family, Multinomial, family
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.models.generalised import fit_glmm
from ranef.models.records import GeneralisedEstimate

pytestmark = pytest.mark.study

Floats = NDArray[np.float64]
DRAWS = 40
LEVELS = 40
EACH = 15
ENDS = (-1.0, 2.0)


@dataclass(frozen=True)
class Part:
    """One linear predictor: its coefficients (a slope on x second), sd of its intercepts."""

    coefficients: tuple[float, ...]
    sd: float | None = None

    @property
    def right(self) -> str:
        fixed = "~ 1" if len(self.coefficients) == 1 else "~ x"
        return fixed if self.sd is None else f"{fixed} + (1 | g)"

    def predictor(self, rng: np.random.Generator, x: Floats, g: NDArray[np.intp]) -> Floats:
        eta = np.polynomial.polynomial.polyval(x, self.coefficients)
        return eta if self.sd is None else eta + rng.normal(0, self.sd, LEVELS)[g]


@dataclass(frozen=True)
class Case:
    """A model: its parts in the family's order, zero inflation last if there is one."""

    family: Family
    mean: Part
    others: tuple[Part, ...] = ()
    zero: bool = False
    trials: int | None = None
    thresholds: tuple[float, ...] = ()
    each: int = EACH
    quadrature: int = 1
    label: str = field(default="")

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.family.name, self.family.link, self.label)))

    @property
    def truth(self) -> tuple[Floats, Floats]:
        """Coefficients and standard deviations in the order of an estimate's."""
        parts = (*self.means, *self.others)
        coefficients = [c for part in parts for c in part.coefficients]
        if self.thresholds:
            coefficients = [*self.mean.coefficients[1:], *self.thresholds]
        return np.array(coefficients), np.array([p.sd for p in parts if p.sd is not None])

    @property
    def means(self) -> tuple[Part, ...]:
        if not isinstance(self.family, Multinomial):
            return (self.mean,)
        low, high = self.mean.coefficients
        return (self.mean, Part((-low, 2 * high), self.mean.sd))

    def design(self) -> tuple[Floats, NDArray[np.intp]]:
        g = np.repeat(np.arange(LEVELS), self.each)
        return np.random.default_rng(1).uniform(-1, 1, g.size), g

    def draw(self, rng: np.random.Generator) -> dict[str, Any]:
        """A table of one data set."""
        x, g = self.design()
        etas = [part.predictor(rng, x, g) for part in (*self.means, *self.others)]
        etas += [np.full(x.size, cut) for cut in self.thresholds]
        extra = None if self.trials is None else np.full(x.size, float(self.trials))
        y = self.family.simulate(rng, np.array(etas), extra, zero=self.zero)
        table = {"y": y, "x": x, "g": g}
        if self.trials is not None:
            table["failures"] = self.trials - y
        if self.family.response == "interval":
            table["y"] = np.where(y < ENDS[0], np.nan, np.minimum(y, ENDS[1]))
            table["upper"] = np.where(y > ENDS[1], np.nan, np.maximum(y, ENDS[0]))
        return table

    def fit(self, table: dict[str, Any]) -> GeneralisedEstimate:
        left = "y"
        if self.trials is not None:
            left = "cbind(y, failures)"
        if self.family.response == "interval":
            left = "cbind(y, upper)"
        predictors = self.family.predictors(self.zero)[1:]
        right = {}
        if not isinstance(self.family, Cumulative | Multinomial):
            right = {
                p.label if p.name == "shape" else p.name: part.right
                for p, part in zip(predictors, self.others, strict=True)
            }
        kind: Any = "multinomial" if isinstance(self.family, Multinomial) else self.family
        spec = specify_generalised(
            f"{left} {self.mean.right}",
            pd.DataFrame(table),
            family=kind,
            zero=right.pop("zero", "~ 0"),
            dispersion=right.pop("dispersion", "~ 1"),
            shapes=right,
        )
        return fit_glmm(spec.parts, spec.family, extra=spec.extra, quadrature=self.quadrature)


def case(name: str, link: str | None, mean: Part, *others: Part, **more: Any) -> Case:
    return Case(family(name, link=link), mean, others, **more)


USUAL = Part((1.0, 0.5), 0.5)
HALF = Part((-0.7,))
ZERO = Part((-0.5,))
LOGIT = Part((0.3, 0.6), 0.7)
ORDERED = Part((0.0, 0.6), 0.7)

CASES = [
    case("gaussian", None, USUAL, HALF),
    case("gaussian", "log", Part((1.0, 0.4), 0.3), HALF),
    case("gaussian", "inverse", Part((1.0, 0.2), 0.1), Part((-2.0,))),
    case("gaussian", None, USUAL, Part((-0.7, 0.4), 0.4), label="dispersion"),
    case("censored", None, Part((0.5, 1.0), 0.7), Part((0.0,))),
    case("t", None, USUAL, HALF, Part((1.4,))),
    case("binomial", None, LOGIT, quadrature=9, each=25),
    case("binomial", None, LOGIT, trials=8),
    case("binomial", "probit", Part((0.2, 0.5), 0.4), trials=8),
    case("binomial", "cloglog", Part((-0.5, 0.5), 0.4), trials=8),
    case("binomial", "cauchit", Part((0.2, 0.6), 0.6), trials=8),
    case("binomial", "log", Part((-1.5, 0.2), 0.15), trials=8),
    case("binomial", None, LOGIT, ZERO, zero=True, trials=8, label="zero"),
    case("betabinomial", None, LOGIT, Part((1.5,)), trials=12),
    case("beta", None, LOGIT, Part((2.0,))),
    case("beta", "cloglog", Part((-0.5, 0.5), 0.4), Part((2.0,))),
    case("beta", None, LOGIT, Part((2.0, 0.5)), ZERO, zero=True, label="zero"),
    case("ordbeta", None, LOGIT, Part((1.5,)), Part((-1.2,)), Part((0.9,))),
    case("poisson", None, USUAL),
    case("poisson", "sqrt", Part((3.0, 0.5), 0.4)),
    case("poisson", "identity", Part((10.0, 2.0), 1.5)),
    case("poisson", None, USUAL, Part((-0.5, 0.5), 0.8), zero=True, label="zero"),
    case("nbinom1", None, USUAL, Part((0.3,))),
    case("nbinom2", None, USUAL, Part((0.7,))),
    case("nbinom2", None, USUAL, Part((0.7, 0.6), 0.5), label="dispersion", each=30),
    case("nbinom2", None, Part((1.5, 0.5), 0.5), Part((0.9,)), ZERO, zero=True, label="zero"),
    case("genpois", None, USUAL, Part((0.7,))),
    case("compois", None, USUAL, Part((0.5,))),
    case("truncated_poisson", None, USUAL),
    case("truncated_poisson", None, USUAL, Part((-0.5, 0.5), 0.8), zero=True, label="hurdle"),
    case("truncated_nbinom1", None, Part((1.5, 0.5), 0.5), Part((0.3,))),
    case("truncated_nbinom2", None, Part((1.5, 0.5), 0.5), Part((0.7,))),
    case("truncated_genpois", None, Part((1.5, 0.5), 0.5), Part((0.5,))),
    case("truncated_compois", None, Part((1.5, 0.5), 0.5), Part((0.3,))),
    case("Gamma", "log", USUAL, HALF),
    case("Gamma", "inverse", Part((1.0, 0.2), 0.15), HALF),
    case("Gamma", "log", USUAL, Part((-0.7, 0.4), 0.4), label="dispersion"),
    case("Gamma", "log", USUAL, HALF, ZERO, zero=True, label="zero"),
    case("inverse.gaussian", None, USUAL, Part((-2.0,))),
    case("lognormal", None, USUAL, Part((0.0,))),
    case("tweedie", None, USUAL, Part((0.3,)), Part((0.0,))),
    case("cumulative", "logit", ORDERED, thresholds=(-1.0, 0.2, 1.3)),
    case("cumulative", "probit", ORDERED, thresholds=(-1.0, 0.2, 1.3)),
    case("cumulative", "cloglog", ORDERED, thresholds=(-1.5, -0.3, 0.6)),
    Case(families.Cumulative("cauchit"), ORDERED, thresholds=(-1.0, 0.2, 1.3)),
    Case(Multinomial(3), LOGIT, each=25),
]


def deviations(case: Case, draws: int = DRAWS) -> dict[str, Floats]:
    """Of each parameter: mean error, its allowance, and the share of intervals that cover."""
    rng = np.random.default_rng(11)
    coefficients, sds = case.truth
    truth = np.append(coefficients, sds)
    estimates, errors = np.empty((2, draws, truth.size))
    for i in range(draws):
        found = case.fit(case.draw(rng))
        assert found.optimum.converged
        estimates[i] = np.append(found.coefficients, np.abs(found.theta))
        errors[i] = np.sqrt(np.diag(joint_covariance(found)))
    return {"truth": truth, "estimates": estimates, "errors": errors}


def bias(case: Case, truth: Floats, errors: Floats) -> Floats:
    """The second-order bias of maximum likelihood, see the module's docstring."""
    variance = np.mean(errors**2, axis=0)
    allowed = variance.copy()
    first = len(case.truth[0])
    allowed[first:] = truth[first:] / (2 * LEVELS) + variance[first:] / (2 * truth[first:])
    return allowed


def covered(case: Case, truth: Floats, estimates: Floats, errors: Floats) -> Floats:
    """The share of 95% intervals that hold the truth."""
    z = (estimates - truth) / errors
    first = len(case.truth[0])
    sd = estimates[:, first:]
    z[:, first:] = np.log(sd / truth[first:]) / (errors[:, first:] / sd)
    return np.asarray(np.mean(np.abs(z) < 1.959964, axis=0))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_family_recovers_its_truth(case: Case) -> None:
    found = deviations(case)
    truth, estimates, errors = found["truth"], found["estimates"], found["errors"]
    allowed = 4 * estimates.std(axis=0, ddof=1) / np.sqrt(DRAWS) + bias(case, truth, errors)
    np.testing.assert_array_less(np.abs(estimates.mean(axis=0) - truth), allowed)
    least = 0.95 - 4 * np.sqrt(0.95 * 0.05 / DRAWS)
    assert np.all(covered(case, truth, estimates, errors) >= least)
