"""The size of residuals against fitted values: does the spread stay the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import on_axes
from ranef.display.reading import Fitted, residual_pairs, standardised_residuals
from ranef.display.smooth import smooth_line
from ranef.questions.checks.residual_picture import against_fit, label_fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["scale_location", "scale_location_text"]

Floats = NDArray[np.float64]

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
    fitted, size = _sizes(fit, kind)
    ax = on_axes(ax, figure, 5.4, 4.2)
    against_fit(ax, fitted, size, EXPECTED, smooth)
    label_fit(ax, fit, kind, "Size of residuals", "Root of |standardised|")
    return ax


def scale_location_text(fit: Fitted) -> str:
    """Describe the picture: where the line runs."""
    fitted, size = _sizes(fit, standardised_residuals(fit))
    text = f"Scatter plot of the root of the size of {len(size):,} standardised residuals"
    _, line = smooth_line(fitted, size)
    if len(line) == 0:
        return f"{text}."
    return (
        f"{text}; the smooth line, level at {EXPECTED:.2f} for a constant variance, stays between "
        f"{line.min():.2f} and {line.max():.2f}."
    )


def _sizes(fit: Fitted, kind: str) -> tuple[Floats, Floats]:
    """Fitted values, and the roots of the absolute standardised residuals."""
    fitted, residual = residual_pairs(fit, kind)
    return fitted, np.sqrt(np.abs(residual / (float(residual.std()) or 1.0)))
