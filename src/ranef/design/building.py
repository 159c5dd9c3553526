"""From the parts of a model and one table to their Specifications.

What linear and generalised models share: a row that any part misses is dropped from all,
and parts share grouping factors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.design.matrix import Layout, check_memory, compressed_matrix, lay_out, model_matrix
from ranef.design.random import Factors, Residual, random_effects
from ranef.design.rank import independent_columns
from ranef.design.recipe import Recipe
from ranef.design.residual import ResidualReader
from ranef.design.response import ResponseKind
from ranef.design.specification import Specification
from ranef.design.variables import Frame
from ranef.elsewhere import random_hint
from ranef.errors import ModelError, RankWarning, warn
from ranef.formula.labels import count_text
from ranef.formula.model import Model
from ranef.formula.syntax import Call, walk
from ranef.tables.accounting import Accounting

__all__ = ["Answer", "Builder", "Part", "check_random"]

Floats = NDArray[np.float64]


def check_random(models: Sequence[Model], mixed: bool) -> None:
    """Refuse a mixed model without a random term, and a model without them that has one."""
    bars = [bar for model in models for bar in model.bars]
    if mixed and not bars:
        raise ModelError(
            "the model has no random term; a mixed model needs one, such as (1 | g). "
            "random='none' (--random none on the command line) fits it without random effects"
            f"{_written_elsewhere(models)}"
        )
    if bars and not mixed:
        term = f"({bars[0].printed} | {bars[0].groups[0].text})"
        raise ModelError(
            f"{term} is a random term, which a model without random effects does not have; take it "
            "out of the formula"
        )


def _written_elsewhere(models: Sequence[Model]) -> str:
    """Answer random effects that stand in a formula as another package writes them."""
    slashed = re.search(r"\(\s*[01]\s*/\s*([\w.]+)", " ".join(model.text for model in models))
    if slashed:
        return f"; effects and their groups are parted by a bar, (1 | {slashed[1]})"
    variables = [variable for model in models for variable in model.fixed.variables]
    nodes = [node for variable in variables for node in walk(variable)]
    return random_hint([node.function for node in nodes if isinstance(node, Call)])


@dataclass(frozen=True, eq=False)
class Part:
    """A formula to be built, and what only one part of a model has.

    Attributes
    ----------
    model : Model
    dot : tuple of str or None
        What ``.`` stands for.
    words : str
        The fixed effects in messages.
    residual : str
        What a random effect of each row would be mistaken for; empty where a level for
        each row makes sense.
    weights, offset : str, (N,) array or None
        Arguments of the call.
    """

    model: Model
    dot: tuple[str, ...] | None
    words: str = "fixed effects"
    residual: str = "the residual"
    weights: Any = None
    offset: Any = None


@dataclass(frozen=True, eq=False)
class Answer:
    """The response of the rows used.

    Attributes
    ----------
    name : str
    y : (n,) float64 array
    weights : (n,) float64 array or None
    kind : ResponseKind or None
        How to read it again; None for plain numbers.
    """

    name: str
    y: Floats
    weights: Floats | None = None
    kind: ResponseKind | None = None


@dataclass(frozen=True, eq=False)
class Builder:
    """Makes the arrays of all parts of a model, of the rows used of one table.

    `keep` says whether random terms stay whose variances the data cannot tell apart.
    """

    frame: Frame
    kernels: Mapping[str, Any] | None
    accounting: Accounting
    keep: bool = False
    factors: Factors = field(default_factory=dict)

    def specification(
        self, part: Part, answer: Answer, residuals: ResidualReader | None = None
    ) -> Specification:
        """Make the arrays of one part."""
        model, frame = part.model, self.frame
        fixed = _fixed(part, frame)
        random = random_effects(
            model.bars, frame, fixed.shared, self.kernels, self.factors,
            None if self.keep else Residual(part.residual, answer.weights),
        )  # fmt: skip
        term, own = (None, None) if residuals is None else residuals.term(frame)
        columns = set(frame.scope.table.columns)
        recipe = Recipe(
            model.text,
            part.dot,
            frame.scope.state,
            fixed.kept,
            random.groups,
            random.recipes,
            part.weights if isinstance(part.weights, str) else None,
            part.offset if isinstance(part.offset, str) else None,
            part.offset is not None and not isinstance(part.offset, str),
            frame.scope.functions,
            tuple(
                name
                for name in (*model.names, *(() if residuals is None else residuals.names))
                if name in columns
            ),
            answer.kind,
            own,
        )
        vars(recipe)["model"] = model  # as `Recipe.model` would read it again
        return Specification(
            formula=model.text,
            response=answer.name,
            y=answer.y,
            X=fixed.X,
            names=fixed.names,
            dropped_columns=fixed.redundant,
            weights=answer.weights,
            offset=self._offset(part),
            terms=random.terms,
            factors=random.factors,
            accounting=self.accounting,
            recipe=recipe,
            residual=term,
        )

    def _offset(self, part: Part) -> Floats | None:
        total = None if part.offset is None else self.frame.given(part.offset, "offset")
        for node in part.model.offsets:
            values = self.frame.numbers(node, node.printed)
            total = values.copy() if total is None else total + values
        return total


@dataclass(frozen=True, eq=False)
class _Fixed:
    """The fixed effects: layout of all columns, matrix of those that are not redundant."""

    layout: Layout
    X: Any  # without its zeros where those are many
    kept: tuple[int, ...]
    names: tuple[str, ...]
    redundant: tuple[str, ...]

    @property
    def shared(self) -> tuple[Layout, Floats] | None:
        """What a random term of the same columns shares."""
        return (self.layout, self.X) if isinstance(self.X, np.ndarray) else None


def _fixed(part: Part, frame: Frame) -> _Fixed:
    """Make the fixed effects' matrix without redundant columns."""
    variables = frame.variables(part.model.fixed)
    layout = lay_out(part.model.fixed, variables, frame.n_rows, compressed=True)
    X: Any = compressed_matrix(layout, variables, frame.n_rows)
    if X is None:
        check_memory(frame.n_rows, len(layout.names), f"the matrix of the {part.words}")
        X = model_matrix(layout, variables, frame.n_rows)
    kept, every = tuple(independent_columns(X).tolist()), layout.names
    redundant: tuple[str, ...] = ()
    if len(kept) < len(every):
        X = np.ascontiguousarray(X[:, kept]) if isinstance(X, np.ndarray) else X[:, kept]
        redundant = tuple(every[j] for j in sorted({*range(len(every))} - {*kept}))
        warn(
            f"the {part.words} have {count_text(len(redundant), 'redundant column')}, "
            f"left out: {', '.join(redundant)}",
            RankWarning,
        )
    if frame.n_rows <= X.shape[1]:
        one = X.shape[1] == 1
        raise ModelError(
            f"{count_text(frame.n_rows, 'row')} {'is' if frame.n_rows == 1 else 'are'} too few for "
            f"{X.shape[1]} {part.words.replace('effects', 'effect') if one else part.words}; a fit "
            "needs more rows than fixed effects"
        )
    names = every if not redundant else tuple(every[j] for j in kept)
    return _Fixed(layout, X, kept, names, redundant)
