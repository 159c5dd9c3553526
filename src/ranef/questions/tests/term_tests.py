"""Tests of the terms of one fit: the table that `anova(fit)` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.effects import Effect, Effects, effects_of
from ranef.design.matrix import INTERCEPT
from ranef.design.specification import Specification
from ranef.display.answer import Shown
from ranef.display.page import Page, Paragraph, TextTable, decimals, number, p_value
from ranef.fits.mixed import MixedModelFit
from ranef.inference.coefficients.degrees import METHODS
from ranef.inference.coefficients.wald import with_fixed_rows
from ranef.models.records import Component, GeneralisedEstimate
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
        body = self._generalised() if self.sigma2 is None else self._linear()
        notes = (Paragraph(self.notes),) if self.notes else ()
        return Page(title, (body, *notes))

    def _linear(self) -> TextTable:
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

    def _generalised(self) -> TextTable:
        parts = len({t.component for t in self.tests}) > 1
        labels = [(t.component, t.term) if parts else (t.term,) for t in self.tests]
        rows = tuple(
            (*label, str(t.df1), number(t.statistic, 3), p_value(t.p_value))
            for label, t in zip(labels, self.tests, strict=True)
        )
        header = (*(("", "") if parts else ("",)), "df", "chi2", "p")
        return TextTable("Wald tests (chi-squared)", header, rows, 2 if parts else 1)


def tabulate_terms(fit: MixedModelFit, kind: str, df: str | None) -> TermTests:
    """Test every term of every part of a fit."""
    estimate = fit.estimate
    generalised = isinstance(estimate, GeneralisedEstimate)
    method = df or ("normal" if generalised else "satterthwaite")
    fit._covariance(method)  # refuses a method that is not for this fit
    tests: list[TermTest] = []
    notes: list[str] = []
    for name, spec, places in _parts(fit):
        effects = _effects(fit, spec)
        hypotheses = term_hypotheses(kind, spec.X, effects)
        for effect, L in zip(effects.effects, hypotheses, strict=True):
            if effect.name != INTERCEPT:
                tests.append(_test(fit, name, effect, _placed(L, places, estimate), method))
        notes += _notes(effects, kind)
    notes += [
        f"{t.term}: no hypothesis, since other terms determine it or it is held fixed."
        for t in tests
        if t.df1 == 0
    ]
    if not tests:
        notes.append("The fixed effects have no terms but the intercept: there is nothing to test.")
    sigma2 = None if generalised else estimate.sigma**2
    return TermTests(
        fit.formula, kind, method, tuple(tests), sigma2,
        tuple(dict.fromkeys(notes)), fit.frame.library,
    )  # fmt: skip


def _parts(fit: MixedModelFit) -> list[tuple[str, Specification, list[NDArray[np.intp]]]]:
    """Name and specification of each part with a formula, and for each of its copies
    (one a category of a multinomial response) the coefficient of each column, -1 for none.
    """
    estimate = fit.estimate
    if not isinstance(estimate, GeneralisedEstimate):
        spec = estimate.specification
        return [("conditional", spec, [np.arange(spec.p)])]
    found: dict[str, list[Component]] = {}
    for part in estimate.components:
        if part.specification is not None:
            found.setdefault(part.name, []).append(part)
    return [
        (name, parts[0].specification, [_columns(part) for part in parts])
        for name, parts in found.items()
        if parts[0].specification is not None
    ]


def _columns(part: Component) -> NDArray[np.intp]:
    assert part.specification is not None
    place = {name: part.coefficients.start + j for j, name in enumerate(part.names)}
    return np.array([place.get(name, -1) for name in part.specification.names], dtype=np.intp)


def _effects(fit: MixedModelFit, spec: Specification) -> Effects:
    data = fit.frame.data
    if data is None:
        return effects_of(spec.recipe, fit.frame.rows_used())
    return effects_of(spec.recipe, data, fit.frame.accounting.kept)


def _placed(L: Floats, copies: Sequence[NDArray[np.intp]], estimate: Any) -> Floats:
    """A hypothesis about the columns of a part, over all coefficients, for each copy."""
    if not isinstance(estimate, GeneralisedEstimate):
        return L
    out = np.zeros((len(copies), len(L), len(estimate.coefficients)))
    for own, columns in zip(out, copies, strict=True):
        here = columns >= 0
        own[:, columns[here]] = L[:, here]
    return out.reshape(-1, out.shape[2])


def _test(fit: MixedModelFit, name: str, effect: Effect, L: Floats, method: str) -> TermTest:
    if _is_known(fit, L):
        return TermTest(name, effect.name, 0, np.nan, np.nan, np.nan)
    found = fit._joint_test(L, None, method)
    if method == "satterthwaite" and found.df1 > 1:
        found = with_fixed_rows(found, fit.estimate, L, fit._known_parameters())
    chi2 = isinstance(fit.estimate, GeneralisedEstimate)
    statistic = found.statistic * (found.df1 if chi2 else 1)
    return TermTest(name, effect.name, found.df1, found.df2, statistic, found.p_value)


def _is_known(fit: MixedModelFit, L: Floats) -> bool:
    """Tell whether nothing is left to test: no rows, or coefficients that are held."""
    if len(L) == 0:
        return True
    covariance = L @ fit._covariance(None) @ L.T
    return bool(np.linalg.matrix_rank(covariance, hermitian=True) < len(L))


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
