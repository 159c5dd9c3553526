"""Population-averaged models: values of geepack, gee, geessbin, statsmodels, and a dense twin."""

from __future__ import annotations

import itertools
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import fractional_matrix_power

import ranef
from ranef.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    ModelError,
    RanefWarning,
    UnknownColumnError,
)
from ranef.models.marginal_correlations import grid_of
from ranef.report import html
from ranef.solve.marginal.covariance import COVARIANCES

REFERENCE = json.loads((Path(__file__).parent / "reference" / "gee.json").read_text())
GEEPACK, GEE = "geepack 1.3.9", "gee 4.13-25"

CALLS = {
    "ohio": ("resp ~ age * smoke", "id", "age", "binomial"),
    "respiratory": ("outcome ~ treat + sex + baseline + age", "center:id", "visit", "binomial"),
    "Orthodont": ("distance ~ age + Sex", "Subject", "age", "gaussian"),
    "sleepstudy": ("Reaction ~ Days", "Subject", "Days", "gaussian"),
    "cbpp": (
        "cbind(incidence, size - incidence) ~ period", "herd", "period", "binomial"
    ),
}  # fmt: skip
OF_GEE = {
    "independence": {"correlation": "independence"},
    "exchangeable": {"correlation": "exchangeable"},
    "AR-M": {"correlation": "ar1", "estimator": "adjacent"},
    "stat_M_dep": {"correlation": "m-dependent(1)"},
    "non_stat_M_dep": {"correlation": "m-dependent(1, stationary=False)"},
    "unstructured": {"correlation": "unstructured"},
}


def fitted(name, **how):
    formula, groups, time, family = CALLS[name]
    table = ranef.data.load(name).sample(frac=1.0, random_state=1)  # order never counts
    return ranef.gee(formula, table, groups=groups, time=time, family=family, **how)


def errors(fit, kind):
    return np.asarray(fit.with_covariance(kind).bse)


@pytest.fixture(scope="module")
def ohio():
    return fitted("ohio")


# --- other packages


@pytest.mark.parametrize(
    ("name", "structure"),
    [(n, s) for n in CALLS if n != "cbpp" for s in REFERENCE[n.lower()]["geepack"]],
)
def test_geepack(name, structure, agree):
    """geepack 1.3.9 brought to its fixed point: coefficients, errors, correlation, scale."""
    values = REFERENCE[name.lower()]["geepack"][structure]
    fit = fitted(name, correlation=structure)
    what = f"{name}, {structure}"
    agree("ranef.gee", f"coefficients, {what}", fit.coef, values["coef"], peer=GEEPACK, rtol=1e-7)
    agree("ranef.gee", f"robust errors, {what}", fit.bse, values["se"], peer=GEEPACK, rtol=1e-7)
    model = errors(fit, "model")
    agree("ranef.gee", f"model errors, {what}", model, values["model_se"], peer=GEEPACK, rtol=1e-7)
    np.testing.assert_allclose(fit.scale, values["scale"], rtol=1e-7)
    np.testing.assert_allclose(fit.estimate.correlations, np.ravel(values["alpha"]), rtol=1e-6)
    if "j1s" in values:
        found = errors(fit, "jackknife")
        agree("ranef.gee", f"one-step jackknife, {what}", found, values["j1s"], peer=GEEPACK,
              rtol=1e-6)  # fmt: skip
    if "fij" in values:
        found = errors(fit, "jackknife-full")
        agree("ranef.gee", f"jackknife, {what}", found, values["fij"], peer=GEEPACK, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "structure"),
    [(n, s) for n in CALLS for s in REFERENCE[n.lower()]["gee"]],
)
def test_gee_of_r(name, structure, agree):
    """gee 4.13-25: it divides by N - p."""
    values = REFERENCE[name.lower()]["gee"][structure]
    fit = fitted(name, scale="n-p", **OF_GEE[structure])
    what = f"{name}, {structure}"
    agree("ranef.gee", f"coefficients, {what}", fit.coef, values["coef"], peer=GEE, rtol=1e-6)
    agree("ranef.gee", f"robust errors, {what}", fit.bse, values["se"], peer=GEE, rtol=1e-6)
    np.testing.assert_allclose(errors(fit, "model"), values["model_se"], rtol=1e-6)
    np.testing.assert_allclose(fit.scale, values["scale"], rtol=1e-6)


@pytest.fixture(scope="module")
def thirty():
    """The first 15 patients of both centres, whom geessbin's values are of."""
    table = ranef.data.load("respiratory")
    return table[table.id <= 15]


@pytest.mark.parametrize(
    ("covariance", "value"),
    [
        ("robust", [0.9245059157057, 0.8083685497017, 0.7851492791169, 0.03153284474751]),
        ("mancl-derouen", [1.14150918306, 1.01353014019, 0.9116526041988, 0.04032861139116]),
        ("kauermann-carroll", [1.024182374786, 0.9007368540135, 0.8450979797098, 0.03544791758116]),
        ("fay-graubard", [1.312877639661, 0.8750577693305, 0.8172837553255, 0.04559438039541]),
        ("morel", [1.039995750865, 0.8869332459993, 0.8656611550572, 0.03497442132169]),
    ],
)
@pytest.mark.parametrize("correlation", ["independence", "exchangeable"])
def test_small_sample_covariances(thirty, covariance, value, correlation, agree):
    """geessbin 1.0.2; the two correlations agree, since all predictors are of patients."""
    fit = ranef.gee(
        "outcome ~ treat + baseline + age", thirty, groups="center:id", time="visit",
        family="binomial", correlation=correlation, scale="n-p", covariance=covariance,
    )  # fmt: skip
    what = f"{covariance} errors, first 30 of respiratory, {correlation}"
    agree("ranef.gee", what, fit.bse, value, peer="geessbin 1.0.2", rtol=1e-8)


@pytest.mark.parametrize(
    ("correlation", "value"),
    [
        ("independence", [1.786628863151, -1.206677620557, 2.172580442349, -0.05474916236431]),
        ("exchangeable", [1.692255596013, -1.142953229028, 2.058443843947, -0.05191886994583]),
    ],
)
def test_penalised_equations(thirty, correlation, value, agree):
    """geessbin 1.0.2, PGEE."""
    fit = ranef.gee(
        "outcome ~ treat + baseline + age", thirty, groups="center:id", time="visit",
        family="binomial", correlation=correlation, scale="n-p", penalty="firth",
    )  # fmt: skip
    what = f"penalised coefficients, first 30 of respiratory, {correlation}"
    agree("ranef.gee", what, fit.coef, value, peer="geessbin 1.0.2", rtol=1e-8)


def test_other_families(agree):
    """statsmodels 0.15.0, GEE with an exchangeable correlation."""
    counts = ranef.data.load("Salamanders")
    fit = ranef.gee(
        "count ~ mined + DOY", counts, groups="site", family="nbinom2", shapes={"phi": 2.0},
        scale="n-p",
    )  # fmt: skip
    peer = "statsmodels 0.15.0"
    agree("ranef.gee", "coefficients, Salamanders, nbinom2", fit.coef,
          [-1.2357505, 2.05262193, 0.08816923], peer=peer, rtol=1e-7)  # fmt: skip
    agree("ranef.gee", "robust errors, Salamanders, nbinom2", fit.bse,
          [0.30179676, 0.31702374, 0.04941625], peer=peer, rtol=1e-7)  # fmt: skip
    sleep = ranef.data.load("sleepstudy")
    fit = ranef.gee(
        "Reaction ~ Days", sleep, groups="Subject", family="Gamma", link="log", scale="n-p"
    )
    agree("ranef.gee", "coefficients, sleepstudy, Gamma with log link", fit.coef,
          [5.536132612033944, 0.03502063750156979], peer=peer, rtol=1e-9)  # fmt: skip
    agree("ranef.gee", "robust errors, sleepstudy, Gamma with log link", fit.bse,
          [0.02561249634114887, 0.0044857832401356814], peer=peer, rtol=1e-8)  # fmt: skip


