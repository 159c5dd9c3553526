"""What the pictures of marginal means show, from the means, and the same in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.canvas import percent
from ranef.errors import ModelError
from ranef.families.links import link_on
from ranef.formula.labels import shown_level
from ranef.questions.means.arrows import comparison_arrows
from ranef.questions.means.comparisons import contrasts_of
from ranef.questions.means.drawing import MeansPanel, TracesPanel, draw_means, draw_traces
from ranef.questions.means.table import MeansTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "means_text"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MOST_NAMED = 12


def draw(
    means: MeansTable,
    kind: str = "means",
    *,
    x: str | None = None,
    trace: str | None = None,
    arrows: bool = True,
    alpha: float = 0.05,
    adjust: str | None = None,
    intervals: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw the means.

    Parameters
    ----------
    kind : {"means", "interaction"}
        A row each with interval and comparison arrow; or lines along one predictor.
    x, trace : str, optional
        Of the interaction: along the axis, and the predictor that has a line for
        each level; the first and the second without them.
    arrows : bool
        With arrows: two means differ at level `alpha` if theirs do not overlap.
    alpha : float
    adjust : str, optional
        Of the comparisons; Tukey's.
    intervals : bool
        With confidence intervals.
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes, or an array of them where `by` splits the picture
    """
    kind = arguments.choice("kind", kind, ("means", "interaction"))
    quantity = means.quantity[0].upper() + means.quantity[1:]
    if intervals:
        quantity += f", {100 * means.conf_level:g}% intervals"
    if kind == "interaction":
        x, trace = _axis_and_lines(means, x, trace)
        traces = _traces(means, x, trace)
        return draw_traces(
            traces, quantity, x, trace or "", intervals=intervals, ax=ax, figure=figure
        )
    if x is not None or trace is not None:
        raise ModelError("x= and trace= are for kind='interaction'")
    if not 0.0 < alpha < 1.0:
        raise ModelError(f"alpha must lie between 0 and 1, not {alpha!r}")
    arrows = arrows and len(means.families[0]) > 1
    ends, wrong = _arrows(means, alpha, adjust) if arrows else ([{} for _ in means.families], 0)
    note = f"Arrows that do not overlap: different at the {100 * alpha:g}% level" if arrows else ""
    if wrong:
        note += f"\n(except for {wrong} of the pairs, which no arrows can show; see contrasts)"
    names, axis = _row_names(means)
    alone = "Slopes" if means.slopes else "Marginal means"
    panels = [
        MeansPanel.of(_title(means, means.by, rows, alone), names, means.intervals, rows, **tips)
        for rows, tips in zip(means.families, ends, strict=True)
    ]
    return draw_means(panels, quantity, axis, note, intervals=intervals, ax=ax, figure=figure)


def means_text(means: MeansTable, *, arrows: bool = True) -> str:
    """Describe the picture of marginal means: each mean and its interval."""
    intervals = means.intervals
    rows = zip(
        *means.cells.values(), intervals.estimate, intervals.conf_low, intervals.conf_high,
        strict=True,
    )  # fmt: skip
    listed = [
        f"{', '.join(map(str, cells))}: {value:.3g}, interval {low:.3g} to {high:.3g}"
        for *cells, value, low, high in rows
    ]
    if len(listed) > MOST_NAMED:
        listed[MOST_NAMED:] = [f"and {len(listed) - MOST_NAMED} more"]
    return (
        f"Marginal means by {' and '.join(means.names)} with {percent(means.conf_level)} "
        f"intervals{' and comparison arrows' if arrows else ''}. {'; '.join(listed)}."
    )


def _title(means: MeansTable, by: tuple[str, ...], rows: Ints, alone: str) -> str:
    return ", ".join(f"{name}: {shown_level(means.cells[name][rows[0]])}" for name in by) or alone


# --- rows with arrows


def _row_names(means: MeansTable) -> tuple[list[str], str]:
    """Name of each row, and of the axis that they are on."""
    rest, _ = means.regrouped(means.by)
    if len(rest) == 1:
        return [shown_level(v) for v in means.cells[rest[0]]], rest[0]
    return means.labels(rest), ""


def _arrows(
    means: MeansTable, alpha: float, adjust: str | None
) -> tuple[list[dict[str, Floats]], int]:
    """Ends of the arrows of each family on the axis, and the number of pairs they get wrong."""
    link = link_on(means.link)
    value = np.where(means.functions.estimable, means.functions.value, np.nan)
    ends, wrong = [], 0
    for rows, critical in zip(means.families, _critical(means, alpha, adjust), strict=True):
        arrows = comparison_arrows(value[rows], critical)
        tips = (value[rows] - arrows.left, value[rows] + arrows.right)
        left, right = (link.inverse(np.clip(tip, *link.ends)) for tip in tips)
        ends.append({"left": left, "right": right})
        wrong += len(arrows.wrong)
    return ends, wrong


def _critical(means: MeansTable, alpha: float, adjust: str | None) -> list[Floats]:
    """Just significant differences (k, k) of each family, on the scale of the link."""
    pairs = contrasts_of(means, "pairwise", adjust=adjust, compare="link", conf_level=1 - alpha)
    half = (pairs.tests.intervals.conf_high - pairs.tests.intervals.conf_low) / 2
    squares = []
    for means_rows, pair_rows in zip(means.families, pairs.families, strict=True):
        k = len(means_rows)
        square = np.full((k, k), np.nan)
        square[np.triu_indices(k, 1)] = half[pair_rows]
        squares.append(np.fmax(square, square.T))
    return squares


# --- lines


def _axis_and_lines(means: MeansTable, x: str | None, trace: str | None) -> tuple[str, str | None]:
    """The predictor along the axis, and the one that has a line for each level."""
    names = means.names
    if x is None:
        x = next((name for name in names if name != trace), None)
    if x is None or x not in names:
        raise ModelError(f"x={x!r} is none of the predictors of these means: {', '.join(names)}")
    if trace is None:
        return x, next((name for name in names if name != x), None)
    if trace not in names or trace == x:
        raise ModelError(f"trace={trace!r} must be another of {', '.join(names)}")
    return x, trace


def _traces(means: MeansTable, x: str, trace: str | None) -> list[TracesPanel]:
    names, intervals = means.names, means.intervals
    by = tuple(name for name in names if name not in (x, trace))
    levels, lines = means.levels(x), means.levels(trace) if trace else ("",)
    panels = []
    for rows in means.regrouped(by)[1]:
        index = rows.reshape(len(levels), len(lines), order="F")
        if trace is not None and names.index(trace) < names.index(x):
            index = rows.reshape(len(lines), len(levels), order="F").T
        panel = TracesPanel(
            _title(means, by, rows, "Marginal means"),
            tuple(map(shown_level, levels)),
            _positions(levels),
            tuple(map(shown_level, lines)),
            intervals.estimate[index],
            intervals.conf_low[index],
            intervals.conf_high[index],
        )
        panels.append(panel)
    return panels


def _positions(levels: tuple[Any, ...]) -> Floats:
    """Numbers stand where they are, levels one apart."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in levels):
        return np.array(levels, dtype=np.float64)
    return np.arange(len(levels), dtype=np.float64)
