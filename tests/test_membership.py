"""Rows that belong to several levels of one factor, `(1 | mm(a, b, weights = cbind(w1, w2)))`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.description.words import random_term
from ranef.errors import DataError, FormulaError, LevelError, ModelError, UnknownColumnError
from ranef.formula.model import read_formula

Q, N = 20, 300
FORMULA = "y ~ x + (1 | mm(first, second, weights = cbind(w1, w2)))"


def pupils(n: int = N, seed: int = 5, kind: str = "text") -> pd.DataFrame:
    """Pupils in schools; a third of them moved, and were in the second for a while."""
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, Q, n), rng.integers(0, Q, n)
    moved = rng.random(n) < 0.3
    w1 = np.where(moved, rng.uniform(0.2, 0.8, n), 1.0)
    u, x = 0.8 * rng.normal(size=Q), rng.normal(size=n)
    mean = 1 + 0.5 * x + w1 * u[one] + np.where(moved, (1 - w1) * u[two], 0.0)
    names = np.array([f"S{i:02d}" for i in range(Q)], dtype=object)
    if kind == "numbers":
        second = np.where(moved, two, np.nan)
        first = one
    else:
        second = np.where(moved, names[two], None)
        first = names[one]
    return pd.DataFrame(
        {
            "y": mean + rng.normal(size=n), "x": x, "first": first, "second": second,
            "w1": w1, "w2": np.where(moved, 1 - w1, np.nan), "group": rng.integers(0, 12, n),
            "count": rng.poisson(np.exp(0.3 * mean)),
        }
    )  # fmt: skip


def weights(data: pd.DataFrame, levels: list, equal: bool = False) -> np.ndarray:
    """Z (n, q) by hand."""
    Z = np.zeros((len(data), len(levels)))
    for i, row in enumerate(data.itertuples()):
        there = [row.first] if pd.isna(row.second) else [row.first, row.second]
        shares = [1 / len(there)] * len(there) if equal else [row.w1, row.w2]
        for level, share in zip(there, shares, strict=False):
            Z[i, levels.index(level)] += share
    return Z


class Dense:
    """The linear model by its dense covariance matrix."""

    def __init__(self, data: pd.DataFrame, Z: np.ndarray, more: np.ndarray | None = None) -> None:
        self.y, self.Z, self.more = data.y.to_numpy(), Z, more
        self.X = np.column_stack([np.ones(len(data)), data.x])

    def solve(self, sds: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        V = sds[0] ** 2 * self.Z @ self.Z.T + sds[-1] ** 2 * np.eye(len(self.y))
        if self.more is not None:
            V += sds[1] ** 2 * self.more @ self.more.T
        L = np.linalg.cholesky(V)
        A, b = np.linalg.solve(L, self.X), np.linalg.solve(L, self.y)
        R = A.T @ A
        beta = np.linalg.solve(R, A.T @ b)
        r, n = b - A @ beta, len(self.y)
        value = -0.5 * (
            (n - 2) * np.log(2 * np.pi) + 2 * np.sum(np.log(np.diag(L)))
            + np.linalg.slogdet(R)[1] + r @ r
        )  # fmt: skip
        effects = sds[0] ** 2 * self.Z.T @ np.linalg.solve(V, self.y - self.X @ beta)
        return value, beta, effects


@pytest.fixture(scope="module")
def fit() -> ranef.LinearMixedModelFit:
    return ranef.lmm(FORMULA, pupils())


def test_the_formula_is_read():
    own = read_formula(FORMULA).bars[0].groups[0]
    assert own.name == "mm(first, second)"
    assert own.membership is not None
    assert [node.printed for node in own.membership.weights] == ["w1", "w2"]
    assert own.membership.scale
    unscaled = read_formula("y ~ (1 | mm(a, b, scale = FALSE))").bars[0].groups[0]
    assert unscaled.membership is not None
    assert not unscaled.membership.scale


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mm(a)", "two columns"),
        ("mm(a, a)", "twice"),
        ("mm(a, 1)", "columns of memberships"),
        ("mm(a, b, by = c)", "no argument 'by'"),
        ("mm(a, b, weights = w)", "weights = cbind"),
        ("mm(a, b, weights = cbind(w))", "2 columns of memberships and 1 of weights"),
        ("mm(a, b, scale = 2)", "TRUE or FALSE"),
        ("mm(a, b):c", "by itself"),
        ("c/mm(a, b)", "by itself"),
    ],
)
def test_what_is_no_membership(call, message):
    with pytest.raises(FormulaError, match=message):
        read_formula(f"y ~ x + (1 | {call})")


def test_it_is_the_dense_model(fit, agree):
    data = pupils()
    levels = list(fit.factors[0].members)
    assert sorted(levels) == [f"S{i:02d}" for i in range(Q)]
    dense = Dense(data, weights(data, levels))
    sds = fit.tidy("variance")["estimate"].to_numpy()
    value, beta, effects = dense.solve(sds)
    agree(
        "lmm, multiple membership", "REML log-likelihood", fit.loglik, value,
        peer="dense covariance", rtol=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(fit.coef, beta, rtol=1e-8)
    random = fit.tidy("random")
    assert random["level"].tolist() == levels
    np.testing.assert_allclose(random["estimate"], effects, atol=1e-8)
    for step in ([1e-4, 0.0], [0.0, 1e-4]):
        assert dense.solve(sds + step)[0] < value
        assert dense.solve(sds - step)[0] < value


def test_beside_another_factor():
    data = pupils()
    fit = ranef.lmm(f"{FORMULA} + (1 | group)", data)
    levels = list(fit.factors[0].members)
    dense = Dense(data, weights(data, levels), np.eye(12)[data["group"]])
    value, beta, _ = dense.solve(fit.tidy("variance")["estimate"].to_numpy())
    np.testing.assert_allclose(fit.loglik, value, rtol=1e-10)
    np.testing.assert_allclose(fit.coef, beta, rtol=1e-8)
    assert fit.n_groups == {"mm(first, second)": Q, "group": 12}


def test_equal_weights_and_numbers_as_levels():
    data = pupils(kind="numbers")
    fit = ranef.lmm("y ~ x + (1 | mm(first, second))", data)
    levels = list(fit.factors[0].members)
    assert len(levels) == Q
    value, _, effects = Dense(data, weights(data, levels, equal=True)).solve(
        fit.tidy("variance")["estimate"].to_numpy()
    )
    np.testing.assert_allclose(fit.loglik, value, rtol=1e-10)
    np.testing.assert_allclose(fit.tidy("random")["estimate"], effects, atol=1e-8)


def test_weights_are_scaled_unless_they_are_not_to_be():
    data = pupils()
    tenfold = data.assign(w1=10 * data.w1, w2=10 * data.w2)
    one, ten = (ranef.lmm(FORMULA, d) for d in (data, tenfold))
    np.testing.assert_allclose(ten.loglik, one.loglik, rtol=1e-10)
    free = ranef.lmm(FORMULA.replace("w2))", "w2), scale = FALSE)"), tenfold)
    np.testing.assert_allclose(free.loglik, one.loglik, rtol=1e-10)
    sds = [f.tidy("variance")["estimate"][0] for f in (one, free)]
    np.testing.assert_allclose(sds[1], sds[0] / 10, rtol=1e-6)


def test_one_membership_each_is_an_ordinary_factor():
    data = pupils().assign(second=None)
    data["second"] = data["second"].astype(object)
    both = ranef.lmm("y ~ x + (1 | mm(first, second))", data)
    plain = ranef.lmm("y ~ x + (1 | first)", data)
    np.testing.assert_allclose(both.loglik, plain.loglik, rtol=1e-10)
    np.testing.assert_allclose(both.tidy()["df"], plain.tidy()["df"], rtol=1e-5)
    np.testing.assert_allclose(
        both.tidy("variance")["conf_low"], plain.tidy("variance")["conf_low"], rtol=1e-6
    )
    one, other = (
        f.tidy("random").set_index("level")[["estimate", "cond_sd", "std_error"]].sort_index()
        for f in (both, plain)
    )
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    new = pd.DataFrame({"x": [0.0, 1.0], "first": ["S03", "new"], "second": [None, None]})
    for question in ({"kind": "conditional"}, {"kind": "population"}, {"interval": "new"}):
        pair = [f.predict(new, conf_level=0.9, **question) for f in (both, plain)]
        np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)
    counts = [
        ranef.glmm(f"count ~ x + (1 | {g})", data, family="poisson")
        for g in ("mm(first, second)", "first")
    ]
    np.testing.assert_allclose(counts[0].loglik, counts[1].loglik, rtol=1e-9)
    pair = [f.predict(new, conf_level=0.9, kind="population") for f in counts]
    np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)


def test_a_slope():
    fit = ranef.lmm("y ~ x + (1 | mm(first, second)) + (0 + x | mm(first, second))", pupils())
    assert fit.tidy("variance")["term"].tolist()[:2] == ["(Intercept)", "x"]
    with pytest.raises(ModelError, match="terms of one column"):
        ranef.lmm("y ~ x + (x | mm(first, second))", pupils())
    with pytest.raises(ModelError, match="without a structure"):
        ranef.lmm("y ~ x + diag(1 | mm(first, second))", pupils())


def test_predictions(fit):
    effects = fit.tidy("random").set_index("level")["estimate"]
    new = pd.DataFrame(
        {"x": [0.0] * 3, "first": ["S01", "S01", "S01"], "second": ["S02", None, "new"],
         "w1": [1.0, 1.0, 3.0], "w2": [3.0, np.nan, 1.0]}
    )  # fmt: skip
    found = fit.predict(new, conf_level=0.95)
    mean = fit.coef.iloc[0]
    expected = [0.25 * effects["S01"] + 0.75 * effects["S02"], effects["S01"]]
    np.testing.assert_allclose(found["estimate"][:2], mean + np.array(expected))
    np.testing.assert_allclose(found["estimate"][2], mean + 0.75 * effects["S01"])
    known = fit.predict(new, conf_level=0.95, new_levels="zero")["std_error"]
    tau2 = fit.tidy("variance")["estimate"][0] ** 2
    gain = found["std_error"] ** 2 - known**2
    np.testing.assert_allclose(gain, [0, 0, tau2 / 16], atol=1e-10)
    with pytest.raises(LevelError, match=r"has 1 level that the fit has not seen: 'new'"):
        fit.predict(new, new_levels="raise")
    with pytest.raises(UnknownColumnError, match="second"):
        fit.predict(new.drop(columns="second"))
    alone = fit.predict(new[["x"]], kind="population", conf_level=0.95)
    np.testing.assert_allclose(alone["estimate"], mean)


def test_population_means_of_counts_go_by_the_weights():
    fit = ranef.glmm("count ~ x + (1 | mm(first, second))", pupils(), family="poisson")
    tau2 = fit.tidy("variance")["estimate"][0] ** 2
    new = pd.DataFrame({"x": [0.0, 0.0], "first": ["S01", "S01"], "second": ["S02", None]})
    found = fit.predict(new, kind="population")
    expected = np.exp(fit.coef.iloc[0] + np.array([tau2 / 2, tau2]) / 2)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_draws(fit):
    drawn = fit.simulate(400, rng=1).to_numpy()
    data = pupils()
    Z = weights(data, list(fit.factors[0].members))
    sds = fit.tidy("variance")["estimate"].to_numpy()
    V = sds[0] ** 2 * Z @ Z.T + sds[1] ** 2 * np.eye(N)
    a = Z[:, 3] / np.linalg.norm(Z[:, 3])
    assert abs(np.var(a @ drawn) / (a @ V @ a) - 1) < 0.25
    assert fit.simulate(2, new=data.head(5), rng=1).shape == (5, 2)
    with pytest.raises(LevelError, match="takes memberships in levels of the fit"):
        fit.simulate(1, new=data.head(2).assign(first="new"), rng=1)


def test_saved(fit, tmp_path):
    fit.save(tmp_path / "fit")
    again = ranef.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(again.tidy("random"), fit.tidy("random"))
    new = pupils(n=20, seed=8)
    np.testing.assert_array_equal(again.predict(new), fit.predict(new))


def test_questions_of_levels(fit):
    ranking = fit.rank().tidy()
    assert len(ranking) == Q
    by_level = fit.coef_by_level()
    np.testing.assert_allclose(
        by_level["estimate"], fit.coef.iloc[0] + fit.tidy("random")["estimate"]
    )
    assert (fit.reliability()["reliability"] < 1).all()
    with pytest.raises(ModelError, match="several levels"):
        fit.influence()
    with pytest.raises(ModelError, match="several levels"):
        ranef.bootstrap(fit, n=2, rng=1, method="cluster")
    with pytest.raises(ModelError, match="containment"):
        fit.tidy(df="containment")


def test_words(fit):
    assert random_term(fit.estimate.terms[0], fit.factors[0]) == (
        "The intercept varies between the 20 levels of mm(first, second); a row has those of the "
        "levels that it belongs to, by their weights."
    )
    lines = fit.equation().text.splitlines()
    assert lines[0] == "y[i] = b0 + b1*x[i] + sum_k w[i,k]*u0[k] + e[i]"
    assert lines[1] == "u0 ~ Normal(0, sd^2) over the levels of mm(first, second)"
    assert "20 levels of mm(first, second)" in str(fit)


def test_bad_tables():
    data = pupils()
    negative = data.assign(w2=-data.w2)
    with pytest.raises(DataError, match="is negative in"):
        ranef.lmm(FORMULA, negative)
    zero = data.assign(w1=0.0)
    with pytest.raises(DataError, match="are zero in"):
        ranef.lmm(FORMULA, zero)
    with pytest.raises(DataError, match="infinite"):
        ranef.lmm(FORMULA, data.assign(w1=np.inf))
    with pytest.raises(UnknownColumnError, match="third"):
        ranef.lmm("y ~ x + (1 | mm(first, third))", data)
    with pytest.raises(ModelError, match="one level"):
        ranef.lmm("y ~ x + (1 | mm(first, second))", data.assign(first="a", second="a"))


def test_rows_without_a_membership_are_left_out():
    data = pupils()
    data.loc[:4, ["first", "second"]] = None
    data.loc[5:9, "w1"] = np.nan
    fit = ranef.lmm(FORMULA, data)
    assert fit.n_obs == N - 10
    kept = ranef.lmm(FORMULA, data.iloc[10:])
    np.testing.assert_allclose(fit.loglik, kept.loglik, rtol=1e-10)
    assert fit.predict(data).isna().sum() == 10
