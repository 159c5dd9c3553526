"""Studies left out, funnels that lean, and studies that are missing: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.solve.synthesis.between import between
from ranef.solve.synthesis.studies import Studies

__all__ = ["Deleted", "Filled", "Lean", "baujat", "deleted", "egger_line", "fill", "lean"]

Floats = NDArray[np.float64]

ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Deleted:
    """What the estimates are without each study.

    Attributes
    ----------
    rstudent, dffits, cook, covratio, hat, tau2, q, estimate : (n,) arrays
        Residual of the study from the others in its own standard errors; change of its fitted
        value in these; of all coefficients together; determinant of their covariance over that
        of all studies; leverage; tau^2, Q and the first coefficient without it. NaN where the
        others do not determine the coefficients.
    """

    rstudent: Floats
    dffits: Floats
    cook: Floats
    covratio: Floats
    hat: Floats
    tau2: Floats
    q: Floats
    estimate: Floats


def deleted(studies: Studies, method: str, scaled: bool, conservative: bool = False) -> Deleted:
    """Leave out one study at a time, tau^2 estimated again (Viechtbauer & Cheung 2010).

    Parameters
    ----------
    scaled : bool
        Whether covariances are Knapp and Hartung's.
    """
    whole = studies.at(between(studies, method).tau2)
    hat = whole.hat(studies.X)
    V = _factor(whole.q / studies.df, scaled, conservative) * whole.bread
    out = {name: np.full(studies.n, np.nan) for name in Deleted.__dataclass_fields__}
    out["hat"] = hat
    for i in range(studies.n):
        rest = studies.without(i)
        if rest.df < 1 or np.linalg.matrix_rank(rest.X) < rest.p:
            continue
        tau2 = between(rest, method).tau2
        at = rest.at(tau2)
        factor = _factor(at.q / rest.df, scaled, conservative)
        own = factor * at.bread
        x = studies.X[i]
        gap = studies.y[i] - x @ at.beta
        change = whole.beta - at.beta
        total = studies.v[i] + tau2
        out["rstudent"][i] = gap / np.sqrt(factor * (total + x @ at.bread @ x))
        out["dffits"][i] = x @ change / np.sqrt(factor * hat[i] * total)
        out["cook"][i] = change @ np.linalg.solve(V, change)
        out["covratio"][i] = np.linalg.det(own) / np.linalg.det(V)
        out["tau2"][i] = tau2
        out["q"][i] = rest.moments(np.zeros(1)).q1[0]
        out["estimate"][i] = at.beta[0]
    return Deleted(**out)


def _factor(scatter: float, scaled: bool, conservative: bool) -> float:
    if not scaled:
        return 1.0
    return max(1.0, scatter) if conservative else scatter


@dataclass(frozen=True, eq=False)
class Lean:
    """How effects depend on their standard errors.

    Attributes
    ----------
    slope, slope_error : float
    limit, limit_error : float
        The effect where the standard error is zero.
    df : float
    """

    slope: float
    slope_error: float
    limit: float
    limit_error: float
    df: float


def egger_line(studies: Studies) -> Lean:
    """Egger's line (1997): weights 1 / v, the spread around the line estimated."""
    error = np.sqrt(studies.v)
    line = Studies(studies.y, studies.v, np.column_stack([np.ones(studies.n), error]))
    at = line.at(0.0)
    V = at.bread * at.q / line.df
    return Lean(at.beta[1], np.sqrt(V[1, 1]), at.beta[0], np.sqrt(V[0, 0]), float(line.df))


