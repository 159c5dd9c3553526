"""The records of a fit by their names in files, and what must hold of each.

A kind of fit that brings records of its own registers them beside it, see
`ranef.storage.registry.register`.
"""

from __future__ import annotations

from typing import Any

from ranef import families, priors
from ranef.design.clusters import Occasions
from ranef.design.grouping import GroupRecipe
from ranef.design.random import RandomRecipe
from ranef.design.recipe import Recipe, check_recipe
from ranef.design.residual import Places, ResidualRecipe
from ranef.design.response import ResponseKind
from ranef.design.specification import Specification
from ranef.design.state import (
    Coding,
    CrossedMeans,
    GroupMeans,
    Polynomial,
    Scaled,
    Spline,
    check_state,
)
from ranef.design.terms import (
    GroupingFactor,
    RandomTerm,
    ResidualPart,
    ResidualScale,
    ResidualTerm,
)
from ranef.models.dropout import Dropout
from ranef.models.marginal import Equations, MarginalEstimate, MarginalModel
from ranef.models.meta import MetaEstimate, MetaModel
from ranef.models.records import GeneralisedEstimate, LinearEstimate
from ranef.solve.optimum import Face, FlatDirection, MonteCarlo, Optimum
from ranef.storage.checks import (
    check_factor,
    check_generalised,
    check_linear,
    check_marginal,
    check_marginal_model,
    check_meta,
    check_meta_model,
    check_occasions,
    check_optimum,
    check_residual,
    check_specification,
    check_term,
    composition,
)
from ranef.storage.registry import register
from ranef.storage.tables import StoredColumn, StoredOrigin
from ranef.tables.accounting import Accounting
from ranef.tables.origin import Origin

__all__: list[str] = []


def register_all(base: type, rooms: Any, word: str) -> None:
    """Register the classes of one kind in a module."""
    for name, cls in vars(rooms).items():
        if isinstance(cls, type) and issubclass(cls, base):
            register(cls, f"{word} {name}")


ESTIMATE = {
    "parts.y": "n", "extra": "n", "coefficients": "P", "coefficient_vcov": "P P", "theta": "k",
    "optimum.theta": "k", "optimum.elsewhere": "k",
}  # fmt: skip
LINEAR = {"specification.names": "P"}
GENERALISED = {"design.n_coefficients": "P", "design.predictors": "M", "predictors": "M n"}
SPECIFICATION = {
    "y": "n", "X": "n p", "names": "p", "weights": "n", "offset": "n", "terms.z": "n *",
    "factors.codes": "n", "accounting.n_used": "n", "residual.W": "n *",
}  # fmt: skip
TERM = {"names": "r", "z": "n r", "positions": "r d", "kernel": "q q"}
ORIGIN = {"accounting.n_rows": "N", "index.values": "N", "columns.values": "N"}

register(Accounting, shapes={"n_rows": "N", "kept": "N"})
register(StoredColumn, "column", check=StoredColumn.check)
register(Origin, shapes=ORIGIN, stand_in=StoredOrigin)
for state in (Scaled, Polynomial, Spline, GroupMeans, CrossedMeans, Coding):
    register(state, check=check_state)
for record in (GroupRecipe, RandomRecipe, ResponseKind, Face, FlatDirection):
    register(record)
register(Recipe, derived={"functions": lambda functions, **_: functions}, check=check_recipe)
register(GroupingFactor, check=check_factor)
register(RandomTerm, shapes=TERM, check=check_term)
register(Places)
register(ResidualScale)
register(ResidualRecipe)
register(ResidualPart)
register(ResidualTerm, check=check_residual)
register(
    MonteCarlo,
    shapes={"theta_error": "k", "information": "k k", "log_r2": "k", "vcov_slopes": "k p p"},
)
register(Specification, shapes=SPECIFICATION, check=check_specification)
register(
    Optimum,
    shapes={"theta": "k", "gradient": "k", "phi": "k", "elsewhere": "k", "trace": "*"},
    check=check_optimum,
)
register_all(families.Family, families, "family")
register_all(priors.Prior, priors, "prior")
register(LinearEstimate, shapes=ESTIMATE | LINEAR, check=check_linear)
register(
    GeneralisedEstimate,
    shapes=ESTIMATE | GENERALISED,
    derived={"composition": composition},
    check=check_generalised,
)
register(Occasions, check=check_occasions)
register(Equations)
register(
    Dropout,
    shapes={
        "names": "q", "coefficients": "q", "covariance": "q q", "scores": "K q", "slopes": "n q",
        "weights": "n",
    },
)  # fmt: skip
register(
    MarginalModel,
    shapes={
        "specification.y": "n", "trials": "n", "clusters.codes": "n", "occasions.values": "n",
        "sampling": "n", "matrix": "T T", "dropout.weights": "n",
    },
    check=check_marginal_model,
)  # fmt: skip
register(
    MarginalEstimate,
    shapes={"model.labels": "p", "coefficients": "p", "bread": "p p"},
    check=check_marginal,
)
register(
    MetaModel,
    shapes={"specification.y": "n", "variances": "n", "covariance": "n n", "studies": "n"},
    check=check_meta_model,
)
register(
    MetaEstimate,
    shapes={
        "model.specification.names": "p", "coefficients": "p", "bread": "p p", "logliks": "m",
        "where": "m",
    },
    check=check_meta,
)  # fmt: skip
