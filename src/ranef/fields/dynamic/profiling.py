"""The likelihood of a dynamic model with one parameter held, for profiles.

A placement writes all parameters as a function of free coordinates x and of c, that of the
parameter held: a coefficient itself; a standard deviation, with the direction of its row of L
free; a correlation sin(c) of two rows of L, with their lengths and the rest of their
directions free. Its Jacobian carries the exact scores back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives.profiled import Evaluation, Slice
from ranef.fields.dynamic.estimate import DynamicEstimate
from ranef.fields.dynamic.parameters import ZERO, phi_of, size_of
from ranef.fields.dynamic.problem import Nodes, Problem, Rule
from ranef.fields.dynamic.reading import DISPERSION, INERTIA
from ranef.fields.dynamic.search import scaled
from ranef.inference.coefficients.parameter_list import ModelParameter
from ranef.solve.charts import Reading

__all__ = ["slice_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
KICK = 0.3
"""Step off a zero effect, in units of its entry of L."""
SMALL = 1e-30


@dataclass(frozen=True, eq=False)
class Placement(ABC):
    """All parameters from free coordinates and one that is held.

    Attributes
    ----------
    theta : (P,) float64 array
        The optimum.
    rest : (.,) int array
        Parameters that are coordinates themselves, the first of x.
    """

    theta: Floats
    rest: Ints

    @property
    @abstractmethod
    def start(self) -> tuple[Floats, float]:
        """X and c at the optimum."""

    @abstractmethod
    def place(self, x: Any, c: Any) -> Any:
        """The parameters; analytic, so that complex steps differentiate it."""

    def jacobian(self, x: Floats, c: float) -> Floats:
        """Derivatives (P, k + 1) in x and c."""
        at = np.append(x, c).astype(np.complex128)
        out = np.empty((len(self.theta), len(at)))
        for i in range(len(at)):
            moved = at.copy()
            moved[i] += SMALL * 1j
            out[:, i] = self.place(moved[:-1], moved[-1]).imag / SMALL
        return out

    def _rest(self, x: Any) -> Any:
        out = self.theta.astype(x.dtype)
        out[self.rest] = x[: len(self.rest)]
        return out


@dataclass(frozen=True, eq=False)
class Coefficient(Placement):
    """A coefficient held."""

    which: int

    @property
    def start(self) -> tuple[Floats, float]:
        return self.theta[self.rest], float(self.theta[self.which])

    def place(self, x: Any, c: Any) -> Any:
        out = self._rest(x)
        out[self.which] = c
        return out


@dataclass(frozen=True, eq=False)
class Deviation(Placement):
    """A standard deviation held: the length of a row of L, whose direction is free.

    Attributes
    ----------
    own : (m,) int array
        Entries of the row.
    sd : float
    direction : (m,) float64 array
    turns : (m, m - 1) float64 array
        Orthogonal to it.
    """

    own: Ints
    sd: float
    direction: Floats
    turns: Floats

    @property
    def start(self) -> tuple[Floats, float]:
        return np.append(self.theta[self.rest], np.zeros(self.turns.shape[1])), self.sd

    def place(self, x: Any, c: Any) -> Any:
        out, q = self._rest(x), x[len(self.rest) :]
        out[self.own] = c * (self.direction + self.turns @ q) / np.sqrt(1 + q @ q)
        return out


@dataclass(frozen=True, eq=False)
class Correlation(Placement):
    """A correlation held, sin(c) of the rows `first` and `own` of L.

    Attributes
    ----------
    first : (l,) int array
        Entries of the first row, whose columns lead those of the second.
    own : (m,) int array
        Entries of the second.
    sd, angle : float
        Length of the second row, and c, at the optimum.
    across : (m,) float64 array
        Its direction orthogonal to the first row.
    turns : (m, m - 2) float64 array
        Orthogonal to both.
    """

    first: Ints
    own: Ints
    sd: float
    angle: float
    across: Floats
    turns: Floats

    @property
    def start(self) -> tuple[Floats, float]:
        free = np.zeros(self.turns.shape[1])
        return np.concatenate([self.theta[self.rest], [self.sd], free]), self.angle

    def place(self, x: Any, c: Any) -> Any:
        out, n = self._rest(x), len(self.rest)
        u = np.zeros(len(self.own), dtype=x.dtype)
        u[: len(self.first)] = out[self.first]
        u = u / np.sqrt(u @ u)
        w = self.across + self.turns @ x[n + 1 :]
        w = w - u * (u @ w)
        out[self.own] = x[n] * (np.sin(c) * u + np.cos(c) * w / np.sqrt(w @ w))
        return out


@dataclass(frozen=True, eq=False)
class ByLink(Reading):
    """What a predictor is of: phi, or a standard deviation."""

    natural: Callable[[Floats], Floats] = np.exp

    def __call__(self, c: float) -> float:
        return float(self.natural(np.array(c)))


@dataclass(frozen=True, eq=False, kw_only=True)
class DynamicSlice(Slice):
    """-2 log L of a dynamic model with one parameter held; nodes stand at the modes.

    Attributes
    ----------
    problem : Problem
    rule : Rule
    nodes : Nodes
        At the optimum, where modes are looked for from.
    placement : Placement
    read : Reading
    zero : (k,) bool array
        Coordinates of effects that are zero.
    """

    problem: Problem
    rule: Rule
    nodes: Nodes
    placement: Placement
    read: Reading
    zero: NDArray[np.bool_]

    @property
    def reading(self) -> Reading:
        return self.read

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        theta = self.placement.place(x, c)
        found = self.problem.evaluate(theta, self.rule, self.problem.nodes(theta, self.nodes.mode))
        value = -2 * float(found.loglik.sum())
        if not np.isfinite(value):
            return Evaluation(np.inf, np.zeros(len(x)), np.nan, {})
        g = -2 * found.scores.sum(axis=0) @ self.placement.jacobian(x, c)
        return Evaluation(value, g[:-1], float(g[-1]), {})

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        """The criterion is even about a zero effect: whether it falls off it is tried."""
        if not self.zero.any():
            return None
        still = self.zero & (np.abs(x) < 0.01 * self.units)
        moved = np.where(still, KICK * self.units, x)
        return moved if still.any() and self.evaluate(moved, c).value < at.value - 1e-6 else None


@dataclass(frozen=True, eq=False)
class Placements:
    """The placements of a fit's parameters."""

    estimate: DynamicEstimate

    @cached_property
    def rows(self) -> list[Ints]:
        """Entries of L of each effect, as places in theta, by column."""
        layout = self.estimate.layout
        i, _ = layout.entries
        return [np.flatnonzero(i == j) + layout.of_factor.start for j in range(layout.r)]

    def _others(self, *held: Ints) -> Ints:
        every = np.arange(self.estimate.layout.size)
        return np.setdiff1d(every, np.concatenate(held))

    def coefficient(self, k: int) -> Placement:
        """A coefficient, or what inertia and dispersion of the typical person are made of."""
        return Coefficient(self.estimate.end.theta, self._others(np.array([k])), k)

    def deviation(self, j: int) -> Placement:
        """The standard deviation of effect j."""
        theta, own = self.estimate.end.theta, self.rows[j]
        row = theta[own]
        sd = float(np.linalg.norm(row))
        last = np.eye(len(own))[-1]
        direction = row / sd if sd > ZERO else last
        sd = sd if sd > ZERO else 0.0
        return Deviation(theta, self._others(own), own, sd, direction, _complement([direction]))

    def correlation(self, k: int, j: int) -> Placement | None:
        """The correlation of effects k < j; None where one of them is zero."""
        theta, first, own = self.estimate.end.theta, self.rows[k], self.rows[j]
        u, row = np.zeros(len(own)), theta[own]
        u[: len(first)] = theta[first]
        lengths = float(np.linalg.norm(u)), float(np.linalg.norm(row))
        if min(lengths) <= ZERO:
            return None
        u = u / lengths[0]
        rho = float(np.clip(u @ row / lengths[1], -1.0, 1.0))
        across = row - u * (u @ row)
        if float(np.linalg.norm(across)) <= 1e-9 * lengths[1]:
            across = _complement([u])[:, -1]
        across = across / np.linalg.norm(across)
        turns = _complement([u, across])
        angle = float(np.arcsin(rho))
        return Correlation(theta, self._others(own), first, own, lengths[1], angle, across, turns)


