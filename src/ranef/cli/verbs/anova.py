"""``ranef anova``: tests of the terms of a fit."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ranef.cli import asking
from ranef.cli.verb import Code, Verb, code_of
from ranef.errors import ModelError

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
Each term is tested given the others (type III with unweighted means, whatever the contrasts; II
and I by --type). Two saved fits or more are tested against each other by likelihood ratios, fits by
REML refitted by ML; ranef compare does so with formulas.

examples:
  ranef anova "yield ~ nitro * Variety + (1 | Block/Variety)" Oats --df kenward-roger
  ranef anova trial.ranef --type II --table anova.docx
  ranef anova small.ranef large.ranef
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef anova``."""
    asking.add_fit(parser)
    parser.add_argument(
        "more", nargs="*", metavar="FIT", help="files of more saved fits, to compare them"
    )
    question = parser.add_argument_group("tests")
    question.add_argument(
        "--type", choices=("I", "II", "III"), default="III", help="sums of squares (III)"
    )
    question.add_argument(
        "--df", metavar="METHOD", help="degrees of freedom: satterthwaite, kenward-roger ..."
    )
    asking.add_answer_files(parser, plot=False, level=False)


def run(arguments: Namespace) -> Code:
    """Fit or load, test the terms, write the tests."""
    asking.check_answer_files(arguments)
    if arguments.data is not None and ("~" not in arguments.formula or arguments.more):
        return _compared(arguments)
    fit = asking.fit_of(arguments)
    how = {"type": arguments.type}
    named = {} if arguments.df is None else {"df": arguments.df}
    return asking.answered(fit.anova(**how, **named), fit, arguments, how)


def _compared(arguments: Namespace) -> Code:
    """Test saved fits against each other."""
    import ranef

    names = [arguments.formula, arguments.data, *arguments.more]
    asking.check_saved(arguments, names)
    if arguments.df is not None or arguments.type != "III":
        raise ModelError(
            "--df and --type are of the terms of one fit; several are compared by likelihood ratios"
        )
    fits: list[Any] = [ranef.load(name) for name in names]
    compared = ranef.anova(*fits)
    return max(asking.answered(compared, fits[-1], arguments, {"fits": names}), *map(code_of, fits))


VERB = Verb(
    name="anova",
    help="test the terms of a saved fit or of a model",
    description="Test the terms of a saved fit or of a model, or saved fits against each other.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
