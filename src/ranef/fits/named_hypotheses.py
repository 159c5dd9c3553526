"""Linear hypotheses about coefficients, as names or as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, suggestion
from ranef.formula.labels import spelled

__all__ = ["read_hypotheses"]

Floats = NDArray[np.float64]


def read_hypotheses(
    L: Any, rhs: Any, terms: Sequence[str], left_out: Sequence[str] = ()
) -> tuple[Floats, Floats | None]:
    """Return rows (q, P) and their values (q,), None for zeros.

    Parameters
    ----------
    L : (q, P) array or sequence of str
        Functions of the coefficients, or names of some.
    rhs : (q,) array or None
    terms : sequence of str, P
        Names of the coefficients.
    left_out : sequence of str
        Names of redundant columns, which have none.
    """
    names = [L] if isinstance(L, str) else L
    if isinstance(names, Sequence) and names and all(isinstance(x, str) for x in names):
        rows = _named(names, terms, left_out)
    else:
        rows = np.atleast_2d(_numbers(L, "a hypothesis is a matrix with one column a coefficient"))
    if rows.ndim != 2 or rows.shape[1] != len(terms) or not len(rows):
        raise ModelError(
            f"the hypothesis has {rows.shape[-1]} columns but the model has {len(terms)} "
            f"coefficients ({', '.join(terms)}); give one column a coefficient"
        )
    if rhs is None:
        return rows, None
    values = np.atleast_1d(_numbers(rhs, "rhs holds what each function is under the hypothesis"))
    if values.shape != (len(rows),):
        raise DataError(f"rhs has the shape {values.shape}; there are {len(rows)} hypotheses")
    return rows, values


def _named(names: Sequence[str], terms: Sequence[str], left_out: Sequence[str]) -> Floats:
    names = [spelled(name, terms) for name in names]
    for name in names:
        if name in left_out and name not in terms:
            raise ModelError(
                f"the data do not determine a coefficient of {name!r}: it depends on the other "
                "columns of the fixed effects and was left out"
            )
        if name not in terms:
            raise ModelError(
                f"the model has no coefficient {name!r}{suggestion(name, terms)}; it has "
                f"{', '.join(map(repr, terms))}"
            )
    return np.eye(len(terms))[[terms.index(name) for name in names]]


def _numbers(value: Any, what: str) -> Floats:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelError(f"{what}; {value!r} is none (names of coefficients do too)") from None
    if not np.isfinite(found).all():
        raise DataError(f"{what}, and all must be finite numbers")
    return found
