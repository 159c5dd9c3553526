"""The arguments of the command, and the help that teaches them."""

from __future__ import annotations

import argparse
import math
import os

from ranef._version import __version__

__all__ = [
    "BUG",
    "DF",
    "FILE_ERROR",
    "INTERRUPTED",
    "NOT_CONVERGED",
    "OK",
    "PIPE_CLOSED",
    "USAGE_ERROR",
    "make_parser",
]

OK = 0
NOT_CONVERGED = 1
USAGE_ERROR = 2
FILE_ERROR = 3
BUG = 70
INTERRUPTED = 130
PIPE_CLOSED = 141

DF = ("satterthwaite", "kenward-roger", "containment", "residual", "normal")

DESCRIPTION = "Mixed-effects models: from a formula and a table to a proved optimum."

EXAMPLES = """\
first steps (sleepstudy comes with ranef):
  ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy
  ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy --report sleep.html
  ranef rank "diameter ~ 1 + (1 | plate) + (1 | sample)" Penicillin --by sample
  ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" sleepstudy
  ranef plan "y ~ x + (1 | school/class)" scores.csv.gz

ranef fit --help explains the formula, the files and the options.
"""

FIT_HELP = """\
Without --family the model is linear; with it, generalised.

the formula, in quotes (a shell gives ( | ) a meaning of its own):
  y ~ x                    mean of y depends on x; y ~ x - 1 has no intercept
  a + b, a:b, a * b        two effects, their interaction, all of these
  log(y) ~ poly(x, 2)      functions: log exp sqrt I(x^2) poly ns bs scale factor ...
  (1 | g)                  each level of g has its own intercept
  (x | g)                  ... and its own slope of x, correlated with the intercept
  (x || g)                 ... not correlated; (0 + x | g) the slope alone
  (1 | school/class)       classes within schools
  (1 | rater) + (1 | item) crossed factors
  `blood pressure` ~ ...   backticks around a name with spaces

the table:
  CSV and other delimited text, Parquet or Feather, each also compressed (gzip,
  bzip2, xz, zip, zstd); - reads standard input; the name of a data set that
  comes with ranef (sleepstudy, Penicillin, Pastes ...) needs no file.
  In text, the separator is found from the first line. A field is missing when
  it is empty or NA, N/A, n/a, #N/A, #NA, <NA>, NaN, nan or a single dot. Codes
  with leading zeros (007) stay text. Text columns are categories; --factor makes a
  column of numbers one. A grouping factor may hold numbers without --factor.

results:
  --out fit.json           every table, the optimum and the rows used (strict
                           JSON: missing and infinite values are null)
  --out fit.csv            the fixed effects
  --report fit.html        one page with tables, pictures and the certificate
  --table fit.docx         the table for a paper (also .tex .html .md .txt)
  --save fit.ranef         the whole fit, for ranef.load in Python
  Files are written whole or not at all.

examples:
  ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy --report sleep.html
  ranef fit "diameter ~ 1 + (1 | plate) + (1 | sample)" Penicillin --out fit.json
  ranef fit "yield ~ nitro + Variety + (1 | Block/Variety)" Oats --df kenward-roger --check
  ranef fit "score ~ ses + (ses | school)" pupils.csv --ml --weights w --quiet --out fit.csv
  ranef fit "cbind(incidence, size - incidence) ~ period + (1 | herd)" cbpp --family binomial
  ranef fit "count ~ spp * mined + (1 | site)" Salamanders --family nbinom2 --zero "~ mined"
  zcat long.tsv.gz | ranef fit "y ~ time * arm + (time | id)" - --factor arm

exit codes:
  0  done
  1  fitted, but the search did not prove its optimum (the result is printed)
  2  something is wrong with the arguments, the formula or the data
  3  a file cannot be read or written
  70 a bug in ranef    130 interrupted    141 the reader of the output went away
"""

RANK_HELP = """\
Ranks come from the joint posterior of the levels, not from the order of the estimates:
a level with little data is ranked near the middle because little is known about it.
The result is neither a test of one level against another nor a causal claim; it says
what was adjusted for.

examples:
  ranef rank "Reaction ~ Days + (Days | Subject)" sleepstudy --statistic Days --top 3
  ranef rank "diameter ~ 1 + (1 | plate) + (1 | sample)" Penicillin --by sample --plot ranks.png
  ranef rank "cbind(incidence, size - incidence) ~ period + (1 | herd)" cbpp \\
      --family binomial --scale ratio --order descending --threshold 1.5 --out herds.csv
"""

