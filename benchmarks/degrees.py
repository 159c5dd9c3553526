"""Degrees of freedom of every coefficient: how long they take once a model is fitted.

Kenward-Roger's of ranef beside pbkrtest's (through lme4's adapter), and Satterthwaite's
of ranef beside its own fit; each asked of a fit made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import Settings, repeats, timed, write_table
from benchmarks.problems import PROBLEMS, Problem, bundled
from benchmarks.process import Peer, Refused

__all__ = ["METHODS", "degrees", "problems"]

METHODS = {"ranef": ("satterthwaite", "kenward-roger"), "lme4": ("kenward-roger",)}
TOO_LARGE = ("insteval", "insteval_cells")
"""Dense tails, of ranef alone: an n x n matrix of these has 43 GB."""
SIZES = ((1_000, 50), (3_000, 150), (10_000, 500), (50_000, 2_500))


def drawn(rows: int, groups: int, others: int) -> pd.DataFrame:
    """Groups of unequal size, a predictor of rows and one of groups, a factor."""
    rng = np.random.default_rng(rows + others)
    g, h = np.sort(rng.integers(0, groups, rows)), rng.integers(0, others, rows)
    x, w = rng.normal(size=rows), rng.normal(size=groups)[g]
    f = rng.integers(0, 3, rows)
    b = rng.normal(size=(groups, 2)) * [1.0, 0.5]
    y = 1 + x + 0.2 * w + 0.3 * f + b[g, 0] + b[g, 1] * x + rng.normal(size=rows)
    y += 0.5 * rng.normal(size=others)[h]
    return pd.DataFrame({"y": y, "x": x, "w": w, "f": np.array(list("uvw"))[f], "g": g, "h": h})


def simulated(title: str, formula: str, rows: int, groups: int) -> Problem:
    return Problem(title, title, formula, lambda: drawn(rows, groups, 40), groups=("g", "h"))


def problems(quick: bool) -> list[Problem]:
    """Return one factor with a slope at several sizes, crossed factors, the sleep study."""
    sleep = "Reaction ~ Days + (Days | Subject)"
    found = [Problem("sleepstudy", "sleepstudy", sleep, bundled("sleepstudy"), groups=("Subject",))]
    for rows, groups in SIZES[:2] if quick else SIZES:
        title = f"{rows:,} rows, slopes of {groups:,} groups"
        found.append(simulated(title, "y ~ x + w + f + (x | g)", rows, groups))
    for rows, groups in SIZES[:2] if quick else SIZES[:3]:
        title = f"{rows:,} rows, {groups:,} groups crossed with 40"
        found.append(simulated(title, "y ~ x + w + f + (1 | g) + (1 | h)", rows, groups))
    large = [problem for problem in PROBLEMS if problem.key in TOO_LARGE]
    return found if quick else found + large


def asked(peer: Peer, method: str) -> tuple[float, list[float]]:
    """Median seconds over rounds, and the answer."""
    first = peer.ask("degrees", method=method)
    seconds = [first["seconds"]]
    if first["seconds"] < 5:
        rounds = repeats(first["seconds"]) + 2
        seconds = [peer.ask("degrees", method=method)["seconds"] for _ in range(rounds)]
    return float(np.median(seconds)), first["df"]


def one(name: str, problem: Problem, settings: Settings, files: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with Peer(name, settings.limit) as peer:
        try:
            peer.ask("open", problem=problem.asked(), **files)
            peer.ask("fit", rounds=1)
            found["fit"] = timed(peer, 3)
            for method in METHODS[name]:
                found[method], found[f"df {method}"] = asked(peer, method)
        except Refused as reason:
            found["refused"] = str(reason)
    return found


def degrees(
    names: list[str], settings: Settings, quick: bool, folder: Path
) -> dict[str, dict[str, Any]]:
    """Seconds and degrees of freedom, by problem and package."""
    found: dict[str, dict[str, Any]] = {}
    for problem in problems(quick):
        files = write_table(problem, folder, csv=True)
        able = [name for name in names if name == "ranef" or problem.key not in TOO_LARGE]
        found[problem.title] = {name: one(name, problem, settings, files) for name in able}
    return found
