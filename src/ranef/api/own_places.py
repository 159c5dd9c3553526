"""A process among the random effects, solved by the places that each level has itself.

The engine of random effects gives each level an effect at every place of the table, since its
levels share one covariance matrix. Where each has times of its own, that is the cube of all rows
for each level. The same model is a structure of the residuals with a nugget, which takes the cube
of a level's own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ranef.design.call import ModelArguments
from ranef.errors import FormulaWarning, warn
from ranef.formula.model import Bar, expand_dot, model_with_dot
from ranef.formula.parser import parse_formula
from ranef.formula.syntax import Call, Name, Node, Sum
from ranef.tables import Table

__all__ = ["by_own_places"]

PROCESSES = frozenset({"ou", "exp", "gau", "mat"})
MUCH = 2e8
"""Operations of an evaluation, some seconds of a fit."""
LESS = 0.1
"""Share of them that its own places must save to at most."""


def by_own_places(call: ModelArguments) -> ModelArguments:
    """Return the same model with a long process as the residuals' structure.

    Nothing changes where the table is small, the places are shared, or something else is said of
    the residuals.
    """
    plain = call.weights is None and call.path is None and call.start is None
    if not plain or call.residual is not None or call.dispersion.replace(" ", "") != "~1":
        return call
    for term, bar in _processes(call):
        if not _is_long(bar, call.table):
            continue
        group = bar.groups[0].text
        residual = f"{bar.structure}({' + '.join(bar.left.keys)} | {group}, nugget=True)"
        warn(
            f"{term.printed} has places of its own in each {group}: fitted as "
            f'residual="{residual}", the same model. Its sd is that of the process and the '
            "independent residual together, its nugget the share of the latter in the variance",
            FormulaWarning,
        )
        return replace(call, formula=_without(call.formula, term), residual=residual)
    return call


def _processes(call: ModelArguments) -> Iterator[tuple[Node, Bar]]:
    """The terms of processes over columns of the table, where all terms share its one group."""
    if not any(f"{name}(" in call.formula.replace(" ", "") for name in PROCESSES):
        return
    columns = [v for v in (call.weights, call.offset) if isinstance(v, str)]
    dot = expand_dot(call.formula, call.table.columns, columns)
    every = model_with_dot(call.formula, dot).bars
    written = [node for node in _parts(call.formula) if _is_process(node)]
    bars = [bar for bar in every if bar.structure in PROCESSES]
    if len(written) != len(bars):
        return
    for term, bar in zip(written, bars, strict=True):
        names = [*bar.left.variables, *bar.groups[0].nodes]
        if len(names) - len(bar.left.variables) > 1 or len(bar.groups) > 1:
            continue
        within = bar.groups[0].keys[0]
        shared = all(within in group.keys for other in every for group in other.groups)
        if shared and all(isinstance(node.bare, Name) for node in names):
            yield term, bar


def _parts(formula: str) -> tuple[Node, ...]:
    right = parse_formula(formula)[1]
    return right.parts if isinstance(right, Sum) else (right,)


def _is_process(node: Node) -> bool:
    return isinstance(node.bare, Call) and node.bare.function in PROCESSES


def _is_long(bar: Bar, table: Table) -> bool:
    """Whether the places of all make much more work than those of each level."""
    names = [_column(node) for node in (*bar.left.variables, *bar.groups[0].nodes)]
    if any(name not in table for name in names):
        return False
    *columns, group = names
    if any(table.kind(name) != "numeric" for name in columns):
        return False
    where = np.column_stack([table.numeric(c) for c in columns])
    codes, _ = table.codes(group)
    used = (codes >= 0) & ~np.isnan(where).any(axis=1)
    places = float(len(np.unique(where[used], axis=0)))
    own = np.bincount(codes[used], minlength=1).astype(np.float64)
    work = np.count_nonzero(own) * places**3
    return bool(work > MUCH and float(np.sum(own**3)) < LESS * work)


def _column(node: Node) -> str:
    bare = node.bare
    return bare.value if isinstance(bare, Name) else ""


def _without(formula: str, term: Node) -> str:
    """A formula without one of its terms."""
    response, right = parse_formula(formula)
    left = "" if response is None else f"{response.printed} "
    if not isinstance(right, Sum):
        return f"{left}~ 1"
    kept = [(s, p) for s, p in zip(right.signs, right.parts, strict=True) if p is not term]
    text = " ".join(f"{sign} {part.printed}" for sign, part in kept)
    return f"{left}~ {text.removeprefix('+ ')}"
