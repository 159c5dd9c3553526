"""Exact second derivatives: the core's traces and products against matrices of order n."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import twin
from numpy.typing import NDArray
from test_engine import CASES, DESIGNS, a_theta

import ranef
from ranef.derivatives import second_order
from ranef.derivatives.second_order import decomposed
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.models.linear import fit_lmm
from ranef.solve.assembly import Assembly, assemble

Floats = NDArray[np.float64]

# what is not of full rank: nothing, or the last column of every unstructured term
PLACES = ["inside", "face"]


def on_face(spec: Specification, theta: Floats) -> tuple[Floats, dict[int, int]]:
    """Theta with the last column of each unstructured factor at zero, and the ranks."""
    parts, ranks = twin.split(spec, theta), {}
    for i, term in enumerate(spec.terms):
        if term.structure == "us":
            parts[i] = parts[i].copy()
            parts[i][-1] = 0.0
            ranks[i] = term.size - 1
    return np.concatenate(parts), ranks


def directions_at(
    spec: Specification, assembly: Assembly, theta: Floats, ranks: dict[int, int]
) -> tuple[list[tuple[int, Floats]], list[Floats]]:
    """Derivatives of Psi by the parameters that are free: as the core takes them, and dV (n, n)."""
    inner, outer = [], []
    for i, (term, part) in enumerate(zip(assembly.terms, assembly.split(theta), strict=True)):
        derivatives = term.structure.derivatives(part)
        for D in derivatives[:-1] if i in ranks else derivatives:
            size = assembly.blocks[term.block].size
            placed = np.zeros((size, size))
            cut = slice(term.first, term.first + term.size)
            placed[cut, cut] = term.inverse_basis @ D @ term.inverse_basis.T
            inner.append((term.block, placed))
            outer.append(twin.sandwich(spec, term.term, D))
    return inner, outer


def close(found: Floats, expected: Floats, tolerance: float = 1e-9) -> None:
    largest = np.abs(expected).max(initial=1e-300)
    assert np.abs(found - expected).max(initial=0.0) <= tolerance * largest


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "path"), CASES)
def test_traces_and_products(name: str, path: str, reml: bool, place: str) -> None:
    spec = DESIGNS[name][0]()
    assembly = assemble(spec, path)
    theta, ranks = (a_theta(spec), {}) if place == "inside" else on_face(spec, a_theta(spec))
    inner, V = directions_at(spec, assembly, theta, ranks)
    at = twin.profile(spec, theta, reml)
    y, _, [scale] = assembly.respond(spec.y[None])
    asked = (y[0], reml, assembly.phi(theta, ranks), inner)

    found: dict[str, Any] = assembly.core.curvature(*asked, False)
    if not V:
        assert found["traces"].shape == (0, 0)
        return
    M = at.P if reml else at.Vi
    MV = [M @ v for v in V]
    close(found["traces"], np.array([[np.sum(a * b.T) for b in MV] for a in MV]))
    close(found["scores"], np.array([at.Py @ v @ at.Py for v in V]) / scale**2)
    w = np.array([v @ at.Py for v in V]) / scale
    close(found["products"][:, 0, :, 0], w @ at.P @ w.T)
    T = assembly.fixed.transform
    around = at.Vi @ spec.X @ np.linalg.inv(spec.X.T @ at.Vi @ spec.X)
    F = np.array([around.T @ v @ around for v in V])
    close(np.array([T @ f @ T.T for f in found["fixed"]]), F)
    slopes = [np.sum(M * v) - at.m / at.r2 * (at.Py @ v @ at.Py) for v in V]
    close(
        np.array([np.sum(found["psi_gradient"][b] * D) for b, D in inner]), np.array(slopes), 1e-8
    )

    both = assembly.core.curvature(*asked, True)["products"]
    columns = [v @ around for v in V]
    expected = np.array([[a.T @ at.P @ b for b in columns] for a in columns])
    close(np.einsum("ka,iajb,lb->ijkl", T, both, T), expected)


@pytest.mark.parametrize("r", [1, 2])
def test_a_leader_that_meets_most_of_the_tail(r: int) -> None:
    """Such a leader is handed to BLAS in dense panels."""
    rng = np.random.default_rng(r)
    n = 1500
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    factors = [
        twin.factor(np.arange(n) % (100 // r), "g"),
        twin.factor(rng.integers(0, 96, n), "h"),
    ]
    terms = [twin.term(0, X[:, :r]), twin.term(1, np.ones(n))]
    spec = twin.specification(rng.normal(size=n), X, terms, factors)
    assembly = assemble(spec, "crossed")
    assert assembly.layout.order > 96
    theta = a_theta(spec)
    inner, V = directions_at(spec, assembly, theta, {})
    y, _, _ = assembly.respond(spec.y[None])
    at = twin.profile(spec, theta)
    found = assembly.core.curvature(y[0], True, assembly.phi(theta, {}), inner, False)
    PV = [at.P @ v for v in V]
    close(found["traces"], np.array([[np.sum(a * b.T) for b in PV] for a in PV]))


def crossed(leader: int, tail: int, weighted: bool) -> Specification:
    """Many levels of few rows, a tail of two factors that each of them meets in few places.

    `leader` and `tail` are columns of the terms.
    """
    rng = np.random.default_rng(10 * leader + tail)
    n = 600
    X = np.column_stack([np.ones(n), rng.normal(size=n), np.arange(n) < 100])
    factors = [
        twin.factor(np.arange(n) % 420, "g"),
        twin.factor(rng.integers(0, 180, n), "h"),
        twin.factor(rng.integers(0, 6, n), "k"),
    ]
    terms = [twin.term(0, X[:, :leader]), twin.term(1, X[:, :tail]), twin.term(2, np.ones(n))]
    weights = rng.uniform(0.5, 2, n) if weighted else None
    return twin.specification(rng.normal(size=n), X, terms, factors, weights=weights)


# of the tail's covariance: of full rank, less, nearly none
TAILS = ["inside", "face", "small"]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("place", TAILS)
@pytest.mark.parametrize(("leader", "tail"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_leader_that_meets_little_of_the_tail(
    leader: int, tail: int, place: str, reml: bool
) -> None:
    """Its directions are sums over sparse rows, and are not made dense."""
    spec = crossed(leader, tail, weighted=reml)
    assembly = assemble(spec, "crossed")
    assert assembly.layout.chain == (0,)
    order, directions = assembly.layout.order, leader * (leader + 1) // 2
    assert 4 * (600 + 600 + 420 * 3) * leader * tail * (1 + directions) < directions * order**2
    theta, ranks = a_theta(spec), {}
    parts = twin.split(spec, theta)
    if place == "face":
        parts[1][-1] = 0.0
        ranks[1] = tail - 1
    elif place == "small":
        parts[1][:] *= 1e-5
    theta = np.concatenate(parts)
    inner, V = directions_at(spec, assembly, theta, ranks)
    y, _, [scale] = assembly.respond(spec.y[None])
    at = twin.profile(spec, theta, reml)
    M = at.P if reml else at.Vi
    found = assembly.core.curvature(y[0], reml, assembly.phi(theta, ranks), inner, False)
    MV = [M @ v for v in V]
    traces = np.array([[np.sum(a * b.T) for b in MV] for a in MV])
    size = np.sqrt(np.diag(traces))
    close(found["traces"] / np.outer(size, size), traces / np.outer(size, size))
    slopes = [np.sum(M * v) - at.m / at.r2 * (at.Py @ v @ at.Py) for v in V]
    close(
        np.array([np.sum(found["psi_gradient"][b] * D) for b, D in inner]), np.array(slopes), 1e-8
    )
    w = np.array([v @ at.Py for v in V]) / scale
    close(found["products"][:, 0, :, 0], w @ at.P @ w.T)
    around = at.Vi @ spec.X @ np.linalg.inv(spec.X.T @ at.Vi @ spec.X)
    T = assembly.fixed.transform
    F = np.array([around.T @ v @ around for v in V])
    close(np.array([T @ f @ T.T for f in found["fixed"]]), F)


def levels(n: int = 30_000) -> pd.DataFrame:
    """Effects of a, of b that a is within, and of c and d that cross them."""
    rng = np.random.default_rng(0)
    leaf = rng.integers(0, 6000, n)
    table = pd.DataFrame({"a": leaf, "b": leaf // 20, "c": rng.integers(0, 150, n)})
    table["d"] = rng.integers(0, 300, n)
    table["x"], table["w"] = rng.normal(size=n), rng.uniform(0.5, 2, n)
    table["y"] = rng.normal(size=n) + rng.normal(size=6000)[leaf]
    table["y"] += rng.normal(size=150)[table["c"]] + rng.normal(size=300)[table["d"]]
    for name, count in (("a", 6000), ("c", 150)):
        table["y"] += 0.5 * rng.normal(size=count)[table[name]] * table["x"]
    return table


def test_any_number_of_threads_gives_the_same_bits() -> None:
    """A nested chain of many levels, and dense tails."""
    table = levels()
    for formula in (
        "y ~ x + (x | a) + (1 | b)",
        "y ~ x + (1 | a) + (1 | c)",
        "y ~ x + (x | a) + (x | c)",
        "y ~ x + (1 | a) + (1 | c) + (1 | d)",
    ):
        answers = []
        for jobs in (1, 2, 3):
            estimate = fit_lmm(specify(formula, table), n_jobs=jobs)
            answers.append(second_order.curvature(estimate).hessian)
        assert np.array_equal(answers[0], answers[1])
        assert np.array_equal(answers[0], answers[2])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(
    ("formula", "weights"),
    [
        ("y ~ x + (1 | a) + (1 | c) + (1 | d)", None),
        ("y ~ x + (x | a) + (1 | c) + (1 | d)", "w"),
        ("y ~ x + (1 | a) + (x | c)", None),
    ],
)
def test_what_the_search_left_gives_the_same_bits(
    formula: str, weights: str | None, reml: bool
) -> None:
    """The search's last factorisation serves the first question after it, and is then gone."""
    spec = specify(formula, levels(), weights=weights)
    other = specify("y ~ x + (1 | c)", levels(2000))
    first = fit_lmm(spec, reml=reml)
    assert not first.optimum.faces
    kept = second_order.curvature(first)
    anew = second_order.curvature(first)
    again = fit_lmm(spec, reml=reml)
    fit_lmm(other)
    displaced = second_order.curvature(again)
    for found in (anew, displaced):
        for name in ("hessian", "log_r2", "fixed"):
            assert np.array_equal(getattr(found, name), getattr(kept, name))
    expected = second_order.curvature(replace(first, optimum=replace(first.optimum, phi=None)))
    close(kept.hessian, expected.hessian, 1e-8)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", [name for name, path in CASES if path == "crossed"])
