"""What is asked of the levels of a factor: linear combinations of coefficients and effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.effects.combinations import Combinations
from ranef.models.records import Component, Estimate
from ranef.models.rows import at_levels

__all__ = ["FactorEffects", "effects_of"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FactorEffects:
    """The effects of one grouping factor, of q levels, in one part of a model.

    Attributes
    ----------
    estimate : Estimate
    part : Component
    factor : int
    """

    estimate: Estimate
    part: Component
    factor: int

    @property
    def codes(self) -> Codes:
        """Level of each row, (n,)."""
        factor = self.estimate.factors[self.factor]
        if factor.members is not None:
            raise ModelError(
                f"this question takes the rows of each level apart, and a row may belong to "
                f"several levels of {factor.name}"
            )
        return self.estimate.factors[self.factor].codes

    @property
    def n_levels(self) -> int:
        return len(self.estimate.factors[self.factor].shown)

    @cached_property
    def terms(self) -> tuple[int, ...]:
        """The random terms of the part that have the factor."""
        return tuple(t for t in self.part.terms if self.estimate.terms[t].factor == self.factor)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The m coefficients that vary over the levels."""
        return tuple(dict.fromkeys(name for t in self.terms for name in self._names(t) if name))

    def _names(self, t: int) -> tuple[str, ...]:
        """Names of a term's columns in this part; empty where another part owns them."""
        member = self.estimate.terms[t].member
        return (member,) if member is not None else self.estimate.terms[t].names_in(self.part.name)

    def owned(self, t: int) -> tuple[list[int], list[int]]:
        """Return the columns of a term that this part owns, and where they stand among `names`."""
        named = self._names(t)
        own = [j for j, name in enumerate(named) if name]
        return own, [self.names.index(named[j]) for j in own]

    def _z(self, t: int) -> Floats:
        """Columns (n, r) of a term as they enter this part."""
        z, named = self.estimate.terms[t].z, self._names(t)
        return z if all(named) else np.where([bool(name) for name in named], z, 0.0)

    @property
    def columns(self) -> Floats:
        """Columns (n, m) of the effects, in the order of `names`."""
        names = self.names
        z = np.zeros((len(self.codes), len(names)))
        for t in self.terms:
            own, where = self.owned(t)
            z[:, where] = self.estimate.terms[t].z[:, own]
        return z

    @property
    def from_modes(self) -> Floats:
        """What the modes give to the predictor of each row, (n,)."""
        out = np.zeros(len(self.codes))
        for t in self.terms:
            out += at_levels(self.estimate.modes[t], self.codes, self._z(t))
        return out

    @property
    def prior_covariance(self) -> Floats:
        """Covariance matrix (m, m) of the effects of a level, terms added, without a kernel."""
        names = self.names
        out = np.zeros((len(names), len(names)))
        for t in self.terms:
            own, where = self.owned(t)
            out[np.ix_(where, where)] += self.estimate.covariances[t][np.ix_(own, own)]
        return out

    def coefficients(
        self, names: Sequence[str] | None = None, *, with_fixed: bool = False
    ) -> Combinations:
        """Return the effects of each level, or fixed plus random effect (`with_fixed`).

        Rows go level by level, (q m): all m coefficients of the first level first. A
        coefficient without a fixed effect of its name varies around zero.
        """
        names = self.names if names is None else names
        q, m = self.n_levels, len(names)
        X = np.zeros((q * m, len(self.estimate.coefficients)))
        if with_fixed:
            fixed = _same(names, self.part.names)
            X[:, self.part.coefficients] = np.tile(fixed, (q, 1))
        columns = {t: _same(names, self._names(t)) for t in self.terms}
        return Combinations(X, self._random(columns, m))

    def predictions(self, x: Floats, z: Sequence[Floats], constant: float = 0.0) -> Combinations:
        """Return the linear predictor of each level (q) for one row of covariates.

        Parameters
        ----------
        x : (c,) array
            For the coefficients of the part.
        z : sequence of (r,) arrays
            For each random term of the part; those of other factors are not read: their
            effects are zero.
        constant : float
            Of the offset.
        """
        X = np.zeros((self.n_levels, len(self.estimate.coefficients)))
        X[:, self.part.coefficients] = x
        columns = {t: np.atleast_2d(row) for t, row in zip(self.part.terms, z, strict=True)}
        for t, row in columns.items():
            if self.estimate.terms[t].member is not None:
                columns[t] = np.sum(row, axis=1, keepdims=True)
        return Combinations(X, self._random(columns, 1), constant)

    def _random(
        self, columns: dict[int, Floats], m: int
    ) -> tuple[tuple[Codes, Floats] | None, ...]:
        """Rows of random effects (q m): `columns` has (m, r) for each term."""
        q = self.n_levels
        if self.estimate.factors[self.factor].members is not None:
            none = np.zeros(q * m, dtype=np.int32)
            return tuple(
                (none, np.asarray(np.kron(np.eye(q, q + 1), columns[t]), dtype=np.float64))
                if t in self.terms
                else None
                for t in range(len(self.estimate.terms))
            )
        codes = np.repeat(np.arange(q, dtype=np.int32), m)
        return tuple(
            (codes, np.tile(columns[t], (q, 1))) if t in self.terms else None
            for t in range(len(self.estimate.terms))
        )


def effects_of(estimate: Estimate, factor: int) -> tuple[FactorEffects, ...]:
    """Return the effects of a factor in each part of the model that has any."""
    every = (FactorEffects(estimate, part, factor) for part in estimate.components)
    return tuple(effects for effects in every if effects.terms)


def _same(names: Sequence[str], others: Sequence[str]) -> Floats:
    """1 where two names are the same, (m, k)."""
    equal = np.array([[float(name == other) for other in others] for name in names])
    return equal.reshape(len(names), len(others))
