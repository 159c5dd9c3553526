"""Variances that the data do not determine: found by rank, said in words, NaN in every answer.

Right values: by algebra. With a factor among the fixed effects error contrasts are free of its
variance (https://stats.stackexchange.com/questions/328712; SAS reports the boundary: variance 0,
standard error of siteb 0.972, 18 df); a constant that is added to a free covariance matrix is
not determined (lme4 issues 139, 229, 625); a row that has a fixed effect of its own says nothing
of a variance.
"""

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

import ranef
from ranef.design import determinacy
from ranef.design.determinacy import null_space
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError, RankWarning

UNDETERMINED = pytest.mark.filterwarnings("ignore:The data do not determine")


@pytest.fixture(scope="module")
def sites():
    y = [12, 9, 14, 11, 10, 13, 12, 8, 15, 11, 6, 9, 4, 7, 8, 5, 7, 6, 10, 3.0]
    rng = np.random.default_rng(0)
    return pd.DataFrame({"site": ["a"] * 10 + ["b"] * 10, "y": y, "x": rng.normal(size=20)})


@pytest.fixture(scope="module")
def conditions():
    rng = np.random.default_rng(4)
    s, c = np.repeat(np.arange(30), 20), np.tile(np.repeat([0, 1], 10), 30)
    U = rng.normal(0, 80, (30, 1)) + rng.normal(0, 40, (30, 2))
    y = 600 + 200 * c + U[s, c] + rng.normal(0, 80, 600)
    return pd.DataFrame({"id": s, "cond": np.array(["a", "b"])[c], "y": y, "high": 1 * (y > 700)})


@pytest.fixture(scope="module")
def absorbed(sites):
    with pytest.warns(RankWarning, match=r"do not determine the variance of \(1 \| site\): the fi"):
        return ranef.lmm("y ~ site + x + (1 | site)", sites)


def least_squares(table, columns):
    X = np.column_stack([np.ones(len(table)), *columns])
    beta, rss, *_ = np.linalg.lstsq(X, table.y, rcond=None)
    sigma2 = rss[0] / (len(table) - X.shape[1])
    return beta, np.sqrt(sigma2 * np.diag(np.linalg.inv(X.T @ X))), math.sqrt(sigma2)


def test_an_absorbed_variance_leaves_what_is_determined(absorbed, sites, agree):
    """The slope within sites is that of least squares, by every method of degrees of freedom."""
    beta, error, sigma = least_squares(sites, [sites.site == "b", sites.x])
    for df in ("satterthwaite", "kenward-roger"):
        table = absorbed.tidy(df=df).set_index("term")
        assert table.estimate.to_numpy() == pytest.approx(beta, abs=1e-6)
        agree(f"fit.tidy(df='{df}')", "standard error within sites, factor fixed and random",
              table.loc["x", "std_error"], error[2], peer="least squares", rtol=1e-6)  # fmt: skip
        assert table.loc["x", "df"] == pytest.approx(17, abs=1e-3)
        hidden = ["std_error", "df", "statistic", "p_value", "conf_low", "conf_high"]
        assert table.loc[["(Intercept)", "siteb"], hidden].isna().all(axis=None)
    variances = absorbed.tidy("variance")
    assert variances.estimate[1] == pytest.approx(sigma, rel=1e-6)
    assert variances.iloc[0][["estimate", "conf_low", "conf_high"]].isna().all()
    assert np.isfinite(variances.iloc[1][["conf_low", "conf_high"]].to_numpy(float)).all()


@UNDETERMINED
def test_no_answer_depends_on_where_the_search_started(sites):
    fits = [ranef.lmm("y ~ site + x + (1 | site)", sites, start=s) for s in (None, [0.1], [9.0])]
    for fit in fits[1:]:
        assert fit.loglik == pytest.approx(fits[0].loglik, abs=1e-9)
        for effects in ("fixed", "variance", "random"):
            one, other = (f.tidy(effects).select_dtypes(float) for f in (fits[0], fit))
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        one, other = (f.predict(conf_level=0.9).to_numpy() for f in (fits[0], fit))
        np.testing.assert_allclose(one, other, rtol=1e-4)
        assert np.isfinite(one).all()


