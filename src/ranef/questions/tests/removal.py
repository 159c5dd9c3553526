"""A model without some of its random effects, and responses drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError, RanefError
from ranef.inference.draws.simulation import simulate as simulate_linear
from ranef.models import refits
from ranef.models.generalised import fit_glmm, refit_glmm
from ranef.models.linear import fit_lmm
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.tests.mixtures import Cone
from ranef.solve.resources import available_cores, in_threads

__all__ = [
    "Ordinary",
    "Removal",
    "by_likelihood",
    "cone_of",
    "draw",
    "logliks",
    "ordinary",
    "part_of",
    "refuse_penalised",
    "single_variance",
    "without",
]

Floats = NDArray[np.float64]
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
    """

    component: str
    term: int
    columns: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ordinary:
    """A linear model without random effects.

    Attributes
    ----------
    specification : Specification
        Gives X, weights, offset and response; its random terms are not there.
    reml : bool
    beta : (p,) float64 array
    sigma : float
    loglik : float
    """

    specification: Specification
    reml: bool
    beta: Floats
    sigma: float
    loglik: float

    @property
    def n_parameters(self) -> int:
        """Coefficients and sigma."""
        return len(self.beta) + 1


def ordinary(spec: Specification, reml: bool) -> Ordinary:
    """Fit by least squares."""
    beta, sigma, loglik = _least_squares(spec, spec.y[:, None], reml)
    return Ordinary(spec, reml, beta[:, 0], float(sigma[0]), float(loglik[0]))


def _least_squares(spec: Specification, Y: Floats, reml: bool) -> tuple[Floats, Floats, Floats]:
    """Coefficients (p, m), sigma and (restricted) log-likelihood (m,) of m responses."""
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
    return np.linalg.solve(R, inside), np.sqrt(squares / m), -0.5 * twice


def cone_of(estimate: Estimate, removal: Removal, fixed: int = 0) -> Cone | None:
    """The parameters that go; None where those that go with a variance mean nothing without it."""
    spec = part_of(estimate, removal.component)
    term = spec.terms[removal.term]
    r, s = term.size, len(removal.columns)
    copies = 1
    if isinstance(estimate, GeneralisedEstimate):
        copies = sum(part.name == removal.component for part in estimate.components)
    if term.structure == "diag":
        return Cone(fixed, (1,) * (s * copies))
    if term.structure == "homdiag" and s == r:
        return Cone(fixed, (1,) * copies)
    if term.structure != "us" and r > 1:
        return None
    return Cone(fixed + copies * s * (r - s), (s,) * copies)


def single_variance(estimate: Estimate, removal: Removal) -> Specification | None:
    """The model with nothing random but what goes, where that is one variance; else None."""
    if isinstance(estimate, GeneralisedEstimate):
        return None
    spec = estimate.specification
    term = spec.terms[removal.term]
    alone = len(removal.columns) == 1 and (term.size == 1 or term.structure == "diag")
    together = term.structure == "homdiag" and len(removal.columns) == term.size
    if not alone and not together:
        return None
    own = _kept(term, removal.columns)
    return replace(spec, terms=(own,))


def _kept(term: RandomTerm, columns: Collection[int]) -> RandomTerm:
    """A term with only some of its columns."""
    own = sorted(columns)
    names = tuple(term.names[j] for j in own)
    positions = None if term.positions is None else term.positions[own]
    z = np.ascontiguousarray(term.z[:, own])
    return replace(term, names=names, z=z, positions=positions)


def part_of(estimate: Estimate, component: str) -> Specification:
    """Specification of a part."""
    if isinstance(estimate, GeneralisedEstimate):
        return estimate.parts[component]
    return estimate.specification


def by_likelihood(estimate: Estimate) -> Estimate:
    """The fit by maximum likelihood of a model fitted by restricted likelihood."""
    if not estimate.reml:
        return estimate
    if isinstance(estimate, GeneralisedEstimate):
        return _generalised(estimate, dict(estimate.parts), reml=False)
    return fit_lmm(estimate.specification, reml=False, path=estimate.optimum.path)


