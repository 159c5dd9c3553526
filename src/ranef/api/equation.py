"""The model in symbols, as text and as LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from ranef.covariance import structure_of
from ranef.design.specification import RandomTerm, Specification

__all__ = ["Equation", "equation"]

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
    return Equation(_text(spec), _latex(spec))


def _text(spec: Specification) -> str:
    right = [f"b{j}" + _times(name, "*{}[i]") for j, name in enumerate(spec.names)]
    right += ["offset[i]"] if spec.offset is not None else []
    for t, term in enumerate(spec.terms):
        group = spec.factors[term.factor].name
        if term.positions is not None:
            places = "".join(f", {key}[i]" for key in _position_keys(spec, t))
            right.append(f"{_letter(spec, t)}[{group}[i]{places}]")
            continue
        for j, name in enumerate(term.names):
            right.append(f"{_symbol(spec, t, j)}[{group}[i]]" + _times(name, "*{}[i]"))
    lines = [f"{spec.response}[i] = " + " + ".join([*right, "e[i]"])]
    lines += [_text_distribution(spec, t) for t in range(len(spec.terms))]
    lines.append("e[i] ~ Normal(0, sigma^2" + (" / w[i])" if spec.weights is not None else ")"))
    return "\n".join(lines)


def _text_distribution(spec: Specification, t: int) -> str:
    term = spec.terms[t]
    group = spec.factors[term.factor].name
    symbols = [_symbol(spec, t, j) for j in range(term.size)]
    if term.positions is not None:
        head = f"{_letter(spec, t)} ~ Normal(0, Psi), {term.size} positions,"
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


def _symbol(spec: Specification, t: int, j: int) -> str:
    """Letter of a term with the number of its coefficient: u0, u1, v0."""
    letter = _letter(spec, t)
    return f"{letter}{j}" if len(letter) == 1 else f"{letter}_{j}"


def _letter(spec: Specification, t: int) -> str:
    """Letter of a term: u, v, w, or u1, u2 ... where there are more."""
    return LETTERS[t] if len(spec.terms) <= len(LETTERS) else f"u{t + 1}"


def _latex(spec: Specification) -> str:
    right = [rf"\beta_{{{j}}}" + _latex_times(name) for j, name in enumerate(spec.names)]
    right += [r"\mathrm{offset}_i"] if spec.offset is not None else []
    for t, term in enumerate(spec.terms):
        group = rf"{_roman(spec.factors[term.factor].name)}[i]"
        if term.positions is not None:
            places = "".join(rf",{_roman(key)}[i]" for key in _position_keys(spec, t))
            right.append(_latex_symbol(spec, t, group + places))
            continue
        for j, name in enumerate(term.names):
            right.append(_latex_symbol(spec, t, f"{j},{group}") + _latex_times(name))
    right.append(r"\varepsilon_i")
    lines = [rf"{_roman(spec.response)}_i &= " + " + ".join(right)]
    lines += [_latex_distribution(spec, t) for t in range(len(spec.terms))]
    scale = r"\sigma^2 / w_i" if spec.weights is not None else r"\sigma^2"
    lines.append(rf"\varepsilon_i &\sim \mathcal{{N}}(0, {scale})")
    body = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def _latex_distribution(spec: Specification, t: int) -> str:
    term = spec.terms[t]
    group = _roman(spec.factors[term.factor].name)
    scale = rf"\Psi_{{{t + 1}}}"
    if term.positions is not None:
        head = _latex_symbol(spec, t, group + r",\cdot")
    elif term.size == 1:
        head, scale = _latex_symbol(spec, t, f"0,{group}"), rf"\tau_{{{t + 1}}}^2"
    else:
        symbols = (_latex_symbol(spec, t, f"{j},{group}") for j in range(term.size))
        head = rf"({', '.join(symbols)})^\top"
    words = _structure(term)
    remark = rf",\quad \Psi_{{{t + 1}}}\ \text{{{words}}}" if words else ""
    return rf"{head} &\sim \mathcal{{N}}(0, {scale}){remark}"


def _latex_symbol(spec: Specification, t: int, index: str) -> str:
    if len(spec.terms) <= len(LETTERS):
        return f"{LETTERS[t]}_{{{index}}}"
    return f"u^{{({t + 1})}}_{{{index}}}"


def _latex_times(name: str) -> str:
    return "" if name == "(Intercept)" else rf"\,{_roman(name)}_i"


def _roman(name: str) -> str:
    r"""Return a name as upright text, ``\mathrm{Days}``."""
    return r"\mathrm{" + "".join(ESCAPES.get(c, c) for c in name) + "}"
