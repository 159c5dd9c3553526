"""Groups of images and meta-analyses beside PyMARE, nilearn, lme4 and metafor, in one run.

    python -m benchmarks.imaging [--voxels N] [--flips N] [--pairs N]

CPU time of one thread (BLAS too), the median of pairs in which both take turns; R counts its own. A
peer that is not installed is left out. Simulated: 30 subjects whose variances differ by a
coefficient of variation of about 0.75, a variance between subjects that is zero in a fifth of the
voxels. Flips and peers that take long are measured on fewer voxels or flips and scaled in
proportion, which the table says.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

for name in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{name}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import ranef  # noqa: E402
from ranef import imaging  # noqa: E402

WHOLE = 235_375  # voxels of a brain in 2 mm
SHAPE = (99, 117, 95)
SUBJECTS = 30
SCRIPT = Path(__file__).with_suffix(".R")


def group(voxels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects and variances (subjects, voxels) in single precision, and a design of two columns."""
    rng = np.random.default_rng(seed)
    size = np.exp(0.68 * rng.normal(size=(SUBJECTS, 1)))
    V = size * rng.uniform(0.6, 1.6, (1, voxels)) * rng.uniform(0.9, 1.1, (SUBJECTS, voxels))
    tau2 = np.where(rng.uniform(size=voxels) < 0.19, 0.0, 0.6 * rng.exponential(size=voxels))
    Y = rng.normal(size=V.shape) * np.sqrt(V + tau2)
    X = np.column_stack([np.ones(SUBJECTS), rng.normal(size=SUBJECTS)])
    return Y.astype(np.float32), V.astype(np.float32), X


