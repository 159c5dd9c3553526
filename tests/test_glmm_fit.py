"""`ranef.glmm`: what a generalised fit says, and that it says it the same everywhere."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    FileError,
    FormulaError,
    ModelError,
)

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def cbpp_fit(**options):
    return ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial", **options)


@pytest.fixture(scope="module")
def cbpp():
    return cbpp_fit()


@pytest.fixture(scope="module")
def salamanders():
    return ranef.glmm(
        "count ~ mined + (1 | site)",
        ranef.data.load("Salamanders"),
        family="nbinom2",
        zero="~ mined",
    )


@pytest.fixture(scope="module")
def wine():
    return ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )


@pytest.fixture(scope="module")
def three_ways():
    """A multinomial response of three categories that are not separated."""
    rng = np.random.default_rng(8)
    group = np.repeat(np.arange(30), 15)
    x = rng.normal(size=450)
    b = rng.normal(scale=0.7, size=(30, 2))[group]
    odds = np.exp(np.column_stack([np.zeros(450), 0.3 + 0.8 * x + b[:, 0], b[:, 1] - 0.5 * x]))
    below = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    code = (rng.random(450)[:, None] > below).sum(axis=1)
    data = pd.DataFrame(
        {"way": pd.Categorical.from_codes(code, ["car", "bus", "bike"]), "x": x, "town": group}
    )
    return ranef.glmm("way ~ x + (1 | town)", data, family="multinomial")


def test_known_optima(cbpp, wine):
    # lme4 and glmmTMB 1.1.9 (tests/reference/glmm.R); ordinal::clmm for the wine
    assert cbpp.loglik == pytest.approx(-92.026282, abs=2e-6)
    assert cbpp_fit(quadrature=25).loglik == pytest.approx(-91.983369, abs=2e-6)
    assert cbpp_fit(link="probit").loglik == pytest.approx(-92.583338, abs=2e-6)
    assert cbpp_fit(link="cloglog").loglik == pytest.approx(-91.758002, abs=2e-6)
    assert wine.loglik == pytest.approx(-81.5653, abs=1e-3)


REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "glmm.json").read_text(encoding="utf-8")
)
ORDER = {
    "spp": ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"],
    "mined": ["yes", "no"],
    "livch": ["0", "1", "2", "3+"],
}


@pytest.mark.parametrize("name", [c for c in REFERENCE["cases"] if c != "verbagg"])
def test_reaches_glmmtmb_from_formula_and_table(name):
    case = REFERENCE["cases"][name]
    data = pd.DataFrame(REFERENCE["tables"][case["table"]])
    for column, levels in ORDER.items():
        if column in data and set(data[column].astype(str)) <= set(levels):
            data[column] = pd.Categorical(data[column].astype(str), levels)
    fit = ranef.glmm(
        case["formula"], data, family=case["family"], link=case["link"],
        zero=case["zero"], dispersion=case["dispersion"], reml=case["reml"],
    )  # fmt: skip
    assert fit.optimum.converged
    assert fit.loglik == pytest.approx(case["loglik"], abs=2e-5)
    assert fit.loglik >= case["loglik"] - 1e-6
    if name != "salamanders_full":  # its zero part is nearly flat
        fixed = fit.tidy().query("component == 'conditional'")
        np.testing.assert_allclose(fixed.estimate, case["conditional"], rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(fixed.std_error, case["std_errors"], rtol=1e-3)


def test_gaussian_is_the_linear_model():
    sleep = ranef.data.load("sleepstudy")
    formula = "Reaction ~ Days + (Days | Subject)"
    general = ranef.glmm(formula, sleep, family="gaussian")
    linear = ranef.lmm(formula, sleep, reml=False)
    assert general.loglik == pytest.approx(linear.loglik, abs=1e-7)
    np.testing.assert_allclose(general.coef, linear.coef, rtol=1e-6)
    assert general.dispersion["sigma"] == pytest.approx(linear.sigma, rel=1e-6)
    sd = general.tidy("variance").query("parameter == 'sd'").estimate.to_numpy()
    np.testing.assert_allclose(sd, np.sqrt(np.diag(linear.estimate.covariances[0])), rtol=1e-5)
    varied = ranef.glmm(formula, sleep, family="gaussian", dispersion="~ Days")
    assert varied.loglik > general.loglik
    assert varied.tidy().component.tolist() == ["conditional"] * 2 + ["dispersion"] * 2


def test_summary_tells_ratios_components_and_whose_coefficients(cbpp, salamanders, wine):
    text = str(cbpp)
    assert "odds ratio" in text
    assert "0.371" in text  # exp(-0.992)
    assert "99 successes in 842 trials" in text
    assert "subject-specific" in text
    assert "ranef.marginal(fit)" in text
    text = str(salamanders)
    assert "rate ratio" in text
    assert "Zero part: log odds of an extra zero" in text
    assert "Var(y) = mu (1 + mu / phi)" in text
    text = " ".join(str(wine).split())
    assert "Thresholds" in text
    assert "4|5" in text
    assert "1 < 2 < 3 < 4 < 5" in text
    assert "odds ratio" not in str(cbpp_fit(link="probit"))
    assert "<table>" in cbpp._repr_html_()


def test_the_words_of_every_dispersion_are_the_family_s_variance():
    from ranef.families import FAMILIES, family
    from ranef.models.family_words import variance_words

    for name in set(FAMILIES) - {"multinomial"}:
        found = family(name)
        if any(p.name == "dispersion" for p in found.parameters):
            assert variance_words(found).startswith("Var(y)")


def test_tidy(cbpp, salamanders, three_ways):
    fixed = cbpp.tidy()
    assert fixed.columns.tolist() == [
        "component", "term", "estimate", "std_error", "df", "statistic", "p_value",
        "conf_low", "conf_high",
    ]  # fmt: skip
    # summary(glmmTMB) of the same model
    np.testing.assert_allclose(fixed.estimate, [-1.39853, -0.99233, -1.12867, -1.58031], atol=2e-5)
    np.testing.assert_allclose(fixed.std_error, [0.23245, 0.30663, 0.32665, 0.42745], atol=1e-4)
    ratio = cbpp.tidy(exponentiate=True)
    np.testing.assert_allclose(ratio.conf_low, np.exp(fixed.conf_low))
    np.testing.assert_allclose(ratio.std_error, fixed.std_error)
    parts = salamanders.tidy()
    assert parts.component.unique().tolist() == ["conditional", "dispersion", "zero"]
    variance = salamanders.tidy("variance")
    assert variance.group.tolist() == ["site"]
    ways = three_ways.tidy()
    assert ways.response.tolist() == ["bus", "bus", "bike", "bike"]
    assert three_ways.tidy("random").response.unique().tolist() == ["bus", "bike"]
    assert three_ways.coef.index.tolist() == [
        "bus: (Intercept)", "bus: x", "bike: (Intercept)", "bike: x",
    ]  # fmt: skip
    with pytest.raises(ModelError, match="no ratio of coefficients under the link 'probit'"):
        cbpp_fit(link="probit").tidy(exponentiate=True)


def test_thresholds_are_not_exponentiated(wine):
    plain, carried = wine.tidy(), wine.tidy(exponentiate=True)
    own = plain.component == "threshold"
    assert plain.term[own].tolist() == ["1|2", "2|3", "3|4", "4|5"]
    np.testing.assert_array_equal(plain.estimate[own], carried.estimate[own])
    np.testing.assert_allclose(np.exp(plain.estimate[~own]), carried.estimate[~own])


def test_names_of_statsmodels_readers(cbpp):
    np.testing.assert_allclose(cbpp.params, cbpp.tidy().estimate)
    np.testing.assert_allclose(cbpp.bse, cbpp.tidy().std_error)
    np.testing.assert_allclose(cbpp.pvalues, cbpp.tidy().p_value)
    np.testing.assert_allclose(cbpp.conf_int()[0], cbpp.tidy().conf_low)
    assert (cbpp.nobs, cbpp.df_resid, cbpp.llf) == (56, 52, cbpp.loglik)


def test_a_fit_of_a_generalised_model_has_no_sigma(cbpp):
    assert not hasattr(cbpp, "sigma")
    with pytest.raises(ModelError, match="df='satterthwaite'"):
        cbpp.tidy(df="satterthwaite")


def test_predictions(cbpp, wine, three_ways):
    new = {"period": ["1", "4", "1"], "herd": ["1", "1", "new"]}
    mean = cbpp.predict(new)
    link = cbpp.predict(new, type="link")
    np.testing.assert_allclose(mean, 1 / (1 + np.exp(-link)))
    assert mean[2] == pytest.approx(cbpp.predict(new, kind="typical")[2])
    typical = cbpp.predict(new, kind="typical", conf_level=0.9)
    population = cbpp.predict(new, kind="population", conf_level=0.9)
    assert (population.estimate > typical.estimate).all()  # below one half, averages are higher
    assert ((typical.conf_low < typical.estimate) & (typical.estimate < typical.conf_high)).all()
    chance = wine.predict()
    assert chance.shape == (72, 5)
    np.testing.assert_allclose(chance.sum(axis=1), 1.0)
    assert set(three_ways.predict(type="class")) <= {"car", "bus", "bike"}
    long = three_ways.predict({"x": [0.0], "town": [0]}, conf_level=0.95)
    assert long.category.tolist() == ["car", "bus", "bike"]
    assert long.estimate.sum() == pytest.approx(1.0)


def test_missing_rows_are_missing_in_answers():
    data = ranef.data.load("cbpp")
    data.loc[3, "incidence"] = np.nan
    fit = ranef.glmm(CBPP, data, family="binomial")
    assert fit.n_obs == 55
    assert np.flatnonzero(fit.fitted().isna()).tolist() == [3]
    assert np.flatnonzero(fit.simulate(1, rng=1)["sim_1"].isna()).tolist() == [3]
    assert fit.predict({"period": ["1", None], "herd": ["1", "1"]}).tolist()[1:] == [
        pytest.approx(math.nan, nan_ok=True)
    ]


def test_answers_come_in_the_library_of_the_data(three_ways):
    data = ranef.data.load("cbpp", "polars")
    fit = ranef.glmm(CBPP, data, family="binomial")
    for table in (fit.tidy(), fit.tidy("variance"), fit.augment(), fit.glance()):
        assert isinstance(table, pl.DataFrame)
    assert ranef.marginal(fit).tidy().columns[0] == "term"


def test_augment(cbpp, wine):
    own = cbpp.augment(ranef.data.load("cbpp"))
    assert own.columns.tolist()[:4] == ["herd", "incidence", "size", "period"]
    np.testing.assert_allclose(own.residual, own.incidence / own["size"] - own.fitted)
    chances = wine.augment()
    assert chances.columns.tolist() == ["rating", "judge", *(f"fitted_{j}" for j in range(1, 6))]
    assert chances.rating.tolist() == ranef.data.load("wine").rating.tolist()


def test_simulate_and_refit(cbpp, wine):
    drawn = cbpp.simulate(3, rng=5)
    pd.testing.assert_frame_equal(drawn, cbpp.simulate(3, rng=5))
    many = cbpp.refit(drawn)
    one = cbpp.refit(drawn["sim_2"])
    np.testing.assert_allclose(many.coef[1], one.coef)
    assert many.tidy().columns.tolist()[-2:] == ["loglik", "converged"]
    categories = wine.simulate(2, rng=1)
    assert set(categories["sim_1"]) <= set("12345")
    assert wine.refit(categories).terms == ("tempwarm", "contactyes", "1|2", "2|3", "3|4", "4|5")
    with pytest.raises(DataError, match="'6' in row 0; its categories are"):
        wine.refit(["6", *["1"] * 71])


def test_quantile_residuals_are_standard_normal_when_the_model_holds():
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(60), 10)
    x = rng.normal(size=600)
    mu = np.exp(0.3 + 0.5 * x + rng.normal(scale=0.6, size=60)[group])
    data = {"y": rng.poisson(mu).astype(float), "x": x, "g": group}
    right = ranef.glmm("y ~ x + (1 | g)", data, family="poisson").residuals("quantile")
    assert abs(right.mean()) < 0.2  # few groups: the mean has sd near 0.08
    assert 0.85 < right.std() < 1.15
    data["y"] = data["y"] * 4
    wrong = ranef.glmm("y ~ x + (1 | g)", data, family="poisson").residuals("quantile")
    assert wrong.std() > 1.2
    assert (
        wrong == ranef.glmm("y ~ x + (1 | g)", data, family="poisson").residuals("quantile")
    ).all()


@pytest.mark.parametrize("name", ["cbpp", "salamanders", "wine", "three_ways"])
def test_a_saved_fit_is_the_same_fit(name, request, tmp_path):
    fit = request.getfixturevalue(name)
    fit.save(tmp_path / "a.ranef")
    again = ranef.load(tmp_path / "a.ranef")
    assert isinstance(again, ranef.GeneralizedMixedModelFit)
    assert str(again) == str(fit)
    assert str(again.equation()) == str(fit.equation())
    pd.testing.assert_frame_equal(again.tidy("random"), fit.tidy("random"))
    pd.testing.assert_frame_equal(again.simulate(1, rng=3), fit.simulate(1, rng=3))
    np.testing.assert_array_equal(again.predict(kind="typical"), fit.predict(kind="typical"))


def test_priors_quadrature_and_reml_are_saved(tmp_path):
    priors = {"sd": ranef.priors.Gamma(2, 0.1), "fixed": ranef.priors.Normal(0, 2.5)}
    for options in ({"priors": priors}, {"quadrature": 9}, {"reml": True}):
        fit = cbpp_fit(**options)
        fit.save(tmp_path / "a.ranef")
        again = ranef.load(tmp_path / "a.ranef")
        assert str(again) == str(fit)
        assert again.estimate.priors == fit.estimate.priors
        assert again.glance().criterion[0] == fit.glance().criterion[0]


def test_a_tampered_file_is_refused(cbpp, tmp_path):
    import zipfile

    cbpp.save(tmp_path / "a.ranef")

    def edited(change):
        with zipfile.ZipFile(tmp_path / "a.ranef") as old:
            members = {name: old.read(name) for name in old.namelist()}
        head = json.loads(members["fit.json"])
        change(head["values"]["estimate"])
        members["fit.json"] = json.dumps(head).encode()
        with zipfile.ZipFile(tmp_path / "b.ranef", "w") as new:
            for name, content in members.items():
                new.writestr(name, content)
        return tmp_path / "b.ranef"

    changes = [
        lambda v: v["family"].update({"class": "nonsense"}),
        lambda v: v["family"].update(link="nonsense"),
        lambda v: v.update(runaway=[99]),
        lambda v: v.update(parts={}),
        lambda v: v.update(priors={"sd": {"class": "Path", "shape": 2, "rate": 0.1}}),
        lambda v: v.update(quadrature="many"),
    ]
    for change in changes:
        with pytest.raises(FileError, match="damaged"):
            ranef.load(edited(change))


def test_marginal_coefficients_of_ohio():
    # GLMMadaptive::marginal_coefs by Monte Carlo: -0.14175, 0.30108, 0.07114
    fit = ranef.glmm(
        "resp ~ age * smoke + (1 | id)", ranef.data.load("ohio"), family="binomial", quadrature=25
    )
    average = ranef.marginal(fit)
    table = average.tidy()
    np.testing.assert_allclose(table.estimate[1:], [-0.14156, 0.30043, 0.07101], atol=2e-5)
    np.testing.assert_allclose(table.conditional, fit.coef)
    np.testing.assert_allclose(table.attenuation, table.estimate / table.conditional)
    assert (np.abs(table.estimate) < np.abs(table.conditional)).all()
    assert "attenuation" in str(average)
    new = {"age": [0.0, 1.0], "smoke": [1.0, 1.0]}
    np.testing.assert_array_equal(average.predict(new), fit.predict(new, kind="population"))
    with pytest.raises(ModelError, match=r"takes a fit of ranef\.glmm"):
        ranef.marginal(ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff")))


def test_laplace_warning_of_ohio():
    with pytest.warns(DataWarning, match="median of 4 trials.*quadrature=25"):
        ranef.glmm("resp ~ age + (1 | id)", ranef.data.load("ohio"), family="binomial")


def separated(high=1.0):
    rng = np.random.default_rng(1)
    x = np.tile([0.0, 1.0], 100)
    y = np.where(x == 1, high, rng.integers(0, 2, 200))
    return {"y": y, "treated": x, "g": np.repeat(np.arange(20), 10)}


@pytest.mark.parametrize(("high", "direction"), [(1.0, "plus"), (0.0, "minus")])
def test_separation_is_named(high, direction):
    with pytest.warns(ConvergenceWarning, match=f"treated towards {direction} infinity"):
        fit = ranef.glmm("y ~ treated + (1 | g)", separated(high), family="binomial")
    assert not fit.optimum.converged
    assert "no finite estimate exists" in str(fit)


def test_a_prior_gives_a_finite_estimate_where_the_data_do_not():
    held = {"fixed": ranef.priors.Normal(0, 2.5)}
    fit = ranef.glmm("y ~ treated + (1 | g)", separated(), family="binomial", priors=held)
    assert fit.optimum.converged
    assert 2 < fit.coef["treated"] < 10
    assert "Normal(mean=0, sd=2.5)" in str(fit)


def test_plan_of_a_generalised_model():
    data = ranef.data.load("Salamanders")
    plan = ranef.plan("count ~ mined + (1 | site)", data, family="nbinom2", zero="~ spp")
    assert (plan.n, plan.p, plan.n_parameters, plan.path) == (644, 10, 1, "single")
    with pytest.raises(ModelError, match="give a family too"):
        ranef.plan("count ~ mined + (1 | site)", data, zero="~ spp")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"family": "binomal"}, ModelError, "did you mean 'binomial'"),
        ({"family": 3}, ModelError, "family must be a name"),
        ({"family": "binomial", "link": "loglog"}, ModelError, "takes no link 'loglog'"),
        ({"family": "binomial", "zero": "1"}, FormulaError, "begins with '~'"),
        ({"family": "binomial", "quadrature": 0}, ModelError, "at least 1"),
        ({"family": "binomial", "quadrature": 2.5}, ModelError, "whole number"),
        ({"family": "binomial", "reml": 1}, ModelError, "reml must be True or False"),
        ({"family": "poisson"}, (ModelError, DataError), "cbind"),
        ({"family": "binomial", "start": "a"}, ModelError, "start must hold numbers"),
    ],
)
def test_wrong_arguments_are_told(options, error, words):
    with pytest.raises(error, match=words):
        ranef.glmm(CBPP, ranef.data.load("cbpp"), **options)


def test_equations(cbpp, salamanders, wine, three_ways):
    assert "logit(mu[i]) = b0" in str(cbpp.equation())
    assert "0 with probability p[i], else Negative binomial 2" in str(salamanders.equation())
    assert "c[j] - (" in str(wine.equation())
    assert "log P(way[i] = bus) / P(way[i] = car)" in str(three_ways.equation())
    for fit in (cbpp, salamanders, wine, three_ways):
        latex = fit.equation().latex
        assert latex.count("{") == latex.count("}")


def test_import_stays_light():
    import subprocess
    import sys

    code = (
        "import sys, ranef; ranef.families; ranef.glmm; "
        "sys.exit(any(m in sys.modules for m in ('pandas', 'scipy', 'matplotlib', 'formulaic')))"
    )
    folder = Path(ranef.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(folder)})
    assert done.returncode == 0
