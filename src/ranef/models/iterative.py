"""The linear mixed model by the iterative path: a specification in, an estimate out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.models.records import CONDITIONAL, LinearEstimate
from ranef.solve.assembly import FixedScale, check_memory, scale_fixed
from ranef.solve.iterative import SETTLED, IterativeEnd, check_iterative, solve_iteratively
from ranef.solve.layout import choose_layout
from ranef.solve.optimum import Face, MonteCarlo, Optimum, Progress
from ranef.solve.resources import available_cores

__all__ = ["fit_iteratively"]

Floats = NDArray[np.float64]


def fit_iteratively(
    spec: Specification,
    *,
    reml: bool,
    start: Floats | None,
    rng: int | np.random.Generator | None,
    n_jobs: int | None,
    progress: Progress | None,
) -> LinearEstimate:
    """Fit two crossed random terms or more by conjugate gradients and random probes.

    Parameters as in `fit_lmm`; see `solve.iterative`.

    Raises
    ------
    ModelError
        When a term has several columns or a kernel, memory does not suffice, or the
        conjugate gradients do not arrive.
    """
    check_iterative(spec)
    check_memory(choose_layout(spec, "iterative")[1])
    if start is not None and len(start) != len(spec.terms):
        raise ModelError(f"start must hold {len(spec.terms)} numbers, one for each entry of theta")
    fixed = scale_fixed(spec.X)
    y = spec.y if spec.offset is None else spec.y - spec.offset
    X = fixed.X * fixed.scale
    taken = np.linalg.solve(fixed.gram, X.T @ y)
    rest = y - X @ taken
    scale = float(np.sqrt(np.mean(rest**2)))
    if not scale > 1e-10 * float(np.sqrt(np.mean(y**2))):
        raise ModelError(f"the fixed effects reproduce the response {spec.response} exactly")
    end = solve_iteratively(
        spec, fixed, rest / scale, reml=reml, start=start,
        rng=arguments.generator(0 if rng is None else rng),
        threads=available_cores(n_jobs), progress=progress,
    )  # fmt: skip
    sigma2 = scale**2 * end.r2 / end.degrees
    T, theta = fixed.transform, end.theta / end.unit
    shift = 2 * end.degrees * float(np.log(scale)) - (2 * fixed.log_determinant if reml else 0.0)
    return LinearEstimate(
        parts={CONDITIONAL: spec},
        reml=reml,
        coefficients=T @ (taken + scale * end.beta),
        coefficient_vcov=sigma2 * (T @ end.vcov @ T.T),
        theta=theta,
        sigma=float(np.sqrt(sigma2)),
        covariances=tuple(np.array([[sigma2 * v**2]]) for v in theta),
        modes=tuple(scale * b[:, None] for b in end.modes),
        loglik=-0.5 * (end.criterion + shift),
        optimum=_optimum(spec, fixed, end, shift),
    )


def _optimum(spec: Specification, fixed: FixedScale, end: IterativeEnd, shift: float) -> Optimum:
    """Return the end of the search on the user's scale, with its Monte Carlo errors."""
    unit, T = end.unit, fixed.transform
    free = ~np.array(end.at_zero)
    error = np.zeros(len(unit))
    if free.any():
        inverse = np.linalg.inv(end.information[np.ix_(free, free)])
        moved = inverse @ end.score_error[np.ix_(free, free)] @ inverse
        error[free] = np.sqrt(np.diag(moved))
    faces = tuple(
        Face(int(t), 0, 1, f"the variance of {spec.terms[t].names[0]} is zero", 0.0)
        for t in np.flatnonzero(~free)
    )
    return Optimum(
        criterion=end.criterion + shift,
        theta=end.theta / unit,
        gradient=end.score * unit,
        decrement=end.decrement,
        tolerance=SETTLED,
        converged=end.converged,
        faces=faces,
        evaluations=len(end.trace),
        restarts=0,
        path="iterative",
        trace=np.array(end.trace) + shift,
        message="" if end.converged else "the score equations were not solved",
        monte_carlo=MonteCarlo(
            end.probes,
            end.criterion_error / 2,
            error / unit,
            end.information * np.outer(unit, unit),
            end.log_r2 * unit,
            unit[:, None, None] * (T @ end.vcov_slopes @ T.T),
        ),
    )
