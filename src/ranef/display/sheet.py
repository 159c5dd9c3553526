"""A table for a paper: several models side by side, as text, Markdown, HTML, LaTeX and Word.

A sheet holds finished strings; it knows nothing of models.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from ranef.display.characters import markdown, paragraph, tex, visible
from ranef.display.files import write_atomically
from ranef.errors import FileError

__all__ = ["WRITERS", "Block", "Row", "Sheet", "writable"]

INDENT = "  "
WIDTH = 100
UNBROKEN = 40
"""Characters up to which a cell of a Word table stays on one line, and one of LaTeX unbroken."""
NUMBER = re.compile(r"[<>≤≥=~(\[]*\s*[-\u2212\u2013+]?(\.?\d|inf|nan)", re.IGNORECASE)
"""How a cell begins that is set on the right."""
STYLE = """
.ranef-sheet table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.ranef-sheet caption { color: inherit; text-align: left; font-weight: bold; padding: .4em 0; }
.ranef-sheet th, .ranef-sheet td { padding: .15em .7em; text-align: right; font-weight: normal;
  white-space: nowrap; }
.ranef-sheet th[scope=row], .ranef-sheet th[scope=rowgroup] { text-align: left; }
.ranef-sheet .words { text-align: left; white-space: normal; }
.ranef-sheet thead tr:first-child > * { border-top: 2px solid currentColor; }
.ranef-sheet tr.models > * { text-align: center; font-weight: bold; }
.ranef-sheet tr.columns > * { border-bottom: 1px solid currentColor; }
.ranef-sheet tbody th[scope=rowgroup] { font-style: italic; padding-top: .6em; }
.ranef-sheet tbody th[scope=row] { padding-left: 1.6em; }
.ranef-sheet tbody.single th[scope=row] { padding-left: .7em; }
.ranef-sheet td.whole { text-align: center; }
.ranef-sheet tbody:last-of-type tr:last-child > * { border-bottom: 2px solid currentColor; }
.ranef-sheet p { font-size: .9em; max-width: 70em; }
"""
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 2rem; }
h1 { font-size: 1rem; }
main caption { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
"""


def _made_visible(part: object, *names: str) -> None:
    """Let every string of a part of a sheet be one line of characters that can be seen."""
    for name in names:
        object.__setattr__(part, name, _all_visible(getattr(part, name)))


def _all_visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else tuple(map(_all_visible, value))


@dataclass(frozen=True)
class Row:
    """One line: its name, and for each model its cells.

    Attributes
    ----------
    label : str
    cells : tuple of tuple of str
        For each model one string a column, or a single one for the whole width, or
        none where the model has no such line.
    """

    label: str
    cells: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        _made_visible(self, "label", "cells")


@dataclass(frozen=True)
class Block:
    """Lines under one heading, or under none."""

    heading: str
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        _made_visible(self, "heading")


