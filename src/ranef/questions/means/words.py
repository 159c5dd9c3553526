"""Marginal means and contrasts in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import Scale
from ranef.questions.means.grid import EvaluatedGrid
from ranef.questions.means.numbers import AdjustedTests

__all__ = ["adjustment_words", "degrees_words", "interval_words"]

ADJUSTED = {
    "tukey": "Tukey's method (studentised range)",
    "dunnett": "Dunnett's method (multivariate t)",
    "dunnettx": "Dunnett's method (approximation for correlations of 1/2)",
    "mvt": "the multivariate t distribution",
    "sidak": "Sidak's method",
    "scheffe": "Scheffe's method",
    "bonferroni": "Bonferroni's method",
    "holm": "Holm's method",
    "hochberg": "Hochberg's method",
    "hommel": "Hommel's method",
    "bh": "Benjamini and Hochberg's method (false discovery rate)",
    "by": "Benjamini and Yekutieli's method (false discovery rate)",
}


def degrees_words(grid: EvaluatedGrid) -> str:
    """Say on what distribution tests and intervals rest."""
    estimand = grid.estimand
    if grid.words is not None:
        return f"By {grid.words}"
    return f"By {grid.fit.test_words(None if estimand.unit else estimand.df)}"


def interval_words(tests: AdjustedTests, conf_level: float, link: Scale) -> str:
    """Say at which level intervals are, how adjusted, and on what scale they are made."""
    size = max((int(np.isfinite(a.critical).sum()) for a in tests.families), default=0)
    scale = "" if link == "identity" else f", computed on the scale of the {link}"
    words = f"{100 * conf_level:g}% intervals"
    methods = {(a.method, a.interval_method) for a in tests.families}
    for method, of_interval in sorted(methods - {("none", "none")}):
        words += f", simultaneous for {size} by {ADJUSTED[of_interval]}"
        if method != of_interval:
            words += f" ({ADJUSTED[method].partition(' (')[0]} has none)"
    return f"{words}{scale}."


def adjustment_words(
    tests: AdjustedTests,
    families: Sequence[NDArray[np.intp]],
    by: Sequence[str],
    compared: int | None,
    adjust: str,
) -> str:
    """Say for how many tests the p-values of contrasts are adjusted, and how."""
    methods = {a.method for a in tests.families} - {"none"}
    if not methods:
        return "p-values not adjusted."
    named = " and ".join(ADJUSTED[name] for name in sorted(methods))
    within = " in each level of " + " and ".join(by) if by else ""
    size = max(len(rows) for rows in families)
    count = f"{compared} means" if methods == {"tukey"} else f"{size} tests"
    error = max(a.error for a in tests.families)
    stated = f" (standard error of the integral {error:.1g})" if error else ""
    instead = ""
    if adjust == "tukey" and "sidak" in methods:
        instead = "; Tukey's is for all pairs of means alone"
    return f"p-values adjusted for {count}{within} by {named}{stated}{instead}."
