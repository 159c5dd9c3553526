"""Answers of generalised fits against glmmTMB, dense algebra, differences and draws."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reference_cases import peer
from scipy import integrate, stats
from test_glmm import fitted as reference_fit

from ranef import families
from ranef.derivatives import generalised as generalised_
from ranef.design.specify import specify
from ranef.design.terms import GroupingFactor
from ranef.errors import ModelError
from ranef.inference.coefficients import variance as variance_
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.draws import generalised
from ranef.inference.draws.simulation import effect_draws
from ranef.inference.effects import generalised_effects
from ranef.inference.kinds import inference_of
from ranef.inference.rows import (
    generalised_fitted,
    generalised_prediction,
    integration,
    targets,
    uncertainty,
)
from ranef.inference.rows import parts as rows
from ranef.models.generalised import fit_glmm
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import PartRows, Rows

PREDICTIONS = json.loads(
    (Path(__file__).parent / "reference" / "predict_glmm.json").read_text(encoding="utf-8")
)
ROWS = np.array(PREDICTIONS["rows"])
GLMMTMB = peer("glmmTMB", PREDICTIONS["versions"])
MODEL_OF = {
    "cbpp": "cbpp, logit", "cbpp_probit": "cbpp, probit", "owls": "Owls, counts with zeros",
    "salamanders_zero_random": "Salamanders, effects in the zero part",
}  # fmt: skip


def some(estimate: GeneralisedEstimate, which=ROWS) -> Rows:
    """Some of the rows of the fit."""
    own = Rows.of(estimate.parts, estimate.extra)
    parts = {
        name: PartRows(
            given.X[which],
            None if given.offset is None else given.offset[which],
            [(codes[which], z[which]) for codes, z in given.random],
        )
        for name, given in own.parts.items()
    }
    return Rows(parts, None if own.extra is None else own.extra[which])


def unseen(given: Rows) -> Rows:
    """The same rows at levels that the fit has not seen."""
    parts = {
        name: replace(part, random=[(np.full_like(codes, -1), z) for codes, z in part.random])
        for name, part in given.parts.items()
    }
    return replace(given, parts=parts)


# --- beside glmmTMB ------------------------------------------------------------------

# with re.form=NA glmmTMB 1.1.5 keeps the random effects of the zero part: its "zprob"
# differs between sites, which plogis(X beta) does not (the next test has that)
KEEPS_EFFECTS = {("salamanders_zero_random", "typical", type) for type in ("response", "zprob")}
TYPES = [
    (case, kind, type)
    for case, entry in PREDICTIONS["cases"].items()
    for kind in ("conditional", "typical")
    for type in entry[kind]
    if (case, kind, type) not in KEEPS_EFFECTS
]


@pytest.mark.parametrize("case", PREDICTIONS["cases"])
def test_predictions_are_glmmtmbs(agree, case):
    """Both errors: its joint precision holds random effects and all parameters.

    glmmTMB's Hessian is by differences and its optimum ends early, hence 1e-3.
    Its "conditional" is the mean without the zero part: the inverse link of "link".
    """
    estimate, _ = reference_fit(case)
    gaps, errors, theirs, seen = [], [], [], []
    for kind in ("conditional", "typical"):
        for type in [t for c, k, t in TYPES if (c, k) == (case, kind)]:
            seen.append(type)
            expected = PREDICTIONS["cases"][case][kind][type]
            own = {"zprob": "zero", "conditional": "link"}.get(type, type)
            found = generalised_prediction.predict(
                estimate, some(estimate), kind=kind, type=own, conf_level=0.95
            )
            value, error = found.estimate, found.std_error
            if type == "conditional":
                value, error = np.exp(value), np.exp(value) * error
            scale = np.array(expected["se"])
            gaps.append((value - expected["fit"]) / scale)
            errors.append(error)
            theirs.append(scale)
    call = "predict(kind=..., type=...)"
    what = f"{MODEL_OF[case]}, {', '.join(dict.fromkeys(seen))}"
    agree(call, f"values less theirs, in standard errors, {what}", gaps, np.zeros_like(gaps),
          peer=GLMMTMB, atol=2e-3)  # fmt: skip
    agree(call, f"standard errors, {what}", errors, theirs, peer=GLMMTMB, rtol=2e-3)


def test_a_typical_zero_is_of_the_fixed_effects(agree):
    """Plogis(X beta) of glmmTMB's zero part: .7199026 mined, .2161326 not."""
    estimate, _ = reference_fit("salamanders_zero_random")
    found = generalised_prediction.predict(estimate, some(estimate), kind="typical", type="zero")
    mined = estimate.parts["zero"].X[ROWS, 1] == 0
    agree("predict(kind='typical', type='zero')", "zero probability, Salamanders", found.estimate,
          np.where(mined, 0.7199026, 0.2161326), peer=f"plogis(X beta), {GLMMTMB}",
          rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("case", ["owls", "salamanders_zero_random"])
def test_pearson_residuals_are_glmmtmbs(agree, case):
    estimate, _ = reference_fit(case)
    found = generalised_fitted.residuals(estimate, "pearson")[ROWS]
    expected = PREDICTIONS["cases"][case]["pearson"]
    agree("residuals('pearson')", f"six rows, {MODEL_OF[case]}", found, expected,
          peer=GLMMTMB, rtol=2e-3, atol=1e-4)  # fmt: skip


# --- fits of every kind --------------------------------------------------------------


def grouped(seed: int, levels: int = 30, size: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = levels * size
    return pd.DataFrame(
        {
            "g": np.repeat(np.arange(levels), size),
            "x": rng.normal(size=n),
            "y": np.zeros(n),
            "b": np.repeat(rng.normal(size=levels), size),
        }
    )


def bare(spec):
    return replace(spec, terms=(), factors=())


@cache
def fit(name: str) -> GeneralisedEstimate:
    """Small simulated fits by name of what is peculiar about them."""
    data = grouped(7)
    rng = np.random.default_rng(8)
    eta = 0.3 + 0.5 * data["x"] + 0.7 * data["b"]
    zero, spread, extra, formula = None, None, None, "y ~ x + (1 | g)"
    if name == "slopes":
        formula = "y ~ x + (x | g)"
        steep = np.repeat(rng.normal(scale=0.6, size=30), 8)
        family, y = families.Poisson(), rng.poisson(np.exp(eta + steep * data["x"]))
    elif name == "trials":
        extra = rng.integers(1, 9, len(data)).astype(float)
        family = families.Binomial()
        y = rng.binomial(extra.astype(int), 1 / (1 + np.exp(-eta)))
    elif name == "probit":
        family, y = families.Binomial(link="probit"), eta + rng.normal(size=len(data)) > 0
    elif name == "hurdle":
        family = families.Truncated(families.NegativeBinomial2())
        y = family.simulate(rng, np.vstack([eta, np.full(len(data), 0.5)]))
        y[rng.random(len(data)) < 0.25] = 0
        zero = "y ~ x + (1 | g)"
    elif name == "ordinal":
        family = families.Cumulative()
        noise = rng.logistic(size=len(data))
        y = np.digitize(eta + noise, [-1.0, 0.4, 1.5])
    elif name == "multinomial":
        family = families.Multinomial(3)
        y = family.simulate(rng, np.vstack([eta, 0.5 - 0.4 * data["x"] - 0.9 * data["b"]]))
    elif name == "ordbeta":
        family = families.OrderedBeta()
        n = len(data)
        y = family.simulate(rng, np.vstack([eta, np.ones(n), np.full(n, -2.0), np.ones(n)]))
    elif name == "gamma":
        family = families.Gamma(link="log")
        y = rng.gamma(2.0, np.exp(eta) / 2)
    elif name == "crossed":
        data["h"] = np.tile(np.arange(12), 20)
        formula = "y ~ x + (1 | g) + (1 | h)"
        rate = np.exp(eta + 0.5 * rng.normal(size=12)[data["h"]])
        family, y = families.NegativeBinomial1(), rng.poisson(rate * rng.gamma(3, 1 / 3, 240))
    elif name == "spread":
        family = families.NegativeBinomial2()
        log_phi = 0.5 + np.repeat(rng.normal(scale=0.8, size=30), 8)
        y = family.simulate(rng, np.vstack([1.5 + eta, log_phi]))
        spread = "y ~ x + (1 | g)"
    elif name == "ar1":
        data["t"] = np.tile(np.repeat(np.arange(4), 2), 30)
        formula = "y ~ x + ar1(factor(t) | g)"
        R = 0.7 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
        path = rng.normal(size=(30, 4)) @ np.linalg.cholesky(R).T
        family, y = families.Poisson(), rng.poisson(np.exp(0.5 + path[data["g"], data["t"]]))
    elif name == "kernel":
        K = 0.8 ** np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
        effect = np.linalg.cholesky(K) @ rng.normal(size=30)
        family, y = families.Poisson(), rng.poisson(np.exp(1 + effect[data["g"]]))
    elif name == "cauchit":
        family = families.Cumulative(link="cauchit", thresholds="equidistant")
        y = np.digitize(eta + rng.standard_t(1, size=len(data)), [-1.0, 0.4, 1.8])
    data["y"] = np.asarray(y, dtype=float)
    parts = {"conditional": specify(formula, data)}
    if zero:
        parts["zero"] = specify(zero, data)
    if spread:
        parts["dispersion"] = specify(spread, data)
    if name == "kernel":
        own = parts["conditional"]
        parts["conditional"] = replace(own, terms=(replace(own.terms[0], kernel=K),))
    found = fit_glmm(parts, family, extra=extra)
    assert found.optimum.converged
    return found


FITS = ["slopes", "trials", "probit", "hurdle", "ordinal", "multinomial", "ordbeta", "gamma"]
FITS += ["crossed", "spread", "ar1", "kernel", "cauchit"]


def moved(estimate: GeneralisedEstimate, x: np.ndarray) -> GeneralisedEstimate:
    """The estimate with other coefficients and theta, and its modes there."""
    P = len(estimate.coefficients)
    psi = []
    for term, own in zip(estimate.terms, uncertainty.theta_slices(estimate), strict=True):
        psi.append(variance_.structure_of(term).psi(x[P:][own]))
    at = replace(estimate, coefficients=x[:P], theta=x[P:], covariances=tuple(psi))
    assembly = generalised_._assembly(estimate)
    point = assembly.point(x[P:], x[:P], {})
    modes = assembly.core.state(point, False)["modes"]
    return replace(
        at,
        modes=tuple(modes[t.block][:, t.first : t.first + t.size] for t in assembly.terms),
    )


def differences(function, x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """Jacobian (.., len(x)) by differences of fourth order."""
    columns = []
    for i in range(len(x)):
        e = np.zeros_like(x)
        e[i] = h
        columns.append(
            (function(x - 2 * e) - 8 * function(x - e) + 8 * function(x + e) - function(x + 2 * e))
            / (12 * h)
        )
    return np.stack(columns, axis=-1)


def joint_point(estimate: GeneralisedEstimate) -> np.ndarray:
    return np.concatenate([estimate.coefficients, estimate.theta])


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("kind", ["typical", "population"])
def test_standard_errors_are_by_differences_of_the_prediction(name, kind):
    estimate = fit(name)
    which = np.array([0, 11, 100])

    def predicted(x):
        at = moved(estimate, x)
        return generalised_prediction.predict(at, some(at, which), kind=kind).estimate

    J = differences(predicted, joint_point(estimate))
    expected = np.sqrt(np.einsum("...i,ij,...j->...", J, joint_covariance(estimate), J))
    found = generalised_prediction.predict(
        estimate, some(estimate, which), kind=kind, conf_level=0.9
    )
    np.testing.assert_allclose(found.std_error, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("spread", "dispersion"),
        ("spread", "link"),
        ("hurdle", "zero"),
        ("hurdle", "dispersion"),
        ("trials", "link"),
        ("multinomial", "link"),
    ],
)
@pytest.mark.parametrize("kind", ["typical", "population"])
def test_standard_errors_of_other_types(name, type, kind):
    estimate = fit(name)
    which = np.array([0, 11, 100])
    if name == "multinomial" and kind == "population":
        with pytest.raises(ModelError, match="no link of one predictor"):
            generalised_prediction.predict(estimate, some(estimate), kind=kind, type=type)
        return

    def predicted(x):
        at = moved(estimate, x)
        return generalised_prediction.predict(at, some(at, which), kind=kind, type=type).estimate

    J = differences(predicted, joint_point(estimate))
    expected = np.sqrt(np.einsum("...i,ij,...j->...", J, joint_covariance(estimate), J))
    found = generalised_prediction.predict(
        estimate, some(estimate, which), kind=kind, type=type, conf_level=0.9
    )
    np.testing.assert_allclose(found.std_error, expected, rtol=1e-6)
    assert np.all((found.conf_low < found.estimate) & (found.estimate < found.conf_high))


@pytest.mark.parametrize("name", FITS)
def test_conditional_errors_are_those_of_effects_and_parameters(name):
    """z' C z by dense algebra, and J V J' by differences of the modes found anew."""
    estimate = fit(name)
    which = np.array([0, 11, 100])
    parts = rows.linear_parts(estimate, some(estimate, which))
    parts_all = rows.linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))

    def predicted(x):
        at = moved(estimate, x)
        return generalised_prediction.predict(at, some(at, which)).estimate

    J = differences(predicted, joint_point(estimate))
    joint = np.einsum("...i,ij,...j->...", J, joint_covariance(estimate), J)
    C = dense_covariance(estimate, parts_all)
    found = targets.evaluate(
        targets.target(estimate, "response"),
        uncertainty.linear_predictors(estimate, parts, True),
        None,
    )
    given = np.zeros(found.value.shape)
    for k in range(found.value.shape[1]):
        A = dense_z(estimate, parts, found.by_mean[:, :, k])
        given[:, k] = np.einsum("ni,ij,nj->n", A, C, A)
    expected = np.sqrt(given.reshape(joint.shape) + joint)
    got = generalised_prediction.predict(estimate, some(estimate, which), conf_level=0.9)
    np.testing.assert_allclose(got.std_error, expected, rtol=1e-6)


