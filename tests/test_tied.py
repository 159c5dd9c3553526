"""Random effects that a label ties across the parts of a model, `(1 | p | g)`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.covariance import structure_of
from ranef.derivatives.generalised import generalised_criterion, joint_gradient
from ranef.description.words import random_term
from ranef.errors import DataWarning, FormulaError, ModelError
from ranef.formula.model import read_formula
from ranef.inference.coefficients.covariance import joint_covariance

pytestmark = pytest.mark.filterwarnings(
    "ignore:the log-likelihood by the Laplace:ranef.errors.DataWarning"
)
REFERENCE = json.loads((Path(__file__).parent / "reference" / "tied.json").read_text())

SCALE = {"family": "gaussian", "dispersion": "~ z + (1 | p | person)"}


def diary(q: int = 40, m: int = 8, seed: int = 1) -> pd.DataFrame:
    """Persons whose mean and log standard deviation are correlated 0.5."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(q), m)
    x, z = rng.normal(size=q * m), rng.normal(size=q)[g]
    sd, r = np.array([0.9, 0.5]), 0.5
    psi = np.outer(sd, sd) * np.array([[1, r], [r, 1]])
    b = rng.normal(size=(q, 2)) @ np.linalg.cholesky(psi).T
    y = 1 + 0.5 * x + b[g, 0] + np.exp(-0.3 + 0.2 * z + b[g, 1]) * rng.normal(size=q * m)
    return pd.DataFrame({"y": y, "x": x, "z": z, "person": [f"P{i}" for i in g]})


def zeros(q: int = 60, m: int = 12, seed: int = 3) -> pd.DataFrame:
    """Counts whose mean and share of extra zeros are correlated -0.6."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(q), m)
    x = rng.normal(size=q * m)
    psi = np.array([[0.5, -0.46], [-0.46, 1.2]])
    b = rng.normal(size=(q, 2)) @ np.linalg.cholesky(psi).T
    extra = rng.random(q * m) < 1 / (1 + np.exp(0.5 - b[g, 1]))
    y = np.where(extra, 0, rng.poisson(np.exp(0.8 + 0.4 * x + b[g, 0])))
    return pd.DataFrame({"y": y, "x": x, "g": g})


@pytest.fixture(scope="module")
def scale() -> ranef.GeneralizedMixedModelFit:
    return ranef.glmm("y ~ x + (1 | p | person)", diary(), quadrature=9, **SCALE)


@pytest.fixture(scope="module")
def inflated() -> ranef.GeneralizedMixedModelFit:
    return ranef.glmm(
        "y ~ x + (1 | p | g)", zeros(), family="poisson", zero="~ 1 + (1 | p | g)", quadrature=9
    )


# --- the formula


def test_a_label_is_read():
    bar = read_formula("y ~ x + (1 + x | p | g)").bars[0]
    assert (bar.tie, bar.text, bar.groups[0].text) == ("p", "1 + x", "g")
    assert read_formula("y ~ (x | g)").bars[0].tie is None


def test_a_label_is_no_column():
    assert read_formula("y ~ . + (1 | p | g)", ["y", "x", "p", "g"]).fixed.keys == ("x", "p")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ (1 | p | q | g)", "a bar inside a bar"),
        ("y ~ (1 | 2 | g)", "is a name"),
        ("y ~ cs(x | p | g)", "unstructured"),
        ("y ~ (x || p | g)", "unstructured"),
        ("y ~ (x | p || g)", "unstructured"),
    ],
)
def test_labels_that_are_none(formula, message):
    with pytest.raises(FormulaError, match=message):
        read_formula(formula)


@pytest.mark.parametrize(
    ("formula", "dispersion", "message"),
    [
        ("y ~ x + (1 | p | person)", "~ z", "ties nothing"),
        ("y ~ x", "~ z + (1 | p | person)", "ties nothing"),
        ("y ~ x + (1 | p | person)", "~ (1 | p | other)", "one grouping factor"),
        ("y ~ (1 | p | person) + (0 + x | p | person)", "~ (1 | p | person)", "twice"),
    ],
)
def test_labels_that_cannot_tie(formula, dispersion, message):
    data = diary()
    data["other"] = data["person"].str[:2]
    with pytest.raises(ModelError, match=message):
        ranef.glmm(formula, data, family="gaussian", dispersion=dispersion)


def test_models_of_one_formula_have_no_labels():
    data = diary()
    with pytest.raises(ModelError, match="a linear model has one"):
        ranef.lmm("y ~ x + (1 | p | person)", data)
    data["y"] = np.where(data.y > 1, "a", np.where(data.y > 0, "b", "c"))
    with pytest.raises(ModelError, match="share one formula"):
        ranef.glmm("y ~ x + (1 | p | person)", data, family="multinomial")


# --- the likelihood


def brute(data: pd.DataFrame, fit: ranef.GeneralizedMixedModelFit) -> float:
    """Log-likelihood of a location-scale model by a fine grid over each person's effects."""
    u = np.linspace(-8, 8, 201)
    U = np.array(np.meshgrid(u, u, indexing="ij")).reshape(2, -1)
    logw = -0.5 * np.sum(U**2, axis=0) - np.log(2 * np.pi) + 2 * np.log(u[1] - u[0])
    b = np.linalg.cholesky(fit.estimate.covariances[0]) @ U
    beta = fit.estimate.coefficients
    mean, log_sd = beta[0] + beta[1] * data.x, beta[2] + beta[3] * data.z
    total = 0.0
    for _, rows in data.groupby("person"):
        e = (rows.y - mean[rows.index]).to_numpy()[:, None] - b[0]
        s = log_sd[rows.index].to_numpy()[:, None] + b[1]
        each = np.sum(-0.5 * np.log(2 * np.pi) - s - 0.5 * e**2 * np.exp(-2 * s), axis=0) + logw
        total += each.max() + np.log(np.sum(np.exp(each - each.max())))
    return total


