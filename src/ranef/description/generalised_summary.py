"""The summary of a generalised mixed model: ratios, components, dispersion, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranef.description.doubts import sentence, separation_concern, uncertainty_concern
from ranef.description.summary import (
    information_line,
    optimum_line,
    reference_levels,
    rows_used,
    variance_shares,
    variance_table,
)
from ranef.display.answer import Summary
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.families import Cumulative, Multinomial
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import Intervals
from ranef.models.family_words import (
    approximation,
    criterion,
    for_all,
    natural,
    predictor_of,
    ratio,
    variance_words,
    zero_words,
)
from ranef.models.labels import CoefficientLabel, coefficient_labels
from ranef.models.records import CONDITIONAL, Component, GeneralisedEstimate

__all__ = ["family_line", "generalised_summary", "subject_specific"]

Part = Paragraph | TextTable

HEADINGS = {
    CONDITIONAL: "Fixed effects",
    "zero": "Zero part: log odds of an extra zero",
    "dispersion": "Dispersion",
    "threshold": "Thresholds",
}


@dataclass(frozen=True, eq=False)
class _Section:
    """One component with its coefficients' labels and intervals."""

    part: Component
    labels: tuple[CoefficientLabel, ...]
    found: Intervals


def generalised_summary(
    estimate: GeneralisedEstimate,
    found: Intervals,
    variance: Sequence[VarianceParameter],
    conf_level: float,
) -> Summary:
    """Summarise a generalised linear mixed model.

    `found` are the intervals of all coefficients.
    """
    sections = _sections(estimate, found)
    constants = [s for s in sections if _is_constant(s.part)]
    shown = [s for s in sections if not _is_constant(s.part)]
    mean, others = shown[: _n_means(shown)], shown[_n_means(shown) :]
    parts: list[Part] = [Paragraph((family_line(estimate), *_rows(estimate)))]
    parts += [_table(estimate, s, conf_level) for s in mean if s.labels]
    parts += [_reading(estimate)]
    parts += [_table(estimate, s, conf_level) for s in others if s.labels]
    parts += _spread(estimate, constants, conf_level)
    if variance:
        parts.append(variance_table(estimate, variance, conf_level))
        parts += variance_shares(estimate)
    concerns = (separation_concern(estimate), uncertainty_concern(joint_covariance(estimate)))
    told = (sentence(concern) for concern in concerns if concern is not None)
    parts.append(Paragraph((information_line(estimate), optimum_line(estimate), *told)))
    title = f"Generalised linear mixed model: {estimate.specification.formula}"
    return Summary(Page(title, tuple(parts)))


def family_line(estimate: GeneralisedEstimate) -> str:
    """Family, link and approximation in one sentence."""
    family = estimate.family
    thresholds = f", {family.thresholds} thresholds" if isinstance(family, Cumulative) else ""
    return (
        f"Family {family.name}, link {family.link}{thresholds}; maximum {criterion(estimate)} by "
        f"{approximation(estimate)}."
    )


def subject_specific(estimate: GeneralisedEstimate) -> str:
    """Which question the coefficients answer, and who answers the other one."""
    group = " and ".join(dict.fromkeys(f.name for f in estimate.factors))
    if for_all(estimate):
        return (
            f"Coefficients hold for a typical level of {group} and for population means alike "
            "(the link is the identity)."
        )
    return (
        f"Coefficients are subject-specific: they hold for a typical level of {group}. For "
        "population-averaged coefficients see ranef.marginal(fit)."
    )


def _sections(estimate: GeneralisedEstimate, found: Intervals) -> list[_Section]:
    labels = coefficient_labels(estimate)
    sections = []
    for part in estimate.components:
        own = part.coefficients
        values = {name: values[own] for name, values in vars(found).items()}
        sections.append(_Section(part, labels[own], Intervals(**values)))
    return sections


def _n_means(sections: Sequence[_Section]) -> int:
    return sum(s.part.name == CONDITIONAL for s in sections)


def _is_constant(part: Component) -> bool:
    """Tell whether a component is one number: a dispersion or shape without a formula."""
    return part.specification is None and part.name != "threshold"


def _rows(estimate: GeneralisedEstimate) -> tuple[str, ...]:
    """Rows used and dropped, trials, groups, redundant columns."""
    spec, extra = estimate.specification, estimate.extra
    lines = list(rows_used(spec, estimate.factors))
    if estimate.family.name in ("binomial", "betabinomial") and extra is not None:
        total = float(extra.sum())
        if total != spec.n:
            lines.insert(1, f"{spec.y.sum():,.0f} successes in {total:,.0f} trials.")
    if estimate.priors:
        held = ", ".join(f"{name} {prior!r}" for name, prior in estimate.priors.items())
        lines.append(f"Priors: {held}. The log-likelihood below does not include them.")
    if estimate.fixed:
        held = ", ".join(f"{name} = {value:g}" for name, value in estimate.fixed.items())
        lines.append(f"Held, not estimated: {held}.")
    if estimate.equal:
        tied = "; ".join(" = ".join(group) for group in estimate.equal)
        lines.append(f"Equal by request: {tied}.")
    if spec.weights is not None:
        lines.append("Weights multiply the log density of each row.")
    return tuple(lines)


