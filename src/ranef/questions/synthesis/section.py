"""The section of a report on the effects of studies."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.display.columns import Column, Fixed, Label, Listing, PValue, Significant
from ranef.display.figures import figure
from ranef.display.markup import Markup, join, table
from ranef.questions.synthesis.pictures import forest, forest_text, funnel

__all__ = ["synthesis"]

MOST = 60
"""Effects that a forest plot of a page shows."""


def synthesis(fit: Any, conf_level: float) -> Markup:
    """Heterogeneity, the forest and the funnel."""
    parts = [_heterogeneity(fit)]
    if fit.n_obs <= MOST:
        parts.append(
            figure(
                lambda canvas: forest(fit, conf_level=conf_level, figure=canvas),
                name="forest",
                alt=forest_text(fit, conf_level=conf_level),
                caption="Effects with their intervals; the area of a square is the weight. The "
                "dotted line through the diamond is where the true effect of a new study lies.",
            )
        )
    errors = np.sqrt(fit.synthesis.model.variances)
    parts.append(
        figure(
            lambda canvas: funnel(fit, figure=canvas),
            name="funnel",
            alt=f"Funnel plot of {fit.n_obs} effects, standard errors from {errors.min():.3g} to "
            f"{errors.max():.3g}.",
            caption="Effects against standard errors, with regions of 90%, 95% and 99% of sampling "
            "error alone.",
        )
    )
    return join(parts)


def _heterogeneity(fit: Any) -> Markup:
    found = fit.synthesis.heterogeneity
    columns = (
        Column("", ["all effects"], Label()),
        Column("tau^2", [fit.tau2], Significant()),
        Column("Q", [found.q], Fixed(2)),
        Column("df", [found.df], Fixed(0)),
        Column("p", [found.q_p], PValue()),
        Column("I^2, %", [found.i2], Fixed(1)),
        Column("H^2", [found.h2], Fixed(2)),
    )
    return table(Listing("heterogeneity", columns, "Heterogeneity"))
