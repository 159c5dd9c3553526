"""Raw estimates of the levels, and where shrinkage takes them."""

from __future__ import annotations

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
    on_axes,
    plain,
    room_for,
    told_apart,
)
from ranef.display.reading import Levelled, Shrinkage, shrinkage_effects
from ranef.errors import ModelError, suggestion
from ranef.formula.labels import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["shrinkage", "shrinkage_text"]

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
    chosen = _chosen(shrinkage_effects(fit, group), terms)
    if len(chosen) == 1:
        return _one(chosen[0], ax, figure)
    return _two(chosen[0], chosen[1], ax, figure)


def shrinkage_text(fit: Levelled) -> str:
    """Describe the picture: how the estimates draw together, and which level moves most."""
    return " ".join(map(_effect_text, shrinkage_effects(fit, None)))


def _effect_text(effect: Shrinkage) -> str:
    there = np.isfinite(effect.raw)
    text = (
        f"Raw and shrunken estimates of {effect.term} by {effect.group}, centre {effect.centre:.3g}"
    )
    if not there.any():
        return f"{text}; no level has a raw estimate."
    before, after = (np.std(values[there]) for values in (effect.raw, effect.estimate))
    moved = np.where(there, np.abs(effect.raw - effect.estimate), -1.0)
    return (
        f"{text}: {int(there.sum()):,} of {len(there):,} levels have a raw estimate, whose "
        f"standard deviation goes from {before:.3g} to {after:.3g}; "
        f"{effect.names[int(np.argmax(moved))]} moves most."
    )


def _chosen(
    effects: tuple[Shrinkage, ...], terms: str | tuple[str, str] | None
) -> tuple[Shrinkage, ...]:
    if terms is None:
        return tuple(e for e in effects if e.group == effects[0].group)[:2]
    wanted = (terms,) if isinstance(terms, str) else tuple(terms)
    if len(wanted) not in (1, 2):
        raise ModelError(f"terms is one coefficient or a pair, not {len(wanted)}")
    by_term = {e.term: e for e in reversed(effects)}
    wanted = tuple(spelled(str(name), by_term) for name in wanted)
    for name in wanted:
        if name not in by_term:
            raise ModelError(
                f"no coefficient {name!r} that varies{suggestion(str(name), by_term)}; there are "
                f"{', '.join(map(repr, by_term))}"
            )
    return tuple(by_term[name] for name in wanted)


def _one(effect: Shrinkage, ax: Axes | None, figure: Figure | None) -> Axes:
    effect = effect.take(np.argsort(effect.estimate, kind="stable"))
    rows = np.arange(len(effect.names), dtype=np.float64)
    named = len(rows) <= NAMED_LEVELS
    height = 1.6 + 0.19 * max(len(rows), 6) if named else 5.4
    names = told_apart(effect.names, 24) if named else []
    ax = on_axes(ax, figure, 6.4 + room_for(names), height)
    there = np.isfinite(effect.raw)
    ax.axvline(effect.centre, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    _points(ax, effect.raw, rows, effect.estimate, rows, there)
    if named:
        ax.set_yticks(rows, names, color=INK, parse_math=False)
    label(
        ax,
        title=_title(f"{plain(effect.group)}: {plain(effect.term)}", there),
        x=f"{plain(effect.term)}, raw and shrunken",
        y="" if named else f"{len(rows):,} levels, sorted",
    )
    finish(ax, grid="x")
    _legend(ax)
    return ax


def _two(x: Shrinkage, y: Shrinkage, ax: Axes | None, figure: Figure | None) -> Axes:
    ax = on_axes(ax, figure, 6.4, 5.2)
    there = np.isfinite(x.raw) & np.isfinite(y.raw)
    _points(ax, x.raw, y.raw, x.estimate, y.estimate, there)
    ax.plot([x.centre], [y.centre], "D", color=INK, markersize=6, label="average level")
    if len(x.names) <= NAMED_POINTS:
        _names(ax, x, y, there)
    title = _title(f"{plain(x.group)}: raw and shrunken", there)
    label(ax, title=title, x=plain(x.term), y=plain(y.term))
    finish(ax, grid="both")
    _legend(ax)
    return ax


def _names(ax: Axes, x: Shrinkage, y: Shrinkage, there: NDArray[np.bool_]) -> None:
    """Write each level's name beyond its raw point, away from the middle."""
    for i in np.flatnonzero(there):
        right, up = x.raw[i] >= x.estimate[i], y.raw[i] >= y.estimate[i]
        ax.annotate(
            plain(x.names[i], 14), (x.raw[i], y.raw[i]), textcoords="offset points",
            xytext=(5 if right else -5, 3 if up else -3), ha="left" if right else "right",
            va="bottom" if up else "top", fontsize=7, color=MUTED, parse_math=False,
        )  # fmt: skip


def _points(
    ax: Axes, x0: Floats, y0: Floats, x1: Floats, y1: Floats, there: NDArray[np.bool_]
) -> None:
    """Draw raw and shrunken estimates, with arrows between them where there is a raw one."""
    x0, y0 = x0[there], y0[there]
    ax.quiver(
        x0, y0, x1[there] - x0, y1[there] - y0, angles="xy", scale_units="xy", scale=1,
        width=0.0028, headwidth=5, headlength=6, headaxislength=5.4, color=MUTED, zorder=1.5,
    )  # fmt: skip
    size = float(np.clip(60.0 / np.sqrt(max(len(x1), 1)), 1.5, 5.0))
    raw: dict[str, Any] = {"mfc": "white", "mec": ACCENT, "mew": 1.2, "zorder": 2}
    ax.plot(x0, y0, "o", label="raw", markersize=size, **raw)
    ax.plot(x1, y1, "o", label="shrunken", markersize=size, color=MARK, mew=0, zorder=3)


def _title(words: str, there: NDArray[np.bool_]) -> str:
    lacking = int(np.sum(~there))
    return f"{words} ({lacking} of {len(there)} have no raw estimate)" if lacking else words


def _legend(ax: Axes) -> None:
    ax.legend(
        loc="upper left", bbox_to_anchor=(0.0, -0.14), ncols=3, frameon=False, fontsize=8.5,
        labelcolor=INK, borderaxespad=0.0, handletextpad=0.4,
    )  # fmt: skip
