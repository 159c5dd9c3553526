"""Ranks and ratios of levels with their uncertainty: league tables, funnels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

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
    on_axes,
    percent,
    plain,
)
from ranef.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["funnel", "league", "ranks"]

Floats = NDArray[np.float64]

NAMED_LEVELS = 60


class Ranked(Protocol):
    """The part of a ranking that its picture reads."""

    @property
    def conf_level(self) -> float: ...

    @property
    def order(self) -> str: ...

    @property
    def statistic(self) -> str: ...

    def tidy(self) -> Any: ...


class Standardised(Protocol):
    """The part of standardised ratios that their picture reads."""

    @property
    def conf_level(self) -> float: ...

    def tidy(self) -> Any: ...


class Limited(Protocol):
    """The part of a funnel that its picture reads."""

    @property
    def found(self) -> Any: ...

    def tidy(self) -> Any: ...

    def limits(self) -> Any: ...


def _rows(names: list[str], ax: Axes | None, figure: Figure | None, width: float) -> Axes:
    named = len(names) <= NAMED_LEVELS
    height = 1.5 + 0.2 * max(len(names), 6) if named else 5.6
    ax = on_axes(ax, figure, width, height)
    at = np.arange(1, len(names) + 1)
    if named:
        ax.set_yticks(at, [plain(name, 24) for name in names], color=INK, parse_math=False)
    ax.set_ylim(len(names) + 0.8, 0.2)
    return ax


def _style(count: int) -> tuple[float, float]:
    """Line width and marker size for so many rows."""
    if count <= NAMED_LEVELS:
        return 1.6, 4.8
    return float(np.clip(240.0 / count, 0.4, 1.6)), float(np.clip(600.0 / count, 1.0, 3.0))


def ranks(ranking: Ranked, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw expected ranks with their intervals, rank 1 on top.

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
    table = Table.of(ranking.tidy())
    expected = table.numeric("expected_rank")
    by = np.argsort(expected, kind="stable")
    names = [str(table.values("level")[i]) for i in by]
    ax = _rows(names, ax, figure, 6.4)
    at, (width, size) = np.arange(1, len(by) + 1), _style(len(by))
    low, high = table.numeric("rank_low")[by], table.numeric("rank_high")[by]
    ax.hlines(at, low, high, color=MARK, linewidth=width)
    ax.plot(expected[by], at, "o", color=MARK, markersize=size)
    end = "smallest" if ranking.order == "ascending" else "largest"
    group = plain(table.values("group")[0])
    label(
        ax,
        title=f"{group}: expected ranks by {plain(ranking.statistic)}",
        x=f"Rank among {len(by):,} (1 is the {end}), {percent(ranking.conf_level)} interval",
        y="" if len(by) <= NAMED_LEVELS else f"{len(by):,} levels, by expected rank",
    )
    ax.set_xlim(0.3, len(by) + 0.7)
    ax.locator_params(axis="x", integer=True)
    finish(ax, grid="x")
    if len(by) <= NAMED_LEVELS:
        ax.tick_params(axis="y", length=0)
    return ax


def league(ratios: Standardised, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
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
    table = Table.of(ratios.tidy())
    value = table.numeric("shrunken")
    by = np.argsort(-value, kind="stable")
    names = [str(table.values("level")[i]) for i in by]
    ax = _rows(names, ax, figure, 6.8)
    at, (width, size) = np.arange(1, len(by) + 1), _style(len(by))
    ax.axvline(1.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    low, high = table.numeric("conf_low")[by], table.numeric("conf_high")[by]
    ax.hlines(at, low, high, color=MARK, linewidth=width)
    ax.plot(
        table.numeric("ratio")[by], at, "o", mfc="white", mec=ACCENT, mew=1.1,
        markersize=size, label="raw: observed / expected",
    )  # fmt: skip
    ax.plot(value[by], at, "o", color=MARK, markersize=size, label="shrunken, with interval")
    label(
        ax,
        title=f"{plain(table.values('group')[0])}: standardised ratios",
        x=f"Ratio to the expected, {percent(ratios.conf_level)} interval",
        y="" if len(by) <= NAMED_LEVELS else f"{len(by):,} levels, sorted",
    )
    finish(ax, grid="x")
    if len(by) <= NAMED_LEVELS:
        ax.tick_params(axis="y", length=0)
    _legend(ax)
    return ax


def funnel(limited: Limited, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
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
    expected, ratio = table.numeric("expected"), table.numeric("ratio")
    ax = on_axes(ax, figure, 6.8, 4.8)
    ax.axhline(limited.found.target, color=MUTED, linewidth=1.0)
    at = curve.numeric("expected")
    styles = [(0, (4, 2)), "solid", (0, (1, 1))]
    for k, level in enumerate(limited.found.levels):
        name = f"{100 * level:g}"
        for side in ("low", "high"):
            ax.plot(
                at, curve.numeric(f"{side}_{name}"), color=INK, linewidth=1.0,
                linestyle=styles[k % 3], label=f"{name}% limits" if side == "low" else None,
            )  # fmt: skip
    first = f"{100 * limited.found.levels[0]:g}"
    low, high = curve.numeric(f"low_{first}"), curve.numeric(f"high_{first}")
    ax.fill_between(at, low, high, color=BAND, alpha=0.55, lw=0, zorder=0.5)
    status = [str(s) for s in table.values("status")]
    outside = np.array([s != "inside" for s in status])
    ax.plot(expected[~outside], ratio[~outside], "o", color=MARK, markersize=5, label="inside")
    ax.plot(expected[outside], ratio[outside], "D", color=ACCENT, markersize=5.5, label="outside")
    _name_outside(ax, table, expected, ratio, outside)
    if expected.max() > 20 * expected.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    top = max(float(ratio.max()) * 1.12, 2.0 * float(limited.found.target))
    ax.set_ylim(0.0, top)
    group = plain(table.values("group")[0])
    label(ax, title=f"{group}: funnel of standardised ratios", x="Expected count",
          y="Observed / expected")  # fmt: skip
    finish(ax, grid="y")
    _legend(ax)
    return ax


def _legend(ax: Axes) -> None:
    """Put the legend half an inch below the panel, where it covers no level."""
    inches = ax.get_position().height * ax.get_figure(root=True).get_figheight()  # type: ignore[union-attr]
    ax.legend(
        loc="upper left", bbox_to_anchor=(0.0, -0.55 / inches), ncols=4, frameon=False,
        fontsize=8.5, labelcolor=INK, borderaxespad=0.0, handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip


def _name_outside(
    ax: Axes, table: Table, expected: Floats, ratio: Floats, outside: NDArray[np.bool_]
) -> None:
    levels = table.values("level")
    for i in np.flatnonzero(outside)[:40]:
        ax.annotate(
            plain(levels[i], 16),
            (expected[i], ratio[i]),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            parse_math=False,
        )
