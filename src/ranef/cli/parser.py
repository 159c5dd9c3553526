"""The command's parser, made of its verbs."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from ranef._version import __version__
from ranef.cli.verbs import VERBS
from ranef.elsewhere import argument_hint
from ranef.errors import suggestion

__all__ = ["make_parser"]

DESCRIPTION = "Mixed-effects models: from a formula and a table to a proved optimum."

MOST_LETTERS = 2000
EPILOG = """\
first steps (sleepstudy comes with ranef):
{first_steps}

ranef fit --help explains the formula, the files and the options.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keep the layout of the examples; leave room for the options."""

    def __init__(self, prog: str) -> None:
        stated = os.environ.get("COLUMNS", "").strip()
        wide = int(stated) if stated.isascii() and stated.isdigit() else 0
        width = min(100, wide or _terminal_width())
        super().__init__(prog, max_help_position=30, width=width)


class _Parser(argparse.ArgumentParser):
    """Answers what it does not know by what was probably meant."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the arguments, or say what is wrong with them and end."""
        words = list(args)
        self._check_command(words)
        self._check_repeated(words)
        found, extras = self.parse_known_args(words, namespace)
        if extras:
            self._refuse(words, extras)
        return found

    def _check_command(self, words: Sequence[str]) -> None:
        """Answer a command that there is not."""
        verbs = [verb.name for verb in VERBS]
        first = words[0] if words else "-"
        if first.startswith("-") or first in verbs:
            return
        if "~" in first:
            self.error(f"a formula comes after the command: ranef fit {shlex.join(words)}")
        if first.lower() == "help":
            self.error(f"help is an option: ranef {' '.join([*words[1:2], '--help'])}")
        if first.lower() in _IN_PYTHON:
            self.error(f"{first} is asked in Python: {_IN_PYTHON[first.lower()]}")
        hint = suggestion(_COMMANDS.get(first.lower(), first), verbs)
        if first.lower() in _COMMANDS:
            hint = f"; did you mean {_COMMANDS[first.lower()]!r}?"
        there = f"{' There' if hint else '; there'} are {', '.join(verbs)}"
        self.error(f"no command {first!r}{hint}{there}")

    def _check_repeated(self, words: Sequence[str]) -> None:
        """Refuse an option that names one file and is given twice: one would be lost."""
        given = [word.partition("=")[0] for word in words]
        for action in _actions(self, words[0] if words else None):
            name = action.option_strings[-1] if action.option_strings else ""
            one = isinstance(action, argparse._StoreAction) and _FILE.match(str(action.metavar))
            if one and given.count(name) > 1:
                self.error(
                    f"{name} is given {given.count(name)} times and names one file; the others "
                    "would not be written"
                )

    def _refuse(self, words: Sequence[str], extras: Sequence[str]) -> NoReturn:
        """End with what is wrong with the arguments that are left over."""
        command = words[0]
        said = next((verb.elsewhere for verb in VERBS if verb.name == command), {})
        for word in extras:
            option = word.partition("=")[0]
            if option.startswith("-") and option.lstrip("-").lower() in said:
                known_as = said[option.lstrip("-").lower()]
                self.error(f"ranef {command} has no option {option}: {known_as}")
        flags = [word.partition("=")[0] for word in extras if word.startswith("--")]
        if flags:
            if command.startswith("-"):
                hint = suggestion(flags[0], ("--version", "--help"))
                self.error(f"ranef has no option {flags[0]}{hint} (ranef --help)")
            hint = _flag_hint(command, flags[0], sorted(set(_options(self, command))))
            self.error(f"ranef {command} has no option {flags[0]}{hint} (ranef {command} --help)")
        formula = _unquoted(words[1:])
        if formula is not None:
            self.error(
                f"the formula needs quotes, since a shell reads ~ | ( ) itself: ranef {command} "
                f"{formula}"
            )
        short = next((w for w in extras if re.fullmatch("-[A-Za-z]+", w)), "")
        options = sorted(set(_options(self, command)))
        long = next((o for o in options if short and o.startswith(f"--{short[1]}")), "")
        hint = f"; options have two dashes, such as {long}" if long else ""
        self.error(f"ranef {command} does not know what {shlex.join(extras)} is for{hint}")


class _Command(argparse.ArgumentParser):
    """A command's own parser: what must be given is said by itself, not under every option."""

    def error(self, message: str) -> NoReturn:
        start, _, missing = message.partition("the following arguments are required: ")
        if start or not missing:
            long = len(message) > MOST_LETTERS
            message = _with_choice(message)
            super().error(f"{message[: MOST_LETTERS // 2]} ..." if long else message)
        must = [action for action in self._actions if action.required and action.option_strings]
        places = [action for action in self._actions if not action.option_strings]
        words = [_place(action) for action in places]
        words += [f"{action.option_strings[-1]} {action.metavar}" for action in must]
        helped = {name: action for action in must for name in action.option_strings}
        meant = [f"{n}: {helped[n].help}" for n in missing.split(", ") if n in helped]
        lines = [
            f"{self.prog}: error: {missing} must be given: {self.prog} {' '.join(words)}",
            *(f"  {line}" for line in meant),
            f"({self.prog} --help)",
        ]
        self.exit(2, "\n".join(lines) + "\n")


