"""From arguments to an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TextIO

from ranef.cli.parser import make_parser
from ranef.cli.verb import Code
from ranef.errors import FileError, Interrupted, RanefError, RanefWarning

__all__ = ["main"]

ENDINGS = ("SIGTERM", "SIGHUP")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``ranef`` and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the command's name; those of the process by default.

    Returns
    -------
    int
        0 done, 1 fitted but the optimum is not proved, 2 wrong usage, formula
        or data, 3 a file cannot be read or written, 130 interrupted.

    Examples
    --------
    >>> main(["--version"])
    ranef ...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    _print_anything(sys.stdout)
    parser = make_parser()
    try:
        arguments = parser.parse_args(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return Code.USAGE_ERROR
    arguments.call = shlex.join(["ranef", *words])
    with _warnings_in_one_line(), _ended_in_order():
        return copy_context().run(_guarded, arguments)


def _guarded(arguments: Namespace) -> Code:
    """Run the chosen command; turn every error into a line and a code."""
    heard, usual = _Heard(sys.stdout), sys.stdout
    sys.stdout = heard
    try:
        code: Code = arguments.run(arguments)
        heard.flush()
        return Code.PIPE_CLOSED if heard.left else code
    except BrokenPipeError:
        heard.left = True
        return Code.PIPE_CLOSED
    except KeyboardInterrupt as error:
        said = "" if isinstance(error, Interrupted) or not error.args else f": {error}"
        return _complain(f"interrupted{said}", Code.INTERRUPTED)
    except FileError as error:
        return _complain(str(error), Code.FILE_ERROR)
    except RanefError as error:
        return _complain(str(error), Code.USAGE_ERROR)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", Code.USAGE_ERROR)
    except OSError as error:
        return _complain(_of_the_system(error), Code.FILE_ERROR)
    except ImportError as error:
        return _complain(_not_loaded(error), Code.USAGE_ERROR)
    except Exception:
        traceback.print_exc()
        return _complain("this is a bug in ranef; please report it with the lines above", Code.BUG)
    finally:
        sys.stdout = _nowhere() if heard.left else usual


def _of_the_system(error: OSError) -> str:
    """Say what the system refused."""
    if error.errno == errno.ENOMEM:
        return f"not enough memory: {error}"
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"cannot read or write {str(error.filename or 'standard output')[:200]!r}: {reason}"


def _not_loaded(error: ImportError) -> str:
    """Say why a package cannot be loaded: mostly for want of memory, or since it is damaged."""
    if any(mark in str(error) for mark in ("failed to map", "annot allocate memory")):
        return f"not enough memory to load what is needed: {error}"
    return f"a package that is needed cannot be loaded: {error}"


class _Heard:
    """Standard output for as long as somebody reads it: the files of a command are written yet."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.left = stream, False

    def write(self, text: str) -> int:
        if self.stream is not None and not self.left:
            try:
                return self.stream.write(text)
            except BrokenPipeError:
                self.left = True
        return len(text)

    def flush(self) -> None:
        if self.stream is not None and not self.left:
            try:
                self.stream.flush()
            except BrokenPipeError:
                self.left = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _complain(message: str, code: Code) -> Code:
    line = " ".join(message.split())
    print(f"ranef: {'' if code == Code.INTERRUPTED else 'error: '}{line}", file=sys.stderr)
    return code


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show ranef's warnings as sentences, without file and line."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, RanefWarning):
            print(f"ranef: warning: {' '.join(str(message).split())}", file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RanefWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let a request to end leave by the usual way, so that no half-written file is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ENDINGS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    usual = [number for number, handler in before.items() if handler is signal.SIG_DFL]
    try:
        for number in usual:
            signal.signal(number, end)
        yield
    finally:
        for number in usual:
            signal.signal(number, before[number])


def _print_anything(stream: TextIO) -> None:
    """Let a character that the terminal has not be written as its number, not end the command."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    """Return a stream that takes what is still to be flushed at exit."""
    return open(os.devnull, "w", encoding="utf-8")
