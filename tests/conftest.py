"""Fixtures and options that all tests share.

Scripts that make reference values are run by hand, with packages of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from agreement import Agree, agreement

collect_ignore_glob = ["reference/*"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--validation",
        metavar="FILE",
        default=None,
        help="run the tests that compare with a peer, and write every comparison to FILE",
    )
    parser.addoption(
        "--messages",
        metavar="FOLDER",
        default=None,
        help="write the places that raised an error of ranef to FOLDER (tools/messages.py)",
    )


MADE: set[str] = set()
"""Places in the package that made an error, as FILE:LINE."""


def pytest_configure(config: pytest.Config) -> None:
    """Note the place of each error that is made, where the catalogue of messages asks for it."""
    if config.getoption("--messages") is None:
        return
    import ranef
    from ranef.errors import RanefError

    root, own = Path(ranef.__file__).parent, RanefError.__init__

    def noting_place(frame: FrameType) -> None:
        while isinstance(frame.f_locals.get("self"), RanefError) and frame.f_back is not None:
            frame = frame.f_back  # from the error's own making to whoever raises it
        place = Path(frame.f_code.co_filename)
        if place.is_relative_to(root):
            MADE.add(f"{place.relative_to(root).as_posix()}:{frame.f_lineno}")

    def noting(self: RanefError, *args: object) -> None:
        noting_place(sys._getframe(1))
        own(self, *args)

    def noting_of_options(self: argparse.ArgumentTypeError, *args: object) -> None:
        noting_place(sys._getframe(1))
        Exception.__init__(self, *args)

    RanefError.__init__ = noting  # type: ignore[method-assign]
    argparse.ArgumentTypeError.__init__ = noting_of_options  # type: ignore[method-assign]


def pytest_sessionfinish(session: pytest.Session) -> None:
    folder = session.config.getoption("--messages")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{os.getpid()}.txt").write_text("\n".join(sorted(MADE)), "utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--validation") is None:
        return
    compares = [item for item in items if "agree" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in compares])
    items[:] = compares


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """Compare numbers with a peer's, see `agreement`."""
    target = request.config.getoption("--validation")
    return agreement(None if target is None else Path(target))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line: its exit code, and what it writes to either stream."""
    from ranef.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call
