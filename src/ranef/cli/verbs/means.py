"""``ranef means``: estimated marginal means of a fit."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ranef.cli import asking
from ranef.cli.verb import Code, Verb

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
The means are those of a balanced table: the model is evaluated at every combination of the
categories, numbers at their mean (--at gives other values), and averaged.

examples:
  ranef means "yield ~ nitro + Variety + (1 | Block/Variety)" Oats --of Variety
  ranef means trial.ranef --of "treatment | visit" --table means.docx --plot means.png
  ranef means "cbind(incidence, size - incidence) ~ period + (1 | herd)" cbpp \\
      --family binomial --of period --type response
  ranef means growth.ranef --of arm --at age=8,14 --df kenward-roger --out means.csv
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef means``."""
    asking.add_fit(parser)
    asking.add_means(parser.add_argument_group("means"))
    asking.add_answer_files(parser)


def run(arguments: Namespace) -> Code:
    """Fit or load, estimate the means, write them."""
    asking.check_answer_files(arguments)
    fit = asking.fit_of(arguments)
    adjust = {} if arguments.adjust is None else {"adjust": arguments.adjust}
    means = fit.emmeans(
        arguments.of, conf_level=arguments.conf_level, **adjust, **asking.means_of(arguments)
    )
    about = {"of": arguments.of, "conf_level": arguments.conf_level}
    return asking.answered(means, fit, arguments, about)


VERB = Verb(
    name="means",
    help="estimated marginal means of a saved fit or of a model",
    description="Estimate marginal means (least-squares means) of a saved fit or of a model.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
