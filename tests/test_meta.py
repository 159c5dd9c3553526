"""Meta-analysis: values of metafor and clubSandwich, closed forms, and profiles looked at whole."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag

import ranef
from ranef.errors import DataError, DataWarning, ModelError, UnknownColumnError
from ranef.report import html
from ranef.solve.synthesis.between import METHODS, between
from ranef.solve.synthesis.studies import Studies

REFERENCE = json.loads((Path(__file__).parent / "reference" / "meta.json").read_text())
DATA = {name: pd.DataFrame(columns) for name, columns in REFERENCE["data"].items()}
METAFOR, CLUB = "metafor 3.8-1", f"clubSandwich {REFERENCE['versions']['clubSandwich'][0]}"
DF = {"z": "normal", "knha": "knapp-hartung", "adhoc": "knapp-hartung-conservative"}


def fitted(name="bcg", formula="~ 1", **how):
    return ranef.meta(f"yi {formula}", DATA[name], variance="vi", **how)


def of(row, key):
    value = row[key]
    return np.array([np.nan if v is None else v for v in value], dtype=float)


def by_name(row):
    return f"{row['set'][0]} {row['formula'][0]}, {row['method'][0].lower()}, {row['test'][0]}"


@pytest.mark.parametrize("row", REFERENCE["fits"], ids=by_name)
def test_estimates_are_metafors(row, agree):
    method = row["method"][0].lower()
    fit = fitted(row["set"][0], row["formula"][0], method=method, df=DF[row["test"][0]])
    what, tidy = by_name(row), fit.tidy()
    # metafor stops the likelihoods at steps of 1e-12, or a step that flattens them
    agree("ranef.meta", f"tau^2, {what}", fit.tau2, of(row, "tau2"), peer=METAFOR, atol=2e-8)
    agree("ranef.meta", f"estimates, {what}", tidy.estimate, of(row, "coef"), peer=METAFOR,
          rtol=1e-6, atol=1e-8)  # fmt: skip
    agree("ranef.meta", f"standard errors, {what}", tidy.std_error, of(row, "se"), peer=METAFOR,
          rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(tidy.p_value, of(row, "p"), rtol=1e-4)
    np.testing.assert_allclose(tidy.conf_low, of(row, "low"), rtol=1e-5, atol=1e-7)
    glance = fit.glance().iloc[0]
    for name, ours in (("q", "q"), ("q_p", "q_p"), ("i2", "i2"), ("h2", "h2")):
        np.testing.assert_allclose(glance[ours], of(row, name)[0], rtol=1e-5, atol=1e-12)
    if row["formula"][0] != "~ 1" and method != "fe":
        np.testing.assert_allclose(glance["r2"], of(row, "r2")[0], rtol=1e-4, atol=1e-4)
        slopes = fit.test([name for name in fit.names if name != "(Intercept)"])
        wald = slopes.statistic * (slopes.df1 if row["test"][0] == "z" else 1)
        np.testing.assert_allclose(wald, of(row, "qm")[0], rtol=1e-5)
        np.testing.assert_allclose(slopes.p_value, of(row, "qm_p")[0], rtol=1e-4)
    if method != "fe":
        new = fit.predict(conf_level=0.95, interval="new").iloc[0]
        np.testing.assert_allclose(new["conf_low"], row["pred"]["low"][0], rtol=1e-5)
        np.testing.assert_allclose(new["conf_high"], row["pred"]["high"][0], rtol=1e-5)
    if "loglik" in row:
        with_constant = fit.loglik + (0.5 * row["log_xx"][0] if method == "reml" else 0.0)
        np.testing.assert_allclose(with_constant, row["loglik"][0], rtol=1e-9)
    if "qp" in row:
        ends = fit.confint("q-profile", parameters="variance")
        np.testing.assert_allclose(ends.conf_low**2, row["qp"][0], atol=1e-8)
        np.testing.assert_allclose(ends.conf_high**2, row["qp"][1], rtol=1e-8)


def test_bcg_has_its_published_values():
    """The table of metafor's manual: dat.bcg, REML."""
    fit = fitted()
    assert round(fit.tau2, 6) == 0.313243
    np.testing.assert_allclose(fit.coef, [-0.714532], atol=5e-7)
    row = fit.tidy().iloc[0]
    np.testing.assert_allclose(
        row[["std_error", "statistic", "p_value", "conf_low", "conf_high"]].astype(float),
        [0.180792, -3.952240, 0.001920, -1.108444, -0.320621], atol=6e-7,
    )  # fmt: skip
    assert fit.optimum.maxima == 1
    assert fit.optimum.converged


