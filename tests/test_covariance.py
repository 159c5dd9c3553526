"""The vocabulary of covariance structures, without the compiled core."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_toeplitz

from ranef.covariance import (
    STRUCTURES,
    Structure,
    lower_entries,
    lower_factor,
    parameter_names,
    relative_covariance,
    standard_deviations,
    structure,
    structure_of,
)
from ranef.covariance.correlation import matern, matern_bends
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError

SIZE = 4
TIMES = np.array([0.0, 1.0, 3.0, 4.0])[:, None]
PLACES = np.array([[0.0, 0.0], [1.0, 0.5], [2.0, -1.0], [0.3, 2.0]])

LAMBDA_NAMES = ("factor(a, a)", "factor(b, a)", "factor(b, b)")
NAMES_OF_TWO = {
    "us": LAMBDA_NAMES,
    "kernel": LAMBDA_NAMES,
    "diag": ("sd(a)", "sd(b)"),
    "homdiag": ("sd",),
    "cs": ("sd(a)", "sd(b)", "corr"),
    "homcs": ("sd", "corr"),
    "ar1": ("sd", "corr"),
    "hetar1": ("sd(a)", "sd(b)", "corr"),
    "toep": ("sd(a)", "sd(b)", "corr(lag 1)"),
    "homtoep": ("sd", "corr(lag 1)"),
    "ou": ("sd", "rate"),
    "exp": ("sd", "range"),
    "gau": ("sd", "range"),
    "mat": ("sd", "range", "smoothness"),
    "rr": ("loading(a, 1)", "loading(b, 1)"),
}


def make(kind: str, size: int = SIZE) -> Structure:
    """A structure of up to four columns, with positions where it needs them."""
    positions = {"ar1": TIMES, "hetar1": TIMES, "ou": TIMES / 3.0}.get(kind, PLACES)
    return structure(kind, size, min(2, size) if kind == "rr" else None, positions[:size])


def some_phi(s: Structure, seed: int = 1, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(s.n_parameters)


def differences(f, x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Central differences of order four, derivative number first."""
    out = []
    for i in range(len(x)):
        e = np.zeros(len(x))
        e[i] = h
        near, far = f(x + e) - f(x - e), f(x + 2 * e) - f(x - 2 * e)
        out.append((8.0 * near - far) / (12.0 * h))
    return np.array(out)


def test_every_name_of_the_formula_language_has_its_parameters_named() -> None:
    assert set(NAMES_OF_TWO) == set(STRUCTURES)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_parameter_names(kind: str) -> None:
    assert parameter_names(kind, ["a", "b"], rank=1) == NAMES_OF_TWO[kind]


@pytest.mark.parametrize("kind", STRUCTURES)
def test_theta_and_phi_are_the_same_matrix(kind: str) -> None:
    s = make(kind)
    theta = s.from_phi(some_phi(s))
    np.testing.assert_allclose(s.from_phi(s.to_phi(theta)), theta, rtol=1e-12)
    np.testing.assert_allclose(s.psi(s.from_phi(s.to_phi(theta))), s.psi(theta), atol=1e-12)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_derivatives_in_theta(kind: str) -> None:
    s = make(kind)
    theta = s.from_phi(some_phi(s))
    want = differences(s.psi, theta, 1e-3 * min(1.0, float(np.abs(theta).min())))
    np.testing.assert_allclose(s.derivatives(theta), want, atol=1e-8 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("kind", STRUCTURES)
@settings(deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.3, 1.0, 3.0]))
def test_any_phi_is_valid(kind: str, seed: int, scale: float) -> None:
    s = make(kind)
    theta = s.from_phi(some_phi(s, seed, scale))
    psi = s.psi(theta)
    sd, corr = standard_deviations(psi)
    assert np.linalg.eigvalsh(corr).min() > -1e-12
    lam = lower_factor(psi)
    assert np.array_equal(lam, np.tril(lam))
    assert np.all(np.diag(lam) >= 0.0)
    np.testing.assert_allclose(lam @ lam.T, psi, atol=1e-12 * sd.max() ** 2)
    reported = [
        v for v, p in zip(theta, s.parameters(), strict=True) if p.kind in ("sd", "range", "rate")
    ]
    assert all(v >= 0.0 for v in reported)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_components_are_read_off_psi(kind: str) -> None:
    s = make(kind)
    theta = s.from_phi(some_phi(s))
    found = s.components(theta)
    sd, corr = standard_deviations(s.psi(theta))
    number = {name: i for i, name in enumerate(s.column_names(None))}
    for c in found:
        if c.parameter.kind == "sd" and c.parameter.term in number:
            assert c.value == pytest.approx(sd[number[c.parameter.term]], rel=1e-12)
        if c.parameter.kind == "corr" and c.parameter.term in number:
            i, j = number[c.parameter.term], number[c.parameter.term2]
            assert c.value == pytest.approx(corr[i, j], rel=1e-12)

    def values(t: np.ndarray) -> np.ndarray:
        return np.array([c.value for c in s.components(t)])

    gradients = np.array([c.gradient for c in found]).T
    step = 1e-3 * min(1.0, float(np.abs(theta).min()))
    np.testing.assert_allclose(gradients, differences(values, theta, step), atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("us", ("sd", "sd", "corr")), ("rr", ("sd", "sd", "corr")), ("ar1", ("sd", "corr"))],
)
def test_components_of_two_columns(kind: str, rows: tuple[str, ...]) -> None:
    s = make(kind, 2)
    found = s.components(s.from_phi(some_phi(s)), ["a", "b"])
    assert tuple(c.parameter.kind for c in found) == rows


