"""Population-averaged models of categories: ordgee, maximum likelihood, and a dense twin."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import ranef
from ranef.errors import DataError, DataWarning, ModelError
from ranef.solve.marginal.associations import association, both, tables_with_margins
from ranef.solve.marginal.covariance import COVARIANCES

REFERENCE = json.loads(
    (Path(__file__).parent / "reference" / "gee_categories.json").read_text("utf-8")
)
ORDGEE = "geepack 1.3.9, ordgee"


@pytest.fixture(scope="module")
def respdis():
    return pd.DataFrame(REFERENCE["data"])


def clustered(seed=4, n_clusters=120, missing=0.2, cats=4):
    """Ordered categories in clusters of 1 to 5 rows, with gaps, shuffled."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(n_clusters):
        u, z = rng.normal(), k % 2
        for t in range(5):
            if t and rng.random() < missing:
                continue
            x = rng.normal()
            latent = 0.6 * x - 0.5 * z + u + rng.logistic()
            y = np.digitize(latent, np.linspace(-1.5, 1.5, cats - 1))
            rows.append((f"c{k}", t, x, z, "abcdefg"[y]))
    table = pd.DataFrame(rows, columns=["g", "t", "x", "z", "y"])
    return table.sample(frac=1.0, random_state=seed).reset_index(drop=True)


# --- other packages


@pytest.mark.parametrize(
    ("formula", "of", "tests"),
    [("resp ~ trt", "exchangeable", 1), ("resp ~ trt + time", "exchangeable_time", 2)],
)
def test_ordgee(respdis, formula, of, tests, agree):
    """geepack's ordgee, with its covariance within a response."""
    fit = ranef.gee(
        formula, respdis, groups="id", time="time", family="cumulative", estimator="ordgee"
    )
    values, what = REFERENCE[of], f"respdis, {formula}, exchangeable"
    order = [*range(2, 2 + tests), 0, 1]
    sign = np.array([1.0] * tests + [-1.0, -1.0])
    wanted = sign * np.array(values["estimate"])[order]
    agree("ranef.gee", f"coefficients, {what}", fit.coefficients, wanted, peer=ORDGEE, rtol=1e-7)
    errors = np.array(values["error"])[order]
    found = fit.tidy().std_error
    agree("ranef.gee", f"robust errors, {what}", found, errors, peer=ORDGEE, rtol=1e-7)
    alpha = fit.tidy("correlation").estimate
    agree("ranef.gee", f"log odds ratio, {what}", alpha, values["alpha"], peer=ORDGEE, rtol=1e-7)
    assert fit.estimate.gap < 1e-7


def test_independence_is_maximum_likelihood(respdis, agree):
    """MASS and nnet solve the equations of independence; ordgee does not (see the script)."""
    call = {"groups": "id", "correlation": "independence"}
    fit = ranef.gee("resp ~ trt + time", respdis, family="cumulative", **call)
    polr = REFERENCE["polr"]
    agree("ranef.gee", "cumulative, respdis, independence", fit.coefficients,
          [*polr["coef"], *polr["zeta"]], peer="MASS 7.3-58.2, polr", rtol=1e-5)  # fmt: skip
    fit = ranef.gee("resp ~ trt + time", respdis, family="multinomial", **call)
    agree("ranef.gee", "multinomial, respdis, independence", fit.coefficients,
          np.ravel(REFERENCE["multinom"]), peer="nnet 7.3-18, multinom", rtol=1e-5)  # fmt: skip
    alone = REFERENCE["rows_alone"]["estimate"][2]
    one = ranef.gee("resp ~ trt", respdis.assign(row=range(len(respdis))), groups="row",
                    family="cumulative")  # fmt: skip
    likelihood = ranef.glmm("resp ~ trt", respdis, family="cumulative", random="none")
    np.testing.assert_allclose(one.coefficients, likelihood.coefficients, rtol=1e-6)
    assert abs(one.coefficients[0] - alone) > 0.05


# --- a dense twin


def probabilities(fit, table):
    return np.asarray(fit.predict(table))


