"""What `residual=` and `dispersion=` of a linear model ask for, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ranef.errors import FormulaError, suggestion
from ranef.formula.model import Grouping, Model, Terms, model_with_dot
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Binary, Call, Name, Node, Number

__all__ = ["ResidualModel", "ResidualStructure", "dispersion_model", "read_residual"]

ALONE = frozenset({"homcs"})
"""Structures that need no position of the rows."""
SPATIAL = frozenset({"exp", "gau", "mat"})
OF_CLOCK = frozenset({"car1", "ou"}) | SPATIAL


ELSEWHERE = {
    "un": "us",
    "unr": "us",
    "unstructured": "us",
    "unstr": "us",
    "corsymm": "us",
    "csh": "cs",
    "cshomog": "homcs",
    "compound": "homcs",
    "exchangeable": "homcs",
    "corcompsymm": "homcs",
    "ar": "ar1",
    "ar2": "arma",
    "corar1": "ar1",
    "corcar1": "car1",
    "corarma": "arma",
    "arh": "hetar1",
    "arh1": "hetar1",
    "ar1h": "hetar1",
    "toeph": "toep",
    "ad": "ante",
    "adh": "ante",
    "sp": "ou",
    "sp_exp": "ou",
    "sp_pow": "ou",
    "corexp": "ou",
    "corgaus": "gau",
    "matern": "mat",
}
"""Names of structures in SAS, nlme and mmrm."""


@dataclass(frozen=True)
class ResidualStructure:
    """One structure as written, ``ar1(time | person)``.

    Attributes
    ----------
    kind : str
    text : str
        What stands left of the bar, in print.
    left : Terms
        The position of a row; no variables where it does not matter.
    group : Grouping or None
        None where all rows are one group.
    by : Grouping or None
    nugget : bool
    order : tuple of int or None
    """

    kind: str
    text: str
    left: Terms
    group: Grouping | None
    by: Grouping | None
    nugget: bool
    order: tuple[int, int] | None


@dataclass(frozen=True)
class ResidualModel:
    """A residual structure as written; several are a product.

    Attributes
    ----------
    text : str
        In print.
    parts : tuple of ResidualStructure
    """

    text: str
    parts: tuple[ResidualStructure, ...]


def read_residual(text: str, known: Mapping[str, object] | tuple[str, ...]) -> ResidualModel:
    """Read ``"ar1(time | person)"``, or a product ``"us(partner | couple) * ar1(day | couple)"``.

    Parameters
    ----------
    known : collection of str
        Names of structures.
    """
    calls: list[Call] = []
    _collect(parse_expression(text).bare, calls, text)
    parts = tuple(_structure(call, tuple(known)) for call in calls)
    groups = {None if part.group is None else part.group.text for part in parts}
    bys = {part.by.text: part.by for part in parts if part.by is not None}
    if len(groups) > 1 or len(bys) > 1:
        raise FormulaError(
            f"the parts of {text} have different groups; a product has one group: "
            "us(partner | couple) * ar1(day | couple)"
        )
    by = next(iter(bys.values()), None)
    parts = tuple(replace(part, by=by) for part in parts)
    return ResidualModel(" * ".join(call.printed for call in calls), parts)


def _collect(node: Node, calls: list[Call], text: str) -> None:
    node = node.bare
    if isinstance(node, Binary) and node.operator == "*":
        _collect(node.left, calls, text)
        _collect(node.right, calls, text)
    elif isinstance(node, Call):
        calls.append(node)
    else:
        raise FormulaError(
            f"residual={text!r} is no structure; write one such as 'ar1(time | person)', or the "
            "product of two"
        )


def _structure(call: Call, known: tuple[str, ...]) -> ResidualStructure:
    kind = call.function
    if kind not in known:
        here = ELSEWHERE.get(kind.lower(), "")
        hint = f"; did you mean {here!r}?" if here in known else suggestion(kind, known)
        raise FormulaError(f"no residual structure {kind!r}{hint}; there are {', '.join(known)}")
    if len(call.arguments) != 1:
        raise FormulaError(f"{kind}() takes positions and a group: {kind}(time | person)")
    inside = call.arguments[0].bare
    group: Grouping | None = None
    left = inside
    if isinstance(inside, Binary) and inside.operator == "|":
        left = inside.left
        group = _model(f"(1 | {inside.right.printed})").bars[0].groups[0]
    elif isinstance(inside, Binary) and inside.operator == "||":
        raise FormulaError(f"{kind}() takes a single bar")
    terms = _model(left.printed).fixed
    if any(len(term) > 1 for term in terms.terms):
        raise FormulaError(f"{kind}({left.printed} | ...): positions are single columns")
    options = dict(call.keywords)
    nugget, by, order = _nugget(options, kind), _by(options, kind), _order(options, kind)
    if options:
        raise FormulaError(f"{kind}() has no argument {next(iter(options))!r}")
    if not terms.variables and kind not in ALONE:
        raise FormulaError(f"{kind}() needs to know where each row stands: {kind}(time | person)")
    if len(terms.variables) > 1 and kind not in SPATIAL:
        raise FormulaError(f"{kind}() takes one position, not {left.printed}")
    return ResidualStructure(kind, left.printed, terms, group, by, nugget, order)


def _model(text: str) -> Model:
    return model_with_dot(f"~ {text}", None)


def _nugget(options: dict[str, Node], kind: str) -> bool:
    node = options.pop("nugget", None)
    if node is None:
        return False
    if not isinstance(node, Name) or node.value not in ("TRUE", "FALSE", "True", "False", "T", "F"):
        raise FormulaError(f"{kind}(nugget=) is True or False")
    if kind not in OF_CLOCK:
        raise FormulaError(
            f"a nugget belongs to a structure over time or space ({', '.join(sorted(OF_CLOCK))}), "
            f"not to {kind}()"
        )
    return node.value.startswith("T")


def _by(options: dict[str, Node], kind: str) -> Grouping | None:
    node = options.pop("by", None)
    if node is None:
        return None
    return _model(f"(1 | {node.printed})").bars[0].groups[0]


def _order(options: dict[str, Node], kind: str) -> tuple[int, int] | None:
    if kind != "arma":
        return None
    found = []
    for name in ("p", "q"):
        node = options.pop(name, Number(0.0))
        if (
            not isinstance(node, Number)
            or node.value != int(node.value)
            or not 0 <= node.value <= 5
        ):
            raise FormulaError(f"arma({name}=) is a whole number from 0 to 5")
        found.append(int(node.value))
    if sum(found) == 0:
        raise FormulaError("arma() needs its orders: arma(time | person, p=1, q=1)")
    return found[0], found[1]


def dispersion_model(text: str) -> Model:
    """Read the formula of a residual standard deviation, ``"~ arm"``."""
    return model_with_dot(text, None)
