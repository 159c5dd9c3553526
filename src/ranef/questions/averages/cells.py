"""What `average` asks of a fit: averages by setting, group and category, and their order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.families.links import Scale
from ranef.fits.estimability import undetermined_words
from ranef.fits.fit import Averaging, Fit
from ranef.inference.coefficients.functions import ESTIMABLE, Functions
from ranef.inference.rows.averaging import Means, joined
from ranef.models.rows import Rows
from ranef.questions.averages import numbers
from ranef.questions.averages.population import Population, Setting

__all__ = ["Cells", "EffectEstimand"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Undetermined:
    """Which comparisons (C,) and averages in print (S,) the data do not determine."""

    comparisons: Bools
    means: Bools


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
    def slope(self) -> bool:
        """Whether two settings make a difference quotient."""
        return bool(self.settings[0].slope)

    @property
    def reference(self) -> Setting:
        """The setting with which the others are compared."""
        return next(setting for setting in self.settings if setting.reference)

    @property
    def printed(self) -> Floats:
        """Averages in a table, as functions of all; the two settings of a slope are one."""
        unit = np.eye(len(self.settings) * self.each)
        if not self.slope:
            return unit
        half: Floats = (unit[: self.each] + unit[self.each :]) / 2
        return half

    @property
    def printed_settings(self) -> list[str]:
        """Values of the variable under which a table has averages."""
        names = ["as it is"] if self.slope else [setting.label for setting in self.settings]
        return [name for name in names for _ in range(self.each)]

    def contrasts(self, compare: str) -> list[str]:
        """Name the comparisons."""
        sign = "-" if compare == "difference" else "/"
        return [
            setting.slope or f"{setting.label} {sign} {self.reference.label}"
            for setting in self.settings
            if not setting.reference
            for _ in range(self.each)
        ]

    def columns(self, size: int) -> dict[str, list[Any]]:
        """Groups and categories of `size` averages or comparisons."""
        K, times = len(self.categories or (None,)), size // self.each
        labels = self.population.labels
        columns = {
            name: [label[j] for label in labels for _ in range(K)] * times
            for j, name in enumerate(self.population.by)
        }
        if self.categories is not None:
            columns["category"] = list(self.categories) * (len(labels) * times)
        return columns

    @property
    def _pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Averages that are compared, and those they are compared with."""
        places, base = np.arange(self.each), self.settings.index(self.reference)
        others = [a for a, setting in enumerate(self.settings) if not setting.reference]
        high = np.concatenate([a * self.each + places for a in others])
        return high, np.tile(base * self.each + places, len(others))

    def compared(
        self, means: Floats, compare: str, undetermined: Bools | None = None
    ) -> numbers.Comparison:
        """Compare the averages (S,) of each setting with those of the reference."""
        divisor = self.settings[0].divisor
        return numbers.compare(means, *self._pairs, compare, divisor, undetermined)

    def gaps(self, averages: Functions, compare: str) -> Undetermined:
        """Which averages and comparisons the data do not determine."""
        high, low = self._pairs
        functions = averages
        if compare != "difference":
            functions = replace(averages, gap=averages.own_gaps())
        difference = functions.gap[high] - functions.gap[low]
        return Undetermined(
            np.asarray((np.abs(difference) > ESTIMABLE).any(axis=1)),
            np.asarray((self.printed @ ~averages.estimable) > 0),
        )


@dataclass(frozen=True, eq=False)
class EffectEstimand:
    """What is asked of a fit."""

    fit: Fit
    variable: str
    compare: str
    kind: str
    type: str
    df: str | None
    back: Scale = "identity"

    @property
    def linear(self) -> bool:
        """Tell whether the mean is linear in the effects, so that typical and average agree."""
        family = self.fit.family
        identity = family.mean_link == "identity" and "zero" not in self.fit.parts
        return identity and self.type == "response" and self.back == "identity"

    @property
    def categories(self) -> tuple[str, ...] | None:
        """Categories of the response that have an average each."""
        return self.fit.categories if self.type == "response" else None

    def rows(self, cells: Cells) -> list[Rows]:
        """Matrices of the population under each setting."""
        matrices = []
        for setting in cells.settings:
            table = cells.population.under(self.variable, setting.values)
            rows, origin = self.fit.rows_for(table, self.kind, self.back)
            if origin.accounting.n_dropped:
                raise DataError(
                    f"{origin.accounting.n_dropped} rows of the population have no prediction once "
                    f"{self.variable!r} is replaced; leave them out"
                )
            matrices.append(rows)
        return matrices

    def undetermined_words(self, cells: Cells, rows: list[Rows]) -> str | None:
        """Say under which setting rows are not determined by the data, and which rows."""
        parts, names = self.fit.parts_of(self.type), cells.population.names
        for setting, under in zip(cells.settings, rows, strict=True):
            words = undetermined_words(self.fit, under, parts, names)
            if words is not None:
                value = setting.slope or f"{self.variable} {setting.label}"
                return f"Empty rows cannot be estimated. Under {value}, {words}."
        return None

    def means(self, fit: Averaging, rows: list[Rows], population: Population) -> Means:
        """Averages that a fit, or a refit, has of rows that were read."""
        of = population.weights, population.groups
        how: dict[str, Any] = {"kind": self.kind, "type": self.type, "back": self.back}
        return joined([fit.means(r, *of, **how) for r in rows])
