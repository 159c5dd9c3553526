"""What a formula asks for: the terms of the fixed effects, offsets, random terms.

The algebra of `+ - * / : ^ %in%` works on sets of variables, as Wilkinson and
Rogers (1973) describe it and R's `terms` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from ranef.elsewhere import formula_hint
from ranef.errors import FormulaError, UnknownColumnError, suggestion
from ranef.formula.membership import Membership, read_membership
from ranef.formula.parser import parse_formula
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
    walk,
)
from ranef.formula.tokens import formula_error

__all__ = [
    "STRUCTURES",
    "Bar",
    "Grouping",
    "Model",
    "Terms",
    "expand_dot",
    "model_with_dot",
    "read_formula",
    "response_of",
    "taken_columns",
]

MAX_TERMS = 5_000
STRUCTURES = (
    "us",
    "diag",
    "homdiag",
    "cs",
    "homcs",
    "ar1",
    "hetar1",
    "toep",
    "homtoep",
    "ou",
    "exp",
    "gau",
    "mat",
    "rr",
    "kernel",
)
EXTRAS = {"rr": ("d", "rank"), "kernel": ("K", "kernel", "inverse")}
"""Names of what follows the bar in a structure."""


@dataclass(frozen=True)
class Terms:
    """A linear predictor: which products of which variables.

    Attributes
    ----------
    variables : tuple of Node
        In order of first appearance.
    keys : tuple of str
        Each variable in print, its name in all later tables.
    terms : tuple of tuple of int
        Each term as ascending indices of its variables; by order of
        interaction, then as in the formula.
    intercept : bool
    """

    variables: tuple[Node, ...]
    keys: tuple[str, ...]
    terms: tuple[tuple[int, ...], ...]
    intercept: bool


@dataclass(frozen=True)
class Grouping:
    """A grouping factor as written: the columns, or calls, that it is made from.

    `membership` says of which columns ``mm(...)`` takes the levels of a row.
    """

    nodes: tuple[Node, ...]
    membership: Membership | None = None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Each part in print."""
        return tuple(node.printed for node in self.nodes)

    @cached_property
    def text(self) -> str:
        return ":".join(self.keys)

    @cached_property
    def name(self) -> str:
        """The text without the backticks that a formula needs."""
        if self.membership is not None:
            return self.membership.name
        bare = [node.bare for node in self.nodes]
        return ":".join(node.value if isinstance(node, Name) else node.printed for node in bare)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.named))


@dataclass(frozen=True)
class Bar:
    """A random term as written, ``ar1(0 + time | g)``.

    Attributes
    ----------
    left : Terms
    text : str
        What stands left of the bar, in print.
    groups : tuple of Grouping
        One grouping factor for each step of a nesting, the finest first.
    structure : str
    independent : bool
        True for the double bar.
    rank : int or None
    kernel : str or None
        Name of the kernel in `kernels`.
    inverse : bool
        Whether it is the inverse of the covariance.
    tie : str or None
        Label between two bars, ``(1 | p | g)``: effects of several parts of a model that have
        the same one are correlated.
    """

    left: Terms
    text: str
    groups: tuple[Grouping, ...]
    structure: str = "us"
    independent: bool = False
    rank: int | None = None
    kernel: str | None = None
    inverse: bool = False
    tie: str | None = None

    @property
    def printed(self) -> str:
        """What stands left of the grouping factor, in print."""
        return self.text if self.tie is None else f"{self.text} | {self.tie}"


@dataclass(frozen=True)
class Model:
    """A formula as read.

    Attributes
    ----------
    text : str
    response : Node or None
    fixed : Terms
    offsets : tuple of Node
    bars : tuple of Bar
    names : tuple of str
        Every name that the formula uses as a column, in order.
    remarks : tuple of str
        What may be meant otherwise than it is read.
    """

    text: str
    response: Node | None
    fixed: Terms
    offsets: tuple[Node, ...]
    bars: tuple[Bar, ...]
    names: tuple[str, ...] = field(default=())
    remarks: tuple[str, ...] = field(default=())

    @property
    def predictors(self) -> tuple[Node, ...]:
        """Variables of the fixed effects, the offsets and the random terms, in that order."""
        slopes = (node for bar in self.bars for node in bar.left.variables)
        return (*self.fixed.variables, *self.offsets, *slopes)


