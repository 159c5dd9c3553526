"""Average effects: published values, by hand, by differences, by simulation, by words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_inference_generalised import differences, joint_point, moved
from test_inference_generalised import fit as generalised_fit

import ranef
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError
from ranef.inference.rows import averaging, generalised_prediction
from ranef.models.rows import Rows

REFERENCE = json.loads((Path(__file__).parent / "reference" / "average.json").read_text("utf-8"))
SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def ohio():
    data = ranef.data.load("ohio")
    return ranef.glmm("resp ~ age * smoke + (1 | id)", data, family="binomial", quadrature=25)


@pytest.fixture(scope="module")
def cbpp():
    return ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )


def test_ohio_is_the_published_average_marginal_effect(agree, ohio):
    """R, glmer's fit by 25 nodes integrated with 101: the fits agree to 1e-5 in the sd."""
    known, peer = REFERENCE["ohio"], "lme4 1.1-31, 101 nodes"
    found = ranef.average(ohio, "smoke")
    agree("ranef.average", "average effect of smoke, ohio", found.tidy()["estimate"][0],
          known["AME_smoke"], peer=peer, atol=2e-6)  # fmt: skip
    for kind, column in (("population", "p_marginal"), ("typical", "p_b0")):
        means = ranef.average(ohio, "smoke", by="age", kind=kind).means()
        own = [
            means[(means["age"] == cell["age"]) & (means["smoke"] == str(cell["smoke"]))]
            for cell in known["grid"]
        ]
        agree(f"ranef.average(by='age', kind='{kind}')", "probabilities by age and smoke, ohio",
              [row["estimate"].iloc[0] for row in own], [cell[column] for cell in known["grid"]],
              peer=peer, atol=1e-5)  # fmt: skip


def test_every_comparison_is_of_the_averages(ohio):
    means = ranef.average(ohio, "smoke").means()["estimate"]
    p, q = means[1], means[0]
    expected = {
        "difference": p - q,
        "ratio": p / q,
        "log ratio": np.log(p / q),
        "lift": p / q - 1,
        "odds": p / (1 - p) / (q / (1 - q)),
    }
    for how, value in expected.items():
        found = ranef.average(ohio, "smoke", compare=how).tidy()
        assert found["estimate"][0] == pytest.approx(value, rel=1e-12)
        # no comparison changes on which side of no effect the estimate lies
        assert found["conf_low"][0] < value < found["conf_high"][0]
    log = ranef.average(ohio, "smoke", compare="log ratio").tidy()
    ratio = ranef.average(ohio, "smoke", compare="ratio").tidy()
    np.testing.assert_allclose(ratio["conf_low"], np.exp(log["conf_low"]))
    np.testing.assert_allclose(ratio["std_error"], ratio["estimate"] * log["std_error"])
    assert ratio["statistic"][0] == log["statistic"][0]


MODELS = ["slopes", "trials", "probit", "hurdle", "ordinal", "multinomial", "gamma", "crossed"]


@pytest.mark.parametrize("kind", ["population", "typical"])
@pytest.mark.parametrize("name", MODELS)
def test_derivatives_are_exact(name, kind):
    estimate = generalised_fit(name)
    rng = np.random.default_rng(1)
    rows = Rows.of(estimate.parts, estimate.extra)
    weights, groups = rng.uniform(1, 2, rows.n), rng.integers(0, 3, rows.n)

    def means(x):
        at = moved(estimate, x)
        return averaging.generalised_means(at, rows, weights, groups, kind=kind).value

    found = averaging.generalised_means(estimate, rows, weights, groups, kind=kind)
    J = differences(means, joint_point(estimate))
    np.testing.assert_allclose(found.jacobian, J, atol=2e-7 * max(1, np.abs(J).max()))
    mean = generalised_prediction.predict(estimate, rows, kind=kind).estimate
    mean = mean if mean.ndim == 2 else mean[:, None]
    own = [np.average(mean[groups == g], axis=0, weights=weights[groups == g]) for g in range(3)]
    np.testing.assert_allclose(found.value, np.concatenate(own), rtol=1e-10)


