"""Pedigrees, kernels by their inverse, and heritability."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.optimize import minimize

import ranef
from ranef.errors import DataError, FormulaError, LevelError, ModelError
from ranef.solve.point import linear_point

REFERENCE = Path(__file__).parent / "reference"


def random_pedigree(n: int, founders: int, rng: np.random.Generator, reach: int = 60):
    """A table in random order: unknown parents, selfing and inbreeding among them."""
    rows = []
    for i in range(n):
        known = i >= founders
        sire = rng.integers(max(0, i - reach), i) if known and rng.random() < 0.9 else -1
        dam = rng.integers(max(0, i - reach), i) if known and rng.random() < 0.9 else -1
        dam = sire if rng.random() < 0.1 else dam
        rows.append([f"i{k}" if k >= 0 else None for k in (i, sire, dam)])
    table = pd.DataFrame(rows, columns=["id", "sire", "dam"])
    return table.sample(frac=1.0, random_state=int(rng.integers(1000))).reset_index(drop=True)


def tabular(A: ranef.Pedigree) -> np.ndarray:
    """The relationship matrix by the tabular method, entry by entry (Henderson 1976)."""
    table = A.tidy()
    place = {name: i for i, name in enumerate(table["id"])}
    parents = [
        [place[p] for p in pair if isinstance(p, str)]
        for pair in zip(table["sire"], table["dam"], strict=True)
    ]
    out = np.zeros((len(place), len(place)))
    for i, own in enumerate(parents):
        for j in range(i):
            out[i, j] = out[j, i] = sum(out[j, p] for p in own) / 2
        out[i, i] = 1.0 + (out[own[0], own[1]] / 2 if len(own) == 2 else 0.0)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_relationships_are_those_of_the_tabular_method(seed):
    rng = np.random.default_rng(seed)
    A = ranef.pedigree(random_pedigree(150, 12, rng), id="id", sire="sire", dam="dam")
    dense = tabular(A)
    np.testing.assert_allclose(A.matrix().toarray(), dense, rtol=0, atol=1e-14)
    np.testing.assert_allclose(A.relationship(A.labels), dense, rtol=0, atol=1e-14)
    np.testing.assert_allclose(A.inverse().toarray(), np.linalg.inv(dense), rtol=0, atol=1e-12)
    np.testing.assert_allclose(A.inbreeding, np.diag(dense) - 1, rtol=0, atol=1e-14)
    assert A.logdet == pytest.approx(np.linalg.slogdet(dense)[1], abs=1e-11)
    assert A.inbreeding.max() > 0.2
    some = list(rng.permutation(A.labels)[:40])
    at = [A.labels.index(name) for name in some]
    np.testing.assert_allclose(A.relationship(some), dense[np.ix_(at, at)], rtol=0, atol=1e-14)


def test_the_example_of_mrode():
    """Table 2.1 of Mrode, Linear Models for the Prediction of Animal Breeding Values (2014)."""
    table = {"calf": [6, 4, 5, 3], "sire": [5, 1, 4, 1], "dam": [2, 0, 3, 2]}
    A = ranef.pedigree(table, id="calf", sire="sire", dam="dam")
    expected = [
        [1.0, 0.0, 0.5, 0.5, 0.5, 0.25],
        [0.0, 1.0, 0.5, 0.0, 0.25, 0.625],
        [0.5, 0.5, 1.0, 0.25, 0.625, 0.5625],
        [0.5, 0.0, 0.25, 1.0, 0.625, 0.3125],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
        [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
    ]
    np.testing.assert_array_equal(A.relationship([1, 2, 3, 4, 5, 6]), expected)
    assert A.tidy()["generation"].tolist() == [0, 0, 1, 1, 2, 3]
    assert "2 of 6 individuals are founders; 4 generations." in repr(A)


def test_one_row_an_individual_or_the_same_again():
    one = pd.DataFrame({"id": ["c", "d"], "s": ["a", "c"], "m": [np.nan, "b"]})
    again = pd.concat([one, one.iloc[[1, 0]]])
    first, second = (ranef.pedigree(t, id="id", sire="s", dam="m") for t in (one, again))
    assert sorted(first.labels) == list("abcd")
    np.testing.assert_array_equal(
        first.relationship(list("abcd")), second.relationship(list("abcd"))
    )


def test_numbers_with_gaps_keep_their_names():
    table = pd.DataFrame({"id": [3, 4], "sire": [1.0, np.nan], "dam": [np.nan, 3.0]})
    A = ranef.pedigree(table, id="id", sire="sire", dam="dam")
    assert set(A.labels) == {"1", "3", "4"}
    np.testing.assert_array_equal(A.relationship([1, 4]), [[1.0, 0.25], [0.25, 1.0]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": ["a"], "s": ["a"], "m": ["b"]}, "circle: 'a' is its own parent"),
        (
            {"id": ["a", "b", "c", "d"], "s": ["b", "c", "a", "a"], "m": ["", "", "", "x"]},
            "circle: '[abc]', a child of '[abc]', a child of '[abc]', a child of",
        ),
        (
            {"id": ["a", "a"], "s": ["b", "c"], "m": ["", ""]},
            "'a' has two pairs of parents: 'b' and an unknown one; in row 1 'c' and an unknown",
        ),
        ({"id": ["a", None], "s": ["b", "c"], "m": ["", ""]}, "row 1 of the pedigree names no ind"),
        ({"id": ["a", "0"], "s": ["b", "c"], "m": ["", ""]}, "row 1 of the pedigree names no ind"),
    ],
)
def test_pedigrees_that_are_wrong(table, message):
    with pytest.raises(DataError, match=message):
        ranef.pedigree(table, id="id", sire="s", dam="m")


def test_who_is_not_in_the_pedigree_is_named():
    A = ranef.pedigree({"id": ["a"], "s": ["b"], "m": ["c"]}, id="id", sire="s", dam="m")
    with pytest.raises(LevelError, match="1 of 2 individuals are not in the pedigree: 'z'"):
        A.relationship(["a", "z"])
    data = {"y": np.arange(6.0), "g": list("abz") * 2}
    with pytest.raises(LevelError, match="no row for 1 of 3 levels of 'g': 'z'"):
        ranef.lmm("y ~ 1 + kernel(1 | g, A)", data, kernels={"A": A})


def test_wholly_inbred_parents_leave_no_inverse():
    """After sixty generations of selfing nothing varies in double precision."""
    names = [f"s{k}" for k in range(60)]
    table = {"id": names, "s": ["", *names[:-1]], "m": ["", *names[:-1]]}
    A = ranef.pedigree(table, id="id", sire="s", dam="m")
    assert A.inbreeding[3] == 0.875
    assert A.inbreeding[-1] == pytest.approx(1.0, abs=1e-15)
    assert A.logdet == -np.inf
    with pytest.raises(ModelError, match="singular"):
        A.inverse()


# --- as a kernel


def records(A: ranef.Pedigree, observed, rng: np.random.Generator, h2: float = 0.5):
    u = np.linalg.cholesky(A.relationship(observed)) @ rng.normal(size=len(observed))
    x = rng.normal(size=len(observed))
    y = 1.0 + 0.5 * x + np.sqrt(h2) * u + np.sqrt(1 - h2) * rng.normal(size=len(observed))
    return pd.DataFrame({"id": observed, "x": x, "y": y})


def dense_loglik(fit, K: np.ndarray, data: pd.DataFrame) -> float:
    """The restricted log-likelihood of y ~ x + kernel by the normal density's definition."""
    n = len(data)
    X = np.column_stack([np.ones(n), data["x"]])
    V = fit.sigma**2 * (np.eye(n) + fit.theta[0] ** 2 * K)
    L = np.linalg.cholesky(V)
    Xs, ys = np.linalg.solve(L, X), np.linalg.solve(L, data["y"].to_numpy())
    beta = np.linalg.lstsq(Xs, ys, rcond=None)[0]
    rss = float(np.sum((ys - Xs @ beta) ** 2))
    logdets = 2 * np.log(np.diag(L)).sum() + np.linalg.slogdet(Xs.T @ Xs)[1]
    return -0.5 * ((n - 2) * np.log(2 * np.pi) + logdets + rss)


