"""Missing responses of a trial: draws against the conditional normal distribution by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.covariance.between_rows import Unstructured
from ranef.errors import DataError, LevelError, ModelError, UnknownColumnError

VISITS = 4


def trial(seed: int = 1, patients: int = 80) -> pd.DataFrame:
    """Two arms, four visits; a third withdraws, some miss a visit between; rows in any order."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "id": np.repeat(np.arange(patients), VISITS),
            "visit": np.tile(np.arange(VISITS), patients),
        }
    )
    data["arm"] = np.where(data["id"] % 2, "drug", "control")
    b = np.repeat(rng.normal(size=patients), VISITS)
    data["y"] = b + rng.normal(size=len(data)) + 0.6 * data["visit"] * (data["arm"] == "drug")
    leaves = np.repeat(np.where(rng.random(patients) < 0.35, rng.integers(1, VISITS, patients), 9),
                       VISITS)  # fmt: skip
    gone = (data["visit"] >= leaves) | (rng.random(len(data)) < 0.05)
    data["y"] = data["y"].where(~gone)
    return data.sample(frac=1.0, random_state=seed).reset_index(drop=True)


DATA = trial()
MODEL = "y ~ arm * factor(visit)"


@pytest.fixture(scope="module")
def fit():
    return ranef.lmm(MODEL, DATA, residual="us(visit | id)")


def covariance(fit) -> np.ndarray:
    """Of the four visits, from the table of standard deviations and correlations."""
    values = fit.tidy("variance")
    sds = values[values["parameter"] == "sd"]["estimate"].to_numpy()
    R = np.eye(VISITS)
    pairs = [(j, i) for j in range(VISITS) for i in range(j + 1, VISITS)]
    corr = values[values["parameter"] == "corr"]["estimate"].to_numpy()
    for (j, i), value in zip(pairs, corr, strict=True):
        R[i, j] = R[j, i] = value
    return np.outer(sds, sds) * R


def means(fit) -> dict[str, np.ndarray]:
    rows = pd.DataFrame(
        {"arm": np.repeat(["control", "drug"], VISITS), "visit": [*range(VISITS)] * 2}
    )
    values = np.asarray(fit.predict(rows.assign(id=0), kind="typical")).reshape(2, VISITS)
    return {"control": values[0], "drug": values[1]}


def assumed(own, reference, last, method):
    """By the definitions of Carpenter, Roger and Kenward."""
    mean = own.copy()
    if method == "j2r":
        mean[last + 1 :] = reference[last + 1 :]
    if method == "cr":
        mean = reference.copy()
    if method == "cir":
        mean[last + 1 :] = own[last] + reference[last + 1 :] - reference[last]
    return mean


@pytest.mark.parametrize("method", ["mar", "j2r", "cr", "cir"])
def test_draws_have_the_conditional_distribution(fit, method):
    """Mean and covariance of 500 draws at the estimates, of patients with each pattern."""
    drawn = ranef.impute(fit, DATA, arm="arm", reference="control", method=method, n=500, rng=3,
                         parameters="fixed")  # fmt: skip
    V, mu = covariance(fit), means(fit)
    place = {row: k for k, row in enumerate(np.flatnonzero(drawn.missing))}
    checked = set()
    for _, rows in DATA.groupby("id"):
        own = rows.sort_values("visit")
        y = own["y"].to_numpy()
        missing = np.isnan(y)
        arm, pattern = own["arm"].iloc[0], tuple(missing)
        if not missing.any() or missing.all() or (arm, pattern) in checked:
            continue
        checked.add((arm, pattern))
        last = int(np.flatnonzero(~missing)[-1])
        left = last < VISITS - 1
        mean = assumed(mu[arm], mu["control"], last, method) if left else mu[arm]
        o, m = ~missing, missing
        weights = V[np.ix_(m, o)] @ np.linalg.inv(V[np.ix_(o, o)])
        centre = mean[m] + weights @ (y[o] - mean[o])
        rest = V[np.ix_(m, m)] - weights @ V[np.ix_(o, m)]
        values = drawn.drawn[:, [place[row] for row in own.index[m]]]
        error = np.sqrt(np.diag(rest) / len(values))
        assert np.all(np.abs(values.mean(axis=0) - centre) < 4.5 * error)
        spread = np.sqrt((np.outer(np.diag(rest), np.diag(rest)) + rest**2) / len(values))
        found = np.cov(values.T).reshape(rest.shape)
        assert np.all(np.abs(found - rest) < 4.5 * spread)
    assert len(checked) > 6


def test_missing_at_random_is_what_the_model_takes(fit):
    """The pooled estimates tend to those of the model by visit itself."""
    pooled = ranef.impute(fit, DATA, n=60, rng=1).pool()
    own, found = fit.tidy(), pooled.tidy()
    noise = np.sqrt(found["riv"] / (1 + found["riv"]) / 60) * found["std_error"]
    assert np.all(np.abs(found["estimate"] - own["estimate"]) < 4.5 * noise + 0.02)
    share = found["riv"] / (1 + found["riv"])
    ratio = found["std_error"] / fit.tidy(df="kenward-roger")["std_error"]
    assert np.all(np.abs(ratio - 1) < 4 * share * np.sqrt(2 / 59) / 2 + 0.03)
    assert found["fmi"].max() > 0.1


def test_assumptions_in_the_order_that_they_must_have(fit):
    """A drug whose effect grows: less is left of it where those who withdrew lose it."""
    effect = {}
    for method in ("mar", "j2r", "cr", "cir"):
        pooled = ranef.impute(fit, DATA, arm="arm", reference="control", method=method, n=15,
                              rng=2).pool()  # fmt: skip
        effect[method] = pooled.contrast({"armdrug": 1, "armdrug:factor(visit)3": 1}).estimate
    assert all(effect[method] < effect["mar"] for method in ("j2r", "cr", "cir"))


