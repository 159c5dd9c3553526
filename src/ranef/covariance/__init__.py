"""Covariance structures of random effects: what their parameters are and mean.

`structure` gives, for each name of the formula language, its parameters as they
are reported (theta), the unbounded ones that the search moves (phi), the
covariance matrix Psi and its derivatives, and words for a summary. The compiled
core has the same matrices as functions of phi. May import `errors` and NumPy;
SciPy inside functions.
"""

from ranef.covariance.factor import lower_entries, lower_factor, standard_deviations
from ranef.covariance.structure import Component, Parameter, Structure
from ranef.covariance.vocabulary import (
    POSITIONED,
    STRUCTURES,
    parameter_names,
    relative_covariance,
    structure,
    structure_of,
)

__all__ = [
    "POSITIONED",
    "STRUCTURES",
    "Component",
    "Parameter",
    "Structure",
    "lower_entries",
    "lower_factor",
    "parameter_names",
    "relative_covariance",
    "standard_deviations",
    "structure",
    "structure_of",
]
