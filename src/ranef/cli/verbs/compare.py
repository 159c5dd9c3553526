"""``ranef compare``: models of the same rows, by their likelihoods, or by what they are for."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from itertools import product
from typing import Any

from ranef.cli import models, options, writing
from ranef.cli.values import positive
from ranef.cli.verb import Code, Verb, code_of
from ranef.errors import ModelError, suggestion

__all__ = ["VERB"]

EPILOG = """\
Give two or more formulas, then the table. The fits are sorted by their number of
parameters, and each is tested against the one before by a likelihood-ratio test. Fits
by REML are refitted by ML, since REML likelihoods with different fixed effects are not
comparable. Where the smaller model has a variance of zero, the distribution is a mixture
of chi-squared distributions; --bootstrap simulates it. Fits that are not nested have no
p-value. All formulas must use the same rows: complete the table first if they differ.

With --focus the models are compared by what they are for: population (new groups; AIC by
ML) or individual (the groups at hand; conditional AIC). --vary tries several families,
zero parts, dispersions or residual structures, each with every formula; 'none' leaves the
part out.

examples:
  ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" sleepstudy
  ranef compare "y ~ 1 + (1 | g)" "y ~ x + (1 | g)" "y ~ x + z + (1 | g)" data.csv --bootstrap 1000
  ranef compare "count ~ 1 + (1 | site)" "count ~ mined + (1 | site)" Salamanders \\
      --family nbinom2 --out models.json
  ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" sleepstudy \\
      --focus individual
  ranef compare "count ~ mined + (1 | site)" Salamanders --focus population \\
      --vary family=poisson --vary family=nbinom2 --vary zero=none --vary "zero=~ mined"
"""

VARIED = ("family", "zero", "dispersion", "residual")
NOTE = (
    "ranef: note: --focus population (new groups) or --focus individual (the groups at hand) "
    "compares the models by what they are for"
)


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
    focused = parser.add_argument_group("comparison by what the models are for")
    focused.add_argument(
        "--focus",
        choices=("population", "individual"),
        help="for new groups (population), or for the groups at hand (individual)",
    )
    focused.add_argument(
        "--criterion",
        choices=("aic", "aicc", "bic", "bic_groups", "bic_hybrid", "caic", "cv", "loo"),
        metavar="NAME",
        help="of the population aic, aicc, bic, bic_groups, bic_hybrid, cv or loo; of individuals "
        "caic, cv or loo (aic, caic)",
    )
    focused.add_argument(
        "--folds", type=positive, metavar="N", help="parts of the cross-validation (10)"
    )
    focused.add_argument(
        "--jacobian",
        action="store_true",
        help="compare a response with its transformations, on its own scale",
    )
    focused.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="PART=VALUE",
        help="one more family, zero, dispersion or residual to try with every formula; 'none' "
        "leaves the part out",
    )
    results = parser.add_argument_group("results")
    options.add_out(results, "write the comparison to a .csv or .json file")
    options.add_quiet(results)
    options.add_model(parser)
    options.add_search(parser)


def run(arguments: Namespace) -> Code:
    """Fit the models, compare them, write the comparison."""
    every = _models(arguments)
    if arguments.focus is None:
        _refuse_without_focus(arguments)
        if len(every) < 2:
            raise ModelError(
                "compare takes two formulas or more, and then the table: "
                "ranef compare 'y ~ 1 + (1 | g)' 'y ~ x + (1 | g)' data.csv. --vary makes several "
                "models of one formula, and --focus answers for one model too. Saved fits are "
                "compared by ranef anova a.ranef b.ranef"
            )
    for _, own in every:
        models.check_family(own)
    writing.check_files(arguments)
    data = models.read(_together(arguments, every), *arguments.formulas)
    fits = [models.fitted(own, data, formula) for formula, own in every]
    comparison = _focused(arguments, fits) if arguments.focus else _tested(arguments, fits)
    if not arguments.quiet:
        print(comparison)
        if arguments.focus is None:
            print(NOTE, file=sys.stderr)
    writing.write_results(
        arguments,
        comparison.tidy,
        lambda: {
            "criterion": comparison.criterion,
            **({"focus": comparison.focus} if arguments.focus else {}),
            "notes": list(comparison.notes),
            "models": writing.records(comparison.tidy()),
        },
    )
    return code_of(*fits)


def _models(arguments: Namespace) -> list[tuple[str, Namespace]]:
    """Each formula with each combination of what varies."""
    values: dict[str, list[str | None]] = {}
    for one in arguments.vary:
        name, equals, value = one.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not value:
            raise ModelError(f"--vary {one!r}: write PART=VALUE, such as family=nbinom2")
        if name not in VARIED:
            raise ModelError(
                f"--vary {name!r}: there is no such part{suggestion(name, VARIED)}; there are "
                f"{', '.join(VARIED)}"
            )
        values.setdefault(name, []).append(None if value == "none" else value)
    out = []
    for formula in arguments.formulas:
        for combination in product(*values.values()):
            own = Namespace(**vars(arguments))
            for name, value in zip(values, combination, strict=True):
                several = name == "residual" and value is not None
                setattr(own, name, [value] if several else value)
            out.append((formula, own))
    return out


def _together(arguments: Namespace, every: list[tuple[str, Namespace]]) -> Namespace:
    """Arguments that name the columns of all models."""
    whole = Namespace(**vars(arguments))
    for name in VARIED:
        used = [value for _, own in every if (value := getattr(own, name)) is not None]
        if name == "residual":
            whole.residual = list(dict.fromkeys(one for several in used for one in several))
        else:
            setattr(whole, name, " ".join(dict.fromkeys(used)) or None)
    return whole


def _refuse_without_focus(arguments: Namespace) -> None:
    for name in ("criterion", "folds", "jacobian"):
        if getattr(arguments, name):
            raise ModelError(f"--{name} needs --focus population or --focus individual")


def _tested(arguments: Namespace, fits: list[Any]) -> Any:
    """Likelihood-ratio tests of each model against the one before."""
    import ranef

    draws = arguments.bootstrap
    return ranef.anova(
        *fits,
        refit=not arguments.no_refit,
        rng=arguments.seed,
        n_jobs=arguments.n_jobs,
        progress=models.progress(arguments),
        **({} if draws is None else {"method": "bootstrap", "n": draws}),
    )


def _focused(arguments: Namespace, fits: list[Any]) -> Any:
    """The models by what they are for."""
    import ranef

    return ranef.compare(
        fits,
        focus=arguments.focus,
        criterion=arguments.criterion,
        refit=not arguments.no_refit,
        jacobian=arguments.jacobian,
        folds=arguments.folds,
        bootstrap=arguments.bootstrap,
        rng=arguments.seed,
        n_jobs=arguments.n_jobs,
        progress=models.progress(arguments),
    )


VERB = Verb(
    name="compare",
    help="fit several models of the same rows and compare them",
    description="Fit several models of the same rows and compare them: by their likelihoods, or by "
    "what they are for.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        'ranef compare "Reaction ~ Days + (1 | Subject)" "Reaction ~ Days + (Days | Subject)" '
        "sleepstudy",
    ),
)