def joint_table(fit, p, q):
    """P(y = a, y' = b) of two rows with the probabilities p and q, from what the fit reports."""
    J, values = len(p), fit.estimate.correlations
    name = fit.estimate.model.equations.correlation
    if name == "independence":
        return np.outer(p, q)
    if name == "global odds ratio":
        psi, F = np.exp(values[0]), np.zeros((J + 1, J + 1))
        for a, b in itertools.product(range(1, J + 1), repeat=2):
            m, n = p[:a].sum(), q[:b].sum()
            s = 1 + (m + n) * (psi - 1)
            F[a, b] = (s - np.sqrt(s * s - 4 * psi * (psi - 1) * m * n)) / (2 * (psi - 1))
        return np.diff(np.diff(F, axis=0), axis=1)
    table = np.exp(association(values, J - 1))
    for _ in range(60):
        table *= (p / table.sum(axis=1))[:, None]
        table *= q / table.sum(axis=0)
    return table


def slopes(fit, x, p):
    """Derivatives (J - 1, P) of the probabilities of all categories but the last."""
    J = len(p)
    if fit.family.name == "cumulative":
        below = np.cumsum(p)[:-1]
        steps = below * (1 - below)
        D = np.zeros((J - 1, len(x) + J - 1))
        for j in range(J - 1):
            D[j, : len(x)] -= steps[j] * x
            D[j, len(x) + j] += steps[j]
            if j:
                D[j, : len(x)] += steps[j - 1] * x
                D[j, len(x) + j - 1] -= steps[j - 1]
        return D
    full = np.append(1.0, x)
    D = np.zeros((J - 1, (J - 1) * len(full)))
    for j in range(J - 1):
        for k in range(1, J):
            own = p[k] * ((j == k) - p[j])
            D[j, (k - 1) * len(full) : k * len(full)] = own * full
    return D


@pytest.mark.parametrize(
    ("family", "correlation"),
    [
        ("cumulative", "independence"), ("cumulative", "global odds ratio"),
        ("cumulative", "local odds ratio"), ("multinomial", "independence"),
        ("multinomial", "local odds ratio"),
    ],
)  # fmt: skip
def test_dense_twin(family, correlation):
    """The equations of indicators of the categories, with whole matrices, cluster by cluster."""
    table = clustered(n_clusters=40)
    weights = 1.0 + (np.arange(len(table)) % 3)
    fit = ranef.gee(
        "y ~ x + z", table, groups="g", time="t", family=family, correlation=correlation,
        sampling_weights=weights,
    )  # fmt: skip
    assert fit.estimate.gap < 1e-7
    J, p = 4, len(fit.coefficients)
    P = probabilities(fit, table)
    Y = np.eye(J)[[list("abcd").index(v) for v in table.y]]
    X = table[["x", "z"]].to_numpy(float)
    H, U = np.zeros((p, p)), []
    for _, rows in table.groupby("g"):
        k = rows.sort_values("t").index.to_numpy()
        V = np.zeros((len(k), J - 1, len(k), J - 1))
        for a, b in itertools.product(range(len(k)), repeat=2):
            pa, pb = P[k[a]], P[k[b]]
            joint = np.diag(pa) if a == b else joint_table(fit, pa, pb)
            V[a, :, b] = (joint - np.outer(pa, pb))[:-1, :-1]
        V = V.reshape(len(k) * (J - 1), -1)
        D = np.vstack([slopes(fit, X[i], P[i]) for i in k])
        omega = np.repeat(weights[k], J - 1)
        r = (Y[k] - P[k])[:, :-1].ravel()
        H += D.T @ np.linalg.solve(V, omega[:, None] * D)
        U.append(D.T @ np.linalg.solve(V, omega * r))
    U, M = np.array(U), np.linalg.inv(H)
    np.testing.assert_allclose(U.sum(axis=0) / np.sqrt(np.sum(U**2, axis=0)), 0.0, atol=1e-6)
    np.testing.assert_allclose(fit.covariances_known, M @ U.T @ U @ M.T, rtol=1e-6)


