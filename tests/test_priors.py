"""Maximum penalised likelihood: the engine's penalty against its formulas, and what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from agreement import Agree
from numpy.typing import NDArray
from scipy import stats

import ranef
from ranef import families, priors
from ranef.derivatives.generalised import joint_gradient
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.models.generalised import fit_glmm
from ranef.models.records import GeneralisedEstimate
from ranef.models.refitting import refit

Floats = NDArray[np.float64]


def table(seed: int = 1, n: int = 300, q: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, q, n), rng.integers(0, 7, n)
    x = rng.normal(1.0, 3.0, n)
    b = rng.normal(size=(q, 2)) * [0.9, 0.2]
    eta = -0.4 + 0.3 * x + b[g, 0] + b[g, 1] * x + 0.5 * rng.normal(size=7)[h]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def fit(
    formula: str, data: pd.DataFrame, given: dict[str, Any] | None = None, **more: Any
) -> GeneralisedEstimate:
    spec = specify(formula, data)
    family = families.family(more.pop("family", "binomial"))
    return fit_glmm({"conditional": spec}, family, priors=given, **more)


GIVEN: dict[str, dict[str, Any]] = {
    "coefficients": {"fixed": priors.Normal(0.1, 0.2), "(Intercept)": priors.StudentT(4, 0, 0.5)},
    "half normal": {"sd": priors.HalfNormal(0.3)},
    "half t and gamma": {"sd: g": priors.HalfT(3, 0.5), "sd: h": priors.Gamma(2, 3.0)},
    "gamma of one effect": {"sd: g: x": priors.Gamma(3, 5.0)},
    "correlation": {"corr": priors.LKJ(4.0), "sd": priors.HalfT(2, 1.0)},
    "all": {
        "fixed": priors.Normal(0, 1),
        "sd": priors.Gamma(2, 0.5),
        "corr: g": priors.LKJ(2),
    },
}


def log_prior(given: dict[str, Any], estimate: GeneralisedEstimate) -> float:
    """The log density of the priors by scipy, without constants of the correlation's."""
    total = 0.0
    names = estimate.components[0].names
    beta = dict(zip(names, estimate.coefficients, strict=True))

    def of(prior: Any, value: float) -> float:
        match prior:
            case priors.Normal(mean, sd):
                return float(stats.norm.logpdf(value, mean, sd))
            case priors.StudentT(df, mean, scale):
                return float(stats.t.logpdf(value, df, mean, scale))
            case priors.HalfNormal(scale):
                return float(stats.halfnorm.logpdf(value, scale=scale))
            case priors.HalfT(df, scale):
                return float(np.log(2) + stats.t.logpdf(value, df, scale=scale))
            case priors.Gamma(shape, rate):
                return float(stats.gamma.logpdf(value, shape, scale=1 / rate))
        raise AssertionError(prior)

    for name in names:
        prior = given.get(name, given.get("fixed") if name != "(Intercept)" else None)
        total += 0.0 if prior is None else of(prior, beta[name])
    for t, term in enumerate(estimate.terms):
        group = estimate.design.factors[term.factor].name
        psi = estimate.covariances[t]
        for a, name in enumerate(term.names):
            keys = (f"sd: {group}: {name}", f"sd: {group}", "sd")
            prior = next((given[k] for k in keys if k in given), None)
            total += 0.0 if prior is None else of(prior, float(np.sqrt(psi[a, a])))
        lkj = given.get(f"corr: {group}", given.get("corr"))
        if lkj is not None and term.size > 1:
            d = np.sqrt(np.diag(psi))
            total += (lkj.eta - 1) * np.linalg.slogdet(psi / np.outer(d, d))[1]
    return total


@pytest.mark.parametrize("name", GIVEN)
def test_the_optimum_is_that_of_the_penalised_likelihood(name: str) -> None:
    """At the optimum the gradient of the likelihood is minus that of the priors (differences)."""
    given = GIVEN[name]
    data = table()
    estimate = fit("y ~ x + (x | g) + (1 | h)", data, given)
    assert estimate.optimum.converged
    plain = fit("y ~ x + (x | g) + (1 | h)", data)
    assert estimate.loglik < plain.loglik
    before = plain.loglik + log_prior(given, plain)
    assert estimate.loglik + log_prior(given, estimate) > before
    g = joint_gradient(estimate, estimate.coefficients, estimate.theta)
    free = np.ones(len(g), dtype=bool)
    if estimate.optimum.singular:
        return
    np.testing.assert_allclose(g[free], 0, atol=2e-4)


