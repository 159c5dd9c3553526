"""Standard deviations times a correlation matrix of few parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.correlation import Correlation
from ranef.covariance.pairs import ZERO, not_zero
from ranef.covariance.structure import EVERY, Component, Parameter, Structure
from ranef.errors import ModelError

__all__ = ["Correlated"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Correlated(Structure):
    """Psi = S R S, S diagonal.

    theta holds the standard deviations, then the parameters of R. In phi, one sd
    for all columns is |phi_0|; one for each is phi_i^2, since sds of opposite
    signs would leave the family.

    Attributes
    ----------
    homogeneous : bool
        One standard deviation for all columns.
    correlation : Correlation or None
        None for a single column, which has no correlation.

    Examples
    --------
    >>> from ranef.covariance import structure
    >>> ar1 = structure("ar1", 3)
    >>> ar1.parameter_names()
    ('sd', 'corr')
    >>> ar1.psi([2.0, 0.5])
    array([[4., 2., 1.],
           [2., 4., 2.],
           [1., 2., 4.]])
    """

    homogeneous: bool
    correlation: Correlation | None

    @property
    def description(self) -> str:
        if self.correlation is None:
            return "one variance"
        sds = "one standard deviation" if self.homogeneous else "a standard deviation for each"
        return f"{self.correlation.description}, {sds}"

    @cached_property
    def n_sds(self) -> int:
        """How many entries of theta are standard deviations."""
        return 1 if self.homogeneous else self.size

    def parameters(self, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
        """Standard deviations, then the parameters of the correlation."""
        columns = self.column_names(names)
        sds = [EVERY] if self.homogeneous and self.size > 1 else columns
        rest = () if self.correlation is None else self.correlation.parameters()
        return (*(Parameter("sd", name) for name in sds), *rest)

    def split(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the sds of all columns (r,) and the correlation parameters."""
        theta = self.checked(theta)
        return np.broadcast_to(theta[: self.n_sds], (self.size,)), theta[self.n_sds :]

    def correlations(self, rho: Floats) -> Floats:
        """R (r, r)."""
        return np.eye(1) if self.correlation is None else self.correlation.matrix(rho)

    def psi(self, theta: Floats) -> Floats:
        """S R S."""
        sds, rho = self.split(theta)
        return np.outer(sds, sds) * self.correlations(rho)

    def derivatives(self, theta: Floats) -> Floats:
        """Rows and columns of R S for the sds, S dR S for the rest."""
        sds, rho = self.split(theta)
        half = np.eye(self.size)[:, :, None] * (self.correlations(rho) * sds)
        in_sds = half + half.transpose(0, 2, 1)
        if self.homogeneous:
            in_sds = in_sds.sum(axis=0, keepdims=True)
        if self.correlation is None:
            return np.asarray(in_sds)
        in_rho = np.outer(sds, sds) * self.correlation.derivatives(rho)
        return np.concatenate([in_sds, in_rho])

    def second_derivatives(self, theta: Floats) -> Floats:
        """Of S R S: both sds in place, sds with dR, and S d2R S."""
        sds, rho = self.split(theta)
        k, m, r = self.n_parameters, self.n_sds, self.size
        # e_i of every sd, as a diagonal: which columns it scales
        scales = np.ones((1, r)) if self.homogeneous else np.eye(r)
        out = np.zeros((k, k, r, r))
        pairs = np.einsum("ia,jb->ijab", scales, scales)
        out[:m, :m] = (pairs + pairs.transpose(1, 0, 2, 3)) * self.correlations(rho)
        if self.correlation is None:
            return out
        dR = self.correlation.derivatives(rho)
        half = np.einsum("ia,b->iab", scales, sds)
        mixed = (half + half.transpose(0, 2, 1))[:, None] * dR
        out[:m, m:] = mixed
        out[m:, :m] = mixed.transpose(1, 0, 2, 3)
        out[m:, m:] = np.outer(sds, sds) * self.correlation.second_derivatives(rho)
        return out

    def to_phi(self, theta: Floats) -> Floats:
        """Roots of the sds if there is one for each column."""
        theta = self.checked(theta)
        sds = theta[: self.n_sds]
        if np.any(sds < 0.0):
            raise ModelError(f"a standard deviation of {self.kind} is negative: {sds.min():.6g}")
        first = sds if self.homogeneous else np.sqrt(sds)
        if self.correlation is None:
            return first.copy()
        return np.concatenate([first, self.correlation.to_phi(theta[self.n_sds :])])

    def from_phi(self, phi: Floats) -> Floats:
        """Squares of the first r, or the absolute value of the first."""
        phi = self.checked(phi)
        first = phi[: self.n_sds]
        sds = np.abs(first) if self.homogeneous else first**2
        if self.correlation is None:
            return sds
        return np.concatenate([sds, self.correlation.from_phi(phi[self.n_sds :])])

    def components(
        self, theta: Floats, names: Sequence[str] | None = None
    ) -> tuple[Component, ...]:
        """Theta itself; a correlation of what does not vary has no value."""
        values = np.array(self.checked(theta))
        sds = values[: self.n_sds]
        # beside each other alone: with weights of 1e18 all are small beside sigma
        varying = int(np.sum(sds > ZERO * float(sds.max(initial=0.0))))
        if varying < (1 if self.homogeneous else 2):
            values[self.n_sds :] = np.nan
        unit = np.eye(len(values))
        return tuple(
            Component(p, float(values[i]), unit[i]) for i, p in enumerate(self.parameters(names))
        )

    def boundary(self, theta: Floats, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Zero standard deviations, and the limits of the correlation."""
        theta = self.checked(theta)
        zero = ~not_zero(theta[: self.n_sds])
        if self.homogeneous and zero[0]:
            return ("the variance is zero",)
        labels = self.column_names(names)
        notes = tuple(f"the variance of {labels[i]} is zero" for i in np.flatnonzero(zero))
        if self.correlation is None or not self.correlation_matters(theta):
            return notes
        return (*notes, *self.correlation.boundary(theta[self.n_sds :]))

    def correlation_matters(self, theta: Floats) -> bool:
        """Whether at least two columns vary."""
        alive = int(np.sum(not_zero(theta[: self.n_sds])))
        return alive >= (1 if self.homogeneous else 2)

    def free(self, theta: Floats) -> NDArray[np.bool_]:
        """Positive standard deviations, and correlations inside their range."""
        theta = self.checked(theta)
        out = np.zeros(len(theta), dtype=np.bool_)
        out[: self.n_sds] = not_zero(theta[: self.n_sds])
        if self.correlation is not None and self.correlation_matters(theta):
            out[self.n_sds :] = self.correlation.free(theta[self.n_sds :])
        return out
