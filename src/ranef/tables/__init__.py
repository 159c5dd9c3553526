"""Tables of any data-frame library, read by column; the way in and the way out.

A `Table` reads pandas, polars, pyarrow, or a mapping of arrays; `make_table`
gives an answer back in the library the data came in. May import
`ranef.errors` only; data-frame libraries are imported when a table of theirs
arrives.
"""

from ranef.tables.looks import look_of, reads_as_number
from ranef.tables.make import make_table
from ranef.tables.table import Repeated, Table

__all__ = ["Repeated", "Table", "look_of", "make_table", "reads_as_number"]