def test_criteria(ohio, agree):
    """CIC at the fit's own coefficients and scale one, and statsmodels' QICu."""
    found = ohio.criteria()
    agree("fit.criteria", "CIC, ohio, exchangeable", found.cic, 5.4341, atol=5e-5,
          peer="trace recomputed in R from geepack 1.3.9's matrices")  # fmt: skip
    agree("fit.criteria", "QICu, ohio, exchangeable", found.qicu, 1827.4762656133564, atol=4e-3,
          peer="statsmodels 0.15.0")  # fmt: skip
    np.testing.assert_allclose(found.qic, found.qicu - 8 + 2 * found.cic)
    twice = ohio.criteria(scale=2.0)
    np.testing.assert_allclose(twice.quasi * 2, found.quasi)
    np.testing.assert_allclose(twice.cic * 2, found.cic)
    other = fitted("ohio", correlation="independence").criteria()
    assert found.rjc.item() < other.rjc.item()
    assert found.ghyc.item() < other.ghyc.item()
    normal = fitted("Orthodont").criteria()
    apart = fitted("Orthodont", correlation="independence")
    np.testing.assert_allclose(normal.scale, apart.scale)  # one scale for all correlations


def test_score_test(ohio, agree):
    """statsmodels 0.15.0, compare_score_test."""
    found = fitted("ohio", scale="n-p").score_test(np.eye(4)[2:])
    agree("fit.score_test", "smoke and age:smoke, ohio", 2 * found.statistic, 2.6857186597196576,
          peer="statsmodels 0.15.0", rtol=1e-7)  # fmt: skip
    table = ohio.anova(test="score").tidy()
    assert list(table.term) == ["age", "smoke", "age:smoke"]
    wald = ohio.anova().tidy()
    np.testing.assert_allclose(wald.statistic, ohio.tvalues.iloc[1:] ** 2)
    assert (abs(table.statistic / wald.statistic - 1) < 0.1).all()


# --- a dense twin


