"""What the questions of this room need of a fit."""

from __future__ import annotations

from typing import Any

from ranef.errors import ModelError
from ranef.fits.protocol import Synthesised, require
from ranef.models.meta import MetaEstimate

__all__ = ["independent", "spread_of"]


def independent(fit: Any, question: str) -> MetaEstimate:
    """The estimate of a fit of independent studies; refuse others in words."""
    require(fit, question, Synthesised)
    estimate: MetaEstimate = fit.synthesis
    if estimate.model.is_dependent:
        raise ModelError(
            f"{question} is of independent studies, and the effects of this model are correlated "
            "or lie on several levels"
        )
    return estimate


def spread_of(fit: Any) -> tuple[bool, bool]:
    """Whether the fit's tests scale covariances as Knapp and Hartung do, and conservatively."""
    method = fit.method(None)
    return method.startswith("knapp-hartung"), method.endswith("conservative")
