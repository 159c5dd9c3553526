"""Files of classifiers and tables of counts, one at a time; `reading` puts them together.

Each reader returns `Counted`: one row a taxon of a library, of one rank, so that no read counts
twice. Taxa are keyed by their taxonomy id where a file has one, since letters of ranks and names
change between databases.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ranef.errors import DataError, FileError, suggestion
from ranef.fields.metagenomics.counted import Counted, Line, lines_of, number
from ranef.fields.metagenomics.matrices import anndata, biom
from ranef.solve.room import check_regular

__all__ = ["FORMATS", "Counted", "Line", "format_of", "lines_of", "read_one"]

KINGDOMS = {"2": "bacteria", "2157": "archaea", "10239": "virus", "2759": "eukaryote"}
WORDS_OF_RANKS = {
    "superkingdom": "D", "domain": "D", "acellular root": "D", "kingdom": "K", "phylum": "P",
    "class": "C", "order": "O", "family": "F", "genus": "G", "species": "S", "strain": "S1",
    "subspecies": "S1", "root": "R",
}  # fmt: skip


def sample_of(path: Path) -> str:
    """The library of a file by its name, without endings that say what kind of file it is.

    Examples
    --------
    >>> sample_of(Path("run/P1.kraken2.report.txt")), sample_of(Path("P.2_bracken.tsv.gz"))
    ('P1', 'P.2')
    """
    name = path.name
    endings = (
        ".gz", ".txt", ".tsv", ".csv", "_taxon_report", ".report", ".kreport", ".kreport2",
        ".kraken", ".kraken2", ".bracken", ".krakenuniq", ".metaphlan", ".profile", ".out",
        "_bracken", "_report", "_kreport", "_kraken2", "_kraken", "_profile", "_metaphlan",
        "_krakenuniq",
    )  # fmt: skip
    low, cut = name.lower(), True
    while cut:
        cut = False
        for ending in endings:
            if low.endswith(ending) and len(low) > len(ending):
                low, cut = low[: -len(ending)], True
    return name[: len(low)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_of(path: Path) -> str:
    """Tell the format of a file from its first bytes and lines."""
    if path.suffix == ".h5ad":
        return "anndata"
    check_regular(path, str(path))
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "biom"
    lines = [line for line in lines_of(path) if line.strip()]
    if not lines:
        raise FileError(
            f"{path} is empty; of a library without reads leave the file out, and write "
            "total_reads 0 in its row of the sheet"
        )
    return format_of_lines(path, lines)


def format_of_lines(path: Path, lines: Sequence[str]) -> str:
    """Tell the format of a text file."""
    first = lines[0]
    if first.lstrip().startswith("{"):
        return "biom"
    fields = first.split("\t")
    if fields[0] in ("C", "U") and len(fields) == 5:
        return "kraken-reads"
    shown = [line for line in lines if not line.startswith("#")]
    low = shown[0].lower() if shown else ""
    if any(line.startswith(("#mpa_", "#clade_name", "#SampleID\tMetaphlan")) for line in lines[:9]):
        return "metaphlan"
    if low.startswith("%\treads\ttaxreads"):
        return "krakenuniq"
    names = [cell.strip().strip('"').lower() for cell in _split(low)]
    if {"taxonomy_id", "taxonomy_lvl"} <= set(names):
        return "bracken"
    if "tax_id" in names and {"nt_count", "nr_count"} & set(names):
        return "czid"
    if len(fields) in (6, 8) and _is_number(fields[0]) and _is_number(fields[1]):
        return "kraken2"
    if "clade_name" in names:
        return "metaphlan"
    if "taxonomy_id" in names:
        return "taxpasta"
    return "table"


def _split(line: str) -> list[str]:
    for mark in ("\t", ",", ";"):
        if mark in line:
            return next(csv.reader([line], delimiter=mark))
    return [line]


class Row(list[str]):
    """The cells of a row, which knows the line of the file that it ends in."""

    line: int


def placed(rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
    """Yield rows with their lines."""
    return ((row.line, row) for row in rows)


def _table(path: Path) -> tuple[list[str], list[Row]]:
    """The heading and the rows of a delimited file."""
    lines = [(k, line) for k, line in enumerate(lines_of(path), start=1) if line.strip()]
    while len(lines) > 1 and lines[0][1].startswith("#") and len(_split(lines[0][1])) < 2:
        lines = lines[1:]
    mark = max("\t,;", key=lines[0][1].count)
    reader = csv.reader([line for _, line in lines], delimiter=mark)
    rows = []
    for cells in reader:
        rows.append(Row(cells))
        rows[-1].line = lines[reader.line_num - 1][0]
    heading = [cell.strip().lstrip("\ufeff") for cell in rows[0]]
    for k, row in placed(rows[1:]):
        if len(row) != len(heading):
            raise FileError(
                f"{path.name}, line {k}: {len(row)} cells under a heading of {len(heading)}"
            )
    repeated = {name for name in heading if heading.count(name) > 1}
    if repeated:
        raise DataError(f"{path.name}: the column {sorted(repeated)[0]!r} occurs twice")
    return heading, rows[1:]


def _kraken(path: Path, rank: str, value: str) -> Counted:
    """Kraken 2's report, with or without minimizers."""
    sample = sample_of(path)
    rows = []
    for k, line in enumerate(lines_of(path), start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) not in (6, 8):
            raise FileError(f"{path.name}, line {k}: a report has 6 or 8 columns, not {len(cells)}")
        clade, direct = number(cells[1].strip(), path, k), number(cells[2].strip(), path, k)
        name = cells[-1]
        depth = (len(name) - len(name.lstrip(" "))) // 2
        rows.append((clade, direct, cells[-3].strip(), cells[-2].strip(), name.strip(), depth))
    return _tree(path, sample, rows, rank)


