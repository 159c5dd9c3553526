"""Predictions by group: data, a line for each level, and the population's with its band."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.recipe import GIVEN_OFFSET
from ranef.design.specification import Specification
from ranef.design.terms import GroupingFactor
from ranef.display.canvas import (
    ACCENT,
    MARK,
    MUTED,
    cloud,
    finish,
    label,
    one_or_all,
    panels,
    percent,
    plain,
    told_apart,
)
from ranef.errors import ModelError, RankWarning, UnknownColumnError, suggestion
from ranef.families import BetaBinomial, Binomial
from ranef.fits.columns import own_columns
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, require
from ranef.formula.labels import shown_level
from ranef.formula.syntax import Call, column_names
from ranef.models.labels import CONDITIONAL, outcome_name
from ranef.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["along_axis", "axis_name", "predictions", "predictions_text"]

Floats = NDArray[np.float64]

GRID = 60
MOST_LINES = 200
MOST_PANELS = 12
MOST_HELD = 6
POSITIONED = ("ar1", "hetar1", "toep", "homtoep", "ou", "exp", "gau", "mat")
BY_GROUP = ("within", "between")
ANOTHER = "(another)"
"""A level that no table has: its effect is zero in a predicted line."""


def predictions(
    fit: MixedFit,
    x: str | None = None,
    *,
    group: str | None = None,
    by: str | None = None,
    kind: str = "population",
    category: Any = None,
    conf_level: float = 0.95,
    data: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw predictions along a column: each level's own, and the population's.

    Other columns are held: numbers at their means, categories, and numbers that a formula
    takes for categories or positions, at the most frequent value. The population's line
    holds them at the same values in every panel, named below the axis, so that panels
    differ by `by` alone; a level's line has the level's own, and goes as far as its rows.
    Columns of an offset are the same in all lines, and responses of models with a log or
    identity link are brought to them: a count of two years is drawn as that of the
    exposure that is named. Effects of other grouping factors are zero in the lines of
    levels. Of more than 200 levels every so many is drawn.

    Parameters
    ----------
    fit : a fit of ranef
    x : str, optional
        The column along the axis; the first number that the fixed effects use, or the
        first of their columns.
    group : str, optional
        The grouping factor whose levels have lines; the first if left out.
    by : str, optional
        A column with a panel for each of its values (up to 12).
    kind : {"population", "typical"}
        The line with the band: the mean of the population, random effects integrated
        out, or that of a typical level. They are the same in a linear model.
    category : optional
        Of a response with categories the one whose probability is drawn.
    conf_level : float
        Of the band.
    data : bool
        Draw the responses too.
    ax : matplotlib Axes, optional
        Where to draw when there is one panel.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one; it is resized.

    Returns
    -------
    matplotlib Axes, or an array of them when there are several panels

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> predictions(fit).get_xlabel()
    'Days'
    """
    if kind not in ("population", "typical"):
        raise ModelError(f"kind is 'population' or 'typical', not {kind!r}")
    scene = _Scene.of(fit, x, group, by, category)
    titles = scene.titles()
    axes = panels(titles, ax, figure, single=(6.4, 4.4), height=3.6)
    notes = []
    for panel, rows, title in zip(axes, scene.panels(), titles, strict=True):
        broken = _panel(panel, scene, rows, kind, conf_level, data)
        label(panel, title=title, x=plain(scene.x), y=scene.outcome)
        finish(panel, grid="both")
        notes.append(_held_note(scene, rows, kind, broken, data))
        if scene.ticks is not None:
            panel.set_xticks(range(len(scene.ticks)), told_apart(scene.ticks, 16))
    _say_held(axes, notes)
    _same_heights(axes)
    axes[0].legend(frameon=False, fontsize=8.5, loc="best", labelcolor=MUTED)
    return one_or_all(axes)


