"""Tests of the terms of one fit: the table that `anova(fit)` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.effects import Effect, Effects, effects_of
from ranef.design.matrix import INTERCEPT
from ranef.design.specification import Specification
from ranef.display.answer import Shown
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.fits.mixed import MixedFit
from ranef.inference.coefficients.degrees import METHODS
from ranef.inference.coefficients.functions import Knowledge
from ranef.questions.tests.term_hypotheses import term_hypotheses
from ranef.tables import make_table

__all__ = ["TermTests", "tabulate_terms"]

Floats = NDArray[np.float64]

TYPE_WORDS = {
    "I": "each term after those before it",
    "II": "each term adjusted for all others that do not contain it",
    "III": "unweighted means, whatever the contrasts of the fit",
}


@dataclass(frozen=True)
class TermTest:
    """The test of one term; without a hypothesis df1 is 0 and the rest NaN."""

    component: str
    term: str
    df1: int
    df2: float
    statistic: float
    p_value: float


@dataclass(frozen=True, eq=False, repr=False)
class TermTests(Shown):
    """Tests of the terms of a fit; `ranef.anova` makes it.

    Attributes
    ----------
    formula : str
    type : {"I", "II", "III"}
    df : str
        Method of the denominator degrees of freedom; ``"normal"`` in generalised models.
    tests : tuple of TermTest
    sigma2 : float or None
        Residual variance of a linear model.
    notes : tuple of str
        What to know before the table is read: empty cells, terms without a hypothesis.
    library : str
    """

    formula: str
    type: str
    df: str
    tests: tuple[TermTest, ...]
    sigma2: float | None
    notes: tuple[str, ...]
    library: str

    def tidy(self) -> Any:
        """Return the tests as a table in the library the data came in.

        Returns
        -------
        table
            Of a linear model ``term, sum_sq, mean_sq, df1, df2, statistic, p_value``:
            mean_sq is F times the residual variance, as in lmerTest. Of a generalised
            one ``component, term, df, statistic, p_value``, the statistic Wald's
            chi-squared.
        """
        every = {name: [getattr(t, name) for t in self.tests] for name in TermTest.__annotations__}
        if self.sigma2 is None:
            every["df"] = every.pop("df1")
            names = ("component", "term", "df", "statistic", "p_value")
            return make_table({name: every[name] for name in names}, self.library)
        mean = np.array(every["statistic"]) * self.sigma2
        columns = {
            "term": every["term"],
            "sum_sq": mean * np.array(every["df1"]),
            "mean_sq": mean,
            **{name: every[name] for name in ("df1", "df2", "statistic", "p_value")},
        }
        return make_table(columns, self.library)

    @property
    def page(self) -> Page:
        """The answer in words and a table."""
        title = f"Analysis of variance, type {self.type} ({TYPE_WORDS[self.type]}): {self.formula}"
        body = self._wald_tests() if self.sigma2 is None else self._f_tests()
        notes = (Paragraph(self.notes),) if self.notes else ()
        return Page(title, (body, *notes))

    def _f_tests(self) -> TextTable:
        caption = f"F tests ({METHODS[self.df].joint_words})"
        header = ("", "sum_sq", "mean_sq", "df1", "df2", "F", "p")
        rows = []
        for t in self.tests:
            mean = t.statistic * (self.sigma2 or 0.0)
            squares = [number(x, decimals(x, 4)) for x in (mean * t.df1, mean)]
            df2 = number(t.df2, 1 if t.df2 < 1000 else 0)
            rows.append(
                (t.term, *squares, str(t.df1), df2, number(t.statistic, 3), p_value(t.p_value))
            )
        return TextTable(caption, header, tuple(rows))

    def _wald_tests(self) -> TextTable:
        parts = len({t.component for t in self.tests}) > 1
        labels = [(t.component, t.term) if parts else (t.term,) for t in self.tests]
        rows = tuple(
            (*label, str(t.df1), number(t.statistic, 3), p_value(t.p_value))
            for label, t in zip(labels, self.tests, strict=True)
        )
        header = (*(("", "") if parts else ("",)), "df", "chi2", "p")
        return TextTable("Wald tests (chi-squared)", header, rows, 2 if parts else 1)


def tabulate_terms(fit: MixedFit, kind: str, df: str | None) -> TermTests:
    """Test every term of every part of a fit."""
    sigma = fit.estimate.sigma
    known = fit.knowledge(df)
    tests: list[TermTest] = []
    notes: list[str] = []
    for part in _parts(fit):
        effects = _effects(fit, part.specification)
        hypotheses = term_hypotheses(kind, part.specification.X, effects)
        for effect, L in zip(effects.effects, hypotheses, strict=True):
            if effect.name != INTERCEPT:
                every = part.placed(L, len(fit.coefficients))
                test = _test(part.name, effect, every, fit.coefficients, known)
                tests.append(test if sigma is not None else _as_chi2(test))
        notes += _notes(effects, kind)
    notes += [
        f"{t.term}: no hypothesis, since other terms determine it or it is held fixed."
        for t in tests
        if t.df1 == 0
    ]
    if not tests:
        notes.append("The fixed effects have no terms but the intercept: there is nothing to test.")
    return TermTests(
        fit.formula, kind, fit.method(df), tuple(tests), None if sigma is None else sigma**2,
        tuple(dict.fromkeys(notes)), fit.frame.library,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Part:
    """A part with a formula.

    Attributes
    ----------
    name : str
    specification : Specification
    copies : tuple of dict
        For each of its copies (one a category of a multinomial response) the coefficients
        by the names of their columns; some columns have none.
    """

    name: str
    specification: Specification
    copies: tuple[Mapping[str, int], ...]

    def placed(self, L: Floats, count: int) -> Floats:
        """A hypothesis about the columns, over all coefficients (q, count), for each copy."""
        out = np.zeros((len(self.copies), len(L), count))
        for own, places in zip(out, self.copies, strict=True):
            for j, name in enumerate(self.specification.names):
                if name in places:
                    own[:, places[name]] = L[:, j]
        return out.reshape(-1, count)


def _parts(fit: MixedFit) -> list[_Part]:
    places: dict[str, dict[str | None, dict[str, int]]] = {}
    for k, label in enumerate(fit.labels):
        if label.component in fit.parts:
            copies = places.setdefault(label.component, {})
            copies.setdefault(label.response, {})[label.term] = k
    return [
        _Part(name, fit.parts[name], tuple(by_response.values()))
        for name, by_response in places.items()
    ]


def _effects(fit: MixedFit, spec: Specification) -> Effects:
    data = fit.frame.data
    if data is None:
        return effects_of(spec.recipe, fit.frame.rows_used())
    return effects_of(spec.recipe, data, fit.frame.accounting.kept)


def _test(
    component: str, effect: Effect, L: Floats, coefficients: Floats, known: Knowledge
) -> TermTest:
    if _is_settled(L, known):
        return TermTest(component, effect.name, 0, np.nan, np.nan, np.nan)
    found = known.joint(L, L @ coefficients)
    return TermTest(component, effect.name, found.df1, found.df2, found.statistic, found.p_value)


def _as_chi2(test: TermTest) -> TermTest:
    """The same with Wald's chi-squared as statistic."""
    return replace(test, statistic=test.statistic * test.df1)


