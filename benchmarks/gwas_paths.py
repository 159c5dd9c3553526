"""Power and errors of the exact and the two-step path: ``python -m benchmarks.gwas_paths FOLDER``.

2,000 samples in families of four from two populations at 12,000 variants on ten chromosomes, and
six traits: half of the variance polygenic or by twenty variants of 1.5% each, all of it on
chromosomes 1 to 7, beside a difference between the populations. Chromosomes 8 to 10 show errors of
the first kind, the twenty variants power. A run that was stopped goes on from the parts in FOLDER;
CPU seconds are summed over runs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranef import gwas
from ranef.fields.gwas.genotypes import Chosen

N, M, CHROMOSOMES, SILENT, TRAITS, CAUSAL = 2000, 12_000, 10, 3, 6, 20
EFFECT, PIECE = 0.015, 1200
LEVELS = (1e-2, 1e-3, 1e-4)
PATHS: dict[str, Any] = {
    "exact": "loco", "two steps": gwas.two_step(cut=0.15),
    "two steps, two components": gwas.two_step(cut=0.15), "least squares": None,
    "least squares, two components": None,
}  # fmt: skip


def made() -> tuple[gwas.Study, pd.DataFrame, dict[str, np.ndarray]]:
    """Genotypes, traits, and the places of each trait's variants with an effect."""
    study = gwas.simulate(
        n=N, m=M, family_size=4, populations=2, fst=0.02, chromosomes=CHROMOSOMES, rng=31
    )
    rng = np.random.default_rng(32)
    source = study.genotypes
    active = M * (CHROMOSOMES - SILENT) // CHROMOSOMES
    chosen = Chosen.of(source.samples, np.arange(N))
    table = study.phenotypes
    effects = rng.normal(size=(TRAITS, active))
    causal = {f"t{k}": np.sort(rng.choice(active, CAUSAL, replace=False)) for k in range(TRAITS)}
    polygenic, strong = np.zeros((TRAITS, N)), np.zeros((TRAITS, N))
    for start in range(0, active, PIECE):
        block = source.read(start, start + PIECE)
        rows = np.arange(PIECE)
        x = block.coded(rows, chosen, block.tally(chosen, "additive"), centred=True, single=False)
        x /= np.maximum(x.std(axis=1), 1e-9)[:, None]
        polygenic += effects[:, start : start + PIECE] @ x
        for k in range(TRAITS):
            mine = causal[f"t{k}"]
            strong[k] += x[mine[(mine >= start) & (mine < start + PIECE)] - start].sum(axis=0)
    for k in range(TRAITS):
        part = polygenic[k] / polygenic[k].std() * np.sqrt(0.5 - EFFECT * CAUSAL)
        region = 0.3 * (table["population"] == "2").to_numpy(float)
        noise = rng.normal(size=N) * np.sqrt(0.5)
        table[f"t{k}"] = part + strong[k] * np.sqrt(EFFECT) + region + noise
    return study, table, causal


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    study, table, causal = made()
    table = table.merge(gwas.pca(study.genotypes, n=2).tidy(), on=["FID", "IID"])
    silent = np.arange(M) >= M * (CHROMOSOMES - SILENT) // CHROMOSOMES
    rows = []
    for name, relationship in PATHS.items():
        kept = folder / f"{name.replace(' ', '-')}.json"
        spent = json.loads(kept.read_text()) if kept.is_file() else 0.0
        start = time.process_time()
        try:
            scan = gwas.scan(
                "~ sex + age" + (" + PC1 + PC2" if "components" in name else ""),
                study.genotypes, table, traits=list(causal), n_jobs=1, relationship=relationship,
                resume=folder / f"{name.replace(' ', '-')}.parts",
            )  # fmt: skip
        finally:
            spent += time.process_time() - start
            kept.write_text(json.dumps(spent))
        log = np.stack([-one.log10_p["wald"] for one in scan.found.values()])
        null = log[:, silent]
        null = null[np.isfinite(null)]
        hits = np.concatenate([log[k, mine] for k, mine in enumerate(causal.values())])
        hits = hits[np.isfinite(hits)]
        told = [f"{np.mean(null > -np.log10(level)) / level:.2f}" for level in LEVELS]
        gc = np.mean([one.lambda_gc for one in scan.found.values()])
        rows.append([name, *told, f"{np.mean(hits > -np.log10(5e-8)):.2f}", f"{hits.mean():.2f}",
                     f"{gc:.3f}", f"{spent:.0f}"])  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    print("| path | errors at 1e-2, of the level | at 1e-3 | at 1e-4 | power at 5e-8 "
          "| mean -log10 p | lambda_GC | CPU seconds |\n|" + "---|" * 8)  # fmt: skip
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
