"""anova, variance_test and robust: against lmerTest, RLRsim, pbkrtest and clubSandwich, the
definitions by brute force, and simulation."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import twin
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import peer
from scipy import stats
from scipy.special import digamma

import ranef
from ranef.derivatives.generalised import joint_gradient
from ranef.derivatives.scores import cluster_scores
from ranef.design.effects import effects_of
from ranef.errors import DataError, ModelError, UnknownColumnError
from ranef.inference.coefficients.clusters import TYPES, cluster_covariance
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.nested import removal
from ranef.inference.nested.exact import simulate_ratio, spectrum
from ranef.inference.nested.mixtures import Cone, chi_bar
from ranef.inference.nested.nesting import nesting
from ranef.models import refits
from ranef.questions.tests.term_hypotheses import term_hypotheses

HERE = Path(__file__).parent / "reference"
PEERS = json.loads((HERE / "tests.json").read_text())
LMERTEST = json.loads((HERE / "anova.json").read_text())["tables"]
BY_LMERTEST, BY_PBKRTEST, BY_CLUBS, BY_RLRSIM = (
    peer(name, PEERS["versions"]) for name in ("lmerTest", "pbkrtest", "clubSandwich", "RLRsim")
)
CLUBS = json.loads((HERE / "robust.json").read_text())
DESIGN = pd.read_csv(HERE / "anova.csv")
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"

# What lmerTest does otherwise, and why ours stands.
# - Without an intercept it tests that all means are zero (3 df); types II and III here are
#   about differences (2 df), by their definition.
# - It does not take poly(x, 2) as a covariate, so that b counts as contained in poly(x, 2):b.
# - With an intercept and a:b but neither margin one column of a:b is redundant; its type II
#   then differs from its own type I though a:b is last.
# - In x + I(x^2) + a:x it does not see that a:x contains x: it tests the slope of the first
#   level of a, so its answer depends on which level is first.
KNOWN = {
    ("0+a+b+(1|g)", "II", "a"), ("0+a+b+(1|g)", "III", "a"),
    ("0+a*b+(1|g)", "II", "a"), ("0+a*b+(1|g)", "III", "a"),
    ("poly(x,2)*b+a+(1|g)", "II", "b"), ("a:b+c+(1|g)", "II", "a:b"),
    ("x+I(x^2)+a:x+(1|g)", "II", "x"), ("x+I(x^2)+a:x+(1|g)", "III", "x"),
}  # fmt: skip


def study_tables():
    # levels in alphabetical order, as R's read.csv had them for the peers
    oats = ranef.data.load("Oats").astype({"Block": str, "Variety": str})
    oats["nitroF"] = "n" + oats["nitro"].astype(str)
    orth = ranef.data.load("Orthodont").astype({"Sex": str, "Subject": str})
    orth["age11"] = orth["age"] - 11
    return {
        "sleep": ranef.data.load("sleepstudy"),
        "ergo": ranef.data.load("ergoStool"),
        "oats": oats,
        "orthodont": orth,
    }


TABLES = study_tables()


def study_fit(name, **arguments):
    table = TABLES[next(key for key in TABLES if name.startswith(key))]
    if name == "oats_unbal":
        table = table.drop(index=np.subtract([1, 2, 3, 5, 8, 13, 21, 34, 55], 1))
    return ranef.lmm(PEERS["anova"][name]["formula"], table, **arguments)


def quiet(formula, table, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ranef.lmm(formula, table, **arguments)


def rows(result):
    return {row["term"]: row for row in result.tidy().to_dict("records")}


# anova of one fit


@pytest.mark.parametrize("kind", ["I", "II", "III"])
def test_terms_agree_with_lmertest(agree, kind):
    own, theirs = [], []
    for name in PEERS["anova"]:
        found = rows(ranef.anova(study_fit(name), type=kind))
        theirs += PEERS["anova"][name][f"anova_{kind}_satt"]
        own += [found[row["term"]] for row in PEERS["anova"][name][f"anova_{kind}_satt"]]
    assert [row["df1"] for row in own] == [row["NumDF"] for row in theirs]

    def compare(what, ours, names, rtol):
        values = [[[row[k] for k in keys] for row in table]
                  for table, keys in ((own, ours), (theirs, names))]  # fmt: skip
        agree(f"ranef.anova(type='{kind}')", f"{what}, terms of {len(PEERS['anova'])} models",
              *values, peer=BY_LMERTEST, rtol=rtol)  # fmt: skip

    compare("F, sums and mean squares", ["statistic", "sum_sq", "mean_sq"],
            ["F value", "Sum Sq", "Mean Sq"], 1e-5)  # fmt: skip
    compare("df2", ["df2"], ["DenDF"], 1e-4)
    compare("p-values", ["p_value"], ["Pr(>F)"], 1e-3)


def lmertest_case(key, contrast):
    data = DESIGN
    head, _, formula = key.rpartition("|") if key.startswith(("w|", "empty")) else ("", "", key)
    if head:
        head, _, formula = key.partition("|")
    if head.startswith("empty"):
        data = data[~((data.a == "a2") & (data.b == "b2"))]
    if head == "empty2":
        data = data[~((data.a == "a1") & (data.c == "c4"))]
    coded = {v: contrast for v in "abc" if v in formula.replace("poly", "").replace("I(", "")}
    weights = "w" if head == "w" else None
    return formula, quiet("y ~ " + formula, data, weights=weights, contrasts=coded)


def test_harder_designs_agree_with_lmertest(agree):
    """16 designs: nesting, empty cells, weights, polynomials, no intercept."""
    F, df2 = [], []
    for key in LMERTEST:
        formula, fit = lmertest_case(key, "treatment")
        compared = 0
        for kind in ("I", "II", "III"):
            found = rows(ranef.anova(fit, type=kind))
            for row in LMERTEST[key]["contr.treatment"][kind]:
                if (formula, kind, row["term"]) in KNOWN:
                    continue
                own = found[row["term"]]
                assert own["df1"] == row["NumDF"], (key, kind, row)
                F.append((own["statistic"], row["F value"]))
                df2.append((own["df2"], row["DenDF"]))
                compared += 1
        assert compared >= 3
    what = f"types I to III of {len(LMERTEST)} designs (nested, cells empty, weights, poly)"
    agree("ranef.anova", f"F, {what}", *zip(*F, strict=True), peer=BY_LMERTEST, rtol=1e-5)
    agree("ranef.anova", f"df2, {what}", *zip(*df2, strict=True), peer=BY_LMERTEST, rtol=1e-4)


def test_a_term_after_all_others_has_the_same_type_one_and_two_hypothesis(agree):
    # where lmerTest's type II of a:b is not its own type I (see KNOWN)
    fit = quiet("y ~ a:b + c + (1 | g)", DESIGN)
    one, two = (rows(ranef.anova(fit, type=k))["a:b"] for k in ("I", "II"))
    assert one["statistic"] == pytest.approx(two["statistic"], rel=1e-9)
    reference = {r["term"]: r for r in LMERTEST["a:b+c+(1|g)"]["contr.treatment"]["I"]}["a:b"]
    agree("ranef.anova(type='II')", "F of a:b, last in y ~ a:b + c + (1 | g)", two["statistic"],
          reference["F value"], peer=f"{BY_LMERTEST}, type I", rtol=1e-5)  # fmt: skip


# design, term, the terms it is tested beside
TYPE_TWO = [
    ("0 + a + b", "a", "b"),
    ("0 + a * b", "a", "b"),
    ("poly(x, 2) * b + a", "b", "poly(x, 2) + poly(x, 2):b + a"),
    ("a:b + c", "a:b", "c"),
    ("x + I(x^2) + a:x", "x", "I(x^2)"),
]


def test_type_two_by_its_definition(agree):
    """SAS: what the fall of a sum of squares by a term says of the coefficients of the model.

    Of the designs where lmerTest differs (see KNOWN).
    """
    F = []
    for formula, term, beside in TYPE_TWO:
        fit = quiet(f"y ~ {formula} + (1 | g)", DESIGN)
        low, high = (
            quiet(f"y ~ {fixed} + (1 | g)", DESIGN).estimate.specification.X
            for fixed in (beside, f"{beside} + {term}")
        )
        left = high - low @ np.linalg.lstsq(low, high, rcond=None)[0]
        left = left[:, np.linalg.norm(left, axis=0) > 1e-8]
        test = fit.joint_test(left.T @ fit.estimate.specification.X)
        own = rows(ranef.anova(fit, type="II"))[term]
        assert own["df1"] == test.df1
        F.append((own["statistic"], test.statistic))
    agree("ranef.anova(type='II')", f"F, {', '.join(f'{t} of {f}' for f, t, _ in TYPE_TWO)}",
          *zip(*F, strict=True), peer="SAS's definition, by hand", rtol=1e-7)  # fmt: skip


def test_type_three_of_a_covariate_is_its_slope_averaged_over_levels(agree):
    # where lmerTest tests the slope of the first level (see KNOWN)
    fit = quiet("y ~ x + I(x^2) + a:x + (1 | g)", DESIGN)
    names = list(fit.coef.index)
    L = np.zeros((1, len(names)))
    L[0, names.index("x")] = 1
    for level in ("x:aa2", "x:aa3"):
        L[0, names.index(level)] = 1 / 3
    found = rows(ranef.anova(fit))["x"]
    agree("ranef.anova", "F of x in y ~ x + I(x^2) + a:x + (1 | g)", found["statistic"],
          fit.joint_test(L).statistic, peer="the mean slope, by hand", rtol=1e-8)  # fmt: skip


def test_type_three_tests_unweighted_means(agree):
    fit = quiet("y ~ a * b + (1 | g)", DESIGN)
    grid = pd.DataFrame(
        [(a, b) for a in ("a1", "a2", "a3") for b in ("b1", "b2")], columns=["a", "b"]
    )
    X, _ = fit.estimate.specification.recipe.fixed(grid)
    means = np.array([X[grid.a == level].mean(axis=0) for level in ("a1", "a2", "a3")])
    L = means[1:] - means[0]
    found = rows(ranef.anova(fit))["a"]
    agree("ranef.anova", "F of a in y ~ a * b + (1 | g)", found["statistic"],
          fit.joint_test(L).statistic, peer="unweighted means, by hand", rtol=1e-9)  # fmt: skip


def estimable_by_definition(fit, term):
    """Type III by SAS' words on the over-parameterised model, with null spaces of SciPy."""
    from scipy.linalg import null_space, orth

    frame = fit.frame
    effects = effects_of(fit.estimate.specification.recipe, frame.data, frame.accounting.kept)
    D = np.hstack([e.columns for e in effects.effects])
    owner = np.repeat(
        np.arange(len(effects.effects)), [e.columns.shape[1] for e in effects.effects]
    )
    names = [e.name for e in effects.effects]
    estimable = orth(D.T)

    def functions(t):
        own = effects.effects[t]
        above = [s for s, e in enumerate(effects.effects) if own.within(e)]
        barred = ~np.isin(owner, [t, *above])
        inside = estimable @ null_space(estimable[barred]) if barred.any() else estimable
        higher = [functions(s) for s in above]
        if higher:
            inside = inside @ null_space(np.hstack(higher).T @ inside)
        return inside

    K = functions(names.index(term))
    M = np.linalg.lstsq(fit.estimate.specification.X, D, rcond=None)[0]
    return np.linalg.lstsq(M.T, K, rcond=None)[0].T