@dataclass(frozen=True)
class Sheet:
    """A table for a paper.

    Attributes
    ----------
    title : str
    models : tuple of str
        Heads that span the columns of each model.
    columns : tuple of tuple of str
        Heads of the columns of each model.
    blocks : tuple of Block
    notes : tuple of str
        Sentences below the table.
    corner : str
        Head of the lines' names.
    """

    title: str
    models: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    corner: str = ""

    def __post_init__(self) -> None:
        _made_visible(self, "title", "models", "columns", "notes", "corner")

    @property
    def width(self) -> int:
        """Number of columns beside the labels."""
        return sum(len(own) for own in self.columns)

    @property
    def named(self) -> bool:
        """Whether the models have heads; an answer's own table has none."""
        return any(self.models)

    def words(self) -> list[int]:
        """Return for each column the length of its longest text, 0 for a column of numbers."""
        inside: list[list[str]] = [[] for _ in range(self.width)]
        for row in (row for block in self.blocks for row in block.rows):
            at = 0
            for text, span in self.full(row.cells):
                if span == 1 and any(map(str.isalnum, text)):
                    inside[at].append(text)
                at += span
        return [_words(cells) for cells in inside]

    def full(self, cells: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
        """Return the cells of a line with the number of columns that each spans."""
        out: list[tuple[str, int]] = []
        for own, columns in zip(cells, self.columns, strict=True):
            if len(own) == len(columns):
                out += [(text, 1) for text in own]
            else:
                out.append((own[0] if own else "", len(columns)))
        return out

    def text(self) -> str:
        """Write plain text, one blank line between blocks."""
        lines = [self.title, "", *_text_lines(self)]
        notes = [textwrap.fill(note, WIDTH) for note in self.notes]
        return "\n".join([*lines, "", *notes]).rstrip()

    def markdown(self) -> str:
        """Write a pipe table; the head joins the names of model and column."""
        heads = [
            f"{model}: {column}" if len(self.models) > 1 else column
            for model, own in zip(self.models, self.columns, strict=True)
            for column in own
        ]
        lines = [f"**{markdown(self.title)}**", "", _line([*map(markdown, (self.corner, *heads))])]
        lines.append("|:--|" + "".join(":--|" if words else "--:|" for words in self.words()))
        for block in self.blocks:
            if block.heading:
                lines.append(_line([f"*{markdown(block.heading)}*", *[""] * self.width]))
            for row in block.rows:
                cells = [
                    cell
                    for text, span in self.full(row.cells)
                    for cell in [text] + [""] * (span - 1)
                ]
                lines.append(_line([markdown(row.label), *map(markdown, cells)]))
        return "\n".join([*lines, "", *map(paragraph, self.notes)]).rstrip() + "\n"

    def fragment(self) -> str:
        """Write an HTML table with its style, to be put into a page."""
        tops = "".join(
            f'<th scope="colgroup" colspan="{len(own)}">{escape(model)}</th>'
            if model
            else f'<td colspan="{len(own)}"></td>'
            for model, own in zip(self.models, self.columns, strict=True)
        )
        names = (name for own in self.columns for name in own)
        heads = "".join(
            f'<th scope="col"{_side(words)}>{escape(name)}</th>'
            for name, words in zip(names, self.words(), strict=True)
        )
        above = f'<tr class="models"><td></td>{tops}</tr>' if self.named else ""
        corner = f'<th scope="col" class="words">{escape(self.corner)}</th>'
        corner = corner if self.corner else "<td></td>"
        bodies = "".join(self._html_block(block) for block in self.blocks)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f'<style>{STYLE}</style><div class="ranef-sheet"><table>'
            f"<caption>{escape(self.title)}</caption><thead>"
            f'{above}<tr class="columns">{corner}{heads}</tr>'
            f"</thead>{bodies}</table>{notes}</div>"
        )

    def _html_block(self, block: Block) -> str:
        words = self.words()
        rows = "".join(self._html_row(row, words) for row in block.rows)
        if not block.heading:
            return f'<tbody class="single">{rows}</tbody>'
        head = f'<th scope="rowgroup" colspan="{self.width + 1}">{escape(block.heading)}</th>'
        return f"<tbody><tr>{head}</tr>{rows}</tbody>"

    def _html_row(self, row: Row, words: Sequence[int]) -> str:
        cells, at = "", 0
        for text, span in self.full(row.cells):
            how = _side(words[at]) if span == 1 else f' class="whole" colspan="{span}"'
            cells += f"<td{how}>{escape(text)}</td>"
            at += span
        return f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>'

    def html(self) -> str:
        """Write a page of its own."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{escape(self.title)}</title><style>{PAGE_STYLE}</style></head>"
            f"<body><main><h1>{escape(self.title)}</h1>{self.fragment()}</main></body></html>\n"
        )

    def latex(self) -> str:
        r"""Write a ``table`` environment; it needs ``\usepackage{booktabs}``."""
        ends, at = [], 2
        for own in self.columns:
            ends.append((at, at + len(own) - 1))
            at += len(own)
        tops = " & ".join(
            rf"\multicolumn{{{len(own)}}}{{c}}{{{tex(model)}}}"
            for model, own in zip(self.models, self.columns, strict=True)
        )
        rules = "".join(rf"\cmidrule(lr){{{a}-{b}}}" for a, b in ends)
        heads = " & ".join(tex(name) for own in self.columns for name in own)
        lines = [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{tex(self.title)}}}",
            rf"\begin{{tabular}}{{l{_latex_columns(self.words())}}}",
            r"\toprule",
            *([rf" & {tops} \\", rules] if self.named else []),
            rf"{tex(self.corner)} & {heads} \\",
        ]
        for block in self.blocks:
            lines.append(r"\midrule")
            if block.heading:
                heading = rf"{{l}}{{\textit{{{tex(block.heading)}}}}}"
                lines.append(rf"\multicolumn{{{self.width + 1}}}{heading} \\")
            lines += [self._latex_row(row, r"\quad " * bool(block.heading)) for row in block.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\raggedright\footnotesize {tex(note)}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def _latex_row(self, row: Row, indent: str) -> str:
        cells = [
            tex(text) if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{tex(text)}}}"
            for text, span in self.full(row.cells)
        ]
        return rf"{indent}{tex(row.label)} & {' & '.join(cells)} \\"

    def write(self, path: str | PathLike[str]) -> None:
        """Write the sheet to a file; its ending says how.

        Raises
        ------
        ranef.errors.FileError
            The ending is none of `WRITERS`, or the file cannot be written.
        """
        write_atomically(path, WRITERS[writable(path).suffix.lower()](self))

    def write_docx(self, path: str | PathLike[str]) -> None:
        """Write a Word document."""
        write_atomically(path, self.docx())

    def docx(self) -> bytes:
        """Return a Word document."""
        from docx import Document

        document = Document()
        document.core_properties.title = self.title
        document.core_properties.author = ""
        document.add_heading(self.title, level=2)
        n_rows = 1 + self.named + sum(bool(b.heading) + len(b.rows) for b in self.blocks)
        table = document.add_table(n_rows, self.width + 1)
        _fill_docx(table, self)
        _set_widths(document, table, self)
        for note in self.notes:
            _small(document.add_paragraph(note))
        stream = io.BytesIO()
        document.save(stream)
        return stream.getvalue()


WRITERS: dict[str, Callable[[Sheet], str | bytes]] = {
    ".docx": Sheet.docx,
    ".tex": Sheet.latex,
    ".html": Sheet.html,
    ".htm": Sheet.html,
    ".md": Sheet.markdown,
    ".txt": lambda sheet: sheet.text() + "\n",
}
"""What writes a sheet, by the ending of a file's name."""


