"""Inertia and residual sd of persons: exact likelihood, recovery, questions, refusals."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import ranef
from ranef.design.call import ModelArguments
from ranef.errors import DataError, FormulaError, ModelError
from ranef.fields.dynamic.arrays import problem_of
from ranef.fields.dynamic.layout import layout_of
from ranef.fields.dynamic.problem import Problem, gauss_hermite
from ranef.fields.dynamic.reading import Texts, read_parts
from ranef.fields.dynamic.search import starts

pd = pytest.importorskip("pandas")

TIED = "~ 1 + (1 | p | person)"
TRUTH = {"level": 5.0, "slope": 0.5, "eta": 0.4, "log_sd": -0.2}
SDS = np.array([0.25, 0.3, 1.0, 0.3])  # inertia, log sd, level, slope


def diaries(
    persons: int = 60, prompts: int = 30, seed: int = 1, missed: float = 0.15, carried: bool = False
) -> Any:
    """Persons whose level, slope, inertia and innovation sd are correlated 0.4."""
    rng = np.random.default_rng(seed)
    V = np.outer(SDS, SDS) * (0.4 + 0.6 * np.eye(4))
    p, s, m, b = rng.multivariate_normal(np.zeros(4), V, persons).T
    phi, sd = np.tanh(TRUTH["eta"] + p), np.exp(TRUTH["log_sd"] + s)
    x = rng.normal(size=(persons, prompts))
    D = np.zeros((persons, prompts))
    now = rng.normal(size=persons) * sd / np.sqrt(1 - phi**2)
    for t in range(prompts):
        now = now if t == 0 else phi * now + sd * rng.normal(size=persons)
        now = now + (TRUTH["slope"] + b) * x[:, t] if carried else now
        D[:, t] = now
    y = TRUTH["level"] + m[:, None] + D
    y = y if carried else y + (TRUTH["slope"] + b)[:, None] * x
    table = pd.DataFrame({
        "person": np.repeat(np.arange(persons), prompts),
        "prompt": np.tile(np.arange(prompts), persons), "x": x.ravel(), "mood": y.ravel(),
    })  # fmt: skip
    kept = rng.random(len(table)) > missed
    table = table[kept].sample(frac=1.0, random_state=seed)
    return table.assign(
        day=table.prompt // 5, busy=(table.prompt % 4 == 0) * 1.0,
        clock=1.5 * table.prompt + np.sin(7.0 * table.prompt + table.person),
    )  # fmt: skip


@cache
def fitted() -> Any:
    return ranef.dynamic(
        "mood ~ x + (1 + x | p | person)", diaries(), residual="ar1(prompt | person)",
        inertia=TIED, dispersion=TIED,
    )  # fmt: skip


def problem(texts: Texts, memory: str, given: bool = False) -> Problem:
    call = ModelArguments(texts.conditional, diaries(25, 14))
    specs, _ = read_parts(texts, call)
    return problem_of(specs, layout_of(specs), memory, given, 1).problem


def dense(P: Problem, theta: Any, i: int, points: int = 61) -> float:
    """One person's log-likelihood by a grid over v and dense matrices."""
    own = slice(P.first[i], P.first[i + 1])
    deviation, inputs, eta, log_sd = (a[own] for a in P.rows_at(theta))
    L, d, omega = P.layout.factor(theta), P.layout.d, P.layout.omega(theta)
    gap, zm, zi = P.gap[own], P.zm[own], P.zi[own]
    n, x = len(gap), np.linspace(-6.5, 6.5, points)
    grid = (
        np.array(np.meshgrid(*[x] * d, indexing="ij")).reshape(d, -1).T if d else np.zeros((1, 0))
    )
    out = []
    for u in grid:
        v = L[:d, :d] @ u
        e, sd = eta + P.zp[own] @ v, np.exp(log_sd + P.zs[own] @ v)
        A, W = np.eye(n), np.zeros(n)
        for t, k in enumerate(gap):
            phi = {"clock": 1 / (1 + np.exp(-e[t])), "plain": e[t], "fisher": np.tanh(e[t])}[
                P.memory
            ]
            if k == 0:
                W[t] = 1 + omega * phi**2 / (1 - phi**2)
            elif P.memory == "clock":
                W[t] = (1 - phi ** (2 * k)) / (1 - phi**2)
            else:
                W[t] = 1 + omega * sum(phi ** (2 * j) for j in range(1, int(k)))
            if k:
                A[t, t - 1] = -(phi**k)
        H = np.hstack([A @ zm, zi])
        r = A @ deviation - inputs - H @ L[d:, :d] @ u
        V = np.diag(W * sd**2) + H @ L[d:, d:] @ L[d:, d:].T @ H.T
        seen = gap > 0 if P.given_starts else np.ones(n, bool)
        r, V = r[seen], V[np.ix_(seen, seen)]
        out.append(
            -0.5 * (np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r) + u @ u)
            - 0.5 * (len(r) + d) * np.log(2 * np.pi)
        )  # fmt: skip
    top = max(out)
    return float(top + np.log(np.exp(np.array(out) - top).sum()) + d * np.log(x[1] - x[0]))


