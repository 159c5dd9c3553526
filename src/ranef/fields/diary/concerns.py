"""What somebody who knows such data would say about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ranef.inference.rows.group_means import variance_between

if TYPE_CHECKING:
    from ranef.fields.diary.occasions import Occasions, Roles

__all__ = ["Concern", "concerns"]

EPOCH = (946_684_800.0, 2_524_608_000.0)
"""Seconds since 1970 of the years 2000 and 2050."""
FEW = 10
UNRELIABLE = 0.7
BOTH = 0.05
SHORT = 50


@dataclass(frozen=True)
class Concern:
    """One thing to know before the numbers are believed.

    Attributes
    ----------
    about : {"few prompts", "raw predictor", "epochs", "nights", "Nickell", "compliance", "columns"}
    text : str
    """

    about: str
    text: str


def concerns(
    occasions: Occasions, roles: Roles, lagged: bool, reliability: dict[str, float]
) -> tuple[Concern, ...]:
    """Say what stands between these data and the usual reading of such a table.

    `reliability` is that of the persons' means, by predictor.
    """
    return tuple(
        Concern(about, text)
        for about, text in (
            *_few_prompts(occasions, roles, reliability),
            *_raw_predictors(occasions, roles),
            *_epochs(occasions, roles),
            *_nights(occasions, roles),
            *_nickell(occasions, roles, lagged),
            *_schedule(occasions),
        )
    )


def _prompts(occasions: Occasions, roles: Roles) -> np.ndarray:
    answered = ~np.isnan(occasions.columns[roles.outcome])
    return np.bincount(occasions.person.codes[answered], minlength=occasions.n_persons)


def _few_prompts(
    occasions: Occasions, roles: Roles, reliability: dict[str, float]
) -> Iterator[tuple[str, str]]:
    n = _prompts(occasions, roles)
    few = int(np.count_nonzero(n < FEW))
    if 4 * few >= len(n):
        yield (
            "few prompts",
            f"{few} of {len(n)} persons answered fewer than {FEW} prompts (median "
            f"{np.median(n):.0f}): their means, spreads and slopes are mostly noise, and person-"
            "specific slopes are pulled far to the mean.",
        )
    for name, value in reliability.items():
        if value < UNRELIABLE:
            yield (
                "few prompts",
                f"The persons' means of {name} have a reliability of {value:.2f}: the slope "
                "between persons is biased towards the one within. within_between() gives the "
                "corrected slope.",
            )


def _raw_predictors(occasions: Occasions, roles: Roles) -> Iterator[tuple[str, str]]:
    codes = occasions.person.codes
    for name in roles.covariates:
        x = np.asarray(occasions.columns[name])
        if x.dtype.kind != "f":
            continue
        rows = ~np.isnan(x)
        _, dense = np.unique(codes[rows], return_inverse=True)
        within, between, icc = variance_between(x[rows], dense.astype(np.int32))
        if min(within, between) > 0 and BOTH < icc < 1 - BOTH:
            yield (
                "raw predictor",
                f"{name} is not centred and varies within persons and between them "
                f"({100 * icc:.0f}% between): its one coefficient mixes two effects. Name it "
                "among the predictors to estimate both.",
            )


def _epochs(occasions: Occasions, roles: Roles) -> Iterator[tuple[str, str]]:
    """Numbers that count from 1970, of the years 2000 to 2050."""
    if occasions.clock.is_clock:
        return
    times = occasions.clock.time[np.isfinite(occasions.clock.time)]
    for unit, code, size in (("seconds", "s", 1.0), ("milliseconds", "ms", 1e3)):
        if len(times) and EPOCH[0] * size < times.min() and times.max() < EPOCH[1] * size:
            yield (
                "epochs",
                f"{roles.time} looks like {unit} since 1970 and is taken as plain numbers, without "
                f"days, hours and nights: use pandas.to_datetime(x, unit='{code}').",
            )


def _nights(occasions: Occasions, roles: Roles) -> Iterator[tuple[str, str]]:
    pairs = int(np.count_nonzero(occasions.before >= 0))
    if not pairs or occasions.gap is not None or occasions.nights < 0.02 * pairs:
        return
    if occasions.day is None:
        yield (
            "nights",
            f"The day of a prompt is not given, and {occasions.nights:,} of {pairs:,} "
            "successive prompts lie more than three times the usual gap apart, as across nights: "
            "instability, inertia and autocorrelation treat them as consecutive. Give day=, or "
            "max_gap=.",
        )
    else:
        yield (
            "nights",
            f"{occasions.nights:,} of {pairs:,} successive prompts of one {roles.day} have a "
            "night or a long gap between them; max_gap= separates them.",
        )


def _nickell(occasions: Occasions, roles: Roles, lagged: bool) -> Iterator[tuple[str, str]]:
    n = float(np.median(_prompts(occasions, roles)))
    if lagged:
        yield (
            "Nickell",
            f"The lagged {roles.outcome} is centred on means that hold the outcome itself: its "
            f"coefficient is biased downward by about (1 + coefficient) / {n:.0f} (Nickell 1981), "
            "and the other coefficients are effects given the outcome at the previous prompt.",
        )
    elif n < SHORT:
        yield (
            "Nickell",
            f"Inertia of series of about {n:.0f} prompts is biased downward, by about (1 + 3 "
            f"inertia) / {n:.0f} (Marriott and Pope 1954); compare only persons with "
            "equally many prompts.",
        )


def _schedule(occasions: Occasions) -> Iterator[tuple[str, str]]:
    if not occasions.schedule.known:
        yield (
            "compliance",
            "The table holds answered prompts only, and the number scheduled is not given: "
            "compliance is not known. Give scheduled=, a column, a number a day, or a dict.",
        )
