"""Degrees of freedom: against pbkrtest, lmerTest and nlme, and against matrices of order n.

The reference values come from tests/reference/degrees.R.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import reference_cases as reference
import twin
from numpy.typing import NDArray
from scipy import stats
from test_curvature import STRUCTURED, in_time
from test_engine import DESIGNS

import ranef
from ranef.design.specify import specify
from ranef.errors import ModelError, RankWarning
from ranef.inference.coefficients import containment, degrees, parameters
from ranef.inference.coefficients import kenward as kenward_
from ranef.inference.coefficients.kenward import kenward_roger
from ranef.inference.kinds import inference_of
from ranef.models.linear import fit_lmm

Floats = NDArray[np.float64]

STORED = reference.stored("degrees")
TESTS = STORED["tests"]
STRATA = STORED["strata"]
VERSIONS = STORED["versions"]
PBKRTEST, LMERTEST, NLME = (
    reference.peer(name, VERSIONS) for name in ("pbkrtest", "lmerTest", "nlme")
)
METHODS = ["satterthwaite", "kenward-roger", "containment", "residual", "normal"]
# on the boundary ours leaves out what pbkrtest counts as free: see below
REGULAR = [name for name in TESTS if name != "nested_slope"]


def table_of(name):
    own = STORED["tables"].get(name)
    return ranef.data.load(name) if own is None else pd.DataFrame(own)


@pytest.fixture(scope="module")
def fitted():
    """Each model of the reference fitted once."""
    store = {}

    def get(name):
        if name not in store:
            case = TESTS[name]
            store[name] = ranef.lmm(case["formula"], table_of(case["table"]))
            assert list(store[name].estimate.specification.names) == case["names"]
        return store[name]

    return get


# --- Kenward and Roger ---------------------------------------------------------------


@pytest.mark.parametrize("name", REGULAR)
def test_kenward_roger_of_every_coefficient(fitted, agree, name):
    case, fit = TESTS[name], fitted(name)
    assert fit.loglik == pytest.approx(case["loglik"], abs=1e-6)
    call = "tidy(df='kenward-roger')"
    table = fit.tidy(df="kenward-roger")
    what = f"standard errors and df, {case['formula']}, {case['table']}"
    agree(call, what, table[["std_error", "df"]],
          np.column_stack([case["kr_std_error"], case["kr_df"]]),
          peer=PBKRTEST, rtol=1e-6)  # fmt: skip
    error = np.asarray(case["kr_std_error"])
    V = fit.inference.covariance("kenward-roger") / np.outer(error, error)
    expected = np.asarray(case["kr_vcov"]) / np.outer(error, error)
    np.testing.assert_allclose(V, expected, atol=2e-6)


def test_satterthwaite_of_every_coefficient(fitted, agree):
    found = np.concatenate([fitted(name).tidy()["df"] for name in TESTS])
    theirs = np.concatenate([case["satterthwaite_df"] for case in TESTS.values()])
    agree("tidy()", f"df of every coefficient, {len(TESTS)} models", found, theirs,
          peer=LMERTEST, rtol=1e-6)  # fmt: skip


def test_f_tests_of_several_rows(fitted, agree):
    """Rows that mix coefficients among them: Satterthwaite's df depends on how they are written."""
    kenward, satterthwaite = [], []
    for name in TESTS:
        fit = fitted(name)
        for case in TESTS[name]["joint"]:
            L = np.asarray(case["L"], dtype=float)
            if name in REGULAR:
                found = fit.joint_test(L, df="kenward-roger")
                kenward += [(found.statistic, case["kr_f"]), (found.df2, case["kr_df2"])]
                scale = kenward_roger(fit.estimate).scaled_f(L).scale
                assert scale == pytest.approx(case["kr_scale"], rel=1e-6)
                p = stats.f.sf(found.statistic, len(L), found.df2)
                assert found.p_value == pytest.approx(p)
            found = fit.joint_test(L)
            satterthwaite.append((found.statistic, case["satterthwaite_f"]))
            satterthwaite.append((found.df2, case["satterthwaite_df2"]))
    what = "F and df2 of slopes and of rows that mix coefficients"
    agree("F tests, df='kenward-roger'", f"{what}, {len(REGULAR)} models",
          *zip(*kenward, strict=True), peer=PBKRTEST, rtol=1e-6)  # fmt: skip
    agree("F tests, df='satterthwaite'", f"{what}, {len(TESTS)} models",
          *zip(*satterthwaite, strict=True), peer=LMERTEST, rtol=2e-6)  # fmt: skip