def test_conditional_errors_under_reml():
    """The posterior of effects and coefficients given theta, and what theta moves."""
    plain = fit("slopes")
    estimate = fit_glmm(plain.parts, families.Poisson(), reml=True)
    which = np.array([0, 11, 100])
    parts = rows.linear_parts(estimate, some(estimate, which))
    parts_all = rows.linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))
    Z = dense_z(estimate, parts_all, np.ones((1, 240)))
    X, W = estimate.specification.X, np.exp(estimate.predictors[0])[:, None]
    given_beta = np.linalg.inv(dense_covariance(estimate, parts_all))
    cross = X.T @ (W * Z)
    curvature = np.block([[X.T @ (W * X), cross], [cross.T, given_beta]])
    A = np.hstack([X[which], dense_z(estimate, parts, np.ones((1, 3)))])
    given = np.einsum("ni,ij,nj->n", A, np.linalg.inv(curvature), A)
    assembly = generalised_._assembly(estimate)

    def eta(theta):
        point = assembly.point(theta, estimate.coefficients, {})
        state = assembly.core.state(point, False)
        return A @ np.concatenate(
            [assembly.transform @ state["coefficients"], state["modes"][0].ravel()]
        )

    J = differences(eta, estimate.theta)
    hessian, _ = generalised_.joint_hessian(estimate)
    moved_by_theta = np.einsum("ni,ij,nj->n", J, 2 * np.linalg.inv(hessian), J)
    found = generalised_prediction.predict(
        estimate, some(estimate, which), type="link", conf_level=0.9
    )
    np.testing.assert_allclose(found.std_error, np.sqrt(given + moved_by_theta), rtol=1e-6)


