"""The parameters of a model: what the text says, completed by lavaan's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.fields.structural.syntax import Constraint, Statement, Syntax, merged
from ranef.formula.labels import list_text

__all__ = ["CLASSES", "BlockNames", "Defaults", "Parameter", "ParameterTable", "parameter_table"]

Floats = NDArray[np.float64]
NAN = float("nan")

CLASSES = (
    "loadings", "intercepts", "means", "residuals", "residual_covariances", "lv_variances",
    "lv_covariances", "regressions",
)  # fmt: skip
"""What `group_equal` may hold."""


@dataclass(frozen=True)
class Parameter:
    """One cell of one level's matrices.

    Attributes
    ----------
    group : int
        Place of the group, from 0.
    level : int
        From 1, that of the rows.
    lhs, op, rhs : str
    label : str
    free : int
        Place among the free parameters, -1 of a fixed one.
    value : float
        Of a fixed parameter; NaN of a free one, and of one that is held at its sample value.
    start, lower, upper : float
    sample : bool
        Held at the moment of the data: a covariate that the likelihood is conditional on.
    typed : bool
        Whether the model's text has it.
    slope : str or None
        The random effect that is this coefficient.
    tie : str
        Equal parameters share it; empty where it is its own.
    """

    group: int
    level: int
    lhs: str
    op: str
    rhs: str
    label: str = ""
    free: int = -1
    value: float = NAN
    start: float = NAN
    lower: float = -np.inf
    upper: float = np.inf
    sample: bool = False
    typed: bool = False
    slope: str | None = None
    tie: str = ""

    @property
    def is_free(self) -> bool:
        """Whether it is estimated."""
        return np.isnan(self.value) and not self.sample and self.slope is None

    @property
    def plain(self) -> str:
        """The parameter within its block: ``"f=~y2"``."""
        return f"{self.lhs}{self.op}{self.rhs}"

    @property
    def name(self) -> str:
        """Its label, or where it stands: ``"fb=~y2.l2"``."""
        if self.label:
            return self.label
        level = f".l{self.level}" if self.level > 1 else ""
        group = f".g{self.group + 1}" if self.group > 0 else ""
        return f"{self.plain}{level}{group}"


@dataclass(frozen=True)
class BlockNames:
    """The variables of one group and level.

    Attributes
    ----------
    observed : tuple of str
        Columns of the table, in the order of their first mention.
    latent : tuple of str
        Random slopes included.
    fixed : tuple of str
        Columns held at their sample moments.
    slopes : tuple of str
        Latent variables that are random slopes.
    exogenous : tuple of str
        Columns that predict, and of which the text says nothing more.
    """

    observed: tuple[str, ...]
    latent: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    slopes: tuple[str, ...] = ()
    exogenous: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.observed + self.latent


@dataclass(frozen=True)
class Defaults:
    """How the text is completed.

    Attributes
    ----------
    fixed_x, std_lv : bool
    group_equal, group_partial : tuple of str
    """

    fixed_x: bool = True
    std_lv: bool = False
    group_equal: tuple[str, ...] = ()
    group_partial: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParameterTable:
    """All parameters of a model.

    Attributes
    ----------
    rows : tuple of Parameter
    names : dict of (group, level) to BlockNames
    groups : int
    levels : int
    constraints, defined : tuple of Constraint
    """

    rows: tuple[Parameter, ...]
    names: Mapping[tuple[int, int], BlockNames]
    groups: int
    levels: int
    constraints: tuple[Constraint, ...] = ()
    defined: tuple[Constraint, ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of free parameters."""
        return 1 + max((row.free for row in self.rows), default=-1)

    @cached_property
    def free_names(self) -> tuple[str, ...]:
        """Name of each free parameter."""
        found: dict[int, str] = {}
        for row in self.rows:
            if row.free >= 0:
                found.setdefault(row.free, row.name)
        return tuple(found[k] for k in range(self.size))

    @cached_property
    def values(self) -> Floats:
        """Value of each row where it is fixed; NaN where it is free or of the sample."""
        return np.array([row.value for row in self.rows])

    def block(self, group: int, level: int) -> tuple[Parameter, ...]:
        """The parameters of a group and level."""
        return tuple(row for row in self.rows if (row.group, row.level) == (group, level))

    def roles(self, group: int = 0) -> dict[str, tuple[int, ...]]:
        """Levels of the model that each observed variable stands in."""
        found: dict[str, list[int]] = {}
        for level in range(1, self.levels + 1):
            for name in self.names[group, level].observed:
                found.setdefault(name, []).append(level)
        return {name: tuple(levels) for name, levels in found.items()}

    def numbered(self) -> ParameterTable:
        """Return the table with places of free parameters: equal ones share theirs."""
        places: dict[str, int] = {}
        rows = []
        count = 0
        for row in self.rows:
            if not row.is_free:
                rows.append(replace(row, free=-1))
                continue
            key = row.tie or row.label
            if key and key in places:
                rows.append(replace(row, free=places[key]))
                continue
            if key:
                places[key] = count
            rows.append(replace(row, free=count))
            count += 1
        return replace(self, rows=tuple(rows))


