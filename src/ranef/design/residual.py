"""The covariance of residuals: positions, groups and scales of the rows.

A residual structure is read with the formula: its columns count for what is missing, its
positions by their values and never by the order of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.between_rows import HETEROGENEOUS, ON_COORDINATES, RESIDUAL_STRUCTURES
from ranef.design.grouping import GroupRecipe
from ranef.design.matrix import INTERCEPT, lay_out, model_matrix
from ranef.design.random import factor_of
from ranef.design.rank import independent_columns
from ranef.design.terms import (
    FITTED_MEAN,
    GroupingFactor,
    ResidualPart,
    ResidualScale,
    ResidualTerm,
)
from ranef.design.values import Categories, Numbers, drop_unused, match_levels
from ranef.design.variables import Frame
from ranef.errors import DataError, FormulaError, LevelError, ModelError, row_text
from ranef.formula.labels import count_text, level_text, list_text, number_text
from ranef.formula.model import Model, Terms
from ranef.formula.residuals import ResidualStructure, dispersion_model, read_residual
from ranef.formula.syntax import Call, Name, Node
from ranef.tables import Table
from ranef.tables.moments import are_dates, are_times, written_times

__all__ = ["Places", "ResidualReader", "ResidualRecipe"]

Floats = NDArray[np.float64]

LAGGED = frozenset({"ar1", "hetar1", "toep", "homtoep", "arma"})
"""Structures over whole steps of time."""
NAMED = frozenset({"us", "cs", "toep", "homtoep", "ante", "homante", "hetar1"})
"""Structures whose parameters belong to single places."""
MANY = 60
"""Places of an unstructured or antedependent covariance at most."""
HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True, eq=False)
class Places:
    """Where rows can stand in one part.

    Attributes
    ----------
    levels : tuple or None
        Of a factor, in order; None of numbers.
    values : (r,) float64 array or None
        Of numbers that are few places; None where coordinates count as they are.
    """

    levels: tuple[Any, ...] | None
    values: Floats | None


@dataclass(frozen=True, eq=False)
class ResidualRecipe:
    """How to find where the rows of another table stand.

    Attributes
    ----------
    residual, dispersion : str or None
        As typed.
    group, by : GroupRecipe or None
    places : tuple of Places
        Of each part.
    cells : tuple of (int, int)
        Level of `by` and place, -1 for all, that have a standard deviation of their own.
    kept : tuple of int
        Columns of the dispersion's model matrix that are not redundant.
    """

    residual: str | None
    dispersion: str | None
    group: GroupRecipe | None
    by: GroupRecipe | None
    places: tuple[Places, ...]
    cells: tuple[tuple[int, int], ...]
    kept: tuple[int, ...]


class ResidualReader:
    """Reads `residual=` and `dispersion=` against a frame, before and after rows are left out."""

    def __init__(self, residual: str | None, dispersion: str | None) -> None:
        self.model = None if residual is None else read_residual(residual, RESIDUAL_STRUCTURES)
        self.parts = () if self.model is None else self.model.parts
        self.dispersion = dispersion
        self.scale: Model | None = None
        self.of_mean = False
        if dispersion is not None:
            self.scale, self.of_mean = _scale_model(dispersion)
        self.group = self.parts[0].group if self.parts else None
        self.by = self.parts[0].by if self.parts else None

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that are used."""
        nodes: list[Node] = []
        for part in self.parts:
            nodes += part.left.variables
        for grouping in (self.group, self.by):
            nodes += [] if grouping is None else grouping.nodes
        if self.scale is not None:
            nodes += self.scale.fixed.variables
        return tuple(dict.fromkeys(name for node in nodes for name in node.named))

    def check_kinds(self, recipe: ResidualRecipe, table: Table) -> None:
        """Refuse text in place of the numbers that rows of the fit were placed by.

        Predictions of the mean do not read the places; a wrong one is no less a mistake.
        """
        for part, places in zip(self.parts, recipe.places, strict=True):
            if places.levels is not None:
                continue
            for node in part.left.variables:
                name = node.bare.value if isinstance(node.bare, Name) else None
                if name is None or name not in table or table.missing(name).all():
                    continue
                kind = table.kind(name)
                timed = part.kind in ON_COORDINATES
                if kind not in ("text", "categorical") or (timed and are_times(table, name)):
                    continue
                raise DataError(
                    f"{name} holds categories here (such as {table.codes(name)[1][0]!r}), and "
                    f"numbers{' or times' if timed else ''} in the rows that the model was fitted "
                    "to; convert it"
                )

    def read(self, frame: Frame, scales: bool = False) -> None:
        """Evaluate every column, and note where it is missing.

        `scales` reads what the standard deviation of a row depends on, and no groups.
        """
        for part in self.parts:
            if scales and part.kind not in HETEROGENEOUS | {"us"}:
                continue
            for node, key in zip(part.left.variables, part.left.keys, strict=True):
                _add_position(frame, node, key, part.kind in ON_COORDINATES)
        for grouping in (self.by,) if scales else (self.group, self.by):
            for node in () if grouping is None else grouping.nodes:
                frame.add_group(node)
        if self.scale is not None:
            for node in _bases_of_powers(str(self.dispersion)):
                _refuse_zero(frame.scope.evaluate(node), node.printed)
            frame.add_terms(self.scale.fixed)

    def term(self, frame: Frame) -> tuple[ResidualTerm, ResidualRecipe]:
        """Make the arrays of the rows kept."""
        group = None if self.group is None else factor_of(self.group, frame)
        by = None if self.by is None else factor_of(self.by, frame)
        found = [_placed(part, frame) for part in self.parts]
        parts = tuple(part for part, _ in found)
        factor = None if group is None else group[1]
        if self.parts and group is None:
            factor = GroupingFactor("all rows", (), np.zeros(frame.n_rows, np.int32), ["all"])
        if by is not None and factor is not None and not factor.lies_within(by[1].codes):
            raise ModelError(
                f"{self.text}: by={by[1].name} must be the same in all rows of a group; "
                f"some levels of {factor.name} have several"
            )
        if factor is not None:
            self._check_apart(parts, factor, frame.rows)
            parts = tuple(_with_lags(part, factor) for part in parts)
        cells, scales = self._cells(parts, None if by is None else by[1])
        own = _cell_columns(cells, parts, None if by is None else by[1].codes, frame.n_rows)
        more, matrix, kept = _dispersion_columns(self.scale, frame, own)
        term = ResidualTerm(
            self.text,
            factor,
            parts,
            None if by is None else by[1],
            (*scales, *more, *([ResidualScale("power", FITTED_MEAN)] * self.of_mean)),
            np.ascontiguousarray(np.hstack([own, matrix, *self._mean_column(frame)])),
            self.dispersion,
        )
        recipe = ResidualRecipe(
            None if self.model is None else self.text,
            self.dispersion,
            None if group is None else group[0],
            None if by is None else by[0],
            tuple(places for _, places in found),
            cells,
            kept,
        )
        return term, recipe

    def scaled_alone(
        self, recipe: ResidualRecipe, own: ResidualTerm, frame: Frame
    ) -> ResidualTerm | None:
        """Make the arrays of single rows of another table, of which no two are correlated.

        None where all rows have the variance sigma^2.
        """
        parts = [part for part in own.parts if part.kind in HETEROGENEOUS | {"us"}]
        if not parts and not own.scales:
            return None
        by = self._by_of(recipe, own, frame)
        one = np.zeros(frame.n_rows, dtype=np.int64)
        found = tuple(
            replace(part, where=_where(written, places, frame)) if part in parts
            else replace(part, where=one if part.names else np.zeros((frame.n_rows, _width(part))))
            for written, places, part in zip(self.parts, recipe.places, own.parts, strict=True)
        )  # fmt: skip
        W = self._columns_of(recipe, found, by, frame)
        return replace(own, group=None, parts=found, by=by, W=W)

    def together(self, recipe: ResidualRecipe, own: ResidualTerm, frame: Frame) -> ResidualTerm:
        """Make the arrays of all rows of another table, correlated within its groups.

        A group that the fit has not seen has a code from its number of levels on.
        """
        by = self._by_of(recipe, own, frame)
        group = own.group
        if recipe.group is not None and self.group is not None and own.group is not None:
            values = [frame.group(key) for key in self.group.keys]
            codes, (new, labels) = recipe.group.codes(values), recipe.group.unseen(values)
            codes = np.where(codes < 0, own.group.n_levels + new, codes).astype(np.int32)
            names = [*own.group.levels, *(":".join(label) for label in labels)]
            group = GroupingFactor(own.group.name, own.group.columns, codes, names)
        elif own.group is not None:
            zero = np.zeros(frame.n_rows, dtype=np.int32)
            group = GroupingFactor(own.group.name, (), zero, own.group.levels)
        parts = tuple(
            replace(part, where=_anywhere(written, part, places, frame))
            for written, places, part in zip(self.parts, recipe.places, own.parts, strict=True)
        )
        if group is not None:
            self._check_apart(parts, group, frame.rows)
        W = self._columns_of(recipe, parts, by, frame)
        return replace(own, group=group, parts=parts, by=by, W=W)

    def _by_of(
        self, recipe: ResidualRecipe, own: ResidualTerm, frame: Frame
    ) -> GroupingFactor | None:
        """The levels of `by` of another table."""
        if recipe.by is None or own.by is None or self.by is None:
            return None
        codes = recipe.by.codes([frame.group(key) for key in self.by.keys])
        if (codes < 0).any():
            raise LevelError(
                f"{own.by.name} has a level that the fit has not seen, whose residuals have "
                "parameters of their own; leave such rows out"
            )
        return GroupingFactor(own.by.name, own.by.columns, codes, own.by.levels)

    def _columns_of(
        self,
        recipe: ResidualRecipe,
        parts: Sequence[ResidualPart],
        by: GroupingFactor | None,
        frame: Frame,
    ) -> Floats:
        """Columns of the log standard deviation of another table."""
        columns = _cell_columns(recipe.cells, parts, None if by is None else by.codes, frame.n_rows)
        if self.scale is not None:
            variables = frame.variables(self.scale.fixed)
            layout = lay_out(self.scale.fixed, variables, frame.n_rows)
            M = model_matrix(layout, variables, frame.n_rows)
            columns = np.hstack([columns, M[:, list(recipe.kept)]])
        return np.ascontiguousarray(np.hstack([columns, *self._mean_column(frame)]))

    def _mean_column(self, frame: Frame) -> list[Floats]:
        """Room for the logarithm of the fitted mean, which the fit fills in."""
        return [np.zeros((frame.n_rows, 1))] * self.of_mean

    @property
    def text(self) -> str:
        return "" if self.model is None else self.model.text

    def _check_apart(
        self, parts: Sequence[ResidualPart], factor: GroupingFactor, rows: NDArray[np.intp]
    ) -> None:
        """No two rows of a group may stand at one place, unless a nugget tells them apart."""
        written = self.parts
        if any(part.nugget for part in parts) or not any(part.left.variables for part in written):
            return
        if not len(factor.codes):
            return
        columns = [
            np.asarray(part.where, dtype=np.float64).reshape(len(factor.codes), -1)
            for part in parts
        ]
        stacked = np.column_stack([factor.codes.astype(np.float64), *columns])
        order = np.lexsort(stacked.T[::-1])
        same = np.flatnonzero(np.all(np.diff(stacked[order], axis=0) == 0, axis=1))
        if not len(same):
            return
        a, b = sorted(int(row) for row in order[same[0] : same[0] + 2])
        told = "leave one of the two out"
        if len(same) > 1:
            told = f"there are {len(same):,} such pairs, leave out what came twice"
        where = ", ".join(part.text for part in written if part.left.variables)
        at = "one place" if len(parts) > 1 else f"the same {where}"
        nugget = "; a nugget (nugget=True) allows it" if written[0].kind in ON_COORDINATES else ""
        anew = ""
        if factor.columns and written[0].kind in ("ar1", "arma", "homtoep"):
            within = f"{'/'.join(factor.columns)}/day"
            anew = f"; where {where} begins anew each day, write {where} | {within}"
        level = factor.levels[factor.codes[a]]
        raise DataError(
            f"{self.text}: {factor.name} {level_text(level)} has two rows at {at} "
            f"({row_text(int(rows[a]))} and {row_text(int(rows[b]))}); each place may be taken "
            f"once: {told}{nugget}{anew}"
        )

    def _cells(
        self, parts: Sequence[ResidualPart], by: GroupingFactor | None
    ) -> tuple[tuple[tuple[int, int], ...], tuple[ResidualScale, ...]]:
        """Levels of `by` and places with a standard deviation of their own, but the first."""
        levels = [""] if by is None else [f"{by.name}{level_text(v)}" for v in by.levels]
        own = [part for part in parts if part.kind in HETEROGENEOUS]
        if len(own) > 1:
            raise ModelError(
                f"{self.text}: one part of a product may have standard deviations of its own; use "
                "the homogeneous kind of the others (homcs, ar1, homtoep, homante)"
            )
        pairs: list[tuple[int, int]] = []
        if own:
            at = _place_codes(own[0])
            codes = np.zeros(len(at), dtype=np.intp) if by is None else by.codes
            there = set(zip(codes.tolist(), at.tolist(), strict=True))
            every = [(b, k) for b in range(len(levels)) for k in range(len(own[0].names))]
            pairs = [pair for pair in every if pair in there][1:]
        elif by is not None and not any(part.kind == "us" for part in parts):
            pairs = [(b, -1) for b in range(1, len(levels))]
        names = [
            ":".join(x for x in (levels[b], own[0].names[k] if k >= 0 else "") if x)
            for b, k in pairs
        ]
        return tuple(pairs), tuple(ResidualScale("sd", name) for name in names)


