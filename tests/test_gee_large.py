"""Clusters too large for their pairs of rows to be visited one by one."""

import numpy as np
import pandas as pd

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
