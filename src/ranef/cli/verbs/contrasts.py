"""``ranef contrasts``: differences and ratios of estimated marginal means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ranef.cli import asking
from ranef.cli.values import number
from ranef.cli.verb import Code, Verb

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
Differences of means; on the scale of a logit odds ratios, of a logarithm ratios. Within a
panel ('treatment | visit') p-values are adjusted by Tukey's method for all pairs, by Dunnett's
for comparisons with a reference; --adjust chooses another.

examples:
  ranef contrasts "yield ~ nitro + Variety + (1 | Block/Variety)" Oats --of Variety
  ranef contrasts trial.ranef --of "treatment | visit" --method reference --ref Placebo \\
      --table differences.docx
  ranef contrasts trial.ranef --of treatment --side noninferiority --delta 2
"""

SIDES = ("two-sided", "greater", "less", "equivalence", "noninferiority", "nonsuperiority")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef contrasts``."""
    asking.add_fit(parser)
    question = parser.add_argument_group("contrasts")
    asking.add_means(question)
    question.add_argument(
        "--method",
        metavar="METHOD",
        help="pairwise, revpairwise, reference, consec, eff, poly ... (pairwise; with --ref "
        "reference)",
    )
    question.add_argument("--ref", metavar="LEVEL", help="the level that others are compared with")
    question.add_argument(
        "--side",
        choices=SIDES,
        default="two-sided",
        metavar="SIDE",
        help=f"the test: {', '.join(SIDES)}",
    )
    question.add_argument(
        "--null", type=number, default=0.0, metavar="X", help="the value tested (0)"
    )
    question.add_argument(
        "--delta",
        type=number,
        default=0.0,
        metavar="X",
        help="the margin of equivalence, non-inferiority or non-superiority",
    )
    asking.add_answer_files(parser)


def run(arguments: Namespace) -> Code:
    """Fit or load, compare the means, write the comparisons."""
    asking.check_answer_files(arguments)
    fit = asking.fit_of(arguments)
    if arguments.method is None:
        arguments.method = "pairwise" if arguments.ref is None else "reference"
    test = {name: getattr(arguments, name) for name in ("side", "null", "delta")}
    named = {name: getattr(arguments, name) for name in ("ref", "adjust")}
    answer = fit.contrasts(
        arguments.of,
        arguments.method,
        conf_level=arguments.conf_level,
        **test,
        **{name: value for name, value in named.items() if value is not None},
        **asking.means_of(arguments),
    )
    about = {"of": arguments.of, "method": arguments.method, **test}
    return asking.answered(answer, fit, arguments, {**about, "conf_level": arguments.conf_level})


VERB = Verb(
    name="contrasts",
    help="compare the marginal means of a saved fit or of a model",
    description="Compare estimated marginal means of a saved fit or of a model.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
