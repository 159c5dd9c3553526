"""Long calls of every kind of entry of the core, stopped by a signal; run in a child.

Each call works for seconds by itself, without coming back to Python. The alarm rings while it is
at work; how long it takes from there until the exception arrives is printed.

    python long_calls.py THREADS [NAME ...]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ranef import _core
from ranef.solve.resources import use_lapack

rng = np.random.default_rng(7)
Call = Callable[[], Any]


def factor(q: int, n: int, r: int = 1, **more: Any) -> dict[str, Any]:
    term = {"structure": "us", "size": r, "rank": 0, "positions": np.empty((r, 0))}
    return {
        "codes": rng.integers(0, q, n).astype(np.int32), "z": rng.normal(size=(n, r)),
        "levels": q, "terms": [term], **more,
    }  # fmt: skip


def linear(
    n: int, sizes: list[int], threads: int, sparse: bool = False, r: int = 1, p: int = 2
) -> Any:
    X = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    factors = [factor(q, n, r) for q in sizes]
    return _core.Problem(factors, X, np.ones(p), X.T @ X, None, [0], threads, sparse)


def crossed(threads: int) -> Iterator[tuple[str, Call]]:
    """Two crossed factors, whose tail is dense and large."""
    n, sizes = 40_000, [12_000, 6_000]
    core = linear(n, sizes, threads)
    y, phi = rng.normal(size=n), np.ones(2)
    yield "state", lambda: core.state(y, True, phi, True)
    yield "fit", lambda: core.fit(y, True, phi, 500, None)
    yield "mode_covariances", lambda: core.mode_covariances(y, True, phi, 0, True)
    yield "all_mode_covariances", lambda: core.all_mode_covariances(y, True, phi)
    one = [(0, np.eye(1)), (1, np.eye(1))]
    yield "curvature", lambda: core.curvature(y, True, phi, one, True)
    yield "scores", lambda: core.scores(y, True, phi, 1)
    yield "fixed_scores", lambda: core.fixed_scores(y, True, phi)
    many = np.repeat(y[None], 300, axis=0)
    yield "modes_of", lambda: core.modes_of(y, True, phi, many)
    yield "psi_gradients", lambda: core.psi_gradients(many, True, phi)
    yield "fit_many", lambda: core.fit_many(many, True, phi, 100, threads)
    k = 4000
    rows = (
        [rng.integers(0, q, k).astype(np.int32) for q in sizes], [np.ones((k, 1))] * 2,
        np.ones((k, 2)),
    )  # fmt: skip
    yield "quadratic_forms", lambda: core.quadratic_forms(y, True, phi, *rows)
    yield "half_solves", lambda: core.half_solves(y, True, phi, *rows)
    yield "form_slopes", lambda: core.form_slopes(y, True, phi, *rows)


def sparse(threads: int) -> Iterator[tuple[str, Call]]:
    n, sizes = 400_000, [100_000, 6_000, 5_000]
    factors = [factor(q, n) for q in sizes]
    local = factors[0]["codes"]
    factors[1]["codes"] = ((local // 17 + rng.integers(0, 40, n)) % sizes[1]).astype(np.int32)
    factors[2]["codes"] = ((local // 20 + rng.integers(0, 40, n)) % sizes[2]).astype(np.int32)
    X = np.ones((n, 1))
    yield (
        "Problem (sparse)",
        lambda: _core.Problem(factors, X, np.ones(1), X.T @ X, None, [0], threads, True),
    )
    codes = [f["codes"] for f in factors]
    yield (
        "sparse_cost",
        lambda: _core.sparse_cost(codes[0], sizes[0], codes[1:], sizes[1:], [1, 1]),
    )
    core = _core.Problem(factors, X, np.ones(1), X.T @ X, None, [0], threads, True)
    y, phi = rng.normal(size=n), np.ones(3)
    yield "state (sparse)", lambda: core.state(y, True, phi, True)
    yield (
        "curvature (sparse)",
        lambda: core.curvature(y, True, phi, [(k, np.eye(1)) for k in range(3)], True),
    )
    yield "all_mode_covariances (sparse)", lambda: core.all_mode_covariances(y, True, phi)


def many_rows(threads: int) -> Iterator[tuple[str, Call]]:
    n = 6_000_000
    codes = np.sort(rng.integers(0, 600_000, n)).astype(np.int32)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 9))])
    one = factor(600_000, 1, 3)
    one |= {"codes": codes, "z": X[:, :3].copy()}
    yield (
        "Problem",
        lambda: _core.Problem([one], X, np.ones(10), np.eye(10) * n, None, [0], threads),
    )
    core = _core.Problem([one], X, np.ones(10), np.eye(10) * n, None, [0], threads)
    Y = rng.normal(size=(8, n))
    phi = np.array([1.0, 0, 0, 1, 0, 1])
    yield "respond", lambda: core.respond(Y, None)
    yield "moment_start", lambda: core.moment_start(core.respond(Y[:1], None)[0])
    yield "state (levels)", lambda: core.fit(Y[0], True, phi, 500, None)
    wide = np.sort(rng.integers(0, 50, n)).astype(np.int32)
    yield "count_pairs", lambda: _core.count_pairs(codes, 600_000, wide, 50, 2**60)


def generalised(threads: int) -> Iterator[tuple[str, Call]]:
    def problem(n: int, sizes: list[int], nodes: int, r: int = 1, name: str = "poisson") -> Any:
        family = _core.make_family(name, "log")
        X = np.column_stack([np.ones(n), rng.normal(size=n)])
        rows = [{"X": X, "coefficients": [0, 1], "offset": None}]
        rows += [
            {"X": np.ones((n, 1)), "coefficients": [k], "offset": None}
            for k in range(2, 1 + family.predictors)
        ]
        factors = [factor(q, n, r, owners=[0] * r) for q in sizes]
        y = rng.poisson(2.0, n).astype(float)
        return _core.GeneralisedProblem(
            family, y, None, None, rows, 1 + family.predictors, factors, [0], threads, nodes
        )

    laplace = problem(60_000, [15_000, 5_000], 1)
    x, steps = np.array([0.8, 0.8, 0.1, 0.2]), 1e-4 * np.eye(4)
    yield "Laplace state", lambda: laplace.state(x, True)
    yield "Laplace fit", lambda: laplace.fit(x, 500, None)
    yield "Laplace mode_covariances", lambda: laplace.mode_covariances(x, 0, True)
    yield "Laplace all_mode_covariances", lambda: laplace.all_mode_covariances(x)
    yield "Laplace start_with_modes", lambda: laplace.start_with_modes(np.zeros(2))
    yield "Laplace mode_scores", lambda: laplace.mode_scores(x)
    yield "Laplace beside", lambda: laplace.beside(x, x + steps, x - steps)
    nodes = problem(2_000_000, [50_000], 15, 2)
    at, aside = np.array([1.0, 0.2, 1.0, 0.1, 0.1]), 1e-4 * np.eye(5)
    yield "quadrature state", lambda: nodes.state(at, True)
    yield "quadrature fit", lambda: nodes.fit(at, 500, None)
    yield "quadrature beside", lambda: nodes.beside(at, at + aside, at - aside)
    yield "quadrature posterior", lambda: nodes.posterior(at, 0)
    yield "quadrature start", lambda: nodes.start(np.zeros(2))
    slow = problem(400_000, [2_000], 1, 1, "compois")
    yield "compois state", lambda: slow.state(np.array([1.0, 4.0, 0.1, -2.0]), True)
    family = _core.make_family("compois", "log")
    m = 300_000
    yield (
        "Family.evaluate",
        lambda: family.evaluate(np.full(m, 900.0), None, np.full((2, m), 5.0), 3, [0, 1], threads),
    )


def iterative(threads: int) -> Iterator[tuple[str, Call]]:
    n, q = 8_000_000, [100_000, 60_000]
    codes = [rng.integers(0, k, n).astype(np.int32) for k in q]
    yield "CrossedSystem", lambda: _core.CrossedSystem(codes, q, [None, None], None, threads)
    system = _core.CrossedSystem(codes, q, [None, None], None, threads)
    theta, tail = np.ones(2), min(q)
    yield "CrossedSystem.times", lambda: system.times(rng.normal(size=(sum(q), 60)))
    B = rng.normal(size=(sum(q), 20))
    yield "CrossedSystem.solve", lambda: system.solve(theta, B, 1e-14, 1000)
    Z = np.sign(rng.normal(size=(tail, 20)))
    yield "CrossedSystem.probes", lambda: system.probes(theta, Z, 1e-14, 1000)


def images(threads: int) -> Iterator[tuple[str, Call]]:
    K, N = 24, 1_000_000
    Y = rng.normal(size=(K, N)).astype("f4")
    V = rng.uniform(0.5, 2, size=(K, N)).astype("f4")
    X = np.column_stack([np.ones(K), np.arange(K) / K])
    yield "mixed_effects", lambda: _core.mixed_effects(Y, V, X, "reml", threads)
    S = np.sign(rng.normal(size=(60, K)))
    yield (
        "sign_flips",
        lambda: _core.sign_flips(Y, V, X, None, np.eye(2)[:1], S, "reml", "none", threads),
    )
    level = (np.arange(K) // 4).astype(np.int32)
    kind = np.zeros(6, np.int32)
    Q = np.linalg.qr(X)[0]
    yield (
        "repeated_measures",
        lambda: _core.repeated_measures(Y, Q, X.copy(), level, kind, True, threads),
    )
    many, few = 200_000, 40
    tall = rng.normal(size=(many, few))
    yield (
        "mixed_effects (many subjects)",
        lambda: _core.mixed_effects(
            tall, np.exp(rng.normal(size=(many, few))), np.ones((many, 1)), "ml", threads
        ),
    )
    side = 160
    mask = np.ones((side, side, side), bool)
    starts, indices = _core.voxel_neighbours(mask)
    values = rng.normal(size=side**3)
    yield "tfce", lambda: _core.tfce(values, starts, indices, 0.5, 2.0)
    large = np.ones((600, 500, 500), bool)
    yield "voxel_neighbours", lambda: _core.voxel_neighbours(large)


def genomes(threads: int) -> Iterator[tuple[str, Call]]:
    samples, variants = 400_000, 8_000
    packed = rng.integers(0, 256, size=(variants, samples // 4), dtype=np.uint8)
    places = rng.permutation(samples).astype(np.int32)
    groups = (places % 2).astype(np.int32)
    yield "count_genotypes", lambda: _core.count_genotypes(packed, places, groups, 2)
    few = packed[:1500]
    tables = np.ones((1500, 8))
    yield "decode_genotypes", lambda: _core.decode_genotypes(few, places, groups, 2, tables)
    yield (
        "decode_genotypes_single",
        lambda: _core.decode_genotypes_single(few, places, groups, 2, tables.astype("f4")),
    )
    counts = np.full((300_000, 3), 100_000, np.int32)
    yield "exact_proportions", lambda: _core.exact_proportions(counts)
    yield (
        "exact_proportions (of billions)",
        lambda: _core.exact_proportions(np.full((2000, 3), 7 * 10**8, np.int32)),
    )


def reads(threads: int) -> Iterator[tuple[str, Call]]:
    n, nodes = 75_000, 400  # tables whose memory is made and freed well within the limit
    shift = {
        "shift": rng.integers(0, 9, n).astype(np.int32),
        "reach": rng.integers(1, 300, n).astype(np.int32), "side": np.full(n, 0.1),
    }  # fmt: skip
    values = rng.uniform(size=(n, nodes))
    yield "shift_rows", lambda: _core.shift_rows(values, **shift)
    counts = rng.poisson(50, n).astype(float)
    yield (
        "counts_on_grid",
        lambda: _core.counts_on_grid(
            reads=counts, rate=np.ones(n), spill=np.zeros(n), **shift, first=-1.0, step=0.05,
            nodes=nodes, size=2.0,
        ),
    )  # fmt: skip
    tables = {
        "without": values, "jump": values, "present": values, "pi": np.full(n, 0.1),
        "jumps": np.full(n, 0.01),
    }  # fmt: skip
    place = (np.arange(n) % 5000).astype(np.int32)
    yield (
        "mix_counts",
        lambda: _core.mix_counts(
            **tables, scale=np.zeros(n), zero=np.zeros((3, nodes)),
            zero_row=np.zeros(n, np.int32), place=place, leaves=5000,
        ),
    )  # fmt: skip
    yield (
        "expect_counts",
        lambda: _core.expect_counts(
            **tables, reads=counts, rate=np.ones(n), spill=np.zeros(n), first=-1.0, step=0.05,
            size=2.0, mixed=values, post=np.full((5000, nodes), 0.2), place=place,
        ),
    )  # fmt: skip


def processes(threads: int) -> Iterator[tuple[str, Call]]:
    persons, length = 40, 100_000
    n = persons * length
    first = np.arange(0, n + 1, length, dtype=np.int32)
    gap = np.ones(n)
    gap[first[:-1]] = 0
    core = _core.Dynamic(
        "fisher", False, first, gap, np.ones((n, 1)), np.ones((n, 1)), np.ones((n, 1)),
        np.ones((n, 1)), threads,
    )  # fmt: skip
    y = rng.normal(size=n)
    given = {
        "deviation": y, "input": np.zeros(n), "memory": np.full(n, 0.3), "scale": np.zeros(n),
        "L": np.eye(3), "omega": 1.0,
    }  # fmt: skip
    yield "Dynamic.modes", lambda: core.modes(**given, start=np.zeros((persons, 1)))
    k = 4000
    placed = {
        "x": rng.normal(size=(k, 1)), "log_w": np.zeros(k), "mode": np.zeros((persons, 1)),
        "factor": np.full((persons, 1, 1), 1e-3),
    }  # fmt: skip
    yield "Dynamic.evaluate", lambda: core.evaluate(**given, **placed, slopes=True)
    yield "Dynamic.shares", lambda: core.shares(**given, **placed)


def residuals(threads: int) -> Iterator[tuple[str, Call]]:
    g, n, w, k = 500, 100, 30, 4
    rows = np.arange(g * n, dtype=np.int32).reshape(g, n)
    each, none = np.arange(g, dtype=np.int32), np.zeros(g, np.int32)
    U = rng.normal(size=(g * n, w))
    groups = _core.GroupRows(U, rows, each, g, each, g)
    wide = _core.GroupRows(rng.normal(size=(g * n, 300)), rows, none, 1, none, 1)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    R = np.tile(0.5**distance, (g, 1, 1))
    first = np.tile(0.1**distance, (k, g, 1, 1))
    core = _core.WhitenedGroups(R, first, 1e-14, 0.0, threads)
    few = _core.WhitenedGroups(R[:1], first[:, :1].copy(), 1e-14, 0.0, threads)
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    bends = pairs, [first[0]] * len(pairs)
    tall = (np.eye(5_000) + 0.5)[None]
    yield (
        "WhitenedGroups",
        lambda: _core.WhitenedGroups(tall, np.empty((0, *tall.shape)), 0.0, 0.0, threads),
    )
    yield "WhitenedGroups.middles", lambda: [core.middles() for _ in range(9)]
    yield (
        "WhitenedGroups.second_products",
        lambda: [core.second_products(groups, *bends) for _ in range(9)],
    )
    yield "WhitenedGroups.products", lambda: [few.products(wide) for _ in range(9)]
    yield (
        "WhitenedGroups.contracted",
        lambda: [core.contracted(first[:3], np.ones(g), *bends) for _ in range(9)],
    )
    yield (
        "WhitenedGroups.weighted",
        lambda: [core.weighted(np.ones((k, k)), *bends) for _ in range(9)],
    )
    which = np.zeros((g, n - 1), np.int32)
    chain = _core.Markov(*np.full((3, 1), 0.5), which, threads)
    yield "Markov.second_products", lambda: [chain.second_products(wide) for _ in range(9)]


def structural(threads: int) -> Iterator[tuple[str, Call]]:
    p, units = 6, 400_000
    up = np.full(p, -1, np.int32)
    level = {
        "z": np.empty((units, 0)), "present": np.empty((1, 0), np.int32),
        "pattern": np.zeros(units, np.int32), "first": np.arange(units + 1, dtype=np.int32),
        "up": up,
    }  # fmt: skip
    eye = np.eye(p)
    given = {
        "present": np.ones((1, p), np.int32), "total_xx": np.full((1, 1, 1), 3.0 * units),
        "total_xy": np.zeros((1, 1, p)), "total_yy": (3 * units * eye)[None],
        "pattern": np.zeros(units, np.int32), "piece_xx": np.full((units, 1, 1), 3.0),
        "piece_xy": rng.normal(size=(units, 1, p)), "piece_yy": np.tile(3 * eye, (units, 1, 1)),
        "column": np.zeros(p, np.int32), "response": np.arange(p, dtype=np.int32), "slopes": 0,
        "threads": threads,
    }  # fmt: skip
    at = np.concatenate([eye.ravel(), np.zeros(p), eye.ravel(), np.zeros(p)])
    core = _core.Messages(**given, levels=[level], share=np.ones(units), unit=np.ones(units))
    yield "Messages.criterion", lambda: core.criterion(at, True)
    yield "Messages.posterior", lambda: core.posterior(at, 0)
    yield "Messages.units", lambda: core.units(at, np.ones((at.size, 3)))
    each = _core.Messages(**given, levels=[level], share=None, unit=None)
    count = 20
    pairs = units * count
    yield (
        "Messages.nodes",
        lambda: each.nodes(
            np.tile(at, (count, 1)), np.zeros(count),
            np.arange(0, pairs + 1, count, dtype=np.int32),
            np.tile(np.arange(count, dtype=np.int32), units), np.zeros(pairs), True,
        ),
    )  # fmt: skip


def shapes(threads: int) -> Iterator[tuple[str, Call]]:
    r = 3000
    wide = _core.Structure("cs", r)
    phi = wide.start()
    yield "Structure.factor", lambda: wide.factor(phi)
    A = rng.normal(size=(2000, 2000))
    yield "trapezoid", lambda: _core.trapezoid(A @ A.T, 1000)
    yield "hermite", lambda: _core.hermite(1000)


def squares(threads: int) -> Iterator[tuple[str, Call]]:
    n = 8000
    A = np.eye(n) + 0.5
    yield "cholesky", lambda: _core.cholesky(A)
    yield "inverse", lambda: _core.inverse(A)
    few = rng.normal(size=(2000, 2000))
    yield "spectrum", lambda: _core.spectrum(few + few.T, 2000)
    yield "spectrum (largest)", lambda: _core.spectrum(few + few.T, 10)


GROUPS = (
    crossed, sparse, many_rows, generalised, iterative, images, genomes, reads, processes,
    structural, shapes, residuals, squares,
)  # fmt: skip
SOON = 20.0 if "RANEF_SANITIZED" in os.environ else 1.0
"""Seconds of work that a call may go on after the alarm; a sanitizer multiplies them."""


class Alarm:
    """Interrupts what runs, once the process has worked for a while."""

    def __init__(self) -> None:
        self.armed = False
        signal.signal(signal.SIGPROF, self.ring)

    def ring(self, *_: object) -> None:
        if self.armed:
            raise KeyboardInterrupt

    def stopped_after(self, call: Call, wait: float) -> tuple[float, bool]:
        """Seconds of work from the alarm to the end of the call, and whether it was stopped.

        The alarm counts the process's own work, as does the result: others do not matter.
        """
        begun, stopped = time.process_time(), False
        self.armed = True
        try:
            signal.setitimer(signal.ITIMER_PROF, wait)
            call()
            self.armed = False
        except KeyboardInterrupt:
            stopped = True
        self.armed = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        return time.process_time() - begun - wait, stopped


def main(threads: int, names: list[str]) -> None:
    use_lapack()
    alarm, late = Alarm(), []
    for group in GROUPS:
        if names and group.__name__ not in names:
            continue
        for name, call in group(threads):
            seconds, stopped = alarm.stopped_after(call, 0.1)
            print(f"{name:34s} {seconds:6.2f} s {'stopped' if stopped else 'ended'}", flush=True)
            if seconds > SOON * threads:
                late.append(name)
    print(f"late: {', '.join(late)}" if late else "all were stopped")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
