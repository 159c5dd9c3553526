"""From the text of a formula to its tree, by R's precedence of operators."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from ranef.errors import FormulaError
from ranef.formula.syntax import Binary, Call, Name, Node, Number, Paren, Sum, Text, Unary
from ranef.formula.tokens import Token, formula_error, tokenize

__all__ = ["parse_expression", "parse_formula"]

MAX_DEPTH = 60
BINDING = {
    "|": 1,
    "||": 1,
    "&": 2,
    "&&": 2,
    "==": 4,
    "!=": 4,
    "<": 4,
    ">": 4,
    "<=": 4,
    ">=": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "%in%": 7,
    "%%": 7,
    "%/%": 7,
    ":": 8,
    "^": 10,
}
NOT = 3
SUM = 5
SIGN = 9
POWER = 10
MEANT = {
    "~": "; a formula has one '~'",
    "=": "; write ~ between the response and the predictors",
    ",": "; effects and their groups are parted by a bar: (x | g)",
}
PREFIXES = ("np.", "numpy.", "math.")
PACKAGES = ("splines", "stats", "base", "lme4", "nlme", "glmmTMB", "MASS")
SYNONYMS = {
    "ceil": "ceiling",
    "absolute": "abs",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arctanh": "atanh",
    "qlogis": "logit",
    "minimum": "pmin",
    "maximum": "pmax",
    "where": "ifelse",
    "standardize": "scale",
}


def parse_formula(text: str) -> tuple[Node | None, Node]:
    """Read ``response ~ predictors``.

    Returns
    -------
    response : Node or None
        None when nothing stands left of the tilde.
    predictors : Node
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a text, not {type(text).__name__}")
    return _parse(text)


@lru_cache(maxsize=512)
def _parse(text: str) -> tuple[Node | None, Node]:
    parser = _Parser(text)
    if parser.here.kind == "end":
        raise FormulaError("the formula is empty; write one such as 'y ~ x + (1 | g)'")
    response = None if parser.at("~") else parser.expression(0)
    if not parser.at("~"):
        if parser.here.kind == "end":
            raise FormulaError(
                f"the formula has no '~': {text.strip()!r}; write response ~ predictors"
            )
        raise parser.unexpected()
    parser.advance()
    if parser.here.kind == "end":
        raise parser.error("nothing stands right of '~'; write 1 for an intercept alone")
    predictors = parser.expression(0)
    parser.expect_end()
    return response, predictors


def parse_expression(text: str) -> Node:
    """Read one expression, without a tilde."""
    parser = _Parser(text)
    node = parser.expression(0)
    parser.expect_end()
    return node


