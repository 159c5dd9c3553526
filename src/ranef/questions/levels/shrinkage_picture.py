"""Raw estimates of the levels, and where shrinkage takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, INK, MARK, MUTED, finish, label, on_axes, plain
from ranef.display.reading import Levelled, Shrinkage, shrinkage_effects
from ranef.errors import ModelError, suggestion
from ranef.formula.labels import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["shrinkage"]

Floats = NDArray[np.float64]

NAMED_LEVELS = 60
NAMED_POINTS = 30


def shrinkage(
    fit: Levelled,
    *,
    group: str | None = None,
    terms: str | tuple[str, str] | None = None,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw each level's raw estimate, and an arrow to the estimate that the model gives.

    Raw is what the level's own rows say (no pooling); the arrow shows how far the other
    levels pull it. Levels with few rows move most. With two coefficients the picture has
    two dimensions, and arrows bend along the correlation of the effects.

    Parameters
    ----------
    fit : a fit of ranef
    group : str, optional
        The grouping factor; the first if left out.
    terms : str or pair of str, optional
        One coefficient, or two for a picture of two dimensions. The first two (or the
        only one) that vary over the levels if left out.
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
    >>> shrinkage(fit).get_xlabel()
    '(Intercept)'
    """
    found = shrinkage_effects(fit, group)
    chosen = _chosen(found, terms)
    if len(chosen) == 1:
        return _one(chosen[0], ax, figure)
    return _two(chosen[0], chosen[1], ax, figure)


def _chosen(
    found: tuple[Shrinkage, ...], terms: str | tuple[str, str] | None
) -> tuple[Shrinkage, ...]:
    if terms is None:
        same = [s for s in found if s.group == found[0].group]
        return tuple(same[:2])
    wanted = (terms,) if isinstance(terms, str) else tuple(terms)
    if len(wanted) not in (1, 2):
        raise ModelError(f"terms is one coefficient or a pair, not {len(wanted)}")
    known = {s.term: s for s in reversed(found)}
    wanted = tuple(spelled(str(name), known) for name in wanted)
    for name in wanted:
        if name not in known:
            raise ModelError(
                f"no coefficient {name!r} that varies{suggestion(str(name), known)}; there are "
                f"{', '.join(map(repr, known))}"
            )
    return tuple(known[name] for name in wanted)


def _one(shown: Shrinkage, ax: Axes | None, figure: Figure | None) -> Axes:
    shown = shown.take(np.argsort(shown.estimate, kind="stable"))
    rows = np.arange(len(shown.names), dtype=np.float64)
    named = len(rows) <= NAMED_LEVELS
    height = 1.6 + 0.19 * max(len(rows), 6) if named else 5.4
    ax = on_axes(ax, figure, 6.4, height)
    there = np.isfinite(shown.raw)
    ax.axvline(shown.centre, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    _arrows(ax, shown.raw[there], rows[there], shown.estimate[there], rows[there])
    ax.plot(shown.raw[there], rows[there], "o", label="raw", **_raw_style(len(rows)))
    ax.plot(shown.estimate, rows, "o", label="shrunken", **_own_style(len(rows)))
    if named:
        ax.set_yticks(rows, [plain(n, 24) for n in shown.names], color=INK, parse_math=False)
    label(
        ax,
        title=_title(shown, f"{plain(shown.group)}: {plain(shown.term)}", int(np.sum(~there))),
        x=f"{plain(shown.term)}, raw and shrunken",
        y="" if named else f"{len(rows):,} levels, sorted",
    )
    finish(ax, grid="x")
    _legend(ax)
    return ax


def _two(x: Shrinkage, y: Shrinkage, ax: Axes | None, figure: Figure | None) -> Axes:
    ax = on_axes(ax, figure, 6.4, 5.2)
    there = np.isfinite(x.raw) & np.isfinite(y.raw)
    _arrows(ax, x.raw[there], y.raw[there], x.estimate[there], y.estimate[there])
    count = len(x.names)
    ax.plot(x.raw[there], y.raw[there], "o", label="raw", **_raw_style(count))
    ax.plot(x.estimate, y.estimate, "o", label="shrunken", **_own_style(count))
    ax.plot([x.centre], [y.centre], "D", color=INK, markersize=6, label="average level")
    if count <= NAMED_POINTS:
        _names(ax, x, y, there)
    label(
        ax,
        title=_title(x, f"{plain(x.group)}: raw and shrunken", int(np.sum(~there))),
        x=plain(x.term),
        y=plain(y.term),
    )
    finish(ax, grid="both")
    _legend(ax)
    return ax


def _names(ax: Axes, x: Shrinkage, y: Shrinkage, there: NDArray[np.bool_]) -> None:
    """Write each level's name beyond its raw point, away from the middle."""
    for i in np.flatnonzero(there):
        right, up = x.raw[i] >= x.estimate[i], y.raw[i] >= y.estimate[i]
        ax.annotate(
            plain(x.names[i], 14),
            (x.raw[i], y.raw[i]),
            xytext=(5 if right else -5, 3 if up else -3),
            textcoords="offset points",
            ha="left" if right else "right",
            va="bottom" if up else "top",
            fontsize=7,
            color=MUTED,
            parse_math=False,
        )


def _arrows(ax: Axes, x0: Floats, y0: Floats, x1: Floats, y1: Floats) -> None:
    ax.quiver(
        x0,
        y0,
        x1 - x0,
        y1 - y0,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.0028,
        headwidth=5,
        headlength=6,
        headaxislength=5.4,
        color=MUTED,
        zorder=1.5,
    )


def _raw_style(count: int) -> dict[str, Any]:
    size = float(np.clip(60.0 / np.sqrt(max(count, 1)), 1.5, 5.0))
    return {"mfc": "white", "mec": ACCENT, "mew": 1.2, "markersize": size, "zorder": 2}


def _own_style(count: int) -> dict[str, Any]:
    size = float(np.clip(60.0 / np.sqrt(max(count, 1)), 1.5, 5.0))
    return {"color": MARK, "mew": 0, "markersize": size, "zorder": 3}


def _title(shown: Shrinkage, words: str, lacking: int) -> str:
    if not lacking:
        return words
    return f"{words} ({lacking} of {len(shown.names)} have no raw estimate)"


def _legend(ax: Axes) -> None:
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0.0, -0.14),
        ncols=3,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        borderaxespad=0.0,
        handletextpad=0.4,
    )