def dense_z(estimate, parts, weights) -> np.ndarray:
    """Rows (N, all effects) of sum_a w_a z_a."""
    starts = np.cumsum([0] + [b.size for b in estimate.modes])
    out = np.zeros((weights.shape[1], starts[-1]))
    for w, part in zip(weights, parts, strict=True):
        for term, codes, z in part.random:
            r = z.shape[1]
            for j in range(r):
                out[np.arange(len(w)), starts[term] + codes * r + j] += w * z[:, j]
    return out


def dense_covariance(estimate, parts) -> np.ndarray:
    """Inverse of the curvature of log density plus log prior in all effects, by differences."""
    blocks = []
    for term, psi in zip(estimate.terms, estimate.covariances, strict=True):
        q = estimate.design.factors[term.factor].n_levels
        K = np.eye(q) if term.kernel is None else term.kernel
        blocks.append(np.kron(np.linalg.inv(K), np.linalg.inv(psi)))
    total = sum(len(B) for B in blocks)
    H, at = np.zeros((total, total)), 0
    for B in blocks:
        H[at : at + len(B), at : at + len(B)] = B
        at += len(B)
    y, M, n = estimate.specification.y, len(parts), len(parts[0].X)
    etas = uncertainty.linear_predictors(estimate, parts, True)
    core = estimate.design.family
    if isinstance(estimate.family, families.Cumulative):
        # thresholds have no effects: those of the row's category enter as they are
        cuts = etas[1:, 0]
        etas, M = estimate.family.rows(y, etas[0], cuts), 1
        d = core.evaluate(y, estimate.extra, np.ascontiguousarray(etas), 2, [0], 1)
        parts = parts[:1]
    else:
        d = core.evaluate(y, estimate.extra, np.ascontiguousarray(etas), 2, list(range(M)), 1)
    eye = np.eye(M)
    Z = [dense_z(estimate, parts, np.outer(eye[a], np.ones(n))) for a in range(M)]
    k = 1 + M
    for a in range(M):
        for b in range(a, M):
            W = -d[k][:, None]
            H += Z[a].T @ (W * Z[b])
            if a != b:
                H += Z[b].T @ (W * Z[a])
            k += 1
    return np.linalg.inv(H)


