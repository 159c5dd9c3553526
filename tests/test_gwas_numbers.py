"""The numbers of a scan: tails, null models, variants' optima, beside twins and other ways."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

import ranef
from ranef import gwas
from ranef.fields.gwas import profiles
from ranef.fields.gwas.profiles import prepare
from ranef.fields.gwas.spectrum import (
    HIGHEST,
    LOWEST,
    Rotated,
    Window,
    fit_null,
    nodes_at,
    windows,
)
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f_tail

LN10 = np.log(10)


# --- tails


@pytest.mark.parametrize("df", [3.0, 97.0, 1408.0, 40000.0])
def test_f_tail_agrees_where_doubles_hold_it(df):
    f = np.array([0.0, 1e-8, 0.3, 4.0, 33.0, 250.0, 900.0])
    known = stats.t.logsf(np.sqrt(f), df) / LN10 + np.log10(2)
    np.testing.assert_allclose(log10_f_tail(f, df), known, rtol=1e-11, atol=1e-14)


def test_f_tail_is_finite_far_out():
    found = log10_f_tail(np.array([6400.0, 1e6, 1e5]), 2000.0)
    assert np.isfinite(found).all()
    known = [by_integration(f, 2000.0) for f in (6400.0, 1e6, 1e5)]
    np.testing.assert_allclose(found, known, rtol=1e-9)


def by_integration(f: float, df: float) -> float:
    """log10 P(F > f) by a sum over the density of t, scaled by its value at the start."""
    t = np.sqrt(f)

    def log_density(x):
        return stats.t.logpdf(x, df)

    width = (1 + f / df) * df / ((df + 1) * t)  # of the fall by e
    x, w = np.polynomial.legendre.leggauss(200)
    total = 0.0
    for k in range(40):
        low, high = t + k * 2 * width, t + (k + 1) * 2 * width
        at = 0.5 * (high - low) * x + 0.5 * (high + low)
        total += 0.5 * (high - low) * np.sum(w * np.exp(log_density(at) - log_density(t)))
    return (log_density(t) + np.log(total)) / LN10 + np.log10(2)


def test_f_tail_has_no_seam():
    f = np.linspace(3000, 4200, 400)  # p falls below 1e-280 in between
    found = log10_f_tail(f, 500.0)
    assert np.abs(np.diff(found, 4)).max() < 1e-9


def test_chi2_tail():
    x = np.array([0.0, 0.1, 3.84, 700.0])
    np.testing.assert_allclose(log10_chi2_tail(x), np.log10(stats.chi2.sf(x, 1)), atol=1e-12)
    assert np.isfinite(log10_chi2_tail(np.array([1e5]))[0])


# --- windows


def test_series_of_a_window_has_the_right_derivatives():
    window = Window(0.3, 1.5, 18)
    values = np.log1p(np.exp(window.t))
    coefficients = values @ window.transform
    s = np.array([-0.9, 0.1, 0.77])
    t = window.centre + window.half * s
    T, first, second = window.basis(s)
    p = 1 / (1 + np.exp(-t))
    np.testing.assert_allclose(coefficients @ T, np.log1p(np.exp(t)), atol=1e-10)
    np.testing.assert_allclose(coefficients @ first / 1.5, p, atol=1e-8)
    np.testing.assert_allclose(coefficients @ second / 1.5**2, p * (1 - p), atol=1e-6)


def test_windows_cover_the_range():
    every = list(windows())
    assert every[0].low == pytest.approx(LOWEST)
    assert every[-1].high == pytest.approx(HIGHEST)
    for one, other in pairwise(every):
        assert one.high == pytest.approx(other.low)


# --- models


def made_up(n=120, c=2, m=60, share=0.5, seed=1, effect=0.0):
    """A relationship, covariates, a response, and variants."""
    rng = np.random.default_rng(seed)
    B = rng.binomial(2, 0.3, (n, 400)) + 0.8 * rng.binomial(1, 0.5, (n // 4, 400)).repeat(4, axis=0)
    B = B - B.mean(axis=0)
    K = B @ B.T / 400
    W = np.column_stack([np.ones(n), *rng.normal(size=(c - 1, n))])
    X = rng.binomial(2, 0.4, (m, n)).astype(float)
    d, U = np.linalg.eigh(K)
    d = np.maximum(d, 0)
    u = U @ (np.sqrt(d) * rng.normal(size=n))
    y = np.sqrt(share) * u / np.sqrt(d.mean()) + np.sqrt(1 - share) * rng.normal(size=n)
    y = y + W @ rng.normal(size=c) + effect * X[0]
    X -= X.mean(axis=1)[:, None]
    return K, W, y, X, Rotated(d, U.T @ W, U.T @ y), X @ U


def criterion(t, K, W, y, x, reml):
    """Profile log-likelihood by dense algebra, constants left out."""
    n = len(y)
    X = W if x is None else np.column_stack([W, x])
    H = np.exp(t) * K + np.eye(n)
    L = np.linalg.cholesky(H)
    white = np.linalg.solve(L, np.column_stack([X, y]))
    X, z = white[:, :-1], white[:, -1]
    cross = X.T @ X
    beta = np.linalg.lstsq(X, z, rcond=None)[0]
    beta = beta + np.linalg.lstsq(X, z - X @ beta, rcond=None)[0]
    rest = np.sum((z - X @ beta) ** 2)
    logdet = 2 * np.log(np.diag(L)).sum()
    if not reml:
        return -0.5 * (logdet + n * np.log(rest)), beta, rest, cross
    nu = n - X.shape[1]
    value = -0.5 * (logdet + np.linalg.slogdet(cross)[1] + nu * np.log(rest))
    return value, beta, rest, cross


def brute_force(K, W, y, x):
    """Wald's F, the likelihood ratio and the optimal t of one variant."""
    grid = np.linspace(LOWEST, HIGHEST, 120)
    best = []
    for reml, with_x in ((True, x), (False, x), (False, None)):
        values = [criterion(t, K, W, y, with_x, reml)[0] for t in grid]
        low, high = (grid[np.clip(np.argmax(values) + k, 0, 119)] for k in (-1, 1))
        for _ in range(60):  # golden section
            a, b = (high - (high - low) * 0.618, low + (high - low) * 0.618)
            up = criterion(a, K, W, y, with_x, reml)[0] > criterion(b, K, W, y, with_x, reml)[0]
            low, high = (low, b) if up else (a, high)
        t = 0.5 * (low + high)
        best.append((t, *criterion(t, K, W, y, with_x, reml)))
    t, _, beta, rest, cross = best[0]
    nu = len(y) - W.shape[1] - 1
    wald = beta[-1] ** 2 / (rest / nu * np.linalg.inv(cross)[-1, -1])
    return wald, 2 * (best[1][1] - best[2][1]), t, beta[-1]


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_variants_agree_with_dense_algebra(share):
    K, W, y, X, model, Z = made_up(share=share, seed=3, m=6)
    null = fit_null(model)
    found = profiles.test_variants(prepare(model, null, exact=True, single=False), Z, None)
    for k in range(6):
        wald, lrt, t, beta = brute_force(K, W, y, X[k])
        assert found.wald[k] == pytest.approx(wald, rel=1e-5, abs=1e-7)
        assert found.lrt[k] == pytest.approx(lrt, rel=1e-5, abs=1e-6)
        assert found.beta[k] == pytest.approx(beta, rel=1e-5, abs=1e-7)
        if LOWEST + 0.01 < t < HIGHEST - 0.01:
            assert found.t_reml[k] == pytest.approx(t, abs=1e-4)


