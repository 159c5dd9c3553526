"""The rows or groups that move a fit most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import (
    ACCENT,
    INK,
    MARK,
    MUTED,
    finish,
    label,
    one_or_all,
    panels,
    told_apart,
)
from ranef.errors import ModelError, suggestion
from ranef.formula.labels import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["influence", "influence_text"]

Floats = NDArray[np.float64]

TITLES = {
    "cook": "Cook's distance",
    "covratio": "Covariance ratio",
    "displacement": "Likelihood displacement",
    "dfbetas": "DFBETAS",
    "variance": "Relative change of the standard deviation",
}
CENTRES = {"covratio": 1.0}


def influence(
    left_out: Any,
    statistic: str = "cook",
    *,
    term: str | None = None,
    most: int = 25,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw an influence statistic of the rows or groups for which it is largest.

    Parameters
    ----------
    left_out : Influence
    statistic : {"cook", "covratio", "displacement", "dfbetas", "variance"}
        The last two in one panel a coefficient or standard deviation.
    term : str, optional
        Only this coefficient or standard deviation.
    most : int
        How many rows or groups to show.
    ax : matplotlib Axes, optional
        Where to draw when there is one panel.
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes, or an array of them when there are several panels

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> len(influence(ranef.influence(fit), "dfbetas"))
    2
    """
    columns = _columns(left_out, statistic, term)
    rows = min(most, len(left_out.labels))
    height = 1.4 + 0.17 * max(rows, 6)
    axes = panels(list(columns), ax, figure, single=(6.0, height), height=height)
    for panel, (title, values) in zip(axes, columns.items(), strict=True):
        several = statistic in ("dfbetas", "variance")
        across = TITLES[statistic] if several else "Value"
        _dots(panel, title, across, values, left_out.labels, most, CENTRES.get(statistic, 0.0))
    return one_or_all(axes)


def influence_text(left_out: Any) -> str:
    """Describe the picture of Cook's distances."""
    cook = left_out.cook
    largest = int(np.argmax(np.where(np.isfinite(cook), cook, -np.inf)))
    return (
        f"Cook's distance of {len(cook):,} levels of {left_out.by}, each left out in turn: the "
        f"largest is {cook[largest]:.2g} ({left_out.labels[largest]}), the median "
        f"{np.nanmedian(cook):.2g}."
    )


def _columns(left_out: Any, statistic: str, term: str | None) -> dict[str, Floats]:
    """Return title and values of each panel."""
    if statistic not in TITLES:
        raise ModelError(
            f"statistic={statistic!r} is not known{suggestion(statistic, TITLES)}; use one of "
            f"{', '.join(map(repr, TITLES))}"
        )
    deletions = left_out.found
    if statistic not in ("dfbetas", "variance"):
        values = np.asarray(getattr(deletions, statistic))
        return {f"{TITLES[statistic]}, without each {left_out.by}": values}
    names = left_out.terms if statistic == "dfbetas" else left_out.deviations
    table = deletions.dfbetas if statistic == "dfbetas" else deletions.sd
    term = None if term is None else spelled(term, names)
    if term is not None and term not in names:
        raise ModelError(
            f"no {TITLES[statistic]} of {term!r}{suggestion(term, names)}; there are "
            f"{', '.join(map(repr, names))}"
        )
    titles = told_apart(names, 28)
    return {titles[j]: table[:, j] for j, name in enumerate(names) if term in (None, name)}


def _dots(
    ax: Axes,
    title: str,
    across: str,
    values: Floats,
    labels: Sequence[Any],
    most: int,
    centre: float,
) -> None:
    """Draw the largest from the top, as dots on stems from the neutral value."""
    size = np.abs(np.nan_to_num(values, nan=centre) - centre)
    order = np.argsort(-size, kind="stable")[:most]
    order = order[np.isfinite(values[order])]
    rows = np.arange(len(order))
    x = values[order]
    ax.axvline(centre, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    apart = _apart(size, order)
    for some, colour, marker in ((~apart, MARK, "o"), (apart, ACCENT, "D")):
        ax.hlines(rows[some], centre, x[some], color=colour, linewidth=1.5)
        ax.plot(x[some], rows[some], marker, color=colour, markersize=5.0, linestyle="none")
    names = told_apart([labels[i] for i in order], 24)
    ax.set_yticks(rows, names, color=INK, parse_math=False)
    ax.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    hidden = int(np.isfinite(values).sum()) - len(order)
    more = f"the {len(order)} largest of {hidden + len(order):,}" if hidden else "all shown"
    label(ax, title=title, x=f"{across} ({more})", y="")
    finish(ax, grid="x")
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="y", length=0)


def _apart(size: Floats, order: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Those more than three times the upper quartile: they stand apart from the others."""
    usual = 3.0 * float(np.quantile(size, 0.75)) if len(size) else 0.0
    return np.asarray((size[order] > usual) & (len(size) > 4) & (usual > 0))
