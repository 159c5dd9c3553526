"""What the residuals of a diary remember: none of it, an Ornstein-Uhlenbeck process, or with noise.

Prompts of one series that lie close in time resemble each other beyond what the model says, as
exp(-gap / range); a nugget is the part of each prompt that nothing remembers, measurement error
among it.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ranef.api.fitting import lmm
from ranef.errors import ModelError, RanefError, RanefWarning
from ranef.fields.diary.model import Formula

__all__ = ["AUTO", "Candidate", "Choice", "check", "fitted"]

AUTO = "auto"
INDEPENDENT = "independent"
GAIN = 2.0
"""By how much AIC must fall for the richer structure."""
STRUCTURES = {"": 20_000, ", nugget = True": 6_000}
"""What follows the series in a candidate, and up to how many rows it is compared."""
MOST_ROWS = max(STRUCTURES.values())


@dataclass(frozen=True)
class Candidate:
    """One structure of the residuals that was fitted.

    Attributes
    ----------
    structure : str
        As `ranef.lmm` takes it, or ``"independent"``.
    loglik, aic : float
        Of the restricted likelihood; all have the same fixed effects.
    """

    structure: str
    loglik: float
    aic: float


@dataclass(frozen=True)
class Choice:
    """The structure of the residuals.

    Attributes
    ----------
    structure : str or None
        None for independent residuals.
    candidates : tuple of Candidate
        What it was chosen among; empty where it was given.
    range, nugget : float
        Time after which a correlation has fallen to 1 / e, and the share that nothing
        remembers; NaN where the structure has none.
    range_low, range_high : float
        95% interval of the range.
    """

    structure: str | None
    candidates: tuple[Candidate, ...] = ()
    range: float = math.nan
    nugget: float = math.nan
    range_low: float = math.nan
    range_high: float = math.nan

    @property
    def half_life(self) -> float:
        """Time in which what is remembered halves."""
        return self.range * math.log(2.0)

    @property
    def half_life_interval(self) -> tuple[float, float]:
        """Its 95% interval, that of the range carried over."""
        return self.range_low * math.log(2.0), self.range_high * math.log(2.0)


def fitted(formula: Formula, residual: str | None) -> tuple[Any, Choice]:
    """Fit the model with the residuals asked for, or with those of the least AIC.

    ``"auto"`` compares independent residuals with an Ornstein-Uhlenbeck process over the time
    within a series, and this with one that has a nugget; a richer one must be proved to stand at
    its optimum, and lower AIC by more than two. Above 20,000 rows nothing is compared, above
    6,000 no nugget, since that takes minutes.
    """
    if residual != AUTO:
        fit = lmm(formula.text, formula.table, residual=residual)
        return fit, _choice(fit, residual)
    best = lmm(formula.text, formula.table)
    tried = [Candidate(INDEPENDENT, best.loglik, best.aic)]
    chosen: str | None = None
    rows = best.n_obs
    for nugget, most in STRUCTURES.items():
        if rows > most:
            break
        structure = f"ou({formula.time} | {formula.series}{nugget})"
        other = _attempt(formula, structure)
        if other is None:
            break
        tried.append(Candidate(structure, other.loglik, other.aic))
        if other.aic > best.aic - GAIN:
            break
        best, chosen = other, structure
    return best, replace(_choice(best, chosen), candidates=tuple(tried))


def _attempt(formula: Formula, structure: str) -> Any | None:
    """Fit a candidate; None where the data do not determine it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RanefWarning)
        try:
            fit = lmm(formula.text, formula.table, residual=structure)
        except (RanefError, RanefWarning):
            return None
    return fit if fit.optimum.converged else None


def _choice(fit: Any, structure: str | None) -> Choice:
    table = fit.tidy("variance")
    columns = ("group", "parameter", "estimate", "conf_low", "conf_high")
    rows = zip(*(np.asarray(table[name]).tolist() for name in columns), strict=True)
    found = {parameter: values for group, parameter, *values in rows if group == "Residual"}
    nothing = [math.nan] * 3
    reach, low, high = found.get("range", nothing)
    return Choice(structure, (), reach, found.get("nugget", nothing)[0], low, high)


def check(residual: Any) -> str | None:
    """Return the argument, or say what it may be."""
    if residual is None or isinstance(residual, str):
        return residual
    raise ModelError(
        "residual= is 'auto', None for independent residuals, or a structure of ranef.lmm such as "
        "'ar1(prompt | person/day)'"
    )
