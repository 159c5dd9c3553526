"""`effect_sizes`: effects and sampling variances for `meta`, from what studies report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.evaluate import unknown_column
from ranef.errors import DataError, ModelError, row_text, suggestion
from ranef.formula.labels import count_text
from ranef.models.effect_sizes import MEASURES, Measure
from ranef.tables import Table, make_table

__all__ = ["effect_sizes"]

Floats = NDArray[np.float64]

ADD = 0.5


def effect_sizes(
    measure: str, table: Any, *, effect: str = "yi", variance: str = "vi", add: float = ADD,
    **columns: str,
) -> Any:  # fmt: skip
    """Add the effect size of each study and its sampling variance to a table.

    Parameters
    ----------
    measure : str
        - of two by two tables ``ai, bi, ci, di`` (events and others of the first group, then of
          the second): ``"RR"`` log risk ratio, ``"OR"`` log odds ratio, ``"RD"`` risk difference,
          ``"AS"`` difference of arcsines, ``"PETO"`` Peto's log odds ratio. In place of `bi` and
          `di` the sizes ``n1i, n2i``;
        - of means ``m1i, sd1i, n1i, m2i, sd2i, n2i``: ``"MD"`` difference, ``"SMD"`` standardised
          (Hedges' g), ``"SMDH"`` standardised without equal variances, ``"ROM"`` log ratio of
          means, ``"CVR"`` log ratio of coefficients of variation, ``"VR"`` log ratio of standard
          deviations;
        - of correlations ``ri, ni``: ``"COR"`` (variance (1 - r^2)^2 / (n - 1), of three persons
          too, where it is exact if the true correlation is zero), ``"ZCOR"`` Fisher's z (of four
          persons or more);
        - of one proportion ``xi, ni``: ``"PR"``, ``"PLO"`` log odds, ``"PAS"`` arcsine, ``"PFT"``
          double arcsine;
        - of rates ``x1i, t1i, x2i, t2i``: ``"IRR"`` log ratio;
        - of the same persons twice ``m1i, m2i, sd1i, sd2i, ni, ri``: ``"MC"`` mean change, and
          ``"SMCR"`` standardised by the first standard deviation (without ``sd2i``).
    table : table
    effect, variance : str
        Names of the new columns.
    add : float
        Added to all counts of a study where one of them is zero (of RR, OR, RD, PR, PLO and IRR).
    **columns : str
        The column of each number: ``ai="tpos"``; a column of that very name need not be given.

    Returns
    -------
    table
        The columns of the table, then effect and variance; NaN where a number is missing.

    Raises
    ------
    ranef.errors.DataError
        A number cannot be: a negative count, a correlation beyond one, more events than persons.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.data.load("bcg")
    >>> bcg = ranef.effect_sizes("RR", bcg, ai="tpos", bi="tneg", ci="cpos", di="cneg")
    >>> bcg[["author", "yi", "vi"]].head(2).round(4)
                 author      yi      vi
    0           Aronson -0.8893  0.3256
    1  Ferguson & Simes -1.5854  0.1946
    """
    name = arguments.choice("measure", measure, tuple(MEASURES))
    source, kind = Table.of(table), MEASURES[name]
    number = arguments.number("add", add)
    if not 0 <= number < np.inf:
        raise ModelError(f"add={add!r} is not a number from zero on")
    for new in (effect, variance):
        if new in source:
            raise DataError(f"the table has a column {new!r} already; give effect= and variance=")
    numbers = _read(name, kind, source, columns)
    values = _corrected(kind, numbers, number)
    with np.errstate(all="ignore"):
        y, v = kind.compute(*(values[key] for key in kind.needs))
    _check_results(kind, values, y, v)
    gone = ~np.isfinite(y) | ~np.isfinite(v)
    own = {name: source.values(name) for name in source.columns}
    own |= {effect: np.where(gone, np.nan, y), variance: np.where(gone, np.nan, v)}
    return make_table(own, source.library, source.index)


def _read(name: str, kind: Measure, table: Table, columns: dict[str, str]) -> dict[str, Floats]:
    """The numbers that a measure needs, checked."""
    needed = dict(zip(kind.needs, kind.kinds, strict=True))
    sizes = {"bi": ("ai", "n1i"), "di": ("ci", "n2i")} if "ai" in needed else {}
    given = dict(columns)
    known = [*needed, *(size for _, size in sizes.values())]
    for key in given:
        if key not in known:
            raise ModelError(
                f"measure={name!r} takes no {key!r}{suggestion(key, known)}; it needs "
                f"{', '.join(kind.needs)}"
            )
    counted = {part for part, (_, size) in sizes.items() if size in given}
    given |= {key: key for key in known if key not in {*given, *counted} and key in table}
    out: dict[str, Floats] = {}
    for key in kind.needs:
        if key in given:
            out[key] = _numbers(table, key, given[key], needed[key])
        elif key in sizes and sizes[key][1] in given:
            part, size = sizes[key]
            whole = _numbers(table, size, given[size], "size")
            out[key] = whole - _numbers(table, part, given[part], "count")
            _refuse(out[key] < 0, f"more {given[part]} than {given[size]}")
        else:
            raise ModelError(
                f"measure={name!r} needs {key!r}, the column of its numbers: give {key}='...', "
                f"the name of a column (it takes {', '.join(known)})"
            )
    if "xi" in out:
        _refuse(out["xi"] > out["ni"], f"more {given['xi']} than {given['ni']}")
    return out


def _numbers(table: Table, key: str, column: Any, kind: str) -> Floats:
    if not isinstance(column, str):
        raise ModelError(f"{key} is the name of a column, not {type(column).__name__}")
    if column not in table:
        raise unknown_column(column, table, key)
    values = table.numeric(column).astype(np.float64)
    _refuse(np.isinf(values), f"{column} is infinite")
    if kind == "count":
        _refuse(values < 0, f"{column} is negative")
    elif kind in ("size", "sd", "time"):
        _refuse(values <= 0, f"{column} is not positive")
    elif kind == "correlation":
        _refuse(np.abs(values) > 1, f"{column} is no correlation, beyond -1 and 1")
    return values


def _refuse(rows: NDArray[np.bool_], what: str) -> None:
    found = np.flatnonzero(rows)
    if len(found):
        raise DataError(
            f"{what} in {count_text(len(found), 'row')} (first in {row_text(int(found[0]))}); "
            "correct it, or mark it as missing"
        )


def _corrected(kind: Measure, numbers: dict[str, Floats], add: float) -> dict[str, Floats]:
    """Counts with `add` where a study has a zero among them."""
    if not kind.cells or add == 0:
        return numbers
    if "xi" in kind.cells:
        zero = (numbers["xi"] == 0) | (numbers["xi"] == numbers["ni"])
        more = np.where(zero, add, 0.0)
        return {"xi": numbers["xi"] + more, "ni": numbers["ni"] + 2 * more}
    zero = np.logical_or.reduce([numbers[cell] == 0 for cell in kind.cells])
    more = np.where(zero, add, 0.0)
    return {key: v + more if key in kind.cells else v for key, v in numbers.items()}


def _check_results(kind: Measure, values: dict[str, Floats], y: Floats, v: Floats) -> None:
    """Refuse studies whose effect cannot be computed although all numbers are there."""
    known = np.logical_and.reduce([np.isfinite(value) for value in values.values()])
    bad = known & ~(np.isfinite(y) & np.isfinite(v))
    _refuse(
        np.asarray(bad),
        f"the {kind.words} has no finite value or variance (too few persons, a mean of the wrong "
        "sign, or a zero with add=0)",
    )
