"""Unstructured and reduced-rank covariance: Psi = L L'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import lower_entries, lower_factor
from ranef.covariance.pairs import ZERO, Pairs
from ranef.covariance.structure import Component, Parameter, Structure
from ranef.errors import ModelError

__all__ = ["Loadings"]

Floats = NDArray[np.float64]


KEPT_SIZE = 6
"""Columns up to which second derivatives, which no value moves, are kept."""


@lru_cache(maxsize=64)
def _second_derivatives(size: int, rank: int) -> Floats:
    """E F' + F E' for entries E, F of one column."""
    rows, columns = lower_entries(size, rank)
    first, second = np.nonzero(columns[:, None] == columns)
    half = np.zeros((len(rows), len(rows), size, size))
    half[first, second, rows[first], rows[second]] = 1.0
    whole: Floats = half + half.transpose(0, 1, 3, 2)
    whole.flags.writeable = False
    return whole


@dataclass(frozen=True, eq=False)
class Loadings(Structure):
    """Psi = L L', L (r, rank) lower trapezoidal.

    theta is L column by column, its diagonal not negative; phi is L with any
    signs. With rank = r it is the unstructured matrix, L its factor Lambda.

    Attributes
    ----------
    rank : int
        Number of columns of L.

    Examples
    --------
    >>> us = Loadings("us", 2, 2)
    >>> us.parameter_names(["(Intercept)", "Days"])
    ('factor((Intercept), (Intercept))', 'factor(Days, (Intercept))', 'factor(Days, Days)')
    >>> us.psi([1.0, 2.0, 3.0])
    array([[ 1.,  2.],
           [ 2., 13.]])
    """

    rank: int

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= self.size:
            raise ModelError(
                f"{self.kind} of {self.size} columns has from 1 to {self.size} dimensions, "
                f"not {self.rank}"
            )

    @cached_property
    def n_parameters(self) -> int:
        return self.size * self.rank - self.rank * (self.rank - 1) // 2

    @property
    def description(self) -> str:
        if self.kind == "rr":
            return f"of reduced rank, {self.rank} of {self.size}"
        if self.size == 1:
            return "one variance"
        return "unstructured, a variance for each coefficient and a covariance for each pair"

    def parameters(self, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
        """Entries of L: of Lambda by row and column name, else by dimension."""
        columns = self.column_names(names)
        kind = "loading" if self.kind == "rr" else "factor"
        labels = [str(d + 1) for d in range(self.rank)] if self.kind == "rr" else columns
        rows, dimensions = lower_entries(self.size, self.rank)
        return tuple(
            Parameter(kind, columns[i], labels[d]) for i, d in zip(rows, dimensions, strict=True)
        )

    def loadings(self, theta: Floats) -> Floats:
        """L (r, rank)."""
        L = np.zeros((self.size, self.rank))
        entries = np.asarray(theta, dtype=np.float64)
        entries = entries if entries.shape == (self.n_parameters,) else self.checked(entries)
        L[lower_entries(self.size, self.rank)] = entries
        return L

    def psi(self, theta: Floats) -> Floats:
        """L L'."""
        L = self.loadings(theta)
        return L @ L.T

    def derivatives(self, theta: Floats) -> Floats:
        """E L' + L E' for each entry."""
        if self.size <= KEPT_SIZE:  # Psi is quadratic in theta
            k = self.n_parameters
            slopes = self.checked(theta) @ self.second_derivatives(theta).reshape(k, k, -1)
            return np.asarray(slopes.reshape(k, self.size, self.size))
        L = self.loadings(theta)
        rows, columns = lower_entries(self.size, self.rank)
        half = np.zeros((len(rows), self.size, self.size))
        half[np.arange(len(rows)), rows, :] = L[:, columns].T
        return half + half.transpose(0, 2, 1)

    def second_derivatives(self, theta: Floats) -> Floats:
        """E F' + F E' for entries E, F of one column."""
        small = self.size <= KEPT_SIZE
        made = _second_derivatives if small else _second_derivatives.__wrapped__
        return made(self.size, self.rank)

    def to_phi(self, theta: Floats) -> Floats:
        """Theta itself."""
        return self.checked(theta).copy()

    def from_phi(self, phi: Floats) -> Floats:
        """Columns of L with the sign that makes their first nonzero entry positive."""
        return self.checked(phi) * self.signs(phi) + 0.0

    def signs(self, phi: Floats) -> Floats:
        """Sign (k,) by which each entry of phi changes."""
        L = self.loadings(phi)
        leading = L[np.argmax(L != 0.0, axis=0), np.arange(self.rank)]
        return np.where(leading < 0.0, -1.0, 1.0)[lower_entries(self.size, self.rank)[1]]

    def from_psi(self, psi: Floats) -> Floats:
        """Theta of a matrix of the family, zero columns last."""
        L = lower_factor(psi)
        if self.rank < self.size:
            L = L[:, np.argsort(~np.any(L != 0.0, axis=0), kind="stable")]
        if np.any(L[:, self.rank :]):
            raise ModelError(f"the matrix has a rank above {self.rank}")
        return L[lower_entries(self.size, self.rank)]

    def components(
        self, theta: Floats, names: Sequence[str] | None = None
    ) -> tuple[Component, ...]:
        """Every standard deviation and every correlation of Psi."""
        pairs = Pairs(self.psi(theta), self.derivatives(theta))
        return pairs.components(self.column_names(names))

    def boundary(self, theta: Floats, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Zero variances and correlations of one, or what is lost in rank."""
        names = self.column_names(names)
        if self.rank == self.size:
            return Pairs(self.psi(theta), self.derivatives(theta)).boundary(names)
        L = self.loadings(theta)
        negligible = ZERO * max(1.0, float(np.abs(L).max()))
        zero = np.flatnonzero(np.abs(L).max(axis=1) <= negligible)
        notes = [f"the variance of {names[i]} is zero" for i in zero]
        rank = int(np.linalg.matrix_rank(L, tol=negligible))
        if rank < self.rank:
            notes.append(f"the loadings have rank {rank} of {self.rank}")
        return tuple(notes)

    def free(self, theta: Floats) -> NDArray[np.bool_]:
        """Entries of columns that are not zero throughout."""
        alive = np.any(self.loadings(theta) != 0.0, axis=0)
        return np.asarray(alive[lower_entries(self.size, self.rank)[1]])