def test_the_equation_of_the_global_odds_ratio():
    """Products of residuals of two responses, by their own covariance, from their table."""
    table = clustered()
    fit = ranef.gee("y ~ x + z", table, groups="g", time="t", family="cumulative")
    P, alpha = probabilities(fit, table), fit.estimate.correlations[0]
    y = np.array([list("abcd").index(v) for v in table.y])
    score, information = 0.0, 0.0
    for _, rows in table.groupby("g"):
        k = rows.sort_values("t").index.to_numpy()
        for a, b in itertools.combinations(k, 2):
            m, n = np.cumsum(P[a])[:-1], np.cumsum(P[b])[:-1]
            joint = joint_table(fit, P[a], P[b])
            R = (np.arange(4)[:, None] <= np.arange(3)) - m
            S = (np.arange(4)[:, None] <= np.arange(3)) - n
            products = np.einsum("ia,jb->ijab", R, S).reshape(4, 4, 9)
            mean = np.einsum("ij,ijp->p", joint, products)
            V = np.einsum("ij,ijp,ijq->pq", joint, products, products) - np.outer(mean, mean)
            h = 1e-5
            C = (
                both(m[:, None], n[None, :], alpha + h) - both(m[:, None], n[None, :], alpha - h)
            ).ravel() / (2 * h)
            w = np.linalg.solve(V, C)
            score += w @ (products[y[a], y[b]] - mean)
            information += w @ C
    assert abs(score) / np.sqrt(information) < 1e-5


def test_tables_have_their_margins_and_odds_ratios():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(4), 5), rng.dirichlet(np.ones(4), 5)
    odds = np.exp(association(rng.normal(size=6), 3))
    found = tables_with_margins(p, q, odds)
    np.testing.assert_allclose(found.sum(axis=2), p, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), q, atol=1e-12)
    local = found[:, :-1, :-1] * found[:, 1:, 1:] / (found[:, 1:, :-1] * found[:, :-1, 1:])
    wanted = odds[:-1, :-1] * odds[1:, 1:] / (odds[1:, :-1] * odds[:-1, 1:])
    np.testing.assert_allclose(local, np.broadcast_to(wanted, local.shape), rtol=1e-9)


def test_local_odds_ratios_are_of_log_linear_models(respdis):
    """The uniform association of the pooled tables, as a Poisson regression has it."""
    wide = respdis.pivot(index="id", columns="time", values="resp")
    rows = []
    for a, b in itertools.combinations(wide.columns, 2):
        counts = pd.crosstab(wide[a], wide[b])
        rows += [
            (f"{a}{b}", str(i), str(j), i * j, counts.loc[i, j])
            for i, j in itertools.product((1, 2, 3), repeat=2)
        ]
    cells = pd.DataFrame(rows, columns=["pair", "i", "j", "ij", "n"])
    formula = "n ~ pair + pair:i + pair:j + ij"
    loglinear = ranef.glmm(formula, cells, family="poisson", random="none")
    fit = ranef.gee("resp ~ trt", respdis, groups="id", time="time", family="cumulative",
                    correlation="local odds ratio")  # fmt: skip
    shown = fit.tidy("correlation")
    assert len(shown) == 1
    np.testing.assert_allclose(shown.estimate.item(), loglinear.coef["ij"], rtol=1e-5)


# --- what must not matter


def test_order_of_rows_and_of_categories(respdis):
    call = {"groups": "id", "time": "time", "family": "cumulative"}
    fit = ranef.gee("resp ~ trt", respdis, **call)
    mixed = ranef.gee("resp ~ trt", respdis.sample(frac=1.0, random_state=3), **call)
    np.testing.assert_allclose(mixed.coefficients, fit.coefficients, rtol=1e-9)
    back = ranef.gee("resp ~ trt", respdis.assign(resp=4 - respdis.resp), **call)
    np.testing.assert_allclose(back.coefficients, -fit.coefficients[[0, 2, 1]], rtol=1e-6)
    np.testing.assert_allclose(back.estimate.correlations, fit.estimate.correlations, rtol=1e-6)
    np.testing.assert_allclose(back.tidy().std_error, fit.tidy().std_error.iloc[[0, 2, 1]],
                               rtol=1e-6)  # fmt: skip


def test_the_first_category_does_not_matter():
    table = clustered()
    call = {"groups": "g", "time": "t", "family": "multinomial"}
    one = ranef.gee("y ~ x + z", table, **call)
    names = {"a": "z", "b": "m", "c": "a", "d": "k"}
    other = ranef.gee("y ~ x + z", table.assign(y=table.y.map(names)), **call)
    P, Q = one.predict(table), other.predict(table)
    for old, new in names.items():
        np.testing.assert_allclose(P[old], Q[new], rtol=1e-5)