def test_correlation_with_something_constant_is_unknown() -> None:
    found = structure("us", 2).components(np.array([2.0, 0.0, 0.0]))
    assert found[1].value == 0.0
    assert np.isnan(found[2].value)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_one_column_is_one_variance(kind: str) -> None:
    s = structure(kind, 1, 1)
    assert s.n_parameters == 1
    theta = s.from_phi(np.array([-1.5]))
    assert theta[0] > 0.0
    np.testing.assert_allclose(s.psi(theta), [[theta[0] ** 2]])
    np.testing.assert_allclose(s.derivatives(theta), [[[2.0 * theta[0]]]])
    np.testing.assert_allclose(s.from_phi(s.to_phi(theta)), theta)


def test_matrices_by_hand() -> None:
    t = np.array([2.0, 0.5])
    half = [[4, 2, 1], [2, 4, 2], [1, 2, 4]]
    np.testing.assert_allclose(structure("ar1", 3).psi(t), half)
    gaps = structure("ar1", 3, positions=np.array([[5.0], [6.0], [9.0]])).psi(t)
    np.testing.assert_allclose(gaps, [[4, 2, 0.25], [2, 4, 0.5], [0.25, 0.5, 4]])
    np.testing.assert_allclose(structure("homcs", 2).psi(t), [[4, 2], [2, 4]])
    np.testing.assert_allclose(structure("homdiag", 2).psi(t[:1]), 4 * np.eye(2))
    cs = structure("cs", 3).psi(np.array([1.0, 2.0, 0.0, -0.25]))
    np.testing.assert_allclose(cs, [[1, -0.5, 0], [-0.5, 4, 0], [0, 0, 0]])
    toep = structure("toep", 3).psi(np.array([1.0, 2.0, 3.0, 0.5, 0.1]))
    np.testing.assert_allclose(toep, [[1, 1, 0.3], [1, 4, 3], [0.3, 3, 9]])
    rr = structure("rr", 3, 1).psi(np.array([1.0, 2.0, -1.0]))
    np.testing.assert_allclose(rr, [[1, 2, -1], [2, 4, -2], [-1, -2, 1]])


def test_functions_of_distance_by_hand() -> None:
    here = np.array([[0.0, 0.0], [3.0, 4.0]])
    r = np.exp(-0.5)
    np.testing.assert_allclose(structure("exp", 2, positions=here).psi([2, 10])[0], [4, 4 * r])
    gau = structure("gau", 2, positions=here).psi([2, 10])[0]
    np.testing.assert_allclose(gau, [4, 4 * np.exp(-0.25)])
    half = structure("mat", 2, positions=here).psi([2, 10, 0.5])[0]
    np.testing.assert_allclose(half, [4, 4 * r], rtol=1e-13)
    three_halves = structure("mat", 2, positions=here).psi([1, 10, 1.5])[0]
    np.testing.assert_allclose(three_halves, [1, 1.5 * r], rtol=1e-13)
    ou = structure("ou", 2, positions=np.array([[1.0], [3.5]])).psi([2, 0.2])[0]
    np.testing.assert_allclose(ou, [4, 4 * r])


def test_toeplitz_against_durbin_levinson() -> None:
    """Partial autocorrelations by their definition: the last coefficient of Yule-Walker."""
    s = structure("toep", 7)
    phi = np.concatenate([np.ones(7), [0.5, -0.9, 0.3, 1.2, 0.0, -2.0]])
    rho = s.from_phi(phi)[7:]
    partial = [solve_toeplitz(np.append(1.0, rho[:k]), rho[: k + 1])[-1] for k in range(6)]
    np.testing.assert_allclose(partial, np.sin(phi[7:]), atol=1e-12)


