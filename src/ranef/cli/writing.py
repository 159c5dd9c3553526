"""The files that a fit leaves behind."""

from __future__ import annotations

import json
import math
import os
import platform
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranef.errors import FileError, ModelError

if TYPE_CHECKING:
    from ranef.api.fits import GeneralizedMixedModelFit, LinearMixedModelFit

    MixedFit = LinearMixedModelFit | GeneralizedMixedModelFit

__all__ = [
    "as_csv",
    "check_kinds",
    "check_outputs",
    "check_places",
    "degrees",
    "records",
    "results",
    "strict",
    "versions",
    "write_outputs",
]

KINDS = (".json", ".csv")
TABLES = (".docx", ".tex", ".html", ".htm", ".md", ".txt")


def degrees(options: Namespace) -> dict[str, Any]:
    """Return the method of the degrees of freedom where one was given."""
    return {} if options.df is None else {"df": options.df}


def check_outputs(options: Namespace) -> None:
    """Refuse, before any work, files that could not be written after it."""
    check_kinds(options.out)
    _check_table(options.table)
    check_places([*options.out, options.report, options.table, options.save], options.data)


def check_kinds(names: Sequence[str]) -> None:
    """Refuse results whose name says of no format."""
    for name in names:
        if Path(name).suffix.lower() not in KINDS:
            raise ModelError(
                f"--out {name}: the name decides the format and must end in .json or .csv"
            )


def _check_table(name: str | None) -> None:
    if name is None:
        return
    suffix = Path(name).suffix.lower()
    if suffix not in TABLES:
        raise ModelError(
            f"--table {name}: the name decides the format and must end in one of "
            f"{', '.join(TABLES)}"
        )


def check_places(wanted: Sequence[str | None], data: str) -> None:
    """Refuse places that cannot be written, the table itself, and one place for two."""
    given = [Path(name) for name in wanted if name is not None]
    for path in given:
        _check_place(path)
        if path.exists() and path.resolve() == Path(data).resolve():
            raise ModelError(f"{str(path)!r} is the table itself; give the result another name")
    twice = {str(path) for path in given if given.count(path) > 1}
    if twice:
        raise ModelError(f"{sorted(twice)[0]!r} is asked for twice; give each result its own file")


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise FileError(f"cannot write {str(path)!r}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise FileError(
            f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}; create it first"
        )
    if not os.access(path.parent, os.W_OK):
        raise FileError(f"cannot write {str(path)!r}: the folder is not writable")


def write_outputs(fit: MixedFit, options: Namespace) -> None:
    """Write every file that was asked for, each whole or not at all."""
    import ranef
    from ranef.display import files
    from ranef.report import page

    for name in options.out:
        if name.lower().endswith(".json"):
            text = json.dumps(results(fit, options), allow_nan=False, ensure_ascii=False, indent=1)
            files.write_atomically(name, f"{text}\n")
        else:
            fixed = fit.tidy("fixed", conf_level=options.conf_level, **degrees(options))
            files.write_atomically(name, as_csv(fixed, ("term", "estimate")))
    if options.report is not None:
        page.write(
            fit,
            options.report,
            conf_level=options.conf_level,
            call=options.call,
            **degrees(options),
        )
    if options.table is not None:
        ranef.table(fit, options.table, conf_level=options.conf_level, df=options.df)
    if options.save is not None:
        fit.save(options.save)


def results(fit: MixedFit, options: Namespace) -> dict[str, Any]:
    """Return everything about a fit as plain JSON values."""
    spec = fit.estimate.specification
    level = options.conf_level
    return {
        "versions": versions(),
        "call": options.call,
        "model": {
            "formula": fit.formula,
            "response": spec.response,
            "reml": fit.estimate.reml,
            "weights": options.weights,
            "offset": options.offset,
            "conf_level": level,
            **_family(fit),
        },
        "accounting": {
            "n_rows": spec.accounting.n_rows,
            "n_used": spec.accounting.n_used,
            "n_dropped": spec.accounting.n_dropped,
            "n_zero_weight": spec.accounting.n_zero_weight,
            "missing": {name: int(count) for name, count in spec.accounting.missing.items()},
            "groups": {factor.name: factor.n_levels for factor in fit.estimate.factors},
            "dropped_columns": list(spec.dropped_columns),
        },
        "glance": records(fit.glance())[0],
        "fixed": records(fit.tidy("fixed", conf_level=level, **degrees(options))),
        "variance": records(fit.tidy("variance", conf_level=level)),
        "random": records(fit.tidy("random", conf_level=level)),
        "optimum": _optimum(fit),
    }


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


def _optimum(fit: MixedFit) -> dict[str, Any]:

    found, terms = fit.optimum, fit.estimate.terms
    numbers = {
        name: [strict(value) for value in getattr(found, name)]
        for name in ("theta", "gradient", "trace")
    }
    plain = {
        name: strict(getattr(found, name))
        for name in (
            "criterion",
            "decrement",
            "tolerance",
            "converged",
            "singular",
            "evaluations",
            "restarts",
            "path",
            "message",
        )
    }
    faces = [
        {
            "term": terms[face.term].label,
            "rank": int(face.rank),
            "size": int(face.size),
            "description": face.description,
            "curvature": strict(face.curvature),
        }
        for face in found.faces
    ]
    return {**plain, **numbers, "faces": faces}


def _family(fit: MixedFit) -> dict[str, Any]:
    """Return what a generalised model has beside a linear one."""
    from ranef.models.records import GeneralisedEstimate

    estimate = fit.estimate
    if not isinstance(estimate, GeneralisedEstimate):
        return {}
    return {
        "family": estimate.family.name,
        "link": estimate.family.link,
        "quadrature": estimate.quadrature,
        "formulas": {name: part.formula for name, part in estimate.parts.items()},
    }


def records(table: Any) -> list[dict[str, Any]]:
    """Return a table as one dictionary a row."""
    from ranef.tables import Table

    source = Table.of(table)
    columns = [source.values(name).tolist() for name in source.columns]
    names = source.columns
    return [
        {name: strict(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def as_csv(table: Any, empty: Sequence[str] = ()) -> str:
    """Return a table as comma-separated text; `empty` are the columns where it has no rows."""
    import csv
    import io

    stream = io.StringIO()
    rows = records(table)
    names = list(rows[0]) if rows else list(empty)
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def versions() -> dict[str, str]:
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
