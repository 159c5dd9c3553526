"""``ranef meta``: a meta-analysis, its summary and its files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options
from ranef.cli.verb import Code, Verb
from ranef.cli.writing import (
    TABLES,
    check_files,
    records,
    write_fit,
    write_picture,
    write_results,
)

__all__ = ["VERB"]

EPILOG = """\
Each row is an effect with a known sampling variance (--variance) or standard error
(--std-error). Random terms name further levels: 'yi ~ 1 + (1 | study/effect)'.

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
    known = model.add_mutually_exclusive_group(required=True)
    known.add_argument("--variance", metavar="COL", help="sampling variances of the effects")
    known.add_argument("--std-error", metavar="COL", help="standard errors of the effects")
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
    data = models.read(arguments, arguments.formula)
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