def test_type_three_by_its_definition(agree):
    F, formulas = [], ("a*b*c", "a*x", "a*b*x + c", "x*z + a")
    for formula in formulas:
        fit = quiet(f"y ~ {formula} + (1 | g)", DESIGN)
        for term, own in rows(ranef.anova(fit)).items():
            test = fit.joint_test(estimable_by_definition(fit, term))
            assert own["df1"] == test.df1
            F.append((own["statistic"], test.statistic))
    agree("ranef.anova", f"F of type III, {', '.join(formulas)}", *zip(*F, strict=True),
          peer="SAS's definition, null spaces", rtol=1e-7)  # fmt: skip


CONTRASTS = st.sampled_from(["treatment", "sum", "helmert", "sas", "diff", "random"])


@settings(max_examples=25, deadline=None)
@given(
    formula=st.sampled_from(["a*b", "a*b*x", "a/x", "a*c+b", "poly(x,2)*a"]),
    coded=st.tuples(CONTRASTS, CONTRASTS, CONTRASTS),
    kind=st.sampled_from(["I", "II", "III"]),
    empty=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_no_type_depends_on_the_contrasts(formula, coded, kind, empty, seed):
    data = DESIGN[~((DESIGN.a == "a2") & (DESIGN.b == "b2"))] if empty else DESIGN
    rng = np.random.default_rng(seed)
    contrasts = {}
    for v, own in zip("abc", coded, strict=True):
        if v in formula.replace("poly", ""):
            k = data[v].nunique()
            contrasts[v] = rng.standard_normal((k, k - 1)) if own == "random" else own
    plain = quiet(f"y ~ {formula} + (x | g)", data)
    other = quiet(f"y ~ {formula} + (x | g)", data, contrasts=contrasts)
    first, second = (ranef.anova(f, type=kind).tidy() for f in (plain, other))
    assert list(first.term) == list(second.term)
    assert list(first.df1) == list(second.df1)
    np.testing.assert_allclose(second.statistic, first.statistic, rtol=1e-4)
    np.testing.assert_allclose(second.df2, first.df2, rtol=1e-4)


def test_row_order_and_order_of_levels_do_not_matter_to_type_three():
    shuffled = DESIGN.sample(frac=1, random_state=3)
    one, two = (ranef.anova(quiet("y ~ a*b*x + (1|g)", d)).tidy() for d in (DESIGN, shuffled))
    np.testing.assert_allclose(one.statistic, two.statistic, rtol=1e-5)


def test_degrees_of_freedom_by_other_methods_and_their_names():
    fit = study_fit("ergo")
    assert rows(ranef.anova(fit, df="residual"))["Type"]["df2"] == 32
    assert np.isinf(rows(ranef.anova(fit, df="normal"))["Type"]["df2"])
    with pytest.raises(ModelError, match="satterthwaite"):
        ranef.anova(fit, df="satterthwait")


def test_short_contrasts_have_no_type_three():
    linear = np.array([[-1.0], [0.0], [1.0]])
    fit = quiet("y ~ a * x + (1 | g)", DESIGN, contrasts={"a": linear})
    with pytest.raises(ModelError, match="contrasts of a have fewer columns"):
        ranef.anova(fit)
    assert [t.df1 for t in ranef.anova(fit, type="II").tests] == [1, 1, 1]


def test_empty_cells_and_covariates_are_told():
    data = DESIGN[~((DESIGN.a == "a2") & (DESIGN.b == "b2"))]
    text = str(ranef.anova(quiet("y ~ a * b + (1 | g)", data)))
    assert "a:b has no rows for aa2:bb2" in text
    assert "a is tested where x is 0" in str(ranef.anova(quiet("y ~ a * x + (1 | g)", DESIGN)))


def test_a_redundant_term_has_no_hypothesis():
    data = DESIGN.assign(twice=2 * DESIGN.x)
    found = rows(ranef.anova(quiet("y ~ x + twice + (1 | g)", data), type="I"))
    assert found["twice"]["df1"] == 0
    assert np.isnan(found["twice"]["p_value"])


def test_anova_without_terms():
    text = str(ranef.anova(ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))))
    assert "nothing to test" in text


