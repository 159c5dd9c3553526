"""Commands with commands of their own, such as ``ranef gwas scan``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping

from ranef.cli.verb import Code

__all__ = ["Task", "add_tasks", "run_task"]

Task = tuple[str, Callable[[ArgumentParser], None], Callable[[Namespace], Code]]
"""Its line of help, what adds its arguments, and what does the work."""


def add_tasks(parser: ArgumentParser, tasks: Mapping[str, Task]) -> None:
    """Add the tasks of a command."""
    commands = parser.add_subparsers(dest="task", metavar="TASK", title="tasks", required=True)
    for name, (words, add, run) in tasks.items():
        task = commands.add_parser(
            name, help=words, description=f"{words[0].upper()}{words[1:]}.",
            formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        add(task)
        task.set_defaults(run_task=run)


def run_task(arguments: Namespace) -> Code:
    """Run the task that was asked for."""
    code: Code = arguments.run_task(arguments)
    return code