def ragged(seed=3, n_clusters=40):
    """Clusters of 1 to 6 rows with gaps in time, an offset and weights."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n_clusters):
        times = np.sort(rng.choice(7, size=rng.integers(1, 7), replace=False))
        u = rng.normal()
        for t in times:
            x, z = rng.normal(), k % 2
            rows.append((f"c{k}", t, x, z, rng.uniform(0.5, 2), 0.1 * x, u))
    table = pd.DataFrame(rows, columns=["g", "t", "x", "z", "w", "o", "u"])
    rate = np.exp(0.3 + 0.4 * table.x - 0.3 * table.z + table.o + 0.5 * table.u)
    table["y"] = rng.poisson(rate)
    table["h"] = table.g + "." + (table.t // 3).astype(str)
    table["clock"] = table.t + rng.uniform(0, 0.5, len(table))
    return table.drop(columns="u")


def dense_correlation(fit, rows):
    """R of some rows of one cluster, from what the fit reports."""
    alpha, name = fit.estimate.correlations, fit.estimate.model.equations.correlation
    n = len(rows)
    apart = np.abs(np.subtract.outer(rows.t.to_numpy(), rows.t.to_numpy()))
    same = rows.h.to_numpy()[:, None] == rows.h.to_numpy()
    clock = np.abs(np.subtract.outer(rows.clock.to_numpy(), rows.clock.to_numpy()))
    by_lag = np.concatenate([[1.0], alpha, np.zeros(9)])
    pairs = {}
    if name in ("unstructured", "m-dependent"):
        labels = fit.tidy("correlation")
        pairs = {
            (int(a), int(b)): v
            for a, b, v in zip(labels.time, labels.time2, labels.estimate, strict=True)
            if a is not None and b is not None
        }
    t = rows.t.to_list()
    R = {
        "independence": lambda: np.zeros((n, n)),
        "exchangeable": lambda: np.full((n, n), alpha[0]),
        "nested": lambda: np.where(same, alpha[0], alpha[-1]),
        "ar1": lambda: alpha[0] ** apart,
        "car1": lambda: alpha[0] ** clock,
        "toeplitz": lambda: by_lag[apart],
        "unstructured": lambda: np.array(
            [[pairs.get((min(a, b), max(a, b)), 0.0) for a in t] for b in t]
        ),
    }
    R["m-dependent"] = R["unstructured"] if pairs else R["toeplitz"]
    out = R[name]()
    np.fill_diagonal(out, 1.0)
    return out


CORRELATIONS = (
    "independence", "exchangeable", "ar1", "car1", "m-dependent(2)",
    "m-dependent(2, stationary=False)", "toeplitz", "unstructured", "nested",
)  # fmt: skip


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_dense_twin(correlation):
    """The equations, bread and sandwich written out cluster by cluster, with whole matrices."""
    table = ragged(n_clusters=150)
    time = "clock" if correlation == "car1" else "t"
    groups = "g/h" if correlation == "nested" else "g"
    fit = ranef.gee(
        "y ~ x + z", table.sample(frac=1.0, random_state=2), groups=groups, time=time,
        family="poisson", correlation=correlation, weights="w", offset="o",
    )  # fmt: skip
    assert fit.estimate.converged
    assert fit.estimate.gap < 1e-7
    beta, p = fit.estimate.coefficients, 3
    X = np.column_stack([np.ones(len(table)), table.x, table.z])
    mu = np.exp(X @ beta + table.o.to_numpy())
    root = np.sqrt(mu / table.w.to_numpy())
    e = (table.y.to_numpy() - mu) / root
    np.testing.assert_allclose(fit.scale, np.mean(e**2), rtol=1e-12)
    H, scores, leverages = np.zeros((p, p)), [], []
    for _, rows in table.groupby("g"):
        k = rows.index.to_numpy()
        V = np.outer(root[k], root[k]) * dense_correlation(fit, rows)
        D = mu[k, None] * X[k]
        inverse = np.linalg.inv(V)
        H += D.T @ inverse @ D
        scores.append(D.T @ inverse @ (table.y.to_numpy()[k] - mu[k]))
        leverages.append((D, inverse, table.y.to_numpy()[k] - mu[k]))
    U, M = np.array(scores), np.linalg.inv(H)
    np.testing.assert_allclose(U.sum(axis=0) / np.sqrt(np.sum(U**2, axis=0)), 0.0, atol=1e-7)
    np.testing.assert_allclose(fit.vcov, M @ U.T @ U @ M, rtol=1e-8)
    np.testing.assert_allclose(errors(fit, "model") ** 2, fit.scale * np.diag(M), rtol=1e-8)
    corrected = np.array(
        [
            D.T @ inverse @ np.linalg.solve(np.eye(len(r)) - D @ M @ D.T @ inverse, r)
            for D, inverse, r in leverages
        ]
    )
    np.testing.assert_allclose(
        errors(fit, "mancl-derouen"),
        np.sqrt(np.diag(M @ corrected.T @ corrected @ M)),
        rtol=1e-7,
    )


@pytest.mark.parametrize(
    ("correlation", "estimator"),
    [("exchangeable", "all"), ("ar1", "all"), ("ar1", "adjacent"), ("car1", "adjacent"),
     ("car1", "all"), ("nested", "all"), ("toeplitz", "all")],
)  # fmt: skip
def test_correlations_are_moments(correlation, estimator):
    """What is reported is the moment estimate at the residuals of the fit."""
    table = ragged()
    time = "clock" if correlation == "car1" else "t"
    groups = "g/h" if correlation == "nested" else "g"
    fit = ranef.gee(
        "y ~ x + z", table, groups=groups, time=time, family="poisson", correlation=correlation,
        estimator=estimator, offset="o",
    )  # fmt: skip
    e = np.asarray(fit.residuals("pearson"))
    products, lags, clocks, same, next_to = [], [], [], [], []
    for _, rows in table.groupby("g"):
        k = rows.sort_values("t").index.to_numpy()
        for i in range(len(k)):
            for j in range(i + 1, len(k)):
                products.append(e[k[i]] * e[k[j]] / fit.scale)
                lags.append(table.t[k[j]] - table.t[k[i]])
                clocks.append(table.clock[k[j]] - table.clock[k[i]])
                same.append(table.h[k[i]] == table.h[k[j]])
                next_to.append(j == i + 1)
    r, lags, clocks, same = (np.array(v) for v in (products, lags, clocks, same))
    found = fit.estimate.correlations
    if correlation == "exchangeable":
        wanted = [r.mean()]
    elif correlation == "nested":
        wanted = [r[same].mean(), r[~same].mean()]
    elif correlation == "toeplitz":
        wanted = [r[lags == lag].mean() for lag in range(1, 7)]
        wanted = np.array(wanted) * (1 - fit.estimate.shrunk)
    elif (correlation, estimator) == ("ar1", "adjacent"):
        wanted = [r[lags == 1].mean()]
    else:
        distance = (lags if correlation == "ar1" else clocks).astype(float)
        some = np.array(next_to) if estimator == "adjacent" else np.ones(len(r), dtype=bool)
        grid = found[0] + np.array([-1e-4, 0.0, 1e-4])
        loss = [np.sum((r[some] - a ** distance[some]) ** 2) for a in grid]
        assert loss[1] < min(loss[0], loss[2])
        slope = (loss[2] - loss[0]) / (loss[2] - 2 * loss[1] + loss[0])
        assert abs(slope) < 1e-3
        return
    np.testing.assert_allclose(found, wanted, rtol=1e-7)


def test_degrees_of_freedom_written_out(thirty):
    """Pan and Wall's, and Fay and Graubard's with whole matrices."""
    fit = ranef.gee(
        "outcome ~ treat + baseline + age", thirty, groups="center:id", time="visit",
        family="binomial", correlation="exchangeable",
    )  # fmt: skip
    from ranef.solve.marginal.equations import by_cluster

    parts = list(by_cluster(fit.estimate.model.problem, fit.estimate.solution))
    u = np.vstack([one for _, one, _ in parts])
    B = np.vstack([one for _, _, one in parts])
    K, p = u.shape
    M = np.linalg.inv(B.sum(axis=0))
    z = np.array([(M @ one) ** 2 for one in u])
    wanted = 2 * z.sum(axis=0) ** 2 / (K * z.var(axis=0, ddof=1))
    np.testing.assert_allclose(fit.tidy(df="pan-wall").df, wanted, rtol=1e-8)
    G = np.eye(K * p) - np.vstack(B) @ M @ np.tile(np.eye(p), (1, K))
    assert max(np.linalg.eigvals(one @ M).real.max() for one in B) < 0.75
    correction = [np.real(fractional_matrix_power(np.eye(p) - one @ M, -0.5)) for one in B]
    S = sum(np.outer(c @ one, c @ one) for c, one in zip(correction, u, strict=True))
    for j, found in enumerate(fit.tidy(df="fay-graubard").df):
        c = np.eye(p)[j]
        middle, psi = np.zeros((K * p, K * p)), np.zeros((K * p, K * p))
        weights = [c @ np.linalg.inv(np.linalg.inv(M) - one) @ c - c @ M @ c for one in B]
        for i in range(K):
            at = slice(i * p, (i + 1) * p)
            h = correction[i].T @ M @ c
            middle[at, at] = np.outer(h, h)
            psi[at, at] = weights[i] / sum(weights) * S
        form = psi @ G.T @ middle @ G
        np.testing.assert_allclose(found, np.trace(form) ** 2 / np.trace(form @ form), rtol=1e-6)


# --- data as they are


def test_units_and_names_do_not_count():
    table = ragged()
    usual = ranef.gee("y ~ x + z", table, groups="g", time="clock", family="poisson",
                      correlation="car1")  # fmt: skip
    hours = table.assign(clock=24 * table.clock, g=table.g.str.upper())
    other = ranef.gee("y ~ x + z", hours, groups="g", time="clock", family="poisson",
                      correlation="car1")  # fmt: skip
    np.testing.assert_allclose(other.coef, usual.coef, rtol=1e-8)
    np.testing.assert_allclose(
        other.estimate.correlations**24, usual.estimate.correlations, rtol=1e-7
    )


def test_dates_and_ordered_categories_are_times():
    table = ranef.data.load("respiratory")
    usual = fitted("respiratory", correlation="ar1")
    dates = table.assign(visit=pd.Timestamp("2020-01-01") + pd.to_timedelta(table.visit, "D"))
    names = pd.Categorical.from_codes(table.visit - 1, ["z", "y", "x", "w"], ordered=True)
    for other in (dates, table.assign(visit=names)):
        found = ranef.gee(
            "outcome ~ treat + sex + baseline + age", other, groups="center:id", time="visit",
            family="binomial", correlation="ar1",
        )  # fmt: skip
        np.testing.assert_allclose(found.coef, usual.coef, rtol=1e-9)
    with pytest.raises(DataError, match="holds text, which has no order"):
        ranef.gee("outcome ~ treat", table.assign(visit=names.astype(str)), groups="center:id",
                  time="visit", family="binomial", correlation="ar1")  # fmt: skip


def test_two_rows_at_one_time_are_refused_by_name():
    table = ranef.data.load("ohio")
    twice = pd.concat([table, table.iloc[[5]]])
    with pytest.raises(DataError, match="id 1 has two rows at age -1; 1 row repeat a time"):
        ranef.gee("resp ~ age", twice, groups="id", time="age", family="binomial")


def test_missing_values_leave_gaps():
    table = ragged()
    holes = table.assign(y=table.y.astype(float).mask(table.index % 5 == 2))
    fit = ranef.gee("y ~ x + z", holes, groups="g", time="t", family="poisson", correlation="ar1")
    rest = ranef.gee("y ~ x + z", holes.dropna(), groups="g", time="t", family="poisson",
                     correlation="ar1")  # fmt: skip
    np.testing.assert_allclose(fit.coef, rest.coef, rtol=1e-10)
    assert np.isnan(np.asarray(fit.fitted())[2])
    gone = table.assign(t=table.t.astype(float).mask(table.index == 3))
    fit = ranef.gee("y ~ x + z", gone, groups="g", time="t", family="poisson")
    assert fit.frame.accounting.missing == {"t": 1}


def test_one_row_clusters_and_zero_clusters():
    """Rows of their own are independent; clusters without an event are no obstacle."""
    table = ragged()
    alone = ranef.gee("y ~ x + z", table.assign(g=range(len(table))), groups="g", time="t",
                      family="poisson", correlation="exchangeable")  # fmt: skip
    apart = ranef.gee("y ~ x + z", table.assign(g=range(len(table))), groups="g", time="t",
                      family="poisson", correlation="independence")  # fmt: skip
    np.testing.assert_allclose(alone.coef, apart.coef, rtol=1e-10)
    table["y"] = table.y.where(table.g.str[-1].isin(list("13579")), 0)
    fit = ranef.gee("y ~ x", table, groups="g", time="t", family="poisson")
    assert fit.estimate.converged


def test_one_cluster_is_refused():
    with pytest.raises(DataError, match="has one level"):
        ranef.gee("y ~ x", ragged().assign(g="a"), groups="g", family="poisson")


def test_separation_is_refused_and_the_penalty_answers():
    table = ranef.data.load("ohio").assign(never=lambda d: (d.index % 9 == 0).astype(int))
    table["resp"] = table.resp.where(table.never == 0, 0)
    with pytest.raises(ModelError, match=r"separate the response: along 'never'.*penalty='firth'"):
        ranef.gee("resp ~ age + never", table, groups="id", time="age", family="binomial")
    fit = ranef.gee(
        "resp ~ age + never", table, groups="id", time="age", family="binomial", penalty="firth"
    )
    assert fit.estimate.converged
    assert -12 < fit.coef["never"] < -3
    counts = ragged()
    counts["cell"] = (counts.index % 4 == 0).astype(int)
    counts["y"] = counts.y.where(counts.cell == 0, 0)
    with pytest.raises(ModelError, match="separate the response: along 'cell'"):
        ranef.gee("y ~ x + cell", counts, groups="g", time="t", family="poisson")


def test_an_indefinite_correlation_is_found_and_said(thirty):
    with pytest.warns(DataWarning, match="no positive definite matrix"):
        fit = ranef.gee(
            "outcome ~ treat + baseline + age", thirty, groups="center:id", time="visit",
            family="binomial", correlation="unstructured",
        )  # fmt: skip
    assert fit.estimate.converged
    assert fit.estimate.smallest < 0 < fit.estimate.shrunk < 0.5
    R = fit.estimate.solution.working.table(fit.estimate.model.laid_out)
    np.testing.assert_allclose(np.linalg.eigvalsh(R)[0], 0.1, rtol=1e-6)
    assert abs(fit.coef["treatP"]) < 3
    assert "positive definite" in str(fit)


def test_many_waves_and_few_clusters():
    sleep = ranef.data.load("sleepstudy")
    with pytest.warns(RanefWarning) as caught:
        fit = ranef.gee("Reaction ~ Days", sleep, groups="Subject", time="Days",
                        correlation="unstructured")  # fmt: skip
    texts = " ".join(str(w.message) for w in caught)
    assert "45 parameters for 18 clusters" in texts
    assert "no positive definite matrix" in texts
    assert 5 < fit.coef["Days"] < 15


def test_a_healthy_fit_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("ohio", "Orthodont"):
            assert fitted(name, correlation="unstructured").doubts() == ()


def test_a_cluster_of_many_rows():
    rng = np.random.default_rng(5)
    sizes = [20_000, *([5] * 200)]
    table = pd.DataFrame({"g": np.repeat(np.arange(201), sizes)})
    table["x"] = rng.normal(size=len(table))
    table["t"] = np.concatenate([np.arange(size) for size in sizes])
    table["y"] = table.x + rng.normal(size=len(table)) + np.repeat(rng.normal(size=201), sizes)
    for how in ({}, {"correlation": "ar1", "estimator": "adjacent", "time": "t"}):
        fit = ranef.gee("y ~ x", table, groups="g", covariance="mancl-derouen", **how)
        assert fit.estimate.converged
        assert abs(fit.coef["x"] - 1) < 0.1
    with pytest.raises(ModelError, match="a matrix of all 20,000 places"):
        ranef.gee("y ~ x", table, groups="g", time="t", correlation="toeplitz")


def test_grids_of_times():
    assert grid_of(np.array([0.0, 0.3, 0.6, 1.5]), "t", "ar1") == pytest.approx((0.0, 0.3))
    assert grid_of(np.array([0.0, 4.0, 10.0]), "t", "ar1") == pytest.approx((0.0, 2.0))
    with pytest.raises(ModelError, match=r"lie on no grid.*'car1'"):
        grid_of(np.array([0.0, 1.0, np.pi, 5.1]), "t", "ar1")


def test_sampling_weights():
    """Of whole clusters they are frequencies; within clusters they weigh residuals."""
    table = ragged()
    table["s"] = np.where(table.g.str[-1].isin(list("02468")), 2.0, 1.0)
    fit = ranef.gee("y ~ x + z", table, groups="g", time="t", family="poisson",
                    sampling_weights="s")  # fmt: skip
    again = pd.concat([table, table[table.s == 2].assign(g=lambda d: d.g + "'")])
    copied = ranef.gee("y ~ x + z", again, groups="g", time="t", family="poisson")
    np.testing.assert_allclose(fit.coef, copied.coef, rtol=1e-8)
    np.testing.assert_allclose(fit.estimate.correlations, copied.estimate.correlations, rtol=1e-7)
    rng = np.random.default_rng(1)
    mixed = table.assign(s=rng.uniform(0.5, 2, len(table)))
    free = ranef.gee("y ~ x + z", mixed, groups="g", time="t", family="poisson",
                     sampling_weights="s", correlation="independence")  # fmt: skip
    as_weights = ranef.gee("y ~ x + z", mixed, groups="g", time="t", family="poisson",
                           weights="s", correlation="independence")  # fmt: skip
    np.testing.assert_allclose(free.coef, as_weights.coef, rtol=1e-9)
    np.testing.assert_allclose(free.bse, as_weights.bse, rtol=1e-9)
    corrected = ranef.gee("y ~ x + z", mixed, groups="g", time="t", family="poisson",
                          sampling_weights="s", covariance="mancl-derouen")  # fmt: skip
    assert (corrected.bse > corrected.with_covariance("robust").bse).all()
    with pytest.raises(DataError, match="sampling_weights must be positive"):
        ranef.gee("y ~ x", mixed.assign(s=mixed.s.where(mixed.index > 0, -1.0)), groups="g",
                  family="poisson", sampling_weights="s")  # fmt: skip


def test_a_given_correlation():
    table = ranef.data.load("Orthodont")
    free = fitted("Orthodont", correlation="unstructured")
    R = free.estimate.solution.working.table(free.estimate.model.laid_out)
    call = {"groups": "Subject", "time": "age", "correlation": "fixed"}
    fit = ranef.gee("distance ~ age + Sex", table, matrix=R, **call)
    np.testing.assert_allclose(fit.coef, free.coef, rtol=1e-8)
    labels = ["14", "12", "10", "8"]
    turned = pd.DataFrame(R[::-1, ::-1], index=labels, columns=labels)
    other = ranef.gee("distance ~ age + Sex", table, matrix=turned, **call)
    np.testing.assert_allclose(other.coef, free.coef, rtol=1e-8)
    for names in (labels, [14.0, 12.0, 10.0, 8.0]):
        rows = pd.DataFrame(R[::-1, ::-1], index=names, columns=names).iloc[[2, 0, 3, 1]]
        again = ranef.gee("distance ~ age + Sex", table, matrix=rows, **call)
        np.testing.assert_allclose(again.coef, free.coef, rtol=1e-8)
    strange = pd.DataFrame(R, index=list("abcd"), columns=list("abcd"))
    with pytest.raises(ModelError, match="labelled 'a', 'b', 'c', 'd', and the places in time are"):
        ranef.gee("distance ~ age + Sex", table, matrix=strange, **call)
    with pytest.raises(ModelError, match="have not the same labels"):
        ranef.gee("distance ~ age + Sex", table, matrix=strange.set_axis(list("abce")), **call)
    without = {**call, "time": None}
    with pytest.raises(ModelError, match="in different orders"):
        ranef.gee("distance ~ age + Sex", table, matrix=strange.iloc[::-1], **without)
    with pytest.raises(ModelError, match="matrix is 2 by 2, and there are 4 places"):
        ranef.gee("distance ~ age + Sex", table, matrix=np.eye(2), **call)
    with pytest.raises(ModelError, match="no correlation matrix"):
        ranef.gee("distance ~ age + Sex", table, matrix=2 * np.eye(4), **call)


def test_shapes_are_estimated_once_and_held():
    counts = ranef.data.load("Salamanders")
    fit = ranef.gee("count ~ mined", counts, groups="site", family="nbinom2")
    phi = fit.estimate.model.shapes["phi"]
    again = ranef.gee("count ~ mined", counts, groups="site", family="nbinom2",
                      shapes={"phi": phi})  # fmt: skip
    np.testing.assert_allclose(again.coef, fit.coef, rtol=1e-9)
    means = fitted_means = np.asarray(fit.fitted("typical"))
    other = ranef.families.NegativeBinomial2()

    def loss(value):
        etas = np.vstack([np.log(means), np.full(len(means), np.log(value))])
        return -np.sum(other.log_density(counts["count"], etas))

    assert loss(phi) < min(loss(0.97 * phi), loss(1.03 * phi))
    assert "phi is held at" in str(fit)
    assert len(fitted_means) == len(counts)
    rate = ranef.gee("count ~ mined", counts, groups="site", family="nbinom1")
    plain = ranef.gee("count ~ mined", counts, groups="site", family="poisson")
    np.testing.assert_allclose(rate.coef, plain.coef, rtol=1e-10)


@pytest.mark.parametrize(
    ("family", "link"),
    [("poisson", "sqrt"), ("nbinom12", None), ("tweedie", None), ("bell", None), ("compois", None),
     ("genpois", None), ("Gamma", "inverse"), ("inverse.gaussian", "log"), ("lognormal", None),
     ("t", None), ("gaussian", "log"), ("skewnormal", None)],
)  # fmt: skip
def test_every_family_with_a_mean_and_a_variance(family, link):
    table = ragged()
    table["y"] = table.y + (family in ("Gamma", "inverse.gaussian", "lognormal"))
    if family in ("t", "skewnormal"):
        table["y"] = np.log1p(table.y)
    fit = ranef.gee("y ~ x + z", table, groups="g", time="t", family=family, link=link)
    assert fit.estimate.converged
    assert np.isfinite(fit.criteria().qic).all()
    mu = np.asarray(fit.fitted())
    assert np.isfinite(mu).all()
    moments = fit.estimate.model.moments
    grid = np.array([0.5, 1.0, 2.5])
    step = 1e-6
    difference = (moments.variance(grid + step) - moments.variance(grid - step)) / (2 * step)
    np.testing.assert_allclose(moments.slope(grid), difference, rtol=1e-4, atol=1e-6)
    y = np.array([1.0, 3.0, 2.0])
    rise = (moments.quasi(y, grid + step) - moments.quasi(y, grid - step)) / (2 * step)
    np.testing.assert_allclose(rise, (y - grid) / moments.variance(grid), rtol=1e-4, atol=1e-6)


def test_proportions_and_beta_binomial():
    table = ranef.data.load("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period"
    fit = ranef.gee(formula, table, groups="herd", time="period", family="betabinomial",
                    correlation="exchangeable")  # fmt: skip
    assert "phi" in fit.estimate.model.shapes
    assert abs(fit.scale - 1) < 0.5
    beta = ranef.gee("p ~ period", table.assign(p=(table.incidence + 0.5) / (table["size"] + 1)),
                     groups="herd", family="beta")  # fmt: skip
    assert beta.estimate.converged
    binomial = fitted("cbpp")
    np.testing.assert_allclose(
        np.asarray(binomial.residuals()) + np.asarray(binomial.fitted()),
        (table.incidence / table["size"]).sample(frac=1.0, random_state=1),
        rtol=1e-12,
    )


# --- what it answers


def test_tables_and_intervals(ohio):
    table = ohio.tidy(df="clusters")
    np.testing.assert_array_equal(table.df, 533)
    kinds = [ohio.tidy(covariance=kind).std_error[2] for kind in COVARIANCES if "full" not in kind]
    assert len({round(value, 12) for value in kinds}) == len(kinds)
    odds = ohio.tidy(exponentiate=True)
    np.testing.assert_allclose(odds.estimate, np.exp(ohio.coef))
    np.testing.assert_allclose(ohio.confint().conf_low, ohio.tidy().conf_low)
    assert ohio.glance().n_clusters.item() == 537
    correlation = fitted("Orthodont", correlation="toeplitz").tidy("correlation")
    assert list(correlation.lag) == [1.0, 2.0, 3.0]
    pairs = fitted("Orthodont", correlation="unstructured").tidy("correlation")
    assert list(zip(pairs.time, pairs.time2, strict=True))[:2] == [("8", "10"), ("8", "12")]
    nested = ranef.gee("strength ~ 1", ranef.data.load("Pastes"), groups="batch/cask",
                       correlation="nested")  # fmt: skip
    assert list(nested.tidy("correlation").group) == ["cask:batch", "batch"]
    assert nested.n_groups == {"batch": 10, "cask:batch": 30}


def test_questions(ohio):
    means = ohio.emmeans("smoke", at={"smoke": [0, 1]})
    assert "Population-averaged" in str(means)
    assert "typical" not in str(means)
    effect = ranef.average(ohio, "smoke")
    rows = ranef.data.load("ohio")
    change = ohio.predict(rows.assign(smoke=1)) - ohio.predict(rows.assign(smoke=0))
    np.testing.assert_allclose(effect.tidy().estimate[0], np.mean(change), rtol=1e-10)
    assert "Population-averaged" in str(effect)
    assert "random effects" not in str(effect)
    trend = ohio.emtrends("smoke", "age", at={"smoke": [0, 1]}).tidy()
    np.testing.assert_allclose(trend.iloc[0]["estimate"], ohio.coef["age"], rtol=1e-8)
    assert len(ohio.contrasts("smoke", "pairwise", at={"smoke": [0, 1]}).tidy()) == 1
    assert len(ohio.augment()) == len(rows)
    assert ohio.test(["smoke", "age:smoke"], df="pan-wall").df2 < 537
    assert "E(resp[i]) = mu[i]" in str(ohio.equation())
    assert "generalised estimating equations" in ohio.methods()
    few = fitted("Orthodont", df="clusters")
    assert list(few.anova().tidy().columns) == ["term", "df1", "df2", "statistic", "p_value"]
    assert "population-averaged" in str(ranef.table({"gee": ohio}).to_markdown()).lower()
    page = html(ohio)
    assert 'id="fixed"' in page
    assert 'id="random"' not in page


def test_what_it_has_not_is_refused_in_words(ohio):
    for question in ("rank", "shrinkage", "r2", "icc", "posterior", "reliability"):
        with pytest.raises(ModelError, match=r"needs .*; this fit \(a population-aver"):
            getattr(ranef, question)(ohio)
    for question in ("profile", "bootstrap"):
        with pytest.raises(ModelError, match=r"needs .*; this fit \(a population-averaged model\)"):
            getattr(ranef, question)(ohio)
    with pytest.raises(ModelError, match="anova"):
        ranef.anova(ohio, ohio)
    with pytest.raises(ModelError, match=r"df='satterthwaite' is not a method of population"):
        ohio.tidy(df="satterthwaite")
    with pytest.raises(ModelError, match="belongs to covariances that rest on clusters"):
        ohio.tidy(covariance="model", df="pan-wall")


def test_it_is_saved_and_comes_back(tmp_path):
    for correlation in ("exchangeable", "ar1", "unstructured", "car1"):
        fit = fitted("Orthodont", correlation=correlation, covariance="kauermann-carroll")
        fit.save(tmp_path / "marginal.ranef")
        again = ranef.load(tmp_path / "marginal.ranef")
        assert str(again) == str(fit)
        pd.testing.assert_frame_equal(again.tidy(df="pan-wall"), fit.tidy(df="pan-wall"))
        pd.testing.assert_frame_equal(again.criteria(), fit.criteria())
        assert str(pickle.loads(pickle.dumps(fit))) == str(fit)


def test_arguments_are_refused_in_words():
    table = ranef.data.load("ohio")
    call = {"groups": "id", "time": "age", "family": "binomial"}
    for how, words in (
        ({"correlation": "exchangable"}, "did you mean 'exchangeable'"),
        ({"correlation": "ar1", "time": None}, "needs time="),
        ({"correlation": "fixed"}, "needs matrix="),
        ({"correlation": "nested"}, "clusters within clusters"),
        ({"covariance": "sandwich"}, "covariance"),
        ({"scale": "n - p"}, "scale is 'n', 'n-p' or a positive number"),
        ({"scale": -1.0}, "is not positive"),
        ({"df": "kenward-roger"}, "is not a method of population-averaged"),
        ({"estimator": "adjacent"}, "is one of 'ar1' and 'car1'"),
        ({"family": "truncated_poisson"}, "no variance that is a function of one mean"),
        ({"family": "censored"}, "no variance that is a function of one mean"),
        ({"shapes": {"phi": 1.0}}, "has no shape 'phi'"),
        ({"groups": "id + age"}, "clusters are one"),
        ({"penalty": "ridge"}, "penalty"),
    ):
        with pytest.raises((ModelError, DataError), match=words):
            ranef.gee("resp ~ age", table, **{**call, **how})
    with pytest.raises(UnknownColumnError, match="no column 'idd' for groups; did you mean 'id'"):
        ranef.gee("resp ~ age", table, groups="idd", family="binomial")
    with pytest.raises(ModelError, match=r"\(1 \| ...\) is a random term"):
        ranef.gee("resp ~ age + (1 | id)", table, groups="id", family="binomial")


def test_a_dot_does_not_stand_for_clusters_and_times():
    table = ranef.data.load("Orthodont")
    fit = ranef.gee("distance ~ .", table, groups="Subject", time="age")
    assert fit.names == ["(Intercept)", "SexFemale"]


def test_linear_predictions_have_no_random_effects():
    fit = fitted("Orthodont")
    table = ranef.data.load("Orthodont").head(3)
    np.testing.assert_allclose(
        fit.predict(table), fit.predict(table, kind="population"), rtol=1e-12
    )


def test_no_solution_is_said(monkeypatch):
    from ranef.solve.marginal import equations

    monkeypatch.setattr(equations, "MOST_STEPS", 2)
    with pytest.warns(ConvergenceWarning, match="were not solved in 2 steps"):
        fitted("ohio", correlation="unstructured")


# --- dropout


def leaving(n_clusters, seed=4):
    """Four visits; who is ill at one is less often seen at the next. All slopes are known."""
    rng = np.random.default_rng(seed)
    arm, u = np.arange(n_clusters) % 2, 1.5 * rng.normal(size=n_clusters)
    y = np.empty((n_clusters, 4))
    for t in range(4):
        y[:, t] = 5 - 1.0 * t - 0.5 * t * arm + u + rng.normal(size=n_clusters)
    seen = np.ones_like(y, dtype=bool)
    for t in range(1, 4):
        chance = 1 / (1 + np.exp(-(3.5 - 0.5 * y[:, t - 1])))
        seen[:, t] = seen[:, t - 1] & (rng.random(n_clusters) < chance)
    return pd.DataFrame(
        {
            "id": np.repeat(np.arange(n_clusters), 4),
            "t": np.tile(np.arange(4), n_clusters),
            "arm": np.repeat(arm, 4),
            "y": np.where(seen, y, np.nan).ravel(),
        }
    )


def test_dropout_is_corrected():
    table = leaving(3000).sample(frac=1.0, random_state=1)
    call = {"groups": "id", "time": "t"}
    naive = ranef.gee("y ~ t * arm", table, correlation="independence", **call)
    fit = ranef.gee("y ~ t * arm", table, dropout="~ lag(y) + arm", **call)
    truth = np.array([5.0, -1.0, 0.0, -0.5])
    assert (abs(fit.coef - truth) < 3.5 * fit.bse).all()
    assert abs(naive.coef["t"] + 1) > 6 * naive.bse["t"]
    own = fit.tidy("dropout").set_index("term")
    assert abs(own.estimate["lag(y, id, time = t)"] + 0.5) < 4 * own.std_error.iloc[1]
    assert fit.n_obs == table.y.notna().sum()
    unseen = np.asarray(table.y.isna())
    assert np.isnan(np.asarray(fit.residuals())[unseen]).all()
    assert "planned and not seen" in str(fit)


def test_the_uncertainty_of_dropout_is_carried(tmp_path):
    """The derivative of the equations in the model of dropout, by differences; the sandwich."""
    from ranef.solve.marginal.equations import scores, weight_derivatives

    fit = ranef.gee("y ~ t * arm", leaving(200), groups="id", time="t", dropout="~ lag(y) + arm")
    model, solution = fit.estimate.model, fit.estimate.solution
    dropout = model.dropout
    C = weight_derivatives(model.problem, solution, model.sorted(dropout.slopes))
    from dataclasses import replace

    step = 1e-6
    for q in range(3):
        ends = []
        for side in (1, -1):
            weights = dropout.weights + side * step * dropout.slopes[:, q]
            moved = replace(model.problem, sampling=model.sorted(weights))
            ends.append(scores(moved, solution).sum(axis=0))
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), C[:, q], rtol=1e-6)
    M = np.linalg.inv(fit.estimate.bread)
    u = scores(model.problem, solution) + dropout.scores @ dropout.covariance @ C.T
    np.testing.assert_allclose(fit.vcov, M @ u.T @ u @ M.T, rtol=1e-9)
    fit.save(tmp_path / "dropout.ranef")
    again = ranef.load(tmp_path / "dropout.ranef")
    assert str(again) == str(fit)
    pd.testing.assert_frame_equal(again.tidy("dropout"), fit.tidy("dropout"))


def test_weights_are_inverse_probabilities():
    """Each row's weight is the product over its visits of the odds that were fitted."""
    table = leaving(150)
    fit = ranef.gee("y ~ t * arm", table, groups="id", time="t", dropout="~ lag(y) + arm")
    dropout = fit.estimate.model.dropout
    for _, rows in list(table.groupby("id"))[:40]:
        weight, k = 1.0, rows.index.to_numpy()
        for j in range(1, 4):
            if np.isnan(table.y[k[j - 1]]):
                break
            z = dropout.coefficients @ [1, table.y[k[j - 1]], table.arm[k[j]]]
            weight *= 1 + np.exp(-z)
            wanted = weight if np.isfinite(table.y[k[j]]) else 0.0
            np.testing.assert_allclose(dropout.weights[k[j]], wanted, rtol=1e-10)