def along_axis(fit: MixedFit, x: str | None = None) -> tuple[Floats, dict[str, Any]]:
    """Places of the population's line along the axis, and the table that it is predicted for."""
    scene = _Scene.of(fit, x, None, None, None)
    along = _grid(scene, scene.every)
    return along, scene.native(scene.held_for_all(scene.every, along))


def axis_name(fit: MixedFit) -> str:
    """The column along the axis where none is named."""
    return _Scene.of(fit, None, None, None, None).x


def predictions_text(fit: MixedFit, *, category: Any = None, conf_level: float = 0.95) -> str:
    """Describe the picture that `predictions` draws by default: where its line begins and ends.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> print(predictions_text(fit))
    Reaction predicted along Days, with a line for each of 18 levels of Subject: the population \
goes from 251 (0) to 346 (9).
    """
    scene = _Scene.of(fit, None, None, None, category)
    at, value, _, _ = _population(scene, scene.every, "population", conf_level)
    ends = [f"{at[i]:.3g}" if scene.ticks is None else scene.ticks[int(at[i])] for i in (0, -1)]
    run = (
        f"the population goes from {value[0]:.3g} ({ends[0]}) to {value[-1]:.3g} ({ends[1]})."
        if np.isfinite(value[[0, -1]]).all()
        else f"the population's is broken. {BROKEN}"
    )
    lines = f", with a line for each of {len(scene.factor.levels):,} levels of {scene.factor.name}"
    if scene.factor.members is not None:
        lines = ""
    return f"{scene.outcome} predicted along {scene.x}{lines}: {run}"


BROKEN = (
    "Lines break where the data do not determine a prediction: redundant columns are held that "
    "move with the axis in the data."
)


