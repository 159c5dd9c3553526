"""Slopes within and between groups: does a predictor mean the same in both?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue, Sized, unprinted
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.protocol import Levelled, require
from ranef.models.records import CONDITIONAL
from ranef.questions.checks import within_between_numbers as numbers
from ranef.questions.checks.within_between_numbers import Slopes

__all__ = ["MUNDLAK", "WITHIN_BETWEEN", "Form", "WithinBetween", "slopes_of"]

WITHIN_BETWEEN, MUNDLAK = "within-between", "Mundlak"


@dataclass(frozen=True)
class Form:
    """One way to write both slopes into a model, fitted.

    Attributes
    ----------
    name : {"within-between", "Mundlak"}
    formula : str
    loglik : float
    slopes : tuple of Slopes
    """

    name: str
    formula: str
    loglik: float
    slopes: tuple[Slopes, ...]


@dataclass(frozen=True, eq=False, repr=False)
class WithinBetween(Answer):
    """Slopes within and between groups; `within_between` makes it.

    Attributes
    ----------
    found : tuple of Slopes
    groups : tuple of str
        Name of the grouping factor of each.
    title, library : str
    forms : tuple of Form
        Of a formula the two forms of the model; empty of a fit.

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
    forms: tuple[Form, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def tidy(self, table: str = "slopes") -> Any:
        """Return a table.

        Parameters
        ----------
        table : {"slopes", "forms"}
            ``"slopes"`` has the columns ``term, group, icc, within, between, contextual,
            std_error, statistic, df1, df2, p_value, within_std_error, between_std_error,
            reliability, between_corrected, between_corrected_std_error,
            contextual_corrected, contextual_corrected_std_error``. `icc` is the share of the
            predictor's own variance between groups, `contextual` the between minus the
            within slope and `std_error` its standard error; `reliability` is that of the
            groups' means, and the corrected slopes are those of the groups' own values in
            place of their observed means (NaN for terms of several columns).
            ``"forms"``, of a formula, has the two forms of the model: ``form, term, group,
            within, between, contextual, std_error, loglik, formula``.
        """
        return self.tabled(self.listing(table))

    def tables(self) -> tuple[Listing, ...]:
        listing = Listing("slopes", self._columns(), "Tests", labels=2)
        return (listing, self._forms()) if self.forms else (listing,)

    def _columns(self) -> tuple[Column, ...]:
        slopes, tests = self.found, [s.test for s in self.found]
        errors = _array(s.std_error for s in slopes)
        within, between = (
            _array(s.within_error for s in slopes),
            _array(s.between_error for s in slopes),
        )
        fixed = [s.corrected for s in slopes]
        corrected = _array(c.error for c in fixed)
        sized, heading = Sized(errors), "std. error"
        return (
            Column("term", [s.term for s in slopes]),
            Column("group", list(self.groups)),
            Column("icc", _array(s.icc for s in slopes), Fixed(2)),
            Column("within", _array(s.within for s in slopes), sized),
            Column("", within, Sized(within), heading, tabled=False),
            Column("between", _array(s.between for s in slopes), sized),
            Column("", between, Sized(between), heading, tabled=False),
            Column("contextual", _array(s.contextual for s in slopes), sized),
            Column("std_error", errors, sized, heading),
            Column("statistic", _array(t.statistic for t in tests), Fixed(2), "F"),
            Column("df1", np.array([t.df1 for t in tests], dtype=np.int_), printed=False),
            Column("df2", _array(t.df2 for t in tests), printed=False),
            Column("p_value", _array(t.p_value for t in tests), PValue(), "p"),
            *unprinted(within_std_error=within, between_std_error=between),
            Column("reliability", _array(c.reliability for c in fixed), Fixed(2)),
            *unprinted(
                between_corrected=_array(c.between for c in fixed),
                between_corrected_std_error=_array(c.between_error for c in fixed),
            ),
            Column(
                "contextual_corrected",
                _array(c.contextual for c in fixed),
                Sized(corrected),
                "corrected",
            ),
            Column("contextual_corrected_std_error", corrected, Sized(corrected), heading),
        )

    def _forms(self) -> Listing:
        rows = [(form, one) for form in self.forms for one in form.slopes]
        errors = _array(one.std_error for _, one in rows)
        sized = Sized(errors)
        columns = (
            Column("form", [form.name for form, _ in rows]),
            Column("term", [one.term for _, one in rows]),
            Column("group", [one.group for _, one in rows]),
            Column("within", _array(one.within for _, one in rows), sized),
            Column("between", _array(one.between for _, one in rows), sized),
            Column("contextual", _array(one.contextual for _, one in rows), sized),
            Column("std_error", errors, sized, "std. error"),
            Column("loglik", _array(form.loglik for form, _ in rows), Fixed(3), "log-likelihood"),
            *unprinted(formula=[form.formula for form, _ in rows]),
        )
        return Listing("forms", columns, "Two forms of the model", labels=3)

    def sentences(self) -> tuple[str, ...]:
        if not self.found:
            return ("No predictor varies both within groups and between their means.",)
        return (
            "icc is the share of the predictor's own variance that lies between groups; "
            "The contextual effect is the between slope minus the within slope, with its test.",
            *self._of_form(),
            *self._of_reliability(),
        )

    def _of_form(self) -> tuple[str, ...]:
        if self.forms:
            return (_compared(self.forms),)
        lines = []
        if any(not s.group for s in self.found):
            lines.append(
                "Where the slopes differ, one coefficient mixes them: write "
                "within(x, g) + between(x, g) in place of x."
            )
        if any(s.raw_slope for s in self.found):
            lines.append(
                "The random slope is that of x as it stands (Mundlak's form). With the slope on "
                "within(x, g) it is another model, with other numbers: "
                "within_between(formula, data) fits both."
            )
        return tuple(lines)

    def _of_reliability(self) -> tuple[str, ...]:
        known = [s.corrected for s in self.found if np.isfinite(s.corrected.reliability)]
        if not known:
            return ()
        poor = any(c.reliability < 0.8 for c in known)
        advice = (
            " Some are below 0.80: few rows a group make the observed means poor measures, and "
            "the corrected column is the one to read."
            if poor
            else ""
        )
        return (
            "reliability is that of the groups' observed means; corrected is the contextual "
            f"effect of the groups' own values, free of the noise in their means.{advice}",
        )

    def body(self) -> Iterable[Part]:
        return super().body() if self.found else (Paragraph(self.sentences()),)


def _array(values: Iterable[float]) -> Any:
    return np.array(list(values), dtype=np.float64)


def _compared(forms: tuple[Form, ...]) -> str:
    """Say whether the two forms are one model."""
    one, other = forms
    gap = abs(one.loglik - other.loglik)
    if gap < 1e-4 + 1e-9 * abs(one.loglik):
        return (
            "With random intercepts alone the within-between form and Mundlak's are one model in "
            "two forms: same likelihood, same slopes."
        )
    return (
        "With a random slope the two forms are different models: the within-between form lets "
        "the slope on the centred predictor vary, Mundlak's that on the raw one "
        f"(log-likelihoods {one.loglik:.2f} and {other.loglik:.2f}). The slopes above are those of "
        "the within-between form."
    )


def slopes_of(fit: Any) -> WithinBetween:
    """Ask a fit for the slopes of its predictors within and between groups."""
    fit = require(fit, "within_between()", Levelled)
    if fit.family.name == "multinomial":
        raise ModelError(
            "a multinomial model has a slope for each category; ask a binomial model of two "
            "categories for slopes within and between groups"
        )
    model = fit.inference
    slopes = (*numbers.paired_parts(model), *numbers.within_between(model, correct=True))
    names = [factor.name for factor in fit.parts[CONDITIONAL].factors]
    groups = tuple(one.group or names[one.factor] for one in slopes)
    title = f"Slopes within and between groups: {fit.formula}"
    return WithinBetween(slopes, groups, title, fit.frame.library)
