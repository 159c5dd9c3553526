"""Write one HTML page of every kind: ``python tools/reports.py FOLDER [NAME ...]``.

They are what `accessibility.js` looks at: the reports of each kind of fit and field, and the pages
of tables that answers make.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

import ranef
from ranef import gwas
from ranef.cli import main

ROOT = Path(__file__).parent.parent
PAGES: dict[str, Callable[[Path], object]] = {}


def page(write: Callable[[Path], object]) -> Callable[[Path], object]:
    """Note a function that writes the page named after it."""
    PAGES[write.__name__] = write
    return write


# --- mixed models and their relatives -------------------------------------------------------------


@page
def lmm(path: Path) -> None:
    ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy")).report(path)


@page
def lmm_on_the_boundary(path: Path) -> None:
    ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2")).report(path)


@page
def lmm_command(path: Path) -> None:
    table = path.with_suffix(".csv")
    ranef.data.load("sleepstudy").to_csv(table, index=False)
    ask(["fit", "Reaction ~ Days + (Days | Subject)", str(table), "--report", str(path)])


@page
def trial(path: Path) -> None:
    data = ranef.data.load("Orthodont")
    ranef.lmm("distance ~ factor(age) * Sex", data, residual="us(age | Subject)").report(path)


@page
def glmm(path: Path) -> None:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    ranef.glmm(formula, ranef.data.load("cbpp"), family="binomial").report(path)


@page
def glmm_zero_inflated(path: Path) -> None:
    data = ranef.data.load("Salamanders")
    formula = "count ~ mined + (1 | site)"
    ranef.glmm(formula, data, family="nbinom2", zero="~ mined", dispersion="~ DOY").report(path)


@page
def glmm_ordered(path: Path) -> None:
    formula = "rating ~ temp + contact + (1 | judge)"
    ranef.glmm(formula, ranef.data.load("wine"), family="cumulative").report(path)


@page
def gee(path: Path) -> None:
    data = ranef.data.load("ohio")
    formula = "resp ~ age + smoke"
    ranef.gee(formula, data, groups="id", time="age", family="binomial").report(path)


@page
def gee_of_categories(path: Path) -> None:
    data = ranef.data.load("wine")
    ranef.gee("rating ~ temp + contact", data, groups="judge", family="cumulative").report(path)


@page
def meta(path: Path) -> None:
    counts = {"ai": "tpos", "bi": "tneg", "ci": "cpos", "di": "cneg"}
    trials = ranef.effect_sizes("RR", ranef.data.load("bcg"), **counts)
    ranef.meta("yi ~ ablat", trials, variance="vi").report(path)


@page
def dynamic(path: Path) -> None:
    rng = np.random.default_rng(1)
    people, prompts = 30, 40
    inertia = np.clip(0.4 + 0.15 * rng.normal(size=people), -0.5, 0.9)
    mood = np.zeros((people, prompts))
    for t in range(1, prompts):
        mood[:, t] = inertia * mood[:, t - 1] + rng.normal(size=people)
    who, prompt = np.repeat(np.arange(people), prompts), np.tile(np.arange(prompts), people)
    data = pd.DataFrame({"id": who, "prompt": prompt, "mood": mood.ravel()})
    ranef.dynamic("mood ~ 1 + (1 | id)", data, residual="ar1(prompt | id)",
                  inertia="~ 1 + (1 | id)").report(path)  # fmt: skip


# --- fields ---------------------------------------------------------------------------------------


@page
def diary(path: Path) -> None:
    run_example("ema.py", path, "ema.html")


@page
def genomes(path: Path) -> None:
    packed = ROOT / "tests" / "reference" / "gwas"
    for suffix in ("bed", "bim", "fam"):
        content = lzma.decompress((packed / f"mouse.{suffix}.xz").read_bytes())
        (path.parent / f"mice.{suffix}").write_bytes(content)
    cohort = path.parent / "mice"
    gwas.scan("phenotype ~ 1", cohort, relationship="centred").report(path)


@page
def images(path: Path) -> None:
    import nibabel as nib

    rng, folder = np.random.default_rng(5), path.parent
    labels = [f"sub-{k}" for k in range(8)]
    for label in labels:
        variance = rng.uniform(0.5, 2.0, (8, 9, 7))
        effect = 1.0 + rng.normal(size=variance.shape) * np.sqrt(variance)
        for kind, values in (("effect", effect), ("variance", variance)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"{label}_{kind}.nii.gz")
    people = pd.DataFrame({"participant_id": labels, "age": rng.normal(size=8).round(3)})
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    ask(["imaging", "group", "~ age", "--table", str(folder / "participants.tsv"),
         "--effects", f"{folder}/{{subject}}_effect.nii.gz",
         "--variances", f"{folder}/{{participant_id}}_variance.nii.gz",
         "--contrast", "age", "--permutations", "64", "--tfce", "--cluster-p", "0.01",
         "--out", str(folder / "maps"), "--report", str(path)])  # fmt: skip


@page
def pathogens(path: Path) -> None:
    run_example("pathogen_search.py", path, "run7.html")


@page
def structural(path: Path) -> None:
    rng = np.random.default_rng(11)
    people, prompts = 60, 12
    who = np.repeat(np.arange(people), prompts)
    within, between = rng.normal(size=len(who)), 0.5 * rng.normal(size=people)
    data = pd.DataFrame({"id": who})
    for k, loading in enumerate((1.0, 0.9, 0.8), 1):
        data[f"x{k}"] = loading * (within + between[who]) + 0.6 * rng.normal(size=len(who))
    data["y"] = 0.5 * within - 0.4 * between[who] + rng.normal(size=len(who))
    model = """
    level: 1
      fw =~ x1 + x2 + x3
      y ~ fw
    level: 2
      fb =~ x1 + x2 + x3
      y ~ fb
    """
    ranef.sem(model, data, cluster="id").report(path)


# --- pages of tables ------------------------------------------------------------------------------


@page
def ranks(path: Path) -> None:
    ranef.rank(wards(), "herd").write(path)


@page
def ratios(path: Path) -> None:
    ranef.standardized_ratios(wards(), "herd").write(path)


@page
def means(path: Path) -> None:
    ranef.emmeans(wards(), "period").write(path)


@page
def differences(path: Path) -> None:
    ranef.contrasts(wards(), "period").write(path)


@page
def checks(path: Path) -> None:
    ranef.check(wards()).write(path)


@page
def models_in_columns(path: Path) -> None:
    ranef.table(wards(), title="Two models").write(path)


@page
def powers(path: Path) -> None:
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    ranef.power(fit, test="Days", n=20, rng=1, vary={"Subject": [10, 18]}).write(path)


def wards() -> ranef.GeneralizedMixedModelFit:
    """Proportions of herds."""
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return ranef.glmm(formula, ranef.data.load("cbpp"), family="binomial")


# --- making them ----------------------------------------------------------------------------------


def ask(words: list[str]) -> None:
    """Run a command line of ranef."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        code = main(words)
    if code:
        raise SystemExit(f"ranef {' '.join(words)} ended with {code}: {told.getvalue()}")


def run_example(name: str, path: Path, own: str) -> None:
    """Take the page that an example writes."""
    import runpy

    before = sys.argv
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        sys.argv = [name, folder]
        try:
            runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        finally:
            sys.argv = before
        path.write_bytes((Path(folder) / own).read_bytes())


if __name__ == "__main__":
    matplotlib.use("Agg")
    warnings.simplefilter("ignore")
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or PAGES:
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / f"{name}.html"
            PAGES[name](made)
            (target / made.name).write_bytes(made.read_bytes())
        print(target / f"{name}.html", flush=True)
