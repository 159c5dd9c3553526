"""Several memberships of one row as written: ``mm(school1, school2, weights = cbind(w1, w2))``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ranef.errors import FormulaError
from ranef.formula.syntax import Call, Name, Node

__all__ = ["Membership", "read_membership"]

FUNCTION = "mm"
LOGICAL = {"TRUE": True, "True": True, "T": True, "FALSE": False, "False": False, "F": False}


@dataclass(frozen=True)
class Membership:
    """The columns of a grouping factor of which a row may have several levels.

    Attributes
    ----------
    columns : tuple of Node
        Each holds a level, or nothing.
    weights : tuple of Node
        How much each counts; empty where all count alike.
    scale : bool
        Whether the weights of a row are made to sum to one.
    """

    columns: tuple[Node, ...]
    weights: tuple[Node, ...] = ()
    scale: bool = True

    @property
    def name(self) -> str:
        """The factor in tables."""
        return f"{FUNCTION}({', '.join(_bare(node) for node in self.columns)})"


def _bare(node: Node) -> str:
    return node.value if isinstance(node, Name) else node.printed


def read_membership(node: Node, error: Callable[[str, Node], FormulaError]) -> Membership | None:
    """Read ``mm(...)``; None of another grouping factor.

    Parameters
    ----------
    node : Node
    error : callable
        Makes an error of a message and where it stands.
    """
    if not isinstance(node, Call) or node.function != FUNCTION:
        return None
    said = dict(node.keywords)
    odd = [key for key in said if key not in ("weights", "scale")]
    if odd:
        raise error(f"mm() has no argument {odd[0]!r}; it has weights and scale", node)
    columns = tuple(argument.bare for argument in node.arguments)
    if len(columns) < 2:
        raise error("mm() takes two columns of memberships or more: mm(school1, school2)", node)
    if len({column.printed for column in columns}) < len(columns):
        raise error("mm() has a column twice", node)
    if not all(column.named for column in columns):
        raise error("mm() takes columns of memberships", node)
    weights = _weights(said.get("weights"), node, error)
    if weights and len(weights) != len(columns):
        raise error(
            f"mm() has {len(columns)} columns of memberships and {len(weights)} of weights; each "
            "membership has one: weights = cbind(w1, w2)",
            node,
        )
    return Membership(columns, weights, _scale(said.get("scale"), node, error))


def _weights(
    given: Node | None, node: Node, error: Callable[[str, Node], FormulaError]
) -> tuple[Node, ...]:
    if given is None:
        return ()
    inner = given.bare
    if not isinstance(inner, Call) or inner.function != "cbind" or inner.keywords:
        raise error("the weights of mm() are columns: weights = cbind(w1, w2)", node)
    return tuple(argument.bare for argument in inner.arguments)


def _scale(given: Node | None, node: Node, error: Callable[[str, Node], FormulaError]) -> bool:
    if given is None:
        return True
    inner = given.bare
    if not isinstance(inner, Name) or inner.value not in LOGICAL:
        raise error("scale of mm() is TRUE or FALSE", node)
    return LOGICAL[inner.value]
