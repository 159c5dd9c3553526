"""What the pictures of marginal means show, from the means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families.links import LINKS
from ranef.formula.labels import shown_level
from ranef.questions.means.arrows import comparison_arrows
from ranef.questions.means.contrasting import contrasts_of
from ranef.questions.means.drawing import MeansPanel, TracesPanel, draw_means, draw_traces
from ranef.questions.means.table import ContrastTable, MeansTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "draw_contrasts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def draw(
    means: MeansTable,
    kind: str,
    x: str | None,
    trace: str | None,
    arrows: bool,
    alpha: float,
    adjust: str | None,
    intervals: bool,
    ax: Axes | None,
    figure: Figure | None,
) -> Any:
    """Draw means with arrows, or lines; see `MarginalMeans.plot`."""
    if kind == "interaction":
        axes = _interaction(means, x, trace, intervals, ax, figure)
    else:
        if x is not None or trace is not None:
            raise ModelError("x= and trace= are for kind='interaction'")
        axes = _means(means, arrows, alpha, adjust, intervals, ax, figure)
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def draw_contrasts(contrasts: ContrastTable, ax: Axes | None, figure: Figure | None) -> Any:
    """Draw contrasts with their intervals and a line at no difference; see `Contrasts.plot`."""
    found, by = contrasts.intervals, contrasts.by
    own = [values for name, values in contrasts.columns.items() if name not in by]
    names = [", ".join(shown_level(v) for v in row) for row in zip(*own, strict=True)]
    null = 0.0 if contrasts.link == "identity" else 1.0
    shown = [
        MeansPanel(
            ", ".join(f"{n}: {shown_level(contrasts.columns[n][rows[0]])}" for n in by)
            or "Contrasts",
            tuple(names[i] for i in rows),
            found.estimate[rows],
            found.conf_low[rows],
            found.conf_high[rows],
            null=null,
        )
        for rows in contrasts.families
    ]
    first = contrasts.quantity[0].upper() + contrasts.quantity[1:]
    across = f"{first}: {contrasts.means.quantity}, {100 * contrasts.conf_level:g}% intervals"
    axes = draw_means(shown, across, "", "interval", "", ax, figure)
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def _title(means: MeansTable, by: tuple[str, ...], row: int, alone: str) -> str:
    if not by:
        return alone
    return ", ".join(f"{name}: {shown_level(means.cells[name][row])}" for name in by)


def _quantity(means: MeansTable, intervals: bool) -> str:
    first = means.quantity[0].upper() + means.quantity[1:]
    return f"{first}, {100 * means.conf_level:g}% intervals" if intervals else first


def _means(
    means: MeansTable,
    arrows: bool,
    alpha: float,
    adjust: str | None,
    intervals: bool,
    ax: Axes | None,
    figure: Figure | None,
) -> Any:
    if not 0.0 < alpha < 1.0:
        raise ModelError(f"alpha must lie between 0 and 1, not {alpha!r}")
    rest, families = means.regrouped(means.by)
    found, names, axis = means.intervals, means.labels(rest), ""
    if len(rest) == 1:
        names, axis = [shown_level(v) for v in means.cells[rest[0]]], rest[0]
    arrows = arrows and len(families[0]) > 1
    critical = _critical(means, alpha, adjust) if arrows else {}
    shown, wrong = [], 0
    for f, own in enumerate(families):
        left = right = None
        if arrows:
            left, right, missed = _ends(means, own, critical[f])
            wrong += missed
        panel = MeansPanel(
            _title(means, means.by, int(own[0]), "Slopes" if means.slopes else "Marginal means"),
            tuple(names[i] for i in own),
            found.estimate[own],
            found.conf_low[own],
            found.conf_high[own],
            left,
            right,
        )
        shown.append(panel)
    note = ""
    if arrows:
        note = f"Arrows that do not overlap: different at the {100 * alpha:g}% level"
        if wrong:
            note += f"\n(except for {wrong} of the pairs, which no arrows can show; see contrasts)"
    return draw_means(
        shown, _quantity(means, intervals), axis, "interval" if intervals else "", note, ax, figure
    )


def _critical(means: MeansTable, alpha: float, adjust: str | None) -> dict[int, Floats]:
    """Just significant differences (k, k) of each family, on the scale of the link."""
    found = contrasts_of(
        ContrastTable, means, "pairwise", adjust=adjust, compare="link", conf_level=1 - alpha
    )
    half = (found.examined.found.conf_high - found.examined.found.conf_low) / 2
    out = {}
    for f, own in enumerate(found.families):
        k = len(means.families[f])
        square = np.full((k, k), np.nan)
        square[np.triu_indices(k, 1)] = half[own]
        out[f] = np.fmax(square, square.T)
    return out


def _ends(means: MeansTable, own: Ints, critical: Floats) -> tuple[Floats, Floats, int]:
    """Ends of the arrows on the axis, and the number of pairs that they get wrong."""
    value = np.where(means.functions.estimable[own], means.functions.value[own], np.nan)
    found = comparison_arrows(value, critical)
    back = LINKS[means.link].inverse
    return back(value - found.left), back(value + found.right), len(found.wrong)


def _interaction(
    means: MeansTable,
    x: str | None,
    trace: str | None,
    intervals: bool,
    ax: Axes | None,
    figure: Figure | None,
) -> Any:
    names = list(means.names)
    if x is None:
        x = next((name for name in names if name != trace), None)
    if x is None or x not in names:
        raise ModelError(f"x={x!r} is none of the predictors of these means: {', '.join(names)}")
    if trace is None:
        trace = next((name for name in names if name != x), None)
    elif trace not in names or trace == x:
        raise ModelError(f"trace={trace!r} must be another of {', '.join(names)}")
    by = tuple(name for name in names if name not in (x, trace))
    found = means.intervals
    _, families = means.regrouped(by)
    levels, lines = means.levels(x), means.levels(trace) if trace else ("",)
    shown = []
    for own in families:
        index = own.reshape(len(levels), len(lines), order="F")
        if trace is not None and names.index(trace) < names.index(x):
            index = own.reshape(len(lines), len(levels), order="F").T
        panel = TracesPanel(
            _title(means, by, int(own[0]), "Marginal means"),
            tuple(shown_level(v) for v in levels),
            _positions(levels),
            tuple(shown_level(v) for v in lines),
            found.estimate[index],
            found.conf_low[index],
            found.conf_high[index],
        )
        shown.append(panel)
    quantity = _quantity(means, intervals)
    return draw_traces(shown, quantity, x, trace or "", "interval" if intervals else "", ax, figure)


def _positions(levels: tuple[Any, ...]) -> Floats:
    """Numbers stand where they are, levels one apart."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels):
        return np.array(levels, dtype=np.float64)
    return np.arange(len(levels), dtype=np.float64)