@pytest.mark.parametrize("row", REFERENCE["profiles"], ids=lambda r: f"{r['set']}{r['method']}")
def test_profile_intervals_are_those_of_rma_mv(row, agree):
    fit = fitted(row["set"][0], method=row["method"][0].lower())
    ends = fit.confint("profile", parameters="variance")
    low, high = float(ends.conf_low[0]), float(ends.conf_high[0])
    agree("fit.confint('profile')", f"tau^2, {row['set'][0]} {row['method'][0]}",
          [low**2, high**2], row["ci"], peer=f"{METAFOR} (rma.mv)", rtol=1e-6)  # fmt: skip


def test_eb_is_pm_and_moments_have_closed_forms():
    y, v = DATA["bcg"].yi.to_numpy(), DATA["bcg"].vi.to_numpy()
    assert fitted(method="eb").tau2 == fitted(method="pm").tau2
    w = 1 / v
    mean = np.sum(w * y) / w.sum()
    q = np.sum(w * (y - mean) ** 2)
    dl = (q - 12) / (w.sum() - (w**2).sum() / w.sum())
    np.testing.assert_allclose(fitted(method="dl").tau2, dl, rtol=1e-12)
    np.testing.assert_allclose(fitted(method="he").tau2, y.var(ddof=1) - v.mean(), rtol=1e-12)
    np.testing.assert_allclose(fitted(method="hs").tau2, (q - 13) / w.sum(), rtol=1e-12)
    pm = fitted(method="pm").estimate
    np.testing.assert_allclose(pm.scatter, 1.0, rtol=1e-12)


def dense_loglik(y, v, X, t, restricted):
    """The definition, by dense matrices."""
    V = np.diag(v + t)
    W = np.linalg.inv(V)
    A = X.T @ W @ X
    b = np.linalg.solve(A, X.T @ W @ y)
    r = y - X @ b
    value = -0.5 * (np.linalg.slogdet(V)[1] + r @ W @ r + len(y) * np.log(2 * np.pi))
    if restricted:
        value += 0.5 * (X.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(A)[1])
    return value


def test_loglik_and_derivatives_are_those_of_dense_matrices():
    rng = np.random.default_rng(3)
    n = 9
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y, v = rng.normal(size=n), rng.uniform(0.1, 2, n)
    studies = Studies(y, v, X)
    log_xx = np.linalg.slogdet(X.T @ X)[1]
    for restricted in (True, False):
        t = np.array([0.0, 0.3, 2.5])
        at = studies.moments(t)
        dense = [dense_loglik(y, v, X, one, restricted) for one in t]
        extra = 0.5 * log_xx if restricted else 0.0
        np.testing.assert_allclose(at.loglik(restricted, n, 3) - extra, dense, rtol=1e-12)
        h = 1e-5
        up, down = studies.moments(t + h), studies.moments(t - h)
        slope = (up.loglik(restricted, n, 3) - down.loglik(restricted, n, 3)) / (2 * h)
        np.testing.assert_allclose(at.score(restricted), slope, rtol=1e-6)
        bend = (up.score(restricted) - down.score(restricted)) / (2 * h)
        np.testing.assert_allclose(at.curvature(restricted), bend, rtol=1e-6)


def several_maxima(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(4, 25))
    v = 10.0 ** rng.uniform(-3, 4, k)
    y = rng.normal(size=k) * np.sqrt(v + 10.0 ** rng.uniform(-3, 3)) * 10.0 ** rng.uniform(-1, 1, k)
    X = np.ones((k, 1)) if seed % 3 else np.column_stack([np.ones(k), rng.normal(size=k)])
    return Studies(y, v, X)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_optimum_is_the_global_one(method):
    """Against points of the whole profile: studies of mixed units have several maxima."""
    counts = []
    for seed in range(40):
        studies = several_maxima(seed)
        found = between(studies, method)
        grid = np.append(0.0, np.geomspace(1e-6, 1e7, 5_000))
        at = studies.moments(grid)
        values = at.loglik(method == "reml", studies.n, studies.p)
        best = float(found.logliks.max())
        assert best >= values.max() - 1e-9
        inner = np.sum((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:]))
        assert len(found.maxima) == inner + (values[0] > values[1])
        if found.tau2 > 0:
            here = studies.moments(np.array([found.tau2]))
            step = here.score(method == "reml") / here.curvature(method == "reml")
            assert abs(step[0]) <= 1e-8 * found.tau2
        counts.append(len(found.maxima))
    assert max(counts) > 1


def test_several_maxima_are_said():
    y = [0.0, 0.02, -0.01, 0.01, 30.0, -28.0, 33.0]
    v = [0.001, 0.001, 0.001, 0.001, 100.0, 120.0, 90.0]
    with pytest.warns(DataWarning, match=r"orders of magnitude .*same units"):
        fit = ranef.meta("y ~ 1", {"y": y, "v": v}, variance="v", method="reml")
    assert fit.optimum.maxima == len(fit.optimum.where)
    pain = [0.05, 300.0, -20.0, 0.2, 0.1, 250.0], [0.01, 9000.0, 500.0, 0.02, 0.01, 12000.0]
    with pytest.warns(DataWarning, match="units"):
        several = ranef.meta("y ~ 1", {"y": pain[0], "v": pain[1]}, variance="v")
    assert several.optimum.maxima > 1
    assert "local maxima" in str(several)


