"""Marginal means against emmeans, against algebra by hand, and at their limits.

`tests/reference/emmeans.json` (emmeans 1.8.4-1 with lme4 1.1-31, lmerTest 3.1-3, pbkrtest
0.5.2) and `marginal_means.json` (its script beside it, with glmmTMB 1.1.5 and ordinal
2022.11-16) hold the reference values. Where emmeans differs it is said at the test:
its slopes are one-sided differences, its multi-row tests have the smallest of the rows'
degrees of freedom where ours (and lmerTest's) are Fai and Cornelius', and its mvt is
Monte Carlo to three digits.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.covariance import structure_of
from ranef.design.recipe import Recipe
from ranef.errors import (
    DataError,
    LevelError,
    ModelError,
    RankWarning,
    UnknownColumnError,
)
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.parameters import parameter_covariance

matplotlib.use("Agg")

HERE = Path(__file__).parent / "reference"
BASE = json.loads((HERE / "emmeans.json").read_text("utf-8"))
MORE = json.loads((HERE / "marginal_means.json").read_text("utf-8"))
TABLES = json.loads((HERE / "marginal_means_data.json").read_text("utf-8"))
TRIAL = pd.DataFrame(TABLES["trial"])
OATS = ranef.data.load("Oats")
DROPPED = [1, 2, 3, 5, 8, 13, 21, 34, 55]

METHOD = {
    "satterthwaite": "satterthwaite",
    "kenward-roger": "kenward-roger",
    "asymptotic": "normal",
}
ESTIMATE = ("emmean", "estimate", "response", "prob", "ratio", "odds.ratio", "mean.class")
CONTRAST = ("lower.CL", "asymp.LCL")
EMMEANS = "emmeans 1.8.4-1"


def column(rows, *names):
    """Values of the first of these columns that there is; null is NaN."""
    name = next(n for n in names if any(n in row for row in rows))
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)


class Tables:
    """Tables of ours beside those of emmeans; each kind of value is compared over all of them."""

    def __init__(self):
        self.ours, self.theirs, self.scale = {}, {}, np.inf

    def see(self, kind, ours, theirs):
        ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
        assert ours.shape == theirs.shape
        self.ours.setdefault(kind, []).append(ours)
        self.theirs.setdefault(kind, []).append(theirs)

    def add(self, found, rows, *, estimate=(), df=True, interval=True, p_value=True):
        """A table of ours and the rows of emmeans; `df` false: the estimates and errors alone."""
        table = found.tidy()
        expected = column(rows, *estimate, *ESTIMATE)
        self.see("estimates and errors", table["estimate"], expected)
        self.see("estimates and errors", table["std_error"], column(rows, "SE"))
        if df:
            theirs = column(rows, "df")
            theirs = np.where(np.isnan(theirs) & ~np.isnan(expected), np.inf, theirs)
            self.see("df", table["df"], theirs)
        if df and interval and any(name in rows[0] for name in CONTRAST):
            low, high = column(rows, *CONTRAST), column(rows, "upper.CL", "asymp.UCL")
            self.scale = min(self.scale, np.nanmax(np.abs(high - low)))
            self.see("limits", table["conf_low"], low)
            self.see("limits", table["conf_high"], high)
        if df and p_value and "p.value" in rows[0]:
            self.see("p-values", table["p_value"], column(rows, "p.value"))
        return self

    def compare(self, agree, call, model, rtol=1e-6, df_rtol=None):
        """One comparison for each kind of value seen; of df apart where their tolerance is."""
        if df_rtol is None and "df" in self.ours:
            for seen in (self.ours, self.theirs):
                own = [*seen.pop("estimates and errors"), *seen.pop("df")]
                seen["estimates, errors, df"] = own
        allowed = {
            "estimates, errors, df": {"rtol": rtol},
            "estimates and errors": {"rtol": rtol},
            "df": {"rtol": df_rtol},
            "limits": {"rtol": 1e-5, "atol": 1e-5 * self.scale},
            "p-values": {"rtol": 1e-3, "atol": 1e-9},
        }  # fmt: skip
        for kind, ours in self.ours.items():
            theirs = np.concatenate(self.theirs[kind])
            agree(call, f"{kind}, {model}", np.concatenate(ours), theirs, peer=EMMEANS,
                  **allowed[kind])  # fmt: skip


def quiet(formula, table, **rest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        return ranef.lmm(formula, table, **rest)


def fitted(name):
    if name == "ergo":
        return ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    if name == "oats_add":
        return ranef.lmm("yield ~ Variety + factor(nitro) + (1 | Block/Variety)", OATS)
    if name == "oats_int":
        return ranef.lmm("yield ~ Variety * factor(nitro) + (1 | Block/Variety)", OATS)
    if name == "oats_unbal":
        table = OATS.drop(index=OATS.index[[i - 1 for i in DROPPED]])
        return ranef.lmm("yield ~ Variety + factor(nitro) + (1 | Block/Variety)", table)
    if name == "orth":
        table = ranef.data.load("Orthodont")
        table["Sex"] = pd.Categorical(table["Sex"].astype(str), ["Female", "Male"])
        return ranef.lmm("distance ~ age * Sex + (I(age - 11) | Subject)", table)
    if name == "additive":
        formula = "y ~ treatment + sex + site + log(dose) + poly(age, 2) + (1 | clinic)"
        return ranef.lmm(formula, TRIAL)
    if name == "crossed":
        return ranef.lmm("y ~ treatment * sex + age * treatment + I(age^2) + (1 | clinic)", TRIAL)
    if name == "holed":
        return quiet("y ~ treatment * site + age + (1 | clinic)", TRIAL)
    if name == "cbpp":
        formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
        return ranef.glmm(formula, pd.DataFrame(TABLES["cbpp"]), family="binomial")
    if name == "owls":
        formula = "calls ~ food * sex + offset(log(brood)) + (1 | nest)"
        table = pd.DataFrame(TABLES["Owls"])
        return ranef.glmm(formula, table, family="nbinom2", zero="~ food")
    assert name == "wine"
    table = pd.DataFrame(TABLES["wine"])
    table["rating"] = pd.Categorical(table["rating"], ordered=True)
    return ranef.glmm("rating ~ temp + contact + (1 | judge)", table, family="cumulative")


FITS: dict[str, object] = {}


def fit(name):
    if name not in FITS:
        FITS[name] = fitted(name)
    return FITS[name]


# --- the values of emmeans, each method of df


ALL = "by Satterthwaite, Kenward-Roger and normal"


def test_stools_by_emmeans(agree):
    seen, adjusted = Tables(), Tables()
    for theirs, df in METHOD.items():
        reference = BASE["ergo"][theirs]
        means = ranef.emmeans(fit("ergo"), "Type", df=df)
        seen.add(means, reference["emm"])
        for adjust, rows in reference["pairs"].items():
            adjusted.add(means.contrasts(adjust=adjust), rows)
        for adjust, rows in reference["trtvsctrl"].items():
            name = "dunnettx" if adjust == "dunnett" else adjust
            found = means.contrasts("trt.vs.ctrl", adjust=name)
            adjusted.add(found, rows, interval=adjust != "dunnett")
    seen.compare(agree, "ranef.emmeans(df=...)", f"Type, ergoStool, {ALL}")
    adjusted.compare(
        agree, "emmeans().contrasts(adjust=...)",
        f"pairs and against a control by all adjustments, ergoStool, {ALL}",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["oats_add", "oats_unbal"])
def test_oats_by_emmeans(agree, name):
    own, seen = fit(name), Tables()
    for theirs, df in METHOD.items():
        reference = BASE[name][theirs]
        seen.add(ranef.emmeans(own, "Variety", df=df), reference["variety"])
        seen.add(ranef.emmeans(own, "nitro", df=df), reference["nitro"])
        seen.add(ranef.contrasts(own, "nitro", df=df), reference["pairs"])
        if name == "oats_add":
            found = ranef.contrasts(own, "nitro", "polynomial", df=df)
            seen.add(found, reference["poly"])
            seen.add(ranef.contrasts(own, "Variety", df=df), reference["pairsV"])
    which = {"oats_add": "Oats", "oats_unbal": "Oats less 9 rows"}[name]
    what = f"means and contrasts of Variety and nitro, {which}, {ALL}"
    # the derivatives of lmerTest are numerical
    df_rtol = None if name == "oats_add" else 1e-5
    seen.compare(agree, "ranef.emmeans(df=...)", what, df_rtol=df_rtol)


def test_oats_with_interaction_by_emmeans(agree):
    own, seen = fit("oats_int"), Tables()
    F, p = [], []
    for theirs, df in METHOD.items():
        reference = BASE["oats_int"][theirs]
        seen.add(ranef.emmeans(own, "nitro | Variety", df=df), reference["by"])
        means = ranef.emmeans(own, ["Variety", "nitro"], df=df)
        seen.add(means.contrasts(interaction=["pairwise", "poly"]), reference["ic"])
        for by, key in ((None, "joint"), ("Variety", "joint_by")):
            table, rows = means.joint_tests(by=by).tidy(), reference[key]
            np.testing.assert_array_equal(table["df1"], column(rows, "df1"))
            F += zip(table["statistic"], column(rows, "F.ratio"), strict=True)
            p += zip(table["p_value"], column(rows, "p.value"), strict=True)
    # lmer stops that far from the optimum, see the next test
    rest = {"rtol": 5e-6, "df_rtol": 1e-4}
    model = f"Variety * nitro, Oats, {ALL}"
    what = f"nitro | Variety and contrasts of interactions of {model}"
    seen.compare(agree, "ranef.emmeans(df=...)", what, **rest)
    agree("emmeans().joint_tests()", f"F, printed to three digits, {model}", *zip(*F, strict=True),
          peer=EMMEANS, atol=5e-4)  # fmt: skip
    agree("emmeans().joint_tests()", f"p-values, {model}", *zip(*p, strict=True),
          peer=EMMEANS, rtol=1e-4)  # fmt: skip


def test_a_balanced_split_plot_has_the_standard_error_of_its_mean_squares(agree):
    """9.1069774; emmeans has 9.1070103, as lmer stopped short of the optimum."""
    y = OATS.assign(plot=OATS["Block"].astype(str) + OATS["Variety"].astype(str))
    treated = y.groupby(["Variety", "nitro"], observed=True)["yield"].transform("mean")
    blocks = y.groupby("Block", observed=True)["yield"].transform("mean") - y["yield"].mean()
    variety = y.groupby("Variety", observed=True)["yield"].transform("mean")
    plots = y.groupby("plot")["yield"].transform("mean") - variety - blocks
    rest = y["yield"] - treated - blocks - plots
    block, plot, error = ((e**2).sum() / n for e, n in ((blocks, 5), (plots, 10), (rest, 45)))
    s2, w, b = error, (plot - error) / 4, (block - plot) / 12
    found = ranef.emmeans(fit("oats_int"), "nitro | Variety").tidy()["std_error"]
    agree("ranef.emmeans", "standard errors of nitro | Variety, Oats with interaction", found,
          np.sqrt(np.full(len(found), (s2 + w + b) / 6)), peer="mean squares",
          rtol=1e-9)  # fmt: skip


def test_growth_by_emmeans(agree):
    own, seen = fit("orth"), Tables()
    for theirs, df in METHOD.items():
        reference = BASE["orth"][theirs]
        slopes = ranef.emtrends(own, "Sex", "age", df=df)
        seen.add(slopes, reference["trends"], estimate=("age.trend",))
        seen.add(slopes.contrasts(), reference["trend_pairs"])
        found = ranef.emmeans(own, "Sex | age", at={"age": [8, 14]}, df=df)
        seen.add(found, reference["at"])
    rest = {"rtol": 3e-6}  # lmer stops that far from the optimum
    what = f"slopes of age and means at two ages, Orthodont, {ALL}"
    seen.compare(agree, "ranef.emtrends, ranef.emmeans(at=...)", what, **rest)


def test_mvt_is_monte_carlo_in_emmeans_and_stated_here(agree):
    found = ranef.contrasts(fit("ergo"), "Type", adjust="mvt")
    rows = BASE["ergo"]["mvt_kr"]
    call = "ranef.contrasts(adjust='mvt')"
    agree(call, "p-values of pairs, ergoStool (theirs by draws)", found.tidy()["p_value"],
          column(rows, "p.value"), peer=EMMEANS, atol=2e-4)  # fmt: skip
    agree(call, "lower limits of pairs, ergoStool (theirs by draws)", found.tidy()["conf_low"],
          column(rows, "lower.CL"), peer=EMMEANS, atol=2e-3)  # fmt: skip
    exact = ranef.contrasts(fit("ergo"), "Type", adjust="tukey").tidy()["p_value"]
    agree(call, "p-values of all pairs, ergoStool", found.tidy()["p_value"], exact,
          peer="studentised range", atol=5e-5)  # fmt: skip
    assert "standard error of the integral" in str(found)


# --- weights, covariates, transformations


def test_weights_by_emmeans(agree):
    own, seen = fit("additive"), Tables()
    for weights in ("equal", "proportional", "outer", "cells", "flat"):
        found = ranef.emmeans(own, "treatment", weights=weights)
        seen.add(found, MORE["weights"][weights])
    found = ranef.emmeans(own, "treatment | sex", weights="proportional")
    seen.add(found, MORE["weights"]["by"])
    seen.add(ranef.emmeans(own, "treatment", weights=range(1, 7)), MORE["weights"]["given"])
    seen.compare(agree, "ranef.emmeans(weights=...)", "treatment by seven ways of weighting, trial")


def test_cell_weights_of_a_saturated_model_give_the_fixed_part_of_the_rows():
    own = ranef.lmm("y ~ treatment * sex + (1 | clinic)", TRIAL)
    found = ranef.emmeans(own, "treatment", weights="cells").tidy()
    typical = pd.Series(own.fitted("typical")).groupby(TRIAL["treatment"]).mean()
    np.testing.assert_allclose(found["estimate"], typical, rtol=1e-10)


def test_covariates_stand_at_their_raw_mean_or_where_asked(agree):
    own = fit("additive")
    at = {"age": [40, 60], "dose": 2, "treatment": ["C", "A"]}
    seen = Tables().add(ranef.emmeans(own, ["treatment", "age"], at=at), MORE["at"])
    seen.add(ranef.emmeans(own, "age", cov_reduce="range"), MORE["range"])
    seen.add(ranef.emmeans(own, "~ 1"), MORE["overall"])
    two = ranef.lmm("y ~ treatment + visit + (1 | clinic)", TRIAL)
    seen.add(ranef.emmeans(two, "visit"), MORE["two_valued"])
    seen.compare(agree, "ranef.emmeans(at=..., cov_reduce=...)", "values of covariates, trial")
    median = ranef.emmeans(own, "dose", cov_reduce={"dose": np.median}).tidy()
    assert median["dose"].tolist() == [TRIAL["dose"].median()]
    every = ranef.emmeans(own, "dose", cov_reduce={"dose": "keep"})
    assert len(every) == TRIAL["dose"].nunique()


def test_a_number_with_two_values_is_kept_at_both():
    own = ranef.lmm("y ~ treatment + visit + (1 | clinic)", TRIAL)
    assert ranef.emmeans(own, "visit").tidy()["visit"].tolist() == [1, 2]
    mean = ranef.emmeans(own, "visit", cov_reduce={"visit": "mean"}).tidy()
    assert mean["visit"].tolist() == [TRIAL["visit"].mean()]


def test_booleans_and_conditions_are_factors():
    table = TRIAL.assign(old=TRIAL["age"] > 50)
    by_column = ranef.lmm("y ~ old + treatment + (1 | clinic)", table)
    assert ranef.emmeans(by_column, "old").tidy()["old"].tolist() == [False, True]
    by_condition = ranef.lmm("y ~ I(age > 50) + treatment + (1 | clinic)", table)
    one, two = (
        ranef.contrasts(by_column, "old", "revpairwise").tidy(),
        ranef.contrasts(by_condition, "age", "revpairwise", at={"age": [30, 60]}).tidy(),
    )
    np.testing.assert_allclose(one["estimate"], two["estimate"])
    np.testing.assert_allclose(one["estimate"], by_column.coef["oldTRUE"])


def test_an_interaction_that_is_averaged_over_is_named():
    found = ranef.emmeans(fit("crossed"), "treatment")
    assert any("interacts with sex" in note for note in found.notes)
    assert not any("mislead" in note for note in ranef.emmeans(fit("additive"), "treatment").notes)


def test_interactions_simple_effects_and_contrasts_by_emmeans(agree):
    means = ranef.emmeans(fit("crossed"), "~ treatment * sex")
    seen = Tables().add(means, MORE["interaction"]["means"])
    seen.add(means.contrasts(simple="sex"), MORE["interaction"]["simple"])
    found = means.contrasts(interaction=["consec", "pairwise"])
    seen.add(found, MORE["interaction"]["contrast"])
    call = "emmeans().contrasts(simple=..., interaction=...)"
    seen.compare(agree, call, "treatment * sex with an interaction of age, trial", df_rtol=1e-5)
    split = ranef.contrasts(fit("crossed"), "pairwise ~ treatment | sex").tidy()
    np.testing.assert_allclose(means.contrasts(by="sex").tidy()["p_value"], split["p_value"])


def test_joint_tests_by_emmeans(agree):
    F, df2 = [], []
    asked = {"joint": {}, "joint_by": {"by": "sex"}, "joint_at": {"at": {"age": 30}}}
    for key, options in asked.items():
        table = ranef.joint_tests(fit("crossed"), **options).tidy()
        rows = MORE["interaction"][key]
        assert table["term"].tolist() == [row["model term"] for row in rows]
        np.testing.assert_array_equal(table["df1"], column(rows, "df1"))
        F += zip(table["statistic"], column(rows, "F.ratio"), strict=True)
        single = table["df1"].to_numpy() == 1
        df2 += zip(table["df2"][single], column(rows, "df2")[single], strict=True)
    call, model = "ranef.joint_tests(by=..., at=...)", "three tables, trial"
    agree(call, f"F, printed to three digits, {model}", *zip(*F, strict=True),
          peer=EMMEANS, atol=6e-4)  # fmt: skip
    agree(call, f"df2 of single rows, printed to two digits, {model}", *zip(*df2, strict=True),
          peer=EMMEANS, atol=6e-3)  # fmt: skip


def test_joint_tests_do_not_depend_on_the_coding():
    own = fit("crossed")
    coded = ranef.lmm(own.formula, TRIAL, contrasts={"treatment": "sum", "sex": "helmert"})
    one, two = (ranef.joint_tests(f).tidy() for f in (own, coded))
    np.testing.assert_allclose(one["statistic"], two["statistic"], rtol=1e-6)
    np.testing.assert_allclose(one["df2"], two["df2"], rtol=1e-5)


OWN = {"ab": [1, -1, 0], "abc": [0.5, 0.5, -1]}


def test_contrast_methods_by_emmeans(agree):
    seen = Tables()
    for name, rows in MORE["methods"].items():
        method, rest = name, {}
        if name == "ref2":
            method, rest = "reference", {"ref": "B"}
        elif name == "own":
            method = OWN
        found = ranef.contrasts(fit("additive"), "treatment", method, adjust="none", **rest)
        seen.add(found, rows)
    seen.compare(agree, "ranef.contrasts(method=...)", f"{len(MORE['methods'])} methods, trial")


def test_own_contrasts_as_matrix_and_table():
    own = fit("additive")
    expected = ranef.contrasts(own, "treatment", OWN).tidy()
    matrix = ranef.contrasts(own, "treatment", [[1, -1, 0], [0.5, 0.5, -1]]).tidy()
    table = ranef.contrasts(own, "treatment", pd.DataFrame(OWN)).tidy()
    np.testing.assert_allclose(matrix["estimate"], expected["estimate"])
    pd.testing.assert_frame_equal(table, expected)


def test_adjustments_by_emmeans(agree):
    own, seen, names = fit("additive"), Tables(), []
    for adjust, rows in MORE["adjust"].items():
        if adjust == "means":
            seen.add(ranef.emmeans(own, "treatment", adjust="sidak"), rows)
        elif adjust not in ("dunnettx", "mvt"):
            names.append(adjust.lower())
            seen.add(ranef.contrasts(own, ["treatment", "sex"], adjust=adjust), rows)
    call = "ranef.contrasts(adjust=...)"
    seen.compare(agree, call, f"pairs of six means by {', '.join(names)}, trial")


def test_comparisons_with_a_control_by_emmeans(agree):
    seen = Tables()
    # their uniroot; their Monte Carlo
    for adjust, error in (("dunnettx", 1e-4), ("mvt", 6e-3)):
        rows = MORE["adjust"][adjust]
        found = ranef.contrasts(fit("additive"), ["treatment", "sex"], "reference", adjust=adjust)
        table, call = found.tidy(), f"ranef.contrasts(adjust='{adjust}')"
        seen.add(found, rows, interval=False, p_value=False)
        agree(call, "p-values of five against a control, trial", table["p_value"],
              column(rows, "p.value"), peer=EMMEANS, atol=2e-4)  # fmt: skip
        half = (table["conf_high"] - table["conf_low"]) / 2
        theirs = (column(rows, "upper.CL") - column(rows, "lower.CL")) / 2
        agree(call, "half widths of five against a control, trial", half, theirs,
              peer=EMMEANS, rtol=error)  # fmt: skip
    seen.compare(agree, "ranef.contrasts(method='reference')", "five against a control, trial")


@pytest.mark.parametrize(
    ("method", "used"),
    [("pairwise", "tukey"), ("reference", "dunnettx"), ("poly", "none"), ("eff", "bh"),
     ("consecutive", "mvt"), (OWN, "none")],
)  # fmt: skip
def test_customary_adjustments(method, used):
    found = ranef.contrasts(fit("additive"), "treatment", method)
    assert found.tests.families[0].method == used


def test_intervals_that_a_method_has_not_are_said_to_be_bonferroni():
    means = ranef.emmeans(fit("ergo"), "Type")
    holm, bonferroni = (means.contrasts(adjust=a) for a in ("holm", "bonferroni"))
    pd.testing.assert_series_equal(holm.tidy()["conf_low"], bonferroni.tidy()["conf_low"])
    assert "by Bonferroni's method (Holm's method has none)" in str(holm).replace("\n", " ")


def test_tukey_of_what_is_not_all_pairs_becomes_sidak_and_says_so():
    found = ranef.contrasts(fit("ergo"), "Type", "reference", adjust="tukey")
    assert found.tests.families[0].method == "sidak"
    assert "Tukey's is for all pairs" in str(found).replace("\n", " ")


# --- cells without rows


def test_missing_cells_by_emmeans(agree):
    own = fit("holed")
    seen = Tables().add(ranef.emmeans(own, "~ treatment * site"), MORE["holed"]["means"])
    seen.add(ranef.emmeans(own, "treatment"), MORE["holed"]["treatment"])
    seen.add(ranef.emmeans(own, "treatment", weights="cells"), MORE["holed"]["cells"])
    seen.compare(agree, "ranef.emmeans", "treatment * site with a cell without rows, trial")
    found, rows = ranef.contrasts(own, "treatment | site", adjust="sidak"), MORE["holed"]["pairs"]
    table = found.tidy()
    call = "ranef.contrasts(adjust='sidak')"
    agree(call, "pairs by site with a cell without rows, trial", table["estimate"],
          column(rows, "estimate"), peer=EMMEANS, rtol=1e-7)  # fmt: skip
    # emmeans counts tests that cannot be made in the size of the family; here they do not
    whole = np.array([row["site"] != "west" for row in rows])
    agree(call, "p-values of sites with all cells, trial", table["p_value"][whole],
          column(rows, "p.value")[whole], peer=EMMEANS, rtol=1e-5, atol=1e-12)  # fmt: skip
    alone = table[(table["site"] == "west") & table["estimate"].notna()]
    raw = ranef.contrasts(own, "treatment | site", adjust="none").tidy()["p_value"]
    agree(call, "p-value of the one pair of a site that can be tested, trial", alone["p_value"],
          raw[alone.index], peer="the t-test alone", rtol=1e-7)  # fmt: skip
    assert "cannot be estimated" in str(found)


def test_joint_tests_around_a_missing_cell_by_emmeans(agree):
    """The part of each effect that the data determine; emmeans adds a line for the rest."""
    table = ranef.joint_tests(fit("holed")).tidy()
    rows = [row for row in MORE["holed"]["joint"] if row["model term"] != "(confounded)"]
    assert table["term"].tolist() == [row["model term"] for row in rows]
    np.testing.assert_array_equal(table["df1"], column(rows, "df1"))
    agree("ranef.joint_tests", "F with a cell without rows, printed to three digits, trial",
          table["statistic"], column(rows, "F.ratio"), peer=EMMEANS, atol=6e-4)  # fmt: skip


def test_what_cannot_be_estimated_is_never_a_number():
    own = fit("holed")
    means = ranef.emmeans(own, ["treatment", "site"])
    table = means.tidy()
    hole = (table["treatment"] == "C") & (table["site"] == "west")
    assert table.loc[hole, "estimate"].isna().all()
    assert table.loc[~hole, "estimate"].notna().all()
    pairs = means.contrasts().tidy()
    touched = pairs["contrast"].str.contains("C west")
    assert (
        pairs.loc[touched, ["estimate", "std_error", "p_value", "conf_low"]].isna().all(axis=None)
    )
    assert pairs.loc[~touched, "estimate"].notna().all()
    letters = means.letters()
    assert letters.loc[hole, "letters"].tolist() == [""]
    slope = ranef.emtrends(own, ["treatment", "site"], "age").tidy()
    assert slope["estimate"].notna().all()


def test_the_coding_of_a_factor_does_not_change_what_can_be_estimated():
    table = TRIAL.assign(
        site=pd.Categorical(TRIAL["site"], ["west", "north", "east"]),
        treatment=pd.Categorical(TRIAL["treatment"], ["C", "B", "A"]),
    )
    one = ranef.emmeans(fit("holed"), ["treatment", "site"]).tidy()
    two = ranef.emmeans(quiet("y ~ treatment * site + age + (1 | clinic)", table),
                        ["treatment", "site"]).tidy()  # fmt: skip
    both = one.merge(two.astype({"treatment": str, "site": str}), on=["treatment", "site"])
    np.testing.assert_allclose(both["estimate_x"], both["estimate_y"], rtol=1e-6)
    np.testing.assert_allclose(both["std_error_x"], both["std_error_y"], rtol=1e-5)


def test_a_generalised_model_with_a_missing_cell():
    table = TRIAL.assign(ill=(TRIAL["y"] > TRIAL["y"].median()).astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = ranef.glmm("ill ~ treatment * site + (1 | clinic)", table, family="binomial")
    for rest in ({}, {"kind": "typical"}, {"type": "link"}):
        means = ranef.emmeans(own, ["treatment", "site"], **rest)
        found = means.tidy()
        hole = (found["treatment"] == "C") & (found["site"] == "west")
        assert (found["estimate"].isna() == hole).all()
        assert means.contrasts(compare="difference").tidy()["estimate"].isna().sum() == 8
    assert ranef.emmeans(own, "treatment").tidy()["estimate"].isna().tolist() == [
        False,
        False,
        True,
    ]


def test_a_combination_that_a_single_factor_has_not_seen_is_empty_too():
    own = ranef.lmm("y ~ interaction(treatment, site) + age + (1 | clinic)", TRIAL)
    means, slopes = (
        ranef.emmeans(own, ["treatment", "site"]).tidy(),
        ranef.emtrends(own, ["treatment", "site"], "age").tidy(),
    )
    crossed = ranef.emmeans(fit("holed"), ["treatment", "site"]).tidy()
    np.testing.assert_allclose(means["estimate"], crossed["estimate"], rtol=1e-7)
    hole = (means["treatment"] == "C") & (means["site"] == "west")
    assert (slopes["estimate"].isna() == hole).all()


# --- slopes


def test_slopes_are_exact_derivatives(agree):
    """By hand; emmeans' one-sided differences agree to a thousandth of their range."""
    own = fit("crossed")
    b, age = own.coef, TRIAL["age"].mean()
    base = b["age"] + 2 * age * b["I(age^2)"]
    expected = [base, base + b["treatmentB:age"], base + b["treatmentC:age"]]
    found = ranef.emtrends(own, "treatment", "age")
    agree("ranef.emtrends", "slopes of a quadratic of age, trial", found.tidy()["estimate"],
          expected, peer="closed form", rtol=1e-10)  # fmt: skip
    theirs = column(MORE["trends"]["age"], "age.trend")
    agree("ranef.emtrends", "slopes of a quadratic of age, trial (theirs one-sided differences)",
          found.tidy()["estimate"], theirs, peer=EMMEANS, rtol=1.9e-3)  # fmt: skip
    seen = Tables().add(found.contrasts(), MORE["trends"]["pairs"])
    seen.compare(agree, "emtrends().contrasts()", "pairs of slopes of age, trial")


