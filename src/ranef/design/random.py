"""Random terms: model matrix, grouping factor, structure and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.determinacy import is_determined, without_correlations
from ranef.design.grouping import GroupRecipe, cross
from ranef.design.kernels import kernel_of
from ranef.design.matrix import Layout, Variable, check_memory, lay_out, model_matrix
from ranef.design.membership import membership_factor, membership_matrix
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.design.values import Categories, Numbers, drop_unused, match_levels
from ranef.design.variables import Frame
from ranef.errors import (
    FileError,
    FormulaError,
    LevelError,
    ModelError,
    RankWarning,
    row_text,
    warn,
)
from ranef.formula.labels import level_text, number_text
from ranef.formula.model import Bar, Grouping, Terms

__all__ = [
    "Factors",
    "RandomEffects",
    "RandomRecipe",
    "Residual",
    "TermPart",
    "factor_of",
    "is_free",
    "random_effects",
    "separated",
    "spread",
    "term_columns",
    "term_parts",
]

Floats = NDArray[np.float64]
ON_TIME = frozenset(("ar1", "hetar1", "toep", "homtoep"))
LAGGED = frozenset(("toep", "homtoep"))
"""Structures with a correlation for each lag, which need equal steps."""
IN_SPACE = frozenset(("ou", "exp", "gau", "mat"))
UNSTRUCTURED = frozenset(("us", "diag", "homdiag", "cs", "homcs"))


@dataclass(frozen=True, eq=False)
class RandomRecipe:
    """How to make one random term's arrays from another table.

    Attributes
    ----------
    bar : int
        Index into the model's bars.
    factor : int
        Index into the grouping factors.
    picked : tuple of int or None
        Columns of the bar's model matrix that the term has; None for all.
    positions : (r, d) float64 array or None
        Distinct coordinates, where each has its own column.
    part : int or None
        Which of the terms that a double bar separates, see `separated`; None for all that
        stands left of the bar.
    tied : tuple of int or None
        Of a term whose effects are tied across parts: where its own columns stand among the
        r of all parts, and r at the end.
    """

    bar: int
    factor: int
    picked: tuple[int, ...] | None = None
    positions: Floats | None = None
    part: int | None = None
    tied: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TermPart:
    """A term left of the bar of a random term.

    Attributes
    ----------
    name : str
        ``"Days"``; ``"1"`` for the intercept.
    variables : frozenset of str
    columns : tuple of int or None
        Of the random term's; None for all.
    """

    name: str
    variables: frozenset[str]
    columns: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """The random terms of one formula with their grouping factors, and the recipes of both."""

    groups: tuple[GroupRecipe, ...]
    factors: tuple[GroupingFactor, ...]
    recipes: tuple[RandomRecipe, ...]
    terms: tuple[RandomTerm, ...]


Factors = dict[str, tuple[GroupRecipe, GroupingFactor]]
_OVERRIDE = "; undetermined='keep' fits it all the same and says what is not determined"


@dataclass(frozen=True, eq=False)
class Residual:
    """What an effect of each row would be mistaken for.

    Attributes
    ----------
    words : str
        Empty where a level for each row makes sense: overdispersed counts, a known sigma.
    weights : (n,) float64 array or None
        Precision weights of the rows.
    """

    words: str = "the residual"
    weights: Floats | None = None

    def variance(self, n: int) -> Floats | None:
        """Residual variance (n,) up to sigma^2; None where there is none to be estimated."""
        if not self.words:
            return None
        return np.ones(n) if self.weights is None else 1.0 / self.weights


def random_effects(
    bars: Sequence[Bar],
    frame: Frame,
    fixed: tuple[Layout, Floats] | None,
    kernels: Mapping[str, Any] | None,
    shared: Factors,
    residual: Residual | None,
) -> RandomEffects:
    """Make the random terms of a formula, and refuse those that cannot be distinguished.

    Parameters
    ----------
    fixed : tuple or None
        Layout and model matrix of the fixed effects (of full rank), which a
        term with the same columns shares.
    shared : dict
        Grouping factors by their text, of all formulas so far; new ones are added.
    residual : Residual or None
        What the terms must be told from; None keeps terms that cannot be.
    """
    places: dict[str, int] = {}
    factors: list[tuple[GroupRecipe, GroupingFactor]] = []
    terms: list[tuple[RandomRecipe, RandomTerm]] = []
    for index, bar in enumerate(bars):
        for group in bar.groups:
            if group.text not in places:
                places[group.text] = len(factors)
                if group.text not in shared:
                    shared[group.text] = factor_of(group, frame)
                factors.append(shared[group.text])
            place = places[group.text]
            pairs = _random_terms(index, bar, place, group.text, frame, fixed)
            if group.membership is not None:
                pairs = _over_members(pairs, bar, group, factors[place][1], frame)
            if bar.kernel is not None:
                factor = factors[place][1]
                kernel = kernel_of(kernels, bar.kernel, factor.levels, factor.name, bar.inverse)
                pairs = [(recipe, replace(term, kernel=kernel)) for recipe, term in pairs]
            terms += pairs
    seen: set[str] = set()
    for _, term in terms:
        if term.label in seen:
            raise ModelError(f"the random term ({term.label}) appears twice")
        seen.add(term.label)
        if residual is not None:
            _check_identifiable(term, factors[term.factor][1], frame.n_rows, residual)
    return RandomEffects(
        tuple(recipe for recipe, _ in factors),
        tuple(factor for _, factor in factors),
        tuple(recipe for recipe, _ in terms),
        tuple(term for _, term in terms),
    )


def factor_of(group: Grouping, frame: Frame) -> tuple[GroupRecipe, GroupingFactor]:
    """Make a grouping factor from its columns, and the recipe that makes it again.

    The levels of one column are as they are, those of several are joined by a colon.
    """
    if group.membership is not None:
        return membership_factor(group, frame.memberships(group))
    parts = [drop_unused(frame.group(key)) for key in group.keys]
    if len(parts) == 1:
        codes, levels = parts[0].codes, list(parts[0].levels)
        cells = np.arange(len(levels), dtype=np.int32)[:, None]
    else:
        crossed = cross(parts)
        codes, levels, cells = crossed.codes, crossed.labels(), crossed.cells
    recipe = GroupRecipe(group.keys, tuple(tuple(part.levels) for part in parts), cells)
    return recipe, GroupingFactor(group.name, group.columns, codes, levels)


def _over_members(
    pairs: list[tuple[RandomRecipe, RandomTerm]],
    bar: Bar,
    group: Grouping,
    factor: GroupingFactor,
    frame: Frame,
) -> list[tuple[RandomRecipe, RandomTerm]]:
    """Give each level of the memberships a column of one term; their effects are independent."""
    levels = factor.members or ()
    if bar.structure != "us" or bar.tie is not None or any(term.size > 1 for _, term in pairs):
        raise ModelError(
            f"{group.name} takes terms of one column without a structure or a label, such as "
            f"(1 | {group.name}) + (0 + x | {group.name}), which are independent"
        )
    if len(levels) < 2:
        raise ModelError(
            f"{group.name} has one level ({levels[0]!r}) in the rows used; a variance needs two "
            "or more: leave the term out"
        )
    check_memory(frame.n_rows, len(levels) + 1, f"the memberships of {group.name}")
    found = frame.memberships(group)
    names = (*map(level_text, levels), OTHERS)
    return [
        (
            recipe,
            replace(
                term,
                names=names,
                z=membership_matrix(found, levels, term.z),
                structure="homdiag",
                member=term.names[0],
            ),
        )
        for recipe, term in pairs
    ]


OTHERS = "(levels not seen)"
"""Name of the column of a membership's term that stands for these."""


