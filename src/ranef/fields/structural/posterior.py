"""Latent variables given the data: means and standard deviations, at every level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.messages import messages
from ranef.fields.structural.problem import GroupProblem, coordinates
from ranef.fields.structural.standardized import level_moments_of

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
    return GroupProblem(model.table, g, c, data, model.main.groups[g].sample, kernel)


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
    means, covariances = problem.kernel.posterior(problem.parts(estimate.theta).flat, level - 2)
    if np.isnan(means).any():
        raise ModelError("the likelihood has no value at the estimates")
    at = np.array([own.index(n) for n in latent], dtype=np.intp)
    variances = np.diagonal(covariances, axis1=1, axis2=2)[:, at]
    return Scores(
        latent, means[:, at], np.sqrt(np.maximum(variances, 0.0)), _unit_order(estimate, g, level)
    )


def _of_rows(estimate: Estimate, g: int) -> Scores:
    model = estimate.model
    latent = model.table.names[g, 1].latent
    problem = model.main.groups[g]
    c, data = problem.coordinates, problem.data
    ram, at = level_moments_of(estimate, estimate.theta, g, 1)
    if len(problem.x):
        ram, at = problem.rams[0], problem.rams[0].moments(estimate.theta)
    rows = model.rows.places[g]
    y = np.array([ram.names.index(n) for n in c.y], dtype=np.intp)
    f = np.array([ram.names.index(n) for n in latent], dtype=np.intp)
    parts = problem.parts(estimate.theta)
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
    return Scores(latent, out, np.sqrt(np.maximum(variance, 0.0)), rows)


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