def _tree(
    path: Path, sample: str, rows: list[tuple[float, float, str, str, str, int]], rank: str
) -> Counted:
    """Lines of one rank from a tree: clade reads; direct reads where all ranks are empty."""
    total = sum(direct for _, direct, *_ in rows)
    letters = {r for _, _, r, *_ in rows}
    without = not (letters - {"", "-", "no rank", "U"})
    lines, kingdom, notes = [], {0: ""}, []
    for clade, direct, letter, taxid, name, depth in rows:
        above = max((d for d in kingdom if d < depth), default=0)
        for d in [d for d in kingdom if d >= depth and d > 0]:
            del kingdom[d]
        kingdom[depth] = KINGDOMS.get(taxid, kingdom.get(above, ""))
        if taxid == "0":
            continue
        reads = direct if without else clade
        if ((without and taxid != "1") or letter == rank) and reads > 0:
            lines.append(Line(sample, taxid, name, letter or "", reads, kingdom[depth]))
    if without:
        notes.append(
            f"{path.name} has no ranks; reads are counted where they were assigned, not by clade"
        )
    elif not lines and total and rank not in letters:
        known = ", ".join(sorted(letter for letter in letters if letter))
        raise DataError(f"{path.name} has no taxa of rank {rank!r}; its ranks are {known}")
    return Counted(lines, {sample: total}, tuple(notes))


def _krakenuniq(path: Path, rank: str, value: str) -> Counted:
    sample = sample_of(path)
    text = [
        (k, line) for k, line in enumerate(lines_of(path), start=1)
        if line.strip() and not line.startswith("#")
    ]  # fmt: skip
    heading = [cell.strip().lower() for cell in text[0][1].split("\t")]
    at = {name: heading.index(name) for name in ("reads", "taxreads", "taxid", "rank", "taxname")}
    rows = []
    for k, line in text[1:]:
        cells = line.split("\t")
        if len(cells) < len(heading):
            raise FileError(
                f"{path.name}, line {k}: {len(cells)} cells under a heading of {len(heading)}"
            )
        name = cells[at["taxname"]]
        letter = WORDS_OF_RANKS.get(cells[at["rank"]].strip(), cells[at["rank"]].strip())
        rows.append((
            number(cells[at["reads"]], path, k), number(cells[at["taxreads"]], path, k), letter,
            cells[at["taxid"]].strip(), name.strip(), (len(name) - len(name.lstrip(" "))) // 2,
        ))  # fmt: skip
    return _tree(path, sample, rows, rank)


