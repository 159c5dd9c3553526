"""Averages of what a model says of rows, with what is needed for the covariance of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.families.links import Scale, link_on
from ranef.inference.coefficients.functions import Functions
from ranef.inference.rows.fitted import linear_predictor
from ranef.inference.rows.integration import Expectation, Spread
from ranef.inference.rows.parts import LinearPart, linear_parts
from ranef.inference.rows.row_functions import parts_of
from ranef.inference.rows.targets import Target, evaluate, target
from ranef.inference.rows.transformed import TransformedMeans
from ranef.inference.rows.uncertainty import (
    in_both,
    linear_predictors,
    random_spread,
    tied_pairs,
)
from ranef.models.records import GeneralisedEstimate, LinearEstimate, theta_slices
from ranef.models.rows import PartRows, Rows

__all__ = [
    "Means",
    "generalised_means",
    "joined",
    "linear_means",
    "row_means",
    "transformed_row_means",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

BLOCK = 50_000
"""Rows that are held at a time."""


@dataclass(frozen=True, eq=False)
class Means:
    """S averages, with what is needed for the covariance of all.

    Attributes
    ----------
    value : (S,) float64 array
    jacobian : (S, D) float64 array
        Derivatives in beta; of a generalised model in all coefficients and theta, the
        modes held.
    gap : (S, d) float64 array
        How far each is from one that the data determine, see `Functions`.
    linear : bool
        Whether they are linear in the coefficients, so that gaps cancel in differences.
    effects : tuple of (S, q, r) float64 arrays, or None
        Derivatives in the modes of each term, where these are in the average.
    covariance : (D, D) float64 array or None
        Of the D parameters, where they are others.
    """

    value: Floats
    jacobian: Floats
    gap: Floats
    linear: bool
    effects: tuple[Floats, ...] | None = None
    covariance: Floats | None = None

    @property
    def functions(self) -> Functions:
        """The averages as functions; a column of gaps for each where they do not cancel."""
        whole = Functions(self.value, self.jacobian, self.gap)
        return whole if self.linear else replace(whole, gap=whole.own_gaps())


def joined(found: Sequence[Means]) -> Means:
    """Stack averages."""
    effects = None
    if found[0].effects is not None:
        columns = zip(*(m.effects or () for m in found), strict=True)
        effects = tuple(np.concatenate(column) for column in columns)
    return Means(
        np.concatenate([m.value for m in found]),
        np.vstack([m.jacobian for m in found]),
        np.vstack([m.gap for m in found]),
        all(m.linear for m in found),
        effects,
        found[0].covariance,
    )


def row_means(rows: Functions, linear: bool, weights: Floats, groups: Codes) -> Means:
    """Averages of functions of N rows in groups; K functions a row, all of the first first.

    Parameters
    ----------
    rows : Functions
    linear : bool
        Whether they are linear in the coefficients.
    weights, groups : (N,) arrays
    """
    W = _averaging(weights, groups)
    K = len(rows.value) // len(weights)
    value = np.array([W @ v for v in rows.value.reshape(K, -1)]).T.ravel()
    blocks = rows.jacobian.reshape(K, len(weights), -1)
    jacobian = np.stack([np.asarray(W @ J) for J in blocks], axis=1)
    gaps = rows.gap if linear else (~rows.estimable).astype(np.float64)[:, None]
    gap = np.stack([np.asarray(W @ g) for g in gaps.reshape(K, len(weights), -1)], axis=1)
    return Means(value, jacobian.reshape(len(value), -1), gap.reshape(len(value), -1), linear)


def linear_means(
    estimate: LinearEstimate,
    rows: PartRows,
    weights: Floats,
    groups: Codes,
    *,
    conditional: bool,
    back: Scale = "identity",
) -> Means:
    """Averages of x'beta + offset (+ z'b) of a linear model in groups of rows.

    With a link `back` of the values whose transformations these are: medians of a response
    that the model took through it.

    Parameters
    ----------
    estimate : Estimate
    rows : PartRows
        N rows.
    weights : (N,) float64 array
    groups : (N,) int array
        Group of each row, 0 .. G - 1.
    conditional : bool
        With the modes of the rows' levels.
    """
    W = _averaging(weights, groups)
    random = tuple(rows.random or ()) if conditional else ()
    eta = linear_predictor(estimate, rows.X, rows.offset, random)
    slopes, linear = W, back == "identity"
    if linear:
        gap = np.zeros((W.shape[0], 0)) if rows.gap is None else np.asarray(W @ rows.gap)
    else:
        link = link_on(back)
        slopes, eta = W * link.first(eta)[None, :], link.inverse(eta)
        gap = np.asarray(W @ undetermined(rows)[:, None].astype(np.float64))
    J = np.asarray(slopes @ rows.X)
    if not conditional:
        return Means(np.asarray(W @ eta), J, gap, linear)
    effects = tuple(
        _by_level(slopes, codes, z, len(b))
        for b, (codes, z) in zip(estimate.modes, random, strict=True)
    )
    return Means(np.asarray(W @ eta), J, gap, linear, effects)


def transformed_row_means(
    means: TransformedMeans, rows: PartRows, weights: Floats, groups: Codes
) -> Means:
    """Averages of means of a response that a linear model transformed."""
    W = _averaging(weights, groups)
    gone = undetermined(rows)[:, None].astype(np.float64)
    return Means(
        np.asarray(W @ means.value),
        np.asarray(W @ means.jacobian),
        np.asarray(W @ gone),
        False,
        covariance=means.covariance,
    )


def undetermined(rows: PartRows) -> NDArray[np.bool_]:
    """Which rows (N,) the data do not determine."""
    if rows.gap is None:
        return np.zeros(len(rows.X), dtype=np.bool_)
    return np.asarray((rows.gap != 0).any(axis=1))


def generalised_means(
    estimate: GeneralisedEstimate,
    rows: Rows,
    weights: Floats,
    groups: Codes,
    *,
    kind: str,
    type: str = "response",
) -> Means:
    """Averages of predicted means of a generalised model in groups of rows.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    rows : Rows
        N rows.
    weights : (N,) float64 array
    groups : (N,) int array
        Group of each row, 0 .. G - 1.
    kind : str
        ``"population"``: integrated over the random effects; ``"typical"``: effects
        zero; ``"conditional"``: at the modes of the rows' levels.
    type : str
        As in `predict`.

    Returns
    -------
    Means
        Of G x K averages, where the response has K categories; else of G.
    """
    wanted, parts = target(estimate, type), linear_parts(estimate, rows)
    W = _averaging(weights, groups)
    total: Means | None = None
    for first in range(0, rows.n, BLOCK):
        own = slice(first, first + BLOCK)
        block = _block_means(estimate, [_cut(p, own) for p in parts], W[:, own], wanted, kind)
        total = block if total is None else _sum(total, block)
    assert total is not None
    used, K = parts_of(estimate, "response", type), len(total.value) // W.shape[0]
    linear = wanted.single and wanted.scale == "identity"
    gaps = rows.gaps(used) if linear else rows.undetermined(used)[:, None].astype(np.float64)
    return replace(total, gap=np.repeat(np.asarray(W @ gaps), K, axis=0), linear=linear)


def _sum(a: Means, b: Means) -> Means:
    effects = None
    if a.effects is not None and b.effects is not None:
        effects = tuple(x + y for x, y in zip(a.effects, b.effects, strict=True))
    return replace(a, value=a.value + b.value, jacobian=a.jacobian + b.jacobian, effects=effects)


def _cut(part: LinearPart, own: slice) -> LinearPart:
    return replace(
        part,
        X=part.X[own],
        offset=None if part.offset is None else part.offset[own],
        random=tuple((term, codes[own], z[own]) for term, codes, z in part.random),
    )


def _averaging(weights: Floats, groups: Codes) -> Any:
    """Averaging matrix (G, N): row g holds the shares of its rows."""
    from scipy import sparse

    shares = weights / np.bincount(groups, weights)[groups]
    count = int(groups.max()) + 1
    return sparse.csr_array((shares, (groups, np.arange(len(groups)))), shape=(count, len(groups)))


def _by_level(W: Any, codes: NDArray[np.int32], z: Floats, q: int) -> Floats:
    """Sums (G, q, r) of W z by level."""
    from scipy import sparse

    known = np.flatnonzero(codes >= 0)
    out = np.empty((W.shape[0], q, z.shape[1]))
    for j in range(z.shape[1]):
        spread = sparse.csr_array((z[known, j], (known, codes[known])), shape=(len(codes), q))
        out[:, :, j] = (W @ spread).toarray()
    return out


def _block_means(
    estimate: GeneralisedEstimate, parts: list[LinearPart], W: Any, wanted: Target, kind: str
) -> Means:
    conditional = kind == "conditional"
    etas = linear_predictors(estimate, parts, conditional)
    spread = random_spread(estimate, parts) if kind == "population" else None
    found, places = _evaluated(wanted, etas, spread)
    K = found.value.shape[1]
    value = np.asarray(W @ found.value[places])
    J = np.zeros((len(value), K, len(estimate.coefficients) + len(estimate.theta)))
    effects = [np.zeros((len(value), K, *b.shape)) for b in estimate.modes]
    for a, part in enumerate(parts):
        for k in range(K):
            w = found.by_mean[a, places, k]
            if not w.any():
                continue
            J[:, k, part.columns] += W @ (w[:, None] * part.X)
            for term, codes, z in part.random if conditional else ():
                moved = _by_level(W, codes, w[:, None] * z, effects[term].shape[2])
                effects[term][:, k] += moved
    if kind == "population":
        _add_theta(estimate, parts, W, found, places, J)
    return Means(
        value.ravel(),
        J.reshape(len(value) * K, -1),
        np.zeros((len(value) * K, 0)),
        False,
        tuple(e.reshape(-1, *e.shape[2:]) for e in effects) if conditional else None,
    )


def _add_theta(
    estimate: GeneralisedEstimate,
    parts: list[LinearPart],
    W: Any,
    found: Expectation,
    places: Codes,
    J: Floats,
) -> None:
    """Add derivatives in theta, sum_i w_i v_i z_i' dPsi z_i = <sum_i w_i v_i z_i z_i', dPsi>."""
    P, own = len(estimate.coefficients), theta_slices(estimate)
    for a, part in enumerate(parts):
        for term, _, z in part.random:
            place = own[term]
            slopes = structure_of(estimate.terms[term]).derivatives(estimate.theta[place])
            slopes = np.where(np.isfinite(slopes), slopes, 0.0)
            r = z.shape[1]
            squares = (z[:, :, None] * z[:, None, :]).reshape(len(z), r * r)
            for k in range(J.shape[1]):
                v = found.by_variance[a, places, k]
                if v.any():
                    sums = np.asarray(W @ (v[:, None] * squares)).reshape(-1, r, r)
                    moved = np.einsum("gij,kij->gk", sums, slopes)
                    J[:, k, P + place.start : P + place.stop] += moved
    if found.by_covariance is not None:
        _add_tied(estimate, parts, W, found.by_covariance[:, :, places], J)


def _add_tied(
    estimate: GeneralisedEstimate, parts: list[LinearPart], W: Any, weights: Floats, J: Floats
) -> None:
    """Add derivatives in theta through the covariances of two predictors, (M, M, N, K)."""
    P, own = len(estimate.coefficients), theta_slices(estimate)
    for a, b in tied_pairs(parts):
        for term, z, other in in_both(parts[a], parts[b]):
            place = own[term]
            slopes = structure_of(estimate.terms[term]).derivatives(estimate.theta[place])
            slopes = np.where(np.isfinite(slopes), slopes, 0.0)
            forms = np.einsum("ni,kij,nj->nk", z, slopes, other)
            for k in range(J.shape[1]):
                moved = np.asarray(W @ (weights[a, b, :, k, None] * forms))
                J[:, k, P + place.start : P + place.stop] += moved


def _evaluated(wanted: Target, etas: Floats, spread: Spread | None) -> tuple[Expectation, Codes]:
    """Values at the distinct linear predictors, and where each row's stand."""
    every = etas
    if spread is not None:
        every = np.vstack([etas, spread.variances, *spread.covariances.values()])
    distinct, places = np.unique(every, axis=1, return_inverse=True)
    if 2 * distinct.shape[1] > every.shape[1]:
        return evaluate(wanted, etas, spread), np.arange(every.shape[1])
    M, known = len(etas), None
    if spread is not None:
        pairs = zip(spread.covariances, distinct[2 * M :], strict=True)
        known = Spread(distinct[M : 2 * M], dict(pairs))
    return evaluate(wanted, np.ascontiguousarray(distinct[:M]), known), places.reshape(-1)