def test_tau2_is_exactly_zero_on_the_boundary():
    y, v = [0.1, 0.12, 0.09, 0.11], [0.1, 0.2, 0.15, 0.1]
    for method in sorted(set(METHODS) - {"sj"}):
        fit = ranef.meta("y ~ 1", {"y": y, "v": v}, variance="v", method=method)
        assert fit.tau2 == 0.0
    reml = ranef.meta("y ~ 1", {"y": y, "v": v}, variance="v")
    assert reml.confint("q-profile", parameters="variance").conf_low[0] == 0.0
    assert reml.optimum.at_zero
    assert reml.optimum.converged
    assert reml.confint("profile", parameters="variance").conf_low[0] == 0.0


def test_equal_variances_give_the_t_test():
    rng = np.random.default_rng(1)
    y = rng.normal(0.4, 1.0, 11)
    fit = ranef.meta("y ~ 1", {"y": y}, variance=np.full(11, 0.3))
    row = fit.tidy().iloc[0]
    error = y.std(ddof=1) / np.sqrt(11)
    np.testing.assert_allclose([row.estimate, row.std_error], [y.mean(), error], rtol=1e-10)
    assert row.df == 10
    np.testing.assert_allclose(fit.tau2, y.var(ddof=1) - 0.3, rtol=1e-9)


@pytest.mark.parametrize("row", REFERENCE["influences"], ids=lambda r: f"{r['formula']}{r['test']}")
def test_influence_is_metafors(row, agree):
    fit = fitted(formula=row["formula"][0], df=DF[row["test"][0]])
    table = fit.influence().tidy()
    names = {"rstudent": "rstudent", "cook": "cook", "hat": "hat", "tau2": "tau2",
             "dffits": "dffits", "covratio": "covr"}  # fmt: skip
    for ours, theirs in names.items():
        agree("fit.influence()", f"{ours}, bcg {row['formula'][0]}", table[ours], row[theirs],
              peer=METAFOR, atol=1e-8)  # fmt: skip


@pytest.mark.parametrize("name", ["bcg", "bangert"])
def test_egger_is_metafors(name, agree):
    known = REFERENCE["eggers"][name]
    for model, key, df in (("linear", "linear", "normal"), ("mixed", "mixed", "normal"),
                           ("mixed", "mixed_t", "knapp-hartung")):  # fmt: skip
        found = fitted(name, df=df).egger(model=model)
        what = f"{model}, {name}"
        agree("ranef.egger", f"statistic, {what}", found.statistic, known[key]["stat"],
              peer=METAFOR, rtol=1e-8)  # fmt: skip
        np.testing.assert_allclose(found.p_value, known[key]["p"][0], rtol=1e-7)
        np.testing.assert_allclose(found.tidy().estimate[1], known[key]["limit"][0], rtol=1e-7)


def test_trim_and_fill_is_metafors(agree):
    for row in REFERENCE["fills"]:
        fit = fitted(row["set"][0], df="normal")
        found = fit.trim_and_fill(side=row["side"][0], estimator=row["estimator"][0])
        assert found.n_missing == row["k0"][0]
        what = f"{row['set'][0]} {row['estimator'][0]} {row['side'][0]}"
        agree("ranef.trim_and_fill", f"standard error, {what}", found.filled.missing_error,
              row["se"], peer=METAFOR, rtol=1e-10)  # fmt: skip
        np.testing.assert_allclose(found.after.estimate, row["coef"], rtol=1e-6)
        # refitted there with the default threshold of its search, 1e-5
        np.testing.assert_allclose(found.tau2, row["tau2"][0], rtol=1e-4)
        assert fit.trim_and_fill().side == row["sidegiven"][0]


def test_true_effects_of_studies_are_blups(agree):
    known = REFERENCE["blups"]
    table = fitted(df="normal").tidy("random")
    agree("tidy('random')", "estimates, bcg", table.estimate, known["pred"], peer=METAFOR,
          atol=1e-8)  # fmt: skip
    np.testing.assert_allclose(table.std_error, known["se"], atol=1e-8)
    np.testing.assert_allclose(table.conf_low, known["low"], atol=1e-7)
    np.testing.assert_allclose(table.weight.sum(), 100)


