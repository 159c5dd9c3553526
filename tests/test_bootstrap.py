"""Bootstraps: draws against refits by hand, the same for anyone who makes them; intervals."""

from __future__ import annotations

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy
from agreement import Agree
from numpy.typing import NDArray
from scipy import stats

import ranef
from ranef.errors import ConvergenceWarning, DataError, DataWarning, ModelError
from ranef.inference import refits as numbers
from ranef.inference.coefficients.parameter_list import singular_rows
from ranef.inference.draws.resampling import Clusters, ResidualBootstrap, cluster_factor, reflated
from ranef.inference.linear import LinearInference

mpl.use("Agg")

Floats = NDArray[np.float64]


def sleepstudy(**more: Any) -> Any:
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"), **more)


def cbpp(**more: Any) -> Any:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return ranef.glmm(formula, ranef.data.load("cbpp"), family="binomial", **more)


def grouped(seed: int = 0, groups: int = 12, each: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), each)
    x = rng.normal(size=len(g))
    y = 1 + 0.5 * x + rng.normal(size=groups)[g] + rng.normal(size=len(g))
    return pd.DataFrame(
        {
            "y": y, "x": x, "g": [f"g{k}" for k in g], "w": rng.uniform(0.5, 2, len(g)),
            "o": rng.normal(size=len(g)),
        }
    )  # fmt: skip


# --- parametric ---------------------------------------------------------------------------------


@pytest.mark.parametrize("effects", ["new", "conditional"])
def test_draws_are_refits_of_simulated_responses(effects: str) -> None:
    """By hand: the seed of the chunk, `simulate`, a refit each, its tables."""
    fit = sleepstudy()
    boot = ranef.bootstrap(fit, 8, rng=3, effects=effects)
    seed = int(np.random.default_rng(3).integers(0, 2**63 - 1, 1)[0])
    drawn = fit.simulate(8, rng=seed, kind=effects)
    for k, name in enumerate(drawn.columns):
        again = fit.refit(drawn[name])
        by_hand = [*again.coef, *again.tidy("variance")["estimate"]]
        np.testing.assert_allclose(boot.draws[k], by_hand, rtol=1e-4, atol=1e-5)
    assert boot.names == (
        "(Intercept)", "Days", "sd: Subject: (Intercept)", "sd: Subject: Days",
        "corr: Subject: (Intercept): Days", "sigma",
    )  # fmt: skip
    np.testing.assert_allclose(
        boot.estimate, [*fit.coef, *fit.tidy("variance")["estimate"]], rtol=1e-12
    )


def test_draws_of_weights_offsets_and_dropped_rows() -> None:
    data = grouped()
    data.loc[[3, 17], "x"] = np.nan
    fit = ranef.lmm("y ~ x + offset(o) + (1 | g)", data, weights="w", reml=False)
    boot = ranef.bootstrap(fit, 4, rng=3)
    seed = int(np.random.default_rng(3).integers(0, 2**63 - 1, 1)[0])
    drawn = fit.simulate(4, rng=seed)
    assert drawn.isna().any().any()
    for k, name in enumerate(drawn.columns):
        again = fit.refit(drawn[name])
        by_hand = [*again.coef, *again.tidy("variance")["estimate"]]
        np.testing.assert_allclose(boot.draws[k], by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"quadrature": 5}, {"fixed": {"period3": -1.0}}])
def test_draws_of_generalised_models(more: dict[str, Any]) -> None:
    fit = cbpp(**more)
    boot = ranef.bootstrap(fit, 3, rng=3, n_jobs=1)
    seed = int(np.random.default_rng(3).integers(0, 2**63 - 1, 1)[0])
    drawn = fit.simulate(3, rng=seed)
    for k, name in enumerate(drawn.columns):
        again = fit.refit(drawn[name])
        by_hand = [*again.coef, *again.tidy("variance")["estimate"]]
        np.testing.assert_allclose(boot.draws[k], by_hand, rtol=1e-6, atol=1e-8)
    if "fixed" in more:
        assert np.ptp(boot.draws[:, 2]) == 0.0