def test_dropout_is_refused_in_words():
    table = leaving(100)
    call = {"groups": "id", "time": "t"}
    with pytest.raises(DataError, match="never missing"):
        ranef.gee("y ~ t", table.dropna(), dropout="~ lag(y)", **call)
    with pytest.raises(ModelError, match="needs time="):
        ranef.gee("y ~ t", table, groups="id", dropout="~ arm")
    with pytest.raises(ModelError, match="takes rows for what they are"):
        ranef.gee("y ~ t", table, dropout="~ lag(y)", **call).tidy(covariance="model")
    with pytest.raises(ranef.errors.FormulaError, match="a column of its own"):
        ranef.gee("log(y + 9) ~ t", table, dropout="~ lag(y)", **call)
    with pytest.raises(ModelError, match="has no model of dropout"):
        ranef.gee("y ~ t", table, **call).tidy("dropout")


# --- log odds ratios


def test_the_odds_ratio_of_pairs():
    """Of two rows a cluster with means of their own it is that of the two-by-two table."""
    rng = np.random.default_rng(2)
    u = rng.normal(size=900)
    y = (rng.normal(size=(2, 900)) + u > np.array([[0.3], [-0.2]])).astype(int)
    table = pd.DataFrame({"g": np.tile(np.arange(900), 2), "t": np.repeat([1, 2], 900),
                          "y": y.ravel()})  # fmt: skip
    fit = ranef.gee("y ~ factor(t)", table, groups="g", time="t", family="binomial",
                    correlation="log odds ratio")  # fmt: skip
    cells = np.array([[np.sum((y[0] == a) & (y[1] == b)) for b in (0, 1)] for a in (0, 1)])
    wanted = np.log(cells[0, 0] * cells[1, 1] / (cells[0, 1] * cells[1, 0]))
    np.testing.assert_allclose(fit.tidy("correlation").estimate, [wanted], rtol=1e-7)
    assert fit.tidy("correlation").parameter[0] == "log odds ratio"
    assert fit.scale == 1.0


