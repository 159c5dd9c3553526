"""The criterion of a model as a smooth function of one parameter and coordinates of the rest.

A slice has coordinates x of everything that is optimised and c of the parameter that
is held; `inference.profile` walks along c. Nothing here searches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.solve.assembly import Assembly, assemble
from ranef.solve.charts import Chart, Held, Reading, chart, holdable
from ranef.solve.parametrisation import Parametrisation, Term, joined
from ranef.solve.predictors import GeneralisedAssembly, assemble_generalised
from ranef.solve.problem import GeneralisedDesign

if TYPE_CHECKING:
    from ranef.models.records import GeneralisedEstimate, LinearEstimate

__all__ = [
    "Evaluation",
    "Held",
    "Slice",
    "coefficient_slice",
    "covariance_slice",
    "generalised_slice",
    "scale_slice",
]

Floats = NDArray[np.float64]

NULL = 1e-9
KICK = 0.1
LEAST = 1e-3
MOST_RELATIVE = 3000.0
"""Standard deviation over sigma at most, in multiples of the estimate's."""
OFF = 1e-6


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criterion at a point.

    Attributes
    ----------
    value : float
        Up to a constant of the slice; infinite where it breaks down.
    gradient : (k,) float64 array
        In x.
    slope : float
        In c.
    found : dict
        What the core says of the point.
    """

    value: float
    gradient: Floats
    slope: float
    found: dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(ABC):
    """The criterion with one parameter held.

    Attributes
    ----------
    charts : tuple of Chart
        One a term; they share x.
    x, c : (k,) float64 array, float
        The optimum.
    units : (k,) float64 array
        Size of a modest change of each coordinate.
    unit : float
        The same of c.
    ends : tuple of float
        Range of c.
    least : float or None
        The parameter at its lower end, where that is not what c stands for there.
    """

    charts: tuple[Chart, ...]
    x: Floats
    c: float
    units: Floats
    unit: float
    ends: tuple[float, float] = (-np.inf, np.inf)
    least: float | None = None

    @abstractmethod
    def evaluate(self, x: Floats, c: float) -> Evaluation:
        """Criterion and derivatives; NaN for a slope that is costly, which `finish` adds."""

    def finish(self, x: Floats, c: float, at: Evaluation) -> Evaluation:
        """Return the evaluation with its slope."""
        return at

    def _is_frozen(self, cut: slice) -> bool:
        """Tell whether the user holds all of these coordinates."""
        return bool(cut.start == cut.stop)

    @property
    def reading(self) -> Reading:
        """The reported parameter that c stands for."""
        return Reading()

    @cached_property
    def _places(self) -> tuple[tuple[Chart, slice, slice, slice], ...]:
        """Each chart with its part of x, of phi, and of its block's columns."""
        out, first = [], 0
        for own in self.charts:
            term, x = own.term, slice(first, first + own.count)
            phi = slice(term.offset, term.offset + term.count)
            out.append((own, x, phi, term.columns))
            first = x.stop
        return tuple(out)

    @cached_property
    def _count(self) -> int:
        """Coordinates of all charts."""
        return sum(own.count for own in self.charts)

    def _pull(self, x: Floats, c: float, found: dict[str, Any]) -> tuple[Floats, float]:
        """Derivatives in the charts' coordinates and in c, by way of Psi."""
        out, slope = np.empty(self._count), 0.0
        for own, cut, _, columns in self._places:
            G = found["psi_gradient"][own.term.block][columns, columns]
            out[cut], by_c = own.pull(x[cut], c, G)
            slope += by_c
        return out, slope

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        """Step off a boundary on which the criterion falls to the inside; None if there is none.

        There the gradient in x is zero, since the criterion is even about a zero
        column of Lambda: what tells is the derivative with respect to Psi on its
        null space.
        """
        out, moved = x.copy(), False
        for own, cut, _, _ in self._places:
            term = own.term
            free = term.term.structure in ("us", "diag") and not self._is_frozen(cut)
            if not free or own.inside(x[cut], c):
                continue
            inner = term.inverse_basis @ own.psi(x[cut], c) @ term.inverse_basis.T
            values, vectors = np.linalg.eigh(inner)
            null = vectors[:, values <= NULL * max(1.0, float(values[-1]))]
            G = at.found["psi_gradient"][term.block][term.columns, term.columns]
            if term.term.structure == "diag":
                zero = np.diag(inner) <= NULL
                null, G = np.eye(term.size)[:, zero], np.diag(np.diag(G))
            if own.held is not None and own.held.kind == "sd":
                row = term.basis[own.held.columns[0]]
                if abs(c) < NULL * float(np.linalg.norm(row)):
                    null = _without(null, row @ null / np.linalg.norm(row))
            if not null.shape[1]:
                continue
            curvature, direction = np.linalg.eigh(null.T @ G @ null)
            if curvature[0] >= -OFF * max(1.0, float(np.abs(G).max())):
                continue
            n = null @ direction[:, 0]
            wider = term.basis @ (inner + KICK**2 * np.outer(n, n)) @ term.basis.T
            out[cut] = own.place(wider, None)[0]
            moved = True
        return out if moved else None


