"""Parameters by the marginal likelihood: expectation-maximisation from several starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.fields.metagenomics.arrays import CONTROL, PATIENT, Arrays, Pairs, spilled
from ranef.fields.metagenomics.expectation import (
    Block,
    Grid,
    Kernels,
    Libraries,
    Own,
    blocks_of,
    evaluate,
    grid_of,
    settings,
)
from ranef.fields.metagenomics.parameters import Parameters, Prior
from ranef.solve.resources import in_threads, one_blas_thread

__all__ = ["Fitted", "Results", "adapted", "fit", "plausible", "run", "without_reads"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SWEEPS = 12
COARSE = 1.6
LONGER = 2.5
FEW_PAIRS = 5000
"""Pairs with reads on which the starts are tried."""
LOCKED_SWEEPS = 4
TOLERANCE = 0.05
MOST_PAIRS = 10_000
"""From so many pairs with reads on, parameters are learned from a sample of the taxa."""
PAIRS_OF_PRESENCE = 40_000
"""As many again, for what is learned of presences."""
LEAST_TAXA = 100
SMALLEST_PRESENCE = 0.02
MOST_GENUINE = 0.1
MOST_JUMPS = 0.5
MOST_PREVALENT = 0.02
"""Prevalence outside the class of genuine taxa; at least two organisms a patient."""
MOST_LIBRARY_SD = 1.0
"""A measured exposure is off by a factor of e, not by more."""
BURSTS, BURSTS_WORTH = 0.01, 20.0
"""Share of libraries with a rate of their own of such contaminations, worth so many libraries."""
LEAST_BURST, FEWEST = 0.005, 10.0
"""Rate of the smallest burst, and taxa that it is worth."""
ESCAPES, ESCAPES_WORTH = 0.2, 20.0
"""Share of ambient taxa that libraries can escape, worth so many taxa."""
FEW_JUMPS = 0.02
"""Contaminations of their own for each presence, where fewer than two controls tell."""


@dataclass(frozen=True, eq=False)
class Results:
    """What a pass over all taxa found; pairs in order, taxa in order.

    The fields are those of `Block`, joined; `score` and `information` are sums.
    """

    blocks: tuple[Block, ...]
    pairs: Pairs
    grid: Grid

    def joined(self, name: str) -> Floats:
        """Return an attribute of all blocks, one after the other."""
        return np.concatenate([getattr(block, name) for block in self.blocks])

    def summed(self, name: str) -> Floats:
        """Return the sum of an attribute over the blocks."""
        return np.asarray(sum(getattr(block, name) for block in self.blocks))

    @property
    def evidence(self) -> float:
        """Log marginal likelihood."""
        return float(sum(block.evidence.sum() for block in self.blocks))


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parameters, libraries, and how they were found.

    Attributes
    ----------
    parameters : Parameters
    libraries : Libraries
    grid : Grid
    evidence : tuple of float
        Log posterior of each start on the taxa that parameters are learned from.
    sweeps : int
    disagree : bool
        Whether another start, carried on, ended at other parameters.
    """

    parameters: Parameters
    libraries: Libraries
    grid: Grid
    evidence: tuple[float, ...]
    sweeps: int
    disagree: bool


def run(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, jobs: int = 1,
    light: bool = False,
) -> Results:  # fmt: skip
    """Work out all pairs and taxa at given parameters; a light pass has one size for all taxa."""
    kernels = Kernels.of(grid, psi)
    shared = settings(arrays, grid, psi, libraries, kernels, light)
    pairs = arrays.pairs(spilled(arrays, psi.hop, psi.leak))

    def work(stretch: tuple[int, int, slice]) -> Block:
        first, last, at = stretch
        return evaluate(arrays, grid, psi, kernels, shared, pairs, first, last, at)

    with one_blas_thread():
        blocks = tuple(in_threads(work, blocks_of(arrays, pairs, len(grid.nodes)), jobs))
    return Results(blocks, pairs, grid)