def test_variety_in_the_unbalanced_oats(fitted):
    """1.57393 on (2, 9.717) by Kenward and Roger, 1.59044 on (2, 8.842) by Satterthwaite."""
    L = np.eye(6)[1:3]
    fit = fitted("oats_unbalanced")
    kr, satterthwaite = fit.joint_test(L, df="kenward-roger"), fit.joint_test(L)
    assert (round(kr.statistic, 5), kr.df1, round(kr.df2, 3)) == (1.57393, 2, 9.717)
    assert (round(satterthwaite.statistic, 5), round(satterthwaite.df2, 3)) == (1.59044, 8.842)


BALANCED = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", [17.0, 17.0]),
    "ergoStool": ("effort ~ Type + (1 | Subject)", [None, 24.0, 24.0, 24.0]),
    "Pastes": ("strength ~ 1 + (1 | batch/cask)", [9.0]),
    "oats": (
        "yield ~ Variety + dose + (1 | Block/Variety)",
        [None, 10.0, 10.0, 51.0, 51.0, 51.0],
    ),
    "orthodont": ("distance ~ age11 * Sex + (age11 | Subject)", [25.0, 25.0, 25.0, 25.0]),
    "Machines": ("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", [None, 10.0, 10.0]),
}


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger"])
def test_balanced_layouts_have_the_classical_degrees_of_freedom(agree, method):
    """Exactly, since the derivatives are."""
    ours, classical = [], []
    for name, (formula, expected) in BALANCED.items():
        found = ranef.lmm(formula, table_of(name)).tidy(df=method)["df"]
        for value, e in zip(found, expected, strict=True):
            if e is not None:
                ours.append(value)
                classical.append(e)
    agree(f"tidy(df='{method}')", f"df, {len(BALANCED)} balanced data sets", ours, classical,
          peer="analysis of variance", rtol=1e-8)  # fmt: skip


# --- against matrices of order n -----------------------------------------------------


def kenward_by_brute_force(
    X: Floats, Sigma: Floats, first: list[Floats], second: Callable[[int, int], Floats], bias: bool
) -> tuple[Floats, Floats, list[Floats]]:
    """Phi_A, W and Phi P_i Phi from the definitions, with inverses of order n."""
    S = np.linalg.inv(Sigma)
    Phi = np.linalg.inv(X.T @ S @ X)
    P = S - S @ X @ Phi @ X.T @ S
    k = range(len(first))
    W = 2 * np.linalg.inv([[np.trace(P @ first[i] @ P @ first[j]) for j in k] for i in k])
    slopes = [-X.T @ S @ D @ S @ X for D in first]
    total = np.zeros_like(Phi)
    for i in k:
        for j in k:
            Q = X.T @ S @ first[i] @ S @ first[j] @ S @ X
            R = X.T @ S @ second(i, j) @ S @ X
            total += W[i, j] * (Q - slopes[i] @ Phi @ slopes[j] - R / 4)
    adjusted = Phi + 2 * Phi @ total @ Phi
    if bias:
        bend = sum(W[i, j] * second(i, j) for i in k for j in k)
        pull = np.array([np.trace(P @ bend @ P @ D) for D in first])
        for b, slope in zip(-W @ pull / 4, slopes, strict=True):
            adjusted = adjusted + b * Phi @ slope @ Phi
    return adjusted, W, [Phi @ slope @ Phi for slope in slopes]


def linear_parameters(estimate) -> tuple[Floats, list[Floats]]:
    """Sigma and its derivatives by sigma^2 and the entries of each covariance matrix."""
    spec = estimate.specification
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    parts = [np.diag(1 / w)]
    Sigma = estimate.sigma**2 * parts[0]
    for term, psi in zip(spec.terms, estimate.covariances, strict=True):
        Sigma = Sigma + twin.sandwich(spec, term, psi)
        for i in range(term.size):
            for j in range(i + 1):
                if term.structure == "diag" and i != j:
                    continue
                E = np.zeros((term.size, term.size))
                E[i, j] = E[j, i] = 1.0
                parts.append(twin.sandwich(spec, term, E))
    return Sigma, parts


