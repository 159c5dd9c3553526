"""The model in symbols: built once, written as text, LaTeX and MathML."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import structure_of
from ranef.description.notation import (
    Symbol,
    call,
    draw,
    fence,
    formula,
    fraction,
    mi,
    mn,
    mo,
    name,
    normal,
    numbered,
    of_row,
    roman,
    row,
    sequence,
    strut,
    sub,
    symbol,
    times,
    vector,
    word,
)
from ranef.design.specification import Specification
from ranef.design.terms import ResidualTerm
from ranef.display.markup import Markup, element, join
from ranef.display.numbers import significant, typeset
from ranef.families import Cumulative, Family, Multinomial, Truncated
from ranef.models.family_words import link_of, predictor_of
from ranef.models.labels import CoefficientLabel, category
from ranef.models.records import CONDITIONAL, Component, Estimate

__all__ = [
    "Equation",
    "covariance_matrix",
    "generalised",
    "linear",
    "marginal",
    "marginal_categories",
    "process",
    "regression",
    "synthesis",
]

Floats = NDArray[np.float64]

WRITTEN_OUT = 8
"""Up to this many coefficients are written out in MathML; more become a vector product."""

A_LINE = 4

NAMES = {
    "gaussian": "Normal",
    "censored": "Censored Normal",
    "t": "Student t",
    "binomial": "Binomial",
    "betabinomial": "Beta-binomial",
    "poisson": "Poisson",
    "nbinom1": "Negative binomial 1",
    "nbinom12": "Negative binomial 1 and 2",
    "bell": "Bell",
    "skewnormal": "Skew normal",
    "nbinom2": "Negative binomial 2",
    "compois": "Conway-Maxwell-Poisson",
    "genpois": "Generalised Poisson",
    "Gamma": "Gamma",
    "inverse.gaussian": "Inverse Gaussian",
    "lognormal": "Lognormal",
    "tweedie": "Tweedie",
    "beta": "Beta",
    "ordbeta": "Ordered beta",
    "cumulative": "Cumulative",
    "multinomial": "Multinomial",
}
BETA, THRESHOLD = symbol("b", r"\beta", "β"), symbol("c", "c", "c")
COEFFICIENTS = {
    "zero": symbol("g", r"\gamma", "γ"),
    "dispersion": symbol("d", r"\delta", "δ"),
    "threshold": THRESHOLD,
    CONDITIONAL: BETA,
}
SHAPE = symbol("s", r"\beta", "β")
GLYPHS = {"a": "\u03b1", "b": "β", "g": "γ", "d": "δ", "c": "c", "s": "β"}
GREEK = {
    "mu": symbol("mu", r"\mu", "μ"),
    "phi": symbol("phi", r"\phi", "φ"),
    "sigma": symbol("sigma", r"\sigma", "σ"),
    "n": symbol("n", "n", "n"),
}
PROBABILITY = of_row(symbol("p", "p", "p"))
SPACE = element("mspace", width="0.2em")
RESIDUAL = of_row(symbol("e", r"\varepsilon", "ε"))
OFFSET = of_row(name("offset"))


@dataclass(frozen=True)
class Equation:
    """A model in symbols.

    Attributes
    ----------
    text : str
    latex : str
        An ``aligned`` environment, for math mode.
    mathml : str
        For a page.
    """

    text: str
    latex: str
    mathml: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"


@dataclass(frozen=True)
class _Line:
    """One line of a model: what stands left of the sign, and what right of it."""

    left: Symbol
    sign: str
    right: Symbol
    mathml: tuple[tuple[Markup, Markup], ...]


def linear(estimate: Estimate) -> Equation:
    """Write a linear mixed model out."""
    spec = estimate.specification
    variance = Symbol("sigma^2", r"\sigma^2", element("msup", mi("σ"), mn("2")))
    if spec.weights is not None:
        by = Symbol("w[i]", "w_i", sub(mi("w"), mi("i")))
        variance = sequence([variance, by], "/")
    if spec.residual is not None:
        return _equation([*_linear_lines(spec), _structured_residual(spec.residual)])
    effects = _letters(len(spec.terms))
    lines = [
        _sum(of_row(name(spec.response)), spec, spec.names, BETA, effects, last=[RESIDUAL]),
        *_distributions(spec, effects),
        _relation(RESIDUAL, "~", normal(variance)),
    ]
    return _equation(lines)


def _linear_lines(spec: Specification) -> list[_Line]:
    """The response, and the distributions of the random effects."""
    effects = _letters(len(spec.terms))
    first = _sum(of_row(name(spec.response)), spec, spec.names, BETA, effects, last=[RESIDUAL])
    return [first, *_distributions(spec, effects)]


def _structured_residual(term: ResidualTerm) -> _Line:
    """E ~ Normal(0, sigma^2 R) of all rows together."""
    variance = Symbol(
        "sigma^2 R",
        r"\sigma^2 \mathbf{R}",
        row(element("msup", mi("σ"), mn("2")), vector("R")),
    )
    every = Symbol("e", r"\boldsymbol{\varepsilon}", vector("ε"))
    what = name(f"R: {term.label or term.dispersion}")
    return _relation(every, "~", sequence([normal(variance), what], ", "))


def generalised(estimate: Estimate) -> Equation:
    """Write a generalised mixed model out: response, predictors, random effects."""
    lines, distributions, written = [_drawn(estimate)], [], set[int]()
    letters = _letters(len(estimate.terms))
    for part in estimate.components:
        spec = part.specification
        if spec is None:
            continue
        coefficient = COEFFICIENTS.get(part.name, SHAPE)
        effects = [letters[t] for t in part.terms]
        if part.name == "threshold":
            left = of_row(THRESHOLD, "j")
            lines.append(_sum(left, spec, spec.names, coefficient, (), nominal=True))
            continue
        left = _predictor(estimate, part)
        minus = isinstance(estimate.family, Cumulative)
        lines.append(
            _sum(left, spec, part.names, coefficient, effects, part.terms, part.name, minus=minus)
        )
        distributions += _distributions(spec, effects, part.terms, written)
        written |= set(part.terms)
    return _equation([*lines, *distributions])


def regression(
    response: str, spec: Specification, names: Sequence[str], family: Family
) -> Equation:
    """Write a regression without random effects out."""
    mean = of_row(GREEK["mu"])
    shapes = [GREEK.get(p.label, name(p.label)) for p in family.parameters[1:]]
    left = mean if family.link == "identity" else call(family.link, mean)
    drawn = draw(NAMES.get(family.name, family.name), [mean, *shapes])
    lines = [
        _relation(of_row(name(response)), "~", drawn),
        _sum(left, spec, names, BETA, ()),
    ]
    return _equation(lines)


def process(
    parts: Mapping[str, Specification], links: Mapping[str, str], person: str, gap: str
) -> Equation:
    """Write a level and deviations that remember out; what varies between persons in words.

    `parts` are the level's, that of inputs where there are some, and two named in `links`: of
    inertia and of the innovation's standard deviation.
    """
    spec = parts[CONDITIONAL]
    deviation, mean = name("D"), of_row(GREEK["mu"])
    before = Symbol("D[i-1]", "D_{i-1}", sub(mi("D"), row(mi("i"), mo("-"), mn("1"))))
    phi, sigma = of_row(GREEK["phi"]), of_row(GREEK["sigma"])
    power = Symbol(f"{phi.text}^{gap}", rf"{phi.latex}^{{{gap}}}",
                   element("msup", phi.mathml, mi(gap)))  # fmt: skip
    carried = sequence([power, before], "*", spaced=False)
    driven = [of_row(name("inputs"))] if "inputs" in parts else []
    lines = [
        _relation(of_row(name(spec.response)), "=", sequence([mean, of_row(deviation)], "+")),
        _relation(of_row(deviation), "=", sequence([carried, *driven, RESIDUAL], "+")),
        _relation(RESIDUAL, "~", normal(Symbol("sigma[i]^2", r"\sigma_i^2",
                  element("msup", sigma.mathml, mn("2"))))),
    ]  # fmt: skip
    inertia, dispersion = links
    lefts = {CONDITIONAL: mean, "inputs": of_row(name("inputs")),
             inertia: call(links[inertia], phi) if links[inertia] else phi,
             dispersion: call(links[dispersion], sigma)}  # fmt: skip
    letters = {
        CONDITIONAL: BETA, "inputs": COEFFICIENTS["zero"],
        inertia: symbol("a", r"\alpha", "\u03b1"), dispersion: COEFFICIENTS["dispersion"],
    }  # fmt: skip
    for part, own in parts.items():
        effects = [word(f"effects of {person}")] if own.terms else []
        lines.append(_sum(lefts[part], own, own.names, letters[part], (), last=effects))
    return _equation(lines)


def marginal(
    response: str, spec: Specification, names: Sequence[str], family: Family, cluster: str
) -> Equation:
    """Write a population-averaged model out: mean, variance, and what is correlated."""
    mean, y = of_row(GREEK["mu"]), of_row(name(response))
    left = mean if family.link == "identity" else call(family.link, mean)
    other = of_row(name(response), "j")
    pair = call("Corr", sequence([y, other], ",", spaced=False))
    variance = sequence([GREEK["phi"], call("V", mean)], "*", spaced=False)
    working = word(f"R(alpha) within {cluster}")
    lines = [
        _relation(call("E", y), "=", mean),
        _sum(left, spec, names, BETA, ()),
        _relation(call("Var", y), "=", variance),
        _relation(pair, "=", working),
    ]
    return _equation(lines)


def marginal_categories(
    spec: Specification, family: Family, labels: Sequence[CoefficientLabel]
) -> Equation:
    """Write a population-averaged model of categories out."""
    reading = spec.recipe.reading
    levels = None if reading is None else reading.levels
    responses = dict.fromkeys(label.response for label in labels)
    lines = []
    for response in responses:
        own = [
            label.term
            for label in labels
            if label.response == response and label.component == CONDITIONAL
        ]
        left = (
            _below(spec.response, family.link)
            if isinstance(family, Cumulative)
            else _against_first(spec.response, str(response), levels)
        )
        lines.append(_sum(left, spec, own, BETA, (), minus=isinstance(family, Cumulative)))
    return _equation(lines)


def synthesis(
    response: str, spec: Specification, names: Sequence[str], heterogeneous: bool
) -> Equation:
    """Write a meta-analysis out: effects with known sampling variances."""
    known = Symbol("v[i]", "v_i", sub(mi("v"), mi("i")))
    residual = _relation(RESIDUAL, "~", sequence([normal(known), word("v known")], ", "))
    if spec.terms or not heterogeneous:
        effects = _letters(len(spec.terms))
        first = _sum(of_row(name(response)), spec, names, BETA, effects, last=[RESIDUAL])
        return _equation([first, *_distributions(spec, effects), residual])
    study = of_row(symbol("u", "u", "u"))
    tau2 = Symbol("tau^2", r"\tau^2", element("msup", mi("τ"), mn("2")))
    first = _sum(of_row(name(response)), spec, names, BETA, (), last=[study, RESIDUAL])
    return _equation([first, _relation(study, "~", normal(tau2)), residual])


def covariance_matrix(psi: Floats, index: int) -> Markup:
    """Return the estimated covariance matrix of one random term as an equation."""
    scale = np.sqrt(np.diag(psi))

    def entry(i: int, j: int) -> str:
        noise = 1e-9 * float(scale[i] * scale[j])
        return "0" if abs(psi[i, j]) <= noise else typeset(significant(float(psi[i, j]), 3))

    size = range(len(psi))
    rows = [element("mtr", *(element("mtd", mn(entry(i, j))) for j in size)) for i in size]
    brackets = row(element("mo", "("), element("mtable", *rows), element("mo", ")"))
    return formula(row(_scale(len(psi), index).mathml, mo("="), brackets))


# --- lines


def _equation(lines: Sequence[_Line]) -> Equation:
    signs = {"=": "&=", "~": r"&\sim"}
    text = "\n".join(f"{line.left.text} {line.sign} {line.right.text}" for line in lines)
    body = " \\\\\n".join(
        f"{line.left.latex} {signs[line.sign]} {line.right.latex}" for line in lines
    )
    cells = [
        element("mtr", element("mtd", left, class_="left"), element("mtd", right, class_="right"))
        for line in lines
        for left, right in line.mathml
    ]
    return Equation(
        text,
        f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}",
        formula(element("mtable", *cells), class_="model"),
    )


def _relation(left: Symbol, sign: str, right: Symbol) -> _Line:
    return _Line(left, sign, right, ((row(left.mathml, mo(sign)), row(right.mathml)),))


def _sum(
    left: Symbol,
    spec: Specification,
    names: Sequence[str],
    coefficient: Symbol,
    effects: Sequence[Symbol],
    numbers: Sequence[int] | None = None,
    part: str = CONDITIONAL,
    *,
    last: Sequence[Symbol] = (),
    minus: bool = False,
    nominal: bool = False,
) -> _Line:
    """A linear predictor: fixed part, offset, random part; `minus` takes it from a threshold."""
    letters = [numbered(coefficient, j) for j in range(len(names))]
    if nominal:
        letters = [_of_threshold(coefficient, j) for j in range(len(names))]
    fixed = [times(b, column) for b, column in zip(letters, names, strict=True)]
    offset = [OFFSET] if spec.offset is not None else []
    places = range(len(effects)) if numbers is None else numbers
    varying = [_summands(spec, t, effects[t], n, part) for t, n in enumerate(places)]
    everything = [*fixed, *offset, *(s for own in varying for s in own), *last]
    total = sequence(everything, "+") if everything else Symbol("0", "0", mn("0"))
    # MathML has the room of a page: the offset leads and long parts are products of vectors
    brief = [_fixed_product(coefficient)] if len(fixed) > WRITTEN_OUT else fixed
    parts = [*offset, *brief]
    for t, own in enumerate(varying):
        wide = spec.terms[t].size > WRITTEN_OUT and spec.terms[t].member is None
        long = wide and spec.terms[t].positions is None
        parts += [_vector_product(spec, t, effects[t])] if long else own
    parts += last
    pages = _broken(left, [part.mathml for part in parts] or [mn("0")], minus)
    if minus:
        total = Symbol(
            f"c[j] - ({total.text})",
            f"c_j - ({total.latex})",
            total.mathml,
        )
    return _Line(left, "=", total, pages)


def _broken(
    left: Symbol, parts: Sequence[Markup], minus: bool
) -> tuple[tuple[Markup, Markup], ...]:
    """The lines of a sum on a page, broken after every few summands."""
    lines = []
    for start in range(0, len(parts), A_LINE):
        summed = join(parts[start : start + A_LINE], mo("+"))
        if minus and start == 0:
            summed = join([sub(mi("c"), mi("j")), mo("\u2212"), fence("("), summed])
        if minus and start + A_LINE >= len(parts):
            summed = join([summed, fence(")")])
        head = row(left.mathml, mo("=")) if start == 0 else row()
        lines.append((head, row(summed) if start == 0 else row(mo("+"), summed)))
    return tuple(lines)


def _of_threshold(coefficient: Symbol, number: int) -> Symbol:
    """A coefficient that each threshold has of its own."""
    return Symbol(
        f"{coefficient.text}{number}[j]",
        rf"{coefficient.latex}_{{j{number}}}",
        sub(coefficient.mathml, row(mi("j"), mn(str(number)))),
    )


def _fixed_product(coefficient: Symbol) -> Symbol:
    inner = join([sub(vector("x"), mi("i")), mo("·"), vector(GLYPHS[coefficient.text])])
    return Symbol("", "", inner)


# --- random terms


def _letters(count: int) -> tuple[Symbol, ...]:
    """Letters of the random terms: u, v, w, or u with a number where there are more."""
    if count <= 3:
        return tuple(symbol(x, x, x) for x in "uvw"[:count])
    return tuple(Symbol(f"u{t + 1}", "u", mi("u")) for t in range(count))


def _effect(letter: Symbol, term: int, column: int | None, where: Symbol | None) -> Symbol:
    """The effect of a column (of all without one) at a place (of any without one)."""
    many = len(letter.text) > 1
    number = "" if column is None else str(column)
    text = f"{letter.text}{'_' if many and number else ''}{number}"
    index = [number] if number else []
    cells = [mn(number)] if number else []
    if where is not None:
        index.append(where.latex)
        cells.append(where.mathml)
    place = row(join(cells, mo(",")))
    if many:
        above = row(fence("("), mn(str(term + 1)), fence(")"))
        return Symbol(
            text if where is None else f"{text}[{where.text}]",
            f"u^{{({term + 1})}}_{{{','.join(index)}}}",
            element("msubsup", strut(letter.mathml), place, above),
        )
    return Symbol(
        text if where is None else f"{text}[{where.text}]",
        f"{letter.latex}_{{{','.join(index)}}}",
        sub(letter.mathml, place),
    )


def _summands(spec: Specification, t: int, letter: Symbol, number: int, part: str) -> list[Symbol]:
    """What a random term adds to the predictor of a row."""
    term = spec.terms[t]
    group = _bracketed(spec.factors[term.factor].name)
    if term.member is not None:
        return [times(_of_members(letter, number), term.member)]
    if term.positions is not None:
        places = [group, *(_bracketed(key) for key in _position_keys(spec, t))]
        at = Symbol(
            ", ".join(p.text for p in places),
            ",".join(p.latex for p in places),
            join([p.mathml for p in places], mo(",")),
        )
        return [_effect(letter, number, None, at)]
    return [
        times(_effect(letter, number, j, group), term.name_in(part, term.names[j]))
        for j in term.columns_of(part)
    ]


def _of_members(letter: Symbol, number: int) -> Symbol:
    """The effects of the levels k that a row belongs to, by its weights."""
    effect = _effect(letter, number, 0, Symbol("k", "k", mi("k")))
    weight = Symbol("w[i,k]", "w_{ik}", sub(mi("w"), row(mi("i"), mi("k"))))
    return Symbol(
        f"sum_k {weight.text}*{effect.text}",
        rf"\sum_k {weight.latex} {effect.latex}",
        row(element("munder", mo("\u2211"), mi("k")), weight.mathml, effect.mathml),
    )


def _bracketed(written: str) -> Symbol:
    """A factor or position with its row in brackets: an index of an index."""
    base = name(written)
    inside = row(base.mathml, fence("["), mi("i"), fence("]"))
    return Symbol(f"{base.text}[i]", f"{base.latex}[i]", inside)


def _vector_product(spec: Specification, t: int, letter: Symbol) -> Symbol:
    group = _bracketed(spec.factors[spec.terms[t].factor].name)
    bold = vector(letter.latex)
    inner = join([sub(vector("z"), mi("i")), mo("·"), sub(bold, group.mathml)])
    return Symbol("", "", inner)


def _distributions(
    spec: Specification,
    letters: Sequence[Symbol],
    numbers: Sequence[int] | None = None,
    written: Collection[int] = (),
) -> list[_Line]:
    """One line a random term: its distribution, if it is not written already."""
    places = range(len(letters)) if numbers is None else numbers
    return [_distribution(spec, t, letters[t], n) for t, n in enumerate(places) if n not in written]


def _distribution(spec: Specification, t: int, letter: Symbol, number: int) -> _Line:
    term = spec.terms[t]
    group = name(spec.factors[term.factor].name)
    size = 1 if term.member is not None else term.size
    scale = _scale(size, number)
    structure = structure_of(term).description if size > 1 and term.structure != "us" else ""
    effects = _effects(letter, number, size, term.positions is not None, group)
    remarks = [f"Psi {structure}"] if structure else []
    remarks += ["covariance between levels given by the kernel"] if term.kernel is not None else []
    kind = f" ({'; '.join(remarks)})" if remarks else ""
    several = f", {term.size} positions," if term.positions is not None else ""
    text = f"{normal(scale).text}{several} over the levels of {group.text}{kind}"
    latex = normal(scale).latex
    latex += rf",\quad {scale.latex}\ \text{{{structure}}}" if structure else ""
    mathml = _page_distribution(letter, number, size, term.kernel is not None, group)
    return _Line(effects, "~", Symbol(text, latex, Markup("")), (mathml,))


def _effects(letter: Symbol, number: int, size: int, positions: bool, group: Symbol) -> Symbol:
    """What is drawn: one effect, several, or those of all positions."""
    if positions:
        at = Symbol("", rf"{group.latex},\cdot", Markup(""))
        return Symbol(letter.text, _effect(letter, number, None, at).latex, letter.mathml)
    texts = [_effect(letter, number, j, None).text for j in range(size)]
    latex = [_effect(letter, number, j, group).latex for j in range(size)]
    if size == 1:
        return Symbol(texts[0], latex[0], Markup(""))
    return Symbol(f"({', '.join(texts)})", rf"({', '.join(latex)})^\top", Markup(""))


def _page_distribution(
    letter: Symbol, number: int, size: int, kernel: bool, group: Symbol
) -> tuple[Markup, Markup]:
    """Return ``(u_0, u_1) ~ N(0, Psi_1)  over the levels of Subject``."""
    scale = _scale(size, number)
    bold = Symbol(letter.text, letter.latex, vector(letter.latex))
    if kernel:
        by = join([scale.mathml, sub(vector("K"), group.mathml)])
        spread = Symbol("", "", by)
        left = _effect(bold, number, None, group).mathml
        return row(left, mo("~")), normal(spread, "vector").mathml
    effects = [_effect(letter, number, j, None).mathml for j in range(size)]
    left = effects[0] if size == 1 else row(fence("("), join(effects, mo(",")), fence(")"))
    if size > WRITTEN_OUT:
        left = _effect(bold, number, None, None).mathml
    over = element("mtext", f"\u2003over the levels of {group.text}")
    return row(left, mo("~")), row(normal(scale, "0" if size == 1 else "vector").mathml, over)


def _scale(size: int, index: int) -> Symbol:
    """The symbol of a term's variance or covariance matrix."""
    number = mn(str(index + 1))
    if size == 1:
        squared = element("msubsup", strut(mi("τ")), number, mn("2"))
        return Symbol("sd^2", rf"\tau_{{{index + 1}}}^2", squared)
    return Symbol("Psi", rf"\Psi_{{{index + 1}}}", sub(vector("Ψ"), number))


