"""The room of the families: moments, draws, checks, starts, names."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad_vec

from ranef import families
from ranef.description.equation import NAMES
from ranef.errors import DataError, ModelError
from ranef.families import Cumulative, Multinomial, Truncated, family
from ranef.models.family_words import variance_words

COUNTS = ["poisson", "nbinom1", "nbinom2", "nbinom12", "compois", "genpois", "bell"]
TRUNCATED = [f"truncated_{name}" for name in COUNTS]
N = 40_000

# Predictors at which draws are compared with moments and with the density.
AT = {
    "gaussian": [0.3, 0.4],
    "censored": [0.3, 0.4],
    "skewnormal": [0.3, -0.2, 2.5],
    "t": [0.3, -0.2, np.log(9.0)],
    "binomial": [0.4],
    "betabinomial": [0.4, 1.1],
    "poisson": [1.1],
    "nbinom1": [1.1, 0.3],
    "nbinom2": [1.1, 0.3],
    "nbinom12": [1.1, -0.3, 0.8],
    "bell": [1.1],
    "compois": [1.1, 0.5],
    "genpois": [1.1, 0.5],
    "truncated_poisson": [0.4],
    "truncated_nbinom1": [0.4, 0.3],
    "truncated_nbinom2": [0.4, 0.3],
    "truncated_nbinom12": [0.4, -0.3, 0.8],
    "truncated_bell": [0.4],
    "truncated_compois": [0.4, 0.5],
    "truncated_genpois": [0.4, 0.5],
    "Gamma": [0.7, -0.4],
    "inverse.gaussian": [0.7, -1.0],
    "lognormal": [0.7, 0.1],
    "tweedie": [0.7, 0.2, -0.3],
    "beta": [0.4, 1.5],
    "ordbeta": [0.4, 1.5, -1.0, 0.8],
}
DISCRETE = [*COUNTS, *TRUNCATED, "binomial", "betabinomial"]
CONTINUOUS = [
    "gaussian",
    "skewnormal",
    "t",
    "Gamma",
    "inverse.gaussian",
    "lognormal",
    "tweedie",
    "beta",
    "ordbeta",
]
ATOMS = {"tweedie": (0.0,), "ordbeta": (0.0, 1.0)}


def at(name, zero=None, n=N):
    """The family, its predictors at n rows, and extra."""
    f = family(name, link="log") if name == "Gamma" else family(name)
    eta = [*AT[name], zero] if zero is not None else AT[name]
    extra = np.full(n, 7.0) if "binomial" in name else None
    return f, np.repeat(np.array(eta)[:, None], n, axis=1), extra


@pytest.mark.parametrize("name", AT)
def test_draws_have_the_moments(name):
    zero = -1.0 if at(name)[0].takes_zero else None
    for z in {None, zero}:
        f, etas, extra = at(name, z)
        y = f.simulate(np.random.default_rng(5), etas, extra, zero=z is not None)
        mean = f.mean(etas, extra, zero=z is not None)[0]
        variance = f.variance(etas, extra, zero=z is not None)[0]
        assert abs(y.mean() - mean) < 4.5 * np.sqrt(variance / N)
        spread = (y - mean) ** 2
        assert abs(spread.mean() - variance) < 4.5 * spread.std() / np.sqrt(N)


@pytest.mark.parametrize("name", DISCRETE)
def test_draws_have_the_probabilities(name):
    f, etas, extra = at(name)
    y = f.simulate(np.random.default_rng(6), etas, extra)
    assert stats.chisquare(*pooled(f, y, etas, extra)).pvalue > 1e-4


def pooled(f, y, etas, extra):
    """Observed and expected numbers of each value, the rare ones together."""
    values = np.arange(200.0)
    one = np.repeat(etas[:, :1], values.size, axis=1)
    part = None if extra is None else np.full(values.size, extra[0])
    expected = y.size * np.exp(f.log_density(values, one, part))
    observed = np.bincount(y.astype(int), minlength=values.size)[: values.size]
    common = expected >= 10
    rest = y.size - expected[common].sum(), y.size - observed[common].sum()
    if rest[0] < 10:
        assert rest[1] < 40
        return observed[common] * (expected[common].sum() / observed[common].sum()), expected[
            common
        ]
    return np.append(observed[common], rest[1]), np.append(expected[common], rest[0])


@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_have_the_density(name):
    f, etas, extra = at(name)
    y = f.simulate(np.random.default_rng(7), etas, extra)
    expected, observed = [], []
    for atom in ATOMS.get(name, ()):
        expected.append(np.exp(f.log_density([atom], etas[:, :1]))[0] * N)
        observed.append(np.sum(y == atom))
        y = y[y != atom]
    edges = np.quantile(y, np.linspace(0, 1, 21))[1:-1]
    inner, _ = np.histogram(y, np.concatenate([[-np.inf], edges, [np.inf]]))

    def density(v):
        return np.exp(f.log_density([v], etas[:, :1]))[0]

    inside = [quad_vec(density, a, b, epsabs=1e-9)[0] * N for a, b in pairwise(edges)]
    observed += [*inner[1:-1], inner[0] + inner[-1]]
    expected += [*inside, N - sum(expected) - sum(inside)]
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_truncated_draws_where_zero_is_almost_certain():
    f = Truncated(families.NegativeBinomial2())
    etas = np.repeat([[-4.0], [-1.0]], 4000, axis=1)
    y = f.simulate(np.random.default_rng(8), etas)
    assert y.min() == 1
    assert stats.chisquare(*pooled(f, y, etas, None)).pvalue > 1e-4


def test_conway_maxwell_of_a_large_mean():
    """Means where the core takes every so many counts: sums and derivatives still agree."""
    f = family("compois")
    y = np.arange(6000.0)
    for phi in (-1.0, 0.0, 1.5):
        etas = np.repeat([[np.log(2000.0)], [phi]], y.size, axis=1)
        p = np.exp(f.log_density(y, etas))
        assert p.sum() == pytest.approx(1, abs=1e-9)
        assert p @ y == pytest.approx(2000, rel=1e-10)
        variance = p @ (y - 2000) ** 2
        assert f.variance(etas)[0] == pytest.approx(variance, rel=1e-8)
    poisson = family("poisson").log_density(y, etas[:1])
    etas[1] = 0
    np.testing.assert_allclose(f.log_density(y, etas), poisson, rtol=1e-10, atol=1e-9)


def test_tweedie_of_many_terms():
    """The strided sum at the seam where it begins agrees with its neighbours."""
    f = family("tweedie")
    phi = np.linspace(-6.0, 2.0, 4001)
    etas = np.vstack([np.full(phi.size, 1.0), phi, np.full(phi.size, 0.2)])
    value = f.log_density(np.full(phi.size, 3.1), etas)
    bend = np.diff(value, 4)
    assert np.abs(bend).max() < 1e-9


# --- categories -----------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_cumulative(link):
    f = Cumulative(link=link)
    cuts = np.array([-1.0, 0.2, 1.5])
    etas = np.repeat(np.append(0.4, cuts)[:, None], N, axis=1)
    p = f.mean(etas)
    assert p.shape == (N, 4)
    y = np.arange(4.0)
    rows = f.rows(y, 0.4, cuts)
    np.testing.assert_allclose(np.exp(f.log_density(y, rows, np.full(4, 4.0))), p[0], rtol=1e-12)
    np.testing.assert_allclose(f.variance(etas)[0], p[0] * (1 - p[0]))
    drawn = np.bincount(f.simulate(np.random.default_rng(9), etas).astype(int))
    assert stats.chisquare(drawn, N * p[0]).pvalue > 1e-4


def test_multinomial():
    f = Multinomial(3)
    etas = np.repeat([[0.3], [-0.8]], N, axis=1)
    p = f.mean(etas)
    value = f.log_density(np.arange(3.0), etas[:, :3])
    np.testing.assert_allclose(np.exp(value), p[0], rtol=1e-13)
    np.testing.assert_allclose(f.variance(etas), p * (1 - p))
    drawn = np.bincount(f.simulate(np.random.default_rng(10), etas).astype(int))
    assert stats.chisquare(drawn, N * p[0]).pvalue > 1e-4
    assert [q.label for q in f.parameters] == ["category 1", "category 2"]


@pytest.mark.parametrize("categories", [2, 3, 4, 5, 6])
def test_threshold_bases(categories):
    """Symmetric thresholds are the same distances to both sides of their middle."""
    for kind in ("flexible", "symmetric", "equidistant"):
        f = Cumulative(thresholds=kind)
        basis = f.threshold_basis(categories)
        assert basis.shape == (categories - 1, len(f.threshold_names(categories)))
        assert np.linalg.matrix_rank(basis) == basis.shape[1]
    basis = Cumulative(thresholds="symmetric").threshold_basis(categories)
    cuts = basis @ np.arange(1.0, basis.shape[1] + 1)
    np.testing.assert_allclose(np.diff(cuts), np.diff(cuts)[::-1])
    assert np.all(np.diff(cuts) > 0)
    basis = Cumulative(thresholds="equidistant").threshold_basis(categories)
    cuts = basis @ np.arange(1.0, basis.shape[1] + 1)
    np.testing.assert_allclose(np.diff(cuts, 2), 0)


def test_start_of_thresholds():
    y = np.repeat([0.0, 1.0, 2.0, 3.0], [10, 20, 40, 30])
    extra = np.full(100, 4.0)
    f = Cumulative()
    cuts = f.start(y, extra).thresholds
    below = f.inverse_link(cuts)
    np.testing.assert_allclose(below, np.array([10.5, 31, 71.5]) / 102)
    for kind in ("symmetric", "equidistant"):
        f = Cumulative(thresholds=kind)
        cuts = f.threshold_basis(4) @ f.start(y, extra).thresholds
        assert np.all(np.diff(cuts) > 0)


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", families.family("binomial").links)
def test_links_of_probabilities(link):
    check_link(families.Binomial(link=link), np.array([0.01, 0.3, 0.9]))


@pytest.mark.parametrize("link", families.family("poisson").links)
def test_links_of_means(link):
    check_link(families.Poisson(link=link), np.array([0.01, 0.3, 40.0]))


def check_link(f, mu):
    eta = f.link_function(mu)
    np.testing.assert_allclose(f.inverse_link(eta), mu, rtol=1e-12)
    h = 1e-4 * np.maximum(np.abs(eta), 0.1)
    up, down = f.inverse_link(eta + h), f.inverse_link(eta - h)
    first, second = f.inverse_link_derivatives(eta)
    np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-6)
    scale = np.abs(mu) / h**2 * 1e-14 + 1e-6 * np.abs(first) / h
    assert np.all(np.abs(second - (up - 2 * mu + down) / h**2) <= scale + 1e-4 * np.abs(second))


def test_links_agree_with_the_core():
    """The Bernoulli log density is log mu at every link of both."""
    eta = np.array([0.2, 0.4, 0.7])
    for link in families.family("binomial").links:
        f = families.Binomial(link=link)
        e = -eta if link == "log" else eta
        mu = f.inverse_link(e)
        np.testing.assert_allclose(f.log_density(np.ones(3), [e]), np.log(mu), rtol=1e-13)
        np.testing.assert_allclose(f.log_density(np.zeros(3), [e]), np.log1p(-mu), rtol=1e-12)


# --- checks ---------------------------------------------------------------------------------------

BAD = [
    ("nbinom2", [0, 2.5, 1, -1], None, "nbinom2 needs whole numbers from 0; row 1 has 2.5; 2 rows"),
    ("poisson", [0, np.nan], None, "row 1 has nan; 1 row is like this"),
    ("truncated_poisson", [1, 0], None, r"whole numbers from 1; row 1 has 0; .* a hurdle"),
    ("binomial", [0, 2], None, "binomial needs 0 or 1; row 1 has 2; .*proportions take"),
    ("binomial", [3, 5], [4, 4], "from 0 to the number of trials; row 1 has 5"),
    ("binomial", [3, 3], [4, 4.5], "whole numbers of trials from 0; row 1 has 4.5"),
    ("betabinomial", [0.5], [4], "row 0 has 0.5"),
    ("Gamma", [1, 0], None, "Gamma needs positive numbers; row 1 has 0; .*; with zero="),
    ("inverse.gaussian", [-1], None, "row 0 has -1"),
    ("lognormal", [np.inf], None, "row 0 has inf"),
    ("tweedie", [0, -2], None, "tweedie needs numbers from 0; row 1 has -2"),
    ("beta", [0.5, 1], None, r"both excluded; row 1 has 1; .*\(ordbeta\)"),
    ("ordbeta", [0.5, 1.1], None, "numbers from 0 to 1; row 1 has 1.1"),
    ("gaussian", [np.inf], None, "finite numbers; row 0 has inf"),
    ("t", [np.nan], None, "finite numbers; row 0 has nan"),
    ("censored", [1, 2], [1, 1], "not above the upper end.*; row 1 has 2"),
    ("censored", [-np.inf], [np.inf], "needs at least one finite end; all 1 rows have none"),
    ("cumulative", [0, 3], [3, 3], "categories from 0 to 2; row 1 has 3"),
    ("cumulative", [0, 1], None, "needs the number of categories"),
]


@pytest.mark.parametrize(("name", "y", "extra", "words"), BAD)
def test_check_refuses(name, y, extra, words):
    with pytest.raises(DataError, match=words):
        family(name).check(y, extra)


def test_check_accepts():
    for name in AT:
        f, etas, extra = at(name, n=50)
        y = f.simulate(np.random.default_rng(11), etas, extra)
        f.check(y, extra)
    for name in ("truncated_nbinom2", "Gamma", "beta"):
        family(name).check([0.0, 1.0 if name != "beta" else 0.5], zero=True)
    with pytest.raises(DataError, match=r"row 0 has -1"):
        family("Gamma").check([-1.0, 0.0], zero=True)
    with pytest.raises(DataError, match=r"categories from 0 to 2; row 0 has 3"):
        Multinomial(3).check([3.0])


# --- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AT)
def test_start_is_near(name):
    """The constants have a density at every row, and within 0.5 a row of the truth's."""
    for zero in {None, -1.0 if at(name)[0].takes_zero else None}:
        f, etas, extra = at(name, zero, 4000)
        with_zero = zero is not None
        y = f.simulate(np.random.default_rng(12), etas, extra, zero=with_zero)
        start = f.start(y, extra, zero=with_zero)
        assert start.constants.shape == (len(etas),)
        constants = np.repeat(start.constants[:, None], y.size, axis=1)
        upper = extra if name != "censored" else y
        got = f.log_density(y, constants, upper, zero=with_zero)
        truth = f.log_density(y, etas, upper, zero=with_zero)
        assert np.all(np.isfinite(got))
        assert got.mean() > truth.mean() - 0.5
        if start.eta is not None:
            assert np.all(np.isfinite(f.inverse_link(start.eta)))


