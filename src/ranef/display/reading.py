"""What the pictures read from a fit: its tables, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError, suggestion
from ranef.tables import Table

__all__ = [
    "Effects",
    "Fitted",
    "Intervals",
    "Levelled",
    "Shrinkage",
    "has_residuals",
    "random_effects",
    "residual_pairs",
    "shrinkage_effects",
    "standardised_residuals",
    "usual_residuals",
]

Floats = NDArray[np.float64]

QUANTILE = "quantile"
"""The residuals of generalised models that are normal if the model holds."""


class Fitted(Protocol):
    """The part of a fit that pictures and reports read."""

    @property
    def formula(self) -> str: ...

    @property
    def estimate(self) -> Any: ...

    def tidy(self, effects: str = ..., *, conf_level: float = ..., df: str = ...) -> Any: ...

    def fitted(self) -> Any: ...

    def residuals(self, kind: Any = ...) -> Any: ...

    def predict(self, new: Any = ..., *, kind: str = ..., type: str = ...) -> Any: ...


class Levelled(Protocol):
    """The part of a mixed model's fit that pictures of its levels read."""

    @property
    def n_groups(self) -> dict[str, int]: ...

    def shrinkage(self, group: str | None = ...) -> Any: ...

    def rank(self, by: str | None = ..., **options: Any) -> Any: ...

    def standardized_ratios(self, by: str | None = ..., **options: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class Intervals:
    """Named estimates with intervals.

    Attributes
    ----------
    names : tuple of str
    estimate, low, high : (m,) float64 arrays
    """

    names: tuple[str, ...]
    estimate: Floats
    low: Floats
    high: Floats

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the given rows, in the given order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            estimate=self.estimate[rows],
            low=self.low[rows],
            high=self.high[rows],
        )

    def sorted(self) -> Self:
        """Return the rows from the smallest estimate to the largest."""
        return self.take(np.argsort(self.estimate, kind="stable"))


@dataclass(frozen=True, eq=False)
class Effects(Intervals):
    """The effects of one coefficient on the levels of one grouping factor."""

    group: str
    term: str


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """Raw and shrunken estimates of one coefficient of the levels of one factor.

    Attributes
    ----------
    group, term : str
    names : tuple of str
    raw, estimate : (q,) float64 arrays
        `raw` is NaN where there is none.
    centre : float
        What estimates are shrunken to.
    """

    group: str
    term: str
    names: tuple[str, ...]
    raw: Floats
    estimate: Floats
    centre: float

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the given rows, in the given order."""
        names = tuple(self.names[i] for i in rows)
        return replace(self, names=names, raw=self.raw[rows], estimate=self.estimate[rows])


def shrinkage_effects(fit: Levelled, group: str | None) -> tuple[Shrinkage, ...]:
    """Return raw and shrunken estimates, one entry for each coefficient of a factor."""
    if group is None and not getattr(fit, "factors", ()):
        if getattr(fit, "own_likelihood", False):
            raise ModelError(
                "a picture of shrinkage needs the random effects of ranef.lmm and ranef.glmm; "
                "fit.plot.random() draws those of this fit"
            )
        raise ModelError("a picture of shrinkage needs random effects; this model has none")
    table = Table.of(fit.shrinkage(next(iter(fit.n_groups)) if group is None else group))
    groups = [str(g) for g in table.values("group")]
    parts = ["conditional"] * len(groups)
    if "component" in table.columns:
        parts = [str(c) for c in table.values("component")]
    terms = _named(table, [str(t) for t in table.values("term")])
    levels = table.values("level")
    raw, value, centre = (table.numeric(c) for c in ("raw", "estimate", "centre"))
    found = []
    for (part, of_group, of_term), rows in _blocks(parts, groups, terms).items():
        names = tuple(str(levels[i]) for i in rows)
        title = of_group if part == "conditional" else f"{of_group} ({part})"
        middle = float(centre[rows[0]])
        found.append(Shrinkage(title, of_term, names, raw[rows], value[rows], middle))
    return tuple(found)


def _named(table: Table, terms: Sequence[str]) -> list[str]:
    """Names of coefficients, led by the category of the response where there are several."""
    if "response" not in table.columns:
        return list(terms)
    responses = table.values("response")
    return [
        term if response is None or response != response else f"{response}: {term}"
        for response, term in zip(responses, terms, strict=True)
    ]


def random_effects(fit: Fitted, conf_level: float, group: str | None) -> tuple[Effects, ...]:
    """Return the random effects, one entry for each coefficient of each factor."""
    table = Table.of(fit.tidy("random", conf_level=conf_level))
    groups = [str(g) for g in table.values("group")]
    _check_group(group, groups)
    parts = [str(c) for c in table.values("component")]
    terms = _named(table, [str(t) for t in table.values("term")])
    levels = table.values("level")
    value, low, high = (table.numeric(c) for c in ("estimate", "conf_low", "conf_high"))
    found = []
    for (part, of_group, of_term), rows in _blocks(parts, groups, terms).items():
        if group in (None, of_group):
            names = tuple(str(levels[i]) for i in rows)
            title = of_group if part == "conditional" else f"{of_group} ({part})"
            found.append(Effects(names, value[rows], low[rows], high[rows], title, of_term))
    return tuple(found)


def residual_pairs(fit: Fitted, kind: str) -> tuple[Floats, Floats]:
    """Return fitted values and residuals of the rows that the model used.

    Quantile residuals are ranks among new levels, so what belongs to them is the
    linear predictor of a typical level.
    """
    across = fit.predict(kind="typical", type="link") if kind == QUANTILE else fit.fitted()
    fitted = np.asarray(across, dtype=np.float64)
    residual = np.asarray(fit.residuals(kind), dtype=np.float64)
    used = np.isfinite(fitted) & np.isfinite(residual)
    return fitted[used], residual[used]


def usual_residuals(fit: Fitted) -> str:
    """Return the kind whose spread should be constant if the model holds."""
    if not hasattr(fit, "estimate"):
        raise ModelError(
            "pooled fits tell of the coefficients, not of residuals: ask one of fit.fits"
        )
    if getattr(fit, "own_likelihood", False):
        return "pearson"
    if fit.estimate.sigma is None:
        return QUANTILE
    return "response" if fit.estimate.specification.weights is None else "pearson"


def standardised_residuals(fit: Fitted) -> str:
    """Return the kind whose size should be constant, weights counted."""
    return QUANTILE if usual_residuals(fit) == QUANTILE else "pearson"


def has_residuals(fit: Fitted) -> bool:
    """Tell whether the responses have an order, and so residuals."""
    return fit.estimate.family.name not in ("multinomial", "censored")


def _blocks(*columns: Sequence[str]) -> dict[tuple[str, ...], Any]:
    rows: dict[tuple[str, ...], list[int]] = {}
    for i, key in enumerate(zip(*columns, strict=True)):
        rows.setdefault(key, []).append(i)
    return {key: np.array(found, dtype=np.intp) for key, found in rows.items()}


def _check_group(group: str | None, groups: Sequence[str]) -> None:
    known = list(dict.fromkeys(groups))
    if group is not None and group not in known:
        names = ", ".join(repr(g) for g in known)
        raise ModelError(
            f"the model has no grouping factor {group!r}{suggestion(group, known)}; "
            f"its factors are {names}"
        )
