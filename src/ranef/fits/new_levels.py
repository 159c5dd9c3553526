"""Levels of a table that the fit has not seen: numbered, refused, or taken as zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError, LevelError, ModelError
from ranef.fits.new_rows import read_parts, read_rows
from ranef.formula.labels import count_text, list_text
from ranef.inference.draws.simulation import SimulatedRows
from ranef.inference.rows.history import Observed, ObservedParts
from ranef.inference.rows.parts import Rows
from ranef.models.records import GeneralisedEstimate
from ranef.models.rows import NewRows
from ranef.tables import Table
from ranef.tables.frame import Frame

__all__ = [
    "NEW_LEVELS",
    "Places",
    "check_history",
    "history_of",
    "history_of_parts",
    "placed",
    "placed_parts",
    "settled",
    "settled_parts",
    "simulated_parts",
    "simulated_rows",
]

NEW_LEVELS = ("draw", "zero", "raise")


@dataclass(frozen=True, eq=False)
class Places:
    """Codes of levels that the fit has not seen, by factor: from its number of levels on.

    Attributes
    ----------
    codes : tuple of dict
        From the level's parts in print.
    """

    codes: tuple[Mapping[tuple[str, ...], int], ...]

    @classmethod
    def of(cls, spec: Specification, table: Table, kept: NDArray[np.bool_] | None) -> Places:
        """Number the levels of a table in order of first use."""
        found = []
        for f, factor in enumerate(spec.factors):
            codes, labels = spec.recipe.unseen(table, f)
            used = codes if kept is None else codes[kept]
            order = dict.fromkeys(int(k) for k in used[used >= 0])
            found.append({labels[k]: factor.n_levels + j for j, k in enumerate(order)})
        return cls(tuple(found))

    @property
    def labels(self) -> list[list[str]]:
        """Names of the levels of each factor."""
        return [[":".join(parts) for parts in one] for one in self.codes]


def placed(
    spec: Specification, rows: NewRows, table: Table, frame: Frame, places: Places
) -> NewRows:
    """Give levels that the fit has not seen their codes; others that are new keep -1."""
    kept = frame.accounting.kept
    random = []
    for term, (codes, z) in zip(spec.terms, rows.random or (), strict=True):
        unseen, labels = spec.recipe.unseen(table, term.factor)
        known = places.codes[term.factor]
        numbers = np.array([*(known.get(label, -1) for label in labels), -1], dtype=np.int32)
        new = numbers[unseen if kept is None else unseen[kept]]
        random.append((np.where(codes >= 0, codes, new).astype(np.int32), z))
    return replace(rows, random=random)


def placed_parts(
    estimate: GeneralisedEstimate,
    rows: Rows,
    table: Table,
    frame: Frame,
    places: Mapping[str, Places],
) -> Rows:
    """Do the same for every part."""
    parts = {
        name: placed(spec, rows.parts[name], table, frame, places[name])
        for name, spec in estimate.parts.items()
    }
    return Rows(parts, rows.extra)


# --- what becomes of them in a prediction


def settled(spec: Specification, rows: NewRows, table: Table, frame: Frame, policy: str) -> NewRows:
    """Refuse rows of levels that the fit has not seen, or take their effects as zero."""
    if policy == "draw" or rows.random is None:
        return rows
    random = []
    for term, (codes, z) in zip(spec.terms, rows.random, strict=True):
        unseen = codes < 0
        if policy == "raise" and unseen.any():
            _refuse(spec, term.factor, table, frame, int(unseen.sum()))
        random.append((codes, np.where(unseen[:, None], 0.0, z)))
    return replace(rows, random=random)


def settled_parts(
    estimate: GeneralisedEstimate, rows: Rows, table: Table, frame: Frame, policy: str
) -> Rows:
    """Do the same for every part."""
    parts = {
        name: settled(spec, rows.parts[name], table, frame, policy)
        for name, spec in estimate.parts.items()
    }
    return Rows(parts, rows.extra)


def _refuse(spec: Specification, factor: int, table: Table, frame: Frame, count: int) -> None:
    places = Places.of(spec, table, frame.accounting.kept)
    names = places.labels[factor]
    raise LevelError(
        f"{spec.factors[factor].name} has {count_text(len(names), 'level')} that the fit has not "
        f"seen: {list_text(names)} (in {count_text(count, 'row')}); new_levels='draw' predicts "
        "them from the fitted distribution, history= from observations of their own"
    )


# --- observations of levels


def check_history(kind: str) -> None:
    """Refuse a history where it says nothing."""
    if kind != "conditional":
        raise ModelError(
            f"history= tells of the random effects of levels, which kind={kind!r} does not use; "
            "ask for kind='conditional'"
        )


def history_of(spec: Specification, history: Any) -> tuple[Observed, Places]:
    """Read rows with a response for a linear model."""
    table = Table.of(history)
    rows, frame = read_rows(spec, table, "own")
    y = _responses(spec.recipe.response(table), frame)
    places = Places.of(spec, table, frame.accounting.kept)
    found = placed(spec, rows, table, frame, places)
    return Observed(found, y, places.labels), places


def history_of_parts(
    estimate: GeneralisedEstimate, history: Any
) -> tuple[ObservedParts, dict[str, Places]]:
    """Read rows with a response for every part of a generalised model."""
    table = Table.of(history)
    rows, frame = read_parts(estimate, table, "own", trials=True)
    spec = estimate.specification
    values, extra = spec.recipe.response_and_extra(table)
    y = _responses(values, frame)
    if extra is not None and estimate.extra is not None:
        kept = frame.accounting.kept
        rows = Rows(rows.parts, extra if kept is None else extra[kept])
    estimate.family.check(y, rows.extra if estimate.extra is not None else None,
                          zero="zero" in estimate.parts)  # fmt: skip
    kept = frame.accounting.kept
    places = {name: Places.of(one, table, kept) for name, one in estimate.parts.items()}
    found = placed_parts(estimate, rows, table, frame, places)
    labels = {name: one.labels for name, one in places.items()}
    return ObservedParts(found, y, labels), places


def _responses(values: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    kept = frame.accounting.kept
    y = values if kept is None else values[kept]
    gone = int(np.sum(~np.isfinite(y)))
    if gone:
        raise DataError(
            f"the response of the history is missing in {count_text(gone, 'row')}; leave such "
            "rows out"
        )
    if not len(y):
        raise DataError("every row of the history lacks a value")
    return y


# --- rows to draw responses for


def simulated_rows(spec: Specification, new: Any) -> tuple[SimulatedRows, Frame]:
    """Read a table to draw responses for; each new level has an effect of its own."""
    table = Table.of(new)
    rows, frame = read_rows(spec, table, "own")
    places = Places.of(spec, table, frame.accounting.kept)
    found = placed(spec, rows, table, frame, places)
    levels = _level_counts(spec, places)
    any_new = any(places.codes)
    random = tuple(found.random or ())
    return SimulatedRows(found.X, found.offset, found.weights, random, levels, any_new), frame


def simulated_parts(estimate: GeneralisedEstimate, new: Any) -> tuple[Rows, tuple[int, ...], Frame]:
    """Do the same for every part; also the number of levels of each term."""
    table = Table.of(new)
    rows, frame = read_parts(estimate, table, "own", trials=True)
    kept = frame.accounting.kept
    places = {name: Places.of(one, table, kept) for name, one in estimate.parts.items()}
    found = placed_parts(estimate, rows, table, frame, places)
    levels: list[int] = []
    for component in estimate.components:
        if component.specification is not None:
            levels += _level_counts(component.specification, places[component.name])
    return found, tuple(levels), frame


def _level_counts(spec: Specification, places: Places) -> tuple[int, ...]:
    return tuple(spec.factors[t.factor].n_levels + len(places.codes[t.factor]) for t in spec.terms)