def test_it_is_the_contrast_of_all_rows(cbpp):
    """The other road: predict's contrasts, a row of -1/n and 1/n."""
    found = ranef.average(cbpp, "period", levels=["1", "2"])
    table = ranef.data.load("cbpp")
    n = len(table)
    both = pd.concat([table.assign(period="1"), table.assign(period="2")])
    C = np.concatenate([np.full(n, -1 / n), np.full(n, 1 / n)])[None]
    other = ranef.marginal(cbpp).contrasts(both, C)
    for column in ("estimate", "std_error", "p_value", "conf_low", "conf_high"):
        assert found.tidy()[column][0] == pytest.approx(other[column][0], rel=1e-9)


def test_blocks_of_rows_do_not_show(ohio, monkeypatch):
    whole = ranef.average(ohio, "smoke", by="age", weights=np.linspace(1, 2, 2148)).tidy()
    monkeypatch.setattr(averaging, "BLOCK", 100)
    again = ranef.average(ohio, "smoke", by="age", weights=np.linspace(1, 2, 2148)).tidy()
    pd.testing.assert_frame_equal(whole, again, rtol=1e-9)


# --- linear models


def test_a_linear_model_s_effect_is_its_coefficient():
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    found, tidy = ranef.average(fit, "Type").tidy(), fit.tidy().iloc[1:].reset_index(drop=True)
    for column in ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(found[column], tidy[column], rtol=1e-9)
    assert found["contrast"].tolist() == ["T2 - T1", "T3 - T1", "T4 - T1"]
    normal = ranef.average(fit, "Type", df="normal").tidy()
    assert np.isinf(normal["df"]).all()


def test_a_slope_with_an_interaction_by_hand():
    data = ranef.data.load("Orthodont")
    fit = ranef.lmm("distance ~ age * Sex + (age | Subject)", data)
    slope = ranef.average(fit, "age", change="slope").tidy()
    share = (data["Sex"] == "Female").mean()
    L = np.array([0, 1, 0, share if "age:SexFemale" in fit.coef.index else 1 - share])
    assert slope["estimate"][0] == pytest.approx(L @ fit.coef, rel=1e-9)
    expected = fit.hypotheses(L[None])
    assert slope["std_error"][0] == pytest.approx(expected.std_error[0], rel=1e-7)
    assert slope["df"][0] == pytest.approx(expected.df[0], rel=1e-6)
    for change, size in (("sd", data["age"].std()), (2.0, 2.0), ((8, 14), 6.0)):
        moved_by = ranef.average(fit, "age", change=change).tidy()
        assert moved_by["estimate"][0] == pytest.approx(size * slope["estimate"][0], rel=1e-9)
    low, high = data["age"].quantile([0.25, 0.75])
    between = ranef.average(fit, "age", change="iqr").tidy()
    assert between["estimate"][0] == pytest.approx((high - low) * slope["estimate"][0], rel=1e-9)


def test_a_slope_is_a_derivative_where_the_model_bends(agree, ohio):
    fit = ranef.lmm("Reaction ~ poly(Days, 3) + (1 | Subject)", ranef.data.load("sleepstudy"))
    found = ranef.average(fit, "Days", change="slope").tidy()["estimate"][0]
    x = fit.frame.rows_used()["Days"]
    h = 1e-3
    high, low = (fit.predict({"Days": x + s * h}, kind="typical") for s in (1, -1))
    assert found == pytest.approx(np.mean((high - low) / (2 * h)), rel=1e-6)
    means = ranef.average(ohio, "age", change="slope").means()
    assert means["age"].tolist() == ["as it is"]
    agree("average().means()", "mean probability over the rows, ohio", means["estimate"][0],
          REFERENCE["ohio"]["mean_marginal_mu"], peer="lme4 1.1-31, 101 nodes",
          atol=1e-5)  # fmt: skip


