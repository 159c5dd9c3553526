"""Levels with observations of their own: against the conditional normal, refits, and modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import ranef
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.parameters import parameter_covariance

SLEEP = "Reaction ~ Days + (Days | Subject)"


def kernel_for(levels):
    rng = np.random.default_rng(3)
    A = rng.normal(size=(len(levels), 40))
    K = A @ A.T / 40 + 0.1 * np.eye(len(levels))
    return pd.DataFrame(K, index=levels, columns=levels)


def brute(fit, seen, new, theta=None, beta=None):
    """E and Var of x'beta + z'b of rows `new` given all y, from the n x n covariance.

    By labels, without anything of ranef but the numbers of the fit and its model matrices.
    """
    spec = fit.estimate.specification
    theta = fit.theta if theta is None else theta
    beta = fit.estimate.beta if beta is None else beta
    sigma = fit.sigma
    from ranef.covariance import structure_of

    tables = [fit.frame.data, ranef.tables.Table.of(seen), ranef.tables.Table.of(new)]
    X = np.vstack([spec.X, *(spec.recipe.fixed(t)[0] for t in tables[1:])])
    n, h = spec.n, tables[1].n_rows
    V = np.zeros((len(X), len(X)))
    place = 0
    for t, term in enumerate(spec.terms):
        structure = structure_of(term)
        psi = sigma**2 * structure.psi(theta[place : place + structure.n_parameters])
        place += structure.n_parameters
        z = np.vstack([term.z, *(spec.recipe.random_columns(one, t) for one in tables[1:])])
        columns = spec.factors[term.factor].columns
        label = np.concatenate(
            [[":".join(map(str, cell))
              for cell in zip(*(one.values(c) for c in columns), strict=True)]
             for one in tables]
        )  # fmt: skip
        same = (label[:, None] == label[None, :]).astype(float)
        if term.kernel is not None:
            known = [str(level) for level in spec.factors[term.factor].levels]
            for i in range(len(label)):
                for j in range(len(label)):
                    if label[i] in known and label[j] in known:
                        same[i, j] = term.kernel[known.index(label[i]), known.index(label[j])]
        V += same * (z @ psi @ z.T)
    y = np.concatenate([spec.y, spec.recipe.response(tables[1])])
    w = np.ones(n) if spec.weights is None else spec.weights
    more = tables[1].numeric("w") if "w" in tables[1] else np.ones(h)
    offset = np.zeros(len(X))
    for i, one in enumerate(tables):
        own = spec.recipe.offset(one) if i else spec.offset
        if own is not None:
            first = [0, n, n + h][i]
            offset[first : first + len(own)] = own
    m = n + h
    noise = sigma**2 / np.concatenate([w, more])
    A = np.linalg.solve(V[:m, :m] + np.diag(noise), V[:m, m:]).T
    mean = X @ beta + offset
    value = mean[m:] + A @ (y - mean[:m])
    return value, np.diag(V[m:, m:] - A @ V[:m, m:])


def case(name):
    rng = np.random.default_rng(7)
    if name == "slopes":
        fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
        seen = {"Days": [0.0, 1.0, 5.0, 3.0], "Subject": ["a", "a", "b", "308"],
                "Reaction": [300.0, 320.0, 250.0, 100.0]}  # fmt: skip
        new = {"Days": [0.0, 9.0, 2.0, 4.0, 4.0, 4.0],
               "Subject": ["a", "a", "b", "308", "309", "c"]}  # fmt: skip
    elif name == "crossed":
        fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
        seen = {"plate": ["a", "z", "z", "z"], "sample": ["A", "A", "B", "Y"],
                "diameter": [30.0, 27.0, 24.0, 20.0]}  # fmt: skip
        new = {"plate": ["a", "z", "z", "b", "q"], "sample": ["A", "C", "Y", "Y", "A"]}
    elif name == "nested":
        fit = ranef.lmm("strength ~ 1 + (1 | batch / cask)", ranef.data.load("Pastes"))
        seen = {"batch": ["A", "A", "K"], "cask": ["z", "z", "a"], "strength": [66.0, 65.0, 50.0]}
        new = {"batch": ["A", "A", "K", "K", "B"], "cask": ["z", "a", "a", "b", "a"]}
    elif name == "ar1":
        fit = ranef.lmm(
            "Reaction ~ Days + ar1(0 + factor(Days) | Subject)", ranef.data.load("sleepstudy")
        )
        seen = {"Days": [0.0, 1.0, 2.0], "Subject": ["a", "a", "a"],
                "Reaction": [300.0, 320.0, 350.0]}  # fmt: skip
        new = {"Days": [3.0, 9.0, 3.0], "Subject": ["a", "a", "308"]}
    elif name == "kernel":
        data = ranef.data.load("sleepstudy")
        levels = sorted(data["Subject"].astype(str).unique())
        fit = ranef.lmm(
            "Reaction ~ Days + kernel(1 | Subject, K)", data, kernels={"K": kernel_for(levels)}
        )
        seen = {"Days": [0.0, 1.0, 2.0], "Subject": ["a", "a", "308"],
                "Reaction": [300.0, 320.0, 350.0]}  # fmt: skip
        new = {"Days": [3.0, 9.0, 3.0], "Subject": ["a", "309", "308"]}
    else:
        data = ranef.data.load("sleepstudy").assign(w=rng.uniform(0.5, 2, 180))
        data["shift"] = rng.normal(size=180)
        fit = ranef.lmm("Reaction ~ Days + offset(shift) + (1 | Subject)", data, weights="w")
        seen = {"Days": [0.0, 1.0], "Subject": ["a", "a"], "Reaction": [300.0, 320.0],
                "w": [4.0, 0.5], "shift": [5.0, -5.0]}  # fmt: skip
        new = {"Days": [3.0, 9.0], "Subject": ["a", "308"], "w": [1.0, 1.0], "shift": [1.0, 2.0]}
    return fit, seen, new


CASES = ["slopes", "crossed", "nested", "ar1", "kernel", "weighted"]


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_conditional_normal_of_all_observations(name):
    fit, seen, new = case(name)
    value, _ = brute(fit, seen, new)
    np.testing.assert_allclose(fit.predict(new, history=seen), value, rtol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_its_error_counts_every_parameter(name):
    """Brute force: variance given the parameters, derivatives by differences of `brute`."""
    fit, seen, new = case(name)
    estimate, known = fit.estimate, parameter_covariance(fit.estimate)
    _, given = brute(fit, seen, new)
    p = len(estimate.beta)
    J = np.empty((len(given), p))
    for j in range(p):
        step = 1e-3 * np.sqrt(estimate.coefficient_vcov[j, j]) * np.eye(p)[j]
        up, down = (brute(fit, seen, new, beta=estimate.beta + s * step)[0] for s in (1, -1))
        J[:, j] = (up - down) / (2 * step[j])
    theta = fit.theta
    d = np.zeros((len(given), len(theta)))
    for k in np.flatnonzero(known.free):
        h = 1e-4 * max(abs(theta[k]), 0.1)
        ends = []
        for sign in (1, -1):
            at = theta.copy()
            at[k] += sign * h
            beta = gls(fit, at)
            ends.append(brute(fit, seen, new, theta=at, beta=beta)[0])
        d[:, k] = (ends[0] - ends[1]) / (2 * h)
    d = d[:, known.free]
    variance = given + np.sum(J @ estimate.coefficient_vcov * J, axis=1)
    variance += np.sum(d @ known.covariance[:-1, :-1] * d, axis=1)
    found = fit.predict(new, history=seen, conf_level=0.95)
    np.testing.assert_allclose(found["std_error"], np.sqrt(variance), rtol=2e-5)
    half = (found["conf_high"] - found["conf_low"]) / 2 / found["std_error"]
    assert half.between(1.9599, 4.31).all()
    wider = fit.predict(new, history=seen, conf_level=0.95, interval="new")
    weight = np.asarray(new.get("w", np.ones(len(given))))
    np.testing.assert_allclose(
        wider["std_error"], np.sqrt(variance + fit.sigma**2 / weight), rtol=2e-5
    )


def gls(fit, theta):
    """Fixed effects at another theta."""
    from ranef.derivatives.linear import solved

    estimate = fit.estimate
    assembly = solved(estimate).assembly
    y, beta, scale = assembly.respond(estimate.specification.y[None])
    phi = assembly.phi(theta, estimate.optimum.ranks)
    state = assembly.core.state(y[0], estimate.reml, phi, False)
    return assembly.fixed.transform @ (beta[0] + scale[0] * state["beta"])


def test_the_rows_of_the_fit_are_a_history_like_any_other():
    """A subject left out of the table and handed over: theta and beta are what differ."""
    data = ranef.data.load("sleepstudy")
    own = data["Subject"].astype(str) == "337"
    fit = ranef.lmm(SLEEP, data[~own])
    new = data[own].drop(columns="Reaction")
    found = fit.predict(new, history=data[own])
    # the same parameters with all rows: modes of a fit whose theta and beta are held
    spec = ranef.lmm(SLEEP, data).estimate.specification
    psi = fit.estimate.covariances[0] / fit.sigma**2
    z = spec.X[own.to_numpy()]
    rest = data.loc[own, "Reaction"].to_numpy() - z @ fit.estimate.beta
    b = psi @ z.T @ np.linalg.solve(z @ psi @ z.T + np.eye(10), rest)
    np.testing.assert_allclose(found, z @ (fit.estimate.beta + b), rtol=1e-9)


def test_without_new_rows_a_history_changes_nothing_and_with_more_it_converges():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    new = {"Days": [0.0, 9.0], "Subject": ["a", "a"]}
    one = {"Days": [4.5], "Subject": ["b"], "Reaction": [500.0]}
    np.testing.assert_allclose(fit.predict(new, history=one), fit.predict(new))
    days = np.tile(np.arange(10.0), 200)
    rng = np.random.default_rng(1)
    many = {"Days": days, "Subject": ["a"] * 2000, "Reaction": 200 + 20 * days}
    many["Reaction"] = many["Reaction"] + rng.normal(size=2000)
    np.testing.assert_allclose(fit.predict(new, history=many), [200.0, 380.0], atol=1.0)
    errors = [fit.predict(new, history=h, conf_level=0.9)["std_error"].max() for h in (one, many)]
    assert errors[1] < 0.05 * errors[0]


def test_a_singular_fit_takes_a_history():
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    seen = {"Batch": ["new"] * 3, "Yield": [9.0, 9.5, 10.0]}
    found = fit.predict({"Batch": ["new", "A"]}, history=seen, conf_level=0.95)
    np.testing.assert_allclose(found["estimate"], fit.coef.iloc[0])
    np.testing.assert_allclose(found["std_error"], fit.tidy()["std_error"][0], rtol=1e-6)


# --- generalised


def cbpp(**arguments):
    return ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
        **arguments,
    )


SEEN = {"period": ["1", "2"], "herd": ["x", "x"], "incidence": [6.0, 4.0], "size": [12.0, 9.0]}


def log_joint(fit, b, periods, events, trials):
    beta, sd = fit.estimate.beta, fit.theta[0]
    eta = np.array([beta[0] + (beta[int(p) - 1] if p != "1" else 0.0) for p in periods]) + b
    return -(events * eta - trials * np.logaddexp(0, eta)).sum() + b**2 / (2 * sd**2)


@pytest.mark.parametrize("quadrature", [1, 9])
def test_a_new_herd_has_the_mode_of_its_own_log_density(quadrature):
    fit = cbpp(quadrature=quadrature)
    events, trials = np.array(SEEN["incidence"]), np.array(SEEN["size"])
    found = optimize.minimize_scalar(
        lambda b: log_joint(fit, b, SEEN["period"], events, trials),
        bounds=(-5, 5), method="bounded", options={"xatol": 1e-12},
    )  # fmt: skip
    new = {"period": ["1"], "herd": ["x"]}
    shown = fit.predict(new, history=SEEN, type="link")
    assert shown[0] - fit.estimate.beta[0] == pytest.approx(found.x, abs=1e-6)


def test_a_known_herd_adds_its_observations():
    fit = cbpp()
    data = ranef.data.load("cbpp")
    own = data[data["herd"].astype(str) == "1"]
    more = {**SEEN, "herd": ["1", "1"]}
    events = np.concatenate([own["incidence"], more["incidence"]])
    trials = np.concatenate([own["size"], more["size"]])
    periods = [*own["period"].astype(str), *more["period"]]
    found = optimize.minimize_scalar(
        lambda b: log_joint(fit, b, periods, events, trials), bounds=(-5, 5), method="bounded",
        options={"xatol": 1e-12},
    )  # fmt: skip
    shown = fit.predict({"period": ["1"], "herd": ["1"]}, history=more, type="link")
    assert shown[0] - fit.estimate.beta[0] == pytest.approx(found.x, abs=1e-6)
    others = {"period": ["1", "3"], "herd": ["2", "15"]}
    np.testing.assert_allclose(fit.predict(others, history=more), fit.predict(others), rtol=1e-8)


def test_its_error_is_given_the_parameters_plus_their_movement():
    """1 / curvature at the mode, and J V J' with the mode found anew at moved parameters."""
    fit = cbpp()
    events, trials = np.array(SEEN["incidence"]), np.array(SEEN["size"])

    def mode(beta, sd):
        moved = replace(fit.estimate, coefficients=beta, theta=np.array([sd]))

        class At:
            estimate, theta = moved, np.array([sd])

        return optimize.minimize_scalar(
            lambda b: log_joint(At, b, SEEN["period"], events, trials),
            bounds=(-5, 5), method="bounded", options={"xatol": 1e-13},
        ).x  # fmt: skip

    beta, sd = fit.estimate.beta, float(fit.theta[0])
    b = mode(beta, sd)
    eta = np.array([beta[0], beta[0] + beta[1]]) + b
    p = 1 / (1 + np.exp(-eta))
    given = 1 / ((trials * p * (1 - p)).sum() + 1 / sd**2)
    at = np.append(beta, sd)
    J = np.zeros(5)
    for j in range(5):
        h = 1e-4 * np.eye(5)[j]
        up, down = (mode((at + s * h)[:4], (at + s * h)[4]) for s in (1, -1))
        J[j] = (up - down) / 2e-4
    J[0] += 1.0
    variance = given + J @ joint_covariance(fit.estimate) @ J
    found = fit.predict({"period": ["1"], "herd": ["x"]}, history=SEEN, type="link",
                        conf_level=0.95)  # fmt: skip
    assert found["std_error"][0] == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_families_with_several_parts_take_a_history():
    fit = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="nbinom2",
        zero="~ mined",
    )  # fmt: skip
    seen = {"mined": ["no"] * 8, "site": ["new"] * 8, "count": [9, 12, 7, 8, 0, 6, 7, 11]}
    new = {"mined": ["no", "no"], "site": ["new", "other"]}
    told = fit.predict(new, history=seen, conf_level=0.9)
    blank = fit.predict(new, conf_level=0.9)
    assert told["estimate"][0] > 1.3 * blank["estimate"][0]
    assert told["estimate"][1] == pytest.approx(blank["estimate"][1])
    wine = ranef.glmm("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative")
    tasted = {"temp": ["cold"] * 4, "judge": ["me"] * 4, "rating": ["4", "5", "4", "5"]}
    probabilities = wine.predict({"temp": ["cold"], "judge": ["me"]}, history=tasted)
    without = wine.predict({"temp": ["cold"], "judge": ["me"]})
    assert probabilities[["4", "5"]].sum(axis=1)[0] > 3 * without[["4", "5"]].sum(axis=1)[0]


