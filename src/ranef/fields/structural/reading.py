"""From a table to the arrays of a model: levels, groups, missing values, covariates held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import (
    DataError,
    DataWarning,
    ModelError,
    UnknownColumnError,
    row_text,
    suggestion,
    warn,
)
from ranef.fields.structural.messages import GroupData, LevelData
from ranef.fields.structural.parameters import ParameterTable
from ranef.fields.structural.problem import Coordinates
from ranef.fields.structural.syntax import Syntax
from ranef.tables import Table
from ranef.tables.accounting import Accounting

__all__ = [
    "Rows",
    "Values",
    "group_data",
    "homes",
    "kept_rows",
    "read_values",
    "refuse_matrix",
    "sample_moments",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
MISSING = ("listwise", "fiml", "raise")
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Values:
    """The columns that a model names.

    Attributes
    ----------
    columns : dict of str to (n,) array
        NaN where missing.
    clusters : tuple of (n,) int arrays
        Units of each level from 2 upwards, -1 where missing.
    labels : tuple of tuples
        Labels of the units.
    group : (n,) int array
        -1 where missing.
    groups : tuple of str
        Labels of the groups; one empty label where there are none.
    group_column : str or None
    cluster_columns : tuple of str
    """

    columns: Mapping[str, Floats]
    clusters: tuple[Ints, ...]
    labels: tuple[tuple[object, ...], ...]
    group: Ints
    groups: tuple[str, ...]
    group_column: str | None
    cluster_columns: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.group)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that are used.

    Attributes
    ----------
    accounting : Accounting
    places : tuple of int arrays
        By group: rows of the table, in the order of the units.
    units : tuple of tuples of int arrays
        By group and level from 2: which of `Values.labels` each unit is.
    """

    accounting: Accounting
    places: tuple[Ints, ...]
    units: tuple[tuple[Ints, ...], ...]


def refuse_matrix(table: Table) -> None:
    """Refuse a covariance or correlation matrix, whole or its lower triangle, given as rows."""
    names = [name for name in table.columns if table.kind(name) == "numeric"]
    if len(table) < 2 or len(names) != len(table) or len(table.columns) > len(names) + 1:
        return
    M = np.column_stack([table.numeric(name) for name in names])
    M = np.where(np.isnan(M), M.T, M)
    sizes = np.diag(M)
    if not (np.isfinite(M).all() and (sizes > 0).all() and np.allclose(M, M.T, rtol=1e-6)):
        return
    if np.all(np.abs(M) <= np.sqrt(np.outer(sizes, sizes)) * (1 + 1e-6)):
        kind = "correlation" if np.allclose(sizes, 1.0) else "covariance"
        raise DataError(
            f"the table is a {kind} matrix, {len(names)} symmetric rows of as many columns; the "
            "model is fitted to rows: give the table with a row for each person"
        )


def read_values(syntax: Syntax, table: Table, clusters: Sequence[str], group: str | None) -> Values:
    """Read the columns that a model names."""
    latent = {s.lhs for b in syntax.blocks for s in b.statements if s.op == "=~"}
    slopes = set(syntax.slopes)
    named = [n for b in syntax.blocks for s in b.statements for n in (s.lhs, s.rhs) if n]
    columns: dict[str, Floats] = {}
    for name in syntax.slopes:
        if name in table.columns:
            raise ModelError(f"the random slope {name!r} has the name of a column; rename it")
        if name in latent:
            raise ModelError(f"{name!r} is a latent variable and a random slope; rename one")
    for name in dict.fromkeys(named):
        if name in latent and name in table.columns:
            raise ModelError(
                f"{name!r} is a column of the table and cannot be latent as well; rename one"
            )
        if name in latent | slopes:
            continue
        if name not in table.columns:
            hint = suggestion(name, [*table.columns, *latent])
            raise UnknownColumnError(
                f"no column {name!r}{hint}; a latent variable is defined by =~"
            )
        if name in (group, *clusters):
            raise ModelError(f"{name!r} names units or groups and cannot be a variable as well")
        values = np.asarray(table.numeric(name), dtype=np.float64)
        infinite = np.isinf(values)
        if infinite.any():
            row = int(np.flatnonzero(infinite)[0])
            raise DataError(
                f"column {name!r} is infinite in {row_text(row)}; make it a missing value"
            )
        if np.nanmax(np.abs(values), initial=0.0) > LARGEST:
            raise DataError(
                f"column {name!r} has values beyond {LARGEST:.0e}, whose squares are no numbers "
                "any more; give it in other units"
            )
        columns[name] = values
    if not columns:
        raise ModelError("the model names no column of the table; its variables are columns")
    units, labels = _units(table, clusters)
    codes, groups = _groups(table, group)
    return Values(columns, units, labels, codes, groups, group, tuple(clusters))


