"""What the data determine of a model in which they do not determine every parameter.

Where the criterion is flat in a direction (`solve.flat`), an equally good estimate lies
along it. Whatever both say alike is determined; whatever they say differently is not, and
becomes NaN. So every answer tells the two apart by itself, whatever it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from typing import Any, cast

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ranef.inference.coefficients.functions import Knowledge
from ranef.inference.coefficients.variance import VarianceParameter
from ranef.inference.coefficients.wald import FTest
from ranef.inference.protocol import Inference
from ranef.inference.rows.evaluated import Values

__all__ = ["masked", "partly"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALIKE = 1e-4
"""Relative difference of two answers that count as one."""
TINY = 1e-7
ANSWERS = ("ranef.questions.", "ranef.inference.")
MASKED = frozenset((
     "level_effects", "coefficients_by_level", "prediction_variance",
    "predict", "fitted", "residuals", "unpooled",
))  # fmt: skip


def masked(one: Any, other: Any) -> Any:
    """Return the first of two answers, NaN where the second says something else.

    Numbers and arrays of numbers are compared, in tuples, mappings and small records too;
    everything else is taken from the first.

    Examples
    --------
    >>> masked((1.0, "a", 2.0), (1.0, "b", 3.0))
    (1.0, 'a', nan)
    """
    if isinstance(one, float | np.floating) and isinstance(other, float | np.floating):
        return one if _alike(np.asarray(one), np.asarray(other)) else float("nan")
    if isinstance(one, np.ndarray) and one.dtype.kind == "f":
        if not isinstance(other, np.ndarray) or one.shape != other.shape:
            return one
        return np.where(_alike(one, other), one, np.nan)
    if isinstance(one, tuple | list) and len(one) == len(other):
        return type(one)(masked(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping):
        return {key: masked(value, other[key]) for key, value in one.items()}
    if is_dataclass(one) and not isinstance(one, type) and type(one) is type(other):
        return _masked_record(one, other)
    return one


def _masked_record(one: Any, other: Any) -> Any:
    changed = {}
    for field in fields(one):
        value = getattr(one, field.name)
        if field.init and (
            isinstance(value, float | np.ndarray | tuple | list | Mapping) or _is_answer(value)
        ):
            changed[field.name] = masked(value, getattr(other, field.name))
    return replace(one, **changed)


def _is_answer(value: Any) -> bool:
    """Tell whether a part of an answer is a small record of numbers itself."""
    module, estimate = type(value).__module__, getattr(value, "estimate", None)
    return is_dataclass(value) and module.startswith(ANSWERS) and not is_dataclass(estimate)


def _alike(one: Floats, other: Floats) -> Bools:
    """Compare numbers, small ones beside the largest of their kind."""
    size = np.maximum(np.abs(one), np.abs(other))
    finite = size[np.isfinite(size)]
    least = TINY * float(finite.max(initial=0.0))
    with np.errstate(invalid="ignore"):
        near = np.abs(one - other) <= ALIKE * size + least
    return np.asarray(near | (one == other) | np.isnan(one))


def partly(model: Inference, twin: Inference) -> Inference:
    """Ask a model what it has in common with another that is as good."""
    return cast(Inference, _Partly(model, twin))


@dataclass(frozen=True, eq=False)
class _Partly:
    """A model whose answers are masked where another that is as good differs."""

    model: Inference
    twin: Inference

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        if name in MASKED:
            return _both(found, getattr(self.twin, name))
        return found

    def knowledge(self, df: str | None = None) -> Knowledge:
        return self._cautious(self.model.knowledge(df), self.twin.knowledge(df))

    def degrees(self, L: Floats, df: str | None = None) -> Floats:
        return self.knowledge(df).degrees(np.atleast_2d(L))

    def intervals(
        self, L: Floats | None = None, conf_level: float = 0.95, df: str | None = None
    ) -> Any:
        return masked(
            self.model.intervals(L, conf_level, df), self.twin.intervals(L, conf_level, df)
        )

    def f_test(self, L: Floats, rhs: Floats | None = None, df: str | None = None) -> FTest:
        found = self.model.f_test(L, rhs, df)
        if self._open(np.atleast_2d(L), *self._covariances(df)).any():
            return FTest(np.nan, found.df1, np.nan, np.nan)
        return found

    def evaluate(self, *args: Any, **more: Any) -> Values:
        found = self.model.evaluate(*args, **more)
        other = self.twin.evaluate(*args, **more)
        known = self._cautious(found.knowledge, other.knowledge)
        size = np.sqrt(np.maximum(np.sum(found.jacobian @ known.covariance * found.jacobian, 1), 0))
        gap = found.value - other.value
        gap = np.where(np.abs(gap) > 10 * ALIKE * size, gap, 0.0)
        return replace(found, knowledge=known, gap=gap[:, None])

    def variance_parameters(self, conf_level: float = 0.95) -> tuple[VarianceParameter, ...]:
        one, other = (m.variance_parameters(conf_level) for m in (self.model, self.twin))
        pairs = zip(one, masked(one, other), strict=True)
        return tuple(
            replace(b, conf_low=np.nan, conf_high=np.nan)
            if np.isnan(b.estimate) and not np.isnan(a.estimate)
            else replace(a, estimate=b.estimate)
            for a, b in pairs
        )

    def updated(self, observed: Any) -> Inference:
        return partly(self.model.updated(observed), self.twin.updated(observed))

    def _covariances(self, df: str | None) -> tuple[Floats, Floats]:
        return self.model.covariance(df), self.twin.covariance(df)

    def _cautious(self, known: Knowledge, other: Knowledge) -> Knowledge:
        """Knowledge that says nothing of functions about which the two differ."""
        V, W = known.covariance, other.covariance

        def degrees(L: Floats) -> Floats:
            return np.where(self._open(L, V, W), np.nan, known.degrees(L))

        def joint(L: Floats, value: Floats) -> FTest:
            found = known.joint(L, value)
            if self._open(L, V, W).any():
                return FTest(np.nan, found.df1, np.nan, np.nan)
            return found

        return Knowledge(V, degrees, joint, lambda L: self._open(L, V, W))

    def _open(self, L: Floats, V: Floats, W: Floats) -> Bools:
        """Which functions (q, K) of the parameters, or their variances, are not determined."""
        one, other = np.sum(L @ V * L, axis=1), np.sum(L @ W * L, axis=1)
        out = np.abs(one - other) > ALIKE * np.maximum(one, other)
        gap = self.model.estimate.coefficients - self.twin.estimate.coefficients
        if L.shape[1] >= len(gap):
            moved = np.abs(L[:, : len(gap)] @ gap)
            out |= moved > 10 * ALIKE * np.sqrt(np.maximum(one, 0.0))
        return np.asarray(out)


def _both(one: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(one)
    def ask(*args: Any, **more: Any) -> Any:
        same = {k: deepcopy(v) if isinstance(v, Generator) else v for k, v in more.items()}
        return masked(one(*args, **more), other(*args, **same))

    return ask
