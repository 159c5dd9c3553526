"""The design of a group: a row a subject, joined by label; contrasts as weights or expressions."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.call import ModelArguments
from ranef.design.specification import Specification
from ranef.design.specify import specification_of
from ranef.errors import (
    DataError,
    FormulaError,
    ModelError,
    RankWarning,
    suggestion,
)
from ranef.fields.imaging.fsl import read_design
from ranef.fields.imaging.subjects import text_label
from ranef.fields.imaging.table_files import LABELS, read_table
from ranef.formula.labels import list_text
from ranef.tables import Table

__all__ = ["GroupDesign", "complete", "design_of", "joined", "label_column", "weights_of"]

Floats = NDArray[np.float64]

INTERCEPT = "intercept"
DEPENDENT = 1e-9
PREFIX = "sub-"


@dataclass(frozen=True, eq=False)
class GroupDesign:
    """The design of K subjects.

    Attributes
    ----------
    X : (K, p) array
    names : tuple of str
        ``"intercept"``, ``"age"`` ...
    notes : tuple of str
        What was done on the way.
    """

    X: Floats
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def design_of(
    labels: Sequence[str],
    named: bool,
    *,
    formula: str | None = None,
    table: Any = None,
    subject: str | None = None,
    confounds: Any = None,
    design_matrix: Any = None,
) -> GroupDesign:
    """Return the design of subjects with these labels, in their order.

    named : whether the labels came with the images; without, no table can be joined.
    """
    if design_matrix is not None:
        for name, value in (("formula", formula), ("confounds", confounds), ("table", table)):
            if value is not None:
                raise ModelError(f"give design_matrix= or {name}, not both")
        found = _of_matrix(design_matrix, labels)
    else:
        if table is not None and confounds is not None:
            raise ModelError("give table= or confounds=, not both")
        rows = table if table is not None else confounds
        if rows is not None and formula is None and confounds is None:
            raise ModelError("a table needs a formula that says which columns enter: formula=")
        if rows is not None and not named:
            raise DataError(
                "the images do not say whose they are, so that no table can be joined: give a "
                "DataFrame with subject_label, or subject=[labels in the images' order]"
            )
        joint, notes = (None, ()) if rows is None else joined(rows, labels, subject)
        found = (
            _of_confounds(joint, len(labels), subject)
            if formula is None
            else _of_formula(formula, joint, labels)
        )
        found = GroupDesign(found.X, found.names, (*found.notes, *notes))
    _check(found, labels)
    return found


def joined(table: Any, labels: Sequence[str], subject: str | None) -> tuple[Table, tuple[str, ...]]:
    """Return the rows of subjects, in their order, and what is worth saying."""
    rows = read_table(table)
    column = label_column(rows, subject)
    own = [None if m else text_label(v)
           for v, m in zip(rows.values(column), rows.missing(column), strict=True)]  # fmt: skip
    places: dict[str, list[int]] = {}
    plain = _bare([one for one in own if one is not None], labels)
    for i, one in enumerate(own):
        if one is not None:
            places.setdefault(one.removeprefix(PREFIX) if plain else one, []).append(i)
    wanted = [one.removeprefix(PREFIX) if plain else one for one in labels]
    missing = [label for label, w in zip(labels, wanted, strict=True) if w not in places]
    if missing:
        known = [o for o in own if o]
        alike = [o for o in known if _number(o) == _number(missing[0])]
        raise DataError(
            f"the table has no row of subject {missing[0]!r} in {column!r}"
            f"{suggestion(missing[0], alike)}"
            + (f" ({len(missing)} of {len(labels)} subjects are not there)" if missing[1:] else "")
            + (_zeros_lost(missing[0], places) or _others(known, len(missing) == len(labels)))
        )
    twice = [label for label, w in zip(labels, wanted, strict=True) if len(places[w]) > 1]
    if twice:
        raise DataError(f"the table has {len(places[wanted[list(labels).index(twice[0])]])} rows "
                        f"of subject {twice[0]!r}: one a subject")  # fmt: skip
    take = np.array([places[w][0] for w in wanted])
    more = len(own) - len(take)
    notes = (f"{more} rows of the table have no images and are not used",) if more else ()
    return Table.of(rows.mapping(take)), notes


def _number(label: str) -> str:
    """The digits of a label, without zeros in front."""
    return "".join(re.findall(r"\d", label)).lstrip("0")


def _others(known: Sequence[str], none: bool) -> str:
    """What the table's labels are, where no subject is among them."""
    if not none or not known:
        return ""
    return f": its labels are {list_text(list(known), 3)}"