BROUGHT = "Responses are brought to that offset."


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is drawn, read from the fit.

    Attributes
    ----------
    fit : a fit
    columns : dict
        The rows in the model.
    x : str
    by : str or None
        The column with a panel for each value.
    places : (n,) float64 array
        Of the rows along the axis.
    ticks : list of str or None
        Names of the places, where x holds categories.
    values : list or None
        Their values.
    factor : GroupingFactor
    predictors : tuple of str
        Columns of the fixed effects.
    groups : tuple of str
        Columns of all grouping factors.
    y : (n,) float64 array or None
    outcome : str
    category : int or None
    """

    fit: MixedFit
    columns: dict[str, Any]
    x: str
    by: str | None
    places: Floats
    ticks: list[str] | None
    values: list[Any] | None
    factor: GroupingFactor
    predictors: tuple[str, ...]
    groups: tuple[str, ...]
    y: Floats | None
    outcome: str
    category: int | None

    @property
    def _parts(self) -> Sequence[Specification]:
        return tuple(self.fit.parts.values())

    @property
    def stepped(self) -> bool:
        """Whether a formula takes the numbers of x for categories or positions."""
        return self._is_stepped(self.x) or self.x in self._positions

    def _is_stepped(self, name: str) -> bool:
        call = rf"\b(?:factor|C)\(\s*`?{re.escape(name)}`?\s*[,)]"
        return any(re.search(call, str(spec.formula)) for spec in self._parts)

    @cached_property
    def _positions(self) -> frozenset[str]:
        """Columns that say where a structured effect is, of which only those seen are known."""
        bars = [bar for spec in self._parts for bar in spec.recipe.model.bars]
        placed = [v for bar in bars if bar.structure in POSITIONED for v in bar.left.variables]
        return frozenset(name for node in placed for name in column_names(node))

    def typical(self, name: str, rows: NDArray[np.intp]) -> Any:
        """What a column is held at: a mean, or the most frequent value."""
        frequent = name in self._positions or self._is_stepped(name)
        return _typical(self.columns[name], rows, frequent)

    @classmethod
    def of(
        cls, fit: MixedFit, x: str | None, group: str | None, by: str | None, category: Any
    ) -> _Scene:
        require(fit, "plot.predictions()", Levelled)
        columns = own_columns(fit)
        table = Table.of(columns)
        factor = _factor(fit, group)
        predictors = _predictors(fit)
        chosen = _along(table, predictors, x)
        if by is not None and by not in table:
            raise UnknownColumnError(
                f"no column {by!r} in what the fit keeps of its table"
                f"{suggestion(str(by), table.columns)}"
            )
        places, ticks, values = _places(table, chosen)
        groups = tuple(dict.fromkeys(c for f in fit.factors for c in f.columns))
        y, outcome, number = _response(fit, category)
        return cls(
            fit, columns, chosen, by, places, ticks, values, factor, predictors, groups, y,
            outcome, number,
        )  # fmt: skip

    def titles(self) -> list[str]:
        if self.by is None:
            return ["Predictions by " + plain(self.factor.name)]
        names = told_apart(self._levels(self.by))
        return [f"{plain(self.by)}: {name}" for name in names]

    def _levels(self, by: str) -> list[str]:
        codes, levels = Table.of(self.columns).codes(by)
        used = np.unique(codes[codes >= 0])
        if len(used) > MOST_PANELS:
            raise ModelError(f"{by!r} has {len(used)} values; panels are for up to {MOST_PANELS}")
        return [shown_level(levels[k]) for k in used]

    @cached_property
    def every(self) -> NDArray[np.intp]:
        """All rows."""
        return np.arange(len(self.places))

    def panels(self) -> list[NDArray[np.intp]]:
        """Rows of each panel."""
        if self.by is None:
            return [self.every]
        codes, _ = Table.of(self.columns).codes(self.by)
        return [np.flatnonzero(codes == k) for k in np.unique(codes[codes >= 0])]

    def held(self, rows: NDArray[np.intp], along: Floats) -> dict[str, Any]:
        """A table with x along the axis, and the rest as it is typical of the rows."""
        out: dict[str, Any] = {}
        for name in dict.fromkeys((*self.predictors, *self._conditions())):
            if name != self.x:
                own = self.every if name in self._exposures else rows
                out[name] = _filled(len(along), self.typical(name, own))
        out[self.x] = (
            along if self.values is None else _objects([self.values[int(k)] for k in along])
        )
        return out

    def held_for_all(self, rows: NDArray[np.intp], along: Floats) -> dict[str, Any]:
        """A table with x along the axis, the panel's value, and the rest as of all rows."""
        out = self.held(self.every, along)
        if self.by in out and self.by != self.x:
            out[self.by] = _filled(len(along), self.typical(self.by, rows))
        return out

    def held_words(self, rows: NDArray[np.intp]) -> str:
        """``"age = 65.4, type = icu"``: what is held beside the axis, the panel and the groups."""
        at = self.held_for_all(rows, self.places[rows[:1]])
        aside = {self.x, self.by} | ({*self.groups, *self.factor.columns} - self._own_terms)
        texts = [
            f"{plain(name)} = {_value_text(np.asarray(values)[0])}"
            for name, values in at.items()
            if name not in aside
        ]
        more = f" and {len(texts) - MOST_HELD} more columns" if len(texts) > MOST_HELD else ""
        return ", ".join(texts[:MOST_HELD]) + more

    @cached_property
    def _exposures(self) -> frozenset[str]:
        """Columns that nothing but the offsets reads."""
        recipes = [spec.recipe for spec in self._parts]
        nodes = [node for recipe in recipes for node in recipe.model.offsets]
        given = [recipe.offset_column for recipe in recipes] + [GIVEN_OFFSET]
        names = {name for node in nodes for name in column_names(node)} | set(filter(None, given))
        bars = [bar for recipe in recipes for bar in recipe.model.bars]
        others = [v for recipe in recipes for v in recipe.model.fixed.variables]
        others += [v for bar in bars for v in bar.left.variables]
        return frozenset(names - {name for node in others for name in column_names(node)})

    @cached_property
    def responses(self) -> tuple[Floats, bool] | None:
        """Responses at the exposure that the lines are drawn for, and whether they are others."""
        if self.y is None:
            return None
        spec = self.fit.parts[CONDITIONAL]
        link = self.fit.family.link
        if spec.offset is None or link not in ("log", "identity") or not self._exposures:
            return self.y, False
        offset = spec.recipe.offset(self.native(self.held(self.every, self.places[:1])))
        assert offset is not None  # the rows have one
        away = float(offset[0]) - spec.offset
        at = self.y * np.exp(away) if link == "log" else self.y + away
        return at, bool(np.ptp(spec.offset) > 0)

    @cached_property
    def _own_terms(self) -> frozenset[str]:
        """Columns that are predictors, not only the groups that others are averaged over."""
        nodes = [node for spec in self._parts for node in spec.recipe.model.fixed.variables]
        kept = [n for n in nodes if not (isinstance(n, Call) and n.function in BY_GROUP)]
        return frozenset(name for node in kept for name in column_names(node))

    def native(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The columns with categories that are numbers as categories."""
        table = Table.of({name: self.columns[name] for name in columns if name in self.columns})
        for name in table.columns:
            if name in self.groups or table.kind(name) != "categorical":
                continue
            levels = table.codes(name)[1]
            if not all(isinstance(level, str) for level in levels):
                columns[name] = _categories(columns[name], levels)
        return columns

    def _conditions(self) -> Sequence[str]:
        """Columns of other parts and of slopes."""
        names: list[str] = []
        for spec in self._parts:
            nodes = spec.recipe.model.predictors
            names += [name for node in nodes for name in column_names(node)]
            names += [] if spec.recipe.offset_column is None else [spec.recipe.offset_column]
            names += spec.recipe.residual_columns
            names += [GIVEN_OFFSET] if spec.recipe.offset_given else []
        return names

    def predict(self, table: dict[str, Any], **how: Any) -> Any:
        """Predict rows; the picture says itself where the data do not determine them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RankWarning)
            return self.fit.predict(table, **how)

    def one(self, predicted: Any) -> Floats:
        values = np.asarray(predicted, dtype=np.float64)
        return values if values.ndim == 1 else values[:, self.category]


