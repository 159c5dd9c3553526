"""Whether the numbers of a saved mixed model are a solution of its own rows.

Shapes that agree say nothing of a response, levels or effects that were changed. What a fit
states solves equations, and whether it does costs a pass over the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import FileError, ModelError
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate
from ranef.solve.layout import PATHS, choose_layout
from ranef.solve.point import LinearPoint, linear_point

__all__ = ["check_deviance", "check_modes", "check_solution"]

Floats = NDArray[np.float64]

LOOSE = 1e-5
"""How far equations may be from solved, relative to the sums that make them."""
APART = 1e-2
"""How far stated numbers may lie from those of the rows: in a log-likelihood, and relative."""
MOST_VALUES, MOST_EFFECTS, MOST_FLOPS, MOST_ROWS = 5e6, 5000, 1e8, 1000
"""Values of the rows, effects, operations, and rows beside a structure of the residuals, up to
which a model is evaluated when it is loaded."""


@np.errstate(all="ignore")
def check_solution(estimate: LinearEstimate) -> None:
    """Coefficients and modes must solve the mixed model equations of the rows.

    They are compared with the size of their sums, and with what the residual standard
    deviation makes invisible, so neither rounding nor an iterative solution is refused.
    """
    spec = estimate.specification
    b, sigma = estimate.coefficients, estimate.sigma
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    offset = np.zeros(spec.n) if spec.offset is None else spec.offset
    effects = [
        np.sum(term.z * u[estimate.factors[term.factor].codes], axis=1)
        for term, u in zip(estimate.terms, estimate.modes, strict=True)
    ]
    parts = [spec.y, -offset, -(spec.X @ b), *(-effect for effect in effects)]
    e, size = np.sum(parts, axis=0), np.sum(np.abs(parts), axis=0) + sigma / np.sqrt(w)
    if np.any(np.abs(spec.X.T @ (w * e)) > LOOSE * (np.abs(spec.X).T @ (w * size))):
        raise FileError("the coefficients are not those of the rows")
    scores = [(w * e)[None]] * len(estimate.terms)
    sizes = [(w * size)[None]] * len(estimate.terms)
    _check_effects(estimate, [[term.z] for term in estimate.terms], scores, sizes, sigma)
    degrees = spec.n - (spec.p if estimate.reml else 0)
    squares = w * e * (e + np.sum(effects, axis=0))
    room = APART * degrees * sigma**2 + LOOSE * np.sum(np.abs(squares))
    if abs(np.sum(squares) - degrees * sigma**2) > room:
        raise FileError("the residual standard deviation is not that of the rows")


@np.errstate(all="ignore")
def check_modes(estimate: GeneralisedEstimate) -> None:
    """The modes must be where the effects' scores of the rows meet their own density."""
    design = estimate.design
    if not estimate.terms:
        return
    active = list(design.random)
    found = design.family.evaluate(design.y, design.extra, estimate.predictors, 1, active)
    slopes = found[1:] if design.weights is None else design.weights * found[1:]
    if not np.isfinite(slopes).all():
        return
    columns = [[design.columns(t, m) for m in active] for t in range(len(estimate.terms))]
    every = [slopes] * len(columns)
    sizes = [np.abs(slopes) + np.mean(np.abs(slopes), axis=1, keepdims=True)] * len(columns)
    _check_effects(estimate, columns, every, sizes, 1.0)


def _check_effects(
    estimate: Estimate,
    columns: Sequence[Sequence[Floats]],
    scores: Sequence[Floats],
    sizes: Sequence[Floats],
    sigma: float,
) -> None:
    """Each term's modes must be Psi K Z's / sigma^2, with s the scores of the rows."""
    both = zip(estimate.terms, estimate.modes, estimate.covariances, strict=True)
    for (term, u, psi), own, s, size in zip(both, columns, scores, sizes, strict=True):
        codes, scaled = estimate.factors[term.factor].codes, psi / sigma / sigma
        K = None if term.kernel is None else np.abs(term.kernel)
        found = sum(_summed(z, e, codes, len(u), term.kernel) for z, e in zip(own, s, strict=True))
        reach = sum(_summed(np.abs(z), e, codes, len(u), K) for z, e in zip(own, size, strict=True))
        largest = np.max([np.abs(z).max(axis=0) for z in own], axis=0)
        room = reach @ np.abs(scaled) + 10.0 * sigma / np.maximum(largest, 1e-300)
        if np.any(np.abs(found @ scaled - u) > LOOSE * room):
            raise FileError(f"the modes of ({term.label}) are not those of the rows")


def _summed(
    z: Floats, e: Floats, codes: NDArray[np.integer[Any]], q: int, kernel: Floats | None
) -> Floats:
    """Return K Z'e by level, (q, r)."""
    sums = np.empty((q, z.shape[1]))
    for j, column in enumerate(z.T):
        sums[:, j] = np.bincount(codes, weights=column * e, minlength=q)
    return sums if kernel is None else kernel @ sums


def check_deviance(estimate: LinearEstimate) -> None:
    """Likelihood and covariance must be those of theta, where that is soon worked out."""
    optimum = estimate.optimum
    if abs(estimate.loglik + 0.5 * optimum.criterion) > APART:
        raise FileError("the log-likelihood is not that of the optimum")
    at = _evaluated(estimate)
    if at is None or not np.isfinite(at.criterion):
        return
    noise = 10.0 * max(optimum.tolerance, 0.0) + LOOSE * (
        estimate.specification.n + abs(at.criterion)
    )
    if abs(at.criterion - optimum.criterion) > APART + noise:
        raise FileError("the log-likelihood is not that of the rows")
    own = at.sigma**2 * at.C
    size = np.sqrt(np.abs(np.diag(own)))
    if np.any(np.abs(own - estimate.coefficient_vcov) > APART * np.outer(size, size)):
        raise FileError("the covariance matrix of the coefficients is not that of the rows")


def _evaluated(estimate: LinearEstimate) -> LinearPoint | None:
    """The model of the file at its theta; None where that would take long or cannot be."""
    spec, optimum = estimate.specification, estimate.optimum
    path = optimum.path if optimum.path in PATHS else None
    ranks = {face.term: face.rank for face in optimum.faces}
    try:
        if path == "iterative" or not _is_small(spec, path):
            return None
        return linear_point(
            spec, estimate.theta, reml=estimate.reml, path=path, ranks=ranks, n_jobs=1
        )
    except (ModelError, ArithmeticError, ValueError, np.linalg.LinAlgError):
        return None


def _is_small(spec: Specification, path: str | None) -> bool:
    """Whether one evaluation takes less than reading the file."""
    columns = [spec.p, *(term.size for term in spec.terms)]
    effects = [spec.factors[term.factor].n_levels * term.size for term in spec.terms]
    if spec.n * sum(columns) > MOST_VALUES or sum(effects) > MOST_EFFECTS:
        return False
    if spec.residual is not None:
        return spec.n <= MOST_ROWS
    return choose_layout(spec, path)[1].flops < MOST_FLOPS
