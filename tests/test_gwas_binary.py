"""`gwas.scan(family="binomial")`: scores, saddlepoint, Firth, the logistic mixed null."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from gwas_data import REFERENCE, unpack_mice
from scipy import optimize, stats
from scipy.special import expit, gammaln

import ranef
from ranef import gwas
from ranef.errors import DataError, ModelError
from ranef.fields.gwas import binary
from ranef.fields.gwas.arrays import open_genotypes
from ranef.fields.gwas.binary import firth, firth_about, saddlepoint
from ranef.fields.gwas.engine import Part
from ranef.fields.gwas.genotypes import unpack
from ranef.fields.gwas.logistic import centred, fit_logistic
from ranef.fields.gwas.tails import log10_chi2_tail


@pytest.fixture(scope="module")
def study():
    made = gwas.simulate(
        n=260, m=500, h2=0.5, family=0.1, causal=3, causal_h2=0.2, chromosomes=4, missing=0.0, rng=3
    )
    table = made.phenotypes
    table["ill"] = (table["trait"] > np.quantile(table["trait"], 0.7)).astype(int)
    return made


def scanned(study, **options):
    return gwas.scan(
        "ill ~ sex + age", study.genotypes, study.phenotypes, family="binomial", **options
    )


def parts_of(study):
    table = study.phenotypes
    y = table["ill"].to_numpy(float)
    W = np.column_stack([np.ones(len(y)), table["sex"] == "male", table["age"]]).astype(float)
    x = unpack(study.genotypes.read(0, 500).packed, 260).astype(float)
    return y, W, x


# --- numbers


def test_scores_are_those_of_the_logistic_model(study):
    """Rao's test of the last coefficient by the whole information matrix."""
    y, W, x = parts_of(study)
    found = scanned(study, relationship=None).tidy()
    null = optimize.minimize(
        lambda b: np.logaddexp(0, W @ b).sum() - y @ (W @ b), np.zeros(3), method="BFGS",
        jac=lambda b: W.T @ (expit(W @ b) - y), options={"gtol": 1e-10},
    ).x  # fmt: skip
    p = expit(W @ null)
    for k in range(0, 500, 50):
        X = np.column_stack([W, x[k]])
        U, information = X.T @ (y - p), X.T @ ((p * (1 - p))[:, None] * X)
        known = U[-1] ** 2 * np.linalg.inv(information)[-1, -1]
        assert found["neg_log10_p_score"][k] == pytest.approx(
            -float(log10_chi2_tail(np.array([known]))[0]), abs=1e-6
        )


def test_saddlepoint_against_every_outcome():
    rng = np.random.default_rng(5)
    mu = rng.uniform(0.1, 0.6, 16)
    g = rng.normal(size=16)
    outcomes = np.array(list(itertools.product([0, 1], repeat=16)), dtype=float)
    log = outcomes @ np.log(mu) + (1 - outcomes) @ np.log1p(-mu)
    sums = np.abs((outcomes - mu) @ g)
    order = np.argsort(-sums)
    beyond = np.cumsum(np.exp(log[order]))
    for level in (3e-2, 1e-3, 1e-4):
        q = sums[order][np.searchsorted(beyond, level)]
        known = np.log10(np.exp(log[sums >= q]).sum())
        found = saddlepoint(np.ones(16, dtype=bool), g, mu, float(q))
        assert found == pytest.approx(known, abs=0.04 * abs(known))


def test_saddlepoint_of_rare_carriers_against_the_binomial_distribution():
    """Twelve carriers among 40,000 with 1% cases: normal tails are wrong by many orders."""
    mu = np.full(40_000, 0.01)
    x = np.zeros(40_000)
    x[:12] = 1.0
    g = x - x.mean()
    k = np.arange(5, 13)
    pmf = gammaln(13) - gammaln(k + 1) - gammaln(13 - k)
    pmf = np.exp(pmf + k * np.log(0.01) + (12 - k) * np.log(0.99))
    q = 5 - 12 * 0.01
    exact = np.log10(pmf[0] / 2 + pmf[1:].sum())
    found = saddlepoint(x > 0, g, mu, q)
    assert found == pytest.approx(exact, abs=0.12)
    normal = q**2 / (12 * 0.01 * 0.99)
    assert normal > 150  # p about 1e-45 by the normal distribution, 4e-8 in truth
    x[:60] = 1.0
    g = x - x.mean()
    some, everyone = (
        saddlepoint(f, g, mu, 8 - 60 * 0.01) for f in (x > 0, np.ones(40_000, dtype=bool))
    )
    assert some == pytest.approx(everyone, abs=1e-3)
    pmf = stats.binom.pmf(np.arange(8, 61), 60, 0.01)
    assert some == pytest.approx(np.log10(pmf[0] / 2 + pmf[1:].sum()), abs=0.3)


