"""Kernels of counts on a grid beside NumPy."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy
from scipy.stats import nbinom

from ranef import _core
from ranef.fields.metagenomics.arrays import CONTROL, PATIENT, Arrays
from ranef.fields.metagenomics.expectation import (
    ESCAPE,
    PREVALENCE_WEIGHTS,
    PREVALENCES,
    RATE_WEIGHTS,
    RATES,
    SIZE_STEPS,
    SIZE_WEIGHTS,
    Kernels,
    Libraries,
    densities,
    grid_of,
)
from ranef.fields.metagenomics.fitting import run
from ranef.fields.metagenomics.parameters import Parameters
from ranef.fields.metagenomics.tree import Levels


def pairs(rng, n):
    reads = np.where(rng.random(n) < 0.3, 0.0, np.floor(np.exp(rng.normal(2.0, 3.0, n))))
    rate = np.exp(rng.normal(0.0, 2.0, n))
    spill = np.where(rng.random(n) < 0.5, 0.0, np.exp(rng.normal(-3.0, 2.0, n)))
    rate[0] = 0.0
    return reads, rate, spill


def shifts(rng, n):
    shift = rng.integers(-6, 7, n).astype(np.int32)
    reach = (rng.integers(0, 4, n) * (np.arange(n) % 2)).astype(np.int32)
    return shift, reach, np.where(reach > 0, rng.uniform(0.05, 0.4, n), 0.0)


@pytest.mark.parametrize("size", [0.15, 2.0, 50.0])
def test_densities_are_negative_binomial(size):
    rng = np.random.default_rng(1)
    n = 60
    reads, rate, spill = pairs(rng, n)
    shift, reach, side = shifts(rng, n)
    nodes = np.linspace(-9.0, 12.0, 53)
    step = nodes[1] - nodes[0]
    plain, own, top = _core.counts_on_grid(
        reads, rate, spill, shift, reach, side, nodes[0], step, len(nodes), size
    )

    def exact(moved):
        at = nodes + step * np.asarray(moved)[:, None]
        mu = np.maximum(rate[:, None] * np.exp(at) + spill[:, None], 1e-12)
        y, u = reads[:, None], mu / size
        return np.exp(y * np.log(u) - (y + size) * np.log1p(u) - top[:, None])

    np.testing.assert_allclose(plain, exact(np.zeros(n)), rtol=1e-8, atol=1e-200)
    w = side[:, None]
    wide = (1 - 2 * w) * exact(shift) + w * (exact(shift - reach) + exact(shift + reach))
    np.testing.assert_allclose(own, wide, rtol=1e-8, atol=1e-200)


def test_the_constant_makes_it_a_density(agree):
    reads, nodes = np.array([0.0, 3.0, 40.0]), np.linspace(-2.0, 5.0, 9)
    table, scale = densities(reads, np.ones(3), np.zeros(3), nodes, 1.7)
    agree(
        "metagenomics.screen", "negative binomial densities of reads on a grid of contamination",
        table * np.exp(scale)[:, None],
        nbinom.pmf(reads[:, None], 1.7, 1.7 / (1.7 + np.exp(nodes))),
        peer=f"SciPy {scipy.__version__}", rtol=1e-10,
    )  # fmt: skip


def test_rows_are_shifted_and_their_ends_stand_for_what_lies_beyond():
    rng = np.random.default_rng(4)
    n, k = 20, 11
    values = rng.random((n, k))
    shift, reach, side = shifts(rng, n)
    found = _core.shift_rows(values, shift, reach, side)
    for i in range(n):
        at = [np.clip(np.arange(k) + shift[i] + m, 0, k - 1) for m in (0, -reach[i], reach[i])]
        w = side[i]
        row = values[i]
        expected = (1 - 2 * w) * row[at[0]] + w * (row[at[1]] + row[at[2]])
        np.testing.assert_allclose(found[i], expected, rtol=1e-13)


def mixture(rng, n, k):
    f0, fj, f1 = rng.random((3, n, k)) ** 8
    return f0, fj, f1, rng.random(n) * 0.2, rng.random(n) * 0.1


def test_mixtures_are_sums_of_logs():
    rng = np.random.default_rng(2)
    n, k, leaves = 40, 21, 7
    f0, fj, f1, pi, jumps = mixture(rng, n, k)
    scale, zero = rng.normal(size=n), rng.normal(size=(5, k))
    row = rng.integers(0, 5, n).astype(np.int32)
    place = np.sort(rng.integers(0, leaves, n)).astype(np.int32)
    found, leaf = _core.mix_counts(f0, fj, f1, pi, jumps, scale, zero, row, place, leaves)
    p, j = pi[:, None], jumps[:, None]
    mixed = (1 - p) * ((1 - j) * f0 + j * fj) + p * f1
    np.testing.assert_allclose(found, mixed, rtol=1e-13)
    expected = np.zeros((leaves, k))
    np.add.at(expected, place, np.log(mixed) + scale[:, None] - zero[row])
    np.testing.assert_allclose(leaf, expected, rtol=1e-12, atol=1e-12)
    one = _core.mix_counts(
        f0[:, :1].copy(), fj[:, :1].copy(), f1, pi, jumps, scale, zero, row, place, leaves
    )[0]
    flat = (1 - p) * ((1 - j) * f0[:, :1] + j * fj[:, :1]) + p * f1
    np.testing.assert_allclose(one, flat, rtol=1e-13)


def test_expectations_leave_the_pair_out():
    rng = np.random.default_rng(3)
    n, k, size = 30, 19, 1.7
    tables = mixture(rng, n, k)
    f0, fj, f1, pi, jumps = tables
    reads, rate, spill = pairs(rng, n)
    nodes = np.linspace(-4.0, 5.0, k)
    p, j = pi[:, None], jumps[:, None]
    mixed = (1 - p) * ((1 - j) * f0 + j * fj) + p * f1
    post = rng.random((6, k))
    post /= post.sum(axis=1, keepdims=True)
    place = rng.integers(0, 6, n).astype(np.int32)
    found = _core.expect_counts(
        *tables, reads, rate, spill, nodes[0], nodes[1] - nodes[0], size, mixed, post, place
    )
    kappa = np.exp(nodes)
    q = post[place] / mixed
    normal = q / q.sum(axis=1, keepdims=True)
    mu = rate[:, None] * kappa
    every = np.maximum(mu + spill[:, None], 1e-12)
    gain = mu / every * (size / (size + every))
    weight = q * (1 - p) * (1 - j) * f0
    fall = post[place] * mu * size / (size + mu)
    expected = [
        normal @ kappa, normal @ kappa**2, (normal * f0).sum(axis=1), (normal * fj).sum(axis=1),
        (normal * f1).sum(axis=1),
        (weight * gain * (reads[:, None] - every) + fall).sum(axis=1),
        (weight * gain * mu - fall).sum(axis=1),
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# --- what is said of pairs, beside the sum over every pattern of presence

SIZES = 1.6, 0.4


def small_world():
    """Two batches of patients and controls, three taxa, and parameters."""
    role = np.array([PATIENT, PATIENT, CONTROL, PATIENT, CONTROL])
    reads = np.array([[40, 3, 0], [5, 0, 1], [4, 2, 0], [30, 9, 60], [22, 0, 0]], dtype=float)
    n = len(role)
    arrays = Arrays(
        reads=reads, total=reads.sum(axis=1) + 100, exposure=np.array([1.0, 2.0, 0.7, 1.4, 1.0]),
        looseness=np.full(n, 0.3), kind=(role == CONTROL).astype(np.intp), role=role,
        cell=np.array([0, 0, 0, 1, 1]),
        levels=Levels(("batch",), (np.zeros(2, dtype=np.intp),)),
        group=np.zeros(3, dtype=np.intp), run=np.zeros(n, dtype=np.intp), near=None, by_mass=False,
    )  # fmt: skip
    psi = Parameters(
        mean=0.5, sd=1.5, steps=np.array([0.6]), library_sd=0.3, size=SIZES[0], size_sd=SIZES[1],
        prevalence=0.1, jumps=0.02, escapes=0.25, bursts=0.05, jump_mean=1.0, jump_sd=1.2,
        mass_mean=np.array([2.5]), mass_sd=np.array([1.4]), classes=np.array([0.6, 0.25, 0.15]),
        hop=np.zeros(1), leak=0.0, offsets=np.zeros(2),
    )  # fmt: skip
    return arrays, psi, Libraries.unknown(np.zeros(n), 0.02)


def by_every_pattern(arrays, psi, libraries, grid, taxon):
    """Probabilities of presence in each library: sums over presences, levels and hypotheses."""
    kernels, role = Kernels.of(grid, psi), arrays.role
    y, r, j = arrays.reads[:, taxon], arrays.exposure, libraries.jumps
    patients = np.flatnonzero(role == PATIENT)
    joint = np.zeros(2 ** len(patients))
    patterns = list(itertools.product((0, 1), repeat=len(patients)))

    def added(weight, pi, likelihood):
        """Likelihoods (S, 2, K) of absence and presence, on the tree where K nodes differ."""
        for m, pattern in enumerate(patterns):
            z = np.zeros(len(y), dtype=int)
            z[patients] = pattern
            prior = np.prod([pi if one else 1 - pi for one in pattern])
            own = likelihood[np.arange(len(y)), z]
            if own.shape[1] == 1:
                joint[m] += weight * prior * own.prod()
                continue
            leaves = [own[arrays.cell == c].prod(axis=0) for c in (0, 1)]
            up = np.prod([kernels.steps[0] @ leaf for leaf in leaves], axis=0)
            joint[m] += weight * prior * (kernels.prior @ up)

    for step, size_weight in zip(SIZE_STEPS, SIZE_WEIGHTS, strict=True):
        size = psi.size * np.exp(step * psi.size_sd)
        mu = r[:, None] * np.exp(grid.nodes)
        f0 = nbinom.pmf(y[:, None], size, size / (size + mu))
        fj, f1 = f0 @ kernels.jump.T, f0 @ kernels.present[0].T
        absent = (1 - j[:, None]) * f0 + j[:, None] * fj
        whole = np.stack([absent, f1], axis=1)
        added(psi.classes[0] * (1 - psi.escapes) * size_weight, psi.prevalence, whole)
        if step == 0:
            escaped = (1 - ESCAPE) * whole + ESCAPE * whole[:, :, :1]
            added(psi.classes[0] * psi.escapes, psi.prevalence, escaped)
        others = [(psi.classes[1] * w, psi.prevalence, rate)
                  for rate, w in zip(RATES, RATE_WEIGHTS, strict=True)]  # fmt: skip
        others += [(psi.classes[2] * w, pi, 0.0)
                   for pi, w in zip(PREVALENCES, PREVALENCE_WEIGHTS, strict=True)]  # fmt: skip
        for weight, pi, rate in others:
            every = 1 - (1 - j) * (1 - rate)
            back = (1 - every) * f0[:, 0] + every * fj[:, 0]
            added(weight * size_weight, pi, np.stack([back, f1[:, 0]], axis=1)[:, :, None])
    joint /= joint.sum()
    out = np.full(len(y), np.nan)
    out[patients] = joint @ np.array(patterns)
    return out


def test_probabilities_are_those_of_every_pattern_of_presence(agree):
    arrays, psi, libraries = small_world()
    grid = grid_of(arrays, psi.size)
    found = run(arrays, grid, psi, libraries)
    pairs = found.pairs
    known = np.stack([by_every_pattern(arrays, psi, libraries, grid, t) for t in range(3)], axis=1)
    of_patients = arrays.role[pairs.sample] == PATIENT
    agree(
        "metagenomics.screen", "probabilities of presence at given parameters",
        found.joined("probability")[of_patients],
        known[pairs.sample, pairs.taxon][of_patients],
        peer="sum over every pattern of presence", rtol=1e-6,
    )  # fmt: skip
    assert np.ptp(known[arrays.role == PATIENT]) > 0.5


def test_what_came_with_the_library_is_not_what_the_taxon_does():
    """Of a sporadic taxon that lands often, a landing is hardly the library's."""
    arrays, psi, libraries = small_world()
    reads = arrays.reads.copy()
    reads[:, 1] = [30, 0, 25, 40, 35]
    arrays = replace(arrays, reads=reads)
    psi = replace(psi, classes=np.array([1e-6, 1 - 2e-6, 1e-6]), prevalence=1e-6)
    block = run(arrays, grid_of(arrays, psi.size), psi, libraries)
    here = block.pairs.taxon == 1
    jump, caught = block.joined("jump")[here], block.joined("caught")[here]
    assert (jump > 0.95).all()
    assert (caught < 0.2).all()
