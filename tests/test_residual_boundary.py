"""Optima where the covariance of residuals is singular beside random effects, by dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz
from test_study_residuals import random_problem

import ranef


def lags(theta, size):
    """R (size, size) of homtoep."""
    return toeplitz(np.append(1.0, theta))


def lags_with_sizes(theta, size):
    """R (size, size) of toep: log standard deviations, then correlations."""
    sd = np.exp(np.append(0.0, theta[: size - 1]))
    return toeplitz(np.append(1.0, theta[size - 1 :])) * np.outer(sd, sd)


def neighbours(theta, size):
    """R (size, size) of hetar1."""
    sd = np.exp(np.append(0.0, theta[:-1]))
    return theta[-1] ** np.abs(np.subtract.outer(range(size), range(size))) * np.outer(sd, sd)


def dense(table, psi, R, reml):
    """Minus twice the profiled log-likelihood with V made row by row; inf where R is not one."""
    if np.linalg.eigvalsh(R)[0] < 0:
        return np.inf
    X = np.column_stack([np.ones(len(table["x"])), table["x"]])
    V = R[np.ix_(table["t"], table["t"])] + X[:, : len(psi)] @ psi @ X[:, : len(psi)].T
    V = np.where(table["g"][:, None] == table["g"], V, 0.0)
    inverse = np.linalg.inv(V)
    XX = X.T @ inverse @ X
    rest = table["y"] - X @ np.linalg.solve(XX, X.T @ inverse @ table["y"])
    m = len(rest) - 2 if reml else len(rest)
    out = np.linalg.slogdet(V)[1] + m * (1 + np.log(2 * np.pi * (rest @ inverse @ rest) / m))
    return out + (np.linalg.slogdet(XX)[1] if reml else 0.0)


def effects(theta, q):
    """Psi (q, q) of the entries of its factor."""
    L = np.zeros((q, q))
    L[np.triu_indices(q)[1], np.triu_indices(q)[0]] = theta
    return L @ L.T


@pytest.mark.parametrize(
    ("seed", "matrix"),
    [(36, lags), (35, lags_with_sizes), (109, neighbours)],
)
def test_singular_residuals_beside_effects_are_proved_and_not_beaten(seed, matrix):
    """No covariance nearby is likelier, R on the boundary or not."""
    formula, residual, table, rng = random_problem(seed)
    reml = bool(seed % 2)
    fit = ranef.lmm(formula, table, residual=residual, reml=reml)
    assert fit.optimum.converged
    assert any("singular beside the random effects" in end for end in fit.optimum.ends)
    assert fit.optimum.agreeing >= 2
    q = len(fit.estimate.covariances[0])
    f, size = q * (q + 1) // 2, int(table["t"].max()) + 1

    def at(theta):
        return dense(table, effects(theta[:f], q), matrix(theta[f:], size), reml)

    assert at(fit.theta) == pytest.approx(fit.deviance, abs=2e-4)
    least, inside = np.inf, 0
    for scale in (1e-3, 1e-2, 0.1, 0.5):
        for _ in range(100):
            trial = fit.theta + scale * rng.normal(size=len(fit.theta))
            found = at(trial)
            inside += np.isfinite(found)
            least = min(least, found)
    assert inside > 40
    assert least > fit.deviance - 1e-3


@pytest.mark.parametrize("seed", [30, 645])
def test_a_likelihood_without_a_bound_beside_effects_is_refused(seed):
    """V itself becomes singular: the likelihood rises without end."""
    formula, residual, table, _ = random_problem(seed)
    with pytest.raises(ranef.errors.ModelError, match="unbounded"):
        ranef.lmm(formula, table, residual=residual, reml=bool(seed % 2))


@pytest.mark.parametrize("seed", [155, 109])
def test_tests_and_intervals_beside_singular_residuals(seed):
    """Curvature across the boundary is infinite, along it that of the likelihood."""
    formula, residual, table, _ = random_problem(seed)
    fit = ranef.lmm(formula, table, residual=residual, reml=True)
    for df in ("satterthwaite", "kenward-roger"):
        rows = fit.tidy(df=df)
        assert np.all(rows["std_error"] > 0)
        assert np.all((rows["df"] > 1) & (rows["df"] < len(table["y"])))
        plain = fit.tidy(df="normal")["std_error"]
        assert np.all((rows["std_error"] > 0.999 * plain) & (rows["std_error"] < 1.35 * plain))


def test_a_loaded_fit_beside_singular_residuals_is_the_same(tmp_path):
    """Its degrees of freedom had the barrier's curvature twice, once after loading."""
    formula, residual, table, _ = random_problem(155)
    fit = ranef.lmm(formula, table, residual=residual, reml=True)
    fit.save(tmp_path / "fit.ranef")
    loaded = ranef.load(tmp_path / "fit.ranef")
    for df in ("satterthwaite", "kenward-roger"):
        np.testing.assert_array_equal(fit.tidy(df=df)["df"], loaded.tidy(df=df)["df"])
    np.testing.assert_array_equal(
        fit.tidy("variance")["conf_low"], loaded.tidy("variance")["conf_low"]
    )


def test_kenward_roger_beside_singular_residuals():
    """By dense V of all rows with differences of it, curvature across the boundary added."""
    formula, residual, table, _ = random_problem(155)
    fit = ranef.lmm(formula, table, residual=residual, reml=True)
    rows = fit.tidy(df="kenward-roger")
    assert np.allclose(rows["std_error"], [0.13107, 0.08768], rtol=5e-4)


@pytest.mark.parametrize(
    ("seed", "deviance"),
    [
        (278, 230.7086), (366, 65.1271), (503, 187.2892), (170, 424.5513), (530, 246.5851),
        (376, 235.8376),
    ],
)  # fmt: skip
def test_correlations_of_either_sign_have_several_optima(seed, deviance):
    """The lowest found from 600 problems' random starts; 376 is next to a singular covariance."""
    formula, residual, table, _ = random_problem(seed)
    fit = ranef.lmm(formula, table, residual=residual, reml=bool(seed % 2))
    assert fit.optimum.converged
    assert fit.deviance < deviance + 2e-4


def test_a_moving_average_at_the_unit_circle_is_an_optimum():
    """Its derivative is zero there, and 1 / theta has the same correlations as theta."""
    formula, residual, table, _ = random_problem(39)
    fit = ranef.lmm(formula, table, residual=residual, reml=True)
    assert fit.optimum.converged
    assert fit.theta[-1] == pytest.approx(-1.0, abs=1e-4)
    assert fit.deviance < 442.79743
    inside = fit.estimate.specification.residual
    from ranef.solve.structured.rows import row_covariance

    part = row_covariance(inside).correlations[0][0]
    there = np.arange(6)[None]
    for theta in (-3.0, 0.4, 1.7):
        other = part.canonical(np.array([0.6, theta]))
        assert abs(other[1]) <= 1.0
        assert part.at(other, there).value == pytest.approx(
            part.at(np.array([0.6, theta]), there).value, abs=1e-12
        )


def test_a_long_range_beside_a_nugget_is_looked_for_without_random_effects():
    """Half of the variance shared by all rows of a group is likelier here than a short range."""
    formula, residual, table, _ = random_problem(464)
    fit = ranef.lmm(formula, table, residual=residual, reml=False)
    assert fit.optimum.converged
    assert fit.deviance < 176.8133
