"""Time screens beside decontam's method: ``python -m benchmarks.metagenomics``.

Processor seconds of one thread, and seconds of all threads. decontam is a package of Bioconductor
(Davis et al. 2018): it is timed where Rscript finds it; elsewhere its two tests are made here by
NumPy and SciPy as its paper describes them (a line of log frequency on log mass against a
constant, chi-square of presence in controls and patients), which is a lower bound of its time: it
answers for taxa, not for pairs, and without a probability.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import metagenomics as mg

IN_R = """
suppressMessages(library(decontam))
x <- as.matrix(read.csv("{counts}", row.names = 1)); s <- read.csv("{sheet}")
t <- system.time(isContaminant(x, conc = s$mass, neg = s$is_control, method = "combined"))
cat(t[["user.self"]] + t[["sys.self"]])
"""
SHAPES = ((8, 12, 2, 400), (72, 12, 2, 5000))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call gives, its processor seconds and its seconds."""
    clock, wall = time.process_time(), time.perf_counter()
    found = work()
    return found, time.process_time() - clock, time.perf_counter() - wall


def decontam_method(
    reads: NDArray[np.float64], mass: NDArray[np.float64], control: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Combined scores of taxa, (T,): the method of Davis et al. 2018, taxon by taxon."""
    from scipy import stats

    share = reads / reads.sum(axis=1, keepdims=True)
    x = np.log(mass)
    out = np.full(reads.shape[1], np.nan)
    for t in range(reads.shape[1]):
        seen = (share[:, t] > 0) & ~control
        own = [1.0]
        if seen.sum() > 1:
            y = np.log(share[seen, t])
            steady = ((y - y.mean()) ** 2).sum()
            falling = ((y + x[seen] - (y + x[seen]).mean()) ** 2).sum()
            own.append(float(stats.f.cdf(falling / max(steady, 1e-300), seen.sum(), seen.sum())))
        present = reads[:, t] > 0
        table = np.array([[(present & c).sum(), (~present & c).sum()] for c in (control, ~control)])
        if table.sum(axis=0).all():
            own.append(float(stats.chi2_contingency(table)[1]))
        out[t] = stats.chi2.sf(-2 * np.log(np.maximum(own, 1e-300)).sum(), 2 * len(own))
    return out


def decontam(reads: NDArray[np.float64], clinic: mg.Clinic) -> tuple[float, str]:
    """Processor seconds of decontam, or of its method, and which it was."""
    import tempfile
    from pathlib import Path

    import pandas as pd

    sheet = clinic.samples
    mass = (sheet["total_reads"] / sheet["spike_reads"]).to_numpy()
    control = sheet["is_control"].to_numpy(bool)
    with tempfile.TemporaryDirectory() as folder:
        counts, table = Path(folder) / "counts.csv", Path(folder) / "sheet.csv"
        pd.DataFrame(reads).to_csv(counts)
        pd.DataFrame({"mass": mass, "is_control": control}).to_csv(table)
        try:
            done = subprocess.run(
                ["Rscript", "-e", IN_R.format(counts=counts, sheet=table)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            return float(done.stdout.split()[-1]), "decontam"
        except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
            pass
    return timed(lambda: decontam_method(reads, mass, control))[1], "its method, made here"


def main() -> None:
    """Print the table."""
    sizes = SHAPES if "--small" not in sys.argv else SHAPES[:1]
    print("| libraries x taxa | pairs with reads | screen, CPU s | s | tables, CPU s | "
          "decontam, CPU s |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    warm = mg.simulate(batches=2, patients=3, controls=1, taxa=20, rng=1)
    mg.screen(warm.counts, warm.samples).tidy()
    for batches, patients, controls, taxa in sizes:
        clinic = mg.simulate(
            batches=batches, patients=patients, controls=controls, taxa=taxa, rng=1
        )
        found, cpu, wall = timed(partial(mg.screen, clinic.counts, clinic.samples))
        tables = timed(found.tidy)[1]
        theirs, which = decontam(clinic.reads.astype(float), clinic)
        n, t = clinic.reads.shape
        print(f"| {n:,} x {t:,} | {np.count_nonzero(clinic.reads):,} | {cpu:.2f} | {wall:.1f} | "
              f"{tables:.2f} | {theirs:.2f} ({which}) |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
