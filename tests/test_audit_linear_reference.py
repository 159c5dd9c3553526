"""Messy data against R: unbalanced diaries, crossed raters, nested pupils, an empty cell.

Reference: reference/audit_linear/audit_linear.R (versions there). Where R is not followed the test
says who is right and how it is known.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import ranef

HERE = Path(__file__).parent / "reference" / "audit_linear"
R = json.loads((HERE / "audit_linear.json").read_text())

FITS = {
    "slope": ("mood ~ stress * arm + day + (stress | person)", "diary", {}),
    "intercept": ("mood ~ stress * arm + sex + (1 | person)", "diary", {}),
    "poly": (
        "mood ~ poly(day, 2) * sex + weekend + C(odose, contr.poly) + (1 | person)",
        "diary",
        {},
    ),
    "weighted": (
        "mood ~ stress + arm * weekend + offset(baseline) + (1 | person)",
        "diary",
        {"weights": "w"},
    ),
    "diagonal": ("mood ~ stress + arm + (stress || person)", "diary", {}),
    "sum": (
        "mood ~ stress * arm + sex * dose + (1 | person)",
        "diary",
        {"contrasts": {"arm": "sum", "sex": "sum", "dose": "helmert"}},
    ),
    "crossed": ("score ~ cond * x + (1 | rater) + (1 | item)", "ratings", {}),
    "crossed_slope": ("score ~ cond + x + (cond | item) + (1 | rater)", "ratings", {}),
    "nested": (
        "math ~ ses + ns(hours, 3) + I(size / 100) + (1 | school / klass)",
        "pupils",
        {},
    ),
    "empty": ("y ~ a * b + x + (1 | block)", "cells", {}),
    "cell_x": ("y ~ a * x + b + (1 | block)", "cells", {}),
}


def read(name):
    data = pd.read_csv(HERE / f"{name}.csv").rename(columns={"class": "klass"})
    if name == "diary":
        # a level that nobody has
        data["arm"] = pd.Categorical(data["arm"], ["usual", "app", "coach", "never"])
        data["dose"] = pd.Categorical(data["dose"], ["low", "mid", "high"])
        data["odose"] = pd.Categorical(data["dose"], ["low", "mid", "high"], ordered=True)
    return data


@pytest.fixture(scope="module")
def fits():
    out = {}
    for name, (formula, table, more) in FITS.items():
        if name == "empty":
            with pytest.warns(ranef.errors.RankWarning, match="aC:bv"):
                out[name] = ranef.lmm(formula, read(table), **more)
        else:
            out[name] = ranef.lmm(formula, read(table), **more)
    return out


def numbers(values):
    return np.array([np.nan if v in (None, "NA", "NaN") else float(v) for v in np.ravel(values)])


def agree(found, expected, rtol=1e-5):
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=rtol, atol=1e-7)


# pbkrtest ignores weights: fits that have some are compared by Satterthwaite's method alone
METHODS = {"S": "satterthwaite", "KR": "kenward-roger"}


@pytest.mark.parametrize(
    ("key", "df", "name"),
    [(key, df, name) for key, df in METHODS.items() for name in FITS if key in R[name]],
)
def test_coefficients_and_degrees_of_freedom(fits, name, key, df):
    assert fits[name].loglik == pytest.approx(R[name]["loglik"], abs=1e-8)
    found = fits[name].tidy(df=df).dropna(subset="estimate")
    for ours, theirs in (
        ("estimate", "estimate"),
        ("std_error", "se"),
        ("df", "df"),
        ("p_value", "p"),
    ):
        agree(found[ours], R[name][key][theirs], 3e-5)


@pytest.mark.parametrize(
    ("key", "df", "type", "name"),
    [
        (key, df, type, name)
        for key, df in METHODS.items()
        for type in ("I", "II", "III")
        for name in FITS
        if R[name].get(f"{key}_{type}") is not None
    ],
)
def test_analysis_of_variance(fits, name, type, key, df):
    expected = R[name][f"{key}_{type}"]
    found = ranef.anova(fits[name], type=type, df=df).tidy()
    rows = np.ones(len(found), dtype=bool)
    if name == "poly" and type == "II":
        # lmerTest takes the two columns of poly() for a factor, so that poly(day, 2):sex contains
        # sex; SAS's rule, which lmerTest's manual states, has covariates contain nothing
        own = fits[name].tidy(df=df).set_index("term").loc["sexM"]
        sex = found.set_index("term").loc["sex"]
        assert sex["statistic"] == pytest.approx(own["statistic"] ** 2, rel=1e-9)
        assert sex["df2"] == pytest.approx(own["df"], rel=1e-9)
        rows = (found["term"] != "sex").to_numpy()
    agree(found["df1"][rows], np.array(expected["df1"])[rows])
    agree(found["statistic"][rows], np.array(expected["F"])[rows], 2e-5)
    # of several rows Satterthwaite's depend on how they are written: ours are treatment contrasts
    several = 1e-3 if key == "S" and name == "sum" and type != "III" else 2e-5
    agree(found["df2"][rows], np.array(expected["df2"])[rows], several)


def test_nested_terms_where_lmertest_errs():
    """y ~ a/b is the model y ~ a*b, and `a` is contained in `a:b` in both: its types II and III are
    averages over b. lmerTest 3.1-3 has F = 9.543 for both types of a/b (a where b is at its first
    level), but 64.882, 63.669 and 62.048 for types II, I and III of a*b."""
    cells = read("cells")
    full = cells[cells["a"] != "C"]
    nested = ranef.lmm("y ~ a/b + (1 | block)", full)
    crossed = ranef.lmm("y ~ a*b + (1 | block)", full)
    first, second, third = (
        ranef.anova(nested, type=type).tidy().set_index("term").loc["a"]
        for type in ("I", "II", "III")
    )
    assert first["statistic"] == pytest.approx(63.668757919866, rel=1e-6)
    assert second["statistic"] == pytest.approx(first["statistic"], rel=1e-9)
    other = ranef.anova(crossed).tidy().set_index("term").loc["a"]
    assert third["statistic"] == pytest.approx(62.0475, rel=1e-5)
    assert third["statistic"] == pytest.approx(other["statistic"], rel=1e-9)
    assert third["df2"] == pytest.approx(other["df2"], rel=1e-4)


def test_the_last_term_has_one_test_where_lmertest_has_two():
    """After all others is after all before it. lmerTest 3.1-3: 2.1407 (I, III), 13.452 (II)."""
    cells = read("cells")
    fit = ranef.lmm("y ~ a + b + a:b:x + (1 | block)", cells[cells["a"] != "C"])
    for type in ("I", "II", "III"):
        last = ranef.anova(fit, type=type).tidy().iloc[-1]
        assert last["statistic"] == pytest.approx(2.140725362405, rel=1e-6)
        assert last["df1"] == 9


# CR1p needs more clusters than coefficients
@pytest.mark.parametrize(
    ("type", "name"),
    [
        (type, name)
        for type in ("CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3")
        for name in FITS
        if type in R[name]
    ],
)
def test_robust_covariance(fits, name, type):
    cluster = "school" if name == "nested" else None
    robust = ranef.robust(fits[name], cluster=cluster, type=type)
    found = robust.tidy().dropna(subset="estimate")
    test = robust.test(found["term"].tolist()[1:3])
    expected = R[name][type]
    agree(found["std_error"], expected["se"])
    agree(found["df"], expected["df"])
    agree([test.statistic, test.df1, test.df2], [expected[k] for k in ("F", "df1", "df2")])


@pytest.mark.parametrize("name", FITS)
def test_explained_variance_and_leverage(fits, name):
    fit, expected = fits[name], R[name]
    agree(fit.augment(influence=True)["hat"].dropna(), expected["hat"])
    agree(ranef.variance_test(fit, n=100).tidy()["p_naive"], expected["ranova"]["p"][1:], 1e-5)
    found = ranef.r2(fit)
    if name in ("weighted", "diagonal"):
        return
    conditional, marginal = expected["r2"]
    assert found.marginal == pytest.approx(marginal, rel=1e-6)
    assert found.conditional == pytest.approx(conditional, rel=1e-6)
    adjusted = ranef.icc(fit).tidy()["adjusted"].sum()
    assert adjusted == pytest.approx(expected["icc"][0], rel=1e-5)


def test_r2_where_performance_errs(fits):
    """performance takes sigma^2 for the residual variance of weighted rows, though Var(e) is
    sigma^2 / w, and one slope's column for nothing under ||. By hand:"""
    fit = fits["weighted"]
    spec = fit.estimate.specification
    fixed = np.var(spec.X @ fit.estimate.beta, ddof=1)
    level = fit.estimate.covariances[0][0, 0]
    residual = fit.sigma**2 * np.mean(1 / spec.weights)
    whole = fixed + level + residual
    assert ranef.r2(fit).marginal == pytest.approx(fixed / whole, rel=1e-9)
    assert ranef.r2(fit).conditional == pytest.approx((fixed + level) / whole, rel=1e-9)
    both, one = ranef.r2(fits["diagonal"]), fits["diagonal"]
    z = one.estimate.specification.terms[1].z[:, 0]
    fixed = np.var(one.estimate.specification.X @ one.estimate.beta, ddof=1)
    levels = one.estimate.covariances[0][0, 0] + one.estimate.covariances[1][0, 0] * np.mean(z**2)
    whole = fixed + levels + one.sigma**2
    assert both.conditional == pytest.approx((fixed + levels) / whole, rel=1e-9)


