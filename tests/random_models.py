"""Random small models against brute-force dense algebra.

`problem(seed)` draws a formula from a grammar and a design from complete to broken: missing
cells, one level, one row a level, collinear columns, weights, offsets, missing values, nested
and crossed groupings, slopes, double bars, factor slopes and structures. `faults(seed)` fits it
and lists what is wrong: a raw exception, or a number that differs from the twin's.

The twin shares no code with the package. It makes each column of X and Z from its name and the
user's table, V from the covariance matrices that the fit reports, and takes everything else from
the definition: the (restricted) log-likelihood, sigma, generalised least squares, best linear
unbiased predictions, predictions of other rows and their standard errors, whether a row can be
estimated, and a search of its own for a better optimum.

    python tests/random_models.py SEED COUNT     run models [SEED, 0] to [SEED, COUNT - 1]
    python tests/random_models.py SEED FIRST STOP
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
from numpy.random import Generator
from numpy.typing import NDArray
from random_cases import main
from scipy.optimize import minimize

import ranef
from ranef.errors import RanefError

Floats = NDArray[np.float64]

CLOSE = 1e-6
"""Relative; of numbers that both sides take from the same parameters."""
BETTER = 1e-3
"""A deviance that is lower by this is a better optimum."""
LARGEST = 1e4
"""A variance relative to the residual's on the way to where the likelihood has no bound."""


@dataclass(frozen=True)
class Problem:
    """A model and its table.

    Attributes
    ----------
    formula : str
    table : pandas.DataFrame
    arguments : dict
        Of the call.
    terms : tuple of tuple of str
        Of the fixed effects, each a set of columns; the intercept is the empty one.
    """

    formula: str
    table: pd.DataFrame
    arguments: dict[str, Any]
    terms: tuple[tuple[str, ...], ...]


# --- the grammar ---------------------------------------------------------------------

FIXED = [
    ((),), ((), ("x",)), ((), ("f",)), ((), ("x",), ("f",)), ((), ("x",), ("f",), ("f", "x")),
    ((), ("f",), ("h",), ("f", "h")), ((), ("f",), ("h",)), ((), ("x",), ("x2",)), (("f",),),
    (("x",),), ((), ("f", "h")), ((), ("x",), ("f", "x")), ((), ("u",), ("f",), ("h",), ("x",)),
    (("f",), ("f", "x")), ((), ("t",)), ((), ("t",), ("x",)), ((), ("c",), ("x",)),
    ((), ("one",), ("x",)), ((), ("g",)), ((), ("x",), ("u",), ("x", "u")),
]  # fmt: skip
RANDOM = [
    "(1 | g)", "(1 | g)", "(x | g)", "(x || g)", "(0 + x | g)", "(f | g)", "(0 + f | g)",
    "(f || g)", "(0 + f || g)", "(1 | g) + (1 | k)", "(x | g) + (1 | k)", "(1 | g/k)", "(1 | g:k)",
    "(1 | g/s)", "(x || g) + (1 | k)", "(1 | k) + (1 | g:k)", "(x + u | g)", "(x + u || g)",
    "(1 | row)", "(1 | s)", "(x | s)", "(x + f | g)", "(f:x | g)", "(1 | g) + (0 + x | k)",
    "(1 | f)", "(1 | g + k)", "(1 | one)", "(1 | g) + (1 | k) + (1 | s)",
    "cs(0 + t | g)", "homcs(0 + t | g)", "ar1(0 + t | g)", "hetar1(0 + t | g)", "diag(0 + t | g)",
    "homdiag(0 + t | g)", "us(0 + t | g)", "toep(0 + t | g)", "homtoep(0 + t | g)", "cs(t | g)",
    "diag(x | g)", "us(x | g)", "cs(0 + f | g)", "ar1(0 + t | g) + (1 | k)", "cs(0 + t | k)",
    "rr(0 + t | g, d = 1)",
]  # fmt: skip
NUMBERS = ("x", "u", "x2", "c")


