"""``ranef compare``: models of the same rows, by their likelihoods."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import models, options, writing
from ranef.cli.values import positive
from ranef.cli.verb import Code, Verb, code_of
from ranef.errors import ModelError

__all__ = ["VERB"]

EPILOG = """\
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


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef compare``."""
    parser.add_argument("formulas", nargs="+", metavar="FORMULA", help="the models, each in quotes")
    options.add_data(parser, formula=False)
    tests = parser.add_argument_group("comparison")
    tests.add_argument(
        "--no-refit",
        action="store_true",
        help="compare REML fits without refitting; they need the same fixed effects",
    )
    tests.add_argument(
        "--bootstrap",
        type=positive,
        metavar="N",
        help="p-value by a parametric bootstrap: N draws from the smaller model",
    )
    options.add_seed(tests)
    results = parser.add_argument_group("results")
    options.add_out(results, "write the comparison to a .csv or .json file")
    options.add_quiet(results)
    options.add_model(parser)
    options.add_search(parser)


def run(arguments: Namespace) -> Code:
    """Fit the models, compare them, write the comparison."""
    import ranef

    models.check_family(arguments)
    if len(arguments.formulas) < 2:
        raise ModelError(
            "compare takes two formulas or more, and then the table: "
            "ranef compare 'y ~ 1 + (1 | g)' 'y ~ x + (1 | g)' data.csv"
        )
    writing.check_files(arguments)
    data = models.read(arguments, *arguments.formulas)
    fits = [models.fitted(arguments, data, formula) for formula in arguments.formulas]
    draws = arguments.bootstrap
    comparison: Any = ranef.anova(
        *fits,
        refit=not arguments.no_refit,
        rng=arguments.seed,
        n_jobs=arguments.n_jobs,
        progress=models.progress(arguments),
        **({} if draws is None else {"method": "bootstrap", "n": draws}),
    )
    if not arguments.quiet:
        print(comparison)
    writing.write_results(
        arguments,
        comparison.tidy,
        lambda: {
            "criterion": comparison.criterion,
            "notes": list(comparison.notes),
            "models": writing.records(comparison.tidy()),
        },
    )
    return code_of(*fits)


VERB = Verb(
    name="compare",
    help="fit several models of the same rows and compare their likelihoods",
    description="Fit several models of the same rows and compare their likelihoods.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        'ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" '
        "sleepstudy",
    ),
)