def start_of(arrays: Arrays, prior: Prior, which: str) -> Parameters:
    """Return parameters to begin with."""
    groups = int(arrays.group.max(initial=0)) + 1
    some = arrays.reads[arrays.negative] if arrays.negative.any() else arrays.reads
    r = arrays.exposure[arrays.negative] if arrays.negative.any() else arrays.exposure
    mean_rate = some.sum(axis=0) / max(float(r.sum()), 1e-12)
    seen = mean_rate[mean_rate > 0]
    floor = 0.3 / max(float(r.sum()), 1e-12)
    mean = float(np.log(np.append(seen, floor)).mean()) if len(seen) else float(np.log(floor))
    jumpy = which == "sporadic" and arrays.negative.sum() > 1
    deeper = which == "present"
    return Parameters(
        mean=mean - 1.0,
        sd=2.5,
        steps=np.full(len(arrays.levels.names), prior.batch_sd),
        library_sd=0.3,
        size=prior.size,
        size_sd=prior.size_sd,
        prevalence=prior.prevalence * (10.0 if deeper else 1.0),
        jumps=prior.prevalence * (5.0 if jumpy else 0.02),
        escapes=ESCAPES,
        bursts=BURSTS,
        jump_mean=float(np.log(5.0)),
        jump_sd=1.5,
        mass_mean=np.full(groups, np.log(100.0)),
        mass_sd=np.full(groups, 2.0),
        classes=np.array([0.8 - prior.genuine, 0.2, prior.genuine]),
        hop=np.full(int(arrays.run.max(initial=0)) + 1, prior.hop),
        leak=prior.hop if arrays.near is not None else 0.0,
        offsets=np.zeros(int(arrays.kind.max(initial=0)) + 1),
    )


def _weighted(values: Floats, weight: Floats) -> float:
    return float((values * weight).sum() / max(float(weight.sum()), 1e-12))


def updated(
    arrays: Arrays, psi: Parameters, libraries: Libraries, found: Results, prior: Prior,
    sizes_too: bool = False,
) -> tuple[Parameters, Libraries]:  # fmt: skip
    """Return the parameters that maximise what a pass expects."""
    classes = found.joined("classes")
    ambient = classes[:, 0]
    root, root_var = found.joined("root_mean"), found.joined("root_var")
    mean = (_weighted(root, ambient) * ambient.sum() + 0.5 * psi.mean) / (ambient.sum() + 0.5)
    sd2 = ((root_var + (root - mean) ** 2) * ambient).sum() + 2.0 * 4.0
    sd = float(np.sqrt(sd2 / (ambient.sum() + 2.0)))
    steps = _steps(arrays, psi, found, ambient, prior)
    size, size_sd = psi.size, psi.size_sd
    if sizes_too:
        size, size_sd = _sizes(psi, found, prior)
    psi = replace(
        psi, mean=mean, sd=min(max(sd, 0.5), 6.0), steps=steps,
        size=size, size_sd=size_sd,
        classes=_class_weights(classes, prior),
    )  # fmt: skip
    factors = np.exp(np.clip(found.joined("log_bf_escape"), -300.0, 300.0))
    no_others = np.zeros(0)
    escapes = _share(
        factors, ambient, no_others, no_others, ESCAPES * ESCAPES_WORTH, ESCAPES_WORTH
    )  # fmt: skip
    psi = _presences(arrays, replace(psi, escapes=escapes), libraries, found, prior)
    return _deviations(arrays, psi, libraries, found)


def _steps(
    arrays: Arrays, psi: Parameters, found: Results, ambient: Floats, prior: Prior
) -> Floats:
    spread = found.joined("spread")
    out = psi.steps.copy()
    for d, parents in enumerate(arrays.levels.parents):
        count = len(parents)
        if count < 2:
            continue
        total = float((spread[:, d] * ambient).sum()) + 10.0 * prior.batch_sd**2
        out[d] = np.clip(np.sqrt(total / (ambient.sum() * count + 10.0)), 0.05, 3.0)
    return out


def _sizes(psi: Parameters, found: Results, prior: Prior) -> tuple[float, float]:
    """Median of the sizes and sd of their logs; the step is longer than expectation's own."""
    log_size, log_size2 = found.joined("log_size"), found.joined("log_size2")
    n_taxa = len(log_size)
    log = (log_size.sum() + 4.0 * np.log(prior.size)) / (n_taxa + 4.0)
    log = np.log(psi.size) + LONGER * (log - np.log(psi.size))
    squares = (log_size2 - 2 * log * log_size + log**2).sum() + 20.0 * prior.size_sd**2
    sd = float(np.clip(np.sqrt(squares / (n_taxa + 20.0)), 0.15, 0.8))
    return float(np.clip(np.exp(log), 0.15, 50.0)), sd


