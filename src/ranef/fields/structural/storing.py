"""A structural equation model as a file and back.

The file holds what was asked for, the columns and the optimum; everything else is made again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import FileError
from ranef.fields.structural import page  # noqa: F401
from ranef.fields.structural.estimate import Estimate
from ranef.fields.structural.fit import StructuralModelFit
from ranef.fields.structural.model import Model, Request
from ranef.fields.structural.problem import latent_slopes
from ranef.fields.structural.reading import Values
from ranef.fields.structural.search import SearchEnd
from ranef.storage import register
from ranef.tables.origin import Origin

__all__ = ["StoredStructuralModel"]

CLOSE = 1e-6


@dataclass(frozen=True, eq=False)
class StoredStructuralModel:
    """What a file holds of a fit of `ranef.sem`."""

    request: Request
    names: tuple[str, ...]
    columns: NDArray[np.float64]
    clusters: tuple[NDArray[np.int64], ...]
    labels: tuple[tuple[Any, ...], ...]
    group: NDArray[np.int64]
    groups: tuple[str, ...]
    end: SearchEnd
    binding: NDArray[np.float64]
    frame: Origin
    quadrature_error: float

    @classmethod
    def of(cls, fit: StructuralModelFit) -> StoredStructuralModel:
        """Take a fit apart."""
        values = fit.estimate.model.values
        return cls(
            fit.estimate.model.request, tuple(values.columns),
            np.array(list(values.columns.values())),
            tuple(codes.astype(np.int64) for codes in values.clusters), values.labels,
            values.group.astype(np.int64), values.groups, fit.estimate.end, fit.estimate.binding,
            fit.frame, fit.estimate.quadrature_error,
        )  # fmt: skip

    def restored(self) -> StructuralModelFit:
        """Make the fit again."""
        self._check()
        values = Values(
            dict(zip(self.names, self.columns, strict=True)),
            tuple(codes.astype(np.intp) for codes in self.clusters), self.labels,
            self.group.astype(np.intp), self.groups, self.request.group, self.request.cluster,
        )  # fmt: skip
        model = Model(self.request, values)
        if model.table.size != len(self.end.theta) or self.binding.shape[1] != len(self.end.theta):
            raise FileError("the parameters do not fit the model")
        self._check_value(model)
        estimate = Estimate(model, self.end, self.binding, self.quadrature_error)
        return StructuralModelFit(estimate, self.frame)

    def _check_value(self, model: Model) -> None:
        """The columns must be those of the model, and give the likelihood that is stated."""
        theta, stated = self.end.theta, self.end.value
        if theta.ndim != 1 or not np.isfinite(theta).all():
            raise FileError("the parameters are not finite")
        try:
            value = model.main.value(theta)
        except (ArithmeticError, LookupError, TypeError, ValueError, np.linalg.LinAlgError):
            raise FileError("the columns do not fit the model") from None
        if any(latent_slopes(model.table, g) for g in range(model.table.groups)):
            return  # by nodes, which the search has placed
        if np.isfinite(stated) and not abs(value - stated) <= CLOSE * (1 + abs(stated)):
            raise FileError("the likelihood is not that of the parameters")

    def _check(self) -> None:
        n = len(self.group)
        if self.columns.ndim != 2 or self.columns.shape != (len(self.names), n):
            raise FileError("the columns do not fit the rows")
        if len(self.clusters) != len(self.labels) or len(self.clusters) != len(
            self.request.cluster
        ):
            raise FileError("the units do not fit the model")
        for codes, labels in zip(self.clusters, self.labels, strict=True):
            if len(codes) != n or (n and not -1 <= codes.min() <= codes.max() < len(labels)):
                raise FileError("the units do not fit the rows")
        if n and not -1 <= self.group.min() <= self.group.max() < len(self.groups):
            raise FileError("the groups do not fit the rows")


register(Request)
register(SearchEnd)
register(StructuralModelFit, stand_in=StoredStructuralModel)
