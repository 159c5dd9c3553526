"""Residuals against fitted values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef.display.canvas import ACCENT, MARK, MUTED, cloud, finish, label, on_axes, plain
from ranef.display.reading import QUANTILE, Fitted, residual_pairs, usual_residuals
from ranef.display.smooth import smooth_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["residuals"]


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
    ax.axhline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.plot(fitted, residual, "o", color=MARK, **cloud(len(fitted)))
    if smooth:
        ax.plot(*smooth_line(fitted, residual), color=ACCENT, linewidth=2.0)
    response = plain(fit.estimate.specification.response)
    across = "Linear predictor, typical level" if kind == QUANTILE else f"Fitted {response}"
    name = "Residual" if kind == "response" else f"{kind.capitalize()} residual"
    title = "linear predictor" if kind == QUANTILE else "fitted values"
    label(ax, title=f"Residuals against {title}", x=across, y=name)
    finish(ax, grid="both")
    return ax
