"""What the readers of other formats share: packages that may be absent, names, samples beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, FileError, suggestion
from ranef.fields.gwas.genotypes import Samples, Variants
from ranef.fields.gwas.matching import FIDS, IIDS, names_in, split_rows
from ranef.fields.gwas.plink import SEXES, distinct_samples, line_of, read_fam, read_text_lines
from ranef.solve.room import check_regular

__all__ = [
    "beside",
    "existing",
    "package",
    "reason",
    "samples_given",
    "samples_known",
    "samples_named",
    "variants_of",
]

UNNAMED = (".", "")


def package(name: str, path: object, kind: str) -> Any:
    """Import a package that reads a kind of file; a `FileError` says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise FileError(
            f"{str(path)!r} is {kind}, which needs {name}: pip install 'ranef[gwas]' ({error})"
        ) from None


def existing(given: str | PathLike[str], endings: Sequence[str]) -> Path:
    """Return the file of a path, or of a prefix with one of the endings."""
    path = arguments.path(given)
    candidates = [path.with_name(path.name + ending) for ending in endings]
    if path.name.lower().endswith(tuple(endings)):
        candidates.insert(0, path)
    elif path.is_file():
        candidates.append(path)
    for candidate in candidates:
        if candidate.exists():
            check_regular(candidate, repr(str(candidate)))
            return candidate
    near = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
    raise FileError(
        f"there is no file {str(candidates[0])!r}{suggestion(candidates[0].name, near)}"
    )


def beside(path: Path, ending: str, others: Sequence[str]) -> Path | None:
    """Return the file whose name has another ending, the first that is there."""
    stem = path.name[: -len(ending)] if path.name.lower().endswith(ending) else path.name
    found = (path.with_name(stem + other) for other in others)
    return next((p for p in found if p.is_file()), None)


def reason(error: BaseException) -> str:
    """The words of another package's error, on one line."""
    text = error.args[0] if error.args else str(error)
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return " ".join(text.split()).rstrip(".")


# --- samples


def samples_named(names: Sequence[str], path: object) -> Samples:
    """Return samples known by one name each."""
    iid = tuple(str(name) for name in names)
    fid = ("0",) * len(iid)
    if not iid:
        raise DataError(f"{str(path)!r} has no samples; was it written to its end?")
    distinct_samples(fid, iid, str(path))
    return Samples(fid, iid, np.zeros(len(iid), dtype=np.int32))


def samples_given(given: Any, count: int | None, path: object) -> Samples:
    """Return the samples of a list, or of a .fam, .psam, .sample or plain file, checked by number.

    A file of one column, or without a heading of two, has names alone.
    """
    if isinstance(given, Samples):
        found = given
    elif isinstance(given, (str, PathLike)):
        found = _read_samples(arguments.path(given))
    else:
        found = samples_named([" ".join(row) for row in names_in("samples", given)], "samples")
    if count is not None and len(found) != count:
        raise DataError(
            f"{str(path)!r} has {count:,} samples, and {_called(given)} names {len(found):,}"
        )
    return found


def _called(given: Any) -> str:
    return repr(str(given)) if isinstance(given, (str, PathLike)) else "samples"


def _read_samples(path: Path) -> Samples:
    name = path.name.lower()
    if name.endswith(".fam"):
        return read_fam(path)
    rows = split_rows([line for line in read_text_lines(path) if not line.startswith("##")])
    if not rows:
        raise DataError(f"{str(path)!r} names no samples")
    head = [cell.upper() for cell in rows[0]]
    if len(rows) > 1 and head[0] in ("ID_1", "ID") and set(rows[1][:2]) == {"0"}:
        return _oxford(rows, head, path)
    if any(cell in IIDS for cell in head):
        return headed(rows, path)
    if name.endswith(".psam"):
        return read_fam(path)
    if len(rows[0]) > 1:
        fid, iid = (tuple(_cell(row, k, path) for row in rows) for k in (0, 1))
        distinct_samples(fid, iid, str(path))
        return Samples(fid, iid, np.zeros(len(iid), dtype=np.int32))
    return samples_named([row[0] for row in rows], path)