def smooth_map(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A smooth map of statistics in an ellipsoid of about as many voxels as a brain."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.normal(size=SHAPE), 2)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = sum(g**2 for g in grid) < 0.565
    return 1.5 * values / values.std(), mask


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def paired(pairs: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    """Medians over pairs, after one warm run of ours."""
    ours()
    times = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    return median(a for a, _ in times), median(b for _, b in times)


Row = tuple[str, str, str, str]


def rate(voxels: int, spent: float) -> str:
    return f"{voxels / spent / 1e6:.2f} M voxels/s"


def voxelwise(voxels: int, pairs: int) -> list[Row]:
    """REML with errors, Knapp and Hartung's factor and the global search, beside PyMARE."""
    Y, V, X = group(voxels)
    rows = []
    for p in (1, 2):
        design = X[:, :p]

        def ours(design: Any = design) -> None:
            imaging.mixed_effects(Y, V, design, n_jobs=1, progress=False)

        what = f"REML, {voxels:,} voxels, {p} column{'s' if p > 1 else ''}"
        if not find_spec("pymare"):
            ours()
            spent = median(seconds(ours) for _ in range(pairs))
            rows.append((what, f"{spent:.3f} s ({rate(voxels, spent)})", "-", "-"))
            continue
        from pymare import Dataset
        from pymare.estimators import VarianceBasedLikelihoodEstimator

        y, v = Y.astype(float), V.astype(float)

        def theirs(design: Any = design, y: Any = y, v: Any = v) -> None:
            data = Dataset(y, v, design, add_intercept=False)
            VarianceBasedLikelihoodEstimator(method="REML").fit_dataset(data)

        mine, other = paired(pairs, ours, theirs)
        rows.append((
            what, f"{mine:.3f} s ({rate(voxels, mine)})", f"PyMARE REML {other:.1f} s",
            f"{other / mine:.0f}",
        ))  # fmt: skip
    return rows


def flips(voxels: int, count: int) -> list[Row]:
    Y, V, X = group(voxels)
    spent = seconds(
        lambda: imaging.sign_flips(
            Y, V, X[:, :1], n_perm=count, n_jobs=1, rng=1, enhance=False, progress=False
        )
    )
    minutes = spent / count * 5000 / 60
    scaled = "" if count == 5000 else f" (from {count})"
    return [(
        f"5,000 flips of signs, tau² each time, {voxels:,} voxels",
        f"{minutes:.1f} min{scaled}", "-", "-",
    )]  # fmt: skip


def enhancement(pairs: int) -> list[Row]:
    values, mask = smooth_map()
    inside = values[mask]
    graph = None

    def ours() -> None:
        imaging.tfce(values, mask=mask)

    what = f"TFCE of a map, {len(inside):,} voxels, two-sided"
    from ranef import _core
    from ranef.fields.imaging.graphs import Graph, enhanced

    graph = Graph(*_core.voxel_neighbours(mask))
    within = median(seconds(lambda: enhanced(inside, graph, True)) for _ in range(pairs))
    if not find_spec("nilearn"):
        return [(what, f"{within:.3f} s", "-", "-")]
    from nilearn.mass_univariate._utils import calculate_tfce
    from scipy.ndimage import generate_binary_structure

    array = np.where(mask, values, 0.0)[..., None]
    structure = generate_binary_structure(3, 1)

    def theirs() -> None:
        calculate_tfce(array, structure, two_sided_test=True)

    def permuted() -> None:
        enhanced(inside, graph, True)

    mine, other = paired(pairs, permuted, theirs)
    return [(what, f"{mine:.3f} s", f"nilearn {other:.2f} s", f"{other / mine:.1f}")]


def repeated(voxels: int) -> tuple[str, Callable[[Path], dict[str, Any]], Callable[[], float]]:
    """Random slopes per voxel: 30 subjects, four visits."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({
        "s": np.repeat(np.arange(30), 4), "t": np.tile([0.0, 1.0, 2.0, 3.0], 30),
        "g": np.repeat(np.arange(30) % 2, 4).astype(float),
    })  # fmt: skip
    u = rng.normal(size=(2, 30, voxels)) * np.array([1.0, 0.4])[:, None, None]
    line = u[0][table.s] + (0.5 + u[1][table.s]) * table.t.to_numpy()[:, None]
    Y = (line + rng.normal(size=line.shape)).astype(np.float32)

    def written(folder: Path) -> dict[str, Any]:
        frame = table.assign(**{f"y{k}": Y[:, k].astype(float) for k in range(40)})
        frame.to_csv(folder / "visits.csv", index=False)
        return {"visits": str(folder / "visits.csv")}

    def ours() -> float:
        def work() -> None:
            fit = imaging.lmm("y ~ t * g + (t | s)", table, outcomes=Y, n_jobs=1, progress=False)
            fit.contrast("t:g")

        work()
        return seconds(work) / voxels

    return f"random slopes, 30 subjects x 4, per voxel of {voxels:,}", written, ours


def studies() -> float:
    """One `meta` fit with its table."""
    data = ranef.data.load("bcg")
    table = ranef.effect_sizes("RR", data, ai="tpos", bi="tneg", ci="cpos", di="cneg")

    def work() -> None:
        ranef.meta("yi ~ ablat", table, variance="vi").tidy()

    for _ in range(5):
        work()
    return seconds(lambda: [work() for _ in range(200)]) / 200


def beside_r(voxels: int) -> list[Row]:
    what, written, ours = repeated(voxels)
    if shutil.which("Rscript") is None:
        each = ours()
        return [(what, f"{1e6 * each:.1f} µs", "-", "-")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = written(folder)
        data = ranef.data.load("bcg")
        table = ranef.effect_sizes("RR", data, ai="tpos", bi="tneg", ci="cpos", di="cneg")
        pd.DataFrame(table).to_csv(folder / "bcg.csv", index=False)
        files["bcg"] = str(folder / "bcg.csv")
        (folder / "files.json").write_text(json.dumps(files))
        call = ["Rscript", "--vanilla", str(SCRIPT), str(folder / "files.json")]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return [(what, f"{1e6 * ours():.1f} µs", "-", "-")]
        theirs = json.loads(done.stdout.strip().splitlines()[-1])
    each, one = ours(), studies()
    rows = []
    for name, words in (("refit", "lme4 refit"), ("refit_summary", "the same with lmerTest")):
        other = theirs.get(name)
        if other is not None:
            rows.append((
                what, f"{1e6 * each:.1f} µs", f"{words} {1e3 * other:.1f} ms",
                f"{other / each:,.0f}",
            ))  # fmt: skip
    rows.append((
        "one `meta` fit with its table (13 trials, one moderator)", f"{1e3 * one:.2f} ms",
        f"metafor {1e3 * theirs['rma']:.2f} ms", f"{theirs['rma'] / one:.1f}",
    ))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imaging")
    parser.add_argument("--voxels", type=int, default=WHOLE)
    parser.add_argument("--flips", type=int, default=24, help="of 5,000; the rest in proportion")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = voxelwise(asked.voxels, asked.pairs)
    rows += flips(asked.voxels, asked.flips)
    rows += enhancement(asked.pairs)
    rows += beside_r(min(asked.voxels, 16_384))
    print("| | ranef | peer | times |\n| --- | ---: | ---: | ---: |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
