"""Leave-one-out by importance sampling of the parameters, its weights smoothed.

From draws psi_s of the parameters given all rows, the density of a set without itself is

    p(y_S | y_-S) = 1 / mean_s (1 / p(y_S | y_-S, psi_s)),

the random effects integrated out: of a whole group its own density, of some of its rows that
given its others. The largest weights are replaced by quantiles of a generalised Pareto
distribution fitted to them, whose shape k says whether the mean exists: above 0.7 it converges
too slowly to be used (Vehtari, Gelman & Gabry 2017, Stat. Comput. 27; Vehtari, Simpson, Gelman,
Yao & Gabry 2024, J. Mach. Learn. Res. 25). The draws are from the normal distribution of the
estimates; those of a generalised model, which is not near normal, are reweighted by its
likelihood as well, see `generalised_importance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.connected import connected_rows
from ranef.errors import ModelError
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.models.records import Estimate, LinearEstimate, as_generalised
from ranef.questions.selection.generalised_importance import drawn
from ranef.questions.selection.held_out import UnitScores
from ranef.questions.selection.left_out import LinearModel, rows_of
from ranef.questions.selection.pareto import LARGEST, pareto_smoothed
from ranef.squares import inverse

__all__ = ["leave_out"]

Floats = NDArray[np.float64]

MOST_ROWS = 500
"""Rows whose density is worked out together, at each draw."""


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows that depend on each other given the parameters.

    Attributes
    ----------
    rows : (b,) int array
    sets : list of int arrays
        Places among them of each set that is left out.
    numbers : (k,) int array
        Which sets these are.
    """

    rows: NDArray[np.intp]
    sets: list[NDArray[np.intp]]
    numbers: NDArray[np.intp]


def leave_out(
    estimate: Estimate, sets: NDArray[np.intp], n: int, rng: np.random.Generator, name: str
) -> tuple[UnitScores, Floats]:
    """Return the log density (G,) of each set without itself, and the shapes (G,).

    Raises
    ------
    ModelError
        Where too many rows depend on each other, or a shape is above 0.7.
    """
    generalised = as_generalised(estimate)
    if generalised is not None:
        draws = drawn(generalised, sets, n, rng, name)
        logs, weights = draws.logs, draws.weights
        _check_parameters(weights)
    else:
        assert isinstance(estimate, LinearEstimate)
        blocks = _blocks(estimate, sets, name)
        logs = _densities(estimate, blocks, int(sets.max()) + 1, n, rng)
        weights = np.zeros(len(logs))
    found = [pareto_smoothed(weights - column) for column in logs.T]
    k = np.array([one[1] for one in found])
    bad = k > LARGEST
    what = "rows" if name == "row" else f"levels of {name}"
    if bad.any():
        raise ModelError(
            f"importance sampling fails for {int(bad.sum()):,} of {len(k):,} {what}: the Pareto "
            f"shape of their weights reaches {k.max():.2f}, above {LARGEST}. They move the "
            "parameters too much to be reweighted; use refit=True"
        )
    elpd = np.array(
        [
            _log_mean(one[0] + column) - _log_mean(one[0])
            for one, column in zip(found, logs.T, strict=True)
        ]
    )
    sizes = np.bincount(sets[sets >= 0])
    return UnitScores(np.arange(len(elpd)), sizes, elpd, {}), k


def _check_parameters(weights: Floats) -> None:
    """Refuse draws that are far from the likelihood, whatever is left out."""
    shape = pareto_smoothed(weights)[1]
    if shape > LARGEST:
        raise ModelError(
            f"importance sampling fails for the parameters themselves: the Pareto shape of their "
            f"weights is {shape:.2f}, above {LARGEST}, since the likelihood is far from normal "
            "about the estimates (a variance near zero, a dispersion that the data hardly "
            "determine); use the closed form or refit=True"
        )