def test_what_the_search_left_of_every_design(name: str, reml: bool) -> None:
    """Kernels, weights, faces: the first answer and the second."""
    estimate = fit_lmm(DESIGNS[name][0](), reml=reml, path="crossed")
    kept, anew = second_order.curvature(estimate), second_order.curvature(estimate)
    for field in ("hessian", "log_r2", "fixed"):
        assert np.array_equal(getattr(kept, field), getattr(anew, field))


def test_a_fit_that_was_saved_gives_the_same_bits(tmp_path: Path) -> None:
    fit = ranef.lmm("y ~ x + (1 | a) + (1 | c)", levels(3000))
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert fit.tidy()["df"].tolist() == again.tidy()["df"].tolist()


def test_what_another_search_left_is_not_used() -> None:
    """The same problem, another criterion, another point."""
    spec = specify("y ~ x + (1 | a) + (1 | c) + (1 | d)", levels())
    likelihood = fit_lmm(spec, reml=False)
    expected = second_order.curvature(likelihood)
    fit_lmm(spec, reml=True)
    assert np.array_equal(second_order.curvature(likelihood).hessian, expected.hessian)
    fit_lmm(spec, reml=True)
    moved = replace(likelihood, reml=True, theta=1.1 * likelihood.theta)
    assert not np.allclose(second_order.curvature(moved).hessian, expected.hessian, rtol=1e-3)
    small = specify("y ~ x + (1 | a) + (1 | c)", levels(3000).query("a < 300"))
    estimate = fit_lmm(small)
    at = replace(estimate, theta=1.1 * estimate.theta)
    close(second_order.curvature(at).hessian, twin.hessian(at.specification, at.theta, True), 1e-7)


