"""Generalised estimating equations of a mean: their solution.

Liang & Zeger (1986, Biometrika 73): sum over clusters of D' V^-1 (y - mu) = 0 with V = phi
A^1/2 R(alpha) A^1/2. Rows are scaled by the roots of their variances first, e = sqrt(w / V) (y -
mu) and F = sqrt(w / V) dmu/dbeta, and whitened by the root of R, so that all of it is least
squares: H = F'R^-1 F and U = F'R^-1 e. The scale cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.families.variance import MeanVariance
from ranef.solve.marginal.clusters import Clusters, Slice
from ranef.solve.marginal.log_det import log_det_slopes
from ranef.solve.marginal.working import Independence, Working, WorkingRows

__all__ = [
    "INDEPENDENT",
    "Counts",
    "Outside",
    "Problem",
    "Solution",
    "Sums",
    "add_up",
    "by_cluster",
    "correlation_of",
    "scale_of",
    "scores",
    "solve",
    "start",
    "weight_derivatives",
]

Floats = NDArray[np.float64]
Watch = Callable[[str], object]
"""Is told of each step of a search."""

MOST_STEPS = 200
FIRST_STEPS = 8
HALVINGS = 30
NEAR = 1.0
FLOOR = 1e-6
MIXED = 0.1
"""Smallest eigenvalue of a working correlation: of an estimate that is one, and of one made so."""
TOLERANCE = 1e-10
CONVERGED = 1e-7
STALLED = 0.95
DAMPED = ((120, 0.1), (80, 0.25), (40, 0.5))
"""Steps after which the correlation goes only this share of its way."""
RUNAWAY = 1e3
"""Squared residuals, as a multiple of those under independence, at which a search is lost."""
"""Of the estimating function, in units of its own standard errors given the model."""
INDEPENDENT = Independence(np.zeros(0))


@dataclass(frozen=True, eq=False)
class Problem:
    """The rows of a marginal model, sorted by cluster and time.

    Attributes
    ----------
    y : (n,) array
        Of a binomial response the proportion.
    X : (n, p) array
    offset : (n,) array or None
    weights : (n,) array or None
        Precisions: Var(y) = phi V(mu) / weight.
    sampling : (n,) array or None
        What each row stands for: it multiplies the row's residual in the equations.
    clusters : Clusters
    link, inverse, first, second : callable
        The linear predictor of a mean, the mean of a linear predictor, and its derivatives.
    both : callable
        Mean and first derivative together.
    moments : MeanVariance
    bounds : (float, float)
        The mean lies strictly between.
    penalised : bool
        Add Firth's penalty, half of log det H.
    scale : float or None
        Held at a value; None to estimate it.
    adjusted : bool
        Whether counts of rows and pairs are reduced by the number of coefficients.
    independent : Working
        The structure of responses that are independent.
    """

    y: Floats
    X: Floats
    offset: Floats | None
    weights: Floats | None
    sampling: Floats | None
    clusters: Clusters
    link: Callable[[Floats], Floats]
    inverse: Callable[[Floats], Floats]
    first: Callable[[Floats], Floats]
    second: Callable[[Floats], Floats]
    both: Callable[[Floats], tuple[Floats, Floats]]
    moments: MeanVariance
    bounds: tuple[float, float]
    penalised: bool = False
    scale: float | None = None
    adjusted: bool = False
    independent: Working = INDEPENDENT

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    def predictor(self, beta: Floats, part: Slice) -> Floats:
        """Linear predictor of the rows of a slice."""
        eta = self.X[part.rows] @ beta
        return eta if self.offset is None else eta + self.offset[part.rows]

    @property
    def observations(self) -> int:
        """Number of responses, each of which is one row or several."""
        return self.clusters.n

    def means(self, beta: Floats, part: Slice) -> Floats:
        """Means of the rows of a slice."""
        return self.inverse(self.predictor(beta, part))

    def quasi(self, beta: Floats, part: Slice) -> Floats:
        """Quasi-likelihood of the rows of a slice, see `MeanVariance.quasi`."""
        return self.moments.quasi(self.y[part.rows], self.means(beta, part))

    def start(self) -> Floats:
        """Coefficients to start from."""
        return start(self)

    def root_sampling(self, part: Slice) -> Floats | None:
        """Roots of the sampling weights of a slice."""
        return None if self.sampling is None else np.sqrt(self.sampling[part.rows])

    def root_precision(self, part: Slice) -> Floats | None:
        """Roots of the precisions of a slice."""
        return None if self.weights is None else np.sqrt(self.weights[part.rows])

    def curves(self, beta: Floats, part: Slice) -> tuple[Floats, Floats]:
        """Derivatives of the means (N, c) of responses in their predictors.

        First ones (N, c, c) and second ones (N, c, c, c); c is 1 where a response is one row.
        """
        eta = self.predictor(beta, part)
        return self.first(eta)[:, None, None], self.second(eta)[:, None, None, None]

    def working_rows(self, beta: Floats, part: Slice, bend: bool = False) -> WorkingRows:
        """Scale the rows of a slice at beta.

        Raises
        ------
        Outside
            When a mean leaves its bounds.
        """
        eta = self.predictor(beta, part)
        with np.errstate(all="ignore"):
            mu, slope = self.both(eta)
            variance = self.moments.variance(mu)
            low, high = self.bounds
            if not (np.isfinite(slope).all() and (mu > low).all() and (mu < high).all()):
                raise Outside
            if not (np.isfinite(variance).all() and (variance > 0).all()):
                raise Outside
        root = np.sqrt(variance)
        precision = self.root_precision(part)
        if precision is not None:
            root /= precision
        y = self.y[part.rows]
        F = (slope / root)[:, None] * self.X[part.rows]
        found = WorkingRows(
            (y - mu) / root, F, y, mu, self.root_sampling(part), precision=precision
        )
        if not bend:
            return found
        with np.errstate(all="ignore"):
            curve = self.second(eta) / slope - self.moments.slope(mu) * slope / (2 * variance)
        return replace(found, bend=np.nan_to_num(curve))


class Outside(Exception):
    """A mean beyond its bounds."""


@dataclass(frozen=True, eq=False)
class Sums:
    """What the rows add up to at some coefficients and some correlation.

    Attributes
    ----------
    H : (p, p) array
    U : (p,) array
    squares : float
        Sum of squared residuals, by their sampling weights.
    products : (k,) array
        Of pairs of residuals, as the correlation wants them.
    """

    H: Floats
    U: Floats
    squares: float
    products: Floats


def add_up(problem: Problem, beta: Floats, current: Working, working: Working) -> Sums:
    """Go over the rows once: whitened by `current`, products as `working` wants them."""
    p, clusters = problem.p, problem.clusters
    working = _alike(current, working)
    H, U, squares, products = np.zeros((p, p)), np.zeros(p), 0.0, np.zeros(1)
    for part in clusters.slices:
        rows = problem.working_rows(beta, part)
        more = _normal_equations(problem, current, rows, part)
        H += more[0]
        U += more[1]
        v = rows.e if rows.root is None else rows.e * rows.root
        squares += float(v @ v)
        products = products + working.at(rows).sums(v, clusters, part)
    return Sums(H, U, squares, products)


def _alike(current: Working, working: Working) -> Working:
    """The structure as it is estimated by now."""
    return current if type(current) is type(working) else working


def _normal_equations(
    problem: Problem, working: Working, rows: WorkingRows, part: Slice
) -> tuple[Floats, Floats]:
    if problem.sampling is None:
        return working.at(rows).normal_equations(rows.F, rows.e, problem.clusters, part)
    ours, theirs, e = whitened(problem, working, rows, part)
    return ours.T @ theirs, ours.T @ e


def whitened(
    problem: Problem, working: Working, rows: WorkingRows, part: Slice
) -> tuple[Floats, Floats, Floats]:
    """Whitened F, the same with sampling weights, and whitened residuals with these."""
    clusters, working = problem.clusters, working.at(rows)
    ours = working.whiten_slopes(rows.F, clusters, part)
    if problem.sampling is None:
        every = working.whiten(np.column_stack([rows.F, rows.e]), clusters, part)
        return ours, every[:, :-1], every[:, -1]
    omega = problem.sampling[part.rows]
    columns = [omega[:, None] * rows.F, omega * rows.e]
    every = working.whiten(np.column_stack(columns), clusters, part)
    return ours, every[:, :-1], every[:, -1]


@dataclass(frozen=True, eq=False)
class Counts:
    """Numbers of rows and of pairs, by their sampling weights."""

    rows: float
    pairs: Floats


def count(problem: Problem, working: Working) -> Counts:
    """Count rows, and the pairs that share a parameter of the correlation."""
    rows, total = 0.0, np.zeros(0)
    if not working.counted:
        return Counts(float(problem.observations), total)
    for k, part in enumerate(problem.clusters.slices):
        root = problem.root_sampling(part)
        v = np.ones(part.rows.stop - part.rows.start) if root is None else root
        rows += float(v @ v)
        more = working.sums(v, problem.clusters, part)
        total = more if k == 0 else total + more
    return Counts(rows, total)


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the equations are solved.

    Attributes
    ----------
    beta : (p,) array
    working : Working
    scale : float
        phi, by Pearson's residuals.
    bread : (p, p) array
        H, without the scale.
    gap : float
        sqrt(U' H^-1 U / phi) at `beta` and its own correlation: the estimating function in
        units of its standard error given the model.
    steps : int
    converged : bool
    """

    beta: Floats
    working: Working
    scale: float
    bread: Floats
    gap: float
    steps: int
    converged: bool