def _complement(vectors: Sequence[Floats]) -> Floats:
    """Orthonormal columns orthogonal to some vectors."""
    V = np.column_stack(vectors)
    q, _ = np.linalg.qr(np.column_stack([V, np.eye(len(V))]))
    return np.asarray(q[:, V.shape[1] :])


def slice_of(
    estimate: DynamicEstimate, parameter: ModelParameter, threads: int
) -> DynamicSlice | None:
    """The slice of a parameter; None of a correlation with an effect that does not vary."""
    found = _placement(estimate, parameter)
    if found is None:
        return None
    placement, read, ends = found
    x, c = placement.start
    J = placement.jacobian(x, c) / _units(estimate)[:, None]
    size = np.sqrt((J**2).sum(axis=0))
    size[size == 0] = 1.0
    zero = np.zeros(len(x), dtype=np.bool_)
    zero[: len(placement.rest)] = estimate.end.zero[placement.rest]
    return DynamicSlice(
        charts=(), x=x, c=c, units=1 / size[:-1], unit=float(1 / size[-1]), ends=ends,
        problem=replace(estimate.problem, threads=threads), rule=estimate.rule,
        nodes=estimate.nodes, placement=placement, read=read, zero=zero,
    )  # fmt: skip


def _units(estimate: DynamicEstimate) -> Floats:
    """Standard errors; of entries of L at zero a tenth of the size of their effect's unit."""
    error = np.sqrt(np.maximum(np.diag(estimate.covariance), 0.0))
    unit = scaled(estimate.problem).unit
    return np.where(np.isfinite(error) & (error > 1e-6 * unit), np.minimum(error, unit), unit / 10)


def _placement(
    estimate: DynamicEstimate, parameter: ModelParameter
) -> tuple[Placement, Reading, tuple[float, float]] | None:
    made, layout = Placements(estimate), estimate.layout
    whole = (-np.inf, np.inf)
    if parameter.fixed:
        return made.coefficient(parameter.coefficient), Reading(), whole
    if parameter.component == "residual":
        part = INERTIA if parameter.kind == "phi" else DISPERSION
        memory = estimate.memory
        natural = size_of if part == DISPERSION else (lambda eta: phi_of(memory, eta))
        return made.coefficient(layout.slices[part].start), ByLink(natural=natural), whole
    assert parameter.held is not None
    columns = parameter.held.columns
    if parameter.kind == "sd":
        return made.deviation(columns[0]), Reading(), (0.0, np.inf)
    placement = made.correlation(*columns)
    return None if placement is None else (placement, Reading(sine=True), (-np.pi / 2, np.pi / 2))
