"""The parameters of the residuals as tables show them, each with its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import HETEROGENEOUS, Unstructured
from ranef.covariance.structure import EVERY
from ranef.design.terms import ResidualTerm
from ranef.formula.labels import level_text
from ranef.models.records import LinearEstimate
from ranef.solve.structured.rows import RowCovariance, row_covariance

__all__ = ["ResidualParameter", "gradient_of", "residual_parameters", "residual_values"]

Floats = NDArray[np.float64]
Value = Callable[[Floats, float], float]
"""Of the residuals' parameters (k,) and sigma."""


@dataclass(frozen=True)
class ResidualParameter:
    """One parameter of the residuals.

    Attributes
    ----------
    kind : str
        ``"sd"``, ``"corr"``, ``"phi"``, ``"rho"``, ``"theta"``, ``"range"``, ``"smoothness"``,
        ``"nugget"``, ``"power"`` or ``"exponent"``.
    term, term2 : str or None
        The place, or both; the variable of a power.
    entry : int
        Which of the residuals' parameters it is, -1 of a function of several and of sigma.
    variances : tuple of int
        Entries of the variances, relative to sigma^2, that an unstructured sd or correlation
        is made of; -1 for one that is sigma^2 itself. Empty of others.
    covariance : int
        Entry of the covariance of an unstructured correlation, else -1.
    """

    kind: str
    term: str | None
    term2: str | None
    entry: int
    variances: tuple[int, ...] = ()
    covariance: int = -1

    @property
    def label(self) -> str:
        """Its one name: ``"residual phi"``, ``"residual sd: visit2"``."""
        inside = ": ".join(part for part in (self.term, self.term2) if part)
        return f"residual {self.kind}" + (f": {inside}" if inside else "")


def residual_parameters(term: ResidualTerm) -> tuple[ResidualParameter, ...]:
    """List the parameters: standard deviations, then those of the correlations."""
    return tuple(parameter for parameter, _ in _listed(term))


def residual_values(term: ResidualTerm, own: Floats, sigma: Floats) -> Floats:
    """Their values (m, parameters) at parameters own (m, k) and sigma (m,)."""
    columns = []
    for _, value in _listed(term):
        columns.append([value(o, float(s)) for o, s in zip(own, sigma, strict=True)])
    return np.array(columns, dtype=np.float64).T.reshape(len(own), len(columns))


def gradient_of(estimate: LinearEstimate, which: int) -> tuple[float, Floats]:
    """Value of a parameter, and its derivatives (k + 1,) in theta and sigma."""
    term = estimate.specification.residual
    assert term is not None
    value = _listed(term)[which][1]
    count = row_covariance(term).n_parameters
    first = len(estimate.theta) - count
    own = estimate.theta[first:]
    out = np.zeros(len(estimate.theta) + 1)
    for i in range(count):
        step = 1e-6 * max(abs(float(own[i])), 1e-2)
        up, down = own.copy(), own.copy()
        up[i] += step
        down[i] -= step
        out[first + i] = (value(up, estimate.sigma) - value(down, estimate.sigma)) / (2 * step)
    s = 1e-6 * estimate.sigma
    out[-1] = (value(own, estimate.sigma + s) - value(own, estimate.sigma - s)) / (2 * s)
    return value(own, estimate.sigma), out


def _listed(term: ResidualTerm) -> list[tuple[ResidualParameter, Value]]:
    rows = row_covariance(term)
    return [*_deviations(term, rows), *_correlations(term, rows)]


def _entry(i: int) -> Value:
    return lambda own, sigma: float(own[i])


def _deviation(i: int) -> Value:
    return lambda own, sigma: sigma * float(np.exp(own[i]))


def _sigma(own: Floats, sigma: float) -> float:
    return sigma


def _deviations(term: ResidualTerm, rows: RowCovariance) -> list[tuple[ResidualParameter, Value]]:
    out: list[tuple[ResidualParameter, Value]] = []
    scaled = any(isinstance(p, Unstructured) for parts in rows.correlations for p in parts)
    if not scaled:
        out.append((ResidualParameter("sd", _first_name(term), None, -1), _sigma))
    for i, scale in enumerate(term.scales):
        value = _deviation(i) if scale.parameter == "sd" else _entry(i)
        out.append((ResidualParameter(scale.parameter, scale.name, None, i), value))
    return out


def _first_name(term: ResidualTerm) -> str | None:
    """The place, or level, whose standard deviation is sigma itself."""
    names = [part.names[0] for part in term.parts if part.kind in HETEROGENEOUS]
    level = None if term.by is None else f"{term.by.name}{level_text(term.by.levels[0])}"
    if not any(scale.parameter == "sd" for scale in term.scales):
        return None
    return ":".join(x for x in (level, names[0] if names else None) if x) or None


def _correlations(term: ResidualTerm, rows: RowCovariance) -> list[tuple[ResidualParameter, Value]]:
    out: list[tuple[ResidualParameter, Value]] = []
    for level, (parts, cuts) in enumerate(zip(rows.correlations, rows.slices, strict=True)):
        prefix = "" if term.by is None else f"{term.by.name}{level_text(term.by.levels[level])}:"
        for part, cut in zip(parts, cuts, strict=True):
            if isinstance(part, Unstructured):
                out += _unstructured(part, cut, prefix)
                continue
            for i, parameter in enumerate(part.parameters()):
                entry = cut.start + i
                name = None if parameter.term in ("", EVERY) else prefix + parameter.term
                name = name or (prefix[:-1] or None)
                own = ResidualParameter(parameter.kind, name, parameter.term2 or None, entry)
                out.append((own, _entry(entry)))
    return out


def _unstructured(
    part: Unstructured, cut: slice, prefix: str
) -> list[tuple[ResidualParameter, Value]]:
    """Standard deviations and correlations of the places."""

    def sd(i: int) -> Value:
        return lambda own, sigma: sigma * float(np.sqrt(max(part.matrix(own[cut])[i, i], 0.0)))

    def corr(i: int, j: int) -> Value:
        def value(own: Floats, sigma: float) -> float:
            R = part.matrix(own[cut])
            with np.errstate(invalid="ignore", divide="ignore"):
                return float(R[i, j] / np.sqrt(R[i, i] * R[j, j]))

        return value

    names = [prefix + name for name in part.names]
    r = range(len(names))
    at = {pair: cut.start + k for k, pair in enumerate(part.entries)}
    diagonal = [at.get((i, i), -1) for i in r]
    out = [(ResidualParameter("sd", names[i], None, -1, (diagonal[i],)), sd(i)) for i in r]
    for j in r:
        for i in r[j + 1 :]:
            variances = diagonal[i], diagonal[j]
            own = ResidualParameter("corr", names[j], names[i], -1, variances, at[i, j])
            out.append((own, corr(i, j)))
    return out
