"""Several traits at once, genetic correlations, and variants by environments."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from gwas_data import GEMMA, REFERENCE, unpack_mice
from scipy import stats

from ranef import gwas
from ranef.errors import DataError, FormulaError, ModelError
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.correlation import pair_of
from ranef.fields.gwas.genotypes import unpack
from ranef.fields.gwas.interacting import cross, prepare_crossed
from ranef.fields.gwas.multivariate import (
    Several,
    _at,
    _bend,
    _factor,
    _jacobian,
    apart,
    directions,
    fit_several,
    slopes,
)
from ranef.fields.gwas.relating import relate
from ranef.fields.gwas.spectrum import Rotated, fit_null, nodes_at
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f2_tail


@pytest.fixture(scope="module")
def study():
    made = gwas.simulate(
        n=240, m=400, h2=0.5, family=0.1, causal=3, causal_h2=0.2, chromosomes=4, rng=3
    )
    rng = np.random.default_rng(1)
    table = made.phenotypes
    table["two"] = 0.5 * table["trait"] + rng.normal(size=240)
    table["holed"] = table["two"].where(np.arange(240) % 9 > 0)
    table["flag"] = np.where(table["age"] > 45, "old", "young")
    return made


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    """Genotypes, traits, GEMMA's relationship: its variants are judged among mice with CD8."""
    source = open_genotypes(unpack_mice(tmp_path_factory.mktemp("mice")))
    cd8 = np.array([np.nan if v == "NA" else float(v) for v in source.samples.phenotype])
    mch = np.loadtxt(REFERENCE / "mouse_mch.txt", dtype=str)
    table = pd.DataFrame({
        "IID": source.samples.iid, "cd8": cd8, "mch": [float(v.replace("NA", "nan")) for v in mch],
        "z": np.arange(1, 1941) * 7919 % 101 / 101,
    })  # fmt: skip
    K = relate("centred", source, np.ones(1940, bool), np.flatnonzero(np.isfinite(cd8)), 1).whole
    return source, table, K


def made_up(n=60, k=3, seed=1):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(n, n + 20))
    K = M @ M.T / (n + 20)
    d, U = np.linalg.eigh(K)
    W = np.column_stack([np.ones(n), rng.normal(size=n)])
    Vg = np.array([[1, 0.5, 0.2], [0.5, 0.8, 0.1], [0.2, 0.1, 0.5]])[:k, :k]
    Ve = np.array([[1, -0.3, 0], [-0.3, 1.2, 0.2], [0, 0.2, 0.7]])[:k, :k]
    root = np.linalg.cholesky(np.kron(K, Vg) + np.kron(np.eye(n), Ve))
    Y = (root @ rng.normal(size=n * k)).reshape(n, k)
    return K, W, Y, Vg, Ve, Several(d, U.T @ W, U.T @ Y)


# --- numbers


@pytest.mark.parametrize("reml", [True, False])
def test_likelihood_of_several_traits_is_the_dense_one(reml):
    K, W, Y, Vg, Ve, model = made_up()
    n, k = Y.shape
    V, X, y = np.kron(K, Vg) + np.kron(np.eye(n), Ve), np.kron(W, np.eye(k)), Y.ravel()
    inverse = np.linalg.inv(V)
    cross_X = X.T @ inverse @ X
    P = inverse - inverse @ X @ np.linalg.solve(cross_X, X.T @ inverse)
    free = n * k - (X.shape[1] if reml else 0)
    twice = free * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + y @ P @ y
    twice += np.linalg.slogdet(cross_X)[1] if reml else 0
    at = apart(model, Vg, Ve, reml=reml)
    assert at.loglik == pytest.approx(-twice / 2, abs=1e-9)
    score, information = slopes(model, at, reml=reml)
    for a, E in enumerate(directions(k)):
        for block, step in ((0, (1e-5 * E, 0)), (1, (0, 1e-5 * E))):
            ends = [
                apart(model, Vg + s * step[0], Ve + s * step[1], reml=reml).loglik for s in (1, -1)
            ]
            assert score[block * 6 + a] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)
    if reml:
        each = [np.kron(K, E) for E in directions(k)]
        each += [np.kron(np.eye(n), E) for E in directions(k)]
        known = [[0.5 * y @ P @ A @ P @ B @ P @ y for A in each] for B in each]
        np.testing.assert_allclose(information, known, rtol=1e-8, atol=1e-8)