def solve(problem: Problem, working: Working, beta: Floats, watch: Watch | None = None) -> Solution:
    """Solve the equations, with a working correlation that is positive definite.

    An estimate that is none at the solution, or on a way that leads to no solution, is mixed with
    independence: the structure stays, and the smallest eigenvalue is `MIXED`. `watch` is told of
    each step how far it is from the solution.

    Raises
    ------
    Outside
        When there are no coefficients to start from, or no steps that lead on.
    """
    trail: list[float] = []
    found: Solution | None = None
    try:
        found = _search(problem, working, beta, FLOOR, trail, watch)
    except Outside:
        if type(working) is type(problem.independent):
            raise
    if found is not None and found.converged and found.working.shrunk == 0:
        return found
    smallest = min(trail, default=np.nan)
    again = _search(problem, working, beta, MIXED, trail, watch)
    if found is not None and found.converged and not again.converged:
        return found
    return replace(again, working=replace(again.working, smallest=smallest))


def _search(
    problem: Problem,
    working: Working,
    beta: Floats,
    floor: float,
    trail: list[float],
    watch: Watch | None,
) -> Solution:
    """Fisher scoring, the correlation estimated anew at each step.

    The first steps take independence, until they come near. A step that leaves the means that
    there are is halved; one on which the residuals grow without end leads nowhere. The smallest
    eigenvalues of estimates that were mixed go to `trail`.
    """
    counts = count(problem, working)
    current = problem.independent
    sums = add_up(problem, beta, current, working)
    before, fresh = np.inf, False  # whether the correlation is that of these very residuals
    usual = np.inf
    for step in range(1, MOST_STEPS + 1):
        scale = scale_of(problem, sums, counts)
        sums = _penalised(problem, beta, current, sums, scale)
        move = _solved(sums.H, sums.U)
        gap = _gap(sums.U, move, scale)
        if watch is not None:
            watch(f"distance to the solution {gap:.1e}")
        settled = type(current) is type(working)
        done = (
            settled
            and current.gap <= CONVERGED
            and (gap <= TOLERANCE or (gap < CONVERGED and gap > STALLED * before))
        )
        if done and fresh:
            break
        if settled or gap < NEAR or step > FIRST_STEPS:
            usual = usual if settled else max(sums.squares, 1e-300)
            if sums.squares > RUNAWAY * usual:  # a root at infinity: the scale outgrows all else
                raise Outside
            known = _alike(current, working)
            found = correlation_of(problem, known, sums, counts, scale, floor)
            current = found if done or not settled else _damped(known, found, step)
            trail += [current.smallest] if current.shrunk > 0 else []
        if done:
            sums, fresh = add_up(problem, beta, current, working), True
            continue
        before = gap if settled else np.inf
        beta, sums = _stepped(problem, beta, move, current, working)
        fresh = len(current.parameters) == 0
    return Solution(beta, current, scale, sums.H, gap, step, bool(done and fresh))


