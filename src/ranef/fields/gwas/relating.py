"""What a call's `relationship` means for the samples that are analysed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError, suggestion
from ranef.fields.gwas.genotypes import Chosen, Genotypes, Samples
from ranef.fields.gwas.kin import (
    SparseRelationship,
    is_sparse_file,
    read_sparse,
    sparse_prefix,
)
from ranef.fields.gwas.matrices import check_matrix, read_matrix
from ranef.fields.gwas.quality import Limits
from ranef.fields.gwas.relationship import Relationship, build, read_kind, rows_of
from ranef.formula.labels import level_text, list_text

__all__ = ["LEAVING_OUT", "MADE", "Related", "labelled_matrix", "relate", "relate_given"]

Floats = NDArray[np.float64]

MADE = ("loco", "loco-exact", "centred", "standardised")
LEAVING_OUT = ("loco", "loco-exact")
FOR_MATRIX = Limits()
USUAL = (0.01, 100.0)
"""Mean diagonals of relationships for which the range of variance ratios is wide enough."""


@dataclass(frozen=True, eq=False)
class Related:
    """A relationship, and how the rows of analysed samples are found in it.

    Attributes
    ----------
    name : str
        ``"loco"``, ``"centred"``, ``"standardised"``, ``"given"``, ``"sparse"`` or ``"none"``.
    whole : Relationship, SparseRelationship or None
    samples : Samples
    """

    name: str
    whole: Relationship | SparseRelationship | None
    samples: Samples

    @property
    def apart(self) -> bool:
        """Whether each chromosome is tested against the others."""
        return self.name in ("loco", "two-step")

    def pieces(self) -> list[Any]:
        """What tells this relationship from another."""
        if self.whole is None:
            return []
        if isinstance(self.whole, SparseRelationship):
            K = self.whole.matrix
            return [K.indptr, K.indices, K.data]
        return [self.whole.matrix]

    def matrix(self, places: NDArray[np.int32], without: str | None) -> Any:
        """Return the matrix of some samples, less a chromosome, a copy; None of unrelated ones."""
        if self.whole is None:
            return None
        held = self.whole
        if isinstance(held, SparseRelationship):
            return rows_of(held, self.samples, places)
        if without is not None and without in held.chromosomes:
            held = held.without(without)
        return rows_of(held, self.samples, places)


def relate(
    relationship: Any,
    source: Genotypes,
    allowed: NDArray[np.bool_],
    analysed: Any,
    jobs: int,
    shown: bool | None = False,
) -> Related:
    """Read or make the relationship of a scan.

    allowed : (N,) which samples may enter the matrix; analysed : places of those whose genotypes
    say which variants do; shown : whether there is a progress bar.
    """
    if not isinstance(relationship, str) or relationship not in MADE:
        return relate_given(relationship, source.samples)
    leaving = relationship in LEAVING_OUT
    kind = "centred" if leaving else relationship
    name, power = read_kind(kind)
    whole = Chosen.of(source.samples, np.flatnonzero(allowed))
    judged = Chosen.of(source.samples, analysed)
    if leaving and len(source.variants.chromosomes) < 2:
        raise ModelError(
            f"all variants are on chromosome {source.variants.chromosomes[0]!r}: there are no "
            "others to make a relationship of; use relationship='centred', or a matrix of your own"
        )
    made = build(source, whole, judged, name, power, FOR_MATRIX, jobs, shown)
    if leaving and len(made.chromosomes) < 2:
        raise ModelError(
            f"only chromosome {next(iter(made.chromosomes))!r} has variants for a relationship; "
            "use relationship='centred', or a matrix of your own"
        )
    return Related("loco" if leaving else relationship, made, source.samples)


def relate_given(relationship: Any, samples: Samples) -> Related:
    """Read a relationship that was handed over."""
    related = _read(relationship, samples)
    if related.whole is not None:
        mean = float(np.mean(related.whole.matrix.diagonal()))
        if 0.0 <= mean < USUAL[0] or mean > USUAL[1]:
            raise DataError(
                f"the relationship has a mean diagonal of {mean:.3g}, and samples' relationships "
                "with themselves are about 1: variance ratios are sought for such; divide the "
                "matrix by its mean diagonal"
            )
    return related


def _read(relationship: Any, samples: Samples) -> Related:
    if relationship is None:
        return Related("none", None, samples)
    if isinstance(relationship, Relationship):
        return Related("given", relationship, samples)
    if isinstance(relationship, SparseRelationship):
        return Related("sparse", relationship, samples)
    if isinstance(relationship, str) and relationship == "two-step":
        raise ModelError("the two-step path is one of gwas.scan; give a relationship matrix here")
    if isinstance(relationship, str) and not any(c in relationship for c in "./\\"):
        hint = suggestion(relationship, (*MADE, "two-step"))
        if hint:
            raise ModelError(
                f"relationship={relationship!r} is not known{hint}; use one of "
                f"{list_text([*MADE, 'two-step'])}, None, a matrix or the path of one"
            )
    if isinstance(relationship, (str, PathLike)):
        path = arguments.path(relationship)
        if is_sparse_file(path):
            return Related("sparse", read_sparse(sparse_prefix(path)), samples)
        matrix, ids, m = read_matrix(path, samples, optional=True)
        fid, iid = zip(*ids, strict=True)
        return Related("given", Relationship(matrix, fid, iid, m, "read", {}, "pandas"), samples)
    return Related("given", labelled_matrix(relationship), samples)


def labelled_matrix(given: Any) -> Relationship:
    """Return a relationship from a table whose rows and columns are named, or (matrix, names)."""
    if hasattr(given, "labels") and hasattr(given, "relationship"):
        names = [level_text(label) for label in given.labels]
        K = np.asarray(given.relationship(list(given.labels)), dtype=np.float64)
    elif isinstance(given, tuple) and len(given) == 2:
        K, names = _numbers(given[0]), [level_text(label) for label in given[1]]
    elif hasattr(given, "index") and hasattr(given, "columns"):
        names = [level_text(label) for label in given.index]
        across = [level_text(label) for label in given.columns]
        K = _numbers(given)
        if sorted(names) != sorted(across):
            raise DataError(
                "rows and columns of the relationship have different names; give both the names "
                "of the samples"
            )
        if K.shape[0] == K.shape[1] and len(set(across)) == len(across):
            place = {label: k for k, label in enumerate(across)}
            K = K[:, [place[label] for label in names]]
    else:
        raise ModelError(
            "relationship is 'loco', 'two-step', 'centred', 'standardised', None, a path, a table "
            f"with named rows and columns, or (matrix, names), not {type(given).__name__}"
        )
    if K.ndim != 2 or K.shape != (len(names), len(names)):
        raise DataError(f"the relationship is {K.shape}, and {len(names):,} samples are named")
    if len(set(names)) < len(names):
        raise DataError("the relationship names a sample twice; leave one of its rows out")
    check_matrix(K, "given")
    return Relationship(K, ("0",) * len(names), tuple(names), 0, "given", {}, "pandas")


def _numbers(given: Any) -> Floats:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the relationship holds what is no number: {error}") from None


def union(groups: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Places that any group has, ascending."""
    return np.unique(np.concatenate(list(groups))).astype(np.int32)
