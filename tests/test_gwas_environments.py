"""Interactions where residual variances differ, and of binary traits, beside dense algebra."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from gwas_tilted import Families, kinship
from scipy import stats

from ranef import gwas
from ranef.errors import DataError, ModelError, RankWarning
from ranef.fields.gwas.genotypes import unpack
from ranef.fields.gwas.heteroscedastic import cross_varying, prepare_varying
from ranef.fields.gwas.interacting_cases import cross_cases, spread_ratio
from ranef.fields.gwas.logistic import fit_logistic

N = 160


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(2)
    F = np.kron(np.eye(N // 4), np.ones((4, 1)))
    K = 0.5 * F @ F.T + 0.5 * np.eye(N)
    K -= K.mean(0)
    K -= K.mean(1)[:, None]
    e = rng.normal(size=N)
    e = (e - e.mean()) / e.std()
    W = np.column_stack([np.ones(N), e, rng.normal(size=N)])
    X = rng.binomial(2, 0.3, (6, N)).astype(float)
    X -= X.mean(1)[:, None]
    y = F @ rng.normal(size=N // 4) + 0.4 * X[1] + np.exp(0.5 * e) * rng.normal(size=N)
    return K, W, e, X, y


@pytest.mark.parametrize("related", [True, False])
def test_robust_errors_beside_dense_algebra(arrays, related):
    K, W, e, X, y = arrays
    lambda_, sigma2 = (0.8, 1.7) if related else (0.0, 1.7)
    d, U = np.linalg.eigh(K)
    held = prepare_varying(W, y, d, U if related else None, lambda_, sigma2)
    found = cross_varying(held, X, X * e)
    V = lambda_ * K + np.eye(N)
    VW = np.linalg.solve(V, W)
    P = np.linalg.inv(V) - VW @ np.linalg.solve(W.T @ VW, VW.T)
    M = P * P
    for k in range(len(X)):
        T = np.column_stack([X[k], X[k] * e])
        A = T.T @ P @ T
        b = np.linalg.solve(A, T.T @ P @ y)
        full = P - P @ T @ np.linalg.solve(A, T.T @ P)
        q = full @ y / np.sqrt(sigma2)
        delta = np.linalg.solve(M, q**2 * np.diag(P) / np.diag(full) - np.diag(P))
        g = np.linalg.solve(A, T.T @ P)
        cov = sigma2 * (g @ V @ g.T + g @ np.diag(delta) @ g.T)
        s = (g**2).T
        df = np.diag(g @ V @ g.T) ** 2 / np.einsum("ij,ij->j", s, np.linalg.solve(M, s))
        np.testing.assert_allclose([found["main"][k], found["product"][k]], b, rtol=1e-8)
        np.testing.assert_allclose(found["main_error"][k] ** 2, cov[0, 0], rtol=1e-7)
        np.testing.assert_allclose(found["product_error"][k] ** 2, cov[1, 1], rtol=1e-7)
        np.testing.assert_allclose(found["covariance"][k], cov[0, 1], rtol=1e-6, atol=1e-12)
        most = N - 3 - 2
        np.testing.assert_allclose(found["df_main"][k], min(df[0], most), rtol=1e-7)
        np.testing.assert_allclose(found["df_product"][k], min(df[1], most), rtol=1e-7)


def test_robust_variances_have_no_bias(arrays):
    """Mean of 4,000 estimated variances beside the true one, relatives with unequal noise."""
    K, W, e, X, _ = arrays
    lambda_ = 0.8
    d, U = np.linalg.eigh(K)
    omega = np.exp(e)
    true = lambda_ * K + np.diag(omega)
    root = np.linalg.cholesky(true + 1e-10 * np.eye(N))
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(400):
        held = prepare_varying(W, root @ rng.normal(size=N), d, U, lambda_, 1.0)
        found = cross_varying(held, X, X * e)
        seen.append(found["product_error"] ** 2)
    V = lambda_ * K + np.eye(N)
    VW = np.linalg.solve(V, W)
    P = np.linalg.inv(V) - VW @ np.linalg.solve(W.T @ VW, VW.T)
    for k in range(len(X)):
        T = np.column_stack([X[k], X[k] * e])
        g = np.linalg.solve(T.T @ P @ T, T.T @ P)[1]
        ratio = np.mean([one[k] for one in seen]) / (g @ true @ g)
        assert 0.93 < ratio < 1.07


def study(binary: bool = False):
    rng = np.random.default_rng(55)
    made = gwas.simulate(n=400, m=1500, family_size=4, h2=0.4, rng=5)
    smoker = rng.integers(0, 2, 400)
    x = np.asarray(made.phenotypes["trait"], dtype=float)
    noise = np.where(smoker == 1, 3.0, 0.6) * rng.normal(size=400)
    table = made.phenotypes.assign(smoker=smoker, y=x + noise)
    if binary:
        table["y"] = (x + rng.normal(size=400) > 0.8).astype(int)
    return made.genotypes, table


def test_robust_tests_hold_their_level_where_others_do_not():
    genotypes, table = study()
    rng = np.random.default_rng(1)
    few = rng.permutation(np.arange(400) % 5 == 0)
    noise = np.where(few, 3.0, 0.6) * rng.normal(size=400)
    table = table.assign(exposure=few.astype(int), y=table["trait"] + noise)
    shares = {}
    for robust in (False, True):
        scan = gwas.scan("y ~ sex", genotypes, table, interaction="exposure", robust=robust,
                         min_maf=0.05, relationship="centred")  # fmt: skip
        p = scan.tidy()["p_wald"].dropna()
        shares[robust] = float(np.mean(p < 0.05))
    assert shares[False] > 0.09
    assert 0.03 < shares[True] < 0.07


def test_robust_columns_words_and_files(tmp_path):
    genotypes, table = study()
    scan = gwas.scan("y ~ sex", genotypes, table, interaction="smoker", robust=True)
    found = scan.tidy()
    ok = found["status"] == "ok"
    assert found["p_lrt"].isna().all()
    assert found["p_score"].isna().all()
    assert found["df"][ok].between(1, 400).all()
    assert found["p_joint_wald"][ok].notna().mean() > 0.99
    t = (found["estimate"] / found["std_error"])[ok]
    np.testing.assert_allclose(found["p_wald"][ok], 2 * stats.t.sf(abs(t), found["df"][ok]))
    assert "residual variances to differ" in " ".join(str(scan).split())
    for form in ("gwas-ssf", "regenie", "plink2", "parquet"):
        scan.save(tmp_path / f"a.{form}", format=form)
    scan.report(tmp_path / "a.html")


def test_robust_of_unrelated_samples_is_close_to_hc2():
    genotypes, table = study()
    scan = gwas.scan("y ~ sex", genotypes, table, interaction="smoker", robust=True,
                     relationship=None, min_maf=0.2)  # fmt: skip
    found = scan.tidy()
    e = table["smoker"].to_numpy(float)
    names = found.index[found["status"] == "ok"][:5]
    for k in names:
        x = unpack(genotypes.read(int(k), int(k) + 1).packed, 400)[0].astype(float)
        x = np.where(x < 0, x[x >= 0].mean(), x)
        T = np.column_stack([np.ones(400), table["sex"] == "male", e, x, x * e]).astype(float)
        inverse = np.linalg.inv(T.T @ T)
        b = inverse @ T.T @ table["y"].to_numpy()
        r = table["y"].to_numpy() - T @ b
        h = np.einsum("ij,jk,ik->i", T, inverse, T)
        hc2 = inverse @ (T.T * (r**2 / (1 - h))) @ T @ inverse
        assert found["estimate"][k] == pytest.approx(b[4], rel=1e-8)
        assert found["std_error"][k] == pytest.approx(np.sqrt(hc2[4, 4]), rel=2e-2)


def test_what_robust_does_not_apply_to():
    genotypes, table = study()
    with pytest.raises(ModelError, match="robust=True is of interactions"):
        gwas.scan("y ~ 1", genotypes, table, robust=True)
    with pytest.raises(ModelError, match="robust=True is of Gaussian traits"):
        gwas.scan("y ~ 1", genotypes, table, robust=True, interaction="smoker", family="binomial")
    alone = table.assign(one=["a", *["b"] * 399])
    with pytest.raises(DataError, match="fit 1 samples exactly"):
        gwas.scan("y ~ one", genotypes, alone, robust=True, interaction="smoker")


# --- binary traits


def newton(y: np.ndarray, T: np.ndarray, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
    beta = np.zeros(T.shape[1])
    for _ in range(steps):
        mu = 1 / (1 + np.exp(-T @ beta))
        information = T.T @ (T * (mu * (1 - mu))[:, None])
        beta = beta + np.linalg.solve(information, T.T @ (y - mu))
    return beta, np.linalg.inv(information)


def test_products_of_binary_traits_are_near_maximum_likelihood(arrays):
    """Where all is frequent, scores and Firth's estimates are close to logistic regression's."""
    rng = np.random.default_rng(7)
    n = 3000
    e = rng.normal(size=n)
    W = np.column_stack([np.ones(n), e])
    X = rng.binomial(2, 0.4, (8, n)).astype(float)
    eta = -0.2 + 0.3 * e + 0.3 * X[0] + 0.35 * X[1] * e
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    null = fit_logistic(y, W, None, ("(Intercept)", "e"))
    found = cross_cases(null, X, X * e, own=True)
    for k in range(8):
        T = np.column_stack([W, X[k], X[k] * e])
        beta, V = newton(y, T)
        assert found["product"][k] == pytest.approx(beta[3], abs=0.02)
        assert found["product_error"][k] == pytest.approx(np.sqrt(V[3, 3]), rel=0.03)
        assert found["main"][k] == pytest.approx(beta[2], abs=0.02)
        wald = beta[3] ** 2 / V[3, 3]
        expected = stats.chi2.logsf(wald, 1) / np.log(10)
        assert found["log10_spa"][k] == pytest.approx(expected, abs=0.03 + 0.02 * abs(expected))
        both = beta[2:] @ np.linalg.solve(V[2:, 2:], beta[2:])
        expected = stats.chi2.logsf(both, 2) / np.log(10)
        assert found["log10_joint"][k] == pytest.approx(expected, abs=0.03 + 0.03 * abs(expected))


def test_one_step_of_related_samples_beside_dense_algebra(arrays):
    K, W, e, X, y = arrays
    case = (y > np.quantile(y, 0.6)).astype(float)
    null = fit_logistic(case, W, K.copy(), ("(Intercept)", "e", "z"))
    found = cross_cases(null, X, X * e, own=True)
    D = null.mu * (1 - null.mu)
    V = np.diag(1 / D) + null.tau * K
    VW = np.linalg.solve(V, W)
    P = np.linalg.inv(V) - VW @ np.linalg.solve(W.T @ VW, VW.T)
    seen = 0
    for k in range(len(X)):
        T = np.column_stack([X[k], X[k] * e])
        A, s = T.T @ P @ T, T.T @ (case - null.mu)
        rest = A[1, 1] - A[0, 1] ** 2 / A[0, 0]
        chi = (s[1] - A[0, 1] / A[0, 0] * s[0]) ** 2 / rest
        if chi > 3.8 or s[0] ** 2 / A[0, 0] > 3.8:
            continue
        seen += 1
        assert found["score"][k] == pytest.approx(chi, rel=1e-7)
        step = np.linalg.solve(A, s)
        np.testing.assert_allclose([found["main"][k], found["product"][k]], step, rtol=1e-6)
        both = stats.chi2.logsf(chi + s[0] ** 2 / A[0, 0], 2) / np.log(10)
        assert found["log10_joint"][k] == pytest.approx(both, rel=1e-6)
    assert seen >= 2


@pytest.mark.parametrize("own", [True, False])
def test_scores_of_products_vary_as_their_variance_says(arrays, own):
    """Over variants with the covariances of relatives, drawn at one trait."""
    K, W, e, _, y = arrays
    case = (y > np.quantile(y, 0.7)).astype(float)
    null = fit_logistic(case, W, K.copy(), ("(Intercept)", "e", "z"))
    values, U = np.linalg.eigh(K)
    rng = np.random.default_rng(5)
    X = rng.normal(size=(20_000, N)) @ (U * np.sqrt(np.maximum(values, 0.0))).T
    ratio = spread_ratio(null, K, e, own=own)
    scores = (X * e) @ null.residual
    variance = null.variance(X * e, null.root)
    if not own:
        variance = (null.adjusted(X * e) ** 2) @ null.weights
    assert np.mean(scores**2) / np.mean(variance) == pytest.approx(ratio, rel=0.04)
    assert ratio < 0.95
    found = cross_cases(null, X[:9], X[:9] * e, own=own, ratio=ratio)
    plain = cross_cases(null, X[:9], X[:9] * e, own=own, ratio=1.0)
    near = found["score"] < 3.8
    np.testing.assert_allclose(found["score"][near] * ratio, plain["score"][near], rtol=1e-9)
    np.testing.assert_allclose(found["product"][near] * ratio, plain["product"][near], rtol=1e-9)


def test_products_of_binary_traits_hold_their_level_among_relatives():
    families, m = Families(100), 1500
    rng = np.random.default_rng(3)
    n = families.n
    L = np.linalg.cholesky(kinship(Families(1)))
    liability = (rng.normal(size=(100, 5)) @ L.T).ravel() + 0.4 * rng.normal(size=n)
    parents = rng.random((m, 100, 2, 2)) < 0.3
    handed = rng.integers(0, 2, (m, 100, 3, 2))
    children = np.take_along_axis(parents[:, :, None], handed[..., None], axis=4)[..., 0].sum(3)
    X = np.concatenate([parents.sum(3), children], axis=2).reshape(m, n)
    names = [f"i{k}" for k in range(n)]
    variants = pd.DataFrame({"variant": [f"v{k}" for k in range(m)], "chromosome": "1",
                             "position": np.arange(m) + 1})  # fmt: skip
    table = pd.DataFrame({
        "IID": names, "ill": (liability > np.quantile(liability, 0.7)).astype(int),
        "e": rng.normal(size=n),
    })  # fmt: skip
    found = gwas.scan(
        "ill ~ 1", gwas.from_array(X.T, samples=names, variants=variants), table,
        family="binomial", interaction="e",
        relationship=pd.DataFrame(kinship(families), index=names, columns=names),
    ).tidy()  # fmt: skip
    logs = found["neg_log10_p_spa"].dropna()
    assert 0.038 < np.mean(logs > -np.log10(0.05)) < 0.066  # 0.03 by the model's own variance


def test_a_scan_of_interactions_of_a_binary_trait(tmp_path):
    genotypes, table = study(binary=True)
    scan = gwas.scan("y ~ sex", genotypes, table, interaction="smoker", family="binomial")
    found = scan.tidy()
    assert found.columns[-10:].tolist() == [
        "estimate_variant", "std_error_variant", "p_joint_spa", "neg_log10_p_joint_spa", "n_cases",
        "n_controls", "ac_cases", "ac_controls", "neg_log10_p_spa", "status",
    ]  # fmt: skip
    p = 10.0 ** -found["neg_log10_p_spa"].dropna()
    assert 0.02 < np.mean(p < 0.05) < 0.08
    assert 0.02 < np.mean(found["p_joint_spa"].dropna() < 0.05) < 0.08
    wide = gwas.scan("y ~ sex", genotypes, table.assign(smoker=1e3 + 50 * table["smoker"]),
                     interaction="smoker", family="binomial").tidy()  # fmt: skip
    np.testing.assert_allclose(wide["neg_log10_p_spa"], found["neg_log10_p_spa"], atol=1e-6)
    np.testing.assert_allclose(wide["estimate"] * 50, found["estimate"], rtol=1e-5, atol=1e-8)
    for form in ("gwas-ssf", "regenie", "plink2", "parquet"):
        scan.save(tmp_path / f"a.{form}", format=form)
    scan.report(tmp_path / "a.html")
    assert "the product of variant and smoker" in " ".join(str(scan).split())


def test_an_exposure_that_no_case_has_gives_finite_figures():
    rng = np.random.default_rng(8)
    n = 400
    e = np.r_[np.ones(40), np.zeros(n - 40)]
    x = rng.binomial(1, 0.2, n).astype(float)
    y = (rng.random(n) < 0.3).astype(float)
    y[(e == 1) & (x == 1)] = 1.0
    null = fit_logistic(y, np.column_stack([np.ones(n), e]), None, ("(Intercept)", "e"))
    found = cross_cases(null, x[None], (x * e)[None], own=True)
    for name in ("product", "product_error", "lrt", "log10_spa", "log10_joint"):
        assert np.isfinite(found[name][0])
    assert found["product"][0] > 1


def test_joint_tests_of_binary_traits_are_refused_in_words():
    genotypes, table = study(binary=True)
    table["z"] = 1 - table["y"]
    with pytest.raises(ModelError, match="multivariate model of Gaussian traits"):
        gwas.scan("~ 1", genotypes, table, traits=["y", "z"], joint=True, family="binomial")
    with pytest.raises(ModelError, match="joint=True and interaction="):
        gwas.scan("~ 1", genotypes, table, traits=["y", "z"], joint=True, interaction="smoker")


def test_a_constant_environment_of_a_binary_trait():
    genotypes, table = study(binary=True)
    with (
        pytest.raises(ModelError, match="environment 'smoker' does not vary among"),
        pytest.warns(RankWarning, match="redundant column, left out: smoker"),
    ):
        gwas.scan("y ~ 1", genotypes, table.assign(smoker=1), interaction="smoker",
                  family="binomial")  # fmt: skip


def test_pandas_of_interactions_with_two_traits():
    genotypes, table = study(binary=True)
    table["z"] = (np.random.default_rng(1).random(400) < 0.3).astype(int)
    found = gwas.scan("~ sex", genotypes, table, traits=["y", "z"], interaction="smoker",
                      family="binomial").tidy()  # fmt: skip
    alone = gwas.scan("z ~ sex", genotypes, table, interaction="smoker", family="binomial").tidy()
    of_z = found[found["trait"] == "z"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_z, alone)
