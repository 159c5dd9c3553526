"""Covariance matrices of the coefficients and variance parameters of an estimate.

Each is computed when it is first asked for and kept as long as the estimate lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.errors import ModelError
from ranef.models.labels import CONDITIONAL, Levels, coefficient_labels
from ranef.models.records import Estimate, GeneralisedEstimate

__all__ = ["Coefficients", "conditional_coefficients", "joint_covariance", "share", "vcov"]

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


def vcov(estimate: Estimate) -> Floats:
    """Covariance (p, p) of the fixed effects of the mean.

    Of a linear model given theta; of a generalised one with theta's uncertainty.
    """
    if not isinstance(estimate, GeneralisedEstimate):
        return estimate.vcov
    own = estimate.components[0].coefficients
    return np.array(joint_covariance(estimate)[own, own])


@dataclass(frozen=True, eq=False)
class Coefficients:
    """The coefficients of the mean.

    Attributes
    ----------
    names : tuple of str
    estimate : (p,) float64 array
    vcov : (p, p) float64 array
    """

    names: tuple[str, ...]
    estimate: Floats
    vcov: Floats


def conditional_coefficients(estimate: Estimate, levels: Levels = None) -> Coefficients:
    """Coefficients of the mean with their covariance matrix."""
    if not isinstance(estimate, GeneralisedEstimate):
        return Coefficients(estimate.specification.names, estimate.beta, estimate.vcov)
    labels = coefficient_labels(estimate, levels)
    own = np.array([k for k, x in enumerate(labels) if x.component == CONDITIONAL], dtype=np.intp)
    return Coefficients(
        tuple(labels[k].full for k in own),
        estimate.coefficients[own],
        joint_covariance(estimate)[np.ix_(own, own)],
    )
