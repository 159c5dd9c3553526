"""The parts of a formula as data: a small tree, and how it reads in print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from ranef.formula.labels import number_text

__all__ = [
    "Binary",
    "Call",
    "Name",
    "Node",
    "Number",
    "Paren",
    "Sum",
    "Text",
    "Unary",
    "column_names",
    "print_node",
    "strip_parens",
    "walk",
]


class _Readable:
    """What a node reads and names, made once: formulas live on between fits."""

    @cached_property
    def printed(self) -> str:
        """As R prints it."""
        return _print(cast("Node", self))

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Names of columns in order of appearance, each once; not those of contrasts."""
        parts = list(walk(cast("Node", self)))
        coded = [part for part in parts if isinstance(part, Call) and part.function == "C"]
        coding = [one for call in coded for one in _children(call)[1:]]
        aside = {id(one) for node in coding for one in walk(node)}
        names = (p.value for p in parts if isinstance(p, Name) and id(p) not in aside)
        return tuple(dict.fromkeys(names))

    @cached_property
    def bare(self) -> Node:
        """What stands inside any parentheses around it."""
        node = cast("Node", self)
        while isinstance(node, Paren):
            node = node.inner
        return node


@dataclass(frozen=True)
class Number(_Readable):
    """A number, ``2`` or ``1e-3``."""

    value: float
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Text(_Readable):
    """A quoted text, ``"a"``."""

    value: str
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Name(_Readable):
    """A name of a column, or one of the words TRUE, FALSE, NULL, pi."""

    value: str
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Call(_Readable):
    """A function with its arguments, ``poly(x, 2, raw = TRUE)``."""

    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Unary(_Readable):
    """``-x``, ``+x`` or ``!x``."""

    operator: str
    operand: Node
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Binary(_Readable):
    """Two operands and an operator other than ``+`` and ``-``."""

    operator: str
    left: Node
    right: Node
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Sum(_Readable):
    """Two or more parts joined by ``+`` and ``-``; the first sign is ``+``."""

    signs: tuple[str, ...]
    parts: tuple[Node, ...]
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Paren(_Readable):
    """Something in parentheses."""

    inner: Node
    position: int = field(default=0, compare=False)
    depth: int = field(default=1, compare=False)


Node = Number | Text | Name | Call | Unary | Binary | Sum | Paren

SPACED = frozenset(["*", "<", ">", "<=", ">=", "==", "!=", "&", "&&", "|", "||", "%in%"])


def print_node(node: Node) -> str:
    """Print a node as R prints it.

    Examples
    --------
    >>> print_node(Call("poly", (Name("x"), Number(2.0))))
    'poly(x, 2)'
    """
    return node.printed


def _print(node: Node) -> str:
    if isinstance(node, Name):
        return node.value if _is_syntactic(node.value) else f"`{node.value}`"
    if isinstance(node, Number):
        return number_text(node.value)
    if isinstance(node, Text):
        escaped = node.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(node, Paren):
        return f"({node.inner.printed})"
    if isinstance(node, Unary):
        return node.operator + node.operand.printed
    if isinstance(node, Binary):
        joint = f" {node.operator} " if node.operator in SPACED else node.operator
        return f"{node.left.printed}{joint}{node.right.printed}"
    if isinstance(node, Sum):
        first = node.parts[0].printed
        rest = zip(node.signs[1:], node.parts[1:], strict=True)
        return first + "".join(f" {sign} {part.printed}" for sign, part in rest)
    inner = [argument.printed for argument in node.arguments]
    inner += [f"{key} = {value.printed}" for key, value in node.keywords]
    return f"{node.function}({', '.join(inner)})"


def strip_parens(node: Node) -> Node:
    """Return what stands inside any parentheses around a node."""
    return node.bare


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it, from left to right."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        waiting.extend(reversed(_children(here)))


def column_names(node: Node) -> list[str]:
    """Return the names in a node in order of appearance, each once."""
    return list(node.named)


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Call):
        return node.arguments + tuple(value for _, value in node.keywords)
    if isinstance(node, Sum):
        return node.parts
    if isinstance(node, Binary):
        return (node.left, node.right)
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Paren):
        return (node.inner,)
    return ()


def _is_syntactic(name: str) -> bool:
    parts = name.split(".")
    return bool(name) and all(
        part == "" or part.isidentifier() or (i > 0 and f"_{part}".isidentifier())
        for i, part in enumerate(parts)
    )
