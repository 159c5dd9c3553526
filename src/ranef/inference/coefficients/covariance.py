"""Covariance matrices of the coefficients and variance parameters of an estimate.

Each is computed when it is first asked for and kept as long as the estimate lives.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.errors import ModelError
from ranef.models.records import GeneralisedEstimate

__all__ = ["joint_covariance", "share"]

Floats = NDArray[np.float64]

_JOINT: WeakKeyDictionary[GeneralisedEstimate, Floats] = WeakKeyDictionary()


def joint_covariance(estimate: GeneralisedEstimate) -> Floats:
    """Covariance (P + k, P + k) of coefficients and theta, from the exact Hessian.

    Rows and columns of parameters that are held, by a face or by `fixed`, are zero. NaN
    where the Hessian is not definite, so that there are no standard errors
    (`solve.joint_covariance` says so in an error).
    """
    known = _JOINT.get(estimate)
    if known is None:
        try:
            known = generalised.joint_covariance(estimate)
        except ModelError:
            count = len(estimate.coefficients) + len(estimate.theta)
            known = np.full((count, count), np.nan)
        _JOINT[estimate] = known
    return known


def share(estimate: GeneralisedEstimate, other: GeneralisedEstimate) -> None:
    """Give another estimate with the same parameters the covariance matrix of the first."""
    _JOINT[other] = joint_covariance(estimate)
