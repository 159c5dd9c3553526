"""Adjusted tests against R's p.adjust and ptukey, SciPy, and integrals of their own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy
from scipy import integrate, special, stats

from ranef.errors import ModelError
from ranef.questions.means.arrows import comparison_arrows
from ranef.questions.means.contrast_matrices import contrast_matrix
from ranef.questions.means.letters import compact_letters
from ranef.questions.means.multiplicity import (
    ADJUSTMENTS,
    HypothesisFamily,
    adjust,
    check_adjustment,
)
from ranef.questions.means.multivariate_t import multivariate_t
from ranef.questions.means.studentized import range_quantile, range_tail

SCIPY = f"SciPy {scipy.__version__}"


def pairwise(k):
    C = contrast_matrix("pairwise", [str(i) for i in range(k)]).C / np.sqrt(2)
    return C @ C.T


TUKEY = "ranef.contrasts(adjust='tukey')"
RANGES = [
    (3.5, 3, 10), (4.2, 10, 5), (20, 4, 2), (3, 4, 1), (5, 20, 100), (3, 2, np.inf), (4, 6, 7.3),
]  # fmt: skip


def test_studentised_range_agrees_with_scipy(agree):
    ours = [range_tail(np.array([q]), k, df)[0] for q, k, df in RANGES]
    theirs = [stats.studentized_range.sf(q, k, df) for q, k, df in RANGES]
    agree(TUKEY, "tail of the studentised range, 2 to 20 means", ours, theirs,
          peer=SCIPY, rtol=1e-9)  # fmt: skip


def test_studentised_range_agrees_with_r(agree):
    """R 4.2.2: ptukey(q, k, df, lower.tail = FALSE), qtukey(.95, 4, 24)."""
    ours = [range_tail(np.array([q]), k, df)[0] for q, k, df in RANGES[:2]]
    agree(TUKEY, "tail of the studentised range, 3 and 10 means", ours,
          [0.0771033108386604, 0.278443478237503], peer="R 4.2.2", rtol=1e-8)  # fmt: skip
    agree(TUKEY, "95% point of the studentised range, 4 means, 24 df",
          range_quantile(0.95, 4, 24), 3.90126195977858, peer="R 4.2.2", rtol=1e-6)  # fmt: skip


def test_studentised_range_where_r_is_off(agree):
    """R's ptukey(20, 4, 2, lower.tail = FALSE) is 0.0125575, the integral 0.0123998."""
    t, w = np.polynomial.legendre.leggauss(400)
    z, s = 12 * t, 12 * (t + 1)
    inner = np.array([
        4 * np.sum(12 * w * stats.norm.pdf(z) * (special.ndtr(z) - special.ndtr(z - 20 * u)) ** 3)
        for u in s
    ])  # fmt: skip
    chi = stats.chi(2, scale=1 / np.sqrt(2)).pdf(s)
    integral = 1 - np.sum(12 * w * chi * inner)
    ours = range_tail(np.array([20.0]), 4, 2)[0]
    agree(TUKEY, "tail of the studentised range at 20, 4 means, 2 df", ours, integral,
          peer="its double integral", rtol=1e-7)  # fmt: skip
    assert abs(0.0125575045083 - integral) > 1e-4


def test_studentised_range_of_two_means_is_a_t_test_far_into_the_tail(agree):
    q = np.array([0.5, 3.0, 20.0, 60.0])
    exact = 2 * special.stdtr(11.0, -q / np.sqrt(2))
    agree(TUKEY, "tail of the studentised range, 2 means, down to 1e-13", range_tail(q, 2, 11.0),
          exact, peer="Student's t", rtol=1e-9)  # fmt: skip
    assert exact[-1] < 2e-13


def test_studentised_range_keeps_relative_accuracy_where_the_complement_would_round():
    """P(range of 3 > w) is 6 int phi(z) [tails], about 6 P(Z > w / sqrt 2) for large w."""
    w = 12.0
    p = range_tail(np.array([w]), 3, np.inf)[0]
    first = 3 * 2 * special.ndtr(-w / np.sqrt(2))
    assert p == pytest.approx(first, rel=1e-3)
    assert p < 1e-15


def test_quantile_inverts_the_tail_at_fractional_k():
    q = range_quantile(0.9, 3.37, 6.5)
    assert range_tail(np.array([q]), 3.37, 6.5)[0] == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize(("k", "df"), [(3, 8.0), (5, 24.0), (6, np.inf)])
def test_multivariate_t_of_all_pairs_is_the_studentised_range(k, df):
    """A singular correlation, of rank k - 1 among k (k - 1) / 2."""
    joint = multivariate_t(pairwise(k), df, np.random.default_rng(5))
    assert joint.root.shape[1] == k - 1
    for t in (1.0, 2.5, 3.5):
        p, error = joint.outside(t)
        exact = range_tail(np.array([np.sqrt(2) * t]), k, df)[0]
        assert abs(p - exact) < 6 * error + 1e-6
        assert error < 3e-4
    assert joint.quantile(0.95, 1.5, 5.0) == pytest.approx(
        range_quantile(0.95, k, df) / np.sqrt(2), abs=3e-3
    )


