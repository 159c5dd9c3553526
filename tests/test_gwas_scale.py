"""Close kin, two steps, clients, and scans that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ranef import gwas
from ranef.cli import main
from ranef.errors import DataError, FileError, ModelError
from ranef.fields.gwas import twostep
from ranef.fields.gwas.kinblocks import blocks_of, eigen_by_blocks
from ranef.fields.gwas.ridge import FOLDS, SHARES, first_level, folds_of, second_level

TESTS = ["estimate", "std_error", "neg_log10_p_wald"]


@pytest.fixture(scope="module")
def study():
    return gwas.simulate(n=240, m=3000, family_size=4, h2=0.5, causal=3, causal_h2=0.2,
                         chromosomes=4, rng=3)  # fmt: skip


@pytest.fixture(scope="module")
def kin(study):
    return gwas.sparse_grm(study.genotypes, cut=0.2)


def scanned(study, **more):
    return gwas.scan("trait ~ sex + age", study.genotypes, study.phenotypes, **more)


# --- close kin


def test_kin_are_the_large_values_of_the_matrix(study, kin, monkeypatch):
    K = gwas.grm(study.genotypes, alpha=-1)
    np.fill_diagonal(far := K.matrix.copy(), 1.0)
    twin = np.where(far >= 0.2, K.matrix, 0.0)
    np.testing.assert_allclose(kin.matrix.toarray(), twin, atol=1e-5)
    np.testing.assert_allclose(K.sparse(0.2).matrix.toarray(), twin, atol=1e-12)
    from ranef.fields.gwas import kin as tiles

    monkeypatch.setattr(tiles, "TILE", 50)
    monkeypatch.setattr(tiles, "PIECE", 700)
    small = gwas.sparse_grm(study.genotypes, cut=0.2, n_jobs=2)
    np.testing.assert_allclose(small.matrix.toarray(), twin, atol=1e-5)
    assert kin.n_pairs == int((np.triu(twin, 1) > 0).sum())
    assert len(kin.tidy()) == kin.n_pairs
    assert "pairs with a relationship of at least 0.2" in str(kin)


def test_kin_that_few_variants_find_are_measured_by_all(study):
    """By 400 of 3,000 variants chance reaches 0.15 among strangers; by all of them 0.06."""
    K = gwas.grm(study.genotypes, alpha=-1)
    found = gwas.sparse_grm(study.genotypes, cut=0.12, max_variants=400)
    assert found.n_variants == K.n_variants
    sought = np.triu(K.matrix, 1)
    kept = np.triu(found.matrix.toarray(), 1)
    np.testing.assert_allclose(kept[kept > 0], sought[kept > 0], atol=1e-5)
    np.testing.assert_allclose(found.matrix.diagonal(), np.diag(K.matrix), atol=1e-5)
    # nobody but kin is left, in families of four, and all sibs and parents are found
    assert kept[kept > 0].min() >= 0.12
    assert max(len(members[0]) for members in blocks_of(found.matrix)) == 4
    assert (sought > 0.35).sum() == ((sought > 0.35) & (kept > 0)).sum() > 60


def test_families_are_blocks(kin):
    blocks = blocks_of(kin.matrix)
    assert sum(b.size for b in blocks) == 240
    d, U = eigen_by_blocks(kin.matrix)
    K = kin.matrix.toarray()
    np.testing.assert_allclose((U * d) @ U.T.toarray(), K, atol=1e-8)
    np.testing.assert_allclose((U.T @ U).toarray(), np.eye(240), atol=1e-10)
    assert U.nnz < 240 * 20


def test_a_scan_with_kin_is_that_with_the_same_matrix_whole(study, kin):
    whole = pd.DataFrame(kin.matrix.toarray(), kin.iid, kin.iid)
    sparse, dense = scanned(study, relationship=kin), scanned(study, relationship=whole)
    assert "sparse relationship" in str(sparse)
    np.testing.assert_allclose(sparse.tidy()[TESTS], dense.tidy()[TESTS], atol=2e-5)
    exact = [scanned(study, relationship=r, precision="double") for r in (kin, whole)]
    np.testing.assert_allclose(exact[0].tidy()[TESTS], exact[1].tidy()[TESTS], rtol=1e-6)
    np.testing.assert_allclose(
        exact[0].glance()["loglik_reml"], exact[1].glance()["loglik_reml"], rtol=1e-9
    )
    nulls = [
        gwas.null("trait ~ sex", study.phenotypes, relationship=r).loglik_reml for r in (kin, whole)
    ]
    assert nulls[0] == pytest.approx(nulls[1], rel=1e-9)


def test_files_of_kin(study, kin, tmp_path):
    path = kin.save(tmp_path / "kin")
    assert path.name == "kin.grm.sp"
    for given in (path, tmp_path / "kin"):
        read = gwas.read_grm(given)
        assert read.ids == kin.ids
        np.testing.assert_allclose(read.matrix.toarray(), kin.matrix.toarray(), rtol=1e-8)
    pd.testing.assert_frame_equal(
        scanned(study, relationship=str(tmp_path / "kin"), precision="double").tidy(),
        scanned(study, relationship=read, precision="double").tidy(),
    )


SPARSE_FILES = {
    "words": ("0 0 one\n", "no number"),
    "two columns": ("0 0 1\n0 1\n", "line 2 .* 2 columns"),
    "beyond the samples": ("0 0 1\n7 0 1\n", "beyond the 2 samples"),
    "a pair twice": ("0 0 1\n1 1 1\n1 0 .5\n0 1 .5\n", "twice"),
    "no diagonal": ("0 0 1\n1 0 .5\n", "no relationship of 'b' with itself"),
    "a hole": ("0 0 1\n1 1 nan\n", "not finite"),
    "empty": ("", "no relationship of 'a'"),
}


@pytest.mark.parametrize("case", SPARSE_FILES)
def test_damaged_files_of_kin(tmp_path, case):
    text, words = SPARSE_FILES[case]
    (tmp_path / "k.grm.sp").write_text(text)
    (tmp_path / "k.grm.id").write_text("0 a\n0 b\n")
    with pytest.raises(DataError, match=words):
        gwas.read_grm(tmp_path / "k")
    (tmp_path / "k.grm.id").unlink()
    with pytest.raises(FileError, match=r"k\.grm\.id"):
        gwas.read_grm(tmp_path / "k")


def test_an_indefinite_kinship_is_refused():
    from scipy.sparse import csr_array

    K = csr_array(np.array([[1.0, 3.0], [3.0, 1.0]]))
    with pytest.raises(DataError, match="indefinite"):
        eigen_by_blocks(K)
    for cut in (0.0, 1.0, -1, "much"):
        with pytest.raises(ModelError, match="cut"):
            gwas.grm(gwas.simulate(n=20, m=100, rng=1).genotypes).sparse(cut)


def test_a_pedigree_is_a_relationship(study):
    """The expected relationship of families, by the helper of pedigrees."""
    import ranef

    table = study.phenotypes
    parents = table.groupby("FID")["IID"].agg(["first", lambda names: names.iloc[1]])
    child = table.groupby("FID").cumcount() >= 2
    named = table[["IID"]].assign(
        sire=table["FID"].map(parents.iloc[:, 0]).where(child),
        dam=table["FID"].map(parents.iloc[:, 1]).where(child),
    )
    A = ranef.pedigree(named, id="IID", sire="sire", dam="dam")
    found = scanned(study, relationship=A)
    fit = ranef.lmm("trait ~ sex + age + kernel(1 | IID, A)", table, kernels={"A": A})
    null = gwas.null("trait ~ sex + age", table, relationship=A)
    assert null.loglik_reml == pytest.approx(fit.loglik, abs=1e-5)
    assert found.glance()["pve"][0] == pytest.approx(null.pve, abs=0.05)


# --- two steps


def test_the_first_level_is_ridge_regression_out_of_fold():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(6, 40)).astype(np.float32)
    Y = rng.normal(size=(40, 2))
    folds = folds_of(40)
    found = first_level(X, Y, folds, 30)
    assert found.shape == (2, len(SHARES), 40)
    for r, share in enumerate(SHARES):
        for fold in folds:
            rest = np.setdiff1d(np.arange(40), fold)
            A = X[:, rest].astype(float) @ X[:, rest].T + 30 * (1 - share) / share * np.eye(6)
            beta = np.linalg.solve(A, X[:, rest] @ Y[rest])
            np.testing.assert_allclose(found[:, r, fold], beta.T @ X[:, fold], rtol=2e-4, atol=1e-6)


def test_the_second_level_leaves_chromosomes_out():
    rng = np.random.default_rng(2)
    W = rng.normal(size=(8, 300)).astype(np.float32)
    y = W[0] + W[5] + rng.normal(size=300)
    names = list("aaaabbbb")
    stacked = second_level(W, names, y, folds_of(300))
    assert set(stacked.without) == {"", "a", "b"}
    assert np.corrcoef(stacked.without["a"], W[5])[0, 1] > 0.9
    assert abs(np.corrcoef(stacked.without["a"], W[0])[0, 1]) < 0.2
    both = stacked.without["a"] + stacked.without["b"]
    np.testing.assert_allclose(both, stacked.without[""], atol=1e-5)
    assert 0.4 < stacked.r2 < 0.9


def test_families_share_a_fold():
    families = [np.array([[0, 1, 2], [3, 4, 5]]), np.arange(6, 40)[:, None]]
    folds = folds_of(40, families)
    assert len(folds) == FOLDS
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    assert any({0, 1, 2} <= set(f.tolist()) for f in folds)


def test_two_steps_find_what_the_exact_path_finds(study):
    exact, steps = scanned(study), scanned(study, relationship=gwas.two_step(cut=0.2))
    text = " ".join(str(steps).split())
    assert "Two steps: stacked ridge regressions on" in text
    assert "pairs of close kin as covariance" in text
    assert set(steps.top(1)["variant"]) <= set(exact.top(5)["variant"])
    a, b = (s.tidy()["neg_log10_p_wald"] for s in (exact, steps))
    assert np.corrcoef(a, b)[0, 1] > 0.8
    alone = scanned(study, relationship=gwas.two_step(None))
    assert "no close kin among them" in str(alone)


def test_several_traits_in_two_steps_are_those_of_each_alone(study):
    rng = np.random.default_rng(5)
    table = study.phenotypes.assign(other=rng.normal(size=240))
    plan = gwas.two_step(cut=0.2)
    both = gwas.scan("~ sex", study.genotypes, table, traits=["trait", "other"], relationship=plan)
    alone = gwas.scan("other ~ sex", study.genotypes, table, relationship=plan)
    found = both.tidy()
    np.testing.assert_allclose(
        found[found.trait == "other"][TESTS], alone.tidy()[TESTS], rtol=1e-4, atol=1e-5
    )


def test_many_samples_take_two_steps_by_themselves(study, monkeypatch):
    monkeypatch.setattr(twostep, "ABOVE", 100)
    monkeypatch.setattr(twostep, "FEWEST_OF_KIN", 100)
    assert "Two steps" in " ".join(str(scanned(study)).split())
    assert "leave one chromosome out" in " ".join(
        str(scanned(study, relationship="loco-exact")).split()
    )


def test_few_variants_tell_no_kin():
    small = gwas.simulate(n=60, m=300, rng=1)
    with pytest.raises(ModelError, match="tell kin from chance too badly"):
        scanned(small, relationship="two-step")
    with pytest.raises(ModelError, match="kin is 'made'"):
        gwas.two_step(3)


# --- work by others


@pytest.mark.parametrize("relationship", ["loco", "two-step"])
def test_a_client_gives_the_same_bytes(study, relationship):
    distributed = pytest.importorskip("distributed")
    plain = scanned(study, relationship=relationship, n_jobs=2).tidy()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = scanned(study, relationship=relationship, client=client, block=400).tidy()
        pd.testing.assert_frame_equal(
            found, scanned(study, relationship=relationship, block=400).tidy()
        )
    np.testing.assert_allclose(found[TESTS], plain[TESTS], atol=2e-5)


def test_processes_give_the_same_bytes(study, tmp_path):
    with ProcessPoolExecutor(1) as pool:
        found = scanned(study, relationship=None, client=pool, block=700).tidy()
    pd.testing.assert_frame_equal(found, scanned(study, relationship=None, block=700).tidy())
    with pytest.raises(ModelError, match=r"client must have submit\(\).*int"):
        scanned(study, client=3)


KILLED = """
import sys, time
from ranef import gwas
from ranef.fields.gwas.keeping import Folder
store = Folder.store
def slowly(self, group, start, stop, part):
    store(self, group, start, stop, part)
    print("kept", flush=True)
    time.sleep(0.3)
