"""A formula with some of its variables replaced by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ranef.formula.model import STRUCTURES
from ranef.formula.parser import parse_formula
from ranef.formula.syntax import Binary, Call, Node, Paren, Sum, Unary

__all__ = ["substituted"]

BARS = ("|", "||")


def substituted(formula: str, fixed: Mapping[str, Node], random: Mapping[str, Node]) -> str:
    """Return a formula with variables replaced by their print.

    Parameters
    ----------
    formula : str
    fixed, random : mapping of str to Node
        What stands in the place of a variable of the fixed effects, and left of a bar. The
        response, grouping factors and what stands inside a function stay.

    Examples
    --------
    >>> from ranef.formula.parser import parse_expression
    >>> part = parse_expression("within(x, g)")
    >>> substituted("y ~ x * f + log(x) + (x | g)", {"x": part}, {"x": part})
    'y ~ within(x, g) * f + log(x) + (within(x, g) | g)'
    """
    response, right = parse_formula(formula)
    left = "" if response is None else f"{response.printed} "
    return f"{left}~ {_replaced(right, fixed, random).printed}"


def _flat(node: Sum, parts: list[Node]) -> Sum:
    """Put sums that are added without their parentheses."""
    signs: list[str] = []
    flat: list[Node] = []
    for sign, part, before in zip(node.signs, parts, node.parts, strict=True):
        inner = part.bare if sign == "+" and part is not before else part
        if isinstance(inner, Sum) and inner is not part:
            flat, signs = [*flat, *inner.parts], [*signs, *inner.signs]
        else:
            flat, signs = [*flat, part], [*signs, sign]
    return replace(node, signs=tuple(signs), parts=tuple(flat))


def _replaced(node: Node, here: Mapping[str, Node], random: Mapping[str, Node]) -> Node:
    if node.printed in here:
        return here[node.printed]
    if isinstance(node, Binary) and node.operator in BARS:
        return replace(node, left=_replaced(node.left, random, random))
    if isinstance(node, Binary) and node.operator == "^":
        return replace(node, left=_replaced(node.left, here, random))
    if isinstance(node, Binary):
        left, right = (_replaced(part, here, random) for part in (node.left, node.right))
        return replace(node, left=left, right=right)
    if isinstance(node, Sum):
        return _flat(node, [_replaced(part, here, random) for part in node.parts])
    if isinstance(node, Paren):
        return replace(node, inner=_replaced(node.inner, here, random))
    if isinstance(node, Unary):
        return replace(node, operand=_replaced(node.operand, here, random))
    if isinstance(node, Call) and node.function in STRUCTURES:
        inside = tuple(_replaced(part, here, random) for part in node.arguments)
        return replace(node, arguments=inside)
    return node
