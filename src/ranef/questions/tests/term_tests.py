"""Tests of the terms of one fit: the table that `anova(fit)` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.effects import Effect, Effects, effects_of
from ranef.design.matrix import INTERCEPT
from ranef.design.specification import Specification
from ranef.display.answer import Answer
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue, Significant
from ranef.fits.fit import Fit
from ranef.fits.protocol import Scored, require
from ranef.inference.coefficients.degrees import words_of
from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.wald import FTest, scaled_rank
from ranef.questions.tests.term_hypotheses import term_hypotheses

__all__ = ["TermTests", "tabulate_terms"]

Floats = NDArray[np.float64]

WORDS = {"wald": "Wald tests", "score": "Generalised score tests"}
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
class TermTests(Answer):
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
    test : {"wald", "score"}
    """

    formula: str
    type: str
    df: str
    tests: tuple[TermTest, ...]
    sigma2: float | None
    notes: tuple[str, ...]
    library: str
    test: str = "wald"

    def tidy(self) -> Any:
        """Return the tests as a table in the library the data came in.

        Returns
        -------
        table
            Of a linear model ``term, sum_sq, mean_sq, df1, df2, statistic, p_value``:
            mean_sq is F times the residual variance, as in lmerTest. Of a generalised
            one ``component, term, df, statistic, p_value``, the statistic Wald's
            chi-squared; of a population-averaged one with few clusters ``term, df1, df2,
            statistic, p_value``, F.
        """
        return super().tidy()

    @property
    def title(self) -> str:
        words = TYPE_WORDS[self.type]
        return f"Analysis of variance, type {self.type} ({words}): {self.formula}"

    def tables(self) -> tuple[Listing, ...]:
        tests = self.tests
        statistic = [t.statistic for t in tests]
        p = Column("p_value", [t.p_value for t in tests], PValue(), "p")
        term = Column("term", [t.term for t in tests], heading="")
        df1 = [t.df1 for t in tests]
        if self.sigma2 is None and not any(np.isfinite(t.df2) for t in tests):
            parts = [t.component for t in tests]
            several = len(set(parts)) > 1
            wald = (
                Column("component", parts, heading="", printed=several),
                term,
                Column("df", df1, Fixed(0)),
                Column("statistic", statistic, Fixed(3), "chi2"),
                p,
            )
            return (
                Listing("terms", wald, f"{WORDS[self.test]} (chi-squared)", labels=1 + several),
            )
        squares: tuple[Column, ...] = ()
        if self.sigma2 is not None:
            mean = np.array(statistic) * self.sigma2
            squares = (
                Column("sum_sq", mean * np.array(df1), Significant()),
                Column("mean_sq", mean, Significant()),
            )
        columns = (
            term,
            *squares,
            Column("df1", df1, Fixed(0)),
            Column("df2", [t.df2 for t in tests], Degrees()),
            Column("statistic", statistic, Fixed(3), "F"),
            p,
        )
        return (Listing("terms", columns, f"F tests ({words_of(self.df, joint=True)})"),)

    def sentences(self) -> tuple[str, ...]:
        return self.notes


def tabulate_terms(fit: Fit, kind: str, df: str | None, test: str = "wald") -> TermTests:
    """Test every term of every part of a fit."""
    variance = fit.residual_variance
    knowledge = fit.knowledge(df)
    scored = require(fit, "anova(test='score')", Scored).score_test if test == "score" else None
    tests: list[TermTest] = []
    notes: list[str] = []
    for part in _parts(fit):
        effects = _effects(fit, part.specification)
        hypotheses = term_hypotheses(kind, part.specification.X, effects)
        for effect, L in zip(effects.effects, hypotheses, strict=True):
            if effect.name != INTERCEPT:
                every = part.placed(L, len(fit.coefficients))
                tests.append(_test(part.name, effect, every, fit.coefficients, knowledge, scored))
        notes += _notes(effects, kind)
    notes += [
        f"{t.term}: no hypothesis, since other terms determine it or it is held fixed."
        for t in tests
        if t.df1 == 0
    ]
    if not tests:
        notes.append("The fixed effects have no terms but the intercept: there is nothing to test.")
    if variance is None and not any(np.isfinite(t.df2) for t in tests):
        tests = [_as_chi2(t) for t in tests]
    return TermTests(
        fit.formula, kind, "normal" if scored else fit.method(df), tuple(tests), variance,
        tuple(dict.fromkeys(notes)), fit.frame.library, test,
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
        for rows, places in zip(out, self.copies, strict=True):
            for j, name in enumerate(self.specification.names):
                if name in places:
                    rows[:, places[name]] = L[:, j]
        return out.reshape(-1, count)


def _parts(fit: Fit) -> list[_Part]:
    places: dict[str, dict[str | None, dict[str, int]]] = {}
    for k, label in enumerate(fit.labels):
        if label.component in fit.parts:
            copies = places.setdefault(label.component, {})
            copies.setdefault(label.response, {})[label.term] = k
    return [
        _Part(name, fit.parts[name], tuple(by_response.values()))
        for name, by_response in places.items()
    ]


def _effects(fit: Fit, spec: Specification) -> Effects:
    data = fit.frame.data
    if data is None:
        return effects_of(spec.recipe, fit.frame.rows_used())
    return effects_of(spec.recipe, data, fit.frame.accounting.kept)


def _test(
    component: str,
    effect: Effect,
    L: Floats,
    coefficients: Floats,
    knowledge: Knowledge,
    scored: Callable[[Floats], FTest] | None,
) -> TermTest:
    if _is_settled(L, knowledge):
        return TermTest(component, effect.name, 0, np.nan, np.nan, np.nan)
    test = knowledge.joint(L, L @ coefficients) if scored is None else scored(L)
    return TermTest(component, effect.name, test.df1, test.df2, test.statistic, test.p_value)


def _as_chi2(test: TermTest) -> TermTest:
    """The same with Wald's chi-squared as statistic."""
    return replace(test, statistic=test.statistic * test.df1)


def _is_settled(L: Floats, knowledge: Knowledge) -> bool:
    """Tell whether nothing is left to test: no rows, or coefficients that are held."""
    spread = L @ knowledge.covariance @ L.T
    return len(L) == 0 or bool(scaled_rank(spread) < len(L))


def _notes(effects: Effects, kind: str) -> list[str]:
    """Say what to know: empty cells, covariates that interact."""
    notes = []
    for effect in effects.effects:
        if effect.empty and kind == "III":
            cells = ", ".join(effect.empty[:5]) + (", ..." if len(effect.empty) > 5 else "")
            notes.append(
                f"{effect.name} has no rows for {cells}: type III hypotheses of its margins "
                "depend on which cells are filled."
            )
    return notes + _covariate_notes(effects, kind)


def _covariate_notes(effects: Effects, kind: str) -> list[str]:
    """Terms that are tested where a covariate is zero."""
    if kind == "I":
        return []
    notes = []
    for effect in effects.effects:
        partners = [
            other.covariates - effect.covariates
            for other in effects.effects
            if effect.factors | effect.covariates < other.factors | other.covariates
            and effect.name != INTERCEPT
            and other.covariates > effect.covariates
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
                f"{effect.name} is tested where all columns of {named} are 0; joint_tests() "
                "tests it at a value."
                if several
                else f"{effect.name} is tested where {where} to test elsewhere."
            )
    return notes