def test_ratios_of_linear_means_have_degrees_of_freedom():
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    found = ranef.average(fit, "Type", compare="ratio", levels=["T1", "T2"]).tidy()
    m = ranef.average(fit, "Type").means()["estimate"]
    assert found["estimate"][0] == pytest.approx(m[1] / m[0])
    gradient = np.array([1 / m[1] - 1 / m[0], 1 / m[1], 0, 0])
    expected = fit.hypotheses(gradient[None])
    assert found["std_error"][0] == pytest.approx(expected.std_error[0] * m[1] / m[0], rel=1e-9)
    assert found["df"][0] == pytest.approx(expected.df[0], rel=1e-6)


def test_conditional_averages_take_the_levels_own_effects():
    """Mean of beta + b_j over the rows; its error by the dense joint covariance of (beta, b)."""
    data = ranef.data.load("sleepstudy").iloc[:137]
    fit = ranef.lmm(SLEEP, data)
    found = ranef.average(fit, "Days", change=1.0, kind="conditional").tidy()
    spec = fit.estimate.specification
    q = spec.factors[0].n_levels
    share = np.bincount(spec.factors[0].codes, minlength=q) / spec.n
    slope = fit.coef["Days"] + share @ fit.estimate.modes[0][:, 1]
    assert found["estimate"][0] == pytest.approx(slope, rel=1e-9)
    Z = np.zeros((spec.n, 2 * q))
    for i, g in enumerate(spec.factors[0].codes):
        Z[i, 2 * g : 2 * g + 2] = spec.terms[0].z[i]
    psi = np.linalg.inv(fit.estimate.covariances[0])
    M = np.block([[spec.X.T @ spec.X, spec.X.T @ Z], [Z.T @ spec.X, Z.T @ Z]]) / fit.sigma**2
    M[2:, 2:] += np.kron(np.eye(q), psi)
    m = np.concatenate([[0, 1], np.column_stack([np.zeros(q), share]).ravel()])
    given = m @ np.linalg.solve(M, m)
    assert found["std_error"][0] ** 2 > given
    assert found["std_error"][0] ** 2 < 1.05 * given
    from ranef.derivatives.linear import effect_derivatives

    known = fit.inference.parameters
    by_beta, by_mode = effect_derivatives(fit.estimate)
    d = (by_beta[1] + share @ by_mode[0][:, 1])[known.free]
    total = given + d @ known.covariance[:-1, :-1] @ d
    assert found["std_error"][0] == pytest.approx(np.sqrt(total), rel=1e-6)


def test_conditional_averages_of_a_generalised_model(cbpp):
    """The value by predict; one herd's by its own conditional prediction and its error."""
    table = pd.DataFrame({"period": ["1"], "herd": ["1"]})
    found = ranef.average(cbpp, "period", levels=["1", "4"], population=table, kind="conditional")
    own = cbpp.predict({"period": ["1", "4"], "herd": ["1", "1"]}, conf_level=0.95)
    np.testing.assert_allclose(found.means()["estimate"], own["estimate"], rtol=1e-10)
    np.testing.assert_allclose(found.means()["std_error"], own["std_error"], rtol=1e-5)


# --- people


def test_a_target_population(ohio):
    """Averages over a table are weighted means of its rows' predictions."""
    people = pd.DataFrame({"age": [-2, 0, 1], "count": [1.0, 5.0, 2.0], "town": ["a", "b", "b"]})
    found = ranef.average(ohio, "smoke", population=people, weights="count", by="town")
    assert found.tidy()["town"].tolist() == ["a", "b"]
    mean = [ohio.predict(people.assign(smoke=s), kind="population") for s in (0, 1)]
    expected = np.average((mean[1] - mean[0])[1:], weights=[5.0, 2.0])
    assert found.tidy()["estimate"][1] == pytest.approx(expected, rel=1e-10)
    assert "3 rows of the population given, weighted" in str(found)


def test_rows_that_lack_a_value_are_left_out_and_counted(ohio):
    people = {"age": [-2.0, np.nan, 1.0]}
    found = ranef.average(ohio, "smoke", population=people)
    assert "1 rows were left out" in str(found)
    whole = ranef.average(ohio, "smoke", population={"age": [-2.0, 1.0]})
    np.testing.assert_allclose(found.tidy()["estimate"], whole.tidy()["estimate"])
    data = ranef.data.load("sleepstudy")
    data.loc[5, "Reaction"] = np.nan
    fit = ranef.lmm(SLEEP, data)
    weights = np.ones(180)
    assert ranef.average(fit, "Days", weights=weights).layout.population.n == 179