def test_second_derivatives_of_factors():
    *_, Vg, Ve, model = made_up()
    lower = np.tril_indices(3)
    x = np.concatenate([_factor(V, 0.0)[lower] for V in (Vg, Ve)])
    score = slopes(model, _at(model, x, True), reml=True)[0]
    known = np.array([
        (_jacobian(x + e, 3).T @ score - _jacobian(x - e, 3).T @ score) / 2e-6
        for e in 1e-6 * np.eye(12)
    ])  # fmt: skip
    np.testing.assert_allclose(_bend(score, 3), known, atol=1e-7)


def test_the_optimum_does_not_depend_on_the_start():
    *_, model = made_up()
    fits = [
        fit_several(model, reml=True, start=start)
        for start in (None, (0.01 * np.eye(3), 3 * np.eye(3)), (5 * np.eye(3), 0.1 * np.eye(3)))
    ]
    for fit in fits[1:]:
        assert fit.loglik == pytest.approx(fits[0].loglik, abs=1e-7)


def test_one_trait_is_the_univariate_model():
    *_, model = made_up(k=1, seed=7)
    univariate = fit_null(Rotated(model.d, model.W, model.Y[:, 0]))
    fit = fit_several(model, reml=True)
    assert fit.loglik == pytest.approx(univariate.loglik_reml, abs=1e-8)
    ratio = fit.Vg[0, 0] / fit.Ve[0, 0]
    assert ratio == pytest.approx(univariate.lambda_reml, rel=1e-3)


def test_tails_of_two_degrees_of_freedom():
    f = np.array([0.0, 0.5, 3.0, 40.0])
    np.testing.assert_allclose(
        log10_f2_tail(f, 57.0), stats.f.logsf(f, 2, 57) / np.log(10), rtol=1e-10
    )
    x = np.array([0.3, 20.0, 900.0])
    for df in (2.0, 3.0, 7.0):
        np.testing.assert_allclose(
            log10_chi2_tail(x, df), stats.chi2.logsf(x, df) / np.log(10), rtol=1e-11
        )
    assert log10_chi2_tail(np.array([1e4]), 2.0)[0] == pytest.approx(-5000 / np.log(10))


