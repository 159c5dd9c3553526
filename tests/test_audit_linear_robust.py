"""Robust errors with weights, which clubSandwich refuses: the paper by hand."""

import numpy as np
import pandas as pd
import pytest

import ranef


def by_hand(fit, type):
    """Pustejovsky & Tipton (2018), with dense matrices."""
    estimate = fit.estimate
    spec = estimate.specification
    X, codes, z = spec.X, spec.factors[0].codes, spec.terms[0].z
    n, p = X.shape
    V = z @ estimate.covariances[0] @ z.T * (codes[:, None] == codes)
    V += np.diag(estimate.sigma**2 / spec.weights)
    W = np.linalg.inv(V)
    M = np.linalg.inv(X.T @ W @ X)
    residual = spec.y - spec.offset - X @ estimate.beta
    maker = np.eye(n) - X @ M @ X.T @ W
    meat, parts = np.zeros((p, p)), []
    for c in np.unique(codes):
        own = codes == c
        Vi, Xi, Wi = V[np.ix_(own, own)], X[own], W[np.ix_(own, own)]
        A = np.eye(own.sum())
        if type == "CR2":
            D = np.linalg.cholesky(Vi).T
            values, U = np.linalg.eigh(D @ (Vi - Xi @ M @ Xi.T) @ D.T)
            kept = values > 1e-10 * values.max()
            A = D.T @ (U[:, kept] / np.sqrt(values[kept])) @ U[:, kept].T @ D
        elif type == "CR3":
            A = np.linalg.inv(A - Xi @ M @ Xi.T @ Wi)
        score = Xi.T @ Wi @ A
        meat += np.outer(score @ residual[own], score @ residual[own])
        whole = np.zeros((p, n))
        whole[:, own] = score
        parts.append(M @ whole @ maker)
    df = []
    for j in range(p):
        g = np.array([part[j] for part in parts])
        P = g @ V @ g.T
        df.append(np.trace(P) ** 2 / np.sum(P**2))
    return np.sqrt(np.diag(M @ meat @ M)), np.array(df)


@pytest.mark.parametrize("type", ["CR0", "CR2", "CR3"])
def test_weighted_rows_with_slopes_and_an_offset(type):
    rng = np.random.default_rng(12)
    g = rng.integers(0, 11, 90)
    data = pd.DataFrame({"g": [f"g{k}" for k in g], "x": rng.normal(size=90)})
    data["arm"] = np.where(g % 3 == 0, "a", "b")
    data["w"], data["base"] = rng.uniform(0.3, 3, 90), rng.normal(size=90)
    b = rng.normal(size=(11, 2))
    data["y"] = data["base"] + b[g, 0] + (1 + 0.6 * b[g, 1]) * data["x"] + rng.normal(size=90)
    fit = ranef.lmm("y ~ x * arm + offset(base) + (x | g)", data, weights="w")
    std_error, df = by_hand(fit, type)
    found = ranef.robust(fit, type=type).tidy()
    np.testing.assert_allclose(found["std_error"], std_error, rtol=1e-9)
    np.testing.assert_allclose(found["df"], df, rtol=1e-9)


def test_few_degrees_of_freedom_are_said_to_be_few():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "x": rng.normal(size=60)})
    data["y"] = data["x"] + rng.normal(size=12)[data["g"]] + rng.normal(size=60)
    data["site"] = np.where(data["g"] < 6, "a", "b")
    fit = ranef.lmm("y ~ x + (1 | g)", data)
    assert "Below 4 degrees of freedom" in str(ranef.robust(fit, cluster=data["site"]))
    assert "Below 4" not in str(ranef.robust(fit))