def _bracken(path: Path, rank: str, value: str) -> Counted:
    heading, rows = _table(path)
    at = {name: k for k, name in enumerate(heading)}
    several = [name for name in heading if name.endswith("_num")]
    columns = {name.removesuffix("_num"): at[name] for name in several}
    if not several:
        if "new_est_reads" not in at:
            raise FileError(f"{path.name} has no column new_est_reads, which Bracken writes")
        columns = {sample_of(path): at["new_est_reads"]}
    lines = []
    for k, row in placed(rows):
        if row[at["taxonomy_lvl"]].strip() not in (rank, ""):
            continue
        for sample, column in columns.items():
            reads = number(row[column], path, k)
            if reads > 0:
                taxid = row[at["taxonomy_id"]].strip()
                lines.append(
                    Line(sample.removesuffix(".bracken"), taxid, row[at["name"]], rank, reads)
                )
    note = f"{path.name}: Bracken's files have no total; give total_reads in the sheet"
    return Counted(lines, {}, (note,))


def _metaphlan(path: Path, rank: str, value: str) -> Counted:
    sample, total, heading = sample_of(path), None, None
    lines = []
    letter = {"D": "k", "K": "k", "P": "p", "C": "c", "O": "o", "F": "f", "G": "g", "S": "s"}
    prefix = letter.get(rank, "t") + "__"
    for k, line in enumerate(lines_of(path), start=1):
        if line.startswith("#") and "reads processed" in line:
            total = number(line.lstrip("#").split()[0], path, k)
        if line.lstrip("#").startswith("clade_name"):
            heading = line.lstrip("#").strip().split("\t")
            continue
        if line.startswith("#") or not line.strip():
            continue
        if heading is None:
            raise FileError(f"{path.name} has no heading clade_name")
        column = "estimated_number_of_reads_from_the_clade"
        if column not in heading:
            raise DataError(
                f"{path.name} holds relative abundances alone, of which nothing can be said "
                "against reagents; run MetaPhlAn with -t rel_ab_w_read_stats"
            )
        cells = line.split("\t")
        clade = cells[0].split("|")[-1]
        if clade.startswith(prefix):
            ids = cells[heading.index("clade_taxid")] if "clade_taxid" in heading else ""
            taxid = ids.split("|")[-1] or clade
            kingdom = cells[0].split("|")[0].removeprefix("k__").lower()
            group = {"viruses": "virus", "eukaryota": "eukaryote"}.get(kingdom, kingdom)
            reads = number(cells[heading.index(column)], path, k)
            if reads > 0:
                lines.append(Line(sample, taxid, clade[3:].replace("_", " "), rank, reads, group))
    return Counted(lines, {} if total is None else {sample: total})


def _czid(path: Path, rank: str, value: str) -> Counted:
    heading, rows = _table(path)
    at = {name: k for k, name in enumerate(heading)}
    column = f"{value}_count"
    if column not in at:
        raise DataError(f"{path.name} has no column {column!r}; value= is 'nt' or 'nr'")
    level = {"S": "1", "G": "2"}.get(rank)
    if level is None:
        raise DataError(f"CZ ID's reports have species (S) and genera (G), not rank {rank!r}")
    lines = []
    for k, row in placed(rows):
        text = row[column_at] if (column_at := at[column]) < len(row) else ""
        if row[at["tax_level"]].strip() != level or not text.strip() or text.strip() == "-":
            continue
        reads = number(text, path, k)
        sample = row[at["sample_name"]] if "sample_name" in at else sample_of(path)
        group = row[at["category"]].strip() if "category" in at else ""
        if reads > 0:
            names = {"viruses": "virus", "eukaryota": "eukaryote"}
            lines.append(
                Line(sample, row[at["tax_id"]].strip(), row[at["name"]].strip(), rank, reads,
                     names.get(group, group))
            )  # fmt: skip
    return Counted(lines, {})


