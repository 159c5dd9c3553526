"""Small classic data sets, bundled with their source and citation.

Column names, level order and types are those of the R packages that
distribute them. May import `ranef.errors`; needs pyarrow, and pandas or polars
for tables of theirs, when `load` is called.

Examples
--------
>>> import ranef.data
>>> sleep = ranef.data.load("sleepstudy")
>>> sleep.shape
(180, 3)
"""

from typing import Any as _Any

from ranef.data.catalogue import Description, describe, names
from ranef.data.loading import load

__all__ = ["Description", "describe", "load", "names"]


def __getattr__(name: str) -> _Any:
    if name in names():
        raise AttributeError(f"ranef.data has no name {name!r}; did you mean load({name!r})?")
    raise AttributeError(f"ranef.data has no name {name!r}")
