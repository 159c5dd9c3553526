"""A joint test of hypotheses about the coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue
from ranef.formula.labels import number_text
from ranef.inference.coefficients.wald import FTest

__all__ = ["HypothesisTest", "hypotheses_text"]

MOST = 12
"""Hypotheses that are written out below the test."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class HypothesisTest(Answer):
    """Linear hypotheses about the coefficients, tested all at once.

    Attributes
    ----------
    found : FTest
    hypotheses : tuple of str
        Each as an equation, ``"TypeT2 = 0"``.
    words : str
        By what the test works.
    title, library : str
    coded : dict
        Column and level of coefficients that stand for a level of a category.
    """

    found: FTest
    hypotheses: tuple[str, ...]
    words: str
    title: str
    library: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def statistic(self) -> float:
        """F; where `df2` is infinite Wald's statistic over `df1`."""
        return self.found.statistic

    @property
    def df1(self) -> int:
        """Rank of the hypotheses."""
        return self.found.df1

    @property
    def df2(self) -> float:
        """Denominator degrees of freedom."""
        return self.found.df2

    @property
    def p_value(self) -> float:
        """That all hypotheses hold."""
        return self.found.p_value

    def tables(self) -> tuple[Listing, ...]:
        found = self.found
        name = self.hypotheses[0] if len(self.hypotheses) == 1 else "all hypotheses"
        columns = (
            Column("hypothesis", [name], heading=""),
            Column("statistic", [found.statistic], Fixed(2), "F"),
            Column("df1", [found.df1], Fixed(0)),
            Column("df2", [found.df2], Degrees()),
            Column("p_value", [found.p_value], PValue(), "p"),
        )
        return (Listing("test", columns, "Joint test of coefficients"),)

    def sentences(self) -> tuple[str, ...]:
        shown = "; ".join(self.hypotheses[:MOST])
        left = len(self.hypotheses) - MOST
        more = f"; and {left:,} more" if left > 0 else ""
        tested = () if len(self.hypotheses) == 1 else (f"Hypotheses: {shown}{more}.",)
        scale = (
            ("With infinite denominator degrees of freedom df1 times F is Wald's chi-squared.",)
            if np.isinf(self.found.df2)
            else ()
        )
        return (*tested, f"By {self.words}.", *scale)


def hypotheses_text(rows: Floats, values: Floats | None, terms: Sequence[str]) -> tuple[str, ...]:
    """Write each row of hypotheses (q, P) as an equation.

    Examples
    --------
    >>> hypotheses_text(np.array([[0.0, 1.0, -0.5]]), np.array([2.0]), ["a", "b", "c"])
    ('b - 0.5 * c = 2',)
    """
    target = np.zeros(len(rows)) if values is None else values
    return tuple(
        f"{combination_text(dict(zip(terms, row, strict=True)))} = {number_text(float(value))}"
        for row, value in zip(rows.tolist(), target, strict=True)
    )


def combination_text(weights: dict[Any, float]) -> str:
    """Write a linear combination of coefficients; those of weight zero are left out.

    Examples
    --------
    >>> combination_text({"x": 1.0, "z": -2.0, "w": 0.0}), combination_text({"x": 0.0})
    ('x - 2 * z', '0')
    """
    text = ""
    for name, weight in weights.items():
        if weight == 0:
            continue
        size = "" if abs(weight) == 1 else f"{number_text(abs(weight))} * "
        sign = " - " if weight < 0 else " + "
        text += (sign if text else sign.strip().replace("+", "")) + size + str(name)
    return text or "0"
