"""The linear mixed model: a specification in, an estimate out.

May import `solve` and what lies below it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.errors import DataError
from ranef.models.records import Estimate, LinearEstimate
from ranef.solve import search
from ranef.solve.search import Progress

__all__ = ["fit_lmm", "refit"]

Floats = NDArray[np.float64]


def fit_lmm(
    spec: Specification,
    *,
    reml: bool = True,
    path: str | None = None,
    start: Floats | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> LinearEstimate:
    """Fit a linear mixed model by (restricted) maximum likelihood.

    Parameters
    ----------
    spec : Specification
    reml : bool
        Restricted likelihood (True) or likelihood.
    path : str or None
        ``"single"``, ``"nested"``, ``"crossed"``; None takes the cheapest.
    start : (k,) array or None
        Theta to start from.
    n_jobs : int or None
        Threads; None means the cores this process may use.
    progress : callable or None
        Called after each evaluation with its number, the criterion and the
        decrement.

    Raises
    ------
    ModelError
        When the model cannot be fitted; the message says why.
    """
    found = search.fit(spec, reml=reml, path=path, start=start, n_jobs=n_jobs, progress=progress)
    return LinearEstimate(
        specification=spec,
        reml=reml,
        beta=found.beta,
        vcov=found.vcov,
        theta=found.theta,
        sigma=found.sigma,
        covariances=found.covariances,
        modes=found.modes,
        loglik=-0.5 * found.optimum.criterion,
        optimum=found.optimum,
    )


def refit(estimate: Estimate, y: Floats) -> LinearEstimate:
    """Fit the same model to another response.

    Parameters
    ----------
    estimate : Estimate
    y : (n,) array
        The new response, one value for each row used.

    Raises
    ------
    DataError
        When `y` has another length or values that are not finite.
    """
    spec = estimate.specification
    values = np.ascontiguousarray(y, dtype=np.float64)
    if values.shape != (spec.n,):
        raise DataError(f"the new response has shape {values.shape}; the model uses {spec.n} rows")
    if not np.all(np.isfinite(values)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise DataError(f"the new response has {bad} values that are missing or infinite")
    return fit_lmm(replace(spec, y=values), reml=estimate.reml, path=estimate.optimum.path)