def _with_choice(message: str) -> str:
    """Say which of the choices was probably meant."""
    found = re.fullmatch(
        r"(.*invalid choice: '([^']*)') \((?:choose from )(.*)\)", message, re.DOTALL
    )
    if found is None:
        return message
    known = [name.strip(" '") for name in found[3].split(",")]
    hint = suggestion(_TASKS.get(found[2].lower(), found[2]), known)
    if _TASKS.get(found[2].lower()) in known:
        hint = f"; did you mean {_TASKS[found[2].lower()]!r}?"
    return f"{found[1]}{hint}{' There' if hint else '; there'} are {', '.join(known)}"


_TASKS = {
    "assoc": "scan",
    "gwas": "scan",
    "kinship": "grm",
    "skat": "sets",
    "burden": "sets",
    "flame": "group",
    "ols": "group",
    "second_level": "group",
    "decontam": "screen",
    "kr": "kenward-roger",
    "kenward_roger": "kenward-roger",
    "sat": "satterthwaite",
    "fixed": "typical",
}


def _place(action: argparse.Action) -> str:
    """Write an argument that is given by its place, in brackets where it may be left out."""
    name = str(action.metavar or action.dest)
    if action.nargs in ("+", "*"):
        name += " ..."
    return f"[{name}]" if action.nargs in ("?", "*") else name


_FILE = re.compile(r"(FILE|F|FOLDER)\b")


def _flag_hint(command: str, flag: str, known: Sequence[str]) -> str:
    """Say what an option of another program, or a slip of the pen, is called here."""
    names = {option.lstrip("-").replace("-", "_"): option for option in known}
    hint = argument_hint(command, flag.lstrip("-").replace("-", "_"), list(names))
    for name, option in names.items():
        hint = hint.replace(f"did you mean {name!r}?", f"did you mean {option!r}?")
    return hint


_COMMANDS = {
    "contrast": "contrasts",
    "emmeans": "means",
    "glmer": "fit",
    "glmm": "fit",
    "lmer": "fit",
    "lmm": "fit",
    "lsmeans": "means",
    "mixed": "fit",
    "pairs": "contrasts",
    "smr": "ratios",
}


_IN_PYTHON = {
    "power": "ranef.power(formula, design, test=...)",
    "profile": "ranef.load(saved).profile()",
    "bootstrap": "ranef.load(saved).bootstrap()",
    "simulate": "ranef.load(saved).simulate(n)",
    "summary": "print(ranef.load(saved))",
    "show": "print(ranef.load(saved))",
    "table": "ranef.table(ranef.load(saved), 'table.docx'); of a new fit ranef fit --table does it",
    "report": "ranef.load(saved).report('report.html'); of a new fit ranef fit --report does it",
    "check": "ranef.load(saved).check(); of a new fit ranef fit --check does it",
    "confint": "ranef.load(saved).confint()",
    "trends": "ranef.load(saved).emtrends(...)",
    "emtrends": "ranef.load(saved).emtrends(...)",
    "average": "ranef.load(saved).average('x')",
    "icc": "ranef.load(saved).icc()",
    "r2": "ranef.load(saved).r2()",
    "maximal": "ranef.maximal(formula, data)",
    "step": "ranef.step(formula, data)",
    "influence": "ranef.load(saved).influence()",
}


def _actions(parser: argparse.ArgumentParser, command: str | None) -> Iterator[argparse.Action]:
    """Arguments of a command, and of its own commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                if command is None or name == command:
                    yield from _actions(inner, None)
        elif command is None:
            yield action


def _options(parser: argparse.ArgumentParser, command: str | None) -> Iterator[str]:
    """Options of a command, and of its own commands."""
    for action in _actions(parser, command):
        yield from action.option_strings


def _unquoted(words: Sequence[str]) -> str | None:
    """Put quotes around a formula that came in pieces; the shell may have made ~ a folder."""
    home = os.path.expanduser("~")
    pieces = ["~" if word == home else word for word in words]
    plain = next((i for i, word in enumerate(pieces) if word.startswith("--")), len(pieces))
    positional, rest = pieces[:plain], pieces[plain:]
    if len(positional) < 3 or not any("~" in word for word in positional):
        return None
    if "~" in positional[0].rstrip("~") and positional[1][0] not in "+*:-|(":
        return None
    formula, data = " ".join(positional[:-1]), positional[-1]
    return f'"{formula}" {shlex.join([data, *rest])}'


def _terminal_width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((88, 24)).columns


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``ranef``."""
    first_steps = "\n".join(f"  {line}" for verb in VERBS for line in verb.first_steps)
    parser = _Parser(
        prog="ranef",
        description=DESCRIPTION,
        epilog=EPILOG.format(first_steps=first_steps),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ranef {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=_Command
    )
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