@dataclass(frozen=True, eq=False, kw_only=True)
class _InCore(Slice):
    """Of a model that the core evaluates.

    Attributes
    ----------
    parametrisation : Parametrisation
    """

    parametrisation: Parametrisation

    def _phi(self, x: Floats, c: float) -> Floats:
        phi = np.empty(self._places_of_phi)
        for own, cut, place, _ in self._places:
            phi[place] = own.phi(x[cut], c)
        return phi

    @cached_property
    def _places_of_phi(self) -> int:
        return sum(term.count for term in self.parametrisation.terms)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Linear(_InCore):
    """Of a linear model.

    Attributes
    ----------
    assembly : Assembly
    spec : Specification
        Kept alive: the assembly knows it weakly.
    reml : bool
    y : (n,) float64 array
        The response as the core takes it, in units of `scale`.
    scale : float
    """

    assembly: Assembly
    spec: Specification
    reml: bool
    y: Floats
    scale: float

    def _broken(self) -> Evaluation:
        return Evaluation(np.inf, np.zeros(len(self.x)), 0.0, {})


@dataclass(frozen=True, eq=False, kw_only=True)
class _Coefficient(_Linear):
    """c = beta_j - its estimate; the response is y - x_j beta_j, and X has no column j.

    By the envelope, d r2 / dc = -2 x_j'P (y - x_j beta_j), and P e = W (e - X beta - Z b)
    at the coefficients and modes of e.
    """

    column: Floats
    freed: Floats
    centre: float

    @property
    def reading(self) -> Reading:
        return Reading(shift=self.centre)

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        y = self.y - c * self.freed
        found = self.assembly.core.state(y, False, self._phi(x, c), True)
        if not np.isfinite(found["criterion"]):
            return self._broken()
        gradient, _ = self._pull(x, c, found)
        return Evaluation(found["criterion"], gradient, np.nan, found)

    def finish(self, x: Floats, c: float, at: Evaluation) -> Evaluation:
        found = at.found
        if not found:
            return at
        ratio = found["degrees"] / found["rss"]
        rest = self._projected(self.y - c * self.freed, found)
        slope = -2.0 * ratio * float(self.column @ rest) / self.scale
        return replace(at, slope=slope)

    def _projected(self, y: Floats, found: dict[str, Any]) -> Floats:
        """P y, (n,)."""
        fixed = self.assembly.fixed
        rest: Floats = y - fixed.X @ (fixed.scale * found["beta"])
        for term in self.assembly.terms:
            codes = self.spec.factors[term.term.factor].codes
            b = found["modes"][term.block][:, term.columns]
            rest -= np.einsum("nr,nr->n", term.term.z, b[codes])
        return rest if self.spec.weights is None else rest * self.spec.weights