LEVEL = "mood ~ x + (1 + x | p | person)"
CASES = {
    "days": (Texts(LEVEL, "ar1(prompt | person/day)", "~ busy + (1 | p | person)", TIED, None),
             "fisher", False),
    "clock": (Texts(LEVEL, "ou(clock | person)", TIED, "~ busy", None), "clock", False),
    "inputs": (Texts("mood ~ 1 + (1 | p | person)", "ar1(prompt | person)", TIED, "~ 1",
                     "~ x + (0 + x | p | person)"), "fisher", False),
    "given": (Texts("mood ~ 1 + (1 | person)", "ar1(prompt | person)", "~ 1 + (1 | person)",
                    "~ 1 + busy", None), "fisher", True),
    "diagonal": (Texts("mood ~ x + (x || person)", "ar1(prompt | person)", "~ 1",
                       "~ 1 + (1 | person)", None), "fisher", False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_likelihood_is_that_of_dense_matrices_and_a_grid(name, agree):
    P = problem(*CASES[name])
    rng = np.random.default_rng(3)
    theta = starts(P)[0]
    theta = theta + 0.1 * rng.normal(size=len(theta))
    rule = gauss_hermite(21, P.layout.d)
    nodes = P.nodes(theta)
    found = P.evaluate(theta, rule, nodes)
    agree(
        "ranef.dynamic", f"log-likelihood of persons: {name}", found.loglik[[0, 7]],
        [dense(P, theta, 0), dense(P, theta, 7)], peer="dense matrices on a grid", rtol=1e-9,
    )  # fmt: skip
    h = 1e-5
    numeric = [
        (P.loglik(theta + e, rule, nodes) - P.loglik(theta - e, rule, nodes)).sum() / (2 * h)
        for e in h * np.eye(len(theta))
    ]
    np.testing.assert_allclose(found.scores.sum(axis=0), numeric, rtol=1e-6, atol=1e-5)


def test_inertia_without_persons_is_the_linear_model():
    """The level's effects alone are linear: `lmm` has the same likelihood, by another path."""
    table = diaries(40, 20)
    one = ranef.dynamic("mood ~ x + (1 | person)", table, residual="ar1(prompt | person)")
    other = ranef.lmm("mood ~ x + (1 | person)", table, residual="ar1(prompt | person)", reml=False)
    np.testing.assert_allclose(one.loglik, other.loglik, atol=1e-6)
    np.testing.assert_allclose(one.coef.iloc[:2], other.coef, rtol=1e-5)
    clock = ranef.dynamic("mood ~ x + (1 | person)", table, residual="ou(clock | person)")
    same = ranef.lmm("mood ~ x + (1 | person)", table, residual="ou(clock | person)", reml=False)
    np.testing.assert_allclose(clock.loglik, same.loglik, atol=1e-6)


def test_estimates_are_near_the_truth_and_the_optimum_is_proved():
    fit = fitted()
    assert fit.optimum.converged
    assert abs(fit.optimum.quadrature_error) < 1e-5
    assert np.abs(fit.optimum.gradient).max() < 1e-2
    found = fit.tidy()
    truth = [TRUTH["level"], TRUTH["slope"], TRUTH["eta"], TRUTH["log_sd"]]
    assert np.all(np.abs(found.estimate - truth) < 3.5 * found.std_error)
    sds = fit.tidy("variance").query("parameter == 'sd' and component != 'residual'")
    assert np.all(sds.conf_low < 1.4 * SDS)
    assert np.all(sds.conf_high > SDS / 1.4)


def test_latent_centring_has_no_nickell_bias():
    """A lagged outcome centred at observed means is biased by about -(1 + phi) / (T - 1)."""
    rng, N, T, phi = np.random.default_rng(5), 300, 8, 0.4
    D = np.zeros((N, T))
    D[:, 0] = rng.normal(size=N) / np.sqrt(1 - phi**2)
    for t in range(1, T):
        D[:, t] = phi * D[:, t - 1] + rng.normal(size=N)
    y = rng.normal(size=N)[:, None] + D
    table = {"person": np.repeat(np.arange(N), T), "t": np.tile(np.arange(T), N), "y": y.ravel()}
    fit = ranef.dynamic("y ~ 1 + (1 | person)", table, residual="ar1(t | person)")
    latent = fit.tidy("variance").query("parameter == 'phi'").iloc[0]
    centred = y - y.mean(axis=1, keepdims=True)
    observed = (centred[:, :-1] * centred[:, 1:]).sum() / (centred[:, :-1] ** 2).sum()
    assert latent.conf_low < phi < latent.conf_high
    assert observed < phi - 0.12


def test_order_of_rows_units_and_names_do_not_matter():
    table = diaries(30, 15)
    call = {"residual": "ar1(prompt | person)", "inertia": TIED}
    formula = "mood ~ x + (1 | p | person)"
    one = ranef.dynamic(formula, table, **call)
    other = ranef.dynamic(
        formula,
        table.sort_values("prompt").assign(
            mood=1000 * table.mood + 3e4, x=table.x / 50, person="p" + table.person.astype(str)
        ),
        **call,
    )
    np.testing.assert_allclose(other.loglik, one.loglik - one.n_obs * np.log(1000), atol=1e-5)
    np.testing.assert_allclose(other.tidy().estimate[1], 5e4 * one.tidy().estimate[1], rtol=1e-4)
    np.testing.assert_allclose(other.tidy().statistic[1:3], one.tidy().statistic[1:3], rtol=1e-4)


def test_next_prompt_by_hand():
    """Without effects of inertia the forecast is the textbook's: level + phi^k times the last."""
    table = diaries(20, 15)
    fit = ranef.dynamic("mood ~ 1 + (1 | person)", table, residual="ar1(prompt | person)")
    level = fit.coef.iloc[0] + fit.tidy("random").set_index("level").estimate
    phi, sd = fit.tidy("variance").estimate[1:3]
    last = table[table.person == 3].sort_values("prompt").iloc[-1]
    new = pd.DataFrame({"person": [3, 3], "prompt": last.prompt + np.array([1.0, 4.0])})
    found = fit.predict(new, conf_level=0.95)
    hand = level[3] + phi ** np.array([1, 4]) * (last.mood - level[3])
    np.testing.assert_allclose(found.estimate, hand, rtol=1e-10)
    given = fit.tidy("random").set_index("level").cond_sd[3]
    k = np.array([1, 4])
    variance = sd**2 * (1 - phi ** (2 * k)) / (1 - phi**2) + ((1 - phi**k) * given) ** 2
    np.testing.assert_allclose(found.std_error, np.sqrt(variance), rtol=1e-10)
    np.testing.assert_allclose(
        found.conf_high - found.estimate, 1.959964 * np.sqrt(variance), rtol=1e-5
    )
    stranger = fit.predict({"person": [99], "prompt": [1]}, conf_level=0.9)
    np.testing.assert_allclose(stranger.estimate[0], fit.coef.iloc[0], rtol=1e-10)
    again = fit.predict(new, history=table)
    np.testing.assert_allclose(again, found.estimate, rtol=1e-8)


def test_forecast_intervals_hold_what_comes():
    """Of 60 persons' next prompts nine in ten lie in their intervals, give or take."""
    table = diaries()
    told = table[table.prompt < 24]
    later = table[table.prompt >= 24]
    fit = ranef.dynamic(LEVEL, told, residual="ar1(prompt | person)", inertia=TIED, dispersion=TIED)
    found = fit.predict(later, conf_level=0.9)
    inside = (later.mood > found.conf_low) & (later.mood < found.conf_high)
    assert 0.84 < inside.mean() < 0.95


def test_tables_words_report_and_file(tmp_path):
    fit = fitted()
    rows = fit.tidy("variance")
    assert rows.parameter.tolist() == ["sd"] * 4 + ["corr"] * 6 + ["phi", "sd"]
    assert rows.component.tolist()[-2:] == ["residual"] * 2
    assert fit.tidy("random").shape[0] == 240
    assert set(fit.dynamics().parameter) == {"phi", "sd"}
    names = fit.confint(parameters="variance").parameter.tolist()
    assert names == rows.parameter.tolist()
    assert "Inertia" in str(fit.summary())
    assert "quadrature" in fit.methods()
    assert "gap" in str(fit.equation())
    assert "dynamic(" in fit.description.call()
    fit.report(tmp_path / "page.html")
    assert "Inertia and innovation of persons" in (tmp_path / "page.html").read_text()
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again.summary()) == str(fit.summary())
    pd.testing.assert_frame_equal(again.predict(conf_level=0.9), fit.predict(conf_level=0.9))


def test_comparison_simulation_and_refit():
    table = diaries(40, 20)
    common = {"residual": "ar1(prompt | person)", "dispersion": TIED}
    small = ranef.dynamic("mood ~ x + (1 | p | person)", table, **common)
    large = ranef.dynamic("mood ~ x + (1 | p | person)", table, inertia=TIED, **common)
    found = small.anova(large, names=["same", "own"]).tidy()
    assert found.df[1] == 3
    np.testing.assert_allclose(found.statistic[1], 2 * (large.loglik - small.loglik))
    drawn = small.simulate(2, rng=1)
    pd.testing.assert_frame_equal(drawn, small.simulate(2, rng=1))
    assert abs(drawn["sim_1"].std() / table.mood.std() - 1) < 0.4
    again = small.refit(drawn["sim_1"])
    assert abs(again.coef.iloc[1] - small.coef.iloc[1]) < 0.4
    same = small.refit(table.mood)
    np.testing.assert_allclose(same.loglik, small.loglik, atol=1e-6)


def test_questions_of_mixed_models_are_refused_in_words():
    fit = fitted()
    for question in ("r2", "cross_validate", "influence"):
        with pytest.raises(ModelError, match=r"needs the likelihood of ranef\.lmm"):
            getattr(ranef, question)(fit)
    for question in ("rank", "icc", "posterior"):
        with pytest.raises(ModelError, match=r"a dynamic mixed model.*tidy\('random'\)"):
            getattr(ranef, question)(fit)
    with pytest.raises(ModelError, match=r"plot\.random"):
        fit.plot.shrinkage()
    with pytest.raises(ModelError, match="leave out time="):
        fit.check(time="prompt")


PLAIN = "mood ~ x + (1 + x | person)"


def test_profiles_of_what_lmm_fits_too_are_those_of_lmm(agree):
    """Without effects of inertia both have one likelihood, by different paths and coordinates."""
    table = diaries(25, 12)
    one = ranef.dynamic(PLAIN, table, residual="ar1(prompt | person)").profile(conf_level=0.95)
    other = ranef.lmm(PLAIN, table, residual="ar1(prompt | person)").profile(conf_level=0.95)
    mine = one.confint().query("component == 'conditional' or parameter == 'phi'")
    theirs = other.confint().query("not (component == 'residual' and parameter == 'sd')")
    mine = mine[~mine.term.isna() | (mine.parameter == "phi")]
    assert mine.parameter.tolist() == theirs.parameter.tolist()
    for name, ours, peer in zip(
        mine.parameter, mine[["conf_low", "conf_high"]].to_numpy(),
        theirs[["conf_low", "conf_high"]].to_numpy(), strict=True,
    ):  # fmt: skip
        agree(
            "ranef.dynamic", f"profile interval without effects of inertia: {name}", ours, peer,
            peer="lmm's profile, another path", rtol=2e-3, atol=2e-3,
        )  # fmt: skip


def test_profile_of_inertia_ends_where_the_likelihood_has_fallen():
    """At an end of the interval of a coefficient of inertia, held there by brute force."""
    from scipy import optimize

    table = diaries(30, 15)
    fit = ranef.dynamic(
        "mood ~ 1 + (1 | person)", table, residual="ar1(prompt | person)",
        inertia="~ 1 + (1 | person)",
    )  # fmt: skip
    name = "inertia: (Intercept)"
    limit = fit.profile(name, conf_level=0.95).confint().iloc[0].conf_high
    own, rule = fit.estimate, fit.estimate.rule
    held = own.layout.slices["inertia"].start
    free = np.delete(np.arange(own.layout.size), held)

    def criterion(x):
        theta = np.insert(x, held, limit)
        return -own.problem.loglik(theta, rule, own.problem.nodes(theta)).sum()

    found = optimize.minimize(criterion, own.end.theta[free], method="Nelder-Mead",
                              options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000})  # fmt: skip
    np.testing.assert_allclose(2 * (found.fun + fit.loglik), 1.959964**2, atol=2e-4)
    sd = fit.profile("sd: person: inertia", conf_level=0.95)
    assert sd.plot.zeta().get_title(loc="left") == "person: sd inertia (Intercept)"
    assert sd.confint().conf_low[0] >= 0
    assert sd.tidy().zeta.is_monotonic_increasing


