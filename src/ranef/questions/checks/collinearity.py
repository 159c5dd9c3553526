"""How much the fixed effects' columns depend on each other, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, require
from ranef.questions.checks import columns as columns_

__all__ = ["Collinearity", "collinear", "collinearity"]


@dataclass(frozen=True, eq=False, repr=False)
class Collinearity(Answer):
    """Variance inflation and condition indices; `collinearity` makes it.

    Attributes
    ----------
    found : ranef.questions.checks.columns.VarianceInflation
        As arrays.
    names : tuple of str
        The coefficients.
    title, library : str
    coded : dict
        Column and level of coefficients that stand for a level of a category.

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

    found: columns_.VarianceInflation
    names: tuple[str, ...]
    title: str
    library: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def tidy(self, what: str = "vif") -> Any:
        """Return a table.

        Parameters
        ----------
        what : {"vif", "condition"}
            ``term, df, gvif, vif, se_inflation``, where `vif` is gvif^(1/df) and
            `se_inflation` its root; or ``condition_index`` with one column a coefficient,
            its variance's share by index.
        """
        return self.tabled(self.listing(arguments.choice("what", what, ("vif", "condition"))))

    def tables(self) -> tuple[Listing, ...]:
        inflation = self.found
        terms = (
            Column("term", [t.name for t in inflation.terms]),
            Column("df", inflation.df, Fixed(0)),
            Column("gvif", inflation.gvif, printed=False),
            Column("vif", inflation.adjusted, Fixed(2), "VIF"),
            Column("se_inflation", np.sqrt(inflation.adjusted), Fixed(2), "se x"),
        )
        shares = tuple(
            Column(f"share: {name}", share, Fixed(2), name)
            for name, share in zip(self.names, inflation.proportions.T, strict=True)
        )
        condition = Column("condition_index", inflation.condition, Fixed(1), "condition index")
        return (
            Listing("vif", terms, "Variance inflation"),
            Listing("condition", (condition, *shares), "Shares of the coefficients' variances"),
        )

    def sentences(self) -> tuple[str, ...]:
        condition = self.found.condition
        largest = float(condition[-1]) if len(condition) else 1.0
        return (
            "A VIF is the factor by which the others' presence raises the variance of a "
            "coefficient (of several columns, per column).",
            f"Largest condition index of the columns: {largest:.1f}.",
        )

    def body(self) -> Iterable[Part]:
        return self.listing("vif"), Paragraph(self.sentences())


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
    fit = require(fit, "collinearity()", Likelihood)
    inflation, names = collinear(fit)
    title = f"Collinearity: {fit.formula}"
    return Collinearity(inflation, names, title, fit.frame.library, fit.coded)


def collinear(fit: MixedFit) -> tuple[columns_.VarianceInflation, tuple[str, ...]]:
    """Collinearity of the mean's fixed effects as arrays, and their names."""
    if fit.family.name == "multinomial":
        raise ModelError(
            "a multinomial model has a covariance of the coefficients for each category; "
            "ask a binomial model of two categories for its collinearity"
        )
    estimate, spec = fit.estimate, fit.estimate.specification
    part = estimate.components[0]
    kept = [spec.names.index(name) for name in part.names]
    vcov = estimate.coefficient_vcov[part.coefficients, part.coefficients]
    terms = columns_.terms_of_columns(spec, part.names)
    return columns_.collinearity(spec.X[:, kept], vcov, terms), part.names
