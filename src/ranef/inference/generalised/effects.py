"""Random effects of a generalised model: by coefficient and level, posterior means."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from ranef import solve
from ranef.errors import ModelError
from ranef.families import Cumulative
from ranef.inference.effects import LevelEffects
from ranef.inference.generalised.rows import linear_parts, own_rows
from ranef.inference.generalised.targets import has_zero
from ranef.inference.generalised.uncertainty import linear_predictors
from ranef.models.estimate import Component, GeneralisedEstimate

__all__ = ["PosteriorMeans", "coefficients_by_level", "posterior_means"]

Floats = NDArray[np.float64]

MAX_DIMENSIONS = 3


def coefficients_by_level(
    estimate: GeneralisedEstimate, factor: int, component: str | None = None
) -> tuple[LevelEffects, ...]:
    """Fixed plus random effect of each coefficient that varies over a factor's levels.

    Parameters
    ----------
    estimate : GeneralisedEstimate
    factor : int
        Index into ``estimate.design.factors``.
    component : str or None
        Only of components of that name.

    Returns
    -------
    tuple of LevelEffects
        One for each component with such terms. The standard error is that of
        beta_j + b_j, counts the covariance of the two, and is given theta. A
        coefficient without a fixed effect of its name has its effect around zero.
    """
    found = []
    for part in estimate.components:
        own = [
            t
            for t in range(part.terms.start, part.terms.stop)
            if estimate.terms[t].factor == factor
        ]
        if own and component in (None, part.name):
            found.append(_of_component(estimate, part, factor, own))
    return tuple(found)


def _of_component(
    estimate: GeneralisedEstimate, part: Component, factor: int, own: list[int]
) -> LevelEffects:
    names = tuple(dict.fromkeys(name for t in own for name in estimate.terms[t].names))
    q = estimate.design.factors[factor].n_levels
    codes = np.arange(q, dtype=np.int32)
    values, errors = np.zeros((q, len(names))), np.zeros((q, len(names)))
    for c, name in enumerate(names):
        x = np.zeros(len(estimate.coefficients))
        x[part.coefficients] = [float(fixed == name) for fixed in part.names]
        values[:, c] = x @ estimate.coefficients
        random: list[tuple[NDArray[np.int32], Floats] | None] = [None] * len(estimate.terms)
        for t in own:
            z = np.array([float(column == name) for column in estimate.terms[t].names])
            random[t] = (codes, np.tile(z, (q, 1)))
            values[:, c] += estimate.term_modes[t] @ z
        variance = solve.generalised_prediction_variance(estimate, np.tile(x, (q, 1)), random)
        errors[:, c] = np.sqrt(np.maximum(variance, 0.0))
    return LevelEffects(factor, names, values, None, errors, part.name, part.response)


@dataclass(frozen=True, eq=False)
class PosteriorMeans:
    """Mean and standard deviation of the effects of one term, given data and parameters.

    Attributes
    ----------
    term : int
        Index into ``estimate.terms``.
    mean, sd : (q, r) float64 arrays
    """

    term: int
    mean: Floats
    sd: Floats


def posterior_means(estimate: GeneralisedEstimate, nodes: int = 15) -> tuple[PosteriorMeans, ...]:
    """Posterior means of the random effects, beside which the modes may stand.

    By adaptive Gauss-Hermite quadrature around the modes (Pinheiro & Chao 2006,
    J. Comput. Graph. Stat. 15), at the estimated parameters.

    Parameters
    ----------
    estimate : GeneralisedEstimate
        With one grouping factor, without kernels, and at most three random effects
        a level.
    nodes : int
        Of each dimension.

    Raises
    ------
    ModelError
        When the model is another.
    """
    _check_single(estimate)
    root, u, spread = _standardised(estimate)
    d = root.shape[1]
    points, log_weights = _gauss_hermite(nodes, d)
    q = len(u)
    scale = _lower_roots(spread)
    drawn = u[:, None, :] + np.einsum("qab,bg->qga", scale, points)
    logs = np.empty((q, points.shape[1]))
    for g in range(points.shape[1]):
        logs[:, g] = _log_joint(estimate, root, drawn[:, g]) + log_weights[g]
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    effects = drawn @ root.T
    mean = np.einsum("qg,qgr->qr", weights, effects)
    second = np.einsum("qg,qgr->qr", weights, (effects - mean[:, None]) ** 2)
    return tuple(
        PosteriorMeans(t, mean[:, own], np.sqrt(second[:, own]))
        for t, own in enumerate(_columns(estimate))
    )


def _check_single(estimate: GeneralisedEstimate) -> None:
    if len(estimate.design.factors) > 1:
        raise ModelError(
            "posterior means are for one grouping factor: the effects of the levels of several "
            "do not separate; the modes are in level_effects()"
        )
    if any(term.kernel is not None for term in estimate.terms):
        raise ModelError("posterior means are for levels that are independent, without a kernel")
    size = sum(term.size for term in estimate.terms)
    if size > MAX_DIMENSIONS:
        raise ModelError(
            f"each level has {size} random effects; posterior means are for at most "
            f"{MAX_DIMENSIONS}"
        )


def _columns(estimate: GeneralisedEstimate) -> list[slice]:
    ends = np.cumsum([0] + [term.size for term in estimate.terms])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def _standardised(estimate: GeneralisedEstimate) -> tuple[Floats, Floats, Floats]:
    """B = root u with u ~ N(0, I): root (r, d), modes of u (q, d), their covariances (q, d, d).

    The covariance is that of the normal approximation with each predictor's own
    block; where terms are several their modes are taken as independent, which only
    places the nodes.
    """
    columns = _columns(estimate)
    size = columns[-1].stop
    psi = np.zeros((size, size))
    given = np.zeros((estimate.design.factors[0].n_levels, size, size))
    covariances = solve.generalised_conditional_covariances(estimate)
    for own, one, (known, _) in zip(columns, estimate.term_covariances, covariances, strict=True):
        psi[own, own], given[:, own, own] = one, known
    values, vectors = np.linalg.eigh(psi)
    kept = values > 1e-12 * max(float(values.max()), 1e-300)
    root = vectors[:, kept] * np.sqrt(values[kept])
    inverse = (vectors[:, kept] / np.sqrt(values[kept])).T
    u = np.hstack(estimate.term_modes) @ inverse.T
    return root, u, inverse @ given @ inverse.T


def _gauss_hermite(nodes: int, d: int) -> tuple[Floats, Floats]:
    """Nodes (d, G) and log weights (G,) of integrals over the whole of d dimensions."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.array(list(product(x, repeat=d))).T.reshape(d, -1)
    logs = np.array(list(product(np.log(w) + x**2 / 2, repeat=d))).reshape(-1, d).sum(axis=1)
    return points, logs