COMPARE_HELP = """\
Give two or more formulas, then the table. The fits are sorted by their number of
parameters, and each is tested against the one before by a likelihood-ratio test. Fits
by REML are refitted by ML, since REML likelihoods with different fixed effects are not
comparable. Where the smaller model has a variance of zero, the distribution is a mixture
of chi-squared distributions; --bootstrap simulates it. Fits that are not nested have no
p-value. All formulas must use the same rows: complete the table first if they differ.

examples:
  ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" sleepstudy
  ranef compare "y ~ 1 + (1 | g)" "y ~ x + (1 | g)" "y ~ x + z + (1 | g)" data.csv --bootstrap 1000
  ranef compare "count ~ 1 + (1 | site)" "count ~ mined + (1 | site)" Salamanders \\
      --family nbinom2 --out models.json
"""

PLAN_HELP = """\
The model is set up but not fitted. The plan says which blocks there are, how much
memory and how many operations they need, and which path the solver would take.

examples:
  ranef plan "y ~ x + (x | g)" big.parquet
  ranef plan "y ~ x + (1 | a) + (1 | b)" big.parquet --path crossed
  ranef plan "cases ~ x + (1 | town)" big.parquet --family poisson --zero "~ 1"
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the layout of the examples; leave room for the options."""

    def __init__(self, prog: str) -> None:
        width = min(100, int(os.environ.get("COLUMNS", "0") or 0) or _terminal_width())
        super().__init__(prog, max_help_position=30, width=width)


