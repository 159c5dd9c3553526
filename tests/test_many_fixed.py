"""Many fixed effects, of categories without their zeros; many variance parameters."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ranef
from ranef import _core
from ranef.design import matrix, rank, specify
from ranef.design.specification import Specification
from ranef.models.linear import fit_lmm

N, LEVELS, GROUPS = 3000, 130, 60


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(11)
    c = np.concatenate([np.arange(LEVELS), rng.integers(LEVELS, size=N - LEVELS)])
    g, h, x = rng.integers(GROUPS, size=N), rng.integers(7, size=N), rng.normal(size=N)
    k = np.array(list("abc"))[rng.integers(3, size=N)]
    y = 0.3 * rng.normal(size=LEVELS)[c] + rng.normal(size=GROUPS)[g] + 0.4 * x
    c = np.array([f"c{v:03d}" for v in c])
    return {"y": y + rng.normal(size=N), "c": c, "k": k, "x": x, "g": g, "h": h, "w": 0.5 + x**2}


FORMULAS = [
    "y ~ x + c + (1 | g)", "y ~ 0 + c + k + (1 | g)", "y ~ k * x + c + (x | g)",
    "y ~ c + x:k + C(k, contr.sum) + (1 | g)", "y ~ x:c + k + (1 | g) + (1 | h)",
]  # fmt: skip


def whole(spec):
    """The same specification with the dense matrix."""
    return Specification(
        **{name: getattr(spec, name) for name in Specification.__dataclass_fields__}
    )


@pytest.mark.parametrize("formula", FORMULAS)
def test_rows_without_zeros_are_the_dense_matrix(table, formula, monkeypatch):
    spec = specify(formula, table)
    assert spec.compressed is not None
    monkeypatch.setattr(matrix, "LEAST_COMPRESSED", 10**9)
    dense = specify(formula, table)
    assert dense.compressed is None
    assert_array_equal(spec.X, dense.X)
    assert spec.names == dense.names


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_fits_agree_with_those_of_the_dense_matrix(table, formula, weights):
    spec = specify(formula, table, weights=weights)
    sparse, dense = fit_lmm(spec), fit_lmm(whole(spec))
    assert_allclose(sparse.loglik, dense.loglik, rtol=1e-12)
    assert_allclose(sparse.theta, dense.theta, rtol=1e-6, atol=1e-9)
    assert_allclose(sparse.coefficients, dense.coefficients, rtol=1e-7, atol=1e-9)
    assert_allclose(sparse.coefficient_vcov, dense.coefficient_vcov, rtol=1e-7, atol=1e-10)


def test_the_whole_matrix_is_made_only_when_it_is_asked_for(table):
    fit = ranef.lmm(FORMULAS[0], table)
    fit.summary()
    fit.residuals()
    spec = fit.estimate.specification
    again = fit.refit(table["y"] + 1)
    for s in (spec, again.estimate.specification):
        assert "X" not in vars(s)
    assert spec.X.shape == (N, LEVELS + 1)
    shifted = again.estimate.coefficients - fit.estimate.coefficients
    assert_allclose(shifted, np.eye(1, LEVELS + 1)[0], atol=1e-9)


def test_a_redundant_column_is_left_out(table):
    twice = {**table, "d": table["c"]}
    with pytest.warns(ranef.errors.RankWarning, match="redundant"):
        fit = ranef.lmm("y ~ x + c + d + (1 | g)", twice)
    assert fit.estimate.specification.compressed is not None
    assert_allclose(fit.loglik, ranef.lmm(FORMULAS[0], table).loglik, rtol=1e-12)


def test_what_memory_cannot_hold_whole_is_fitted_and_then_refused(table, monkeypatch):
    monkeypatch.setattr(matrix, "_memory", lambda: 16.0 * N * LEVELS - 1)
    fit = ranef.lmm(FORMULAS[0], table)
    assert np.isfinite(fit.loglik)
    with pytest.raises(ranef.errors.ModelError, match="needs whole"):
        fit.estimate.specification.X  # noqa: B018
    with pytest.raises(ranef.errors.ModelError, match="doubt"):
        rank.whole(fit.estimate.specification.compressed, "a matrix in doubt")


@pytest.mark.parametrize("categories", [False, True])
def test_products_of_many_columns_agree_with_few(categories):
    """The criterion by BLAS or without zeros, and by plain loops in blocks of columns."""
    rng = np.random.default_rng(3)
    n, q = 900, 40
    codes = rng.integers(q, size=n).astype(np.int32)
    X = rng.normal(size=(n, 120))
    if categories:
        X *= rng.random((n, 120)) < 0.01
        X += 1e-3 * np.eye(n, 120)
    y = rng.normal(size=n)
    z = np.ones((n, 1))
    H = np.eye(n) + 0.49 * (codes[:, None] == codes)
    Hi = np.linalg.inv(H)
    C = np.linalg.inv(X.T @ Hi @ X)
    P = Hi - Hi @ X @ C @ X.T @ Hi
    term = {"structure": "us", "size": 1, "rank": 0, "positions": np.empty((1, 0))}
    factor = {"codes": codes, "z": z, "levels": q, "terms": [term]}
    from ranef.solve.resources import use_lapack

    use_lapack()
    problem = _core.Problem([factor], X, np.ones(120), X.T @ X, None, [0], 2)
    state = problem.state(y, True, np.array([0.7]), True)
    rss, m = y @ P @ y, n - 120
    assert_allclose(state["rss"], rss, rtol=1e-9)
    assert_allclose(state["fixed_covariance"], C, rtol=1e-6, atol=1e-9 * np.abs(C).max())
    Z = (codes[:, None] == np.arange(q)).astype(float)
    s = Z.T @ P @ y
    gradient = np.trace(Z.T @ P @ Z) - m / rss * s @ s
    assert_allclose(state["gradient"], [2 * 0.7 * gradient], rtol=1e-6)
    assert 0.0 < problem.moment_start(problem.respond(y[None], None)[0][0])[0] < 31


def test_information_of_many_parameters_agrees_with_differences():
    """Average information of us with nine columns: 45 parameters, by sums over the levels."""
    rng = np.random.default_rng(8)
    q, m, r = 80, 12, 9
    n = q * m
    g = np.repeat(np.arange(q), m)
    Z = np.column_stack([np.ones(n), rng.normal(size=(n, r - 1))])
    y = (Z * rng.normal(size=(q, r))[g]).sum(1) + rng.normal(size=n)
    table = {f"x{j}": Z[:, j] for j in range(1, r)} | {"y": y, "g": g}
    left = " + ".join(f"x{j}" for j in range(1, r))
    fit = ranef.lmm(f"y ~ x1 + ({left} | g)", table, reml=False)
    assert fit.optimum.converged
    assert fit.optimum.evaluations < 15
    term = {"structure": "us", "size": r, "rank": 0, "positions": np.empty((r, 0))}
    factor = {"codes": g.astype(np.int32), "z": Z, "levels": q, "terms": [term]}
    X = Z[:, :2].copy()
    core = _core.Problem([factor], X, np.ones(2), X.T @ X, None, [0], 2)
    phi = core.start() + 0.1 * rng.normal(size=core.parameters)
    state = core.state(y, False, phi, True)
    # (m / r2) w_i'P w_j - (m / r2^2) t_i t_j + <G, d2Psi_ij>, by the plain matrices
    structure = _core.Structure("us", r)
    basis = core.basis(0, 0)
    B = Z @ basis
    L, D = structure.factor(phi), [structure.derivative(phi, i) for i in range(core.parameters)]
    H = np.eye(n)
    for level in range(q):
        rows = g == level
        H[np.ix_(rows, rows)] += B[rows] @ L @ L.T @ B[rows].T
    Hi = np.linalg.inv(H)
    P = Hi - Hi @ X @ np.linalg.solve(X.T @ Hi @ X, X.T @ Hi)
    u = P @ y
    rss = y @ u
    S = np.array([B[g == level].T @ u[g == level] for level in range(q)])
    W = np.stack([(B * (S @ d)[g]).sum(1) for d in D], axis=1)
    G = -n / rss * S.T @ S
    for level in range(q):
        rows = g == level
        G += B[rows].T @ Hi[np.ix_(rows, rows)] @ B[rows]
    second = [[(G * structure.second(phi, i, j)).sum() for j in range(len(D))]
              for i in range(len(D))]  # fmt: skip
    t = W.T @ u
    hessian = n / rss * W.T @ P @ W - n / rss**2 * np.outer(t, t) + second
    assert_allclose(state["hessian"], hessian, rtol=1e-6, atol=1e-8 * np.abs(hessian).max())