def _cell_columns(
    cells: Sequence[tuple[int, int]],
    parts: Sequence[ResidualPart],
    by: NDArray[np.int32] | None,
    n: int,
) -> Floats:
    """A column for each cell, one in its rows, (n, c)."""
    own = [part for part in parts if part.kind in HETEROGENEOUS]
    places = _place_codes(own[0]) if own else np.full(n, -1)
    codes = np.zeros(n, dtype=np.intp) if by is None else by
    columns = [((codes == b) & ((places == k) | (k < 0))).astype(np.float64) for b, k in cells]
    return np.column_stack(columns) if columns else np.zeros((n, 0))


def _scale_model(text: str) -> tuple[Model, bool]:
    """Read a dispersion formula, and whether it has a power of the fitted mean.

    ``power(x)`` is log(x), ``exponential(x)`` is x.
    """
    if not isinstance(text, str) or "~" not in text:
        raise FormulaError(
            f"dispersion takes a formula that begins with '~', such as '~ x', not {text!r}"
        )
    model = dispersion_model(text)
    if model.response is not None or model.offsets:
        raise FormulaError("dispersion has no response and no offset: '~ arm'")
    if model.bars:
        raise FormulaError(
            "random effects of the residual standard deviation belong to "
            "glmm(family='gaussian', dispersion='~ x + (1 | g)')"
        )
    if not model.fixed.intercept:
        raise FormulaError("dispersion keeps its intercept, the logarithm of sigma")
    fixed, of_mean = _without_mean(model.fixed)
    return replace(model, fixed=_without_names_of_power(fixed)), of_mean


