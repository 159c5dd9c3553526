"""Variance by level, and what a mean of prompts is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels", "reliabilities"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """Variances of one variable between persons, between a person's days, and of moments.

    Attributes
    ----------
    person, moment : float
    day : float or None
        None where there are no days.
    """

    person: float
    day: float | None
    moment: float

    @property
    def rows(self) -> list[tuple[str, float]]:
        """The levels, the outermost first, with their variances."""
        days = [] if self.day is None else [("day", self.day)]
        return [("person", self.person), *days, ("moment", self.moment)]

    @property
    def total(self) -> float:
        """The variance of a single prompt."""
        return self.person + (self.day or 0.0) + self.moment


def reliabilities(
    levels: Levels, prompts: Floats, days: Floats | None, prompts_a_day: Floats | None
) -> list[tuple[str, float, float]]:
    """Reliability of the means of persons and of a person's days.

    The share of a mean's variance that is not due to the prompts (and days) that happened to be
    drawn (generalisability; Cranford et al. 2006, Pers. Soc. Psychol. Bull. 32; Shrout and Lane
    2012): of persons tau_p / (tau_p + tau_d / D + sigma / n), of a person's days
    tau_d / (tau_d + sigma / m), averaged over persons and days.

    Parameters
    ----------
    prompts : (P,) array
        Prompts of each person.
    days : (P,) array or None
        Days of each person.
    prompts_a_day : (D,) array or None
        Prompts of each person's day.

    Returns
    -------
    list of (level, prompts, reliability)
        Level of the mean, its mean number of prompts.

    Examples
    --------
    >>> reliabilities(Levels(1.0, None, 4.0), np.array([4.0, 12.0]), None, None)
    [('person', 8.0, 0.625)]
    """
    within = levels.moment / prompts
    if levels.day is not None and days is not None:
        within = within + levels.day / days
    found = [("person", float(prompts.mean()), _share(levels.person, within))]
    if levels.day is not None and prompts_a_day is not None:
        noise = levels.moment / prompts_a_day
        found.append(("day", float(prompts_a_day.mean()), _share(levels.day, noise)))
    return found


def _share(signal: float, noise: Floats) -> float:
    return float(np.mean(signal / (signal + noise))) if signal > 0 else 0.0