def test_two_categories_are_binary():
    table = clustered(cats=2)
    binary = ranef.gee("I(y == \"b\") ~ x + z", table, groups="g", family="binomial",
                       correlation="independence")  # fmt: skip
    fit = ranef.gee("y ~ x + z", table, groups="g", family="cumulative",
                    correlation="independence")  # fmt: skip
    np.testing.assert_allclose(fit.coefficients[:2], binary.coefficients[1:], rtol=1e-8)
    np.testing.assert_allclose(fit.coefficients[2], -binary.coefficients[0], rtol=1e-8)
    for kind in ("robust", "mancl-derouen", "fay-graubard"):
        theirs = binary.tidy(covariance=kind).std_error.to_numpy()[[1, 2, 0]]
        np.testing.assert_allclose(fit.tidy(covariance=kind).std_error, theirs, rtol=1e-7)


@pytest.mark.parametrize("family", ["cumulative", "multinomial"])
@pytest.mark.parametrize("correlation", ["independence", "exchangeable"])
def test_weights_of_clusters_are_copies(family, correlation):
    table = clustered(n_clusters=60)
    copies = table.g.str[1:].astype(int) % 3 + 1
    weighted = ranef.gee("y ~ x", table, groups="g", time="t", family=family,
                         correlation=correlation, sampling_weights=copies)  # fmt: skip
    many = pd.concat([table[copies > k].assign(g=lambda d, k=k: d.g + f".{k}") for k in range(3)])
    plain = ranef.gee("y ~ x", many, groups="g", time="t", family=family, correlation=correlation)
    np.testing.assert_allclose(weighted.coefficients, plain.coefficients, rtol=1e-7)
    np.testing.assert_allclose(
        weighted.estimate.correlations, plain.estimate.correlations, rtol=1e-6, atol=1e-9
    )


def test_offsets_move_every_threshold_or_category():
    table = clustered().assign(o=lambda d: 0.3 * d.x)
    for family in ("cumulative", "multinomial"):
        call = {"groups": "g", "family": family, "correlation": "independence"}
        plain = ranef.gee("y ~ x + z", table, **call)
        moved = ranef.gee("y ~ x + z", table, offset="o", **call)
        own = [k for k, label in enumerate(plain.labels) if label.term == "x"]
        np.testing.assert_allclose(
            moved.coefficients[own], plain.coefficients[own] - 0.3, rtol=1e-6
        )
        np.testing.assert_allclose(moved.predict(table), plain.predict(table), rtol=1e-6)


def test_thresholds_of_few_parameters():
    from ranef.families import Cumulative

    table = clustered(cats=5)
    fit = ranef.gee("y ~ x", table, groups="g",
                    family=Cumulative("probit", thresholds="equidistant"))  # fmt: skip
    assert list(fit.tidy("thresholds").term) == ["threshold.1", "spacing"]
    assert fit.estimate.gap < 1e-7
    assert "Cumulative('probit', 'equidistant')" in fit.description.call()


# --- questions


@pytest.fixture(scope="module", params=["cumulative", "multinomial"])
def fit(request):
    return ranef.gee("y ~ x + z", clustered(), groups="g", time="t", family=request.param)