@pytest.mark.parametrize("name", ["slopes", "trials", "multinomial", "ordinal"])
def test_a_level_not_seen_adds_the_variance_of_its_effects(name):
    estimate = fit(name)
    new = unseen(some(estimate, np.array([3, 40])))
    found = generalised_prediction.predict(estimate, new, conf_level=0.95, type="link")
    typical = generalised_prediction.predict(
        estimate, new, kind="typical", conf_level=0.95, type="link"
    )
    np.testing.assert_allclose(found.estimate, typical.estimate, rtol=1e-12)
    parts = rows.linear_parts(estimate, new)
    K = 1 if found.estimate.ndim == 1 else found.estimate.shape[1]
    added = uncertainty.random_variance(estimate, parts)[:K].T.reshape(found.estimate.shape)
    expected = np.sqrt(typical.std_error**2 + added)
    np.testing.assert_allclose(found.std_error, expected, rtol=1e-8)


# --- integrals -----------------------------------------------------------------------


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit", "log", "sqrt"])
@pytest.mark.parametrize("sd", [0.1, 1.0, 4.0])
def test_integrals_over_one_normal_predictor(link, sd):
    """SciPy's adaptive quadrature; derivatives by differences."""
    inverse = families.links.LINKS[link].inverse

    def mean(eta, v):
        s = np.sqrt(v)
        ends = (-12 - s, 12 + s) if link == "log" else (-12, 12)
        found = integrate.quad(
            lambda t: inverse(np.array(eta + s * t)) * stats.norm.pdf(t),
            *ends,
            epsabs=1e-13,
            epsrel=1e-12,
            limit=400,
            points=[-eta / s],
        )
        return found[0]

    etas, v = np.array([[-1.5, 0.2, 2.0]]), sd**2
    found = integration.expectation(targets.through(link, 0, 1), etas, np.full((1, 3), v))
    expected = [mean(eta, v) for eta in etas[0]]
    np.testing.assert_allclose(found.value[:, 0], expected, rtol=1e-10)
    h = 1e-3
    by_mean = [(mean(e + h, v) - mean(e - h, v)) / (2 * h) for e in etas[0]]
    np.testing.assert_allclose(found.by_mean[0, :, 0], by_mean, rtol=1e-5, atol=1e-8)
    h = 3e-4 * v
    by_v = [(mean(e, v + h) - mean(e, v - h)) / (2 * h) for e in etas[0]]
    np.testing.assert_allclose(found.by_variance[0, :, 0], by_v, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", FITS)
def test_population_means_by_drawing_effects(name):
    """Family means at 100,000 draws of the predictors; five standard errors of the mean."""
    estimate = fit(name)
    given = some(estimate, np.array([0, 90]))
    parts = rows.linear_parts(estimate, given)
    etas = uncertainty.linear_predictors(estimate, parts, False)
    sd = np.sqrt(uncertainty.random_variance(estimate, parts))
    rng = np.random.default_rng(1)
    zero = "zero" in estimate.parts
    drawn = etas[:, :, None] + sd[:, :, None] * rng.normal(size=(*etas.shape, 100_000))
    found = generalised_prediction.predict(estimate, given, kind="population").estimate
    for i in range(2):
        means = estimate.family.mean(drawn[:, i], zero=zero)
        error = means.std(axis=0) / np.sqrt(100_000)
        np.testing.assert_array_less(np.abs(found[i] - means.mean(axis=0)), 5 * error)


def test_no_mean_of_an_inverse_link():
    data = grouped(3)
    data["y"] = np.random.default_rng(0).gamma(20.0, 1 / (2 + 0.1 * data["b"]) / 20)
    estimate = fit_glmm({"conditional": specify("y ~ x + (1 | g)", data)}, families.Gamma())
    own = Rows.of(estimate.parts, estimate.extra)
    with pytest.raises(ModelError, match="inverse link has no population mean"):
        generalised_prediction.predict(estimate, own, kind="population")
    found = generalised_prediction.predict(estimate, own, kind="typical", conf_level=0.95)
    assert np.all(found.conf_low < found.estimate)
    assert np.all(found.estimate < found.conf_high)


def test_rows_without_columns_for_the_random_effects_are_refused():
    estimate = fit("slopes")
    own = Rows.of(estimate.parts, estimate.extra).parts["conditional"]
    given = Rows({"conditional": replace(own, random=None)})
    for kind in ("conditional", "population"):
        with pytest.raises(ModelError, match="only kind='typical'"):
            generalised_prediction.predict(estimate, given, kind=kind)
    typical = generalised_prediction.predict(estimate, given, kind="typical").estimate
    np.testing.assert_allclose(typical, np.exp(own.X @ estimate.beta))


# --- intervals -----------------------------------------------------------------------


def test_intervals_of_all_components():
    estimate, _ = reference_fit("owls")
    P = len(estimate.coefficients)
    found = inference_of(estimate).intervals(np.eye(P), conf_level=0.9)
    errors = np.sqrt(np.diag(joint_covariance(estimate))[:P])
    np.testing.assert_allclose(found.std_error, errors)
    reach = stats.norm.ppf(0.95) * errors
    np.testing.assert_allclose(found.conf_high, estimate.coefficients + reach)
    np.testing.assert_allclose(
        found.p_value, 2 * stats.norm.sf(np.abs(estimate.coefficients / errors))
    )


@pytest.mark.parametrize("method", ["satterthwaite", "residual"])
def test_other_degrees_of_freedom_are_refused(method):
    estimate, _ = reference_fit("cbpp")
    with pytest.raises(ModelError, match="use df='normal'"):
        inference_of(estimate).intervals(np.eye(4), df=method)
    with pytest.raises(ModelError, match="not a known method"):
        inference_of(estimate).intervals(np.eye(4), df="wald")


def test_wald_test_is_chi_squared():
    estimate, _ = reference_fit("cbpp")
    found = inference_of(estimate).f_test(np.eye(4)[1:])
    V, b = joint_covariance(estimate)[1:4, 1:4], estimate.coefficients[1:]
    statistic = b @ np.linalg.solve(V, b)
    assert found.df1 == 3
    assert np.isinf(found.df2)
    assert found.statistic * 3 == pytest.approx(statistic)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 3))


