"""Draws of random effects given the data, beyond the normal approximation.

Few binary rows a level make the distribution of its effect skewed, and draws from the
normal one at the mode then stand where the data do not. Metropolis steps mend that: they
leave the distribution of the effects given data, coefficients and theta as it is, so that
a few of them, begun at a draw of the approximation, end close to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import column_sizes, square_root
from ranef.derivatives import generalised
from ranef.inference.rows.targets import has_zero
from ranef.models.records import GeneralisedEstimate

__all__ = ["metropolis", "settled"]

Floats = NDArray[np.float64]

SWEEPS = 25
NULL = 1e-8
"""A direction of a covariance matrix with less of its largest root than this is none."""


def settled(
    estimate: GeneralisedEstimate,
    coefficients: Floats,
    effects: Sequence[Floats],
    rng: np.random.Generator,
    covariances: Sequence[Floats] | None = None,
) -> tuple[Floats, ...]:
    """Take effects, begun anywhere, to their distribution given the data and these parameters.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    coefficients : (P,) float64 array
    effects : sequence of (q, r) float64 arrays
        Of every term, as a draw of the normal approximation.
    rng : numpy.random.Generator
    covariances : sequence of (r, r) float64 arrays, optional
        Psi of every term; None for the estimate's.

    Returns
    -------
    tuple of (q, r) float64 arrays
    """
    design = estimate.design
    etas = np.empty((len(design.predictors), design.n))
    for eta, part in zip(etas, design.predictors, strict=True):
        eta[:] = part.X @ coefficients[part.coefficients]
        if part.offset is not None:
            eta += part.offset
    for t, (term, b) in enumerate(zip(estimate.terms, effects, strict=True)):
        codes = design.factors[term.factor].codes
        for m in set(design.owners[t]):
            etas[m] += np.einsum("nr,nr->n", design.columns(t, m), b[codes])
    return metropolis(estimate, etas, effects, rng, covariances=covariances)[1]


@dataclass(frozen=True, eq=False)
class _Walk:
    """How one term's effects move: b = root u with u ~ N(0, I).

    Attributes
    ----------
    root : (r, k) float64 array
        Psi = root root', directions without variance left out.
    inverse : (k, r) float64 array
    steps : (q, k, k) float64 array
        A square root of the covariance of each level's proposals of u.
    """

    root: Floats
    inverse: Floats
    steps: Floats


def metropolis(
    estimate: GeneralisedEstimate,
    etas: Floats,
    effects: Sequence[Floats],
    rng: np.random.Generator,
    sweeps: int = SWEEPS,
    *,
    covariances: Sequence[Floats] | None = None,
) -> tuple[Floats, tuple[Floats, ...]]:
    """Move effects by Metropolis steps within each term.

    Given the other terms, the levels of one grouping factor are independent: their rows
    are others, and so are their effects. One step therefore proposes and decides for all
    levels of a term at once (a random walk of 2.4 / sqrt(r) conditional standard
    deviations; Gelman, Roberts & Gilks 1996, Bayesian Statistics 5). Terms with a kernel,
    whose levels are not independent, stay as they are.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    etas : (M, n) float64 array
        Linear predictors of the rows of the fit, as `GeneralisedEstimate.predictors`, at
        these effects and any coefficients.
    effects : sequence of (q, r) float64 arrays
        Of every term.
    rng : numpy.random.Generator
    sweeps : int
    covariances : sequence of (r, r) float64 arrays, optional
        Psi of every term; None for the estimate's.

    Returns
    -------
    etas : (M, n) float64 array
    effects : tuple of (q, r) float64 arrays
    """
    etas, moved = etas.copy(), [np.array(b) for b in effects]
    walks = _walks(estimate, covariances)
    if not walks:
        return etas, tuple(moved)
    current = _log_density(estimate, etas)
    for _ in range(sweeps):
        for t, walk in walks.items():
            current = _step(estimate, walk, etas, moved, t, current, rng)
    return etas, tuple(moved)


def _walks(estimate: GeneralisedEstimate, covariances: Sequence[Floats] | None) -> dict[int, _Walk]:
    """The terms that can move; those of the estimate's own covariances are made once."""
    if covariances is not None:
        return _make_walks(estimate, covariances)
    if estimate not in _known:
        _known[estimate] = _make_walks(estimate, estimate.covariances)
    return _known[estimate]


_known: WeakKeyDictionary[GeneralisedEstimate, dict[int, _Walk]] = WeakKeyDictionary()


def _make_walks(estimate: GeneralisedEstimate, covariances: Sequence[Floats]) -> dict[int, _Walk]:
    given = generalised.generalised_conditional_covariances(estimate)
    found = {}
    for t, (term, psi) in enumerate(zip(estimate.terms, covariances, strict=True)):
        root = square_root(psi)
        length = np.sqrt(np.sum((root / column_sizes(psi)[:, None]) ** 2, axis=0))
        root = root[:, length > NULL * max(float(length.max()), 1e-300)]
        if term.kernel is not None or not root.shape[1]:
            continue
        inverse = np.asarray(np.linalg.pinv(root), dtype=np.float64)
        spread = inverse @ given[t][0] @ inverse.T
        values, vectors = np.linalg.eigh(spread)
        reach = 2.4 / np.sqrt(root.shape[1])
        steps = np.asarray(reach * vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
        found[t] = _Walk(root, inverse, steps)
    return found


def _step(
    estimate: GeneralisedEstimate,
    walk: _Walk,
    etas: Floats,
    effects: list[Floats],
    t: int,
    current: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Propose for every level of a term and keep what is accepted; changes etas and effects."""
    term, own = estimate.terms[t], sorted(set(estimate.design.owners[t]))
    codes = estimate.design.factors[term.factor].codes
    q, k = len(effects[t]), walk.root.shape[1]
    u = effects[t] @ walk.inverse.T
    proposed = u + np.einsum("qij,qj->qi", walk.steps, rng.standard_normal((q, k)))
    moved = (proposed - u) @ walk.root.T
    before = etas[own].copy()
    for m in own:
        etas[m] += np.einsum("nr,nr->n", estimate.design.columns(t, m), moved[codes])
    there = _log_density(estimate, etas)
    with np.errstate(invalid="ignore"):  # where neither has a density nothing moves
        gain = np.bincount(codes, there - current, q) - 0.5 * np.sum(proposed**2 - u**2, axis=1)
        accepted = np.log(rng.random(q)) < gain
    rows = accepted[codes]
    etas[own] = np.where(rows, etas[own], before)
    effects[t] = effects[t] + np.where(accepted[:, None], moved, 0.0)
    return np.where(rows, there, current)


def _log_density(estimate: GeneralisedEstimate, etas: Floats) -> Floats:
    """Log density of each row, times its weight."""
    design = estimate.design
    found = estimate.family.log_density(design.y, etas, design.extra, zero=has_zero(estimate))
    return found if design.weights is None else design.weights * found
