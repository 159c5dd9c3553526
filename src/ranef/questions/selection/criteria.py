"""Criteria of one fit for either question: of new groups, and of the groups at hand.

Akaike's criterion is -2 log L + 2 d, d all free parameters (Akaike 1973); AICc adds
2 d (d + 1) / (n - d - 1) (Hurvich & Tsai 1989, Biometrika 76); BIC has log(n) d with n the rows,
the groups of the one grouping factor, or each where it counts: rows for coefficients that vary
within groups, groups for the others, for those with a random effect of their own and for the
covariance parameters (Delattre, Lavielle & Poursat 2014, Electron. J. Stat. 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.models.records import Estimate, LinearEstimate, as_generalised, columns_in
from ranef.questions.selection.conditional import ConditionalFit, conditional_linear
from ranef.questions.selection.penalty import Draws, conditional_generalised

__all__ = ["Marginal", "conditional_fit", "group_count", "marginal_fit"]

Floats = NDArray[np.float64]
Track = Callable[[Iterable[Floats]], Iterable[Floats]]


@dataclass(frozen=True, eq=False)
class Marginal:
    """The likelihood with random effects integrated out, and what it needs to be fair.

    Attributes
    ----------
    loglik : float
    df : int
        All free parameters.
    n : int
        Rows.
    groups : int or None
        Levels of the grouping factor; None where there are none, or several factors.
    by_rows : int or None
        Parameters that rows inform: the others are informed by groups. None as `groups`.
    """

    loglik: float
    df: int
    n: int
    groups: int | None
    by_rows: int | None

    @property
    def aic(self) -> float:
        return -2.0 * self.loglik + 2.0 * self.df

    @property
    def aicc(self) -> float:
        """NaN with too few rows."""
        left = self.n - self.df - 1
        return self.aic + 2.0 * self.df * (self.df + 1) / left if left > 0 else math.nan

    @property
    def bic(self) -> float:
        return -2.0 * self.loglik + math.log(self.n) * self.df

    @property
    def bic_groups(self) -> float:
        if self.groups is None:
            return math.nan
        return -2.0 * self.loglik + math.log(self.groups) * self.df

    @property
    def bic_hybrid(self) -> float:
        if self.groups is None or self.by_rows is None:
            return math.nan
        of_groups = self.df - self.by_rows
        return (
            -2.0 * self.loglik + math.log(self.n) * self.by_rows + math.log(self.groups) * of_groups
        )


def marginal_fit(estimate: Estimate, shift: float = 0.0) -> Marginal:
    """Return the marginal likelihood of a fit; `shift` is added to its logarithm."""
    groups = group_count(estimate)
    return Marginal(
        estimate.loglik + shift,
        estimate.n_parameters,
        estimate.specification.n,
        groups,
        None if groups is None else _informed_by_rows(estimate),
    )


def group_count(estimate: Estimate) -> int | None:
    """Levels of the one grouping factor; None where there are several or none."""
    factors = estimate.factors
    return len(factors[0].shown) if len(factors) == 1 else None


def _informed_by_rows(estimate: Estimate) -> int:
    """Coefficients that vary within groups without an effect of their own; dispersions, sigma."""
    factor = estimate.factors[0]
    count = int(estimate.sigma is not None)
    for component in estimate.components:
        spec = component.specification
        if spec is None:
            count += component.coefficients.stop - component.coefficients.start
            continue
        columns = [spec.names.index(name) for name in component.names if name in spec.names]
        own = [columns_in(estimate, t, component) for t in component.terms]
        for j in columns:
            x = spec.X[:, j]
            varies = not _constant_within(x, factor.codes, factor.n_levels)
            random = any(np.array_equal(x, z) for block in own for z in block.T)
            count += int(varies and not random)
    return min(count, estimate.n_parameters)


def _constant_within(x: Floats, codes: NDArray[np.int32], levels: int) -> bool:
    first = np.zeros(levels)
    first[codes] = x
    return bool(np.array_equal(first[codes], x))


def conditional_fit(
    estimate: Estimate,
    *,
    shift: float = 0.0,
    refits: bool | None = None,
    draws: Draws | None = None,
    n_jobs: int | None = None,
    track: Track = iter,
) -> ConditionalFit:
    """Return the conditional likelihood of a fit, corrected; see `conditional` and `penalty`."""
    generalised = as_generalised(estimate)
    if generalised is not None:
        found = conditional_generalised(
            generalised, refits=refits, draws=draws, n_jobs=n_jobs, track=track
        )
    else:
        assert isinstance(estimate, LinearEstimate)
        found = conditional_linear(estimate)
    return found if shift == 0.0 else found.shifted(shift)
