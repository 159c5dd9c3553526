"""Inputs of Mplus: the MODEL command as lavaan's language.

Read are BY, ON, WITH, PON and PWITH, variances, intercepts in brackets, ``@`` ``*`` and labels in
parentheses, random slopes ``s | y ON x``, growth ``i s | y1@0 y2@1``, ``%WITHIN%`` and
``%BETWEEN%``, groups, and MODEL CONSTRAINT. What is not read is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ranef.errors import FormulaError, shortened

__all__ = ["is_mplus", "read_mplus"]

COMMANDS = (
    "TITLE", "DATA", "VARIABLE", "DEFINE", "ANALYSIS", "MODEL", "OUTPUT", "SAVEDATA", "PLOT",
    "MONTECARLO",
)  # fmt: skip
_COMMAND = re.compile(
    rf"(?:^|;)\s*({'|'.join(COMMANDS)})(\s+(?:CONSTRAINT|TEST|INDIRECT|PRIORS|POPULATION))?"
    r"(?:\s+(?!CONSTRAINT|TEST|INDIRECT)([\w.]+))?\s*:",
    re.IGNORECASE | re.MULTILINE,
)
OPTIONS = {
    "CATEGORICAL": "indicators are numbers here, categorical ones are not offered",
    "NOMINAL": "categories are not offered",
    "COUNT": "counts are not offered",
    "CENSORED": "censored variables are not offered",
    "CLASSES": "latent classes are not offered",
    "WEIGHT": "sampling weights are not offered",
    "BWEIGHT": "sampling weights are not offered",
    "LAGGED": "lagged variables are columns of the table; ranef.dynamic fits persons' inertia",
}
_TOKEN = re.compile(r"\n|\[|\]|\(|\)|@|\*|\||[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?|[^\s\[\]()@*|;]+")
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?$")
_FUNCTION = re.compile(r"\b(?:EXP|LOG|SQRT|ABS)(?=\s*\()")
_RANGE = re.compile(r"([A-Za-z_]+)(\d+)-([A-Za-z_]+)(\d+)$")


def read_mplus(text: str) -> str:
    """Return the model of an Mplus input in lavaan's language.

    Examples
    --------
    >>> print(read_mplus("VARIABLE: NAMES = y1-y3 x; MODEL: f BY y1-y3; f ON x (a);"))
    f =~ y1 + y2 + y3
    f ~ a*x
    """
    plain = re.sub(r"!.*", "", text)
    sections = list(_sections(plain))
    _refuse(sections)
    labels = _group_labels(sections)
    lines: list[str] = []
    constraints: list[str] = []
    for kind, extra, group, body in sections:
        if kind != "MODEL":
            continue
        if extra == "CONSTRAINT":
            constraints += _constraints(body)
        elif extra in ("TEST", "PRIORS", "POPULATION"):
            raise FormulaError(f"MODEL {extra} of Mplus is not read; write it with := or anova()")
        elif extra == "":
            lines += _model(body, labels.get((group or "").lower(), group))
    if not lines:
        raise FormulaError(
            "the Mplus input has no MODEL command; add one, such as MODEL: f BY y1-y4;"
        )
    return "\n".join([*lines, *constraints])


def is_mplus(text: str) -> bool:
    """Tell an Mplus input, which has a command MODEL and no tilde, from lavaan's language.

    Examples
    --------
    >>> is_mplus("MODEL: f BY y1-y3;"), is_mplus("f =~ y1 + y2 + y3")
    (True, False)
    """
    plain = re.sub(r"!.*", "", text)
    return "~" not in plain and any(kind == "MODEL" for kind, *_ in _sections(plain))


def _refuse(sections: Sequence[tuple[str, str, str | None, str]]) -> None:
    """Refuse what changes the model or the data and is not read."""
    for kind, _, _, body in sections:
        if kind == "DEFINE" and body.strip(" ;\n\t"):
            raise FormulaError(
                "DEFINE of Mplus is not read; add the variables that it makes to the table, and "
                "leave the command out"
            )
        if kind not in ("VARIABLE", "ANALYSIS"):
            continue
        for option, why in OPTIONS.items():
            if re.search(rf"(?:^|;)\s*{option}\b[\w\s]*=|(?:^|;)\s*{option}\s+(?:ARE|IS)\b", body,
                         re.IGNORECASE):  # fmt: skip
                raise FormulaError(f"{option} of Mplus is not read: {why}")
        if kind == "ANALYSIS" and re.search(r"TYPE[^;]*\b(MIXTURE|EFA)\b", body, re.IGNORECASE):
            raise FormulaError("analyses of TYPE MIXTURE and EFA of Mplus are not read")


def _group_labels(sections: Sequence[tuple[str, str, str | None, str]]) -> dict[str, str]:
    """Values of the grouping variable by label, of ``GROUPING = g (1 = men 2 = women)``."""
    found: dict[str, str] = {}
    for kind, _, _, body in sections:
        for match in re.finditer(r"GROUPING[^;(]*\(([^)]*)\)", body, re.IGNORECASE):
            if kind == "VARIABLE":
                pairs = re.findall(r"([\w.-]+)\s*=\s*(\w+)", match.group(1))
                found |= {label.lower(): value for value, label in pairs}
    return found


def _sections(text: str) -> Iterator[tuple[str, str, str | None, str]]:
    found = list(_COMMAND.finditer(text))
    for k, match in enumerate(found):
        end = found[k + 1].start() if k + 1 < len(found) else len(text)
        extra = (match.group(2) or "").strip().upper()
        yield match.group(1).upper(), extra, match.group(3), text[match.end() : end]


def _model(body: str, group: str | None) -> list[str]:
    lines = [f"group: {group}"] if group else []
    level = ""
    for statement in body.split(";"):
        rest = statement.strip()
        while rest.startswith("%"):
            name, _, rest = rest[1:].partition("%")
            level, rest = _level(name.strip()), rest.strip()
            lines.append(f"level: {level}")
        if rest:
            lines += _statement(rest, level)
    return lines


def _level(name: str) -> str:
    words = name.upper().split()
    if words == ["WITHIN"]:
        return "1"
    if words == ["BETWEEN"]:
        return "2"
    raise FormulaError(f"%{name}% of Mplus is not read; %WITHIN% and %BETWEEN% are")


def _statement(text: str, level: str) -> list[str]:
    tokens = _TOKEN.findall(text)
    upper = [t.upper() for t in tokens]
    if "|" in tokens:
        return _random(tokens, text, level)
    for word, op in (("BY", "=~"), ("ON", "~"), ("WITH", "~~")):
        if word in upper:
            at = upper.index(word)
            left = [name for name, _ in _list(tokens[:at], text)]
            right = _list(tokens[at + 1 :], text)
            return [f"{name} {op} {' + '.join(_term(item) for item in right)}" for name in left]
    for word, op in (("PON", "~"), ("PWITH", "~~")):
        if word in upper:
            return _pairs(tokens, upper.index(word), op, text)
    for word in ("XWITH", "AT", "IND", "VIA"):
        if word in upper:
            raise FormulaError(f"{word} of Mplus is not read: {shortened(text)}")
    if tokens and tokens[0] == "[":
        inside = tokens[1 : tokens.index("]")] if "]" in tokens else tokens[1:]
        rest = tokens[tokens.index("]") + 1 :] if "]" in tokens else []
        items = _list([t for t in (*inside, *rest) if t != "\n"], text)
        return [f"{name} ~ {mods}1" for name, mods in items]
    return [f"{name} ~~ {mods}{name}" for name, mods in _list(tokens, text)]


def _pairs(tokens: Sequence[str], at: int, op: str, text: str) -> list[str]:
    """The first variable with the first, the second with the second ..."""
    left, right = _list(tokens[:at], text), _list(tokens[at + 1 :], text)
    if len(left) != len(right):
        raise FormulaError(
            f"PON and PWITH pair variables, and {len(left)} stand on the left and {len(right)} on "
            f"the right of {shortened(text)}: give as many on both sides"
        )
    return [f"{a} {op} {_term(b)}" for (a, _), b in zip(left, right, strict=True)]


def _random(tokens: Sequence[str], text: str, level: str) -> list[str]:
    """Random slopes ``s | y ON x`` and growth ``i s | y1@0 y2@1``."""
    plain = [t for t in tokens if t != "\n"]
    at, upper = plain.index("|"), [t.upper() for t in plain]
    if "ON" not in upper[at:]:
        return _growth(plain[:at], _list(plain[at + 1 :], text), text, level)
    on = upper.index("ON")
    left = _list(plain[at + 1 : on], text)
    right = _list(plain[on + 1 :], text)
    if at != 1 or len(left) != 1 or len(right) != 1:
        raise FormulaError(f"one random slope has one outcome and one covariate: {shortened(text)}")
    return [f'{left[0][0]} ~ rv("{plain[0]}")*{right[0][0]}']


def _growth(
    factors: Sequence[str], items: Sequence[tuple[str, str]], text: str, level: str
) -> list[str]:
    """Intercept, slope and powers of time; the means are theirs, not the outcomes'."""
    times = [mods[:-1] for _, mods in items]
    if not 1 <= len(factors) <= 4 or not times or not all(_NUMBER.match(t) for t in times):
        raise FormulaError(
            "a random effect of Mplus that is neither a slope, 's | y ON x', nor growth, "
            f"'i s | y1@0 y2@1', is not read: {shortened(text)}"
        )
    lines = []
    for power, factor in enumerate(factors):
        loads = [float(t) ** power for t in times]
        terms = [f"{x:.12g}*{name}" for x, (name, _) in zip(loads, items, strict=True)]
        lines.append(f"{factor} =~ {' + '.join(terms)}")
    lines += [f"{a} ~~ {b}" for k, a in enumerate(factors) for b in factors[k + 1 :]]
    if level != "1":
        lines += [f"{factor} ~ 1" for factor in factors]
        lines += [f"{name} ~ 0*1" for name, _ in items]
    return lines


