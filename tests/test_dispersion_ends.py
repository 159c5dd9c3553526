"""Every family at the ends of its dispersion: densities, draws, predictions and words.

Right by algebra: the limits of the families. The Conway-Maxwell-Poisson is geometric at one end
(the nbinom2 with phi = 1) and has the two counts beside the mean at the other; the negative
binomial becomes the Poisson, the beta-binomial the binomial, the t the normal.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef
from ranef.errors import ConvergenceWarning, ModelError
from ranef.families import ConwayMaxwellPoisson, family

GROUP = np.repeat(np.arange(20), 10)
NEW = {"g": ["new"]}


def fitted(y, name, formula="y ~ 1 + (1 | g)", **columns):
    """A fit, and what it warns of; nothing else warns, nor does what is asked of it later."""
    data = pd.DataFrame({"g": columns.pop("g", GROUP), "y": y, **columns})
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit = ranef.glmm(formula, data, family=name)
    assert {w.category for w in heard} <= {ConvergenceWarning}
    return fit, " ".join(str(w.message) for w in heard)


# --- densities


@pytest.mark.parametrize("mu", [0.3, 0.999, 1.0001, 2.0137, 2.5, 2.999, 7.25])
@pytest.mark.parametrize("end", [-5.0, -6.0, -8.0, -10.0, -15.0, -27.0, -700.0])
def test_narrow_conway_maxwell_poisson_has_the_two_counts_beside_its_mean(mu, end):
    y = np.arange(12.0)
    etas = np.array([np.full(12, np.log(mu)), np.full(12, end)])
    p = np.exp(ConwayMaxwellPoisson().log_density(y, etas))
    assert p.sum() == pytest.approx(1, abs=1e-8)
    assert p @ y == pytest.approx(mu, abs=1e-6)
    if end <= -6:
        low = np.floor(mu)
        assert p[int(low)] == pytest.approx(1 - (mu - low), abs=2e-3)
        variance = ConwayMaxwellPoisson().variance(etas[:, :1])
        assert variance[0] == pytest.approx((mu - low) * (1 + low - mu), rel=0.05)


@pytest.mark.parametrize("end", [12.0, 20.0, 40.0, 700.0])
def test_wide_conway_maxwell_poisson_is_geometric(end, agree):
    y = np.arange(40.0)
    etas = np.array([np.full(40, np.log(2.0)), np.full(40, end)])
    p = ConwayMaxwellPoisson().log_density(y, etas)
    limit = stats.geom(1 / 3, loc=-1).logpmf(y)
    agree("glmm(family='compois')", f"log density of 0 to 39 at log(1 / nu) = {end:g}, mean 2", p,
          limit, peer="SciPy's geometric distribution", atol=1e-3)  # fmt: skip
    assert ConwayMaxwellPoisson().variance(etas[:, :1])[0] == pytest.approx(6.0, rel=1e-3)


@pytest.mark.parametrize("end", [-700.0, -27.0, -6.0, 20.0, 700.0])
def test_draws_at_the_ends_have_the_moments(end):
    etas = np.array([np.full(20_000, np.log(2.4)), np.full(20_000, end)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = ConwayMaxwellPoisson().simulate(np.random.default_rng(1), etas)
        variance = ConwayMaxwellPoisson().variance(etas[:, :1])[0]
    assert y.mean() == pytest.approx(2.4, abs=4 * np.sqrt(variance / 20_000))
    assert y.var() == pytest.approx(variance, rel=0.1)


# --- predictions


def poisson(rng, u):
    return rng.poisson(np.exp(1 + u))


def under(rng, u):
    return np.floor(np.exp(1.2 + 0.2 * u)) + (rng.random(200) < 0.5)


def over(rng, u):
    return rng.negative_binomial(0.5, 0.2, 200)


ENDS = {
    ("nbinom2", poisson): "without overdispersion the negative binomial is the Poisson. Use that",
    ("nbinom1", poisson): "without overdispersion the negative binomial is the Poisson. Use that",
    ("nbinom2", under): "is the Poisson",
    ("nbinom1", under): "is the Poisson",
    ("compois", over): "the Conway-Maxwell-Poisson is the geometric, the nbinom2 with phi = 1",
    ("compois", under): "only the two counts beside the mean are left. Use another family",
}


@pytest.mark.parametrize(("name", "made"), ENDS)
def test_intervals_of_new_counts_at_the_ends_are_those_of_the_draws(name, made):
    rng = np.random.default_rng(3)
    u = 0.3 * rng.normal(size=20)[GROUP]
    fit, words = fitted(made(rng, u), name)
    assert ENDS[name, made] in words
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = fit.simulate(4000, rng=1, new=NEW).to_numpy()
        uncertain = fit.simulate(1000, rng=2, new=NEW, parameters="draw").to_numpy()
        for kind in ("typical", "population", "conditional"):
            said = fit.predict(NEW, kind=kind, conf_level=0.9, interval="new")
            ends = np.quantile(drawn, [0.05, 0.95])
            assert np.abs(said[["conf_low", "conf_high"]].to_numpy()[0] - ends).max() <= 1
        fit.predict(NEW, kind="typical", type="dispersion", conf_level=0.9)
    assert np.abs(np.quantile(uncertain, [0.05, 0.95]) - ends).max() <= 1
    assert uncertain.mean() == pytest.approx(drawn.mean(), rel=0.1)


def test_the_overdispersed_limit_is_the_geometric_distribution():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(15), 12)
    y = rng.negative_binomial(0.5, 0.2, 180)
    fit, _ = fitted(y, "compois", g=g)
    data = pd.DataFrame({"g": g, "y": y})
    geometric = ranef.glmm(
        "y ~ 1 + (1 | g)", data, family="nbinom2", fixed={"dispersion: (Intercept)": 0.0}
    )
    assert fit.loglik == pytest.approx(geometric.loglik, abs=1e-4)
    how = {"kind": "typical", "conf_level": 0.9, "interval": "new"}
    bounds = ["conf_low", "conf_high"]
    np.testing.assert_allclose(
        fit.predict(NEW, **how)[bounds], geometric.predict(NEW, **how)[bounds], atol=1
    )


OTHERS = {
    "t": (lambda rng, u: rng.normal(size=200) + u, "with infinite df the t is the normal"),
    "ordbeta": (lambda rng, u: rng.beta(2, 3, 200), "without 0 and 1 it is the beta"),
    "truncated_nbinom2": (lambda rng, u: 1 + rng.poisson(1.0, 200), "is the Poisson"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_at_their_ends(name):
    make, words = OTHERS[name]
    rng = np.random.default_rng(7)
    fit, said = fitted(make(rng, 0.3 * rng.normal(size=20)[GROUP]), name)
    assert fit.estimate.runaway
    assert words in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = fit.simulate(4000, rng=1, new=NEW).to_numpy()
        said = fit.predict(NEW, kind="population", conf_level=0.9, interval="new")
    wide = np.diff(np.quantile(drawn, [0.05, 0.95]))[0]
    assert said.conf_high[0] - said.conf_low[0] == pytest.approx(wide, rel=0.25, abs=1)


@pytest.mark.parametrize(
    ("name", "label", "sign", "words"),
    [
        ("nbinom2", "phi", 1, "is the Poisson. Use that family"),
        ("nbinom2", "phi", -1, "the variance has no limit"),
        ("nbinom1", "phi", -1, "is the Poisson. Use that family"),
        ("compois", "1 / nu", 1, "the geometric"),
        ("betabinomial", "phi", 1, "the beta-binomial is the binomial"),
        ("gaussian", "sigma", -1, "reproduces the response without variance"),
        ("Gamma", "sigma", -1, "reproduces the response without variance"),
        ("beta", "phi", 1, "reproduces the response without variance"),
        ("inverse.gaussian", "phi", -1, "reproduces the response without variance"),
        ("tweedie", "p", 1, "the gamma"),
    ],
)
def test_words_of_the_ends(name, label, sign, words):
    from ranef.models.family_words import end_words

    assert words in end_words(family(name), label, sign)


@pytest.mark.parametrize("end", [12.0, 25.0, 700.0])
def test_tweedie_with_a_power_near_2_is_the_gamma(end, agree):
    y = np.exp(np.linspace(-2, 3, 21))
    etas = np.array([np.full(21, 1.0), np.full(21, np.log(0.6)), np.full(21, end)])
    found = family("tweedie").log_density(y, etas)
    limit = stats.gamma(1 / 0.6, scale=0.6 * np.e).logpdf(y)
    agree("glmm(family='tweedie')", f"log density of 21 values at logit(p - 1) = {end:g}", found,
          limit, peer="SciPy's gamma distribution", atol=2e-3)  # fmt: skip


@pytest.mark.parametrize("end", [-7.0, -7.9])
@pytest.mark.parametrize("log_phi", [-0.004, 0.0, 0.001])
def test_tweedie_with_a_power_near_1_at_whole_counts(end, log_phi, agree):
    from scipy.special import gammaln, logsumexp

    y, log_mu, phi = np.arange(1.0, 25), np.log(3.0), np.exp(log_phi)
    etas = np.array([np.full(24, log_mu), np.full(24, log_phi), np.full(24, end)])
    power = 1 + 1 / (1 + np.exp(-end))
    rate = np.exp((2 - power) * log_mu) / (phi * (2 - power))
    scale, shape = phi * (power - 1) * np.exp((power - 1) * log_mu), (2 - power) / (power - 1)
    j = np.arange(1.0, 200)[:, None]  # a gamma of each number of jumps
    parts = j * np.log(rate) - rate - gammaln(j + 1) + stats.gamma(j * shape, scale=scale).logpdf(y)
    agree("glmm(family='tweedie')", f"log density of 1 to 24 at logit(p - 1) = {end:g}, log phi = "
          f"{log_phi:g}", family("tweedie").log_density(y, etas), logsumexp(parts, axis=0),
          peer="the sum over 199 numbers of jumps", atol=1e-7)  # fmt: skip


@pytest.mark.parametrize("kind", ["lognormal", "wald", "poisson"])
def test_a_power_at_its_end_leaves_standard_errors(kind):
    rng = np.random.default_rng(0)
    mean = np.exp(1 + 0.3 * rng.normal(size=20)[GROUP])
    drawn = {
        "lognormal": lambda: mean * np.exp(0.6 * rng.normal(size=200)),
        "wald": lambda: mean * rng.wald(1, 3, 200),
        "poisson": lambda: rng.poisson(mean),
    }
    y = drawn[kind]()
    fit, said = fitted(y, "tweedie")
    limit = "poisson" if kind == "poisson" else family("Gamma", "log")
    other = fitted(y, limit)[0]
    assert f"where with p = {1 if kind == 'poisson' else 2} the Tweedie is" in said
    assert fit.coef.iloc[0] == pytest.approx(other.coef.iloc[0], abs=2e-4)
    assert fit.bse.iloc[0] == pytest.approx(other.bse.iloc[0], rel=1e-3)
    assert np.isfinite(fit.tidy()["std_error"]).all()


def test_estimates_without_a_covariance_have_no_interval_and_no_raw_error():
    rng = np.random.default_rng(3)
    y = np.where(rng.random(200) < 0.02, 3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.glmm("y ~ 1 + (1 | g)", pd.DataFrame({"g": GROUP, "y": y}), family="compois")
    assert np.isnan(fit.inference.prediction_parameters()[1]).any()
    said = fit.predict(NEW, kind="typical", conf_level=0.9, interval="new")
    assert np.isnan(said.conf_low[0])
    with pytest.raises(ModelError, match="no covariance matrix"):
        fit.simulate(5, rng=1, parameters="draw")


@pytest.mark.parametrize("end", [-800.0, -40.0, 40.0, 800.0])
@pytest.mark.parametrize(
    ("name", "shapes"),
    [("nbinom1", 1), ("nbinom2", 1), ("nbinom12", 2), ("beta", 1), ("betabinomial", 1)],
)
def test_draws_at_the_ends_are_those_of_the_limit(name, shapes, end):
    """A search that runs off leaves such numbers; drawing from them raised raw errors."""
    kind, rng = family(name), np.random.default_rng(1)
    for ends in itertools.product([end, -end], repeat=shapes):
        etas = np.array([[0.5] * 4000, *([v] * 4000 for v in ends)])
        extra = np.full(4000, 5.0) if name == "betabinomial" else None
        y = kind.simulate(rng, etas, extra)
        assert np.all(np.isfinite(y))
    limits = {("nbinom1", -1): 1.0, ("nbinom2", 1): 1.0}
    if (name, np.sign(end)) in limits:  # the Poisson's variance is its mean
        y = kind.simulate(rng, np.array([[0.5] * 4000, [end] * 4000]))
        assert abs(np.var(y) / np.exp(0.5) - 1) < 0.1
        assert abs(np.mean(y) / np.exp(0.5) - 1) < 0.1


@pytest.mark.parametrize("log_phi", [-800.0, -40.0, -3.0, 0.0, 3.0, 20.0, 40.0, 800.0])
def test_draws_of_the_inverse_gaussian_at_any_dispersion(log_phi):
    """SciPy's distribution function; at ends beyond its reach the mean, and zero."""
    from scipy.stats import invgauss, kstest

    mu = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = family("inverse.gaussian").simulate(
            np.random.default_rng(1), np.array([[np.log(mu)] * 4000, [log_phi] * 4000])
        )
    assert np.all(np.isfinite(y))
    assert np.all(y > 0)
    if log_phi < -30:
        np.testing.assert_allclose(y, mu, rtol=1e-7)
    elif log_phi > 30:  # y = lambda / chi2 of Levy's limit
        assert np.median(np.log(y)) == pytest.approx(max(-log_phi + 0.787, -707.7), abs=0.1)
    else:
        phi = np.exp(log_phi)
        assert kstest(y, invgauss(mu * phi, scale=1 / phi).cdf).pvalue > 1e-3