def test_slopes_where_asked_and_through_a_logarithm(agree):
    own = fit("crossed")
    found = ranef.emtrends(own, "treatment | age", "age", at={"age": [35, 55]})
    expected = own.coef["age"] + 2 * 35 * own.coef["I(age^2)"]
    assert found.tidy()["estimate"][0] == pytest.approx(expected, rel=1e-10)
    log = ranef.emtrends(fit("additive"), "~ 1", "dose").tidy()
    exact = fit("additive").coef["log(dose)"] / TRIAL["dose"].mean()
    agree("ranef.emtrends", "slope through log(dose), trial", log["estimate"][0], exact,
          peer="closed form", rtol=1e-9)  # fmt: skip


def test_slopes_of_polynomials_and_splines_agree_with_predictions():
    for term in ("poly(age, 3)", "ns(age, df = 3)", "bs(age, df = 5)"):
        own = ranef.lmm(f"y ~ {term} + (1 | clinic)", TRIAL)
        slope = ranef.emtrends(own, "~ 1", "age", at={"age": 44.0}).tidy()["estimate"][0]
        near = own.predict({"age": [44.0 - 1e-4, 44.0 + 1e-4]}, kind="typical")
        assert slope == pytest.approx((near[1] - near[0]) / 2e-4, rel=1e-5)


