"""Scans of many samples: ``python -m benchmarks.gwas_large FOLDER [exact] [two-step]``.

Families of five in two populations, simulated into FOLDER (where they are kept), and scanned in a
process of its own on two threads: CPU time, time by the clock, and the largest memory of that
process, everything from reading to writing included. The exact path makes its relationship of all
variants; the two-step path its predictions and its close kin. A scan that was stopped goes on from
the parts it kept, and its times then are those of the last run only.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gwas import measured

SIMULATED = """
from ranef import gwas
gwas.simulate(n={n}, m={m}, family_size=5, populations=2, fst=0.02, h2=0.4, family=0.1,
              structure=0.05, causal=30, causal_h2=0.05, rng=16, out="{name}")
"""
SCANNED = """
import json
import numpy as np
import pandas as pd
from ranef import gwas
scan = gwas.scan("trait ~ sex + age + population", "{name}", "{name}.pheno.tsv",
                 relationship="{relationship}", n_jobs=2, memory="{memory}", resume="{name}.parts")
scan.save("{name}.parquet", format="parquet")
row = scan.glance().iloc[0]
print(json.dumps({{"tested": int(row["n_tested"]), "lambda": float(row["lambda_gc"])}}))
"""


@dataclass(frozen=True)
class Size:
    """A scan to be measured."""

    words: str
    n: int
    m: int
    relationship: str
    memory: str


SIZES = {
    "exact": Size("exact", 10_000, 100_000, "centred", "8GB"),
    "two-step": Size("two steps", 50_000, 500_000, "two-step", "16GB"),
}


def row(size: Size, folder: Path) -> str:
    """Simulate, unless the files are there, and scan; a row of the table."""
    name = f"n{size.n}"
    here = {"n": size.n, "m": size.m, "name": name, "relationship": size.relationship}
    if not (folder / f"{name}.pheno.tsv").is_file():
        made = measured([sys.executable, "-c", SIMULATED.format(**here)], folder)
        print(f"simulated: {made}", file=sys.stderr, flush=True)
    code = SCANNED.format(**here, memory=size.memory)
    run = measured([sys.executable, "-c", code], folder)
    print(run, file=sys.stderr, flush=True)
    said = json.loads(run.said)
    return (
        f"| {size.words} | {size.n:,} | {said['tested']:,} | {run.seconds:,.0f} | {run.clock:,.0f} "
        f"| {run.memory / 1e9:.1f} | {said['lambda']:.3f} |"
    )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    head = "| path | samples | variants tested | CPU seconds | by the clock | GB | lambda_GC |"
    print(head + "\n|---|---|---|---|---|---|---|", flush=True)
    for name in sys.argv[2:] or list(SIZES):
        print(row(SIZES[name], folder), flush=True)


if __name__ == "__main__":
    main()
