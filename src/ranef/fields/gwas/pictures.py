"""The pictures of a scan: QQ, Manhattan, and two Manhattans face to face (Miami)."""

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
    MANY_POINTS,
    MARK,
    MUTED,
    finish,
    label,
    on_axes,
    plain,
)
from ranef.elsewhere import Pictures, explained_methods
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ScanPlots", "manhattan", "manhattan_text", "miami", "miami_text", "qq", "qq_text"]

Floats = NDArray[np.float64]

GENOME_WIDE = -np.log10(5e-8)
MOST_NAMED = 3
BAND_POINTS = 200


@explained_methods
@dataclass(frozen=True, eq=False)
class ScanPlots(Pictures):
    """The pictures of one scan; each method returns the Axes it drew on."""

    scan: Any

    def qq(
        self, *, trait: str | None = None, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw p values against those of a scan without associations, with a 95% band."""
        return qq(self.scan, trait=trait, ax=ax, figure=figure)

    def manhattan(
        self, *, trait: str | None = None, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw p values along the genome, with the line of 5e-8."""
        return manhattan(self.scan, trait=trait, ax=ax, figure=figure)

    def miami(
        self,
        *,
        traits: tuple[str, str] | None = None,
        other: Any = None,
        ax: Axes | None = None,
        figure: Figure | None = None,
    ) -> Axes:
        """Draw two traits of this scan, or this and another scan, face to face."""
        return miami(self.scan, traits=traits, other=other, ax=ax, figure=figure)


def _log(scan: Any, trait: str | None) -> tuple[str, Floats, NDArray[np.intp]]:
    """Name of the trait, minus log10 p of tested variants, and their places."""
    one = scan.only(trait)
    rows = np.flatnonzero(one.tested)
    if not len(rows):
        raise ModelError(f"no variant of {one.trait.name} was tested: there is nothing to draw")
    return one.trait.name, -one.chief_log10_p[rows], rows


def _dots(count: int, size: float) -> dict[str, Any]:
    return {"markersize": size, "markeredgewidth": 0.0, "rasterized": count > MANY_POINTS}


def qq(
    scan: Any, *, trait: str | None = None, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw observed against expected minus log10 p."""
    from scipy.special import betaincinv

    name, log, _ = _log(scan, trait)
    panel = on_axes(ax, figure, 4.4, 4.2)
    m = len(log)
    expected = -np.log10((np.arange(m) + 0.5) / m)
    observed = np.sort(log)[::-1]
    some = np.unique(np.geomspace(1, m, min(BAND_POINTS, m)).astype(np.intp))
    low, high = (-np.log10(betaincinv(some, m + 1.0 - some, p)) for p in (0.975, 0.025))
    panel.fill_between(expected[some - 1], low, high, color=BAND, linewidth=0)
    panel.plot([0, expected[0]], [0, expected[0]], color=MUTED, linewidth=0.9)
    panel.plot(expected, observed, "o", color=MARK, **_dots(m, 3.0))
    panel.set_xlim(left=0.0)
    panel.set_ylim(bottom=0.0)
    factor = scan.found[name].lambda_gc
    label(panel, title=f"{plain(name)}: lambda_GC {factor:.3f}", x="Expected -log10 p",
          y="Observed -log10 p")  # fmt: skip
    finish(panel, grid="both")
    return panel


def qq_text(scan: Any, trait: str | None = None) -> str:
    """Describe the picture."""
    name, log, _ = _log(scan, trait)
    return (
        f"QQ plot of {len(log):,} p values of {name}, with the band of no association: lambda_GC "
        f"{scan.found[name].lambda_gc:.3f}, largest -log10 p {log.max():.1f} where "
        f"{np.log10(2 * len(log)):.1f} is expected."
    )


def manhattan(
    scan: Any, *, trait: str | None = None, ax: Axes | None = None, figure: Figure | None = None
) -> Axes:
    """Draw minus log10 p along the genome."""
    name, log, rows = _log(scan, trait)
    panel = on_axes(ax, figure, 9.0, 3.4)
    x, ticks = _along(scan.genotypes.variants, rows)
    _cloud(panel, scan, rows, x, log, 1.0)
    _named(panel, scan, rows, x, log, 1.0)
    panel.axhline(GENOME_WIDE, color=ACCENT, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.set_ylim(0.0, max(1.08 * float(log.max()), GENOME_WIDE + 0.8))
    _ticks(panel, ticks)
    label(panel, title=f"{plain(name)} along the genome", x="Chromosome", y="-log10 p")
    finish(panel, grid="y")
    return panel


def manhattan_text(scan: Any, trait: str | None = None) -> str:
    """Describe the picture."""
    name, log, rows = _log(scan, trait)
    v, best = scan.genotypes.variants, rows[np.argmax(log)]
    beyond = int((log > GENOME_WIDE).sum())
    return (
        f"Manhattan plot of {len(log):,} variants for {name}: {beyond:,} beyond the line of 5e-8; "
        f"the largest, {v.id[best]} on chromosome {v.chromosome[best]}, at -log10 p "
        f"{log.max():.1f}."
    )


def miami(
    scan: Any,
    *,
    traits: tuple[str, str] | None = None,
    other: Any = None,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw two Manhattans face to face."""
    pairs = _pair(scan, traits, other)
    panel = on_axes(ax, figure, 9.0, 5.0)
    most, ticks = float(GENOME_WIDE) + 0.8, list[tuple[float, str]]()
    for (own, name), sign in zip(pairs, (1.0, -1.0), strict=True):
        _, log, rows = _log(own, name)
        x, ticks = _along(own.genotypes.variants, rows)
        _cloud(panel, own, rows, x, sign * log, sign)
        _named(panel, own, rows, x, log, sign)
        panel.axhline(sign * GENOME_WIDE, color=ACCENT, linewidth=0.9, linestyle=(0, (4, 3)))
        most = max(most, 1.1 * float(log.max()))
    panel.axhline(0.0, color=INK, linewidth=0.8)
    panel.set_ylim(-most, most)
    panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    _ticks(panel, ticks)
    above, below = (_said(own, name) for own, name in pairs)
    label(panel, title=f"{plain(above)} above, {plain(below)} below", x="Chromosome", y="-log10 p")
    finish(panel, grid="y")
    return panel


def miami_text(scan: Any, traits: tuple[str, str] | None = None, other: Any = None) -> str:
    """Describe the picture."""
    above, below = (manhattan_text(own, name) for own, name in _pair(scan, traits, other))
    return f"Two Manhattan plots face to face. Above: {above} Below: {below}"


def _said(scan: Any, trait: str) -> str:
    return f"{trait} ({scan.relationship})" if len(scan.found) == 1 else trait


def _pair(scan: Any, traits: tuple[str, str] | None, other: Any) -> list[tuple[Any, str]]:
    if other is not None:
        if traits is not None:
            raise ModelError("give traits= of this scan or other=, another scan, not both")
        if list(other.genotypes.variants.id) != list(scan.genotypes.variants.id):
            raise ModelError(
                "the two scans are of different variants; scan the same genotypes for both"
            )
        return [(scan, scan.only().trait.name), (other, other.only().trait.name)]
    names = list(scan.found) if traits is None else list(traits)
    if len(names) != 2:
        raise ModelError(
            f"a Miami plot shows two traits, and {len(names)} are given; name two by traits=, or "
            "give another scan by other="
        )
    for name in names:
        arguments.choice("traits", name, tuple(scan.found))
    return [(scan, name) for name in names]


def _along(variants: Any, rows: NDArray[np.intp]) -> tuple[Floats, list[tuple[float, str]]]:
    """Places along the genome, chromosomes one after the other, and their middles."""
    start, x = 0.0, np.zeros(len(rows))
    ticks: list[tuple[float, str]] = []
    of = variants.chromosome
    for name in variants.chromosomes:
        position = variants.position[of == name]
        low, high = float(position.min()), float(position.max())
        mine = of[rows] == name
        x[mine] = start + variants.position[rows[mine]] - low
        length = max(high - low, 1.0)
        ticks.append((start + length / 2, name.removeprefix("chr") or name))
        start += length * 1.02
    return x, ticks


def _ticks(panel: Axes, ticks: list[tuple[float, str]]) -> None:
    step = max(1, len(ticks) // 24)
    shown = ticks[::step]
    panel.set_xticks([x for x, _ in shown], [plain(name, 8) for _, name in shown], parse_math=False)
    panel.tick_params(axis="x", length=0)


def _cloud(
    panel: Axes, scan: Any, rows: NDArray[np.intp], x: Floats, y: Floats, sign: float
) -> None:
    of = scan.genotypes.variants.chromosome[rows]
    for k, name in enumerate(scan.genotypes.variants.chromosomes):
        mine = of == name
        colour = MARK if k % 2 == 0 else MUTED
        panel.plot(x[mine], y[mine], "o", color=colour, **_dots(len(rows), 2.6))


def _named(
    panel: Axes, scan: Any, rows: NDArray[np.intp], x: Floats, log: Floats, sign: float
) -> None:
    """Write the names of the best variants of some chromosomes beyond the line."""
    of, seen = scan.genotypes.variants.chromosome[rows], set[str]()
    for k in np.argsort(-log, kind="stable").tolist():
        if log[k] <= GENOME_WIDE or len(seen) == MOST_NAMED:
            break
        if of[k] in seen:
            continue
        seen.add(of[k])
        panel.annotate(
            plain(scan.genotypes.variants.id[rows[k]], 18), (x[k], sign * log[k]),
            xytext=(5, -3), textcoords="offset points", fontsize=8, color=INK, parse_math=False,
        )  # fmt: skip
