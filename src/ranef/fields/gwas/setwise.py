"""Tests of a set of variants: burden, SKAT, SKAT-O, ACAT-V and their combination.

With S the scores of m weighted variants and Phi their covariance under no association, the burden
test looks at (1'S)^2, SKAT at S'S (Wu et al. 2011), SKAT-O at the best of (1 - rho) S'S + rho
(1'S)^2 (Lee et al. 2012). Tails of quadratic forms are exact (`mixtures`), and so is that of
SKAT-O: given z = 1'S / sd, S'S is a quadratic form with a shift, and what remains is one integral
over z. ACAT combines p values by the Cauchy distribution (Liu et al. 2019). Arrays in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.mixtures import log10_tail
from ranef.fields.gwas.tails import LN10, log10_chi2_tail, log10_f_tail

__all__ = ["RHOS", "SetTests", "beta_weights", "combined", "optimal", "tests_of_set"]

Floats = NDArray[np.float64]

RHOS = (0.0, 0.01, 0.04, 0.09, 0.16, 0.25, 0.5, 1.0)
"""Shares of the burden in SKAT-O."""
POINTS = 16
WIDEST = 1.5
EMPTY = 1e-10


@dataclass(frozen=True)
class SetTests:
    """log10 p of the tests of a set, and the burden's estimate.

    Attributes
    ----------
    burden, skat, skato, acatv, omnibus : float
    rho : float
        The share of the burden at which SKAT-O has its least p.
    estimate, std_error : float
        Effect of a unit of the weighted burden.
    """

    burden: float
    skat: float
    skato: float
    acatv: float
    omnibus: float
    rho: float
    estimate: float
    std_error: float


def beta_weights(maf: Floats, a: float, b: float) -> Floats:
    """Densities of the beta distribution at minor allele frequencies.

    Examples
    --------
    >>> beta_weights(np.array([0.001, 0.1]), 1.0, 25.0).round(4).tolist()
    [24.4068, 1.9942]
    """
    from scipy.special import betaln

    log = (a - 1.0) * np.log(maf) + (b - 1.0) * np.log1p(-maf) - betaln(a, b)
    return np.asarray(np.exp(log))


def tests_of_set(
    S: Floats,
    Phi: Floats,
    variant_p: Floats,
    variant_weights: Floats,
    *,
    free: float | None,
    log10_burden: float | None,
) -> SetTests:
    """Test a set.

    Parameters
    ----------
    S : (m,) array
        Weighted scores, over the standard deviation of the noise.
    Phi : (m, m) array
        Their covariance.
    variant_p, variant_weights : (k,) arrays
        log10 p and weights for ACAT-V.
    free : float, optional
        Degrees of freedom with which the noise's variance was estimated: tails of the burden and
        of SKAT are then those of ratios of quadratic forms, exactly.
    log10_burden : float, optional
        Of a burden that was tested in another way.
    """
    v = float(Phi.sum())
    b = float(S.sum())
    values = np.maximum(np.linalg.eigvalsh(Phi), 0.0)
    values = values[values > EMPTY * values.max(initial=0.0)]
    if log10_burden is None:
        z2 = np.array([b * b / v])
        if free is None:
            log10_burden = float(log10_chi2_tail(z2)[0])
        else:
            rest = np.maximum(free - z2, 1e-300)  # what the burden leaves of the noise
            log10_burden = float(log10_f_tail((free - 1.0) * z2 / rest, free - 1.0)[0])
    Q = float(S @ S)
    if free is None:
        skat = log10_tail(Q, values)
    else:
        weights = np.append(values - Q / free, -Q / free)
        skat = log10_tail(0.0, weights, None, np.append(np.ones(len(values)), free - len(values)))
    skato, rho = optimal(S, Phi)
    acatv = combined(variant_p, variant_weights)
    omnibus = combined(np.array([log10_burden, skat, acatv]), np.ones(3))
    return SetTests(log10_burden, skat, skato, acatv, omnibus, rho, b / v, 1.0 / np.sqrt(v))


def combined(log10_p: Floats, weights: Floats) -> float:
    """Return log10 p of the Cauchy combination of p values.

    Examples
    --------
    >>> round(combined(np.array([-3.0, -3.0]), np.ones(2)), 6)
    -3.0
    >>> round(combined(np.array([-400.0, 0.0]), np.ones(2)), 2)
    -399.7
    """
    from scipy.special import logsumexp

    log_p = np.minimum(np.asarray(log10_p), np.log10(1.0 - 1e-15)) * LN10
    w = np.asarray(weights) / np.sum(weights)
    small = log_p < np.log(1e-8)
    # 1 / tan(pi p) is 1 / (pi p) where p is small
    top = logsumexp(np.log(w[small]) - log_p[small] - np.log(np.pi)) if small.any() else -np.inf
    p = np.exp(log_p[~small])
    rest = float(w[~small] @ (np.cos(np.pi * p) / np.sin(np.pi * p)))
    if top > np.log(1e8):
        return float(min(-np.log(np.pi) - top - np.log1p(rest * np.exp(-top)), 0.0) / LN10)
    statistic = rest + float(np.exp(top))
    return float(np.log10(0.5 - np.arctan(statistic) / np.pi))


# --- SKAT-O


def optimal(S: Floats, Phi: Floats) -> tuple[float, float]:
    """Return log10 p of SKAT-O, and the rho of the least p."""
    m = len(S)
    v = float(Phi.sum())
    b2, Q = float(S.sum()) ** 2, float(S @ S)
    if m == 1 or v <= EMPTY * np.trace(Phi):
        log = log10_tail(Q, np.maximum(np.linalg.eigvalsh(Phi), 0.0))
        return log, 0.0
    L = _root(Phi)
    spectra = [_spectrum(L, rho) for rho in RHOS]
    logs = [
        log10_tail((1.0 - rho) * Q + rho * b2, values)
        for rho, values in zip(RHOS, spectra, strict=True)
    ]
    best = int(np.argmin(logs))
    least = logs[best]
    limits = [
        (1.0 - rho) * Q + rho * b2 if k == best else _quantile(values, least)
        for k, (rho, values) in enumerate(zip(RHOS, spectra, strict=True))
    ]
    return _over_burden(Phi, v, np.array(limits), least), RHOS[best]


def _root(Phi: Floats) -> Floats:
    values, U = np.linalg.eigh(Phi)
    return np.asarray(U * np.sqrt(np.maximum(values, 0.0)))


def _spectrum(L: Floats, rho: float) -> Floats:
    """Weights of the form with (1 - rho) I + rho 11'."""
    ones = L.sum(axis=0)
    M = (1.0 - rho) * (L.T @ L) + rho * np.outer(ones, ones)
    values = np.linalg.eigvalsh(M)
    return np.asarray(values[values > EMPTY * values.max()])