def test_variance_parameters_by_hand():
    """Log and atanh of the parameters as functions of theta, by differences."""
    estimate = fit("slopes")
    P = len(estimate.coefficients)

    def transformed(theta):
        L = np.array([[theta[0], 0], [theta[1], theta[2]]])
        psi = L @ L.T
        sd = np.sqrt(np.diag(psi))
        return np.array([np.log(sd[0]), np.log(sd[1]), np.arctanh(psi[1, 0] / sd[0] / sd[1])])

    J = differences(transformed, estimate.theta)
    errors = np.sqrt(np.diag(J @ joint_covariance(estimate)[P:, P:] @ J.T))
    centre = transformed(estimate.theta)
    half = stats.norm.ppf(0.975) * errors
    found = inference_of(estimate).variance_parameters()
    assert [p.kind for p in found] == ["sd", "sd", "corr"]
    back = [np.exp, np.exp, np.tanh]
    for one, f, c, h in zip(found, back, centre, half, strict=True):
        np.testing.assert_allclose(
            [one.estimate, one.conf_low, one.conf_high], [f(c), f(c - h), f(c + h)], rtol=1e-7
        )


def test_variance_parameters_name_their_component():
    found = inference_of(reference_fit("salamanders_zero_random")[0]).variance_parameters()
    assert [p.component for p in found] == ["conditional", "zero"]
    assert [p.component for p in inference_of(fit("multinomial")).variance_parameters()] == [
        "conditional"
    ] * 2
    assert [p.response for p in inference_of(fit("multinomial")).variance_parameters()] == [
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("case", "residual"),
    [("cbpp", np.pi**2 / 3), ("cbpp_probit", 1.0), ("cbpp_cloglog", np.pi**2 / 6)],
)
def test_intraclass_correlation_of_the_latent_response(case, residual):
    estimate, _ = reference_fit(case)
    v = estimate.theta[0] ** 2
    assert variance_.intraclass_correlations(estimate) == pytest.approx((v / (v + residual),))


def test_no_intraclass_correlation_without_a_latent_response():
    assert variance_.intraclass_correlations(reference_fit("owls")[0]) is None
    assert variance_.intraclass_correlations(fit("slopes")) is None
    assert variance_.intraclass_correlations(fit("gamma")) is None