def test_taylor_coefficients_by_emmeans(agree):
    found = ranef.emtrends(fit("crossed"), "~ 1 | treatment", "age", max_degree=2)
    table, rows = found.tidy(), MORE["trends"]["degrees"]
    assert table["degree"].tolist() == [row["degree"] for row in rows]
    agree("ranef.emtrends(max_degree=2)", "linear and quadratic slopes of age, trial",
          table["estimate"], column(rows, "age.trend"), peer=EMMEANS, rtol=2e-3)  # fmt: skip
    square = table.loc[table["degree"] == "quadratic", "estimate"]
    np.testing.assert_allclose(square, fit("crossed").coef["I(age^2)"], rtol=1e-8)


def test_slope_of_a_variable_within_its_group():
    rng = np.random.default_rng(2)
    person = np.repeat(np.arange(30), 8)
    stress = rng.normal(size=240) + person % 5
    group = np.where(person % 2, "trained", "waiting")
    mood = 5 - 0.4 * stress + 0.2 * stress * (group == "trained") + rng.normal(size=30)[person]
    table = pd.DataFrame({"mood": mood + rng.normal(size=240), "stress": stress, "person": person,
                          "group": group})  # fmt: skip
    formula = "mood ~ group * within(stress, person) + between(stress, person) + (1 | person)"
    own = ranef.lmm(formula, table)
    found = ranef.emtrends(own, "group", "within(stress, person)").tidy()
    b = own.coef
    slope = b["within(stress, person)"]
    np.testing.assert_allclose(
        found["estimate"], [slope, slope + b["groupwaiting:within(stress, person)"]], rtol=1e-8
    )
    means = ranef.emmeans(own, "group").tidy()
    assert means["estimate"].notna().all()
    with pytest.raises((ModelError, UnknownColumnError), match="within"):
        ranef.emtrends(own, "group", "stress")


