"""What can be said of the arguments before any file is read."""

from __future__ import annotations

from pathlib import Path

from ranef.errors import FormulaError

__all__ = ["check_formula"]


def check_formula(formula: str, data: str, command: str = "fit") -> None:
    """Refuse a formula without a tilde; recognise one that changed places with the table."""
    if "~" in formula:
        return
    if "~" in data:
        raise FormulaError(
            f"the formula comes first and the table last: ranef {command} '{data}' '{formula}'"
        )
    if Path(formula).exists():
        raise FormulaError(
            f"the first argument is the formula, and {formula!r} is a file; "
            f"write ranef {command} 'y ~ x + (1 | g)' '{formula}'"
        )
    raise FormulaError(
        f"the formula {formula!r} has no '~'; write the response before it and the rest after it, "
        "as in 'y ~ x + (1 | g)'"
    )
