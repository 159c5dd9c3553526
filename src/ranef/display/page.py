"""Words and tables as plain text and as HTML; knows nothing of models."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from ranef.display.characters import visible

__all__ = ["MOST_ROWS", "SHORT_ROWS", "Page", "Paragraph", "TextTable"]

WIDTH = 100
MOST_ROWS, SHORT_ROWS, LAST_ROWS = 40, 12, 5
"""Rows of a printed table: at most, in a short summary, and at its end where it is cut."""


@dataclass(frozen=True)
class Paragraph:
    """One or more sentences, each on a line of its own; long ones are wrapped in text."""

    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(visible(line, lines=True) for line in self.lines))

    def text(self) -> str:
        return "\n".join(textwrap.fill(line, WIDTH) for line in self.lines)

    def html(self) -> str:
        return "<p>" + "<br>".join(escape(line) for line in self.lines) + "</p>"


@dataclass(frozen=True)
class TextTable:
    """A table with a caption; the first `labels` columns name the row.

    Attributes
    ----------
    caption : str
    header : tuple of str
    rows : tuple of tuple of str
    labels : int
        Columns aligned left; the others hold numbers, aligned right.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", visible(self.caption))
        object.__setattr__(self, "header", tuple(map(visible, self.header)))
        rows = tuple(tuple(map(visible, row)) for row in self.rows)
        object.__setattr__(self, "rows", rows)

    def shortened(self, most: int = MOST_ROWS, where: str = ": tidy()") -> TextTable:
        """Return the table without its middle where it is longer than anybody reads.

        Examples
        --------
        >>> rows = tuple((f"C{k}", str(k)) for k in range(100))
        >>> print(TextTable("Counts", ("code", "n"), rows).shortened(3).text())
        Counts
          code                  n
          C0                    0
          C1                    1
          ... 97 more: tidy()
          C99                  99
        """
        n = len(self.rows)
        if n <= most:
            return self
        last = min(LAST_ROWS, most // 3)
        first = min(4 * last, most - last)
        gap = (f"... {n - first - last:,} more{where}", *[""] * (len(self.header) - 1))
        return replace(self, rows=(*self.rows[:first], gap, *self.rows[n - last :]))

    def text(self) -> str:
        cells = [self.header, *self.rows]
        widths = [max(len(row[j]) for row in cells) for j in range(len(self.header))]
        lines = ["  ".join(self._aligned(row, widths)).rstrip() for row in cells]
        return "\n".join([self.caption, *("  " + line for line in lines)])

    def _aligned(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        return [
            cell.ljust(width) if j < self.labels else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]

    def html(self) -> str:
        head = "".join(
            f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in self.header
        )
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        return (
            f"<table><caption>{escape(self.caption)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _html_row(self, row: Sequence[str]) -> str:
        first = f'<th scope="row">{escape(row[0])}</th>'
        return first + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])


STYLE = (
    "<style>.ranef caption{color:inherit;text-align:left;font-weight:bold;padding:.4em 0}"
    ".ranef th,.ranef td{text-align:right;padding:.15em .6em}"
    ".ranef th:first-child{text-align:left}"
    ".ranef table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:tabular-nums}"
    ".ranef thead th{border-bottom:1px solid currentColor}</style>"
)


@dataclass(frozen=True)
class Page:
    """A title and what follows it."""

    title: str
    parts: tuple[Paragraph | TextTable, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", visible(self.title, lines=True))

    def text(self) -> str:
        return "\n\n".join([self.title, *(part.text() for part in self.parts)])

    def html(self) -> str:
        body = "".join(part.html() for part in self.parts)
        return f'{STYLE}<div class="ranef"><p><strong>{escape(self.title)}</strong></p>{body}</div>'
