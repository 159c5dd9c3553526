"""The end of the search in a line, and a warning where it proved nothing."""

from __future__ import annotations

from ranef.errors import ConvergenceWarning, warn
from ranef.models.family_words import counts
from ranef.models.labels import group_name
from ranef.models.records import Estimate
from ranef.solve import quadrature
from ranef.solve.optimum import Face, Optimum

__all__ = ["face_line", "optimum_line", "warn_unless_proved"]

MANY = 1e7


def optimum_line(estimate: Estimate) -> str:
    """One line on the optimum: proved or not, and the faces it lies on."""
    optimum = estimate.optimum
    if not optimum.converged:
        return f"Optimum not proved: {optimum.message or _distance(optimum)}."
    if not optimum.singular:
        return f"Optimum proved; no {_which_variance(estimate)} at zero."
    faces = "; ".join(
        f"{face.description} ({group_name(estimate, face.term)}: rank {face.rank} of {face.size})"
        for face in optimum.faces
    )
    return f"Optimum proved, on the boundary: {faces}."


def face_line(face: Face, estimate: Estimate) -> str:
    """Say on which boundary an optimum lies."""
    return (
        f"{estimate.terms[face.term].label}: {face.description} (the covariance matrix has rank "
        f"{face.rank} of {face.size}; smallest curvature away from it {face.curvature:.3g})."
    )


def _which_variance(estimate: Estimate) -> str:
    """Say of which variances: one that is held may be zero."""
    held = estimate.fixed.items()
    zero = any(name.strip().startswith("sd") and value == 0 for name, value in held)
    return "estimated variance" if zero else "variance"


def _distance(optimum: Optimum) -> str:
    return (
        f"a further step would lower the deviance by {optimum.decrement:.2g}, "
        f"more than {optimum.tolerance:.2g}"
    )


def warn_unless_proved(estimate: Estimate) -> None:
    """Warn when the search ended without a proof."""
    if not estimate.optimum.converged:
        warn(
            f"{optimum_line(estimate)} {_advice(estimate)}; fit.optimum has the details.",
            ConvergenceWarning,
        )


def _advice(estimate: Estimate) -> str:
    """What to do about it."""
    if "Laplace" in estimate.optimum.message and estimate.design is not None:
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
