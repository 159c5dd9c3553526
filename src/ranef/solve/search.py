"""The search for the optimum, of one response or of many.

May import `_core`, `covariance`, `design.specification`, `errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.assembly import Assembly, Parametrisation, Term, assemble
from ranef.solve.optimum import Face, Optimum

if TYPE_CHECKING:
    pass

__all__ = ["Progress", "Solution", "fit", "ranks_of", "theta_gradient"]

Floats = NDArray[np.float64]
Progress = Callable[[int, float, float], object]

MAX_EVALUATIONS = 500


@dataclass(frozen=True, eq=False)
class Solution:
    """What the search found, on the user's scale.

    Attributes
    ----------
    beta : (p,) float64 array
    vcov : (p, p) float64 array
        Covariance of beta given theta, sigma included.
    theta : (k,) float64 array
    sigma : float
    covariances : tuple of (r, r) float64 arrays
    modes : tuple of (q, r) float64 arrays
    optimum : Optimum
    """

    beta: Floats
    vcov: Floats
    theta: Floats
    sigma: float
    covariances: tuple[Floats, ...]
    modes: tuple[Floats, ...]
    optimum: Optimum


def fit(
    spec: Specification,
    *,
    reml: bool = True,
    path: str | None = None,
    start: Floats | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Find the optimum of the profiled (restricted) deviance.

    Parameters
    ----------
    spec : Specification
    reml : bool
    path : str or None
        Force a path; None takes the cheapest.
    start : (k,) array or None
        Reported parameters to start from.
    max_evaluations : int
        Factorisations at most.
    n_jobs : int or None
        Threads.
    progress : callable or None
        Called after each evaluation with its number, the criterion (up to a
        constant) and the last decrement.

    Raises
    ------
    ModelError
        When the design does not fit the path or the memory, the response does
        not vary, or `start` has the wrong length.
    """
    assembly = assemble(spec, path, n_jobs)
    taken = assembly.own
    phi = None if start is None else _checked_start(assembly, start)
    found = assembly.core.fit(taken.rest, reml, phi, max_evaluations, progress)
    if not np.isfinite(found["criterion"]):
        raise ModelError(
            "the likelihood is unbounded: the random effects can reproduce the response exactly "
            "(as many effects as rows?); use fewer random effects"
        )
    return _solution(assembly, found, taken.beta, taken.scale, reml)


def _checked_start(assembly: Assembly, start: Floats) -> Floats:
    theta = np.asarray(start, dtype=np.float64)
    count = sum(t.count for t in assembly.terms)
    if theta.shape != (count,) or not np.all(np.isfinite(theta)):
        raise ModelError(f"start must hold {count} finite numbers, one for each entry of theta")
    return assembly.phi(theta, {})


def ranks_of(optimum: Optimum) -> dict[int, int]:
    """Rank of each term that lies on a face."""
    return {face.term: face.rank for face in optimum.faces}


def term_order(assembly: Parametrisation) -> list[int]:
    """Index of the random term for each term of the core, in the core's order."""
    return [i for block in assembly.blocks for i in block.terms]


def _solution(
    assembly: Assembly, found: dict[str, Any], beta0: Floats, scale: float, reml: bool
) -> Solution:
    theta, faces = theta_and_faces(assembly, found)
    shift = float(assembly.criterion_shift(reml, scale))
    optimum = Optimum(
        criterion=float(found["criterion"]) + shift,
        theta=theta,
        gradient=chain_rule(assembly, theta, found["psi_gradient"]),
        decrement=found["decrement"],
        tolerance=found["tolerance"],
        converged=found["converged"],
        faces=faces,
        evaluations=found["evaluations"],
        restarts=found["restarts"],
        path=assembly.layout.path,
        trace=found["trace"] + shift,
        message=found["message"],
        phi=found["phi"],
    )
    return _on_user_scale(assembly, found, beta0, scale, theta, optimum)


def theta_and_faces(
    assembly: Parametrisation, found: dict[str, Any]
) -> tuple[Floats, tuple[Face, ...]]:
    """Reported parameters at the end of a search, and the boundaries they lie on."""
    order = term_order(assembly)
    ranks = {order[number]: int(rank) for number, rank, _ in found["faces"]}
    theta = assembly.theta(found["phi"], found["psi"], ranks)
    faces = tuple(
        _face(assembly.terms[order[number]], order[number], theta, assembly, rank, curvature)
        for number, rank, curvature in found["faces"]
    ) + _edges(assembly, theta, found, set(ranks))
    return theta, faces


def _on_user_scale(
    assembly: Assembly,
    state: dict[str, Any],
    beta0: Floats,
    scale: float,
    theta: Floats,
    optimum: Optimum,
) -> Solution:
    sigma2 = scale**2 * state["rss"] / state["degrees"]
    T = assembly.fixed.transform
    return Solution(
        beta=T @ (beta0 + scale * state["beta"]),
        vcov=sigma2 * (T @ state["fixed_covariance"] @ T.T),
        theta=theta,
        sigma=float(np.sqrt(sigma2)),
        covariances=tuple(sigma2 * t.psi_user(state["psi"][t.block]) for t in assembly.terms),
        modes=tuple(
            scale * state["modes"][t.block][:, t.first : t.first + t.size] for t in assembly.terms
        ),
        optimum=optimum,
    )


def _face(
    term: Term, index: int, theta: Floats, assembly: Parametrisation, rank: int, curvature: float
) -> Face:
    part = assembly.split(theta)[index]
    words = term.structure.boundary(part, term.term.names)
    text = "; ".join(words) if words else f"rank {rank} of {term.size}"
    return Face(index, rank, term.size, text, float(curvature))


def _edges(
    assembly: Parametrisation, theta: Floats, found: dict[str, Any], known: set[int]
) -> tuple[Face, ...]:
    """Find structured terms at the end of a parameter's range (a correlation of one, say).

    Such an end is an ordinary stationary point of phi: what proves it is the
    curvature there.
    """
    faces = []
    for i, (term, part) in enumerate(zip(assembly.terms, assembly.split(theta), strict=True)):
        if i in known or term.term.structure in ("us", "diag"):
            continue
        words = term.structure.boundary(part, term.term.names)
        if words:
            rank = int(np.linalg.matrix_rank(term.structure.psi(part), hermitian=True))
            stuck = term.offset + np.flatnonzero(~term.structure.free(part))
            curvature = min((float(found["hessian"][j, j]) for j in stuck), default=0.0)
            faces.append(Face(i, rank, term.size, "; ".join(words), curvature))
    return tuple(faces)


def chain_rule(assembly: Parametrisation, theta: Floats, psi_gradient: list[Floats]) -> Floats:
    """Turn d criterion / d Psi into the gradient in the reported parameters."""
    parts = []
    for term, part in zip(assembly.terms, assembly.split(theta), strict=True):
        G = term.gradient_user(psi_gradient[term.block])
        parts.append(np.einsum("kij,ij->k", term.structure.derivatives(part), G))
    return np.concatenate(parts)


def theta_gradient(
    assembly: Assembly, theta: Floats, ranks: dict[int, int], y: Floats, reml: bool
) -> Floats:
    """Exact gradient of the criterion with respect to the reported parameters, anywhere."""
    state = assembly.core.state(y, reml, assembly.phi(theta, ranks), True)
    return chain_rule(assembly, theta, state["psi_gradient"])
