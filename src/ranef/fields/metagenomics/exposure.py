"""Reads per unit of mass of each library: from spike-in, input mass or depth, in that order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SOURCES", "Exposures", "exposures"]

Floats = NDArray[np.float64]

SOURCES = ("spike", "mass", "depth", "none")
SURE, UNSURE, UNKNOWN = 0.3, 1.0, 1.5
"""Prior sd of a library's log deviation: measured, censored, not measured."""


@dataclass(frozen=True, eq=False)
class Exposures:
    """Exposures and where they come from.

    Attributes
    ----------
    values : (S,) array
        Reads per mass, the median of the patients' 1; 0 for libraries without reads.
    source : (S,) array of int
        Places in `SOURCES`.
    looseness : (S,) array
        Prior sd of the log deviation.
    unit : float
        Mass that stands for one unit of the values, in the unit of the sheet.
    """

    values: Floats
    source: NDArray[np.intp]
    looseness: Floats
    unit: float


def exposures(
    total: Floats,
    spike: Floats,
    spike_mass: Floats,
    mass: Floats,
    censored: NDArray[np.bool_],
    control: NDArray[np.bool_],
    wanted: str = "auto",
) -> Exposures:
    """Work out exposures.

    Parameters
    ----------
    total, spike, spike_mass, mass : (S,) arrays
        NaN where not known. Nothing depends on the unit of masses.
    censored : (S,) bool array
        Where `mass` is a limit of detection.
    control : (S,) bool array
        Controls without a measured mass hold what the reagents hold: their mass is estimated.
    wanted : {"auto", "spike", "mass", "depth"}
    """
    n = len(total)
    values, source = np.zeros(n), np.full(n, SOURCES.index("none"))
    looseness = np.full(n, SURE)
    alive = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        by_spike = alive & (spike > 0) & (spike_mass > 0) & (wanted in ("auto", "spike"))
        by_mass = alive & (mass > 0) & ~by_spike & (wanted in ("auto", "mass"))
    usual = _main(by_spike, by_mass, alive, control)
    if usual == "depth":
        by_spike &= False
        by_mass &= False
    own = {"spike": by_spike, "mass": by_mass}.get(usual, alive)
    raw = {
        "spike": np.where(by_spike, spike / np.where(by_spike, spike_mass, 1.0), 0.0),
        "mass": np.where(by_mass, total / np.where(by_mass, mass, 1.0), 0.0),
        "depth": np.where(alive, total, 0.0),
    }
    for name in ("depth", "mass", "spike"):
        rows = {"spike": by_spike, "mass": by_mass, "depth": alive}[name]
        if not rows.any():
            continue
        scale = _scale(raw[name], rows, ~control)
        values[rows] = raw[name][rows] / scale
        source[rows] = SOURCES.index(name)
        looseness[rows] = SURE if name == usual and usual != "depth" else UNKNOWN
    looseness[by_mass & censored] = UNSURE
    unit = _scale(raw[usual], own, ~control) if own.any() else 1.0
    if usual != "depth":
        values, looseness = _unmeasured(values, raw, own, alive, control, total, looseness, unit)
    return Exposures(values, source, looseness, 1.0 / unit)


def _main(
    by_spike: NDArray[np.bool_], by_mass: NDArray[np.bool_], alive: NDArray[np.bool_],
    control: NDArray[np.bool_],
) -> str:  # fmt: skip
    """The source that most patients have."""
    patients = alive & ~control
    counts = {"spike": by_spike[patients].sum(), "mass": by_mass[patients].sum()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] * 2 > patients.sum() else "depth"


def _scale(values: Floats, rows: NDArray[np.bool_], patient: NDArray[np.bool_]) -> float:
    some = values[rows & patient] if (rows & patient).any() else values[rows]
    return float(np.median(some))


def _unmeasured(
    values: Floats, raw: dict[str, Floats], own: NDArray[np.bool_], alive: NDArray[np.bool_],
    control: NDArray[np.bool_], total: Floats, looseness: Floats, unit: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Controls without a mass: as if they held little more than the least of the patients."""
    rows = alive & control & ~own
    if rows.any() and own.any():
        per_read = np.quantile((values / np.maximum(total, 1.0))[own], 0.9)
        values = values.copy()
        values[rows] = total[rows] * per_read
        looseness = looseness.copy()
        looseness[rows] = UNKNOWN
    return values, looseness