def test_quadrature_is_the_integral(scale, agree):
    data = diary(q=16, m=6, seed=2)
    more = ranef.glmm("y ~ x + (1 | p | person)", data, quadrature=25, **SCALE)
    agree(
        "glmm, location and scale tied, 25 nodes",
        "log-likelihood",
        more.loglik,
        brute(data, more),
        peer="a grid over the effects",
        atol=5e-6,
    )
    assert abs(scale.loglik - brute(diary(), scale)) < 0.05


@pytest.mark.parametrize("quadrature", [1, 5])
@pytest.mark.parametrize("slopes", [False, True])
def test_gradient(quadrature, slopes):
    left = "x" if slopes else "1"
    fit = ranef.glmm(
        f"y ~ x + ({left} | p | person)", diary(q=15), quadrature=quadrature,
        undetermined="keep", **SCALE,
    )  # fmt: skip
    estimate, rng = fit.estimate, np.random.default_rng(2)
    beta = estimate.coefficients + 0.1 * rng.normal(size=4)
    size = 3 if slopes else 2
    L = np.tril(0.2 * rng.normal(size=(size, size))) + 0.6 * np.eye(size)
    theta = L.T[np.triu_indices(size)]
    found, h = joint_gradient(estimate, beta, theta), 1e-5
    for i, step in enumerate(h * np.eye(len(beta) + len(theta))):
        ends = [
            generalised_criterion(estimate, beta + s * step[:4], theta + s * step[4:])
            for s in (1, -1)
        ]
        np.testing.assert_allclose(found[i], (ends[0] - ends[1]) / (2 * h), rtol=2e-5, atol=2e-5)