def wide(seed):
    """Groups, noise, a predictor, and probabilities that differ between groups."""
    rng = np.random.default_rng(seed)
    g, e, x = np.repeat(np.arange(16), 10), rng.normal(size=160), rng.normal(size=160)
    return g, e, x, 1 / (1 + np.exp(-0.4 * rng.normal(size=16)[g]))


def test_effects_without_a_covariance_are_refused_in_words():
    """A beta response known to six digits: the search ends where derivatives are no numbers."""
    g, e, x, p = wide(9)
    fit, heard = fitted(p + 1e-6 * e, "beta", "y ~ x + (1 | g)", g=g, x=x)
    assert not fit.optimum.converged
    assert "not proved" in heard
    with pytest.raises(ModelError, match="not finite around the estimates"):
        fit.tidy("random")


def test_effects_are_drawn_where_proposals_have_no_density():
    g, e, x, _ = wide(7)
    fit, _ = fitted(np.exp(6 * e), "Gamma", "y ~ x + (1 | g)", g=g, x=x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert "Check of" in str(ranef.check(fit, n=20, influence=False, rng=1))


def test_draws_beyond_all_numbers_have_an_infinite_standard_deviation():
    """The degrees of freedom of a t may be near zero: quantiles there are, but no variance."""
    g, e, x, _ = wide(14)
    fit, _ = fitted(e, "t", "y ~ x + (1 | g)", g=g, x=x)
    new = {"g": [0], "x": [0.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = fit.predict(new, kind="conditional", conf_level=0.9, interval="new", rng=1)
    assert found.std_error[0] == np.inf
    assert np.isfinite(found[["estimate", "conf_low", "conf_high"]]).all(axis=None)
