"""Latent variables given the data: means and standard deviations, at every level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.messages import messages
from ranef.fields.structural.problem import GroupProblem, Parts, coordinates
from ranef.fields.structural.quadrature import QuadratureProblem

__all__ = ["Scores", "factor_scores"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one group.

    Attributes
    ----------
    names : tuple of str
    means, errors : (units, names) arrays
        Posterior means and standard deviations.
    units : int array
        Level 1: rows of the table; above: which of the data's units.
    """

    names: tuple[str, ...]
    means: Floats
    errors: Floats
    units: Ints


def factor_scores(estimate: Estimate, level: int) -> list[Scores]:
    """Return scores of a level's latent variables, by group."""
    if level == 1:
        return [_of_rows(estimate, g) for g in range(estimate.model.table.groups)]
    return [_of_units(estimate, g, level) for g in range(estimate.model.table.groups)]


def _problem(estimate: Estimate, g: int, level: int) -> GroupProblem:
    """The group's criterion with the latent variables of a level as coordinates."""
    model = estimate.model
    c = coordinates(model.table, g, model.home, (level,))
    data = model.data(g, c)
    kernel = messages(data, c.layout, each=True, threads=model.threads)
    sample = model.main.groups[g].sample
    if isinstance(model.main.groups[g], QuadratureProblem):
        nodes = model.request.quadrature
        return QuadratureProblem(model.table, g, c, data, sample, kernel, model.threads, nodes)
    return GroupProblem(model.table, g, c, data, sample, kernel)


def _unit_order(estimate: Estimate, g: int, level: int) -> Ints:
    """Which of the data's units each of the kernel's is."""
    model = estimate.model
    codes = model.values.clusters[level - 2][model.rows.places[g]]
    _, first = np.unique(codes, return_index=True)
    return np.asarray(codes[np.sort(first)], dtype=np.intp)


def _of_units(estimate: Estimate, g: int, level: int) -> Scores:
    model = estimate.model
    latent = model.table.names[g, level].latent
    problem = _problem(estimate, g, level)
    own = problem.coordinates.unseen[level - 2]
    integrated = problem.names if isinstance(problem, QuadratureProblem) else ()
    mixture = _Mixture(len(estimate.model.main.groups[g].data.levels[level - 2].z), len(latent))
    for weight, parts, slopes in problem.mixture(estimate.theta):
        means, covariances = problem.kernel.posterior(parts.flat, level - 2)
        if np.isnan(means).any():
            raise ModelError("the likelihood has no value at the estimates; simplify the model")
        one, variance = np.zeros(mixture.mean.shape), np.zeros(mixture.mean.shape)
        for k, name in enumerate(latent):
            if name in integrated:
                one[:, k] = slopes[integrated.index(name)]
            else:
                one[:, k] = means[:, own.index(name)]
                variance[:, k] = covariances[:, own.index(name), own.index(name)]
        mixture.add(weight, one, variance)
    return Scores(latent, mixture.mean, mixture.errors(), _unit_order(estimate, g, level))


class _Mixture:
    """Means and variances of what is normal given a node, over the nodes."""

    def __init__(self, n: int, columns: int) -> None:
        self.mean = np.zeros((n, columns))
        self.second = np.zeros((n, columns))

    def add(self, weight: Floats | float, mean: Floats, variance: Floats) -> None:
        w = weight if isinstance(weight, float) else weight[:, None]
        self.mean += w * mean
        self.second += w * (variance + mean**2)

    def errors(self) -> Floats:
        return np.asarray(np.sqrt(np.maximum(self.second - self.mean**2, 0.0)))


def _of_rows(estimate: Estimate, g: int) -> Scores:
    model = estimate.model
    latent = model.table.names[g, 1].latent
    problem = model.main.groups[g]
    mixture = _Mixture(problem.data.n, len(latent))
    unit = problem.data.levels[0].codes if problem.data.levels else None
    for weight, parts, _ in problem.mixture(estimate.theta):
        of_row = weight if isinstance(weight, float) or unit is None else weight[unit]
        mixture.add(of_row, *_rows_given(estimate, problem, latent, parts))
    return Scores(latent, mixture.mean, mixture.errors(), model.rows.places[g])


