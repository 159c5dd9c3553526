"""The variables of a model, evaluated once, with what is missing where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.arguments import as_categories, as_numbers
from ranef.design.call import ModelArguments
from ranef.design.contrasts import Contrast, code_levels, read_contrast
from ranef.design.evaluate import TableScope, unknown_column
from ranef.design.lags import lagged_outcomes
from ranef.design.matrix import Variable
from ranef.design.membership import Memberships, memberships_of
from ranef.design.state import Coding, State
from ranef.design.text_numbers import refuse_numbers_as_text
from ranef.design.values import Categories, Numbers, drop_unused, match_levels
from ranef.errors import (
    DataError,
    FormulaError,
    FormulaWarning,
    LevelError,
    ModelError,
    UnknownColumnError,
    row_text,
    suggestion,
    warn,
)
from ranef.formula.labels import count_text, list_text
from ranef.formula.model import Grouping, Model, Terms
from ranef.formula.syntax import Call, Name, Node, walk
from ranef.tables import Table
from ranef.tables.accounting import Accounting
from ranef.tables.alignment import aligned
from ranef.tables.table import read_column

__all__ = ["Frame", "refuse_infinite"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
CENTRED = frozenset(("within", "between"))
MAY_LEAVE_GAPS = frozenset(("lag", "factor", "as.factor", "ordered", "within", "between"))


class Frame:
    """Values of the variables of a formula in one table.

    Attributes
    ----------
    scope : TableScope
    n_rows : int
        Rows of the table; after `keep`, rows kept.
    missing : dict of str to (N,) bool arrays
        Where each column has no value, among the columns used so far.
    declared : dict of str to sequence
        Levels of each categorical variable before unused ones were dropped.
    unseen_is_missing : bool
        Whether a level that the fit has not seen counts as missing; else it is an error.
    """

    def __init__(
        self,
        table: Table,
        functions: Mapping[str, Callable[..., Any]],
        state: dict[str, State],
        fitting: bool,
    ) -> None:
        self.scope = TableScope(table, functions, state, fitting)
        self.n_rows = table.n_rows
        self.missing: dict[str, Mask] = {}
        self.declared: dict[str, Sequence[Any]] = {}
        self.contrasts: Mapping[str, Contrast] = {}
        self._values: dict[str, Numbers | Categories] = {}
        self._coded: dict[str, Variable] = {}
        self._kept: Mask | None = None
        self._centred: dict[str, Callable[[], Numbers | Categories]] = {}
        self.unseen_is_missing = False

    @classmethod
    def of(cls, call: ModelArguments) -> Frame:
        """Return that of the table of a call, in which nothing is evaluated yet."""
        if call.table.n_rows == 0:
            raise DataError("the table has no rows; was it filtered too far?")
        functions = dict(call.functions or {})
        for name, function in functions.items():
            if not callable(function):
                raise FormulaError(f"functions[{name!r}] is not a function")
        return cls(call.table, functions, {}, fitting=True)

    def add(self, node: Node, key: str) -> Numbers | Categories:
        """Evaluate a variable, and note where it is missing."""
        value = self._values.get(key)
        if value is None:
            value = self._evaluated(node, key)
            self._examine(value, node, key)
            self._values[key] = value
            self._note(node, key, lambda: self._evaluated(node, key))
        return value

    def add_numbers(self, node: Node, key: str, values: Floats) -> None:
        """Give a variable numbers made of its column, such as hours of a time of day."""
        if key not in self._values:
            value = Numbers(np.asarray(values, dtype=np.float64))
            self._examine(value, node, key)
            self._values[key] = value

    @property
    def rows(self) -> NDArray[np.intp]:
        """Places in the table of the rows kept."""
        return np.arange(self.n_rows) if self._kept is None else np.flatnonzero(self._kept)

    def value(self, key: str) -> Numbers | Categories:
        """Return a variable as evaluated, of the rows kept."""
        return self._values[key]

    def hold(self, key: str, values: Floats) -> None:
        """Give a numeric variable its values, instead of evaluating it."""
        count = values.shape[1] if values.ndim == 2 else 1
        self._values[key] = Numbers(values, tuple(str(j + 1) for j in range(count)))

    def _evaluated(self, node: Node, key: str) -> Numbers | Categories:
        with np.errstate(all="ignore"):
            value = self.scope.evaluate(node)
        if not isinstance(value, (Numbers, Categories)):
            raise FormulaError(f"{key} does not depend on a column")
        if isinstance(value, Categories):
            if isinstance(node, Name) and self.scope.fitting and value.complete:
                refuse_numbers_as_text(node.value, value)
            return value
        if value.logical:
            return as_categories(value, node)
        return value

    def given(self, value: Any, what: str) -> Floats | None:
        """Read weights or an offset, named or handed over; of the rows kept."""
        if value is None:
            return None
        held = f"given {what}"
        if held not in self._values:
            values, name = _handed_over(value, what, self.scope.table)
            if not np.isfinite(values).all():
                refuse_infinite(values, name)
                self.missing[name] = np.isnan(values)
            if what == "weights":
                _refuse_negative(values)
            self._values[held] = Numbers(np.array(values))
        numbers = self._values[held]
        assert isinstance(numbers, Numbers)
        return numbers.values

    def read(self, model: Model) -> None:
        """Evaluate every variable of a formula but its response."""
        if self.scope.fitting:
            for remark in (*model.remarks, *lagged_outcomes(model)):
                warn(remark, FormulaWarning)
        self.add_terms(model.fixed)
        for node in model.offsets:
            self.numbers(node, node.printed)
        for bar in model.bars:
            self.add_terms(bar.left)
            for group in bar.groups:
                if group.membership is not None:
                    self.add_memberships(group)
                    continue
                for node in group.nodes:
                    self.add_group(node)

    def add_terms(self, terms: Terms) -> None:
        """Evaluate every variable of a linear predictor."""
        for node, key in zip(terms.variables, terms.keys, strict=True):
            self.add(node, key)

    def add_group(self, node: Node) -> str:
        """Evaluate a column of a grouping factor; return its key."""
        key = node.printed
        held = f"group {key}"
        if held not in self._values:
            value = self._grouped(node)
            self._examine(value, node, key)
            self._values[held] = value
            self._note(node, held, lambda: self._grouped(node))
        return key

    def member(self, node: Node) -> Categories:
        """Evaluate a column of memberships, in which levels may be missing."""
        held = f"member {node.printed}"
        if held not in self._values:
            self._values[held] = self._grouped(node)
        value = self._values[held]
        assert isinstance(value, Categories)
        return value

    def add_memberships(self, group: Grouping) -> None:
        """Evaluate the levels of which a row may have several; note rows that have none."""
        own, held = group.membership, f"memberships {group.text}"
        assert own is not None
        if held in self._values:
            return
        columns = [self.member(node) for node in own.columns]
        excused = [column.codes < 0 for column in columns]
        given = [
            self.numbers(node, node.printed, gone)
            for node, gone in zip(own.weights, excused, strict=False)
        ]
        found = memberships_of(columns, given or None, own)
        gone = ~np.any([column.codes >= 0 for column in found.columns], axis=0)
        if gone.any():
            name = own.name
            self.missing[name] = np.asarray(gone | self.missing.get(name, gone))
        self._values[held] = Numbers(found.weights)

    def memberships(self, group: Grouping) -> Memberships:
        """Return the memberships of the rows kept."""
        self.add_memberships(group)
        own, weights = group.membership, self._values[f"memberships {group.text}"]
        assert own is not None
        assert isinstance(weights, Numbers)
        return Memberships(tuple(self.member(node) for node in own.columns), weights.values)

    def _grouped(self, node: Node) -> Categories:
        if isinstance(node, Name) and node.value in self.scope.table:
            column = self.scope.table.column(node.value)
            codes, levels = column.codes()
            return Categories(codes, levels, column.kind not in ("categorical", "boolean"))
        return as_categories(self.scope.evaluate(node), node)

    def group(self, key: str) -> Categories:
        """Return a column of a grouping factor."""
        value = self._values[f"group {key}"]
        assert isinstance(value, Categories)
        return value

    def numbers(self, node: Node, key: str, excused: Mask | None = None) -> Floats:
        """Evaluate something that must be one number in each row but those `excused`."""
        held = f"number {key}"
        if held not in self._values:
            values = self._numbers(node)
            seen = values if excused is None else np.where(excused, 0.0, values)
            self._examine(Numbers(seen), node, key)
            self._values[held] = Numbers(values)
            self._note(node, held, lambda: Numbers(self._numbers(node)))
        numbers = self._values[held]
        assert isinstance(numbers, Numbers)
        return numbers.values

    def _numbers(self, node: Node) -> Floats:
        values = self._numeric(node)
        if np.ndim(values) == 0:
            return np.full(self.scope.n_rows, float(values))
        return np.asarray(values)

    def pair(self, nodes: Sequence[Node]) -> tuple[Floats, Floats]:
        """Evaluate two such things, those of ``cbind(first, second)``."""
        first, second = [self.numbers(node, node.printed) for node in nodes]
        return first, second

    def end(self, node: Node, open_end: float) -> Floats:
        """Evaluate one end of an interval, `open_end` where its columns have no value."""
        key = node.printed
        held = f"end {open_end} {key}"
        if held not in self._values:
            values = np.array(np.broadcast_to(self._numeric(node), self.scope.n_rows))
            gone = np.isnan(values)
            left = gone.copy()
            for _, here in self._missing_columns(node, gone):
                left &= ~here
            if left.any():
                self._derived(left, node, key)
            values[gone] = open_end
            self._values[held] = Numbers(values)
        numbers = self._values[held]
        assert isinstance(numbers, Numbers)
        return numbers.values

    def holds_categories(self, node: Node) -> bool:
        """Tell whether a node is a column of categories or text, or makes categories."""
        if isinstance(node, Name) and node.value in self.scope.table:
            return self.scope.table.kind(node.value) in ("categorical", "text", "mixed")
        with np.errstate(all="ignore"):
            return isinstance(self.scope.evaluate(node), Categories)

    def _numeric(self, node: Node) -> Any:
        """Evaluate something that is one number in each row, or a single one."""
        if isinstance(node, Name) and node.value in self.scope.table:
            return self.scope.table.numeric(node.value)
        with np.errstate(all="ignore"):
            return as_numbers(self.scope.evaluate(node), node)

    def _note(self, node: Node, held: str, again: Callable[[], Numbers | Categories]) -> None:
        """Note how to make what is centred by groups again, once the rows used are settled."""
        calls = (part.function for part in walk(node) if isinstance(part, Call))
        if self.scope.fitting and not CENTRED.isdisjoint(calls):
            self._centred[held] = again

    def _centre_on(self, kept: Mask) -> None:
        """Centre by groups on the rows used."""
        if not self._centred:
            return
        self.scope.used = kept
        self.scope.values.clear()
        for held, again in self._centred.items():
            with np.errstate(all="ignore"):
                self._values[held] = again()

    def _examine(self, value: Numbers | Categories, node: Node, key: str) -> None:
        """Note missing rows by column; refuse infinities and what is no number."""
        if isinstance(value, Categories):
            gone: Mask = value.codes < 0
            if not gone.any():
                return
        else:
            finite = np.isfinite(value.values)
            if finite.all():
                return
            self._refuse_infinities(value.values, node, key)
            gone = ~finite if finite.ndim == 1 else ~np.asarray(finite.all(axis=1))
        left = gone.copy()
        for name, here in self._missing_columns(node, gone):
            self.missing[name] = np.asarray(here | self.missing.get(name, here))
            left &= ~here
        if left.any():
            self._derived(left, node, key)

    def _missing_columns(self, node: Node, gone: Mask) -> Iterator[tuple[str, Mask]]:
        """Yield the columns of a node that are missing in some of these rows."""
        for name in node.named:
            if name in self.scope.table:
                here: Mask = self.scope.table.missing(name) & gone
                if here.any():
                    yield name, here

    def _refuse_infinities(self, values: Floats, node: Node, key: str) -> None:
        for name in node.named:
            if name in self.scope.table and self.scope.table.kind(name) == "numeric":
                refuse_infinite(self.scope.table.numeric(name), name)
        refuse_infinite(values, key)

    def _derived(self, rows: Mask, node: Node, key: str) -> None:
        """Account for rows where a function gives no value though its columns have one."""
        for part in walk(node):
            if isinstance(part, Call) and (
                part.function in MAY_LEAVE_GAPS or part.function in self.scope.functions
            ):
                self.missing[key] = rows
                return
        first = int(np.flatnonzero(rows)[0])
        given = [
            f"{name} is {self.scope.table.numeric(name)[first]:g}"
            for name in node.named
            if name in self.scope.table and self.scope.table.kind(name) == "numeric"
        ]
        where = f"first in {row_text(first)}" + (f", where {' and '.join(given)}" if given else "")
        count = count_text(int(np.count_nonzero(rows)), "row")
        raise DataError(f"{key} is not a number in {count} ({where})")

    def missing_rows(self) -> Mask | None:
        """Return where any column is missing; None when nowhere."""
        if not self.missing:
            return None
        gone = np.zeros(self.scope.n_rows, dtype=bool)
        for mask in self.missing.values():
            gone |= mask
        return gone

    def account(self, empty: Mask | None, policy: str) -> Accounting:
        """Decide which rows are used, count by column why others are not, and keep the former.

        Parameters
        ----------
        empty : (N,) bool array or None
            Rows whose weight, or number of trials, is zero.
        policy : {"drop", "raise"}
            What to do with rows that miss a value.
        """
        n_rows, gone = self.n_rows, self.missing_rows()
        if empty is not None and not empty.any():
            empty = None
        counts = {name: int(np.count_nonzero(mask)) for name, mask in self.missing.items()}
        if gone is not None and policy == "raise":
            listed = ", ".join(f"{name} ({count_text(n, 'row')})" for name, n in counts.items())
            raise DataError(f"values are missing in {listed}; missing='drop' leaves these rows out")
        if gone is None and empty is None:
            return Accounting(n_rows)
        kept = np.ones(n_rows, dtype=bool) if gone is None else ~gone
        n_zero = 0
        if empty is not None:
            n_zero = int(np.count_nonzero(kept & empty))
            kept &= ~empty
        if not kept.any():
            listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
            causes = f"missing values: {listed}" if listed else "every weight is zero"
            raise DataError(f"no row of {n_rows} is left to use; {causes}")
        self._centre_on(kept)
        self.keep(kept)
        return Accounting(n_rows, kept, counts, n_zero)

    def take_contrasts(self, models: Iterable[Model], contrasts: Mapping[str, Any] | None) -> None:
        """Set the contrasts of categorical variables."""
        if not contrasts:
            return
        contrasts = arguments.mapping("contrasts", contrasts, "{'f': 'sum'}")
        linear = [terms for m in models for terms in (m.fixed, *(bar.left for bar in m.bars))]
        keys = [key for terms in linear for key in terms.keys]
        for name in contrasts:
            if name not in keys or not isinstance(self._values[name], Categories):
                if name in keys:
                    raise ModelError(
                        f"contrasts for {name!r}, which holds numbers: write factor({name}) in the "
                        f"formula and contrasts={{'factor({name})': ...}}"
                    )
                hint = suggestion(str(name), keys)
                raise ModelError(f"contrasts for {name!r}, which is not in the formula{hint}")
        self.contrasts = {name: read_contrast(value, name) for name, value in contrasts.items()}

    def keep(self, kept: Mask) -> None:
        """Keep only some rows of everything evaluated so far."""
        self._kept = kept
        self.n_rows = int(np.count_nonzero(kept))
        for key, value in self._values.items():
            if isinstance(value, Categories):
                self._values[key] = Categories(
                    value.codes[kept], value.levels, False, value.contrast
                )
            else:
                self._values[key] = Numbers(value.values[kept], value.suffixes, value.logical)

    @property
    def kept(self) -> Mask | None:
        """Which rows (N,) of the table are kept; None before that is decided, and for all."""
        return self._kept

    def variables(self, terms: Terms) -> list[Variable]:
        """Return the variables of a linear predictor, levels and contrasts settled."""
        return [self.variable(key) for key in terms.keys]

    def variable(self, key: str) -> Variable:
        """Return one variable: in a fit its levels are those that occur."""
        variable = self._coded.get(key)
        if variable is None:
            value = self._values[key]
            if isinstance(value, Numbers) and f"levels of {key}" in self.scope.state:
                # categories in the fit: 1 is the level 1 or "1"
                value = as_categories(value, Name(key))
            if isinstance(value, Numbers):
                variable = Variable(key, value)
            elif self.scope.fitting:
                variable = self._coded_here(key, value)
            else:
                variable = self._coded_as_in_fit(key, value)
            self._coded[key] = variable
        return variable

    def _coded_here(self, key: str, value: Categories) -> Variable:
        self.declared[key] = value.levels
        used = drop_unused(value)
        coding = code_levels(self.contrasts.get(key, used.contrast), used.levels, key)
        self.scope.state[f"levels of {key}"] = coding
        return Variable(key, used, coding)

    def _coded_as_in_fit(self, key: str, value: Categories) -> Variable:
        coding = self.scope.state.get(f"levels of {key}")
        if not isinstance(coding, Coding):
            raise DataError(
                f"{key} holds categories here (such as {value.levels[0]!r}), and numbers in the "
                "rows that the model was fitted to; convert it"
            )
        codes, unseen = match_levels(value, coding.levels)
        if unseen.any() and self.unseen_is_missing:
            self.missing[key] = np.asarray(unseen | self.missing.get(key, unseen))
        elif unseen.any():
            new = [value.levels[code] for code in np.unique(value.codes[unseen]).tolist()]
            raise LevelError(
                f"{key} has a level that the fit has not seen: {list_text(new)} "
                f"(in {count_text(int(np.count_nonzero(unseen)), 'row')}); "
                f"its levels are {list_text(list(coding.levels), 10)}"
            )
        return Variable(key, Categories(codes, coding.levels, True), coding)


def _handed_over(value: Any, what: str, table: Table) -> tuple[Floats, str]:
    """Return weights or an offset, one value a row of the table, and their name."""
    if isinstance(value, str):
        if value not in table:
            if what == "offset" and "(" in value:
                raise UnknownColumnError(
                    f"offset takes a column, and {value!r} is none: a function of a column stands "
                    f"in the formula, as in y ~ x + offset({value})"
                )
            raise unknown_column(value, table, what)
        values, name = table.numeric(value), value
    else:
        if np.ndim(value) == 0:
            raise DataError(f"{what} is a column's name or one number for each row")
        value = aligned(value, table.labels, what)
        values, name = read_column(what, value).numeric(), what
    if len(values) != table.n_rows:
        raise DataError(f"{what} has {len(values)} values for {table.n_rows} rows")
    return values, name


def _refuse_negative(weights: Floats) -> None:
    rows = np.flatnonzero(weights < 0)
    if len(rows):
        raise DataError(
            f"weights is negative in {count_text(len(rows), 'row')} (first {weights[rows[0]]:g} in "
            f"{row_text(rows[0])}); a weight is positive, or zero to leave the row out"
        )


def refuse_infinite(values: Floats, name: str) -> None:
    """Refuse numbers (n,) or (n, k) of which one is infinite."""
    rows = np.flatnonzero(np.isinf(values) if values.ndim == 1 else np.isinf(values).any(axis=1))
    if len(rows):
        raise DataError(
            f"{name} is infinite in {count_text(len(rows), 'row')} (first in {row_text(rows[0])}); "
            "mark such values as missing or leave the rows out"
        )
