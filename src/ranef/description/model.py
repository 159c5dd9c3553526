"""What is said of a fit in words, whatever its kind.

Page, summary, methods section and tables for papers are made of a `ModelDescription`. A kind
of fit describes itself by a subclass that says better what this class says of any regression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.description import words
from ranef.description.equation import Equation, regression
from ranef.design.specification import Specification
from ranef.design.state import Coding
from ranef.display.columns import Column, Degrees, Fixed, Label, Listing, PValue, Sized, Written
from ranef.display.numbers import count, significant
from ranef.families import Family
from ranef.inference.coefficients.degrees import words_of
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import ratio_word
from ranef.models.labels import CONDITIONAL, CoefficientLabel
from ranef.tables.calendar import calendar_order
from ranef.tables.looks import natural_order
from ranef.tables.origin import Origin

__all__ = ["Block", "Described", "ModelDescription"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Coefficients that are shown together.

    Attributes
    ----------
    heading : str
    coefficients : slice
    labels : tuple of str
    ratio : str or None
        What the exponential of a coefficient is; None where it is no ratio.
    tested : bool
        Whether zero is a value of interest.
    scale : str
        What the coefficients are of; nothing for the mean.
    response : str or None
        The category whose coefficients they are.
    """

    heading: str
    coefficients: slice
    labels: tuple[str, ...]
    ratio: str | None = None
    tested: bool = True
    scale: str = ""
    response: str | None = None

    @property
    def title(self) -> str:
        """Heading of the table."""
        of = f": {self.response} against the first category" if self.response else ""
        return f"{self.heading}{of}"

    def listing(self, intervals: Intervals, conf_level: float, df: str) -> Listing:
        """Return the table of a summary; `intervals` are those of all coefficients."""
        part = self.coefficients
        values = {name: column[part] for name, column in vars(intervals).items()}
        sized = Sized(values["std_error"])
        student = bool(np.isfinite(values["df"]).any())
        low, high = (f"{100 * conf_level:g}% {side}" for side in ("low", "high"))
        columns = [
            Column("term", self.labels, Label(), ""),
            Column("estimate", values["estimate"], sized),
            Column("std_error", values["std_error"], sized),
        ]
        if self.tested:
            columns += [Column("df", values["df"], Degrees())] if student else []
            columns += [
                Column("statistic", values["statistic"], Fixed(2), "t" if student else "z"),
                Column("p_value", values["p_value"], PValue(), "p"),
            ]
        if self.ratio is None:
            columns.append(Column("conf_low", values["conf_low"], sized, low))
            columns.append(Column("conf_high", values["conf_high"], sized, high))
        else:
            heads = (self.ratio, low, high)
            for name, head in zip(("estimate", "conf_low", "conf_high"), heads, strict=True):
                columns.append(Column(f"exp_{name}", self.ratios(values[name]), RATIO, head))
        return Listing("coefficients", tuple(columns), self._caption(df))

    def ratios(self, values: Floats) -> list[float | None]:
        """The exponentials of the coefficients; None of an intercept."""
        with np.errstate(over="ignore"):
            return [
                None if label == "(Intercept)" else float(np.exp(value))
                for label, value in zip(self.labels, values, strict=True)
            ]

    def _caption(self, df: str) -> str:
        heading = f"{self.title}: {self.scale}" if self.scale else self.title
        if not self.tested:
            return f"{heading} on the scale of the link"
        remark = f"; the interval is that of the {self.ratio}" if self.ratio else ""
        return f"{heading} ({words_of(df)}{remark})"


def _ratio(value: float) -> str:
    return significant(value, 3) if 1e-4 <= value < 1e6 else f"{value:.3g}"


RATIO = Written(_ratio, measured=True)


class Described(Protocol):
    """What a fit must have to be described."""

    @property
    def parts(self) -> Mapping[str, Specification]: ...
    @property
    def family(self) -> Family: ...
    @property
    def labels(self) -> Sequence[CoefficientLabel]: ...
    @property
    def frame(self) -> Origin: ...