def _term(item: tuple[str, str]) -> str:
    return f"{item[1]}{item[0]}"


def _list(tokens: Sequence[str], text: str) -> list[tuple[str, str]]:
    """Variables with their modifiers in lavaan's language; a label is of those on its line."""
    found: list[tuple[str, str]] = []
    k, first, last, fresh = 0, 0, 0, False
    while k < len(tokens):
        token = tokens[k]
        if token == "\n":
            fresh = True
            k += 1
        elif token in ("@", "*"):
            number = tokens[k + 1] if k + 1 < len(tokens) else ""
            free = token == "*"
            if not _NUMBER.match(number):
                if not free:
                    raise FormulaError(f"a number is missing after '@': {shortened(text)}")
                number, k = "", k - 1
            value = f"NA*{f'start({number})*' if number else ''}" if free else f"{number}*"
            if not found:
                raise FormulaError(f"a variable is missing before {token!r}: {shortened(text)}")
            for at in range(last, len(found)):  # of a range y1-y4@0 every one
                found[at] = (found[at][0], found[at][1] + value)
            k += 2
        elif token == "(":
            end = tokens.index(")", k) if ")" in tokens[k:] else len(tokens)
            labels = [x for t in tokens[k + 1 : end] if t != "\n" for x in _names(t)]
            run = range(first, len(found))
            if len(labels) == 1:
                labels = labels * len(run)
            if len(labels) != len(run):
                raise FormulaError(f"labels and parameters differ in number: {shortened(text)}")
            for at, label in zip(run, labels, strict=True):
                name = f"p{label}" if label[:1].isdigit() else label
                found[at] = (found[at][0], f"{found[at][1]}{name}*")
            first = len(found)
            k = end + 1
        elif token in ("[", "]", ")", "|"):
            raise FormulaError(f"{token!r} is out of place: {shortened(text)}")
        else:
            last = len(found)
            first, fresh = (last if fresh else first), False
            found += [(name, "") for name in _names(token)]
            k += 1
    return found


