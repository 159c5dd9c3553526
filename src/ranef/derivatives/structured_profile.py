"""Slices of a linear model whose residuals have a structure, see `profiled`.

Coordinates are those of the charts of the random terms, of the residuals' parameters (their
logarithm where they are positive), and log sigma where a random effect's standard deviation is
held. What is held is a coordinate too: the others are optimised without a constraint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import asin, cos, exp, log, pi, sin, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import lower_entries
from ranef.derivatives.profiled import Evaluation, Slice
from ranef.solve.charts import Chart, Held, Reading, chart, holdable
from ranef.solve.parametrisation import Term
from ranef.solve.structured.problem import (
    Along,
    HeldCombination,
    StructuredProblem,
    structured_problem,
)

if TYPE_CHECKING:
    from ranef.models.records import LinearEstimate

__all__ = [
    "HeldResidual",
    "structured_coefficient_slice",
    "structured_covariance_slice",
    "structured_residual_slice",
]

Floats = NDArray[np.float64]

MARGIN = 1e-6
"""How near to the end of its range a parameter is held."""
WIDE = 12.0
"""Logarithm of the factor by which a positive parameter may leave its estimate."""
LEAST = 1e-3
UNDEFINED = 1e-9


@dataclass(frozen=True)
class HeldResidual:
    """The parameter of the residuals that a slice holds, as `ResidualParameter` has it.

    Attributes
    ----------
    kind : str
    entry : int
    variances : tuple of int
    covariance : int
    """

    kind: str
    entry: int
    variances: tuple[int, ...] = ()
    covariance: int = -1

    @property
    def is_size(self) -> bool:
        """Whether it is a standard deviation: sigma times a function of theta."""
        return self.kind == "sd"


@dataclass(frozen=True, eq=False)
class _Ranged(Reading):
    """A parameter, or its logarithm, between the ends of its range."""

    logarithm: bool = False
    low: float = -np.inf
    high: float = np.inf
    limits: tuple[float, float] = (-np.inf, np.inf)

    def __call__(self, c: float) -> float:
        if c <= self.low:
            return self.limits[0]
        if c >= self.high:
            return self.limits[1]
        return exp(c) if self.logarithm else c


@dataclass(frozen=True, eq=False, kw_only=True)
class _Structured(Slice):
    """Of a model whose residuals have a structure, sigma profiled out.

    x has the charts' coordinates, then the residuals' parameters that are not held.

    Attributes
    ----------
    problem : StructuredProblem
    reml : bool
    given : (k,) float64 array
        The residuals' parameters at the optimum.
    """

    problem: StructuredProblem
    reml: bool
    given: Floats

    @cached_property
    def _kept(self) -> NDArray[np.intp]:
        """Which of the residuals' parameters are coordinates."""
        return _with_meaning(self.problem, self.given)

    @cached_property
    def _logs(self) -> NDArray[np.bool_]:
        return self.problem.rows.positive[self._kept]

    def _own(self, x: Floats, c: float) -> Floats:
        """The residuals' parameters (k,)."""
        own = self.given.copy()
        part = x[self._count : self._count + len(self._kept)]
        with np.errstate(over="ignore"):
            own[self._kept] = np.where(self._logs, np.exp(np.where(self._logs, part, 0.0)), part)
        return own

    def _pulled(self, own: Floats, by_own: Floats) -> Floats:
        """Derivatives in the coordinates of the residuals' parameters."""
        return np.where(self._logs, own[self._kept], 1.0) * by_own[self._kept]

    def _psis(self, x: Floats, c: float) -> list[Floats]:
        return [chart_.psi(x[cut], c) for chart_, cut, _, _ in self._places]

    def _at(self, x: Floats, c: float, own: Floats) -> Along | None:
        if not np.all(np.isfinite(x)):
            return None
        return self.problem.along(self._psis(x, c), own, self.reml)

    def _broken(self) -> Evaluation:
        return Evaluation(np.inf, np.zeros(len(self.x)), 0.0, {})

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        own = self._own(x, c)
        at = self._at(x, c, own)
        if at is None:
            return self._broken()
        m = at.degrees
        value = at.log_determinant + m * (1.0 + log(2.0 * pi * at.r2 / m))
        along = at.traces - m / at.r2 * at.scores
        found = self._found(along)
        by_x, slope = self._pull(x, c, found)
        by_own = along[len(along) - len(own) :]
        gradient = np.concatenate([by_x, self._pulled(own, by_own)])
        return Evaluation(value, gradient, self._slope(x, c, own, at, slope, by_own), found)

    def _slope(
        self, x: Floats, c: float, own: Floats, at: Along, by_chart: float, by_own: Floats
    ) -> float:
        return by_chart

    def _found(self, along: Floats) -> dict[str, Any]:
        """Derivatives with respect to Psi of each term, in the basis of its chart."""
        out, first = [], 0
        for chart_ in self.charts:
            size = chart_.term.size
            rows, columns = lower_entries(size)
            part = along[first : first + len(rows)]
            first += len(rows)
            G = np.zeros((size, size))
            G[rows, columns] = G[columns, rows] = np.where(rows == columns, part, part / 2.0)
            basis = chart_.term.basis
            out.append(basis.T @ G @ basis)
        return {"psi_gradient": out}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Coefficient(_Structured):
    """c = beta_j - its estimate.

    Attributes
    ----------
    centre : float
    held : HeldCombination
        At the estimate.
    """

    centre: float
    held: HeldCombination

    @property
    def reading(self) -> Reading:
        return Reading(shift=self.centre)

    def _at(self, x: Floats, c: float, own: Floats) -> Along | None:
        if not np.all(np.isfinite(x)):
            return None
        held = HeldCombination(self.held.a, self.held.value + c / self.problem.scale)
        return self.problem.along(self._psis(x, c), own, self.reml, held)

    def _slope(
        self, x: Floats, c: float, own: Floats, at: Along, by_chart: float, by_own: Floats
    ) -> float:
        return at.degrees / at.r2 * at.slope / self.problem.scale


