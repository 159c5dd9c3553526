"""`emmeans`: marginal means, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.questions.means.answers import MarginalMeans
from ranef.questions.means.covariance import on_covariance
from ranef.questions.means.grid import (
    EvaluatedGrid,
    categories_variable,
    evaluated_grid,
    grid_of,
    placed,
    read_estimand,
    unknown_variable,
)
from ranef.questions.means.joint_tests import JointTests
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.specs import Specs, names_of, read_specs

__all__ = ["MeansSettings", "emmeans", "joint_tests", "means_of"]

Floats = NDArray[np.float64]

WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


def emmeans(
    fit: Any,
    specs: Any,
    by: Any = None,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Any = "mean",
    weights: Any = "equal",
    df: str | None = None,
    conf_level: float = 0.95,
    adjust: str = "none",
    type: str | None = None,
    kind: str | None = None,
    component: str = "conditional",
    unit: Mapping[str, Any] | None = None,
    offset: float | None = None,
    vcov: Any = None,
    rng: Any = None,
) -> MarginalMeans:
    """Estimate marginal means: what the model expects at each level, the rest held equal.

    The model is evaluated on a reference grid: categorical predictors at all levels,
    numbers at the mean of their column (before any transformation in the formula; with
    two values or fewer, at both). The means are averages over the grid, so that levels
    are compared as if the design had been balanced.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    specs : str or list of str
        The predictors whose levels have a mean each: ``"a"``, ``["a", "b"]``, or as in
        R ``"a | b"`` (by b), ``"pairwise ~ a | b"`` (with contrasts, `comparisons`);
        ``"~ 1"`` is one overall mean.
    by : str or list of str, optional
        Predictors that split the table: contrasts, and adjustments for several tests,
        stay within.
    at : mapping, optional
        Values for predictors: ``{"age": [8, 14]}``.
    cov_reduce : str, function or mapping
        What numeric predictors are reduced to: ``"mean"``, ``"median"``, ``"range"``
        (smallest and largest value), ``"keep"`` (all values), a function, or these by
        name.
    weights : str or array
        How to average over predictors that are not named: ``"equal"``;
        ``"proportional"`` to how often their combinations occur; ``"outer"``, to the
        product of how often each level does; ``"cells"``, by the rows of each cell (so
        to say the raw means); ``"flat"``, equally over cells that occur; or one number
        for each combination, the first predictor's levels running fastest.
    df : str, optional
        Degrees of freedom, as in ``fit.tidy``.
    conf_level : float
    adjust : str
        Of the intervals, for several means: ``"none"``, ``"bonferroni"``, ``"sidak"``,
        ``"scheffe"``, ``"mvt"``.
    type : {"response", "link", "prob", "mean_class"}, optional
        Mean of the response, or linear predictor. Generalised models have
        ``"response"``; linear ones their response as fitted, where ``"response"``
        undoes the log of ``log(y) ~ ...``. Of categories ``"prob"`` is the probability
        of each, ``"link"`` the latent variable, ``"mean_class"`` the mean of the
        categories numbered from 1.
    kind : {"population", "typical"}, optional
        Of means of the response: averaged over the random effects, by exact
        integration (the default), or for random effects of zero, which is the inverse
        link of the mean linear predictor. In linear models the two agree.
    component : {"conditional", "zero", "dispersion", "response"}
        Part of the model; ``"response"`` is the mean of what is observed, zeros
        included.
    unit : mapping, optional
        ``{"ward": "A"}``: the means of one level of the grouping factors, its own
        random effects included, with the standard errors and degrees of freedom of
        ``fit.predict``, whatever `df`.
    offset : float, optional
        In place of the offset at the grid.
    vcov : RobustCovariance, optional
        ``ranef.robust(fit)``: errors, degrees of freedom, tests and contrasts rest on the
        clusters and not on the model, for means that depend on the coefficients alone.
    rng : int or numpy.random.Generator, optional
        For ``adjust="mvt"``, whose seed is fixed without it.

    Returns
    -------
    MarginalMeans
        With ``tidy()``, ``contrasts()``, ``joint_tests()``, ``letters()`` and
        ``plot()``.

    Notes
    -----
    A mean that the data do not determine (a combination of levels without rows, under
    an interaction) is NaN.

    Examples
    --------
    >>> import ranef
    >>> oats = ranef.data.load("Oats")
    >>> fit = ranef.lmm("yield ~ Variety + factor(nitro) + (1 | Block/Variety)", oats)
    >>> means = ranef.emmeans(fit, "nitro")
    >>> means.tidy().round(2)
       nitro  estimate  std_error    df  conf_low  conf_high
    0    0.0     79.39       7.13  6.64     62.34      96.44
    1    0.2     98.89       7.13  6.64     81.84     115.94
    2    0.4    114.22       7.13  6.64     97.17     131.28
    3    0.6    123.39       7.13  6.64    106.34     140.44
    """
    estimand = read_estimand(
        fit, component=component, kind=kind, type=type, df=df, unit=unit, offset=offset
    )
    settings = MeansSettings.read(weights, conf_level, adjust, rng)
    named = read_specs(specs, by)
    grid = grid_of(fit, estimand, at=at, cov_reduce=cov_reduce)
    named = placed(named, fit, estimand, grid)
    return means_of(on_covariance(evaluated_grid(fit, estimand, grid), vcov), named, settings)


@dataclass(frozen=True, eq=False)
class MeansSettings:
    """How a grid is averaged, and how the averages are tested."""

    weights: str | Floats = "equal"
    conf_level: float = 0.95
    adjust: str = "none"
    rng: np.random.Generator | None = None

    @classmethod
    def read(cls, weights: Any, conf_level: float, adjust: str, rng: Any) -> MeansSettings:
        """Check them."""
        return cls(
            _read_weights(weights),
            arguments.conf_level(conf_level),
            check_adjustment(adjust),
            None if rng is None else arguments.generator(rng),
        )


def means_of(
    grid: EvaluatedGrid, specs: Specs, settings: MeansSettings, slope: str | None = None
) -> MarginalMeans:
    """Average the rows of a grid over the variables that are not named."""
    weights = settings.weights
    functions = grid.averaged((*specs.factors, *specs.by), weights)
    if grid.scale != grid.link:
        functions = functions.back(grid.link).transformed(grid.scale)
    means = MarginalMeans(
        grid=grid,
        specs=specs.factors,
        by=specs.by,
        functions=functions,
        link=grid.scale if slope is None else "identity",
        conf_level=settings.conf_level,
        adjust=settings.adjust,
        slope=slope,
        rng=settings.rng,
        weights=weights if isinstance(weights, str) else "given",
    )
    if specs.method is None:
        return means
    return replace(means, comparisons=means.contrasts(specs.method))


def _read_weights(weights: Any) -> str | Floats:
    """Check the name of a way to weight, or the weights themselves."""
    if isinstance(weights, str):
        return arguments.choice("weights", weights, WEIGHTS)
    try:
        values = np.asarray(weights, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ModelError(
            f"weights is one of {', '.join(map(repr, WEIGHTS))}, or numbers, not {weights!r}"
        ) from None
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise DataError("weights must be finite numbers from 0, not all zero")
    return values


def joint_tests(
    fit: Any,
    by: Any = None,
    *,
    at: Mapping[str, Any] | None = None,
    vcov: Any = None,
    **question: Any,
) -> JointTests:
    """Test every effect of a model by its marginal means.

    Unlike a table of coefficients this does not depend on how the factors are coded.
    Numeric predictors stand at one below and above their mean, so that slopes are
    tested too; the tests of what interacts with them are at the mean.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    by : str or list of str, optional
        Test within each level of these.
    at : mapping, optional
        Values for predictors, as in `emmeans`.
    vcov : RobustCovariance, optional
        As in `emmeans`.
    **question
        ``df``, ``type``, ``kind``, ``component`` as in `emmeans`; of generalised models
        on the scale of the link without them.

    Returns
    -------
    JointTests

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.joint_tests(fit).tidy().round(2)
       term  df1   df2  statistic  p_value
    0  Days    1  17.0      45.85      0.0
    """
    question.setdefault("type", "link" if question.get("kind") is None else None)
    estimand = read_estimand(fit, **question)
    grid = grid_of(fit, estimand, at=at, cov_reduce="around")
    categories = categories_variable(fit, estimand)
    split = names_of("by", by)
    for name in split:
        if name not in (*grid.names, *categories):
            raise unknown_variable("by names", name, (*grid.names, *categories))
    varied = (*(v.name for v in grid.variables if len(v.values) > 1), *categories)
    rest = tuple(name for name in varied if name not in split)
    if not rest:
        raise ModelError("there is nothing to test: no predictor varies")
    evaluated = on_covariance(evaluated_grid(fit, estimand, grid), vcov)
    means = means_of(evaluated, Specs(rest, split), MeansSettings())
    return means.joint_tests()
