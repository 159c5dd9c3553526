"""Print the tables of the validation page: ranef beside lme4 and glmmTMB.

Fits every case of tests/reference/lmm.json and glmm.json (values by R, tightest
settings; the R scripts are beside them) and prints Markdown.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ranef

FOLDER = Path(__file__).parent.parent / "tests" / "reference"
REFERENCE = FOLDER / "lmm.json"
GENERALISED = FOLDER / "glmm.json"
ORDER = {
    "spp": ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"],
    "mined": ["yes", "no"],
    "livch": ["0", "1", "2", "3+"],
}


def prepare(case: dict[str, Any]) -> pd.DataFrame:
    """Return the table that R fitted: columns added, cells emptied, rows left out."""
    table = ranef.data.load(case["table"]).copy()
    for name, values in (case["add"] or {}).items():
        table[name] = values
    for name, rows in (case["missing"] or {}).items():
        table.loc[table.index[np.atleast_1d(rows) - 1], name] = None
    if case["drop"]:
        table = table.drop(index=table.index[np.asarray(case["drop"]) - 1])
    return table


def fit(case: dict[str, Any], reml: bool) -> ranef.LinearMixedModelFit:
    """Fit one case as R did."""
    table = prepare(case)
    extra = {key: table[case[key]] for key in ("weights", "offset") if case[key]}
    with warnings.catch_warnings():
        # What is redundant in X is in the reference too.
        warnings.simplefilter("ignore", ranef.errors.RankWarning)
        return ranef.lmm(case["formula"], table, reml=reml, **extra)


def distance(ours: np.ndarray, theirs: list[float | None]) -> float:
    """Return the largest relative difference of two columns."""
    known = np.array([np.nan if v is None else v for v in theirs], dtype=float)
    return float(np.nanmax(np.abs(ours - known) / np.maximum(np.abs(known), 1e-8)))


def row(case: dict[str, Any], criterion: str) -> str:
    """Return one row of the table."""
    ours, theirs = fit(case, criterion == "reml"), case["fits"][criterion]
    fixed = ours.tidy()
    gaps = [
        distance(fixed[name].to_numpy(dtype=float), theirs["fixed"][name])
        for name in ("estimate", "std_error", "df")
    ]
    extras = "".join(f", {key}" for key in ("weights", "offset") if case[key])
    changed = " (rows or cells removed)" if case["missing"] or case["drop"] else ""
    singular = "yes" if ours.optimum.singular else ""
    formula = case["formula"].replace("|", "\\|")
    cells = [
        case["table"] + changed,
        f"`{formula}`{extras}",
        criterion.upper(),
        f"{theirs['loglik']:.6f}",
        f"{ours.loglik - theirs['loglik']:+.0e}",
        *(f"{gap:.0e}" for gap in gaps),
        singular,
        str(ours.optimum.evaluations),
    ]
    return "| " + " | ".join(cells) + " |"


def generalised_row(case: dict[str, Any], table: dict[str, Any]) -> str:
    """Return one row of the table of generalised models."""
    data = pd.DataFrame(table)
    for column, levels in ORDER.items():
        if column in data and set(data[column].astype(str)) <= set(levels):
            data[column] = pd.Categorical(data[column].astype(str), levels)
    parts = {name: case[name] for name in ("zero", "dispersion")}
    ours = ranef.glmm(
        case["formula"], data, family=case["family"], link=case["link"], reml=case["reml"], **parts
    )
    fixed = ours.tidy().query("component == 'conditional'")
    gaps = [
        distance(fixed[name].to_numpy(dtype=float), case[theirs])
        for name, theirs in (("estimate", "conditional"), ("std_error", "std_errors"))
    ]
    usual = {"zero": "~0", "dispersion": "~1"}
    extras = "".join(f", {k} `{v}`" for k, v in parts.items() if v != usual[k])
    formula = case["formula"].replace("|", "\\|")
    cells = [
        case["table"],
        f"`{formula}`{extras}".replace(" | ", " \\| "),
        f"{case['family']}, {case['link']}{', REML' if case['reml'] else ''}",
        f"{case['loglik']:.6f}",
        f"{ours.loglik - case['loglik']:+.0e}",
        *(f"{gap:.0e}" for gap in gaps),
        str(ours.optimum.evaluations),
    ]
    return "| " + " | ".join(cells) + " |"


def generalised() -> None:
    """Print the versions and the table of generalised models."""
    reference = json.loads(GENERALISED.read_text(encoding="utf-8"))
    versions = reference["versions"]
    print(f"\nGeneralised models: glmmTMB {versions['glmmTMB']}.\n")
    print(
        "| data | model | family | log-likelihood by glmmTMB | ranef minus glmmTMB "
        "| estimates | standard errors | evaluations |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for case in reference["cases"].values():
        if case["table"] in reference["tables"]:
            print(generalised_row(case, reference["tables"][case["table"]]))


def questions() -> None:
    """Run the tests that compare with a peer and print what they compared."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "comparisons.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, str(FOLDER.parent), "--validation", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        found = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    print(f"\n{len(found)} comparisons of {sum(row['count'] for row in found):,} values.\n")
    print("| call | value | how many | ranef | peer | by | tolerance | difference |")
    print("|---|---|--:|--:|--:|---|---|--:|")
    for row in sorted(found, key=lambda row: (row["function"], row["quantity"])):
        print(question_row(row))


