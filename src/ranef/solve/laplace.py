"""The fit of a generalised linear mixed model: Laplace approximation or quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.solve.flat import Predictor, as_good, looks_flat, may_exchange, with_flat_directions
from ranef.solve.optimum import MAX_EVALUATIONS, Optimum, Progress
from ranef.solve.predictors import End, GeneralisedAssembly, assemble_generalised
from ranef.solve.problem import GeneralisedDesign
from ranef.solve.quadrature import check_differentiable
from ranef.solve.reshaped import from_other_correlations, from_other_sizes

__all__ = ["GeneralisedSolution", "fit_generalised"]

Floats = NDArray[np.float64]

LEAST_INFORMATION = 1e-5
FAR_CUT = 15.0
"""Beyond this on the scale of the logit nothing is seen of a cut."""
FLAT = 10.0
LARGE_OFFSET = 30.0


@dataclass(frozen=True, eq=False)
class GeneralisedSolution:
    """What the search found, on the user's scale.

    Attributes
    ----------
    coefficients : (P,) float64 array
    vcov : (P, P) float64 array
        Covariance of the coefficients given theta; zero where they are held.
    theta : (k,) float64 array
    covariances : tuple of (r, r) float64 arrays
        By term of the design.
    modes : tuple of (q, r) float64 arrays
    predictors : (M, n) float64 array
        The linear predictors at the modes.
    runaway : tuple of int
        Coefficients about which the data hold next to no information: they
        run off to plus or minus infinity.
    penalty : float
        Minus twice the log density of the priors, a part of the criterion.
    optimum : Optimum
    """

    coefficients: Floats
    vcov: Floats
    theta: Floats
    covariances: tuple[Floats, ...]
    modes: tuple[Floats, ...]
    predictors: Floats
    runaway: tuple[int, ...]
    penalty: float
    optimum: Optimum


def fit_generalised(
    design: GeneralisedDesign,
    coefficients: Floats,
    *,
    flat: Callable[[], Floats] | None = None,
    theta: Floats | None = None,
    quadrature: int = 1,
    path: str | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> GeneralisedSolution:
    """Maximise the likelihood in theta and all coefficients.

    Parameters
    ----------
    design : GeneralisedDesign
    coefficients : (P,) array
        To start from; rough values do.
    flat : callable or None
        Gives other coefficients, of one mean in all rows, where the criterion is not
        finite at these: links whose predictors must be positive.
    theta : (k,) array or None
        To start from. Otherwise theta comes from a working linear model; the
        coefficients are those of its joint mode with the random effects.
    quadrature : int
        Nodes of adaptive Gauss-Hermite quadrature; 1 is the Laplace approximation.
    path : str or None
        Force a path; None takes the cheapest.
    max_evaluations : int
    n_jobs : int or None
    progress : callable or None

    Raises
    ------
    ModelError
        When the likelihood is not finite where the search starts, or the design
        does not fit the quadrature.
    """
    if quadrature > 1:
        check_differentiable(design)
    assembly = assemble_generalised(design, path, n_jobs, quadrature)
    start, modes = assembly.core.start_with_modes(assembly.inner(coefficients))
    if theta is not None:
        start[: assembly.core.parameters] = assembly.phi(assembly.checked(theta), {})
    search = assembly.core.fit(start, max_evaluations, progress, modes)
    if not np.isfinite(search["criterion"]) and flat is not None:
        start[assembly.core.parameters :] = assembly.inner(flat())[assembly.outer]
        search = assembly.core.fit(start, max_evaluations, progress, modes)
    if not np.isfinite(search["criterion"]):
        raise ModelError(
            "the likelihood is not finite where the search starts: does the response fit the "
            f"family and its link?{_offset(design)} Other starting values can be given"
        )
    if theta is None and not search["stopped"]:
        search = from_other_correlations(assembly, start, search, max_evaluations)
        search = from_other_sizes(assembly, start, search, max_evaluations, flat)
    return _solution(assembly, search)


def _offset(design: GeneralisedDesign) -> str:
    offset = design.predictors[0].offset
    if offset is None or np.ptp(offset) < LARGE_OFFSET:
        return ""
    return (
        f" The offset goes from {offset.min():g} to {offset.max():g} on the scale of the link: "
        "with a log link it is the logarithm of the exposure, offset(log(x))."
    )


def _solution(assembly: GeneralisedAssembly, search: dict[str, Any]) -> GeneralisedSolution:
    theta, faces = assembly.end(search)
    entries = set(assembly.design.constraints.entries.tolist())
    faces = tuple(face for face in faces if not _all_held(assembly, face.term, entries))
    coefficients = assembly.coefficients(search["coefficients"])
    covariance = _with_priors(search["fixed_covariance"], assembly, coefficients)
    loose = [int(assembly.free.first[k]) for k in _runaway(covariance, assembly.scale)]
    runaway = tuple(sorted({*loose, *_endless_cuts(assembly, coefficients)}))
    optimum = Optimum(
        criterion=float(search["criterion"]) + assembly.shift,
        theta=theta,
        gradient=assembly.spot(theta, {f.term: f.rank for f in faces}).gradient(search),
        decrement=search["decrement"],
        tolerance=search["tolerance"],
        converged=search["converged"] and not runaway,
        faces=faces,
        evaluations=search["evaluations"],
        restarts=search["restarts"],
        path=assembly.layout.path,
        trace=search["trace"] + assembly.shift,
        message=_message(assembly, search, runaway),
        starts=search["starts"],
        agreeing=search["agreeing"],
        whole_range=search["whole_range"],
    )
    optimum = _with_flat_directions(assembly, search, optimum)
    assembly.ends[:] = [End(theta, coefficients, search["phi"], search["end"])]
    return GeneralisedSolution(
        coefficients=coefficients,
        vcov=assembly.covariance(covariance),
        theta=theta,
        covariances=assembly.covariances(search["psi"]),
        modes=assembly.modes(search["modes"]),
        predictors=search["predictors"],
        runaway=runaway,
        penalty=float(assembly.core.penalty(search["phi"])),
        optimum=optimum,
    )


def _with_flat_directions(
    assembly: GeneralisedAssembly, search: dict[str, Any], optimum: Optimum
) -> Optimum:
    """Look for directions that change nothing, where the Hessian has one.

    Not with priors, which say something about every direction.
    """
    design, here = assembly.design, float(search["criterion"])
    curvatures = [curvature for _, _, curvature in search["faces"]]
    flat = looks_flat(search["phi"], search["hessian"], search["free"], curvatures)
    if design.penalty is not None or not (flat or may_exchange(assembly, design.factors)):
        return optimum
    start = np.array(search["phi"])

    def again(theta: Floats) -> Floats | None:
        start[: assembly.core.parameters] = assembly.phi(theta, {})
        near = assembly.core.fit(start, MAX_EVALUATIONS, None)
        return assembly.end(near)[0] if as_good(near["criterion"], here) else None

    return with_flat_directions(
        optimum,
        assembly,
        design.factors,
        [_covariance_of(design, m, search["predictors"]) for m in range(len(design.predictors))],
        again,
        assembly.held(optimum.theta),
    )


def _covariance_of(design: GeneralisedDesign, m: int, predictors: Floats) -> Predictor:
    """Return what the covariance of one linear predictor depends on."""
    fixed = design.predictors[m]
    # a tied term's covariance is that of several predictors together
    terms = tuple(t for t in design.terms_in(m) if len(set(design.owners[t])) == 1)
    inside = np.isin(fixed.coefficients, design.integrated)
    residual: list[Floats] = []
    if m == 0 and design.scale_predictor is not None:
        scale = design.predictors[design.scale_predictor]
        weights = 1.0 if design.weights is None else design.weights
        variance = np.exp(2 * np.asarray(predictors[design.scale_predictor])) / weights
        held = {k for k, _ in design.constraints.coefficients}
        free = [j for j, k in enumerate(scale.coefficients) if int(k) not in held]
        residual = [variance * scale.X[:, j] for j in free]
    return Predictor(terms, fixed.X[:, inside] if inside.any() else None, tuple(residual))


def _message(
    assembly: GeneralisedAssembly, search: dict[str, Any], runaway: tuple[int, ...]
) -> str:
    """How the search ended, and why."""
    if runaway:
        return "coefficients diverge to infinity"
    message = str(search["message"])
    flat = None if search["converged"] or assembly.nodes > 1 else _flat_level(assembly, search)
    if flat is None:
        return message
    return (
        f"the Laplace approximation breaks down: given the data, the effects of {flat} vary more "
        "than without, since their density is no single hill"
    )


def _flat_level(assembly: GeneralisedAssembly, search: dict[str, Any]) -> str | None:
    """The level where the joint density of the effects is nearly flat at its mode, if one is.

    Data that say something of a level make its variance smaller than that of the
    population. Where the log density is not concave (zero inflation, dispersion) two modes can
    meet; the log determinant of the approximation then runs off to minus infinity.
    """
    phi = np.asarray(search["phi"])[: assembly.core.parameters]
    x = np.concatenate([phi, np.asarray(search["coefficients"])[assembly.outer]])
    worst, where = FLAT, None
    for b, block in enumerate(assembly.blocks):
        if block.kernel:
            continue
        try:
            given = assembly.core.mode_covariances(x, b, False)
        except ValueError:  # the likelihood is not finite where the search ended
            return None
        ratios = given @ np.linalg.pinv(search["psi"][b], rcond=1e-8, hermitian=True)
        sizes = np.max(np.abs(np.linalg.eigvals(ratios)), axis=1, initial=0.0)
        level = int(np.argmax(sizes))
        if sizes[level] > worst:
            worst = float(sizes[level])
            where = f"{block.factor.name} {block.factor.levels[level]}"
    return where


def _all_held(assembly: GeneralisedAssembly, term: int, entries: set[int]) -> bool:
    """Tell whether a term's covariance parameters are all held."""
    first = sum(t.count for t in assembly.terms[:term])
    return entries.issuperset(range(first, first + assembly.terms[term].count))


