"""One model fitted to many responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Listing
from ranef.display.progress import arriving
from ranef.errors import DataError, ModelError, RanefError, row_text
from ranef.models import refits
from ranef.models.labels import coefficient_labels
from ranef.models.records import Estimate, LinearEstimate
from ranef.models.refitting import refit
from ranef.solve.resources import available_cores, in_threads
from ranef.tables import Table
from ranef.tables.origin import Origin

__all__ = ["Refits", "Responses", "read_responses", "refit_many"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Refits(Answer):
    """Estimates of one model for k responses.

    Attributes
    ----------
    names : tuple of str
        The responses.
    terms : tuple of str
        The fixed effects.
    coef : (k, p) float64 array
    theta : (k, t) float64 array
        Covariance parameters, relative to sigma in linear models.
    sigma : (k,) float64 array or None
        None in generalised models.
    loglik : (k,) float64 array
    evaluations : (k,) int array
    converged : (k,) bool array
    library : str
        Data-frame library of `tidy`.
    coded : dict
        Column and level of coefficients that stand for a level of a category.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> refits = fit.refit(fit.simulate(3, rng=1))
    >>> len(refits), refits.coef.shape
    (3, (3, 1))
    >>> refits.tidy().columns.tolist()
    ['response', '(Intercept)', 'sigma', 'loglik', 'converged']
    """

    names: tuple[str, ...]
    terms: tuple[str, ...]
    coef: Floats
    theta: Floats
    sigma: Floats | None
    loglik: Floats
    evaluations: NDArray[Any]
    converged: NDArray[np.bool_]
    library: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    title = "Refits"

    def tidy(self) -> Any:
        """Return one row a response: fixed effects, sigma, loglik, converged."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        values: dict[str, Any] = {"response": list(self.names)}
        values |= {term: self.coef[:, j].copy() for j, term in enumerate(self.terms)}
        values |= {} if self.sigma is None else {"sigma": self.sigma}
        values |= {"loglik": self.loglik, "converged": self.converged}
        columns = tuple(Column(name, column, printed=False) for name, column in values.items())
        return (Listing("estimates", columns),)

    def sentences(self) -> tuple[str, ...]:
        proved = int(np.count_nonzero(self.converged))
        return (f"{len(self)} responses, {proved} proved optima; tidy() has their estimates.",)


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses for the rows of a model.

    Attributes
    ----------
    y : (n_used, k) float64 array
    names : tuple of str
    single : bool
        True when one response was given by itself.
    """

    y: Floats
    names: tuple[str, ...]
    single: bool


def read_responses(y: Any, frame: Origin, levels: Sequence[Any] | None = None) -> Responses:
    """Read one response, or a matrix or table of them, for the rows of a model."""
    y = frame.aligned(y, "y")
    values, names, single = _read(y if levels is None else _codes(y, levels))
    rows = frame.accounting
    if len(values) == rows.n_rows and rows.kept is not None:
        values = values[rows.kept]
    elif len(values) != rows.n_used:
        wanted = f"{rows.n_used}"
        if rows.n_dropped:
            wanted += f" (the rows in the model) or {rows.n_rows} (the rows of its table)"
        raise DataError(f"the response has {len(values)} rows; the model needs {wanted}")
    for name, column in zip(names, values.T, strict=True):
        bad = int(np.count_nonzero(~np.isfinite(column)))
        if bad:
            raise DataError(
                f"response {name!r} is missing or infinite in {bad} of the model's rows; "
                "a refit keeps the rows, so leave these out of the table and fit anew"
            )
    return Responses(values, names, single)


def _read(y: Any) -> tuple[Floats, tuple[str, ...], bool]:
    """Values (rows, k), names and whether it was one response."""
    if _is_table(y):
        table = Table.of(y)
        if not table.columns:
            raise DataError("the table of responses has no columns")
        values = np.column_stack([table.numeric(name) for name in table.columns])
        return values, tuple(table.columns), False
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"the response must hold numbers, not {type(y).__name__}") from None
    if values.ndim == 1:
        return values[:, None], (str(getattr(y, "name", None) or "y"),), True
    if values.ndim != 2 or values.shape[1] == 0:
        raise DataError(
            f"responses must be one column or a matrix with one response a column, "
            f"not an array of shape {values.shape}"
        )
    return values, tuple(f"y{j + 1}" for j in range(values.shape[1])), False


def _is_table(y: Any) -> bool:
    return hasattr(y, "columns") or hasattr(y, "column_names") or isinstance(y, (dict, Table))


def refit_many(
    estimate: Estimate,
    responses: Responses,
    library: str,
    *,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Refits:
    """Fit the model to each response: a linear one in one call, others several at a time.

    The bits are those of one thread.
    """
    terms = tuple(label.full for label in coefficient_labels(estimate))
    if isinstance(estimate, LinearEstimate):
        many = refits.refit_many(estimate, responses.y, n_jobs=n_jobs)
        return Refits(
            responses.names, terms, many.beta, many.theta, many.sigma, many.loglik,
            many.evaluations, many.converged, library,
        )  # fmt: skip
    k = responses.y.shape[1]
    jobs = available_cores(n_jobs)
    inside = jobs if k == 1 else 1

    def fit(j: int) -> Estimate:
        try:
            return refit(estimate, np.ascontiguousarray(responses.y[:, j]), n_jobs=inside)
        except RanefError as error:
            kind = DataError if isinstance(error, DataError) else ModelError
            raise kind(f"response {responses.names[j]!r}: {error}") from error

    answers = in_threads(fit, range(k), min(jobs, k))
    found = list(arriving(answers, k, "refitting", progress))
    return Refits(
        names=responses.names,
        terms=terms,
        coef=np.array([e.coefficients for e in found]),
        theta=np.array([e.theta for e in found]),
        sigma=None,
        loglik=np.array([e.loglik for e in found]),
        evaluations=np.array([e.optimum.evaluations for e in found]),
        converged=np.array([e.optimum.converged for e in found]),
        library=library,
    )


def _codes(y: Any, levels: Sequence[Any]) -> Any:
    """Codes of categories, column by column where there are several; numbers stay as they are."""
    if hasattr(y, "columns") or hasattr(y, "column_names") or isinstance(y, dict):
        table = Table.of(y)
        return {name: _column_codes(table.values(name), levels) for name in table.columns}
    values = np.asarray(y, dtype=object)
    if values.ndim == 1:
        return _column_codes(values, levels)
    return {f"y{j + 1}": _column_codes(column, levels) for j, column in enumerate(values.T)}


def _column_codes(values: Any, levels: Sequence[Any]) -> Floats:
    """Codes of one response; NaN where it is missing."""
    places = {level: float(k) for k, level in enumerate(levels)}
    places |= {str(level): float(k) for k, level in enumerate(levels)}
    codes = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is None or value != value:
            continue
        code = places.get(value, places.get(str(value)))
        if code is None:
            known = ", ".join(repr(level) for level in levels)
            raise DataError(
                f"the response has {value!r} in {row_text(i)}; its categories are {known}"
            )
        codes[i] = code
    return codes