def parameter_table(
    syntax: Syntax,
    groups: Sequence[str],
    levels: int,
    home: Mapping[str, int],
    defaults: Defaults,
) -> ParameterTable:
    """Complete a model's text by the defaults.

    Parameters
    ----------
    syntax : Syntax
    groups : sequence of str
        Labels of the groups in the data.
    levels : int
        How many the data have.
    home : dict
        Observed variable -> level on which it varies, 1 for that of the rows.
    defaults : Defaults
    """
    statements = {
        (g, level): _statements_of(syntax, groups, g, level, levels)
        for g in range(len(groups))
        for level in range(1, levels + 1)
    }
    rows: list[Parameter] = []
    names: dict[tuple[int, int], BlockNames] = {}
    for g in range(len(groups)):
        every = range(1, levels + 1)
        seen = {level: _mentioned(statements[g, level]) for level in every}
        for level in every:
            own = statements[g, level]
            block = _Block(g, level, levels, own, syntax, seen, home, defaults, groups)
            names[g, level] = block.names
            rows += block.rows()
    rows = _tied_across(rows, names, defaults, len(groups))
    rows = _equals(rows)
    table = ParameterTable(
        tuple(rows), names, len(groups), levels, syntax.constraints, syntax.defined
    )
    _check_names(table)
    return table.numbered()


def _statements_of(
    syntax: Syntax, groups: Sequence[str], g: int, level: int, levels: int
) -> tuple[Statement, ...]:
    """Statements of the text for one group and level."""
    found: list[Statement] = []
    named = list(dict.fromkeys(b.group for b in syntax.blocks if b.group is not None))
    order = list(dict.fromkeys(b.level for b in syntax.blocks if b.level is not None))
    places = {_group_place(name, groups, named) for name in named}
    if named and g not in places and all(b.group for b in syntax.blocks):
        raise ModelError(
            f"the model has no block of group {groups[g]!r}; write 'group: {groups[g]}', or leave "
            "the group's rows out"
        )
    for block in syntax.blocks:
        if block.group is not None and _group_place(block.group, groups, named) != g:
            continue
        if block.level is None:
            if levels > 1 and block.statements:
                line = block.statements[0].line
                raise ModelError(
                    f"line {line} of the model stands above 'level: 1'; a model of several levels "
                    "has each of its lines under a level"
                )
        elif _level_place(block.level, order, levels) != level:
            continue
        found += block.statements
    return merged(found)


def _group_place(name: str, groups: Sequence[str], named: Sequence[str]) -> int:
    if name in groups:
        return list(groups).index(name)
    if len(groups) == 1 and not groups[0]:
        raise ModelError(f"the model has a block 'group: {name}'; give the column as group=")
    if name.isdecimal() and 1 <= int(name) <= len(groups) and all(n.isdecimal() for n in named):
        return int(name) - 1
    raise ModelError(
        f"the model's 'group: {name}' is none of the data's{suggestion(name, groups)}; they are "
        f"{list_text(list(groups), 8)}"
    )


WORDS = {"within": 1, "between": 2}


def _level_place(name: str, order: Sequence[str], levels: int) -> int:
    place = int(name) if name.isdecimal() else WORDS.get(name.lower(), order.index(name) + 1)
    if not 1 <= place <= levels:
        clusters = f"{levels - 1} column{'s' if levels > 2 else ''}" if levels > 1 else "no column"
        raise ModelError(
            f"the model has a block 'level: {name}', and cluster= names {clusters}; "
            "a level needs the column of its units"
        )
    return place


def _mentioned(statements: Sequence[Statement]) -> tuple[str, ...]:
    names = [n for s in statements for n in (s.lhs, s.rhs) if n]
    return tuple(dict.fromkeys(names))


