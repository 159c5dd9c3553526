"""How the pictures look: colours, sizes, and the treatment of axes and labels.

The colours are told apart by readers of every colour vision (Okabe and Ito's
blue and vermilion) and keep a contrast of at least 3:1 on white.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.characters import visible
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "BAND",
    "GRID",
    "INK",
    "MANY_POINTS",
    "MARK",
    "MUTED",
    "cloud",
    "finish",
    "interval_rows",
    "label",
    "name_points",
    "normal_order_statistics",
    "on_axes",
    "one_or_all",
    "panels",
    "percent",
    "plain",
    "room_for",
    "told_apart",
    "unquoted",
]

Floats = NDArray[np.float64]

INK = "#1b2733"
MUTED = "#5a6875"
GRID = "#e3e7eb"
MARK = "#0072b2"
ACCENT = "#c44601"
BAND = "#d3e4ef"

MANY_POINTS = 2000
"""Above this many marks a picture stores them as pixels, also in SVG and PDF."""


QUOTED = re.compile("`([^`]+)`")

CONTROL = ("Cc", "Cf", "Cs")
"""Categories of characters that have no place on a line."""


def plain(text: object, width: int = 32) -> str:
    r"""Return `text` on one line, without control characters and backticks, cut to `width`.

    Backticks quote names in formulas, and have no meaning in a picture.

    Examples
    --------
    >>> plain("a\nlong name", width=7)
    'a long…'
    >>> plain("mean of `age (years)`")
    'mean of age (years)'
    """
    return _cut(_line(text), width)


def unquoted(text: str) -> str:
    """Return words without the backticks that quote names in formulas."""
    return QUOTED.sub(r"\1", text)


def _line(text: object) -> str:
    spaced = " ".join(unquoted(str(text)).split())
    return visible("".join(c for c in spaced if unicodedata.category(c) not in CONTROL))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def told_apart(names: Iterable[object], width: int = 32) -> list[str]:
    """Cut names as `plain` does, and in the middle where that would make two of them the same.

    Examples
    --------
    >>> told_apart(["General Hospital, ward 1", "General Hospital, ward 2"], width=18)
    ['General…ward 1', 'General…ward 2']
    >>> told_apart(["Department of surgery, ward 1", "Department of surgery, ward 2"], width=24)
    ['Department…ward 1', 'Department…ward 2']
    >>> told_apart(["a name", "another"], width=18)
    ['a name', 'another']
    """
    whole = [_line(name) for name in names]
    shown = [_cut(name, width) for name in whole]
    alike: dict[str, set[str]] = {}
    for name, short in zip(whole, shown, strict=True):
        alike.setdefault(short, set()).add(name)
    for i, name in enumerate(whole):
        others = sorted(alike[shown[i]])
        if len(others) > 1:
            shown[i] = _ends(others, width)[others.index(name)]
    return shown


def _ends(names: list[str], width: int) -> list[str]:
    """Cut sorted names that begin alike: their beginning, and what follows what they share."""
    pairs = zip(names[0], names[-1], strict=False)
    shared, head = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)), width // 2 - 1
    words = names[0].rfind(" ", 0, shared - 1) if names[0][shared - 1] == " " else -1
    start = words + 1 if shared - words < head else shared
    cut = [n[:head].rstrip() + "…" + _cut(n[start:], width - head - 1) for n in names]
    return cut if len(set(cut)) == len(names) else names


def room_for(names: Iterable[str]) -> float:
    """Return the inches that names beside rows take beyond those of usual length.

    Examples
    --------
    >>> room_for(["ward 1", "ward 2"]), round(room_for(["a" * 64]), 1)
    (0.0, 3.2)
    """
    return 0.08 * max(0, max((len(name) for name in names), default=0) - USUAL)


USUAL = 24


def percent(conf_level: float) -> str:
    """Return a confidence level in percent.

    Examples
    --------
    >>> percent(0.95)
    '95%'
    """
    return f"{100 * conf_level:.4g}%"


def on_axes(ax: Axes | None, figure: Figure | None, width: float, height: float) -> Axes:
    """Return `ax`, or one new panel on a figure of the given size in inches."""
    if ax is not None:
        if figure is not None:
            raise ModelError("give ax= or figure=, not both")
        return ax
    return on_figure(figure, width, height).subplots()


def panels(
    titles: Sequence[str],
    ax: Axes | None,
    figure: Figure | None,
    *,
    single: tuple[float, float],
    height: float,
    columns: int = 3,
) -> list[Axes]:
    """Return one panel a title: of the size `single` if it is alone, else in a grid of columns."""
    count = len(titles)
    if count == 1:
        return [on_axes(ax, figure, *single)]
    if ax is not None:
        raise ModelError(
            f"ax= holds one panel and this picture has {count} ({', '.join(titles)}); "
            "choose one by group= and term=, or leave ax= out"
        )
    columns = min(columns, count)
    rows = -(-count // columns)
    grid = on_figure(figure, {1: single[0], 2: 9.0, 3: 10.5}[columns], height * rows)
    axes = grid.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.remove()
    return list(axes[:count])


def one_or_all(axes: Sequence[Axes]) -> Axes | NDArray[np.object_]:
    """Return the only panel, or an array of several."""
    return axes[0] if len(axes) == 1 else np.array(axes, dtype=object)


def on_figure(figure: Figure | None, width: float, height: float) -> Figure:
    """Return `figure` resized, or a new one that notebooks and ``show`` know."""
    if figure is None:
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(width, height), layout="constrained")
    figure.set_size_inches(width, height)
    return figure


def label(ax: Axes, *, title: str, x: str, y: str) -> None:
    """Set title and axis labels as words: a dollar sign is a dollar sign."""
    title, x, y = (visible(unquoted(words), lines=True) for words in (title, x, y))
    lines = (textwrap.fill(line.replace("% ", HELD), _across(ax)) for line in x.splitlines())
    x = "\n".join(lines).replace(HELD, "% ")
    ax.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8, parse_math=False)
    ax.set_xlabel(x, fontsize=9, color=MUTED, labelpad=6, parse_math=False)
    ax.set_ylabel(y, fontsize=9, color=MUTED, labelpad=6, parse_math=False)


def _across(ax: Axes) -> int:
    """Return how many letters of a label the panel holds beside others."""
    spec = ax.get_subplotspec()
    columns = 1 if spec is None else spec.get_gridspec().ncols
    inches: float = ax.get_figure(root=True).get_figwidth()  # type: ignore[union-attr]
    return max(24, int((inches / columns - 0.8) / 0.075))


HELD = "%\N{NO-BREAK SPACE}"


def finish(ax: Axes, *, grid: str) -> None:
    """Take away what carries no data; `grid` is ``"x"``, ``"y"`` or ``"both"``."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
        ax.spines[side].set_linewidth(0.8)
    ax.patch.set_visible(False)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8.5, width=0.8, length=3)
    ax.grid(visible=True, axis=grid, color=GRID, linewidth=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def interval_rows(
    ax: Axes, names: Sequence[str], values: tuple[Floats, Floats, Floats], null: float
) -> None:
    """Draw (estimate, low, high) as a row each, the first on top, and a line of no effect."""
    estimate, low, high = values
    rows = np.arange(len(names))
    ax.axvline(null, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(rows, low, high, color=MARK, linewidth=1.8)
    ax.plot(estimate, rows, "o", color=MARK, markersize=5.5)
    ax.set_yticks(rows, told_apart(names, 40), color=INK, parse_math=False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    finish(ax, grid="x")
    ax.tick_params(axis="y", length=0)


def name_points(
    ax: Axes, names: Iterable[object], x: Floats, y: Floats, *, width: int = 24, size: float = 8
) -> None:
    """Write names beside points, the first first; what finds no place free of others is left out.

    To be called when the limits of the axes and their labels are final.
    """
    ax.autoscale_view()
    taken: list[Any] = []
    for name, across, up in zip(told_apart(names, width), x, y, strict=True):
        for dx, dy in BESIDE:
            text = ax.annotate(
                name, (across, up), xytext=(dx, dy), textcoords="offset points", fontsize=size,
                color=INK, parse_math=False, ha="left" if dx > 0 else "right", va="center",
            )  # fmt: skip
            box = text.get_window_extent().padded(1)
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


BESIDE = ((6, 5), (-6, 5), (6, -6), (-6, -6), (6, 16), (-6, 16), (6, -17), (-6, -17))
"""Where a name may stand, in points from its own."""


def cloud(n: int) -> dict[str, Any]:
    """Return size and opacity of `n` points so that their density shows.

    Examples
    --------
    >>> cloud(100)["alpha"]
    0.7
    """
    return {
        "markersize": float(np.clip(60.0 / np.sqrt(max(n, 1)), 1.2, 4.5)),
        "markeredgewidth": 0.0,
        "alpha": float(np.clip(70.0 / max(n, 1) ** 0.75, 0.03, 0.7)),
        "rasterized": n > MANY_POINTS,
    }


def normal_order_statistics(n: int) -> tuple[Floats, Floats, Floats]:
    """Return medians and 95% limits of the order statistics of n normal values.

    The i-th of n uniform values is Beta(i, n + 1 - i), so that its quantiles,
    sent through the normal quantile function, are those of the i-th normal
    value (David and Nagaraja 2003, Order Statistics, section 2.5).

    Examples
    --------
    >>> median, low, high = normal_order_statistics(3)
    >>> bool(abs(median[1]) < 1e-12 and low[0] < median[0] < high[0])
    True
    """
    from scipy.special import betaincinv, ndtri

    i = np.arange(1.0, n + 1.0)
    limits = (ndtri(betaincinv(i, n + 1.0 - i, p)) for p in (0.5, 0.025, 0.975))
    median, low, high = (np.asarray(limit, dtype=np.float64) for limit in limits)
    return median, low, high
