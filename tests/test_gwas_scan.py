"""`gwas.scan`: the mice beside GEMMA, what must not change a p value, options, files."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
from gwas_data import GEMMA, gemma_table, random_calls, unpack_mice, write_files

from ranef import gwas
from ranef.errors import DataError, DataWarning, ModelError
from ranef.fields.gwas.engine import Part
from ranef.fields.gwas.genotypes import unpack

COLUMNS = [
    "trait", "chromosome", "position", "variant", "effect_allele", "other_allele", "n", "n_missing",
    "frequency", "info", "estimate", "std_error", "df", "p_wald", "p_lrt", "p_score",
    "neg_log10_p_wald", "neg_log10_p_lrt", "neg_log10_p_score", "lambda_reml", "lambda_ml",
    "status",
]  # fmt: skip
LOGS = ["neg_log10_p_wald", "neg_log10_p_lrt", "neg_log10_p_score"]


@pytest.fixture(scope="module")
def mice(tmp_path_factory):
    return unpack_mice(tmp_path_factory.mktemp("mice"))


@pytest.fixture(scope="module")
def cd8(mice):
    return gwas.scan("phenotype ~ 1", mice, relationship="centred", precision="double")


@pytest.fixture(scope="module")
def study():
    return gwas.simulate(n=220, m=700, causal=3, causal_h2=0.3, h2=0.3, chromosomes=5, rng=2)


@pytest.fixture(scope="module")
def plain(study):
    return gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes)


def rows_tested(scan):
    table = scan.tidy()
    return table[table.status == "ok"].reset_index(drop=True)


def calls_of(study):
    """Copies at all variants, (m, n), missing ones at the mean."""
    x = unpack(study.genotypes.read(0, 700).packed, 220).astype(float)
    x[x < 0] = np.nan
    return np.where(np.isnan(x), np.nanmean(x, axis=1, keepdims=True), x)


# --- the mice


def test_mice_agree_with_gemma(cd8, agree):
    known, found = gemma_table(), rows_tested(cd8)
    assert found["variant"].tolist() == known["rs"].tolist()
    call = "gwas.scan(relationship='centred')"
    for test, atol in (("wald", 3e-5), ("lrt", 1e-5), ("score", 5e-5)):
        agree(
            call, f"log10 p ({test}) of 10,768 variants, mice, CD8", -found[f"neg_log10_p_{test}"],
            np.log10(known[f"p_{test}"]), peer=GEMMA, atol=atol,
        )  # fmt: skip
    agree(
        call, "standard errors, mice, CD8", found["std_error"], known["se"], peer=GEMMA, rtol=2e-5
    )
    # next to zero an estimate moves with lambda, at which GEMMA stops 1e-7 early: at its lambda
    # long double arithmetic gives its estimate of rs13478853 within 1.2e-6, at the optimum ours
    sure = (np.abs(known["beta"]) > 1e-3 * known["se"]).to_numpy()
    assert sure.sum() >= len(known) - 20
    agree(
        call, "estimates of 10,754 variants, mice, CD8", found["estimate"][sure],
        known["beta"][sure], peer=GEMMA, rtol=2e-5,
    )  # fmt: skip
    assert found.set_index("variant")["estimate"]["rs13478853"] == pytest.approx(
        1.4606552367e-05, rel=2e-6
    )
    agree(
        call, "lambda (REML), mice", found["lambda_reml"], known["l_remle"], peer=GEMMA, rtol=2e-5
    )
    agree(call, "allele frequencies, mice", found["frequency"], known["af"], peer=GEMMA, atol=6e-4)


def test_null_model_of_the_mice(cd8, agree):
    glance = cd8.glance()
    call = "gwas.scan(relationship='centred')"
    assert glance["n"].tolist() == [1410]
    assert glance["n_tested"].tolist() == [10768]
    agree(call, "share of variance, mice", glance["pve"], [0.609672], peer=GEMMA, atol=1e-6)
    agree(call, "its standard error, mice", glance["pve_se"], [0.032779], peer=GEMMA, atol=1e-6)
    gemma = glance["loglik_reml"] + 0.5 * np.log(1410)  # GEMMA adds log|X'X| / 2
    agree(call, "restricted log-likelihood, mice", gemma, [-1584.074], peer=GEMMA, atol=1e-3)
    top = cd8.top(1)
    assert top["variant"].tolist() == ["mCV22965443"]
    agree(call, "smallest p, mice", top["p_wald"], [2.577727e-17], peer=GEMMA, rtol=7e-5)


def test_single_precision_stays_close_to_gemma(mice, cd8):
    known = gemma_table()
    found = rows_tested(gwas.scan("phenotype ~ 1", mice, relationship="centred"))
    np.testing.assert_allclose(found["estimate"], known["beta"], rtol=3e-5)
    np.testing.assert_allclose(found["std_error"], known["se"], rtol=2e-5)
    double = rows_tested(cd8)
    apart = np.abs(found["estimate"] - double["estimate"])
    assert (apart < 4e-6 * np.abs(double["estimate"]) + 1e-8 * double["std_error"]).all()
    for test, atol in (("wald", 3e-5), ("lrt", 5e-5), ("score", 5e-5)):
        gap = np.abs(-found[f"neg_log10_p_{test}"] - np.log10(known[f"p_{test}"]))
        assert gap.max() < atol


def test_one_variance_ratio_for_all_understates_strong_effects(mice, cd8):
    shared = gwas.scan("phenotype ~ 1", mice, relationship="centred", variance="null")
    gap = rows_tested(cd8)["neg_log10_p_wald"] - rows_tested(shared)["neg_log10_p_wald"]
    assert 0.81 < gap.max() < 0.83
    assert gap.min() > -0.01


def test_filters_of_the_mice(cd8):
    filters = cd8.filters.set_index("reason")["n"]
    assert filters.to_dict() == {"ok": 10768, "monomorphic": 1234, "maf": 224}
    samples = cd8.samples
    assert dict(zip(samples["reason"], samples["n"], strict=True)) == {
        "samples in the genotypes": 1940, "missing phenotype": 530, "analysed": 1410,
    }  # fmt: skip


# --- what a scan gives


def test_columns(plain, study):
    table = plain.tidy()
    assert table.columns.tolist() == COLUMNS
    assert len(table) == 700
    assert plain.glance().columns.tolist() == [
        "trait", "n", "n_tested", "pve", "pve_se", "loglik_reml", "loglik_ml", "lambda_reml",
        "lambda_gc", "boundary",
    ]  # fmt: skip
    assert "leave one chromosome out" in str(plain)
    assert "relationship='centred' gives GEMMA's numbers" in str(plain).replace("\n", " ")


def test_scale_shift_and_order_change_no_p(plain, study):
    rng = np.random.default_rng(1)
    table = study.phenotypes.sample(frac=1.0, random_state=3)
    table["trait"] = 1e4 * table["trait"] - 3e5
    table["age"] = table["age"] * 1e-3
    other = gwas.scan("trait ~ age + sex", study.genotypes, table)
    for name in LOGS:
        np.testing.assert_allclose(rows_tested(other)[name], rows_tested(plain)[name], atol=1e-4)
    scaled = 1e4 * rows_tested(plain)["estimate"]
    np.testing.assert_allclose(rows_tested(other)["estimate"], scaled, rtol=2e-3, atol=1.0)
    order = rng.permutation(220)
    calls = study.genotypes.read(0, 700)
    held = unpack(calls.packed, 220)
    v = study.genotypes.variants
    moved = gwas.from_array(
        held.T[order],
        samples={"IID": [study.genotypes.samples.iid[k] for k in order]},
        variants={"variant": v.id.tolist(), "chromosome": v.chromosome.tolist(),
                  "position": v.position},
    )  # fmt: skip
    third = gwas.scan("trait ~ sex + age", moved, study.phenotypes.drop(columns="FID"),
                      precision="double")  # fmt: skip
    first = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, precision="double")
    for name in LOGS:
        np.testing.assert_allclose(rows_tested(third)[name], rows_tested(first)[name], atol=1e-7)


def test_least_squares_is_that_of_the_textbook(study):
    scan = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, relationship=None)
    found = rows_tested(scan)
    held = unpack(study.genotypes.read(0, 700).packed, 220).astype(float)
    p = study.phenotypes
    for name in found["variant"][:5]:
        x = held[np.flatnonzero(study.genotypes.variants.id == name)[0]]
        x = np.where(x < 0, x[x >= 0].mean(), x)
        X = np.column_stack([np.ones(220), p["sex"] == "male", p["age"], x])
        beta, rest, *_ = np.linalg.lstsq(X, p["trait"].to_numpy(), rcond=None)
        row = found[found.variant == name].iloc[0]
        assert row["estimate"] == pytest.approx(beta[-1], rel=1e-4, abs=1e-6)
        error = np.sqrt(rest[0] / 216 * np.linalg.inv(X.T @ X)[-1, -1])
        assert row["std_error"] == pytest.approx(error, rel=1e-4)
    assert scan.glance()["pve"][0] == 0


def test_leaving_a_chromosome_out_is_the_matrix_of_the_others(study, plain):
    K = gwas.grm(study.genotypes)
    own = gwas.scan(
        "trait ~ sex + age", study.genotypes, study.phenotypes, relationship=K.without("3"),
        chromosomes="3",
    )  # fmt: skip
    here = rows_tested(plain)
    here = here[here.chromosome == "3"].reset_index(drop=True)
    np.testing.assert_allclose(
        rows_tested(own)["neg_log10_p_wald"], here["neg_log10_p_wald"], atol=2e-5
    )
    others = np.flatnonzero(study.genotypes.variants.chromosome != "3")
    part = study.genotypes.take(others)
    v = study.genotypes.variants
    rest = gwas.from_array(
        unpack(part.packed, 220).T, samples=list(study.genotypes.samples.iid),
        variants={"variant": v.id[others].tolist(), "chromosome": v.chromosome[others].tolist()},
    )  # fmt: skip
    np.testing.assert_allclose(gwas.grm(rest).matrix, K.without("3").matrix, atol=1e-10)


def test_matrices_of_any_kind_give_the_same(study, tmp_path):
    K = gwas.grm(study.genotypes)
    names = list(K.iid)
    shuffled = np.random.default_rng(1).permutation(len(names))
    frame = pd.DataFrame(K.matrix, names, names).iloc[shuffled, shuffled[::-1]]
    given = [
        K, frame, (K.matrix, names), K.save(tmp_path / "K", format="plink2"),
        K.save(tmp_path / "K", format="gemma"), K.save(tmp_path / "K", format="gcta"),
    ]  # fmt: skip
    scans = [
        gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, relationship=k, chromosomes="1")
        for k in given
    ]
    for scan in scans[1:]:
        atol = 2e-5
        np.testing.assert_allclose(
            rows_tested(scan)["neg_log10_p_wald"],
            rows_tested(scans[0])["neg_log10_p_wald"],
            atol=atol,
        )


def test_kinds_of_matrices(study):
    held = unpack(study.genotypes.read(0, 700).packed, 220).astype(float)
    x = np.where(held < 0, np.nan, held)
    mean = np.nanmean(x, axis=1, keepdims=True)
    p = mean[:, 0] / 2
    good = (np.minimum(p, 1 - p) >= 0.01) & (np.isnan(x).mean(axis=1) <= 0.05)
    x = (np.where(np.isnan(x), mean, x) - mean)[good]
    p = p[good]
    np.testing.assert_allclose(gwas.grm(study.genotypes).matrix, x.T @ x / len(x), atol=1e-12)
    z = x / x.std(axis=1, keepdims=True)
    standardised = gwas.grm(study.genotypes, kind="standardised").matrix
    np.testing.assert_allclose(standardised, z.T @ z / len(z), atol=1e-12)
    w = x / np.sqrt(2 * p * (1 - p))[:, None]
    np.testing.assert_allclose(
        gwas.grm(study.genotypes, alpha=-1).matrix, w.T @ w / len(w), atol=1e-12
    )


def test_components_are_eigenvectors(study):
    found = gwas.pca(study.genotypes, n=3)
    K = gwas.grm(study.genotypes, kind="standardised").matrix
    np.testing.assert_allclose(K @ found.scores, found.scores * found.eigenvalues, atol=1e-8)
    assert found.tidy("eigenvalues")["share"].is_monotonic_decreasing
    scan = gwas.scan(
        "trait ~ PC1 + PC2", study.genotypes, study.phenotypes, covariates=found.tidy(),
        relationship=None,
    )  # fmt: skip
    assert scan.only().trait.names == ("(Intercept)", "PC1", "PC2")


def test_traits_in_turn_are_traits_alone(study):
    table = study.phenotypes.copy()
    table["second"] = table["trait"] ** 2
    table["holed"] = table["trait"].where(np.arange(220) % 7 > 0)
    table["still"] = 3.0
    with pytest.warns(DataWarning, match="'still' was not analysed"):
        scan = gwas.scan(
            "~ sex", study.genotypes, table, traits=["trait", "holed", "still", "second"]
        )
    assert list(scan.failed) == ["still"]
    assert scan.glance()["trait"].tolist() == ["trait", "holed", "second"]
    assert "still was not analysed" in str(scan)
    for name in ("trait", "holed", "second"):
        alone = gwas.scan(f"{name} ~ sex", study.genotypes, table, relationship="centred")
        together = gwas.scan("~ sex", study.genotypes, table.drop(columns="still"),
                             traits=[name], relationship="centred")  # fmt: skip
        np.testing.assert_array_equal(rows_tested(alone)[LOGS], rows_tested(together)[LOGS])
    alone = gwas.scan("second ~ sex", study.genotypes, table)
    whole = scan.tidy()
    mine = whole[(whole.trait == "second") & (whole.status == "ok")]
    np.testing.assert_allclose(
        mine["neg_log10_p_wald"], rows_tested(alone)["neg_log10_p_wald"], atol=1e-6
    )


def test_conditioning_on_a_variant_takes_its_signal(study, plain):
    top = plain.top(1)["variant"][0]
    after = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, given=top)
    table = after.tidy().set_index("variant")
    assert table.loc[top, "status"] == "excluded"
    before = plain.tidy().set_index("variant")
    x = calls_of(study)
    place = int(np.flatnonzero(study.genotypes.variants.id == top)[0])
    linked = np.array([np.corrcoef(x[place], row)[0, 1] ** 2 for row in x])
    linked[place] = 0
    near = study.genotypes.variants.id[np.argmax(linked)]
    assert table.loc[near, "neg_log10_p_wald"] < before.loc[near, "neg_log10_p_wald"]
    assert top in after.only().trait.names


def test_ranks_as_normal_scores(study):
    table = study.phenotypes.copy()
    table["wild"] = np.exp(5 * table["trait"])
    options = {"transform": "inverse-normal", "relationship": "centred"}
    one = gwas.scan("wild ~ sex", study.genotypes, table, **options)
    other = gwas.scan("trait ~ sex", study.genotypes, table, **options)
    np.testing.assert_array_equal(rows_tested(one)[LOGS], rows_tested(other)[LOGS])
    assert "normal scores" in str(one)


@pytest.mark.parametrize("effect", ["dominant", "recessive"])
def test_other_effects(study, effect):
    scan = gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, effect=effect,
                     relationship=None)  # fmt: skip
    found = rows_tested(scan).iloc[0]
    place = np.flatnonzero(study.genotypes.variants.id == found["variant"])
    x = unpack(study.genotypes.take(place).packed, 220)[0].astype(float)
    coded = (x >= 1 if effect == "dominant" else x == 2).astype(float)
    coded[x < 0] = coded[x >= 0].mean()
    X = np.column_stack([np.ones(220), study.phenotypes["sex"] == "male", coded])
    beta = np.linalg.lstsq(X, study.phenotypes["trait"].to_numpy(), rcond=None)[0]
    assert found["estimate"] == pytest.approx(beta[-1], rel=1e-4)


def test_threads_and_blocks_change_nothing(study, plain):
    for jobs in (1, 3):
        again = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, n_jobs=jobs)
        pd.testing.assert_frame_equal(again.tidy(), plain.tidy())
    small = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, block=64)
    np.testing.assert_allclose(rows_tested(small)[LOGS], rows_tested(plain)[LOGS], atol=1e-4)


def test_a_stopped_scan_goes_on_to_the_same_bytes(study, tmp_path, monkeypatch):
    def run(folder):
        return gwas.scan(
            "trait ~ sex + age",
            study.genotypes,
            study.phenotypes,
            resume=folder,
            block=64,
            n_jobs=1,
        )

    whole = run(tmp_path / "whole").save(tmp_path / "whole.parquet").read_bytes()
    parts = sorted((tmp_path / "whole").glob("part-*"))
    assert len(parts) > 8
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    for path in sorted((tmp_path / "half").glob("part-*"))[::2]:
        path.unlink()
    broken = sorted((tmp_path / "half").glob("part-*"))[0]
    broken.write_bytes(broken.read_bytes()[:100])  # as by a machine that went down
    made = []
    usual = Part.packed

    def counted(part):
        made.append(part)
        return usual(part)

    monkeypatch.setattr(Part, "packed", counted)
    again = run(tmp_path / "half").save(tmp_path / "half.parquet").read_bytes()
    assert again == whole
    assert len(made) == len(parts[::2]) + 1
    with pytest.raises(DataError, match="belong to another scan"):
        gwas.scan(
            "trait ~ sex", study.genotypes, study.phenotypes, resume=tmp_path / "half", block=64
        )


def test_sexes_chromosomes_and_names_of_any_kind(tmp_path):
    calls = random_calls(24, 60, 4, missing=0.0)
    sex = ["1", "2"] * 30
    of = ["chrI"] * 8 + ["scaffold_9"] * 8 + ["X"] * 8
    males = np.arange(60) % 2 == 0
    calls[16:, males] = np.where(calls[16:, males] == 1, 2, calls[16:, males])
    prefix = write_files(tmp_path, calls=calls, sex=sex, chromosome=of)
    scan = gwas.scan("phenotype ~ 1", prefix)
    assert (scan.tidy()["status"] == "ok").all()
    said = " ".join(str(scan).split())
    assert "On X the 30 males count 0 or 2 copies" in said
    table = scan.tidy()
    x = table[table.chromosome == "X"].iloc[0]
    copies = calls[16, ~males].sum() + calls[16, males].sum() / 2
    assert x["frequency"] == pytest.approx(copies / (2 * 30 + 30))


def test_numbered_chromosomes_whose_males_are_heterozygous_are_ordinary(tmp_path):
    calls = random_calls(24, 60, 5, missing=0.0)
    prefix = write_files(
        tmp_path, calls=calls, sex=["1", "2"] * 30, chromosome=["1"] * 12 + ["23"] * 12
    )
    scan = gwas.scan("phenotype ~ 1", prefix)
    assert (scan.tidy()["n_missing"] == 0).all()
    assert "taken for ordinary chromosomes" in " ".join(str(scan).split())


def test_clumps_are_those_of_the_definition(study):
    scan = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes)
    found = scan.clump(p1=1e-2, p2=0.2, r2=0.2, kb=500)
    assert found["neg_log10_p_wald"].is_monotonic_decreasing
    v = study.genotypes.variants
    x = calls_of(study)
    place = {name: k for k, name in enumerate(v.id)}
    taken = set()
    for row in found.itertuples():
        lead = place[row.variant]
        members = [place[name] for name in row.clumped.split(",") if name]
        assert len(members) == row.n_clumped
        for k in members:
            assert v.chromosome[k] == v.chromosome[lead]
            assert abs(v.position[k] - v.position[lead]) <= 500_000
            assert np.corrcoef(x[k], x[lead])[0, 1] ** 2 >= 0.2
        assert not taken & {lead, *members}
        taken |= {lead, *members}


# --- files


@pytest.mark.parametrize(
    ("written", "catalogued"),
    [
        (["1", "23", "24", "25", "26"], ["1", "23", "24", "23", "25"]),
        (["01", "X", "Y", "XY", "MT"], ["1", "23", "24", "23", "25"]),
        (["chr1", "chrX", "PAR1", "PAR2", "chrM"], ["1", "23", "23", "23", "25"]),
        (["1", "25", "26", "27", "chrUn"], ["1", "25", "26", "27", "chrUn"]),
    ],
)
def test_chromosomes_of_the_catalogue(tmp_path, written, catalogued):
    """PLINK's 25 and 26 are the part that X and Y share, and MT; the catalogue's 25 is MT."""
    calls = random_calls(10, 40, 8, missing=0.0) // 2 * 2  # no male is heterozygous on X
    prefix = write_files(tmp_path, calls=calls, chromosome=[w for w in written for _ in (0, 1)],
                         sex=["1", "2"] * 20)  # fmt: skip
    found = gwas.scan("phenotype ~ 1", prefix, relationship=None, min_maf=0, max_missing=1)
    table = pd.read_csv(found.save(tmp_path / "a.tsv"), sep="\t", dtype=str)
    assert list(dict.fromkeys(table["chromosome"])) == list(dict.fromkeys(catalogued))


def test_files_in_the_formats_of_other_programs(plain, tmp_path):
    known = rows_tested(plain)
    ssf = pd.read_csv(plain.save(tmp_path / "a.tsv"), sep="\t")
    assert ssf.columns.tolist()[:8] == [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta",
        "standard_error", "effect_allele_frequency", "neg_log_10_p_value",
    ]  # fmt: skip
    np.testing.assert_array_equal(ssf["beta"], known["estimate"])
    text = (tmp_path / "a.tsv-meta.yaml").read_text()
    assert 'file_type: "GWAS-SSF v1.0"' in text
    import hashlib

    assert hashlib.md5((tmp_path / "a.tsv").read_bytes()).hexdigest() in text
    gemma = pd.read_csv(plain.save(tmp_path / "b.txt", format="gemma"), sep="\t")
    np.testing.assert_array_equal(gemma["p_lrt"], known["p_lrt"])
    assert gemma.columns[0] == "chr"
    regenie = pd.read_csv(plain.save(tmp_path / "c.gz", format="regenie"), sep="\t")
    assert gzip.decompress((tmp_path / "c.gz").read_bytes()).startswith(b"CHROM\tGENPOS")
    np.testing.assert_array_equal(regenie["LOG10P"], known["neg_log10_p_wald"])
    plink = pd.read_csv(plain.save(tmp_path / "d", format="plink2"), sep="\t")
    assert plink.columns[0] == "#CHROM"
    whole = pd.read_parquet(plain.save(tmp_path / "e.parquet"))
    assert whole.columns.tolist() == COLUMNS
    assert len(whole) == 700


def test_likelihood_with_the_variant_is_gemmas(mice, cd8, tmp_path):
    written = pd.read_csv(cd8.save(tmp_path / "x", format="gemma"), sep="\t")
    np.testing.assert_allclose(written["logl_H1"], gemma_table()["logl_H1"], atol=2e-3)


def test_pictures_and_report(plain, study, tmp_path):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    for draw in (plain.plot.qq, plain.plot.manhattan):
        assert draw().get_title(loc="left") or draw().get_title()
    other = gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, relationship=None)
    plain.plot.miami(other=other)
    with pytest.raises(ModelError, match="shows two traits"):
        plain.plot.miami()
    plt.close("all")
    page = plain.report(tmp_path / "r.html", call="ranef gwas scan ...").read_text()
    for word in ("Along the genome", "Inflation", "ranef gwas scan ...", "lambda_GC", "aria-label"):
        assert word in page


def test_memory_is_said_first(study):
    with pytest.raises(ModelError, match="needs about"):
        gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, memory="1MB")
    scan = gwas.scan("trait ~ sex", study.genotypes, study.phenotypes, memory="2GB",
                     relationship="centred")  # fmt: skip
    assert "forecast to need" in str(scan)


def test_inflation_goes_with_the_relationship():
    """Families that share an environment: inflated by least squares, calibrated by the model."""
    study = gwas.simulate(
        n=600, m=3000, family_size=6, populations=2, h2=0.5, family=0.1, structure=0.15,
        causal=0, causal_h2=0.0, rng=8,
    )  # fmt: skip
    before = gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, relationship=None)
    after = gwas.scan(
        "trait ~ sex + age", study.genotypes, study.phenotypes, relationship="centred"
    )
    assert before.glance()["lambda_gc"][0] > 1.5
    assert 0.85 < after.glance()["lambda_gc"][0] < 1.12


def test_a_given_variant_is_filled_by_the_mean_of_the_analysed(tmp_path):
    calls = random_calls(12, 60, 5, missing=0.1)
    prefix = write_files(tmp_path, calls=calls)
    names = [f"S{k:03d}" for k in range(60)]
    y = np.random.default_rng(3).normal(size=60)
    y[:25] = np.nan
    found = gwas.scan("y ~ 1", prefix, {"IID": names, "y": y}, relationship=None, given="rs2",
                      max_missing=1.0, precision="double").tidy()  # fmt: skip

    def filled(k):
        x = np.where(calls[k, 25:] < 0, np.nan, calls[k, 25:].astype(float))
        return np.where(np.isnan(x), np.nanmean(x), x)

    for k in (0, 5, 9):
        X = np.column_stack([np.ones(35), filled(2), filled(k)])
        beta = np.linalg.lstsq(X, y[25:], rcond=None)[0]
        assert found["estimate"][k] == pytest.approx(beta[-1], rel=1e-9)
    with pytest.raises(DataError, match="0 variants are named '3'"):
        gwas.scan("y ~ 1", prefix, {"IID": names, "y": y}, relationship=None, given=3)
    calls[2, 25:] = -1
    gone = write_files(tmp_path, "gone", calls=calls)
    with pytest.raises(DataError, match="no analysed sample has a value of the variant 'rs2'"):
        gwas.scan("y ~ 1", gone, {"IID": names, "y": y}, relationship=None, given="rs2")
