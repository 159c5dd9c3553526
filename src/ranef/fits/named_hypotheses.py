"""Linear hypotheses about coefficients, as names or as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, suggestion
from ranef.fits.equations import read_equation
from ranef.formula.labels import spelled

__all__ = ["named_rows", "read_hypotheses"]

Floats = NDArray[np.float64]


def read_hypotheses(
    L: Any, rhs: Any, terms: Sequence[str], left_out: Sequence[str] = ()
) -> tuple[Floats, Floats | None]:
    """Return rows (q, P) and their values (q,), None for zeros.

    Parameters
    ----------
    L : (q, P) array or sequence of str
        Functions of the coefficients; or names of some, or equations of them, ``"a - b = 1"``.
    rhs : (q,) array or None
    terms : sequence of str, P
        Names of the coefficients.
    left_out : sequence of str
        Names of redundant columns, which have none.
    """
    names = [L] if isinstance(L, str) else L
    if isinstance(names, Sequence) and names and all(isinstance(x, str) for x in names):
        rows, stated = _stated(names, terms, left_out)
        if stated.any():
            if rhs is not None:
                raise ModelError("give the values in the equations or as rhs, not both")
            return rows, stated
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


def _stated(
    texts: Sequence[str], terms: Sequence[str], left_out: Sequence[str]
) -> tuple[Floats, Floats]:
    """Return rows and values of names and of equations."""
    rows, values = [], []
    for text in texts:
        known = spelled(text, terms) in terms or text in left_out
        found = None if known else read_equation(text, terms)
        row, value = (named_rows([text], terms, left_out)[0], 0.0) if found is None else found
        rows.append(row)
        values.append(value)
    return np.array(rows), np.array(values)


def named_rows(names: Sequence[str], terms: Sequence[str], left_out: Sequence[str]) -> Floats:
    """Return a row for each name of a coefficient, one there and zero elsewhere."""
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
