"""New responses drawn from a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.covariance.factor import square_root
from ranef.design.terms import RandomTerm
from ranef.models.noise import Noise
from ranef.models.records import CONDITIONAL, Estimate, LinearEstimate
from ranef.models.rows import PartRows, Rows

__all__ = [
    "KINDS",
    "DrawnParameters",
    "EffectDraws",
    "deviations",
    "drawn_theta",
    "effect_draws",
    "known_and_new",
    "simulate",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Random = Sequence[tuple[Ints, Floats]]
Effects = Sequence[Floats]

KINDS = ("new", "conditional", "posterior")


@dataclass(frozen=True, eq=False)
class EffectDraws:
    """The random effects of one term, ready to be drawn: b ~ N(0, K x Psi).

    Attributes
    ----------
    n_levels : int
    root : (r, r) float64 array
        A square root of Psi.
    kernel_root : (q, q) float64 array or None
        A square root of K; None without a kernel.
    """

    n_levels: int
    root: Floats
    kernel_root: Floats | None

    @classmethod
    def of(cls, n_levels: int, psi: Floats, kernel: Floats | None) -> EffectDraws:
        """Take the square roots of Psi and K."""
        return cls(n_levels, square_root(psi), None if kernel is None else square_root(kernel))

    def draw(self, rng: np.random.Generator) -> Floats:
        """Return the effects of all levels, (q, r); those beyond the kernel are independent."""
        b: Floats = rng.standard_normal((self.n_levels, len(self.root))) @ self.root.T
        if self.kernel_root is None:
            return b
        q = len(self.kernel_root)
        b[:q] = self.kernel_root @ b[:q]
        return b


def simulate(
    estimate: LinearEstimate,
    n: int,
    rng: np.random.Generator,
    *,
    kind: str | None = None,
    conditional: bool = False,
    rows: PartRows | None = None,
    n_levels: Sequence[int] | None = None,
    draws: Callable[[np.random.Generator], DrawnParameters] | None = None,
) -> Floats:
    """Draw n responses for the rows in the model, or for others.

    y = offset + X beta + Z b + e with e_i ~ N(0, sigma^2 / w_i).

    Parameters
    ----------
    estimate : LinearEstimate
    n : int
    rng : numpy.random.Generator
    kind : str
        ``"new"``: the random effects are drawn anew, b ~ N(0, K x Psi) per term, K the
        identity without a kernel. ``"conditional"``: they stay at their modes.
        ``"posterior"``: they are drawn from their distribution given the data. Levels
        that the fit has not seen are drawn anew in any case.
    conditional : bool
        What `kind` is where it is not given: ``"conditional"`` or ``"new"``.
    rows : PartRows or None
        None for the rows in the model. Codes from the fit's number of levels on are
        levels that it has not seen.
    n_levels : sequence of int, optional
        Of each term, those not seen included.
    draws : callable, optional
        Draws parameters for each response; None keeps them at their estimates.

    Returns
    -------
    (n_rows, n) float64 array
    """
    kind = kind or ("conditional" if conditional else "new")
    spec = estimate.specification
    own = Rows.of(estimate.parts).parts[CONDITIONAL] if rows is None else rows
    random = own.random or ()
    seen = [spec.factors[term.factor].n_levels for term in spec.terms]
    levels = seen if n_levels is None else list(n_levels)
    term = own.residual
    if term is not None and rows is not None:
        mean = own.X @ estimate.beta + (0.0 if own.offset is None else own.offset)
        term = term.with_mean(mean)
    noise = Noise.of(estimate, term, own.weights, len(own.X))
    now = DrawnParameters.at(estimate)
    wanted = kind == "new" or levels != seen
    anew = effect_draws(spec.terms, now.covariances, levels) if wanted else []
    drawn = np.empty((n, len(own.X)))
    for row, deviation in zip(drawn, deviations(estimate, n, rng, kind), strict=True):
        if draws is not None:
            now = draws(rng)
            if own.residual is not None and now.residual is not None:
                noise = Noise(term, own.weights, len(own.X), now.residual)
            anew = effect_draws(spec.terms, now.covariances, levels) if wanted else []
        row[:] = own.X @ now.beta
        if own.offset is not None:
            row += own.offset
        b = known_and_new(kind, now.modes, deviation, anew, rng)
        for (codes, z), effects in zip(random, b, strict=True):
            row += np.einsum("nr,nr->n", z, effects[codes])
        row += now.sigma * noise.draw(rng)
    return drawn.T


def effect_draws(
    terms: Sequence[RandomTerm], covariances: Sequence[Floats], n_levels: Sequence[int]
) -> list[EffectDraws]:
    """Return the effects of all terms, ready to be drawn."""
    return [
        EffectDraws.of(q, psi, term.kernel)
        for term, psi, q in zip(terms, covariances, n_levels, strict=True)
    ]


def deviations(
    estimate: Estimate, n: int, rng: np.random.Generator, kind: str
) -> Iterator[Sequence[Floats] | None]:
    """Distances of the effects from their modes for each of n draws."""
    from ranef.inference.effects.posterior import effect_posterior

    for _ in range(n):
        if kind != "posterior" or not estimate.terms:
            yield None
            continue
        yield [d[0] for d in effect_posterior(estimate).deviations(rng, 1)]


def known_and_new(
    kind: str,
    modes: Effects,
    deviation: Effects | None,
    anew: Sequence[EffectDraws],
    rng: np.random.Generator,
) -> list[Floats]:
    """Effects of all levels of each term: as `kind` says of known ones, drawn for others."""
    if kind == "new":
        return [one.draw(rng) for one in anew]
    known = modes if deviation is None else [b + d for b, d in zip(modes, deviation, strict=True)]
    if not anew:
        return list(known)
    out = []
    for b, one in zip(known, anew, strict=True):
        count = one.n_levels - len(b)
        more = rng.standard_normal((count, b.shape[1])) @ one.root.T
        out.append(np.vstack([b, more]))
    return out


@dataclass(frozen=True, eq=False)
class DrawnParameters:
    """Parameters of a linear model as one response is drawn from.

    Attributes
    ----------
    beta : (p,) float64 array
    sigma : float
    covariances : tuple of (r, r) float64 arrays
    modes : sequence of (q, r) float64 arrays
        The random effects' modes at these.
    residual : (k,) float64 array or None
        Parameters of the residuals, where these have a structure.
    """

    beta: Floats
    sigma: float
    covariances: Sequence[Floats]
    modes: Effects
    residual: Floats | None = None

    @classmethod
    def at(cls, estimate: LinearEstimate) -> DrawnParameters:
        """Return the estimates themselves."""
        return cls(estimate.beta, estimate.sigma, estimate.covariances, estimate.modes)


def drawn_theta(terms: Sequence[RandomTerm], theta: Floats, step: Floats) -> list[Floats]:
    """Return theta of each term moved by `step` where any value is valid.

    The step is carried to the unconstrained parameters phi of each structure by the
    derivative there, so that the end is a covariance matrix of the family.
    """
    found, place = [], 0
    for term in terms:
        structure = structure_of(term)
        own = slice(place, place + structure.n_parameters)
        place = own.stop
        part, move = theta[own], step[own]
        phi = structure.to_phi(part)
        for j in np.flatnonzero(move):
            h = 1e-6 * max(abs(part[j]), 1e-3)
            away = part.copy()
            away[j] += h if part[j] <= 0 else -h
            phi = phi + move[j] * (structure.to_phi(away) - structure.to_phi(part)) / (
                away[j] - part[j]
            )
        found.append(structure.from_phi(phi))
    return found