# --- refusals and choices


def test_new_levels():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    new = {"Days": [9.0, 9.0, 9.0], "Subject": ["308", "who", "whom"]}
    drawn, zero = (fit.predict(new, conf_level=0.9, new_levels=k) for k in ("draw", "zero"))
    np.testing.assert_allclose(drawn["estimate"], zero["estimate"])
    typical = fit.predict(new, conf_level=0.9, kind="typical")
    assert zero["std_error"][1] == pytest.approx(typical["std_error"][1], rel=0.05)
    assert drawn["std_error"][1] > 3 * zero["std_error"][1]
    with pytest.raises(LevelError, match="2 levels that the fit has not seen: 'who', 'whom'"):
        fit.predict(new, new_levels="raise")
    with pytest.raises(ModelError, match="new_levels='zro' is not known; did you mean 'zero'"):
        fit.predict(new, new_levels="zro")
    glmm = cbpp()
    herd = {"period": ["1"], "herd": ["nowhere"]}
    with pytest.raises(LevelError, match="herd has 1 level that the fit has not seen"):
        glmm.predict(herd, new_levels="raise")
    narrow = glmm.predict(herd, new_levels="zero", conf_level=0.9, type="link")["std_error"][0]
    assert narrow < 0.6 * glmm.predict(herd, conf_level=0.9, type="link")["std_error"][0]
    seen = {"Days": [1.0], "Subject": ["who"], "Reaction": [250.0]}
    with pytest.raises(LevelError, match="'whom'"):
        fit.predict(new, new_levels="raise", history=seen)


