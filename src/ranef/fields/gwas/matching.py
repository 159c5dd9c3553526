"""Tables of phenotypes and covariates, matched to the samples of genotype files by name.

Names are text: leading zeros count. Rows are matched by IID, and by FID as well where both sides
have families.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError, row_text
from ranef.fields.gwas.genotypes import Samples
from ranef.fields.gwas.plink import line_of, read_text_lines
from ranef.formula.labels import level_text, list_text
from ranef.tables import Table

__all__ = [
    "FAM_TRAIT",
    "Labelled",
    "Matched",
    "match",
    "names_in",
    "read_labelled",
    "sample_places",
]

FAM_TRAIT = "phenotype"
IIDS, FIDS = ("IID", "#IID"), ("FID", "#FID")
NO_FAMILY = "0"

Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A table whose rows are named.

    Attributes
    ----------
    name : str
        What it is, for messages.
    fid : tuple of str or None
    iid : tuple of str
    columns : dict of str to arrays
    marked : dict of str to int
        Cells that a mark of missing values stood in, by mark.
    library : str
    from_file : bool
    """

    name: str
    fid: tuple[str, ...] | None
    iid: tuple[str, ...]
    columns: dict[str, Any]
    marked: dict[str, int]
    library: str
    from_file: bool
    noted: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Matched:
    """Columns of the samples that have a row in every table, in the order of the genotypes.

    Attributes
    ----------
    places : (k,) int32 array
        Places of these samples among all.
    columns : dict of str to (k,) arrays
    counts : tuple of (str, int)
        Samples and rows, and why some are not used.
    notes : tuple of str
    library : str
    """

    places: NDArray[np.int32]
    columns: dict[str, Any]
    counts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    library: str


def match(
    samples: Samples,
    phenotypes: Any,
    covariates: Any,
    *,
    na: Sequence[str],
    allowed: NDArray[np.bool_],
    traits: Sequence[str] = (),
) -> Matched:
    """Match tables to samples.

    Parameters
    ----------
    phenotypes, covariates : table, path or None
        Without phenotypes the .fam's own column is the trait ``phenotype``.
    na : sequence of str
        Marks of missing values: of cells of files, and of the traits of any table.
    allowed : (N,) bool array
        Samples that may be used.
    traits : sequence of str
        Columns to which the marks apply in a table that is no file.
    """
    tables = []
    if phenotypes is None:
        tables.append(_of_fam(samples, na))
    for name, given in (("phenotypes", phenotypes), ("covariates", covariates)):
        if given is not None:
            tables.append(read_labelled(name, given, na, traits))
    counts = [("samples in the genotypes", len(samples))]
    removed = int((~allowed).sum())
    if removed:
        counts.append(("sample not kept, or removed", removed))
    use, rows, notes = allowed.copy(), [], []
    for table in tables:
        where, said = _rows_of(table, samples)
        notes += [*table.noted, *said]
        absent = use & (where < 0)
        if absent.any():
            counts.append((f"sample without a row in the {table.name}", int(absent.sum())))
        unused = len(table.iid) - int((where >= 0).sum())
        if unused:
            counts.append((f"row of the {table.name} without genotypes", unused))
        use &= where >= 0
        rows.append(where)
        notes += [
            f"{mark!r} was read as a missing value in {count:,} "
            f"{'cell' if count == 1 else 'cells'} of the {table.name}"
            for mark, count in table.marked.items()
        ]
    places = np.flatnonzero(use).astype(np.int32)
    if not len(places):
        raise DataError(
            f"no sample of the genotypes is left: {'; '.join(f'{r}: {k:,}' for r, k in counts)}"
        )
    columns: dict[str, Any] = {}
    for table, where in zip(tables, rows, strict=True):
        twice = [name for name in table.columns if name in columns]
        if twice:
            raise DataError(f"both tables have a column {list_text(twice)}; rename one")
        columns |= {name: values[where[places]] for name, values in table.columns.items()}
    return Matched(places, columns, tuple(counts), tuple(notes), tables[0].library)


