"""Sets of variants, tails of quadratic forms, and genomic values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef
from ranef import gwas
from ranef.errors import DataError, ModelError
from ranef.fields.gwas.genotypes import unpack
from ranef.fields.gwas.mixtures import log10_tail
from ranef.fields.gwas.setwise import RHOS, _root, _spectrum, combined, optimal

LN10 = np.log(10)


@pytest.fixture(scope="module")
def study():
    made = gwas.simulate(
        n=240, m=400, h2=0.4, causal=4, causal_h2=0.2, chromosomes=3, missing=0.0, rng=3
    )
    table = made.phenotypes
    table["ill"] = (table["trait"] > np.quantile(table["trait"], 0.75)).astype(int)
    return made


def weighted(study, rows):
    """Minor alleles of some variants, (k, n)."""
    x = unpack(study.genotypes.read(0, 400).packed, 240).astype(float)[rows]
    return np.where(x.mean(axis=1, keepdims=True) > 1, 2 - x, x)


# --- tails


@pytest.mark.parametrize("df", [1, 2, 5, 50])
def test_tails_of_equal_weights_are_chi_squared(df):
    for p in (0.999, 0.5, 0.05, 1e-4, 1e-12, 1e-100, 1e-250):
        q = stats.chi2.isf(p, df)
        known = stats.chi2.logsf(q, df) / LN10
        assert log10_tail(3.0 * q, np.full(df, 3.0)) == pytest.approx(known, rel=1e-10, abs=1e-12)


def test_tails_with_shifts_and_of_ratios():
    for shift in (0.1, 4.0, 50.0):
        for q in (1.0, 5.0, 60.0):
            known = stats.ncx2.logsf(q, 3, shift) / LN10
            found = log10_tail(q, np.ones(3), np.sqrt([shift, 0.0, 0.0]))
            assert found == pytest.approx(known, rel=1e-8, abs=1e-9)
    for f in (0.1, 1.0, 5.0, 50.0):
        weights = np.array([1 / 3, -f / 20])
        found = log10_tail(0.0, weights, None, np.array([3.0, 20.0]))
        assert found == pytest.approx(stats.f.logsf(f, 3, 20) / LN10, rel=1e-9)


def test_tails_with_a_large_shift_of_a_small_weight():
    """Its pole lies far to the right, and the line of integration keeps away from it."""
    weights, shifts = np.array([1.0, 1e-4]), np.array([0.5, 60.0])
    for q in (0.8, 4.0, 30.0, 300.0):
        nodes, each = np.polynomial.hermite_e.hermegauss(80)
        rest = np.maximum(q - 1e-4 * (nodes + 60.0) ** 2, 0.0)
        logs = stats.ncx2.logsf(rest, 1, 0.25)
        top = logs.max()
        known = (top + np.log(each @ np.exp(logs - top) / each.sum())) / LN10
        with np.errstate(all="raise", under="ignore"):
            assert log10_tail(q, weights, shifts) == pytest.approx(known, rel=1e-6)


def test_tails_of_unequal_weights_by_the_closed_form_of_pairs():
    """Weights that stand twice make sums of exponentials (hypoexponential)."""
    rates = 1 / (2 * np.array([1.0, 0.6, 0.25]))
    for q in (0.5, 5.0, 60.0, 500.0):
        terms = [np.exp(-r * q) * np.prod([o / (o - r) for o in rates if o != r]) for r in rates]
        found = log10_tail(q, np.repeat([1.0, 0.6, 0.25], 2))
        assert found == pytest.approx(np.log10(sum(terms)), rel=1e-9)


def test_tails_at_the_ends():
    assert log10_tail(-1.0, np.ones(2)) == 0.0
    assert log10_tail(1.0, -np.ones(2)) == -np.inf
    assert log10_tail(-2.0, -np.ones(2)) == pytest.approx(np.log10(1 - np.exp(-1)))


# --- combinations


def test_combination_of_p_values():
    p = np.array([0.2, 0.01, 0.7])
    w = np.array([1.0, 2.0, 3.0])
    known = stats.cauchy.sf(np.sum(w * np.tan((0.5 - p) * np.pi)) / w.sum())
    assert combined(np.log10(p), w) == pytest.approx(np.log10(known), rel=1e-9)
    assert combined(np.array([-500.0, -1.0]), np.ones(2)) == pytest.approx(-500 + np.log10(2))


def test_the_best_of_burden_and_skat_has_its_own_tail():
    """By 200,000 draws of the scores."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(8, 12))
    Phi = A @ A.T / 12 + 0.4
    S = rng.normal(size=(200_000, 8)) @ np.linalg.cholesky(Phi).T
    Q, b2 = (S**2).sum(axis=1), S.sum(axis=1) ** 2
    least = np.zeros(len(S))
    for rho in RHOS:
        values = _spectrum(_root(Phi), rho)
        q = (1 - rho) * Q + rho * b2
        grid = np.linspace(np.sqrt(q.max()) * 1e-4, np.sqrt(q.max()) * 1.01, 300)
        least = np.minimum(
            least, np.interp(np.sqrt(q), grid, [log10_tail(g * g, values) for g in grid])
        )
    for k in np.argsort(least)[[60, 600, 6000, 60_000]]:
        share = (least <= least[k]).mean()
        error = 4 * np.sqrt(share * (1 - share) / len(S)) / share / LN10
        assert optimal(S[k], Phi)[0] == pytest.approx(np.log10(share), abs=error + 1e-3)


