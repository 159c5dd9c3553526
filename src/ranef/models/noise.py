"""The residuals of rows: their standard deviations, covariances, draws, and what whitens them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.terms import ResidualTerm
from ranef.errors import ModelError
from ranef.models.records import LinearEstimate
from ranef.solve.structured.rows import RowCovariance, row_covariance
from ranef.squares import cholesky, inverse_of_triangle

__all__ = [
    "Noise",
    "refuse_unequal",
    "relative_sds",
    "residual_covariance",
    "variance_slopes",
    "whitened_residuals",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class Noise:
    """Residuals of some rows, in units of sigma.

    Parameters
    ----------
    term : ResidualTerm or None
    weights : (N,) array or None
    n : int
    own : (k,) array
        Parameters of the residuals.
    """

    def __init__(
        self, term: ResidualTerm | None, weights: Floats | None, n: int, own: Floats
    ) -> None:
        self.term, self.n, self.own = term, n, own
        self.roots = np.ones(n) if weights is None else np.sqrt(weights)
        self.rows: RowCovariance | None = None if term is None else row_covariance(term)

    @classmethod
    def of(
        cls,
        estimate: LinearEstimate,
        term: ResidualTerm | None,
        weights: Floats | None,
        n: int,
        theta: Floats | None = None,
    ) -> Noise:
        """Those of an estimate at its theta, or another."""
        found = estimate.theta if theta is None else theta
        count = 0 if term is None else row_covariance(term).n_parameters
        return cls(term, weights, n, found[len(found) - count :])

    def groups(self) -> Iterator[tuple[Ints, int]]:
        """Rows (g, m) of groups of one size and level of `by`."""
        assert self.term is not None
        codes = np.arange(self.n) if self.term.group is None else self.term.group.codes
        by = np.zeros(self.n, dtype=np.intp) if self.term.by is None else self.term.by.codes
        _, codes = np.unique(codes, return_inverse=True)
        codes = codes.reshape(-1)
        order = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for size in np.unique(sizes):
            own = np.flatnonzero(sizes == size)
            rows = order[starts[own][:, None] + np.arange(size)]
            step = max(1, 4_000_000 // int(size) ** 2)
            for level in np.unique(by[rows[:, 0]]):
                part = rows[by[rows[:, 0]] == level]
                for first in range(0, len(part), step):
                    yield part[first : first + step], int(level)

    def sds(self) -> Floats:
        """Standard deviations (N,), relative to sigma."""
        if self.rows is None:
            return 1.0 / self.roots
        out = np.empty(self.n)
        for rows, by in self.groups():
            R = self.rows.at(self.own, rows.reshape(-1, 1), by).value
            out[rows.reshape(-1)] = np.sqrt(R[:, 0, 0])
        return np.asarray(out / self.roots)

    def draw(self, rng: np.random.Generator) -> Floats:
        """Draw residuals (N,)."""
        e = rng.standard_normal(self.n)
        if self.rows is not None:
            for rows, lower in self._factors:
                e[rows] = (lower @ e[rows][:, :, None])[:, :, 0]
        return e / self.roots

    @property
    def _factors(self) -> list[tuple[Ints, Floats]]:
        if not hasattr(self, "_kept"):
            assert self.rows is not None
            self._kept = [
                (rows, _root(self.rows.at(self.own, rows, by).value)) for rows, by in self.groups()
            ]
        return self._kept

    def whiten(self, e: Floats) -> Floats:
        """L^-1 e of residuals e (N,), L L' their covariance, relative to sigma^2."""
        out = e * self.roots
        if self.rows is not None:
            for rows, lower in self._factors:
                out[rows] = np.linalg.solve(lower, out[rows][:, :, None])[:, :, 0]
        return np.asarray(out)

    def colour(self, e: Floats) -> Floats:
        """L e: the inverse of `whiten`."""
        out = e.copy()
        if self.rows is not None:
            for rows, lower in self._factors:
                out[rows] = (lower @ out[rows][:, :, None])[:, :, 0]
        return np.asarray(out / self.roots)

    def precision(self) -> Any:
        """Inverse (N, N) of their covariance, relative to sigma^2, as a sparse matrix."""
        from scipy import sparse

        if self.rows is None:
            return sparse.diags_array(self.roots**2, format="csr")
        places, columns, values = [], [], []
        for rows, lower in self._factors:
            half = inverse_of_triangle(lower)
            K = np.swapaxes(half, 1, 2) @ half * self.roots[rows][:, :, None]
            K = K * self.roots[rows][:, None, :]
            places.append(np.broadcast_to(rows[:, :, None], K.shape).ravel())
            columns.append(np.broadcast_to(rows[:, None, :], K.shape).ravel())
            values.append(K.ravel())
        at = np.concatenate(places), np.concatenate(columns)
        return sparse.csr_array((np.concatenate(values), at), shape=(self.n, self.n))

    @property
    def same_variance(self) -> bool:
        """Whether all rows have the variance sigma^2."""
        return bool(np.allclose(self.sds(), 1.0, rtol=1e-9))

    def covariance(self, rows: Ints) -> Floats:
        """Covariance (c, m, m) of sets of rows (c, m), relative to sigma^2."""
        roots = self.roots[rows]
        size = roots[:, :, None] * roots[:, None, :]
        if self.rows is None or self.term is None:
            return np.asarray(np.eye(rows.shape[1]) / size)
        by = np.zeros(self.n, dtype=np.intp) if self.term.by is None else self.term.by.codes
        out = np.empty((*rows.shape, rows.shape[1]))
        same = np.broadcast_to(np.eye(rows.shape[1], dtype=np.bool_), out.shape)
        if self.term.group is not None:
            codes = self.term.group.codes[rows]
            same = codes[:, :, None] == codes[:, None, :]
        levels = by[rows]
        for level in np.unique(levels):
            value = self.rows.at(self.own, rows, int(level)).value
            inside = (levels == level)[:, :, None] & (levels == level)[:, None, :]
            out = np.where(inside, value, out)
        return np.asarray(np.where(same, out, 0.0) / size)