def _panel(
    ax: Axes, scene: _Scene, rows: NDArray[np.intp], kind: str, conf_level: float, data: bool
) -> bool:
    """Draw one panel; tell whether the data do not determine some of its lines."""
    lines, count = _level_lines(scene, rows)
    if scene.responses is not None and data:
        y = scene.responses[0][rows]
        if set(np.unique(y)) <= {0.0, 1.0}:
            y = y + np.where(y == 0, 1, -1) * np.random.default_rng(0).uniform(0, 0.04, len(y))
        style = {**cloud(len(rows)), "alpha": max(0.25, cloud(len(rows))["alpha"] * 0.7)}
        ax.plot(scene.places[rows], y, "o", color=MUTED, zorder=1, **style)
    marker = None if scene.values is None else "o"
    alpha = float(np.clip(9.0 / max(len(lines), 1), 0.18, 0.75))
    for i, (at, value) in enumerate(lines):
        some = f"{len(lines)} of {count:,}" if len(lines) < count else "each"
        name = f"{some} {plain(scene.factor.name)}" if i == 0 else None
        ax.plot(
            at, value, marker=marker, markersize=3.5, color=MARK, linewidth=1.1, alpha=alpha,
            zorder=2, label=name,
        )  # fmt: skip
    at, value, low, high = _population(scene, rows, kind, conf_level)
    ax.fill_between(at, low, high, color=ACCENT, alpha=0.18, linewidth=0, zorder=3)
    word = "population" if kind == "population" else f"typical {plain(scene.factor.name)}"
    ax.plot(
        at, value, marker=marker, markersize=6, color=ACCENT, linewidth=2.4, zorder=4,
        label=f"{word}, {percent(conf_level)} interval of the mean",
    )  # fmt: skip
    return any(bool(np.isnan(line).any()) for line in (value, *(v for _, v in lines)))


