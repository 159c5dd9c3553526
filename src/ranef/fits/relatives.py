"""Effects of levels that a kernel has and the data have not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ranef.design.kernels import further_levels
from ranef.errors import DataError, ModelError
from ranef.inference.effects.effects import LevelEffects
from ranef.inference.effects.related import related_effects
from ranef.models.records import Estimate, component_of

__all__ = ["effects_without_data"]

SAME = 1e-6
"""Of the size of a kernel: how far one that is handed over again may be from the fit's."""


class Estimated(Protocol):
    """A fit with random effects."""

    @property
    def estimate(self) -> Estimate: ...


def effects_without_data(fit: Estimated, kernels: Mapping[str, Any]) -> list[LevelEffects]:
    """Predict the effects of all levels of these kernels that have no row in the data.

    Raises
    ------
    ModelError
        When no term has a kernel of these names.
    DataError
        When a kernel is another one than that of the fit.
    """
    estimate = fit.estimate
    if not isinstance(kernels, Mapping) or not kernels:
        raise ModelError('kernels is a mapping such as {"A": A}, as it was given to the fit')
    found, used = [], set()
    for part in estimate.components:
        spec = part.specification
        for place, t in enumerate(part.terms):
            assert spec is not None
            bar = spec.recipe.model.bars[spec.recipe.random_recipes[place].bar]
            if bar.kernel is None or bar.kernel not in kernels:
                continue
            used.add(bar.kernel)
            found.append(_of_term(estimate, t, bar.kernel, bar.inverse, kernels))
    unknown = [name for name in kernels if name not in used]
    if unknown:
        raise ModelError(f"no random term of the model has the kernel {unknown[0]!r}")
    return [effects for effects in found if len(effects.estimate)]


def _of_term(
    estimate: Estimate, t: int, name: str, inverse: bool, kernels: Mapping[str, Any]
) -> LevelEffects:
    term = estimate.terms[t]
    factor = estimate.factors[term.factor]
    others = further_levels(kernels, name, list(factor.levels), factor.name, inverse)
    assert term.kernel is not None
    size = float(np.abs(term.kernel).max(initial=0.0))
    if np.abs(others.observed - term.kernel).max(initial=0.0) > SAME * size:
        raise DataError(
            f"kernel {name!r} is not that of the fit: its entries of the levels with data differ"
        )
    found = related_effects(estimate, t, others.observed, others.cross, others.own)
    part = component_of(estimate, t)
    return LevelEffects(
        term.factor, term.names, found.estimate, found.cond_sd, found.std_error, part.name,
        part.response, others.levels,
    )  # fmt: skip
