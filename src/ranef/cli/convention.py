"""How a file writes numbers: decided once, from all its columns, and applied to each.

``1.059`` is about one, or one thousand and fifty-nine: no column knows alone. A value such
as ``1,5`` or ``1.234,5`` anywhere in the file settles the decimal mark, and with it what
the other mark means. A column that contradicts what was settled stays text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Convention", "Look", "Note", "converted", "decide", "numbers_of", "whole_numbers"]

SIGN, EXPONENT = "[+-]?", "([eE][+-]?[0-9]+)?"
WHOLE = f"^{SIGN}[0-9]+$"
SCIENTIFIC = f"^{SIGN}[0-9]+[eE][+-]?[0-9]+$"
BEYOND = f"^{SIGN}([iI][nN][fF]([iI][nN][iI][tT][yY])?)$"
MINUS = "\u2212"
TRUTH = "^(True|TRUE|true|False|FALSE|false)$"
CODE = "^0[0-9]+$"
OTHER = {".": ",", ",": "."}
NAMES = {".": "point", ",": "comma", " ": "blank", "'": "apostrophe"}
LARGEST_WORDS = 3
FIRST = 200


def fraction(mark: str) -> str:
    """Pattern of numbers with a decimal mark."""
    m = re.escape(mark)
    return f"^{SIGN}([0-9]+{m}[0-9]*|{m}[0-9]+){EXPONENT}$"


def three(mark: str) -> str:
    """Pattern of what may be a fraction of three digits, or a thousand."""
    return f"^{SIGN}[1-9][0-9]?[0-9]?{re.escape(mark)}[0-9][0-9][0-9]$"


def grouped(mark: str, decimal: str) -> str:
    """Pattern of numbers whose digits are grouped by threes."""
    m, d = f"[{re.escape(mark)}]", re.escape(decimal)
    if mark in " '":
        m = "[ \u00a0\u2009\u202f]" if mark == " " else "['\u2019]"
    western = f"{SIGN}[1-9][0-9]?[0-9]?({m}[0-9][0-9][0-9])+"
    if mark != ",":
        return f"^{western}({d}[0-9]*)?$"
    indian = f"{SIGN}[1-9][0-9]?(,[0-9][0-9])+,[0-9][0-9][0-9]"  # lakhs and crores
    return f"^({western}|{indian})({d}[0-9]*)?$"


def pattern_of(convention: Convention) -> str:
    """Pattern of every number under a convention."""
    patterns = [WHOLE, SCIENTIFIC, BEYOND, fraction(convention.decimal)]
    if convention.thousands is not None:
        patterns.append(grouped(convention.thousands, convention.decimal))
    return "|".join(patterns)


@dataclass(frozen=True)
class Note:
    """A decision the user should know of.

    Attributes
    ----------
    text : str
    column : str or None
        The column that it is about.
    in_use : bool
        Whether it matters only where the model uses the column.
    """

    text: str
    column: str | None = None
    in_use: bool = False


@dataclass(frozen=True)
class Convention:
    """The decimal mark, and the mark between groups of three digits if there may be one.

    Attributes
    ----------
    decimal : {".", ","}
    thousands : str or None
    settled : bool
        Whether something in the file, or the user, says so.
    wary : bool
        Whether the file is one of spreadsheets where a point often groups digits.
    """

    decimal: str
    thousands: str | None
    settled: bool
    wary: bool = False


class Look:
    """A column as it is written: which patterns its values have.

    Parameters
    ----------
    name : str
    column : pandas.Series
        Text, missing where the field is.
    place : callable
        Says where a row stands in the file.
    """

    def __init__(self, name: str, column: Any, place: Callable[[int], str] = str) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.name = name
        self.place = place
        self._had: dict[str, Any] = {}
        written = pc.utf8_trim_whitespace(
            pa.array(column, from_pandas=True).cast(pa.large_string())
        )
        if pc.any(pc.match_substring(written, MINUS)).as_py():
            written = pc.replace_substring_regex(written, f"^{MINUS}([0-9.,])", r"-\1")
        self.written = written

    @cached_property
    def distinct(self) -> Any:
        import pyarrow.compute as pc

        return pc.unique(self.written.drop_null())

    def has(self, pattern: str) -> Any:
        """Return which distinct values have a pattern."""
        import pyarrow.compute as pc

        if pattern not in self._had:
            found = pc.match_substring_regex(self.distinct, pattern)
            self._had[pattern] = found.to_numpy(zero_copy_only=False)
        return self._had[pattern]

    def all_have(self, pattern: str) -> bool:
        """Tell whether every value has a pattern; the first ones tell most columns apart."""
        import pyarrow.compute as pc

        some = pc.match_substring_regex(self.distinct[:FIRST], pattern)
        if len(some) == 0 or not pc.all(some).as_py():
            return False
        return len(some) == len(self.distinct) or bool(self.has(pattern).all())

    def any_has(self, pattern: str, without: str | None = None) -> bool:
        """Tell whether some value has a pattern and not another."""
        import pyarrow.compute as pc

        for part in (self.distinct[:FIRST], self.distinct):
            found = pc.match_substring_regex(part, pattern)
            if without is not None:
                found = pc.and_not(found, pc.match_substring_regex(part, without))
            if pc.any(found).as_py():
                return True
            if len(part) == len(self.distinct):
                return False
        return False

    def contains(self, mark: str) -> bool:
        """Tell whether a character stands in some value."""
        import pyarrow.compute as pc

        return bool(pc.any(pc.match_substring(self.distinct, mark)).as_py())

    def where(self, value: str) -> str:
        """Return where a value first stands in the file."""
        import pyarrow.compute as pc

        return self.place(pc.index(self.written, value).as_py())

    def numbers(self, convention: Convention) -> Any:
        """Return which distinct values are numbers under a convention."""
        return self.has(pattern_of(convention))

    def words(self, convention: Convention) -> list[str]:
        """Return the values that are no numbers, where nearly all others are; else none."""
        import pyarrow.compute as pc

        wrong = self.distinct.filter(pc.invert(_mask(self.numbers(convention))))
        if not 0 < len(wrong) <= LARGEST_WORDS:
            return []
        rows = pc.sum(pc.is_in(self.written, value_set=wrong)).as_py()
        words = wrong.to_pylist()
        few = 4 * rows <= len(self.written) - self.written.null_count
        return words if few and not any(re.match(r"[+-]?[.,]?\d", word) for word in words) else []

    def speaks_for(self, decimal: str, thousands: str | None) -> bool:
        """Tell whether some value can only be read with this decimal mark."""
        groups = thousands or OTHER[decimal]
        own, large = fraction(decimal), grouped(groups, decimal)
        said = self.contains(decimal) and self.any_has(own, three(decimal))
        if not said and self.contains(groups):
            also = groups not in " '" or self.contains(decimal)
            said = also and self.any_has(large, three(groups))
        mine = Convention(decimal, groups, False)
        return said and (self.all_have(pattern_of(mine)) or bool(self.words(mine)))

    def looks_like_thousands(self, mark: str) -> bool:
        """Tell whether whole numbers below 1000 stand beside values such as ``1.059``."""
        groups, plain = self.has(three(mark)), self.has(WHOLE)
        if not groups.any() or not (groups | plain).all() or not plain.any():
            return False
        sizes = map(abs, map(int, self.distinct.filter(_mask(plain)).to_pylist()))
        return 100 <= max(sizes) < 1000


def decide(
    looks: Sequence[Look], separator: str, decimal: str | None, thousands: str | None
) -> Convention:
    """Return the convention of a whole file, from what was given and what its values say.

    Examples
    --------
    >>> import pandas as pd
    >>> columns = [Look("n", pd.Series(["812", "1.059"])), Look("p", pd.Series(["0,5", "1"]))]
    >>> decide(columns, ";", None, None)
    Convention(decimal=',', thousands='.', settled=True, wary=False)
    >>> decide(columns[:1], ";", None, None).settled
    False
    """
    if decimal is not None or thousands in OTHER:
        mark = decimal or OTHER[str(thousands)]
        return Convention(mark, thousands or OTHER[mark], True)
    said = [mark for mark in OTHER if any(look.speaks_for(mark, thousands) for look in looks)]
    mark = said[0] if len(said) == 1 else ("," if separator == ";" else ".")
    if not said and separator == ";" and not any(look.has(three(",")).any() for look in looks):
        mark = "."
    settled = len(said) == 1
    wary = not settled and mark == "." and separator == ";"
    return Convention(mark, thousands or (OTHER[mark] if settled else None), settled, wary)


def converted(look: Look, convention: Convention) -> tuple[Any, Note | None]:
    """Return a column's values in their own type, and what should be known of that.

    Returns
    -------
    values : array or None
        None where the column stays the text that it is.
    note : Note or None
    """
    if len(look.distinct) == 0:
        return _parsed(look, convention)
    whole = look.all_have(WHOLE)
    if not whole and look.all_have(TRUTH):
        return _truth(look), None
    if not whole and not look.all_have(pattern_of(convention)):
        return None, _odd(look, convention, look.numbers(convention))
    if look.any_has(CODE):
        text = f"column {look.name!r} has codes with leading zeros and is read as text"
        return look.written, Note(text, look.name)
    if whole:
        return _whole(look), None
    if _is_open(look, convention):
        return None, Note(_question(look, convention), look.name, in_use=True)
    return _parsed(look, convention)


def _is_open(look: Look, convention: Convention) -> bool:
    """Tell whether nothing says if ``1.059`` is about one or about a thousand."""
    mark = convention.decimal
    if convention.settled:
        return False
    every = convention.wary and bool(look.has(three(mark)).all())
    return every or look.looks_like_thousands(mark)


def _question(look: Look, convention: Convention) -> str:
    groups = look.has(three(convention.decimal))
    value = look.distinct.to_pylist()[int(groups.argmax())]
    mark, name = convention.decimal, NAMES[convention.decimal]
    return (
        f"column {look.name!r} is read as text: nothing in the file says whether {value!r} is "
        f"a fraction or has groups of digits; say which with --decimal={mark} or with "
        f"--thousands={mark} (the {name} groups)"
    )


def _odd(look: Look, convention: Convention, right: Any) -> Note | None:
    """Say why a column with numbers in it is text: words, or another convention."""
    values = look.distinct.to_pylist()
    if right.any() and (words := look.words(convention)):
        shown = " ".join(f"--na={shlex.quote(word)}" for word in words)
        verb = "mark such fields" if len(words) > 1 else "marks such fields"
        text = (
            f"column {look.name!r} is read as text, since {words[0]!r} in "
            f"{look.where(words[0])} is no "
            f"number; {shown} {verb} as missing"
        )
        return Note(text, look.name, in_use=True)
    grouping = _grouping(look, convention, right)
    if grouping is not None:
        return grouping
    mark = OTHER[convention.decimal]
    other = Convention(mark, None if convention.thousands == mark else convention.thousands, True)
    if not (right | look.numbers(other) | look.has(three(mark))).all():
        return None
    wrong = values[int((~right).argmax())]
    text = (
        f"column {look.name!r} is read as text: {wrong!r} in {look.where(wrong)} contradicts the "
        f"decimal mark of the file, a {NAMES[convention.decimal]}; correct the column, or say how "
        f"numbers are written with --decimal and --thousands"
    )
    return Note(text, look.name, in_use=True)


def _grouping(look: Look, convention: Convention, right: Any) -> Note | None:
    """Say that a blank or an apostrophe seems to group digits, and how it is read."""
    if convention.thousands in (" ", "'"):
        return None
    decimals = [convention.decimal, *([] if convention.settled else [OTHER[convention.decimal]])]
    for decimal in decimals:
        for mark in " '":
            groups = look.has(grouped(mark, decimal))
            every = right | look.numbers(Convention(decimal, mark, True))
            if not groups.any() or not every.all():
                continue
            value = look.distinct.to_pylist()[int(groups.argmax())]
            also = "" if decimal == convention.decimal else f" --decimal={decimal}"
            text = (
                f"column {look.name!r} is read as text, since the {NAMES[mark]} seems to group the "
                f"digits of {value!r}; --thousands={shlex.quote(mark)}{also} reads numbers"
            )
            return Note(text, look.name, in_use=True)
    return None


def numbers_of(look: Look, decimal: str | None, thousands: str | None) -> tuple[Any, Note | None]:
    """Return a column as numbers by its own way of writing them; what nothing decides is a note.

    Parameters
    ----------
    look : Look
    decimal, thousands : str or None
        As the user gave them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    convention = decide([look], ";", decimal, thousands)
    if not convention.settled and look.has(three(convention.decimal)).any():
        return None, Note(_question(look, convention), look.name)
    right = _mask(look.numbers(convention))
    wrong = look.distinct.filter(pc.invert(right))
    if len(wrong):
        return None, _odd(look, convention, look.numbers(convention))
    text = look.written
    if convention.thousands is not None:
        text = _ungrouped(text, convention.thousands)
    text = pc.replace_substring(text, convention.decimal, ".")
    numbers = pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64())
    return numbers.to_numpy(zero_copy_only=False), None