def test_no_interval_on_a_face():
    data = grouped(4)
    data["y"] = np.tile([0.0, 1.0], len(data) // 2)
    estimate = fit_glmm({"conditional": specify("y ~ x + (1 | g)", data)}, families.Binomial())
    assert estimate.optimum.singular
    (found,) = inference_of(estimate).variance_parameters()
    assert found.estimate == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(found.conf_low)
    own = Rows.of(estimate.parts, estimate.extra)
    conditional = generalised_prediction.predict(estimate, own, conf_level=0.95)
    typical = generalised_prediction.predict(estimate, own, kind="typical", conf_level=0.95)
    population = generalised_prediction.predict(estimate, own, kind="population", conf_level=0.95)
    np.testing.assert_allclose(conditional.std_error, typical.std_error, rtol=1e-6)
    np.testing.assert_allclose(population.std_error, typical.std_error, rtol=1e-6)


def test_intervals_are_made_on_the_link_scale():
    estimate, _ = reference_fit("cbpp")
    given = some(estimate)
    link = generalised_prediction.predict(estimate, given, type="link", conf_level=0.95)
    found = generalised_prediction.predict(estimate, given, conf_level=0.95)
    np.testing.assert_allclose(found.conf_low, 1 / (1 + np.exp(-link.conf_low)))
    np.testing.assert_allclose(found.conf_high, 1 / (1 + np.exp(-link.conf_high)))
    population = generalised_prediction.predict(estimate, given, kind="population", conf_level=0.95)
    p, se = population.estimate, population.std_error
    logit = np.log(p / (1 - p)) - stats.norm.ppf(0.975) * se / (p * (1 - p))
    np.testing.assert_allclose(population.conf_low, 1 / (1 + np.exp(-logit)))


def test_types_of_categories():
    estimate = fit("ordinal")
    given = Rows.of(estimate.parts, estimate.extra)
    p = generalised_prediction.predict(estimate, given, type="prob", conf_level=0.95)
    assert p.estimate.shape == (240, 4)
    np.testing.assert_allclose(p.estimate.sum(axis=1), 1.0)
    np.testing.assert_array_less(p.conf_low, p.estimate)
    found = generalised_prediction.predict(estimate, given, type="class").estimate
    np.testing.assert_array_equal(found, p.estimate.argmax(axis=1))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("slopes", {"type": "prob"}, "no categories"),
        ("slopes", {"type": "zero"}, "no zero part"),
        ("slopes", {"type": "dispersion"}, "no dispersion"),
        ("slopes", {"type": "responce"}, "did you mean 'response'"),
        ("slopes", {"kind": "marginal"}, "not a known kind"),
        ("ordinal", {"interval": "new", "conf_level": 0.9}, "no interval"),
        ("ordinal", {"kind": "population", "type": "link"}, "no link of one predictor"),
        ("slopes", {"interval": "new", "type": "link", "conf_level": 0.9}, "of the response"),
    ],
)
def test_what_cannot_be_predicted(name, options, words):
    estimate = fit(name)
    with pytest.raises(ModelError, match=words):
        generalised_prediction.predict(estimate, Rows.of(estimate.parts, estimate.extra), **options)