def read_formula(text: str, columns: Sequence[str] = (), reserved: Iterable[str] = ()) -> Model:
    """Read a formula.

    Parameters
    ----------
    text : str
    columns : sequence of str
        The table's columns: what ``.`` stands for.
    reserved : iterable of str
        Columns that ``.`` leaves out (weights, an offset column).

    Examples
    --------
    >>> model = read_formula("y ~ a * x + (x | g)")
    >>> model.fixed.terms, model.fixed.keys
    (((0,), (1,), (0, 1)), ('a', 'x'))
    >>> model.bars[0].text
    'x'
    """
    return model_with_dot(text, expand_dot(text, columns, reserved))


def response_of(model: Model) -> Node:
    """Return the response, which must be there."""
    if model.response is None:
        raise FormulaError(f"the formula has no response: write y {model.text.strip()}")
    return model.response


@lru_cache(maxsize=512)
def model_with_dot(text: str, dot: tuple[str, ...] | None) -> Model:
    """Read a formula in which ``.`` stands for given columns."""
    return _Reader(text, dot).model()


def expand_dot(
    text: str, columns: Sequence[str], reserved: Iterable[str]
) -> tuple[str, ...] | None:
    """Return what ``.`` stands for in a formula; None when it has none."""
    if "." not in text or "." in columns:
        return None
    _, predictors = parse_formula(text)
    if not any(isinstance(node, Name) and node.value == "." for node in walk(predictors)):
        return None
    taken = {*taken_columns(text), *reserved}
    for node in walk(predictors):
        if isinstance(node, Call) and node.function == "offset":
            taken.update(node.named)
    return tuple(name for name in columns if name not in taken)


@lru_cache(maxsize=512)
def taken_columns(text: str) -> frozenset[str]:
    """Return the columns of a formula's response and grouping factors."""
    response, predictors = parse_formula(text)
    taken, labels = set(response.named if response else ()), set[int]()
    for node in walk(predictors):
        if _is_bar(node):
            assert isinstance(node, Binary)
            if id(node) not in labels:
                taken.update(node.right.named)
            if _is_bar(node.left):
                labels.add(id(node.left))  # (1 | p | g) is a bar left of a bar
    return frozenset(taken)


@dataclass(frozen=True)
class Extras:
    """What follows the bar of a structure, see `Bar`."""

    rank: int | None = None
    kernel: str | None = None
    inverse: bool = False


