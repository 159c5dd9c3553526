"""The model's text, in lavaan's language, as statements.

The text is data: names of columns and latent variables, numbers and labels. Nothing in it is
executed, and what the language does not know is refused in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ranef.errors import FormulaError, shortened, suggestion
from ranef.fields.structural.expressions import Expression, Token, read_expression

__all__ = ["Block", "Constraint", "Modifiers", "Statement", "Syntax", "merged", "read_syntax"]

OPERATORS = ("=~", "<~", "~*~", "~~", ":=", "==", "~1", "~", "<", ">", "|")
MODELLED = ("=~", "~~", "~")
NOT_OFFERED = {
    "<~": "composites (<~) are not offered; write a latent variable with =~",
    "~*~": "scales of categorical indicators (~*~) are not offered: indicators are numbers here",
    "|": "thresholds (|) are not offered: indicators are numbers here",
}
CALLS = ("start", "label", "rv", "c", "equal", "lower", "upper")
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v\u00a0]+)
      | (?P<comment>[#!][^\n]*)
      | (?P<newline>\n|;)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>[^\W\d][\w.]*|\.[^\W\d][\w.]*)
      | (?P<quoted>`[^`\n]*`)
      | (?P<text>"[^"\n]*"|'[^'\n]*')
      | (?P<operator>=~|<~|~\*~|~~|:=|==|[~<>|+*(),?:^/\-=])
      | (?P<other>.)""",
    re.VERBOSE,
)
LONGEST = 1_000_000


