"""The compiled families: values and derivatives against mpmath, and what must always hold."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranef import _core

PATH = Path(__file__).parent / "reference" / "families.json"
ROWS = json.loads(PATH.read_text(encoding="utf-8"))["rows"]
NAMES = sorted({row["name"] for row in ROWS})

COUNTS = ["poisson", "nbinom1", "nbinom2", "nbinom12", "compois", "genpois", "bell"]
TRUNCATED = [f"truncated_{name}" for name in COUNTS]
POSITIVE = ["Gamma", "inverse.gaussian", "lognormal"]


def make(name, link, zero=False, categories=4):
    return _core.make_family(name, link, zero, categories if name == "multinomial" else 0)


def evaluate(family, y, extra, eta, order, active):
    extra = None if extra is None else np.atleast_1d(np.asarray(extra, dtype=float))
    eta = np.asarray(eta, dtype=float)
    eta = eta[:, None] if eta.ndim == 1 else eta
    return family.evaluate(
        np.atleast_1d(np.asarray(y, dtype=float)), extra, np.ascontiguousarray(eta), order, active
    )


@pytest.mark.parametrize("name", NAMES)
def test_mpmath(name):
    """Values within 1e-12 of the sum of the terms' magnitudes, derivatives within 1e-9.

    A derivative that is zero, or all but, is held to 1e-13 of that sum.
    """
    for row in (r for r in ROWS if r["name"] == name):
        eta = row["eta"]
        family = make(name, row["link"], row["zero"], len(eta) + 1)
        got = evaluate(family, row["y"], row["extra"], eta, 3, list(range(len(eta))))[:, 0]
        want, scale = np.array(row["values"]), row["scale"]
        where = {k: row[k] for k in ("name", "link", "zero", "y", "extra", "eta")}
        if np.isinf(want[0]):
            assert got[0] == want[0], where
            continue
        assert abs(got[0] - want[0]) <= 1e-12 * scale + 1e-300, (where, got[0], want[0])
        error = np.abs(got[1:] - want[1:])
        allowed = 1e-9 * np.abs(want[1:]) + 1e-13 * scale + 1e-300
        assert np.all(error <= allowed), (where, got[1:], want[1:])


def test_reference_has_every_family():
    assert {*COUNTS, *TRUNCATED, *POSITIVE} < set(NAMES)
    assert len(NAMES) == 28


PEERS = json.loads(PATH.with_name("families_peers.json").read_text(encoding="utf-8"))["fits"]


@pytest.mark.parametrize("fit", PEERS, ids=lambda fit: f"{fit['name']}-{fit['link']}-{fit['zero']}")
def test_peers(fit):
    """glmmTMB, ordinal and nnet: the log-likelihood at their estimates is theirs."""
    family = make(fit["name"], fit["link"], fit["zero"], len(fit["eta"]) + 1)
    extra = fit["extra"] or None
    value = evaluate(family, fit["y"], extra, fit["eta"], 0, [])[0].sum()
    assert value == pytest.approx(fit["loglik"], abs=1e-9)


# --- the same function whatever is asked ----------------------------------------------------------

LINKS = {
    "log": [*COUNTS, *TRUNCATED, *POSITIVE, "tweedie"],
    "logit": ["binomial", "betabinomial", "beta", "ordbeta", "cumulative", "multinomial"],
    "identity": ["gaussian", "censored", "t"],
}
CASES = [(name, link) for link, names in LINKS.items() for name in names]
OTHERS = [("binomial", link) for link in ("probit", "cloglog", "cauchit")]
OTHERS += [("cumulative", link) for link in ("probit", "cloglog", "cauchit")]
OTHERS += [("poisson", "sqrt"), ("Gamma", "inverse"), ("gaussian", "log")]


def response(name, rng, n):
    """Responses that the family may have, both ends among them, and their extra."""
    if name in ("binomial", "betabinomial"):
        trials = rng.integers(1, 12, n).astype(float)
        return np.floor(rng.random(n) * (trials + 1)), trials
    if name == "cumulative":
        return rng.integers(0, 4, n).astype(float), np.full(n, 4.0)
    if name == "multinomial":
        return rng.integers(0, 4, n).astype(float), None
    if name == "beta":
        return rng.uniform(0.01, 0.99, n), None
    if name == "ordbeta":
        return np.clip(rng.uniform(-0.3, 1.3, n), 0, 1), None
    if name in POSITIVE:
        return rng.gamma(2.0, 1.0, n), None
    if name == "tweedie":
        return np.maximum(rng.normal(0.5, 1.0, n), 0), None
    if name == "censored":
        y = rng.normal(size=n)
        upper = y + rng.integers(0, 2, n) * rng.gamma(1.0, 1.0, n)
        return np.where(rng.random(n) < 0.2, -np.inf, y), np.where(
            rng.random(n) < 0.2, np.inf, upper
        )
    if name in ("gaussian", "t"):
        return rng.normal(size=n), None
    return rng.poisson(2.5, n) + float(name in TRUNCATED), None


def predictors(name, rng, n, count):
    eta = rng.normal(0.2, 0.5, (count, n))
    if name == "cumulative":
        eta[1] = eta[2] + rng.gamma(1.0, 1.0, n)
    if name == "genpois" or name.endswith("_genpois"):
        eta[1] = np.abs(eta[1])
    return eta


@pytest.mark.parametrize(("name", "link"), [*CASES, *OTHERS])
def test_any_subset_and_order(name, link):
    """Every set of active predictors at every order gives entries of the full answer."""
    rng = np.random.default_rng(1)
    family = make(name, link)
    n, m = 40, family.predictors
    (y, extra), eta = response(name, rng, n), np.abs(predictors(name, rng, n, m))
    if name == "cumulative":
        eta[1] = eta[2] + 0.5
    full = evaluate(family, y, extra, eta, 3, list(range(m)))
    keys = [c for k in range(4) for c in itertools.combinations_with_replacement(range(m), k)]
    place = {key: i for i, key in enumerate(keys)}
    for size in range(m + 1):
        for active in itertools.combinations(range(m), size):
            for order in range(4):
                got = evaluate(family, y, extra, eta, order, list(active))
                wanted = [
                    place[c]
                    for k in range(order + 1)
                    for c in itertools.combinations_with_replacement(active, k)
                ]
                assert got.shape == (len(wanted), n)
                np.testing.assert_allclose(got, full[wanted], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("name", "link"), CASES)
def test_rows_do_not_matter_to_each_other(name, link):
    """The same bits for a row alone, among others, and on any number of threads."""
    rng = np.random.default_rng(2)
    family = make(name, link)
    n, m = 700, family.predictors
    (y, extra), eta = response(name, rng, n), predictors(name, rng, n, m)
    y = np.ascontiguousarray(y)
    active = list(range(m))
    one = family.evaluate(y, extra, eta, 3, active, 1)
    np.testing.assert_array_equal(one, family.evaluate(y, extra, eta, 3, active, 2))
    mean = family.evaluate(y, extra, eta, 2, [0], 1)
    for i in (0, 255, 256, 511, 699):
        part = None if extra is None else extra[i : i + 1]
        alone = evaluate(family, y[i : i + 1], part, eta[:, i : i + 1], 2, [0])
        np.testing.assert_array_equal(alone[:, 0], mean[:, i])


EXTREMES = [-np.inf, -800.0, -700.0, -40.0, -1.0, 0.0, 1.0, 40.0, 700.0, 800.0, np.inf, np.nan]
FAST = [case for case in [*CASES, *OTHERS] if "compois" not in case[0]]


@pytest.mark.parametrize(("name", "link"), FAST)
def test_never_nan(name, link):
    """-infinity where there is no density; never NaN, wherever the predictors are."""
    family = make(name, link)
    m = family.predictors
    grid = np.array(list(itertools.product(EXTREMES, repeat=min(m, 3)))).T
    if m > 3:
        grid = np.vstack([grid, np.zeros(grid.shape[1])])
    rng = np.random.default_rng(3)
    y, extra = response(name, rng, grid.shape[1])
    for active in ([0], list(range(m))):
        out = evaluate(family, y, extra, grid, 3, active)
        assert not np.isnan(out).any()
        assert np.all(out[0] < np.inf)
        assert np.all(out[1:, np.isneginf(out[0])] == 0)


@pytest.mark.parametrize("name", ["compois", "truncated_compois"])
def test_conway_maxwell_never_nan(name):
    family = make(name, "log")
    for mean, phi, y in itertools.product(
        (-800.0, -40.0, 0.5, 9.0, np.nan), (-6.0, 0.3, 3.0), (1, 7)
    ):
        out = evaluate(family, y, None, [mean, phi], 3, [0, 1])
        assert not np.isnan(out).any()


@pytest.mark.parametrize("name", ["poisson", "nbinom2", "Gamma", "truncated_nbinom1", "tweedie"])
def test_zero_inflation_any_subset(name):
    rng = np.random.default_rng(4)
    family = make(name, "log", True)
    n, m = 30, family.predictors
    y, _ = response(name, rng, n)
    y[::3] = 0
    eta = rng.normal(size=(m, n))
    full = evaluate(family, y, None, eta, 3, list(range(m)))
    place = {
        c: i
        for i, c in enumerate(
            c for k in range(4) for c in itertools.combinations_with_replacement(range(m), k)
        )
    }
    for active in ([], [0], [m - 1], [0, m - 1]):
        for order in range(4):
            got = evaluate(family, y, None, eta, order, active)
            wanted = [
                place[c]
                for k in range(order + 1)
                for c in itertools.combinations_with_replacement(active, k)
            ]
            np.testing.assert_allclose(got, full[wanted], rtol=1e-11, atol=1e-11)


# --- totals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COUNTS, *TRUNCATED])
@pytest.mark.parametrize("zero", [False, True])
def test_counts_sum_to_one(name, zero):
    family = make(name, "log", zero)
    y = np.arange(4000.0)
    for mean, phi in itertools.product((-3.0, 0.4, 3.0), (0.3, 1.5)):
        eta = np.array([mean, phi, -0.7, -0.7])
        eta = eta[[0, 2]] if "poisson" in name else eta
        eta = np.repeat(eta[: family.predictors, None], y.size, axis=1)
        total = np.exp(evaluate(family, y, None, eta, 0, [])[0]).sum()
        assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_categories_sum_to_one(link, data):
    """Thresholds far out in one tail, or close together, included."""
    eta = data.draw(st.floats(-30, 30))
    first = data.draw(st.floats(-30, 30))
    gaps = data.draw(st.lists(st.floats(1e-6, 20), min_size=1, max_size=4))
    cuts = first + np.concatenate([[0], np.cumsum(gaps)])
    y = np.arange(len(cuts) + 1.0)
    upper, lower = np.append(cuts, 0), np.insert(cuts, 0, 0)
    family = make("cumulative", link)
    out = evaluate(family, y, np.full(y.size, float(y.size)), [eta + 0 * y, upper, lower], 2, [0])
    assert np.exp(out[0]).sum() == pytest.approx(1, abs=1e-9)
    if link != "cauchit":
        assert np.all(out[2] <= 1e-12)


def test_thresholds_out_of_order_have_no_density():
    for link in ("logit", "probit", "cloglog", "cauchit"):
        family = make("cumulative", link)
        for lower in (0.5, 0.7):
            out = evaluate(family, 1.0, 3.0, [0.0, 0.5, lower], 3, [0, 1, 2])
            assert np.isneginf(out[0, 0])
            assert not out[1:].any()


@pytest.mark.parametrize("name", ["gaussian", "t", *POSITIVE, "beta", "tweedie", "ordbeta"])
def test_densities_integrate_to_one(name):
    from scipy.integrate import quad

    link = dict((n, k) for k, names in LINKS.items() for n in names)[name]
    family = make(name, link)
    eta = np.array([0.3, -0.2, 0.6, 0.4])[: family.predictors]

    def density(v):
        return float(np.exp(evaluate(family, v, None, eta, 0, [])[0, 0]))

    low, high = {"gaussian": (-np.inf, np.inf), "t": (-np.inf, np.inf)}.get(name, (0, np.inf))
    high = 1 if name in ("beta", "ordbeta") else high
    total = quad(density, low, high, epsabs=1e-11, limit=400)[0]
    total += density(0.0) if name in ("tweedie", "ordbeta") else 0
    total += density(1.0) if name == "ordbeta" else 0
    assert total == pytest.approx(1, abs=1e-7)


# --- limits that are other families ---------------------------------------------------------------


def test_limits():
    """Where a dispersion ends a family is a simpler one, to the last digits."""
    y, eta = np.arange(30.0), np.full(30, 1.2)
    poisson = evaluate(make("poisson", "log"), y, None, [eta], 2, [0])
    for name, phi in (("nbinom1", -40.0), ("nbinom2", 40.0), ("genpois", 0.0), ("compois", 0.0)):
        got = evaluate(make(name, "log"), y, None, [eta, 0 * y + phi], 2, [0])
        np.testing.assert_allclose(got, poisson, rtol=1e-12, atol=1e-12)
    trials = np.full(30, 40.0)
    binomial = evaluate(make("binomial", "logit"), y, trials, [eta], 2, [0])
    got = evaluate(make("betabinomial", "logit"), y, trials, [eta, 0 * y + 40], 2, [0])
    np.testing.assert_allclose(got, binomial, rtol=1e-12, atol=1e-12)
    z = np.linspace(-3, 3, 30)
    gaussian = evaluate(make("gaussian", "identity"), z, None, [eta, 0 * y], 2, [0, 1])
    got = evaluate(make("t", "identity"), z, None, [eta, 0 * y, 0 * y + 40], 2, [0, 1])
    np.testing.assert_allclose(got, gaussian, rtol=1e-12, atol=1e-12)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nbinom3", "log"), "no family 'nbinom3'"),
        (("poisson", "loge"), "no link 'loge'"),
        (("poisson", "logit"), "the family 'poisson' takes no link 'logit'"),
        (("gaussian", "identity", True), "takes no zero inflation"),
        (("multinomial", "logit", False, 1), "two categories or more"),
    ],
)
def test_factory_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        _core.make_family(*arguments)


def test_evaluate_refuses():
    family, y, eta = make("nbinom2", "log"), np.ones(3), np.zeros((2, 3))
    for arguments, words in (
        ((y, None, np.zeros((1, 3)), 1, [0]), "eta has 1 rows, not 2"),
        ((y, None, np.zeros((2, 4)), 1, [0]), "y and eta differ in length"),
        ((y, np.ones(2), eta, 1, [0]), "y and extra differ in length"),
        ((y, None, eta, 4, [0]), "order is 0, 1, 2 or 3"),
        ((y, None, eta, 1, [1, 0]), "ascending"),
        ((y, None, eta, 1, [2]), "below 2"),
    ):
        with pytest.raises(ValueError, match=words):
            family.evaluate(*arguments)