def test_saddlepoint_at_the_end_of_what_is_possible():
    mu = np.full(30, 0.5)
    g = np.ones(30)
    everyone = np.ones(30, dtype=bool)
    assert saddlepoint(everyone, g, mu, 15.0) == pytest.approx(29 * np.log10(0.5), abs=1e-9)
    assert np.isfinite(saddlepoint(everyone, g, mu, 40.0))


def test_firth_is_the_maximum_of_its_criterion():
    rng = np.random.default_rng(8)
    X = np.column_stack([np.ones(40), rng.normal(size=40), rng.binomial(2, 0.2, 40)])
    y = (rng.random(40) < 0.3).astype(float)

    def criterion(b):
        p = expit(X @ b)
        information = X.T @ ((p * (1 - p))[:, None] * X)
        return np.logaddexp(0, X @ b).sum() - y @ (X @ b) - np.linalg.slogdet(information)[1] / 2

    tight = {"xatol": 1e-10, "fatol": 1e-13, "maxiter": 5000}
    best = optimize.minimize(criterion, np.zeros(3), method="Nelder-Mead", options=tight)
    zero = optimize.minimize(
        lambda b: criterion(np.append(b, 0.0)), np.zeros(2), method="Nelder-Mead", options=tight
    )
    found = firth(y, X)
    assert found.beta == pytest.approx(best.x[2], abs=1e-6)
    assert found.lrt == pytest.approx(2 * (zero.fun - best.fun), abs=1e-8)


def test_firth_of_one_coefficient_is_its_maximum():
    rng = np.random.default_rng(9)
    g = rng.normal(size=50)
    eta = rng.normal(size=50)
    y = (rng.random(50) < 0.4).astype(float)

    def criterion(b):
        p = expit(eta + g * b)
        held = np.logaddexp(0, eta + g * b).sum() - y @ (eta + g * b)
        return held - np.log(np.sum(g**2 * p * (1 - p))) / 2

    best = optimize.minimize_scalar(criterion, bounds=(-3, 3), options={"xatol": 1e-10})
    found = firth_about(y, eta, g)
    assert found.beta == pytest.approx(best.x, abs=1e-6)
    assert found.lrt == pytest.approx(2 * (criterion(0.0) - best.fun), abs=1e-8)


def test_firth_agrees_with_plink(tmp_path, agree):
    mice = open_genotypes(unpack_mice(tmp_path))
    cd8 = np.array([np.nan if v == "NA" else float(v) for v in mice.samples.phenotype])
    used = np.isfinite(cd8)
    y = (cd8[used] > 0.9).astype(float)
    z = (np.arange(1, 1941) * 7919 % 101 / 101)[used]
    known = pd.read_csv(REFERENCE / "mouse_firth.txt", sep="\t").iloc[::4]
    place = {name: k for k, name in enumerate(mice.variants.id)}
    ours, errors = [], []
    for row in known.itertuples():
        k = place[row.rs]
        x = unpack(mice.take([k]).packed, 1940)[0][used].astype(float)
        x = x if mice.variants.effect_allele[k] == row.allele else 2 - x
        fit = firth(y, np.column_stack([np.ones(len(y)), z, x]))
        ours.append(fit.beta)
        errors.append(fit.std_error)
    call = "gwas.scan(family='binomial', relationship=None)"
    agree(call, "log odds by Firth, mice", ours, known["log_odds"], peer="PLINK 2.0", atol=2e-4)
    agree(call, "their standard errors, mice", errors, known["se"], peer="PLINK 2.0", rtol=1e-4)


