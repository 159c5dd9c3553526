"""Where a search for the covariance of residuals begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import Unstructured
from ranef.solve.structured.problem import StructuredProblem

__all__ = ["moment_start", "residual_starts"]

Floats = NDArray[np.float64]

SHRUNK = 0.95


def residual_starts(problem: StructuredProblem) -> list[Floats]:
    """Parameters of the residuals to begin from; without random effects by moments too."""
    starts = problem.rows.starts()
    gamma = _log_sizes(problem)
    for start in starts:
        start[: len(gamma)] = gamma
    own = None if problem.structures else moment_start(problem)
    if own is None:
        return starts
    return [own] if _is_unstructured(problem) else [*starts, own]


def moment_start(problem: StructuredProblem) -> Floats | None:
    """Parameters of the residuals by the moments of least-squares residuals between places.

    None where the structure is no single one over few places. Likelihoods of correlations with
    different signs have several optima, and this is near to the lowest of most.
    """
    term = problem.spec.residual
    assert term is not None
    if len(term.parts) != 1 or term.group is None:
        return None
    start = problem.rows.starts()[0]
    gamma = _log_sizes(problem)
    start[: len(gamma)] = gamma
    by = np.zeros(problem.spec.n, dtype=np.intp) if term.by is None else term.by.codes
    reference = None
    for level, (parts, cuts) in enumerate(
        zip(problem.rows.correlations, problem.rows.slices, strict=True)
    ):
        part = parts[0]
        if not part.names:
            return None
        found = _covariance(problem, term.parts[0].where, by == level, len(part.names))
        reference = float(found[0, 0]) if reference is None else reference
        own = part.by_moments(found / reference)
        if own is None:
            return None
        start[cuts[0]] = own
    return start


def _is_unstructured(problem: StructuredProblem) -> bool:
    return all(isinstance(parts[0], Unstructured) for parts in problem.rows.correlations)


def _rest(problem: StructuredProblem) -> Floats:
    """Least-squares residuals, (n,)."""
    out = np.empty(problem.spec.n)
    for chunk in problem.chunks:
        out[chunk.rows] = chunk.U[:, -1]
    return out


def _log_sizes(problem: StructuredProblem) -> Floats:
    """Coefficients of the log standard deviation by least squares of log |residual|."""
    term = problem.spec.residual
    assert term is not None
    if not term.scales:
        return np.zeros(0)
    rest = np.abs(_rest(problem))
    size = np.log(rest + 0.05 * float(np.sqrt(np.mean(rest**2))))
    design = np.column_stack([np.ones(len(size)), term.W])
    return np.asarray(0.7 * np.linalg.lstsq(design, size, rcond=None)[0][1:])


def _covariance(
    problem: StructuredProblem, where: NDArray[np.int64], used: NDArray[np.bool_], size: int
) -> Floats:
    """Covariance (r, r) of least-squares residuals between places, made positive definite."""
    term = problem.spec.residual
    assert term is not None
    assert term.group is not None
    grid = np.full((term.group.n_levels, size), np.nan)
    rows = np.flatnonzero(used)
    grid[term.group.codes[rows], where[rows]] = _rest(problem)[rows]
    seen = np.isfinite(grid)
    filled = np.where(seen, grid, 0.0)
    counts = np.maximum(seen.T.astype(np.float64) @ seen, 1.0)
    variances = np.maximum(np.diag(filled.T @ filled) / np.diag(counts), 1e-8)
    sd = np.sqrt(variances)
    corr = (filled.T @ filled / counts) / np.outer(sd, sd)
    np.fill_diagonal(corr, 1.0)
    corr = SHRUNK * np.clip(corr, -0.99, 0.99) + (1.0 - SHRUNK) * np.eye(size)
    values, vectors = np.linalg.eigh(corr)
    corr = (vectors * np.maximum(values, 0.02)) @ vectors.T
    unit = np.sqrt(np.diag(corr))
    return np.asarray(corr / np.outer(unit, unit) * np.outer(sd, sd))
