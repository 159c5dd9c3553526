"""Rows of every part of a model, and their linear predictors as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families import Cumulative
from ranef.models.generalised import threshold_columns
from ranef.models.records import Component, Estimate
from ranef.models.rows import Rows

__all__ = ["LinearPart", "component_parts", "linear_parts"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
Ints = NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class LinearPart:
    """One linear predictor of N rows.

    Attributes
    ----------
    X : (N, c) float64 array
    columns : (c,) int array
        Entries of `Estimate.coefficients` that X multiplies.
    offset : (N,) float64 array or None
    random : tuple of (term, codes (N,), z (N, r))
        Term is an index into `Estimate.terms`; code -1 is a level
        that the fit has not seen.
    """

    X: Floats
    columns: Ints
    offset: Floats | None
    random: tuple[tuple[int, Codes, Floats], ...] = ()


def linear_parts(estimate: Estimate, rows: Rows) -> tuple[LinearPart, ...]:
    """Return the linear predictors of the family's `mean` (M, N), in its order.

    Those of a cumulative family are eta and all thresholds.
    """
    return tuple(
        part
        for component in estimate.components
        for part in component_parts(estimate, component, rows)
    )


def component_parts(estimate: Estimate, component: Component, rows: Rows) -> list[LinearPart]:
    """Return the linear predictors of one component: several of thresholds, else one."""
    if component.name == "threshold":
        return _thresholds(estimate, component, rows)
    return [_part(component, rows)]


def _part(component: Component, rows: Rows) -> LinearPart:
    spec, own = component.specification, component.coefficients
    columns = np.arange(own.start, own.stop)
    if spec is None:
        return LinearPart(np.ones((rows.n, len(columns))), columns, None)
    given = rows.parts[component.name]
    kept = [spec.names.index(name) for name in component.names]
    given_random = given.random or ()
    random = tuple(
        (t, codes, z) for t, (codes, z) in zip(component.terms, given_random, strict=False)
    )
    return LinearPart(given.X[:, kept], columns, given.offset, random)


def _thresholds(estimate: Estimate, component: Component, rows: Rows) -> list[LinearPart]:
    own = component.coefficients
    columns = np.arange(own.start, own.stop)
    nominal = component.specification is not None
    W = rows.parts[component.name].X if nominal else np.ones((rows.n, 1))
    basis = threshold_basis(estimate)
    return [LinearPart(threshold_columns(W, row), columns, None) for row in basis]


def threshold_basis(estimate: Estimate) -> Floats:
    """Return the (J - 1, k) matrix from the parameters of a cumulative family to thresholds."""
    family = estimate.family
    assert isinstance(family, Cumulative)
    y = estimate.specification.y
    count = y.max() + 1 if estimate.extra is None else estimate.extra[0]
    return family.threshold_basis(int(count))
