"""Numbers that do not depend on coding, ends of families, draws from far out.

Right by algebra: models of one column space have one test of each effect; terms that differ only
by names of levels leave what each says alone open; 1 - y turns an ordered beta response round;
at its limit of small means the truncated negative binomial is the logarithmic series.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import expit

import ranef
from ranef.errors import ConvergenceWarning, DataError, ModelError, RankWarning
from ranef.families import family

UNDETERMINED = pytest.mark.filterwarnings("ignore:The data do not determine")


def test_joint_tests_of_categories_do_not_depend_on_coding():
    rng = np.random.default_rng(7)
    n = 240
    data = pd.DataFrame({"a": rng.choice(list("pqr"), n), "b": rng.choice(list("XYZ"), n)})
    data = data[~((data.a == "r") & (data.b == "Z"))].reset_index(drop=True)
    data["m"] = rng.choice(list("uvw"), len(data))
    found = []
    for fixed in ("a * b", "b * a", "0 + a:b", "a + a:b"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RankWarning)
            fit = ranef.glmm(f"m ~ {fixed}", data, family="multinomial", random="none")
        found.append(fit.joint_tests().tidy().set_index("term"))
    # an effect that one cell without rows leaves a contrast of: one for each log odds
    assert found[0].df1.to_dict() == {"a": 2, "b": 2, "a:b": 6}
    for other in found[1:]:
        assert_allclose(other.loc[["a", "b"], "statistic"], found[0].loc[["a", "b"], "statistic"])


@UNDETERMINED
@pytest.mark.parametrize("model", ["lmm", "glmm"])
def test_levels_of_effects_that_are_not_determined_are_not_ranked(model):
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(14), 6)
    data = pd.DataFrame({"g": g, "again": [f"k{i}" for i in g]})
    data["y"] = rng.poisson(np.exp(0.5 + 0.4 * rng.normal(size=14)[g])).astype(float)
    more = {} if model == "lmm" else {"family": "poisson"}
    fit = getattr(ranef, model)("y ~ 1 + (1 | g) + (1 | again)", data, **more)
    with pytest.raises(ModelError, match="do not determine the effects of 'g' that are to be"):
        fit.rank("g")
    assert fit.vcov_by_level("g").covariance.isna().all()
    assert np.isnan(fit.vcov_by_level("g", level=3).to_numpy()).all()
    assert ranef.posterior(fit, "g").tidy().std_error.isna().all()
    # what the two say together is determined
    assert fit.predict(kind="conditional", conf_level=0.9).std_error.notna().all()


MEANS = (-800.0, -50.0, -2.0, 0.0, 3.0, 12.0, 25.0, 200.0, 800.0)
DRAWN = {
    "poisson": ("log", "identity", "sqrt", "inverse"),
    "nbinom1": ("log",),
    "nbinom2": ("log", "identity"),
    "nbinom12": ("log",),
    "bell": ("log",),
    "genpois": ("log",),
    "compois": ("log",),
    "Gamma": ("log", "identity", "inverse"),
    "inverse.gaussian": ("log", "1/mu^2"),
    "tweedie": ("log",),
    "beta": ("logit", "log"),
    "binomial": ("logit", "log", "identity"),
    "ordbeta": ("logit",),
    "truncated_poisson": ("log", "identity"),
    "truncated_compois": ("log",),
}


@pytest.mark.parametrize("name", DRAWN)
def test_uncertain_means_are_drawn_from_wherever_they_lie(name):
    rng = np.random.default_rng(1)
    for link in DRAWN[name]:
        model = family(name, link)
        for mean in MEANS:
            etas = np.zeros((len(model.parameters), 40))
            etas[0] = mean
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                y = model.simulate(rng, etas)
            assert not np.isnan(y).any(), (link, mean)


@pytest.mark.parametrize(
    ("name", "log_phi"), [("compois", -1.0), ("compois", 1.0), ("genpois", 0.7), ("bell", None)]
)
@pytest.mark.parametrize("log_mean", [9.8, 10.5])
def test_counts_far_from_zero_have_their_moments(name, log_phi, log_mean):
    # 9.8 is walked to, from 10 on counts are drawn by their moments
    model = family(name)
    etas = np.full((len(model.parameters), 4000 if log_mean > 10 else 400), log_mean)
    etas[1:] = log_phi or 0.0
    y = model.simulate(np.random.default_rng(2), etas)
    mean, variance = np.exp(log_mean), float(model.variance(etas[:, :1])[0])
    assert y.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / y.size))
    assert y.var() == pytest.approx(variance, rel=6 * np.sqrt(2 / y.size))
    assert (y == np.round(y)).all()


def test_means_beside_rows_of_a_wide_effect():
    rng = np.random.default_rng(3)
    f = np.repeat(["a", "b"], 40)
    g = np.tile(np.repeat(np.arange(8), 5), 2)
    y = np.where(f == "a", g % 2, rng.integers(0, 2, 80))
    data = pd.DataFrame({"f": f, "g": g, "y": y})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ranef.glmm(
            "y ~ 0 + f + diag(0 + f | g)", data, family="binomial",
            fixed={"sd: g: fa": 60.0, "sd: g: fb": 0.0},
        )  # fmt: skip
        means = fit.emmeans("f").tidy().estimate
    eta = fit.coef["fa"]
    right = quad(lambda t: expit(eta + 60 * t) * np.exp(-t * t / 2) / np.sqrt(2 * np.pi), -9, 9,
                 points=[-eta / 60], limit=400)[0]  # fmt: skip
    assert_allclose(means, [right, expit(fit.coef["fb"])], atol=1e-6)


@pytest.fixture(scope="module")
def shares():
    rng = np.random.default_rng(21)
    g, x = np.repeat(np.arange(20), 12), rng.normal(size=240)
    p = expit(0.2 + 0.5 * x + 0.4 * rng.normal(size=20)[g])
    y = rng.beta(5 * p, 5 * (1 - p)).clip(0.001, 0.999)
    return pd.DataFrame({"g": g, "x": x, "y": np.where(rng.random(240) < 0.2, 1.0, y)})


def test_an_ordered_beta_response_without_zeros(shares):
    with pytest.warns(ConvergenceWarning, match="no response is 0; the other estimates hold"):
        fit = ranef.glmm("y ~ x + (1 | g)", shares, family="ordbeta")
    with pytest.warns(ConvergenceWarning, match="no response is 1; the other estimates hold"):
        turned = ranef.glmm(
            "z ~ x + (1 | g)", shares.assign(z=1 - shares.y), family="ordbeta"
        )  # 1 - y has zeros and no ones
    assert fit.loglik == pytest.approx(turned.loglik, abs=1e-5)
    ours, theirs = (f.tidy().iloc[:3] for f in (fit, turned))
    assert_allclose(ours.estimate, theirs.estimate * [-1, -1, 1], atol=1e-4)
    assert_allclose(ours.std_error, theirs.std_error, rtol=1e-3)


def test_an_ordered_beta_response_of_zeros_and_ones_alone_is_refused(shares):
    data = shares.assign(y=(shares.y > 0.5) * 1.0)
    with pytest.raises(DataError, match=r"between 0 and 1; .*0 and 1 alone is binomial"):
        ranef.glmm("y ~ x + (1 | g)", data, family="ordbeta")


def test_logarithmic_series_are_no_separation():
    y = np.random.default_rng(6).logseries(0.8, 240)
    data = pd.DataFrame({"y": y, "g": np.repeat(np.arange(20), 12)})
    with pytest.warns(ConvergenceWarning, match="the logarithmic series. Use another family"):
        ranef.glmm("y ~ 1 + (1 | g)", data, family="truncated_nbinom2")


def test_both_ends_of_the_negative_binomial_of_two_dispersions():
    rng = np.random.default_rng(21)
    mean = np.exp(1 + 0.4 * rng.normal(size=20))
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 12), "y": np.repeat(np.round(mean), 12)})
    with pytest.warns(ConvergenceWarning, match="binomial is the Poisson. Use that family, or"):
        ranef.glmm("y ~ 1 + (1 | g)", data, family="nbinom12")


@pytest.mark.parametrize(
    ("name", "label", "sign", "words"),
    [
        ("nbinom12", "psi", -1, "the variance has no limit"),
        ("betabinomial", "phi", -1, "one binary response. Use another family"),
        ("beta", "phi", -1, "all is at 0 and 1"),
        ("ordbeta", "phi", -1, "binary response says as much. Use another family"),
        ("ordbeta", "cut 1", 1, "every response is 0"),
        ("ordbeta", "cut 2 - cut 1", -1, "it is the binomial. Use that family"),
        ("t", "df", -1, "heavier than those of any t. Use another family"),
        ("skewnormal", "alpha", -1, "no value above its end"),
        ("skewnormal", "alpha", 1, "no value below its end"),
        ("truncated_nbinom1", "phi", -1, "is the Poisson. Use that family"),
    ],
)
def test_words_of_the_other_ends(name, label, sign, words):
    from ranef.models.family_words import end_words

    assert words in end_words(family(name), label, sign)
