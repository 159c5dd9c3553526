"""Adaptive Gauss-Hermite quadrature of the core: nodes, exact integrals, gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generalised import Model, Term, numeric_gradient
from scipy import stats

import ranef
from ranef import _core
from ranef.families import family

N = 160


def columns(rng):
    return np.column_stack([np.ones(N), rng.normal(size=N)])


def binary(structure: str = "us", slopes: bool = True, **more) -> Model:
    rng = np.random.default_rng(11)
    g = rng.integers(0, 20, N).astype(np.int32)
    z = columns(rng)
    b = rng.normal(size=(20, 2)) * [1.0, 0.5]
    eta = 0.3 + 0.5 * z[:, 1] + np.einsum("ij,ij->i", z, b[g])
    y = (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float)
    columns_used = z if slopes else z[:, :1].copy()
    terms = [Term(0, columns_used, structure=structure)]
    return Model(_core.make_family("binomial", "logit"), y, [z], [g], terms, **more)


def parts() -> Model:
    """Random effects in the mean and in the zero part: three for each level."""
    rng = np.random.default_rng(12)
    g = rng.integers(0, 20, N).astype(np.int32)
    z, one = columns(rng), np.ones((N, 1))
    kind = family("nbinom2")
    etas = np.vstack([1.2 + 0.3 * z[:, 1] + 0.5 * rng.normal(size=20)[g], np.ones(N), -np.ones(N)])
    y = kind.simulate(rng, etas, zero=True)
    return Model(kind.core(True), y, [z, one, one], [g], [Term(0, z), Term(0, one, 2)])


def test_nodes_and_weights(agree):
    ours, theirs = [], []
    for count in (1, 2, 5, 25, 100):
        nodes, log_weights = _core.hermite(count)
        expected, weights = np.polynomial.hermite_e.hermegauss(count)
        np.testing.assert_allclose(nodes, expected, atol=1e-12)
        ours += list(np.exp(log_weights))
        theirs += list(weights / weights.sum())
    agree("glmm(quadrature=...)", "weights of 1 to 100 nodes", ours, theirs,
          peer=f"NumPy {np.__version__}", rtol=1e-10)  # fmt: skip


CASES = {
    "intercept": (binary(slopes=False), [0.8], [0.2, 0.4]),
    "slopes": (binary(), [0.8, 0.3, 0.5], [0.2, 0.4]),
    "diagonal": (binary("diag"), [0.8, 0.5], [0.2, 0.4]),
    "singular": (binary(), [0.8, 0.3, 0.0], [0.2, 0.4]),
    "weighted": (
        binary(weights=np.linspace(0.5, 2, N), offset=np.cos(np.arange(N))),
        [0.8, 0.3, 0.5],
        [0.2, 0.4],
    ),
    "parts": (parts(), [0.5, 0.1, 0.3, 0.4], [1.2, 0.3, 0.8, -1.0]),
}


@pytest.mark.parametrize("nodes", [2, 5])
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_exact(case, nodes):
    model, phi, beta = CASES[case]
    core = model.core([0], nodes=nodes)
    x = np.array(phi + beta)
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x, 1e-3)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8 * np.abs(numeric).max())


def test_one_node_stands_at_the_mode():
    nodes, log_weights = _core.hermite(1)
    assert nodes == 0
    assert log_weights == pytest.approx(0, abs=1e-15)


def test_more_nodes_converge():
    model, phi, beta = CASES["slopes"]
    x = np.array(phi + beta)
    values = [model.core([0], nodes=k).state(x, False)["criterion"] for k in (2, 4, 8, 16)]
    steps = np.abs(np.diff(values))
    assert np.all(steps[1:] < steps[:-1] / 50)


def test_integral_of_a_normal_response_is_exact():
    """Any number of nodes gives the marginal normal density."""
    rng = np.random.default_rng(13)
    g = np.repeat(np.arange(12), 5).astype(np.int32)
    X = np.column_stack([np.ones(60), rng.normal(size=60)])
    y = X @ [1.0, 0.5] + rng.normal(size=12)[g] + rng.normal(size=60)
    model = Model(
        _core.make_family("gaussian", "identity"),
        y,
        [X, np.ones((60, 1))],
        [g],
        [Term(0, np.ones((60, 1)))],
    )
    x = np.array([0.7, 0.9, 0.4, -0.1])
    V = np.exp(-0.2) * np.eye(60) + 0.49 * (g[:, None] == g)
    r = y - X @ x[1:3]
    expected = 60 * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r)
    for nodes in (1, 2, 7):
        core = model.core([0], nodes=nodes)
        assert core.state(x, False)["criterion"] == pytest.approx(expected, rel=1e-12)


def test_integral_by_brute_force(agree):
    """One intercept: the integral of each level on a fine grid."""
    model, phi, beta = CASES["intercept"]
    grid = np.linspace(-9, 9, 4001)
    eta = model.X[0] @ beta
    b = phi[0] * grid
    log_f = -np.log1p(np.exp(-(2 * model.y[:, None] - 1) * (eta[:, None] + b)))
    total = 0.0
    for level in range(20):
        h = log_f[model.codes[0] == level].sum(axis=0) - grid**2 / 2
        total += np.log(np.sum(np.exp(h)) * (grid[1] - grid[0]) / np.sqrt(2 * np.pi))
    value = model.core([0], nodes=25).state(np.array(phi + beta), False)["criterion"]
    agree("glmm(quadrature=25)", "deviance, binary rows, an intercept by group", value, -2 * total,
          peer="integrals on a fine grid", rtol=1e-10)  # fmt: skip


def test_the_likelihood_has_all_its_constants(agree):
    """cbpp: lme4 with nAGQ = 25 leaves the constants of the data out, -50.0050."""
    data = ranef.data.load("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = ranef.glmm(formula, data, family="binomial", quadrature=25)
    sd, eta = float(fit.theta[0]), fit.estimate.specification.X @ fit.coef.to_numpy()
    grid = np.linspace(-9, 9, 4001)
    p = 1 / (1 + np.exp(-eta[:, None] - sd * grid))
    y, n = (data[name].to_numpy()[:, None] for name in ("incidence", "size"))
    log_f = stats.binom.logpmf(y, n, p)
    total = 0.0
    for herd in data["herd"].unique():
        own = np.exp(log_f[(data["herd"] == herd).to_numpy()].sum(axis=0))
        total += np.log(np.sum(own * stats.norm.pdf(grid)) * (grid[1] - grid[0]))
    agree("glmm(quadrature=25)", "log-likelihood, cbpp", fit.loglik, total,
          peer="integrals on a fine grid", rtol=1e-9)  # fmt: skip


@pytest.mark.parametrize("case", ["intercept", "slopes", "diagonal", "parts"])
def test_fit_ends_at_an_optimum(case):
    model, _, _ = CASES[case]
    core = model.core([0], nodes=5)
    found = core.fit(core.start(np.zeros(core.coefficients)), 200, None)
    assert found["converged"]
    assert found["evaluations"] <= 25
    free = np.array(found["free"])
    assert np.abs(found["gradient"][free]).max() < 1e-3
    rng = np.random.default_rng(14)
    for _ in range(5):
        other = found["phi"] + 0.05 * rng.normal(size=len(free))
        assert core.state(other, False)["criterion"] >= found["criterion"] - 1e-9


def test_refuses_crossed_factors():
    rng = np.random.default_rng(15)
    model = binary(slopes=False)
    h = rng.integers(0, 5, N).astype(np.int32)
    two = replace(model, codes=[*model.codes, h], terms=[*model.terms, Term(1, np.ones((N, 1)))])
    with pytest.raises(ValueError, match="nested in each other"):
        two.core([0], nodes=3)
