"""Files of diaries: SPSS, exports of m-Path, movisensXS, LifeData and Qualtrics, plain CSV.

What a file is, is told from its columns. m-Path's times are seconds on the participant's own
clock, `timeZoneOffset` the seconds that this clock is ahead of UTC (the documentation of m-Path's R
package mpathr). movisensXS has `Participant`, `Form`, `Trigger` and the start of each form, in one
column or as date and time (its R interface). LifeData's wide file has one row a notification,
`Notification Time` on the participant's wall and the lapse until the answer; where nobody answered,
its cells say so in words. Qualtrics has its questions and its ids below the names. Everything else
is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ranef.errors import FileError
from ranef.solve.room import check_room, room

__all__ = ["Export", "is_spss", "read_export", "recognised"]

MPATH = ("connectionId", "timeStampScheduled", "timeStampStart", "timeZoneOffset")
MPATH_TIMES = {
    "scheduled": "timeStampScheduled", "sent": "timeStampSent", "start": "timeStampStart",
    "stop": "timeStampStop",
}  # fmt: skip
MOVISENS = ("Participant", "Form", "Form_start_date")
MOVISENS_TIMES = {"trigger": "Trigger", "start": "Form_start", "finish": "Form_finish"}
LIFEDATA = ("Participant ID", "Notification Time", "Session Name", "Responded")
LIFEDATA_LAPSE = "Session Instance Response Lapse"
LIFEDATA_SILENCE = "user didn't respond"
LIFEDATA_SILENCES = ("User didn't respond to this notification",)
"""What stands in the cells of a notification that nobody answered."""
QUALTRICS = '{"ImportId"'
"""How each cell of the second line below the names begins."""
SPSS_MARKS = (b"$FL2", b"$FL3")
SPSS_NAMES = (".sav", ".zsav")


@dataclass(frozen=True, eq=False)
class Export:
    """A diary from a file.

    Attributes
    ----------
    table : pandas.DataFrame
    kind : {"spss", "m-Path", "movisensXS", "LifeData", "Qualtrics", "text"}
    labels : dict of str to str
        What SPSS says each column is.
    value_labels : dict of str to dict
        What SPSS says each value is.
    """

    table: Any
    kind: str
    labels: dict[str, str] = field(default_factory=dict)
    value_labels: dict[str, dict[Any, str]] = field(default_factory=dict)


def read_export(path: str | PathLike[str]) -> Export:
    """Read a file of a diary.

    Of m-Path the columns ``scheduled``, ``sent``, ``start`` and ``stop`` are added, as text with
    the offset of the participant's zone; of movisensXS ``start`` and ``finish`` (and
    ``trigger``), on the participant's wall; of LifeData ``scheduled`` and ``start``, and its
    sentences for no answer are missing values. SPSS's numbers stay numbers, its user-missing values
    are missing, and its labels stand beside the table.

    Raises
    ------
    ranef.errors.FileError
        There is no such file, it is no table, or pyreadstat is needed and not installed.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise FileError(f"cannot read {str(path)!r}: it is no file, but a folder, device or pipe")
    try:
        with target.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot read {str(path)!r}: {reason}") from None
    if start in SPSS_MARKS or target.suffix.lower() in SPSS_NAMES:
        return _spss(target)
    return recognised(_text(target))


def is_spss(path: Path) -> bool:
    """Tell whether a file is one of SPSS."""
    with path.open("rb") as stream:
        return stream.read(4) in SPSS_MARKS or path.suffix.lower() in SPSS_NAMES


def recognised(table: Any) -> Export:
    """Tell from its columns which app a table comes from, and add its times."""
    if set(MPATH) <= set(table.columns):
        return Export(_mpath(table), "m-Path")
    if set(MOVISENS) <= set(table.columns):
        return Export(_movisens(table), "movisensXS")
    if set(LIFEDATA) <= set(table.columns):
        return Export(_lifedata(table), "LifeData")
    if len(table) > 1 and all(str(cell).startswith(QUALTRICS) for cell in table.iloc[1]):
        return Export(_qualtrics(table), "Qualtrics")
    return Export(table, "text")


def _qualtrics(table: Any) -> Any:
    """Rows below the questions and ids; columns of numbers as such."""
    import pandas as pd

    rows = table.iloc[2:].reset_index(drop=True)
    numbers = {name: pd.to_numeric(rows[name], errors="coerce") for name in rows.columns}
    read = {name: found for name, found in numbers.items() if found.count() == rows[name].count()}
    return rows.assign(**read)


