"""Columns of an answer: stated once, read as a table, as text, and as a page.

A column has a name for the table that `tidy` returns, values, and a style that says how they
are written; a `Listing` is columns under a caption.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef.display.numbers import (
    align,
    apa_p_value,
    decimals,
    number,
    p_value,
    rounded,
    significant,
    typeset,
)
from ranef.display.page import TextTable

__all__ = [
    "JOINTS",
    "Column",
    "Degrees",
    "Fixed",
    "Label",
    "Level",
    "Listing",
    "PValue",
    "Significant",
    "Sized",
    "Style",
    "Written",
    "level_labels",
    "renamed",
    "reworded",
    "unprinted",
    "unquoted",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


class Style(ABC):
    """How the values of a column are written."""

    @property
    def numeric(self) -> bool:
        """Whether they are numbers, aligned at their points."""
        return True

    @abstractmethod
    def cell(self, value: Any, row: int) -> str:
        """Return one value in print."""

    def write(self, values: Sequence[Any]) -> list[str]:
        """Return each value in print; nothing for None."""
        return ["" if v is None else self.cell(v, i) for i, v in enumerate(values)]

    def take(self, rows: Rows) -> Style:
        """Return the style of some rows, in their order."""
        return self

    def rounded(self, places: int) -> Style:
        """Return the style with so many decimals, where a paper may choose them."""
        return self

    def apa(self) -> Style:
        """Return the style as the manual of the APA writes it."""
        return self


@dataclass(frozen=True)
class Label(Style):
    """Names and levels as they are; of numbers six digits."""

    @property
    def numeric(self) -> bool:
        return False

    def cell(self, value: Any, row: int) -> str:
        if isinstance(value, str):
            return value
        return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Level(Label):
    """Levels of a factor, numbers in all their digits."""

    def cell(self, value: Any, row: int) -> str:
        return str(value)


@dataclass(frozen=True, eq=False)
class Sized(Style):
    """Numbers with the decimals that show three digits of a size, such as a standard error.

    Attributes
    ----------
    by : (n,) array
        The size for each value.
    """

    by: ArrayLike
    digits: int = 3

    def cell(self, value: Any, row: int) -> str:
        sizes = np.asarray(self.by, dtype=np.float64)
        size = float(sizes if sizes.ndim == 0 else sizes[row])
        return number(float(value), decimals(abs(size), self.digits))

    def take(self, rows: Rows) -> Style:
        sizes = np.asarray(self.by, dtype=np.float64)
        return self if sizes.ndim == 0 else replace(self, by=sizes[rows])

    def rounded(self, places: int) -> Style:
        return Rounded(places)


@dataclass(frozen=True)
class Fixed(Style):
    """Numbers with so many decimals; without decimals counts, which stay whole."""

    places: int

    def cell(self, value: Any, row: int) -> str:
        return number(float(value), self.places)

    def rounded(self, places: int) -> Style:
        return Rounded(places, bounded=True) if self.places else self


@dataclass(frozen=True)
class Rounded(Style):
    """Numbers with the decimals that a paper chose; counts stay whole, small ones keep digits.

    Attributes
    ----------
    places : int
    bounded : bool
        Of statistics and shares, small ones are said to be below the last decimal.
    """

    places: int
    bounded: bool = False

    def cell(self, value: Any, row: int) -> str:
        if self.bounded and 0 < value < 0.5 * 10.0**-self.places:
            return f"< {10.0**-self.places:.{self.places}f}"
        return rounded(float(value), self.places)

    def write(self, values: Sequence[Any]) -> list[str]:
        whole = all(isinstance(v, int | np.integer) for v in values if v is not None)
        return Fixed(0).write(values) if whole else super().write(values)


@dataclass(frozen=True)
class Significant(Style):
    """Numbers with so many digits."""

    digits: int = 4

    def cell(self, value: Any, row: int) -> str:
        return significant(float(value), self.digits)

    def rounded(self, places: int) -> Style:
        return Rounded(places)


@dataclass(frozen=True)
class Degrees(Style):
    """Degrees of freedom: one decimal, none from a thousand on."""

    def cell(self, value: Any, row: int) -> str:
        return number(float(value), 1 if float(value) < 1000 else 0)


@dataclass(frozen=True)
class PValue(Style):
    """p-values, never rounded to zero."""

    def cell(self, value: Any, row: int) -> str:
        return p_value(float(value))

    def apa(self) -> Style:
        return ApaPValue()


@dataclass(frozen=True)
class ApaPValue(Style):
    """p-values with three decimals and no zero before the point."""

    def cell(self, value: Any, row: int) -> str:
        return apa_p_value(float(value))


JOINTS = re.compile(r"( - | / |: |:|, | = | \| | by | of | with | against | ?=~ ?| ?~~ ?| ?~ ?)")
"""What joins names in one label: a contrast's levels, an interaction's terms."""


def renamed(label: str, labels: Mapping[str, str]) -> str:
    """Return a label as a paper writes it: the whole of it, else its parts.

    Examples
    --------
    >>> renamed("drug - placebo", {"drug": "Verum", "placebo": "Placebo"})
    'Verum - Placebo'
    >>> renamed("`RT (ms)`", {"RT (ms)": "Reaction time"})
    'Reaction time'
    """
    whole = label[1:-1] if re.fullmatch(r"`[^`]+`", label) else label
    for name in (label, whole):
        if name in labels:
            return labels[name]
    return unquoted("".join(labels.get(part, part) for part in JOINTS.split(label)))


def level_labels(coded: Mapping[str, tuple[str, str]], labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels of coefficients whose column or level has one.

    Examples
    --------
    >>> level_labels({"armb": ("arm", "b")}, {"b": "Verum"})
    {'armb': 'arm: Verum'}
    """
    return {
        term: f"{labels.get(column, column)}: {labels.get(level, level)}"
        for term, (column, level) in coded.items()
        if column in labels or level in labels
    }


