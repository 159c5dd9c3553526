"""Records to a file and back, safely: a file runs no code and fills no memory.

`saving` reads and writes; whoever brings a kind of object registers it there. May import
`models` and what lies below it.
"""
