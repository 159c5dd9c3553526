"""The columns of ``fit.tidy()``: what each row of the tables holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.inference import Intervals, LevelEffects, VarianceParameter
from ranef.inference.wald import quantile
from ranef.models.estimate import Estimate

__all__ = ["coefficient_columns", "fixed_columns", "random_columns", "variance_columns"]

Columns = dict[str, Any]


def fixed_columns(estimate: Estimate, found: Intervals, exponentiate: bool) -> Columns:
    """One row a fixed effect; `exponentiate` carries estimate and interval over."""
    carry = np.exp if exponentiate else np.asarray
    names = estimate.specification.names
    return {
        "component": ["conditional"] * len(names),
        "term": list(names),
        "estimate": carry(found.estimate),
        "std_error": found.std_error,
        "df": found.df,
        "statistic": found.statistic,
        "p_value": found.p_value,
        "conf_low": carry(found.conf_low),
        "conf_high": carry(found.conf_high),
    }


def variance_columns(estimate: Estimate, found: Sequence[VarianceParameter]) -> Columns:
    """One row a standard deviation or correlation, the residual's last."""
    return {
        "component": ["conditional"] * len(found),
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
    ordered: Columns = {"component": ["conditional"] * len(columns["estimate"])}
    for name, values in columns.items():
        if name == "std_error":
            ordered["cond_sd"] = np.concatenate(given)
        ordered[name] = values
    return ordered


def coefficient_columns(estimate: Estimate, found: LevelEffects, conf_level: float) -> Columns:
    """One row a level and coefficient: fixed plus random effect."""
    return effect_columns(estimate, [found], conf_level)


def effect_columns(estimate: Estimate, found: Sequence[LevelEffects], conf_level: float) -> Columns:
    """Effects, coefficient by coefficient within each term, with normal intervals."""
    factors = estimate.specification.factors
    groups = [factors[e.factor].name for e in found for _ in range(e.estimate.size)]
    value = np.concatenate([e.estimate.T.ravel() for e in found])
    error = np.concatenate([e.std_error.T.ravel() for e in found])
    reach = float(quantile(conf_level, np.array(np.inf))) * error
    return {
        "group": groups,
        "level": _levels([list(factors[e.factor].levels) * len(e.names) for e in found]),
        "term": [name for e in found for name in e.names for _ in range(len(e.estimate))],
        "estimate": value,
        "std_error": error,
        "conf_low": value - reach,
        "conf_high": value + reach,
    }


def group_name(estimate: Estimate, term: int | None) -> str:
    """Name of a term's grouping factor, ``"Residual"`` for the residual."""
    if term is None:
        return "Residual"
    spec = estimate.specification
    return spec.factors[spec.terms[term].factor].name


def _levels(blocks: Sequence[list[Any]]) -> NDArray[Any] | list[Any]:
    """All levels in one column: in their own type if they share one, else as text."""
    values = [level for block in blocks for level in block]
    shared = len({type(v) for v in values}) == 1
    return values if shared else [str(v) for v in values]