def _class_weights(classes: Floats, prior: Prior) -> Floats:
    n = float(len(classes))
    free = classes[:, :2].sum(axis=0) + 2.0
    genuine = min((float(classes[:, 2].sum()) + n * prior.genuine) / (2.0 * n), MOST_GENUINE)
    return np.append((1.0 - genuine) * free / free.sum(), genuine)


def _presences(
    arrays: Arrays, psi: Parameters, libraries: Libraries, found: Results, prior: Prior
) -> Parameters:
    pairs = found.pairs
    p = found.joined("probability")
    jump = found.joined("jump")
    role = arrays.role[pairs.sample]
    classes = found.joined("classes")
    sporadic = 1.0 - classes[pairs.taxon, 2]
    patients = (role == PATIENT) & (pairs.reads > 0)
    controls = (role == CONTROL) & (pairs.reads > 0)
    zero_bf, zero_jump = without_reads(arrays, psi, libraries, found)
    n_taxa = float(classes[:, :2].sum())

    def empty(which: NDArray[np.bool_], role: int) -> Floats:
        here = np.bincount(pairs.sample[which], minlength=arrays.shape[0])
        out = np.where(arrays.role == role, np.maximum(n_taxa - here, 0.0), 0.0)
        return np.asarray(out)

    prevalence = _share(
        np.exp(np.minimum(found.joined("log_bf")[patients], 300.0)), sporadic[patients],
        zero_bf, empty(patients, PATIENT),
        prior.strength, prior.strength / prior.prevalence,
    )  # fmt: skip
    prevalence = min(prevalence, max(MOST_PREVALENT, 2.0 / len(classes)))
    own_jumps = libraries.jumps[pairs.sample[controls]]
    caught = found.joined("caught")[controls]
    odds = caught / np.maximum(1.0 - caught, 1e-300)
    jumps = _share(
        odds * (1.0 - own_jumps) / own_jumps, libraries.common[pairs.sample[controls]],
        zero_jump, libraries.common * empty(controls, CONTROL), 0.1, 5.0 / prevalence,
    )  # fmt: skip
    if arrays.negative.sum() < 2:
        jumps = FEW_JUMPS * prevalence
    moved = Own.of(arrays, found.grid.nodes, libraries)
    rate = moved.rate[pairs.sample]
    back = moved.contamination[pairs.sample] * found.joined("back_mean") + pairs.spill
    left = np.maximum(pairs.reads - back, 0.3)
    mass = np.log(left / np.maximum(rate, 1e-12))
    noise = 1.0 / psi.size
    mass_mean, mass_sd = psi.mass_mean.copy(), psi.mass_sd.copy()
    weights = np.where(patients, np.maximum(p - 3.0 * psi.prevalence, 0.0) * sporadic, 0.0)
    overall = _moments(mass, weights, float(np.log(50.0)), 4.0, 2.0, noise)
    of = arrays.group[pairs.taxon]
    for g in range(len(mass_mean)):
        own = np.where(of == g, weights, 0.0)
        mass_mean[g], mass_sd[g] = (
            overall if len(mass_mean) == 1
            else _moments(mass, own, overall[0], overall[1] ** 2, 5.0, noise)
        )  # fmt: skip
    mass_sd = np.clip(mass_sd, 1.0, 4.0)
    jump_mean, jump_sd = _moments(
        mass,
        np.where(controls, np.maximum(jump - 3.0 * psi.jumps, 0.0), 0.0),
        float(np.log(5.0)),
        2.25,
        2.0,
        noise,
    )
    return replace(
        psi, prevalence=prevalence, jumps=float(min(jumps, MOST_JUMPS)),
        mass_mean=mass_mean, mass_sd=mass_sd,
        jump_mean=jump_mean, jump_sd=float(np.clip(jump_sd, 0.7, 4.0)),
    )  # fmt: skip


