"""A linear model at given covariance parameters: what is there without a search.

Influence and posterior draws ask for many such points: other rows, other responses,
the same theta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.assembly import Assembly, TakenOut, assemble
from ranef.solve.structured.kept import SolvedRows
from ranef.solve.structured.problem import StructuredPoint, structured_problem

__all__ = ["LinearPoint", "linear_point", "stepped_point"]

Floats = NDArray[np.float64]

LEAST_CURVATURE = 1e-8
MOST_CHANGE = 2.0


@dataclass(frozen=True, eq=False)
class LinearPoint:
    """The linear model at one theta, sigma profiled out.

    Attributes
    ----------
    theta : (k,) float64 array
    criterion : float
        Minus twice the profiled (restricted) log-likelihood.
    beta : (p,) float64 array
    C : (p, p) float64 array
        (X'H^-1 X)^-1 with H = V / sigma^2.
    modes : tuple of (q, r) float64 arrays
    r2 : float
        y'Py, the penalised residual sum of squares.
    degrees : float
        n - p under REML, n under ML; sigma^2 = r2 / degrees.
    covariances : tuple of (r, r) float64 arrays
        Relative to sigma^2.
    """

    theta: Floats
    criterion: float
    beta: Floats
    C: Floats
    modes: tuple[Floats, ...]
    r2: float
    degrees: float
    covariances: tuple[Floats, ...]

    @property
    def sigma(self) -> float:
        return float(np.sqrt(self.r2 / self.degrees))


def linear_point(
    spec: Specification,
    theta: Floats,
    *,
    reml: bool = True,
    path: str | None = None,
    ranks: Mapping[int, int] | None = None,
    y: Floats | None = None,
    n_jobs: int | None = None,
) -> LinearPoint:
    """Solve the linear model at this theta.

    Parameters
    ----------
    spec : Specification
    theta : (k,) array
    reml : bool
    path : str or None
    ranks : mapping, optional
        Rank of each term that lies on a face.
    y : (n,) array, optional
        Another response than the specification's.
    n_jobs : int or None
        Threads of a problem that is not assembled yet.
    """
    if spec.residual is not None:
        return _structured_point(spec, np.asarray(theta), reml, y)
    assembly = assemble(spec, path, n_jobs)
    phi = assembly.phi(theta, dict(ranks or {}))
    taken = assembly.own if y is None else assembly.taken(y)
    state = assembly.core.state(taken.rest, reml, phi, False)
    return _point(assembly, state, np.asarray(theta), reml, taken)


def stepped_point(
    spec: Specification,
    theta: Floats,
    *,
    reml: bool = True,
    path: str | None = None,
    ranks: Mapping[int, int] | None = None,
    n_jobs: int | None = None,
) -> LinearPoint:
    """Solve the linear model one Newton step of theta further.

    The step goes along directions of positive curvature and is halved until the
    criterion falls; where it does not fall, theta stays.
    """
    if spec.residual is not None:
        return _structured_step(spec, np.asarray(theta), reml)
    assembly = assemble(spec, path, n_jobs)
    phi = assembly.phi(theta, dict(ranks or {}))
    taken = assembly.own
    here = assembly.core.state(taken.rest, reml, phi, True)
    step = _newton(here["gradient"], here["hessian"])
    reach = MOST_CHANGE * (np.abs(phi) + 0.1)
    step = step * min(1.0, float(np.min(reach / np.maximum(np.abs(step), 1e-300), initial=1.0)))
    for _ in range(4):
        there = assembly.core.state(taken.rest, reml, phi + step, False)
        if there["criterion"] <= here["criterion"]:
            moved = assembly.theta(phi + step, there["psi"], {})
            return _point(assembly, there, moved, reml, taken)
        step = step / 2
    return _point(assembly, here, np.asarray(theta), reml, taken)


def _structured_point(
    spec: Specification, theta: Floats, reml: bool, y: Floats | None = None
) -> LinearPoint:
    """The same where the residuals have a structure."""
    problem = structured_problem(spec, y)
    return _of_rows(SolvedRows(problem, _defined(problem.point(theta, reml, 0))))


def _structured_step(spec: Specification, theta: Floats, reml: bool) -> LinearPoint:
    problem = structured_problem(spec)
    here = _defined(problem.point(theta, reml, 1))
    step = _newton(here.gradient, here.hessian)
    for _ in range(4):
        there = problem.point(theta + step, reml, 0)
        if there is not None and there.criterion <= here.criterion:
            return _of_rows(SolvedRows(problem, there))
        step = step / 2
    return _of_rows(SolvedRows(problem, here))


def _defined(at: StructuredPoint | None) -> StructuredPoint:
    if at is None:
        raise ModelError(
            "the covariance of these rows is not positive definite at the fit's parameters"
        )
    return at


def _of_rows(found: SolvedRows) -> LinearPoint:
    problem, at = found.problem, found.at
    parts, _ = problem.split(at.theta)
    return LinearPoint(
        theta=at.theta,
        criterion=at.criterion,
        beta=problem.coefficients(at),
        C=problem.covariance(at),
        modes=found.modes(),
        r2=problem.scale**2 * at.r2,
        degrees=at.degrees,
        covariances=tuple(s.psi(p) for s, p in zip(problem.structures, parts, strict=True)),
    )


def _newton(gradient: Floats, hessian: Floats) -> Floats:
    values, vectors = np.linalg.eigh(hessian)
    keep = values > LEAST_CURVATURE * max(float(values.max(initial=0.0)), LEAST_CURVATURE)
    kept = vectors[:, keep]
    step: Floats = -(kept / values[keep]) @ (kept.T @ gradient)
    return step


def _point(
    assembly: Assembly, state: dict[str, Any], theta: Floats, reml: bool, taken: TakenOut
) -> LinearPoint:
    s, T = taken.scale, assembly.fixed.transform
    return LinearPoint(
        theta=theta,
        criterion=float(state["criterion"]) + float(assembly.criterion_shift(reml, s)),
        beta=T @ (taken.beta + s * state["beta"]),
        C=T @ state["fixed_covariance"] @ T.T,
        modes=assembly.modes(state["modes"], s),
        r2=s**2 * float(state["rss"]),
        degrees=float(state["degrees"]),
        covariances=assembly.covariances(state["psi"]),
    )
