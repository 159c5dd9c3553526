"""Does the model fit? The findings of a check in words, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranef.description import words
from ranef.display import descriptions
from ranef.display.figures import figure
from ranef.display.leaving import left_out, or_why
from ranef.display.markup import Markup, element, join
from ranef.display.numbers import count
from ranef.display.reading import (
    QUANTILE,
    Fitted,
    has_residuals,
    random_effects,
    usual_residuals,
)
from ranef.display.words import alt_text
from ranef.errors import RanefError
from ranef.questions.checks import (
    influence_picture,
    quantile_pictures,
    residual_picture,
    scale_picture,
    simulated_picture,
)
from ranef.questions.checks.findings_table import findings_tables
from ranef.questions.checks.page_picture import DrawnResiduals

__all__ = ["fitness"]

HALF = (4.5, 3.7)
MOST_ROWS = 300_000
MANY_ROWS = 30_000
FEW_DRAWS = 99
SHOWN_LEVELS = 12


def fitness(fit: Fitted) -> Markup:
    """Return findings and pictures."""
    if not has_residuals(fit):
        return element(
            "p", "Responses without an order, or not fully known, have no residuals to draw."
        )
    rows = fit.estimate.specification.n
    if rows > MOST_ROWS:
        pictures = [] if usual_residuals(fit) == QUANTILE else [_pair(fit)]
        return join([_too_many(rows), *pictures])
    try:
        check = _checked(fit, rows)
    except RanefError as refusal:
        reason = element("p", " ".join(str(refusal).split()), class_="left-out")
        return join([reason, or_why("Residuals", lambda: _pair(fit))])
    return join([_verdict(check), *_pictures(fit, check)])


def _too_many(rows: int) -> Markup:
    return left_out(
        "Findings of a check",
        f"each of {rows:,} rows would be drawn {FEW_DRAWS} times; ranef.check(fit) makes them",
    )


def _checked(fit: Any, rows: int) -> Any:
    return fit.check(n=FEW_DRAWS) if rows > MANY_ROWS else fit.check()


def _verdict(check: Any) -> Markup:
    """Return the headline, what needs a look or is to be known, and the rest in a line."""
    status = "proved" if check.healthy else "unproved"
    parts = [
        element("p", check.headline, class_=f"verdict {status}"),
        *findings_tables(check, ("look", "note")),
    ]
    lines = [check.calm_line, *check.small_print]
    return join([*parts, *(element("p", line) for line in lines if line)])


def _pictures(fit: Fitted, check: Any) -> list[Markup]:
    """Return the pictures; those of a generalised model rest on the draws of the check."""
    shown: Any = fit
    parts = []
    if usual_residuals(fit) == QUANTILE and check.residuals is not None:
        shown = DrawnResiduals(check)
        draws = check.residuals.found.draws.shape[1]
        parts.append(element("p", words.QUANTILE_RESIDUALS.format(draws=count(draws, "response"))))
    influence = _influence(check)
    parts.append(_pair(shown, influence[:1]))
    if len(influence) > 1:
        parts.append(element("div", *influence[1:], class_="pair"))
    if check.residuals is not None:
        parts.append(
            figure(
                lambda canvas: simulated_picture.simulated(check.residuals, figure=canvas),
                name="simulated",
                alt=descriptions.simulated_text(check.residuals),
                caption="The rank of each response among draws from the model. If the model "
                "holds, the points follow the line and the quartiles are level across the fit.",
            )
        )
    return [*parts, _effects(fit)]


def _pair(shown: Any, more: Sequence[Markup] = ()) -> Markup:
    """Return residuals, their quantiles and their size, and `more` beside them."""
    cloud = figure(
        lambda canvas: residual_picture.residuals(shown, figure=canvas),
        name="residuals",
        alt=alt_text(shown, "residuals"),
        caption="The smooth line should stay near zero and the spread should not change.",
        size=HALF,
    )
    quantiles = figure(
        lambda canvas: quantile_pictures.qq(shown, figure=canvas),
        name="qq",
        alt=alt_text(shown, "qq"),
        caption="The shaded band holds 95% of the points that independent normal values would "
        "give.",
        size=HALF,
    )
    sizes = figure(
        lambda canvas: scale_picture.scale_location(shown, figure=canvas),
        name="scale",
        alt=alt_text(shown, "scale_location"),
        caption="The smooth line stays level, near the dashed one, where the variance is what the "
        "model implies.",
        size=HALF,
    )
    return element("div", cloud, quantiles, sizes, *more, class_="pair")


def _effects(fit: Any) -> Markup:
    shown = random_effects(fit, 0.95, None)
    if not shown or min(len(effects.names) for effects in shown) < 2:
        return Markup("")
    if not any(np.any(effects.estimate != 0.0) for effects in shown):
        return Markup("")
    return or_why(
        "Quantiles of random effects",
        lambda: figure(
            lambda canvas: quantile_pictures.qq(fit, "random", figure=canvas),
            name="effects",
            alt=descriptions.effects_text(fit),
            caption="Normal quantiles of the predicted random effects. Shrinkage makes them look "
            "more normal than the effects are.",
        ),
    )


def _influence(check: Any) -> list[Markup]:
    """Return which levels of each factor move the coefficients, one step from the estimate."""
    by_size = sorted(check.left_out.items(), key=lambda item: -len(item[1]))
    return [_moved(k, group, found) for k, (group, found) in enumerate(by_size)]


def _moved(place: int, group: str, found: Any) -> Markup:
    cut = f"; the {SHOWN_LEVELS} largest of {len(found):,}" if len(found) > SHOWN_LEVELS else ""
    return figure(
        lambda canvas: influence_picture.influence(found, most=SHOWN_LEVELS, figure=canvas),
        name=f"influence{place}",
        alt=descriptions.influence_text(found),
        caption=f"How far the coefficients move without each level of {group} (Cook's distance, "
        f"one step from the estimate){cut}.",
        size=HALF,
    )
