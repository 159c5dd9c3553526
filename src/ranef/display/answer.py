"""Answers: tables stated once, and everything that is made of them.

An answer states its title, its tables (`Listing`s of columns) and its sentences. The table of
`tidy`, the text, the HTML of a notebook, the report, Markdown, LaTeX and Word come from that
statement: a new answer writes no formatting code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ranef import arguments
from ranef.display.columns import Listing, level_labels, reworded, unquoted
from ranef.display.numbers import signed
from ranef.display.page import MOST_ROWS, SHORT_ROWS, Page, Paragraph, TextTable
from ranef.display.sheet import Block, Row, Sheet
from ranef.elsewhere import answer_hint, explained
from ranef.tables import make_table

__all__ = ["Answer", "Shown", "Summary"]

Part = Paragraph | Listing
STYLES = ("apa",)


@dataclass(frozen=True)
class Summary:
    """A fit or an answer in words and tables; prints as text, shows as HTML in notebooks.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> print(fit.summary().page.title)
    Linear mixed model by REML: Yield ~ 1 + (1 | Batch)
    """

    page: Page

    def __getattr__(self, name: str) -> Any:
        said = "; its numbers are tables of the fit: .tidy(), .tidy('variance'), .glance()"
        raise AttributeError(f"a summary has no {name!r}{'' if name.startswith('_') else said}")

    def __str__(self) -> str:
        return self.page.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.page.html()


class Shown(ABC):
    """Something with a page: prints as text, shows as HTML in notebooks.

    Arguments and names that it does not have are answered by what they are called here.
    """

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for name, own in list(vars(cls).items()):
            if not name.startswith("_") and isinstance(own, FunctionType):
                setattr(cls, name, explained(own))

    def __getattr__(self, name: str) -> Any:
        kind = type(self)
        if hasattr(kind, name):
            return object.__getattribute__(self, name)  # a property raised: let it say why
        if name.startswith("_"):
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
        known = [own for own in dir(kind) if not own.startswith("_")]
        raise AttributeError(f"{kind.__name__} has no {name!r}{answer_hint(name, known)}")

    @property
    @abstractmethod
    def page(self) -> Page:
        """The answer in words and tables."""

    def __repr__(self) -> str:
        return self.page.text()

    def _repr_html_(self) -> str:
        return self.page.html()


class Answer(Shown):
    """What a question returns: prints as text, shows as HTML in notebooks.

    A kind of answer gives `title`, `library`, `tables` and `sentences`; `body` where its page
    has another order.
    """

    if TYPE_CHECKING:  # fields of some kinds of answer, properties of others

        @property
        @abstractmethod
        def title(self) -> str:
            """Heading of the page."""

        @property
        @abstractmethod
        def library(self) -> str:
            """Data-frame library of its tables."""

    @abstractmethod
    def tables(self) -> tuple[Listing, ...]:
        """The tables, that of `tidy` first."""

    def sentences(self) -> tuple[str, ...]:
        """What is said below the tables."""
        return ()

    def body(self) -> Iterable[Part]:
        """What the page shows, in order: the tables that are printed, then the sentences."""
        yield from (table for table in self.tables() if table.printed)
        if self.sentences():
            yield Paragraph(self.sentences())

    def listing(self, name: str | None = None) -> Listing:
        """Return a table by its name; the first without one."""
        every = self.tables()
        if name is None:
            return every[0]
        chosen = arguments.choice("table", name, tuple(table.name for table in every))
        return next(table for table in every if table.name == chosen)

    def in_order(self, listing: Listing) -> Listing:
        """Return a table in the order in which it is printed."""
        return listing

    @property
    def page(self) -> Page:
        """The answer in words and tables."""
        return self.page_of(self.body())

    def summary(self, *, short: bool = False) -> Summary:
        """Return the answer in words and tables, as it prints; short, a dozen rows a table."""
        most = SHORT_ROWS if arguments.flag("short", short) else MOST_ROWS
        return Summary(self.page_of(self.body(), most))

    def page_of(self, body: Iterable[Part], most: int = MOST_ROWS) -> Page:
        """Return tables and sentences under the answer's title; long tables without a middle."""
        first = self.tables()[0].name

        def shown(part: Part) -> Paragraph | TextTable:
            if isinstance(part, Paragraph):
                return part
            return part.text.shortened(most, ": tidy()" if part.name == first else " rows")

        return Page(self.title, tuple(map(shown, body)))

    def tidy(self) -> Any:
        """Return the answer as a table in the library that the data came in."""
        return self.tabled(self.listing())

    def tabled(self, listing: Listing) -> Any:
        """Return a table of the answer in the user's library."""
        return make_table(listing.table, self.library)

    # --- for papers

    def sheet(
        self,
        table: str | None = None,
        *,
        title: str | None = None,
        digits: int | None = None,
        style: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Sheet:
        """Return a table with the answer's sentences as a sheet for a paper.

        Parameters
        ----------
        table : str, optional
            The name of one of the answer's tables; the first by default.
        title : str, optional
            In place of the answer's own.
        digits : int, optional
            Decimals of estimates, errors and limits; by default as many as their errors allow.
        style : {"apa"}, optional
            p-values as the manual of the APA writes them.
        labels : dict, optional
            Names of terms, levels, columns and the response as the paper writes them.
        """
        if digits is not None:
            digits = arguments.places("digits", digits)
        if style is not None:
            arguments.choice("style", style, STYLES)
        first = next((listing.name for listing in self.tables() if listing.printed), None)
        listing = self.in_order(self.listing(first if table is None else table))
        if not listing.printed:
            shown = tuple(replace(c, printed=True) for c in listing.columns if c.tabled)
            listing = replace(listing, columns=shown)
        coded = getattr(getattr(self, "fit", self), "coded", {})
        labels = {**level_labels(coded, labels or {}), **(labels or {})}
        listing = listing.for_paper(digits, style, labels)
        rows = tuple(Row(row[0], (tuple(map(signed, row[1:])),)) for row in listing.rows)
        sentences = tuple(
            line for part in self.body() if isinstance(part, Paragraph) for line in part.lines
        )
        title = title or unquoted(reworded(listing.caption or self.title, labels))
        corner, *heads = listing.header
        return Sheet(title, ("",), (tuple(heads),), (Block("", rows),), sentences, corner)

    def to_markdown(self, **how: Any) -> str:
        """Return a table of the answer in Markdown; how, see `sheet`."""
        return self.sheet(**how).markdown()

    def to_html(self, **how: Any) -> str:
        """Return a page with a table of the answer; how, see `sheet`."""
        return self.sheet(**how).html()

    def to_latex(self, **how: Any) -> str:
        """Return a table of the answer in LaTeX; how, see `sheet`."""
        return self.sheet(**how).latex()

    def to_docx(self, path: str | PathLike[str], **how: Any) -> Path:
        """Write a table of the answer as a Word document; how, see `sheet`."""
        target = arguments.path(path)
        self.sheet(**how).write_docx(target)
        return target

    def write(self, path: str | PathLike[str], **how: Any) -> Path:
        """Write a table of the answer to a file whose ending says how.

        Parameters
        ----------
        path : str or path
            ``.docx`` (Word), ``.tex`` (LaTeX), ``.html``, ``.md`` or ``.txt``.
        **how
            See `sheet`.
        """
        target = arguments.path(path)
        self.sheet(**how).write(target)
        return target
