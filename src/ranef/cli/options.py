"""Arguments that several commands take, and the help that teaches them."""

from __future__ import annotations

from argparse import ArgumentParser, _ArgumentGroup
from typing import Any

from ranef.cli import values

__all__ = [
    "add_data",
    "add_level",
    "add_model",
    "add_out",
    "add_quiet",
    "add_reading",
    "add_search",
    "add_seed",
    "add_table",
]

SEVERAL: dict[str, Any] = {"action": "append", "default": []}


def add_data(parser: ArgumentParser, formula: bool = True) -> None:
    """Add the formula of the one model, and the table."""
    if formula:
        parser.add_argument(
            "formula", metavar="FORMULA", help="the model, in quotes: 'y ~ x + (x | g)'"
        )
    parser.add_argument("data", metavar="DATA", help="the table: a file, - or a bundled data set")


def add_model(parser: ArgumentParser) -> None:
    """Add what shapes a model, generalised ones too, and how its table is read."""
    _add_shared(parser.add_argument_group("model"))
    _add_family(parser.add_argument_group("generalised models"))
    _add_reading(parser.add_argument_group("reading the table"))


def add_reading(parser: ArgumentParser) -> None:
    """Add how the table is read."""
    _add_reading(parser.add_argument_group("reading the table"))


def _add_shared(model: _ArgumentGroup) -> None:
    model.add_argument(
        "--weights",
        metavar="COL",
        help="precision weights: Var(residual) = sigma^2 / weight; with --family weights of the "
        "log density, of proportions the trials",
    )
    model.add_argument(
        "--offset",
        metavar="COL",
        help="added to the mean with coefficient 1; the exposure of a rate stands in the formula: "
        "'y ~ x + offset(log(hours))'",
    )
    model.add_argument(
        "--residual",
        action="append",
        metavar="STRUCTURE",
        help="correlation of the residuals of a linear model: 'ar1(day | person)', "
        "'us(visit | id)', 'ou(hours | person)'; given again, what is fitted where the one "
        "before cannot be",
    )
    model.add_argument(
        "--dispersion",
        metavar="FORMULA",
        help="log of the residual standard deviation, with --family of the dispersion: '~ x'",
    )
    add_missing(model)
    model.add_argument(
        "--undetermined",
        choices=("raise", "keep"),
        metavar="HOW",
        default="raise",
        help="random terms whose variances the data cannot tell apart: refuse (raise), or fit and "
        "say what is not determined (keep)",
    )
    model.add_argument(
        "--random",
        choices=("formula", "none"),
        metavar="WHICH",
        default="formula",
        help="a formula without random terms is refused (formula) or fitted as it is (none)",
    )
    model.add_argument(
        "--path",
        choices=("single", "nested", "crossed", "sparse"),
        metavar="PATH",
        help="force the solver's path: single, nested, crossed or sparse",
    )
    model.add_argument(
        "--prior",
        type=values.named_prior,
        metavar="NAME=PRIOR",
        help="maximise the likelihood times a prior: 'fixed=Normal(0, 2.5)', 'sd=Gamma(2, 0.1)', "
        "'sd: school=HalfT(3, 1)', 'corr=LKJ(2)'",
        **SEVERAL,
    )
    model.add_argument(
        "--fixed",
        type=values.held_value,
        metavar="NAME=VALUE",
        help="hold a parameter at a value: 'x=0.5', 'sd: school=1'",
        **SEVERAL,
    )
    model.add_argument(
        "--equal",
        type=values.equal_names,
        metavar="'A = B'",
        help="coefficients with one common value, ' = ' between their names",
        **SEVERAL,
    )


def _add_family(family: _ArgumentGroup) -> None:
    family.add_argument(
        "--family",
        metavar="NAME",
        help="family of the response: binomial, poisson, nbinom2, Gamma, beta, cumulative ...",
    )
    family.add_argument("--link", metavar="NAME", help="link of the mean (the family's own)")
    family.add_argument(
        "--zero", metavar="FORMULA", help="log odds of an extra zero, such as '~ x + (1 | g)'"
    )
    family.add_argument(
        "--nominal",
        metavar="FORMULA",
        help="for ordered categories: effects that differ between the thresholds, such as '~ x'",
    )
    family.add_argument(
        "--shape",
        type=values.named_formula,
        action="append",
        metavar="NAME=FORMULA",
        help="a further parameter of the family, such as 'df=~ x'",
    )
    family.add_argument(
        "--quadrature",
        type=values.positive,
        metavar="N",
        help="nodes of adaptive quadrature over one grouping factor or nested ones (1: Laplace)",
    )