def _without_mean(terms: Terms) -> tuple[Terms, bool]:
    """Take ``power(mean)`` out of the terms."""
    own = [i for i, node in enumerate(terms.variables) if node.printed == "power(mean)"]
    if not own:
        return terms, False
    if any(own[0] in term and len(term) > 1 for term in terms.terms):
        raise FormulaError("power(mean) stands alone in a dispersion formula, without interactions")
    kept = [i for i in range(len(terms.variables)) if i != own[0]]
    place = {i: k for k, i in enumerate(kept)}
    left = tuple(tuple(place[i] for i in term) for term in terms.terms if own[0] not in term)
    variables = tuple(terms.variables[i] for i in kept)
    keys = tuple(terms.keys[i] for i in kept)
    return Terms(variables, keys, left, terms.intercept), True


def _without_names_of_power(terms: Terms) -> Terms:
    """Read ``power(x)`` as log(x), whose coefficient is the power, and ``exponential(x)`` as x."""
    nodes = []
    for node in terms.variables:
        bare = node.bare
        if isinstance(bare, Call) and bare.function in ("power", "exponential"):
            if len(bare.arguments) != 1 or bare.keywords:
                raise FormulaError(f"{bare.function}() takes one variable: {bare.function}(x)")
            inner = bare.arguments[0]
            node = Call("log", (inner,)) if bare.function == "power" else inner.bare
        nodes.append(node)
    return replace(terms, variables=tuple(nodes), keys=tuple(node.printed for node in nodes))


