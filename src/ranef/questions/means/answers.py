"""The answer of `emmeans` and `emtrends`: marginal means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import arguments
from ranef.description.parameter_tables import ESTIMATES, TESTED_ESTIMATES, estimate_columns
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Listing
from ranef.errors import ModelError
from ranef.formula.labels import list_text
from ranef.questions.means.comparisons import Contrasts, contrasts_of
from ranef.questions.means.joint_tests import joint_tests_of
from ranef.questions.means.letters import compact_letters
from ranef.questions.means.picture import draw
from ranef.questions.means.table import MeansTable
from ranef.questions.means.words import degrees_words, interval_words

__all__ = ["MarginalMeans"]


@dataclass(frozen=True, eq=False, repr=False)
class MarginalMeans(MeansTable, Answer):
    """Marginal means; `ranef.emmeans` makes them, and `ranef.emtrends` slopes.

    Attributes
    ----------
    comparisons : Contrasts or None
        Those asked for with the means, ``"pairwise ~ a"``.
    """

    comparisons: Contrasts | None = None

    @property
    def title(self) -> str:
        what = "Slopes" if self.slopes else "Marginal means"
        return f"{what}: {self.grid.fit.formula}"

    @property
    def library(self) -> str:
        return self.grid.fit.frame.library

    contrasts = contrasts_of
    joint_tests = joint_tests_of
    plot = draw

    def tidy(self, *, tests: bool | None = None) -> Any:
        """Return the means as a table.

        Parameters
        ----------
        tests : bool, optional
            Add tests against zero (of the linear predictor); slopes have them unless
            this is False.

        Returns
        -------
        table
            A column for each predictor, then ``estimate, std_error, df, conf_low,
            conf_high``; with tests ``statistic, p_value`` after ``df``.
        """
        tested = self.slopes if tests is None else arguments.flag("tests", tests)
        return self.tabled(self._listing(tested))

    def tables(self) -> tuple[Listing, ...]:
        return (self._listing(self.slopes),)

    def _listing(self, tested: bool, *further: Column) -> Listing:
        labels = [Column(n, v) for n, v in (self.cells or {"term": ["overall"]}).items()]
        names = TESTED_ESTIMATES if tested else ESTIMATES
        estimates = estimate_columns(self.intervals, self.conf_level, names)
        caption = self.quantity[0].upper() + self.quantity[1:]
        return Listing("means", (*labels, *estimates, *further), caption, len(labels))

    def sentences(self) -> tuple[str, ...]:
        intervals = interval_words(self.tests, self.conf_level, self.link)
        lines = (*self.notes, f"{degrees_words(self.grid)}; {intervals}")
        if (np.isnan(self.intervals.estimate) & self.functions.estimable).any():
            beyond = f"Empty rows lie beyond the values that {self.grid.fit.response} takes."
            lines = (*lines, beyond)
        if self.functions.estimable.all():
            return lines
        fit, parts = self.grid.fit, self.grid.estimand.parts
        named = [c for part in parts if part in fit.parts for c in fit.parts[part].dropped_columns]
        left_out = f" The fixed effects left out {list_text(named)}." if named else ""
        return (
            *lines,
            "Empty rows cannot be estimated: no data determine them (a combination of levels "
            f"without rows).{left_out}",
        )

    def body(self) -> Iterable[Part]:
        yield from super().body()
        if self.comparisons is not None:
            yield from self.comparisons.body()

    def letters(self, *, alpha: float = 0.05, adjust: str | None = None, by: Any = None) -> Any:
        """Return the means with letters: those that share one are not told apart.

        Means without a common letter differ at level `alpha`. The converse is no
        finding of equality.

        Parameters
        ----------
        alpha : float
        adjust : str, optional
            Of the pairwise tests; Tukey's.
        by : str or list of str, optional

        Returns
        -------
        table
            As `tidy`, with ``letters``.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> ranef.emmeans(fit, "Type").letters()[["Type", "estimate", "letters"]].round(2)
          Type  estimate letters
        0   T1      8.56       a
        1   T2     12.44       c
        2   T3     10.78       b
        3   T4      9.22       a
        """
        if not 0.0 < alpha < 1.0:
            raise ModelError(f"alpha must lie between 0 and 1, not {alpha!r}")
        pairs = self.contrasts("pairwise", adjust=adjust, by=by, conf_level=1 - alpha)
        estimate, p_value = self.tests.intervals.estimate, pairs.tests.intervals.p_value
        letters = np.full(len(self), "", dtype=object)
        for rows, tests in zip(self.regrouped(pairs.by)[1], pairs.families, strict=True):
            letters[rows] = compact_letters(estimate[rows], p_value[tests], alpha)
        return self.tabled(self._listing(False, Column("letters", list(letters))))
