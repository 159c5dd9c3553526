"""Genome-wide scans beside GEMMA and JAMMA: ``python -m benchmarks.gwas [FOLDER]``.

Families in two populations, 2,000 samples at 50,000 variants, three covariates, the relationship
given as a file; everything from reading to writing is included. What counts is CPU time (user and
system), one BLAS thread each. The floor is what the machine needs for the products U'X alone, in
single precision, and for the eigendecomposition. Programs that are not on the path are left out
(JAMMA is on PyPI). Numbers of other programs' papers and pages stand below, marked as published.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ranef import gwas

N, M = 2000, 50_000
ONE = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL", "OMP")}
PUBLISHED = (
    ("REGENIE, 368,000 samples, 690,000 variants, one trait", "11 h", "16 GB", "LDAK's pages"),
    ("fastGWA, the same (763 h with the relationship matrix)", "0.3 h", "3 GB", "LDAK's pages"),
    ("LDAK-KVIK, the same", "15 h", "6 GB", "LDAK's pages"),
    ("Quickdraws, 405,088 samples, 79 traits, on a GPU", "cost as REGENIE's", "", "its paper"),
)
OURS = """
from ranef import gwas
scan = gwas.scan("trait ~ sex + age + population", "sim", "sim.pheno.tsv",
                 relationship="sim.rel.bin", n_jobs=1)
scan.save("ranef.assoc.txt", format="gemma")
print(scan.glance()["lambda_gc"][0])
"""
LEAST_SQUARES = """
from ranef import gwas
scan = gwas.scan("trait ~ sex + age + population", "sim", "sim.pheno.tsv", relationship=None,
                 n_jobs=1)
print(scan.glance()["lambda_gc"][0])
"""


def study(folder: Path) -> None:
    """Write genotypes, phenotypes, GEMMA's covariates, and the relationship in two formats."""
    made = gwas.simulate(
        n=N, m=M, family_size=5, populations=2, fst=0.02, h2=0.4, family=0.1, structure=0.1,
        causal=10, causal_h2=0.1, rng=16,
    )  # fmt: skip
    made.save(folder / "sim")
    table = made.phenotypes
    columns = [np.ones(N), table["sex"] == "male", table["age"], table["population"] == "2"]
    np.savetxt(folder / "sim.covar.txt", np.column_stack(columns).astype(float), fmt="%g")
    K = gwas.grm(made.genotypes)
    K.save(folder / "sim", format="gemma")
    K.save(folder / "sim", format="plink2")


def seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """CPU time of a command and its children, and what it printed."""
    before = os.times()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **ONE}, check=True, capture_output=True, text=True
    )
    after = os.times()
    spent = after.children_user - before.children_user
    return spent + after.children_system - before.children_system, done.stdout.strip()


def floor() -> tuple[float, float]:
    """CPU time of the eigendecomposition, and of the products in single precision."""
    from scipy.linalg import eigh

    rng = np.random.default_rng(1)
    A = rng.normal(size=(N, N))
    start = time.process_time()
    _, U = eigh(A + A.T, driver="evd", overwrite_a=True, check_finite=False)
    middle = time.process_time()
    U, X = U.astype(np.float32), rng.normal(size=(2000, N)).astype(np.float32)
    for _ in range(M // 2000):
        _ = X @ U
    return middle - start, time.process_time() - middle


def main() -> None:
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as place:
        folder = given or Path(place)
        if not (folder / "sim.bed").is_file():
            study(folder)
        ours, mixed = seconds([sys.executable, "-c", OURS], folder)
        plain, least = seconds([sys.executable, "-c", LEAST_SQUARES], folder)
        eigen, products = floor()
        rows = [("ranef, all three tests", ours)]
        rows.append(("floor: eigenvectors and products", eigen + products))
        rows.append(("ranef, least squares", plain))
        both = ["-bfile", "sim", "-k", "sim.cXX.txt", "-c", "sim.covar.txt", "-outdir", "."]
        for program, mode, name in (
            ("gemma", "1", "GEMMA -lmm 1 (Wald)"), ("gemma", "4", "GEMMA -lmm 4 (all)"),
            ("jamma", "4", "JAMMA -lmm 4 (all)"),
        ):  # fmt: skip
            if shutil.which(program):
                command = [program, *both, "-lmm", mode, "-o", f"{program}{mode}"]
                rows.append((name, seconds(command, folder)[0]))
                print(rows[-1], file=sys.stderr, flush=True)
        print("| | CPU seconds | of ranef's |\n|---|---|---|")
        for name, spent in rows:
            print(f"| {name} | {spent:.1f} | {spent / ours:.1f} |")
        print(f"\nlambda_GC by least squares {least}, by the mixed model {mixed}\n")
        print("| published | CPU | memory | where |\n|---|---|---|---|")
        for row in PUBLISHED:
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
