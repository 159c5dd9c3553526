"""Responses of the model beside the data: where each row falls among its own draws.

A scaled residual is the rank of a row's response among responses that the model draws
for it, ties broken at random, as a number between 0 and 1: uniform if the model holds,
for any family (Dunn & Smyth 1996, J. Comput. Graph. Stat. 5).

What the random effects are in the draws decides what is compared:

- ``"posterior"``: one draw of effects and coefficients from their distribution given
  the data. If the model holds, data and draws then have the same joint distribution, so
  that the residuals are uniform *and independent* (Johnson 2007, Bayesian Anal. 2; Yuan
  & Johnson 2012, Biometrics 68). In a linear model this is exact given theta; in a
  generalised one coefficients are drawn from the normal distribution at their estimates,
  and effects from their own given these, by Metropolis steps.
- ``"conditional"``: effects at their modes. Modes follow the data, so residuals are
  too near the middle, the more so the fewer rows a level has.
- ``"new"``: effects of new levels. Rows of one level move together, so tests that take
  rows for independent do not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families import CensoredGaussian
from ranef.inference.draws.posterior_draw import PosteriorDraw
from ranef.inference.draws.quantile_residuals import ranked
from ranef.inference.effects.linearised import refuse_unordered
from ranef.inference.protocol import Inference
from ranef.models.records import Estimate
from ranef.solve.assembly import ALWAYS_THERE
from ranef.solve.resources import available_memory

__all__ = ["EFFECTS", "Simulated", "grouped", "simulated"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int_]

EFFECTS = ("posterior", "conditional", "new")
MOST_CELLS = 200_000_000
ARRAYS = 3
"""As many arrays of the draws' size as stand at once."""
Watched = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, eq=False)
class Simulated:
    """Data, draws of the model, and where the data fall among them.

    Attributes
    ----------
    observed : (m,) float64 array
        One a row, or a group of rows.
    draws : (m, N) float64 array
    scaled : (m,) float64 array
        Uniform on (0, 1) if the model holds.
    predicted : (m,) float64 array
        Linear predictor that the draws were made with, of new levels that of typical
        ones; of groups the mean of it.
    """

    observed: Floats
    draws: Floats
    scaled: Floats
    predicted: Floats


def simulated(
    model: Inference,
    n: int,
    effects: str,
    rng: np.random.Generator,
    draw: PosteriorDraw | None = None,
    watched: Watched = iter,
) -> Simulated:
    """Draw n responses for each row and rank the data among them.

    `draw` is what ``"posterior"`` effects and coefficients are, where they are drawn already;
    `watched` goes through the numbers of the draws, to show progress.

    Raises
    ------
    ModelError
        Of multinomial and censored responses, and where memory does not suffice.
    """
    estimate = model.estimate
    refuse_unordered(estimate, "responses that can be ranked")
    if isinstance(estimate.family, CensoredGaussian):
        raise ModelError(
            "a censored response is not known where it is censored, so that it has no rank "
            "among draws; fit.residuals('pearson') has the rows that were observed"
        )
    y = estimate.specification.y
    if len(y) * n > MOST_CELLS:
        raise ModelError(
            f"{n:,} draws of {len(y):,} rows would take {8e-9 * len(y) * n:.1f} GB; "
            f"take n={max(MOST_CELLS // len(y), 19)} or fewer"
        )
    needed = 8 * ARRAYS * len(y) * n
    free = available_memory() if needed > ALWAYS_THERE else None
    if free is not None and needed > free:
        raise ModelError(
            f"{n:,} draws of {len(y):,} rows need about {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; take n={max(n * free // needed, 19)} or fewer"
        )
    if effects == "posterior":
        predictors = (model.posterior_draw(rng) if draw is None else draw).predictors
        draws = _drawn_around(estimate, predictors, watched(range(n)), n, rng)
    else:
        predictors = model.predictors("conditional" if effects == "conditional" else "typical")
        draws = model.simulate(n, rng, kind=effects)
    return Simulated(y, draws, ranked(y, [draws], rng), predictors[0])


def grouped(rows: Simulated, codes: Codes, rng: np.random.Generator) -> Simulated:
    """Add rows up by group (code -1: none), data and draws alike, and rank again."""
    count = int(codes.max(initial=-1)) + 1
    kept = codes >= 0
    order = np.argsort(codes[kept], kind="stable")
    ordered = codes[kept][order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    size = np.bincount(codes[kept], minlength=count).astype(np.float64)
    y = np.bincount(codes[kept], rows.observed[kept], count).astype(np.float64)
    predicted = np.bincount(codes[kept], rows.predicted[kept], count) / size
    draws = np.add.reduceat(rows.draws[kept][order], starts, axis=0)
    return Simulated(y, draws, ranked(y, [draws], rng), predicted)


def _drawn_around(
    estimate: Estimate,
    predictors: Floats,
    numbers: Iterable[int],
    n: int,
    rng: np.random.Generator,
) -> Floats:
    """Draw n responses for each row at predictors (M, n_used), (n_used, n)."""
    zero = "zero" in estimate.parts
    out = np.empty((n, estimate.specification.n))
    for k in numbers:
        out[k] = estimate.family.simulate(rng, predictors, estimate.extra, zero=zero)
    return out.T
