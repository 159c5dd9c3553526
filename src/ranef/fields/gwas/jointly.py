"""The way of several traits tested together, by the multivariate mixed model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.display.columns import Column, Listing, Significant
from ranef.errors import DataError, ModelError
from ranef.fields.gwas.engine import Basis, Columns, Group, Part, Settings, Stretch, basis_of
from ranef.fields.gwas.model import Trait, independent
from ranef.fields.gwas.multivariate import (
    Apart,
    Covariances,
    Several,
    basis_of_columns,
    fit_several,
)
from ranef.fields.gwas.profiles import COLLINEAR
from ranef.fields.gwas.results import TraitScan, Words
from ranef.fields.gwas.tails import log10_chi2_tail
from ranef.fields.gwas.ways import Stretched
from ranef.solve.resources import one_blas_thread

__all__ = ["Joint", "JointNull", "in_common"]

Floats = NDArray[np.float64]

LOOK = 0.05
"""p below which a variant has covariances of its own."""


@dataclass(frozen=True, eq=False)
class JointNull:
    """The model of several traits without a variant.

    Attributes
    ----------
    names : tuple of str
    reml, ml : Covariances
    trace : float
        Mean eigenvalue of the relationship.
    """

    names: tuple[str, ...]
    reml: Covariances
    ml: Covariances
    trace: float
    pve: float = float("nan")
    pve_se: float = float("nan")
    lambda_reml: float = float("nan")
    boundary: bool = False

    @property
    def loglik_reml(self) -> float:
        return self.reml.loglik

    @property
    def loglik_ml(self) -> float:
        return self.ml.loglik

    @property
    def listing(self) -> Listing:
        """Covariances of the traits, a row a pair."""
        k = len(self.names)
        i, j = np.tril_indices(k)
        Vg, Ve = self.reml.Vg * self.trace, self.reml.Ve
        with np.errstate(invalid="ignore", divide="ignore"):
            r, s = (V / np.sqrt(np.outer(np.diag(V), np.diag(V))) for V in (Vg, Ve))
        columns = (
            Column("trait", [self.names[a] for a in i]),
            Column("trait2", [self.names[a] for a in j], heading="with"),
            Column("relationship", Vg[i, j], Significant()),
            Column("residual", Ve[i, j], Significant()),
            Column("corr_relationship", r[i, j], Significant(), "corr. (relationship)"),
            Column("corr_residual", s[i, j], Significant(), "corr. (residual)"),
        )
        return Listing("covariances", columns, "Covariances of the traits (REML)", labels=2)


@dataclass(frozen=True, eq=False)
class JointReady:
    """A basis, the model in it, and its fits without a variant."""

    basis: Basis
    model: Several
    null: JointNull


@dataclass(frozen=True)
class Joint(Stretched):
    """Several Gaussian traits at once.

    Attributes
    ----------
    traits : tuple of str
    own : bool
        Whether variants with p < 0.05 have covariances of their own.
    """

    traits: tuple[str, ...]
    own: bool

    @property
    def title(self) -> str:
        return ", ".join(self.traits)

    @property
    def words(self) -> Words:
        """How it is said."""
        own = "variants with p < 0.05 have covariance matrices of their own" if self.own else (
            "all variants have the null model's covariance matrices (P3D)")  # fmt: skip
        return Words(
            "Multivariate mixed model",
            f"Multivariate regression, no relationship; {own}",
            f"tests are of all effects of a variant being zero; {own}",
        )

    def empty(self, m: int) -> Columns:
        k = len(self.traits)
        names = [f"{what}{j}" for what in ("b", "v", "c") for j in range(k * (k - 1) // 2 + k)]
        return Columns.empty(m, ["wald", "lrt", "score", "left", *names])

    def names(self, group: Group) -> list[str]:
        return [self.title]

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> JointReady:
        basis = basis_of(K, len(group.chosen), group.intercept, False)
        Y = np.column_stack([trait.y for trait in group.traits])
        with one_blas_thread():
            W = basis_of_columns(group.W)
            # What covariates explain has no part in the tests, and would cost them digits.
            Y = Y - W @ np.linalg.lstsq(W, Y, rcond=None)[0]
            model = Several(basis.d, W, Y)
            if basis.U is not None:
                model = Several(basis.d, basis.U.T @ W, basis.U.T @ Y)
            null = JointNull(
                self.traits, _fit(model, K is None, None, reml=True),
                _fit(model, K is None, None, reml=False), float(basis.d.mean()),
            )  # fmt: skip
        return JointReady(basis, model, null)

    def nulls(self, ready: JointReady) -> list[JointNull]:
        return [ready.null]

    def judged(self, stretch: Stretch, ready: JointReady, settings: Settings) -> Part:
        Z = ready.basis.rotate(stretch.values(stretch.rows))
        found = self._tested(ready, Z)
        status, whole = stretch.whole(found)
        return stretch.part([status], [whole])

    def _tested(self, ready: JointReady, Z: Floats) -> Columns:
        model, null = ready.model, ready.null
        found = self.empty(len(Z))
        R = np.linalg.qr(model.W)[0]
        total = np.sum(Z * Z, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found.values["left"][:] = 1.0 - np.sum((Z @ R) ** 2, axis=1) / total
        good = np.flatnonzero(found["left"] > COLLINEAR)
        Z = Z[good]
        first, wald = _effects(null.reml.at, Z)
        _, ml = _effects(null.ml.at, Z)
        values = {"wald": wald, "score": ml, "lrt": ml.copy(), **first}
        if self.own and ready.basis.U is not None:
            for k in np.flatnonzero(log10_chi2_tail(wald, float(model.k)) < np.log10(LOOK)):
                self._refitted(ready, Z[k], int(k), values)
        found.put(good, Columns(values))
        return found

    def _refitted(self, ready: JointReady, z: Floats, k: int, values: dict[str, Floats]) -> None:
        """Replace a variant's figures by those of its own covariances."""
        model, null = ready.model, ready.null
        wide = Several(model.d, np.column_stack([model.W, z]), model.Y)
        reml = fit_several(wide, reml=True, start=(null.reml.Vg, null.reml.Ve))
        ml = fit_several(wide, reml=False, start=(null.ml.Vg, null.ml.Ve))
        bare = _bare(model, reml)
        own, wald = _effects(bare, z[None])
        values["wald"][k] = wald[0]
        values["lrt"][k] = max(2.0 * (ml.loglik - null.ml.loglik), 0.0)
        for name, value in own.items():
            values[name][k] = value[0]

    def results(
        self, group: Group, nulls: Sequence[JointNull], whole: Part
    ) -> dict[str, TraitScan]:
        found: Columns = whole.found[0]
        k = len(self.traits)
        nothing = np.full(len(found["wald"]), np.nan)
        log10_p = {
            test: log10_chi2_tail(found[test], float(k)) for test in ("wald", "lrt", "score")
        }
        extra = {}
        for j, name in enumerate(self.traits):
            extra[f"estimate_{name}"] = found[f"b{j}"]
            extra[f"std_error_{name}"] = found[f"v{j}"]
        pairs = [(i, j) for i in range(k) for j in range(i)]
        for number, (i, j) in enumerate(pairs):
            extra[f"covariance_{self.traits[j]}_{self.traits[i]}"] = found[f"c{number}"]
        first = group.traits[0]
        right = first.formula.partition("~")[2].strip()
        trait = replace(
            first, name=self.title, formula=f"{self.title} ~ {right}",
            y=np.column_stack([one.y for one in group.traits]),
            notes=tuple(f"{one.name}: {note}" for one in group.traits for note in one.notes),
        )  # fmt: skip
        made = TraitScan(
            trait, nulls[0], whole.n, whole.n_missing, whole.frequency, whole.info, nothing,
            nothing, nothing, nothing, log10_p, found["lrt"], whole.status[0], float(k), "wald",
            extra, (nulls[0].listing,), kind="joint",
        )  # fmt: skip
        return {self.title: made}


