"""Slopes within and between groups: does a predictor mean the same in both?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.display.answer import Shown
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import ModelError
from ranef.fits.protocol import Levelled, require
from ranef.models.records import CONDITIONAL
from ranef.questions.checks import within_between_numbers as numbers
from ranef.questions.checks.within_between_numbers import Slopes
from ranef.tables import make_table

__all__ = ["WithinBetween", "within_between"]


@dataclass(frozen=True, eq=False, repr=False)
class WithinBetween(Shown):
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
        names = ("icc", "within", "between", "contextual", "std_error")
        columns: dict[str, Any] = {
            "term": [h.term for h in self.found],
            "group": list(self.groups),
            **{name: np.array([getattr(h, name) for h in self.found]) for name in names},
            "statistic": np.array([h.test.statistic for h in self.found]),
            "df1": np.array([h.test.df1 for h in self.found], dtype=np.int_),
            "df2": np.array([h.test.df2 for h in self.found]),
            "p_value": np.array([h.test.p_value for h in self.found]),
        }
        return make_table(columns, self.library)

    @property
    def page(self) -> Page:
        """What `repr` and notebooks show."""
        title = f"Slopes within and between groups: {self.title}"
        if not self.found:
            line = "No predictor varies both within groups and between their means."
            return Page(title, (Paragraph((line,)),))
        rows = []
        for h, group in zip(self.found, self.groups, strict=True):
            places = decimals(h.std_error)
            shown = (number(v, places) for v in (h.within, h.between, h.contextual))
            tail = (number(h.test.statistic, 2), p_value(h.test.p_value))
            rows.append((h.term, group, number(h.icc, 2), *shown, *tail))
        header = ("term", "group", "icc", "within", "between", "difference", "F", "p")
        advice = Paragraph(
            (
                "icc is the share of the predictor's own variance that lies between groups. "
                "Where the slopes differ, one coefficient mixes them: write "
                "within(x, g) + between(x, g) in place of x.",
            )
        )
        return Page(title, (TextTable("Tests", header, tuple(rows), 2), advice))


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
    found = numbers.within_between(fit.inference)
    names = [factor.name for factor in fit.parts[CONDITIONAL].factors]
    groups = tuple(names[slopes.factor] for slopes in found)
    return WithinBetween(found, groups, fit.formula, fit.frame.library)