def test_what_a_history_cannot_be():
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    seen = {"Days": [1.0], "Subject": ["a"], "Reaction": [250.0]}
    new = {"Days": [1.0], "Subject": ["a"]}
    with pytest.raises(ModelError, match="kind='typical' does not use"):
        fit.predict(new, kind="typical", history=seen)
    with pytest.raises(DataError, match="the response of the history is missing in 1 row"):
        fit.predict(new, history={**seen, "Reaction": [np.nan]})
    with pytest.raises(UnknownColumnError, match="no column 'Reaction'"):
        fit.predict(new, history={k: seen[k] for k in ("Days", "Subject")})
    wine = ranef.glmm("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative")
    with pytest.raises(LevelError):
        wine.predict(
            {"temp": ["cold"], "judge": ["me"]},
            history={"temp": ["cold"], "judge": ["me"], "rating": ["9"]},
        )


def test_answers_come_in_the_user_s_library():
    import polars as pl

    fit = ranef.lmm(SLEEP, pl.DataFrame(ranef.data.load("sleepstudy").to_dict("list")))
    seen = pl.DataFrame({"Days": [1.0], "Subject": ["a"], "Reaction": [250.0]})
    new = pl.DataFrame({"Days": [1.0, None], "Subject": ["a", "a"]})
    found = fit.predict(new, history=seen, conf_level=0.9)
    assert isinstance(found, pl.DataFrame)
    assert found["estimate"].is_nan().to_list() == [False, True]


def test_a_level_that_the_history_does_not_touch_is_predicted_as_without():
    """Degrees of freedom take x + z'db as known, which moves the bounds by less than 1%."""
    fit = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    new = {"Days": [0.0, 9.0, 3.0], "Subject": ["308", "309", "372"]}
    seen = {"Days": [1.0], "Subject": ["somebody"], "Reaction": [250.0]}
    told, plain = (fit.predict(new, history=h, conf_level=0.95) for h in (seen, None))
    np.testing.assert_allclose(told["estimate"], plain["estimate"], rtol=1e-9)
    np.testing.assert_allclose(told["std_error"], plain["std_error"], rtol=1e-6)
    np.testing.assert_allclose(told["conf_low"], plain["conf_low"], rtol=1e-2)
