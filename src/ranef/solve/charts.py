"""Smooth coordinates for the covariance matrix of one random term, of which one may be held.

A chart writes Psi, in the user's basis, as a function of free coordinates x and, where
it holds a parameter, of one more, c. Every x is valid and Psi is smooth across every
boundary of its family, as for the search (`_core`); what is held is a coordinate,
so that a profile is an unconstrained minimisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.covariance import Structure, lower_entries, lower_factor
from ranef.solve.parametrisation import Term

__all__ = ["Chart", "Held", "Reading", "chart", "holdable"]

Floats = NDArray[np.float64]

SMALL = 1e-6
CLEAR = 1e-3
RIGHT_ANGLE = np.pi / 2
ROWWISE = ("us", "kernel")


@dataclass(frozen=True)
class Held:
    """The parameter of a term that a chart holds.

    Attributes
    ----------
    kind : str
        ``"sd"``, ``"corr"``, ``"rate"``, ``"range"`` or ``"smoothness"``.
    columns : tuple of int
        The column of an sd, the two of a correlation; () where it belongs to all.
    entry : int
        Its entry of the reported parameters, of terms that are not `us`.
    """

    kind: str
    columns: tuple[int, ...] = ()
    entry: int = -1


@dataclass(frozen=True, eq=False)
class Reading:
    """The reported parameter for a coordinate c: (shift + c)^power, or sin c, or what a
    structure makes of it.

    Attributes
    ----------
    shift : float
    power : int
    sine : bool
    structure : Structure or None
        Whose entry `entry` of phi is `sign` times c.
    entry : int
    sign : float
    """

    shift: float = 0.0
    power: int = 1
    sine: bool = False
    structure: Structure | None = None
    entry: int = -1
    sign: float = 1.0

    def __call__(self, c: float) -> float:
        if self.sine:
            return sin(c)
        if self.structure is None:
            return float((self.shift + c) ** self.power)
        phi = np.full(self.structure.n_parameters, 0.5)
        phi[self.entry] = self.sign * c
        return float(self.structure.from_phi(phi)[self.entry])


@dataclass(frozen=True, eq=False)
class Chart(ABC):
    """Coordinates of Psi (r, r) of one term.

    Attributes
    ----------
    term : Term
    held : Held or None
        What the coordinate c is; without it c is not read.
    """

    term: Term
    held: Held | None

    @property
    @abstractmethod
    def entries(self) -> NDArray[np.intp]:
        """Which of the term's parameters the free coordinates are."""

    @property
    def count(self) -> int:
        """Number of free coordinates."""
        return len(self.entries)

    @property
    @abstractmethod
    def units(self) -> Floats:
        """Size (count,) of a modest change of each coordinate."""

    @abstractmethod
    def psi(self, x: Floats, c: float) -> Floats:
        """Psi (r, r)."""

    @abstractmethod
    def pull(self, x: Floats, c: float, G: Floats) -> tuple[Floats, float]:
        """Turn d criterion / d Psi into derivatives in x (count,) and in c.

        G (r, r), symmetric, is with respect to Psi in the core's basis.
        """

    @abstractmethod
    def phi(self, x: Floats, c: float) -> Floats:
        """Parameters of the core."""

    @abstractmethod
    def inside(self, x: Floats, c: float) -> bool:
        """Tell whether Psi is clearly of full rank; cheap."""

    def _user(self, G: Floats) -> Floats:
        """Turn a derivative with respect to the core's Psi into that of the user's."""
        out: Floats = self.term.inverse_basis.T @ G @ self.term.inverse_basis
        return out

    @abstractmethod
    def place(self, psi: Floats, theta: Floats | None) -> tuple[Floats, float]:
        """Return coordinates x and c of a Psi; theta has its reported parameters, if known."""

    @property
    def ends(self) -> tuple[float, float]:
        """Range of c."""
        return (0.0, np.inf)

    @property
    def exponents(self) -> Floats:
        """By which power of a common factor of all standard deviations each x is stretched."""
        return np.ones(self.count)

    @property
    def reading(self) -> Reading:
        """What c stands for."""
        return Reading()

    @property
    def power(self) -> int:
        """Of c in a standard deviation that is held: 1, or 2 where c is its root."""
        return 1


