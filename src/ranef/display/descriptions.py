"""The pictures of answers (ranks, ratios, means, profiles, what was left out) in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.display.canvas import normal_order_statistics, percent
from ranef.display.reading import Fitted, random_effects
from ranef.tables import Table

__all__ = [
    "effects_text",
    "funnel_text",
    "influence_text",
    "league_text",
    "means_text",
    "profile_text",
    "ranks_text",
    "simulated_text",
]

MOST_NAMED = 12


def ranks_text(ranking: Any) -> str:
    """Describe the picture of a ranking.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> print(ranks_text(ranef.rank(fit)))
    Expected ranks of 6 levels of Batch by (Intercept): from 1.4 (F) to 5.8 (E). A 95% rank \
interval spans 4 ranks in the median.
    """
    table = Table.of(ranking.tidy())
    expected, levels = table.numeric("expected_rank"), table.values("level")
    first, last = int(np.argmin(expected)), int(np.argmax(expected))
    span = table.numeric("rank_high") - table.numeric("rank_low") + 1
    return (
        f"Expected ranks of {len(expected):,} levels of {table.values('group')[0]} by "
        f"{ranking.statistic}: from {expected[first]:.1f} ({levels[first]}) to "
        f"{expected[last]:.1f} ({levels[last]}). A {percent(ranking.conf_level)} rank interval "
        f"spans {np.median(span):g} ranks in the median."
    )


def league_text(ratios: Any) -> str:
    """Describe the picture of standardised ratios."""
    table = Table.of(ratios.tidy())
    value, raw, levels = table.numeric("shrunken"), table.numeric("ratio"), table.values("level")
    low, high = table.numeric("conf_low"), table.numeric("conf_high")
    first, last = int(np.argmax(value)), int(np.argmin(value))
    return (
        f"Standardised ratios of {len(value):,} levels of {table.values('group')[0]}, shrunken "
        f"from {value[first]:.2f} ({levels[first]}) to {value[last]:.2f} ({levels[last]}), raw "
        f"from {raw.max():.2f} to {raw.min():.2f}; {int(np.sum((low > 1) | (high < 1))):,} of the "
        f"{percent(ratios.conf_level)} intervals exclude 1."
    )


def funnel_text(limited: Any) -> str:
    """Describe a funnel plot."""
    table = Table.of(limited.tidy())
    status, levels = [str(s) for s in table.values("status")], table.values("level")
    outside = [str(level) for level, s in zip(levels, status, strict=True) if s != "inside"]
    named = ", ".join(outside[:MOST_NAMED]) + (" ..." if len(outside) > MOST_NAMED else "")
    level = f"{100 * limited.found.levels[0]:g}%"
    return (
        f"Funnel plot of observed over expected counts of {len(levels):,} levels of "
        f"{table.values('group')[0]} against the expected count: {len(outside):,} outside the "
        f"{level} limits{f' ({named})' if outside else ''}."
    )


def means_text(means: Any, *, arrows: bool = True) -> str:
    """Describe the picture of marginal means: each mean and its interval."""
    table = Table.of(means.tidy(tests=False))
    low, high, value = (table.numeric(c) for c in ("conf_low", "conf_high", "estimate"))
    names = [
        ", ".join(str(table.values(name)[i]) for name in means.names) for i in range(len(value))
    ]
    listed = [
        f"{name}: {v:.3g}, interval {a:.3g} to {b:.3g}"
        for name, v, a, b in zip(names, value, low, high, strict=True)
    ]
    cut = len(listed) > MOST_NAMED
    shown = [*listed[:MOST_NAMED], f"and {len(listed) - MOST_NAMED} more"] if cut else listed
    return (
        f"Marginal means by {' and '.join(means.names)} with {percent(means.conf_level)} "
        f"intervals{' and comparison arrows' if arrows else ''}. {'; '.join(shown)}."
    )


def profile_text(profile: Any, conf_level: float) -> str:
    """Describe the picture of a profile: where zeta bends most."""
    table = Table.of(profile.confint(conf_level))
    value, low, high = (table.numeric(c) for c in ("estimate", "conf_low", "conf_high"))
    with np.errstate(all="ignore"):
        skew = np.where(np.isfinite(low) & np.isfinite(high), (high - value) / (value - low), 1.0)
    skew = np.where(np.isfinite(skew) & (skew > 0), skew, np.inf)
    worst = int(np.argmax(np.abs(np.log(skew))))
    text = f"Profile zeta of {len(value)} parameters against their values"
    if np.isinf(skew[worst]):
        return f"{text}; an interval reaches the end of its parameter's range."
    return (
        f"{text}; the line bends most for {profile.parameters[worst].label}, whose "
        f"{percent(conf_level)} interval reaches {skew[worst]:.2g} times as far up as down."
    )


def simulated_text(residuals: Any) -> str:
    """Describe the picture of scaled residuals: the tests that it shows."""
    tests = "; ".join(f"{t.name}, p = {t.p_value:.2g}" for t in residuals.tests)
    return (
        f"Quantiles of {len(residuals.found.scaled):,} scaled residuals against uniform ones, and "
        f"their quartiles across the fit. Tests: {tests}."
    )


def influence_text(left_out: Any) -> str:
    """Describe the picture of Cook's distances."""
    cook = np.asarray(left_out.found.cook, dtype=np.float64)
    finite = np.where(np.isfinite(cook), cook, -np.inf)
    largest = int(np.argmax(finite))
    return (
        f"Cook's distance of {len(cook):,} levels of {left_out.by}, each left out in turn: the "
        f"largest is {cook[largest]:.2g} ({left_out.labels[largest]}), the median "
        f"{np.nanmedian(cook):.2g}."
    )


def effects_text(fit: Fitted) -> str:
    """Describe the normal quantile plots of the random effects: how many leave the band."""
    parts = []
    for effects in random_effects(fit, 0.95, None):
        ordered = np.sort(effects.estimate)
        _, low, high = normal_order_statistics(len(ordered))
        first, third = np.quantile(ordered, [0.25, 0.75])
        middle, slope = (first + third) / 2, (third - first) / 1.3489795
        outside = int(np.sum((ordered < middle + slope * low) | (ordered > middle + slope * high)))
        parts.append(
            f"{effects.group}, {effects.term}: {outside:,} of {len(ordered):,} outside the band"
        )
    return f"Normal quantile plots of the random effects. {'; '.join(parts)}."
