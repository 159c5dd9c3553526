"""A generalised model fitted again: to another response, or to many in a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.progress import arriving
from ranef.errors import DataError, ModelError, RanefError
from ranef.fits.refits import Refits, Responses, read_responses
from ranef.models.generalised import refit_glmm
from ranef.models.labels import Levels, coefficient_labels
from ranef.models.records import GeneralisedEstimate
from ranef.solve.resources import available_cores, in_threads
from ranef.tables import Table
from ranef.tables.frame import Frame

__all__ = ["coded_responses", "refit_many"]

Floats = NDArray[np.float64]


def coded_responses(y: Any, frame: Frame, levels: Levels) -> Responses:
    """Read responses for the rows of a model; categories become their codes."""
    return read_responses(y if levels is None else _codes(y, levels), frame)


def refit_many(
    estimate: GeneralisedEstimate,
    responses: Responses,
    library: str,
    *,
    levels: Levels = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Refits:
    """Fit the model to each response, several at a time; the bits are those of one thread."""
    k = responses.y.shape[1]
    jobs = available_cores(n_jobs)
    inside = jobs if k == 1 else 1

    def fit(j: int) -> GeneralisedEstimate:
        try:
            return refit_glmm(estimate, np.ascontiguousarray(responses.y[:, j]), n_jobs=inside)
        except RanefError as error:
            kind = DataError if isinstance(error, DataError) else ModelError
            raise kind(f"response {responses.names[j]!r}: {error}") from error

    answers = in_threads(fit, range(k), min(jobs, k))
    found = list(arriving(answers, k, "refitting", progress))
    return Refits(
        names=responses.names,
        terms=tuple(label.full for label in coefficient_labels(estimate, levels)),
        coef=np.array([e.coefficients for e in found]),
        theta=np.array([e.theta for e in found]),
        sigma=None,
        loglik=np.array([e.loglik for e in found]),
        evaluations=np.array([e.optimum.evaluations for e in found]),
        converged=np.array([e.optimum.converged for e in found]),
        library=library,
    )


def _codes(y: Any, levels: Levels) -> Any:
    """Codes of categories, column by column where there are several; numbers stay as they are."""
    if hasattr(y, "columns") or hasattr(y, "column_names") or isinstance(y, dict):
        table = Table.of(y)
        return {name: _column_codes(table.values(name), levels) for name in table.columns}
    values = np.asarray(y, dtype=object)
    if values.ndim == 1:
        return _column_codes(values, levels)
    return {f"y{j + 1}": _column_codes(column, levels) for j, column in enumerate(values.T)}


def _column_codes(values: Any, levels: Levels) -> Floats:
    """Codes of one response; NaN where it is missing."""
    assert levels is not None
    places = {level: float(k) for k, level in enumerate(levels)}
    places |= {str(level): float(k) for k, level in enumerate(levels)}
    codes = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is None or value != value:
            continue
        code = places.get(value, places.get(str(value)))
        if code is None:
            known = ", ".join(repr(level) for level in levels)
            raise DataError(f"the response has {value!r} in row {i}; its categories are {known}")
        codes[i] = code
    return codes
