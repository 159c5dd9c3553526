"""Dynamic models compared by their likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from ranef.errors import DataError, ModelError
from ranef.fields.dynamic.layout import Layout
from ranef.questions.tests.ratio_table import NAN, RatioTable, ratio_columns

__all__ = ["DynamicComparison", "compared"]

TESTED = ("statistic", "df", "p_value")


@dataclass(frozen=True, eq=False, repr=False)
class DynamicComparison(RatioTable):
    """Fits of `ranef.dynamic` compared; ``fit.anova(other)`` makes it.

    Attributes
    ----------
    columns : dict
        ``model, n_parameters, aic, bic, loglik, statistic, df, p_value``.
    notes : tuple of str
    library : str
    """

    title = "Comparison of dynamic models"


def compared(fits: Sequence[Any], names: Sequence[str] | None = None) -> DynamicComparison:
    """Compare fits of `ranef.dynamic`, of the same rows and response, by likelihood ratios."""
    first = fits[0]
    for other in fits[1:]:
        if getattr(other, "file_kind", None) != first.file_kind:
            raise ModelError(
                "anova() compares fits of ranef.dynamic with each other, not with "
                f"{getattr(other, 'kind_words', type(other).__name__)}"
            )
        mine, theirs = (f.parts["conditional"] for f in (first, other))
        if mine.response != theirs.response or not np.array_equal(mine.y, theirs.y):
            raise DataError("the fits use different rows or responses: their likelihoods differ")
        if other.estimate.given_starts != first.estimate.given_starts:
            raise ModelError("the fits take the starts of series differently; use one start=")
    if names is not None and len(names) != len(fits):
        raise ModelError(f"names= has {len(names)} names for {len(fits)} fits; give one each")
    notes: list[str] = []
    columns = ratio_columns(fits, names, TESTED, lambda small, large: _test(small, large, notes))
    return DynamicComparison(columns, tuple(dict.fromkeys(notes)), first.frame.library)


def _test(small: Any, large: Any, notes: list[str]) -> tuple[float, float, float]:
    df = large.df_model - small.df_model
    ratio = 2 * (large.loglik - small.loglik)
    if df == 0 or ratio < -1e-4:
        notes.append("Models that are not nested in each other are not tested.")
        return NAN, float(df), NAN
    value = max(ratio, 0.0)
    a, b = small.estimate.layout, large.estimate.layout
    more = b.r - a.r
    if more == 0:
        return value, float(df), float(special.chdtrc(df, value))
    if more == 1 and _names(a) == _names(b):
        notes.append(
            "A variance cannot be below zero: the p-value of one more random effect is that of an "
            "equal mixture of chi-squares (Stram & Lee 1994)."
        )
        low = 0.0 if df == 1 else float(special.chdtrc(df - 1, value))
        return value, float(df), 0.5 * (low + float(special.chdtrc(df, value)))
    notes.append("With variances among what is tested a p-value is too large rather than small.")
    return value, float(df), float(special.chdtrc(df, value))


def _names(layout: Layout) -> dict[str, tuple[str, ...]]:
    return dict(layout.names)