def _damped(before: Working, after: Working, step: int) -> Working:
    """Go a part of the way where the correlation and the coefficients chase each other."""
    share = next((share for most, share in DAMPED if step > most), 1.0)
    if share == 1.0 or not before.counted:
        return after
    moved = before.parameters + share * (after.parameters - before.parameters)
    return replace(after, parameters=moved)


def _gap(U: Floats, move: Floats, scale: float) -> float:
    """The estimating function in units of its standard error given the model."""
    return float(np.sqrt(max(float(U @ move), 0.0) / scale)) if scale > 0 else 0.0


def _stepped(
    problem: Problem, beta: Floats, move: Floats, current: Working, working: Working
) -> tuple[Floats, Sums]:
    """Move, by less where the whole step leaves the means that there are."""
    for _ in range(HALVINGS):
        try:
            return beta + move, add_up(problem, beta + move, current, working)
        except Outside:
            move = 0.5 * move
    raise Outside


def scale_of(problem: Problem, sums: Sums, counts: Counts) -> float:
    """Phi by Pearson's residuals."""
    if problem.scale is not None:
        return problem.scale
    return sums.squares / (counts.rows - (problem.p if problem.adjusted else 0))


def correlation_of(
    problem: Problem, working: Working, sums: Sums, counts: Counts, scale: float, floor: float
) -> Working:
    """The working correlation that products of residuals make."""
    pairs = counts.pairs
    if problem.adjusted:
        pairs = working.reduced(pairs, problem.p, counts.rows)
    return working.fitted(sums.products / max(scale, 1e-300), pairs, problem.clusters, floor)


