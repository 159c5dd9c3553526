"""The arguments of a function in a formula, by name and by kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.scope import Scope
from ranef.design.values import Categories, Numbers, Value
from ranef.errors import DataError, FormulaError, row_text
from ranef.formula.labels import level_text
from ranef.formula.syntax import Call, Name, Node
from ranef.tables import reads_as_number

__all__ = ["Arguments", "as_categories", "as_numbers", "read_categories", "same_as"]

Floats = NDArray[np.float64]


def as_numbers(value: Value, node: Node) -> Any:
    """Return a value as float64, one for each row or a single one."""
    if isinstance(value, Numbers):
        if value.values.ndim == 2 and value.values.shape[1] == 1:
            return value.values[:, 0]
        if value.values.ndim != 1:
            raise FormulaError(f"{node.printed}: a basis of several columns cannot stand here")
        return value.values
    if isinstance(value, (bool, int, float)):
        return np.float64(value)
    if isinstance(value, Categories):
        raise DataError(f"{node.printed} needs numbers, but {_instead(value)}")
    raise FormulaError(f"{node.printed}: {value!r} is not a number")


def _instead(value: Categories) -> str:
    """What stands in the place of numbers, and what to do about it."""
    texts = [level_text(level) for level in value.levels]
    odd = [k for k, text in enumerate(texts) if not reads_as_number(text)]
    if not texts or len(odd) == len(texts):
        return f"was given categories such as {texts[0] if texts else ''!r}"
    if not odd:
        return f"was given numbers as text (first {texts[0]!r}); convert the column"
    rows = np.flatnonzero(np.isin(value.codes, odd))
    wrong = texts[value.codes[rows[0]]] if len(rows) else texts[odd[0]]
    where = f" in {row_text(rows[0])}" if len(rows) else ""
    return (
        f"was given text: {wrong!r}{where} is no number"
        f"{f' (nor are {len(rows) - 1} more)' if len(rows) > 1 else ''}; mark such cells as "
        "missing and convert the column"
    )


def as_categories(value: Value, node: Node) -> Categories:
    """Return a value as categories; distinct numbers become levels, in order."""
    if isinstance(value, Categories):
        return value
    if not isinstance(value, Numbers):
        raise FormulaError(f"{node.printed} does not depend on a column")
    values = as_numbers(value, node)
    known = ~np.isnan(values)
    if value.logical:
        return Categories(np.where(known, values == 1.0, -1).astype(np.int32), [False, True])
    levels, inverse = np.unique(values[known], return_inverse=True)
    codes = np.full(len(values), -1, dtype=np.int32)
    codes[known] = inverse
    return Categories(codes, _whole(levels), complete=True)


def read_categories(node: Node, call: Call, scope: Scope) -> Categories:
    """Return an argument of a call as categories; a column keeps its own type of levels."""
    if isinstance(node, Name) and node.value in scope.table:
        kind = scope.table.kind(node.value)
        codes, levels = scope.table.codes(node.value)
        return Categories(codes, levels, complete=kind not in ("categorical", "boolean"))
    return as_categories(scope.evaluate(node), call)


def _whole(levels: Floats) -> list[Any]:
    """Whole numbers as int, so that levels read 1 and not 1.0."""
    return [int(v) if v.is_integer() and abs(v) < 2**53 else v for v in levels.tolist()]


def same_as(level: Any, wanted: Any) -> bool:
    """Tell whether a level is the one that a formula writes."""
    return bool(level == wanted) or (
        isinstance(wanted, (str, float)) and level_text(level) == level_text(wanted)
    )


class Arguments:
    """The arguments of a call by name."""

    def __init__(self, node: Call, names: tuple[str, ...]) -> None:
        self.node = node
        self.names = names
        self.found: dict[str, Node] = {}
        if len(node.arguments) > len(names):
            raise self.error(f"takes at most {len(names)} arguments")
        self.found.update(zip(names, node.arguments, strict=False))
        for key, value in node.keywords:
            if key not in names:
                raise self.error(f"has no argument {key!r}; it has {', '.join(names)}")
            if key in self.found:
                raise self.error(f"is given {key!r} twice")
            self.found[key] = value

    def error(self, message: str) -> FormulaError:
        return FormulaError(f"{self.node.printed}: {self.node.function}() {message}")

    def node_of(self, name: str) -> Node:
        if name not in self.found:
            written = ", ".join(self.names[: self.names.index(name) + 1])
            raise self.error(f"needs {name!r}: {self.node.function}({written})")
        return self.found[name]

    def rows(self, name: str, scope: Scope) -> Floats:
        """Return an argument that is a number in each row."""
        values = as_numbers(scope.evaluate(self.node_of(name)), self.node)
        if np.ndim(values) == 0:
            raise self.error("does not depend on a column")
        return np.asarray(values)

    def constant(self, name: str, scope: Scope, default: Any = None) -> Any:
        if name not in self.found:
            return default
        value = scope.evaluate(self.found[name])
        if isinstance(value, (Numbers, Categories)):
            raise self.error(f"takes a constant as {name!r}, not a column")
        return value

    def whole(self, name: str, scope: Scope, default: int | None, low: int, high: int) -> Any:
        value = self.constant(name, scope, default)
        if value is None:
            return None
        if isinstance(value, (bool, str, tuple)) or value % 1 or not low <= value <= high:
            raise self.error(f"needs a whole number from {low} to {high} as {name!r}")
        return int(value)

    def flag(self, name: str, scope: Scope, default: bool) -> bool:
        value = self.constant(name, scope, default)
        if not isinstance(value, bool):
            raise self.error(f"takes TRUE or FALSE as {name!r}")
        return value

    def numbers(self, name: str, scope: Scope) -> tuple[float, ...] | None:
        value = self.constant(name, scope)
        if value is None:
            return None
        values = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
            raise self.error(f"takes numbers as {name!r}")
        return tuple(float(v) for v in values)
