"""What a person would want to know of a table before believing a model of it.

Labels that differ only in what the eye does not see, rows that stand there twice, numbers
that stand for "missing", ids that a float cannot hold. Nothing here is certain, and nothing
is changed: it is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, row_text
from ranef.tables.looks import look_alikes, plain_form
from ranef.tables.missing_codes import missing_codes
from ranef.tables.table import Table

__all__ = ["concerns", "namesakes"]

Mask = NDArray[np.bool_]

EXACT = 2.0**53
CLUMPING = 10.0
"""How many times likelier than elsewhere a response is the same in like rows by chance."""
RARE = 0.01
MOST = 0.5


def concerns(table: Table, response: Sequence[str], kept: Mask | None) -> tuple[str, ...]:
    """Return sentences on the columns that a model uses.

    Parameters
    ----------
    table : Table
        These columns.
    response : sequence of str
        Those of the response.
    kept : (N,) bool array or None
        Rows in the model; None for all.
    """
    rows = np.ones(table.n_rows, dtype=bool) if kept is None else kept
    said: list[str] = []
    for name in table.columns:
        kind = table.kind(name)
        if kind in ("text", "categorical"):
            said += _look_alikes(name, *table.codes(name), rows)
        elif kind == "numeric":
            said += _codes_for_missing(name, table.numeric(name)[rows])
            said += _merged(name, table.values(name))
    return (*said, *_repeated(table, response, rows))


def namesakes(used: Iterable[str], columns: Iterable[str]) -> tuple[str, ...]:
    """Return sentences on columns whose names look like those in use."""
    forms: dict[str, list[str]] = {}
    for name in columns:
        forms.setdefault(plain_form(name), []).append(name)
    return tuple(
        f"The table has another column whose name looks like {name!r}: {other!a}."
        for name in used
        for other in forms.get(plain_form(name), [])
        if other != name
    )


def _look_alikes(name: str, codes: Any, levels: Sequence[Any], rows: Mask) -> Iterable[str]:
    """Say which levels differ only by blanks, case or Unicode form."""
    counts = np.bincount(codes[rows & (codes >= 0)], minlength=len(levels))
    places = np.flatnonzero(counts).tolist()
    seen = {levels[p]: counts[p] for p in places if isinstance(levels[p], str)}
    alike = look_alikes(seen)
    if not alike:
        return
    first = sorted(alike[0], key=lambda level: -seen[level])
    shown = ", ".join(f"{level!a} ({seen[level]:,})" for level in first[:4])
    extra = sum(len(group) - 1 for group in alike)
    verb = "levels differ" if extra > 1 else "level differs"
    yield (
        f"{extra:,} {verb} from another of {name} only by blanks, case or Unicode form, and "
        f"{'count' if extra > 1 else 'counts'} as {'levels' if extra > 1 else 'a level'} of "
        f"{'their' if extra > 1 else 'its'} own: {shown} rows."
    )


def _codes_for_missing(name: str, values: NDArray[np.float64]) -> Iterable[str]:
    """Say which numbers look like codes for "missing"."""
    for found in missing_codes(values):
        yield (
            f"{found.code:g} stands in {found.count:,} {'row' if found.count == 1 else 'rows'} of "
            f"{name}, far from its other values: if it means missing, mark it so."
        )


def _merged(name: str, values: NDArray[Any]) -> Iterable[str]:
    """Say where whole numbers lie beyond what a float holds."""
    if values.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        large = (np.abs(values) >= EXACT) & (np.abs(values) < 2.0**64)
    if large.any() and len(np.unique(values[large])) > 1:
        yield (
            f"{name} holds whole numbers beyond 2^53 as floating point, where neighbours are one "
            "number: if they are ids, read them as whole numbers or text."
        )


def _repeated(table: Table, response: Sequence[str], rows: Mask) -> Iterable[str]:
    """Say how many rows repeat another, where chance does not account for it.

    Rows that agree in everything but the response agree in it by chance as often as others
    do, times a factor for the likeness of like rows. Where most such rows have responses of
    their own, and most equal responses stand in other rows, they are replicates, in which
    rounding makes equals.
    """
    from scipy.special import pdtrc

    places = np.flatnonzero(rows)
    if len(places) < 2:
        return
    try:
        others = _fingerprint(table, [n for n in table.columns if n not in response], places)
        outcome = _fingerprint(table, [n for n in table.columns if n in response], places)
    except DataError:
        return
    whole = _mixed(others, outcome)
    values, first, counts = np.unique(whole, return_index=True, return_counts=True)
    n_repeats = len(whole) - len(values)
    if not n_repeats:
        return
    alike, tied, both = _pairs(others), _pairs(outcome), float(np.sum(counts * (counts - 1.0)) / 2)
    apart = len(whole) * (len(whole) - 1.0) / 2 - alike
    rate = (tied - both) / apart if apart > 0 else 1.0
    replicates = both < MOST * alike and both < tied - both
    if replicates or pdtrc(both - 1.0, CLUMPING * alike * rate) > RARE:
        return
    twice = np.isin(whole, values[counts > 1])
    twice[first] = False
    row = int(places[np.flatnonzero(twice)[0]])
    yield (
        f"{n_repeats:,} {'row repeats' if n_repeats == 1 else 'rows repeat'} another in every "
        f"column that the model uses (first {row_text(row)}): are they in the table twice?"
    )


def _pairs(keys: NDArray[np.uint64]) -> float:
    counts = np.unique(keys, return_counts=True)[1].astype(float)
    return float(np.sum(counts * (counts - 1.0)) / 2.0)


def _fingerprint(
    table: Table, names: Iterable[str], places: NDArray[np.intp]
) -> NDArray[np.uint64]:
    """Return a number for each row that is the same where its columns are."""
    out = np.zeros(len(places), dtype=np.uint64)
    for name in names:
        if table.kind(name) in ("numeric", "boolean", "empty"):
            own = (table.numeric(name)[places] + 0.0).view(np.uint64)
        else:
            own = table.codes(name)[0][places].astype(np.uint64)
        out = _mixed(out, own)
    return out


def _mixed(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix two numbers to one (the finaliser of splitmix64, Steele et al. 2014, OOPSLA)."""
    with np.errstate(over="ignore"):
        x = a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