def test_structures_have_their_parameters() -> None:
    fit = ranef.lmm(
        "Reaction ~ Days + ar1(0 + factor(Days) | Subject)", ranef.data.load("sleepstudy")
    )
    boot = ranef.bootstrap(fit, 20, rng=1)
    assert boot.names[2:] == ("sd: Subject", "corr: Subject", "sigma")
    assert np.isfinite(boot.draws).all()
    np.testing.assert_allclose(boot.estimate[2:], fit.tidy("variance")["estimate"])
    assert (np.abs(boot.draws[:, 3]) <= 1).all()


def test_singular_refits_are_counted(agree: Agree) -> None:
    """Share of zero variances of a balanced one-way layout without effects: P(F <= 1) for REML."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(6), 5)
    data = pd.DataFrame({"y": rng.normal(size=30), "g": g})
    fit = ranef.lmm("y ~ 1 + (1 | g)", data)
    while not fit.optimum.singular:
        data["y"] = rng.normal(size=30)
        fit = ranef.lmm("y ~ 1 + (1 | g)", data)
    boot = ranef.bootstrap(fit, 4000, rng=1)
    expected = float(stats.f.cdf(1.0, 5, 24))
    agree("ranef.bootstrap", "share of singular refits of 4,000, 6 groups of 5",
          boot.n_singular / 4000, expected, peer="P(F < 1), exact",
          atol=4 * np.sqrt(0.25 / 4000))  # fmt: skip
    np.testing.assert_array_equal(boot.singular, boot.draws[:, 1] < 1e-6)
    assert f"{boot.n_singular:,} were singular" in str(boot)


def test_singular_rows_of_a_matrix_with_three_columns() -> None:
    """A lost rank is singular though no correlation is one."""
    fit = ranef.lmm("y ~ x + (x + w | g)", grouped(2, 30, 8))
    full = np.array([1.0, 0.2, 0.3, 0.5, 0.1, 0.4])
    lost = np.array([1.0, 0.2, 0.3, 0.5, 0.1, 0.0])
    none = np.zeros(6)
    assert singular_rows(fit.estimate, np.array([full, lost, none])).tolist() == [False, True, True]


# --- who makes the draws ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["parametric", "cluster", "residual"])
def test_the_same_rng_gives_the_same_draws_to_any_number_of_threads(method: str) -> None:
    fit = sleepstudy()
    one, two = (ranef.bootstrap(fit, 45, method=method, rng=5, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one.draws, two.draws)
    more = ranef.bootstrap(fit, 60, method=method, rng=5, n_jobs=2)
    np.testing.assert_allclose(more.draws[:40], one.draws[:40], rtol=1e-12)
    other = ranef.bootstrap(fit, 45, method=method, rng=6)
    assert not np.array_equal(one.draws, other.draws)


def test_threads_of_a_generalised_model() -> None:
    fit = cbpp()
    one, two = (ranef.bootstrap(fit, 24, rng=5, n_jobs=jobs) for jobs in (1, 3))
    np.testing.assert_array_equal(one.draws, two.draws)


def test_many_chunks() -> None:
    """More replicates than a chunk holds, in the core's threads and beside each other."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    boot = ranef.bootstrap(fit, 450, rng=1)
    assert len(boot) == 450
    assert np.isfinite(boot.draws).all()
    assert len(np.unique(boot.draws[:, 0])) == 450


class InTurn:
    """The least a client must have: each task runs when it is submitted."""

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


@pytest.mark.parametrize("method", ["parametric", "cluster"])
@pytest.mark.parametrize("fit", [sleepstudy, cbpp])
def test_a_client_makes_the_same_draws(fit: Any, method: str) -> None:
    own = fit()
    here = ranef.bootstrap(own, 24, method=method, rng=5, n_jobs=1)
    there = ranef.bootstrap(own, 24, method=method, rng=5, client=InTurn())
    np.testing.assert_array_equal(here.draws, there.draws)
    with ThreadPoolExecutor(2) as pool:
        pooled = ranef.bootstrap(own, 24, method=method, rng=5, client=pool)
    np.testing.assert_array_equal(here.draws, pooled.draws)


