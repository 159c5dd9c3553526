"""`gblup`: genomic values of samples, with a phenotype and without, by the mixed model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Listing, Sized, Written
from ranef.display.page import Paragraph
from ranef.elsewhere import explained, explained_methods
from ranef.fields.gwas.engine import Basis, null_of
from ranef.fields.gwas.model import Trait, formulas_of
from ranef.fields.gwas.spectrum import NullFit, Rotated, nodes_at
from ranef.fields.gwas.variance import NA, Held
from ranef.solve.resources import one_blas_thread

__all__ = ["GenomicValues", "Values", "gblup", "values_of"]

Floats = NDArray[np.float64]

SHOWN = 10


@dataclass(frozen=True, eq=False)
class Values:
    """Genomic values of all samples of a relationship, (N,) arrays.

    Attributes
    ----------
    estimate : best linear unbiased prediction
    std_error : square root of the prediction error's variance
    reliability : squared correlation of value and prediction
    """

    estimate: Floats
    std_error: Floats
    reliability: Floats


def values_of(
    K: Floats, observed: NDArray[Any], basis: Basis, model: Rotated, fit: NullFit
) -> Values:
    """Predict u of all samples from those that are observed (Henderson 1975; VanRaden 2008).

    Parameters
    ----------
    K : (N, N) array
        The relationship, centred as the model's is.
    observed : (n,) int array
    basis, model, fit
        Of the observed samples: u has the variance lambda sigma2 K.
    """
    lambda_ = 0.0 if fit.boundary and fit.pve < 0.5 else fit.lambda_reml
    if lambda_ == 0.0:
        nothing = np.zeros(len(K))
        return Values(nothing, nothing.copy(), nothing.copy())
    nodes = nodes_at(model, np.array([fit.t_reml]))
    Z = basis.rotate(np.ascontiguousarray(K[:, observed]))
    estimate = lambda_ * (Z @ nodes.p[0])
    shared = Z @ nodes.N[0]
    known = lambda_ * ((Z * Z) @ nodes.D[0] - np.sum(shared * shared, axis=1))
    own = np.diag(K)
    error = fit.sigma2 * lambda_ * np.maximum(own - known, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        reliability = np.where(own > 0, np.clip(known / own, 0.0, 1.0), 0.0)
    return Values(estimate, np.sqrt(error), reliability)


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class GenomicValues(Answer):
    """Genomic (breeding) values of samples; `gwas.gblup` makes it.

    Attributes
    ----------
    trait : Trait
    fit : NullFit
    fid, iid : tuple of str
    observed : (N,) bool array
    values : Values
    notes : tuple of str
    library : str
    """

    trait: Trait
    fit: NullFit
    fid: tuple[str, ...]
    iid: tuple[str, ...]
    observed: NDArray[np.bool_]
    values: Values
    notes: tuple[str, ...]
    library: str

    @property
    def title(self) -> str:
        return f"Genomic values of {self.trait.name}"

    def tidy(self, table: str = "values") -> Any:
        """Return a row a sample of the relationship: ``FID, IID, observed, estimate, std_error,
        reliability``.
        """
        return self.tabled(self.listing(table))

    def glance(self) -> Any:
        """Return ``trait, n, n_new, pve, pve_se, mean_reliability, mean_reliability_new``."""
        return self.tabled(self.listing("glance"))

    def _values(self, rows: NDArray[np.intp], name: str, caption: str) -> Listing:
        v = self.values
        sized = Sized(v.std_error[rows])
        columns = (
            Column("FID", [self.fid[k] for k in rows]),
            Column("IID", [self.iid[k] for k in rows]),
            Column("observed", [bool(self.observed[k]) for k in rows]),
            Column("estimate", v.estimate[rows], sized),
            Column("std_error", v.std_error[rows], sized, "std. error"),
            Column("reliability", v.reliability[rows], Fixed(3)),
        )
        return Listing(name, columns, caption, labels=2)

    def tables(self) -> tuple[Listing, ...]:
        new = ~self.observed

        def mean(who: NDArray[np.bool_]) -> float:
            return float(self.values.reliability[who].mean()) if who.any() else float("nan")

        glance = (
            Column("trait", [self.trait.name]),
            Column("n", [self.fit.n], Written("{:,}".format)),
            Column("n_new", [int(new.sum())], Written("{:,}".format), "new"),
            Column("pve", np.array([self.fit.pve]), Fixed(4), "PVE"),
            Column("pve_se", np.array([self.fit.pve_se]), Fixed(4), "std. error"),
            Column("mean_reliability", np.array([mean(~new)]), Fixed(3), "reliability"),
            Column("mean_reliability_new", np.array([mean(new)]), Fixed(3), "of new"),
        )
        everyone = np.arange(len(self.iid))
        best = np.argsort(-self.values.estimate, kind="stable")[:SHOWN]
        return (
            self._values(everyone, "values", ""),
            Listing("glance", glance, "Model"),
            self._values(best, "best", "Largest values"),
        )

    def body(self) -> Any:
        yield self.listing("glance")
        yield self.listing("best")
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        said = [
            "Values are deviations from the mean of the analysed samples, in the trait's unit. "
            "Their errors take the variances as known."
        ]
        if self.fit.boundary:
            said.append("The share of variance of the relationship is estimated at its boundary.")
        return (*said, *(f"{note[0].upper()}{note[1:]}." for note in self.notes))


@explained
def gblup(
    formula: str,
    phenotypes: Any,
    *,
    relationship: Any,
    covariates: Any = None,
    transform: str | None = None,
    na: Sequence[str] = NA,
) -> GenomicValues:
    """Predict genomic (breeding) values: of samples with a phenotype, and of those without.

    Every sample of the relationship has a prediction. Those that are missing from the table,
    or have no value of the trait, are new samples, predicted by their relatives.

    Parameters
    ----------
    formula, phenotypes, covariates, transform, na
        As in `null`.
    relationship : Relationship, matrix or path
        As in `null`, of the new samples too.

    Returns
    -------
    GenomicValues
        ``tidy()``: ``FID, IID, observed, estimate, std_error, reliability``; ``glance()``.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=400, h2=0.6, rng=1)
    >>> K = gwas.grm(study.genotypes)
    >>> found = gwas.gblup("trait ~ sex", study.phenotypes.iloc[:180], relationship=K).tidy()
    >>> int((~found["observed"]).sum()), bool(found["reliability"].between(0, 1).all())
    (20, True)
    """
    formulas = formulas_of(formula, None)
    held = Held.of(formulas, phenotypes, relationship, covariates, na)
    ((name, text),) = formulas.items()
    trait, (basis, model) = held.model(name, text, transform)
    whole = held.related.whole
    assert whole is not None
    K = whole.matrix
    if trait.intercept:
        mean = K[:, trait.places].mean(axis=1)
        K = K - mean[:, None] - mean + mean[trait.places].mean()
    with one_blas_thread():
        fit = null_of(basis, model)
        values = values_of(K, trait.places, basis, model, fit)
    observed = np.zeros(len(whole), dtype=bool)
    observed[trait.places] = True
    return GenomicValues(
        trait, fit, whole.fid, whole.iid, observed, values, (*held.matched.notes, *trait.notes),
        held.matched.library,
    )  # fmt: skip
