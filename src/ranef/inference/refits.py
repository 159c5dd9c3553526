"""Bootstraps: a model fitted again to data that are drawn from it, or drawn anew.

Replicates come in chunks of a size that depends on the model alone; each chunk has a
seed of its own. So the draws do not depend on who makes them, and a prefix of the
replicates is the bootstrap with fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, RanefError
from ranef.inference.coefficients.parameter_list import parameter_values, singular_rows
from ranef.inference.draws.resampling import Clusters, ResidualBootstrap
from ranef.inference.protocol import Inference
from ranef.models import refits
from ranef.models.records import Estimate
from ranef.models.refitting import refit, refitted
from ranef.solve.resources import available_cores, in_threads

__all__ = [
    "INTERVALS",
    "METHODS",
    "Chunk",
    "Draws",
    "Plan",
    "chunks",
    "corrected_levels",
    "draw",
    "intervals_of",
    "jackknife",
    "joined",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Statistic = Callable[[Estimate], Floats]

METHODS = ("parametric", "cluster", "residual")
INTERVALS = ("percentile", "basic", "normal", "bca")
VALUES_A_CHUNK = 1_000_000
MOST_A_CHUNK = 200
SLOW_A_CHUNK = 10
MOST_DELETED = 200
GROUPS = 100


@dataclass(frozen=True)
class Plan:
    """What is drawn.

    Attributes
    ----------
    method : str
        ``"parametric"``, ``"cluster"`` or ``"residual"``.
    effects : str
        Of a parametric bootstrap: ``"new"`` or ``"conditional"``.
    cluster : int or None
        The factor whose levels are drawn, if any are.
    """

    method: str
    effects: str = "new"
    cluster: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Replicates that are made together.

    Attributes
    ----------
    first, count : int
    seed : int
    """

    first: int
    count: int
    seed: int


@dataclass(frozen=True, eq=False)
class Draws:
    """What refits gave.

    Attributes
    ----------
    values : (m, k) float64 array
        Parameters, or the user's statistic; NaN where a refit failed.
    singular : (m,) bool array
    proved : (m,) bool array
        Whether the optimum was proved; False also where the refit failed.
    failures : tuple of (int, str)
        Replicates that failed, with the reason.
    """

    values: Floats
    singular: Bools
    proved: Bools
    failures: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.values)


