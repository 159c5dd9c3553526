"""The columns of ``fit.tidy()``: what each row of the tables holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import Intervals, quantile
from ranef.inference.effects.effects import LevelEffects
from ranef.models.labels import CoefficientLabel, category, group_name
from ranef.models.records import Estimate

__all__ = ["coefficient_columns", "fixed_columns", "random_columns", "variance_columns"]

Columns = dict[str, Any]
Bools = NDArray[np.bool_]


def fixed_columns(
    labels: Sequence[CoefficientLabel], found: Intervals, carried: bool | Bools
) -> Columns:
    """One row a coefficient; where `carried`, estimate and interval are exponentiated."""

    def shown(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not np.any(carried):
            return values
        with np.errstate(over="ignore"):
            return np.where(carried, np.exp(values), values)

    return {
        "component": [label.component for label in labels],
        **_responses([label.response for label in labels]),
        "term": [label.term for label in labels],
        "estimate": shown(found.estimate),
        "std_error": found.std_error,
        "df": found.df,
        "statistic": found.statistic,
        "p_value": found.p_value,
        "conf_low": shown(found.conf_low),
        "conf_high": shown(found.conf_high),
    }


def variance_columns(estimate: Estimate, found: Sequence[VarianceParameter]) -> Columns:
    """One row a standard deviation or correlation, the residual's last."""
    return {
        **_places(estimate, [(v, 1) for v in found]),
        "group": [group_name(estimate, v.term) for v in found],
        "term": [v.name for v in found],
        "term2": [v.name2 for v in found],
        "parameter": [v.kind for v in found],
        "estimate": np.array([v.estimate for v in found]),
        "conf_low": np.array([v.conf_low for v in found]),
        "conf_high": np.array([v.conf_high for v in found]),
    }


def random_columns(estimate: Estimate, found: Sequence[LevelEffects], conf_level: float) -> Columns:
    """One row a level and coefficient, with both standard deviations."""
    columns = effect_columns(estimate, found, conf_level)
    given = [np.asarray(e.cond_sd).T.ravel() for e in found]
    ordered: Columns = _places(estimate, [(e, e.estimate.size) for e in found])
    for name, values in columns.items():
        if name == "std_error":
            ordered["cond_sd"] = np.concatenate(given)
        ordered[name] = values
    return ordered


def coefficient_columns(
    estimate: Estimate, found: Sequence[LevelEffects], conf_level: float
) -> Columns:
    """One row a level and coefficient: fixed plus random effect."""
    columns = effect_columns(estimate, found, conf_level)
    return {**_places(estimate, [(e, e.estimate.size) for e in found]), **columns}


def effect_columns(estimate: Estimate, found: Sequence[LevelEffects], conf_level: float) -> Columns:
    """Effects, coefficient by coefficient within each term, with normal intervals."""
    factors = estimate.factors
    groups = [factors[e.factor].name for e in found for _ in range(e.estimate.size)]
    value = np.concatenate([e.estimate.T.ravel() for e in found])
    error = np.concatenate([e.std_error.T.ravel() for e in found])
    reach = float(quantile(conf_level, np.array(np.inf))) * error
    return {
        "group": groups,
        "level": _levels(
            [
                list(factors[e.factor].shown if e.levels is None else e.levels) * len(e.names)
                for e in found
            ]
        ),
        "term": [name for e in found for name in e.names for _ in range(len(e.estimate))],
        "estimate": value,
        "std_error": error,
        "conf_low": value - reach,
        "conf_high": value + reach,
    }


def _places(
    estimate: Estimate, found: Sequence[tuple[LevelEffects | VarianceParameter, int]]
) -> Columns:
    """Component, and category of the response, of each with its number of rows."""
    return {
        "component": [e.component for e, rows in found for _ in range(rows)],
        **_responses([category(e.response, estimate.levels) for e, n in found for _ in range(n)]),
    }


def _responses(values: Sequence[str | None]) -> Columns:
    """A column ``response`` where there is more than one."""
    return {"response": list(values)} if any(v is not None for v in values) else {}


def _levels(blocks: Sequence[list[Any]]) -> NDArray[Any] | list[Any]:
    """All levels in one column: in their own type if they share one, else as text."""
    values = [level for block in blocks for level in block]
    shared = len({type(v) for v in values}) == 1
    return values if shared else [str(v) for v in values]
