"""Formulas are data: this is what reads them against a table.

Nothing typed in a formula is executed as Python. A name is a column, a
function is one of `FUNCTIONS` or one that the call handed over, and anything
else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.arguments import as_numbers, same_as
from ranef.design.functions import ELEMENTWISE, FUNCTIONS, call_user
from ranef.design.scope import Scope
from ranef.design.state import State
from ranef.design.values import Categories, Constant, Numbers, Value
from ranef.elsewhere import formula_hint
from ranef.errors import DataError, FileError, FormulaError, UnknownColumnError, suggestion
from ranef.formula.labels import list_text
from ranef.formula.syntax import (
    Binary,
    Call,
    Name,
    Node,
    Number,
    Paren,
    Sum,
    Text,
    Unary,
)
from ranef.tables import Table
from ranef.tables.codes import mixed_for_numbers
from ranef.tables.table import Column

__all__ = ["CONSTANTS", "TableScope", "evaluate", "unknown_column"]

Floats = NDArray[np.float64]
CONSTANTS: dict[str, Constant] = {
    "TRUE": True,
    "FALSE": False,
    "True": True,
    "False": False,
    "NULL": None,
    "None": None,
    "pi": float(np.pi),
}
LIFTED: dict[str, Callable[..., Any]] = {
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "%%": np.mod,
    "%/%": np.floor_divide,
}
COMPARED: dict[str, Callable[..., Any]] = {
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@dataclass(eq=False)
class TableScope:
    """The scope of a formula that is read against a table.

    Attributes
    ----------
    table : Table
    functions : mapping of str to callable
        What the call handed over.
    state : dict
        Printed call -> what it learned. Filled while `fitting`, read otherwise.
    fitting : bool
    values : dict
        Printed call -> its value.
    used : (N,) bool array or None
        Rows of the model, once they are settled: groups are centred on these.
    """

    table: Table
    functions: Mapping[str, Callable[..., Any]]
    state: dict[str, State]
    fitting: bool
    values: dict[str, Value] = field(default_factory=dict)
    used: NDArray[np.bool_] | None = None

    @property
    def n_rows(self) -> int:
        return self.table.n_rows

    def evaluate(self, node: Node) -> Value:
        """Evaluate a node; calls are evaluated once."""
        if not isinstance(node, Call):
            return evaluate(node, self)
        key = node.printed
        if key not in self.values:
            self.values[key] = evaluate(node, self)
        return self.values[key]

    def remembered(self, key: str, kind: type[Any]) -> Any:
        """Return what a call learned in the fit."""
        found = self.state.get(key)
        if not isinstance(found, kind):
            raise FileError(f"the saved model does not hold what {key} needs; the file is damaged")
        return found


def evaluate(node: Node, scope: Scope) -> Value:
    """Evaluate one node against the table."""
    if isinstance(node, Name):
        return _name(node, scope)
    if isinstance(node, (Number, Text)):
        return node.value
    if isinstance(node, Paren):
        return scope.evaluate(node.inner)
    if isinstance(node, Call):
        return _call(node, scope)
    if isinstance(node, Unary):
        return _unary(node, scope)
    if isinstance(node, Sum):
        return _sum(node, scope)
    return _binary(node, scope)


def _name(node: Name, scope: Scope) -> Value:
    if node.value in scope.table:
        return _value_of(scope.table.column(node.value))
    if node.value in CONSTANTS:
        return CONSTANTS[node.value]
    raise unknown_column(node.value, scope.table)


def unknown_column(name: str, table: Table, what: str = "") -> UnknownColumnError:
    """Return the error for a name that is no column: with a suggestion, or with what there is.

    Parameters
    ----------
    name : str
    table : Table
    what : str
        The argument that the name was given for, if one was.
    """
    hint = _marked_hint(name, table) or suggestion(name, table.columns)
    if name in getattr(table.index, "names", ()):
        hint = f"; {name!r} is the index of the table: table.reset_index() makes it a column"
    return UnknownColumnError(
        f"no column {name!r}{f' for {what}' if what else ''}"
        f"{hint or f'; the table has {list_text(table.columns, 8)}'}"
    )


def _marked_hint(name: str, table: Table) -> str:
    """Answer a column's name with the mark of another program: ``i.sex``, ``L.stress``, ``a.b``."""
    mark, _, rest = name.partition(".")
    if rest not in table:
        return ""
    if mark in ("i", "ib", "b"):
        return f"; a column read as categories is factor({rest})"
    if mark == "c":
        return f"; a column of numbers stands by its own name, {rest}"
    if mark in ("L", "l", "D", "F"):
        return f"; the value before is lag({rest}, g, time = t), by group and time"
    if mark in table:
        return f"; the interaction of {mark} and {rest} is {mark}:{rest}"
    return ""