@dataclass(frozen=True, eq=False)
class FactorChart(Chart):
    """Psi = L L' of an unstructured term, the held columns first.

    Of an sd c = L_11. Of a correlation c is its inverse sine and x has
    t = |(L_21, L_22)|: L_21 = t sin c, L_22 = t cos c, so that the ends of the range
    are interior points.
    """

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Columns in the order of the rows of L."""
        first = () if self.held is None else self.held.columns
        rest = [k for k in range(self.term.size) if k not in first]
        return np.array([*first, *rest], dtype=np.intp)

    @cached_property
    def _entries(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return lower_entries(self.term.size)

    @cached_property
    def _own(self) -> NDArray[np.intp]:
        """Entries of L that are coordinates themselves."""
        rows, columns = self._entries
        out = [
            e
            for e, place in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))
            if not (self._single and place == (0, 0))
            and not (self._pair and place in ((1, 0), (1, 1)))
        ]
        return np.array(out, dtype=np.intp)

    @property
    def _single(self) -> bool:
        return self.held is not None and self.held.kind == "sd"

    @property
    def _pair(self) -> bool:
        return self.held is not None and self.held.kind == "corr"

    @property
    def entries(self) -> NDArray[np.intp]:
        """Of L; of t that of L_22."""
        return np.append(self._own, self.term.size) if self._pair else self._own

    @cached_property
    def _sizes(self) -> Floats:
        """Size of a modest standard deviation of each row."""
        return np.asarray(np.sqrt(np.diag(self.term.basis @ self.term.basis.T))[self.order])

    @cached_property
    def units(self) -> Floats:
        size = self._sizes
        own: Floats = size[self._entries[0][self._own]]
        return np.append(own, size[1]) if self._pair else own

    @property
    def ends(self) -> tuple[float, float]:
        return (-RIGHT_ANGLE, RIGHT_ANGLE) if self._pair else (0.0, np.inf)

    @property
    def reading(self) -> Reading:
        return Reading(sine=self._pair)

    @cached_property
    def _flat(self) -> NDArray[np.intp]:
        """Places of the coordinates in L, row by row."""
        rows, columns = self._entries
        return np.asarray(rows[self._own] * self.term.size + columns[self._own])

    @cached_property
    def _to_core(self) -> Floats:
        """Rows of L to the core's basis."""
        return np.ascontiguousarray(self.term.inverse_basis[:, self.order])

    def _factor(self, x: Floats, c: float) -> Floats:
        L = np.zeros((self.term.size, self.term.size))
        if self._pair:
            L.flat[self._flat] = x[:-1]
            L[1, 0], L[1, 1] = x[-1] * sin(c), x[-1] * cos(c)
            return L
        L.flat[self._flat] = x
        if self._single:
            L[0, 0] = c
        return L

    def psi(self, x: Floats, c: float) -> Floats:
        L = self._factor(x, c)
        out = np.empty_like(L)
        out[np.ix_(self.order, self.order)] = L @ L.T
        return out

    def pull(self, x: Floats, c: float, G: Floats) -> tuple[Floats, float]:
        A = self._to_core
        dL = 2.0 * (A.T @ (G @ (A @ self._factor(x, c))))
        own = dL.ravel()[self._flat]
        if not self._pair:
            return own, float(dL[0, 0]) if self._single else 0.0
        sine, cosine, first, second = sin(c), cos(c), float(dL[1, 0]), float(dL[1, 1])
        radial = sine * first + cosine * second
        return np.append(own, radial), float(x[-1]) * (cosine * first - sine * second)

    def phi(self, x: Floats, c: float) -> Floats:
        if self.term.term.structure == "us":
            K = self._to_core @ self._factor(x, c)
            return _core.trapezoid(K @ K.T, self.term.size)
        return self.term.core_phi(lower_factor(self.psi(x, c))[self._entries])

    def inside(self, x: Floats, c: float) -> bool:
        diagonal = np.abs(self._factor(x, c).diagonal())
        return bool((diagonal > CLEAR * self._sizes).all())

    def place(self, psi: Floats, theta: Floats | None) -> tuple[Floats, float]:
        rows, columns = self._entries
        L = lower_factor(psi[np.ix_(self.order, self.order)])
        own = L[rows[self._own], columns[self._own]]
        if not self._pair:
            return own, float(L[0, 0])
        t = float(np.hypot(L[1, 0], L[1, 1]))
        return np.append(own, t), float(np.arctan2(L[1, 0], L[1, 1]))


@dataclass(frozen=True, eq=False)
class DiagonalChart(Chart):
    """Psi = diag(x^2), signs free."""

    @cached_property
    def entries(self) -> NDArray[np.intp]:
        kept = [k for k in range(self.term.size) if self.held is None or k != self.held.columns[0]]
        return np.array(kept, dtype=np.intp)

    @property
    def units(self) -> Floats:
        return np.abs(np.diag(self.term.basis))[self.entries]

    def _roots(self, x: Floats, c: float) -> Floats:
        out = np.empty(self.term.size)
        out[self.entries] = x
        if self.held is not None:
            out[self.held.columns[0]] = c
        return out

    def psi(self, x: Floats, c: float) -> Floats:
        return np.diag(self._roots(x, c) ** 2)

    def pull(self, x: Floats, c: float, G: Floats) -> tuple[Floats, float]:
        slope = 2.0 * self._roots(x, c) * np.diag(self._user(G))
        by_c = 0.0 if self.held is None else float(slope[self.held.columns[0]])
        return slope[self.entries], by_c

    def phi(self, x: Floats, c: float) -> Floats:
        return np.asarray(self._roots(x, c) / np.diag(self.term.basis))

    def inside(self, x: Floats, c: float) -> bool:
        return bool(np.abs(self.phi(x, c)).min() > CLEAR)

    def place(self, psi: Floats, theta: Floats | None) -> tuple[Floats, float]:
        roots = np.sqrt(np.maximum(np.diag(psi), 0.0))
        return roots[self.entries], 0.0 if self.held is None else float(roots[self.held.columns[0]])


