"""From a name of the formula language to a structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.correlated import Correlated
from ranef.covariance.correlation import (
    Autoregressive,
    Correlation,
    Exchangeable,
    Exponential,
    Gaussian,
    Matern,
    Toeplitz,
    Uncorrelated,
)
from ranef.covariance.diagonal import Diagonal
from ranef.covariance.loadings import Loadings
from ranef.covariance.structure import Structure
from ranef.errors import ModelError, suggestion

__all__ = [
    "POSITIONED",
    "STRUCTURES",
    "TermLike",
    "parameter_names",
    "relative_covariance",
    "structure",
    "structure_of",
]

Floats = NDArray[np.float64]


class TermLike(Protocol):
    """What a random term must tell."""

    @property
    def structure(self) -> str:
        """Name in the formula language."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def rank(self) -> int | None:
        """Number of dimensions of ``rr``."""

    @property
    def positions(self) -> Floats | None:
        """Coordinates of the columns (r, d)."""


HOMOGENEOUS = frozenset({"homdiag", "homcs", "ar1", "homtoep", "ou", "exp", "gau", "mat"})
"""Kinds with one standard deviation for all columns."""
POSITIONED = frozenset({"ar1", "hetar1", "ou", "exp", "gau", "mat"})
"""Kinds that read positions; ar1 and hetar1 count the columns where there are none."""

CORRELATIONS: dict[str, Callable[[Floats], Correlation]] = {
    "homdiag": Uncorrelated,
    "cs": Exchangeable,
    "homcs": Exchangeable,
    "ar1": Autoregressive,
    "hetar1": Autoregressive,
    "toep": Toeplitz,
    "homtoep": Toeplitz,
    "ou": lambda distance: Exponential(distance, rate=True),
    "exp": Exponential,
    "gau": Gaussian,
    "mat": Matern,
}
STRUCTURES = ("us", "diag", *CORRELATIONS, "rr", "kernel")
"""Every name of the formula language."""


def structure(
    kind: str, size: int, rank: int | None = None, positions: Floats | None = None
) -> Structure:
    """Return the covariance structure of a random term.

    Parameters
    ----------
    kind : str
        A name of the formula language, one of `STRUCTURES`. ``"kernel"`` is
        unstructured between columns; its kernel is between levels.
    size : int
        Number of columns r.
    rank : int, optional
        Number of dimensions of ``rr``.
    positions : (r, d) float64 array, optional
        Coordinates of the columns, see `POSITIONED`.

    Examples
    --------
    >>> structure("cs", 3).description
    'compound symmetric, one correlation for all pairs, a standard deviation for each'
    >>> structure("exp", 3, positions=np.array([[0.0], [1.0], [4.0]])).parameter_names()
    ('sd', 'range')
    """
    if kind not in STRUCTURES:
        raise ModelError(
            f"no covariance structure {kind!r}{suggestion(kind, STRUCTURES)}; "
            f"there are {', '.join(STRUCTURES)}"
        )
    if kind in ("us", "kernel"):
        return Loadings(kind, size, size)
    if kind == "rr":
        if rank is None:
            raise ModelError("rr needs its number of dimensions: rr(f | g, 2)")
        return Loadings(kind, size, rank)
    if kind == "diag":
        return Diagonal(kind, size)
    correlation = None if size == 1 else CORRELATIONS[kind](_distances(kind, size, positions))
    return Correlated(kind, size, kind in HOMOGENEOUS, correlation)


def structure_of(term: TermLike) -> Structure:
    """Return the covariance structure of a `RandomTerm`."""
    return structure(term.structure, len(term.names), term.rank, term.positions)


def parameter_names(
    kind: str, names: Sequence[str], rank: int | None = None, positions: Floats | None = None
) -> tuple[str, ...]:
    """Names of the entries of theta of one term.

    Examples
    --------
    >>> parameter_names("hetar1", ["day1", "day2"])
    ('sd(day1)', 'sd(day2)', 'corr')
    """
    if positions is None and kind in POSITIONED:
        positions = np.arange(len(names), dtype=np.float64)[:, None]
    return structure(kind, len(names), rank, positions).parameter_names(names)


def relative_covariance(kind: str, theta: Floats, term: TermLike) -> Floats:
    """Psi / sigma^2 (r, r) of one term.

    Parameters
    ----------
    kind : str
        Name of the structure.
    theta : (k,) float64 array
        Reported parameters of the term.
    term : RandomTerm
        Its names, rank and positions.
    """
    return structure(kind, len(term.names), term.rank, term.positions).psi(theta)


def _distances(kind: str, size: int, positions: Floats | None) -> Floats:
    """Distances between the columns, (r, r); lags where the order says all."""
    if kind not in POSITIONED or (positions is None and kind in ("ar1", "hetar1")):
        positions = np.arange(size, dtype=np.float64)[:, None]
    if positions is None or len(positions) != size or np.ndim(positions) != 2:
        raise ModelError(f"{kind} needs a position for each of the {size} columns")
    positions = np.asarray(positions, dtype=np.float64)
    if not np.all(np.isfinite(positions)):
        raise ModelError(f"{kind}: a position is not finite")
    if kind in ("ar1", "hetar1", "ou") and positions.shape[1] != 1:
        raise ModelError(
            f"{kind} needs positions in one dimension, not {positions.shape[1]}; "
            "use exp, gau or mat"
        )
    if kind in ("ar1", "hetar1") and np.any(positions != np.floor(positions)):
        raise ModelError(f"{kind} needs whole numbers as positions; for times in between use ou")
    distance = np.sqrt(np.sum((positions[:, None] - positions) ** 2, axis=2))
    same = np.argwhere(np.triu(distance == 0.0, 1))
    if len(same):
        first, second = same[0] + 1
        raise ModelError(
            f"{kind}: columns {first} and {second} have the same position; give each position once"
        )
    return np.asarray(distance)
