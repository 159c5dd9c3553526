"""Records to a file and back, safely: a file runs no code and fills no memory.

`saving` reads and writes files, `codec` the trees of dataclasses that they hold, `registry`
the classes that a file may name; whoever brings a kind of fit calls `register`. May import
`models` and what lies below it.
"""

from ranef.storage.registry import register

__all__ = ["register"]
