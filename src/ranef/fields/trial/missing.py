"""`missing_patterns`: which responses of a trial are missing, by arm and visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import ACCENT, INK, MARK, MUTED, finish, label, on_axes, plain, told_apart
from ranef.display.columns import Column, Fixed, Level, Listing
from ranef.errors import (
    DataError,
    DataWarning,
    ModelError,
    UnknownColumnError,
    suggestion,
    warn,
)
from ranef.tables import Table
from ranef.tables.concerns import concerns
from ranef.tables.looks import counted_visits, reads_as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MissingPatterns", "missing_patterns"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

ALL = "all"
KINDS = ("complete", "left", "intermittent", "none")
"""Seen at all visits; at none after one; missed one and came back; seen at none."""
SEEN, MISSED = "x", "."
TABLES = ("visits", "patterns")
SHOWN = 3
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, eq=False, repr=False)
class MissingPatterns(Answer):
    """Missing responses of a trial by arm and visit; `missing_patterns` makes it.

    Attributes
    ----------
    observed : (subjects, visits) bool array
        Whether a subject has a response at a visit.
    subjects, visits : list
        Their labels.
    arm : (subjects,) int array
    arms : list
    outcome : str
    names : tuple of str
        Columns of arms, subjects and visits; the first is empty without arms.
    library : str
    notes : tuple of str
        What is to be known of the columns.

    Examples
    --------
    >>> import ranef
    >>> rows = {"id": [1, 1, 2, 2, 3], "visit": [1, 2, 1, 2, 1], "y": [3.0, 4.0, 2.0, None, 5.0]}
    >>> found = ranef.missing_patterns(rows, "y", subject="id", visit="visit")
    >>> found.tidy("patterns")[["pattern", "kind", "subjects"]]
      pattern      kind  subjects
    0      xx  complete         1
    1      x.      left         2
    """

    observed: Bools
    subjects: list[Any]
    visits: list[Any]
    arm: Ints
    arms: list[Any]
    outcome: str
    names: tuple[str, str, str]
    library: str
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"Missing responses: {self.outcome}"

    @property
    def kinds(self) -> NDArray[np.str_]:
        """Of each subject: ``"complete"``, ``"left"`` for good, ``"intermittent"``, ``"none"``."""
        seen = self.observed
        last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        kept = np.arange(seen.shape[1]) <= last[:, None]
        whole = np.all(seen | ~kept, axis=1)
        out = np.where(whole, "left", "intermittent")
        out[np.all(seen, axis=1)] = "complete"
        out[~np.any(seen, axis=1)] = "none"
        return out

    def tidy(self, table: str = "visits") -> Any:
        """Return a table.

        Parameters
        ----------
        table : {"visits", "patterns"}
            - ``"visits"``: ``arm, visit, subjects, observed, missing, percent_missing``;
            - ``"patterns"``: ``arm, pattern, kind, subjects, percent``, a letter ``x`` for each
              visit with a response and ``.`` for each without; `kind` is ``"complete"``,
              ``"left"`` (no response after the last one seen), ``"intermittent"`` or ``"none"``.

            Without arms the first column is left out; with arms the last rows are all together.
        """
        return self.tabled(self.listing(arguments.choice("table", table, TABLES)))

    def tables(self) -> tuple[Listing, ...]:
        return self._visits(), self._patterns()

    @property
    def _groups(self) -> list[tuple[Any, Bools]]:
        """Arms, then all subjects."""
        everyone = np.ones(len(self.subjects), dtype=np.bool_)
        if not self.names[0]:
            return [(ALL, everyone)]
        return [*((own, self.arm == a) for a, own in enumerate(self.arms)), (ALL, everyone)]

    def _arm_column(self, labels: list[Any]) -> tuple[Column, ...]:
        return (Column(self.names[0], labels, Level()),) if self.names[0] else ()

    def _visits(self) -> Listing:
        groups, r = self._groups, len(self.visits)
        n = [int(rows.sum()) for _, rows in groups for _ in range(r)]
        seen = [int(k) for _, rows in groups for k in self.observed[rows].sum(axis=0)]
        missing = [a - b for a, b in zip(n, seen, strict=True)]
        percent = [100.0 * m / a if a else np.nan for m, a in zip(missing, n, strict=True)]
        columns = (
            *self._arm_column([own for own, _ in groups for _ in range(r)]),
            Column(self.names[2], [v for _ in groups for v in self.visits], Level()),
            Column("subjects", n, Fixed(0)),
            Column("observed", seen, Fixed(0)),
            Column("missing", missing, Fixed(0)),
            Column("percent_missing", percent, Fixed(1), "% missing"),
        )
        return Listing("visits", columns, f"Responses of {self.outcome} by visit")

    def _patterns(self) -> Listing:
        patterns = np.array(["".join(SEEN if x else MISSED for x in row) for row in self.observed])
        kinds = self.kinds
        arms: list[Any] = []
        names, own_kinds, counts, percent = [], [], [], []
        for own, used in self._groups:
            found, first, times = np.unique(patterns[used], return_index=True, return_counts=True)
            rank = np.array([KINDS.index(kind) for kind in kinds[used][first]])
            for i in np.lexsort((found, -times, rank)):
                arms.append(own)
                names.append(str(found[i]))
                own_kinds.append(str(kinds[used][first[i]]))
                counts.append(int(times[i]))
                percent.append(100.0 * times[i] / used.sum())
        columns = (
            *self._arm_column(arms),
            Column("pattern", names),
            Column("kind", own_kinds),
            Column("subjects", counts, Fixed(0)),
            Column("percent", percent, Fixed(1), "%"),
        )
        return Listing("patterns", columns, f"Patterns over the visits ({SEEN} seen, {MISSED} not)")

    def sentences(self) -> tuple[str, ...]:
        kinds, n = self.kinds, len(self.subjects)
        counts = {kind: int(np.sum(kinds == kind)) for kind in KINDS}
        said = (
            f"Of {n:,} subjects {counts['complete']:,} have a response at every visit, "
            f"{counts['left']:,} left for good, {counts['intermittent']:,} missed a visit and came "
            f"back"
        )
        said += f", {counts['none']:,} have none." if counts["none"] else "."
        missing = 100.0 * float(np.mean(~self.observed))
        return (f"{said} {missing:.1f}% of the responses are missing.", *self.notes)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the share of subjects with a response at each visit, a line for each arm.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        figure : matplotlib Figure, optional
            An empty figure to use instead; it is resized.

        Examples
        --------
        >>> import ranef
        >>> rows = {"id": [1, 1, 2, 2], "week": [0, 4, 0, 4], "y": [3.0, 4.0, 2.0, None]}
        >>> found = ranef.missing_patterns(rows, "y", subject="id", visit="week")
        >>> found.plot().get_ylabel()
        '% of subjects'
        """
        panel = on_axes(ax, figure, 6.0, 3.8)
        groups = self._groups[:-1] or self._groups
        at = np.arange(len(self.visits))
        colours = (INK, ACCENT, MARK, MUTED)
        for k, (own, rows) in enumerate(groups):
            share = 100.0 * self.observed[rows].mean(axis=0)
            panel.plot(
                at, share, LINES[k % len(LINES)], color=colours[k % len(colours)], marker="o",
                markersize=4.0, linewidth=1.8, label=plain(own),
            )  # fmt: skip
        panel.set_xticks(at, told_apart(self.visits))
        panel.set_ylim(0, 103)
        if self.names[0]:
            panel.legend(title=plain(self.names[0]), frameon=False)
        label(panel, title="Responses by visit", x=plain(self.names[2]), y="% of subjects")
        finish(panel, grid="y")
        return panel


