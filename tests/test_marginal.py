"""Population-averaged coefficients: published values, closed forms, differences, draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_inference_generalised import differences, fit, joint_point, moved

import ranef
from ranef import families
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.rows import generalised_prediction, parts
from ranef.models.generalised import fit_glmm
from ranef.models.rows import Rows
from ranef.questions.averages import marginal_numbers


@pytest.fixture(scope="module")
def ohio():
    data = ranef.data.load("ohio")
    spec = specify("resp ~ age * smoke + (1 | id)", data)
    return fit_glmm({"conditional": spec}, families.Binomial(), quadrature=25)


def test_ohio_is_hedekers_projection(agree, ohio):
    """R, 101 nodes at the fit by 25 nodes: -.14156, .30043, .07101.

    GLMMadaptive 0.9-7 has -.14175, .30108, .07114 by 3,000 draws, and the standard
    errors .1167, .0595, .1836, .0865 by 100 replicates, which are good to 7%.
    """
    found = marginal_numbers.marginal(ohio)
    assert found.names == ("(Intercept)", "age", "smoke", "age:smoke")
    agree("ranef.marginal", "population-averaged coefficients, ohio", found.estimate[1:],
          [-0.14156, 0.30043, 0.07101], peer="Hedeker (2018), 101 nodes in R",
          atol=1e-5)  # fmt: skip
    errors = found.intervals.std_error
    agree("ranef.marginal", "standard errors (theirs by 100 replicates), ohio", errors,
          [0.1167, 0.0595, 0.1836, 0.0865], peer="GLMMadaptive 0.9-7", rtol=0.15)  # fmt: skip
    np.testing.assert_allclose(found.attenuation, found.estimate / ohio.beta)
    assert np.all((found.attenuation > 0.59) & (found.attenuation < 0.69))


MODELS = ["slopes", "trials", "probit", "hurdle", "ordinal", "multinomial", "gamma"]


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_are_exact(name):
    estimate = fit(name)
    found = marginal_numbers.marginal(estimate)

    def coefficients(x):
        return marginal_numbers.marginal(moved(estimate, x)).estimate

    J = differences(coefficients, joint_point(estimate))
    np.testing.assert_allclose(found.jacobian, J, atol=1e-7)
    np.testing.assert_allclose(found.vcov, J @ joint_covariance(estimate) @ J.T, rtol=1e-5)


def test_the_zero_part_is_averaged_as_well():
    estimate = fit("hurdle")
    found = marginal_numbers.marginal(estimate, component="zero")
    own = estimate.components[-1]
    assert own.name == "zero"
    np.testing.assert_array_equal(found.conditional, estimate.coefficients[own.coefficients])
    J = differences(
        lambda x: marginal_numbers.marginal(moved(estimate, x), component="zero").estimate,
        joint_point(estimate),
    )
    np.testing.assert_allclose(found.jacobian, J, atol=1e-7)
    assert np.all(np.abs(found.estimate) < np.abs(found.conditional))


def test_probit_is_divided_by_a_root(agree):
    """Phi(eta) over N(eta, v) is Phi(eta / sqrt(1 + v)), exactly (Zeger, Liang & Albert 1988)."""
    estimate = fit("probit")
    found = marginal_numbers.marginal(estimate)
    v = estimate.covariances[0][0, 0]
    agree("ranef.marginal", "coefficients of a probit model", found.estimate,
          estimate.beta / np.sqrt(1 + v), peer="Zeger, Liang & Albert (1988)",
          rtol=1e-10)  # fmt: skip
    assert found.lack_of_fit < 1e-10


def test_the_log_link_moves_the_intercept_only(agree):
    estimate = fit("gamma")
    found = marginal_numbers.marginal(estimate)
    v = estimate.covariances[0][0, 0]
    agree("ranef.marginal", "coefficients of a gamma model with log link", found.estimate,
          estimate.beta + np.array([v / 2, 0.0]), peer="closed form", rtol=1e-10)  # fmt: skip


def test_random_slopes_of_a_log_link_bend_the_mean():
    """eta + z' Psi z / 2 is quadratic in x: least squares by hand."""
    estimate = fit("slopes")
    spec, psi = estimate.specification, estimate.covariances[0]
    z = spec.terms[0].z
    target = spec.X @ estimate.beta + 0.5 * np.einsum("ni,ij,nj->n", z, psi, z)
    expected = np.linalg.lstsq(spec.X, target, rcond=None)[0]
    found = marginal_numbers.marginal(estimate)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-9)
    assert found.lack_of_fit == pytest.approx(np.abs(target - spec.X @ expected).max())


