"""The records of a fit by their names in files, and what must hold of each.

A kind of fit that brings records of its own registers them beside it, see
`ranef.storage.registry.register`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef import families, priors
from ranef.covariance import structure_of
from ranef.design.grouping import GroupRecipe
from ranef.design.random import RandomRecipe
from ranef.design.recipe import Recipe, check_recipe
from ranef.design.response import ResponseKind
from ranef.design.specification import Specification
from ranef.design.state import Coding, GroupMeans, Polynomial, Scaled, Spline, check_state
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import FileError
from ranef.models.generalised import compose
from ranef.models.records import Composition, Estimate, GeneralisedEstimate, LinearEstimate
from ranef.solve.optimum import Face, Optimum
from ranef.storage.registry import register
from ranef.storage.tables import StoredColumn, StoredOrigin
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__: list[str] = []


def check_factor(factor: GroupingFactor) -> None:
    """Every row must belong to a level."""
    codes = factor.codes
    if len(codes) and (codes.min() < 0 or codes.max() >= factor.n_levels):
        raise FileError("a row belongs to a level that is not listed")


def check_specification(spec: Specification) -> None:
    """Terms must have a factor, and a kernel for its levels."""
    for term in spec.terms:
        if not 0 <= term.factor < len(spec.factors):
            raise FileError("a random term names no grouping factor")
        if term.kernel is not None and len(term.kernel) != spec.factors[term.factor].n_levels:
            raise FileError(f"the kernel of ({term.label}) is not one of the factor's levels")


def check_estimate(estimate: Estimate) -> None:
    """Effects, faces and coefficients must be those of the terms."""
    terms, k = estimate.terms, len(estimate.theta)
    wanted = sum(structure_of(term).n_parameters for term in terms)
    if k != wanted:
        raise FileError(f"theta has {k} entries, the terms ask for {wanted}")
    sizes = [(estimate.factors[term.factor].n_levels, term.size) for term in terms]
    if [b.shape for b in estimate.modes] != sizes:
        raise FileError("the modes are not those of the terms")
    if [psi.shape for psi in estimate.covariances] != [(r, r) for _, r in sizes]:
        raise FileError("the covariance matrices are not those of the terms")
    if not all(0 <= face.term < len(terms) for face in estimate.optimum.faces):
        raise FileError("a face names no random term")
    if not all(0 <= c < len(estimate.coefficients) for c in estimate.runaway):
        raise FileError("'runaway' names no coefficients")
    levels, y = estimate.levels, estimate.specification.y
    if levels is not None and len(levels) <= int(np.max(y, initial=0.0)):
        raise FileError("the response has more categories than are listed")


def composition(parts: Any, family: Any, **fields: Any) -> Composition:
    """Bring the parts of a model to one design again."""
    names = ("extra", "reml", "priors", "fixed", "equal")
    return compose(parts, family, **{name: fields[name] for name in names if name in fields})


def register_all(base: type, rooms: Any, word: str) -> None:
    """Register the classes of one kind in a module."""
    for name, cls in vars(rooms).items():
        if isinstance(cls, type) and issubclass(cls, base):
            register(cls, f"{word} {name}")


ESTIMATE = {
    "parts.y": "n", "extra": "n", "coefficients": "P", "coefficient_vcov": "P P", "theta": "k",
    "optimum.theta": "k",
}  # fmt: skip
LINEAR = {"specification.names": "P"}
GENERALISED = {"design.n_coefficients": "P", "design.predictors": "M", "predictors": "M n"}
SPECIFICATION = {
    "y": "n", "X": "n p", "names": "p", "weights": "n", "offset": "n", "terms.z": "n *",
    "factors.codes": "n", "accounting.n_used": "n",
}  # fmt: skip
TERM = {"names": "r", "z": "n r", "positions": "r d", "kernel": "q q"}
ORIGIN = {"accounting.n_rows": "N", "index.values": "N", "columns.values": "N"}

register(Accounting, shapes={"n_rows": "N", "kept": "N"})
register(StoredColumn, "column", check=StoredColumn.check)
register(Origin, shapes=ORIGIN, stand_in=StoredOrigin)
for state in (Scaled, Polynomial, Spline, GroupMeans, Coding):
    register(state, check=check_state)
for record in (GroupRecipe, RandomRecipe, ResponseKind, Face):
    register(record)
register(Recipe, derived={"functions": lambda functions, **_: functions}, check=check_recipe)
register(GroupingFactor, check=check_factor)
register(RandomTerm, shapes=TERM)
register(Specification, shapes=SPECIFICATION, check=check_specification)
register(Optimum, shapes={"theta": "k", "gradient": "k", "phi": "k", "trace": "*"})
register_all(families.Family, families, "family")
register_all(priors.Prior, priors, "prior")
register(LinearEstimate, shapes=ESTIMATE | LINEAR, check=check_estimate)
register(
    GeneralisedEstimate,
    shapes=ESTIMATE | GENERALISED,
    derived={"composition": composition},
    check=check_estimate,
)