STRUCTURED = {
    "homcs": "y ~ x + homcs(0 + factor(t) | g)",
    "cs": "y ~ x + cs(0 + factor(t) | g)",
    "ar1": "y ~ x + ar1(t | g)",
    "hetar1": "y ~ x + hetar1(t | g)",
    "toep": "y ~ x + toep(t | g)",
    "ou": "y ~ x + ou(t | g)",
    "gau": "y ~ x + gau(t | g)",
    "mat": "y ~ x + mat(t | g)",
    "rr": "y ~ x + rr(0 + factor(t) | g, 1)",
    "two": "y ~ x + ar1(t | g) + (x | h)",
}


def in_time(seed: int = 5, groups: int = 24) -> pd.DataFrame:
    """Four times a group, some rows missing, with effects that fade over time."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    b = rng.normal(size=(groups, 4)) @ root.T
    g, t = (v.ravel() for v in np.indices((groups, 4)))
    g, t = np.repeat(g, 3), np.repeat(t, 3)
    keep = rng.random(len(g)) < 0.85
    g, t = g[keep], t[keep]
    x, h = rng.normal(size=len(g)), rng.integers(0, 7, len(g))
    y = 1 + x + b[g, t] + 0.5 * rng.normal(size=7)[h] + 0.7 * rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "t": t, "g": g, "h": h})


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", STRUCTURED)
def test_hessian_of_every_kind_of_structure(name: str, reml: bool) -> None:
    """In the reported parameters, against the dense twin, which differences Psi."""
    estimate = fit_lmm(specify(STRUCTURED[name], in_time()), reml=reml)
    found = second_order.curvature(estimate)
    assert found.free.sum() > 1
    kept = np.ix_(found.free, found.free)
    expected = twin.hessian(estimate.specification, estimate.theta, reml)[kept]
    scale = np.sqrt(np.abs(np.diag(expected)))
    close(found.hessian / np.outer(scale, scale), expected / np.outer(scale, scale), 1e-7)


def test_second_derivatives_beside_the_span_of_the_first() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=(2, 3, 3))
    first = first + first.transpose(0, 2, 1)
    inside = rng.normal(size=(2, 2, 2))
    extra = np.eye(3)
    second = np.einsum("ijk,kab->ijab", inside, first)
    second[1, 1] += extra
    found, outside, added = decomposed(first, second)
    assert added.shape == (1, 3, 3)
    again = np.einsum("ijk,kab->ijab", found, first) + np.einsum("ijm,mab->ijab", outside, added)
    np.testing.assert_allclose(again, second, atol=1e-12)
    second[1, 1] -= extra
    assert decomposed(first, second)[2].shape == (0, 3, 3)


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 4000
    table = pd.DataFrame({"a": rng.integers(0, 1500, n), "b": rng.integers(0, 1300, n)})
    table["y"] = rng.normal(size=n) + rng.normal(size=1500)[table["a"]]
    table["y"] += rng.normal(size=1300)[table["b"]]
    fit = ranef.lmm("y ~ 1 + (1 | a) + (1 | b)", table, path="crossed")
    monkeypatch.setattr(second_order, "ALWAYS_THERE", 0)
    monkeypatch.setattr(second_order, "available_memory", lambda: 1000)
    with pytest.raises(ModelError, match=r"dense matrices of order 1,2\d\d.*df='normal'"):
        fit.tidy()
    assert np.isinf(fit.tidy(df="normal")["df"]).all()