def test_messy_tables_and_other_libraries():
    import polars as pl

    data = pl.DataFrame(ranef.data.load("cbpp").to_dict("list"))
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", data, family="binomial"
    )
    found = ranef.average(fit, "period").tidy()
    assert isinstance(found, pl.DataFrame)
    assert found["contrast"].to_list() == ["2 - 1", "3 - 1", "4 - 1"]


def test_weights_by_trials_are_asked_for(cbpp):
    rows = ranef.average(cbpp, "period").tidy()["estimate"]
    animals = ranef.average(cbpp, "period", weights="size").tidy()["estimate"]
    np.testing.assert_allclose(rows, animals)  # nobody else's columns: the same people
    half = ranef.average(cbpp, "period", kind="conditional").tidy()["estimate"]
    weighted = ranef.average(cbpp, "period", kind="conditional", weights="size").tidy()["estimate"]
    assert np.abs(half - weighted).max() > 1e-4


# --- families, categories, parts


def test_categories_have_an_average_each():
    fit = ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )
    found = ranef.average(fit, "temp")
    assert found.tidy()["category"].tolist() == ["1", "2", "3", "4", "5"]
    assert found.tidy()["estimate"].sum() == pytest.approx(0, abs=1e-12)
    means = found.means().groupby("temp", observed=True)["estimate"].sum()
    np.testing.assert_allclose(means, 1.0)
    assert len(found.number_needed()) >= 5


def test_zero_inflated_means_and_their_parts():
    data = ranef.data.load("Salamanders")
    fit = ranef.glmm("count ~ mined + (1 | site)", data, family="poisson", zero="~ mined")
    means = ranef.average(fit, "mined").means()["estimate"]
    own = [
        np.mean(fit.predict(data.assign(mined=level), kind="population"))
        for level in data["mined"].cat.categories
    ]
    np.testing.assert_allclose(means, own, rtol=1e-9)
    zero = ranef.average(fit, "mined", type="zero")
    assert zero._outcome == "probability of an extra zero"
    assert len(zero.number_needed()) >= 1
    with pytest.raises(ModelError, match="compare='odds' is of probabilities"):
        ranef.average(fit, "mined", compare="odds")


# --- number needed to treat


def test_number_needed_has_two_parts_where_the_difference_may_be_zero(ohio, cbpp):
    table = ranef.average(ohio, "smoke").number_needed()
    tidy = ranef.average(ohio, "smoke").tidy().iloc[0]
    assert tidy["conf_low"] < 0 < tidy["conf_high"]
    assert table["event"].tolist() == ["fewer", "more"]
    assert np.isnan(table["estimate"][0])
    assert table["estimate"][1] == pytest.approx(1 / tidy["estimate"])
    np.testing.assert_allclose(table["conf_low"], [1 / -tidy["conf_low"], 1 / tidy["conf_high"]])
    assert np.isinf(table["conf_high"]).all()
    sure = ranef.average(cbpp, "period", levels=["1", "4"])
    row, own = sure.number_needed().iloc[0], sure.tidy().iloc[0]
    assert len(sure.number_needed()) == 1
    assert row["event"] == "fewer"
    assert row["conf_low"] == pytest.approx(-1 / own["conf_low"])
    assert row["conf_high"] == pytest.approx(-1 / own["conf_high"])
    assert "infinity for one more" in str(ranef.average(ohio, "smoke")).replace("\n", " ")
    for refused in (
        ranef.average(ohio, "smoke", compare="ratio"),
        ranef.average(ohio, "age", change="slope"),
        ranef.average(ranef.lmm(SLEEP, ranef.data.load("sleepstudy")), "Days"),
    ):
        with pytest.raises(ModelError, match="number needed to treat"):
            refused.number_needed()


# --- the bootstrap and coverage