def test_every_answer_says_what_is_not_determined(absorbed, sites):
    nan = np.isnan
    assert nan(absorbed.theta).all()
    assert nan(absorbed.vcov.to_numpy()).sum() == 4
    assert np.isfinite(absorbed.coef.to_numpy()).all()
    assert absorbed.tidy("random").std_error.isna().all()
    assert absorbed.predict(kind="typical", conf_level=0.9).std_error.isna().all()
    new = absorbed.predict(sites.head(2), kind="population", conf_level=0.9, interval="new")
    assert new.conf_low.isna().all()
    assert nan(absorbed.icc().adjusted)
    assert nan(absorbed.r2().marginal)
    assert absorbed.reliability().reliability.isna().all()
    assert nan(absorbed.test(["siteb"]).p_value)
    assert absorbed.test(["x"]).p_value == pytest.approx(0.8241, abs=1e-3)
    means = absorbed.emmeans("site").tidy()
    assert means.std_error.isna().all()
    assert absorbed.average("x").tidy().std_error.notna().all()
    test = absorbed.variance_test()
    assert nan(test.tests[0].p_value)
    assert "the estimate is zero" not in str(test)
    draws = absorbed.bootstrap(12, rng=1).tidy().set_index("term")
    assert draws.loc["siteb"].isna()["conf_low"]
    assert np.isfinite(draws.loc["x", "conf_low"])
    for text in (str(absorbed), absorbed.methods(), str(absorbed.check()), str(absorbed.icc())):
        assert "determine" in text
    assert "not determined" in str(absorbed)
    assert "The data do not determine" in str(absorbed.emmeans("site"))
    assert not absorbed.check().healthy


def test_what_is_not_determined_is_saved(absorbed, tmp_path):
    absorbed.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert again.optimum.flat == absorbed.optimum.flat
    pd.testing.assert_frame_equal(again.tidy(), absorbed.tidy())
    pd.testing.assert_frame_equal(again.tidy("variance"), absorbed.tidy("variance"))


def test_by_maximum_likelihood_the_absorbed_variance_is_zero(sites):
    fit = ranef.lmm("y ~ site + (1 | site)", sites, reml=False)
    assert not fit.optimum.flat
    assert fit.theta == pytest.approx([0.0], abs=1e-8)


@UNDETERMINED
@pytest.mark.parametrize("reml", [True, False])
def test_a_redundant_intercept_beside_a_free_matrix(conditions, reml):
    fit = ranef.lmm("y ~ 0 + cond + (1 | id) + (0 + cond | id)", conditions, reml=reml)
    plain = ranef.lmm("y ~ 0 + cond + (0 + cond | id)", conditions, reml=reml)
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-7)
    assert fit.optimum.flat[0].terms == (0, 1)
    assert fit.tidy("variance").estimate[:4].isna().all()
    assert fit.sigma == pytest.approx(plain.sigma, rel=1e-6)
    # the fixed effects and the predictions of rows are those of the model without it
    names = ["estimate", "std_error", "df"]
    np.testing.assert_allclose(fit.tidy()[names], plain.tidy()[names], rtol=1e-4)
    one, other = (f.predict(conf_level=0.9) for f in (fit, plain))
    np.testing.assert_allclose(one.estimate, other.estimate, rtol=1e-5)
    text = " ".join(str(ranef.variance_test(fit)).split())
    assert "(1 | id): the estimate is zero" not in text
    assert "(1 | id): the data do not determine its variance" in text


@UNDETERMINED
@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("high ~ 0 + cond + (1 | id) + (0 + cond | id)", "binomial"),
        ("y ~ cond + (1 | id) + cs(0 + cond | id)", None),
        ("y ~ cond + (1 | id) + homcs(0 + cond | id)", None),
        ("y ~ cond + (1 | id) + (1 | cond:id) + homdiag(0 + cond | id)", None),
    ],
)
def test_redundant_terms_of_other_structures_and_families(conditions, formula, family):
    if family is None:
        fit = ranef.lmm(formula, conditions)
    else:
        fit = ranef.glmm(formula, conditions, family=family)
    assert fit.optimum.flat
    assert fit.tidy("variance").estimate.isna().any()
    assert fit.tidy().std_error.notna().all()


@UNDETERMINED
def test_restricted_likelihood_of_a_generalised_model(conditions):
    fit = ranef.glmm(
        "high ~ cond + (1 | id) + (1 | cond)", conditions, family="binomial", reml=True
    )
    assert [d.terms for d in fit.optimum.flat] == [(1,)]
    assert fit.tidy("variance").estimate.isna().tolist() == [False, True]


