"""Structural equation models beside lavaan, in seconds of the processor, in one run.

    python -m benchmarks.structural        (needs Rscript with lavaan and jsonlite)

Each case is fitted with standard errors, the unrestricted and the baseline model; that of ranef
twice, of which the second is counted, since the first imports what it needs. A diary that lavaan
does not finish is fitted by ranef alone. Below stand models of one level that the authors of
StructuralEquationModels.jl have published times of: theirs, on their machine, of the search alone.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ranef
from benchmarks.page import seconds, table

RESULT = Path(__file__).parent / "results" / "structural.md"
TWO = """
level: 1
  fw =~ y1 + y2 + y3
  fw ~ x1 + x2
level: 2
  fb =~ y1 + y2 + y3
  fb ~ w1
"""
ONE = "f =~ y1 + y2 + y3\ng =~ y4 + y5 + y6\ng ~ f + x1\n"
LEAST = {"two levels": 20, "two levels, MLR": 20, "one level, FIML": 10, "two levels, FIML": 100}
"""How many times as fast as lavaan each case is to be."""
DIARY_SECONDS = 5.0
PUBLISHED = {(3, 3): (525, 0.000254, 0.000210), (3, 5): (825, 0.000375, 0.000385),
             (5, 5): (1500, 0.00743, 0.00596), (5, 10): (2750, 0.0241, 0.0154)}  # fmt: skip
"""Factors and items a factor: rows; mean seconds of a search by Optim.jl and by NLopt.jl.

