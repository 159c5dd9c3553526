"""What a command is: its words, its arguments, and a run that ends in an exit code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = ["Code", "Verb", "code_of"]


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    NOT_CONVERGED = 1
    USAGE_ERROR = 2
    FILE_ERROR = 3
    BUG = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


@dataclass(frozen=True)
class Verb:
    """A command of ``ranef``; its module imports what is heavy only when it runs.

    Attributes
    ----------
    name : str
    help : str
        Its line in ``ranef --help``.
    description, epilog : str
        Above and below the arguments in its own help; the epilog ends in examples.
    add_arguments : callable
        Adds its arguments to its parser.
    run : callable
        Does the work with the arguments.
    first_steps : tuple of str
        Its examples in ``ranef --help``.
    elsewhere : mapping of str to str
        Options of other programs, without their dashes and in small letters, and what is said to
        whoever types one.
    """

    name: str
    help: str
    description: str
    epilog: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Code]
    first_steps: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def code_of(*fits: Any) -> Code:
    """Return the exit code of fits: whether every optimum is proved, of those that have one."""
    proved = all(fit.optimum.converged for fit in fits if hasattr(fit, "optimum"))
    return Code.OK if proved else Code.NOT_CONVERGED