def _bases_of_powers(text: str) -> list[Node]:
    """What stands in ``power()`` in a dispersion formula, but the fitted mean."""
    calls = (node.bare for node in dispersion_model(text).fixed.variables)
    return [
        call.arguments[0] for call in calls
        if isinstance(call, Call) and call.function == "power" and call.printed != "power(mean)"
    ]  # fmt: skip


def _refuse_zero(value: Any, name: str) -> None:
    if not isinstance(value, Numbers):
        raise DataError(f"power({name}) needs numbers, and {name} is categories")
    rows = np.flatnonzero(value.values <= 0)
    if len(rows):
        raise DataError(
            f"power({name}) lets the standard deviation be a power of {name}, which must be above "
            f"zero; it is {number_text(float(value.values[rows[0]]))} in {row_text(rows[0])} "
            f"({count_text(len(rows), 'such row')}). Write exponential({name}), or "
            f"power({name} + 1)"
        )


def _dispersion_columns(
    model: Model | None, frame: Frame, before: Floats
) -> tuple[list[ResidualScale], Floats, tuple[int, ...]]:
    """Columns of a dispersion formula that are not determined by those before."""
    if model is None:
        return [], np.zeros((frame.n_rows, 0)), ()
    variables = frame.variables(model.fixed)
    layout = lay_out(model.fixed, variables, frame.n_rows)
    M = model_matrix(layout, variables, frame.n_rows)
    if not np.isfinite(M).all():
        odd = layout.names[int(np.flatnonzero(~np.isfinite(M).all(axis=0))[0])]
        raise DataError(f"{odd} of the dispersion formula is not finite; divide it by its size")
    first = np.column_stack([np.ones(frame.n_rows), before])
    every = np.column_stack([first, M[:, 1:]])
    sound = [int(j) - first.shape[1] + 1 for j in independent_columns(every).tolist()]
    kept = tuple(j for j in sound if j > 0)
    kinds = _kinds_of(model, layout.assigned(variables), variables)
    scales = [ResidualScale(kinds[j][0], kinds[j][1] or layout.names[j]) for j in kept]
    return scales, M[:, list(kept)], kept


