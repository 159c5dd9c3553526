"""`marginal`: what a generalised model says of the population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ranef import arguments
from ranef.description.parameter_tables import TESTED_ESTIMATES, estimate_columns
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing, Significant, Sized
from ranef.display.numbers import number
from ranef.errors import DataError, ModelError
from ranef.fits.estimability import row_names, undetermined_words, warn_of
from ranef.fits.mixed import MixedFit
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Levelled, require
from ranef.inference.rows import generalised_prediction
from ranef.models.family_words import ratio_word
from ranef.models.labels import category, threshold_label
from ranef.models.records import GeneralisedEstimate, as_generalised
from ranef.questions.averages import marginal_numbers
from ranef.questions.averages.marginal_numbers import Marginal

__all__ = ["PopulationAverage", "marginal"]

NORMAL_ESTIMATES = tuple(name for name in TESTED_ESTIMATES if name != "df")


def marginal(fit: MixedFit, *, conf_level: float = 0.95) -> PopulationAverage:
    """Average the coefficients of a generalised model over its random effects.

    The coefficients of `glmm` compare rows of the same level of the groups. Over
    the whole population the effect on the mean is usually smaller, since the
    link bends. The marginal coefficients are those of the straight line that
    fits the link of the population's means best, by least squares over the rows
    of the model (Hedeker, du Toit, Demirtas & Gibbons 2018, Biometrics 74).

    Parameters
    ----------
    fit : GeneralizedMixedModelFit
    conf_level : float

    Returns
    -------
    PopulationAverage
        With ``tidy()``, ``summary()`` and ``predict(new)``.

    Raises
    ------
    ranef.errors.ModelError
        The fit is linear (its coefficients are those of the population), or its
        link has no mean over the population.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("resp ~ age * smoke + (1 | id)", ranef.data.load("ohio"),
    ...                  family="binomial", quadrature=25)
    >>> ranef.marginal(fit).tidy()[["term", "conditional", "estimate"]].round(3)
              term  conditional  estimate
    0  (Intercept)       -3.128    -1.893
    1          age       -0.216    -0.142
    2        smoke        0.462     0.300
    3    age:smoke        0.105     0.071
    """
    require(fit, "marginal()", Levelled)
    estimate = as_generalised(fit.estimate)
    if estimate is None:
        raise ModelError(
            "marginal() takes a fit of ranef.glmm; in a linear mixed model the coefficients are "
            "those of the population already"
        )
    level = arguments.conf_level(conf_level)
    coefficients = marginal_numbers.marginal(estimate, conf_level=level)
    return PopulationAverage(fit, estimate, coefficients, level)


@dataclass(frozen=True, eq=False, repr=False)
class PopulationAverage(Answer):
    """Coefficients of the population; `ranef.marginal` makes it.

    Attributes
    ----------
    fit : GeneralizedMixedModelFit
    estimate : GeneralisedEstimate
        Of the fit.
    coefficients : Marginal
        As arrays, with their covariance matrix.
    conf_level : float
    """

    fit: MixedFit
    estimate: GeneralisedEstimate
    coefficients: Marginal
    conf_level: float

    @property
    def title(self) -> str:
        return f"Population averages: {self.fit.formula}"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the coefficients, as in the fit."""
        return tuple(threshold_label(name, self.fit.levels) for name in self.coefficients.names)

    def tidy(self, *, exponentiate: bool = False) -> Any:
        """Return the coefficients as a table.

        Parameters
        ----------
        exponentiate : bool
            Carry estimates and bounds through exp: odds or rate ratios.

        Returns
        -------
        table
            ``term, estimate, std_error, statistic, p_value, conf_low,
            conf_high, conditional, attenuation``; `conditional` is the
            coefficient of the model, `attenuation` estimate / conditional. A
            multinomial model adds `response`.
        """
        return self.tabled(self._listing(arguments.flag("exponentiate", exponentiate)))

    def tables(self) -> tuple[Listing, ...]:
        return (self._listing(False),)

    def _listing(self, exponentiate: bool) -> Listing:
        coef, levels = self.coefficients, self.fit.levels
        carry = np.exp if exponentiate else np.asarray
        ends = {n: carry(getattr(coef.intervals, n)) for n in ("estimate", "conf_low", "conf_high")}
        carried, sized = replace(coef.intervals, **ends), Sized(coef.intervals.std_error)
        responses = [category(r, levels) for r in coef.responses]
        names = [
            t if r is None else f"{r}: {t}" for t, r in zip(self.terms, responses, strict=True)
        ]
        categories = [Column("response", responses, printed=False)]
        columns = (
            *(categories if any(r is not None for r in responses) else ()),
            Column("name", names, heading="", tabled=False),
            Column("term", list(self.terms), printed=False),
            *estimate_columns(carried, self.conf_level, NORMAL_ESTIMATES, {"statistic": "z"}),
            *self._ratios(names),
            Column("conditional", carry(coef.conditional), sized),
            Column("attenuation", coef.attenuation, Fixed(3), "ratio"),
        )
        return Listing("coefficients", columns, "Coefficients of the population (normal tests)")

    def _ratios(self, names: list[str]) -> list[Column]:
        """Exponentials in print, where they are ratios; none of intercepts and thresholds."""
        word = ratio_word(self.fit.family)
        if word is None:
            return []
        ratios = [
            None if term == "(Intercept)" or "|" in name else float(np.exp(b))
            for term, name, b in zip(self.terms, names, self.coefficients.estimate, strict=True)
        ]
        return [Column("exponentiated", ratios, Significant(3), word, tabled=False)]

    def sentences(self) -> tuple[str, ...]:
        group = " and ".join(dict.fromkeys(f.name for f in self.fit.estimate.factors))
        return (
            f"A coefficient compares the means of the population, over all {group}, on the "
            "scale of the link; 'conditional' holds for a typical level, 'ratio' is the "
            "estimate over it (attenuation).",
            "Standard errors by the delta method, with the uncertainty of the covariance "
            "parameters.",
            "Largest distance of a row's mean from the line on that scale: "
            f"{number(self.coefficients.lack_of_fit, 3)}.",
        )

    def predict(self, new: Any = None, *, conf_level: float | None = None) -> Any:
        """Predict means of the population for rows, as the fit's ``kind="population"``.

        These are integrals over the random effects and not the straight line of
        the coefficients.

        Parameters
        ----------
        new : table, optional
            Without it the rows of the table fitted.
        conf_level : float, optional
            Add standard errors and intervals at this level.
        """
        return self.fit.predict(new, kind="population", conf_level=conf_level)

    def contrasts(self, new: Any, C: Any) -> Any:
        """Compare means of the population: linear functions of them, with intervals.

        Parameters
        ----------
        new : table
            N rows.
        C : (q, N) array
            One contrast a row: ``[[-1, 1]]`` is the mean of the second row minus
            that of the first.

        Returns
        -------
        table
            ``estimate, std_error, statistic, p_value, conf_low, conf_high``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("resp ~ age + smoke + (1 | id)", ranef.data.load("ohio"),
        ...                  family="binomial", quadrature=25)
        >>> both = {"age": [0, 0], "smoke": [0, 1]}
        >>> ranef.marginal(fit).contrasts(both, [[-1, 1]])[["estimate", "std_error"]].round(3)
           estimate  std_error
        0     0.033      0.023
        """
        rows, frame = read_rows(self.fit, new, "new")
        if frame.accounting.n_dropped:
            raise DataError(
                f"{frame.accounting.n_dropped} rows of the table lack a value; contrasts need all"
            )
        differences = generalised_prediction.contrasts(
            self.estimate, rows, C, conf_level=self.conf_level
        )
        parts = self.fit.parts_of("response")
        words = undetermined_words(self.fit, rows, parts, row_names(frame))
        if words is not None:
            warn_of(words, "contrasts that use them are NaN")
            differences = differences.without((np.atleast_2d(C) != 0) @ rows.undetermined(parts))
        columns = estimate_columns(differences, self.conf_level, NORMAL_ESTIMATES)
        return self.tabled(Listing("contrasts", columns))
