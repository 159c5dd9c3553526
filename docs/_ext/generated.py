"""Pages' inputs that the code itself writes when the documentation is built.

What the examples and the command line print, the figures the examples draw,
and the table of the validation page all come from the installed package, so
that a page cannot show what the code does not do. Each script in ``examples/`` gets a page
of the gallery: its docstring, its code, what it prints, and the figures that it leaves, whose
descriptions stand in the docstring in lines ``Figure NAME.png: what it shows``.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from ranef.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]


FIRST = """
import ranef
print(ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy")))
"""


def started(
    arguments: list[str], folder: Path, errors: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", "COLUMNS": "88"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        check=False,
    )


def run(arguments: list[str], folder: Path) -> str:
    done = started(arguments, folder)
    if done.returncode:
        raise ExtensionError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


FILM = (
    ["fit", "yeild ~ nitro * Variety + (1 | Block/Variety)", "Oats", "--save", "oats.ranef"],
    ["fit", "yield ~ nitro * Variety + (1 | Block/Variety)", "Oats", "--save", "oats.ranef"],
    ["anova", "oats.ranef", "--df", "kenward-roger", "--table", "anova.docx"],
    ["means", "oats.ranef", "--of", "Variety", "--at", "nitro=0.6", "--plot", "means.png"],
    ["contrasts", "oats.ranef", "--of", "Variety", "--method", "reference", "--ref", "Victory"],
    ["rank", "yield ~ nitro * Variety + (1 | Block/Variety)", "Oats", "--by", "Block"],
)
"""The session that the page of the command line shows: a slip, a fit, and what it is asked."""


def film(folder: Path) -> str:
    """Run the session; what is typed, and what comes, errors too."""
    shown = []
    for arguments in FILM:
        typed = " ".join(f'"{a}"' if re.search(r"[^\w.=-]", a) else a for a in arguments)
        done = started(["-m", "ranef", *arguments], folder, errors=subprocess.STDOUT)
        if (done.returncode == 0) != (arguments is not FILM[0]):
            raise ExtensionError(f"ranef {typed} ended with {done.returncode}:\n{done.stdout}")
        shown.append(f"$ ranef {typed}\n{done.stdout}")
    return "\n".join(shown)


FIGURE = re.compile(r"^Figure (\S+\.png): (.*?)(?=^Figure |^Usage|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A script of the gallery: what its docstring says."""

    name: str
    title: str
    story: str
    figures: dict[str, str]

    @classmethod
    def read(cls, script: Path) -> Example:
        told = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        title, _, rest = told.partition("\n")
        figures = {name: " ".join(alt.split()) for name, alt in FIGURE.findall(rest)}
        if not figures:
            raise ExtensionError(
                f"{script.name}: the docstring describes no 'Figure NAME.png: ...'"
            )
        story = re.sub(r"Usage:.*", "", FIGURE.sub("", rest), flags=re.DOTALL).strip()
        return cls(script.stem, title.rstrip("."), story, figures)

    def page(self, shown: str) -> str:
        pictures = "\n".join(
            f"```{{figure}} {name}\n:alt: {self.title}: the picture that the words below describe"
            f"\n\n{caption}\n```\n"
            for name, caption in self.figures.items()
        )
        return (
            f"# {self.title}\n\n{self.story}\n\n{pictures}\n## The code\n\n"
            f"```{{literalinclude}} ../../examples/{self.name}.py\n:language: python\n```\n\n"
            f"## What it prints\n\n```text\n{shown}```\n"
        )

    def card(self) -> str:
        name, alt = next(iter(self.figures.items()))
        return (
            f":::{{grid-item-card}} {self.title}\n:link: gallery/{self.name}\n:link-type: doc\n"
            f":img-top: gallery/{name}\n:img-alt: {alt}\n:::\n"
        )


def write_gallery(docs: Path) -> None:
    """Run every example and write its page, and the cards that lead there."""
    folder = docs / "gallery"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    examples = []
    for script in sorted((ROOT / "examples").glob("*.py")):
        if script.stem == "demo":
            continue
        example = Example.read(script)
        page = example.page(run([str(script), str(folder)], folder))
        (folder / f"{script.stem}.md").write_text(page, encoding="utf-8")
        examples.append(example)
    cards = "\n".join(example.card() for example in examples)
    grid = f"::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{cards}\n::::\n"
    (docs / "_generated" / "gallery.md").write_text(grid, encoding="utf-8")


def write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    write_gallery(Path(app.srcdir))
    (folder / "summary.txt").write_text(run(["-c", FIRST], folder), encoding="utf-8")
    for command in [verb.name for verb in VERBS]:
        shown = run(["-m", "ranef", command, "--help"], folder)
        (folder / f"help-{command}.txt").write_text(shown, encoding="utf-8")
    for field, task in (
        ("gwas", "scan"),
        ("imaging", "group"),
        ("metagenomics", "screen"),
        ("metagenomics", "drift"),
    ):
        shown = run(["-m", "ranef", field, task, "--help"], folder)
        (folder / f"help-{field}-{task}.txt").write_text(shown, encoding="utf-8")
    with TemporaryDirectory() as elsewhere:
        (folder / "film.txt").write_text(film(Path(elsewhere)), encoding="utf-8")
    messages = run([str(ROOT / "tools" / "messages.py")], ROOT)
    (folder / "messages.md").write_text(messages, encoding="utf-8")
    table = run([str(ROOT / "tools" / "validation.py")], ROOT)
    (folder / "validation.md").write_text(table, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
