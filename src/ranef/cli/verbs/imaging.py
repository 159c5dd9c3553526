"""``ranef imaging``: a group of brain images, each subject weighted by its own precision."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from string import Formatter
from typing import Any

from ranef.cli import options, writing
from ranef.cli.values import page_file, positive
from ranef.cli.verb import Code, Verb
from ranef.errors import DataError, ModelError, name_rows

__all__ = ["VERB"]

EPILOG = """\
ranef imaging group --help has the options.

example:
  ranef imaging group "~ age" --table participants.tsv --effects "maps/{subject}_effect.nii.gz" \\
      --variances "maps/{subject}_variance.nii.gz" --contrast age --table age.docx \\
      --report age.html --out results
"""

GROUP_EPILOG = """\
Each row of the table is a subject with two images: its effect and the effect's variance. In
templates {subject} is the subject's label, and any other {name} a column of the table.

The subjects of a study that lack an image or a value of the formula are named; --missing drop
leaves them out.

results:
  --table FILE.docx        a table of the clusters of every contrast (also .tex .html .md)
  --out FOLDER             a map for each contrast and output (z_score, stat, p_value, effect_size,
                           effect_variance, ...), the model's maps (tau2, i2, n, df ...), tables of
                           clusters and subjects, and fixed effects and least squares beside it
  --report FILE.html       one page with brains, clusters and subjects

examples:
  ranef imaging group "~ 1" --table participants.tsv --effects "{subject}/cope1.nii.gz" \\
      --variances "{subject}/varcope1.nii.gz" --out results
  ranef imaging group "~ age + group" --table people.csv --subject id --mask mask.nii.gz \\
      --effects "{id}/effect.nii" --variances "{id}/variance.nii" \\
      --contrast "groupb" --contrast "intercept + 40*age" --permutations 5000 --tfce --out results
