"""What the search for the optimum found, and the proof that it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_EVALUATIONS", "Face", "Optimum", "Progress"]

Floats = NDArray[np.float64]
Progress = Callable[[int, float, float], object]
"""Called after each evaluation with its number, the criterion and the decrement."""

MAX_EVALUATIONS = 500
"""Factorisations of one search at most."""


@dataclass(frozen=True)
class Face:
    """A boundary that a term's covariance matrix lies on.

    Attributes
    ----------
    term : int
        Index of the random term.
    rank : int
        Rank of the term's covariance matrix at the optimum.
    size : int
        Its order.
    description : str
        In words: ``"the variance of Days is zero"``, ``"the correlation of
        (Intercept) and Days is -1"``.
    curvature : float
        Smallest eigenvalue of N'GN, G the derivative of the criterion with
        respect to the covariance matrix, N its null space. Not negative at an
        optimum: leaving the face would raise the criterion.
    """

    term: int
    rank: int
    size: int
    description: str
    curvature: float


@dataclass(frozen=True, eq=False)
class Optimum:
    """The end of the search.

    Attributes
    ----------
    criterion : float
        Minus twice the (restricted) log-likelihood.
    theta : (k,) float64 array
        Relative covariance parameters: formula order of terms, column-major
        lower triangle of each term's factor, non-negative diagonal.
    gradient : (k,) float64 array
        Exact gradient of the criterion with respect to theta.
    decrement : float
        Decrease that a further Newton step predicts.
    tolerance : float
        What the decrement had to fall below; it grows with the rounding of
        the criterion.
    converged : bool
        True when gradient, decrement and the conditions on every face prove
        a (local) optimum.
    faces : tuple of Face
    evaluations : int
        Factorisations, all restarts included.
    restarts : int
    path : str
        ``"single"``, ``"nested"``, ``"crossed"`` or ``"sparse"``.
    trace : (evaluations, ) float64 array
        Criterion at each evaluation.
    message : str
    phi : (k,) float64 array or None
        Where the search ended, as the core takes it: `theta` but for rounding. None
        where that is not known.
    """

    criterion: float
    theta: Floats
    gradient: Floats
    decrement: float
    tolerance: float
    converged: bool
    faces: tuple[Face, ...]
    evaluations: int
    restarts: int
    path: str
    trace: Floats
    message: str
    phi: Floats | None = None

    @property
    def singular(self) -> bool:
        """True when a covariance matrix has less than full rank."""
        return bool(self.faces)

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Rank of each term that lies on a face."""
        return {face.term: face.rank for face in self.faces}