def _spss(path: Path) -> Export:
    try:
        import pyreadstat
    except ImportError:
        raise FileError(
            f"{path.name} is a file of SPSS, which needs pyreadstat: pip install 'ranef[spss]'"
        ) from None
    try:
        _, head = pyreadstat.read_sav(path, metadataonly=True)
        widths = head.variable_storage_width.values()
        each = 2.0 * sum(max(width, 8) for width in widths)
        most = int(room()[0] / max(each, 1.0)) + 1
        check_room(each * (head.number_rows or 0), path.name)
        table, about = pyreadstat.read_sav(path, row_limit=most)
        check_room(each * len(table), path.name)
    except FileError:
        raise
    except Exception as error:  # pyreadstat's own errors have no common base
        raise FileError(f"{path.name} is a damaged file of SPSS: {error}") from error
    labels = {k: v for k, v in about.column_names_to_labels.items() if v}
    return Export(table, "spss", labels, dict(about.variable_value_labels))


def _text(path: Path) -> Any:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as stream:
            first = stream.readline()
        separator = max((";", ",", "\t"), key=first.count)
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise FileError(f"{path.name} is no table of text: {reason}") from None


def _mpath(table: Any) -> Any:
    """Times with the offset of the participant's clock; answers without their second quotes."""
    offset = table["timeZoneOffset"].to_numpy(dtype=np.float64)
    added = {}
    for name, column in MPATH_TIMES.items():
        if column in table.columns:
            seconds = table[column].to_numpy(dtype=np.float64)
            added[name] = [_stamp(s, o) for s, o in zip(seconds, offset, strict=True)]
    plain = {
        name: table[name].map(lambda v: v.strip('"') if isinstance(v, str) else v)
        for name in table.columns
        if table[name].dtype == object or str(table[name].dtype).startswith("str")
    }
    return table.assign(**plain, **added)


def _stamp(seconds: float, offset: float) -> str | None:
    """ISO 8601 of seconds on a clock that is `offset` seconds ahead of UTC; 0 is missing."""
    if not seconds > 0:
        return None
    wall = np.datetime64(round(seconds), "s")
    if np.isnan(offset):
        return str(wall)
    minutes = round(abs(offset) / 60)
    sign = "-" if offset < 0 else "+"
    return f"{wall}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _movisens(table: Any) -> Any:
    """Start and finish of each form as one text; date and time may stand in two columns."""
    import pandas as pd

    added = {}
    for name, stem in MOVISENS_TIMES.items():
        date, time = f"{stem}_date", f"{stem}_time"
        if date not in table.columns:
            continue
        text = table[date].astype("string").str.strip()
        if time in table.columns:
            clock = table[time].astype("string").str.strip().str.split(" ").str[-1]
            text = text.str.split(r"[ T]", regex=True).str[0] + "T" + clock
        else:
            text = text.str.replace(" ", "T", n=1)
        added[name] = text.where(pd.notna(text), None).astype(object)
    return table.assign(**added)


def _lifedata(table: Any) -> Any:
    """Numbers where cells hold numbers, and times of the notification and of the answer."""
    import pandas as pd

    plain = {}
    for name in table.columns:
        column = table[name]
        if column.dtype == object or str(column.dtype).startswith("str"):
            text = column.astype("string").str.strip()
            silent = text.str.lower().str.startswith(LIFEDATA_SILENCE).fillna(False)
            plain[name] = _numbers(text.mask(silent | (text == "").fillna(False)))
    out = table.assign(**plain)
    sent = pd.to_datetime(out["Notification Time"], errors="coerce")
    out["scheduled"] = _iso(sent)
    if LIFEDATA_LAPSE in out.columns:
        lapse = pd.to_timedelta(out[LIFEDATA_LAPSE].astype("string"), errors="coerce")
        out["start"] = _iso(sent + lapse)
    return out


def _numbers(text: Any) -> Any:
    """A column as numbers where all that it holds are numbers, else as it stands."""
    import pandas as pd

    found = pd.to_numeric(text, errors="coerce")
    if bool((found.isna() == text.isna()).all()):
        return found.astype("float64")
    return text.astype(object).where(text.notna(), None)


def _iso(times: Any) -> Any:
    """Times of a wall as text, None where there is none."""
    text = times.dt.strftime("%Y-%m-%dT%H:%M:%S")
    return text.astype(object).where(times.notna(), None)