def weighted():
    """Two terms of one factor, one diagonal, with weights and an offset."""
    rng = np.random.default_rng(8)
    n, q = 240, 12
    g = twin.factor(rng.integers(0, q, n), "g")
    x = rng.normal(size=(n, 2))
    X = np.column_stack([np.ones(n), x])
    weights, offset = rng.uniform(0.3, 3.0, n), rng.normal(size=n)
    b = rng.normal(size=(q, 3)) * [1.0, 0.7, 0.8]
    y = X.sum(1) + offset + np.sum(X * b[g.codes], axis=1) + rng.normal(size=n) / np.sqrt(weights)
    terms = [twin.term(0, X[:, :2], "diag"), twin.term(0, x[:, 1])]
    return twin.specification(y, X, terms, [g], weights=weights, offset=offset)


def three_deep():
    """Classes in schools in towns, slopes at two of the levels."""
    rng = np.random.default_rng(2)
    n = 400
    leaf = rng.integers(0, 40, n)
    labels = [leaf, leaf // 4, leaf // 8]
    factors = [twin.factor(label, f"level{k}") for k, label in enumerate(labels)]
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y = X @ [1.0, -0.5, 0.25] + rng.normal(size=n)
    terms = []
    for k, columns in enumerate((1, 2, 2)):
        q = factors[k].n_levels
        b = rng.normal(size=(q, columns))
        y = y + np.sum(X[:, :columns] * b[factors[k].codes], axis=1)
        terms.append(twin.term(k, X[:, :columns]))
    return twin.specification(y, X, terms, factors)


DENSE = [
    (DESIGNS["single of 2"][0], "single"),
    (DESIGNS["nested of two"][0], "nested"),
    (three_deep, "nested"),
    (three_deep, "crossed"),
    (DESIGNS["crossed with slopes"][0], "crossed"),
    (weighted, "single"),
    (weighted, "crossed"),
    (DESIGNS["kernel alone"][0], "crossed"),
    (DESIGNS["kernel and a factor"][0], "crossed"),
]


@pytest.mark.parametrize(("design", "path"), DENSE)
def test_kenward_roger_in_parameters_in_which_sigma_is_linear(design, path):
    """The core works in theta, where second derivatives do not vanish: the answer is the same.

    Weights, offsets and kernels are among the designs.
    """
    estimate = fit_lmm(design(), path=path)
    assert not estimate.optimum.singular
    X = estimate.specification.X
    Sigma, parts = linear_parameters(estimate)
    zero = np.zeros_like(Sigma)
    adjusted, W, slopes = kenward_by_brute_force(X, Sigma, parts, lambda i, j: zero, bias=False)
    found = kenward_roger(estimate)
    scale = np.sqrt(np.outer(np.diag(adjusted), np.diag(adjusted)))
    np.testing.assert_allclose(found.adjusted / scale, adjusted / scale, atol=1e-9)
    L = np.vstack([np.eye(3), [1.0, -2.0, 0.5]])
    Phi = estimate.coefficient_vcov
    v = np.einsum("qa,ab,qb->q", L, Phi, L)
    g = np.einsum("qa,iab,qb->qi", L, np.array(slopes), L)
    expected = 2 * v**2 / np.einsum("qi,ij,qj->q", g, W, g)
    np.testing.assert_allclose(found.degrees_of_freedom(L), expected, rtol=1e-8)


@pytest.mark.parametrize("name", ["homcs", "ar1", "ou", "rr", "two"])
def test_kenward_roger_where_sigma_is_not_linear(name):
    """With R and with the bias of 2009, from their definitions; in two parametrisations."""
    estimate = fit_lmm(specify(STRUCTURED[name], in_time()))
    assert parameters.parameter_covariance(estimate).free.all()
    spec, theta, s = estimate.specification, estimate.theta, estimate.sigma**2
    H = twin.covariance(spec, theta)
    dH, d2H = (
        twin.covariance_derivatives(spec, theta),
        twin.covariance_second_derivatives(spec, theta),
    )
    k = len(theta)

    def in_variance(i: int, j: int) -> Floats:  # (theta, sigma^2)
        if i == k and j == k:
            return np.zeros_like(H)
        return s * d2H[i, j] if max(i, j) < k else dH[min(i, j)]

    def in_log(i: int, j: int) -> Floats:  # (theta, log sigma)
        if i == k and j == k:
            return 4 * s * H
        return s * d2H[i, j] if max(i, j) < k else 2 * s * dH[min(i, j)]

    found = kenward_roger(estimate).adjusted
    scale = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    for last, second in ((H, in_variance), (2 * s * H, in_log)):
        first = [*(s * d for d in dH), last]
        expected = kenward_by_brute_force(spec.X, s * H, first, second, bias=True)[0]
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-7)