"""

METHODS = ("reml", "ml", "dl", "he", "hs", "sj", "pm", "eb", "fe")
KINDS = {"effect": "effects", "variance": "variances"}
WRITTEN = (".docx", ".tex", ".html", ".htm", ".md")
DF = ("knapp-hartung-conservative", "knapp-hartung", "t", "normal")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the commands of ``ranef imaging``."""
    commands = parser.add_subparsers(dest="task", metavar="TASK", title="tasks", required=True)
    words = "fit and test a group of images at every voxel"
    group = commands.add_parser(
        "group", help=words, description=f"{words[0].upper()}{words[1:]}.", epilog=GROUP_EPILOG,
        formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    _add_group(group)


def _add_group(parser: ArgumentParser) -> None:
    parser.add_argument("formula", metavar="FORMULA", help="'~ 1', '~ age + group'")
    data = parser.add_argument_group("images and subjects")
    data.add_argument(
        "--table", metavar="FILE", required=True,
        help="participants: .tsv or .csv; given again with .docx, .tex, .html or .md it names the "
        "table of clusters for a paper",
        **options.SEVERAL,
    )  # fmt: skip
    data.add_argument("--subject", metavar="COL", help="column of labels (participant_id ...)")
    data.add_argument(
        "--effects", metavar="TEMPLATE", required=True, help="images of effects, with {subject}"
    )
    data.add_argument(
        "--variances", metavar="TEMPLATE", required=True, help="images of their variances"
    )
    data.add_argument("--mask", metavar="FILE", help="image of the voxels to analyse")
    data.add_argument("--smoothing", type=float, metavar="MM", help="smooth by a Gaussian (FWHM)")
    data.add_argument(
        "--min-subjects", type=float, metavar="N",
        help="subjects with data that a voxel needs (below 1: their share)",
    )  # fmt: skip
    data.add_argument(
        "--missing", choices=("raise", "drop"), default="raise", metavar="HOW",
        help="subjects without an image or a value: refuse (raise), or leave out and say (drop)",
    )  # fmt: skip
    model = parser.add_argument_group("model")
    model.add_argument(
        "--method", choices=METHODS, default="reml", metavar="NAME",
        help="estimator of the variance between subjects (reml)",
    )  # fmt: skip
    model.add_argument(
        "--df", choices=DF, default=DF[0], metavar="METHOD", help=f"tests: {', '.join(DF)}"
    )
    model.add_argument(
        "--outliers", action="store_true", help="look for subjects far from the group, voxelwise"
    )
    model.add_argument(
        "--contrast", metavar="EXPRESSION",
        help="of columns of the design; may be given several times (all columns)",
        **options.SEVERAL,
    )  # fmt: skip
    tests = parser.add_argument_group("permutations")
    tests.add_argument("--permutations", metavar="N", help="flips of signs: a number, or exact")
    tests.add_argument("--tfce", action="store_true", help="test the enhanced map too")
    tests.add_argument(
        "--cluster-p", type=float, metavar="P", help="test clusters formed at this p-value too"
    )
    tests.add_argument("--two-sided", action="store_true", help="two-sided permutation tests")
    tests.add_argument("--blocks", metavar="COL", help="column of subjects that flip together")
    options.add_seed(tests)
    parser.add_argument(
        "--n-jobs", type=positive, metavar="N", help="threads (all that this process may use)"
    )
    results = parser.add_argument_group("results")
    results.add_argument("--out", metavar="FOLDER", help="write maps and tables")
    results.add_argument(
        "--report", metavar="FILE.html", type=page_file, help="write the report, one HTML page"
    )
    options.add_quiet(results)


def run(arguments: Namespace) -> Code:
    """Fit the group, print what it found, write its files."""
    from ranef import imaging
    from ranef.fields.imaging.group_design import weights_of

    participants, tables = _tables(arguments.table)
    results = Namespace(table=tables, report=arguments.report)
    writing.check_results(results, [participants], table=WRITTEN, report=())
    if (arguments.tfce or arguments.cluster_p is not None) and arguments.permutations is None:
        raise ModelError("--tfce and --cluster-p are of permutations; give --permutations N")
    n_perm = _count(arguments.permutations)
    rows, labels, effects, variances = _subjects(arguments, participants)
    blocks = None if arguments.blocks is None else list(_column(rows, arguments.blocks))
    model = imaging.MixedEffectsSecondLevel(
        arguments.mask, smoothing_fwhm=arguments.smoothing, formula=arguments.formula,
        method=arguments.method, df=arguments.df, min_subjects=arguments.min_subjects,
        outliers=arguments.outliers, n_jobs=arguments.n_jobs, minimize_memory=False,
        verbose=0 if arguments.quiet else 1,
    )  # fmt: skip
    model.fit(
        {"subject_label": labels, "effects_map_path": effects, "variance_map_path": variances},
        table=rows, subject=arguments.subject,
    )  # fmt: skip
    contrasts = list(arguments.contrast or model.design_matrix_.columns)
    for name in contrasts:
        weights_of(name, list(model.design_matrix_.columns))
    tested = {
        name: {} if n_perm is None else _tests(model, name, n_perm, arguments, blocks)
        for name in contrasts
    }
    if arguments.out is not None:
        _write(model, tested, Path(arguments.out))
    for place in tables:
        _sheet(model, contrasts).write(place)
    if arguments.report is not None:
        report = model.generate_report(contrasts, call=arguments.call)
        report.save_as_html(arguments.report)
    if not arguments.quiet:
        _print(model, contrasts)
    return Code.OK


def _column(rows: Any, name: str) -> Any:
    if name not in rows.columns:
        raise DataError(f"the table has no column {name!r}")
    return rows[name]


def _tables(given: list[str]) -> tuple[str, list[str]]:
    """Tell the participants from the tables that are written."""
    written = [name for name in given if Path(name).suffix.lower() in WRITTEN]
    read = [name for name in given if name not in written]
    if len(read) != 1:
        what = f"{len(read)} were given ({', '.join(read)})" if read else "none was given"
        raise ModelError(
            f"--table names one file of participants, .tsv or .csv, and {what}; those that end in "
            f"{', '.join(WRITTEN)} are written"
        )
    return read[0], written


def _sheet(model: Any, contrasts: list[str]) -> Any:
    """The clusters of every contrast, a block each."""
    from dataclasses import replace

    from ranef.display.sheet import Block, Row

    sheets = [model.clusters(name).sheet() for name in contrasts]
    none = Row("no cluster", (("",) * sheets[0].width,))
    widest = max(sheets, key=lambda one: one.width)
    blocks = tuple(
        Block(f"Contrast {name}", sheet.blocks[0].rows or (none,))
        for name, sheet in zip(contrasts, sheets, strict=True)
    )
    notes = [f"{len(model.subject_labels_)} subjects, {model.n_elements_:,} voxels."]
    notes += [f"{name}: {line}" for name, one in zip(contrasts, sheets, strict=True)
              for line in one.notes]  # fmt: skip
    return replace(widest, blocks=blocks, notes=(*notes, *model.notes_))


def _subjects(
    arguments: Namespace, participants: str
) -> tuple[Any, list[str], list[str], list[str]]:
    """The table, the labels, and the paths that the templates make."""
    import pandas as pd

    from ranef.fields.imaging.gathering import refuse_absent
    from ranef.fields.imaging.group_design import complete, label_column
    from ranef.fields.imaging.subjects import text_label
    from ranef.fields.imaging.table_files import lines_of_rows, read_table
    from ranef.tables import Table

    table = read_table(participants)
    name_rows(lines_of_rows(participants))
    column = label_column(table, arguments.subject)
    rows = pd.DataFrame({name: table.values(name) for name in table.columns})
    labels = [text_label(one, k) for k, one in enumerate(rows[column])]
    paths: dict[str, list[str]] = {}
    for option in ("effects", "variances"):
        template = getattr(arguments, option)
        fields = {name for _, name, _, _ in Formatter().parse(template) if name}
        unknown = fields - {"subject"} - set(map(str, rows.columns))
        if unknown:
            raise ModelError(
                f"--{option} has {{{sorted(unknown)[0]}}}, and the table no such column"
            )
        if not fields:
            raise ModelError(f"--{option} names one file for all; put {{subject}} into it")
        paths[option] = [
            template.format(**{**{str(k): v for k, v in row.items()}, "subject": label})
            for label, row in zip(labels, rows.to_dict("records"), strict=True)
        ]
    if arguments.missing == "drop":
        kept = _kept(arguments, table, labels, paths)
        if not kept.any():
            raise DataError(
                f"no subject of {participants!r} has both images and every value; the first image "
                f"is looked for as {paths['effects'][0]!r}"
            )
        rows, labels = rows[kept].reset_index(drop=True), [labels[k] for k in kept.nonzero()[0]]
        paths = {option: [own[k] for k in kept.nonzero()[0]] for option, own in paths.items()}
    refuse_absent(
        ((f"the {kind} of subject {label!r}", own) for kind, name in KINDS.items()
         for label, own in zip(labels, paths[name], strict=True)),
        hint="; --missing drop leaves out the subjects without images",
    )  # fmt: skip
    whole = complete(arguments.formula, Table.of(rows))
    lost = [label for label, k in zip(labels, whole, strict=True) if not k]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(labels)} subjects lack a value that {arguments.formula!r} takes: "
            f"{', '.join(lost[:20])}{' ...' if len(lost) > 20 else ''}; --missing drop leaves them "
            "out"
        )
    return rows, labels, paths["effects"], paths["variances"]