def test_alternating_logistic_regressions_written_out():
    """Both equations at what is returned, cluster by cluster."""
    fit = fitted("respiratory", correlation="log odds ratio")
    assert fit.estimate.gap < 1e-7
    alpha, beta = fit.estimate.correlations[0], fit.estimate.coefficients
    problem = fit.estimate.model.problem
    mu = 1 / (1 + np.exp(-problem.X @ beta))
    psi, starts = np.exp(alpha), problem.clusters.starts
    U, score, information, H = np.zeros(len(beta)), 0.0, 0.0, 0.0
    for first, last in itertools.pairwise(starts):
        m, y = mu[first:last], problem.y[first:last]
        a = 1 + (m[:, None] + m) * (psi - 1)
        joint = (a - np.sqrt(a**2 - 4 * psi * (psi - 1) * np.outer(m, m))) / (2 * (psi - 1))
        V = joint - np.outer(m, m)
        np.fill_diagonal(V, m * (1 - m))
        D = (m * (1 - m))[:, None] * problem.X[first:last]
        U = U + D.T @ np.linalg.solve(V, y - m)
        H = H + D.T @ np.linalg.solve(V, D)
        for j in range(len(m)):
            for k in range(j):
                step = 1e-5
                values = []
                for at in (alpha - step, alpha, alpha + step):
                    q = np.exp(at)
                    b = 1 + (m[j] + m[k]) * (q - 1)
                    two = (b - np.sqrt(b**2 - 4 * q * (q - 1) * m[j] * m[k])) / (2 * (q - 1))
                    offset = np.log((m[j] - two) / (1 - m[j] - m[k] + two))
                    values.append(1 / (1 + np.exp(-(at * y[k] + offset))))
                slope = (values[2] - values[0]) / (2 * step)
                spread = values[1] * (1 - values[1])
                score += slope / spread * (y[j] - values[1])
                information += slope**2 / spread
    np.testing.assert_allclose(U / np.sqrt(np.diag(H)), 0.0, atol=1e-7)
    assert abs(score) / np.sqrt(information) < 1e-6
    np.testing.assert_allclose(fit.estimate.bread, H, rtol=1e-8)
    usual = fitted("respiratory")
    assert (abs(fit.coef - usual.coef) < 0.3 * usual.bse).all()
    assert (fit.tidy(covariance="mancl-derouen").std_error > fit.bse.to_numpy()).all()


