"""Large square matrices in the core, beside NumPy's answers; interrupts are long_calls' matter."""

import numpy as np
import pytest

from ranef import _core, squares

N = 260


@pytest.fixture(autouse=True)
def everything_is_long(monkeypatch):
    monkeypatch.setattr(squares, "AT_ONCE", 2e4)


def definite(n=N, seed=0):
    A = np.random.default_rng(seed).normal(size=(n, n + 5))
    return A @ A.T / n + np.eye(n)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_factors_and_inverses_are_numpys():
    A, B = definite(), np.random.default_rng(1).normal(size=(N, 7))
    L = squares.cholesky(A)
    close(L, np.linalg.cholesky(A))
    assert not np.triu(L, 1).any()
    found = squares.inverse(A)
    close(found, np.linalg.inv(A))
    assert np.array_equal(found, found.T)
    close(squares.inverse_of_triangle(L), np.linalg.inv(L))
    close(squares.solve(A, B), np.linalg.solve(A, B))
    close(squares.solve_factored(L, B), np.linalg.solve(A, B))
    close(squares.product(A, B), A @ B)


def test_several_matrices_are_taken_one_by_one():
    A = np.stack([definite(seed=1), definite(seed=2)])
    B = np.ones((2, N, 2))
    close(squares.cholesky(A), np.linalg.cholesky(A))
    close(squares.inverse(A), np.linalg.inv(A))
    close(squares.inverse_of_triangle(np.linalg.cholesky(A)), np.linalg.inv(np.linalg.cholesky(A)))
    close(squares.solve(A, B), np.linalg.solve(A, B))


def test_a_small_spectrum_of_the_core_is_numpys():
    A = definite(12)
    values, rows = _core.spectrum(A, 4)
    close(values, np.linalg.eigh(A)[0][8:])
    close(A @ rows.T, rows.T * values)


@pytest.mark.parametrize("count", [None, 5, 1])
def test_the_spectrum_is_numpys(count):
    A = definite() - 3 * np.eye(N)
    values, vectors = squares.eigen(A, count)
    wanted = np.linalg.eigh(A)[0][N - (count or N) :]
    close(values, wanted)
    close(A @ vectors, vectors * values)
    close(vectors.T @ vectors, np.eye(len(values)))


def test_what_is_given_stays_as_it_was():
    A = definite()
    before = A.copy()
    squares.cholesky(A), squares.inverse(A), squares.eigen(A), squares.eigen(A, 3)
    np.testing.assert_array_equal(A, before)


def test_what_is_not_definite_is_answered_as_by_numpy():
    A = definite() - 3 * np.eye(N)
    with pytest.raises(np.linalg.LinAlgError):
        squares.cholesky(A)
    close(squares.inverse(A), np.linalg.inv(A))


def test_panels_of_the_core_give_the_same_factor(monkeypatch):
    monkeypatch.setattr(squares, "AT_ONCE", 2e9)
    n = 1900  # of which the core's own bound asks for panels
    A = definite(n)
    close(squares.cholesky(A), np.linalg.cholesky(A))