def problem(seed: Any) -> Problem:
    """Draw one."""
    rng = np.random.default_rng(seed)
    table = design(rng)
    terms = FIXED[rng.integers(len(FIXED))]
    fixed = " + ".join(":".join(t) for t in terms if t) or "1"
    fixed = fixed if () in terms else f"0 + {fixed}"
    mixed = rng.random() > 0.04
    bars = RANDOM[rng.integers(len(RANDOM))] if mixed else ""
    arguments: dict[str, Any] = {"reml": bool(rng.random() < 0.6)}
    if not mixed:
        arguments["random"] = "none"
    if rng.random() < 0.25:
        arguments["weights"] = "w"
    if rng.random() < 0.2:
        arguments["offset"] = "o"
    if rng.random() < 0.4:
        arguments["undetermined"] = "keep"
    formula = f"y ~ {fixed}{' + ' + bars if bars else ''}"
    return Problem(formula, table, arguments, terms)


def design(rng: Generator) -> pd.DataFrame:
    """Draw a table."""
    n = int(rng.integers(5, 46))
    q, r = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    g = np.sort(rng.integers(0, q, n)) if rng.random() < 0.5 else np.arange(n) % q
    k = rng.integers(0, r, n) if rng.random() < 0.7 else np.arange(n) // max(n // r, 1) % r
    visits = int(rng.integers(1, 5))
    t = pd.Series(np.arange(n)).groupby(g).cumcount().to_numpy() % visits
    f = rng.integers(0, int(rng.integers(1, 5)), n)
    h = rng.integers(0, int(rng.integers(1, 4)), n)
    x = rng.normal(size=n) * rng.choice([1, 1, 1, 1e-5, 1e5]) + rng.choice([0, 0, 10])
    if rng.random() < 0.15:
        x = np.round(x)
    u = rng.normal(size=n)
    if rng.random() < 0.1:
        u = 2 * x - 1
    x2 = {0: x**2, 1: 3 * x, 2: x + 1e-3 * u}[int(rng.choice([0, 0, 0, 1, 2]))]
    y = rng.normal(size=n) * rng.choice([1.0, 0.2, 0.01])
    y = y + rng.choice([0, 1]) * rng.normal(size=q)[g] + rng.choice([0, 1]) * rng.normal(size=r)[k]
    y = y + rng.choice([0, 0.5]) * x / max(np.abs(x).max(), 1e-300) * rng.normal(size=q)[g]
    y = y + 0.5 * f + rng.choice([0, 0, 100])
    if rng.random() < 0.04:
        y = np.round(y)
    y = y * rng.choice([1, 1, 1, 1e6, 1e-6])
    label = np.array(list("abcdefghij"))
    table = pd.DataFrame({
        "y": y, "x": x, "u": u, "x2": x2, "c": np.full(n, 2.0), "f": label[f], "h": label[h],
        "g": [f"g{i}" for i in g], "k": k, "s": (g * 100 + k % 2), "t": [f"t{i}" for i in t],
        "one": "only", "row": np.arange(n),
        "w": np.exp(rng.normal(size=n) * rng.choice([0.3, 1.5])) * rng.choice([1, 1, 1e8]),
        "o": rng.normal(size=n) * np.abs(y).max(),
    })  # fmt: skip
    if rng.random() < 0.15:
        table.loc[rng.integers(0, n, 2), "w"] = 0.0
    if rng.random() < 0.15:
        table.loc[rng.integers(0, n, 2), rng.choice(["y", "x", "f"])] = None
    if rng.random() < 0.2 and table.f.nunique() > 1 and table.h.nunique() > 1:
        table = table[~((table.f == "a") & (table.h == "a"))]
    if rng.random() < 0.1:
        table = table.drop_duplicates("g")
    return table.reset_index(drop=True)


# --- the twin ------------------------------------------------------------------------


def column(name: str, table: pd.DataFrame) -> Floats:
    """A column of X or Z from its name: a product of numbers and of indicators of levels."""
    out = np.ones(len(table))
    if name == "(Intercept)":
        return out
    for part in name.split(":"):
        if part in NUMBERS:
            out = out * table[part].to_numpy(float)
            continue
        variable = next(v for v in ("one", "f", "h", "t", "g", "k") if part.startswith(v))
        out = out * (table[variable].astype(str) == part[len(variable) :]).to_numpy(float)
    return out


