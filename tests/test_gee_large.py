"""Clusters too large for their pairs of rows to be visited one by one."""

import time

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.solve.marginal import banded, working


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


def moving(sizes, rng, spread=1.0):
    """A moving average of order two, rows in any order, with gaps where spread is over one."""
    g = np.repeat(np.arange(len(sizes)), sizes)
    t = [np.sort(rng.choice(int(spread * k), k, replace=False)) for k in sizes]
    longest = int(spread * max(sizes)) + 2
    e = rng.normal(size=(len(sizes), longest + 2))
    e = e[:, 2:] + 0.5 * e[:, 1:-1] + 0.3 * e[:, :-2]
    x = rng.normal(size=len(g))
    y = 1 + 0.5 * x + e[g, np.concatenate(t)]
    table = pd.DataFrame({"y": y, "x": x, "g": g, "t": np.concatenate(t)})
    return table.sample(frac=1, random_state=1)


@pytest.mark.filterwarnings("ignore::ranef.errors.DataWarning")
@pytest.mark.parametrize("spread", [1.0, 1.4])
@pytest.mark.parametrize("stationary", [True, False])
@pytest.mark.parametrize("penalty", ["", "firth"])
def test_bands_give_the_numbers_of_whole_matrices(monkeypatch, spread, stationary, penalty):
    rng = np.random.default_rng(6)
    data = moving([60] * 30 + [45] * 10 + [1, 2, 30], rng, spread)
    data["z"] = (data["y"] > 1).astype(float)
    correlation = "m-dependent(2)" if stationary else "m-dependent(2, stationary=False)"
    call = {"groups": "g", "time": "t", "correlation": correlation}
    if penalty:
        call |= {"family": "binomial", "penalty": penalty}
    found = []
    for few in (24, 10**9):
        monkeypatch.setattr(banded, "FEW_ROWS", few)
        fit = ranef.gee("z ~ x" if penalty else "y ~ x", data, **call)
        tables = [fit.tidy()[["estimate", "std_error"]]]
        tables += [fit.tidy("correlation")[["estimate", "std_error"]]]
        found.append(np.vstack([each.to_numpy() for each in tables]))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)


def test_a_band_knows_its_smallest_eigenvalue():
    rng = np.random.default_rng(7)
    m = 40
    for _ in range(10):
        band = np.vstack([np.ones(m), rng.uniform(-0.7, 0.7, size=(3, m))])
        R = np.eye(m)
        for k in range(1, 4):
            R += np.diag(band[k, :-k], k) + np.diag(band[k, :-k], -k)
        least = np.linalg.eigvalsh(R)[0]
        for floor in (least - 0.1, least + 0.1):
            found = banded.smallest_eigenvalue(band, floor)
            np.testing.assert_allclose(found, min(floor, least), atol=1e-10)


def test_an_indefinite_band_is_mixed_as_a_whole_matrix_is(monkeypatch):
    rng = np.random.default_rng(8)
    data = moving([40] * 6, rng).sort_values(["g", "t"])
    data["y"] = np.repeat(rng.normal(size=60), 4) + 0.1 * rng.normal(size=240)
    found = []
    for few in (24, 10**9):
        monkeypatch.setattr(banded, "FEW_ROWS", few)
        with pytest.warns(ranef.errors.DataWarning, match="positive definite"):
            fit = ranef.gee("y ~ x", data, groups="g", time="t", correlation="m-dependent(2)")
        found.append([*fit.coefficients, fit.estimate.shrunk, fit.estimate.smallest])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-7)


def test_a_cluster_of_20000_rows_with_correlations_that_end():
    data = moving([20_000, 15, 30, 8, 100], np.random.default_rng(9))
    begin = time.process_time()
    fit = ranef.gee("y ~ x", data, groups="g", time="t", correlation="m-dependent(2)")
    assert abs(fit.coef["x"] - 0.5) < 0.05
    rho = fit.tidy("correlation")["estimate"].to_numpy()
    np.testing.assert_allclose(rho, [0.65 / 1.34, 0.3 / 1.34], atol=0.03)
    assert time.process_time() - begin < 5.0
