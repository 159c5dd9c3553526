"""``ranef anova``: tests of the terms of a fit."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ranef.cli import asking
from ranef.cli.verb import Code, Verb

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
Each term is tested given the others (type III with unweighted means, whatever the contrasts; II
and I by --type). ranef compare tests models against each other.

examples:
  ranef anova "yield ~ nitro * Variety + (1 | Block/Variety)" Oats --df kenward-roger
  ranef anova trial.ranef --type II --table anova.docx
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef anova``."""
    asking.add_fit(parser)
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
    fit = asking.fit_of(arguments)
    how = {"type": arguments.type}
    named = {} if arguments.df is None else {"df": arguments.df}
    return asking.answered(fit.anova(**how, **named), fit, arguments, how)


VERB = Verb(
    name="anova",
    help="test the terms of a saved fit or of a model",
    description="Test the terms of a saved fit or of a model.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
