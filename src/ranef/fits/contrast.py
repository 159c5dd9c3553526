"""One linear combination of coefficients by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue, Sized
from ranef.errors import ModelError
from ranef.fits.hypothesis import combination_text
from ranef.fits.named_hypotheses import named_rows
from ranef.inference.coefficients.wald import Intervals

__all__ = ["Contrast", "read_contrast"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Contrast(Answer):
    """A linear combination of coefficients, with its test and interval.

    Attributes
    ----------
    name : str
        The combination as a formula.
    estimate, std_error, df, statistic, p_value, conf_low, conf_high : float
    conf_level : float
    words : str
        By what the test works.
    title, library : str
    coded : dict
        Column and level of coefficients that stand for a level of a category.
    """

    name: str
    found: Intervals
    conf_level: float
    words: str
    title: str
    library: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def estimate(self) -> float:
        """The combination of the estimates."""
        return float(self.found.estimate[0])

    @property
    def std_error(self) -> float:
        """Its standard error, from the joint covariance of the coefficients."""
        return float(self.found.std_error[0])

    @property
    def df(self) -> float:
        """Degrees of freedom of its t test; infinite of a normal one."""
        return float(self.found.df[0])

    @property
    def statistic(self) -> float:
        """Estimate over standard error."""
        return float(self.found.statistic[0])

    @property
    def p_value(self) -> float:
        """That the combination is zero, two-sided."""
        return float(self.found.p_value[0])

    @property
    def conf_low(self) -> float:
        """Lower end of the interval."""
        return float(self.found.conf_low[0])

    @property
    def conf_high(self) -> float:
        """Upper end of the interval."""
        return float(self.found.conf_high[0])

    def tables(self) -> tuple[Listing, ...]:
        found = self.found
        sized = Sized(found.std_error)
        columns = (
            Column("term", [self.name]),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized, "std. error"),
            Column("df", found.df, Degrees()),
            Column("statistic", found.statistic, Fixed(2)),
            Column("p_value", found.p_value, PValue(), "p"),
            Column("conf_low", found.conf_low, sized, f"{percent(self.conf_level)} low"),
            Column("conf_high", found.conf_high, sized, "high"),
        )
        return (Listing("contrast", columns, "Linear combination of coefficients"),)

    def sentences(self) -> tuple[str, ...]:
        return (f"By {self.words}.",)


def read_contrast(
    weights: Any, terms: Sequence[str], left_out: Sequence[str]
) -> tuple[Floats, str]:
    """Return the row (1, P) of a combination, and how it is written."""
    if not isinstance(weights, Mapping) or not weights:
        raise ModelError(
            "contrast() takes the weights of coefficients by name, such as "
            "{'between(x, g)': 1, 'within(x, g)': -1}"
        )
    numbers = [arguments.number(f"the weight of {name!r}", v) for name, v in weights.items()]
    for name, number in zip(weights, numbers, strict=True):
        if not np.isfinite(number):
            raise ModelError(f"the weight of {name!r} must be finite, not {number}")
    rows = named_rows([str(name) for name in weights], terms, left_out)
    text = combination_text(dict(zip(weights, numbers, strict=True)))
    return np.asarray(np.array(numbers) @ rows)[None, :], text