def test_delta_shifts_what_is_drawn_after_withdrawal(fit):
    call = {"arm": "arm", "reference": "control", "n": 3, "rng": 5}
    plain, shifted = (ranef.impute(fit, DATA, delta=d, **call) for d in (0.0, -2.0))
    arms = np.array(plain.arms)[plain.missing]
    moved = plain.after[plain.missing] & (arms == "drug")
    assert 0 < moved.sum() < len(moved)
    expected = np.where(moved, -2.0, 0.0)[None].repeat(3, axis=0)
    np.testing.assert_allclose(shifted.drawn - plain.drawn, expected, atol=1e-12)
    by_arm = ranef.impute(fit, DATA, delta={"control": 1.0}, **call)
    moved = plain.after[plain.missing] & (arms == "control")
    np.testing.assert_allclose((by_arm.drawn - plain.drawn)[0], moved, atol=1e-12)


def test_completed_tables_and_what_is_said(fit):
    drawn = ranef.impute(fit, DATA, n=2, rng=5)
    first, second = drawn
    assert not first["y"].isna().any()
    seen = DATA["y"].notna()
    pd.testing.assert_series_equal(first["y"][seen], DATA["y"][seen])
    assert not np.allclose(first["y"][~seen], second["y"][~seen])
    again = ranef.impute(fit, DATA, n=2, rng=5)
    np.testing.assert_array_equal(again.drawn, drawn.drawn)
    named = ranef.impute(fit, DATA, arm="arm", reference="control", method="j2r", n=2, rng=5)
    table = named.tidy()
    assert table["rows"].sum() == len(DATA)
    assert table["between"].sum() + table["after"].sum() == (~seen).sum()
    assert "jump to reference" in repr(named)


def test_random_effects_and_dictionaries():
    """A random intercept is the model with equal correlations."""
    one = ranef.lmm(MODEL + " + (1 | id)", DATA)
    other = ranef.lmm(MODEL, DATA, residual="homcs(visit | id)")
    call = {"n": 400, "rng": 1, "parameters": "fixed"}
    a = ranef.impute(one, DATA, time="visit", **call).drawn
    b = ranef.impute(other, {name: DATA[name].to_numpy() for name in DATA}, **call).drawn
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_covariance_matrix_that_moves_stays_one():
    """To first order where the step asks; positive definite however far it goes."""
    part = Unstructured("us", ("a", "b", "c"))
    rho = np.array([0.5, 0.4, 1.2, 0.6, 0.9])
    step = np.array([0.3, -0.2, 0.5, -0.4, 0.2])
    near = (part.moved(rho, 1e-6 * step) - rho) / 1e-6
    np.testing.assert_allclose(near, step, atol=1e-5)
    for size in (1.0, 3.0, -3.0):
        far = part.matrix(part.moved(rho, size * step))
        assert np.linalg.eigvalsh(far)[0] > 0
        assert far[0, 0] == 1.0


def test_draws_of_a_model_without_random_effects(fit):
    """`simulate` draws the parameters of such a model too."""
    for kind in ("new", "posterior"):
        assert fit.simulate(2, rng=1, kind=kind, parameters="draw").shape == (len(DATA), 2)


def test_arguments_that_are_wrong(fit):
    cases = [
        ({"method": "j2r"}, ModelError, "name the column of the arms and the reference"),
        ({"method": "j2r", "arm": "arm", "reference": "contorl"}, LevelError, "no level 'contorl'"),
        ({"arm": "group"}, UnknownColumnError, "no column 'group' for arm"),
        ({"time": "day"}, UnknownColumnError, "no column 'day' for time"),
        ({"method": "locf"}, ModelError, "method"),
        ({"arm": "arm", "reference": "control", "delta": {"x": 1}}, LevelError, "no arm 'x'"),
        ({"arm": "arm", "reference": "control", "delta": np.inf}, ModelError, "delta must be fini"),
        (
            {"arm": "arm", "reference": "control", "delta": {"control": "two"}},
            ModelError,
            r"delta\['control'\] must be a number, not 'two'",
        ),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            ranef.impute(fit, DATA, n=2, **call)
    with pytest.raises(DataError, match="lack a column of the model other than the response"):
        ranef.impute(fit, DATA.assign(arm=DATA["arm"].where(DATA["id"] > 2)), n=2)
    by = ranef.lmm(MODEL, DATA, residual="us(visit | id, by=arm)")
    with pytest.raises(ModelError, match="takes the covariance of the reference arm"):
        ranef.impute(by, DATA, arm="arm", reference="control", method="j2r", n=2)
    spread = ranef.lmm(MODEL, DATA, residual="ar1(visit | id)", dispersion="~ arm")
    own = ranef.lmm(MODEL + " + (0 + dummy(arm, 'drug') | id)", DATA)
    for differing in (spread, own):
        with pytest.raises(ModelError, match="takes the covariance of the reference arm"):
            ranef.impute(differing, DATA, arm="arm", reference="control", method="cr",
                         time="visit", n=2)  # fmt: skip
        ranef.impute(differing, DATA, arm="arm", time="visit", n=2, rng=1)
    z = (DATA["y"].fillna(0.0) > 1).astype(int)
    binary = ranef.glmm("z ~ arm", DATA.assign(z=z), family="binomial", random="none")
    with pytest.raises(ModelError, match=r"a fit of ranef\.lmm"):
        ranef.impute(binary, DATA, n=2)
