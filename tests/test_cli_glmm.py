"""`ranef fit --family` and `ranef plan --family`."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import ranef

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"

Ran = tuple[int, str, str]


def test_fit_writes_every_result(run, tmp_path):
    files = {kind: tmp_path / f"fit.{kind}" for kind in ("json", "csv", "html", "ranef")}
    code, out, err = run(
        "fit", CBPP, "cbpp", "--family", "binomial", "--quadrature", 25,
        "--out", files["json"], "--out", files["csv"],
        "--report", files["html"], "--save", files["ranef"],
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "odds ratio" in out
    assert "quadrature with 25 nodes" in out
    written = json.loads(files["json"].read_text("utf-8"))
    assert written["model"]["family"] == "binomial"
    assert written["model"]["quadrature"] == 25
    assert written["glance"]["loglik"] == pytest.approx(-91.983369, abs=2e-6)
    assert written["accounting"]["groups"] == {"herd": 15}
    with files["csv"].open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["term"] for row in rows] == ["(Intercept)", "period2", "period3", "period4"]
    assert "Generalised linear mixed model" in files["html"].read_text("utf-8")
    assert ranef.load(files["ranef"]).loglik == written["glance"]["loglik"]


def test_every_part_has_its_option(run, tmp_path):
    sal = tmp_path / "salamanders.csv"
    ranef.data.load("Salamanders").to_csv(sal, index=False)
    code, _, _ = run(
        "fit", "count ~ mined + (1 | site)", sal, "--family", "nbinom2", "--link", "log",
        "--zero", "~ mined", "--dispersion", "~ mined", "--quiet", "--out", tmp_path / "a.json",
    )  # fmt: skip
    assert code == 0
    written = json.loads((tmp_path / "a.json").read_text("utf-8"))
    parts = [row["component"] for row in written["fixed"]]
    assert parts == ["conditional"] * 2 + ["dispersion"] * 2 + ["zero"] * 2
    fit = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
        family="nbinom2", zero="~ mined", dispersion="~ mined",
    )  # fmt: skip
    estimates = dict(zip(zip(parts, [r["term"] for r in written["fixed"]], strict=True),
                         [r["estimate"] for r in written["fixed"]], strict=True))  # fmt: skip
    assert written["glance"]["loglik"] == pytest.approx(fit.loglik, abs=1e-7)
    # a CSV file does not keep R's order of levels: "no" is first there
    assert estimates["conditional", "minedyes"] == pytest.approx(-fit.coef["minedno"], abs=1e-4)


def test_shapes_and_reml(run, tmp_path):
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(20), 10)
    y = rng.standard_t(5, 200) + rng.normal(size=20)[group]
    table = tmp_path / "t.csv"
    table.write_text(
        "y,g\n" + "\n".join(f"{a},{b}" for a, b in zip(y, group, strict=True)), "utf-8"
    )
    code, out, _ = run("fit", "y ~ 1 + (1 | g)", table, "--family", "t", "--reml")
    assert code == 0
    assert "restricted likelihood" in out
    assert "df = " in out
    code, _, err = run("fit", "y ~ 1 + (1 | g)", table, "--family", "t", "--shape", "df")
    assert code == 2
    assert "'df=~ x'" in err


def test_separation_is_told_and_gives_code_one(run, tmp_path):
    table = tmp_path / "s.csv"
    rows = [f"{1 if x else i % 2},{x},{i % 12}" for i in range(120) for x in (0, 1)]
    table.write_text("y,x,g\n" + "\n".join(rows), "utf-8")
    code, out, err = run("fit", "y ~ x + (1 | g)", table, "--family", "binomial")
    assert code == 1
    assert "x towards plus infinity" in err
    assert "not proved" in out


def test_plan(run):
    code, out, _ = run(
        "plan", "count ~ spp + (1 | site)", "Salamanders", "--family", "nbinom2", "--zero", "~ spp"
    )
    assert code == 0
    assert "fixed effects 15, covariance parameters 1" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--zero", "~ 1"], "--zero belongs to a generalised model: add --family"),
        (["--quadrature", "5"], "--quadrature belongs to a generalised model"),
        (["--reml"], "--reml belongs to a generalised model"),
        (["--family", "nbinom3"], "did you mean 'nbinom2'"),
        (["--family", "nbinom2", "--zero", "1"], "begins with '~'"),
    ],
)
def test_what_is_wrong_is_told(run, arguments, words):
    code, out, err = run("fit", "count ~ mined + (1 | site)", "Salamanders", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_priors_and_constraints(run):
    model = ("count ~ spp + mined + (1 | site)", "Salamanders", "--family", "nbinom2")
    given = (
        "--prior", "fixed=Normal(0, 2.5)", "--prior", "sd: site=HalfT(3, 1)",
        "--fixed", "dispersion: (Intercept)=0", "--equal", "sppDM = sppDF",
    )  # fmt: skip
    code, out, err = run("fit", *model, *given)
    assert (code, err) == (0, "")
    table = ranef.data.load("Salamanders")
    fit = ranef.glmm(
        model[0], table, family="nbinom2",
        priors={"fixed": ranef.priors.Normal(0, 2.5), "sd: site": ranef.priors.HalfT(3, 1)},
        fixed={"dispersion: (Intercept)": 0.0}, equal=[("sppDM", "sppDF")],
    )  # fmt: skip
    assert out.strip() == str(fit).strip()
    code, out, _ = run("plan", *model, *given)
    assert code == 0
    assert "fixed effects 7, covariance parameters 1" in out


def test_priors_of_a_linear_model(run):
    model = ("score ~ Machine + (1 | Worker)", "Machines")
    code, out, _ = run("fit", *model, "--prior", "sd=Gamma(2, 0.1)")
    assert code == 0
    assert "Priors: sd Gamma(shape=2, rate=0.1)" in out
    code, out, _ = run("plan", *model, "--fixed", "sd: Worker=2")
    assert code == 0
    assert "covariance parameters 0" in out


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--prior", "sd", "is not of the form"),
        ("--prior", "sd=Gamma(a)", "is not of the form"),
        ("--prior", "sd=Gama(2, 0.1)", "did you mean 'Gamma'"),
        ("--prior", "sd=Gamma(2, 0.1, 3)", "takes shape, rate, not 3 numbers"),
        ("--fixed", "x", "is not of the form"),
        ("--fixed", "x=a", "is not of the form"),
        ("--fixed", "sppDX=1", "no parameter 'sppDX' to hold"),
        ("--equal", "a=b", "with spaces around the sign"),
    ],
)
def test_priors_and_constraints_that_are_none(run, option, value, says):
    model = ("count ~ spp + (1 | site)", "Salamanders", "--family", "nbinom2")
    code, _, err = run("fit", *model, option, value)
    assert code == 2
    assert says in " ".join(err.split())
