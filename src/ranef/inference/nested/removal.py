"""A model without some of its random effects, and responses drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import RanefError
from ranef.inference.kinds import inference_of
from ranef.inference.nested.mixtures import Cone
from ranef.models import refits
from ranef.models.linear import fit_lmm
from ranef.models.records import CONDITIONAL, Estimate, LinearEstimate
from ranef.models.refitting import refit, refitted
from ranef.solve.optimum import Optimum
from ranef.solve.resources import available_cores, in_threads

__all__ = [
    "Removal",
    "cone_of",
    "draw",
    "logliks",
    "ordinary",
    "single_variance",
    "without",
]

Floats = NDArray[np.float64]
Advance = Callable[[int], object]
CHUNK = 64


@dataclass(frozen=True)
class Removal:
    """Random effects to take out.

    Attributes
    ----------
    component : str
        Part of the model: ``"conditional"`` and others.
    term : int
        Among the part's random terms.
    columns : tuple of int
        Its columns that go.
    label : str
        What they are called.
    """

    component: str
    term: int
    columns: tuple[int, ...]
    label: str = ""


def cone_of(estimate: Estimate, removal: Removal, fixed: int = 0) -> Cone | None:
    """The parameters that go; None where those that go with a variance mean nothing without it."""
    term = estimate.parts[removal.component].terms[removal.term]
    r, s = term.size, len(removal.columns)
    copies = sum(part.name == removal.component for part in estimate.components)
    if term.structure == "diag":
        return Cone(fixed, (1,) * (s * copies))
    if term.structure == "homdiag" and s == r:
        return Cone(fixed, (1,) * copies)
    if term.structure != "us" and r > 1:
        return None
    return Cone(fixed + copies * s * (r - s), (s,) * copies)


def single_variance(estimate: Estimate, removal: Removal) -> Specification | None:
    """The model with nothing random but what goes, where that is one variance; else None.

    None as well where there is no residual variance that it can be relative to.
    """
    if estimate.sigma is None:
        return None
    spec = estimate.specification
    term = spec.terms[removal.term]
    alone = len(removal.columns) == 1 and (term.size == 1 or term.structure == "diag")
    together = term.structure == "homdiag" and len(removal.columns) == term.size
    if not alone and not together:
        return None
    return replace(spec, terms=(_kept(term, removal.columns),))


def _kept(term: RandomTerm, columns: Collection[int]) -> RandomTerm:
    """A term with only some of its columns."""
    kept = sorted(columns)
    names = tuple(term.names[j] for j in kept)
    positions = None if term.positions is None else term.positions[kept]
    z = np.ascontiguousarray(term.z[:, kept])
    parts = tuple(term.parts[j] for j in kept) if term.parts else ()
    return replace(term, names=names, z=z, positions=positions, parts=parts)


def without(estimate: Estimate, removal: Removal, keep: NDArray[np.intp] | None = None) -> Estimate:
    """Fit the model without some random effects, by the same criterion.

    `keep` are the columns of the mean's X that stay, all where it is None.
    """
    term = estimate.parts[removal.component].terms[removal.term]
    left = [j for j in range(term.size) if j not in removal.columns]
    parts = dict(estimate.parts)
    for name, t in _places(estimate, removal):
        terms = list(parts[name].terms)
        here = set(left) & set(term.columns_of(name))
        terms[t : t + 1] = [_kept(terms[t], left)] if here else []
        parts[name] = replace(parts[name], terms=tuple(terms))
    if keep is not None:
        parts[CONDITIONAL] = _with_columns(parts[CONDITIONAL], keep)
    if any(spec.terms for spec in parts.values()):
        return refitted(estimate, parts, estimate.extra)
    if estimate.sigma is not None:
        return ordinary(parts[CONDITIONAL], estimate.reml)
    return _held_at_zero(estimate, parts, removal.component, term)


def _places(estimate: Estimate, removal: Removal) -> list[tuple[str, int]]:
    """The part of a term and its place there; every part that a tied one belongs to."""
    own = estimate.parts[removal.component].terms[removal.term]
    if own.tie is None:
        return [(removal.component, removal.term)]
    return [
        (name, t)
        for name, spec in estimate.parts.items()
        for t, term in enumerate(spec.terms)
        if term.tie == own.tie
    ]


def _with_columns(spec: Specification, keep: NDArray[np.intp]) -> Specification:
    names = tuple(spec.names[j] for j in keep)
    return replace(spec, X=np.ascontiguousarray(spec.X[:, keep]), names=names)


def _held_at_zero(
    estimate: Estimate, parts: dict[str, Specification], component: str, term: RandomTerm
) -> Estimate:
    """Fit parts without random effects: the engine needs one, whose sd is held at zero."""
    first = replace(_kept(term, (0,)), structure="us", kernel=None)
    held = {**parts, component: replace(parts[component], terms=(first,))}
    fixed = {k: v for k, v in estimate.fixed.items() if k.split(":")[0] != "sd"} | {"sd": 0.0}
    return refitted(replace(estimate, fixed=fixed), held, estimate.extra)


@dataclass(frozen=True, eq=False)
class _LeastSquares:
    """A linear model without random effects, fitted to m responses.

    Attributes
    ----------
    beta : (p, m) float64 array
    sigma, loglik : (m,) float64 arrays
        The (restricted) log-likelihood.
    triangle : (p, p) float64 array
        R of X = QR, rows times the roots of their weights.
    """

    beta: Floats
    sigma: Floats
    loglik: Floats
    triangle: Floats


def _least_squares(spec: Specification, Y: Floats, reml: bool) -> _LeastSquares:
    """Fit the fixed effects to the columns of Y (n, m)."""
    root = np.ones(spec.n) if spec.weights is None else np.sqrt(spec.weights)
    rest = Y if spec.offset is None else Y - spec.offset[:, None]
    Q, R = np.linalg.qr(root[:, None] * spec.X)
    rest = root[:, None] * rest
    inside = Q.T @ rest
    squares = np.sum((rest - Q @ inside) ** 2, axis=0)
    m = spec.n - (spec.p if reml else 0)
    twice = m * (np.log(2 * np.pi * squares / m) + 1) - 2 * np.log(root).sum()
    if reml:
        twice = twice + 2 * np.log(np.abs(np.diag(R))).sum()
    return _LeastSquares(np.linalg.solve(R, inside), np.sqrt(squares / m), -0.5 * twice, R)


def ordinary(spec: Specification, reml: bool) -> LinearEstimate:
    """Fit a linear model without random effects, which the engine refuses, by least squares.

    The random terms of `spec` are left out.
    """
    fixed = replace(spec, terms=())
    if spec.residual is not None:
        return fit_lmm(fixed, reml=reml)
    fit = _least_squares(fixed, fixed.y[:, None], reml)
    sigma, loglik = float(fit.sigma[0]), float(fit.loglik[0])
    inverse = np.linalg.inv(fit.triangle)
    return LinearEstimate(
        parts={CONDITIONAL: fixed},
        reml=reml,
        coefficients=fit.beta[:, 0],
        coefficient_vcov=sigma**2 * inverse @ inverse.T,
        theta=np.empty(0),
        covariances=(),
        modes=(),
        loglik=loglik,
        optimum=_closed_form(-2.0 * loglik),
        sigma=sigma,
    )


def _closed_form(criterion: float) -> Optimum:
    """An optimum that nothing was searched for."""
    none = np.empty(0)
    return Optimum(
        criterion=criterion, theta=none, gradient=none, decrement=0.0, tolerance=0.0,
        converged=True, faces=(), evaluations=1, restarts=0, path="least squares",
        trace=np.array([criterion]), message="",
    )  # fmt: skip


def draw(null: Estimate, n: int, rng: np.random.Generator) -> Floats:
    """Draw n responses (rows, n) from a fitted model, random effects anew."""
    return inference_of(null).simulate(n, rng)


def logliks(
    model: Estimate,
    Y: Floats,
    *,
    n_jobs: int | None = None,
    advance: Advance = lambda k: None,
) -> Floats:
    """Maximised log-likelihoods (m,) of m responses; NaN where a fit failed.

    `advance` is called with the number of fits done.
    """
    if not model.terms and model.specification.residual is None:
        return _least_squares(model.specification, Y, model.reml).loglik
    together = inference_of(model).refits_together
    return (_in_chunks if together else _one_by_one)(model, Y, n_jobs, advance)


def _in_chunks(model: Estimate, Y: Floats, n_jobs: int | None, advance: Advance) -> Floats:
    out = np.empty(Y.shape[1])
    for first in range(0, len(out), CHUNK):
        here = slice(first, min(first + CHUNK, len(out)))
        fits = refits.refit_many(model, Y[:, here], n_jobs=n_jobs)
        out[here] = np.where(fits.converged, fits.loglik, np.nan)
        advance(here.stop - here.start)
    return out


def _one_by_one(model: Estimate, Y: Floats, n_jobs: int | None, advance: Advance) -> Floats:
    def one(y: Floats) -> float:
        try:
            again = refit(model, y, n_jobs=1)
        except RanefError:
            return np.nan
        return again.loglik if again.optimum.converged else np.nan

    out = np.empty(Y.shape[1])
    for k, value in enumerate(in_threads(one, Y.T, available_cores(n_jobs))):
        out[k] = value
        advance(1)
    return out