class _Reader:
    """Reads one formula; collects offsets and bars on the way."""

    def __init__(self, text: str, dot: tuple[str, ...] | None) -> None:
        self.text = text
        self.dot = dot
        self.offsets: list[Node] = []
        self.bars: list[Bar] = []
        self.remarks: list[str] = []

    def model(self) -> Model:
        response, predictors = parse_formula(self.text)
        fixed = self.linear(predictors, top=True)
        if response is not None:
            self.check_response(response, fixed)
        return Model(
            self.text,
            response,
            fixed,
            tuple(self.offsets),
            tuple(self.bars),
            tuple(dict.fromkeys(self.used_names(response, fixed))),
            tuple(dict.fromkeys(self.remarks)),
        )

    def used_names(self, response: Node | None, fixed: Terms) -> Iterable[str]:
        nodes = [*([response] if response is not None else []), *fixed.variables, *self.offsets]
        for bar in self.bars:
            nodes += [*bar.left.variables, *(node for group in bar.groups for node in group.nodes)]
        for node in nodes:
            yield from node.named

    def check_response(self, response: Node, fixed: Terms) -> None:
        if response.printed in fixed.keys:
            raise FormulaError(
                f"the response {response.printed} also stands on the right side of the formula"
            )
        if not response.named:
            raise self.error("the response names no column", response)

    def error(self, message: str, node: Node) -> FormulaError:
        return formula_error(message, self.text, node.position)

    def linear(self, node: Node, top: bool) -> Terms:
        predictor = _Predictor(self, top)
        terms = predictor.expand(node, additive=True)
        used = sorted({index for term in terms for index in term})
        place = {index: i for i, index in enumerate(used)}
        ordered = sorted(terms, key=len)
        return Terms(
            tuple(predictor.variables[i] for i in used),
            tuple(predictor.keys[i] for i in used),
            tuple(tuple(sorted(place[i] for i in term)) for term in ordered),
            predictor.intercept,
        )

    def bar(self, inside: Binary, structure: str, call: Call | None) -> None:
        independent = inside.operator == "||"
        if independent and structure != "us":
            raise self.error(
                f"{structure}() takes a single bar; '||' is a structure itself", inside
            )
        left, tie = self.labelled(inside, structure)
        for side in (left, inside.right):
            if any(_is_bar(node.bare) for node in walk(side)):
                raise self.error("a bar inside a bar", inside)
        extras = self.extras(structure, call) if call is not None else Extras()
        self.bars.append(
            Bar(
                self.linear(left, top=False),
                left.printed,
                tuple(self.grouping(group) for group in self.groups(inside.right)),
                structure,
                independent,
                extras.rank,
                extras.kernel,
                extras.inverse,
                tie,
            )
        )

    def grouping(self, nodes: list[Node]) -> Grouping:
        """One grouping factor; memberships stand alone."""
        found = [read_membership(node, self.error) for node in nodes]
        if len(nodes) > 1 and any(found):
            raise self.error("mm() is a grouping factor by itself, no part of a:b or a/b", nodes[0])
        return Grouping(tuple(nodes), found[0])

    def labelled(self, inside: Binary, structure: str) -> tuple[Node, str | None]:
        """Read the label of ``(1 | p | g)``; return what stands left of it, and the label."""
        left = inside.left
        if not isinstance(left, Binary) or not _is_bar(left):
            return left, None
        if structure != "us" or "||" in (inside.operator, left.operator):
            raise self.error(
                "a label between two bars, (1 | p | g), ties effects that are unstructured: "
                "single bars, and no structure around them",
                inside,
            )
        if not isinstance(left.right, Name):
            raise self.error("the label between two bars is a name: (1 | p | g)", left)
        return left.left, left.right.value

    def extras(self, structure: str, call: Call) -> Extras:
        """Read what follows the bar: the rank of rr(), the kernel's name."""
        given = list(call.arguments[1:])
        known = EXTRAS.get(structure, ())
        for key, value in call.keywords:
            if key not in known:
                raise self.error(f"{structure}() has no argument {key!r}", call)
            given.append(value)
        if len(given) > (1 if known else 0):
            raise self.error(f"{structure}() has too many arguments", call)
        if structure == "rr":
            return Extras(rank=self.rank(given[0] if given else Number(2.0), call))
        if structure == "kernel":
            if not given or not isinstance(given[0], Name):
                raise self.error("kernel() needs the kernel's name: kernel(1 | id, K)", call)
            return Extras(kernel=given[0].value, inverse="inverse" in dict(call.keywords))
        return Extras()

    def rank(self, node: Node, call: Call) -> int:
        if not isinstance(node, Number) or node.value < 1 or node.value != int(node.value):
            raise self.error("rr() needs a whole number of dimensions: rr(f | g, 2)", call)
        return int(node.value)

    def groups(self, node: Node) -> list[list[Node]]:
        """Write grouping factors out: ``a/b`` is ``b:a`` and ``a``, the finest first.

        ``a + b`` is ``a`` and ``b``, ``a*b`` is ``a``, ``b`` and ``a:b``.
        """
        node = node.bare
        if isinstance(node, Sum) and "-" not in node.signs:
            return _distinct(group for part in node.parts for group in self.groups(part))
        if isinstance(node, Binary) and node.operator == "*":
            left, right = self.groups(node.left), self.groups(node.right)
            both = [_joined(a, b) for a in left for b in right]
            return _distinct([*left, *right, *both])
        if isinstance(node, Binary) and node.operator == "/":
            if any(_is_list(part.bare) for part in (node.left, node.right)):
                raise self.error("a nesting a/b is of single factors, not of a + b or a*b", node)
            outer = self.groups(node.left)
            inner = self.groups(node.right)
            return [_joined(group, outer[0]) for group in inner] + outer
        if isinstance(node, Binary) and node.operator == ":":
            return [_joined(self.single(node.left), self.single(node.right))]
        if isinstance(node, Name | Call):
            if isinstance(node, Name) and node.value == ".":
                raise self.error("'.' cannot be a grouping factor", node)
            return [[node]]
        hint = "write one term for each factor: (1 | a) + (1 | b)"
        if isinstance(node, Text):
            hint = "a column's name has no quotes"
        if isinstance(node, Binary) and node.operator == "%in%":
            hint = f"{node.printed} is {node.right.printed}:{node.left.printed}"
        raise self.error(f"a grouping factor is a name, a:b, a/b, a*b or a + b; {hint}", node)

    def single(self, node: Node) -> list[Node]:
        groups = self.groups(node)
        if len(groups) > 1:
            raise self.error(
                "a nesting a/b, a + b or a*b cannot be part of an interaction a:b", node
            )
        return groups[0]