def test_log_odds_ratios_are_of_binary_rows():
    with pytest.raises(ModelError, match="associates binary responses"):
        fitted("cbpp", correlation="log odds ratio")
    table = ranef.data.load("ohio").assign(w=2.0)
    with pytest.raises(ModelError, match="one trial a row"):
        ranef.gee("resp ~ age", table, groups="id", time="age", family="binomial",
                  weights="w", correlation="log odds ratio")  # fmt: skip


@pytest.mark.parametrize("correlation", ["exchangeable", "ar1", "unstructured", "log odds ratio"])
def test_weights_of_clusters_are_copies_of_them(correlation):
    """At the level of the cluster; of the scale and the correlation too."""
    table = ranef.data.load("respiratory").query("id <= 40")
    copies = table.id % 3 + 1
    call = {"groups": "center:id", "time": "visit", "family": "binomial"}
    weighted = ranef.gee("outcome ~ treat + age", table, correlation=correlation,
                         sampling_weights=copies, **call)  # fmt: skip
    many = pd.concat([table[copies > k].assign(id=table.id + 1000 * k) for k in range(3)])
    plain = ranef.gee("outcome ~ treat + age", many, correlation=correlation, **call)
    np.testing.assert_allclose(weighted.coef, plain.coef, rtol=1e-7)
    np.testing.assert_allclose(weighted.scale, plain.scale, rtol=1e-7)
    np.testing.assert_allclose(
        weighted.estimate.correlations, plain.estimate.correlations, rtol=1e-6
    )
    bread = np.linalg.inv(weighted.estimate.bread)
    scores = np.linalg.solve(bread, np.linalg.solve(bread, weighted.vcov).T)
    assert np.linalg.eigvalsh(scores)[0] > 0