def without_reads(
    arrays: Arrays, psi: Parameters, libraries: Libraries, found: Results
) -> tuple[Floats, Floats]:
    """Bayes factors of presence, and of a jump, of no reads where nothing contaminates, (S,)."""
    grid = found.grid
    shared = settings(arrays, grid, psi, libraries, Kernels.of(grid, psi), light=True)[0]
    f0 = np.maximum(shared.zero_f0[:, 0], 1e-300)
    return shared.zero_f1[:, :, 0].mean(axis=0) / f0, shared.zero_fj[:, 0] / f0


def _share(
    factors: Floats, weight: Floats, zero: Floats, n_zero: Floats, a: float, b: float
) -> float:
    """Return the share of a mixture's second part, by its Bayes factors and a prior of a in b.

    Maximises sum w log(1 + x (factor - 1)) + a log x + (b - a) log(1 - x).
    """
    from scipy.optimize import minimize_scalar

    factors = np.concatenate([factors, zero]) - 1.0
    weight = np.concatenate([weight, n_zero])

    def negative(log_x: float) -> float:
        x = float(np.exp(log_x))
        value = float(weight @ np.log1p(x * factors))
        return -(value + a * log_x + max(b - a, 0.0) * float(np.log1p(-x)))

    found = minimize_scalar(negative, bounds=(np.log(1e-7), np.log(0.5)), method="bounded")
    return float(np.exp(found.x))


def _moments(
    values: Floats, weight: Floats, mean: float, variance: float, strength: float, noise: float
) -> tuple[float, float]:
    total = float(weight.sum()) + strength
    centre = (float((values * weight).sum()) + strength * mean) / total
    around = float((weight * (values - centre) ** 2).sum()) - noise * float(weight.sum())
    spread = (max(around, 0.0) + strength * variance) / total
    return centre, float(np.sqrt(spread))


def _deviations(
    arrays: Arrays, psi: Parameters, libraries: Libraries, found: Results
) -> tuple[Parameters, Libraries]:
    """One step of Newton for the libraries' deviations, then their sd and the kinds' offsets."""
    score, information = found.summed("score"), found.summed("information")
    d = libraries.deviation
    sd = np.where(~arrays.measured, arrays.looseness, psi.library_sd)
    precision = 1.0 / sd**2
    centre = psi.offsets[arrays.kind]
    information = np.maximum(information, 0.0)
    step = (score - (d - centre) * precision) / (information + precision)
    d = d + np.clip(step, -1.0, 1.0)
    variance = 1.0 / (information + precision)
    with_rate = arrays.exposure > 0
    variance = np.where(with_rate, variance, 0.0)
    d = np.where(with_rate, d, 0.0)
    known = with_rate & arrays.measured
    about = d - centre
    squares = float((about**2 + variance)[known].sum()) + 4.0 * 0.25**2
    library_sd = float(np.clip(np.sqrt(squares / (known.sum() + 4.0)), 0.05, MOST_LIBRARY_SD))
    offsets = psi.offsets.copy()
    for q in range(1, len(offsets)):
        rows = with_rate & (arrays.kind == q)
        weight = float(precision[rows].sum())
        offsets[q] = float((d * precision)[rows].sum()) / (weight + 1.0)
    jumps, common, bursts = _bursts(arrays, psi, libraries, found)
    psi = replace(psi, library_sd=library_sd, offsets=offsets, bursts=bursts)
    return psi, Libraries(d, variance, jumps, common)


