"""Characters of strangers: what the eye cannot see, or a page cannot hold, made visible.

Names and levels come from tables that anybody may have written. Escape sequences of a
terminal, line breaks inside a cell, marks that turn the direction of writing and code
points that XML does not know are replaced here, once, by something that can be seen.
"""

from __future__ import annotations

import re

__all__ = ["markdown", "paragraph", "tex", "visible", "xml"]

REPLACED = "\ufffd"
CONTROL_PICTURES = 0x2400
_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
    "\ufdd0-\ufdef]|[\U0001fffe\U0001ffff]"
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MARKDOWN = re.compile(r"[\\|*_`\[\]~]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<=:)//|(?<=\bwww)\.", re.I)
_BEGINNING = re.compile(r"^(\s*)([#>+=-]|\d{1,9}(?=[.)]))")
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u2212": r"$-$",
    "\u221e": r"$\infty$",
    "\u2013": r"--",
    "\u00b2": r"\textsuperscript{2}",
}


def visible(text: str, lines: bool = False) -> str:
    r"""Return a text on one line, in characters that can be seen.

    Parameters
    ----------
    text : str
    lines : bool
        Keep its lines and tabs.

    Examples
    --------
    >>> visible("a\nb\x1b[31mc\ufffe")
    'a b␛[31mc�'
    >>> visible("a\nb", lines=True)
    'a\nb'
    """
    if not lines:
        text = _BREAKS.sub(" ", text)
    return _ODD.sub(_picture, text)


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(CONTROL_PICTURES + code)
    return "\u2421" if code == 0x7F else REPLACED


def xml(text: str) -> str:
    """Return a document without the characters that XML has not."""
    return _NOT_XML.sub(REPLACED, text)


def markdown(text: str) -> str:
    r"""Escape a text for a line of Markdown or a cell of its tables: it stays text.

    Examples
    --------
    >>> print(markdown("a|b <script> [x](javascript:y) p < 0.01"))
    a\|b \<script> \[x\](javascript:y) p < 0.01
    """
    return _MARKDOWN.sub(lambda found: "\\" + found[0], visible(text))


def paragraph(text: str) -> str:
    """Escape a text that begins a paragraph of Markdown: no heading, list or quotation."""
    return _BEGINNING.sub(
        lambda found: found[1] + (found[2] + "\\" if found[2].isdigit() else "\\" + found[2]),
        markdown(text).strip(),
    )


def tex(text: str) -> str:
    r"""Escape a text for LaTeX.

    Examples
    --------
    >>> print(tex("50% of $x_1$"))
    50\% of \$x\_1\$
    """
    return "".join(LATEX.get(character, character) for character in visible(text))
