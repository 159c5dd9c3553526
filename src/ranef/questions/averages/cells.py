"""What `average` asks of a fit: averages by setting, group and category, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.fits.fit import Averaging, Fit
from ranef.inference.rows.averaging import Means, joined
from ranef.models.rows import Rows
from ranef.questions.averages import numbers
from ranef.questions.averages.population import Population, Setting

__all__ = ["Cells", "Question", "comparison_of", "contrast_names"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a fit."""

    fit: Fit
    variable: str
    compare: str
    kind: str
    type: str
    df: str | None
    method: str

    @property
    def linear(self) -> bool:
        """Tell whether the mean is linear in the effects, so that typical and average agree."""
        family = self.fit.family
        identity = family.mean_link == "identity" and "zero" not in self.fit.parts
        return identity and self.type == "response"

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories of the response that have an average each."""
        return self.fit.categories if self.type == "response" else None

    def means(self, population: Population, settings: Sequence[Setting]) -> Means:
        """Averages by setting, group and category."""
        return self.means_of(self.fit, population, self.rows(population, settings))

    def rows(self, population: Population, settings: Sequence[Setting]) -> list[Rows]:
        """Matrices of the population under each setting."""
        read = [
            self.fit.rows_for(population.under(self.variable, setting.values), self.kind)
            for setting in settings
        ]
        for _, frame in read:
            if frame.accounting.n_dropped:
                raise DataError(
                    f"{frame.accounting.n_dropped} rows of the population have no prediction once "
                    f"{self.variable!r} is replaced; leave them out"
                )
        return [rows for rows, _ in read]

    def means_of(self, fit: Averaging, population: Population, rows: Sequence[Rows]) -> Means:
        """Averages that a fit, or a refit, has of rows that were read."""
        own = population.weights, population.groups
        return joined([fit.means(r, *own, kind=self.kind, type=self.type) for r in rows])


@dataclass(frozen=True, eq=False)
class Cells:
    """Averages in order: by setting, group and category."""

    population: Population
    settings: tuple[Setting, ...]
    categories: tuple[str, ...] | None

    @property
    def each(self) -> int:
        """Number of averages of a setting."""
        return len(self.population.labels) * len(self.categories or (None,))

    @property
    def divisor(self) -> float:
        return self.settings[0].divisor

    @property
    def shown(self) -> Floats:
        """Averages that a table shows, as functions of all; the two settings of a slope are one."""
        unit = np.eye(len(self.settings) * self.each)
        if not self.settings[0].slope:
            return unit
        half: Floats = (unit[: self.each] + unit[self.each :]) / 2
        return half

    @property
    def shown_labels(self) -> list[str]:
        """Values of the variable under which a table shows averages."""
        settings = self.settings[:1] if self.settings[0].slope else self.settings
        names = ["as it is"] if self.settings[0].slope else [setting.label for setting in settings]
        return [name for name in names for _ in range(self.each)]

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Averages compared: each setting but the reference with it."""
        own = np.arange(self.each)
        others = [a for a, setting in enumerate(self.settings) if not setting.reference]
        base = next(a for a, setting in enumerate(self.settings) if setting.reference)
        high = np.concatenate([a * self.each + own for a in others])
        return high, np.tile(base * self.each + own, len(others))

    def columns(self, count: int) -> dict[str, Any]:
        """Groups and categories of `count` settings' averages."""
        K = len(self.categories or (None,))
        found: dict[str, Any] = {}
        for j, name in enumerate(self.population.by):
            values = [label[j] for label in self.population.labels for _ in range(K)]
            found[name] = values * count
        if self.categories is not None:
            found["category"] = list(self.categories) * (len(self.population.labels) * count)
        return found


def comparison_of(question: Question, cells: Cells, found: Means) -> numbers.Comparison:
    """Compare the averages of each setting with those of the reference."""
    high, low = cells.pairs()
    return numbers.compare(found.value, high, low, question.compare, cells.divisor)


def contrast_names(question: Question, cells: Cells) -> tuple[str, ...]:
    """Name the comparisons."""
    base = next(setting for setting in cells.settings if setting.reference)
    others = [setting for setting in cells.settings if not setting.reference]
    sign = {"difference": "-", "odds": "/", "ratio": "/", "lift": "/", "log ratio": "/"}
    return tuple(
        setting.slope or f"{setting.label} {sign[question.compare]} {base.label}"
        for setting in others
        for _ in range(cells.each)
    )
