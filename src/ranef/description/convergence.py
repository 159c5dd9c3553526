"""The end of the search in a line, and a warning where it proved nothing."""

from __future__ import annotations

from ranef.design.terms import RandomTerm, RareColumn
from ranef.display.numbers import count
from ranef.errors import ConvergenceWarning, RankWarning, warn
from ranef.models.family_words import counts
from ranef.models.labels import group_name
from ranef.models.records import Estimate
from ranef.solve import quadrature
from ranef.solve.optimum import Face, Optimum

__all__ = [
    "face_line",
    "optimum_line",
    "rare_line",
    "sentence",
    "undetermined_advice",
    "undetermined_line",
    "warn_unless_proved",
]

MANY = 1e7


def optimum_line(estimate: Estimate) -> str:
    """One line on the optimum: proved or not, and the faces it lies on."""
    optimum = estimate.optimum
    if not optimum.converged:
        return f"Optimum not proved: {optimum.message or _distance(optimum)}."
    if optimum.monte_carlo is not None:
        return f"{sentence(optimum.monte_carlo.words(optimum.theta))}."
    proved = f"Optimum proved ({optimum.reach})"
    if optimum.flat:
        return f"{proved}, but {_undetermined(optimum)}."
    faces = [
        f"{face.description} ({group_name(estimate, face.term)}: rank {face.rank} of {face.size})"
        for face in optimum.faces
    ]
    if faces or optimum.ends:
        return f"{proved}, on the boundary: {'; '.join([*faces, *optimum.ends])}."
    if not estimate.terms:
        return f"{proved}."
    return f"{proved}; no {_which_variance(estimate)} at zero."


def _undetermined(optimum: Optimum) -> str:
    """Say what the data do not determine."""
    return "; ".join(direction.description for direction in optimum.flat)


def undetermined_line(estimate: Estimate) -> str | None:
    """Say what the data do not determine and what that means; None where they do."""
    if not estimate.optimum.flat:
        return None
    return (
        f"{sentence(_undetermined(estimate.optimum))}. Other values of these parameters have the "
        "same likelihood. What rests on them is not determined either and has no value here "
        "(NaN); all other answers hold."
    )


def undetermined_advice(estimate: Estimate) -> str:
    """What to do about it."""
    terms = sorted({t for direction in estimate.optimum.flat for t in direction.terms})
    named = " or ".join(f"({estimate.terms[t].label})" for t in terms)
    several = len(terms) > 1
    if not terms:
        return "Use a simpler structure of the residuals."
    return (
        f"Leave {'one of ' if several else ''}{named} out, or what says the same among the "
        "fixed effects."
    )


def rare_line(rare: RareColumn, term: RandomTerm, group: str) -> str:
    """Say on how little the variance of a column rests."""
    return (
        f"The variance of {rare.name} in ({term.label}) rests on {count(rare.rows, 'row')} in "
        f"{count(rare.levels, 'level')} of {group}, where the column is not zero: "
        "the data say next to nothing of how it varies."
    )


def face_line(face: Face, estimate: Estimate) -> str:
    """Say on which boundary an optimum lies."""
    return (
        f"{estimate.terms[face.term].label}: {face.description} (the covariance matrix has rank "
        f"{face.rank} of {face.size}; smallest curvature away from it {face.curvature:.3g})."
    )


def sentence(text: str) -> str:
    """Return a message as a sentence."""
    return text[:1].upper() + text[1:]


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
    open_ = undetermined_line(estimate)
    if open_ is not None:
        warn(f"{open_} {undetermined_advice(estimate)}", RankWarning)


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