def _of_fam(samples: Samples, na: Sequence[str]) -> Labelled:
    if samples.phenotype is None:
        raise ModelError("these genotypes come without phenotypes; give phenotypes=, a table")
    text = np.array(samples.phenotype, dtype=object)
    values, marked = _typed(text, na)
    return Labelled(".fam", samples.fid, samples.iid, {FAM_TRAIT: values}, marked, "pandas", True)


def _rows_of(table: Labelled, samples: Samples) -> tuple[NDArray[np.intp], list[str]]:
    """Row of the table for each sample, -1 where there is none."""
    families = _families(table.fid) and _families(samples.fid)
    mine: list[Any] = list(zip(table.fid or (), table.iid, strict=True)) if families else []
    theirs: list[Any] = list(zip(samples.fid, samples.iid, strict=True))
    if not families:
        mine, theirs = list(table.iid), list(samples.iid)
        _distinct(theirs, "the genotypes name", " (families tell them apart: give a column FID)")
    _distinct(mine, f"the {table.name} name", "; give one row a sample")
    place = {key: row for row, key in enumerate(mine)}
    where = np.array([place.get(key, -1) for key in theirs], dtype=np.intp)
    if not (where >= 0).any():
        raise DataError(_nobody(table, samples, families))
    return where, _zeros(table, samples, where)


def _families(fid: tuple[str, ...] | None) -> bool:
    return fid is not None and any(name != NO_FAMILY for name in fid)


def _distinct(keys: Sequence[Any], whose: str, advice: str) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        shown = list_text([" ".join(k) if isinstance(k, tuple) else k for k in twice])
        raise DataError(f"{whose} {len(twice):,} samples more than once: {shown}{advice}")


def _nobody(table: Labelled, samples: Samples, families: bool) -> str:
    """Say why nobody was found."""
    if not table.iid:
        return f"the {table.name} have no rows"
    said = (
        f"no row of the {table.name} has the {'FID and IID' if families else 'IID'} of a sample: "
        f"there {table.iid[0]!r}, in the genotypes {samples.iid[0]!r}"
    )
    if set(table.iid) & set(samples.iid):
        common = len(set(table.iid) & set(samples.iid))
        return f"{said}. {common:,} IIDs agree and their FIDs do not; leave the column FID out"
    if table.fid is not None and set(table.fid) & set(samples.iid):
        return f"{said}. The column FID holds the IIDs; exchange the two"
    if {i.lstrip("0") for i in table.iid} & {i.lstrip("0") for i in samples.iid}:
        return f"{said}. They agree but for leading zeros; read the column IID as text"
    if {i.strip("'\"") for i in table.iid} & {i.strip("'\"") for i in samples.iid}:
        return f"{said}. They agree but for quotes about them; take these away"
    if {i.casefold() for i in table.iid} & {i.casefold() for i in samples.iid}:
        return f"{said}. They agree but for upper and lower case; write them alike"
    if {f"{i}_{i}" for i in table.iid} & set(samples.iid):
        return (
            f"{said}. The genotypes have each name twice, as plink writes FID_IID into a VCF; give "
            "the table its names so, or convert with plink2 --vcf FILE --id-delim _"
        )
    joined = {f"{f}_{i}" for f, i in zip(samples.fid, samples.iid, strict=True)}
    if joined & set(table.iid):
        return f"{said}. They are FID_IID there; split them into two columns"
    return said


def _zeros(table: Labelled, samples: Samples, where: NDArray[np.intp]) -> list[str]:
    """Say of samples that would be found but for zeros in front."""
    lost = {i.lstrip("0") for i in table.iid} if any(s.startswith("0") for s in samples.iid) else ()
    missed = [
        i for i, row in zip(samples.iid, where, strict=True)
        if row < 0 and i.startswith("0") and i.lstrip("0") in lost
    ]  # fmt: skip
    if not missed:
        return _cases(table, samples, where)
    return [
        *_cases(table, samples, where),
        f"{len(missed):,} samples such as {missed[0]!r} have rows in the {table.name} but for "
        "leading zeros, which a program took for a number's; read the column IID as text",
    ]


