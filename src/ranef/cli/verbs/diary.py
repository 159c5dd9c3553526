"""``ranef diary``: experience sampling data, analysed in one call."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ranef.cli import models, options
from ranef.cli.values import page_file, whole
from ranef.cli.verb import Code, Verb, code_of
from ranef.cli.writing import (
    PICTURES,
    TABLES,
    check_files,
    records,
    write_picture,
    write_results,
)

__all__ = ["VERB"]

EPILOG = """\
The slopes within persons and between them, the shares of variance by level, the
reliability of means, the autocorrelation by clock time, each person's instability and
inertia, compliance, and each person's slope. Rows may come in any order. Times are
datetimes in ISO 8601 (2025-03-29T14:05, with or without an offset), dates with the day
first (29.03.2025 14:05), or numbers.

The table is a file as for ranef fit, an SPSS file (.sav, with the extra ranef[spss]),
or a CSV export of m-Path, movisensXS, LifeData or Qualtrics, recognised by what it holds:
m-Path gets the columns scheduled, sent, start and stop, movisensXS start and finish, LifeData
scheduled and start.

examples:
  ranef diary diary.csv --outcome mood --predictor stress --predictor support \\
      --person id --time answered --scheduled planned --report diary.html
  ranef diary study.sav --outcome na --predictor stress --person ID --time beep --day day
  ranef diary mpath.csv --outcome mood_sliderNegPos --predictor stress_sliderNegPos \\
      --person connectionId --time start --scheduled scheduled --max-gap 5h
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef diary``."""
    options.add_data(parser, formula=False)
    columns = parser.add_argument_group("columns")
    columns.add_argument("--outcome", metavar="COL", required=True, help="the outcome")
    columns.add_argument(
        "--predictor",
        metavar="COL",
        action="append",
        required=True,
        help="a predictor, taken apart within and between persons; may be given several times",
    )
    columns.add_argument("--person", metavar="COL", required=True, help="who answered")
    columns.add_argument("--time", metavar="COL", required=True, help="when it was answered")
    columns.add_argument("--day", metavar="COL", help="the day (of datetimes the date)")
    columns.add_argument("--prompt", metavar="COL", help="the number of the prompt in its day")
    columns.add_argument(
        "--scheduled",
        metavar="COL|N",
        help="what was scheduled: a column of times or of 0 and 1, or prompts a day",
    )
    columns.add_argument(
        "--covariate",
        metavar="COL",
        help="a column that enters without centring; may be given several times",
        **options.SEVERAL,
    )
    model = parser.add_argument_group("model")
    model.add_argument("--by-day", action="store_true", help="take predictors apart by day too")
    model.add_argument("--no-slopes", action="store_true", help="one slope within for all persons")
    model.add_argument("--lagged", action="store_true", help="add the outcome at the prompt before")
    clock = parser.add_argument_group("clock")
    clock.add_argument(
        "--max-gap", metavar="SPAN", help="longest time between successive prompts: 3h, 90min"
    )
    clock.add_argument(
        "--time-zone", metavar="ZONE|COL", help="Europe/Berlin, or a column of time zones"
    )
    clock.add_argument(
        "--day-starts", type=whole, default=4, metavar="HOUR", help="when a day begins (4)"
    )
    options.add_reading(parser)
    results = parser.add_argument_group("results")
    options.add_out(results, "write all tables to a .json, the effects to a .csv file")
    results.add_argument(
        "--report", metavar="FILE.html", type=page_file, help="write the report, one HTML page"
    )
    options.add_table(results)
    results.add_argument(
        "--plot", metavar="FILE", help="draw the effects within and between: .png, .svg or .pdf"
    )
    options.add_level(results)
    options.add_quiet(results)


def run(arguments: Namespace) -> Code:
    """Analyse the diary, print it, write its files."""
    import ranef

    check_files(arguments, report=(), table=TABLES, plot=PICTURES)
    found = ranef.diary(
        _table(arguments),
        arguments.outcome,
        arguments.predictor,
        person=arguments.person,
        time=arguments.time,
        day=arguments.day,
        prompt=arguments.prompt,
        scheduled=_scheduled(arguments.scheduled),
        covariates=arguments.covariate,
        by_day=arguments.by_day,
        slopes=not arguments.no_slopes,
        lagged=arguments.lagged,
        max_gap=_span(arguments.max_gap),
        time_zone=arguments.time_zone,
        day_starts=arguments.day_starts,
        conf_level=arguments.conf_level,
    )
    if not arguments.quiet:
        print(found)
    write_results(arguments, found.effects, lambda: _results(found))
    if arguments.report is not None:
        found.report(arguments.report, call=arguments.call)
    for name in arguments.table:
        found.write(name)
    if arguments.plot is not None:
        write_picture(lambda canvas: found.plot.effects(figure=canvas), arguments.plot, dpi=200)
    return code_of(found.fit)


def _table(arguments: Namespace) -> Any:
    from ranef.fields.diary.exports import LIFEDATA_SILENCES, is_spss, read_export, recognised

    path = Path(arguments.data)
    if path.is_file() and is_spss(path):
        from ranef.cli.reading import without_marks

        return without_marks(read_export(path).table, arguments.na)
    named = [arguments.outcome, *arguments.predictor, arguments.person, arguments.time]
    named += [*arguments.covariate, arguments.day, arguments.prompt, arguments.scheduled]
    formula = f"~ {' + '.join(name for name in named if name is not None)}"
    arguments.na = [*arguments.na, *LIFEDATA_SILENCES]
    return recognised(models.read(arguments, formula)).table


def _scheduled(written: str | None) -> str | int | None:
    return int(written) if written is not None and written.isdecimal() else written


def _span(written: str | None) -> str | float | None:
    try:
        return None if written is None else float(written)
    except ValueError:
        return written


def _results(found: Any) -> dict[str, Any]:
    """Return every table as plain JSON values."""
    return {
        "diary": {
            "outcome": found.roles.outcome,
            "predictors": list(found.roles.predictors),
            "formula": found.fit.formula,
            "conf_level": found.conf_level,
            "persons": found.occasions.n_persons,
            "rows": found.fit.n_obs,
            "notes": list(found.occasions.notes),
            "concerns": [{"about": c.about, "text": c.text} for c in found.concerns],
        },
        **{listing.name: records(found.tabled(listing)) for listing in found.tables()},
    }


VERB = Verb(
    name="diary",
    help="analyse a diary (experience sampling): within, between, dynamics, compliance",
    description="Analyse experience sampling data: within and between persons, in one call.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
    first_steps=(
        "ranef diary diary.csv --outcome mood --predictor stress --person id --time answered",
    ),
)
