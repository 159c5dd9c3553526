"""Ranks and ratios of levels with their uncertainty: league tables, funnels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import (
    ACCENT,
    BAND,
    INK,
    MARK,
    MUTED,
    finish,
    label,
    name_points,
    on_axes,
    percent,
    plain,
    room_for,
    told_apart,
)
from ranef.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["funnel", "funnel_text", "league", "league_text", "ranks", "ranks_text"]

Floats = NDArray[np.float64]

NAMED_LEVELS, MOST_NAMED, MOST_LISTED = 60, 40, 12
DASHES: tuple[Any, ...] = ((0, (4, 2)), "solid", (0, (1, 1)))


def ranks(ranking: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw expected ranks with their intervals, the largest value on top as in the other pictures.

    Parameters
    ----------
    ranking : Ranking
        What `ranef.rank` gives.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> ranks(ranef.rank(fit)).get_title(loc="left")
    'Batch: expected ranks by (Intercept)'
    """
    table = Table.of(ranking.tidy(sort=True))
    down = slice(None, None, -1 if ranking.order == "ascending" else 1)
    expected, levels = table.numeric("expected_rank")[down], table.values("level")[down]
    low, high = table.numeric("rank_low")[down], table.numeric("rank_high")[down]
    ax, at, width, size = _rows(levels, ax, figure, 6.4)
    ax.hlines(at, low, high, color=MARK, linewidth=width)
    ax.plot(expected, at, "o", color=MARK, markersize=size)
    end = "smallest" if ranking.order == "ascending" else "largest"
    title = f"{plain(table.values('group')[0])}: expected ranks by {plain(ranking.statistic)}"
    reach = f"{percent(ranking.conf_level)} interval"
    across = f"Rank among {len(at):,} (1 is the {end}), {reach}"
    ax.set_xlim(0.3, len(at) + 0.7)
    ax.locator_params(axis="x", integer=True)
    return _labelled(ax, title, across, len(at), "by expected rank")


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


def league(ratios: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw standardised ratios, shrunken with intervals and raw, the largest on top.

    Parameters
    ----------
    ratios : StandardizedRatios
        What `ranef.standardized_ratios` gives.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> league(ranef.standardized_ratios(fit)).get_title(loc="left")
    'herd: standardised ratios'
    """
    table = Table.of(ratios.tidy(sort=True))
    low, high = table.numeric("conf_low"), table.numeric("conf_high")
    ax, at, width, size = _rows(table.values("level"), ax, figure, 6.8)
    ax.axvline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(at, low, high, color=MARK, linewidth=width)
    ax.plot(
        table.numeric("ratio"), at, "o", mfc="white", mec=ACCENT, mew=1.1,
        markersize=size, label="raw: observed / expected",
    )  # fmt: skip
    shrunken = table.numeric("shrunken")
    ax.plot(shrunken, at, "o", color=MARK, markersize=size, label="shrunken, with interval")
    title = f"{plain(table.values('group')[0])}: standardised ratios"
    across = f"Ratio to the expected, {percent(ratios.conf_level)} interval"
    _labelled(ax, title, across, len(at), "sorted")
    _legend(ax)
    return ax


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


def funnel(limited: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw ratios against expected counts, with the control limits around the target.

    Levels outside are named. The axis of expected counts is logarithmic where they
    range over more than a factor of twenty.

    Parameters
    ----------
    limited : ControlLimits
        What `StandardizedRatios.funnel` gives.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> funnel(ranef.standardized_ratios(fit).funnel()).get_xlabel()
    'Expected count'
    """
    table, curve = Table.of(limited.tidy()), Table.of(limited.limits())
    target, levels = limited.found.target, limited.found.levels
    expected, ratio = table.numeric("expected"), table.numeric("ratio")
    ax = on_axes(ax, figure, 6.8, 4.8)
    ax.axhline(target, color=MUTED, linewidth=1.0)
    at = curve.numeric("expected")
    for k, level in enumerate(levels):
        low, high = (curve.numeric(f"{side}_{100 * level:g}") for side in ("low", "high"))
        if k == 0:
            ax.fill_between(at, low, high, color=BAND, alpha=0.55, lw=0, zorder=0.5)
        words = f"{100 * level:g}% limits"
        ax.plot(at, low, color=INK, linewidth=1.0, linestyle=DASHES[k % 3], label=words)
        ax.plot(at, high, color=INK, linewidth=1.0, linestyle=DASHES[k % 3])
    outside = np.array([str(status) != "inside" for status in table.values("status")])
    ax.plot(expected[~outside], ratio[~outside], "o", color=MARK, markersize=5, label="inside")
    ax.plot(expected[outside], ratio[outside], "D", color=ACCENT, markersize=5.5, label="outside")
    if expected.max() > 20 * expected.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylim(0.0, max(float(ratio.max()) * 1.12, 2.0 * float(target)))
    title = f"{plain(table.values('group')[0])}: funnel of standardised ratios"
    label(ax, title=title, x="Expected count", y="Observed / expected")
    finish(ax, grid="y")
    _legend(ax)
    far = np.flatnonzero(outside)[np.argsort(-np.abs(ratio - target)[outside], kind="stable")]
    named = far[:MOST_NAMED]
    name_points(ax, table.values("level")[named], expected[named], ratio[named], width=16)
    return ax


def funnel_text(limited: Any) -> str:
    """Describe a funnel plot."""
    table = Table.of(limited.tidy())
    status, levels = table.values("status"), table.values("level")
    outside = [str(level) for level, s in zip(levels, status, strict=True) if str(s) != "inside"]
    named = ", ".join(outside[:MOST_LISTED]) + (" ..." if len(outside) > MOST_LISTED else "")
    return (
        f"Funnel plot of observed over expected counts of {len(levels):,} levels of "
        f"{table.values('group')[0]} against the expected count: {len(outside):,} outside the "
        f"{100 * limited.found.levels[0]:g}% limits{f' ({named})' if outside else ''}."
    )


def _rows(
    levels: NDArray[Any], ax: Axes | None, figure: Figure | None, width: float
) -> tuple[Axes, NDArray[np.int_], float, float]:
    """Axes with a row a level, the first on top; the rows, line width and marker size."""
    count = len(levels)
    named = count <= NAMED_LEVELS
    height = 1.5 + 0.2 * max(count, 6) if named else 5.6
    names = told_apart(levels, 24) if named else []
    ax = on_axes(ax, figure, width + room_for(names), height)
    at = np.arange(1, count + 1)
    ax.set_ylim(count + 0.8, 0.2)
    if not named:
        line, size = np.clip(240.0 / count, 0.4, 1.6), np.clip(600.0 / count, 1.0, 3.0)
        return ax, at, float(line), float(size)
    ax.set_yticks(at, names, color=INK, parse_math=False)
    return ax, at, 1.6, 4.8


def _labelled(ax: Axes, title: str, across: str, count: int, order: str) -> Axes:
    """Label and finish a picture with a row a level."""
    named = count <= NAMED_LEVELS
    label(ax, title=title, x=across, y="" if named else f"{count:,} levels, {order}")
    finish(ax, grid="x")
    if named:
        ax.tick_params(axis="y", length=0)
    return ax


def _legend(ax: Axes) -> None:
    """Put the legend half an inch below the panel, where it covers no level."""
    inches = ax.get_position().height * ax.get_figure(root=True).get_figheight()  # type: ignore[union-attr]
    ax.legend(
        loc="upper left", bbox_to_anchor=(0.0, -0.55 / inches), ncols=4, frameon=False,
        fontsize=8.5, labelcolor=INK, borderaxespad=0.0, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip
