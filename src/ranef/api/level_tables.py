"""Tables of the levels of a factor: raw beside shrunken, reliability, covariances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import shrinkage
from ranef.api import checks
from ranef.api.frame import matrix
from ranef.api.levels import Place, level_positions
from ranef.api.mixed import MixedModelFit
from ranef.models.naming import factors_of
from ranef.tables import make_table

__all__ = ["covariances", "reliabilities", "shrinkages"]

Floats = NDArray[np.float64]


def _places(fit: MixedModelFit, group: str | None) -> Iterator[Place]:
    """The parts of the model in which a factor has random effects."""
    factor = fit._factor(group)
    for part in shrinkage.components_of(fit.estimate):
        if shrinkage.own_terms(fit.estimate, part, factor):
            yield Place(fit, factor, part)


def _keys(place: Place) -> dict[str, Any]:
    """Columns that name each row: coefficient by coefficient, level by level."""
    q, names = len(place.levels), place.names
    rows = q * len(names)
    return {
        **{name: [value] * rows for name, value in place.identity_columns.items()},
        "group": [place.group] * rows,
        "level": list(place.levels) * len(names),
        "term": [name for name in names for _ in range(q)],
    }


def _stacked(fit: MixedModelFit, tables: list[dict[str, Any]]) -> Any:
    joined: dict[str, Any] = {}
    for name in tables[0]:
        columns = [table[name] for table in tables]
        arrays = all(isinstance(column, np.ndarray) for column in columns)
        joined[name] = np.concatenate(columns) if arrays else [v for c in columns for v in c]
    return make_table(joined, fit.frame.library)


def shrinkages(fit: MixedModelFit, group: str | None, scale: str) -> Any:
    """One row a coefficient and level: raw, shrunken, and what it is shrunken to."""
    coefficient = checks.choice("scale", scale, ("coefficient", "effect")) == "coefficient"
    tables = []
    for place in _places(fit, group):
        estimate, part, names = fit.estimate, place.part, place.names
        raw = shrinkage.raw_effects(estimate, part, place.factor)
        what = shrinkage.coefficients(estimate, part, place.factor, names, with_fixed=coefficient)
        found = shrinkage.posterior(estimate, what)
        m = len(names)
        centre = np.zeros(m)
        if coefficient:
            centre = what.X[:m] @ shrinkage.fixed_effects(estimate)
        tables.append(
            {
                **_keys(place),
                "raw": (raw.estimate + centre).T.ravel(),
                "raw_std_error": raw.std_error.T.ravel(),
                "estimate": found.mean.reshape(-1, m).T.ravel(),
                "std_error": found.sd.reshape(-1, m).T.ravel(),
                "centre": np.repeat(centre, len(place.levels)),
            }
        )
    return _stacked(fit, tables)


def reliabilities(fit: MixedModelFit, group: str | None, given: str) -> Any:
    """One row a coefficient and level: 1 - v / tau^2."""
    given = checks.choice("given", given, ("parameters", "variance"))
    tables = []
    for place in _places(fit, group):
        found = shrinkage.reliability(fit.estimate, place.part, place.factor, given)
        tables.append(
            {
                **_keys(place),
                "reliability": found.estimate.T.ravel(),
                "sd": np.sqrt(found.variance).T.ravel(),
                "tau": np.sqrt(found.prior).T.ravel(),
            }
        )
    return _stacked(fit, tables)


def covariances(fit: MixedModelFit, group: str | None, level: Any) -> Any:
    """Covariance matrices of fixed plus random effects: of one level, or all in a long table."""
    tables = []
    for place in _places(fit, group):
        names, m = place.names, len(place.names)
        what = shrinkage.coefficients(
            fit.estimate, place.part, place.factor, names, with_fixed=True
        )
        found = shrinkage.posterior(fit.estimate, what)
        if level is not None:
            own = level_positions(place, [level])[0] * m + np.arange(m)
            values = found.take(own).covariances(m)[0]
            return matrix(values, names, names, fit.frame.library)
        q = len(place.levels)
        tables.append(
            {
                **{k: [v] * (q * m * m) for k, v in place.identity_columns.items()},
                "group": [factors_of(fit.estimate)[place.factor].name] * (q * m * m),
                "level": [one for one in place.levels for _ in range(m * m)],
                "term": [a for a in names for _ in range(m)] * q,
                "term2": list(names) * (m * q),
                "covariance": found.covariances(m).ravel(),
            }
        )
    return _stacked(fit, tables)