def _own_terms(bar: Bar) -> Terms:
    """Return the terms left of the bar; structures over time and space have no intercept."""
    if bar.structure in ON_TIME | IN_SPACE:
        return replace(bar.left, intercept=False)
    return bar.left


def separated(terms: Terms) -> list[Terms]:
    """The terms that a double bar separates, each alone: an intercept, a slope, a factor."""
    out = [Terms((), (), (), True)] if terms.intercept else []
    for own in terms.terms:
        variables = tuple(terms.variables[i] for i in own)
        keys = tuple(terms.keys[i] for i in own)
        out.append(Terms(variables, keys, (tuple(range(len(own))),), False))
    return out


def _left_of(bar: Bar, recipe: RandomRecipe) -> Terms:
    """Return the terms left of the bar that one random term has."""
    terms = _own_terms(bar)
    return terms if recipe.part is None else separated(terms)[recipe.part]


def _coordinates(bar: Bar, frame: Frame) -> Floats | None:
    """Return numeric coordinates, (n, d); None where a factor gives the columns."""
    if bar.structure not in ON_TIME | IN_SPACE:
        return None
    variables = frame.variables(bar.left)
    plain = all(len(term) == 1 for term in bar.left.terms)
    if not variables or not plain:
        raise FormulaError(
            f"{bar.structure}({bar.text} | ...) needs a time or coordinates left of the bar"
        )
    numeric = [isinstance(v.value, Numbers) and v.value.values.ndim == 1 for v in variables]
    if bar.structure in ON_TIME and len(variables) > 1:
        raise FormulaError(f"{bar.structure}() takes one time variable, not {bar.text}")
    if bar.structure in ON_TIME and not numeric[0]:
        return None
    if not all(numeric):
        odd = variables[numeric.index(False)].key
        raise FormulaError(f"{bar.structure}() needs numbers as coordinates; {odd} is not one")
    values = np.column_stack([v.value.values for v in variables if isinstance(v.value, Numbers)])
    if bar.structure in ON_TIME and not np.array_equal(values, np.round(values)):
        raise ModelError(
            f"{bar.structure}() needs whole numbers as times; {bar.text} has others: "
            "use ou() for continuous time, or a factor"
        )
    return values