def _held_note(scene: _Scene, rows: NDArray[np.intp], kind: str, broken: bool, data: bool) -> str:
    """Say at which values of the other columns the line with the band stands."""
    word = "Population" if kind == "population" else "Typical level"
    held = scene.held_words(rows)
    moved = data and scene.responses is not None and scene.responses[1]
    said = [f"{word} at {held}."] * bool(held) + [BROUGHT] * moved + [BROKEN] * broken
    return " ".join(said)


def _say_held(axes: Sequence[Axes], notes: Sequence[str]) -> None:
    """Write notes below the axes: once below all of them where all say the same."""
    count = len(axes)
    if count > 1 and len(set(notes)) == 1:
        if notes[0]:
            axes[0].get_figure().supxlabel(  # type: ignore[union-attr]
                textwrap.fill(notes[0], 130), x=0.99, ha="right", fontsize=8, color=MUTED
            )
        return
    for ax, note in zip(axes, notes, strict=True):
        if note:
            ax.annotate(
                textwrap.fill(note, 72 if count == 1 else 40), (1, 0), (0, -36),
                xycoords="axes fraction", textcoords="offset points", ha="right", va="top",
                fontsize=8, color=MUTED,
            )  # fmt: skip


def _grid(scene: _Scene, rows: NDArray[np.intp]) -> Floats:
    places = scene.places[rows]
    if scene.values is not None or scene.stepped:
        return np.unique(places)
    return np.linspace(places.min(), places.max(), GRID)


def _population(
    scene: _Scene, rows: NDArray[np.intp], kind: str, conf_level: float
) -> tuple[Floats, Floats, Floats, Floats]:
    along = _grid(scene, rows)
    table = scene.native(scene.held_for_all(rows, along))
    said = Table.of(scene.predict(table, kind=kind, conf_level=conf_level))
    value, low, high = (said.numeric(c) for c in ("estimate", "conf_low", "conf_high"))
    if scene.category is not None:
        one = np.arange(len(along)) * len(scene.fit.categories or ()) + scene.category
        value, low, high = value[one], low[one], high[one]
    return along, value, low, high


def _level_lines(scene: _Scene, rows: NDArray[np.intp]) -> tuple[list[tuple[Floats, Floats]], int]:
    """The line of each level that occurs among the rows, and how many occur.

    None where a row may belong to several levels.
    """
    if scene.factor.members is not None:
        return [], 0
    weights = _weights(scene.fit)
    codes = scene.factor.codes[rows]
    levels = np.unique(codes)
    count = len(levels)
    if len(levels) > MOST_LINES:
        levels = levels[np.linspace(0, len(levels) - 1, MOST_LINES).astype(np.intp)]
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], levels)
    ends = np.searchsorted(codes[order], levels, side="right")
    tables, grids = [], []
    for first, last in zip(starts, ends, strict=True):
        rows_of_level = rows[order[first:last]]
        along = _grid(scene, rows_of_level)
        table = scene.held(rows_of_level, along)
        for name in scene.groups:
            if name in scene.factor.columns or name in weights:
                table[name] = _filled(len(along), scene.typical(name, rows_of_level))
            elif name not in table:
                table[name] = _filled(len(along), ANOTHER)
        tables.append(table)
        grids.append(along)
    whole = scene.native({name: np.concatenate([t[name] for t in tables]) for name in tables[0]})
    value = scene.one(scene.predict(whole, kind="conditional"))
    cuts = np.cumsum([len(g) for g in grids])[:-1]
    return list(zip(grids, np.split(value, cuts), strict=True)), count


def _weights(fit: MixedFit) -> set[str]:
    """Columns that are weights of memberships."""
    groups = [g for s in fit.parts.values() for bar in s.recipe.model.bars for g in bar.groups]
    own = [node for g in groups if g.membership for node in g.membership.weights]
    return {name for node in own for name in node.named}