class _Block:
    """Builds the parameters of one group and level."""

    def __init__(
        self, g: int, level: int, levels: int, statements: Sequence[Statement], syntax: Syntax,
        seen: Mapping[int, tuple[str, ...]], home: Mapping[str, int], defaults: Defaults,
        groups: Sequence[str],
    ) -> None:  # fmt: skip
        self.g, self.level, self.levels = g, level, levels
        self.statements = statements
        self.defaults, self.n_groups = defaults, len(groups)
        own = [s.lhs for s in statements if s.op == "=~"]
        here = seen[level]
        slopes = tuple(n for n in syntax.slopes if level > 1 and (level == 2 or n in here))
        self.latent = tuple(dict.fromkeys([*own, *slopes]))
        self.observed = tuple(n for n in here if n not in self.latent)
        self.higher = {
            n for m in range(level + 1, levels + 1) for n in seen[m] if home.get(n, 9) < m
        }
        self.lower = {n for m in range(1, level) for n in seen[m]}
        self.home = home
        self.slopes = slopes
        ops = {op: [s for s in statements if s.op == op] for op in ("=~", "~", "~~", "~1")}
        self.indicators = {s.rhs for s in ops["=~"]}
        self.outcomes = {s.lhs for s in ops["~"]}
        self.predictors = {s.rhs for s in ops["~"]}
        described = {n for s in (*ops["~~"], *ops["~1"]) for n in (s.lhs, s.rhs)}
        self.exogenous = [
            n for n in self.observed
            if n in self.predictors and n not in self.outcomes | self.indicators | described
        ]  # fmt: skip
        decomposed = self.higher | {n for n in self.lower if home.get(n, level) < level}
        random = any(
            s.modifiers.slope is not None and s.rhs in self.exogenous and s.rhs not in decomposed
            for s in statements
        )
        self.fixed = tuple(
            n for n in self.exogenous if n not in decomposed and (defaults.fixed_x or random)
        )
        self.names = BlockNames(
            self.observed, self.latent, self.fixed, slopes, tuple(self.exogenous)
        )

    def rows(self) -> list[Parameter]:
        rows = [self.typed(s) for s in self.statements]
        rows = self.markers(rows)
        known = {(r.lhs, r.op, r.rhs) for r in rows}
        known |= {(r.rhs, r.op, r.lhs) for r in rows if r.op == "~~"}

        def more(lhs: str, op: str, rhs: str, value: float = NAN, sample: bool = False) -> None:
            if (lhs, op, rhs) not in known:
                known.add((lhs, op, rhs))
                if op == "~~":
                    known.add((rhs, op, lhs))
                rows.append(Parameter(self.g, self.level, lhs, op, rhs, value=value, sample=sample))

        for name in self.observed:
            more(name, "~~", name, sample=name in self.fixed)
        for name in self.latent:
            more(name, "~~", name, value=1.0 if self.standard(name) else NAN)
        for first, second in self.default_covariances():
            held = first in self.fixed and second in self.fixed
            more(first, "~~", second, sample=held)
        for name in self.observed:
            if name in self.fixed:
                more(name, "~1", "", sample=True)
            else:
                more(name, "~1", "", value=0.0 if name in self.higher else NAN)
        for name in self.latent:
            more(name, "~1", "", value=NAN if name in self.slopes and self.level == 2 else 0.0)
        return rows

    def standard(self, name: str) -> bool:
        if name in self.slopes or not self.defaults.std_lv:
            return False
        return not ("loadings" in self.defaults.group_equal and self.g > 0)

    def default_covariances(self) -> list[tuple[str, str]]:
        """Covariances that the defaults free: of exogenous variables, and of last outcomes."""
        used = self.outcomes | self.indicators
        latent = [n for n in self.latent if n not in used]
        last = [
            n for n in (*self.latent, *self.observed)
            if n in self.outcomes and n not in self.predictors and n not in self.indicators
        ]  # fmt: skip
        pairs = []
        for some in (latent, self.exogenous, last):
            pairs += [(a, b) for i, a in enumerate(some) for b in some[i + 1 :]]
        return pairs

    def typed(self, s: Statement) -> Parameter:
        where = f"line {s.line} of the model"
        mods = s.modifiers
        fixed = self.pick(mods.fixed, NAN, where)
        label = self.pick(mods.labels, "", where)
        start = self.pick(mods.start, NAN, where)
        if mods.slope is not None and self.level != 1:
            raise ModelError(f"{where}: rv() makes slopes of level 1 random, not of {self.level}")
        if mods.slope is not None and self.levels == 1:
            raise ModelError(f"{where}: a random slope needs the column of its units, cluster=")
        if mods.slope is not None and s.rhs not in self.fixed and self.levels > 2:
            raise ModelError(
                f"{where}: the slope of {s.rhs!r}, which is latent within units, is random; in "
                f"models of {self.levels} levels slopes of observed covariates alone can be, those "
                "of latent variables in models of two"
            )
        if s.lhs == s.rhs and s.op != "~~":
            raise ModelError(f"{where}: {s.lhs!r} stands on both sides of {s.op!r}")
        return Parameter(
            self.g, self.level, s.lhs, s.op, s.rhs, label, -1, fixed, start,
            self.pick(mods.lower, -np.inf, where), self.pick(mods.upper, np.inf, where),
            typed=True, slope=mods.slope, tie="" if mods.equal is None else f"={mods.equal}",
        )  # fmt: skip

    def pick(self, values: Sequence, default, where: str):  # type: ignore[no-untyped-def,type-arg]
        """The modifier of this group."""
        if not values:
            return default
        if len(values) not in (1, self.n_groups):
            raise ModelError(
                f"{where}: a modifier has {len(values)} values, and there "
                f"{'is 1 group' if self.n_groups == 1 else f'are {self.n_groups} groups'}"
            )
        return values[self.g] if len(values) > 1 else values[0]

    def markers(self, rows: list[Parameter]) -> list[Parameter]:
        """Fix the first loading of each latent variable at one, where nothing else is said."""
        if self.defaults.std_lv:
            return rows
        first: set[str] = set()
        out = []
        asked = {(s.lhs, s.rhs): s.modifiers for s in self.statements if s.op == "=~"}
        for row in rows:
            if row.op == "=~" and row.lhs not in first:
                first.add(row.lhs)
                if not asked[row.lhs, row.rhs].fixed:
                    row = replace(row, value=1.0)
            out.append(row)
        return out