def _quantile(values: Floats, log10_p: float) -> float:
    """The point whose tail is p: the logarithm of a tail is nearly straight in the point."""
    from scipy.optimize import brentq

    mean, sd = float(values.sum()), float(np.sqrt(2.0 * np.sum(values**2)))
    low, high = 0.0, mean + sd
    while log10_tail(high, values) > log10_p:
        low, high = high, 2.0 * high
    return float(
        brentq(lambda q: log10_tail(q, values) - log10_p, low, high, rtol=1e-9, xtol=1e-300)
    )


def _over_burden(Phi: Floats, v: float, limits: Floats, least: float) -> float:
    """Integrate the tail of S'S given z over z, between the bends of its lower limit."""
    sd = np.sqrt(v)
    a = Phi.sum(axis=1) / sd
    values, U = np.linalg.eigh(Phi - np.outer(a, a))
    push = U.T @ a
    gone = values <= 1e-9 * np.trace(Phi)
    held = float(np.sum(push[gone] ** 2))
    w, shift = values[~gone], push[~gone] / np.sqrt(values[~gone])
    rho = np.array(RHOS[:-1])
    end = np.sqrt(limits[-1] / v)

    def limit(z: float) -> float:
        lines = (limits[:-1] - rho * v * z * z) / (1.0 - rho)
        return float(lines.min())

    nodes, each = np.polynomial.legendre.leggauss(POINTS)
    total = 10.0 ** (float(log10_chi2_tail(np.array([end**2]))[0]) - least)
    cuts = _bends(limits[:-1], rho, v, end)
    for low, high in pairwise(cuts):
        for z, weight in zip(0.5 * (low + high) + 0.5 * (high - low) * nodes, each, strict=True):
            beyond = log10_tail(limit(z) - held * z * z, w, shift * z)
            log = (beyond - least) * LN10 - 0.5 * z * z
            total += (high - low) * weight * np.exp(log) / np.sqrt(2.0 * np.pi)
    return float(min(least + np.log10(total), 0.0))


def _bends(limits: Floats, rho: Floats, v: float, end: float) -> list[float]:
    """Where the least of the limits, lines in z squared, changes; and no stretch too wide."""
    found = {0.0, float(end)}
    level, slope = limits / (1.0 - rho), -rho * v / (1.0 - rho)
    for i in range(len(rho)):
        for j in range(i):
            where = (level[j] - level[i]) / (slope[i] - slope[j])
            if 0.0 < where < end**2:
                z2 = float(where)
                least = (level + slope * z2).min()
                if level[i] + slope[i] * z2 <= least + 1e-9 * abs(least):
                    found.add(float(np.sqrt(z2)))
    cuts = sorted(found)
    out = [cuts[0]]
    for low, high in pairwise(cuts):
        count = int(np.ceil((high - low) / WIDEST))
        out += np.linspace(low, high, count + 1)[1:].tolist()
    return out