def writable(path: str | PathLike[str]) -> Path:
    """Return a path whose ending says how a sheet is written, or refuse it."""
    target = Path(path)
    if target.suffix.lower() not in WRITERS:
        raise FileError(
            f"a table is written by the ending of its file's name, one of {', '.join(WRITERS)}; "
            f"{target.name!r} has none of them"
        )
    return target


def _text_lines(sheet: Sheet) -> list[str]:
    """The lines of the table in plain text, columns aligned."""
    headings = [sheet.corner, *(block.heading for block in sheet.blocks)]
    names = [INDENT + row.label for block in sheet.blocks for row in block.rows]
    label = max(map(len, headings + names))
    widths = _text_widths(sheet)
    words = iter(sheet.words())
    sides = [[bool(next(words)) for _ in own] for own in sheet.columns]
    plain = [[False] * len(own) for own in sheet.columns]

    def line(name: str, cells: Sequence[Sequence[str]], sides: Sequence[Sequence[bool]]) -> str:
        return _text_line(name, list(zip(cells, widths, sides, strict=True)), label)

    lines = [line("", [(model,) for model in sheet.models], plain)] if sheet.named else []
    lines.append(line(sheet.corner, sheet.columns, sides))
    for block in sheet.blocks:
        lines += ["", block.heading] if block.heading else []
        indent = INDENT * bool(block.heading)
        lines += [line(indent + row.label, row.cells, sides) for row in block.rows]
    return lines


def _text_widths(sheet: Sheet) -> list[list[int]]:
    """Widths of each model's columns, wide enough for what spans them."""
    out = []
    rows = [row for block in sheet.blocks for row in block.rows]
    for m, columns in enumerate(sheet.columns):
        widths = [len(name) for name in columns]
        spans = [len(sheet.models[m])]
        for row in rows:
            own = row.cells[m]
            if len(own) == len(columns):
                widths = [max(w, len(cell)) for w, cell in zip(widths, own, strict=True)]
            elif own:
                spans.append(len(own[0]))
        widths[-1] += max(0, max(spans) - sum(widths) - 2 * (len(widths) - 1))
        out.append(widths)
    return out


Cells = tuple[Sequence[str], Sequence[int], Sequence[bool]]
"""Of one model: its cells, their widths, and whether they are words."""


def _text_line(label: str, cells: Sequence[Cells], width: int) -> str:
    parts = [label.ljust(width)]
    for own, widths, words in cells:
        if len(own) == len(widths):
            each = zip(own, widths, words, strict=True)
            parts.append("  ".join(c.ljust(w) if left else c.rjust(w) for c, w, left in each))
        else:
            whole = sum(widths) + 2 * (len(widths) - 1)
            parts.append((own[0] if own else "").center(whole))
    return "   ".join(parts).rstrip()