def _zeros_lost(label: str, places: Mapping[str, Any]) -> str:
    """Whether labels like ``01`` were read as numbers."""
    bare = label.removeprefix(PREFIX)
    if not (bare.isdigit() and bare.startswith("0") and str(int(bare)) in places):
        return ""
    return ": its labels have lost their zeros, read the column as text (dtype=str)"


def _bare(own: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether one side alone writes ``sub-`` in front of labels."""
    here = [one.startswith(PREFIX) for one in own]
    there = [one.startswith(PREFIX) for one in labels]
    return (all(here) and not any(there)) or (all(there) and not any(here))


def label_column(rows: Table, subject: str | None) -> str:
    """Return the column of the subjects' labels."""
    if subject is not None:
        if subject not in rows:
            raise DataError(f"no column {subject!r}{suggestion(subject, rows.columns)}")
        return subject
    found = [name for name in LABELS if name in rows]
    if not found:
        raise DataError(
            f"which column has the subjects' labels? Name it: subject=; there are "
            f"{list_text(rows.columns[:12])}"
        )
    return found[0]


def _of_formula(formula: str, rows: Table | None, labels: Sequence[str]) -> GroupDesign:
    text = arguments.formula(formula)
    left, tilde, right = text.partition("~")
    if not tilde:
        left, right = "", text
    if left.strip():
        raise FormulaError(
            f"the formula {text!r} has a response; the images are it: write '~{right}'"
        )
    if "|" in right:
        raise FormulaError(
            f"the formula {text!r} has random effects; subjects vary by tau2 as it is. Repeated "
            "measures are ranef.imaging.LongitudinalModel"
        )
    if rows is None and re.search(r"[A-Za-z_.`]", right):
        raise ModelError(
            f"the formula {text!r} needs columns of subjects: give table=, a DataFrame or "
            "participants.tsv"
        )
    spec = _specified(right, rows, len(labels))
    if spec.n < len(labels):
        lost = [label for label, k in zip(labels, _used(spec), strict=True) if not k]
        column = next(iter(name for name, k in spec.accounting.missing.items() if k), "a covariate")
        raise DataError(
            f"{column!r} is missing for subject {list_text(lost[:5])}: leave these subjects out, "
            "or give the values"
        )
    if spec.dropped_columns:
        raise ModelError(
            f"{list_text(list(spec.dropped_columns))} is determined by the other columns of the "
            "design; leave it out"
        )
    names = tuple(INTERCEPT if name == "(Intercept)" else name for name in spec.names)
    return GroupDesign(np.asarray(spec.X, dtype=np.float64), names)


def complete(formula: str, rows: Table) -> NDArray[np.bool_]:
    """Tell which subjects have every value that a formula takes, (K,)."""
    right = formula.rpartition("~")[2]
    if "|" in right:  # `design_of` says why it cannot be
        return np.ones(rows.n_rows, dtype=np.bool_)
    return _used(_specified(right, rows, rows.n_rows))


def _specified(right: str, rows: Table | None, K: int) -> Specification:
    hidden = "effect_of_the_images"
    columns = {} if rows is None else rows.mapping()
    columns = {**columns, hidden: np.arange(K, dtype=np.float64)}
    call = ModelArguments(f"{hidden} ~ {right}", Table.of(columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)  # it is refused by the caller
        return specification_of(call, mixed=False)


def _used(spec: Specification) -> NDArray[np.bool_]:
    kept = spec.accounting.kept
    return np.ones(spec.n, dtype=np.bool_) if kept is None else kept


def _of_confounds(rows: Table | None, K: int, subject: str | None) -> GroupDesign:
    columns, names = [np.ones(K)], [INTERCEPT]
    label = None if rows is None else label_column(rows, subject)
    for name in [] if rows is None else rows.columns:
        if name == label or rows is None:
            continue
        if rows.kind(name) not in ("numeric", "boolean"):
            raise DataError(
                f"the confound {name!r} holds {rows.kind(name)}: confounds are numbers; factors "
                "enter by formula= and table="
            )
        columns.append(rows.numeric(name))
        names.append(name)
    return GroupDesign(np.column_stack(columns), tuple(names))


def _of_matrix(given: Any, labels: Sequence[str]) -> GroupDesign:
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        given = read_design(path) if path.suffix == ".mat" else read_table(path)
    if isinstance(given, np.ndarray | list):
        X = np.asarray(given, dtype=np.float64)
        if X.ndim != 2:
            raise DataError(f"design_matrix has shape {X.shape}; a row a subject, a column a term")
        return GroupDesign(X, tuple(f"x{k + 1}" for k in range(X.shape[1])))
    table = Table.of(given)
    label = next((name for name in LABELS if name in table), None)
    if label is not None:
        table, _ = joined(table, labels, label)
    elif table.index is not None and {str(one) for one in table.index} >= set(labels):
        place = {str(one): i for i, one in enumerate(table.index)}
        table = Table.of(table.mapping(np.array([place[one] for one in labels])))
    columns = [name for name in table.columns if name != label]
    for name in columns:
        if table.kind(name) not in ("numeric", "boolean"):
            raise DataError(f"column {name!r} of design_matrix holds {table.kind(name)}, no number")
    if not columns:
        raise DataError("design_matrix has no columns; give one of ones for the mean")
    X = np.column_stack([table.numeric(name) for name in columns])
    return GroupDesign(X, tuple(map(str, columns)))


def _check(design: GroupDesign, labels: Sequence[str]) -> None:
    X, names = design.X, design.names
    K, p = len(labels), len(names)
    if len(X) != K:
        raise DataError(f"the design has {len(X)} rows, and there are {K} subjects")
    for name, column in zip(names, X.T, strict=True):
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            who = list_text([labels[b] for b in bad[:5]])
            raise DataError(f"{name!r} is missing or infinite for subject {who}")
    if p >= K:
        raise ModelError(f"{K} subjects are too few for {p} columns of the design: {names}")
    size = np.linalg.norm(X, axis=0)
    R = np.linalg.qr(X / np.where(size > 0, size, 1.0))[1]
    flat = np.flatnonzero(np.abs(np.diag(R)) <= DEPENDENT)
    if len(flat):
        raise ModelError(
            f"column {names[flat[0]]!r} of the design is determined by those before it "
            f"({list_text(list(names[: flat[0]])) or 'it is zero'}); leave it out"
        )


# --- contrasts


def weights_of(contrast: Any, names: Sequence[str]) -> Floats:
    """Return the weights (r, p) of a contrast: an expression, several, or numbers.

    Examples
    --------
    >>> weights_of("intercept - 2*age", ["intercept", "age"]).tolist()
    [[1.0, -2.0]]
    """
    p = len(names)
    if contrast is None:
        if p > 1:
            raise ModelError(f"name a contrast of the columns {list_text(list(names))}")
        return np.ones((1, 1))
    if isinstance(contrast, str):
        rows = [_Expression(part, names).weights() for part in _split(contrast, names)]
    elif isinstance(contrast, Mapping):
        rows = [np.array([float(contrast.get(name, 0.0)) for name in names])]
        unknown = [name for name in contrast if name not in names]
        if unknown:
            raise ModelError(f"there is no column {unknown[0]!r}{suggestion(unknown[0], names)}")
    elif isinstance(contrast, list | tuple) and contrast and all(
        isinstance(one, str) for one in contrast
    ):  # fmt: skip
        rows = [_Expression(part, names).weights() for part in contrast]
    else:
        try:
            rows = list(np.atleast_2d(np.asarray(contrast, dtype=np.float64)))
        except (TypeError, ValueError):
            raise ModelError("a contrast is an expression of columns, or their weights") from None
    C = np.array(rows)
    if C.ndim != 2 or C.shape[1] != p or not np.isfinite(C).all():
        raise ModelError(
            f"a contrast has {p} finite weights, one for each of {list_text(list(names))}"
        )
    if not C.any(axis=1).all():
        raise ModelError("a contrast is zero: it weighs no column")
    if np.linalg.matrix_rank(C) < len(C):
        raise ModelError("rows of the contrast depend on each other; leave one out")
    return C


def _split(text: str, names: Sequence[str]) -> list[str]:
    """Parts of an F contrast: separated by commas that are in no name."""
    held = re.sub("|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)),
                  lambda m: m[0].replace(",", "\0"), text)  # fmt: skip
    return [part.replace("\0", ",") for part in held.split(",")]


class _Expression:
    """A sum of columns with numbers before them; names may hold anything."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text, self.names = text, list(names)
        self.tokens = self._tokens()
        self.at = 0

    def weights(self) -> Floats:
        value = self._sum()
        if self.at < len(self.tokens):
            raise self._wrong(f"{self.tokens[self.at]!r} is not expected there")
        if not isinstance(value, np.ndarray):
            raise self._wrong("it names no column")
        return value

    def _wrong(self, why: str) -> ModelError:
        return ModelError(
            f"the contrast {self.text!r} cannot be read: {why}; its columns are "
            f"{list_text(self.names)}"
        )

    def _tokens(self) -> list[Any]:
        known = {**{n: i for i, n in enumerate(self.names)}}
        if INTERCEPT in known:
            known.setdefault("(Intercept)", known[INTERCEPT])
            known.setdefault("Intercept", known[INTERCEPT])
        elif "(Intercept)" in known:
            known.setdefault(INTERCEPT, known["(Intercept)"])
        ordered = sorted(known, key=len, reverse=True)
        out: list[Any] = []
        rest = self.text
        while rest := rest.lstrip():
            name = next((n for n in ordered if rest.startswith(n) and not _goes_on(rest, n)), None)
            number = re.match(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?", rest)
            if name is not None and not (number and name == number[0]):
                out.append(np.eye(len(self.names))[known[name]])
                rest = rest[len(name) :]
            elif number:
                out.append(float(number[0]))
                rest = rest[number.end() :]
            elif rest[0] in "+-*/()":
                out.append(rest[0])
                rest = rest[1:]
            else:
                word = re.match(r"[^\s+\-*/()]+", rest)
                unknown = word[0] if word else rest[0]
                raise self._wrong(f"there is no column {unknown!r}{suggestion(unknown, ordered)}")
        if not out:
            raise self._wrong("it is empty")
        return out

    def _peek(self) -> Any:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _is(self, *signs: str) -> bool:
        now = self._peek()
        return isinstance(now, str) and now in signs

    def _sum(self) -> Any:
        value = self._product()
        while self._is("+", "-"):
            sign = 1.0 if self.tokens[self.at] == "+" else -1.0
            self.at += 1
            other = self._product()
            if isinstance(value, np.ndarray) != isinstance(other, np.ndarray):
                raise self._wrong("a number is added to a column")
            value = value + sign * other
        return value

    def _product(self) -> Any:
        value = self._one()
        while self._is("*", "/"):
            sign = self.tokens[self.at]
            self.at += 1
            other = self._one()
            if isinstance(other, np.ndarray) and (sign == "/" or isinstance(value, np.ndarray)):
                raise self._wrong("columns are multiplied by numbers alone")
            if sign == "/" and other == 0:
                raise self._wrong("it divides by zero")
            value = value * other if sign == "*" else value / other
        return value

    def _one(self) -> Any:
        now = self._peek()
        self.at += 1
        if isinstance(now, str) and now in "+-":
            value = self._one()
            return -value if now == "-" else value
        if isinstance(now, str) and now == "(":
            value = self._sum()
            if not self._is(")"):
                raise self._wrong("a bracket is not closed")
            self.at += 1
            return value
        if now is None or isinstance(now, str):
            raise self._wrong("something is missing" if now is None else f"{now!r} stands alone")
        return now


def _goes_on(rest: str, name: str) -> bool:
    """Whether a word goes on behind a name that ends like one."""
    after = rest[len(name) : len(name) + 1]
    return bool(after) and (name[-1].isalnum() or name[-1] == "_") and (
        after.isalnum() or after in "_."
    )  # fmt: skip