def without(
    estimate: Estimate, removal: Removal, keep: NDArray[np.intp] | None = None
) -> Estimate | Ordinary:
    """Fit the model without some random effects, by the same criterion.

    `keep` are the columns of X that stay, all where it is None.
    """
    spec = part_of(estimate, removal.component)
    term = spec.terms[removal.term]
    left = [j for j in range(term.size) if j not in removal.columns]
    terms = list(spec.terms)
    terms[removal.term : removal.term + 1] = [_kept(term, left)] if left else []
    if isinstance(estimate, GeneralisedEstimate):
        return _generalised_without(estimate, removal, spec, tuple(terms))
    spec = replace(spec, terms=tuple(terms))
    if keep is not None:
        names = tuple(spec.names[j] for j in keep)
        spec = replace(spec, X=np.ascontiguousarray(spec.X[:, keep]), names=names)
    if not terms:
        return ordinary(spec, estimate.reml)
    return fit_lmm(spec, reml=estimate.reml)


def _generalised_without(
    estimate: GeneralisedEstimate,
    removal: Removal,
    spec: Specification,
    terms: tuple[RandomTerm, ...],
) -> GeneralisedEstimate:
    parts = dict(estimate.parts)
    fixed = dict(estimate.fixed)
    others = any(part.terms for name, part in parts.items() if name != removal.component)
    if not terms and not others:
        # the engine needs a random effect: one whose standard deviation is held at zero
        first = replace(_kept(spec.terms[removal.term], (0,)), structure="us", kernel=None)
        terms, fixed = (first,), {k: v for k, v in fixed.items() if k.split(":")[0] != "sd"}
        fixed["sd"] = 0.0
    parts[removal.component] = replace(spec, terms=terms)
    return _generalised(estimate, parts, fixed=fixed, reml=estimate.reml)


def _generalised(
    estimate: GeneralisedEstimate,
    parts: dict[str, Specification],
    *,
    reml: bool,
    fixed: dict[str, float] | None = None,
) -> GeneralisedEstimate:
    return fit_glmm(
        parts,
        estimate.family,
        extra=estimate.extra,
        quadrature=estimate.quadrature,
        reml=reml,
        priors=estimate.priors,
        fixed=dict(estimate.fixed) if fixed is None else fixed,
        equal=estimate.equal,
    )


def draw(null: Estimate | Ordinary, n: int, rng: np.random.Generator) -> Floats:
    """Draw n responses (rows, n) from a fitted model, random effects anew."""
    if isinstance(null, GeneralisedEstimate):
        from ranef.inference.draws.generalised import simulate

        return simulate(null, n, rng)
    if isinstance(null, Estimate):
        return simulate_linear(null, n, rng)
    spec = null.specification
    mean = spec.X @ null.beta if spec.offset is None else spec.X @ null.beta + spec.offset
    sd = null.sigma / (1.0 if spec.weights is None else np.sqrt(spec.weights))
    noise = rng.standard_normal((n, spec.n)) * sd
    return np.asarray((mean + noise).T)


def logliks(
    model: Estimate | Ordinary,
    Y: Floats,
    *,
    n_jobs: int | None = None,
    advance: Callable[[int], object] = lambda k: None,
) -> Floats:
    """Maximised log-likelihoods (m,) of m responses; NaN where a fit failed.

    `advance` is called with the number of fits done.
    """
    if isinstance(model, Ordinary):
        return _least_squares(model.specification, Y, model.reml)[2]
    if isinstance(model, GeneralisedEstimate):
        return _generalised_logliks(model, Y, n_jobs, advance)
    out = np.empty(Y.shape[1])
    for first in range(0, len(out), CHUNK):
        here = slice(first, min(first + CHUNK, len(out)))
        found = refits.refit_many(model, Y[:, here], n_jobs=n_jobs)
        out[here] = np.where(found.converged, found.loglik, np.nan)
        advance(here.stop - here.start)
    return out


def _generalised_logliks(
    model: GeneralisedEstimate, Y: Floats, n_jobs: int | None, advance: Callable[[int], object]
) -> Floats:
    def one(y: Floats) -> float:
        try:
            found = refit_glmm(model, np.ascontiguousarray(y), n_jobs=1)
        except RanefError:
            return np.nan
        return found.loglik if found.optimum.converged else np.nan

    out = np.empty(Y.shape[1])
    for k, value in enumerate(in_threads(one, Y.T, available_cores(n_jobs))):
        out[k] = value
        advance(1)
    return out


def refuse_penalised(estimate: Estimate, what: str) -> None:
    """Refuse fits with priors, whose likelihood is not at its maximum."""
    if isinstance(estimate, GeneralisedEstimate) and estimate.priors:
        raise ModelError(
            f"{what} rests on a maximum of the likelihood, and this fit maximised the likelihood "
            "times its priors; fit it without priors"
        )