def test_slopes_of_the_mean_of_a_generalised_model():
    table = TRIAL.assign(ill=(TRIAL["y"] > 24).astype(int))
    own = ranef.glmm("ill ~ treatment + age + (1 | clinic)", table, family="binomial")
    for kind in ("population", "typical"):
        slope = ranef.emtrends(own, "treatment", "age", kind=kind, at={"age": 50}).tidy()
        h = 1e-4
        ages = np.repeat([50 - h, 50 + h], 3)
        new = {"treatment": list("ABC") * 2, "age": ages, "clinic": ["c00"] * 6}
        near = np.asarray(own.predict(new, kind=kind)).reshape(2, 3)
        np.testing.assert_allclose(slope["estimate"], (near[1] - near[0]) / (2 * h), rtol=1e-5)
    link = ranef.emtrends(own, "treatment", "age").tidy()
    np.testing.assert_allclose(link["estimate"], own.coef["age"], rtol=1e-9)


# --- a response in logs


def test_a_response_in_logs_by_emmeans(agree):
    own = ranef.lmm("log(y) ~ treatment + age + (1 | clinic)", TRIAL)
    found = ranef.emmeans(own, "treatment", type="response")
    seen = Tables().add(found, MORE["logged"]["means"])
    seen.add(ranef.contrasts(own, "treatment", type="response"), MORE["logged"]["ratios"])
    seen.compare(agree, "ranef.emmeans(type='response')", "means and ratios of log(y), trial")
    plain = ranef.emmeans(own, "treatment").tidy()["estimate"]
    back = ranef.emmeans(own, "treatment", type="response").tidy()["estimate"]
    np.testing.assert_allclose(np.exp(plain), back)


@pytest.mark.parametrize(("response", "inverse"), [("log(y)", np.exp), ("sqrt(y)", np.square)])
def test_means_of_a_transformed_response_integrate_all_that_varies(response, inverse):
    own = ranef.lmm(f"{response} ~ treatment + age + (age | clinic)", TRIAL)
    found = ranef.emmeans(own, "treatment", type="response", kind="population", at={"age": 50})
    link = ranef.emmeans(own, "treatment", at={"age": 50}).tidy()["estimate"].to_numpy()
    z = np.array([1.0, 50.0])
    v = z @ own.estimate.covariances[0] @ z + own.sigma**2
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    integral = inverse(link[:, None] + np.sqrt(v) * nodes) @ weights / weights.sum()
    np.testing.assert_allclose(found.tidy()["estimate"], integral, rtol=1e-10)
    # the derivatives, by differences in theta and sigma
    estimate, J = own.estimate, found.functions.back(found.link).jacobian
    assert J.shape[1] == 4 + len(estimate.theta) + 1
    h = 1e-6

    def mean(theta, sigma):
        L = np.array([[theta[0], 0], [theta[1], theta[2]]]) * sigma
        spread = z @ L @ L.T @ z + sigma**2
        return inverse(link[:, None] + np.sqrt(spread) * nodes) @ weights / weights.sum()

    if own.optimum.singular:
        return
    for k in range(3):
        step = h * np.eye(3)[k]
        slope = mean(estimate.theta + step, own.sigma) - mean(estimate.theta - step, own.sigma)
        np.testing.assert_allclose(J[:, 4 + k], slope / (2 * h), rtol=1e-4, atol=1e-6)
    slope = mean(estimate.theta, own.sigma + h) - mean(estimate.theta, own.sigma - h)
    np.testing.assert_allclose(J[:, -1], slope / (2 * h), rtol=1e-5)


