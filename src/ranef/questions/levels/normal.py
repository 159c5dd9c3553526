"""Probabilities of normal numbers, of which some may be known exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["exceeds"]

Floats = NDArray[np.float64]


def exceeds(gap: Floats, sd: Floats) -> Floats:
    """Probability that a normal number of this mean and sd is positive; 1/2 if both are 0.

    Examples
    --------
    >>> import numpy as np
    >>> exceeds(np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    array([0.5, 1. , 0.5])
    """
    from scipy.special import ndtr

    certain = sd <= 0
    z = np.divide(gap, sd, out=np.zeros(np.broadcast(gap, sd).shape), where=~certain)
    return np.asarray(np.where(certain, (1 + np.sign(gap)) / 2, ndtr(z)))
