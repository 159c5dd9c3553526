"""Positive controls beside what was put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ranef import arguments
from ranef.errors import DataError, suggestion
from ranef.fields.metagenomics.arrays import POSITIVE
from ranef.tables import Table

__all__ = ["recovered"]


def _masses(expected: Any) -> dict[str, float]:
    if isinstance(expected, Mapping) and all(np.isscalar(v) for v in expected.values()):
        pairs = list(expected.items())
    else:
        table = Table.of(expected)
        for name in ("taxon", "mass"):
            table.column(name)
        pairs = list(zip(table.values("taxon").tolist(), table.values("mass"), strict=True))
    out = {}
    for taxon, given in pairs:
        mass = arguments.number(f"the mass of {taxon!r}", given)
        if not 0 < mass < np.inf:
            raise DataError(f"the mass of {taxon!r} must be above 0, not {given!r}")
        out[str(taxon)] = mass
    return out


def recovered(screen: Any, expected: Any) -> dict[str, Any]:
    """Return the columns of `Screen.recovery`."""
    made, judged = screen.assembled, screen.judged
    samples = np.flatnonzero(made.arrays.role == POSITIVE)
    if not len(samples):
        raise DataError(
            "there are no positive controls: name them by a control_type with the word 'positive'"
        )
    masses = _masses(expected)
    place = {taxon: k for k, taxon in enumerate(made.taxa)}
    names = {name: k for k, name in enumerate(made.names)}
    columns: dict[str, list[Any]] = {name: [] for name in (
        "sample", "taxon", "name", "mass", "reads", "estimate", "conf_low", "conf_high",
        "recovery", "present",
    )}  # fmt: skip
    row = {(s, t): k for k, (s, t) in enumerate(zip(judged.sample, judged.taxon, strict=True))}
    unit, m = made.exposures.unit, screen.measured
    for s in samples:
        for taxon, mass in masses.items():
            t = place.get(taxon, names.get(taxon))
            if t is None:
                hint = suggestion(taxon, [*made.taxa, *made.names])
                raise DataError(f"no library has reads of taxon {taxon!r}{hint}")
            k = row.get((s, t))
            found = (0.0, 0.0, np.nan) if k is None else (
                m.mass[k] * unit, m.mass_low[k] * unit, m.mass_high[k] * unit)  # fmt: skip
            values = (
                made.samples[s], made.taxa[t], made.names[t], mass, int(made.arrays.reads[s, t]),
                *found, found[0] / mass, bool(k is not None and judged.present[k]),
            )  # fmt: skip
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    return dict(columns)
