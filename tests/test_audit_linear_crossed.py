"""Predictions for many rows of crossed designs: through the inverse of the tail, row by row."""

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.derivatives.linear import level_rows, solved
from ranef.fits.new_rows import read_rows


def crossed(scale, rows=900, seed=2):
    rng = np.random.default_rng(seed)
    g, h, k = rng.integers(60, size=rows), rng.integers(25, size=rows), rng.integers(7, size=rows)
    x = rng.normal(size=rows)
    effects = 0.7 * rng.normal(size=60)[g] + 0.4 * rng.normal(size=60)[g] * x
    effects += (0.5 + 0.3 * x) * rng.normal(size=25)[h] + rng.normal(size=7)[k]
    y = 1 + 0.5 * x + scale * effects + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "k": k})


def with_new_levels(data):
    new = data.copy()
    new.loc[::7, "g"] = -1
    new.loc[::11, "h"] = -1
    new.loc[::13, "k"] = -1
    return new


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_many_rows_have_the_intervals_of_few(scale):
    data = crossed(scale)
    fit = ranef.lmm("y ~ x + (x | g) + (x | h) + (1 | k)", data)
    new = with_new_levels(data)
    together = fit.predict(new, conf_level=0.95).to_numpy()
    # 20 rows are fewer than the tail has columns: half solves
    alone = [fit.predict(new[i : i + 20], conf_level=0.95).to_numpy() for i in range(0, 900, 20)]
    np.testing.assert_allclose(together, np.vstack(alone), rtol=1e-8, atol=1e-8 * scale)


def test_digits_that_cancel_are_found_again():
    """With a variance ratio of 1e12 the inverse has lost the digits that half solves have."""
    data = crossed(1.0)
    fit = ranef.lmm("y ~ x + (1 | g) + (1 | h)", data)
    estimate = fit.estimate
    rows = read_rows(fit, data, "own", weights=True)[0].parts["conditional"]
    assembly, (y, reml, phi) = solved(estimate).assembly, solved(estimate).at
    codes, z, _ = level_rows(assembly, estimate.covariances, len(rows.X), rows.random)
    inner = np.ascontiguousarray(rows.X @ assembly.fixed.transform)
    large = phi * 1e6
    many = assembly.core.quadratic_forms(y, reml, large, codes, z, inner)
    few = []
    for i in range(0, len(inner), 9):
        part = slice(i, i + 9)
        own = [c[part] for c in codes], [a[part] for a in z], inner[part]
        few.append(assembly.core.quadratic_forms(y, reml, large, *own))
    few = np.concatenate(few)
    np.testing.assert_allclose(many, few, rtol=1e-6)
    assert (many > 0).all()


def test_kernels_and_weights_of_many_rows():
    rng = np.random.default_rng(5)
    data = crossed(1.0).assign(w=rng.uniform(0.5, 2, 900))
    A = rng.normal(size=(25, 40))
    K = pd.DataFrame(A @ A.T / 40, index=range(25), columns=range(25))
    fit = ranef.lmm("y ~ x + (1 | g) + kernel(1 | h, K)", data, kernels={"K": K}, weights="w")
    together = fit.predict(data, conf_level=0.9, interval="new").to_numpy()
    parts = [data[i : i + 20] for i in range(0, 900, 20)]
    alone = np.vstack([fit.predict(d, conf_level=0.9, interval="new").to_numpy() for d in parts])
    np.testing.assert_allclose(together, alone, rtol=1e-9)
