"""A warning where the search ended without a proof."""

from __future__ import annotations

import warnings

from ranef.api.summary import optimum_line
from ranef.errors import ConvergenceWarning
from ranef.models.estimate import Estimate

__all__ = ["warn_unless_proved"]


def warn_unless_proved(estimate: Estimate, stacklevel: int = 3) -> None:
    """Warn when the search ended without a proof; `stacklevel` as in `warnings.warn`."""
    if not estimate.optimum.converged:
        warnings.warn(
            f"{optimum_line(estimate)} Rescale the columns or simplify the random effects; "
            "fit.optimum has the details.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