def test_score_is_that_of_its_definition():
    K, W, y, X, model, Z = made_up(seed=4, m=3)
    null = fit_null(model)
    found = profiles.test_variants(prepare(model, null, exact=True, single=False), Z, None)
    H = null.lambda_ml * K + np.eye(len(y))
    Hi = np.linalg.inv(H)
    P = Hi - Hi @ W @ np.linalg.solve(W.T @ Hi @ W, W.T @ Hi)
    for k in range(3):
        known = len(y) * (X[k] @ P @ y) ** 2 / ((X[k] @ P @ X[k]) * (y @ P @ y))
        assert found.score[k] == pytest.approx(known, rel=1e-8)


def test_optima_outside_the_window_are_found():
    """A variant so strong that its own variance ratio is far from the null model's."""
    seen = 0
    for seed in range(8):
        K, W, y, X, model, Z = made_up(seed=seed, m=2, share=0.02, effect=4.0)
        null = fit_null(model)
        found = profiles.test_variants(prepare(model, null, exact=True, single=False), Z, None)
        wald, lrt, t, _ = brute_force(K, W, y, X[0])
        assert found.wald[0] == pytest.approx(wald, rel=1e-4)
        assert found.lrt[0] == pytest.approx(lrt, rel=1e-4)
        seen += abs(t - null.t_reml) > 1.5
    assert seen >= 2


def test_a_variant_that_explains_nearly_everything():
    K, W, y, X, _, _ = made_up(seed=7, m=2, share=0.3)
    y = 3.0 * X[0] + 1e-4 * y
    d, U = np.linalg.eigh(K)
    model = Rotated(np.maximum(d, 0), U.T @ W, U.T @ y)
    null = fit_null(model)
    found = profiles.test_directly(model, null, X[0] @ U, exact=True)
    wald, lrt, _, beta = brute_force(K, W, y, X[0])
    log10_p = log10_f_tail(found.wald, len(y) - 3.0)[0]
    assert log10_p < -300
    assert log10_p == pytest.approx(log10_f_tail(np.array([wald]), len(y) - 3.0)[0], rel=1e-6)
    assert found.beta[0] == pytest.approx(beta, rel=1e-7)
    assert found.lrt[0] == pytest.approx(lrt, rel=1e-5)