@pytest.mark.parametrize("name", GIVEN)
def test_penalty_and_gradient_by_differences(name: str) -> None:
    """Away from the optimum: criterion = deviance - 2 log prior, and its exact gradient."""
    given = GIVEN[name]
    data = table()
    estimate = fit("y ~ x + (x | g) + (1 | h)", data, given)
    plain = fit("y ~ x + (x | g) + (1 | h)", data)
    rng = np.random.default_rng(7)
    beta = estimate.coefficients + 0.3 * rng.normal(size=2)
    theta = np.array([0.8, 0.1, 0.3, 0.5])

    def criterion(e: GeneralisedEstimate, b: Floats, t: Floats) -> float:
        from ranef.solve.predictors import assemble_generalised

        assembly = assemble_generalised(e.design, e.optimum.path)
        return float(assembly.core.state(assembly.point(t, b, {}), False)["criterion"])

    def difference(b: Floats, t: Floats) -> float:
        return criterion(estimate, b, t) - criterion(plain, b, t)

    from dataclasses import replace

    def expected(b: Floats, t: Floats) -> float:
        L = np.array([[t[0], 0], [t[1], t[2]]])
        moved = replace(estimate, coefficients=b, covariances=(L @ L.T, np.array([[t[3] ** 2]])))
        return -2 * log_prior(given, moved)

    other = theta * [1.3, -0.7, 1.1, 0.8]
    found = difference(beta, theta) - difference(beta * 0.5, other)
    assert found == pytest.approx(expected(beta, theta) - expected(beta * 0.5, other), rel=1e-8)
    g = joint_gradient(estimate, beta, theta)
    x = np.concatenate([beta, theta])
    for i in range(len(x)):
        step = 1e-5
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        slope = (criterion(estimate, up[:2], up[2:]) - criterion(estimate, down[:2], down[2:])) / (
            2 * step
        )
        assert slope == pytest.approx(g[i], rel=2e-5, abs=2e-5)


def test_separated_data_have_an_estimate_under_a_prior() -> None:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 6)
    x = rng.integers(0, 2, 120).astype(float)
    y = np.where(x == 1, 1.0, (rng.random(120) < 0.5).astype(float))
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    plain = fit("y ~ x + (1 | g)", data)
    assert plain.runaway
    held = fit("y ~ x + (1 | g)", data, {"fixed": priors.Normal(0, 2.5)})
    assert not held.runaway
    assert held.optimum.converged
    assert 0 < held.coefficients[1] < 8
    error = np.sqrt(joint_covariance(held)[1, 1])
    assert 0.3 < error < 2.5


def test_gamma_keeps_a_variance_from_zero() -> None:
    """Two laboratories: the likelihood has its maximum at zero, the penalised one does not."""
    rng = np.random.default_rng(11)
    lab = np.repeat([0, 1], 15)
    data = pd.DataFrame({"y": rng.poisson(4.0, 30).astype(float), "lab": lab})
    plain = fit("y ~ 1 + (1 | lab)", data, family="poisson")
    assert plain.optimum.singular
    held = fit("y ~ 1 + (1 | lab)", data, {"sd": priors.Gamma(2, 0.1)}, family="poisson")
    assert held.optimum.converged
    assert not held.optimum.singular
    sd = float(np.sqrt(held.covariances[0][0, 0]))
    assert 0.02 < sd < 1.0
    # the mode of the profile, found by brute force on a grid of theta
    again = refit(held, np.asarray(data["y"]))
    assert again.theta == pytest.approx(held.theta, rel=1e-6)


def test_priors_work_with_quadrature() -> None:
    data = table()
    given = {"fixed": priors.Normal(0, 0.3), "sd": priors.HalfT(3, 0.5)}
    estimate = fit("y ~ x + (x | g)", data, given, quadrature=7)
    assert estimate.optimum.converged
    g = joint_gradient(estimate, estimate.coefficients, estimate.theta)
    np.testing.assert_allclose(g, 0, atol=2e-4)


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + (x || g)"])
def test_the_gradient_of_a_quadrature_by_differences(formula: str) -> None:
    """A few nodes see how Psi is factored: the gradient in theta is that of the sum itself."""
    from ranef.solve.predictors import assemble_generalised

    estimate = fit(formula, table(), {"sd": priors.HalfT(3, 0.5)}, quadrature=5)
    assembly = assemble_generalised(estimate.design, None, quadrature=5)
    x = np.concatenate([estimate.coefficients + 0.2, 1.2 * estimate.theta + 0.05])
    g = joint_gradient(estimate, x[:2], x[2:])

    def criterion(at: Floats) -> float:
        return float(assembly.core.state(assembly.point(at[2:], at[:2], {}), False)["criterion"])

    for i in range(len(x)):
        step = np.zeros(len(x))
        step[i] = 1e-4
        slope = (criterion(x + step) - criterion(x - step)) / 2e-4
        assert slope == pytest.approx(g[i], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": priors.Normal()}, "no parameter 'z'"),
        ({"sd: k": priors.HalfT()}, "no parameter 'sd: k'"),
        ({"x": priors.HalfT()}, "a coefficient takes one of ranef.priors: Normal, StudentT"),
        ({"sd": priors.Normal()}, "a standard deviation takes"),
        ({"corr": priors.Gamma()}, "a correlation matrix takes"),
        ({3: priors.Normal()}, "names in priors are text"),
        ([priors.Normal()], "priors is a mapping"),
    ],
)
def test_priors_that_do_not_fit_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fit("y ~ x + (x | g)", table(), given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: priors.Normal(0, 0),
        lambda: priors.Normal(float("nan"), 1),
        lambda: priors.HalfT(-1, 1),
        lambda: priors.Gamma(0.5, 1),
        lambda: priors.LKJ(0.5),
        lambda: priors.StudentT(3, 0, "wide"),  # type: ignore[arg-type]
    ],
)
def test_priors_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(ModelError):
        make()


