"""Files that hold a matrix: BIOM 1 and 2, and AnnData.

Names, shape and places are checked against each other before a count is taken: a file that
contradicts itself gives no numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, FileError
from ranef.fields.metagenomics.counted import Counted, Line, lines_of
from ranef.solve.room import check_room

__all__ = ["anndata", "biom"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_ENTRIES = 400_000_000
BYTES_OF_NUMBER, COPIES, BYTES_OF_LINE = 8, 3, 250


def biom(path: Path) -> Counted:
    """Read a BIOM table of either version."""
    with path.open("rb") as stream:
        hdf = stream.read(8).startswith(b"\x89HDF")
    kind = "a BIOM table"
    try:
        return _biom2(path, kind) if hdf else _biom1(path, kind)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        raise _not(path, kind, error) from error


def anndata(path: Path) -> Counted:
    """Read the matrix X of an AnnData file: libraries in rows, taxa in columns."""
    kind = "an AnnData file"
    h5py = _hdf5()
    try:
        with h5py.File(path, "r") as file:
            samples, taxa = (
                _texts(file[part][_text(file[part].attrs.get("_index", "_index"))])
                for part in ("obs", "var")
            )
            X = file["X"]
            if isinstance(X, h5py.Dataset):
                matrix = np.asarray(_all(X))
                if matrix.shape != (len(samples), len(taxa)):
                    raise FileError(_lies(path, kind, matrix.shape, len(samples), len(taxa)))
                s, t = matrix.nonzero()
                reads = matrix[s, t]
            else:
                by_row = _text(X.attrs.get("encoding-type", "csr_matrix")) == "csr_matrix"
                major = len(samples) if by_row else len(taxa)
                data, indices, starts = (_all(X[name]) for name in ("data", "indices", "indptr"))
                a, b, reads = _unrolled(path, kind, data, indices, starts, major)
                s, t = (a, b) if by_row else (b, a)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError) as error:
        raise _not(path, kind, error) from error
    return _counted(path, kind, samples, taxa, taxa, s, t, reads)


def _biom1(path: Path, kind: str) -> Counted:
    table = json.loads("\n".join(lines_of(path)))
    if not isinstance(table, dict):
        raise FileError(f"{path.name} is not {kind}: it holds no object of JSON")
    for name in ("rows", "columns", "data"):
        if not isinstance(table.get(name), list):
            raise FileError(f"{path.name} is not {kind}: it has no list {name!r}")
    taxa = [str(row["id"]) for row in table["rows"]]
    samples = [str(column["id"]) for column in table["columns"]]
    names = [_last_name((row.get("metadata") or {}).get("taxonomy")) for row in table["rows"]]
    own = (len(taxa), len(samples))
    if tuple(table.get("shape", own)) != own:
        raise FileError(_lies(path, kind, table["shape"], *own))
    how = table.get("matrix_type", "dense")
    if how == "sparse":
        if any(len(entry) != 3 for entry in table["data"]):
            raise FileError(f"{path.name} is not {kind}: an entry is row, column and count")
        t, s, values = zip(*table["data"], strict=True) if table["data"] else ((), (), ())
    elif how == "dense":
        if len(table["data"]) != own[0] or any(len(line) != own[1] for line in table["data"]):
            raise FileError(f"{path.name} is not {kind}: data are not {own[0]:,} x {own[1]:,}")
        t = tuple(i for i in range(own[0]) for _ in range(own[1]))
        s = tuple(range(own[1])) * own[0]
        values = tuple(v for line in table["data"] for v in line)
    else:
        raise FileError(f"{path.name} is not {kind}: matrix_type is {how!r}, not sparse or dense")
    return _counted(path, kind, samples, taxa, names, _places(s), _places(t), np.array(values))


def _biom2(path: Path, kind: str) -> Counted:
    h5py = _hdf5()
    with h5py.File(path, "r") as file:
        taxa, samples = (_texts(file[part]["ids"]) for part in ("observation", "sample"))
        matrix = file["observation/matrix"]
        data, columns, starts = (_all(matrix[name]) for name in ("data", "indices", "indptr"))
        shape = file.attrs.get("shape")
        lineages = file.get("observation/metadata/taxonomy")
        names = None if lineages is None else [_last_name(_parts(row)) for row in _all(lineages)]
    own = (len(taxa), len(samples))
    if shape is not None and tuple(int(n) for n in shape) != own:
        raise FileError(_lies(path, kind, shape, *own))
    t, s, reads = _unrolled(path, kind, data, columns, starts, len(taxa))
    if names is None or len(names) != len(taxa):
        names = [""] * len(taxa)
    return _counted(path, kind, samples, taxa, names, s, t, reads)


def _not(path: Path, kind: str, error: Exception) -> Exception:
    if isinstance(error, DataError | FileError):
        return error
    return FileError(f"{path.name} is not {kind}: {error}")


def _lies(path: Path, kind: str, shape: Any, rows: int, columns: int) -> str:
    said = " x ".join(f"{int(n):,}" for n in shape)
    return (
        f"{path.name} is not {kind}: its matrix is stated as {said}, its names are "
        f"{rows:,} x {columns:,}"
    )


def _hdf5() -> Any:
    try:
        import h5py
    except ImportError:
        raise FileError(
            "BIOM 2 and AnnData files need the package h5py; pip install 'ranef[metagenomics]'"
        ) from None
    return h5py


def _all(dataset: Any) -> Any:
    if dataset.size > MOST_ENTRIES:
        raise FileError(
            f"{dataset.name} of the file states {dataset.size:,} entries; tables of counts of up "
            f"to {MOST_ENTRIES:,} are read"
        )
    each = max(dataset.dtype.itemsize, BYTES_OF_NUMBER)
    chunk = float(np.prod(dataset.chunks or (1,), dtype=np.float64))
    check_room(each * max(COPIES * dataset.size, chunk), f"{dataset.name} of the file")
    return dataset[()]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _texts(dataset: Any) -> list[str]:
    return [_text(value) for value in np.atleast_1d(_all(dataset))]


def _parts(row: Any) -> Any:
    return _text(row) if isinstance(row, bytes | str) else [_text(part) for part in row]


def _last_name(lineage: Any) -> str:
    """Return the last name of a lineage that is more than the letter of a rank."""
    if isinstance(lineage, str):
        lineage = lineage.split(";")
    named = [str(part).strip() for part in lineage or [] if len(str(part).strip()) > 3]
    return named[-1] if named else ""


def _places(given: Any) -> Ints:
    places = np.asarray(given)
    if len(places) and not np.issubdtype(places.dtype, np.integer):
        raise ValueError("rows and columns of its matrix are whole numbers")
    return np.asarray(places, dtype=np.int64)


def _unrolled(
    path: Path, kind: str, data: Any, indices: Any, starts: Any, major: int
) -> tuple[Ints, Ints, Any]:
    """Rows, columns and values of a compressed matrix of so many rows."""
    starts, indices = _places(starts), _places(indices)
    whole = (
        len(starts) == major + 1
        and len(indices) == len(data)
        and (not len(starts) or (starts[0] == 0 and starts[-1] == len(data)))
        and bool((np.diff(starts) >= 0).all())
    )
    if not whole:
        raise FileError(
            f"{path.name} is not {kind}: the places of its matrix (indptr, indices, data) do not "
            "fit together"
        )
    return np.repeat(np.arange(major), np.diff(starts)), indices, data


def _counted(
    path: Path, kind: str, samples: list[str], taxa: list[str], names: list[str], s: Ints, t: Ints,
    reads: Any,
) -> Counted:  # fmt: skip
    for what, given in (("sample", samples), ("taxon", taxa)):
        twice = next((name for name, n in Counter(given).items() if n > 1), None)
        if twice is not None:
            raise DataError(f"the {what} {twice!r} occurs twice in {path.name}")
        if any(not name.strip() for name in given):
            raise DataError(f"a {what} of {path.name} has an empty name")
    for places, given in ((s, samples), (t, taxa)):
        if len(places) and (places.min() < 0 or places.max() >= len(given)):
            raise FileError(
                f"{path.name} is not {kind}: its matrix has a place outside its "
                f"{len(samples):,} samples and {len(taxa):,} taxa"
            )
    cell = s * len(taxa) + t
    _, first, count = np.unique(cell, return_index=True, return_counts=True)
    if (count > 1).any():
        k = first[count > 1][0]
        raise DataError(
            f"{path.name}: the sample {samples[s[k]]!r} has the taxon {taxa[t[k]]!r} twice"
        )
    numbers = _numbers(path, reads)
    bad = ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        k = int(np.argmax(bad))
        raise DataError(
            f"{path.name}: {numbers[k]:g} of the taxon {taxa[t[k]]!r} in the sample "
            f"{samples[s[k]]!r} is not a count of reads"
        )
    some = np.flatnonzero(numbers)
    check_room(float(BYTES_OF_LINE) * len(some), path.name)
    return Counted(
        [
            Line(samples[a], taxa[b], names[b] or taxa[b], "", float(n))
            for a, b, n in zip(s[some], t[some], numbers[some], strict=True)
        ],
        {},
    )


def _numbers(path: Path, reads: Any) -> Floats:
    values = np.asarray(reads)
    if len(values) and values.dtype.kind not in "iufb":
        raise DataError(f"{path.name}: its matrix holds what are no counts of reads")
    return np.asarray(values, dtype=np.float64)