def _bursts(
    arrays: Arrays, psi: Parameters, libraries: Libraries, found: Results
) -> tuple[Floats, Floats, float]:
    """Return the rate of contaminations of their own, (S,), that it is common, (S,); the share.

    A library that caught reads of a foreign sample has many taxa that no other has. Most libraries
    have the common rate; with probability psi.bursts a library has one of its own, log-uniform from
    `LEAST_BURST`, and `FEWEST` taxa, to `MOST_JUMPS`. The mean of the posterior.
    """
    pairs = found.pairs
    here = (pairs.reads > 0) & (arrays.exposure[pairs.sample] > 0)
    sample = pairs.sample[here]
    j = libraries.jumps[sample]
    p, a = found.joined("probability")[here], found.joined("caught")[here]
    log_bf = found.joined("log_bf")[here]
    with np.errstate(divide="ignore"):
        # of presence against absence, as prior odds and Bayes factor make them
        odds = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(1.0 - p, 1e-300))
    prior = 1.0 / (1.0 + np.exp(np.clip(log_bf - odds, -700.0, 700.0)))
    prior = np.where(arrays.patient[sample], prior, 0.0)
    log_present = np.log(np.maximum(prior, 1e-300)) + log_bf
    zero_jump = without_reads(arrays, psi, libraries, found)[1]
    n_zero = arrays.shape[1] - np.bincount(sample, minlength=arrays.shape[0])
    least = min(max(LEAST_BURST, FEWEST / arrays.shape[1]), 0.5 * MOST_JUMPS)
    tried = np.append(psi.jumps, np.geomspace(least, MOST_JUMPS, 9))
    logs = np.empty((len(tried), arrays.shape[0]))
    for k, rate in enumerate(tried):
        absent = (1.0 - rate) * (1.0 - a) / (1.0 - j) + rate * a / j
        absent = np.log(np.maximum((1.0 - prior) * absent, 1e-300))
        own = np.bincount(sample, np.logaddexp(absent, log_present), minlength=arrays.shape[0])
        logs[k] = own + n_zero * np.log(1.0 - rate + rate * zero_jump)
    weight = np.full(len(tried), psi.bursts / (len(tried) - 1))
    weight[0] = 1.0 - psi.bursts
    logs += np.log(weight)[:, None]
    post = np.exp(logs - logs.max(axis=0))
    post /= post.sum(axis=0)
    number = float(post[1:].sum()) + BURSTS * BURSTS_WORTH
    return np.asarray(tried @ post), post[0], number / (post.shape[1] + BURSTS_WORTH)


