"""Power by simulation: against closed forms, against simulation by hand, and its arguments."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef
from ranef.errors import DataError, ModelError
from ranef.questions.power.layout import read_layout
from ranef.questions.power.numbers import monotone, share_interval, size_reaching

mpl.use("Agg")

PAIRS = {"g": 12, "x": [0, 1]}
MODEL = {"fixed": {"x": 1.0}, "sd": {"g": 1.0}, "sigma": 1.0, "test": "x"}


def t_power(effect: float, error: float, df: float) -> float:
    """Power of a two-sided t test at 5%."""
    reach = stats.t.ppf(0.975, df)
    return float(
        stats.nct.sf(reach, df, effect / error) + stats.nct.cdf(-reach, df, effect / error)
    )


def holds(found: ranef.Power, expected, conf_level: float = 0.9999) -> None:
    """Every power is within its Monte Carlo interval of what it should be."""
    for share, wanted in zip(found.power.ravel(), np.ravel(expected), strict=True):
        low, high = share_interval(round(share * found.n), found.n, conf_level)
        assert low <= wanted <= high, (share, wanted)


# --- against closed forms


def test_a_paired_t_test():
    found = ranef.power("y ~ x + (1 | g)", PAIRS, **MODEL, n=400, rng=1)
    holds(found, t_power(1.0, np.sqrt(2 / 12), 11))
    assert found.n_failed.tolist() == [[0]]


def test_a_cluster_randomised_trial_and_its_type_one_error():
    """The mean of a cluster has variance sd^2 + sigma^2 / m; t on clusters - 2 degrees."""
    design = {"c": 10, "i": 8, "arm": {"c": ["a", "b"]}}
    tests = {"effect": "arm", "truth": lambda fit: fit.test(["armb"], rhs=[1.2]).p_value}
    found = ranef.power("y ~ arm + (1 | c)", design, fixed={"armb": 1.2}, sd={"c": 0.6}, sigma=1.0,
                        test=tests, n=400, rng=2)  # fmt: skip
    error = np.sqrt(2 / 5 * (0.36 + 1 / 8))
    holds(found, [t_power(1.2, error, 8), 0.05])
    assert found.tidy()["test"].tolist() == ["effect", "truth"]


@pytest.mark.study
def test_closed_forms_closely():
    found = ranef.power("y ~ x + (1 | g)", PAIRS, **MODEL, vary={"g": [6, 12, 24]}, n=4000, rng=1)
    holds(found, [t_power(1.0, np.sqrt(2 / g), g - 1) for g in (6, 12, 24)], 0.999)
    none = ranef.power("y ~ x + (1 | g)", PAIRS, **{**MODEL, "fixed": {}}, n=10_000, rng=3)
    holds(none, 0.05, 0.999)


@pytest.mark.study
def test_by_hand_a_growth_study_with_dropout():
    """The same study drawn and fitted without the function under test, 1,000 times each."""
    found = ranef.power(
        "y ~ day * arm + (day | person)",
        {"person": 40, "day": range(5), "arm": {"person": ["a", "b"]}},
        fixed={"day:armb": 0.35}, sd={"person": [1.0, 0.3]}, corr={"person": 0.2}, sigma=1.0,
        test="day:arm", dropout={"day": 0.4}, n=1000, rng=3,
    )  # fmt: skip
    rng, rejected = np.random.default_rng(8), []
    G = np.array([[1.0, 0.06], [0.06, 0.09]])
    for _ in range(1000):
        person, day = np.repeat(np.arange(40), 5), np.tile(np.arange(5.0), 40)
        b = rng.multivariate_normal([0, 0], G, size=40)[person]
        y = 0.35 * day * (person % 2) + b[:, 0] + b[:, 1] * day + rng.normal(size=200)
        stays = rng.uniform(size=40)[person] < 1 - 0.1 * day
        arm = np.where(person % 2, "b", "a")
        data = pd.DataFrame({"y": y, "day": day, "arm": arm, "person": person})[stays]
        fit = ranef.lmm("y ~ day * arm + (day | person)", data)
        rejected.append(fit.test(["day:armb"]).p_value < 0.05)
    by_hand = np.mean(rejected)
    error = np.sqrt(2 * by_hand * (1 - by_hand) / 1000)
    assert abs(found.power[0, 0] - by_hand) < 3.5 * error


DIARY = {"person": 20, "day": 4, "prompt": 4, "x": {"row": "normal"}, "arm": {"person": ["a", "b"]}}
DIARY_MODEL = {
    "fixed": {"x": 0.12, "armb": 0.9}, "sd": {"person": 0.6, "day:person": 0.4}, "sigma": 1.0,
    "test": {"x": "x", "arm": "arm"}, "vary": {"person": [20, 40]},
}  # fmt: skip


def test_a_diary_of_prompts_in_days_in_persons():
    """The means of persons have variance .36 + .16 / days + 1 / prompts; t on persons - 2."""
    found = ranef.power("y ~ x + arm + (1 | person/day)", DIARY, **DIARY_MODEL, n=60, rng=4)
    error = [np.sqrt(4 / n * (0.36 + 0.16 / 4 + 1 / 16)) for n in (20, 40)]
    arm = found.tidy().query("test == 'arm'")["power"].to_numpy()
    for share, e, df in zip(arm, error, (18, 38), strict=True):
        low, high = share_interval(round(share * 60), 60, 0.9999)
        assert low <= t_power(0.9, e, df) <= high


def differs_by_chance(one, other, n: int) -> None:
    both = (np.ravel(one) + np.ravel(other)) / 2
    error = np.sqrt(2 * both * (1 - both) / n)
    assert np.all(np.abs(np.ravel(one) - np.ravel(other)) < 3.5 * error), (one, other)


@pytest.mark.study
def test_by_hand_a_diary_of_prompts_in_days_in_persons():
    """600 diaries of each size, drawn and fitted without the function under test."""
    found = ranef.power("y ~ x + arm + (1 | person/day)", DIARY, **DIARY_MODEL, n=600, rng=4)
    rng, by_hand = np.random.default_rng(99), []
    for n in (20, 40):
        hits = np.zeros(2)
        for _ in range(600):
            p, d = np.repeat(np.arange(n), 16), np.tile(np.repeat(np.arange(4), 4), n)
            x = rng.normal(size=16 * n)
            y = 0.12 * x + 0.9 * (p % 2) + 0.6 * rng.normal(size=n)[p] + rng.normal(size=16 * n)
            y += 0.4 * rng.normal(size=4 * n)[4 * p + d]
            data = {"y": y, "x": x, "arm": np.where(p % 2, "b", "a"), "person": p, "day": d}
            fit = ranef.lmm("y ~ x + arm + (1 | person/day)", data)
            hits += fit.tidy()["p_value"].to_numpy()[1:] < 0.05
        by_hand.append(hits / 600)
    differs_by_chance(found.power, by_hand, 600)


@pytest.mark.study
def test_by_hand_a_trial_by_visit_with_dropout():
    """Correlations of a half, of whom 15% and 30% are gone at the second and third visit."""
    found = ranef.power(
        "y ~ arm * factor(visit)", {"id": 50, "visit": 3, "arm": {"id": ["p", "d"]}},
        fixed={"armd:factor(visit)3": 0.6}, sigma=1.0, corr={"residual": 0.5},
        residual="us(visit | id)", test="armd:factor(visit)3", df="kenward-roger",
        dropout={"visit": 0.3}, n=600, rng=1,
    )  # fmt: skip
    rng, hits = np.random.default_rng(5), 0
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(3))
    for _ in range(600):
        y = rng.normal(size=(50, 3)) @ root.T
        y[1::2, 2] += 0.6
        there = rng.uniform(size=(50, 1)) < [1, 0.85, 0.7]
        i, visit = np.nonzero(there)
        arm = pd.Categorical(np.where(i % 2, "d", "p"), ["p", "d"])
        data = pd.DataFrame({"y": y[there], "arm": arm, "visit": visit + 1, "id": i})
        fit = ranef.lmm("y ~ arm * factor(visit)", data, residual="us(visit | id)")
        hits += fit.tidy(df="kenward-roger")["p_value"].iloc[-1] < 0.05
    differs_by_chance(found.power, hits / 600, 600)


# --- what is drawn


def test_the_same_studies_for_any_number_of_threads():
    call = {"design": PAIRS, **MODEL, "n": 60, "rng": 5}
    one, two = (ranef.power("y ~ x + (1 | g)", n_jobs=k, **call) for k in (1, 2))
    np.testing.assert_array_equal(one.studies[0].rejected, two.studies[0].rejected)


def test_parameters_are_as_stated():
    """Moments of what the studies estimate, of slopes with a correlation."""
    kept = []

    def keep(fit):
        variance = fit.tidy("variance")["estimate"].to_numpy()
        kept.append([*fit.coefficients, *variance[:2] ** 2, variance[2] * variance[0] * variance[1],
                     variance[3] ** 2])  # fmt: skip
        return False

    ranef.power(
        "y ~ x + (x | g)", {"g": 40, "x": [0, 1, 2, 3], "i": 3},
        fixed={"(Intercept)": 2.0, "x": -0.5}, sd={"g": {"(Intercept)": 1.0, "x": 0.5}},
        corr={"g": -0.4}, sigma=0.8, test=keep, n=120, rng=6,
    )  # fmt: skip
    values = np.array(kept)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    wanted = [2.0, -0.5, 1.0, 0.25, -0.2, 0.64]
    assert np.all(np.abs(values.mean(axis=0) - wanted) < 4.5 * error)


def test_generalised_models_and_columns_that_are_drawn():
    found = ranef.power(
        "y ~ x + (1 | g)", {"g": 15, "i": 6, "x": {"row": "normal"}},
        fixed={"(Intercept)": 0.5, "x": 1.5}, sd={"g": 0.5}, family="binomial", test="x", n=30,
        rng=1,
    )  # fmt: skip
    assert found.power[0, 0] > 0.5
    counts = ranef.power(
        "y ~ x + (1 | g)", {"g": 10, "x": [0, 1, 2]}, family="nbinom2", test="x", n=20, rng=1,
        fixed={"(Intercept)": 1.0, "x": 0.8, "dispersion: (Intercept)": 2.0}, sd={"g": 0.3},
    )  # fmt: skip
    assert counts.power[0, 0] > 0.5


def test_structures_are_stated_by_their_parameters():
    phi = []

    def keep(fit):
        phi.append(fit.tidy("variance")["estimate"][1])
        return False

    ranef.power("y ~ 1 + ar1(0 + day | g)", {"g": 60, "day": 6}, sd={"g": 1.0}, corr={"g": 0.6},
                sigma=0.3, test=keep, n=40, rng=4)  # fmt: skip
    assert np.mean(phi) == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize(
    ("model", "stated", "wanted"),
    [
        (
            {"residual": "us(visit | id)"},
            {"sd": {"residual": [1.0, 1.3, 1.6]}, "corr": {"residual": 0.5}},
            [1.0, 1.3, 1.6, 0.5, 0.5, 0.5],
        ),
        ({"residual": "ar1(visit | id)"}, {"corr": {"residual": 0.6}}, [1.0, 0.6]),
        (
            {"residual": "hetar1(visit | id)"},
            {"sd": {"residual": [1.3, 1.6]}, "corr": {"residual": 0.6}},
            [1.0, 1.3, 1.6, 0.6],
        ),
        ({"dispersion": "~ arm"}, {"sd": {"id": 1.0, "residual": [2.0]}}, [1.0, 1.0, 2.0]),
    ],
)
def test_residuals_with_a_structure_are_stated(model, stated, wanted):
    """A trial by visit needs no random effect."""
    kept = []

    def keep(fit):
        kept.append(fit.tidy("variance")["estimate"].to_numpy())
        return True

    formula = "y ~ arm + (1 | id)" if "dispersion" in model else "y ~ arm"
    design = {"id": 60, "visit": 3, "arm": {"id": ["p", "d"]}}
    ranef.power(formula, design, sigma=1.0, **stated, **model, test=keep, n=25, rng=1)
    error = np.std(kept, axis=0, ddof=1) / 5
    assert np.all(np.abs(np.mean(kept, axis=0) - wanted) < 4.5 * error + 0.02)


def test_a_trial_by_visit_with_dropout():
    found = ranef.power(
        "y ~ arm * factor(visit)", {"id": 60, "visit": 3, "arm": {"id": ["p", "d"]}},
        fixed={"armd:factor(visit)3": 1.5}, sigma=1.0, corr={"residual": 0.5},
        residual="us(visit | id)", test="armd:factor(visit)3", df="kenward-roger",
        dropout={"visit": 0.2}, n=25, rng=1,
    )  # fmt: skip
    assert found.power[0, 0] > 0.8
    assert found.n_failed[0, 0] == 0
    with pytest.raises(ModelError, match="state the residuals' correlations"):
        ranef.power("y ~ arm", {"id": 60, "visit": 3, "arm": {"id": ["p", "d"]}}, sigma=1.0,
                    residual="us(visit | id)", test="armd", n=5)  # fmt: skip
    with pytest.raises(ModelError, match="the residuals have no structure"):
        ranef.power("y ~ x + (1 | g)", PAIRS, **MODEL, corr={"residual": 0.4}, n=5)


@pytest.mark.parametrize("name", ["day:person", "person:day", "person/day", "1 | day:person"])
def test_nested_groups_are_named_either_way_round(name):
    """The same study by every name, and a level 1 and a level 2 predictor in it."""
    design = {"person": 8, "day": 3, "prompt": 3, "x": {"row": "normal"}, "z": {"person": "normal"}}
    found = ranef.power(
        "y ~ x + z + (1 | person/day)", design, fixed={"x": 0.4}, sd={"person": 0.5, name: 0.3},
        sigma=1.0, test="x", n=10, rng=2,
    )  # fmt: skip
    assert found.tidy()["power"].tolist() == [0.8]


def test_layouts():
    layout = read_layout(
        {"person": 6, "day": 3, "dose": ["low", "high"], "arm": {"person": ["p", "d"]},
         "mood": {"person/day": lambda rng, size: np.arange(size)}},
        {"day": [1.0, 0.5, 0.5]}, 0.25,
    )  # fmt: skip
    whole = layout.table(np.random.default_rng(1), complete=True)
    assert len(whole) == 36
    assert whole["arm"].cat.categories.tolist() == ["p", "d"]
    assert (whole.groupby("person")["arm"].nunique() == 1).all()
    assert whole["mood"].tolist()[:4] == [0, 0, 1, 1]
    rng = np.random.default_rng(2)
    rows = [len(layout.table(rng)) for _ in range(400)]
    assert np.mean(rows) == pytest.approx(36 * 0.75 * 2 / 3, abs=4 * np.std(rows) / 20)
    gone = read_layout({"person": 50, "visit": 4}, {"visit": 0.6}).table(rng)
    there = gone.groupby("person", observed=True)["visit"]
    assert (there.max() == there.size()).all()
    assert 1 < there.size().mean() < 4
    evenly = read_layout({"person": 4, "visit": 5}, {"visit": 0.4}).present["visit"]
    np.testing.assert_allclose(evenly, [1.0, 0.9, 0.8, 0.7, 0.6])


# --- from a fit


@pytest.fixture(scope="module")
def sleep():
    return ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))


def test_from_a_fit(sleep):
    """18 persons: the slope is a mean of normal values, variance sd^2 + sigma^2 / Sxx."""
    sds = sleep.tidy("variance")["estimate"]
    error = np.sqrt((sds[1] ** 2 + sds[3] ** 2 / 82.5) / np.array([9, 18]))
    found = ranef.power(sleep, test="Days", fixed={"Days": 4.0}, vary={"Subject": [9, 18]}, n=300,
                        rng=1)  # fmt: skip
    holds(found, [t_power(4.0, e, df) for e, df in zip(error, (8, 17), strict=True)])
    assert found.tidy()["rows"].tolist() == [90, 180]


def test_a_fit_with_another_design(sleep):
    found = ranef.power(sleep, {"Subject": 18, "Days": 10}, test="Days", fixed={"Days": 4.0},
                        n=150, rng=2)  # fmt: skip
    sds = sleep.tidy("variance")["estimate"]
    holds(found, t_power(4.0, np.sqrt((sds[1] ** 2 + sds[3] ** 2 / 82.5) / 18), 17))
    again = ranef.power(sleep, test="Days", sigma=60.0, fixed={"Days": 4.0}, n=150, rng=2)
    assert again.power[0, 0] < found.power[0, 0]


# --- the answer


def test_curves_and_the_smallest_design():
    call = dict(MODEL, vary={"x": [0.5, 1.0], "g": [6, 12, 24, 48]}, n=150, rng=3)
    found = ranef.power("y ~ x + (1 | g)", PAIRS | {"x": [0, 1]}, **{**call, "vary": {
        "g": [6, 12, 24, 48]}})  # fmt: skip
    exact = [t_power(1.0, np.sqrt(2 / g), g - 1) for g in range(2, 60)]
    needed = 2 + int(np.argmax(np.array(exact) >= 0.8))
    row = found.smallest(0.8).iloc[0]
    assert row["conf_low"] <= needed <= row["conf_high"]
    assert row["conf_low"] <= row["g"] <= row["conf_high"]
    table = found.tidy()
    assert table.columns.tolist() == [
        "g", "test", "rows", "n", "n_failed", "power", "conf_low", "conf_high",
    ]  # fmt: skip
    ax = found.plot()
    assert ax.get_xlabel() == "g"
    assert "Power at level 0.05 against g. from" in found.alt_text()
    assert "Share of 150 simulated studies" in repr(found)
    assert np.isnan(found.smallest(0.99999)["g"][0])


def test_effects_vary_too():
    found = ranef.power("y ~ x + (1 | g)", {"g": 12, "t": [0, 1], "x": {"row": "normal"}},
                        **{**MODEL, "fixed": {}}, vary={"g": [6, 12], "x": [0.0, 3.0]}, n=40,
                        rng=1)  # fmt: skip
    assert found.tidy()[["g", "x"]].to_numpy().tolist() == [[6, 0], [6, 3], [12, 0], [12, 3]]
    assert found.power[1, 0] > found.power[0, 0]
    assert len(found.smallest(0.5, over="g")) == 2


def test_studies_that_fail_are_counted_and_do_not_reject():
    calls = iter(range(100))

    def test(fit):
        if next(calls) % 4 == 0:
            raise ModelError("no luck")
        return True

    found = ranef.power("y ~ x + (1 | g)", PAIRS, **{**MODEL, "test": test}, n=40, rng=1, n_jobs=1)
    assert found.n_failed[0, 0] == 10
    assert found.power[0, 0] == 0.75
    assert found.reasons().most_common() == [("no luck", 10)]
    assert "most often: no luck" in repr(found)
    with pytest.raises(ModelError, match="every simulated study failed; the first: the test has"):
        ranef.power("y ~ x + (1 | g)", PAIRS, **{**MODEL, "test": lambda f: np.nan}, n=5, rng=1)
    with pytest.raises(ZeroDivisionError):
        ranef.power("y ~ x + (1 | g)", PAIRS, **{**MODEL, "test": lambda f: 1 / 0}, n=5, rng=1)


def test_numbers():
    assert share_interval(0, 50, 0.95)[0] == 0.0
    assert share_interval(50, 50, 0.95)[1] == 1.0
    np.testing.assert_allclose(monotone(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 2.0])), 1.75)
    sizes = np.array([10.0, 20.0, 40.0, 80.0])
    exact = stats.norm.cdf(0.4 * np.sqrt(sizes) - 1.96)
    needed = ((stats.norm.ppf(0.8) + 1.96) / 0.4) ** 2
    assert size_reaching(sizes, exact, np.ones(4), 0.8) == pytest.approx(needed, rel=1e-9)
    assert np.isnan(size_reaching(sizes, exact * 0.5, np.ones(4), 0.8))
    assert size_reaching(sizes, np.full(4, 0.9), np.ones(4), 0.8) == 10.0


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"fixed": {"z": 1.0}}, ModelError, "fixed: the model has no coefficient 'z'"),
        ({"sd": {}}, ModelError, r"state the standard deviation of \(1 \| g\)"),
        ({"sd": {"h": 1.0}}, ModelError, "sd: no random term has the group or label 'h'"),
        ({"sd": {"g": -1.0}}, ModelError, "must be 0 or more"),
        ({"sd": {"g": [1.0, 2.0]}}, ModelError, "has 1 standard deviations"),
        ({"sigma": None}, ModelError, "state the residual standard deviation"),
        ({"test": "w"}, ModelError, "test: the model has no coefficient 'w'"),
        ({"test": 3}, ModelError, "test must name coefficients"),
        (
            {"vary": {"w": [1, 2]}},
            ModelError,
            r"'w' is neither a count of the design \('g', 'x'\) nor a coefficient \('\(Inter",
        ),
        ({"vary": {"gg": [6]}}, ModelError, "vary: 'gg' is neither .*; did you mean 'g'"),
        ({"dropout": {"t": 0.2}}, DataError, "dropout: there is no count 't'"),
        ({"missing": 1.5}, DataError, "missing must be a share"),
        ({"design": {"g": 0, "x": [0, 1]}}, DataError, "must be a whole number above 0"),
        ({"design": {"g": 9, "x": {"h": "normal"}}}, DataError, "units of 'h'"),
        ({"design": {"g": 9, "x": {"g": "gaussian"}}}, DataError, "drawn by 'gaussian'"),
        ({"alpha": 2.0}, ModelError, "alpha must lie between 0 and 1"),
        ({"df": "exact"}, ModelError, "df='exact' is not a known method"),
        ({"design": None}, ModelError, "needs a design"),
    ],
)
def test_arguments_that_are_wrong(change, kind, message):
    call = {"design": PAIRS, **MODEL, "n": 5, "rng": 1, **change}
    with pytest.raises(kind, match=message):
        ranef.power("y ~ x + (1 | g)", **call)


def test_what_only_one_column_can_hold():
    with pytest.raises(ModelError, match="is made of columns"):
        ranef.power("cbind(s, f) ~ x + (1 | g)", PAIRS, **{**MODEL, "sigma": None},
                    family="binomial", n=5)  # fmt: skip
    found = ranef.power("y ~ x + (1 | g)", PAIRS, **MODEL, n=5, rng=1)
    with pytest.raises(ModelError, match="needs designs of several sizes"):
        found.smallest()
    with pytest.raises(ModelError, match="needs designs of several sizes"):
        found.plot()