def lean(studies: Studies, method: str, scaled: bool, conservative: bool = False) -> Lean:
    """The slope on the standard error among moderators, tau^2 beside it (Sterne & Egger 2005)."""
    error = np.sqrt(studies.v)
    line = Studies(studies.y, studies.v, np.column_stack([studies.X, error]))
    at = line.at(between(line, method).tau2)
    V = _factor(at.q / line.df, scaled, conservative) * at.bread
    return Lean(
        at.beta[-1], np.sqrt(V[-1, -1]), at.beta[0], np.sqrt(V[0, 0]),
        float(line.df) if scaled else np.inf,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Filled:
    """Studies that a funnel without asymmetry would have more.

    Attributes
    ----------
    missing : int
    missing_error : float
    side : str
        Where they are missing.
    y, v : (m,) arrays
        Mirror images of the outermost on the other side.
    settled : bool
        Whether the rounds came to an end.
    """

    missing: int
    missing_error: float
    side: str
    y: Floats
    v: Floats
    settled: bool


def fill(studies: Studies, method: str, side: str, estimator: str) -> Filled:
    """Trim and fill (Duval & Tweedie 2000, Biometrics 56).

    The outermost k0 studies are left out, the centre is estimated from the rest, and k0 from the
    ranks of all around it, in turns until k0 stays.
    """
    sign = 1.0 if side == "left" else -1.0
    order = np.argsort(sign * studies.y, kind="stable")
    y, v, n = sign * studies.y[order], studies.v[order], studies.n
    k0, before, error, centre = 0, -1, np.nan, 0.0
    for _ in range(ROUNDS):
        if k0 == before or n - k0 < 2:
            break
        before = k0
        rest = Studies(y[: n - k0], v[: n - k0], np.ones((n - k0, 1)))
        centre = float(rest.at(between(rest, method).tau2).beta[0])
        k0, error = missing(y - centre, estimator)
    far = slice(n - k0, n)
    return Filled(
        k0, error, side, sign * (2 * centre - y[far]) if k0 else np.zeros(0), v[far] if k0 else
        np.zeros(0), k0 == before,
    )  # fmt: skip


def missing(gaps: Floats, estimator: str) -> tuple[int, float]:
    """Number of studies missing on the left of zero by L0, R0 or Q0, and its standard error."""
    n = len(gaps)
    ranks = np.empty(n)
    ranks[np.argsort(np.abs(gaps), kind="stable")] = np.arange(1, n + 1)
    total = float(np.sum(ranks[gaps > 0]))
    if estimator == "R0":
        low = float(np.max(ranks[gaps < 0], initial=0.0))
        k0 = n - low - 1
        variance = 2 * max(0.0, k0) + 2
        return int(max(0, np.round(k0))), float(np.sqrt(variance))
    if estimator == "L0":
        k0 = (4 * total - n * (n + 1)) / (2 * n - 1)
        slope = 4 / (2 * n - 1)
    else:
        k0 = n - 0.5 - np.sqrt(2 * n**2 - 4 * total + 0.25)
        slope = 2 / np.sqrt((n - 0.5) ** 2 - k0 * (2 * n - k0 - 1))
    spread = (
        n * (n + 1) * (2 * n + 1) + 10 * k0**3 + 27 * k0**2 + 17 * k0 - 18 * n * k0**2
        - 18 * n * k0 + 6 * n**2 * k0
    ) / 24  # fmt: skip
    return int(max(0, np.round(k0))), float(slope * np.sqrt(max(0.0, spread)))


def baujat(studies: Studies) -> tuple[Floats, Floats]:
    """Part of each study in Q, and what it moves its fitted value by, squared (Baujat 2002).

    Both with the weights 1 / v; the second in units of its variance without the study.
    """
    whole = studies.at(0.0)
    part = whole.weights * whole.residuals**2
    moved = np.full(studies.n, np.nan)
    for i in range(studies.n):
        rest = studies.without(i)
        if rest.n > rest.p and np.linalg.matrix_rank(rest.X) == rest.p:
            at, x = rest.at(0.0), studies.X[i]
            moved[i] = float(x @ (whole.beta - at.beta)) ** 2 / float(x @ at.bread @ x)
    return np.asarray(part), moved
