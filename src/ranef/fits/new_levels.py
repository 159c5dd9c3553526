"""Levels of a table that the fit has not seen: numbered, refused, or taken as zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import DataError, LevelError, ModelError
from ranef.fits.estimability import Redundant, row_names, undetermined_words
from ranef.fits.new_rows import read_rows
from ranef.formula.labels import count_text, list_text
from ranef.inference.rows.history import ObservedParts
from ranef.models.records import Estimate
from ranef.models.rows import PartRows, Rows
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = [
    "NEW_LEVELS",
    "check_history",
    "history_of",
    "placed",
    "settled",
    "simulated_rows",
]


class Reading(Redundant, Protocol):
    """A fit as tables are read for it."""

    @property
    def estimate(self) -> Estimate: ...


Pair = tuple[NDArray[np.int32], NDArray[np.float64]]

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
        factors = range(len(spec.factors))
        return cls(tuple(cls.of_factor(spec, table, kept, f) for f in factors))

    @staticmethod
    def of_factor(
        spec: Specification, table: Table, kept: NDArray[np.bool_] | None, factor: int
    ) -> dict[tuple[str, ...], int]:
        """Number the levels of one factor."""
        codes, labels = spec.recipe.unseen(table, factor)
        used = codes if kept is None else codes[kept]
        order = dict.fromkeys(int(k) for k in used[used >= 0])
        first = spec.factors[factor].n_levels
        return {labels[k]: first + j for j, k in enumerate(order)}

    @property
    def labels(self) -> list[list[str]]:
        """Names of the levels of each factor."""
        return [[":".join(parts) for parts in one] for one in self.codes]


def placed(
    parts: Mapping[str, Specification],
    rows: Rows,
    table: Table,
    frame: Origin,
    places: Mapping[str, Places],
) -> Rows:
    """Give levels that the fit has not seen their codes; others that are new keep -1."""
    kept = frame.accounting.kept
    found = {}
    for name, spec in parts.items():
        own, random = rows.parts[name], []
        for term, (codes, z) in _paired(spec, own):
            unseen, labels = spec.recipe.unseen(table, term.factor)
            known = places[name].codes[term.factor]
            numbers = np.array([*(known.get(label, -1) for label in labels), -1], dtype=np.int32)
            new = numbers[unseen if kept is None else unseen[kept]]
            random.append((np.where(codes >= 0, codes, new).astype(np.int32), z))
        found[name] = replace(own, random=random)
    return Rows(found, rows.extra)


def _paired(spec: Specification, rows: PartRows) -> Iterator[tuple[RandomTerm, Pair]]:
    """Random terms with the codes and matrices of rows that have them all."""
    return zip(spec.terms, rows.random or (), strict=True)


def places_of(parts: Mapping[str, Specification], table: Table, frame: Origin) -> dict[str, Places]:
    """Number the levels that the fit has not seen, part by part."""
    return {name: Places.of(spec, table, frame.accounting.kept) for name, spec in parts.items()}


# --- what becomes of them in a prediction


def settled(
    parts: Mapping[str, Specification], rows: Rows, table: Table, frame: Origin, policy: str
) -> Rows:
    """Refuse rows of levels that the fit has not seen, or take their effects as zero."""
    if policy == "draw":
        return rows
    found = {}
    for name, spec in parts.items():
        own, random = rows.parts[name], []
        if own.random is None:
            return rows
        for term, (codes, z) in _paired(spec, own):
            if term.member is not None:
                random.append((codes, _settled_members(spec, term, z, table, policy)))
                continue
            unseen = codes < 0
            if policy == "raise" and unseen.any():
                _refuse(spec, term.factor, table, frame, int(unseen.sum()))
            random.append((codes, np.where(unseen[:, None], 0.0, z)))
        found[name] = replace(own, random=random)
    return Rows(found, rows.extra)


def _settled_members(
    spec: Specification, term: RandomTerm, z: NDArray[np.float64], table: Table, policy: str
) -> NDArray[np.float64]:
    """Take the effects of memberships that the fit has not seen as zero, or refuse them."""
    levels, count = spec.recipe.absent_members(table, term.factor)
    if policy == "raise" and levels:
        raise LevelError(
            f"{spec.factors[term.factor].name} has {count_text(len(levels), 'level')} that the "
            f"fit has not seen: {list_text(levels)} (in {count_text(count, 'row')}); "
            "new_levels='draw' predicts them from the fitted distribution"
        )
    out = z.copy()
    out[:, -1] = 0.0
    return out


def refuse_new_members(parts: Mapping[str, Specification], table: Table, what: str) -> None:
    """Refuse rows that belong to levels of memberships that the fit has not seen."""
    for spec in parts.values():
        for f, factor in enumerate(spec.factors):
            levels, count = spec.recipe.absent_members(table, f)
            if levels:
                raise LevelError(
                    f"{factor.name} has {count_text(len(levels), 'level')} that the fit has not "
                    f"seen: {list_text(levels)} (in {count_text(count, 'row')}); {what} takes "
                    "memberships in levels of the fit"
                )


def _refuse(spec: Specification, factor: int, table: Table, frame: Origin, count: int) -> None:
    unseen = Places.of_factor(spec, table, frame.accounting.kept, factor)
    names = [":".join(parts) for parts in unseen]
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


def history_of(fit: Reading, history: Any) -> tuple[ObservedParts, dict[str, Places]]:
    """Read rows with a response for every part of a model."""
    table, parts, estimate = Table.of(history), fit.parts, fit.estimate
    precise = estimate.sigma is not None
    rows, frame = read_rows(
        fit, table, "own", trials=not precise, weights=precise, noise="together"
    )
    words = undetermined_words(fit, rows, parts, row_names(frame))
    if words is not None:
        raise DataError(
            f"{words}; leave such rows out of the history, since what their response says of "
            "the random effects is not determined either"
        )
    values, extra = estimate.specification.recipe.response_and_extra(table)
    y = _responses(values, frame)
    if extra is not None and estimate.extra is not None:
        kept = frame.accounting.kept
        rows = Rows(rows.parts, extra if kept is None else extra[kept])
    own = rows.extra if estimate.extra is not None else None
    estimate.family.check(y, own, zero="zero" in parts)
    refuse_new_members(parts, table, "history=")
    places = places_of(parts, table, frame)
    found = placed(parts, rows, table, frame, places)
    return ObservedParts(found, y, {name: one.labels for name, one in places.items()}), places


def _responses(values: NDArray[np.float64], frame: Origin) -> NDArray[np.float64]:
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


def simulated_rows(fit: Reading, new: Any) -> tuple[Rows, tuple[int, ...], Origin]:
    """Read a table to draw responses for; each new level has an effect of its own.

    Returns the rows, the number of levels of each random term, and where the rows are from.
    """
    table, parts, estimate = Table.of(new), fit.parts, fit.estimate
    precise = estimate.sigma is not None
    rows, frame = read_rows(
        fit, table, "own", trials=not precise, weights=precise, noise="together"
    )
    refuse_new_members(parts, table, "simulate()")
    places = places_of(parts, table, frame)
    found = placed(parts, rows, table, frame, places)
    levels: list[int] = []
    for component in estimate.components:
        spec = component.specification
        if spec is None or not component.terms:
            continue
        counts = _level_counts(spec, places[component.name])
        # a tied term belongs to several components, and is counted with the first
        for t, count in zip(component.terms, counts, strict=True):
            if t == len(levels):
                levels.append(count)
    return found, tuple(levels), frame


def _level_counts(spec: Specification, places: Places) -> tuple[int, ...]:
    return tuple(spec.factors[t.factor].n_levels + len(places.codes[t.factor]) for t in spec.terms)
