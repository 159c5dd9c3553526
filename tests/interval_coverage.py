"""Coverage by simulation of the intervals of fixed effects: the designs, and the table of them.

``python tests/interval_coverage.py`` prints the table that docs/tests-and-intervals.md shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import ranef

__all__ = ["DESIGNS", "Design", "table"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """A model with known coefficients.

    Attributes
    ----------
    formula : str
    truth : dict
        Coefficient by name.
    draw : callable
        rng -> a table; its predictors are drawn anew as well.
    """

    formula: str
    truth: dict[str, float]
    draw: Callable[[np.random.Generator], pd.DataFrame]


def unbalanced_groups(rng: np.random.Generator) -> pd.DataFrame:
    """Six groups of three to seven rows, a slope between and one within groups."""
    sizes = np.array([3, 4, 5, 5, 6, 7])
    g = np.repeat(np.arange(6), sizes)
    x, w = rng.normal(size=len(g)), rng.normal(size=6)[g]
    y = 1 + 0.5 * x + 0.3 * w + rng.normal(size=6)[g] + rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


def crossed_cells(rng: np.random.Generator) -> pd.DataFrame:
    """Twelve by eight cells of one row, a tenth of them missing."""
    a, b = (v.ravel() for v in np.indices((12, 8)))
    keep = rng.permutation(96)[:86]
    a, b = a[keep], b[keep]
    x, w = rng.normal(size=86), rng.normal(size=12)[a]
    effects = rng.normal(size=12)[a] + 0.7 * rng.normal(size=8)[b]
    return pd.DataFrame(
        {"y": 1 + 0.5 * x + 0.3 * w + effects + rng.normal(size=86), "x": x, "w": w, "a": a, "b": b}
    )


TRUTH = {"(Intercept)": 1.0, "x": 0.5, "w": 0.3}
DESIGNS = {
    "6 groups of 3 to 7 rows": Design("y ~ x + w + (1 | g)", TRUTH, unbalanced_groups),
    "12 x 8 crossed, a tenth missing": Design(
        "y ~ x + w + (1 | a) + (1 | b)", TRUTH, crossed_cells
    ),
}


def table(
    design: str, methods: Sequence[str], draws: int, seed: int = 7, conf_level: float = 0.95
) -> pd.DataFrame:
    """Share of intervals that cover, and their mean width, by coefficient and method."""
    made, rng = DESIGNS[design], np.random.default_rng(seed)
    truth = np.array(list(made.truth.values()))
    covered = np.zeros((len(methods), len(truth)))
    width = np.zeros_like(covered)
    for _ in range(draws):
        fit = ranef.lmm(made.formula, made.draw(rng))
        for i, method in enumerate(methods):
            found = fit.intervals(conf_level, method)
            covered[i] += (found.conf_low <= truth) & (truth <= found.conf_high)
            width[i] += found.conf_high - found.conf_low
    rows = [
        (design, term, method, covered[i, j] / draws, width[i, j] / draws)
        for j, term in enumerate(made.truth)
        for i, method in enumerate(methods)
    ]
    return pd.DataFrame(rows, columns=["design", "term", "method", "covered", "width"])


if __name__ == "__main__":
    shown = ("kenward-roger", "satterthwaite", "containment", "residual", "normal")
    print("| design | coefficient | " + " | ".join(shown) + " |")
    print("|---|---|" + "---|" * len(shown))
    for name in DESIGNS:
        asked = [m for m in shown if m != "containment" or "crossed" not in name]
        found = table(name, asked, draws=2000).set_index(["term", "method"])["covered"]
        for term in TRUTH:
            cells = [f"{100 * found[term, m]:.1f}%" if m in asked else "-" for m in shown]
            print(f"| {name} | `{term}` | " + " | ".join(cells) + " |")
