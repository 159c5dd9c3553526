"""The linear model with a structure of its residuals: a specification in, an estimate out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import Structure
from ranef.covariance.between_rows import ON_COORDINATES
from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError
from ranef.models.records import CONDITIONAL, LinearEstimate
from ranef.solve.optimum import MAX_EVALUATIONS, Face, FlatDirection, Optimum, Progress
from ranef.solve.parametrisation import factor_entries
from ranef.solve.resources import available_cores
from ranef.solve.structured.factors import beside_singular_factor, factor_is_singular
from ranef.solve.structured.kept import SolvedRows, keep_solved, solved_rows
from ranef.solve.structured.marginal import beside_singular, digits_lost, marginal_problem
from ranef.solve.structured.problem import StructuredProblem, structured_problem
from ranef.solve.structured.rows import EDGE
from ranef.solve.structured.search import SEARCHES, Found, search, searches_from
from ranef.solve.structured.starts import moment_start, residual_starts

__all__ = ["STRUCTURED_PATH", "fit_structured", "usual_starts"]

Floats = NDArray[np.float64]

SINGULAR = 1e-4
"""Smallest standard deviation of a direction, relative to the largest, that is not zero, unless
the criterion says that it matters."""
DEPENDENT = 1e-9
"""Variance of a residual given the others of its group that is none."""
NEARLY_DEPENDENT = 1e-5
"""One that is none where the curvature has no digits left to prove an optimum with."""
NOTHING, LITTLE = 1e-11, 1e-3
"""Correlations of the nearest rows: none, and the first that would count."""
NEARLY_SINGULAR = 1e-4
"""One that says why nothing could be proved."""
ELSEWHERE = 0.5
"""How far another theta of the same likelihood is looked for, in units of the curvature."""
AS_LOW = 1e-4
"""Difference of the criterion between searches that agree."""
MATTERS = 1e-6
"""Rise of the criterion."""
ELSEWHERE_STARTS = ((0.2, 0.5), (3.0, 0.2), (1.0, -0.3), (1.0, 0.0), (0.2, -0.3), (3.0, -0.3))
"""Factors of the random effects' parameters and of the residuals' correlations, for searches
that begin again."""
MOMENT_STARTS = (0.1, 1.0)
"""Factors of the random effects' parameters, of residuals that have the moments of all."""
FEW_PARAMETERS, SCATTERED, TRIED = 2, 6, 8
"""Of models with at least so many parameters, so many starts of others are drawn, each brought
nearer to the usual one at most so often."""
OTHER_RANGES = ((4.0, 0.3), (0.3, 0.3), (20.0, 0.3))
"""Factors of a range, and of the random effects' parameters."""
LITTLE_LEFT = 1e-3
"""Fall of the criterion from an edge to the end behind it, of a likelihood that has a bound."""
NEAR_END, NEAR_EDGE = 1e-3, 0.02
"""A parameter that may stand at an end of its range, from which it is looked at there."""
FEW_ROWS = 300
"""With random effects beside the structure, up to which further searches cost little."""
INSIDE = 0.02
"""Of the range of a correlation, how far such a start stays from its ends."""
FLAT = 1e-7
"""Curvature, relative to a unit diagonal, of a direction that changes nothing."""
SEEN, BIT = 0.1, 1e-5
"""Share of a direction that is named with it, and a step along it."""
HARDLY_CURVED = 1e-4
"""One that the slope that a search leaves may give to such a direction."""
OTHER_PATHS = 2
"""Starts from which an optimum with singular residuals is looked for, beside the end at hand."""
SEARCHED_AGAIN = 3
"""How often a search goes on from its end where that is no optimum yet."""
STRUCTURED_PATH = "clusters"
"""The name of the way of solving."""