def test_partial_autocorrelations_of_one_leave_the_rest_free() -> None:
    s = structure("toep", 5)
    phi = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.4, np.pi / 2, 0.3, -0.2])
    theta = s.from_phi(phi)
    assert np.linalg.matrix_rank(s.psi(theta), tol=1e-9) == 2
    np.testing.assert_allclose(s.psi(s.from_phi(s.to_phi(theta))), s.psi(theta), atol=1e-9)
    assert s.boundary(theta) == ("an effect is determined by the 2 before it",)
    assert s.free(theta).tolist() == [True] * 6 + [False] * 3


@pytest.mark.parametrize(
    ("kind", "theta", "words"),
    [
        ("us", [1.0, 2.0, 0.0], ("the correlation of a and b is 1",)),
        ("us", [1.0, -2.0, 0.0], ("the correlation of a and b is -1",)),
        ("us", [1.0, 0.0, 0.0], ("the variance of b is zero",)),
        ("us", [1.0, 0.5, 0.5], ()),
        ("diag", [0.0, 1.0], ("the variance of a is zero",)),
        ("cs", [1.0, 0.0, 0.3], ("the variance of b is zero",)),
        ("cs", [1.0, 2.0, 1.0], ("the correlation is 1",)),
        ("homcs", [0.0, 0.3], ("the variance is zero",)),
        ("homcs", [1.0, -1.0], ("the correlation is at its lowest, -1: the effects sum to zero",)),
        ("ar1", [1.0, -1.0], ("the autocorrelation is -1",)),
        ("ar1", [1.0, 0.9], ()),
        ("ou", [1.0, 0.0], ("the columns are perfectly correlated",)),
        ("exp", [1.0, np.inf], ("the columns are perfectly correlated",)),
        ("gau", [1.0, np.inf], ("the columns are perfectly correlated",)),
        ("mat", [1.0, 1e12, 1.5], ("the columns are perfectly correlated",)),
        ("mat", [1.0, 1.0, 1.5], ()),
        ("ou", [1.0, 100.0], ("no two columns are near enough to be correlated",)),
        ("cs", [1.0, 0.0, 1.0], ("the variance of b is zero",)),
        ("rr", [0.0, 0.0], ("the variance of a is zero", "the variance of b is zero",
                            "the loadings have rank 0 of 1")),
    ],
)  # fmt: skip
def test_boundaries_in_words(kind: str, theta: list[float], words: tuple[str, ...]) -> None:
    s = structure(kind, 2, 1 if kind == "rr" else None, TIMES[:2])
    assert s.boundary(np.array(theta), ["a", "b"]) == words


@pytest.mark.parametrize(
    ("kind", "theta", "free"),
    [
        ("us", [1.0, 2.0, 0.0], [True, True, False]),
        ("us", [1.0, 2.0, 1.0], [True, True, True]),
        ("diag", [0.0, 2.0], [False, True]),
        ("cs", [1.0, 0.0, 0.3], [True, False, False]),
        ("cs", [1.0, 2.0, -1.0], [True, True, False]),
        ("homcs", [0.0, 0.3], [False, False]),
        ("ar1", [1.0, 1.0], [True, False]),
        ("ou", [1.0, 0.0], [True, False]),
        ("mat", [1.0, 1.0, 0.5], [True, True, True]),
        ("rr", [0.0, 0.0], [False, False]),
    ],
)
def test_free_parameters(kind: str, theta: list[float], free: list[bool]) -> None:
    s = structure(kind, 2, 1 if kind == "rr" else None, TIMES[:2])
    assert s.free(np.array(theta)).tolist() == free


def test_lost_rank_in_words() -> None:
    lam = np.tril(np.random.default_rng(3).standard_normal((3, 3)))
    lam[2, 2] = 0.0
    us = structure("us", 3)
    assert us.boundary(lam[lower_entries(3)]) == ("the covariance matrix has rank 2 of 3",)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_descriptions_are_words(kind: str) -> None:
    text = make(kind).description
    assert text
    assert text[0] != text[0].upper() or text.split()[0] in (
        "Toeplitz,", "Gaussian,", "Matern", "Ornstein-Uhlenbeck"
    )  # fmt: skip
    assert not text.endswith(".")