def test_bootstrap_draws_persons_responses_or_these_persons(tmp_path):
    table = diaries(25, 12)
    fit = ranef.dynamic(
        "mood ~ x + (1 | person)", table, residual="ar1(prompt | person/day)",
        dispersion="~ 1 + (1 | person)",
    )  # fmt: skip
    for how in ({}, {"method": "cluster"}, {"effects": "conditional"}):
        draws = fit.bootstrap(12, rng=3, **how)
        assert draws.n_failed == 0
        found = draws.tidy()
        assert found.term.tolist()[:4] == ["(Intercept)", "x", "(Intercept)", "(Intercept)"]
        assert (found.std_error > 0).all()
        assert np.all(np.abs(found.bias) < 3 * found.std_error)
    again = fit.bootstrap(12, rng=3, effects="conditional")
    np.testing.assert_array_equal(again.draws, draws.draws)
    kept = fit.bootstrap(12, rng=3).tidy().std_error[0]
    assert draws.tidy().std_error[0] < kept
    own = fit.bootstrap(4, rng=1, statistic=lambda f: f.tidy("variance").estimate.iloc[-1])
    assert own.draws.shape == (4, 1)
    with pytest.raises(ModelError, match="method='parametric'"):
        fit.bootstrap(4, method="cluster", effects="conditional")
    table = fit.confint("bootstrap", n=12, rng=1, parameters="all")
    assert len(table) == len(fit.parameters)