def dunnett(t, m, df):
    """P(max |T| > t) at correlations of 1/2, by two integrals (Dunnett 1955, JASA 50)."""

    def given(s):
        def inner(z):
            low, high = (np.sqrt(2) * (x - z / np.sqrt(2)) for x in (-t * s, t * s))
            return stats.norm.pdf(z) * (special.ndtr(high) - special.ndtr(low)) ** m

        return integrate.quad(inner, -9, 9, epsabs=1e-11)[0]

    density = stats.chi(df, scale=1 / np.sqrt(df)).pdf
    return 1 - integrate.quad(lambda s: density(s) * given(s), 0, 5, epsabs=1e-10)[0]


def test_dunnett_is_exact_and_dunnettx_near(agree):
    t, df = 2.4, 15.0
    for m in (2, 3, 7):
        correlation = np.full((m, m), 0.5) + np.eye(m) / 2
        family = HypothesisFamily(np.full(m, t), np.full(m, df), correlation, m)
        found, near = adjust(family, "dunnett"), adjust(family, "dunnettx")
        exact = dunnett(t, m, df)
        agree("ranef.contrasts(adjust='dunnett')", f"p-value of {m} comparisons with a control",
              found.p_value[0], exact, peer="Dunnett (1955), two integrals",
              atol=max(5 * found.error, 1e-5))  # fmt: skip
        assert exact < near.p_value[0] < 1.05 * exact
        at_limit = HypothesisFamily(near.critical, np.full(m, df), correlation, m)
        np.testing.assert_allclose(adjust(at_limit, "dunnettx").p_value, 0.05, rtol=1e-8)


# R 4.2.2: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05, 0.2, 0.5, 0.013), method)
P = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.2, 0.5, 0.013])
ADJUSTED = {
    "bonferroni": [0.08, 0.16, 0.24, 0.32, 0.4, 1, 1, 0.104],
    "holm": [0.080, 0.120, 0.150, 0.160, 0.160, 0.400, 0.500, 0.091],
    "hochberg": [0.080, 0.120, 0.150, 0.150, 0.150, 0.400, 0.500, 0.091],
    "hommel": [0.07, 0.0833333333333, 0.1, 0.12, 0.15, 0.4, 0.5, 0.075],
    "bh": [0.052, 0.0533333333333, 0.06, 0.064, 0.0666666666667, 0.2285714285714, 0.5, 0.052],
    "by": [
        *(0.141328571429, 0.144952380952, 0.163071428571, 0.173942857143),
        *(0.181190476190, 0.621224489796, 1.0, 0.141328571429),
    ],
}  # fmt: skip


def test_adjusted_p_values_agree_with_r(agree):
    family = HypothesisFamily(special.ndtri(P / 2), np.full(8, np.inf), np.eye(8), 8)
    agree("ranef.contrasts(adjust=...)", f"eight p-values by {', '.join(ADJUSTED)}",
          [adjust(family, method).p_value for method in ADJUSTED], list(ADJUSTED.values()),
          peer="p.adjust, R 4.2.2", rtol=1e-10)  # fmt: skip


def simes(p):
    return np.min(len(p) * np.sort(p) / np.arange(1, len(p) + 1))


def test_hommel_is_the_closure_of_simes():
    rng = np.random.default_rng(8)
    for _ in range(20):
        p = rng.uniform(size=5) ** 2
        family = HypothesisFamily(special.ndtri(p / 2), np.full(5, np.inf), np.eye(5), 5)
        brute = [
            max(
                simes(p[list(own)])
                for size in range(1, 6)
                for own in combinations(range(5), size)
                if i in own
            )
            for i in range(5)
        ]
        np.testing.assert_allclose(adjust(family, "hommel").p_value, brute, rtol=1e-10)


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_intervals_and_p_values_tell_the_same(method):
    """A test at its own critical value has p = alpha, where the method has intervals."""
    family = HypothesisFamily(np.array([2.0, 1.0, 3.0]), np.full(3, 12.0), pairwise(3), 2, 3)
    found = adjust(family, method, 0.9)
    if found.interval_method != found.method:
        assert found.interval_method == "bonferroni"
        assert method in ("holm", "hochberg", "hommel", "bh", "by")
        return
    limit = HypothesisFamily(found.critical, family.df, family.correlation, 2, 3)
    np.testing.assert_allclose(adjust(limit, method, 0.9).p_value, 0.1, atol=1e-7)


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_tests_that_are_not_there_do_not_count(method):
    few = HypothesisFamily(np.array([2.0, 1.0]), np.full(2, 9.0), np.eye(2), 2, 3)
    some = np.array([np.nan, np.nan])
    more = HypothesisFamily(
        np.append(few.statistic, some), np.append(few.df, some), np.eye(4), 2, 3
    )
    np.testing.assert_allclose(
        adjust(more, method).p_value, [*adjust(few, method).p_value, np.nan, np.nan], rtol=1e-9
    )


