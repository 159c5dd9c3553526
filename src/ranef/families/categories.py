"""Families of categories: cumulative (ordered) and multinomial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef import _core
from ranef.errors import DataError, ModelError, row_text, suggestion
from ranef.families.checks import require, whole
from ranef.families.family import Family, Predictor, Start, columns, compiled

__all__ = ["Cumulative", "Multinomial"]

Floats = NDArray[np.float64]
THRESHOLDS = ("flexible", "symmetric", "equidistant")


def _draw(rng: np.random.Generator, probabilities: Floats) -> Floats:
    """Draw a 0-based category from each row of (n, J) probabilities."""
    u = rng.random(len(probabilities))[:, None]
    return np.asarray(
        np.sum(np.cumsum(probabilities[:, :-1], axis=1) < u, axis=1).astype(np.float64)
    )


@dataclass(frozen=True)
class Cumulative(Family):
    """Ordered categories: P(y <= j) = F(threshold_j - eta), j = 0 .. J - 2.

    y is the 0-based category and ``extra`` the number J of categories. The core's
    predictors are eta, the upper threshold and the lower threshold of the row's
    category; `rows` makes them. The thresholds are linear in their parameters
    (`threshold_basis`): ``"flexible"`` has one for each, ``"symmetric"`` a middle (one
    or two) and the same distances to both sides, ``"equidistant"`` the first and one
    distance. For `mean`, `variance` and `simulate`, ``etas`` is (J, n): eta and then
    all J - 1 thresholds. A row whose thresholds are out of order, as nominal effects can
    bring about, has no probabilities: NaN, and no draw.

    Examples
    --------
    >>> import numpy as np
    >>> from ranef.families import Cumulative
    >>> f = Cumulative(link="logit")
    >>> f.mean([[0.0], [-1.0], [1.0]]).round(4)
    array([[0.2689, 0.4621, 0.2689]])
    >>> Cumulative(thresholds="equidistant").threshold_basis(4)
    array([[1., 0.],
           [1., 1.],
           [1., 2.]])
    """

    link: str = "logit"
    thresholds: Literal["flexible", "symmetric", "equidistant"] = "flexible"

    name: ClassVar[str] = "cumulative"
    response: ClassVar[str] = "ordered categories"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog", "cauchit")
    others: ClassVar[tuple[Predictor, ...]] = (
        Predictor("threshold", "identity", "upper threshold"),
        Predictor("threshold", "identity", "lower threshold"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholds not in THRESHOLDS:
            raise ModelError(
                f"no thresholds {self.thresholds!r}{suggestion(self.thresholds, THRESHOLDS)}; "
                f"there are {', '.join(THRESHOLDS)}"
            )

    @property
    def parameters(self) -> tuple[Predictor, ...]:
        return (Predictor("mean", "identity", "eta"), *self.others)

    @property
    def mean_link(self) -> str | None:
        return None

    def threshold_basis(self, categories: int) -> Floats:
        """Return the (J - 1, k) matrix from threshold parameters to thresholds."""
        cuts = categories - 1
        if self.thresholds == "flexible":
            return np.eye(cuts)
        if self.thresholds == "equidistant":
            basis = np.column_stack([np.ones(cuts), np.arange(cuts)])
            return np.ascontiguousarray(basis[:, : min(cuts, 2)], dtype=np.float64)
        middles = 2 - cuts % 2
        half = (cuts - middles) // 2
        basis = np.zeros((cuts, middles + half))
        for i in range(half):
            basis[half - 1 - i, [0, middles + i]] = 1, -1
            basis[half + middles + i, [middles - 1, middles + i]] = 1, 1
        basis[half : half + middles, :middles] = np.eye(middles)
        return basis

    def threshold_names(self, categories: int) -> tuple[str, ...]:
        """Return the names of the threshold parameters, categories counted from 1."""
        cuts = categories - 1
        if self.thresholds == "flexible":
            return tuple(f"{j}|{j + 1}" for j in range(1, cuts + 1))
        if self.thresholds == "equidistant":
            return ("threshold.1", "spacing")[: min(cuts, 2)]
        middles = 2 - cuts % 2
        centres = ("central",) if middles == 1 else ("central.1", "central.2")
        return (*centres, *(f"spacing.{i + 1}" for i in range((cuts - middles) // 2)))

    def rows(self, y: ArrayLike, eta: ArrayLike, thresholds: ArrayLike) -> Floats:
        """Return the core's (3, n) predictors: eta, upper and lower threshold of y.

        ``thresholds`` is (J - 1,); an end that a category lacks is 0, which the core
        does not read.
        """
        y = np.asarray(y, dtype=np.int64)
        cuts = np.asarray(thresholds, dtype=np.float64)
        upper, lower = np.append(cuts, 0.0), np.insert(cuts, 0, 0.0)
        return np.ascontiguousarray(np.vstack([np.broadcast_to(eta, y.shape), upper[y], lower[y]]))

    def link_function(self, mu: ArrayLike) -> Floats:
        """Return F^-1 of a cumulative probability."""
        return super().link_function(mu)

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Probabilities of the categories, (n, J)."""
        below = self.inverse_link(etas[1:] - etas[0])
        n = etas.shape[1]
        edges = np.vstack([np.zeros(n), below, np.ones(n)])
        found = np.diff(edges, axis=0)
        found[:, (etas[2:] < etas[1:-1]).any(axis=0)] = np.nan
        return found.T

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Derivatives of the probabilities in eta and all thresholds, (J, n, J)."""
        slopes = self.inverse_link_derivatives(etas[1:] - etas[0])[0]
        out = np.zeros((*etas.shape, len(etas)))
        for j, slope in enumerate(slopes):
            out[j + 1, :, j] = slope
            out[j + 1, :, j + 1] = -slope
        out[0] = -out[1:].sum(axis=0)
        return out

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Variances of the categories' indicators, (n, J)."""
        p = self._mean(etas, extra)
        return p * (1 - p)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        probabilities = self._mean(etas, extra)
        wrong = np.flatnonzero(np.isnan(probabilities).any(axis=1))
        if len(wrong):
            rows = "1 row" if len(wrong) == 1 else f"{len(wrong)} rows"
            raise ModelError(
                f"the thresholds of {rows} (first {row_text(int(wrong[0]))}) are out of order, "
                "so that a category would have a negative probability: the nominal effects do not "
                "reach so far"
            )
        return _draw(rng, probabilities)

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        _check_categories(self.name, y, extra)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        categories = int(y.max()) + 1 if extra is None else int(extra[0])
        counts = np.bincount(y.astype(np.int64), minlength=categories) + 0.5
        below = np.cumsum(counts)[:-1] / counts.sum()
        cuts = self.link_function(below)
        parameters = np.linalg.pinv(self.threshold_basis(categories)) @ cuts
        return Start(np.zeros(3), thresholds=np.asarray(parameters, dtype=np.float64))


