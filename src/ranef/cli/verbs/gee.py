"""``ranef gee``: a population-averaged model, its summary and its files."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options
from ranef.cli.verb import Code, Verb
from ranef.cli.writing import TABLES, check_files, records, write_fit, write_results

__all__ = ["VERB"]

EPILOG = """\
Coefficients compare means over the population; rows of one cluster (--groups) are
correlated. ranef fit answers for one cluster. --both asks both questions.

the working correlation (all but the first two, nested and odds ratios need --time):
  independence, exchangeable, ar1, car1, m-dependent(2), toeplitz, unstructured,
  nested (with --groups Lot/Wafer), log odds ratio (of binary responses);
  of --family cumulative and multinomial: global odds ratio, local odds ratio

results:
  --out fit.json           every table and the criteria
  --out fit.csv            the coefficients
  --report fit.html        one page with tables and pictures
  --table fit.docx         the table for a paper (also .tex .html .md .txt)
  --save fit.ranef         the whole fit, for ranef.load in Python

examples:
  ranef gee "resp ~ age * smoke" ohio --groups id --time age --family binomial
  ranef gee "outcome ~ treat + baseline" respiratory --groups center:id --time visit \\
      --family binomial --correlation ar1 --covariance kauermann-carroll
  ranef gee "resp ~ age + smoke" ohio --groups id --family binomial --both

exit codes:
  0  done
  1  fitted, but the equations were not solved (the result is printed)
  2  something is wrong with the arguments, the formula or the data
  3  a file cannot be read or written
  70 a bug in ranef    130 interrupted    141 the reader of the output went away
"""

COVARIANCES = (
    "robust", "model", "jackknife", "jackknife-full", "mancl-derouen", "kauermann-carroll",
    "fay-graubard", "morel",
)  # fmt: skip
DF = ("default", "normal", "clusters", "fay-graubard", "pan-wall", "small-sample")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef gee``."""
    options.add_data(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--groups", metavar="COL", required=True, help="the clusters: id, site:id, Lot/Wafer"
    )
    model.add_argument("--time", metavar="COL", help="when a row of a cluster was observed")
    model.add_argument(
        "--family", metavar="NAME", default="gaussian", help="family of the response (gaussian)"
    )
    model.add_argument("--link", metavar="NAME", help="link of the mean (the family's own)")
    model.add_argument(
        "--correlation", metavar="NAME", default="exchangeable",
        help="working correlation (exchangeable)",
    )  # fmt: skip
    model.add_argument(
        "--estimator", choices=("all", "adjacent", "ordgee"), default="all", metavar="WHICH",
        help="of ar1 and car1: from all pairs of rows (all), or neighbours (adjacent)",
    )  # fmt: skip
    model.add_argument("--weights", metavar="COL", help="precisions: Var(y) = phi V(mu) / weight")
    model.add_argument(
        "--sampling-weights", metavar="COL", help="how many rows of the population a row represents"
    )
    model.add_argument(
        "--dropout",
        metavar="FORMULA",
        help="log odds of being seen, given that one was seen before: '~ lag(y) + arm'; rows not "
        "seen have a missing response",
    )
    model.add_argument("--offset", metavar="COL", help="added to the mean with coefficient 1")
    model.add_argument(
        "--scale", metavar="HOW", default="n", help="divisor of the scale: n, n-p; or its value"
    )
    model.add_argument(
        "--penalty", choices=("firth",), help="penalise the equations: finite under separation"
    )
    options.add_missing(model)
    options.add_reading(parser)
    results = parser.add_argument_group("results")
    results.add_argument(
        "--covariance", choices=COVARIANCES, metavar="KIND", default="robust",
        help=f"where standard errors come from: {', '.join(COVARIANCES)}",
    )  # fmt: skip
    results.add_argument(
        "--df", choices=DF, metavar="METHOD", default="default",
        help=f"degrees of freedom of tests and intervals: {', '.join(DF)}",
    )  # fmt: skip
    results.add_argument(
        "--both", action="store_true",
        help="print cluster-specific and population-averaged answers side by side",
    )  # fmt: skip
    options.add_out(results, "write results to a .json or .csv file")
    options.add_fit_files(results)
    options.add_level(results)
    options.add_quiet(results, "print no summary, only problems")


def run(arguments: Namespace) -> Code:
    """Fit the model, print its summary, write its files."""
    import ranef

    check_files(arguments, report=(), table=TABLES, save=())
    data = models.read(arguments, arguments.formula)
    fit = ranef.gee(
        arguments.formula, data, correlation=arguments.correlation, scale=_scale(arguments.scale),
        estimator=arguments.estimator, sampling_weights=arguments.sampling_weights,
        df=arguments.df, penalty=arguments.penalty, dropout=arguments.dropout,
        progress=models.progress(arguments), **_shared(arguments),
    )  # fmt: skip
    level = {"conf_level": arguments.conf_level}
    if not arguments.quiet:
        print(fit.summary(**level))
    if arguments.both:
        two = ranef.two_answers(
            arguments.formula,
            data,
            correlation=arguments.correlation,
            **_shared(arguments),
            **level,
        )
        print(two if arguments.quiet else f"\n{two}")
    write_results(
        arguments, lambda: fit.tidy(**level), lambda: _results(fit, level),
        empty=("term", "estimate"),
    )  # fmt: skip
    write_fit(fit, arguments, level)
    return Code.OK if fit.estimate.converged else Code.NOT_CONVERGED


def _shared(arguments: Namespace) -> dict[str, Any]:
    """Arguments of `ranef.gee` and `ranef.two_answers`."""
    names = ("groups", "time", "family", "link", "weights", "offset", "missing", "covariance")
    return {name: getattr(arguments, name) for name in names}


def _scale(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def _results(fit: Any, level: dict[str, float]) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    rows = fit.frame.accounting
    return {
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
        "correlation": records(fit.tidy("correlation")),
        "criteria": records(fit.criteria())[0],
        "equations": {
            "converged": fit.estimate.converged,
            "steps": fit.estimate.steps,
            "gap": fit.estimate.gap,
        },
        "doubts": list(fit.doubts()),
    }


VERB = Verb(
    name="gee",
    help="fit a population-averaged model and print its summary",
    description="Fit a population-averaged model by generalised estimating equations.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=('ranef gee "resp ~ age * smoke" ohio --groups id --family binomial',),
)
