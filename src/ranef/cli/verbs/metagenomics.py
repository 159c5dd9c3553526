"""``ranef metagenomics``: what is in the patients, what in the reagents: screen, train, drift."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ranef.cli import options, writing
from ranef.cli.tasks import add_tasks, run_task
from ranef.cli.values import number, page_file, positive
from ranef.cli.verb import Code, Verb
from ranef.errors import DataError, suggestion

__all__ = ["VERB"]

EPILOG = """\
ranef metagenomics screen --help, train --help and drift --help have the options.

COUNTS are reports of classifiers (Kraken 2, Bracken, KrakenUniq, MetaPhlAn, CZ ID, taxpasta), BIOM
files, or tables of counts; their format is recognised from their content. The sheet is text or an
Excel workbook with a heading: sample, is_control, and what is known of batch, run, input_mass,
spike_reads ... Reads of the host are a taxon as any other: --exclude 9606 leaves them out.

examples:
  ranef metagenomics screen run7/*.report --samples run7.csv --report run7.html --out run7.json
  ranef metagenomics train 2024/*.report --samples 2024.csv --save lab.background
  ranef metagenomics screen run8/*.report --samples run8.csv --background lab.background
  ranef metagenomics drift run8/*.report --samples run8.csv --background lab.background --plot d.png
"""

HOST, ZIP = "9606", b"PK\x03\x04"
FORMATS = (
    "kraken2", "bracken", "krakenuniq", "metaphlan", "czid", "taxpasta", "biom", "anndata", "table",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """Add the commands of ``ranef metagenomics``."""
    add_tasks(parser, TASKS)


def _add_counts(parser: ArgumentParser) -> None:
    parser.add_argument(
        "counts", metavar="COUNTS", nargs="+", help="reports or tables of counts, or a folder"
    )
    reading = parser.add_argument_group("reading")
    reading.add_argument("--samples", metavar="SHEET", required=True, help="the sheet of libraries")
    reading.add_argument(
        "--format", choices=FORMATS, metavar="F",
        help=f"one of {', '.join(FORMATS)} (recognised from the files)",
    )  # fmt: skip
    reading.add_argument(
        "--rank", default="S", metavar="R", help="of the taxa: S species, G genus ... (S)"
    )
    reading.add_argument(
        "--value", choices=("nt", "nr"), default="nt", metavar="WHICH",
        help="nt or nr, of CZ ID's reports (nt)",
    )  # fmt: skip
    names = {"controls": "is_control", "batch": "batch", "run": "run"}
    for name, usual in names.items():
        reading.add_argument(
            f"--{name}", dest=f"{name}_column", metavar="COL", default=usual,
            help=f"column of the sheet ({usual})",
        )  # fmt: skip
    reading.add_argument(
        "--exclude", action="append", default=[], metavar="TAXON",
        help="a taxon to leave out, by id or name, such as that of the host (9606); may be given "
        "several times",
    )  # fmt: skip
    model = parser.add_argument_group("model")
    model.add_argument(
        "--exposure", choices=("auto", "spike", "mass", "depth"), default="auto", metavar="WHICH",
        help="auto, spike, mass or depth (auto: the first that the sheet has)",
    )  # fmt: skip
    model.add_argument("--n-jobs", type=positive, metavar="N", help="threads (all allowed)")


def _add_screen(parser: ArgumentParser) -> None:
    _add_counts(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--fdr", type=number, default=0.05, metavar="Q", help="false discovery rate (0.05)"
    )
    results.add_argument(
        "--list-by", choices=("study", "patient", "sample"), default="study", metavar="WHICH",
        help="one list of the study, or one for each patient or sample (study)",
    )  # fmt: skip
    results.add_argument("--background", metavar="F", help="what train saved")
    results.add_argument(
        "--out", metavar="F", help="write all tables (.json) or the pairs (.csv, .tsv)"
    )
    results.add_argument(
        "--report", metavar="F.html", type=page_file, help="write the report, one HTML page"
    )
    options.add_table(results)
    results.add_argument(
        "--plot", metavar="F", help="draw the most probable pairs: .png, .svg or .pdf"
    )
    options.add_quiet(results)


def _counts(arguments: Namespace) -> Any:
    from ranef import metagenomics as mg

    counts = mg.read(
        arguments.counts, format=arguments.format, rank=arguments.rank, value=arguments.value
    )
    for taxon in arguments.exclude:
        left = counts[(counts["taxon"] != taxon) & (counts["name"] != taxon)]
        if len(left) == len(counts):
            known = [*dict.fromkeys(counts["taxon"]), *dict.fromkeys(counts["name"])]
            raise DataError(f"--exclude {taxon}: no such taxon{suggestion(taxon, known)}")
        if len(left) == 0:
            raise DataError(f"--exclude {taxon} leaves no reads")
        counts = left
    if HOST in set(counts["taxon"]):
        print(
            f"ranef: note: reads of the host (taxon {HOST}) are judged as a taxon; "
            f"--exclude {HOST} leaves them out",
            file=sys.stderr,
        )
    return counts


def _sheet(arguments: Namespace) -> Any:
    """Return the path of the sheet; of a workbook its table."""
    from ranef.cli.reading import Reading, read_table

    path = Path(arguments.samples)
    try:
        with path.open("rb") as stream:
            workbook = stream.read(len(ZIP)) == ZIP
    except OSError:
        return arguments.samples
    if not workbook:
        return arguments.samples
    table = read_table(arguments.samples, Reading())
    for note in table.notes:
        print(f"ranef: note: {note}", file=sys.stderr)
    return table.data


def _shared(arguments: Namespace) -> dict[str, Any]:
    columns = {n: getattr(arguments, f"{n}_column") for n in ("controls", "batch", "run")}
    return {**columns, "exposure": arguments.exposure, "n_jobs": arguments.n_jobs}


def _check_results(arguments: Namespace, **kinds: tuple[str, ...]) -> None:
    background = getattr(arguments, "background", None)
    read = [*arguments.counts, arguments.samples, *writing.files_of(background)]
    writing.check_results(arguments, read, **kinds)


def _screen(arguments: Namespace) -> Code:
    from ranef import metagenomics as mg

    _check_results(
        arguments, out=(".json", ".csv", ".tsv"), report=(), plot=writing.PICTURES,
        table=writing.TABLES,
    )  # fmt: skip
    background = None if arguments.background is None else mg.load(arguments.background)
    found = mg.screen(
        _counts(arguments), _sheet(arguments), fdr=arguments.fdr, list_by=arguments.list_by,
        background=background, **_shared(arguments),
    )  # fmt: skip
    if arguments.out is not None:
        found.save(arguments.out)
    if arguments.report is not None:
        found.report(arguments.report, call=arguments.call)
    for name in arguments.table:
        found.write(name)
    if arguments.plot is not None:
        writing.write_picture(
            lambda canvas: found.plot.candidates(figure=canvas), arguments.plot, dpi=150
        )
    if not arguments.quiet:
        print(found)
    return Code.OK


def _add_train(parser: ArgumentParser) -> None:
    _add_counts(parser)
    results = parser.add_argument_group("results")
    results.add_argument("--save", metavar="F", required=True, help="the file of the background")
    options.add_quiet(results)


def _add_drift(parser: ArgumentParser) -> None:
    _add_counts(parser)
    results = parser.add_argument_group("results")
    results.add_argument("--background", metavar="F", required=True, help="what train saved")
    results.add_argument("--out", metavar="F.csv", help="write the table")
    results.add_argument("--plot", metavar="F", help="draw the chart: .png, .svg or .pdf")
    options.add_quiet(results)


def _drift(arguments: Namespace) -> Code:
    from ranef import metagenomics as mg
    from ranef.display.files import write_atomically

    _check_results(arguments, out=(".csv",), plot=writing.PICTURES)
    background = mg.load(arguments.background)
    shared = _shared(arguments)
    del shared["exposure"]
    drift = background.drift(_counts(arguments), _sheet(arguments), **shared)
    if arguments.out is not None:
        text = drift.tidy().to_csv(index=False, lineterminator="\n")
        write_atomically(arguments.out, text)
    if arguments.plot is not None:
        writing.write_picture(lambda canvas: drift.plot(figure=canvas), arguments.plot, dpi=150)
    if not arguments.quiet:
        print(drift)
    return Code.OK


def _train(arguments: Namespace) -> Code:
    from ranef import metagenomics as mg

    _check_results(arguments, save=())
    background = mg.train(_counts(arguments), _sheet(arguments), **_shared(arguments))
    background.save(arguments.save)
    if not arguments.quiet:
        print(background)
    return Code.OK


TASKS: dict[str, tuple[str, Any, Any]] = {
    "screen": ("say what is in the patients beyond what is in the reagents", _add_screen, _screen),
    "train": ("learn contamination from finished runs, for later ones", _add_train, _train),
    "drift": ("tell how far contamination has moved from what was learned", _add_drift, _drift),
}

VERB = Verb(
    name="metagenomics",
    help="pathogens apart from contamination in low-biomass metagenomes: screen, train, drift",
    description="Metagenomic pathogen search with contamination learned from negative controls.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run_task,
    first_steps=("ranef metagenomics screen run7/*.report --samples run7.csv --report run7.html",),
)