def test_a_dask_client_makes_the_same_draws() -> None:
    """Real futures of a real scheduler, in this process."""
    from dask.distributed import Client, LocalCluster

    own = cbpp()
    here = ranef.bootstrap(own, 24, rng=5, n_jobs=1)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        there = ranef.bootstrap(own, 24, rng=5, client=client)
        asked = ranef.bootstrap(own, 4, rng=5, client=client, statistic=lambda f: f.loglik)
    np.testing.assert_array_equal(here.draws, there.draws)
    assert asked.draws.shape == (4, 1)


def test_a_client_must_be_one() -> None:
    with pytest.raises(ModelError, match=r"client must have submit\(\)"):
        ranef.bootstrap(cbpp(), 3, client=3)


# --- a statistic of one's own -------------------------------------------------------------------


def test_a_statistic_is_asked_of_each_refit() -> None:
    fit = sleepstudy()
    plain = ranef.bootstrap(fit, 10, rng=2)
    for make, names in (
        (lambda f: f.sigma, ("statistic",)),
        (lambda f: [f.sigma, f.coef.iloc[1]], ("statistic1", "statistic2")),
        (lambda f: {"sigma": f.sigma, "slope": f.coef.iloc[1]}, ("sigma", "slope")),
        (lambda f: pd.Series({"sigma": f.sigma}), ("sigma",)),
    ):
        boot = ranef.bootstrap(fit, 10, statistic=make, rng=2)
        assert boot.names == names
        np.testing.assert_allclose(boot.draws[:, 0], plain.draws[:, 5], rtol=1e-7)
        assert boot.tidy()["parameter"].tolist() == ["statistic"] * len(names)
    predicted = ranef.bootstrap(
        fit, 5, statistic=lambda f: f.predict({"Days": [3.0], "Subject": ["308"]}), rng=2
    )
    assert np.isfinite(predicted.draws).all()
    assert np.isfinite(predicted.confint(kind="bca")["conf_low"]).all()


def test_what_a_statistic_may_not_be() -> None:
    fit = sleepstudy()
    with pytest.raises(ModelError, match="statistic must be a function"):
        ranef.bootstrap(fit, 3, statistic="sigma")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"must return a number.*not str"):
        ranef.bootstrap(fit, 3, statistic=lambda _: "a")
    with pytest.raises(ZeroDivisionError):
        ranef.bootstrap(fit, 3, statistic=lambda _: 1 / 0)
    sizes = iter([1, 1, 2, 1])
    with pytest.warns(ConvergenceWarning, match="2 values for a refit, 1 for the fit"):
        boot = ranef.bootstrap(fit, 3, statistic=lambda _: [0.0] * next(sizes), rng=1, n_jobs=1)
    assert [k for k, _ in boot.failures] == [1]


def test_failed_refits_are_counted_and_named() -> None:
    fit = sleepstudy()
    count = iter(range(100))

    def shaky(f: Any) -> float:
        if next(count) in (3, 7):
            raise ValueError("no root")
        return float(f.sigma)

    with pytest.warns(ConvergenceWarning, match="2 of 10 refits failed.*no root"):
        boot = ranef.bootstrap(fit, 10, statistic=shaky, rng=1, n_jobs=1)
    assert boot.n_failed == 2
    assert [k for k, _ in boot.failures] == [2, 6]
    assert np.isnan(boot.draws[[2, 6]]).all()
    assert np.isfinite(np.delete(boot.draws, [2, 6], axis=0)).all()
    assert "Failed (2): the statistic failed: ValueError: no root" in str(boot)
    assert np.isfinite(boot.confint()["conf_low"]).all()