def test_robust_covariances_are_clubsandwichs(agree):
    schools = DATA["schools"]
    fit = fitted("schools", df="normal")
    for type in ("CR0", "CR1", "CR1p", "CR1S", "CR2"):
        found = fit.robust(cluster=schools.district, type=type).tidy()
        known = REFERENCE["robusts"][type]
        agree("fit.robust()", f"standard errors {type}, schools", found.std_error, known["se"],
              peer=CLUB, rtol=1e-6)  # fmt: skip
        agree("fit.robust()", f"df {type}, schools", found.df, known["df"], peer=CLUB, rtol=1e-5)
    found = fitted("schools", "~ year").robust(cluster=schools.district).tidy()
    np.testing.assert_allclose(found.std_error, REFERENCE["robusts"]["mods"]["se"], rtol=1e-5)
    np.testing.assert_allclose(found.df, REFERENCE["robusts"]["mods"]["df"], rtol=1e-5)
    nested = fitted("schools", "~ 1 + (1 | district/school)").robust(cluster="district").tidy()
    known = REFERENCE["multi"]["schools"]["cr2"]
    np.testing.assert_allclose(nested.std_error, known["se"], rtol=1e-5)
    np.testing.assert_allclose(nested.df, known["df"], rtol=1e-5)
    with pytest.raises(ModelError, match="clusters are not independent"):
        fitted("schools", "~ 1 + (1 | district)").robust(cluster=schools.school)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_levels_are_those_of_rma_mv(method, agree):
    known = REFERENCE["multi"]["schools" if method == "reml" else "schools_ml"]
    fit = fitted("schools", "~ 1 + (1 | district/school)", method=method)
    sd = fit.tidy("variance").set_index("group").estimate
    agree("ranef.meta", f"variances of districts and schools, {method}",
          [sd["district"] ** 2, sd["school:district"] ** 2], known["sigma2"], peer=METAFOR,
          rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(fit.coef, known["coef"], rtol=1e-6)
    np.testing.assert_allclose(fit.tidy(df="normal").std_error, known["se"], rtol=1e-6)
    n = len(DATA["schools"]) if method == "reml" else 1
    assert fit.loglik + 0.5 * np.log(n) >= known["loglik"][0] - 1e-9
    if method == "reml":
        np.testing.assert_allclose(fit.glance().q[0], known["q"][0], rtol=1e-9)
        new = fit.predict(conf_level=0.95, interval="new").iloc[0]
        np.testing.assert_allclose([new.conf_low, new.conf_high], known["pi_t"], rtol=1e-5)
        normal = fit.predict(conf_level=0.95, interval="new", df="normal").iloc[0]
        np.testing.assert_allclose([normal.conf_low, normal.conf_high], known["pi"], rtol=1e-5)
        ends = fit.confint("profile", parameters="variance").set_index("group")
        for group, ci in zip(["district", "school:district"], known["ci"], strict=True):
            ours = ends.loc[group, ["conf_low", "conf_high"]].to_numpy(float) ** 2
            agree("fit.confint('profile')", f"variance of {group}", ours, ci, peer=METAFOR,
                  rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_several_outcomes_with_known_covariance(method, agree):
    known = REFERENCE["multi"]["berkey" if method == "reml" else "berkey_ml"]
    V = np.array(REFERENCE["multi"]["berkey_v"])
    fit = ranef.meta(
        "yi ~ 0 + outcome + (0 + outcome | trial)", DATA["berkey"], covariance=V, method=method
    )
    rows = fit.tidy("variance")
    agree("ranef.meta", f"variances of two outcomes, {method}", rows.estimate[:2] ** 2,
          known["tau2"], peer=METAFOR, rtol=2e-4)  # fmt: skip
    np.testing.assert_allclose(rows.estimate[2], known["rho"], rtol=2e-4)
    np.testing.assert_allclose(fit.coef, known["coef"], atol=2e-6)
    np.testing.assert_allclose(fit.tidy(df="normal").std_error, known["se"], rtol=1e-4)
    constant = 0.5 * np.log(25) if method == "reml" else 0.0
    # metafor's optimiser stops a little earlier
    assert 0 <= fit.loglik + constant - known["loglik"][0] + 1e-10 < 1e-6
    np.testing.assert_allclose(fit.glance().q[0], REFERENCE["multi"]["berkey"]["q"][0], rtol=1e-9)


def test_gradient_of_levels_is_that_of_differences():
    fit = fitted("schools", "~ 1 + (1 | district/school)")
    problem = fit.estimate.model.problem
    phi = np.array([0.31, 0.14])
    at, h = problem.at(phi), 1e-5
    for j, e in enumerate(np.eye(2) * h):
        slope = (problem.at(phi + e).loglik - problem.at(phi - e).loglik) / (2 * h)
        np.testing.assert_allclose(at.gradient[j], slope, rtol=1e-6)
    schools = DATA["schools"]
    one = ranef.meta("yi ~ 1", schools, covariance=np.diag(schools.vi))
    plain = fitted("schools")
    np.testing.assert_allclose(one.tau2, plain.tau2, rtol=1e-7)
    np.testing.assert_allclose(one.loglik, plain.loglik, rtol=1e-10)


def test_effect_sizes_are_metafors(agree):
    sizes = REFERENCE["sizes"]
    from ranef.models.effect_sizes import MEASURES

    tables = {"ai": "two", "m1i sd2i n1i": "means", "ri": "cors", "xi": "props", "x1i": "rates"}
    for name, measure in MEASURES.items():
        table = next((t for key, t in tables.items() if key in measure.needs), None)
        if name in ("MC", "SMCR"):
            table = "paired"
        elif table is None:
            table = "means"
        found = ranef.effect_sizes(name, sizes[table], **{key: key for key in measure.needs})
        known = sizes["values"][name]
        agree("ranef.effect_sizes", f"{name}", found["yi"], known["yi"], peer=METAFOR, atol=1e-12)
        agree("ranef.effect_sizes", f"variance of {name}", found["vi"], known["vi"], peer=METAFOR,
              atol=1e-12)  # fmt: skip


def test_effect_sizes_take_sizes_and_leave_gaps():
    bcg = ranef.data.load("bcg")
    bcg["n1"], bcg["n2"] = bcg.tpos + bcg.tneg, bcg.cpos + bcg.cneg
    found = ranef.effect_sizes("RR", bcg, ai="tpos", n1i="n1", ci="cpos", n2i="n2")
    np.testing.assert_allclose(found.yi, DATA["bcg"].yi, rtol=1e-12)
    assert list(found.columns[:9]) == list(bcg.columns[:9])
    gap = {"ri": [0.3, np.nan], "ni": [20, 30]}
    found = ranef.effect_sizes("ZCOR", gap, ri="ri", ni="ni", effect="z", variance="v")
    assert np.isnan(found["z"][1])
    assert np.isnan(found["v"][1])
    zero = {"a": [0, 2], "b": [5, 3], "c": [1, 1], "d": [4, 4]}
    plain = ranef.effect_sizes("OR", zero, ai="a", bi="b", ci="c", di="d", add=0.25)
    np.testing.assert_allclose(plain["yi"][0], np.log(0.25 * 4.25 / (5.25 * 1.25)))


@pytest.mark.parametrize(
    ("measure", "table", "message"),
    [
        ("OR", {"ai": [1, -2], "bi": [3, 3], "ci": [1, 1], "di": [1, 1]}, "ai is negative"),
        ("ZCOR", {"ri": [0.2, 1.2], "ni": [9, 9]}, "ri is no correlation"),
        ("ZCOR", {"ri": [0.2, 1.0], "ni": [9, 9]}, "no finite value"),
        ("PR", {"xi": [3, 9], "ni": [5, 8]}, "more xi than ni"),
        ("ROM", {"m1i": [1.0], "sd1i": [1.0], "n1i": [4], "m2i": [-1.0], "sd2i": [1.0],
                 "n2i": [4]}, "no finite value"),
        ("SMCR", {"m1i": [1.0], "m2i": [1.0], "sd1i": [0.0], "ni": [9], "ri": [0.1]},
         "sd1i is not positive"),
        ("COR", {"ri": ["a", "b"], "ni": [9, 9]}, "ri"),
    ],
)  # fmt: skip
def test_impossible_numbers_are_refused(measure, table, message):
    with pytest.raises(DataError, match=message):
        ranef.effect_sizes(measure, table, **{key: key for key in table})


def test_effect_sizes_say_what_is_wrong():
    table = {"ri": [0.2], "ni": [9]}
    with pytest.raises(ModelError, match="did you mean 'ZCOR'"):
        ranef.effect_sizes("ZCORR", table, ri="ri", ni="ni")
    with pytest.raises(ModelError, match="needs 'ni'"):
        ranef.effect_sizes("ZCOR", {"ri": [0.2], "n": [9]}, ri="ri")
    named = ranef.effect_sizes("ZCOR", table, ri="ri", ni="ni")
    assert ranef.effect_sizes("ZCOR", table)["yi"][0] == named["yi"][0]
    with pytest.raises(ModelError, match="takes no 'ai'"):
        ranef.effect_sizes("ZCOR", table, ri="ri", ni="ni", ai="ri")
    with pytest.raises(UnknownColumnError, match="no column 'r'"):
        ranef.effect_sizes("ZCOR", table, ri="r", ni="ni")
    with pytest.raises(DataError, match="has a column 'ri' already"):
        ranef.effect_sizes("ZCOR", table, ri="ri", ni="ni", effect="ri")


def test_questions_of_other_fits_are_answered():
    fit = fitted(formula="~ alloc + ablat")
    known = REFERENCE["tests"]["alloc"]
    found = fit.test(["allocrandom", "allocsystematic"])
    np.testing.assert_allclose([found.statistic, found.p_value], [known["f"][0], known["p"][0]],
                               rtol=1e-6)  # fmt: skip
    table = fit.anova().tidy().set_index("term")
    np.testing.assert_allclose(table.loc["alloc", "p_value"], known["p"][0], rtol=1e-6)
    means = fit.emmeans("alloc").tidy()
    by_hand = fit.predict({"alloc": ["random"], "ablat": [DATA["bcg"].ablat.mean()]})
    np.testing.assert_allclose(means.estimate[1], by_hand[0], rtol=1e-12)
    assert len(fit.emmeans("alloc").contrasts("pairwise").tidy()) == 3
    assert "REML" in str(ranef.table({"a": fit}))
    assert "b0 + b1*allocrandom[i]" in str(fit.equation())
    assert fit.augment().columns.tolist() == ["yi", "fitted", "residual", "pearson"]
    for question in ("rank", "bootstrap", "check"):
        with pytest.raises(ModelError, match=r"this fit \(a meta-analysis\)"):
            getattr(ranef, question)(fit)


def test_it_is_saved_and_comes_back(tmp_path):
    V = np.array(REFERENCE["multi"]["berkey_v"])
    fits = [
        fitted(study="author"),
        fitted("schools", "~ 1 + (1 | district/school)"),
        ranef.meta("yi ~ 0 + outcome + (0 + outcome | trial)", DATA["berkey"], covariance=V),
    ]
    for fit in fits:
        fit.save(tmp_path / "meta.ranef")
        again = ranef.load(tmp_path / "meta.ranef")
        assert str(again) == str(fit)
        pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
        pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fit)).glance(), fit.glance())


