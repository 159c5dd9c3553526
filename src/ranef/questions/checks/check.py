"""`check`: the fit criticised on one page."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.progress import Ticker
from ranef.errors import ModelError
from ranef.fits.columns import groups_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import (
    Critical,
    Generative,
    Likelihood,
    Refittable,
    Scored,
    offers,
    require,
)
from ranef.inference.draws.posterior_draw import PosteriorDraw
from ranef.inference.effects import linearised
from ranef.questions.checks import simulated_numbers
from ranef.questions.checks.check_answer import Check
from ranef.questions.checks.criteria import CRITERIA
from ranef.questions.checks.findings import Case, judged
from ranef.questions.checks.influence import Influence, influence
from ranef.questions.checks.marginal_check import marginal_check
from ranef.questions.checks.simulated_residuals import SimulatedResiduals

__all__ = ["Check", "check"]

MOST_DRAWS, FEWEST_DRAWS = 1000, 99
CELLS = 20_000_000
MOST_WORK = 20_000_000
UNRANKED = ("multinomial", "censored")


def check(
    fit: Any,
    *,
    time: Any = None,
    by: Any = None,
    n: int | None = None,
    influence: bool = True,
    alpha: float = 0.05,
    rng: Any = 0,
    progress: bool | None = None,
) -> Check:
    """Criticise a fit on one page.

    Looks at the optimum, singularity, separation and the Laplace approximation; at the
    distribution of the responses by simulation (dispersion, zeros, outliers, normality);
    at residuals and their spread against the fit, predictors, groups and time; at the
    random effects' distribution; at slopes that differ within and between groups,
    collinearity, few levels, and single levels that carry the result. What is in order is
    listed in one line.

    Of a population-averaged model it looks at the equations, the working correlation, the number of
    clusters and what single ones move, at the shape of the mean (a score test of the squared
    predictor) and at responses that go with the size of a cluster.

    Parameters
    ----------
    fit : a fit of ranef
    time : str or column, optional
        When the rows were observed: a column that the formulas use, or one value a row.
    by : str or column, optional
        The groups within which time runs.
    n : int, optional
        Draws for each row; 1000, fewer for many rows.
    influence : bool
        Whether to leave out each level in turn.
    alpha : float
        Probability at most that the page of a correct model needs a look, all tests
        together.
    rng : int or numpy.random.Generator
        The same gives the same page.
    progress : bool, optional
        A bar over the criteria; None shows it where a person looks and it lasts longer than a
        second.

    Returns
    -------
    Check

    Notes
    -----
    Residuals are taken at one draw of the random effects given the data (see
    `simulated_residuals`), so that they are independent if the model holds. Each test
    must be below alpha over the number of tests, and its effect large enough to matter.

    Examples
    --------
    >>> import ranef
    >>> salamanders = ranef.data.load("Salamanders")
    >>> fit = ranef.glmm("count ~ mined + (1 | site)", salamanders, family="poisson")
    >>> print(ranef.check(fit).headline)
    1 thing needs a look.
    >>> better = ranef.glmm("count ~ mined + spp + (1 | site)", salamanders, family="nbinom2")
    >>> print(ranef.check(better).headline)
    No evidence against the model was found.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise ModelError(f"alpha must be a number between 0 and 1, such as 0.05, not {alpha!r}")
    if offers(fit, Scored):
        return marginal_check(fit, float(alpha))
    if offers(fit, Critical):
        given = {"time": time, "by": by, "n": n}
        if named := [name for name, value in given.items() if value is not None]:
            raise ModelError(
                f"check() of {fit.kind_words} uses its own times and series, without simulation: "
                f"leave out {named[0]}="
            )
        page: Check = fit.criticised(float(alpha), arguments.generator(rng))
        return page
    fit = require(fit, "check()", Likelihood, Generative, Refittable)
    if fit.family.name == "multinomial":
        raise ModelError(
            "a multinomial response has categories without an order: no residuals, and a "
            "coefficient for each category; check the binomial models of pairs of categories"
        )
    if by is not None:
        groups_of(fit, by)
    generator = arguments.generator(rng)
    shown = arguments.optional_flag("progress", progress)
    with Ticker(len(CRITERIA) + 2, "checking", shown, unit=" criteria") as done:
        residuals, draw = _residuals(fit, n, generator)
        done(1)
        left_out = _left_out(fit) if arguments.flag("influence", influence) else {}
        done(1)
        case = Case(fit, residuals, draw, left_out, time, by, generator)
        candidates = []
        for criterion in CRITERIA:
            candidates += criterion(case)
            done(1)
    findings = judged(candidates, float(alpha))
    return Check(findings, fit, residuals, left_out, float(alpha), time is not None)


def _residuals(
    fit: MixedFit, n: int | None, rng: np.random.Generator
) -> tuple[SimulatedResiduals | None, PosteriorDraw | None]:
    """Residuals at one draw given the data, and that draw."""
    if fit.family.name in UNRANKED:
        return None, None
    rows = max(fit.n_obs, 1)
    draws = int(np.clip(CELLS // rows, FEWEST_DRAWS, MOST_DRAWS)) if n is None else n
    draw = fit.inference.posterior_draw(rng)
    simulated = simulated_numbers.simulated(
        fit.inference, arguments.count("n", draws), "posterior", rng, draw
    )
    return SimulatedResiduals(simulated, fit, "posterior", None, None), draw


def _left_out(fit: MixedFit) -> dict[str, Influence]:
    """Leave out each level of every factor with enough of them, one step from the estimate."""
    spec = fit.estimate.specification
    out: dict[str, Influence] = {}
    if linearised.is_constrained(fit.estimate):
        return out
    for factor in spec.factors:
        if not 3 <= factor.n_levels < fit.n_obs:
            continue
        cheap = factor.n_levels * fit.n_obs <= MOST_WORK or len(spec.factors) == 1
        if cheap and all(term.kernel is None for term in spec.terms):
            out[factor.name] = influence(fit, by=factor.name, method="one-step", progress=False)
    return out