def _words(cells: Sequence[str]) -> int:
    """Length of the longest cell of a column most of whose cells are words, else 0."""
    texts = [cell for cell in cells if len(cell) > UNBROKEN or not NUMBER.match(cell)]
    return max(map(len, texts)) if 2 * len(texts) > len(cells) else 0


def _side(words: int) -> str:
    return ' class="words"' if words else ""


def _latex_columns(words: Sequence[int]) -> str:
    """Columns of numbers right, of words left, of long words in lines of half the page."""
    long = sum(length > UNBROKEN for length in words)
    broken = rf"p{{{0.5 / max(long, 1):.2f}\linewidth}}"
    return "".join("r" if not length else broken if length > UNBROKEN else "l" for length in words)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _fill_docx(table: Any, sheet: Sheet) -> None:
    """Put the sheet into a Word table: three rules, numbers on the right."""
    lines: list[tuple[str, list[tuple[str, int]], str]] = []
    if sheet.named:
        tops = [(m, len(c)) for m, c in zip(sheet.models, sheet.columns, strict=True)]
        lines.append(("", tops, "head"))
    heads = [(name, 1) for own in sheet.columns for name in own]
    lines.append((sheet.corner, heads, "columns"))
    words = sheet.words()
    for block in sheet.blocks:
        lines += [(block.heading, [], "heading")] if block.heading else []
        indent = "\u2003" * bool(block.heading)
        lines += [(indent + row.label, sheet.full(row.cells), "row") for row in block.rows]
    for i, (label, cells, kind) in enumerate(lines):
        own = table.rows[i].cells
        first = own[0].merge(own[-1]) if kind == "heading" else own[0]
        _write_cell(first, label, kind, "left")
        at = 1
        for text, span in cells:
            cell = own[at] if span == 1 else own[at].merge(own[at + span - 1])
            middle = span > 1 or kind == "head"
            side = "left" if words[at - 1] else "right"
            _write_cell(cell, text, kind, "center" if middle else side)
            at += span
    _rule(table.rows[0], "top", 12)
    _rule(table.rows[int(sheet.named)], "bottom", 6)
    _rule(table.rows[len(lines) - 1], "bottom", 12)


def _set_widths(document: Any, table: Any, sheet: Sheet) -> None:
    """Give each column the room of its longest cell; turn the page where it is too narrow."""
    from docx.enum.section import WD_ORIENT
    from docx.shared import Emu, Pt

    page = document.sections[0]
    labels = [row.label for block in sheet.blocks for row in block.rows]
    cells = [width for own in _text_widths(sheet) for width in own]
    sizes = [2 + max(map(len, labels), default=0), *cells]
    wanted = [Pt(14 + 5.6 * size) for size in sizes]
    if sum(wanted) > page.page_width - page.left_margin - page.right_margin:
        page.orientation = WD_ORIENT.LANDSCAPE
        page.page_width, page.page_height = page.page_height, page.page_width
    room = page.page_width - page.left_margin - page.right_margin
    shrink = min(1.0, room / sum(wanted))
    table.autofit = False
    for column, width in zip(table.columns, wanted, strict=True):
        column.width = Emu(int(shrink * width))


def _write_cell(cell: Any, text: str, kind: str, side: str) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    paragraph = cell.paragraphs[0]
    paragraph.alignment = getattr(WD_ALIGN_PARAGRAPH, side.upper())
    paragraph.paragraph_format.space_after = Pt(0)
    run = paragraph.add_run(
        text if kind == "heading" or len(text) > UNBROKEN else text.replace(" ", "\u00a0")
    )
    run.font.size = Pt(9)
    run.bold = kind == "head"
    run.italic = kind == "heading"


def _rule(row: Any, side: str, eighths: int) -> None:
    """Draw a line above or below a row of a Word table; its width is in eighths of a point."""
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    for element in row._tr.tc_lst:
        properties = element.get_or_add_tcPr()
        borders = properties.find(qn("w:tcBorders"))
        if borders is None:
            borders = OxmlElement("w:tcBorders")
            properties.append(borders)
        line = OxmlElement(f"w:{side}")
        for name, value in (("val", "single"), ("sz", str(eighths)), ("color", "auto")):
            line.set(qn(f"w:{name}"), value)
        borders.append(line)


def _small(paragraph: Any) -> None:
    from docx.shared import Pt

    for run in paragraph.runs:
        run.font.size = Pt(8)
    paragraph.paragraph_format.space_after = Pt(2)
