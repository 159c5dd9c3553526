"""The model in symbols, as MathML, which browsers draw without any script."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.display.markup import Markup, element, join
from ranef.display.numbers import MINUS, significant, typeset
from ranef.models.records import Estimate, GeneralisedEstimate

__all__ = ["covariance_matrix", "covariance_of", "equation"]

Floats = NDArray[np.float64]

WRITTEN_OUT = 8
"""Up to this many coefficients are written out; more become a vector product."""

A_LINE = 4

LETTERS = "uvw"

SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
NORMAL = "\N{MATHEMATICAL SCRIPT CAPITAL N}"


def equation(estimate: Estimate) -> Markup:
    """Return the model: the response, the random effects, the residuals."""
    spec = estimate.specification
    lines = [*_mean(spec), *(_distribution(spec, k) for k in range(len(spec.terms)))]
    lines.append(_residual(spec))
    cells = [
        element("mtr", element("mtd", left, class_="left"), element("mtd", right, class_="right"))
        for left, right in lines
    ]
    return element("math", element("mtable", *cells), display="block", class_="model")


def covariance_matrix(estimate: Estimate, index: int) -> Markup:
    """Return the estimated covariance matrix of one term as an equation."""
    psi = covariance_of(estimate, index)
    scale = np.sqrt(np.diag(psi))
    rows = [
        element("mtr", *(element("mtd", _mn(_entry(psi, scale, i, j))) for j in range(len(psi))))
        for i in range(len(psi))
    ]
    brackets = _row(element("mo", "("), element("mtable", *rows), element("mo", ")"))
    symbol = _psi(len(psi), index)
    return element("math", _row(symbol, _mo("="), brackets), display="block")


def _entry(psi: Floats, scale: Floats, i: int, j: int) -> str:
    value = float(psi[i, j])
    noise = 1e-9 * float(scale[i] * scale[j])
    return "0" if abs(value) <= noise else typeset(significant(value, 3))


def _mean(spec: Specification) -> list[tuple[Markup, Markup]]:
    """Return the line of the response, broken after every few summands."""
    parts = [*_fixed_part(spec), *_random_part(spec), _sub(_mi("ε"), _mi("i"))]
    if spec.offset is not None:
        parts.insert(0, _sub(_word("offset"), _mi("i")))
    lines = []
    for start in range(0, len(parts), A_LINE):
        summed = join(parts[start : start + A_LINE], _mo("+"))
        if start == 0:
            left = _row(_sub(_word(spec.response), _mi("i")), _mo("="))
        else:
            left, summed = _row(), join([_mo("+"), summed])
        lines.append((left, _row(summed)))
    return lines


def _fixed_part(spec: Specification) -> list[Markup]:
    if spec.p > WRITTEN_OUT:
        return [join([_sub(_vector("x"), _mi("i")), _mo("·"), _vector("β")])]
    return [_product(_sub(_mi("β"), _mn(str(k))), name) for k, name in enumerate(spec.names)]


def _random_part(spec: Specification) -> list[Markup]:
    parts = []
    for index, term in enumerate(spec.terms):
        name = spec.factors[term.factor].name
        where = _row(_word(name), _fence("["), _mi("i"), _fence("]"))
        if term.size > WRITTEN_OUT:
            effects = _effect(spec, index, where, vector=True)
            parts.append(join([_sub(_vector("z"), _mi("i")), _mo("·"), effects]))
            continue
        for k, column in enumerate(term.names):
            place = _row(_mn(str(k)), _mo(","), where)
            parts.append(_product(_effect(spec, index, place), column))
    return parts


def _distribution(spec: Specification, index: int) -> tuple[Markup, Markup]:
    """Return ``(u_0, u_1) ~ N(0, Psi_1)  over the levels of Subject``."""
    term = spec.terms[index]
    name = spec.factors[term.factor].name
    over = element("mtext", f"\u2003over the levels of {name}")
    if term.kernel is not None:
        left = _effect(spec, index, _word(name), vector=True)
        known = join([_psi(term.size, index), _sub(_vector("K"), _word(name))])
        return _row(left, _mo("~")), _row(_normal(_vector("0"), known))
    zero = _mn("0") if term.size == 1 else _vector("0")
    left = _row(_effects(spec, index), _mo("~"))
    return left, _row(_normal(zero, _psi(term.size, index)), over)


def _effects(spec: Specification, index: int) -> Markup:
    size = spec.terms[index].size
    if size > WRITTEN_OUT:
        return _effect(spec, index, _row(), vector=True)
    names = [_effect(spec, index, _mn(str(k))) for k in range(size)]
    return names[0] if size == 1 else _row(_fence("("), join(names, _mo(",")), _fence(")"))


def _effect(spec: Specification, index: int, place: Markup, *, vector: bool = False) -> Markup:
    """Return the letter of a term's effects: u, v, w, or u with the term's number."""
    few = len(spec.terms) <= len(LETTERS)
    letter = (_vector if vector else _mi)(LETTERS[index] if few else "u")
    if few:
        return _sub(letter, place)
    number = _row(_fence("("), _mn(str(index + 1)), _fence(")"))
    return element("msubsup", _strut(letter), place, number)


def covariance_of(estimate: Estimate, index: int) -> Floats:
    """Covariance matrix of one term, counted over all parts of a model."""
    if isinstance(estimate, GeneralisedEstimate):
        return estimate.covariances[index]
    return estimate.covariances[index]


def _psi(size: int, index: int) -> Markup:
    """Return the symbol of a term's variance or covariance matrix."""
    number = _mn(str(index + 1))
    if size == 1:
        return element("msubsup", _strut(_mi("τ")), number, _mn("2"))
    return _sub(_vector("Ψ"), number)


def _residual(spec: Specification) -> tuple[Markup, Markup]:
    variance = element("msup", _mi(SIGMA), _mn("2"))
    if spec.weights is not None:
        variance = join([variance, _mo("/"), _sub(_mi("w"), _mi("i"))])
    return _row(_sub(_mi("ε"), _mi("i")), _mo("~")), _row(_normal(_mn("0"), variance))


def _product(symbol: Markup, name: str) -> Markup:
    if name == "(Intercept)":
        return symbol
    return join([symbol, Markup('<mspace width="0.2em"></mspace>'), _sub(_word(name), _mi("i"))])


def _normal(mean: Markup, variance: Markup) -> Markup:
    return join([_mi(NORMAL), _fence("("), mean, _mo(","), variance, _fence(")")])


def _row(*parts: Markup) -> Markup:
    return element("mrow", *parts)


def _sub(base: Markup, index: Markup) -> Markup:
    return element("msub", _strut(base), index)


def _strut(base: Markup) -> Markup:
    """Give every base the same depth, so that all indices stand on one line."""
    return _row(base, element("mspace", width="0", depth="0.15em"))


def _mi(symbol: str) -> Markup:
    return element("mi", symbol)


def _mo(symbol: str) -> Markup:
    return element("mo", symbol, form="infix")


def _fence(symbol: str) -> Markup:
    return element("mo", symbol, stretchy="false")


def _mn(digits: str) -> Markup:
    if digits.startswith(MINUS):
        return _row(element("mo", MINUS, form="prefix"), element("mn", digits[1:]))
    return element("mn", digits)


def _vector(symbol: str) -> Markup:
    return element("mi", symbol, class_="vector")


def _word(name: str) -> Markup:
    return element("mtext", name)
