"""The linear mixed model: a specification in, an estimate out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.models.iterative import fit_iteratively
from ranef.models.records import CONDITIONAL, LinearEstimate
from ranef.models.structured import STRUCTURED_PATH, fit_structured
from ranef.solve.assembly import Assembly, assemble
from ranef.solve.flat import Predictor, as_good, looks_flat, may_exchange, with_flat_directions
from ranef.solve.optimum import MAX_EVALUATIONS, Optimum, Progress

__all__ = ["fit_lmm"]

Floats = NDArray[np.float64]
FURTHEST = 1e152

MOST_TURNS = 60
NOISY = 1e-8
"""Rounding, in parts of the criterion, beside which its second derivatives may hide a direction."""
STANDSTILL = 1e-6
"""Movement of the coefficients in their standard errors."""


def fit_lmm(
    spec: Specification,
    *,
    reml: bool = True,
    path: str | None = None,
    start: Floats | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    rng: Any = None,
) -> LinearEstimate:
    """Fit a linear mixed model: find the optimum of the profiled (restricted) deviance.

    Parameters
    ----------
    spec : Specification
    reml : bool
        Restricted likelihood (True) or likelihood.
    path : str or None
        ``"single"``, ``"nested"``, ``"crossed"``, ``"sparse"``; None takes the cheapest of
        these. ``"iterative"`` where no factorisation is possible, see `solve.iterative`.
    start : (k,) array or None
        Theta to start from.
    n_jobs : int or None
        Threads; None means the cores this process may use.
    progress : callable or None
        Called after each evaluation with its number, the criterion (up to a
        constant) and the last decrement.
    rng : int, Generator or None
        Draws the probes of the iterative path; None is 0.

    Raises
    ------
    ModelError
        When the design does not fit the path or the memory, the response does
        not vary, or `start` has the wrong length.
    """
    _check_reach(spec)
    if spec.residual is not None:
        return _structured(spec, reml, path, start, n_jobs, progress)
    if path == "iterative":
        return fit_iteratively(
            spec, reml=reml, start=start, rng=rng, n_jobs=n_jobs, progress=progress
        )
    assembly = assemble(spec, path, n_jobs)
    response = assembly.own
    phi = None if start is None else assembly.phi(assembly.checked(start), {})
    search = assembly.core.fit(response.rest, reml, phi, MAX_EVALUATIONS, progress)
    if not np.isfinite(search["criterion"]):
        raise ModelError(
            "the likelihood is unbounded: the random effects can reproduce the response exactly "
            "(as many effects as rows?); use fewer random effects"
        )
    sigma2 = response.scale**2 * search["rss"] / search["degrees"]
    T = assembly.fixed.transform
    optimum = _optimum(assembly, search, float(assembly.criterion_shift(reml, response.scale)))
    optimum = _with_flat_directions(assembly, search, optimum, reml)
    return LinearEstimate(
        parts={CONDITIONAL: spec},
        reml=reml,
        coefficients=T @ (response.beta + response.scale * search["beta"]),
        coefficient_vcov=sigma2 * (T @ search["fixed_covariance"] @ T.T),
        theta=optimum.theta,
        sigma=float(np.sqrt(sigma2)),
        covariances=assembly.covariances(search["psi"], sigma2),
        modes=assembly.modes(search["modes"], response.scale),
        loglik=-0.5 * optimum.criterion,
        optimum=optimum,
    )


def _check_reach(spec: Specification) -> None:
    """Refuse a response whose squares are beyond what a number holds."""
    reach = float(np.abs(spec.y).max(initial=0.0))
    if reach > FURTHEST:
        raise ModelError(
            f"the response {spec.response} reaches too far to be squared: it goes to {reach:.3g}; "
            "is that a mistake? If not, divide it by a power of ten"
        )


def _structured(
    spec: Specification,
    reml: bool,
    path: str | None,
    start: Floats | None,
    n_jobs: int | None,
    progress: Progress | None,
) -> LinearEstimate:
    """Fit a model whose residuals have a structure, from the fit in which they have none."""
    if path not in (None, STRUCTURED_PATH):
        raise ModelError("a model with a structure of its residuals has one path; leave path out")
    plain: Floats | None = None
    if start is None and spec.terms:
        found = fit_lmm(replace(spec, residual=None), reml=reml, n_jobs=n_jobs)
        plain = None if found.optimum.flat else 0.8 * found.theta
    if spec.residual is not None and spec.residual.of_mean is not None:
        return _of_fitted_mean(spec, reml, start, plain, n_jobs, progress)
    return fit_structured(
        spec, reml=reml, start=start, random_start=plain, n_jobs=n_jobs, progress=progress
    )


def _of_fitted_mean(
    spec: Specification,
    reml: bool,
    start: Floats | None,
    plain: Floats | None,
    n_jobs: int | None,
    progress: Progress | None,
) -> LinearEstimate:
    """Fit a model whose residual variance is a power of its own mean, by turns.

    The mean X beta is taken as known while the parameters are estimated, and again, until
    both stand still (Carroll & Ruppert 1988, *Transformation and Weighting in Regression*,
    section 2.2; nlme's gls does the same).
    """
    own = spec.residual
    assert own is not None
    offset = 0.0 if spec.offset is None else spec.offset
    beta = np.linalg.lstsq(spec.X, spec.y - offset, rcond=None)[0]
    for _ in range(MOST_TURNS):
        now = replace(spec, residual=own.with_mean(spec.X @ beta + offset))
        found = fit_structured(
            now, reml=reml, start=start, random_start=plain, n_jobs=n_jobs, progress=progress
        )
        moved = found.beta - beta
        error = np.sqrt(np.diag(found.coefficient_vcov))
        if np.all(np.abs(moved) <= STANDSTILL * error):
            return found
        beta, start = found.beta, found.theta
    raise ModelError(
        "the power of the fitted mean and the mean itself did not come to rest together; use a "
        "column of the table, such as power(x)"
    )


def _optimum(assembly: Assembly, search: dict[str, Any], shift: float) -> Optimum:
    """Return the end of the search on the user's scale."""
    theta, faces = assembly.end(search)
    return Optimum(
        criterion=float(search["criterion"]) + shift,
        theta=theta,
        gradient=assembly.chain_rule(assembly.slopes(theta), search["psi_gradient"]),
        decrement=search["decrement"],
        tolerance=search["tolerance"],
        converged=search["converged"],
        faces=faces,
        evaluations=search["evaluations"],
        restarts=search["restarts"],
        path=assembly.layout.path,
        trace=search["trace"] + shift,
        message=search["message"],
        phi=search["phi"],
        starts=search["starts"],
        agreeing=search["agreeing"],
        whole_range=search["whole_range"],
    )


def _with_flat_directions(
    assembly: Assembly, search: dict[str, Any], optimum: Optimum, reml: bool
) -> Optimum:
    """Look for directions that change nothing, where the Hessian has one."""
    curvatures = [curvature for _, _, curvature in search["faces"]]
    flat = looks_flat(search["phi"], search["hessian"], search["free"], curvatures)
    noisy = search["tolerance"] > NOISY * (1.0 + abs(float(search["criterion"])))
    if not flat and not noisy and not may_exchange(assembly, assembly.spec.factors):
        return optimum
    spec, y, here = assembly.spec, assembly.own.rest, float(search["criterion"])

    def again(theta: Floats) -> Floats | None:
        phi = assembly.phi(theta, {})
        noise = float(search["tolerance"]) if noisy else 0.0
        if as_good(assembly.core.state(y, reml, phi, False)["criterion"], here, noise):
            return theta
        near = assembly.core.fit(y, reml, phi, MAX_EVALUATIONS, None)
        return assembly.end(near)[0] if as_good(near["criterion"], here, noise) else None

    weights = np.ones(spec.n) if spec.weights is None else spec.weights
    everything = Predictor(
        tuple(range(len(spec.terms))), spec.X if reml else None, (1.0 / weights,)
    )
    return with_flat_directions(optimum, assembly, spec.factors, [everything], again)