def test_an_offset_stays_what_it_is():
    """With an exposure twice as large the coefficients of a rate stay."""
    estimate = fit("slopes")
    spec = estimate.specification
    shifted = replace(spec, offset=np.full(spec.n, np.log(2.0)), y=spec.y)
    doubled = fit_glmm({"conditional": shifted}, families.Poisson())
    plain, moved_one = marginal_numbers.marginal(estimate), marginal_numbers.marginal(doubled)
    np.testing.assert_allclose(
        moved_one.estimate, plain.estimate - np.array([np.log(2.0), 0.0]), rtol=1e-5
    )


def test_ordered_categories_by_draws():
    """P(y <= j) at 400,000 draws of the random effect, projected; the noise bounds the gap."""
    estimate = fit("ordinal")
    found = marginal_numbers.marginal(estimate)
    assert found.names == ("x", "1|2", "2|3", "3|4")
    sd = np.sqrt(estimate.covariances[0][0, 0])
    b = sd * np.random.default_rng(1).normal(size=200_000)
    b = np.concatenate([b, -b])
    x = estimate.specification.X[:, estimate.specification.names.index("x")]
    cuts = estimate.coefficients[1:]
    which = np.arange(0, len(x), 12)
    X, target = [], []
    for i in range(len(x)):
        if i not in which:
            continue
        eta = x[i] * estimate.coefficients[0] + b
        for j, cut in enumerate(cuts):
            p = np.mean(1 / (1 + np.exp(eta - cut)))
            target.append(np.log(p / (1 - p)))
            X.append([-x[i], *np.eye(3)[j]])
    few = [replace_rows(estimate, which)]
    expected = np.linalg.lstsq(np.array(X), np.array(target), rcond=None)[0]
    for one in few:
        np.testing.assert_allclose(marginal_numbers.marginal(one).estimate, expected, atol=5e-3)


def replace_rows(estimate, which):
    """The estimate with some of its rows only, for questions that read no more than X and z."""
    spec = estimate.specification
    terms = tuple(replace(t, z=t.z[which]) for t in spec.terms)
    factors = tuple(replace(f, codes=f.codes[which]) for f in spec.factors)
    few = replace(spec, X=spec.X[which], terms=terms, factors=factors)
    return replace(estimate, parts={"conditional": few})


def test_contrasts_of_marginal_coefficients(ohio):
    found = marginal_numbers.marginal(ohio)
    L = np.array([[0.0, 1.0, 0.0, 1.0]])
    answer = marginal_numbers.marginal_intervals(found, L, 0.9)
    assert answer.estimate[0] == pytest.approx(found.estimate[1] + found.estimate[3])
    assert answer.std_error[0] == pytest.approx(np.sqrt(L[0] @ found.vcov @ L[0]))
    with pytest.raises(ModelError, match="there are 4"):
        marginal_numbers.marginal_intervals(found, np.ones((1, 3)))


def test_average_effect_of_smoking(agree, ohio):
    """Risk difference over the population: .034072 (R, integrated over the random effects)."""
    own = Rows.of(ohio.parts, ohio.extra)
    spec = ohio.specification
    age, smoke = (spec.X[:, spec.names.index(name)] for name in ("age", "smoke"))
    n = len(smoke)
    X = np.vstack([np.column_stack([np.ones(n), age, s * np.ones(n), s * age]) for s in (1, 0)])
    codes, z = own.parts["conditional"].random[0]
    rows = parts.Rows(
        {
            "conditional": replace(
                own.parts["conditional"],
                X=X,
                random=[(np.tile(codes, 2), np.tile(z, (2, 1)))],
            )
        }
    )
    C = np.concatenate([np.ones(n), -np.ones(n)])[None] / n
    found = generalised_prediction.contrasts(ohio, rows, C)
    agree("marginal().contrasts", "risk difference of smoke, ohio", found.estimate[0], 0.034072,
          peer="lme4 1.1-31, 101 nodes", atol=2e-6)  # fmt: skip


def test_unknown_component(ohio):
    with pytest.raises(ModelError, match="no component 'zeros'"):
        marginal_numbers.marginal(ohio, component="zeros")
