"""The two stories as a picture: lines within groups, a line through their means, the pooled one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.display.canvas import (
    ACCENT,
    INK,
    MARK,
    MUTED,
    cloud,
    finish,
    label,
    on_axes,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["stories", "stories_text"]

MOST_LINES = 40
FAINTEST = 0.25


def stories(both: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw the rows, a line within each group, the line between them and the pooled one.

    Parameters
    ----------
    both : TwoStories
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.
    """
    panel = on_axes(ax, figure, 6.4, 4.4)
    pooled_slope, within, between, _ = both.found.estimate
    x, y, codes = both.x, both.y, both.codes
    n = np.bincount(codes)
    mean_x, mean_y = np.bincount(codes, x) / n, np.bincount(codes, y) / n
    dots = cloud(len(x))
    dots["alpha"] = max(dots["alpha"], FAINTEST)
    panel.plot(x, y, "o", color=MUTED, **dots)
    for g in _some(mean_x):
        own = x[codes == g]
        ends = np.array([own.min(), own.max()])
        panel.plot(ends, mean_y[g] + within * (ends - mean_x[g]), color=MARK, linewidth=1.0,
                   alpha=0.75)  # fmt: skip
    panel.plot([], [], color=MARK, linewidth=1.6, label=f"within ({within:.2f})")
    panel.plot(mean_x, mean_y, "o", color=ACCENT, markersize=4.0, markeredgewidth=0.0, alpha=0.8)
    ends = np.array([mean_x.min(), mean_x.max()])
    panel.plot(ends, mean_y.mean() + between * (ends - mean_x.mean()), color=ACCENT,
               linewidth=2.4, label=f"between ({between:.2f})")  # fmt: skip
    ends = np.array([x.min(), x.max()])
    panel.plot(ends, y.mean() + pooled_slope * (ends - x.mean()), color=INK, linewidth=1.4,
               linestyle=(0, (5, 3)), label=f"pooled ({pooled_slope:.2f})")  # fmt: skip
    outcome, predictor, group = map(plain, both.names)
    label(panel, title=f"Within and between {group}", x=predictor, y=outcome)
    finish(panel, grid="both")
    panel.legend(fontsize=8.5, labelcolor=INK, framealpha=0.9, edgecolor="none")
    return panel


def _some(mean_x: Any) -> Any:
    """Groups whose lines are drawn: all, or some spread over the means."""
    order = np.argsort(mean_x, kind="stable")
    if len(order) <= MOST_LINES:
        return order
    return order[np.linspace(0, len(order) - 1, MOST_LINES).round().astype(np.intp)]


def stories_text(both: Any) -> str:
    """Describe the picture."""
    pooled_slope, within, between, _ = both.found.estimate
    outcome, predictor, group = map(plain, both.names)
    across = "The lines within run against the line between." if both.reversed else ""
    return (
        f"Scatter of {outcome} against {predictor}, {len(both.x):,} rows of "
        f"{len(np.bincount(both.codes)):,} {group}. Lines within each have the slope {within:.3g}, "
        f"the line through the means {between:.3g}, the dashed pooled one {pooled_slope:.3g}. "
        f"{across}"
    ).strip()