def test_logistic_mixed_null_solves_its_equations(study):
    y, W, _ = parts_of(study)
    K = centred(gwas.grm(study.genotypes).matrix.copy())
    null = fit_logistic(y, W, K, ("a", "b", "c"))
    assert null.tau > 0.1
    np.testing.assert_allclose(W.T @ (y - null.mu), 0, atol=1e-5 * np.abs(W).sum(axis=0).max())
    b = null.tau * K @ (y - null.mu)
    np.testing.assert_allclose(null.eta, W @ null.alpha + b, atol=1e-5)
    D = null.mu * (1 - null.mu)
    working = null.eta + (y - null.mu) / D

    def restricted(tau):
        V = np.diag(1 / D) + tau * K
        inverse = np.linalg.inv(V)
        cross = W.T @ inverse @ W
        P = inverse - inverse @ W @ np.linalg.solve(cross, W.T @ inverse)
        return -0.5 * (
            np.linalg.slogdet(V)[1] + np.linalg.slogdet(cross)[1] + working @ P @ working
        )

    best = optimize.minimize_scalar(
        lambda t: -restricted(t), bounds=(1e-3, 50), options={"xatol": 1e-9}
    ).x  # fmt: skip
    assert null.tau == pytest.approx(best, rel=1e-4)


def test_variances_of_scores_are_those_of_the_dense_projection(study):
    y, W, x = parts_of(study)
    K = centred(gwas.grm(study.genotypes).matrix.copy())
    null = fit_logistic(y, W, K.copy(), ("a", "b", "c"))
    V = np.diag(1 / null.weights) + null.tau * K
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ W @ np.linalg.solve(W.T @ inverse @ W, W.T @ inverse)
    known = np.einsum("bn,bn->b", x @ P, x)
    np.testing.assert_allclose(null.variance(x, null.root), known, rtol=1e-9)
    single = null.variance(x.astype(np.float32), null.root.astype(np.float32))
    np.testing.assert_allclose(single, known, rtol=2e-4)
    D = np.diag(null.weights)
    plain = D - D @ W @ np.linalg.solve(W.T @ D @ W, W.T @ D)
    assert null.ratio == pytest.approx(np.trace(P @ K) / np.trace(plain @ K), rel=1e-8)


def test_logistic_null_beside_the_laplace_fit():
    """Penalised quasi-likelihood is another criterion; with large families the two are near."""
    rng = np.random.default_rng(4)
    family = np.arange(600) % 12
    x = rng.normal(size=600)
    y = (rng.random(600) < expit(-0.5 + 0.7 * x + rng.normal(size=12)[family])).astype(float)
    table = pd.DataFrame({"y": y, "x": x, "family": family})
    fit = ranef.glmm("y ~ x + (1 | family)", table, family="binomial", reml=True)
    null = fit_logistic(
        y, np.column_stack([np.ones(600), x]), (family[:, None] == family).astype(float), ("1", "x")
    )
    assert null.tau == pytest.approx(float(fit.tidy("variance")["estimate"].iloc[0]) ** 2, rel=0.1)
    np.testing.assert_allclose(null.alpha, list(fit.coef), rtol=0.04)


def test_no_relationship_left_is_the_plain_model(study):
    """Identity in place of relatives' genotypes has no variance of its own to find."""
    rng = np.random.default_rng(1)
    table = study.phenotypes.assign(ill=rng.permutation(study.phenotypes["ill"]))
    plain = gwas.scan("ill ~ sex", study.genotypes, table, family="binomial", relationship=None)
    other = gwas.scan(
        "ill ~ sex", study.genotypes, table, family="binomial",
        relationship=(np.eye(260), list(study.genotypes.samples.iid)),
    )  # fmt: skip
    if other.glance()["boundary"][0]:
        np.testing.assert_allclose(
            other.tidy()["neg_log10_p_score"], plain.tidy()["neg_log10_p_score"], atol=1e-4
        )
    assert other.glance()["lambda_reml"][0] < 3


# --- the scan


