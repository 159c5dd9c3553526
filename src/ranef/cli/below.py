"""What Qualtrics writes between the names and the rows: its questions and its ids."""

from __future__ import annotations

import csv
import io
import re

from ranef.cli.lines import fields_of_any_length, first_record, next_line

__all__ = ["questions"]

MOST = 2**20
ID = re.compile(r'\s*\{"ImportId"')


def questions(body: bytes, separator: str) -> tuple[int, int]:
    r"""Count the bytes and lines of the questions and ids below the names.

    Examples
    --------
    >>> ids = b'"{""ImportId"":""a""}","{""ImportId"":""b""}"\n'
    >>> questions(b'id,Q1\nCode,"How\nare you?"\n' + ids + b"7,2\n", ",")
    (66, 3)
    >>> questions(b"id,Q1\n7,2\n8,3\n", ",")
    (0, 0)
    """
    if b'"ImportId"' not in body[:MOST]:
        return 0, 0
    text = io.StringIO(body[:MOST].decode("utf-8", "replace"), newline="")
    reader = csv.reader(text, delimiter=separator)
    try:
        with fields_of_any_length():
            names, _, ids = next(reader), next(reader), next(reader)
    except (csv.Error, StopIteration):
        return 0, 0
    if len(ids) != len(names) or not all(map(ID.match, ids)):
        return 0, 0
    start = next_line(body, len(first_record(body)))
    asked = next_line(body, start + len(first_record(body[start:])))
    end = next_line(body, asked + len(first_record(body[asked:])))
    return end - start, body.count(b"\n", start, end)