def test_missing_rows_lag_and_unseen_levels():
    data = DESIGN.copy()
    data["a"] = data["a"].astype(object)
    data.loc[5, "y"] = np.nan
    data.loc[5, "a"] = "rare"
    dropped = ranef.anova(quiet("y ~ a * b + (1 | g)", data)).tidy()
    left = ranef.anova(quiet("y ~ a * b + (1 | g)", data.drop(index=5))).tidy()
    np.testing.assert_allclose(dropped.statistic, left.statistic, rtol=1e-10)
    timed = DESIGN.assign(order=np.arange(len(DESIGN)))
    lagged = rows(ranef.anova(quiet("y ~ lag(x, g, time = order) + a + (1 | g)", timed)))
    assert lagged["lag(x, g, time = order)"]["df1"] == 1


def test_tables_come_in_the_users_library():
    table = ranef.anova(quiet("y ~ a + (1 | g)", pl.from_pandas(DESIGN))).tidy()
    assert isinstance(table, pl.DataFrame)
    assert table.columns == ["term", "sum_sq", "mean_sq", "df1", "df2", "statistic", "p_value"]


def test_a_saved_fit_can_be_asked(tmp_path):
    fit = quiet("y ~ a * b + (1 | g)", DESIGN)
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    pd.testing.assert_frame_equal(ranef.anova(fit).tidy(), ranef.anova(again).tidy())
    assert ranef.variance_test(again).tests[0].df == 1
    assert ranef.robust(again).n_clusters == 24


def test_generalised_terms_are_wald_tests_of_every_part():
    fit = ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial")
    (own,) = ranef.anova(fit).tests
    L = np.eye(4)[1:]
    gap = L @ fit.estimate.coefficients
    chi2 = gap @ np.linalg.solve(L @ fit.vcov.to_numpy() @ L.T, gap)
    assert own.statistic == pytest.approx(chi2, rel=1e-10)
    assert own.p_value == pytest.approx(stats.chi2.sf(chi2, 3), rel=1e-8)
    parts = ranef.glmm(
        "count ~ mined + (1 | site)", ranef.data.load("Salamanders"), family="nbinom2",
        zero="~ mined", dispersion="~ DOY",
    )  # fmt: skip
    assert [(t.component, t.term) for t in ranef.anova(parts).tests] == [
        ("conditional", "mined"), ("dispersion", "DOY"), ("zero", "mined"),
    ]  # fmt: skip
    with pytest.raises(ModelError, match="for linear models"):
        ranef.anova(fit, df="satterthwaite")


def test_ordinal_and_multinomial_terms():
    wine = ranef.data.load("wine")
    ordinal = ranef.glmm("rating ~ temp + contact + (1 | judge)", wine, family="cumulative")
    found = {t.term: t for t in ranef.anova(ordinal).tests}
    row = ordinal.tidy().set_index("term").loc["tempwarm"]
    assert found["temp"].statistic == pytest.approx(row.statistic**2, rel=1e-8)
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "y": rng.choice(list("abc"), 300),
            "x": rng.normal(size=300),
            "g": rng.integers(0, 20, 300),
        }
    )
    several = quiet_glmm("y ~ x + (1 | g)", table, family="multinomial")
    assert [t.df1 for t in ranef.anova(several).tests] == [2]


