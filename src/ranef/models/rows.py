"""Rows at which a model is evaluated, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import ResidualTerm

__all__ = ["PartRows", "Rows", "at_levels"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

FEW = 10_000
"""Values of levels that are copied to the rows at once."""


@dataclass(frozen=True, eq=False)
class PartRows:
    """Rows to predict, as arrays without missing values.

    Attributes
    ----------
    X : (N, p) float64 array
    offset : (N,) float64 array or None
    random : sequence of (codes (N,), z (N, r)), or None
        One entry a term; -1 codes a level that the fit has not seen. None
        where the prediction needs no random effects.
    weights : (N,) float64 array or None
        Precision weights of new observations; None for 1.
    gap : (N, d) float64 array or None
        How far each row is from one that the data determine, in each of the d redundant
        columns of the fixed effects, 0 where it is not; None where none is redundant.
    residual : ResidualTerm or None
        Where new observations stand in the structure of the residuals.
    """

    X: Floats
    offset: Floats | None
    random: Sequence[tuple[Ints, Floats]] | None
    weights: Floats | None = None
    gap: Floats | None = None
    residual: ResidualTerm | None = None


def at_levels(values: Floats, codes: Ints, z: Floats) -> Floats:
    """Sum over r of z times the values of each row's level, (N, ...); 0 where a code is -1.

    values : (q, r) or (q, r, k), codes : (N,), z : (N, r).
    """
    seen = codes >= 0
    if values.ndim == 2:
        return np.where(seen, np.einsum("nr,nr->n", z, values[codes]), 0.0)
    if values.size <= FEW and seen.all():
        return np.asarray(np.einsum("nr,nrk->nk", z, values.take(codes, axis=0)))
    out = np.zeros((len(codes), *values.shape[2:]))
    for j in range(z.shape[1]):
        out[seen] += z[seen, j, None] * values[codes[seen], j]
    return out


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to ask about, for each part that has a formula.

    Attributes
    ----------
    parts : dict of PartRows
        By name as in `GeneralisedEstimate.parts`, ``"conditional"`` among them,
        all with the same N rows.
    extra : (N,) float64 array or None
        Trials of new observations; None for 1.
    """

    parts: Mapping[str, PartRows]
    extra: Floats | None = None

    @classmethod
    def of(cls, parts: Mapping[str, Specification], extra: Floats | None = None) -> Rows:
        """Return the rows of the model itself."""
        found = {}
        for name, spec in parts.items():
            random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms]
            found[name] = PartRows(
                spec.X, spec.offset, random, spec.weights, residual=spec.residual
            )
        return cls(found, extra)

    @property
    def n(self) -> int:
        return len(self.parts["conditional"].X)

    def gaps(self, parts: Iterable[str]) -> Floats:
        """Gaps (N, d) of some parts side by side, see `PartRows`."""
        named = [self.parts[name].gap for name in parts if name in self.parts]
        return np.hstack([np.zeros((self.n, 0)), *(gap for gap in named if gap is not None)])

    def undetermined(self, parts: Iterable[str]) -> NDArray[np.bool_]:
        """Which rows (N,) the data do not determine, for an answer that rests on these parts."""
        return np.asarray((self.gaps(parts) != 0).any(axis=1))
