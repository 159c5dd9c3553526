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

from ranef.fields.metagenomics.arrays import Arrays, Pairs
from ranef.fields.metagenomics.parameters import AMBIENT, GENUINE, SPORADIC, Parameters
from ranef.fields.metagenomics.tree import normal_prior, pass_messages, transition

__all__ = [
    "Block", "Grid", "Libraries", "Setting", "blocks_of", "densities", "evaluate", "grid_of",
    "totals_given",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

TINY = 1e-300
PREVALENCES = np.array([0.2, 0.5, 0.8, 0.97])
"""Of genuine taxa; Beta(5, 2) at these points, and one below."""
PREVALENCE_WEIGHTS = np.array([0.1, 0.25, 0.4, 0.25])
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
    """

    deviation: Floats
    variance: Floats


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
    rate : (S,) array
        Reads per mass with the library's deviation.
    shifts : (Q,) array of (S,)
        Nodes of the library's deviation about its posterior mean; one where it is well known.
    zero : (3 + n, ...) tables
        Log likelihood of no reads: see `Zeros`.
    """

    size: float
    weight: float
    zero_f0: Floats
    zero_fj: Floats
    zero_f1: Floats


def densities(
    reads: Floats, rate: Floats, spill: Floats, kappa: Floats, size: float, variance: Floats
) -> tuple[Floats, Floats]:
    """Return the density of reads at each node, (P, K), and the log by which each row is scaled.

    variance : (P,) array, of the library's log deviation about its mean; integrated by three
    points of Gauss and Hermite.
    """
    from scipy.special import gammaln

    constant = gammaln(reads + size) - gammaln(size) - gammaln(reads + 1.0)

    def log_density(rate: Floats) -> Floats:
        mu = rate[:, None] * kappa
        mu += spill[:, None]
        np.maximum(mu, 1e-12, out=mu)
        mu /= size
        less = np.log1p(mu)
        out = np.log(mu)
        out -= less
        out *= reads[:, None]
        out -= size * less
        return out

    if float(variance.max(initial=0.0)) < 1e-4:
        table = log_density(rate)
        top = table.max(axis=1)
        table -= top[:, None]
        return np.exp(table, out=table), constant + top
    width = np.sqrt(3.0 * variance)
    parts = [log_density(rate * np.exp(step * width)) for step in (-1.0, 0.0, 1.0)]
    top = np.maximum.reduce([part.max(axis=1) for part in parts])
    table = np.zeros_like(parts[0])
    for part, weight in zip(parts, (1 / 6, 2 / 3, 1 / 6), strict=True):
        part -= top[:, None]
        table += weight * np.exp(part, out=part)
    return table, constant + top


def settings(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, kernels: Kernels,
    light: bool = False,
) -> tuple[Setting, ...]:  # fmt: skip
    """Return the tables of each size of the negative binomial distribution, or of the middle's."""
    kappa = np.exp(grid.nodes)
    rate = arrays.exposure * np.exp(libraries.deviation)
    nothing = np.zeros(len(rate))
    out = []
    steps, weights = (SIZE_STEPS[1:2], np.ones(1)) if light else (SIZE_STEPS, SIZE_WEIGHTS)
    for step, weight in zip(steps, weights, strict=True):
        size = float(psi.size * np.exp(step * psi.size_sd))
        table, top = densities(nothing, rate, nothing, kappa, size, libraries.variance)
        table *= np.exp(top)[:, None]
        f1 = np.stack([table @ matrix.T for matrix in kernels.present])
        out.append(Setting(size, float(weight), table, table @ kernels.jump.T, f1))
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
    back_mean, back_second : (P,) arrays
        Mean and second moment of the contaminant mass without the pair's own reads.
    size : (T,) array
        Posterior mean of the negative binomial size.
    log_size, log_size2 : (T,) arrays
    classes : (T, 3) array
        Probabilities.
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
    back_mean: Floats
    back_second: Floats
    size: Floats
    log_size: Floats
    log_size2: Floats
    classes: Floats
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


def _scattered(values: Floats, place: Ints, shape: tuple[int, int]) -> Floats:
    """Sum rows of values, (P, K), whose places are sorted, into (shape[0] * shape[1], K)."""
    out = np.zeros((shape[0] * shape[1], values.shape[1]))
    if len(place):
        starts = np.flatnonzero(np.diff(place, prepend=-1))
        out[place[starts]] = np.add.reduceat(values, starts, axis=0)
    return out.reshape(*shape, values.shape[1])


@dataclass(frozen=True, eq=False)
class _Tables:
    """Densities of the pairs of a block at one size: without, with a jump, with presence."""

    f0: Floats
    fj: Floats
    f1: Floats
    log_scale: Floats


def _tables(
    arrays: Arrays, grid: Grid, rows: Pairs, size: float, libraries: Libraries, kernels: Kernels,
    group: Ints,
) -> _Tables:  # fmt: skip
    rate = (arrays.exposure * np.exp(libraries.deviation))[rows.sample]
    f0, scale = densities(
        rows.reads, rate, rows.spill, np.exp(grid.nodes), size, libraries.variance[rows.sample]
    )
    if len(kernels.present) == 1:
        f1 = f0 @ kernels.present[0].T
    else:
        f1 = np.empty_like(f0)
        of = group[rows.taxon]
        for g, matrix in enumerate(kernels.present):
            f1[of == g] = f0[of == g] @ matrix.T
    return _Tables(f0, f0 @ kernels.jump.T, f1, scale)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """One hypothesis of a taxon: its log evidence, and of each pair the two densities."""

    log_weight: Floats
    prevalence: float
    f0: Floats
    f1: Floats
    jump: Floats
    kind: int
    size: float
    log_own: Floats


def evaluate(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, kernels: Kernels,
    shared: tuple[Setting, ...], pairs: Pairs, first: int, last: int, at: slice,
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
        tables = _tables(arrays, grid, rows, setting.size, libraries, kernels, group)
        verdicts.append(
            _ambient(
                arrays, grid, psi, libraries, kernels, setting, tables, rows, place, group, sees,
                n_t, n_c, collected, prior, weights,
            )
        )  # fmt: skip
        verdicts += _steady(arrays, psi, setting, tables, rows, group, sees, n_t, patient, weights)
    if arrays.by_mass:
        verdicts += _shares(
            arrays, grid, psi, shared[len(shared) // 2], rows, n_t, libraries, sees, weights
        )
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

    @classmethod
    def empty(cls, *_: int) -> _Collected:
        return cls([], [], [], [], [], [], [], [], [], [])


def _mixed(f0: Floats, fj: Floats, f1: Floats, psi: Parameters, prevalence: Floats) -> Floats:
    out = (1.0 - psi.jumps) * f0 + psi.jumps * fj
    return np.maximum((1.0 - prevalence) * out + prevalence * f1, TINY)


def _ambient(
    arrays: Arrays, grid: Grid, psi: Parameters, libraries: Libraries, kernels: Kernels,
    setting: Setting, tables: _Tables, rows: Pairs, place: Ints, group: Ints,
    sees: NDArray[np.bool_], n_t: int, n_c: int, collected: _Collected, prior: Floats,
    weights: Floats,
) -> _Verdict:  # fmt: skip
    pi_s = np.where(arrays.patient, psi.prevalence, 0.0)[:, None]
    pi = np.where(sees, psi.prevalence, 0.0)[:, None]
    present = _mixed(tables.f0, tables.fj, tables.f1, psi, pi)
    zero = np.stack(
        [np.log(_mixed(setting.zero_f0, setting.zero_fj, z1, psi, pi_s)) for z1 in setting.zero_f1]
    )
    order = np.argsort(arrays.cell, kind="stable")
    starts = np.flatnonzero(np.diff(arrays.cell[order], prepend=-1))
    base = np.add.reduceat(zero[:, order], starts, axis=1)
    own = np.log(present)
    own += tables.log_scale[:, None]
    own -= zero[group[rows.taxon], rows.sample]
    leaf = _scattered(own, place, (n_t, n_c))
    leaf += base[group]
    passed = pass_messages(leaf, arrays.levels, kernels.steps, grid.distance, prior)
    post = passed.cavity * np.exp(leaf - leaf.max(axis=2, keepdims=True))
    post /= np.maximum(post.sum(axis=2, keepdims=True), TINY)

    flat = post.reshape(-1, post.shape[2])[place]
    q = flat / present
    q /= np.maximum(q.sum(axis=1, keepdims=True), TINY)
    f0 = np.einsum("pk,pk->p", q, tables.f0)
    fj = np.einsum("pk,pk->p", q, tables.fj)
    f1 = np.einsum("pk,pk->p", q, tables.f1)
    scale = np.exp(np.minimum(tables.log_scale, 700.0))
    kappa = np.exp(grid.nodes)
    nodes = grid.nodes

    collected.root.append(passed.root)
    collected.root_mean.append(passed.root @ nodes)
    collected.root_var.append(passed.root @ nodes**2)
    collected.leaf_mean.append(post @ nodes)
    collected.leaf_var.append(post @ nodes**2)
    collected.spread.append(np.stack(passed.spread, axis=1))
    collected.back_mean.append(q @ kappa)
    collected.back_second.append(q @ kappa**2)
    if setting.size == psi.size:
        rate = arrays.exposure * np.exp(libraries.deviation)
        _score(rate, grid, psi, setting, tables, rows, flat, present, post, pi, collected)
    both = (1.0 - psi.jumps) * f0 + psi.jumps * fj
    log_weight = np.log(weights[:, AMBIENT]) + np.log(setting.weight) + passed.evidence
    return _Verdict(
        log_weight, psi.prevalence, both * scale, f1 * scale,
        psi.jumps * fj / np.maximum(both, TINY), AMBIENT, setting.size,
        np.log(np.maximum((1.0 - pi[:, 0]) * both + pi[:, 0] * f1, TINY)) + tables.log_scale,
    )  # fmt: skip


def _score(
    rate: Floats, grid: Grid, psi: Parameters, setting: Setting, tables: _Tables, rows: Pairs,
    flat: Floats, present: Floats, post: Floats, pi: Floats, collected: _Collected,
) -> None:  # fmt: skip
    """Score and information of each library's deviation, by pairs and by what has no reads."""
    size = setting.size
    kappa = np.exp(grid.nodes)
    weight = flat * ((1.0 - pi) * (1.0 - psi.jumps) * tables.f0 / present)
    mu = rate[rows.sample][:, None] * kappa
    # the deviation moves only what comes from the reagents
    mu_all = mu + rows.spill[:, None]
    np.maximum(mu_all, 1e-12, out=mu_all)
    gain = mu / mu_all * (size / (size + mu_all))
    collected.score.append((
        np.einsum("pk,pk,pk->p", weight, gain, rows.reads[:, None] - mu_all),
        np.einsum("pk,pk,pk->p", weight, gain, mu),
    ))  # fmt: skip
    mu_s = rate[:, None] * kappa
    fall = mu_s * size / (size + mu_s)
    # of pairs without reads: all of the cell, less those worked out one by one
    collected.zero.append((fall, post))
    collected.score[-1] = (
        collected.score[-1][0] + np.einsum("pk,pk->p", flat, fall[rows.sample]),
        collected.score[-1][1] - np.einsum("pk,pk->p", flat, fall[rows.sample]),
    )


def _steady(
    arrays: Arrays, psi: Parameters, setting: Setting, tables: _Tables, rows: Pairs, group: Ints,
    sees: NDArray[np.bool_], n_t: int, patient: NDArray[np.bool_],
    weights: Floats,
) -> list[_Verdict]:  # fmt: skip
    """Taxa without steady contamination: sporadic, and genuine of several prevalences."""
    f0, fj, f1 = tables.f0[:, 0], tables.fj[:, 0], tables.f1[:, 0]
    back = (1.0 - psi.jumps) * f0 + psi.jumps * fj
    scale = np.exp(np.minimum(tables.log_scale, 700.0))
    z0 = (1.0 - psi.jumps) * setting.zero_f0[:, 0] + psi.jumps * setting.zero_fj[:, 0]
    z1 = setting.zero_f1[:, :, 0]
    jump = psi.jumps * fj / np.maximum(back, TINY)
    out = []
    hypotheses = [(psi.prevalence, SPORADIC, weights[:, SPORADIC])] + [
        (float(p), GENUINE, weights[:, GENUINE] * w * (0.5 if arrays.by_mass else 1.0))
        for p, w in zip(PREVALENCES, PREVALENCE_WEIGHTS, strict=True)
    ]
    for pi, kind, class_weight in hypotheses:
        zero = np.log(np.maximum(np.where(patient, (1 - pi) * z0 + pi * z1, z0), TINY))
        own = np.log(np.maximum(np.where(sees, (1 - pi) * back + pi * f1, back), TINY))
        own += tables.log_scale
        alone = own - zero[group[rows.taxon], rows.sample]
        log_weight = np.log(class_weight) + np.log(setting.weight) + zero.sum(axis=1)[group]
        log_weight = log_weight + np.bincount(rows.taxon, alone, minlength=n_t)
        out.append(
            _Verdict(log_weight, pi, back * scale, f1 * scale, jump, kind, setting.size, own)
        )
    return out


def _shares(
    arrays: Arrays, grid: Grid, psi: Parameters, setting: Setting, rows: Pairs, n_t: int,
    libraries: Libraries, sees: NDArray[np.bool_], weights: Floats,
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
    zero_rate = np.zeros(len(total))
    empty, scale0 = densities(
        rows.reads, zero_rate[rows.sample], rows.spill, np.exp(nodes[:1]), size,
        np.zeros(len(rows.reads)),
    )  # fmt: skip
    jump_rate = (arrays.exposure * np.exp(libraries.deviation))[rows.sample]
    fj, scale_j = densities(
        rows.reads, jump_rate, rows.spill, np.exp(grid.nodes), size, np.zeros(len(rows.reads))
    )
    jump_weights = totals_given(grid.nodes, psi.jump_mean, psi.jump_sd)[0]
    f0, top0 = empty[:, 0], scale0
    fjump = (fj @ jump_weights) * np.exp(np.clip(scale_j - top0, -700, 700))
    f1, scale1 = densities(
        rows.reads, total[rows.sample], rows.spill, np.exp(nodes), size, np.zeros(len(rows.reads))
    )
    f1 *= np.exp(np.clip(scale1 - top0, -700, 700))[:, None]
    back = (1.0 - psi.jumps) * f0 + psi.jumps * fjump
    nothing = np.zeros(len(total))
    z1, zs = densities(nothing, total, nothing, np.exp(nodes), size, nothing)
    z1 *= np.exp(zs)[:, None]
    zj = (1.0 - psi.jumps) + psi.jumps * (setting.zero_fj[:, 0])
    zero = np.log(np.where(patient[:, None], (1 - pi) * zj[:, None] + pi * z1, zj[:, None]))
    own = np.where(sees[:, None], (1 - pi) * back[:, None] + pi * f1, back[:, None])
    own = np.log(np.maximum(own, TINY)) + top0[:, None]
    own = own - zero[rows.sample]
    starts_log = np.zeros((n_t, len(nodes)))
    if len(rows.taxon):
        starts = np.flatnonzero(np.diff(rows.taxon, prepend=-1))
        starts_log[rows.taxon[starts]] = np.add.reduceat(own, starts, axis=0)
    log_l = starts_log + zero.sum(axis=0)
    peak = log_l.max(axis=1)
    post = np.exp(log_l - peak[:, None])
    evidence = np.log(post.mean(axis=1)) + peak
    post /= post.sum(axis=1, keepdims=True)
    present = np.maximum(
        np.where(sees[:, None], (1 - pi) * back[:, None] + pi * f1, back[:, None]), TINY
    )
    q = post[rows.taxon] / present
    q /= np.maximum(q.sum(axis=1, keepdims=True), TINY)
    scale = np.exp(np.minimum(top0, 700.0))
    with_it = (q * f1).sum(axis=1)
    weight = np.log(0.5 * weights[:, GENUINE]) + evidence
    jump = psi.jumps * fjump / np.maximum(back, TINY)
    log_own = np.where(sees, (1 - pi) * back + pi * with_it, back)
    log_own = np.log(np.maximum(log_own, TINY)) + top0
    return [_Verdict(weight, pi, back * scale, with_it * scale, jump, GENUINE, size, log_own)]


def _summed(
    arrays: Arrays, psi: Parameters, rows: Pairs, first: int, last: int,
    verdicts: list[_Verdict], collected: _Collected, shared: tuple[Setting, ...], n_k: int,
) -> Block:  # fmt: skip
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
    jump = (without * f0 * np.stack([v.jump for v in verdicts])).sum(axis=0) / np.maximum(
        (without * f0).sum(axis=0), TINY
    )
    ambient = [i for i, v in enumerate(verdicts) if v.kind == AMBIENT]
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
        w = share.sum(axis=0)
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
        rows, first, last, probability, log_bf, jump,
        blended(collected.back_mean, q_part), blended(collected.back_second, q_part),
        (weight * sizes).sum(axis=0), (weight * np.log(sizes)).sum(axis=0),
        (weight * np.log(sizes) ** 2).sum(axis=0), classes, log_odds - prior_odds,
        top + np.log(total), blended(collected.root, part), root_mean,
        blended(collected.root_var, part) - root_mean**2,
        leaf_mean, blended(collected.leaf_var, part) - leaf_mean**2,
        blended(collected.spread, part), score, information,
    )  # fmt: skip