def test_interactions_are_at_their_optimum():
    """Each of the three likelihoods beside a search over lambda with dense least squares."""
    rng = np.random.default_rng(11)
    n = 120
    M = rng.normal(size=(n, 40))
    d, U = np.linalg.eigh(M @ M.T / 40)
    e, x = rng.normal(size=n), rng.binomial(2, 0.3, (6, n)).astype(float)
    x[1] = np.repeat(rng.binomial(2, 0.5, n // 4), 4)
    W = np.column_stack([np.ones(n), e])
    y = M @ rng.normal(size=40) / 5 + 0.8 * x[2] * e + rng.normal(size=n)
    model = Rotated(np.maximum(d, 0), U.T @ W, U.T @ y)
    held = prepare_crossed(model, fit_null(model), exact=True)
    found = cross(held, x @ U, (x * e) @ U)

    def best(extra, reml):
        wide = Rotated(model.d, np.column_stack([model.W, *extra]), model.y)
        low, high = np.log(1e-5), np.log(1e5)
        for _ in range(4):
            grid = np.linspace(low, high, 301)
            values = nodes_at(wide, grid).likelihood(n, wide.c, reml=reml)
            k = int(np.argmax(values))
            low, high = grid[max(k - 1, 0)], grid[min(k + 1, 300)]
        return values[k], grid[k]

    for k in range(6):
        z, ze = U.T @ x[k], U.T @ (x[k] * e)
        both, one, null = (best(extra, False)[0] for extra in ([z, ze], [z], []))
        assert found["lrt"][k] == pytest.approx(2 * (both - one), abs=1e-5)
        assert found["joint_lrt"][k] == pytest.approx(2 * (both - null), abs=1e-5)
        _, t = best([z, ze], True)
        D = 1 / (1 + np.exp(t) * model.d)
        X = np.column_stack([model.W, z, ze])
        inverse = np.linalg.inv(X.T @ (D[:, None] * X))
        beta = inverse @ X.T @ (D * model.y)
        s2 = np.sum(D * (model.y - X @ beta) ** 2) / (n - 4)
        assert found["product"][k] == pytest.approx(beta[3], rel=1e-5)
        assert found["wald"][k] == pytest.approx(beta[3] ** 2 / s2 / inverse[3, 3], rel=1e-5)
        assert found["main_error"][k] == pytest.approx(np.sqrt(s2 * inverse[2, 2]), rel=1e-5)


# --- beside GEMMA


def test_joint_tests_agree_with_gemma(mice, agree):
    source, table, K = mice
    known = pd.read_csv(REFERENCE / "mouse_mv.txt", sep="\t").set_index("rs")
    scan = gwas.scan(
        "~ 1", source, table, traits=["cd8", "mch"], joint=True, relationship=K,
        extract=known.index.tolist(), precision="double",
    )  # fmt: skip
    found = scan.tidy().set_index("variant").loc[known.index]
    call = "gwas.scan(joint=True)"
    for test, atol in (("wald", 5e-5), ("lrt", 1e-6)):  # Wald moves with the end of a search
        strong = (known[f"p_{test}"] < 1e-3).to_numpy()  # above, GEMMA stops its search early
        assert strong.sum() >= 11
        agree(
            call, f"log10 p ({test}) of two traits, mice", -found[f"neg_log10_p_{test}"][strong],
            np.log10(known[f"p_{test}"][strong]), peer=GEMMA, atol=atol,
        )  # fmt: skip
    agree(call, "log10 p (score) of two traits, mice", -found["neg_log10_p_score"],
          np.log10(known["p_score"]), peer=GEMMA, atol=1e-6)  # fmt: skip
    agree(call, "effects on MCH, mice", found["estimate_mch"][strong], known["beta_2"][strong],
          peer=GEMMA, rtol=1e-4, atol=1e-5)  # fmt: skip
    agree(call, "covariances of effects, mice", found["covariance_cd8_mch"][strong],
          known["Vbeta_1_2"][strong], peer=GEMMA, rtol=2e-3, atol=1e-7)  # fmt: skip
    likelihood = scan.glance()["loglik_reml"] + np.log(1197)  # GEMMA adds log|X'X| / 2 a trait
    agree(call, "restricted log-likelihood of two traits", likelihood, [-2855.0664],
          peer=GEMMA, atol=1e-3)  # fmt: skip
    covariances = scan.tables()[1].table
    assert covariances["trait2"] == ["cd8", "cd8", "mch"]


def test_interactions_agree_with_gemma(mice, agree):
    source, table, K = mice
    known = pd.read_csv(REFERENCE / "mouse_gxe.txt", sep="\t").set_index("rs")
    scan = gwas.scan(
        "cd8 ~ 1", source, table, interaction="z", relationship=K, extract=known.index.tolist()
    )
    found = scan.tidy().set_index("variant").loc[known.index]
    tested = (found["status"] == "ok").to_numpy()
    assert tested.sum() > 250
    call = "gwas.scan(interaction=)"
    for test in ("wald", "lrt"):
        agree(
            call, f"log10 p ({test}) of interactions, mice", -found[f"neg_log10_p_{test}"][tested],
            np.log10(known[f"p_{test}"][tested]), peer=GEMMA, atol=5e-6,
        )  # fmt: skip
    agree(call, "standard errors of interactions, mice", found["std_error"][tested],
          known["se"][tested], peer=GEMMA, rtol=5e-6)  # fmt: skip


# --- the scans


def test_interactions_without_relationship_are_least_squares(study):
    scan = gwas.scan(
        "trait ~ sex", study.genotypes, study.phenotypes, relationship=None, interaction="age"
    )
    found = scan.tidy()
    p = study.phenotypes
    x = unpack(study.genotypes.read(0, 400).packed, 240).astype(float)
    for k in (0, 7, 200):
        xk = np.where(x[k] < 0, x[k][x[k] >= 0].mean(), x[k])
        X = np.column_stack([np.ones(240), p["sex"] == "male", p["age"], xk, xk * p["age"]])
        X = X.astype(float)
        beta, rest, *_ = np.linalg.lstsq(X, p["trait"].to_numpy(), rcond=None)
        V = rest[0] / 235 * np.linalg.inv(X.T @ X)
        assert found["estimate"][k] == pytest.approx(beta[4], rel=1e-6)
        assert found["std_error"][k] == pytest.approx(np.sqrt(V[4, 4]), rel=1e-6)
        assert found["estimate_variant"][k] == pytest.approx(beta[3], rel=1e-6)
        assert found["std_error_variant"][k] == pytest.approx(np.sqrt(V[3, 3]), rel=1e-6)
        F = beta[3:] @ np.linalg.solve(V[3:, 3:], beta[3:]) / 2
        assert found["p_joint_wald"][k] == pytest.approx(stats.f.sf(F, 2, 235), rel=1e-6)
    assert "the product of variant and age" in " ".join(str(scan).split())


def test_scale_and_shift_of_an_environment_change_no_interaction(study):
    one = gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, interaction="age").tidy()
    table = study.phenotypes.assign(age=lambda t: 1e4 + 365.25 * t["age"])
    other = gwas.scan("trait ~ sex", study.genotypes, table, interaction="age").tidy()
    for name in ("neg_log10_p_wald", "neg_log10_p_lrt", "neg_log10_p_joint_wald"):
        np.testing.assert_allclose(other[name], one[name], atol=1e-5)
    np.testing.assert_allclose(other["estimate"] * 365.25, one["estimate"], rtol=1e-4, atol=1e-7)


def test_a_factor_of_two_levels_is_an_environment(study):
    words = gwas.scan("trait ~ 1", study.genotypes, study.phenotypes, interaction="flag").tidy()
    table = study.phenotypes.assign(flag=lambda t: (t["flag"] == "young").astype(float))
    numbers = gwas.scan("trait ~ 1", study.genotypes, table, interaction="flag").tidy()
    np.testing.assert_allclose(words["estimate"], numbers["estimate"], atol=1e-10)


def test_joint_tests_use_samples_with_all_traits(study, tmp_path):
    scan = gwas.scan("~ sex", study.genotypes, study.phenotypes, traits=["trait", "holed"],
                     joint=True)  # fmt: skip
    table = scan.tidy()
    assert table["trait"].unique().tolist() == ["trait, holed"]
    assert scan.glance()["n"].tolist() == [int(study.phenotypes["holed"].notna().sum())]
    assert (table["df"].dropna() == 2).all()
    gemma = pd.read_csv(scan.save(tmp_path / "j.txt", format="gemma"), sep="\t")
    assert gemma.columns.tolist()[7:12] == [
        "beta_1", "beta_2", "Vbeta_1_1", "Vbeta_1_2", "Vbeta_2_2",
    ]  # fmt: skip
    with pytest.raises(ModelError, match="save it as gemma or parquet"):
        scan.save(tmp_path / "j.tsv")
    assert len(pd.read_parquet(scan.save(tmp_path / "j.parquet"))) == 400
    scan.report(tmp_path / "j.html")


def test_joint_tests_do_not_depend_on_units_or_mixtures_of_traits(study):
    options = {"joint": True, "relationship": "centred"}
    one = gwas.scan("~ sex", study.genotypes, study.phenotypes, traits=["trait", "two"], **options)
    table = study.phenotypes.assign(
        trait=lambda t: 1000 * t["trait"] + 5 * t["two"], two=lambda t: 0.01 * t["two"] - 3
    )
    other = gwas.scan("~ sex", study.genotypes, table, traits=["trait", "two"], **options)
    for name in ("neg_log10_p_wald", "neg_log10_p_lrt"):
        np.testing.assert_allclose(other.tidy()[name], one.tidy()[name], atol=1e-4)


def test_joint_tests_without_relationship_are_those_of_multivariate_regression(study):
    scan = gwas.scan("~ sex", study.genotypes, study.phenotypes, traits=["trait", "two"],
                     joint=True, relationship=None)  # fmt: skip
    found = scan.tidy()
    p = study.phenotypes
    x = unpack(study.genotypes.read(0, 400).packed, 240).astype(float)[3]
    x = np.where(x < 0, x[x >= 0].mean(), x)
    W = np.column_stack([np.ones(240), p["sex"] == "male"]).astype(float)
    Y = p[["trait", "two"]].to_numpy()
    S = (Y - W @ np.linalg.lstsq(W, Y, rcond=None)[0]).T @ Y / 238
    X = np.column_stack([W, x])
    B = np.linalg.lstsq(X, Y, rcond=None)[0][2]
    known = B @ np.linalg.solve(S * np.linalg.inv(X.T @ X)[2, 2], B)
    assert found["p_wald"][3] == pytest.approx(stats.chi2.sf(known, 2), rel=1e-4)
    assert found["estimate_two"][3] == pytest.approx(B[1], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"joint": True}, ModelError, "at least two in traits="),
        ({"interaction": "agee"}, FormulaError, "did you mean 'age'"),
        ({"interaction": 3}, ModelError, "the name of a column"),
        ({"interaction": "population"}, (DataError, ModelError), "population"),
        ({"interaction": "age", "family": "binomial"}, DataError, "a binary trait is 0 and 1"),
    ],
)
def test_words_that_do_not_fit(study, options, error, said):
    with pytest.raises(error, match=said):
        gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, **options)


