"""Counts from files and tables, put together: one table of libraries, taxa and reads."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.elsewhere import explained
from ranef.errors import DataError, FileError, UnknownColumnError, row_text
from ranef.fields.metagenomics.counted import Counted
from ranef.fields.metagenomics.formats import read_one
from ranef.tables import Table, make_table

__all__ = ["Counts", "counts_of", "read"]

Floats = NDArray[np.float64]

MOST_CELLS = 400_000_000


@dataclass(frozen=True, eq=False)
class Counts:
    """Reads of taxa in libraries.

    Attributes
    ----------
    samples, taxa, names, groups : tuple of str
        Taxa are keyed by their ids; groups are such as ``virus``, or nothing.
    reads : (S, T) array
    totals : (S,) array
        NaN where unknown.
    notes : tuple of str
    hashes : tuple of (str, str)
        Inputs and their SHA-256.
    library : str
    """

    samples: tuple[str, ...]
    taxa: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    reads: Floats
    totals: Floats
    notes: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...]
    library: str


@explained
def read(paths: Any, *, format: str | None = None, rank: str = "S", value: str = "nt") -> Any:
    r"""Read counts of classifiers.

    Parameters
    ----------
    paths : path, or list of paths
        Files, patterns such as ``"run/*.report"``, or folders.
    format : str, optional
        ``"kraken2"``, ``"bracken"``, ``"krakenuniq"``, ``"metaphlan"``, ``"czid"``,
        ``"taxpasta"``, ``"biom"``, ``"anndata"`` or ``"table"``; by default that of the file.
    rank : str
        Of the taxa: ``"S"`` species, ``"G"`` genus ... No read counts at two ranks.
    value : {"nt", "nr"}
        Of CZ ID's reports.

    Returns
    -------
    table
        ``sample, taxon, name, rank, reads, total_reads`` and ``group`` where files tell it; a row
        a taxon with reads, and one of no reads of a library that has none of any taxon. Taxa are
        keyed by taxonomy id; totals include the unclassified.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ranef import metagenomics as mg
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> report = "1.0\t2\t2\tU\t0\tunclassified\n99.0\t98\t98\tS\t562\tEscherichia coli\n"
    >>> _ = (folder / "P1.report").write_text(report)
    >>> mg.read(folder / "P1.report")[["sample", "taxon", "reads", "total_reads"]]
      sample taxon  reads  total_reads
    0     P1   562     98          100
    """
    every = _paths(paths)
    rank = _rank(rank)
    value = arguments.choice("value", value, ("nt", "nr"))
    found = [read_one(path, format, rank, value) for path in every]
    return make_table(_joined(every, found))


def _rank(rank: Any) -> str:
    if not isinstance(rank, str) or not rank.strip():
        raise DataError(f"rank must be a letter such as 'S' (species) or 'G', not {rank!r}")
    words = {"species": "S", "genus": "G", "family": "F", "order": "O", "class": "C",
             "phylum": "P", "strain": "S1"}  # fmt: skip
    return words.get(rank.strip().lower(), rank.strip().upper())


def _paths(given: Any) -> list[Path]:
    items = [given] if isinstance(given, str | PathLike) else list(given)
    if not items:
        raise FileError("no files are given; name at least one")
    out: list[Path] = []
    for item in items:
        path = arguments.path(item)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] != ".")
            if not inside:
                raise FileError(f"the folder {path} holds no files; name the one with the reports")
            out += inside
        elif path.exists():
            out.append(path)
        else:
            matched = sorted(Path(name) for name in glob(str(path)))
            if not matched:
                raise FileError(f"there is no file {str(path)!r}")
            out += matched
    return out


def _joined(paths: Sequence[Path], found: Sequence[Counted]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("sample", "taxon", "name", "rank", "reads", "total_reads", "group")
    }
    home: dict[str, Path] = {}
    totals: dict[str, float] = {}
    for path, counted in zip(paths, found, strict=True):
        own = {line.sample for line in counted.lines} | set(counted.totals)
        for sample in own:
            if sample in home:
                raise DataError(
                    f"the sample {sample!r} is in {home[sample].name} and in {path.name}; each "
                    "library needs one file, or names of its own"
                )
            home[sample] = path
        totals.update(counted.totals)
        for line in counted.lines:
            for name in ("sample", "taxon", "name", "rank", "reads", "group"):
                columns[name].append(getattr(line, name))
    if not columns["sample"]:
        raise DataError(f"there are no reads of any taxon in {paths[0].name}"
                        + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))  # fmt: skip
    for sample in sorted(totals.keys() - set(columns["sample"])):
        # a library whose reads are all of other ranks, or of nothing known
        for name in ("taxon", "name", "rank", "group"):
            columns[name].append(columns[name][0])
        columns["sample"].append(sample)
        columns["reads"].append(0.0)
    columns["total_reads"] = [totals.get(sample, float("nan")) for sample in columns["sample"]]
    if not any(columns["group"]):
        del columns["group"]
    out: dict[str, Any] = dict(columns)
    for name in ("reads", "total_reads"):
        values = np.array(columns[name], dtype=np.float64)
        whole = bool(np.isfinite(values).all() and (values == np.round(values)).all())
        out[name] = values.astype(np.int64) if whole else values
    return out


def counts_of(given: Any, sheet_samples: Sequence[str], format: str | None = None) -> Counts:
    """Return counts of a table (long or wide), of files, or of an AnnData object."""
    hashes: tuple[tuple[str, str], ...] = ()
    if isinstance(given, Counts):
        return given
    if isinstance(given, str | PathLike) or (
        isinstance(given, Iterable) and not isinstance(given, Mapping) and _are_paths(given)
    ):
        paths = _paths(given)
        hashes = tuple((p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in paths)
        given = read(given, format=format)
    if hasattr(given, "obs_names") and hasattr(given, "var_names"):
        return _of_anndata(given)
    table = given if isinstance(given, Table) else Table.of(given)
    if {"sample", "taxon", "reads"} <= set(table.columns):
        counts = _of_long(table, sheet_samples, hashes)
    else:
        counts = _of_wide(table, sheet_samples, hashes)
    if not counts.hashes:
        counts = _hashed(counts)
    return counts


def _are_paths(given: Any) -> bool:
    return (
        isinstance(given, list | tuple)
        and bool(given)
        and all(isinstance(item, str | PathLike) for item in given)
    )


def _hashed(counts: Counts) -> Counts:
    from dataclasses import replace

    digest = hashlib.sha256(np.ascontiguousarray(counts.reads).tobytes())
    digest.update(repr((counts.samples, counts.taxa)).encode())
    return replace(counts, hashes=(("counts", digest.hexdigest()),))


def _texts(table: Table, name: str) -> list[str]:
    out = []
    for k, value in enumerate(table.values(name).tolist()):
        if value is None or value != value:
            raise DataError(f"{name} is missing in {row_text(k)} of the counts; fill it in")
        whole = isinstance(value, float) and value.is_integer()
        out.append(str(int(value)) if whole else str(value).strip())
    return out


def _of_long(
    table: Table, sheet_samples: Sequence[str], hashes: tuple[tuple[str, str], ...]
) -> Counts:
    samples, taxa = _texts(table, "sample"), _texts(table, "taxon")
    reads = _reads(table, "reads")
    own_names = _texts(table, "name") if "name" in table else taxa
    known = set(sheet_samples)
    if not known & set(samples) and known & set(taxa):
        # of a wide file with a row a library
        samples, taxa, own_names = taxa, samples, samples
    groups = (
        ["" if v is None or v != v else str(v) for v in table.values("group").tolist()]
        if "group" in table else [""] * len(taxa)
    )  # fmt: skip
    of_sample = {name: k for k, name in enumerate(dict.fromkeys(samples))}
    of_taxon = {name: k for k, name in enumerate(dict.fromkeys(taxa))}
    s = np.array([of_sample[name] for name in samples], dtype=np.intp)
    t = np.array([of_taxon[name] for name in taxa], dtype=np.intp)
    _check_size(len(of_sample), len(of_taxon))
    matrix = np.zeros((len(of_sample), len(of_taxon)))
    places = s * len(of_taxon) + t
    if len(np.unique(places)) < len(places):
        order = np.argsort(places, kind="stable")
        twice = order[1:][np.diff(places[order]) == 0][0]
        raise DataError(
            f"the pair of sample {samples[twice]!r} and taxon {taxa[twice]!r} occurs twice in the "
            "counts; reads of two ranks, or of two files, must not be added"
        )
    matrix[s, t] = reads
    totals = np.full(len(of_sample), np.nan)
    if "total_reads" in table:
        given = table.numeric("total_reads")
        totals[s] = given
    names, group = [""] * len(of_taxon), [""] * len(of_taxon)
    for k, place in enumerate(t):
        names[place], group[place] = own_names[k], groups[k] or group[place]
    return Counts(
        tuple(of_sample), tuple(of_taxon), tuple(names), tuple(group), matrix, totals, (), hashes,
        table.library,
    )  # fmt: skip


def _reads(table: Table, name: str) -> Floats:
    if table.kind(name) not in ("numeric", "boolean"):
        raise DataError(f"{name!r} must be counts of reads; it holds {table.kind(name)}")
    values = table.numeric(name)
    for words, bad in (
        ("missing", np.isnan(values)), ("infinite", np.isinf(values)), ("negative", values < 0),
    ):  # fmt: skip
        if bad.any():
            raise DataError(
                f"{name!r} is {words} in {int(bad.sum()):,} rows of the counts, first in "
                f"{row_text(int(np.argmax(bad)))}; reads are whole numbers from 0 on"
            )
    return values


def _check_size(n_samples: int, n_taxa: int) -> None:
    if n_samples * n_taxa > MOST_CELLS:
        raise DataError(
            f"{n_samples:,} libraries of {n_taxa:,} taxa are more than fit in memory; leave out "
            "taxa that have next to no reads"
        )


def _of_wide(
    table: Table, sheet_samples: Sequence[str], hashes: tuple[tuple[str, str], ...]
) -> Counts:
    """A table with a column a library and a row a taxon, or the other way round."""
    known = set(sheet_samples)
    columns = [name for name in table.columns if name in known]
    labels = _row_labels(table)
    taxa: list[str] | None
    samples: list[str] | None
    if columns:
        rest = [name for name in table.columns if name not in known]
        key = next((n for n in rest if table.kind(n) == "text" or n in ("taxon", "taxid")), None)
        taxa = labels if key is None else _texts(table, key)
        unknown = [name for name in rest if name != key and table.kind(name) == "numeric"]
        columns += unknown
        matrix = np.stack([_reads(table, name) for name in columns])
        samples = columns
    else:
        key = next((name for name in table.columns if _share(table, name, known) > 0.5), None)
        samples = labels if key is None else _texts(table, key)
        if samples is None or not known & set(samples):
            raise UnknownColumnError(
                "the counts have neither the columns sample, taxon and reads, nor a row or column "
                f"for the samples of the sheet, such as {next(iter(sheet_samples))!r}"
            )
        taxa = [name for name in table.columns if name != key]
        _check_size(len(samples), len(taxa))
        matrix = np.stack([_reads(table, name) for name in taxa], axis=1)
    if taxa is None or samples is None:
        raise DataError("the rows of the counts have no names: give a column 'taxon'")
    _once(samples, taxa)
    return Counts(
        tuple(samples), tuple(taxa), tuple(taxa), ("",) * len(taxa), matrix,
        np.full(len(samples), np.nan), (), hashes, table.library,
    )  # fmt: skip


def _once(samples: Sequence[str], taxa: Sequence[str]) -> None:
    for what, names in (("taxon", taxa), ("sample", samples)):
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise DataError(f"the {what} {twice[0]!r} occurs twice in the counts")


def _row_labels(table: Table) -> list[str] | None:
    if table.index is None:
        return None
    return [str(label) for label in table.index]


def _share(table: Table, name: str, known: set[str]) -> float:
    values = [str(v) for v in table.values(name).tolist()]
    return sum(v in known for v in values) / max(len(values), 1)


def _of_anndata(data: Any) -> Counts:
    X = data.X
    matrix = np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise DataError(
            "X of the AnnData object holds values that are no counts of reads: missing, infinite "
            "or below zero; give the raw counts"
        )
    taxa = tuple(str(name) for name in data.var_names)
    samples = tuple(str(name) for name in data.obs_names)
    _once(samples, taxa)
    names = data.var["name"] if "name" in getattr(data, "var", {}) else taxa
    counts = Counts(
        samples, taxa, tuple(str(n) for n in names),
        ("",) * len(taxa), matrix, np.full(len(matrix), np.nan), (), (), "pandas",
    )  # fmt: skip
    return _hashed(counts)