def _solved(H: Floats, U: Floats) -> Floats:
    size = np.sqrt(np.abs(np.diag(H)))
    size = np.where(size > 0, size, 1.0)
    scaled = H / np.outer(size, size)
    return np.asarray(np.linalg.lstsq(scaled, U / size, rcond=1e-14)[0] / size)


def _penalised(problem: Problem, beta: Floats, working: Working, sums: Sums, scale: float) -> Sums:
    """Add the derivative of log det H / 2 in beta, R held (Firth 1993; Mondol & Rahman 2019).

    It is sum over rows of h x dlog a / deta, with a = sqrt(w / V) dmu/deta and h the row's entry
    on the diagonal of F H^-1 F' R^-1. H without the scale stands for the information over phi.
    Of odds ratios, which are held where R is not, see `log_det_slopes`.
    """
    if not problem.penalised:
        return sums
    if working.of_means:
        if working.has_root:
            more = log_det_slopes(problem, beta, working, sums.H)
        else:
            more = _log_det_differences(problem, beta, working)
        return replace(sums, U=sums.U + scale * more)
    inverse, more = np.linalg.inv(sums.H), np.zeros(problem.p)
    for part in problem.clusters.slices:
        rows = problem.working_rows(beta, part, bend=True)
        ours = working.whiten(rows.F, problem.clusters, part)
        back = working.whiten_back(ours, problem.clusters, part)
        h = np.sum((rows.F @ inverse) * back, axis=1)
        assert rows.bend is not None
        more += problem.X[part.rows].T @ (h * rows.bend)
    return replace(sums, U=sums.U + scale * more)


STENCIL = ((1.0, 8.0), (-1.0, -8.0), (2.0, -1.0), (-2.0, 1.0))
"""Places and weights of a difference quotient of fourth order, over 12."""
MOVES = (1e-3, 1e-4, 1e-5)
"""How far it moves linear predictors at most; less where a mean would leave its bounds."""


