"""How far the Laplace approximation is off: a few steps of quadrature from its optimum.

The approximation errs by what the density of a level's effect differs from a normal one, which
is much where few rows, or rows that say little, stand behind a level (Breslow & Lin 1995,
Biometrika 82; Joe 2008, Comput. Stat. Data Anal. 52). Its own estimate of the variance is no
judge of that, since it is what the approximation has shrunk. Adaptive quadrature with a few
nodes, begun at the estimate, shows within a few evaluations whether it moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.models.records import GeneralisedEstimate, theta_slices
from ranef.models.rows import at_levels
from ranef.models.sizes import effect_sizes
from ranef.models.working import information_weights
from ranef.solve import quadrature
from ranef.solve.laplace import fit_generalised
from ranef.solve.predictors import assemble_generalised
from ranef.solve.problem import GeneralisedDesign, LinearPredictor

__all__ = [
    "LaplaceError",
    "LikelihoodGap",
    "laplace_error",
    "level_information",
    "likelihood_gap",
]

Floats = NDArray[np.float64]

NODES = {1: 7, 2: 5, 3: 3}
"""Of the first steps, by the number of effects that are integrated together."""
FINAL_NODES = {1: 15, 2: 7, 3: 5}
EVALUATIONS = 3
WHOLE = 20
LITTLE = 6.0
"""Information on a level's effect below which it is asked at all."""
LEAST_SD = 0.2
LEAST_CHANGE = 0.05
"""Of a standard deviation on the scale of the link: less says little of any mean."""
MOVED = 0.04
"""Change of a standard deviation in the first steps that is followed to its end."""
POOR = 0.10
MATTERS = 0.06
"""Change of minus twice the log-likelihood: a quarter of a standard error."""
MOST_POINTS = 3_000_000
MOST_ROWS = 50_000
JUDGED_ROWS = 20_000
"""Of more rows than the most, changes of the likelihood are those of about so many."""
SAMPLED_ROWS = 6_000
"""Where one factor is judged on its own, levels with about so many rows are taken: on the same
levels Laplace and quadrature differ by nearly as much as on all of them."""


@dataclass(frozen=True)
class LaplaceError:
    """A standard deviation that quadrature moves.

    Attributes
    ----------
    term : int
    sd : float
        By the Laplace approximation.
    better : float
        By quadrature, where it was followed to its optimum; else after a few steps.
    poor : bool
        Whether it is off by more than a tenth, and by more than rounding against what the data
        say of it.
    final : bool
        Whether `better` is at its optimum.
    """

    term: int
    sd: float
    better: float
    poor: bool
    final: bool


_ERRORS: WeakKeyDictionary[GeneralisedEstimate, LaplaceError | None] = WeakKeyDictionary()


def laplace_error(estimate: GeneralisedEstimate) -> LaplaceError | None:
    """Return the standard deviation that quadrature moves most, if it moves one at all.

    Asked once for each estimate; nothing is computed where every level has much
    information, or the model is not of a kind that quadrature takes.
    """
    if estimate not in _ERRORS:
        _ERRORS[estimate] = _error(estimate)
    return _ERRORS[estimate]


@dataclass(frozen=True)
class LikelihoodGap:
    """How far the log-likelihood lies from that by quadrature at the same parameters.

    Attributes
    ----------
    gap : float
        Laplace less quadrature.
    nodes : int
    """

    gap: float
    nodes: int


GAP_NODES = {1: 15, 2: 11, 3: 7}
LEAST_GAP = 0.5

_GAPS: WeakKeyDictionary[GeneralisedEstimate, LikelihoodGap | None] = WeakKeyDictionary()


def likelihood_gap(estimate: GeneralisedEstimate) -> LikelihoodGap | None:
    """Return what is missing of the log-likelihood of a model whose dispersion varies by level.

    The log density of a row bends sharply in the logarithm of its standard deviation, more so
    the fewer rows a level has, and each level adds to the error: estimates move little, but
    likelihood ratios and information criteria are off by as much. None where it is less than a
    half, or quadrature cannot tell.
    """
    if estimate not in _GAPS:
        _GAPS[estimate] = _gap(estimate)
    return _GAPS[estimate]


