"""The ways of a variant by environment interaction of Gaussian traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, ModelError
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
from ranef.fields.gwas.heteroscedastic import NAMES as VARYING
from ranef.fields.gwas.heteroscedastic import Varying, cross_varying, prepare_varying
from ranef.fields.gwas.interacting import NAMES, Crossed, cross, prepare_crossed
from ranef.fields.gwas.quality import OK
from ranef.fields.gwas.results import TraitScan, Words
from ranef.fields.gwas.spectrum import NullFit
from ranef.fields.gwas.tails import log10_chi2_tail, log10_f2_tail, log10_f_tail
from ranef.fields.gwas.ways import Stretched
from ranef.formula.labels import level_text
from ranef.solve.resources import one_blas_thread
from ranef.tables import Table

__all__ = [
    "Interaction",
    "RobustInteraction",
    "WithEnvironment",
    "environment_names",
    "of_variant",
]

Floats = NDArray[np.float64]


def environment_names(name: str, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The column, and the names that it may have among the covariates: of its categories."""
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
class WithEnvironment(Stretched):
    """Each variant with its product with an environment.

    Attributes
    ----------
    columns : tuple of str
        Names that the environment's column may have among the covariates.
    """

    columns: tuple[str, ...]

    def tested(self) -> str:
        """What estimates and tests are of, in words."""
        return (
            f"estimates and tests are of the product of variant and {self.columns[0]}, the variant "
            "itself fitted; `joint` tests are of both"
        )

    def place(self, names: Sequence[str], trait: str) -> int:
        """The environment's column of W."""
        found = [k for k, name in enumerate(names) if name in self.columns]
        if not found:
            raise ModelError(
                f"{trait}: the environment {self.columns[0]!r} does not vary among the analysed "
                "samples, or is a combination of other covariates: nothing can be told of its "
                "products"
            )
        if len(found) > 1:
            raise ModelError(
                f"{trait}: interaction= takes a column of numbers or of two categories, and "
                f"{self.columns[0]!r} has {len(found)} columns among the covariates"
            )
        return found[0]

    def environment(
        self, W: Floats, names: Sequence[str], trait: str
    ) -> tuple[Floats, float, float]:
        """The environment, centred and per standard deviation; its mean and deviation."""
        e = W[:, self.place(names, trait)]
        if not np.ptp(e):
            raise DataError(
                f"{trait}: the environment {self.columns[0]!r} does not vary; leave out "
                "interaction="
            )
        mean, sd = float(e.mean()), float(e.std())
        return (e - mean) / sd, mean, sd


@dataclass(frozen=True)
class Interaction(WithEnvironment):
    """Gaussian traits, each variant with its product with an environment.

    Attributes
    ----------
    own : bool
    """

    own: bool

    @property
    def words(self) -> Words:
        """How it is said."""
        ratio = "each variant has its own variance ratio" if self.own else (
            "all variants have the null model's variance ratio (P3D)")  # fmt: skip
        return Words(
            "Mixed model",
            f"Ordinary least squares, no relationship; {self.tested()}",
            f"{ratio}; {self.tested()}",
        )

    def empty(self, m: int) -> Columns:
        return Columns.empty(m, NAMES)

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> CrossedReady:
        basis = basis_of(K, len(group.chosen), group.intercept, False)
        models, environments = [], []
        with one_blas_thread():
            for trait in group.traits:
                model = rotated(basis, group.W, trait.y)
                null = null_of(basis, model)
                models.append(prepare_crossed(model, null, exact=self.own and K is not None))
                environments.append(self.environment(group.W, trait.names, trait.name)[0])
        return CrossedReady(basis, tuple(models), tuple(environments))

    def nulls(self, ready: CrossedReady) -> list[NullFit]:
        return [model.null for model in ready.models]

    def judged(self, stretch: Stretch, ready: CrossedReady, settings: Settings) -> Part:
        X = stretch.values(stretch.rows)
        Z = ready.basis.rotate(X)
        statuses, results = [], []
        for model, e in zip(ready.models, ready.environments, strict=True):
            found = cross(model, Z, ready.basis.rotate(X * e))
            status, whole = stretch.whole(found)
            statuses.append(status)
            results.append(whole)
        return stretch.part(statuses, results)

    def results(self, group: Group, nulls: Sequence[NullFit], whole: Part) -> dict[str, TraitScan]:
        made = {}
        for k, (trait, null) in enumerate(zip(group.traits, nulls, strict=True)):
            found: Columns = whole.found[k]
            _, mean, sd = self.environment(group.W, trait.names, trait.name)
            df = float(len(trait.y) - trait.W.shape[1] - 2)
            log10_p = {
                "wald": log10_f_tail(found["wald"], df),
                "lrt": log10_chi2_tail(found["lrt"]),
                "score": log10_f_tail(found["score"], df),
            }
            joint = log10_f2_tail(found["joint_wald"], df)
            ratio = log10_chi2_tail(found["joint_lrt"], 2.0)
            extra = of_variant(found, mean, sd) | {
                "p_joint_wald": 10.0**joint,
                "p_joint_lrt": 10.0**ratio,
                "neg_log10_p_joint_wald": 0.0 - joint,
                "neg_log10_p_joint_lrt": 0.0 - ratio,
            }
            made[trait.name] = TraitScan(
                trait, null, whole.n, whole.n_missing, whole.frequency, whole.info,
                found["product"] / sd, found["product_error"] / sd,
                np.exp(found["t_reml"]), np.exp(found["t_ml"]), log10_p, found["lrt"],
                whole.status[k], df, "wald", extra, kind="interaction",
            )  # fmt: skip
        return made


