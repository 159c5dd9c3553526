"""What a Feather file takes once it is unpacked, told from its messages before any is.

The file holds messages of Arrow's columnar format, whose headers are flatbuffers
(https://arrow.apache.org/docs/format/Columnar.html): a batch of records states its rows and
where its buffers stand, and each compressed buffer begins with its true length.
"""

from __future__ import annotations

import struct
from typing import Any

__all__ = ["unpacked_size"]

HEADER, ROWS, NODES, BUFFERS, COMPRESSION, RECORDS = 2, 0, 1, 2, 3, 0
VALUE = 8
"""Bytes of a value or of a reference to one in a data frame."""


def unpacked_size(content: bytes) -> float:
    """Return the bytes that the batches of a Feather file (version 2) claim.

    Examples
    --------
    >>> import io, pyarrow
    >>> from pyarrow import feather
    >>> file = io.BytesIO()
    >>> feather.write_feather(pyarrow.table({"x": [0.0] * 10_000}), file, compression="zstd")
    >>> len(file.getvalue()) < 2_000, unpacked_size(file.getvalue()) >= 80_000
    (True, True)
    """
    import pyarrow as pa
    from pyarrow import ipc

    # behind its mark the file is a stream of messages, as far as the footer
    reader = ipc.MessageReader.open_stream(pa.BufferReader(pa.py_buffer(content)[8:]))
    total = 0.0
    while (message := _next(reader)) is not None:
        if message.type in ("record batch", "dictionary"):
            total += _batch(message, message.type == "dictionary")
    return total


def _next(reader: Any) -> Any | None:
    try:
        return reader.read_next_message()
    except StopIteration:
        return None


def _batch(message: Any, dictionary: bool) -> float:
    table = _Table.root(message.metadata.to_pybytes()).table(HEADER)
    if dictionary:
        table = table.table(1)
    body = message.body
    compressed = table.place(COMPRESSION) is not None
    size = 0
    for offset, length in table.structs(BUFFERS, "<qq"):
        claimed = length
        if compressed and length >= 8 and 0 <= offset <= body.size - 8:
            claimed = struct.unpack("<q", body[offset : offset + 8].to_pybytes())[0]
        size += length if claimed < 0 else claimed  # -1: this one is not compressed
    rows = table.number(ROWS, "<q")
    return float(size) + float(VALUE * rows * len(table.structs(NODES, "<qq")))


class _Table:
    """A table of a flatbuffer."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    @classmethod
    def root(cls, content: bytes) -> _Table:
        return cls(content, _read(content, 0, "<I"))

    def place(self, field: int) -> int | None:
        """Return where a field stands; None where it is left out."""
        fields = self.at - _read(self.content, self.at, "<i")
        if 4 + 2 * field >= _read(self.content, fields, "<H"):
            return None
        offset = _read(self.content, fields + 4 + 2 * field, "<H")
        return self.at + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        place = self.place(field)
        return 0 if place is None else _read(self.content, place, kind)

    def table(self, field: int) -> _Table:
        place = self.place(field)
        if place is None:
            raise ValueError("a message without its header")
        return _Table(self.content, place + _read(self.content, place, "<I"))

    def structs(self, field: int, kind: str) -> list[tuple[int, ...]]:
        place = self.place(field)
        if place is None:
            return []
        start = place + _read(self.content, place, "<I")
        count, size = _read(self.content, start, "<I"), struct.calcsize(kind)
        return list(struct.iter_unpack(kind, self.content[start + 4 : start + 4 + count * size]))


def _read(content: bytes, at: int, kind: str) -> int:
    return int(struct.unpack_from(kind, content, at)[0])
