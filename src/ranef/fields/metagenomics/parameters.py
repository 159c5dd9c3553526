"""Parameters of the model, and what is assumed of them before the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AMBIENT", "CLASSES", "GENUINE", "SPORADIC", "Parameters", "Prior"]

Floats = NDArray[np.float64]

AMBIENT, SPORADIC, GENUINE = 0, 1, 2
CLASSES = ("ambient", "sporadic", "genuine")


@dataclass(frozen=True)
class Prior:
    """What is assumed of the parameters; each is learned from there.

    Attributes
    ----------
    prevalence : float
        Of a taxon in a patient, outside the class of prevalent genuine taxa. The default is
        raised to half an organism a patient where there are fewer than 250 taxa.
    size, size_sd : float
        Negative binomial size, and the sd of its log between taxa.
    batch_sd : float
        Of log contamination, between batches.
    hop : float
        Share of reads that hop; its log has sd 1.5.
    strength : float
        How many presences the prevalence is worth.
    genuine : float
        Share of taxa that are prevalent and genuine.
    """

    prevalence: float = 0.002
    size: float = 1.5
    size_sd: float = 0.5
    batch_sd: float = 0.7
    hop: float = 1e-4
    strength: float = 2.0
    genuine: float = 0.02


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters of the model.

    Attributes
    ----------
    mean, sd : float
        Of a taxon's log contamination.
    steps : (D,) array
        Sds of its levels, from the leaves (batches) up.
    library_sd : float
        Of the library's own log deviation where its exposure is known.
    size, size_sd : float
    prevalence : float
    jumps : float
        Probability that a taxon lands in a library by a contamination of its own.
    escapes : float
        Share of ambient taxa that libraries can escape.
    bursts : float
        Share of libraries that have a probability of their own of such contaminations.
    jump_mean, jump_sd : float
        Of the log mass of one.
    mass_mean, mass_sd : (G,) arrays
        Of the log mass of what is present, by group.
    classes : (3,) array
        Weights of the classes of taxa.
    hop : (R,) array
        By run.
    leak : float
    offsets : (Q,) array
        Log load of each kind of control relative to patients; the first is 0.
    """

    mean: float
    sd: float
    steps: Floats
    library_sd: float
    size: float
    size_sd: float
    prevalence: float
    jumps: float
    escapes: float
    bursts: float
    jump_mean: float
    jump_sd: float
    mass_mean: Floats
    mass_sd: Floats
    classes: Floats
    hop: Floats
    leak: float
    offsets: Floats