def _log_mean(log_ratios: Floats) -> float:
    top = float(log_ratios.max())
    return top + float(np.log(np.mean(np.exp(log_ratios - top))))


def _blocks(estimate: LinearEstimate, sets: NDArray[np.intp], name: str) -> list[_Block]:
    """Rows that depend on each other given the parameters, with the sets among them."""
    spec = estimate.specification
    if any(term.kernel is not None for term in spec.terms):
        raise ModelError(
            "the levels are related by a kernel, so that all rows depend on each other, and their "
            "density has no parts to reweight; use the closed form or refit=True"
        )
    codes: list[NDArray[np.integer]] = [sets]
    codes += [spec.factors[term.factor].codes for term in spec.terms]
    if spec.residual is not None and spec.residual.group is not None:
        codes.append(spec.residual.group.codes)
    found = rows_of(connected_rows(codes))
    largest = max(len(rows) for rows in found)
    if largest > MOST_ROWS:
        raise ModelError(
            f"each {name} shares random effects with up to {largest:,} other rows, and importance "
            f"sampling works with the density of at most {MOST_ROWS:,} rows together: leave out "
            "whole groups that share none, or use the closed form"
        )
    return [_Block(rows, [np.flatnonzero(sets[rows] == s) for s in np.unique(sets[rows])],
                   np.unique(sets[rows])) for rows in found]  # fmt: skip


def _densities(
    estimate: LinearEstimate, blocks: list[_Block], count: int, n: int, rng: np.random.Generator
) -> Floats:
    """Log density (n, G) of each set given the other rows, at draws of theta, sigma and beta.

    With Q the inverse of a block's covariance and e its residuals, y_S given the rest of the block
    has the precision Q_SS and lies Q_SS^-1 (Q e)_S from its expectation.
    """
    known = parameter_covariance(estimate)
    spec = estimate.specification
    free = known.free
    k = int(free.sum())
    root = np.linalg.cholesky(known.covariance + 1e-14 * np.diag(np.diag(known.covariance)))
    y = spec.y if spec.offset is None else spec.y - spec.offset
    out = np.empty((n, count))
    beta_root = np.linalg.cholesky(estimate.coefficient_vcov)
    for s in range(n):
        step = root @ rng.standard_normal(len(root))
        theta = estimate.theta.copy()
        theta[free] += step[:k]
        sigma = estimate.sigma * float(np.exp(step[k] / estimate.sigma))
        beta = estimate.coefficients + beta_root @ rng.standard_normal(len(beta_root)) * (
            sigma / estimate.sigma
        )
        model = LinearModel.of(estimate, theta)
        rest = y - spec.X @ beta
        for block in blocks:
            out[s, block.numbers] = _given_the_others(model, block, rest, sigma)
    return out


def _given_the_others(model: LinearModel, block: _Block, rest: Floats, sigma: float) -> Floats:
    rows, spec = block.rows, model.spec
    V = model.noise.covariance(rows[None])[0]
    for term, psi in zip(spec.terms, model.psis, strict=True):
        codes, z = spec.factors[term.factor].codes[rows], term.z[rows]
        V = V + np.where(codes[:, None] == codes, z @ psi @ z.T, 0.0)
    Q = inverse(V)
    pulled = Q @ rest[rows]
    if len(block.sets) == len(rows):  # single rows, in the order of their sets
        at = np.concatenate(block.sets)
        q = np.diag(Q)[at]
        return np.asarray(
            -0.5 * (np.log(2 * np.pi * sigma**2 / q) + pulled[at] ** 2 / q / sigma**2)
        )
    found = np.empty(len(block.sets))
    for j, own in enumerate(block.sets):
        lower = np.linalg.cholesky(Q[np.ix_(own, own)])
        e = np.linalg.solve(lower, pulled[own])
        log_det = 2 * np.log(np.diag(lower)).sum()
        found[j] = -0.5 * (len(own) * np.log(2 * np.pi * sigma**2) - log_det + e @ e / sigma**2)
    return found
