"""What `average` asks of a fit: averages by arm, group and category, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.fits.generalised import GeneralisedFit
from ranef.fits.mixed import MixedModelFit
from ranef.fits.new_rows import read_parts, read_rows
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.questions.averages import numbers
from ranef.questions.averages.numbers import Means
from ranef.questions.averages.people import Arm, People

__all__ = ["Layout", "Question", "asked_of", "named"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a fit."""

    fit: MixedModelFit
    variable: str
    compare: str
    kind: str
    type: str
    df: str | None
    method: str

    @property
    def linear(self) -> bool:
        return not isinstance(self.fit.estimate, GeneralisedEstimate)

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories of the response that have an average each."""
        fit = self.fit
        if not isinstance(fit, GeneralisedFit) or not fit._categorical:
            return None
        return fit._categories if self.type == "response" else None

    def means(self, estimate: Estimate, people: People, arms: Sequence[Arm]) -> Means:
        """Averages by arm, group and category; `read` keeps the rows of all arms."""
        return numbers.joined([self.of_rows(estimate, people, r) for r in self.rows(people, arms)])

    def rows(self, people: People, arms: Sequence[Arm]) -> list[Any]:
        """Matrices of the people under each arm."""
        read = [self._read(people.under(self.variable, arm.values)) for arm in arms]
        for _, frame in read:
            if frame.accounting.n_dropped:
                raise DataError(
                    f"{frame.accounting.n_dropped} rows of the population have no prediction once "
                    f"{self.variable!r} is replaced; leave them out"
                )
        return [rows for rows, _ in read]

    def _read(self, table: Any) -> tuple[Any, Any]:
        return read_for(self.fit.estimate, table, self.kind)

    def of_rows(self, estimate: Estimate, people: People, rows: Any) -> Means:
        if isinstance(estimate, GeneralisedEstimate):
            return numbers.generalised_means(
                estimate, rows, people.weights, people.groups, kind=self.kind, type=self.type
            )
        return numbers.linear_means(
            estimate, rows, people.weights, people.groups, conditional=self.kind == "conditional"
        )


def read_for(estimate: Estimate, table: Any, kind: str) -> tuple[Any, Any]:
    """Read a table for predictions of one kind."""
    if isinstance(estimate, GeneralisedEstimate):
        effects = {"conditional": "own", "population": "new"}.get(kind)
        return read_parts(estimate, table, effects, trials=False)
    effects = "own" if kind == "conditional" else None
    return read_rows(estimate.specification, table, effects)


@dataclass(frozen=True, eq=False)
class Layout:
    """Averages in order: by arm, group and category."""

    people: People
    arms: tuple[Arm, ...]
    categories: tuple[str, ...] | None

    @property
    def each(self) -> int:
        """Number of averages of an arm."""
        return len(self.people.labels) * len(self.categories or (None,))

    @property
    def divisor(self) -> float:
        return self.arms[0].divisor

    @property
    def shown(self) -> Floats:
        """Averages that a table shows, as functions of all; the two arms of a slope are one."""
        unit = np.eye(len(self.arms) * self.each)
        if not self.arms[0].slope:
            return unit
        half: Floats = (unit[: self.each] + unit[self.each :]) / 2
        return half

    @property
    def shown_labels(self) -> list[str]:
        """Values of the variable under which a table shows averages."""
        arms = self.arms[:1] if self.arms[0].slope else self.arms
        names = ["as it is"] if self.arms[0].slope else [arm.label for arm in arms]
        return [name for name in names for _ in range(self.each)]

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Averages compared: each arm but the reference with it."""
        own = np.arange(self.each)
        others = [a for a, arm in enumerate(self.arms) if not arm.reference]
        base = next(a for a, arm in enumerate(self.arms) if arm.reference)
        high = np.concatenate([a * self.each + own for a in others])
        return high, np.tile(base * self.each + own, len(others))

    def columns(self, count: int) -> dict[str, Any]:
        """Groups and categories of `count` arms' averages."""
        K = len(self.categories or (None,))
        found: dict[str, Any] = {}
        for j, name in enumerate(self.people.by):
            values = [label[j] for label in self.people.labels for _ in range(K)]
            found[name] = values * count
        if self.categories is not None:
            found["category"] = list(self.categories) * (len(self.people.labels) * count)
        return found


def asked_of(question: Question, layout: Layout, found: Means) -> numbers.Comparison:
    """Compare the averages of each arm with those of the reference."""
    high, low = layout.pairs()
    return numbers.compare(found.value, high, low, question.compare, layout.divisor)


def named(question: Question, layout: Layout) -> dict[str, Any]:
    """Name the comparisons."""
    arms = layout.arms
    base = next(arm for arm in arms if arm.reference)
    others = [arm for arm in arms if not arm.reference]
    sign = {"difference": "-", "odds": "/", "ratio": "/", "lift": "/", "log ratio": "/"}
    names = [
        arm.slope or f"{arm.label} {sign[question.compare]} {base.label}"
        for arm in others
        for _ in range(layout.each)
    ]
    return {
        "question": question,
        "layout": layout,
        "contrasts": tuple(names),
    }