def missing_patterns(
    data: Any,
    outcome: str,
    *,
    subject: str,
    visit: str,
    arm: str | None = None,
    visits: Sequence[Any] | None = None,
) -> MissingPatterns:
    """Tabulate which responses of a trial are missing, by arm and visit.

    A response counts as missing where its row has no value, and where the subject has no row at
    a visit that others have.

    Parameters
    ----------
    data : table
        One row a subject and visit; rows of visits that did not take place may be absent.
    outcome : str
        The response.
    subject, visit : str
        Columns.
    arm : str, optional
        Column of the arms, the same in all rows of a subject.
    visits : sequence, optional
        The visits that were planned, in order; otherwise those of the table: a category in its
        own order, anything else sorted.

    Returns
    -------
    MissingPatterns
        Prints as text; ``tidy("visits")``, ``tidy("patterns")``, ``plot()``.

    Raises
    ------
    ranef.errors.DataError
        A subject has two rows at a visit or two arms, or a label is missing.

    Examples
    --------
    >>> import ranef
    >>> rows = {"id": [1, 1, 1, 2, 2, 3, 3], "week": [0, 4, 8, 0, 8, 0, 4],
    ...         "arm": ["drug", "drug", "drug", "drug", "drug", "control", "control"],
    ...         "score": [9.0, 7.0, 6.0, 8.0, 7.0, 9.0, 8.0]}
    >>> ranef.missing_patterns(rows, "score", subject="id", visit="week", arm="arm")
    Missing responses: score
    <BLANKLINE>
    Responses of score by visit
          arm  week  subjects  observed  missing  % missing
      control     0         1         1        0        0.0
      control     4         1         1        0        0.0
      control     8         1         0        1      100.0
      drug        0         2         2        0        0.0
      drug        4         2         1        1       50.0
      drug        8         2         2        0        0.0
      all         0         3         3        0        0.0
      all         4         3         2        1       33.3
      all         8         3         2        1       33.3
    <BLANKLINE>
    Patterns over the visits (x seen, . not)
          arm  pattern          kind  subjects      %
      control      xx.          left         1  100.0
      drug         xxx      complete         1   50.0
      drug         x.x  intermittent         1   50.0
      all          xxx      complete         1   33.3
      all          xx.          left         1   33.3
      all          x.x  intermittent         1   33.3
    <BLANKLINE>
    Of 3 subjects 1 have a response at every visit, 1 left for good, 1 missed a visit and came back.
    22.2% of the responses are missing.
    """
    table = Table.of(data)
    if not len(table):
        raise DataError("the table has no rows; was it filtered too far?")
    who, subjects = _labels(table, subject, "subject")
    when, places = _visits(table, visit, visits)
    answered = ~table.missing(_known(table, outcome, "outcome"))
    _refuse_marks(table, outcome)
    _refuse_twice(who, when, subjects, places, subject, visit)
    observed = np.zeros((len(subjects), len(places)), dtype=np.bool_)
    observed[who, when] = answered
    arms: list[Any] = []
    codes = np.zeros(len(subjects), dtype=np.intp)
    if arm is not None:
        own, arms = _labels(table, arm, "arm")
        codes[who] = own
        split = np.unique(who[codes[who] != own])
        if len(split):
            raise DataError(
                f"{arm} must be the same in all rows of a {subject}; it is not for "
                f"{_listed(subjects, split)}"
            )
    return MissingPatterns(
        observed=observed,
        subjects=subjects,
        visits=places,
        arm=codes,
        arms=arms,
        outcome=outcome,
        names=(arm or "", subject, visit),
        library=table.library,
        notes=concerns(
            table.snapshot(name for name in (arm, subject, visit, outcome) if name),
            (outcome,),
            None,
        ),
    )


