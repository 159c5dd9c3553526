"""A question asked of a saved fit, or of the model of a formula and a table."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranef.cli import models, options, writing
from ranef.cli.verb import Code, code_of
from ranef.errors import FileError, FormulaError, ModelError, shortened

if TYPE_CHECKING:
    from ranef.display.answer import Answer

__all__ = [
    "FITTING",
    "add_answer_files",
    "add_fit",
    "add_means",
    "answered",
    "check_answer_files",
    "check_saved",
    "fit_of",
    "is_saved",
    "means_of",
    "named_values",
]

FITTING = """\
MODEL is a formula in quotes, and then the table: 'y ~ x + (1 | g)' data.csv; or a fit that
ranef fit --save wrote, and no table. The options of the model and of reading belong to a formula.
"""


def add_fit(parser: ArgumentParser) -> None:
    """Add the saved fit, or the formula and the table."""
    parser.add_argument(
        "formula", metavar="MODEL", help="a formula in quotes, or the file of a saved fit"
    )
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="with a formula the table: a file, - or bundled"
    )
    options.add_model(parser)
    options.add_search(parser)


def add_answer_files(parser: ArgumentParser, plot: bool = True, level: bool = True) -> None:
    """Add what an answer leaves behind."""
    results = parser.add_argument_group("results")
    options.add_out(results, "write the answer to a .csv or .json file")
    options.add_table(results)
    results.add_argument("--title", metavar="TEXT", help="the title of the table for a paper")
    if plot:
        results.add_argument("--plot", metavar="FILE", help="draw it: .png, .svg or .pdf")
    results.add_argument("--save", metavar="FILE", help="write the fit for ranef.load in Python")
    if level:
        options.add_level(results)
    options.add_quiet(results)


def add_means(question: _ArgumentGroup) -> None:
    """Add what a mean is of."""
    question.add_argument(
        "--of",
        required=True,
        metavar="FACTORS",
        help="the predictors whose levels have a mean each: 'treatment', 'treatment | visit' (by "
        "visit), 'a + b'",
    )
    question.add_argument(
        "--by", metavar="FACTORS", help="within each level of these: --of treatment --by visit"
    )
    question.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="values of a predictor: age=8,14; may be given several times",
    )
    question.add_argument(
        "--type",
        choices=("response", "link"),
        metavar="SCALE",
        help="on the scale of the response, or of the link (response)",
    )
    question.add_argument(
        "--kind",
        choices=("population", "typical"),
        metavar="WHICH",
        help="of the population, integrated over the random effects, or of a typical level, these "
        "at zero (population)",
    )
    question.add_argument(
        "--component",
        choices=("conditional", "response", "zero", "dispersion"),
        metavar="PART",
        help="of models with several parts: conditional (counts without their extra zeros), "
        "response (what is observed), zero or dispersion (conditional)",
    )
    question.add_argument(
        "--grid-weights",
        choices=("equal", "proportional"),
        default="equal",
        metavar="HOW",
        help="cells of the grid count alike (equal) or by their rows (proportional)",
    )
    question.add_argument(
        "--df", metavar="METHOD", help="degrees of freedom: satterthwaite, kenward-roger ..."
    )
    question.add_argument(
        "--adjust",
        metavar="METHOD",
        help="for several tests or intervals: tukey, holm, bonferroni, sidak, mvt, none ...",
    )


def means_of(arguments: Namespace) -> dict[str, Any]:
    """Return the arguments of `ranef.emmeans`."""
    names = ("by", "type", "df", "kind", "component")
    named = {name: getattr(arguments, name) for name in names}
    return {
        "at": named_values(arguments.at, "at"),
        "weights": arguments.grid_weights,
        **{name: value for name, value in named.items() if value is not None},
    }


def check_answer_files(arguments: Namespace) -> None:
    """Refuse, before any work, files that could not be written after it."""
    kinds: dict[str, Any] = {"table": writing.TABLES, "save": ()}
    if "plot" in arguments:
        kinds["plot"] = writing.PICTURES
    writing.check_files(arguments, **kinds)


def fit_of(arguments: Namespace) -> Any:
    """Load the saved fit, or fit the model of the formula."""
    if "~" in arguments.formula:
        return _fitted(arguments)
    path = Path(arguments.formula)
    if arguments.data is not None and not (path.suffix == ".ranef" and not path.exists()):
        if "~" in arguments.data:
            raise FormulaError(
                f"the formula comes first and the table last: ranef {arguments.command} "
                f"'{arguments.data}' '{arguments.formula}'"
            )
        raise FormulaError(
            f"{shortened(arguments.formula)} has no '~': write a formula such as 'y ~ x + (1 | g)' "
            "before the table, or give the file of a saved fit alone"
        )
    if not os.path.exists(path):
        raise FileError(
            f"no file {shortened(arguments.formula)}, and it is no formula, since it has no '~': "
            "give the file that ranef fit --save wrote, or a formula and a table"
        )
    import ranef

    return ranef.load(path)


def check_saved(arguments: Namespace, names: Sequence[str]) -> None:
    """Refuse what is no file of a saved fit, where several are given."""
    for name in names:
        if "~" in name:
            raise FormulaError(
                "several models are compared by the files that ranef fit --save wrote; with "
                f"formulas: ranef compare {shlex.join(n for n in names if '~' in n)} data.csv"
            )
        if not os.path.exists(name):
            raise FileError(
                f"no file {shortened(name)}: give the files that ranef fit --save wrote"
            )
        if not is_saved(name):
            raise FormulaError(
                f"{shortened(arguments.formula)} has no '~': write a formula such as "
                "'y ~ x + (1 | g)' before the table, or give the files of saved fits alone"
            )


def is_saved(name: str) -> bool:
    """Tell a saved fit by its first bytes, those of an archive that begins with fit.json."""
    if not os.path.isfile(name):
        raise FileError(f"cannot read {name!r}: it is no file, but a folder, device or pipe")
    with Path(name).open("rb") as stream:
        start = stream.read(64)
    return start.startswith(b"PK") and b"fit.json" in start


def _fitted(arguments: Namespace) -> Any:
    if arguments.data is None:
        raise FormulaError(
            f"a formula needs its table: ranef {arguments.command} '{arguments.formula}' data.csv"
        )
    models.check_family(arguments)
    data = models.read(arguments, arguments.formula)
    return models.fitted(arguments, data, arguments.formula)


def answered(answer: Answer, fit: Any, arguments: Namespace, about: dict[str, Any]) -> Code:
    """Print an answer, write its files, and return the code of its fit."""
    listings = [listing for listing in answer.tables() if listing.printed]
    writing.write_results(
        arguments,
        answer.tidy,
        lambda: {
            "formula": fit.formula,
            **about,
            **{one.name: writing.records(answer.tabled(one)) for one in listings},
            "notes": list(answer.sentences()),
        },
    )
    for name in arguments.table:
        answer.write(name, title=arguments.title)
    if getattr(arguments, "plot", None) is not None:
        drawn: Any = answer
        writing.write_picture(lambda canvas: drawn.plot(figure=canvas), arguments.plot, dpi=150)
    if arguments.save is not None:
        fit.save(arguments.save)
    if not arguments.quiet:  # last, since a pipe may close
        print(answer)
        if " more: tidy()" in str(answer) and not arguments.out:
            print("\n--out FILE.csv writes every row.")
    return code_of(fit)


def named_values(texts: list[str], option: str) -> dict[str, list[Any]] | None:
    """Read ``NAME=VALUE,VALUE``, numbers where they are numbers."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.strip() or not values.strip():
            raise ModelError(f"--{option} {text!r}: write NAME=VALUE,VALUE such as age=8,14")
        found[name.strip()] = [_value(value.strip()) for value in values.split(",")]
    return found or None


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
