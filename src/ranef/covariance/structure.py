"""What every covariance structure can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError

__all__ = ["EVERY", "Component", "Parameter", "Structure"]

Floats = NDArray[np.float64]

EVERY = "(all)"


@dataclass(frozen=True)
class Parameter:
    """One entry of theta.

    Attributes
    ----------
    kind : str
        ``"sd"``, ``"corr"``, ``"rate"``, ``"range"``, ``"smoothness"``,
        ``"loading"`` or, of an unstructured term, ``"factor"`` (an entry of Lambda).
    term : str
        The column it belongs to, ``"(all)"`` if to every column.
    term2 : str
        The second column or the lag, where there is one.
    """

    kind: str
    term: str = EVERY
    term2: str = ""

    @property
    def name(self) -> str:
        """In short: ``"sd(Days)"``, ``"corr"``, ``"corr(lag 2)"``."""
        inside = [part for part in (self.term, self.term2) if part not in ("", EVERY)]
        return f"{self.kind}({', '.join(inside)})" if inside else self.kind


@dataclass(frozen=True, eq=False)
class Component:
    """One row of a table of variance components.

    Attributes
    ----------
    parameter : Parameter
        What it is; never a ``"factor"`` or a ``"loading"``.
    value : float
        Standard deviations are relative to sigma. NaN for a correlation with
        something that does not vary.
    gradient : (k,) float64 array
        Derivative of the value with respect to theta.
    """

    parameter: Parameter
    value: float
    gradient: Floats


@dataclass(frozen=True, eq=False)
class Structure(ABC):
    """A family of covariance matrices Psi(theta), relative to sigma^2.

    theta holds the parameters as they are reported. The search moves phi
    instead: any phi is valid, and Psi is smooth in it across every boundary of
    the family, so that a singular Psi is an ordinary point.

    Attributes
    ----------
    kind : str
        Name in the formula language.
    size : int
        Order r of Psi.
    """

    kind: str
    size: int

    @cached_property
    def n_parameters(self) -> int:
        return len(self.parameters())

    @property
    @abstractmethod
    def description(self) -> str:
        """In words, to follow "Psi is ..."."""

    @abstractmethod
    def parameters(self, names: Sequence[str] | None = None) -> tuple[Parameter, ...]:
        """What the entries of theta are; `names` (r) are those of the columns."""

    def parameter_names(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Names of the entries of theta."""
        return tuple(p.name for p in self.parameters(names))

    @abstractmethod
    def psi(self, theta: Floats) -> Floats:
        """Psi (r, r)."""

    @abstractmethod
    def derivatives(self, theta: Floats) -> Floats:
        """Derivatives of Psi with respect to theta, (k, r, r)."""

    @abstractmethod
    def second_derivatives(self, theta: Floats) -> Floats:
        """Second derivatives of Psi with respect to theta, (k, k, r, r)."""

    @abstractmethod
    def to_phi(self, theta: Floats) -> Floats:
        """A phi (k,) of the same Psi."""

    @abstractmethod
    def from_phi(self, phi: Floats) -> Floats:
        """The theta (k,) that `phi` stands for."""

    @abstractmethod
    def components(
        self, theta: Floats, names: Sequence[str] | None = None
    ) -> tuple[Component, ...]:
        """Return the standard deviations, correlations and so on that a table shows."""

    @abstractmethod
    def boundary(self, theta: Floats, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """In words, on which boundaries of the family theta lies; () if inside."""

    @abstractmethod
    def free(self, theta: Floats) -> NDArray[np.bool_]:
        """Which entries of theta (k,) are inside their range and matter."""

    def column_names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """`names`, or numbers from 1, checked to be one a column."""
        if names is None:
            return tuple(str(i + 1) for i in range(self.size))
        if len(names) != self.size:
            raise ModelError(
                f"{self.kind} has {self.size} columns, but {len(names)} names were given"
            )
        return tuple(str(name) for name in names)

    def checked(self, theta: Floats) -> Floats:
        """Return theta as an array, one entry a parameter."""
        theta = np.asarray(theta, dtype=np.float64)
        if theta.shape != (self.n_parameters,):
            raise ModelError(
                f"{self.kind} of {self.size} columns has {self.n_parameters} parameters, "
                f"but theta has the shape {theta.shape}"
            )
        return theta