# --- generalised models


def test_cbpp_on_the_link_and_for_a_typical_herd_by_emmeans(agree):
    own = fit("cbpp")
    seen = Tables().add(ranef.emmeans(own, "period", type="link"), MORE["cbpp"]["link"], df=False)
    found = ranef.emmeans(own, "period", kind="typical")
    seen.add(found, MORE["cbpp"]["response"], df=False)
    odds = ranef.contrasts(own, "period", kind="typical")
    seen.add(odds, MORE["cbpp"]["odds"], df=False)
    found = ranef.contrasts(own, "period", kind="typical", compare="difference")
    seen.add(found, MORE["cbpp"]["regrid"], df=False)
    call = "ranef.emmeans(kind='typical')"
    seen.compare(agree, call, "link, probabilities, odds ratios, differences, cbpp", rtol=2e-5)
    agree("ranef.contrasts(kind='typical')", "z of odds ratios, cbpp", odds.tidy()["statistic"],
          column(MORE["cbpp"]["odds"], "t.ratio", "z.ratio"), peer=EMMEANS, rtol=2e-5)  # fmt: skip
    test = ranef.joint_tests(own).tidy()
    agree("ranef.joint_tests", "F of period, printed to three digits, cbpp", test["statistic"][0],
          MORE["cbpp"]["joint"][0]["F.ratio"], peer=EMMEANS, atol=6e-4)  # fmt: skip
    assert test["df2"][0] == np.inf


def test_cbpp_plug_in_against_glmer(agree):
    """Estimates; glmer's standard errors rest on coarse differences."""
    found = ranef.emmeans(fit("cbpp"), "period", kind="typical").tidy()
    agree("ranef.emmeans(kind='typical')", "probabilities of the periods, cbpp",
          found["estimate"], column(BASE["cbpp"]["response"], "prob"),
          peer=f"{EMMEANS} of lme4 1.1-31", rtol=1e-3)  # fmt: skip


def test_population_means_are_integrals_and_no_taylor_step(agree):
    """Period 1: plug-in 0.198, exact 0.2161; emmeans' second-order step has 0.2179."""
    own = fit("cbpp")
    found = ranef.emmeans(own, "period").tidy()
    link = ranef.emmeans(own, "period", type="link").tidy()["estimate"].to_numpy()
    sd = float(own.tidy("variance")["estimate"][0])
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = 1 / (1 + np.exp(-(link[:, None] + sd * nodes)))
    agree("ranef.emmeans", "probabilities of the periods in the population, cbpp",
          found["estimate"], p @ weights / weights.sum(), peer="80 nodes", rtol=1e-9)  # fmt: skip
    assert found["estimate"][0] == pytest.approx(0.21611, abs=2e-4)
    taylor = BASE["cbpp"]["resp_bias"][0]["prob"]
    assert taylor - found["estimate"][0] > 1e-3
    new = pd.DataFrame({"period": ["1", "2", "3", "4"], "herd": ["1"] * 4})
    predicted = own.predict(new, kind="population", conf_level=0.95)
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(found[name], predicted[name], rtol=1e-9)


def test_population_contrasts_carry_the_uncertainty_of_theta():
    own = fit("cbpp")
    population = ranef.marginal(own)
    new = {"period": ["1", "2"], "herd": ["1", "1"]}
    expected = population.contrasts(new, [[1, -1]])
    found = ranef.contrasts(own, "period", compare="difference", adjust="none").tidy()
    for name in ("estimate", "std_error", "p_value", "conf_low"):
        assert found[name][0] == pytest.approx(expected[name][0], rel=1e-9)
    ratio = ranef.contrasts(own, "period", compare="ratio", adjust="none").tidy()
    mean = ranef.emmeans(own, "period").tidy()["estimate"]
    assert ratio["estimate"][0] == pytest.approx(mean[0] / mean[1])
    odds = ranef.contrasts(own, "period", adjust="none").tidy()
    raw = mean / (1 - mean)
    assert odds["estimate"][0] == pytest.approx(raw[0] / raw[1])
    typical = ranef.contrasts(own, "period", kind="typical").tidy()
    assert 1 < odds["estimate"][0] < typical["estimate"][0]


def test_population_standard_errors_by_the_bootstrap_distribution_of_parameters():
    """Draw coefficients and theta from their joint normal distribution and integrate anew."""
    own = fit("cbpp")
    means = ranef.emmeans(own, "period")
    rng = np.random.default_rng(9)
    estimate = own.estimate
    draws = rng.multivariate_normal(
        np.append(estimate.coefficients, estimate.theta), joint_covariance(estimate) * 1e-4, 4000
    )
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    X = np.column_stack([np.ones(4), np.eye(4)[:, 1:]])
    eta = (draws[:, :4] @ X.T)[:, :, None] + np.abs(draws[:, 4])[:, None, None] * nodes
    p = (1 / (1 + np.exp(-eta))) @ weights / weights.sum()
    np.testing.assert_allclose(means.tidy()["std_error"], 100 * p.std(axis=0), rtol=0.04)


def test_counts_with_offset_and_zero_part_by_emmeans(agree):
    own, seen = fit("owls"), Tables()
    asked = {
        "means": ranef.emmeans(own, "food", kind="typical"),
        "offset": ranef.emmeans(own, "food", kind="typical", offset=0),
        "ratios": ranef.contrasts(own, "food | sex", kind="typical"),
        "zero": ranef.emmeans(own, "food", component="zero", kind="typical"),
    }
    for name, found in asked.items():
        seen.add(found, MORE["owls"][name], df=False)
    call = "ranef.emmeans(component=..., offset=...)"
    seen.compare(agree, call, "counts, ratios and zero part, Owls, nbinom2", rtol=3e-5)


def test_the_mean_of_what_is_observed_counts_the_zeros():
    own = fit("owls")
    for kind in ("population", "typical"):
        observed = ranef.emmeans(own, "food | sex", component="response", kind=kind).tidy()
        part = ranef.emmeans(own, "food | sex", kind=kind).tidy()["estimate"]
        zero = ranef.emmeans(own, "food | sex", component="zero", kind=kind).tidy()["estimate"]
        np.testing.assert_allclose(observed["estimate"], part * (1 - zero), rtol=1e-9)
        new = pd.DataFrame({"food": observed["food"], "sex": observed["sex"], "nest": "x",
                            "brood": pd.DataFrame(TABLES["Owls"])["brood"].mean()})  # fmt: skip
        predicted = own.predict(new, kind=kind, conf_level=0.95)
        np.testing.assert_allclose(observed["estimate"], predicted["estimate"], rtol=1e-9)
        np.testing.assert_allclose(observed["std_error"], predicted["std_error"], rtol=1e-8)


def test_ratios_of_a_log_link_do_not_depend_on_the_kind():
    own = fit("owls")
    one, two = (
        ranef.contrasts(own, "food | sex", kind=kind).tidy() for kind in ("population", "typical")
    )
    np.testing.assert_allclose(one["estimate"], two["estimate"], rtol=1e-10)
    np.testing.assert_allclose(one["std_error"], two["std_error"], rtol=1e-8)
    assert ranef.contrasts(own, "food | sex").quantity == "ratio"


def test_ordered_categories_by_emmeans(agree):
    """clmm's standard errors are from differences of its Hessian, good to about 1%."""
    own, values, errors = fit("wine"), [], []
    for found, key in (
        (ranef.emmeans(own, "temp", type="link"), "latent"),
        (ranef.emmeans(own, "rating | temp", kind="typical"), "prob"),
        (ranef.emmeans(own, "temp", type="mean_class", kind="typical"), "mean_class"),
    ):
        table, rows = found.tidy(), MORE["wine"][key]
        values += zip(table["estimate"], column(rows, *ESTIMATE), strict=True)
        errors += zip(table["std_error"], column(rows, "SE"), strict=True)
    peer = f"{EMMEANS} of ordinal 2022.11-16"
    call, what = "ranef.emmeans(type=...)", "latent, probabilities, mean class, wine"
    agree(call, f"estimates, {what}", *zip(*values, strict=True), peer=peer, rtol=2e-5)
    agree(call, f"standard errors, {what}", *zip(*errors, strict=True), peer=peer, rtol=1.2e-2)


def test_probabilities_of_categories_add_to_one_and_stay_by_category():
    own = fit("wine")
    for kind in ("population", "typical"):
        found = ranef.emmeans(own, "temp", kind=kind)
        assert found.by == ("rating",)
        table = found.tidy()
        np.testing.assert_allclose(table.groupby("temp")["estimate"].sum(), 1)
    pairs = found.contrasts(compare="difference").tidy()
    assert pairs["rating"].tolist() == list(own.levels)
    np.testing.assert_allclose(pairs["estimate"].sum(), 0, atol=1e-12)


