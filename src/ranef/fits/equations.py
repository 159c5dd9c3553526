"""A linear hypothesis as an equation of coefficients: ``"age - 2 * sexmale = 1"``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion

__all__ = ["read_equation"]

Floats = NDArray[np.float64]
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[^\s+*/=-]+")


def read_equation(text: str, terms: Sequence[str]) -> tuple[Floats, float] | None:
    """Return the row (P,) and the value of an equation; None for a text that is none.

    Parameters
    ----------
    text : str
        Sums of coefficients, numbers and products of the two, on one or on both sides of ``=``;
        without ``=`` the sum is zero.
    terms : sequence of str, P
        Names of the coefficients.

    Examples
    --------
    >>> read_equation("2 * x - I(x^2) = 1", ["(Intercept)", "x", "I(x^2)"])
    (array([ 0.,  2., -1.]), 1.0)
    >>> read_equation("x2", ["(Intercept)", "x"])
    """
    if not re.search(r"[-+*/=]", text):
        return None
    reader = _Reader(text, terms)
    try:
        row, value = reader.sum()
        if reader.take("==") or reader.take("="):
            weights, number = reader.sum()
            row, value = row - weights, number - value
        else:
            value = -value
        if reader.left:
            raise reader.error(f"{reader.left!r} comes after what is read")
    except ModelError:
        if "=" in text:
            raise
        return None  # meant as a name
    if not row.any():
        raise ModelError(f"the hypothesis {text!r} holds no coefficient: it is true or false as is")
    return row, value


class _Reader:
    """Reads an equation from left to right."""

    def __init__(self, text: str, terms: Sequence[str]) -> None:
        self.left = text.strip()
        self.text = text
        self.terms = terms
        spelt = {name.replace("`", ""): k for k, name in enumerate(terms)}
        spelt.update({name: k for k, name in enumerate(terms)})
        self.names = sorted(spelt.items(), key=lambda item: -len(item[0]))

    def sum(self) -> tuple[Floats, float]:
        """Return the weights of the coefficients and the number beside them."""
        row, number = np.zeros(len(self.terms)), 0.0
        sign = -1.0 if self.take("-") else 1.0
        while True:
            factor, which = self.product()
            if which < 0:
                number += sign * factor
            else:
                row[which] += sign * factor
            if not self.left or self.left.startswith("="):
                return row, number
            if not self.left.startswith(("+", "-")):
                raise self.error(f"an operator is missing before {self.left!r}")
            sign = -1.0 if self.take("-") else 1.0
            self.take("+")

    def product(self) -> tuple[float, int]:
        """Read factors: their number, and the coefficient among them, -1 for none."""
        factor, which = self.operand()
        while self.left.startswith(("*", "/")):
            divided = self.take("/")
            times, other = (1.0, -1) if divided or not self.take("*") else self.operand()
            divisor = self.number() if divided else 1.0
            if not divisor or (which >= 0 and other >= 0):
                raise self.error("coefficients are multiplied and divided by numbers alone")
            factor, which = factor * times / divisor, max(which, other)
        return factor, which

    def operand(self) -> tuple[float, int]:
        """Read a coefficient, as 1 and its index, or a number, as itself and -1."""
        for name, which in self.names:
            rest = self.left[len(name) :]
            if self.left.startswith(name) and not re.match(r"[\w.:(\[]", rest):
                self.left = rest.strip()
                return 1.0, which
        number = self.number()
        if number is not None:
            return number, -1
        word = _WORD.match(self.left)
        shown = word.group() if word else ""
        if not shown:
            raise self.error("a coefficient or a number is missing")
        raise self.error(f"{shown!r} is no coefficient{suggestion(shown, self.terms)}")

    def number(self) -> float | None:
        found = _NUMBER.match(self.left)
        if found is None or re.match(r"[\w.:(]", self.left[found.end() :]):
            return None
        self.left = self.left[found.end() :].strip()
        return float(found.group())

    def take(self, sign: str) -> bool:
        """Step over a sign where it stands next."""
        if not self.left.startswith(sign):
            return False
        self.left = self.left[len(sign) :].strip()
        return True

    def error(self, what: str) -> ModelError:
        known = ", ".join(map(repr, self.terms))
        return ModelError(
            f"the hypothesis {self.text!r}: {what}; a hypothesis may hold {known}, "
            "numbers, + - * / and one '='; several hypotheses are a list"
        )
