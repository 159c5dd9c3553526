"""The classes that a file may name, and what must hold of their objects."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from ranef.errors import FileError

__all__ = ["Record", "record_named", "record_of", "register"]


@dataclass(frozen=True, eq=False)
class Record:
    """How the objects of one class are written and read, see `register`."""

    cls: type
    name: str
    shapes: Mapping[str, str]
    derived: Mapping[str, Callable[..., Any]]
    check: Callable[[Any], None] | None
    stand_in: type[Any] | None

    @cached_property
    def fields(self) -> dict[str, tuple[Any, bool]]:
        """What a file holds: the type of each field, and whether it must be there."""
        cls = self.stand_in or self.cls
        parameters = inspect.signature(cls).parameters.values()
        kept = {p.name: p.default is p.empty for p in parameters if p.name not in self.derived}
        types = field_types(cls, kept)
        return {name: (types[name], required) for name, required in kept.items()}

    def made(self, values: dict[str, Any], functions: Mapping[str, Any]) -> Any:
        """Make an object of what a file holds, if it holds together."""
        more = {name: make(functions=functions, **values) for name, make in self.derived.items()}
        held: Any = (self.stand_in or self.cls)(**values, **more)
        self.check_shapes(held)
        if self.check is not None:
            self.check(held)
        return held if self.stand_in is None else held.restored()

    def check_shapes(self, held: Any) -> None:
        """Refuse an object in which sizes of one name differ."""
        sizes: dict[str, int] = {}
        for path, dimensions in self.shapes.items():
            names = dimensions.split()
            for shape in map(shape_of, reached(held, *path.split("."))):
                pairs = zip(names, shape, strict=False)
                wanted = [s if name == "*" else sizes.setdefault(name, s) for name, s in pairs]
                if wanted != list(shape) or len(names) != len(shape):
                    raise FileError(
                        f"{path} of {self.name} has shape {shape}, not ({dimensions}) with {sizes}"
                    )


RECORDS: dict[str, Record] = {}
FIELDS = {
    "dynamic": "ranef.fields.dynamic.storing",
    "structural": "ranef.fields.structural.storing",
}
"""Kinds of fits that a field brings, and the module that registers them when a file holds one."""


def register(
    cls: type,
    name: str | None = None,
    *,
    shapes: Mapping[str, str] | None = None,
    derived: Mapping[str, Callable[..., Any]] | None = None,
    check: Callable[[Any], None] | None = None,
    stand_in: type[Any] | None = None,
) -> None:
    """Make a class known, so that its objects can be saved and a file may name it.

    A file holds the parameters of the class' constructor: they are taken from the
    attributes of the same names and read by the types that the class declares for these.

    Parameters
    ----------
    cls : type
        A frozen dataclass, or a class with a `stand_in`.
    name : str, optional
        In files, for all time; by default the class' `file_kind` or its own name.
    shapes : mapping of str to str, optional
        Sizes by name, which must agree within an object: ``{"y": "n", "X": "n p",
        "names": "p", "terms.z": "n *"}``. A path goes through attributes and through
        every item of a tuple or mapping; a whole number is a size; ``*`` is any size.
    derived : mapping of str to callable, optional
        Parameters that a file does not hold: what makes them, of the others and of
        `functions` (those handed over to `load`), all as keywords.
    check : callable, optional
        Raises an error where an object does not hold together.
    stand_in : type, optional
        A dataclass to save instead: ``of(value)`` makes it, ``restored()`` goes back.
    """
    name = str(name or getattr(cls, "file_kind", cls.__name__))
    known = RECORDS[name].cls if name in RECORDS else cls
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"{name!r} is the name of {known.__module__}.{known.__qualname__} in files; "
            "register the other class by another name"
        )
    RECORDS[name] = Record(cls, name, shapes or {}, derived or {}, check, stand_in)


def record_named(name: Any) -> Record | None:
    """Return the record of that name in files, if there is one."""
    if not isinstance(name, str):
        return None
    if name in FIELDS and name not in RECORDS:
        import_module(FIELDS[name])
    return RECORDS.get(name)


def record_of(cls: type) -> Record | None:
    """Return the record of a class, or of a fit's class by its kind of file."""
    named = record_named(getattr(cls, "file_kind", None))
    return named or next((record for record in RECORDS.values() if record.cls is cls), None)


def field_types(cls: type, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types that a class and its bases declare for these attributes."""
    types: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        stated = {k: v for k, v in inspect.get_annotations(base).items() if k in names}
        holder = type(base.__name__, (), {"__annotations__": stated, "__module__": base.__module__})
        types |= typing.get_type_hints(holder)
    return types


def reached(value: Any, *path: str) -> Iterator[Any]:
    """Yield what stands at the end of a path of attributes, in every item on the way."""
    if path and isinstance(value, (tuple, list, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from reached(item, *path)
    elif path and value is not None:
        yield from reached(getattr(value, path[0]), *path[1:])
    elif value is not None:
        yield value


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, the length of a tuple, a whole number as a size."""
    if isinstance(value, int):
        return (value,)
    return (len(value),) if isinstance(value, (tuple, list, Mapping)) else np.shape(value)
