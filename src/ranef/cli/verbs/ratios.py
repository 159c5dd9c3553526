"""``ranef ratios``: what each level had over what the model expects of it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ranef.cli import asking, options
from ranef.cli.values import number, positive
from ranef.cli.verb import Code, Verb

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
Indirect standardisation: observed over expected for each ward, hospital or school, raw and
shrunken, with limits and the probability of exceeding --threshold.

examples:
  ranef ratios "cbind(incidence, size - incidence) ~ period + (1 | herd)" cbpp \\
      --family binomial --plot ratios.png
  ranef ratios deaths.ranef --by hospital --reference population --out ratios.csv
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef ratios``."""
    asking.add_fit(parser)
    question = parser.add_argument_group("ratios")
    question.add_argument(
        "--by", metavar="FACTOR", help="the grouping factor; not needed if there is only one"
    )
    question.add_argument(
        "--reference",
        default="typical",
        choices=("typical", "population"),
        metavar="WHAT",
        help="expected in a level without effect (typical), or on average over levels (population)",
    )
    question.add_argument(
        "--threshold", type=number, default=1.0, metavar="X", help="of the probability (1)"
    )
    question.add_argument(
        "--per", type=number, default=1.0, metavar="X", help="multiply the ratios, as by 100 (1)"
    )
    question.add_argument(
        "--draws", type=positive, default=2000, metavar="N", help="joint draws (2000)"
    )
    options.add_seed(question)
    asking.add_answer_files(parser)


def run(arguments: Namespace) -> Code:
    """Fit or load, work out the ratios, write them."""
    asking.check_answer_files(arguments)
    fit = asking.fit_of(arguments)
    how = {name: getattr(arguments, name) for name in ("reference", "threshold", "per")}
    ratios = fit.standardized_ratios(
        arguments.by,
        conf_level=arguments.conf_level,
        n=arguments.draws,
        rng=arguments.seed,
        **how,
    )
    return asking.answered(
        ratios, fit, arguments, {"by": arguments.by, "conf_level": arguments.conf_level, **how}
    )


VERB = Verb(
    name="ratios",
    help="observed over expected for each level of a grouping factor",
    description="Compare what each level of a grouping factor had with what the model expects of "
    "its rows.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