def _fit(
    model: Several, alone: bool, start: tuple[Floats, Floats] | None, *, reml: bool
) -> Covariances:
    """Fit the covariances; without a relationship Vg is zero."""
    if not alone:
        return fit_several(model, reml=reml, start=start)
    rest = model.Y - model.W @ np.linalg.lstsq(model.W, model.Y, rcond=None)[0]
    S = rest.T @ rest / (model.n - (model.c if reml else 0))
    none = np.zeros(model.k * (model.k + 1) // 2, dtype=bool)
    return fit_several(model, reml=reml, start=(0.0 * S, S), free=none)


def _bare(model: Several, fit: Covariances) -> Apart:
    """The model without the variant, at the covariances with it."""
    from ranef.fields.gwas.multivariate import apart

    at = apart(model, fit.Vg, fit.Ve, reml=True)
    assert at is not None
    return at


def _effects(at: Apart, Z: Floats) -> tuple[dict[str, Floats], Floats]:
    """Effects of variants on all traits, their errors and covariances; the statistic, (b,)."""
    zPz, zPy = at.forms(Z)
    back = np.linalg.inv(at.A)
    k = len(back)
    b = (zPy / zPz) @ back.T
    V = np.einsum("ij,bj,kj->bik", back, 1.0 / zPz, back)
    made = {f"b{j}": b[:, j] for j in range(k)}
    made |= {f"v{j}": np.sqrt(V[:, j, j]) for j in range(k)}
    pairs = [(i, j) for i in range(k) for j in range(i)]
    made |= {f"c{number}": V[:, i, j] for number, (i, j) in enumerate(pairs)}
    return made, np.sum(zPy**2 / zPz, axis=1)


def in_common(traits: Sequence[Trait]) -> list[Trait]:
    """Keep the samples that have values of every trait."""
    if len(traits) < 2:
        raise ModelError("joint=True tests several traits together; name at least two in traits=")
    places = traits[0].places
    for trait in traits[1:]:
        places = places[np.isin(places, trait.places)]
    if len(places) < 10 + len(traits) * traits[0].W.shape[1]:
        raise DataError(
            f"{len(places):,} samples have values of every trait: too few for a joint test; name "
            "traits that were measured in the same samples"
        )
    made = []
    for trait in traits:
        rows = np.isin(trait.places, places)
        W, names = independent(trait.name, trait.W[rows], trait.names)
        if not np.ptp(trait.y[rows]):
            raise DataError(
                f"{trait.name} does not vary among samples with values of every trait; leave it out"
            )
        made.append(replace(trait, places=places, y=trait.y[rows], W=W, names=names))
    Y = np.column_stack([trait.y for trait in made])
    rest = Y - made[0].W @ np.linalg.lstsq(made[0].W, Y, rcond=None)[0]
    S = np.corrcoef(rest.T)
    if np.linalg.eigvalsh(S)[0] < 1e-8:
        raise DataError("the traits depend on each other: one is a combination of the others")
    return made
