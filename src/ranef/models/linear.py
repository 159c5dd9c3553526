"""The linear mixed model: a specification in, an estimate out.

May import `solve` and what lies below it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.models.records import CONDITIONAL, LinearEstimate
from ranef.solve import search
from ranef.solve.search import Progress

__all__ = ["fit_lmm"]

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
        parts={CONDITIONAL: spec},
        reml=reml,
        coefficients=found.beta,
        coefficient_vcov=found.vcov,
        theta=found.theta,
        sigma=found.sigma,
        covariances=found.covariances,
        modes=found.modes,
        loglik=-0.5 * found.optimum.criterion,
        optimum=found.optimum,
    )
