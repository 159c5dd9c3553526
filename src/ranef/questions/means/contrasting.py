"""From means to their contrasts: which are compared, on what scale, under what names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.formula.labels import shown_level
from ranef.inference.coefficients.functions import Functions
from ranef.questions.means.contrast_matrices import ContrastMatrix, contrast_matrix, contrast_method
from ranef.questions.means.multiplicity import check_adjustment
from ranef.questions.means.specs import names_of
from ranef.questions.means.table import MeansTable
from ranef.tables import Table

__all__ = ["contrasts_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
T = TypeVar("T")

COMPARE = ("difference", "ratio", "odds", "link")
PAIRS = ("pairwise", "revpairwise")


def contrasts_of(
    kind: Callable[..., T],
    means: MeansTable,
    method: Any,
    *,
    by: Any = None,
    simple: Any = None,
    interaction: Any = None,
    ref: Any = None,
    adjust: str | None = None,
    compare: str | None = None,
    conf_level: float | None = None,
    rng: Any = None,
) -> T:
    """Make the contrasts of means, as an object of the class `kind`."""
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
    return kind(
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


def _split(means: MeansTable, by: Any, simple: Any) -> tuple[str, ...]:
    if simple is None:
        return means.by if by is None else names_of("by", by)
    if by is not None:
        raise ModelError("simple= compares within all other predictors; leave by out")
    own = names_of("simple", simple)
    means.regrouped(own)
    return tuple(name for name in means.names if name not in own)


def _compared(means: MeansTable, families: Sequence[Ints]) -> int:
    """Means in each family that can be estimated; the most of any."""
    known = means.functions.estimable
    return max(int(np.count_nonzero(known[own])) for own in families)


def _scale(means: MeansTable, compare: str | None) -> tuple[str, str]:
    """The scale on which means are subtracted, and the link that carries results back."""
    link = means.link
    if compare is None:
        compare = {"log": "ratio", "logit": "odds"}.get(link, "difference")
    compare = arguments.choice("compare", compare, COMPARE)
    if compare in ("difference", "link"):
        return ("identity", "identity") if compare == "difference" else (link, "identity")
    asked = means.source.asked
    on_link = asked.what.type == "link" and asked.fit.family.link != "identity"
    if means.slopes or on_link:
        raise ModelError(
            f"compare={compare!r} is for means of the response; use type='response', or 'link' "
            "with compare left out"
        )
    value = means.functions.back(link).value[means.functions.estimable]
    if (value <= 0).any() or (compare == "odds" and (value >= 1).any()):
        what = "positive means" if compare == "ratio" else "means between 0 and 1"
        raise ModelError(f"compare={compare!r} is for {what}; use compare='difference'")
    return ("log" if compare == "ratio" else "logit"), "log"


def _word(means: MeansTable, scale: str, link: str) -> str:
    if link == "identity":
        if scale == "identity":
            return "difference"
        return f"difference on the scale of the {scale}"
    return "odds ratio" if scale == "logit" else "ratio"


def _matrix(
    means: MeansTable,
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
    means: MeansTable, rest: Sequence[str], rows: Ints, ref: Any, labels: list[str]
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
    means: MeansTable, rest: Sequence[str], interaction: Any
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