def _position_names(keys: tuple[str, ...], positions: Floats) -> tuple[str, ...]:
    printed = [[number_text(v) for v in row] for row in positions.tolist()]
    if len(keys) == 1:
        return tuple(keys[0] + row[0] for row in printed)
    return tuple(f"({','.join(keys)})({','.join(row)})" for row in printed)


def _one_hot(codes: NDArray[np.intp], size: int) -> Floats:
    out = np.zeros((len(codes), size))
    out[np.arange(len(codes)), codes] = 1.0
    return out


def _random_terms(
    index: int,
    bar: Bar,
    factor: int,
    group: str,
    frame: Frame,
    fixed: tuple[Layout, Floats] | None,
) -> list[tuple[RandomRecipe, RandomTerm]]:
    """Make the random terms of one bar and one grouping factor."""
    label = f"{bar.printed} | {group}"
    if bar.structure != "us":
        extra = f", {bar.rank}" if bar.structure == "rr" else ""
        if bar.kernel:
            extra = f", inverse={bar.kernel}" if bar.inverse else f", {bar.kernel}"
        label = f"{bar.structure}({label}{extra})"
    recipe = RandomRecipe(index, factor)
    coordinates = _coordinates(bar, frame)
    if coordinates is not None:
        return [_over_positions(recipe, bar, label, coordinates)]
    terms = _own_terms(bar)
    variables = frame.variables(terms)
    if bar.independent and any(isinstance(v.value, Categories) for v in variables):
        return _separate_terms(recipe, terms, frame, group)
    layout = lay_out(terms, variables, frame.n_rows)
    if not layout.names:
        raise ModelError(f"the random term ({label}) has no columns")
    picked = list(range(len(layout.names)))
    if fixed is not None and fixed[0] == layout and fixed[1].shape[1] == len(layout.names):
        z = fixed[1]
    else:
        z = model_matrix(layout, variables, frame.n_rows)
        picked = _sound_columns(z, layout.names, label)
    if bar.independent:
        return [_single(replace(recipe, picked=(j,)), layout.names[j], z, group) for j in picked]
    positions = _factor_positions(bar, frame) if bar.structure in ON_TIME else None
    names = layout.names
    if len(picked) < len(names):
        z, names = np.ascontiguousarray(z[:, picked]), tuple(names[j] for j in picked)
        recipe = replace(recipe, picked=tuple(picked))
    structure = "us" if bar.structure == "kernel" else bar.structure
    if bar.rank is not None and bar.rank > len(names):
        raise ModelError(f"{label} asks for rank {bar.rank}, but has {len(names)} columns")
    return [
        (recipe, RandomTerm(label, factor, names, z, structure, bar.rank, positions, tie=bar.tie))
    ]


def _separate_terms(
    recipe: RandomRecipe, terms: Terms, frame: Frame, group: str
) -> list[tuple[RandomRecipe, RandomTerm]]:
    """Write out a double bar that has a factor: ``(f || g)`` is ``(1 | g) + (0 + f | g)``.

    All levels of the factor have a column, whichever is the reference, and stay correlated,
    since variances of treatment columns would depend on the reference.
    """
    out = []
    for part, own in enumerate(separated(terms)):
        left = f"0 + {':'.join(own.keys)}" if own.keys else "1"
        label = f"{left} | {group}"
        variables = frame.variables(own)
        layout = lay_out(own, variables, frame.n_rows)
        z = model_matrix(layout, variables, frame.n_rows)
        picked = _sound_columns(z, layout.names, label)
        names, kept = layout.names, None
        if len(picked) < len(names):
            kept, names = tuple(picked), tuple(names[j] for j in picked)
            z = np.ascontiguousarray(z[:, picked])
        term = RandomTerm(label, recipe.factor, names, z)
        out.append((replace(recipe, picked=kept, part=part), term))
    return out


