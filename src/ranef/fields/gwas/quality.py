"""Which variants are tested, and the reason of each that is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core, arguments
from ranef.errors import ModelError
from ranef.fields.gwas.genotypes import Tally

__all__ = ["OK", "REASONS", "Limits", "judge"]

OK = "ok"
REASONS = {
    "ok": "tested",
    "excluded": "not asked for (extract, exclude, chromosomes)",
    "multiallelic": "more than two alleles; split them, as bcftools norm -m- does",
    "all_missing": "nobody analysed has a value",
    "missingness": "more missing than max_missing",
    "monomorphic": "all analysed samples alike",
    "all_heterozygous": "all analysed samples heterozygous",
    "no_carriers": "the effect's coding has one value among the analysed",
    "maf": "minor allele rarer than min_maf",
    "mac": "fewer minor alleles than min_mac",
    "hwe": "Hardy-Weinberg p below min_hwe",
    "info": "information below min_info",
    "collinear": "a combination of the covariates",
    "no_robust_error": "too few carriers for the variance by their own residuals",
    "exact_fit": "explains the trait without a residual",
}


@dataclass(frozen=True)
class Limits:
    """What a variant must have to be tested.

    Attributes
    ----------
    min_maf, max_missing : float
    min_mac, min_hwe, min_info : float or None
    """

    min_maf: float = 0.01
    max_missing: float = 0.05
    min_mac: float | None = None
    min_hwe: float | None = None
    min_info: float | None = None

    @classmethod
    def read(cls, calls: bool, **given: Any) -> Limits:
        """Check what a call asks for."""
        most = {"min_maf": 0.5, "max_missing": 1.0, "min_hwe": 1.0}
        for name, value in given.items():
            if value is None and name not in ("min_maf", "max_missing"):
                continue
            number = arguments.number(name, value)
            if not 0.0 <= number <= most.get(name, np.inf):
                raise ModelError(
                    f"{name} must lie between 0 and {most.get(name, 'infinity')}, not {number:g}"
                )
        if calls and given.get("min_info") is not None:
            raise ModelError(
                "min_info judges dosages, and these genotypes are called; leave it out"
            )
        if not calls and given.get("min_hwe") is not None:
            raise ModelError("min_hwe counts called genotypes, and these are dosages; leave it out")
        return cls(**given)


def judge(tally: Tally, limits: Limits) -> NDArray[np.object_]:
    """Return each variant's status, (b,): the first reason that applies, or ``"ok"``."""
    minor = np.minimum(tally.copies, tally.alleles - tally.copies)
    with np.errstate(invalid="ignore", divide="ignore"):
        maf = minor / tally.alleles
        missing = tally.n_missing / (tally.n + tally.n_missing)
    status = np.full(len(tally.n), OK, dtype=object)

    def mark(where: NDArray[np.bool_], reason: str) -> None:
        status[where & (status == OK)] = reason

    mark(tally.n == 0, "all_missing")
    mark(missing > limits.max_missing, "missingness")
    mark(minor == 0, "monomorphic")
    mark(
        (tally.levels < 2) & (np.abs(2.0 * tally.copies - tally.alleles) < 1e-9), "all_heterozygous"
    )
    mark((tally.levels < 2) & (tally.genotypes is None), "monomorphic")
    mark(tally.levels < 2, "no_carriers")
    mark(maf < limits.min_maf, "maf")
    if limits.min_mac is not None:
        mark(minor < limits.min_mac, "mac")
    if limits.min_hwe is not None and tally.genotypes is not None:
        p = _core.exact_proportions(np.ascontiguousarray(tally.genotypes))
        mark(p < limits.min_hwe, "hwe")
    if limits.min_info is not None:
        mark(~(tally.info >= limits.min_info), "info")
    return status
