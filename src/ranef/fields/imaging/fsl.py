"""FSL's text files of a design: design.mat, design.con, design.grp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ranef import arguments
from ranef.errors import FileError

__all__ = ["read_design"]

ENDINGS = (".mat", ".con", ".fts", ".grp")


def read_design(path: Any) -> Any:
    r"""Read one of FSL's files of a design.

    Parameters
    ----------
    path : path-like
        ``design.mat`` (columns are numbered ``ev1``, ``ev2`` ...), ``design.con`` (a row a
        contrast, under its name), ``design.fts`` (F tests of contrasts), or ``design.grp`` (the
        group of each subject).

    Returns
    -------
    DataFrame, or (K,) int array of design.grp

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from ranef import imaging
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "design.con")
    ...     _ = path.write_text("/ContrastName1 mean\n/NumWaves 2\n/Matrix\n1 0\n")
    ...     imaging.read_design(path)
          ev1  ev2
    mean  1.0  0.0
    """
    place = arguments.path(path)
    if place.suffix not in ENDINGS:
        raise FileError(f"{str(place)!r} is none of FSL's files of a design ({', '.join(ENDINGS)})")
    if not place.is_file():
        raise FileError(f"there is no file {str(place)!r}")
    header, rows = _parts(place)
    matrix = _matrix(place, rows, header)
    if place.suffix == ".grp":
        return matrix[:, 0].astype(int)
    import pandas as pd

    columns = [f"ev{k + 1}" for k in range(matrix.shape[1])]
    if place.suffix == ".fts":
        columns = [f"contrast{k + 1}" for k in range(matrix.shape[1])]
    names: Any = None
    if place.suffix == ".con":
        names = [header.get(f"ContrastName{k + 1}", f"contrast{k + 1}") for k in range(len(matrix))]
    return pd.DataFrame(matrix, columns=columns, index=names)


def _parts(place: Path) -> tuple[dict[str, str], list[str]]:
    header, rows, inside = {}, [], False
    for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("/Matrix"):
            inside = True
        elif text.startswith("/"):
            name, _, value = text[1:].partition(" ")
            if "\t" in name:
                name, _, value = text[1:].partition("\t")
            header[name.strip()] = value.strip()
        elif text and inside:
            rows.append(text)
    if not inside:
        raise FileError(f"{str(place)!r} has no line /Matrix: it is not FSL's")
    return header, rows


def _matrix(place: Path, rows: list[str], header: dict[str, str]) -> Any:
    try:
        values = [[float(one) for one in row.split()] for row in rows]
    except ValueError as error:
        word = str(error).rpartition(": ")[2]
        raise FileError(f"{str(place)!r} holds {word}, which is no number") from None
    widths = {len(row) for row in values}
    if len(widths) != 1:
        told = " and ".join(map(str, sorted(widths)))
        raise FileError(f"{str(place)!r}: its rows have {told} numbers; each has one a column")
    matrix = np.array(values)
    counts = {"NumWaves": matrix.shape[1], "NumPoints": len(matrix), "NumContrasts": len(matrix)}
    for name, count in counts.items():
        said = header.get(name, "")
        if said.isdigit() and int(said) != count:
            raise FileError(f"{str(place)!r} says {name} {said} and holds {count}: is it cut off?")
    return matrix
