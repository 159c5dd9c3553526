"""`emmeans`: marginal means, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Summary
from ranef.display.page import Page, Paragraph, TextTable, number, p_value
from ranef.errors import DataError, ModelError
from ranef.families import Multinomial
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.wald import Intervals
from ranef.questions.means import functions as marginal_means
from ranef.questions.means.contrast_matrices import contrast_matrix
from ranef.questions.means.functions import (
    Examined,
    Functions,
    averaged,
    examined,
    joint_test,
    row_basis,
)
from ranef.questions.means.grid import codes_of, interacting, unknown_variable
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.source import Source, ask, read_question, source_of
from ranef.questions.means.specs import Specs, names_of, read_specs
from ranef.questions.means.words import (
    degrees_words,
    interval_words,
    means_notes,
    quantity_of,
    table_of,
)
from ranef.tables import make_table, reads_as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranef.questions.means.contrasts import Contrasts

__all__ = ["JointTests", "MarginalMeans", "emmeans", "joint_tests"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


def emmeans(
    fit: Any,
    specs: Any,
    by: Any = None,
    *,
    at: Mapping[str, Any] | None = None,
    cov_reduce: Any = "mean",
    weights: Any = "equal",
    df: str | None = None,
    conf_level: float = 0.95,
    adjust: str = "none",
    type: str | None = None,
    kind: str | None = None,
    component: str = "conditional",
    unit: Mapping[str, Any] | None = None,
    offset: float | None = None,
    rng: Any = None,
) -> MarginalMeans:
    """Estimate marginal means: what the model expects at each level, the rest held equal.

    The model is evaluated on a reference grid: categorical predictors at all levels,
    numbers at the mean of their column (before any transformation in the formula; with
    two values or fewer, at both). The means are averages over the grid, so that levels
    are compared as if the design had been balanced.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    specs : str or list of str
        The predictors whose levels have a mean each: ``"a"``, ``["a", "b"]``, or as in
        R ``"a | b"`` (by b), ``"pairwise ~ a | b"`` (with contrasts, `comparisons`);
        ``"~ 1"`` is one overall mean.
    by : str or list of str, optional
        Predictors that split the table: contrasts, and adjustments for several tests,
        stay within.
    at : mapping, optional
        Values for predictors: ``{"age": [8, 14]}``.
    cov_reduce : str, function or mapping
        What numeric predictors are reduced to: ``"mean"``, ``"median"``, ``"range"``
        (smallest and largest value), ``"keep"`` (all values), a function, or these by
        name.
    weights : str or array
        How to average over predictors that are not named: ``"equal"``;
        ``"proportional"`` to how often their combinations occur; ``"outer"``, to the
        product of how often each level does; ``"cells"``, by the rows of each cell (so
        to say the raw means); ``"flat"``, equally over cells that occur; or one number
        for each combination, the first predictor's levels running fastest.
    df : str, optional
        Degrees of freedom, as in ``fit.tidy``.
    conf_level : float
    adjust : str
        Of the intervals, for several means: ``"none"``, ``"bonferroni"``, ``"sidak"``,
        ``"scheffe"``, ``"mvt"``.
    type : {"response", "link", "prob", "mean_class"}, optional
        Mean of the response, or linear predictor. Generalised models have
        ``"response"``; linear ones their response as fitted, where ``"response"``
        undoes the log of ``log(y) ~ ...``. Of categories ``"prob"`` is the probability
        of each, ``"link"`` the latent variable, ``"mean_class"`` the mean of the
        categories numbered from 1.
    kind : {"population", "typical"}, optional
        Of means of the response: averaged over the random effects, by exact
        integration (the default), or for random effects of zero, which is the inverse
        link of the mean linear predictor. In linear models the two agree.
    component : {"conditional", "zero", "dispersion", "response"}
        Part of the model; ``"response"`` is the mean of what is observed, zeros
        included.
    unit : mapping, optional
        ``{"ward": "A"}``: the means of one level of the grouping factors, its own
        random effects included, with the standard errors and degrees of freedom of
        ``fit.predict``, whatever `df`.
    offset : float, optional
        In place of the offset at the grid.
    rng : int or numpy.random.Generator, optional
        For ``adjust="mvt"``, whose seed is fixed without it.

    Returns
    -------
    MarginalMeans
        With ``tidy()``, ``contrasts()``, ``joint_tests()``, ``letters()`` and
        ``plot()``.

    Notes
    -----
    A mean that the data do not determine (a combination of levels without rows, under
    an interaction) is NaN.

    Examples
    --------
    >>> import ranef
    >>> oats = ranef.data.load("Oats")
    >>> fit = ranef.lmm("yield ~ Variety + factor(nitro) + (1 | Block/Variety)", oats)
    >>> means = ranef.emmeans(fit, "nitro")
    >>> means.tidy().round(2)
       nitro  estimate  std_error    df  conf_low  conf_high
    0    0.0     79.39       7.13  6.64     62.34      96.44
    1    0.2     98.89       7.13  6.64     81.84     115.94
    2    0.4    114.22       7.13  6.64     97.17     131.28
    3    0.6    123.39       7.13  6.64    106.34     140.44
    """
    asked = read_question(
        fit, component=component, kind=kind, type=type, df=df, unit=unit, offset=offset
    )
    level = arguments.conf_level(conf_level)
    adjust = check_adjustment(adjust)
    wanted = read_specs(specs, by)
    source = source_of(asked, ask(asked, at=at, cov_reduce=cov_reduce))
    means = means_of(source, wanted, weights, level, adjust, _generator(rng))
    if wanted.method is None:
        return means
    return replace(means, comparisons=means.contrasts(wanted.method))


def _generator(rng: Any) -> np.random.Generator | None:
    return None if rng is None else arguments.generator(rng)


def means_of(
    source: Source,
    wanted: Specs,
    weights: Any,
    conf_level: float,
    adjust: str,
    rng: np.random.Generator | None,
    slope: str | None = None,
) -> MarginalMeans:
    """Average the rows of a grid over the variables that are not named."""
    by = wanted.by
    if source.category is not None and source.category not in (*wanted.factors, *by):
        by = (*by, source.category)
    for name in (*wanted.factors, *by):
        if name not in source.names:
            raise unknown_variable("specs name", name, source.names)
    functions = _averaged(source, (*wanted.factors, *by), weights)
    if source.scale != source.link:
        functions = functions.back(source.link).transformed(source.scale)
    words = quantity_of(source, slope)
    means = MarginalMeans(
        source,
        wanted.factors,
        by,
        functions,
        source.scale if slope is None else "identity",
        conf_level,
        adjust,
        words,
        slope is not None,
        rng,
        weights if isinstance(weights, str) else "given",
    )
    return replace(means, notes=means_notes(means, _misleading(source, wanted.factors, by)))


def _averaged(source: Source, kept: tuple[str, ...], weights: Any) -> Functions:
    codes = codes_of(source.shape)
    places = [source.names.index(name) for name in kept]
    others = [i for i in range(len(source.names)) if i not in places]
    shape = [source.shape[i] for i in places]
    cells = _cell(codes, places, source.shape)
    w = _weights(source, codes, others, weights)
    return averaged(source.rows, cells, w, int(np.prod(shape, dtype=np.int64)))


def _cell(codes: Ints, places: Sequence[int], shape: Sequence[int]) -> Ints:
    """Number of each row's combination of some variables, the first running fastest."""
    cell, stride = np.zeros(codes.shape[1], dtype=np.intp), 1
    for i in places:
        cell += stride * codes[i]
        stride *= shape[i]
    return cell


