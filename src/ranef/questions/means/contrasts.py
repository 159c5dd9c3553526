"""`contrasts`: comparisons of marginal means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Summary
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import DataError, ModelError
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.wald import Intervals
from ranef.questions.means import functions as marginal_means
from ranef.questions.means.contrast_matrices import ContrastMatrix, contrast_matrix, contrast_method
from ranef.questions.means.functions import Examined, Functions, examined
from ranef.questions.means.means import MarginalMeans, emmeans
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.specs import names_of, read_specs
from ranef.questions.means.words import ADJUSTED, degrees_words, interval_words, row_of, table_of
from ranef.tables import Table, make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Contrasts", "contrasts"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

COMPARE = ("difference", "ratio", "odds", "link")
PAIRS = ("pairwise", "revpairwise")


def contrasts(
    fit: Any,
    specs: Any = None,
    method: Any = "pairwise",
    by: Any = None,
    *,
    interaction: Any = None,
    simple: Any = None,
    ref: Any = None,
    adjust: str | None = None,
    compare: str | None = None,
    conf_level: float | None = None,
    unit: Mapping[str, Any] | None = None,
    rng: Any = None,
    **question: Any,
) -> Contrasts:
    """Compare marginal means.

    Parameters
    ----------
    fit : a fit, or MarginalMeans
    specs : str or list of str
        As in `emmeans`; not with means, which have theirs.
    method : str, dict or matrix
        - ``"pairwise"``, ``"revpairwise"``: all pairs.
        - ``"reference"`` (R's ``trt.vs.ctrl``): each with one, `ref`.
        - ``"consecutive"``: each with the one before it.
        - ``"polynomial"``: linear, quadratic, ... trends of equally spaced levels.
        - ``"effects"``, ``"deleted_effects"``: each with the mean of all, or of the
          others. ``"helmert"``: with the mean of those before it. ``"mean_change"``.
        - a dict of names and coefficients, or a matrix with a row for each contrast.
    by : str or list of str, optional
        Compare within each level of these.
    interaction : str or list, optional
        A method for each predictor: contrasts of contrasts.
    simple : str or list of str, optional
        Simple comparisons of these, within each combination of all others.
    ref : object, optional
        Level of the reference; the first.
    adjust : str, optional
        For several tests in each level of `by`: ``"none"``, ``"tukey"``, ``"dunnett"``
        (exact; ``"dunnettx"`` approximate), ``"mvt"``, ``"sidak"``, ``"scheffe"``,
        ``"bonferroni"``, ``"holm"``, ``"hochberg"``, ``"hommel"``, ``"fdr"``, ``"by"``.
        Left out, what is customary: Tukey's for pairs, dunnettx for references, mvt for
        neighbours, false discovery rate for effects, none for trends, interactions and
        your own.
    compare : {"difference", "ratio", "odds", "link"}, optional
        How means of the response are compared: by their difference, ratio, odds ratio,
        or on the scale of the link. Left out, by ratios under a log link, odds ratios
        under a logit, and differences elsewhere.
    conf_level : float, optional
        0.95, or that of the means.
    unit : mapping, optional
        ``{"ward": "A"}``: one level's own contrasts, its random effects included.
    rng : int or numpy.random.Generator, optional
        Of ``"mvt"``; without it the seed is fixed.
    **question
        ``at``, ``cov_reduce``, ``weights``, ``df``, ``type``, ``kind``, ``component``,
        ``offset`` as in `emmeans`.

    Returns
    -------
    Contrasts

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    >>> found = ranef.contrasts(fit, "Type", "reference")
    >>> found.tidy()[["contrast", "estimate", "df", "p_value"]].round(4)
      contrast  estimate    df  p_value
    0  T2 - T1    3.8889  24.0   0.0000
    1  T3 - T1    2.2222  24.0   0.0007
    2  T4 - T1    0.6667  24.0   0.4475
    """
    if isinstance(fit, MarginalMeans):
        if specs is not None or question or unit:
            raise ModelError(
                "these means have their predictors and settings already; give method, by, simple, "
                "interaction, ref, adjust or compare"
            )
        means = fit
        split = by
    else:
        if specs is None:
            raise ModelError("say what to compare: contrasts(fit, 'treatment')")
        wanted = read_specs(specs, by)
        method = wanted.method or method
        means = emmeans(
            fit,
            list(wanted.factors),
            wanted.by,
            conf_level=0.95 if conf_level is None else conf_level,
            unit=unit,
            **question,
        )
        split = None
    return means.contrasts(
        method,
        by=split,
        simple=simple,
        interaction=interaction,
        ref=ref,
        adjust=adjust,
        compare=compare,
        conf_level=conf_level,
        rng=rng,
    )


def contrasts_of(
    means: MarginalMeans,
    method: Any,
    *,
    by: Any,
    simple: Any,
    interaction: Any,
    ref: Any,
    adjust: str | None,
    compare: str | None,
    conf_level: float | None,
    rng: Any,
) -> Contrasts:
    """Make the contrasts of means."""
    split = _split(means, by, simple)
    rest, families = means.regrouped(split)
    if not rest:
        raise ModelError("there is nothing to compare: every predictor of the table is in by")
    scale, link = _scale(means, compare)
    functions = means.functions
    if scale != means.link:
        functions = functions.back(means.link).transformed(scale)
    minus = " - " if link == "identity" else " / "
    if interaction is not None:
        if ref is not None or method not in ("pairwise", None):
            raise ModelError("interaction= names the methods; leave method and ref out")
        named, C, customary = _interaction(means, rest, interaction)
        pairs = False
    else:
        made = _matrix(means, rest, families[0], method, ref, minus)
        named, C, customary = {"contrast": list(made.names)}, made.C, made.adjust
        pairs = made.method in PAIRS
    adjusted = check_adjustment(adjust) if adjust is not None else customary
    pieces = [functions.taken(own).combined(C) for own in families]
    every = Functions(
        np.concatenate([f.value for f in pieces]),
        np.concatenate([f.jacobian for f in pieces]),
        np.concatenate([f.gap for f in pieces]),
    )
    q = len(C)
    columns: dict[str, list[Any]] = {name: values * len(families) for name, values in named.items()}
    for name in split:
        columns[name] = [means.cells[name][own[0]] for own in families for _ in range(q)]
    level = means.conf_level if conf_level is None else arguments.conf_level(conf_level)
    return Contrasts(
        means,
        tuple(split),
        columns,
        every,
        tuple(np.arange(j * q, (j + 1) * q) for j in range(len(families))),
        link,
        adjusted,
        level,
        _word(means, scale, link),
        C,
        _compared(means, families) if pairs else None,
        means.rng if rng is None else arguments.generator(rng),
    )


def _split(means: MarginalMeans, by: Any, simple: Any) -> tuple[str, ...]:
    if simple is None:
        return means.by if by is None else names_of("by", by)
    if by is not None:
        raise ModelError("simple= compares within all other predictors; leave by out")
    own = names_of("simple", simple)
    means.regrouped(own)
    return tuple(name for name in means.names if name not in own)


def _compared(means: MarginalMeans, families: Sequence[Ints]) -> int:
    """Means in each family that can be estimated; the most of any."""
    known = means.functions.estimable
    return max(int(np.count_nonzero(known[own])) for own in families)


def _scale(means: MarginalMeans, compare: str | None) -> tuple[str, str]:
    """The scale on which means are subtracted, and the link that carries results back."""
    link = means.link
    if compare is None:
        compare = {"log": "ratio", "logit": "odds"}.get(link, "difference")
    compare = arguments.choice("compare", compare, COMPARE)
    if compare in ("difference", "link"):
        return ("identity", "identity") if compare == "difference" else (link, "identity")
    asked = means.source.asked
    if means.slopes or (asked.type == "link" and hasattr(asked.fit, "family")):
        raise ModelError(
            f"compare={compare!r} is for means of the response; use type='response', or 'link' "
            "with compare left out"
        )
    value = means.functions.back(link).value[means.functions.estimable]
    if (value <= 0).any() or (compare == "odds" and (value >= 1).any()):
        what = "positive means" if compare == "ratio" else "means between 0 and 1"
        raise ModelError(f"compare={compare!r} is for {what}; use compare='difference'")
    return ("log" if compare == "ratio" else "logit"), "log"


def _word(means: MarginalMeans, scale: str, link: str) -> str:
    if link == "identity":
        if scale == "identity":
            return "difference"
        return f"difference on the scale of the {scale}"
    return "odds ratio" if scale == "logit" else "ratio"


def _matrix(
    means: MarginalMeans,
    rest: Sequence[str],
    rows: Ints,
    method: Any,
    ref: Any,
    minus: str,
) -> ContrastMatrix:
    """Named contrasts of the means in one family."""
    labels = [means.labels(rest)[i] for i in rows]
    if isinstance(method, str):
        label = None if ref is None else _reference(means, rest, rows, ref, labels)
        return contrast_matrix(method, labels, ref=label, minus=minus)
    if ref is not None:
        raise ModelError("ref= goes with method='reference'")
    return _own(method, len(labels))


def _reference(
    means: MarginalMeans, rest: Sequence[str], rows: Ints, ref: Any, labels: list[str]
) -> str:
    """Label of the reference: a level, or one for each predictor."""
    wanted = [ref] if isinstance(ref, str) or np.ndim(ref) == 0 else list(ref)
    texts = [" ".join(shown_level(means.cells[name][i]) for name in rest) for i in rows]
    text = " ".join(shown_level(v) for v in wanted)
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
    means: MarginalMeans, rest: Sequence[str], interaction: Any
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
        texts = [shown_level(v) for v in means.levels(name)]
        numeric = all(t.replace(".", "", 1).lstrip("-").isdigit() for t in texts)
        labels = [name + t for t in texts] if numeric else texts
        made = (
            contrast_matrix(method, labels) if isinstance(method, str) else _own(method, len(texts))
        )
        heads.append(f"{name}_{contrast_method(method) if isinstance(method, str) else 'own'}")
        C = np.asarray(np.kron(made.C, C), dtype=np.float64)
        names = [(*before, own) for own in made.names for before in names]
    columns = {head: [row[i] for row in names] for i, head in enumerate(heads)}
    return columns, C, "none"


@dataclass(frozen=True, eq=False, repr=False)
class Contrasts:
    """Comparisons of marginal means; `ranef.contrasts` makes them.

    Attributes
    ----------
    means : MarginalMeans
    by : tuple of str
    columns : dict
        What each is, and its levels of `by`.
    functions : Functions
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
    """

    means: MarginalMeans
    by: tuple[str, ...]
    columns: dict[str, list[Any]]
    functions: Functions
    families: tuple[Ints, ...]
    link: str
    adjust: str
    conf_level: float
    quantity: str
    matrix: Floats
    compared: int | None = None
    rng: np.random.Generator | None = None

    @cached_property
    def examined(self) -> Examined:
        """Tests and intervals on the scale where means are subtracted."""
        return examined(
            self.functions,
            self.means.source.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            means=self.compared,
            rng=self.rng,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, tests and intervals as arrays."""
        return marginal_means.shown(self.examined.found, self.link)

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
        basis = marginal_means.row_basis(self.matrix) @ np.linalg.pinv(self.matrix)
        found = [
            marginal_means.joint_test(self.functions.taken(own).combined(basis), knowledge, scale)
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
        from ranef.questions.means.picture import draw_contrasts

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


def _text(value: Any) -> str:
    return shown_level(value) if not isinstance(value, float) else f"{value:.6g}"
