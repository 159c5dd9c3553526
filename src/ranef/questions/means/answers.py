"""The answers: marginal means, their contrasts, joint tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Summary
from ranef.display.numbers import number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import ModelError
from ranef.families import Multinomial
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.wald import Intervals
from ranef.questions.means import numbers
from ranef.questions.means.contrast_matrices import contrast_matrix
from ranef.questions.means.contrasting import contrasts_of
from ranef.questions.means.letters import compact_letters
from ranef.questions.means.numbers import joint_test, row_basis
from ranef.questions.means.picture import draw, draw_contrasts
from ranef.questions.means.specs import names_of
from ranef.questions.means.table import ContrastTable, MeansTable
from ranef.questions.means.words import ADJUSTED, degrees_words, interval_words, row_of, table_of
from ranef.tables import make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Contrasts", "JointTests", "MarginalMeans"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class MarginalMeans(MeansTable):
    """Marginal means; `ranef.emmeans` makes them, and `ranef.emtrends` slopes.

    Attributes
    ----------
    comparisons : Contrasts or None
        Those asked for with the means, ``"pairwise ~ a"``.
    """

    comparisons: Contrasts | None = None

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
        return make_table(
            {**self.cell_columns, **table_of(self.intervals, tested)},
            self.source.asked.fit.frame.library,
        )

    def contrasts(
        self,
        method: Any = "pairwise",
        *,
        by: Any = None,
        simple: Any = None,
        interaction: Any = None,
        ref: Any = None,
        adjust: str | None = None,
        compare: str | None = None,
        conf_level: float | None = None,
        rng: Any = None,
    ) -> Contrasts:
        """Compare the means, see `ranef.contrasts`."""
        return contrasts_of(
            Contrasts,
            self,
            method,
            by=by,
            simple=simple,
            interaction=interaction,
            ref=ref,
            adjust=adjust,
            compare=compare,
            conf_level=conf_level,
            rng=rng,
        )

    def joint_tests(self, *, by: Any = None) -> JointTests:
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
        split = names_of("by", by) or self.by
        rest, families = self.regrouped(split)
        if not rest:
            raise ModelError("there is nothing to test: every predictor of the table is in by")
        scale = float(np.abs(self.functions.jacobian).max(initial=0.0))
        rows: list[tuple[str, int, Any]] = []
        whole = self._log_odds(rest)
        varied = [name for name in rest if name != whole]
        for size in range(1, len(varied) + 1):
            for term in combinations(varied, size):
                C = self._effect(rest, term, whole)
                for own in families:
                    found = joint_test(
                        self.functions.taken(own).combined(C), self.source.knowledge, scale
                    )
                    if found is not None:
                        rows.append((":".join(term), int(own[0]), found))
        return JointTests(self, tuple(split), tuple(rows))

    def _log_odds(self, rest: Sequence[str]) -> str | None:
        """The response among the predictors, where means are log odds against its first category.

        Their average over categories would depend on which is the first, so that an effect
        is tested on all of them at once.
        """
        asked, category = self.source.asked, self.source.category
        odds = isinstance(asked.fit.family, Multinomial) and asked.what.type == "link"
        return category if odds and category in rest else None

    def _effect(self, rest: Sequence[str], term: Sequence[str], whole: str | None) -> Floats:
        """Contrasts of a term, orthonormal along its predictors, means along the others;
        along `whole` all there is.
        """
        C: Floats = np.ones((1, 1))
        for name in rest:
            levels = [str(i) for i in range(len(self.levels(name)))]
            k = len(levels)
            own = np.ones((1, k)) / k
            if name == whole:
                own = np.eye(k)
            elif name in term:
                own = row_basis(contrast_matrix("consecutive", levels).C)
            C = np.asarray(np.kron(own, C), dtype=np.float64)
        return C

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
        found = self.contrasts("pairwise", adjust=adjust, by=by, conf_level=1 - alpha)
        out = np.full(len(self.functions.value), "", dtype=object)
        p = found.examined.found.p_value
        at = 0
        for own in self.regrouped(found.by)[1]:
            pairs = len(own) * (len(own) - 1) // 2
            estimate = self.examined.found.estimate[own]
            out[own] = compact_letters(estimate, p[at : at + pairs], alpha)
            at += pairs
        table = {**self.cell_columns, **table_of(self.intervals, False), "letters": list(out)}
        return make_table(table, self.source.asked.fit.frame.library)

    def plot(
        self,
        kind: str = "means",
        *,
        x: str | None = None,
        trace: str | None = None,
        arrows: bool = True,
        alpha: float = 0.05,
        adjust: str | None = None,
        intervals: bool = True,
        ax: Axes | None = None,
        figure: Figure | None = None,
    ) -> Any:
        """Draw the means.

        Parameters
        ----------
        kind : {"means", "interaction"}
            A row each with interval and comparison arrow; or lines along one predictor.
        x, trace : str, optional
            Of the interaction: along the axis, and the predictor that has a line for
            each level; the first and the second without them.
        arrows : bool
            With arrows: two means differ at level `alpha` if theirs do not overlap.
        alpha : float
        adjust : str, optional
            Of the comparisons; Tukey's.
        intervals : bool
            With confidence intervals.
        ax : matplotlib Axes, optional
        figure : matplotlib Figure, optional
            An empty figure to use instead; it is resized.

        Returns
        -------
        matplotlib Axes, or an array of them where `by` splits the picture
        """
        kind = arguments.choice("kind", kind, ("means", "interaction"))
        return draw(self, kind, x, trace, arrows, alpha, adjust, intervals, ax, figure)

    def summary(self) -> Summary:
        """Return the means in words and a table."""
        header = (*self.cell_columns, *_header(self))
        found = self.intervals
        labels = [[_text(v) for v in values] for values in self.cell_columns.values()]
        rows = tuple(
            (*(column[j] for column in labels), *_row(found, j, self.slopes))
            for j in range(len(found.estimate))
        )
        caption = self.quantity[0].upper() + self.quantity[1:]
        table = TextTable(caption, header, rows, len(labels))
        words = (*self.notes, *self._interval_notes())
        parts: tuple[Paragraph | TextTable, ...] = (table, Paragraph(words))
        if self.comparisons is not None:
            parts = (*parts, *self.comparisons.summary().page.parts)
        title = "Slopes" if self.slopes else "Marginal means"
        return Summary(Page(f"{title}: {self.source.asked.fit.formula}", parts))

    def _interval_notes(self) -> tuple[str, ...]:
        lines = [
            f"{degrees_words(self.source)}; "
            f"{interval_words(self.examined, self.conf_level, self.link)}"
        ]
        if not self.functions.estimable.all():
            lines.append(
                "Empty rows cannot be estimated: no data determine them (a combination of levels "
                "without rows)."
            )
        return tuple(lines)

    def __len__(self) -> int:
        return len(self.functions.value)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@dataclass(frozen=True, eq=False, repr=False)
class Contrasts(ContrastTable):
    """Comparisons of marginal means; `ranef.contrasts` makes them."""

    def tidy(self) -> Any:
        """Return the contrasts as a table.

        Returns
        -------
        table
            ``contrast`` (or one column for each predictor of an interaction), the
            predictors of `by`, ``estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``. Ratios are tested against 1.
        """
        columns = {**self.columns, **table_of(self.intervals, True)}
        return make_table(columns, self.means.source.asked.fit.frame.library)

    def joint_test(self) -> Any:
        """Test all contrasts of each level of `by` at once.

        Returns
        -------
        table
            The predictors of `by`, ``df1, df2, statistic, p_value``.
        """
        scale = float(np.abs(self.functions.jacobian).max(initial=0.0))
        knowledge = self.means.source.knowledge
        basis = numbers.row_basis(self.matrix) @ np.linalg.pinv(self.matrix)
        found = [
            numbers.joint_test(self.functions.taken(own).combined(basis), knowledge, scale)
            for own in self.families
        ]
        columns: dict[str, Any] = {
            name: [self.columns[name][own[0]] for own in self.families] for name in self.by
        }
        for name in ("df1", "df2", "statistic", "p_value"):
            columns[name] = np.array([np.nan if t is None else getattr(t, name) for t in found])
        return make_table(columns, self.means.source.asked.fit.frame.library)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Any:
        """Draw the contrasts with their intervals, and a line where there is no difference.

        Returns
        -------
        matplotlib Axes, or an array of them with a panel for each level of `by`

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> ranef.contrasts(fit, "Type").plot().get_xlabel()
        'Difference: mean of effort, 95% intervals'
        """
        return draw_contrasts(self, ax, figure)

    def summary(self) -> Summary:
        """Return the contrasts in words and a table."""
        percent = f"{100 * self.conf_level:g}%"
        header = (
            *self.columns,
            *("estimate", "std_error", "df", "statistic", "p"),
            *(f"{percent} low", f"{percent} high"),
        )
        found = self.intervals
        texts = [[_text(v) for v in values] for values in self.columns.values()]
        rows = tuple(
            (*(column[j] for column in texts), *row_of(found, j, True))
            for j in range(len(found.estimate))
        )
        caption = f"{self.quantity[0].upper()}{self.quantity[1:]}: {self.means.quantity}"
        table = TextTable(caption, header, rows, len(texts))
        title = f"Contrasts: {self.means.source.asked.fit.formula}"
        return Summary(Page(title, (table, Paragraph(self._notes()))))

    def _notes(self) -> tuple[str, ...]:
        lines = [*self.means.notes, f"{degrees_words(self.means.source)}; {self._adjusted()}"]
        lines.append(interval_words(self.examined, self.conf_level, self.link))
        if self.link != "identity":
            lines.append("Ratios are tested against 1, on the scale of the log.")
        if not self.functions.estimable.all():
            lines.append("Empty rows cannot be estimated: no data determine them.")
        return tuple(lines)

    def _adjusted(self) -> str:
        methods = {made.method for made in self.examined.adjusted} - {"none"}
        if not methods:
            return "p-values not adjusted."
        size = max(len(own) for own in self.families)
        named = " and ".join(ADJUSTED[name] for name in sorted(methods))
        within = " in each level of " + " and ".join(self.by) if self.by else ""
        count = f"{self.compared} means" if methods == {"tukey"} else f"{size} tests"
        error = max(made.error for made in self.examined.adjusted)
        stated = f" (standard error of the integral {error:.1g})" if error else ""
        instead = ""
        if self.adjust == "tukey" and "sidak" in methods:
            instead = "; Tukey's is for all pairs of means alone"
        return f"p-values adjusted for {count}{within} by {named}{stated}{instead}."

    def __len__(self) -> int:
        return len(self.functions.value)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


@dataclass(frozen=True, eq=False, repr=False)
class JointTests:
    """Joint tests of main effects and interactions; `MarginalMeans.joint_tests` makes them.

    Attributes
    ----------
    means : MarginalMeans
    by : tuple of str
    rows : tuple of (term, row of the means that shows the levels of `by`, FTest)
    """

    means: MarginalMeans
    by: tuple[str, ...]
    rows: tuple[tuple[str, int, Any], ...]

    def tidy(self) -> Any:
        """Return ``term``, the predictors of `by`, ``df1, df2, statistic, p_value``."""
        columns: dict[str, Any] = {"term": [term for term, _, _ in self.rows]}
        for name in self.by:
            columns[name] = [self.means.cells[name][j] for _, j, _ in self.rows]
        for name, of in (("df1", "df1"), ("df2", "df2"), ("statistic",) * 2, ("p_value",) * 2):
            columns[name] = np.array([getattr(found, of) for _, _, found in self.rows])
        return make_table(columns, self.means.source.asked.fit.frame.library)

    def summary(self) -> Summary:
        """Return the tests in words and a table."""
        header = ("term", *self.by, "df1", "df2", "F", "p")
        rows = tuple(
            (
                term,
                *(_text(self.means.cells[name][j]) for name in self.by),
                str(found.df1),
                number(found.df2, 1),
                number(found.statistic, 3),
                p_value(found.p_value),
            )
            for term, j, found in self.rows
        )
        table = TextTable("Joint tests of marginal means", header, rows, 1 + len(self.by))
        lines = (f"{degrees_words(self.means.source)}.", *self.means.notes)
        if not self.means.functions.estimable.all():
            lines = (
                *lines,
                "Where cells have no rows, of that part of an effect which data determine.",
            )
        title = f"Joint tests: {self.means.source.asked.fit.formula}"
        return Summary(Page(title, (table, Paragraph(lines))))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


# --- words of the table


def _header(means: MarginalMeans) -> tuple[str, ...]:
    percent = f"{100 * means.conf_level:g}%"
    tested = ("statistic", "p") if means.slopes else ()
    return ("estimate", "std_error", "df", *tested, f"{percent} low", f"{percent} high")


def _row(found: Intervals, j: int, tested: bool) -> tuple[str, ...]:
    return row_of(found, j, tested)


def _text(value: Any) -> str:
    return shown_level(value) if not isinstance(value, float) else f"{value:.6g}"