@pytest.mark.parametrize(
    "name", ["intercept", "crossed", "diagonal", "slope", "weighted", "nested"]
)
def test_profiles(fits, name):
    expected = R[name]["profile"]
    low, high = (
        dict(zip(expected["name"], expected["low"], strict=True)),
        dict(zip(expected["name"], expected["high"], strict=True)),
    )
    found = fits[name].confint("profile", parameters="all")
    for row in found.itertuples():
        key = {
            "coefficient": row.term,
            "corr": f"cor_{row.term2}.{row.term}|{row.group}",
            "sd": "sigma" if row.group == "Residual" else f"sd_{row.term}|{row.group}",
        }[row.parameter]
        if name == "weighted" and row.parameter == "coefficient":
            # lme4 1.1-31 loses the offset when it profiles a coefficient: its limits of `stress`,
            # 0.380 to 0.394, hold a hundredth of what Wald's and ours do
            wald = fits[name].confint().set_index("term").loc[row.term]
            width = wald["conf_high"] - wald["conf_low"]
            assert row.conf_high - row.conf_low == pytest.approx(width, rel=0.15)
            continue
        # lme4 interpolates: 2.7e-4 for the classes of "nested", see the next test
        assert row.conf_low == pytest.approx(low[key], rel=3e-4, abs=1e-5)
        assert row.conf_high == pytest.approx(high[key], rel=3e-4, abs=1e-5)


