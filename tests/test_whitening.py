"""The core's sums over groups of residuals: a NumPy twin, threads, differences, and what fails."""

import numpy as np
import pytest
import whitening_twin as twin

import ranef
from ranef import _core
from ranef.solve.resources import use_lapack
from ranef.solve.structured.problem import structured_problem

use_lapack()

# groups, rows of each, columns, parameters, clusters, one matrix for all, sparse derivatives
SHAPES = {
    "each its own": (13, 5, 3, 2, 13, False, False),
    "clusters of several": (29, 4, 2, 3, 7, False, False),
    "one cluster": (300, 6, 4, 2, 1, False, False),
    "one matrix": (41, 6, 3, 4, 41, True, False),
    "one matrix, sparse slopes": (37, 12, 2, 5, 9, True, True),
    "wide": (9, 7, 11, 2, 3, False, False),
    "wide, one cluster": (50, 8, 23, 2, 1, True, True),
    "long": (3, 130, 3, 2, 2, False, False),
    "one row each": (20, 1, 2, 1, 5, False, False),
    "no parameter": (8, 3, 2, 0, 4, False, False),
    "one group": (1, 40, 2, 3, 1, False, False),
    "a cluster without a group": (6, 3, 2, 2, 9, False, False),
}


def problem(name, seed=1):
    """Random groups, covariances and derivatives."""
    g, n, w, k, clusters, shared, sparse = SHAPES[name]
    rng = np.random.default_rng([seed, g, n])
    m = 1 if shared else g
    root = rng.normal(size=(m, n, n + 3))
    R = root @ np.swapaxes(root, 1, 2) / n + np.eye(n)

    def symmetric(*shape):
        out = rng.normal(size=(*shape, n, n))
        if sparse:
            out *= rng.uniform(size=out.shape) < 0.05
        return out + np.swapaxes(out, -1, -2)

    second = {(i, j): symmetric(m) for i in range(k) for j in range(i, k) if (i + j) % 3 != 1}
    U = rng.normal(size=(g * n + 5, w))
    rows = rng.permutation(g * n + 5)[: g * n].reshape(g, n).astype(np.int32)
    which = np.zeros(g, np.int32) if shared else rng.permutation(g).astype(np.int32)
    cluster = rng.integers(0, clusters, g).astype(np.int32)
    ours = twin.Groups(U[rows], which, cluster, clusters)
    core = _core.GroupRows(U, rows, which, m, cluster, clusters)
    covariances = twin.Covariances(R, symmetric(k, m).reshape(k, m, n, n), second)
    return rng, covariances, ours, core


def whitened(c, threads=2, least=1e-14):
    return _core.WhitenedGroups(c.R, np.ascontiguousarray(c.first), least, 0.0, threads)


