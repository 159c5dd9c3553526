"""Models by their criterion, and by that of the other question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ranef.display.canvas import ACCENT, MARK, finish, label, on_axes, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_text", "draw_comparison"]

LABELS = {"population": "new groups", "individual": "the groups at hand"}
OTHER = {"population": "individual", "individual": "population"}


def draw_comparison(found: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw each model's distance from the best, for either question.

    Parameters
    ----------
    found : FocusedComparison
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
    """
    count = len(found)
    panel = on_axes(ax, figure, 6.4, 1.2 + 0.55 * count)
    places = np.arange(count)[::-1]
    own, other = np.abs(found.difference), found.other_focus
    errors = found.se_difference if found.left_out else None
    panel.errorbar(
        own, places + (0.12 if other is not None else 0.0), xerr=errors, fmt="o", color=MARK,
        markersize=7, capsize=2.5, label=f"for {LABELS[found.focus]}",
    )  # fmt: skip
    if other is not None:
        panel.plot(
            other - np.nanmin(other), places - 0.12, "D", color=ACCENT, markersize=6,
            label=f"for {LABELS[OTHER[found.focus]]}",
        )  # fmt: skip
        panel.legend(frameon=False, fontsize=8.5)
    panel.set_yticks(places, told_apart(found.names))
    panel.set_ylim(-0.6, count - 0.4)
    label(panel, title="Models by what they are for", x="worse than the best by", y="")
    finish(panel, grid="x")
    return panel


def comparison_text(found: Any) -> str:
    """Return the picture in words."""
    own, other = np.abs(found.difference), found.other_focus
    parts = []
    for i, name in enumerate(found.names):
        said = f"{name}: {own[i]:.1f} worse than the best for {LABELS[found.focus]}"
        if other is not None:
            gap = other[i] - np.nanmin(other)
            said += f", {gap:.1f} for {LABELS[OTHER[found.focus]]}"
        parts.append(said)
    return f"Models compared by {found.criterion}. {'; '.join(parts)}."
