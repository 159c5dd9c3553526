"""Leave-one-out by importance sampling of the parameters, its weights smoothed.

From draws psi_s of the parameters given all rows, the density of a set without itself is

    p(y_S | y_-S) = 1 / mean_s (1 / p(y_S | psi_s)),

the random effects of S integrated out (of rows: of all but the row). The largest weights are
replaced by quantiles of a generalised Pareto distribution fitted to them, whose shape k says
whether the mean exists: above 0.7 it converges too slowly to be used (Vehtari, Gelman & Gabry
2017, Stat. Comput. 27; Vehtari, Simpson, Gelman, Yao & Gabry 2024, J. Mach. Learn. Res. 25). The
draws are from the normal distribution of the estimates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.inference.coefficients.parameters import parameter_covariance
from ranef.models.records import Estimate, LinearEstimate, as_generalised
from ranef.questions.selection.held_out import UnitScores
from ranef.questions.selection.left_out import LinearModel, rows_of

__all__ = ["leave_out", "pareto_smoothed"]

Floats = NDArray[np.float64]

LARGEST = 0.7


def leave_out(
    estimate: Estimate, sets: NDArray[np.intp], n: int, rng: np.random.Generator, name: str
) -> tuple[UnitScores, Floats]:
    """Return the log density (G,) of each set without itself, and the shapes (G,).

    Raises
    ------
    ModelError
        Where the sets share random effects, or a shape is above 0.7.
    """
    if as_generalised(estimate) is not None:
        raise ModelError(
            "importance sampling draws variance parameters from the normal distribution of their "
            "estimates, which a generalised model's are far from; use refit=True"
        )
    assert isinstance(estimate, LinearEstimate)
    spec = estimate.specification
    apart = all(t.kernel is None and spec.factors[t.factor].lies_within(sets) for t in spec.terms)
    grouped = spec.residual is None or spec.residual.group is None
    if not (apart and (grouped or spec.residual.group.lies_within(sets))):  # type: ignore[union-attr]
        raise ModelError(
            f"each {name} shares random effects with other rows, so that its density given the "
            "parameters is not that without it: importance sampling of the conditional density "
            "fails with few rows a group. Leave out whole groups, or use the closed form"
        )
    logs = _group_densities(estimate, rows_of(sets), n, rng)
    found = [pareto_smoothed(-column) for column in logs.T]
    k = np.array([one[1] for one in found])
    bad = k > LARGEST
    if bad.any():
        raise ModelError(
            f"importance sampling fails for {int(bad.sum()):,} of {len(k):,} levels of {name}: the "
            f"Pareto shape of their weights reaches {k.max():.2f}, above {LARGEST}. These groups "
            "move the parameters too much to be reweighted; use refit=True"
        )
    elpd = np.array([-_log_mean(one[0]) for one in found])
    sizes = np.bincount(sets[sets >= 0])
    return UnitScores(np.arange(len(elpd)), sizes, elpd, {}), k


def _log_mean(log_ratios: Floats) -> float:
    top = float(log_ratios.max())
    return top + float(np.log(np.mean(np.exp(log_ratios - top))))


def _group_densities(
    estimate: LinearEstimate, rows: list[NDArray[np.intp]], n: int, rng: np.random.Generator
) -> Floats:
    """Log density (n, G) of each group at draws of theta, sigma and beta."""
    known = parameter_covariance(estimate)
    spec = estimate.specification
    free = known.free
    k = int(free.sum())
    root = np.linalg.cholesky(known.covariance + 1e-14 * np.diag(np.diag(known.covariance)))
    y = spec.y if spec.offset is None else spec.y - spec.offset
    out = np.empty((n, len(rows)))
    beta_root = np.linalg.cholesky(estimate.coefficient_vcov)
    for s in range(n):
        step = root @ rng.standard_normal(len(root))
        theta = estimate.theta.copy()
        theta[free] += step[:k]
        sigma = estimate.sigma * float(np.exp(step[k] / estimate.sigma))
        beta = estimate.coefficients + beta_root @ rng.standard_normal(len(beta_root)) * (
            sigma / estimate.sigma
        )
        model = LinearModel.of(estimate, theta)
        rest = y - spec.X @ beta
        for g, own in enumerate(rows):
            V = model.noise.covariance(own[None])[0]
            for term, psi in zip(spec.terms, model.psis, strict=True):
                codes, z = spec.factors[term.factor].codes[own], term.z[own]
                V = V + np.where(codes[:, None] == codes, z @ psi @ z.T, 0.0)
            lower = np.linalg.cholesky(V)
            e = np.linalg.solve(lower, rest[own])
            out[s, g] = -0.5 * (
                len(own) * np.log(2 * np.pi * sigma**2)
                + 2 * np.log(np.diag(lower)).sum()
                + e @ e / sigma**2
            )
    return out


def pareto_smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Log weights with the largest replaced by Pareto quantiles, and the shape k."""
    n = len(log_weights)
    m = min(n // 5, int(np.ceil(3 * np.sqrt(n))))
    order = np.argsort(log_weights)
    top = float(log_weights[order[-1]])
    cut = float(log_weights[order[-m - 1]])
    tail = np.exp(log_weights[order[-m:]] - top) - np.exp(cut - top)
    if tail[-1] <= 0 or np.ptp(tail) < 1e-12:
        return log_weights, -np.inf
    k, scale = _generalised_pareto(tail)
    p = (np.arange(1, m + 1) - 0.5) / m
    quantiles = -scale * np.log1p(-p) if abs(k) < 1e-12 else scale * np.expm1(-k * np.log1p(-p)) / k
    out = log_weights.copy()
    out[order[-m:]] = np.minimum(np.log(quantiles + np.exp(cut - top)) + top, top)
    return out, k


def _generalised_pareto(x: Floats) -> tuple[float, float]:
    """Shape and scale by the quasi-Bayesian estimator of Zhang & Stephens (2009, Technometrics 51).

    The shape is drawn a little towards 0.5, as with few draws it should be.
    """
    n = len(x)
    x = np.maximum(np.sort(x), 1e-300)
    m = 30 + int(np.sqrt(n))
    j = np.arange(1, m + 1)
    theta = 1 / x[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * x[int(n / 4 + 0.5) - 1])
    k = np.array([np.mean(np.log1p(-t * x)) for t in theta])
    loglik = n * (np.log(-theta / k) - k - 1)
    weights = 1 / np.array([np.sum(np.exp(loglik - own)) for own in loglik])
    best = float(np.sum(theta * weights))
    shape = float(np.mean(np.log1p(-best * x)))
    scale = -shape / best
    return (n * shape + 5.0) / (n + 10.0), scale
