"""What a model says of rows, as functions of parameters with known uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.families.links import Scale
from ranef.inference.coefficients.functions import Knowledge

__all__ = ["Values"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Values:
    """Values of N rows, K each, those of the first of the K first.

    Attributes
    ----------
    value : (K N,) float64 array
    jacobian : (K N, D) float64 array
        Derivatives in D parameters.
    knowledge : Knowledge
        Of the D parameters.
    link : str
        Of the values; ``"identity"`` where they are means themselves.
    scale : str
        The link on whose scale their intervals are made.
    linear : bool
        Whether the values are linear in the coefficients, so that combinations of them
        can be determined where they are not.
    gap : (K N, d) float64 array or None
        How far equally good estimates differ, see `Functions.gap`; None where all is
        determined.
    """

    value: Floats
    jacobian: Floats
    knowledge: Knowledge
    link: Scale
    scale: Scale
    linear: bool
    gap: Floats | None = None

    def with_gap(self, gaps: Floats) -> Floats:
        """Gaps (K N, d) of the rows, and those of the parameters."""
        return gaps if self.gap is None else np.hstack([gaps, self.gap])
