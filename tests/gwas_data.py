"""Genotype files for tests: the mice of tests/reference/gwas unpacked, small ones made up."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

REFERENCE = Path(__file__).parent / "reference" / "gwas"
GEMMA = "GEMMA 0.98.5"


def unpack_mice(folder: Path) -> Path:
    """Write the mice's .bed, .bim and .fam; return their prefix."""
    for suffix in ("bed", "bim", "fam"):
        content = lzma.decompress((REFERENCE / f"mouse.{suffix}.xz").read_bytes())
        (folder / f"mouse.{suffix}").write_bytes(content)
    return folder / "mouse"


def gemma_table() -> pd.DataFrame:
    """GEMMA's results for the mice."""
    return pd.read_csv(REFERENCE / "mouse_lmm4.txt.xz", sep="\t")


def random_calls(m: int, n: int, seed: int, missing: float = 0.05) -> np.ndarray:
    """Copies of an allele, (m, n) int8, -1 where missing."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.9, (m, 1))
    calls = rng.binomial(2, p, (m, n))
    calls[rng.random((m, n)) < missing] = -1
    return calls.astype(np.int8)


def bytes_of(calls: np.ndarray) -> np.ndarray:
    """PLINK's bytes of calls, one call after the other."""
    m, n = calls.shape
    code = {2: 0, -1: 1, 1: 2, 0: 3}
    out = np.zeros((m, -(-n // 4)), dtype=np.uint8)
    for v in range(m):
        for j in range(n):
            out[v, j // 4] |= code[int(calls[v, j])] << (2 * (j % 4))
    return out


def write_files(folder: Path, name: str = "study", m: int = 12, n: int = 30, **more: Any) -> Path:
    """Write a small study of made-up genotypes with a trait; return its prefix."""
    seed = more.get("seed", 1)
    calls = more.get("calls", random_calls(m, n, seed))
    m, n = calls.shape
    rng = np.random.default_rng(seed + 1)
    trait = more.get("trait", [f"{v:.6f}" for v in rng.normal(size=n)])
    chromosome = more.get("chromosome", [str(1 + k * 2 // m) for k in range(m)])
    sex = more.get("sex", ["0"] * n)
    ids = more.get("ids", [f"S{k:03d}" for k in range(n)])
    (folder / f"{name}.bed").write_bytes(b"\x6c\x1b\x01" + bytes_of(calls).tobytes())
    bim = [f"{chromosome[k]} rs{k} 0 {1000 * (k + 1)} A G" for k in range(m)]
    fam = [f"F{k} {ids[k]} 0 0 {sex[k]} {trait[k]}" for k in range(n)]
    (folder / f"{name}.bim").write_text("\n".join(bim) + "\n")
    (folder / f"{name}.fam").write_text("\n".join(fam) + "\n")
    return folder / name
