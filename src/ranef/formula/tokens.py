"""A formula cut into tokens, each with its place in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranef.errors import FormulaError

__all__ = ["Token", "formula_error", "tokenize"]

MAX_LENGTH = 100_000
MAX_TOKENS = 20_000
NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?L?")
OPERATOR = re.compile(r"%in%|%%|%/%|\*\*|\|\||&&|<=|>=|==|!=|::|[-+*/^:|&<>=!~(),]")
LOOKALIKES = {
    **dict.fromkeys("\u223c\u02dc\uff5e\u301c", "~"),
    **dict.fromkeys("\u2502\u2223\uff5c\u00a6\u2758", "|"),
    **dict.fromkeys("\u00d7\u2217\u00b7\u22c5\u2715\u2022", "*"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict.fromkeys("\u00f7\u2044\u2215", "/"),
    **dict.fromkeys("\uff0b", "+"),
    **dict.fromkeys("\uff1a\ua789\u2236", ":"),
    **dict.fromkeys("\uff08", "("),
    **dict.fromkeys("\uff09", ")"),
}
"""Signs that word processors and keyboards put in the place of those of a formula."""
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"', "`": "`"}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a formula.

    Attributes
    ----------
    kind : {"number", "name", "quoted", "text", "operator", "end"}
        ``"quoted"`` is a name in backticks.
    value : str
    position : int
        Index of its first character.
    """

    kind: str
    value: str
    position: int


def formula_error(message: str, text: str, position: int) -> FormulaError:
    """Return an error that points at a place in the formula."""
    line = "".join(ch if ch.isprintable() else " " for ch in text)
    start = max(0, position - 60)
    shown = ("..." if start else "") + line[start : position + 40]
    shown += "..." if position + 40 < len(line) else ""
    column = position - start + (3 if start else 0)
    return FormulaError(f"{message}\n    {shown}\n    {' ' * column}^")


def tokenize(text: str) -> list[Token]:
    """Cut a formula into tokens; the last one marks the end."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula has {len(text)} characters; at most {MAX_LENGTH} are read")
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        token, position = _next_token(text, position)
        tokens.append(token)
        if len(tokens) > MAX_TOKENS:
            raise FormulaError(f"the formula has more than {MAX_TOKENS} parts")
    tokens.append(Token("end", "", len(text)))
    return tokens


def _next_token(text: str, position: int) -> tuple[Token, int]:
    ch = text[position]
    if ch in "'\"`":
        return _quoted(text, position)
    number = NUMBER.match(text, position)
    if number:
        return Token("number", number.group().rstrip("L"), position), number.end()
    if ch.isalpha() or ch in "_.":
        end = position + 1
        while end < len(text) and (text[end].isalnum() or text[end] in "_."):
            end += 1
        return Token("name", text[position:end], position), end
    operator = OPERATOR.match(text, position)
    if operator:
        value = "^" if operator.group() == "**" else operator.group()
        return Token("operator", value, position), operator.end()
    hint = "; a name with spaces or signs goes in backticks: `my column`" if ch in "{}@%" else ""
    if ch in LOOKALIKES:
        hint = f"; it looks like {LOOKALIKES[ch]!r}, which is meant here"
    if ch == "#":
        hint = "; an interaction is a:b, with its main effects a*b, and a remark stands outside"
    if ch == ";":
        hint = "; a formula is one expression, y ~ x + (1 | g); other wishes are arguments"
    if ch in "[]$":
        hint = (
            "; a column is named without its table, as y ~ x; a name with such signs goes in "
            "backticks: `my column`"
        )
    if ch in "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb":
        hint = "; names stand without quotes, those with blanks in backticks: `my column`"
    if ch == "\\":
        hint = (
            "; effects and their groups are parted by a bar, (x | g), nested groups by a slash, a/b"
        )
    raise formula_error(f"a formula cannot contain {ch!r}{hint}", text, position)


def _quoted(text: str, start: int) -> tuple[Token, int]:
    quote = text[start]
    out: list[str] = []
    position = start + 1
    while position < len(text):
        ch = text[position]
        if ch == quote:
            kind = "quoted" if quote == "`" else "text"
            if kind == "quoted" and not out:
                raise formula_error("an empty name in backticks", text, start)
            return Token(kind, "".join(out), start), position + 1
        if ch == "\\" and position + 1 < len(text) and text[position + 1] in ESCAPES:
            out.append(ESCAPES[text[position + 1]])
            position += 2
            continue
        out.append(ch)
        position += 1
    raise formula_error(f"the quote {quote} is never closed", text, start)