def every_column(terms: tuple[tuple[str, ...], ...], table: pd.DataFrame, used: Any) -> Floats:
    """All columns of the terms, with an indicator for every level: they span what X spans."""
    columns = []
    for term in terms:
        some = [np.ones(len(table))]
        for name in term:
            if name in NUMBERS:
                factors = [table[name].to_numpy(float)]
            else:
                levels = sorted(used[name].astype(str).unique())
                factors = [(table[name].astype(str) == v).to_numpy(float) for v in levels]
            some = [a * b for a in some for b in factors]
        columns += some
    return np.column_stack(columns)


@dataclass(frozen=True, eq=False)
class Twin:
    """The model at the fit's parameters, by dense algebra."""

    y: Floats
    X: Floats
    offset: Floats
    w: Floats
    Z: tuple[Floats, ...]
    reml: bool

    def covariance(self, psis: list[Floats], sigma2: float) -> Floats:
        """V of the rows."""
        V = np.diag(sigma2 / self.w)
        for Z, psi in zip(self.Z, psis, strict=True):
            levels = Z.shape[1] // len(psi)
            V = V + Z @ np.kron(np.eye(levels), psi) @ Z.T
        return V

    def cancelled(self, estimate: Any, V: Floats) -> float:
        """How much larger than V the parts are of which reported parameters make it."""
        out = 0.0
        for Z, psi in zip(self.Z, estimate.covariances, strict=True):
            A = np.abs(Z.reshape(len(Z), -1, len(psi))).sum(axis=1)
            out = max(out, float((np.einsum("ia,ab,ib->i", A, np.abs(psi), A) / np.diag(V)).max()))
        return out

    def solved(self, V: Floats) -> tuple[float, Floats, Floats, Floats]:
        """Minus twice the log-likelihood, beta, its covariance, and V^-1 (y - X beta)."""
        n, p = self.X.shape
        L = np.linalg.cholesky(V)
        half = np.linalg.solve(L, np.column_stack([self.X, self.y - self.offset]))
        q, R = np.linalg.qr(half[:, :p])
        beta = np.linalg.solve(R, q.T @ half[:, p]) if p else np.zeros(0)
        rest = half[:, p] - half[:, :p] @ beta
        m = n - p if self.reml else n
        logdet = 2 * np.log(np.diag(L)).sum()
        if self.reml:
            logdet += 2 * np.log(np.abs(np.diag(R))).sum()
        deviance = logdet + rest @ rest + m * np.log(2 * np.pi)
        inverse = np.linalg.inv(R) if p else np.zeros((0, 0))
        return float(deviance), beta, inverse @ inverse.T, np.linalg.solve(L.T, rest)


def dense_z(term: Any, factor: Any, table: pd.DataFrame) -> Floats:
    """Z of one term: its columns by the levels of its factor, level by level."""
    columns = np.column_stack([column(name, table) for name in term.names])
    Z = np.zeros((len(table), factor.n_levels * term.size))
    for i, level in enumerate(factor.codes):
        Z[i, level * term.size : (level + 1) * term.size] = columns[i]
    return Z


def same_partition(codes: Any, labels: Any) -> bool:
    """Tell whether two codings put the same rows together."""
    pairs = pd.DataFrame({"a": np.asarray(codes), "b": np.asarray(labels)}).drop_duplicates()
    return len(pairs) == pairs.a.nunique() == pairs.b.nunique()


def places(names: tuple[str, ...], table: pd.DataFrame) -> NDArray[np.int64]:
    """Places of columns among the levels of t that the table has, left-out rows too."""
    levels = sorted(table["t"].dropna().unique())
    known = [f"t{level}" for level in levels]
    at = [known.index(name) if name in known else i for i, name in enumerate(names)]
    return np.array(at)


