"""Random small generalised models against the Laplace approximation by dense algebra.

`problem(seed)` draws a family, a formula and a table; `faults(seed)` fits them and lists what is
wrong: a raw exception, a log-likelihood that differs from the twin's at the same parameters, a
better optimum. The twin shares no code with the package: log densities and their derivatives are
written out below, the mode is found by Newton's method on all effects at once, and the optimum
is searched from three random points.

    python tests/random_generalised.py SEED COUNT
"""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from random_cases import main
from scipy.optimize import minimize
from scipy.special import digamma, expit, gammaln, polygamma

import ranef
from ranef import families
from ranef.errors import RanefError

Floats = NDArray[np.float64]
Density = tuple[Floats, Floats, Floats]

BETTER = 2e-3
LARGEST = 50.0
FAMILIES = ["poisson", "binomial", "trials", "nbinom1", "nbinom2", "Gamma", "gaussian"]
FIXED = ["1", "x", "f", "x+f", "x*f", "poly(x,2)", "within(x,g)+between(x,g)", "0+f"]
RANDOM = [
    "(1|g)", "(1|g)", "(x|g)", "(x||g)", "(1|g)+(1|k)", "(0+f|g)", "(f||g)", "(1|g/k)", "(0+x|g)",
    "diag(0+f|g)", "homcs(0+f|g)", "cs(0+f|g)", "(1|mm(k,m))", "(1|g)+(0+x|k)",
]  # fmt: skip
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "summary": repr,
    "variance": lambda fit: fit.tidy("variance"),
    "random": lambda fit: fit.tidy("random"),
    "interval": lambda fit: fit.predict(kind="population", conf_level=0.9, interval="new"),
    "check": lambda fit: repr(fit.check(n=20, rng=1)),
    "emmeans": lambda fit: repr(fit.emmeans("f")),
    "average": lambda fit: repr(fit.average("x")),
    "simulate": lambda fit: fit.simulate(2, rng=1),
    "r2": lambda fit: repr(fit.r2()),
    "confint": lambda fit: fit.confint(),
}


@dataclass(frozen=True)
class Problem:
    """A model and its table."""

    formula: str
    family: str
    table: pd.DataFrame
    arguments: dict[str, Any]


def problem(seed: Any) -> Problem:
    """Draw one."""
    rng = np.random.default_rng(seed)
    n, q, r = int(rng.integers(8, 60)), int(rng.integers(2, 9)), int(rng.integers(2, 5))
    g, k = rng.integers(0, q, n), rng.integers(0, r, n)
    x = rng.normal(size=n) * rng.choice([1, 1, 100, 0.01])
    f = np.array(list("abc"))[rng.integers(0, int(rng.integers(1, 4)), n)]
    eta = 0.3 + 0.4 * x / np.abs(x).max() + rng.choice([0, 0.3, 1, 2]) * rng.normal(size=q)[g]
    eta = eta + rng.choice([0, 0.7]) * rng.normal(size=r)[k]
    family = str(rng.choice(FAMILIES))
    size = rng.integers(1, 12, n) if family == "trials" else np.ones(n, dtype=int)
    mean = np.exp(eta)
    drawn: dict[str, Callable[[], Any]] = {
        "poisson": lambda: rng.poisson(mean),
        "binomial": lambda: rng.binomial(1, expit(eta)),
        "trials": lambda: rng.binomial(size, expit(eta)),
        "nbinom1": lambda: rng.negative_binomial(1.5, 1.5 / (1.5 + mean)),
        "nbinom2": lambda: rng.negative_binomial(1.5, 1.5 / (1.5 + mean)),
        "Gamma": lambda: mean * rng.gamma(2, 0.5, n),
        "gaussian": lambda: mean + 0.5 * rng.normal(size=n),
    }
    y = drawn[family]()
    table = pd.DataFrame({
        "y": y, "rest": size - y, "x": x, "f": f, "g": [f"g{i}" for i in g], "k": k,
        "m": rng.integers(0, r, n), "w": np.exp(0.5 * rng.normal(size=n)),
        "o": 0.3 * rng.normal(size=n),
    })  # fmt: skip
    arguments = {}
    if rng.random() < 0.25 and family != "trials":
        arguments["weights"] = "w"
    if rng.random() < 0.25:
        arguments["offset"] = "o"
    left = "cbind(y, rest)" if family == "trials" else "y"
    formula = f"{left} ~ {rng.choice(FIXED)} + {rng.choice(RANDOM)}"
    return Problem(formula, family, table, arguments)