def _add_reading(table: _ArgumentGroup) -> None:
    table.add_argument(
        "--factor",
        metavar="COL",
        help="a column of numbers to treat as categories; may be given several times",
        **SEVERAL,
    )
    table.add_argument(
        "--number",
        metavar="COL",
        help="treat this column as numbers, whatever it looks like",
        **SEVERAL,
    )
    table.add_argument(
        "--levels",
        type=values.named_levels,
        metavar="COL=A,B,C",
        help="the order of a column's categories, the first the reference: 'visit=Week 4,Week 12'",
        **SEVERAL,
    )
    table.add_argument(
        "--unify",
        metavar="COL",
        help="make values of a column one category that differ only by blanks or case",
        **SEVERAL,
    )
    table.add_argument(
        "--distinct",
        action="store_true",
        help="leave out rows that repeat an earlier one in every column",
    )
    table.add_argument(
        "--sep", type=values.separator, help="field separator of text: ',' ';' '\\t' ..."
    )
    table.add_argument("--decimal", choices=(".", ","), metavar="MARK", help="decimal mark of text")
    table.add_argument(
        "--thousands",
        type=values.grouping,
        metavar="MARK",
        help="mark between groups of three digits: '.' ',' \"'\" or space; found out where the "
        "file says what its decimal mark is",
    )
    table.add_argument(
        "--skip",
        type=values.whole,
        default=0,
        metavar="N",
        help="lines above that of the names to leave out",
    )
    table.add_argument("--sheet", metavar="NAME", help="the sheet of an Excel workbook")
    table.add_argument(
        "--max-gb",
        type=values.positive_number,
        metavar="GB",
        help="the most memory that a table may take while it is read (half of what is free)",
    )
    table.add_argument("--encoding", help="encoding of text (UTF-8, or UTF-16 by its mark)")
    table.add_argument(
        "--na",
        metavar="TEXT",
        help="a further mark of a missing value, such as --na=-999",
        **SEVERAL,
    )


def add_search(parser: ArgumentParser) -> None:
    """Add how a model is fitted."""
    search = parser.add_argument_group("fitting")
    search.add_argument(
        "--ml", action="store_true", help="maximum likelihood instead of REML in a linear model"
    )
    search.add_argument(
        "--reml", action="store_true", help="restricted likelihood in a model with --family"
    )
    search.add_argument(
        "--n-jobs",
        type=values.positive,
        metavar="N",
        help="threads (all that this process may use)",
    )


def add_out(results: _ArgumentGroup, words: str) -> None:
    """Add the files of results."""
    words = f"{words}; may be given several times"
    results.add_argument("--out", metavar="FILE", help=words, **SEVERAL)


def add_missing(model: _ArgumentGroup) -> None:
    """Add what is done with rows that have missing values."""
    model.add_argument(
        "--missing",
        choices=("drop", "raise"),
        metavar="HOW",
        default="drop",
        help="rows with missing values: leave out and report (drop), or refuse (raise)",
    )


def add_fit_files(results: _ArgumentGroup) -> None:
    """Add the report, the table and the saved fit."""
    results.add_argument(
        "--report", metavar="FILE.html", type=values.page_file,
        help="write the report, one HTML page", **SEVERAL,
    )  # fmt: skip
    add_table(results)
    results.add_argument("--title", metavar="TEXT", help="the title of the report and the table")
    results.add_argument("--save", metavar="FILE", help="write the fit for ranef.load in Python")


def add_table(results: _ArgumentGroup) -> None:
    """Add the tables for papers."""
    results.add_argument(
        "--table",
        metavar="FILE",
        help="write the table for a paper: .docx, .tex, .html, .md or .txt; may be given several "
        "times",
        **SEVERAL,
    )


def add_level(results: _ArgumentGroup) -> None:
    """Add the confidence level."""
    results.add_argument(
        "--conf-level",
        type=values.conf_level,
        default=0.95,
        metavar="P",
        help="confidence level of intervals (0.95)",
    )


def add_quiet(results: _ArgumentGroup, words: str = "print only problems") -> None:
    """Add silence."""
    results.add_argument("--quiet", action="store_true", help=words)


def add_seed(group: _ArgumentGroup) -> None:
    """Add the seed of random numbers."""
    group.add_argument(
        "--seed",
        type=values.whole,
        default=0,
        metavar="N",
        help="seed of the random numbers: the same seed gives the same answer (0)",
    )
