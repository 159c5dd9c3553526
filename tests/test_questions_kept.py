"""Questions after a fit, answered by the kept factorisation: against those that make their own."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import ranef
from ranef.derivatives import generalised, joint_errors, linear
from ranef.inference.rows import prediction

rng = np.random.default_rng(21)
N = 1200
CODES = {"g": rng.integers(60, size=N), "h": rng.integers(23, size=N), "k": rng.integers(5, size=N)}
X = rng.normal(size=N)
TABLE = {
    "y": 0.5 * X + rng.normal(size=60)[CODES["g"]] * (1 + X) + rng.normal(size=23)[CODES["h"]]
    + rng.normal(size=N), "x": X, **CODES, "t": 10 * CODES["g"] + rng.integers(3, size=N),
}  # fmt: skip
A = rng.normal(size=(23, 40))
KERNEL = {"K": (A @ A.T / 40, list(range(23)))}
FORMULAS = {
    "single": "y ~ x + (x | g)",
    "nested": "y ~ x + (1 | g / t)",
    "crossed": "y ~ x + (x | g) + (1 | h) + (1 | k)",
    "tail of slopes": "y ~ x + (1 | g) + (x | h)",
    "no fixed effects": "y ~ 0 + (1 | g) + (1 | h)",
    "singular": "y ~ x + (x | g) + (1 | h) + (x | k)",
}


@pytest.fixture(scope="module", params=[(f, m, p) for f in FORMULAS for m in (True, False)
                                        for p in (None, "sparse")
                                        if p is None or "crossed" in f or "tail" in f],
                ids=lambda p: f"{p[0]}, {'REML' if p[1] else 'ML'}, {p[2]}")  # fmt: skip
def estimate(request):
    name, reml, path = request.param
    return ranef.lmm(FORMULAS[name], TABLE, reml=reml, path=path).estimate


def test_covariances_of_all_modes_are_those_of_each(estimate):
    end = linear.solved(estimate)
    both = end.assembly.core.all_mode_covariances(*linear.at_end(estimate))
    for factor, pair in enumerate(both):
        for with_fixed in (False, True):
            own = end.assembly.core.mode_covariances(*end.at, factor, with_fixed)
            assert_allclose(pair[with_fixed], own, rtol=1e-7, atol=1e-9 * np.abs(own).max())


def test_other_responses_are_solved_as_by_a_state_of_their_own(estimate):
    end, spec = linear.solved(estimate), estimate.specification
    Y = np.stack([spec.y[::-1], np.cos(spec.y), spec.y])
    modes, beta = linear.modes_of(estimate, Y)
    assert_allclose(beta[2], estimate.coefficients, rtol=1e-8, atol=1e-9)
    for own, known in zip(modes, estimate.modes, strict=True):
        assert_allclose(own[2], known, rtol=1e-7, atol=1e-8)
    rest, taken, scale, _ = end.assembly.core.respond(Y, None)
    for j in range(3):
        state = end.assembly.core.state(np.ascontiguousarray(rest[j]), *end.at[1:], False)
        whole = end.assembly.fixed.transform @ (taken[j] + scale[j] * state["beta"])
        assert_allclose(beta[j], whole, rtol=1e-8, atol=1e-9)
        for own, known in zip(modes, end.assembly.modes(state["modes"], scale[j]), strict=True):
            assert_allclose(own[j], known, rtol=1e-7, atol=1e-8)


def test_slopes_of_prediction_variances_are_their_differences(estimate, monkeypatch):
    spec = estimate.specification
    rows = np.arange(0, N, 211)
    random = [(spec.factors[t.factor].codes[rows].copy(), t.z[rows]) for t in spec.terms]
    random[-1][0][:2] = -1  # new levels
    random[0] = (random[0][0], 2 * random[0][1] + 0.3)
    exact = linear.prediction_variance_derivatives(estimate, spec.X[rows] + 0.1, random)
    moved, same = linear._by_rows(estimate, spec.X[rows] + 0.1, random)
    np.testing.assert_array_equal(same, exact)
    by_effects = prediction.by_theta(estimate, spec.X[rows] + 0.1, random)
    assert_allclose(moved, by_effects, rtol=1e-6, atol=1e-8 * np.abs(by_effects).max())
    monkeypatch.setattr(linear, "FEW_ROWS", 0)
    steps = linear.prediction_variance_derivatives(estimate, spec.X[rows] + 0.1, random)
    assert_allclose(exact, steps, rtol=2e-5, atol=1e-5 * np.abs(steps).max())


def test_with_a_kernel(monkeypatch):
    K, levels = KERNEL["K"]
    import pandas as pd

    kernel = pd.DataFrame(K + 0.1 * np.eye(23), index=levels, columns=levels)
    fit = ranef.lmm("y ~ x + (1 | g) + kernel(1 | h, K)", TABLE, kernels={"K": kernel})
    test_covariances_of_all_modes_are_those_of_each(fit.estimate)
    test_other_responses_are_solved_as_by_a_state_of_their_own(fit.estimate)
    test_slopes_of_prediction_variances_are_their_differences(fit.estimate, monkeypatch)


def test_gradients_of_many_responses_are_those_of_each(estimate):
    end, spec = linear.solved(estimate), estimate.specification
    Y = np.stack([spec.y[::-1], np.cos(spec.y), spec.y, *rng.normal(size=(70, N))])
    rest = end.assembly.core.respond(Y, None)[0]
    phi = 0.9 * end.at[2]
    gradients, criteria = end.assembly.core.psi_gradients(rest, estimate.reml, phi)
    for j in (0, 1, 2, 40, 72):
        own = np.ascontiguousarray(rest[j])
        state = end.assembly.core.state(own, estimate.reml, phi, True)
        assert_allclose(criteria[j], state["criterion"], rtol=1e-11)
        for many, one in zip(gradients, state["psi_gradient"], strict=True):
            assert_allclose(many[j], one, rtol=1e-6, atol=1e-8 * (1 + np.abs(one).max()))


def test_a_factor_kept_beside_the_inverse_answers_the_same(estimate):
    """Whatever is asked in between: covariances invert the tail, forms need its factor."""
    end, spec = linear.solved(estimate), estimate.specification
    rows = np.arange(0, N, 301)
    random = [(spec.factors[t.factor].codes[rows], t.z[rows]) for t in spec.terms]
    first = linear.prediction_variance(estimate, spec.X[rows], random)
    linear.conditional_covariances(estimate)
    end.assembly.core.state(*end.at, True)
    linear.effect_derivatives(estimate)
    assert_allclose(linear.prediction_variance(estimate, spec.X[rows], random), first, rtol=1e-9)


# --- generalised models ----------------------------------------------------------------------

ETA = 0.4 * X + rng.normal(size=60)[CODES["g"]] + 0.5 * rng.normal(size=23)[CODES["h"]]
EVENTS = {
    **TABLE, "y": (rng.random(N) < 1 / (1 + np.exp(-ETA))).astype(int),
    "count": rng.poisson(np.exp(np.clip(ETA, -4, 2))),
}  # fmt: skip
EVENTS["visits"] = rng.poisson(4, N) * (rng.normal(size=60)[CODES["g"]] < rng.normal(size=N) + 1)
GENERALISED = {
    "crossed": ("y ~ x + (1 | g) + (1 | h)", {"family": "binomial"}),
    "slopes": ("y ~ x + (x | g)", {"family": "binomial"}),
    "nested": ("count ~ x + (1 | g / t)", {"family": "poisson"}),
    "two parts": ("visits ~ x + (1 | h)", {"family": "poisson", "zero": "~ x + (1 | g)"}),
    "dispersion": ("count ~ x + (1 | g)", {"family": "nbinom2", "dispersion": "~ x"}),
    "priors": (
        "y ~ x + (1 | g)",
        {"family": "binomial", "priors": {"x": ranef.priors.Normal(0, 1)}},
    ),
    "sparse": ("y ~ x + (1 | g) + (1 | h) + (1 | k)", {"family": "binomial", "path": "sparse"}),
}


@pytest.fixture(scope="module", params=GENERALISED)
def generalised_fit(request):
    formula, more = GENERALISED[request.param]
    return ranef.glmm(formula, EVENTS, **more)


def test_questions_after_a_generalised_fit_take_no_search_and_no_factorisation(generalised_fit):
    estimate = generalised_fit.estimate
    own = generalised.solution(estimate)
    before = own.assembly.core.work
    design, rows = estimate.design, np.arange(0, N, 301)
    random = [(design.factors[t.factor].codes[rows], t.z[rows]) for t in design.terms]
    wide = np.ones((len(rows), design.n_coefficients))
    generalised.generalised_conditional_covariances(estimate)
    generalised.generalised_prediction_variance(estimate, wide, random)
    joint_errors.generalised_whitened(estimate, wide, random)
    generalised.mode_derivatives(estimate)
    assert before[0] > 0
    assert own.assembly.core.work == before


def test_what_is_kept_answers_as_what_is_made_again(generalised_fit):
    """To the last bit where the end of the search is taken up again, else to rounding."""
    estimate = generalised_fit.estimate
    own = generalised.solution(estimate)
    core, design, rows = own.assembly.core, estimate.design, np.arange(0, N, 301)
    random = [(design.factors[t.factor].codes[rows], t.z[rows]) for t in design.terms]
    codes, z, _ = linear.level_rows(own.assembly, estimate.covariances, len(rows), random)
    fixed = np.ones((len(rows), core.coefficients))
    shape = len(rows), len(design.predictors), N
    moves = rng.normal(size=shape)

    def answers(end):
        yield core.quadratic_forms(own.x, codes, z, fixed, end)
        yield from core.half_solves(own.x, codes, z, fixed, end)[4:]
        yield from core.mode_scores(own.x, end)
        yield from core.modes_of(own.x, moves, end)
        for given, error in core.all_mode_covariances(own.x, end):
            yield from (given, error)

    kept = list(answers(own.end))
    far = own.x + 0.1
    core.state(far, True)
    again = list(answers(own.end))
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(kept, answers(None), strict=True):
        assert_allclose(a, b, rtol=1e-6, atol=1e-7 * np.abs(b).max())
    for block in range(len(own.assembly.blocks)):
        for with_fixed in (False, True):
            one = core.mode_covariances(own.x, block, with_fixed, own.end)
            both = core.all_mode_covariances(own.x, own.end)[block][with_fixed]
            assert_allclose(one, both, rtol=1e-9, atol=1e-11)


def test_derivatives_of_generalised_modes_are_their_differences(generalised_fit):
    estimate = generalised_fit.estimate
    own = generalised.solution(estimate)
    assembly, ranks = own.assembly, estimate.optimum.ranks
    point = np.concatenate([estimate.coefficients, estimate.theta])
    P = len(estimate.coefficients)

    def modes(at):
        x = assembly.point(at[P:], at[:P], ranks)
        return assembly.modes(assembly.core.state(x, False)["modes"])

    exact = generalised.mode_derivatives(estimate)
    for i in range(len(point)):
        sides = [modes(point + s * 1e-4 * np.eye(len(point))[i]) for s in (-1, 1)]
        for slope, low, high in zip(exact, *sides, strict=True):
            assert_allclose(slope[:, :, i], (high - low) / 2e-4, rtol=1e-5, atol=1e-6)


def test_modes_of_another_problem_are_refused(generalised_fit):
    other = generalised.solution(ranef.glmm("y ~ 1 + (1 | k)", EVENTS, family="binomial").estimate)
    own = generalised.solution(generalised_fit.estimate)
    with pytest.raises(ValueError, match="another problem"):
        own.assembly.core.all_mode_covariances(own.x, other.end)