@pytest.mark.parametrize("rank", [0, 1, 2, 5, 7])
@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_factor_of_a_singular_matrix(rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((7, rank)) * np.exp(rng.uniform(-8, 8, 7))[:, None]
    half[rng.integers(7)] = 0.0
    psi = half @ half.T
    lam = lower_factor(psi)
    sd = np.sqrt(np.diag(psi))
    assert np.array_equal(lam, np.tril(lam))
    assert np.all(np.diag(lam) >= 0.0)
    assert np.count_nonzero(np.any(lam != 0.0, axis=0)) == min(rank, 6)
    assert np.all(np.abs(lam @ lam.T - psi) <= 1e-13 * np.outer(sd, sd))


def test_factor_of_a_positive_definite_matrix_is_cholesky() -> None:
    half = np.random.default_rng(5).standard_normal((6, 9))
    psi = half @ half.T
    np.testing.assert_allclose(lower_factor(psi), np.linalg.cholesky(psi), rtol=1e-12, atol=1e-14)


def test_null_columns_stand_where_the_pivot_is_lost() -> None:
    v = np.array([0.0, 2.0, -1.0])
    want = np.zeros((3, 3))
    want[:, 1] = v
    np.testing.assert_allclose(lower_factor(np.outer(v, v)), want, atol=1e-15)


def test_reduced_rank_theta_of_a_matrix() -> None:
    rr = structure("rr", 4, 2)
    theta = rr.from_phi(some_phi(rr))
    np.testing.assert_allclose(rr.from_psi(rr.psi(theta)), theta, rtol=1e-8)
    with pytest.raises(ModelError, match="rank above 2"):
        rr.from_psi(np.eye(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toepp", 3), r"no covariance structure 'toepp'; did you mean 'toep'\?"),
        (("rr", 3), r"rr needs its number of dimensions"),
        (("rr", 3, 4), r"from 1 to 3 dimensions, not 4"),
        (("exp", 3), r"exp needs a position for each of the 3 columns"),
        (("exp", 3, None, TIMES), r"exp needs a position for each of the 3 columns"),
        (("ou", 4, None, PLACES), r"one dimension, not 2; use exp, gau or mat"),
        (("ar1", 2, None, TIMES[:2] / 2), r"whole numbers as positions; .* use ou"),
        (("gau", 3, None, TIMES[[0, 1, 1]]), r"columns 2 and 3 have the same position"),
        (("mat", 2, None, TIMES[:2] * np.nan), r"a position is not finite"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        structure(*arguments)


@pytest.mark.parametrize(
    ("kind", "theta", "message"),
    [
        ("cs", [1.0, 1.0, 1.0, -0.6], r"between -0.5 and 1, not at -0.6"),
        ("cs", [1.0, -1.0, 1.0, 0.0], r"a standard deviation of cs is negative: -1"),
        ("ar1", [1.0, 1.2], r"an autocorrelation lies between -1 and 1"),
        ("toep", [1.0, 1.0, 1.0, 0.9, 0.0], r"the partial correlation at lag 2"),
        ("exp", [1.0, -2.0], r"the range is positive, not -2"),
        ("ou", [1.0, -2.0], r"the rate is positive, not -2"),
        ("mat", [1.0, 1.0, 0.0], r"the smoothness is positive, not 0"),
        ("ar1", [1.0], r"ar1 of 3 columns has 2 parameters"),
    ],
)
def test_parameters_outside_their_range_are_refused(
    kind: str, theta: list[float], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        structure(kind, 3, positions=TIMES[:3]).to_phi(np.array(theta))


def test_an_indefinite_matrix_has_no_factor() -> None:
    with pytest.raises(ModelError, match=r"not positive semidefinite.*-1"):
        lower_factor(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ModelError, match="not positive semidefinite"):
        lower_factor(np.array([[0.0, 1.0], [1.0, 1.0]]))


def test_wrong_number_of_names() -> None:
    with pytest.raises(ModelError, match="3 columns, but 2 names"):
        structure("us", 3).parameter_names(["a", "b"])


def test_a_random_term_tells_its_structure() -> None:
    term = RandomTerm("exp(0 + p | g)", 0, ("p1", "p2"), np.zeros((5, 2)), "exp",
                      positions=TIMES[:2])  # fmt: skip
    theta = np.array([1.5, 2.0])
    np.testing.assert_array_equal(
        structure_of(term).psi(theta), relative_covariance("exp", theta, term)
    )


@pytest.mark.parametrize("kind", STRUCTURES)
def test_second_derivatives_in_theta(kind: str) -> None:
    s = make(kind)
    theta = s.from_phi(some_phi(s, scale=0.7))
    want = differences(s.derivatives, theta)
    found = s.second_derivatives(theta)
    np.testing.assert_allclose(found, want, atol=1e-7 * max(1, np.abs(want).max()))
    np.testing.assert_array_equal(found, found.transpose(1, 0, 2, 3))


@pytest.mark.parametrize("nu", [0.05, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("x", [1e-3, 0.1, 2.0, 30.0])
def test_second_derivatives_of_matern(x: float, nu: float) -> None:
    step = 1e-3

    def slopes(at: tuple[float, float]) -> np.ndarray:
        return np.array(matern(x * np.exp(at[0]), nu * np.exp(at[1]))[1:])

    by_difference = differences(slopes, np.zeros(2), step)
    in_log_x, mixed, in_nu = matern_bends(x, nu)
    want = [by_difference[0, 0], by_difference[0, 1], by_difference[1, 1] / nu]
    np.testing.assert_allclose([in_log_x, mixed, in_nu], want, rtol=1e-6, atol=1e-9)
