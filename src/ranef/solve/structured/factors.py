"""Products of residual structures one of whose factors is singular at the optimum.

The likelihood sees a factor at the pairs of places that meet in a group, each times the other
factors. Where two places meet at a distance only, a correlation of theirs above one is as good as
any for the rows at hand, but no covariance has it. Each factor is kept among the positive
semidefinite matrices by a barrier,

    f(theta) - mu sum over factors of log|A / (tr A / r)|,

as `marginal` does with R; here R stays definite, and no digits are lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.solve.optimum import Progress
from ranef.solve.structured.problem import StructuredPoint, StructuredProblem
from ranef.solve.structured.search import Found, search
from ranef.solve.structured.walls import Wall, added

__all__ = ["beside_singular_factor", "curvature_of_factors", "factor_is_singular"]

Floats = NDArray[np.float64]

WEIGHTS = (1.0, 1e-2, 1e-4, 1e-6, 1e-7)
"""Weights of the barrier, one after the other."""
STAGE = 80
"""Evaluations for one weight."""
SINGULAR = 1e-4
"""Least eigenvalue, of a unit diagonal, of a factor that counts as singular."""


def factor_wall(problem: StructuredProblem, own: Floats) -> Wall:
    """Evaluate the barrier of the factors; raises LinAlgError where one is not definite."""
    return added(problem.rows.factor_jets(own), problem.rows.n_parameters)


def factor_is_singular(problem: StructuredProblem, theta: Floats) -> bool:
    """Whether a factor of a product has hardly an inverse."""
    least = 1.0
    for jet in problem.rows.factor_jets(problem.split(theta)[1]):
        sd = np.sqrt(np.diag(jet.value[0]))
        least = min(least, float(np.linalg.eigvalsh(jet.value[0] / np.outer(sd, sd))[0]))
    return least < SINGULAR


def curvature_of_factors(problem: StructuredProblem, at: StructuredPoint) -> Floats:
    """The barrier's share (k, k) of the Hessian at an optimum with a singular factor, or zero."""
    out = np.zeros((problem.n_parameters,) * 2)
    if problem.rows.factors and factor_is_singular(problem, at.theta):
        f = problem.n_random
        barrier = factor_wall(problem, at.theta[f:])
        out[f:, f:] = barrier.weight(at.gradient[f:]) * barrier.hessian
    return out


@dataclass(frozen=True, eq=False)
class _Guarded(StructuredProblem):
    """The same model with a barrier of weight mu around its factors."""

    mu: float = 0.0

    def point(self, theta: Floats, reml: bool, level: int = 1) -> StructuredPoint | None:
        """Evaluate the criterion and its barrier; None where one is not defined."""
        at = super().point(theta, reml, level)
        return None if at is None else _with_wall(self, at, self.mu, level > 0)


def _with_wall(
    problem: StructuredProblem, at: StructuredPoint, mu: float, derivatives: bool = True
) -> StructuredPoint:
    f = problem.n_random
    barrier = factor_wall(problem, at.theta[f:])
    gradient, hessian = at.gradient.copy(), at.hessian.copy()
    if derivatives:
        gradient[f:] += mu * barrier.gradient
        hessian[f:, f:] += mu * barrier.hessian
    criterion = at.criterion + mu * barrier.value
    return replace(at, criterion=criterion, gradient=gradient, hessian=hessian)


def beside_singular_factor(
    problem: StructuredProblem, starts: list[Floats], reml: bool, progress: Progress | None
) -> Found | None:
    """The lowest end of the barrier's path from some starts; None where none is proved."""
    guarded = _Guarded(**{name: getattr(problem, name) for name in problem.__dataclass_fields__})
    ends = [_path(guarded, start, reml, progress) for start in starts]
    proved = [end for end in ends if end is not None and end.converged]
    if not proved:
        return None
    best = min(proved, key=lambda end: end.at.criterion)
    agreeing = sum(end.at.criterion < best.at.criterion + 1e-4 for end in proved)
    evaluations = sum(end.evaluations for end in ends if end is not None)
    return replace(best, evaluations=evaluations, starts=len(starts), agreeing=agreeing)


def _path(guarded: _Guarded, theta: Floats, reml: bool, progress: Progress | None) -> Found | None:
    """Its end with the criterion itself, and the derivatives with which it is proved."""
    last, evaluations = None, 0
    held = np.zeros(guarded.n_parameters, dtype=np.bool_)
    held[guarded.n_random :] = ~guarded.rows.loose(theta[guarded.n_random :])
    for mu in WEIGHTS:
        last = search(replace(guarded, mu=mu), [theta], reml, STAGE, progress, held=held)
        if last is None:
            return None
        theta, evaluations = last.at.theta, evaluations + last.evaluations
    assert last is not None
    bare = StructuredProblem.point(guarded, theta, reml, 0)
    assert bare is not None
    return replace(last, at=replace(last.at, criterion=bare.criterion), evaluations=evaluations)
