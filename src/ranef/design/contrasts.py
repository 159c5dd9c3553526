"""Contrasts: how a categorical variable with k levels becomes k - 1 columns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.design.state import Coding
from ranef.errors import DataError, FormulaError, LevelError, ModelError, suggestion
from ranef.formula.labels import level_text, list_text
from ranef.formula.parser import parse_expression
from ranef.formula.syntax import Call, Name, Node, Number, Text

__all__ = ["Contrast", "code_levels", "read_contrast", "read_contrast_node"]

KINDS = {
    "treatment": "treatment",
    "sum": "sum",
    "helmert": "helmert",
    "poly": "poly",
    "sas": "sas",
    "diff": "diff",
    "sdif": "diff",
}
POWERS = (".L", ".Q", ".C")


@dataclass(frozen=True, eq=False)
class Contrast:
    """Contrasts as asked for, before the levels are known.

    Attributes
    ----------
    kind : str
        ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"``, ``"sas"``,
        ``"diff"`` or ``"matrix"``.
    reference : object or None
        Reference level of treatment contrasts.
    base : int or None
        Its place, from 1, as R counts.
    matrix : (k, m) float64 array or None
    rows : tuple or None
        Levels of the matrix' rows, where it is labelled.
    suffixes : tuple of str or None
        Names of its columns.
    """

    kind: str
    reference: Any = None
    base: int | None = None
    matrix: Any = None
    rows: tuple[Any, ...] | None = None
    suffixes: tuple[str, ...] | None = None


def read_contrast(value: Any, name: str) -> Contrast:
    """Read contrasts from what a user hands over in ``contrasts={name: value}``."""
    if isinstance(value, Contrast):
        return value
    if isinstance(value, str):
        return read_contrast_node(parse_expression(value))
    if hasattr(value, "columns") and hasattr(value, "index"):
        rows = tuple(value.index) if not _is_counted(value.index) else None
        return _matrix(value.to_numpy(), name, rows, tuple(str(c) for c in value.columns))
    if isinstance(value, Mapping):
        columns = list(value.values())
        return _matrix(np.column_stack(columns), name, None, tuple(str(key) for key in value))
    return _matrix(value, name, None, None)


def _is_counted(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex"


def _matrix(
    value: Any, name: str, rows: tuple[Any, ...] | None, suffixes: tuple[str, ...] | None
) -> Contrast:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ModelError(
            f"contrasts of {name!r} are neither a name such as 'sum' nor a matrix of numbers"
        ) from None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ModelError(f"contrasts of {name!r} must be a matrix of finite numbers")
    return Contrast("matrix", matrix=matrix, rows=rows, suffixes=suffixes)


def read_contrast_node(node: Node) -> Contrast:
    """Read contrasts as written in a formula: ``contr.sum``, ``Treatment("a")``."""
    node = node.bare
    if isinstance(node, Text):
        node = parse_expression(node.value).bare
    if isinstance(node, Name):
        return Contrast(_kind(node.value))
    if isinstance(node, Call):
        return _from_call(node)
    raise FormulaError(f"{node.printed} names no contrasts; write contr.sum or Sum")


def _kind(name: str) -> str:
    short = name.removeprefix("contr.").lower()
    if short not in KINDS:
        hint = suggestion(name, [*KINDS, *(f"contr.{kind}" for kind in KINDS)])
        raise FormulaError(
            f"no contrasts {name!r}{hint}; there are treatment, sum, helmert, poly, sas, diff"
        )
    return KINDS[short]


def _from_call(node: Call) -> Contrast:
    """Read ``contr.treatment(3, base = 2)`` or ``Treatment(reference = "a")``."""
    kind = _kind(node.function)
    reference, base = None, None
    values = [("", argument) for argument in node.arguments]
    for key, value in [*values, *node.keywords]:
        given = value.bare
        if not isinstance(given, (Text, Number)):
            raise FormulaError(f"{node.printed}: an argument is a number or a quoted level")
        counts = isinstance(given, Number) and node.function.startswith("contr.")
        if key in ("reference", "ref") or (key == "" and not counts):
            reference = given.value
        elif key == "base" and isinstance(given, Number):
            base = int(given.value)
        elif key not in ("", "n"):
            raise FormulaError(f"{node.function}() has no argument {key!r}")
    if kind != "treatment" and (reference is not None or base is not None):
        raise FormulaError(f"{node.printed}: only treatment contrasts have a reference level")
    return Contrast(kind, reference, base)


def code_levels(contrast: Contrast | None, levels: Sequence[Any], name: str) -> Coding:
    """Make the contrasts of given levels.

    Examples
    --------
    >>> code_levels(None, ["a", "b", "c"], "g").suffixes
    ('b', 'c')
    >>> code_levels(Contrast("sum"), ["a", "b", "c"], "g").rows
    ((1.0, 0.0), (0.0, 1.0), (-1.0, -1.0))
    """
    kept = tuple(levels)
    if len(kept) < 2:
        only = f" ({list_text(list(kept))})" if kept else ""
        raise ModelError(
            f"{name} has {len(kept)} level{'s' * (len(kept) != 1)}{only} in the rows used; "
            "a categorical predictor needs two: leave it out of the formula"
        )
    if contrast is None or contrast.kind in ("treatment", "sas"):
        base = _base(contrast, kept, name)
        texts = [level_text(level) for level in kept]
        return Coding(kept, base, (), tuple(texts[:base] + texts[base + 1 :]))
    if contrast.kind == "matrix":
        return _from_matrix(contrast, kept, name)
    rows = _formulaic_rows(contrast.kind, len(kept))
    return Coding(kept, -1, rows, _suffixes(contrast.kind, kept))


def _base(contrast: Contrast | None, levels: tuple[Any, ...], name: str) -> int:
    if contrast is None:
        return 0
    if contrast.kind == "sas":
        return len(levels) - 1
    if contrast.base is not None:
        if not 1 <= contrast.base <= len(levels):
            raise FormulaError(f"{name} has {len(levels)} levels; base = {contrast.base} is none")
        return contrast.base - 1
    if contrast.reference is None:
        return 0
    for place, level in enumerate(levels):
        if level == contrast.reference or level_text(level) == level_text(contrast.reference):
            return place
    raise LevelError(
        f"the reference {contrast.reference!r} is no level of {name} in the rows used; "
        f"its levels are {list_text(list(levels))}"
    )


def _from_matrix(contrast: Contrast, levels: tuple[Any, ...], name: str) -> Coding:
    matrix = contrast.matrix
    if contrast.rows is not None:
        place = {level_text(row): i for i, row in enumerate(contrast.rows)}
        absent = [level for level in levels if level_text(level) not in place]
        if absent:
            raise LevelError(f"the contrasts of {name} have no row for {list_text(absent)}")
        matrix = matrix[[place[level_text(level)] for level in levels]]
    if matrix.shape[0] != len(levels):
        raise DataError(
            f"the contrasts of {name} have {matrix.shape[0]} rows for {len(levels)} levels "
            f"({list_text(list(levels))})"
        )
    if not 1 <= matrix.shape[1] < len(levels):
        raise DataError(
            f"the contrasts of {name} have {matrix.shape[1]} columns; "
            f"{len(levels)} levels allow 1 to {len(levels) - 1}"
        )
    suffixes = contrast.suffixes or tuple(str(i + 1) for i in range(matrix.shape[1]))
    rows = tuple(tuple(float(v) for v in row) for row in matrix)
    return Coding(levels, -1, rows, suffixes)


def _formulaic_rows(kind: str, count: int) -> tuple[tuple[float, ...], ...]:
    from formulaic.transforms import contrasts as made

    source = {
        "sum": made.SumContrasts,
        "helmert": made.HelmertContrasts,
        "diff": made.DiffContrasts,
        "poly": made.PolyContrasts,
    }[kind]()
    matrix = source.get_coding_matrix(list(range(count)), reduced_rank=True)
    return tuple(tuple(float(v) for v in row) for row in np.asarray(matrix))


def _suffixes(kind: str, levels: tuple[Any, ...]) -> tuple[str, ...]:
    if kind == "diff":
        texts = [level_text(level) for level in levels]
        return tuple(f"{b}-{a}" for a, b in itertools.pairwise(texts))
    if kind == "poly":
        return tuple(POWERS[i] if i < 3 else f"^{i + 1}" for i in range(len(levels) - 1))
    return tuple(str(i + 1) for i in range(len(levels) - 1))