def of_variant(found: Columns, mean: float, sd: float) -> dict[str, Any]:
    """The variant's effect where the environment is zero."""
    shift = mean / sd
    variance = (
        found["main_error"] ** 2
        - 2.0 * shift * found["covariance"]
        + shift**2 * found["product_error"] ** 2
    )
    return {
        "estimate_variant": found["main"] - shift * found["product"],
        "std_error_variant": np.sqrt(np.maximum(variance, 0.0)),
    }


# --- residual variances that differ


@dataclass(frozen=True, eq=False)
class VaryingReady:
    """Each trait's model without a variant, what its variants share, and the environments."""

    nulls: tuple[NullFit, ...]
    models: tuple[Varying, ...]
    environments: tuple[Floats, ...]


@dataclass(frozen=True)
class RobustInteraction(WithEnvironment):
    """The same where residual variances may differ from sample to sample (`heteroscedastic`)."""

    @property
    def words(self) -> Words:
        """How it is said."""
        how = (
            "errors allow residual variances to differ between samples, with degrees of freedom by "
            f"Satterthwaite; {self.tested()}"
        )
        return Words(
            "Mixed model",
            f"Ordinary least squares, no relationship; {how}",
            f"all variants have the null model's variance ratio; {how}",
        )

    def empty(self, m: int) -> Columns:
        return Columns.empty(m, VARYING)

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> VaryingReady:
        basis = basis_of(K, len(group.chosen), group.intercept, False)
        nulls, models, environments = [], [], []
        with one_blas_thread():
            for trait in group.traits:
                environments.append(self.environment(group.W, trait.names, trait.name)[0])
                null = null_of(basis, rotated(basis, group.W, trait.y))
                nulls.append(null)
                try:
                    models.append(prepare_varying(
                        group.W, trait.y, basis.d, basis.U, null.lambda_reml, null.sigma2
                    ))  # fmt: skip
                except DataError as error:
                    raise DataError(f"{trait.name}: {error}") from None
        return VaryingReady(tuple(nulls), tuple(models), tuple(environments))

    def nulls(self, ready: VaryingReady) -> list[NullFit]:
        return list(ready.nulls)

    def judged(self, stretch: Stretch, ready: VaryingReady, settings: Settings) -> Part:
        X = stretch.values(stretch.rows)
        statuses, results = [], []
        for model, e in zip(ready.models, ready.environments, strict=True):
            found = cross_varying(model, X, X * e)
            status, whole = stretch.whole(found)
            bad = (status == OK) & ~(np.isfinite(whole["df_product"] + whole["df_main"]))
            status[bad] = "no_robust_error"
            whole.clear(bad)
            statuses.append(status)
            results.append(whole)
        return stretch.part(statuses, results)

    def results(self, group: Group, nulls: Sequence[NullFit], whole: Part) -> dict[str, TraitScan]:
        made = {}
        for k, (trait, null) in enumerate(zip(group.traits, nulls, strict=True)):
            found: Columns = whole.found[k]
            nothing = np.full(len(found["main"]), np.nan)
            ratio = nothing if not np.isfinite(null.t_reml) else np.where(
                np.isnan(found["main"]), np.nan, null.lambda_reml)  # fmt: skip
            _, mean, sd = self.environment(group.W, trait.names, trait.name)
            wald = (found["product"] / found["product_error"]) ** 2
            log10_p = {"wald": log10_f_tail(wald, found["df_product"])}
            log10_p |= {"lrt": nothing, "score": nothing}
            joint = _joint_tail(found)
            extra = of_variant(found, mean, sd) | {
                "p_joint_wald": 10.0**joint, "neg_log10_p_joint_wald": 0.0 - joint,
            }  # fmt: skip
            made[trait.name] = TraitScan(
                trait, null, whole.n, whole.n_missing, whole.frequency, whole.info,
                found["product"] / sd, found["product_error"] / sd, ratio, nothing, log10_p,
                nothing, whole.status[k], found["df_product"], "wald", extra, kind="interaction",
            )  # fmt: skip
        return made


def _joint_tail(found: Columns) -> Floats:
    """log10 p of both effects: Hotelling's T^2 with the fewer degrees of freedom of the two."""
    b1, b2 = found["main"], found["product"]
    v1, v2, v12 = found["main_error"] ** 2, found["product_error"] ** 2, found["covariance"]
    df = np.minimum(found["df_main"], found["df_product"])
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = (b1 * b1 * v2 - 2.0 * b1 * b2 * v12 + b2 * b2 * v1) / (v1 * v2 - v12**2)
        usable = (v1 * v2 > v12**2) & (df > 1.0)
        f = np.where(usable, 0.5 * statistic * (df - 1.0) / df, np.nan)
        return log10_f2_tail(f, df - 1.0)