def test_rows_without_values_are_dropped_and_counted():
    table = DATA["bcg"].copy()
    table.loc[3, "vi"] = np.nan
    table.loc[5, "yi"] = np.nan
    fit = ranef.meta("yi ~ ablat", table, variance="vi", study="author")
    assert fit.n_obs == 11
    assert len(fit.fitted()) == 13
    assert "Stein & Aronson" not in fit.studies
    whole = ranef.meta("yi ~ ablat", table.drop([3, 5]), variance="vi")
    assert fit.tau2 == whole.tau2
    V = np.diag(table.vi)
    by_matrix = ranef.meta("yi ~ ablat", table, covariance=V)
    np.testing.assert_allclose(by_matrix.tau2, fit.tau2, rtol=1e-6)


def test_std_errors_are_roots_of_variances_and_libraries_are_kept():
    polars = pytest.importorskip("polars")
    table = DATA["bcg"].assign(se=np.sqrt(DATA["bcg"].vi))
    fit = ranef.meta("yi ~ 1", polars.from_pandas(table), std_error="se")
    np.testing.assert_allclose(fit.tau2, fitted().tau2, rtol=1e-12)
    assert isinstance(fit.tidy(), polars.DataFrame)
    assert isinstance(fit.influence().tidy(), polars.DataFrame)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({}, ModelError, "none is given"),
        ({"variance": "vi", "std_error": "vi"}, ModelError, "variance and std_error are given"),
        ({"variance": "v"}, UnknownColumnError, "no column 'v' for variance"),
        ({"variance": "zero"}, DataError, r"variance is not positive in 1 row \(first 0 in row 2"),
        ({"std_error": "minus"}, DataError, "std_error is not positive"),
        ({"variance": "inf"}, DataError, "infinite"),
        ({"variance": "vi", "method": "remll"}, ModelError, "did you mean 'reml'"),
        ({"variance": "vi", "df": "satterthwaite"}, ModelError, "independent studies"),
        ({"variance": "vi", "study": "name"}, UnknownColumnError, "for study"),
        ({"covariance": np.eye(3)}, DataError, r"shape \(3, 3\)"),
        ({"covariance": np.ones((13, 13))}, DataError, "not positive definite"),
        ({"covariance": np.triu(np.full((13, 13), 0.1)) + np.eye(13)}, DataError, "symmetric"),
        ({"covariance": np.eye(13), "method": "dl"}, ModelError, "independent studies"),
        ({"variance": "author"}, DataError, "author"),
    ],
)
def test_what_is_wrong_is_said(how, error, message):
    table = DATA["bcg"].assign(zero=1.0, minus=0.2, inf=0.3)
    table.loc[2, "zero"], table.loc[4, "minus"], table.loc[1, "inf"] = 0.0, -0.1, np.inf
    with pytest.raises(error, match=message):
        ranef.meta("yi ~ 1", table, **how)


