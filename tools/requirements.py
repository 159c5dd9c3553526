"""Print what pyproject.toml asks for: ``build``, ``runtime`` or the name of an extra.

Usage: ``python tools/requirements.py runtime test``
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(kind: str) -> list[str]:
    """Return the requirements of one kind as pip reads them."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    if kind == "build":
        # Without build isolation the backend takes these two from the environment.
        return [*project["build-system"]["requires"], "cmake>=3.18", "ninja>=1.10"]
    if kind == "runtime":
        return list(project["project"]["dependencies"])
    return list(project["project"]["optional-dependencies"][kind])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join(requirements(name)))