def _log_det_differences(problem: Problem, beta: Floats, working: Working) -> Floats:
    """Derivatives (p,) of log det H / 2 in beta, the parameters of the association held."""
    widest = np.maximum(np.abs(problem.X).max(axis=0), 1e-300)
    found = np.empty(problem.p)
    for j in range(problem.p):
        for size in MOVES:
            try:
                found[j] = _log_det_slope(problem, beta, working, j, size / widest[j])
                break
            except Outside:
                if size == MOVES[-1]:
                    raise
    return found


def _log_det_slope(problem: Problem, beta: Floats, working: Working, j: int, step: float) -> float:
    total = 0.0
    for place, weight in STENCIL:
        moved = beta.copy()
        moved[j] += place * step
        H = sum(
            _normal_equations(problem, working, problem.working_rows(moved, part), part)[0]
            for part in problem.clusters.slices
        )
        total += weight * 0.5 * float(np.linalg.slogdet(H)[1])
    return total / (12 * step)


def by_cluster(problem: Problem, solution: Solution) -> Iterator[tuple[Slice, Floats, Floats]]:
    """Yield, for each slice, the scores u_i (k, p) of its clusters and their shares B_i of H."""
    for part in problem.clusters.slices:
        rows = problem.working_rows(solution.beta, part)
        ours, theirs, e = whitened(problem, solution.working, rows, part)
        scores = part.sums(ours * e[:, None])
        shares = part.sums((ours[:, :, None] * theirs[:, None, :]).reshape(len(e), -1))
        yield part, scores, shares.reshape(len(scores), problem.p, problem.p)


def weight_derivatives(problem: Problem, solution: Solution, slopes: Floats) -> Floats:
    """Derivatives (p, q) of the equations where the rows' weights have the slopes (n, q)."""
    found = np.zeros((problem.p, slopes.shape[1]))
    for part in problem.clusters.slices:
        rows = problem.working_rows(solution.beta, part)
        working = solution.working.at(rows)
        ours = working.whiten_slopes(rows.F, problem.clusters, part)
        moved = slopes[part.rows] * rows.e[:, None]
        found += ours.T @ working.whiten(moved, problem.clusters, part)
    return found


def scores(problem: Problem, solution: Solution) -> Floats:
    """Scores u_i (K, p) of all clusters, without the scale."""
    found = np.empty((problem.clusters.count, problem.p))
    for part in problem.clusters.slices:
        rows = problem.working_rows(solution.beta, part)
        e = rows.e if problem.sampling is None else rows.e * problem.sampling[part.rows]
        working = solution.working.at(rows)
        found[part.clusters] = working.scores(rows.F, e, problem.clusters, part)
    return found


def start(problem: Problem) -> Floats:
    """Coefficients to start from.

    One weighted regression from means half-way between y and its mean; a constant mean where that
    leads to means that there are not.
    """
    w = problem.weights
    centre = float(np.average(problem.y, weights=w))
    found = _regression(problem, lambda y: 0.5 * (y + centre))
    try:
        add_up(problem, found, INDEPENDENT, INDEPENDENT)
    except Outside:
        return _regression(problem, lambda y: np.full_like(y, centre), constant=True)
    return found


def _regression(
    problem: Problem, mean: Callable[[Floats], Floats], constant: bool = False
) -> Floats:
    """One step of scoring from these means; of a constant mean the predictor itself."""
    p = problem.p
    H, U = np.zeros((p, p)), np.zeros(p)
    for part in problem.clusters.slices:
        y, X = problem.y[part.rows], problem.X[part.rows]
        mu = mean(y)
        eta = problem.link(mu)
        slope = problem.first(eta)
        target = eta if constant else eta + (y - mu) / slope
        if problem.offset is not None:
            target = target - problem.offset[part.rows]
        weight = slope**2 / problem.moments.variance(mu)
        if problem.weights is not None:
            weight = weight * problem.weights[part.rows]
        H += X.T @ (weight[:, None] * X)
        U += X.T @ (weight * target)
    return _solved(H, U)