def named(family: str) -> Any:
    """The family as `glmm` takes it."""
    if family in ("Gamma", "gaussian"):
        return families.family(family, "log")
    return "binomial" if family == "trials" else family


# --- the twin ------------------------------------------------------------------------


def density(family: str, y: Floats, eta: Floats, shape: float, size: Floats) -> Density:
    """Log density of each row, its derivative in eta, and minus the second one."""
    m = np.exp(eta)
    if family == "poisson":
        return y * eta - m - gammaln(y + 1), y - m, m
    if family in ("binomial", "trials"):
        p = expit(eta)
        ways = gammaln(size + 1) - gammaln(y + 1) - gammaln(size - y + 1)
        return y * eta - size * np.logaddexp(0, eta) + ways, y - size * p, size * p * (1 - p)
    if family == "nbinom2":
        a = np.exp(shape)
        value = gammaln(y + a) - gammaln(a) - gammaln(y + 1) + a * shape + y * eta
        total = (y + a) / (a + m)
        return value - (y + a) * np.log(a + m), y - total * m, total * m * a / (a + m)
    if family == "nbinom1":
        a, s = np.exp(shape), m / np.exp(shape)
        value = gammaln(y + s) - gammaln(s) - gammaln(y + 1) - s * np.log1p(a)
        first = digamma(y + s) - digamma(s) - np.log1p(a)
        second = polygamma(1, y + s) - polygamma(1, s)
        return value + y * (shape - np.log1p(a)), s * first, -(s * first + s * s * second)
    if family == "Gamma":
        v, ratio = np.exp(-2 * shape), y * np.exp(-eta)
        value = v * (np.log(v) - eta) + (v - 1) * np.log(y) - v * ratio - gammaln(v)
        return value, v * (ratio - 1), v * ratio
    variance, rest = np.exp(2 * shape), y - m
    value = -0.5 * np.log(2 * np.pi * variance) - rest**2 / (2 * variance)
    return value, rest * m / variance, (m * m - rest * m) / variance


@dataclass(frozen=True, eq=False)
class Twin:
    """A model by dense algebra."""

    family: str
    y: Floats
    size: Floats
    weights: Floats
    Z: Floats

    def deviance(self, mean: Floats, Psi: Floats, shape: float) -> float:
        """Minus twice the log-likelihood by Laplace, at predictors without effects."""
        values, vectors = np.linalg.eigh(Psi)
        A = self.Z @ (vectors * np.sqrt(np.maximum(values, 0)))
        u, unit, w = np.zeros(A.shape[1]), np.eye(A.shape[1]), self.weights

        def at(u: Floats) -> Density:
            return density(self.family, self.y, mean + A @ u, shape, self.size)

        best = float(w @ at(u)[0])
        for _ in range(200):
            _, slope, bend = at(u)
            gradient, H = A.T @ (w * slope) - u, A.T @ ((w * bend)[:, None] * A) + unit
            if np.linalg.eigvalsh(H)[0] < 1e-6:
                H = A.T @ ((w * np.abs(bend))[:, None] * A) + unit
            step, length = np.linalg.solve(H, gradient), 1.0
            while length > 1e-8:
                trial = u + length * step
                value = float(w @ at(trial)[0] - 0.5 * trial @ trial)
                if value >= best - 1e-12 * abs(best):
                    break
                length /= 2
            u, best = u + length * step, value
            if gradient @ step < 1e-14:
                break
        sign, logdet = np.linalg.slogdet(A.T @ ((w * at(u)[2])[:, None] * A) + unit)
        return -2 * best + float(logdet) if sign > 0 and np.isfinite(best) else 1e10


def together(blocks: list[tuple[int, Floats]]) -> Floats:
    """Covariance of all effects of matrices, each for so many levels."""
    parts = [np.kron(np.eye(levels), psi) for levels, psi in blocks]
    ends = np.cumsum([0, *(len(part) for part in parts)])
    out = np.zeros((ends[-1], ends[-1]))
    for part, a, b in zip(parts, ends[:-1], ends[1:], strict=True):
        out[a:b, a:b] = part
    return out