@dataclass(frozen=True, eq=False, kw_only=True)
class _Scale(_Linear):
    """c = sigma: logdets + r2 / c^2 + 2 m log c.

    The standard deviations among x are absolute, in units of the estimate of sigma: they
    hardly change with c. The criterion has a finite limit at c = 0 where the random
    effects can reproduce the response; a profile that has not crossed a thousandth
    of the estimate never will.
    """

    centre: float

    @cached_property
    def _exponents(self) -> Floats:
        return joined(own.exponents for own in self.charts)

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        if not c > 0:
            return self._broken()
        y = self.y * (self.scale / c)
        stretch = (self.centre / c) ** self._exponents
        relative = x * stretch
        found = self.assembly.core.state(y, self.reml, self._phi(relative, c), True, True)
        if not np.isfinite(found["criterion"]):
            return self._broken()
        gradient, _ = self._pull(relative, c, found)
        m, r2 = found["degrees"], found["rss"]
        value = found["criterion"] + 2.0 * m * log(c)
        by_stretch = float(gradient @ (self._exponents * relative))
        return Evaluation(value, gradient * stretch, (2.0 * (m - r2) - by_stretch) / c, found)

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        stretch = (self.centre / c) ** self._exponents
        inside = super().leave(x * stretch, c, at)
        return None if inside is None else inside / stretch


