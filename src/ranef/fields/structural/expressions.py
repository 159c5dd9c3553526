"""Expressions of parameters, as in ``ind := a * b``: read, evaluated with their derivatives.

The text is data: a small grammar of numbers, names, ``+ - * / ^`` and four functions, and
nothing else is ever computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import FormulaError, suggestion

__all__ = ["FUNCTIONS", "Expression", "Token", "read_expression"]

Floats = NDArray[np.float64]
Number = tuple[float, Floats]
"""A value and its gradient."""

DEEPEST = 60


@dataclass(frozen=True)
class Token:
    """A piece of the model's text.

    Attributes
    ----------
    kind : {"name", "number", "text", "operator", "end"}
    text : str
    line : int
        Line of the model's text, from 1.
    """

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Expression:
    """A node of an expression.

    Attributes
    ----------
    kind : {"number", "name", "call", "operator"}
    text : str
        The number, the name, the function, the operator.
    parts : tuple of Expression
    """

    kind: str
    text: str
    parts: tuple[Expression, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Names in the expression, each once, in order."""
        own = (self.text,) if self.kind == "name" else ()
        return tuple(dict.fromkeys([*own, *(n for part in self.parts for n in part.names())]))

    def evaluate(self, values: Mapping[str, Number], size: int) -> Number:
        """Return value and gradient (size,) where each name has its own.

        Examples
        --------
        >>> import numpy as np
        >>> tokens = [Token("name", "a", 1), Token("operator", "*", 1), Token("name", "b", 1)]
        >>> product = read_expression(tokens)
        >>> value, gradient = product.evaluate(
        ...     {"a": (2.0, np.array([1.0, 0.0])), "b": (3.0, np.array([0.0, 1.0]))}, 2)
        >>> value, gradient.tolist()
        (6.0, [3.0, 2.0])
        """
        if self.kind == "number":
            return float(self.text), np.zeros(size)
        if self.kind == "name":
            return values[self.text]
        found = [part.evaluate(values, size) for part in self.parts]
        with np.errstate(all="ignore"):
            if self.kind == "call":
                return FUNCTIONS[self.text](found[0])
            if len(found) == 1:
                return -found[0][0], -found[0][1]
            return OPERATORS[self.text](*found)

    def __str__(self) -> str:
        if self.kind in ("number", "name"):
            return self.text
        if self.kind == "call":
            return f"{self.text}({self.parts[0]})"
        if len(self.parts) == 1:
            return f"-{_enclosed(self.parts[0])}"
        left, right = map(_enclosed, self.parts)
        return f"{left} {self.text} {right}" if self.text in "+-" else f"{left}{self.text}{right}"


def _enclosed(part: Expression) -> str:
    return f"({part})" if part.kind == "operator" else str(part)


def _function(
    f: Callable[[float], float], slope: Callable[[float], float]
) -> Callable[[Number], Number]:
    def applied(x: Number) -> Number:
        try:
            return f(x[0]), slope(x[0]) * x[1]
        except (ValueError, OverflowError, ZeroDivisionError):
            return math.nan, np.full_like(x[1], np.nan)

    return applied


FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "exp": _function(math.exp, math.exp),
    "log": _function(math.log, lambda x: 1 / x),
    "sqrt": _function(math.sqrt, lambda x: 0.5 / math.sqrt(x)),
    "abs": _function(abs, lambda x: math.copysign(1.0, x)),
}


def _power(x: Number, y: Number) -> Number:
    try:
        value = float(x[0] ** y[0])
        slope = y[0] * x[0] ** (y[0] - 1) * x[1] if y[0] != 0 else np.zeros_like(x[1])
        more = value * math.log(x[0]) * y[1] if np.any(y[1]) else 0.0
        return value, slope + more
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        return math.nan, np.full_like(x[1], np.nan)


def _ratio(x: Number, y: Number) -> Number:
    if y[0] == 0:
        return math.nan, np.full_like(x[1], np.nan)
    return x[0] / y[0], (x[1] - x[0] / y[0] * y[1]) / y[0]


OPERATORS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda x, y: (x[0] + y[0], x[1] + y[1]),
    "-": lambda x, y: (x[0] - y[0], x[1] - y[1]),
    "*": lambda x, y: (x[0] * y[0], x[0] * y[1] + y[0] * x[1]),
    "/": _ratio,
    "^": _power,
}


def read_expression(tokens: Sequence[Token]) -> Expression:
    """Read an expression; what does not belong is refused in words."""
    reader = _Reader(tokens)
    found = reader.sum()
    rest = reader.peek()
    if rest.kind != "end":
        raise FormulaError(
            f"line {rest.line} of the model: {rest.text!r} does not belong in an expression"
        )
    return found


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        line = tokens[-1].line if tokens else 1
        self.tokens = [*tokens, Token("end", "the end of the line", line)]
        self.at = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def is_operator(self, marks: tuple[str, ...]) -> bool:
        return self.peek().kind == "operator" and self.peek().text in marks

    def sum(self) -> Expression:
        self.depth += 1
        if self.depth > DEEPEST:
            raise FormulaError(
                f"line {self.peek().line} of the model is nested too deeply; write it in parts, "
                "by :="
            )
        found = self.product()
        while self.is_operator(("+", "-")):
            mark = self.take().text
            found = Expression("operator", mark, (found, self.product()))
        self.depth -= 1
        return found

    def product(self) -> Expression:
        found = self.signed()
        while self.is_operator(("*", "/")):
            mark = self.take().text
            found = Expression("operator", mark, (found, self.signed()))
        return found

    def signed(self) -> Expression:
        signs = 0
        while self.is_operator(("-", "+")):
            signs += self.take().text == "-"
        found = self.power()
        return Expression("operator", "-", (found,)) if signs % 2 else found

    def power(self) -> Expression:
        base = self.atom()
        marks = 0
        while self.is_operator(("^",)):
            self.take()
            marks += 1
            if marks > DEEPEST:
                raise FormulaError(
                    f"line {self.peek().line} of the model is nested too deeply; write it in "
                    "parts, by :="
                )
            sign = self.is_operator(("-",))
            if sign:
                self.take()
            exponent = self.atom()
            exponent = Expression("operator", "-", (exponent,)) if sign else exponent
            base = Expression("operator", "^", (base, exponent))
        return base

    def atom(self) -> Expression:
        token = self.take()
        if token.kind == "number":
            return Expression("number", token.text)
        if token.kind == "name":
            if self.is_operator(("(",)):
                return self.call(token)
            return Expression("name", token.text)
        if token.kind == "operator" and token.text == "(":
            found = self.sum()
            self.close(token)
            return found
        hint = "; 'a > 0' and 'a < 1' include the bound" if token.text == "=" else ""
        raise FormulaError(
            f"line {token.line} of the model: a number or a label should stand where "
            f"{token.text!r} is{hint}"
        )

    def call(self, name: Token) -> Expression:
        if name.text not in FUNCTIONS:
            raise FormulaError(
                f"line {name.line} of the model: no function {name.text!r}"
                f"{suggestion(name.text, FUNCTIONS)}; expressions know {', '.join(FUNCTIONS)}"
            )
        self.take()
        inside = self.sum()
        self.close(name)
        return Expression("call", name.text, (inside,))

    def close(self, start: Token) -> None:
        if not self.is_operator((")",)):
            raise FormulaError(f"line {start.line} of the model: a bracket is not closed")
        self.take()