def test_compound_symmetry_is_linear():
    """A variance and a covariance: Kenward and Roger's formula of 1997 without R."""
    estimate = fit_lmm(specify(STRUCTURED["homcs"], in_time()))
    spec = estimate.specification
    [term] = spec.terms
    Sigma = estimate.sigma**2 * np.eye(spec.n) + twin.sandwich(spec, term, estimate.covariances[0])
    parts = [np.eye(spec.n), twin.sandwich(spec, term, np.eye(4))]
    parts.append(twin.sandwich(spec, term, np.ones((4, 4))))
    zero = np.zeros_like(Sigma)
    expected = kenward_by_brute_force(spec.X, Sigma, parts, lambda i, j: zero, bias=False)[0]
    np.testing.assert_allclose(kenward_roger(estimate).adjusted, expected, rtol=1e-8)


def test_kenward_roger_does_not_depend_on_units(fitted):
    table = table_of("two")
    again = table.assign(x=1000 * table["x"] + 3, y=0.01 * table["y"])
    formula = TESTS["two_slopes"]["formula"].replace("(1 | g) + (0 + x | g)", "(x | g)")
    one, other = (ranef.lmm(formula, t).tidy(df="kenward-roger") for t in (table, again))
    np.testing.assert_allclose(one["df"][1:], other["df"][1:], rtol=1e-6)
    np.testing.assert_allclose(one["statistic"][1:], other["statistic"][1:], rtol=1e-6)


# --- the F that Kenward and Roger refer to -------------------------------------------


def test_hotelling_is_exact():
    """Unstructured profiles of one group: T^2 is F on (q, n - q) after scaling.

    Kenward & Roger (1997) chose their approximation to be exact there.
    """
    rng = np.random.default_rng(3)
    groups, times = 12, 3
    Y = rng.normal(size=(groups, times)) @ np.array([[1.0, 0.5, 0.2], [0, 1, 0.3], [0, 0, 0.8]])
    g, t = (v.ravel() for v in np.indices((groups, times)))
    table = pd.DataFrame({"y": Y.ravel(), "t": t, "g": g})
    table["y"] += rng.normal(size=groups)[g] * 2
    fit = ranef.lmm("y ~ factor(t) + (1 | g)", table)
    found = fit.joint_test(np.eye(3)[1:], df="kenward-roger")
    # compound symmetry: the classical F on (t - 1), (g - 1)(t - 1)
    assert found.df2 == pytest.approx(22.0, rel=1e-8)
    assert kenward_roger(fit.estimate).scaled_f(np.eye(3)[1:]).scale == pytest.approx(1.0)


@pytest.mark.parametrize("q", [2, 3, 5])
def test_scaled_f_has_the_moments_that_were_matched(q):
    """Mean E and variance V of the statistic are those of F / scale."""
    A1, A2 = 0.11 * q, 0.07 * q
    found = kenward_._matched(q, A1, A2)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    d = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / d, (q - g) / d, (q + 2 - g) / d
    E = 1 / (1 - A2 / q)
    V = 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    mean, variance = stats.f.stats(q, found.df2, moments="mv")
    assert mean == pytest.approx(found.scale * E)
    assert variance == pytest.approx(found.scale**2 * V)


