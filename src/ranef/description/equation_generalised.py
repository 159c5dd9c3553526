"""A generalised model in symbols, as text and as LaTeX."""

from __future__ import annotations

from ranef.description.equation import (
    Equation,
    aligned,
    latex_distributions,
    latex_predictor,
    letters,
    roman,
    text_distributions,
    text_predictor,
)
from ranef.design.specification import Specification
from ranef.families import Cumulative, Multinomial, Truncated
from ranef.models.family_words import link_of, predictor_of
from ranef.models.labels import category
from ranef.models.records import CONDITIONAL, Component, GeneralisedEstimate

__all__ = ["generalised_equation"]

NAMES = {
    "gaussian": "Normal",
    "censored": "Censored Normal",
    "t": "Student t",
    "binomial": "Binomial",
    "betabinomial": "Beta-binomial",
    "poisson": "Poisson",
    "nbinom1": "Negative binomial 1",
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
COEFFICIENTS = {"zero": ("g", r"\gamma"), "dispersion": ("d", r"\delta")}


def generalised_equation(estimate: GeneralisedEstimate) -> Equation:
    """Write a generalised model out: response, predictors, random effects."""
    text, latex = [_response(estimate)], [_latex_response(estimate)]
    all_letters = letters(len(estimate.terms))
    spreads, latex_spreads = [], []
    for part in estimate.components:
        spec = part.specification
        if spec is None:
            continue
        if part.name == "threshold":
            text.append(_threshold_line(spec))
            latex.append(_latex_threshold_line(spec))
            continue
        own = all_letters[part.terms]
        symbol, greek = COEFFICIENTS.get(part.name, ("b" if _is_mean(part) else "s", r"\beta"))
        left, latex_left = _left(estimate, part)
        minus = isinstance(estimate.family, Cumulative)
        summed = " + ".join(text_predictor(spec, own, part.names, symbol)) or "0"
        latex_summed = " + ".join(latex_predictor(spec, own, part.names, greek)) or "0"
        text.append(f"{left} = " + (f"c[j] - ({summed})" if minus else summed))
        latex.append(f"{latex_left} &= " + (rf"c_j - ({latex_summed})" if minus else latex_summed))
        spreads += text_distributions(spec, own)
        latex_spreads += latex_distributions(spec, own, part.terms.start)
    return Equation("\n".join([*text, *spreads]), aligned([*latex, *latex_spreads]))


def _threshold_line(spec: Specification) -> str:
    """Thresholds of a row with nominal effects."""
    right = [
        summand.replace(f"c{k}", f"c{k}[j]", 1)
        for k, summand in enumerate(text_predictor(spec, (), symbol="c"))
    ]
    return f"c[j] = {' + '.join(right)}"


def _latex_threshold_line(spec: Specification) -> str:
    right = [
        summand.replace(rf"c_{{{k}}}", rf"c_{{j{k}}}", 1)
        for k, summand in enumerate(latex_predictor(spec, (), symbol="c"))
    ]
    return rf"c_j &= {' + '.join(right)}"


def _is_mean(part: Component) -> bool:
    return part.name == CONDITIONAL


def _arguments(estimate: GeneralisedEstimate) -> list[str]:
    """Parameters of the distribution: trials, mean, dispersion, shapes."""
    family = estimate.family
    if isinstance(family, Cumulative | Multinomial):
        return []
    counted = family.name in ("binomial", "betabinomial") and not _yes_or_no(estimate)
    trials = ["n[i]"] if counted else []
    labels = [p.label for p in family.parameters[1:]]
    varying = {
        predictor_of(estimate, part).label
        for part in estimate.components
        if part.specification is not None
    }
    return [*trials, "mu[i]", *(f"{x}[i]" if x in varying else x for x in labels)]


def _yes_or_no(estimate: GeneralisedEstimate) -> bool:
    """Tell whether a binomial response has one trial in each row."""
    one = estimate.extra is None or bool((estimate.extra == 1).all())
    return estimate.family.name == "binomial" and one


def _distribution(estimate: GeneralisedEstimate) -> str:
    family = estimate.family
    if _yes_or_no(estimate):
        return "Bernoulli"
    base = family.base.name if isinstance(family, Truncated) else family.name
    truncated = "Truncated " if isinstance(family, Truncated) else ""
    return f"{truncated}{NAMES[base]}"


def _response(estimate: GeneralisedEstimate) -> str:
    response, name = estimate.specification.response, _distribution(estimate)
    arguments = _arguments(estimate)
    if not arguments:
        return f"{response}[i] ~ {name}"
    drawn = f"{name}({', '.join(arguments)})"
    if "zero" not in estimate.parts:
        return f"{response}[i] ~ {drawn}"
    return f"{response}[i] ~ 0 with probability p[i], else {drawn}"


def _latex_response(estimate: GeneralisedEstimate) -> str:
    name = rf"\text{{{_distribution(estimate)}}}"
    arguments = [_latex_argument(x) for x in _arguments(estimate)]
    drawn = f"{name}({', '.join(arguments)})" if arguments else name
    left = rf"{roman(estimate.specification.response)}_i &\sim "
    if "zero" not in estimate.parts:
        return left + drawn
    return left + rf"0 \text{{ with probability }} p_i, \text{{ else }} {drawn}"


def _latex_argument(argument: str) -> str:
    name, bracket, _ = argument.partition("[")
    symbol = {"mu": r"\mu", "phi": r"\phi", "sigma": r"\sigma", "n": "n"}.get(name, roman(name))
    return f"{symbol}_i" if bracket else symbol


def _left(estimate: GeneralisedEstimate, part: Component) -> tuple[str, str]:
    """Left side of a predictor's line, as text and as LaTeX."""
    family, response = estimate.family, estimate.specification.response
    link = link_of(estimate, part)
    if isinstance(family, Cumulative):
        return (
            f"{link} P({response}[i] <= j)",
            rf"\mathrm{{{link}}}\,P({roman(response)}_i \le j)",
        )
    if isinstance(family, Multinomial):
        levels = estimate.levels
        own = str(category(part.response, levels))
        first = "0" if levels is None else str(levels[0])
        return (
            f"log P({response}[i] = {own}) / P({response}[i] = {first})",
            rf"\log \frac{{P({roman(response)}_i = {roman(own)})}}"
            rf"{{P({roman(response)}_i = {roman(first)})}}",
        )
    if part.name == "zero":
        return "logit(p[i])", r"\mathrm{logit}(p_i)"
    name = "mu[i]" if _is_mean(part) else f"{predictor_of(estimate, part).label}[i]"
    symbol = _latex_argument(name)
    if link == "identity":
        return name, symbol
    if link == "logit(p - 1)":
        return "logit(p[i] - 1)", r"\mathrm{logit}(p_i - 1)"
    return f"{link}({name})", rf"\mathrm{{{link}}}({symbol})"
