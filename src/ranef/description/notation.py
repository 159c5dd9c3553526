"""Pieces of formulae, each written as text, as LaTeX and as MathML at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ranef.display.characters import visible
from ranef.display.markup import Markup, element, join
from ranef.display.numbers import MINUS

__all__ = [
    "Symbol",
    "call",
    "draw",
    "formula",
    "fraction",
    "listed",
    "name",
    "normal",
    "numbered",
    "of_row",
    "roman",
    "sequence",
    "sub",
    "symbol",
    "times",
    "word",
]

ESCAPES = {
    "\\": r"\backslash ",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "^": r"\wedge ",
    "~": r"\sim ",
    " ": r"\ ",
}


@dataclass(frozen=True)
class Symbol:
    """A piece of a formula in each notation."""

    text: str
    latex: str
    mathml: Markup


def symbol(text: str, latex: str, glyph: str) -> Symbol:
    """Return a letter as text, its LaTeX and its glyph."""
    return Symbol(text, latex, mi(glyph))


def name(written: str) -> Symbol:
    """Return the name of a column or factor, upright."""
    written = visible(written)
    return Symbol(written, roman(written), element("mtext", written))


def word(written: str) -> Symbol:
    """Return words of prose in a formula."""
    written = visible(written)
    return Symbol(written, rf"\text{{{written}}}", element("mtext", written))


def of_row(base: Symbol, index: str = "i") -> Symbol:
    """Return a symbol with the index of a row."""
    return Symbol(f"{base.text}[{index}]", f"{base.latex}_{index}", sub(base.mathml, mi(index)))


def numbered(letter: Symbol, number: int) -> Symbol:
    """Return a symbol with a number: ``b0``."""
    return Symbol(
        f"{letter.text}{number}",
        f"{letter.latex}_{{{number}}}",
        sub(letter.mathml, mn(str(number))),
    )


def times(coefficient: Symbol, column: str) -> Symbol:
    """Return a coefficient times its column; alone where that is the intercept."""
    if column == "(Intercept)":
        return coefficient
    factor = of_row(name(column))
    space = element("mspace", width="0.2em")
    return Symbol(
        f"{coefficient.text}*{factor.text}",
        rf"{coefficient.latex}\,{factor.latex}",
        join([coefficient.mathml, space, factor.mathml]),
    )


def sequence(symbols: Iterable[Symbol], between: str, *, spaced: bool = True) -> Symbol:
    """Return symbols with a sign between them."""
    parts = list(symbols)
    sign = f" {between} " if spaced else f"{between} "
    return Symbol(
        sign.join(part.text for part in parts),
        sign.join(part.latex for part in parts),
        join([part.mathml for part in parts], mo(between)),
    )


def listed(symbols: Iterable[Symbol]) -> Symbol:
    """Return symbols with commas between them."""
    return sequence(symbols, ",", spaced=False)


def fenced(inside: Symbol) -> Symbol:
    """Return a symbol in brackets."""
    return Symbol(
        f"({inside.text})",
        f"({inside.latex})",
        row(fence("("), inside.mathml, fence(")")),
    )


def call(function: str, argument: Symbol) -> Symbol:
    """Return ``log(mu[i])``."""
    inside = fenced(argument)
    return Symbol(
        f"{function}{inside.text}",
        rf"\mathrm{{{function}}}{inside.latex}",
        row(element("mi", function), inside.mathml),
    )


def draw(distribution: str, arguments: Iterable[Symbol]) -> Symbol:
    """Return ``Binomial(n[i], mu[i])``; the name alone without arguments."""
    named, given = word(distribution), list(arguments)
    if not given:
        return named
    inside = fenced(listed(given))
    return Symbol(
        f"{named.text}{inside.text}",
        f"{named.latex}{inside.latex}",
        row(named.mathml, inside.mathml),
    )


def normal(variance: Symbol, mean: str = "0") -> Symbol:
    """Return a normal distribution around zero, or around a vector of zeros."""
    zero = mn(mean) if mean == "0" else vector("0")
    parts = [mi("\N{MATHEMATICAL SCRIPT CAPITAL N}"), fence("("), zero, mo(","), variance.mathml]
    return Symbol(
        f"Normal(0, {variance.text})",
        rf"\mathcal{{N}}(0, {variance.latex})",
        row(*parts, fence(")")),
    )


def fraction(above: Symbol, below: Symbol) -> Symbol:
    """Return a quotient."""
    return Symbol(
        f"{above.text} / {below.text}",
        rf"\frac{{{above.latex}}}{{{below.latex}}}",
        element("mfrac", row(above.mathml), row(below.mathml)),
    )


def roman(written: str) -> str:
    r"""Return a name as upright text without backticks, ``\mathrm{Days}``."""
    return r"\mathrm{" + "".join(ESCAPES.get(c, c) for c in written if c != "`") + "}"


# --- MathML


def formula(*content: Markup, class_: str | None = None) -> Markup:
    """Return a formula that stands by itself."""
    return element("math", *content, display="block", class_=class_)


def row(*parts: Markup) -> Markup:
    """Return parts as one."""
    return element("mrow", *parts)


def sub(base: Markup, index: Markup) -> Markup:
    """Return a base with an index."""
    return element("msub", strut(base), index)


def strut(base: Markup) -> Markup:
    """Give every base the same depth, so that all indices stand on one line."""
    return row(base, element("mspace", width="0", depth="0.15em"))


def mi(written: str) -> Markup:
    """Return an identifier."""
    return element("mi", written)


def mo(sign: str) -> Markup:
    """Return an operator."""
    return element("mo", sign, form="infix")


def mn(digits: str) -> Markup:
    """Return a number."""
    if digits.startswith(MINUS):
        return row(element("mo", MINUS, form="prefix"), element("mn", digits[1:]))
    return element("mn", digits)


def fence(sign: str) -> Markup:
    """Return a bracket of one height."""
    return element("mo", sign, stretchy="false")


def vector(written: str) -> Markup:
    """Return a vector's or matrix's letter."""
    return element("mi", written, class_="vector")
