"""The working correlations of population-averaged models by name, and the times they need."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion

__all__ = [
    "CORRELATIONS",
    "ESTIMATORS",
    "ODDS_RATIOS",
    "TIMED",
    "grid_of",
    "read_correlation",
]

Floats = NDArray[np.float64]

CORRELATIONS = (
    "independence",
    "exchangeable",
    "ar1",
    "car1",
    "m-dependent(1)",
    "toeplitz",
    "unstructured",
    "fixed",
    "nested",
    "log odds ratio",
    "global odds ratio",
    "local odds ratio",
)
ODDS_RATIOS = ("log odds ratio", "global odds ratio", "local odds ratio")
TIMED = ("ar1", "car1", "m-dependent", "toeplitz", "unstructured", "fixed")
ESTIMATORS = ("all", "adjacent", "ordgee")
M_DEPENDENT = r"m-dependent\((?:m=)?(\d+)(?:,(?:stationary=)?(true|false))?\)"
GRID = 1e-6


def read_correlation(name: Any) -> tuple[str, int, bool]:
    """Read a correlation: its name, its reach, and whether it is the same at all times.

    Examples
    --------
    >>> read_correlation("m-dependent(2, stationary=False)"), read_correlation("ar1")
    (('m-dependent', 2, False), ('ar1', 0, True))
    """
    if isinstance(name, str):
        plain = "".join(name.split()).lower()
        plain = {"".join(name.split()): name for name in ODDS_RATIOS}.get(plain, plain)
        found = re.fullmatch(M_DEPENDENT, plain)
        if found and int(found[1]) > 0:
            return "m-dependent", int(found[1]), found[2] != "false"
        if plain in CORRELATIONS:
            return plain, 0, True
    hint = suggestion(name, CORRELATIONS) if isinstance(name, str) else ""
    raise ModelError(
        f"correlation={name!r} is not known{hint}; there are {', '.join(CORRELATIONS)} (with any "
        "reach, and 'm-dependent(2, stationary=False)')"
    )


def grid_of(times: Floats, name: str, correlation: str) -> tuple[float, float]:
    """First time and step of the grid that times lie on.

    Raises
    ------
    ModelError
        When they lie on none.

    Examples
    --------
    >>> grid_of(np.array([8.0, 10.0, 14.0]), "age", "ar1")
    (8.0, 2.0)
    """
    places = np.unique(times)
    if len(places) == 1:
        return float(places[0]), 1.0
    step = float(np.diff(places).min())
    index = (places - places[0]) / step
    if np.abs(index - np.round(index)).max() > GRID * max(1.0, float(index[-1]) * 1e-3):
        step = _common_step(places)
        index = (places - places[0]) / step
    if np.abs(index - np.round(index)).max() > 1e-4 or index[-1] > 1e6:
        raise ModelError(
            f"the times in {name!r} lie on no grid, so that correlation={correlation!r} has no "
            "distance in steps: use 'car1', whose correlation falls with time itself, or round "
            "the times"
        )
    return float(places[0]), step


def _common_step(places: Floats) -> float:
    """Greatest common divisor of the differences, by Euclid with rounding."""
    a = 0.0
    for b in np.diff(places).tolist():
        a, b = max(a, b), min(a, b)
        while b > GRID * a and b > 1e-9:
            a, b = b, a % b
            if a - b < GRID * a:
                b = 0.0
    return a
