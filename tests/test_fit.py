"""The fit as a user meets it: attributes, tables, words, labels, threads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import twin

import ranef
from ranef.covariance import structure_of
from ranef.description.convergence import optimum_line
from ranef.errors import ConvergenceWarning, DataError, ModelError, RankWarning

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return ranef.data.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep):
    return ranef.lmm(FORMULA, sleep)


@pytest.fixture(scope="module")
def gappy(sleep):
    """Sleepstudy with row labels of its own and five rows that cannot be used."""
    table = sleep.copy()
    table.index = pd.Index([f"row {i}" for i in range(len(table))], name="row")
    table.loc[table.index[[3, 50, 51]], "Reaction"] = np.nan
    table.loc[table.index[[51, 99, 120]], "Days"] = np.nan
    return table


# --- the package ---------------------------------------------------------------------


def test_import_costs_neither_pandas_nor_scipy():
    heavy = "'pandas scipy formulaic narwhals matplotlib pyarrow tqdm polars'.split()"
    code = f"import sys, ranef; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_listed_and_present():
    assert set(ranef.__all__) == set(dir(ranef))
    assert all(getattr(ranef, name) is not None for name in ranef.__all__)
    assert ranef.__version__.count(".") >= 1


def test_unknown_public_name_is_met_with_a_suggestion():
    with pytest.raises(AttributeError, match="did you mean 'lmm'"):
        ranef.lmn  # noqa: B018


# --- attributes ----------------------------------------------------------------------


def test_attributes_are_the_estimate_labelled(fit):
    assert fit.formula == FORMULA
    assert fit.n_obs == 180
    assert fit.n_groups == {"Subject": 18}
    assert fit.reml
    pd.testing.assert_series_equal(
        fit.coef,
        pd.Series([251.405104848487, 10.4672859595956], ["(Intercept)", "Days"], name="estimate"),
        rtol=1e-7,
    )
    assert list(fit.vcov.index) == list(fit.vcov.columns) == ["(Intercept)", "Days"]
    np.testing.assert_array_equal(fit.vcov.to_numpy(), fit.estimate.coefficient_vcov)
    assert fit.df_model == 6
    assert fit.deviance == -2 * fit.loglik
    assert fit.aic == pytest.approx(fit.deviance + 12)
    assert fit.bic == pytest.approx(fit.deviance + 6 * np.log(180))


def test_a_fit_cannot_be_changed(fit):
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.estimate = None
    coef = fit.coef
    coef["Days"] = 0.0
    fit.theta[:] = 0.0
    assert fit.coef["Days"] == pytest.approx(10.467286)
    assert fit.theta[0] == pytest.approx(0.9667, abs=1e-4)


def test_statsmodels_names_say_the_same(fit):
    fixed = fit.tidy().set_index("term")
    pd.testing.assert_series_equal(fit.params, fit.coef)
    for name, column in [("bse", "std_error"), ("tvalues", "statistic"), ("pvalues", "p_value")]:
        np.testing.assert_allclose(getattr(fit, name), fixed[column], rtol=1e-12)
    np.testing.assert_allclose(fit.conf_int(0.1)[1], fit.tidy(conf_level=0.9)["conf_high"])
    pd.testing.assert_frame_equal(fit.cov_params(), fit.vcov)
    assert (fit.llf, fit.nobs, fit.df_resid) == (fit.loglik, 180, 178)
    pd.testing.assert_series_equal(fit.fittedvalues, fit.fitted())
    pd.testing.assert_series_equal(fit.resid, fit.residuals())


# --- tidy ----------------------------------------------------------------------------


def test_tidy_fixed_has_the_settled_columns(fit):
    table = fit.tidy()
    assert list(table.columns) == [
        "component", "term", "estimate", "std_error", "df", "statistic", "p_value",
        "conf_low", "conf_high",
    ]  # fmt: skip
    np.testing.assert_allclose(table["df"], [17, 17], rtol=1e-6)
    assert set(table["component"]) == {"conditional"}


def test_tidy_exponentiate_carries_estimate_and_bounds(fit):
    plain, carried = fit.tidy(), fit.tidy(exponentiate=True)
    for column in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(carried[column], np.exp(plain[column]))
    for column in ("std_error", "statistic", "p_value"):
        np.testing.assert_allclose(carried[column], plain[column])


def test_tidy_variance_rows(fit):
    table = fit.tidy("variance")
    assert list(table.columns) == [
        "component", "group", "term", "term2", "parameter", "estimate", "conf_low", "conf_high",
    ]  # fmt: skip
    assert table["group"].tolist() == ["Subject"] * 3 + ["Residual"]
    assert table["parameter"].tolist() == ["sd", "sd", "corr", "sd"]
    psi = fit.estimate.covariances[0]
    sds = np.sqrt(np.diag(psi))
    expected = [*sds, psi[0, 1] / sds.prod(), fit.sigma]
    np.testing.assert_allclose(table["estimate"], expected, rtol=1e-12)
    assert (table["conf_low"] < table["estimate"]).all()
    assert (table["estimate"] < table["conf_high"]).all()


def test_tidy_random_agrees_with_the_twin(fit):
    table = fit.tidy("random")
    assert list(table.columns) == [
        "component", "group", "level", "term", "estimate", "cond_sd", "std_error",
        "conf_low", "conf_high",
    ]  # fmt: skip
    spec, theta = fit.estimate.specification, fit.theta
    given, error = twin.conditional_covariances(spec, theta)[0]
    np.testing.assert_allclose(table["estimate"], twin.modes(spec, theta)[0].T.ravel(), rtol=1e-6)
    for column, matrices in (("cond_sd", given), ("std_error", error)):
        expected = np.sqrt(np.einsum("qrr->qr", matrices)).T.ravel()
        np.testing.assert_allclose(table[column], expected, rtol=1e-6)
    assert table["level"].tolist() == list(spec.factors[0].levels) * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": "fixd"}, "did you mean 'fixed'"),
        ({"conf_level": 95}, r"for 95 percent write 0\.95"),
        ({"conf_level": "0.95"}, "must be a number"),
        ({"df": "kenward"}, "Use one of 'satterthwaite'"),
        ({"effects": "random", "exponentiate": True}, "'fixed' only"),
        ({"exponentiate": 1}, "must be True or False"),
    ],
)
def test_tidy_refuses_what_it_does_not_know(fit, arguments, message):
    with pytest.raises(ModelError, match=message):
        fit.tidy(**arguments)


def test_df_methods_differ_as_they_should(fit):
    np.testing.assert_array_equal(fit.tidy(df="residual")["df"], 178.0)
    normal = fit.tidy(df="normal")
    assert np.isinf(normal["df"]).all()
    np.testing.assert_allclose(
        normal["conf_high"] - normal["estimate"], 1.959963984540054 * normal["std_error"]
    )


def test_confint_is_the_interval_of_tidy(fit):
    np.testing.assert_array_equal(fit.confint()["conf_low"], fit.tidy()["conf_low"])
    with pytest.raises(ModelError, match="'wald'"):
        fit.confint("profil")


# --- rows ----------------------------------------------------------------------------


def test_dropped_rows_are_nan_under_the_users_labels(gappy):
    fit = ranef.lmm(FORMULA, gappy)
    dropped = gappy["Reaction"].isna() | gappy["Days"].isna()
    assert fit.n_obs == 175
    for column in (fit.fitted(), fit.residuals(), fit.residuals("pearson")):
        assert column.index.equals(gappy.index)
        np.testing.assert_array_equal(column.isna(), dropped)
    augmented = fit.augment(gappy)
    assert augmented.index.equals(gappy.index)
    np.testing.assert_array_equal(augmented["fitted"].isna(), dropped)
    assert augmented["Subject"].astype(str).tolist() == gappy["Subject"].astype(str).tolist()
    assert fit.simulate(2, rng=1).index.equals(gappy.index)
    assert "175 of 180 rows used; 5 left out: missing in" in str(fit)
    assert "Reaction (3)" in str(fit)
    assert "Days (3)" in str(fit)


def test_dropping_rows_by_hand_gives_the_same_fit(gappy):
    by_hand = ranef.lmm(FORMULA, gappy.dropna())
    assert ranef.lmm(FORMULA, gappy).loglik == by_hand.loglik
    with pytest.raises(DataError, match="Reaction"):
        ranef.lmm(FORMULA, gappy, missing="raise")


def test_residuals_by_definition(sleep):
    w = np.linspace(0.5, 2, 180)
    shift = np.linspace(-3, 3, 180)
    fit = ranef.lmm(FORMULA, sleep, weights=w, offset=shift)
    spec, e = fit.estimate.specification, fit.estimate
    marginal = spec.y - shift - spec.X @ e.beta
    b = e.modes[0][spec.factors[0].codes]
    conditional = marginal - (spec.terms[0].z * b).sum(axis=1)
    np.testing.assert_allclose(fit.residuals("marginal"), marginal, atol=1e-9)
    np.testing.assert_allclose(fit.residuals("conditional"), conditional, atol=1e-9)
    np.testing.assert_allclose(fit.residuals("response"), spec.y - fit.fitted(), atol=1e-9)
    np.testing.assert_allclose(fit.residuals("response"), conditional, atol=1e-9)
    np.testing.assert_allclose(
        fit.residuals("pearson"), conditional * np.sqrt(w) / fit.sigma, atol=1e-9
    )
    with pytest.raises(ModelError, match="did you mean 'pearson'"):
        fit.residuals("pearsn")


def test_augment_refuses_another_table_and_a_taken_name(fit, sleep):
    assert list(fit.augment(sleep).columns[:3]) == list(sleep.columns)
    with pytest.raises(DataError, match="10 rows, the one fitted had 180"):
        fit.augment(sleep.head(10))
    with pytest.raises(DataError, match="column named 'fitted'"):
        fit.augment(sleep.assign(fitted=1.0))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "dict"])
def test_answers_come_in_the_library_of_the_data(sleep, fit, library):
    text = sleep.assign(Subject=sleep["Subject"].astype(str))
    data = {
        "pandas": lambda: text,
        "polars": lambda: pl.from_pandas(text),
        "pyarrow": lambda: pa.Table.from_pandas(text),
        "dict": lambda: {name: text[name].to_numpy() for name in text},
    }[library]()
    own = ranef.lmm(FORMULA, data)
    kind = {"polars": pl.DataFrame, "pyarrow": pa.Table}.get(library, pd.DataFrame)
    tables = [
        own.tidy(), own.tidy("variance"), own.tidy("random"), own.glance(), own.augment(),
        own.simulate(2, rng=1), own.confint(), own.coef_by_level(), own.vcov,
        own.predict(data, conf_level=0.9), own.refit(own.simulate(2, rng=1)).tidy(),
    ]  # fmt: skip
    assert [type(table) for table in tables] == [kind] * len(tables)
    assert own.loglik == fit.loglik
    np.testing.assert_allclose(np.asarray(own.fitted()), fit.fitted(), rtol=1e-12)
    np.testing.assert_allclose(own.predict(data), fit.fitted(), rtol=1e-12)


def test_levels_keep_the_users_order_and_type():
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"y": rng.normal(size=60), "g": np.repeat([30, 10, 20], 20)})
    assert ranef.lmm("y ~ 1 + (1 | g)", table).tidy("random")["level"].tolist() == [10, 20, 30]
    table["g"] = pd.Categorical(table["g"], [30, 20, 10])
    assert ranef.lmm("y ~ 1 + (1 | g)", table).tidy("random")["level"].tolist() == [30, 20, 10]


# --- words ---------------------------------------------------------------------------


def test_summary_gives_the_answer(fit):
    text = str(fit)
    for part in (
        "Linear mixed model by REML: Reaction ~ Days + (Days | Subject)",
        "180 rows, all used.",
        "18 levels of Subject",
        "Satterthwaite",
        "95% low",
        "A coefficient is the difference in expected Reaction per unit of its column",
        "log-likelihood -871.814 on 6 parameters",
        "n = 180 rows",
        "Optimum proved (local, 3 starts agree); no variance at zero.",
    ):
        assert part in text
    assert "Share of the variance" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_summary_as_html_is_a_table_with_headers(fit):
    html = fit._repr_html_()
    assert html.count("<table") == html.count("<caption>") == 2
    assert '<th scope="col">estimate</th>' in html
    assert '<th scope="row">Days</th>' in html


def test_html_escapes_names():
    rng = np.random.default_rng(2)
    table = {"y": rng.normal(size=40), "<b>x</b>": rng.normal(size=40), "g": np.arange(40) % 8}
    html = ranef.lmm("y ~ `<b>x</b>` + (1 | g)", table)._repr_html_()
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html


def test_icc_is_shown_for_random_intercepts():
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    shares = [float(psi[0, 0]) for psi in fit.estimate.covariances]
    total = sum(shares) + fit.sigma**2
    expected = f"plate {shares[0] / total:.3f}, sample {shares[1] / total:.3f}"
    assert f"Share of the variance (ICC): {expected}." in str(fit)


def test_a_singular_fit_is_told_in_words_and_warns_of_nothing():
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    assert "Optimum proved (global along the whole range), on the boundary:" in str(fit)
    assert "(Batch: rank 0 of 1)" in str(fit)
    variance = fit.tidy("variance")
    assert variance["estimate"][0] == 0
    assert np.isnan(variance["conf_low"][0])
    assert np.isfinite(variance["conf_low"][1])
    assert np.isfinite(fit.tidy()["df"][0])


def test_an_unproved_optimum_is_said_and_warned_of(fit):
    from ranef.description.convergence import warn_unless_proved

    optimum = dataclasses.replace(fit.optimum, converged=False, message="", decrement=0.5)
    estimate = dataclasses.replace(fit.estimate, optimum=optimum)
    assert "a further step would lower the deviance by 0.5" in optimum_line(estimate)
    with pytest.warns(ConvergenceWarning, match="Optimum not proved"):
        warn_unless_proved(estimate)


def test_redundant_columns_are_named(sleep):
    table = sleep.assign(twice=2 * sleep["Days"])
    with pytest.warns(RankWarning, match="twice"):
        fit = ranef.lmm("Reaction ~ Days + twice + (Days | Subject)", table)
    assert list(fit.coef.index) == ["(Intercept)", "Days"]
    assert "Left out, because other columns determine them: twice." in str(fit)
    assert fit.loglik == pytest.approx(-871.814136, abs=1e-6)
    np.testing.assert_allclose(fit.predict(table), fit.fitted())


def test_equation_names_every_part(sleep):
    fit = ranef.lmm("Reaction ~ Days + (Days || Subject)", sleep, weights=np.ones(180))
    assert str(fit.equation()).splitlines()[0].startswith("Reaction[i] = b0 + b1*Days[i] + u0[")
    assert "sigma^2 / w[i]" in str(fit.equation())
    latex = fit.equation().latex
    assert latex.count(r"\begin{aligned}") == latex.count(r"\end{aligned}") == 1
    assert latex.count("{") == latex.count("}")
    assert fit.equation()._repr_latex_() == f"$${latex}$$"


def test_equation_says_the_structure(sleep):
    table = sleep.assign(day=sleep["Days"].astype(int))
    fit = ranef.lmm("Reaction ~ 1 + ar1(0 + day | Subject)", table)
    words = structure_of(fit.estimate.specification.terms[0]).description
    assert str(fit.equation()).startswith("Reaction[i] = b0 + u[Subject[i], day[i]] + e[i]")
    assert f"(Psi {words})" in str(fit.equation())
    assert words in fit.equation().latex


def test_summary_names_reference_levels_and_interactions():
    fit = ranef.lmm("yield ~ Variety * nitro + (1 | Block/Variety)", ranef.data.load("Oats"))
    text = str(fit)
    first = ranef.data.load("Oats")["Variety"].cat.categories[0]
    assert f"reference levels: Variety {first}." in text
    assert "part of an interaction holds where the other" in text


def test_plot_is_the_accessor_of_this_fit(fit):
    from ranef.api.pictures import FitPlots

    assert isinstance(fit.plot, FitPlots)
    assert fit.plot.fit is fit


def test_coefficients_by_level_add_fixed_and_random(fit):
    table = fit.coef_by_level("Subject")
    modes = fit.estimate.modes[0]
    np.testing.assert_allclose(
        table["estimate"], (fit.coef.to_numpy() + modes).T.ravel(), rtol=1e-12
    )
    spec = fit.estimate.specification
    x = np.tile([0.0, 1.0], (18, 1))
    random = [(np.arange(18, dtype=np.int32), x)]
    expected = np.sqrt(twin.prediction_variance(spec, fit.theta, x, random))
    np.testing.assert_allclose(table["std_error"][18:], expected, rtol=1e-6)
    with pytest.raises(ModelError, match="did you mean 'Subject'"):
        fit.coef_by_level("Subjct")


def test_coefficients_by_level_ask_which_group():
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    assert fit.coef_by_level("sample")["level"].tolist() == list("ABCDEF")
    with pytest.raises(ModelError, match="'plate', 'sample'"):
        fit.coef_by_level()


# --- arguments -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reml": "yes"}, "reml must be True or False"),
        ({"reml": 1}, "reml must be True or False"),
        ({"path": "singel"}, "did you mean 'single'"),
        ({"path": 3}, "use one of 'single'"),
        ({"missing": "omit"}, "Use one of 'drop', 'raise'"),
        ({"start": [1.0, np.nan, 1.0]}, "finite numbers"),
        ({"start": "one"}, "must hold numbers"),
        ({"start": [1.0]}, "3"),
        ({"n_jobs": 0}, "at least 1"),
        ({"n_jobs": 1.5}, "whole number"),
        ({"progress": "bar"}, "progress must be True or False"),
    ],
)
def test_arguments_are_checked_with_words(sleep, arguments, message):
    with pytest.raises(ModelError, match=message):
        ranef.lmm(FORMULA, sleep, **arguments)


def test_options_are_by_keyword_only(sleep):
    with pytest.raises(TypeError):
        ranef.lmm(FORMULA, sleep, False)


def test_start_and_threads_do_not_change_the_answer(sleep, fit):
    other = ranef.lmm(FORMULA, sleep, start=[2.0, 0.1, 0.5], n_jobs=2, path="single")
    assert other.loglik == pytest.approx(fit.loglik, abs=1e-7)
    np.testing.assert_allclose(other.theta, fit.theta, atol=1e-5)


def test_progress_shows_the_evaluations_when_asked(sleep, fit, capsys):
    shown = ranef.lmm(FORMULA, sleep, progress=True)
    assert shown.loglik == fit.loglik
    assert f"fitting: {fit.optimum.evaluations} evaluations" in capsys.readouterr().err
    ranef.lmm(FORMULA, sleep, progress=False)
    ranef.lmm(FORMULA, sleep)
    assert capsys.readouterr().err == ""


def test_plan_names_the_path(sleep):
    assert ranef.plan(FORMULA, sleep).path == "single"
    assert str(ranef.plan(FORMULA, sleep))
    with pytest.raises(ModelError, match="path='dense' is not known"):
        ranef.plan(FORMULA, sleep, path="dense")


# --- refit and simulate --------------------------------------------------------------


def test_simulate_repeats_itself_with_the_same_rng(fit):
    one, two = fit.simulate(3, rng=7), fit.simulate(3, rng=np.random.default_rng(7))
    pd.testing.assert_frame_equal(one, two)
    assert list(one.columns) == ["sim_1", "sim_2", "sim_3"]
    assert not np.allclose(one, fit.simulate(3, rng=8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "at least 1"),
        ({"rng": "a"}, "rng must be a whole number"),
        ({"rng": -1}, "rng must be a whole number"),
        ({"kind": "old"}, "'new', 'conditional'"),
    ],
)
def test_simulate_says_what_is_wrong(fit, arguments, message):
    with pytest.raises(ModelError, match=message):
        fit.simulate(**arguments)


@pytest.mark.parametrize("weighted", [False, True])
def test_simulated_responses_have_the_models_moments(sleep, weighted):
    w = np.linspace(0.5, 2, 180) if weighted else None
    fit = ranef.lmm(FORMULA, sleep, weights=w)
    spec, draws = fit.estimate.specification, 4000
    V = fit.sigma**2 * twin.covariance(spec, fit.theta)
    new = fit.simulate(draws, rng=3).to_numpy()[:20]
    sd = np.sqrt(np.diag(V))[:20]
    assert np.abs((new.mean(axis=1) - fit.fitted("typical")[:20]) / sd).max() < 5 / np.sqrt(draws)
    spread = np.abs(np.cov(new) - V[:20, :20]) / np.outer(sd, sd)
    assert spread.max() < 6 / np.sqrt(draws)
    kept = fit.simulate(draws, rng=4, kind="conditional").to_numpy()[:20]
    noise = fit.sigma / (np.sqrt(w[:20]) if weighted else 1.0)
    assert np.abs((kept.mean(axis=1) - fit.fitted()[:20]) / noise).max() < 5 / np.sqrt(draws)
    assert np.abs(kept.std(axis=1) / noise - 1).max() < 5 / np.sqrt(2 * draws)


def test_simulated_kernel_effects_have_its_covariance():
    rng = np.random.default_rng(11)
    q, n = 6, 60
    A = rng.normal(size=(q, q))
    K = pd.DataFrame(A @ A.T / q + np.eye(q), index=list("abcdef"), columns=list("abcdef"))
    g = np.repeat(list("abcdef"), n // q)
    codes = np.repeat(np.arange(q), n // q)
    b = 2 * np.linalg.cholesky(K.to_numpy()) @ rng.normal(size=q)
    table = pd.DataFrame({"y": b[codes] + rng.normal(size=n), "id": g})
    fit = ranef.lmm("y ~ 1 + kernel(1 | id, K)", table, kernels={"K": K})
    draws = fit.simulate(4000, rng=1).to_numpy()
    V = fit.sigma**2 * twin.covariance(fit.estimate.specification, fit.theta)
    sd = np.sqrt(np.diag(V))
    assert (np.abs(np.cov(draws) - V) / np.outer(sd, sd)).max() < 7 / np.sqrt(4000)


def test_refit_one_response_is_the_fit_of_that_response(fit, sleep):
    y = fit.simulate(1, rng=5)["sim_1"]
    again = fit.refit(y)
    fresh = ranef.lmm(FORMULA, sleep.assign(Reaction=y))
    assert again.loglik == pytest.approx(fresh.loglik, abs=1e-6)
    np.testing.assert_allclose(again.coef, fresh.coef, rtol=1e-6)
    np.testing.assert_array_equal(again.estimate.specification.y, y)
    assert fit.estimate.specification.y[0] == sleep["Reaction"][0]


def test_refit_many_is_refit_each(fit):
    drawn = fit.simulate(5, rng=6)
    many = fit.refit(drawn)
    assert many.names == tuple(drawn.columns)
    assert len(many) == 5
    assert many.converged.all()
    for j, name in enumerate(drawn):
        one = fit.refit(drawn[name])
        assert many.loglik[j] == pytest.approx(one.loglik, abs=1e-6)
        np.testing.assert_allclose(many.coef[j], one.coef, rtol=1e-5)
        assert many.sigma[j] == pytest.approx(one.sigma, rel=1e-4)
    by_array = fit.refit(drawn.to_numpy(), n_jobs=1)
    np.testing.assert_array_equal(by_array.loglik, many.loglik)
    assert by_array.names[0] == "y1"
    assert "5 responses" in repr(many)


def test_refit_takes_all_rows_or_the_used_ones(gappy):
    fit = ranef.lmm(FORMULA, gappy)
    drawn = fit.simulate(2, rng=1)
    assert drawn["sim_1"].isna().sum() == 5
    np.testing.assert_array_equal(fit.refit(drawn).coef, fit.refit(drawn.dropna()).coef)
    assert fit.refit(drawn["sim_1"]).fitted().isna().sum() == 5


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(7), "has 7 rows; the model needs 180"),
        (np.full(180, np.nan), "missing or infinite in 180"),
        (np.ones((180, 2, 2)), "shape"),
        (["a"] * 180, "must hold numbers"),
        (np.ones((180, 0)), "one response a column"),
    ],
)
def test_refit_says_what_is_wrong_with_a_response(fit, y, message):
    with pytest.raises(DataError, match=message):
        fit.refit(y)


# --- threads -------------------------------------------------------------------------


def test_one_fit_may_be_read_from_many_threads(sleep, fit):
    expected = str(fit)
    fresh = ranef.lmm(FORMULA, sleep)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: str(fresh), range(16)))
    assert set(texts) == {expected}


def test_many_fits_at_once_agree(sleep, fit):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ranef.lmm(FORMULA, sleep).loglik, range(8)))
    assert set(found) == {fit.loglik}
