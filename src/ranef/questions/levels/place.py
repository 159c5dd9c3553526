"""Which levels are asked about: a grouping factor in one part of a fit, with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.columns import Column, Level, Listing, unprinted
from ranef.errors import LevelError, ModelError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, require
from ranef.formula.syntax import print_node
from ranef.models.labels import category
from ranef.models.records import Component
from ranef.questions.levels.level_effects import FactorEffects, effects_of

__all__ = ["Place", "level_positions", "place_of", "posterior_words", "shortened"]

MOST_PRINTED = 20


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

    @cached_property
    def effects(self) -> FactorEffects:
        return FactorEffects(self.fit.estimate, self.part, self.factor)

    @property
    def group(self) -> str:
        return self.fit.factors[self.factor].name

    @cached_property
    def levels(self) -> Sequence[Any]:
        """Labels in the user's order and type."""
        return self.fit.factors[self.factor].shown

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Coefficients that vary over the levels."""
        return self.effects.names

    @property
    def library(self) -> str:
        return self.fit.frame.library

    @property
    def level_columns(self) -> tuple[Column, ...]:
        """Columns that name the rows of a table of all levels."""
        (group,) = unprinted(group=[self.group] * len(self.levels))
        return group, Column("level", list(self.levels), Level(), self.group)

    @property
    def identity_columns(self) -> dict[str, Any]:
        """Columns of a table that say which part is spoken of.

        None where the mean is all that has parts: beside it there is only sigma.
        """
        if self.fit.estimate.sigma is not None:
            return {}
        named: dict[str, Any] = {"component": self.part.name}
        if self.part.response is not None:
            named["response"] = category(self.part.response, self.fit.levels)
        return named

    def covariance_columns(
        self, levels: Sequence[Any], terms: Sequence[str], values: NDArray[np.float64]
    ) -> dict[str, Any]:
        """Columns of the covariances (q, m, m) of the coefficients of each level."""
        m = len(terms)
        return {
            "group": [self.group] * values.size,
            "level": [level for level in levels for _ in range(m * m)],
            "term": [term for term in terms for _ in range(m)] * len(levels),
            "term2": list(terms) * (m * len(levels)),
            "covariance": values.ravel(),
        }

    @property
    def adjusted_for(self) -> tuple[str, ...]:
        """What a comparison holds equal: fixed effects, exposure, other random effects."""
        estimate, spec = self.fit.estimate, self.part.specification
        named: list[str] = []
        if spec is not None:
            model = spec.recipe.model
            named += [key.replace("`", "") for key in model.fixed.keys]
            named += [f"the offset {print_node(node)}" for node in model.offsets]
        terms = [estimate.terms[t] for t in self.part.terms]
        others = dict.fromkeys(
            estimate.factors[term.factor].name for term in terms if term.factor != self.factor
        )
        return (*named, *(f"the random effects of {name}" for name in others))


def place_of(
    fit: Any, by: str | None, component: str = "conditional", response: Any = None, *, what: str
) -> Place:
    """Find a grouping factor and the part of the model, or say what there is."""
    fit = require(fit, what, Levelled)
    factor = fit.factor_number(by)
    group = fit.factors[factor].name
    parts = [effects.part for effects in effects_of(fit.estimate, factor)]
    names = list(dict.fromkeys(part.name for part in parts))
    if component not in names:
        raise ModelError(
            f"{group!r} has no random effects in the part {component!r}"
            f"{suggestion(str(component), names)}; it has in {', '.join(map(repr, names))}"
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
    by_level = {level: k for k, level in enumerate(place.levels)}
    by_text = {str(level): k for level, k in by_level.items()}
    wanted = [levels] if isinstance(levels, str) or not hasattr(levels, "__iter__") else levels
    positions = []
    for level in wanted:
        position = by_level.get(level, by_text.get(str(level)))
        if position is None:
            raise LevelError(
                f"{place.group!r} has no level {level!r}{suggestion(str(level), by_text)}"
            )
        positions.append(position)
    if not positions:
        raise LevelError("levels is empty; leave it out for all levels")
    return np.array(positions, dtype=np.intp)


def shortened(league: Listing, caption: str) -> Listing:
    """Return a sorted table for the page: of many levels the first and the last."""
    count, half = len(league.columns[0].values), MOST_PRINTED // 2
    if count <= MOST_PRINTED:
        return league.take(np.arange(count), caption)
    ends = np.r_[:half, count - half : count]
    return league.take(ends, f"{caption} (the first and last {half})")


def posterior_words(place: Place, given: str) -> str:
    """What the posterior is, in a sentence."""
    condition = {
        "variance": "given the variance parameters, the uncertainty of the fixed effects included",
        "parameters": "given the variance parameters and the fixed effects",
        "nothing": "with the uncertainty of the fixed effects and, to first order, of the "
        "variance parameters",
    }[given]
    approximate = place.fit.estimate.sigma is None
    how = "by the normal approximation at the mode, " if approximate else ""
    return f"From the joint posterior of all levels, {how}{condition}.{_without_variance(place)}"


def _without_variance(place: Place) -> str:
    """Say which effects have a variance of zero; nothing where all vary."""
    variances = np.diag(place.effects.prior_covariance)
    constant = [name for name, psi in zip(place.names, variances, strict=True) if psi == 0]
    if not constant:
        return ""
    every = len(constant) == len(place.names)
    ties = "all are ties" if every else "levels differ by the others alone"
    return (
        f" The variance of {' and '.join(constant)} over {place.group} is estimated as zero, so "
        f"that the model sees no difference there: {ties}, and intervals do not include the "
        "uncertainty of this estimate."
    )