def test_without_correlation_it_is_two_terms():
    data = diary(q=20)
    tied = ranef.glmm("y ~ x + (1 | p | person)", data, quadrature=5, **SCALE).estimate
    apart = ranef.glmm(
        "y ~ x + (1 | person)", data, family="gaussian", dispersion="~ z + (1 | person)",
        quadrature=5,
    ).estimate  # fmt: skip
    beta = apart.coefficients
    sds = apart.theta
    one = generalised_criterion(tied, beta, np.array([sds[0], 0.0, sds[1]]))
    np.testing.assert_allclose(one, generalised_criterion(apart, beta, sds), rtol=1e-10)


def test_units_and_origins_do_not_matter():
    """Columns are centred within their part, by that part's own intercept."""
    data = diary(q=30, m=10)
    data["w"] = data.x.abs()
    parts = {"family": "gaussian", "dispersion": "~ w + (w | p | person)"}
    fits = []
    for y, x, w in ((1, 0, 0), (1000, 50, 30)):
        moved = data.assign(y=y * data.y, x=data.x + x, w=10 * data.w + w)
        with np.errstate(all="ignore"):
            fits.append(ranef.glmm("y ~ x + (x | p | person)", moved, **parts))
    own = fits[1].loglik + len(data) * np.log(1000)
    np.testing.assert_allclose(own, fits[0].loglik, atol=2e-5)


CASES = {
    "sleepstudy_tied": ("1 | p", "~ Days + (1 | p | Subject)"),
    "sleepstudy_slopes": ("Days | p", "~ 1 + (1 | p | Subject)"),
    "sleepstudy_apart": ("1", "~ Days + (1 | Subject)"),
}


@pytest.mark.parametrize("case", CASES)
def test_laplace_is_that_of_tmb(case, agree):
    left, dispersion = CASES[case]
    fit = ranef.glmm(
        f"Reaction ~ Days + ({left} | Subject)",
        ranef.data.load("sleepstudy"), family="gaussian", dispersion=dispersion,
    )  # fmt: skip
    _check(fit, case, agree)


@pytest.mark.parametrize("case", ["salamanders", "salamanders_apart"])
def test_a_zero_part_that_is_tied(case, agree):
    label = "" if case.endswith("apart") else "p | "
    fit = ranef.glmm(
        f"count ~ mined + DOY + (1 | {label}site)", ranef.data.load("Salamanders"),
        family="poisson", zero=f"~ mined + (1 | {label}site)",
    )  # fmt: skip
    _check(fit, case, agree)


def _check(fit: ranef.GeneralizedMixedModelFit, case: str, agree) -> None:
    entry = REFERENCE[case]
    name = f"glmm, {case.replace('_', ', ')}"
    agree(name, "log-likelihood", fit.loglik, entry["loglik"], peer="TMB", atol=1e-5)
    estimate = fit.estimate
    expected = [*np.ravel(entry["beta"]), *np.ravel(entry["gamma"])]
    errors = np.array([*np.ravel(entry["beta_error"]), *np.ravel(entry["gamma_error"])])
    off = np.abs(estimate.coefficients - expected) / errors
    np.testing.assert_array_less(off, 2e-3)
    found = fit.tidy()["std_error"].to_numpy()
    np.testing.assert_allclose(found, errors, rtol=5e-3)
    psi = np.array(entry["psi"])
    if len(estimate.covariances) == 1:
        scale = np.sqrt(np.outer(np.diag(psi), np.diag(psi)))
        np.testing.assert_allclose(estimate.covariances[0] / scale, psi / scale, atol=2e-3)


def test_laplace_says_how_far_its_likelihood_is_off():
    with pytest.warns(DataWarning, match="log-likelihood by the Laplace approximation is"):
        laplace = ranef.glmm("y ~ x + (1 | p | person)", diary(), **SCALE)
    exact = ranef.glmm("y ~ x + (1 | p | person)", diary(), quadrature=11, **SCALE)
    assert exact.loglik - laplace.loglik > 0.5


# --- tables and words


