"""Pages' inputs that the code itself writes when the documentation is built.

What the examples and the command line print, the figures the examples draw,
and the table of the validation page all come from the installed package, so
that a page cannot show what the code does not do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]


FIRST = """
import ranef
print(ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy")))
"""


def run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "88"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ExtensionError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    for script in sorted((ROOT / "examples").glob("*.py")):
        if script.stem != "demo":
            shown = run([str(script), str(folder)], folder)
            (folder / f"{script.stem}.txt").write_text(shown, encoding="utf-8")
    (folder / "summary.txt").write_text(run(["-c", FIRST], folder), encoding="utf-8")
    for command in ("fit", "plan"):
        shown = run(["-m", "ranef", command, "--help"], folder)
        (folder / f"help-{command}.txt").write_text(shown, encoding="utf-8")
    table = run([str(ROOT / "tools" / "validation.py")], ROOT)
    (folder / "validation.md").write_text(table, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
