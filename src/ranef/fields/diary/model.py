"""The within-between model of a diary, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.api.fitting import lmm
from ranef.errors import DataError
from ranef.fields.diary.occasions import Occasions, Roles
from ranef.fields.diary.variance import Levels
from ranef.formula.syntax import Name

__all__ = [
    "Effects",
    "Formula",
    "Slopes",
    "effects",
    "formula_of",
    "levels_of",
    "slopes",
    "variances",
    "within_persons",
]

Floats = NDArray[np.float64]
MOST_CORRELATED = 3
DAY = "day"


@dataclass(frozen=True, eq=False)
class Formula:
    """The model's formula, and the table it is read against.

    Attributes
    ----------
    text : str
    table : dict of str to (n,) arrays
    parts : dict of str to dict of str to str
        Predictor -> effect -> coefficient.
    person : str
        Name of the persons' column in the table.
    day : str or None
        Of the days', where a day has several prompts.
    slopes : bool
    time : str
        Hours or numbers of the clock, as a formula writes them.
    series : str
        The groups within which prompts follow one another, as a formula writes them.
    """

    text: str
    table: dict[str, Any]
    parts: dict[str, dict[str, str]]
    person: str
    day: str | None
    slopes: bool
    time: str
    series: str


def formula_of(
    occasions: Occasions, roles: Roles, *, by_day: bool, slopes: bool, lagged: bool
) -> Formula:
    """Write the model down."""
    table: dict[str, Any] = dict(occasions.columns)
    person = _free(roles.person, table)
    table[person] = occasions.labels
    day = _day_column(occasions, roles, table)
    time = _free(roles.time, table)
    table[time] = occasions.clock.time
    when = Name(time).printed
    if by_day and day is None:
        raise DataError("by_day=True needs days with several prompts; give day=")
    who = Name(person).printed
    groups = f"{who}/{Name(day).printed}" if by_day and day is not None else who
    parts = {x: _parts(Name(x).printed, who, groups) for x in roles.predictors}
    fixed = [name for pieces in parts.values() for name in pieces.values()]
    fixed += [Name(name).printed for name in roles.covariates]
    if lagged:
        fixed.append(_lagged(occasions, roles, when, who, day))
    inner = [pieces["within"] for pieces in parts.values()] if slopes else []
    bar = "||" if len(inner) > MOST_CORRELATED else "|"
    random = [f"({' + '.join(['1', *inner])} {bar} {who})"]
    if day is not None:
        random.append(f"(1 | {who}:{Name(day).printed})")
    text = f"{Name(roles.outcome).printed} ~ {' + '.join([*fixed, *random])}"
    series = who if day is None else f"{who}/{Name(day).printed}"
    return Formula(text, table, parts, person, day, slopes, when, series)


def _free(name: str, table: dict[str, Any]) -> str:
    """A name that no other column of the model has."""
    while name in table:
        name = f"{name}_"
    return name


def _day_column(occasions: Occasions, roles: Roles, table: dict[str, Any]) -> str | None:
    """Put the days into the table, where some day has several answers and some person days."""
    labels = occasions.day_labels
    if labels is None:
        return None
    answered = ~np.isnan(occasions.columns[roles.outcome]) & (occasions.series >= 0)
    counts = np.unique(occasions.series[answered], return_counts=True)[1]
    if not len(counts) or counts.max() < 2 or len(counts) <= occasions.n_persons:
        return None
    day = _free(roles.day or DAY, table)
    table[day] = labels
    return day


def _parts(x: str, person: str, groups: str) -> dict[str, str]:
    parts = {"within": f"within({x}, {groups})"}
    if groups != person:
        parts["between_day"] = f"between({x}, {groups})"
    parts["between"] = f"between({x}, {person})"
    return parts


def _lagged(occasions: Occasions, roles: Roles, time: str, who: str, day: str | None) -> str:
    said = f"lag({Name(roles.outcome).printed}, {who}, time = {time}"
    if day is not None:
        said += f", day = {Name(day).printed}"
    if occasions.gap is not None:
        said += f", max_gap = {occasions.gap!r}"
    return f"within({said}), {who})"


# --- effects


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of the predictors, (k,) each."""

    predictors: tuple[str, ...]
    effects: tuple[str, ...]
    estimate: Floats
    std_error: Floats
    df: Floats
    statistic: Floats
    p_value: Floats
    conf_low: Floats
    conf_high: Floats
    slope_sd: Floats


NUMBERS = ("estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high")


def effects(fit: Any, formula: Formula, conf_level: float) -> Effects:
    """Ask the fit for each part's slope, and for between minus within."""
    predictors, kinds, spread = [], [], []
    contrasts = []
    sds = _slope_sds(fit, formula)
    for x, parts in formula.parts.items():
        weights: dict[str, dict[str, float]] = {
            kind: {name: 1.0} for kind, name in parts.items() if name in fit.names
        }
        if {"within", "between"} <= weights.keys():
            weights["contextual"] = {parts["between"]: 1.0, parts["within"]: -1.0}
        for kind, weight in weights.items():
            predictors.append(x)
            kinds.append(kind)
            spread.append(sds.get(parts["within"], np.nan) if kind == "within" else np.nan)
            contrasts.append(fit.contrast(weight, conf_level=conf_level))
    numbers = {k: np.array([getattr(c, k) for c in contrasts], dtype=np.float64) for k in NUMBERS}
    return Effects(tuple(predictors), tuple(kinds), **numbers, slope_sd=np.array(spread))


