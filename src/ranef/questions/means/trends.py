"""`emtrends`: slopes of a numeric predictor, by levels of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.fits.fit import Fit
from ranef.fits.protocol import Estimand
from ranef.inference.coefficients.functions import Functions, gaps_of_values
from ranef.questions.means.answers import MarginalMeans
from ranef.questions.means.covariance import on_covariance
from ranef.questions.means.grid import (
    EvaluatedGrid,
    GridVariable,
    ReferenceGrid,
    evaluated_grid,
    grid_of,
    placed,
    read_estimand,
    unknown_variable,
)
from ranef.questions.means.means import MeansSettings, means_of
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
    vcov: Any = None,
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
    at, cov_reduce, weights, df, conf_level, adjust, component, unit, offset, vcov, rng
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
    estimand = read_estimand(
        fit,
        component=component,
        kind=kind,
        type=type or ("link" if kind is None else "response"),
        df=df,
        unit=unit,
        offset=offset,
    )
    settings = MeansSettings.read(weights, conf_level, adjust, rng)
    degree = arguments.count("max_degree", max_degree)
    if degree > len(DEGREES):
        raise ModelError(f"max_degree is at most {len(DEGREES)}, not {degree}")
    if not isinstance(var, str):
        raise ModelError(f"var is the name of a numeric predictor, not {var!r}")
    named = read_specs(specs, by)
    grid = grid_of(fit, estimand, at=at, cov_reduce=cov_reduce, keep=[var])
    _check_variable(grid, var)
    named = placed(named, fit, estimand, grid)
    if degree > 1:
        named = replace(named, factors=("degree", *named.factors))
    slopes = on_covariance(_slopes(fit, estimand, grid, var, degree), vcov)
    return means_of(slopes, named, settings, var)


def _check_variable(grid: ReferenceGrid, var: str) -> None:
    if var not in grid.names:
        raise unknown_variable("var names", var, grid.names)
    variable = grid.variable(var)
    if variable.factor or not all(isinstance(v, float) for v in variable.values):
        raise ModelError(
            f"{var} is not numeric in this model, so it has no slope; contrasts() compares its "
            "levels"
        )
    for key in () if variable.held else grid.held:
        if var in key:
            raise ModelError(
                f"{var} enters through {key}, which does not move with it alone; ask for the "
                f"slope of {key!r}"
            )


def _slopes(
    fit: Fit, estimand: Estimand, grid: ReferenceGrid, var: str, degree: int
) -> EvaluatedGrid:
    """Differentiate what the model says at the rows of a grid."""
    width = _width(fit, grid, var)
    if degree == 1:
        nodes, weights = np.array([-1.0, -0.5, 0.5, 1.0]), np.array([[1.0, -8.0, 8.0, -1.0]]) / 6
        step = STEP * width
    else:
        nodes = np.arange(STENCIL) - (STENCIL - 1) / 2
        weights = np.linalg.inv(np.vander(nodes, increasing=True))[1 : degree + 1]
        step = 0.02 * width
    stencil = [_moved(fit, estimand, grid, var, step * node) for node in nodes]
    scales = step ** np.arange(1, degree + 1)

    def combined(name: str) -> Floats:
        stacked = np.array([getattr(rows, name) for rows in stencil])
        slopes = np.tensordot(weights / scales[:, None], stacked, axes=1)
        # the degree runs fastest: (degree, rows, ...) to (rows, degree, ...)
        shape = (degree * stacked.shape[1], *stacked.shape[2:])
        return np.ascontiguousarray(np.swapaxes(slopes, 0, 1).reshape(shape))

    base = evaluated_grid(fit, estimand, grid)
    if base.linear:
        powers = np.tile(width ** np.arange(1, degree + 1), len(base.counts))
        alone = np.flatnonzero(base.unseen)
        unseen = gaps_of_values(np.eye(grid.size)[:, alone], len(base.counts) // grid.size)
        gap = np.hstack([combined("gap") * powers[:, None], np.repeat(unseen, degree, axis=0)])
    else:
        gap = np.repeat(_on_scale(base).own_gaps(), degree, axis=0)
    variables, counts = base.variables, base.counts
    if degree > 1:
        variables = (GridVariable("degree", DEGREES[:degree], True), *variables)
        counts = np.repeat(counts, degree)
    return replace(
        base,
        variables=variables,
        rows=Functions(combined("value"), combined("jacobian"), gap),
        counts=counts,
        link="identity",
        scale="identity",
    )


def _on_scale(grid: EvaluatedGrid) -> Functions:
    """The rows on the scale whose slope is asked for."""
    return grid.rows.back(grid.link)


def _moved(fit: Fit, estimand: Estimand, grid: ReferenceGrid, var: str, step: float) -> Functions:
    try:
        return _on_scale(evaluated_grid(fit, estimand, grid.moved(var, step)))
    except DataError as error:
        raise DataError(
            f"the slope of {var} cannot be taken at this value, beside which the model is not "
            f"defined ({error}); choose another with at={{{var!r}: ...}}"
        ) from None


def _width(fit: Fit, grid: ReferenceGrid, var: str) -> float:
    """Scale of the variable: its range in the data."""
    variable = grid.variable(var)
    sizes = [abs(float(v)) for v in variable.values]
    if variable.held:
        return max(sizes) if max(sizes) > 1e-8 else 1.0
    assert fit.frame.data is not None
    column = fit.frame.data.numeric(var)
    width = float(np.ptp(column[np.isfinite(column)])) or 1.0
    return min(width, min(sizes)) if min(sizes) > 0 else width
