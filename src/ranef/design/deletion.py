"""A model without some of its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor, RandomTerm

__all__ = ["deletable", "independent_sets", "without_rows"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int_]

LEAST_EIGENVALUE = 1e-9
SMALL = 12
"""Columns below which products of all rows are quicker than one product a set."""


def without_rows(spec: Specification, keep: Bools) -> Specification:
    """Return the specification of the rows kept; levels that lose all rows go too."""
    compacted = [_compacted(factor, keep) for factor in spec.factors]
    terms = tuple(_term(term, keep, compacted[term.factor][1]) for term in spec.terms)
    return replace(
        spec,
        y=spec.y[keep],
        X=np.ascontiguousarray(spec.X[keep]),
        weights=None if spec.weights is None else spec.weights[keep],
        offset=None if spec.offset is None else spec.offset[keep],
        terms=terms,
        factors=tuple(factor for factor, _ in compacted),
        residual=None if spec.residual is None else spec.residual.taken(np.flatnonzero(keep)),
    )


def _compacted(factor: GroupingFactor, keep: Bools) -> tuple[GroupingFactor, NDArray[np.intp]]:
    codes = factor.codes[keep]
    present = np.flatnonzero(np.bincount(codes, minlength=factor.n_levels))
    place = np.full(factor.n_levels, -1, dtype=np.int32)
    place[present] = np.arange(len(present), dtype=np.int32)
    levels = [factor.levels[int(i)] for i in present]
    return replace(factor, codes=place[codes], levels=levels), present


def _term(term: RandomTerm, keep: Bools, levels: NDArray[np.intp]) -> RandomTerm:
    kernel = None if term.kernel is None else term.kernel[np.ix_(levels, levels)]
    return replace(term, z=np.ascontiguousarray(term.z[keep]), kernel=kernel)


def deletable(X: Floats, sets: Codes) -> Bools:
    """Tell for each set whether the columns of X stay independent without its rows, (G,)."""
    p = X.shape[1]
    count = int(sets.max(initial=-1)) + 1
    if p == 0:
        return np.ones(count, dtype=np.bool_)
    scale = np.sqrt(np.sum(X**2, axis=0))
    S = X / scale
    total = S.T @ S
    rows = np.argsort(sets, kind="stable")
    rows = rows[np.searchsorted(sets[rows], 0) :]
    starts = np.searchsorted(sets[rows], np.arange(count))
    out = np.empty(count, dtype=np.bool_)
    for chunk in np.array_split(np.arange(count), max(1, count * p * p // 2_000_000)):
        if not len(chunk):
            continue
        last = starts[chunk[-1] + 1] if chunk[-1] + 1 < count else len(rows)
        part = rows[starts[chunk[0]] : last]
        first = starts[chunk] - starts[chunk[0]]
        if p < SMALL:
            outer = S[part][:, :, None] * S[part][:, None, :]
            products = np.add.reduceat(outer, first, axis=0)
        else:
            blocks = np.split(S[part], first[1:])
            products = np.stack([block.T @ block for block in blocks])
        rest = total - products
        size = np.sqrt(np.maximum(np.einsum("gii->gi", rest), 0.0))
        empty = (size < np.sqrt(LEAST_EIGENVALUE)).any(axis=1)
        size = np.where(size > 0, size, 1.0)
        lowest = np.linalg.eigvalsh(rest / size[:, :, None] / size[:, None, :])[:, 0]
        out[chunk] = ~empty & (lowest > LEAST_EIGENVALUE)
    return out


def independent_sets(spec: Specification, sets: Codes) -> bool:
    """Tell whether rows of different sets share no random effect."""
    if np.any(sets < 0) or any(term.kernel is not None for term in spec.terms):
        return False
    return all(spec.factors[term.factor].lies_within(sets) for term in spec.terms)