class ModelDescription:
    """A fit in words; of a regression of a mean if nothing else is known.

    Attributes
    ----------
    model : str
        The kind of model: ``"linear mixed model"``.
    method : str
        How it was fitted, in a sentence after "by".
    criterion : str
        The same in a word.
    """

    model = "regression"
    method = "maximum likelihood"
    criterion = "ML"
    family_kind = "Generalised models"
    fixed: Mapping[str, float] = {}

    def __init__(self, fit: Described) -> None:
        self.fit = fit
        self.mean = fit.parts[CONDITIONAL]

    @property
    def response(self) -> str:
        """Name of the response."""
        return self.mean.response

    @property
    def title(self) -> str:
        """Heading of the summary."""
        return f"{_capital(self.model)}: {self.mean.formula}"

    @property
    def heading(self) -> str:
        """Heading of a page."""
        return f"{_capital(self.model)} of {self.response}"

    # --- the model

    def sentences(self) -> list[str]:
        """What is modelled by what, and how it was fitted."""
        names = self.blocks()[0].labels if self.blocks() else ()
        lines = [
            f"A {self.kind()} of {self.response}, fitted by {self.method} to "
            f"{count(self.mean.n, 'row')}.",
            *self.event(),
            words.fixed_part(self.mean.recipe.model.fixed, "(Intercept)" in names),
        ]
        if self.mean.offset is not None:
            lines.append("An offset with a coefficient of one is part of the mean.")
        if self.mean.weights is not None:
            lines.append(self.weights)
        return lines

    def event(self) -> list[str]:
        """Which of two categories is the event."""
        said = words.event(self.mean)
        return [] if said is None else [said]

    weights = "Weights multiply the contribution of each row."

    def kind(self) -> str:
        """The kind of model with its family."""
        return f"{self.model} ({self.family_words})"

    @property
    def family_words(self) -> str:
        """Family and link."""
        return f"{self.fit.family.name} family, {self.fit.family.link} link"

    @property
    def formulas(self) -> dict[str, str]:
        """The formula of each part."""
        return {name: part.formula for name, part in self.fit.parts.items()}

    def parts(self) -> list[str]:
        """Sentences on what is modelled beside the mean."""
        return []

    def random(self) -> list[str]:
        """Sentences on what varies between the levels of grouping factors."""
        return []

    def reading(self) -> list[str]:
        """Which question a coefficient answers."""
        lines = [words.compared(self.reference_levels())] if self.reference_levels() else []
        if any(":" in name for name in self.mean.names):
            lines.append(
                "The coefficient of a column that is also part of an interaction holds where the "
                "other column of the interaction is 0."
            )
        return lines

    def held(self) -> list[str]:
        """Sentences on priors, and on what was held or made equal."""
        return []

    def equation(self) -> Equation:
        """The model in symbols."""
        names = self.blocks()[0].labels if self.blocks() else ()
        return regression(self.response, self.mean, names, self.fit.family)

    # --- rows

    def rows(self) -> list[str]:
        """Rows used and dropped, groups, redundant columns."""
        lines = [words.rows_used(self.mean.accounting)]
        lines += self.event()
        groups = [f"{len(rows):,} levels of {name}" for name, rows in self.groups().items()]
        lines += [f"Groups: {', '.join(groups)}."] if groups else []
        if self.mean.dropped_columns:
            names = ", ".join(self.mean.dropped_columns)
            lines.append(f"Left out, because other columns determine them: {names}.")
        return [*lines, *self.concerns(), *self.level_orders()]

    def level_orders(self) -> Iterator[str]:
        """Say which categories of text stand by the alphabet, not by numbers or the calendar."""
        columns = self.fit.frame.data
        for key in self.mean.recipe.model.fixed.keys:
            coding = self.mean.recipe.state.get(f"levels of {key}")
            if not isinstance(coding, Coding) or columns is None or key not in columns.columns:
                continue
            levels = coding.levels
            if columns.kind(key) != "text" or not all(isinstance(level, str) for level in levels):
                continue
            counted, dated = natural_order(levels), calendar_order(levels)
            order = "their numbers" if counted is not None else "the calendar"
            counted = dated if counted is None else counted
            if counted is not None and list(levels) == sorted(levels):
                yield (
                    f"The levels of {key} are in alphabetical order: {', '.join(levels[:6])}"
                    f"{', ...' if len(levels) > 6 else ''}; an ordered categorical column "
                    f"with {', '.join(counted[:6])}{', ...' if len(levels) > 6 else ''} keeps the "
                    f"order of {order}."
                )

    def concerns(self) -> tuple[str, ...]:
        """What is to be known of the table: look-alike labels, repeated rows, codes."""
        response = self.mean.recipe.model.response
        return self.fit.frame.concerns(() if response is None else response.named)

    def groups(self) -> dict[str, NDArray[np.intp]]:
        """How many rows each level of each grouping factor has."""
        return {}

    def reference_levels(self) -> list[tuple[str, str]]:
        """Category and its reference level under treatment contrasts."""
        levels = []
        if "(Intercept)" in self.mean.names:
            for key in self.mean.recipe.model.fixed.keys:
                coding = self.mean.recipe.state.get(f"levels of {key}")
                if isinstance(coding, Coding) and coding.base >= 0:
                    levels.append((key, str(coding.levels[coding.base])))
        return levels

    # --- estimates

    def blocks(self) -> tuple[Block, ...]:
        """The coefficients by component."""
        labels = tuple(label.full for label in self.fit.labels)
        return (Block("Fixed effects", slice(0, len(labels)), labels, ratio_word(self.fit.family)),)

    def constants(self, intervals: Intervals | None = None, conf_level: float = 0.95) -> list[str]:
        """Sentences on dispersion and shapes that are one number each."""
        return []

    def shares(self) -> list[str]:
        """A sentence on the shares of the variance."""
        return []

    def facts(self) -> list[tuple[str, str]]:
        """What a reader asks first."""
        family = self.fit.family
        levels = [(f"Levels of {name}", f"{len(r):,}") for name, r in self.groups().items()]
        return [
            ("Rows used", f"{self.mean.n:,}"),
            *levels,
            ("Fitted by", self.criterion),
            ("Family", f"{family.name}, {family.link}"),
        ]

    # --- the end of the search

    def certificate(self) -> str:
        """Whether the optimum is proved, in a sentence for a paper; empty where none is sought."""
        return ""

    def endings(self) -> list[str]:
        """Log-likelihood, optimum and doubts, at the end of a summary."""
        return []

    # --- how to make it again

    def call(self) -> str:
        """The call that makes the fit, given the table ``data``; empty where none does."""
        return ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