def test_multinomial_means():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(25), 12)
    x = rng.choice(["a", "b"], 300)
    eta = np.column_stack([np.zeros(300), (x == "b") * 1.0, 0.3 + rng.normal(size=25)[g] * 0.5])
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    choice = [["bus", "car", "train"][rng.choice(3, p=row)] for row in p]
    table = pd.DataFrame({"choice": choice, "x": x, "g": g})
    own = ranef.glmm("choice ~ x + (1 | g)", table, family="multinomial")
    found = ranef.emmeans(own, "choice | x", kind="typical").tidy()
    new = {"x": ["a", "b"], "g": [0, 0]}
    np.testing.assert_allclose(
        found["estimate"].to_numpy().reshape(2, 3), own.predict(new, kind="typical"), rtol=1e-10
    )
    link = ranef.emmeans(own, "x", type="link").tidy()
    assert link["choice"].unique().tolist() == ["car", "train"]


def test_dispersion_is_a_component():
    table = pd.DataFrame(TABLES["Owls"])
    own = ranef.glmm("calls ~ food + (1 | nest)", table, family="nbinom2", dispersion="~ sex")
    found = ranef.emmeans(own, "sex", component="dispersion").tidy()
    new = {"food": ["Deprived"] * 2, "sex": found["sex"], "nest": ["x"] * 2}
    expected = own.predict(new, kind="typical", type="dispersion")
    np.testing.assert_allclose(found["estimate"], expected)


def test_links_without_ratios_compare_by_differences():
    table = pd.DataFrame(TABLES["cbpp"])
    own = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", table,
                     family=ranef.families.Binomial(link="probit"))  # fmt: skip
    found = ranef.contrasts(own, "period")
    assert found.quantity == "difference"
    means = ranef.emmeans(own, "period").tidy()["estimate"]
    assert found.tidy()["estimate"][0] == pytest.approx(means[0] - means[1])


def test_a_link_without_a_population_mean_says_what_else_there_is():
    table = TRIAL.assign(wait=np.exp(TRIAL["y"] / 10))
    own = ranef.glmm("wait ~ treatment + (1 | clinic)", table,
                     family=ranef.families.Gamma(link="inverse"))  # fmt: skip
    with pytest.raises(ModelError, match="kind='typical'"):
        ranef.emmeans(own, "treatment")
    found = ranef.emmeans(own, "treatment", kind="typical").tidy()
    link = ranef.emmeans(own, "treatment", type="link").tidy()
    np.testing.assert_allclose(found["estimate"], 1 / link["estimate"])
    assert (found["conf_low"] < found["estimate"]).all()
    assert (found["estimate"] < found["conf_high"]).all()


def test_a_stationary_structure_is_integrated_at_any_time():
    rng = np.random.default_rng(6)
    g, time = np.repeat(np.arange(20), 6), np.tile(np.arange(6), 20)
    x = rng.choice(["a", "b"], 120)
    n = rng.poisson(np.exp(1 + 0.1 * time + rng.normal(size=20)[g] * 0.5))
    own = ranef.glmm("n ~ x + time + ar1(0 + time | g)",
                     {"n": n, "x": x, "g": g, "time": time}, family="poisson")  # fmt: skip
    found = ranef.emmeans(own, "x").tidy()["estimate"]
    link = ranef.emmeans(own, "x", type="link").tidy()["estimate"]
    v = own.estimate.covariances[0][0, 0]
    np.testing.assert_allclose(found, np.exp(link + v / 2), rtol=1e-10)


# --- one level's own


def henderson(own, covariances):
    """Covariance of (beta_hat - beta, b_hat - b) given theta, and the estimates, densely."""
    spec = own.estimate.specification
    blocks, inverse = [spec.X], [np.zeros((spec.p, spec.p))]
    for term, psi in zip(spec.terms, covariances, strict=True):
        factor = spec.factors[term.factor]
        Z = np.zeros((spec.n, factor.n_levels, term.size))
        Z[np.arange(spec.n), factor.codes] = term.z
        blocks.append(Z.reshape(spec.n, -1))
        inverse.append(np.kron(np.eye(factor.n_levels), np.linalg.inv(psi)))
    A = np.hstack(blocks)
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    M = A.T @ (w[:, None] * A) / own.sigma**2
    at = 0
    for block in inverse:
        cut = slice(at, at + len(block))
        M[cut, cut] += block
        at += len(block)
    C = np.linalg.inv(M)
    return C, C @ A.T @ (w * spec.y) / own.sigma**2


def dense_errors(own):
    """Covariance of (beta_hat - beta, b_hat - b) by Henderson's equations, given theta."""
    return henderson(own, own.estimate.covariances)[0]


def dense_moved(own, a):
    """What the movement of a'(beta_hat, b_hat) with theta_hat adds to its variance: d'Ad.

    The estimates are those of Henderson's equations at other theta, sigma held, since
    with psi relative to sigma^2 they do not depend on it.
    """
    estimate, known = own.estimate, parameter_covariance(own.estimate)
    assert known.free.all()

    def value(theta):
        parts = np.split(theta, np.cumsum([structure_of(t).n_parameters for t in terms])[:-1])
        psis = [structure_of(t).psi(part) for t, part in zip(terms, parts, strict=True)]
        return a @ henderson(own, [own.sigma**2 * psi for psi in psis])[1]

    terms, h = estimate.specification.terms, 1e-4
    steps = h * np.eye(len(estimate.theta))
    d = np.array(
        [
            (8 * (value(estimate.theta + s) - value(estimate.theta - s))
             - value(estimate.theta + 2 * s) + value(estimate.theta - 2 * s)) / (12 * h)
            for s in steps
        ]
    )  # fmt: skip
    return d @ known.covariance[:-1, :-1] @ d