def test_check_passes_the_model_that_drew_and_finds_what_is_wrong():
    table = diaries(60, 30)
    call = {"residual": "ar1(prompt | person)", "inertia": TIED, "dispersion": TIED}
    right = ranef.dynamic(LEVEL, table, **call).check()
    assert right.verdict == "fine", right
    assert len(right.plot()) == 2
    rng = np.random.default_rng(1)
    skewed = table.assign(mood=np.where(rng.random(len(table)) < 0.1, 9.0, table.mood))
    bent = table.assign(mood=table.mood + 0.5 * table.x**2)
    long = np.zeros(len(table))
    ordered = table.sort_values(["person", "prompt"])
    for k in range(2, len(long)):  # what was two prompts before comes back
        long[k] = 0.6 * long[k - 2] + rng.normal()
    echo = ordered.assign(mood=long)
    for wrong, what in (
        (skewed, "innovations"),
        (bent, "trend: x"),
        (echo, "memory of two prompts"),
    ):
        fit = ranef.dynamic("mood ~ x + (1 | person)", wrong, residual="ar1(prompt | person)")
        found = [f.what for f in fit.check().of("look")]
        assert what in found, (what, found)


def test_pictures_and_tests_of_terms(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    fit = fitted()
    for name in ("residuals", "qq", "scale_location", "autocorrelation", "variogram", "fixed"):
        assert getattr(fit.plot, name)().get_title(loc="left")
    fit.plot.random()
    fit.plot.profile("x")
    assert fit.anova().tidy().term.tolist() == ["x"]
    fit.report(tmp_path / "page.html")
    assert "No evidence against the model was found" in (tmp_path / "page.html").read_text()


def test_intervals_of_means_are_shorter_than_those_of_answers():
    fit = fitted()
    new = fit.predict(conf_level=0.9)
    mean = fit.predict(conf_level=0.9, interval="mean")
    np.testing.assert_array_equal(new.estimate, mean.estimate)
    assert (mean.std_error < new.std_error).all()
    level = fit.predict(kind="typical", conf_level=0.9, interval="mean")
    assert level.std_error.gt(0).all()
    with pytest.raises(ModelError, match="kind='conditional'"):
        fit.predict(kind="typical", interval="new")


def test_command_writes_what_it_says(tmp_path):
    import json
    import os
    import subprocess
    import sys

    diaries(25, 12).to_csv(tmp_path / "diary.csv", index=False)
    call = [sys.executable, "-m", "ranef", "dynamic", "mood ~ x + (1 | p | person)", "diary.csv",
            "--residual", "ar1(prompt | person)", "--dispersion", TIED, "--out", "fit.json",
            "--out", "fit.csv", "--persons", "persons.csv", "--report", "page.html",
            "--save", "fit.ranef", "--check"]  # fmt: skip
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=os.environ)  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert "Innovation standard deviation" in done.stdout
    assert "Check of mood" in done.stdout
    found = json.loads((tmp_path / "fit.json").read_text())
    assert {"fixed", "variance", "random", "dynamics", "optimum"} <= set(found)
    assert len(found["dynamics"]) == 50
    assert len(pd.read_csv(tmp_path / "persons.csv")) == 50
    ahead = [sys.executable, "-m", "ranef", "predict", "fit.ranef", "--new", "diary.csv",
             "--interval", "new"]  # fmt: skip
    done = subprocess.run(ahead, cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=os.environ)  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    wrong = subprocess.run([*call[:7], "us(prompt | person)"], cwd=tmp_path, capture_output=True,
                           text=True, check=False, env=os.environ)  # fmt: skip
    assert wrong.returncode == 2
    assert "one first-order process" in wrong.stderr


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"residual": "us(prompt | person)"}, ModelError, "one first-order process"),
        ({"residual": "ar1(prompt)"}, ModelError, "names no person"),
        ({"residual": "ar1(prompt | day)"}, DataError, "two rows at the same prompt"),
        ({"residual": "ar1(clock | person)"}, ModelError, "whole numbers"),
        ({"inertia": "phi ~ 1"}, FormulaError, "no left side"),
        ({"inertia": "~ 0"}, ModelError, "leaves nothing"),
        ({"inertia": "~ mood"}, FormulaError, "also stands"),
        ({"inertia": "~ 1 + (1 | q | person)"}, ModelError, "ties nothing"),
        ({"inertia": "~ 1 + (1 | day)"}, ModelError, "one grouping factor"),
        ({"inertia": 3}, ModelError, "is a formula"),
        ({"link": "identity"}, ModelError, "start='given'"),
        ({"link": "logit"}, ModelError, "fisher-z"),
        ({"residual": "ou(clock | person)", "inputs": "~ x"}, ModelError, "prompt to prompt"),
        ({"inputs": "~ x + (x | person)"}, ModelError, "has an intercept"),
        ({"inputs": "~ 1"}, ModelError, "names no variable"),
        ({"residual": "ar1(day | person)"}, DataError, "two rows"),
        ({"dispersion": "~ stres"}, ranef.errors.UnknownColumnError, "stres"),
        ({"start": "anyhow"}, ModelError, "stationary"),
        ({"quadrature": 0}, ModelError, "quadrature"),
    ],
)
def test_wrong_models_are_refused_in_words(change, error, words):
    call = {"residual": "ar1(prompt | person)", **change}
    with pytest.raises(error, match=words):
        ranef.dynamic("mood ~ 1 + (1 | person)", diaries(20, 10), **call)


