"""Fits with structured covariance against glmmTMB, nlme and dense algebra.

The values come from tests/reference/structures.R, which also makes the
simulated table.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular

import ranef
from ranef.covariance import structure_of

REFERENCE = json.loads((Path(__file__).parent / "reference" / "structures.json").read_text())
FITS = REFERENCE["fits"]


def table(name: str) -> pd.DataFrame:
    return pd.DataFrame(REFERENCE["data"]) if name == "simulated" else ranef.data.load(name)


def label(case: dict) -> str:
    return f"{case['peer']} {case['formula'].split(' + ', 1)[1]} {'REML' if case['reml'] else 'ML'}"


def components(fit) -> dict[str, float]:
    """Variance components by name, sigma included."""
    term = fit.estimate.specification.terms[0]
    found = structure_of(term).components(fit.estimate.theta, term.names)
    scale = {"sd": fit.sigma}
    return {c.parameter.name: c.value * scale.get(c.parameter.kind, 1.0) for c in found}


@pytest.mark.parametrize("case", FITS, ids=map(label, FITS))
def test_fits_of_r(case: dict) -> None:
    fit = ranef.lmm(case["formula"], table(case["table"]), reml=case["reml"])
    assert fit.optimum.converged
    assert fit.loglik == pytest.approx(case["loglik"], rel=0, abs=1e-6)
    np.testing.assert_allclose(fit.estimate.beta, case["beta"], rtol=1e-5)
    assert fit.sigma == pytest.approx(case["sigma"], rel=1e-5)
    if "psi" in case:
        want = np.array(case["psi"])
        got = fit.estimate.covariances[0]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    else:
        found = components(fit)
        assert found["sd"] == pytest.approx(case["sd"], rel=1e-5)
        assert found["range"] == pytest.approx(case["range"], rel=1e-5)


def dense_deviance(y, X, V, reml: bool) -> float:
    """Minus twice the (restricted) log-likelihood, sigma^2 profiled out of V."""
    n, p = X.shape
    L = np.linalg.cholesky(V)
    yw, Xw = solve_triangular(L, y, lower=True), solve_triangular(L, X, lower=True)
    beta = np.linalg.lstsq(Xw, yw, rcond=None)[0]
    m = n - p if reml else n
    rss = float(np.sum((yw - Xw @ beta) ** 2))
    log_det = 2.0 * float(np.log(np.diag(L)).sum())
    if reml:
        log_det += float(np.linalg.slogdet(Xw.T @ Xw)[1])
    return log_det + m * (1.0 + np.log(2.0 * np.pi * rss / m))


def marginal(estimate, theta) -> np.ndarray:
    """V / sigma^2 of a model with one term, by its definition."""
    term = estimate.specification.terms[0]
    codes = estimate.specification.factors[term.factor].codes
    kernel = np.eye(codes.max() + 1) if term.kernel is None else term.kernel
    psi = structure_of(term).psi(theta)
    return np.eye(len(codes)) + (term.z @ psi @ term.z.T) * kernel[np.ix_(codes, codes)]


def assert_dense_optimum(fit, reml: bool) -> None:
    """The dense criterion agrees, and no small move of theta lowers it."""
    e, spec = fit.estimate, fit.estimate.specification

    def deviance(theta: np.ndarray) -> float:
        return dense_deviance(spec.y, spec.X, marginal(e, theta), reml)

    here = deviance(e.theta)
    assert -2.0 * fit.loglik == pytest.approx(here, rel=0, abs=1e-7)
    for i in range(len(e.theta)):
        step = np.zeros(len(e.theta))
        step[i] = 1e-3 * max(abs(e.theta[i]), 0.5)
        up, down = deviance(e.theta + step), deviance(e.theta - step)
        assert up > here
        assert down > here
        curvature = up + down - 2.0 * here
        assert abs(up - down) < 0.01 * curvature


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    "term",
    [
        "ar1(week | g)",
        "hetar1(week | g)",
        "homcs(0 + factor(step) | g)",
        "homdiag(0 + factor(step) | g)",
        "mat(east + north | g)",
        "toep(step | g)",
        "homtoep(step | g)",
    ],
)
def test_fits_by_dense_algebra(term: str, reml: bool) -> None:
    fit = ranef.lmm(f"y ~ dose + {term}", table("simulated").query("g <= 'g14'"), reml=reml)
    assert fit.optimum.converged
    assert_dense_optimum(fit, reml)


def pedigree(n: int, rng: np.random.Generator) -> np.ndarray:
    """Relationship matrix of n animals in overlapping generations (Henderson 1976)."""
    A = np.eye(n)
    for i in range(8, n):
        sire, dam = rng.choice(i, 2, replace=False)
        A[i, :i] = A[:i, i] = 0.5 * (A[sire, :i] + A[dam, :i])
        A[i, i] = 1.0 + 0.5 * A[sire, dam]
    return A


def animals(seed: int = 11, n: int = 40) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records of related animals, in another order than their relationship matrix."""
    rng = np.random.default_rng(seed)
    names = [f"a{i:02d}" for i in range(n)]
    A = pedigree(n, rng)
    root = np.linalg.cholesky(A)
    breeding, slope = 2.0 * root @ rng.standard_normal(n), root @ rng.standard_normal(n)
    who = rng.permutation(np.repeat(np.arange(n), 4))
    x = rng.uniform(-1.0, 1.0, len(who))
    y = 5.0 + x + breeding[who] + slope[who] * x + rng.standard_normal(len(who))
    data = pd.DataFrame({"y": y, "x": x, "id": [names[i] for i in who]})
    order = rng.permutation(n)
    return data, pd.DataFrame(A, names, names).iloc[order, order]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("term", ["kernel(1 | id, A)", "kernel(x | id, A)"])
