"""The way of a variant by environment interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError, suggestion
from ranef.fields.gwas.engine import (
    Basis,
    Columns,
    Group,
    Part,
    Settings,
    Stretch,
    basis_of,
    null_of,
    rotated,
)
from ranef.fields.gwas.interacting import NAMES, Crossed, cross, prepare_crossed
from ranef.fields.gwas.profiles import COLLINEAR
from ranef.fields.gwas.quality import OK
from ranef.fields.gwas.results import TraitScan, Words
from ranef.fields.gwas.spectrum import NullFit
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f2_tail, log10_f_tail
from ranef.fields.gwas.ways import Stretched
from ranef.formula.labels import level_text, list_text
from ranef.solve.resources import one_blas_thread
from ranef.tables import Table

__all__ = ["Interaction", "environment_names"]

Floats = NDArray[np.float64]


def environment_names(name: str, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The column, and the names that it may have among the covariates: of its categories."""
    if name not in columns:
        raise DataError(
            f"interaction={name!r} is no column{suggestion(name, list(columns))}; there are "
            f"{list_text(list(columns))}"
        )
    table = Table.of(dict(columns))
    levels = [] if table.kind(name) == "numeric" else table.codes(name)[1]
    return (name, *(f"{name}{level_text(level)}" for level in levels))


@dataclass(frozen=True, eq=False)
class CrossedReady:
    """A basis, and each trait's model and environment (centred, per standard deviation)."""

    basis: Basis
    models: tuple[Crossed, ...]
    environments: tuple[Floats, ...]


@dataclass(frozen=True)
class Interaction(Stretched):
    """Gaussian traits, each variant with its product with an environment.

    Attributes
    ----------
    columns : tuple of str
        Names that the environment's column may have among the covariates.
    own : bool
    """

    columns: tuple[str, ...]
    own: bool

    @property
    def words(self) -> Words:
        """How it is said."""
        ratio = "each variant has its own variance ratio" if self.own else (
            "all variants have the null model's variance ratio (P3D)")  # fmt: skip
        return Words(
            "Mixed model",
            f"Ordinary least squares, no relationship; {self._tested()}",
            f"{ratio}; {self._tested()}",
        )

    def _tested(self) -> str:
        return (
            f"estimates and tests are of the product of variant and {self.columns[0]}, the variant "
            "itself fitted; `joint` tests are of both"
        )

    def empty(self, m: int) -> Columns:
        return Columns.empty(m, NAMES)

    def place(self, names: Sequence[str], trait: str) -> int:
        """The environment's column of W."""
        found = [k for k, name in enumerate(names) if name in self.columns]
        if len(found) != 1:
            raise ModelError(
                f"{trait}: interaction= takes a column of numbers or of two categories, and "
                f"{self.columns[0]!r} has {len(found)} columns among the covariates"
            )
        return found[0]

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> CrossedReady:
        basis = basis_of(K, len(group.chosen), group.intercept, False)
        models, environments = [], []
        with one_blas_thread():
            for trait in group.traits:
                model = rotated(basis, group.W, trait.y)
                null = null_of(basis, model)
                models.append(prepare_crossed(model, null, exact=self.own and K is not None))
                e = group.W[:, self.place(trait.names, trait.name)]
                if not np.ptp(e):
                    raise DataError(f"{trait.name}: {self.columns[0]!r} does not vary")
                environments.append((e - e.mean()) / e.std())
        return CrossedReady(basis, tuple(models), tuple(environments))

    def nulls(self, ready: CrossedReady) -> list[NullFit]:
        return [model.null for model in ready.models]

    def judged(self, stretch: Stretch, ready: CrossedReady, settings: Settings) -> Part:
        X = stretch.values(stretch.rows)
        Z = ready.basis.rotate(X)
        statuses, results = [], []
        for model, e in zip(ready.models, ready.environments, strict=True):
            found = cross(model, Z, ready.basis.rotate(X * e))
            status = stretch.status.copy()
            status[stretch.rows[~(found["left"] > COLLINEAR)]] = "collinear"
            whole = self.empty(len(status))
            whole.put(stretch.rows, found)
            for values in whole.values.values():
                values[status != OK] = np.nan
            statuses.append(status)
            results.append(whole)
        return stretch.part(statuses, results)

    def results(self, group: Group, nulls: Sequence[NullFit], whole: Part) -> dict[str, TraitScan]:
        made = {}
        for k, (trait, null) in enumerate(zip(group.traits, nulls, strict=True)):
            found: Columns = whole.found[k]
            e = group.W[:, self.place(trait.names, trait.name)]
            df = float(len(trait.y) - trait.W.shape[1] - 2)
            log10_p = {
                "wald": log10_f_tail(found["wald"], df),
                "lrt": log10_chi2_tail(found["lrt"]),
                "score": log10_f_tail(found["score"], df),
            }
            extra = _extra(found, float(e.mean()), float(e.std()), df)
            made[trait.name] = TraitScan(
                trait, null, whole.n, whole.n_missing, whole.frequency, whole.info,
                found["product"] / e.std(), found["product_error"] / e.std(),
                np.exp(found["t_reml"]), np.exp(found["t_ml"]), log10_p, found["lrt"],
                whole.status[k], df, "wald", extra, kind="interaction",
            )  # fmt: skip
        return made


def _extra(found: Columns, mean: float, sd: float, df: float) -> dict[str, Any]:
    """The variant's effect where the environment is zero, and the joint tests."""
    shift = mean / sd
    variance = (
        found["main_error"] ** 2
        - 2.0 * shift * found["covariance"]
        + shift**2 * found["product_error"] ** 2
    )
    joint = log10_f2_tail(found["joint_wald"], df)
    ratio = log10_chi2_tail(found["joint_lrt"], 2.0)
    return {
        "estimate_variant": found["main"] - shift * found["product"],
        "std_error_variant": np.sqrt(np.maximum(variance, 0.0)),
        "p_joint_wald": 10.0**joint,
        "p_joint_lrt": 10.0**ratio,
        "neg_log10_p_joint_wald": 0.0 - joint,
        "neg_log10_p_joint_lrt": 0.0 - ratio,
    }