def has_structure(name: str, psi: Floats, at: NDArray[np.int64], least: float = 0.0) -> bool:
    """Tell whether a covariance matrix is of its structure, its columns at these places.

    An eigenvalue below zero by `least` is rounding.
    """
    r, sd = len(psi), np.sqrt(np.diag(psi))
    size = float(sd.max(initial=0.0))
    if size < 1e-150:
        return True
    off = psi / size**2
    equal = np.allclose(sd / size, sd[0] / size, atol=1e-7)
    apart = np.abs(np.subtract.outer(at, at))
    lags = [off[apart == i] for i in range(1, int(apart.max(initial=0)) + 1)]
    lags = [lag if lag.size else np.array([np.nan]) for lag in lags]
    if name in ("diag", "homdiag"):
        return bool(np.allclose(off, np.diag(np.diag(off)), atol=1e-9)) and (
            equal if name == "homdiag" else True
        )
    if name in ("homcs", "ar1", "homtoep") and not equal:
        return False
    if name in ("homtoep", "ar1"):
        same = all(np.allclose(lag, lag[0], atol=1e-7, equal_nan=True) for lag in lags)
        if name == "homtoep" or r < 3 or not same:
            return same
        if np.isnan(lags[0][0]) or off[0, 0] <= 1e-12:
            return True
        known = [(i, lag[0]) for i, lag in enumerate(lags) if not np.isnan(lag[0])]
        return all(
            abs(v - off[0, 0] * (lags[0][0] / off[0, 0]) ** (i + 1)) < 1e-6 for i, v in known
        )
    if name in ("cs", "homcs") and r > 2 and sd.min() > 1e-6 * size:
        corr = (psi / sd[:, None] / sd)[np.triu_indices(r, 1)]
        return bool(np.allclose(corr, corr[0], atol=1e-5))
    return bool(np.linalg.eigvalsh(off)[0] > -1e-8 - least / size**2)


def close(ours: Any, theirs: Any, size: float, tolerance: float = CLOSE) -> bool:
    """Tell whether numbers agree, beside the size that they can have."""
    gap = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))
    return bool(np.all(gap <= tolerance * (size + np.abs(np.asarray(theirs, dtype=float)))))


# --- what can be wrong ---------------------------------------------------------------


def faults(seed: Any) -> list[str]:
    """Fit a problem and list what is wrong."""
    case = problem(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.errors.RanefWarning)
        warnings.simplefilter("error", RuntimeWarning)
        try:
            fit = ranef.lmm(case.formula, case.table, **case.arguments)
        except RanefError:
            return []
        except Exception:
            return [f"raw: {traceback.format_exc()}"]
        try:
            found = list(differences(case, fit))
        except Exception:
            found = [f"raw, beside the twin: {traceback.format_exc()}"]
        rng = np.random.default_rng([7, *np.atleast_1d(seed)])
        for name in rng.choice(list(QUESTIONS), 3, replace=False):
            try:
                QUESTIONS[name](fit)
            except RanefError:
                pass
            except Exception:
                found.append(f"raw, {name}: {traceback.format_exc()}")
    return found


def _saved(fit: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.ranef"
        fit.save(path)
        assert ranef.load(path).loglik == fit.loglik


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "summary": repr,
    "tidy": lambda fit: [fit.tidy(), fit.tidy("variance")],
    "random": lambda fit: fit.tidy("random"),
    "kenward": lambda fit: fit.tidy(df="kenward-roger"),
    "containment": lambda fit: fit.tidy(df="containment"),
    "anova": lambda fit: repr(fit.anova()),
    "joint": lambda fit: repr(fit.joint_tests()),
    "emmeans": lambda fit: repr(fit.emmeans("f")),
    "contrasts": lambda fit: repr(fit.contrasts("f", adjust="holm")),
    "emtrends": lambda fit: repr(fit.emtrends("f", "x")),
    "average": lambda fit: repr(fit.average("x")),
    "averages": lambda fit: repr(fit.average("f")),
    "interval": lambda fit: fit.predict(conf_level=0.9, interval="new", kind="population"),
    "augment": lambda fit: fit.augment(),
    "coefficients": lambda fit: fit.coef_by_level("g"),
    "r2": lambda fit: repr(fit.r2()),
    "icc": lambda fit: repr(fit.icc()),
    "collinearity": lambda fit: repr(fit.collinearity()),
    "leverage": lambda fit: repr(fit.leverage()),
    "influence": lambda fit: repr(fit.influence(by="row")),
    "robust": lambda fit: repr(fit.robust()),
    "simulate": lambda fit: fit.simulate(2, rng=1),
    "bootstrap": lambda fit: repr(fit.bootstrap(3, rng=1)),
    "variance_test": lambda fit: repr(fit.variance_test(method="mixture")),
    "posterior": lambda fit: repr(fit.posterior()),
    "rank": lambda fit: repr(fit.rank()),
    "shrinkage": lambda fit: repr(fit.shrinkage()),
    "equation": lambda fit: f"{fit.equation()} {fit.methods()}",
    "check": lambda fit: repr(fit.check(n=20, rng=1)),
    "saved": _saved,
}