def _kept(arguments: Namespace, table: Any, labels: list[str], paths: dict[str, list[str]]) -> Any:
    """Which subjects have both images and all values; say which have not."""
    import numpy as np

    from ranef.fields.imaging.group_design import complete

    there = np.array([
        all(Path(own[k]).expanduser().exists() for own in paths.values())
        for k in range(len(labels))
    ], dtype=bool)  # fmt: skip
    whole = complete(arguments.formula, table)
    for what, has in (("an image", there), ("a value of the formula", whole)):
        lost = [label for label, k in zip(labels, has, strict=True) if not k]
        if lost:
            print(f"ranef: note: left out without {what}: {', '.join(lost)}", file=sys.stderr)
    return there & whole


def _count(permutations: str | None) -> int | str | None:
    if permutations is None or permutations == "exact":
        return permutations
    if not permutations.isdigit():
        raise ModelError(f"--permutations is a number or exact, not {permutations!r}")
    return int(permutations)


def _tests(
    model: Any, contrast: str, n_perm: int | str, arguments: Namespace, blocks: Any
) -> dict[str, Any]:
    maps: dict[str, Any] = model.permutation_test(
        contrast, n_perm=n_perm, tfce=arguments.tfce, threshold=arguments.cluster_p,
        blocks=blocks, two_sided_test=arguments.two_sided, rng=arguments.seed,
    )  # fmt: skip
    return maps


def _write(model: Any, tested: dict[str, dict[str, Any]], folder: Path) -> None:
    from ranef.fields.imaging.writing import write_maps

    write_maps(model, tested, folder)


def _print(model: Any, contrasts: list[str]) -> None:
    print(
        f"{len(model.subject_labels_)} subjects, {model.n_elements_:,} voxels; design: "
        f"{', '.join(model.design_matrix_.columns)}"
    )
    for note in model.notes_:
        print(f"note: {note}")
    for name in contrasts:
        print(f"\nContrast {name}\n")
        print(model.compare(name))
        print()
        print(model.clusters(name))


VERB = Verb(
    name="imaging",
    help="groups of brain images, each subject weighted by its own precision",
    description="Mixed-effects models of groups of brain images.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        'ranef imaging group "~ age" --table participants.tsv --effects "{subject}_effect.nii.gz" '
        '--variances "{subject}_variance.nii.gz" --out results',
    ),
)