def test_kernel_by_dense_algebra(term: str, reml: bool) -> None:
    data, A = animals()
    fit = ranef.lmm(f"y ~ x + {term}", data, reml=reml, kernels={"A": A})
    assert fit.optimum.converged
    assert_dense_optimum(fit, reml)


def test_kernel_beside_other_terms() -> None:
    data, A = animals()
    data["pen"] = np.arange(len(data)) % 7
    data["y"] += np.sin(3.0 * data["pen"])
    fit = ranef.lmm("y ~ x + kernel(1 | id, A) + (1 | id) + (1 | pen)", data, kernels={"A": A})
    spec, theta = fit.estimate.specification, fit.estimate.theta
    V = np.eye(spec.n)
    for term, t in zip(spec.terms, theta, strict=True):
        codes = spec.factors[term.factor].codes
        K = np.eye(codes.max() + 1) if term.kernel is None else term.kernel
        V += t**2 * K[np.ix_(codes, codes)]
    want = dense_deviance(spec.y, spec.X, V, True)
    assert -2.0 * fit.loglik == pytest.approx(want, rel=0, abs=1e-7)


def test_kernel_of_unrelated_levels_is_no_kernel() -> None:
    data, _ = animals()
    names = sorted(set(data["id"]))
    unrelated = pd.DataFrame(np.eye(len(names)), names, names)
    fit = ranef.lmm("y ~ x + kernel(x | id, K)", data, kernels={"K": unrelated})
    plain = ranef.lmm("y ~ x + (x | id)", data)
    assert fit.loglik == pytest.approx(plain.loglik, rel=0, abs=1e-8)
    np.testing.assert_allclose(fit.estimate.theta, plain.estimate.theta, rtol=1e-5)


def test_singular_kernel() -> None:
    """Twins share one effect: their rows of the kernel are equal."""
    data, A = animals()
    twin = A.copy()
    twin.loc["a39"] = twin.loc["a38"]
    twin["a39"] = twin["a38"]
    twin.loc["a39", "a39"] = twin.loc["a38", "a38"]
    fit = ranef.lmm("y ~ x + kernel(1 | id, A)", data, kernels={"A": twin})
    merged = data.assign(id=data["id"].replace("a39", "a38"))
    one = ranef.lmm("y ~ x + kernel(1 | id, A)", merged, kernels={"A": A})
    assert fit.loglik == pytest.approx(one.loglik, rel=0, abs=1e-7)


def grouped(effects: np.ndarray, rows: int, seed: int) -> pd.DataFrame:
    """`rows` rows for each entry of a (groups, times) matrix of effects."""
    rng = np.random.default_rng(seed)
    g, t = (np.repeat(i.ravel(), rows) for i in np.indices(effects.shape))
    return pd.DataFrame({"g": g, "t": t, "y": effects[g, t] + rng.standard_normal(len(g))})


@pytest.mark.parametrize("kind", ["homcs(0 + factor(t) | g)", "ar1(t | g)", "ou(t | g)"])
def test_correlation_of_one_is_a_random_intercept(kind: str) -> None:
    """Times that differ less than by chance: the optimum is on the face."""
    rng = np.random.default_rng(5)
    data = grouped(np.repeat(2.0 * rng.standard_normal((25, 1)), 4, axis=1), 3, 6)
    spread = data.groupby(["g", "t"])["y"].transform("mean")
    level = data.groupby("g")["y"].transform("mean")
    data["y"] -= 0.9 * (spread - level)
    fit = ranef.lmm(f"y ~ 1 + {kind}", data)
    intercept = ranef.lmm("y ~ 1 + (1 | g)", data)
    assert fit.optimum.converged
    assert fit.loglik == pytest.approx(intercept.loglik, rel=0, abs=1e-6)
    term = fit.estimate.specification.terms[0]
    assert structure_of(term).boundary(fit.estimate.theta, term.names)


