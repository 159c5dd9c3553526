"""`marginal`: what a generalised model says of the population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import Summary
from ranef.display.numbers import decimals, number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import DataError, ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Levelled, require
from ranef.inference.rows import generalised_prediction
from ranef.models.family_words import ratio_word
from ranef.models.labels import category, threshold_label
from ranef.models.records import GeneralisedEstimate, as_generalised
from ranef.questions.averages import marginal_numbers
from ranef.questions.averages.marginal_numbers import Marginal
from ranef.tables import make_table

__all__ = ["PopulationAverage", "marginal"]


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
    found = marginal_numbers.marginal(estimate, conf_level=level)
    return PopulationAverage(fit, estimate, found, level)


@dataclass(frozen=True, eq=False, repr=False)
class PopulationAverage:
    """Coefficients of the population; `ranef.marginal` makes it.

    Attributes
    ----------
    fit : GeneralizedMixedModelFit
    estimate : GeneralisedEstimate
        Of the fit.
    found : Marginal
        The coefficients as arrays, with their covariance matrix.
    conf_level : float
    """

    fit: MixedFit
    estimate: GeneralisedEstimate
    found: Marginal
    conf_level: float

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the coefficients, as in the fit."""
        return tuple(threshold_label(name, self.fit.levels) for name in self.found.names)

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
        carry = np.exp if arguments.flag("exponentiate", exponentiate) else np.asarray
        found, own = self.found, self.found.intervals
        columns: dict[str, Any] = {
            "term": list(self.terms),
            "estimate": carry(own.estimate),
            "std_error": own.std_error,
            "statistic": own.statistic,
            "p_value": own.p_value,
            "conf_low": carry(own.conf_low),
            "conf_high": carry(own.conf_high),
            "conditional": carry(found.conditional),
            "attenuation": found.attenuation,
        }
        if any(r is not None for r in found.responses):
            named = [category(r, self.fit.levels) for r in found.responses]
            columns = {"response": named, **columns}
        return make_table(columns, self.fit.frame.library)

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
        rows, frame = read_rows(self.fit.parts, new, "new")
        if frame.accounting.n_dropped:
            raise DataError(
                f"{frame.accounting.n_dropped} rows of the table lack a value; contrasts need all"
            )
        found = generalised_prediction.contrasts(self.estimate, rows, C, conf_level=self.conf_level)
        names = ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")
        columns = {name: getattr(found, name) for name in names}
        return make_table(columns, self.fit.frame.library)

    def summary(self) -> Summary:
        """Return the coefficients in words and a table."""
        percent = f"{100 * self.conf_level:g}%"
        word = ratio_word(self.fit.family)
        ratios = () if word is None else (word,)
        bounds = (f"{percent} low", f"{percent} high")
        header = ("", "estimate", "std_error", "z", "p", *bounds, *ratios, "conditional", "ratio")
        rows = tuple(self._row(j, word is not None) for j in range(len(self.terms)))
        group = " and ".join(dict.fromkeys(f.name for f in self.fit.estimate.factors))
        lines = (
            f"A coefficient compares the means of the population, over all {group}, on the "
            "scale of the link; 'conditional' holds for a typical level, 'ratio' is the "
            "estimate over it (attenuation).",
            "Standard errors by the delta method, that of the covariance parameters included.",
            "Largest distance of a row's mean from the line on that scale: "
            f"{number(self.found.lack_of_fit, 3)}.",
        )
        table = TextTable("Coefficients of the population (normal tests)", header, rows)
        return Summary(Page(f"Population averages: {self.fit.formula}", (table, Paragraph(lines))))

    def _row(self, j: int, carried: bool) -> tuple[str, ...]:
        own = self.found.intervals
        places = decimals(float(own.std_error[j]))
        values = (own.estimate[j], own.std_error[j])
        response = category(self.found.responses[j], self.fit.levels)
        name = self.terms[j] if response is None else f"{response}: {self.terms[j]}"
        exp = float(np.exp(own.estimate[j]))
        shown = "" if self.terms[j] == "(Intercept)" or "|" in name else number(exp, decimals(exp))
        return (
            name,
            *(number(float(v), places) for v in values),
            number(float(own.statistic[j]), 2),
            p_value(float(own.p_value[j])),
            number(float(own.conf_low[j]), places),
            number(float(own.conf_high[j]), places),
            *((shown,) if carried else ()),
            number(float(self.found.conditional[j]), places),
            number(float(self.found.attenuation[j]), 3),
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
