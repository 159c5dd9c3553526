"""Missing responses of patients who withdrew, drawn given those that are there.

Responses of one patient are normal with a mean that depends on what is assumed of the time
after withdrawal, and the covariance of the model (Carpenter, Roger & Kenward 2013, *J.
Biopharm. Stat.* 23).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.covariance.factor import lower_factor

__all__ = ["METHODS", "Patient", "assumed_mean", "drawn_missing"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

METHODS = ("mar", "j2r", "cr", "cir")


@dataclass(frozen=True, eq=False)
class Patient:
    """The rows of one patient, by time.

    Attributes
    ----------
    rows : (m,) int array
    missing : (m,) bool array
    after : (m,) bool array
        After the last response that is there.
    """

    rows: Ints
    missing: Bools
    after: Bools

    @classmethod
    def of(cls, rows: Ints, missing: Bools) -> Patient:
        """Tell what lies after withdrawal, of rows in order of time."""
        there = np.flatnonzero(~missing)
        last = int(there[-1]) if len(there) else -1
        return cls(rows, missing, np.arange(len(rows)) > last)


def assumed_mean(own: Floats, reference: Floats, patient: Patient, method: str) -> Floats:
    """Mean (m,) of a patient's responses, those after withdrawal as a method assumes.

    Parameters
    ----------
    own, reference : (m,) float64 arrays
        Means under the patient's own arm and under the reference arm.
    patient : Patient
    method : str
        ``"mar"``: as if nobody had withdrawn. ``"j2r"``, jump to reference: those of the
        reference after withdrawal. ``"cr"``, copy reference: those of the reference
        throughout. ``"cir"``, copy increments: the changes of the reference from the last
        response on.

    Examples
    --------
    >>> rows = Patient.of(np.arange(3), np.array([False, False, True]))
    >>> own, reference = np.array([0.0, 2.0, 4.0]), np.array([0.0, 1.0, 2.0])
    >>> [assumed_mean(own, reference, rows, m)[2].item() for m in METHODS]
    [4.0, 2.0, 2.0, 3.0]
    """
    if method == "mar" or not patient.after.any():
        return own
    if method == "cr":
        return reference
    if method == "cir" and not patient.after.all():
        last = int(np.flatnonzero(~patient.after)[-1])
        reference = reference + (own[last] - reference[last])
    return np.where(patient.after, reference, own)


def drawn_missing(
    y: Floats, mean: Floats, covariance: Floats, missing: Bools, rng: np.random.Generator
) -> Floats:
    """Draw what is missing of normal responses (m,) given what is there.

    Parameters
    ----------
    y, mean : (m,) float64 arrays
    covariance : (m, m) float64 array
    missing : (m,) bool array

    Returns
    -------
    (k,) float64 array
    """
    there = ~missing
    cross = covariance[np.ix_(missing, there)]
    weights = np.linalg.solve(covariance[np.ix_(there, there)], cross.T).T
    centre = mean[missing] + weights @ (y[there] - mean[there])
    rest = covariance[np.ix_(missing, missing)] - weights @ cross.T
    return np.asarray(centre + lower_factor(rest) @ rng.standard_normal(len(rest)))
