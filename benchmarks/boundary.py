"""Random problems near the boundary: who misses the optimum.

Each is compared with the best of all: a dense criterion searched without
bounds from many starts, ranef from many starts, and every package's own fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dense import Criterion, best
from benchmarks.problems import Problem, shapes
from benchmarks.process import Peer, Refused

__all__ = ["MISS", "survey"]

MISS = 1e-4


def ranef_starts(formula: str, table: Any, starts: int = 6) -> float:
    """Return the smallest deviance of ranef's own search from random starts."""
    from ranef.design.specify import specify
    from ranef.models.linear import fit_lmm

    rng = np.random.default_rng(1)
    spec = specify(formula, table)
    drawn = [np.abs(rng.normal(0, 0.5, 5)) for _ in range(starts)]
    return min(fit_lmm(spec, reml=True, start=start).deviance for start in drawn)


def deviances(peer: Peer, count: int, folder: Path) -> list[float]:
    """Return each problem's deviance by one package, NaN where it refuses."""
    found = []
    for i in range(count):
        shape = shapes().boundary(i)
        problem = Problem(shape.name, shape.name, shape.formula, shape.frame, groups=tuple("ghk"))
        try:
            peer.ask(
                "open",
                problem=problem.asked(),
                parquet=str(folder / f"{i}.parquet"),
                csv=str(folder / f"{i}.csv"),
            )
            found.append(-2 * peer.ask("fit", rounds=1)["loglik"])
        except Refused:
            found.append(float("nan"))
    return found


def survey(names: list[str], count: int, limit: float, folder: Path) -> dict[str, Any]:
    """Return, by package, how many of the problems it misses and by how much."""
    reference = []
    for i in range(count):
        shape = shapes().boundary(i)
        table = shape.frame()
        table.to_parquet(folder / f"{i}.parquet")
        table.to_csv(folder / f"{i}.csv", index=False)
        values = [best(Criterion(shape.columns))]
        if "ranef" in names:
            values.append(ranef_starts(shape.formula, table))
        reference.append(min(values))
    own = {}
    for name in names:
        with Peer(name, limit) as peer:
            own[name] = deviances(peer, count, folder)
    least = np.nanmin([reference, *own.values()], axis=0)
    report: dict[str, Any] = {"count": count, "miss": MISS}
    for name, values in own.items():
        excess = np.asarray(values) - least
        missed = ~(excess <= MISS)
        report[name] = {
            "missed": int(missed.sum()),
            "refused": int(np.isnan(excess).sum()),
            "worst": float(np.max(excess, where=~np.isnan(excess), initial=0.0)),
            "which": np.flatnonzero(missed).tolist(),
        }
    return report
