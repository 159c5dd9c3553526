"""Files that hold no table as they are read here: what they are, and how they become one."""

from __future__ import annotations

import re

__all__ = ["foreign", "foreign_archive"]

SAVE = "save it as CSV or .xlsx"
R = "in R: write.csv(data, 'data.csv', row.names = FALSE)"
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"$FL2@(#)", "an SPSS file", f"{SAVE} (in SPSS: File, Save As; in R: haven::read_sav)"),
    (b"$FL3@(#)", "an SPSS file", f"{SAVE} (in SPSS: File, Save As; in R: haven::read_sav)"),
    (b"<stata_dta>", "a Stata file", "in Stata: export delimited using data.csv"),
    (b"HEADER RECORD*******", "a SAS transport file", "in SAS: proc export dbms=csv"),
    (b"X\n\x00\x00", "a file of R (.rds)", R),
    (b"RDX2\n", "a file of R (.RData)", R),
    (b"RDX3\n", "a file of R (.RData)", R),
    (b"\x89HDF", "an HDF5 file", "write the table as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy file", "write it as Parquet or CSV, with names"),
    (b"SQLite format 3", "an SQLite database", "write the table as CSV"),
    (b"Obj\x01", "an Avro file", "write the table as Parquet"),
    (b"%PDF-", "a PDF", "save the table behind it as CSV"),
    (b"{\\rtf", "a document (RTF)", "save the table in it as CSV"),
    (b"\x89PNG", "a picture", "save the table behind it as CSV"),
    (b"\xff\xd8\xff", "a picture", "save the table behind it as CSV"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"Rar!\x1a", "a RAR archive", "unpack it first"),
    (b"\x5d\x00\x00", "an LZMA file", "unpack it first, or pack it as .xz"),
    (b"\x1f\x9d", "a file of compress (.Z)", "unpack it first"),
    (b"PK\x05\x06", "an empty zip archive", "pack the table again"),
)  # fmt: skip
PACKED_AGAIN = (b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
SAS = bytes.fromhex("000000000000000000000000c2ea8160")
OLD_STATA = re.compile(rb"[\x69\x6c\x6e-\x73][\x01\x02]\x01\x00")
R_AS_TEXT = re.compile(rb"A\r?\n[23]\r?\n\d{6}\r?\n\d{6}\r?\n\d+\r?\n")
PICKLE = re.compile(rb"\x80[\x02-\x05]")
JSON = re.compile(rb'\s*(\[\s*)?\{\s*"[^"]*"\s*:|\s*\[\s*\[')
PAGE = re.compile(rb"\s*(<!doctype html|<html|<table|<meta|<div|<head)", re.IGNORECASE)
XML = re.compile(rb"\s*<\?xml")


def foreign(content: bytes) -> str | None:
    """Say what a file is that is no table as they are read here; None of any other.

    Examples
    --------
    >>> foreign(b'[{"y": 1, "x": 2}]')
    'JSON, not a table; in Python: pandas.read_json(...).to_csv(...)'
    >>> foreign(b"y,x") is None
    True
    """
    for mark, kind, how in KINDS:
        if content.startswith(mark):
            return f"{kind}; {how}"
    if content.startswith(PACKED_AGAIN):
        return "compressed more than twice; unpack it first"
    if content.startswith(SAS):
        return "a SAS file; in SAS: proc export dbms=csv; in Python: pandas.read_sas"
    if content[257:262] == b"ustar":
        return "an archive (tar); unpack it first, and give one file of it"
    if OLD_STATA.match(content):
        return "a Stata file; in Stata: export delimited using data.csv"
    if R_AS_TEXT.match(content):
        return f"a file of R (.rds); {R}"
    if PICKLE.match(content):
        return "a pickle of Python; write the table as Parquet or CSV"
    return _of_text(content.removeprefix(b"\xef\xbb\xbf"))


def _of_text(content: bytes) -> str | None:
    if JSON.match(content):
        return "JSON, not a table; in Python: pandas.read_json(...).to_csv(...)"
    if PAGE.match(content):
        return f"a page (HTML), whatever its name says; open it in a spreadsheet and {SAVE}"
    if XML.match(content):
        return f"XML, not a table; open it in a spreadsheet and {SAVE}"
    return None


def foreign_archive(names: list[str]) -> str | None:
    """Say what a zip archive is that holds no table; None of any other.

    Examples
    --------
    >>> foreign_archive(["[Content_Types].xml", "word/document.xml"])
    'a document (Word); save the table in it as CSV or .xlsx'
    """
    if "word/document.xml" in names:
        return "a document (Word); save the table in it as CSV or .xlsx"
    if "ppt/presentation.xml" in names:
        return "a presentation; save the table in it as CSV or .xlsx"
    if "xl/workbook.bin" in names:
        return "a binary workbook (.xlsb); save it as .xlsx or CSV"
    if "fit.json" in names:
        return (
            "a fit that ranef has saved, not a table; ranef means, contrasts, anova, rank and "
            "predict ask it, ranef.load reads it in Python"
        )
    if any(name.startswith("Index/") and name.endswith(".iwa") for name in names):
        return "a file of Numbers; export it as .xlsx or CSV"
    return None