def _position_keys(spec: Specification, t: int) -> tuple[str, ...]:
    """What stands left of the bar of a term over time or space."""
    recipe = spec.recipe
    return recipe.model.bars[recipe.random_recipes[t].bar].left.keys


# --- responses of generalised models


def _drawn(estimate: Estimate) -> _Line:
    """The distribution of a response."""
    response = of_row(name(estimate.specification.response))
    drawn = draw(_distribution_name(estimate), _arguments(estimate))
    if "zero" in estimate.parts:
        drawn = Symbol(
            f"0 with probability {PROBABILITY.text}, else {drawn.text}",
            rf"0 \text{{ with probability }} {PROBABILITY.latex}, \text{{ else }} {drawn.latex}",
            row(
                mn("0"),
                element("mtext", "\u00a0with probability\u00a0"),
                PROBABILITY.mathml,
                element("mtext", ", else\u00a0"),
                drawn.mathml,
            ),
        )
    return _relation(response, "~", drawn)


def _arguments(estimate: Estimate) -> list[Symbol]:
    """Parameters of the distribution: trials, mean, dispersion, shapes."""
    family = estimate.family
    if isinstance(family, Cumulative | Multinomial):
        return []
    counted = family.name in ("binomial", "betabinomial") and not _yes_or_no(estimate)
    varying = {
        predictor_of(estimate, part).label
        for part in estimate.components
        if part.specification is not None
    }
    shapes = [(p.label, GREEK.get(p.label, name(p.label))) for p in family.parameters[1:]]
    return [
        *([of_row(GREEK["n"])] if counted else []),
        of_row(GREEK["mu"]),
        *(of_row(shape) if label in varying else shape for label, shape in shapes),
    ]