def _cases(table: Labelled, samples: Samples, where: NDArray[np.intp]) -> list[str]:
    """Say of samples that would be found but for upper and lower case."""
    if (where >= 0).all():
        return []
    known = {i.casefold(): i for i in table.iid}
    missed = [
        i for i, row in zip(samples.iid, where, strict=True)
        if row < 0 and known.get(i.casefold(), i) != i
    ]  # fmt: skip
    if not missed:
        return []
    return [
        f"{len(missed):,} samples such as {missed[0]!r} have rows in the {table.name} but for "
        f"upper and lower case, such as {known[missed[0].casefold()]!r}; write them alike"
    ]


# --- reading


def read_labelled(
    name: str, given: Any, na: Sequence[str] = (), traits: Sequence[str] = ()
) -> Labelled:
    """Read a table with names of samples, or the file of one."""
    if isinstance(given, (str, PathLike)):
        return _read_file(name, given, na)
    table = Table.of(given)
    iid = next((c for c in table.columns if c.upper() in IIDS), None)
    noted: tuple[str, ...] = ()
    if iid is None and (found := _called_otherwise(table.columns)):
        iid, noted = found, (_taken(name, found),)
    if iid is None:
        raise DataError(
            f"the {name} have no column IID with the names of the samples; they have "
            f"{list_text(table.columns)}"
        )
    fid = next((c for c in table.columns if c.upper() in FIDS), None)
    columns = {c: table.values(c) for c in table.columns if c not in (iid, fid)}
    marked: Counter[str] = Counter()
    for column in set(columns) & set(traits):
        if table.kind(column) in ("numeric", "boolean", "empty"):
            columns[column] = _unmarked(table.numeric(column), na, marked)
    return Labelled(
        name, None if fid is None else _ids(table, fid, name), _ids(table, iid, name), columns,
        dict(marked), table.library, False, noted,
    )  # fmt: skip


def _called_otherwise(columns: Iterable[str]) -> str | None:
    """Return the one column whose name says that it names samples, as forms and programs do.

    Examples
    --------
    >>> _called_otherwise(["Sample ID", "age"]), _called_otherwise(["sample", "subject_id"])
    ('Sample ID', None)
    """
    found = [name for name in columns if OTHERWISE.fullmatch(name.strip().lower())]
    return found[0] if len(found) == 1 else None


def _taken(name: str, column: str) -> str:
    return f"column {column!r} of the {name} has the names of the samples (IID)"


OTHERWISE = re.compile(
    r"#?(sample|individual|indiv|subject|participant|patient)([ _.-]?(id|name))?|eid"
)
"""Other names of the column of samples: of cohorts, SAIGE, PLINK's and VCF's own words."""


def _refuse_heading(rows: Sequence[Sequence[str]], path: PathLike[str], na: Sequence[str]) -> None:
    """Refuse a first line of names without IID: words above numbers."""
    words = [k for k, cell in enumerate(rows[0]) if _number(cell) is None and cell not in na]
    below = [row[k] for row in rows[1:] for k in words if k < len(row)]
    titled = any(len(row) != len(rows[0]) for row in rows[1:]) and len(words) == len(rows[0])
    later = [row for row in rows[1:] if any(cell.upper() in IIDS for cell in row)]
    if later or (len(words) == len(rows[0]) and any(_number(cell) is not None for cell in below)):
        raise DataError(
            f"the first line of {str(path)!r} is no row of data, and no column of it is called "
            f"IID: it has {list_text(list(rows[0]))}. Take titles away, and call the column with "
            "the names of the samples IID"
        )
    if titled:
        raise DataError(
            f"the first line of {str(path)!r} has {len(rows[0])} columns "
            f"({list_text(list(rows[0]))}) and others do not: take titles above the names of the "
            "columns away"
        )