def test_traits_that_depend_on_each_other(study):
    table = study.phenotypes.assign(same=lambda t: 2 * t["trait"] + 1)
    with pytest.raises(DataError, match="one is a combination of the others"):
        gwas.scan("~ sex", study.genotypes, table, traits=["trait", "same"], joint=True)


# --- genetic correlations


def test_a_genetic_correlation_agrees_with_gemma(mice, agree):
    _, table, K = mice
    found = gwas.bivariate("~ 1", table, traits=["cd8", "mch"], relationship=K)
    rows = found.tidy("parameters").set_index("parameter")
    trace = rows["estimate"]["Vg1"] / 1.39482295
    call = "gwas.bivariate"
    for name, value in (("Vg12", -0.2257648), ("Vg2", 2.0820658)):
        agree(call, f"{name}, CD8 and MCH of mice", rows["estimate"][name] / trace, [value],
              peer=GEMMA, rtol=1e-4)  # fmt: skip
    for name, value in (("Ve1", 0.0206234), ("Ve12", 0.0166265), ("Ve2", 0.0266945)):
        agree(call, f"standard error of {name}, mice", rows["std_error"][name], [value],
              peer=GEMMA, rtol=0.03)  # fmt: skip
    row = found.tidy().iloc[0]
    assert row["conf_low"] < row["rg"] < row["conf_high"]
    assert row["p_one"] < 1e-10