def _single(
    recipe: RandomRecipe, name: str, z: Floats, group: str
) -> tuple[RandomRecipe, RandomTerm]:
    """Make the term of one column of a double bar."""
    assert recipe.picked is not None
    left = "1" if name == "(Intercept)" else f"0 + {name}"
    column = np.ascontiguousarray(z[:, list(recipe.picked)])
    return recipe, RandomTerm(f"{left} | {group}", recipe.factor, (name,), column)


def _over_positions(
    recipe: RandomRecipe, bar: Bar, label: str, coordinates: Floats
) -> tuple[RandomRecipe, RandomTerm]:
    positions, codes = np.unique(coordinates, axis=0, return_inverse=True)
    check_memory(len(coordinates), len(positions), label)
    if bar.structure in LAGGED and len(positions) > 2 and np.ptp(np.diff(positions[:, 0])) > 0:
        raise ModelError(f"{label} needs equally spaced times; {bar.text} has gaps")
    names = _position_names(bar.left.keys, positions)
    z = _one_hot(codes.reshape(-1), len(positions))
    term = RandomTerm(label, recipe.factor, names, z, bar.structure, None, positions)
    return replace(recipe, positions=positions), term


def _factor_positions(bar: Bar, frame: Frame) -> Floats:
    """Return the places of a time factor's levels among its declared levels."""
    key = bar.left.keys[0]
    coding = frame.variable(key).coding
    assert coding is not None
    declared = frame.declared[key]
    every = Categories(np.arange(len(coding.levels), dtype=np.int32), coding.levels)
    places, _ = match_levels(every, declared)
    if bar.structure in LAGGED and len(places) > 2 and np.ptp(np.diff(places)) > 0:
        raise ModelError(
            f"{bar.structure}({bar.text} | ...) needs all levels of {key}, and some do not occur: "
            "take them out of its categories, or use ar1() or us()"
        )
    return places.astype(np.float64)[:, None]


def _sound_columns(z: Floats, names: tuple[str, ...], label: str) -> list[int]:
    """Leave out columns that are zero in every row; refuse equal ones."""
    head = z[:64]
    filled = [bool(head[:, j].any() or z[:, j].any()) for j in range(len(names))]
    picked = [j for j, here in enumerate(filled) if here]
    if not picked:
        raise ModelError(f"every column of the random term ({label}) is zero")
    if len(picked) < len(names):
        empty = ", ".join(name for name, here in zip(names, filled, strict=True) if not here)
        warn(
            f"the random term ({label}) leaves out columns that are zero in every row: {empty}",
            RankWarning,
        )
    for place, i in enumerate(picked):
        for j in picked[place + 1 :]:
            if np.array_equal(head[:, i], head[:, j]) and np.array_equal(z[:, i], z[:, j]):
                raise ModelError(
                    f"the columns {names[i]} and {names[j]} of the random term ({label}) are "
                    "the same, so their variances cannot be distinguished; leave one out"
                )
    return picked


def is_free(term: RandomTerm) -> bool:
    """Tell whether levels of a term are independent and its columns have no known positions."""
    plain = term.kernel is None and term.member is None
    return term.structure in UNSTRUCTURED | {"rr"} and plain


def _check_identifiable(
    term: RandomTerm, factor: GroupingFactor, n: int, residual: Residual
) -> None:
    """Refuse a term whose variances cannot be distinguished from others, by its rank.

    Only where there are as many effects as rows can that be; then the data decide: visits at
    different times, weights or a column that differ between the rows.
    """
    free = is_free(term)
    if term.member is not None:
        return
    if factor.n_levels < 2 and free:
        raise ModelError(
            f"the grouping factor {factor.name!r} has one level ({factor.levels[0]!r}) in the rows "
            f"used; the variance of ({term.label}) needs two or more: leave the term out"
        )
    effects = factor.n_levels * term.size
    many = effects >= n if residual.words else effects > n
    if term.kernel is not None or term.structure not in UNSTRUCTURED | {"rr"} or not many:
        return
    if is_determined(term, factor, residual.variance(n)):
        return
    if factor.n_levels >= n and residual.words:
        raise ModelError(
            f"the grouping factor {factor.name!r} has as many levels as there are rows ({n}), so "
            f"({term.label}) cannot be distinguished from {residual.words}; group by a coarser "
            f"factor{_OVERRIDE}"
        )
    simpler = without_correlations(term)
    advice = (
        "take out a column, or give each a term of its own, as in (1 | g) + (0 + x | g)"
        if term.size > 1 and is_determined(simpler, factor, residual.variance(n))
        else "take out a column"
        if term.size > 1
        else "group by a coarser factor"
    )
    raise ModelError(
        f"({term.label}) has {factor.n_levels} x {term.size} = {effects} random effects for "
        f"{n} rows, and its variances cannot be distinguished from "
        f"{residual.words or 'each other'}; {advice}{_OVERRIDE}"
    )


