"""Residuals against fitted values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, MARK, MUTED, cloud, finish, label, on_axes, plain
from ranef.display.reading import QUANTILE, Fitted, residual_pairs, usual_residuals
from ranef.display.smooth import smooth_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["against_fit", "label_fit", "residuals", "residuals_text"]

Floats = NDArray[np.float64]


def residuals(
    fit: Fitted,
    *,
    kind: str | None = None,
    smooth: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw residuals against fitted values, with a smooth line.

    A line that leaves zero speaks of a missing curve; a cloud that widens, of
    a variance that is not constant.

    Parameters
    ----------
    fit : a fit of ranef
    kind : str, optional
        Kind of residual, see ``fit.residuals``: the response's, in a weighted
        model Pearson's, in a generalised one quantile residuals, which are
        standard normal if the model holds and are drawn against the linear
        predictor.
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
    >>> residuals(fit).get_ylabel()
    'Residual'
    """
    kind = usual_residuals(fit) if kind is None else kind
    fitted, residual = residual_pairs(fit, kind)
    ax = on_axes(ax, figure, 5.4, 4.2)
    against_fit(ax, fitted, residual, 0.0, smooth)
    name = "Residual" if kind == "response" else f"{kind.capitalize()} residual"
    label_fit(ax, fit, kind, "Residuals", name)
    return ax


def against_fit(ax: Axes, fitted: Floats, values: Floats, level: float, smooth: bool) -> None:
    """Draw values against fitted ones, where they should lie, and their smooth line."""
    ax.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.plot(fitted, values, "o", color=MARK, **cloud(len(fitted)))
    if smooth:
        ax.plot(*smooth_line(fitted, values), color=ACCENT, linewidth=2.0)


def label_fit(ax: Axes, fit: Fitted, kind: str, what: str, y: str) -> None:
    """Label and finish a picture of a kind of residual against fitted values."""
    x = f"Fitted {plain(fit.estimate.specification.response)}"
    fitted = "fitted values"
    if kind == QUANTILE:
        x, fitted = "Linear predictor, typical level", "linear predictor"
    label(ax, title=f"{what} against {fitted}", x=x, y=y)
    finish(ax, grid="both")


def residuals_text(fit: Fitted) -> str:
    """Describe the picture: how far residuals reach, and where the line runs."""
    kind = usual_residuals(fit)
    fitted, residual = residual_pairs(fit, kind)
    what = (
        "quantile residuals against the linear predictor"
        if kind == QUANTILE
        else "residuals against fitted values"
    )
    text = (
        f"Scatter plot of {len(residual):,} {what}; residuals run "
        f"from {residual.min():.3g} to {residual.max():.3g}, standard deviation "
        f"{residual.std():.3g}."
    )
    _, line = smooth_line(fitted, residual)
    if len(line) == 0:
        return text
    return f"{text} The smooth line stays between {line.min():.2g} and {line.max():.2g}."