def _gap(estimate: GeneralisedEstimate) -> LikelihoodGap | None:
    design = estimate.design
    varies = any(c.name == "dispersion" and c.terms for c in estimate.components)
    if not varies or estimate.quadrature != 1 or estimate.reml or estimate.runaway:
        return None
    nodes = min(GAP_NODES.get(_size(design), 7), quadrature.comfortable_nodes(design))
    if design.n > MOST_ROWS or nodes < 2 or not quadrature.integrable(design):
        return None
    assembly = assemble_generalised(design, quadrature=nodes)
    point = assembly.point(estimate.theta, estimate.coefficients, estimate.optimum.ranks)
    found = assembly.core.state(point, False)["criterion"]
    if not np.isfinite(found):
        return None
    penalty = float(assembly.core.penalty(point))
    gap = 0.5 * (float(found) - penalty) + estimate.loglik
    return LikelihoodGap(gap, nodes) if abs(gap) >= LEAST_GAP else None


def level_information(estimate: GeneralisedEstimate, term: int) -> float:
    """The median, over levels, of what the data say of an effect: its inverse variance.

    An effect of one moves a row by one unit of the linear predictor.
    """
    weights = information_weights(estimate)
    own = estimate.terms[term]
    factor = estimate.factors[own.factor]
    psi = estimate.covariances[term]
    told = np.zeros(estimate.design.n)
    for a, m in enumerate(estimate.design.random):
        z = estimate.design.columns(term, m)
        told += np.maximum(weights[a][a], 0.0) * np.einsum("ni,ij,nj->n", z, psi, z)
    size = told / max(_spread(psi, effect_sizes(estimate, term)) ** 2, 1e-300)
    return float(np.median(np.bincount(factor.codes, size, factor.n_levels)))


def _error(estimate: GeneralisedEstimate) -> LaplaceError | None:
    if estimate.quadrature != 1 or estimate.reml or estimate.runaway or estimate.fixed:
        return None
    if estimate.equal or estimate.priors or not estimate.optimum.converged:
        return None
    doubtful = [t for t in range(len(estimate.terms)) if _little(estimate, t)]
    if not doubtful:
        return None
    try:
        if quadrature.integrable(estimate.design) and estimate.design.n <= MOST_ROWS:
            return _whole(estimate, doubtful)
        errors = [_conditional(estimate, f) for f in _factors(estimate, doubtful)]
    except (ValueError, np.linalg.LinAlgError):
        return None  # quadrature has no finite likelihood there, so that it says nothing
    found = [error for error in errors if error is not None]
    return max(found, key=lambda e: abs(np.log(e.better / e.sd)), default=None)


def _little(estimate: GeneralisedEstimate, term: int) -> bool:
    """Whether the data say little of each level of a term that varies."""
    own = estimate.terms[term]
    if own.structure not in ("us", "diag") or own.kernel is not None:
        return False
    sd = _spread(estimate.covariances[term], effect_sizes(estimate, term))
    return bool(sd > LEAST_SD and level_information(estimate, term) < LITTLE)


def _factors(estimate: GeneralisedEstimate, terms: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(estimate.terms[t].factor for t in terms))


def _spread(psi: Floats, sizes: Floats) -> float:
    """The largest standard deviation of a term's effects in a row, whatever their units."""
    return float(np.max(np.sqrt(np.diag(psi)) * sizes))


def _sds(covariances: Sequence[Floats], sizes: Sequence[Floats]) -> list[float]:
    """That of each term; one of zero is as good as a very small one."""
    return [max(_spread(psi, own), 1e-6) for psi, own in zip(covariances, sizes, strict=True)]


def _is_far(sd: float, better: float) -> bool:
    return abs(np.log(better / sd)) >= np.log1p(POOR) and abs(better - sd) >= LEAST_CHANGE


def _size(design: GeneralisedDesign) -> int:
    return sum(term.z.shape[1] for term in design.terms)


def _nodes(design: GeneralisedDesign) -> int:
    return NODES.get(_size(design), 3)


def _whole(estimate: GeneralisedEstimate, doubtful: Sequence[int]) -> LaplaceError | None:
    """Follow quadrature from the estimate; to the end where it moves and costs little."""
    design = estimate.design
    sizes = [effect_sizes(estimate, t) for t in range(len(estimate.terms))]
    before = _sds(estimate.covariances, sizes)
    first = fit_generalised(
        design, estimate.coefficients, theta=estimate.theta, quadrature=_nodes(design),
        max_evaluations=EVALUATIONS,
    )  # fmt: skip
    moved = {t: abs(np.log(_sds(first.covariances, sizes)[t] / before[t])) for t in doubtful}
    if max(moved.values()) < MOVED:
        return None
    nodes = FINAL_NODES.get(_size(design), 3)
    final = design.n * nodes ** _size(design) <= MOST_POINTS
    better = first
    if final:
        better = fit_generalised(
            design, first.coefficients, theta=first.theta, quadrature=nodes, max_evaluations=WHOLE
        )
    drop = float(first.optimum.trace[0] - better.optimum.criterion)
    after = _sds(better.covariances, sizes)
    term = max(doubtful, key=lambda t: abs(np.log(after[t] / before[t])))
    poor = drop >= MATTERS and _is_far(before[term], after[term])
    sd = float(np.sqrt(np.max(np.diag(estimate.covariances[term]))))
    now = sd * after[term] / before[term]
    return LaplaceError(term, sd, now, poor, final and better.optimum.converged)


