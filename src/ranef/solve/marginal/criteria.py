"""Criteria to choose a working correlation or a mean by, at one scale.

QIC (Pan 2001, Biometrics 57) is -2 Q / phi + 2 CIC with CIC = tr(Omega V), Omega the inverse of
the model's covariance under independence at the same coefficients and V the robust covariance
(Hin & Wang 2009, Statistics in Medicine 28); QICu is -2 Q / phi + 2 p. RJC is the distance of
Gamma = model^-1 robust from the identity (Rotnitzky & Jewell 1990; Hin, Carey & Wang 2007, American
Statistician 61). GHYC is the distance of observed from working covariances (Gosho, Hamada &
Yoshimura 2011, Communications in Statistics 40).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.marginal.equations import (
    Problem,
    Solution,
    add_up,
)

__all__ = ["Criteria", "criteria"]

Floats = NDArray[np.float64]
MOST_PLACES = 200


@dataclass(frozen=True)
class Criteria:
    """The criteria, all at `scale`."""

    quasi: float
    qic: float
    qicu: float
    cic: float
    rjc: float
    ghyc: float
    scale: float


def criteria(problem: Problem, solution: Solution, robust: Floats, scale: float) -> Criteria:
    """Return the criteria of a solution with this robust covariance (p, p)."""
    p = problem.p
    quasi = _quasi_likelihood(problem, solution.beta)
    apart = problem.independent
    independent = add_up(problem, solution.beta, apart, apart).H / scale
    cic = float(np.trace(independent @ robust))
    gamma = solution.bread @ robust / scale
    one, two = float(np.trace(gamma)) / p, float(np.trace(gamma @ gamma)) / p
    deviance = -2 * quasi / scale
    return Criteria(
        quasi / scale,
        deviance + 2 * cic,
        deviance + 2 * p,
        cic,
        float(np.hypot(1 - one, 1 - two)),
        _ghyc(problem, solution, scale),
        scale,
    )


def _quasi_likelihood(problem: Problem, beta: Floats) -> float:
    total = 0.0
    for part in problem.clusters.slices:
        rows = problem.quasi(beta, part)
        for w in (problem.weights, problem.sampling):
            rows = rows if w is None else rows * w[part.rows]
        total += float(np.sum(rows))
    return total


def _ghyc(problem: Problem, solution: Solution, scale: float) -> float:
    """tr(((sum r r') (sum V)^-1 - I)^2) over places in time.

    NaN with too many of these, and where the correlation is none of places.
    """
    clusters = problem.clusters
    T = len(clusters.places)
    R = solution.working.table(clusters) if T <= MOST_PLACES else None
    if R is None:
        return np.nan
    observed, modelled = np.zeros((T, T)), np.zeros((T, T))
    for part in clusters.slices:
        mu = problem.means(solution.beta, part)
        root = np.sqrt(problem.moments.variance(mu))
        if problem.weights is not None:
            root = root / np.sqrt(problem.weights[part.rows])
        cluster = np.repeat(np.arange(len(part.sizes)), part.sizes)
        for values, square in ((problem.y[part.rows] - mu, observed), (root, modelled)):
            table = np.zeros((len(part.sizes), T))
            table[cluster, clusters.positions[part.rows]] = values
            square += table.T @ table
    some = np.flatnonzero(np.diag(modelled) > 0)
    both = np.ix_(some, some)
    ratio = np.linalg.solve(scale * (R * modelled)[both], observed[both]) - np.eye(len(some))
    return float(np.trace(ratio @ ratio))