def test_start_of_a_degenerate_response():
    for name, y in (
        ("poisson", [0.0, 0.0]),
        ("nbinom2", [0.0, 0.0]),
        ("gaussian", [2.0, 2.0]),
        ("t", [2.0, 2.0]),
        ("Gamma", [2.0, 2.0]),
        ("binomial", [1.0, 1.0]),
        ("beta", [0.5, 0.5]),
        ("ordbeta", [0.0, 1.0]),
        ("tweedie", [0.0, 0.0]),
    ):
        assert np.all(np.isfinite(family(name).start(np.array(y)).constants)), name


# --- names ----------------------------------------------------------------------------------------


def test_every_name_makes_a_family():
    for name in families.FAMILIES:
        f = family(name, categories=3 if name == "multinomial" else None)
        assert f.name in (name, "binomial")
        assert f.core().predictors == len(f.parameters)
        if f.takes_zero:
            assert f.core(zero=True).predictors == len(f.predictors(zero=True))
        assert hash(f) == hash(family(f))


def test_every_link_has_a_core():
    for name in families.FAMILIES:
        if name == "multinomial":
            continue
        for link in family(name).links:
            assert family(name, link=link).core().predictors >= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: family("nbinom3"), "no family 'nbinom3'; did you mean 'nbinom2'"),
        (lambda: family("gamma"), "did you mean 'Gamma'"),
        (lambda: family("poisson", link="logg"), "takes no link 'logg'; did you mean 'log'"),
        (lambda: family(families.Poisson(), link="sqrt"), "has the link 'log', not 'sqrt'"),
        (lambda: family("multinomial"), "needs the number of categories"),
        (lambda: Multinomial(1), "two categories or more, not 1"),
        (lambda: Truncated(families.Gaussian()), "only families of counts"),
        (lambda: families.Gaussian().core(zero=True), "takes no zero inflation"),
        (lambda: Cumulative(thresholds="symetric"), "did you mean 'symmetric'"),
    ],
)
def test_names_refused(call, words):
    with pytest.raises(ModelError, match=words):
        call()


def test_predictors():
    labels = [(p.name, p.label) for p in family("nbinom2").predictors(zero=True)]
    assert labels == [
        ("mean", "mean"),
        ("dispersion", "phi"),
        ("zero", "probability of an extra zero"),
    ]
    assert [p.label for p in family("t").parameters] == ["mean", "sigma", "df"]


@pytest.mark.parametrize("name", [n for n in families.FAMILIES if not n.startswith("truncated_")])
def test_words_of_a_family(name):
    """What the summary and the equation say of it: a new family needs both."""
    own = family(name, categories=3) if name == "multinomial" else family(name)
    assert own.name in NAMES
    if any(p.name == "dispersion" for p in own.parameters):
        assert "Var(y)" in variance_words(own)
