"""The specification: a model and its data as arrays, read once.

It is what `design` hands to `models`: nothing below this point sees a formula
or a data frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.rank import whole
from ranef.design.recipe import Recipe
from ranef.design.terms import GroupingFactor, RandomTerm, ResidualTerm
from ranef.tables.accounting import Accounting

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Specification"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Specification:
    """A linear mixed model, or a part of a generalised one, as arrays.

    Attributes
    ----------
    formula : str
        As typed.
    response : str
        Name of the response, ``"Reaction"`` or ``"log(Reaction)"``.
    y : (n,) float64 array
    X : (n, p) float64 array, C order
        Fixed effects of full column rank. Where they were made without their zeros, see
        `compressed`, the whole matrix is made when it is first asked for.
    names : tuple of str
        Names of the p columns, R's way: ``"(Intercept)"``, ``"Days"``.
    dropped_columns : tuple of str
        Redundant columns that were left out of `X`.
    weights : (n,) float64 array or None
        All positive (rows of weight 0 are dropped): precisions in a linear model,
        factors of the log density in a generalised one.
    offset : (n,) float64 array or None
    terms : tuple of RandomTerm
        In formula order; at least one in a linear model.
    factors : tuple of GroupingFactor
        In order of first use.
    accounting : Accounting
    recipe : Recipe
        How to make the same matrices from another table.
    residual : ResidualTerm or None
        Structure of the residuals; None where they are independent, of variance
        sigma^2 / weight.
    """

    formula: str
    response: str
    y: Floats
    X: Floats
    names: tuple[str, ...]
    dropped_columns: tuple[str, ...]
    weights: Floats | None
    offset: Floats | None
    terms: tuple[RandomTerm, ...]
    factors: tuple[GroupingFactor, ...]
    accounting: Accounting
    recipe: Recipe
    residual: ResidualTerm | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.X, np.ndarray):
            vars(self)["compressed"] = vars(self).pop("X")

    def __getattr__(self, name: str) -> Any:
        rows = vars(self).get("compressed")
        if name != "X" or rows is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        X = whole(rows, "the matrix of the fixed effects, which this needs whole,")
        return vars(self).setdefault("X", X)

    @property
    def compressed(self) -> csr_array | None:
        """X without its zeros, where many columns are those of categories; else None."""
        return vars(self).get("compressed")

    @property
    def fixed_rows(self) -> Any:
        """X as it was made, (n, p): an array, or a csr_array."""
        return self.X if self.compressed is None else self.compressed

    def with_response(self, y: Floats) -> Specification:
        """Return the same model of another response, (n,)."""
        return replace(self, y=y, X=self.fixed_rows)

    @cached_property
    def n(self) -> int:
        return len(self.y)

    @cached_property
    def p(self) -> int:
        return len(self.names)

    @property
    def systems(self) -> int:
        """Linear systems that the core holds at once."""
        return 1

    @property
    def bytes_a_row(self) -> tuple[int, int, int]:
        """Bytes held of a row by the core: the response, twice; it reads columns in place."""
        return 16 + 4 * (self.weights is not None), 0, 0
