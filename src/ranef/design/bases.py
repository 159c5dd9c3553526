"""Bases of a numeric variable: scaled, polynomial, B-spline, natural spline.

Each comes in two steps: learn what to remember from the values of the fit,
then evaluate at any values. All agree with R's `scale`, `poly`, `bs`, `ns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.state import Polynomial, Scaled, Spline
from ranef.errors import DataError, FormulaError

__all__ = [
    "b_spline",
    "learn_polynomial",
    "learn_scale",
    "learn_spline",
    "natural_spline",
    "polynomial",
    "raw_polynomial",
]

Floats = NDArray[np.float64]


def learn_scale(
    x: Floats, what: str, center: bool | float = True, scale: bool | float = True
) -> Scaled:
    """Learn centre (mean) and scale (sd with n - 1; root mean square if not centred)."""
    known = x[~np.isnan(x)]
    middle = _either(center, float(known.mean()) if len(known) else 0.0, 0.0)
    moved = known - middle
    size = float(np.sqrt(np.sum(moved**2) / max(1, len(known) - 1)))
    divisor = _either(scale, size, 1.0)
    if not divisor > 0:
        raise DataError(f"{what} cannot scale a constant: every value is {_first(known)}")
    return Scaled(middle, divisor)


def _either(asked: bool | float, learned: float, absent: float) -> float:
    if isinstance(asked, bool):
        return learned if asked else absent
    return asked


def _first(known: Floats) -> str:
    return f"{known[0]:g}" if len(known) else "missing"


def learn_polynomial(x: Floats, degree: int, what: str) -> tuple[Polynomial, Floats]:
    """Learn the orthogonal polynomials of the values, and evaluate them there.

    Returns
    -------
    state : Polynomial
    basis : (N, degree) float64 array
    """
    known = np.unique(x[~np.isnan(x)])
    if degree >= len(known):
        raise DataError(f"{what} needs more than {degree} distinct values; there are {len(known)}")
    remembered: dict[str, Any] = {}
    basis = _formulaic_poly(x, degree, remembered)
    alpha = tuple(float(remembered["alpha"][k]) for k in range(degree))
    norm2 = tuple(float(remembered["norms2"][k]) for k in range(degree + 1))
    return Polynomial(alpha, norm2), basis


def polynomial(x: Floats, state: Polynomial) -> Floats:
    """Evaluate orthogonal polynomials at `x`."""
    remembered = {
        "alpha": dict(enumerate(state.alpha)),
        "norms2": dict(enumerate(state.norm2)),
    }
    return _formulaic_poly(x, len(state.alpha), remembered)


def _formulaic_poly(x: Floats, degree: int, state: dict[str, Any]) -> Floats:
    from formulaic.transforms.poly import poly

    basis = poly(x, degree=degree, _state=state)
    return np.asarray(basis.__wrapped__, dtype=np.float64)


def raw_polynomial(x: Floats, degree: int) -> Floats:
    """Return the powers x, x^2, ..., (N, degree)."""
    return np.power(x[:, None], np.arange(1, degree + 1))


def learn_spline(
    x: Floats,
    what: str,
    *,
    df: int | None,
    knots: Sequence[float] | None,
    boundary: Sequence[float] | None,
    degree: int,
    intercept: bool,
    natural: bool,
) -> Spline:
    """Place the knots: at quantiles of the values when only `df` is given."""
    known = x[~np.isnan(x)]
    if len(np.unique(known)) < 2:
        raise DataError(f"{what} needs at least two distinct values")
    low, high = sorted(boundary) if boundary else (float(known.min()), float(known.max()))
    if not low < high:
        raise FormulaError(f"the boundary knots of {what} must differ")
    if knots is None:
        count = 0
        if df is not None:
            count = df - (1 if natural else degree) - int(intercept)
            if count < 0:
                raise FormulaError(f"df of {what} is too small; take at least {df - count}")
        inside = known[(known >= low) & (known <= high)]
        if count >= len(inside):
            raise DataError(
                f"{what} asks for {count} knots from {len(inside)} values; take a smaller df, or "
                "fewer knots"
            )
        knots = np.quantile(inside, np.linspace(0, 1, count + 2)[1:-1]).tolist()
    inner = tuple(sorted(float(knot) for knot in knots))
    if any(not low < knot < high for knot in inner):
        raise FormulaError(
            f"the knots of {what} must lie strictly between {low:g} and {high:g}; "
            f"they are {', '.join(f'{knot:g}' for knot in inner)}"
        )
    return Spline(inner, (low, high), degree, intercept)


def b_spline(x: Floats, state: Spline) -> Floats:
    """Evaluate a B-spline basis; outside the boundary its end pieces go on."""
    from formulaic.transforms.basis_spline import basis_spline

    low, high = state.boundary
    ends = state.degree + 1
    remembered = {
        "lower_bound": low,
        "upper_bound": high,
        "knots": [low] * ends + list(state.knots) + [high] * ends,
    }
    missing = np.isnan(x)
    found = basis_spline(
        np.where(missing, low, x),
        degree=state.degree,
        include_intercept=state.intercept,
        extrapolation="extend",
        _state=remembered,
    )
    basis = np.column_stack([np.broadcast_to(v, x.shape) for v in found.__wrapped__.values()])
    basis[missing] = np.nan
    return np.ascontiguousarray(basis, dtype=np.float64)


def natural_spline(x: Floats, state: Spline) -> Floats:
    """Evaluate a natural cubic spline basis; it is linear outside the boundary.

    The cubic B-splines are rotated so that the second derivatives at both
    boundary knots vanish: the rotation is the null space of these two linear
    conditions, from a Householder QR of their transpose.
    """
    from scipy.interpolate import BSpline

    low, high = state.boundary
    knots = np.concatenate([[low] * 4, state.knots, [high] * 4])
    spline = BSpline(knots, np.eye(len(knots) - 4), 3)
    first = 0 if state.intercept else 1
    ends = np.array([low, high])
    bent = spline(ends, nu=2)[:, first:]
    rotation = np.linalg.qr(bent.T, mode="complete")[0][:, 2:]
    inside = np.clip(np.where(np.isnan(x), low, x), low, high)
    basis = spline(inside)
    slopes = spline(ends, nu=1)
    basis += np.minimum(x - low, 0.0)[:, None] * slopes[0]
    basis += np.maximum(x - high, 0.0)[:, None] * slopes[1]
    return np.ascontiguousarray(basis[:, first:] @ rotation)