def test_few_studies():
    one = {"y": [0.3], "v": [0.1]}
    with pytest.raises(ModelError, match="one study only"):
        ranef.meta("y ~ 1", one, variance="v")
    two = ranef.meta("y ~ 1", {"y": [0.3, 0.9], "v": [0.1, 0.2]}, variance="v")
    assert two.df_resid == 1
    with pytest.raises(ModelError, match="3 studies"):
        two.egger()


def test_equal_effects_are_no_evidence_without_end():
    with pytest.warns(DataWarning, match="reproduces all effects exactly"):
        same = ranef.meta("y ~ 1", {"y": [0.3] * 4, "v": [0.1] * 4}, variance="v")
    assert same.tau2 == 0.0
    row = same.tidy().iloc[0]
    assert np.isnan(row.p_value)
    assert np.isnan(same.test([[1.0]]).p_value)
    careful = same.tidy(df="knapp-hartung-conservative").iloc[0]
    np.testing.assert_allclose(careful.std_error, np.sqrt(0.1 / 4))
    with pytest.raises(ModelError, match="no funnel"):
        same.egger()


def test_collinear_moderators_are_left_out_by_name():
    table = DATA["bcg"].assign(twice=2 * DATA["bcg"].ablat)
    with pytest.warns(Warning, match="twice"):
        fit = ranef.meta("yi ~ ablat + twice", table, variance="vi")
    assert fit.names == ["(Intercept)", "ablat"]


