"""``ranef rank``: the levels of a grouping factor, ranked."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ranef.cli import asking, options, writing
from ranef.cli.values import number, positive
from ranef.cli.verb import Code, Verb, code_of

if TYPE_CHECKING:
    from ranef.questions.levels.ranking import Ranking

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
Ranks come from the joint posterior of the levels, not from the order of the estimates:
a level with little data is ranked near the middle because little is known about it.
The result is neither a test of one level against another nor a causal claim; it says
what was adjusted for.

examples:
  ranef rank "Reaction ~ Days + (Days | Subject)" sleepstudy --statistic Days --top 3
  ranef rank "diameter ~ 1 + (1 | plate) + (1 | sample)" Penicillin --by sample --plot ranks.png
  ranef rank "cbind(incidence, size - incidence) ~ period + (1 | herd)" cbpp \\
      --family binomial --scale ratio --order descending --threshold 1.5 --out herds.csv
"""

QUESTION = ("statistic", "scale", "order", "top", "threshold", "conf_level")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef rank``."""
    asking.add_fit(parser)
    ranks = parser.add_argument_group("ranking")
    ranks.add_argument(
        "--by", metavar="FACTOR", help="the grouping factor; not needed if there is only one"
    )
    ranks.add_argument(
        "--statistic",
        metavar="NAME",
        help="the coefficient to rank by (the intercept, or the only one that varies)",
    )
    ranks.add_argument(
        "--scale",
        choices=("effect", "coefficient", "ratio", "response"),
        metavar="SCALE",
        help="random effect (effect), with the fixed one (coefficient), its exponential (ratio), "
        "or the response at the average row (response)",
    )
    ranks.add_argument(
        "--order",
        choices=("ascending", "descending"),
        default="ascending",
        metavar="ORDER",
        help="rank 1 is the smallest value (ascending) or the largest (descending)",
    )
    ranks.add_argument(
        "--top",
        type=positive,
        metavar="K",
        help="probability of being among the K largest and smallest (a tenth of the levels)",
    )
    ranks.add_argument(
        "--threshold",
        type=number,
        metavar="X",
        help="also the probability of exceeding this value",
    )
    ranks.add_argument(
        "--draws", type=positive, default=4000, metavar="N", help="joint draws (4000)"
    )
    options.add_seed(ranks)
    results = parser.add_argument_group("results")
    options.add_out(results, "write the ranks of all levels to a .csv or .json file")
    options.add_table(results)
    results.add_argument("--title", metavar="TEXT", help="the title of the table for a paper")
    results.add_argument("--plot", metavar="FILE", help="draw the ranks: .png, .svg or .pdf")
    options.add_level(results)
    options.add_quiet(results)


def run(arguments: Namespace) -> Code:
    """Fit or load, rank the levels, write ranks and picture."""
    writing.check_files(arguments, table=writing.TABLES, plot=writing.PICTURES)
    fit = asking.fit_of(arguments)
    question = {name: getattr(arguments, name) for name in QUESTION}
    ranking = fit.rank(arguments.by, n=arguments.draws, rng=arguments.seed, **question)
    _write(ranking, fit.formula, arguments)
    if not arguments.quiet:
        print(ranking)
    return code_of(fit)


def _write(ranking: Ranking, formula: str, arguments: Namespace) -> None:
    """Write ranks, tables and picture, each whole or not at all."""
    table = ranking.tidy(sort=True)
    about = {
        "formula": formula,
        "by": ranking.place.group,
        **{name: getattr(ranking, name) for name in QUESTION},
        "adjusted_for": list(ranking.adjusted_for),
    }
    writing.write_results(
        arguments, lambda: table, lambda: {"ranking": about, "levels": writing.records(table)}
    )
    for name in arguments.table:
        ranking.write(name, title=arguments.title)
    if arguments.plot is not None:
        from ranef.questions.levels import rank_pictures

        writing.write_picture(
            lambda canvas: rank_pictures.ranks(ranking, figure=canvas), arguments.plot, dpi=150
        )


VERB = Verb(
    name="rank",
    help="rank the levels of a grouping factor of a saved fit or of a model",
    description="Rank the levels of a grouping factor of a saved fit or of a model, and show how "
    "certain the order is.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=('ranef rank "diameter ~ 1 + (1 | plate) + (1 | sample)" Penicillin --by sample',),
)
