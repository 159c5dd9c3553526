"""Sets of variants: read from a mapping, a table or a file, and found among the genotypes."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.errors import DataError, ModelError
from ranef.fields.gwas.genotypes import Variants
from ranef.fields.gwas.plink import line_of, read_text_lines
from ranef.formula.labels import level_text, list_text
from ranef.tables import Table

__all__ = ["read_sets"]

Rows = NDArray[np.intp]

HEADINGS = (("set", "variant"), ("set", "chromosome", "start", "end"))


def read_sets(given: Any, variants: Variants) -> tuple[dict[str, Rows], list[str]]:
    """Return the places of each set's variants, ascending, and what was not found, in words.

    given : a mapping of names to variants; or a table, or the path of a text file with a heading,
    with columns ``set, variant`` or ``set, chromosome, start, end``.
    """
    if isinstance(given, Mapping) and not _is_table(given):
        listed = {str(name): _names(str(name), ids) for name, ids in given.items()}
        return _by_name(listed, variants)
    columns = _columns(given)
    if set(HEADINGS[0]) <= set(columns):
        listed = {}
        for name, variant in zip(columns["set"], columns["variant"], strict=True):
            listed.setdefault(name, []).append(variant)
        return _by_name(listed, variants)
    if set(HEADINGS[1]) <= set(columns):
        return _by_place(columns, variants)
    raise DataError(
        "sets has the columns 'set' and 'variant', or 'set', 'chromosome', 'start' and 'end'; here "
        f"are {list_text(list(columns))}"
    )


def _is_table(given: Mapping[Any, Any]) -> bool:
    return any(set(heading) <= set(given) for heading in HEADINGS)


def _names(name: str, ids: Any) -> list[str]:
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        raise ModelError(f"the set {name!r} is a list of names of variants")
    return [level_text(value) for value in ids]


def _columns(given: Any) -> dict[str, list[str]]:
    if isinstance(given, (str, PathLike)):
        path = arguments.path(given)
        lines = [line.split() for line in read_text_lines(path) if line.strip()]
        if not lines:
            raise DataError(f"the file of sets {str(given)!r} is empty")
        head = [name.lstrip("#").lower() for name in lines[0]]
        for number, cells in enumerate(lines[1:], 1):
            if len(cells) != len(head):
                raise DataError(
                    f"line {line_of(path, number)} of the file of sets {str(path)!r} has "
                    f"{len(cells)} cells, the heading {len(head)}"
                )
        return {name: [cells[k] for cells in lines[1:]] for k, name in enumerate(head)}
    if not (hasattr(given, "columns") or isinstance(given, Mapping)):
        raise ModelError(
            "sets is a mapping of names to variants, a table or the path of one, not "
            f"{type(given).__name__}"
        )
    table = Table.of(given)
    out = {}
    for name in table.columns:
        codes, levels = table.codes(name)
        if (codes < 0).any():
            raise DataError(f"column {name!r} of sets has missing values")
        texts = [level_text(level) for level in levels]
        out[str(name)] = [texts[code] for code in codes.tolist()]
    return out


def _by_name(
    listed: Mapping[str, list[str]], variants: Variants
) -> tuple[dict[str, Rows], list[str]]:
    places: dict[str, list[int]] = {}
    for k, name in enumerate(variants.id.tolist()):
        places.setdefault(name, []).append(k)
    found, absent = {}, 0
    for name, ids in listed.items():
        absent += sum(one not in places for one in set(ids))
        rows = sorted({k for one in ids for k in places.get(one, ())})
        found[name] = np.array(rows, dtype=np.intp)
    if not any(len(rows) for rows in found.values()):
        raise DataError(
            "no set names a variant of the genotypes"
            + (
                f": there {next(iter(listed.values()))[:1]}, here {variants.id[0]!r}"
                if listed
                else ""
            )
        )
    notes = [f"of the sets' variants {absent:,} are not in the genotypes"] if absent else []
    return found, notes


def _by_place(
    columns: Mapping[str, list[str]], variants: Variants
) -> tuple[dict[str, Rows], list[str]]:
    found: dict[str, Rows] = {}
    for row, name in enumerate(columns["set"]):
        try:
            start, end = (float(columns[what][row]) for what in ("start", "end"))
        except ValueError:
            raise DataError(f"the set {name!r} has a start or an end that is no number") from None
        if not start <= end:
            raise DataError(f"the set {name!r} ends at {end:g}, before its start at {start:g}")
        here = (variants.chromosome == columns["chromosome"][row]) & (variants.position >= start)
        rows = np.flatnonzero(here & (variants.position <= end))
        found[name] = np.union1d(found.get(name, np.empty(0, np.intp)), rows).astype(np.intp)
    if not any(len(rows) for rows in found.values()):
        raise DataError(
            "no variant lies in any set; chromosomes of the genotypes are "
            f"{list_text(list(variants.chromosomes))}"
        )
    return found, []