def _unmarked(
    values: NDArray[np.float64], na: Sequence[str], marked: Counter[str]
) -> NDArray[np.float64]:
    values = values.copy()
    for mark in na:
        number = _number(mark)
        hit = values == number if number is not None else np.zeros(len(values), dtype=bool)
        if hit.any():
            marked[mark] += int(hit.sum())
            values[hit] = np.nan
    return values


def _ids(table: Table, column: str, name: str) -> tuple[str, ...]:
    codes, levels = table.codes(column)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise DataError(
            f"column {column!r} of the {name} is missing in {row_text(row)}: every sample has a "
            "name"
        )
    texts = [level_text(level).strip() for level in levels]
    return tuple(texts[code] for code in codes.tolist())


def _read_file(name: str, given: str | PathLike[str], na: Sequence[str]) -> Labelled:
    path = arguments.path(given)
    rows = split_rows(read_text_lines(path))
    if not rows:
        raise DataError(f"{str(path)!r} is empty")
    head = [cell.upper() for cell in rows[0]]
    start = next((k for k, cell in enumerate(head) if cell in IIDS), None)
    titles, noted = rows[0], tuple[str, ...]()
    if start is None and (other := _called_otherwise(titles)):
        start, noted = titles.index(other), (_taken(name, other),)
        titles = ["IID" if title == other else title for title in titles]
    if start is None:
        if len(rows[0]) < 2:
            raise DataError(f"{str(path)!r} has no column IID, nor FID and IID in front")
        _refuse_heading(rows, path, na)
        extra = [FAM_TRAIT] if len(rows[0]) == 3 else []
        extra = extra or [f"{FAM_TRAIT}{k + 1}" for k in range(len(rows[0]) - 2)]
        titles = ["FID", "IID", *extra]
    else:
        rows = rows[1:]
    if not rows:
        raise DataError(f"{str(path)!r} has a heading and no rows; was it written to its end?")
    for k, row in enumerate(rows):
        if len(row) != len(titles):
            line = line_of(path, k + (start is not None))
            named = all(len(each) == len(titles) + 1 for each in rows)
            advice = ": names of rows, as R writes them (row.names=FALSE leaves them out)"
            raise DataError(
                f"line {line} of {str(path)!r} has {len(row)} columns; the first line has "
                f"{len(titles)}{advice if named else ''}"
            )
    twice = [title for title, count in Counter(titles).items() if count > 1]
    if twice:
        raise DataError(f"{str(path)!r} has more than one column {list_text(twice)}")
    columns = dict(
        zip(titles, (np.array(c, dtype=object) for c in zip(*rows, strict=True)), strict=True)
    )
    iid = next(columns.pop(t) for t in titles if t.upper() in IIDS)
    fid = next((columns.pop(t) for t in titles if t.upper() in FIDS), None)
    typed, marked = {}, Counter[str]()
    for title, text in columns.items():
        typed[title], own = _typed(text, na)
        marked.update(own)
    families = None if fid is None else tuple(fid.tolist())
    return Labelled(name, families, tuple(iid.tolist()), typed, dict(marked), "pandas", True, noted)