def test_one_level_has_its_own_means_and_contrasts():
    own = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    found = ranef.emmeans(own, "Days", at={"Days": [0, 9]}, unit={"Subject": "309"})
    new = {"Days": [0.0, 9.0], "Subject": ["309", "309"]}
    predicted = own.predict(new, conf_level=0.95)
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(found.tidy()[name], predicted[name], rtol=1e-9)
    change = found.contrasts("revpairwise").tidy()
    C, q = dense_errors(own), list(own.estimate.specification.factors[0].levels).index("309")
    a = np.zeros(len(C))
    a[1] = a[2 + 2 * q + 1] = 9.0
    moved = dense_moved(own, a)
    assert moved > 0.01 * a @ C @ a
    assert change["std_error"][0] == pytest.approx(np.sqrt(a @ C @ a + moved), rel=1e-7)
    # the variance of a difference from those of three means on a line
    middle = own.predict({"Days": [4.5], "Subject": ["309"]}, conf_level=0.95)["std_error"][0]
    ends = predicted["std_error"]
    polarised = 2 * ends[0] ** 2 + 2 * ends[1] ** 2 - 4 * middle**2
    assert change["std_error"][0] == pytest.approx(np.sqrt(polarised), rel=1e-9)
    per_day = own.coef_by_level("Subject")
    row = per_day[(per_day["level"] == "309") & (per_day["term"] == "Days")]
    assert change["estimate"][0] == pytest.approx(9 * float(row["estimate"].iloc[0]))
    given_theta = 9 * float(row["std_error"].iloc[0])
    assert given_theta == pytest.approx(np.sqrt(a @ C @ a), rel=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_contrasts_across_levels_of_a_nested_factor_count_them_all(weighted):
    """Plots of different varieties in one block: two levels of the same term."""
    table = OATS.assign(w=np.linspace(0.5, 2, len(OATS)))
    own = ranef.lmm("yield ~ Variety + nitro + (1 | Block/Variety)", table,
                    weights="w" if weighted else None)  # fmt: skip
    found = ranef.contrasts(own, "Variety", unit={"Block": "I"}, adjust="none").tidy()
    spec, C = own.estimate.specification, dense_errors(own)
    starts, a = [spec.p], np.zeros(len(C))
    for term in spec.terms:
        starts.append(starts[-1] + spec.factors[term.factor].n_levels * term.size)
    a[spec.names.index("VarietyMarvellous")] = -1.0
    value = -own.coef["VarietyMarvellous"]
    for t, term in enumerate(spec.terms):
        factor = spec.factors[term.factor]
        if ":" not in factor.name:
            continue
        for sign, variety in ((1, "Golden Rain"), (-1, "Marvellous")):
            rows = (OATS["Block"].astype(str) == "I") & (OATS["Variety"].astype(str) == variety)
            level = factor.codes[np.flatnonzero(rows)[0]]
            a[starts[t] + level] = sign
            value += sign * own.estimate.modes[t][level, 0]
    assert found["estimate"][0] == pytest.approx(value, rel=1e-9)
    expected = np.sqrt(a @ C @ a + dense_moved(own, a))
    assert found["std_error"][0] == pytest.approx(expected, rel=1e-7)
    assert 2 <= found["df"][0] < spec.n


def test_levels_not_seen_and_joint_tests_of_one_level():
    """In a block that is named, plots by variety are of the block; a new plot is like no other."""
    table = OATS.assign(Plot=OATS["Block"].astype(str) + OATS["Variety"].astype(str))
    table = table[~((table["Block"].astype(str) == "I") & (table["Variety"] == "Victory"))]
    own = ranef.lmm("yield ~ Variety + nitro + (1 | Block/Variety)", table)
    found = ranef.emmeans(own, "Variety", at={"nitro": 0.2}, unit={"Block": "I"})
    new = pd.DataFrame({"Variety": ["Golden Rain", "Marvellous", "Victory"],
                        "nitro": 0.2, "Block": "I"})  # fmt: skip
    predicted = own.predict(new, conf_level=0.95)
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(found.tidy()[name], predicted[name], rtol=1e-8)
    test = found.contrasts("revpairwise", adjust="none")
    assert np.isfinite(test.tidy()["std_error"]).all()
    one = ranef.emmeans(own, "nitro", at={"nitro": [0.0, 0.4]}, unit={"Block": "I"})
    [line] = one.joint_tests().tidy().to_dict("records")
    pair = one.contrasts("revpairwise").tidy()
    assert line["statistic"] == pytest.approx(pair["statistic"][0] ** 2)
    assert line["df2"] == pytest.approx(pair["df"][0])
    assert line["p_value"] == pytest.approx(pair["p_value"][0])


def test_one_level_of_a_generalised_model():
    own = fit("cbpp")
    found = ranef.emmeans(own, "period", unit={"herd": "4"})
    new = pd.DataFrame({"period": ["1", "2", "3", "4"], "herd": ["4"] * 4})
    predicted = own.predict(new, conf_level=0.95)
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        np.testing.assert_allclose(found.tidy()[name], predicted[name], rtol=1e-8)
    odds = ranef.contrasts(own, "period", unit={"herd": "4"})
    typical = ranef.contrasts(own, "period", kind="typical").tidy()
    np.testing.assert_allclose(odds.tidy()["estimate"], typical["estimate"], rtol=1e-9)
    difference = ranef.contrasts(own, "period", unit={"herd": "4"}, compare="difference").tidy()
    p = found.tidy()["estimate"]
    assert difference["estimate"][0] == pytest.approx(p[0] - p[1])


def test_a_units_own_slope_has_the_error_of_its_prediction():
    own = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    slope = ranef.emtrends(own, "~ 1", "Days", unit={"Subject": "308"}).tidy()
    row = own.coef_by_level("Subject")
    row = row[(row["level"] == "308") & (row["term"] == "Days")]
    assert slope["estimate"][0] == pytest.approx(float(row["estimate"].iloc[0]), rel=1e-9)
    a = np.zeros(2 + 2 * 18)
    a[1] = a[3] = 1.0
    assert float(row["std_error"].iloc[0]) ** 2 == pytest.approx(a @ dense_errors(own) @ a)
    expected = np.sqrt(float(row["std_error"].iloc[0]) ** 2 + dense_moved(own, a))
    assert slope["std_error"][0] == pytest.approx(expected, rel=1e-7)
    joint = ranef.posterior(
        own, terms="Days", scale="coefficient", levels=["308"], given="nothing"
    ).tidy()
    assert slope["std_error"][0] == pytest.approx(joint["std_error"][0], rel=1e-9)


def test_levels_of_one_factor_of_a_generalised_model_are_compared():
    """Two levels of ward:arm, of a Poisson model whose modes are found densely."""
    rng = np.random.default_rng(4)
    ward, arm = np.repeat(np.arange(12), 20), np.tile(["a", "b"], 120)
    effects = rng.normal(0, 0.5, (12, 3))
    own_effect = effects[ward, 1 + (arm == "b")]
    y = rng.poisson(np.exp(0.3 + effects[ward, 0] + own_effect + 0.4 * (arm == "b")))
    table = pd.DataFrame({"y": y, "ward": ward, "arm": arm})
    own = ranef.glmm("y ~ arm + (1 | ward/arm)", table, family="poisson")
    found = ranef.contrasts(own, "arm", unit={"ward": 3}, type="link").tidy()
    estimate, X = own.estimate, np.column_stack([np.ones(240), arm == "b"])
    Z = np.hstack([np.eye(len(f.levels))[f.codes] for f in
                   (estimate.design.factors[t.factor] for t in estimate.terms)])  # fmt: skip
    sizes = [len(b) for b in estimate.modes]

    def modes(parameters):
        precision = np.diag(np.repeat(1 / parameters[2:] ** 2, sizes))
        b = np.concatenate(estimate.modes)[:, 0]
        for _ in range(30):
            mu = np.exp(X @ parameters[:2] + Z @ b)
            H = Z.T @ (mu[:, None] * Z) + precision
            b = b + np.linalg.solve(H, Z.T @ (y - mu) - precision @ b)
        return b, np.linalg.inv(H)

    at = np.concatenate([estimate.coefficients, estimate.theta])
    b, C = modes(at)
    np.testing.assert_allclose(b, np.concatenate(estimate.modes)[:, 0], atol=1e-6)
    picked = [estimate.terms[t] for t in range(2)]
    m = np.zeros(len(b))
    start = 0
    for term, size in zip(picked, sizes, strict=True):
        codes = estimate.design.factors[term.factor].codes
        for sign, name in ((1, "a"), (-1, "b")):
            m[start + codes[np.flatnonzero((ward == 3) & (arm == name))[0]]] += sign
        start += size

    def value(parameters):
        return -parameters[1] + m @ modes(parameters)[0]

    J = np.array([(value(at + h) - value(at - h)) / 2e-4 for h in 1e-4 * np.eye(4)])
    expected = np.sqrt(m @ C @ m + J @ joint_covariance(estimate) @ J)
    assert np.count_nonzero(m) == 2
    assert found["estimate"][0] == pytest.approx(value(at), rel=1e-6)
    assert found["std_error"][0] == pytest.approx(expected, rel=1e-5)


# --- tables, pictures, refusals


def test_tables_come_in_the_users_library():
    pl = pytest.importorskip("polars")
    own = ranef.lmm("y ~ treatment + age + (1 | clinic)", pl.DataFrame(TRIAL.to_dict("list")))
    means = ranef.emmeans(own, "treatment")
    assert isinstance(means.tidy(), pl.DataFrame)
    assert isinstance(means.contrasts().tidy(), pl.DataFrame)
    assert isinstance(means.letters(), pl.DataFrame)
    assert isinstance(ranef.joint_tests(own).tidy(), pl.DataFrame)
    expected = ranef.emmeans(ranef.lmm(own.formula, TRIAL), "treatment").tidy()["estimate"]
    np.testing.assert_allclose(means.tidy()["estimate"], expected)


def test_a_saved_fit_answers_the_same(tmp_path):
    own = fit("additive")
    own.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    one, two = (ranef.contrasts(f, "treatment").tidy() for f in (own, again))
    pd.testing.assert_frame_equal(one, two)


def test_rows_that_were_dropped_do_not_count():
    table = TRIAL.copy()
    table.loc[[3, 9, 27], "age"] = np.nan
    table.loc[[5, 60], "y"] = np.nan
    own = ranef.lmm("y ~ treatment + sex + age + (1 | clinic)", table)
    clean = ranef.lmm(own.formula, table.dropna())
    for weights in ("equal", "proportional", "cells"):
        one, two = (ranef.emmeans(f, "treatment", weights=weights).tidy() for f in (own, clean))
        np.testing.assert_allclose(one["estimate"], two["estimate"], rtol=1e-9)


def test_levels_keep_their_order_and_type():
    table = TRIAL.assign(treatment=pd.Categorical(TRIAL["treatment"], ["C", "A", "B"]),
                         visit=TRIAL["visit"].astype("category"))  # fmt: skip
    own = ranef.lmm("y ~ treatment + visit + (1 | clinic)", table)
    assert ranef.emmeans(own, "treatment").tidy()["treatment"].tolist() == ["C", "A", "B"]
    assert ranef.emmeans(own, "visit").tidy()["visit"].tolist() == [1, 2]
    names = ranef.contrasts(own, "visit").tidy()["contrast"].tolist()
    assert names == ["visit1 - visit2"]


def test_offsets_as_column_array_and_number():
    table = TRIAL.assign(base=TRIAL["age"] / 10)
    by_name = ranef.lmm("y ~ treatment + (1 | clinic)", table, offset="base")
    by_array = ranef.lmm("y ~ treatment + (1 | clinic)", table, offset=table["base"].to_numpy())
    means = [ranef.emmeans(f, "treatment").tidy()["estimate"] for f in (by_name, by_array)]
    np.testing.assert_allclose(*means)
    none = ranef.emmeans(by_name, "treatment", offset=0).tidy()["estimate"]
    np.testing.assert_allclose(means[0] - none, table["base"].mean())


def test_a_singular_fit_and_an_intercept_alone():
    singular = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    found = ranef.emmeans(singular, "~ 1").tidy()
    assert found["estimate"][0] == pytest.approx(singular.coef["(Intercept)"])
    assert np.isfinite(found["std_error"][0])


def test_summaries_speak():
    text = str(ranef.emmeans(fit("cbpp"), "pairwise ~ period")).replace("\n", " ")
    assert "averaged exactly over the random effects of herd" in text
    assert "Odds ratio" in text
    assert "Tukey" in text
    typical = str(ranef.emmeans(fit("cbpp"), "period", kind="typical")).replace("\n", " ")
    assert "For a typical herd (random effects zero), not the population mean" in typical
    assert "<table>" in ranef.emmeans(fit("cbpp"), "period")._repr_html_()
    assert "<table>" in ranef.joint_tests(fit("crossed"))._repr_html_()


@pytest.mark.parametrize("name", ["oats_int", "cbpp", "holed"])
def test_pictures_show_the_table(name):
    import matplotlib.pyplot as plt

    spec = {"oats_int": "nitro", "cbpp": "period", "holed": "treatment"}[name]
    means = ranef.emmeans(fit(name), spec)
    ax = means.plot()
    [points] = [line for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xdata(), means.tidy()["estimate"])
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        str(v) if isinstance(v, str) else f"{v:g}" for v in means.tidy()[spec]
    ]
    assert "Arrows that do not overlap" in ax.get_xlabel()
    plt.close("all")