def test_the_bootstrap_agrees_with_the_delta_method(cbpp):
    """Standard errors of 200 refits are good to 5%; the methods differ by a second order."""
    delta = ranef.average(cbpp, "period", levels=["1", "2"]).tidy()
    found = ranef.average(
        cbpp, "period", levels=["1", "2"], method="bootstrap", n=200, rng=1, progress=False
    )
    table = found.tidy()
    assert table["estimate"][0] == pytest.approx(delta["estimate"][0])
    assert table["std_error"][0] == pytest.approx(delta["std_error"][0], rel=0.25)
    assert table["p_value"][0] < 0.03
    assert found.n_failed == 0
    assert "parametric bootstrap" in str(found)
    again = ranef.average(
        cbpp, "period", levels=["1", "2"], method="bootstrap", n=30, rng=1, progress=False
    ).tidy()
    once = ranef.average(
        cbpp, "period", levels=["1", "2"], method="bootstrap", n=30, rng=1, progress=False
    ).tidy()
    pd.testing.assert_frame_equal(again, once)
    linear = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    boot = ranef.average(linear, "Type", method="bootstrap", n=200, rng=2, progress=False).tidy()
    np.testing.assert_allclose(
        boot["std_error"], ranef.average(linear, "Type").tidy()["std_error"], rtol=0.25
    )


def test_a_risk_difference_covers():
    """Bernoulli trial of 60 wards x 8, true risk difference by integration; 150 replicates."""
    rng = np.random.default_rng(5)
    ward = np.repeat(np.arange(60), 8)
    drug = np.tile([0, 1], 240)
    b = 1.2 * np.sort(rng.normal(size=200_000))
    truth = np.mean(1 / (1 + np.exp(-(-0.5 + 0.8 + b))) - 1 / (1 + np.exp(-(-0.5 + b))))
    inside = []
    for _ in range(150):
        eta = -0.5 + 0.8 * drug + 1.2 * rng.normal(size=60)[ward]
        y = (rng.random(480) < 1 / (1 + np.exp(-eta))).astype(float)
        fit = ranef.glmm(
            "y ~ drug + (1 | ward)", {"y": y, "drug": drug, "ward": ward}, family="binomial"
        )
        row = ranef.average(fit, "drug").tidy().iloc[0]
        inside.append(row["conf_low"] < truth < row["conf_high"])
    assert np.mean(inside) > 0.95 - 3 * 0.018


# --- speed


def test_many_rows_cost_little_more_than_their_prediction(ohio):
    """100,000 rows with 400 different ones: no slower than predicting 20,000 of them apart."""
    rng = np.random.default_rng(1)
    people = {"age": rng.integers(-2, 2, 100_000), "town": rng.integers(0, 50, 100_000)}
    start = time.perf_counter()
    found = ranef.average(ohio, "smoke", population=people, by="town")
    taken = time.perf_counter() - start
    assert len(found.tidy()) == 50
    few = {"age": people["age"][:20_000] + rng.normal(size=20_000), "smoke": np.zeros(20_000)}
    start = time.perf_counter()
    ohio.predict(few, kind="population", conf_level=0.95)
    assert taken < 6 * (time.perf_counter() - start)


# --- words and refusals


def test_it_says_what_it_is(ohio):
    text = " ".join(str(ranef.average(ohio, "smoke")).split())
    assert "the probability of resp if smoke were set to each value in every row" in text
    assert "averaged over the 2,148 rows of the model" in text
    assert "integrated over the random effects, so over new id" in text
    assert "needs assumptions that no model can check" in text
    assert "given age" in text
    html = ranef.average(ohio, "smoke")._repr_html_()
    assert "<table>" in html
    linear = ranef.lmm(SLEEP, ranef.data.load("sleepstudy"))
    assert "The model is linear" in str(ranef.average(linear, "Days"))