def _units(
    table: Table, clusters: Sequence[str]
) -> tuple[tuple[Ints, ...], tuple[tuple[object, ...], ...]]:
    """Units of each level: those of an inner level are within one unit of each outer level."""
    found: list[Ints] = []
    labels: list[tuple[object, ...]] = []
    for name in clusters:
        _check_column(table, name, "cluster")
    outer: Ints | None = None
    for name in reversed(clusters):
        codes, levels = table.codes(name)
        own = np.asarray(codes, dtype=np.intp)
        named: list[object] = list(levels)
        if outer is not None:
            key = outer * (len(levels) + 1) + own
            key = np.where((own < 0) | (outer < 0), -1, key)
            keys, new = np.unique(key, return_inverse=True)
            shift = int(keys[0] == -1) if len(keys) else 0
            named = [levels[int(k) % (len(levels) + 1)] for k in keys[shift:]]
            own = new.ravel().astype(np.intp) - shift
        found.insert(0, own)
        labels.insert(0, tuple(named))
        outer = own
    return tuple(found), tuple(labels)


def _check_column(table: Table, name: object, argument: str) -> None:
    if not isinstance(name, str):
        raise ModelError(f"{argument} must name a column, not {type(name).__name__}")
    if name not in table.columns:
        raise UnknownColumnError(f"{argument}: no column {name!r}{suggestion(name, table.columns)}")