Folder.store = slowly
plan = gwas.two_step(None) if sys.argv[2] == "two-step" else sys.argv[2]
gwas.scan("trait ~ sex", sys.argv[1], sys.argv[1] + ".pheno.tsv", relationship=plan,
          block=40, n_jobs=1, resume=sys.argv[3])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("relationship", ["loco", "two-step"])
def test_a_killed_scan_goes_on_and_gives_the_same_bytes(tmp_path, relationship):
    prefix = tmp_path / "study"
    gwas.simulate(n=100, m=1200, chromosomes=3, rng=4).save(prefix)
    plan = gwas.two_step(None) if relationship == "two-step" else relationship
    parts = tmp_path / "parts"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(prefix), relationship, str(parts)],
        stdout=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    for _ in range(4):
        assert child.stdout.readline() == b"kept\n"
    child.kill()
    assert child.wait() == -signal.SIGKILL
    kept = {p.name: p.stat().st_mtime_ns for p in parts.glob("part-*.npz")}
    assert 3 <= len(kept) < 30

    def saved(name: str, **more) -> bytes:
        scan = gwas.scan("trait ~ sex", prefix, f"{prefix}.pheno.tsv", relationship=plan,
                         block=40, **more)  # fmt: skip
        return Path(scan.save(tmp_path / name)).read_bytes()

    time.sleep(0.02)
    assert saved("on.tsv", resume=parts) == saved("whole.tsv")
    again = {p.name: p.stat().st_mtime_ns for p in parts.glob("part-*.npz")}
    assert len(again) >= 30
    assert all(again[name] == when for name, when in kept.items())


