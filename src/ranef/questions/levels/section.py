"""The levels of the grouping factors: effects, shrinkage, ranks, standardised ratios."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display import canvas as canvas_
from ranef.display.columns import Column, Listing, Sized
from ranef.display.figures import figure
from ranef.display.leaving import left_out, or_why
from ranef.display.markup import Markup, element, join, table
from ranef.display.reading import Effects, Fitted, random_effects
from ranef.questions.levels import caterpillar, rank_pictures, shrinkage_picture
from ranef.tables import Table

__all__ = ["has_ratios", "levels", "ratios"]

Floats = NDArray[np.float64]

TABLED_LEVELS = 200
SHRUNKEN_LEVELS = 400
RANKED_LEVELS = 1000
RATIO_LEVELS = 400
FEWEST = 3
COUNTS = ("poisson", "nbinom1", "nbinom2", "nbinom12", "bell")
PROPORTIONS = ("binomial", "betabinomial")


def levels(fit: Fitted, conf_level: float) -> Markup:
    """Return caterpillars, shrinkage and ranks."""
    level = canvas_.percent(conf_level)
    effects = random_effects(fit, conf_level, None)
    picture = figure(
        lambda canvas: caterpillar.random(fit, conf_level=conf_level, figure=canvas),
        name="random",
        alt=caterpillar.random_text(fit, conf_level),
        caption=f"Predicted effects (conditional modes) of each level, sorted, with {level} "
        "prediction intervals.",
    )
    tables = [
        element(
            "details",
            element("summary", f"{one.group}: {one.term} as a table"),
            _table(one, level),
        )
        for one in effects
        if len(one.names) <= TABLED_LEVELS
    ]
    if not any(np.any(one.estimate != 0.0) for one in effects):
        return join(
            [picture, *tables, left_out("Shrinkage and ranks", "no level differs from another")]
        )
    return join([picture, *tables, _shrinkage(fit), _ranks(fit, conf_level)])


def _table(effects: Effects, level: str) -> Markup:
    sized = Sized(float(np.median(effects.high - effects.low)) / 4.0)
    columns = (
        Column("Level", effects.names),
        Column("Effect", effects.estimate, sized),
        Column(f"{level} low", effects.low, sized),
        Column(f"{level} high", effects.high, sized),
    )
    caption = f"Effects on {effects.term} of the levels of {effects.group}"
    return table(Listing("effects", columns, caption))


def _shrinkage(fit: Any) -> Markup:
    """Return the picture of the first grouping factor."""
    group, count = next(iter(fit.n_groups.items()))
    if count > SHRUNKEN_LEVELS:
        return left_out(
            "Raw and shrunken estimates",
            f"{count:,} arrows would hide each other; fit.plot.shrinkage() draws them",
        )
    return or_why(
        "Raw and shrunken estimates",
        lambda: figure(
            lambda canvas: shrinkage_picture.shrinkage(fit, group=group, figure=canvas),
            name="shrinkage",
            alt=shrinkage_picture.shrinkage_text(fit),
            caption="Estimates from each level's own rows (raw), and after they are shrunken "
            "towards the average. Levels with little data move most.",
        ),
    )


def _ranks(fit: Any, conf_level: float) -> Markup:
    """Return the ranks of the first grouping factor that has enough levels."""
    counts = {f.name: f.n_levels for f in fit.factors if f.n_levels >= FEWEST}
    if not counts:
        return Markup("")
    group, count = next(iter(counts.items()))
    if count > RANKED_LEVELS:
        return left_out(
            "Ranks", f"{group} has {count:,} levels; ranef.rank(fit, {group!r}) ranks them"
        )
    return or_why("Ranks", lambda: _ranked(fit, group, conf_level))


def _ranked(fit: Any, group: str, conf_level: float) -> Markup:
    varying = _varying(fit, group)
    options = {} if "(Intercept)" in varying else {"statistic": varying[0]}
    if fit.family.name == "multinomial":
        options["response"] = fit.levels[1]
    ranking = fit.rank(group, conf_level=conf_level, **options)
    return figure(
        lambda canvas: rank_pictures.ranks(ranking, figure=canvas),
        name="ranks",
        alt=rank_pictures.ranks_text(ranking),
        caption="Expected ranks from the joint posterior of the levels, with intervals that "
        "show how certain the order is. Not a test of one level against the others, nor a causal "
        "claim: levels may differ in whatever the model leaves out.",
    )


def _varying(fit: Any, group: str) -> list[str]:
    """The coefficients of the mean that vary over a grouping factor."""
    source = Table.of(fit.tidy("random"))
    columns = zip(
        source.values("component"), source.values("group"), source.values("term"), strict=True
    )
    terms = [str(t) for part, g, t in columns if str(g) == group and str(part) == "conditional"]
    return list(dict.fromkeys(terms)) or ["(Intercept)"]


def has_ratios(fit: Any) -> bool:
    """Tell whether levels have counts to be set against what is expected of them."""
    estimate = fit.estimate
    if "zero" in estimate.parts:
        return False
    if estimate.family.name in COUNTS:
        return estimate.specification.offset is not None
    trials = estimate.extra
    return estimate.family.name in PROPORTIONS and trials is not None and np.max(trials) > 1


def ratios(fit: Any, conf_level: float) -> Markup:
    """Return standardised ratios and their funnel of the first grouping factor."""
    group, count = next(iter(fit.n_groups.items()))
    if count > RATIO_LEVELS:
        return left_out(
            "Standardised ratios",
            f"{group} has {count:,} levels; ranef.standardized_ratios(fit, {group!r}) has them",
        )
    return or_why("Standardised ratios", lambda: _compared(fit, group, conf_level))


def _compared(fit: Any, group: str, conf_level: float) -> Markup:
    ratios = fit.standardized_ratios(group, conf_level=conf_level)
    limits = ratios.funnel()
    adjusted = ", ".join(ratios.adjusted_for) or "nothing, since the model has no other term"
    words = (
        f"What was observed at each level of {group}, over what the model expects of the same "
        f"rows at an average level. Adjusted for: {adjusted}. A ratio is not a verdict: levels may "
        "differ in whatever the model leaves out."
    )
    league = figure(
        lambda canvas: rank_pictures.league(ratios, figure=canvas),
        name="league",
        alt=rank_pictures.league_text(ratios),
        caption="Ratios as observed (raw) and shrunken towards 1, most where data are few, with "
        f"{canvas_.percent(conf_level)} intervals.",
    )
    funnel = figure(
        lambda canvas: rank_pictures.funnel(limits, figure=canvas),
        name="funnel",
        alt=rank_pictures.funnel_text(limits),
        caption="Raw ratios against the expected count. Between the limits they differ by no more "
        "than chance; some of many levels fall outside by chance alone.",
    )
    return join([element("p", words), league, funnel])
