"""Independent effects, each with a variance of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.pairs import not_zero
from ranef.covariance.structure import Component, Parameter, Structure

__all__ = ["Diagonal"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Diagonal(Structure):
    """Psi = diag(theta^2); phi is theta with any sign.

    Examples
    --------
    >>> Diagonal("diag", 2).psi([1.0, 3.0])
    array([[1., 0.],
           [0., 9.]])
    """

    @property
    def description(self) -> str:
        return "diagonal, a variance for each coefficient and no correlation"

    def parameters(self, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
        """A standard deviation a column."""
        return tuple(Parameter("sd", name) for name in self.column_names(names))

    def psi(self, theta: Floats) -> Floats:
        """diag(theta^2)."""
        return np.diag(self.checked(theta) ** 2)

    def derivatives(self, theta: Floats) -> Floats:
        """2 theta_i in place (i, i)."""
        out = np.zeros((self.size, self.size, self.size))
        i = np.arange(self.size)
        out[i, i, i] = 2.0 * self.checked(theta)
        return out

    def second_derivatives(self, theta: Floats) -> Floats:
        """2 in place (i, i)."""
        out = np.zeros((self.size,) * 4)
        i = np.arange(self.size)
        out[i, i, i, i] = 2.0
        return out

    def to_phi(self, theta: Floats) -> Floats:
        """Theta itself."""
        return self.checked(theta).copy()

    def from_phi(self, phi: Floats) -> Floats:
        """Absolute values."""
        return np.abs(self.checked(phi))

    def components(
        self, theta: Floats, names: Sequence[str] | None = None
    ) -> tuple[Component, ...]:
        """Return the standard deviations, theta itself."""
        unit = np.eye(self.size)
        values = self.checked(theta)
        return tuple(
            Component(p, float(values[i]), unit[i]) for i, p in enumerate(self.parameters(names))
        )

    def boundary(self, theta: Floats, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Variances that are zero."""
        labels = self.column_names(names)
        return tuple(
            f"the variance of {labels[i]} is zero" for i in np.flatnonzero(~self.free(theta))
        )

    def free(self, theta: Floats) -> NDArray[np.bool_]:
        """Standard deviations that are not zero."""
        return not_zero(self.checked(theta))