def test_weights_of_rows_are_copies_of_them_under_independence():
    table = ranef.data.load("respiratory").query("id <= 40").reset_index(drop=True)
    copies = table.visit % 3 + 1
    call = {"groups": "center:id", "family": "binomial", "correlation": "independence"}
    weighted = ranef.gee("outcome ~ treat + age", table, sampling_weights=copies, **call)
    many = table.loc[np.repeat(table.index, copies)]
    plain = ranef.gee("outcome ~ treat + age", many, **call)
    np.testing.assert_allclose(weighted.coef, plain.coef, rtol=1e-8)
    np.testing.assert_allclose(weighted.vcov, plain.vcov, rtol=1e-8)


# --- the check


def test_a_sound_model_passes_its_check(ohio, tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    found = ranef.check(ohio)
    assert found.verdict == "fine"
    assert "shape of the mean" in str(found)
    assert len(found.plot()) == 2
    assert "standard errors" in found.plot_text()
    assert "Pearson" in found.save(tmp_path / "check.html").read_text("utf-8")
    assert list(found.tidy().columns) == [
        "what", "verdict", "words", "number", "p_value", "advice",
    ]  # fmt: skip


def test_what_is_wrong_is_found():
    rng = np.random.default_rng(8)
    size = rng.integers(2, 9, 300)
    g = np.repeat(np.arange(300), size)
    x = rng.uniform(-2, 2, len(g))
    noise = rng.normal(size=len(g)) + rng.normal(size=300)[g]
    bent = pd.DataFrame({"g": g, "x": x, "y": x + 0.5 * x**2 + noise})
    verdicts = ranef.check(ranef.gee("y ~ x", bent, groups="g")).tidy().set_index("what").verdict
    assert verdicts["shape of the mean"] == "look"
    assert verdicts["size of clusters"] == "fine"
    sized = bent.assign(y=x + 0.3 * size[g] + noise)
    verdicts = ranef.check(ranef.gee("y ~ x", sized, groups="g")).tidy().set_index("what").verdict
    assert verdicts["size of clusters"] == "look"
    carried = bent.assign(y=np.where(g == 7, 40 * x, x) + noise)
    fit = ranef.gee("y ~ x", carried, groups="g", correlation="independence")
    rows = ranef.check(fit).tidy().set_index("what")
    assert rows.verdict["single clusters"] == "look"
    assert "g 7 moves" in rows.words["single clusters"]
    few = ranef.check(fitted("Orthodont", df="normal")).tidy().set_index("what")
    assert few.verdict["number of clusters"] == "note"
    few = ranef.check(fitted("Orthodont")).tidy().set_index("what")
    assert few.verdict["number of clusters"] == "fine"
    with pytest.raises(ModelError, match="alpha must be a number"):
        ranef.check(fit, alpha=2)


def test_the_test_of_a_column_is_that_of_the_larger_model(ohio):
    """The score test of an added column, and that of the larger model under its hypothesis."""
    from ranef.questions.checks.marginal_check import _added

    table = ranef.data.load("ohio")
    small = ranef.gee("resp ~ age", table, groups="id", time="age", family="binomial")
    large = ranef.gee("resp ~ age + smoke", table, groups="id", time="age", family="binomial")
    wanted = large.score_test(np.eye(3)[2:]).p_value
    np.testing.assert_allclose(_added(small, table.smoke.to_numpy(float)), wanted, rtol=1e-5)


def test_responses_that_are_all_alike_are_refused():
    table = ragged()
    for family, value, words in (("poisson", 0, "zero"), ("binomial", 1, "one")):
        with pytest.raises(DataError, match=f"the response is {words} in every row"):
            ranef.gee("y ~ x", table.assign(y=value), groups="g", family=family)


def test_pictures_of_residuals(ohio):
    pytest.importorskip("matplotlib").use("agg")
    assert ohio.plot.fixed() is not None
    assert ohio.plot.residuals(kind="pearson") is not None
    with pytest.raises(ModelError, match="pearson"):
        ohio.plot.residuals()
    with pytest.raises(ModelError, match="needs a likelihood"):
        ohio.for_marginaleffects()


# --- how well correlations are known


@pytest.mark.parametrize(
    ("structure", "value"), [("exchangeable", 0.1353644936), ("ar1", None), ("unstructured", None)]
)
def test_errors_of_correlations(structure, value, agree):
    """geepack's, of a normal response; and resampled clusters."""
    fit = fitted("Orthodont", correlation=structure)
    found = fit.tidy("correlation")
    if value is not None:
        agree("tidy('correlation')", f"standard error, Orthodont, {structure}", found.std_error,
              value, peer=GEEPACK, rtol=1e-5)  # fmt: skip
    assert (found.conf_low < found.estimate).all()
    assert (found.conf_high < 1).all()
    # an infinitesimal jackknife: clusters weighted a little more or less
    table = ranef.data.load("Orthodont")
    formula, groups, time, family = CALLS["Orthodont"]
    moves = []
    for level in table.Subject.unique():
        ends = []
        for step in (1e-4, -1e-4):
            w = np.where(table.Subject == level, 1 + step, 1.0)
            ends.append(
                ranef.gee(formula, table, groups=groups, time=time, family=family,
                          correlation=structure, sampling_weights=w).estimate.correlations
            )  # fmt: skip
        moves.append((ends[0] - ends[1]) / 2e-4)
    wanted = np.sqrt(np.sum(np.array(moves) ** 2, axis=0))
    np.testing.assert_allclose(found.std_error, wanted, rtol=0.03)


def test_errors_of_correlations_of_binary_responses():
    """By the infinitesimal jackknife; geepack's, .0630, are too large (resampling gives .0365)."""
    table = ranef.data.load("respiratory").query("id <= 30")
    for correlation in ("exchangeable", "log odds ratio"):
        call = {"groups": "center:id", "time": "visit", "family": "binomial",
                "correlation": correlation}  # fmt: skip
        fit = ranef.gee("outcome ~ treat + age", table, **call)
        moves, key = [], table.center.astype(str) + ":" + table.id.astype(str)
        for level in key.unique():
            ends = [
                ranef.gee("outcome ~ treat + age", table, **call,
                          sampling_weights=np.where(key == level, 1 + step, 1.0))
                .estimate.correlations
                for step in (1e-4, -1e-4)
            ]  # fmt: skip
            moves.append((ends[0] - ends[1]) / 2e-4)
        wanted = np.sqrt(np.sum(np.array(moves) ** 2, axis=0))
        rtol = 5e-3 if correlation == "exchangeable" else 0.1
        np.testing.assert_allclose(fit.tidy("correlation").std_error, wanted, rtol=rtol)


def test_correlations_whose_errors_are_not_known():
    given = fitted("Orthodont", correlation="fixed", matrix=np.eye(4))
    assert given.tidy("correlation").std_error.isna().all()
    with pytest.warns(DataWarning, match="positive definite"):
        mixed = ranef.gee("outcome ~ treat", ranef.data.load("respiratory").query("id <= 8"),
                          groups="center:id", time="visit", family="binomial",
                          correlation="unstructured")  # fmt: skip
    assert mixed.tidy("correlation").std_error.isna().all()


@pytest.mark.parametrize("df", ["small-sample", "fay-graubard", "pan-wall"])
@pytest.mark.filterwarnings("ignore::ranef.errors.RankWarning")
@pytest.mark.parametrize("empty", [False, True])
def test_degrees_of_freedom_are_those_of_any_coding(df, empty):
    """The same contrast has the same degrees of freedom, and so has a joint hypothesis."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"id": np.repeat(np.arange(15), 8), "a": rng.choice(list("uvw"), 120),
                      "b": rng.choice(list("xyz"), 120)})  # fmt: skip
    d["y"] = rng.normal(size=15)[d.id] + rng.normal(size=120) + (d.a == "v")
    d = d[~(empty & (d.a == "w") & (d.b == "z"))]
    means, tests = [], []
    for order in ("uvw", "wvu", "vuw"):
        coded = d.assign(a=pd.Categorical(d.a, list(order)))
        fit = ranef.gee("y ~ a * b", coded, groups="id", df=df)
        table = ranef.emmeans(fit, ["a", "b"]).tidy().astype({"a": str}).sort_values(["a", "b"])
        means.append(table.df.to_numpy())
        tests.append(fit.anova().tidy().df2.to_numpy())
    for one in (1, 2):
        np.testing.assert_allclose(means[one], means[0], rtol=1e-7)
        np.testing.assert_allclose(tests[one][-1], tests[0][-1], rtol=1e-7)
    assert np.isnan(means[0]).sum() == empty


def test_the_default_of_few_clusters():
    """Intervals of the default are those of Kauermann and Carroll's covariance, errors robust."""
    fit = fitted("Orthodont")
    assert fit.method(None) == "small-sample"
    np.testing.assert_allclose(fit.bse, errors(fit, "robust"), rtol=1e-12)
    ours, theirs = fit.tidy(), fit.tidy(covariance="kauermann-carroll", df="fay-graubard")
    np.testing.assert_allclose(ours.conf_low, theirs.conf_low, rtol=1e-8)
    np.testing.assert_allclose(ours.conf_high, theirs.conf_high, rtol=1e-8)
    assert (ours.df < fit.tidy(df="fay-graubard").df).all()
    assert "reduced degrees of freedom keep" in str(fit)
    for covariance, df in (
        ("kauermann-carroll", "fay-graubard"), ("fay-graubard", "fay-graubard"),
        ("mancl-derouen", "pan-wall"), ("morel", "pan-wall"), ("jackknife", "small-sample"),
        ("model", "clusters"),
    ):  # fmt: skip
        assert fit.with_covariance(covariance).method(None) == df
    assert fitted("ohio").method(None) == "normal"
    assert fit.tidy(df="normal").df.isin([np.inf]).all()


@pytest.mark.filterwarnings("ignore::ranef.errors.DataWarning")
def test_a_root_at_infinity_is_no_answer():
    """Where most clusters are all zero, a scale that outgrows all else solves any equations."""
    rng = np.random.default_rng(4)
    K, T = 40, 6
    g, t, x = np.repeat(np.arange(K), T), np.tile(np.arange(T), K), rng.normal(size=K * T)
    e = rng.normal(size=K)[g] + rng.normal(size=K * T)
    y = np.where(g < 25, 0, rng.poisson(np.exp(0.3 * x + 0.3 * e)))
    table = pd.DataFrame({"g": g, "t": t, "x": x, "y": y})
    for seed in range(6):
        some = table[np.random.default_rng(seed).random(K * T) > 0.2]
        call = {"groups": "g", "time": "t", "family": "poisson"}
        fit = ranef.gee("y ~ x", some, correlation="unstructured", **call)
        plain = ranef.gee("y ~ x", some, correlation="independence", **call)
        assert abs(fit.coef["x"] - plain.coef["x"]) < 1
        assert fit.scale < 10 * plain.scale


@pytest.mark.filterwarnings("ignore::ranef.errors.DataWarning")
def test_a_jackknife_of_more_parameters_than_clusters_is_refused():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 12), "t": np.tile(np.arange(12), 10)})
    table["y"] = rng.normal(size=10)[table.g] + rng.normal(size=120)
    fit = ranef.gee("y ~ 1", table, groups="g", time="t", correlation="unstructured")
    for kind in ("jackknife", "jackknife-full"):
        with pytest.raises(ModelError, match="10 clusters for 68 parameters"):
            fit.tidy(covariance=kind)
    assert fit.tidy(covariance="mancl-derouen").std_error[0] > 0