def _taxpasta(path: Path, rank: str, value: str) -> Counted:
    heading, rows = _table(path)
    at = {name: k for k, name in enumerate(heading)}
    described = {"taxonomy_id", "name", "rank", "lineage", "id_lineage", "rank_lineage", "count"}
    described |= {"sample"}
    columns = {name: k for name, k in at.items() if name not in described}
    lines, totals = [], dict[str, float]()
    words = {"S": "species", "G": "genus", "F": "family", "D": "superkingdom"}
    for k, row in placed(rows):
        taxid = row[at["taxonomy_id"]].strip()
        own = row[at["rank"]].strip() if "rank" in at else ""
        if "count" in at:
            sample = row[at["sample"]] if "sample" in at else sample_of(path)
            cells = {sample: row[at["count"]]}
        else:
            cells = {sample: row[column] for sample, column in columns.items()}
        for sample, text in cells.items():
            reads = number(text or "0", path, k)
            totals[sample] = totals.get(sample, 0.0) + reads
            wanted = own in ("", rank, words.get(rank, rank))
            if reads > 0 and taxid not in ("0", "") and wanted:
                name = row[at["name"]] if "name" in at else taxid
                lines.append(Line(sample, taxid, name, rank if own else "", reads))
    return Counted(lines, totals)


LONG = {
    "sample": ("sample", "sample_id", "sample_name", "library"),
    "taxon": ("taxon", "taxid", "tax_id", "taxonomy_id", "otu", "asv", "feature"),
    "reads": ("reads", "count", "counts", "n"),
}


def _plain(path: Path, rank: str, value: str) -> Counted:
    heading, rows = _table(path)
    low = [name.lower() for name in heading]
    found = {
        role: next((low.index(name) for name in names if name in low), None)
        for role, names in LONG.items()
    }
    if None not in found.values():
        return _long(path, low, rows, {k: v for k, v in found.items() if v is not None}, rank)
    worded = [c for c in range(1, len(heading)) if _in_words(rows, c)]
    called = worded[0] if worded else 0
    counted = [c for c in range(1, len(heading)) if c not in worded]
    lines = []
    for k, row in placed(rows):
        for c in counted:
            reads = number(row[c].strip() or "0", path, k)
            lines.append(Line(heading[c], row[0].strip(), row[called].strip(), "", reads))
    return Counted(lines, {}, ("wide",))


def _in_words(rows: Sequence[Row], column: int) -> bool:
    """Whether a column has words and no number, as lineages have beside the counts."""
    cells = [cell for row in rows if (cell := row[column].strip())]
    return bool(cells) and not any(cell[0].isdigit() or cell[0] in "+-." for cell in cells)


def _long(
    path: Path, low: list[str], rows: Sequence[Row], at: dict[str, int], rank: str
) -> Counted:
    name = low.index("name") if "name" in low else at["taxon"]
    own = low.index("rank") if "rank" in low else None
    whole = low.index("total_reads") if "total_reads" in low else None
    lines, totals = [], dict[str, float]()
    for k, row in placed(rows):
        if own is not None and row[own].strip() not in ("", rank):
            continue
        sample = row[at["sample"]].strip()
        letter = row[own].strip() if own is not None else ""
        reads = number(row[at["reads"]], path, k)
        lines.append(Line(sample, row[at["taxon"]].strip(), row[name].strip(), letter, reads))
        if whole is not None and row[whole].strip():
            totals[sample] = number(row[whole], path, k)
    return Counted(lines, totals)


def _reads_of_kraken(path: Path, rank: str, value: str) -> Counted:
    raise FileError(
        f"{path.name} is Kraken's output for each read (its lines begin with C or U); give its "
        "report, which kraken2 writes with --report FILE"
    )


Reader = Callable[[Path, str, str], Counted]
FORMATS: dict[str, Reader] = {
    "kraken2": _kraken,
    "bracken": _bracken,
    "krakenuniq": _krakenuniq,
    "metaphlan": _metaphlan,
    "czid": _czid,
    "taxpasta": _taxpasta,
    "biom": lambda path, rank, value: biom(path),
    "anndata": lambda path, rank, value: anndata(path),
    "table": _plain,
}


def read_one(path: Path, format: str | None, rank: str, value: str) -> Counted:
    """Read a file; its format is told from what stands in it, or given."""
    if format is not None and format not in FORMATS:
        known = ", ".join(repr(name) for name in FORMATS)
        raise FileError(f"format={format!r} is not known{suggestion(format, FORMATS)}; use {known}")
    own = format_of(path)
    if own == "kraken-reads":
        return _reads_of_kraken(path, rank, value)
    return FORMATS[format or own](path, rank, value)