def _kinds_of(model: Model, assigned: NDArray[np.intp], variables: Any) -> list[tuple[str, str]]:
    """What the coefficient of each column is: a factor's sd, a power, an exponent."""
    out = []
    for term in assigned.tolist():
        if term == 0:
            out.append(("sd", INTERCEPT))
            continue
        own = [variables[i] for i in model.fixed.terms[term - 1]]
        node = model.fixed.variables[model.fixed.terms[term - 1][0]].bare
        if all(v.coding is not None for v in own):
            out.append(("sd", ""))
        elif len(own) == 1 and isinstance(node, Call) and node.function == "log":
            out.append(("power", node.arguments[0].printed))
        else:
            out.append(("exponent", ""))
    return out


def _add_position(frame: Frame, node: Node, key: str, written: bool) -> None:
    """Evaluate a position: a number, a category, or a time; of coordinates also one in text."""
    bare = node.bare
    table = frame.scope.table
    if isinstance(bare, Name) and bare.value in table:
        kind = table.kind(bare.value)
        if kind in ("datetime", "duration"):
            unit = DAY if table.holds_dates(bare.value) else HOUR
            frame.add_numbers(node, key, table.seconds(bare.value) / unit)
            return
        if written and are_times(table, bare.value):
            unit = DAY if are_dates(table, bare.value) else HOUR
            frame.add_numbers(node, key, written_times(table, bare.value)[0] / unit)
            return
    frame.add(node, key)


