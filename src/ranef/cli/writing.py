"""The files that a command leaves behind: checked before any work, written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import re
import stat
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ranef.errors import FileError, ModelError

__all__ = [
    "PICTURES",
    "TABLES",
    "as_csv",
    "check_files",
    "check_results",
    "files_of",
    "records",
    "strict",
    "write_fit",
    "write_picture",
    "write_results",
]

RESULTS = (".json", ".csv")
PICTURES = (".png", ".svg", ".pdf")
TABLES = (".docx", ".tex", ".html", ".htm", ".md", ".txt")
SHOWN = 200
_FORMULA = re.compile(r"[=@\t\r]|[+-].*[(|!]")


def check_files(arguments: Namespace, **kinds: Sequence[str]) -> None:
    """Refuse, before any work, files that could not be written after it.

    Parameters
    ----------
    arguments : Namespace
        With ``out`` and ``data``.
    **kinds
        Further options that name a file, and the endings that it may have; none for any.
    """
    check_results(arguments, _read(arguments), out=RESULTS, **kinds)


def check_results(arguments: Namespace, read: Sequence[str], **kinds: Sequence[str]) -> None:
    """Refuse, before any work, files that could not be written after it, or are what is read.

    Parameters
    ----------
    arguments : Namespace
    read : sequence of str
        Names of what the command reads.
    **kinds
        As of `check_files`, ``out`` among them.
    """
    from ranef.arguments import path as named_path  # --help imports nothing large

    named = [(option, name) for option in kinds for name in files_of(getattr(arguments, option))]
    for option, name in named:
        _check_kind(option, name, kinds[option])
    paths = [named_path(name) for _, name in named]
    sources = [os.path.realpath(named_path(name)) for name in read if name]
    for path in paths:
        _check_place(path)
        if path.exists() and os.path.realpath(path) in sources:
            raise ModelError(f"{str(path)!r} is what the command reads; name the result otherwise")
    twice = {str(path) for path in paths if paths.count(path) > 1}
    if twice:
        raise ModelError(f"{sorted(twice)[0]!r} is asked for twice; give each result its own file")


def _read(arguments: Namespace) -> list[str]:
    """Names of what the command reads: the table, and a saved fit in place of a formula."""
    formula = getattr(arguments, "formula", None) or "~"
    return [name for name in (arguments.data, formula) if name is not None and "~" not in name]


def files_of(given: str | list[str] | None) -> list[str]:
    """Names of files of an option that takes one or several."""
    if given is None:
        return []
    return [given] if isinstance(given, str) else given


def _check_kind(option: str, name: str, kinds: Sequence[str]) -> None:
    if not kinds or Path(name).suffix.lower() in kinds:
        return
    words = " or ".join(kinds) if len(kinds) == 2 else f"one of {', '.join(kinds)}"
    numbers = Path(name).suffix.lower() in RESULTS and option == "table"
    hint = f"; numbers are written by --out {name}" if numbers else ""
    raise ModelError(
        f"--{option} {name}: the name decides the format and must end in {words}{hint}"
    )


def _check_place(path: Path) -> None:
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot write {str(path)[:SHOWN]!r}: {reason.lower()}") from error
    if stat.S_ISDIR(kind):
        raise FileError(f"cannot write {str(path)!r}: it is a folder; give a file name")
    if not stat.S_ISREG(kind):
        return
    if not path.parent.is_dir():
        raise FileError(
            f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}; create it first"
        )
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write {str(path)!r}: the folder is not writable")


def write_picture(draw: Callable[[Any], Any], path: str, dpi: int) -> None:
    """Write what is drawn on a figure in the format that the name ends in, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ranef.display.files import write_atomically

    canvas, stream = Figure(layout="constrained"), io.BytesIO()
    FigureCanvasAgg(canvas)
    draw(canvas)
    canvas.savefig(stream, format=Path(path).suffix[1:].lower(), dpi=dpi, bbox_inches="tight")
    write_atomically(path, stream.getvalue())


def write_results(
    arguments: Namespace,
    table: Callable[[], Any],
    document: Callable[[], dict[str, Any]],
    empty: Sequence[str] = (),
) -> None:
    """Write each file of ``--out``: a table as CSV, a document as JSON.

    Parameters
    ----------
    arguments : Namespace
        With ``out`` and ``call``.
    table, document : callable
        Give what is written where it is asked for.
    empty : sequence of str
        Columns of a table without rows.
    """
    from ranef.display import files

    for name in arguments.out:
        if name.lower().endswith(".csv"):
            files.write_atomically(name, as_csv(table(), empty))
        else:
            about = {"versions": _versions(), "call": arguments.call, **document()}
            text = json.dumps(about, allow_nan=False, ensure_ascii=False, indent=1)
            files.write_atomically(name, f"{text}\n")


def write_fit(fit: Any, arguments: Namespace, how: dict[str, Any]) -> None:
    """Write the report, the table and the saved fit that were asked for.

    Parameters
    ----------
    fit : a fit
    arguments : Namespace
        With ``report``, ``table``, ``title``, ``save`` and ``call``.
    how : dict
        The level of intervals, and the method of df where one was named.
    """
    import ranef
    from ranef.report import page

    titled = {} if arguments.title is None else {"title": arguments.title}
    for name in arguments.report:
        page.write(fit, name, call=arguments.call, **titled, **how)
    for name in arguments.table:
        ranef.table(fit, name, **titled, **how)
    if arguments.save is not None:
        fit.save(arguments.save)


def strict(value: Any) -> Any:
    """Return `value` as JSON knows it: NumPy scalars plain, what is not finite None.

    Examples
    --------
    >>> import numpy as np
    >>> strict(np.float64("nan")), strict(np.int32(3)), strict("a")
    (None, 3, 'a')
    """
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if str(value) in ("<NA>", "NaT") else str(value)


def records(table: Any) -> list[dict[str, Any]]:
    """Return a table as one dictionary a row."""
    from ranef.tables import Table

    source = Table.of(table)
    columns = [source.values(name).tolist() for name in source.columns]
    return [
        {name: strict(value) for name, value in zip(source.columns, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def as_csv(table: Any, empty: Sequence[str]) -> str:
    """Return a table as CSV; `empty` names the columns of one without rows."""
    stream = io.StringIO()
    rows = [{name: _no_formula(value) for name, value in row.items()} for row in records(table)]
    writer = csv.DictWriter(stream, list(rows[0]) if rows else list(empty), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _no_formula(value: Any) -> Any:
    """Mark a text that a spreadsheet would run as a formula as the text that it is."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _versions() -> dict[str, str]:
    """Return what a result was made with."""
    import numpy as np
    import scipy

    from ranef._version import __version__

    return {
        "ranef": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
