"""What an estimate's coefficients and random terms are called, and where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.specification import Specification
from ranef.formula.syntax import Call, print_node
from ranef.models.records import CONDITIONAL, Estimate

__all__ = [
    "CONDITIONAL",
    "CoefficientLabel",
    "category",
    "coefficient_labels",
    "group_name",
    "outcome_name",
    "threshold_label",
]

Floats = NDArray[np.float64]
Levels = Sequence[Any] | None


@dataclass(frozen=True)
class CoefficientLabel:
    """One coefficient: its component, the response category it belongs to, its name."""

    component: str
    response: str | None
    term: str

    @property
    def full(self) -> str:
        """One name for all three: ``"Days"``, ``"zero: Days"``, ``"bus: Days"``."""
        part = None if self.component in (CONDITIONAL, "threshold") else self.component
        return ": ".join(x for x in (part, self.response, self.term) if x)


def coefficient_labels(estimate: Estimate) -> tuple[CoefficientLabel, ...]:
    """Label every coefficient, in the order of the estimate's."""
    labels = []
    for part in estimate.components:
        response = category(part.response, estimate.levels)
        names = part.names
        if part.name == "threshold":
            names = tuple(threshold_label(name, estimate.levels) for name in names)
        labels += [CoefficientLabel(part.name, response, name) for name in names]
    return tuple(labels)


def category(response: str | None, levels: Levels) -> str | None:
    """Category of a multinomial response, whose code a component, term or effect has."""
    if response is None or levels is None:
        return response
    return str(levels[int(response)])


def threshold_label(name: str, levels: Levels) -> str:
    """``"1|2"`` in the user's categories: ``"low|high"``; other names stay.

    Examples
    --------
    >>> threshold_label("1|2: dose", ["low", "high"]), threshold_label("spacing", None)
    ('low|high: dose', 'spacing')
    """
    cut, colon, column = name.partition(": ")
    low, bar, high = cut.partition("|")
    if levels is None or not (bar and low.isdecimal() and high.isdecimal()):
        return name
    return f"{levels[int(low) - 1]}|{levels[int(high) - 1]}{colon}{column}"


def group_name(estimate: Estimate, term: int | None) -> str:
    """Name of a term's grouping factor, ``"Residual"`` for the residual."""
    if term is None:
        return "Residual"
    return estimate.factors[estimate.terms[term].factor].name


def outcome_name(spec: Specification) -> str:
    """Name of what a mean is the mean of: of ``cbind(success, failure)`` the first.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> outcome_name(fit.estimate.specification)
    'incidence'
    """
    node = spec.recipe.model.response
    if isinstance(node, Call) and node.function == "cbind":
        return print_node(node.arguments[0])
    return spec.response
