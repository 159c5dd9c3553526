"""`average`: the effect of a variable, averaged over people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.families.links import Scale, link_on
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimating, Generative, Refittable, require
from ranef.inference.coefficients.wald import Intervals, quantile, wald
from ranef.inference.undetermined import masked
from ranef.questions.averages.answer import AverageEffect
from ranef.questions.averages.bootstrap import by_bootstrap
from ranef.questions.averages.cells import Cells, EffectEstimand
from ranef.questions.averages.numbers import COMPARISONS
from ranef.questions.averages.population import read_population, settings_of

__all__ = ["AverageEffect", "average"]

Floats = NDArray[np.float64]

KINDS = ("population", "typical", "conditional")
METHODS = ("delta", "bootstrap")


def average(
    fit: Fit,
    variable: str,
    *,
    compare: str = "difference",
    levels: Sequence[Any] | None = None,
    reference: Any = None,
    change: Any = None,
    population: Any = None,
    by: str | Sequence[str] | None = None,
    weights: Any = None,
    kind: str = "population",
    type: str | None = None,
    df: str | None = None,
    conf_level: float = 0.95,
    method: str = "delta",
    n: int = 1000,
    rng: Any = None,
    progress: bool | None = None,
) -> AverageEffect:
    """Average the effect of a variable over people as they are, or over a population.

    The mean outcome of all rows is predicted twice, with the column `variable`
    replaced by one value and by another, the other columns as they are; the two
    averages are compared. From a generalised model the means are integrated
    over the random effects too, by quadrature: they are those of new people
    (wards, ...) of the population that the levels of the fit come from.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    variable : str
        A column that the formula uses.
    compare : {"difference", "ratio", "odds", "lift", "log ratio"}
        ``"difference"`` of the averages (of probabilities: the risk difference);
        their ``"ratio"`` (risk or rate ratio), ``"log ratio"``, ``"lift"`` (ratio
        minus one); ``"odds"``: the ratio of the odds of the averages.
    levels : sequence, optional
        Values of the variable to compare; of categories all that occur if left
        out.
    reference : optional
        The value that the others are compared with; the first if left out.
    change : float, "sd", "iqr", "slope" or (low, high), optional
        For numbers with more than two values: from each row's own value to that
        plus `change` (1 if left out; ``"sd"``: one standard deviation of the
        rows); from the lower to the upper quartile (``"iqr"``); between two
        values; the derivative, the average slope dy/dx (``"slope"``).
    population : table, optional
        The people to average over, with the columns that the formulas use but
        `variable` and the response; the rows of the model if left out.
    by : str or sequence of str, optional
        Columns in whose groups the averages are made.
    weights : str or array, optional
        How much each row counts; a column or one value a row. Precision weights
        and numbers of trials of the fit are not used unless they are given here.
    kind : {"population", "typical", "conditional"}
        Integrated over the random effects; with random effects zero; with those
        of the rows' own levels. In a linear model the first two are the same.
    type : {"response", "zero", "dispersion"}, optional
        What is averaged, as in ``fit.predict``; of categories their
        probabilities. Of a linear model whose formula transforms its response, averages
        are of ``log(y)`` as it was fitted unless ``"response"`` carries them back.
    df : str, optional
        Degrees of freedom of a linear model's tests, as in ``fit.tidy``.
    conf_level : float
    method : {"delta", "bootstrap"}
        Standard errors by the delta method through all coefficients and variance
        parameters jointly, with exact derivatives; or from refits to `n` responses
        that the model draws (parametric bootstrap, percentile intervals).
    n : int
        Refits of the bootstrap.
    rng : int or numpy.random.Generator, optional
        For the bootstrap.
    progress : bool, optional
        Show a progress bar of the bootstrap; None where a person looks.

    Returns
    -------
    AverageEffect
        With ``tidy()``, ``means()``, ``number_needed()``, ``plot()``.

    Raises
    ------
    ranef.errors.ModelError
        The formulas do not use the variable, or the comparison is not defined
        for such means.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("resp ~ age * smoke + (1 | id)", ranef.data.load("ohio"),
    ...                  family="binomial", quadrature=25)
    >>> ranef.average(fit, "smoke").tidy()[["contrast", "estimate", "std_error"]].round(4)
      contrast  estimate  std_error
    0    1 - 0    0.0341     0.0237
    >>> ranef.average(fit, "smoke", compare="ratio").tidy()[["contrast", "estimate"]].round(3)
      contrast  estimate
    0    1 / 0     1.243
    """
    estimand = _estimand(fit, variable, compare, kind, type, df)
    method = arguments.choice("method", method, METHODS)
    level = arguments.conf_level(conf_level)
    people = read_population(fit, variable, population, by, weights)
    settings = settings_of(fit, people, variable, levels, reference, change, compare)
    cells = Cells(people, settings, estimand.categories)
    if method == "bootstrap":
        require(fit, "average(method='bootstrap')", Refittable, Generative)
        return by_bootstrap(estimand, cells, level, n, rng, progress)
    with np.errstate(over="ignore", invalid="ignore"):  # a mean beyond the largest number
        return _where_determined(estimand, cells, level)


def _estimand(
    fit: Any, variable: Any, compare: str, kind: str, type: str | None, df: str | None
) -> EffectEstimand:
    require(fit, "average()", Estimating)
    arguments.choice("compare", compare, tuple(COMPARISONS))
    arguments.choice("kind", kind, KINDS)
    back: Scale = fit.estimand(type=type).back if type == "response" else "identity"
    type = arguments.choice("type", type or "response", ("response", "zero", "dispersion"))
    fit.mean_scale(type)
    fit.method(df)
    return EffectEstimand(fit, variable, compare, kind, type, df, back)


# --- the delta method


def _where_determined(estimand: EffectEstimand, cells: Cells, level: float) -> AverageEffect:
    """Averages by the delta method; NaN where an equally good fit says something else."""
    answer, other = _by_delta(estimand, cells, level), getattr(estimand.fit, "equally_good", None)
    if other is None:
        return answer
    twin = _by_delta(replace(estimand, fit=other), cells, level)
    names = ("comparisons", "averages", "covariance")
    return replace(answer, **{n: masked(getattr(answer, n), getattr(twin, n)) for n in names})


def _by_delta(estimand: EffectEstimand, cells: Cells, level: float) -> AverageEffect:
    fit = estimand.fit
    rows = estimand.rows(cells)
    averages = estimand.means(fit, rows, cells.population)
    covariance, J = fit.means_covariance(averages, estimand.df)
    knowledge = fit.knowledge(estimand.df)

    def tested(value: Floats, weights: Floats) -> Intervals:
        error = np.sqrt(np.maximum(np.sum(weights @ covariance * weights, axis=1), 0.0))
        normal = estimand.kind == "conditional" or averages.covariance is not None
        df = np.full(len(value), np.inf) if normal else knowledge.degrees(weights @ J)
        error = knowledge.settled(error, weights @ J)
        return wald(value, error, df, level)

    gaps = cells.gaps(averages.functions, estimand.compare)
    compared = cells.compared(averages.value, estimand.compare, ~averages.functions.estimable)
    own = _on_own_scale(estimand.compare, tested(compared.value, compared.weights))
    medians = estimand.back != "identity" and estimand.kind != "population"
    scale = estimand.back if medians else fit.mean_scale(estimand.type, estimand.back)
    printed = tested(cells.printed @ averages.value, cells.printed)
    return AverageEffect(
        estimand=estimand,
        layout=cells,
        comparisons=own.without(gaps.comparisons),
        averages=_within_range(scale, printed, level).without(gaps.means),
        covariance=covariance,
        conf_level=level,
        n_failed=None,
        undetermined=estimand.undetermined_words(cells, rows),
    )


def _on_own_scale(compare: str, tested: Intervals) -> Intervals:
    """Carry comparisons back from the scale of their tests."""
    scale = COMPARISONS[compare]
    with np.errstate(over="ignore"):
        return replace(
            tested,
            estimate=scale.back(tested.estimate),
            std_error=scale.back_slope(tested.estimate) * tested.std_error,
            conf_low=scale.back(tested.conf_low),
            conf_high=scale.back(tested.conf_high),
        )


def _within_range(scale: Scale, means: Intervals, level: float) -> Intervals:
    """Intervals of means within the range of means: made on the scale of a link."""
    link = link_on(scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = link.function(means.estimate)
        half = quantile(level, means.df) * means.std_error / np.abs(link.first(centre))
        reach = (np.clip(centre + side * half, *link.ends) for side in (-1, 1))
        ends = np.sort([link.inverse(end) for end in reach], axis=0)
    low, high = np.where(means.std_error == 0, means.estimate, ends)
    return replace(means, conf_low=low, conf_high=high)