def test_a_response_that_does_not_vary_is_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core refuses the whole chunk; the others are fitted all the same."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    given = LinearInference.simulate

    def flat(*args: Any, **more: Any) -> Floats:
        out = given(*args, **more)
        out[:, 1] = 5.0
        return out

    plain = ranef.bootstrap(fit, 30, rng=1)
    monkeypatch.setattr(LinearInference, "simulate", flat)
    boot = ranef.bootstrap(fit, 30, rng=1)
    assert [k for k, _ in boot.failures] == [1]
    assert "nothing varies" in boot.failures[0][1]
    kept = np.arange(30) != 1
    np.testing.assert_allclose(boot.draws[kept], plain.draws[kept], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_passes(monkeypatch: pytest.MonkeyPatch, n_jobs: int) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(numbers, "refit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ranef.bootstrap(cbpp(), 40, rng=1, n_jobs=n_jobs)


def test_progress_counts_replicates(capsys: pytest.CaptureFixture[str]) -> None:
    ranef.bootstrap(sleepstudy(), 30, rng=1, progress=True)
    shown = capsys.readouterr().err
    assert "bootstrap" in shown
    assert "30/30" in shown


# --- whole levels -------------------------------------------------------------------------------


def relabelled(
    data: pd.DataFrame, cluster: str, levels: list[Any], inner: list[str]
) -> pd.DataFrame:
    """Copies of the rows of these levels, each a level of its own, with what nests in it."""
    parts = []
    for copy, level in enumerate(levels):
        own = data[data[cluster] == level].copy()
        for name in [cluster, *inner]:
            own[name] = f"{copy} of " + own[name].astype(str)
        parts.append(own)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("formula", "cluster", "inner", "more"),
    [
        ("y ~ x + (x | g)", "g", [], {}),
        ("y ~ x + offset(o) + (1 | g)", "g", [], {"weights": "w", "reml": False}),
        ("y ~ x + (1 | s / g)", "s", ["g"], {}),
    ],
)
def test_drawn_levels_are_rows_of_a_table(
    formula: str, cluster: str, inner: list[str], more: dict[str, Any]
) -> None:
    """The same as a fit to the table in which each copy has a name of its own."""
    data = grouped(4, 12, 6)
    data["s"] = ["s" + str(int(name[1:]) // 3) for name in data["g"]]
    data.loc[[5, 20], "x"] = np.nan
    fit = ranef.lmm(formula, data, **more)
    boot = ranef.bootstrap(fit, 6, method="cluster", rng=9)
    rng = np.random.default_rng(9)
    chunk = numbers.chunks(fit.inference, boot.plan, 6, rng, statistic=False)[0]
    factor = fit.estimate.specification.factors[boot.plan.cluster]
    assert factor.name == cluster
    q = factor.n_levels
    drawn = np.random.default_rng(chunk.seed).integers(0, q, (6, q))
    for k, levels in enumerate(drawn):
        table = relabelled(data, cluster, [list(factor.levels)[i] for i in levels], inner)
        again = ranef.lmm(formula, table, **more)
        by_hand = [*again.coef, *again.tidy("variance")["estimate"]]
        np.testing.assert_allclose(boot.draws[k], by_hand, rtol=1e-4, atol=1e-5)


def test_drawn_levels_of_a_generalised_model() -> None:
    """Every part, the trials, and the offset go with the rows."""
    data = ranef.data.load("cbpp").astype({"herd": str})
    fit = ranef.glmm(
        "incidence ~ period + offset(log(size)) + (1 | herd)",
        data,
        family="nbinom2",
        dispersion="~ 1",
    )
    boot = ranef.bootstrap(fit, 3, method="cluster", rng=9, n_jobs=1)
    rng = np.random.default_rng(9)
    chunk = numbers.chunks(fit.inference, boot.plan, 3, rng, statistic=False)[0]
    drawn = np.random.default_rng(chunk.seed).integers(0, 15, (3, 15))
    names = list(fit.estimate.specification.factors[0].levels)
    for k, levels in enumerate(drawn):
        table = relabelled(data, "herd", [names[i] for i in levels], [])
        again = ranef.glmm(
            "incidence ~ period + offset(log(size)) + (1 | herd)",
            table,
            family="nbinom2",
            dispersion="~ 1",
        )
        np.testing.assert_allclose(boot.draws[k, :4], again.coef, rtol=1e-4, atol=1e-5)
    binomial = cbpp()
    boot = ranef.bootstrap(binomial, 2, method="cluster", rng=9, n_jobs=1)
    assert np.isfinite(boot.draws).all()


def test_the_cluster_is_the_outermost_factor() -> None:
    data = grouped(4, 12, 6)
    data["s"] = ["s" + str(int(name[1:]) // 3) for name in data["g"]]
    fit = ranef.lmm("y ~ x + (1 | s / g)", data)
    names = [f.name for f in fit.estimate.specification.factors]
    assert names[cluster_factor(fit.estimate)] == "s"
    with pytest.raises(ModelError, match=r"crossed.*all other factors must nest"):
        ranef.bootstrap(fit, 3, method="cluster", cluster=next(n for n in names if n != "s"))
    with pytest.raises(ModelError, match=r"no grouping factor 'S'"):
        ranef.bootstrap(fit, 3, method="cluster", cluster="S")


def test_crossed_factors_are_refused_with_the_reason() -> None:
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", ranef.data.load("Penicillin"))
    with pytest.raises(ModelError, match=r"'plate' and 'sample' are crossed.*tear"):
        ranef.bootstrap(fit, 3, method="cluster")
    boot = ranef.bootstrap(fit, 50, method="residual", rng=1)
    with pytest.raises(ModelError, match="are crossed"):
        boot.confint(kind="bca")
    assert np.isfinite(boot.confint()["conf_low"]).all()


def test_levels_of_a_kernel_are_refused() -> None:
    data = grouped()
    names = sorted(set(data["g"]))
    K = pd.DataFrame(0.5 * np.eye(12) + 0.5, index=names, columns=names)
    fit = ranef.lmm("y ~ x + kernel(1 | g, K)", data, kernels={"K": K})
    with pytest.raises(ModelError, match="known covariance"):
        ranef.bootstrap(fit, 3, method="cluster")
    assert np.isfinite(ranef.bootstrap(fit, 5, rng=1).draws).all()
    assert np.isfinite(ranef.bootstrap(fit, 5, method="residual", rng=1).draws).all()


def test_a_draw_without_a_category_fails_and_says_so() -> None:
    data = grouped(1, 5, 6)
    data["rare"] = (data["g"] == "g0") * 1.0
    fit = ranef.lmm("y ~ rare + (1 | g)", data)
    with pytest.warns(ConvergenceWarning, match="refits failed"):
        boot = ranef.bootstrap(fit, 60, method="cluster", rng=1)
    share = (4 / 5) ** 5 + (1 / 5) ** 5
    assert boot.n_failed / 60 == pytest.approx(share, abs=0.2)
    assert set(boot.reasons()) <= {
        "the rows drawn do not vary in rare",
        "the fixed effects depend on each other in the rows drawn",
    }


def test_clusters_take_every_row_once_in_the_identity_draw() -> None:
    fit = sleepstudy()
    clusters = Clusters.of(fit.estimate, 0)
    parts, extra = clusters.take(np.arange(18))
    spec = fit.estimate.specification
    assert extra is None
    own = parts["conditional"]
    assert sorted(own.y.tolist()) == sorted(spec.y.tolist())
    np.testing.assert_array_equal(np.bincount(own.factors[0].codes), [10] * 18)


# --- residuals ----------------------------------------------------------------------------------


def test_reflated_effects_have_the_fitted_covariance() -> None:
    fit = sleepstudy()
    own = ResidualBootstrap.of(fit.estimate)
    [(_, _, U, _)] = own.effects
    np.testing.assert_allclose(U.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(U.T @ U / 18, fit.estimate.covariances[0], rtol=1e-10)
    assert own.errors.mean() == pytest.approx(0, abs=1e-10)
    assert np.mean(own.errors**2) == pytest.approx(fit.sigma**2)


def test_reflated_effects_of_separate_terms_are_uncorrelated() -> None:
    fit = ranef.lmm("Reaction ~ Days + (Days || Subject)", ranef.data.load("sleepstudy"))
    [(_, _, U, _)] = ResidualBootstrap.of(fit.estimate).effects
    expected = np.diag([float(psi[0, 0]) for psi in fit.estimate.covariances])
    np.testing.assert_allclose(U.T @ U / 18, expected, rtol=1e-10, atol=1e-8)


def test_reflating_a_singular_matrix() -> None:
    U = np.outer([1.0, -1.0, 3.0], [1.0, 2.0])
    R = np.outer([1.0, 2.0], [1.0, 2.0])
    V = reflated(U, R)
    np.testing.assert_allclose(V.T @ V / 3, R, rtol=1e-10)
    assert not reflated(np.zeros((3, 2)), R).any()


def test_residual_draws_have_the_models_mean_and_variance() -> None:
    data = grouped(3, 10, 8)
    fit = ranef.lmm("y ~ x + (1 | g)", data, weights="w")
    own = ResidualBootstrap.of(fit.estimate)
    rng = np.random.default_rng(0)
    drawn = np.array([own.draw(rng) for _ in range(4000)])
    spec = fit.estimate.specification
    mean = spec.X @ fit.estimate.beta
    variance = fit.estimate.covariances[0][0, 0] + fit.sigma**2 / data["w"].to_numpy()
    error = np.sqrt(variance / 4000)
    assert np.abs((drawn.mean(axis=0) - mean) / error).max() < 4.5
    assert np.abs(drawn.var(axis=0) / variance - 1).max() < 0.25
    assert (drawn.var(axis=0) / variance).mean() == pytest.approx(1, abs=0.02)
    same = data["g"].to_numpy()[:, None] == data["g"].to_numpy()
    off = same & ~np.eye(80, dtype=bool)
    assert np.cov(drawn.T)[off].mean() == pytest.approx(fit.estimate.covariances[0][0, 0], rel=0.1)


def test_residuals_of_a_generalised_model_are_refused() -> None:
    with pytest.raises(ModelError, match="not exchangeable"):
        ranef.bootstrap(cbpp(), 3, method="residual")


# --- intervals ----------------------------------------------------------------------------------


def test_kinds_of_interval_by_their_formulas() -> None:
    boot = ranef.bootstrap(sleepstudy(), 400, rng=1)
    for k in range(6):
        x, centre = boot.draws[:, k], boot.estimate[k]
        low, high = np.quantile(x, [0.05, 0.95], method="weibull")
        z = NormalDist().inv_cdf(0.95)
        middle = 2 * centre - x.mean()
        reach = z * x.std(ddof=1)
        for kind, ends in (
            ("percentile", (low, high)),
            ("basic", (2 * centre - high, 2 * centre - low)),
            ("normal", (middle - reach, middle + reach)),
        ):
            found = boot.confint(0.9, kind=kind).loc[k, ["conf_low", "conf_high"]].tolist()
            assert found == pytest.approx(ends)


def test_bca_against_scipy(agree: Agree) -> None:
    """The mean and the spread of skewed data: same draws, same jackknife, same levels."""
    data = np.random.default_rng(0).exponential(size=40)
    for statistic in (np.mean, np.std):
        peer = stats.bootstrap(
            (data,), statistic, n_resamples=9999, method="BCa", rng=np.random.default_rng(1),
            vectorized=False,
        )  # fmt: skip
        deleted = np.array([[statistic(np.delete(data, i))] for i in range(40)])
        x, a = peer.bootstrap_distribution, float(numbers.acceleration(deleted)[0])
        levels = numbers.corrected_levels(x, float(statistic(data)), 0.025, a)
        # their rule for quantiles is NumPy's default
        agree("bootstrap().confint(kind='bca')", f"95% limits, {statistic.__name__} of 40 values",
              np.quantile(x, levels), list(peer.confidence_interval),
              peer=f"SciPy {scipy.__version__}", rtol=1e-9)  # fmt: skip
        low, high = numbers.intervals_of(
            x[:, None], np.array([statistic(data)]), 0.95, "bca", deleted
        )
        assert [low[0], high[0]] == pytest.approx(np.quantile(x, levels, method="weibull"))


def test_bca_leaves_out_each_level() -> None:
    fit = sleepstudy()
    boot = ranef.bootstrap(fit, 300, rng=1)
    data = ranef.data.load("sleepstudy")
    deleted = numbers.jackknife(fit.inference, 0)
    assert deleted.shape == (18, 6)
    for k, level in enumerate(list(fit.estimate.specification.factors[0].levels)[:3]):
        again = ranef.lmm("Reaction ~ Days + (Days | Subject)", data[data["Subject"] != level])
        by_hand = [*again.coef, *again.tidy("variance")["estimate"]]
        np.testing.assert_allclose(deleted[k], by_hand, rtol=1e-5)
    d = deleted.mean(axis=0) - deleted
    a = (d**3).sum(axis=0) / (6 * (d**2).sum(axis=0) ** 1.5)
    np.testing.assert_allclose(numbers.acceleration(deleted), a)
    low, _ = numbers.intervals_of(boot.draws, boot.estimate, 0.95, "bca", deleted)
    np.testing.assert_allclose(boot.confint(kind="bca")["conf_low"], low)


def test_groups_of_many_levels_are_left_out_together() -> None:
    """The acceleration of a mean of 400 groups: by hundreds as by ones, near enough."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(400), 3)
    effect = rng.exponential(size=400) * 2
    fit = ranef.lmm(
        "y ~ 1 + (1 | g)", pd.DataFrame({"y": effect[g] + rng.normal(size=1200), "g": g})
    )
    deleted = numbers.jackknife(fit.inference, 0)
    assert len(deleted) == 100
    means = fit.estimate.specification.y.reshape(400, 3).mean(axis=1)
    exact = stats.skew(means) / (6 * np.sqrt(400))
    assert numbers.acceleration(deleted)[0] == pytest.approx(exact, rel=0.5)


def test_bca_of_an_estimate_on_the_boundary() -> None:
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    boot = ranef.bootstrap(fit, 200, rng=1)
    found = boot.confint(kind="bca", parameters="sd")
    assert found.loc[0, "conf_low"] == 0.0
    assert found.loc[0, "conf_high"] > 0.0


def test_missing_draws_are_left_out_of_quantiles() -> None:
    """A correlation does not exist where an effect does not vary."""
    values = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 0.5], [np.nan, 0.7], [4.0, 0.6]])
    low, high = numbers.intervals_of(values, np.array([2.5, 0.6]), 0.5, "percentile")
    assert low[0] == pytest.approx(np.quantile([1, 2, 3, 4], 0.25, method="weibull"))
    assert high[1] == pytest.approx(np.quantile([0.5, 0.7, 0.6], 0.75, method="weibull"))
    low, _ = numbers.intervals_of(np.full((5, 1), np.nan), np.array([1.0]), 0.5, "normal")
    assert np.isnan(low[0])


def test_confint_of_a_fit_by_bootstrap() -> None:
    fit = sleepstudy()
    found = fit.confint("bootstrap", n=120, rng=4, conf_level=0.8)
    assert found.columns.tolist() == ["term", "estimate", "conf_low", "conf_high"]
    boot = ranef.bootstrap(fit, 120, rng=4)
    own = boot.confint(0.8, parameters="fixed")
    np.testing.assert_array_equal(found[["conf_low", "conf_high"]], own[["conf_low", "conf_high"]])
    wider = boot.confint(0.99, parameters="fixed")
    assert (wider["conf_low"] < own["conf_low"]).all()
    both = fit.confint("bootstrap", n=120, rng=4, kind="basic", parameters=["Days", "sigma"])
    assert both["parameter"].tolist() == ["coefficient", "sd"]
    with pytest.raises(ModelError, match="no degrees of freedom"):
        fit.confint("bootstrap", df="residual")


def test_tidy_and_table() -> None:
    boot = ranef.bootstrap(sleepstudy(), 50, rng=4)
    tidy = boot.tidy()
    assert tidy.columns.tolist() == [
        "component", "group", "term", "term2", "parameter", "estimate", "bias", "std_error",
        "conf_low", "conf_high",
    ]  # fmt: skip
    np.testing.assert_allclose(tidy["bias"], boot.draws.mean(axis=0) - boot.estimate)
    np.testing.assert_allclose(tidy["std_error"], boot.draws.std(axis=0, ddof=1))
    np.testing.assert_array_equal(boot.replicates().to_numpy(), boot.draws)
    data = pl.from_pandas(ranef.data.load("sleepstudy").astype({"Subject": str}))
    polars = ranef.bootstrap(ranef.lmm("Reaction ~ Days + (1 | Subject)", data), 5, rng=1)
    for table in (polars.tidy(), polars.replicates(), polars.confint()):
        assert isinstance(table, pl.DataFrame)


def test_standard_errors_of_a_bootstrap_are_those_of_the_fit() -> None:
    """1,000 replicates, within four standard errors of a standard deviation."""
    fit = sleepstudy()
    boot = ranef.bootstrap(fit, 1000, rng=1).tidy()
    expected = np.sqrt(np.diag(fit.vcov))
    np.testing.assert_allclose(boot["std_error"][:2], expected, rtol=4 / np.sqrt(2000))
    assert (boot["bias"][:2].abs() < 4 * expected / np.sqrt(1000)).all()


# --- the face -----------------------------------------------------------------------------------


def test_what_is_refused() -> None:
    fit = sleepstudy()
    for arguments, message in (
        ({"method": "parametrik"}, "method='parametrik' is not known"),
        ({"effects": "old"}, "effects='old' is not known"),
        ({"method": "cluster", "effects": "conditional"}, "is for method='parametric'"),
        ({"cluster": "Subject"}, "method='cluster' draws"),
        ({"rng": "x"}, "rng must be"),
    ):
        with pytest.raises(ModelError, match=message):
            ranef.bootstrap(fit, 3, **arguments)
    with pytest.raises(ModelError, match="n must be at least 1"):
        ranef.bootstrap(fit, 0)
    with pytest.raises(ModelError, match="takes a fit"):
        ranef.bootstrap("fit")  # type: ignore[arg-type]
    boot = ranef.bootstrap(fit, 10, rng=1)
    with pytest.raises(ModelError, match="kind='bc' is not known"):
        boot.confint(kind="bc")
    with pytest.raises(ModelError, match="cluster= is for kind='bca'"):
        boot.confint(cluster="Subject")
    with pytest.raises(ModelError, match="no parameter 'Day'"):
        boot.confint(parameters="Day")


def test_a_fit_from_a_file_can_be_drawn_from(tmp_path: Path) -> None:
    fit = cbpp()
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    one, two = (ranef.bootstrap(f, 6, rng=1, n_jobs=1).draws for f in (fit, again))
    np.testing.assert_array_equal(one, two)


def test_categories_and_other_families() -> None:
    wine = ranef.glmm("rating ~ temp + (1 | judge)", ranef.data.load("wine"), family="cumulative")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        boot = ranef.bootstrap(wine, 6, rng=1, n_jobs=1)
    assert boot.draws.shape == (6, 6)
    assert np.isfinite(boot.draws).all()


def test_picture() -> None:
    boot = ranef.bootstrap(sleepstudy(), 60, rng=1)
    panels = boot.plot.draws()
    assert len(panels) == 6
    one = boot.plot.draws("sigma", kind="basic")
    assert one.get_title(loc="left") == "sigma"
    assert one.get_xlabel() == "95% basic interval"
    held = ranef.bootstrap(cbpp(fixed={"period3": -1.0}), 5, rng=1)
    held.plot.draws("period3")
    with pytest.raises(ModelError, match="did you mean 'sigma'"):
        boot.plot.draws("sigm")
    mpl.pyplot.close("all")
