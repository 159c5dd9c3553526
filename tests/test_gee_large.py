"""Clusters too large for their pairs of rows to be visited one by one."""

import time

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.solve.marginal import working


def table(sizes, rng):
    """An autoregressive response, phi .9 a unit of time, with gaps."""
    g = np.repeat(np.arange(len(sizes)), sizes)
    t = np.concatenate([np.sort(rng.choice(2 * k, k, replace=False)) for k in sizes])
    e = rng.normal(size=len(g))
    for i in range(1, len(e)):
        if g[i] == g[i - 1]:
            phi = 0.9 ** (t[i] - t[i - 1])
            e[i] = phi * e[i - 1] + e[i] * np.sqrt(1 - phi**2)
    x = rng.normal(size=len(g))
    data = pd.DataFrame({"y": x + e, "x": x, "g": g, "t": t})
    return data.sample(frac=1, random_state=1)


def test_products_by_lag_are_those_of_the_pairs():
    rng = np.random.default_rng(1)
    positions = np.sort(rng.choice(300, 120, replace=False))
    positions -= positions[0]
    v = rng.normal(size=120)
    expected = np.zeros(positions[-1] + 1)
    for i in range(120):
        for j in range(i + 1, 120):
            expected[positions[j] - positions[i]] += v[i] * v[j]
    found = working.products_by_lag(v, positions)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert ((found == 0) == (expected == 0)).all()


def test_large_clusters_give_the_numbers_of_their_pairs(monkeypatch):
    data = table([400, *[30] * 20], np.random.default_rng(2))
    for correlation in ("ar1", "car1"):
        found = []
        for many in (100, 10**9):
            monkeypatch.setattr(working, "MANY_ROWS", many)
            fit = ranef.gee("y ~ x", data, groups="g", time="t", correlation=correlation)
            found.append(fit.tidy()[["estimate", "std_error"]].to_numpy())
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


def test_neighbours_of_a_long_series_may_be_all_but_unrelated():
    """The correlation at distance 1 is searched over its whole range, however long the series."""
    rng = np.random.default_rng(3)
    g, t = np.repeat(np.arange(12), 300), np.tile(np.arange(300), 12)
    e = rng.normal(size=(12, 300))
    for k in range(1, 300):
        e[:, k] = 0.3 * e[:, k - 1] + e[:, k] * np.sqrt(1 - 0.09)
    data = {"y": e.ravel(), "g": g, "t": t}
    fit = ranef.gee("y ~ 1", data, groups="g", time="t", correlation="car1")
    assert abs(float(fit.tidy("correlation")["estimate"].iloc[0]) - 0.3) < 0.08


@pytest.mark.parametrize("correlation", ["ar1", "car1", "toeplitz", "m-dependent(3)"])
@pytest.mark.parametrize("scale", ["n", "n-p"])
def test_slopes_of_the_parameters_in_their_moments(correlation, scale):
    """Derivatives of a correlation in products and counts, by differences."""
    rng = np.random.default_rng(4)
    K, T = 60, 9
    e = rng.normal(size=(K, T + 1))
    d = pd.DataFrame({
        "g": np.repeat(np.arange(K), T), "t": np.tile(np.arange(T), K),
        "y": (e[:, 1:] + 0.4 * e[:, :-1]).ravel(),
    })  # fmt: skip
    fit = ranef.gee("y ~ 1", d[rng.random(len(d)) > 0.2], groups="g", time="t", scale=scale,
                    correlation=correlation)  # fmt: skip
    model = fit.estimate.model
    working, clusters = fit.estimate.solution.working, model.laid_out
    rows = model.problem.working_rows(fit.coefficients, clusters.slices[0])
    sums = working.sums(rows.e, clusters, clusters.slices[0]) / fit.scale
    counts = working.sums(np.ones(len(rows.e)), clusters, clusters.slices[0])
    if scale == "n-p":
        counts = working.reduced(counts, 1, float(len(rows.e)))
    found = working.slopes(sums, counts)
    for which, values in enumerate((sums, counts)):
        for k in np.flatnonzero(counts > 0):
            h, ends = 1e-5 * abs(values[k]), []
            for sign in (1.0, -1.0):
                moved = [sums.copy(), counts.copy()]
                moved[which][k] += sign * h
                ends.append(working.fitted(*moved, clusters, -np.inf).parameters)
            wanted = (ends[0] - ends[1]) / (2 * h)
            own = found[which][:, k] if found[which].ndim == 2 else found[which][k]
            own = own if np.ndim(own) else np.where(np.arange(len(wanted)) == k, own, 0.0)
            np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-9)


def test_errors_of_correlations_of_long_series_are_quick():
    """Series of 1,500 places: the errors cost no more than a few times the fit."""
    rng = np.random.default_rng(5)
    K, T = 30, 1500
    y = np.zeros((K, T))
    for t in range(1, T):
        y[:, t] = 0.6 * y[:, t - 1] + rng.normal(size=K)
    d = pd.DataFrame({"g": np.repeat(np.arange(K), T), "t": np.tile(np.arange(T), K),
                      "y": y.ravel()})  # fmt: skip
    fit = ranef.gee("y ~ 1", d, groups="g", time="t", correlation="ar1")
    begin = time.process_time()
    shown = fit.tidy("correlation")
    assert time.process_time() - begin < 5.0
    assert abs(shown.estimate[0] - 0.6) < 4 * shown.std_error[0]