def test_an_f_without_a_variance_is_referred_to_two_degrees_of_freedom():
    assert kenward_._matched(2, 3.0, 2.5) == kenward_.ScaledF(1.0, 2.0)
    assert np.isinf(kenward_._matched(2, 0.0, 0.0).df2)


def test_rows_that_repeat_each_other(fitted):
    fit = fitted("oats_unbalanced")
    L = np.eye(6)[1:3]
    one = fit.joint_test(L, df="kenward-roger")
    other = fit.joint_test(np.vstack([L, L.sum(axis=0), 3 * L[0]]), df="kenward-roger")
    assert other.df1 == 2
    assert other.statistic == pytest.approx(one.statistic)
    assert other.df2 == pytest.approx(one.df2)
    with pytest.raises(ModelError, match="contradict"):
        fit.joint_test(np.vstack([L, L[0]]), np.array([0.0, 0.0, 1.0]))
    with pytest.raises(ModelError, match="all zeros"):
        fit.joint_test(0 * L)


def test_rows_of_very_different_length(fitted):
    fit = fitted("oats_unbalanced")
    L = np.eye(6)[1:3]
    for df in ("satterthwaite", "kenward-roger"):
        tiny = fit.joint_test(L * np.array([[1e-12], [1.0]]), df=df)
        assert tiny.df1 == 2
        assert tiny.statistic == pytest.approx(fit.joint_test(L, df=df).statistic)


# --- singular fits -------------------------------------------------------------------


def test_a_boundary_is_left_out(fitted):
    """A correlation of -1: the covariance matrix has rank one of two.

    pbkrtest counts all three entries of it as free and finds 4.18 degrees of freedom
    for the slope; here, as by Satterthwaite's method, what the boundary holds is not
    uncertain. The adjusted variances are never below the model's.
    """
    fit = fitted("nested_slope")
    assert fit.optimum.singular
    assert TESTS["nested_slope"]["kr_df"][1] == pytest.approx(4.18, abs=0.005)
    found = kenward_roger(fit.estimate)
    assert len(found.W) == 4
    assert np.linalg.eigvalsh(found.adjusted - found.vcov)[0] > -1e-12
    table = fit.tidy(df="kenward-roger")
    assert 4.18 < table["df"][1] < fit.n_obs
    # in parameters along the boundary in which Sigma is linear
    estimate = fit.estimate
    spec = estimate.specification
    slope, plot = spec.terms
    part = twin.split(spec, estimate.theta)[0]
    directions = twin.first_derivatives(slope, part)[:2]
    parts = [np.eye(spec.n), *(twin.sandwich(spec, slope, D) for D in directions)]
    parts.append(twin.sandwich(spec, plot, np.eye(1)))
    Sigma = estimate.sigma**2 * twin.covariance(spec, estimate.theta)
    zero = np.zeros_like(Sigma)
    expected = kenward_by_brute_force(spec.X, Sigma, parts, lambda i, j: zero, bias=False)[0]
    np.testing.assert_allclose(found.adjusted, expected, rtol=1e-6)


def test_without_any_variance_it_is_a_regression():
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"))
    assert fit.optimum.singular
    for method in ("satterthwaite", "kenward-roger", "residual"):
        table = fit.tidy(df=method)
        assert table["df"][0] == pytest.approx(29.0, rel=1e-10)
        assert table["std_error"][0] == pytest.approx(np.sqrt(fit.estimate.coefficient_vcov[0, 0]))


# --- containment ---------------------------------------------------------------------


def test_strata_are_those_of_nlme(agree):
    """But one: without an intercept nlme gives age 81, where 108 - (27 + 1) = 80 are left."""
    ours, known = [], []
    for name, case in STRATA.items():
        fit = ranef.lmm(case["formula"], table_of(case["table"]))
        found = fit.tidy(df="containment").set_index("term")["df"]
        theirs = dict(zip(case["names"], case["df"], strict=True))
        if name == "orthodont_no_intercept":
            assert theirs.pop("age11") == 81
            agree("tidy(df='containment')", "df of age, Orthodont without an intercept",
                  found["age11"], 108 - (27 + 1), peer="Pinheiro & Bates (2000)")  # fmt: skip
        ours += list(found[list(theirs)])
        known += list(theirs.values())
    agree("tidy(df='containment')", f"df of every coefficient, {len(STRATA)} models", ours, known,
          peer=NLME)  # fmt: skip


