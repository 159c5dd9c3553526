"""From means to their contrasts: which are compared, on what scale, under what names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.description.parameter_tables import estimate_columns
from ranef.display.answer import Answer
from ranef.display.columns import Column, Listing
from ranef.errors import DataError, ModelError
from ranef.families.links import Scale
from ranef.families.transformations import Transformation
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.functions import Functions, carried_back
from ranef.inference.coefficients.wald import Intervals
from ranef.questions.means.alternatives import (
    JOINT,
    TWO_SIDED,
    Alternative,
    read_alternative,
)
from ranef.questions.means.contrast_matrices import ContrastMatrix, contrast_matrix, contrast_method
from ranef.questions.means.drawing import MeansPanel, draw_means
from ranef.questions.means.joint_tests import joint_test_columns, joint_tests_by_family
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.numbers import AdjustedTests, adjusted_tests, row_basis
from ranef.questions.means.specs import names_of
from ranef.questions.means.table import MeansTable
from ranef.questions.means.words import adjustment_words, degrees_words, interval_words
from ranef.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Contrasts", "contrasts_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

COMPARE = ("difference", "ratio", "odds", "link")
PAIRS = ("pairwise", "revpairwise")


@dataclass(frozen=True, eq=False, repr=False)
class Contrasts(Answer):
    """Comparisons of marginal means; `ranef.contrasts` makes them.

    Attributes
    ----------
    means : MarginalMeans
    by : tuple of str
    columns : dict
        What each is, and its levels of `by`.
    functions : Functions
        The comparisons as functions of the parameters, on the scale of `link`.
    families : tuple of int arrays
        Tests that are made together.
    link : str
        ``"identity"``, or ``"log"`` where ratios are shown.
    adjust : str
    conf_level : float
    quantity : str
        ``"difference"``, ``"ratio"``, ``"odds ratio"``.
    matrix : (q, k) float64 array
        Coefficients of the means in each family.
    compared : int or None
        Number of means whose pairs these are.
    alternative : Alternative
        What the tests are against.
    """

    means: MeansTable
    by: tuple[str, ...]
    columns: dict[str, list[Any]]
    functions: Functions
    families: tuple[Ints, ...]
    link: Scale
    adjust: str
    conf_level: float
    quantity: str
    matrix: Floats
    compared: int | None = None
    rng: np.random.Generator | None = None
    alternative: Alternative = TWO_SIDED

    def __len__(self) -> int:
        return len(self.functions.value)

    @property
    def title(self) -> str:
        return f"Contrasts: {self.means.grid.fit.formula}"

    @property
    def library(self) -> str:
        return self.means.grid.fit.frame.library

    @cached_property
    def tests(self) -> AdjustedTests:
        """Tests and intervals on the scale where means are subtracted."""
        return adjusted_tests(
            self.functions,
            self.means.grid.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            means=self.compared,
            rng=self.rng,
            alternative=self.alternative,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, tests and intervals as arrays."""
        return carried_back(self.tests.intervals, self.link)

    def tidy(self) -> Any:
        """Return the contrasts as a table.

        Returns
        -------
        table
            ``contrast`` (or one column for each predictor of an interaction), the
            predictors of `by`, ``estimate, std_error, df, statistic, p_value, conf_low,
            conf_high``. Ratios are tested against 1.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        labels = [Column(name, values) for name, values in self.columns.items()]
        columns = (*labels, *estimate_columns(self.intervals, self.conf_level))
        return (Listing("contrasts", columns, self._caption, len(labels)),)

    def sentences(self) -> tuple[str, ...]:
        adjusted = adjustment_words(self.tests, self.families, self.by, self.compared, self.adjust)
        lines = [*self.means.notes, f"{degrees_words(self.means.grid)}; {adjusted}"]
        lines.append(interval_words(self.tests, self.conf_level, self.link))
        scale = "" if self.link == "identity" else " on the scale of the log"
        lines += self.alternative.words(scale)
        if self.link != "identity" and self.alternative == TWO_SIDED:
            lines.append("Ratios are tested against 1, on the scale of the log.")
        if not self.functions.estimable.all():
            lines.append("Empty rows cannot be estimated: no data determine them.")
        return tuple(lines)

    @property
    def _caption(self) -> str:
        return f"{self.quantity[0].upper()}{self.quantity[1:]}: {self.means.quantity}"

    def joint_test(self) -> Any:
        """Test all contrasts of each level of `by` at once.

        Returns
        -------
        table
            The predictors of `by`, ``df1, df2, statistic, p_value``.
        """
        basis = row_basis(self.matrix) @ np.linalg.pinv(self.matrix)
        knowledge = self.means.grid.knowledge
        tests = joint_tests_by_family(self.functions, self.families, basis, knowledge)
        split = [Column(n, [self.columns[n][rows[0]] for rows in self.families]) for n in self.by]
        return self.tabled(Listing("joint test", (*split, *joint_test_columns(tests))))

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
        labels = [values for name, values in self.columns.items() if name not in self.by]
        names = [", ".join(map(shown_level, row)) for row in zip(*labels, strict=True)]
        null = 0.0 if self.link == "identity" else 1.0
        panels = [
            MeansPanel.of(self._panel_title(int(rows[0])), names, self.intervals, rows, null=null)
            for rows in self.families
        ]
        across = f"{self._caption}, {100 * self.conf_level:g}% intervals"
        return draw_means(panels, across, ax=ax, figure=figure)

    def _panel_title(self, row: int) -> str:
        levels = (f"{name}: {shown_level(self.columns[name][row])}" for name in self.by)
        return ", ".join(levels) or "Contrasts"


def contrasts_of(
    means: MeansTable,
    method: Any = "pairwise",
    *,
    by: Any = None,
    simple: Any = None,
    interaction: Any = None,
    ref: Any = None,
    adjust: str | None = None,
    compare: str | None = None,
    conf_level: float | None = None,
    side: str = "two-sided",
    null: float = 0.0,
    delta: float = 0.0,
    rng: Any = None,
) -> Contrasts:
    """Compare the means, see `ranef.contrasts`."""
    split = _split(means, by, simple)
    rest, families = means.regrouped(split)
    if not rest:
        raise ModelError("there is nothing to compare: every predictor of the table is in by")
    functions, link, quantity = _on_scale(means, compare)
    minus = " - " if link == "identity" else " / "
    if interaction is not None:
        if ref is not None or method not in ("pairwise", None):
            raise ModelError("interaction= names the methods; leave method and ref out")
        names, C, customary = _interaction(means, rest, interaction)
        pairs = False
    else:
        matrix = _matrix(means, rest, families[0], method, ref, minus)
        names, C, customary = {"contrast": list(matrix.names)}, matrix.C, matrix.adjust
        pairs = matrix.method in PAIRS
    level = means.conf_level if conf_level is None else arguments.conf_level(conf_level)
    adjust = None if adjust is None else check_adjustment(adjust)
    alternative = read_alternative(side, null, delta, adjust, level)
    if not alternative.plain and customary in JOINT:
        customary = "sidak"
    q = len(C)
    columns: dict[str, list[Any]] = {name: values * len(families) for name, values in names.items()}
    for name in split:
        columns[name] = [means.cells[name][rows[0]] for rows in families for _ in range(q)]
    return Contrasts(
        means=means,
        by=tuple(split),
        columns=columns,
        functions=_stacked([functions.taken(rows).combined(C) for rows in families]),
        families=tuple(np.arange(j * q, (j + 1) * q) for j in range(len(families))),
        link=link,
        adjust=customary if adjust is None else adjust,
        conf_level=level,
        quantity=quantity,
        matrix=C,
        compared=_compared(means, families) if pairs else None,
        rng=means.rng if rng is None else arguments.generator(rng),
        alternative=alternative,
    )


def _stacked(pieces: Sequence[Functions]) -> Functions:
    return Functions(
        np.concatenate([f.value for f in pieces]),
        np.concatenate([f.jacobian for f in pieces]),
        np.concatenate([f.gap for f in pieces]),
    )


def _split(means: MeansTable, by: Any, simple: Any) -> tuple[str, ...]:
    if simple is None:
        return means.by if by is None else names_of("by", by)
    if by is not None:
        raise ModelError("simple= compares within all other predictors; leave by out")
    compared = names_of("simple", simple)
    means.regrouped(compared)
    return tuple(name for name in means.names if name not in compared)


def _compared(means: MeansTable, families: Sequence[Ints]) -> int:
    """Means in each family that can be estimated; the most of any."""
    return max(int(np.count_nonzero(means.functions.estimable[rows])) for rows in families)


def _on_scale(means: MeansTable, compare: str | None) -> tuple[Functions, str, str]:
    """The means where they are subtracted, the link that carries results back, and in words."""
    link, functions = means.link, means.functions
    if compare is None:
        compare = _customary(link)
    compare = arguments.choice("compare", compare, COMPARE)
    if compare == "difference":
        return functions.back(link), "identity", "difference"
    if compare == "link":
        plain = link == "identity"
        where = "" if plain else f" on the scale of the {link}"
        return functions, "identity", f"difference{where}"
    _check_comparable(means, compare)
    if isinstance(link, Transformation) and _customary(link) == compare:
        whole = link.of_ratios or compare == "odds"
        named = "odds ratio" if compare == "odds" else "ratio"
        over = np.full(len(functions.value), 1 / link.rate)
        logarithms = functions.combined(np.diag(over))
        return logarithms, "log", named if whole else f"{named} of {link.logged}"
    scale = "log" if compare == "ratio" else "logit"
    if scale != link:
        functions = functions.back(link).transformed(scale)
    return functions, "log", "ratio" if compare == "ratio" else "odds ratio"


def _customary(link: Scale) -> str:
    """How means are compared whose intervals are on the scale of this link."""
    if not isinstance(link, Transformation):
        return {"log": "ratio", "logit": "odds"}.get(str(link), "difference")
    if link.logged is None:
        return "difference"
    return "odds" if link.logged == f"{link.variable}/(1 - {link.variable})" else "ratio"


def _check_comparable(means: MeansTable, compare: str) -> None:
    """Refuse ratios of what is no mean of the response, or has no ratio."""
    grid, link = means.grid, means.link
    on_link = grid.estimand.type == "link" and grid.fit.family.link != "identity"
    if means.slopes or on_link:
        raise ModelError(
            f"compare={compare!r} is for means of the response; use type='response', or 'link' "
            "with compare left out"
        )
    if isinstance(link, Transformation) and _customary(link) == compare:
        return
    value = means.functions.back(link).value[means.functions.estimable]
    if (value <= 0).any() or (compare == "odds" and (value >= 1).any()):
        what = "positive means" if compare == "ratio" else "means between 0 and 1"
        raise ModelError(f"compare={compare!r} is for {what}; use compare='difference'")


def _matrix(
    means: MeansTable,
    rest: Sequence[str],
    rows: Ints,
    method: Any,
    ref: Any,
    minus: str,
) -> ContrastMatrix:
    """Named contrasts of the means in one family."""
    every = means.labels(rest)
    labels = [every[i] for i in rows]
    if isinstance(method, str):
        label = None if ref is None else _reference(means, rest, rows, ref, labels)
        return contrast_matrix(method, labels, ref=label, minus=minus)
    if ref is not None:
        raise ModelError("ref= goes with method='reference'")
    return _own(method, len(labels))


def _reference(
    means: MeansTable, rest: Sequence[str], rows: Ints, ref: Any, labels: list[str]
) -> str:
    """Label of the reference: a level, or one for each predictor."""
    levels = [ref] if isinstance(ref, str) or np.ndim(ref) == 0 else list(ref)
    texts = [" ".join(shown_level(means.cells[name][i]) for name in rest) for i in rows]
    text = " ".join(map(shown_level, levels))
    return labels[texts.index(text)] if text in texts else text


def _own(method: Any, k: int) -> ContrastMatrix:
    """Contrasts that the user hands over."""
    if isinstance(method, Mapping):
        names, rows = [str(name) for name in method], list(method.values())
    elif hasattr(method, "columns") or hasattr(method, "column_names"):
        table = Table.of(method)
        names, rows = list(table.columns), [table.numeric(name) for name in table.columns]
    else:
        rows = list(np.atleast_2d(np.asarray(method, dtype=object)))
        names = [f"c{i + 1}" for i in range(len(rows))]
    try:
        C = np.array([np.asarray(row, dtype=np.float64) for row in rows]).reshape(len(rows), -1)
    except (TypeError, ValueError):
        raise ModelError(
            "method is a name, a dict of coefficients, or a matrix with a row for each contrast"
        ) from None
    if C.shape[1] != k or not len(C):
        raise DataError(f"a contrast has {C.shape[1]} coefficients; there are {k} means to compare")
    if not np.isfinite(C).all():
        raise DataError("the coefficients of a contrast must be finite numbers")
    return ContrastMatrix(tuple(names), C, "own", "none")


def _interaction(
    means: MeansTable, rest: Sequence[str], interaction: Any
) -> tuple[dict[str, list[str]], Floats, str]:
    """Contrasts of contrasts: the Kronecker product of a method for each predictor."""
    one = isinstance(interaction, str | Mapping)
    methods = [interaction] * len(rest) if one else list(interaction)
    if len(methods) != len(rest):
        raise ModelError(
            f"interaction= has {len(methods)} methods for {len(rest)} predictors "
            f"({', '.join(rest)})"
        )
    C: Floats = np.ones((1, 1))
    names: list[tuple[str, ...]] = [()]
    heads = []
    for name, method in zip(rest, methods, strict=True):
        levels = [shown_level(v) for v in means.levels(name)]
        numeric = all(t.replace(".", "", 1).lstrip("-").isdigit() for t in levels)
        labels = [name + t for t in levels] if numeric else levels
        matrix = (
            contrast_matrix(method, labels)
            if isinstance(method, str)
            else _own(method, len(levels))
        )
        heads.append(f"{name}_{contrast_method(method) if isinstance(method, str) else 'own'}")
        C = np.asarray(np.kron(matrix.C, C), dtype=np.float64)
        names = [(*before, label) for label in matrix.names for before in names]
    columns = {head: [row[i] for row in names] for i, head in enumerate(heads)}
    return columns, C, "none"