def test_single_precision_is_close():
    _, _, _, _, model, Z = made_up(seed=9, m=50)
    prepared = prepare(model, fit_null(model), exact=True, single=True)
    double, single = (
        profiles.test_variants(prepared, Z, None),
        profiles.test_variants(prepared, Z.astype(np.float32), None),
    )
    gap = log10_f_tail(double.wald, 117.0) - log10_f_tail(single.wald, 117.0)
    assert np.abs(gap).max() < 1e-4


def test_collinear_variants_have_no_numbers():
    _, W, _, _, model, _ = made_up(seed=2)
    Z = np.stack([3.0 * model.W[:, 1] - model.W[:, 0], np.zeros(len(W))])
    found = profiles.test_variants(
        prepare(model, fit_null(model), exact=True, single=False), Z, None
    )
    assert (found.left < 1e-7).all()
    assert np.isnan(found.wald).all()


# --- the null model


@pytest.mark.parametrize("seed", [1, 5])
def test_null_agrees_with_lmm(seed):
    study = gwas.simulate(n=160, m=400, h2=0.5, rng=seed)
    K = gwas.grm(study.genotypes)
    null = gwas.null("trait ~ sex + age", study.phenotypes, relationship=K)
    for reml, own in ((True, null.loglik_reml), (False, null.loglik_ml)):
        fit = ranef.lmm(
            "trait ~ sex + age + kernel(1 | IID, K)", study.phenotypes, reml=reml,
            kernels={"K": K},
        )  # fmt: skip
        assert own == pytest.approx(fit.loglik, abs=1e-6)
        if reml:
            table = fit.tidy("variance")
            sd = dict(zip(table.group, table.estimate, strict=True))
            assert null.fit.sigma2 == pytest.approx(sd["Residual"] ** 2, rel=1e-4)
            ratio = (sd["IID"] / sd["Residual"]) ** 2
            assert null.fit.lambda_reml == pytest.approx(ratio, rel=1e-3)
            assert null.tidy()["estimate"].to_numpy() == pytest.approx(
                fit.coef.to_numpy(), rel=1e-4
            )


def test_error_of_the_share_is_that_of_the_curvature():
    _, _, _, _, model, _ = made_up(n=200, seed=11)
    fit = fit_null(model)

    def at(lam):
        node = nodes_at(model, np.array([np.log(lam)]))
        return float(node.likelihood(model.n, model.c, reml=True)[0])

    lam, h = fit.lambda_reml, 1e-3 * fit.lambda_reml
    second = (at(lam + h) - 2 * at(lam) + at(lam - h)) / h**2
    assert fit.lambda_se == pytest.approx((-second) ** -0.5, rel=1e-4)
    assert abs(at(lam + h) - at(lam - h)) / (2 * h) < 1e-3 * (-second) * lam


def test_boundary_is_flagged():
    K, W, _, _, _, _ = made_up(seed=1)
    d, U = np.linalg.eigh(K)
    rng = np.random.default_rng(3)
    flagged = 0
    for _ in range(10):
        y = rng.normal(size=len(d))
        fit = fit_null(Rotated(np.maximum(d, 0), U.T @ W, U.T @ y))
        if fit.boundary:
            flagged += 1
            assert np.isnan(fit.pve_se)
            assert fit.p_zero == 1.0
    assert flagged >= 2


def test_interval_of_the_share_is_that_of_the_likelihood():
    study = gwas.simulate(n=250, m=400, h2=0.5, rng=4)
    K = gwas.grm(study.genotypes)
    found = gwas.heritability("trait ~ sex", study.phenotypes, relationship=K).tidy()
    low, pve, high = (float(found[c][0]) for c in ("conf_low", "pve", "conf_high"))
    assert 0 < low < pve < high < 1
    null = gwas.null("trait ~ sex", study.phenotypes, relationship=K)
    trait = null.trait
    d, U = np.linalg.eigh(K.matrix)
    model = Rotated(np.maximum(d, 0), U.T @ trait.W, U.T @ trait.y)
    drop = stats.chi2.ppf(0.95, 1) / 2
    for share in (low, high):
        t = np.log(share / (1 - share) / null.fit.trace)
        value = nodes_at(model, np.array([t, null.fit.t_reml])).likelihood(
            model.n, model.c, reml=True
        )
        assert value[1] - value[0] == pytest.approx(drop, abs=1e-4)