def quiet_glmm(formula, table, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ranef.glmm(formula, table, **arguments)


def test_held_coefficients_are_not_tested():
    fit = quiet_glmm(CBPP, ranef.data.load("cbpp"), family="binomial", fixed={"period2": -1.0})
    assert [t.df1 for t in ranef.anova(fit).tests] == [0]


def test_arguments_of_anova():
    fit = study_fit("ergo")
    with pytest.raises(ModelError, match=r"did you mean 'III'"):
        ranef.anova(fit, type="iii")
    assert ranef.anova(fit, type=2).type == "II"
    with pytest.raises(ModelError, match="two fits"):
        ranef.anova(fit, method="bootstrap")
    with pytest.raises(ModelError, match="fit 2"):
        ranef.anova(fit, "x")
    with pytest.raises(ModelError, match="no denominator"):
        ranef.anova(fit, fit, df="residual")


# fits compared


@pytest.fixture(scope="module")
def sleep():
    table = TABLES["sleep"]
    return {
        "none": ranef.lmm("Reaction ~ 1 + (Days | Subject)", table),
        "intercept": ranef.lmm("Reaction ~ Days + (1 | Subject)", table),
        "diagonal": ranef.lmm("Reaction ~ Days + (Days || Subject)", table),
        "slope": ranef.lmm("Reaction ~ Days + (Days | Subject)", table),
    }


def test_fits_are_compared_by_ml(agree, sleep):
    found = ranef.anova(sleep["slope"], sleep["none"])
    last = found.tidy().iloc[1]
    # pbkrtest's PBmodcomp has the statistic, from fits by ML
    agree("ranef.anova(fit1, fit2)", "chi-squared of Days, sleepstudy", last["statistic"],
          PEERS["modcomp"]["PB"][0]["stat"], peer=BY_PBKRTEST, atol=1e-5)  # fmt: skip
    agree("ranef.anova(fit1, fit2)", "p-value of Days, sleepstudy", last["p_value"],
          PEERS["modcomp"]["PB"][0]["p.value"], peer=BY_PBKRTEST, rtol=1e-5)  # fmt: skip
    assert list(found.tidy().model) == ["fit 2", "fit 1"]
    assert "Refitted by ML" in str(found)
    again = ranef.lmm("Reaction ~ Days + (Days | Subject)", TABLES["sleep"], reml=False)
    assert last["loglik"] == pytest.approx(again.loglik, abs=1e-8)
    assert last["aic"] == pytest.approx(again.aic, abs=1e-7)
    assert last["bic"] == pytest.approx(again.bic, abs=1e-7)


def test_restricted_likelihoods_of_different_fixed_effects_are_refused(sleep):
    with pytest.raises(ModelError, match="different fixed effects"):
        ranef.anova(sleep["slope"], sleep["none"], refit=False)
    ml = ranef.lmm("Reaction ~ Days + (1 | Subject)", TABLES["sleep"], reml=False)
    with pytest.raises(ModelError, match="by REML and others by ML"):
        ranef.anova(sleep["slope"], ml, refit=False)


def test_mixtures_of_the_slope(agree, sleep):
    # lme4's statistic: 42.8368, naive 4.99e-10, mixture 2.79e-10
    last = ranef.anova(sleep["intercept"], sleep["slope"], refit=False).tidy().iloc[1]
    call, what = "ranef.anova(fit1, fit2, refit=False)", "of the slope of Days, sleepstudy"
    agree(call, f"REML ratio {what}", last["statistic"], 42.8368, peer="lme4 1.1-31", atol=1e-4)
    agree(call, f"naive p-value {what}", last["p_naive"], 4.99e-10, peer=BY_LMERTEST, rtol=1e-3)
    half = (stats.chi2.sf(last["statistic"], 1) + stats.chi2.sf(last["statistic"], 2)) / 2
    agree(call, f"p-value {what}", last["p_value"], half,
          peer="half of chi-squared 1, half of 2", rtol=1e-10)  # fmt: skip
    assert last["p_value"] == pytest.approx(2.79e-10, rel=1e-3)
    three = ranef.anova(*(sleep[k] for k in ("intercept", "diagonal", "slope")), refit=False)
    one, corr = three.models[1].test, three.models[2].test
    assert one.p_value == pytest.approx(stats.chi2.sf(one.statistic, 1) / 2, rel=1e-10)
    assert corr.p_value == pytest.approx(stats.chi2.sf(corr.statistic, 1), rel=1e-10)
    assert "mixture" in str(three)


def test_models_that_are_not_nested_have_no_p_value(sleep):
    other = ranef.lmm("Reaction ~ I(Days^2) + (1 | Subject)", TABLES["sleep"])
    found = ranef.anova(other, sleep["slope"])
    last = found.tidy().iloc[1]
    assert np.isnan(last["p_value"])
    assert np.isnan(last["p_naive"])
    assert "not nested" in str(found)


def test_different_rows_and_responses_are_refused(sleep):
    table = TABLES["sleep"].copy()
    table.loc[3, "Days"] = np.nan
    with pytest.raises(DataError, match=r"different rows \(180 and 179.*Days"):
        ranef.anova(sleep["slope"], ranef.lmm("Reaction ~ Days + (1 | Subject)", table))
    with pytest.raises(DataError, match=r"different responses"):
        ranef.anova(
            sleep["slope"], ranef.lmm("log(Reaction) ~ Days + (1|Subject)", TABLES["sleep"])
        )
    table["w"] = 2.0
    with pytest.raises(DataError, match="different weights"):
        ranef.anova(
            sleep["slope"],
            ranef.lmm(
                "Reaction ~ Days + (1 | Subject)", TABLES["sleep"].assign(w=2.0), weights="w"
            ),
        )


def test_two_tables_that_leave_out_different_rows_of_the_same_number():
    a, b = TABLES["sleep"].copy(), TABLES["sleep"].copy()
    a.loc[3, "Reaction"], b.loc[4, "Reaction"] = np.nan, np.nan
    fits = [ranef.lmm("Reaction ~ Days + (1 | Subject)", t) for t in (a, b)]
    with pytest.raises(DataError, match="different rows"):
        ranef.anova(*fits)


def test_generalised_fits_compared():
    data = ranef.data.load("cbpp")
    one = ranef.glmm(CBPP, data, family="binomial")
    none = ranef.glmm(CBPP.replace("period", "1"), data, family="binomial")
    last = ranef.anova(none, one).tidy().iloc[1]
    assert last["statistic"] == pytest.approx(2 * (one.loglik - none.loglik), rel=1e-10)
    assert last["p_value"] == pytest.approx(stats.chi2.sf(last["statistic"], 3), rel=1e-8)
    nodes = ranef.glmm(CBPP, data, family="binomial", quadrature=9)
    with pytest.raises(ModelError, match="quadratures"):
        ranef.anova(none, nodes)
    with pytest.raises(ModelError, match="priors"):
        ranef.anova(
            none,
            ranef.glmm(CBPP, data, family="binomial", priors={"sd": ranef.priors.HalfNormal(1)}),
        )


def test_families_and_zero_parts():
    data = ranef.data.load("Salamanders")
    poisson = ranef.glmm("count ~ mined + (1 | site)", data, family="poisson")
    zero = ranef.glmm("count ~ mined + (1 | site)", data, family="poisson", zero="~ 1")
    counts = ranef.glmm("count ~ mined + (1 | site)", data, family="nbinom2")
    other = ranef.glmm("count ~ mined + (1 | site)", data, family="nbinom1")
    assert "families differ" in str(ranef.anova(other, counts))
    assert "the overdispersion" in str(ranef.anova(poisson, counts))
    found = ranef.anova(poisson, zero)
    assert "zero part" in str(found)
    assert np.isnan(found.tidy().iloc[1]["p_value"])
    assert found.tidy().iloc[1]["p_naive"] < 1e-4


def test_bootstrap_of_two_fits(agree, sleep):
    pair = (sleep["none"], sleep["slope"])
    found = ranef.anova(*pair, method="bootstrap", n=2000, rng=1)
    again = ranef.anova(*pair, method="bootstrap", n=2000, rng=1, n_jobs=1)
    own = found.models[1].bootstrap
    assert np.array_equal(own.draws, again.models[1].bootstrap.draws)
    assert own.p_value == pytest.approx(1 / (1 + len(own.draws)))
    assert len(own.draws) + own.failed == 2000
    mean = own.draws.mean()
    assert own.bartlett == pytest.approx(found.models[1].test.statistic / mean)
    # with balanced data inside the boundary the ratio is 18 log(1 + F / 17), F on 1 and 17 df
    # (pbkrtest's 500 draws have the mean 23.537 / 17.997 = 1.31, 2.5 standard errors above)
    expected = 18 * (digamma(9) - digamma(8.5))
    agree("ranef.anova(method='bootstrap')", "mean of the ratio under the hypothesis, sleepstudy",
          mean, expected, peer="closed form (F on 1 and 17 df)",
          atol=4 * own.draws.std() / np.sqrt(2000))  # fmt: skip
    assert set(found.tidy().columns) >= {"p_bartlett", "p_gamma", "p_f", "n_draws", "n_failed"}
    gamma = stats.gamma.sf(
        23.5365374, mean**2 / own.draws.var(ddof=1), scale=own.draws.var(ddof=1) / mean
    )
    assert own.p_gamma == pytest.approx(gamma, rel=1e-4)


def test_bootstrap_of_generalised_fits():
    data = ranef.data.load("cbpp")
    one = ranef.glmm(CBPP, data, family="binomial")
    none = ranef.glmm(CBPP.replace("period", "1"), data, family="binomial")
    own = ranef.anova(none, one, method="bootstrap", n=60, rng=2).models[1].bootstrap
    assert own.p_value == pytest.approx(1 / (1 + len(own.draws)))
    assert 1.5 < own.draws.mean() < 5


# mixtures


def test_mixtures_of_known_cones(agree):
    np.testing.assert_allclose(chi_bar(Cone(0, (1,))).weights, [0.5, 0.5])
    assert list(chi_bar(Cone(1, (1,))).degrees) == [1, 2]
    np.testing.assert_allclose(chi_bar(Cone(0, (1, 1, 1))).weights, np.array([1, 3, 3, 1]) / 8)
    # the semidefinite 2 x 2 matrices are a circular cone with an opening of 45 degrees
    inside = (1 - np.cos(np.pi / 4)) / 2
    expected = [inside, 0.5 - inside, 0.5 - inside, inside]
    call = "ranef.variance_test(method='mixture')"
    agree(call, "weights, covariance matrix of order 2", chi_bar(Cone(0, (2,))).weights, expected,
          peer="closed form (circular cone)", atol=4e-3)  # fmt: skip
    # of order three: Amelunxen & Burgisser (2015, Found. Comput. Math. 15)
    root, pi = np.sqrt(2), np.pi
    half = [0.25 - 1 / (root * pi), root / 4 - 0.25, 1 / (root * pi)]
    expected = [*half, 1 - root / 2, *half[::-1]]
    agree(call, "weights, covariance matrix of order 3", chi_bar(Cone(0, (3,))).weights, expected,
          peer="Amelunxen & Bürgisser (2015)", atol=0.03)  # fmt: skip
    np.testing.assert_allclose(chi_bar(Cone(0, (3,))).weights[[0, 6]], half[0], atol=2e-3)


@pytest.mark.parametrize(
    "blocks",
    [
        (1, 1),
        (1, 1, 1),
        pytest.param((2,), marks=pytest.mark.study),
        pytest.param((2, 1), marks=pytest.mark.study),
        pytest.param((3,), marks=pytest.mark.study),
    ],
)
def test_mixtures_are_the_lengths_of_projections(blocks):
    from scipy.optimize import nnls

    d = sum(s * (s + 1) // 2 for s in blocks)
    rng = np.random.default_rng(5)
    A = rng.normal(size=(d, d))
    J = A @ A.T + d * np.eye(d)
    law = chi_bar(Cone(0, blocks), J)
    assert law.weights.sum() == pytest.approx(1)
    z = rng.multivariate_normal(np.zeros(d), np.linalg.inv(J), size=1500)
    root = np.linalg.cholesky(J).T
    if set(blocks) == {1}:
        lengths = [v @ J @ v - nnls(root, root @ v)[1] ** 2 for v in z]
    else:
        lengths = [projected_length(v, J, blocks) for v in z]
    for x in (0.5, 2.0, 4.0):
        share = np.mean(np.array(lengths) >= x)
        assert law.tail(x) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 1500))