def differences(case: Problem, fit: Any) -> Iterator[str]:
    """List where the fit differs from the twin."""
    estimate = fit.estimate
    spec, reml = estimate.specification, estimate.reml
    rows = spec.accounting.kept
    table = case.table if rows is None else case.table[np.asarray(rows)].reset_index(drop=True)
    n = len(table)
    X = np.column_stack([column(name, table) for name in spec.names] or [np.zeros((n, 0))])
    full = every_column(case.terms, table, table)
    if not close(spec.X, X, 0.0, 1e-12):
        yield "X differs from the names of its columns"
        return
    sized = full / np.maximum(np.abs(full).max(axis=0), 1e-300)
    basis = np.linalg.svd(X / np.abs(X).max(axis=0), full_matrices=False)[0]
    lost = np.abs(sized - basis @ (basis.T @ sized)).max(initial=0.0)
    if lost > 1e-5:
        yield f"X does not span the terms: {lost:.3g}"
    weights = table["w"].to_numpy() if "weights" in case.arguments else np.ones(n)
    offset = table["o"].to_numpy() if "offset" in case.arguments else np.zeros(n)
    Z = []
    for term, psi in zip(estimate.terms, estimate.covariances, strict=True):
        factor = estimate.factors[term.factor]
        labels = table[list(factor.columns)].astype(str).agg("|".join, axis=1)
        if not same_partition(factor.codes, labels):
            yield f"the levels of {factor.name} are not those of its columns"
        Z.append(dense_z(term, factor, table))
        if not close(term.z, np.column_stack([column(v, table) for v in term.names]), 0, 1e-12):
            yield f"Z of {term.label} differs from the names of its columns"
        least = 1e-10 * estimate.sigma**2 / max(float(np.max(term.z**2, initial=0.0)), 1e-300)
        if not has_structure(term.structure, psi, places(term.names, case.table), least):
            yield f"the covariance of ({term.label}) is no {term.structure}: {psi.tolist()}"
    twin = Twin(table["y"].to_numpy(float), X, offset, weights, tuple(Z), reml)
    yield from _at_the_parameters(case, fit, twin, table)
    yield from _of_other_rows(case, fit, twin, table, full)
    yield from _better(fit, twin)