def test_profile_limits_of_the_classes_lie_on_the_likelihood(fits):
    """At ours the deviance has risen by 3.8415 within 1e-5; at lme4's by 0.0018 less."""
    fit = ranef.lmm(FITS["nested"][0], read("pupils"), reml=False)
    spec = fit.estimate.specification
    Z = [np.eye(f.n_levels)[f.codes] for f in spec.factors]
    order = [f.name for f in spec.factors]
    K = {name: z @ z.T for name, z in zip(order, Z, strict=True)}

    def deviance(classes, school, sigma):
        V = classes**2 * K["klass:school"] + school**2 * K["school"] + sigma**2 * np.eye(spec.n)
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, spec.X), np.linalg.solve(L, spec.y)
        r = b - A @ np.linalg.lstsq(A, b, rcond=None)[0]
        return 2 * np.log(np.diag(L)).sum() + r @ r + spec.n * np.log(2 * np.pi)

    limits = fits["nested"].confint("profile", parameters=["sd: klass:school"])
    options = {"xatol": 1e-7, "fatol": 1e-9}
    for ours, theirs in ((limits["conf_low"][0], 0.708250), (limits["conf_high"][0], 2.951670)):
        risen = [
            minimize(
                lambda v, at=at: deviance(at, v[0], v[1]),
                [1.5, 3],
                method="Nelder-Mead",
                options=options,
            ).fun
            - fit.deviance
            - chi2.ppf(0.95, 1)
            for at in (ours, theirs)
        ]
        assert abs(risen[0]) < 1e-5
        assert abs(risen[1]) > 5e-4