def test_tables(scale):
    table = scale.tidy("variance")
    assert table["component"].tolist() == ["conditional", "dispersion", "conditional"]
    assert table["term"].tolist() == ["(Intercept)"] * 3
    assert table["term2"].tolist()[2] == "dispersion: (Intercept)"
    assert table["parameter"].tolist() == ["sd", "sd", "corr"]
    psi = scale.estimate.covariances[0]
    np.testing.assert_allclose(
        table["estimate"], [*np.sqrt(np.diag(psi)), psi[0, 1] / np.sqrt(psi[0, 0] * psi[1, 1])]
    )
    assert (table["conf_low"] < table["estimate"]).all()
    random = scale.tidy("random")
    assert random.groupby("component").size().to_dict() == {"conditional": 40, "dispersion": 40}
    assert set(random["term"]) == {"(Intercept)"}
    by_level = scale.coef_by_level("person")
    own = by_level[by_level.component == "dispersion"]["estimate"].to_numpy()
    modes = random[random.component == "dispersion"]["estimate"].to_numpy()
    np.testing.assert_allclose(own, scale.estimate.coefficients[2] + modes)
    names = [p for p in ranef.bootstrap(scale, n=2, rng=1).tidy()["parameter"]]
    assert names.count("sd") == 2
    assert names.count("corr") == 1


def test_words(scale):
    text = str(scale)
    assert "person (dispersion)" in text
    assert "(Intercept) 0." in text.split("correlation with")[1]
    estimate = scale.estimate
    assert random_term(estimate.terms[0], estimate.factors[0]) == (
        "The intercept and the intercept of the dispersion part vary between the 40 levels of "
        "person, correlated across these parts by the label p."
    )
    lines = scale.equation().text.splitlines()
    assert lines[1:] == [
        "mu[i] = b0 + b1*x[i] + u0[person[i]]",
        "log(sigma[i]) = d0 + d1*z[i] + u1[person[i]]",
        "(u0, u1) ~ Normal(0, Psi) over the levels of person",
    ]


def test_saved(scale, tmp_path):
    scale.save(tmp_path / "fit")
    again = ranef.load(tmp_path / "fit")
    assert again.loglik == scale.loglik
    pd.testing.assert_frame_equal(again.tidy("variance"), scale.tidy("variance"))
    new = pd.DataFrame({"x": [0.0, 1.0], "z": [0.0, 1.0], "person": ["P3", "nobody"]})
    for type in ("response", "dispersion"):
        np.testing.assert_array_equal(again.predict(new, type=type), scale.predict(new, type=type))


# --- predictions, draws


def test_predictions_take_each_part_its_own_effects(scale):
    new = pd.DataFrame({"x": [0.5, 0.5], "z": [0.3, 0.3], "person": ["P7", "nobody"]})
    beta, (b, s) = (
        scale.estimate.coefficients,
        scale.estimate.modes[0][list(scale.estimate.factors[0].levels).index("P7")],
    )
    mean, log_sd = beta[0] + 0.5 * beta[1], beta[2] + 0.3 * beta[3]
    np.testing.assert_allclose(scale.predict(new), [mean + b, mean])
    np.testing.assert_allclose(scale.predict(new, type="dispersion"), np.exp([log_sd + s, log_sd]))


def _population(v: np.ndarray, psi: np.ndarray, x: float) -> float:
    nodes, w = np.polynomial.hermite_e.hermegauss(70)
    U = np.array(np.meshgrid(nodes, nodes, indexing="ij")).reshape(2, -1)
    b = np.linalg.cholesky(psi) @ U
    each = np.exp(v[0] + v[1] * x + b[0]) / (1 + np.exp(v[2] + b[1]))
    return float(np.outer(w, w).ravel() @ each / w.sum() ** 2)