def _placed(part: ResidualStructure, frame: Frame) -> tuple[ResidualPart, Places]:
    """Where the rows of one part stand."""
    kind, keys = part.kind, part.left.keys
    if not keys:
        none = np.zeros(frame.n_rows, dtype=np.int64)
        return ResidualPart(kind, (), none), Places(None, None)
    values = [frame.value(key) for key in keys]
    if kind in ON_COORDINATES:
        odd = next((k for k, v in zip(keys, values, strict=True) if _is_no_number(v)), None)
        if odd is not None:
            raise FormulaError(f"{kind}() needs numbers or times as coordinates; {odd} is not one")
        where = np.column_stack([v.values for v in values if isinstance(v, Numbers)])
        return ResidualPart(kind, (), where, part.nugget), Places(None, None)
    value, key = values[0], keys[0]
    if isinstance(value, Categories):
        return _on_levels(part, key, value, frame)
    if value.values.ndim != 1:
        raise FormulaError(f"{kind}() takes one position, and {key} has several columns")
    return _on_numbers(part, key, value.values)


def _is_no_number(value: Numbers | Categories) -> bool:
    return isinstance(value, Categories) or value.values.ndim != 1


def _on_levels(
    part: ResidualStructure, key: str, value: Categories, frame: Frame
) -> tuple[ResidualPart, Places]:
    """Levels of a factor, in their order; lags count over the declared ones."""
    declared = tuple(value.levels)
    used = drop_unused(value)
    levels = declared if part.kind in LAGGED else tuple(used.levels)
    codes = match_levels(value, list(levels))[0].astype(np.int64)
    names = tuple(key + level_text(level) for level in levels)
    return _part(part, names, codes), Places(levels, None)


def _on_numbers(part: ResidualStructure, key: str, values: Floats) -> tuple[ResidualPart, Places]:
    """Distinct numbers; of structures over whole steps every step from first to last."""
    kind = part.kind
    distinct = np.unique(values)
    if kind in LAGGED:
        if not np.array_equal(values, np.round(values)):
            raise ModelError(
                f"{kind}() needs whole numbers as times; {part.text} has others: use car1() or "
                "ou() for continuous time, or a factor"
            )
        if kind in ("ar1", "arma"):
            return ResidualPart(kind, (), values[:, None], False, part.order), Places(None, None)
        if np.ptp(distinct) > 10_000:
            raise ModelError(f"{kind}({part.text}) spans more than 10,000 steps")
        distinct = np.arange(distinct[0], distinct[-1] + 1)
    codes = np.searchsorted(distinct, values).astype(np.int64)
    names = tuple(key + number_text(v) for v in distinct.tolist())
    return _part(part, names, codes), Places(None, distinct)