def test_parts_of_another_plan_are_refused(study, tmp_path):
    scanned(study, relationship=gwas.two_step(cut=0.2), resume=tmp_path / "parts")
    with pytest.raises(DataError, match="belong to another scan"):
        scanned(study, relationship=gwas.two_step(cut=0.3), resume=tmp_path / "parts")


def test_memory_is_said_and_obeyed(study):
    with pytest.raises(ModelError, match="needs about"):
        scanned(study, memory="1MB")
    assert "forecast to need" in str(scanned(study, memory=4, relationship=None))


def test_progress_tells_what_is_left(study, capsys):
    scanned(study, relationship=gwas.two_step(cut=0.2), progress=True)
    shown = capsys.readouterr().err
    assert "predicting" in shown
    assert "scanning: 100%" in shown
    assert "<" in shown  # elapsed < left


def test_command_line(study, tmp_path, capsys):
    prefix = str(tmp_path / "s")
    study.save(prefix)
    kin = str(tmp_path / "kin")
    assert main(["gwas", "grm", "--bfile", prefix, "--sparse", "0.2", "--out", kin]) == 0
    assert "Close kin among 240 samples" in capsys.readouterr().out
    words = ["gwas", "scan", "trait ~ sex", "--bfile", prefix, "--pheno", f"{prefix}.pheno.tsv"]
    assert main([*words, "--relationship", kin]) == 0
    assert "sparse relationship" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--relationship", "two-step"]) == 0
    assert "two steps" in " ".join(capsys.readouterr().out.split())
    wrong = ["gwas", "grm", "--bfile", prefix, "--sparse", "0.2", "--without", "1", "--out", kin]
    assert main(wrong) == 2