def _same_heights(axes: Sequence[Axes]) -> None:
    low = min(a.get_ylim()[0] for a in axes)
    high = max(a.get_ylim()[1] for a in axes)
    for a in axes:
        a.set_ylim(low, high)


# --- reading


def _factor(fit: MixedFit, group: str | None) -> GroupingFactor:
    names = [f.name for f in fit.factors]
    if group is not None and group not in names:
        raise ModelError(
            f"the model has no grouping factor {group!r}{suggestion(str(group), names)}; it has "
            f"{', '.join(map(repr, names))}"
        )
    plain_first = sorted(fit.factors, key=lambda f: f.members is not None)
    return plain_first[0] if group is None else fit.factors[names.index(group)]


def _predictors(fit: MixedFit) -> tuple[str, ...]:
    nodes = fit.parts[CONDITIONAL].recipe.model.fixed.variables
    return tuple(dict.fromkeys(name for node in nodes for name in column_names(node)))


def _along(table: Table, predictors: tuple[str, ...], x: str | None) -> str:
    if x is not None:
        if x not in predictors:
            raise UnknownColumnError(
                f"no predictor {x!r}{suggestion(str(x), predictors)}; the fixed effects use "
                f"{', '.join(map(repr, predictors)) or 'none'}"
            )
        return x
    if not predictors:
        raise ModelError(
            "the fixed effects are an intercept alone, so there is no column to predict along; "
            "fit.plot.random() shows the levels"
        )
    numbers = [name for name in predictors if table.kind(name) == "numeric"]
    return (numbers or list(predictors))[0]


def _places(table: Table, x: str) -> tuple[Floats, list[str] | None, list[Any] | None]:
    if table.kind(x) == "numeric":
        return table.numeric(x), None, None
    codes, levels = table.codes(x)
    used = np.unique(codes)
    values = [levels[k] for k in used]
    places = np.searchsorted(used, codes).astype(np.float64)
    return places, [shown_level(v) for v in values], values


def _response(fit: MixedFit, category: Any) -> tuple[Floats | None, str, int | None]:
    """Responses as the mean speaks of them, their name, and the category."""
    spec = fit.parts[CONDITIONAL]
    name = plain(outcome_name(spec))
    if fit.categories is not None:
        names = list(fit.categories)
        if str(category) not in names:
            raise ModelError(
                f"the response has the categories {', '.join(map(repr, names))}; choose one by "
                f"category={suggestion(str(category), names) if category is not None else ''}"
            )
        return None, f"Probability of {plain(category)}", names.index(str(category))
    if isinstance(fit.family, Binomial | BetaBinomial):
        trials = fit.estimate.extra
        return spec.y if trials is None else spec.y / trials, f"Probability of {name}", None
    return spec.y, name, None


def _typical(values: Any, rows: NDArray[np.intp], frequent: bool) -> Any:
    """Mean of numbers, most frequent of categories and where it is asked for."""
    column = Table.of({"v": values})
    if column.kind("v") == "numeric":
        numbers = column.numeric("v")[rows]
        if not frequent:
            return float(np.mean(numbers))
        different, count = np.unique(numbers, return_counts=True)
        return float(different[count.argmax()])
    codes, levels = column.codes("v")
    return levels[int(np.bincount(codes[rows]).argmax())]


def _value_text(value: Any) -> str:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return f"{float(value):.4g}" if real else plain(shown_level(value))


def _filled(n: int, value: Any) -> Any:
    return np.full(n, value) if isinstance(value, float | bool) else _objects([value] * n)


def _categories(values: Any, levels: Sequence[Any]) -> Any:
    import pandas as pd

    return pd.Categorical(values, categories=list(levels))


def _objects(values: list[Any]) -> NDArray[Any]:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