def test_one_variant_has_one_p(study):
    name = study.genotypes.variants.id[3]
    row = gwas.gene_sets(
        "trait ~ sex", study.genotypes, study.phenotypes, sets={"one": [name]}, max_maf=0.5,
        relationship="centred",
    ).tidy().iloc[0]  # fmt: skip
    for test in ("skat", "acatv", "omnibus"):
        assert row[f"p_{test}"] == pytest.approx(row["p_burden"], rel=1e-8)
    assert row["p_skato"] == pytest.approx(row["p_burden"], rel=0.02)


# --- sets


def test_tests_without_relationship_are_those_of_regression(study):
    """The burden is a t test, and SKAT the ratio of quadratic forms, by draws of noise."""
    rows = np.arange(20, 28)
    names = study.genotypes.variants.id[rows].tolist()
    found = gwas.gene_sets(
        "trait ~ sex", study.genotypes, study.phenotypes, sets={"s": names}, max_maf=0.5,
        weights=(1, 1), relationship=None,
    ).tidy().iloc[0]  # fmt: skip
    G = weighted(study, rows)
    W = np.column_stack([np.ones(240), study.phenotypes["sex"] == "male"]).astype(float)
    y = study.phenotypes["trait"].to_numpy()
    X = np.column_stack([W, G.sum(axis=0)])
    beta, rest, *_ = np.linalg.lstsq(X, y, rcond=None)
    error = np.sqrt(rest[0] / 237 * np.linalg.inv(X.T @ X)[2, 2])
    assert found["p_burden"] == pytest.approx(2 * stats.t.sf(abs(beta[2] / error), 237), rel=1e-6)
    assert found["estimate"] == pytest.approx(beta[2], rel=1e-6)
    Qr = np.linalg.qr(W)[0]
    noise = np.random.default_rng(2).normal(size=(40_000, 240))
    noise -= noise @ Qr @ Qr.T
    r = y - Qr @ (Qr.T @ y)
    statistic = np.sum((noise @ G.T) ** 2, axis=1) / np.sum(noise**2, axis=1)
    share = np.mean(statistic >= np.sum((G @ r) ** 2) / np.sum(r**2))
    assert found["p_skat"] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 40_000))


def test_sets_of_a_binary_trait(study):
    names = study.genotypes.variants.id
    sets = {"causal": study.causal["variant"].tolist(), "other": names[40:52].tolist()}
    options = {"sets": sets, "max_maf": 0.5, "weights": (1, 1), "family": "binomial"}
    for relationship in (None, "centred"):
        found = gwas.gene_sets("ill ~ sex", study.genotypes, study.phenotypes,
                               relationship=relationship, **options)  # fmt: skip
        table = found.tidy().set_index("set")
        assert table.loc["causal", "p_skat"] < 0.05
        assert (table["status"] == "ok").all()
        assert "Logistic" in str(found)


def test_sets_are_read_from_names_tables_files_and_places(study, tmp_path):
    v = study.genotypes.variants
    names = v.id[:9].tolist()
    sets = {"a": names[:5], "b": names[5:]}
    frame = pd.DataFrame({"set": ["a"] * 5 + ["b"] * 4, "variant": names})
    frame.to_csv(tmp_path / "sets.txt", sep="\t", index=False)
    ends = [int(v.position[4]), int(v.position[8])]
    places = pd.DataFrame({"set": ["a", "b"], "chromosome": ["1", "1"],
                           "start": [0, ends[0] + 1], "end": ends})  # fmt: skip
    tables = [
        gwas.gene_sets("trait ~ sex", study.genotypes, study.phenotypes, sets=given, max_maf=0.5)
        .tidy()
        for given in (sets, frame, tmp_path / "sets.txt", places)
    ]  # fmt: skip
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


