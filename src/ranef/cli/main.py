"""From arguments to an exit code."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TextIO

from ranef.cli.parser import (
    BUG,
    FILE_ERROR,
    INTERRUPTED,
    NOT_CONVERGED,
    OK,
    PIPE_CLOSED,
    USAGE_ERROR,
    make_parser,
)
from ranef.errors import FileError, ModelError, RanefError, suggestion

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``ranef`` and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        0 done, 1 fitted but the optimum is not proved, 2 wrong usage, formula
        or data, 3 a file cannot be read or written, 130 interrupted.

    Examples
    --------
    >>> main(["--version"])
    ranef ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE_ERROR
    options.call = shlex.join(["ranef", *arguments])
    with _warnings_in_one_line():
        return _guarded(options)


def _guarded(options: Namespace) -> int:
    """Run the chosen command; turn every error into a line and a code."""
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        sys.stdout = _nowhere()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except FileError as error:
        return _complain(str(error), FILE_ERROR)
    except RanefError as error:
        return _complain(str(error), USAGE_ERROR)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", USAGE_ERROR)
    except Exception:
        traceback.print_exc()
        return _complain("this is a bug in ranef; please report it with the lines above", BUG)


def _run(options: Namespace) -> int:
    commands = {"fit": _fit, "rank": _rank, "compare": _compare, "plan": _plan}
    return commands[options.command](options)


def _plan(options: Namespace) -> int:
    import ranef

    _check_family(options)
    data = _read(options, options.formula)
    found = ranef.plan(
        options.formula, data, path=options.path, **_model(options), **_generalised(options)
    )
    print(found)
    return OK


def _fit(options: Namespace) -> int:
    from ranef.cli.writing import check_outputs, degrees, write_outputs

    _check_family(options)
    check_outputs(options)
    fit = _fitted(options, _read(options, options.formula), options.formula)
    if not options.quiet:
        print(fit.summary(conf_level=options.conf_level, **degrees(options)))
    write_outputs(fit, options)
    if options.check:
        print(fit.check() if options.quiet else f"\n{fit.check()}")
    return OK if fit.optimum.converged else NOT_CONVERGED


def _rank(options: Namespace) -> int:
    from ranef.cli.answers import check_answers, write_ranking

    _check_family(options)
    check_answers(options)
    fit = _fitted(options, _read(options, options.formula), options.formula)
    names = ("statistic", "scale", "order", "top", "threshold", "conf_level")
    asked = {name: getattr(options, name) for name in names}
    found = fit.rank(options.by, n=options.draws, rng=options.seed, **asked)
    if not options.quiet:
        print(found)
    write_ranking(found, options)
    return OK if fit.optimum.converged else NOT_CONVERGED


def _compare(options: Namespace) -> int:
    import ranef
    from ranef.cli.answers import check_answers, write_comparison

    _check_family(options)
    if len(options.formulas) < 2:
        raise ModelError(
            "compare takes two formulas or more, and then the table: "
            "ranef compare 'y ~ 1 + (1 | g)' 'y ~ x + (1 | g)' data.csv"
        )
    check_answers(options)
    data = _read(options, *options.formulas)
    fits = [_fitted(options, data, formula) for formula in options.formulas]
    drawn = {} if options.bootstrap is None else {"method": "bootstrap", "n": options.bootstrap}
    found = ranef.anova(
        *fits,
        refit=not options.no_refit,
        rng=options.seed,
        n_jobs=options.n_jobs,
        progress=False if options.quiet else None,
        **drawn,
    )
    if not options.quiet:
        print(found)
    write_comparison(found, options)
    return OK if all(fit.optimum.converged for fit in fits) else NOT_CONVERGED


def _fitted(options: Namespace, data: Any, formula: str) -> Any:
    """Fit the linear model, or with --family the generalised one."""
    import ranef

    shared: dict[str, Any] = {
        "path": options.path,
        "n_jobs": options.n_jobs,
        "progress": False if options.quiet else None,
        **_model(options),
    }
    if options.family is None:
        return ranef.lmm(formula, data, reml=not options.ml, **shared)
    return ranef.glmm(
        formula,
        data,
        reml=options.reml,
        **_generalised(options),
        **shared,
    )


def _check_family(options: Namespace) -> None:
    """Refuse options of generalised models without a family."""
    given = {
        "--link": options.link,
        "--zero": options.zero,
        "--dispersion": options.dispersion,
        "--nominal": options.nominal,
        "--quadrature": options.quadrature,
        "--shape": options.shape or None,
        "--reml": getattr(options, "reml", False) or None,
    }
    for name, value in given.items():
        if options.family is None and value is not None:
            raise ModelError(
                f"{name} belongs to a generalised model: add --family, such as --family poisson"
            )


def _generalised(options: Namespace) -> dict[str, Any]:
    """Return the arguments of `ranef.glmm` that were given."""
    if options.family is None:
        return {}
    named = {
        "link": options.link,
        "zero": options.zero,
        "dispersion": options.dispersion,
        "nominal": options.nominal,
    }
    found: dict[str, Any] = {name: text for name, text in named.items() if text is not None}
    if options.quadrature is not None:
        found["quadrature"] = options.quadrature
    if options.shape:
        found["shapes"] = dict(options.shape)
    return {"family": options.family, **found}


def _prior(kind: str, numbers: tuple[float, ...]) -> Any:
    """Return a prior of `ranef.priors` by its name."""
    from ranef import priors

    known = [name for name in priors.__all__ if name != "Prior"]
    if kind not in known:
        listed = ", ".join(known)
        raise ModelError(f"no prior {kind!r}{suggestion(kind, known)}; there are {listed}")
    made = getattr(priors, kind)
    if len(numbers) > len(fields(made)):
        names = ", ".join(field.name for field in fields(made))
        raise ModelError(f"the prior {kind} takes {names}, not {len(numbers)} numbers")
    return made(*numbers)


def _model(options: Namespace) -> dict[str, Any]:
    """Return the arguments that `lmm`, `glmm` and `plan` share."""
    return {
        "priors": {name: _prior(*prior) for name, prior in options.prior} or None,
        "fixed": dict(options.fixed) or None,
        "equal": options.equal or None,
        "weights": options.weights,
        "offset": options.offset,
        "missing": options.missing,
    }


def _read(options: Namespace, *formulas: str) -> Any:
    """Read the table; tell on stderr what was decided about it."""
    from ranef.cli.checks import check_formula
    from ranef.cli.reading import Reading, read_table

    for formula in formulas:
        check_formula(formula, options.data, options.command)
    reading = Reading(
        separator=options.sep,
        decimal=options.decimal,
        encoding=options.encoding,
        missing=tuple(options.na),
        factors=tuple(options.factor),
        numbers=tuple(options.number),
    )
    data, notes = read_table(options.data, reading)
    for note in notes:
        print(f"ranef: note: {note}", file=sys.stderr)
    return data


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    print(f"ranef: {'' if code == INTERRUPTED else 'error: '}{line}", file=sys.stderr)
    return code


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show ranef's warnings as sentences, without file and line."""
    from ranef.errors import RanefWarning

    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RanefWarning):
            print(f"ranef: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RanefWarning)
        warnings.showwarning = show
        yield


def _nowhere() -> TextIO:
    """Return a stream that takes what is still to be flushed at exit."""
    return open(os.devnull, "w", encoding="utf-8")
