"""The model and its optimum in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranef.design.specification import RandomTerm, Specification
from ranef.models.estimate import Estimate
from ranef.report.numbers import count

__all__ = ["faces", "gradient_norm", "listed", "method", "model", "random_term", "verdict"]

STRUCTURES = {
    "us": "each with its own variance, all correlated",
    "diag": "each with its own variance, uncorrelated",
    "homdiag": "with one common variance, uncorrelated",
    "cs": "each with its own variance and one common correlation (compound symmetry)",
    "homcs": "with one common variance and one common correlation (compound symmetry)",
    "ar1": "with one common variance and a first-order autoregressive correlation",
    "hetar1": "each with its own variance and a first-order autoregressive correlation",
    "toep": "each with its own variance and a correlation that depends on the lag (Toeplitz)",
    "ou": "with a correlation that decays exponentially with time (Ornstein-Uhlenbeck)",
    "exp": "with a correlation that decays exponentially with distance",
    "gau": "with a correlation that decays with squared distance (Gaussian)",
    "mat": "with a Matérn correlation over distance",
    "rr": "with a covariance matrix of reduced rank",
}


def listed(items: Sequence[str]) -> str:
    """Join words as prose does.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def method(estimate: Estimate) -> str:
    """Return the criterion's name."""
    return "restricted maximum likelihood (REML)" if estimate.reml else "maximum likelihood (ML)"


def model(estimate: Estimate) -> str:
    """Say what is modelled by what, and how it was fitted."""
    spec = estimate.specification
    sentences = [
        f"A linear mixed model of {spec.response}, fitted by {method(estimate)} to "
        f"{count(spec.n, 'row')}.",
        _fixed_part(spec),
    ]
    if spec.offset is not None:
        sentences.append("An offset with a coefficient of one is part of the mean.")
    if spec.weights is not None:
        sentences.append("The residual variance of a row is divided by its weight.")
    return " ".join(sentences)


def random_term(spec: Specification, term: RandomTerm) -> str:
    """Say what varies between the levels of which factor."""
    factor = spec.factors[term.factor]
    where = f"the {count(factor.n_levels, 'level')} of {factor.name}"
    names = [_coefficient(name) for name in term.names[:6]]
    if term.size > 6:
        names = [*names[:5], f"{term.size - 5} more coefficients"]
    verb = "varies" if term.size == 1 else "vary"
    text = f"Between {where} {verb} {listed(names)}"
    if term.kernel is not None:
        return f"{text}, with a known covariance between the levels."
    if term.size == 1:
        return f"{text}."
    shape = STRUCTURES.get(term.structure, f"with the structure {term.structure!r}")
    if term.rank is not None:
        shape = f"{shape} {term.rank}"
    return f"{text}, {shape}."


def verdict(estimate: Estimate) -> str:
    """Say in one sentence whether the optimum is proved."""
    found = estimate.optimum
    if not found.converged:
        return f"The search did not prove an optimum: {found.message}."
    if not found.singular:
        return "The optimum is proved, and no variance is estimated at zero."
    return "The optimum is proved; it lies on a boundary of the parameter space."


def faces(estimate: Estimate) -> list[str]:
    """Say on which boundaries the optimum lies."""
    spec = estimate.specification
    return [
        f"{spec.terms[face.term].label}: {face.description} (the covariance matrix has rank "
        f"{face.rank} of {face.size}; smallest curvature away from it {face.curvature:.3g})."
        for face in estimate.optimum.faces
    ]


def gradient_norm(estimate: Estimate) -> float:
    """Return the largest entry of the gradient, in absolute value."""
    return float(np.max(np.abs(estimate.optimum.gradient), initial=0.0))


def _fixed_part(spec: Specification) -> str:
    slopes = [name for name in spec.names if name != "(Intercept)"]
    with_intercept = "(Intercept)" in spec.names
    if not slopes:
        return "The mean is a constant." if with_intercept else "The mean is zero."
    shown = slopes if len(slopes) <= 8 else [*slopes[:7], f"{len(slopes) - 7} more coefficients"]
    start = "an intercept, " if with_intercept and len(shown) > 1 else ""
    if with_intercept and len(shown) == 1:
        start = "an intercept and "
    return f"The mean depends on {start}{listed(shown)}."


def _coefficient(name: str) -> str:
    return "the intercept" if name == "(Intercept)" else f"the coefficient of {name}"