def _groups(table: Table, group: str | None) -> tuple[Ints, tuple[str, ...]]:
    if group is None:
        return np.zeros(table.n_rows, dtype=np.intp), ("",)
    _check_column(table, group, "group")
    codes, levels = table.codes(group)
    codes = np.asarray(codes, dtype=np.intp)
    used = np.unique(codes[codes >= 0])
    if len(used) > max(20, min(1000, len(codes) // 3)):
        raise DataError(f"group: column {group!r} has {len(used)} values; is it a measurement?")
    place = np.full(len(levels) + 1, -1, dtype=np.intp)
    place[used] = np.arange(len(used))
    names = [levels[int(k)] for k in used]
    text = tuple(f"{n:g}" if isinstance(n, float) else str(n) for n in names)
    return place[codes], text


def homes(syntax: Syntax, values: Values, levels: int) -> dict[str, int]:
    """Return the level on which each column varies; refuse one at the wrong level."""
    order = list(dict.fromkeys(b.level for b in syntax.blocks if b.level is not None))
    lowest: dict[str, int] = {}
    for block in syntax.blocks:
        level = 1 if block.level is None else _place(block.level, order)
        for s in block.statements:
            for name in (s.lhs, s.rhs):
                if name in values.columns:
                    lowest[name] = min(level, lowest.get(name, level))
    for name, level in lowest.items():
        if level > levels:
            continue  # refused with the level's block
        _check_home(name, level, values)
    return lowest


def _place(name: str, order: Sequence[str]) -> int:
    words = {"within": 1, "between": 2}
    return int(name) if name.isdecimal() else words.get(name.lower(), order.index(name) + 1)


def _check_home(name: str, level: int, values: Values) -> None:
    column = values.columns[name]
    seen = ~np.isnan(column)
    if not seen.any():
        raise DataError(f"column {name!r} holds no value")
    for above, codes in enumerate(values.clusters, start=2):
        own = seen & (codes >= 0)
        if not own.any():
            continue
        unit = values.cluster_columns[above - 2]
        n = int(codes.max()) + 1
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.minimum.at(low, codes[own], column[own])
        np.maximum.at(high, codes[own], column[own])
        spread = (high - low)[np.isfinite(low)]
        scale = float(np.abs(column[own]).max())
        constant = bool((spread <= 1e-12 * scale).all())
        if above <= level and not constant:
            raise DataError(
                f"column {name!r} stands under level {level} only, and varies within "
                f"{unit!r} (unit {values.labels[above - 2][int(np.argmax(high - low))]!r}); "
                f"name it under level 1 too, or give its means as a column of their own"
            )
        if column[own].max() == column[own].min():
            raise DataError(f"column {name!r} has one value in all rows; leave it out")
        if above > level and constant and len(spread) < own.sum():
            raise DataError(
                f"column {name!r} has one value in every unit of {unit!r}, so it varies at level "
                f"{above} and not at level {level}: name it under level {above} only"
            )


# --- rows


def kept_rows(values: Values, table: ParameterTable, home: Mapping[str, int], missing: str) -> Rows:
    """Decide which rows are used, and put them in the order of their units."""
    kept = np.ones(values.n, dtype=bool)
    counts: dict[str, int] = {}
    placed = dict(zip(values.cluster_columns, values.clusters, strict=True))
    if values.group_column is not None:
        placed[values.group_column] = values.group
    for name, codes in placed.items():
        absent = codes < 0
        if absent.any():
            if missing == "raise":
                row = int(np.flatnonzero(absent)[0])
                raise DataError(
                    f"column {name!r} is missing in {row_text(row)}; 'listwise' leaves such rows "
                    "out"
                )
            counts[name] = int(absent.sum())
            kept &= ~absent
    gaps = {name: np.isnan(column) for name, column in values.columns.items()}
    held = {n for names in table.names.values() for n in names.fixed}
    for name, gap in gaps.items():
        if not gap.any():
            continue
        if missing == "raise":
            row = int(np.flatnonzero(gap)[0])
            raise DataError(
                f"column {name!r} is missing in {row_text(row)}; missing='fiml' uses incomplete "
                "rows, 'listwise' leaves them out"
            )
        if missing == "listwise" or name in held:
            counts[name] = int((gap & kept).sum())
    drops = [gap for name, gap in gaps.items() if missing == "listwise" or name in held]
    if drops:
        kept &= ~np.any(drops, axis=0)
    rowwise = [name for name in values.columns if home.get(name, 1) == 1 and name not in held]
    if missing == "fiml" and rowwise:
        empty = kept & np.all([gaps[name] for name in rowwise], axis=0)
        between = any(home.get(name, 1) > 1 for name in values.columns)
        if empty.any() and not between:
            counts["every variable"] = int(empty.sum())
            kept &= ~empty
    places, units = [], []
    for g, label in enumerate(values.groups):
        rows = np.flatnonzero(kept & (values.group == g))
        if len(rows) == 0:
            of = f" of group {label!r}" if label else ""
            raise DataError(f"no row{of} is left: every one has a missing value")
        keys = [codes[rows] for codes in values.clusters]
        rows = rows[np.lexsort(keys)] if keys else rows
        places.append(rows)
        units.append(tuple(np.unique(codes[rows]) for codes in values.clusters))
    if len(values.groups) > 1 and values.clusters:
        _warn_of_shared(values, kept)
    used = np.zeros(values.n, dtype=bool)
    used[np.concatenate(places)] = True
    whole = bool(used.all())
    return Rows(
        Accounting(values.n, None if whole else used, {k: v for k, v in counts.items() if v}),
        tuple(places), tuple(units),
    )  # fmt: skip


def _warn_of_shared(values: Values, kept: NDArray[np.bool_]) -> None:
    top = values.clusters[-1]
    pairs = np.unique(np.column_stack([top[kept], values.group[kept]]), axis=0)
    unit, count = np.unique(pairs[:, 0], return_counts=True)
    if (count > 1).any():
        first = values.labels[-1][int(unit[count > 1][0])]
        warn(
            f"{int((count > 1).sum())} units of {values.cluster_columns[-1]!r}, such as {first!r}, "
            "have rows in several groups; they are taken as different units",
            DataWarning,
        )


def group_data(
    values: Values, rows: Rows, g: int, coordinates: Coordinates, home: Mapping[str, int]
) -> GroupData:
    """Return the arrays of one group."""
    own = rows.places[g]
    y = np.column_stack([values.columns[n][own] for n in coordinates.y]) if coordinates.y else (
        np.zeros((len(own), 0))
    )  # fmt: skip
    x = np.column_stack([values.columns[n][own] for n in coordinates.x]) if coordinates.x else (
        np.zeros((len(own), 0))
    )  # fmt: skip
    center = _means(y)
    levels, centers = [], []
    below = np.arange(len(own))
    unit_below = below
    for k, codes in enumerate(values.clusters):
        units, unit_of_row = np.unique(codes[own], return_inverse=True)
        order = np.argsort(_first_rows(unit_of_row.ravel()), kind="stable")
        rank = np.empty(len(order), dtype=np.intp)
        rank[order] = np.arange(len(order))
        unit = rank[unit_of_row.ravel()]
        z = np.column_stack(
            [_of_units(values.columns[n][own], unit, len(units)) for n in coordinates.seen[k]]
        ) if coordinates.seen and coordinates.seen[k] else np.zeros((len(units), 0))  # fmt: skip
        parent = np.zeros(int(unit_below.max()) + 1 if len(own) else 0, dtype=np.intp)
        parent[unit_below] = unit
        means = _means(z)
        levels.append(LevelData(z - means, parent))
        centers.append(means)
        unit_below = unit
    if not coordinates.unseen:
        levels, centers = [], []
    return GroupData(y - center, x, tuple(levels), center, tuple(centers))


def _first_rows(codes: Ints) -> Ints:
    first = np.full(int(codes.max()) + 1 if len(codes) else 0, len(codes), dtype=np.intp)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first


def _means(values: Floats) -> Floats:
    counts = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    return np.asarray(np.nansum(values, axis=0) / counts)


def _of_units(column: Floats, unit: Ints, count: int) -> Floats:
    """The one value of each unit."""
    out = np.full(count, np.nan)
    seen = ~np.isnan(column)
    out[unit[seen]] = column[seen]
    return out


def sample_moments(
    table: ParameterTable, g: int, values: Values, rows: Rows
) -> tuple[dict[int, dict[tuple[str, str], float]], float]:
    """Return moments of the covariates that are held, by level, and -2 log L of them alone."""
    found: dict[int, dict[tuple[str, str], float]] = {}
    deviance = 0.0
    random = any(r.slope is not None for r in table.block(g, 1))
    own = rows.places[g]
    for level in range(1, table.levels + 1):
        names = table.names[g, level].fixed
        if not names:
            continue
        X = np.column_stack([values.columns[n][own] for n in names])
        if level > 1:
            codes = values.clusters[level - 2][own]
            _, first = np.unique(codes, return_index=True)
            X = X[first]
        n, k = X.shape
        mean = X.mean(axis=0)
        S = (X - mean).T @ (X - mean) / n
        sd = np.sqrt(np.diag(S))
        if not (sd > 1e-12 * np.maximum(np.abs(mean), 1e-300)).all():
            bad = names[int(np.argmin(sd))]
            raise DataError(f"covariate {bad!r} does not vary at level {level}; leave it out")
        smallest = np.linalg.eigvalsh(S / np.outer(sd, sd))[0]
        if smallest < 1e-11:
            raise DataError(
                f"the covariates {', '.join(names)} of level {level} are collinear; leave one out"
            )
        cells = {(a, b): float(S[i, j]) for i, a in enumerate(names) for j, b in enumerate(names)}
        found[level] = cells | {(a, ""): float(mean[i]) for i, a in enumerate(names)}
        if not (level == 1 and random):
            deviance += n * (k * np.log(2 * np.pi) + float(np.linalg.slogdet(S)[1]) + k)
    return found, deviance