def test_contrasts_are_differences_of_means():
    estimate = fit("hurdle")
    given = some(estimate, np.array([0, 11, 100]))
    C = np.array([[1.0, -1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    found = generalised_prediction.contrasts(estimate, given, C)

    def value(x):
        at = moved(estimate, x)
        return (
            C
            @ generalised_prediction.predict(
                at, some(at, np.array([0, 11, 100])), kind="population"
            ).estimate
        )

    J = differences(value, joint_point(estimate))
    expected = np.sqrt(np.einsum("qi,ij,qj->q", J, joint_covariance(estimate), J))
    np.testing.assert_allclose(found.estimate, value(joint_point(estimate)))
    np.testing.assert_allclose(found.std_error, expected, rtol=1e-6)
    with pytest.raises(ModelError, match="there are 3 rows"):
        generalised_prediction.contrasts(estimate, given, np.ones((1, 4)))
    with pytest.raises(ModelError, match="'population' or 'typical'"):
        generalised_prediction.contrasts(estimate, given, C, kind="conditional")


# --- new responses -------------------------------------------------------------------


def test_a_new_response_from_the_population_by_its_distribution():
    """Poisson with log-normal means; the draws' quantiles against the distribution itself.

    At 4,000 draws the distribution function at a quantile is known to 0.0025 to
    0.0034; counts jump, so the function is held between its left and right limit.
    """
    estimate = fit("slopes")
    given = some(estimate, np.array([0, 90]))
    level, draws = 0.9, 4000
    found = generalised_prediction.predict(
        estimate, given, kind="population", conf_level=level, interval="new", draws=draws
    )
    parts = rows.linear_parts(estimate, given)
    eta = uncertainty.linear_predictors(estimate, parts, False)[0]
    J = uncertainty.gradient(estimate, parts, np.ones((1, 2)), False)
    v = uncertainty.random_variance(estimate, parts)[0] + np.einsum(
        "ni,ij,nj->n", J, joint_covariance(estimate), J
    )
    t = np.linspace(-8, 8, 2001)
    w = stats.norm.pdf(t) * (t[1] - t[0])
    slack = 5 * np.sqrt(0.05 * 0.95 / draws)
    for i in range(2):
        mu = np.exp(eta[i] + np.sqrt(v[i]) * t)
        for end, tail in ((found.conf_low[i], 0.05), (found.conf_high[i], 0.95)):
            below = w @ stats.poisson.cdf(end - 1, mu)
            upto = w @ stats.poisson.cdf(end, mu)
            assert below - slack <= tail <= upto + slack


def test_a_new_response_of_trials_is_a_proportion():
    estimate = fit("trials")
    found = generalised_prediction.predict(
        estimate, Rows.of(estimate.parts, estimate.extra), conf_level=0.95, interval="new"
    )
    assert np.all((found.conf_low >= 0) & (found.conf_high <= 1))
    y = estimate.specification.y / estimate.extra
    inside = (y >= found.conf_low) & (y <= found.conf_high)
    assert inside.mean() > 0.93


@pytest.mark.parametrize("name", FITS)
def test_draws_have_the_population_mean(name):
    """Averages over rows of 400 draws; five standard errors from the spread of the draws."""
    estimate = fit(name)
    drawn = generalised.simulate(estimate, 400, np.random.default_rng(5))
    assert drawn.shape == (240, 400)
    mean = generalised_fitted.fitted(estimate, kind="population")
    if mean.ndim == 2:
        drawn, mean = (drawn == 1.0).astype(float), mean[:, 1]
    if name == "trials":
        drawn = drawn / estimate.extra[:, None]
    averages = drawn.mean(axis=0)
    error = averages.std() / np.sqrt(400)
    assert abs(averages.mean() - mean.mean()) < 5 * error


@pytest.mark.parametrize("name", FITS)
def test_conditional_draws_have_the_fitted_mean(name):
    estimate = fit(name)
    drawn = generalised.simulate(estimate, 400, np.random.default_rng(6), conditional=True)
    mean = generalised_fitted.fitted(estimate)
    if mean.ndim == 2:
        drawn, mean = (drawn == 1.0).astype(float), mean[:, 1]
    if name == "trials":
        drawn = drawn / estimate.extra[:, None]
    z = (drawn.mean(axis=1) - mean) / (np.maximum(drawn.std(axis=1), 1e-3) / np.sqrt(400))
    assert abs(z.mean()) < 5 / np.sqrt(240)
    assert 0.8 < z.std() < 1.2


def test_draws_of_a_kernel_share_its_correlation():
    data = grouped(9, levels=20)
    K = 0.8 ** np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    effect = np.linalg.cholesky(K) @ np.random.default_rng(2).normal(size=20)
    data["y"] = np.random.default_rng(3).poisson(np.exp(1 + effect[data["g"]])).astype(float)
    spec = specify("y ~ 1 + (1 | g)", data)
    spec = replace(spec, terms=(replace(spec.terms[0], kernel=K),))
    estimate = fit_glmm({"conditional": spec}, families.Poisson())
    (effects,) = effect_draws(estimate.terms, estimate.covariances, [20])
    rng = np.random.default_rng(4)
    b = np.array([effects.draw(rng)[:, 0] for _ in range(4000)])
    expected = K * estimate.covariances[0][0, 0]
    # the error of a covariance of normal variables: sqrt((v_i v_j + c^2) / draws)
    v = np.diag(expected)
    error = np.sqrt((np.outer(v, v) + expected**2) / 4000)
    assert np.abs((np.cov(b.T) - expected) / error).max() < 5
    assert generalised.simulate(estimate, 2, rng).shape == (160, 2)


# --- residuals -----------------------------------------------------------------------


def test_fitted_values_are_family_means_at_the_modes():
    estimate, _ = reference_fit("owls")
    expected = estimate.family.mean(estimate.predictors, zero=True)
    np.testing.assert_allclose(generalised_fitted.fitted(estimate), expected, rtol=1e-10)
    trials = fit("trials")
    np.testing.assert_allclose(
        generalised_fitted.fitted(trials), 1 / (1 + np.exp(-trials.predictors[0])), rtol=1e-10
    )


def test_residuals_of_trials():
    estimate = fit("trials")
    y, n = estimate.specification.y, estimate.extra
    p = generalised_fitted.fitted(estimate)
    np.testing.assert_allclose(generalised_fitted.residuals(estimate), y / n - p)
    np.testing.assert_allclose(
        generalised_fitted.residuals(estimate, "pearson"), (y - n * p) / np.sqrt(n * p * (1 - p))
    )
    np.testing.assert_allclose(
        generalised_fitted.residuals(estimate, "working"), (y / n - p) / (p * (1 - p))
    )
    d = generalised_fitted.residuals(estimate, "deviance")
    best = stats.binom.logpmf(y, n, y / n)
    np.testing.assert_allclose(d**2, 2 * (best - stats.binom.logpmf(y, n, p)), atol=1e-10)


@pytest.mark.parametrize("family", ["poisson", "nbinom2", "gaussian", "Gamma", "inverse.gaussian"])
def test_unit_deviances_are_log_likelihood_ratios(family):
    """Twice the log density at mu = y less that at mu, times the dispersion where it scales."""
    rng = np.random.default_rng(3)
    mu, y = rng.gamma(3.0, 1.0, 40), rng.poisson(3.0, 40) + 1.0
    one = families.family(family, link="log")
    phi = 0.7
    etas = np.vstack([np.log(mu)] + [np.full(40, phi)] * (len(one.parameters) - 1))
    best = etas.copy()
    best[0] = np.log(y)
    ratio = 2 * (one.log_density(y, best) - one.log_density(y, etas))
    scale = {"gaussian": np.exp(2 * phi), "Gamma": np.exp(2 * phi), "inverse.gaussian": np.exp(phi)}
    found = generalised_fitted.DEVIANCES[family](y, mu, etas)
    # a difference of log densities of about 10 is good to some 1e-15 absolute
    np.testing.assert_allclose(found, scale.get(family, 1.0) * ratio, rtol=1e-10, atol=1e-13)


def test_tweedies_deviance_lies_between_its_neighbours():
    y, mu = np.array([0.0, 1.0, 4.0]), np.array([0.5, 2.0, 3.0])
    near = [
        generalised_fitted.DEVIANCES["tweedie"](y, mu, np.array([[0.0], [0.0], [shape]]))
        for shape in (-17.0, 17.0)
    ]
    np.testing.assert_allclose(
        near[0], generalised_fitted.DEVIANCES["poisson"](y, mu, mu), rtol=1e-5
    )
    gamma = generalised_fitted.DEVIANCES["Gamma"](y[1:], mu[1:], mu)
    np.testing.assert_allclose(near[1][1:], gamma, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ordinal", "response", "a category has no residual"),
        ("multinomial", "pearson", "a category has no residual"),
        ("hurdle", "deviance", "mixture"),
        ("hurdle", "working", "link of one predictor"),
        ("ordbeta", "deviance", "no deviance"),
        ("slopes", "quantile", "no residuals of kind"),
    ],
)
def test_residuals_that_are_refused(name, kind, words):
    with pytest.raises(ModelError, match=words):
        generalised_fitted.residuals(fit(name), kind)


# --- effects -------------------------------------------------------------------------


def test_level_effects_name_their_component():
    estimate, _ = reference_fit("salamanders_zero_random")
    found = inference_of(estimate).level_effects()
    assert [e.component for e in found] == ["conditional", "zero"]
    matrices = generalised_.generalised_conditional_covariances(estimate)
    for one, b, (given, error) in zip(found, estimate.modes, matrices, strict=True):
        np.testing.assert_array_equal(one.estimate, b)
        np.testing.assert_allclose(one.cond_sd[:, 0] ** 2, given[:, 0, 0])
        np.testing.assert_allclose(one.std_error[:, 0] ** 2, error[:, 0, 0])


def test_coefficients_by_level_are_sums():
    estimate = fit("slopes")
    (found,) = inference_of(estimate).coefficients_by_level(0)
    assert found.names == ("(Intercept)", "x")
    np.testing.assert_allclose(found.estimate, estimate.beta + estimate.modes[0])
    assert isinstance(estimate.design.factors[0], GroupingFactor)
    own = np.array([[1.0, 0.0]] * 30)
    variance = generalised_.generalised_prediction_variance(
        estimate, own, [(np.arange(30, dtype=np.int32), own)]
    )
    np.testing.assert_allclose(found.std_error[:, 0] ** 2, variance)
    assert len(inference_of(fit("multinomial")).coefficients_by_level(0)) == 2
    both = inference_of(fit("hurdle")).coefficients_by_level(0)
    assert [one.component for one in both] == ["conditional", "zero"]


def posterior_by_grid(estimate, level: int) -> tuple[float, float]:
    """Mean and sd of one level's intercept on a fine grid."""
    own = estimate.design.factors[0].codes == level
    sd = np.sqrt(estimate.covariances[0][0, 0])
    parts = rows.linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))
    fixed = uncertainty.linear_predictors(estimate, parts, False)[:, own]
    y = estimate.specification.y[own]
    extra = None if estimate.extra is None else estimate.extra[own]
    b = np.linspace(-8 * sd, 8 * sd, 4001)
    logs = np.array(
        [
            estimate.family.log_density(y, fixed + value, extra).sum()
            + stats.norm.logpdf(value, scale=sd)
            for value in b
        ]
    )
    w = np.exp(logs - logs.max())
    mean = w @ b / w.sum()
    return mean, np.sqrt(w @ (b - mean) ** 2 / w.sum())