def test_influence_is_that_of_refits(fits):
    for name, group, table in (("intercept", "person", "diary"), ("crossed", "item", "ratings")):
        fit, data = fits[name], read(table)
        found = ranef.influence(fit, by=group).tidy().set_index(group)
        for level in found.index[[0, 4]]:
            again = ranef.lmm(FITS[name][0], data[data[group] != level])
            d = (fit.coef - again.coef).to_numpy()
            cook = d @ np.linalg.solve(fit.vcov.to_numpy(), d) / len(d)
            assert found.loc[level, "cook"] == pytest.approx(cook, rel=1e-5)
    # lme4's is (G - p) / G times ours; its levels stand in the order of ours in this table
    found, G, p = ranef.influence(fits["intercept"]).tidy()["cook"], 24, 7
    np.testing.assert_allclose(found * (G - p) / G, R["intercept"]["influence"]["cook"], atol=2e-6)


def test_comparison(fits):
    small = ranef.lmm("mood ~ stress + arm + day + (1 | person)", read("diary"))
    found = ranef.anova(small, fits["slope"]).tidy()
    expected = R["compare"]
    agree(found["loglik"], expected["loglik"], 1e-9)
    assert found["statistic"][1] == pytest.approx(expected["chisq"][1], rel=1e-6)
    assert found["p_naive"][1] == pytest.approx(expected["p"][1], rel=1e-6)


# --- marginal means

COLUMNS = {
    "std_error": "SE",
    "df": "df",
    "conf_low": "lower.CL",
    "conf_high": "upper.CL",
    "statistic": "t.ratio",
    "p_value": "p.value",
}


def same_means(found, key, rtol=2e-5, skip=()):
    table, expected = found.tidy(), R["emmeans"][key]
    value = next(k for k in expected if k in ("emmean", "estimate") or k.endswith(".trend"))
    agree(table["estimate"], expected[value], rtol)
    for ours, theirs in COLUMNS.items():
        if theirs in expected and ours in table and ours not in skip:
            agree(table[ours], expected[theirs], rtol)


ADJUSTMENTS = ["tukey", "sidak", "bonferroni", "holm", "hochberg", "hommel", "fdr", "BY"]


@pytest.mark.parametrize("adjust", [*ADJUSTMENTS, "scheffe", "none"])
def test_adjustments(fits, adjust):
    found = ranef.contrasts(fits["slope"], "arm", adjust=adjust.lower())
    same_means(found, f"pairs_{adjust}")
    limits = R["emmeans"][f"pairs_{adjust}"]["ci"]
    agree(found.tidy()["conf_low"], limits["lower.CL"])
    agree(found.tidy()["conf_high"], limits["upper.CL"])


def test_means_of_an_unbalanced_diary(fits):
    m = fits["slope"]
    same_means(ranef.emmeans(m, "arm"), "slope_arm")
    same_means(ranef.emmeans(m, "arm", df="kenward-roger"), "slope_arm_kr")
    at = {"stress": [-1, 0, 2], "day": 3}
    same_means(ranef.emmeans(m, "arm", by="stress", at=at), "slope_at")
    same_means(ranef.contrasts(m, "arm", "reference"), "dunnett")
    # mvt is Monte Carlo there
    same_means(ranef.contrasts(m, "arm", adjust="mvt"), "pairs_mvt", 2e-3)
    same_means(ranef.contrasts(m, "arm", "reference", adjust="mvt"), "dunnett_mvt", 2e-3)
    same_means(ranef.contrasts(m, "arm", "effects"), "eff")
    same_means(ranef.contrasts(m, "arm", "deleted_effects"), "deleff")
    same_means(ranef.emtrends(m, "arm", "stress"), "trends")
    same_means(ranef.emtrends(m, "arm", "stress").contrasts(), "trend_pairs")