def test_a_linear_model_with_priors_is_the_linear_model_when_they_say_little() -> None:
    sleep = ranef.data.load("sleepstudy")
    sleep["w"] = np.random.default_rng(1).uniform(0.5, 2, len(sleep))
    formula = "Reaction ~ Days + (Days | Subject)"
    for reml in (True, False):
        plain = ranef.lmm(formula, sleep, weights="w", reml=reml)
        weak = {"sd": priors.HalfNormal(1e8)} if reml else {"fixed": priors.Normal(0, 1e6)}
        held = ranef.lmm(formula, sleep, weights="w", reml=reml, priors=weak)
        assert held.loglik == pytest.approx(plain.loglik, abs=1e-6)
        np.testing.assert_allclose(held.coef, plain.coef, rtol=1e-5)


def test_a_penalised_linear_model_by_brute_force(agree: Agree) -> None:
    """Dyestuff2, REML and a gamma prior of the sd: the optimum of three parameters by hand."""
    from scipy.optimize import minimize

    data = ranef.data.load("Dyestuff2")
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", data, priors={"sd": priors.Gamma(2.5, 0.7)})
    y = data["Yield"].to_numpy(float)
    Z = (data["Batch"].to_numpy()[:, None] == np.unique(data["Batch"])).astype(float)
    one = np.ones((len(y), 1))

    def deviance(at: Floats) -> float:
        sd, sigma = np.exp(at)
        V = sd**2 * Z @ Z.T + sigma**2 * np.eye(len(y))
        XVX = one.T @ np.linalg.solve(V, one)
        r = y - (one.T @ np.linalg.solve(V, y) / XVX[0, 0])[0]
        value = np.linalg.slogdet(V)[1] + np.log(XVX[0, 0]) + r @ np.linalg.solve(V, r)
        prior = stats.gamma.logpdf(sd, 2.5, scale=1 / 0.7)
        return float(value + (len(y) - 1) * np.log(2 * np.pi) - 2 * prior)

    best = minimize(
        deviance, [0.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    sd, sigma = np.exp(best.x)
    agree("lmm(priors=...)", "sd of Batch with a gamma prior, Dyestuff2", fit.theta[0], sd,
          peer="likelihood written out", rtol=1e-5)  # fmt: skip
    table = fit.tidy()
    found = float(np.exp(table.loc[table["component"] == "dispersion", "estimate"].iloc[0]))
    assert found == pytest.approx(sigma, rel=1e-5)
    expected = -0.5 * (best.fun + 2 * stats.gamma.logpdf(sd, 2.5, scale=1 / 0.7))
    # not stationary there: as exact as the parameters are
    assert fit.loglik == pytest.approx(expected, abs=1e-5)


def test_weights_as_numbers_are_refused_with_priors() -> None:
    sleep = ranef.data.load("sleepstudy")
    with pytest.raises(ModelError, match="name of a column"):
        ranef.lmm(
            "Reaction ~ Days + (1 | Subject)",
            sleep,
            weights=np.ones(len(sleep)),
            priors={"sd": priors.HalfT()},
        )


def test_shapes_go_by_their_labels() -> None:
    data = table().assign(t=lambda d: d["x"] + np.random.default_rng(2).standard_t(4, len(d)))
    penalised = [
        fit("t ~ x + (1 | g)", data, {key: priors.Normal(3.0, 0.05)}, family="t")
        for key in ("df: (Intercept)", " df:(Intercept)")
    ]
    free = fit("t ~ x + (1 | g)", data, family="t")
    one, two = (e.coefficients[e.components[-1].coefficients][0] for e in penalised)
    assert one == two
    assert abs(one - 3.0) < abs(free.coefficients[free.components[-1].coefficients][0] - 3.0)
