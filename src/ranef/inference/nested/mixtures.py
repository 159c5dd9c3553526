"""The distribution of a likelihood ratio where variances are zero under the hypothesis.

Twice the log of the ratio is then a mixture of chi-squared variables, chi-bar-squared:
with Z ~ N(0, J^-1), J the information about the parameters under test with the others
profiled out, it is the squared length of the projection of Z on the cone of what they
may be (Self & Liang 1987, JASA 82; Stram & Lee 1994, Biometrics 50; Shapiro 1988). A
variance may be positive, a covariance matrix positive semidefinite, a covariance with
an effect that stays is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cone", "Mixture", "chi_bar", "entries"]

Floats = NDArray[np.float64]

DRAWS = 200_000
PROJECTED = 8_000
STEPS = 300


@dataclass(frozen=True)
class Cone:
    """What the parameters under test may be.

    Attributes
    ----------
    free : int
        Parameters that are inside their range under the hypothesis: fixed effects,
        covariances with effects that stay.
    blocks : tuple of int
        Orders of the covariance matrices that are zero under the hypothesis; 1 is a variance.
    """

    free: int
    blocks: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of parameters under test."""
        return self.free + sum(s * (s + 1) // 2 for s in self.blocks)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of chi-squared distributions.

    Attributes
    ----------
    degrees : (k,) int array
        Degrees of freedom; 0 is a point at zero.
    weights : (k,) float64 array
    assumed : bool
        True where the weights take several variances under test as uncorrelated, since
        the information about them is not known.
    """

    degrees: NDArray[np.intp]
    weights: Floats
    assumed: bool = False

    def tail(self, x: float) -> float:
        """P(X >= x)."""
        from scipy.special import chdtrc

        if x <= 0:
            return 1.0
        tails = np.where(self.degrees > 0, chdtrc(np.maximum(self.degrees, 1), x), 0.0)
        return float(self.weights @ tails)

    def __str__(self) -> str:
        if len(self.degrees) == 1:
            return f"chi2({self.degrees[0]})"
        parts = zip(self.weights, self.degrees, strict=True)
        return " + ".join(f"{w:.3g} chi2({d})" for w, d in parts if w > 5e-4)


def chi_bar(cone: Cone, information: Floats | None = None) -> Mixture:
    """Return the distribution of the likelihood ratio.

    Parameters
    ----------
    cone : Cone
    information : (c, c) array or None
        About the entries of the blocks in turn, each by `entries`, other parameters
        profiled out; its scale does not matter. None takes the blocks as uncorrelated
        and, within a block, entries as equally well known as their sizes let them.
    """
    if information is None or len(cone.blocks) < 2:
        each = [_block_weights(s, information) for s in cone.blocks]
        weights = reduce(np.convolve, each, np.ones(1))
    elif cone.blocks == (1, 1):
        covariance = np.linalg.inv(information)
        r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        both = 0.25 + np.arcsin(np.clip(r, -1, 1)) / (2 * np.pi)
        weights = np.array([0.5 - both, 0.5, both])
    else:
        weights = _simulated_weights(cone.blocks, information)
    several = len(cone.blocks) > 1 or max(cone.blocks, default=0) > 1
    return Mixture(cone.free + np.arange(len(weights)), weights, several and information is None)


def entries(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the entries of a symmetric matrix; off the diagonal each counts
    root two, so that the length of the vector is that of the matrix.
    """
    return np.triu_indices(size)


def _block_weights(size: int, information: Floats | None) -> Floats:
    """Weights of 0, 1, .. degrees of freedom of one block."""
    if size == 1:
        return np.array([0.5, 0.5])
    if information is None:
        information = np.eye(size * (size + 1) // 2)
    return _simulated_weights((size,), information)


def _simulated_weights(blocks: tuple[int, ...], information: Floats) -> Floats:
    """Weights by drawing: of the ends by counting draws in the cone and in its polar, of
    the degrees between from the lengths of projections.

    The weights of odd and of even degrees sum to a half each, which settles three
    dimensions.
    """
    from scipy.optimize import nnls
    from scipy.special import chdtrc

    J = _even(blocks, information)
    d = len(J)
    lower = np.linalg.cholesky(J)
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((DRAWS, d))
    inside = float(np.mean(_contains(np.linalg.solve(lower.T, normal.T).T, blocks)))
    polar = float(np.mean(_contains(-normal @ lower.T, blocks)))
    if d == 3:
        return np.array([polar, 0.5 - inside, 0.5 - polar, inside])
    z = np.linalg.solve(lower.T, normal[:PROJECTED].T).T
    c = _project(z, J, blocks)
    length = np.sort(np.einsum("ij,jk,ik->i", c, J, c))
    x = length[length > 1e-6 * d][:: max(1, PROJECTED // 400)]
    tails = 1 - np.searchsorted(length, x) / PROJECTED
    columns = np.column_stack([np.zeros(len(x)), *(chdtrc(k, x) for k in range(1, d + 1))])
    sums = 1e3 * np.array([np.arange(d + 1) % 2, 1 - np.arange(d + 1) % 2])
    ends = np.array([polar, *[0.0] * (d - 1), inside])
    A = np.vstack([columns, sums])
    target = np.concatenate([tails, [500.0, 500.0]]) - A @ ends
    ends[1:d] = nnls(A[:, 1:d], target)[0]
    return np.asarray(ends / ends.sum())


def _contains(z: Floats, blocks: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell which draws (m, d) lie in the cone."""
    kept = np.ones(len(z), dtype=np.bool_)
    first = 0
    for s in blocks:
        size = s * (s + 1) // 2
        part = z[:, first : first + size]
        first += size
        kept &= (part[:, 0] if s == 1 else np.linalg.eigvalsh(_matrices(part, s))[:, 0]) >= 0
    return kept


def _matrices(z: Floats, s: int) -> Floats:
    """Symmetric matrices (m, s, s) from their entries (m, s (s + 1) / 2)."""
    rows, columns = entries(s)
    out = np.empty((len(z), s, s))
    out[:, rows, columns] = out[:, columns, rows] = z / _roots(s)
    return out


def _roots(s: int) -> Floats:
    rows, columns = entries(s)
    return np.where(rows == columns, 1.0, np.sqrt(2.0))


def _even(blocks: tuple[int, ...], information: Floats) -> Floats:
    """Information in units in which each variance is equally well known."""
    scale = np.empty(len(information))
    first = 0
    for s in blocks:
        rows, columns = entries(s)
        block = slice(first, first + len(rows))
        unit = np.diag(information)[block][rows == columns] ** -0.25
        scale[block] = unit[rows] * unit[columns]
        first += len(rows)
    return np.asarray(information * np.outer(scale, scale))


def _project(z: Floats, J: Floats, blocks: tuple[int, ...]) -> Floats:
    """Project draws (m, d) on the cone in the metric J, by accelerated gradient steps."""
    step = 1 / float(np.linalg.eigvalsh(J)[-1])
    c = ahead = _nearest(z, blocks)
    momentum = 1.0
    for _ in range(STEPS):
        new = _nearest(ahead - step * (ahead - z) @ J, blocks)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - c)
        moved = float(np.abs(new - c).max())
        c, momentum = new, following
        if moved < 1e-9:
            break
    return c


def _nearest(z: Floats, blocks: tuple[int, ...]) -> Floats:
    """Nearest points of the cone by Euclid."""
    out = np.empty_like(z)
    first = 0
    for s in blocks:
        rows, columns = entries(s)
        block = slice(first, first + len(rows))
        first += len(rows)
        if s == 1:
            out[:, block] = np.maximum(z[:, block], 0)
            continue
        values, vectors = np.linalg.eigh(_matrices(z[:, block], s))
        near = np.einsum("mik,mk,mjk->mij", vectors, np.maximum(values, 0), vectors)
        out[:, block] = near[:, rows, columns] * _roots(s)
    return out
