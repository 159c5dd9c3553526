"""The iterative path: crossed effects too many for any factorisation.

Solves are by conjugate gradients, whose error is held at 1e-9. What needs a determinant or a
trace of an inverse is estimated with probes of random signs, drawn once: log|Omega| by
stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. 38), traces by
Hutchinson's estimator. The variances solve the score equations with these traces (Stein, Chen &
Anitescu 2013, Ann. Appl. Stat. 7), which are unbiased whatever the number of probes; how much
other probes would move them is estimated from how the probes differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.assembly import FixedScale
from ranef.solve.optimum import Progress

__all__ = ["IterativeEnd", "check_iterative", "solve_iteratively"]

Floats = NDArray[np.float64]

PROBES = 32
TOLERANCE, PROBE_TOLERANCE = 1e-9, 1e-6
MOST_STEPS = 2000
MOST_EVALUATIONS = 60
SETTLED = 1e-8
"""Decrement of the score equations at which they are solved."""
LONGEST = 1.0
"""Of a step, in the logarithm of a standard deviation."""
SMALL = 0.05
"""Standard deviation, relative to the residual's, below which a term's trace has probes of its
own: from the common ones it would be a small difference, divided by the variance."""
LEAST = 1e-3
"""Standard deviation, relative to the residual's, below which a term may be at zero."""


@dataclass(frozen=True, eq=False)
class IterativeEnd:
    """Where the score equations are solved, on the core's scale.

    Attributes
    ----------
    theta : (k,) float64 array
        Standard deviations relative to sigma, of columns of z with mean square one.
    unit : (k,) float64 array
        Root mean square of the user's z, by term.
    criterion : float
        Minus twice the log-likelihood, up to the scales.
    criterion_error : float
        Its Monte Carlo standard error.
    score : (k,) float64 array
        The score equations, in theta.
    score_error : (k, k) float64 array
        Their Monte Carlo covariance.
    information : (k, k) float64 array
        Average information: the Hessian of the criterion in theta, nearly.
    log_r2, vcov_slopes : (k,), (k, p, p) float64 arrays
        Derivatives of log y'Py and of (X'H^-1X)^-1 with respect to theta.
    beta, vcov : (p,), (p, p) float64 arrays
    modes : tuple of (q,) float64 arrays
    r2, degrees : float
    decrement : float
    trace : tuple of float
        Criterion at each evaluation.
    at_zero : tuple of bool
        Terms whose standard deviation is zero.
    converged : bool
    probes, steps : int
        Of the log-determinant; the most steps of conjugate gradients.
    """

    theta: Floats
    unit: Floats
    criterion: float
    criterion_error: float
    score: Floats
    score_error: Floats
    information: Floats
    log_r2: Floats
    vcov_slopes: Floats
    beta: Floats
    vcov: Floats
    modes: tuple[Floats, ...]
    r2: float
    degrees: float
    decrement: float
    trace: tuple[float, ...]
    at_zero: tuple[bool, ...]
    converged: bool
    probes: int
    steps: int


def check_iterative(spec: Specification) -> None:
    """Refuse a model that the iterative path does not take."""
    for term in spec.terms:
        if term.kernel is not None or term.size != 1:
            raise ModelError(
                f"path 'iterative' takes random terms of one column without a kernel, and "
                f"({term.label}) is none; write (1 | g) + (0 + x | g) for uncorrelated slopes"
            )
    if len(spec.terms) < 2:
        raise ModelError(
            "path 'iterative' is for two random terms or more; one is eliminated exactly, level "
            "by level: leave out path="
        )