@pytest.mark.parametrize("name", ["trials", "probit"])
def test_posterior_means_on_a_grid(name):
    estimate = fit(name)
    (found,) = generalised_effects.posterior_means(estimate)
    for level in (0, 12, 29):
        mean, sd = posterior_by_grid(estimate, level)
        assert found.mean[level, 0] == pytest.approx(mean, abs=1e-6)
        assert found.sd[level, 0] == pytest.approx(sd, abs=1e-6)


def test_posterior_means_of_slopes_and_of_several_parts():
    """More nodes change nothing; the means are near the modes where levels are large."""
    for name in ("slopes", "hurdle", "ordinal"):
        estimate = fit(name)
        few, many = (generalised_effects.posterior_means(estimate, nodes) for nodes in (15, 25))
        for a, b, mode in zip(few, many, estimate.modes, strict=True):
            np.testing.assert_allclose(a.mean, b.mean, atol=1e-4)
            np.testing.assert_allclose(a.sd, b.sd, atol=1e-4)
            assert np.abs(a.mean - mode).max() < 0.5 * a.sd.max()


def test_posterior_means_need_factors_that_nest():
    estimate = fit("crossed")
    with pytest.raises(ModelError, match="are crossed: the likelihood then does not factorise"):
        generalised_effects.posterior_means(estimate)


# --- derivatives of the means of families --------------------------------------------

EVERY = [
    families.Binomial(link="cloglog"),
    families.Truncated(families.Poisson()),
    families.Truncated(families.NegativeBinomial1()),
    families.Truncated(families.NegativeBinomial2()),
    families.Truncated(families.ConwayMaxwellPoisson()),
    families.OrderedBeta(),
    families.Multinomial(4),
    families.Lognormal(),
]


@pytest.mark.parametrize("family", EVERY, ids=lambda f: f.name)
@pytest.mark.parametrize("zero", [False, True])
def test_derivatives_of_means(family, zero):
    if zero and not family.takes_zero:
        with pytest.raises(ModelError, match="takes no zero inflation"):
            family.predictors(True)
        return
    M = len(family.parameters) + zero
    etas = np.random.default_rng(2).normal(size=(M, 5))
    found = family.mean_derivatives(etas, zero=zero)
    for a in range(M):
        e = np.zeros((M, 1))
        e[a] = 1e-5
        expected = (family.mean(etas + e, zero=zero) - family.mean(etas - e, zero=zero)) / 2e-5
        np.testing.assert_allclose(found[a], expected, rtol=1e-6, atol=1e-8)
        if zero is False and a not in family.in_mean:
            assert not found[a].any()