def test_predictions(fit):
    table = clustered().head(7)
    P = fit.predict(table)
    assert list(P.columns) == list("abcd")
    np.testing.assert_allclose(P.sum(axis=1), 1.0)
    long = fit.predict(table, conf_level=0.9)
    assert list(long.columns) == ["row", "category", "estimate", "std_error", "conf_low",
                                  "conf_high"]  # fmt: skip
    np.testing.assert_allclose(long.estimate, np.ravel(P))
    best = fit.predict(table, type="class")
    assert list(best) == list(P.idxmax(axis=1))
    step, base = 1e-5, np.asarray(P)[0]
    slopes_ = []
    from dataclasses import replace

    for k in range(len(fit.coefficients)):
        moved = replace(
            fit.estimate, coefficients=fit.coefficients + step * np.eye(len(fit.coefficients))[k]
        )
        slopes_.append((np.asarray(type(fit)(moved, fit.frame).predict(table))[0] - base) / step)
    G = np.array(slopes_).T
    error = np.sqrt(np.diag(G @ fit.covariances_known @ G.T))
    np.testing.assert_allclose(long.std_error[:4], error, rtol=1e-3)
    assert np.allclose(fit.fitted().loc[table.index], P)
    shown = fit.augment()
    assert [c for c in shown.columns if c.startswith("fitted")] == [f"fitted_{c}" for c in "abcd"]
    with pytest.raises(ModelError, match="no difference from a mean"):
        fit.residuals()
    if fit.family.name == "cumulative":
        numbers = fit.predict(table, type="mean_class")
        np.testing.assert_allclose(numbers, np.asarray(P) @ [1, 2, 3, 4])
        assert len(fit.predict(table, type="link", conf_level=0.9)) == 7
    else:
        odds = fit.predict(table, type="link")
        np.testing.assert_allclose(odds, np.log(P[["b", "c", "d"]].div(P["a"], axis=0)))
        with pytest.raises(ModelError, match="is for ordered categories"):
            fit.predict(table, type="mean_class")


def test_questions_of_categories(fit, tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    means = fit.emmeans("z", at={"z": [0, 1]}).tidy()
    assert len(means) == 8
    np.testing.assert_allclose(means.groupby("z").estimate.sum(), 1.0)
    by_hand = fit.predict({"x": [clustered().x.mean()], "z": [1]}).to_numpy()[0]
    np.testing.assert_allclose(means[means.z == 1].estimate, by_hand, rtol=1e-6)
    effect = fit.average("z").tidy()
    np.testing.assert_allclose(effect.estimate.sum(), 0.0, atol=1e-12)
    wald, score = fit.anova().tidy(), fit.anova(test="score").tidy()
    assert list(wald.term) == list(score.term) == ["x", "z"]
    np.testing.assert_allclose(score.statistic, wald.statistic, rtol=0.5)
    criteria = fit.criteria()
    assert np.isfinite(criteria[["qic", "cic", "rjc"]].to_numpy()).all()
    apart = ranef.gee("y ~ x + z", clustered(), groups="g", family=fit.family,
                      correlation="independence")  # fmt: skip
    likelihood = ranef.glmm("y ~ x + z", clustered(), family=fit.family, random="none")
    np.testing.assert_allclose(apart.criteria().quasi, likelihood.loglik, rtol=1e-9)
    assert "No evidence" in str(ranef.check(fit)) or "look" in str(ranef.check(fit))
    assert ranef.check(fit).plot() is not None
    from ranef.report import page

    page.write(fit, tmp_path / "page.html")
    assert "odds ratio" in (tmp_path / "page.html").read_text("utf-8")
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again) == str(fit)
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    for question in ("rank", "marginal"):
        with pytest.raises(ModelError, match="needs random effects"):
            getattr(ranef, question)(fit)


def test_every_covariance_and_df(fit):
    table = clustered(n_clusters=30, cats=3)
    fit = ranef.gee("y ~ x + z", table, groups="g", family=fit.family.name)
    seen = {kind: fit.tidy(covariance=kind).std_error.to_numpy() for kind in COVARIANCES}
    for errors in seen.values():
        np.testing.assert_allclose(errors, seen["robust"], rtol=0.6)
    assert (seen["mancl-derouen"] > seen["kauermann-carroll"]).all()
    assert (seen["kauermann-carroll"] > seen["robust"]).all()
    np.testing.assert_allclose(seen["jackknife-full"], seen["jackknife"], rtol=0.2)
    for df in ("normal", "clusters", "fay-graubard", "pan-wall"):
        assert (fit.tidy(df=df).df > 3).all()


def test_words(fit):
    text = str(fit)
    if fit.family.name == "cumulative":
        assert "Thresholds on the scale of the link" in text
        assert "makes higher categories more likely" in text
        assert str(fit.equation()) == "logit P(y[i] <= j) = c[j] - (b0*x[i] + b1*z[i])"
        assert list(fit.tidy("thresholds").term) == ["a|b", "b|c", "c|d"]
        ratios = fit.tidy(exponentiate=True)
        np.testing.assert_allclose(ratios.estimate[:2], np.exp(fit.coefficients[:2]))
        np.testing.assert_allclose(ratios.estimate[2:], fit.coefficients[2:])
    else:
        assert "b against the first category" in text
        assert "log P(y[i] = b) / P(y[i] = a)" in str(fit.equation())
        assert len(fit.tidy("correlation")) == 6
        with pytest.raises(ModelError, match="thresholds belong to ordered"):
            fit.tidy("thresholds")


