"""The sheet of the libraries: what each is, where it was made, how much went in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, FileError, UnknownColumnError, row_text, shortened, suggestion
from ranef.fields.metagenomics.arrays import CONTROL, PATIENT, POSITIVE, UNUSED
from ranef.tables import Table
from ranef.tables.looks import unit_of

__all__ = ["COLUMNS", "Sheet", "read_sheet"]

Floats = NDArray[np.float64]

COLUMNS = (
    "sample", "is_control", "control_type", "batch", "instrument", "run", "lane", "lab", "well",
    "library", "total_reads", "input_mass", "spike_reads", "spike_mass", "detection_limit",
    "patient", "replicate",
)  # fmt: skip
NUMBERS = ("total_reads", "input_mass", "spike_reads", "spike_mass", "detection_limit")
YES = {
    "true", "yes", "y", "1", "1.0", "t", "control", "negative", "neg", "negative control", "ntc",
    "blank", "water", "extraction blank", "no template control",
}  # fmt: skip
NO = {"false", "no", "n", "0", "0.0", "f", "patient", "sample", "specimen", "case"}
UNITS = re.compile(
    r"[\s_.]*[(\[][^)\]]*[)\]]\s*$|[\s_.](fg|pg|ng|ug|µg|mg|cells|copies)([/_][a-zµ]+)?$"
)
"""What names of columns say of units."""
COMMA = re.compile(r"<?\s*\d+,\d+")
LIKE = 0.75
ZIP = b"PK\x03\x04"


@dataclass(frozen=True, eq=False)
class Sheet:
    """The libraries, in the order of the sheet.

    Attributes
    ----------
    samples : tuple of str
    role : (S,) int array
    kind : tuple of str
        Of control; nothing for patients.
    labels : dict of str to tuple of str
        ``batch, instrument, run, lane, lab, well, library, patient, replicate`` where given.
    numbers : dict of str to (S,) arrays
        Of `NUMBERS` where given; NaN where missing.
    censored : (S,) bool array
        Masses below the limit of detection.
    columns : dict of str to tuple
        All columns, for contrasts.
    notes : tuple of str
    library : str
        Data-frame library of the sheet.
    """

    samples: tuple[str, ...]
    role: NDArray[np.intp]
    kind: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    numbers: dict[str, Floats]
    censored: NDArray[np.bool_]
    columns: dict[str, tuple[Any, ...]]
    notes: tuple[str, ...]
    library: str


def read_sheet(
    given: Any, *, controls: str = "is_control", batch: str = "batch", run: str = "run"
) -> Sheet:
    """Read a sheet from a table or a file.

    A column that is absent is not used; one whose name is nearly that of a known one is asked
    about.
    """
    columns, library, place = _columns(given)
    names = {"is_control": controls, "batch": batch, "run": run}
    for role, name in names.items():
        if not isinstance(name, str):
            raise DataError(f"the column of {role} must be text, not {name!r}")
        if name not in columns and name != role:
            raise UnknownColumnError(
                f"the sheet has no column {name!r}{suggestion(name, list(columns))}; it has "
                f"{', '.join(list(columns)[:12])}"
            )
    if "sample" not in columns:
        raise UnknownColumnError(_without_samples(columns))
    _ask_about_misspelt(columns, names)
    column = {name: columns[names.get(name, name)] for name in COLUMNS
              if names.get(name, name) in columns}  # fmt: skip
    samples = tuple(_label(v) for v in column["sample"])
    _check_samples(samples, place)
    roles, kind = _roles(samples, column)
    numbers, censored = _numbers(samples, column)
    labels: dict[str, tuple[str, ...]] = {
        name: tuple(_label(v) for v in column[name])
        for name in ("batch", "instrument", "run", "lane", "lab", "well", "library", "patient",
                     "replicate")
        if name in column
    }  # fmt: skip
    _check_controls(samples, roles, labels)
    return Sheet(samples, roles, kind, labels, numbers, censored, columns, (), library)


def _columns(given: Any) -> tuple[dict[str, tuple[Any, ...]], str, Callable[[int], str]]:
    if isinstance(given, str | PathLike):
        from ranef.fields.metagenomics.formats import _table

        path = arguments.path(given)
        if _is_workbook(path):
            raise FileError(
                f"{path.name} is an Excel workbook: give pandas.read_excel({path.name!r}) as the "
                "sheet, or save it as CSV"
            )
        heading, rows = _table(path)
        if not rows:
            raise DataError(f"the sheet {given} has no rows")
        columns = dict(zip(heading, zip(*rows, strict=True), strict=True))
        return columns, "pandas", lambda k: f"line {rows[k].line}"
    if given is None:
        raise DataError("samples= needs a sheet with a column 'sample', a table or a path")
    table = given if isinstance(given, Table) else Table.of(given)
    columns = {str(name): _native(table, name) for name in table.columns}
    if not columns or not next(iter(columns.values())):
        raise DataError("the sheet has no rows; give a row for each library")
    return columns, table.library, row_text


def _is_workbook(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(ZIP)) == ZIP


def _without_samples(columns: Mapping[str, Any]) -> str:
    """Say that nothing names the libraries, and which column may be meant."""
    words = ("sample", "library", "specimen")
    near = [name for name in columns if any(word in name.lower() for word in words)]
    hint = (
        f"; is it {near[0]!r}? Call it 'sample'"
        if near else f"; the sheet has {', '.join(map(repr, list(columns)[:8]))}"
    )  # fmt: skip
    return f"the sheet needs a column 'sample', the names of the libraries as in the counts{hint}"


def _native(table: Table, name: str) -> tuple[Any, ...]:
    return tuple(table.values(name).tolist())


def _ask_about_misspelt(columns: Mapping[str, Any], names: Mapping[str, str]) -> None:
    used = {names.get(name, name) for name in COLUMNS}
    for name in columns:
        if name in used or name in COLUMNS:
            continue
        plain = UNITS.sub("", name.strip().lower())
        plain = plain.replace(" ", "_").replace("-", "_").replace(".", "_")
        absent = [known for known in COLUMNS if names.get(known, known) not in columns]
        near = difflib.get_close_matches(plain, absent, 1, LIKE)
        if near and (plain == near[0] or abs(len(plain) - len(near[0])) <= 3):
            raise DataError(
                f"the sheet has a column {name!r} and no {near[0]!r}; did you mean {near[0]!r}? "
                f"Rename it, or give it another name if it is something else"
            )


def _missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return True
    text = str(value).strip()
    return text in ("", "NA", "NaN", "nan", "<NA>", "None", "NaT", ".", "n/a", "N/A")


def _label(value: Any) -> str:
    if _missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _check_samples(samples: tuple[str, ...], place: Callable[[int], str]) -> None:
    if "" in samples:
        raise DataError(f"{place(samples.index(''))} of the sheet has no sample; name its library")
    seen: set[str] = set()
    for name in samples:
        if name in seen:
            raise DataError(
                f"the sample {name!r} occurs twice in the sheet; each library needs a name of its "
                "own (patient= and replicate= say what belongs together)"
            )
        seen.add(name)


def _roles(
    samples: tuple[str, ...], column: Mapping[str, tuple[Any, ...]]
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    types = [_label(v).lower() for v in column.get("control_type", [""] * len(samples))]
    role = np.full(len(samples), PATIENT, dtype=np.intp)
    for k, name in enumerate(samples):
        is_control = types[k] not in ("", "sample", "patient")
        if "is_control" in column:
            given = column["is_control"][k]
            text = _label(given).lower()
            if text not in YES | NO:
                raise DataError(
                    f"is_control of sample {name!r} is {shortened(str(given))}; write True or "
                    "False (control_type says of which kind)"
                )
            said = text in YES
            if not said and is_control:
                raise DataError(
                    f"sample {name!r} has the control_type {types[k]!r} but is_control says it is "
                    "a patient's"
                )
            is_control = said
        if is_control:
            role[k] = CONTROL
            if "positive" in types[k]:
                role[k] = POSITIVE
            elif "unused" in types[k] or "index" in types[k]:
                role[k] = UNUSED
    kind = tuple(
        (types[k] or "negative") if role[k] != PATIENT else "" for k in range(len(samples))
    )
    return role, kind


def _check_controls(
    samples: tuple[str, ...], role: NDArray[np.intp], labels: Mapping[str, tuple[str, ...]]
) -> None:
    for k, patient in enumerate(labels.get("patient", ())):
        if patient and role[k] != PATIENT:
            raise DataError(
                f"sample {samples[k]!r} is a control and also of patient {patient!r}; it can be "
                "only one of them"
            )
    if (role == PATIENT).sum() == 0:
        raise DataError("all libraries of the sheet are controls; there is no patient to screen")


def _numbers(
    samples: tuple[str, ...], column: Mapping[str, tuple[Any, ...]]
) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    out: dict[str, Floats] = {}
    censored = np.zeros(len(samples), dtype=bool)
    for name in NUMBERS:
        if name not in column:
            continue
        values = np.full(len(samples), np.nan)
        texts = _with_points([_label(given) for given in column[name]])
        for k, text in enumerate(texts):
            if text == "":
                continue
            below = text.startswith("<") and name == "input_mass"
            try:
                values[k] = float(text.removeprefix("<") if below else text)
            except ValueError:
                unit = unit_of(text)
                hint = "" if unit is None else f"; leave the unit {unit!r} to the column's name"
                if COMMA.fullmatch(text):
                    hint = "; write a decimal point, and thousands without a mark"
                elif name == "input_mass" and unit is None:
                    hint = "; of a mass below the limit of detection write the limit, as in '<0.1'"
                raise DataError(
                    f"{name} of sample {samples[k]!r} is {shortened(text)}, which is no number"
                    f"{hint}"
                ) from None
            if not 0 <= values[k] < np.inf:
                raise DataError(f"{name} of sample {samples[k]!r} is {text}; it cannot be below 0")
            censored[k] |= below
        out[name] = values
    return out, censored


def _with_points(texts: list[str]) -> list[str]:
    """Numbers with decimal commas as numbers with points, where no other reading is possible.

    ``1,234`` alone may be a thousand: a column is read so only if some number has another number
    of digits behind its comma, and none has a point.
    """
    with_comma = [text for text in texts if COMMA.fullmatch(text)]
    sure = any(len(text.split(",")[1]) != 3 for text in with_comma)
    if not sure or any("." in text for text in texts):
        return texts
    return [text.replace(",", ".") if COMMA.fullmatch(text) else text for text in texts]
