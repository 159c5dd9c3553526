"""Population-averaged models: a Specification with clusters in, a `MarginalEstimate` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.clusters import Occasions, in_order
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor
from ranef.errors import ModelError
from ranef.families import Family
from ranef.families.links import LINKS
from ranef.families.variance import MeanVariance, mean_variance
from ranef.models.dropout import Dropout
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.marginal_categories import (
    category_labels,
    category_problem,
    category_working,
    has_categories,
)
from ranef.models.marginal_correlations import grid_of
from ranef.solve.marginal.associations import OddsRatio
from ranef.solve.marginal.banded import is_banded
from ranef.solve.marginal.clusters import Clusters
from ranef.solve.marginal.equations import (
    Problem,
    Solution,
)
from ranef.solve.marginal.tabled import Fixed, Stationary, Unstructured
from ranef.solve.marginal.working import (
    Autoregressive,
    Continuous,
    Exchangeable,
    Independence,
    Nested,
    Working,
)

__all__ = ["Equations", "MarginalEstimate", "MarginalModel", "bounds_of", "mean_and_slope"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_PLACES = 2000


@dataclass(frozen=True)
class Equations:
    """How a marginal model is to be fitted.

    Attributes
    ----------
    correlation : str
        A name without its argument: ``"m-dependent"``.
    reach : int
        Of ``"m-dependent"``.
    stationary : bool
    estimator : {"all", "adjacent"}
    scale : float or None
        Held at a value.
    adjusted : bool
        Whether counts are reduced by the number of coefficients.
    penalty : str
        ``"firth"`` or nothing.
    """

    correlation: str = "exchangeable"
    reach: int = 0
    stationary: bool = True
    estimator: str = "all"
    scale: float | None = None
    adjusted: bool = False
    penalty: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class MarginalModel:
    """What is fitted.

    Attributes
    ----------
    specification : Specification
        Of the mean.
    family : Family
    trials : (n,) array or None
        Of a binomial response.
    clusters : tuple of GroupingFactor
        The clusters, and those within them where these are nested.
    occasions : Occasions or None
    sampling : (n,) array or None
        Sampling weights of the rows.
    shapes : dict
        Shapes of the variance function, held at these values.
    matrix : (T, T) array or None
        A correlation that is given, by places in time.
    equations : Equations
    dropout : Dropout or None
        Weights of rows that were seen, and the model that they come from.
    """

    specification: Specification
    family: Family
    trials: Floats | None = None
    clusters: tuple[GroupingFactor, ...]
    occasions: Occasions | None = None
    sampling: Floats | None = None
    shapes: dict[str, float] = field(default_factory=dict)
    matrix: Floats | None = None
    equations: Equations = Equations()
    dropout: Dropout | None = None

    @property
    def row_weights(self) -> Floats | None:
        """What multiplies the residuals of the rows: sampling weights, and those of dropout."""
        if self.dropout is None:
            return self.sampling
        own = self.dropout.weights
        return own if self.sampling is None else own * self.sampling

    @cached_property
    def moments(self) -> MeanVariance:
        return mean_variance(self.family, self.shapes)

    @cached_property
    def labels(self) -> tuple[CoefficientLabel, ...]:
        """Component, category and name of each coefficient."""
        if has_categories(self.family):
            return category_labels(self)
        return tuple(CoefficientLabel(CONDITIONAL, None, n) for n in self.specification.names)

    @cached_property
    def order(self) -> Ints | None:
        """Rows by cluster and time; None where they stand so."""
        return in_order(self.clusters, self.occasions)

    def sorted(self, values: Any) -> Any:
        """Values of rows (n, ...) in the order of clusters and times."""
        return values if values is None or self.order is None else values[self.order]

    @cached_property
    def proportions(self) -> Floats:
        """The response; of successes of trials their share."""
        y = self.specification.y
        return y if self.trials is None else y / self.trials

    @cached_property
    def precisions(self) -> Floats | None:
        """Var(y) = phi V(mu) / precision; None for 1."""
        found, trials = self.specification.weights, self.trials
        if trials is not None:
            if "phi" in self.shapes:  # beta-binomial
                phi = self.shapes["phi"]
                trials = trials * (phi + 1) / (phi + trials)
            found = trials if found is None else found * trials
        return None if found is None or (found == 1).all() else found

    @cached_property
    def laid_out(self) -> Clusters:
        """The clusters with their times, rows sorted."""
        codes = self.sorted(self.clusters[0].codes)
        starts = np.append(0, np.flatnonzero(np.diff(codes)) + 1)
        bounds = np.append(starts, len(codes)).astype(np.intp)
        inner = self.sorted(self.clusters[1].codes) if len(self.clusters) > 1 else None
        if self.occasions is None:
            place = np.arange(len(codes)) - np.repeat(starts, np.diff(bounds))
            return Clusters(bounds, place.astype(np.float64), (0.0, 1.0), inner)
        times = self.sorted(self.occasions.values)
        return Clusters(bounds, times, self._grid(times), inner)

    def _grid(self, times: Floats) -> tuple[float, float] | None:
        name = self.equations.correlation
        assert self.occasions is not None
        if self.occasions.levels is not None:
            return 0.0, 1.0
        wanted = name in ("ar1", "toeplitz") or (
            name == "m-dependent" and self.equations.stationary
        )
        return grid_of(times, self.occasions.name, name) if wanted else None

    @cached_property
    def problem(self) -> Problem:
        """The model as arrays."""
        if has_categories(self.family):
            return category_problem(self)
        spec, link = self.specification, LINKS[self.family.link]
        return Problem(
            y=self.sorted(self.proportions),
            X=np.ascontiguousarray(self.sorted(spec.X)),
            offset=self.sorted(spec.offset),
            weights=self.sorted(self.precisions),
            sampling=self.sorted(self.row_weights),
            clusters=self.laid_out,
            link=link.function,
            inverse=link.inverse,
            first=link.first,
            second=link.second,
            both=mean_and_slope(self.family.link),
            moments=self.moments,
            bounds=bounds_of(self.family),
            penalised=self.equations.penalty == "firth",
            scale=self.equations.scale,
            adjusted=self.equations.adjusted,
        )

    @cached_property
    def working(self) -> Working:
        """The working correlation, before anything is estimated."""
        return _working(self, np.zeros(0))


@dataclass(frozen=True, eq=False, kw_only=True)
class MarginalEstimate:
    """A fitted marginal model as arrays.

    Attributes
    ----------
    model : MarginalModel
    coefficients : (p,) array
    correlations : (k,) array
        Parameters of the working correlation.
    scale : float
    bread : (p, p) array
        Sum of D'V^-1 D without the scale.
    gap : float
        The estimating function at the coefficients, in units of its standard error.
    steps : int
    converged : bool
    shrunk : float
        Share of independence mixed into a correlation that was no positive definite matrix.
    smallest : float
        Its smallest eigenvalue.
    """

    model: MarginalModel
    coefficients: Floats
    correlations: Floats
    scale: float
    bread: Floats
    gap: float
    steps: int
    converged: bool
    shrunk: float = 0.0
    smallest: float = float("nan")

    @cached_property
    def solution(self) -> Solution:
        """The estimate as the solver has it."""
        working = _working(self.model, self.correlations)
        working = replace(working, shrunk=self.shrunk, smallest=self.smallest)
        return Solution(
            self.coefficients, working, self.scale, self.bread, self.gap, self.steps,
            self.converged,
        )  # fmt: skip

    @property
    def specification(self) -> Specification:
        """Of the mean."""
        return self.model.specification

    @property
    def family(self) -> Family:
        """The family, of which the variance function counts."""
        return self.model.family

    @property
    def sigma(self) -> None:
        """There is no residual variance apart from the scale."""
        return None

    @property
    def n_estimated(self) -> int:
        """Coefficients, correlations and a scale that were estimated."""
        equations = self.model.equations
        known = {"fixed": 0, "local odds ratio": 1}
        own = known.get(equations.correlation, len(self.correlations))
        return len(self.coefficients) + own + (equations.scale is None)


def _working(model: MarginalModel, parameters: Floats) -> Working:
    equations, clusters = model.equations, model.laid_out
    name = equations.correlation
    if has_categories(model.family):
        return category_working(model, parameters)
    if name == "independence":
        return Independence(parameters)
    if name == "exchangeable":
        return Exchangeable(parameters)
    if name == "nested":
        return Nested(parameters)
    if name == "log odds ratio":
        return OddsRatio(parameters if len(parameters) else np.zeros(1))
    if name == "ar1":
        return Autoregressive(parameters, estimator=equations.estimator)
    if name == "car1":
        found = Continuous(parameters, estimator=equations.estimator)
        return found.with_distances(clusters)
    count = len(clusters.places)
    banded = name == "m-dependent" and is_banded(equations.reach, count)
    if count > MOST_PLACES and not banded:
        raise ModelError(
            f"correlation={name!r} has a matrix of all {count:,} places in time, and at most "
            f"{MOST_PLACES:,} are taken: use 'ar1', 'car1', 'exchangeable' or 'm-dependent' of a "
            "short reach, or coarser times"
        )
    if name == "toeplitz":
        return Stationary(parameters, reach=count - 1)
    if name == "m-dependent" and equations.stationary:
        return Stationary(parameters, reach=min(equations.reach, count - 1))
    if name == "m-dependent":
        return Unstructured(parameters, reach=min(equations.reach, count - 1))
    if name == "unstructured":
        return Unstructured(parameters, reach=count - 1)
    given = _given(model, count)
    return Fixed(given, reach=count - 1)


def _given(model: MarginalModel, count: int) -> Floats:
    R = model.matrix
    assert R is not None
    if R.shape != (count, count):
        raise ModelError(
            f"matrix is {R.shape[0]} by {R.shape[-1]}, and there are {count} places in time: give "
            "one row and one column for each, in order"
        )
    wrong = not np.allclose(R, R.T, atol=1e-10) or not np.allclose(np.diag(R), 1.0)
    if wrong or np.linalg.eigvalsh(R)[0] <= 1e-8:
        raise ModelError(
            "matrix is no correlation matrix: it must be symmetric and positive definite with "
            "ones on its diagonal"
        )
    return R[np.triu_indices(count, 1)]


def mean_and_slope(link: str) -> Callable[[Floats], tuple[Floats, Floats]]:
    """The mean of a linear predictor and its derivative, with one exponential where that does."""
    if link == "logit":
        return _logistic
    if link == "log":
        return _exponential
    known = LINKS[link]
    return lambda eta: (known.inverse(eta), known.first(eta))


def _logistic(eta: Floats) -> tuple[Floats, Floats]:
    e = np.exp(-np.abs(eta))
    high = 1 / (1 + e)
    low = e * high
    return np.where(eta >= 0, high, low), low * high


def _exponential(eta: Floats) -> tuple[Floats, Floats]:
    mu = np.exp(eta)
    return mu, mu


def bounds_of(family: Family) -> tuple[float, float]:
    """Ends that a mean lies strictly between."""
    name = family.name
    if name in ("binomial", "betabinomial", "beta"):
        return 0.0, 1.0
    if name in ("gaussian", "t", "skewnormal") or has_categories(family):
        return -np.inf, np.inf
    return 0.0, np.inf
