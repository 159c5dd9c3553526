"""How a fit's matrices are made again from another table.

A recipe holds the formula as text and what was learned from the data (levels,
contrasts, knots, means) as plain values. One from a stranger's file is parsed and
checked; it runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.grouping import GroupRecipe
from ranef.design.matrix import Layout, Variable, lay_out, model_matrix
from ranef.design.membership import membership_matrix
from ranef.design.random import (
    RandomRecipe,
    TermPart,
    separated,
    spread,
    term_columns,
    term_parts,
)
from ranef.design.residual import ResidualReader, ResidualRecipe
from ranef.design.response import (
    PROPORTION,
    SUCCESSES,
    ResponseKind,
    fits_formula,
    read_response,
)
from ranef.design.state import State
from ranef.design.terms import ResidualTerm
from ranef.design.values import Categories, Numbers
from ranef.design.variables import Frame
from ranef.errors import FileError, ModelError
from ranef.formula.model import Grouping, Model, model_with_dot
from ranef.formula.syntax import Call, Name, Node, walk
from ranef.tables import Table

__all__ = ["Recipe", "check_recipe"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
WIDEST = 1_000_000


GIVEN_OFFSET = "(offset)"
"""Column of an offset that was handed over as an array, in a table that holds it."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How to make the same matrices from another table.

    Attributes
    ----------
    formula : str
    dot : tuple of str or None
        The columns that ``.`` stood for.
    state : dict
        What was learned from the data, by printed call or variable.
    kept : tuple of int
        Columns of the fixed effects' model matrix that were not redundant.
    groups : tuple of GroupRecipe
    random : tuple of RandomRecipe
        One for each random term.
    weights_column, offset_column : str or None
        Columns named by the arguments `weights` and `offset`.
    offset_given : bool
        True when the offset was given as an array.
    functions : mapping
        Functions that the call handed over.
    formula_columns : tuple of str
        Columns that the formula uses.
    reading : ResponseKind or None
        How the response of a generalised model is read.
    residual : ResidualRecipe or None
        Of a linear model whose residuals have a structure.
    """

    formula: str
    dot: tuple[str, ...] | None
    state: dict[str, State]
    kept: tuple[int, ...]
    groups: tuple[GroupRecipe, ...]
    random_recipes: tuple[RandomRecipe, ...]
    weights_column: str | None = None
    offset_column: str | None = None
    offset_given: bool = False
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    formula_columns: tuple[str, ...] = ()
    reading: ResponseKind | None = None
    residual: ResidualRecipe | None = None

    @cached_property
    def model(self) -> Model:
        """The formula as read."""
        return model_with_dot(self.formula, self.dot)

    @property
    def residual_columns(self) -> tuple[str, ...]:
        """Names of the columns that the structure of the residuals uses."""
        own = self.residual
        return () if own is None else ResidualReader(own.residual, own.dispersion).names

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns used, in order of first use."""
        extra = [name for name in (self.weights_column, self.offset_column) if name is not None]
        return tuple(dict.fromkeys([*self.formula_columns, *extra]))

    def fixed(
        self,
        data: Any,
        held: Mapping[str, Floats] | None = None,
        *,
        redundant: bool = False,
        unseen_is_missing: bool = False,
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Make the fixed effects' model matrix.

        Parameters
        ----------
        data : table
        held : mapping of str to (N,) or (N, c) arrays, optional
            Numeric variables of the formula, by their print, whose values are given
            instead of evaluated: ``within(x, g)`` of rows that stand for no group.
        redundant : bool
            With the redundant columns that the fit left out.
        unseen_is_missing : bool
            Count a level that the fit has not seen as missing, instead of refusing it.

        Returns
        -------
        X : (N, p) float64 array
            NaN in rows where a column is missing.
        kept : (N,) bool array
            True where no column is missing.

        Raises
        ------
        LevelError
            When a categorical column has a level that the fit has not seen.
        """
        frame, variables, layout = self.laid_out(
            data, held=held, unseen_is_missing=unseen_is_missing
        )
        X = model_matrix(layout, variables, frame.n_rows)
        if self.kept and max(self.kept) >= X.shape[1]:
            raise FileError("the saved model's columns do not fit its formula; it is damaged")
        if len(self.kept) < X.shape[1] and not redundant:
            X = np.ascontiguousarray(X[:, list(self.kept)])
        gone = frame.missing_rows()
        if gone is None:
            return X, np.ones(frame.n_rows, dtype=bool)
        X[gone] = np.nan
        return X, ~gone

    def laid_out(
        self,
        data: Any,
        rows: NDArray[np.bool_] | None = None,
        *,
        held: Mapping[str, Floats] | None = None,
        unseen_is_missing: bool = False,
    ) -> tuple[Frame, list[Variable], Layout]:
        """Return the table as read, the variables of the fixed effects, and their columns.

        `rows` are those to keep once functions that look at several rows are evaluated;
        `held` and `unseen_is_missing` as in `fixed`.
        """
        frame = self._frame(data, held)
        frame.unseen_is_missing = unseen_is_missing
        terms = self.model.fixed
        frame.add_terms(terms)
        if rows is not None:
            frame.keep(rows)
        variables = frame.variables(terms)
        return frame, variables, lay_out(terms, variables, frame.n_rows)

    def offset(self, data: Any) -> Floats | None:
        """Make the offset, (N,); None when the model has none."""
        frame = self._frame(data)
        column = GIVEN_OFFSET if self.offset_given else self.offset_column
        if self.offset_given and GIVEN_OFFSET not in frame.scope.table:
            raise ModelError(
                "the model's offset was given as an array, which another table does not have; "
                "name a column (offset='...'), write offset(...) in the formula, or put the "
                f"offset of these rows into a column {GIVEN_OFFSET!r}"
            )
        if not self.model.offsets and column is None:
            return None
        total = self.formula_offset(frame)
        return total if column is None else total + frame.numbers(Name(column), column)

    def formula_offset(self, data: Any) -> Floats:
        """Make what ``offset(...)`` in the formula adds, (N,)."""
        frame = data if isinstance(data, Frame) else self._frame(data)
        total = np.zeros(frame.n_rows)
        for node in self.model.offsets:
            total = total + frame.numbers(node, node.printed)
        return total

    def random(self, data: Any, term: int) -> tuple[Ints, Floats]:
        """Make the arrays of one random term.

        Returns
        -------
        codes : (N,) int32 array
            Level of each row; -1 where it is missing or the fit has not seen it.
        z : (N, r) float64 array
            NaN in rows where a column is missing.
        """
        recipe, frame = self.random_recipes[term], self._frame(data)
        codes = self._codes(frame, recipe.factor)
        z = term_columns(recipe, self.model.bars[recipe.bar], frame)
        return codes, self._over_members(recipe.factor, z, frame)

    def random_columns(
        self, data: Any, term: int, held: Mapping[str, Floats] | None = None
    ) -> Floats:
        """Make one random term's model matrix, (N, r), without its grouping factor."""
        recipe, frame = self.random_recipes[term], self._frame(data, held)
        z = term_columns(recipe, self.model.bars[recipe.bar], frame)
        return self._over_members(recipe.factor, z, frame)

    def _over_members(self, factor: int, z: Floats, frame: Frame) -> Floats:
        """Spread a column over the levels of memberships, where the factor has such.

        Rows of a table without the columns of memberships belong to one level, not seen.
        """
        group = self._group(factor)
        if group.membership is None:
            return z
        levels = self.groups[factor].levels[0]
        if not all(name in frame.scope.table for name in group.columns):
            return spread(z, (len(levels),), len(levels) + 1)
        found = frame.memberships(group)
        return membership_matrix(found, levels, z)

    def absent_members(self, data: Any, factor: int) -> tuple[list[Any], int]:
        """Return levels of memberships that the fit has not seen, and in how many rows."""
        group = self._group(factor)
        if group.membership is None:
            return [], 0
        return self._frame(data).memberships(group).unseen(self.groups[factor].levels[0])

    def levels_of(self, data: Any, term: int) -> Ints:
        """Code the level of each row of one random term's factor, as `random` does."""
        return self._codes(self._frame(data), self.random_recipes[term].factor)

    def noise(
        self, data: Any, own: ResidualTerm, together: bool = False
    ) -> tuple[ResidualTerm | None, NDArray[np.bool_]]:
        """Where rows of another table stand in the structure of the residuals.

        Single rows, or with `together` all of them, correlated within their groups.

        Returns
        -------
        term : ResidualTerm or None
            Of the rows that lack nothing; None where all have the variance sigma^2 and
            none is correlated with another.
        kept : (N,) bool array
            Which these are.
        """
        assert self.residual is not None
        frame = self._frame(data)
        reader = ResidualReader(self.residual.residual, self.residual.dispersion)
        reader.read(frame, scales=not together)
        gone = frame.missing_rows()
        kept = np.ones(frame.n_rows, dtype=bool) if gone is None else ~gone
        if not kept.all():
            frame.keep(kept)
        made = reader.together if together else reader.scaled_alone
        return made(self.residual, own, frame), kept

    def check_places(self, table: Table) -> None:
        """Refuse a table whose rows stand at no place of the residuals' structure."""
        if self.residual is not None:
            reader = ResidualReader(self.residual.residual, self.residual.dispersion)
            reader.check_kinds(self.residual, table)

    def evaluate(self, data: Any, node: Node) -> Numbers | Categories:
        """Evaluate a variable of the formula in another table."""
        return self._frame(data).add(node, node.printed)

    def unseen(self, data: Any, factor: int) -> tuple[Ints, list[tuple[str, ...]]]:
        """Return the levels of a grouping factor that the fit has not seen, (N,), by label."""
        frame = self._frame(data)
        if self._group(factor).membership is not None:
            return np.full(frame.n_rows, -1, dtype=np.int32), []
        return self.groups[factor].unseen(self._grouped(frame, factor))

    def random_parts(
        self, data: Any, term: int, rows: NDArray[np.bool_] | None = None
    ) -> tuple[TermPart, ...]:
        """Return the terms left of the bar of a random term, see `TermPart`."""
        frame = self._frame(data)
        recipe = self.random_recipes[term]
        bar = self.model.bars[recipe.bar]
        frame.add_terms(bar.left)
        if rows is not None:
            frame.keep(rows)
        return term_parts(recipe, bar, frame)

    def _codes(self, frame: Frame, factor: int) -> Ints:
        if self._group(factor).membership is not None:
            return np.zeros(frame.n_rows, dtype=np.int32)
        return self.groups[factor].codes(self._grouped(frame, factor))

    def _grouped(self, frame: Frame, factor: int) -> list[Categories]:
        """Columns of a grouping factor."""
        group = self._group(factor)
        return [frame.group(frame.add_group(node)) for node in group.nodes]

    def _group(self, factor: int) -> Grouping:
        """A grouping factor as written."""
        keys = self.groups[factor].keys
        return next(g for bar in self.model.bars for g in bar.groups if g.keys == keys)

    def response(self, data: Any) -> Floats:
        """Evaluate the response, (N,), NaN where missing."""
        return self.response_and_extra(data)[0]

    def response_and_extra(self, data: Any) -> tuple[Floats, Floats | None]:
        """Read the response, and what stands beside it, as in the fit.

        Returns
        -------
        y : (N,) float64 array
            NaN where missing.
        extra : (N,) float64 array or None
            Trials, upper ends or the number of categories, where the family needs
            them.

        Raises
        ------
        LevelError
            When it has a category that the fit has not seen.
        ModelError
            When trials were given as an array, which another table does not have.
        """
        node = self.model.response
        if node is None:
            raise ModelError("the formula has no response")
        frame = self._frame(data)
        if self.reading is None:
            return frame.numbers(node, node.printed).copy(), None
        return read_response(node, self.reading, frame, self._trials(frame))

    def trials(self, data: Any) -> Floats | None:
        """Return the numbers of trials (N,) of a table's rows; a response of 0 and 1 has one.

        The response itself is not needed unless it counts the trials.
        """
        node, found = self.model.response, self.reading
        if node is None or found is None or found.takes != "successes":
            return None
        frame = self._frame(data)
        if found.kind == PROPORTION:
            return self._trials(frame)
        if found.kind == SUCCESSES:
            return read_response(node, found, frame, None)[1]
        return np.ones(frame.n_rows)

    def _trials(self, frame: Frame) -> Floats | None:
        """Return the trials of proportions."""
        if self.reading is None or self.reading.kind != "proportion":
            return None
        if self.weights_column is None:
            raise ModelError(
                "the trials of the proportions were given as an array, which another table does "
                "not have; name a column (weights='...') or write cbind(success, failure)"
            )
        return frame.numbers(Name(self.weights_column), self.weights_column)

    def _frame(self, data: Any, held: Mapping[str, Floats] | None = None) -> Frame:
        self._require_functions()
        table = data if isinstance(data, Table) else Table.of(data)
        frame = Frame(table, self.functions, dict(self.state), fitting=False)
        for key, values in (held or {}).items():
            frame.hold(key, values)
        return frame

    def _require_functions(self) -> None:
        absent = [name for name in self._handed_over if name not in self.functions]
        if absent:
            raise ModelError(
                f"the formula uses {', '.join(absent)}, which a saved model does not hold; "
                "pass it again as functions={...}"
            )

    @cached_property
    def _handed_over(self) -> list[str]:
        """The functions of the formula that are not built in."""
        from ranef.design.functions import ELEMENTWISE, FUNCTIONS

        model = self.model
        nodes = [*model.fixed.variables, *model.offsets]
        nodes += [model.response] if model.response is not None else []
        for bar in model.bars:
            nodes += [*bar.left.variables, *(node for group in bar.groups for node in group.nodes)]
        called = [part.function for node in nodes for part in walk(node) if isinstance(part, Call)]
        known = FUNCTIONS.keys() | ELEMENTWISE.keys() | {"cbind", "mm"}
        contrasts = [name for name in called if name.startswith("contr.") or name[:1].isupper()]
        return [name for name in dict.fromkeys(called) if name not in known | set(contrasts)]

    def with_functions(self, functions: Mapping[str, Callable[..., Any]]) -> Recipe:
        """Return the recipe with functions handed over again."""
        from dataclasses import replace

        return replace(self, functions=dict(functions))


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe, read from a file, whose parts do not fit its formula."""
    bars, reading = recipe.model.bars, recipe.reading
    if not all(0 <= column < WIDEST for column in recipe.kept):
        raise FileError("the saved model's columns do not fit its formula")
    known = {group.keys for bar in bars for group in bar.groups}
    if not all(_group_fits(group, known) for group in recipe.groups):
        raise FileError("the saved model's grouping factors do not fit its formula")
    if not all(_random_fits(random, recipe) for random in recipe.random_recipes):
        raise FileError("the saved model's random terms do not fit its formula")
    if reading is not None and not fits_formula(reading, recipe.model.response):
        raise FileError("the saved model's response does not fit its formula")


def _group_fits(group: GroupRecipe, known: set[tuple[str, ...]]) -> bool:
    sizes = [len(levels) for levels in group.levels]
    return (
        group.keys in known
        and len(group.keys) == len(sizes)
        and group.cells.ndim == 2
        and group.cells.shape[1] == len(sizes)
        and bool(np.all((group.cells >= 0) & (group.cells < sizes)))
    )


def _random_fits(random: RandomRecipe, recipe: Recipe) -> bool:
    bars, positions = recipe.model.bars, random.positions
    if not (0 <= random.bar < len(bars) and 0 <= random.factor < len(recipe.groups)):
        return False
    bar = bars[random.bar]
    if random.part is not None and not 0 <= random.part < len(separated(bar.left)):
        return False
    width = len(bar.left.variables)
    return all(0 <= column < WIDEST for column in random.picked or ()) and (
        positions is None
        or (positions.shape[1:] == (width,) and bool(np.isfinite(positions).all()))
    )
