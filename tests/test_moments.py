"""What happens before the search: X taken out of the response, and the start by moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import shapes
import twin
from numpy.typing import NDArray

import ranef
from ranef.derivatives.second_order import curvature
from ranef.design.specification import Specification
from ranef.design.specify import specify
from ranef.errors import ModelError
from ranef.models.linear import fit_lmm
from ranef.solve.assembly import Assembly, assemble

Floats = NDArray[np.float64]


def design(terms: tuple[tuple[int, int, str], ...], n: int = 400, **more: Any) -> Specification:
    """Random design: (factor, columns, structure) of each term."""
    rng = np.random.default_rng(n + len(terms))
    factors = [twin.factor(rng.integers(0, q, n), f"f{q}") for q in (35, 12, 7)]
    x = np.column_stack([np.ones(n), rng.normal(1.0, 2.0, n), rng.normal(size=n)])
    made = [twin.term(f, x[:, :r], kind) for f, r, kind in terms]
    y = 3 + x @ [1.0, -0.5, 0.2] + rng.normal(size=n)
    for t in made:
        b = rng.normal(size=(factors[t.factor].n_levels, t.size))
        y = y + np.einsum("ij,ij->i", t.z, b[factors[t.factor].codes])
    return twin.specification(y, x, made, factors, **more)


DESIGNS: dict[str, Callable[[], Specification]] = {
    "one factor, slope": lambda: design(((0, 2, "us"),)),
    "crossed": lambda: design(((0, 1, "us"), (1, 1, "us"), (2, 1, "us"))),
    "crossed with slopes": lambda: design(((0, 3, "us"), (1, 2, "us"))),
    "diagonal": lambda: design(((0, 2, "diag"), (1, 1, "us")), 600),
}


def columns_of(assembly: Assembly) -> list[list[Floats]]:
    """Z (n, q) of every column of every term, as the core standardises them."""
    spec = assembly.spec
    out = []
    for t in assembly.terms:
        factor = spec.factors[t.term.factor]
        z = t.term.z @ t.basis
        indicator = np.eye(factor.n_levels)[factor.codes]
        out.append([z[:, a : a + 1] * indicator for a in range(t.size)])
    return out


def by_moments(assembly: Assembly, y: Floats) -> list[Floats]:
    """Psi of every term relative to sigma^2, from Henderson's equations in dense algebra."""
    X = assembly.fixed.X
    M = np.eye(len(y)) - X @ np.linalg.solve(X.T @ X, X.T)
    entries = []
    for t, columns in zip(assembly.terms, columns_of(assembly), strict=True):
        for c in range(t.size):
            for a in range(c, t.size):
                if a == c or t.term.structure == "us":
                    entries.append((columns[a], columns[c], a == c))
    derivative = [Za @ Zc.T if same else Za @ Zc.T + Zc @ Za.T for Za, Zc, same in entries] + [
        np.eye(len(y))
    ]
    form = []
    for Za, Zc, _ in entries:
        w = 1 / np.sqrt((Za**2).sum(0) * (Zc**2).sum(0))
        form.append((Za * w) @ Zc.T)
    form.append(np.eye(len(y)))
    A = np.array([[np.trace(M @ Q @ M @ V) for V in derivative] for Q in form])
    b = np.array([y @ Q @ y for Q in form])
    found = np.linalg.solve(A, b)
    found = found / found[-1]
    out, k = [], 0
    for t in assembly.terms:
        psi = np.zeros((t.size, t.size))
        for c in range(t.size):
            for a in range(c, t.size):
                if a == c or t.term.structure == "us":
                    psi[a, c] = psi[c, a] = found[k]
                    k += 1
        out.append(psi)
    return out