def _part(
    part: ResidualStructure, names: tuple[str, ...], codes: NDArray[np.int64]
) -> ResidualPart:
    kind = part.kind
    if kind in ("us", "ante", "homante") and len(names) > MANY:
        raise ModelError(
            f"{kind}({part.text}) has {len(names)} places, which are too many for a parameter "
            "each; use a structure with few parameters such as ar1, homtoep or exp"
        )
    if len(names) == 1:
        raise ModelError(
            f"{kind}({part.text}) has a single place, {names[0]}: nothing to correlate"
        )
    if kind in ("ar1", "arma"):
        return ResidualPart(kind, (), codes.astype(np.float64)[:, None], False, part.order)
    where: NDArray[Any] = codes
    return ResidualPart(kind, names, where, False, part.order)


def _with_lags(part: ResidualPart, group: GroupingFactor) -> ResidualPart:
    """A Toeplitz structure with the lags that occur within groups; none without pairs of rows."""
    if np.bincount(group.codes[group.codes >= 0]).max(initial=0) < 2:
        raise ModelError(
            f"{part.kind}() has no group with two rows: nothing to correlate. Leave residual= out, "
            f"or name the column that rows of one unit share ({group.name} has a level a row)"
        )
    if part.kind not in ("toep", "homtoep"):
        return part
    where = _place_codes(part)
    order = np.lexsort((where, group.codes))
    codes, places = group.codes[order], where[order]
    found: set[int] = set()
    for step in range(1, int(np.bincount(codes).max(initial=1))):
        near = codes[step:] == codes[:-step]
        found |= set(np.unique(places[step:][near] - places[:-step][near]).tolist())
    return replace(part, lags=tuple(sorted(found - {0})))


def _place_codes(part: ResidualPart) -> NDArray[np.intp]:
    """Place of each row."""
    return np.asarray(part.where, dtype=np.intp).reshape(len(part.where))


def _width(part: ResidualPart) -> int:
    """Number of coordinates."""
    return 1 if part.where.ndim == 1 else int(part.where.shape[1])


def _anywhere(
    written: ResidualStructure, part: ResidualPart, places: Places, frame: Frame
) -> NDArray[Any]:
    """Where rows of another table stand, at a place or by their coordinates."""
    if not written.left.keys:
        return np.zeros(frame.n_rows, dtype=np.int64)
    if part.names:
        return _where(written, places, frame)
    if places.levels is not None:
        return _where(written, places, frame).astype(np.float64)[:, None]
    values = [frame.value(key) for key in written.left.keys]
    odd = next((k for k, v in zip(written.left.keys, values, strict=True) if _is_no_number(v)), "")
    if odd:
        raise DataError(
            f"{odd} holds numbers in the rows of the fit, and categories here; give numbers"
        )
    where = np.column_stack([v.values for v in values if isinstance(v, Numbers)])
    if written.kind in LAGGED and not np.array_equal(where, np.round(where)):
        raise DataError(
            f"{written.kind}() counts whole steps of {written.left.keys[0]}, and some rows here "
            "stand between two"
        )
    return where


def _where(part: ResidualStructure, places: Places, frame: Frame) -> NDArray[np.int64]:
    """At which place rows of another table stand; places not seen are refused."""
    key = part.left.keys[0]
    value = frame.value(key)
    if places.levels is not None:
        if isinstance(value, Numbers):
            raise DataError(
                f"{key} holds categories in the rows of the fit, and numbers here; give text"
            )
        codes, unseen = match_levels(value, list(places.levels))
        if unseen.any():
            new = [value.levels[c] for c in np.unique(value.codes[unseen]).tolist()]
            raise LevelError(
                f"{key} has a place that the fit has not seen: {list_text(new)}; leave such rows "
                "out"
            )
        return codes.astype(np.int64)
    assert places.values is not None
    if not isinstance(value, Numbers):
        raise DataError(
            f"{key} holds numbers in the rows of the fit, and categories here; give numbers"
        )
    at = np.searchsorted(places.values, value.values)
    at = np.minimum(at, len(places.values) - 1)
    known = places.values[at] == value.values
    if not known.all():
        new = np.unique(value.values[~known]).tolist()
        raise LevelError(
            f"{key} has a place that the fit has not seen: {list_text(new)}; leave such rows out"
        )
    return at.astype(np.int64)