def test_units_do_not_matter():
    for scale in (1e-6, 1e6):
        table = {"y": DATA["bcg"].yi * scale, "v": DATA["bcg"].vi * scale**2}
        fit = ranef.meta("y ~ 1", table, variance="v")
        np.testing.assert_allclose(fit.tau2, fitted().tau2 * scale**2, rtol=1e-9)
        np.testing.assert_allclose(fit.tidy().statistic, fitted().tidy().statistic, rtol=1e-9)


def test_pictures_and_page():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    fit = fitted(study="author")
    forest = fit.plot.forest(exponentiate=True)
    assert forest.get_xscale() == "log"
    assert len(forest.get_yticklabels()) == 14
    beside = [text.get_text() for text in forest.texts]
    assert beside[0] == "0.41 [0.13, 1.26]"  # metafor's escalc(measure="RR"), exponentiated
    assert len(beside) == 14
    assert fit.plot.funnel().get_ylim()[1] == 0
    baujat = fit.plot.baujat()
    heights = baujat.lines[0].get_ydata()
    assert np.argmax(baujat.lines[0].get_xdata()) == 3
    assert (heights > 0).all()
    fit.plot.influence("rstudent")
    moderated = fitted(formula="~ ablat")
    assert len(moderated.plot.forest().get_yticklabels()) == 13
    moderated.plot.fixed()
    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = html(fit)
    assert 'id="studies"' in page
    assert "Forest plot of 13 effects" in page
    assert "forest" in repr(fit.plot)


def test_baujat_is_what_leaving_out_says():
    y, v = DATA["bcg"].yi.to_numpy(), DATA["bcg"].vi.to_numpy()
    w = 1 / v
    mean = np.sum(w * y) / w.sum()
    from ranef.questions.synthesis.numbers import baujat

    part, moved = baujat(Studies(y, v, np.ones((13, 1))))
    np.testing.assert_allclose(part, w * (y - mean) ** 2)
    np.testing.assert_allclose(part.sum(), fitted().glance().q[0])
    rest = [np.sum((w * y)[np.arange(13) != i]) / (w.sum() - w[i]) for i in range(13)]
    np.testing.assert_allclose(moved, (mean - np.array(rest)) ** 2 * (w.sum() - w), rtol=1e-10)


def test_refit_and_other_methods():
    fit = fitted()
    other = fit.refit(DATA["bcg"].yi.to_numpy() * 2)
    np.testing.assert_allclose(float(other.coefficients[0] / fit.coefficients[0]), 2, rtol=0.05)
    assert fit.with_method("dl").tau2 == fitted(method="dl").tau2
    with pytest.raises(ModelError, match="13 rows"):
        fit.refit([1.0, 2.0])


def test_permutations_are_metafors(agree):
    known = REFERENCE["permutation"]
    for df, key in (("normal", "exact"), ("knapp-hartung", "knha")):
        found = fitted(df=df).permutation_test(exact=True)
        assert found.exact
        assert found.n == 8192
        agree("ranef.permutation_test", f"exact p of the mean, bcg, {df}", found.p_value,
              known[key]["p"], peer=METAFOR, atol=1e-12)  # fmt: skip
    few = ranef.meta("yi ~ ablat", DATA["bcg"].head(7), variance="vi", df="normal")
    found = few.permutation_test(exact=True)
    assert found.n == 5040
    np.testing.assert_allclose(found.p_value[1], known["small"]["p"][1], atol=2e-3)
    assert np.isnan(found.p_value[0])
    assert "The intercept has no p-value" in str(found)
    some = few.permutation_test(n=500, rng=1)
    assert not some.exact
    assert abs(some.p_value[1] - found.p_value[1]) < 0.1
    assert some.p_value[1] == few.permutation_test(n=500, rng=1).p_value[1]