def _is_settled(L: Floats, known: Knowledge) -> bool:
    """Tell whether nothing is left to test: no rows, or coefficients that are held."""
    spread = L @ known.covariance @ L.T
    return len(L) == 0 or bool(np.linalg.matrix_rank(spread, hermitian=True) < len(L))


def _notes(effects: Effects, kind: str) -> list[str]:
    """Say what to know: empty cells, covariates that interact."""
    notes = []
    for effect in effects.effects:
        if effect.empty and kind == "III":
            shown = ", ".join(effect.empty[:5]) + (", ..." if len(effect.empty) > 5 else "")
            notes.append(
                f"{effect.name} has no rows for {shown}: type III hypotheses of its margins "
                "depend on which cells are filled."
            )
    return notes + _covariate_notes(effects, kind)


def _covariate_notes(effects: Effects, kind: str) -> list[str]:
    """Terms that are tested where a covariate is zero."""
    if kind == "I":
        return []
    notes = []
    for own in effects.effects:
        partners = [
            other.covariates - own.covariates
            for other in effects.effects
            if own.factors | own.covariates < other.factors | other.covariates
            and own.name != INTERCEPT
            and other.covariates > own.covariates
        ]
        if partners:
            zero = sorted(frozenset().union(*partners))
            named = " and ".join([", ".join(zero[:-1]), zero[-1]] if zero[1:] else zero)
            several = any(
                not e.factors and e.columns.shape[1] > 1 and e.covariates in partners
                for e in effects.effects
            )
            where = (
                f"{named} {'are' if zero[1:] else 'is'} 0; centre {'them' if zero[1:] else 'it'}"
            )
            notes.append(
                f"{own.name} is tested where all columns of {named} are 0; joint_tests() tests it "
                "at a value."
                if several
                else f"{own.name} is tested where {where} to test elsewhere."
            )
    return notes