def test_columns_counts_and_files(study, tmp_path):
    scan = scanned(study)
    table = scan.tidy()
    assert table.columns.tolist()[-6:] == [
        "n_cases", "n_controls", "ac_cases", "ac_controls", "neg_log10_p_spa", "status",
    ]  # fmt: skip
    y, _, x = parts_of(study)
    np.testing.assert_array_equal(table["n_cases"], np.full(500, int(y.sum())))
    np.testing.assert_allclose(table["ac_cases"], x @ y)
    np.testing.assert_allclose(table["ac_cases"] + table["ac_controls"], x.sum(axis=1))
    assert scan.top(1)["neg_log10_p_spa"][0] == table["neg_log10_p_spa"].max()
    assert "Logistic mixed model" in str(scan)
    assert "78 cases (value 1)" in str(scan)
    text = pd.read_csv(scan.save(tmp_path / "r.tsv"), sep="\t")
    np.testing.assert_allclose(text["neg_log_10_p_value"], table["neg_log10_p_spa"])
    plink = pd.read_csv(scan.save(tmp_path / "r.txt", format="plink2"), sep="\t")
    np.testing.assert_allclose(np.log(plink["OR"]), table["estimate"], atol=1e-12)
    with pytest.raises(ModelError, match="GEMMA's table"):
        scan.save(tmp_path / "g.txt", format="gemma")
    scan.report(tmp_path / "r.html")
    scan.plot.qq()


def test_codings_of_cases_and_order_change_nothing(study):
    known = scanned(study, relationship="centred", precision="double").tidy()
    table = study.phenotypes.sample(frac=1.0, random_state=1)
    table["ill"] = table["ill"] + 1
    other = gwas.scan(
        "ill ~ age + sex", study.genotypes, table, family="binomial", relationship="centred",
        precision="double",
    ).tidy()  # fmt: skip
    for name in ("estimate", "neg_log10_p_spa"):
        np.testing.assert_allclose(other[name], known[name], atol=2e-5)
    table["ill"] = table["ill"] == 2
    flags = gwas.scan("ill ~ age + sex", study.genotypes, table, family="binomial",
                      relationship="centred", precision="double").tidy()  # fmt: skip
    np.testing.assert_allclose(flags["estimate"], other["estimate"], atol=1e-12)
    single = scanned(study, relationship="centred").tidy()
    np.testing.assert_allclose(single["neg_log10_p_spa"], known["neg_log10_p_spa"], atol=1e-4)


def test_the_expected_ratio_is_near_each_variants_own(study):
    own = scanned(study, relationship="centred").tidy()["neg_log10_p_spa"]
    shared = scanned(study, relationship="centred", variance="null").tidy()["neg_log10_p_spa"]
    assert 0 < np.abs(own - shared).median() < 0.05


def test_no_carriers_among_cases_is_finite(study):
    """A variant that controls alone carry separates cases; so does one that cases alone carry."""
    y, _, x = parts_of(study)
    rng = np.random.default_rng(2)
    x = x.astype(int)
    x[0] = np.where(y == 0, rng.binomial(1, 0.2, 260), 0)
    x[1] = np.where(y == 1, rng.binomial(1, 0.3, 260), 0)
    G = gwas.from_array(x.T, samples=list(study.genotypes.samples.iid))
    table = study.phenotypes.drop(columns="FID")
    found = gwas.scan("ill ~ sex", G, table, family="binomial", relationship=None).tidy()
    row = found.iloc[0]
    assert row["ac_cases"] == 0
    assert row["estimate"] < -1.5
    assert np.isfinite(row["std_error"])
    assert 3 < row["neg_log10_p_spa"] < 8
    assert found["estimate"][1] > 3
    assert np.isfinite(found["neg_log10_p_spa"][1])


