"""The size of residuals against fitted values: does the spread stay the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranef.display.canvas import ACCENT, MARK, MUTED, cloud, finish, label, on_axes, plain
from ranef.display.reading import QUANTILE, Fitted, residual_pairs, standardised_residuals
from ranef.display.smooth import smooth_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["scale_location"]

EXPECTED = 0.8222
"""Mean of the root of |z| for a standard normal z."""


def scale_location(
    fit: Fitted,
    *,
    kind: str | None = None,
    smooth: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw the root of the absolute standardised residuals against fitted values.

    The smooth line stays level where the variance is what the model says; the dashed
    line is where it lies for normal residuals.

    Parameters
    ----------
    fit : a fit of ranef
    kind : str, optional
        Kind of residual: Pearson's, in a generalised model quantile residuals.
    smooth : bool
        Whether to draw the line.
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
    >>> scale_location(fit).get_title(loc="left")
    'Size of residuals against fitted values'
    """
    kind = standardised_residuals(fit) if kind is None else kind
    fitted, residual = residual_pairs(fit, kind)
    spread = float(residual.std()) or 1.0
    size = np.sqrt(np.abs(residual / spread))
    ax = on_axes(ax, figure, 5.4, 4.2)
    ax.axhline(EXPECTED, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.plot(fitted, size, "o", color=MARK, **cloud(len(fitted)))
    if smooth:
        ax.plot(*smooth_line(fitted, size), color=ACCENT, linewidth=2.0)
    response = plain(fit.estimate.specification.response)
    across = "Linear predictor, typical level" if kind == QUANTILE else f"Fitted {response}"
    title = "linear predictor" if kind == QUANTILE else "fitted values"
    label(ax, title=f"Size of residuals against {title}", x=across, y="Root of |standardised|")
    finish(ax, grid="both")
    return ax