def projected_length(z, J, blocks):
    """Squared length of the projection on the cone, by a search over square roots."""
    from scipy.optimize import minimize

    def point(u):
        out, at = [], 0
        for s in blocks:
            F = np.zeros((s, s))
            k = s * (s + 1) // 2
            F[np.tril_indices(s)] = u[at : at + k]
            at += k
            P = F @ F.T
            r, c = np.triu_indices(s)
            out.append(np.where(r == c, 1, np.sqrt(2)) * P[r, c])
        return np.concatenate(out)

    def distance(u):
        gap = z - point(u)
        return gap @ J @ gap

    starts = (0.1, 1.0)
    best = min(minimize(distance, np.full(len(z), s), method="BFGS").fun for s in starts)
    return z @ J @ z - min(best, z @ J @ z)


def test_mixture_of_two_variances_by_simulation(sleep):
    # the weights come from simulated scores: the share of estimates with both variances
    # positive is what they predict
    table = TABLES["sleep"]
    large = ranef.lmm("Reaction ~ Days + I(Days^2) + (Days + I(Days^2) || Subject)", table)
    small = ranef.lmm("Reaction ~ Days + I(Days^2) + (1 | Subject)", table)
    found = ranef.anova(small, large, refit=False).models[1].test
    Y = removal.draw(small.estimate, 600, np.random.default_rng(3))
    theta = refits.refit_many(large.estimate, Y).theta[:, 1:]
    both = np.mean((theta > 1e-3).all(axis=1))
    assert found.distribution.weights[2] == pytest.approx(both, abs=0.05)
    assert found.distribution.weights[2] < 0.15


def test_nesting_of_random_effects():
    table = TABLES["sleep"].assign(half=TABLES["sleep"].Days > 4)

    def cone(small, large):
        fits = [quiet(f"Reaction ~ Days + {f}", table).estimate for f in (small, large)]
        return nesting(*fits)

    assert cone("(1 | Subject)", "(half | Subject)").cone == Cone(1, (1,))
    assert cone("(1 | Subject)", "(half + Days | Subject)").cone == Cone(2, (2,))
    assert cone("diag(half | Subject)", "(half | Subject)").cone == Cone(1)
    assert cone("diag(Days | Subject)", "(Days | Subject)").cone == Cone(1)
    assert cone("(1 | Subject)", "(1 | Subject) + (1 | Subject:half)").cone == Cone(0, (1,))
    assert cone("(1 | Subject:half)", "(1 | Subject)").cone is None
    assert "bootstrap" in cone("(1 | Subject)", "(1 | Subject) + cs(0 + half | Subject)").reason


# variances


def test_exact_distribution_is_that_of_the_f_test_in_one_way_layouts(agree):
    """With equal groups the ratio is a function of F, whose distribution is known.

    Dyestuff: p is 0.00440; RLRsim's 0.0049 from 100,000 draws is a little off.
    """
    data = ranef.data.load("Dyestuff")
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", data)
    (own,) = ranef.variance_test(fit, n=400_000, rng=3).tests
    groups = [g.to_numpy() for _, g in data.groupby("Batch").Yield]
    exact = stats.f_oneway(*groups).pvalue
    known, call = PEERS["rlrsim"]["dyestuff"], "ranef.variance_test"
    agree(call, "REML ratio of Batch, Dyestuff", own.statistic, known["statistic"],
          peer=BY_RLRSIM, atol=1e-5)  # fmt: skip
    agree(call, "p-value of Batch by 400,000 draws, Dyestuff", own.p_value, exact,
          peer="exact F test", atol=4 * np.sqrt(exact / 400_000))  # fmt: skip
    assert own.p_value == pytest.approx(known["p.value"], abs=1e-3)
    agree(call, "probability of a ratio of zero, Dyestuff", own.p_zero, stats.f.cdf(1, 5, 24),
          peer="exact: P(F < 1)", atol=4e-3)  # fmt: skip


