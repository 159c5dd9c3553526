"""`average` by the parametric bootstrap: refits to responses that the model draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.draws import refits
from ranef.inference.protocol import Inference
from ranef.inference.rows.averaging import Means
from ranef.models.records import Estimate
from ranef.questions.averages import numbers
from ranef.questions.averages.answer import AverageEffect
from ranef.questions.averages.cells import Cells, Question, comparison_of, contrast_names
from ranef.questions.averages.numbers import COMPARISONS
from ranef.questions.averages.population import Population, Setting

__all__ = ["by_bootstrap"]

Floats = NDArray[np.float64]

LEAST_DRAWS = 20


def by_bootstrap(
    question: Question,
    population: Population,
    settings: Sequence[Setting],
    found: Means,
    level: float,
    n: int,
    rng: Any,
    progress: bool | None,
) -> AverageEffect:
    """Answer by refits: percentile intervals, standard deviations, and how many failed."""
    if question.kind == "conditional":
        raise ModelError(
            "the parametric bootstrap draws new random effects, so that the levels' own effects "
            "differ between draws; use kind='population', or method='delta'"
        )
    count = arguments.count("n", n)
    if count < LEAST_DRAWS:
        raise ModelError(f"n={n} refits give no quantiles; use 200 or more")
    drawn = _refitted(question, population, settings, arguments.generator(rng), count, progress)
    good = np.isfinite(drawn).all(axis=1) & (drawn.shape[1] > 0)  # no column if all failed
    if good.sum() < LEAST_DRAWS:
        raise ModelError(f"only {good.sum()} of {count} refits succeeded; use method='delta'")
    cells = Cells(population, tuple(settings), question.categories)
    compared = comparison_of(question, cells, found)
    high, low = cells.pairs()
    values = np.array(
        [
            numbers.compare(row, high, low, question.compare, cells.divisor).value
            for row in drawn[good]
        ]
    )
    contrast = percentiles(compared.value, values, level, COMPARISONS[question.compare].null)
    back = COMPARISONS[question.compare].back
    own = Intervals(
        back(contrast.estimate),
        np.std(back(values), axis=0, ddof=1),
        contrast.df,
        contrast.statistic,
        contrast.p_value,
        back(contrast.conf_low),
        back(contrast.conf_high),
    )
    return AverageEffect(
        question=question,
        layout=cells,
        contrasts=contrast_names(question, cells),
        comparisons=own,
        averages=percentiles(cells.shown @ found.value, drawn[good] @ cells.shown.T, level, None),
        covariance=np.atleast_2d(np.cov(drawn[good].T)),
        conf_level=level,
        n_failed=int(count - good.sum()),
    )


def percentiles(value: Floats, drawn: Floats, level: float, null: float | None) -> Intervals:
    """Percentile intervals; the test is of a difference of zero on the draws' own scale."""
    tails = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(drawn, tails, axis=0)
    error = np.std(drawn, axis=0, ddof=1)
    none = np.full(len(value), np.nan)
    p = none
    if null is not None:
        B = len(drawn)
        below = (1 + np.sum(drawn <= 0, axis=0)) / (B + 1)
        above = (1 + np.sum(drawn >= 0, axis=0)) / (B + 1)
        p = np.minimum(1.0, 2 * np.minimum(below, above))
    return Intervals(value, error, np.full(len(value), np.inf), none, p, low, high)


def _refitted(
    question: Question,
    population: Population,
    settings: Sequence[Setting],
    rng: np.random.Generator,
    n: int,
    progress: bool | None,
) -> Floats:
    """Averages (n, S) of refits to responses that the model draws; NaN where one failed."""
    model: Inference = question.fit.inference  # type: ignore[attr-defined]
    plan = refits.Plan("parametric")
    rows = question.rows(population, settings)

    def averages(again: Estimate) -> Floats:
        return question.means_of(model.of(again), population, rows).value

    work = refits.chunks(model, plan, n, rng, True)
    parts = refits.draw(model, plan, work, statistic=averages)
    return refits.joined(list(arriving(parts, n, "bootstrap", progress, size=len))).values