@UNDETERMINED
def test_a_label_with_a_blank(conditions):
    """One row of 'b ' that has a fixed effect of its own, and a note on what a variance rests."""
    table = conditions.assign(cond=conditions.cond.where(np.arange(600) != 7, "a "))
    fit = ranef.lmm("y ~ cond + (cond | id)", table)
    assert "rests on 1 row in 1 level of id" in str(fit)
    assert any("rests on 1 row" in f.words for f in fit.check().findings)
    row = fit.tidy("variance").set_index("term").loc["conda "]
    assert row[["estimate", "conf_low", "conf_high"]].isna().all(axis=None)
    alone = ranef.lmm("y ~ 1 + (0 + cond | id)", table)  # determined, by that row
    assert "rests on 1 row in 1 level of id" in str(alone)


def test_healthy_fits_are_determined():
    cases = {
        "sleepstudy": "Reaction ~ Days + (Days | Subject)",
        "Dyestuff2": "Yield ~ 1 + (1 | Batch)",
        "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
        "Pastes": "strength ~ 1 + (1 | batch/cask)",
        "Machines": "score ~ Machine + (0 + Machine | Worker)",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = [ranef.lmm(f, ranef.data.load(name)) for name, f in cases.items()]
    assert not any(fit.optimum.flat for fit in fits)


# --- before the fit --------------------------------------------------------------------


def visits(seed=5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(65), np.r_[np.ones(40, int), np.full(25, 3)])
    t = rng.normal(size=g.size)
    U = rng.normal(size=(65, 2))
    y = 2 + 0.5 * t + U[g, 0] + 0.8 * U[g, 1] * t + rng.normal(0, 0.5, g.size)
    return pd.DataFrame({"id": g, "t": t, "y": y, "row": np.arange(g.size)})


def test_as_many_effects_as_rows_where_visits_differ():
    """lme4 issue 175; nlme and glmmTMB fit it too: REML -180.0721."""
    table = visits()
    X = np.column_stack([np.ones(len(table)), table.t])
    same = table.id.to_numpy()[:, None] == table.id.to_numpy()[None, :]

    def deviance(p):
        L = np.array([[p[0], 0], [p[1], p[2]]])
        V = (X @ L @ L.T @ X.T) * same + np.eye(len(table))
        W = np.linalg.inv(V)
        A = X.T @ W @ X
        r = table.y - X @ np.linalg.solve(A, X.T @ W @ table.y)
        m = len(table) - 2
        logdets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
        return logdets + m * (1 + np.log(2 * np.pi * (r @ W @ r) / m))

    best = -minimize(deviance, [1, 0, 1], method="BFGS").fun / 2
    fit = ranef.lmm("y ~ t + (t | id)", table)
    assert fit.loglik == pytest.approx(best, abs=1e-5)
    assert fit.loglik == pytest.approx(-180.0721, abs=1e-4)


@UNDETERMINED
def test_effects_of_each_row_are_judged_by_rank():
    table = visits()
    rng = np.random.default_rng(1)
    table["R"], table["w"] = rng.normal(size=len(table)), rng.uniform(0.2, 5, len(table))
    assert ranef.lmm("y ~ t + (0 + R | row)", table).optimum.converged
    noise = rng.normal(size=(2, len(table))) * [[0.6], [1.0]]
    weighted = table.assign(y=table.t + noise[0] + noise[1] / np.sqrt(table.w))
    fit = ranef.lmm("y ~ t + (1 | row)", weighted, weights="w")
    assert fit.optimum.converged
    assert not fit.optimum.flat
    known = {"dispersion: (Intercept)": math.log(0.5)}
    held = ranef.lmm("y ~ t + (1 | row)", table, fixed=known)
    free = ranef.lmm("y ~ t + (1 | id)", table.assign(id=table.row), undetermined="keep")
    total = held.tidy("variance").estimate[0] ** 2 + 0.25
    _, _, sigma = least_squares(table, [table.t])
    assert total == pytest.approx(sigma**2, rel=1e-3)
    assert free.tidy("variance").estimate.isna().all()
    for formula in ("y ~ t + (1 | row)", "y ~ t + (t | row)"):
        with pytest.raises(ModelError, match="undetermined='keep'"):
            ranef.lmm(formula, table)


def test_a_refusal_advises_nothing_of_the_same_fault():
    """Two visits at the same times: the covariance matrix is free, without it all is told."""
    table = pd.DataFrame({"id": np.repeat(np.arange(20), 2), "t": np.tile([0, 1], 20)})
    table["y"] = np.random.default_rng(2).normal(size=40)
    with pytest.raises(ModelError, match="give each a term of its own"):
        ranef.lmm("y ~ t + (t | id)", table)
    assert not ranef.lmm("y ~ t + (t || id)", table).optimum.flat
    with pytest.raises(ModelError, match="take out a column; undetermined"):
        ranef.lmm("y ~ t + (0 + factor(t) | id)", table.assign(t=table.t + 1))
    with pytest.raises(ModelError, match="use one of 'raise', 'keep'"):
        ranef.lmm("y ~ t + (t | id)", table, undetermined="ignore")


def test_averages_over_levels_that_are_not_determined_have_no_value(absorbed):
    """The sites' own means are determined, but not what belongs to the random effects."""
    slope = absorbed.average("x", kind="conditional").tidy().iloc[0]
    assert slope.estimate == pytest.approx(absorbed.coef["x"], rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        twin = absorbed.equally_good
    for kind in ("conditional", "typical"):
        one = absorbed.average("site", kind=kind).tidy().iloc[0]
        two = twin.average("site", kind=kind).tidy().iloc[0]
        for name in ("estimate", "std_error"):
            alike = np.isclose(one[name], two[name], rtol=1e-4)
            assert alike or np.isnan(one[name]), (kind, name, one[name], two[name])


@pytest.mark.parametrize(
    ("formula", "residual"),
    [("y ~ t + (1 | g)", "homcs(t | g)"), ("y ~ t + (t | g)", "us(t | g)"), ("y ~ g", "us(t | g)")],
)
def test_residual_structures_that_contain_the_random_effects(formula, residual):
    """Whatever is said not to be determined has no value: by algebra one covariance, two ways."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 4)
    table = pd.DataFrame({"g": [f"g{i}" for i in g], "t": np.tile(np.arange(4.0), 12)})
    table["y"] = rng.normal(size=12)[g] + 0.3 * table.t + rng.normal(size=48)
    with pytest.warns(RankWarning, match="has no value here"):
        fit = ranef.lmm(formula, table, residual=residual)
    assert fit.tidy("variance").estimate.isna().any()


def test_correlations_of_effects_that_do_not_vary_have_no_value():
    """Another member of the kind: at zero variance every correlation has the same likelihood."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"g": np.repeat(np.arange(10), 6), "h": list("abc") * 20})
    table["y"] = rng.normal(size=60) - table.index % 6 * 0.0
    table["y"] -= table.groupby("g")["y"].transform("mean")
    for term in ("homcs(0 + h | g)", "ar1(0 + h | g)", "cs(0 + h | g)"):
        fit = ranef.lmm(f"y ~ 1 + {term}", table)
        variances = fit.tidy("variance")
        sds = variances.estimate[variances.parameter == "sd"].to_numpy()[:-1]
        gone = np.sum(sds > 1e-6) < (2 if term.startswith("cs") else 1)
        correlations = variances.estimate[variances.parameter == "corr"]
        assert correlations.isna().all() == gone


STRUCTURED = [
    ("lmm", {}), ("lmm", {"within": 0}), ("lmm", {"between": 0}), ("lmm", {"levels": 2}),
    ("glmm", {}), ("glmm", {"within": 0}), ("glmm", {"slope": 0.5}),
]  # fmt: skip


def grouped(seed, within=0.7, between=1.0, slope=0.0, levels=3):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(20), 2 * levels)
    f = np.tile(np.arange(levels), 40)
    t = np.tile(np.arange(2.0 * levels), 20)
    x, e = rng.normal(size=(2, len(g)))
    y = e + between * rng.normal(size=20)[g] + within * rng.normal(size=(20, levels))[g, f]
    y = y + slope * rng.normal(size=20)[g] * t
    c = rng.poisson(np.exp(0.4 * np.clip(y, -6, 6)))
    return pd.DataFrame({"y": y, "c": c, "x": x, "g": g, "f": np.array(list("abc"))[f], "t": t})


@pytest.mark.parametrize("structure", ["homcs", "cs", "ar1"])
@pytest.mark.parametrize(("call", "options"), STRUCTURED)
def test_an_intercept_beside_a_structure_that_contains_it(call, options, structure):
    """Psi + v J is equally correlated too, so that homcs and an intercept are one.

    Of other structures they are one where all effects are alike: the structure has no variance,
    or correlations of one, and the intercept's may be its own.
    """
    for seed in range(3):
        data = grouped(seed, **options)
        formula = f"x + {structure}(0 + f | g) + (1 | g)"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if call == "lmm":
                fit = ranef.lmm(f"y ~ {formula}", data, undetermined="keep")
            else:
                fit = ranef.glmm(f"c ~ {formula}", data, family="poisson", undetermined="keep")
        theta, flat = fit.optimum.theta, fit.optimum.flat
        own, intercept = theta[:-1], theta[-1]
        sds = own[:-1] if structure == "cs" else own[:1]
        contained = structure == "homcs" or options.get("levels") == 2
        alike = np.all(sds == 0) or (own[-1] == 1 and np.ptp(sds) < 1e-6)
        if (alike and intercept + sds.max() > 0) or (contained and intercept > 0):
            assert flat, (seed, theta)
            assert "cannot be distinguished" in flat[0].description
            assert fit.tidy("variance")["estimate"].isna().any()
        elif not contained:
            assert not flat, (seed, theta)


def test_the_null_space_of_many_rows_takes_no_square_of_them():
    M = np.random.default_rng(0).normal(size=(20_000, 3))
    M = np.column_stack([M, M[:, 0] - 2 * M[:, 1]])
    tracemalloc.start()
    N = null_space(M)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * M.nbytes
    assert_allclose(N, [np.array([1, -2, 0, -1]) / np.sqrt(6) * np.sign(N[0, 0])], atol=1e-12)


@UNDETERMINED
@pytest.mark.filterwarnings("ignore:the Laplace approximation")
@pytest.mark.parametrize("seed", [1, 5])
@pytest.mark.parametrize("family", [None, "binomial"])
def test_levels_under_other_names_are_found_beside_a_crossed_factor(seed, family):
    """Average information of a leader and a tail is not singular where the criterion is flat."""
    rng = np.random.default_rng(seed)
    n, A, B = int(rng.integers(200, 1500)), int(rng.integers(8, 60)), int(rng.integers(5, 40))
    g, h = rng.integers(0, A, n), rng.integers(0, B, n)
    x = rng.normal(size=n)
    y = x + (1 + x) * rng.normal(size=A)[g] + rng.normal(size=B)[h] + rng.normal(size=n)
    table = pd.DataFrame({"x": x, "g": g, "h": h, "same": (g * 7 + 3) % 1009, "y": y})
    table["b"] = (y > 0).astype(int)

    def fit(right):
        if family is None:
            return ranef.lmm(f"y ~ x + {right}", table)
        return ranef.glmm(f"b ~ x + {right}", table, family=family)

    for right in ("(1 | g) + (1 | same) + (1 | h)", "(x || g) + (1 | h) + (0 + x | same)"):
        found = fit(right)
        (flat,) = found.optimum.flat
        assert "cannot be distinguished" in flat.description
        assert found.tidy("variance")["estimate"].isna().sum() == 2
    assert not fit("(x || g) + (1 | h)").optimum.flat


@UNDETERMINED
def test_sums_that_are_determined_have_their_value(conditions):
    """Two names of one factor: R2 and ICC rest on the sum of both variances alone."""
    table = conditions.assign(other=conditions.id.astype(str).radd("s"))
    fit = ranef.lmm("y ~ cond + (1 | id)", table)
    twice = ranef.lmm("y ~ cond + (1 | id) + (1 | other)", table)
    assert ranef.r2(twice).marginal == pytest.approx(ranef.r2(fit).marginal, rel=1e-4)
    assert ranef.r2(twice).conditional == pytest.approx(ranef.r2(fit).conditional, rel=1e-4)
    assert ranef.icc(twice).adjusted == pytest.approx(ranef.icc(fit).adjusted, rel=1e-4)
    assert np.isnan([g.adjusted for g in ranef.icc(twice).groups]).all()
    with pytest.warns(RankWarning, match="do not tell"):
        equal = ranef.lmm("y ~ cond + (1 | id)", table, residual="homcs(1 | id)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert twice.simulate(2, rng=1).notna().all(axis=None)
        assert equal.simulate(2, rng=1).notna().all(axis=None)


def test_draws_of_a_variance_that_is_not_determined_have_none(absorbed, sites):
    for new in (None, sites.head(3)):
        with pytest.warns(RankWarning, match="rests on what the data do not determine"):
            assert absorbed.simulate(2, rng=1, new=new).isna().all(axis=None)
    kept = absorbed.simulate(400, rng=1, kind="conditional")
    assert kept.std(axis=1).mean() == pytest.approx(absorbed.sigma, rel=0.05)


@UNDETERMINED
def test_checks_say_nothing_of_effects_that_are_not_determined(conditions):
    """At zero variance "no variation that this term would explain" was printed beside it."""
    table = conditions[conditions.id < 12].assign(id=lambda t: t.id.astype(str))
    fit = ranef.glmm("high ~ id + (1 | id)", table, family="binomial", reml=True)
    found = ranef.check(fit, n=20, influence=False, rng=1).tidy()
    assert not found.what.str.contains("singularity|effects of").any()
    assert found.what.str.contains("determination").any()


def test_all_directions_of_a_term_are_moved_as_each_alone():
    # brute force: Z (K x D) Z'w with dense matrices
    rng = np.random.default_rng(5)
    n, r, q = 60, 4, 7
    codes = rng.integers(0, q, n).astype(np.int32)
    codes[:q] = np.arange(q)
    z, w, K = rng.normal(size=(n, r)), rng.normal(size=n), np.cov(rng.normal(size=(q, 20)))
    factor = GroupingFactor("g", ("g",), codes, tuple(range(q)))
    slopes = [s + s.T for s in rng.normal(size=(5, r, r))] + [np.diag([0.0, 1.0, 0.0, 0.0])]
    Z = np.hstack([np.eye(q)[codes] * z[:, [a]] for a in range(r)])
    for kernel in (None, K):
        blocks = list(determinacy.images(z, factor, slopes, w, kernel))
        inner = np.eye(q) if kernel is None else kernel
        right = np.stack([Z @ np.kron(D, inner) @ Z.T @ w for D in slopes], axis=1)
        np.testing.assert_allclose(np.hstack(blocks), right, rtol=1e-12, atol=1e-12)


def test_thirty_columns_are_asked_in_few_passes_over_the_rows(monkeypatch):
    # each of the 465 directions by itself took ten times as long as the search
    rng = np.random.default_rng(6)
    n, r = 3000, 30
    term = RandomTerm("x | g", 0, tuple(f"x{i}" for i in range(r)), rng.normal(size=(n, r)))
    factor = GroupingFactor("g", ("g",), np.arange(n, dtype=np.int32) % 200, tuple(range(200)))
    passes = []
    counted = np.bincount
    monkeypatch.setattr(
        determinacy.np, "bincount", lambda *a, **k: passes.append(1) or counted(*a, **k)
    )
    blocks = list(determinacy.images(term.z, factor, determinacy._slopes(term), term.z[:, 0]))
    assert sum(block.shape[1] for block in blocks) == 465
    assert len(passes) == r


@UNDETERMINED
@pytest.mark.parametrize("kind", ["conditional", "typical", "population"])
@pytest.mark.parametrize("interval", ["mean", "new"])
def test_counts_of_a_factor_with_two_names_are_predicted_as_with_one(kind, interval):
    """The sum of the two effects is determined, and so is how well a row is known."""
    rng = np.random.default_rng(1)
    d = pd.DataFrame({"g": np.repeat(np.arange(20), 10), "x": rng.normal(size=200)})
    d["c"] = rng.poisson(np.exp(0.5 + 0.3 * d.x + 0.5 * rng.normal(size=20)[d.g]))
    d["other"] = [f"name {k}" for k in d.g]
    twice = "c ~ x + (1 | g) + (1 | other)"
    two = ranef.glmm(twice, d, family="poisson", undetermined="keep")
    one = ranef.glmm("c ~ x + (1 | g)", d, family="poisson")
    asked = dict(kind=kind, interval=interval, conf_level=0.95, rng=2)
    found, right = (fit.predict(d.iloc[[0, 15, 100]], **asked) for fit in (two, one))
    # draws are made of two effects or of one, so that these agree as 4,000 draws do
    assert_allclose(found.std_error, right.std_error, rtol=1e-4 if interval == "mean" else 0.06)
    assert_allclose(found.conf_high, right.conf_high, rtol=1e-4, atol=float(interval == "new"))
