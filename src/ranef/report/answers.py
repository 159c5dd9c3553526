"""What the model says: marginal means, predictions, profiles of the likelihood."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ranef.description.doubts import sentence
from ranef.display import canvas as canvas_
from ranef.display.figures import figure
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.errors import ModelError, RanefError, RanefWarning
from ranef.fits.fit import Fit
from ranef.fits.protocol import Levelled, Likelihood, offers
from ranef.formula.syntax import column_names
from ranef.models.records import Estimate
from ranef.questions.intervals.profile_picture import profile_text, zeta
from ranef.questions.means.picture import means_text
from ranef.questions.predictions import picture
from ranef.questions.predictions.picture import predictions_text
from ranef.report.section import Options
from ranef.tables import Table

__all__ = ["has_means", "has_predictions", "has_profile", "means", "predictions", "profile"]

MOST_FACTORS = 4
MOST_PAIRS = 2
MOST_MEANS = 20
PROFILED = 9
OTHER_EFFECTS = 300
LEADING_EFFECTS = 20_000
GENERALISED_ROWS = 20_000
KINDS = ("categorical", "text", "boolean")


def has_means(fit: Fit) -> bool:
    """Tell whether there is a categorical predictor."""
    return bool(_categories(fit))


def _categories(fit: Fit) -> list[str]:
    """Return the categorical columns of the fixed effects with few enough levels."""
    try:
        rows = Table.of(fit.frame.rows_used())
    except RanefError:
        return []
    names = [name for name in _predictors(fit) if rows.kind(name) in KINDS]
    return [n for n in names if 2 <= len(np.unique(rows.codes(n)[0])) <= MOST_MEANS][:MOST_FACTORS]


def _predictors(fit: Fit) -> list[str]:
    nodes = fit.description.mean.recipe.model.fixed.variables
    return list(dict.fromkeys(name for node in nodes for name in column_names(node)))


def _part(fit: Any) -> str:
    """Return the part whose means are shown: of what is observed, extra zeros included."""
    return "response" if "zero" in fit.parts else "conditional"


def means(fit: Any, how: Options) -> Markup:
    """Return the marginal means of each categorical predictor."""
    names = _categories(fit)
    words = element(
        "p",
        "What the model expects at each level of a categorical predictor, the other categories "
        "weighted equally and numbers at their means.",
    )
    parts = [
        or_why(f"Means of {name}", partial(_means, fit, name, k, how))
        for k, name in enumerate(names)
    ]
    parts += [
        or_why(f"Means of {a} and {b}", partial(_together, fit, a, b, k, how))
        for k, (a, b) in enumerate(_pairs(fit, names)[:MOST_PAIRS])
    ]
    return join([words, *parts])


def _pairs(fit: Any, names: list[str]) -> list[tuple[str, str]]:
    """Return the categorical predictors that interact, the one with more levels first."""
    fixed = fit.description.mean.recipe.model.fixed
    rows = Table.of(fit.frame.rows_used())
    found = []
    for term in fixed.terms:
        columns = [name for i in term for name in column_names(fixed.variables[i])]
        if len(term) == len(columns) == 2 and set(columns) <= set(names):
            a, b = sorted(columns, key=lambda name: -len(np.unique(rows.codes(name)[0])))
            found.append((a, b))
    return found


def _together(fit: Any, a: str, b: str, place: int, how: Options) -> Markup:
    found = fit.emmeans([a, b], conf_level=how.conf_level, df=how.df, component=_part(fit))
    return figure(
        lambda canvas: found.plot("interaction", figure=canvas),
        name=f"together{place}",
        alt=means_text(found, arrows=False),
        caption=f"Marginal means along {a}, a line for each level of {b}. Parallel lines would "
        "mean that they do not interact.",
    )


def _means(fit: Any, name: str, place: int, how: Options) -> Markup:
    found = fit.emmeans(name, conf_level=how.conf_level, df=how.df, component=_part(fit))
    drawn = figure(
        lambda canvas: found.plot(figure=canvas),
        name=f"means{place}",
        alt=means_text(found),
        caption=f"Marginal means of {name} with {how.level} intervals (bars) "
        "and comparison arrows: levels whose arrows do not overlap differ.",
    )
    notes = [element("p", note) for note in found.notes]
    caption = found.listing().caption
    shown = table(replace(found.listing(), caption=f"{caption} by {name}"))
    return join([drawn, *notes, shown, *_carried_back(fit, name, how)])


def _carried_back(fit: Any, name: str, how: Options) -> list[Markup]:
    """Means of a response that the formula transforms on its own scale, or why there are none."""
    try:
        if fit.estimand(type="response").back == "identity":
            return []
        found = fit.emmeans(name, type="response", conf_level=how.conf_level, df=how.df)
    except ModelError as error:
        return [element("p", f"{sentence(str(error))}.")]
    caption = f"{found.listing().caption} by {name}"
    notes = [element("p", note) for note in found.notes if note.startswith("Transformed")]
    return [table(replace(found.listing(), caption=caption)), *notes]


def has_predictions(fit: Fit) -> bool:
    """Tell whether there is a column to predict along, and levels to predict for."""
    return bool(_predictors(fit)) and offers(fit, Levelled)


def predictions(fit: Any, how: Options) -> Markup:
    """Return the picture of predictions along the first numeric predictor."""
    return or_why("Predictions", lambda: _predictions(fit, how.conf_level))


def _predictions(fit: Any, conf_level: float) -> Markup:
    category = None if fit.categories is None else fit.levels[-1]
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
    return offers(fit, Likelihood) and _affordable(fit)


def _affordable(fit: Any) -> bool:
    estimate: Estimate = fit.estimate
    if estimate.optimum.singular or not estimate.optimum.converged:
        return False
    if any(term.kernel is not None for term in estimate.terms):
        return False
    effects = np.zeros(len(estimate.factors), dtype=np.intp)
    for term in estimate.terms:
        effects[term.factor] += term.size * estimate.factors[term.factor].n_levels
    largest = effects.max(initial=0)
    few = effects.sum() - largest <= OTHER_EFFECTS and largest <= LEADING_EFFECTS
    return len(fit.parameters) <= PROFILED and bool(few) and _is_quick(estimate)


def _is_quick(estimate: Estimate) -> bool:
    """Without a scale to profile out, each evaluation goes over the rows, for each node."""
    if estimate.sigma is not None:
        return True
    points = estimate.quadrature ** max((t.size for t in estimate.terms), default=0)
    series = estimate.family.name.endswith(("compois", "tweedie"))
    cost = estimate.specification.n * points * (30 if series else 1)
    return not estimate.reml and cost <= GENERALISED_ROWS


def profile(fit: Any, how: Options) -> Markup:
    """Return profile intervals of all parameters and the picture of zeta."""
    return or_why("Profiles", lambda: _profile(fit, how.conf_level))


def _profile(fit: Any, conf_level: float) -> Markup:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fit.profile(conf_level=max(0.99, conf_level), progress=False)
    warned = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, RanefWarning))
    level = canvas_.percent(conf_level)
    criterion = "maximum likelihood" if found.criterion == "ML" else "REML"
    words = (
        "Each parameter held at other values, all the others fitted anew "
        f"(criterion: {criterion}). Zeta is the signed square root of the increase in deviance, "
        "approximately standard normal: where the line is straight, an interval from the standard "
        "error agrees with that of the profile."
    )
    drawn = figure(
        lambda canvas: zeta(found, conf_level=conf_level, figure=canvas),
        name="profile",
        alt=profile_text(found, conf_level),
        caption=f"Profile zeta, with the {level} interval as a band.",
    )
    ends = replace(found.intervals(conf_level), caption=f"Profile intervals, {level}")
    notes = [element("p", f"{text[:1].upper()}{text[1:]}.") for text in warned]
    return join([element("p", words), *notes, table(ends), drawn])