def test_strata_of_whole_terms(agree):
    ours, known = [], []
    for name in ("oats_add", "oats", "orthodont", "nested"):
        case = STRATA[name]
        fit = ranef.lmm(case["formula"], table_of(case["table"]))
        names = fit.estimate.specification.names
        for term, df1 in zip(case["terms"], case["term_df1"], strict=True):
            parts = term.split(":")
            own = [
                i
                for i, label in enumerate(names)
                if len(label.split(":")) == len(parts)
                and all(
                    piece.startswith(p) for piece, p in zip(label.split(":"), parts, strict=True)
                )
            ]
            found = fit.joint_test(np.eye(len(names))[own], df="containment")
            assert found.df1 == df1
            ours.append(found.df2)
        known += case["term_df2"]
    agree("F tests, df='containment'", "df2 of whole terms, four models", ours, known,
          peer=NLME)  # fmt: skip


def test_a_row_over_two_strata_takes_the_fewer():
    fit = ranef.lmm(STRATA["oats_add"]["formula"], table_of("oats"))
    L = np.array([[0, 1, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 1, -1, 0], [0] * 6], float)
    found = degrees.degrees_of_freedom(fit.estimate, L, "containment")
    np.testing.assert_array_equal(found, [10, 10, 51, np.nan])
    assert fit.joint_test(L[1:3], df="containment").df2 == 10


def test_a_partition_that_has_two_names_is_one_stratum():
    table = table_of("orthodont").assign(again=lambda t: "s" + t["Subject"].astype(str))
    fit = ranef.lmm("distance ~ age11 * Sex + (1 | Subject) + (0 + age11 | again)", table)
    found = containment.strata(fit.estimate.specification)
    assert found.factors in (("Subject",), ("again",))
    np.testing.assert_array_equal(found.sizes, [27, 108])
    np.testing.assert_array_equal(fit.tidy(df="containment")["df"], [79, 79, 25, 79])


def test_a_stratum_without_degrees_of_freedom_has_no_test():
    table = table_of("nested")
    block = table["block"].str[1:].astype(int)
    wide = table.assign(**{f"c{k}": (block == k) * 1.0 for k in range(1, 6)})
    with pytest.warns(RankWarning, match=r"do not determine the variance of \(1 \| block\)"):
        fit = ranef.lmm("y ~ x + w + c1 + c2 + c3 + c4 + c5 + (1 | block)", wide)
    table = fit.tidy(df="containment").set_index("term")
    assert table.loc["x", "df"] > 0
    assert np.isnan(table.loc["w", ["df", "p_value", "conf_low"]].to_numpy(float)).all()
    assert np.isfinite(table.loc["w", "estimate"])
    assert np.isnan(table.loc["w", ["std_error", "statistic"]].to_numpy(float)).all()


def test_containment_of_crossed_groups_and_of_kernels_is_refused():
    penicillin = ranef.lmm(TESTS["penicillin"]["formula"], table_of("Penicillin"))
    with pytest.raises(ModelError, match=r"'sample' and 'plate' cross.*kenward-roger"):
        penicillin.tidy(df="containment")
    estimate = fit_lmm(DESIGNS["kernel alone"][0]())
    with pytest.raises(ModelError, match="a kernel relates those of"):
        inference_of(estimate).intervals(np.eye(3), df="containment")


