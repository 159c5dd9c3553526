"""What the data say of each pair and taxon, given the parameters: arrays in, arrays out.

A pair's reads are negative binomial around r (kappa + z a) + chi: contamination kappa of the
taxon's batch, abundance a where the taxon is present (z = 1), spill chi. Log kappa lives on a
grid; log (kappa + a) too, so that the density with presence is a matrix product of the density
without. A taxon is ambient (kappa by the tree), sporadic (no steady contamination) or genuine
and prevalent. Every sum is over the grid; the posterior of a leaf without a pair is the leaf's
posterior divided by the pair's own likelihood, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.fields.metagenomics.arrays import Arrays, Pairs
from ranef.fields.metagenomics.parameters import AMBIENT, GENUINE, SPORADIC, Parameters
from ranef.fields.metagenomics.tree import normal_prior, pass_messages, transition

__all__ = [
    "Block", "Grid", "Libraries", "Own", "Setting", "blocks_of", "densities", "evaluate",
    "grid_of", "tables_of", "totals_given",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

TINY = 1e-300
PREVALENCES = np.array([0.2, 0.5, 0.8, 0.97])
"""Of genuine taxa; Beta(5, 2) at these points, and one below."""
PREVALENCE_WEIGHTS = np.array([0.1, 0.25, 0.4, 0.25])
RATES = np.array([0.0, 0.1, 0.3, 0.7])
"""Probabilities that a sporadic taxon lands in a library, beside the library's own."""
RATE_WEIGHTS = np.array([0.85, 0.05, 0.05, 0.05])
ESCAPE = 0.5
"""Probability that a library escapes an ambient contamination, where libraries can."""
SIZE_STEPS = np.array([-1.7320508, 0.0, 1.7320508])
SIZE_WEIGHTS = np.array([1.0, 4.0, 1.0]) / 6.0
SHARE_PREVALENCE = 0.9
BLOCK = 400_000


@dataclass(frozen=True, eq=False)
class Grid:
    """Nodes of log contamination, and of log total mass.

    Attributes
    ----------
    nodes : (K,) array
    distance : (K, K) array
        Squared distances.
    """

    nodes: Floats
    distance: Floats