def _at_the_parameters(case: Problem, fit: Any, twin: Twin, table: Any) -> Iterator[str]:
    """What follows from the fit's variances."""
    estimate = fit.estimate
    V = twin.covariance(list(estimate.covariances), estimate.sigma**2)
    if not (np.diag(V) > 0).all():
        return  # reported parameters cancel in V
    condition = np.linalg.cond(V / np.sqrt(np.outer(np.diag(V), np.diag(V))))
    lost = 1e-15 * condition * twin.cancelled(estimate, V)
    if condition > (1e9 if fit.optimum.converged else 1e6) or lost > 1e-2:
        return  # neither side has the digits
    deviance, beta, C, Py = twin.solved(V)
    loose = max(CLOSE, 1e-13 * condition, lost)
    if not close(fit.loglik, -deviance / 2, 10.0, loose):
        yield f"log-likelihood {fit.loglik!r}, by the twin {-deviance / 2!r}"
    n, p = twin.X.shape
    m = n - p if twin.reml else n
    sigma = estimate.sigma * np.sqrt((twin.y - twin.offset - twin.X @ beta) @ Py / m)
    if not close(estimate.sigma, sigma, 0.0, 10 * loose):
        yield f"sigma {estimate.sigma!r}, profiled by the twin {sigma!r}"
    error = np.sqrt(np.diag(C))
    digits = 1e-4 if fit.optimum.converged else 1e-3  # of a standard error
    if not np.all(np.abs(estimate.coefficients - beta) <= digits * error * max(1, loose / CLOSE)):
        yield f"coefficients {estimate.coefficients.tolist()}, by the twin {beta.tolist()}"
    ours = np.sqrt(np.diag(estimate.coefficient_vcov))
    if not close(ours, error, 0.0, 1e-5 * max(1, loose / CLOSE)):
        yield f"standard errors {ours.tolist()}, by the twin {error.tolist()}"
    if not fit.optimum.converged:
        return  # at huge variances the effects have fewer digits than the coefficients
    size = float(np.sqrt(np.diag(V)).max())
    for Z, psi, b in zip(twin.Z, estimate.covariances, estimate.modes, strict=True):
        u = np.kron(np.eye(Z.shape[1] // len(psi)), psi) @ (Z.T @ Py)
        scale = float(np.sqrt(np.diag(psi).max())) + 1e-300
        # effects move with coefficients that are known to a billionth of their error
        scale += 1e-5 * float((np.abs(twin.X) @ error).max(initial=0.0))
        if not close(b.ravel(), u, scale, 1e-4 * max(1, loose / CLOSE)):
            yield f"effects {b.ravel().tolist()}, by the twin {u.tolist()}"
    mean = twin.offset + twin.X @ beta
    mean = mean + sum(
        (Z @ b.ravel() for Z, b in zip(twin.Z, estimate.modes, strict=True)), np.zeros(n)
    )
    shown = np.asarray(fit.fitted(), dtype=float)
    if estimate.specification.accounting.kept is not None:
        shown = shown[np.asarray(estimate.specification.accounting.kept)]
    known = ~np.isnan(shown)
    if not fit.optimum.flat and not known.all():
        yield "fitted values are missing though all is determined"
    if not close(shown[known], mean[known], size, 1e-4 * max(1, loose / CLOSE)):
        yield f"fitted values differ by {np.abs(shown - mean).max():.3g}"


def _of_other_rows(
    case: Problem, fit: Any, twin: Twin, table: pd.DataFrame, full: Floats
) -> Iterator[str]:
    """Predictions of rows of which each column is that of some row, and whether there are any."""
    estimate = fit.estimate
    rng = np.random.default_rng(3)
    new = pd.DataFrame({name: rng.choice(table[name].to_numpy(), 8) for name in table.columns})
    X0 = np.column_stack(
        [column(name, new) for name in estimate.specification.names] or [np.zeros((8, 0))]
    )
    F0 = every_column(case.terms, new, table)
    sizes = np.abs(full).max(axis=0)
    sizes[sizes == 0] = 1.0
    _, values, basis = np.linalg.svd(full / sizes, full_matrices=True)
    rank = int(np.sum(values > 1e-7 * values[0])) if len(values) and values[0] > 0 else 0
    outside, length = F0 @ (basis[rank:] / sizes).T, np.linalg.norm(F0 / sizes, axis=1)
    gap = np.linalg.norm(outside, axis=1) / np.maximum(length, 1e-300)
    clear = values[rank - 1] > 1e-4 * values[0] if rank else True
    found = fit.predict(new, kind="typical", conf_level=0.95, df="normal")
    estimates = found["estimate"].to_numpy(float)
    errors = found["std_error"].to_numpy(float)
    if clear:
        # a column may be smaller than those that it depends on by orders of magnitude
        if np.any(np.isnan(estimates) & (gap < 1e-11)) and not fit.optimum.flat:
            yield f"rows that can be estimated have no prediction: {gap.tolist()}"
        if np.any(~np.isnan(estimates) & (gap > 1e-3)):
            yield f"rows that cannot be estimated have a prediction: {gap.tolist()}"
    known = ~np.isnan(estimates) & (gap < 1e-6)
    b, C = estimate.coefficients, estimate.coefficient_vcov
    o = new["o"].to_numpy() if "offset" in case.arguments else np.zeros(8)
    mean, error = o + X0 @ b, np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", X0, C, X0), 0))
    scale = float(np.abs(twin.y).max() + np.abs(twin.offset).max()) + 1e-300
    if not close(estimates[known], mean[known], scale, 1e-7):
        yield f"predictions {estimates.tolist()}, by the twin {mean.tolist()}"
    known &= ~np.isnan(errors)
    # what cancels in x'Cx where columns are nearly dependent
    rounding = 1e-14 * np.einsum("ij,jk,ik->i", np.abs(X0), np.abs(C), np.abs(X0))
    allowed = 1e-5 * (error + 1e-6 * scale) + rounding / np.maximum(error, 1e-300)
    if np.any(np.abs(errors - error)[known] > allowed[known]):
        yield f"errors of predictions {errors.tolist()}, by the twin {error.tolist()}"


def parametrised(estimate: Any) -> tuple[int, Callable[[Floats], list[Floats]]] | None:
    """Covariance matrices of the terms as functions of free numbers; None if one has none here."""
    makers: list[tuple[int, Callable[[Floats], Floats]]] = []
    for term in estimate.terms:
        r = term.size
        if term.structure == "us":
            places = np.tril_indices(r)

            def us(v: Floats, r: int = r, places: Any = places) -> Floats:
                L = np.zeros((r, r))
                L[places] = v
                return L @ L.T

            makers.append((len(places[0]), us))
        elif term.structure in ("diag", "homdiag"):
            count = r if term.structure == "diag" else 1
            makers.append((count, lambda v, r=r: np.diag(np.broadcast_to(v**2, (r,)))))
        elif term.structure in ("homcs", "ar1") and r > 1:
            low = -1 / (r - 1) if term.structure == "homcs" else -1.0
            power = np.abs(np.subtract.outer(np.arange(r), np.arange(r)))
            power = np.minimum(power, 1) if term.structure == "homcs" else power

            def one(v: Floats, low: float = low, power: Any = power) -> Floats:
                rho = low + (1 - low) / (1 + np.exp(-np.clip(v[1], -30, 30)))
                return np.asarray(v[0] ** 2 * rho**power)

            makers.append((2, one))
        else:
            return None
    ends = np.cumsum([0] + [count for count, _ in makers])

    def psis(v: Floats) -> list[Floats]:
        return [make(v[a:b]) for (_, make), a, b in zip(makers, ends[:-1], ends[1:], strict=True)]

    return int(ends[-1]), psis


def _better(fit: Any, twin: Twin) -> Iterator[str]:
    """Look for a lower deviance where the fit says that its own is proved."""
    known = parametrised(fit.estimate)
    if known is None or not fit.optimum.converged or known[0] == 0 or known[0] > 6:
        return
    count, psis = known
    n, p = twin.X.shape
    m = n - p if twin.reml else n
    # the units of each column of Z, and of the response
    sizes = [np.sqrt(np.maximum((Z**2).sum(axis=1).mean(), 1e-300)) for Z in twin.Z]
    rest = twin.y - twin.offset
    unit = np.sqrt(np.exp(-np.log(twin.w).mean()))
    if p:
        rest = rest - twin.X @ np.linalg.lstsq(twin.X, rest, rcond=None)[0]
    scaled = Twin(
        rest / rest.std(),
        twin.X / np.abs(twin.X).max(axis=0),
        0 * rest,
        twin.w * unit**2,
        tuple(Z / s for Z, s in zip(twin.Z, sizes, strict=True)),
        twin.reml,
    )

    def profiled(v: Floats) -> float:
        try:
            V = scaled.covariance(psis(v), 1.0)
            deviance, beta, _, Py = scaled.solved(V)
        except np.linalg.LinAlgError:
            return 1e10
        r2 = float((scaled.y - scaled.X @ beta) @ Py)
        return deviance - r2 + m * (1 + np.log(r2 / m)) if r2 > 0 else 1e10

    # the same in the units above, of the response and, under REML, of X
    shift = 2 * m * np.log(rest.std())
    if twin.reml:
        shift += 2 * np.log(np.abs(twin.X).max(axis=0)).sum()
    rng = np.random.default_rng(5)
    best = np.inf
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in (1.0, 0.1, 10.0):
            end = minimize(profiled, size * rng.normal(size=count), method="L-BFGS-B")
            largest = max((np.diag(psi).max() for psi in psis(end.x)), default=0.0)
            if largest < LARGEST:
                best = min(best, end.fun)
    gap = -2 * fit.loglik - (best + shift)
    if gap > BETTER:
        yield f"a better optimum: {gap:.6g} lower ({fit.optimum.message}, {fit.optimum.starts})"


def told(seed: list[int]) -> dict[str, Any]:
    """What a report shows of a model."""
    case = problem(seed)
    return {"formula": case.formula, "arguments": case.arguments}


if __name__ == "__main__":
    main(faults, told)
