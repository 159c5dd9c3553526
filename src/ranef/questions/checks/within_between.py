"""Slopes within and between groups: does a predictor mean the same in both?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue, Sized
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.protocol import Levelled, require
from ranef.models.records import CONDITIONAL
from ranef.questions.checks import within_between_numbers as numbers
from ranef.questions.checks.within_between_numbers import Slopes

__all__ = ["WithinBetween", "within_between"]


@dataclass(frozen=True, eq=False, repr=False)
class WithinBetween(Answer):
    """Slopes within and between groups; `within_between` makes it.

    Attributes
    ----------
    found : tuple of Slopes
    groups : tuple of str
        Name of the grouping factor of each.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.within_between(fit)
    Slopes within and between groups: Reaction ~ Days + (Days | Subject)
    <BLANKLINE>
    No predictor varies both within groups and between their means.
    """

    found: tuple[Slopes, ...]
    groups: tuple[str, ...]
    title: str
    library: str

    def __len__(self) -> int:
        return len(self.found)

    def tidy(self) -> Any:
        """Return a table.

        Columns ``term, group, icc, within, between, contextual, std_error, statistic, df1,
        df2, p_value``; `icc` is the share of the predictor's own variance between groups,
        `contextual` the between minus the within slope.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        slopes, tests = self.found, [s.test for s in self.found]
        errors = np.array([s.std_error for s in slopes])
        sized = Sized(errors)
        columns = (
            Column("term", [s.term for s in slopes]),
            Column("group", list(self.groups)),
            Column("icc", np.array([s.icc for s in slopes]), Fixed(2)),
            Column("within", np.array([s.within for s in slopes]), sized),
            Column("between", np.array([s.between for s in slopes]), sized),
            Column("contextual", np.array([s.contextual for s in slopes]), sized, "difference"),
            Column("std_error", errors, printed=False),
            Column("statistic", np.array([t.statistic for t in tests]), Fixed(2), "F"),
            Column("df1", np.array([t.df1 for t in tests], dtype=np.int_), printed=False),
            Column("df2", np.array([t.df2 for t in tests]), printed=False),
            Column("p_value", np.array([t.p_value for t in tests]), PValue(), "p"),
        )
        return (Listing("slopes", columns, "Tests", labels=2),)

    def sentences(self) -> tuple[str, ...]:
        if not self.found:
            return ("No predictor varies both within groups and between their means.",)
        return (
            "icc is the share of the predictor's own variance that lies between groups. "
            "Where the slopes differ, one coefficient mixes them: write "
            "within(x, g) + between(x, g) in place of x.",
        )

    def body(self) -> Iterable[Part]:
        return super().body() if self.found else (Paragraph(self.sentences()),)


def within_between(fit: Any) -> WithinBetween:
    """Test whether predictors have one slope within groups and another between them.

    A column that varies within groups and between their means answers two questions with
    one coefficient. Beside it its group means are put (Mundlak's device), and their
    coefficient, the difference of the two slopes, is tested: the Hausman test in the form
    of a Wald test. Linear models are fitted again for this, with Satterthwaite's degrees
    of freedom; generalised ones take a step in the working linear model.

    Parameters
    ----------
    fit : a fit of ranef

    Returns
    -------
    WithinBetween

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ cover + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="poisson")
    >>> len(ranef.within_between(fit))
    0
    """
    fit = require(fit, "within_between()", Levelled)
    if fit.family.name == "multinomial":
        raise ModelError(
            "a multinomial model has a slope for each category; ask a binomial model of two "
            "categories for slopes within and between groups"
        )
    slopes = numbers.within_between(fit.inference)
    names = [factor.name for factor in fit.parts[CONDITIONAL].factors]
    groups = tuple(names[one.factor] for one in slopes)
    title = f"Slopes within and between groups: {fit.formula}"
    return WithinBetween(slopes, groups, title, fit.frame.library)
