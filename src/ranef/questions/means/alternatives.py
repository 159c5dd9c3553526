"""What a test is against: a difference, one direction, or equivalence within a margin.

Non-inferiority and equivalence as Schuirmann (1987, J. Pharmacokinet. Biopharm. 15): the
hypothesis is that a difference is beyond the margin, and two one-sided tests reject it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import quantile, two_sided
from ranef.questions.means.multiplicity import Adjusted

__all__ = ["JOINT", "TWO_SIDED", "Alternative", "read_alternative"]

Floats = NDArray[np.float64]

SIDES = ("two-sided", "greater", "less", "equivalence", "noninferiority", "nonsuperiority")
DIRECTIONS = {"greater": 1, "noninferiority": 1, "less": -1, "nonsuperiority": -1}
JOINT = ("tukey", "dunnett", "dunnettx", "mvt", "scheffe")
"""Adjustments by the distribution of the largest of two-sided statistics."""


@dataclass(frozen=True)
class Alternative:
    """What a test is against.

    Attributes
    ----------
    side : str
        One of `SIDES`.
    null : float
        The value tested.
    delta : float
        The margin: a difference as small does not count.
    """

    side: str = "two-sided"
    null: float = 0.0
    delta: float = 0.0

    @property
    def direction(self) -> int:
        """1 for a test of being greater, -1 of being less, else 0."""
        return DIRECTIONS.get(self.side, 0)

    @property
    def plain(self) -> bool:
        """Whether it is two-sided, so that every adjustment is defined."""
        return self.side == "two-sided"

    def statistic(self, value: Floats, error: Floats) -> Floats:
        """The t statistics (m,) of estimates with their standard errors."""
        gap = value - self.null
        if self.side == "equivalence":
            gap = np.abs(gap) - self.delta
        else:
            gap = gap + self.direction * self.delta
        return np.asarray(gap / error)

    def p_value(self, statistic: Floats, df: Floats) -> Floats:
        """Unadjusted p-values (m,)."""
        both = two_sided(statistic, df)
        if self.plain:
            return both
        upper = np.where(statistic > 0, both / 2, 1 - both / 2)
        return np.asarray(upper if self.direction == 1 else 1 - upper)

    def critical(self, adjusted: Adjusted, df: Floats, level: float) -> Floats:
        """Half-widths (m,) in standard errors: of one-sided intervals at the one-sided level."""
        if not self.direction:
            return adjusted.critical
        m = int(np.count_nonzero(~np.isnan(adjusted.critical)))
        share = {"none": level, "sidak": level ** (1 / max(m, 1))}
        one_sided = share.get(adjusted.interval_method, 1 - (1 - level) / max(m, 1))
        some = ~np.isnan(adjusted.critical)
        return np.where(some, quantile(2 * one_sided - 1, np.where(some, df, 1.0)), np.nan)

    def ends(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Open the interval where nothing is tested."""
        gone = np.isnan(low)
        if self.direction == 1:
            high = np.where(gone, np.nan, np.inf)
        elif self.direction == -1:
            low = np.where(gone, np.nan, -np.inf)
        return low, high

    def words(self, scale: str) -> tuple[str, ...]:
        """Say what the p-values are against, if it is not a difference from nothing."""
        null = f"{self.null:g}{scale}"
        if self.plain:
            return () if self.null == 0 else (f"Tested against {null}.",)
        if self.side == "equivalence":
            return (
                f"Tests of equivalence: a small p-value says that the value is within "
                f"{self.delta:g} of {null} (two one-sided tests).",
            )
        bound = self.null - self.direction * self.delta
        named = {"noninferiority": "non-inferiority", "nonsuperiority": "non-superiority"}
        side = "above" if self.direction == 1 else "below"
        what = named.get(self.side)
        lead = f"One-sided tests of {what}" if what else "One-sided tests"
        return (f"{lead}: a small p-value says that the value is {side} {bound:g}{scale}.",)


TWO_SIDED = Alternative()


def read_alternative(
    side: Any, null: Any, delta: Any, adjust: str | None, conf_level: float
) -> Alternative:
    """Check what a test is to be against.

    Raises
    ------
    ModelError
        When a margin is missing or means nothing, or the adjustment is defined for two-sided
        tests only.
    """
    side = arguments.choice("side", side, SIDES)
    for name, value in (("null", null), ("delta", delta)):
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise ModelError(f"{name} is a number, not {value!r}")
    margin = ("equivalence", "noninferiority", "nonsuperiority")
    if delta < 0 or (delta == 0) == (side in margin):
        what = (
            f"side={side!r} needs a margin, delta > 0"
            if side in margin
            else (f"side={side!r} has no margin: leave delta out, or ask for {', '.join(margin)}")
        )
        raise ModelError(what)
    if side != "two-sided" and adjust in JOINT:
        raise ModelError(
            f"adjust={adjust!r} is for two-sided tests; with side={side!r} use 'sidak', "
            "'bonferroni', 'holm' or 'none'"
        )
    if side in DIRECTIONS and conf_level <= 0.5:
        raise ModelError("a one-sided interval needs a conf_level above 0.5")
    return Alternative(side, float(null), float(delta))
