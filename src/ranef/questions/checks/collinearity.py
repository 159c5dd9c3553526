"""The fixed effects' columns under scrutiny: collinearity, and slopes within and between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.display.answer import Shown
from ranef.display.page import Page, Paragraph, TextTable, decimals, number, p_value
from ranef.errors import ModelError
from ranef.fits.columns import fitted_model
from ranef.fits.mixed import MixedModelFit
from ranef.models.records import GeneralisedEstimate
from ranef.questions.checks import columns as columns_
from ranef.questions.checks import heterogeneity as heterogeneity_
from ranef.tables import make_table

__all__ = ["Collinearity", "Heterogeneity", "collinearity", "heterogeneity"]


@dataclass(frozen=True, eq=False, repr=False)
class Collinearity(Shown):
    """Variance inflation and condition indices; `collinearity` makes it.

    Attributes
    ----------
    found : ranef.diagnostics.Collinearity
        As arrays.
    names : tuple of str
        The coefficients.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("distance ~ age * Sex + (age | Subject)", ranef.data.load("Orthodont"))
    >>> ranef.collinearity(fit).tidy()[["term", "df", "vif"]].round(2)
          term  df    vif
    0      age   1   1.69
    1      Sex   1  ...
    2  age:Sex   1  ...
    """

    found: columns_.Collinearity
    names: tuple[str, ...]
    title: str
    library: str

    def tidy(self, what: str = "vif") -> Any:
        """Return a table.

        Parameters
        ----------
        what : {"vif", "condition"}
            ``term, df, gvif, vif, se_inflation``, where `vif` is gvif^(1/df) and
            `se_inflation` its root; or ``condition_index`` with one column a coefficient,
            its variance's share by index.
        """
        found = self.found
        if what == "condition":
            shares = {f"share: {n}": found.proportions[:, j] for j, n in enumerate(self.names)}
            return make_table({"condition_index": found.condition, **shares}, self.library)
        if what != "vif":
            raise ModelError(f"what is 'vif' or 'condition', not {what!r}")
        columns = {
            "term": [t.name for t in found.terms],
            "df": found.df,
            "gvif": found.gvif,
            "vif": found.adjusted,
            "se_inflation": np.sqrt(found.adjusted),
        }
        return make_table(columns, self.library)

    @property
    def page(self) -> Page:
        """What `repr` and notebooks show."""
        found = self.found
        rows = tuple(
            (t.name, str(int(df)), number(float(v), 2), number(float(np.sqrt(v)), 2))
            for t, df, v in zip(found.terms, found.df, found.adjusted, strict=True)
        )
        largest = float(found.condition[-1]) if len(found.condition) else 1.0
        lines = (
            "A VIF is the factor by which the others' presence raises the variance of a "
            "coefficient (of several columns, per column).",
            f"Largest condition index of the columns: {largest:.1f}.",
        )
        table = TextTable("Variance inflation", ("term", "df", "VIF", "se x"), rows)
        return Page(f"Collinearity: {self.title}", (table, Paragraph(lines)))


def collinearity(fit: Any) -> Collinearity:
    """Return variance inflation by term, and condition indices.

    Inflation comes from the covariance of the coefficients as fitted (Fox and Monette
    1992), so that it counts weights and random effects; condition indices are of the
    columns of the fixed effects with unit length (Belsley, Kuh and Welsch 1980).
    Columns that others determine were left out when the model was fitted.

    Parameters
    ----------
    fit : a fit of ranef

    Returns
    -------
    Collinearity

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ mined + cover + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="poisson")
    >>> ranef.collinearity(fit).tidy()["vif"].round(2).tolist()
    [1.49, 1.49]
    """
    fit = fitted_model(fit)
    found, names = collinear(fit)
    return Collinearity(found, names, fit.formula, fit.frame.library)


def collinear(fit: MixedModelFit) -> tuple[columns_.Collinearity, tuple[str, ...]]:
    """Collinearity of the mean's fixed effects as arrays, and their names."""
    estimate = fit.estimate
    spec = estimate.specification
    if not isinstance(estimate, GeneralisedEstimate):
        terms = columns_.terms_of_columns(spec)
        return columns_.collinearity(spec.X, estimate.vcov, terms), spec.names
    if estimate.family.name == "multinomial":
        raise ModelError(
            "a multinomial model has a covariance of the coefficients for each category; "
            "ask a binomial model of two categories for its collinearity"
        )
    part = estimate.components[0]
    kept = [spec.names.index(name) for name in part.names]
    vcov = estimate.coefficient_vcov[part.coefficients, part.coefficients]
    terms = columns_.terms_of_columns(spec, part.names)
    X = spec.X[:, kept]
    return columns_.collinearity(X, vcov, terms), part.names


@dataclass(frozen=True, eq=False, repr=False)
class Heterogeneity(Shown):
    """Slopes within and between groups; `heterogeneity` makes it.

    Attributes
    ----------
    found : tuple of ranef.diagnostics.Heterogeneity
    groups : tuple of str
        Name of the grouping factor of each.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.heterogeneity(fit)
    Slopes within and between groups: Reaction ~ Days + (Days | Subject)
    <BLANKLINE>
    No predictor varies both within groups and between their means.
    """

    found: tuple[heterogeneity_.Heterogeneity, ...]
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


def heterogeneity(fit: Any) -> Heterogeneity:
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
    Heterogeneity

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ cover + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="poisson")
    >>> len(ranef.heterogeneity(fit))
    0
    """
    fit = fitted_model(fit)
    estimate = fit.estimate
    if isinstance(estimate, GeneralisedEstimate) and estimate.family.name == "multinomial":
        raise ModelError(
            "a multinomial model has a slope for each category; ask a binomial model of two "
            "categories for slopes within and between groups"
        )
    found = heterogeneity_.heterogeneity(estimate)
    names = [f.name for f in estimate.specification.factors]
    groups = tuple(names[h.factor] for h in found)
    return Heterogeneity(found, groups, fit.formula, fit.frame.library)