def test_one_test_needs_no_adjustment():
    family = HypothesisFamily(np.array([2.0]), np.array([9.0]), np.eye(1), 1, 2)
    raw = adjust(family, "none")
    for method in ADJUSTMENTS:
        found = adjust(family, method)
        np.testing.assert_allclose(found.p_value, raw.p_value, rtol=1e-9)
        np.testing.assert_allclose(found.critical, raw.critical, rtol=1e-7)


def test_the_same_seed_gives_the_same_integral():
    family = HypothesisFamily(
        np.array([2.0, 1.5, 0.3]), np.full(3, 9.0), np.full((3, 3), 0.3) + 0.7 * np.eye(3), 3
    )
    one, two = (adjust(family, "mvt").p_value for _ in range(2))
    np.testing.assert_array_equal(one, two)
    other = adjust(family, "mvt", rng=np.random.default_rng(1))
    assert not np.array_equal(one, other.p_value)
    np.testing.assert_allclose(one, other.p_value, atol=1e-3)


@pytest.mark.parametrize("method", ["tukey", "dunnettx"])
def test_critical_values_at_many_degrees_of_freedom_agree_with_those_one_by_one(method):
    df = np.geomspace(11, 43, 30)
    family = HypothesisFamily(np.full(30, 2.0), df, np.eye(30), 7, 8)
    found = adjust(family, method).critical
    for i in (0, 13, 29):
        own = HypothesisFamily(family.statistic, np.full(30, df[i]), np.eye(30), 7, 8)
        assert found[i] == pytest.approx(adjust(own, method).critical[0], rel=1e-9)


def test_unknown_adjustments_are_named():
    with pytest.raises(ModelError, match="did you mean 'tukey'"):
        check_adjustment("tukye")
    assert check_adjustment("FDR") == "bh"


# --- contrasts


@pytest.mark.parametrize("k", range(2, 10))
def test_polynomials_are_orthogonal_whole_and_small(k):
    C = contrast_matrix("polynomial", [str(i) for i in range(k)]).C
    gram = C @ C.T
    np.testing.assert_array_equal(gram, np.diag(np.diag(gram)))
    np.testing.assert_array_equal(C, np.round(C))
    assert len(C) == min(k - 1, 6)
    assert all(np.gcd.reduce(row.astype(int)) == 1 for row in C)
    for degree, row in enumerate(C, 1):
        assert row @ np.arange(k) ** float(degree) > 0
        for lower in range(degree):
            assert row @ np.arange(k) ** float(lower) == 0


@pytest.mark.parametrize(
    "method", ["pairwise", "revpairwise", "reference", "consecutive", "helmert", "mean_change",
               "effects", "deleted_effects", "polynomial", "reference_last"],
)  # fmt: skip
def test_contrasts_sum_to_zero_and_have_a_name_each(method):
    made = contrast_matrix(method, list("abcde"))
    np.testing.assert_allclose(made.C.sum(axis=1), 0, atol=1e-12)
    assert len(set(made.names)) == len(made.C)


def test_helmert_contrasts_are_orthogonal():
    C = contrast_matrix("helmert", list("abcd")).C
    gram = C @ C.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)


# --- letters and arrows


def test_letters_say_exactly_which_pairs_differ():
    rng = np.random.default_rng(3)
    for _ in range(200):
        k = int(rng.integers(2, 8))
        p = rng.uniform(size=k * (k - 1) // 2)
        letters = compact_letters(rng.normal(size=k), p, 0.4)
        for (i, j), value in zip(combinations(range(k), 2), p, strict=True):
            assert bool(set(letters[i]) & set(letters[j])) == (value >= 0.4)


def test_arrows_say_which_pairs_differ_or_name_those_they_get_wrong():
    rng = np.random.default_rng(4)
    clean = 0
    for _ in range(200):
        k = int(rng.integers(2, 7))
        estimate = rng.normal(size=k)
        error = rng.uniform(0.2, 0.6, k)
        critical = 2 * np.sqrt(error[:, None] ** 2 + error**2)
        found = comparison_arrows(estimate, critical)
        assert (found.left >= 0).all()
        assert (found.right >= 0).all()
        wrong = []
        for i, j in combinations(range(k), 2):
            low, high = (i, j) if estimate[i] < estimate[j] else (j, i)
            apart = estimate[low] + found.right[low] < estimate[high] - found.left[high]
            if apart != (estimate[high] - estimate[low] > critical[i, j]):
                wrong.append((i, j))
        assert tuple(wrong) == found.wrong
        clean += not wrong
    assert clean > 190


def test_arrows_leave_out_what_is_not_known():
    found = comparison_arrows(np.array([1.0, np.nan, 4.0]), np.full((3, 3), 1.0))
    assert np.isnan(found.left[1])
    assert found.wrong == ()