# --- all of them together ------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_answer_of_a_fit_agrees(fitted, method):
    fit = fitted("two_slopes")
    identity = np.eye(3)
    table = fit.tidy(df=method)
    V = fit.inference.covariance(method)
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(V)))
    np.testing.assert_allclose(table["statistic"], table["estimate"] / table["std_error"])
    reach = (table["conf_high"] - table["conf_low"]) / 2
    np.testing.assert_allclose(reach, stats.t.ppf(0.975, table["df"]) * table["std_error"])
    confint = fit.confint(df=method)
    np.testing.assert_array_equal(confint["conf_low"], table["conf_low"])
    found = fit.hypotheses(identity, 0.95, method)
    np.testing.assert_array_equal(found.df, table["df"])
    np.testing.assert_array_equal(found.p_value, table["p_value"])
    for i in range(3):
        one = fit.joint_test(identity[[i]], df=method)
        assert one.statistic == pytest.approx(table["statistic"][i] ** 2)
        assert one.df2 == pytest.approx(table["df"][i])
        assert one.p_value == pytest.approx(table["p_value"][i])
    words = str(fit.summary(df=method))
    assert f"{table['std_error'][0]:.3f}" in words
    assert ("Kenward" in words) == (method == "kenward-roger")
    for kind in ("typical", "population"):
        new = pd.DataFrame({"x": [0.0, 1.0], "f": ["u", "v"]})
        row = fit.predict(new, kind=kind, conf_level=0.95, df=method)
        L = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        same = fit.hypotheses(L, 0.95, method)
        np.testing.assert_allclose(row["std_error"], same.std_error)
        np.testing.assert_allclose(row["conf_low"], same.conf_low)


def test_the_method_has_no_part_in_intervals_that_are_normal(fitted):
    fit = fitted("two_slopes")
    for kind, interval in (("conditional", "mean"), ("typical", "new"), ("population", "new")):
        answers = [
            fit.predict(kind=kind, interval=interval, conf_level=0.9, df=method)
            for method in ("satterthwaite", "kenward-roger")
        ]
        pd.testing.assert_frame_equal(*answers)


def test_kenward_roger_of_a_likelihood_fit_is_refused():
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"), reml=False)
    for ask in (fit.tidy, fit.confint, fit.summary):
        with pytest.raises(ModelError, match="fit it with reml=True"):
            ask(df="kenward-roger")
    with pytest.raises(ModelError, match="reml=True"):
        fit.joint_test(np.eye(2), df="kenward-roger")
    with pytest.raises(ModelError, match="reml=True"):
        fit.inference.covariance("kenward-roger")
    assert np.isfinite(fit.tidy(df="containment")["df"]).all()


@pytest.mark.parametrize("method", ["satterthwaite", "kenward-roger", "containment", "residual"])
def test_a_generalised_model_says_why_not(method):
    fit = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    for ask in (fit.tidy, fit.confint, fit.summary):
        with pytest.raises(ModelError, match=f"df='{method}' is for linear models.*df='normal'"):
            ask(df=method)
    with pytest.raises(ModelError, match="is for linear models"):
        fit.inference.covariance(method)


def test_an_unknown_method_has_a_suggestion(fitted):
    fit = fitted("sleep_slope")
    for ask in (fit.tidy, fit.confint, fit.summary):
        with pytest.raises(ModelError, match=r"did you mean 'kenward-roger'"):
            ask(df="kenward roger")
    with pytest.raises(ModelError, match="did you mean 'containment'"):
        fit.predict(kind="typical", conf_level=0.95, df="containmnt")


def test_answers_come_in_the_users_library():
    polars = pytest.importorskip("polars")
    table = polars.from_pandas(ranef.data.load("sleepstudy"))
    found = ranef.lmm("Reaction ~ Days + (Days | Subject)", table).tidy(df="kenward-roger")
    assert isinstance(found, polars.DataFrame)
    assert found["df"].to_list() == pytest.approx([17.0, 17.0], rel=1e-9)


def test_missing_rows_and_redundant_columns():
    table = table_of("two").assign(twice=lambda t: 2 * t["x"])
    table.loc[[3, 17], "x"] = np.nan
    with pytest.warns(ranef.errors.RankWarning):
        fit = ranef.lmm("y ~ x + twice + f + (1 | g)", table)
    expected = ranef.lmm("y ~ x + f + (1 | g)", table.dropna())
    for method in ("satterthwaite", "kenward-roger", "containment"):
        np.testing.assert_allclose(fit.tidy(df=method)["df"], expected.tidy(df=method)["df"])


def test_a_fit_that_was_kept_has_the_same_degrees_of_freedom(tmp_path, fitted):
    fit = fitted("crossed")
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    one, other = (f.tidy(df="kenward-roger") for f in (fit, again))
    np.testing.assert_allclose(one["df"], other["df"], rtol=1e-10)
    np.testing.assert_allclose(one["std_error"], other["std_error"], rtol=1e-10)