def _rows_given(
    estimate: Estimate, problem: GroupProblem, latent: tuple[str, ...], parts: Parts
) -> tuple[Floats, Floats]:
    """Means and variances (rows, latent) given the data, where the moments are `parts`."""
    model = estimate.model
    c, data = problem.coordinates, problem.data
    ram, at = problem.rams[0], parts.moments[0]
    y = np.array([ram.names.index(n) for n in c.y], dtype=np.intp)
    f = np.array([ram.names.index(n) for n in latent], dtype=np.intp)
    W, B, _ = problem.levels_at(parts.flat)
    residual = data.y - np.column_stack([np.ones(data.n), data.x]) @ B.T
    prior = np.tile(at.mu[f], (data.n, 1))
    if len(problem.x):
        prior = prior + data.x @ at.T[np.ix_(f, problem.x)].T
    spread = np.zeros((data.n, len(y), len(y)))
    cross = np.zeros((data.n, len(y), len(f)))
    own_spread = np.zeros((data.n, len(f), len(f)))
    if c.unseen:
        kernel = messages(data, c.layout, each=True, threads=model.threads)
        means, covariances = kernel.posterior(parts.flat, 0)
        unit = data.levels[0].codes
        design = _designs(problem, parts.flat)
        Q = design["y"]
        residual = residual - np.einsum("nyc,nc->ny", Q, means[unit])
        spread = np.einsum("nyc,ncd,nzd->nyz", Q, covariances[unit], Q)
        L = _latent_design(problem, at, f)
        prior = prior + np.einsum("nfc,nc->nf", L, means[unit])
        cross = np.einsum("nyc,ncd,nfd->nyf", Q, covariances[unit], L)
        own_spread = np.einsum("nfc,ncd,ned->nfe", L, covariances[unit], L)
    C = at.C[np.ix_(f, y)]
    out = np.zeros((data.n, len(f)))
    variance = np.zeros((data.n, len(f)))
    for o, present in enumerate(data.patterns.present):
        own = np.flatnonzero(data.patterns.codes == o)
        seen = np.flatnonzero(present)
        G = C[:, seen] @ np.linalg.inv(W[np.ix_(seen, seen)])
        gap = np.where(np.isnan(residual[own]), 0.0, residual[own])[:, seen]
        out[own] = prior[own] + gap @ G.T
        base = at.C[np.ix_(f, f)] - G @ C[:, seen].T
        V = base + own_spread[own]
        mixed = np.einsum("fy,nyg->nfg", G, cross[own][:, seen])
        V = V - mixed - mixed.transpose(0, 2, 1)
        V = V + np.einsum("fy,nyz,gz->nfg", G, spread[own][:, seen][:, :, seen], G)
        variance[own] = np.diagonal(V, axis1=1, axis2=2)
    return out, np.maximum(variance, 0.0)


def _designs(problem: GroupProblem, flat: Floats) -> dict[str, Floats]:
    """What each coordinate of level 2 adds to each row's variables (n, p, a)."""
    c, data = problem.coordinates, problem.data
    layout = c.layout
    p, k, s = len(c.y), 1 + len(c.x), len(c.slopes)
    L = flat[p * p + p * k : p * p + p * k + s * p].reshape(s, p)
    x = np.column_stack([np.ones(data.n), data.x])
    Q = np.zeros((data.n, p, len(layout.response)))
    for a, (column, response) in enumerate(zip(layout.column, layout.response, strict=True)):
        if response >= 0:
            Q[:, response, a] = 1.0
        elif -1 - response < s:
            Q[:, :, a] = x[:, [column]] * L[-1 - response]
    return {"y": Q}


def _latent_design(problem: GroupProblem, at: object, f: Ints) -> Floats:
    """What random slopes add to each row's latent variables (n, f, a)."""
    c, data = problem.coordinates, problem.data
    out = np.zeros((data.n, len(f), len(c.unseen[0])))
    T = at.T  # type: ignore[attr-defined]
    for k, (name, _, covariate) in enumerate(c.slopes):
        a = c.unseen[0].index(name)
        x = data.x[:, c.x.index(covariate)]
        out[:, :, a] = x[:, None] * T[f, problem.outcomes[k]][None, :]
    return out
