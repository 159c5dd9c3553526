"""``ranef dynamic``: persons with an inertia and a residual standard deviation of their own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options, values
from ranef.cli.verb import Code, Verb, code_of
from ranef.cli.writing import TABLES, check_files, records, strict, write_fit, write_results

__all__ = ["VERB"]

EPILOG = """\
Moods linger in one person and are gone by the next prompt in another. The formula is that of the
level, as for ranef fit; --inertia, --dispersion and --inputs are formulas that begin with ~ .
A label makes effects of several formulas correlated: (1 | p | id) in each of them.

the process:
  --residual "ar1(prompt | id)"       whole prompts by their numbers; one that was missed is a gap
  --residual "ar1(prompt | id/day)"   no deviation crosses a night
  --residual "ou(time | id)"          by the clock: numbers, or times in ISO 8601 (in hours)

results:
  --out fit.json           every table, each person's inertia too, and the optimum
  --out fit.csv            the coefficients of all formulas
  --persons persons.csv    inertia and innovation standard deviation of each person
  --report fit.html        one page with tables, pictures and the certificate
  --table fit.docx         the table for a paper (also .tex .html .md .txt)
  --save fit.ranef         the whole fit, for ranef.load in Python and ranef predict

examples:
  ranef dynamic "mood ~ 1 + (1 | p | id)" diary.csv --residual "ar1(prompt | id)" \\
      --inertia "~ 1 + (1 | p | id)" --dispersion "~ 1 + (1 | p | id)" --report inertia.html
  ranef dynamic "na ~ stress + (1 + stress | id)" diary.csv --residual "ou(sent | id)" \\
      --inertia "~ neuroticism + (1 | id)" --persons persons.csv
  ranef dynamic "mood ~ 1 + (1 | p | id)" diary.csv --residual "ar1(prompt | id)" \\
      --inertia "~ 1 + (1 | p | id)" --inputs "~ stress" --profile

exit codes are those of ranef fit.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef dynamic``."""
    options.add_data(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--residual", metavar="PROCESS", required=True,
        help="what remembers: 'ar1(prompt | person)', 'ar1(prompt | person/day)', "
        "'ou(time | person)'",
    )  # fmt: skip
    model.add_argument(
        "--inertia", metavar="FORMULA", default="~ 1",
        help="of the inertia, such as '~ 1 + (1 | p | person)' (~ 1, one for all)",
    )  # fmt: skip
    model.add_argument(
        "--dispersion", metavar="FORMULA", default="~ 1",
        help="of the log standard deviation of what is new at a prompt (~ 1, one for all)",
    )  # fmt: skip
    model.add_argument(
        "--inputs", metavar="FORMULA", help="what drives the process and is carried on by it"
    )
    model.add_argument(
        "--link", choices=("fisher-z", "identity", "logit"), metavar="NAME",
        help="of the inertia: fisher-z (prompts), identity (as in Mplus), logit (by the clock)",
    )  # fmt: skip
    model.add_argument(
        "--start", choices=("stationary", "given"), default="stationary", metavar="HOW",
        help="series begin in their stationary distribution, or their first rows are given",
    )  # fmt: skip
    model.add_argument(
        "--quadrature", type=values.positive, metavar="N",
        help="points along each effect of inertia and dispersion (as many as it takes)",
    )  # fmt: skip
    options.add_missing(model)
    options.add_reading(parser)
    results = parser.add_argument_group("results")
    options.add_out(results, "write all tables to a .json, the coefficients to a .csv file")
    results.add_argument(
        "--persons", metavar="FILE.csv", help="write each person's inertia and innovation sd"
    )
    options.add_fit_files(results)
    results.add_argument(
        "--profile", action="store_true",
        help="print intervals of all parameters by the profile of the likelihood; takes long",
    )  # fmt: skip
    results.add_argument(
        "--check", action="store_true", help="print evidence against the model, and what to do"
    )
    options.add_level(results)
    options.add_quiet(results, "print no summary and no progress, only problems")
    fitting = parser.add_argument_group("fitting")
    fitting.add_argument(
        "--n-jobs", type=values.positive, metavar="N", help="threads (all that may be used)"
    )


def run(arguments: Namespace) -> Code:
    """Fit the model, print its summary, write its files."""
    import ranef

    check_files(arguments, report=(), table=TABLES, save=(), persons=(".csv",))
    formulas = (arguments.formula, arguments.inertia, arguments.dispersion, arguments.inputs)
    process = f"~ {arguments.residual}"
    data = models.read(arguments, *(f for f in formulas if f is not None), process)
    fit = ranef.dynamic(
        arguments.formula, data, residual=arguments.residual, inertia=arguments.inertia,
        dispersion=arguments.dispersion, inputs=arguments.inputs, link=arguments.link,
        start=arguments.start, quadrature=arguments.quadrature, missing=arguments.missing,
        n_jobs=arguments.n_jobs, progress=models.progress(arguments),
    )  # fmt: skip
    level = {"conf_level": arguments.conf_level}
    if not arguments.quiet:
        print(fit.summary(**level))
    write_results(
        arguments, lambda: fit.tidy(**level), lambda: _results(fit, level),
        empty=("component", "term", "estimate"),
    )  # fmt: skip
    if arguments.persons is not None:
        _write_persons(fit, arguments.persons, level)
    write_fit(fit, arguments, level)
    if arguments.profile:
        print(f"\n{fit.profile(**level, progress=models.progress(arguments))}")
    if arguments.check:
        print(f"\n{fit.check()}")
    return code_of(fit)


def _write_persons(fit: Any, path: str, level: dict[str, float]) -> None:
    from ranef.cli.writing import as_csv
    from ranef.display import files

    files.write_atomically(path, as_csv(fit.dynamics(**level), ()))


def _results(fit: Any, level: dict[str, float]) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    texts, rows, end = fit.estimate.texts, fit.frame.accounting, fit.optimum
    return {
        "model": {
            "formula": fit.formula, "residual": texts.residual, "inertia": texts.inertia,
            "dispersion": texts.dispersion, "inputs": texts.inputs, **level,
        },
        "accounting": {
            "n_rows": rows.n_rows, "n_used": rows.n_used, "n_dropped": rows.n_dropped,
            "missing": {name: int(count) for name, count in rows.missing.items()},
            "groups": fit.n_groups,
        },
        "glance": records(fit.glance())[0],
        "fixed": records(fit.tidy("fixed", **level)),
        "variance": records(fit.tidy("variance", **level)),
        "random": records(fit.tidy("random", **level)),
        "dynamics": records(fit.dynamics(**level)),
        "optimum": {
            name: strict(getattr(end, name))
            for name in ("criterion", "decrement", "points", "quadrature_error", "converged",
                         "singular", "evaluations", "message")
        },
        "doubts": list(fit.doubts()),
    }  # fmt: skip


VERB = Verb(
    name="dynamic",
    help="diaries whose persons differ in inertia and variability",
    description="Fit a level, an inertia and a residual standard deviation for each person.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        'ranef dynamic "mood ~ 1 + (1 | id)" diary.csv --residual "ar1(prompt | id)" '
        '--inertia "~ 1 + (1 | id)"',
    ),
)
