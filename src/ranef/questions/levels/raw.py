"""No pooling: the effect of each level from its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.unpooled import LevelRows
from ranef.inference.protocol import Inference
from ranef.models.records import Component, Estimate
from ranef.models.rows import at_levels
from ranef.questions.levels.level_effects import columns_of, names_of, own_terms

__all__ = ["RawEffects", "raw_effects"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RawEffects:
    """Maximum likelihood estimates of the effects of each level, as if fixed.

    Attributes
    ----------
    names : tuple of str
        The m coefficients.
    estimate, std_error : (q, m) float64 arrays
        NaN where a level has none.
    exists : (q,) bool array
        False where the rows of the level do not determine its effects: fewer rows than
        effects, a covariate that does not vary, or (in generalised models) an estimate
        at infinity, such as a rate without events.
    """

    names: tuple[str, ...]
    estimate: Floats
    std_error: Floats
    exists: NDArray[np.bool_]


def raw_effects(model: Inference, part: Component, factor: int) -> RawEffects:
    """Effects of each level that maximise the likelihood of its rows.

    Fixed effects, other parts and the effects of other factors stay at their estimates
    (they act as an offset), so that where every coefficient varies over the levels,
    fixed plus raw effect is what the level's rows alone give.
    """
    estimate = model.estimate
    of = estimate.factors[factor]
    z = columns_of(estimate, part, factor)
    modes = _from_modes(estimate, part, factor)
    found = model.unpooled(LevelRows(of.codes, z, of.n_levels, part.predictor, modes))
    exists = found.exists
    error = np.full(found.effects.shape, np.nan)
    inverse = np.linalg.inv(found.information[exists])
    error[exists] = np.sqrt(np.maximum(np.einsum("qmm->qm", inverse), 0.0))
    effects = np.where(exists[:, None], found.effects, np.nan)
    return RawEffects(names_of(estimate, part, factor), effects, error, exists)


def _from_modes(estimate: Estimate, part: Component, factor: int) -> Floats:
    """What the modes of the factor give to the predictor of each row."""
    codes = estimate.factors[factor].codes
    out = np.zeros(len(codes))
    for t in own_terms(estimate, part, factor):
        out += at_levels(estimate.modes[t], codes, estimate.terms[t].z)
    return out