@dataclass(frozen=True, eq=False, kw_only=True)
class _Deviation(_Linear):
    """c is a standard deviation, or its root where the chart's coordinate is.

    x ends in sigma; the chart holds the sd relative to sigma. At c = 0 the criterion is
    that of the model without the column. Where random effects can reproduce the response
    (an effect for each row, as of `ar1`) the best sigma may be 0: the criterion is smooth
    and even in sigma and has a limit there; as near to it as digits allow, where the chart
    comes to `most`, it is taken for constant.

    Attributes
    ----------
    place : int
        Of the chart.
    most : float
        The coordinate of the chart, relative to sigma, at most.
    """

    place: int
    most: float

    @property
    def reading(self) -> Reading:
        return Reading(power=self.charts[self.place].power)

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        power = self.charts[self.place].power
        sigma, free = self._sigma(x, c)
        inverse = sigma ** (-1.0 / power)
        y = self.y * (self.scale / sigma)
        relative = float(c * inverse)
        found = self.assembly.core.state(y, self.reml, self._phi(x, relative), True, True)
        if not np.isfinite(found["criterion"]):
            return self._broken()
        gradient, by_relative = self._pull(x, relative, found)
        m, r2 = found["degrees"], found["rss"]
        by_log_sigma = 2.0 * (m - r2) - by_relative * relative / power
        value = found["criterion"] + 2.0 * m * log(sigma)
        slope, by_sigma = float(by_relative * inverse), by_log_sigma / float(x[-1] or 1.0)
        if not free:
            by_sigma, slope = 0.0, 2.0 * (m - r2) * power / c
        return Evaluation(value, np.append(gradient, by_sigma), slope, found)

    def _sigma(self, x: Floats, c: float) -> tuple[float, bool]:
        """Sigma, and whether it is that of x, which may have either sign."""
        own, power = abs(float(x[-1])), self.charts[self.place].power
        least = max((abs(c) / self.most) ** power, np.finfo(float).tiny)
        return max(own, least), own > least

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        sigma, _ = self._sigma(x, c)
        return super().leave(x, c * sigma ** (-1.0 / self.charts[self.place].power), at)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Relative(_Linear):
    """c is held by one chart, and sigma is profiled out."""

    place: int

    @property
    def reading(self) -> Reading:
        return self.charts[self.place].reading

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        found = self.assembly.core.state(self.y, self.reml, self._phi(x, c), True)
        if not np.isfinite(found["criterion"]):
            return self._broken()
        return Evaluation(found["criterion"], *self._pull(x, c, found), found)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Generalised(_InCore):
    """Of a generalised model: x has its free coefficients behind the charts' coordinates.

    Attributes
    ----------
    assembly : GeneralisedAssembly
    design : GeneralisedDesign
        Kept alive: the assembly knows it weakly.
    place : int
        The chart that holds c; -1 where a coefficient is held.
    coefficient : int
        Which of the outer coefficients c is, or -1.
    scale : (F, F) float64 array
        Outer coefficients = scale @ those of the core.
    frozen : (k,) bool array
        Coordinates that the user holds.
    """

    assembly: GeneralisedAssembly
    design: GeneralisedDesign
    place: int = -1
    coefficient: int = -1
    scale: Floats
    frozen: NDArray[np.bool_]

    def _is_frozen(self, cut: slice) -> bool:
        return bool(self.frozen[cut].all())

    @property
    def reading(self) -> Reading:
        return Reading() if self.place < 0 else self.charts[self.place].reading

    def _coefficients(self, x: Floats, c: float) -> Floats:
        own = x[self._count :]
        return own if self.coefficient < 0 else np.insert(own, self.coefficient, c)

    def evaluate(self, x: Floats, c: float) -> Evaluation:
        x = np.where(self.frozen, self.x, x)
        inner = np.linalg.solve(self.scale, self._coefficients(x, c))
        phi = self._phi(x, c)
        found = self.assembly.core.state(np.concatenate([phi, inner]), True)
        if not np.isfinite(found["criterion"]):
            return Evaluation(np.inf, np.zeros(len(x)), 0.0, found)
        by_beta = np.linalg.solve(self.scale.T, found["gradient"][len(phi) :])
        simple = self.assembly.nodes == 1 and self.design.penalty is None
        by_x, slope = (self._pull if simple else self._by_phi)(x, c, found)
        if self.coefficient >= 0:
            slope = float(by_beta[self.coefficient])
            by_beta = np.delete(by_beta, self.coefficient)
        gradient = np.where(self.frozen, 0.0, np.concatenate([by_x, by_beta]))
        return Evaluation(found["criterion"], gradient, slope, found)

    def leave(self, x: Floats, c: float, at: Evaluation) -> Floats | None:
        # the derivative with respect to Psi is not all that a quadrature depends on
        return None if self.assembly.nodes > 1 else super().leave(x, c, at)

    def _by_phi(self, x: Floats, c: float, found: dict[str, Any]) -> tuple[Floats, float]:
        """The same by way of the core's parameters, which a quadrature depends on."""
        by_phi = found["gradient"][: self.assembly.core.parameters]
        count = self._count
        point = np.append(x[:count], c)
        size = np.append(self.units[:count], self.unit)
        held = self.place >= 0
        out = np.zeros(count + 1)
        for k in range(count + int(held)):
            step = np.zeros(count + 1)
            step[k] = 1e-6 * max(abs(point[k]), size[k])
            up, down = point + step, point - step
            change = self._phi(up[:-1], up[-1]) - self._phi(down[:-1], down[-1])
            out[k] = change @ by_phi / (2 * step[k])
        return out[:-1], float(out[-1])


def coefficient_slice(estimate: LinearEstimate, j: int) -> Slice:
    """Slice a linear model's likelihood (never the restricted one) at a fixed effect."""
    spec = estimate.specification
    X = np.ascontiguousarray(np.delete(spec.X, j, axis=1))
    names = tuple(np.delete(np.array(spec.names, dtype=object), j))
    reduced = replace(spec, X=X, names=names)
    assembly = assemble(reduced, estimate.optimum.path)
    column = np.ascontiguousarray(spec.X[:, j])
    centre = float(estimate.beta[j])
    offset = 0.0 if spec.offset is None else spec.offset
    pair = np.stack([spec.y - offset - centre * column, column])
    freed, _, scale, _ = assembly.core.respond(np.ascontiguousarray(pair), None)
    charts, x, units = _charts(assembly, estimate.covariances, estimate.theta, estimate.sigma)
    return _Coefficient(
        parametrisation=assembly, charts=charts, x=x, c=0.0, units=units,
        unit=float(np.sqrt(estimate.coefficient_vcov[j, j])), assembly=assembly, spec=reduced,
        reml=False, y=freed[0], scale=float(scale[0]), column=column,
        freed=freed[1] * (scale[1] / scale[0]),
        centre=centre,
    )  # fmt: skip