def test_sets_that_cannot_be_tested_have_a_reason(study):
    v = study.genotypes.variants
    found = gwas.gene_sets(
        "trait ~ sex", study.genotypes, study.phenotypes, max_maf=0.5,
        sets={"empty": [], "absent": ["rs0"], "across": [v.id[0], v.id[-1]], "fine": v.id[:4]},
    )  # fmt: skip
    status = found.tidy().set_index("set")["status"].to_dict()
    assert status == {
        "empty": "no_variants", "absent": "no_variants", "across": "chromosomes", "fine": "ok",
    }  # fmt: skip
    assert "1 are not in the genotypes" in " ".join(str(found).split())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sets": {"a": ["zz"]}}, DataError, "no set names a variant"),
        ({"sets": {"a": "zz"}}, ModelError, "is a list of names"),
        ({"sets": 3}, ModelError, "a mapping of names"),
        ({"sets": pd.DataFrame({"gene": ["a"], "variant": ["b"]})}, DataError, "has the columns"),
        ({"sets": {"a": ["rs1"]}, "weights": (1, -1)}, ModelError, "two positive"),
        ({"sets": {"a": ["rs1"]}, "max_maf": 0.0}, ModelError, "max_maf"),
        (
            {"sets": {"set": ["a"], "chromosome": ["1"], "start": [9], "end": [2]}},
            DataError, "before its start",
        ),
        (
            {"sets": {"set": ["a"], "chromosome": ["77"], "start": [1], "end": [2]}},
            DataError, "no variant lies",
        ),
    ],
)  # fmt: skip
def test_wrong_sets(study, options, error, said):
    with pytest.raises(error, match=said):
        gwas.gene_sets("trait ~ sex", study.genotypes, study.phenotypes, **options)


@pytest.mark.study
def test_p_values_of_sets_are_uniform_without_association():
    rng = np.random.default_rng(4)
    made = gwas.simulate(n=300, m=300, family_size=4, causal=0, causal_h2=0.0, missing=0.0,
                         chromosomes=1, rng=5)  # fmt: skip
    K = gwas.grm(made.genotypes).matrix
    root = np.linalg.cholesky(K + 1e-6 * np.eye(300))
    sets = {f"s{k}": made.genotypes.variants.id[10 * k : 10 * k + 8] for k in range(30)}
    for family in ("gaussian", "binomial"):
        ps = {test: [] for test in ("burden", "skat", "skato", "acatv", "omnibus")}
        for _ in range(40):
            y = root @ rng.normal(size=300) + rng.normal(size=300)
            y = y if family == "gaussian" else (y > np.quantile(y, 0.8)).astype(int)
            table = made.phenotypes.assign(y=y)
            found = gwas.gene_sets("y ~ 1", made.genotypes, table, sets=sets, max_maf=0.5,
                                   relationship="centred", family=family).tidy()  # fmt: skip
            for test, values in ps.items():
                values += found[f"p_{test}"].tolist()
        for test, values in ps.items():
            for level in (0.05, 0.01):
                share = np.mean(np.array(values) < level)
                assert share < level + 5 * np.sqrt(level / 1200), (family, test, level, share)


# --- genomic values


def test_genomic_values_are_those_of_the_mixed_model(study):
    K = gwas.grm(study.genotypes)
    found = gwas.gblup("trait ~ sex", study.phenotypes, relationship=K).tidy()
    fit = ranef.lmm("trait ~ sex + kernel(1 | IID, K)", study.phenotypes, kernels={"K": K})
    known = fit.tidy("random").set_index("level").loc[found["IID"]]
    np.testing.assert_allclose(found["estimate"], known["estimate"], atol=1e-4)
    np.testing.assert_allclose(found["std_error"], known["std_error"], rtol=1e-3)


def test_new_samples_are_predicted_by_their_relatives(study):
    K = gwas.grm(study.genotypes)
    table = study.phenotypes.copy()
    table.loc[table.index[200:], "trait"] = np.nan
    answer = gwas.gblup("trait ~ sex", table.iloc[:230], relationship=K)
    found = answer.tidy()
    assert found["observed"].sum() == 200
    W = np.column_stack([np.ones(200), table["sex"][:200] == "male"]).astype(float)
    y = table["trait"].to_numpy()[:200]
    M = K.matrix - K.matrix[:, :200].mean(axis=1, keepdims=True) - K.matrix[:200].mean(axis=0)
    M = M + K.matrix[:200, :200].mean()
    su = answer.fit.sigma2 * answer.fit.lambda_reml
    V = su * M[:200, :200] + answer.fit.sigma2 * np.eye(200)
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ W @ np.linalg.solve(W.T @ inverse @ W, W.T @ inverse)
    C = su * M[:, :200]
    np.testing.assert_allclose(found["estimate"], C @ P @ y, atol=1e-8)
    error = np.sqrt(np.maximum(su * np.diag(M) - np.einsum("ij,jk,ik->i", C, P, C), 0))
    np.testing.assert_allclose(found["std_error"], error, rtol=1e-6)
    new = found[~found["observed"]]
    assert new["reliability"].mean() < found[found["observed"]]["reliability"].mean()
    truth = study.phenotypes["trait"].to_numpy()[200:]
    assert np.corrcoef(new["estimate"], truth)[0, 1] > 0.1
    assert answer.glance()["n_new"].tolist() == [40]


def test_no_share_of_variance_predicts_nothing(study):
    K = gwas.grm(study.genotypes)
    for seed in range(20):
        table = study.phenotypes.assign(trait=np.random.default_rng(seed).normal(size=240))
        answer = gwas.gblup("trait ~ 1", table, relationship=K)
        if answer.fit.boundary:
            assert (answer.tidy()["estimate"] == 0).all()
            assert (answer.tidy()["reliability"] == 0).all()
            return
    raise AssertionError("no boundary in twenty draws")
