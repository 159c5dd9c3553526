"""No pooling: the effect of each level from its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.inference.effects.unpooled import LevelRows
from ranef.inference.protocol import Inference
from ranef.questions.levels.level_effects import FactorEffects

__all__ = ["RawEffects", "raw_effects"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RawEffects:
    """Maximum likelihood estimates of the m effects of each of q levels, as if fixed.

    NaN where the rows of the level do not determine its effects: fewer rows than
    effects, a covariate that does not vary, or (in generalised models) an estimate at
    infinity, such as a rate without events.

    Attributes
    ----------
    estimate, std_error : (q, m) float64 arrays
    """

    estimate: Floats
    std_error: Floats


def raw_effects(model: Inference, effects: FactorEffects) -> RawEffects:
    """Effects of each level that maximise the likelihood of its rows.

    Fixed effects, other parts and the effects of other factors stay at their estimates
    (they act as an offset), so that where every coefficient varies over the levels,
    fixed plus raw effect is what the level's rows alone give.
    """
    predictor, modes = effects.part.predictor, effects.from_modes
    rows = LevelRows(effects.codes, effects.columns, effects.n_levels, predictor, modes)
    unpooled = model.unpooled(rows)
    exists = unpooled.exists
    error = np.full(unpooled.effects.shape, np.nan)
    inverse = np.linalg.inv(unpooled.information[exists])
    error[exists] = np.sqrt(np.maximum(np.einsum("qmm->qm", inverse), 0.0))
    return RawEffects(np.where(exists[:, None], unpooled.effects, np.nan), error)
