"""Which levels are asked about: a grouping factor in one part of a fit, with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import LevelError, ModelError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, require
from ranef.formula.syntax import print_node
from ranef.models.labels import category
from ranef.models.records import Component
from ranef.questions.levels import level_effects, reliability

__all__ = [
    "Place",
    "adjusted_for",
    "level_positions",
    "level_values",
    "place_of",
    "posterior_words",
]


@dataclass(frozen=True, eq=False)
class Place:
    """The effects of one grouping factor in one part of a fit.

    Attributes
    ----------
    fit : MixedFit
    factor : int
    part : Component
    """

    fit: MixedFit
    factor: int
    part: Component

    @property
    def group(self) -> str:
        return self.fit.factors[self.factor].name

    @property
    def levels(self) -> Sequence[Any]:
        """Labels in the user's order and type."""
        return self.fit.factors[self.factor].levels

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients that vary over the levels."""
        return level_effects.names_of(self.fit.estimate, self.part, self.factor)

    @property
    def identity_columns(self) -> dict[str, Any]:
        """Columns of a table that say which part is spoken of.

        None where the mean is all that has parts: beside it there is only sigma.
        """
        if self.fit.estimate.sigma is not None:
            return {}
        own: dict[str, Any] = {"component": self.part.name}
        if self.part.response is not None:
            own["response"] = category(self.part.response, self.fit.levels)
        return own


def place_of(
    fit: Any, by: str | None, component: str = "conditional", response: Any = None, *, what: str
) -> Place:
    """Find a grouping factor and the part of the model, or say what there is."""
    fit = require(fit, what, Levelled)
    factor = fit.factor_number(by)
    group = fit.factors[factor].name
    parts = [
        part
        for part in level_effects.components_of(fit.estimate)
        if level_effects.own_terms(fit.estimate, part, factor)
    ]
    known = list(dict.fromkeys(part.name for part in parts))
    if component not in known:
        raise ModelError(
            f"{group!r} has no random effects in the part {component!r}"
            f"{suggestion(str(component), known)}; it has in {', '.join(map(repr, known))}"
        )
    parts = [part for part in parts if part.name == component]
    if response is None and len(parts) == 1:
        return Place(fit, factor, parts[0])
    labels = {str(category(part.response, fit.levels)): part for part in parts}
    if response is None:
        raise ModelError(
            f"each category has effects of its own; say which: response= one of "
            f"{', '.join(map(repr, labels))}"
        )
    if labels.keys() == {"None"}:
        raise ModelError(
            f"the model has no categories with effects of their own: leave response={response!r} "
            "out"
        )
    if str(response) not in labels:
        hint = suggestion(str(response), labels)
        raise ModelError(
            f"response={response!r} is no category with effects of its own{hint}; choose one of "
            f"{', '.join(map(repr, labels))}"
        )
    return Place(fit, factor, labels[str(response)])


def level_positions(place: Place, levels: Any) -> NDArray[np.intp]:
    """Positions of some levels, in the order given; of all if there are none."""
    if levels is None:
        return np.arange(len(place.levels))
    known = {level: k for k, level in enumerate(place.levels)}
    texts = {str(level): k for level, k in known.items()}
    wanted = [levels] if isinstance(levels, str) or not hasattr(levels, "__iter__") else levels
    found = []
    for level in wanted:
        position = known.get(level, texts.get(str(level)))
        if position is None:
            raise LevelError(
                f"{place.group!r} has no level {level!r}{suggestion(str(level), texts)}"
            )
        found.append(position)
    if not found:
        raise LevelError("levels is empty; leave it out for all levels")
    return np.array(found, dtype=np.intp)


def level_values(levels: Sequence[Any], positions: NDArray[np.intp]) -> list[Any]:
    """Labels as a column of a table."""
    return [levels[int(k)] for k in positions]


def adjusted_for(place: Place) -> tuple[str, ...]:
    """What the comparison holds equal: fixed effects, exposure, other random effects."""
    estimate, part = place.fit.estimate, place.part
    spec = part.specification
    named: list[str] = []
    if spec is not None:
        model = spec.recipe.model
        named += model.fixed.keys
        named += [f"the offset {print_node(node)}" for node in model.offsets]
    terms = estimate.terms[part.terms]
    others = dict.fromkeys(
        estimate.factors[term.factor].name for term in terms if term.factor != place.factor
    )
    return (*named, *(f"the random effects of {name}" for name in others))


def posterior_words(place: Place, given: str) -> str:
    """What the posterior is, in a sentence."""
    known = {
        "variance": "given the variance parameters, the uncertainty of the fixed effects included",
        "parameters": "given the variance parameters and the fixed effects",
        "nothing": "with the uncertainty of the fixed effects and, to first order, of the "
        "variance parameters",
    }[given]
    approximate = place.fit.estimate.sigma is None
    how = "by the normal approximation at the mode, " if approximate else ""
    return f"From the joint posterior of all levels, {how}{known}.{_without_variance(place)}"


def _without_variance(place: Place) -> str:
    """Say which effects have a variance of zero; nothing where all vary."""
    variances = np.diag(reliability.prior_covariance(place.fit.estimate, place.part, place.factor))
    still = [name for name, own in zip(place.names, variances, strict=True) if own == 0]
    if not still:
        return ""
    ties = "all are ties" if len(still) == len(place.names) else "levels differ by the others alone"
    return (
        f" The variance of {' and '.join(still)} over {place.group} is estimated as zero, so that "
        f"the model sees no difference there: {ties}, and intervals do not include the "
        "uncertainty of this estimate."
    )
