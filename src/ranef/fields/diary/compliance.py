"""Prompts answered of those scheduled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fields.diary.occasions import Occasions

__all__ = ["Compliance", "compliance"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Compliance:
    """Prompts answered of those scheduled, (k,) each.

    Attributes
    ----------
    labels : list
        Persons, days of the study or prompts of the day.
    scheduled, answered : array
    latency : array or None
        Median minutes from schedule to answer.
    """

    labels: list[Any]
    scheduled: Floats
    answered: Floats
    latency: Floats | None

    @property
    def share(self) -> Floats:
        """Answered over scheduled; NaN where nothing was."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.answered / self.scheduled)


def compliance(occasions: Occasions, outcome: str, by: str) -> Compliance:
    """Count prompts by ``"person"``, ``"day"`` (of the study) or ``"prompt"`` (of the day)."""
    codes, labels = _groups(occasions, by)
    k, schedule = len(labels), occasions.schedule
    answered = ~np.isnan(occasions.columns[outcome])
    known = codes >= 0
    counted = np.bincount(codes[known & answered], minlength=k).astype(np.float64)
    planned = np.bincount(codes[known & (schedule.rows | answered)], minlength=k)
    scheduled = planned.astype(np.float64)
    if schedule.by_person is not None and by == "person":
        scheduled = schedule.by_person
    elif schedule.of_day is not None and by != "prompt":
        scheduled = _of_days(occasions, schedule.of_day, codes, k)
    elif schedule.by_day is not None:
        scheduled = _by_day(occasions, schedule.by_day, by, k)
    return Compliance(labels, scheduled, counted, _latency(schedule.latency, codes, answered, k))


def _groups(occasions: Occasions, by: str) -> tuple[NDArray[np.int_], list[Any]]:
    if by == "person":
        return occasions.person.codes.astype(np.int_), list(occasions.person.levels)
    values = occasions.study_day if by == "day" else occasions.prompt
    if values is None:
        raise ModelError(f"compliance by {by} needs {by}=")
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers) & ((numbers > 0) | (by != "day"))
    levels, inverse = np.unique(numbers[known], return_inverse=True)
    codes = np.full(len(numbers), -1, dtype=np.int_)
    codes[known] = inverse
    return codes, [int(v) if float(v).is_integer() else v for v in levels.tolist()]


def _by_day(occasions: Occasions, prompts: int, by: str, k: int) -> Floats:
    """Prompts that were scheduled when each day has so many, from the first day to the last."""
    if occasions.study_day is None:
        raise ModelError("scheduled= as a number of prompts a day needs days: give day=")
    last = np.zeros(occasions.n_persons, dtype=np.int_)
    known = occasions.person.codes >= 0
    np.maximum.at(last, occasions.person.codes[known], occasions.study_day[known])
    if by == "person":
        return last.astype(np.float64) * prompts
    days = np.unique(occasions.study_day[occasions.study_day > 0])
    if by == "day":
        return np.array([np.count_nonzero(last >= d) for d in days], dtype=np.float64) * prompts
    return np.full(k, float(last.sum()))


def _of_days(occasions: Occasions, numbers: Floats, codes: NDArray[np.int_], k: int) -> Floats:
    """Prompts scheduled on the days that a person has rows of, each day counted once."""
    use = np.flatnonzero((occasions.series >= 0) & (codes >= 0) & ~np.isnan(numbers))
    _, first = np.unique(occasions.series[use], return_index=True)
    rows = use[first]
    return np.asarray(np.bincount(codes[rows], numbers[rows], minlength=k), dtype=np.float64)


def _latency(
    hours: Floats | None, codes: NDArray[np.int_], answered: NDArray[np.bool_], k: int
) -> Floats | None:
    if hours is None:
        return None
    out = np.full(k, np.nan)
    use = answered & (codes >= 0) & ~np.isnan(hours)
    for code in np.unique(codes[use]).tolist():
        out[code] = 60.0 * float(np.median(hours[use & (codes == code)]))
    return out
