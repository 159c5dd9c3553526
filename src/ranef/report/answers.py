"""What the model says: marginal means, predictions, profiles of the likelihood."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from ranef.display import canvas as canvas_
from ranef.display import descriptions
from ranef.display.columns import Column, Listing, Sized
from ranef.display.figures import figure
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.display.reading import is_generalised
from ranef.errors import RanefError, RanefWarning
from ranef.formula.syntax import column_names
from ranef.models.records import GeneralisedEstimate
from ranef.questions.intervals.profile_picture import zeta
from ranef.questions.predictions import picture
from ranef.questions.predictions.picture import predictions_text
from ranef.tables import Table

__all__ = ["categories", "has_profile", "has_slopes", "means", "predictions", "profile"]

MOST_FACTORS = 4
MOST_PAIRS = 2
MOST_MEANS = 20
PROFILED = 9
OTHER_EFFECTS = 300
LEADING_EFFECTS = 20_000
GENERALISED_ROWS = 20_000
KINDS = ("categorical", "text", "boolean")
CATEGORIES = ("cumulative", "multinomial")


def categories(fit: Any) -> list[str]:
    """Return the categorical columns of the fixed effects with few enough levels."""
    try:
        rows = Table.of(fit.frame.rows_used())
    except RanefError:
        return []
    names = [name for name in _predictors(fit) if rows.kind(name) in KINDS]
    return [n for n in names if 2 <= len(np.unique(rows.codes(n)[0])) <= MOST_MEANS][:MOST_FACTORS]


def _predictors(fit: Any) -> list[str]:
    nodes = fit.estimate.specification.recipe.model.fixed.variables
    return list(dict.fromkeys(name for node in nodes for name in column_names(node)))


def _part(fit: Any) -> str:
    """Return the part whose means are shown: of what is observed, extra zeros included."""
    zeros = is_generalised(fit) and "zero" in fit.estimate.parts
    return "response" if zeros else "conditional"


def means(fit: Any, names: list[str], conf_level: float, df: str | None) -> Markup:
    """Return the marginal means of each categorical predictor."""
    words = element(
        "p",
        "What the model expects at each level of a categorical predictor, the other categories "
        "weighted equally and numbers at their means.",
    )
    parts = [
        or_why(f"Means of {name}", partial(_means, fit, name, k, conf_level, df))
        for k, name in enumerate(names)
    ]
    parts += [
        or_why(f"Means of {a} and {b}", partial(_together, fit, a, b, k, conf_level, df))
        for k, (a, b) in enumerate(_pairs(fit, names)[:MOST_PAIRS])
    ]
    return join([words, *parts])


def _pairs(fit: Any, names: list[str]) -> list[tuple[str, str]]:
    """Return the categorical predictors that interact, the one with more levels first."""
    fixed = fit.estimate.specification.recipe.model.fixed
    rows = Table.of(fit.frame.rows_used())
    found = []
    for term in fixed.terms:
        columns = [name for i in term for name in column_names(fixed.variables[i])]
        if len(term) == len(columns) == 2 and set(columns) <= set(names):
            a, b = sorted(columns, key=lambda name: -len(np.unique(rows.codes(name)[0])))
            found.append((a, b))
    return found


def _together(fit: Any, a: str, b: str, place: int, conf_level: float, df: str | None) -> Markup:
    found = fit.emmeans([a, b], conf_level=conf_level, df=df, component=_part(fit))
    return figure(
        lambda canvas: found.plot("interaction", figure=canvas),
        name=f"together{place}",
        alt=descriptions.means_text(found, arrows=False),
        caption=f"Marginal means along {a}, a line for each level of {b}. Parallel lines would "
        "mean that they do not interact.",
    )


def _means(fit: Any, name: str, place: int, conf_level: float, df: str | None) -> Markup:
    found = fit.emmeans(name, conf_level=conf_level, df=df, component=_part(fit))
    drawn = figure(
        lambda canvas: found.plot(figure=canvas),
        name=f"means{place}",
        alt=descriptions.means_text(found),
        caption=f"Marginal means of {name} with {canvas_.percent(conf_level)} intervals (bars) "
        "and comparison arrows: levels whose arrows do not overlap differ.",
    )
    notes = [element("p", note) for note in found.notes]
    return join([drawn, *notes, _means_table(found, name, conf_level)])


def _means_table(found: Any, name: str, conf_level: float) -> Markup:
    source, level = Table.of(found.tidy(tests=False)), canvas_.percent(conf_level)
    rows = range(source.n_rows)
    names = [", ".join(str(source.values(c)[i]) for c in found.names) for i in rows]
    sized = Sized(source.numeric("std_error"))
    columns = (
        Column(", ".join(found.names), names),
        Column("Mean", source.numeric("estimate"), sized),
        Column("Standard error", source.numeric("std_error"), sized),
        Column(f"{level} low", source.numeric("conf_low"), sized),
        Column(f"{level} high", source.numeric("conf_high"), sized),
    )
    caption = f"{found.quantity[0].upper()}{found.quantity[1:]} by {name}"
    return table(Listing("means", columns, caption))


def has_slopes(fit: Any) -> bool:
    """Tell whether there is a column to predict along."""
    return bool(_predictors(fit)) and bool(fit.n_groups)


def predictions(fit: Any, conf_level: float) -> Markup:
    """Return the picture of predictions along the first numeric predictor."""
    return or_why("Predictions", lambda: _predictions(fit, conf_level))


def _predictions(fit: Any, conf_level: float) -> Markup:
    category = None
    if is_generalised(fit) and fit.estimate.family.name in CATEGORIES:
        category = fit.levels[-1]
    return figure(
        lambda canvas: picture.predictions(
            fit, category=category, conf_level=conf_level, figure=canvas
        ),
        name="predictions",
        alt=predictions_text(fit, category=category, conf_level=conf_level),
        caption="Each level's own prediction, and the mean of the population (random effects "
        f"integrated out) with its {canvas_.percent(conf_level)} interval. Other predictors "
        "are held at their means, categories at the most frequent one.",
    )


def has_profile(fit: Any) -> bool:
    """Tell whether all profiles of a model take no longer than its page does."""
    estimate = fit.estimate
    if estimate.optimum.singular or not estimate.optimum.converged:
        return False
    if is_generalised(fit):
        return _has_generalised_profile(estimate)
    spec = estimate.specification
    if any(term.kernel is not None for term in spec.terms):
        return False
    factors = estimate.factors
    effects = [0] * len(factors)
    for term in spec.terms:
        effects[term.factor] += term.size * factors[term.factor].n_levels
    effects.sort()
    parameters = len(spec.names) + len(estimate.optimum.theta) + 1
    few = parameters <= PROFILED and sum(effects[:-1]) <= OTHER_EFFECTS
    return few and effects[-1] <= LEADING_EFFECTS


def _has_generalised_profile(estimate: GeneralisedEstimate) -> bool:
    """Each evaluation goes over the rows a few times, for each node of a quadrature."""
    if any(term.kernel is not None for term in estimate.terms) or estimate.reml:
        return False
    parameters = len(estimate.coefficients) + len(estimate.theta)
    effects = [len(b) * b.shape[1] for b in estimate.modes]
    few = sum(effects) - max(effects) <= OTHER_EFFECTS
    points = estimate.quadrature ** max(t.size for t in estimate.terms)
    series = estimate.family.name.endswith(("compois", "tweedie"))
    cost = estimate.specification.n * points * (30 if series else 1)
    return parameters <= PROFILED and few and cost <= GENERALISED_ROWS


def profile(fit: Any, conf_level: float) -> Markup:
    """Return profile intervals of all parameters and the picture of zeta."""
    return or_why("Profiles", lambda: _profile(fit, conf_level))


def _profile(fit: Any, conf_level: float) -> Markup:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit.profile(conf_level=max(0.99, conf_level), progress=False)
    warned = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, RanefWarning))
    level = canvas_.percent(conf_level)
    criterion = "maximum likelihood" if found.criterion == "ML" else "REML"
    words = (
        "Each parameter held at other values, all the others fitted anew "
        f"(criterion: {criterion}). Zeta is the signed root of what that costs, which is about "
        "standard normal: a straight line means that estimate plus and minus standard errors "
        "would do."
    )
    drawn = figure(
        lambda canvas: zeta(found, conf_level=conf_level, figure=canvas),
        name="profile",
        alt=descriptions.profile_text(found, conf_level),
        caption=f"Profile zeta, with the {level} interval as a band.",
    )
    notes = [element("p", f"{text[:1].upper()}{text[1:]}.") for text in warned]
    table_of_ends = _profile_table(found, conf_level, level)
    return join([element("p", words), *notes, table_of_ends, drawn])


def _profile_table(found: Any, conf_level: float, level: str) -> Markup:
    source = Table.of(found.confint(conf_level))
    value, low, high = (source.numeric(c) for c in ("estimate", "conf_low", "conf_high"))
    sized = Sized(np.fmax(high - low, 0.0) / 4)
    columns = (
        Column("Parameter", [parameter.label for parameter in found.parameters]),
        Column("Estimate", value, sized),
        Column(f"{level} low", low, sized),
        Column(f"{level} high", high, sized),
    )
    return table(Listing("profile", columns, f"Profile intervals, {level}"))
