"""`emmeans`: marginal means, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.inference.coefficients.functions import Functions
from ranef.questions.means.answers import JointTests, MarginalMeans
from ranef.questions.means.grid import codes_of, interacting, unknown_variable
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.numbers import averaged
from ranef.questions.means.source import Source, ask, read_question, source_of
from ranef.questions.means.specs import Specs, names_of, read_specs
from ranef.questions.means.words import (
    means_notes,
    quantity_of,
)

__all__ = ["emmeans", "joint_tests"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

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
    asked = read_question(
        fit, component=component, kind=kind, type=type, df=df, unit=unit, offset=offset
    )
    level = arguments.conf_level(conf_level)
    adjust = check_adjustment(adjust)
    wanted = read_specs(specs, by)
    source = source_of(asked, ask(asked, at=at, cov_reduce=cov_reduce))
    means = means_of(source, wanted, weights, level, adjust, _generator(rng))
    if wanted.method is None:
        return means
    return replace(means, comparisons=means.contrasts(wanted.method))


def _generator(rng: Any) -> np.random.Generator | None:
    return None if rng is None else arguments.generator(rng)


def means_of(
    source: Source,
    wanted: Specs,
    weights: Any,
    conf_level: float,
    adjust: str,
    rng: np.random.Generator | None,
    slope: str | None = None,
) -> MarginalMeans:
    """Average the rows of a grid over the variables that are not named."""
    by = wanted.by
    if source.category is not None and source.category not in (*wanted.factors, *by):
        by = (*by, source.category)
    for name in (*wanted.factors, *by):
        if name not in source.names:
            raise unknown_variable("specs name", name, source.names)
    functions = _averaged(source, (*wanted.factors, *by), weights)
    if source.scale != source.link:
        functions = functions.back(source.link).transformed(source.scale)
    words = quantity_of(source, slope)
    means = MarginalMeans(
        source,
        wanted.factors,
        by,
        functions,
        source.scale if slope is None else "identity",
        conf_level,
        adjust,
        words,
        slope is not None,
        rng,
        weights if isinstance(weights, str) else "given",
    )
    return replace(means, notes=means_notes(means, _misleading(source, wanted.factors, by)))


def _averaged(source: Source, kept: tuple[str, ...], weights: Any) -> Functions:
    codes = codes_of(source.shape)
    places = [source.names.index(name) for name in kept]
    others = [i for i in range(len(source.names)) if i not in places]
    shape = [source.shape[i] for i in places]
    cells = _cell(codes, places, source.shape)
    w = _weights(source, codes, others, weights)
    return averaged(source.rows, cells, w, int(np.prod(shape, dtype=np.int64)))


def _cell(codes: Ints, places: Sequence[int], shape: Sequence[int]) -> Ints:
    """Number of each row's combination of some variables, the first running fastest."""
    cell, stride = np.zeros(codes.shape[1], dtype=np.intp), 1
    for i in places:
        cell += stride * codes[i]
        stride *= shape[i]
    return cell


def _weights(source: Source, codes: Ints, others: list[int], weights: Any) -> Floats:
    counts = source.counts
    cell = _cell(codes, others, source.shape)
    size = int(np.prod([source.shape[i] for i in others], dtype=np.int64))
    if not isinstance(weights, str):
        return _given_weights(weights, size, [source.names[i] for i in others])[cell]
    weights = arguments.choice("weights", weights, WEIGHTS)
    if weights == "cells":
        return counts
    if weights == "flat":
        return (counts > 0).astype(np.float64)
    if weights == "proportional":
        return np.asarray(np.bincount(cell, counts, minlength=size)[cell], dtype=np.float64)
    out = np.ones(len(counts))
    for i in others if weights == "outer" else ():
        out *= np.bincount(codes[i], counts, minlength=source.shape[i])[codes[i]]
    return out


def _given_weights(weights: Any, size: int, names: Sequence[str]) -> Floats:
    try:
        given = np.asarray(weights, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ModelError(
            f"weights is one of {', '.join(map(repr, WEIGHTS))}, or numbers, not {weights!r}"
        ) from None
    if len(given) != size:
        over = " x ".join(names) or "nothing"
        raise DataError(f"weights has {len(given)} numbers; averaging over {over} takes {size}")
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise DataError("weights must be finite numbers from 0, not all zero")
    return given


def _misleading(source: Source, factors: Sequence[str], by: Sequence[str]) -> list[str]:
    """Predictors that are averaged over though the effect of a named one depends on them."""
    varied = [v.name for v in source.variables if len(v.values) > 1]
    over = [name for name in varied if name not in (*factors, *by)]
    found = []
    for name in over:
        for part in source.asked.what.parts:
            spec = source.asked.fit.parts.get(part)
            if spec is not None and interacting(spec.recipe.model.fixed, [name], list(factors)):
                found.append(name)
    return list(dict.fromkeys(found))


def joint_tests(
    fit: Any, by: Any = None, *, at: Mapping[str, Any] | None = None, **question: Any
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
    asked = read_question(fit, **question)
    source = source_of(asked, ask(asked, at=at, cov_reduce="around"))
    varied = tuple(v.name for v in source.variables if len(v.values) > 1)
    split = names_of("by", by)
    for name in split:
        if name not in source.names:
            raise unknown_variable("by names", name, source.names)
    rest = tuple(name for name in varied if name not in split)
    if not rest:
        raise ModelError("there is nothing to test: no predictor varies")
    means = means_of(source, Specs(rest, split), "equal", 0.95, "none", None)
    return means.joint_tests()
