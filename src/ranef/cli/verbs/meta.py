"""``ranef meta``: a meta-analysis, its summary and its files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options
from ranef.cli.values import number_columns
from ranef.cli.verb import Code, Verb
from ranef.cli.writing import (
    TABLES,
    check_files,
    records,
    write_fit,
    write_picture,
    write_results,
)
from ranef.errors import ModelError

__all__ = ["VERB"]

EPILOG = """\
Each row is an effect with a known sampling variance (--variance) or standard error
(--std-error). With --measure effects and variances are computed from the numbers of each study,
named as in ranef.effect_sizes (--columns): counts ai, bi (events and others of the first group) and
ci, di, or ai, n1i and ci, n2i with the sizes; means m1i, sd1i, n1i and m2i, sd2i, n2i. Random
terms name further levels: 'yi ~ 1 + (1 | study/effect)'.

estimators of the variance between studies (--method):
  reml, ml, dl, he, hs, sj, eb, pm, fe

results:
  --out fit.json           every table and the heterogeneity
  --out fit.csv            the mean effects
  --forest forest.svg      the forest plot (also .png .pdf)
  --report fit.html        one page with tables and pictures
  --table fit.docx         the table for a paper (also .tex .html .md .txt)
  --save fit.ranef         the whole fit, for ranef.load in Python

examples:
  ranef meta "yi ~ 1" trials.csv --variance vi --study author --forest forest.svg
  ranef meta "yi ~ 1" bcg --measure RR --columns ai=tpos,bi=tneg,ci=cpos,di=cneg
  ranef meta "yi ~ dose" trials.csv --std-error se --method dl --df normal
  ranef meta "yi ~ 1 + (1 | district/school)" schools.csv --variance vi --report fit.html
"""

PICTURES = (".svg", ".png", ".pdf")
METHODS = ("reml", "ml", "dl", "he", "hs", "sj", "eb", "pm", "fe")
DF = ("default", "knapp-hartung", "knapp-hartung-conservative", "t", "normal", "satterthwaite")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef meta``."""
    options.add_data(parser)
    model = parser.add_argument_group("model")
    known = model.add_mutually_exclusive_group()
    known.add_argument("--variance", metavar="COL", help="sampling variances of the effects")
    known.add_argument("--std-error", metavar="COL", help="standard errors of the effects")
    known.add_argument(
        "--measure", metavar="NAME",
        help="compute effects and variances from counts, means or correlations: RR, OR, RD, SMD, "
        "MD, ROM, ZCOR, PLO, IRR ...",
    )  # fmt: skip
    model.add_argument(
        "--columns", dest="columns", type=number_columns, action="extend", default=[],
        metavar="NAME=COL,...",
        help="with --measure: the columns of its numbers, as in 'ai=events,n1i=persons'; a column "
        "of that very name need not be given",
    )  # fmt: skip
    model.add_argument(
        "--method", choices=METHODS, default="reml", metavar="NAME",
        help="estimator of the variance between studies (reml)",
    )  # fmt: skip
    model.add_argument("--study", metavar="COL", help="names of the studies")
    model.add_argument("--offset", metavar="COL", help="added to the mean with coefficient 1")
    options.add_missing(model)
    options.add_reading(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--df", choices=DF, default="default", metavar="METHOD",
        help=f"tests and intervals: {', '.join(DF)}",
    )  # fmt: skip
    options.add_out(results, "write results to a .json or .csv file")
    results.add_argument("--forest", metavar="FILE", help="draw the forest plot: .svg, .png, .pdf")
    results.add_argument(
        "--exponentiate", action="store_true", help="show ratios in the forest plot"
    )
    options.add_fit_files(results)
    options.add_level(results)
    options.add_quiet(results, "print no summary, only problems")


def run(arguments: Namespace) -> Code:
    """Fit the model, print its summary, write its files."""
    import ranef

    check_files(arguments, report=(), table=TABLES, save=(), forest=PICTURES)
    if arguments.columns and arguments.measure is None:
        raise ModelError("--columns belongs to --measure: add it, such as --measure RR")
    if arguments.variance is arguments.std_error is arguments.measure:
        raise ModelError(
            "the precision of the effects is needed: --variance or --std-error names its column; "
            "--measure RR (OR, SMD ...) computes effects and variances from counts or means"
        )
    data = models.read(arguments, arguments.formula)
    if arguments.measure is not None:
        data = _with_effects(arguments, data)
    names = ("variance", "std_error", "method", "df", "study", "offset", "missing")
    fit: Any = ranef.meta(
        arguments.formula, data, **{name: getattr(arguments, name) for name in names}
    )
    level = {"conf_level": arguments.conf_level}
    if not arguments.quiet:
        print(fit.summary(**level))
    write_results(
        arguments, lambda: fit.tidy(**level), lambda: _results(fit, level),
        empty=("term", "estimate"),
    )  # fmt: skip
    if arguments.forest is not None:
        write_picture(
            lambda canvas: fit.plot.forest(
                conf_level=arguments.conf_level, exponentiate=arguments.exponentiate, figure=canvas
            ),
            arguments.forest,
            dpi=200,
        )
    write_fit(fit, arguments, level)
    return Code.OK if fit.optimum.converged else Code.NOT_CONVERGED


def _with_effects(arguments: Namespace, data: Any) -> Any:
    """Return the table with the effects that the formula names, and their variances."""
    import ranef

    effect = arguments.formula.partition("~")[0].strip().strip("`")
    taken = set(map(str, data.columns)) | {effect}
    arguments.variance = next(
        name for name in ("vi", *(f"vi_{k}" for k in range(1, 99))) if name not in taken
    )
    return ranef.effect_sizes(
        arguments.measure,
        data,
        effect=effect,
        variance=arguments.variance,
        **dict(arguments.columns),
    )


def _results(fit: Any, level: dict[str, float]) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    rows = fit.frame.accounting
    document = {
        "model": {"formula": fit.formula, "response": fit.response, **level},
        "accounting": {
            "n_rows": rows.n_rows,
            "n_used": rows.n_used,
            "n_dropped": rows.n_dropped,
            "missing": {name: int(count) for name, count in rows.missing.items()},
            "groups": fit.n_groups,
            "notes": list(fit.description.concerns()),
        },
        "glance": records(fit.glance())[0],
        "fixed": records(fit.tidy(**level)),
        "variance": records(fit.tidy("variance", **level)),
        "doubts": [*fit.doubts(), *fit.description.doubts()],
    }
    if not fit.synthesis.model.is_dependent:
        document["studies"] = records(fit.tidy("random", **level))
    return document


VERB = Verb(
    name="meta",
    help="analyse effects with known sampling variances (meta-analysis)",
    description="Fit a meta-analysis or meta-regression and print its summary.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=('ranef meta "yi ~ 1" trials.csv --variance vi --forest forest.svg',),
)