def _is_list(node: Node) -> bool:
    return isinstance(node, Sum) or (isinstance(node, Binary) and node.operator == "*")


def _distinct(groups: Iterable[list[Node]]) -> list[list[Node]]:
    """Grouping factors without those of the same columns as one before."""
    seen: dict[frozenset[str], list[Node]] = {}
    for group in groups:
        seen.setdefault(frozenset(node.printed for node in group), group)
    return list(seen.values())


class _Predictor:
    """Expands one linear predictor into terms: sets of indices of variables."""

    def __init__(self, reader: _Reader, top: bool) -> None:
        self.reader = reader
        self.top = top
        self.variables: list[Node] = []
        self.keys: list[str] = []
        self.index: dict[str, int] = {}
        self.intercept = True

    def expand(self, node: Node, additive: bool = False) -> list[frozenset[int]]:
        if isinstance(node, Paren):
            inner = node.bare
            if _is_bar(inner):
                return self.random(inner, "us", None, additive)
            return self.expand(inner, additive)
        if isinstance(node, Sum):
            return self.sum(node, additive)
        if isinstance(node, Unary):
            return self.unary(node)
        if isinstance(node, Binary):
            return self.product(node)
        if isinstance(node, Number):
            return self.number(node, "+")
        if isinstance(node, Text):
            message = f"a text ({node.value!r}) is no variable; a column's name has no quotes"
            raise self.reader.error(message, node)
        if isinstance(node, Call):
            return self.call(node, additive)
        return self.name(node)

    def name(self, node: Name) -> list[frozenset[int]]:
        if node.value == "." and self.reader.dot is not None:
            return [self.variable(Name(name)) for name in self.reader.dot]
        return [self.variable(node)]

    def variable(self, node: Node) -> frozenset[int]:
        key = node.printed
        if key not in self.index:
            self.index[key] = len(self.variables)
            self.variables.append(node)
            self.keys.append(key)
        return frozenset((self.index[key],))

    def call(self, node: Call, additive: bool) -> list[frozenset[int]]:
        first = node.arguments[0].bare if node.arguments else None
        if first is not None and _is_bar(first) and node.function not in ("I", "factor", "C"):
            if node.function not in STRUCTURES:
                hint = formula_hint(node.function) or suggestion(node.function, STRUCTURES)
                raise UnknownColumnError(
                    f"no covariance structure {node.function!r}{hint}; "
                    f"there are {', '.join(STRUCTURES)}"
                )
            return self.random(first, node.function, node, additive)
        if node.function == "offset":
            return self.offset(node, additive)
        if node.function == "cbind":
            message = "cbind() stands left of '~': cbind(success, failure) ~ x"
            raise self.reader.error(message, node)
        return [self.variable(node)]

    def offset(self, node: Call, additive: bool) -> list[frozenset[int]]:
        if not (additive and self.top):
            raise self.reader.error("an offset can only be added to the fixed effects", node)
        if len(node.arguments) != 1 or node.keywords:
            raise self.reader.error("offset() takes one expression: offset(log(n))", node)
        self.reader.offsets.append(node.arguments[0])
        return []

    def random(
        self, inside: Node, structure: str, call: Call | None, additive: bool
    ) -> list[frozenset[int]]:
        assert isinstance(inside, Binary)
        if not (additive and self.top):
            raise self.reader.error("a random term can only be added: y ~ x + (1 | g)", inside)
        self.reader.bar(inside, structure, call)
        return []

    def number(self, node: Number, sign: str) -> list[frozenset[int]]:
        if node.value not in (0.0, 1.0):
            raise self.reader.error("a number in a formula is 0 or 1, for the intercept", node)
        self.intercept = (node.value == 1.0) == (sign == "+")
        return []

    def unary(self, node: Unary) -> list[frozenset[int]]:
        if node.operator == "!":
            raise self.reader.error("'!' belongs inside I(): I(!x)", node)
        inner = node.operand.bare
        if isinstance(inner, Number):
            return self.number(inner, node.operator)
        if node.operator == "+":
            return self.expand(inner, additive=True)
        self.expand(inner)
        return []

    def sum(self, node: Sum, additive: bool) -> list[frozenset[int]]:
        found: dict[frozenset[int], None] = {}
        for sign, part in zip(node.signs, node.parts, strict=True):
            inner = part.bare
            if isinstance(inner, Number):
                self.number(inner, sign)
            elif sign == "+":
                found.update(dict.fromkeys(self.expand(part, additive)))
            else:
                before = self.intercept
                removed = self.expand(part)
                if isinstance(inner, Call) and found.keys().isdisjoint(removed):
                    raise self.reader.error(
                        f"'- {inner.printed}' takes out a term that the formula does not have; "
                        "arithmetic stands inside I(): I(x - 10), and center(x) subtracts the mean",
                        part,
                    )
                for term in removed:
                    found.pop(term, None)
                self.intercept = before
            self.check(len(found), part)
        return list(found)

    def product(self, node: Binary) -> list[frozenset[int]]:
        operator = node.operator
        if operator in ("|", "||"):
            hint = "put a random term in parentheses: (1 | g)"
            if re.search(r"~\s*\+", self.reader.text):
                hint = "write 1 before a '+' that comes first: y ~ 1 + (1 | g)"
            raise self.reader.error(f"a bar outside parentheses; {hint}", node)
        if operator == "^":
            return self.power(node)
        if operator not in ("*", "/", ":", "%in%"):
            message = f"{operator!r} belongs inside I(): I({_beside(node)})"
            if operator == "&":
                message += "; an interaction is a:b, with its main effects a*b"
            raise self.reader.error(message, node)
        left, right = self.expand(node.left), self.expand(node.right)
        self.check(len(left) * len(right), node)
        if operator == ":":
            return _unique(a | b for a in left for b in right)
        if operator == "*":
            return _unique([*left, *right, *(a | b for a in left for b in right)])
        if operator == "/":
            every = frozenset().union(*left)
            return _unique([*left, *(every | b for b in right)])
        every = frozenset().union(*right)
        return _unique(a | every for a in left)

    def power(self, node: Binary) -> list[frozenset[int]]:
        exponent = node.right.bare
        if not isinstance(exponent, Number) or exponent.value < 1 or exponent.value % 1:
            message = "the power of a formula is a whole number: (a + b)^2; for x squared, I(x^2)"
            raise self.reader.error(message, node)
        base = self.expand(node.left)
        if len(base) == 1 and exponent.value > 1:
            self.reader.remarks.append(
                f"in a formula {node.printed} is {node.left.printed} itself (^ and ** cross "
                f"terms); for the power write I({node.printed})"
            )
        found = base
        for _ in range(int(min(exponent.value, len(base))) - 1):
            self.check(len(found) * len(base), node)
            found = _unique([*found, *(a | b for a in found for b in base)])
        return found

    def check(self, count: int, node: Node) -> None:
        if count > MAX_TERMS:
            raise self.reader.error(f"the formula writes out to more than {MAX_TERMS} terms", node)


def _unique(terms: Iterable[frozenset[int]]) -> list[frozenset[int]]:
    return list(dict.fromkeys(terms))


def _is_bar(node: Node) -> bool:
    return isinstance(node, Binary) and node.operator in ("|", "||")


def _joined(first: list[Node], second: list[Node]) -> list[Node]:
    """Join the columns of two grouping factors, each once."""
    return list({node.printed: node for node in [*first, *second]}.values())


def _beside(node: Binary) -> str:
    """Write an operator with the terms that stand beside it."""
    left = node.left.parts[-1] if isinstance(node.left, Sum) else node.left
    right = node.right.parts[0] if isinstance(node.right, Sum) else node.right
    return f"{left.printed} {node.operator} {right.printed}"
