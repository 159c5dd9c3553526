"""`average` by the parametric bootstrap: refits to responses that the model draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.inference import refits
from ranef.inference.coefficients.wald import Intervals
from ranef.inference.protocol import Inference
from ranef.models.records import Estimate
from ranef.models.rows import Rows
from ranef.questions.averages.answer import AverageEffect
from ranef.questions.averages.cells import Cells, EffectEstimand
from ranef.questions.averages.numbers import COMPARISONS

__all__ = ["by_bootstrap"]

Floats = NDArray[np.float64]

LEAST_DRAWS = 20


def by_bootstrap(
    estimand: EffectEstimand,
    cells: Cells,
    level: float,
    n: int,
    rng: Any,
    progress: bool | None,
) -> AverageEffect:
    """Answer by refits: percentile intervals, standard deviations, and how many failed."""
    if estimand.kind == "conditional":
        raise ModelError(
            "the parametric bootstrap draws new random effects, so that the levels' own effects "
            "differ between draws; use kind='population', or method='delta'"
        )
    count = arguments.count("n", n)
    if count < LEAST_DRAWS:
        raise ModelError(f"n={n} refits give no quantiles; use 200 or more")
    rows = estimand.rows(cells)
    means = estimand.means(estimand.fit, rows, cells.population)
    averages, gaps = means.value, cells.gaps(means.functions, estimand.compare)
    unknown = ~means.functions.estimable
    draws = _refitted(estimand, cells, rows, arguments.generator(rng), count, progress)
    good = np.isfinite(draws).all(axis=1) & (draws.shape[1] > 0)  # no column if all failed
    if good.sum() < LEAST_DRAWS:
        raise ModelError(f"only {good.sum()} of {count} refits succeeded; use method='delta'")
    draws = draws[good]
    compared = np.array([cells.compared(row, estimand.compare, unknown).value for row in draws])
    value = cells.compared(averages, estimand.compare, unknown).value
    printed = percentiles(cells.printed @ averages, draws @ cells.printed.T, level)
    comparisons = _comparisons(value, compared, level, estimand.compare)
    return AverageEffect(
        estimand=estimand,
        layout=cells,
        comparisons=comparisons.without(gaps.comparisons),
        averages=printed.without(gaps.means),
        covariance=np.atleast_2d(np.cov(draws.T)),
        conf_level=level,
        n_failed=int(count - good.sum()),
        undetermined=estimand.undetermined_words(cells, rows),
    )


def percentiles(value: Floats, draws: Floats, level: float) -> Intervals:
    """Percentile intervals and standard deviations of draws (B, q); no test."""
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), axis=0)
    none = np.full(len(value), np.nan)
    infinite = np.full(len(value), np.inf)
    return Intervals(value, np.std(draws, axis=0, ddof=1), infinite, none, none, low, high)


def _comparisons(value: Floats, draws: Floats, level: float, compare: str) -> Intervals:
    """Comparisons on their own scale, tested by the share of draws on either side of none."""
    back = COMPARISONS[compare].back
    below, above = (
        (1 + np.sum(side, axis=0)) / (len(draws) + 1) for side in (draws <= 0, draws >= 0)
    )
    limits = percentiles(value, draws, level)
    return Intervals(
        back(value),
        np.std(back(draws), axis=0, ddof=1),
        limits.df,
        limits.statistic,
        np.minimum(1.0, 2 * np.minimum(below, above)),
        back(limits.conf_low),
        back(limits.conf_high),
    )


def _refitted(
    estimand: EffectEstimand,
    cells: Cells,
    rows: list[Rows],
    rng: np.random.Generator,
    n: int,
    progress: bool | None,
) -> Floats:
    """Averages (n, S) of refits to responses that the model draws; NaN where one failed."""
    model: Inference = estimand.fit.inference  # type: ignore[attr-defined]
    plan = refits.Plan("parametric")

    def averages(again: Estimate) -> Floats:
        return estimand.means(model.of(again), rows, cells.population).value

    work = refits.chunks(model, plan, n, rng, True)
    parts = refits.draw(model, plan, work, statistic=averages)
    return refits.joined(list(arriving(parts, n, "bootstrap", progress, size=len))).values