def test_lowest_correlation_of_compound_symmetry() -> None:
    """Effects that sum to zero within every group."""
    rng = np.random.default_rng(8)
    effects = 3.0 * rng.standard_normal((30, 4))
    data = grouped(effects - effects.mean(axis=1, keepdims=True), 3, 9)
    data["y"] -= 0.9 * data.groupby("g")["y"].transform("mean")
    fit = ranef.lmm("y ~ 1 + homcs(0 + factor(t) | g)", data)
    assert fit.optimum.converged
    assert fit.estimate.theta[1] == pytest.approx(-1 / 3, abs=1e-6)


@pytest.mark.parametrize("kind", ["homdiag(0 + factor(t) | g)", "homcs(0 + factor(t) | g)"])
def test_no_variance_at_all(kind: str) -> None:
    data = grouped(np.zeros((30, 4)), 3, 2)
    data["y"] -= data.groupby(["g", "t"])["y"].transform("mean") * 0.9
    fit = ranef.lmm(f"y ~ 1 + {kind}", data)
    assert fit.optimum.converged
    assert fit.optimum.singular
    assert fit.estimate.theta[0] == 0.0
    n, s2 = len(data), float(np.var(data["y"], ddof=1))
    want = -0.5 * ((n - 1) * (1.0 + np.log(2.0 * np.pi * s2)) + np.log(n))
    assert fit.loglik == pytest.approx(want, rel=0, abs=1e-7)


def test_a_standard_deviation_of_zero_stays_in_the_family() -> None:
    """One column that does not vary, against the model without it."""
    rng = np.random.default_rng(13)
    effects = rng.standard_normal((40, 1)) + rng.standard_normal((40, 4))
    effects[:, 2] = 0.0
    data = grouped(effects, 4, 14)
    still = data["t"] == 2
    data.loc[still, "y"] -= 0.95 * data[still].groupby("g")["y"].transform("mean")
    fit = ranef.lmm("y ~ 1 + cs(0 + factor(t) | g)", data)
    assert fit.optimum.converged
    assert fit.estimate.theta[2] < 1e-5
    assert np.all(fit.estimate.theta[:4] >= 0.0)


@pytest.mark.parametrize("kind", ["ar1(t | g)", "ou(t | g)"])
def test_a_hundred_times(kind: str) -> None:
    rng = np.random.default_rng(21)
    noise = rng.standard_normal((30, 100))
    effects = np.empty_like(noise)
    effects[:, 0] = noise[:, 0]
    for t in range(1, 100):
        effects[:, t] = 0.8 * effects[:, t - 1] + 0.6 * noise[:, t]
    fit = ranef.lmm(f"y ~ 1 + {kind}", grouped(effects, 1, 22))
    assert fit.optimum.converged
    found = components(fit)
    corr = found["corr"] if "corr" in found else np.exp(-found["rate"])
    assert corr == pytest.approx(0.8, abs=0.05)
    assert found["sd"] == pytest.approx(1.0, abs=0.1)


def equal_times() -> pd.DataFrame:
    """Times that differ less than by chance: every correlation wants to be one."""
    rng = np.random.default_rng(5)
    data = grouped(np.repeat(2.0 * rng.standard_normal((25, 1)), 4, axis=1), 3, 6)
    spread = data.groupby(["g", "t"])["y"].transform("mean")
    level = data.groupby("g")["y"].transform("mean")
    return data.assign(y=data["y"] - 0.9 * (spread - level))


@pytest.mark.parametrize(
    "kind",
    ["homcs(0 + factor(t) | g)", "cs(0 + factor(t) | g)", "ar1(t | g)", "hetar1(t | g)",
     "toep(t | g)", "ou(t | g)", "exp(t | g)", "gau(t | g)"],
)  # fmt: skip
def test_a_boundary_is_reported_and_leaves_the_rest_testable(kind: str) -> None:
    fit = ranef.lmm(f"y ~ t + {kind}", equal_times())
    assert fit.optimum.converged
    assert fit.optimum.singular
    term = fit.estimate.specification.terms[0]
    words = structure_of(term).boundary(fit.estimate.theta, term.names)
    assert words
    assert "; ".join(words) in {face.description for face in fit.optimum.faces}
    assert np.all(fit.tidy()["df"] > 1.0)
    rows = fit.tidy("variance").set_index("parameter")
    assert np.isfinite(rows.loc["sd", ["conf_low", "conf_high"]].to_numpy(dtype=float)).all()
    edge = rows.drop("sd")[["conf_low", "conf_high"]].to_numpy(dtype=float)
    assert np.isnan(edge).all()