def _root(R: Floats) -> Floats:
    """Lower triangular factors, of matrices that rounding may make singular too."""
    size = np.diagonal(R, axis1=1, axis2=2).max(axis=1)
    for more in (0.0, 1e-10):
        with contextlib.suppress(np.linalg.LinAlgError):
            return cholesky(R + more * size[:, None, None] * np.eye(R.shape[1]))
    raise ModelError(
        "the residuals have no covariance at the parameters of this fit; use a simpler structure"
    )


def relative_sds(
    estimate: LinearEstimate, term: ResidualTerm | None, weights: Floats | None, n: int
) -> Floats:
    """Standard deviations (n,) of residuals relative to sigma: s / sqrt(w)."""
    return Noise.of(estimate, term, weights, n).sds()


def variance_slopes(
    estimate: LinearEstimate, term: ResidualTerm, weights: Floats | None, n: int
) -> Floats:
    """Derivatives (n, k) in theta of the residual variances relative to sigma^2.

    By central differences; zero but for the residuals' own parameters.
    """
    out = np.zeros((n, len(estimate.theta)))
    for i in range(len(estimate.theta) - row_covariance(term).n_parameters, len(estimate.theta)):
        step = 1e-5 * max(abs(float(estimate.theta[i])), 1e-2)
        up, down = estimate.theta.copy(), estimate.theta.copy()
        up[i] += step
        down[i] -= step
        high, low = (Noise.of(estimate, term, weights, n, theta).sds() for theta in (up, down))
        out[:, i] = (high**2 - low**2) / (2 * step)
    return out


def whitened_residuals(estimate: LinearEstimate, e: Floats) -> Floats:
    """Residuals (n,) of the model's rows without their correlation, of variance one."""
    spec = estimate.specification
    noise = Noise.of(estimate, spec.residual, spec.weights, spec.n)
    return noise.whiten(e) / estimate.sigma


def residual_covariance(estimate: LinearEstimate) -> Noise:
    """The residuals of the model's own rows."""
    spec = estimate.specification
    return Noise.of(estimate, spec.residual, spec.weights, spec.n)


def refuse_unequal(estimate: LinearEstimate) -> None:
    """Refuse residuals of unequal variance where one variance stands for all rows."""
    if not residual_covariance(estimate).same_variance:
        raise ModelError(
            "the mean of the response on its own scale depends on the residual variance, which "
            "differs between rows in this model; ask on the scale of the model (type='link')"
        )