def test_permutations_of_many_moderators_take_the_plain_way():
    fit = fitted(formula="~ ablat + year + alloc + trial", df="normal")
    found = fit.permutation_test(n=30, rng=3)
    assert found.n == 30
    assert (found.p_value[1:] >= 1 / 30).all()
    with pytest.raises(ModelError, match="n= instead of exact=True"):
        fit.permutation_test(exact=True)


def test_one_study_is_refused_in_words():
    for method in ("reml", "fe"):
        with pytest.raises(ModelError, match="one study only"):
            ranef.meta("y ~ 1", {"y": [0.5], "v": [0.1]}, variance="v", method=method)
    gap = {"y": [0.5, np.nan], "v": [0.1, 0.2]}
    with pytest.raises(ModelError, match="one study only"):
        ranef.meta("y ~ 1", gap, variance="v")


def test_correlations_of_few_persons():
    """Of three persons the variance is exact at a correlation of zero; of two there is none."""
    three = ranef.effect_sizes("COR", {"r": [0.5], "n": [3]}, ri="r", ni="n")
    assert three["vi"][0] == pytest.approx(0.75**2 / 2)
    draws = np.random.default_rng(1).normal(size=(2, 100_000, 3))
    x, y = draws - draws.mean(axis=2, keepdims=True)
    r = np.sum(x * y, axis=1) / np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
    assert np.var(r) == pytest.approx(1 / 2, rel=0.01)
    for measure, n in (("COR", 2), ("ZCOR", 3), ("ZCOR", 2), ("ZCOR", 1)):
        with pytest.raises(DataError, match="too few persons"):
            ranef.effect_sizes(measure, {"r": [0.5], "n": [n]}, ri="r", ni="n")


@pytest.mark.parametrize("restricted", [True, False])
def test_moments_of_one_column_are_those_of_any(restricted):
    """The formulas of one column beside those of matrices."""
    data = DATA["bcg"]
    y, v = np.asarray(data["yi"]), np.asarray(data["vi"])
    for column in (np.ones(len(y)), np.linspace(0.2, 3, len(y))):
        one = Studies(y, v, column[:, None])
        both = Studies(
            np.append(y, [0.0]), np.append(v, [1.0]), block_diag(column[:, None], [[1.0]])
        )
        t = np.array([0.0, 0.1, 0.7, 20.0])
        small, large = one.moments(t), both.moments(t)
        for name in ("q1", "q2", "q3"):
            np.testing.assert_allclose(getattr(small, name), getattr(large, name), rtol=1e-12)
        # the further row is fitted exactly: its weight enters tr W and nothing of P
        for name in ("trace1", "trace2"):
            np.testing.assert_allclose(getattr(small, name), getattr(large, name), rtol=1e-11)
        np.testing.assert_allclose(
            small.log_information, large.log_information + np.log(1 + t), rtol=1e-12, atol=1e-13
        )
        at, more = one.at(0.3), both.at(0.3)
        np.testing.assert_allclose(at.beta, more.beta[:1], rtol=1e-13)
        np.testing.assert_allclose(at.bread, more.bread[:1, :1], rtol=1e-13)
        assert at.q == pytest.approx(more.q, rel=1e-12)
        assert small.score(restricted).shape == t.shape


def test_influence_is_one_question_by_both_names():
    fit = fitted()
    own, asked = fit.influence().tidy(), ranef.influence(fit).tidy()
    assert own.equals(asked)
    with pytest.raises(ModelError, match="one study at a time"):
        ranef.influence(fit, by="row")


@pytest.mark.parametrize("scale", [1e-140, 1e-60, 1e140])
@pytest.mark.parametrize("method", ["reml", "ml", "dl", "sj", "pm", "fe"])
def test_effects_of_any_size(method, scale):
    y, v = np.array([1.0, 2, -1, 3, 0.5]), np.array([1.0, 0.1, 2, 0.01, 0.4])
    one = ranef.meta("y ~ 1", {"y": y, "v": v}, variance="v", method=method)
    table = {"y": y * scale, "v": v * scale * scale}
    other = ranef.meta("y ~ 1", table, variance="v", method=method)
    assert other.tau2 / scale / scale == pytest.approx(one.tau2, rel=1e-9)
    assert other.coef.iloc[0] / scale == pytest.approx(one.coef.iloc[0], rel=1e-9)
    for name in ("q", "q_p", "i2", "h2"):
        assert other.glance()[name][0] == pytest.approx(one.glance()[name][0], rel=1e-9)
    errors = [fit.tidy(df="normal").std_error[0] for fit in (one, other)]
    assert errors[1] / scale == pytest.approx(errors[0], rel=1e-9)