def alike(found, wanted):
    """The same, relative to the largest."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    size = np.abs(wanted).max(initial=1e-300)
    np.testing.assert_allclose(found / size, wanted / size, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", SHAPES)
def test_sums_are_those_of_the_twin(name):
    rng, c, groups, core = problem(name)
    k, m, n = c.first.shape[:3]
    found = whitened(c)
    bends = list(c.second), list(c.second.values())
    alike(found.inverse(), c.inverse)
    alike(found.log_determinants(), c.log_determinants())
    alike(found.traces(), c.traces())
    alike(found.middles(), c.middles())
    alike(found.products(core), c.products(groups))
    for one, two in zip(
        found.second_products(core, *bends), c.second_products(groups), strict=True
    ):
        alike(one, two)
    vectors = rng.normal(size=(groups.clusters, groups.U.shape[2]))
    alike(found.information(core, vectors), c.information(groups, vectors))
    root = rng.normal(size=(2, m, n, 2))
    S, counts = root @ np.swapaxes(root, 2, 3), rng.integers(1, 9, m).astype(float)
    for one, two in zip(found.contracted(S, counts, *bends), c.contracted(S, counts), strict=True):
        alike(one, two)
    W = rng.normal(size=(k, k))
    W = W + W.T
    middle = c.weighted(W)
    alike(found.weighted(W, *bends), middle)
    alike(found.forms(core, middle), c.forms(groups, middle))


def steps(g=23, n=9, w=3, clusters=23, seed=2):
    """Correlations of random distances, phi to their power."""
    rng = np.random.default_rng([seed, g, n])
    distinct = np.append(rng.uniform(0.2, 3.0, 11), [1.0, 2.0])
    which = rng.integers(0, len(distinct), (g, n - 1)).astype(np.int32)
    phi, d = 0.6, distinct
    each = phi**d, d * phi ** (d - 1), d * (d - 1) * phi ** (d - 2)
    U = rng.normal(size=(g * n, w))
    rows = rng.permutation(g * n).reshape(g, n).astype(np.int32)
    cluster = rng.integers(0, clusters, g).astype(np.int32)
    none = np.zeros(g, np.int32)
    ours = twin.Groups(U[rows], none, cluster, clusters)
    core = _core.GroupRows(U, rows, none, 1, cluster, clusters)
    return rng, each, which, ours, core


@pytest.mark.parametrize("shape", [(23, 9, 3, 23), (40, 5, 2, 6), (90, 7, 12, 1), (1, 2, 1, 1)])
def test_steps_are_those_of_the_twin(shape):
    rng, each, which, groups, core = steps(*shape)
    found = _core.Markov(*each, which, 2)
    wanted = twin.Steps(*(one[which] for one in each))
    alike(found.totals(), wanted.totals())
    alike(found.products(core), wanted.products(groups))
    alike(found.second_products(core), wanted.second_products(groups))
    vectors = rng.normal(size=(groups.clusters, groups.U.shape[2]))
    alike(found.information(core, vectors), wanted.information(groups, vectors))


def test_steps_are_the_dense_matrices_of_a_first_order_process():
    """The closed forms against R with its own derivatives."""
    _, each, which, groups, core = steps(clusters=4)
    rho = twin.Steps(*(one[which] for one in each))
    h = 1e-3

    def R(t):  # in phi, by a quadratic through the steps' derivatives
        value, first, second = (one[which] for one in each)
        return twin.Steps(value + t * first + t * t * second / 2, first, second).covariance()

    first = (8 * (R(h) - R(-h)) - (R(2 * h) - R(-2 * h))) / (12 * h)
    second = (16 * (R(h) + R(-h)) - (R(2 * h) + R(-2 * h)) - 30 * R(0)) / (12 * h * h)
    dense = twin.Covariances(rho.covariance(), first[None], {(0, 0): second})
    groups.which = np.arange(len(which))
    found = _core.Markov(*each, which, 1)
    wanted = dense.products(groups)
    np.testing.assert_allclose(found.products(core), wanted, rtol=1e-8, atol=1e-8)
    E, F = dense.second_products(groups)
    np.testing.assert_allclose(found.second_products(core)[:, 0], E[:, 0, :, 0], atol=1e-6)
    np.testing.assert_allclose(found.second_products(core)[:, 1], F[:, 0], atol=1e-6)


@pytest.mark.parametrize("name", ["clusters of several", "one cluster", "wide", "long"])
def test_any_number_of_threads_gives_the_same_bits(name):
    rng, c, groups, core = problem(name)
    k, m = c.first.shape[:2]
    S, counts = np.ascontiguousarray(c.first[:1]), np.ones(m)
    W, vectors = np.ones((k, k)), rng.normal(size=(groups.clusters, groups.U.shape[2]))
    bends = list(c.second), list(c.second.values())

    def answers(threads):
        one = whitened(c, threads)
        return [
            one.inverse(), one.log_determinants(), one.traces(), one.middles(),
            one.products(core), *one.second_products(core, *bends),
            one.information(core, vectors), *one.contracted(S, counts, *bends),
            one.weighted(W, *bends), one.forms(core, c.first),
        ]  # fmt: skip

    alone = answers(1)
    for threads in (2, 3, 8):
        for one, two in zip(alone, answers(threads), strict=True):
            assert one.tobytes() == two.tobytes()


def test_steps_give_the_same_bits_on_any_number_of_threads():
    rng, each, which, groups, core = steps(g=200, clusters=30)
    vectors = rng.normal(size=(groups.clusters, groups.U.shape[2]))

    def answers(threads):
        one = _core.Markov(*each, which, threads)
        return [one.products(core), one.second_products(core),
                np.array(one.information(core, vectors))]  # fmt: skip

    alone = answers(1)
    for threads in (2, 7):
        for one, two in zip(alone, answers(threads), strict=True):
            assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("n", [3, 120])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("nan", "not finite"),
        ("negative", "not positive definite"),
        ("equal", "singular|not positive definite"),
        ("empty", "no variance"),
    ],
)
def test_what_is_no_covariance_is_an_exception_in_every_thread(n, threads, spoil, words):
    g = 70
    R = np.tile(np.eye(n) * 2.0, (g, 1, 1))
    least = 0.0
    if spoil == "nan":
        R[51, 0, 1] = np.nan
    elif spoil == "negative":
        R[51] *= -1.0
    elif spoil == "equal":
        R[51, :2, :2] = 2.0
    else:
        R[51, 0, 0], least = 1e-20, 1e-10
    with pytest.raises(np.linalg.LinAlgError, match=words):
        _core.WhitenedGroups(R, np.empty((0, g, n, n)), 1e-14, least, threads)


def test_a_row_that_the_one_before_determines_is_an_exception():
    which = np.zeros((3, 2), np.int32)
    one = np.ones(1)
    for rho in (1.0, -1.0, np.nan, 1.0 - 1e-13):
        with pytest.raises(np.linalg.LinAlgError, match="determined by the one before"):
            _core.Markov(np.array([rho]), one, one, which, 2)


def test_arguments_that_do_not_fit_together_are_refused():
    _, c, _, core = problem("each its own")
    _, _, _, other = problem("wide")
    found = whitened(c)
    g, n = c.R.shape[:2]
    bad = np.zeros((g, n), np.int32)
    codes = np.zeros(g, np.int32)
    with pytest.raises(ValueError, match="not those of these covariances"):
        found.products(other)
    with pytest.raises(ValueError, match="pairs and second must be as many"):
        found.second_products(core, [(0, 0)], [])
    with pytest.raises(ValueError, match="second derivatives must have the shape of R"):
        found.second_products(core, [(0, 0)], [c.R[1:]])
    with pytest.raises(ValueError, match="vectors must have one row a cluster"):
        found.information(core, np.zeros((1, 1)))
    with pytest.raises(ValueError, match="row"):
        _core.GroupRows(np.ones((2, 1)), bad + 2, codes, 1, codes, 1)
    with pytest.raises(ValueError, match="pattern"):
        _core.GroupRows(np.ones((2, 1)), bad, codes + 1, 1, codes, 1)
    with pytest.raises(ValueError, match="cluster"):
        _core.GroupRows(np.ones((2, 1)), bad, codes, 1, codes - 1, 1)
    chain = _core.Markov(*np.full((3, 1), 0.5), np.zeros((g, n + 3), np.int32), 1)
    with pytest.raises(ValueError, match="not those of these steps"):
        chain.products(core)


def diary(persons=14, prompts=9, seed=6):
    """Persons with prompts at hours of their own, some missing."""
    rng = np.random.default_rng(seed)
    n = persons * prompts
    data = {
        "person": np.repeat(np.arange(persons), prompts), "x": rng.normal(size=n),
        "prompt": np.tile(np.arange(prompts), persons),
        "hours": np.cumsum(rng.uniform(0.5, 3.0, (persons, prompts)), axis=1).ravel(),
        "y": rng.normal(size=n) + np.repeat(rng.normal(size=persons), prompts),
        "one": np.zeros(n, int), "east": rng.uniform(0, 9, n), "north": rng.uniform(0, 9, n),
    }  # fmt: skip
    kept = rng.uniform(size=n) > 0.1
    return {name: values[kept] for name, values in data.items()}


@pytest.mark.parametrize(
    ("formula", "residual"),
    [
        ("y ~ x", "exp(east + north, nugget=True)"),
        ("y ~ x", "exp(hours | person, nugget=True)"),
        ("y ~ x + (1 | person)", "exp(hours | person, nugget=True)"),
        ("y ~ x + (x | person)", "ou(hours | person)"),
        ("y ~ x + (1 | person)", "hetar1(prompt | person)"),
        ("y ~ x", "ar1(prompt | person)"),
        ("y ~ x", "arma(prompt | person, p=1, q=1)"),
    ],
)
def test_derivatives_of_the_criterion_are_its_differences(formula, residual):
    """Gradient and exact Hessian away from the optimum, by every way that the sums are made."""
    fit = ranef.lmm(formula, diary(), residual=residual)
    problem = structured_problem(fit.estimate.specification)
    theta = fit.estimate.theta * 0.95 + 0.01
    at, k = problem.point(theta, True, 2), len(theta)
    first = problem.point(theta, True, 1)
    np.testing.assert_allclose(first.gradient, at.gradient, rtol=1e-9, atol=1e-9)
    gradient, hessian = np.zeros(k), np.zeros((k, k))
    for i in range(k):
        h = 1e-4 * max(abs(theta[i]), 0.1)
        points = [problem.point(theta + s * h * np.eye(k)[i], True, 1) for s in (-2, -1, 1, 2)]
        weights = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)
        gradient[i] = weights @ [one.criterion for one in points]
        hessian[i] = weights @ np.array([one.gradient for one in points])
    size = np.abs(hessian).max()
    np.testing.assert_allclose(at.gradient / size, gradient / size, atol=1e-6)
    np.testing.assert_allclose(at.hessian / size, hessian / size, atol=1e-6)


def test_threads_of_a_fit_do_not_change_it():
    data = diary(60, 12)
    one, two = (
        ranef.lmm("y ~ x + (1 | person)", data, residual="exp(hours | person)", n_jobs=jobs)
        for jobs in (1, 2)
    )
    assert one.loglik == two.loglik
    np.testing.assert_array_equal(one.estimate.theta, two.estimate.theta)
