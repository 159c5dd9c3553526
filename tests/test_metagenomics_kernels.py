"""Kernels of counts on a grid beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from scipy.stats import nbinom

from ranef import _core
from ranef.fields.metagenomics.expectation import densities


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