def test_population_means_count_the_correlation(inflated):
    estimate = inflated.estimate
    structure, V = structure_of(estimate.terms[0]), joint_covariance(estimate)
    v, h = np.concatenate([estimate.coefficients, estimate.theta]), 1e-5
    found = inflated.predict(pd.DataFrame({"x": [0.0, 1.0]}), kind="population", conf_level=0.9)
    for row, x in enumerate((0.0, 1.0)):
        mean = lambda u: _population(u[:3], structure.psi(u[3:]), x)  # noqa: B023, E731
        J = np.array([(mean(v + h * e) - mean(v - h * e)) / (2 * h) for e in np.eye(6)])
        np.testing.assert_allclose(found["estimate"][row], mean(v), rtol=1e-8)
        np.testing.assert_allclose(found["std_error"][row], np.sqrt(J @ V @ J), rtol=1e-5)
    average = inflated.average("x").tidy()
    rows = zeros()["x"].to_numpy()
    gain = (
        (np.exp(v[1]) - 1)
        * np.mean(np.exp(v[1] * rows))
        * _population(v[:3], structure.psi(v[3:]), 0.0)
    )
    np.testing.assert_allclose(average["estimate"][0], gain, rtol=1e-7)


def test_draws_are_correlated(scale):
    data = diary(q=400, m=40, seed=5)
    drawn = scale.simulate(1, new=data.assign(x=0.0, z=0.0), rng=3).to_numpy()[:, 0]
    # levels of the fit have effects too: all are drawn anew
    by = pd.Series(drawn).groupby(data.person.to_numpy())
    known = set(scale.estimate.factors[0].levels)
    fresh = [k for k in by.groups if k not in known]
    mean, log_sd = by.mean()[fresh], np.log(by.std()[fresh])
    psi = scale.estimate.covariances[0]
    expected = psi[0, 1] / np.sqrt(psi[0, 0] * psi[1, 1])
    assert abs(np.corrcoef(mean, log_sd)[0, 1] - expected) < 0.15
    assert abs(log_sd.std() - np.sqrt(psi[1, 1])) < 0.1


# --- tests between models


def test_nested_models(scale):
    apart = ranef.glmm(
        "y ~ x + (1 | person)", diary(), family="gaussian", dispersion="~ z + (1 | person)",
        quadrature=9,
    )  # fmt: skip
    table = ranef.anova(apart, scale).tidy()
    assert table["df"].to_numpy()[1] == 1
    fixed = ranef.glmm(
        "y ~ x + (1 | person)", diary(), family="gaussian", dispersion="~ z", quadrature=9
    )
    table = ranef.anova(fixed, scale).tidy()
    assert table["df"].to_numpy()[1] == 2
    tests = scale.variance_test().tidy()
    without = tests[tests["term"].str.contains("dispersion")] if "term" in tests else tests
    assert len(without) >= 1
    np.testing.assert_allclose(
        2 * (scale.loglik - fixed.loglik), np.max(table["statistic"]), rtol=1e-6
    )


@pytest.mark.study
def test_recovery():
    """Estimates of 100 diaries are around the truth by as much as their standard errors say.

    On the scale of the intervals: the logarithm, and Fisher's z. Maximum likelihood with 80
    persons is a hundredth below the truth.
    """
    truth = np.array([np.log(0.9), np.log(0.5), np.arctanh(0.5)])
    pivots = []
    for seed in range(100):
        fit = ranef.glmm(
            "y ~ x + (1 | p | person)", diary(q=80, m=15, seed=1000 + seed), quadrature=9, **SCALE
        )
        columns = ("estimate", "conf_low", "conf_high")
        scaled = [
            np.append(np.log(v[:2]), np.arctanh(v[2]))
            for v in (fit.tidy("variance")[c].to_numpy() for c in columns)
        ]
        value, low, high = scaled
        pivots.append((value - truth) / ((high - low) / (2 * 1.959964)))
    mean, spread = np.mean(pivots, axis=0), np.std(pivots, axis=0)
    np.testing.assert_array_less(np.abs(mean), 0.45)
    np.testing.assert_array_less(np.abs(spread - 1), 3 / np.sqrt(200))
