"""The command ``ranef``: fit and plan from a shell.

It reads files, calls the public functions and writes files; it may import
every floor, and imports all but the parser when a command runs, so that
``ranef --help`` answers at once.
"""

from ranef.cli.main import main

__all__ = ["main"]
