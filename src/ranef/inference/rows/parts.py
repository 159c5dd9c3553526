"""Rows of every part of a generalised model, and their linear predictors as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families import Cumulative
from ranef.models.generalised import threshold_columns
from ranef.models.records import Component, GeneralisedEstimate
from ranef.models.rows import NewRows

__all__ = ["LinearPart", "Rows", "linear_parts", "own_rows"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
Ints = NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to ask about, for each part that has a formula.

    Attributes
    ----------
    parts : dict of NewRows
        By name as in `GeneralisedEstimate.parts`, ``"conditional"`` among them,
        all with the same N rows.
    extra : (N,) float64 array or None
        Trials of new observations; None for 1.
    """

    parts: Mapping[str, NewRows]
    extra: Floats | None = None

    @property
    def n(self) -> int:
        return len(self.parts["conditional"].X)


@dataclass(frozen=True, eq=False)
class LinearPart:
    """One linear predictor of N rows.

    Attributes
    ----------
    X : (N, c) float64 array
    columns : (c,) int array
        Entries of `GeneralisedEstimate.coefficients` that X multiplies.
    offset : (N,) float64 array or None
    random : tuple of (term, codes (N,), z (N, r))
        Term is an index into `GeneralisedEstimate.terms`; code -1 is a level
        that the fit has not seen.
    """

    X: Floats
    columns: Ints
    offset: Floats | None
    random: tuple[tuple[int, Codes, Floats], ...] = ()


def own_rows(estimate: GeneralisedEstimate) -> Rows:
    """Return the rows of the fit itself."""
    parts = {}
    for name, spec in estimate.parts.items():
        random = [(spec.factors[t.factor].codes, t.z) for t in spec.terms]
        parts[name] = NewRows(spec.X, spec.offset, random, spec.weights)
    return Rows(parts, estimate.extra)


def linear_parts(estimate: GeneralisedEstimate, rows: Rows) -> tuple[LinearPart, ...]:
    """Return the linear predictors of the family's `mean` (M, N), in its order.

    Those of a cumulative family are eta and all thresholds.
    """
    found = []
    for component in estimate.components:
        if component.name == "threshold":
            found.extend(_thresholds(estimate, component, rows))
        else:
            found.append(_part(component, rows))
    return tuple(found)


def _part(component: Component, rows: Rows) -> LinearPart:
    spec, own = component.specification, component.coefficients
    columns = np.arange(own.start, own.stop)
    if spec is None:
        return LinearPart(np.ones((rows.n, len(columns))), columns, None)
    given = rows.parts[component.name]
    kept = [spec.names.index(name) for name in component.names]
    first = component.terms.start
    random = tuple((first + t, codes, z) for t, (codes, z) in enumerate(given.random or ()))
    return LinearPart(given.X[:, kept], columns, given.offset, random)


def _thresholds(
    estimate: GeneralisedEstimate, component: Component, rows: Rows
) -> list[LinearPart]:
    own = component.coefficients
    columns = np.arange(own.start, own.stop)
    nominal = component.specification is not None
    W = rows.parts[component.name].X if nominal else np.ones((rows.n, 1))
    basis = threshold_basis(estimate)
    return [LinearPart(threshold_columns(W, row), columns, None) for row in basis]


def threshold_basis(estimate: GeneralisedEstimate) -> Floats:
    """Return the (J - 1, k) matrix from the parameters of a cumulative family to thresholds."""
    family = estimate.family
    assert isinstance(family, Cumulative)
    y = estimate.specification.y
    count = y.max() + 1 if estimate.extra is None else estimate.extra[0]
    return family.threshold_basis(int(count))
