"""Population-averaged models: a Specification with clusters in, a `MarginalEstimate` out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.clusters import Occasions, in_order
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor
from ranef.errors import ConvergenceWarning, DataError, DataWarning, ModelError, suggestion, warn
from ranef.families import Family
from ranef.families.links import LINKS
from ranef.families.variance import MeanVariance, mean_variance, shapes_of
from ranef.formula.labels import list_text
from ranef.models.dropout import Dropout
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.models.marginal_categories import (
    category_labels,
    category_problem,
    category_working,
    check_categories,
    has_categories,
)
from ranef.models.marginal_shapes import likeliest_shapes, starting_shapes
from ranef.solve.marginal import covariance as covariances
from ranef.solve.marginal.association_errors import association_variances
from ranef.solve.marginal.associations import Association, OddsRatio
from ranef.solve.marginal.banded import is_banded
from ranef.solve.marginal.clusters import Clusters
from ranef.solve.marginal.criteria import Criteria, criteria
from ranef.solve.marginal.equations import (
    Outside,
    Problem,
    Solution,
    Watch,
    add_up,
    solve,
    weight_derivatives,
)
from ranef.solve.marginal.separation import separating
from ranef.solve.marginal.tabled import Fixed, Stationary, Unstructured
from ranef.solve.marginal.working import (
    Autoregressive,
    Continuous,
    Exchangeable,
    Independence,
    Nested,
    Working,
)

__all__ = [
    "CORRELATIONS",
    "Equations",
    "MarginalEstimate",
    "MarginalModel",
    "constrained",
    "correlation_errors",
    "covariance",
    "criteria_of",
    "doubts",
    "fit_marginal",
    "influences",
    "read_correlation",
    "warn_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

CORRELATIONS = (
    "independence",
    "exchangeable",
    "ar1",
    "car1",
    "m-dependent(1)",
    "toeplitz",
    "unstructured",
    "fixed",
    "nested",
    "log odds ratio",
    "global odds ratio",
    "local odds ratio",
)
ODDS_RATIOS = ("log odds ratio", "global odds ratio", "local odds ratio")
TIMED = ("ar1", "car1", "m-dependent", "toeplitz", "unstructured", "fixed")
ESTIMATORS = ("all", "adjacent", "ordgee")
M_DEPENDENT = r"m-dependent\((?:m=)?(\d+)(?:,(?:stationary=)?(true|false))?\)"
MOST_PLACES = 2000
MOST_ASSOCIATED = 3000
SHAPE_STEPS = 3
GRID = 1e-6


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


def grid_of(times: Floats, name: str, correlation: str) -> tuple[float, float]:
    """First time and step of the grid that times lie on.

    Raises
    ------
    ModelError
        When they lie on none.

    Examples
    --------
    >>> grid_of(np.array([8.0, 10.0, 14.0]), "age", "ar1")
    (8.0, 2.0)
    """
    places = np.unique(times)
    if len(places) == 1:
        return float(places[0]), 1.0
    step = float(np.diff(places).min())
    index = (places - places[0]) / step
    if np.abs(index - np.round(index)).max() > GRID * max(1.0, float(index[-1]) * 1e-3):
        step = _common_step(places)
        index = (places - places[0]) / step
    if np.abs(index - np.round(index)).max() > 1e-4 or index[-1] > 1e6:
        raise ModelError(
            f"the times in {name!r} lie on no grid, so that correlation={correlation!r} has no "
            "distance in steps: use 'car1', whose correlation falls with time itself, or round "
            "the times"
        )
    return float(places[0]), step


def _common_step(places: Floats) -> float:
    """Greatest common divisor of the differences, by Euclid with rounding."""
    a = 0.0
    for b in np.diff(places).tolist():
        a, b = max(a, b), min(a, b)
        while b > GRID * a and b > 1e-9:
            a, b = b, a % b
            if a - b < GRID * a:
                b = 0.0
    return a


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


def read_correlation(name: Any) -> tuple[str, int, bool]:
    """Read a correlation: its name, its reach, and whether it is the same at all times.

    Examples
    --------
    >>> read_correlation("m-dependent(2, stationary=False)"), read_correlation("ar1")
    (('m-dependent', 2, False), ('ar1', 0, True))
    """
    if isinstance(name, str):
        plain = "".join(name.split()).lower()
        plain = {"".join(name.split()): name for name in ODDS_RATIOS}.get(plain, plain)
        found = re.fullmatch(M_DEPENDENT, plain)
        if found and int(found[1]) > 0:
            return "m-dependent", int(found[1]), found[2] != "false"
        if plain in CORRELATIONS:
            return plain, 0, True
    hint = suggestion(name, CORRELATIONS) if isinstance(name, str) else ""
    raise ModelError(
        f"correlation={name!r} is not known{hint}; there are {', '.join(CORRELATIONS)} (with any "
        "reach, and 'm-dependent(2, stationary=False)')"
    )


def fit_marginal(model: MarginalModel, watch: Watch | None = None) -> MarginalEstimate:
    """Fit a marginal model; `watch` is told of each step.

    Warns
    -----
    ConvergenceWarning
        The estimating function was not brought to zero.
    DataWarning
        The estimated correlation was no positive definite matrix, or has more parameters than
        the clusters can tell.
    """
    check(model)
    model = _with_shapes(model, watch)
    try:
        found = solve(model.problem, model.working, model.problem.start(), watch)
    except Outside:
        _refuse_separated(model, None)
        raise ModelError(
            "no coefficients were found whose means the family can have: under the link "
            f"{model.family.link!r} means of {model.family.name} leave their range, or residuals "
            "grow without end; take another link, or correlation='independence'"
        ) from None
    _refuse_separated(model, found)
    estimate = MarginalEstimate(
        model=model,
        coefficients=found.beta,
        correlations=found.working.parameters,
        scale=found.scale,
        bread=found.bread,
        gap=found.gap,
        steps=found.steps,
        converged=found.converged,
        shrunk=_share_mixed(model, found),
        smallest=found.working.smallest,
    )
    return estimate


def _share_mixed(model: MarginalModel, found: Solution) -> float:
    """The largest share of independence that was mixed into a correlation."""
    working, problem = found.working, model.problem
    if not isinstance(working, Association):
        return working.shrunk
    shares = [np.zeros(1)]
    for part in problem.clusters.slices:
        shares.append(working.at(problem.working_rows(found.beta, part)).mixed(part))
    return float(max(share.max(initial=0.0) for share in shares))


def check(model: MarginalModel) -> None:
    """Refuse what cannot be estimated."""
    K = model.clusters[0].n_levels
    name = model.equations.correlation
    if has_categories(model.family):
        check_categories(model)
    elif name in ODDS_RATIOS[1:]:
        raise ModelError(
            f"correlation={name!r} associates categories, family='cumulative' or 'multinomial'; "
            "'log odds ratio' associates binary responses"
        )
    low, high = bounds_of(model.family)
    y = model.specification.y if has_categories(model.family) else model.proportions
    for end, words in ((low, "zero"), (high, "one")):
        if np.isfinite(end) and (y == end).all():
            raise DataError(
                f"the response is {words} in every row, so that no coefficient has a finite "
                "estimate, and nothing can be learned from such rows"
            )
    if K < 2:
        raise DataError(
            f"{model.clusters[0].name} has one level: errors of population-averaged models come "
            "from the variation between clusters, and two are the least"
        )
    if name == "nested" and len(model.clusters) < 2:
        raise ModelError("correlation='nested' needs clusters within clusters: groups='Lot/Wafer'")
    if name in TIMED and model.occasions is None:
        raise ModelError(
            f"correlation={name!r} needs time=, the column that says when a row was observed: rows "
            "are matched by it, never by their order"
        )
    if name == "log odds ratio":
        _check_binary(model)
    if name in ODDS_RATIOS:
        _check_sizes(model)
    if name == "fixed" and model.matrix is None:
        raise ModelError("correlation='fixed' needs matrix=, the correlations by places in time")


def _check_sizes(model: MarginalModel) -> None:
    """Refuse clusters whose matrices of all pairs would be too large."""
    rows = model.problem.clusters.largest
    if rows > MOST_ASSOCIATED:
        raise ModelError(
            f"correlation={model.equations.correlation!r} has a matrix of all rows of a cluster, "
            f"and the largest has {rows:,} (a response of J categories counts J - 1); at most "
            f"{MOST_ASSOCIATED:,} are taken: use 'independence', whose robust errors hold as well"
        )


def _check_binary(model: MarginalModel) -> None:
    """Refuse what a log odds ratio cannot associate."""
    y = model.specification.y
    single = model.trials is None or bool((model.trials == 1).all())
    if model.family.name != "binomial" or not single or not np.isin(y, (0.0, 1.0)).all():
        raise ModelError(
            "correlation='log odds ratio' associates binary responses, one trial a row: "
            "family='binomial'"
        )


def _with_shapes(model: MarginalModel, watch: Watch | None) -> MarginalModel:
    """Fill in shapes that were not given, by maximum likelihood under independence."""
    needed = [name for name in shapes_of(model.family) if name not in model.shapes]
    if model.family.name == "betabinomial" and (model.trials is None or (model.trials == 1).all()):
        return model
    if not needed:
        return model
    spec = model.specification
    shapes = {**starting_shapes(model.family, spec.y, model.trials), **model.shapes}
    equations = replace(model.equations, correlation="independence", scale=None, adjusted=False)
    for _ in range(SHAPE_STEPS):
        trial = replace(model, shapes=shapes, equations=equations, occasions=None, sampling=None)
        try:
            beta = solve(trial.problem, trial.working, trial.problem.start(), watch).beta
        except Outside:
            break
        eta = spec.X @ beta + (0.0 if spec.offset is None else spec.offset)
        found = likeliest_shapes(model.family, spec.y, eta, model.trials, spec.weights)
        shapes = {**found, **model.shapes}
    return replace(model, shapes=shapes)


def _refuse_separated(model: MarginalModel, found: Solution | None) -> None:
    """Refuse data in which a combination of the predictors separates the responses."""
    if model.equations.penalty or (found is not None and not _is_far(model, found)):
        return
    direction = separating(model.problem)
    if direction is None:
        return
    labels = [label.full for label in model.labels]
    names = [n for n, d in zip(labels, direction, strict=True) if abs(d) > 1e-6]
    if has_categories(model.family):
        raise ModelError(
            f"the data separate the categories: along {list_text(names)} some rows are all of one, "
            "so that the coefficients have no finite estimate; penalty='firth' gives finite ones, "
            "or leave the predictor out, or put categories together"
        )
    what = "all failures or all successes" if model.problem.bounds[1] == 1 else "all zero"
    raise ModelError(
        f"the data separate the response: along {list_text(names)} some rows are {what}, so that "
        "the coefficients have no finite estimate; penalty='firth' gives finite ones, or leave the "
        "predictor out"
    )


def _is_far(model: MarginalModel, found: Solution) -> bool:
    """Tell whether any mean lies near an end of its range."""
    problem = model.problem
    if not found.converged:
        return True
    if problem.bounds == (-np.inf, np.inf):
        return False
    low, high = problem.bounds
    for part in problem.clusters.slices:
        mu = problem.means(found.beta, part)
        if (mu - low).min() < 1e-5 or (np.isfinite(high) and (high - mu).min() < 1e-5):
            return True
    return False


def warn_of(estimate: MarginalEstimate) -> None:
    """Warn of what makes an estimate doubtful."""
    for sentence, category in doubts(estimate):
        warn(sentence, category)


def doubts(estimate: MarginalEstimate) -> list[tuple[str, type]]:
    """Sentences on what makes an estimate doubtful, with the kind of warning."""
    found: list[tuple[str, type]] = []
    model = estimate.model
    if not estimate.converged:
        found.append(
            (
                f"the estimating equations were not solved in {estimate.steps} steps: the "
                f"estimating function is {estimate.gap:.2g} of its standard error from zero; try a "
                "simpler correlation",
                ConvergenceWarning,
            )
        )
    if estimate.shrunk > 0:
        name = model.equations.correlation
        wrong = (
            "the odds ratios of all pairs of a cluster are those of no distribution"
            if isinstance(estimate.solution.working, Association)
            else f"the estimated {name} correlation is no positive definite matrix (smallest "
            f"eigenvalue {estimate.smallest:.3g})"
            if estimate.smallest <= 0
            else f"with the {name} correlation as it is estimated the equations have no solution"
        )
        found.append(
            (
                f"{wrong}; it was mixed with independence, a share of {estimate.shrunk:.2f}, which "
                "leaves the coefficients consistent; a simpler correlation is better",
                DataWarning,
            )
        )
    K, count = model.clusters[0].n_levels, len(estimate.correlations)
    many = model.equations.correlation in ("unstructured", "toeplitz", "m-dependent")
    if many and count >= K:
        found.append(
            (
                f"the {model.equations.correlation} correlation has {count} parameters for {K} "
                "clusters: errors that rest on so many estimates are too small; a simpler "
                "correlation is better",
                DataWarning,
            )
        )
    return found


def covariance(estimate: MarginalEstimate, kind: str) -> Floats:
    """Covariance (p, p) of the coefficients, a name of `covariances.COVARIANCES`."""
    problem, solution = estimate.model.problem, estimate.solution
    if kind == "model":
        if estimate.model.row_weights is not None:
            raise ModelError(
                "covariance='model' takes rows for what they are; with sampling_weights or dropout "
                "only the variation between clusters tells: covariance='robust' or its corrections"
            )
        return covariances.model_covariance(solution)
    if kind == "jackknife-full":
        if estimate.model.dropout is not None:
            raise ModelError(
                "covariance='jackknife-full' would fit the model of dropout anew without each "
                "cluster; with dropout= use 'robust', which carries its uncertainty"
            )
        return _jackknife(estimate)
    found = influences(estimate, kind)
    if found.whole.any():
        level = estimate.model.clusters[0].levels[int(np.flatnonzero(found.whole)[0])]
        raise ModelError(
            f"covariance={kind!r} asks what the estimates would be without a cluster, and without "
            f"{estimate.model.clusters[0].name} {level} a coefficient is not determined; use "
            "covariance='robust' or 'fay-graubard'"
        )
    V = covariances.covariance_of(problem, solution, kind, found)
    if kind != "jackknife":
        return V
    K, p = problem.clusters.count, problem.p
    return V * (_left_over(estimate) / (K - p))


def _left_over(estimate: MarginalEstimate) -> int:
    """Clusters less all parameters, to which a jackknife is scaled."""
    K, q = estimate.model.problem.clusters.count, estimate.n_estimated
    if q >= K:
        raise ModelError(
            f"the jackknife is scaled by clusters less parameters, and there are {K} clusters for "
            f"{q} parameters, those of the working correlation counted; use "
            "covariance='mancl-derouen', or a simpler correlation"
        )
    return K - q


def influences(estimate: MarginalEstimate, kind: str) -> covariances.Influences:
    """What each cluster adds to a covariance.

    With weights of dropout it moves these as well: u_i + C I^-1 s_i, C the derivative of the
    equations in the coefficients of dropout, I their information, s_i the cluster's score there.
    """
    problem, dropout = estimate.model.problem, estimate.model.dropout
    found = covariances.influences(problem, estimate.solution, kind)
    if dropout is None:
        return found
    slopes = estimate.model.sorted(dropout.slopes)
    if estimate.model.sampling is not None:
        slopes = slopes * estimate.model.sorted(estimate.model.sampling)[:, None]
    slopes = np.repeat(slopes, problem.clusters.n // len(slopes), axis=0)  # indicators of a row
    C = weight_derivatives(problem, estimate.solution, slopes)
    more = dropout.scores @ dropout.covariance @ C.T @ np.linalg.inv(estimate.bread).T
    return replace(found, h=found.h + more)


def correlation_errors(estimate: MarginalEstimate) -> Floats:
    """Standard errors (k,) of the parameters of the working correlation.

    NaN of those that are given, were mixed with independence or held at tables, and with dropout,
    whose weights move them as well.
    """
    model, count = estimate.model, len(estimate.correlations)
    unknown = model.equations.correlation in ("fixed", "local odds ratio")
    if unknown or not count or estimate.shrunk > 0 or model.dropout is not None:
        return np.full(count, np.nan)
    h = influences(estimate, "robust").h
    found = association_variances(model.problem, estimate.solution, h)
    return np.asarray(np.sqrt(np.where(found > 0, found, np.nan)))


def _jackknife(estimate: MarginalEstimate) -> Floats:
    """Refits without each cluster: (K - q) / K sum of squares, q all parameters."""
    model = estimate.model
    K = model.clusters[0].n_levels
    moves = np.empty((K, len(estimate.coefficients)))
    codes = model.clusters[0].codes
    for k in range(K):
        part = without(model, codes != k)
        found = solve(part.problem, part.working, estimate.coefficients)
        moves[k] = found.beta - estimate.coefficients
    return np.asarray(moves.T @ moves * (_left_over(estimate) / K))


def without(model: MarginalModel, keep: NDArray[np.bool_]) -> MarginalModel:
    """The model of some of its rows."""
    spec, occasions = model.specification, model.occasions
    rows = replace(
        spec,
        y=spec.y[keep],
        X=spec.X[keep],
        weights=None if spec.weights is None else spec.weights[keep],
        offset=None if spec.offset is None else spec.offset[keep],
    )
    clusters = []
    for factor in model.clusters:
        used, codes = np.unique(factor.codes[keep], return_inverse=True)
        levels = [factor.levels[k] for k in used]
        clusters.append(replace(factor, codes=codes.reshape(-1).astype(np.int32), levels=levels))
    return replace(
        model,
        specification=rows,
        trials=None if model.trials is None else model.trials[keep],
        clusters=tuple(clusters),
        occasions=None if occasions is None else replace(occasions, values=occasions.values[keep]),
        sampling=None if model.sampling is None else model.sampling[keep],
        dropout=None,
    )


def criteria_of(estimate: MarginalEstimate, scale: float | None) -> Criteria:
    """The criteria at one scale.

    By default the family's own, one, where it has one, else that of independence, which all
    correlations of one mean share.
    """
    if scale is None:
        scale = 1.0
        if estimate.model.problem.moments.dispersed:
            equations = replace(estimate.model.equations, correlation="independence")
            other = replace(estimate.model, equations=equations)
            scale = solve(other.problem, other.working, estimate.coefficients).scale
    robust = covariance(estimate, "robust")
    return criteria(estimate.model.problem, estimate.solution, robust, scale)


def constrained(estimate: MarginalEstimate, L: Floats) -> Solution:
    """Solve the equations under L beta = 0; the bread is that of all coefficients there."""
    problem, working = estimate.model.problem, estimate.model.working
    _, singular, rows = np.linalg.svd(L)
    rank = int(np.count_nonzero(singular > 1e-10 * singular.max(initial=0.0)))
    basis = rows[rank:].T
    if basis.shape[1]:
        inner = replace(problem, X=np.ascontiguousarray(problem.X @ basis))
        found = solve(inner, working, inner.start())
        beta = basis @ found.beta
        current, scale = found.working, found.scale
    else:
        beta = np.zeros(problem.p)
        current, scale = estimate.solution.working, estimate.scale
    sums = add_up(problem, beta, current, current)
    return replace(estimate.solution, beta=beta, working=current, scale=scale, bread=sums.H)
