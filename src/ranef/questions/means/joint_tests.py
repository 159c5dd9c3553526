"""Joint tests of main effects and interactions of marginal means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.answer import Answer
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue
from ranef.errors import ModelError
from ranef.families import Multinomial
from ranef.inference.coefficients.functions import Functions, Knowledge
from ranef.inference.coefficients.wald import FTest
from ranef.questions.means.contrast_matrices import contrast_matrix
from ranef.questions.means.numbers import joint_test, row_basis
from ranef.questions.means.specs import names_of
from ranef.questions.means.table import MeansTable
from ranef.questions.means.words import degrees_words

__all__ = ["JointTests", "joint_test_columns", "joint_tests_by_family", "joint_tests_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class EffectTest:
    """The test of one effect, at the levels of `by` that a row of the means has."""

    term: str
    row: int
    test: FTest


@dataclass(frozen=True, eq=False, repr=False)
class JointTests(Answer):
    """Joint tests of main effects and interactions; `MarginalMeans.joint_tests` makes them.

    Attributes
    ----------
    means : MarginalMeans
    by : tuple of str
    tests : tuple of EffectTest
    """

    means: MeansTable
    by: tuple[str, ...]
    tests: tuple[EffectTest, ...]

    @property
    def title(self) -> str:
        return f"Joint tests: {self.means.grid.fit.formula}"

    @property
    def library(self) -> str:
        return self.means.grid.fit.frame.library

    def tidy(self) -> Any:
        """Return ``term``, the predictors of `by`, ``df1, df2, statistic, p_value``."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        split = [Column(n, [self.means.cells[n][t.row] for t in self.tests]) for n in self.by]
        columns = (
            Column("term", [t.term for t in self.tests]),
            *split,
            *joint_test_columns([t.test for t in self.tests]),
        )
        return (Listing("tests", columns, "Joint tests of marginal means", 1 + len(split)),)

    def sentences(self) -> tuple[str, ...]:
        words = degrees_words(self.means.grid).replace("By t tests", "By F tests")
        lines = (f"{words}.", *self.means.notes)
        if self.means.functions.estimable.all():
            return lines
        return (
            *lines,
            "Where cells have no rows, of that part of an effect which data determine.",
        )


def joint_test_columns(tests: Sequence[FTest | None]) -> list[Column]:
    """State the columns of joint tests; NaN where there is nothing to test."""
    styles = {"df1": Fixed(0), "df2": Degrees(), "statistic": Fixed(3), "p_value": PValue()}
    heads = {"statistic": "F", "p_value": "p"}
    return [
        Column(
            name,
            np.array([np.nan if test is None else getattr(test, name) for test in tests]),
            style,
            heads.get(name),
        )
        for name, style in styles.items()
    ]


def joint_tests_by_family(
    functions: Functions, families: Sequence[Ints], C: Floats, knowledge: Knowledge
) -> list[FTest | None]:
    """Test the linear functions C of the rows of each family, all at once."""
    scale = float(np.abs(functions.jacobian).max(initial=0.0))
    return [joint_test(functions.taken(rows).combined(C), knowledge, scale) for rows in families]


def joint_tests_of(means: MeansTable, *, by: Any = None) -> JointTests:
    """Test each main effect and interaction of the predictors, all contrasts at once.

    Effects of means on this grid, averaged with equal weights over its other
    predictors: a covariate that interacts counts at the value it stands at.

    Parameters
    ----------
    by : str or list of str, optional
        Test within each level of these.

    Returns
    -------
    JointTests

    Examples
    --------
    >>> import ranef
    >>> oats = ranef.data.load("Oats")
    >>> fit = ranef.lmm("yield ~ Variety * factor(nitro) + (1 | Block/Variety)", oats)
    >>> ranef.emmeans(fit, ["Variety", "nitro"]).joint_tests().tidy().round(3)
                term  df1   df2  statistic  p_value
    0        Variety    2  10.0      1.485    0.272
    1          nitro    3  45.0     37.686    0.000
    2  Variety:nitro    6  45.0      0.303    0.932
    """
    split = names_of("by", by) or means.by
    rest, families = means.regrouped(split)
    if not rest:
        raise ModelError("there is nothing to test: every predictor of the table is in by")
    whole = _log_odds(means, rest)
    varied = [name for name in rest if name != whole]
    sizes = range(1, len(varied) + 1)
    tests = []
    for term in chain.from_iterable(combinations(varied, size) for size in sizes):
        C = _effect(means, rest, term, whole)
        of_family = joint_tests_by_family(means.functions, families, C, means.grid.knowledge)
        tests += [
            EffectTest(":".join(term), int(rows[0]), test)
            for rows, test in zip(families, of_family, strict=True)
            if test is not None
        ]
    return JointTests(means, tuple(split), tuple(tests))


def _log_odds(means: MeansTable, rest: Sequence[str]) -> str | None:
    """The response among the predictors, where means are log odds against its first category.

    Their average over categories would depend on which is the first, so that an effect
    is tested on all of them at once.
    """
    category = means.grid.category
    odds = isinstance(means.grid.fit.family, Multinomial) and means.grid.estimand.type == "link"
    return category if odds and category in rest else None


def _effect(
    means: MeansTable, rest: Sequence[str], term: Sequence[str], whole: str | None
) -> Floats:
    """Contrasts of a term, orthonormal along its predictors, means along the others;
    along `whole` all there is.
    """
    C: Floats = np.ones((1, 1))
    for name in rest:
        levels = [str(i) for i in range(len(means.levels(name)))]
        k = len(levels)
        along = np.ones((1, k)) / k
        if name == whole:
            along = np.eye(k)
        elif name in term:
            along = row_basis(contrast_matrix("consecutive", levels).C)
        C = np.asarray(np.kron(along, C), dtype=np.float64)
    return C
