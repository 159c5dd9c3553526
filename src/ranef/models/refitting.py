"""Fit the model of an estimate again: to another response, to other rows, by another criterion.

The one place that knows which fitter an estimate came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError
from ranef.models.generalised import fit_glmm
from ranef.models.linear import fit_lmm
from ranef.models.records import CONDITIONAL, Estimate, GeneralisedEstimate

__all__ = ["at_criterion", "refit", "refitted", "reordered"]

Floats = NDArray[np.float64]


def refitted(
    estimate: Estimate,
    parts: Mapping[str, Specification],
    extra: Floats | None = None,
    *,
    reml: bool | None = None,
    path: str | None = None,
    start: Floats | None = None,
    n_jobs: int | None = None,
) -> Estimate:
    """Fit the same kind of model to these parts.

    Parameters
    ----------
    estimate : Estimate
        Its family, quadrature, priors and constraints are taken over.
    parts : dict of Specification
    extra : (n,) array or None
        What the family needs beside the response, for the rows of the parts.
    reml : bool or None
        None for the estimate's criterion.
    path, start, n_jobs
        As in `fit_lmm` and `fit_glmm`.
    """
    restricted = estimate.reml if reml is None else reml
    if not isinstance(estimate, GeneralisedEstimate):
        return fit_lmm(parts[CONDITIONAL], reml=restricted, path=path, start=start, n_jobs=n_jobs)
    return fit_glmm(
        parts,
        estimate.family,
        extra=extra,
        quadrature=estimate.quadrature,
        reml=restricted,
        priors=estimate.priors,
        fixed=estimate.fixed,
        equal=estimate.equal,
        sampling=estimate.sampling,
        path=path,
        start=start,
        n_jobs=n_jobs,
    )


def reordered(estimate: Estimate, order: NDArray[np.intp]) -> Estimate:
    """Return the estimate of the same rows in another order: row i is what row order[i] was."""
    extra = None if estimate.extra is None else estimate.extra[order]
    parts = {name: _rows_in_order(spec, order) for name, spec in estimate.parts.items()}
    return refitted(estimate, parts, extra, path=estimate.optimum.path, start=estimate.theta)


def _rows_in_order(spec: Specification, order: NDArray[np.intp]) -> Specification:
    return replace(
        spec,
        y=spec.y[order],
        X=np.ascontiguousarray(spec.X[order]),
        weights=None if spec.weights is None else spec.weights[order],
        offset=None if spec.offset is None else spec.offset[order],
        terms=tuple(replace(t, z=np.ascontiguousarray(t.z[order])) for t in spec.terms),
        factors=tuple(replace(f, codes=f.codes[order]) for f in spec.factors),
        residual=None if spec.residual is None else spec.residual.taken(order),
    )


def at_criterion(estimate: Estimate, reml: bool) -> Estimate:
    """Return the estimate, or that of the same model by the other criterion."""
    if estimate.reml == reml:
        return estimate
    path = estimate.optimum.path
    return refitted(estimate, estimate.parts, estimate.extra, reml=reml, path=path)


def refit(
    estimate: Estimate, y: Floats, extra: Floats | None = None, *, n_jobs: int | None = None
) -> Estimate:
    """Fit the same model to another response.

    Parameters
    ----------
    estimate : Estimate
    y : (n,) array
        The new response, one value for each row used.
    extra : (n,) array or None
        None keeps the estimate's.
    n_jobs : int or None
        Threads.

    Raises
    ------
    DataError
        When `y` has another length or values that are not finite.
    """
    spec = estimate.specification
    values = np.ascontiguousarray(y, dtype=np.float64)
    if values.shape != (spec.n,):
        raise DataError(f"the new response has shape {values.shape}; the model uses {spec.n} rows")
    if not np.all(np.isfinite(values)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"the new response has {bad} values that are missing or infinite")
    parts = {**estimate.parts, CONDITIONAL: spec.with_response(values)}
    own = estimate.extra if extra is None else extra
    return refitted(estimate, parts, own, path=estimate.optimum.path, n_jobs=n_jobs)