def test_correlations_at_the_boundary():
    *_, model = made_up(k=2, seed=5)
    same = Several(
        model.d, model.W, np.column_stack([model.Y[:, 0], model.Y[:, 0] + 0.3 * model.Y[:, 1]])
    )
    pair = pair_of(same, 1.0)
    held = fit_several(same, reml=True, free=np.array([True, True, False]))
    assert pair.loglik >= held.loglik - 1e-8
    assert 0 <= pair.p_zero <= 1
    if pair.boundary:
        assert np.isnan(pair.std_error).all()


@pytest.mark.study
def test_intervals_of_genetic_correlations_cover():
    rng = np.random.default_rng(3)
    made = gwas.simulate(n=600, m=1500, family_size=4, causal=0, causal_h2=0.0, rng=2)
    K = gwas.grm(made.genotypes).matrix
    d, U = np.linalg.eigh(K)
    root = U * np.sqrt(np.maximum(d, 0))
    L = np.linalg.cholesky(np.array([[1.0, 0.4], [0.4, 1.0]]) / np.diag(K).mean())
    covered = 0
    for _ in range(200):
        Y = root @ rng.normal(size=(600, 2)) @ L.T + rng.normal(size=(600, 2))
        W = np.ones((600, 1))
        pair = pair_of(Several(np.maximum(d, 0), U.T @ W, U.T @ Y), float(d.mean()))
        z = 1.96 * pair.std_error[8] / (1 - pair.estimate[8] ** 2)
        covered += abs(np.arctanh(pair.estimate[8]) - np.arctanh(0.4)) < z
    assert 0.91 < covered / 200 < 0.985
