"""The iterative path: against dense matrices, and within its own errors of the exact paths."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ranef
from ranef import _core
from ranef.derivatives.second_order import curvature
from ranef.errors import ModelError
from ranef.solve import assembly, iterative

rng = np.random.default_rng(77)
N, A, B = 6000, 700, 300
G, H = rng.integers(A, size=N), rng.integers(B, size=N)
X = rng.normal(size=N)
TABLE = pd.DataFrame({
    "y": 1 + 0.5 * X + 0.8 * rng.normal(size=A)[G] + (0.5 + 0.3 * X) * rng.normal(size=B)[H]
    + rng.normal(size=N), "x": X, "g": G, "h": H, "n": G // 7, "w": 0.5 + rng.random(N),
    "k": rng.integers(40, size=N),
})  # fmt: skip
MODELS = {
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {}),
    "ML": ("y ~ x + (1 | g) + (1 | h)", {"reml": False}),
    "nested and crossed": ("y ~ x + (1 | n / g) + (1 | h) + (1 | k)", {}),
    "slopes": ("y ~ x + (1 | g) + (x || h)", {}),
    "weights and offset": ("y ~ x + (1 | g) + (1 | h)", {"weights": "w", "offset": "x"}),
    "no fixed effects": ("y ~ 0 + (1 | g) + (1 | h)", {}),
}


@pytest.fixture(scope="module", params=[2, 3])
def system(request):
    """A system of two terms or three, and its dense A = Z'WZ."""
    count, n = request.param, 500
    draw = np.random.default_rng(count)
    levels = [60, 25, 9][:count]
    codes = [draw.integers(q, size=n).astype(np.int32) for q in levels]
    z = [None, *(draw.normal(size=n) for _ in levels[1:])]
    w = 0.5 + draw.random(n)
    core = _core.CrossedSystem(codes, levels, z, w, 2)
    Z = np.hstack([
        (c[:, None] == np.arange(q)) * (1.0 if v is None else v[:, None])
        for c, q, v in zip(codes, levels, z, strict=True)
    ])  # fmt: skip
    theta = np.array([0.9, 0.6, 0.4])[:count]
    return core, Z.T @ (w[:, None] * Z), levels, theta


def test_products_and_solves_are_the_dense_ones(system):
    core, dense, levels, theta = system
    X = rng.normal(size=(sum(levels), 3))
    assert_allclose(core.times(X), dense @ X, rtol=1e-12, atol=1e-10)
    root = np.repeat(theta, levels)
    omega = root[:, None] * dense * root + np.eye(len(root))
    found, steps, residual = core.solve(theta, X, 1e-12, 500)
    assert_allclose(found, np.linalg.solve(omega, X), rtol=1e-8, atol=1e-9)
    assert residual < 1e-11
    assert steps <= sum(levels[1:])