def test_a_variance_of_zero(agree):
    """RLRsim prints P(ratio > 0) where the ratio is zero; P(ratio >= 0) is one."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    found = ranef.variance_test(fit)
    (own,) = found.tests
    assert own.statistic == 0
    assert own.p_value == 1
    agree("ranef.variance_test", "probability of a ratio above zero, Dyestuff2", 1 - own.p_zero,
          PEERS["rlrsim"]["dyestuff2"]["p.value"], peer=BY_RLRSIM, atol=5e-3)  # fmt: skip
    assert "exactRLRT" in str(found)


def test_statistics_agree_with_rlrsim(agree, sleep):
    peers = PEERS["rlrsim"]
    (one,) = ranef.variance_test(sleep["intercept"]).tests
    own = ranef.variance_test(sleep["diagonal"]).tests[1]
    agree("ranef.variance_test", "REML ratios of the intercept and of the slope, sleepstudy",
          [one.statistic, own.statistic],
          [peers["sleep_int"]["statistic"], peers["sleep_slope_given_int"]["statistic"]],
          peer=BY_RLRSIM, atol=1e-4)  # fmt: skip
    assert own.method == "exact"
    joint = ranef.variance_test(sleep["intercept"], fixed=["Days"])
    expected = peers["exactLRT_sleep_days_and_int"]["statistic"]
    agree("ranef.variance_test(fixed=['Days'])", "ratio of intercepts and Days, sleepstudy",
          joint.tests[0].statistic, expected, peer=BY_RLRSIM, atol=1e-4)  # fmt: skip
    assert joint.criterion == "ML"
    assert joint.tests[0].df == 2


def test_statistics_agree_with_ranova(agree):
    ratios, naive = [], []
    for name in ("sleep_slope", "sleep_diag", "ergo", "oats", "orthodont_slope"):
        own = ranef.variance_test(study_fit(name), method="mixture").tests
        theirs = [row for row in PEERS["anova"][name]["ranova"] if row["LRT"] is not None]
        ratios += zip(sorted(t.statistic for t in own), sorted(r["LRT"] for r in theirs),
                      strict=True)  # fmt: skip
        naive += zip(sorted(t.p_naive for t in own), sorted(r["Pr(>Chisq)"] for r in theirs),
                     strict=True)  # fmt: skip
    call, models = "ranef.variance_test(method='mixture')", "all variances of five models"
    agree(call, f"REML ratios, {models}", *zip(*ratios, strict=True),
          peer=f"ranova, {BY_LMERTEST}", atol=2e-3)  # fmt: skip
    agree(call, f"naive p-values, {models}", *zip(*naive, strict=True),
          peer=f"ranova, {BY_LMERTEST}", rtol=2e-3)  # fmt: skip


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_exact_draws_are_ratios_of_refits(reml, weighted):
    rng = np.random.default_rng(8)
    n = 60
    table = pd.DataFrame(
        {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 9, n),
         "w": rng.uniform(0.5, 2, n)}
    )  # fmt: skip
    fit = quiet("y ~ x + (0 + x | g)", table, reml=reml, weights="w" if weighted else None)
    estimate = fit.estimate
    null = removal.ordinary(estimate.specification, reml)
    Y = removal.draw(null, 1500, rng)
    refitted = np.maximum(2 * (removal.logliks(estimate, Y) - removal.logliks(null, Y)), 0)
    drawn = simulate_ratio(spectrum(estimate.specification, 0), 60_000, rng, reml=reml).values
    assert np.mean(refitted < 1e-6) == pytest.approx(np.mean(drawn < 1e-6), abs=0.05)
    for q in (0.8, 0.9, 0.95):
        x = np.quantile(drawn, q)
        assert np.mean(refitted >= x) == pytest.approx(1 - q, abs=4 * np.sqrt(q * (1 - q) / 1500))


def test_exact_draws_with_fixed_effects_tested_at_once():
    rng = np.random.default_rng(9)
    table = pd.DataFrame(
        {"y": rng.normal(size=60), "x": rng.normal(size=60), "g": np.repeat(np.arange(10), 6)}
    )
    estimate = quiet("y ~ x + (1 | g)", table, reml=False).estimate
    spec = estimate.specification
    null = removal.without(estimate, removal.Removal("conditional", 0, (0,)), np.array([0]))
    Y = removal.draw(null, 1500, rng)
    refitted = 2 * (removal.logliks(estimate, Y) - removal.logliks(null, Y))
    drawn = simulate_ratio(spectrum(spec, 0), 60_000, rng, reml=False, fixed=1).values
    for q in (0.5, 0.8, 0.95):
        x = np.quantile(drawn, q)
        assert np.mean(refitted >= x) == pytest.approx(1 - q, abs=4 * np.sqrt(q * (1 - q) / 1500))


def test_spectrum_by_brute_force():
    rng = np.random.default_rng(2)
    g = rng.integers(0, 12, 80)
    table = pd.DataFrame({"y": rng.normal(size=80), "x": rng.normal(size=80), "g": g})
    spec = quiet("y ~ x + (1 | g)", table).estimate.specification
    known = spectrum(spec, 0)
    Z = np.eye(12)[spec.factors[0].codes]
    P = np.eye(80) - spec.X @ np.linalg.solve(spec.X.T @ spec.X, spec.X.T)
    expected = np.linalg.eigvalsh(Z.T @ P @ Z)
    expected = expected[expected > 1e-8]
    np.testing.assert_allclose(np.repeat(known.mu, known.counts), expected, rtol=1e-8)
    np.testing.assert_allclose(
        np.repeat(known.xi, known.xi_counts), np.sort(np.bincount(g)), rtol=1e-10
    )


def test_ordinary_likelihood_by_the_twin():
    for reml in (True, False):
        fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"), reml=reml)
        own = removal.ordinary(fit.estimate.specification, reml)
        assert own.loglik == pytest.approx(fit.loglik, abs=1e-8)  # its variance is zero
        dense = twin.deviance(fit.estimate.specification, np.zeros(1), reml)
        assert own.loglik == pytest.approx(-dense / 2, abs=1e-8)


def test_whole_terms_groups_and_structures(sleep):
    table = TABLES["sleep"]
    whole = ranef.variance_test(sleep["slope"], whole=True).tests[0]
    assert (whole.term, whole.df) == ("(Days | Subject)", 3)
    data = ranef.data.load("Penicillin")
    crossed = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    assert [t.term for t in ranef.variance_test(crossed, "plate").tests] == ["(1 | plate)"]
    with pytest.raises(ModelError, match="did you mean 'plate'"):
        ranef.variance_test(crossed, "plates")
    cs = quiet("Reaction ~ Days + cs(0 + factor(Days > 4) | Subject)", table)
    found = ranef.variance_test(cs)
    assert np.isnan(found.tests[0].p_value)
    assert "bootstrap" in str(found)
    with pytest.raises(ModelError, match="one variance of its own"):
        ranef.variance_test(sleep["slope"], method="exact")
    diagonal = quiet("Reaction ~ Days + diag(Days | Subject)", table)
    same = ranef.variance_test(sleep["diagonal"]).tests[1]
    assert ranef.variance_test(diagonal).tests[0].statistic == pytest.approx(
        same.statistic, abs=1e-5
    )
    factor = quiet("Reaction ~ Days + (1 + factor(Days > 4) | Subject)", table)
    assert ranef.variance_test(factor).tests[0].term.startswith("factor(Days > 4) in (")


def test_bootstrap_of_a_variance(agree):
    data = ranef.data.load("Dyestuff")
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", data)
    (own,) = ranef.variance_test(fit, method="bootstrap", n=4000, rng=4).tests
    agree("ranef.variance_test(method='bootstrap')", "p-value of Batch by 4,000 draws, Dyestuff",
          own.p_value, 0.0044, peer="exact F test", atol=4 * np.sqrt(0.0044 / 4000))  # fmt: skip
    assert own.p_zero == pytest.approx(stats.f.cdf(1, 5, 24), abs=0.04)


def test_variances_of_generalised_models():
    data = ranef.data.load("cbpp")
    fit = ranef.glmm(CBPP, data, family="binomial")
    (own,) = ranef.variance_test(fit).tests
    # without the herds: an ordinary logistic regression, period by period
    sums = data.groupby("period")[["incidence", "size"]].sum()
    rate = (sums["incidence"] / sums["size"])[data["period"]].to_numpy()
    plain = stats.binom.logpmf(data["incidence"], data["size"], rate).sum()
    assert own.loglik == pytest.approx(plain, abs=1e-6)
    assert own.p_value == pytest.approx(stats.chi2.sf(own.statistic, 1) / 2, rel=1e-8)
    with pytest.raises(ModelError, match="for linear models"):
        ranef.variance_test(fit, method="exact")
    with pytest.raises(ModelError, match="for linear models"):
        ranef.variance_test(fit, fixed=["period"])
    (drawn,) = ranef.variance_test(fit, method="bootstrap", n=40, rng=1).tests
    assert drawn.p_value <= 3 / 41
    slopes = quiet_glmm(
        "count ~ mined + (mined | site)", ranef.data.load("Salamanders"), family="poisson"
    )
    assert ranef.variance_test(slopes).tests[0].term == "mined in (mined | site)"


def test_the_exact_distribution_takes_little_time_with_many_levels():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(3000), 4)
    table = {"y": rng.normal(size=12_000), "g": g.astype(str)}
    spec = quiet("y ~ 1 + (1 | g)", table).estimate.specification
    known = spectrum(spec, 0)
    assert (len(known.mu), known.counts.sum()) == (1, 2999)


# robust


CLUB = {
    "sleep_slope": ("Reaction ~ Days + (Days | Subject)", "sleep"),
    "sleep_int": ("Reaction ~ Days + (1 | Subject)", "sleep"),
    "orth": ("distance ~ age11 * Sex + (1 | Subject)", "orthodont"),
    "oats": ("yield ~ Variety + nitroF + (1 | Block/Variety)", "oats"),
}


@pytest.mark.parametrize("kind", TYPES)
def test_robust_agrees_with_clubsandwich(agree, kind):
    ours, theirs = [], []
    for name, (formula, table) in CLUB.items():
        fit = ranef.lmm(formula, TABLES[table])
        if name == "oats" and kind == "CR1p":
            with pytest.raises(ModelError, match="more clusters"):
                ranef.robust(fit, type=kind)
            continue
        found, expected = ranef.robust(fit, type=kind), PEERS["clubsandwich"][name][kind]
        assert found.cluster == {"oats": "Block"}.get(name, "Subject")
        own = found.tidy()
        assert len(own) == len(expected["SE"])
        ours += [*own.std_error, *own.df]
        theirs += [*expected["SE"], *expected["df"]]
    agree(f"ranef.robust(type='{kind}')", "standard errors and df, sleepstudy, Orthodont, Oats",
          ours, theirs, peer=BY_CLUBS, rtol=1e-6)  # fmt: skip


def club_fit(name):
    data = DESIGN.drop(index=range(2, 240, 7))
    if name == "nested":
        return quiet("y ~ a + x + (1 | h/g)", data.assign(h=(data.g + 2) // 3))
    return quiet("y ~ a * b + x + (x | g)", data)


def test_robust_of_unbalanced_designs_agrees_with_clubsandwich(agree):
    rows, tests, p = [], [], []
    for name in ("plain", "nested"):
        fit = club_fit(name)
        for kind in TYPES:
            found, expected = ranef.robust(fit, type=kind), CLUBS[name][kind]
            np.testing.assert_allclose(found.covariance, expected["vcov"], rtol=2e-4, atol=1e-6)
            own = found.tidy()
            rows += zip(own.std_error, expected["SE"], strict=True)
            rows += zip(own.df, expected["df"], strict=True)
            L = np.eye(len(own))[4:6] if name == "plain" else np.eye(len(own))[1:3]
            test = found.test(L)
            tests += [(test.statistic, expected["F"]), (test.df2, expected["df2"])]
            p.append((test.p_value, expected["p"]))
    models = f"unbalanced a * b + x + (x | g) and a + x + (1 | h/g), {', '.join(TYPES)}"
    agree("ranef.robust(type=...)", f"standard errors and df, {models}", *zip(*rows, strict=True),
          peer=BY_CLUBS, rtol=1e-4)  # fmt: skip
    agree("robust().test", f"F and df2 of two rows, {models}", *zip(*tests, strict=True),
          peer=BY_CLUBS, rtol=1e-3)  # fmt: skip
    agree("robust().test", f"p-value of two rows, {models}", *zip(*p, strict=True),
          peer=BY_CLUBS, rtol=5e-3)  # fmt: skip


def test_study_values_of_the_slope(sleep):
    for kind, error in (("CR0", 1.502237), ("CR2", 1.545789), ("CR3", 1.590604)):
        row = ranef.robust(sleep["intercept"], type=kind).tidy().set_index("term").loc["Days"]
        assert row.std_error == pytest.approx(error, abs=1e-6)
        assert row.df == pytest.approx(17, rel=1e-9)
    assert "a random slope may be missing" in str(ranef.robust(sleep["intercept"]))


def brute(fit, codes, kind):
    """Everything with n x n matrices, by the definitions of Pustejovsky & Tipton (2018)."""
    estimate = fit.estimate
    spec = estimate.specification
    n, p = spec.X.shape
    V = estimate.sigma**2 * twin.covariance(spec, estimate.theta)
    W = np.linalg.inv(V)
    M = np.linalg.inv(spec.X.T @ W @ spec.X)
    H = spec.X @ M @ spec.X.T @ W
    A = np.zeros((n, n))
    for c in np.unique(codes):
        own = np.ix_(codes == c, codes == c)
        if kind == "CR2":
            D = np.linalg.cholesky(V[own]).T
            G = ((np.eye(n) - H) @ V @ (np.eye(n) - H).T)[own]
            values, vectors = np.linalg.eigh(D @ G @ D.T)
            A[own] = D.T @ (vectors / np.sqrt(values)) @ vectors.T @ D
        elif kind == "CR3":
            A[own] = np.linalg.inv(np.eye(own[0].size) - H[own])
        else:
            A[own] = np.eye(own[0].size)
    S = np.zeros((p, p))
    P = []
    for c in np.unique(codes):
        own = codes == c
        G = (np.eye(n) - H)[own].T @ A[np.ix_(own, own)].T @ W[np.ix_(own, own)] @ spec.X[own] @ M
        P.append(G)
        u = G.T @ (spec.y - (0 if spec.offset is None else spec.offset))
        S += np.outer(u, u)
    df = []
    for j in range(p):
        K = np.column_stack([G[:, j] for G in P])
        inner = K.T @ V @ K
        df.append(np.trace(inner) ** 2 / np.sum(inner**2))
    return S, np.array(df)


@pytest.mark.parametrize("kind", ["CR0", "CR2", "CR3"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_robust_by_brute_force(agree, kind, weights):
    data = DESIGN.drop(index=range(2, 240, 5)).assign(h=lambda d: (d.g + 2) // 3)
    fit = quiet("y ~ a + x + (1 | h) + (x | g)", data, weights=weights)
    codes = fit.estimate.specification.factors[0].codes.astype(np.intp)
    assert fit.estimate.specification.factors[0].name == "h"
    S, df = brute(fit, codes, kind)
    found = cluster_covariance(fit.estimate, codes, kind)
    np.testing.assert_allclose(found.vcov, S, rtol=1e-7, atol=1e-10)
    agree(f"ranef.robust(type='{kind}')",
          f"df, a + x + (1 | h) + (x | g) with {'weights' if weights else 'no weights'}",
          found.degrees_of_freedom(np.eye(len(df))), df,
          peer="Pustejovsky & Tipton (2018), n x n", rtol=1e-7)  # fmt: skip


def test_cr2_is_unbiased_where_the_model_holds():
    fit = club_fit("plain")
    codes = fit.estimate.specification.factors[0].codes.astype(np.intp)
    found = cluster_covariance(fit.estimate, codes, "CR2")
    for c in np.eye(len(found.beta)):
        _, expected = found._wishart(c[None])
        assert expected[0, 0] == pytest.approx(c @ fit.estimate.coefficient_vcov @ c, rel=1e-8)


def test_hotelling_with_one_hypothesis_is_the_t_test():
    found = ranef.robust(club_fit("plain"))
    test, row = found.test("x"), found.tidy().set_index("term").loc["x"]
    assert test.statistic == pytest.approx(row.statistic**2, rel=1e-9)
    assert test.df2 == pytest.approx(row.df, rel=1e-9)
    assert test.p_value == pytest.approx(row.p_value, rel=1e-7)


def test_orthodont_wald_test_agrees_with_clubsandwich(agree):
    fit = ranef.lmm("distance ~ age11 * Sex + (1 | Subject)", TABLES["orthodont"])
    found = ranef.robust(fit)
    names = [name for name in found.terms if "Sex" in name]
    test, expected = found.test(names), PEERS["clubsandwich"]["orth_wald_sex"][2]
    agree("robust(type='CR2').test", "F and df2 of Sex, Orthodont", [test.statistic, test.df2],
          [expected["Fstat"], expected["df_denom"]], peer=BY_CLUBS, rtol=1e-6)  # fmt: skip
    assert test.p_value == pytest.approx(expected["p_val"], rel=1e-5)


def test_clusters_may_be_coarser_and_given_in_several_ways():
    data = DESIGN.assign(h=(DESIGN.g + 2) // 3)
    fit = quiet("y ~ a + x + (1 | g)", data)
    by_values = ranef.robust(fit, data["h"])
    assert (by_values.cluster, by_values.n_clusters) == ("h", 8)
    nested = quiet("y ~ a + x + (1 | h/g)", data)
    assert ranef.robust(nested).cluster == "h"
    missing = data.copy()
    missing.loc[0, "y"] = np.nan
    dropped = quiet("y ~ a + x + (1 | g)", missing)
    assert ranef.robust(dropped, missing["h"]).n_clusters == 8
    with pytest.raises(UnknownColumnError, match="neither a grouping factor"):
        ranef.robust(fit, "hh")
    with pytest.raises(DataError, match="one label for each"):
        ranef.robust(fit, [1, 2, 3])
    with pytest.raises(ModelError, match="share random effects"):
        ranef.robust(fit, "a")
    with pytest.raises(ModelError, match="has one"):
        ranef.robust(fit, np.zeros(240))


def test_crossed_factors_are_refused():
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    with pytest.raises(ModelError, match="no independent clusters"):
        ranef.robust(fit)


def test_robust_hypotheses_are_checked(sleep):
    found = ranef.robust(sleep["slope"])
    with pytest.raises(ModelError, match="did you mean 'Days'"):
        found.test("Dayz")
    with pytest.raises(ModelError, match="3 columns"):
        found.test(np.eye(3))
    assert found.test([[0, 1]], [10]).statistic == pytest.approx(
        ((10.467286 - 10) / 1.545789) ** 2, rel=1e-5
    )
    assert list(found.confint().columns) == ["term", "estimate", "conf_low", "conf_high"]
    assert found.vcov.loc["Days", "Days"] == pytest.approx(1.545789**2, rel=1e-6)


GENERALISED = {
    "laplace": (CBPP, "cbpp", {"family": "binomial"}),
    "quadrature": (CBPP, "cbpp", {"family": "binomial", "quadrature": 9}),
    "parts": ("count ~ mined + (1 | site)", "Salamanders",
              {"family": "nbinom2", "zero": "~ mined"}),
    "slopes": ("count ~ mined + (mined | site)", "Salamanders", {"family": "poisson"}),
    "equal": (CBPP, "cbpp", {"family": "binomial", "equal": [("period2", "period3")]}),
}  # fmt: skip


@pytest.mark.parametrize("name", GENERALISED)
def test_scores_of_clusters_add_up_to_the_gradient(name):
    formula, table, arguments = GENERALISED[name]
    estimate = quiet_glmm(formula, ranef.data.load(table), **arguments).estimate
    codes = estimate.design.factors[0].codes.astype(np.intp)
    scores = cluster_scores(estimate, codes)
    assert np.abs(scores.sum(axis=0)).max() < 1e-4
    away, theta = 1.05 * estimate.coefficients + 0.01, 1.1 * estimate.theta
    if name == "equal":
        away[2] = away[1]
    total = cluster_scores(estimate, codes, away, theta).sum(axis=0)
    expected = -0.5 * joint_gradient(estimate, away, theta)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(total, expected, rtol=1e-7, atol=1e-7)


def test_scores_are_the_derivatives_of_a_clusters_likelihood():
    data = ranef.data.load("cbpp")
    estimate = ranef.glmm(CBPP, data, family="binomial", quadrature=25).estimate
    codes = estimate.design.factors[0].codes.astype(np.intp)
    spec, trials = estimate.specification, estimate.extra
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def loglik(x, c):
        own = codes == c
        eta = spec.X[own] @ x[:-1] + x[-1] * nodes[:, None]
        rate = 1 / (1 + np.exp(-eta))
        log = stats.binom.logpmf(spec.y[own], trials[own], rate).sum(axis=1)
        return np.log(weights @ np.exp(log) / np.sqrt(2 * np.pi))

    x = np.append(estimate.coefficients, estimate.theta)
    found = cluster_scores(estimate, codes)
    for c in (0, 7):
        expected = twin.numerical_gradient(lambda v, c=c: loglik(v, c), x, step=1e-3)
        np.testing.assert_allclose(found[c], expected, atol=1e-5)


def test_robust_of_generalised_models():
    fit = ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial")
    one, zero = ranef.robust(fit), ranef.robust(fit, type="CR0")
    np.testing.assert_allclose(one.covariance, zero.covariance * 15 / 14)
    scores = cluster_scores(fit.estimate, fit.estimate.design.factors[0].codes)
    J = joint_covariance(fit.estimate)
    np.testing.assert_allclose(zero.covariance, (J @ scores.T @ scores @ J)[:4, :4], rtol=1e-6)
    assert set(one.tidy().df) == {14.0}
    assert one.test(["period2", "period3", "period4"]).df1 == 3
    with pytest.raises(ModelError, match="only CR0 and CR1"):
        ranef.robust(fit, type="CR2")
    restricted = ranef.glmm(CBPP, ranef.data.load("cbpp"), family="binomial", reml=True)
    with pytest.raises(ModelError, match="reml=False"):
        ranef.robust(restricted)


def test_the_sandwich_of_a_gaussian_glmm_is_that_of_the_linear_model():
    """By ML at the same estimates, up to what theta's uncertainty adds off the diagonal."""
    table = TABLES["sleep"]
    linear = ranef.lmm("Reaction ~ Days + (Days | Subject)", table, reml=False)
    general = ranef.glmm("Reaction ~ Days + (Days | Subject)", table, family="gaussian")
    np.testing.assert_allclose(
        ranef.robust(general, type="CR0").covariance[:2, :2],
        ranef.robust(linear, type="CR0").covariance,
        rtol=1e-3,
    )


