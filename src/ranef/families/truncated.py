"""Counts given that they are not zero; with zero inflation, a hurdle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranef import _core
from ranef.errors import ModelError
from ranef.families.checks import require, whole
from ranef.families.counts import Count, by_inversion
from ranef.families.family import Family, Predictor, Start, compiled

__all__ = ["Truncated"]

Floats = NDArray[np.float64]


TRIES = 1000
"""A count above zero comes within so many draws where a zero is no surer than 0.9."""


@dataclass(frozen=True)
class Truncated(Family):
    """A family of counts given that y > 0.

    The predictors are those of the base, whose mean they speak of; `mean` and
    `variance` are the truncated response's. With ``zero`` it is a hurdle: the zero
    predictor is the logit of the probability of a zero, and all zeros are its own.

    Parameters
    ----------
    base : Family
        A family of counts.

    Raises
    ------
    ModelError
        If the base is no family of counts.

    Examples
    --------
    >>> from ranef.families import Poisson, Truncated
    >>> hurdle = Truncated(Poisson())
    >>> hurdle.name, hurdle.link
    ('truncated_poisson', 'log')
    >>> hurdle.mean([[0.0]]).round(4)
    array([1.582])
    """

    base: Family

    def __init__(self, base: Family) -> None:
        if not isinstance(base, Count):
            raise ModelError(f"only families of counts are truncated, not {base.name!r}")
        fields: dict[str, Any] = {"base": base, "link": base.link}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"truncated_{self.base.name}"

    @property
    def others(self) -> tuple[Predictor, ...]:  # type: ignore[override]
        return self.base.others

    @property
    def links(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.base.links

    takes_zero = True

    def _log_zero(self, etas: Floats) -> Floats:
        return self.base.log_density(np.zeros(etas.shape[1]), etas)

    def _mean(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        return self.base.mean(etas) / -np.expm1(self._log_zero(etas))

    @property
    def mean_link(self) -> str | None:
        return None

    @property
    def in_mean(self) -> tuple[int, ...]:
        return tuple(range(len(self.base.parameters)))

    def _mean_derivatives(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        M, n = etas.shape
        at = np.ascontiguousarray(etas)
        log_zero, *slopes = self.base.core().evaluate(np.zeros(n), None, at, 1, list(range(M)))
        positive = -np.expm1(log_zero)
        share = self.base.mean(etas) * np.exp(log_zero) / positive**2
        return np.asarray(self.base.mean_derivatives(etas) / positive + share * slopes)

    def _variance(self, etas: Floats, extra: ArrayLike | None) -> Floats:
        mean = self.base.mean(etas)
        second = (self.base.variance(etas) + mean**2) / -np.expm1(self._log_zero(etas))
        return second - self._mean(etas, extra) ** 2

    def _simulate(self, rng: np.random.Generator, etas: Floats, extra: ArrayLike | None) -> Floats:
        etas = self.base.drawable(etas)
        y = np.zeros(etas.shape[1])
        rare = ~(self._log_zero(etas) <= np.log(0.9))  # NaN where a mean is zero
        core = self.core()

        def log_mass(rows: NDArray[np.int64], count: int) -> Floats:
            at = np.ascontiguousarray(etas[:, rare][:, rows])
            return np.asarray(core.evaluate(np.full(rows.size, float(count)), None, at, 0, [])[0])

        y[rare] = by_inversion(rng, int(rare.sum()), log_mass, 1)
        rows = np.flatnonzero(~rare)
        for _ in range(TRIES):
            if not rows.size:
                break
            y[rows] = self.base.simulate(rng, etas[:, rows])
            rows = rows[y[rows] == 0]
        y[rows] = 1.0
        return y

    def core(self, zero: bool = False) -> _core.Family:
        """Return the compiled family: log density and derivatives."""
        return compiled(self.name, self.link, zero, 0)

    def _check(self, y: Floats, extra: Floats | None, excused: NDArray[np.bool_]) -> None:
        right = (whole(y) & (y >= 1)) | excused
        zeros = "; a hurdle (zero='~ 1') is for responses with zeros" if np.any(y == 0) else ""
        require(self.name, "whole numbers from 1", y, right, zeros)

    def _start(self, y: Floats, extra: Floats | None) -> Start:
        start = self.base.start(y)
        return Start(start.constants, start.eta)
