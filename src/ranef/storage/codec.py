"""Trees of frozen dataclasses as plain values and arrays, and back, by the types of fields.

The type that a field declares says how its value is written and read: numbers, text and
truth values as JSON has them, ``Any`` as a label, an array by the name under which the
file holds it, tuples and mappings part by part, a record as its registered name beside
its fields. So a file chooses among registered classes, and nothing else is ever made.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, FileError, RanefError
from ranef.storage.labels import PLAIN, read_label, written_label
from ranef.storage.registry import record_named, record_of

__all__ = ["CLASS", "DAMAGE", "DTYPES", "Bundle", "Functions", "decode", "encode", "stored_type"]

Functions = Mapping[str, Callable[..., Any]]
Leaf = Callable[[Any, Any, str], Any]

CLASS = "class"
UNITS = ("ns", "us", "ms", "s", "m", "h", "D", "W", "M", "Y")
TIMES = (f"<{kind}8[{unit}]" for kind in "Mm" for unit in UNITS)
DTYPES = frozenset(("|b1", "<i4", "<i8", "<f8", *TIMES))
SPARSE = "scipy.sparse"
COMPRESSED = ("data", "indices", "indptr")
WIDEST = 1 << 63
DAMAGE = (
    ArithmeticError, AttributeError, LookupError, RanefError, RecursionError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bundle:
    """Plain JSON values, the arrays that they name, and functions that no file holds."""

    values: Any
    arrays: dict[str, NDArray[Any]]
    functions: Functions = field(default_factory=dict)


def stored_type(kind: np.dtype[Any]) -> str | None:
    """Return the type in which a file holds an array of some type; None where it does not."""
    name = kind.newbyteorder("<").str
    return name if name in DTYPES else {"f": "<f8", "i": "<i8"}.get(kind.kind)


def encode(value: Any) -> Bundle:
    """Take an object of a registered class apart."""
    writer = _Writer()
    return Bundle(writer.record(value, object, ""), writer.arrays)


def decode(bundle: Bundle, cls: type) -> Any:
    """Put an object of a registered class together again; what does not fit is a `FileError`."""
    try:
        return _Reader(bundle).record(bundle.values, cls, "")
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise FileError(f"its parts do not fit: {reason}") from error


@cache
def _parsed(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(kind), typing.get_args(kind)


def _walk(value: Any, kind: Any, leaf: Leaf, where: str) -> Any:
    """Carry the leaves of a value of some type through a function."""
    origin, parts = _parsed(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _walk(value, _one(parts, value), leaf, where)
    if origin in (tuple, list, Sequence):
        made, items = tuple if origin is tuple else list, _typed(value, parts, where)
        if parts[0] is Any:
            return made(v if _is_plain(v) else leaf(v, Any, where) for v, _ in items)
        return made(_walk(v, k, leaf, f"{where}.{i}") for i, (v, k) in enumerate(items))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, "values by name", value)
        return {
            _scalar(name, str, where): _walk(v, parts[1], leaf, f"{where}.{name}")
            for name, v in value.items()
        }
    if origin is typing.Literal or kind in (bool, int, float, str):
        return _scalar(value.item() if isinstance(value, np.generic) else value, kind, where)
    return leaf(value, kind, where)


def _is_plain(value: Any) -> bool:
    """Tell whether a label is its own form in JSON; text is looked at where it is not ASCII."""
    return type(value) in PLAIN and (type(value) is not str or value.isascii())


def _one(kinds: tuple[Any, ...], value: Any) -> Any:
    """Return the one of a union's types that a value, or a record's name, belongs to."""
    record = record_named(value.get(CLASS)) if isinstance(value, dict) else None
    cls = type(value) if record is None else record.cls
    real = [kind for kind in kinds if kind is not type(None)]
    return next((k for k in real if isinstance(k, type) and issubclass(cls, k)), real[0])


def _typed(values: Any, kinds: tuple[Any, ...], where: str) -> zip[tuple[Any, Any]]:
    """Pair the items of a list with their types."""
    if not isinstance(values, (list, tuple)):
        raise _wrong(where, "a list", values)
    if len(kinds) == 1 or kinds[1] is ...:
        return zip(values, repeat(kinds[0]), strict=False)
    if len(values) != len(kinds):
        raise _wrong(where, f"{len(kinds)} values", values)
    return zip(values, kinds, strict=True)


def _scalar(data: Any, kind: Any, where: str) -> Any:
    """Return a number, a truth value or a text, if it is one of the type."""
    choices, kinds = typing.get_args(kind), (int, float) if kind is float else (kind,)
    if data not in choices if choices else type(data) not in kinds:
        raise _wrong(where, f"one of {choices}" if choices else kind.__name__, data)
    if type(data) is str and not data.isascii():
        data.encode()  # half a character is a ValueError
    if type(data) is int and not -WIDEST <= data < WIDEST:
        raise _wrong(where, "a number of 64 bits", data)
    return data


def _wrong(where: str, wanted: str, data: Any) -> FileError:
    """Say that something else stands where a value of some type should."""
    place = where.removeprefix(".") or "the file"
    return FileError(f"{place!r} should hold {wanted}, not {str(data)[:40]!r}")


class _Writer:
    """Takes objects apart; arrays of one content are kept once."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self._samples: dict[Any, str] = {}

    def leaf(self, value: Any, kind: Any, where: str) -> Any:
        if kind is Any:
            return written_label(value)
        if typing.get_origin(kind) is np.ndarray:
            return {"array": self.array(value, array_type(kind), where)}
        if issubclass(kind, Enum):
            return value.name
        if kind.__module__.startswith(SPARSE) and type(value) is kind:
            parts = {part: getattr(value, part) for part in COMPRESSED}
            arrays = {k: {"array": self.array(v, None, f"{where}.{k}")} for k, v in parts.items()}
            return {"shape": list(value.shape), **arrays}
        return self.record(value, kind, where)

    def array(self, values: Any, kind: Any, where: str) -> str:
        """Keep an array, and return its name: that of its field, or of its like before."""
        array = np.asarray(values, dtype=kind)
        stored = stored_type(array.dtype)
        if stored is None:
            raise DataError(f"cannot save {where[1:]}, an array of {array.dtype}")
        array = np.ascontiguousarray(array, stored)
        name = next(part for part in reversed(where.split(".")) if part.isidentifier())[:40]
        name = f"{name}.{len(self.arrays)}" if name in self.arrays else name
        some = array.ravel()[:: array.size // 64 + 1].tobytes()
        like = self._samples.setdefault((stored, array.shape, some), name)
        if like != name and self.arrays[like].tobytes() == array.tobytes():
            return like
        self.arrays[name] = array
        return name

    def record(self, value: Any, cls: type, where: str) -> dict[str, Any]:
        record = record_of(type(value))
        if record is None or not isinstance(value, cls):
            raise DataError(
                f"cannot save {where[1:] or 'it'}: {type(value).__name__} is not registered; "
                "see ranef.storage.register"
            )
        held = value if record.stand_in is None else record.stand_in.of(value)
        parts = {
            name: _walk(getattr(held, name), kind, self.leaf, f"{where}.{name}")
            for name, (kind, _) in record.fields.items()
        }
        return {CLASS: record.name, **parts}


class _Reader:
    """Puts objects together."""

    def __init__(self, bundle: Bundle) -> None:
        self.arrays = bundle.arrays
        self.functions = bundle.functions

    def leaf(self, data: Any, kind: Any, where: str) -> Any:
        if kind is Any:
            return read_label(data)
        if typing.get_origin(kind) is np.ndarray:
            return self.array(data, array_type(kind), where)
        if issubclass(kind, Enum):
            return kind[data]
        if kind.__module__.startswith(SPARSE):
            parts = [self.array(data[part], None, f"{where}.{part}") for part in COMPRESSED]
            matrix = kind(tuple(parts), shape=tuple(data["shape"]))
            matrix.check_format(full_check=True)
            return matrix
        return self.record(data, kind, where)

    def array(self, data: Any, kind: Any, where: str) -> NDArray[Any]:
        """Return the array of that name, or one of a list of numbers, as in files of ranef 0.1."""
        name = data.get("array") if isinstance(data, dict) else None
        if not isinstance(data, list) and not (isinstance(name, str) and name in self.arrays):
            raise _wrong(where, "the name of an array", data)
        array = self.arrays[name] if name else np.array(data, dtype=kind)
        if stored_type(array.dtype) is None or (kind is not None and array.dtype != kind):
            wanted = "numbers" if kind is None else kind.__name__
            raise _wrong(where, f"an array of {wanted}", array.dtype)
        return array

    def record(self, data: Any, cls: type, where: str) -> Any:
        name = data.get(CLASS) if isinstance(data, dict) else data
        record = record_named(name)
        if record is None or not issubclass(record.cls, cls):
            raise _wrong(where, f"a {cls.__name__}", name)
        if more := data.keys() - record.fields.keys() - {CLASS}:
            raise FileError(f"{record.name} has no {', '.join(sorted(more))}")
        values = {
            name: _walk(data[name], kind, self.leaf, f"{where}.{name}")
            for name, (kind, required) in record.fields.items()
            if required or name in data
        }
        return record.made(values, self.functions)


def array_type(kind: Any) -> Any:
    """Return the type of numbers of ``NDArray[...]``; None where that is any."""
    numbers = typing.get_args(typing.get_args(kind)[1])[0]
    return None if numbers is Any else numbers
