"""Print the table of the validation page: ranef beside lme4 on the reference models.

Fits every case of tests/reference/lmm.json (values by R, tightest settings; the
R scripts are beside it) and prints Markdown.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ranef

REFERENCE = Path(__file__).parent.parent / "tests" / "reference" / "lmm.json"


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


if __name__ == "__main__":
    main()
