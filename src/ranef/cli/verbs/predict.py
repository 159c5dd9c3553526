"""``ranef predict``: what a fit expects of the rows of a table."""

from __future__ import annotations

import io
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ranef.cli import asking, models, options, writing
from ranef.cli.verb import Code, Verb, code_of
from ranef.errors import ModelError

__all__ = ["VERB"]

EPILOG = f"""\
{asking.FITTING}
The rows are those of --new, a table with the columns that the formula uses, or of a table behind a
saved fit; without it those that were fitted. Of a model of categories each row has a line for each.
--out keeps the columns of the table and adds estimate, std_error, conf_low and conf_high.

examples:
  ranef predict "Reaction ~ Days + (Days | Subject)" sleepstudy --out fitted.csv
  ranef predict sleep.ranef --new monday.csv --interval new --out monday_predicted.csv
  ranef predict wards.ranef new_wards.csv --kind population --out expected.csv
"""

SHOWN = 12


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``ranef predict``."""
    asking.add_fit(parser)
    question = parser.add_argument_group("predictions")
    question.add_argument("--new", metavar="TABLE", help="the rows to predict")
    question.add_argument(
        "--kind",
        choices=("conditional", "typical", "population"),
        metavar="KIND",
        help="with the level's own effect (conditional, the default of mixed models), at an effect "
        "of zero (typical), or over all levels (population)",
    )
    question.add_argument(
        "--type",
        choices=("response", "link"),
        metavar="SCALE",
        help="on the scale of the response, or of the link (response)",
    )
    question.add_argument(
        "--interval",
        choices=("mean", "new"),
        metavar="OF",
        help="interval of the mean, or of a new response (mean)",
    )
    results = parser.add_argument_group("results")
    options.add_out(results, "write rows and predictions to a .csv or .json file")
    results.add_argument("--save", metavar="FILE", help="write the fit for ranef.load in Python")
    options.add_level(results)
    options.add_quiet(results)


def run(arguments: Namespace) -> Code:
    """Fit or load, predict, write the rows."""
    _take_table(arguments)
    writing.check_files(arguments, save=())
    if arguments.new is not None and arguments.new in arguments.out:
        raise ModelError(f"{arguments.new!r} is the table itself; give the result another name")
    fit = asking.fit_of(arguments)
    new = _new_rows(arguments, fit)
    named = {name: getattr(arguments, name) for name in ("kind", "type", "interval")}
    if new is not None and arguments.kind in (None, "conditional"):
        _tell_new_levels(fit, new)
    predicted = fit.predict(
        new,
        conf_level=arguments.conf_level,
        **{name: value for name, value in named.items() if value is not None},
    )
    rows = _beside(fit, new, predicted)
    about = {name: value for name, value in named.items() if value is not None}
    writing.write_results(
        arguments,
        lambda: rows,
        lambda: {"formula": fit.formula, **about, "rows": writing.records(rows)},
    )
    if arguments.save is not None:
        fit.save(arguments.save)
    if not arguments.quiet:
        _show(rows)
    return code_of(fit)


def _take_table(arguments: Namespace) -> None:
    """Take the table that stands behind a saved fit as the rows to predict."""
    saved = "~" not in arguments.formula and Path(arguments.formula).is_file()
    if not saved or arguments.data is None or "~" in arguments.data:
        return
    if not asking.is_saved(arguments.formula):
        return
    if arguments.new is not None:
        raise ModelError(
            f"{arguments.data!r} and --new {arguments.new!r} are both rows to predict: give one"
        )
    arguments.new, arguments.data = arguments.data, None


def _new_rows(arguments: Namespace, fit: Any) -> Any:
    if arguments.new is None:
        return None
    own = Namespace(**{**vars(arguments), "data": arguments.new, "formula": fit.formula})
    return models.read(own, fit.formula, suggests=False)


def _tell_new_levels(fit: Any, new: Any) -> None:
    """Say which levels of the new rows the fit has not seen."""
    from ranef.formula.labels import list_text
    from ranef.tables import Table

    table, told = Table.of(new), set[str]()
    for spec in getattr(fit, "parts", {}).values():
        for factor, each in enumerate(spec.factors):
            if each.name in told:
                continue
            codes, labels = spec.recipe.unseen(table, factor)
            found = [":".join(labels[k]) for k in dict.fromkeys(codes[codes >= 0].tolist())]
            if found:
                told.add(each.name)
                print(
                    f"ranef: note: {each.name} has {len(found):,} level"
                    f"{'s' * (len(found) > 1)} that the fit has not seen: {list_text(found)}; "
                    "predicted from the distribution of the levels, with an interval as wide",
                    file=sys.stderr,
                )


def _beside(fit: Any, new: Any, predicted: Any) -> Any:
    """Put the predictions beside the rows that they belong to, one for each category if any."""
    import numpy as np
    import pandas as pd

    from ranef.tables import Table

    table = Table.of(fit.augment() if new is None else new)
    own = Table.of(predicted)
    each = len(predicted) // max(len(table), 1)
    columns = {name: np.repeat(table.values(name), each) for name in table.columns}
    shown = [name for name in own.columns if each == 1 or name != "row"]
    taken = [name for name in shown if name in columns]
    if new is not None and taken:
        raise ModelError(f"the table has a column {taken[0]!r} already; rename it")
    return pd.DataFrame({**columns, **{name: own.values(name) for name in shown}})


def _show(rows: Any) -> None:
    stream = io.StringIO()
    rows.head(SHOWN).to_string(stream, index=False, float_format=lambda x: f"{x:.6g}")
    print(stream.getvalue())
    if len(rows) > SHOWN:
        print(f"... {len(rows) - SHOWN:,} more rows; --out FILE writes all")


VERB = Verb(
    name="predict",
    help="predict the rows of a table by a saved fit or a model",
    description="Predict the rows of a table, with intervals, by a saved fit or a model.",
    epilog=EPILOG,
    add_arguments=add_arguments,
    run=run,
)