def _slope_sds(fit: Any, formula: Formula) -> dict[str, float]:
    return {
        term: estimate
        for group, term, parameter, estimate in variances(fit)
        if group == formula.person and parameter == "sd"
    }


def variances(fit: Any) -> list[tuple[str, str, str, float]]:
    """Rows of ``tidy("variance")``: group, term, parameter and estimate."""
    table = fit.tidy("variance")
    columns = (np.asarray(table[k]).tolist() for k in ("group", "term", "parameter", "estimate"))
    return list(zip(*columns, strict=True))


# --- persons


@dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes of each person, (k,) each; `raw` is that of the person's own rows alone."""

    persons: tuple[Any, ...]
    predictors: tuple[str, ...]
    n: NDArray[np.int_]
    estimate: Floats
    std_error: Floats
    conf_low: Floats
    conf_high: Floats
    raw: Floats


def slopes(
    fit: Any, formula: Formula, occasions: Occasions, roles: Roles, conf_level: float
) -> Slopes:
    """Each person's slopes within: shrunken, and of the person's own rows by least squares."""
    factor = fit.factors[fit.factor_number(formula.person)]
    of_term = {parts["within"]: x for x, parts in formula.parts.items()}
    table = fit.coef_by_level(formula.person, conf_level=conf_level)
    terms = np.asarray(table["term"])
    blocks = [(t, np.flatnonzero(terms == t)) for t in of_term if np.any(terms == t)]
    raw = _own_slopes(fit, factor.codes, factor.n_levels, [t for t, _ in blocks])
    n = np.bincount(factor.codes, minlength=factor.n_levels)
    columns: dict[str, list[Any]] = {name: [] for name in ("estimate", "std_error", "conf_low",
                                                           "conf_high")}  # fmt: skip
    persons: list[Any] = []
    predictors: list[str] = []
    for term, rows in blocks:
        persons += list(np.asarray(table["level"], dtype=object)[rows])
        predictors += [of_term[term]] * len(rows)
        for name, values in columns.items():
            values.append(np.asarray(table[name], dtype=np.float64)[rows])
    joined = {k: np.concatenate(v) if v else np.empty(0) for k, v in columns.items()}
    own = np.concatenate(raw) if raw else np.empty(0)
    return Slopes(tuple(persons), tuple(predictors), np.tile(n, len(blocks)), **joined, raw=own)


def _own_slopes(
    fit: Any, codes: NDArray[np.int32], n_levels: int, terms: Sequence[str]
) -> list[Floats]:
    """Least squares of each person's rows on all parts within; NaN where they do not suffice."""
    spec = fit.parts["conditional"]
    X = np.column_stack([np.ones(spec.n), *(spec.X[:, fit.names.index(t)] for t in terms)])
    out = np.full((len(terms), n_levels), np.nan)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_levels))
    for g, rows in enumerate(np.split(order, ends[:-1])):
        own = X[rows]
        if len(rows) > own.shape[1] and np.linalg.matrix_rank(own) == own.shape[1]:
            out[:, g] = np.linalg.lstsq(own, spec.y[rows], rcond=None)[0][1:]
    return list(out)


def within_persons(fit: Any, formula: Formula) -> Floats:
    """What the model's predictors and persons leave of the outcome, the days' effects left in."""
    left = np.asarray(fit.residuals(), dtype=np.float64).copy()
    kept = ~np.isnan(left)
    for term, modes in zip(fit.terms, fit.estimate.modes, strict=True):
        factor = fit.factors[term.factor]
        if factor.name != formula.person:
            left[kept] += np.sum(np.asarray(modes)[factor.codes] * term.z, axis=1)
    return left


# --- variances by level


def levels_of(name: str, formula: Formula, occasions: Occasions) -> Levels:
    """Variances of a variable between persons, days and moments, by REML without predictors."""
    y, who = Name(name).printed, Name(formula.person).printed
    random = [f"(1 | {who})"]
    if formula.day is not None:
        random.append(f"(1 | {who}:{Name(formula.day).printed})")
    wanted = {name, formula.person, *([] if formula.day is None else [formula.day])}
    table = {k: v for k, v in formula.table.items() if k in wanted}
    fit = lmm(f"{y} ~ 1 + {' + '.join(random)}", table)
    found = {group: estimate**2 for group, _, _, estimate in variances(fit)}
    day = None
    if formula.day is not None:
        [label] = [group for group in found if group not in (formula.person, "Residual")]
        day = found[label]
    return Levels(found[formula.person], day, found["Residual"])