def _conditional(estimate: GeneralisedEstimate, factor: int) -> LaplaceError | None:
    """Steps for one of several crossed factors, the effects of the others at their modes."""
    own = [t for t, term in enumerate(estimate.terms) if term.factor == factor]
    slices = theta_slices(estimate)
    design = _sampled(_given_others(estimate, own, factor))
    rows = estimate.design.n if estimate.design.n <= MOST_ROWS else JUDGED_ROWS
    if not quadrature.integrable(design) or not all(map(_determined, design.predictors)):
        return None
    theta = np.concatenate([estimate.theta[slices[t]] for t in own])
    fits = [
        fit_generalised(
            design, estimate.coefficients, theta=theta, quadrature=nodes,
            max_evaluations=EVALUATIONS,
        )
        for nodes in (1, _nodes(design))
    ]  # fmt: skip
    sizes = [effect_sizes(estimate, t) for t in own]
    laplace, better = (_sds(one.covariances, sizes) for one in fits)
    drop = float(fits[1].optimum.trace[0] - fits[1].optimum.criterion) * rows / design.n
    k = int(np.argmax([abs(np.log(b / a)) for a, b in zip(laplace, better, strict=True)]))
    poor = drop >= MATTERS and _is_far(laplace[k], better[k])
    sd = float(np.sqrt(np.max(np.diag(estimate.covariances[own[k]]))))
    return LaplaceError(own[k], sd, sd * better[k] / laplace[k], poor, False)


def _given_others(
    estimate: GeneralisedEstimate, own: Sequence[int], factor: int
) -> GeneralisedDesign:
    """The design with the effects of other factors as offsets."""
    design = estimate.design
    offsets = [p.offset for p in design.predictors]
    for t, term in enumerate(estimate.terms):
        if t in own:
            continue
        codes = estimate.factors[term.factor].codes
        for a in set(design.owners[t]):
            moved = at_levels(estimate.modes[t], codes, design.columns(t, a))
            before = offsets[a]
            offsets[a] = moved if before is None else before + moved
    return replace(
        design,
        predictors=tuple(
            replace(p, offset=offset) for p, offset in zip(design.predictors, offsets, strict=True)
        ),
        terms=tuple(replace(estimate.terms[t], factor=0) for t in own),
        owners=tuple(design.owners[t] for t in own),
        factors=(estimate.factors[factor],),
    )


def _determined(predictor: LinearPredictor) -> bool:
    """Whether the rows that were drawn tell all columns of X apart."""
    size = np.sqrt(np.sum(predictor.X**2, axis=0))
    if len(size) == 0 or not np.all(size > 0):
        return len(size) == 0
    return bool(np.linalg.matrix_rank(predictor.X / size) == len(size))


def _sampled(design: GeneralisedDesign) -> GeneralisedDesign:
    """Some levels of the factor, where there are many rows.

    At random, since their order may be that of a predictor.
    """
    share = design.n // SAMPLED_ROWS
    if share < 2:
        return design
    factor = design.factors[0]
    drawn = np.random.default_rng(0).permutation(factor.n_levels) % share == 0
    rows = np.flatnonzero(drawn[factor.codes])
    levels, codes = np.unique(factor.codes[rows], return_inverse=True)

    def taken(values: Floats | None) -> Floats | None:
        return None if values is None else np.ascontiguousarray(values[rows])

    return replace(
        design,
        y=design.y[rows],
        extra=taken(design.extra),
        weights=taken(design.weights),
        predictors=tuple(
            replace(p, X=np.ascontiguousarray(p.X[rows]), offset=taken(p.offset))
            for p in design.predictors
        ),
        terms=tuple(replace(t, z=np.ascontiguousarray(t.z[rows])) for t in design.terms),
        factors=(
            replace(
                factor,
                codes=codes.astype(np.int32),
                levels=[factor.levels[k] for k in levels],
            ),
        ),
    )
