"""The rows or groups that move a fit most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, INK, MARK, MUTED, finish, label, panels, plain
from ranef.errors import ModelError, suggestion
from ranef.formula.labels import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LeftOut", "influence"]

Floats = NDArray[np.float64]

TITLES = {
    "cook": "Cook's distance",
    "covratio": "Covariance ratio",
    "displacement": "Likelihood displacement",
    "dfbetas": "DFBETAS",
    "variance": "Relative change of the standard deviation",
}
CENTRES = {"covratio": 1.0}


class LeftOut(Protocol):
    """What the picture reads of an influence analysis."""

    @property
    def found(self) -> Any: ...
    @property
    def labels(self) -> tuple[Any, ...]: ...
    @property
    def by(self) -> str: ...
    @property
    def terms(self) -> tuple[str, ...]: ...
    @property
    def deviations(self) -> tuple[str, ...]: ...


def influence(
    left_out: LeftOut,
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
    shown = min(most, len(left_out.labels))
    height = 1.4 + 0.17 * max(shown, 6)
    axes = panels(list(columns), ax, figure, single=(6.0, height), height=height)
    for panel, (title, values) in zip(axes, columns.items(), strict=True):
        several = statistic in ("dfbetas", "variance")
        across = TITLES[statistic] if several else "Value"
        _dots(panel, title, across, values, left_out, most, CENTRES.get(statistic, 0.0))
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def _columns(left_out: LeftOut, statistic: str, term: str | None) -> dict[str, Floats]:
    """Return title and values of each panel."""
    if statistic not in TITLES:
        raise ModelError(
            f"statistic={statistic!r} is not known{suggestion(statistic, TITLES)}; use one of "
            f"{', '.join(map(repr, TITLES))}"
        )
    who = "row" if left_out.by == "row" else f"each {left_out.by}"
    who = f"each {who}" if who == "row" else who
    if statistic not in ("dfbetas", "variance"):
        values = np.asarray(getattr(left_out.found, statistic))
        return {f"{TITLES[statistic]}, without {who}": values}
    names = left_out.terms if statistic == "dfbetas" else left_out.deviations
    table = left_out.found.dfbetas if statistic == "dfbetas" else left_out.found.sd
    term = None if term is None else spelled(term, names)
    if term is not None and term not in names:
        raise ModelError(
            f"no {TITLES[statistic]} of {term!r}{suggestion(term, names)}; there are "
            f"{', '.join(map(repr, names))}"
        )
    return {plain(name, 28): table[:, j] for j, name in enumerate(names) if term in (None, name)}


def _dots(
    ax: Axes,
    title: str,
    across: str,
    values: Floats,
    left_out: LeftOut,
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
    for own, colour in ((~apart, MARK), (apart, ACCENT)):
        ax.hlines(rows[own], centre, x[own], color=colour, linewidth=1.5)
        marker = "o" if colour == MARK else "D"
        ax.plot(x[own], rows[own], marker, color=colour, markersize=5.0, linestyle="none")
    names = [plain(left_out.labels[i], 24) for i in order]
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
