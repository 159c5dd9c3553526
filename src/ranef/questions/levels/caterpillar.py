"""The random effects as caterpillars: levels sorted, each with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import (
    BAND,
    INK,
    MANY_POINTS,
    MARK,
    MUTED,
    finish,
    label,
    one_or_all,
    panels,
    percent,
    plain,
    told_apart,
)
from ranef.display.reading import Effects, Fitted, random_effects
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["random", "random_text"]

Floats = NDArray[np.float64]

NAMED_LEVELS = 60
"""Up to this many levels each has its name; above, the axis counts them."""


def random(
    fit: Fitted,
    *,
    group: str | None = None,
    term: str | None = None,
    conf_level: float = 0.95,
    bars: str = "interval",
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw the random effects, sorted, with intervals: one panel a coefficient.

    The intervals are prediction intervals of the effects. Up to 60 levels are
    named; more are counted along the axis, and their intervals become a comb
    that stays readable at thousands of levels.

    Parameters
    ----------
    fit : a fit of ranef
    group : str, optional
        Only this grouping factor.
    term : str, optional
        Only this coefficient, for example ``"(Intercept)"``.
    conf_level : float
        Level of the intervals.
    bars : {"interval", "comparison"}
        Intervals of each level; or shorter ones (83% for 95%) of which two that do not
        meet differ at that level, for levels that are independent and about equally well
        known (Goldstein & Healy 1995, J. R. Stat. Soc. A 158). For pairs that matter see
        ``ranef.rank(fit).pairwise()``.
    ax : matplotlib Axes, optional
        Where to draw when there is one panel.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one; it is resized.

    Returns
    -------
    matplotlib Axes, or an array of them when there are several panels

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> [panel.get_title(loc="left") for panel in random(fit)]
    ['Subject: (Intercept)', 'Subject: Days']
    """
    if bars not in ("interval", "comparison"):
        raise ModelError(f"bars is 'interval' or 'comparison', not {bars!r}")
    level = conf_level if bars == "interval" else comparison_level(conf_level)
    effects = [e for e in random_effects(fit, level, group) if term in (None, e.term)]
    if not effects:
        raise ModelError(f"no random effect of {term!r}; see fit.tidy('random')")
    titles = [f"{plain(e.group)}: {plain(e.term)}" for e in effects]
    height = _height(max(len(e.names) for e in effects))
    axes = panels(titles, ax, figure, single=(6.4, height), height=height)
    for panel, one in zip(axes, effects, strict=True):
        _caterpillar(panel, one, _words(conf_level, bars))
    return one_or_all(axes)


def random_text(fit: Fitted, conf_level: float = 0.95) -> str:
    """Describe the picture: the ends of each caterpillar, and how many intervals exclude zero."""
    sentences = []
    for effects in random_effects(fit, conf_level, None):
        ordered, count = effects.sorted(), len(effects.names)
        apart = int(np.sum((ordered.low > 0) | (ordered.high < 0)))
        sentences.append(
            f"Caterpillar plot of {effects.term} by {effects.group}: {count:,} "
            f"{'level' if count == 1 else 'levels'} from {ordered.estimate[0]:.3g} "
            f"({ordered.names[0]}) to {ordered.estimate[-1]:.3g} ({ordered.names[-1]}); "
            f"{apart:,} of the {percent(conf_level)} intervals exclude zero."
        )
    return " ".join(sentences)


def comparison_level(conf_level: float) -> float:
    """Return the level of bars whose ends meet where two levels differ at `conf_level`.

    Two equal normal intervals of reach c sd just meet at a difference of 2 c sd, whose own
    standard deviation is sqrt(2) sd.

    Examples
    --------
    >>> round(comparison_level(0.95), 4)
    0.8342
    """
    from scipy.special import ndtr, ndtri

    return float(2 * ndtr(ndtri(0.5 + conf_level / 2) / np.sqrt(2)) - 1)


def _words(conf_level: float, bars: str) -> str:
    if bars == "interval":
        return f"{percent(conf_level)} prediction interval"
    return f"bars that meet: not different at {percent(conf_level)}"


def _height(levels: int) -> float:
    return 1.3 + 0.17 * max(levels, 6) if levels <= NAMED_LEVELS else 5.0


def _caterpillar(ax: Axes, effects: Effects, words: str) -> None:
    ordered = effects.sorted()
    named = len(ordered.names) <= NAMED_LEVELS
    ax.axvline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    (_named_levels if named else _counted_levels)(ax, ordered)
    label(
        ax,
        title=f"{plain(effects.group)}: {plain(effects.term)}",
        x=f"Effect, {words}",
        y="" if named else f"{len(ordered.names):,} levels, sorted",
    )
    finish(ax, grid="x")
    if named:
        ax.tick_params(axis="y", length=0)


def _named_levels(ax: Axes, ordered: Effects) -> None:
    rows = np.arange(len(ordered.names))
    ax.hlines(rows, ordered.low, ordered.high, color=MARK, linewidth=1.5)
    ax.plot(ordered.estimate, rows, "o", color=MARK, markersize=4.5)
    ax.set_yticks(rows, told_apart(ordered.names, 24), color=INK, parse_math=False)
    ax.set_ylim(-0.8, len(rows) - 0.2)


def _counted_levels(ax: Axes, ordered: Effects) -> None:
    """Draw the intervals as one comb in the back, the estimates over it."""
    rows = np.arange(1, len(ordered.names) + 1)
    pixels = len(rows) > MANY_POINTS
    width = float(np.clip(240.0 / len(rows), 0.4, 1.6))
    ax.plot(*_comb(ordered, rows), color=BAND, linewidth=width, rasterized=pixels, zorder=1)
    size = float(np.clip(600.0 / len(rows), 1.0, 3.0))
    ax.plot(ordered.estimate, rows, "o", color=MARK, markersize=size, mew=0, rasterized=pixels)
    ax.margins(y=0.01)
    ax.yaxis.set_major_formatter("{x:,.0f}")


def _comb(effects: Effects, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return one broken line that runs along every interval."""
    gap = np.full(len(rows), np.nan)
    x = np.column_stack([effects.low, effects.high, gap]).ravel()
    y = np.column_stack([rows, rows, gap]).ravel()
    return x, y
