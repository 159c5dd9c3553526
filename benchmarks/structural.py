"""Structural equation models beside lavaan, in seconds of the processor, in one run.

    python benchmarks/structural.py        (needs Rscript with lavaan and jsonlite)

Each case is fitted with standard errors, the unrestricted and the baseline model; that of ranef
twice, of which the second is counted, since the first imports what it needs.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import ranef

TWO = """
level: 1
  fw =~ y1 + y2 + y3
  fw ~ x1 + x2
level: 2
  fb =~ y1 + y2 + y3
  fb ~ w1
"""
ONE = "f =~ y1 + y2 + y3\ng =~ y4 + y5 + y6\ng ~ f + x1\n"


def table(rng: np.random.Generator, missing: float) -> pd.DataFrame:
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


def main() -> None:
    """Fit, time, print."""
    rng = np.random.default_rng(1)
    whole, holes = table(rng, 0.0), table(rng, 0.15)
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
            for _ in range(2):
                start = time.process_time()
                fit = ranef.sem(model, data, cluster=cluster, missing=missing,
                                estimator=estimator, n_jobs=1)  # fmt: skip
                fit.fit_measures()
                fit.tidy()
                ours[name] = (time.process_time() - start, fit.loglik)
        (Path(folder) / "cases.json").write_text(json.dumps(handed))
        script = Path(__file__).with_suffix(".R")
        call = ["Rscript", str(script), f"{folder}/cases.json", f"{folder}/out.json"]
        subprocess.run(call, check=True)
        theirs = json.loads((Path(folder) / "out.json").read_text())
    print(
        f"{'case':20} {'ranef s':>9} {'lavaan s':>9} {'ratio':>7} {'log-likelihood':>16} {'gap':>9}"
    )
    for name, (seconds, loglik) in ours.items():
        peer = theirs[name]
        ratio, gap = peer["cpu"] / seconds, loglik - peer["logl"]
        print(f"{name:20} {seconds:9.3f} {peer['cpu']:9.2f} {ratio:7.0f} {loglik:16.5f} {gap:9.1e}")


if __name__ == "__main__":
    main()
