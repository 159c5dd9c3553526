"""What a generalised model asks of a family (the classes of `ranef.families`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import _core

__all__ = ["Family", "Parameter"]

Floats = NDArray[np.float64]


class Parameter(Protocol):
    """One linear predictor of a family."""

    @property
    def name(self) -> str:
        """``"mean"``, ``"dispersion"``, ``"zero"``, or of a shape."""
        ...


class Family(Protocol):
    """A log density with its linear predictors."""

    @property
    def name(self) -> str: ...
    @property
    def link(self) -> str: ...
    @property
    def parameters(self) -> tuple[Parameter, ...]: ...
    def core(self, zero: bool = False) -> _core.Family: ...
    def start(self, y: Floats, extra: Floats | None) -> Sequence[float | Floats]: ...