def sample_of_taxa(arrays: Arrays, pairs: int = MOST_PAIRS) -> Ints:
    """Return every k-th taxon, when there are many pairs with reads.

    The places of taxa say nothing of them; a sample by their reads would be another one whenever
    a library leaves.
    """
    n = arrays.shape[1]
    number = int(np.count_nonzero(arrays.reads))
    every = min(-(-number // pairs), max(n // LEAST_TAXA, 1))
    return np.arange(0, n, max(every, 1))


def fit(
    arrays: Arrays,
    prior: Prior,
    jobs: int = 1,
    told: Callable[[str], None] | None = None,
    starts: tuple[str, ...] = ("controls", "present", "sporadic"),
) -> Fitted:
    """Learn the parameters.

    Each start is run for some sweeps; the best goes on until it stands still.
    """
    learned = arrays.of_taxa(sample_of_taxa(arrays))
    few = arrays.of_taxa(sample_of_taxa(arrays, FEW_PAIRS))
    grid = grid_of(learned, prior.size, COARSE)
    states = []
    for which in starts:
        states.append(_started(few, grid, prior, which, jobs))
        if told is not None:
            told(which)
    best = max(range(len(states)), key=lambda k: states[k][0])
    # where data are few all starts are carried on, since early sweeps say little of the end
    carried = states if few.shape[1] == learned.shape[1] else [states[best]]
    ends = []
    for _, psi, libraries in carried:
        psi, libraries, sweeps = _searched(learned, grid, psi, libraries, prior, jobs)
        value = run(learned, grid, psi, libraries, jobs).evidence if len(carried) > 1 else 0.0
        ends.append((value, psi, libraries, sweeps))
    _, psi, libraries, sweeps = max(ends, key=lambda end: end[0])
    more = sample_of_taxa(arrays, PAIRS_OF_PRESENCE)
    if len(more) > learned.shape[1]:
        # presences are few: their rate and masses are taken from more taxa
        wider = arrays.of_taxa(more)
        psi = _presences(wider, psi, libraries, run(wider, grid, psi, libraries, jobs, True), prior)
    tried = [end[:3] for end in ends] if len(ends) > 1 else states
    grid = grid_of(arrays, psi.size)
    return Fitted(psi, libraries, grid, tuple(t[0] for t in tried), sweeps, _apart(tried))


def _started(
    few: Arrays, grid: Grid, prior: Prior, which: str, jobs: int
) -> tuple[float, Parameters, Libraries]:
    """Sweep three times from a start: log likelihood, parameters, libraries."""
    psi = start_of(few, prior, which)
    sd = np.maximum(few.looseness, psi.library_sd)
    libraries = Libraries.unknown(np.where(few.exposure > 0, 0.25 * sd**2, 0.0), psi.jumps)
    value = -np.inf
    for _ in range(3):
        found = run(few, grid, psi, libraries, jobs, light=True)
        value = found.evidence
        psi, libraries = updated(few, psi, libraries, found, prior)
    return value, psi, libraries


def plausible(arrays: Arrays, prior: Prior, jobs: int = 1) -> float:
    """Return how well exposures explain the reads: the log likelihood after a few sweeps."""
    few = arrays.of_taxa(sample_of_taxa(arrays, FEW_PAIRS))
    grid = grid_of(few, prior.size, COARSE)
    return max(_started(few, grid, prior, which, jobs)[0] for which in ("controls", "present"))


def _searched(
    learned: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, prior: Prior, jobs: int
) -> tuple[Parameters, Libraries, int]:
    """Sweep from a start until the parameters stand still."""
    sweeps = 0
    for sweeps in range(1, SWEEPS + 1):
        if sweeps == 2:
            psi = searched_spill(learned, grid, psi, libraries, prior, jobs)
        # the sizes' spread between taxa is learned in every third pass
        found = run(learned, grid, psi, libraries, jobs, light=sweeps % 3 != 0)
        before = np.log([psi.prevalence, psi.size, psi.library_sd, *psi.steps])
        psi, libraries = updated(learned, psi, libraries, found, prior, sweeps % 3 == 0)
        after = np.log([psi.prevalence, psi.size, psi.library_sd, *psi.steps])
        if sweeps % 3 == 0 and np.abs(after - before).max() < TOLERANCE:
            break
    return psi, libraries, sweeps


def adapted(arrays: Arrays, grid: Grid, psi: Parameters, jobs: int) -> Fitted:
    """Find the libraries' deviations at parameters that are locked."""
    sd = np.maximum(arrays.looseness, psi.library_sd)
    libraries = Libraries.unknown(np.where(arrays.exposure > 0, 0.25 * sd**2, 0.0), psi.jumps)
    value = -np.inf
    for _ in range(LOCKED_SWEEPS):
        found = run(arrays, grid, psi, libraries, jobs)
        value = found.evidence
        libraries = _deviations(arrays, psi, libraries, found)[1]
    return Fitted(psi, libraries, grid, (value,), LOCKED_SWEEPS, False)


APART = np.log(3.0)


def _apart(states: list[tuple[float, Parameters, Libraries]]) -> bool:
    """Whether starts went to places whose prevalence or sizes differ by a factor of three."""
    logs = np.log([[psi.prevalence, psi.size] for _, psi, _ in states])
    return bool((np.ptp(logs, axis=0) > APART).any())


HOPS = np.log(10.0) * np.arange(-6.0, -0.9, 0.5)


def searched_spill(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, prior: Prior, jobs: int
) -> Parameters:
    """Return the parameters with the likeliest rates of hopping and of leakage between wells."""
    strong = spilled(arrays, np.full(len(psi.hop), 0.01), 0.01).max(axis=0) > 3.0
    if not strong.any():
        return psi
    few = arrays.of_taxa(np.flatnonzero(strong))
    few = few if few.shape[1] <= 200 else few.of_taxa(
        np.sort(np.argsort(-few.reads.sum(axis=0), kind="stable")[:200]))  # fmt: skip

    def scored(now: Parameters) -> float:
        return run(few, grid, now, libraries, jobs, light=True).evidence

    penalty = 0.5 * ((HOPS - np.log(prior.hop)) / 1.5) ** 2
    values = np.array([scored(replace(psi, hop=np.full(len(psi.hop), h))) for h in np.exp(HOPS)])
    psi = replace(psi, hop=np.full(len(psi.hop), _peak(HOPS, values - penalty)))
    if arrays.near is not None:
        values = np.array([scored(replace(psi, leak=float(h))) for h in np.exp(HOPS)])
        psi = replace(psi, leak=_peak(HOPS, values - penalty))
    return psi


def _peak(at: Floats, values: Floats) -> float:
    """Where a parabola through the highest value and its neighbours is highest, exponentiated."""
    k = int(np.argmax(values))
    if k in (0, len(at) - 1):
        return float(np.exp(at[k]))
    left, mid, right = values[k - 1 : k + 2]
    bend = left - 2 * mid + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(np.exp(at[k] + np.clip(shift, -0.5, 0.5) * (at[1] - at[0])))