def _weights(source: Source, codes: Ints, others: list[int], weights: Any) -> Floats:
    counts = source.counts
    cell = _cell(codes, others, source.shape)
    size = int(np.prod([source.shape[i] for i in others], dtype=np.int64))
    if not isinstance(weights, str):
        return _given_weights(weights, size, [source.names[i] for i in others])[cell]
    weights = arguments.choice("weights", weights, WEIGHTS)
    if weights == "cells":
        return counts
    if weights == "flat":
        return (counts > 0).astype(np.float64)
    if weights == "proportional":
        return np.asarray(np.bincount(cell, counts, minlength=size)[cell], dtype=np.float64)
    out = np.ones(len(counts))
    for i in others if weights == "outer" else ():
        out *= np.bincount(codes[i], counts, minlength=source.shape[i])[codes[i]]
    return out


def _given_weights(weights: Any, size: int, names: Sequence[str]) -> Floats:
    try:
        given = np.asarray(weights, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise ModelError(
            f"weights is one of {', '.join(map(repr, WEIGHTS))}, or numbers, not {weights!r}"
        ) from None
    if len(given) != size:
        over = " x ".join(names) or "nothing"
        raise DataError(f"weights has {len(given)} numbers; averaging over {over} takes {size}")
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise DataError("weights must be finite numbers from 0, not all zero")
    return given


def _misleading(source: Source, factors: Sequence[str], by: Sequence[str]) -> list[str]:
    """Predictors that are averaged over though the effect of a named one depends on them."""
    varied = [v.name for v in source.variables if len(v.values) > 1]
    over = [name for name in varied if name not in (*factors, *by)]
    found = []
    for name in over:
        for part in source.asked.own:
            spec = source.asked.specifications.get(part)
            if spec is not None and interacting(spec.recipe.model.fixed, [name], list(factors)):
                found.append(name)
    return list(dict.fromkeys(found))


@dataclass(frozen=True, eq=False, repr=False)
class MarginalMeans:
    """Marginal means; `ranef.emmeans` makes them, and `ranef.emtrends` slopes.

    Attributes
    ----------
    source : Source
        The grid, and what the model says at its rows.
    specs, by : tuple of str
        Predictors whose levels have a mean each, and those that split the table.
    functions : Functions
        The means as functions of the parameters, on the scale of `link`.
    link : str
        On whose scale intervals are made.
    conf_level : float
    adjust : str
        Of the intervals.
    quantity : str
        What is estimated, in words.
    slopes : bool
        Whether these are slopes.
    notes : tuple of str
        What to know when reading the table.
    comparisons : Contrasts or None
        Those asked for with the means, ``"pairwise ~ a"``.
    """

    source: Source
    specs: tuple[str, ...]
    by: tuple[str, ...]
    functions: Functions
    link: str
    conf_level: float
    adjust: str
    quantity: str
    slopes: bool = False
    rng: np.random.Generator | None = None
    weights: str = "equal"
    notes: tuple[str, ...] = ()
    comparisons: Contrasts | None = field(default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """Predictors of the table, those of `by` last."""
        return (*self.specs, *self.by)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(self.levels(name)) for name in self.names)

    def levels(self, name: str) -> tuple[Any, ...]:
        """Values of a predictor of the table."""
        return self.source.variables[self.source.names.index(name)].values

    @cached_property
    def cells(self) -> dict[str, list[Any]]:
        """Value of each predictor, a row each."""
        own = zip(self.names, codes_of(self.shape), strict=True)
        return {name: [self.levels(name)[i] for i in code] for name, code in own}

    def labels(self, names: Sequence[str]) -> list[str]:
        """Levels of some predictors in print, joined, a row each."""
        texts = [self._printed(name) for name in names]
        size = len(self.functions.value)
        return [" ".join(t[i] for t in texts) or "overall" for i in range(size)]

    def _printed(self, name: str) -> list[str]:
        """Levels of a predictor in print; those that are numbers with its name."""
        shown = [shown_level(v) for v in self.cells[name]]
        return [name + text for text in shown] if all(map(reads_as_number, shown)) else shown

    @cached_property
    def families(self) -> tuple[Ints, ...]:
        """Rows of each combination of `by`."""
        return self.regrouped(self.by)[1]

    def regrouped(self, by: Sequence[str]) -> tuple[tuple[str, ...], tuple[Ints, ...]]:
        """Predictors that are not in `by`, and the rows of each combination of `by`."""
        for name in by:
            if name not in self.names:
                raise unknown_variable("by names", name, self.names)
        rest = tuple(name for name in self.names if name not in by)
        size = len(self.functions.value)
        order = [self.names.index(name) for name in (*rest, *by)]
        index = np.arange(size).reshape(self.shape or (1,), order="F")
        if order:
            index = index.transpose(order)
        inner = int(np.prod([len(self.levels(name)) for name in rest], dtype=np.int64))
        flat = index.ravel(order="F").reshape(inner, -1, order="F")
        return rest, tuple(np.ascontiguousarray(flat[:, j]) for j in range(flat.shape[1]))

    @cached_property
    def examined(self) -> Examined:
        """Tests and intervals on the scale of `link`."""
        return examined(
            self.functions,
            self.source.knowledge,
            self.families,
            self.adjust,
            self.conf_level,
            rng=self.rng,
        )

    @property
    def intervals(self) -> Intervals:
        """Estimates, standard errors and intervals as arrays."""
        return marginal_means.shown(self.examined.found, self.link)

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
            {**self._cell_columns(), **table_of(self.intervals, tested)},
            self.source.asked.fit.frame.library,
        )

    def _cell_columns(self) -> dict[str, Any]:
        if not self.names:
            return {"term": ["overall"]}
        return dict(self.cells)

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
        from ranef.questions.means.contrasts import contrasts_of

        return contrasts_of(
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
        odds = isinstance(getattr(asked.fit, "family", None), Multinomial) and asked.type == "link"
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
        from ranef.questions.means.letters import compact_letters

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
        table = {**self._cell_columns(), **table_of(self.intervals, False), "letters": list(out)}
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
        from ranef.questions.means.picture import draw

        kind = arguments.choice("kind", kind, ("means", "interaction"))
        return draw(self, kind, x, trace, arrows, alpha, adjust, intervals, ax, figure)

    def summary(self) -> Summary:
        """Return the means in words and a table."""
        header = (*self._cell_columns(), *_header(self))
        found = self.intervals
        labels = [[_text(v) for v in values] for values in self._cell_columns().values()]
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


def joint_tests(
    fit: Any, by: Any = None, *, at: Mapping[str, Any] | None = None, **question: Any
) -> JointTests:
    """Test every effect of a model by its marginal means.

    Unlike a table of coefficients this does not depend on how the factors are coded.
    Numeric predictors stand at one below and above their mean, so that slopes are
    tested too; the tests of what interacts with them are at the mean.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
    by : str or list of str, optional
        Test within each level of these.
    at : mapping, optional
        Values for predictors, as in `emmeans`.
    **question
        ``df``, ``type``, ``kind``, ``component`` as in `emmeans`; of generalised models
        on the scale of the link without them.

    Returns
    -------
    JointTests

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.joint_tests(fit).tidy().round(2)
       term  df1   df2  statistic  p_value
    0  Days    1  17.0      45.85      0.0
    """
    question.setdefault("type", "link" if question.get("kind") is None else None)
    asked = read_question(fit, **question)
    source = source_of(asked, ask(asked, at=at, cov_reduce="around"))
    varied = tuple(v.name for v in source.variables if len(v.values) > 1)
    split = names_of("by", by)
    for name in split:
        if name not in source.names:
            raise unknown_variable("by names", name, source.names)
    rest = tuple(name for name in varied if name not in split)
    if not rest:
        raise ModelError("there is nothing to test: no predictor varies")
    means = means_of(source, Specs(rest, split), "equal", 0.95, "none", None)
    return means.joint_tests()


# --- words of the table


def _header(means: MarginalMeans) -> tuple[str, ...]:
    percent = f"{100 * means.conf_level:g}%"
    tested = ("statistic", "p") if means.slopes else ()
    return ("estimate", "std_error", "df", *tested, f"{percent} low", f"{percent} high")


def _row(found: Intervals, j: int, tested: bool) -> tuple[str, ...]:
    from ranef.questions.means.words import row_of

    return row_of(found, j, tested)


def _text(value: Any) -> str:
    return shown_level(value) if not isinstance(value, float) else f"{value:.6g}"
