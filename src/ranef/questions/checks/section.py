"""Does the model fit? The findings of a check in words, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranef.display.figures import figure
from ranef.display.leaving import left_out, or_why
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import count
from ranef.display.reading import (
    QUANTILE,
    Fitted,
    has_residuals,
    random_effects,
    usual_residuals,
)
from ranef.errors import RanefError
from ranef.fits.protocol import Critical, Levelled, offers
from ranef.questions.checks import (
    influence_picture,
    quantile_pictures,
    residual_picture,
    scale_picture,
    simulated_picture,
)
from ranef.questions.checks.page_picture import MOST_LEVELS, residual_source

__all__ = ["fitness"]

QUANTILE_RESIDUALS = (
    "Quantile residuals: each response is ranked among {draws} simulated from the model, with one "
    "draw of the random effects given the data; the normal quantile of its rank is shown, with "
    "ties broken at random. They are standard normal for every family if the model holds."
)
HALF = (4.5, 3.7)
MOST_ROWS = 300_000
MANY_ROWS = 30_000
FEW_DRAWS = 99


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
    drawn = rows > MANY_ROWS and not offers(fit, Critical)
    return fit.check(n=FEW_DRAWS) if drawn else fit.check()


def _verdict(check: Any) -> Markup:
    """Return the headline, what needs a look or is to be known, and the rest in a line."""
    status = "proved" if check.healthy else "unproved"
    parts = [
        element("p", check.headline, class_=f"verdict {status}"),
        *map(table, check.by_verdict(("look", "note"))),
    ]
    lines = [check.calm_line, *check.small_print]
    return join([*parts, *(element("p", line) for line in lines if line)])


def _pictures(fit: Fitted, check: Any) -> list[Markup]:
    """Return the pictures; those of a generalised model rest on the draws of the check."""
    source = residual_source(check)
    parts = []
    if source is not check.fit:
        draws = check.residuals.found.draws.shape[1]
        parts.append(element("p", QUANTILE_RESIDUALS.format(draws=count(draws, "response"))))
    influence = _influence(check)
    parts.append(_pair(source, influence[:1]))
    if len(influence) > 1:
        parts.append(element("div", *influence[1:], class_="pair"))
    if check.residuals is not None:
        parts.append(
            figure(
                lambda canvas: simulated_picture.simulated(check.residuals, figure=canvas),
                name="simulated",
                alt=simulated_picture.simulated_text(check.residuals),
                caption="The rank of each response among draws from the model. If the model "
                "holds, the points follow the line and the quartiles are level across the fit.",
            )
        )
    return [*parts, _effects(fit)]


def _pair(fit: Fitted, more: Sequence[Markup] = ()) -> Markup:
    """Return residuals, their quantiles and their size, and `more` beside them."""
    cloud = figure(
        lambda canvas: residual_picture.residuals(fit, figure=canvas),
        name="residuals",
        alt=residual_picture.residuals_text(fit),
        caption="The smooth line should stay near zero and the spread should not change.",
        size=HALF,
    )
    quantiles = figure(
        lambda canvas: quantile_pictures.qq(fit, figure=canvas),
        name="qq",
        alt=quantile_pictures.qq_text(fit),
        caption="The shaded band holds 95% of the points that independent normal values would "
        "give.",
        size=HALF,
    )
    sizes = figure(
        lambda canvas: scale_picture.scale_location(fit, figure=canvas),
        name="scale",
        alt=scale_picture.scale_location_text(fit),
        caption="The smooth line stays level, near the dashed one, where the variance is what the "
        "model implies.",
        size=HALF,
    )
    return element("div", cloud, quantiles, sizes, *more, class_="pair")


def _effects(fit: Any) -> Markup:
    drawn = random_effects(fit, 0.95, None) if offers(fit, Levelled) else ()
    if not drawn or min(len(effects.names) for effects in drawn) < 2:
        return Markup("")
    if not any(np.any(effects.estimate != 0.0) for effects in drawn):
        return Markup("")
    return or_why(
        "Quantiles of random effects",
        lambda: figure(
            lambda canvas: quantile_pictures.qq(fit, "random", figure=canvas),
            name="effects",
            alt=quantile_pictures.effects_text(fit),
            caption="Normal quantiles of the predicted random effects. Shrinkage makes them look "
            "more normal than the effects are.",
        ),
    )


def _influence(check: Any) -> list[Markup]:
    """Return which levels of each factor move the coefficients, one step from the estimate."""
    by_size = sorted(check.left_out.items(), key=lambda item: -len(item[1]))
    return [_moved(k, group, left_out) for k, (group, left_out) in enumerate(by_size)]


def _moved(place: int, group: str, left_out: Any) -> Markup:
    most, count = MOST_LEVELS, len(left_out)
    cut = f"; the {most} largest of {count:,}" if count > most else ""
    return figure(
        lambda canvas: influence_picture.influence(left_out, most=most, figure=canvas),
        name=f"influence{place}",
        alt=influence_picture.influence_text(left_out),
        caption=f"How far the coefficients move without each level of {group} (Cook's distance, "
        f"one step from the estimate){cut}.",
        size=HALF,
    )