def test_a_correlation_and_coefficients_that_chase_each_other_are_damped():
    """Plain steps of this table go round in a circle: correlations of -.034 and -.088 in turn."""
    sizes = [12, 6, 6, 4, 10, 3, 3, 4, 12, 4]
    g = np.repeat(np.arange(10), sizes)
    arm = np.repeat([0.0, 1, 0, 1, 0, 1, 0, 1, 0, 1], sizes)
    x = [
        -2.657, -1.706, -2.549, -3.71, -2.749, -0.458, -3.241, -2.69, -1.974, -2.115, -2.089,
        -2.066, -0.794, -0.305, 0.025, -1.702, 0.29, -0.337, 2.678, 1.58, 1.271, 0.953, 2.864,
        1.422, -0.215, -2.018, 1.968, -0.545, 1.422, 1.626, 0.927, -0.042, 1.01, 1.839, 1.171,
        1.123, 0.31, 0.265, -0.288, -0.404, 0.155, 0.023, 2.196, 0.569, 1.044, 0.388, -0.409,
        0.32, 0.422, -0.696, -0.336, -2.773, -0.899, 0.475, -0.222, 0.037, 0.421, -0.822, 2.044,
        0.425, 0.875, 0.962, 0.6, 0.909,
    ]  # fmt: skip
    ones = "0000000001001110010111110111111000010111001011011000000010001111"
    table = {"g": g, "arm": arm, "x": x, "y": [float(one) for one in ones]}
    fit = ranef.gee("y ~ arm + x", table, groups="g", family="binomial")
    assert fit.estimate.converged
    assert fit.estimate.gap < 1e-7
    assert fit.estimate.shrunk == 0
    # alpha is that of the residuals at the coefficients
    e = np.asarray(fit.residuals("pearson"))
    sums = np.bincount(g, e)
    pairs = np.sum(np.array(sizes) * (np.array(sizes) - 1)) / 2
    alpha = 0.5 * (np.sum(sums**2) - e @ e) / pairs / np.mean(e**2)
    np.testing.assert_allclose(fit.tidy("correlation").estimate[0], alpha, atol=1e-6)