def test_refusals(ohio, cbpp):
    with pytest.raises(UnknownColumnError, match="no predictor 'smok'; did you mean 'smoke'"):
        ranef.average(ohio, "smok")
    with pytest.raises(UnknownColumnError, match="no predictor 'id'"):
        ranef.average(ohio, "id")
    with pytest.raises(LevelError, match="'period' has no category '9'"):
        ranef.average(cbpp, "period", levels=["1", "9"])
    with pytest.raises(ModelError, match="compare='diference' is not known; did you mean"):
        ranef.average(cbpp, "period", compare="diference")
    with pytest.raises(ModelError, match="holds categories"):
        ranef.average(cbpp, "period", change=1)
    with pytest.raises(ModelError, match="levels and reference, or change"):
        ranef.average(ohio, "age", change=1, levels=[0, 1])
    with pytest.raises(UnknownColumnError, match="pass the table as population="):
        ranef.average(ohio, "smoke", by="town")
    with pytest.raises(UnknownColumnError, match="no column 'tovn' in the population"):
        ranef.average(ohio, "smoke", population={"age": [0], "town": [1]}, by="tovn")
    with pytest.raises(DataError, match="weights must not be negative"):
        ranef.average(ohio, "smoke", population={"age": [0, 1]}, weights=[-1.0, 2.0])
    with pytest.raises(DataError, match="the weights have the shape"):
        ranef.average(ohio, "smoke", weights=[1.0, 2.0])
    with pytest.raises(ModelError, match="for linear models"):
        ranef.average(ohio, "smoke", df="satterthwaite")
    with pytest.raises(ModelError, match="draws new random effects"):
        ranef.average(ohio, "smoke", kind="conditional", method="bootstrap")
    with pytest.raises(ModelError, match="no zero part"):
        ranef.average(ohio, "smoke", type="zero")
    with pytest.raises(ModelError, match=r"a fit of ranef\.lmm or ranef\.glmm"):
        ranef.average("fit", "smoke")
    with pytest.raises(DataError, match="nobody to average over"):
        ranef.average(ohio, "smoke", population={"age": [np.nan]})
    with pytest.raises(ModelError, match="use compare='difference'"):
        ranef.average(ohio, "age", change="slope", compare="ratio")


def test_a_ratio_across_zero_says_nothing():
    data = ranef.data.load("sleepstudy")
    data["centred"] = data["Reaction"] - data["Reaction"].mean()
    fit = ranef.lmm("centred ~ Days + (1 | Subject)", data)
    with pytest.raises(ModelError, match="a ratio of means on both sides of zero"):
        ranef.average(fit, "Days", change=(0, 9), compare="ratio")


def test_numbers_that_a_formula_makes_categories_of_are_levels():
    data = ranef.data.load("sleepstudy")
    fit = ranef.lmm("Reaction ~ factor(Days) + (1 | Subject)", data)
    found = ranef.average(fit, "Days").tidy()
    assert found["contrast"].tolist() == [f"{d} - 0" for d in range(1, 10)]
    np.testing.assert_allclose(found["estimate"], fit.coef.to_numpy()[1:], rtol=1e-9)
    flag = data.assign(late=data["Days"] > 4)
    fit = ranef.lmm("Reaction ~ late + (1 | Subject)", flag)
    assert ranef.average(fit, "late").tidy()["contrast"].tolist() == ["True - False"]


def test_singular_fits_and_dropped_columns():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat(np.arange(6), 10)})
    data["x"] = np.tile(["a", "b"], 30)
    data["same"] = (data["x"] == "b") * 1.0
    with pytest.warns(ranef.errors.RankWarning):
        fit = ranef.lmm("y ~ x + same + (1 | g)", data)
    found = ranef.average(fit, "x")  # no row has x changed and `same` as it is
    assert np.isnan(found.tidy()["estimate"][0])
    assert "'same'" in str(found)
    events = ranef.glmm("e ~ x + (1 | g)", data.assign(e=(data["y"] > 0) * 1.0), family="binomial")
    assert np.isfinite(ranef.average(events, "x").tidy()["std_error"]).all()


def test_the_picture(ohio):
    ax = ranef.average(ohio, "smoke", by="age").plot()
    assert ax.get_title(loc="left") == "Average effect of smoke"
    assert len(ax.get_yticks()) == 4
    assert "Probability of resp, difference, 95% interval" in ax.get_xlabel()