@pytest.mark.study
def test_robust_tests_keep_their_level_where_the_model_does_not():
    """A slope that varies, a model without it: CR2 holds 5%, the model's test does not."""
    rng = np.random.default_rng(6)
    m, k = 15, 8
    x = np.tile(np.arange(k) - (k - 1) / 2, m)
    g = np.repeat(np.arange(m), k)
    fit = quiet("y ~ x + (1 | g)", {"y": rng.normal(size=m * k), "x": x, "g": g.astype(str)})
    robust, plain = [], []
    for _ in range(1000):
        y = rng.normal(size=m)[g] + rng.normal(size=m)[g] * x + rng.normal(size=m * k)
        again = fit.refit(y)
        plain.append(again.intervals().p_value[1])
        robust.append(ranef.robust(again).intervals().p_value[1])
    assert np.mean(np.array(robust) < 0.05) == pytest.approx(0.05, abs=0.021)
    assert np.mean(np.array(plain) < 0.05) > 0.3


@pytest.mark.study
def test_variance_tests_keep_their_level():
    """One way, 8 groups of 5: the exact test holds 5%, the naive one is conservative."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(8), 5)
    fit = quiet("y ~ 1 + (1 | g)", {"y": rng.normal(size=40), "g": g.astype(str)})
    estimate = fit.estimate
    null = removal.ordinary(estimate.specification, True)
    Y = removal.draw(null, 4000, rng)
    ratios = 2 * (removal.logliks(estimate, Y) - removal.logliks(null, Y))
    drawn = simulate_ratio(spectrum(estimate.specification, 0), 100_000, rng)
    exact = np.array([drawn.tail(r) for r in ratios])
    naive = stats.chi2.sf(np.maximum(ratios, 0), 1)
    assert np.mean(exact < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(naive < 0.05) < 0.035


def test_hypotheses_are_arrays_over_the_coefficients():
    fit = quiet("y ~ a * b + (1 | g)", DESIGN)
    spec = fit.estimate.specification
    effects = effects_of(spec.recipe, fit.frame.data)
    for kind in ("I", "II", "III"):
        found = term_hypotheses(kind, spec.X, effects)
        assert [L.shape for L in found] == [(1, 6), (2, 6), (1, 6), (2, 6)]