def scale_slice(estimate: LinearEstimate) -> Slice:
    """Slice a linear model's criterion at sigma."""
    assembly, y, scale = _assembled(estimate)
    charts, x, units = _charts(assembly, estimate.covariances, estimate.theta, estimate.sigma)
    return _Scale(
        parametrisation=assembly, charts=charts, x=x, c=estimate.sigma, units=units,
        unit=0.1 * estimate.sigma, ends=(LEAST * estimate.sigma, np.inf), least=0.0,
        centre=estimate.sigma, assembly=assembly,
        spec=estimate.specification, reml=estimate.reml, y=y, scale=scale,
    )  # fmt: skip


def covariance_slice(estimate: LinearEstimate, t: int, held: Held) -> Slice | None:
    """Slice a linear model's criterion at a parameter of its random term t.

    None for a parameter that cannot be held, or is not defined at the optimum.
    """
    assembly, y, scale = _assembled(estimate)
    term = assembly.terms[t]
    common: dict[str, Any] = {
        "parametrisation": assembly, "assembly": assembly, "spec": estimate.specification,
        "reml": estimate.reml, "y": y, "scale": scale, "place": t,
    }  # fmt: skip
    sigma = estimate.sigma
    covariances = estimate.covariances
    if not holdable(term, held) or _undefined(assembly.terms[t], covariances[t], held):
        return None
    charts, x, units = _charts(assembly, covariances, estimate.theta, sigma, (t, held))
    c = charts[t].place(covariances[t] / sigma**2, _own_theta(assembly, estimate.theta, t))[1]
    if held.kind != "sd":
        return _Relative(
            charts=charts, x=x, c=c, units=units, unit=0.3, ends=charts[t].ends, **common
        )
    to_user = sigma ** (1.0 / charts[t].power)
    modest = _deviation_unit(assembly, t, held)
    most = max(float(c), 10 * modest) * MOST_RELATIVE ** (1.0 / charts[t].power)
    return _Deviation(
        charts=charts, x=np.append(x, sigma), c=c * to_user, ends=charts[t].ends,
        units=np.append(units, 0.1 * sigma), unit=to_user * modest, most=most, **common,
    )  # fmt: skip


def generalised_slice(
    estimate: GeneralisedEstimate, *, coefficient: int = -1, t: int = -1, held: Held | None = None
) -> Slice | None:
    """Slice a generalised model's criterion at a coefficient, or at a parameter of term t.

    None for a parameter that cannot be held, is not defined at the optimum, or is
    integrated out (fixed effects under REML).
    """
    design = replace(estimate.design)
    assembly = assemble_generalised(
        design, estimate.optimum.path, n_jobs=1, quadrature=estimate.quadrature
    )
    outer, free = assembly.outer, assembly.free
    place = -1
    if coefficient >= 0:
        entries = np.flatnonzero(free.M[coefficient][outer])
        if not len(entries):
            return None
        place = int(entries[0])
    covariances = estimate.covariances
    if held is not None:
        term = assembly.terms[t]
        if not holdable(term, held) or _undefined(term, covariances[t], held):
            return None
        if held.entry >= 0 and _first_entry(assembly, t) + held.entry in design.constraints.entries:
            return None
        own = range(_first_entry(assembly, t), _first_entry(assembly, t) + term.count)
        if set(own) <= set(design.constraints.entries.tolist()):
            return None
    chosen = (t, held) if held is not None else None
    charts, x, units = _charts(assembly, covariances, estimate.theta, 1.0, chosen)
    scale = assembly.scale[np.ix_(outer, outer)]
    gamma = estimate.coefficients[free.first[outer]]
    size = 0.1 * np.linalg.norm(scale, axis=1)
    error = np.sqrt(np.maximum(np.diag(estimate.coefficient_vcov)[free.first[outer]], 0.0))
    size = np.where((error > 0) & np.isfinite(error), error, size)
    kept = [k for k in range(len(outer)) if k != place]
    common: dict[str, Any] = {
        "parametrisation": assembly, "charts": charts, "assembly": assembly, "design": design,
        "scale": scale, "x": np.concatenate([x, gamma[kept]]),
        "units": np.concatenate([units, size[kept]]),
        "frozen": np.append(_frozen(assembly, charts), np.zeros(len(kept), dtype=np.bool_)),
    }  # fmt: skip
    if place >= 0:
        return _Generalised(
            c=float(gamma[place]), unit=float(size[place]), coefficient=place, **common
        )
    assert held is not None
    theta = _own_theta(assembly, estimate.theta, t)
    c = charts[t].place(covariances[t], theta)[1]
    unit = _deviation_unit(assembly, t, held) if held.kind == "sd" else 0.3
    return _Generalised(c=c, unit=unit, place=t, ends=charts[t].ends, **common)


