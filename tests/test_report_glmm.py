"""Reports and pictures of generalised fits."""

from __future__ import annotations

import re

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

import ranef
from ranef.plots import alt_text
from ranef.report.page import html

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def counts():
    return ranef.glmm(
        "count ~ spp + mined + (1 | site)",
        ranef.data.load("Salamanders"),
        family="nbinom2",
        zero="~ mined",
    )


@pytest.fixture(scope="module")
def ratings():
    return ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )


@pytest.fixture(scope="module")
def ways():
    rng = np.random.default_rng(8)
    data = {"way": rng.integers(0, 3, 300).astype(str), "town": np.repeat(np.arange(20), 15)}
    data["x"] = rng.normal(size=300)
    return ranef.glmm("way ~ x + (1 | town)", data, family="multinomial")


def test_a_page_of_counts(counts):
    page = html(counts)
    words = re.sub(r"<[^>]+>", " ", page)
    for expected in (
        "Generalised linear mixed model of count",
        "nbinom2, log",
        "ML, Laplace",
        "Rate ratio",
        "Odds ratio",
        "Zero part: log odds of an extra zero",
        "subject-specific",
        "Var(y) = mu (1 + mu / phi)",
        "Quantile residuals",
        "Standard deviations of the random effects on the scale of the link",
    ):
        assert expected in words, expected
    assert "Residual SD" not in words
    assert "among 1,000 responses simulated from the model" in words
    for name in ("means0", "means1", "predictions", "shrinkage", "ranks", "scale", "simulated"):
        assert f'id="{name}-' in page, name
    assert "funnel" not in page
    assert page.count("<figure") == 13


def test_a_page_of_ratings_has_thresholds_and_no_intercept(ratings):
    words = re.sub(r"<[^>]+>", " ", html(ratings))
    assert "Thresholds" in words
    assert "3|4" in words
    assert "The mean depends on temp and contact." in words


def test_categories_without_order_have_no_residuals(ways):
    page = html(ways)
    assert "have no residuals to draw" in page
    assert 'id="qq-' not in page
    assert 'id="scale-' not in page
    assert "Probability of 2" in page
    assert "1 against the first category" in page


def test_counts_with_an_exposure_have_ratios_and_a_funnel():
    rng = np.random.default_rng(21)
    ward = np.repeat([f"W{i:02d}" for i in range(12)], 6)
    days = rng.uniform(50, 500, len(ward))
    effect = np.repeat(rng.normal(scale=0.4, size=12), 6)
    data = {"ward": ward, "days": days, "cases": rng.poisson(days * 0.02 * np.exp(effect))}
    fit = ranef.glmm("cases ~ 1 + (1 | ward) + offset(log(days))", data, family="poisson")
    page = html(fit)
    ratios = fit.standardized_ratios("ward")
    largest = ratios.tidy(sort=True).iloc[0] if hasattr(ratios.tidy(), "iloc") else None
    assert "Standardised ratios" in page
    assert 'id="funnel-' in page
    assert 'id="league-' in page
    assert "Adjusted for: the offset log(days)" in page
    if largest is not None:
        assert f"shrunken from {largest['shrunken']:.2f} ({largest['level']})" in page
    without = html(ranef.glmm("cases ~ 1 + (1 | ward)", data, family="poisson"))
    assert "Standardised ratios" not in without


def test_proportions_have_a_funnel():
    cbpp = ranef.data.load("cbpp")
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, family="binomial"
    )
    page = html(fit)
    assert 'id="funnel-' in page
    assert "on the scale of the link, where an observation counts by the variance of its" in page


def test_means_of_a_zero_inflated_model_count_the_zeros(counts):
    mean = counts.emmeans("mined", component="response").tidy(tests=False)
    words = re.sub(r"<[^>]+>", " ", html(counts))
    assert f"{mean['estimate'].iloc[1]:.3f}" in words


def test_the_call_on_the_page_makes_the_same_fit():
    data = ranef.data.load("Salamanders")
    fit = ranef.glmm(
        "count ~ mined + (1 | site)",
        data,
        family=ranef.families.NegativeBinomial2("sqrt"),
        dispersion="~ mined",
        priors={"sd": ranef.priors.Gamma(2, 0.5)},
    )
    code = re.search(r"fit = (ranef\.glmm\(.*?\))</code>", html(fit), re.DOTALL)
    assert code is not None
    from html import unescape

    again = eval(unescape(code[1]), {"ranef": ranef, "data": data})
    assert again.loglik == fit.loglik
    assert again.estimate.priors == fit.estimate.priors


def test_labels_of_the_data_are_escaped():
    evil = "<script>alert(1)</script>"
    rng = np.random.default_rng(4)
    data = {"y": rng.poisson(2.0, 100).astype(float), "g": np.repeat(list("abcdefghij"), 10)}
    data["g"] = np.where(data["g"] == "a", evil, data["g"])
    page = html(ranef.glmm("y ~ 1 + (1 | g)", data, family="poisson"))
    assert evil not in page


def test_pictures(counts, ratings, ways):
    ax = counts.plot.fixed()
    assert ax.get_xlabel() == "Estimate on the scale of the link (log), 95% interval"
    assert "sppPR" in [label.get_text() for label in ax.get_yticklabels()]
    assert len(ax.get_yticklabels()) == 7
    ax = counts.plot.residuals()
    assert ax.get_title(loc="left") == "Residuals against linear predictor"
    assert ax.get_ylabel() == "Quantile residual"
    assert counts.plot.residuals(kind="pearson").get_xlabel() == "Fitted count"
    assert counts.plot.qq().get_xlabel() == "Normal quantile"
    panels = ways.plot.random()
    assert [p.get_title(loc="left") for p in panels] == [
        "town: 1: (Intercept)", "town: 2: (Intercept)",
    ]  # fmt: skip
    assert "quantile residuals against the linear predictor" in alt_text(ratings, "residuals")
    matplotlib.pyplot.close("all")


def test_random_effects_of_two_parts_are_told_apart():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 25)
    mu = np.exp(1.5 + rng.normal(scale=0.5, size=40)[group])
    empty = rng.random(1000) < 1 / (1 + np.exp(1.0 - rng.normal(scale=1.0, size=40)[group]))
    data = {"y": np.where(empty, 0.0, rng.poisson(mu)), "g": group}
    fit = ranef.glmm("y ~ 1 + (1 | g)", data, family="poisson", zero="~ 1 + (1 | g)")
    assert fit.tidy("variance").component.tolist() == ["conditional", "zero"]
    titles = [p.get_title(loc="left") for p in fit.plot.random()]
    assert titles == ["g: (Intercept)", "g (zero): (Intercept)"]
    assert "In the zero part the intercept varies between" in html(fit)
    assert "g (zero)" in str(fit.summary())
    matplotlib.pyplot.close("all")