def _with_priors(covariance: Floats, assembly: GeneralisedAssembly, coefficients: Floats) -> Floats:
    """Add what priors know about the coefficients to what the data know."""
    penalty = assembly.design.penalty
    if penalty is None or not penalty.coefficients:
        return covariance
    information = np.linalg.pinv(covariance, hermitian=True)
    for k, prior in penalty.coefficients:
        row = assembly.transform[k]
        information += prior.information(float(coefficients[k])) * np.outer(row, row)
    return np.asarray(np.linalg.inv(information), dtype=np.float64)


def _runaway(covariance: Floats, scale: Floats) -> tuple[int, ...]:
    """Coefficients of columns of unit mean square with next to no information.

    Where the core's columns are mixtures of the user's, what the mixtures without information add
    to the variance of each coefficient of the user's.
    """
    variance = np.diag(covariance)
    if (variance > 1 / LEAST_INFORMATION).any() and not _is_diagonal(scale):
        values, vectors = np.linalg.eigh(covariance)
        loose = values > 1 / LEAST_INFORMATION
        own = (scale @ vectors[:, loose]) ** 2 @ values[loose]
        variance = own * (np.linalg.inv(scale) ** 2).sum(axis=0)
    return tuple(int(k) for k in np.flatnonzero(variance > 1 / LEAST_INFORMATION))


def _endless_cuts(assembly: GeneralisedAssembly, coefficients: Floats) -> list[int]:
    """Cuts of an ordered beta response beyond which none lies, where they have run far.

    The first cut is part of the second too, so that the information about the two together
    does not show that the first has none.
    """
    design = assembly.design
    if not design.cuts:
        return []
    first, apart = (design.predictors[a] for a in design.cuts)
    low = coefficients[first.coefficients]
    high = low + np.exp(coefficients[apart.coefficients])
    ends = ((first, 0.0, low < -FAR_CUT), (apart, 1.0, high > FAR_CUT))
    return [
        int(cut.coefficients[0])
        for cut, end, far in ends
        if cut.coefficients.size == 1
        and far.all()
        and not np.any(design.y == end)
        and cut.coefficients[0] in assembly.free.first
    ]


def _is_diagonal(matrix: Floats) -> bool:
    return not np.count_nonzero(matrix - np.diag(np.diag(matrix)))
