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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranef import gwas
from ranef.solve.resources import one_blas_thread

N, M = 2000, 50_000
ONE = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL", "OMP")}
PUBLISHED = (
    ("63,000", "REGENIE", "2.4", "3"),
    ("63,000", "fastGWA (with its relationships)", "0.2 (24)", "1"),
    ("63,000", "LDAK-KVIK", "2.5", "2"),
    ("63,000", "GCTA-LOCO (exact)", "488", "167"),
    ("368,000", "REGENIE", "11", "16"),
    ("368,000", "fastGWA (with its relationships)", "0.3 (763)", "3"),
    ("368,000", "LDAK-KVIK", "15", "6"),
    ("405,088", "Quickdraws (79 traits, with a GPU)", "about REGENIE's cost", "not given"),
)
"""Samples, program, CPU hours, GB: one quantitative trait at 690,000 variants on an AMD EPYC 9654
(ldak-kvik.com/docs/performance); Quickdraws from its paper (Loya et al. 2025, PMC11821521)."""
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


@dataclass(frozen=True)
class Run:
    """What a command took.

    Attributes
    ----------
    seconds, clock : float
        CPU time of the command and its threads, and by the clock.
    memory : float
        Largest resident bytes.
    said : str
        What it printed.
    """

    seconds: float
    clock: float
    memory: float
    said: str


def measured(command: list[str], folder: Path) -> Run:
    """Run a command in a folder with one BLAS thread, and measure it."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaints:
        child = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **ONE}, stdout=out, stderr=complaints
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        complaints.seek(0)
        if child.returncode:
            raise SystemExit(f"{command[0]} ended with {child.returncode}:\n{complaints.read()}")
        spent = used.ru_utime + used.ru_stime
        clock = time.monotonic() - begin
        return Run(spent, clock, used.ru_maxrss * 1024.0, out.read().strip())


def program(name: str) -> str | None:
    """Where a program is: on the path, or beside this Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def floor() -> tuple[float, float]:
    """CPU time of the eigendecomposition, and of the products in single precision."""
    from scipy.linalg import eigh

    rng = np.random.default_rng(1)
    A = rng.normal(size=(N, N))
    with one_blas_thread():
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
        ours = measured([sys.executable, "-c", OURS], folder)
        plain = measured([sys.executable, "-c", LEAST_SQUARES], folder)
        eigen, products = floor()
        rows = [
            ("ranef, all three tests", ours.seconds),
            ("floor: eigenvectors and products", eigen + products),
            ("ranef, least squares", plain.seconds),
        ]
        both = ["-bfile", "sim", "-k", "sim.cXX.txt", "-c", "sim.covar.txt", "-outdir", "."]
        for peer, mode, name in (
            ("gemma", "1", "GEMMA -lmm 1 (Wald)"), ("gemma", "4", "GEMMA -lmm 4 (all)"),
            ("jamma", "4", "JAMMA -lmm 4 (all)"),
        ):  # fmt: skip
            where = program(peer)
            if where is None:
                print(f"left out: {peer} is not on the path", file=sys.stderr)
                continue
            run = measured([where, *both, "-lmm", mode, "-o", f"{peer}{mode}"], folder)
            rows.append((name, run.seconds))
            print(rows[-1], file=sys.stderr, flush=True)
        spent = ours.seconds
        print("| | CPU seconds | of ranef's |\n|---|---|---|")
        for name, other in rows:
            print(f"| {name} | {other:.1f} | {other / spent:.2f} |")
        print(f"\nlambda_GC by least squares {plain.said}, by the mixed model {ours.said}\n")
        print("| published: samples | program | CPU hours | GB |\n|---|---|---|---|")
        for row in PUBLISHED:
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