@dataclass
class _Parser:
    text: str

    def __post_init__(self) -> None:
        self.tokens = tokenize(self.text)
        self.index = 0
        self.nesting = 0

    @property
    def here(self) -> Token:
        return self.tokens[self.index]

    def at(self, operator: str) -> bool:
        return self.here.kind == "operator" and self.here.value == operator

    def advance(self) -> Token:
        token = self.here
        self.index += 1
        return token

    def error(self, message: str) -> FormulaError:
        return formula_error(message, self.text, self.here.position)

    def unexpected(self) -> FormulaError:
        if self.here.kind == "end":
            return self.error("the formula ends too early")
        if self.here.kind == "operator":
            hint = MEANT.get(self.here.value, "")
            first, second = self.tokens[:2]
            following = [token.value for token in self.tokens[self.index + 1 : self.index + 3]]
            if self.here.value == "," and following[1:] == ["="]:
                return self.error(
                    f"{following[0]}= is no part of a formula: a random term is written in it, "
                    "y ~ x + (1 | g), and arguments stand outside the quotes"
                )
            if self.here.value == "~" and first.kind == "name" and second.value == "(":
                hint += f", and stands alone, without {first.value}(...)"
            before = self.tokens[self.index - 1] if self.index else self.here
            if self.here.value == "|" == before.value:
                hint = "; a double bar is written without a blank: (x || g)"
            elif self.here.value == "|":
                hint = "; effects or times belong before the bar: (x | g), ar1(time | g)"
            elif self.here.value == ")" and before.value in ("|", "||"):
                hint = "; a grouping factor stands after the bar: (1 | g)"
            return self.error(f"unexpected {self.here.value!r}{hint}")
        before = self.tokens[self.index - 1] if self.index else self.here
        hint = ""
        if before.kind == self.here.kind == "name":
            name = f"{before.value} {self.here.value}"
            hint = f", or backticks around a name with a space (`{name}`)"
        return self.error(f"unexpected {self.here.value!r}; an operator such as + is missing{hint}")

    def expect(self, operator: str) -> None:
        if not self.at(operator):
            raise (
                self.error(f"a {operator!r} is missing")
                if self.here.kind == "end"
                else self.unexpected()
            )
        self.advance()

    def expect_end(self) -> None:
        if self.here.kind != "end":
            raise self.unexpected()

    def expression(self, binding: int) -> Node:
        """Read operators that bind at least as tightly as `binding`."""
        self.nesting += 1
        if self.nesting > MAX_DEPTH:
            raise self.error(f"the formula is nested more than {MAX_DEPTH} deep")
        left = self.operand()
        while self.here.kind == "operator" and BINDING.get(self.here.value, -1) >= binding:
            left = self.sum(left) if BINDING[self.here.value] == SUM else self.binary(left)
        self.nesting -= 1
        return left

    def sum(self, first: Node) -> Node:
        signs, parts = ["+"], [first]
        position = self.here.position
        while self.at("+") or self.at("-"):
            signs.append(self.advance().value)
            parts.append(self.expression(SUM + 1))
        return self.made(Sum(tuple(signs), tuple(parts), position), parts)

    def binary(self, left: Node) -> Node:
        token = self.advance()
        strength = BINDING[token.value]
        right = self.expression(strength if strength == POWER else strength + 1)
        return self.made(Binary(token.value, left, right, token.position), [left, right])

    def operand(self) -> Node:
        token = self.here
        if token.kind == "operator" and token.value in ("-", "+", "!"):
            self.advance()
            inner = self.expression(NOT if token.value == "!" else SIGN)
            return self.made(Unary(token.value, inner, token.position), [inner])
        if self.at("("):
            self.advance()
            inner = self.expression(0)
            self.expect(")")
            return self.made(Paren(inner, token.position), [inner])
        if token.kind in ("end", "operator"):
            raise self.unexpected()
        self.advance()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "text":
            return Text(token.value, token.position)
        if token.kind == "name" and self.at("::"):
            token = self.unpack(token)
        if self.at("(") and token.kind == "name":
            return self.call(token)
        return Name(token.value, token.position)

    def number(self, token: Token) -> Node:
        value = float(token.value)
        if not math.isfinite(value):
            raise formula_error("this number is too large", self.text, token.position)
        return Number(value, token.position)

    def unpack(self, package: Token) -> Token:
        """Read ``splines::ns`` as ``ns``."""
        if package.value not in PACKAGES:
            message = f"no package {package.value!r}; leave out what stands before '::'"
            raise formula_error(message, self.text, package.position)
        self.advance()
        if self.here.kind != "name":
            raise self.unexpected()
        return self.advance()

    def call(self, token: Token) -> Node:
        self.advance()
        arguments: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        while not self.at(")"):
            following = self.tokens[min(self.index + 1, len(self.tokens) - 1)]
            if self.here.kind == "name" and following == Token("operator", "=", following.position):
                key = self.here.value
                if key in dict(keywords):
                    raise self.error(f"the argument {key!r} is given twice")
                self.index += 2
                keywords.append((key, self.expression(0)))
            elif keywords:
                raise self.error("an argument without a name follows one with a name")
            else:
                arguments.append(self.expression(0))
            if not self.at(")"):
                self.expect(",")
        self.advance()
        return self.synonym(token, tuple(arguments), tuple(keywords))

    def synonym(
        self, token: Token, arguments: tuple[Node, ...], keywords: tuple[tuple[str, Node], ...]
    ) -> Node:
        """Read what Python users type as what R users type."""
        function = token.value
        if function == "Q":
            if len(arguments) == 1 and not keywords and isinstance(arguments[0], Text):
                return Name(arguments[0].value, token.position)
            message = 'Q() takes one column name in quotes: Q("my column")'
            raise formula_error(message, self.text, token.position)
        for prefix in PREFIXES:
            function = function.removeprefix(prefix)
        function = SYNONYMS.get(function, function)
        inner = [*arguments, *(value for _, value in keywords)]
        return self.made(Call(function, arguments, keywords, token.position), inner)

    def made(self, node: Node, inner: list[Node]) -> Node:
        """Return the node with its depth, if that is not too deep."""
        depth = 1 + max((part.depth for part in inner), default=0)
        if depth > 2 * MAX_DEPTH:
            message = f"the formula is nested more than {2 * MAX_DEPTH} deep"
            raise formula_error(message, self.text, node.position)
        return replace(node, depth=depth)
