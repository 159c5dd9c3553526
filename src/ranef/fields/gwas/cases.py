"""The way of binary traits: logistic models, score tests with saddlepoint tails, Firth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.fields.gwas.binary import NAMES, test_binary
from ranef.fields.gwas.engine import LARGE, Columns, Group, Part, Settings, Stretch
from ranef.fields.gwas.genotypes import Chosen
from ranef.fields.gwas.logistic import LogisticNull, centred, fit_logistic
from ranef.fields.gwas.model import Trait
from ranef.fields.gwas.results import TraitScan, Words
from ranef.fields.gwas.tails import log10_chi2_tail
from ranef.fields.gwas.ways import Stretched
from ranef.solve.resources import one_blas_thread

__all__ = ["COUNTS", "Binomial", "LogisticReady", "count_cases", "logistic_ready", "of_cases"]

Floats = NDArray[np.float64]

COUNTS = ("n_cases", "n_controls", "ac_cases", "ac_controls")
"""Samples with a value, and copies of the effect allele among them."""


@dataclass(frozen=True, eq=False)
class LogisticReady:
    """Models without a variant, and their roots in single precision (None: not wanted)."""

    nulls: tuple[LogisticNull, ...]
    single: tuple[NDArray[np.float32] | None, ...]


def logistic_ready(group: Group, K: Floats | None, single: bool) -> LogisticReady:
    """Fit the logistic models of a group's traits; K is overwritten."""
    if K is not None and group.intercept:
        K = centred(K)
    nulls = []
    for trait in group.traits:
        try:
            if len(trait.y) <= LARGE:
                with one_blas_thread():
                    nulls.append(fit_logistic(trait.y, group.W, K, trait.names))
            else:
                nulls.append(fit_logistic(trait.y, group.W, K, trait.names))
        except DataError as error:
            raise DataError(f"{trait.name}: {error}") from None
    roots = [
        null.root.astype(np.float32) if single and null.root is not None else None for null in nulls
    ]
    return LogisticReady(tuple(nulls), tuple(roots))


@dataclass(frozen=True)
class Binomial(Stretched):
    """Binary traits in turn.

    Attributes
    ----------
    own : bool
        Whether each variant's score has its own variance.
    """

    own: bool

    def empty(self, m: int) -> Columns:
        return Columns.empty(m, (*NAMES, *COUNTS))

    @property
    def words(self) -> Words:
        """How it is said."""
        of = "" if self.own else ", their variances by the expected ratio to unrelated samples"
        return Words(
            "Logistic mixed model",
            "Logistic regression, no relationship",
            f"score tests{of}, with tails by the saddlepoint approximation; where p < 0.05 "
            "estimates are by Firth's penalised likelihood, elsewhere one step from zero",
        )

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> LogisticReady:
        return logistic_ready(group, K, settings.single and self.own)

    def nulls(self, ready: LogisticReady) -> list[LogisticNull]:
        return list(ready.nulls)

    def judged(self, stretch: Stretch, ready: LogisticReady, settings: Settings) -> Part:
        X = stretch.values(stretch.rows)
        statuses, results = [], []
        for null, single in zip(ready.nulls, ready.single, strict=True):
            found = test_binary(null, X, single, own=self.own)
            status, whole = stretch.whole(found)
            whole.values.update(count_cases(stretch, null.y))
            statuses.append(status)
            results.append(whole)
        return stretch.part(statuses, results)

    def results(
        self, group: Group, nulls: Sequence[LogisticNull], whole: Part
    ) -> dict[str, TraitScan]:
        made = {}
        for k, (trait, null) in enumerate(zip(group.traits, nulls, strict=True)):
            made[trait.name] = _trait_scan(trait, null, whole, k)
        return made


def count_cases(stretch: Stretch, y: Floats) -> dict[str, Floats]:
    """Count samples with a value and copies among cases and controls: `COUNTS`."""
    cases = y > 0.5
    mine = Chosen(
        np.ascontiguousarray(stretch.chosen.places[cases]),
        np.ascontiguousarray(stretch.chosen.groups[cases]),
    )
    tally, every = stretch.block.tally(mine, "additive"), stretch.tally
    return {
        "n_cases": tally.n.astype(np.float64),
        "n_controls": (every.n - tally.n).astype(np.float64),
        "ac_cases": np.asarray(tally.copies, dtype=np.float64),
        "ac_controls": np.asarray(every.copies - tally.copies, dtype=np.float64),
    }


def _trait_scan(trait: Trait, null: LogisticNull, whole: Part, k: int) -> TraitScan:
    found: Columns = whole.found[k]
    nothing = np.full(len(found["beta"]), np.nan)
    log10_p = {
        "wald": log10_chi2_tail((found["beta"] / found["std_error"]) ** 2),
        "lrt": log10_chi2_tail(found["lrt"]),
        "score": log10_chi2_tail(found["score"]),
        "spa": found["log10_spa"],
    }
    return TraitScan(
        trait, null, whole.n, whole.n_missing, whole.frequency, whole.info, found["beta"],
        found["std_error"], nothing, nothing, log10_p, found["lrt"], whole.status[k], np.inf,
        "spa", of_cases(found),
    )  # fmt: skip


def of_cases(found: Columns) -> dict[str, Any]:
    """Columns that a table of a binary trait has beside those of every trait."""
    return {
        "n_cases": _whole_numbers(found["n_cases"]),
        "n_controls": _whole_numbers(found["n_controls"]),
        "ac_cases": found["ac_cases"],
        "ac_controls": found["ac_controls"],
        "neg_log10_p_spa": 0.0 - found["log10_spa"],
    }


def _whole_numbers(values: Floats) -> NDArray[np.int64]:
    """Counts; zero where nothing was looked at."""
    return np.where(np.isnan(values), 0, values).astype(np.int64)