def test_weights_and_polynomials(fits):
    m = fits["poly"]
    for weights in ("equal", "proportional", "outer", "cells", "flat"):
        same_means(ranef.emmeans(m, "sex", weights=weights), f"poly_sex_{weights}")
    same_means(ranef.emmeans(m, "odose", weights="proportional"), "poly_dose")
    same_means(ranef.contrasts(m, "odose", "consecutive", adjust="none"), "poly_consec")
    same_means(ranef.contrasts(m, "odose", "polynomial"), "poly_poly")
    # emmeans' slopes are one-sided differences, so that the derivative of x^2 is off by its step
    found = ranef.emtrends(m, "sex", "day", by="day", at={"day": [2, 9]})
    same_means(found, "poly_trend", 0.02)
    near = ranef.emmeans(m, "sex", by="day", at={"day": [2 - 1e-3, 2 + 1e-3]}).tidy()["estimate"]
    slope = (near[2] - near[0]) / 2e-3
    assert found.tidy()["estimate"][0] == pytest.approx(slope, rel=1e-7)


def test_offset_and_weighted_rows(fits):
    m = fits["weighted"]
    same_means(ranef.emmeans(m, "arm | weekend"), "weighted_arm")
    same_means(ranef.contrasts(m, "arm | weekend"), "weighted_pairs")
    both = ranef.emmeans(m, ["arm", "weekend"])
    same_means(both.contrasts(interaction=["pairwise", "consecutive"]), "weighted_interaction")
    same_means(ranef.emmeans(m, "arm", offset=1.5), "weighted_offset")
    # emmeans adds up precision weights where it says frequencies; ours are rows
    data = read("diary").dropna(subset=["mood", "stress"])
    cells = both.tidy().set_index(["arm", "weekend"])["estimate"]
    rows = data.groupby(["arm", "weekend"], observed=True)["w"].agg(["size", "sum"])
    for column, expected in (
        ("size", ranef.emmeans(m, "arm", weights="cells").tidy()["estimate"]),
        ("sum", R["emmeans"]["weighted_cells"]["emmean"]),
    ):
        share = rows[column]
        mean = [np.average(cells[arm], weights=share[arm]) for arm in ("usual", "app", "coach")]
        np.testing.assert_allclose(mean, expected, rtol=1e-6)


def test_other_codings_empty_cells_and_covariates(fits):
    m = fits["sum"]
    same_means(ranef.emmeans(m, "dose | sex"), "sum_dose_arm")
    same_means(ranef.emmeans(m, ["sex", "dose"]).contrasts(simple="sex"), "sum_sex_simple")
    for name, key in (("slope", "joint"), ("poly", "poly_joint"), ("sum", "sum_joint")):
        found, expected = ranef.joint_tests(fits[name]).tidy(), R["emmeans"][key]
        assert found["term"].tolist() == expected["model term"]
        np.testing.assert_allclose(found["statistic"], expected["F.ratio"], atol=6e-4)
        # emmeans' df depend on how the hypothesis is written
        np.testing.assert_allclose(found["df2"], expected["df2"], rtol=0.03)
    m = fits["empty"]
    same_means(ranef.emmeans(m, ["a", "b"]), "empty_ab")
    same_means(ranef.emmeans(m, "a"), "empty_a")
    same_means(ranef.contrasts(m, "b | a"), "empty_b_by_a", 1e-3)
    m = fits["cell_x"]
    same_means(ranef.emtrends(m, "a", "x").contrasts(), "cell_x_trend")
    # R's ptukey has an error of 1e-6 of one, which its tail of 2e-10 shows
    found = ranef.contrasts(m, "a | x", at={"x": [-1, 1]})
    same_means(found, "cell_x_a", skip=("p_value",))
    expected = numbers(R["emmeans"]["cell_x_a"]["p.value"])
    np.testing.assert_allclose(found.tidy()["p_value"], expected, atol=1e-6)
    same_means(ranef.emmeans(fits["crossed"], "cond"), "crossed")
    same_means(ranef.emmeans(fits["crossed"], "cond", df="kenward-roger"), "crossed_kr")
    at = {"ses": [-1, 1], "hours": 3}
    same_means(ranef.emmeans(fits["nested"], "ses", at=at), "nested_mean")
    at = {"hours": [1, 4, 10]}
    same_means(ranef.emtrends(fits["nested"], "hours", "hours", at=at), "nested_trend", 5e-3)