def fit_structured(
    spec: Specification,
    *,
    reml: bool,
    start: Floats | None = None,
    random_start: Floats | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> LinearEstimate:
    """Fit a linear model whose residuals have a structure.

    Parameters
    ----------
    spec : Specification
        With `residual`.
    reml : bool
    start : (k,) or (m, k) array or None
        Theta to start from: of the random terms, then of the residuals. Of several each is.
    random_start : (f,) array or None
        Of the random terms alone.
    n_jobs : int or None
        Threads.

    Raises
    ------
    ModelError
        When no start is possible, or the fixed effects reproduce the response.
    """
    problem = structured_problem(spec, threads=available_cores(n_jobs))
    starts = _starts(problem, start, random_start)
    searches = SEARCHES if start is None else len(starts)
    found = _searched(problem, starts, reml, progress, searches)
    if found is None:
        raise ModelError(
            "no covariance of the residuals near those that were tried is positive definite and "
            "finite; give a start, or use a simpler structure"
        )
    bounded = np.isfinite(problem.rows.limits).all(axis=1)
    several = bool(problem.structures) or bounded.sum() > 1
    several |= any(part.kind in ON_COORDINATES for part in problem.rows.term.parts)
    small = several and spec.n <= FEW_ROWS and not _is_plain(problem, found)
    if start is None and (small or not found.converged) and not _is_stopped(problem, found):
        found = _from_elsewhere(problem, starts, found, reml, progress)
    found = _at_ends(problem, found, reml, progress)
    if problem.structures:
        found = _on_edges(problem, found, reml, progress)
    singular = False
    if found.converged and digits_lost(problem, found.at, reml) > LITTLE_LEFT:
        found = replace(found, converged=False)
    if problem.structures and not found.converged:
        found, singular = _beside_singular(problem, starts, found, reml, progress)
    if _is_stopped(problem, found):
        found, singular = _with_singular_factor(problem, starts, found, reml, progress)
    if not found.converged and problem.least_pivot(found.at.theta) < DEPENDENT:
        raise _unbounded(problem)
    found = _canonical(problem, found, reml)
    if not singular:  # else its derivatives have the barrier's share, which the rows add themselves
        keep_solved(problem, found.at, reml)
    theta, faces = _ended(problem, found, reml)
    try:
        rows = solved_rows(problem, theta, reml)
    except (
        np.linalg.LinAlgError,
        ModelError,
    ):  # rounding, at the edge of what is positive definite
        theta, faces = found.at.theta, ()
        rows = solved_rows(problem, theta, reml)
    at = rows.at
    flat: tuple[FlatDirection, ...] = ()
    elsewhere, unseen = None, False
    if found.converged:
        curvatures = _curvatures(rows)
        if curvatures.is_hardly_curved:
            rows = _without_slope(problem, rows, reml)
            at, theta, curvatures = rows.at, rows.theta, _curvatures(rows)
        flat, elsewhere = _flat(problem, rows, curvatures, reml)
        unseen = not flat and bool(curvatures.without_digits.size)
    edge = singular or bool(problem.rows.on_edge(problem.split(theta)[1]).any())
    if unseen and not edge and problem.least_pivot(theta) < NEARLY_DEPENDENT:
        raise _unbounded(problem)
    optimum = Optimum(
        criterion=at.criterion,
        theta=theta,
        gradient=at.gradient,
        decrement=found.decrement,
        tolerance=found.tolerance,
        converged=found.converged,
        faces=faces,
        evaluations=found.evaluations,
        restarts=0,
        path=STRUCTURED_PATH,
        trace=found.trace,
        message="" if found.converged else _unproved(problem, theta),
        starts=found.starts,
        agreeing=found.agreeing,
        flat=flat,
        elsewhere=elsewhere,
        ends=_ends(problem, theta, singular),
    )
    sigma = float(problem.scale * np.sqrt(at.r2 / at.degrees))
    parts, _ = problem.split(theta)
    return LinearEstimate(
        parts={CONDITIONAL: spec},
        reml=reml,
        coefficients=problem.coefficients(at),
        coefficient_vcov=sigma**2 * problem.covariance(at),
        theta=theta,
        sigma=sigma,
        covariances=tuple(
            sigma**2 * structure.psi(part)
            for structure, part in zip(problem.structures, parts, strict=True)
        ),
        modes=rows.modes(),
        loglik=-0.5 * at.criterion,
        optimum=optimum,
    )


def usual_starts(spec: Specification) -> list[Floats]:
    """The thetas that a search begins from where none is given."""
    return _starts(structured_problem(spec), None, None)


def _searched(
    problem: StructuredProblem,
    starts: list[Floats],
    reml: bool,
    progress: Progress | None,
    searches: int = SEARCHES,
) -> Found | None:
    """Search, and again from where a search ended short of an optimum."""
    found = search(problem, starts, reml, MAX_EVALUATIONS, progress, searches)
    for _ in range(SEARCHED_AGAIN):
        if found is None or found.converged or _is_stopped(problem, found):
            break
        again = search(problem, [found.at.theta], reml, MAX_EVALUATIONS, progress)
        if again is None or again.at.criterion > found.at.criterion - MATTERS:
            break
        found = replace(
            again,
            starts=found.starts,
            agreeing=1,
            evaluations=found.evaluations + again.evaluations,
            trace=np.concatenate([found.trace, again.trace]),
        )
    return found


def _is_stopped(problem: StructuredProblem, found: Found) -> bool:
    """Whether a search came to where a factor of a product is singular."""
    return not found.converged and factor_is_singular(problem, found.at.theta)


def _is_plain(problem: StructuredProblem, found: Found) -> bool:
    """Whether two searches for a variance and AR(1)'s phi ended alike.

    Of 260 random problems of this kind none had a lower optimum elsewhere; a range of clock times
    may have one.
    """
    plain = problem.n_parameters == 2 and problem.rows.is_first_order
    whole = plain and problem.rows.term.parts[0].kind == "ar1"
    return whole and found.converged and 1 < found.starts == found.agreeing


def _starts(
    problem: StructuredProblem, start: Floats | None, random_start: Floats | None
) -> list[Floats]:
    """Thetas to begin from."""
    if start is not None:
        thetas = np.atleast_2d(np.asarray(start, dtype=np.float64))
        if thetas.shape[1:] != (problem.n_parameters,) or not np.all(np.isfinite(thetas)):
            raise ModelError(
                f"start must hold {problem.n_parameters} finite numbers: {problem.n_random} of the "
                f"random effects, {problem.rows.n_parameters} of the residuals"
            )
        return list(thetas)
    own = residual_starts(problem)
    if not problem.structures:
        return own
    usual = np.concatenate(
        [
            _usual(s, t, _sizes(problem, t))
            for s, t in zip(problem.structures, problem.spec.terms, strict=True)
        ]
    )
    randoms = [usual] if random_start is None else [random_start, usual]
    return [np.concatenate([random, rest]) for rest in own for random in randoms]


def _from_elsewhere(
    problem: StructuredProblem,
    starts: list[Floats],
    found: Found,
    reml: bool,
    progress: Progress | None,
) -> Found:
    """Search again from further starts."""
    f, limits = problem.n_random, problem.rows.limits
    bounded = np.asarray(np.isfinite(limits).all(axis=1))
    further = []
    for random_by, correlation_by in ELSEWHERE_STARTS:
        theta = starts[0].copy()
        theta[:f] *= random_by
        moved = theta[f:] * np.where(bounded, correlation_by, 1.0)
        low, high = np.where(bounded[:, None], limits, [0.0, 1.0]).T
        room = INSIDE * (high - low)
        theta[f:] = np.where(bounded, np.clip(moved, low + room, high - room), moved)
        further.append(theta)
    further += _other_ranges(problem, starts[0], bounded)
    for part, cut in problem.rows.parts:
        for own in part.further_starts():
            theta = starts[0].copy()
            theta[f:][cut] = own
            further.append(theta)
    by_moments = moment_start(problem)
    if by_moments is not None:
        further += [np.append(by * starts[0][:f], by_moments) for by in MOMENT_STARTS]
    further += _scattered(problem, starts[0], by_moments)
    proved = found if found.converged else None
    ends = searches_from(
        problem, further, reml, MAX_EVALUATIONS, progress, len(further), known=proved
    )
    if not ends:
        return found
    evaluations = found.evaluations + max(end.evaluations for end in ends)
    best = found
    for end in ends:
        if end.converged and not best.converged:
            better = end.at.criterion < best.at.criterion
        else:
            better = end.at.criterion < best.at.criterion - MATTERS
        if (better and end.converged) or (better and _is_true(problem, end, best, reml)):
            best = end
    agreeing = sum(abs(end.at.criterion - best.at.criterion) < AS_LOW for end in ends)
    if abs(found.at.criterion - best.at.criterion) < AS_LOW:
        agreeing += found.agreeing
    return replace(
        best, evaluations=evaluations, starts=found.starts + len(ends), agreeing=agreeing
    )


def _is_true(problem: StructuredProblem, end: Found, best: Found, reml: bool) -> bool:
    """Whether an end without a proof is lower than the best by V of the groups made itself."""
    marginal = marginal_problem(problem)
    here = None if marginal is None else marginal.point(end.at.theta, reml, 0)
    gap = best.at.criterion - MATTERS
    return not best.converged if marginal is None else here is not None and here.criterion < gap


def _scattered(
    problem: StructuredProblem, start: Floats, by_moments: Floats | None
) -> list[Floats]:
    """Starts that share no factor: always the same draws, of a model with several parameters."""
    f, limits = problem.n_random, problem.rows.limits
    bounded = np.asarray(np.isfinite(limits).all(axis=1))
    if problem.n_parameters < FEW_PARAMETERS or not bounded.any():
        return []
    rng = np.random.default_rng(problem.n_parameters)
    low, high = np.where(bounded[:, None], limits, [0.0, 1.0]).T
    middle = start[f:] if by_moments is None else by_moments
    out = []
    for _ in range(SCATTERED):
        theta = start.copy()
        theta[:f] = np.exp(rng.normal(-0.5, 1.0, f)) * problem.units[:f]
        drawn = np.where(bounded, rng.uniform(low, high), middle + rng.normal(0.0, 0.5, len(low)))
        drawn = np.where(problem.rows.positive, middle * np.exp(rng.normal(size=len(low))), drawn)
        share = 1.0
        for _ in range(TRIED):
            theta[f:] = np.where(bounded, middle + share * (drawn - middle), drawn)
            if problem.point(theta, True, 0) is not None:
                out.append(theta)
                break
            share *= 0.7
    return out


def _other_ranges(
    problem: StructuredProblem, start: Floats, bounded: NDArray[np.bool_]
) -> list[Floats]:
    """Starts with a longer and a shorter range, half of the variance a nugget."""
    f, rows = problem.n_random, problem.rows
    residual = problem.spec.residual
    spatial = residual is not None and any(p.kind in ON_COORDINATES for p in residual.parts)
    ranges = np.asarray(rows.positive) & ~bounded
    if not spatial or not ranges.any():
        return []
    out = []
    for factor, random_by in OTHER_RANGES:
        theta = start.copy()
        theta[:f] *= random_by
        theta[f:] = np.where(ranges, factor * theta[f:], theta[f:])
        low, high = np.where(bounded[:, None], rows.limits, [0.0, 1.0]).T
        theta[f:] = np.where(bounded, (low + high) / 2, theta[f:])
        out.append(theta)
    return out


def _at_ends(
    problem: StructuredProblem, found: Found, reml: bool, progress: Progress | None
) -> Found:
    """Search on the ends of ranges that parameters are near, and that belong to them.

    One is the optimum where it is as low, and the criterion rises from it inwards.
    """
    f, rows = problem.n_random, problem.rows
    for k, side in np.argwhere(rows.closed).tolist():
        end = float(rows.limits[k, side])
        if found.converged and abs(found.at.theta[f + k] - end) > NEAR_END:
            continue
        theta = found.at.theta.copy()
        theta[f + k] = end
        held = np.ones(len(theta), dtype=np.bool_)
        held[:f], held[f:] = False, ~rows.loose(theta[f:])
        other = search(problem, [theta], reml, MAX_EVALUATIONS, progress, held=held)
        if other is None:
            continue
        if other.converged:
            as_low = other.at.criterion < found.at.criterion + MATTERS
            better = as_low and _rises(problem, other.at.theta, f + k, 1.0 - 2.0 * side, reml)
        else:
            better = other.at.criterion < found.at.criterion - MATTERS
        if better:
            found = _instead(other, found)
    own = found.at.theta[f:]
    little = any(np.any(own < one) for one in rows.fallen(own, LITTLE))
    if found.converged and not little:
        return found
    return _without_correlation(problem, found, reml, progress)


def _on_edges(
    problem: StructuredProblem, found: Found, reml: bool, progress: Progress | None
) -> Found:
    """Search where a correlation makes the residuals' covariance singular.

    Random effects keep that of the rows definite there, and the optimum may be at such an end of
    a range that does not hold it. It is where the criterion is as low and falls outwards.
    """
    f, rows = problem.n_random, problem.rows
    for k, value, width in rows.edges:
        here = float(found.at.theta[f + k])
        if abs(here - value) > (NEAR_END if found.converged else NEAR_EDGE) * width:
            continue
        theta = found.at.theta.copy()
        theta[f + k] = value
        held = np.append(np.zeros(f, dtype=np.bool_), ~rows.loose(theta[f:]))
        other = search(problem, [theta], reml, MAX_EVALUATIONS, progress, held=held)
        if other is None or not other.converged:
            continue
        outwards = np.sign(value - float(rows.limits[k].mean()))
        slope = outwards * other.at.gradient[f + k]
        little = -slope * EDGE * width < LITTLE_LEFT
        if slope < -MATTERS and little and other.at.criterion < found.at.criterion + MATTERS:
            found = _instead(other, found)
    return found


def _beside_singular(
    problem: StructuredProblem,
    starts: list[Floats],
    found: Found,
    reml: bool,
    progress: Progress | None,
) -> tuple[Found, bool]:
    """Search with V of each group made itself, where R becomes singular beside random effects.

    Returns
    -------
    found : Found
    singular : bool
        Whether its R is.
    """
    beside = beside_singular(problem, [found.at.theta, *starts[:OTHER_PATHS]], reml, progress)
    if beside is None:
        return found, False
    if beside.unbounded and beside.found is None:
        raise _unbounded(problem)
    if beside.found is None or beside.gain < -MATTERS:
        return found, False
    if beside.singular:
        evaluations = found.evaluations + beside.found.evaluations
        return replace(beside.found, evaluations=evaluations), True
    inside = search(problem, [beside.found.at.theta], reml, MAX_EVALUATIONS, progress)
    if inside is None or not inside.converged:
        return found, False
    return _instead(inside, found), False


def _with_singular_factor(
    problem: StructuredProblem,
    starts: list[Floats],
    found: Found,
    reml: bool,
    progress: Progress | None,
) -> tuple[Found, bool]:
    """Search with a barrier that keeps the factors of a product positive definite.

    Returns
    -------
    found : Found
    singular : bool
        Whether one of them is singular.
    """
    begun = [found.at.theta, *starts[:OTHER_PATHS]]
    beside = beside_singular_factor(problem, begun, reml, progress)
    if beside is None or beside.at.criterion > found.at.criterion + MATTERS:
        return found, False
    evaluations = found.evaluations + beside.evaluations
    singular = factor_is_singular(problem, beside.at.theta)
    return replace(beside, evaluations=evaluations), singular


def _canonical(problem: StructuredProblem, found: Found, reml: bool) -> Found:
    """The same end with parameters as they are reported."""
    f = problem.n_random
    own = problem.rows.canonical(found.at.theta[f:])
    if np.array_equal(own, found.at.theta[f:]):
        return found
    at = problem.point(np.append(found.at.theta[:f], own), reml, 2)
    return found if at is None else replace(found, at=at)


def _ends(problem: StructuredProblem, theta: Floats, singular: bool) -> tuple[str, ...]:
    """The ends of ranges at the optimum, in words."""
    ends = problem.rows.ends(problem.split(theta)[1])
    label = problem.rows.term.label
    if not singular:
        return ends
    beside = f"the covariance of {label} is singular beside the random effects"
    factor = f"a factor of {label} is singular: its places determine each other"
    return tuple(dict.fromkeys([*ends, factor if problem.rows.factors else beside]))


def _without_correlation(
    problem: StructuredProblem, found: Found, reml: bool, progress: Progress | None
) -> Found:
    """Search where correlations that fall with distance have fallen to nothing.

    The optimum is there where it is as low, and the criterion rises with the first of them.
    """
    f, rows = problem.n_random, problem.rows
    own = found.at.theta[f:]
    for none, first in zip(rows.fallen(own, NOTHING), rows.fallen(own, LITTLE), strict=True):
        held = np.append(np.zeros(f, dtype=np.bool_), ~rows.loose(none))
        theta = np.append(found.at.theta[:f], none)
        other = search(problem, [theta], reml, MAX_EVALUATIONS, progress, held=held)
        if not held.any() or other is None or not other.converged:
            continue
        if other.at.criterion > found.at.criterion + MATTERS:
            continue
        changed = first != own
        trial = other.at.theta.copy()
        trial[f:][changed] = first[changed]
        beside = problem.point(trial, reml, 0)
        if beside is not None and beside.criterion > other.at.criterion - MATTERS:
            found = _instead(other, found)
    return found


def _instead(other: Found, found: Found) -> Found:
    evaluations = found.evaluations + other.evaluations
    return replace(other, evaluations=evaluations, starts=found.starts, agreeing=1)


def _rises(problem: StructuredProblem, theta: Floats, k: int, sign: float, reml: bool) -> bool:
    """Whether the criterion rises from an end inwards, whatever has no meaning on it."""
    f = problem.n_random
    free = problem.rows.loose(theta[f:])
    for own in (theta[f:], *problem.rows.starts()):
        trial = theta.copy()
        trial[f:] = np.where(free, theta[f:], own)
        trial[k] = theta[k]
        at = problem.point(trial, reml)
        if at is None or not sign * at.gradient[k] >= -MATTERS:
            return False
    return True


def _sizes(problem: StructuredProblem, term: RandomTerm) -> Floats:
    """Size (r,) of the columns of a term, weights included."""
    weights = problem.spec.weights
    squares = term.z**2 if weights is None else weights[:, None] * term.z**2
    size = np.sqrt(np.mean(squares, axis=0))
    return np.where(size > 0, size, 1.0)


def _usual(structure: Structure, term: RandomTerm, size: Floats) -> Floats:
    """A modest start of a random term: half of sigma for columns of size one."""
    unit = 0.5 / size
    theta = np.asarray(structure.from_phi(np.full(structure.n_parameters, 0.3)), dtype=np.float64)
    if structure.kind in ("us", "kernel"):
        diagonal = np.diag(unit)
        return diagonal[np.triu_indices(len(unit))].astype(np.float64)
    if structure.kind == "diag":
        return unit
    kinds = [p.kind for p in structure.parameters(term.names)]
    return np.where([kind == "sd" for kind in kinds], float(np.mean(unit)), theta)


def _ended(problem: StructuredProblem, found: Found, reml: bool) -> tuple[Floats, tuple[Face, ...]]:
    """Reported parameters at the end of a search, and the boundaries they lie on."""
    theta = found.at.theta.copy()
    parts, _ = problem.split(theta)
    faces: list[Face] = []
    place = 0
    for t, (structure, part, term) in enumerate(
        zip(problem.structures, parts, problem.spec.terms, strict=True)
    ):
        cut = slice(place, place + structure.n_parameters)
        place = cut.stop
        size = _sizes(problem, term)
        psi = structure.psi(part)
        if structure.kind in ("us", "kernel"):
            values = np.linalg.eigvalsh(psi * np.outer(size, size))
            rank = int(np.sum(values > SINGULAR**2 * max(1.0, values[-1])))
            full = factor_entries(psi, term.size)
            theta[cut] = factor_entries(psi, rank)
            if rank < term.size and not _as_good(problem, theta, found, reml):
                theta[cut], rank = full, term.size
        elif structure.kind == "diag":
            small = np.abs(part) * size < SINGULAR
            theta[cut] = np.where(small, 0.0, np.abs(part))
            rank = int(np.sum(~small))
            if rank < term.size and not _as_good(problem, theta, found, reml):
                theta[cut], rank = np.abs(part), term.size
        else:
            rank = term.size if not structure.boundary(part, term.names) else term.size - 1
        words = structure.boundary(theta[cut], term.names)
        if rank < term.size or words:
            text = "; ".join(words) if words else f"rank {rank} of {term.size}"
            faces.append(Face(t, min(rank, term.size), term.size, text, 0.0))
    return theta, tuple(faces)


def _as_good(problem: StructuredProblem, theta: Floats, found: Found, reml: bool) -> bool:
    at = problem.point(theta, reml, 0)
    return at is not None and at.criterion < found.at.criterion + MATTERS


@dataclass(frozen=True)
class _Curvatures:
    """The Hessian of the free parameters and log sigma, brought to a unit diagonal.

    Attributes
    ----------
    keep : (q + 1,) bool
        Which parameters are free; sigma is the last.
    scale : (r,)
    vectors : (r, r)
    without_digits : (k,) int
        Which eigenvalues are lost in rounding; none where there is one parameter.
    is_hardly_curved : bool
        Whether another is so small that the slope left may have made it.
    """

    keep: NDArray[np.bool_]
    scale: Floats
    vectors: Floats
    without_digits: NDArray[np.intp]
    is_hardly_curved: bool


def _curvatures(rows: SolvedRows) -> _Curvatures:
    keep = np.append(rows.free, True)
    inner = rows.joint_hessian()[np.ix_(keep, keep)]
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    values, vectors = np.linalg.eigh(inner * np.outer(scale, scale))
    lost = np.flatnonzero((np.abs(values) < FLAT) & (len(inner) > 1))
    hardly = bool(((np.abs(values) >= FLAT) & (np.abs(values) < HARDLY_CURVED)).any())
    return _Curvatures(keep, scale, vectors, lost, hardly)


def _without_slope(problem: StructuredProblem, rows: SolvedRows, reml: bool) -> SolvedRows:
    """One Newton step along what is curved; the same rows where it gains nothing.

    Along a bent ridge the Hessian has the slope times the ridge's bend as curvature.
    """
    free = np.flatnonzero(rows.free)
    inner, slope = rows.hessian[np.ix_(free, free)], rows.at.gradient[free]
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    values, vectors = np.linalg.eigh(inner * np.outer(scale, scale))
    curved = values > HARDLY_CURVED
    along = vectors[:, curved].T @ (scale * slope)
    theta = rows.theta.copy()
    theta[free] -= scale * (vectors[:, curved] @ (along / values[curved]))
    try:
        nearer = solved_rows(problem, theta, reml)
    except (np.linalg.LinAlgError, ModelError):
        return rows
    return nearer if nearer.at.criterion <= rows.at.criterion + MATTERS else rows


def _unproved(problem: StructuredProblem, theta: Floats) -> str:
    label = problem.parameter_labels()[-2] if problem.rows.n_parameters else ""
    if label and problem.structures and problem.least_pivot(theta) < NEARLY_SINGULAR:
        return (
            f"the residuals, {label}, are best where their covariance is singular beside the "
            "random effects, so that the two are hardly distinguished"
        )
    return "the last steps did not lower the criterion enough"


def _unbounded(problem: StructuredProblem) -> ModelError:
    residual = problem.spec.residual
    return ModelError(
        f"the likelihood is unbounded: {residual.label if residual else ''} can "
        "reproduce the rows of a group from each other exactly (are the values of a group "
        "equal?); use a simpler structure, or a random effect"
    )


def _flat(
    problem: StructuredProblem, rows: SolvedRows, curvatures: _Curvatures, reml: bool
) -> tuple[tuple[FlatDirection, ...], Floats | None]:
    """Directions that change nothing, and another theta as good: curvature is lost in rounding."""
    keep, scale, vectors = curvatures.keep, curvatures.scale, curvatures.vectors
    flat = curvatures.without_digits
    if not len(flat):
        return (), None
    labels, owners = problem.parameter_labels(), problem.parameter_terms()
    along = np.zeros((len(keep), len(flat)))
    along[keep] = scale[:, None] * vectors[:, flat]
    moved = _terms_moved(problem, rows.theta, along)
    part = [
        i
        for i, size in zip(np.flatnonzero(keep), np.abs(vectors[:, flat]).max(axis=1), strict=True)
        if (size > SEEN if owners[i] is None else owners[i] in moved)
    ]
    named = list(dict.fromkeys(labels[i] for i in part))
    terms = {owner for owner in (owners[i] for i in part) if owner is not None}
    words = (
        f"the data do not determine {named[0]}"
        if len(named) == 1
        else f"the data do not tell {words_list(named)} from each other"
    )
    step = np.zeros(len(keep))
    step[keep] = scale * vectors[:, flat[0]]
    step = step[:-1] * ELSEWHERE / max(float(np.max(np.abs(vectors[:-1, flat[0]] * 1.0))), 1e-12)
    elsewhere = _elsewhere(problem, rows, step, reml)
    if elsewhere is None:
        return (), None
    return (FlatDirection(tuple(sorted(terms)), True, words),), elsewhere


def _terms_moved(problem: StructuredProblem, theta: Floats, along: Floats) -> set[int]:
    """Which random terms' covariances, not relative to sigma, change along directions."""
    moved = np.zeros(len(problem.structures))
    for way in along.T:
        h = BIT / max(float(np.abs(way).max()), 1e-300)
        here, there = problem.split(theta)[0], problem.split(theta + h * way[:-1])[0]
        for t, structure in enumerate(problem.structures):
            before, after = structure.psi(here[t]), structure.psi(there[t])
            change = np.abs(after * np.exp(2 * h * way[-1]) - before).max()
            moved[t] = max(moved[t], change / max(float(np.abs(before).max()), 1e-300))
    return set(np.flatnonzero(moved > SEEN * moved.max(initial=0.0)).tolist())


def _elsewhere(
    problem: StructuredProblem, rows: SolvedRows, step: Floats, reml: bool
) -> Floats | None:
    """Another optimum along a flat direction."""
    here = rows.at.criterion
    for size in (1.0, -1.0, 0.3, -0.3, 0.1, -0.1):
        start = rows.theta + size * step
        if problem.point(start, reml, 0) is None:
            continue
        found = search(problem, [start], reml, 60)
        away = found is not None and not np.allclose(found.at.theta, rows.theta, rtol=1e-3)
        if found is not None and away and abs(found.at.criterion - here) < 1e-5:
            return found.at.theta
    return None


def words_list(names: list[str]) -> str:
    """Join names: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