def _names(token: str) -> list[str]:
    """One name, or those of a range ``y1-y4``."""
    match = _RANGE.match(token)
    if match is None:
        if not re.match(r"[\w.#]+$", token):
            raise FormulaError(f"{token!r} of the Mplus input is not read")
        return [token]
    stem, low, other, high = match.groups()
    if stem.lower() != other.lower() or int(high) < int(low) or int(high) - int(low) > 999:
        raise FormulaError(f"{token!r} is no range of names")
    return [f"{stem}{k}" for k in range(int(low), int(high) + 1)]


def _constraints(body: str) -> list[str]:
    new: set[str] = set()
    out: list[str] = []
    for statement in body.split(";"):
        text = " ".join(statement.split())
        if not text:
            continue
        match = re.match(r"NEW\s*\((.*)\)$", text, re.IGNORECASE)
        if match:
            new |= {name.lower() for name in re.split(r"[\s,]+", match.group(1)) if name}
            continue
        left, equals, right = text.partition("=")
        if not equals:
            for mark in ("<", ">"):
                if mark in text:
                    out.append(text)
                    break
            else:
                raise FormulaError(f"a line of MODEL CONSTRAINT is not read: {shortened(text)}")
            continue
        right = _FUNCTION.sub(lambda m: m.group().lower(), right.replace("**", "^"))
        left = _FUNCTION.sub(lambda m: m.group().lower(), left.replace("**", "^"))
        op = ":=" if left.strip().lower() in new else "=="
        out.append(f"{left.strip()} {op} {right.strip()}")
    return out
