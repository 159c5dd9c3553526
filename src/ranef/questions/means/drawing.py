"""Marginal means: intervals with comparison arrows, and lines along one predictor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
    one_or_all,
    panels,
    plain,
    room_for,
    told_apart,
    unquoted,
)
from ranef.display.characters import visible
from ranef.inference.coefficients.wald import Intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MeansPanel", "TracesPanel", "draw_means", "draw_traces"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

COLOURS = ("#0072b2", "#c44601", "#00735c", "#8f3f71", "#6b5b00", "#4d5b68")
"""Okabe and Ito's hues, darkened to a contrast of at least 4.5:1 on white."""
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True, eq=False)
class MeansPanel:
    """What one panel of means shows.

    Attributes
    ----------
    title : str
    names : tuple of str
    estimate, low, high : (k,) float64 arrays
    left, right : (k,) float64 arrays or None
        Ends of comparison arrows, on the axis.
    null : float or None
        Where there is no difference: a line.
    """

    title: str
    names: tuple[str, ...]
    estimate: Floats
    low: Floats
    high: Floats
    left: Floats | None = None
    right: Floats | None = None
    null: float | None = None

    @classmethod
    def of(
        cls, title: str, names: Sequence[str], intervals: Intervals, rows: Ints, **marks: Any
    ) -> MeansPanel:
        """Show some rows of a table of intervals."""
        low, high = intervals.conf_low[rows], intervals.conf_high[rows]
        texts = tuple(names[i] for i in rows)
        return cls(title, texts, intervals.estimate[rows], low, high, **marks)


@dataclass(frozen=True, eq=False)
class TracesPanel:
    """What one panel of an interaction shows.

    Attributes
    ----------
    title : str
    x : tuple of str
        Names of the places along the axis.
    position : (k,) float64 array
        Where they are.
    traces : tuple of str
        Names of the lines.
    estimate, low, high : (k, t) float64 arrays
    """

    title: str
    x: tuple[str, ...]
    position: Floats
    traces: tuple[str, ...]
    estimate: Floats
    low: Floats
    high: Floats


def draw_means(
    content: Sequence[MeansPanel],
    quantity: str,
    names: str = "",
    note: str = "",
    *,
    intervals: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw a row for each mean, the first on top; bars are intervals, arrows comparisons."""
    count = max(len(panel.names) for panel in content)
    height = 1.5 + 0.36 * max(count, 2)
    titles = [panel.title for panel in content]
    room = max(room_for(told_apart(panel.names)) for panel in content)
    columns = 3 if not room else 2 if room < 0.7 else 1
    axes = panels(titles, ax, figure, single=(6.4 + room, height), height=height, columns=columns)
    for place, panel in zip(axes, content, strict=True):
        _means(place, panel, intervals)
        label(place, title=panel.title, x=quantity, y=names)
        finish(place, grid="x")
        place.tick_params(axis="y", length=0)
    _same_reach(axes)
    if note and len(axes) == 1:
        axes[0].set_xlabel(
            visible(unquoted(f"{quantity}\n{note}"), lines=True),
            fontsize=9,
            color=MUTED,
            parse_math=False,
        )
    elif note:
        axes[0].figure.supxlabel(
            visible(unquoted(note), lines=True), fontsize=9, color=MUTED, parse_math=False
        )
    return one_or_all(axes)


def _same_reach(axes: list[Axes]) -> None:
    """Let all panels run over the same values."""
    ends = np.array([place.get_xlim() for place in axes])
    for place in axes:
        place.set_xlim(ends[:, 0].min(), ends[:, 1].max())


def _row_names(names: Sequence[str]) -> list[str]:
    """Cut the names of means, and of comparisons each side by itself.

    Examples
    --------
    >>> _row_names(["a very long name of a treatment - another long name", "b - a"])
    ['a very long name of… - another long name', 'b - a']
    """
    sides = [re.split(r" ([-/\u2212]) ", str(name)) for name in names]
    if max(map(len, names), default=0) <= 32 or any(len(side) != 3 for side in sides):
        return told_apart(names, 32)
    left, right = told_apart([s[0] for s in sides], 20), told_apart([s[2] for s in sides], 20)
    return [f"{a} {side[1]} {b}" for a, side, b in zip(left, sides, right, strict=True)]


def _means(ax: Axes, panel: MeansPanel, intervals: bool) -> None:
    rows = np.arange(len(panel.names), dtype=np.float64)
    if panel.null is not None:
        ax.axvline(panel.null, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    if intervals:
        ax.hlines(rows, panel.low, panel.high, color=BAND, linewidth=9, zorder=1)
    if panel.left is not None and panel.right is not None:
        for ends in (panel.left, panel.right):
            for row, start, end in zip(rows, panel.estimate, ends, strict=True):
                if np.isfinite(end) and end != start:
                    _arrow(ax, row, start, end)
    ax.plot(panel.estimate, rows, "o", color=MARK, markersize=6.5, zorder=4)
    ax.set_yticks(rows, _row_names(panel.names), color=INK, parse_math=False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    arrows = [e for e in (panel.left, panel.right) if e is not None]
    values = np.concatenate([panel.low, panel.high, panel.estimate, *arrows])
    values = np.append(values[np.isfinite(values)], [] if panel.null is None else [panel.null])
    if len(values):
        reach = float(np.ptp(values)) or abs(float(values[0])) or 1.0
        ax.set_xlim(values.min() - 0.05 * reach, values.max() + 0.05 * reach)


def _arrow(ax: Axes, row: float, start: float, end: float) -> None:
    ax.annotate(
        "",
        xy=(end, row),
        xytext=(start, row),
        arrowprops={
            "arrowstyle": "-|>",
            "color": ACCENT,
            "linewidth": 1.6,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 9,
        },
        zorder=3,
    )


def draw_traces(
    content: Sequence[TracesPanel],
    quantity: str,
    x: str,
    trace: str,
    *,
    intervals: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw lines along one predictor, a line for each level of another."""
    titles = [panel.title for panel in content]
    axes = panels(titles, ax, figure, single=(6.4, 4.2), height=4.0)
    for place, panel in zip(axes, content, strict=True):
        _traces(place, panel, intervals)
        label(place, title=panel.title, x=x, y=quantity)
        finish(place, grid="y")
    if trace:
        axes[-1].legend(
            title=plain(trace), fontsize=8.5, title_fontsize=9, frameon=False, labelcolor=INK,
            loc="upper left", bbox_to_anchor=(1.0, 1.0),
        )  # fmt: skip
    return one_or_all(axes)


def _traces(ax: Axes, panel: TracesPanel, intervals: bool) -> None:
    count = len(panel.traces)
    space = float(np.min(np.diff(np.sort(panel.position)))) if len(panel.position) > 1 else 1.0
    shift = 0.05 * space * (np.arange(count) - (count - 1) / 2)
    for t, name in enumerate(panel.traces):
        place = panel.position + shift[t]
        colour = COLOURS[t % len(COLOURS)]
        if intervals:
            ax.vlines(
                place, panel.low[:, t], panel.high[:, t], color=colour, linewidth=1.6, alpha=0.55
            )
        ax.plot(
            place,
            panel.estimate[:, t],
            marker=MARKERS[t % len(MARKERS)],
            linestyle=LINES[t % len(LINES)],
            color=colour,
            linewidth=1.6,
            markersize=6,
            label=plain(name),
        )
    ax.set_xticks(panel.position, told_apart(panel.x, 20), parse_math=False)
