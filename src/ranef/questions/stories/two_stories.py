"""`two_stories`: a pooled regression beside the two slopes that it mixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.decomposition import grouping_node
from ranef.design.group_functions import grouping
from ranef.design.specify import specify
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Degrees, Fixed, Listing, PValue, Sized, Written
from ranef.display.numbers import number
from ranef.errors import DataError, ModelError, UnknownColumnError, shortened, suggestion
from ranef.formula.syntax import Name
from ranef.inference.coefficients.wald import Intervals, wald
from ranef.inference.kinds import inference_of
from ranef.inference.rows.group_means import variance_between
from ranef.models.linear import fit_lmm
from ranef.questions.stories import picture
from ranef.questions.stories.numbers import pooled
from ranef.tables import Table
from ranef.tables.concerns import concerns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["STORIES", "TwoStories", "two_stories"]

Floats = NDArray[np.float64]

STORIES = ("pooled", "within", "between", "contextual")
SOME = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class TwoStories(Answer):
    """Pooled, within, between and contextual slope side by side; `two_stories` makes it.

    Attributes
    ----------
    found : Intervals
        Of the four stories, in the order of `STORIES`.
    n_effective : (4,) float64 array
    share_between : float
        Weight of the slope between groups in the pooled one.
    x, y : (n,) float64 arrays
        The rows used.
    codes : (n,) int32 array
        Their groups.
    names : tuple of str
        Outcome, predictor and groups.
    conf_level : float
    notes : tuple of str
        What is to be known of the columns.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> rows = {"person": list("aaabbbcccddd"), "stress": [1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9],
    ...         "mood": [3.1, 2.0, 1.2, 5.0, 4.1, 2.9, 7.1, 6.0, 5.1, 8.9, 8.1, 7.0]}
    >>> both = ranef.two_stories(rows, "mood", "stress", by="person")
    >>> both.reversed
    True
    >>> both.tidy()[["story", "estimate"]].round(2)
            story  estimate
    0      pooled      0.76
    1      within     -0.99
    2     between      0.99
    3  contextual      1.98
    """

    found: Intervals
    n_effective: Floats
    share_between: float
    x: Floats
    y: Floats
    codes: NDArray[np.int32]
    names: tuple[str, str, str]
    conf_level: float
    title: str
    library: str
    notes: tuple[str, ...] = ()

    @property
    def reversed(self) -> bool:
        """Whether the slopes within and between groups have opposite signs."""
        _, within, between, _ = self.found.estimate
        return bool(within * between < 0)

    def tidy(self) -> Any:
        """Return a table.

        Columns ``story, estimate, std_error, df, statistic, p_value, conf_low, conf_high, n,
        n_effective``. `n` is the rows, `n_effective` what they are worth for that slope: of the
        pooled one the rows over the factor by which dependence inflates its variance, within
        groups the rows less the groups, between them the groups.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        found = self.found
        sized = Sized(found.std_error)
        columns = (
            Column("story", list(STORIES)),
            Column("estimate", found.estimate, sized),
            Column("std_error", found.std_error, sized, "std. error"),
            Column("df", found.df, Degrees(), printed=False),
            Column("statistic", found.statistic, Fixed(2), printed=False),
            Column("p_value", found.p_value, PValue(), "p"),
            Column("conf_low", found.conf_low, sized, f"{percent(self.conf_level)} low"),
            Column("conf_high", found.conf_high, sized, "high"),
            Column("n", np.full(4, len(self.x)), printed=False),
            Column("n_effective", self.n_effective, Written("{:,.0f}".format), "effective n"),
        )
        outcome, predictor, _ = self.names
        return (Listing("stories", columns, f"Slope of {outcome} on {predictor}"),)

    def sentences(self) -> tuple[str, ...]:
        outcome, predictor, group = self.names
        pooled_slope, within, between, _ = self.found.estimate
        said = [
            f"Within {group}: where {predictor} is one unit above the mean of its {group}, "
            f"{outcome} is {_higher(within)}.",
            f"Between {group}: where the mean of {predictor} is one unit higher, the mean of "
            f"{outcome} is {_higher(between)}.",
            f"The pooled slope, {number(pooled_slope, 2)}, answers neither question: it is a "
            f"weighted average of the two, with weight {number(self.share_between, 2)} on the "
            f"slope between, the share of the variation of {predictor} that lies between. Its "
            f"standard error treats {len(self.x):,} rows as independent; the effective number is "
            f"{self.n_effective[0]:,.0f}.",
        ]
        if self.reversed:
            low, high = self.found.conf_low, self.found.conf_high
            sure = bool(np.all((low[1:3] > 0) | (high[1:3] < 0)))
            said.append(
                "The two stories have opposite signs"
                + ("." if sure else ", though an interval includes zero.")
                + " What holds between is no advice to anyone within."
            )
        said.append("The contextual effect is the between slope minus the within slope.")
        return (*said, *self.notes)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the rows, the slope within, the slope between and the pooled one.

        Examples
        --------
        >>> import ranef
        >>> sleep = ranef.data.load("sleepstudy")
        >>> both = ranef.two_stories(sleep.assign(late=sleep.Days + sleep.index / 18),
        ...                          "Reaction", "late", by="Subject")
        >>> both.plot().get_xlabel()
        'late'
        """
        return picture.stories(self, ax=ax, figure=figure)


def two_stories(
    data: Any, outcome: str, predictor: str, *, by: str, conf_level: float = 0.95
) -> TwoStories:
    """Set a pooled regression beside the two slopes that it mixes.

    People who are more stressed than others may be in a worse mood than others, or in a better
    one; a person who is more stressed than usual is another matter. A regression of all rows
    gives one slope for both. The slopes within and between groups are those of the mixed model
    ``outcome ~ within(predictor, by) + between(predictor, by) + (1 | by)`` by REML, with
    Satterthwaite's degrees of freedom.

    Parameters
    ----------
    data : table
    outcome, predictor, by : str
        Columns: numbers, numbers, groups.
    conf_level : float

    Returns
    -------
    TwoStories

    Raises
    ------
    ranef.errors.ModelError
        The predictor does not vary within groups, or not between their means.
    ranef.errors.DataError
        No row has both a predictor and a group.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> ranef.two_stories(sleep, "Reaction", "Days", by="Subject")
    Traceback (most recent call last):
    ranef.errors.ModelError: Days does not vary between the means of Subject: its raw slope is ...
    """
    level = arguments.conf_level(conf_level)
    table = Table.of(data)
    y, x = (_column(table, name, what) for name, what in
            ((outcome, "outcome"), (predictor, "predictor")))  # fmt: skip
    node = grouping_node(by, table.columns)
    if len(grouping(node)) > 1 or grouping(node)[0].around is not None:
        raise ModelError("two_stories() takes one grouping factor; decompose() takes several")
    group = node.printed
    _refuse_constant(table, predictor, by)
    parts = [f"{part}({x.printed}, {group})" for part in ("within", "between")]
    spec = specify(f"{y.printed} ~ {' + '.join(parts)} + (1 | {group})", table)
    model = inference_of(fit_lmm(spec))
    L = np.array([[0.0, 1, 0], [0, 0, 1], [0, -1, 1]])
    knowledge = model.knowledge()
    error = np.sqrt(np.sum(L @ knowledge.covariance * L, axis=1))
    slopes = wald(L @ model.estimate.beta, error, knowledge.degrees(L), level)
    raw = spec.X[:, 1] + spec.X[:, 2]
    codes = spec.factors[0].codes
    rows, groups = spec.n, spec.factors[0].n_levels
    flat = pooled(spec.y, raw, codes)
    naive = wald(np.array([flat.slope]), np.array([flat.std_error]), np.array([flat.df]), level)
    found = Intervals(
        *(np.append(a, b) for a, b in zip(vars(naive).values(), vars(slopes).values(), strict=True))
    )
    return TwoStories(
        found=found,
        n_effective=np.array([flat.n_effective, rows - groups, groups, groups]),
        share_between=flat.share_between,
        x=raw,
        y=spec.y,
        codes=codes,
        names=(outcome, predictor, by),
        conf_level=level,
        title=f"Two stories of {outcome} and {predictor}, by {by}",
        library=table.library,
        notes=concerns(table.snapshot((outcome, predictor, *node.named)), (outcome,), None),
    )


def _higher(slope: float) -> str:
    return f"{number(abs(slope), 2)} {'higher' if slope >= 0 else 'lower'}"


def _column(table: Table, name: Any, what: str) -> Name:
    if not isinstance(name, str):
        raise ModelError(f"{what} names one column, not {shortened(name)}")
    if name not in table:
        raise UnknownColumnError(
            f"no column {name!r} for {what}{suggestion(str(name), table.columns)}"
        )
    return Name(name)


def _refuse_constant(table: Table, predictor: str, by: str) -> None:
    """Refuse a predictor that tells one story only."""
    x = table.numeric(predictor)
    codes, _ = table.codes(by) if by in table else (None, None)
    if codes is None:
        return
    rows = (codes >= 0) & ~np.isnan(x)
    if not rows.any():
        raise DataError(f"no row has both {predictor} and {by}")
    _, dense = np.unique(codes[rows], return_inverse=True)
    if np.ptp(x[rows]) == 0.0:
        raise ModelError(
            f"{predictor} is {x[rows][0]:g} in every row: it has no slope, neither within {by} nor "
            "between"
        )
    within, between, _ = variance_between(x[rows], dense.astype(np.int32))
    if within <= SOME * (within + between):
        raise ModelError(
            f"{predictor} does not vary within {by}: it has a slope between levels only, the "
            f"coefficient of {predictor} in ranef.lmm"
        )
    if between <= SOME * (within + between):
        raise ModelError(
            f"{predictor} does not vary between the means of {by}: its raw slope is the one within"
        )