def _lower_roots(matrices: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrices)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 1e-300))[:, None, :])


def _log_joint(estimate: GeneralisedEstimate, root: Floats, u: Floats) -> Floats:
    """Log density (q,) of the rows of each level and its u, up to a constant."""
    parts = linear_parts(estimate, own_rows(estimate))
    etas = linear_predictors(estimate, parts, False)
    b, columns = u @ root.T, _columns(estimate)
    for eta, part in zip(etas, parts, strict=True):
        for term, codes, z in part.random:
            eta += np.einsum("nr,nr->n", z, b[:, columns[term]][codes])
    spec, family = estimate.specification, estimate.family
    if isinstance(family, Cumulative):
        etas = _own_thresholds(spec.y, etas)
    logs = family.log_density(spec.y, etas, estimate.extra, zero=has_zero(estimate))
    logs = logs if spec.weights is None else spec.weights * logs
    codes = estimate.design.factors[0].codes
    sums = np.bincount(codes, logs, minlength=len(u))
    return np.asarray(sums - 0.5 * np.sum(u**2, axis=1))


def _own_thresholds(y: Floats, etas: Floats) -> Floats:
    """Return eta and the upper and lower threshold of each row's category, (3, n)."""
    category, n = y.astype(np.int_), etas.shape[1]
    padded = np.vstack([np.zeros(n), etas[1:], np.zeros(n)])
    rows = np.arange(n)
    return np.vstack([etas[0], padded[category + 1, rows], padded[category, rows]])