@dataclass(frozen=True, eq=False, kw_only=True)
class _Random(_Structured):
    """c is held by the chart of a term, and sigma is profiled out.

    Attributes
    ----------
    place : int
    """

    place: int

    @property
    def reading(self) -> Reading:
        return self.charts[self.place].reading


@dataclass(frozen=True, eq=False, kw_only=True)
class _Deviation(_Structured):
    """c is a standard deviation of a random effect, or its root; x ends in log sigma.

    Attributes
    ----------
    place : int
        Of the chart, which holds the standard deviation relative to sigma.
    """

    place: int

    @property
    def _power(self) -> int:
        return self.charts[self.place].power

    @property
    def reading(self) -> Reading:
        return Reading(power=self._power)

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        if not np.all(np.isfinite(x)) or abs(x[-1]) > 300:
            return self._broken()
        own, relative = self._own(x, c), self._relative(x, c)
        at = self.problem.along(self._psis(x, relative), own, self.reml)
        if at is None:
            return self._broken()
        m, r2 = at.degrees, at.r2 / exp(2.0 * x[-1]) * self.problem.scale**2
        log_unit = log(2.0 * pi) + 2.0 * (x[-1] - log(self.problem.scale))
        along = at.traces - at.scores * (r2 / at.r2)
        found = self._found(along)
        by_x, by_relative = self._pull(x, relative, found)
        by_own = along[len(along) - len(own) :]
        by_sigma = 2.0 * (m - r2) - by_relative * relative / self._power
        gradient = np.concatenate([by_x, self._pulled(own, by_own), [by_sigma]])
        slope = by_relative * exp(-x[-1] / self._power)
        return Evaluation(at.log_determinant + m * log_unit + r2, gradient, slope, found)

    def _relative(self, x: Floats, c: float) -> float:
        return c * exp(-x[-1] / self._power)

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        return super().leave(x, self._relative(x, c), at)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Entry(_Structured):
    """c is a parameter of the residuals, or its logarithm.

    Attributes
    ----------
    held : HeldResidual
    range : _Ranged
    """

    held: HeldResidual
    range: _Ranged

    @property
    def reading(self) -> Reading:
        return self.range

    @cached_property
    def _kept(self) -> NDArray[np.intp]:
        every = super()._kept
        return np.asarray(every[every != self.held.entry])

    def _own(self, x: Floats, c: float) -> Floats:
        own = super()._own(x, c)
        own[self.held.entry] = exp(c) if self.range.logarithm else c
        return own

    def _slope(
        self, x: Floats, c: float, own: Floats, at: Along, by_chart: float, by_own: Floats
    ) -> float:
        own_slope = float(by_own[self.held.entry])
        return own_slope * float(own[self.held.entry]) if self.range.logarithm else own_slope