def _yes_or_no(estimate: Estimate) -> bool:
    """Tell whether a binomial response has one trial in each row."""
    one = estimate.extra is None or bool((estimate.extra == 1).all())
    return estimate.family.name == "binomial" and one


def _distribution_name(estimate: Estimate) -> str:
    family = estimate.family
    if _yes_or_no(estimate):
        return "Bernoulli"
    if isinstance(family, Truncated):
        return f"Truncated {NAMES[family.base.name]}"
    return NAMES[family.name]


def _below(response: str, link: str) -> Symbol:
    """The link of the probability of a category or one below it."""
    return Symbol(
        f"{link} P({response}[i] <= j)",
        rf"\mathrm{{{link}}}\,P({roman(response)}_i \le j)",
        row(mi(link), SPACE, _probability(response, "≤", element("mi", "j"))),
    )


def _against_first(response: str, chosen: str, levels: Sequence[Any] | None) -> Symbol:
    """Log odds of a category against the first."""
    first = "0" if levels is None else str(levels[0])
    ratio = fraction(_of_category(response, chosen), _of_category(response, first))
    page = row(mi("log"), SPACE, ratio.mathml)
    return Symbol(f"log {ratio.text}", rf"\log {ratio.latex}", page)


def _predictor(estimate: Estimate, part: Component) -> Symbol:
    """Left side of a predictor's line."""
    family, response = estimate.family, estimate.specification.response
    link = link_of(estimate, part)
    if isinstance(family, Cumulative):
        return _below(response, link)
    if isinstance(family, Multinomial):
        chosen = str(category(part.response, estimate.levels))
        return _against_first(response, chosen, estimate.levels)
    if part.name == "zero":
        return call("logit", PROBABILITY)
    label = "mu" if part.name == CONDITIONAL else predictor_of(estimate, part).label
    mean = of_row(GREEK.get(label, name(label)))
    if link == "identity":
        return mean
    if link == "logit(p - 1)":
        return call("logit", sequence([PROBABILITY, Symbol("1", "1", mn("1"))], "-"))
    return call(link, mean)


def _of_category(response: str, level: str) -> Symbol:
    return Symbol(
        f"P({response}[i] = {level})",
        f"P({roman(response)}_i = {roman(level)})",
        _probability(response, "=", element("mtext", level)),
    )


def _probability(response: str, sign: str, value: Markup) -> Markup:
    inside = join([of_row(name(response)).mathml, mo(sign), value])
    return row(mi("P"), fence("("), inside, fence(")"))