def test_pictures_by_group_and_of_interactions():
    import matplotlib.pyplot as plt

    means = ranef.emmeans(fit("oats_int"), "nitro | Variety")
    assert len(means.plot()) == 3
    _, ax = plt.subplots()
    both = ranef.emmeans(fit("oats_int"), ["nitro", "Variety"])
    assert both.plot("interaction", ax=ax) is ax
    assert [line.get_label() for line in ax.lines] == ["Golden Rain", "Marvellous", "Victory"]
    table = both.tidy()
    own = table.loc[table["Variety"] == "Victory", "estimate"]
    np.testing.assert_allclose(ax.lines[2].get_ydata(), own)
    turned = both.plot("interaction", x="Variety", trace="nitro")
    own = table.loc[table["nitro"] == 0.2, "estimate"]
    np.testing.assert_allclose(turned.lines[1].get_ydata(), own)
    plt.close("all")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f: ranef.emmeans(f, "treatmnet"), UnknownColumnError, "did you mean 'treatment'"),
        (lambda f: ranef.emmeans(f, "treatment", by="sxe"), UnknownColumnError, "'sex'"),
        (lambda f: ranef.emmeans(f, "treatment", at={"agee": 3}), UnknownColumnError, "'age'"),
        (lambda f: ranef.emmeans(f, "treatment", at={"sex": "x"}), LevelError, "no level of sex"),
        (lambda f: ranef.emmeans(f, "treatment", at={"age": "old"}), DataError, "numeric"),
        (lambda f: ranef.emmeans(f, "treatment", weights="equall"), ModelError, "'equal'"),
        (lambda f: ranef.emmeans(f, "treatment", weights=[1, 2]), DataError, "takes 6"),
        (lambda f: ranef.emmeans(f, "treatment", df="satterthwait"), ModelError, "satterthwaite"),
        (lambda f: ranef.emmeans(f, "treatment", adjust="bonf"), ModelError, "bonferroni"),
        (lambda f: ranef.emmeans(f, "treatment", cov_reduce="men"), ModelError, "'mean'"),
        (lambda f: ranef.emmeans(f, "treatment", component="zero"), ModelError, "no component"),
        (lambda f: ranef.emmeans(f, "treatment", type="prob"), ModelError, "categories"),
        (lambda f: ranef.emmeans(f, "treatment", unit={"x": 1}), UnknownColumnError, "'clinic'"),
        (lambda f: ranef.emmeans(f, "treatment", unit={"clinic": "c99"}), LevelError, "no level"),
        (lambda f: ranef.emmeans("fit", "treatment"), ModelError, "a fit of ranef.lmm"),
        (lambda f: ranef.emmeans(f, 3), ModelError, "name or a list of names"),
        (lambda f: ranef.emmeans(f, "a | b", by="c"), ModelError, "leave by= out"),
        (lambda f: ranef.contrasts(f, "treatment", "pairwize"), ModelError, "'pairwise'"),
        (lambda f: ranef.contrasts(f, "treatment", [1, -1]), DataError, "3 means"),
        (lambda f: ranef.contrasts(f, "treatment", "reference", ref="D"), LevelError, "none of"),
        (lambda f: ranef.contrasts(f, "treatment", compare="ratios"), ModelError, "'ratio'"),
        (lambda f: ranef.contrasts(f, "treatment", interaction=["poly"] * 2), ModelError, "2 met"),
        (lambda f: ranef.contrasts(f), ModelError, "name what to compare"),
        (lambda f: ranef.emtrends(f, "treatment", "sex"), ModelError, "not numeric"),
        (lambda f: ranef.emtrends(f, "treatment", "agee"), UnknownColumnError, "'age'"),
        (lambda f: ranef.emtrends(f, "treatment", "age", max_degree=9), ModelError, "at most 5"),
        (lambda f: ranef.emmeans(f, "treatment").plot("box"), ModelError, "interaction"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_how(call, error, words):
    with pytest.raises(error, match=words):
        call(fit("additive"))


def test_generalised_refusals():
    own = fit("cbpp")
    with pytest.raises(ModelError, match="for linear models"):
        ranef.emmeans(own, "period", df="satterthwaite")
    with pytest.raises(ModelError, match="typical level"):
        ranef.emmeans(own, "period", type="link", kind="population")
    with pytest.raises(ModelError, match="type='response'"):
        ranef.contrasts(own, "period", type="link", compare="odds")
    with pytest.raises(ModelError, match="has no categories"):
        ranef.emmeans(own, "period", type="mean_class")


def test_a_grid_that_is_too_large_is_refused():
    table = TRIAL.assign(**{f"f{i}": np.arange(len(TRIAL)) % 10 for i in range(6)})
    terms = " + ".join(f"factor(f{i})" for i in range(6))
    own = quiet(f"y ~ {terms} + (1 | clinic)", table)
    with pytest.raises(ModelError, match="1,000,000 combinations"):
        ranef.emmeans(own, "f0")


def test_slopes_of_several_degrees_are_split_by_what_is_named_alone():
    found = ranef.emtrends(fit("crossed"), "~ 1", "age", max_degree=2)
    assert found.names == ("degree",)
    one = ranef.emtrends(fit("crossed"), "~ 1", "age").tidy()
    np.testing.assert_allclose(found.tidy()["estimate"][0], one["estimate"][0], rtol=1e-6)
    assert any(note.startswith("Averaged over ") for note in found.notes)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: ranef.emmeans(f, "treatmnt"),
        lambda f: ranef.emmeans(f, "treatment", by="sx"),
        lambda f: ranef.emmeans(f, "pairwse ~ treatment"),
        lambda f: ranef.emmeans(f, "treatment", weights="equl"),
        lambda f: ranef.emmeans(f, "treatment", weights=[-1.0]),
        lambda f: ranef.emmeans(f, "treatment", adjust="tuky"),
        lambda f: ranef.emmeans(f, "treatment", rng="x"),
        lambda f: ranef.emmeans(f, "treatment", conf_level=95),
        lambda f: ranef.emtrends(f, "treatmnt", "age"),
        lambda f: ranef.joint_tests(f, by="sx"),
    ],
)
def test_arguments_are_checked_before_anything_is_evaluated(ask, monkeypatch):
    asked = fit("crossed")
    monkeypatch.setattr(type(asked), "evaluate", lambda *_: pytest.fail("evaluated"))
    with pytest.raises((ModelError, DataError, UnknownColumnError)):
        ask(asked)


def test_means_their_contrasts_and_words_make_each_matrix_once(monkeypatch):
    calls = []
    made = Recipe.fixed
    monkeypatch.setattr(
        Recipe, "fixed", lambda self, *a, **k: (calls.append(self), made(self, *a, **k))[1]
    )
    str(ranef.emmeans(fit("crossed"), "pairwise ~ treatment | sex"))
    assert len(calls) == 1


def test_both_sides_of_a_comparison_stand_beside_it() -> None:
    data = ranef.data.load("ergoStool")
    names = {f"T{k}": f"a chair with an adjustable seat, model {k}" for k in range(1, 5)}
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", data.assign(Type=data["Type"].map(names)))
    shown = [t.get_text() for t in fit.contrasts("Type").plot().get_yticklabels()]
    assert len(set(shown)) == 6
    for text, (one, other) in zip(
        shown, [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], strict=True
    ):
        left, right = text.split(" - ")
        assert (left[-1], right[-1]) == (str(one), str(other))
