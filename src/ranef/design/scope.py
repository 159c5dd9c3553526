"""What the names in a formula may mean, and what its functions remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.design.state import State
from ranef.design.values import Value
from ranef.formula.syntax import Node
from ranef.tables import Table

__all__ = ["Scope"]


class Scope(Protocol):
    """What functions of the formula language see of the table and of the fit.

    `evaluate` in `ranef.design.evaluate` makes one of a table, `TableScope`.
    """

    @property
    def table(self) -> Table: ...
    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What the call handed over."""
        ...

    @property
    def state(self) -> dict[str, State]:
        """Printed call -> what it learned; filled while `fitting`, read otherwise."""
        ...

    @property
    def fitting(self) -> bool: ...
    @property
    def used(self) -> NDArray[np.bool_] | None:
        """Rows of the model, (N,), once they are settled; None for all."""
        ...

    @property
    def n_rows(self) -> int: ...
    def evaluate(self, node: Node) -> Value:
        """Evaluate a node; calls are evaluated once."""
        ...

    def remembered(self, key: str, kind: type[Any]) -> Any:
        """Return what a call learned in the fit."""
        ...
