"""Average effects with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import INK, MARK, MUTED, finish, label, on_axes, percent, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["average_effect"]

Floats = NDArray[np.float64]


def average_effect(
    names: Sequence[str],
    estimate: Floats,
    low: Floats,
    high: Floats,
    *,
    null: float,
    title: str,
    across: str,
    conf_level: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw comparisons as points with intervals, beside the line of no effect.

    Parameters
    ----------
    names : sequence of str
    estimate, low, high : (C,) float64 arrays
    null : float
        What stands for no effect.
    title, across : str
        Title, and label of the horizontal axis.
    conf_level : float
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = on_axes(ax, None, 6.4, 1.5 + 0.34 * len(names))
    rows = np.arange(len(names))[::-1]
    ax.axvline(null, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(rows, low, high, color=MARK, linewidth=2.0)
    ax.plot(estimate, rows, "o", color=MARK, markersize=6)
    ax.set_yticks(rows, [plain(name, 40) for name in names], color=INK, parse_math=False)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    label(ax, title=plain(title, 70), x=f"{across}, {percent(conf_level)} interval", y="")
    finish(ax, grid="x")
    ax.tick_params(axis="y", length=0)
    return ax