@dataclass(frozen=True, eq=False)
class StructureChart(Chart):
    """The unbounded parameters of any other structure (`Structure.to_phi`).

    What is held is one of them: c, or -c where the reported parameter falls in it.
    """

    @cached_property
    def entries(self) -> NDArray[np.intp]:
        entry = -1 if self.held is None else self.held.entry
        return np.array([k for k in range(self.term.count) if k != entry], dtype=np.intp)

    @property
    def _sign(self) -> float:
        return -1.0 if self.held is not None and self.held.kind == "range" else 1.0

    @cached_property
    def exponents(self) -> Floats:
        kinds = [p.kind for p in self.term.structure.parameters(self.term.term.names)]
        own = {"sd": 1.0 / self.power, "loading": 1.0}
        return np.array([own.get(kind, 0.0) for kind in kinds])[self.entries]

    @property
    def units(self) -> Floats:
        return self._units(0.5)[self.entries]

    def _units(self, other: float) -> Floats:
        """Sizes (k,) of phi: of those that have the unit of an effect, and of others."""
        kinds = [p.kind for p in self.term.structure.parameters(self.term.term.names)]
        scale = float(np.abs(self.term.basis[0, 0]))
        own = {"sd": scale if self._linear else np.sqrt(scale), "loading": scale}
        return np.array([own.get(kind, other) for kind in kinds])

    @property
    def _linear(self) -> bool:
        """Whether an sd is its phi itself, not the square."""
        return bool(getattr(self.term.structure, "homogeneous", True))

    @property
    def ends(self) -> tuple[float, float]:
        assert self.held is not None
        if self.held.kind == "corr":
            return (-RIGHT_ANGLE, RIGHT_ANGLE)
        if self.term.term.structure == "mat" and self.held.kind != "sd":
            return (-np.inf, np.inf)
        return (-np.inf, 0.0) if self._sign < 0 else (0.0, np.inf)

    @property
    def power(self) -> int:
        return 1 if self._linear else 2

    @property
    def reading(self) -> Reading:
        assert self.held is not None
        return Reading(structure=self.term.structure, entry=self.held.entry, sign=self._sign)

    def _full(self, x: Floats, c: float) -> Floats:
        out = np.empty(self.term.count)
        out[self.entries] = x
        if self.held is not None:
            out[self.held.entry] = self._sign * c
        return out

    def psi(self, x: Floats, c: float) -> Floats:
        structure = self.term.structure
        return structure.psi(structure.from_phi(self._full(x, c)))

    def pull(self, x: Floats, c: float, G: Floats) -> tuple[Floats, float]:
        structure, phi = self.term.structure, self._full(x, c)
        dpsi = structure.derivatives(structure.from_phi(phi))
        by_theta = np.einsum("kij,ij->k", dpsi, self._user(G))
        by_phi, sizes = np.empty(len(phi)), self._units(1.0)
        for k in range(len(phi)):
            step = np.zeros(len(phi))
            step[k] = SMALL * max(sizes[k], abs(phi[k]))
            change = structure.from_phi(phi + step) - structure.from_phi(phi - step)
            by_phi[k] = change @ by_theta / (2 * step[k])
        by_c = 0.0 if self.held is None else float(self._sign * by_phi[self.held.entry])
        return by_phi[self.entries], by_c

    def phi(self, x: Floats, c: float) -> Floats:
        return self.term.core_phi(self._full(x, c))

    def inside(self, x: Floats, c: float) -> bool:
        # the ends of its ranges are interior points of phi, which the search passes
        return True

    def place(self, psi: Floats, theta: Floats | None) -> tuple[Floats, float]:
        assert theta is not None
        phi = self.term.structure.to_phi(theta)
        by_c = 0.0 if self.held is None else float(self._sign * phi[self.held.entry])
        return phi[self.entries], by_c


def chart(term: Term, held: Held | None = None) -> Chart:
    """Return the coordinates of a term's covariance matrix."""
    kind = term.term.structure
    if kind in ROWWISE:
        return FactorChart(term, held)
    return DiagonalChart(term, held) if kind == "diag" else StructureChart(term, held)


def holdable(term: Term, held: Held) -> bool:
    """Tell whether a chart of the term can hold a parameter.

    A correlation at a lag above one of `toep` and `homtoep`, and what follows from the loadings of
    `rr`, are functions of several coordinates.
    """
    kind = term.term.structure
    if kind in (*ROWWISE, "diag"):
        return True
    first = {"toep": term.size, "homtoep": 1}.get(kind)
    return kind != "rr" and not (first is not None and held.kind == "corr" and held.entry > first)