class _Equations:
    """The cross-products of a model, and its score equations at any theta."""

    def __init__(self, spec: Specification, fixed: FixedScale, y: Floats, reml: bool, threads: int):
        self.reml, self.n = reml, spec.n
        self.order = sorted(
            range(len(spec.terms)), key=lambda t: -spec.factors[spec.terms[t].factor].n_levels
        )
        terms = [spec.terms[t] for t in self.order]
        factors = [spec.factors[term.factor] for term in terms]
        w = spec.weights
        self.log_weights = 0.0 if w is None else float(np.log(w).sum())
        self.unit = np.array([float(np.sqrt(np.mean(term.z**2))) for term in terms])
        z = [term.z[:, 0] / unit for term, unit in zip(terms, self.unit, strict=True)]
        ones = [bool(np.all(column == 1.0)) for column in z]
        self.system = _core.CrossedSystem(
            [np.ascontiguousarray(f.codes, dtype=np.int32) for f in factors],
            [f.n_levels for f in factors],
            [None if plain else column for plain, column in zip(ones, z, strict=True)],
            w,
            threads,
        )
        self.starts = np.cumsum([0] + [f.n_levels for f in factors])
        X = np.column_stack([np.asarray(fixed.X) * fixed.scale, y])
        WX = X if w is None else w[:, None] * X
        self.products = X.T @ WX
        self.crossed = np.vstack([
            np.column_stack([
                np.bincount(f.codes, c if plain else c * column, f.n_levels) for c in WX.T
            ])
            for f, plain, column in zip(factors, ones, z, strict=True)
        ])  # fmt: skip

    @property
    def blocks(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    @property
    def tail(self) -> int:
        return int(self.starts[-1] - self.starts[1])


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The equations at one theta: G by variance, its Monte Carlo draws, average information."""

    criterion: float
    log_determinants: Floats  # (probes,)
    G: Floats  # (k,) derivatives with respect to the variances
    draws: Floats  # (probes, k): of G
    information: Floats  # (k, k) of the variances
    beta: Floats
    vcov: Floats
    vcov_slopes: Floats
    scores: Floats
    squares: Floats
    r2: float
    degrees: float
    steps: int


def _evaluate(e: _Equations, theta: Floats, Z: Floats, own: dict[int, Floats]) -> _Evaluation:
    """Evaluate the equations; `own` are probes (q, probes) of the terms of little variance."""
    p, k = e.crossed.shape[1] - 1, len(theta)
    root = np.repeat(theta, np.diff(e.starts))[:, None]
    B = root * e.crossed
    U, steps, residual = e.system.solve(theta, B, TOLERANCE, MOST_STEPS)
    if residual > 100 * TOLERANCE:
        raise ModelError(
            f"conjugate gradients did not arrive in {MOST_STEPS} steps: the effects are nearly "
            "exactly crossed with each other; this model is not one for path 'iterative'"
        )
    inner = e.products - B.T @ U
    C = np.asarray(np.linalg.inv(inner[:p, :p]), dtype=np.float64)
    beta = C @ inner[:p, p]
    r2 = float(inner[p, p] - inner[:p, p] @ beta)
    degrees = float(e.n - p if e.reml else e.n)
    whitened = e.crossed - e.system.times(np.ascontiguousarray(root * U))  # Z'H^-1 [X, y]
    SX, s = whitened[:, :p], whitened[:, p] - whitened[:, :p] @ beta
    S = np.zeros((len(s), k))
    for t, block in enumerate(e.blocks):
        S[block, t] = s[block]
    AS = e.system.times(S)
    V, more, _ = e.system.solve(theta, np.ascontiguousarray(root * AS), TOLERANCE, MOST_STEPS)
    XW = e.crossed[:, :p].T @ S - B[:, :p].T @ V
    wPw = S.T @ AS - (root * AS).T @ V - XW.T @ C @ XW
    squares = np.array([s[b] @ s[b] for b in e.blocks])
    ratio = degrees / r2
    information = ratio * wPw - ratio / r2 * np.outer(squares, squares)
    within = np.stack([SX[b].T @ SX[b] for b in e.blocks])  # sum of X'H^-1 z z'H^-1 X
    log_diagonal, traces, alpha, beta_, taken = e.system.probes(
        theta, Z, PROBE_TOLERANCE, MOST_STEPS
    )
    logs = log_diagonal + _quadrature(alpha, beta_, taken, e.tail)
    draws = (np.diff(e.starts) - traces) / np.maximum(theta, LEAST) ** 2
    for t, signs in own.items():
        placed = np.zeros((len(s), signs.shape[1]))
        placed[e.blocks[t]] = signs
        W = e.system.times(placed)
        whitened_probe, _, _ = e.system.solve(
            theta, np.ascontiguousarray(root * W), PROBE_TOLERANCE, MOST_STEPS
        )
        draws[:, t] = np.sum(placed * W - root * W * whitened_probe, axis=0)
    if e.reml:
        draws = draws - np.einsum("tij,ij->t", within, C)
    draws = draws - ratio * squares
    criterion = float(logs.mean()) + degrees * (1 + np.log(2 * np.pi * r2 / degrees))
    criterion += float(np.linalg.slogdet(inner[:p, :p])[1]) if e.reml else 0.0
    return _Evaluation(
        criterion - e.log_weights, logs, draws.mean(axis=0), draws, information, beta, C,
        C @ within @ C, s, squares, r2, degrees, max(steps, more, *taken),
    )  # fmt: skip


def _quadrature(alpha: Floats, beta: Floats, taken: Sequence[int], size: int) -> Floats:
    """z'log(S~)z of each probe, from the coefficients of its conjugate gradients."""
    out = np.empty(len(taken))
    for c, m in enumerate(taken):
        if m == 0:
            out[c] = 0.0
            continue
        a, b = alpha[c, :m], beta[c, :m]
        diagonal = 1 / a
        diagonal[1:] += b[:-1] / a[:-1]
        beside = np.sqrt(b[:-1]) / a[:-1]
        values, vectors = np.linalg.eigh(
            np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        )
        out[c] = size * float(vectors[0] ** 2 @ np.log(values))
    return out


def solve_iteratively(
    spec: Specification,
    fixed: FixedScale,
    y: Floats,
    *,
    reml: bool,
    start: Floats | None,
    rng: np.random.Generator,
    threads: int,
    progress: Progress | None = None,
    probes: int = PROBES,
) -> IterativeEnd:
    """Solve the score equations by Newton steps in the logarithms of the standard deviations.

    Parameters
    ----------
    spec : Specification
    fixed : FixedScale
        Its fixed effects.
    y : (n,) float64 array
        The response without an offset, of mean square one.
    reml : bool
    start : (k,) float64 array or None
        Relative standard deviations, in formula order.
    rng : Generator
        Draws the probes.
    threads : int
    progress : callable, optional
    probes : int

    Raises
    ------
    ModelError
        Where conjugate gradients do not arrive.
    """
    e = _Equations(spec, fixed, y, reml, threads)
    signs = np.array([-1.0, 1.0])
    Z = rng.choice(signs, size=(e.tail, probes))
    own: dict[int, Floats] = {}
    k = len(e.order)
    theta = np.full(k, 0.5) if start is None else np.abs(start)[e.order] * e.unit
    theta = np.maximum(theta, LEAST)
    zero, trace, converged, decrement = np.zeros(k, dtype=bool), [], False, np.inf
    for count in range(1, MOST_EVALUATIONS + 1):
        for t in np.flatnonzero(theta < SMALL):
            if t not in own:
                block = e.blocks[t]
                own[int(t)] = rng.choice(signs, size=(block.stop - block.start, probes))
        now = _evaluate(e, theta, Z, own)
        trace.append(now.criterion)
        score, H = _in_logs(now, theta)
        gone = (theta <= LEAST) & (now.G > 0) & ~zero
        if gone.any():
            zero |= gone
            theta = np.where(zero, 0.0, theta)
            continue
        free = ~zero
        step = np.zeros(k)
        step[free] = -np.linalg.solve(H[np.ix_(free, free)], score[free])
        decrement = float(-score @ step) / 2
        if progress is not None:
            progress(count, now.criterion, abs(decrement))
        if abs(decrement) < SETTLED:
            converged = True
            break
        theta = np.where(zero, 0.0, theta * np.exp(np.clip(step, -LONGEST, LONGEST)))
        theta = np.where(free, np.maximum(theta, LEAST), theta)
    return _end(e, now, theta, zero, trace, converged, decrement, probes)


def _in_logs(now: _Evaluation, theta: Floats) -> tuple[Floats, Floats]:
    """Score and information in log theta: psi = theta^2."""
    slope = 2 * theta**2
    information = now.information * np.outer(slope, slope)
    return slope * now.G, information + np.diag(np.maximum(2 * slope * now.G, 0.0) + 1e-300)


def _end(
    e: _Equations,
    now: _Evaluation,
    theta: Floats,
    zero: NDArray[np.bool_],
    trace: list[float],
    converged: bool,
    decrement: float,
    probes: int,
) -> IterativeEnd:
    """Put the terms back into the formula's order."""
    back = np.argsort(e.order)
    slope = 2 * theta
    draws = (now.draws * slope)[:, back]
    modes = [theta[t] ** 2 * now.scores[block] / e.unit[t] for t, block in enumerate(e.blocks)]
    order = np.ix_(back, back)
    return IterativeEnd(
        theta=theta[back],
        unit=e.unit[back],
        criterion=now.criterion,
        criterion_error=float(now.log_determinants.std(ddof=1) / np.sqrt(probes)),
        score=(slope * now.G)[back],
        score_error=np.atleast_2d(np.cov(draws.T)) / probes,
        information=(now.information * np.outer(slope, slope))[order],
        log_r2=(-slope * now.squares / now.r2)[back],
        vcov_slopes=(slope[:, None, None] * now.vcov_slopes)[back],
        beta=now.beta,
        vcov=now.vcov,
        modes=tuple(modes[t] for t in back),
        r2=now.r2,
        degrees=now.degrees,
        decrement=abs(decrement),
        trace=tuple(trace),
        at_zero=tuple(bool(v) for v in zero[back]),
        converged=converged,
        probes=probes,
        steps=now.steps,
    )
