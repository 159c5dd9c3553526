"""What means are asked by: ``"a"``, ``["a", "b"]``, ``"a | b"``, ``"pairwise ~ a | b"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranef.errors import FormulaError, ModelError
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Binary, Name, Node, Number, Paren, Sum, print_node, strip_parens

__all__ = ["Specs", "names_of", "read_specs"]


@dataclass(frozen=True)
class Specs:
    """Factors of the means, those that split them, and the contrasts asked for with them."""

    factors: tuple[str, ...]
    by: tuple[str, ...]
    method: str | None = None


def read_specs(specs: Any, by: Any = None) -> Specs:
    """Read what means are asked by.

    Examples
    --------
    >>> read_specs("pairwise ~ a * b | c")
    Specs(factors=('a', 'b'), by=('c',), method='pairwise')
    >>> read_specs(["a", "b"], by="c")
    Specs(factors=('a', 'b'), by=('c',), method=None)
    >>> read_specs("pairwise ~ `a | b`")
    Specs(factors=('a | b',), by=(), method='pairwise')
    """
    method, split = None, names_of("by", by)
    if isinstance(specs, str):
        left, tilde, right = _parted(specs, "~")
        method = left.strip() or None
        body, bar, after = _parted(right, "|")
        factors = _names(body) if body.strip() else ()
        if bar:
            if split:
                raise ModelError(f"{specs!r} has a bar; leave by= out")
            split = _names(after)
        if not tilde and not body.strip():
            raise ModelError("specs is empty; name a predictor, such as 'treatment'")
    else:
        factors = names_of("specs", specs)
    twice = sorted(set(factors) & set(split))
    factors = tuple(name for name in factors if name not in twice)
    return Specs(factors, split, method)


def _parted(text: str, mark: str) -> tuple[str, str, str]:
    """Part a text before and after a mark outside backticks; all is before "|", after "~"."""
    quoted = re.sub(r"`[^`]*`", lambda found: " " * len(found[0]), text)
    at = quoted.rfind(mark) if mark == "~" else quoted.find(mark)
    if at < 0:
        return ("", "", text) if mark == "~" else (text, "", "")
    return text[:at], mark, text[at + 1 :]


def names_of(what: str, value: Any) -> tuple[str, ...]:
    """Return names given as one or several."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Sequence) and all(isinstance(v, str) for v in value):
        return tuple(dict.fromkeys(value))
    raise ModelError(f"{what} is a name or a list of names, not {value!r}")


def _names(text: str) -> tuple[str, ...]:
    """Names joined by ``*``, ``+`` or ``:``; ``1`` for none."""
    if text.strip().isidentifier():
        return (text.strip(),)
    try:
        node = parse_expression(text.strip())
    except FormulaError:
        return (text.strip(),)
    return tuple(dict.fromkeys(_joined(node)))


def _joined(node: Node) -> list[str]:
    node = strip_parens(node)
    if isinstance(node, Name):
        return [node.value]
    if isinstance(node, Number):
        return []
    if isinstance(node, Sum):
        return [name for part in node.parts for name in _joined(part)]
    if isinstance(node, Binary) and node.operator in ("*", ":"):
        return [*_joined(node.left), *_joined(node.right)]
    assert not isinstance(node, Paren)
    return [print_node(node)]
