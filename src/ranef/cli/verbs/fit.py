"""``ranef fit``: a model, its summary and its files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options
from ranef.cli.verb import Code, Verb, code_of
from ranef.cli.writing import TABLES, check_files, records, strict, write_fit, write_results

__all__ = ["VERB"]

EPILOG = """\
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
  CSV and other delimited text, Parquet, Feather or an Excel workbook (with the
  extra ranef[excel]), each also compressed (gzip, bzip2, xz, zip, zstd);
  - reads standard input; the name of a data set that comes with ranef
  (sleepstudy, Penicillin, Pastes ...) needs no file.
  In text, the separator is found from the first line; Excel's line sep=; and
  lines of comments (#) above the names are left out, others with --skip. The
  decimal mark is decided once for the whole file, and with it whether 1.059 is
  a thousand; what contradicts it stays text, with a note. A field is missing
  when it is empty or NA, N/A, n/a, #N/A, #NA, <NA>, NaN, nan or a single dot,
  or as --na says. Codes with leading zeros (007) stay text. Text columns are
  categories; --factor makes a column of numbers one. A grouping factor may hold
  numbers without --factor. Errors count rows as the lines of the file.

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

DF = (
    "satterthwaite",
    "kenward-roger",
    "kenward-roger-observed",
    "containment",
    "residual",
    "normal",
)

OPTIMUM = (
    "criterion", "decrement", "tolerance", "converged", "singular", "evaluations", "restarts",
    "path", "message", "reach",
)  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef fit``."""
    options.add_data(parser)
    options.add_model(parser)
    results = parser.add_argument_group("results")
    options.add_out(results, "write results to a .json or .csv file")
    options.add_fit_files(results)
    results.add_argument(
        "--check", action="store_true", help="print evidence against the model, and what to do"
    )
    results.add_argument(
        "--df",
        choices=DF,
        metavar="METHOD",
        help="degrees of freedom of a linear model's tests and intervals: satterthwaite (its "
        "own), kenward-roger, kenward-roger-observed, containment, residual or normal",
    )
    options.add_level(results)
    options.add_quiet(results, "print no summary and no progress, only problems")
    options.add_search(parser)


def run(arguments: Namespace) -> Code:
    """Fit the model, print its summary, write its files."""
    models.check_family(arguments)
    check_files(arguments, report=(), table=TABLES, save=())
    fit = models.fitted(arguments, models.read(arguments, arguments.formula), arguments.formula)
    level = {"conf_level": arguments.conf_level}
    inference = level if arguments.df is None else {**level, "df": arguments.df}
    _write(fit, arguments, inference)  # first, since a pipe may close
    if not arguments.quiet:
        print(fit.summary(**inference))
    if arguments.check:
        print(fit.check() if arguments.quiet else f"\n{fit.check()}")
    return code_of(fit)


def _write(fit: Any, arguments: Namespace, inference: dict[str, Any]) -> None:
    """Write every file that was asked for; `inference` is the level and the method of df."""
    write_results(
        arguments,
        lambda: fit.tidy("fixed", **inference),
        lambda: _results(fit, arguments, inference),
        empty=("term", "estimate"),
    )
    write_fit(fit, arguments, inference)


def _results(fit: Any, arguments: Namespace, inference: dict[str, Any]) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    estimate, rows = fit.estimate, fit.frame.accounting
    glance, level = records(fit.glance())[0], arguments.conf_level
    return {
        "model": {
            "formula": fit.formula,
            "response": estimate.specification.response,
            "reml": estimate.reml,
            "weights": arguments.weights,
            "offset": arguments.offset,
            "conf_level": level,
            **_family(fit, glance),
        },
        "accounting": {
            "n_rows": rows.n_rows,
            "n_used": rows.n_used,
            "n_dropped": rows.n_dropped,
            "n_zero_weight": rows.n_zero_weight,
            "missing": {name: int(count) for name, count in rows.missing.items()},
            "groups": {factor.name: len(factor.shown) for factor in fit.factors},
            "dropped_columns": list(estimate.specification.dropped_columns),
            "notes": list(fit.description.concerns()),
        },
        "glance": glance,
        "fixed": records(fit.tidy("fixed", **inference)),
        "variance": records(fit.tidy("variance", conf_level=level)),
        "random": records(fit.tidy("random", conf_level=level)) if fit.factors else [],
        **_residuals(fit, arguments),
        "optimum": _optimum(fit),
    }


def _residuals(fit: Any, arguments: Namespace) -> dict[str, Any]:
    """Return the structures of the residuals that were tried, where several were given."""
    if len(arguments.residual or ()) < 2:
        return {}
    return {"residual_structures": records(fit.residual_structures())}


def _family(fit: Any, glance: dict[str, Any]) -> dict[str, Any]:
    """Return the family and the formulas of all parts, of a fit whose glance names a family."""
    if "family" not in glance:
        return {}
    return {
        **{name: glance[name] for name in ("family", "link", "quadrature")},
        "formulas": {name: part.formula for name, part in fit.parts.items()},
    }


def _optimum(fit: Any) -> dict[str, Any]:
    optimum = fit.optimum
    return {
        **{name: strict(getattr(optimum, name)) for name in OPTIMUM},
        **{
            name: [strict(value) for value in getattr(optimum, name)]
            for name in ("theta", "gradient", "trace")
        },
        "undetermined": [direction.description for direction in optimum.flat],
        "faces": [
            {
                "term": fit.terms[face.term].label,
                "rank": int(face.rank),
                "size": int(face.size),
                "description": face.description,
                "curvature": strict(face.curvature),
            }
            for face in optimum.faces
        ],
    }


VERB = Verb(
    name="fit",
    help="fit a linear or generalised mixed model and print its summary",
    description="Fit a linear or, with --family, a generalised mixed model and print its summary.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        'ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy',
        'ranef fit "Reaction ~ Days + (Days | Subject)" sleepstudy --report sleep.html',
    ),
)
