"""Products of residual structures: each factor is a covariance, whatever the rows at hand show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import ranef

N, M = 40, 5
UNSTRUCTURED = "us(item | g) * ar1(t | g)"


def series(seed: int, item: tuple[int, ...] = (0, 1, 0, 1, 0)) -> dict[str, np.ndarray]:
    """Rows of which two items never meet at one time."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(N, M))
    for j in range(1, M):
        e[:, j] = 0.6 * e[:, j - 1] + 0.8 * e[:, j]
    y = (e * np.linspace(1, 1.5, M) + 0.3 * rng.normal(size=(N, M))).ravel()
    return {
        "g": np.repeat(np.arange(N), M), "t": np.tile(np.arange(M), N),
        "x": rng.normal(size=N * M), "y": y, "item": np.tile(item, N),
    }  # fmt: skip


def dense(data: dict[str, np.ndarray], A: np.ndarray, phi: float) -> float:
    """Minus twice the restricted log-likelihood at a factor A of the items, sigma profiled out."""
    item, t = data["item"][:M], np.arange(M)
    R = A[np.ix_(item, item)] * phi ** np.abs(t[:, None] - t)
    inverse = np.linalg.inv(R)
    y = data["y"].reshape(N, M)
    X = np.stack([np.ones((N, M)), data["x"].reshape(N, M)], axis=2)
    XX = np.einsum("gia,ij,gjb->ab", X, inverse, X)
    rest = y - X @ np.linalg.solve(XX, np.einsum("gia,ij,gj->a", X, inverse, y))
    m = N * M - 2
    r2 = np.einsum("gi,ij,gj->", rest, inverse, rest)
    logdets = N * np.linalg.slogdet(R)[1] + np.linalg.slogdet(XX)[1]
    return logdets + m * (1 + np.log(2 * np.pi * r2 / m))


def by_factor(parameters: np.ndarray) -> tuple[np.ndarray, float]:
    """A = L L' of two items, its first variance one, and phi."""
    L = np.array([[1.0, 0.0], parameters[:2]])
    return L @ L.T, float(np.tanh(parameters[2]))


@pytest.mark.parametrize("seed", [1, 5, 7])
def test_a_correlation_of_items_that_never_meet_is_at_most_one(seed):
    """It was 1.86, 1.05 and 1.11; the optimum among covariances by brute force over their roots."""
    data = series(seed)
    fit = ranef.lmm("y ~ x", data, residual=UNSTRUCTURED)
    rows = fit.tidy("variance").set_index("parameter")
    assert 0.999 < rows["estimate"]["corr"] <= 1.0
    assert np.isnan(rows["conf_low"]["corr"])
    starts = ([0.5, 0.8, 0.5], [0.9, 0.1, 0.2], [1.0, 0.01, 0.5])
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    best = min(
        minimize(lambda p: dense(data, *by_factor(p)), start, method="Nelder-Mead",
                 options=options).fun
        for start in starts
    )  # fmt: skip
    assert fit.loglik == pytest.approx(-best / 2, abs=1e-6)
    assert fit.optimum.converged
    assert "a factor of us(item | g) * ar1(t | g) is singular" in fit.optimum.ends[0]


def test_inside_nothing_changes():
    data = series(2)
    fit = ranef.lmm("y ~ x", data, residual=UNSTRUCTURED)
    assert fit.optimum.ends == ()
    covariance, variance, phi = fit.theta
    A = np.array([[1.0, covariance], [covariance, variance]])
    assert fit.deviance == pytest.approx(dense(data, A, phi), abs=1e-8)


@pytest.mark.parametrize(
    ("residual", "seed"),
    [
        (UNSTRUCTURED, 1), (UNSTRUCTURED, 2), ("homtoep(item | g) * ar1(t | g)", 1),
        ("homcs(item | g) * ar1(t | g)", 1), ("cs(item | g) * exp(t | g, nugget=True)", 1),
    ],
)  # fmt: skip
def test_every_factor_of_three_items_is_a_covariance(residual, seed):
    """No neighbour of the end is both a covariance and likelier."""
    data = series(seed, (0, 1, 2, 1, 0))
    fit = ranef.lmm("y ~ x", data, residual=residual)
    assert fit.optimum.converged
    assert any("a factor of" in end for end in fit.optimum.ends)
    spec, rng = fit.estimate.specification, np.random.default_rng(seed)
    from ranef.solve.structured.problem import structured_problem

    problem = structured_problem(spec)
    (part, cut), *_ = problem.rows.factors
    inside = 0
    for scale in (1e-4, 1e-3, 1e-2, 0.1):
        for _ in range(100):
            theta = fit.theta + scale * rng.normal(size=len(fit.theta))
            at = problem.point(theta, True, 0)
            if at is None:
                continue
            inside += 1
            A = part.at(theta[cut], np.arange(3)[None]).value[0]
            assert np.linalg.eigvalsh(A)[0] > 0
            assert at.criterion > fit.deviance - 1e-4
    assert inside > 20


def test_tests_beside_a_singular_factor():
    """Curvature across the boundary is infinite: the model of one latent item has the same df."""
    data = series(7)
    fit = ranef.lmm("y ~ x", data, residual=UNSTRUCTURED)
    one = ranef.lmm("y ~ x", data, residual="ar1(t | g)", dispersion="~ factor(item)")
    for df in ("satterthwaite", "kenward-roger"):
        found, expected = fit.tidy(df=df), one.tidy(df=df)
        np.testing.assert_allclose(found["std_error"], expected["std_error"], rtol=5e-4)
        np.testing.assert_allclose(found["df"], expected["df"], rtol=1e-3)
    assert fit.loglik == pytest.approx(one.loglik, abs=1e-6)


def test_a_loaded_fit_is_the_same(tmp_path):
    fit = ranef.lmm("y ~ x", series(5), residual=UNSTRUCTURED)
    fit.save(tmp_path / "fit.ranef")
    loaded = ranef.load(tmp_path / "fit.ranef")
    for df in ("satterthwaite", "kenward-roger"):
        np.testing.assert_array_equal(fit.tidy(df=df)["df"], loaded.tidy(df=df)["df"])