def test_tables_without_a_process_are_refused():
    with pytest.raises(ModelError, match="no group with two rows"):
        ranef.dynamic(
            "y ~ 1 + (1 | g)", {"y": np.arange(6.0), "g": list("aabbcc"), "t": [1, 2] * 3},
            residual="ar1(t | g/t)",
        )  # fmt: skip
    with pytest.raises(DataError, match="the same in all rows"):
        ranef.dynamic(
            "y ~ 1 + (1 | g)", {"y": np.ones(9), "g": list("aaabbbccc"), "t": [1, 2, 3] * 3},
            residual="ar1(t | g)",
        )  # fmt: skip


def test_persons_who_always_answer_the_same_have_no_standard_deviation():
    table = diaries(20, 10)
    table.loc[table.person.isin([3, 7]), "mood"] = 4.0
    call = {"residual": "ar1(prompt | person)"}
    with pytest.raises(DataError, match="person 3"):
        ranef.dynamic("mood ~ 1 + (1 | p | person)", table, dispersion=TIED, **call)
    assert ranef.dynamic("mood ~ 1 + (1 | person)", table, **call).optimum.converged
    with pytest.raises(DataError, match="has one level"):
        ranef.dynamic("mood ~ 1 + (1 | person)", table[table.person == 2], **call)