@dataclass(frozen=True, eq=False, kw_only=True)
class _Correlation(_Structured):
    """c is the inverse sine of a correlation of unstructured residuals.

    Attributes
    ----------
    held : HeldResidual
    """

    held: HeldResidual

    @property
    def reading(self) -> Reading:
        return Reading(sine=True)

    @cached_property
    def _kept(self) -> NDArray[np.intp]:
        every = super()._kept
        return np.asarray(every[every != self.held.covariance])

    def _own(self, x: Floats, c: float) -> Floats:
        own = super()._own(x, c)
        own[self.held.covariance] = sin(c) * self._size(own)
        return own

    def _size(self, own: Floats) -> float:
        """Product of both standard deviations, NaN where one is not."""
        product = 1.0
        for entry in self.held.variances:
            product *= 1.0 if entry < 0 else float(own[entry])
        return sqrt(product) if product > 0 else float("nan")

    def _pulled(self, own: Floats, by_own: Floats) -> Floats:
        out = by_own.copy()
        for entry in self.held.variances:
            if entry >= 0:
                share = own[self.held.covariance] / (2.0 * own[entry])
                out[entry] += share * by_own[self.held.covariance]
        return super()._pulled(own, out)

    def _slope(
        self, x: Floats, c: float, own: Floats, at: Along, by_chart: float, by_own: Floats
    ) -> float:
        return float(by_own[self.held.covariance]) * cos(c) * self._size(own)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Size(_Structured):
    """c is a standard deviation of the residuals: sigma times a function h of the others.

    Attributes
    ----------
    held : HeldResidual
    """

    held: HeldResidual

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        own = self._own(x, c)
        log_h, by_h = self._relative(own)
        at = self._at(x, c, own) if c > 0 and np.isfinite(log_h) else None
        if at is None:
            return self._broken()
        log_sigma = log(c / self.problem.scale) - log_h
        m, r2 = at.degrees, at.r2 * exp(-2.0 * log_sigma)
        along = at.traces - at.scores * exp(-2.0 * log_sigma)
        found = self._found(along)
        by_x, _ = self._pull(x, c, found)
        by_sigma = 2.0 * (m - r2)
        by_own = along[len(along) - len(own) :] - by_sigma * by_h
        value = at.log_determinant + m * (log(2.0 * pi) + 2.0 * log_sigma) + r2
        gradient = np.concatenate([by_x, self._pulled(own, by_own)])
        return Evaluation(value, gradient, by_sigma / c, found)

    def _relative(self, own: Floats) -> tuple[float, Floats]:
        """Log h, and its derivatives (k,)."""
        by_h = np.zeros(len(own))
        if self.held.entry >= 0:
            by_h[self.held.entry] = 1.0
            return float(own[self.held.entry]), by_h
        entry = self.held.variances[0] if self.held.variances else -1
        if entry < 0:
            return 0.0, by_h
        variance = float(own[entry])
        if not variance > 0:
            return float("nan"), by_h
        by_h[entry] = 0.5 / variance
        return 0.5 * log(variance), by_h


def structured_coefficient_slice(estimate: LinearEstimate, j: int) -> Slice:
    """Slice the likelihood at a fixed effect."""
    problem, common = _common(estimate)
    common["reml"] = False
    a = np.asarray(problem.fixed.transform[j], dtype=np.float64)
    centre = float(estimate.beta[j])
    held = HeldCombination(a, (centre - float(a @ problem.taken)) / problem.scale)
    charts, x, units = _coordinates(estimate, problem)
    return _Coefficient(
        charts=charts, x=x, c=0.0, units=units, centre=centre, held=held,
        unit=float(np.sqrt(estimate.coefficient_vcov[j, j])), **common,
    )  # fmt: skip


def structured_covariance_slice(estimate: LinearEstimate, t: int, held: Held) -> Slice | None:
    """Slice the criterion at a parameter of random term t, see `profiled.covariance_slice`."""
    problem, common = _common(estimate)
    term = _terms(problem)[t]
    if not holdable(term, held) or _undefined(estimate.covariances[t], held):
        return None
    charts, x, units = _coordinates(estimate, problem, chosen=(t, held))
    relative = estimate.covariances[t] / estimate.sigma**2
    c = charts[t].place(relative, problem.split(estimate.theta)[0][t])[1]
    common |= {"charts": charts, "place": t, "ends": charts[t].ends}
    if held.kind != "sd":
        return _Random(x=x, c=c, units=units, unit=0.3, **common)
    to_user = estimate.sigma ** (1.0 / charts[t].power)
    modest = 0.1 * float(term.basis[held.columns[0] if held.columns else 0].max())
    return _Deviation(
        x=np.append(x, log(estimate.sigma)), c=c * to_user, units=np.append(units, 0.1),
        unit=to_user * modest, **common,
    )  # fmt: skip


