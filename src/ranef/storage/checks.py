"""What must hold of the records of a file, each against the others.

The core trusts its arrays. A file from a stranger can be wrong in every number and still
have the right shapes, so what the core would index, invert or ask memory for is compared
here with what it belongs to, before any of it gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.covariance.between_rows import ON_PLACES, RESIDUAL_STRUCTURES
from ranef.design.clusters import Occasions
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm, ResidualTerm
from ranef.errors import FileError
from ranef.families import Family
from ranef.models.generalised import compose
from ranef.models.marginal import MarginalEstimate, MarginalModel
from ranef.models.marginal_correlations import read_correlation
from ranef.models.marginal_fitting import check
from ranef.models.meta import METHODS, MetaEstimate, MetaModel
from ranef.models.records import (
    CONDITIONAL,
    Composition,
    Estimate,
    GeneralisedEstimate,
    LinearEstimate,
    theta_slices,
)
from ranef.solve.marginal.equations import Outside, scores
from ranef.solve.optimum import Optimum
from ranef.solve.quadrature import check_nodes
from ranef.solve.structured.rows import row_covariance
from ranef.storage.solutions import check_deviance, check_modes, check_solution

__all__ = [
    "check_estimate",
    "check_factor",
    "check_generalised",
    "check_linear",
    "check_marginal",
    "check_marginal_model",
    "check_meta",
    "check_meta_model",
    "check_occasions",
    "check_optimum",
    "check_residual",
    "check_specification",
    "check_term",
    "composition",
]

DEPENDENT = 1e-15
CLOSE = 1e-6
"""How far a covariance matrix may lie from that of its parameters: no rounding reaches it."""


def check_factor(factor: GroupingFactor) -> None:
    """Every row must belong to a level, and every level have a row."""
    codes = factor.codes
    if len(codes) and (codes.min() < 0 or codes.max() >= factor.n_levels):
        raise FileError("a row belongs to a level that is not listed")
    if not np.bincount(codes, minlength=factor.n_levels).all():
        raise FileError(f"a level of {factor.name} has no row")


def check_term(term: RandomTerm) -> None:
    """The structure must be known, for as many columns."""
    structure_of(term)
    _finite("a random term", term.z, term.positions, term.kernel)
    if term.kernel is not None:
        _symmetric(f"the kernel of ({term.label})", term.kernel)


def check_specification(spec: Specification) -> None:
    """Rows must be there and finite; terms, factors and the recipe must be of each other."""
    if spec.n == 0:
        raise FileError("the model has no rows")
    _finite("the model", spec.X, spec.offset, spec.weights)
    _check_rank(spec.X)
    if np.isnan(spec.y).any():
        raise FileError("the response has missing values")
    if spec.weights is not None and not (spec.weights > 0).all():
        raise FileError("a weight is not positive")
    for term in spec.terms:
        if not 0 <= term.factor < len(spec.factors):
            raise FileError("a random term names no grouping factor")
        if term.kernel is not None and len(term.kernel) != spec.factors[term.factor].n_levels:
            raise FileError(f"the kernel of ({term.label}) is not one of the factor's levels")
    recipe = spec.recipe
    if [random.factor for random in recipe.random_recipes] != [t.factor for t in spec.terms]:
        raise FileError("the recipe has other random terms than the model")
    if [len(group.cells) for group in recipe.groups] != [len(f.shown) for f in spec.factors]:
        raise FileError("the recipe has other levels than the grouping factors")
    width = spec.p + len(spec.dropped_columns) + 1  # an intercept may stand in thresholds
    if len(set(recipe.kept)) != spec.p or max(recipe.kept, default=-1) >= width:
        raise FileError("the recipe has other columns than the fixed effects")


def _check_rank(X: NDArray[np.float64]) -> None:
    """No column of the fixed effects may be a combination of others, as far as rounding tells."""
    sizes = np.sqrt(np.sum(X**2, axis=0))
    if not (sizes > 0.0).all():
        raise FileError("a column of the fixed effects is zero")
    scaled = X / sizes
    if X.shape[1] and np.linalg.eigvalsh(scaled.T @ scaled)[0] < DEPENDENT:
        raise FileError("the columns of the fixed effects depend on each other")


def check_residual(term: ResidualTerm) -> None:
    """Structures must be known, and every row stand somewhere."""
    n = len(term.W)
    if term.W.ndim != 2 or term.W.shape[1] != len(term.scales):
        raise FileError("the scales of the residuals are not those of the model")
    _finite("the residuals", term.W)
    for factor in (term.group, term.by):
        if factor is not None and len(factor.codes) != n:
            raise FileError("the groups of the residuals have other rows than the model")
    if term.parts and term.group is None:
        raise FileError("correlated residuals have no group")
    if term.by is not None and term.group is not None and not term.group.lies_within(term.by.codes):
        raise FileError("a group of residuals belongs to several levels")
    for part in term.parts:
        where = np.asarray(part.where)
        if part.kind not in RESIDUAL_STRUCTURES or where.shape[:1] != (n,) or where.ndim > 2:
            raise FileError("a structure of the residuals is not one of this version")
        _finite("the positions of the residuals", where.astype(np.float64))
        if part.names and (where.ndim != 1 or where.min() < 0 or where.max() >= len(part.names)):
            raise FileError("a residual stands at a place that is not listed")
        if any(not 0 < lag < len(part.names) for lag in part.lags):
            raise FileError("a lag of the residuals lies beyond their places")
        placed = part.kind in ON_PLACES | {"hetar1"} and part.kind != "homcs"
        if placed != bool(part.names) and part.kind != "homcs":
            raise FileError("the places of a residual structure are not listed")


def check_optimum(optimum: Optimum) -> None:
    """The end of the search must be a point; a boundary has a rank below its size."""
    _finite("the optimum", optimum.theta, optimum.phi, optimum.elsewhere)
    for face in optimum.faces:
        if not 0 <= face.rank <= face.size:
            raise FileError("the rank of a face lies beyond its size")


def check_estimate(estimate: Estimate) -> None:
    """Effects, faces, covariances and coefficients must be those of the terms."""
    terms, k = estimate.terms, len(estimate.theta)
    wanted = sum(structure_of(term).n_parameters for term in terms)
    residual = estimate.specification.residual
    if residual is not None:
        wanted += row_covariance(residual).n_parameters
    if k != wanted:
        raise FileError(f"theta has {k} entries, the terms ask for {wanted}")
    sizes = [(estimate.factors[term.factor].n_levels, term.size) for term in terms]
    if [b.shape for b in estimate.modes] != sizes:
        raise FileError("the modes are not those of the terms")
    if [psi.shape for psi in estimate.covariances] != [(r, r) for _, r in sizes]:
        raise FileError("the covariance matrices are not those of the terms")
    for face in estimate.optimum.faces:
        if not 0 <= face.term < len(terms):
            raise FileError("a face names no random term")
        if face.size != terms[face.term].size:
            raise FileError("a face has another size than its random term")
    flat = (t for direction in estimate.optimum.flat for t in direction.terms)
    if not all(0 <= t < len(terms) for t in flat):
        raise FileError("a flat direction names no random term")
    if not all(0 <= c < len(estimate.coefficients) for c in estimate.runaway):
        raise FileError("'runaway' names no coefficients")
    check_nodes(estimate.quadrature)
    _check_values(estimate)


def check_linear(estimate: LinearEstimate) -> None:
    """What holds of any estimate, and rows must leave something to the residual."""
    check_estimate(estimate)
    if not estimate.sigma > 0.0 or estimate.specification.n <= estimate.specification.p:
        raise FileError("the residual standard deviation is not a positive number")
    if not (estimate.priors or estimate.fixed or estimate.equal):
        if estimate.specification.residual is None:
            check_solution(estimate)
        check_deviance(estimate)


def _check_values(estimate: Estimate) -> None:
    """Numbers must be finite, and the covariance matrices those of theta."""
    _finite("the estimate", estimate.theta, estimate.coefficients, *estimate.modes)
    sigma = estimate.sigma
    if sigma is not None and not (np.isfinite(sigma) and sigma >= 0.0):
        raise FileError("the residual standard deviation is not a positive number")
    vcov = estimate.coefficient_vcov
    known = np.isfinite(vcov)
    if not np.allclose(vcov[known & known.T], vcov.T[known & known.T], rtol=CLOSE, atol=0.0):
        raise FileError("the covariance matrix of the coefficients is not symmetric")
    if (np.diag(vcov) < 0.0).any():
        raise FileError("a coefficient has a negative variance")
    if not np.isfinite([estimate.loglik, estimate.optimum.criterion]).all():
        raise FileError("the likelihood is not finite")
    if estimate.extra is not None and np.isnan(estimate.extra).any():
        raise FileError("'extra' has missing values")
    _check_covariances(estimate, 1.0 if sigma is None else sigma**2)


def _check_covariances(estimate: Estimate, scale: float) -> None:
    """The covariance matrices must be those of theta, where the search ended."""
    theta = estimate.theta
    if not _close(estimate.optimum.theta, theta):
        raise FileError("the optimum lies at another theta than the estimate")
    for own, term, psi in zip(
        theta_slices(estimate), estimate.terms, estimate.covariances, strict=True
    ):
        if not _close(psi, scale * structure_of(term).psi(theta[own])):
            raise FileError(f"the covariance matrix of ({term.label}) is not that of theta")


def check_generalised(estimate: GeneralisedEstimate) -> None:
    """What holds of any estimate, and predictors must be those of coefficients and modes."""
    check_estimate(estimate)
    weights = estimate.sampling
    if weights is not None:
        factors = estimate.factors
        if len(factors) != 1 or weights.shape != (factors[0].n_levels,):
            raise FileError("the sampling weights are not those of the levels")
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise FileError("a sampling weight is not positive")
    if np.isnan(estimate.predictors).any():
        raise FileError("the linear predictors have missing values")
    _check_thresholds(estimate)
    places = [part.predictor for part in estimate.components]
    for part in estimate.components:
        spec = part.specification
        own = spec is not None and set(part.names) <= set(spec.names)
        if spec is None or not own or places.count(part.predictor) > 1:
            continue
        columns = [spec.names.index(name) for name in part.names]
        eta = spec.X[:, columns] @ estimate.coefficients[part.coefficients]
        eta = eta if spec.offset is None else eta + spec.offset
        for place in part.terms:
            term = estimate.terms[place]
            codes = estimate.factors[term.factor].codes
            z = estimate.design.columns(place, part.predictor)
            eta = eta + np.sum(z * estimate.modes[place][codes], axis=1)
        if not _close(estimate.predictors[part.predictor], eta):
            raise FileError(f"the linear predictor of {part.name} is not that of its coefficients")
    check_modes(estimate)


def _check_thresholds(estimate: GeneralisedEstimate) -> None:
    """Thresholds rise in every row, and there are rows on both sides of one."""
    if estimate.family.response != "ordered categories":
        return
    if not np.ptp(estimate.specification.y) > 0:
        raise FileError("the response has one category")
    part = next((part for part in estimate.components if part.name == "threshold"), None)
    if part is None or not len(part.names):
        return
    X = np.ones((1, 1)) if part.specification is None else np.asarray(part.specification.X)
    own = estimate.coefficients[part.coefficients]
    if len(own) % X.shape[1]:
        raise FileError("the thresholds are not those of their columns")
    at = X @ own.reshape(X.shape[1], -1)
    if not (np.diff(at, axis=1) > 0).all():
        raise FileError("the thresholds do not rise")


def _close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    room = CLOSE * max(float(np.abs(expected).max(initial=0.0)), 1e-300)
    return bool(np.all(np.abs(found - expected) <= room))


def composition(parts: Any, family: Family, **fields: Any) -> Composition:
    """Bring the parts of a model to one design again, if they belong together."""
    if CONDITIONAL not in parts:
        raise FileError("the model has no part of the mean")
    _check_categories(parts, family, fields)
    names = ("extra", "reml", "priors", "fixed", "equal", "sampling")
    return compose(parts, family, **{name: fields[name] for name in names if name in fields})


def _check_categories(
    parts: Mapping[str, Specification], family: Family, fields: Mapping[str, Any]
) -> None:
    """Categories must be as many as the file has numbers for, before memory is asked for them."""
    extra, y = fields.get("extra"), parts[CONDITIONAL].y
    if len({part.n for part in parts.values()}) > 1:
        raise FileError("the parts of the model have different rows")
    if extra is not None and len(extra) != len(y):
        raise FileError("'extra' is not one number a row")
    if family.response == "categories":
        count, known = float(getattr(family, "categories", 2)), len(fields["predictors"]) + 1
    elif family.response == "ordered categories" and extra is not None:
        count, known = float(np.max(extra)), len(fields["coefficients"]) + 1
        if np.min(extra) != count:
            raise FileError("the rows have different numbers of categories")
    else:
        return
    reading = parts[CONDITIONAL].recipe.reading
    listed = None if reading is None else reading.levels
    if not count <= known or (listed is not None and count != len(listed)):
        raise FileError(f"the family has {count:g} categories, and the file numbers of fewer")


def _finite(what: str, *arrays: NDArray[np.float64] | None) -> None:
    for array in arrays:
        if array is not None and not np.isfinite(array).all():
            raise FileError(f"{what} has numbers that are not finite")


def _symmetric(what: str, matrix: NDArray[np.float64]) -> None:
    if not np.allclose(matrix, matrix.T, rtol=CLOSE, atol=0.0):
        raise FileError(f"{what} is not symmetric")


def check_occasions(occasions: Occasions) -> None:
    """Times must be numbers, and places of categories those that are listed."""
    _finite("the times", occasions.values)
    if occasions.levels is not None:
        places = occasions.values
        whole = (places == np.round(places)).all()
        if not whole or places.min() < 0 or places.max() >= len(occasions.levels):
            raise FileError("a time is none of those listed")


def check_marginal_model(model: MarginalModel) -> None:
    """The model must be one that can be fitted; weights and trials must be positive."""
    _finite("the model", model.trials, model.sampling, model.matrix)
    if not 1 <= len(model.clusters) <= 2:
        raise FileError("the model has no clusters")
    for values in (model.trials, model.sampling):
        if values is not None and not (values > 0).all():
            raise FileError("a weight is not positive")
    if not all(0 < value < np.inf for value in model.shapes.values()):
        raise FileError("a shape is not positive")
    name = model.equations.correlation
    if name != "m-dependent":
        read_correlation(name)
    check(model)


def check_marginal(estimate: MarginalEstimate) -> None:
    """Coefficients, correlations and scale must be those of a solution."""
    _finite("the estimate", estimate.coefficients, estimate.correlations, estimate.bread)
    if not (np.isfinite(estimate.scale) and estimate.scale >= 0):
        raise FileError("the scale is not positive")
    try:
        found = scores(estimate.model.problem, estimate.solution)
    except Outside:
        raise FileError("the coefficients have no means that the family can have") from None
    except (ArithmeticError, IndexError, ValueError, np.linalg.LinAlgError):
        raise FileError("the working correlation is none") from None
    if not np.isfinite(found).all():
        raise FileError("the working correlation is none")


def check_meta_model(model: MetaModel) -> None:
    """Sampling variances must be positive, a covariance positive definite with them."""
    _finite("the model", model.variances, model.covariance)
    if model.method not in METHODS:
        raise FileError(f"there is no method {str(model.method)[:40]!r}")
    if not (model.variances > 0).all():
        raise FileError("a sampling variance is not positive")
    if model.covariance is not None:
        V = model.covariance
        size = np.sqrt(model.variances)
        unit = V / np.outer(size, size)
        if not np.allclose(np.diag(unit), 1.0) or not np.allclose(unit, unit.T, atol=1e-8):
            raise FileError("the covariance is not that of the sampling variances")
        if np.linalg.eigvalsh(unit)[0] <= DEPENDENT:
            raise FileError("the covariance is not positive definite")


def check_meta(estimate: MetaEstimate) -> None:
    """Coefficients and variances must be those of the model."""
    model = estimate.model
    _finite("the estimate", estimate.coefficients, estimate.bread, estimate.phi)
    if not len(estimate.logliks) or np.isinf(estimate.logliks).any():
        raise FileError("the likelihood has no maximum")
    if not model.is_dependent:
        shapes = [np.shape(psi) for psi in estimate.covariances]
        if shapes != [(1, 1)] or not 0 <= estimate.covariances[0][0, 0] < np.inf:
            raise FileError("the variance between studies is none")
        if len(estimate.phi):
            raise FileError("parameters of several levels without these levels")
        return
    if len(estimate.phi) != model.problem.k:
        raise FileError("the parameters are not those of the levels")
    wanted = model.problem.psis(estimate.phi) or [np.zeros((1, 1))]
    if len(wanted) != len(estimate.covariances) or not all(
        np.shape(a) == b.shape and np.allclose(a, b, rtol=CLOSE, atol=CLOSE * np.max(np.abs(b)))
        for a, b in zip(estimate.covariances, wanted, strict=True)
    ):
        raise FileError("the covariances are not those of the parameters")
    if model.problem.at(estimate.phi, slopes=False) is None:
        raise FileError("the covariance of the effects is not positive definite")
