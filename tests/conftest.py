"""Fixtures and options that all tests share.

Scripts that make reference values are run by hand, with packages of their own.
"""

from __future__ import annotations

from pathlib import Path

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
