"""From the arguments of a command to its table and its fits."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ranef.errors import FormulaError, ModelError, name_rows, suggestion

__all__ = ["check_family", "fitted", "keywords", "progress", "read"]

COLUMNS = (
    "weights", "offset", "groups", "time", "sampling_weights", "dropout", "variance", "std_error",
    "study",
)  # fmt: skip
GENERALISED = ("link", "zero", "nominal", "quadrature", "shape")
EITHER = ("dispersion",)


def check_family(arguments: Namespace) -> None:
    """Refuse options of generalised models without a family."""
    _check_linear(arguments)
    for name in (*GENERALISED, "reml"):
        if arguments.family is None and getattr(arguments, name, False) not in (None, False):
            raise ModelError(
                f"--{name} belongs to a generalised model: add --family, such as --family poisson"
            )


def _check_linear(arguments: Namespace) -> None:
    if arguments.family is not None and getattr(arguments, "residual", None) is not None:
        raise ModelError("--residual belongs to a linear model: leave --family out")


def read(arguments: Namespace, *formulas: str, suggests: bool = True) -> Any:
    """Read the table; tell on stderr what was decided about it, and which order levels may have."""
    from ranef.cli.reading import Reading, read_table

    for formula in formulas:
        _check_formula(formula, arguments.data, arguments.command)
    reading = Reading(
        separator=arguments.sep,
        decimal=arguments.decimal,
        encoding=arguments.encoding,
        missing=tuple(arguments.na),
        thousands=_thousands(arguments),
        skip=arguments.skip,
        sheet=arguments.sheet,
        gigabytes=arguments.max_gb,
        factors=tuple(arguments.factor),
        numbers=tuple(arguments.number),
        levels=tuple(arguments.levels),
        formulas=_in_use(arguments, formulas),
        suggests=suggests,
        unified=tuple(arguments.unify),
        distinct=arguments.distinct,
    )
    table = read_table(arguments.data, reading)
    for note in table.notes:
        print(f"ranef: note: {note}", file=sys.stderr)
    name_rows(table.place)
    return table.data


def _thousands(arguments: Namespace) -> str | None:
    if arguments.thousands is not None and arguments.thousands == arguments.decimal:
        raise ModelError("--thousands and --decimal are the same mark; a number has two")
    found: str | None = arguments.thousands
    return found


def _in_use(arguments: Namespace, formulas: Sequence[str]) -> str:
    """Return every text in which columns that the model uses are named."""
    names = (*COLUMNS, *EITHER, *GENERALISED)
    options = (getattr(arguments, name, None) for name in names)
    given = (value for value in options if value is not None)
    lists = (getattr(arguments, name, None) or () for name in ("residual", "columns"))
    return " ".join(map(str, (*formulas, *given, *(text for texts in lists for text in texts))))


def fitted(arguments: Namespace, data: Any, formula: str) -> Any:
    """Fit the linear model, or with --family the generalised one."""
    import ranef

    shared = {**keywords(arguments), "n_jobs": arguments.n_jobs, "progress": progress(arguments)}
    if arguments.family is None:
        return ranef.lmm(formula, data, reml=not arguments.ml, **shared)
    fit = ranef.glmm(formula, data, reml=arguments.reml, **shared)
    if not arguments.quiet:
        _tell_event(fit, data, arguments)
    return fit


def _tell_event(fit: Any, data: Any, arguments: Namespace) -> None:
    """Say which of two categories of text is the event, and how the other becomes it."""
    levels, name = fit.levels, fit.response
    stated = name not in data.columns or name in dict(arguments.levels)
    if stated or len(levels or ()) != 2 or not all(isinstance(level, str) for level in levels):
        return
    other, event = levels
    order = shlex.quote(f"{name}={event},{other}")
    print(
        f"ranef: note: the event is {name} = {event!r}; --levels {order} makes it {other!r}",
        file=sys.stderr,
    )


def progress(arguments: Namespace) -> bool | None:
    """Return whether a bar is shown; None leaves that to ranef."""
    return False if arguments.quiet else None


def keywords(arguments: Namespace) -> dict[str, Any]:
    """Return the arguments that `plan` shares with `lmm` or, with --family, with `glmm`."""
    shared = {
        "path": arguments.path,
        "priors": {name: _prior(*prior) for name, prior in arguments.prior} or None,
        "fixed": dict(arguments.fixed) or None,
        "equal": arguments.equal or None,
        "weights": arguments.weights,
        "offset": arguments.offset,
        "missing": arguments.missing,
        "undetermined": arguments.undetermined,
        "random": arguments.random,
    }
    either = {name: getattr(arguments, name, None) for name in EITHER}
    shared |= {name: value for name, value in either.items() if value is not None}
    if structures := getattr(arguments, "residual", None):
        shared["residual"] = structures[0] if len(structures) == 1 else structures
    if arguments.family is None:
        return shared
    given = {name: getattr(arguments, name) for name in GENERALISED}
    of_family = {name: value for name, value in given.items() if value is not None}
    if "shape" in of_family:
        of_family["shapes"] = dict(of_family.pop("shape"))
    return {**shared, "family": arguments.family, **of_family}


def _prior(kind: str, numbers: tuple[float, ...]) -> Any:
    """Return a prior of `ranef.priors` by its name."""
    from ranef import priors

    kinds = [name for name in priors.__all__ if name != "Prior"]
    if kind not in kinds:
        listed = ", ".join(kinds)
        raise ModelError(f"no prior {kind!r}{suggestion(kind, kinds)}; there are {listed}")
    prior = getattr(priors, kind)
    if len(numbers) > len(fields(prior)):
        names = ", ".join(field.name for field in fields(prior))
        raise ModelError(f"the prior {kind} takes {names}, not {len(numbers)} numbers")
    return prior(*numbers)


def _check_formula(formula: str, data: str, command: str) -> None:
    """Refuse a formula without a tilde; recognise one that changed places with the table."""
    if "~" in formula:
        return
    if "~" in data:
        raise FormulaError(
            f"the formula comes first and the table last: ranef {command} '{data}' '{formula}'"
        )
    if command == "compare" and os.path.isfile(formula):
        raise FormulaError(
            f"{formula!r} is a file: formulas come first and the table last. Saved fits are "
            "compared by ranef anova a.ranef b.ranef"
        )
    if os.path.exists(formula):
        raise FormulaError(
            f"the first argument is the formula, and {formula!r} is a file; "
            f"write ranef {command} 'y ~ x + (1 | g)' '{formula}'"
        )
    raise FormulaError(
        f"the formula {formula!r} has no '~'; write the response before it and the rest after it, "
        "as in 'y ~ x + (1 | g)'"
    )
