"""The ways in which a scan tests variants: what is fitted without one, tested, and reported.

A way prepares a relationship once for all variants of a lot, tests stretches of them, and makes
the results of its traits of the parts. `Exactly` is that of Gaussian traits; the others have
files of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.fields.gwas.engine import (
    Group,
    Part,
    Ready,
    Settings,
    Stretch,
    Tester,
    ready_of,
    stretch_of,
    test_exactly,
)
from ranef.fields.gwas.genotypes import Genotypes
from ranef.fields.gwas.profiles import Found
from ranef.fields.gwas.results import TraitScan, Words, log10_p_of
from ranef.fields.gwas.spectrum import NullFit

__all__ = ["Exactly", "Stretched", "Way"]

Floats = NDArray[np.float64]


class Way(Tester, Protocol):
    """A tester that also says what it found."""

    def empty(self, m: int) -> Any:
        """Nothing found yet of m variants."""

    @property
    def words(self) -> Words:
        """How it is said."""

    def names(self, group: Group) -> Sequence[str]:
        """Names of the results of a group."""

    def nulls(self, ready: Any) -> list[Any]:
        """Models without a variant."""

    def results(self, group: Group, nulls: Sequence[Any], whole: Part) -> dict[str, TraitScan]:
        """Make the results of all variants."""


class Stretched(ABC):
    """A way that reads a span of variants first, and tests what is left of it."""

    def test(
        self,
        source: Genotypes,
        group: Group,
        ready: Any,
        wanted: NDArray[np.bool_],
        settings: Settings,
        span: tuple[int, int],
    ) -> Part:
        """Test the variants of a span."""
        return self.judged(stretch_of(source, group, wanted, settings, span), ready, settings)

    @abstractmethod
    def judged(self, stretch: Stretch, ready: Any, settings: Settings) -> Part:
        """Test the variants of a stretch."""

    def names(self, group: Group) -> list[str]:
        """Names of the traits."""
        return [trait.name for trait in group.traits]


@dataclass(frozen=True)
class Exactly(Stretched):
    """Gaussian traits in turn, each variant with its own variance ratio (`profiles`).

    Attributes
    ----------
    own : bool
        Whether it is its own, or the null model's.
    """

    own: bool = True

    def empty(self, m: int) -> Found:
        return Found.empty(m)

    @property
    def words(self) -> Words:
        """How it is said."""
        ratio = "each variant has its own variance ratio" if self.own else (
            "all variants have the null model's variance ratio (P3D)")  # fmt: skip
        return Words("Mixed model", "Ordinary least squares, no relationship", ratio)

    def ready(self, group: Group, K: Any, settings: Settings) -> Ready:
        return ready_of(group, K, settings)

    def judged(self, stretch: Stretch, ready: Ready, settings: Settings) -> Part:
        return test_exactly(stretch, ready, settings)

    def nulls(self, ready: Ready) -> list[NullFit]:
        return [prepared.null for prepared in ready[1]]

    def results(self, group: Group, nulls: Sequence[NullFit], whole: Part) -> dict[str, TraitScan]:
        made = {}
        for k, (trait, null) in enumerate(zip(group.traits, nulls, strict=True)):
            found: Found = whole.found[k]
            df = float(len(trait.y) - trait.W.shape[1] - 1)
            made[trait.name] = TraitScan(
                trait, null, whole.n, whole.n_missing, whole.frequency, whole.info, found.beta,
                found.std_error, np.exp(found.t_reml), np.exp(found.t_ml),
                log10_p_of(found.wald, found.lrt, found.score, df), found.lrt, whole.status[k], df,
            )  # fmt: skip
        return made