def term_columns(recipe: RandomRecipe, bar: Bar, frame: Frame) -> Floats:
    """Make a term's model matrix in another table, (N, r), NaN where a column is missing."""
    frame.add_terms(bar.left)
    gone = frame.missing_rows()
    known = np.ones(frame.n_rows, dtype=bool) if gone is None else ~gone
    if recipe.positions is not None:
        z = _at_positions(recipe.positions, frame.variables(bar.left), known, bar)
    else:
        terms = _left_of(bar, recipe)
        variables = frame.variables(terms)
        layout = lay_out(terms, variables, frame.n_rows)
        z = model_matrix(layout, variables, frame.n_rows)
        if recipe.picked is not None:
            if max(recipe.picked, default=0) >= z.shape[1]:
                raise FileError("the saved model's random terms do not fit its formula")
            z = np.ascontiguousarray(z[:, list(recipe.picked)])
    if recipe.tied is not None:
        own, size = list(recipe.tied[:-1]), max(recipe.tied[-1:], default=0)
        fits = len(own) == z.shape[1] and all(0 <= column < size for column in own)
        if not fits or size > MOST_TIED:
            raise FileError("the saved model's random terms do not fit its formula")
        z = spread(z, own, size)
    z[~known] = np.nan
    return z


MOST_TIED = 10_000
"""Columns of a term that a saved model may speak of."""


def spread(z: Floats, own: Sequence[int], size: int) -> Floats:
    """Place columns (n, c) among `size` columns, the others zero.

    Examples
    --------
    >>> spread(np.ones((1, 2)), (0, 2), 3)
    array([[1., 0., 1.]])
    """
    out = np.zeros((len(z), size))
    out[:, list(own)] = z
    return out


def term_parts(recipe: RandomRecipe, bar: Bar, frame: Frame) -> tuple[TermPart, ...]:
    """Return the terms left of the bar and which columns of the random term each makes.

    Of structures over time and space, whose columns belong together, there is one.
    """
    if bar.structure in ON_TIME | IN_SPACE:
        return (TermPart(bar.text, frozenset(bar.left.keys), None),)
    frame.add_terms(bar.left)
    left = _left_of(bar, recipe)
    variables = frame.variables(left)
    layout = lay_out(left, variables, frame.n_rows)
    sets = [frozenset[str]()] * layout.intercept
    names = ["1"] * layout.intercept
    for own in left.terms:
        sets.append(frozenset(left.keys[i] for i in own))
        names.append(":".join(left.keys[i] for i in own))
    assigned = layout.assigned(variables)
    if recipe.picked is not None:
        assigned = assigned[list(recipe.picked)]
    return tuple(
        TermPart(name, own, tuple(np.flatnonzero(assigned == t).tolist()))
        for t, (name, own) in enumerate(zip(names, sets, strict=True))
    )


def _at_positions(
    positions: Floats, variables: list[Variable], known: NDArray[np.bool_], bar: Bar
) -> Floats:
    numeric = [v.value.values for v in variables if isinstance(v.value, Numbers)]
    if (
        not numeric
        or len(numeric) != positions.shape[1]
        or any(values.ndim > 1 for values in numeric)
    ):
        raise FileError(f"the saved positions of {bar.structure}({bar.text} | ...) do not fit")
    values = np.column_stack(numeric)
    place = {tuple(row): i for i, row in enumerate(positions.tolist())}
    z = np.zeros((len(values), len(positions)))
    for row in np.flatnonzero(known).tolist():
        column = place.get(tuple(values[row].tolist()))
        if column is None:
            where = ", ".join(number_text(v) for v in values[row].tolist())
            raise LevelError(
                f"{row_text(row)} has {bar.text} at {where}, where the fit has no row; "
                f"{bar.structure}() predicts at the positions of the fit"
            )
        z[row, column] = 1.0
    return z