def _value_of(column: Column) -> Value:
    """Read a column as numbers or as categories."""
    name, kind = column.name, column.kind
    if kind in ("numeric", "boolean", "empty"):
        return Numbers(column.numeric(), logical=kind == "boolean")
    if kind in ("text", "categorical"):
        codes, levels = column.codes()
        return Categories(codes, levels, complete=kind == "text")
    if kind in ("datetime", "duration"):
        since = " since 1970-01-01 00:00 UTC" if kind == "datetime" else ""
        unit, since = ("days", " since 1970-01-01") if column.holds_dates() else ("seconds", since)
        raise DataError(
            f"column {name!r} holds {kind}s; in a formula write as.numeric({name}) for "
            f"{unit}{since}, or factor({name}) for categories"
        )
    raise DataError(mixed_for_numbers(name, column.values()))


def _unary(node: Unary, scope: Scope) -> Value:
    operand = scope.evaluate(node.operand)
    if node.operator == "!":
        values = as_numbers(operand, node)
        return _logical(values == 0, np.isnan(values))
    values = as_numbers(operand, node)
    return _wrapped(-values if node.operator == "-" else values)


def _sum(node: Sum, scope: Scope) -> Value:
    total = as_numbers(scope.evaluate(node.parts[0]), node)
    for sign, part in zip(node.signs[1:], node.parts[1:], strict=True):
        value = as_numbers(scope.evaluate(part), node)
        total = total + value if sign == "+" else total - value
    return _wrapped(total)


def _binary(node: Binary, scope: Scope) -> Value:
    operator = node.operator
    if operator == ":":
        raise FormulaError(f"{node.printed}: ':' has no meaning inside a function")
    left, right = scope.evaluate(node.left), scope.evaluate(node.right)
    if operator == "%in%":
        return _among(left, right, node)
    if operator in ("==", "!=") and _has_text(left, right):
        return _compare_text(left, right, operator, node)
    a, b = as_numbers(left, node), as_numbers(right, node)
    if operator in LIFTED:
        return _wrapped(LIFTED[operator](a, b))
    if operator in COMPARED:
        return _logical(COMPARED[operator](a, b), np.isnan(a) | np.isnan(b))
    either = (a != 0) | (b != 0) if operator in ("|", "||") else (a != 0) & (b != 0)
    return _logical(either, np.isnan(a) | np.isnan(b))


def _has_text(*values: Value) -> bool:
    return any(isinstance(value, (Categories, str)) for value in values)


def _compare_text(left: Value, right: Value, operator: str, node: Node) -> Numbers:
    if isinstance(right, Categories) and not isinstance(left, Categories):
        left, right = right, left
    if not isinstance(left, Categories) or isinstance(right, (Categories, Numbers)):
        raise FormulaError(
            f"{node.printed}: a categorical column is compared with a quoted level, "
            "a numeric one with a number"
        )
    equal = _among(left, (right,), node)
    return equal if operator == "==" else Numbers(1.0 - equal.values, logical=True)


def _among(left: Value, right: Value, node: Node) -> Numbers:
    wanted = right if isinstance(right, tuple) else (right,)
    if isinstance(right, (Numbers, Categories)):
        raise FormulaError(f"{node.printed}: what stands right is a list: c('a', 'b')")
    if isinstance(left, Categories):
        hit = np.array([any(same_as(level, w) for w in wanted) for level in left.levels] + [False])
        return _logical(hit[left.codes], left.codes < 0)
    values = as_numbers(left, node)
    numbers = [w for w in wanted if isinstance(w, (float, int))]
    return _logical(np.isin(values, numbers), np.isnan(values))


def _logical(values: Any, missing: Any) -> Numbers:
    return Numbers(np.where(missing, np.nan, np.asarray(values, dtype=np.float64)), logical=True)


def _wrapped(values: Any) -> Value:
    """A row of numbers, or a constant where no column took part."""
    if np.ndim(values) == 0:
        return float(values)
    return Numbers(values)


def _call(node: Call, scope: Scope) -> Value:
    name = node.function
    if name in scope.functions:
        return call_user(node, scope)
    if name in ELEMENTWISE:
        return _elementwise(node, scope)
    if name in FUNCTIONS:
        return FUNCTIONS[name](node, scope)
    known = [*FUNCTIONS, *ELEMENTWISE, *scope.functions]
    hint = formula_hint(name) or suggestion(name, known) or _column_hint(node, scope)
    if name in scope.table:
        hint = f"; {name!r} is a column, and an operator such as * is missing before '('"
    own = f"; a function of your own is given by functions={{{name!r}: ...}}"
    raise UnknownColumnError(f"no function {name!r}{hint or own}")


def _column_hint(node: Call, scope: Scope) -> str:
    """Suggest a column with parentheses in its name, which reads as a call."""
    columns = [name for name in scope.table.columns if "(" in name]
    return suggestion(node.printed, columns)


def _elementwise(node: Call, scope: Scope) -> Value:
    function, arity = ELEMENTWISE[node.function]
    if node.keywords or len(node.arguments) != arity:
        plural = "s" if arity > 1 else ""
        raise FormulaError(f"{node.printed}: {node.function}() takes {arity} argument{plural}")
    values = [as_numbers(scope.evaluate(argument), node) for argument in node.arguments]
    return _wrapped(function(*values))