def test_each_probe_has_its_own_logarithm_and_traces(system):
    core, dense, levels, theta = system
    root, q = np.repeat(theta, levels), levels[0]
    omega = root[:, None] * dense * root + np.eye(len(root))
    D, C = np.diag(omega)[:q], omega[:q, q:]
    S = omega[q:, q:] - C.T @ (C / D[:, None])
    P = np.diag(S)
    scaled = S / np.sqrt(np.outer(P, P))
    Z = rng.choice([-1.0, 1.0], size=(len(P), 5))
    log_diagonal, traces, alpha, beta, taken = core.probes(theta, Z, 1e-10, 500)
    logs = log_diagonal + iterative._quadrature(alpha, beta, taken, len(P))
    values, vectors = np.linalg.eigh(scaled)
    exact = np.log(D).sum() + np.log(P).sum() + np.log(values) @ (vectors.T @ Z) ** 2
    assert_allclose(logs, exact, rtol=1e-9)
    solved = np.linalg.solve(scaled, Z)
    inner = C / D[:, None] / np.sqrt(P)
    for c in range(5):
        first = (1 / D).sum() + (inner @ Z[:, c]) @ (inner @ solved[:, c])
        tail = np.split(Z[:, c] * solved[:, c] / P, np.cumsum(levels[1:])[:-1])
        assert_allclose(traces[c], [first, *(part.sum() for part in tail)], rtol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_fits_agree_with_the_exact_paths_within_their_own_errors(name):
    formula, how = MODELS[name]
    exact = ranef.lmm(formula, TABLE, **how)
    fit = ranef.lmm(formula, TABLE, path="iterative", **how)
    error = fit.optimum.monte_carlo
    assert fit.optimum.converged
    assert np.all(np.abs(fit.theta - exact.theta) <= 4 * error.theta_error)
    assert np.all(error.theta_error <= 0.02 * fit.theta)
    assert abs(fit.loglik - exact.loglik) < 4 * error.loglik_error + 1e-6
    scale = np.sqrt(np.diag(exact.estimate.coefficient_vcov))
    assert_allclose(fit.sigma, exact.sigma, rtol=2e-3)
    moved = fit.estimate.coefficients - exact.estimate.coefficients
    assert np.all(np.abs(moved) < 0.02 * scale)
    assert_allclose(np.diag(fit.estimate.coefficient_vcov), scale**2, rtol=0.02)
    for own, known in zip(fit.estimate.modes, exact.estimate.modes, strict=True):
        assert_allclose(own, known, atol=0.02 * known.std())
    sds = fit.tidy("variance")[["conf_low", "conf_high"]].to_numpy()
    assert_allclose(sds, exact.tidy("variance")[["conf_low", "conf_high"]].to_numpy(), rtol=0.03)


def test_probes_err_as_much_as_they_say():
    formula, _ = MODELS["crossed"]
    exact = ranef.lmm(formula, TABLE)
    found = []
    for seed in range(20):
        fit = ranef.lmm(formula, TABLE, path="iterative", rng=seed)
        error = fit.optimum.monte_carlo
        off = [*(fit.theta - exact.theta) / error.theta_error]
        found.append([*off, (fit.loglik - exact.loglik) / error.loglik_error])
    spread = np.sqrt(np.mean(np.square(found), axis=0))
    assert np.all((spread > 0.5) & (spread < 1.7))


def test_the_same_bits_for_any_threads_and_the_same_rng():
    formula, _ = MODELS["nested and crossed"]
    fits = [ranef.lmm(formula, TABLE, path="iterative", n_jobs=jobs, rng=3) for jobs in (1, 2, 5)]
    for fit in fits[1:]:
        assert_array_equal(fit.theta, fits[0].theta)
        assert fit.loglik == fits[0].loglik
    other = ranef.lmm(formula, TABLE, path="iterative", rng=4)
    assert other.loglik != fits[0].loglik
    plain = [ranef.lmm(formula, TABLE, path="iterative") for _ in range(2)]
    assert plain[0].loglik == plain[1].loglik


def test_a_variance_of_zero_ends_on_its_face():
    table = TABLE.assign(y=1 + 0.5 * X + 0.8 * rng.normal(size=A)[G] + rng.normal(size=N))
    h = np.random.default_rng(1).integers(B, size=N)
    residual = table["y"] - table.groupby(h)["y"].transform("mean")
    table = table.assign(y=residual, h=h)
    exact = ranef.lmm("y ~ x + (1 | g) + (1 | h)", table)
    fit = ranef.lmm("y ~ x + (1 | g) + (1 | h)", table, path="iterative")
    assert exact.theta[1] == fit.theta[1] == 0
    assert fit.optimum.singular
    assert_allclose(fit.theta[0], exact.theta[0], rtol=0.01)


def test_it_is_named_and_refuses_what_it_cannot_answer():
    formula, _ = MODELS["crossed"]
    fit = ranef.lmm(formula, TABLE, path="iterative")
    assert "32 random probes" in str(fit)
    assert "Monte Carlo standard error" in fit.methods()
    assert_allclose(fit.predict(TABLE.head()), fit.fitted()[:5])
    for question in (
        lambda: fit.tidy("random"), lambda: fit.predict(TABLE.head(), conf_level=0.9),
        lambda: fit.tidy(df="kenward-roger"), lambda: ranef.rank(fit, "g"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match="exact inverses"):
            question()


def test_it_is_never_chosen_and_what_it_takes_is_said(monkeypatch):
    formula, _ = MODELS["crossed"]
    assert ranef.plan(formula, TABLE).path != "iterative"
    plan = ranef.plan(formula, TABLE, path="iterative")
    assert plan.path == "iterative"
    assert "conjugate gradients" in str(plan)
    with pytest.raises(ModelError, match="one column"):
        ranef.lmm("y ~ x + (x | g) + (1 | h)", TABLE, path="iterative")
    with pytest.raises(ModelError, match="two random terms"):
        ranef.lmm("y ~ x + (1 | g)", TABLE, path="iterative")
    with pytest.raises(ModelError, match="linear models"):
        ranef.glmm("k ~ x + (1 | g) + (1 | h)", TABLE, family="poisson", path="iterative")
    monkeypatch.setattr(assembly, "ALWAYS_THERE", 0)
    monkeypatch.setattr(assembly, "available_memory", lambda: 10)
    with pytest.raises(ModelError, match="path='iterative' needs memory that is linear"):
        ranef.lmm(formula, TABLE)


def test_files_keep_the_errors(tmp_path):
    fit = ranef.lmm(MODELS["crossed"][0], TABLE, path="iterative")
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again) == str(fit)
    assert again.optimum.monte_carlo.loglik_error == fit.optimum.monte_carlo.loglik_error


def off_the_truth(n, levels, seeds):
    """Distances from the truth, errors by probes and by the sample, (seeds, 2) each."""
    found = []
    true = np.array([0.43, 0.5]) / 0.85
    for seed in range(seeds):
        draw = np.random.default_rng(1000 + seed)
        g, h = (draw.integers(q, size=n) for q in levels)
        effects = 0.43 * draw.normal(size=levels[0])[g] + 0.5 * draw.normal(size=levels[1])[h]
        table = pd.DataFrame({"y": effects + 0.85 * draw.normal(size=n), "g": g, "h": h})
        fit = ranef.lmm("y ~ 1 + (1 | g) + (1 | h)", table, path="iterative", rng=seed)
        error = fit.optimum.monte_carlo
        found.append([fit.theta - true, error.theta_error, error.sampling_error(fit.theta)])
    return np.moveaxis(found, 1, 0)


@pytest.mark.parametrize(
    ("n", "levels"),
    [(20_000, (600, 300)), pytest.param(250_000, (1600, 600), marks=pytest.mark.study)],
)
def test_the_truth_is_within_both_stated_errors_as_often_as_it_should(n, levels):
    """Two errors hold 95.4%: fewer than 34 of 40 have a chance of 1 in 500."""
    off, probes, sample = off_the_truth(n, levels, 20)
    both = np.hypot(probes, sample)
    assert np.sum(np.abs(off) <= 2 * both) >= 34
    assert 0.75 < np.sqrt(np.mean((off / both) ** 2)) < 1.3
    # the probes' own error is a small part, within which no sample holds the truth
    assert np.all(probes < 0.02 * sample)


def test_the_output_states_both_errors():
    fit = ranef.lmm(MODELS["crossed"][0], TABLE, path="iterative")
    own = fit.optimum.monte_carlo.sampling_error(fit.theta) / fit.theta
    words = " ".join(str(fit).split())
    assert f"the sample itself leaves ones of {100 * own[0]:.2g}% and {100 * own[1]:.2g}%" in words
    # what other samples of these two factors would do, by exact second derivatives
    exact = ranef.lmm(MODELS["crossed"][0], TABLE)
    known = np.sqrt(2 * np.diag(np.linalg.inv(curvature(exact.estimate).hessian)))
    assert_allclose(own * fit.theta, known, rtol=0.03)
