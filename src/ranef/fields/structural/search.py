"""The search for the optimum, and its proof.

Far from the optimum steps are scored by the expected information, near it a quasi-Newton
method goes on (Broyden, Fletcher, Goldfarb & Shanno); the end is Newton's method with the
observed information, which proves the optimum: positive definite, and no step left to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Search", "SearchEnd", "minimise"]

Floats = NDArray[np.float64]
SCORING = 30
QUASI = 400
POLISH = 12
TOLERANCE = 1e-9
NEAR = 1e-8
"""Gain in -2 log L over which second derivatives do not change."""
SINGULAR = 3e-7
"""Eigenvalue of the scaled information below which a direction is not determined."""
UNBOUNDED = (
    "the search came to where the likelihood has no value, and may grow without bound: a variance "
    "goes to zero, or a level has more parameters than units"
)


@dataclass(frozen=True, eq=False)
class SearchEnd:
    """Where a search ended.

    Attributes
    ----------
    theta : (P,) array
    value : float
        -2 log L.
    gradient : (P,) array
    hessian : (P, P) array or None
        Second derivatives of -2 log L, where they were made; without a proof what the search took
        for them.
    decrement : float
        What one further Newton step would gain in -2 log L.
    smallest : float
        Smallest eigenvalue of the Hessian, relative to its diagonal.
    converged : bool
    evaluations : int
    message : str
    """

    theta: Floats
    value: float
    gradient: Floats
    hessian: Floats | None
    decrement: float
    smallest: float
    converged: bool
    evaluations: int
    message: str


@dataclass(frozen=True, eq=False)
class Search:
    """What is minimised.

    Attributes
    ----------
    value_gradient : callable
        theta -> (-2 log L, gradient); NaN where the likelihood has no value.
    metric : callable or None
        theta -> a positive semidefinite matrix near the Hessian of -2 log L.
    hessian : callable
        theta -> second derivatives of -2 log L.
    """

    value_gradient: Callable[[Floats], tuple[float, Floats]]
    metric: Callable[[Floats], Floats] | None
    hessian: Callable[[Floats], Floats]
    watch: Callable[[int, float, float], object] | None = None


def minimise(
    search: Search, start: Floats, *, proof: bool = True, curvature: Floats | None = None,
    steps: int = QUASI,
) -> SearchEnd:  # fmt: skip
    """Minimise from a start where the criterion has a value.

    Parameters
    ----------
    search : Search
    start : (P,) array
    proof : bool
        Whether to end with the observed information; else the metric tells what a step would
        gain.
    curvature : (P, P) array, optional
        Second derivatives of -2 log L near the start, in place of those of the metric.
    steps : int
        Most quasi-Newton steps.
    """
    state = _State(search, np.array(start, dtype=np.float64))
    if len(start) == 0:
        return SearchEnd(
            state.x, state.f, state.g, np.zeros((0, 0)), 0.0, 1.0, bool(np.isfinite(state.f)),
            1, "there is nothing to estimate",
        )  # fmt: skip
    if curvature is None:
        state.scoring()
    state.H = curvature
    state.quasi(steps)
    if proof:
        for _ in range(4):
            if state.polish():
                break
            state.quasi()
    return state.end(proof)


class _State:
    def __init__(self, search: Search, x: Floats) -> None:
        self.search, self.x = search, x
        self.evaluations = 0
        self.f, self.g = self.evaluate(x)
        self.H: Floats | None = None
        self.B: Floats | None = None
        self.decrement = np.inf
        self.smallest = np.nan
        self.message = ""

    def evaluate(self, x: Floats) -> tuple[float, Floats]:
        self.evaluations += 1
        with np.errstate(all="ignore"):
            try:
                f, g = self.search.value_gradient(x)
            except np.linalg.LinAlgError:
                return np.inf, np.full(len(x), np.nan)
        if self.search.watch is not None:
            self.search.watch(self.evaluations, f, self.__dict__.get("decrement", np.inf))
        if not np.isfinite(f) or not np.isfinite(g).all():
            return np.inf, g
        return f, g

    def tolerance(self) -> float:
        """What rounding of the criterion leaves to gain."""
        return TOLERANCE + 1e-14 * abs(self.f)

    def metric(self) -> Floats | None:
        if self.search.metric is None:
            return None
        try:
            with np.errstate(all="ignore"):
                M = self.search.metric(self.x)
        except np.linalg.LinAlgError:
            return None
        return M if np.isfinite(M).all() else None

    def scoring(self) -> None:
        """Fisher scoring with a damped step (Levenberg 1944)."""
        damping = 0.0
        for _ in range(SCORING):
            M = self.metric()
            if M is None:
                break
            scale = np.maximum(np.diag(M), 1e-12 * max(float(np.diag(M).max()), 1e-300))
            root = np.sqrt(scale)
            correlated = M / np.outer(root, root)
            before = self.f
            for _ in range(12):
                damped = correlated + (damping + 1e-10) * np.eye(len(root))
                step = -_solved(damped, self.g / root) / root
                predicted = -float(self.g @ step) / 2
                f, g = self.evaluate(self.x + step)
                if f < self.f - 0.1 * predicted * (predicted > self.tolerance()):
                    self.x, self.f, self.g = self.x + step, f, g
                    damping = 0.0 if damping < 1e-3 else damping / 5
                    break
                damping = max(10 * damping, 1e-3)
            else:
                break
            gain = before - self.f
            if predicted < 1e-3 or gain < 0.02:
                break

    def quasi(self, steps: int = QUASI) -> None:
        """Quasi-Newton steps from the metric's estimate of the Hessian."""
        B = self.H if self.H is not None else self.metric()
        if B is None:
            B = self.search.hessian(self.x)
        B = _positive(B)
        failed = 0
        for _ in range(steps):
            step = -_solved(B, self.g)
            slope = float(self.g @ step)
            self.decrement = -slope / 2
            if not np.isfinite(slope) or slope >= 0:
                B = _positive(np.diag(np.diag(B)))
                failed += 1
                if failed > 3:
                    break
                continue
            if self.decrement < self.tolerance() / 10:
                break
            t, found = 1.0, False
            for _ in range(25):
                f, g = self.evaluate(self.x + t * step)
                if f <= self.f + 1e-4 * t * slope:
                    found = True
                    break
                ratio = -slope * t / (2 * (f - self.f - slope * t)) if np.isfinite(f) else 0.25
                t *= min(0.5, max(0.1, ratio))
            if not found:
                failed += 1
                if failed > 2:
                    break
                again = self.metric()
                B = _positive(again if again is not None else self.search.hessian(self.x))
                continue
            s, y = t * step, g - self.g
            self.x, self.f, self.g = self.x + s, f, g
            Bs = B @ s
            curve, own = float(s @ y), float(s @ Bs)
            if not 0 < own < np.inf or not np.isfinite(curve):
                break
            if curve < 0.2 * own:  # Powell's damping keeps it positive definite
                mix = 0.8 * own / (own - curve)
                y = mix * y + (1 - mix) * Bs
                curve = float(s @ y)
            B = B + np.outer(y, y) / curve - np.outer(Bs, Bs) / own
        self.B = B

    def polish(self) -> bool:
        """Newton steps with the observed information; False where it is not definite."""
        for _ in range(POLISH):
            self.H = self.search.hessian(self.x)
            found = _spectrum(self.H)
            if found is None:
                self.message = UNBOUNDED
                self.decrement = np.inf
                return True
            root, values, vectors = found
            self.smallest = float(values[0])
            clear = np.maximum(np.abs(values), 1e-8)
            inside = vectors.T @ (self.g / root)
            self.decrement = float(np.sum(inside**2 / clear)) / 2
            if self.smallest < -1e-6 and self._descend(vectors[:, 0] / root):
                return False
            if self.decrement < self.tolerance():
                return True
            step = -(vectors @ (inside / clear)) / root
            before = self.f
            if not self._advance(step):
                return True
            if before - self.f < NEAR and self.smallest > 1e-8:
                inside = vectors.T @ (self.g / root)
                self.decrement = float(np.sum(inside**2 / clear)) / 2
                if self.decrement < self.tolerance():
                    return True
        return True

    def _advance(self, step: Floats) -> bool:
        """Take Newton steps with one Hessian while they gain."""
        moved = False
        for _ in range(8):
            t = 1.0
            for _ in range(20):
                f, g = self.evaluate(self.x + t * step)
                if f <= self.f:
                    break
                t /= 3
            else:
                return moved
            gained = self.f - f
            self.x, self.f, self.g = self.x + t * step, f, g
            moved = True
            if gained < self.tolerance() or t < 1:
                return moved
            assert self.H is not None
            step = -_solved(_positive(self.H), self.g)
        return moved

    def _descend(self, direction: Floats) -> bool:
        """Leave a saddle along a direction of negative curvature."""
        for size in (1.0, 0.3, 0.1, 0.03, 0.01):
            for sign in (1.0, -1.0):
                f, g = self.evaluate(self.x + sign * size * direction)
                if f < self.f - 1e-8:
                    self.x, self.f, self.g = self.x + sign * size * direction, f, g
                    self.H = None
                    return True
        return False

    def end(self, proof: bool) -> SearchEnd:
        if not proof:
            M = self.metric()
            M = self.B if M is None else M
            if M is not None:
                self.decrement = float(self.g @ _solved(_positive(M), self.g)) / 2
            definite = True
        else:
            definite = bool(self.smallest > SINGULAR)
        fine = bool(np.isfinite(self.f)) and self.decrement < 1e3 * self.tolerance() and definite
        if fine:
            message = "optimum proved" if proof else "no step is left to gain"
        elif not np.isfinite(self.f):
            message = "the likelihood has no value at the start"
        elif not definite and self.decrement < 1e3 * self.tolerance():
            message = "the information is singular: the data do not determine every parameter"
        else:
            message = self.message or "the search ended before the optimum"
        return SearchEnd(
            self.x, self.f, self.g, self.H if proof else self.B, self.decrement, self.smallest,
            fine, self.evaluations, message,
        )  # fmt: skip


def _spectrum(M: Floats, least: float = 1e-300) -> tuple[Floats, Floats, Floats] | None:
    """Scale, eigenvalues and eigenvectors of a matrix of unit diagonal; None without any."""
    if not np.isfinite(M).all():
        return None
    root = np.sqrt(np.maximum(np.abs(np.diag(M)), least))
    try:
        values, vectors = np.linalg.eigh(M / np.outer(root, root))
    except np.linalg.LinAlgError:
        return None
    return root, values, vectors


def _positive(M: Floats) -> Floats:
    """Return a positive definite matrix: eigenvalues of the scaled one in absolute value."""
    if not np.isfinite(M).all():
        return np.eye(len(M)) * max(float(np.nanmax(np.abs(np.diag(M)), initial=1.0)), 1.0)
    found = _spectrum(M, 1e-12 * max(float(np.abs(M).max()), 1e-300))
    if found is None:
        return np.diag(np.maximum(np.abs(np.diag(M)), 1.0))
    root, values, vectors = found
    values = np.maximum(np.abs(values), 1e-6)
    return np.asarray((vectors * values) @ vectors.T * np.outer(root, root))


def _solved(M: Floats, g: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(M, g))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(M, g, rcond=None)[0])