def agrees_with_dense(n: int, observed: int) -> None:
    rng = np.random.default_rng(7)
    A = ranef.pedigree(random_pedigree(n, n // 10, rng, n), id="id", sire="sire", dam="dam")
    chosen = list(rng.permutation(A.labels)[:observed])
    data = records(A, chosen, rng)
    K = A.relationship(chosen)
    fit = ranef.lmm("y ~ x + kernel(1 | id, A)", data, kernels={"A": A})
    assert fit.theta[0] > 0.1
    assert fit.loglik == pytest.approx(dense_loglik(fit, K, data), abs=1e-8)


def test_a_pedigree_agrees_with_brute_force():
    agrees_with_dense(160, 90)


@pytest.mark.study
def test_2000_individuals_agree_with_brute_force():
    agrees_with_dense(2300, 2000)


def test_a_kernel_and_its_inverse_dense_and_sparse_are_one_model():
    """Levels without data are integrated out: the inverse of a part is not a part of it."""
    rng = np.random.default_rng(3)
    A = ranef.pedigree(random_pedigree(120, 12, rng), id="id", sire="sire", dam="dam")
    data = records(A, list(rng.permutation(A.labels)[:70]), rng)
    labels = list(A.labels)
    inverse = A.inverse()
    forms = {
        "kernel(1 | id, K)": [A, (A.matrix(), labels), (A.matrix().toarray(), labels)],
        "kernel(1 | id, inverse=K)": [
            (inverse, labels),
            (sparse.coo_matrix(inverse), labels),
            pd.DataFrame(inverse.toarray(), index=labels, columns=labels),
        ],
    }
    fits = [
        ranef.lmm(f"y ~ x + {term}", data, kernels={"K": form})
        for term, given in forms.items()
        for form in given
    ]
    for fit in fits[1:]:
        assert fit.loglik == pytest.approx(fits[0].loglik, abs=1e-9)
        np.testing.assert_allclose(fit.theta, fits[0].theta, rtol=1e-6)
    assert fits[-1].terms[0].label == "kernel(1 | id, inverse=K)"
    again = ranef.lmm(fits[-1].formula, data, kernels={"K": (inverse, labels)})
    assert again.loglik == fits[3].loglik


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_inverses_that_are_wrong(form):
    data = {"y": np.arange(8.0) ** 1.5, "g": list("abcd") * 2}
    labels, unit = list("abcd"), np.eye(4)
    skew, indefinite, gap = unit.copy(), unit.copy(), unit.copy()
    skew[0, 1], gap[2, 2], indefinite[0, 1] = 0.1, np.nan, 2.0
    indefinite[1, 0] = 2.0
    cases = [
        (skew, DataError, "not symmetric"),
        (indefinite, DataError, "given by its inverse, which must be positive definite"),
        (0 * unit, DataError, "given by its inverse, which must be positive definite"),
        (gap, DataError, "missing or infinite"),
    ]
    for matrix, kind, message in cases:
        with pytest.raises(kind, match=message):
            ranef.lmm("y ~ 1 + kernel(1 | g, inverse=Q)", data,
                      kernels={"Q": (form(matrix), labels)})  # fmt: skip


def test_a_pedigree_is_not_handed_over_as_an_inverse():
    A = ranef.pedigree({"id": list("ab"), "s": ["", ""], "m": ["", ""]}, id="id", sire="s", dam="m")
    data = {"y": np.arange(4.0) ** 2, "g": list("ab") * 2}
    with pytest.raises(ModelError, match=r"write kernel\(1 \| g, A\)"):
        ranef.lmm("y ~ 1 + kernel(1 | g, inverse=A)", data, kernels={"A": A})
    with pytest.raises(FormulaError, match="no argument 'invers'"):
        ranef.lmm("y ~ 1 + kernel(1 | g, invers=A)", data, kernels={"A": A})


def test_generalised_models_take_pedigrees():
    rng = np.random.default_rng(5)
    A = ranef.pedigree(random_pedigree(100, 10, rng), id="id", sire="sire", dam="dam")
    data = records(A, list(A.labels), rng)
    data["count"] = rng.poisson(np.exp(data["y"] / 2))
    by_pedigree, by_matrix = (
        ranef.glmm("count ~ x + kernel(1 | id, A)", data, family="poisson", kernels={"A": K})
        for K in (A, (A.matrix(), A.labels))
    )
    assert by_pedigree.loglik == pytest.approx(by_matrix.loglik, abs=1e-9)


# --- heritability


@pytest.mark.study
def test_the_null_model_of_gemma():
    """PVE 0.608801, se 0.032774 of 1,410 mice: GEMMA 0.98.5 on its example, see gemma.sh."""
    known = json.loads((REFERENCE / "gemma.json").read_text())
    values = np.array(known["eigenvalues"])
    ids = np.arange(len(values))
    data = {"y": known["y"], "one": known["one"], "id": ids}
    K = np.diag(values / values.mean()), ids
    fit = ranef.lmm("y ~ 0 + one + kernel(1 | id, K)", data, kernels={"K": K})
    h2 = fit.heritability("id")
    assert h2.estimate == pytest.approx(known["pve"], abs=1e-6)
    assert h2.std_error == pytest.approx(known["se_pve"], abs=1e-6)
    assert h2.parts.terms[0] == pytest.approx(known["vg"] * values.mean(), rel=1e-5)
    assert h2.parts.residual == pytest.approx(known["ve"], rel=1e-5)


@pytest.fixture(scope="module")
def animals():
    rng = np.random.default_rng(11)
    A = ranef.pedigree(random_pedigree(150, 30, rng), id="id", sire="sire", dam="dam")
    data = records(A, list(A.labels), rng)
    twice = pd.concat([data, data.assign(y=data["y"] + rng.normal(size=len(data)))])
    twice["litter"] = [f"l{k % 25}" for k in range(len(twice))]
    twice["y"] += rng.normal(size=25)[[k % 25 for k in range(len(twice))]] * 0.6
    return A, twice


def test_the_delta_method_by_hand(animals):
    """Of two terms: h2 = t1^2 / (t1^2 + t2^2 + 1) of theta, whose covariance is the Hessian's."""
    A, data = animals
    fit = ranef.lmm("y ~ x + kernel(1 | id, A) + (1 | litter)", data, kernels={"A": A})
    t1, t2 = fit.theta
    total = t1**2 + t2**2 + 1
    gradient = np.array([2 * t1 * (t2**2 + 1), -2 * t2 * t1**2]) / total**2
    V = fit.inference.parameters.covariance[:2, :2]
    found = fit.heritability("id")
    assert found.estimate == pytest.approx(t1**2 / total, rel=1e-12)
    assert found.std_error == pytest.approx(np.sqrt(gradient @ V @ gradient), rel=1e-7)
    assert fit.heritability("litter").estimate == pytest.approx(t2**2 / total, rel=1e-12)
    assert "broad-sense" in repr(fit.heritability("litter"))


def test_the_profile_by_brute_force(animals):
    """At both ends the criterion, minimised at that share, has risen by the quantile."""
    A, data = animals
    fit = ranef.lmm("y ~ x + kernel(1 | id, A) + (1 | litter)", data, kernels={"A": A})
    spec, best = fit.estimate.specification, fit.deviance
    low, high = fit.heritability("id", method="profile", conf_level=0.9).interval
    assert low < fit.heritability("id").estimate < high

    def criterion(h, t2):
        t1 = np.sqrt(h / (1 - h) * (t2**2 + 1))
        return linear_point(spec, np.array([t1, t2])).criterion

    for h in (low, high):
        found = minimize(lambda t, h=h: criterion(h, t[0]), [fit.theta[1]], method="Nelder-Mead",
                         options={"xatol": 1e-7, "fatol": 1e-9})  # fmt: skip
        assert found.fun - best == pytest.approx(2.705543454, abs=1e-4)


def test_beside_residuals_that_remember():
    """The residual's own parameters are among what is optimised and what is uncertain."""
    rng, n = np.random.default_rng(12), 60
    e = rng.normal(size=(n, 6))
    for k in range(1, 6):
        e[:, k] = 0.5 * e[:, k - 1] + np.sqrt(0.75) * e[:, k]
    data = pd.DataFrame(
        {"y": (rng.normal(size=(n, 1)) + e).ravel(), "g": np.repeat(np.arange(n), 6)}
    )
    data["t"] = np.tile(np.arange(6), n)
    fit = ranef.lmm("y ~ 1 + (1 | g)", data, residual="ar1(t | g)")
    h2 = fit.heritability("g", conf_level=0.9)
    assert h2.estimate == pytest.approx(fit.theta[0] ** 2 / (fit.theta[0] ** 2 + 1), rel=1e-10)
    low, high = fit.heritability("g", method="profile", conf_level=0.9).interval
    spec = fit.estimate.specification
    for h in (low, high):
        t = np.sqrt(h / (1 - h))
        found = min(linear_point(spec, np.array([t, r])).criterion
                    for r in np.linspace(0.05, 0.95, 901))  # fmt: skip
        assert found - fit.deviance == pytest.approx(2.705543454, abs=1e-3)
    slope = 2 * fit.theta[0] / (fit.theta[0] ** 2 + 1) ** 2
    error = slope * np.sqrt(fit.inference.parameters.covariance[0, 0])
    assert h2.std_error == pytest.approx(error, rel=1e-6)


def test_of_nothing_heritable_the_profile_begins_at_zero():
    rng = np.random.default_rng(2)
    A = ranef.pedigree(random_pedigree(120, 20, rng), id="id", sire="sire", dam="dam")
    zero = None
    for _ in range(20):
        data = records(A, list(A.labels), rng, h2=0.0)
        fit = ranef.lmm("y ~ x + kernel(1 | id, A)", data, kernels={"A": A})
        if fit.theta[0] == 0.0:
            zero = fit
            break
    assert zero is not None
    delta, profile = (zero.heritability("id", method=m) for m in ("delta", "profile"))
    assert delta.estimate == 0.0
    assert np.isnan([delta.std_error, *delta.interval]).all()
    assert profile.interval[0] == 0.0
    assert 0.0 < profile.interval[1] < 0.9


def test_the_sample_counts_a_kernel_by_the_rows():
    """A kernel in other units, or shifted by a constant, has the same share of the sample."""
    rng = np.random.default_rng(8)
    A = ranef.pedigree(random_pedigree(80, 10, rng), id="id", sire="sire", dam="dam")
    data = records(A, list(A.labels), rng)
    K = A.relationship(data["id"].tolist())
    fits = [
        ranef.lmm("y ~ x + kernel(1 | id, K)", data, kernels={"K": (matrix, data["id"].tolist())})
        for matrix in (K, 3.0 * K, K + 0.7)
    ]
    first, scaled, shifted = (f.heritability("id", scale="sample") for f in fits)
    assert scaled.estimate == pytest.approx(first.estimate, rel=1e-5)
    assert shifted.estimate == pytest.approx(first.estimate, rel=1e-5)
    assert shifted.std_error == pytest.approx(first.std_error, rel=1e-4)
    C = np.eye(80) - 1 / 80
    v = first.parts.terms[0] / (fits[0].sigma * fits[0].theta[0]) ** 2
    assert v == pytest.approx(np.trace(C @ K @ C) / 80, rel=1e-10)


def test_on_the_scale_of_the_link():
    rng = np.random.default_rng(4)
    A = ranef.pedigree(random_pedigree(120, 12, rng), id="id", sire="sire", dam="dam")
    names = [name for name in A.labels for _ in range(3)]
    u = np.linalg.cholesky(A.relationship(A.labels)) @ rng.normal(size=len(A))
    yes = (np.repeat(u, 3) + rng.logistic(size=len(names)) > 0).astype(int)
    fit = ranef.glmm("yes ~ 1 + kernel(1 | id, A)", {"yes": yes, "id": names}, family="binomial",
                     kernels={"A": A})  # fmt: skip
    h2 = fit.heritability()
    v = fit.theta[0] ** 2
    assert h2.estimate == pytest.approx(v / (v + np.pi**2 / 3), rel=1e-12)
    slope = 2 * fit.theta[0] * (np.pi**2 / 3) / (v + np.pi**2 / 3) ** 2
    error = slope * np.sqrt(fit.inference.prediction_parameters()[1][-1, -1])
    assert h2.std_error == pytest.approx(error, rel=1e-7)
    with pytest.raises(ModelError, match="profiles the share of a linear model"):
        fit.heritability(method="profile")


@pytest.mark.study
def test_intervals_of_heritability_cover():
    """Of 300 draws, 90% intervals: each method covers within three standard errors, 5.2 points."""
    rng = np.random.default_rng(21)
    A = ranef.pedigree(random_pedigree(300, 60, rng), id="id", sire="sire", dam="dam")
    covered = {"delta": 0, "profile": 0}
    draws = 300
    for _ in range(draws):
        data = records(A, list(A.labels), rng, h2=0.4)
        fit = ranef.lmm("y ~ x + kernel(1 | id, A)", data, kernels={"A": A})
        for method in covered:
            low, high = fit.heritability("id", method=method, conf_level=0.9).interval
            covered[method] += low <= 0.4 <= high
    assert abs(covered["profile"] / draws - 0.9) < 0.052, covered
    assert abs(covered["delta"] / draws - 0.9) < 0.08, covered