# --- refusals


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"correlation": "ar1", "time": "t"}, "are associated by odds ratios"),
        ({"family": "multinomial", "correlation": "global odds ratio"}, "'local odds ratio'"),
        ({"family": "gaussian", "correlation": "global odds ratio"}, "associates categories"),
        ({"scale": "n-p"}, "has no scale="),
        ({"scale": 2.0}, "has no scale="),
        ({"shapes": {"phi": 1.0}}, "has no shape"),
        ({"correlation": "independence", "estimator": "ordgee"}, "is one of 'global odds ratio'"),
    ],
)
def test_what_does_not_apply_is_refused(how, words):
    table = clustered().assign(w=2.0)
    if how.get("family") == "gaussian":
        table["y"] = table.x
    call = {"groups": "g", "family": "cumulative", **how}
    with pytest.raises(ModelError, match=words):
        ranef.gee("y ~ z", table, **call)


def test_hard_data_of_categories():
    table = clustered()
    with pytest.raises(ModelError, match="the data separate the categories"):
        ranef.gee("y ~ s", table.assign(s=(table.y > "b").astype(float)), groups="g",
                  family="cumulative")  # fmt: skip
    with pytest.raises(ModelError, match="the data separate the categories"):
        ranef.gee("y ~ s", table.assign(s=(table.y == "d").astype(float)), groups="g",
                  family="multinomial")  # fmt: skip
    empty = table.assign(y=pd.Categorical(table.y, categories=list("abcde"), ordered=True))
    with pytest.warns(DataWarning, match="no row used has 'e'"):
        ranef.gee("y ~ x", empty, groups="g", family="cumulative")
    with pytest.raises(DataError, match="two rows at"):
        ranef.gee("y ~ x", pd.concat([table, table]), groups="g", time="t", family="cumulative")
    one = table.assign(h="all")
    with pytest.raises(DataError, match="one level"):
        ranef.gee("y ~ x", one, groups="h", family="cumulative")
    big = pd.concat([table.assign(g="big", t=range(len(table)))] * 8).reset_index(drop=True)
    big = pd.concat([big, table])
    with pytest.raises(ModelError, match="use 'independence'"):
        ranef.gee("y ~ x", big, groups="g", family="cumulative")
    assert ranef.gee("y ~ x", big, groups="g", family="cumulative",
                     correlation="independence").estimate.converged  # fmt: skip
    missing = table.assign(x=table.x.where(table.index % 7 > 0))
    fit = ranef.gee("y ~ x", missing, groups="g", time="t", family="cumulative")
    assert fit.fitted().isna().any(axis=1).sum() == missing.x.isna().sum()


def test_means_are_consistent_whatever_the_association():
    """Many clusters of dependent categories whose margins are logistic: the truth is found."""
    rng = np.random.default_rng(11)
    K, m = 4000, 4
    x = np.repeat(rng.normal(size=K), m) * 0.5 + rng.normal(size=K * m)
    common = np.repeat(rng.normal(size=K), m) * np.sqrt(0.4)
    latent = common + np.sqrt(0.6) * rng.normal(size=K * m)
    from scipy.special import ndtr

    u = ndtr(latent)  # uniform in every row
    cuts = np.array([-1.0, 0.2, 1.3])
    below = expit(cuts - 0.7 * x[:, None])
    y = (u[:, None] > below).sum(axis=1)
    table = pd.DataFrame({"g": np.repeat(np.arange(K), m), "x": x, "y": y})
    for correlation in ("independence", "global odds ratio", "local odds ratio"):
        fit = ranef.gee("y ~ x", table, groups="g", family="cumulative", correlation=correlation)
        gap = (fit.coefficients - np.array([0.7, *cuts])) / fit.tidy().std_error
        assert (abs(gap) < 3.5).all()