def _check_categories(name: str, y: Floats, extra: Floats | None) -> None:
    if extra is None:
        raise DataError(f"{name} needs the number of categories")
    require(name, "two categories or more", extra, extra >= 2)
    needs = f"categories from 0 to {extra.max() - 1:g}"
    require(name, needs, y, whole(y) & (y >= 0) & (y < extra))


@dataclass(frozen=True)
class Multinomial(Family):
    """Unordered categories: log odds of each against the first (the baseline).

    y is the 0-based category of J = ``categories``; predictor m is that of category
    m + 1. `mean` gives the (n, J) probabilities, `variance` those of the indicators.

    Examples
    --------
    >>> from ranef.families import Multinomial
    >>> Multinomial(3).mean([[0.0], [0.0]]).round(4)
    array([[0.3333, 0.3333, 0.3333]])
    """

    categories: int = 2
    link: str = "logit"

    name: ClassVar[str] = "multinomial"
    response: ClassVar[str] = "categories"
    links: ClassVar[tuple[str, ...]] = ("logit",)

    def __init__(self, categories: int, link: str = "logit") -> None:
        object.__setattr__(self, "categories", int(categories))
        object.__setattr__(self, "link", link)
        if self.categories < 2:
            raise ModelError(f"multinomial needs two categories or more, not {categories}")
        self.__post_init__()

    @property
    def parameters(self) -> tuple[Predictor, ...]:
        return tuple(Predictor("mean", "logit", f"category {m}") for m in range(1, self.categories))

    def core(self, zero: bool = False) -> _core.Family:
        """Return the compiled family: log density and derivatives."""
        if zero:
            self._may_have_zero()
        return compiled(self.name, self.link, False, self.categories)

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Probabilities of the categories, (n, J)."""
        full = np.vstack([np.zeros(etas.shape[1]), columns(etas)])
        odds = np.exp(full - full.max(axis=0))
        return np.asarray((odds / odds.sum(axis=0)).T)

    @property
    def mean_link(self) -> str | None:
        return None

    @property
    def in_mean(self) -> tuple[int, ...]:
        return tuple(range(self.categories - 1))

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Derivatives of the probabilities in the predictors, (J - 1, n, J)."""
        p = self._mean(etas, extra)
        out = -p.T[1:, :, None] * p
        for m in range(len(etas)):
            out[m, :, m + 1] += p[:, m + 1]
        return out

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        """Variances of the categories' indicators, (n, J)."""
        p = self._mean(etas, extra)
        return p * (1 - p)

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        return _draw(rng, self._mean(etas, extra))

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        _check_categories(self.name, y, np.full(y.shape, float(self.categories)))

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        counts = np.bincount(y.astype(np.int64), minlength=self.categories) + 0.5
        return Start(np.log(counts[1:] / counts[0]))