def _table(estimate: GeneralisedEstimate, section: _Section, conf_level: float) -> TextTable:
    percent = f"{100 * conf_level:g}%"
    part, word = section.part, ratio(estimate, section.part)
    bounds = (f"{percent} low", f"{percent} high")
    if part.name == "threshold":
        header: tuple[str, ...] = ("", "estimate", "std_error", *bounds)
    elif word is None:
        header = ("", "estimate", "std_error", "z", "p", *bounds)
    else:
        header = ("", "estimate", "std_error", "z", "p", word, *bounds)
    rows = tuple(
        _row(section, j, tested=part.name != "threshold", carried=word is not None)
        for j in range(len(section.labels))
    )
    return TextTable(_caption(estimate, section, word), header, rows)


def _caption(estimate: GeneralisedEstimate, section: _Section, word: str | None) -> str:
    part, family = section.part, estimate.family
    heading = HEADINGS.get(part.name, f"Shape ({part.name})")
    heading = heading.replace("an extra zero", zero_words(estimate.family))
    if part.name == "threshold":
        return f"{heading} on the scale of the link"
    if isinstance(family, Multinomial):
        heading = f"{heading}: {section.labels[0].response} against the first category"
    if part.name not in (CONDITIONAL, "zero"):
        own = predictor_of(estimate, part)
        scale = own.label if own.link == "identity" else f"{own.link} {own.label}"
        heading = f"{heading}: {scale}; {variance_words(family)}"
    if word is None:
        return f"{heading} (normal tests)"
    return f"{heading} (normal tests; the interval is that of the {word})"


def _row(section: _Section, j: int, *, tested: bool, carried: bool) -> tuple[str, ...]:
    found, label = section.found, section.labels[j]
    places = decimals(float(found.std_error[j]))
    cells = [
        label.term,
        number(float(found.estimate[j]), places),
        number(float(found.std_error[j]), places),
    ]
    if tested:
        cells += [number(float(found.statistic[j]), 2), p_value(float(found.p_value[j]))]
    values = [found.conf_low[j], found.conf_high[j]]
    if carried:
        values = [found.estimate[j], *values]
        if label.term == "(Intercept)":
            return (*cells, "", "", "")
        return (*cells, *(_ratio_number(float(v)) for v in values))
    return (*cells, *(number(float(v), places) for v in values))


def _ratio_number(log_value: float) -> str:
    with np.errstate(over="ignore"):
        value = float(np.exp(log_value))
    return number(value, decimals(value, 3)) if 1e-4 <= value < 1e6 else f"{value:.3g}"


def _reading(estimate: GeneralisedEstimate) -> Paragraph:
    """Which question a coefficient answers."""
    spec, family = estimate.specification, estimate.family
    lines = [subject_specific(estimate)]
    if isinstance(family, Cumulative):
        levels = estimate.levels
        order = "" if levels is None else f" ({' < '.join(str(x) for x in levels)})"
        lines.append(
            f"P(y <= j) = F(threshold_j - x'b): a positive coefficient makes higher categories "
            f"more likely{order}."
        )
        if "threshold" in estimate.parts:
            lines.append(
                f"Nominal effects {estimate.parts['threshold'].formula}: a separate coefficient "
                "for each threshold; a positive one makes the categories above it less likely."
            )
    references = reference_levels(spec)
    if references:
        lines.append(f"Categories are compared with their reference levels: {references}.")
    if any(":" in name for name in spec.names):
        lines.append(
            "The coefficient of a column that is also part of an interaction holds where the other "
            "column of the interaction is 0."
        )
    return Paragraph(tuple(lines))


def _spread(
    estimate: GeneralisedEstimate, constants: Sequence[_Section], conf_level: float
) -> list[Part]:
    """Dispersion and shapes that are one number each, on their own scale."""
    lines = []
    for section in constants:
        own = predictor_of(estimate, section.part)
        found = section.found
        value, low, high = (
            natural(own.link, float(x[0]))
            for x in (found.estimate, found.conf_low, found.conf_high)
        )
        places = decimals(abs(value), 4)
        text = (
            f"{own.label} = {number(value, places)} ({100 * conf_level:g}% interval "
            f"{number(low, places)} to {number(high, places)})"
        )
        meaning = f". {variance_words(estimate.family)}" if own.name == "dispersion" else ""
        head = "Dispersion" if own.name == "dispersion" else "Shape"
        lines.append(f"{head} {text}{meaning}.")
    return [Paragraph(tuple(lines))] if lines else []
