"""The compiled covariance structures: derivatives, factors, and their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, kve

from ranef._core import Structure as Core
from ranef.covariance import STRUCTURES, Structure, structure

KINDS = tuple(kind for kind in STRUCTURES if kind != "kernel")
SIZES = (1, 2, 3, 6)

# Matern correlations M(x, nu) with 50 digits (mpmath 1.3.0).
MATERN = [
    (1e-08, 0.05, 0.843321747681463432),
    (0.001, 0.3, 0.984876762981275618),
    (0.5, 0.05, 0.0887343784361379344),
    (0.5, 0.5, 0.606530659712633424),
    (0.5, 3.7, 0.977266182526070199),
    (2.0, 1.0, 0.279731763633044855),
    (2.0, 12.25, 0.915295508392247558),
    (7.5, 2.5, 0.0150715490865284651),
    (30.0, 0.5, 9.3576229688401746e-14),
    (60.0, 50.0, 1.18939517468550589e-7),
]


def columns(kind: str, size: int, seed: int = 3) -> tuple[int, np.ndarray | None]:
    """Rank and positions that a structure of a kind needs."""
    rng = np.random.default_rng(seed)
    rank = (size + 1) // 2 if kind == "rr" else 0
    if kind in ("ar1", "hetar1"):
        return rank, 2010.0 + np.cumsum(rng.integers(1, 4, (size, 1)), axis=0)
    if kind == "ou":
        return rank, np.cumsum(rng.exponential(0.01, (size, 1)), axis=0)
    if kind in ("exp", "gau", "mat"):
        return rank, 100.0 * rng.standard_normal((size, 2))
    return rank, None


def both(kind: str, size: int) -> tuple[Core, Structure]:
    """The compiled structure and its twin."""
    rank, positions = columns(kind, size)
    return Core(kind, size, rank, positions), structure(kind, size, rank or None, positions)


def some_phi(core: Core, seed: int = 1, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(core.parameters())


def psi(core: Core, phi: np.ndarray) -> np.ndarray:
    lam = core.factor(phi)
    return lam @ lam.T


def slope(f, phi: np.ndarray, i: int, h: float = 1e-3) -> np.ndarray:
    """Central difference of order four."""
    e = np.zeros(len(phi))
    e[i] = h
    return (8 * (f(phi + e) - f(phi - e)) - (f(phi + 2 * e) - f(phi - 2 * e))) / (12 * h)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_core_and_twin_agree(kind: str, size: int) -> None:
    core, twin = both(kind, size)
    for seed in range(5):
        phi = some_phi(core, seed)
        want = twin.psi(twin.from_phi(phi))
        np.testing.assert_allclose(psi(core, phi), want, atol=1e-13 * np.abs(want).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_first_derivatives(kind: str, size: int) -> None:
    core, _ = both(kind, size)
    phi = some_phi(core)
    for i in range(len(phi)):
        want = slope(lambda p: psi(core, p), phi, i)
        np.testing.assert_allclose(core.derivative(phi, i), want, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(kind: str, size: int) -> None:
    core, _ = both(kind, size)
    phi = some_phi(core)
    for i in range(len(phi)):
        for j in range(len(phi)):
            want = slope(lambda p, j=j: core.derivative(p, j), phi, i)
            np.testing.assert_allclose(core.second(phi, i, j), want, atol=1e-8)


@pytest.mark.parametrize("size", [2, 5, 20])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 2.0]))
def test_factor_of_any_phi(kind: str, size: int, seed: int, scale: float) -> None:
    rank, positions = columns(kind, size, seed)
    core = Core(kind, size, rank, positions)
    twin = structure(kind, size, rank or None, positions)
    phi = some_phi(core, seed, scale)
    lam = core.factor(phi)
    assert np.array_equal(lam, np.tril(lam))
    want = twin.psi(twin.from_phi(phi))
    sd = np.sqrt(np.diag(want))
    assert np.all(np.abs(lam @ lam.T - want) <= 2e-13 * np.outer(sd, sd))


@pytest.mark.parametrize(
    ("kind", "edge", "rank"),
    [
        ("cs", {-1: np.pi / 2}, 1),
        ("cs", {-1: -np.pi / 2}, 19),
        ("cs", {3: 0.0, 7: 0.0}, 18),
        ("homcs", {-1: np.pi / 2}, 1),
        ("homcs", {0: 0.0}, 0),
        ("ar1", {-1: np.pi / 2}, 1),
        ("ar1", {-1: -np.pi / 2}, 1),
        ("hetar1", {0: 0.0}, 19),
        ("toep", {24: np.pi / 2}, 5),
        ("toep", {20: -np.pi / 2}, 1),
        ("homtoep", {5: np.pi / 2}, 5),
        ("ou", {-1: 0.0}, 1),
        ("exp", {-1: 0.0}, 1),
        ("gau", {-1: 0.0}, 1),
        ("mat", {1: -200.0}, 1),
        ("diag", {4: 0.0}, 19),
        ("rr", {}, 10),
    ],
)
def test_factor_on_the_boundary(kind: str, edge: dict[int, float], rank: int) -> None:
    core, twin = both(kind, 20)
    phi = core.start()
    for i, value in edge.items():
        phi[i] = value
    lam = core.factor(phi)
    assert np.linalg.matrix_rank(lam, tol=1e-12) == rank
    want = twin.psi(twin.from_phi(phi))
    np.testing.assert_allclose(lam @ lam.T, want, atol=2e-13)


@pytest.mark.parametrize("size", [10, 40, 100])
def test_factor_where_gaussian_correlation_loses_its_pivots(size: int) -> None:
    """Smooth processes on a fine grid have a spectrum that falls below rounding."""
    places = np.linspace(0.0, 1.0, size)[:, None]
    core, twin = Core("gau", size, 0, places), structure("gau", size, None, places)
    for phi in ([1.0, 1.0], [1.0, 1e-2], [1.0, 1e-4], [1.0, 3.0]):
        lam = core.factor(np.array(phi))
        want = twin.psi(twin.from_phi(np.array(phi)))
        np.testing.assert_allclose(lam @ lam.T, want, atol=16 * size * 2.3e-16)


@pytest.mark.parametrize("kind", KINDS)
def test_rescale_multiplies_psi(kind: str) -> None:
    core, _ = both(kind, 5)
    phi = some_phi(core)
    for s in (0.25, 3.0):
        want = s**2 * psi(core, phi)
        np.testing.assert_allclose(psi(core, core.rescale(s, phi)), want, rtol=1e-12)
    assert not np.any(psi(core, core.rescale(0.0, phi)))


@pytest.mark.parametrize("kind", KINDS)
def test_start_has_unit_variances_and_no_dead_parameter(kind: str) -> None:
    core, _ = both(kind, 6)
    phi = core.start()
    np.testing.assert_allclose(np.diag(psi(core, phi))[: 3 if kind == "rr" else 6], 1.0)
    for i in range(len(phi)):
        assert np.abs(core.derivative(phi, i)).max() > 1e-2


def test_start_of_sparse_times_still_moves() -> None:
    core = Core("ar1", 3, 0, np.array([[0.0], [50.0], [100.0]]))
    assert np.abs(core.derivative(core.start(), 1)).max() > 0.1


@pytest.mark.parametrize(("x", "nu", "value"), MATERN)
def test_matern_against_mpmath(x: float, nu: float, value: float) -> None:
    """phi = (1, log x, log nu) of two columns one apart is M(x, nu)."""
    core = Core("mat", 2, 0, np.array([[0.0], [1.0]]))
    got = psi(core, np.array([1.0, np.log(x), np.log(nu)]))[0, 1]
    assert got == pytest.approx(value, rel=1e-12, abs=1e-15)


@settings(deadline=None)
@given(
    x=st.floats(1e-6, 50.0, allow_nan=False),
    nu=st.floats(0.05, 30.0, allow_nan=False),
)
def test_matern_against_scipy(x: float, nu: float) -> None:
    core = Core("mat", 2, 0, np.array([[0.0], [1.0]]))
    got = psi(core, np.array([1.0, np.log(x), np.log(nu)]))[0, 1]
    bessel = kve(nu, x)
    if np.isfinite(bessel):
        log_m = (1 - nu) * np.log(2.0) - gammaln(nu) + nu * np.log(x) + np.log(bessel) - x
        assert got == pytest.approx(np.exp(log_m), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("x", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("nu", [0.2, 1.5, 9.0])
def test_matern_derivatives(x: float, nu: float) -> None:
    core = Core("mat", 2, 0, np.array([[0.0], [1.0]]))
    phi = np.array([1.0, np.log(x), np.log(nu)])
    for i in (1, 2):
        want = slope(lambda p: psi(core, p), phi, i)
        np.testing.assert_allclose(core.derivative(phi, i), want, atol=1e-10)
        for j in (1, 2):
            want = slope(lambda p, j=j: core.derivative(p, j), phi, i)
            np.testing.assert_allclose(core.second(phi, i, j), want, atol=1e-9)


@pytest.mark.parametrize("kind", ["cs", "hetar1", "toep"])
def test_standard_deviations_of_either_sign_stay_in_the_family(kind: str) -> None:
    core, _ = both(kind, 4)
    phi = some_phi(core)
    flipped = phi.copy()
    flipped[[0, 2]] *= -1.0
    np.testing.assert_allclose(psi(core, flipped), psi(core, phi), rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", 3), r"unknown covariance structure 'nothing'"),
        (("us", 0), r"at least one column"),
        (("rr", 3, 0), r"from 1 to 3 dimensions, not 0"),
        (("rr", 3, 4), r"from 1 to 3 dimensions, not 4"),
        (("exp", 3), r"exp needs a position for each of the 3 columns"),
        (("ou", 2, 0, np.zeros((2, 2))), r"one dimension, not 2; use exp, gau or mat"),
        (("ar1", 2, 0, np.array([[0.0], [0.5]])), r"whole numbers as positions; .* use ou"),
        (("gau", 3, 0, np.array([[0.0], [1.0], [1.0]])), r"columns 2 and 3 have the same position"),
        (("mat", 2, 0, np.array([[0.0], [np.nan]])), r"a position is not finite"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Core(*arguments)