def _kind(row: Parameter, names: BlockNames) -> str:
    """Which of `CLASSES` a parameter belongs to."""
    if row.op == "=~":
        return "loadings"
    if row.op == "~":
        return "regressions"
    latent = row.lhs in names.latent
    if row.op == "~1":
        return "means" if latent else "intercepts"
    if row.lhs == row.rhs:
        return "lv_variances" if latent else "residuals"
    return "lv_covariances" if latent and row.rhs in names.latent else "residual_covariances"


def _tied_across(
    rows: list[Parameter], names: Mapping[tuple[int, int], BlockNames], defaults: Defaults, n: int
) -> list[Parameter]:
    """Make parameters equal across groups, those named in `group_partial` not."""
    equal = set(defaults.group_equal)
    if n == 1 or not equal:
        return rows
    partial = {_squeezed(name) for name in defaults.group_partial}
    known = {r.plain for r in rows} | {f"{r.plain}.l{r.level}" for r in rows}
    for name in partial - known:
        raise ModelError(
            f"group_partial names {name!r}, which is no parameter{suggestion(name, known)}"
        )
    out = []
    for row in rows:
        kind = _kind(row, names[row.group, row.level])
        excepted = row.plain in partial or f"{row.plain}.l{row.level}" in partial
        if kind in equal and not excepted and row.is_free and not row.label and not row.tie:
            row = replace(row, tie=f"{row.plain}.l{row.level}")
        frees = "intercepts" in equal and "means" not in equal and kind == "means"
        top = row.level > 1 or all(level == 1 for _, level in names)
        if frees and top and not row.typed and row.group > 0 and row.value == 0.0:
            row = replace(row, value=NAN)
        out.append(row)
    return out


def _squeezed(name: str) -> str:
    return "".join(name.split()).removesuffix("~1") + ("~1" if "~1" in name else "")


def _equals(rows: list[Parameter]) -> list[Parameter]:
    """Resolve ``equal("f=~x2")``."""
    by_name = {row.name: row for row in rows} | {row.plain: row for row in reversed(rows)}
    keys: dict[str, str] = {}
    for row in rows:
        if row.tie.startswith("="):
            named = "".join(row.tie[1:].split())
            if named not in by_name:
                raise ModelError(f"equal({named!r}) names no parameter{suggestion(named, by_name)}")
            other = by_name[named]
            keys[other.name] = other.tie or other.label or other.name
            keys[row.name] = keys[other.name]
    return [replace(row, tie=keys[row.name]) if row.name in keys else row for row in rows]


def _check_names(table: ParameterTable) -> None:
    labels = {row.label for row in table.rows if row.label}
    known = set(labels)
    for one in (*table.defined, *table.constraints):
        sides = (one.right,) if one.op == ":=" else (one.left, one.right)
        for side in sides:
            for name in side.names():
                if name not in known:
                    raise ModelError(
                        f"line {one.line} of the model: no label {name!r}"
                        f"{suggestion(name, known)}; expressions are of labels, as in 'y ~ a*x'"
                    )
        if one.op == ":=":
            if one.left.text in known:
                raise ModelError(
                    f"line {one.line} of the model: {one.left.text!r} is a label already"
                )
            known.add(one.left.text)
