"""``ranef plan``: what a fit would cost."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ranef.cli import models, options
from ranef.cli.verb import Code, Verb
from ranef.errors import ModelError

__all__ = ["VERB"]

EPILOG = """\
The model is set up but not fitted. The plan says which blocks there are, how much
memory and how many operations they need, and which path the solver would take.

examples:
  ranef plan "y ~ x + (x | g)" big.parquet
  ranef plan "y ~ x + (1 | a) + (1 | b)" big.parquet --path crossed
  ranef plan "cases ~ x + (1 | town)" big.parquet --family poisson --zero "~ 1"
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef plan``."""
    options.add_data(parser)
    options.add_model(parser)


def run(arguments: Namespace) -> Code:
    """Print the plan."""
    import ranef

    models.check_family(arguments)
    if len(arguments.residual or ()) > 1:
        raise ModelError("a plan is of one model: give --residual once")
    data = models.read(arguments, arguments.formula)
    print(ranef.plan(arguments.formula, data, **models.keywords(arguments)))
    return Code.OK


VERB = Verb(
    name="plan",
    help="predict what a fit would cost, before it runs",
    description="Say what a fit would cost before it runs.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=('ranef plan "y ~ x + (1 | school/class)" scores.csv.gz',),
)