@pytest.mark.parametrize("name", DESIGNS)
def test_the_start_solves_the_moment_equations(name: str) -> None:
    spec = DESIGNS[name]()
    assembly = assemble(spec)
    y = assembly.response()
    expected = by_moments(assembly, y)
    assert min(np.linalg.eigvalsh(psi)[0] for psi in expected) > 0.1**2, "or it would be clipped"
    phi = assembly.core.moment_start(y)
    state = assembly.core.state(y, True, phi, False)
    for t, psi in zip(assembly.terms, expected, strict=True):
        np.testing.assert_allclose(
            state["psi"][t.block][t.columns, t.columns], psi, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize(
    ("data", "formula"),
    [
        ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
        ("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
        ("ergoStool", "effort ~ Type + (1 | Subject)"),
    ],
)
def test_in_balanced_data_the_start_is_the_reml_optimum(data: str, formula: str) -> None:
    """ANOVA estimates are REML's (Searle, Casella, McCulloch 1992, section 4.8)."""
    fit = ranef.lmm(formula, ranef.data.load(data))
    assert fit.optimum.evaluations == 1
    assert fit.optimum.converged


def test_many_columns_start_from_what_levels_estimate_by_themselves() -> None:
    """Swamy (1970): the covariance of least-squares effects of levels, less that of their errors.

    One level has fewer rows than columns: it tells of the residual only.
    """
    rng = np.random.default_rng(8)
    sizes = [6, *[30] * 25]
    g = np.repeat(np.arange(26), sizes)
    Z = rng.normal(size=(len(g), 7))
    U = rng.normal(size=(26, 8)) @ (np.eye(8) + 0.3 * rng.normal(size=(8, 8)))
    y = U[g, 0] + np.sum(Z * U[g, 1:], axis=1) + rng.normal(size=len(g))
    table = {"y": y, "g": g, **{f"z{k}": Z[:, k] for k in range(7)}}
    columns = " + ".join(f"z{k}" for k in range(7))
    spec = specify(f"y ~ 1 + ({columns} | g)", table)
    assembly = assemble(spec)
    rest = assembly.response()
    z = np.column_stack([np.ones(len(g)), Z]) @ assembly.terms[0].basis
    effects, errors, left, degrees = [], 0.0, 0.0, len(g)
    for level in range(26):
        own, r = z[g == level], rest[g == level]
        fitted = np.linalg.pinv(own) @ r
        left += np.sum((r - own @ fitted) ** 2)
        degrees -= np.linalg.matrix_rank(own)
        if len(own) > 8:
            effects.append(fitted)
            errors = errors + np.linalg.inv(own.T @ own) / 25
    sigma2 = left / degrees
    psi = np.array(effects).T @ np.array(effects) / 25 / sigma2 - errors
    assert np.linalg.eigvalsh(psi)[0] > 0.1**2, "or it would be clipped"
    phi = assembly.core.moment_start(rest)
    start = assembly.core.state(rest, True, phi, False)
    np.testing.assert_allclose(start["psi"][0], psi, rtol=1e-8, atol=1e-10)
    end = assembly.core.fit(rest, True, None, 500, None)
    assert end["converged"]
    assert start["criterion"] - end["criterion"] < 0.02 * abs(end["criterion"])


def test_negative_moment_estimates_start_inside() -> None:
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    spec = specify("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assembly = assemble(spec)
    assert assembly.core.moment_start(assembly.response())[0] == pytest.approx(0.1)
    assert fit.optimum.singular


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_responses_are_freed_of_the_fixed_effects(count: int, offset: bool) -> None:
    rng = np.random.default_rng(count)
    shift = rng.normal(size=400) if offset else None
    spec = design(((0, 2, "us"),), offset=shift)
    assembly = assemble(spec)
    Y = 1e3 + rng.normal(size=(count, spec.n)) + spec.X[:, 1]
    rest, beta, scale = assembly.respond(Y)
    for k in range(count):
        y = Y[k] - (0 if shift is None else shift)
        b, square, *_ = np.linalg.lstsq(spec.X, y, rcond=None)
        np.testing.assert_allclose(assembly.fixed.transform @ beta[k], b, rtol=1e-10)
        assert scale[k] == pytest.approx(np.sqrt(square[0] / spec.n), rel=1e-10)
        np.testing.assert_allclose(rest[k] * scale[k], y - spec.X @ b, atol=1e-9)
        assert abs(assembly.fixed.X.T @ rest[k]).max() < 1e-9


def test_a_response_that_the_fixed_effects_reproduce_is_refused() -> None:
    spec = design(((0, 1, "us"),))
    with pytest.raises(ModelError, match="reproduce the response"):
        assemble(spec).respond(spec.X[:, 1][None] * 2 + 1)


def test_second_derivatives_of_a_scalar_tail_are_exact_at_the_end() -> None:
    """Between intercepts of the tail the search ends with the exact Hessian, not with AI."""
    spec = design(((0, 1, "us"), (1, 1, "us"), (2, 1, "us")))
    assembly = assemble(spec)
    y = assembly.response()
    found = assembly.core.fit(y, True, None, 500, None)
    estimate = fit_lmm(spec)
    assert found["converged"]
    order = [i for block in assembly.blocks for i in block.terms]
    unit = np.array([assembly.terms[i].basis[0, 0] for i in order])
    exact = curvature(estimate).hessian[np.ix_(order, order)] * np.outer(unit, unit)
    both = np.ix_([1, 2], [1, 2])
    assert assembly.layout.chain == (0,)
    np.testing.assert_allclose(found["hessian"][both], exact[both], rtol=1e-5)


def test_the_shapes_of_psycholinguistics_start_near_their_optimum() -> None:
    shape = shapes.kb07()
    estimate = fit_lmm(specify(shape.formula, shape.frame()))
    trace = estimate.optimum.trace
    assert trace[0] - trace[-1] < 20
