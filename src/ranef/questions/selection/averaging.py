"""Averages over models: predictions and effects, with the models' disagreement in their errors.

The variance is (sum_m w_m sqrt(v_m + (x_m - x)^2))^2 (Burnham & Anderson 2002, Model Selection
and Multimodel Inference, eq. 4.9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import ModelError
from ranef.tables import Table, make_table
from ranef.tables.origin import column

__all__ = ["combined", "predict", "tables"]

Floats = NDArray[np.float64]


def combined(values: Floats, errors: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Average (n,) of values (M, n) and its standard error."""
    mean = weights @ values
    return mean, weights @ np.sqrt(errors**2 + (values - mean) ** 2)


def predict(
    fits: Sequence[Any],
    weights: Floats,
    new: Any,
    question: Mapping[str, Any],
    conf_level: float | None,
    library: str,
) -> Any:
    """Predictions of each fit, averaged."""
    if conf_level is None:
        found = [fit.predict(new, **question) for fit in fits]
        if any(hasattr(one, "columns") for one in found):
            return _categories(found, weights, library)
        values = np.stack([np.asarray(one, dtype=np.float64) for one in found])
        index = getattr(found[0], "index", None)
        return column(weights @ values, "estimate", library, index)
    level = arguments.conf_level(conf_level)
    parts = [Table.of(fit.predict(new, conf_level=level, **question)) for fit in fits]
    if "category" in parts[0]:
        raise ModelError(
            "averages over models of categories come without intervals: leave conf_level out"
        )
    values = np.stack([part.numeric("estimate") for part in parts])
    errors = np.stack([part.numeric("std_error") for part in parts])
    mean, error = combined(values, errors, weights)
    reach = NormalDist().inv_cdf(0.5 + level / 2) * error
    return make_table(
        {
            "estimate": mean,
            "std_error": error,
            "conf_low": mean - reach,
            "conf_high": mean + reach,
        },
        library,
    )


def _categories(found: Sequence[Any], weights: Floats, library: str) -> Any:
    parts = [Table.of(one) for one in found]
    names = parts[0].columns
    return make_table(
        {
            name: sum(w * part.numeric(name) for w, part in zip(weights, parts, strict=True))
            for name in names
        },
        library,
    )


def tables(found: Sequence[Any], weights: Floats, library: str, none: float = 0.0) -> Any:
    """Tables with ``estimate`` and ``std_error`` of the same rows, averaged.

    None stands for a model without the effect: its estimate is `none`, without an error.
    """
    parts = [None if one is None else Table.of(one) for one in found]
    there = [part for part in parts if part is not None]
    first = there[0]
    sizes = {len(part.numeric("estimate")) for part in there}
    if len(sizes) > 1:
        raise ModelError("the models give different effects, and these cannot be averaged")
    size = sizes.pop()
    values = np.stack(
        [np.full(size, none) if part is None else part.numeric("estimate") for part in parts]
    )
    errors = np.stack(
        [np.zeros(size) if part is None else part.numeric("std_error") for part in parts]
    )
    mean, error = combined(values, errors, weights)
    z = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    normal = NormalDist()
    own: dict[str, Any] = {
        "estimate": mean,
        "std_error": error,
        "statistic": z,
        "p_value": np.array([2 * normal.cdf(-abs(v)) for v in z]),
        "conf_low": mean - normal.inv_cdf(0.975) * error,
        "conf_high": mean + normal.inv_cdf(0.975) * error,
    }
    kept = {name: own.get(name, first.values(name)) for name in first.columns if name != "df"}
    return make_table(kept, library)