From benchmark/cfa/results/benchmarks_julia.csv of the repository
StructuralEquationModels/StructuralEquationModels.jl, commit 8b9d51d, covariances alone.
"""


def rows(rng: np.random.Generator, missing: float) -> pd.DataFrame:
    """2,500 rows of 200 units, six items of which the first three share a factor."""
    unit = np.repeat(np.arange(200), np.tile([5, 10, 15, 20], 50))
    n = len(unit)
    x = rng.normal(size=(n, 2))
    w = rng.normal(size=200)
    fw = 0.5 * x[:, 0] + 0.3 * x[:, 1] + rng.normal(size=n)
    fb = 0.4 * w + 0.7 * rng.normal(size=200)
    g = 0.5 * fw + rng.normal(size=n)
    columns = {"unit": unit, "x1": x[:, 0], "x2": x[:, 1], "w1": w[unit]}
    for k in range(6):
        total = (fw + fb[unit] if k < 3 else g) * (1.0, 0.8, 0.7)[k % 3]
        item = total + 0.3 * rng.normal(size=200)[unit] + rng.normal(size=n)
        columns[f"y{k + 1}"] = np.where(rng.random(n) < missing, np.nan, item)
    return pd.DataFrame(columns)


def diary(rng: np.random.Generator) -> tuple[str, pd.DataFrame]:
    """931 persons with 29 prompts, twelve skewed items of three factors, with gaps."""
    person = np.repeat(np.arange(931), 29)
    n = len(person)
    within, between = rng.normal(size=(n, 3)), rng.normal(size=(931, 3))
    columns: dict[str, Any] = {"person": person}
    blocks: list[str] = []
    for f in range(3):
        for k in range(4):
            item = 0.8 * within[:, f] + 0.8 * between[person, f] + 0.5 * rng.normal(size=n)
            item = np.exp(0.6 * (item + 0.3 * rng.normal(size=931)[person]))
            gone = rng.random(n) < 0.1 + 0.15 * (k == 3)
            columns[f"i{f}{k}"] = np.where(gone, np.nan, item)
    for level in (1, 2):
        blocks.append(f"level: {level}")
        blocks += [f"f{f}l{level} =~ " + " + ".join(f"i{f}{k}" for k in range(4))
                   for f in range(3)]  # fmt: skip
    return "\n".join(blocks), pd.DataFrame(columns)


def timed(model: str, data: pd.DataFrame, **how: Any) -> tuple[float, Any]:
    """Seconds of the second fit with what lavaan makes too, and the fit."""
    for _ in range(2):
        start = time.process_time()
        fit = ranef.sem(model, data, n_jobs=1, **how)
        fit.fit_measures()
        fit.tidy()
        spent = time.process_time() - start
    return spent, fit


def beside_lavaan() -> Iterator[list[str]]:
    """Rows of the table beside lavaan."""
    rng = np.random.default_rng(1)
    whole, holes = rows(rng, 0.0), rows(rng, 0.15)
    cases = [
        ("two levels", TWO, whole, "unit", "listwise", "ML"),
        ("two levels, MLR", TWO, whole, "unit", "listwise", "MLR"),
        ("one level, FIML", ONE, holes, None, "fiml", "ML"),
        ("two levels, FIML", TWO, holes, "unit", "fiml", "ML"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        handed, ours = [], {}
        for name, model, data, cluster, missing, estimator in cases:
            path = Path(folder) / f"{len(handed)}.csv"
            data.to_csv(path, index=False)
            case = {"name": name, "model": model, "data": str(path), "estimator": estimator,
                    "missing": missing}  # fmt: skip
            handed.append(case | ({"cluster": cluster} if cluster else {}))
            ours[name] = timed(model, data, cluster=cluster, missing=missing, estimator=estimator)
        (Path(folder) / "cases.json").write_text(json.dumps(handed))
        script = Path(__file__).with_suffix(".R")
        call = ["Rscript", str(script), f"{folder}/cases.json", f"{folder}/out.json"]
        subprocess.run(call, check=True)
        theirs = json.loads((Path(folder) / "out.json").read_text())
    for name, (spent, fit) in ours.items():
        peer = theirs[name]
        ratio, gap = peer["cpu"] / spent, fit.loglik - peer["logl"]
        kept = "" if ratio >= LEAST[name] else f" (short of {LEAST[name]})"
        yield [name, seconds(spent), seconds(peer["cpu"]), f"{ratio:.0f}{kept}",
               f"{fit.loglik:.5f}", f"{gap:.1e}"]  # fmt: skip


def published() -> Iterator[list[str]]:
    """Rows of models of one level beside times that were published."""
    rng = np.random.default_rng(2)
    for (factors, items), (n, optim, nlopt) in PUBLISHED.items():
        R = np.full((factors, factors), 0.3) + 0.7 * np.eye(factors)
        f = rng.multivariate_normal(np.zeros(factors), R, n)
        data = pd.DataFrame({
            f"y{i}_{k}": 0.5 * f[:, i] + np.sqrt(0.75) * rng.normal(size=n)
            for i in range(factors) for k in range(items)
        })  # fmt: skip
        model = "\n".join(
            f"f{i} =~ " + " + ".join(f"y{i}_{k}" for k in range(items)) for i in range(factors)
        )
        spent, fit = timed(model, data)
        from ranef.fields.structural.estimate import estimated

        start = time.process_time()
        for _ in range(5):
            estimated(fit.estimate.model)
        search = (time.process_time() - start) / 5
        yield [f"{factors} factors of {items} items, {n:,} rows", seconds(spent),
               seconds(search), seconds(optim), seconds(nlopt)]  # fmt: skip


def main() -> None:
    """Fit, time, write the tables."""
    first = table(
        ["case", "ranef", "lavaan", "times as fast", "log-likelihood", "above lavaan's by"],
        list(beside_lavaan()),
    )
    print(first, flush=True)
    text, data = diary(np.random.default_rng(7))
    start = time.process_time()
    fit = ranef.sem(text, data, cluster="person", missing="fiml", n_jobs=1)
    fit.tidy()
    spent = time.process_time() - start
    said = (
        f"A diary of 931 persons, {len(data):,} prompts and twelve skewed items with gaps, one "
        f"thread: {seconds(spent)} ({fit.optimum.message}; at most {DIARY_SECONDS:g} s asked)."
    )
    print(said, flush=True)
    last = table(
        ["model of one level", "ranef, all", "ranef, the search with its proof",
         "published, Optim.jl", "published, NLopt.jl"],
        list(published()),
    )  # fmt: skip
    print(last)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n\n".join([first, said, last]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