def structured_residual_slice(estimate: LinearEstimate, held: HeldResidual) -> Slice:
    """Slice the criterion at a parameter of the residuals."""
    problem, common = _common(estimate)
    own = problem.split(estimate.theta)[1]
    if held.is_size:
        charts, x, units = _coordinates(estimate, problem)
        made = _Size(charts=charts, x=x, c=1.0, units=units, unit=1.0, held=held, **common)
        c = estimate.sigma * exp(made._relative(own)[0])
        return _Size(
            charts=charts, x=x, c=c, units=units, unit=0.1 * c, held=held,
            ends=(LEAST * c, np.inf), least=0.0, **common,
        )  # fmt: skip
    if held.covariance >= 0:
        charts, x, units = _coordinates(estimate, problem, left_out=held.covariance)
        size = np.prod([own[e] if e >= 0 else 1.0 for e in held.variances])
        corr = float(np.clip(own[held.covariance] / np.sqrt(size), -1.0, 1.0))
        edge = pi / 2 - MARGIN
        return _Correlation(
            charts=charts, x=x, c=asin(corr), units=units, unit=0.1, held=held,
            ends=(-edge, edge), **common,
        )  # fmt: skip
    charts, x, units = _coordinates(estimate, problem, left_out=held.entry)
    range_ = _range(problem, held.entry, float(own[held.entry]))
    value = float(own[held.entry])
    unit = 0.3 if range_.logarithm else 0.1 * float(problem.units[problem.n_random + held.entry])
    return _Entry(
        charts=charts, x=x, c=log(value) if range_.logarithm else value, units=units, unit=unit,
        held=held, range=range_, ends=(range_.low, range_.high),
        least=range_.limits[0] if np.isfinite(range_.limits[0]) else None, **common,
    )  # fmt: skip


def _range(problem: StructuredProblem, entry: int, value: float) -> _Ranged:
    low, high = (float(end) for end in problem.rows.limits[entry])
    if problem.rows.positive[entry]:
        return _Ranged(
            logarithm=True, low=log(value) - WIDE, high=log(value) + WIDE, limits=(0.0, np.inf)
        )
    return _Ranged(low=low + MARGIN, high=high - MARGIN, limits=(low, high))


def _common(estimate: LinearEstimate) -> tuple[StructuredProblem, dict[str, Any]]:
    problem = structured_problem(estimate.specification)
    own = problem.split(estimate.theta)[1]
    return problem, {"problem": problem, "reml": estimate.reml, "given": own}


def _with_meaning(problem: StructuredProblem, own: Floats) -> NDArray[np.intp]:
    """The residuals' parameters on which their covariance depends, at a nugget of zero too."""
    return np.flatnonzero(problem.rows.loose(own) | (own == 0.0))


def _terms(problem: StructuredProblem) -> tuple[Term, ...]:
    """The random terms as charts read them: each a block of its own, columns of size one."""
    out = []
    for t, (term, structure) in enumerate(zip(problem.spec.terms, problem.structures, strict=True)):
        size = np.sqrt(np.mean(term.z**2, axis=0))
        unit = 1.0 / np.where(size > 0, size, 1.0)
        if term.structure not in ("us", "diag", "kernel"):
            unit = np.full(len(unit), float(np.exp(np.mean(np.log(unit)))))
        out.append(Term(term, t, 0, 0, structure, np.diag(unit)))
    return tuple(out)


def _coordinates(
    estimate: LinearEstimate,
    problem: StructuredProblem,
    chosen: tuple[int, Held] | None = None,
    left_out: int | None = None,
) -> tuple[tuple[Chart, ...], Floats, Floats]:
    """Charts, the coordinates of the optimum, and their units."""
    parts, own = problem.split(estimate.theta)
    charts, xs, units = [], [np.empty(0)], [np.empty(0)]
    for t, (term, part, psi) in enumerate(
        zip(_terms(problem), parts, estimate.covariances, strict=True)
    ):
        made = chart(term, chosen[1] if chosen is not None and chosen[0] == t else None)
        charts.append(made)
        xs.append(made.place(psi / estimate.sigma**2, part)[0])
        units.append(made.units)
    logs, sizes = problem.rows.positive, problem.units[problem.n_random :]
    every = _with_meaning(problem, own)
    kept = every[every != left_out] if left_out is not None else every
    safe = np.where(logs, own, 1.0)
    xs.append(np.where(logs, np.log(safe), own)[kept])
    units.append(np.where(logs, 0.3, 0.1 * _spread(problem, own, sizes))[kept])
    return tuple(charts), np.concatenate(xs), np.concatenate(units)


def _spread(problem: StructuredProblem, own: Floats, sizes: Floats) -> Floats:
    """Size of a change of each parameter: that of the parameter, of those without a limit."""
    free = ~np.isfinite(problem.rows.limits).all(axis=1)
    return np.where(free, np.maximum(sizes, np.abs(own)), sizes)


def _undefined(psi: Floats, held: Held) -> bool:
    """Tell whether a parameter does not exist since something does not vary."""
    if held.kind == "sd":
        return False
    variances = np.diag(psi)
    own = variances[list(held.columns)] if held.columns else variances
    return bool(np.any(own <= UNDEFINED * max(float(variances.max()), 1e-300)))
