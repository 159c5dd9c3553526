"""Rows cut into folds: by groups, by rows, by time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.fits.columns import column_of, groups_of, labels_of
from ranef.fits.mixed import MixedFit
from ranef.questions.selection.held_out import Fold
from ranef.questions.selection.left_out import rows_of

__all__ = ["BY", "Folding", "by_group", "by_row", "folded", "of_the_future", "whole_group"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

BY = ("group", "row", "future")
FOLDS = 10
ORIGINS = 5


@dataclass(frozen=True, eq=False)
class Folding:
    """A plan of a cross-validation.

    Attributes
    ----------
    by : str
    group : str
        Name of the groups, or of the time; empty of rows.
    folds : list of Fold
    labels : list
        Of the units, by their numbers.
    """

    by: str
    group: str
    folds: list[Fold]
    labels: list[Any]

    @property
    def focus(self) -> str:
        """The question that it answers."""
        return "population" if self.by == "group" else "individual"


def whole_group(fit: MixedFit, question: str) -> str:
    """The factor whose levels are new groups: all others are nested in it."""
    factors = fit.factors
    if not factors:
        raise ModelError(
            f"{question} leaves out groups, and the model has none; name the column of the groups"
        )
    for factor in factors:
        if all(other.lies_within(factor.codes) for other in factors):
            return factor.name
    names = ", ".join(factor.name for factor in factors)
    raise ModelError(
        f"the model has grouping factors of which none holds all others ({names}): say which has "
        "new levels"
    )


def by_group(fit: MixedFit, folds: int | None, group: Any, rng: np.random.Generator) -> Folding:
    """Whole groups left out, a tenth of them at a time, or `folds` parts."""
    named = whole_group(fit, "by='group'") if group is None else group
    codes, labels, name = groups_of(fit, named)
    count = len(labels)
    if count < 2:
        raise ModelError(f"{name} has one level, and cross-validation by groups needs two or more")
    parts = _parts(count, min(folds or FOLDS, count), rng)
    rows = rows_of(codes)
    found = [Fold(~np.isin(codes, part), part, [rows[g] for g in part]) for part in parts]
    return Folding("group", name, found, list(labels_of(labels)))


def by_row(fit: MixedFit, folds: int | None, rng: np.random.Generator) -> Folding:
    """Single rows left out, a tenth of them at a time, or `folds` parts."""
    n = fit.n_obs
    parts = _parts(n, min(folds or FOLDS, n), rng)
    found = [
        Fold(~np.isin(np.arange(n), part), part, [np.array([i]) for i in part]) for part in parts
    ]
    return Folding("row", "", found, list(range(n)))


def _parts(count: int, folds: int, rng: np.random.Generator) -> list[Ints]:
    if folds < 2:
        raise ModelError("folds must be 2 or more")
    return [np.sort(part) for part in np.array_split(rng.permutation(count), folds)]


def of_the_future(fit: MixedFit, folds: int | None, time: Any, group: Any) -> Folding:
    """The rows after a time predicted from those before it, the times in the second half in turn.

    A unit is what one group has in one stretch of time.
    """
    name, when = _times(fit, time)
    times = np.unique(when)
    steps = min(folds or ORIGINS, len(times) - 1)
    if steps < 1:
        raise ModelError(f"{name} has one value, and there is no future to predict")
    first = max(1, min(len(times) // 2, len(times) - steps))
    cuts = np.unique(np.linspace(first, len(times), steps + 1).round().astype(int))
    codes, labels = np.zeros(fit.n_obs, dtype=np.intp), ["all"]
    if fit.factors or group is not None:
        named = whole_group(fit, "by='future'") if group is None else group
        codes, levels, _ = groups_of(fit, named)
        labels = list(labels_of(levels))
    found: list[Fold] = []
    units: list[str] = []
    for start, end in pairwise(cuts):
        keep, ahead = when < times[start], (when >= times[start]) & (when <= times[end - 1])
        sets, numbers = [], []
        for g in np.unique(codes[ahead]):
            sets.append(np.flatnonzero(ahead & (codes == g)))
            numbers.append(len(units))
            units.append(f"{labels[g]}, {name} from {times[start]:g}")
        if keep.any() and sets:
            found.append(Fold(keep, np.array(numbers), sets))
    return Folding("future", name, found, units)


def _times(fit: MixedFit, time: Any) -> tuple[str, Floats]:
    if time is None:
        raise ModelError(
            "by='future' needs the order of the rows: time= the name of a column, or one number a "
            "row"
        )
    values, name = column_of(fit, time, "time")
    if not np.all(np.isfinite(values)):
        raise ModelError(f"time ({name}) is missing in rows of the model; leave these out")
    return name, values


def folded(
    fit: MixedFit,
    by: str,
    *,
    folds: int | None,
    group: Any,
    time: Any,
    rng: np.random.Generator,
) -> Folding:
    """Cut the rows of a fit."""
    if by != "future" and time is not None:
        raise ModelError("time belongs to by='future'")
    if by == "group":
        return by_group(fit, folds, group, rng)
    if by == "row":
        if group is not None:
            raise ModelError("group belongs to by='group' and by='future'")
        return by_row(fit, folds, rng)
    return of_the_future(fit, folds, time, group)
