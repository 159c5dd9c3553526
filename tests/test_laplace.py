"""The Laplace engine of the core against dense algebra and finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generalised import Model, Term, dense_criterion, numeric_gradient

from ranef import _core
from ranef.errors import ModelError
from ranef.families import FAMILIES, family

N = 160


def columns(rng, n=N):
    return np.column_stack([np.ones(n), rng.normal(size=n)])


def bernoulli(rng, codes, terms, **more) -> Model:
    X = columns(rng)
    eta = 0.3 + 0.5 * X[:, 1] + rng.normal(size=int(codes[0].max()) + 1)[codes[0]]
    y = (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float)
    return Model(_core.make_family("binomial", "logit"), y, [X], codes, terms, **more)


def counts(rng, codes, terms, family, X) -> Model:
    """Counts of about six, and extra zeros whose share differs between groups."""
    q = int(codes[0].max()) + 1
    eta = 1.8 + 0.4 * X[0][:, 1] + 0.4 * rng.normal(size=q)[codes[0]]
    zero = rng.random(N) < 1 / (1 + np.exp(0.5 - 1.2 * rng.normal(size=q)[codes[0]]))
    y = rng.negative_binomial(4.0, 4.0 / (4.0 + np.exp(eta))) * ~zero
    return Model(family, y.astype(float), X, codes, terms)


def grouping(rng):
    g = rng.integers(0, 12, N)
    h = rng.integers(0, 7, N)
    return g.astype(np.int32), h.astype(np.int32)


def designs() -> dict[str, tuple[Model, list[int]]]:
    rng = np.random.default_rng(20)
    g, h = grouping(rng)
    one = np.ones((N, 1))
    z = columns(rng)
    nested = (g // 4).astype(np.int32)
    a = rng.normal(size=(7, 9))
    kernel = a @ a.T / 9 + 0.2 * np.eye(7)
    zero = _core.make_family("nbinom2", "log", True)
    X3 = [z, columns(rng)[:, :2], np.ones((N, 1))]
    shared = [Term(0, z, 0), Term(0, one, 2), Term(1, one, 1)]
    return {
        "single": (bernoulli(rng, [g], [Term(0, one)]), [0]),
        "slopes": (bernoulli(rng, [g], [Term(0, z)]), [0]),
        "diagonal": (bernoulli(rng, [g], [Term(0, z, structure="diag")]), [0]),
        "nested": (bernoulli(rng, [g, nested], [Term(0, z), Term(1, one)]), [0, 1]),
        "crossed": (bernoulli(rng, [g, h], [Term(0, one), Term(1, one)]), [0]),
        "crossed_slopes": (bernoulli(rng, [g, h], [Term(0, z), Term(1, z)]), [0]),
        "three": (
            bernoulli(rng, [g, h, nested], [Term(0, z), Term(1, one), Term(2, z)]),
            [0],
        ),
        "tail": (bernoulli(rng, [g, h], [Term(0, one), Term(1, z)]), []),
        "kernel": (
            bernoulli(rng, [g, h], [Term(0, one), Term(1, z)], kernels={1: kernel}),
            [0],
        ),
        "weighted": (
            bernoulli(
                rng,
                [g],
                [Term(0, z)],
                weights=rng.uniform(0.5, 2, N),
                offset=rng.normal(size=N),
            ),
            [0],
        ),
        "parts": (counts(rng, [g, h], shared, zero, X3), [0]),
        "parts_single": (counts(rng, [g], [Term(0, one), shared[1]], zero, X3), [0]),
        "spread_random": (
            counts(
                rng,
                [g],
                [Term(0, one, 1)],
                _core.make_family("nbinom2", "log"),
                [z, np.ones((N, 1))],
            ),
            [0],
        ),
    }


DESIGNS = designs()


def point(core: _core.GeneralisedProblem, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    phi = 0.6 * rng.normal(size=core.parameters)
    beta = np.resize([0.4, 0.3, 0.2, -0.2, -1.2], core.coefficients)
    return np.concatenate([phi, beta])


@pytest.mark.parametrize("name", DESIGNS)
def test_value_is_that_of_dense_algebra(name):
    model, chain = DESIGNS[name]
    core = model.core(chain)
    x = point(core)
    expected = dense_criterion(model, core, x)
    assert core.state(x, False)["criterion"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", DESIGNS)
def test_gradient_is_exact(name):
    model, chain = DESIGNS[name]
    core = model.core(chain)
    x = point(core)
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x)
    np.testing.assert_allclose(gradient, numeric, atol=2e-7 * np.abs(numeric).max())


@pytest.mark.parametrize("name", ["slopes", "crossed_slopes", "parts"])
def test_gradient_on_a_boundary(name):
    """A singular covariance matrix: nothing is divided by a standard deviation."""
    model, chain = DESIGNS[name]
    core = model.core(chain)
    x = point(core)
    x[2] = 0.0
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x)
    np.testing.assert_allclose(gradient, numeric, atol=2e-7 * np.abs(numeric).max())


@pytest.mark.parametrize("name", DESIGNS)
def test_fit_ends_at_an_optimum(name):
    model, chain = DESIGNS[name]
    core = model.core(chain)
    found = core.fit(core.start(np.zeros(core.coefficients)), 200, None)
    assert found["converged"]
    free = np.array(found["free"])
    assert np.abs(found["gradient"][free]).max() < 1e-4
    x = found["phi"]
    rng = np.random.default_rng(5)
    for _ in range(5):
        other = x + 0.03 * rng.normal(size=len(x)) * free
        assert core.state(other, False)["criterion"] >= found["criterion"] - 1e-9


@pytest.mark.parametrize("name", DESIGNS)
def test_gradient_with_the_mean_integrated_out(name):
    model, chain = DESIGNS[name]
    inside = range(model.X[0].shape[1])
    core = model.core(chain, integrated=inside)
    x = np.delete(point(core), core.parameters + np.arange(len(inside)))
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x)
    np.testing.assert_allclose(gradient, numeric, atol=2e-7 * np.abs(numeric).max())
    found = core.fit(core.start(np.zeros(core.coefficients)), 200, None)
    assert found["converged"]
    assert np.abs(found["gradient"][np.array(found["free"])]).max() < 1e-4


def test_restricted_likelihood_of_a_normal_response():
    """Integrating beta out is REML, exactly: with crossed factors, by dense algebra."""
    rng = np.random.default_rng(17)
    g, h = grouping(rng)
    X, one = columns(rng), np.ones((N, 1))
    y = X @ [1.0, 0.5] + rng.normal(size=12)[g] + rng.normal(size=7)[h] + rng.normal(size=N)
    model = Model(
        _core.make_family("gaussian", "identity"),
        y,
        [X, one],
        [g, h],
        [Term(0, one), Term(1, one)],
    )
    core = model.core([0], integrated=[0, 1])
    V = np.exp(-0.2) * np.eye(N) + 0.49 * (g[:, None] == g) + 0.25 * (h[:, None] == h)
    inverse = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ inverse @ X, X.T @ inverse @ y)
    r = y - X @ beta
    expected = (
        (N - 2) * np.log(2 * np.pi)
        + np.linalg.slogdet(V)[1]
        + np.linalg.slogdet(X.T @ inverse @ X)[1]
        + r @ inverse @ r
    )
    state = core.state(np.array([0.7, 0.5, -0.1]), False)
    assert state["criterion"] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(state["coefficients"], [*beta, -0.1], rtol=1e-9)


@pytest.mark.parametrize("name", ["nested", "crossed_slopes", "parts"])
def test_order_of_rows_does_not_matter(name):
    model, chain = DESIGNS[name]
    order = np.random.default_rng(6).permutation(N)
    other = replace(
        model,
        y=model.y[order],
        X=[X[order] for X in model.X],
        codes=[c[order] for c in model.codes],
        terms=[replace(t, z=np.ascontiguousarray(t.z[order])) for t in model.terms],
    )
    core, shuffled = model.core(chain), other.core(chain)
    x = point(core)
    one, two = core.state(x, True), shuffled.state(x, True)
    assert two["criterion"] == pytest.approx(one["criterion"], rel=1e-12)
    np.testing.assert_allclose(two["gradient"], one["gradient"], rtol=1e-8, atol=1e-8)
    for a, b in zip(one["modes"], two["modes"], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)
    np.testing.assert_allclose(two["predictors"], one["predictors"][:, order], atol=1e-8)


def test_a_weight_of_two_is_a_row_twice():
    model, chain = DESIGNS["slopes"]
    twice = np.concatenate([np.arange(N), np.arange(0, N, 3)])
    weights = np.ones(N)
    weights[::3] = 2.0
    doubled = replace(
        model,
        y=model.y[twice],
        X=[model.X[0][twice]],
        codes=[model.codes[0][twice]],
        terms=[replace(model.terms[0], z=model.terms[0].z[twice])],
    )
    weighted = replace(model, weights=weights).core(chain)
    plain = doubled.core(chain)
    # the columns of z are scaled by all rows: compare where that does not matter
    x = np.array([0.0, 0.0, 0.0, 0.4, 0.3])
    assert weighted.state(x, False)["criterion"] == pytest.approx(
        plain.state(x, False)["criterion"], rel=1e-12
    )
    found = [c.fit(c.start(np.zeros(2)), 200, None) for c in (weighted, plain)]
    assert found[0]["criterion"] == pytest.approx(found[1]["criterion"], abs=1e-8)


def test_same_bits_on_any_number_of_threads():
    rng = np.random.default_rng(8)
    n = 30_000
    g = rng.integers(0, 3000, n).astype(np.int32)
    h = rng.integers(0, 40, n).astype(np.int32)
    X = columns(rng, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-rng.normal(size=3000)[g]))).astype(float)
    terms = [Term(0, X), Term(1, np.ones((n, 1)))]
    model = Model(_core.make_family("binomial", "logit"), y, [X], [g, h], terms)
    x = np.array([0.8, 0.1, 0.3, 0.2, 0.1, -0.1])
    one, two = (model.core([0], threads).state(x, True) for threads in (1, 2))
    assert one["criterion"] == two["criterion"]
    np.testing.assert_array_equal(one["gradient"], two["gradient"])
    np.testing.assert_array_equal(one["hessian"], two["hessian"])


def test_refuses_what_does_not_fit():
    model, chain = DESIGNS["single"]
    with pytest.raises(ValueError, match="another number of predictors"):
        replace(model, X=[*model.X, model.X[0]]).core(chain)
    with pytest.raises(ValueError, match="one value per row"):
        replace(model, weights=np.ones(3)).core(chain)
    with pytest.raises(ValueError, match="predictor's number is out of range"):
        replace(model, terms=[Term(0, np.ones((N, 1)), predictor=4)]).core(chain)
    with pytest.raises(ValueError, match="wrong length"):
        model.core(chain).state(np.zeros(9), False)


def of_family(name: str, zero: bool) -> tuple[Model, np.ndarray]:
    """A response drawn from the family, random effects in its first two predictors."""
    rng = np.random.default_rng(30)
    g, h = grouping(rng)
    kind = family(name)
    predictors = kind.predictors(zero)
    z, one = columns(rng), np.ones((N, 1))
    etas = np.zeros((len(predictors), N))
    etas[0] = kind.link_function(0.4) + 0.1 * z[:, 1] + 0.2 * rng.normal(size=12)[g]
    for m, predictor in enumerate(predictors[1:], start=1):
        etas[m] = {"cut 1": -1.0, "df": 1.5}.get(predictor.label, 0.3 if m < 2 else 0.2)
    extra = np.full(N, 5.0) if name == "betabinomial" else None
    y = kind.simulate(rng, etas, extra, zero=zero)
    terms = [Term(0, one), Term(1, one)]
    if len(predictors) > 1:
        terms.append(Term(0, one, 1))
    X = [z] + [one] * (len(predictors) - 1)
    return Model(kind.core(zero), y, X, [g, h], terms, extra=extra), etas.mean(axis=1)


PLAIN = [n for n in FAMILIES if n not in ("cumulative", "multinomial", "censored")]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_every_family(name, zero):
    """Value and gradient near the values that drew the response."""
    if zero and not family(name).takes_zero:
        with pytest.raises(ModelError, match="takes no zero inflation"):
            family(name).core(True)
        return
    model, constants = of_family(name, zero)
    core = model.core([0])
    phi = np.array([0.3, 0.2, 0.4][: core.parameters])
    x = np.concatenate([phi, [constants[0], 0.05], constants[1:]])
    value = core.state(x, False)["criterion"]
    assert value == pytest.approx(dense_criterion(model, core, x), rel=1e-9)
    gradient = core.state(x, True)["gradient"]
    numeric = numeric_gradient(core, x)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * (1 + np.abs(numeric).max()))


def test_progress_sees_every_evaluation_and_can_stop():
    model, chain = DESIGNS["single"]
    core = model.core(chain)
    seen = []
    found = core.fit(core.start(np.zeros(2)), 200, lambda *a: seen.append(a))
    assert len(seen) == found["evaluations"] == len(found["trace"])

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        core.fit(core.start(np.zeros(2)), 200, stop)
