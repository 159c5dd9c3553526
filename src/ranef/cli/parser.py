"""The command's parser, made of its verbs."""

from __future__ import annotations

import argparse
import os

from ranef._version import __version__
from ranef.cli.verbs import VERBS

__all__ = ["make_parser"]

DESCRIPTION = "Mixed-effects models: from a formula and a table to a proved optimum."

EPILOG = """\
first steps (sleepstudy comes with ranef):
{first_steps}

ranef fit --help explains the formula, the files and the options.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the layout of the examples; leave room for the options."""

    def __init__(self, prog: str) -> None:
        width = min(100, int(os.environ.get("COLUMNS", "0") or 0) or _terminal_width())
        super().__init__(prog, max_help_position=30, width=width)


def _terminal_width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((88, 24)).columns


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``ranef``."""
    first_steps = "\n".join(f"  {line}" for verb in VERBS for line in verb.first_steps)
    parser = argparse.ArgumentParser(
        prog="ranef",
        description=DESCRIPTION,
        epilog=EPILOG.format(first_steps=first_steps),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ranef {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for verb in VERBS:
        command = commands.add_parser(
            verb.name,
            help=verb.help,
            description=verb.description,
            epilog=verb.epilog,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        verb.add_arguments(command)
        command.set_defaults(run=verb.run)
    return parser
