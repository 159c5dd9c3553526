"""Curves of power with their Monte Carlo error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, INK, MARK, MUTED, finish, label, on_axes, plain
from ranef.display.columns import Listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_power", "power_text"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLOURS = (MARK, ACCENT, INK, MUTED)


class Curves(Protocol):
    """What the picture reads of an answer."""

    @property
    def title(self) -> str: ...
    @property
    def alpha(self) -> float: ...
    def listing(self, name: str | None = None) -> Listing: ...


def _curves(power: Curves) -> tuple[str, dict[str, NDArray[np.intp]], Mapping[str, Any]]:
    """What stands on the axis, the rows of each curve by its label, and the table."""
    table = power.listing().table
    varied = list(table)[: list(table).index("test")]
    several = len(set(table["test"])) > 1
    labels = []
    for i in range(len(table["test"])):
        parts = [f"{name} {table[name][i]}" for name in varied[1:]]
        labels.append(", ".join([*parts, *([table["test"][i]] if several else [])]))
    rows: dict[str, NDArray[np.intp]] = {}
    x = np.array(table[varied[0]], dtype=np.float64)
    for words in dict.fromkeys(labels):
        own = np.flatnonzero(np.array(labels) == words)
        rows[words] = own[np.argsort(x[own])]
    return varied[0], rows, table


def draw_power(
    power: Curves, *, target: float | None, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw a curve for each test and for each value of what else varies."""
    axes = on_axes(ax, figure, 6.0, 4.0)
    name, curves, table = _curves(power)
    x = np.array(table[name], dtype=np.float64)
    share, low, high = (np.asarray(table[key]) for key in ("power", "conf_low", "conf_high"))
    for k, (words, own) in enumerate(curves.items()):
        axes.errorbar(
            x[own], share[own], yerr=[share[own] - low[own], high[own] - share[own]],
            color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)], capsize=2.5,
            linewidth=1.4, markersize=5, label=plain(words) or None,
        )  # fmt: skip
    if target is not None:
        axes.axhline(target, color=MUTED, linestyle="--", linewidth=1.0, zorder=0)
    axes.set_ylim(0.0, 1.02)
    if len(curves) > 1:
        axes.legend(frameon=False)
    label(axes, title=plain(power.title, 70), x=plain(name), y="Power")
    finish(axes, grid="y")
    return axes


def power_text(power: Curves) -> str:
    """Return the picture in words."""
    name, curves, table = _curves(power)
    parts = []
    for words, own in curves.items():
        first, last = own[0], own[-1]
        parts.append(
            f"{words + ': ' if words else ''}from {table['power'][first]:.2f} at {name} "
            f"{table[name][first]} to {table['power'][last]:.2f} at {table[name][last]}"
        )
    return f"Power at level {power.alpha:g} against {name}. {'; '.join(parts)}."
