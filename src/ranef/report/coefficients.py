"""The fixed effects with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.display.canvas import INK, MARK, MUTED, finish, label, on_axes, percent, plain
from ranef.display.reading import Fitted, fixed_effects, is_generalised

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fixed"]


def fixed(
    fit: Fitted,
    *,
    conf_level: float = 0.95,
    intercept: bool = False,
    df: str | None = None,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw the fixed effects and their intervals, the first one on top.

    Parameters
    ----------
    fit : a fit of ranef
    conf_level : float
        Confidence level of the intervals.
    intercept : bool
        Whether to show the intercept, which usually has another scale. It is
        shown when it is the only coefficient.
    df : str, optional
        Method of the degrees of freedom, as in ``fit.tidy``.
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
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> [text.get_text() for text in fixed(fit).get_yticklabels()]
    ['Days']
    """
    shown = fixed_effects(fit, conf_level, intercept=intercept, df=df)
    count = len(shown.names)
    ax = on_axes(ax, figure, 6.4, 1.3 + 0.3 * max(count, 2))
    rows = np.arange(count)
    ax.axvline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(rows, shown.low, shown.high, color=MARK, linewidth=1.8)
    ax.plot(shown.estimate, rows, "o", color=MARK, markersize=5.5)
    ax.set_yticks(rows, [plain(name, 40) for name in shown.names], color=INK, parse_math=False)
    ax.set_ylim(count - 0.4, -0.6)
    scale = f" on the scale of the link ({fit.estimate.family.link})" if is_generalised(fit) else ""
    label(ax, title="Fixed effects", x=f"Estimate{scale}, {percent(conf_level)} interval", y="")
    finish(ax, grid="x")
    ax.tick_params(axis="y", length=0)
    return ax