def chunks(
    model: Inference, plan: Plan, n: int, rng: np.random.Generator, statistic: bool
) -> list[Chunk]:
    """Cut n replicates into chunks, each with a seed."""
    fast = _is_fast(model, plan) and not statistic
    size = min(MOST_A_CHUNK, max(1, VALUES_A_CHUNK // model.estimate.specification.n))
    size = size if fast else min(size, SLOW_A_CHUNK)
    firsts = range(0, n, size)
    seeds = rng.integers(0, 2**63 - 1, len(firsts))
    return [
        Chunk(first, min(size, n - first), int(seed))
        for first, seed in zip(firsts, seeds, strict=True)
    ]


def _is_fast(model: Inference, plan: Plan) -> bool:
    """Tell whether all refits of a chunk are one call of the core."""
    return plan.method != "cluster" and model.refits_together


def draw(
    model: Inference,
    plan: Plan,
    work: Sequence[Chunk],
    *,
    n_jobs: int | None = None,
    statistic: Statistic | None = None,
) -> Iterator[Draws]:
    """Make the chunks in turn.

    Parameters
    ----------
    model : Inference
    plan : Plan
    work : sequence of Chunk
    n_jobs : int or None
        Threads: inside the core where the refits are one call, else over the chunks. The
        draws are the same for any number.
    statistic : callable or None
        Takes the estimate of a refit; None for the parameters. It is called from one
        thread.
    """
    jobs = available_cores(n_jobs)
    if statistic is not None or _is_fast(model, plan) or jobs == 1 or len(work) == 1:
        return map(Worker(model, plan, jobs, statistic), work)
    return in_threads(Worker(model, plan, 1, None), work, jobs)


class Worker:
    """Makes chunks of one bootstrap."""

    def __init__(
        self, model: Inference, plan: Plan, n_jobs: int, statistic: Statistic | None
    ) -> None:
        self.estimate = model.estimate
        self.n_jobs = n_jobs
        self.statistic = statistic
        self.fast = _is_fast(model, plan) and statistic is None
        self._sample: Callable[[np.random.Generator, int], Any]
        if plan.cluster is not None:
            self._sample = _whole_levels(Clusters.of(model.estimate, plan.cluster))
        elif plan.method == "residual":
            self._sample = _residuals(model.resampled())
        else:
            self._sample = _parametric(model, plan.effects)

    def __call__(self, chunk: Chunk) -> Draws:
        data = self._sample(np.random.default_rng(chunk.seed), chunk.count)
        if self.fast:
            return self._together(np.column_stack(data), chunk.first)
        return self._one_by_one(data, chunk.first)

    def _together(self, Y: Floats, first: int) -> Draws:
        """Refit a linear model to the columns of Y in one call."""
        try:
            found = refits.refit_many(self.estimate, Y, n_jobs=self.n_jobs)
        except ModelError:
            # a response without variation refuses them all: find it
            return self._one_by_one(list(Y.T), first)
        values = parameter_values(self.estimate, found.beta, found.theta, found.sigma)
        bad = ~np.isfinite(found.loglik)
        values[bad] = np.nan
        singular = singular_rows(self.estimate, found.theta) & ~bad
        failures = tuple(
            (first + int(i), "the likelihood is not finite") for i in np.flatnonzero(bad)
        )
        return Draws(values, singular, found.converged & ~bad, failures)

    def _one_by_one(self, data: Sequence[Any], first: int) -> Draws:
        values: list[Floats | None] = []
        singular, proved = np.zeros((2, len(data)), dtype=np.bool_)
        failures = []
        for i, one in enumerate(data):
            try:
                refit = self.refit(one)
                values.append(self.read(refit))
            except (RanefError, np.linalg.LinAlgError, FloatingPointError) as error:
                failures.append((first + i, str(error)))
                values.append(None)
                continue
            singular[i], proved[i] = refit.optimum.singular, refit.optimum.converged
        return Draws(_stacked(values), singular, proved, tuple(failures))

    def refit(self, one: Any) -> Estimate:
        """Fit the model to a response, or to other rows."""
        own, jobs = self.estimate, self.n_jobs
        if not isinstance(one, tuple):
            return refit(own, one, n_jobs=jobs)
        clusters, levels = one
        return refitted(own, *clusters.take(levels), n_jobs=jobs)

    def read(self, refit: Estimate) -> Floats:
        """Return the parameters, or the statistic."""
        if self.statistic is not None:
            return self._asked(self.statistic, refit)
        sigma = None if refit.sigma is None else np.array([refit.sigma])
        coef = refit.coefficients[None]
        values = parameter_values(self.estimate, coef, refit.theta[None], sigma)
        return np.asarray(values[0])

    def _asked(self, statistic: Statistic, refit: Estimate) -> Floats:
        """Ask the user's statistic; its errors are a failed refit, since of the fit it had none."""
        try:
            return statistic(refit)
        except RanefError:
            raise
        except Exception as error:
            raise ModelError(f"the statistic failed: {type(error).__name__}: {error}") from error


def _stacked(values: Sequence[Floats | None]) -> Floats:
    """Rows of equal length, NaN where there is none; (m, 0) where all failed."""
    known = [len(v) for v in values if v is not None]
    if len(set(known)) > 1:
        raise DataError(
            f"the statistic has {known[0]} values for one refit and {max(known)} for another; "
            "return as many each time"
        )
    width = known[0] if known else 0
    out = np.full((len(values), width), np.nan)
    for row, value in zip(out, values, strict=True):
        if value is not None:
            row[:] = value
    return out


def _parametric(
    model: Inference, effects: str
) -> Callable[[np.random.Generator, int], list[Floats]]:
    return lambda rng, count: list(model.simulate(count, rng, kind=effects).T)


def _residuals(own: ResidualBootstrap) -> Callable[[np.random.Generator, int], list[Floats]]:
    return lambda rng, count: [own.draw(rng) for _ in range(count)]


def _whole_levels(clusters: Clusters) -> Callable[[np.random.Generator, int], Sequence[Any]]:
    q = clusters.count
    return lambda rng, count: [(clusters, row) for row in rng.integers(0, q, (count, q))]


def joined(parts: Sequence[Draws]) -> Draws:
    """Put the chunks together."""
    width = max((p.values.shape[1] for p in parts), default=0)
    values = [
        p.values if p.values.shape[1] == width else np.full((len(p), width), np.nan) for p in parts
    ]
    return Draws(
        np.concatenate(values),
        np.concatenate([p.singular for p in parts]),
        np.concatenate([p.proved for p in parts]),
        tuple(failure for p in parts for failure in p.failures),
    )


def jackknife(
    model: Inference, cluster: int, *, statistic: Statistic | None = None, n_jobs: int = 1
) -> Floats:
    """Return parameters without each level of a factor, (g, k); NaN where a refit fails.

    Of more than 200 levels the hundred groups of levels with equal remainder are left out
    in turn: the acceleration is a ratio of sums over independent parts, whatever
    their size.
    """
    worker = Worker(model, Plan("cluster", cluster=cluster), n_jobs, statistic)
    clusters = Clusters.of(model.estimate, cluster)
    q = clusters.count
    group = np.arange(q) if q <= MOST_DELETED else np.arange(q) % GROUPS
    kept = [(clusters, np.flatnonzero(group != g)) for g in range(int(group.max()) + 1)]
    return worker._one_by_one(kept, 0).values


def acceleration(deleted: Floats) -> Floats:
    """Acceleration (k,) of BCa intervals from delete-one values (g, k)."""
    d = np.nanmean(deleted, axis=0) - deleted
    with np.errstate(invalid="ignore", divide="ignore"):
        a = np.nansum(d**3, axis=0) / (6.0 * np.nansum(d**2, axis=0) ** 1.5)
    return np.where(np.isfinite(a), a, 0.0)


def intervals_of(
    values: Floats,
    estimate: Floats,
    conf_level: float,
    kind: str,
    deleted: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Bootstrap intervals (Davison & Hinkley 1997, *Bootstrap Methods*, chapter 5).

    Parameters
    ----------
    values : (m, k) array
        Draws; NaN is left out.
    estimate : (k,) array
    conf_level : float
    kind : {"percentile", "basic", "normal", "bca"}
        Quantiles of the draws; these reflected about the estimate; estimate less bias
        plus and minus a normal quantile times the standard deviation of the draws;
        quantiles at levels corrected for bias and acceleration (Efron 1987, JASA 82).
    deleted : (g, k) array
        Jackknife values, for ``"bca"``.
    """
    tail = (1 - conf_level) / 2
    low, high = np.full(len(estimate), np.nan), np.full(len(estimate), np.nan)
    a = None if deleted is None else acceleration(deleted)
    for k, centre in enumerate(estimate):
        x = values[np.isfinite(values[:, k]), k]
        if len(x) < 2 or not np.isfinite(centre):
            continue
        if kind == "normal":
            reach = NormalDist().inv_cdf(1 - tail) * float(np.std(x, ddof=1))
            middle = 2 * centre - float(x.mean())
            low[k], high[k] = middle - reach, middle + reach
            continue
        levels = (tail, 1 - tail)
        if kind == "bca":
            levels = corrected_levels(x, float(centre), tail, float(0.0 if a is None else a[k]))
        ends = np.quantile(x, levels, method="weibull")
        low[k], high[k] = 2 * centre - ends[::-1] if kind == "basic" else ends
    return low, high


def corrected_levels(x: Floats, centre: float, tail: float, a: float) -> tuple[float, float]:
    """Levels of the BCa interval; draws equal to the estimate count half."""
    normal = NormalDist()
    below = (float(np.mean(x < centre)) + float(np.mean(x <= centre))) / 2
    z0 = normal.inv_cdf(min(max(below, 0.5 / len(x)), 1 - 0.5 / len(x)))
    out = []
    for z in (normal.inv_cdf(tail), normal.inv_cdf(1 - tail)):
        shifted = z0 + z
        rest = 1 - a * shifted
        out.append(normal.cdf(z0 + shifted / rest) if rest > 0 else float(shifted > 0))
    return out[0], out[1]
