"""The catalogue of messages: every error that the package raises, and which of them tests provoke.

``python tools/messages.py`` writes the catalogue as the page of the documentation: the errors by
room, each message as the source has it, what varies in ``{}``. With ``--provoked FOLDER``, where
``pytest --messages FOLDER`` left the places that raised, it lists the errors that no test provoked,
and with ``--at-most N`` fails where they are more (lower N where tests are added).
"""

from __future__ import annotations

import argparse
import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "ranef"
ROOMS = {
    "formula": "Formulas",
    "tables": "Tables",
    "design": "From tables and formulas to a model",
    "arguments": "Arguments",
    "families": "Families",
    "covariance": "Covariance structures",
    "models": "Models",
    "solve": "Fitting",
    "derivatives": "Derivatives",
    "inference": "Inference",
    "fits": "Fits",
    "description": "Descriptions",
    "questions": "Questions",
    "display": "Output",
    "report": "Reports",
    "storage": "Saved files",
    "api": "Functions",
    "data": "Data sets",
    "fields": "Fields",
    "imaging": "Fields",
    "sklearn": "scikit-learn",
    "cli": "Command line",
}


@dataclass(frozen=True)
class Message:
    """One place that raises an error with words of its own.

    Attributes
    ----------
    place : str
        File below the package.
    first, last : int
        The lines of the call.
    kind : str
        The error's class, or the function that makes it.
    words : str
        What the source says, ``{}`` for what varies.
    """

    place: str
    first: int
    last: int
    kind: str
    words: str


def text(node: ast.expr) -> str:
    """Return the words of an expression; ``{}`` where they depend on what was given."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    return "{}"


@cache
def messages() -> tuple[Message, ...]:
    """Return every ``raise`` of an error with words, in the order of files and lines."""
    return tuple(one for path in sorted(ROOT.rglob("*.py")) for one in of_file(path))


def of_file(path: Path) -> Iterator[Message]:
    """Yield the messages of one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        call = node.exc
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name.endswith("Error") and call.args and not hasattr(builtins, name):
            place = path.relative_to(ROOT).as_posix()
            last = call.end_lineno or call.lineno
            yield Message(place, call.lineno, last, name, text(call.args[0]))


def room(place: str) -> str:
    """Return the heading that a file's messages stand under."""
    return ROOMS.get(place.split("/")[0].removesuffix(".py"), "Others")


def catalogue() -> str:
    """Return the page: a section for each room."""
    rooms: dict[str, dict[str, str]] = {}
    for one in messages():
        words = " ".join(one.words.split())
        if words.strip("{}: "):
            rooms.setdefault(room(one.place), {}).setdefault(words, one.kind)
    sections = []
    for heading in dict.fromkeys([*ROOMS.values(), "Others"]):
        rows = [
            f"| {kind} | {_cell(words)} |"
            for words, kind in sorted(
                rooms.get(heading, {}).items(), key=lambda row: row[0].lower()
            )
        ]
        if rows:
            sections.append(
                "\n".join([f"## {heading}\n", "| error | message |", "|---|---|", *rows])
            )
    return "\n\n".join(sections) + "\n"


def _cell(words: str) -> str:
    for sign in "\\`*_[]<>|$":
        words = words.replace(sign, "\\" + sign)
    return words.replace("{}", "…")


def unprovoked(folder: Path) -> list[Message]:
    """Return the messages whose place no test reached."""
    lines: dict[str, set[int]] = {}
    for file in folder.glob("*.txt"):
        for row in file.read_text(encoding="utf-8").splitlines():
            place, line = row.rsplit(":", 1)
            lines.setdefault(place, set()).add(int(line))
    return [
        one
        for one in messages()
        if not any(one.first <= line <= one.last for line in lines.get(one.place, ()))
    ]


def main() -> None:
    """Print the catalogue, or what no test provoked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provoked", type=Path, metavar="FOLDER")
    parser.add_argument("--at-most", type=int, metavar="N", help="fail where more are left")
    given = parser.parse_args()
    folder, most = given.provoked, given.at_most
    if folder is None:
        print(catalogue())
        return
    left, every = unprovoked(folder), messages()
    for one in left:
        print(f"{one.place}:{one.first}: {one.kind}: {' '.join(one.words.split())[:110]}")
    print(f"{len(every) - len(left)} of {len(every)} messages were provoked")
    if most is not None and len(left) > most:
        raise SystemExit(f"{len(left)} messages are provoked by no test, {most} may be: add tests")


if __name__ == "__main__":
    main()