def _known(table: Table, name: Any, what: str) -> str:
    if not isinstance(name, str) or name not in table:
        raise UnknownColumnError(
            f"no column {name!r} for {what}{suggestion(str(name), table.columns)}"
        )
    return name


def _labels(table: Table, name: str, what: str) -> tuple[Ints, list[Any]]:
    """Codes of a column without missing labels, and the labels that occur, in their order."""
    codes, levels = table.codes(_known(table, name, what))
    gone = int(np.sum(codes < 0))
    if gone:
        raise DataError(f"{what}={name!r} has no value in {gone:,} of {len(table):,} rows")
    used, dense = np.unique(codes, return_inverse=True)
    return dense.reshape(-1).astype(np.intp), [levels[k] for k in used.tolist()]


def _visits(table: Table, name: str, given: Sequence[Any] | None) -> tuple[Ints, list[Any]]:
    codes, places = _labels(table, name, "visit")
    if given is None:
        ordered = counted_visits(map(str, places)) if table.kind(name) == "text" else None
        if ordered is not None:
            warn(
                f"the visits of {name} are in alphabetical order, {', '.join(map(str, places))}, "
                f"and who left depends on it; state theirs: visits={ordered}",
                DataWarning,
            )
        return codes, places
    if isinstance(given, str) or not len(given) or len(set(given)) < len(given):
        raise ModelError("visits= is a list of the visits that were planned, each once")
    wanted = list(given)
    other = [v for v in places if v not in wanted]
    if other:
        raise DataError(f"{name} has visits that visits= does not name: {_listed(other)}")
    return np.array([wanted.index(v) for v in places], dtype=np.intp)[codes], wanted


def _refuse_marks(table: Table, outcome: str) -> None:
    """Refuse numbers among which words stand for none, which would count as responses."""
    if table.kind(outcome) != "text":
        return
    _, levels = table.codes(outcome)
    words = [level for level in levels if not reads_as_number(level)]
    if words and 2 * len(words) < len(levels):
        raise DataError(
            f"{outcome} holds numbers and text ({_listed(words)}): where the text stands for no "
            "response, make it missing, as pandas.to_numeric(..., errors='coerce') does"
        )


def _refuse_twice(
    who: Ints, when: Ints, subjects: list[Any], places: list[Any], subject: str, visit: str
) -> None:
    keys = who * len(places) + when
    found, counts = np.unique(keys, return_counts=True)
    twice = found[counts > 1]
    if len(twice):
        k, v = divmod(int(twice[0]), len(places))
        raise DataError(
            f"{len(twice):,} visits have more than one row: {subject} {subjects[k]} has "
            f"{int(counts[counts > 1][0])} at {visit} {places[v]}; leave one row each"
        )


def _listed(labels: list[Any], chosen: Ints | None = None) -> str:
    some = labels if chosen is None else [labels[k] for k in chosen.tolist()]
    shown = ", ".join(map(str, some[:SHOWN]))
    return shown + (f" and {len(some) - SHOWN:,} more" if len(some) > SHOWN else "")
