"""Structural equation models compared by their likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from ranef.errors import DataError, ModelError
from ranef.questions.tests.ratio_table import NAN, RatioTable, ratio_columns

__all__ = ["StructuralComparison", "compared"]

TESTED = ("statistic", "scaling", "df", "p_value")


@dataclass(frozen=True, eq=False, repr=False)
class StructuralComparison(RatioTable):
    """Fits of `ranef.sem` compared; ``fit.anova(other)`` makes it.

    Attributes
    ----------
    columns : dict
        ``model, n_parameters, aic, bic, loglik, statistic, scaling, df, p_value``.
    notes : tuple of str
    library : str
    """

    title = "Comparison of structural equation models"


def compared(fits: Sequence[Any], names: Sequence[str] | None = None) -> StructuralComparison:
    """Compare fits by likelihood ratios, scaled where they are robust.

    Parameters
    ----------
    fits : sequence of fits of `ranef.sem`
        Of the same rows.
    names : sequence of str, optional
    """
    first = fits[0]
    for other in fits[1:]:
        if not hasattr(other, "estimate") or not hasattr(other, "role_rows"):
            raise ModelError(
                "anova() compares fits of ranef.sem with each other, not with "
                f"{getattr(other, 'kind_words', type(other).__name__)}"
            )
        if other.n_obs != first.n_obs or not _same_rows(first, other):
            raise DataError("the fits use different rows, so their likelihoods do not compare")
        if set(other.variables) != set(first.variables):
            raise DataError(
                "the fits have different variables, so their likelihoods do not compare; keep a "
                "variable in the smaller model, its coefficient fixed at zero ('y ~ 0*x')"
            )
        if other.estimate.model.request.estimator != first.estimate.model.request.estimator:
            raise ModelError("the fits have different estimators; fit both by the same")
    notes: list[str] = []
    columns = ratio_columns(fits, names, TESTED, lambda small, large: _test(small, large, notes))
    if first.estimate.model.request.estimator != "ML":
        notes.append(
            "Ratios are divided by the scaling of the difference (Satorra & Bentler 2001)."
        )
    return StructuralComparison(columns, tuple(dict.fromkeys(notes)), first.frame.library)


def _same_rows(a: Any, b: Any) -> bool:
    ka, kb = a.frame.accounting.kept, b.frame.accounting.kept
    if ka is None or kb is None:
        return (ka is None) == (kb is None) and (
            a.frame.accounting.n_rows == b.frame.accounting.n_rows
        )
    return len(ka) == len(kb) and bool(np.array_equal(ka, kb))


def _test(small: Any, large: Any, notes: list[str]) -> tuple[float, float, float, float]:
    df = large.df_model - small.df_model
    ratio = 2 * (large.loglik - small.loglik)
    if df == 0:
        notes.append("Models with as many parameters are not nested, and are not tested.")
        return NAN, NAN, 0.0, NAN
    if ratio < -1e-6:
        notes.append(
            "A larger model has the smaller likelihood, so the models are not nested: the test "
            "against the one above is left out."
        )
        return NAN, NAN, float(df), NAN
    scaling = 1.0
    estimator = small.estimate.model.request.estimator
    if estimator == "MLR":
        c0, c1 = small.comparisons.scaling_h0, large.comparisons.scaling_h0
        scaling = (small.df_model * c0 - large.df_model * c1) / (small.df_model - large.df_model)
    elif estimator == "MLM":
        d0, d1 = small.comparisons.df, large.comparisons.df
        own = large.comparisons.scaling * d1 if d1 > 0 else 0.0
        scaling = (d0 * small.comparisons.scaling - own) / (d0 - d1)
    if scaling <= 0:
        notes.append(
            "The scaling of a difference is negative, which it can be in small samples: that test "
            "is left out."
        )
        return NAN, float(scaling), float(df), NAN
    value = max(ratio, 0.0) / scaling
    return float(value), float(scaling), float(df), float(special.chdtrc(df, value))