@pytest.mark.study
def test_coverage_of_intervals_and_recovery():
    """100 diaries of 80 persons and 40 prompts: 95% intervals of all parameters."""
    inside, bias = [], []
    for seed in range(100):
        table = diaries(80, 40, seed=1000 + seed)
        fit = ranef.dynamic(
            LEVEL, table, residual="ar1(prompt | person)", inertia=TIED, dispersion=TIED,
            quadrature=9, n_jobs=1,
        )  # fmt: skip
        fixed, random = fit.tidy(), fit.tidy("variance").iloc[:10]
        truth = np.r_[TRUTH["level"], TRUTH["slope"], TRUTH["eta"], TRUTH["log_sd"], SDS, [0.4] * 6]
        found = pd.concat([fixed, random], ignore_index=True)
        inside.append((found.conf_low <= truth) & (truth <= found.conf_high))
        bias.append(found.estimate - truth)
    share, shift = np.mean(inside, axis=0), np.mean(bias, axis=0)
    assert np.all(share[:4] > 0.90)
    assert np.all(share > 0.86)
    assert np.all(np.abs(shift[:4]) < 0.03)
    assert np.all(np.abs(shift[4:8]) < 0.03)


def by_the_clock(unit: float) -> dict[str, np.ndarray]:
    """Rows about 1.6 units apart."""
    rng = np.random.default_rng(0)
    phi, time = 0.6, np.cumsum(rng.uniform(0.3, 3.0, size=(20, 15)), axis=1)
    D = rng.normal(size=(20, 15))
    for t in range(1, 15):
        fade = phi ** (time[:, t] - time[:, t - 1])
        D[:, t] = fade * D[:, t - 1] + np.sqrt(1 - fade**2) * D[:, t]
    level = rng.normal(size=20)[:, None]
    return {"person": np.repeat(np.arange(20), 15), "time": (unit * time).ravel(),
            "y": (level + D).ravel()}  # fmt: skip


CLOCK = {"formula": "y ~ 1 + (1 | person)", "residual": "ou(time | person)"}


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_by_the_clock_in_small_units():
    """An inertia over one unit below 1e-300 overflowed, in predictions too."""
    data, usual = by_the_clock(2e-3), by_the_clock(1.0)
    small = ranef.dynamic(**CLOCK, data=data)
    assert small.loglik == pytest.approx(ranef.dynamic(**CLOCK, data=usual).loglik, abs=1e-6)
    assert np.isfinite(small.predict(data)).all()
    assert small.tidy("variance")["estimate"].notna().all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("unit", [1e-5, 1e13])
def test_times_so_near_or_far_that_no_inertia_can_be_written(unit):
    with pytest.raises(ModelError, match=r"apart in time.*give the time in units"):
        ranef.dynamic(**CLOCK, data=by_the_clock(unit))