def _terminal_width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((88, 24)).columns


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``ranef``."""
    parser = argparse.ArgumentParser(
        prog="ranef",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ranef {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_fit(commands)
    _add_rank(commands)
    _add_compare(commands)
    _add_plan(commands)
    return parser


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit",
        help="fit a linear or generalised mixed model and print its summary",
        description="Fit a linear or, with --family, a generalised mixed model and print its "
        "summary.",
        epilog=FIT_HELP,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_model(parser)
    results = parser.add_argument_group("results")
    _add_out(results, "write results to a .json or .csv file")
    results.add_argument("--report", metavar="FILE.html", help="write the report, one HTML page")
    results.add_argument(
        "--table",
        metavar="FILE",
        help="write the table for a paper: .docx, .tex, .html, .md or .txt",
    )
    results.add_argument("--save", metavar="FILE", help="write the fit for ranef.load in Python")
    results.add_argument(
        "--check", action="store_true", help="print what speaks against the model, and what to do"
    )
    results.add_argument(
        "--df",
        choices=DF,
        metavar="METHOD",
        help="degrees of freedom of a linear model's tests and intervals: satterthwaite (its "
        "own), kenward-roger, containment, residual or normal",
    )
    _add_level(results)
    results.add_argument(
        "--quiet", action="store_true", help="print no summary and no progress, only problems"
    )
    _add_search(parser)


def _add_rank(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "rank",
        help="fit a model and rank the levels of a grouping factor",
        description="Fit a model and rank the levels of a grouping factor, and show how "
        "certain the order is.",
        epilog=RANK_HELP,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_model(parser)
    ranks = parser.add_argument_group("ranking")
    ranks.add_argument(
        "--by", metavar="FACTOR", help="the grouping factor; not needed if there is only one"
    )
    ranks.add_argument(
        "--statistic",
        metavar="NAME",
        help="the coefficient to rank by (the intercept, or the only one that varies)",
    )
    ranks.add_argument(
        "--scale",
        choices=("effect", "coefficient", "ratio", "response"),
        metavar="SCALE",
        help="random effect (effect), with the fixed one (coefficient), its exponential (ratio), "
        "or the response at the average row (response)",
    )
    ranks.add_argument(
        "--order",
        choices=("ascending", "descending"),
        default="ascending",
        metavar="ORDER",
        help="rank 1 is the smallest value (ascending) or the largest (descending)",
    )
    ranks.add_argument(
        "--top",
        type=_positive,
        metavar="K",
        help="probability of being among the K largest and smallest (a tenth of the levels)",
    )
    ranks.add_argument(
        "--threshold",
        type=_number,
        metavar="X",
        help="also the probability of exceeding this value",
    )
    ranks.add_argument(
        "--draws", type=_positive, default=4000, metavar="N", help="joint draws (4000)"
    )
    _add_seed(ranks)
    results = parser.add_argument_group("results")
    _add_out(results, "write the ranks of all levels to a .csv or .json file")
    results.add_argument("--plot", metavar="FILE", help="draw the ranks: .png, .svg or .pdf")
    _add_level(results)
    results.add_argument("--quiet", action="store_true", help="print only problems")
    _add_search(parser)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="fit several models of the same rows and compare their likelihoods",
        description="Fit several models of the same rows and compare their likelihoods.",
        epilog=COMPARE_HELP,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("formulas", nargs="+", metavar="FORMULA", help="the models, each in quotes")
    _add_data(parser)
    tests = parser.add_argument_group("comparison")
    tests.add_argument(
        "--no-refit",
        action="store_true",
        help="compare REML fits without refitting; they need the same fixed effects",
    )
    tests.add_argument(
        "--bootstrap",
        type=_positive,
        metavar="N",
        help="p-value by a parametric bootstrap: N draws from the smaller model",
    )
    _add_seed(tests)
    results = parser.add_argument_group("results")
    _add_out(results, "write the comparison to a .csv or .json file")
    results.add_argument("--quiet", action="store_true", help="print only problems")
    _add_options(parser)
    _add_search(parser)


def _add_out(results: argparse._ArgumentGroup, words: str) -> None:
    results.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=f"{words}; may be given several times",
    )


def _add_level(results: argparse._ArgumentGroup) -> None:
    results.add_argument(
        "--conf-level",
        type=_conf_level,
        default=0.95,
        metavar="P",
        help="confidence level of intervals (0.95)",
    )


def _add_seed(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--seed",
        type=_whole,
        default=0,
        metavar="N",
        help="seed of the random numbers: the same seed gives the same answer (0)",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group("fitting")
    search.add_argument(
        "--ml",
        action="store_true",
        help="maximum likelihood instead of REML in a linear model",
    )
    search.add_argument(
        "--reml", action="store_true", help="restricted likelihood in a model with --family"
    )
    search.add_argument(
        "--n-jobs", type=_positive, metavar="N", help="threads (all that this process may use)"
    )


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "plan",
        help="predict what a fit would cost, before it runs",
        description="Say what a fit would cost before it runs.",
        epilog=PLAN_HELP,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "formula", metavar="FORMULA", help="the model, in quotes: 'y ~ x + (x | g)'"
    )
    _add_data(parser)
    _add_options(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="the table: a file, - or a bundled data set")


def _add_options(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--weights",
        metavar="COL",
        help="precision weights: Var(residual) = sigma^2 / weight; with --family weights of the "
        "log density, of proportions the trials",
    )
    model.add_argument("--offset", metavar="COL", help="added to the mean with coefficient 1")
    model.add_argument(
        "--missing",
        choices=("drop", "raise"),
        metavar="HOW",
        default="drop",
        help="rows with missing values: leave out and report (drop), or refuse (raise)",
    )
    model.add_argument(
        "--path",
        choices=("single", "nested", "crossed"),
        metavar="PATH",
        help="force the solver's path: single, nested or crossed",
    )
    model.add_argument(
        "--prior",
        type=_prior,
        action="append",
        default=[],
        metavar="NAME=PRIOR",
        help="maximise the likelihood times a prior: 'fixed=Normal(0, 2.5)', 'sd=Gamma(2, 0.1)', "
        "'sd: school=HalfT(3, 1)', 'corr=LKJ(2)'",
    )
    model.add_argument(
        "--fixed",
        type=_held,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="hold a parameter at a value: 'x=0.5', 'sd: school=1'",
    )
    model.add_argument(
        "--equal",
        type=_equals,
        action="append",
        default=[],
        metavar="'A = B'",
        help="coefficients with one common value, ' = ' between their names",
    )
    _add_family(parser)
    table = parser.add_argument_group("reading the table")
    table.add_argument(
        "--factor",
        action="append",
        default=[],
        metavar="COL",
        help="a column of numbers to treat as categories; may be given several times",
    )
    table.add_argument(
        "--number",
        action="append",
        default=[],
        metavar="COL",
        help="treat this column as numbers, whatever it looks like",
    )
    table.add_argument("--sep", type=_separator, help="field separator of text: ',' ';' '\\t' ...")
    table.add_argument("--decimal", choices=(".", ","), metavar="MARK", help="decimal mark of text")
    table.add_argument("--encoding", help="encoding of text (UTF-8, or UTF-16 by its mark)")
    table.add_argument(
        "--na",
        action="append",
        default=[],
        metavar="TEXT",
        help="a further mark of a missing value, such as --na=-999",
    )


def _add_family(parser: argparse.ArgumentParser) -> None:
    family = parser.add_argument_group("generalised models")
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
        "--dispersion", metavar="FORMULA", help="log of the dispersion, such as '~ x'"
    )
    family.add_argument(
        "--nominal",
        metavar="FORMULA",
        help="for ordered categories: effects that differ between the thresholds, such as '~ x'",
    )
    family.add_argument(
        "--shape",
        type=_named_formula,
        action="append",
        default=[],
        metavar="NAME=FORMULA",
        help="a further parameter of the family, such as 'df=~ x'",
    )
    family.add_argument(
        "--quadrature",
        type=_positive,
        metavar="N",
        help="nodes of adaptive quadrature over one grouping factor or nested ones (1: Laplace)",
    )


def _named_formula(written: str) -> tuple[str, str]:
    name, equals, formula = written.partition("=")
    if name.strip() and equals and formula.strip().startswith("~"):
        return name.strip(), formula.strip()
    raise argparse.ArgumentTypeError(f"{written!r} is not of the form 'df=~ x'")


def _prior(written: str) -> tuple[str, tuple[str, tuple[float, ...]]]:
    name, _, prior = written.rpartition("=")
    kind, bracket, rest = prior.strip().partition("(")
    try:
        numbers = tuple(_plain(x) for x in rest.removesuffix(")").split(",") if x.strip())
    except ValueError:
        numbers, bracket = (), ""
    if name.strip() and kind.isidentifier() and bracket and rest.endswith(")"):
        return name.strip(), (kind, numbers)
    raise argparse.ArgumentTypeError(f"{written!r} is not of the form 'sd=Gamma(2, 0.1)'")


def _plain(written: str) -> float:
    """Return a number as it is written in Python: 2 is whole."""
    value = float(written)
    return int(value) if written.strip().isdecimal() else value


def _held(written: str) -> tuple[str, float]:
    name, _, value = written.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        name, number = "", 0.0
    if name.strip():
        return name.strip(), number
    raise argparse.ArgumentTypeError(f"{written!r} is not of the form 'x=0.5'")


def _equals(written: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in written.split(" = "))
    if len(names) > 1 and all(names):
        return names
    raise argparse.ArgumentTypeError(
        f"{written!r} is not of the form 'x1 = x2', with spaces around the sign"
    )


def _conf_level(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is not a number between 0 and 1") from None
    if 0.0 < value < 1.0:
        return value
    hint = f"; did you mean {value / 100:g}?" if 1.0 < value < 100.0 else ""
    raise argparse.ArgumentTypeError(f"{written} is not between 0 and 1{hint}")


def _positive(written: str) -> int:
    if written.isdecimal() and int(written) > 0:
        return int(written)
    raise argparse.ArgumentTypeError(f"{written!r} is not a positive whole number")


def _whole(written: str) -> int:
    if written.isdecimal():
        return int(written)
    raise argparse.ArgumentTypeError(f"{written!r} is not a whole number from 0 on")


def _number(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{written!r} is not a number") from None
    if math.isfinite(value):
        return value
    raise argparse.ArgumentTypeError(f"{written} is not a finite number")


def _separator(written: str) -> str:
    value = {"\\t": "\t", "tab": "\t", "space": " "}.get(written, written)
    if len(value) == 1:
        return value
    raise argparse.ArgumentTypeError(f"{written!r} is not one character (for a tab write '\\t')")
