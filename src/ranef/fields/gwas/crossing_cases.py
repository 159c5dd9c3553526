"""The way of a variant by environment interaction of binary traits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.cases import COUNTS, LogisticReady, count_cases, logistic_ready, of_cases
from ranef.fields.gwas.crossing import WithEnvironment, of_variant
from ranef.fields.gwas.engine import Columns, Group, Part, Settings, Stretch
from ranef.fields.gwas.interacting_cases import NAMES, cross_cases, spread_ratio
from ranef.fields.gwas.logistic import LogisticNull
from ranef.fields.gwas.results import TraitScan, Words
from ranef.fields.gwas.tails import log10_chi2_tail
from ranef.solve.resources import one_blas_thread

__all__ = ["CaseInteraction"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CaseReady:
    """The models without a variant, the environments (centred, per standard deviation), ratios.

    ratios : see `interacting_cases.spread_ratio`; one of unrelated samples.
    """

    logistic: LogisticReady
    environments: tuple[Floats, ...]
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class CaseInteraction(WithEnvironment):
    """Binary traits, each variant with its product with an environment.

    Attributes
    ----------
    own : bool
        Whether each score has its own variance.
    """

    own: bool

    @property
    def words(self) -> Words:
        """How it is said."""
        of = "" if self.own else ", their variances by the expected ratio to unrelated samples"
        return Words(
            "Logistic mixed model",
            f"Logistic regression, no relationship; {self.tested()}",
            f"score tests{of}, with tails by the saddlepoint approximation; {self.tested()}",
        )

    def empty(self, m: int) -> Columns:
        return Columns.empty(m, (*NAMES, *COUNTS))

    def ready(self, group: Group, K: Floats | None, settings: Settings) -> CaseReady:
        environments = [self.environment(group.W, t.names, t.name)[0] for t in group.traits]
        logistic = logistic_ready(group, K, False)
        ratios = [1.0] * len(environments)
        if K is not None:
            with one_blas_thread():
                ratios = [
                    spread_ratio(null, K, e, own=self.own)
                    for null, e in zip(logistic.nulls, environments, strict=True)
                ]
        return CaseReady(logistic, tuple(environments), tuple(ratios))

    def nulls(self, ready: CaseReady) -> list[LogisticNull]:
        return list(ready.logistic.nulls)

    def judged(self, stretch: Stretch, ready: CaseReady, settings: Settings) -> Part:
        X = stretch.values(stretch.rows)
        statuses, results = [], []
        prepared = zip(ready.logistic.nulls, ready.environments, ready.ratios, strict=True)
        for null, e, ratio in prepared:
            with one_blas_thread():
                found = cross_cases(null, X, X * e, own=self.own, ratio=ratio)
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
            found: Columns = whole.found[k]
            nothing = np.full(len(found["main"]), np.nan)
            _, mean, sd = self.environment(group.W, trait.names, trait.name)
            log10_p = {
                "wald": log10_chi2_tail((found["product"] / found["product_error"]) ** 2),
                "lrt": log10_chi2_tail(found["lrt"]),
                "score": log10_chi2_tail(found["score"]),
                "spa": found["log10_spa"],
            }
            extra = of_variant(found, mean, sd) | {
                "p_joint_spa": 10.0 ** found["log10_joint"],
                "neg_log10_p_joint_spa": 0.0 - found["log10_joint"],
            }
            extra |= of_cases(found)
            made[trait.name] = TraitScan(
                trait, null, whole.n, whole.n_missing, whole.frequency, whole.info,
                found["product"] / sd, found["product_error"] / sd, nothing, nothing, log10_p,
                found["lrt"], whole.status[k], np.inf, "spa", extra, kind="interaction",
            )  # fmt: skip
        return made
