"""``ranef gwas``: from files to files, and exit codes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ranef.cli import main


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    prefix = str(tmp_path_factory.mktemp("study") / "s")
    words = ["--n", "90", "--m", "240", "--chromosomes", "3", "--seed", "3", "--quiet"]
    assert main(["gwas", "simulate", "--out", prefix, *words]) == 0
    return prefix


def test_simulated_files_are_the_same_for_a_seed(study, tmp_path, capsys):
    words = ["--n", "90", "--m", "240", "--chromosomes", "3", "--seed", "3"]
    assert main(["gwas", "simulate", "--out", str(tmp_path / "t"), *words]) == 0
    assert "90 samples at 240 variants" in capsys.readouterr().out
    for suffix in (".bed", ".bim", ".fam", ".pheno.tsv"):
        assert Path(study + suffix).read_bytes() == (tmp_path / f"t{suffix}").read_bytes()


def test_scan_from_files_to_files(study, tmp_path, capsys):
    out, report = tmp_path / "r.tsv.gz", tmp_path / "r.html"
    words = ["gwas", "scan", "trait ~ sex + age", "--bfile", study, "--pheno", f"{study}.pheno.tsv",
             "--out", str(out), "--report", str(report)]  # fmt: skip
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "leave one chromosome out" in " ".join(shown.split())
    table = pd.read_csv(out, sep="\t")
    assert {"beta", "neg_log_10_p_value"} <= set(table.columns)
    assert "ranef gwas scan" in report.read_text("utf-8")


def test_cases_and_controls(study, tmp_path, capsys):
    table = pd.read_csv(f"{study}.pheno.tsv", sep="\t")
    table["ill"] = (table["trait"] > table["trait"].median()).astype(int) + 1
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    words = ["gwas", "scan", "ill ~ sex", "--bfile", study, "--pheno", str(tmp_path / "p.tsv"),
             "--family", "binomial", "--out", str(tmp_path / "r.parquet")]  # fmt: skip
    assert main(words) == 0
    assert "cases (value 2)" in " ".join(capsys.readouterr().out.split())
    assert pd.read_parquet(tmp_path / "r.parquet")["neg_log10_p_spa"].dropna().ge(0).all()


def test_traits_together_and_interactions(study, tmp_path, capsys):
    table = pd.read_csv(f"{study}.pheno.tsv", sep="\t")
    table["two"] = table["trait"] ** 2
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    words = ["gwas", "scan", "--bfile", study, "--pheno", str(tmp_path / "p.tsv")]
    more = ["--trait", "trait", "--trait", "two", "--joint", "--format", "gemma"]
    assert main([*words, "~ sex", *more, "--out", str(tmp_path / "j.txt")]) == 0
    assert "Multivariate mixed model" in " ".join(capsys.readouterr().out.split())
    assert "Vbeta_1_2" in pd.read_csv(tmp_path / "j.txt", sep="\t")
    assert main([*words, "trait ~ sex", "--interaction", "age"]) == 0
    assert "product of variant and age" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "trait ~ sex", "--interaction", "agee"]) == 2
    assert main([*words, "trait ~ sex", "--joint"]) == 2


def test_sets_correlations_and_values(study, tmp_path, capsys):
    table = pd.read_csv(f"{study}.pheno.tsv", sep="\t")
    table["two"] = table["trait"] ** 2
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    pheno = ["--pheno", str(tmp_path / "p.tsv"), "--out", str(tmp_path / "out.tsv")]
    (tmp_path / "sets.txt").write_text("set variant\na rs1\na rs2\nb rs9\n")
    words = ["--bfile", study, "--sets", str(tmp_path / "sets.txt"), "--max-maf", "0.5", *pheno]
    assert main(["gwas", "sets", "trait ~ sex", *words]) == 0
    assert pd.read_csv(tmp_path / "out.tsv", sep="\t")["set"].tolist() == ["a", "b"]
    assert main(["gwas", "grm", "--bfile", study, "--out", str(tmp_path / "K"), "--quiet"]) == 0
    matrix = ["--relationship", str(tmp_path / "K"), *pheno]
    assert main(["gwas", "bivariate", "~ sex", "--trait", "trait", "--trait", "two", *matrix]) == 0
    assert "rg" in pd.read_csv(tmp_path / "out.tsv", sep="\t")
    assert main(["gwas", "gblup", "trait ~ sex", *matrix]) == 0
    assert len(pd.read_csv(tmp_path / "out.tsv", sep="\t")) == len(table)
    assert "Largest values" in capsys.readouterr().out
    assert main(["gwas", "sets", "trait ~ sex", "--bfile", study, "--sets", "no.txt"]) == 3
    assert main(["gwas", "bivariate", "~ sex", "--trait", "trait", *matrix]) == 2


def test_matrix_null_model_and_a_scan_with_it(study, tmp_path, capsys):
    for format, name in (("gcta", "K"), ("plink2", "K.rel.bin"), ("gemma", "K.cXX.txt")):
        words = ["--bfile", study, "--format", format, "--out", str(tmp_path / "K"), "--quiet"]
        assert main(["gwas", "grm", *words]) == 0
        scan = ["gwas", "scan", "trait ~ sex", "--bfile", study, "--pheno", f"{study}.pheno.tsv",
                "--relationship", str(tmp_path / name), "--quiet"]  # fmt: skip
        assert main([*scan, "--out", str(tmp_path / f"{format}.txt"), "--format", "gemma"]) == 0
    tables = [pd.read_csv(tmp_path / f"{f}.txt", sep="\t")["p_wald"] for f in ("gcta", "plink2")]
    assert (tables[0] / tables[1] - 1).abs().max() < 1e-3
    words = ["--pheno", f"{study}.pheno.tsv", "--relationship", str(tmp_path / "K")]
    assert main(["gwas", "null", "trait ~ sex", *words]) == 0
    assert "share (PVE)" in capsys.readouterr().out


def test_components_go_into_a_scan(study, tmp_path, capsys):
    pcs = str(tmp_path / "pc.tsv")
    assert main(["gwas", "pca", "--bfile", study, "--n", "2", "--out", pcs]) == 0
    assert "PC2" in capsys.readouterr().out
    words = ["gwas", "scan", "trait ~ sex + PC1 + PC2", "--bfile", study, "--covar", pcs, "--pheno",
             f"{study}.pheno.tsv", "--relationship", "none", "--chr", "2"]  # fmt: skip
    assert main(words) == 0
    assert "Ordinary least squares" in " ".join(capsys.readouterr().out.split())


def test_traits_have_a_file_each(study, tmp_path):
    table = pd.read_csv(f"{study}.pheno.tsv", sep="\t")
    table["two"] = table["trait"] ** 2
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    words = ["gwas", "scan", "~ sex", "--bfile", study, "--pheno", str(tmp_path / "p.tsv"),
             "--quiet", "--trait", "trait", "--trait", "two", "--relationship", "none"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "r.tsv")]) == 0
    assert (tmp_path / "r-trait.tsv").is_file()
    assert (tmp_path / "r-two.tsv").is_file()
    assert main([*words, "--out", str(tmp_path / "all.parquet")]) == 0
    assert pd.read_parquet(tmp_path / "all.parquet")["trait"].nunique() == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scan", "trait ~ sexx"], 2, "did you mean 'sex'"),
        (["scan", "trait ~ sex", "--relationship", "locco"], 2, "did you mean 'loco'"),
        (["scan", "trait ~ sex", "--relationship", "no/where.txt"], 3, "no/where.txt"),
        (["scan", "trait ~ sex", "--keep", "nobody.txt"], 3, "nobody.txt"),
        (["scan", "trait ~ sex", "--chr", "77"], 2, "no variant is on chromosome"),
        (["scan", "trait ~ sex", "--out", "no/folder/r.tsv"], 3, "there is no folder"),
        (["scan", "trait ~ sex", "--memory", "0.0001"], 2, "needs about"),
        (["scan", "trait ~ sex", "--effect", "odd"], 2, "invalid choice"),
        (["scan"], 2, "must be given"),
        (["wrong"], 2, "invalid choice"),
    ],
)
def test_what_is_wrong_has_a_code_and_a_line(study, capsys, words, code, said):
    more = ["--bfile", study, "--pheno", f"{study}.pheno.tsv"] if words != ["wrong"] else []
    assert main(["gwas", *words, *more]) == code
    assert said in capsys.readouterr().err


def test_files_that_are_not_there(study, tmp_path, capsys):
    assert main(["gwas", "scan", "trait ~ 1", "--bfile", str(tmp_path / "none")]) == 3
    assert main(["gwas", "scan", "y ~ 1", "--bfile", study, "--pheno", "no.tsv"]) == 3
    assert "no.tsv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--threads", "2"], "--n-jobs"), (["--grm-sparse", "g"], "--relationship takes the matrix"),
     (["-k", "k.txt"], "--relationship takes the matrix"), (["-lmm", "4"], "in one pass"),
     (["--phenoColList=y"], "named in the formula"), (["--bt"], "--family binomial"),
     (["--mind", "0.1"], "--keep or --remove"), (["--bsize", "1000"], "--block")],
)  # fmt: skip
def test_options_of_other_programs_are_explained(words, said, capsys):
    assert main(["gwas", "scan", "y ~ 1", "--bfile", "b", "--out", "o", *words]) == 2
    assert said in capsys.readouterr().err