def _assembled(estimate: LinearEstimate) -> tuple[Assembly, Floats, float]:
    """Assembly, response as the core takes it, and its scale."""
    assembly = assemble(estimate.specification, estimate.optimum.path)
    return assembly, assembly.own.rest, assembly.own.scale


def _charts(
    assembly: Parametrisation,
    covariances: Sequence[Floats],
    theta: Floats,
    sigma: float,
    chosen: tuple[int, Held | None] | None = None,
) -> tuple[tuple[Chart, ...], Floats, Floats]:
    """One chart a term, the coordinates of the optimum, and their units."""
    charts, places, units = [], [], []
    for t, (term, psi) in enumerate(zip(assembly.terms, covariances, strict=True)):
        held = chosen[1] if chosen is not None and chosen[0] == t else None
        own = chart(term, held)
        charts.append(own)
        places.append(own.place(psi / sigma**2, _own_theta(assembly, theta, t))[0])
        units.append(own.units)
    return tuple(charts), joined(places), joined(units)


def _deviation_unit(assembly: Parametrisation, t: int, held: Held) -> float:
    """Return a modest change of a relative standard deviation."""
    column = held.columns[0] if held.columns else 0
    basis = assembly.terms[t].basis
    return 0.1 * float(np.sqrt((basis @ basis.T)[column, column]))


def _first_entry(assembly: Parametrisation, t: int) -> int:
    return sum(term.count for term in assembly.terms[:t])


def _frozen(assembly: GeneralisedAssembly, charts: Sequence[Chart]) -> NDArray[np.bool_]:
    """Which coordinates of the charts are standard deviations that the user holds."""
    held = assembly.design.constraints.entries
    parts = [np.isin(_first_entry(assembly, t) + own.entries, held) for t, own in enumerate(charts)]
    return np.concatenate([np.empty(0, dtype=np.bool_), *parts])


def _own_theta(assembly: Parametrisation, theta: Floats, t: int) -> Floats:
    return assembly.split(theta)[t]


def _without(directions: Floats, component: Floats) -> Floats:
    """Return the combinations of directions (r, d) whose component (d,) is zero."""
    size = float(np.linalg.norm(component))
    if size <= NULL:
        return directions
    basis = np.linalg.svd(component[None])[2][1:].T
    return np.asarray(directions @ basis)


def _undefined(term: Term, psi: Floats, held: Held) -> bool:
    """Tell whether a parameter does not exist since something does not vary."""
    if held.kind == "sd":
        return False
    variances = np.diag(psi) / np.sum(term.basis**2, axis=1)
    varies = variances > NULL * max(float(variances.max()), 1e-300)
    if held.columns:
        return not bool(varies[list(held.columns)].all())
    return int(varies.sum()) < min(2, len(varies))  # what all columns share