@dataclass(frozen=True)
class Modifiers:
    """What stands before a variable: one entry a group, or one for all.

    Attributes
    ----------
    fixed : tuple of float or None
        Values; NaN for ``NA``, a free parameter.
    labels : tuple of str
    start, lower, upper : tuple of float
    slope : str or None
        Name of the random slope, ``rv("s")``.
    equal : str or None
        The parameter that it equals, ``equal("f=~x2")``.
    """

    fixed: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    start: tuple[float, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    slope: str | None = None
    equal: str | None = None

    def merged(self, other: Modifiers) -> Modifiers:
        """Return these modifiers, and what another mention of the variable adds."""
        given = {name: value for name, value in vars(other).items() if value not in ((), None)}
        return replace(self, **given)


@dataclass(frozen=True)
class Statement:
    """``lhs op rhs`` with its modifiers; an intercept is ``~1`` with rhs ``""``."""

    lhs: str
    op: str
    rhs: str
    modifiers: Modifiers
    line: int


@dataclass(frozen=True)
class Constraint:
    """``name := expression``, or ``left == right``, ``left < right``, ``left > right``."""

    op: str
    left: Expression
    right: Expression
    line: int

    @property
    def text(self) -> str:
        """The constraint as one line."""
        return f"{self.left} {self.op} {self.right}"


@dataclass(frozen=True)
class Block:
    """Statements of one group and level, as typed; None where the text names none."""

    group: str | None
    level: str | None
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Syntax:
    """A model's text, read.

    Attributes
    ----------
    text : str
    blocks : tuple of Block
    constraints : tuple of Constraint
        Of ``== < >``.
    defined : tuple of Constraint
        Of ``:=``.
    """

    text: str
    blocks: tuple[Block, ...]
    constraints: tuple[Constraint, ...] = ()
    defined: tuple[Constraint, ...] = ()

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of random slopes."""
        found = [s.modifiers.slope for b in self.blocks for s in b.statements]
        return tuple(dict.fromkeys(name for name in found if name is not None))


@dataclass
class _Reading:
    outer: str | None = None
    group: str | None = None
    level: str | None = None
    blocks: dict[tuple[str | None, str | None], list[Statement]] = field(default_factory=dict)
    constraints: list[Constraint] = field(default_factory=list)
    defined: list[Constraint] = field(default_factory=list)


def read_syntax(text: str) -> Syntax:
    """Read a model in lavaan's language.

    Examples
    --------
    >>> found = read_syntax("f =~ y1 + a*y2 ; f ~ x ; twice := 2*a")
    >>> [(s.lhs, s.op, s.rhs, s.modifiers.labels) for s in found.blocks[0].statements]
    [('f', '=~', 'y1', ()), ('f', '=~', 'y2', ('a',)), ('f', '~', 'x', ())]
    >>> found.defined[0].text
    'twice := 2*a'
    >>> read_syntax("f =~ y1 + efa(2)*y2")
    Traceback (most recent call last):
    ...
    ranef.errors.FormulaError: line 1 of the model: no modifier 'efa()'; modifiers are a number, ...
    """
    if len(text) > LONGEST:
        raise FormulaError("the model's text is longer than a million characters")
    reading = _Reading()
    for line in _lines(list(_tokens(text.removeprefix("\ufeff")))):
        _read_line(line, reading)
    if not any(reading.blocks.values()):
        raise FormulaError("the model is empty; write one such as 'f =~ y1 + y2 + y3'")
    blocks = tuple(
        Block(group, level, merged(found))
        for (group, level), found in reading.blocks.items()
        if found or level is not None
    )
    return Syntax(text, blocks, tuple(reading.constraints), tuple(reading.defined))


def _tokens(text: str) -> Iterator[Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match.group()
        if kind in ("space", "comment"):
            continue
        if kind == "newline":
            yield Token("newline", value, line)
            line += value == "\n"
        elif kind == "quoted":
            yield Token("name", value[1:-1], line)
        elif kind == "text":
            yield Token("text", value[1:-1], line)
        elif kind == "other":
            raise FormulaError(f"line {line} of the model: {value!r} {_strange(value)}")
        else:
            yield Token(kind, value, line)


def _strange(mark: str) -> str:
    """What to do about a character that the language does not know."""
    if mark in "\"'":
        return "opens a text that does not end on its line; of R's code give the model alone"
    if mark in "\u201c\u201d\u201e\u2018\u2019":
        return 'is a printed quotation mark; the language has straight ones, rv("s")'
    return "means nothing here; a name with such characters stands in backticks, `life events`"


def _lines(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens of each statement: a line goes on after an operator, or within brackets."""
    line: list[Token] = []
    depth = 0
    for k, token in enumerate(tokens):
        if token.kind != "newline":
            depth += (token.text == "(") - (token.text == ")") if token.kind == "operator" else 0
            line.append(token)
            continue
        following = next((t for t in tokens[k + 1 :] if t.kind != "newline"), None)
        leads = following is not None and following.kind == "operator" and following.text in "+*,)"
        open_end = bool(line) and line[-1].kind == "operator" and line[-1].text not in (")", ":")
        if token.text == ";" or not (depth > 0 or open_end or (leads and line)):
            if line:
                yield line
            line, depth = [], 0
    if line:
        yield line


def _read_line(line: list[Token], reading: _Reading) -> None:
    if _is_header(line):
        _open_block(line, reading)
        return
    at = next((i for i, t in enumerate(line) if t.kind == "operator" and t.text in OPERATORS), None)
    where = f"line {line[0].line} of the model"
    if at is None:
        said = " ".join(t.text for t in line)
        hint = ""
        if "=" in said:
            hint = "; a latent variable is 'f =~ a + b + c', a regression 'y ~ x'"
        if any(t.text.upper() in ("BY", "ON", "WITH") for t in line[1:]):
            hint = (
                "; BY, ON and WITH of Mplus are =~, ~ and ~~ (with MODEL: before them they are "
                "read as they are)"
            )
        raise FormulaError(
            f"{where}: {shortened(said)} has no operator; they are =~ ~ ~~ := == < >{hint}"
        )
    op, left, right = line[at].text, line[:at], line[at + 1 :]
    if op in NOT_OFFERED:
        raise FormulaError(f"{where}: {NOT_OFFERED[op]}")
    if not left or not right:
        raise FormulaError(f"{where}: nothing stands {'before' if not left else 'after'} {op!r}")
    if op not in MODELLED:
        found = Constraint(op, read_expression(left), read_expression(right), line[0].line)
        if op == ":=" and found.left.kind != "name":
            raise FormulaError(f"{where}: a name stands before ':=', as in 'ind := a*b'")
        (reading.defined if op == ":=" else reading.constraints).append(found)
        return
    own = reading.blocks.setdefault((reading.group, reading.level), [])
    for lhs in _names(left, where):
        own.extend(_statements(lhs, op, right, where))


def _is_header(line: list[Token]) -> bool:
    return (
        len(line) >= 2
        and line[0].kind == "name"
        and line[1].kind == "operator"
        and line[1].text == ":"
    )


def _open_block(line: list[Token], reading: _Reading) -> None:
    kind, where = line[0].text.lower(), f"line {line[0].line} of the model"
    if kind not in ("level", "group"):
        raise FormulaError(
            f"{where}: no block {line[0].text + ':'!r}"
            f"{suggestion(line[0].text, ('level', 'group'))}; blocks are 'level:' and 'group:'"
        )
    named = line[2:]
    if not named:
        raise FormulaError(f"{where}: {kind}: needs a number or a name, as in '{kind}: 1'")
    name = "".join(t.text for t in named) if len(named) == 1 else " ".join(t.text for t in named)
    if reading.outer is None:
        reading.outer = kind
    if kind == "group":
        reading.group = name
    else:
        reading.level = name
    if kind == reading.outer and kind == "group":
        reading.level = None
    elif kind == reading.outer:
        reading.group = None
    reading.blocks.setdefault((reading.group, reading.level), [])


def _names(tokens: list[Token], where: str) -> list[str]:
    names, wanted = [], True
    for token in tokens:
        if wanted and token.kind == "name":
            names.append(token.text)
        elif wanted or token.kind != "operator" or token.text != "+":
            if tokens[0].text.lower() == "efa":
                raise FormulaError(
                    f"{where}: exploratory blocks of factors (efa) are not offered; write which "
                    "items measure each factor"
                )
            raise FormulaError(
                f"{where}: {token.text!r} cannot stand before the operator; names joined by + can"
            )
        wanted = not wanted
    if wanted:
        raise FormulaError(f"{where}: a name is missing after '+'")
    return names


def _statements(lhs: str, op: str, tokens: list[Token], where: str) -> Iterator[Statement]:
    for term in _terms(tokens, where):
        modifiers, last = _modifiers(term, where)
        line = term[0].line
        if last.kind == "number":
            if op != "~" or last.text != "1":
                raise FormulaError(
                    f"{where}: {last.text!r} stands where a variable should; the intercept is "
                    "'y ~ 1', a fixed one 'y ~ 0*1'"
                )
            yield Statement(lhs, "~1", "", modifiers, line)
        elif last.kind == "name":
            if modifiers.slope is not None and op != "~":
                raise FormulaError(f"{where}: rv() makes a slope random, and stands after '~'")
            yield Statement(lhs, op, last.text, modifiers, line)
        else:
            raise FormulaError(
                f"{where}: {last.text!r} stands where a variable should; names of variables have "
                "no quotation marks, or backticks"
            )


def _terms(tokens: list[Token], where: str) -> Iterator[list[Token]]:
    term: list[Token] = []
    depth = 0
    for token in tokens:
        mark = token.text if token.kind == "operator" else ""
        depth += (mark == "(") - (mark == ")")
        if mark == "+" and depth == 0 and term and not _is_factor(term[-1]):
            yield term
            term = []
        elif mark == "+" and depth == 0 and not term:
            raise FormulaError(f"{where}: a variable is missing before '+'")
        else:
            term.append(token)
    if not term:
        raise FormulaError(f"{where}: a variable is missing after '+'")
    yield term


def _is_factor(token: Token) -> bool:
    return token.kind == "operator" and token.text in "*?"


def _modifiers(term: list[Token], where: str) -> tuple[Modifiers, Token]:
    """Read ``modifier * modifier * variable``."""
    found = Modifiers()
    factors: list[tuple[list[Token], str]] = []
    part: list[Token] = []
    depth = 0
    for token in term:
        mark = token.text if token.kind == "operator" else ""
        depth += (mark == "(") - (mark == ")")
        if depth == 0 and mark in ("*", "?"):
            factors.append((part, mark))
            part = []
        else:
            part.append(token)
    if len(part) != 1:
        said = " ".join(t.text for t in part)
        if depth:
            raise FormulaError(f"{where}: a bracket is not closed in {shortened(said)}")
        if any(t.kind == "operator" and t.text == ":" for t in part):
            raise FormulaError(
                f"{where}: {said!r} is a product of variables; add it to the table as a column "
                "and name that"
            )
        raise FormulaError(
            f"{where}: {shortened(said)} is no variable{_turned(said)}; terms are joined by '+', "
            "and a name with other characters stands in backticks"
        )
    for tokens, mark in factors:
        found = found.merged(_modifier(tokens, mark, where))
    return found, part[0]


def _turned(said: str) -> str:
    """Ask about ``~=``, whose first sign is read as a regression."""
    return " (a latent variable is defined by =~)" if said.startswith("=") else ""


def _modifier(tokens: list[Token], mark: str, where: str) -> Modifiers:
    if not tokens:
        raise FormulaError(f"{where}: nothing stands before {mark!r}")
    call = tokens[0].text if len(tokens) > 1 and tokens[1].text == "(" else None
    if tokens[0].kind == "name" and call is not None:
        return _called(call, _arguments(tokens, where), mark, where)
    values = [_value(tokens, where)]
    return _listed(values, mark, where)


def _called(name: str, given: list[float | str], mark: str, where: str) -> Modifiers:
    if name == "c":
        return _listed(given, mark, where)
    if name in ("start", "lower", "upper"):
        numbers = _numbers(given, f"{name}()", where)
        return Modifiers(**{name: numbers})  # type: ignore[arg-type]
    if name == "label":
        return Modifiers(labels=tuple(str(value) for value in given))
    if name in ("rv", "equal"):
        if len(given) != 1 or not isinstance(given[0], str):
            raise FormulaError(f'{where}: {name}() takes one name, as in {name}("s")*x')
        return Modifiers(slope=given[0]) if name == "rv" else Modifiers(equal=given[0])
    raise FormulaError(
        f"{where}: no modifier {name + '()'!r}{suggestion(name, CALLS)}; modifiers are a number, "
        "NA, a label, start(), lower(), upper(), label(), equal(), c() and rv()"
    )


def _listed(values: list[float | str], mark: str, where: str) -> Modifiers:
    """Numbers fix (or start, before ``?``), names label; ``NA`` frees."""
    if mark == "?":
        return Modifiers(start=_numbers(values, "?", where))
    free = [isinstance(v, str) and v == "NA" for v in values]
    numbers = [not isinstance(v, str) or f for v, f in zip(values, free, strict=True)]
    if all(numbers):
        fixed = tuple(float("nan") if isinstance(v, str) else v for v in values)
        return Modifiers(fixed=fixed)
    if any(number and not f for number, f in zip(numbers, free, strict=True)):
        raise FormulaError(f"{where}: c() holds either numbers or labels")
    return Modifiers(labels=tuple("" if f else str(v) for v, f in zip(values, free, strict=True)))


def _numbers(values: Sequence[float | str], what: str, where: str) -> tuple[float, ...]:
    if not values or any(isinstance(v, str) for v in values):
        raise FormulaError(f"{where}: {what} takes numbers")
    return tuple(float(v) for v in values)


def _arguments(tokens: list[Token], where: str) -> list[float | str]:
    """Read what stands in a modifier's brackets; ``c(1, 2)`` within them is as the list itself."""
    inside = tokens[2:-1]
    if len(inside) > 2 and inside[0].text == "c" and inside[1].text == "(":
        return _arguments(inside, where)
    parts: list[list[Token]] = [[]]
    for token in inside:
        if token.kind == "operator" and token.text == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [_value(part, where) for part in parts]


def _value(tokens: list[Token], where: str) -> float | str:
    sign = 1.0
    rest = tokens
    while rest and rest[0].kind == "operator" and rest[0].text in "+-":
        sign = -sign if rest[0].text == "-" else sign
        rest = rest[1:]
    if len(rest) == 1 and rest[0].kind == "number":
        number = sign * float(rest[0].text)
        if abs(number) == float("inf"):
            raise FormulaError(f"{where}: {rest[0].text} is no finite number")
        return number
    if len(rest) == 1 and rest[0].text in ("Inf", "NaN", "NULL", "TRUE", "FALSE"):
        raise FormulaError(f"{where}: {rest[0].text} is neither a number nor a label")
    if len(rest) == 1 and rest is tokens and rest[0].kind in ("name", "text"):
        return rest[0].text
    if len(rest) == 3 and rest[1].text == "/" and rest[0].kind == rest[2].kind == "number":
        below = float(rest[2].text)
        if below != 0:
            return sign * float(rest[0].text) / below
    said = " ".join(t.text for t in tokens)
    raise FormulaError(
        f"{where}: {shortened(said)} is no modifier; modifiers are a number, NA, a label, "
        "start(), lower(), upper(), label(), equal(), c() and rv()"
    )


def merged(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """One statement a parameter: a second mention adds its modifiers to the first."""
    found: dict[tuple[str, str, str], Statement] = {}
    for one in statements:
        key = (one.lhs, one.op, one.rhs)
        if one.op == "~~" and (one.rhs, one.op, one.lhs) in found:
            key = (one.rhs, one.op, one.lhs)
        if key in found:
            known = found[key]
            found[key] = replace(known, modifiers=known.modifiers.merged(one.modifiers))
        else:
            found[key] = one
    return tuple(found.values())
