"""A warning where the search ended without a proof."""

from __future__ import annotations

from ranef.description.summary import optimum_line
from ranef.errors import ConvergenceWarning, warn
from ranef.models.family_words import counts
from ranef.models.records import Estimate, GeneralisedEstimate
from ranef.solve import quadrature

__all__ = ["warn_unless_proved"]

MANY = 1e7


def warn_unless_proved(estimate: Estimate) -> None:
    """Warn when the search ended without a proof."""
    if not estimate.optimum.converged:
        warn(
            f"{optimum_line(estimate)} {_advice(estimate)}; fit.optimum has the details.",
            ConvergenceWarning,
        )


def _advice(estimate: Estimate) -> str:
    """What to do about it."""
    if isinstance(estimate, GeneralisedEstimate):
        if "Laplace" in estimate.optimum.message:
            simpler = "leave random effects out of the zero part and the dispersion"
            if not quadrature.integrable(estimate.design):
                return simpler[:1].upper() + simpler[1:]
            nodes = min(quadrature.comfortable_nodes(estimate.design), 9)
            return f"Integrate, quadrature={nodes}, or {simpler}"
        largest = float(estimate.specification.y.max())
        if counts(estimate.family) and largest > MANY:
            return (
                f"The counts reach {largest:.3g}, where the log density of a count keeps too few "
                "digits: take a family of positive numbers (Gamma, lognormal)"
            )
    if "residual is too small" in estimate.optimum.message:
        return "Check whether a random effect all but determines the response"
    return "Rescale the columns or simplify the random effects"
