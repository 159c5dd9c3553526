"""Profiles where the residual variance may vanish: an effect for each row of a person."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import ranef


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    rows = []
    for i in range(30):
        u, e = 0.5 * rng.normal(), 0.0
        for k in range(8):
            e = 0.6 * e + 0.8 * rng.normal()
            rows.append((f"s{i}", k, rng.normal(), u + e))
    out = pd.DataFrame(rows, columns=["id", "time", "x", "y"])
    out["y"] += 0.4 * out["x"] + 0.5 * rng.normal(size=240)
    return out.drop(index=rng.choice(240, 30, replace=False)).reset_index(drop=True)


def dense_deviance(data):
    X, y = np.column_stack([np.ones(len(data)), data["x"]]), data["y"].to_numpy()
    same = data["id"].to_numpy()[:, None] == data["id"].to_numpy()[None]
    lag = np.abs(data["time"].to_numpy()[:, None] - data["time"].to_numpy()[None])

    def deviance(sd, rho, sigma):
        V = sd**2 * np.where(same, rho**lag, 0.0) + sigma**2 * np.eye(len(y))
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, X), np.linalg.solve(L, y)
        r = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
        return 2 * np.log(np.diag(L)).sum() + r @ r + len(y) * np.log(2 * np.pi)

    return deviance


def least(function, starts):
    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 2000}
    return min(minimize(function, s, method="Nelder-Mead", options=options).fun for s in starts)


@pytest.mark.parametrize("term", ["ar1(0 + factor(time) | id)", "ou(time | id)"])
def test_a_deviation_is_profiled_through_a_residual_of_zero(data, term):
    """Above the estimate the best sigma is 0, so that log sigma runs away: no limit was found, and
    a warning spoke of a deviance 1,480 lower."""
    deviance = dense_deviance(data)
    fit = ranef.lmm(f"y ~ x + {term}", data)
    found = fit.confint("profile", parameters="sd: id")
    ml = ranef.lmm(f"y ~ x + {term}", data, reml=False)
    for limit in (found["conf_low"][0], found["conf_high"][0]):
        risen = least(
            lambda v, at=limit: deviance(at, np.tanh(v[0]), abs(v[1])),
            ([0.5, 0.3], [0.5, 1e-3]),
        )
        assert risen - ml.deviance == pytest.approx(chi2.ppf(0.95, 1), abs=2e-4)


def test_the_other_limits_of_such_a_model(data):
    deviance = dense_deviance(data)
    fit = ranef.lmm("y ~ x + ar1(0 + factor(time) | id)", data, reml=False)
    found = fit.confint("profile", parameters="variance").set_index("parameter")
    rho = found.loc["corr"]
    for limit in (rho["conf_low"], rho["conf_high"]):
        risen = least(
            lambda v, at=limit: deviance(abs(v[0]), at, abs(v[1])), ([1.0, 0.3], [1.0, 1e-3])
        )
        assert risen - fit.deviance == pytest.approx(chi2.ppf(0.95, 1), abs=2e-3)
    sigma = found[found["group"] == "Residual"].iloc[0]
    assert sigma["conf_low"] == 0
    risen = least(
        lambda v: deviance(abs(v[0]), np.tanh(v[1]), sigma["conf_high"]), ([0.8, 1.0], [1.0, 0.5])
    )
    assert risen - fit.deviance == pytest.approx(chi2.ppf(0.95, 1), abs=1e-3)