def question_row(row: dict[str, Any]) -> str:
    """Return one comparison as a row: its worst value."""
    allowed = [f"{row['rtol']:.2g} relative"] if row["rtol"] else []
    allowed += [f"{row['atol']:.2g}"] if row["atol"] else []
    cells = [
        f"`{row['function']}`".replace("|", "\\|"),
        plain(row["quantity"]),
        str(row["count"]),
        f"{row['value']:.8g}",
        f"{row['theirs']:.8g}",
        plain(row["peer"]),
        " + ".join(allowed) or "exact",
        f"{row['difference']:.0e}" if row["difference"] else "0",
    ]
    return "| " + " | ".join(cells) + " |"


def plain(text: str) -> str:
    """Return text of which nothing is Markdown: formulas have stars, bars and tildes."""
    return re.sub(r"([\\`*_~|<\[\]$])", r"\\\1", text)


def profile_row(case: dict[str, Any]) -> str:
    """Return one row of the table of profile intervals: the parameter that differs most."""
    data = ranef.data.load(case["table"])
    family = {"family": "binomial"} if case["table"] == "cbpp" else {}
    fit = (ranef.glmm if family else ranef.lmm)(case["formula"], data, **family)
    found = ranef.profile(fit)
    limits = found.confint()
    worst: tuple[float, str] = (-1.0, "")
    for k, parameter in enumerate(found.parameters):
        theirs = case["profile"][peer_name(parameter)]
        ours = limits.loc[k, ["conf_low", "conf_high"]].to_numpy(dtype=float)
        gap = float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-8)))
        low, high = (f"{x:.6g}" for x in theirs)
        worst = max(worst, (gap, f"{parameter.label} | {low} to {high}"))
    formula = case["formula"].replace("|", "\\|")
    return f"| {case['table']} | `{formula}` | {worst[1]} | {worst[0]:.0e} |"


def peer_name(parameter: Any) -> str:
    """Return lme4's name of a parameter."""
    if parameter.group == "Residual":
        return "sigma"
    if parameter.kind == "corr":
        return f"cor_{parameter.term2}.{parameter.term}|{parameter.group}"
    return parameter.term if parameter.fixed else f"sd_{parameter.term}|{parameter.group}"


def profiles() -> None:
    """Print the table of profile intervals."""
    reference = json.loads((FOLDER / "confint.json").read_text(encoding="utf-8"))
    print(f"\nProfile intervals (95%): {reference['provenance'].split(';')[0]}.\n")
    print("| data | model | parameter that differs most | limits by lme4 | difference |")
    print("|---|---|---|--:|--:|")
    for case in reference["fits"].values():
        print(profile_row(case))


def main() -> None:
    """Print the versions and the table."""
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    versions = reference["versions"]
    print(f"References: {versions['R'].split(' (')[0]}, lme4 {versions['lme4']}, ", end="")
    print(f"lmerTest {versions['lmerTest']}. ranef {ranef.__version__}.\n")
    print(
        "| data | model | criterion | log-likelihood by lme4 | ranef minus lme4 "
        "| estimates | standard errors | df | singular | factorisations |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|---|--:|")
    for case in reference["cases"].values():
        for criterion in ("reml", "ml"):
            print(row(case, criterion))
    generalised()
    profiles()
    questions()


if __name__ == "__main__":
    main()