def test_parts_of_a_binary_scan_come_back_from_the_disk(study, tmp_path, monkeypatch):
    whole = scanned(study, resume=tmp_path / "parts", block=64)
    made = []
    monkeypatch.setattr(Part, "packed", lambda part: made.append(part) or b"")
    again = scanned(study, resume=tmp_path / "parts", block=64)
    assert not made
    pd.testing.assert_frame_equal(whole.tidy(), again.tidy())
    with pytest.raises(DataError, match="belong to another scan"):
        gwas.scan("ill ~ sex + age", study.genotypes, study.phenotypes, resume=tmp_path / "parts",
                  block=64)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(ill=t["ill"] * 3), "a binary trait is 0 and 1"),
        (lambda t: t.assign(ill=1), "no cases and controls"),
        (lambda t: t.assign(ill=np.arange(len(t)) % 3), "add '0' to na="),
        (lambda t: t.assign(ill=t["trait"]), "a binary trait is 0 and 1"),
        (
            lambda t: t.assign(age=t["ill"] * 2.0 - 7 + t["age"] / 200),
            "tell cases from controls without fail",
        ),
    ],
)
def test_traits_that_are_not_binary(study, change, said):
    with pytest.raises(DataError, match=said):
        gwas.scan(
            "ill ~ age", study.genotypes, change(study.phenotypes), family="binomial",
            relationship=None,
        )  # fmt: skip


def test_words_that_do_not_apply(study):
    with pytest.raises(ModelError, match="transform="):
        scanned(study, transform="inverse-normal")
    with pytest.raises(ModelError, match="family"):
        gwas.scan("ill ~ 1", study.genotypes, study.phenotypes, family="binomal")


def dropped(rng, families, m):
    """Minor alleles of families of two parents and two children, (m, 4 families), by gene drop."""
    p = np.exp(rng.uniform(np.log(0.004), np.log(0.05), (m, 1, 1)))
    parents = rng.random((2, 2, m, families), dtype=np.float32) < p[:, :, 0]
    pick = rng.integers(0, 2, (2, 2, m, families), dtype=np.int8).astype(bool)
    children = [
        [np.where(pick[child, parent], parents[parent, 0], parents[parent, 1]) for parent in (0, 1)]
        for child in (0, 1)
    ]
    people = [parents[0], parents[1], *children]
    return np.concatenate([one[0].astype(float) + one[1] for one in people], axis=1)


def type_one_error(rounds, m, seed=16):
    """Shares of null variants below some levels: by the saddlepoint, and by the normal score."""
    rng = np.random.default_rng(seed)
    family = np.tile(np.arange(500), 4)
    parent = np.arange(2000) < 1000
    K = np.where(family[:, None] == family, 0.5, 0.0)
    K[np.ix_(parent, parent)] = 0.0
    np.fill_diagonal(K, 1.0)
    L = np.linalg.cholesky(K)
    levels = (1e-3, 1e-4, 1e-5, 1e-6, 5e-8)
    counts = np.zeros((2, len(levels)), dtype=int)
    for _ in range(rounds):
        liability = np.sqrt(0.5) * (L @ rng.normal(size=2000) + rng.normal(size=2000))
        y = (liability > np.quantile(liability, 0.99)).astype(float)
        null = fit_logistic(y, np.ones((2000, 1)), centred(K.copy()), ("1",))
        for _ in range(m // 5000):
            x = dropped(rng, 500, 5000)
            x = x[x.sum(axis=1) > 0]
            found = binary.test_binary(null, x - x.mean(axis=1, keepdims=True), None, own=False)
            for k, level in enumerate(np.log10(levels)):
                counts[0, k] += int((found.log10_spa < level).sum())
                counts[1, k] += int((log10_chi2_tail(found.score) < level).sum())
    return levels, counts, rounds * m


@pytest.mark.study
def test_type_one_error_at_genome_wide_levels_with_one_case_in_a_hundred():
    """20 cases among 2,000 relatives, 40,000 rare variants without an effect: the saddlepoint
    holds the levels where the normal distribution exceeds them by orders of magnitude.
    """
    levels, (spa, score), total = type_one_error(rounds=4, m=10_000)
    for level, held, wrong in zip(levels, spa, score, strict=True):
        expected = level * total
        assert held <= 2.0 * expected + 4.0 * np.sqrt(2.0 * expected) + 1, (level, held, expected)
        assert wrong > 2.0 * expected
    assert score[-1] > 1000 * levels[-1] * total
