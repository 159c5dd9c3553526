"""Second derivatives of generalised fits, at modes moved along their tangent.

Each is held against differences of the fourth order of the gradient where the modes are searched
for at every point, and costs one factorisation a side.
"""

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.derivatives import generalised

N, G, H = 400, 25, 12


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(11)
    table = pd.DataFrame(
        {"x": rng.normal(size=N), "g": np.arange(N) % G, "h": rng.integers(H, size=N)}
    )
    table["w"] = table.g * 3 + rng.integers(3, size=N)
    effect, slope = rng.normal(size=G), 0.5 * rng.normal(size=G)
    eta = 0.4 + 0.5 * table.x + 0.7 * effect[table.g] + slope[table.g] * table.x
    eta = eta + 0.6 * rng.normal(size=H)[table.h]
    table["c"] = rng.poisson(np.exp(eta))
    table["b"] = (eta + rng.logistic(size=N) > 0.3).astype(int)
    table["z"] = np.where(rng.random(N) < 0.25, 0, table.c)
    table["l"] = [f"l{g}" for g in table.g]
    return table


def relationship(names):
    A = np.random.default_rng(2).normal(size=(len(names), 30))
    return pd.DataFrame(A @ A.T / 30 + np.eye(len(names)) / 5, index=names, columns=names)


CASES = {
    "one factor": lambda t: ranef.glmm("b ~ x + (1 | g)", t, family="binomial"),
    "slopes": lambda t: ranef.glmm("c ~ x + (x | g)", t, family="poisson"),
    "nested": lambda t: ranef.glmm("c ~ x + (x | g) + (1 | g:w)", t, family="nbinom2"),
    "crossed": lambda t: ranef.glmm("c ~ x + (x | g) + (1 | h)", t, family="poisson"),
    "crossed, sparse": lambda t: ranef.glmm(
        "c ~ x + (1 | g) + (1 | h) + (1 | w)", t, family="poisson", path="sparse"
    ),
    "probit": lambda t: ranef.glmm(
        "b ~ x + (x | g) + (1 | h)", t, family="binomial", link="probit"
    ),
    "two parts": lambda t: ranef.glmm(
        "z ~ x + (x | g)", t, family="poisson", zero="~ 1 + (1 | h)"
    ),
    "dispersion": lambda t: ranef.glmm("c ~ x + (1 | g)", t, family="nbinom2", dispersion="~ x"),
    "integrated": lambda t: ranef.glmm("c ~ x + (x | g) + (1 | h)", t, family="poisson", reml=True),
    "kernel": lambda t: ranef.glmm(
        "c ~ x + kernel(1 | l, K) + (1 | h)", t, family="poisson",
        kernels={"K": relationship([f"l{i}" for i in range(G)])},
    ),
    "prior": lambda t: ranef.glmm(
        "b ~ x + (x | g)", t, family="binomial",
        priors={"fixed": ranef.priors.Normal(0, 1), "sd": ranef.priors.HalfT(3, 1)},
    ),
    "nodes": lambda t: ranef.glmm("b ~ x + (x | g)", t, family="binomial", quadrature=5),
    "nodes, nested": lambda t: ranef.glmm(
        "c ~ x + (1 | g) + (1 | g:w)", t, family="poisson", quadrature=3
    ),
    "one correlation": lambda t: ranef.glmm(
        "c ~ x + cs(0 + factor(h) | g)", t[t.h < 3], family="poisson"
    ),
}  # fmt: skip


def searched(estimate):
    """The Hessian by differences of the fourth order, each point with a search of its own."""
    assembly, ranks = generalised._assembly(estimate), estimate.optimum.ranks
    inner = assembly.inner(estimate.coefficients)[assembly.outer]
    m, x = len(inner), np.concatenate([inner, estimate.theta])
    loose = np.ones(len(x), bool)
    loose[m:] = generalised._loose(assembly, estimate.theta, ranks)
    steps = np.full(len(x), 5 * generalised.STEP)
    steps[m:] = 5 * generalised._theta_steps(assembly, estimate.theta)
    out = np.zeros((len(x), len(x)))

    def gradient(i, k):
        at = x.copy()
        at[i] += k * steps[i]
        return generalised._state(assembly, at[:m], assembly.spot(at[m:], ranks))[0]

    for i in np.flatnonzero(loose):
        near, far = (gradient(i, k) - gradient(i, -k) for k in (1, 2))
        out[i] = (8 * near - far) / (12 * steps[i])
    out[:, ~loose] = 0
    return (out + out.T) / 2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_second_derivatives_are_those_of_a_search_at_every_point(rows, name):
    estimate = CASES[name](rows).estimate
    assembly = generalised._assembly(estimate)
    generalised.solution(estimate)
    before = assembly.core.work
    found, loose, _ = generalised._curvature(assembly, estimate)
    evaluations, _, factorisations = np.subtract(assembly.core.work, before)
    expected = searched(estimate)
    size = np.sqrt(np.abs(np.diag(expected)))
    size[size == 0] = 1
    np.testing.assert_allclose(
        found / np.outer(size, size), expected / np.outer(size, size), atol=1e-6
    )
    points = 2 * loose.sum()
    # the optimum is stood at once more; a kernel has no room for the factor beside the inverse
    assert evaluations <= points + 1
    kernel = any(term.term.kernel is not None for term in assembly.terms)
    assert factorisations <= points * (2 if kernel else 1) + (3 if assembly.ends[0].modes else 12)


@pytest.mark.filterwarnings("ignore")
def test_coefficients_that_are_integrated_out_move_by_their_tangent(rows):
    estimate = CASES["integrated"](rows).estimate
    assembly = generalised._assembly(estimate)
    moved = generalised._curvature(assembly, estimate)[2]
    ranks, theta = estimate.optimum.ranks, estimate.theta
    for i, step in enumerate(generalised._theta_steps(assembly, theta)):
        away = step * np.eye(len(theta))[i]
        ends = [
            generalised._state(assembly, np.zeros(0), assembly.spot(theta + s * away, ranks))[1]
            for s in (1, -1)
        ]
        np.testing.assert_allclose(
            moved[:, i], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7
        )


@pytest.mark.filterwarnings("ignore")
def test_what_was_asked_before_does_not_move_second_derivatives(rows):
    fit = CASES["crossed"](rows)
    estimate = fit.estimate
    assembly = generalised._assembly(estimate)
    first = generalised._curvature(assembly, estimate)[0]
    own = generalised.solution(estimate)
    covariances = assembly.core.all_mode_covariances(own.x, own.end)
    far = own.x + 0.3
    for ask in (
        lambda: assembly.core.all_mode_covariances(own.x, own.end),
        lambda: assembly.core.state(far, True),
        lambda: assembly.core.beside(far, far[None] + 1e-3, far[None] - 1e-3),
        lambda: assembly.core.mode_scores(own.x),
    ):
        ask()
        np.testing.assert_array_equal(generalised._curvature(assembly, estimate)[0], first)
    again = assembly.core.all_mode_covariances(own.x, own.end)
    for one, other in zip(covariances, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
