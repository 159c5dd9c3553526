"""Records as a file holds them, without the file."""

from __future__ import annotations

import json
from typing import Any

import ranef.storage.records  # noqa: F401
from ranef.storage.codec import Bundle, decode, encode


def stored(record: Any) -> Bundle:
    """Return a record as plain values that went through JSON, and its arrays."""
    bundle = encode(record)
    return Bundle(json.loads(json.dumps(bundle.values)), bundle.arrays)


def restored(bundle: Bundle, cls: type, functions: Any = None) -> Any:
    """Return the record again."""
    return decode(Bundle(bundle.values, bundle.arrays, functions or {}), cls)


def again(record: Any, functions: Any = None) -> Any:
    """Return a record after it was stored."""
    return restored(stored(record), type(record), functions)


def with_values(bundle: Bundle, values: Any) -> Bundle:
    """Return what was stored with other values."""
    return Bundle(values, bundle.arrays)