def unquoted(label: str) -> str:
    """Return a label without the backticks of a formula.

    Examples
    --------
    >>> unquoted("`RT (ms)`:armb")
    'RT (ms):armb'
    """
    return re.sub(r"`([^`]+)`", r"\1", label)


def reworded(words: str, labels: Mapping[str, str]) -> str:
    """Return a caption with the names in it as a paper writes them.

    Examples
    --------
    >>> reworded("Mean of count by spp", {"count": "Salamanders", "spp": "Species"})
    'Mean of Salamanders by Species'
    """
    if not labels:
        return words
    names = "|".join(re.escape(name) for name in sorted(labels, key=len, reverse=True))
    return re.sub(rf"(?<!\w)({names})(?!\w)", lambda found: labels[found[1]], words)


@dataclass(frozen=True)
class Renamed(Style):
    """Names and levels as a paper writes them; whole sentences as they are."""

    own: Style
    labels: Mapping[str, str]

    @property
    def numeric(self) -> bool:
        return False

    def cell(self, value: Any, row: int) -> str:
        written = self.own.cell(value, row)
        return written if written.endswith(".") else renamed(written, self.labels)


@dataclass(frozen=True)
class Written(Style):
    """Values written by a function of one.

    Attributes
    ----------
    how : callable
    measured : bool
        Whether they are numbers whose decimals a paper may choose.
    """

    how: Callable[[Any], str]
    measured: bool = False

    def cell(self, value: Any, row: int) -> str:
        return self.how(value)

    def rounded(self, places: int) -> Style:
        if not self.measured:
            return self
        return Written(lambda v: self.how(v) if np.isnan(v) else rounded(float(v), places))


@dataclass(frozen=True, eq=False)
class Column:
    """One column of an answer.

    Attributes
    ----------
    name : str
        In the table that `tidy` returns.
    values : sequence
    style : Style
    heading : str or None
        In print; None for the name.
    tabled, printed : bool
        Whether it stands in the table, and in print.
    """

    name: str
    values: Any
    style: Style = Label()
    heading: str | None = None
    tabled: bool = True
    printed: bool = True

    @property
    def cells(self) -> list[str]:
        """The values in print."""
        return self.style.write(list(self.values))

    @property
    def typeset(self) -> list[str]:
        """The values for a page: numbers with its signs, their points under one another."""
        if not self.style.numeric:
            return self.cells
        pairs = zip(self.values, self.cells, strict=True)
        return align(["" if value is None else typeset(cell) for value, cell in pairs])

    def take(self, rows: Rows) -> Column:
        """Return some rows, in their order."""
        own = self.values
        values = own[rows] if isinstance(own, np.ndarray) else [own[i] for i in rows]
        return replace(self, values=values, style=self.style.take(rows))


def unprinted(**values: Any) -> tuple[Column, ...]:
    """State columns of the table alone, by name."""
    return tuple(Column(name, column, printed=False) for name, column in values.items())


@dataclass(frozen=True, eq=False)
class Listing:
    """A table of an answer.

    Attributes
    ----------
    name : str
        By which `tidy` finds it.
    columns : tuple of Column
    caption : str
    labels : int
        Leading printed columns that name the row.
    """

    name: str
    columns: tuple[Column, ...]
    caption: str = ""
    labels: int = 1

    @property
    def table(self) -> dict[str, Any]:
        """The columns by name, as `tidy` returns them."""
        return {c.name: c.values for c in self.columns if c.tabled}

    @property
    def printed(self) -> tuple[Column, ...]:
        """The columns in print."""
        return tuple(c for c in self.columns if c.printed)

    @property
    def header(self) -> tuple[str, ...]:
        """Headings of the columns in print."""
        return tuple(c.name if c.heading is None else c.heading for c in self.printed)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The cells in print."""
        written = [c.cells for c in self.printed]
        return tuple(zip(*written, strict=True)) if written else ()

    @property
    def text(self) -> TextTable:
        """The table in print."""
        return TextTable(self.caption, self.header, self.rows, self.labels)

    def for_paper(
        self, digits: int | None, style: str | None, labels: Mapping[str, str]
    ) -> Listing:
        """Return the table with a paper's decimals, its p-values and its names."""

        def column(own: Column, before: str, naming: bool) -> Column:
            how = own.style if digits is None else own.style.rounded(digits)
            heading = own.name if own.heading is None else own.heading
            shown = renamed(heading, labels)
            if shown == heading and own.heading is None and not naming:
                shown = heading.replace("_", " ")
            if heading == "high" and (level := re.fullmatch(r"(.+%) low", before)):
                shown = f"{level[1]} high"
            worded = naming or isinstance(how, Label | Written)
            how = Renamed(how, labels) if worded else how
            how = how.apa() if style == "apa" else how
            return replace(own, style=how, heading=shown)

        naming = {id(own) for own in self.printed[: self.labels]}
        names = ["", *(c.name if c.heading is None else c.heading for c in self.columns)]
        pairs = zip(self.columns, names, strict=False)
        columns = tuple(column(own, before, id(own) in naming) for own, before in pairs)
        return replace(self, columns=columns)

    def take(self, rows: Rows, caption: str | None = None) -> Listing:
        """Return some rows, in their order, under the same or another caption."""
        columns = tuple(column.take(rows) for column in self.columns)
        caption = self.caption if caption is None else caption
        return replace(self, columns=columns, caption=caption)
