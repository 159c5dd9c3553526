"""Models without random effects: plain fits that stand beside mixed ones."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import ranef
from ranef import cli
from ranef.errors import ModelError
from ranef.report import page

REFERENCE = json.loads((Path(__file__).parent / "reference" / "without_random.json").read_text())
"""By tests/reference/without_random.R."""
R, MASS, TMB = REFERENCE["versions"].split(", ")
R = "stats (R 4.2.2)"


@pytest.fixture(scope="module")
def sleep():
    data = ranef.data.load("sleepstudy")
    return data.assign(w=1 + data.Days / 10, half=np.where(data.Days > 4, "late", "early"))


@pytest.fixture(scope="module")
def plain(sleep):
    return ranef.lmm("Reaction ~ Days", sleep, random="none")


@pytest.fixture(scope="module")
def counts():
    return ranef.data.load("Salamanders")


def errors(fit):
    return np.sqrt(np.diag(fit.vcov))


@pytest.mark.parametrize("case", ["lm", "wls"])
def test_linear_models_are_those_of_lm(case, sleep, agree):
    known = REFERENCE[case]
    weights = "w" if case == "wls" else None
    fit = ranef.lmm("Reaction ~ Days", sleep, weights=weights, random="none")
    what = f"Reaction ~ Days{', weighted' if weights else ''}, sleepstudy"
    agree("lmm(random='none')", f"coefficients, {what}", fit.coef, known["coef"], peer=R, rtol=1e-9)
    agree("lmm(random='none')", f"standard errors, {what}", errors(fit), known["se"], peer=R,
          rtol=1e-9)  # fmt: skip
    agree("lmm(random='none')", f"sigma, {what}", fit.sigma, known["sigma"], peer=R, rtol=1e-9)
    agree("lmm(random='none')", f"REML, {what}", fit.loglik, known["reml"], peer=R, rtol=1e-9)
    ml = ranef.lmm("Reaction ~ Days", sleep, weights=weights, random="none", reml=False)
    agree("lmm(random='none')", f"log-likelihood, {what}", ml.loglik, known["ml"], peer=R,
          rtol=1e-9)  # fmt: skip
    assert fit.optimum.converged
    assert len(fit.theta) == 0
    assert fit.df_model == 3


def test_answers_of_a_linear_model(plain, sleep, agree):
    known = REFERENCE["lm"]
    table = plain.tidy()
    np.testing.assert_allclose(table["df"], 178, rtol=1e-8)
    np.testing.assert_allclose(plain.tidy(df="kenward-roger")["df"], 178, rtol=1e-6)
    agree("fit.anova(random='none')", "F of Days, sleepstudy", plain.anova().tidy()["statistic"],
          known["F"], peer=R, rtol=1e-8)  # fmt: skip
    ml = ranef.lmm("Reaction ~ Days", sleep, random="none", reml=False)
    agree("fit.aic", "Reaction ~ Days, sleepstudy", ml.aic, known["aic"], peer=R, rtol=1e-9)
    hat = plain.leverage().tidy()["hat"]
    agree("fit.leverage(random='none')", "range, sleepstudy", [hat.min(), hat.max()], known["hat"],
          peer=R, rtol=1e-8)  # fmt: skip
    agree("fit.influence(random='none')", "largest Cook's distance, sleepstudy",
          plain.influence().cook.max(), known["cook"], peer=R, rtol=1e-6)  # fmt: skip
    new = {"Days": [0.0, 4.5, 12.0]}
    predicted = plain.predict(new, conf_level=0.9, interval="new")
    agree("fit.predict(interval='new', random='none')", "bounds, sleepstudy",
          [predicted["conf_low"], predicted["conf_high"]], [known["lwr"], known["upr"]],
          peer=R, rtol=1e-6)  # fmt: skip


def test_it_is_the_null_of_a_mixed_fit(plain, sleep):
    mixed = ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep)
    tested = mixed.variance_test()
    statistic = 2 * (mixed.loglik - plain.loglik)
    np.testing.assert_allclose(tested.tidy()["statistic"], statistic, rtol=1e-9)
    compared = ranef.anova(plain, mixed, refit=False).tidy()
    np.testing.assert_allclose(compared["statistic"].iloc[1], statistic, rtol=1e-9)
    # a variance of zero is on the boundary: half of chi-squared with one degree of freedom
    half = 0.5 * stats.chi2.sf(statistic, 1)
    np.testing.assert_allclose(compared["p_value"].iloc[1], half, rtol=1e-8)


@pytest.mark.parametrize(
    ("case", "formula", "more", "peer"),
    [
        ("poisson", "count ~ mined + DOY", {"family": "poisson"}, R),
        ("glm.nb", "count ~ mined + DOY", {"family": "nbinom2"}, MASS),
        ("zinb", "count ~ mined + DOY",
         {"family": "nbinom2", "zero": "~ mined", "dispersion": "~ DOY"}, TMB),
        ("hurdle", "count ~ mined", {"family": "truncated_poisson", "zero": "~ mined"}, TMB),
    ],
)  # fmt: skip
def test_counts_are_those_of_glm(case, formula, more, peer, counts, agree):
    known = REFERENCE[case]
    fit = ranef.glmm(formula, counts, random="none", **more)
    what = f"{formula}, {case}, Salamanders"
    agree("glmm(random='none')", f"log-likelihood, {what}", fit.loglik, known["loglik"], peer=peer,
          atol=1e-6)  # fmt: skip
    values = fit.estimate.coefficients
    if case == "glm.nb":
        values = values[:-1]
        agree("glmm(random='none')", f"phi, {what}", np.exp(fit.estimate.coefficients[-1]),
              known["theta"], peer=peer, rtol=2e-5)  # fmt: skip
    if case == "zinb":  # glmmTMB's order is mean, zero part, dispersion
        values = fit.tidy().set_index("component").loc[["conditional", "zero", "dispersion"]]
        values = values["estimate"]
    agree("glmm(random='none')", f"coefficients, {what}", values, known["coef"], peer=peer,
          rtol=2e-5, atol=1e-6)  # fmt: skip


def test_residuals_and_leverage_of_a_poisson_model(counts):
    known = REFERENCE["poisson"]
    fit = ranef.glmm("count ~ mined + DOY", counts, family="poisson", random="none")
    np.testing.assert_allclose(errors(fit), known["se"], rtol=1e-5)
    for kind in ("deviance", "pearson"):
        squares = float((fit.residuals(kind) ** 2).sum())
        np.testing.assert_allclose(squares, known[kind], rtol=1e-6)
    hat = fit.leverage().tidy()["hat"]
    np.testing.assert_allclose([hat.min(), hat.max()], known["hat"], rtol=1e-5)


@pytest.mark.parametrize(("case", "link"), [("binomial", None), ("probit", "probit")])
def test_proportions_are_those_of_glm(case, link, agree):
    known = REFERENCE[case]
    cbpp = ranef.data.load("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period"
    fit = ranef.glmm(formula, cbpp, family="binomial", link=link, random="none")
    what = f"{case}, cbpp"
    agree("glmm(random='none')", f"coefficients, {what}", fit.coef, known["coef"], peer=R,
          rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(fit.loglik, known["loglik"], atol=1e-7)
    if link is None:
        np.testing.assert_allclose(errors(fit), known["se"], rtol=1e-5)


def test_the_ordinal_model_of_the_wine_data():
    """By ordinal 2023.12-4, as in its vignette: clm(rating ~ temp + contact, data = wine)."""
    fit = ranef.glmm(
        "rating ~ temp + contact", ranef.data.load("wine"), family="cumulative", random="none"
    )
    np.testing.assert_allclose(fit.loglik, -86.49192, atol=1e-5)
    known = [2.503, 1.528, -1.344, 1.251, 3.467, 5.006]
    np.testing.assert_allclose(fit.estimate.coefficients, known, atol=6e-4)


FAMILIES = [
    ("nbinom1", "count"), ("nbinom12", "wide"), ("genpois", "count"), ("compois", "count"),
    ("bell", "count"), ("Gamma", "size"), ("inverse.gaussian", "size"), ("lognormal", "size"),
    ("tweedie", "sum"), ("t", "z"), ("skewnormal", "z"), ("beta", "share"),
    ("ordbeta", "ends"), ("gaussian", "z"), ("multinomial", "kind"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "response"), FAMILIES)
def test_every_family_without_random_effects(family, response):
    rng = np.random.default_rng(4)
    n, g = 240, 12
    x, group = rng.normal(size=n), np.repeat(np.arange(g), n // g)
    eta = 0.4 + 0.3 * x + rng.normal(0, 0.4, g)[group]
    wider = rng.gamma(0.7, np.exp(eta) / 0.7)
    share = rng.beta(4 / (1 + np.exp(-eta)), 4 / (1 + np.exp(eta)))
    table = {
        "x": x, "g": group, "wide": rng.negative_binomial(wider / 2 + 1e-9, 1 / 3),
        "sum": [rng.gamma(2, 0.5, k).sum() for k in rng.poisson(np.exp(eta))],
        "share": share, "ends": np.clip(1.6 * share - 0.3, 0, 1),
        "count": rng.negative_binomial(3, 3 / (3 + np.exp(eta))),
        "size": rng.gamma(3, np.exp(eta) / 3), "z": eta + rng.standard_t(5, n),
        "kind": np.array(["a", "b", "c"])[rng.integers(0, 3, n)],
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = ranef.glmm(f"{response} ~ x", table, family=family, random="none")
    assert fit.optimum.converged
    assert len(fit.theta) == 0
    held = {} if family == "multinomial" else {"sd: g": 0.0}
    if held:
        # the mixed model whose variance is held at zero is the same model
        null = ranef.glmm(f"{response} ~ x + (1 | g)", table, family=family, fixed=held)
        np.testing.assert_allclose(fit.loglik, null.loglik, atol=1e-6)
        np.testing.assert_allclose(fit.coef, null.coef, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(errors(fit), errors(null), rtol=1e-3)


def test_restricted_likelihood_of_the_other_engine(plain, sleep):
    fit = ranef.glmm("Reaction ~ Days", sleep, family="gaussian", random="none", reml=True)
    np.testing.assert_allclose(fit.loglik, plain.loglik, rtol=1e-9)
    held = ranef.lmm("Reaction ~ Days", sleep, random="none", fixed={"Days": 10.0})
    freed = sleep.assign(Reaction=sleep.Reaction - 10 * sleep.Days)
    one = ranef.lmm("Reaction ~ 1", freed, random="none")
    np.testing.assert_allclose(held.coef.iloc[0], one.coef.iloc[0], rtol=1e-8)


LEVELLED = [
    "rank", "posterior", "shrinkage", "reliability", "vcov_by_level", "icc", "variance_test",
    "within_between", "standardized_ratios", "marginal",
]  # fmt: skip


@pytest.mark.parametrize("question", LEVELLED)
def test_questions_about_levels_are_refused_in_words(question, plain):
    with pytest.raises(ModelError, match=r"needs random effects; this fit \(a linear model\)"):
        getattr(plain, question)()


def test_random_effects_are_refused_in_words(plain):
    with pytest.raises(ModelError, match="needs random effects"):
        plain.tidy("random")
    with pytest.raises(ModelError, match="no random effects"):
        plain.coef_by_level()
    with pytest.raises(ModelError, match="no grouping factor whose levels"):
        plain.bootstrap(10, method="cluster", rng=1)
    with pytest.raises(ModelError, match="needs random effects"):
        plain.plot.predictions("Days")


def test_what_does_not_need_levels_answers(sleep, tmp_path):
    fit = ranef.lmm("log(Reaction) ~ Days + half", sleep, random="none")
    assert fit.n_groups == {}
    assert fit.check().headline
    assert fit.r2().marginal == pytest.approx(fit.r2().conditional)
    slope = fit.emtrends("half", "Days").tidy()["estimate"]
    np.testing.assert_allclose(slope, fit.coef["Days"], rtol=1e-9)
    gap = np.diff(fit.emmeans("half").tidy()["estimate"])
    np.testing.assert_allclose(gap, fit.coef["halflate"], rtol=1e-8)
    assert len(fit.average("Days").tidy()) == 1
    kinds = [fit.predict(kind=kind) for kind in ("conditional", "typical", "population")]
    np.testing.assert_allclose(kinds[0], kinds[1])
    np.testing.assert_allclose(kinds[0], kinds[2])
    profile = fit.confint(method="profile")
    wald = fit.confint()
    np.testing.assert_allclose(profile["conf_low"][:3], wald["conf_low"][:3], rtol=0.05, atol=5e-3)
    assert len(fit.bootstrap(20, rng=1).draws) == 20
    again = fit.refit(np.log(sleep.Reaction) + 1)
    np.testing.assert_allclose(again.coef.iloc[0], fit.coef.iloc[0] + 1, rtol=1e-9)
    fit.save(tmp_path / "plain.ranef")
    loaded = ranef.load(tmp_path / "plain.ranef")
    assert loaded.loglik == fit.loglik
    np.testing.assert_array_equal(loaded.predict({"Days": [3.0], "half": ["early"]}),
                                  fit.predict({"Days": [3.0], "half": ["early"]}))  # fmt: skip
    page.write(fit, tmp_path / "plain.html", call="")
    text = (tmp_path / "plain.html").read_text("utf-8")
    assert "linear model" in text
    assert "mixed" not in text.replace("mixed-", "")


def test_words_do_not_speak_of_random_effects(plain, counts):
    for fit in (plain, ranef.glmm("count ~ mined", counts, family="poisson", random="none")):
        text = f"{fit.summary()}\n{fit.methods()}\n{fit.equation()}\n{fit.description.call()}"
        for word in ("mixed", "Random effects", "Laplace", "typical", "(ICC)", "variance at zero"):
            assert word not in text, (word, text)
        assert "random='none'" in text


def test_a_formula_and_its_random_terms_must_fit(sleep, capsys):
    with pytest.raises(ModelError, match=r"random='none' \(--random none on the command line\)"):
        ranef.lmm("Reaction ~ Days", sleep)
    with pytest.raises(ModelError, match="take it out of the formula"):
        ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep, random="none")
    with pytest.raises(ModelError, match="random='all' is not known"):
        ranef.lmm("Reaction ~ Days", sleep, random="all")
    with pytest.raises(ModelError, match="the fixed effects reproduce"):
        ranef.lmm("Days ~ I(2 * Days)", sleep, random="none")
    assert ranef.plan("Reaction ~ Days", sleep, random="none").n_parameters == 0
    assert cli.main(["fit", "Reaction ~ Days", "sleepstudy", "--random", "none"]) == 0
    assert "Linear model by REML" in capsys.readouterr().out