def differences(case: Problem, fit: Any) -> Iterator[str]:
    """List where the fit differs from the twin."""
    estimate = fit.estimate
    spec, parts = estimate.specification, {c.name: c for c in estimate.components}
    beta = estimate.coefficients[parts["conditional"].coefficients]
    own = parts.get("dispersion")
    shape = float(estimate.coefficients[own.coefficients][0]) if own else 0.0
    n, columns = spec.n, []
    for term in estimate.terms:
        factor = estimate.factors[term.factor]
        if factor.members is not None:
            return
        Z = np.zeros((n, factor.n_levels * term.size))
        for i, level in enumerate(factor.codes):
            Z[i, level * term.size : (level + 1) * term.size] = term.z[i]
        columns.append(Z)
    size = np.ones(n) if case.family != "trials" else estimate.extra
    weights = np.ones(n) if spec.weights is None else spec.weights
    offset = np.zeros(n) if spec.offset is None else spec.offset
    twin = Twin(case.family, spec.y, size, weights, np.hstack(columns))
    levels = [estimate.factors[term.factor].n_levels for term in estimate.terms]

    def deviance(beta: Floats, psis: list[Floats], shape: float) -> float:
        Psi = together(list(zip(levels, psis, strict=True)))
        return twin.deviance(spec.X @ beta + offset, Psi, shape)

    with np.errstate(all="ignore"):
        found = deviance(beta, list(estimate.covariances), shape)
        if abs(found + 2 * fit.loglik) > 1e-5 * (1 + abs(found)):
            yield f"log-likelihood {fit.loglik!r}, by the twin {-found / 2!r}"
        yield from better(case, fit, beta, shape if own else None, deviance)


def better(
    case: Problem, fit: Any, beta: Floats, shape: float | None, deviance: Callable[..., float]
) -> Iterator[str]:
    """Look for a lower deviance, where the joint density of the effects has one mode."""
    terms = fit.estimate.terms
    if case.family == "gaussian" or any(t.structure not in ("us", "diag") for t in terms):
        return
    counts = [t.size * (t.size + 1) // 2 if t.structure == "us" else t.size for t in terms]
    if sum(counts) + len(beta) > 9:
        return
    ends = np.cumsum([0, *counts])
    unit = np.abs(fit.estimate.specification.X).max(axis=0)

    def psi(term: Any, v: Floats) -> Floats:
        sizes = np.sqrt((term.z**2).mean(axis=0))
        if term.structure == "diag":
            return np.diag((v / sizes) ** 2)
        L = np.zeros((term.size, term.size))
        L[np.tril_indices(term.size)] = v
        return (L / sizes[:, None]) @ (L / sizes[:, None]).T

    def at(v: Floats) -> float:
        if np.abs(v).max() > LARGEST:
            return 1e10
        psis = [psi(t, v[a:b]) for t, a, b in zip(terms, ends[:-1], ends[1:], strict=True)]
        own = v[ends[-1] :][: len(beta)] / unit
        try:
            return deviance(own, psis, 0.0 if shape is None else v[-1])
        except np.linalg.LinAlgError:
            return 1e10

    rng = np.random.default_rng(5)
    best = np.inf
    for size in (0.7, 0.1, 2.0):
        start = [*size * rng.normal(size=ends[-1]), *beta * unit + 0.3 * rng.normal(size=len(beta))]
        start += [] if shape is None else [shape]
        best = min(best, minimize(at, start, method="L-BFGS-B", options={"maxiter": 60}).fun)
    if -2 * fit.loglik - best > BETTER:
        yield f"a better optimum: {-2 * fit.loglik - best:.6g} lower ({fit.optimum.message})"


def faults(seed: Any) -> list[str]:
    """Fit a problem and list what is wrong."""
    case = problem(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.errors.RanefWarning)
        warnings.simplefilter("error", RuntimeWarning)
        try:
            fit = ranef.glmm(case.formula, case.table, family=named(case.family), **case.arguments)
        except RanefError:
            return []
        except Exception:
            return [f"raw: {traceback.format_exc()}"]
        found = list(differences(case, fit)) if fit.optimum.converged else []
        rng = np.random.default_rng([7, *np.atleast_1d(seed)])
        for name in rng.choice(list(QUESTIONS), 2, replace=False):
            try:
                QUESTIONS[name](fit)
            except RanefError:
                pass
            except Exception:
                found.append(f"raw, {name}: {traceback.format_exc()}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fit.ranef"
            fit.save(path)
            if ranef.load(path).loglik != fit.loglik:
                found.append("another log-likelihood once it was saved")
    return found


def told(seed: list[int]) -> dict[str, Any]:
    """What a report shows of a model."""
    case = problem(seed)
    return {"formula": case.formula, "family": case.family, "arguments": case.arguments}


if __name__ == "__main__":
    main(faults, told)
