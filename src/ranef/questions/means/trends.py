"""`emtrends`: slopes of a numeric predictor, by levels of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.inference.coefficients.functions import Functions
from ranef.questions.means.answers import MarginalMeans
from ranef.questions.means.grid import GridVariable, ReferenceGrid, unknown_variable
from ranef.questions.means.means import _generator, means_of
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.source import Asked, Source, ask, read_question, source_of
from ranef.questions.means.specs import read_specs

__all__ = ["emtrends"]

Floats = NDArray[np.float64]

STEP = 1e-3
STENCIL = 9
DEGREES = ("linear", "quadratic", "cubic", "quartic", "quintic")


def emtrends(
    fit: Any,
    specs: Any,
    var: str,
    by: Any = None,
    *,
    max_degree: int = 1,
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
    """Estimate slopes of a numeric predictor, averaged over a reference grid.

    The slope is the derivative of the linear predictor, or with ``type="response"`` of
    the mean, at the value of `var` on the grid (its mean, or ``at={var: [...]}``),
    whatever the formula makes of the variable: ``log(x)``, ``poly(x, 2)``, splines,
    interactions. It is a central difference, extrapolated once, so that polynomials to
    the fourth degree are exact.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    specs : str or list of str
        Predictors whose levels have a slope each, as in `emmeans`; ``"~ 1"`` for one.
    var : str
        A numeric column, or a variable as the formula has it that needs its group, such
        as ``"within(stress, person)"``.
    by : str or list of str, optional
    max_degree : int
        Up to 5; above 1 the coefficients of the Taylor polynomial around the value, the
        k-th derivative over k!, with ``degree`` as one more predictor.
    at, cov_reduce, weights, df, conf_level, adjust, component, unit, offset, rng
        As in `emmeans`.
    type : {"link", "response"}
        Of the linear predictor, unless ``"response"``.
    kind : {"population", "typical"}, optional
        As in `emmeans`, of slopes of the mean response.

    Returns
    -------
    MarginalMeans

    Examples
    --------
    >>> import ranef
    >>> data = ranef.data.load("Orthodont")
    >>> fit = ranef.lmm("distance ~ age * Sex + (I(age - 11) | Subject)", data)
    >>> slopes = ranef.emtrends(fit, "Sex", "age")
    >>> slopes.tidy()[["Sex", "estimate", "std_error", "df"]].round(4)
          Sex  estimate  std_error    df
    0    Male    0.7844     0.0860  25.0
    1  Female    0.4795     0.1037  25.0
    >>> slopes.contrasts().tidy()[["contrast", "estimate", "p_value"]].round(4)
            contrast  estimate  p_value
    0  Male - Female    0.3048   0.0326
    """
    asked = read_question(
        fit,
        component=component,
        kind=kind,
        type=type or ("link" if kind is None else "response"),
        df=df,
        unit=unit,
        offset=offset,
    )
    level = arguments.conf_level(conf_level)
    adjust = check_adjustment(adjust)
    degree = arguments.count("max_degree", max_degree)
    if degree > len(DEGREES):
        raise ModelError(f"max_degree is at most {len(DEGREES)}, not {degree}")
    wanted = read_specs(specs, by)
    if not isinstance(var, str):
        raise ModelError(f"var is the name of a numeric predictor, not {var!r}")
    grid = ask(asked, at=at, cov_reduce=cov_reduce, keep=[var])
    _check_variable(asked, grid, var)
    source = slopes_at(asked, grid, var, degree)
    if degree > 1:
        wanted = replace(wanted, factors=("degree", *wanted.factors))
    means = means_of(source, wanted, weights, level, adjust, _generator(rng), var)
    if wanted.method is None:
        return means
    return replace(means, comparisons=means.contrasts(wanted.method))


def _check_variable(asked: Asked, grid: ReferenceGrid, var: str) -> None:
    if var not in grid.names:
        raise unknown_variable("var names", var, grid.names)
    own = grid.variable(var)
    numeric = all(isinstance(v, float) for v in own.values)
    if own.factor or not numeric:
        raise ModelError(
            f"{var} is not numeric in this model, so it has no slope; contrasts() compares its "
            "levels"
        )
    if own.held:
        return
    for key in grid.held:
        if var in key:
            raise ModelError(
                f"{var} enters through {key}, which does not move with it alone; ask for the "
                f"slope of {key!r}"
            )


def slopes_at(asked: Asked, grid: ReferenceGrid, var: str, degree: int) -> Source:
    """Differentiate what the model says at the rows of a grid."""
    width = _width(asked, grid, var)
    if degree == 1:
        nodes, weights = np.array([-1.0, -0.5, 0.5, 1.0]), np.array([[1.0, -8.0, 8.0, -1.0]]) / 6
        step = STEP * width
    else:
        nodes = np.arange(STENCIL) - (STENCIL - 1) / 2
        weights = np.linalg.inv(np.vander(nodes, increasing=True))[1 : degree + 1]
        step = 0.02 * width
    sources = [_moved(asked, grid, var, step * node) for node in nodes]
    rows = [_on_scale(source) for source in sources]
    scales = step ** np.arange(1, degree + 1)

    def combined(name: str) -> Floats:
        stacked = np.array([getattr(own, name) for own in rows])
        found = np.tensordot(weights / scales[:, None], stacked, axes=1)
        # the degree runs fastest: (degree, rows, ...) to (rows, degree, ...)
        shape = (degree * stacked.shape[1], *stacked.shape[2:])
        return np.ascontiguousarray(np.swapaxes(found, 0, 1).reshape(shape))

    base = source_of(asked, grid)
    if base.linear:
        powers = np.tile(width ** np.arange(1, degree + 1), len(base.counts))
        alone = np.flatnonzero(base.unseen)
        unseen = np.tile(np.eye(grid.size)[:, alone], (len(base.counts) // grid.size, 1))
        gap = np.hstack([combined("gap") * powers[:, None], np.repeat(unseen, degree, axis=0)])
    else:
        gap = np.repeat(_on_scale(base).own_gaps(), degree, axis=0)
    rowwise = Functions(combined("value"), combined("jacobian"), gap)
    variables, counts = base.variables, base.counts
    if degree > 1:
        variables = (GridVariable("degree", DEGREES[:degree], True), *variables)
        counts = np.repeat(counts, degree)
    return replace(
        base,
        variables=variables,
        rows=rowwise,
        counts=counts,
        link="identity",
        scale="identity",
    )


def _on_scale(source: Source) -> Functions:
    """The rows on the scale whose slope is asked for."""
    return source.rows.back(source.link)


def _moved(asked: Asked, grid: ReferenceGrid, var: str, step: float) -> Source:
    try:
        return source_of(asked, grid.moved(var, step))
    except DataError as error:
        raise DataError(
            f"the slope of {var} cannot be taken at this value, beside which the model is not "
            f"defined ({error}); choose another with at={{{var!r}: ...}}"
        ) from None


def _width(asked: Asked, grid: ReferenceGrid, var: str) -> float:
    """Scale of the variable: its range in the data."""
    own = grid.variable(var)
    size = max(abs(float(v)) for v in own.values) or 1.0
    if own.held:
        return size if size > 1e-8 else 1.0
    data = asked.fit.frame.data
    assert data is not None
    width = float(np.ptp(data.numeric(var)[np.isfinite(data.numeric(var))]))
    nearest = min(abs(float(v)) for v in own.values)
    return min(width or 1.0, nearest) if nearest > 0 else width or 1.0