def grid_of(arrays: Arrays, size: float, coarseness: float = 1.0) -> Grid:
    """Return a grid fine enough for what a batch tells of a profile, or coarser by a factor."""
    r = arrays.exposure[arrays.exposure > 0]
    low = float(np.log(0.02 / r.sum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(arrays.exposure[:, None] > 0, arrays.reads / arrays.exposure[:, None], 0.0)
    high = float(np.log(max(ratio.max(), 10.0))) + 1.0
    most = np.bincount(arrays.cell[arrays.exposure > 0]).max(initial=1)
    step = coarseness * float(np.clip(1.5 / np.sqrt(2.0 * size * most), 0.15, 0.4))
    count = int(np.clip(np.ceil((high - low) / step) + 1, 24, 110))
    nodes = np.linspace(low, high, count)
    return Grid(nodes, (nodes[:, None] - nodes[None, :]) ** 2)


@dataclass(frozen=True, eq=False)
class Libraries:
    """What is known of each library's own deviation.

    Attributes
    ----------
    deviation, variance : (S,) arrays
        Posterior mean and variance of the log deviation.
    jumps : (S,) array
        Probability that a taxon lands in the library by a contamination of its own.
    common : (S,) array
        Probability that it is the one that most libraries have.
    """

    deviation: Floats
    variance: Floats
    jumps: Floats
    common: Floats

    @classmethod
    def unknown(cls, variance: Floats, jumps: float) -> Libraries:
        """Return libraries before anything is found of them."""
        n = len(variance)
        return cls(np.zeros(n), variance, np.full(n, jumps), np.ones(n))


def totals_given(nodes: Floats, mean: float, sd: float) -> Floats:
    """Return the (K, K) probabilities of log (kappa + a) at the nodes, given log kappa.

    Rows sum to one; the log of a is normal.
    """
    from scipy.special import ndtr

    edges = 0.5 * (nodes[1:] + nodes[:-1])
    gap = np.exp(edges)[None, :] - np.exp(nodes)[:, None]
    with np.errstate(divide="ignore"):
        z = np.where(gap > 0, (np.log(np.maximum(gap, TINY)) - mean) / sd, -np.inf)
    below = np.concatenate([np.zeros((len(nodes), 1)), ndtr(z), np.ones((len(nodes), 1))], axis=1)
    return np.asarray(np.diff(below, axis=1))


@dataclass(frozen=True, eq=False)
class Setting:
    """Tables that all taxa share, for one size of the negative binomial distribution.

    Attributes
    ----------
    size, weight : float
        Of the size; prior weight of it.
    own : Own
    zero_f0, zero_fj : (S, K) arrays
        Likelihood of no reads, without and with a contamination of its own.
    zero_f1 : (G, S, K) array
        With presence, by group.
    """

    size: float
    weight: float
    own: Own
    zero_f0: Floats
    zero_fj: Floats
    zero_f1: Floats


WELL_KNOWN = 1e-4
"""Variance of a library's deviation from which on it is summed over."""


@dataclass(frozen=True, eq=False)
class Own:
    """Where the grid of each library's own contamination lies.

    A deviation of the reagents moves contamination and leaves masses alone: by whole nodes, the
    rest by the rate. Where the exposure is not measured, the deviation is the exposure's own and
    moves both.

    Attributes
    ----------
    rate : (S,) array
        Reads per mass of what is present.
    contamination : (S,) array
        Reads per mass of contamination.
    shift, reach : (S,) int32 arrays
        Nodes by which contamination is moved, and over which it is summed.
    side : (S,) array
        Weight of each side of the sum.
    measured : (S,) bool array
    jumps : (S,) array
    """

    rate: Floats
    contamination: Floats
    shift: NDArray[np.int32]
    reach: NDArray[np.int32]
    side: Floats
    measured: NDArray[np.bool_]
    jumps: Floats

    @classmethod
    def of(cls, arrays: Arrays, nodes: Floats, libraries: Libraries) -> Own:
        """Make it from the libraries' deviations."""
        step = float(nodes[1] - nodes[0])
        d, v = libraries.deviation, libraries.variance
        shift = np.where(arrays.measured, np.rint(d / step), 0.0)
        reach = np.where(v > WELL_KNOWN, np.maximum(np.rint(np.sqrt(3.0 * v) / step), 1.0), 0.0)
        side = np.where(reach > 0, v / (2.0 * np.maximum(reach * step, step) ** 2), 0.0)
        return cls(
            arrays.exposure * np.exp(d - shift * step), arrays.exposure * np.exp(d),
            shift.astype(np.int32), reach.astype(np.int32), side, arrays.measured,
            libraries.jumps,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Tables:
    """Densities of pairs at one size, (P, K): without, with a jump, with presence; their scale."""

    f0: Floats
    fj: Floats
    f1: Floats
    log_scale: Floats


def densities(
    reads: Floats, rate: Floats, spill: Floats, nodes: Floats, size: float
) -> tuple[Floats, Floats]:
    """Return the density of reads at each node, (P, K), and the log by which each row is scaled.

    nodes : (K,) array, of log kappa, evenly spaced.
    """
    still = np.zeros(len(reads), dtype=np.int32)
    table, _, top = _core.counts_on_grid(
        reads, rate, spill, still, still, np.zeros(len(reads)), nodes[0], nodes[1] - nodes[0],
        len(nodes), size,
    )  # fmt: skip
    return table, _constant(reads, size) + top


def _constant(reads: Floats, size: float) -> Floats:
    from scipy.special import gammaln

    return np.asarray(gammaln(reads + size) - gammaln(size) - gammaln(reads + 1.0))


def tables_of(
    reads: Floats, spill: Floats, sample: Ints, size: float, own: Own, nodes: Floats,
    kernels: Kernels, group: Ints | None,
) -> _Tables:  # fmt: skip
    """Work out the densities of pairs; group None gives those of every group, (G, P, K)."""
    shift, reach, side = own.shift[sample], own.reach[sample], own.side[sample]
    plain, f0, top = _core.counts_on_grid(
        reads, own.rate[sample], spill, shift, reach, side, nodes[0], nodes[1] - nodes[0],
        len(nodes), size,
    )  # fmt: skip
    loose = ~own.measured[sample]
    if loose.any():
        plain = np.where(loose[:, None], f0, plain)
        reach = np.where(loose, 0, reach).astype(np.int32)
    still = not (shift.any() or reach.any())

    def moved(values: Floats) -> Floats:
        return values if still else _core.shift_rows(values, shift, reach, side)

    if group is None:
        f1 = np.stack([moved(plain @ matrix.T) for matrix in kernels.present])
    elif len(kernels.present) == 1:
        f1 = moved(plain @ kernels.present[0].T)
    else:
        f1 = np.empty_like(f0)
        for g, matrix in enumerate(kernels.present):
            f1[group == g] = plain[group == g] @ matrix.T
        f1 = moved(f1)
    return _Tables(f0, moved(plain @ kernels.jump.T), f1, _constant(reads, size) + top)


def settings(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, kernels: Kernels,
    light: bool = False,
) -> tuple[Setting, ...]:  # fmt: skip
    """Return the tables of each size of the negative binomial distribution, or of the middle's."""
    own = Own.of(arrays, grid.nodes, libraries)
    every = np.arange(len(own.rate))
    nothing = np.zeros(len(every))
    out = []
    steps, weights = (SIZE_STEPS[1:2], np.ones(1)) if light else (SIZE_STEPS, SIZE_WEIGHTS)
    for step, weight in zip(steps, weights, strict=True):
        size = float(psi.size * np.exp(step * psi.size_sd))
        made = tables_of(nothing, nothing, every, size, own, grid.nodes, kernels, None)
        scale = np.exp(made.log_scale)[:, None]
        out.append(Setting(
            size, float(weight), own, made.f0 * scale, made.fj * scale, made.f1 * scale
        ))  # fmt: skip
    return tuple(out)


@dataclass(frozen=True, eq=False)
class Kernels:
    """Matrices of the grid that the parameters give.

    Attributes
    ----------
    steps : tuple of (K, K) arrays
        `transition` of each level.
    prior : (K,) array
        Of a taxon's log contamination.
    jump : (K, K) array
        `totals_given` of contaminations of their own.
    present : tuple of (K, K) arrays
        `totals_given` of what is present, by group.
    """

    steps: tuple[Floats, ...]
    prior: Floats
    jump: Floats
    present: tuple[Floats, ...]

    @classmethod
    def of(cls, grid: Grid, psi: Parameters) -> Kernels:
        """Make the matrices."""
        nodes = grid.nodes
        return cls(
            tuple(transition(nodes, float(sd)) for sd in psi.steps),
            normal_prior(nodes, psi.mean, psi.sd),
            totals_given(nodes, psi.jump_mean, psi.jump_sd),
            tuple(
                totals_given(nodes, float(m), float(s))
                for m, s in zip(psi.mass_mean, psi.mass_sd, strict=True)
            ),
        )


@dataclass(frozen=True, eq=False)
class Block:
    """What was found of a stretch of taxa; P pairs, T taxa, C leaves.

    Attributes
    ----------
    pairs : Pairs
    first, last : int
        The taxa.
    probability : (P,) array
        Of presence, were the library a patient's.
    log_bf : (P,) array
        Natural log of the Bayes factor of presence.
    jump : (P,) array
        Probability of a contamination of its own.
    caught : (P,) array
        Probability that it came with the library, not by the taxon's own rate.
    back_mean, back_second : (P,) arrays
        Mean and second moment of the contaminant mass without the pair's own reads.
    size : (T,) array
        Posterior mean of the negative binomial size.
    log_size, log_size2 : (T,) arrays
    classes : (T, 3) array
        Probabilities.
    log_bf_escape : (T,) array
        Natural log of the Bayes factor of an ambient taxon that libraries can escape against one
        that they cannot.
    log_bf_taxon : (T,) array
        Natural log of the Bayes factor of an ambient or sporadic against a genuine taxon.
    evidence : (T,) array
    root : (T, K) array
        Posterior of the taxon's log contamination, were it ambient.
    root_mean, root_var : (T,) arrays
        Its mean and variance.
    leaf_mean, leaf_var : (T, C) arrays
    spread : (T, D) array
    score, information : (S,) arrays
        Of the libraries' deviations.
    """

    pairs: Pairs
    first: int
    last: int
    probability: Floats
    log_bf: Floats
    jump: Floats
    caught: Floats
    back_mean: Floats
    back_second: Floats
    size: Floats
    log_size: Floats
    log_size2: Floats
    classes: Floats
    log_bf_escape: Floats
    log_bf_taxon: Floats
    evidence: Floats
    root: Floats
    root_mean: Floats
    root_var: Floats
    leaf_mean: Floats
    leaf_var: Floats
    spread: Floats
    score: Floats
    information: Floats


def blocks_of(arrays: Arrays, pairs: Pairs, nodes: int) -> Iterator[tuple[int, int, slice]]:
    """Cut the taxa into stretches of work that fit in a cache: first, last, and their pairs."""
    n_taxa = arrays.shape[1]
    ends = np.searchsorted(pairs.taxon, np.arange(n_taxa + 1))
    cost = (ends[1:] - ends[:-1]) * nodes + arrays.levels.n_leaves * nodes
    first = 0
    total = np.concatenate([[0], np.cumsum(cost)])
    while first < n_taxa:
        last = int(np.searchsorted(total, total[first] + BLOCK, side="right")) - 1
        last = min(max(last, first + 1), n_taxa)
        yield first, last, slice(int(ends[first]), int(ends[last]))
        first = last


def _rows(pairs: Pairs, at: slice, first: int) -> Pairs:
    return Pairs(pairs.sample[at], pairs.taxon[at] - first, pairs.reads[at], pairs.spill[at])


@dataclass(frozen=True, eq=False)
class _Verdict:
    """One hypothesis of a taxon: its log evidence, and of each pair the two densities.

    `jump` and `caught` are given absence.
    """

    log_weight: Floats
    prevalence: float
    f0: Floats
    f1: Floats
    jump: Floats
    caught: Floats
    kind: int
    size: float
    log_own: Floats
    escaped: bool = False


def evaluate(
    arrays: Arrays, grid: Grid, psi: Parameters, kernels: Kernels, shared: tuple[Setting, ...],
    pairs: Pairs, first: int, last: int, at: slice,
) -> Block:  # fmt: skip
    """Work out a stretch of taxa."""
    rows = _rows(pairs, at, first)
    n_t, n_c, n_k = last - first, arrays.levels.n_leaves, len(grid.nodes)
    group = arrays.group[first:last]
    patient = arrays.patient
    sees = patient[rows.sample]
    place = rows.taxon * n_c + arrays.cell[rows.sample]
    verdicts: list[_Verdict] = []
    prior = kernels.prior if arrays.root is None else arrays.root[first:last]
    weights = np.broadcast_to(psi.classes, (n_t, 3))
    if arrays.classes is not None:
        weights = arrays.classes[first:last]
    S = arrays.shape[0]
    collected = _Collected.empty(n_t, n_c, len(psi.steps), len(rows.sample), S)
    for setting in shared:
        tables = tables_of(
            rows.reads, rows.spill, rows.sample, setting.size, setting.own, grid.nodes, kernels,
            group[rows.taxon],
        )  # fmt: skip
        # escapes are summed at the middle size alone, so that a pass costs no more than it must
        middle = setting.size == psi.size
        patches = ((0.0, 1.0 - psi.escapes), (ESCAPE, psi.escapes))
        for dropout, share in patches if middle else patches[:1]:
            size_weight = 1.0 if dropout else setting.weight
            verdicts.append(
                _ambient(
                    arrays, grid, psi, kernels, setting, tables, rows, place, group, sees, n_t,
                    n_c, collected, prior, size_weight * share * weights[:, AMBIENT], dropout,
                )
            )  # fmt: skip
        verdicts += _steady(arrays, psi, setting, tables, rows, group, sees, n_t, patient, weights)
        if arrays.by_mass and setting.size == psi.size:
            verdicts += _shares(arrays, psi, setting, tables, rows, n_t, sees, weights)
    return _summed(arrays, psi, rows, first, last, verdicts, collected, shared, n_k)


@dataclass(eq=False)
class _Collected:
    """What the sizes say under the ambient class, to be weighted at the end."""

    root: list[Floats]
    root_mean: list[Floats]
    root_var: list[Floats]
    leaf_mean: list[Floats]
    leaf_var: list[Floats]
    spread: list[Floats]
    back_mean: list[Floats]
    back_second: list[Floats]
    score: list[tuple[Floats, Floats]]
    zero: list[tuple[Floats, Floats]]
    scored: int = 0

    @classmethod
    def empty(cls, *_: int) -> _Collected:
        return cls([], [], [], [], [], [], [], [], [], [])


def _mixed(f0: Floats, fj: Floats, f1: Floats, jumps: Floats, prevalence: Floats) -> Floats:
    out = (1.0 - jumps) * f0 + jumps * fj
    return np.maximum((1.0 - prevalence) * out + prevalence * f1, TINY)


def _escaped(table: Floats, dropout: float) -> Floats:
    """Densities of a library that has the contamination or, with this probability, none."""
    return (1.0 - dropout) * table + dropout * table[:, :1] if dropout else table


def _ambient(
    arrays: Arrays, grid: Grid, psi: Parameters, kernels: Kernels, setting: Setting,
    tables: _Tables, rows: Pairs, place: Ints, group: Ints,
    sees: NDArray[np.bool_], n_t: int, n_c: int, collected: _Collected, prior: Floats,
    class_weight: Floats, dropout: float,
) -> _Verdict:  # fmt: skip
    """A taxon with steady contamination, which a library escapes with probability `dropout`."""
    pi_s = np.where(arrays.patient, psi.prevalence, 0.0)[:, None]
    pi = np.where(sees, psi.prevalence, 0.0)
    every = setting.own.jumps[:, None]
    jumps = setting.own.jumps[rows.sample]
    zero = np.log(np.stack([
        _escaped(_mixed(setting.zero_f0, setting.zero_fj, z1, every, pi_s), dropout)
        for z1 in setting.zero_f1
    ]))  # fmt: skip
    if dropout:
        tables = _Tables(
            _escaped(tables.f0, dropout), _escaped(tables.fj, dropout),
            _escaped(tables.f1, dropout), tables.log_scale,
        )  # fmt: skip
    n_k = zero.shape[2]
    order = np.argsort(arrays.cell, kind="stable")
    starts = np.flatnonzero(np.diff(arrays.cell[order], prepend=-1))
    base = np.add.reduceat(zero[:, order], starts, axis=1)
    row = (group[rows.taxon] * zero.shape[1] + rows.sample).astype(np.int32)
    at = place.astype(np.int32)
    parts = (tables.f0, tables.fj, tables.f1, pi, jumps)
    present, summed = _core.mix_counts(
        *parts, tables.log_scale, zero.reshape(-1, n_k), row, at, n_t * n_c
    )
    leaf = summed.reshape(n_t, n_c, n_k) + base[group]
    passed = pass_messages(leaf, arrays.levels, kernels.steps, grid.distance, prior)
    post = passed.cavity * np.exp(leaf - leaf.max(axis=2, keepdims=True))
    post /= np.maximum(post.sum(axis=2, keepdims=True), TINY)

    nodes, rate = grid.nodes, setting.own.contamination
    mean, second, f0, fj, f1, score, information = _core.expect_counts(
        *parts, rows.reads, rate[rows.sample], rows.spill, nodes[0], nodes[1] - nodes[0],
        setting.size, present, post.reshape(-1, n_k), at,
    )  # fmt: skip
    scale = np.exp(np.minimum(tables.log_scale, 700.0))
    collected.root.append(passed.root)
    collected.root_mean.append(passed.root @ nodes)
    collected.root_var.append(passed.root @ nodes**2)
    collected.leaf_mean.append(post @ nodes)
    collected.leaf_var.append(post @ nodes**2)
    collected.spread.append(np.stack(passed.spread, axis=1))
    collected.back_mean.append((1.0 - dropout) * mean)
    collected.back_second.append((1.0 - dropout) * second)
    if setting.size == psi.size and not dropout:
        collected.scored = len(collected.root) - 1
        # of pairs without reads: all of the cell, less those worked out one by one
        mu = rate[:, None] * np.exp(nodes)
        collected.score.append((score, information))
        collected.zero.append((mu * setting.size / (setting.size + mu), post))
    both = (1.0 - jumps) * f0 + jumps * fj
    log_weight = np.log(class_weight) + passed.evidence
    jump = jumps * fj / np.maximum(both, TINY)
    return _Verdict(
        log_weight, psi.prevalence, both * scale, f1 * scale, jump, jump, AMBIENT, setting.size,
        np.log(np.maximum((1.0 - pi) * both + pi * f1, TINY)) + tables.log_scale, dropout > 0,
    )  # fmt: skip


def _steady(
    arrays: Arrays, psi: Parameters, setting: Setting, tables: _Tables, rows: Pairs, group: Ints,
    sees: NDArray[np.bool_], n_t: int, patient: NDArray[np.bool_],
    weights: Floats,
) -> list[_Verdict]:  # fmt: skip
    """Taxa without steady contamination: sporadic of several rates, genuine of prevalences."""
    f0, fj, f1 = tables.f0[:, 0], tables.fj[:, 0], tables.f1[:, 0]
    scale = np.exp(np.minimum(tables.log_scale, 700.0))
    z1 = setting.zero_f1[:, :, 0]
    out = []
    split = 0.5 if arrays.by_mass else 1.0
    hypotheses = [
        (psi.prevalence, float(r), SPORADIC, weights[:, SPORADIC] * w)
        for r, w in zip(RATES, RATE_WEIGHTS, strict=True)
    ] + [
        (float(p), 0.0, GENUINE, weights[:, GENUINE] * w * split)
        for p, w in zip(PREVALENCES, PREVALENCE_WEIGHTS, strict=True)
    ]
    for pi, rate, kind, class_weight in hypotheses:
        every = 1.0 - (1.0 - setting.own.jumps) * (1.0 - rate)
        jumps = every[rows.sample]
        back = (1.0 - jumps) * f0 + jumps * fj
        z0 = (1.0 - every) * setting.zero_f0[:, 0] + every * setting.zero_fj[:, 0]
        zero = np.log(np.maximum(np.where(patient, (1 - pi) * z0 + pi * z1, z0), TINY))
        own = np.log(np.maximum(np.where(sees, (1 - pi) * back + pi * f1, back), TINY))
        own += tables.log_scale
        alone = own - zero[group[rows.taxon], rows.sample]
        log_weight = np.log(class_weight) + np.log(setting.weight) + zero.sum(axis=1)[group]
        log_weight = log_weight + np.bincount(rows.taxon, alone, minlength=n_t)
        landed = fj / np.maximum(back, TINY)
        out.append(_Verdict(
            log_weight, pi, back * scale, f1 * scale, jumps * landed,
            setting.own.jumps[rows.sample] * landed, kind, setting.size, own,
        ))  # fmt: skip
    return out


def _shares(
    arrays: Arrays, psi: Parameters, setting: Setting, tables: _Tables, rows: Pairs, n_t: int,
    sees: NDArray[np.bool_], weights: Floats,
) -> list[_Verdict]:  # fmt: skip
    """Genuine taxa whose share of the library's reads is what is steady, not their mass."""
    patient = arrays.patient & (arrays.total > 0)
    if not patient.any():
        return []
    total = arrays.total / np.median(arrays.total[patient])
    with np.errstate(divide="ignore", invalid="ignore"):
        top = float(np.log(max((arrays.reads[patient] / total[patient][:, None]).max(), 10.0))) + 1
    low = float(np.log(0.5 / patient.sum()))
    nodes = np.linspace(low, top, 40)
    size = setting.size
    pi = SHARE_PREVALENCE
    nothing = np.zeros(len(total))
    every = setting.own.jumps
    jumps = every[rows.sample]
    back = (1.0 - jumps) * tables.f0[:, 0] + jumps * tables.fj[:, 0]
    top0 = tables.log_scale
    f1, scale1 = densities(rows.reads, total[rows.sample], rows.spill, nodes, size)
    f1 *= np.exp(np.clip(scale1 - top0, -700, 700))[:, None]
    z1, zs = densities(nothing, total, nothing, nodes, size)
    z1 *= np.exp(zs)[:, None]
    zj = (1.0 - every) * setting.zero_f0[:, 0] + every * setting.zero_fj[:, 0]
    zero = np.log(np.where(patient[:, None], (1 - pi) * zj[:, None] + pi * z1, zj[:, None]))
    own_pi = np.where(sees, pi, 0.0)
    present, summed = _core.mix_counts(
        back[:, None], back[:, None], f1, own_pi, np.zeros(len(back)), top0, zero,
        rows.sample.astype(np.int32), rows.taxon.astype(np.int32), n_t,
    )  # fmt: skip
    log_l = summed + zero.sum(axis=0)
    peak = log_l.max(axis=1)
    post = np.exp(log_l - peak[:, None])
    evidence = np.log(post.mean(axis=1)) + peak
    post /= post.sum(axis=1, keepdims=True)
    q = post[rows.taxon] / present
    q /= np.maximum(q.sum(axis=1, keepdims=True), TINY)
    scale = np.exp(np.minimum(top0, 700.0))
    with_it = np.einsum("pk,pk->p", q, f1)
    weight = np.log(0.5 * weights[:, GENUINE]) + evidence
    jump = jumps * tables.fj[:, 0] / np.maximum(back, TINY)
    log_own = np.where(sees, (1 - pi) * back + pi * with_it, back)
    log_own = np.log(np.maximum(log_own, TINY)) + top0
    return [_Verdict(weight, pi, back * scale, with_it * scale, jump, jump, GENUINE, size, log_own)]


def _summed(
    arrays: Arrays, psi: Parameters, rows: Pairs, first: int, last: int,
    verdicts: list[_Verdict], collected: _Collected, shared: tuple[Setting, ...], n_k: int,
) -> Block:  # fmt: skip
    from scipy.special import logsumexp

    logs = np.stack([v.log_weight for v in verdicts])
    top = logs.max(axis=0)
    weight = np.exp(logs - top)
    total = weight.sum(axis=0)
    weight /= total
    classes = np.stack(
        [sum(w for w, v in zip(weight, verdicts, strict=True) if v.kind == k)
         for k in (AMBIENT, SPORADIC, GENUINE)], axis=1,
    )  # fmt: skip
    pi = np.array([v.prevalence for v in verdicts])[:, None]
    f0 = np.stack([v.f0 for v in verdicts])
    f1 = np.stack([v.f1 for v in verdicts])
    without = logs[:, rows.taxon] - np.stack([v.log_own for v in verdicts])
    without -= without.max(axis=0, initial=-np.inf)
    np.exp(without, out=without)
    without /= without.sum(axis=0)
    with_it = (without * pi * f1).sum(axis=0)
    without_it = (without * (1 - pi) * f0).sum(axis=0)
    probability = with_it / np.maximum(with_it + without_it, TINY)
    log_bf = np.log(np.maximum((without * f1).sum(axis=0), TINY)) - np.log(
        np.maximum((without * f0).sum(axis=0), TINY)
    )
    absent = without * f0 / np.maximum((without * f0).sum(axis=0), TINY)
    jump = (absent * np.stack([v.jump for v in verdicts])).sum(axis=0)
    caught = (absent * np.stack([v.caught for v in verdicts])).sum(axis=0)
    ambient = [i for i, v in enumerate(verdicts) if v.kind == AMBIENT]
    escaped = np.array([verdicts[i].escaped for i in ambient])
    log_escape = logsumexp(logs[ambient][escaped], axis=0) - np.log(psi.escapes)
    log_steady = logsumexp(logs[ambient][~escaped], axis=0) - np.log1p(-psi.escapes)
    share = weight[ambient]
    part = share / np.maximum(share.sum(axis=0), TINY)

    def blended(parts: list[Floats], by: Floats) -> Floats:
        shape = (-1,) + (1,) * (parts[0].ndim - 1)
        return np.asarray(sum(w.reshape(shape) * p for w, p in zip(by, parts, strict=True)))

    q_part = without[ambient]
    root_mean = blended(collected.root_mean, part)
    leaf_mean = blended(collected.leaf_mean, part)
    score = np.zeros(arrays.shape[0])
    information = np.zeros(arrays.shape[0])
    for (g, h), (fall, post) in zip(collected.score, collected.zero, strict=True):
        w = share[collected.scored]
        score += np.bincount(rows.sample, w[rows.taxon] * g, minlength=len(score))
        information += np.bincount(rows.sample, w[rows.taxon] * h, minlength=len(score))
        nodes = np.einsum("t,tck->ck", w, post)[arrays.cell]
        through = (nodes * fall).sum(axis=1)
        score -= through
        information += through
    sizes = np.array([v.size for v in verdicts])[:, None]
    contaminant = classes[:, AMBIENT] + classes[:, SPORADIC]
    genuine = psi.classes[GENUINE]
    if arrays.classes is not None:
        genuine = arrays.classes[first:last, GENUINE]
    prior_odds = np.log1p(-genuine) - np.log(genuine)
    log_odds = np.log(np.maximum(contaminant, TINY)) - np.log(np.maximum(classes[:, GENUINE], TINY))
    return Block(
        rows, first, last, probability, log_bf, jump, caught,
        blended(collected.back_mean, q_part), blended(collected.back_second, q_part),
        (weight * sizes).sum(axis=0), (weight * np.log(sizes)).sum(axis=0),
        (weight * np.log(sizes) ** 2).sum(axis=0), classes, log_escape - log_steady,
        log_odds - prior_odds,
        top + np.log(total), blended(collected.root, part), root_mean,
        blended(collected.root_var, part) - root_mean**2,
        leaf_mean, blended(collected.leaf_var, part) - leaf_mean**2,
        blended(collected.spread, part), score, information,
    )  # fmt: skip
