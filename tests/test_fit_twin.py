"""The dense twin checked against itself: derivatives, densities, mixed model equations."""

from __future__ import annotations

import numpy as np
import pytest
import twin


@pytest.fixture(scope="module")
def spec():
    rng = np.random.default_rng(7)
    n = 40
    g, h = rng.integers(0, 6, n), rng.integers(0, 4, n)
    x, v = rng.normal(size=n), rng.normal(size=n)
    X = np.c_[np.ones(n), x]
    y = X @ [1.0, 0.5] + rng.normal(size=6)[g] + rng.normal(size=4)[h] * x + rng.normal(size=n)
    return twin.specification(
        y,
        X,
        [twin.term(0, X), twin.term(1, np.c_[x, v], "diag")],
        [twin.factor(g, "g"), twin.factor(h, "h")],
        weights=rng.uniform(0.5, 2.0, n),
        offset=rng.normal(size=n),
    )


THETA = np.array([0.8, 0.3, 0.6, 0.5, 0.4])


@pytest.mark.parametrize("reml", [True, False])
def test_gradient_and_hessian_agree_with_differences(spec, reml):
    by_differences = twin.numerical_gradient(lambda t: twin.deviance(spec, t, reml), THETA)
    np.testing.assert_allclose(twin.gradient(spec, THETA, reml), by_differences, atol=1e-9)
    by_differences = twin.numerical_gradient(lambda t: twin.gradient(spec, t, reml), THETA)
    np.testing.assert_allclose(twin.hessian(spec, THETA, reml), by_differences, atol=1e-8)


def test_derivatives_of_the_parts(spec):
    np.testing.assert_allclose(
        twin.vcov_derivatives(spec, THETA),
        twin.numerical_gradient(lambda t: twin.profile(spec, t).C, THETA),
        atol=1e-10,
    )
    np.testing.assert_allclose(
        twin.r2_derivatives(spec, THETA),
        twin.numerical_gradient(lambda t: np.log(twin.profile(spec, t).r2), THETA),
        atol=1e-10,
    )


def test_ml_deviance_is_minus_twice_the_gaussian_density(spec):
    at = twin.profile(spec, THETA, reml=False)
    density = twin.gaussian_loglik(spec, at.beta, THETA, at.sigma)
    assert at.loglik == pytest.approx(density, abs=1e-9)


def test_reml_deviance_is_the_density_of_error_contrasts(spec):
    from scipy.linalg import null_space
    from scipy.stats import multivariate_normal

    K = null_space(spec.X.T)
    at = twin.profile(spec, THETA, reml=True)
    V = at.sigma**2 * twin.covariance(spec, THETA)
    contrasts = multivariate_normal.logpdf(K.T @ twin.response(spec), None, K.T @ V @ K)
    det = np.linalg.slogdet(spec.X.T @ spec.X)[1]
    assert at.loglik == pytest.approx(contrasts - det / 2, abs=1e-9)


def test_modes_and_their_covariances_solve_hendersons_equations(spec):
    at = twin.profile(spec, THETA)
    w = np.diag(spec.weights)
    Z, psi = twin.stacked_z(spec), twin.stacked_psi(spec, THETA)
    T = np.hstack([spec.X, Z])
    left = T.T @ w @ T
    left[spec.p :, spec.p :] += np.linalg.inv(psi)
    inverse = np.linalg.inv(left)
    solution = inverse @ T.T @ w @ twin.response(spec)
    np.testing.assert_allclose(solution[: spec.p], at.beta, rtol=1e-9)
    stacked = np.concatenate([b.ravel() for b in twin.modes(spec, THETA)])
    np.testing.assert_allclose(solution[spec.p :], stacked, rtol=1e-9, atol=1e-12)

    error = at.sigma**2 * inverse
    given, prediction = twin.conditional_covariances(spec, THETA)[0]
    np.testing.assert_allclose(prediction[1], error[4:6, 4:6], rtol=1e-9)
    inner = at.sigma**2 * np.linalg.inv(left[spec.p :, spec.p :])
    np.testing.assert_allclose(given[1], inner[2:4, 2:4], rtol=1e-9)

    g, h = spec.factors
    X = spec.X[:5]
    random = [(g.codes[:5], spec.terms[0].z[:5]), (h.codes[:5], spec.terms[1].z[:5])]
    t = np.hstack([X, Z[:5]])
    np.testing.assert_allclose(
        twin.prediction_variance(spec, THETA, X, random),
        np.einsum("ni,ij,nj->n", t, error, t),
        rtol=1e-9,
    )


def test_the_optimum_is_stationary_and_canonical(spec):
    theta, value = twin.optimum(spec, starts=4)
    assert np.abs(twin.gradient(spec, theta)).max() < 1e-4
    assert value <= twin.deviance(spec, twin.start(spec))
    assert (theta[[0, 2, 3, 4]] >= 0).all()
