"""Standardised ratios, exact limits, funnels: by definition, by simulation, by reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef
from ranef.errors import ModelError
from ranef.plots import alt_text
from ranef.questions.levels import funnel as funnel_
from ranef.questions.levels import poisson_gamma
from ranef.questions.levels.limits import binomial_limits, moment_limits, poisson_limits

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "shrinkage_rank.json").read_text("utf-8")
)["poisson_gamma"]


def wards(seed=4, q=25, spread=0.4, family="poisson"):
    """Counts with exposure by ward and month, of two kinds of ward."""
    rng = np.random.default_rng(seed)
    ward = np.repeat(np.arange(q), 6)
    days = rng.uniform(30, 900, q)[ward] * rng.uniform(0.7, 1.0, len(ward))
    kind = (ward % 2 == 0).astype(float)
    mean = 0.01 * days * np.exp(0.4 * kind + rng.normal(0, spread, q)[ward])
    y = rng.poisson(mean * (rng.gamma(3, 1 / 3, len(ward)) if family != "poisson" else 1.0))
    return {"y": y, "ward": [f"w{k:02d}" for k in ward], "kind": kind, "days": days}


@pytest.fixture(scope="module")
def poisson():
    return ranef.glmm("y ~ kind + (1 | ward) + offset(log(days))", wards(), family="poisson")


@pytest.fixture(scope="module")
def binomial():
    return ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )


def by(table, values):
    """Sums by ward, in sorted order."""
    _, codes = np.unique(table["ward"], return_inverse=True)
    return np.bincount(codes, np.asarray(values))


# --- ratios


def test_observed_expected_and_shrunken_are_what_they_are_called(poisson):
    data = wards()
    found = ranef.standardized_ratios(poisson, "ward", per=1000).tidy()
    expected = by(data, poisson.fitted("typical"))
    np.testing.assert_allclose(found["observed"], by(data, data["y"]))
    np.testing.assert_allclose(found["expected"], expected)
    np.testing.assert_allclose(found["exposure"], by(data, data["days"]))
    np.testing.assert_allclose(found["ratio"], by(data, data["y"]) / expected)
    random = poisson.tidy("random")
    for own, name in (
        ("shrunken", "estimate"),
        ("conf_low", "conf_low"),
        ("conf_high", "conf_high"),
    ):
        np.testing.assert_allclose(found[own], np.exp(random[name]))
    z = random["estimate"] / random["std_error"]
    np.testing.assert_allclose(found["prob_above"], stats.norm.cdf(z))
    np.testing.assert_allclose(found["reliability"], poisson.reliability()["reliability"])
    overall = found["observed"].sum() / found["exposure"].sum()
    np.testing.assert_allclose(found["rate"], 1000 * found["observed"] / found["exposure"])
    np.testing.assert_allclose(found["adjusted_rate"], 1000 * found["shrunken"] * overall)
    assert (found["n_rows"] == 6).all()


def test_population_reference_integrates_the_effects(poisson, binomial):
    typical = ranef.standardized_ratios(poisson).tidy()
    tau2 = float(poisson.estimate.covariances[0][0, 0])
    found = ranef.standardized_ratios(poisson, reference="population").tidy()
    np.testing.assert_allclose(found["shrunken"], typical["shrunken"] / np.exp(tau2 / 2), rtol=1e-8)
    b, sd = (poisson.tidy("random")[c] for c in ("estimate", "std_error"))
    np.testing.assert_allclose(found["prob_above"], stats.norm.cdf((b - tau2 / 2) / sd), rtol=1e-6)
    rows = ranef.data.load("cbpp")
    own = ranef.standardized_ratios(binomial, reference="population").tidy()
    mean = binomial.fitted("population") * rows["size"]
    expected = mean.groupby(rows["herd"], observed=True).sum()
    np.testing.assert_allclose(own["expected"], expected.loc[own["level"]], rtol=1e-6)


def test_predicted_sums_of_a_logistic_model(binomial):
    rows = ranef.data.load("cbpp")
    found = ranef.standardized_ratios(binomial).tidy().set_index("level")
    for kind, column in (("conditional", "predicted"), ("typical", "expected")):
        sums = (binomial.fitted(kind) * rows["size"]).groupby(rows["herd"], observed=True).sum()
        own = found["expected"] if column == "expected" else found["expected"] * found["shrunken"]
        np.testing.assert_allclose(own, sums.loc[found.index], rtol=1e-8)
    np.testing.assert_allclose(
        found["exposure"], rows.groupby("herd", observed=True)["size"].sum().loc[found.index]
    )


def test_probabilities_cross_where_the_ratio_does(binomial):
    """The probability of exceeding the upper bound of a 95% interval is 2.5%."""
    found = ranef.standardized_ratios(binomial).tidy()
    for i in (0, 6, 12):
        for column, p in (("conf_high", 0.025), ("conf_low", 0.975), ("shrunken", 0.5)):
            limit = float(found[column][i])
            own = ranef.standardized_ratios(binomial, threshold=limit).tidy()
            assert own["prob_above"][i] == pytest.approx(p, abs=1e-8)


def test_ratios_of_several_effects_come_from_draws(poisson):
    data = wards()
    month = np.tile(np.linspace(-1, 1, 6), 25)
    slopes = ranef.glmm(
        "y ~ kind + (month || ward) + offset(log(days))", {**data, "month": month}, family="poisson"
    )
    found = ranef.standardized_ratios(slopes, n=20_000)
    table = found.tidy()
    place = slopes.estimate.design.factors[0].codes
    b = slopes.estimate.modes
    mean = slopes.fitted("typical") * np.exp(b[0][place, 0] + b[1][place, 0] * month)
    expected = np.bincount(place, slopes.fitted("typical"))
    np.testing.assert_allclose(table["shrunken"], np.bincount(place, mean) / expected)
    drawn = ranef.posterior(slopes).draws(20_000, rng=1)
    k = 3
    rows = place == k
    ratio = (np.asarray(slopes.fitted("typical"))[rows] * np.exp(
        drawn[:, k, 0, None] + drawn[:, k, 1, None] * month[rows]
    )).sum(axis=1) / expected[k]  # fmt: skip
    low, high = np.quantile(ratio, [0.025, 0.975])
    assert table["conf_low"][k] == pytest.approx(low, rel=0.03)
    assert table["conf_high"][k] == pytest.approx(high, rel=0.03)
    assert table["prob_above"][k] == pytest.approx(np.mean(ratio > 1), abs=0.02)


def test_effects_of_other_factors_are_treated_alike():
    rng = np.random.default_rng(9)
    a, b = np.repeat(np.arange(12), 30), np.tile(np.arange(10), 36)
    y = rng.poisson(np.exp(0.5 + rng.normal(0, 0.4, 12)[a] + rng.normal(0, 0.6, 10)[b]))
    fit = ranef.glmm("y ~ 1 + (1 | a) + (1 | b)", {"y": y, "a": a, "b": b}, family="poisson")
    found = ranef.standardized_ratios(fit, "a", reference="population").tidy()
    va, vb = (float(v[0, 0]) for v in fit.estimate.covariances)
    np.testing.assert_allclose(
        found["expected"], 30 * np.exp(fit.coef.iloc[0] + (va + vb) / 2), rtol=1e-6
    )
    effects = fit.tidy("random").query("group == 'a'")["estimate"]
    np.testing.assert_allclose(found["shrunken"], np.exp(effects - va / 2), rtol=1e-6)


def test_normal_responses_and_linear_models():
    data = ranef.data.load("Dyestuff")
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", data)
    found = ranef.standardized_ratios(fit).tidy()
    mean = fit.coef.iloc[0]
    np.testing.assert_allclose(found["expected"], 5 * mean)
    b = fit.tidy("random")
    np.testing.assert_allclose(found["shrunken"], 1 + b["estimate"] / mean)
    np.testing.assert_allclose(found["conf_low"], 1 + b["conf_low"] / mean)
    raw = data.groupby("Batch", observed=True)["Yield"].sum().to_numpy()
    reach = stats.norm.ppf(0.975) * fit.sigma * np.sqrt(5)
    np.testing.assert_allclose(found["ratio_low"], (raw - reach) / (5 * mean))
    again = ranef.glmm("Yield ~ 1 + (1 | Batch)", data, family="gaussian", reml=True)
    np.testing.assert_allclose(
        ranef.standardized_ratios(again).tidy()["shrunken"], found["shrunken"], rtol=1e-4
    )
    with pytest.raises(ModelError, match="normal responses"):
        ranef.standardized_ratios(fit).funnel()
    centred = {"y": data["Yield"] - 1527.5, "Batch": data["Batch"]}
    with pytest.raises(ModelError, match="not positive"):
        ranef.standardized_ratios(ranef.lmm("y ~ 0 + (1 | Batch)", centred))


# --- limits


def test_poisson_limits_invert_the_two_tails(agree, poisson):
    table = ranef.standardized_ratios(poisson).tidy()
    seen, E = table["observed"], table["expected"]
    some = seen > 0
    np.testing.assert_allclose(stats.poisson.sf(seen - 1, table["ratio_low"] * E)[some], 0.025)
    agree("ranef.standardized_ratios", "tail of the upper limits, counts of 25 wards",
          stats.poisson.cdf(seen, table["ratio_high"] * E), np.full(len(E), 0.025),
          peer="exact Poisson tail", rtol=1e-7)  # fmt: skip
    low, high = poisson_limits(np.array([0.0]), np.array([2.0]), 0.95)
    assert low[0] == 0
    assert high[0] == pytest.approx(-np.log(0.025) / 2)


def test_binomial_limits_invert_the_two_tails(binomial):
    table = ranef.standardized_ratios(binomial).tidy()
    seen, N, E = table["observed"], table["exposure"], table["expected"]
    p_low, p_high = table["ratio_low"] * E / N, table["ratio_high"] * E / N
    np.testing.assert_allclose(stats.binom.sf(seen - 1, N, p_low), 0.025)
    np.testing.assert_allclose(stats.binom.cdf(seen, N, p_high), 0.025)
    at_the_ends = binomial_limits(
        np.array([0.0, 7.0]), np.array([7.0, 7.0]), np.array([3.5, 3.5]), 0.95
    )
    assert at_the_ends[0][0] == 0
    assert at_the_ends[1][1] == 2


def test_overdispersed_counts_have_wider_limits():
    data = wards(family="nbinom2", seed=5)
    fit = ranef.glmm("y ~ kind + (1 | ward) + offset(log(days))", data, family="nbinom2")
    found = ranef.standardized_ratios(fit)
    assert found.found.limits == "negative binomial by moments"
    table = found.tidy()
    seen, E = table["observed"].to_numpy(), table["expected"].to_numpy()
    mu, phi = fit.fitted("typical"), fit.dispersion["phi"]
    squares = by(data, np.asarray(mu) ** 2) / phi
    for column, tail in (("ratio_low", "sf"), ("ratio_high", "cdf")):
        r = table[column].to_numpy()
        some = r > 0
        mean, variance = r * E, r * E + r**2 * squares
        size = mean**2 / (variance - mean)
        law = stats.nbinom(size[some], (size / (size + mean))[some])
        p = law.sf(seen[some] - 1) if tail == "sf" else law.cdf(seen[some])
        np.testing.assert_allclose(p, 0.025, rtol=1e-6)
    low, high = poisson_limits(seen, E, 0.95)
    assert np.all(table["ratio_high"] > high)
    assert np.all(table["ratio_low"] <= low)


def test_extra_zeros_widen_the_limits_as_their_variance_says():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(20), 30)
    y = rng.poisson(np.exp(1 + rng.normal(0, 0.4, 20)[g])) * (rng.random(600) < 0.7)
    fit = ranef.glmm("y ~ 1 + (1 | g)", {"y": y, "g": g}, family="poisson", zero="~ 1")
    found = ranef.standardized_ratios(fit)
    assert found.found.limits == "negative binomial by moments"
    table = found.tidy()
    np.testing.assert_allclose(table["expected"], 30 * fit.fitted("typical").iloc[0])
    np.testing.assert_allclose(table["shrunken"], np.exp(fit.tidy("random")["estimate"]))
    p = 1 / (1 + np.exp(-fit.tidy().query("component == 'zero'")["estimate"].item()))
    for column, tail in (("ratio_low", "sf"), ("ratio_high", "cdf")):
        mu = table[column] * table["expected"] / 30 / (1 - p)
        variance = 30 * (1 - p) * mu * (1 + p * mu)
        size = (30 * (1 - p) * mu) ** 2 / (variance - 30 * (1 - p) * mu)
        law = stats.nbinom(size, size / (size + 30 * (1 - p) * mu))
        seen = table["observed"]
        np.testing.assert_allclose(law.sf(seen - 1) if tail == "sf" else law.cdf(seen), 0.025)


def test_a_root_link_has_variance_in_proportion_to_the_mean():
    data = wards(family="nbinom1", seed=6)
    fit = ranef.glmm(
        "y ~ 1 + (1 | ward)", data, family=ranef.families.NegativeBinomial1(link="sqrt")
    )
    found = ranef.standardized_ratios(fit)
    table, phi = found.tidy(), fit.dispersion["phi"]
    mean = table["ratio_high"] * table["expected"]
    law = stats.nbinom(mean / phi, 1 / (1 + phi))
    np.testing.assert_allclose(law.cdf(table["observed"]), 0.025, rtol=1e-6)
    with pytest.raises(ModelError, match="log, logit and cloglog"):
        ranef.rank(fit, scale="ratio")
    ranks = ranef.rank(fit, scale="response").tidy()
    eta = fit.coef.iloc[0] + fit.tidy("random")["estimate"]
    np.testing.assert_allclose(ranks["estimate"], eta**2)


def test_betabinomial_counts_have_fewer_effective_trials():
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(20), 5)
    p = rng.beta(3, 7, len(g)) * np.exp(rng.normal(0, 0.2, 20))[g]
    n = np.full(len(g), 30)
    y = rng.binomial(n, np.minimum(p, 1))
    fit = ranef.glmm(
        "cbind(y, n - y) ~ 1 + (1 | g)", {"y": y, "n": n, "g": g}, family="betabinomial"
    )
    found = ranef.standardized_ratios(fit)
    table = found.tidy()
    assert "effective" in found.found.limits
    low, high = binomial_limits(
        *(table[c].to_numpy() for c in ("observed", "exposure", "expected")), 0.95
    )
    assert np.all(table["ratio_low"] < low)
    assert np.all(table["ratio_high"] > high)


def test_coverage_of_the_exact_limits_is_at_least_nominal():
    rng = np.random.default_rng(7)
    E = np.full(20_000, 3.7)
    low, high = poisson_limits(rng.poisson(1.3 * E).astype(float), E, 0.9)
    assert np.mean((low <= 1.3) & (high >= 1.3)) > 0.9
    drawn = rng.negative_binomial(2.5, 2.5 / (2.5 + 1.3 * 3.7), 3_000).astype(float)
    low, high = moment_limits(drawn, E[:3000], lambda r: r * 3.7 + (r * 3.7) ** 2 / 2.5, 0.9)
    assert np.mean((low <= 1.3) & (high >= 1.3)) > 0.885


# --- Poisson-Gamma


def test_poisson_gamma_is_that_of_the_reference(agree):
    """R 4.2.2: optim on dnbinom, reltol 1e-14, then qgamma and pgamma."""
    rows = REFERENCE["tab"]
    seen, E = (np.array([r[c] for r in rows], dtype=float) for c in ("incidence", "E"))
    found = poisson_gamma.poisson_gamma(seen, E)
    call, peer = "standardized_ratios().poisson_gamma()", "R 4.2.2, optim on dnbinom"
    agree(call, "shape and rate, cbpp", [found.a, found.b], [2.444338, 2.080994],
          peer=peer, atol=2e-6)  # fmt: skip
    agree(call, "log-likelihood, cbpp", -found.loglik, 44.204054, peer=peer, atol=1e-6)
    values = {
        "EB": found.estimate, "lo": found.low, "hi": found.high, "p_gt1": found.above,
        "B": 1 - found.reliability,
    }  # fmt: skip
    agree(call, "ratios, limits, P(> 1) and shrinkage of herds, cbpp", list(values.values()),
          [[r[column] for r in rows] for column in values], peer=peer, rtol=2e-6)  # fmt: skip


def test_poisson_gamma_is_near_the_lognormal_model(poisson):
    ratios = ranef.standardized_ratios(poisson, reference="population")
    gamma, own = ratios.poisson_gamma(), ratios.tidy()
    assert np.corrcoef(np.log(gamma["shrunken"]), np.log(own["shrunken"]))[0, 1] > 0.99
    assert np.abs(np.log(gamma["shrunken"] / own["shrunken"])).max() < 0.15


def test_poisson_gamma_refuses_what_it_cannot(binomial):
    with pytest.raises(ModelError, match="proportions"):
        ranef.standardized_ratios(binomial).poisson_gamma()
    E = np.full(30, 10.0)
    with pytest.raises(ModelError, match="no spread"):
        poisson_gamma.poisson_gamma(np.full(30, 10.0), E)
    with pytest.raises(ModelError, match="no events"):
        poisson_gamma.poisson_gamma(np.zeros(30), E)


# --- funnels


def test_exact_limits_of_a_funnel_interpolate_the_quantiles(agree):
    """Spiegelhalter (2005), appendix A.1.1, written out for one count."""
    found = funnel_.funnel(funnel_.Counts(np.array([4.0]), np.array([6.3])), target=1.0)
    limits, written = [], []
    for k, level in enumerate((0.95, 0.998)):
        for p, own in (((1 - level) / 2, found.low), ((1 + level) / 2, found.high)):
            r = stats.poisson.ppf(p, 6.3)
            alpha = (stats.poisson.cdf(r, 6.3) - p) / stats.poisson.pmf(r, 6.3)
            limits.append(own[k, 0])
            written.append(max(r - alpha, 0) / 6.3)
    agree("standardized_ratios().funnel()", "95% and 99.8% limits at 6.3 expected", limits, written,
          peer="Spiegelhalter (2005), A.1.1", rtol=1e-6)  # fmt: skip
    n, p0 = 40.0, 0.2
    found = funnel_.funnel(
        funnel_.Counts(np.array([9.0]), np.array([n * p0]), np.array([n])), target=1.1
    )
    r = stats.binom.ppf(0.975, n, 1.1 * p0)
    alpha = (stats.binom.cdf(r, n, 1.1 * p0) - 0.975) / stats.binom.pmf(r, n, 1.1 * p0)
    assert found.high[0, 0] == pytest.approx((r - alpha) / (n * p0))


def test_few_levels_lie_outside_by_chance_and_limits_are_nested():
    rng = np.random.default_rng(3)
    E = rng.uniform(2, 200, 20_000)
    found = funnel_.funnel(funnel_.Counts(rng.poisson(E).astype(float), E), target=1.0)
    assert np.mean(np.abs(found.side) >= 1) == pytest.approx(0.05, abs=0.006)
    assert np.mean(np.abs(found.side) == 2) == pytest.approx(0.002, abs=0.0015)
    assert np.all(found.low[1] <= found.low[0])
    assert np.all(found.high[1] >= found.high[0])
    # winsorised scores of counts; the mean square of 10% winsorised normal ones is 0.679
    assert found.chance == pytest.approx(0.6787, abs=1e-4)
    assert found.phi == pytest.approx(found.chance, abs=0.03)


@pytest.mark.parametrize("robust", ["none", "winsorise", "trim"])
def test_between_level_variance_is_that_of_the_moments(robust):
    rng = np.random.default_rng(1)
    E = rng.uniform(20, 300, 60)
    seen = rng.poisson(E * np.exp(rng.normal(0, 0.3, 60))).astype(float)
    found = funnel_.funnel(
        funnel_.Counts(seen, E), target=1.0, overdispersion="additive", robust=robust
    )
    y, s = np.sqrt(seen / E), 1 / (2 * np.sqrt(E))
    z = (y - 1) / s
    low, high = np.quantile(z, [0.1, 0.9])
    keep = (z >= low) & (z <= high)
    z, w = {
        "none": (z, 1 / s**2),
        "winsorise": (np.clip(z, low, high), 1 / s**2),
        "trim": (z[keep], 1 / s[keep] ** 2),
    }[robust]
    q = len(z)
    tau2 = (np.sum(z**2) - (q - 1)) / (w.sum() - np.sum(w**2) / w.sum())
    assert found.phi == pytest.approx(np.mean(z**2))
    assert found.tau**2 == pytest.approx(tau2)
    reach = stats.norm.ppf(0.975) * np.sqrt(s**2 + tau2)
    np.testing.assert_allclose(found.low[0], np.maximum(1 - reach, 0) ** 2)
    np.testing.assert_allclose(found.high[0], (1 + reach) ** 2)


def test_moments_find_the_spread_of_many_levels():
    rng = np.random.default_rng(8)
    E = rng.uniform(50, 500, 4000)
    seen = rng.poisson(E * (1 + rng.normal(0, 0.2, 4000)) ** 2).astype(float)
    found = funnel_.funnel(
        funnel_.Counts(seen, E), target=1.0, overdispersion="additive", robust="none"
    )
    assert found.tau == pytest.approx(0.2, abs=0.01)
    assert np.mean(found.side != 0) == pytest.approx(0.05, abs=0.01)
    n = rng.integers(50, 500, 4000).astype(float)
    angle = np.arcsin(np.sqrt(0.3)) + rng.normal(0, 0.1, 4000)
    seen = rng.binomial(n.astype(int), np.sin(angle) ** 2).astype(float)
    found = funnel_.funnel(
        funnel_.Counts(seen, 0.3 * n, n), target=1.0, overdispersion="additive", robust="none"
    )
    assert found.tau == pytest.approx(0.1, abs=0.006)
    assert np.mean(found.side != 0) == pytest.approx(0.05, abs=0.01)
    wide = funnel_.funnel(
        funnel_.Counts(seen, 0.3 * n, n),
        target=1.0,
        overdispersion="multiplicative",
        robust="none",
    )
    assert np.mean(wide.side != 0) == pytest.approx(0.05, abs=0.015)


def test_no_variance_is_added_where_counts_vary_less_than_by_chance():
    E = np.linspace(5, 50, 30)
    found = funnel_.funnel(funnel_.Counts(E.copy(), E), overdispersion="additive")
    assert found.tau == 0
    assert not found.side.any()


FAMILIES = {
    "poisson": lambda rng, mu: rng.poisson(mu),
    "nbinom2": lambda rng, mu: rng.poisson(mu * rng.gamma(1, 1, len(mu))),
    "nbinom1": lambda rng, mu: rng.negative_binomial(mu / 3, 1 / 4),
    "genpois": lambda rng, mu: np.round(mu + rng.normal(0, 0.6 * np.sqrt(mu))).clip(0),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("overdispersion", ["none", "additive", "multiplicative"])
def test_limits_centre_and_scores_are_those_of_the_fitted_model(family, overdispersion):
    """Levels alike but for chance: as many lie outside as chance puts there."""
    rng = np.random.default_rng(3)
    ward = np.repeat(np.arange(60), 30)
    days = rng.integers(20, 120, 1800)
    mu = days * 0.04 * np.exp(rng.normal(0, 0.05, 60)[ward])
    data = pd.DataFrame({"w": ward, "days": days, "y": FAMILIES[family](rng, mu)})
    fit = ranef.glmm("y ~ offset(log(days)) + (1 | w)", data, family=family)
    ratios = ranef.standardized_ratios(fit)
    funnel = ratios.funnel(overdispersion=overdispersion)
    assert funnel.found.target == 1.0
    table, own = funnel.tidy(), ratios.tidy()
    for level, label in ((0.95, "95%"), (0.998, "99.8%")):
        outside = np.abs(table.z) > stats.norm.ppf(0.5 + level / 2)
        beyond = (table.ratio > table[f"high_{label[:-1]}"]) | (
            table.ratio < table[f"low_{label[:-1]}"]
        )
        assert (outside == beyond).all()
    assert ((table.status == "inside") == (np.abs(table.z) <= stats.norm.ppf(0.975))).all()
    assert (table.status != "inside").mean() < 0.15
    far = table.status.str.contains("99.8") & (own.ratio_low < 1) & (own.ratio_high > 1)
    assert not far.any()
    if overdispersion == "none":
        words = " ".join(str(funnel).split())
        named = "exact Poisson limits" if family == "poisson" else f"that the {family} model gives"
        assert named in words
        assert "around 1.000" in words


@pytest.mark.parametrize("over", [0.4, 1.0, 3.0, 20.0])
def test_moment_laws_cover_as_they_say(over):
    """Counts of a known variance: 5% outside the 95% limits."""
    rng = np.random.default_rng(5)
    E = rng.uniform(20, 300, 20_000)
    if over > 1:
        seen = rng.negative_binomial(E / (over - 1), 1 / over)
    elif over < 1:
        trials = np.round(E / (1 - over)).astype(int)
        seen = rng.binomial(trials, E / trials)
    else:
        seen = rng.poisson(E)
    counts = funnel_.Counts(seen.astype(float), E, None, lambda r: over * r * E)
    found = funnel_.funnel(counts, target=1.0)
    assert np.mean(found.side != 0) == pytest.approx(0.05, abs=0.008)
    low, high = moment_limits(counts.observed, E, lambda r: over * r * E, 0.95)
    assert np.mean((low > 1) | (high < 1)) == pytest.approx(0.045, abs=0.012)


def test_the_overall_ratio_can_be_the_centre(poisson):
    funnel = ranef.standardized_ratios(poisson).funnel(target="overall")
    counts = funnel.found.counts
    assert funnel.found.target == pytest.approx(counts.observed.sum() / counts.expected.sum())


def test_table_and_words_of_a_funnel(poisson):
    ratios = ranef.standardized_ratios(poisson)
    funnel = ratios.funnel(target=1.0)
    table = funnel.tidy()
    names = [f"{side}_{level}" for level in ("95", "99.8") for side in ("low", "high")]
    assert table.columns.tolist()[5:9] == names
    for _, row in table.iterrows():
        outer = row["ratio"] > row["high_99.8"] or row["ratio"] < row["low_99.8"]
        inner = row["ratio"] > row["high_95"] or row["ratio"] < row["low_95"]
        expected = "99.8%" if outer else "95%" if inner else "inside"
        assert row["status"].endswith(expected)
    assert (table["status"] != "inside").any()
    limits = funnel.limits(50)
    assert np.all(np.diff(limits["high_99.8"]) < 0.02)
    assert "exact Poisson limits" in repr(funnel)
    assert "no causal statement" in repr(funnel)
    text = repr(ratios)
    for words in (
        "exact Poisson",
        "typical ward",
        "no causal statement",
        "kind, the offset log(days)",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: ranef.standardized_ratios(f, "herds"), "did you mean 'herd'"),
        (lambda f: ranef.standardized_ratios(f, reference="mean"), "reference='mean'"),
        (lambda f: ranef.standardized_ratios(f, threshold=0), "threshold must be positive"),
        (lambda f: ranef.standardized_ratios(f, per="k"), "per must be a number"),
        (lambda f: ranef.standardized_ratios(f).funnel(levels=[95]), "write 0.95"),
        (lambda f: ranef.standardized_ratios(f).funnel(share=0.5), "below 0.5"),
        (lambda f: ranef.standardized_ratios(f).funnel(robust="drop"), "robust='drop'"),
        (lambda f: ranef.standardized_ratios(f).funnel(overdispersion=True), "overdispersion=True"),
        (lambda f: ranef.standardized_ratios(f).funnel(target=-1.0), "target must be positive"),
    ],
)
def test_what_cannot_be_answered_says_why(binomial, call, message):
    with pytest.raises(ModelError, match=message):
        call(binomial)


def test_families_without_counts_are_refused():
    fit = ranef.glmm("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative")
    with pytest.raises(ModelError, match="has none of these"):
        ranef.standardized_ratios(fit)
    data = wards()
    some = {name: np.asarray(values)[data["y"] > 0] for name, values in data.items()}
    fit = ranef.glmm("y ~ 1 + (1 | ward)", some, family="truncated_poisson")
    with pytest.raises(ModelError, match="truncated_poisson"):
        ranef.standardized_ratios(fit)


def test_a_saved_fit_answers_the_same(poisson, tmp_path):
    poisson.save(tmp_path / "wards.ranef")
    again = ranef.load(tmp_path / "wards.ranef")
    for ask in (
        lambda fit: ranef.rank(fit).tidy(),
        lambda fit: ranef.standardized_ratios(fit).tidy(),
        lambda fit: fit.shrinkage(),
    ):
        a, b = (ask(fit).select_dtypes("number") for fit in (poisson, again))
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_missing_rows_are_left_out_of_the_sums():
    data = wards()
    data["days"] = np.where(np.arange(150) % 10 == 3, np.nan, data["days"])
    fit = ranef.glmm("y ~ kind + (1 | ward) + offset(log(days))", data, family="poisson")
    found = ranef.standardized_ratios(fit).tidy()
    there = np.isfinite(data["days"])
    np.testing.assert_allclose(found["observed"], by(data, np.where(there, data["y"], 0)))
    np.testing.assert_allclose(found["exposure"], by(data, np.where(there, data["days"], 0)))
    assert found["n_rows"].sum() == there.sum()


def test_a_singular_fit_has_ratios_of_one():
    data = wards(seed=1, spread=0.0)
    fit = ranef.glmm("y ~ kind + (1 | ward) + offset(log(days))", data, family="poisson")
    assert fit.optimum.singular
    found = ranef.standardized_ratios(fit).tidy()
    np.testing.assert_allclose(found["shrunken"], 1)
    np.testing.assert_allclose(found["prob_above"], 0.5)
    assert found["reliability"].isna().all()


# --- pictures


def test_pictures_show_the_tables(poisson, tmp_path):
    import matplotlib.pyplot as plt

    ratios = ranef.standardized_ratios(poisson)
    ranking = ranef.rank(poisson, order="descending")
    figure, panels = plt.subplots(1, 4)
    league, ranks, funnel, arrows = (
        ratios.plot(ax=panels[0]),
        ranking.plot(ax=panels[1]),
        ratios.funnel().plot(ax=panels[2]),
        poisson.plot.shrinkage(ax=panels[3]),
    )
    assert [league, ranks, funnel, arrows] == list(panels)
    table = ratios.tidy(sort=True)
    assert [t.get_text() for t in league.get_yticklabels()] == table["level"].tolist()
    own = next(line for line in league.lines if "shrunken" in str(line.get_label()))
    np.testing.assert_allclose(own.get_xdata(), table["shrunken"])
    order = ranking.tidy(sort=True)
    np.testing.assert_allclose(ranks.lines[0].get_xdata(), order["expected_rank"])
    status = ratios.funnel().tidy()["status"]
    outside = next(line for line in funnel.lines if line.get_label() == "outside")
    assert len(outside.get_xdata()) == (status != "inside").sum()
    assert len(funnel.texts) == (status != "inside").sum()
    raw = next(line for line in arrows.lines if line.get_label() == "raw")
    assert len(raw.get_xdata()) == np.isfinite(poisson.shrinkage()["raw"]).sum()
    figure.savefig(tmp_path / "all.png")
    plt.close("all")


def test_pictures_by_the_fit(poisson):
    import matplotlib.pyplot as plt

    assert "expected ranks" in poisson.plot.ranks("ward", scale="ratio").get_title(loc="left")
    wide = poisson.plot.funnel("ward", overdispersion="additive")
    assert "funnel" in wide.get_title(loc="left")
    interval, bars = poisson.plot.random(), poisson.plot.random(bars="comparison")
    assert "not different at 95%" in bars.get_xlabel()

    def width(ax):
        return np.ptp([s[:, 0] for s in ax.collections[0].get_segments()], axis=1)

    ratio = width(bars) / width(interval)
    np.testing.assert_allclose(ratio, 1 / np.sqrt(2), rtol=1e-6)
    with pytest.raises(ModelError, match="bars is"):
        poisson.plot.random(bars="83")
    plt.close("all")


def test_picture_of_two_dimensions_and_of_levels_without_raw_estimates():
    import matplotlib.pyplot as plt

    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    ax = fit.plot.shrinkage()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("(Intercept)", "Days")
    assert len(ax.texts) == 18
    assert fit.plot.shrinkage(terms="Days").get_xlabel().startswith("Days")
    with pytest.raises(ModelError, match="did you mean 'Days'"):
        fit.plot.shrinkage(terms="Dayz")
    data = wards()
    data["y"] = np.where(np.array(data["ward"]) == "w03", 0, data["y"])
    fit = ranef.glmm("y ~ kind + (1 | ward) + offset(log(days))", data, family="poisson")
    assert "1 of 25 have no raw estimate" in fit.plot.shrinkage().get_title(loc="left")
    text = alt_text(fit, "shrinkage")
    assert "24 of 25 levels have a raw estimate" in text
    raw, own = (fit.shrinkage()[c].dropna() for c in ("raw", "estimate"))
    assert f"from {raw.std(ddof=0):.3g} to {own[raw.index].std(ddof=0):.3g}" in text
    plt.close("all")
