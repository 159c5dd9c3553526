"""The pictures of a screen: ranked candidates, profiles of batches, a dilution, drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.canvas import (
    ACCENT,
    BAND,
    INK,
    MUTED,
    finish,
    label,
    on_axes,
    plain,
    told_apart,
)
from ranef.elsewhere import Pictures, explained_methods
from ranef.errors import DataError, ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ScreenPlots", "candidates", "candidates_text", "dilution", "dilution_text", "drift",
    "drift_text", "profiles", "profiles_text",
]  # fmt: skip

Floats = NDArray[np.float64]

SHOWN = 20
PROFILES = 30


@explained_methods
@dataclass(frozen=True, eq=False)
class ScreenPlots(Pictures):
    """The pictures of one screen; each method returns the Axes it drew on."""

    screen: Any

    def candidates(
        self, *, n: int = SHOWN, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw the reads of the most probable pairs beside what contamination would bring."""
        return candidates(self.screen, n=n, ax=ax, figure=figure)

    def profiles(
        self, *, n: int = PROFILES, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw the contamination of the leading taxa in each batch as a heat map."""
        return profiles(self.screen, n=n, ax=ax, figure=figure)

    def dilution(self, taxon: str, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw a taxon's share of the reads against the libraries' mass."""
        return dilution(self.screen, taxon, ax=ax, figure=figure)


def candidates(
    screen: Any, *, n: int = SHOWN, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw the reads of the most probable pairs beside what contamination would bring."""
    count = arguments.count("n", n)
    table = screen.record_of_pairs(count)
    rows = np.arange(len(table["sample"]))[::-1]
    ax = on_axes(ax, figure, 7.2, 1.4 + 0.28 * max(len(rows), 1))
    low, high = np.maximum(table["expected_low"], 0.3), np.maximum(table["expected_high"], 0.3)
    ax.hlines(rows, low, high, color=BAND, linewidth=6, label="contamination, 95%")
    present = np.asarray(table["present"], dtype=bool)
    for chosen, colour, words in ((present, ACCENT, "present"), (~present, MUTED, "not called")):
        if chosen.any():
            ax.plot(table["reads"][chosen], rows[chosen], "o", color=colour, label=words)
    names = [
        f"{plain(s, 14)}: {plain(t, 26)}"
        for s, t in zip(table["sample"], table["name"], strict=True)
    ]
    ax.set_yticks(rows, names)
    ax.set_xscale("log")
    ax.legend(frameon=False, loc="lower right")
    label(ax, title="Most probable", x="Reads", y="")
    finish(ax, grid="x")
    return ax


def candidates_text(screen: Any) -> str:
    """Say what `candidates` shows."""
    table = screen.record_of_pairs(SHOWN)
    called = int(np.sum(table["present"]))
    first = (
        f"; first {table['name'][0]} in {table['sample'][0]} with {table['reads'][0]:,} reads"
        if len(table["name"]) else ""
    )  # fmt: skip
    return f"Reads of {len(table['name'])} pairs, {called} of them called present{first}."


def profiles(
    screen: Any, *, n: int = PROFILES, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw the contamination of the leading taxa in each batch as a heat map."""
    count = arguments.count("n", n)
    mean = screen.found.joined("leaf_mean") / np.log(10.0)
    mean = mean + np.log10(screen.assembled.exposures.unit)
    leading = np.argsort(-mean.max(axis=1), kind="stable")[:count]
    ax = on_axes(ax, figure, 7.2, 1.6 + 0.2 * len(leading))
    shown = ax.imshow(mean[leading], aspect="auto", cmap="cividis")
    ax.set_yticks(
        np.arange(len(leading)), told_apart([screen.assembled.names[k] for k in leading], 28)
    )
    cells = told_apart(screen.assembled.cells, 12)
    ax.set_xticks(np.arange(len(cells)), cells, rotation=90 if len(cells) > 6 else 0)
    bar = ax.figure.colorbar(shown, ax=ax)
    bar.set_label("log10 contaminant mass", color=INK)
    label(ax, title="Contamination by batch", x="", y="")
    return ax


def profiles_text(screen: Any) -> str:
    """Say what `profiles` shows."""
    mean = screen.found.joined("leaf_mean").max(axis=1)
    names = [screen.assembled.names[k] for k in np.argsort(-mean, kind="stable")[:3]]
    return (
        f"A heat map of contaminant mass in {len(screen.assembled.cells)} batches; "
        f"most of {', '.join(names)}."
    )


def dilution(
    screen: Any, taxon: str, *, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw a taxon's share of the reads against the libraries' mass."""
    made = screen.assembled
    if taxon not in made.taxa:
        from ranef.errors import suggestion

        raise DataError(f"there is no taxon {taxon!r}{suggestion(taxon, made.taxa)}")
    if not made.arrays.by_mass:
        raise ModelError("a dilution curve needs the libraries' mass or spike-in")
    t = made.taxa.index(taxon)
    arrays = made.arrays
    some = (arrays.exposure > 0) & (arrays.reads[:, t] > 0)
    mass = arrays.total[some] / arrays.exposure[some] * made.exposures.unit
    share = arrays.reads[some, t] / arrays.total[some]
    control = arrays.negative[some]
    ax = on_axes(ax, figure, 6.0, 4.0)
    for chosen, mark, colour, words in (
        (~control, "o", ACCENT, "patients"), (control, "s", MUTED, "controls"),
    ):  # fmt: skip
        if chosen.any():
            ax.plot(mass[chosen], share[chosen], mark, color=colour, label=words)
    kappa = np.exp(screen.found.joined("root_mean")[t]) * made.exposures.unit
    at = np.geomspace(mass.min(), mass.max(), 50) if some.any() else np.array([1.0, 2.0])
    ax.plot(at, np.minimum(kappa / at, 1.0), "--", color=INK, label="contamination")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.legend(frameon=False)
    label(ax, title=plain(made.names[t]), x="Mass", y="Share of reads")
    finish(ax, grid="both")
    return ax


def dilution_text(screen: Any, taxon: str) -> str:
    """Say what `dilution` shows."""
    return f"The share of {taxon} in each library against its mass, with the law of contamination."


def drift(answer: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw each batch's shift of contamination with the limits of control."""
    table = answer.columns
    at = np.arange(len(table["batch"]))
    ax = on_axes(ax, figure, 7.0, 3.6)
    ax.axhspan(-answer.limit, answer.limit, color=BAND)
    ax.axhline(0.0, color=MUTED)
    low, high = np.asarray(table["conf_low"]), np.asarray(table["conf_high"])
    ax.vlines(at, low, high, color=INK)
    ax.plot(at, table["estimate"], "o", color=ACCENT)
    ax.set_xticks(at, told_apart(table["batch"], 12))
    label(ax, title="Drift of contamination", x="Batch", y="Log shift")
    finish(ax, grid="y")
    return ax


def drift_text(answer: Any) -> str:
    """Say what `drift` shows."""
    out = [
        b for b, flag in zip(answer.columns["batch"], answer.columns["flag"], strict=True) if flag
    ]
    told = f"outside the limits: {', '.join(out)}" if out else "all within the limits"
    return f"The shift of contamination in {len(answer.columns['batch'])} batches, {told}."
