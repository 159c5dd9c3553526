"""What the search for the optimum found, and the proof that it is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_EVALUATIONS", "Face", "FlatDirection", "MonteCarlo", "Optimum", "Progress"]

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


@dataclass(frozen=True)
class FlatDirection:
    """A combination of covariance parameters that the criterion does not depend on.

    Attributes
    ----------
    terms : tuple of int
        Random terms that take part.
    residual : bool
        Whether the residual variance takes part.
    description : str
        In words: ``"the fixed effects reproduce the effects of (1 | site), so that their
        standard deviation is not determined"``.
    """

    terms: tuple[int, ...]
    residual: bool
    description: str


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """What the iterative path estimated with probes of random signs.

    Attributes
    ----------
    probes : int
    loglik_error : float
        Standard error of the log-likelihood: how much other probes would move it.
    theta_error : (k,) float64 array
        The same of theta.
    information : (k, k) float64 array
        Average information about theta: the Hessian of the criterion, nearly.
    log_r2 : (k,) float64 array
        Derivative of log y'Py with respect to theta.
    vcov_slopes : (k, p, p) float64 array
        That of (X'H^-1X)^-1, of the user's columns.
    """

    probes: int
    loglik_error: float
    theta_error: Floats
    information: Floats
    log_r2: Floats
    vcov_slopes: Floats

    def sampling_error(self, theta: Floats) -> Floats:
        """Standard errors of theta that the sample itself leaves, (k,); 0 where theta is.

        By average information, sigma profiled out. What an estimate is off the truth has both
        parts: sqrt(theta_error^2 + sampling_error^2).
        """
        free = theta > 0
        out = np.zeros(len(theta))
        out[free] = np.sqrt(2 * np.diag(np.linalg.pinv(self.information[np.ix_(free, free)])))
        return out

    def words(self, theta: Floats) -> str:
        """Say how well the probes, and the sample, know the estimates."""
        size = np.where(theta > 0, theta, np.inf)
        most = 100 * float((self.theta_error / size).max(initial=0.0))
        own = [f"{100 * e:.2g}%" for e in (self.sampling_error(theta) / size)[theta > 0]]
        text = (
            f"the score equations are solved with {self.probes} random probes, which leave a "
            f"Monte Carlo standard error of {self.loglik_error:.2g} in the log-likelihood and of "
            f"at most {most:.2g}% in a random effect's standard deviation"
        )
        if not own:
            return text
        listed = own[0] if len(own) == 1 else f"{', '.join(own[:-1])} and {own[-1]}"
        return (
            f"{text}; the sample itself leaves {'one' if len(own) == 1 else 'ones'} of {listed} in "
            "these (relative to the residual's), and the truth is as far off as both together say"
        )


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
        Factorisations of the search that ended here, its restarts included.
    restarts : int
    path : str
        ``"single"``, ``"nested"``, ``"crossed"``, ``"sparse"`` or ``"iterative"``.
    trace : (evaluations, ) float64 array
        Criterion at each evaluation.
    message : str
    phi : (k,) float64 array or None
        Where the search ended, as the core takes it: `theta` but for rounding. None
        where that is not known.
    starts, agreeing : int
        Of how many searches from different starts this is the best, and how many ended
        as low.
    whole_range : bool
        Whether the criterion was looked at along the whole range of its one parameter, so
        that no other optimum is lower.
    flat : tuple of FlatDirection
        Directions in which the criterion does not change.
    elsewhere : (k,) float64 array or None
        Another theta, as good as this one, where there are such directions.
    monte_carlo : MonteCarlo or None
        Of the iterative path, whose criterion and gradient are estimates.
    ends : tuple of str
        Parameters of the residuals that stand at an end of their range, in words.
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
    starts: int = 1
    agreeing: int = 1
    whole_range: bool = False
    flat: tuple[FlatDirection, ...] = ()
    elsewhere: Floats | None = None
    monte_carlo: MonteCarlo | None = None
    ends: tuple[str, ...] = ()

    @property
    def reach(self) -> str:
        """How far the search for other optima went, in words.

        ``"global along the whole range"``, or ``"local, 3 starts agree"``.
        """
        if self.whole_range:
            return "global along the whole range"
        if self.starts == 1:
            return "local, 1 start"
        if self.agreeing == self.starts:
            return f"local, {self.starts} starts agree"
        return f"local, {self.agreeing} of {self.starts} starts agree"

    @property
    def singular(self) -> bool:
        """True when a covariance matrix has less than full rank."""
        return bool(self.faces)

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Rank of each term that lies on a face."""
        return {face.term: face.rank for face in self.faces}