def _cell(row: Sequence[str], k: int, path: Path) -> str:
    if k >= len(row):
        raise DataError(f"{str(path)!r} has a line of {len(row)} columns: {' '.join(row)!r}")
    return row[k]


def _oxford(rows: list[list[str]], head: list[str], path: Path) -> Samples:
    """A .sample: two lines of headings, ID_1, ID_2, missing and more."""
    body = rows[2:]
    fid = tuple(_cell(row, 0, path) for row in body)
    iid = tuple(_cell(row, 1, path) for row in body)
    if fid == iid or head[0] == "ID":
        fid, iid = ("0",) * len(body), fid
    sex = head.index("SEX") if "SEX" in head else None
    codes = [0 if sex is None else SEXES.get(_cell(r, sex, path).upper(), 0) for r in body]
    distinct_samples(fid, iid, str(path))
    return Samples(fid, iid, np.array(codes, dtype=np.int32))


def headed(rows: list[list[str]], path: Path) -> Samples:
    """Samples of a table with a heading: IID and perhaps FID, SEX and one phenotype (.psam)."""
    head, body = [cell.upper() for cell in rows[0]], rows[1:]
    wrong = next((k for k, row in enumerate(body) if len(row) != len(head)), None)
    if wrong is not None:
        raise DataError(
            f"line {line_of(path, wrong + 1, '##')} of {str(path)!r} has {len(body[wrong])} "
            f"columns; the heading has {len(head)}"
        )
    if not body:
        raise DataError(f"{str(path)!r} names no samples")
    columns = dict(zip(head, zip(*body, strict=True), strict=True))
    iid = next(columns[c] for c in head if c in IIDS)
    fid = next((columns[c] for c in head if c in FIDS), ("0",) * len(iid))
    sex = columns.get("SEX", ("0",) * len(iid))
    codes = np.array([SEXES.get(s.upper(), 0) for s in sex], dtype=np.int32)
    known = {*IIDS, *FIDS, "SID", "PAT", "MAT", "SEX"}
    others = [c for c in head if c not in known]
    distinct_samples(fid, iid, str(path))
    return Samples(fid, iid, codes, columns[others[0]] if len(others) == 1 else None)


def samples_known(own: Samples, given: Samples | None, path: object) -> Samples:
    """Return a file's own samples, with the families and sexes of a list that names them all."""
    if given is None:
        return own
    place = {iid: k for k, iid in enumerate(given.iid)}
    if len(place) < len(given):
        twice = next(iid for iid, k in Counter(given.iid).items() if k > 1)
        raise DataError(
            f"samples= has the IID {twice!r} twice, and {str(path)!r} knows no families to tell "
            "them apart; leave one out"
        )
    absent = [iid for iid in own.iid if iid not in place]
    if absent:
        raise DataError(
            f"samples= has no row for {len(absent):,} samples of {str(path)!r}, such as "
            f"{absent[0]!r}"
        )
    rows = [place[iid] for iid in own.iid]
    phenotype = given.phenotype
    return Samples(
        tuple(given.fid[k] for k in rows), own.iid, given.sex[rows],
        None if phenotype is None else tuple(phenotype[k] for k in rows),
    )  # fmt: skip


# --- variants


def variants_of(
    chromosome: Sequence[str],
    position: Any,
    ids: Sequence[str],
    effect: Sequence[str],
    other: Sequence[str],
    several: Any,
) -> Variants:
    """Return variants; one without a name is called chromosome:position:other:effect."""
    where = np.asarray(position, dtype=np.int64)
    names = [
        f"{c}:{p}:{o}:{e}" if name in UNNAMED else name
        for c, p, name, e, o in zip(chromosome, where.tolist(), ids, effect, other, strict=True)
    ]
    columns = [_texts(column) for column in (chromosome, names, effect, other)]
    more = np.asarray(several, dtype=bool)
    return Variants(
        columns[0], columns[1], where, columns[2], columns[3], several=more if more.any() else None
    )


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out
