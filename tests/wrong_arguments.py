"""Calls every entry of the core with wrong arguments; run by test_core_arguments in a child.

Each entry has calls that are right. One argument after the other is replaced by each of the
wrong ones, then several at once at random. What is called is written before it is called, so
that the last line says what ended the process. Nothing is asserted of what comes out but that
it is an answer or a proper error.

    python wrong_arguments.py SEED RANDOM_CALLS
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import _core

PROPER = (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError)
MEMORY = 4 << 30

N, Q = 40, 8
codes = (np.arange(N) % Q).astype(np.int32)
coarse = (codes // 2).astype(np.int32)
crossed = (np.arange(N) % 3).astype(np.int32)
rng = np.random.default_rng(5)
x = rng.normal(size=N)
X = np.column_stack([np.ones(N), x])
y = x + rng.normal(size=Q)[codes] + rng.normal(size=N)
SANITIZED = "RANEF_SANITIZED" in os.environ  # it ends at a shortage of memory, and needs much
EFFECTS = rng.normal(size=(6, 9))
VARIANCES = 10.0 ** rng.uniform(-3, 3, (6, 9))
DESIGN = np.column_stack([np.ones(6), np.arange(6.0)])
ONES = {"pattern": np.zeros(4, np.int32), "column": np.zeros(1, np.int32)}
ABOVE = {
    "z": np.arange(4.0)[:, None] - 1.5, "present": np.ones((1, 1), np.int32),
    "pattern": np.zeros(4, np.int32), "first": np.arange(5, dtype=np.int32),
    "up": np.full(2, -1, np.int32),
}  # fmt: skip
MESSAGES = {
    "present": np.ones((1, 2), np.int32), "total_xx": np.full((1, 1, 1), 12.0),
    "total_xy": np.ones((1, 1, 2)), "total_yy": 12 * np.eye(2)[None], **ONES,
    "piece_xx": np.full((4, 1, 1), 3.0), "piece_xy": np.full((4, 1, 2), 0.25),
    "piece_yy": np.tile(3 * np.eye(2), (4, 1, 1)), "response": np.zeros(1, np.int32), "slopes": 0,
    "levels": [ABOVE], "share": np.ones(4), "unit": np.ones(4), "threads": 2,
}  # fmt: skip
LEVELS = _core.Messages(**MESSAGES)
DYNAMIC = {
    "memory": "fisher", "given_starts": False, "first": np.array([0, 3, 6], np.int32),
    "gap": np.array([0.0, 1, 2, 0, 1, 1]), "zm": np.ones((6, 1)), "zi": np.zeros((6, 0)),
    "zp": np.ones((6, 1)), "zs": np.zeros((6, 1)), "threads": 2,
}  # fmt: skip
PROCESS = _core.Dynamic(**DYNAMIC)
PERSONS = {
    "deviation": np.arange(6.0), "input": np.zeros(6), "memory": np.full(6, 0.3),
    "scale": np.zeros(6), "L": np.eye(2), "omega": 1.0,
}  # fmt: skip
PLACED = {
    "x": np.array([[-1.0], [1.0]]), "log_w": np.zeros(2), "mode": np.zeros((2, 1)),
    "factor": np.ones((2, 1, 1)),
}  # fmt: skip
GROUPED = {
    "U": EFFECTS, "rows": np.array([[0, 1], [3, 2], [4, 5]], np.int32),
    "which": np.array([0, 1, 0], np.int32), "patterns": 2,
    "cluster": np.array([1, 0, 1], np.int32), "clusters": 2,
}  # fmt: skip
GROUPS = _core.GroupRows(**GROUPED)
WHITENED = {
    "R": np.array([[[1.0, 0.3], [0.3, 1.0]], [[2.0, -0.1], [-0.1, 1.0]]]),
    "first": np.array([np.eye(2), np.ones((2, 2))] * 2).reshape(2, 2, 2, 2),
    "least_pivot": 1e-14, "least_variance": 0.0, "threads": 2,
}  # fmt: skip
RESIDUALS = _core.WhitenedGroups(**WHITENED)
CURVES = {"pairs": [(0, 0), (0, 1)], "second": [np.ones((2, 2, 2))] * 2}
CHAINED = {
    "rho": np.array([0.5, 0.2]), "first": np.ones(2), "second": np.zeros(2),
    "which": np.array([[0], [1], [0]], np.int32), "threads": 2,
}  # fmt: skip
CHAIN = _core.Markov(**CHAINED)
EACH = _core.Messages(**{**MESSAGES, "share": None, "unit": None})
PAIRED = {
    "prior": np.zeros(2), "first": np.array([0, 2, 3, 4, 6], dtype=np.int32),
    "node": np.array([0, 1, 0, 1, 0, 1], dtype=np.int32), "volume": np.zeros(6),
}  # fmt: skip
MOMENTS = np.array([1.0, 0.2, 0.2, 1.0, 0.0, 0.0, 0.5, 0.1, 0.1, 1.0, 0.0, 0.0])
# Two levels above the rows, a slope with loadings, a response and a value that are missing.
TALL = {
    **MESSAGES, "present": np.array([[1, 1], [0, 1]], np.int32),
    "total_xx": np.tile(np.eye(2) * 6, (2, 1, 1)), "total_xy": np.ones((2, 2, 2)),
    "total_yy": np.tile(6 * np.eye(2), (2, 1, 1)), "pattern": np.array([0, 1, 0, 1], np.int32),
    "piece_xx": np.tile(np.eye(2) * 3, (4, 1, 1)), "piece_xy": np.ones((4, 2, 2)),
    "column": np.array([0, 1], np.int32), "response": np.array([0, -1], np.int32), "slopes": 1,
    "levels": [
        {**ABOVE, "present": np.array([[1], [0]], np.int32),
         "pattern": np.array([0, 1, 0, 0], np.int32), "up": np.array([0, -1, 1], np.int32)},
        {"z": np.empty((2, 0)), "present": np.empty((1, 0), np.int32),
         "pattern": np.zeros(2, np.int32), "first": np.array([0, 1, 4], np.int32),
         "up": np.full(2, -1, np.int32)},
    ],
    "share": np.ones(2), "unit": np.ones(2),
}  # fmt: skip
HOUSE = _core.Messages(**TALL)
# W, B (2, 2), L (1, 2), then S and m of three and of two coordinates
ABOUT = np.concatenate([np.eye(2).ravel(), np.zeros(4), [0.5, 0.7], np.eye(3).ravel(),
                        np.zeros(3), np.eye(2).ravel(), np.zeros(2)])  # fmt: skip
nan, inf, big = np.nan, np.inf, 10**6 if SANITIZED else 2**31 - 1


def factor(which=codes, r=1, term: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    shape = {"structure": "us", "size": r, "rank": 0, "positions": np.empty((r, 0))}
    term = {**shape, **(term or {})}
    z = np.column_stack([np.ones(N), x])[:, :r].copy()
    levels = int(which.max()) + 1
    return {"codes": which, "z": z, "levels": levels, "terms": [term], **more}


def problem(
    factors=None, X=X, scale=None, gram=None, weights=None, chain=(0,), threads=2, sparse=False
):
    factors = [factor()] if factors is None else factors
    scale = np.ones(X.shape[1]) if scale is None else scale
    return _core.Problem(
        factors, X, scale, X.T @ X if gram is None else gram, weights, chain, threads, sparse
    )


def compressed(ptr, index, value, columns):
    """A problem whose X comes by rows without zeros."""
    rows, p = (ptr, index, value, columns), X.shape[1]
    return _core.Problem([factor()], rows, np.ones(p), X.T @ X, None, (0,), 2).respond(
        y[None], None
    )


POISSON = _core.make_family("poisson", "log")
COUNTS = rng.poisson(2.0, N).astype(float)
SHIFTS = {
    "shift": np.array([0, 1, -2, 9], np.int32), "reach": np.array([0, 1, 2, 7], np.int32),
    "side": np.full(4, 0.1),
}  # fmt: skip
TABLES = {
    "without": np.ones((4, 5)), "jump": np.ones((4, 5)), "present": np.ones((4, 5)),
    "pi": np.full(4, 0.1), "jumps": np.full(4, 0.01),
}  # fmt: skip


def generalised(
    family=POISSON, y=COUNTS, extra=None, weights=None, predictors=None, coefficients=2,
    factors=None, chain=(0,), threads=2, nodes=1, integrated=(), sparse=False,
):  # fmt: skip
    rows = [{"X": X, "coefficients": [0, 1], "offset": None, "unit": 1.0}]
    factors = [factor(owners=[0])] if factors is None else factors
    return _core.GeneralisedProblem(
        family, y, extra, weights, rows if predictors is None else predictors, coefficients,
        factors, chain, threads, nodes, integrated, sparse,
    )  # fmt: skip


PLAIN = problem()
BOTH = problem([factor(), factor(crossed)], chain=(0,))
NESTED = problem([factor(r=2), factor(coarse)], chain=(0, 1))
SPARSE = problem([factor(), factor(crossed), factor(coarse)], chain=(0,), sparse=True)
CROSSED = _core.CrossedSystem([codes, crossed], [Q, 3], [None, x], None, 2)
LAPLACE = generalised()
NODES = generalised(nodes=5)
DEEP = generalised(nodes=3, factors=[factor(owners=[0]), factor(coarse, owners=[0])], chain=(0, 1))
WIDE = generalised(factors=[factor(owners=[0]), factor(crossed, owners=[0])], sparse=True)
END = LAPLACE.fit(np.array([0.5, 0.1, 0.2]), 50, None)["end"]
MULTINOMIAL = _core.make_family("multinomial", "logit", False, 3)
AT = np.array([0.7])
SPOT = np.array([0.5, 0.1, 0.2])
ROWS = ([np.array([0, 2, -1], np.int32)], [np.ones((3, 1))], np.ones((3, 2)))
PRIOR = ("normal", 0.0, 1.0, 1.0)
PACKED = np.arange(12, dtype=np.uint8).reshape(4, 3)
CHOSEN = {
    "packed": PACKED, "samples": np.array([0, 5, 3], np.int32),
    "groups": np.array([0, 1, 1], np.int32), "n_groups": 2,
}  # fmt: skip


@dataclass
class Entry:
    """A call that is right, or only nearly so."""

    name: str
    call: Callable[..., Any]
    arguments: dict[str, Any]
    right: bool = True


def linear(name: str, **more: Any) -> Iterator[Entry]:
    for label, core in (
        ("plain", PLAIN), ("crossed", BOTH), ("nested", NESTED), ("sparse", SPARSE),
    ):  # fmt: skip
        phi = np.full(core.parameters, 0.6)
        given = {"y": y, "reml": True, "phi": phi, **more}
        if "levels" in given and label != "plain":
            sizes = {"crossed": (1, 1), "nested": (2, 1), "sparse": (1, 1, 1)}[label]
            given["levels"] = [ROWS[0][0]] * len(sizes)
            given["z"] = [np.ones((3, r)) for r in sizes]
        if "directions" in given and label == "nested":
            given["directions"] = [(0, np.eye(2)), (1, np.eye(1))]
        yield Entry(f"Problem({label}).{name}", getattr(core, name), given)


def entries() -> list[Entry]:
    structure = _core.Structure("cs", 3)
    rows = dict(zip(("levels", "z", "X"), ROWS, strict=True))
    out = [
        Entry("count_pairs", _core.count_pairs,
              dict(f=codes, f_levels=Q, g=crossed, g_levels=3, limit=99)),
        Entry("sparse_cost", _core.sparse_cost, dict(
            leader=codes, leader_levels=Q, codes=[crossed, coarse], levels=[3, 4], sizes=[1, 2])),
        Entry("has_lapack", _core.has_lapack, {}),
        Entry("cholesky", _core.cholesky, dict(A=np.eye(3))),
        Entry("inverse", _core.inverse, dict(A=np.eye(3))),
        Entry("spectrum", _core.spectrum, dict(A=np.eye(3), count=2)),
        Entry("trapezoid", _core.trapezoid, dict(psi=np.eye(3), rank=2)),
        Entry("hermite", _core.hermite, dict(count=5)),
        Entry("count_genotypes", _core.count_genotypes, CHOSEN),
        Entry("decode_genotypes", _core.decode_genotypes, dict(**CHOSEN, tables=np.ones((4, 8)))),
        Entry("decode_genotypes_single", _core.decode_genotypes_single,
              dict(**CHOSEN, tables=np.ones((4, 8), np.float32))),
        Entry("first_padded_wrongly", _core.first_padded_wrongly,
              dict(packed=PACKED, samples=10)),
        Entry("exact_proportions", _core.exact_proportions,
              dict(counts=np.array([[3, 4, 5]], np.int32))),
        Entry("make_family", _core.make_family,
              dict(name="poisson", link="log", zero=True, categories=0)),
        Entry("make_family", _core.make_family,
              dict(name="multinomial", link="logit", zero=False, categories=3)),
        Entry("set_lapack", _core.set_lapack, dict(blas={}, lapack={"dpotrf": 1}), right=False),
        Entry("Structure", _core.Structure,
              dict(kind="mat", size=3, rank=0, positions=np.arange(3.0)[:, None])),
        Entry("Structure", _core.Structure, dict(kind="rr", size=3, rank=2, positions=None)),
        Entry("Structure.start", structure.start, {}),
        Entry("Structure.parameters", structure.parameters, {}),
        Entry("Structure.factor", structure.factor, dict(phi=structure.start())),
        Entry("Structure.derivative", structure.derivative, dict(phi=structure.start(), i=1)),
        Entry("Structure.second", structure.second, dict(phi=structure.start(), i=1, j=0)),
        Entry("Structure.rescale", structure.rescale, dict(s=2.0, phi=structure.start())),
        Entry("Problem", problem, dict(factors=[factor()], X=X, scale=np.ones(2), gram=X.T @ X,
                                       weights=np.ones(N), chain=[0], threads=2)),
        Entry("Problem", problem, dict(factors=[factor(r=2), factor(coarse)], chain=[0, 1])),
        Entry("Problem", problem,
              dict(factors=[factor(kernel=np.eye(Q)), factor(crossed)], chain=[1])),
        Entry("GeneralisedProblem", generalised, dict(
            family=POISSON, y=COUNTS, extra=np.ones(N), weights=np.ones(N),
            predictors=[{"X": X, "coefficients": [0, 1], "offset": np.ones(N)}], coefficients=2,
            factors=[factor(owners=[0])], chain=[0], threads=2, nodes=1, integrated=[0])),
        Entry("GeneralisedProblem", generalised,
              dict(factors=[factor(owners=[0])], chain=[0], nodes=5)),
        Entry("GeneralisedProblem", generalised, dict(factors=[
            factor(r=2, term={"units": [1.0, 2.0], "owners": [0, 0]}, owners=[0, 0])])),
        Entry("Problem(compressed)", compressed, dict(
            ptr=np.arange(0, 2 * N + 1, 2), index=np.tile(np.arange(2, dtype=np.int32), N),
            value=X.ravel(), columns=2)),
        Entry("mixed_effects", _core.mixed_effects,
              dict(Y=EFFECTS, V=np.ones((6, 9)), X=np.ones((6, 1)), method="reml", threads=2)),
        Entry("mixed_effects", _core.mixed_effects,
              dict(Y=EFFECTS, V=VARIANCES, X=DESIGN, method="ml", threads=1)),
        Entry("repeated_measures", _core.repeated_measures, dict(
            Y=EFFECTS, X=np.linalg.qr(DESIGN)[0], Z=np.ones((6, 1)),
            level=np.array([0, 0, 1, 1, 2, 2], dtype=np.int32),
            kind=np.array([0, 0, 1], dtype=np.int32), restricted=True, threads=2)),
        Entry("sign_flips", _core.sign_flips, dict(
            Y=EFFECTS, V=VARIANCES, X=DESIGN, base=EFFECTS, contrast=np.eye(2),
            signs=np.ones((3, 6)), method="reml", scaling="conservative", threads=2)),
        Entry("counts_on_grid", _core.counts_on_grid, dict(
            reads=COUNTS[:4], rate=np.ones(4), spill=np.zeros(4), **SHIFTS, first=-1.0, step=0.5,
            nodes=5, size=2.0)),
        Entry("shift_rows", _core.shift_rows, dict(values=np.ones((4, 5)), **SHIFTS)),
        Entry("mix_counts", _core.mix_counts, dict(
            **TABLES, scale=np.zeros(4), zero=np.zeros((3, 5)),
            zero_row=np.array([0, 1, 2, 0], np.int32), place=np.array([0, 0, 1, 1], np.int32),
            leaves=2)),
        Entry("expect_counts", _core.expect_counts, dict(
            **TABLES, reads=COUNTS[:4], rate=np.ones(4), spill=np.zeros(4), first=-1.0, step=0.5,
            size=2.0, mixed=np.ones((4, 5)), post=np.full((2, 5), 0.2),
            place=np.array([0, 0, 1, 1], np.int32))),
        Entry("tfce", _core.tfce, dict(
            values=np.arange(3.0), starts=np.array([0, 1, 3, 4], dtype=np.int32),
            indices=np.array([1, 0, 2, 1], dtype=np.int32), E=0.5, H=2.0)),
        Entry("voxel_neighbours", _core.voxel_neighbours, dict(mask=np.ones((2, 3, 2), bool))),
        Entry("Problem.start", PLAIN.start, {}),
        Entry("respond", PLAIN.respond, dict(Y=y[None], offset=np.ones(N))),
        Entry("moment_start", PLAIN.moment_start, dict(y=y)),
        Entry("basis", PLAIN.basis, dict(factor=0, term=0)),
        Entry("fit", PLAIN.fit, dict(y=y, reml=True, start=AT, max_evaluations=5, progress=None)),
        Entry("fit", NESTED.fit,
              dict(y=y, reml=True, start=None, max_evaluations=5, progress=print)),
        Entry("fit_many", PLAIN.fit_many,
              dict(Y=np.stack([y, -y]), reml=True, start=AT, max_evaluations=5, threads=2)),
        *linear("state", derivatives=True, known_scale=False),
        *linear("mode_covariances", factor=0, with_fixed=True),
        *linear("all_mode_covariances"),
        Entry("CrossedSystem", _core.CrossedSystem, dict(
            codes=[codes, crossed], levels=[Q, 3], z=[None, x], weights=np.ones(N), threads=2)),
        Entry("CrossedSystem.times", CROSSED.times, dict(X=np.ones((Q + 3, 2)))),
        Entry("CrossedSystem.solve", CROSSED.solve, dict(
            theta=np.array([0.7, 0.4]), B=np.ones((Q + 3, 2)), tolerance=1e-9, most=50)),
        Entry("CrossedSystem.probes", CROSSED.probes, dict(
            theta=np.array([0.7, 0.4]), Z=np.ones((3, 4)), tolerance=1e-6, most=50)),
        *linear("modes_of", Y=np.stack([y, y[::-1]])),
        Entry("Messages", _core.Messages, MESSAGES),
        Entry("Messages.criterion", LEVELS.criterion, dict(at=MOMENTS, gradient=True)),
        Entry("Messages.units", LEVELS.units, dict(at=MOMENTS, directions=np.ones((12, 3)))),
        Entry("Messages.nodes", EACH.nodes,
              dict(at=np.stack([MOMENTS, MOMENTS]), **PAIRED, gradient=True)),
        Entry("Messages.posterior", LEVELS.posterior, dict(at=MOMENTS, level=0)),
        Entry("Dynamic", _core.Dynamic, DYNAMIC),
        Entry("Dynamic.modes", PROCESS.modes, PERSONS | {"start": np.zeros((2, 1))}),
        Entry("Dynamic.evaluate", PROCESS.evaluate, PERSONS | PLACED | {"slopes": True}),
        Entry("Dynamic.shares", PROCESS.shares, PERSONS | PLACED),
        Entry("GroupRows", _core.GroupRows, GROUPED),
        Entry("WhitenedGroups", _core.WhitenedGroups, WHITENED),
        Entry("WhitenedGroups.inverse", RESIDUALS.inverse, {}),
        Entry("WhitenedGroups.log_determinants", RESIDUALS.log_determinants, {}),
        Entry("WhitenedGroups.traces", RESIDUALS.traces, {}),
        Entry("WhitenedGroups.middles", RESIDUALS.middles, {}),
        Entry("WhitenedGroups.products", RESIDUALS.products, {"groups": GROUPS}),
        Entry("WhitenedGroups.second_products", RESIDUALS.second_products,
              {"groups": GROUPS, **CURVES}),
        Entry("WhitenedGroups.information", RESIDUALS.information,
              {"groups": GROUPS, "vectors": np.ones((2, 9))}),
        Entry("WhitenedGroups.forms", RESIDUALS.forms,
              {"groups": GROUPS, "K": np.ones((3, 2, 2, 2))}),
        Entry("WhitenedGroups.contracted", RESIDUALS.contracted,
              {"S": np.ones((2, 2, 2, 2)), "counts": np.ones(2), **CURVES}),
        Entry("WhitenedGroups.weighted", RESIDUALS.weighted, {"weights": np.eye(2), **CURVES}),
        Entry("Markov", _core.Markov, CHAINED),
        Entry("Markov.totals", CHAIN.totals, {}),
        Entry("Markov.products", CHAIN.products, {"groups": GROUPS}),
        Entry("Markov.second_products", CHAIN.second_products, {"groups": GROUPS}),
        Entry("Markov.information", CHAIN.information,
              {"groups": GROUPS, "vectors": np.ones((2, 9))}),
        Entry("Messages", _core.Messages, TALL),
        Entry("Messages.criterion", HOUSE.criterion, dict(at=ABOUT, gradient=True)),
        Entry("Messages.units", HOUSE.units, dict(at=ABOUT, directions=np.ones((ABOUT.size, 1)))),
        Entry("Messages.posterior", HOUSE.posterior, dict(at=ABOUT, level=1)),
        Entry("psi_gradients", PLAIN.psi_gradients,
              dict(Y=np.stack([y, y[::-1]]), reml=True, phi=AT)),
        *linear("form_slopes", **rows),
        *linear("quadratic_forms", **rows),
        *linear("half_solves", **rows),
        *linear("scores", factor=0),
        *linear("fixed_scores"),
        *linear("curvature", directions=[(0, np.eye(1))], of_fixed=True),
        *linear("moved_means", directions=[(0, np.eye(1))]),
    ]  # fmt: skip
    for name, extra, k in (
        ("poisson", None, 1), ("binomial", np.ones(N), 1), ("gaussian", None, 2),
        ("tweedie", None, 3), ("compois", None, 2), ("cumulative", np.full(N, 3.0), 3),
    ):  # fmt: skip
        link = {"binomial": "logit", "gaussian": "identity", "cumulative": "logit"}.get(name, "log")
        family = _core.make_family(name, link)
        given = dict(y=COUNTS, extra=extra, eta=np.zeros((family.predictors, N)), order=3,
                     active=list(range(min(k, family.predictors))), threads=2)  # fmt: skip
        out.append(Entry(f"Family({name}).evaluate", family.evaluate, given))
    eta = np.zeros((2, N))
    given = dict(y=COUNTS % 3, extra=None, eta=eta, order=3, active=[0, 1], threads=1)
    out.append(Entry("Family(multinomial).evaluate", MULTINOMIAL.evaluate, given))
    for core in (DEEP, WIDE):
        out += [
            Entry("GeneralisedProblem.fit", core.fit, dict(
                start=np.array([0.5, 0.4, 0.1, 0.2]), max_evaluations=3, progress=None)),
            Entry("GeneralisedProblem.state", core.state,
                  dict(x=np.array([0.5, 0.4, 0.1, 0.2]), derivatives=True)),
            Entry("GeneralisedProblem.posterior", core.posterior,
                  dict(x=np.array([0.5, 0.4, 0.1, 0.2]), factor=1), right=core is DEEP),
            Entry("GeneralisedProblem.all_mode_covariances", core.all_mode_covariances,
                  dict(x=np.array([0.5, 0.4, 0.1, 0.2]))),
            Entry("GeneralisedProblem.beside", core.beside,
                  dict(x=np.array([0.5, 0.4, 0.1, 0.2]), high=np.full((3, 4), 0.51),
                       low=np.full((3, 4), 0.49), end=None)),
        ]  # fmt: skip
    for core in (LAPLACE, NODES):
        out += [
            Entry("GeneralisedProblem.start", core.start, dict(beta=np.zeros(2))),
            Entry("GeneralisedProblem.start_with_modes", core.start_with_modes,
                  dict(beta=np.zeros(2))),
            Entry("GeneralisedProblem.fit", core.fit,
                  dict(start=SPOT, max_evaluations=3, progress=None, modes=None)),
            Entry("GeneralisedProblem.hold", core.hold, dict(entries=[0], values=AT)),
            Entry("GeneralisedProblem.hold", core.hold, dict(entries=[], values=np.empty(0))),
            Entry("GeneralisedProblem.penalise", core.penalise, dict(
                terms=[(0, 0, np.eye(1), [PRIOR], 1.0)], coefficients=[(np.ones(2), PRIOR)])),
            Entry("GeneralisedProblem.penalty", core.penalty, dict(x=SPOT)),
            Entry("GeneralisedProblem.state", core.state,
                  dict(x=SPOT, derivatives=True, near=END)),
            Entry("GeneralisedProblem.weigh_levels", core.weigh_levels, dict(weights=np.ones(Q)),
                  right=core is NODES),
            Entry("GeneralisedProblem.mode_covariances", core.mode_covariances,
                  dict(x=SPOT, factor=0, with_fixed=True)),
            Entry("GeneralisedProblem.posterior", core.posterior,
                  dict(x=SPOT, factor=0), right=core is NODES),
            Entry("GeneralisedProblem.quadratic_forms", core.quadratic_forms, dict(x=SPOT, **rows)),
            Entry("GeneralisedProblem.half_solves", core.half_solves, dict(x=SPOT, **rows)),
            Entry("GeneralisedProblem.half_solves", core.half_solves,
                  dict(x=SPOT, **rows, end=END)),
            Entry("GeneralisedProblem.all_mode_covariances", core.all_mode_covariances,
                  dict(x=SPOT, end=END)),
            Entry("GeneralisedProblem.mode_scores", core.mode_scores, dict(x=SPOT, end=END)),
            Entry("GeneralisedProblem.modes_of", core.modes_of,
                  dict(x=SPOT, displacements=np.ones((2, 1, N)), end=END)),
            Entry("GeneralisedProblem.basis", core.basis, dict(factor=0, term=0)),
        ]  # fmt: skip
    return out


def arrays_in_place_of(value: np.ndarray) -> Iterator[Any]:
    """Other shapes, types and numbers."""
    yield from (np.empty((0,) * value.ndim, value.dtype), value[None], value[..., None])
    yield from (value.astype(object), value.astype(complex), value.astype("f4"), value.astype("i8"))
    yield from (value.tolist(), np.repeat(value, 2, axis=0), np.repeat(value, 2, axis=0)[::2])
    yield from (value[:-1], np.asfortranarray(value), np.ones((3, 1)), np.zeros_like(value))
    numbers = {"i": (-1, big, -big), "u": (0, 85, 255)}
    for number in numbers.get(value.dtype.kind, (nan, inf, -inf, 1e300, -3, 1e9)):
        yield np.full_like(value, number)
        if value.size:
            one = value.copy()
            one.flat[0] = number
            yield one


def instead_of(value: Any) -> Iterator[Any]:
    """What is wrong in place of a right argument."""
    yield from (None, "x", object(), -1, 10**12, nan, [], {}, (), [None], np.ones(3), b"\0")
    if isinstance(value, np.ndarray):
        yield from arrays_in_place_of(value)
    elif isinstance(value, bool):
        yield 2
    elif isinstance(value, int):
        yield from (0, 1, 2, 9, -9, 1000, 10**6, big, -big, True, 1.5)
    elif isinstance(value, float):
        yield from (0.0, inf, 1e300)
    elif isinstance(value, str):
        yield from ("", "us", "kernel", "log", "\N{SNOWMAN}" * 300)
    elif isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for wrong in instead_of(value[key]):
                yield {**value, key: wrong}
    elif isinstance(value, (list, tuple)):
        yield type(value)((*value, *value))
        for i, item in enumerate(value):
            for wrong in instead_of(item):
                yield type(value)((*value[:i], wrong, *value[i + 1 :]))


def attempt(entry: Entry, what: str, arguments: dict[str, Any]) -> None:
    print(entry.name, what, flush=True)
    with contextlib.suppress(PROPER):
        entry.call(**arguments)


def present() -> set[str]:
    """What the core offers to be called: functions, classes and their methods."""
    names = {n: v for n, v in vars(_core).items() if not n.startswith("__") and callable(v)}
    classes = {n: v for n, v in names.items() if isinstance(v, type)}
    # made by the core alone, or an exception; a stop takes no arguments, and stops what follows
    hidden = {"Modes", "Stopped", "Stop", "NotDefinite"}
    methods = {
        f"{n}.{m}" for n, v in classes.items() if n not in hidden
        for m, f in vars(v).items() if not m.startswith("__") and callable(f)
    }  # fmt: skip
    return ({*names} | methods) - hidden - {"Family"}


def called(known: list[Entry]) -> set[str]:
    """The same of the entries, which may stand behind a function of this file."""
    behind = {problem: "Problem", compressed: "Problem", generalised: "GeneralisedProblem"}
    return {behind.get(e.call) or getattr(e.call, "__qualname__", e.call.__name__) for e in known}


def main(seed: int, count: int, each: bool = True) -> None:
    if not SANITIZED:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    known, draw, calls = entries(), np.random.default_rng(seed), 0
    missing = present() - called(known)
    assert not missing, f"entries of the core that are not tried: {sorted(missing)}"
    for entry in known:
        if entry.right:
            entry.call(**entry.arguments)
    for entry in known if each else []:
        for name, value in entry.arguments.items():
            for k, wrong in enumerate(instead_of(value)):
                attempt(entry, f"{name} {k}", {**entry.arguments, name: wrong})
                calls += 1
    wrongs = {id(e): {n: list(instead_of(v)) for n, v in e.arguments.items()} for e in known}
    for _ in range(count):
        entry = known[draw.integers(len(known))]
        given = dict(entry.arguments)
        names = draw.permutation(list(given))[: draw.integers(1, 4)]
        places = []
        for name in names:
            choice = wrongs[id(entry)][name]
            place = int(draw.integers(len(choice)))
            given[name] = choice[place]
            places.append(f"{name} {place}")
        attempt(entry, ", ".join(places), given)
    print("all came back:", calls + count)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