def _ungrouped(text: Any, mark: str) -> Any:
    """Take the marks between groups of digits away."""
    import pyarrow.compute as pc

    marks = {" ": " \u00a0\u2009\u202f", "'": "'\u2019"}.get(mark, mark)
    return pc.replace_substring_regex(text, f"[{re.escape(marks)}]", "")


def _whole(look: Look) -> Any:
    """Return whole numbers exactly, in 64 bits; the text where they have more."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(look.written, r"^\+", "")
    missing = text.is_null().to_numpy(zero_copy_only=False)
    for kind in (pa.int64(), pa.uint64()):
        try:
            numbers = text.cast(kind)
        except pa.ArrowInvalid:
            continue
        values = numbers.fill_null(0).to_numpy(zero_copy_only=False)
        return pd.arrays.IntegerArray(values.copy(), missing) if missing.any() else values
    return look.written


def _truth(look: Look) -> Any:
    import numpy as np
    import pandas as pd
    import pyarrow.compute as pc

    missing = look.written.is_null().to_numpy(zero_copy_only=False)
    values = pc.match_substring_regex(look.written, "^[tT]").fill_null(False)
    found = np.array(values.to_numpy(zero_copy_only=False))
    return pd.arrays.BooleanArray(found, missing) if missing.any() else found


def _parsed(look: Look, convention: Convention) -> tuple[Any, Note | None]:
    """Return numbers with fractions or grouped digits."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    text, note = look.written, None
    if convention.thousands is not None:
        pattern = grouped(convention.thousands, convention.decimal)
        if look.any_has(pattern, WHOLE):
            groups = look.has(pattern)
            value = look.distinct.to_pylist()[int(groups.argmax())]
            plain = re.sub(r"[^0-9+\-]", "", value.partition(convention.decimal)[0])
            mark = NAMES.get(convention.thousands, convention.thousands)
            words = (
                f"column {look.name!r}: the {mark} groups digits, {value!r} is read as {plain}"
                f"{' and a fraction' if convention.decimal in value else ''}"
            )
            note = Note(words, look.name, in_use=True)
            text = _ungrouped(text, convention.thousands)
    if convention.decimal != ".":
        text = pc.replace_substring(text, convention.decimal, ".")
    numbers = pc.replace_substring_regex(text, r"^\+", "").cast(pa.float64())
    values = whole_numbers(np.array(numbers.to_numpy(zero_copy_only=False)))
    grouped_whole = note is not None and isinstance(values, np.ndarray) and _are_whole(values)
    return values.astype(np.int64) if grouped_whole else values, note


def whole_numbers(values: Any) -> Any:
    """Give whole numbers with gaps a type that holds both; others stay as they are."""
    import numpy as np
    import pandas as pd

    present = values[~np.isnan(values)]
    if len(present) < len(values) and _are_whole(present):
        return pd.array(values, dtype="Int64")
    return values


def _are_whole(values: Any) -> bool:
    import numpy as np

    return bool(np.all(np.abs(values) < 2**53) and np.all(values == np.round(values)))


def _mask(values: Any) -> Any:
    import pyarrow as pa

    return pa.array(values)