def split_rows(lines: Iterable[str]) -> list[list[str]]:
    r"""Split lines at commas, semicolons, tabs, or stretches of spaces and tabs, as the first is.

    Cells may stand in double quotes, as R's write.table has them.

    Examples
    --------
    >>> split_rows(["#FID IID  y", "1\t01 2.5", ""])
    [['#FID', 'IID', 'y'], ['1', '01', '2.5']]
    >>> split_rows(['"FID" "IID"', '"1" "no 7"'])
    [['FID', 'IID'], ['1', 'no 7']]
    """
    lines = [line for line in lines if line.strip()]
    if not lines:
        return []
    mark = max(",;", key=lines[0].count)
    if mark in lines[0]:
        return _cells(lines, mark)
    quoted = '"' in lines[0]
    if "\t" in lines[0]:
        rows = _cells(lines, "\t") if quoted else [_stripped(row.split("\t")) for row in lines]
        words = [line.split() for line in lines]
        mixed = not quoted and any(" " in cell for row in rows for cell in row) and _even(words)
        if _even(rows) and not mixed:
            return rows
    if quoted:
        return [["".join(found) for found in WORD.findall(line)] for line in lines]
    return [line.split() for line in lines]


WORD = re.compile(r'"([^"]*)"|([^\s"]\S*)')
"""A cell between blanks, in quotes or without."""


def _cells(lines: Sequence[str], mark: str) -> list[list[str]]:
    return [_stripped(row) for row in csv.reader(lines, delimiter=mark)]


def _stripped(row: Iterable[str]) -> list[str]:
    return [cell.strip() for cell in row]


def _even(rows: list[list[str]]) -> bool:
    return all(len(row) == len(rows[0]) for row in rows)


def _typed(text: NDArray[Any], na: Sequence[str]) -> tuple[NDArray[Any], dict[str, int]]:
    """Numbers where all cells but the marks are numbers, else text; and the marks that stood."""
    marks = set(na)
    missing = np.array([cell in marks for cell in text], dtype=bool)
    marked = Counter(text[missing].tolist())
    numbers = np.full(len(text), np.nan)
    if _has_decimal_commas(text[~missing]):
        text = np.array([cell.replace(",", ".") for cell in text], dtype=object)
    for k in np.flatnonzero(~missing):
        number = _number(text[k])
        if number is None:
            out = text.copy()
            out[missing] = None
            return out, dict(marked)
        numbers[k] = number
    hit = np.isin(numbers, [n for n in map(_number, marks) if n is not None])
    marked.update(text[hit].tolist())  # -9.0 as -9
    numbers[hit] = np.nan
    return numbers, dict(marked)


COMMA = re.compile(r"[+-]?\d+(,\d+)?")
"""A number whose decimal mark is a comma, or that has none."""


def _has_decimal_commas(cells: NDArray[Any]) -> bool:
    """Tell numbers such as 174,9; where each comma has three digits behind it nothing is told."""
    parts = [cell.partition(",")[2] for cell in cells]
    return any(part and len(part) != 3 for part in parts) and all(map(COMMA.fullmatch, cells))


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


# --- lists of samples and variants


def names_in(what: str, given: Any) -> list[list[str]]:
    """Read a list of names, or a file with a line each; a line may have several words."""
    if given is None:
        return []
    if isinstance(given, (str, PathLike)):
        return split_rows(read_text_lines(arguments.path(given)))
    if not hasattr(given, "__iter__"):
        raise ModelError(f"{what} is a list of names or a file, not {type(given).__name__}")
    return [
        [level_text(part) for part in item] if isinstance(item, tuple) else [level_text(item)]
        for item in given
    ]


def sample_places(what: str, given: Any, samples: Samples) -> NDArray[np.bool_]:
    """Which samples a list names: by IID, or by FID and IID."""
    rows = names_in(what, given)
    if rows and rows[0][-1].upper() in IIDS:
        rows = rows[1:]
    if not rows:
        raise ModelError(f"{what} names no samples")
    pairs = {(row[0], row[1]) for row in rows if len(row) > 1}
    single = {row[0] for row in rows if len(row) == 1}
    found = np.array(
        [
            iid in single or (fid, iid) in pairs or (NO_FAMILY, iid) in pairs
            for fid, iid in zip(samples.fid, samples.iid, strict=True)
        ],
        dtype=bool,
    )
    if not found.any():
        raise DataError(f"{what} names no sample of the genotypes; it begins with {rows[0]}")
    return found
