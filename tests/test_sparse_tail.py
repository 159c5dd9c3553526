"""The sparse tail against the dense one, in all that the core answers, and against a search."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import ranef
from ranef import _core
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.solve.assembly import assemble

Table = dict[str, Any]


def schools(
    pupils: int = 900, teachers: int = 180, count: int = 45, move: float = 0.02, seed: int = 1
) -> Table:
    """Three grades of pupils, a teacher of their school in each; a few change school."""
    rng = np.random.default_rng(seed)
    home, each = rng.integers(0, count, pupils), teachers // count
    parts = []
    for grade in range(3):
        school = np.where(rng.random(pupils) < move, rng.integers(0, count, pupils), home)
        teacher = school * each + rng.integers(0, each, pupils)
        parts.append(np.column_stack([np.arange(pupils), teacher, school, np.full(pupils, grade)]))
    pupil, teacher, school, grade = np.concatenate(parts).T
    n, x = len(pupil), rng.normal(size=3 * pupils)
    y = 1 + 0.5 * x + rng.normal(size=pupils)[pupil] + 0.7 * rng.normal(size=teachers)[teacher]
    y += 0.5 * rng.normal(size=count)[school] + 0.3 * x * rng.normal(size=teachers)[teacher]
    y += rng.normal(size=n)
    passed = (rng.random(n) < 1 / (1 + np.exp(1 - y))).astype(float)
    return {
        "y": y, "passed": passed, "x": x, "grade": grade.astype(float),
        "pupil": pupil, "teacher": teacher, "school": school,
    }  # fmt: skip


FORMULAS = {
    "scalar": "y ~ x + grade + (1 | pupil) + (1 | teacher) + (1 | school)",
    "slopes": "y ~ x + grade + (1 | pupil) + (x | teacher) + (1 | school)",
    "slopes of the leader": "y ~ x + grade + (grade | pupil) + (x | teacher) + (1 | school)",
    "no fixed effects": "y ~ 0 + (1 | pupil) + (x || teacher) + (1 | school)",
}
POINTS = ("inside", "teacher at zero", "school at zero")


def point(assembly: Any, which: str) -> np.ndarray:
    phi = np.array(assembly.core.start()) * 0.7
    phi += 0.01 * np.arange(len(phi))
    for term in assembly.terms:
        name = assembly.blocks[term.block].factor.name
        if which == f"{name} at zero":
            phi[term.offset : term.offset + term.count] = 0
    return phi


def differences(a: Any, b: Any, path: str = "") -> list[tuple[str, float]]:
    """Relative differences of two answers of the core, part by part."""
    if isinstance(a, dict):
        return [d for k in a for d in differences(a[k], b[k], f"{path}/{k}")]
    if isinstance(a, list | tuple):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for k, (x, y) in pairs for d in differences(x, y, f"{path}/{k}")]
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.size == 0:
        return []
    return [(path, float(np.max(np.abs(x - y)) / max(np.max(np.abs(x)), 1e-300)))]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("where", POINTS)
@pytest.mark.parametrize("name", FORMULAS)
def test_all_that_the_core_answers_agrees(name: str, where: str, reml: bool) -> None:
    spec = specify(FORMULAS[name], schools())
    dense, sparse = assemble(spec, "crossed"), assemble(spec, "sparse")
    assert sparse.core.tail["kind"] == "sparse"
    assert dense.core.tail["kind"] == "dense"
    assert sparse.core.tail["fill"] < 0.2 * dense.core.tail["fill"]
    y, phi = dense.response(), point(dense, where)
    sizes = [block.size for block in dense.blocks]
    directions = [
        (i, symmetric(r, a, b))
        for i, r in enumerate(sizes)
        for a, b in itertools.combinations_with_replacement(range(r), 2)
    ]
    rng, rows = np.random.default_rng(2), 40
    levels = [np.asarray(block.factor.codes[:rows], np.int32) for block in dense.blocks]
    levels[0][::3] = -1
    z, X = [rng.normal(size=(rows, r)) for r in sizes], rng.normal(size=(rows, spec.p))

    def asked(core: Any) -> dict[str, Any]:
        found = {
            "state": core.state(y, reml, phi, True),
            "forms": core.quadratic_forms(y, reml, phi, levels, z, X),
            "curvature": core.curvature(y, reml, phi, directions, False),
            "of fixed": core.curvature(y, reml, phi, directions, True),
            "fixed scores": core.fixed_scores(y, reml, phi),
        }
        for factor, fixed in itertools.product(range(len(sizes)), (True, False)):
            found[f"covariances {factor} {fixed}"] = core.mode_covariances(
                y, reml, phi, factor, fixed
            )
        return found

    apart = differences(asked(dense.core), asked(sparse.core))
    assert len(apart) > 20
    worst = max(apart, key=lambda pair: pair[1])
    assert worst[1] < 1e-8, worst


def symmetric(r: int, a: int, b: int) -> np.ndarray:
    out = np.zeros((r, r))
    out[a, b] = out[b, a] = 1
    return out


@pytest.mark.filterwarnings("ignore:the Laplace approximation is poor")
@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_generalised_models_agree(family: str) -> None:
    table = schools(300, 60, 15)
    table["passed"] = table["passed"] + (0 if family == "binomial" else table["grade"])
    formula = "passed ~ x + (1 | pupil) + (x | teacher) + (1 | school)"
    one, two = (ranef.glmm(formula, table, family=family, path=p) for p in ("crossed", "sparse"))
    assert (one.optimum.path, two.optimum.path) == ("crossed", "sparse")
    assert two.loglik == pytest.approx(one.loglik, abs=1e-6)
    for effects in ("fixed", "random"):
        for column in ("estimate", "std_error"):
            found = [np.asarray(fit.tidy(effects)[column], float) for fit in (one, two)]
            np.testing.assert_allclose(found[1], found[0], rtol=2e-4, atol=2e-5)


def test_it_is_taken_where_it_costs_less_and_the_fit_and_the_plan_say_so() -> None:
    formula = FORMULAS["scalar"]
    fit = ranef.lmm(formula, schools())
    assert fit.optimum.path == "sparse"
    plan = ranef.plan(formula, schools())
    assert plan.path == "sparse"
    assert plan.fill > 0
    assert "sparse matrix of order 228" in str(plan)
    assert "in the sparse tail" in str(plan)
    rng = np.random.default_rng(3)
    mixed = {"y": rng.normal(size=4000), "a": rng.integers(0, 500, 4000)}
    mixed["b"] = rng.integers(0, 300, 4000)
    assert ranef.plan("y ~ 1 + (1 | a) + (1 | b)", mixed).path == "crossed"
    assert ranef.plan("diameter ~ 1 + (1 | plate) + (1 | sample)",
                      ranef.data.load("Penicillin")).path == "crossed"  # fmt: skip


def test_where_there_is_none_it_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match=r"path 'sparse' does not fit .* two grouping factors"):
        ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"),
                  path="sparse")  # fmt: skip


def test_threads_change_no_bit() -> None:
    table = schools(4000, 400, 100)
    fits = [ranef.lmm(FORMULAS["slopes"], table, path="sparse", n_jobs=k) for k in (1, 2, 5)]
    for fit in fits[1:]:
        assert fit.loglik == fits[0].loglik
        np.testing.assert_array_equal(fit.optimum.theta, fits[0].optimum.theta)


def test_answers_of_a_fit_are_those_of_the_dense_path() -> None:
    table = schools(300, 60, 15)
    one, two = (ranef.lmm(FORMULAS["slopes"], table, path=p) for p in ("crossed", "sparse"))
    for df in ("satterthwaite", "kenward-roger"):
        a, b = one.tidy(df=df), two.tidy(df=df)
        for column in ("estimate", "std_error", "df"):
            np.testing.assert_allclose(b[column], a[column], rtol=1e-5)
    rows = {k: v[:50] for k, v in table.items()}
    a, b = (fit.predict(rows, kind="conditional", conf_level=0.9) for fit in (one, two))
    np.testing.assert_allclose(b["conf_low"], a["conf_low"], rtol=1e-6)


def test_a_dense_tail_so_large_that_it_goes_to_lapack_in_pieces() -> None:
    """2,500 columns: by panels, each a call that ends soon, so that a signal is seen."""
    rng = np.random.default_rng(11)
    n, sizes = 9_000, (3_000, 2_500)
    term = {"structure": "us", "size": 1, "rank": 0, "positions": np.empty((1, 0))}
    factors = [
        {"codes": rng.integers(0, q, n).astype(np.int32), "z": np.ones((n, 1)), "levels": q,
         "terms": [term]}
        for q in sizes
    ]  # fmt: skip
    X, y, phi = np.ones((n, 1)), rng.normal(size=n), np.array([0.7, 0.5])
    dense, sparse = (
        _core.Problem(factors, X, np.ones(1), X.T @ X, None, [0], 1, path) for path in (False, True)
    )
    one, other = (core.state(y, True, phi, True) for core in (dense, sparse))
    for key in ("criterion", "gradient", "hessian", "beta"):
        np.testing.assert_allclose(one[key], other[key], rtol=1e-9, err_msg=key)
    for a, b in zip(
        dense.all_mode_covariances(y, True, phi), sparse.all_mode_covariances(y, True, phi),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a[0], b[0], rtol=1e-9)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-9)


def test_the_spectrum_of_a_large_matrix_is_lapacks() -> None:
    """Made on a thread of its own, so that a signal is seen; its factor gives the matrix back."""
    r = 1_050
    A = np.random.default_rng(2).normal(size=(r, r))
    psi = A @ A.T / r
    phi = _core.trapezoid(psi, r)
    L = np.zeros((r, r))
    L.T[np.triu_indices(r)] = phi
    np.testing.assert_allclose(L @ L.T, psi, atol=1e-12 * r)


def test_the_fill_is_that_of_the_graph() -> None:
    """A band of cliques fills nothing beyond itself; a clique of all is all."""
    leader = np.repeat(np.arange(99, dtype=np.int32), 2)
    codes = np.arange(99, dtype=np.int32).repeat(2)
    codes[1::2] += 1
    fill, flops, pairs = _core.sparse_cost(leader, 99, [codes], [100], [1])
    assert fill < 100 * 10
    assert flops < 100 * 40
    assert pairs == 99 * 3
    everywhere = np.zeros(100, np.int32)
    fill, _, pairs = _core.sparse_cost(everywhere, 1, [np.arange(100, dtype=np.int32)], [100], [1])
    assert fill == 100 * 100
    assert pairs == 5050
    with pytest.raises(ValueError, match="code is out of range"):
        _core.sparse_cost(everywhere, 1, [np.arange(100, dtype=np.int32)], [99], [1])
