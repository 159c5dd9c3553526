"""The model in symbols, as text and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ranef.covariance import structure_of
from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm

__all__ = [
    "Equation",
    "aligned",
    "equation",
    "latex_distributions",
    "latex_predictor",
    "letters",
    "roman",
    "text_distributions",
    "text_predictor",
]

LETTERS = "uvw"
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
class Equation:
    """A model in symbols.

    Attributes
    ----------
    text : str
    latex : str
        An ``aligned`` environment, for math mode.
    """

    text: str
    latex: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"


def equation(spec: Specification) -> Equation:
    """Write a linear mixed model out."""
    own = letters(len(spec.terms))
    scale = " / w[i])" if spec.weights is not None else ")"
    lines = [f"{spec.response}[i] = " + " + ".join([*text_predictor(spec, own), "e[i]"])]
    lines += text_distributions(spec, own)
    lines.append("e[i] ~ Normal(0, sigma^2" + scale)
    right = " + ".join([*latex_predictor(spec, own), r"\varepsilon_i"])
    variance = r"\sigma^2 / w_i" if spec.weights is not None else r"\sigma^2"
    latex = [rf"{roman(spec.response)}_i &= {right}", *latex_distributions(spec, own)]
    latex.append(rf"\varepsilon_i &\sim \mathcal{{N}}(0, {variance})")
    return Equation("\n".join(lines), aligned(latex))


def aligned(lines: Sequence[str]) -> str:
    """Lines of LaTeX as one ``aligned`` environment."""
    body = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def letters(count: int) -> tuple[str, ...]:
    """Letters of the random terms: u, v, w, or u1, u2 ... where there are more."""
    if count <= len(LETTERS):
        return tuple(LETTERS[:count])
    return tuple(f"u{t + 1}" for t in range(count))


def text_predictor(
    spec: Specification, own: Sequence[str], names: Sequence[str] | None = None, symbol: str = "b"
) -> list[str]:
    """Summands of a linear predictor; `own` are the letters of its random terms."""
    right = [
        f"{symbol}{j}" + _times(name, "*{}[i]")
        for j, name in enumerate(spec.names if names is None else names)
    ]
    right += ["offset[i]"] if spec.offset is not None else []
    for t, term in enumerate(spec.terms):
        group = spec.factors[term.factor].name
        if term.positions is not None:
            places = "".join(f", {key}[i]" for key in _position_keys(spec, t))
            right.append(f"{own[t]}[{group}[i]{places}]")
            continue
        for j, name in enumerate(term.names):
            right.append(f"{_symbol(own[t], j)}[{group}[i]]" + _times(name, "*{}[i]"))
    return right


def text_distributions(spec: Specification, own: Sequence[str]) -> list[str]:
    """One line a random term: its distribution."""
    return [_text_distribution(spec, t, own[t]) for t in range(len(spec.terms))]


def _text_distribution(spec: Specification, t: int, letter: str) -> str:
    term = spec.terms[t]
    group = spec.factors[term.factor].name
    symbols = [_symbol(letter, j) for j in range(term.size)]
    if term.positions is not None:
        head = f"{letter} ~ Normal(0, Psi), {term.size} positions,"
    elif term.size == 1:
        head = f"{symbols[0]} ~ Normal(0, sd^2)"
    else:
        head = f"({', '.join(symbols)}) ~ Normal(0, Psi)"
    return f"{head} over the levels of {group}{_kind(term)}"


def _position_keys(spec: Specification, t: int) -> tuple[str, ...]:
    """What stands left of the bar of a term over time or space."""
    recipe = spec.recipe
    return recipe.model.bars[recipe.random_recipes[t].bar].left.keys


def _kind(term: RandomTerm) -> str:
    """What is special about a term's covariance matrix, in words."""
    words = [f"Psi {_structure(term)}"] if _structure(term) else []
    if term.kernel is not None:
        words.append("covariance between levels given by the kernel")
    return f" ({'; '.join(words)})" if words else ""


def _structure(term: RandomTerm) -> str:
    """The structure in words; nothing for one column or an unstructured matrix."""
    if term.size == 1 or term.structure == "us":
        return ""
    return structure_of(term).description


def _times(name: str, pattern: str) -> str:
    """``*Days[i]`` for a column; nothing for the intercept."""
    return "" if name == "(Intercept)" else pattern.format(name)


def _symbol(letter: str, j: int) -> str:
    """Letter of a term with the number of its coefficient: u0, u1, v0."""
    return f"{letter}{j}" if len(letter) == 1 else f"{letter}_{j}"


def latex_predictor(
    spec: Specification,
    own: Sequence[str],
    names: Sequence[str] | None = None,
    symbol: str = r"\beta",
) -> list[str]:
    """Summands of a linear predictor in LaTeX."""
    right = [
        rf"{symbol}_{{{j}}}" + _latex_times(name)
        for j, name in enumerate(spec.names if names is None else names)
    ]
    right += [r"\mathrm{offset}_i"] if spec.offset is not None else []
    for t, term in enumerate(spec.terms):
        group = rf"{roman(spec.factors[term.factor].name)}[i]"
        if term.positions is not None:
            places = "".join(rf",{roman(key)}[i]" for key in _position_keys(spec, t))
            right.append(_latex_symbol(own[t], group + places))
            continue
        for j, name in enumerate(term.names):
            right.append(_latex_symbol(own[t], f"{j},{group}") + _latex_times(name))
    return right


def latex_distributions(spec: Specification, own: Sequence[str], first: int = 0) -> list[str]:
    """One line of LaTeX a random term; `first` terms stand before this part's."""
    return [_latex_distribution(spec, t, own[t], first + t + 1) for t in range(len(spec.terms))]


def _latex_distribution(spec: Specification, t: int, letter: str, number: int) -> str:
    term = spec.terms[t]
    group = roman(spec.factors[term.factor].name)
    scale = rf"\Psi_{{{number}}}"
    if term.positions is not None:
        head = _latex_symbol(letter, group + r",\cdot")
    elif term.size == 1:
        head, scale = _latex_symbol(letter, f"0,{group}"), rf"\tau_{{{number}}}^2"
    else:
        symbols = (_latex_symbol(letter, f"{j},{group}") for j in range(term.size))
        head = rf"({', '.join(symbols)})^\top"
    words = _structure(term)
    remark = rf",\quad \Psi_{{{number}}}\ \text{{{words}}}" if words else ""
    return rf"{head} &\sim \mathcal{{N}}(0, {scale}){remark}"


def _latex_symbol(letter: str, index: str) -> str:
    """``u_{0,g[i]}``, or with the number of the term above: ``u^{(4)}_{...}``."""
    if len(letter) == 1:
        return f"{letter}_{{{index}}}"
    return f"u^{{({letter[1:]})}}_{{{index}}}"


def _latex_times(name: str) -> str:
    return "" if name == "(Intercept)" else rf"\,{roman(name)}_i"


def roman(name: str) -> str:
    r"""Return a name as upright text without backticks, ``\mathrm{Days}``."""
    return r"\mathrm{" + "".join(ESCAPES.get(c, c) for c in name if c != "`") + "}"
