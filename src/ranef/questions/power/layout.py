"""A study laid out as a table: from counts of persons, days, visits to its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError, suggestion

__all__ = ["Layout", "read_layout"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

ROW = "row"
DRAWN: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.uniform(size=size),
    "binary": lambda rng, size: rng.integers(0, 2, size=size),
}


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the table that does not count anything.

    Attributes
    ----------
    units : tuple of str
        The counts whose combinations have one value each; empty for the rows.
    values : sequence or callable
        Levels that the units take in turn, or a function of a generator and a size.
    """

    units: tuple[str, ...]
    values: Any

    @property
    def drawn(self) -> bool:
        return callable(self.values)


@dataclass(frozen=True, eq=False)
class Layout:
    """A study: every combination of its counts, what varies between them, and who drops out.

    Attributes
    ----------
    counts : dict of sequence
        Levels of each count, the outermost first.
    columns : dict of Column
    present : dict
        Count -> share (k,) of the units above it that are still there at each of its levels.
    missing : float
        Share of the rows that are missing at random.
    """

    counts: Mapping[str, Sequence[Any]]
    columns: Mapping[str, Column]
    present: Mapping[str, Floats]
    missing: float

    @property
    def drawn(self) -> bool:
        """Whether two studies of this layout have different rows."""
        return bool(self.present or self.missing) or any(c.drawn for c in self.columns.values())

    def with_counts(self, counts: Mapping[str, int]) -> Layout:
        """Return the layout with other numbers of levels."""
        levels = {**self.counts, **{name: _numbered(name, k) for name, k in counts.items()}}
        return replace(self, counts=levels)

    def table(self, rng: np.random.Generator, *, complete: bool = False) -> Any:
        """Lay the study out once: a pandas table of its rows.

        Parameters
        ----------
        complete : bool
            With the rows that drop out or are missing.
        """
        import pandas as pd

        sizes = [len(levels) for levels in self.counts.values()]
        grid = np.indices(sizes).reshape(len(sizes), -1)
        codes = dict(zip(self.counts, grid, strict=True))
        n = grid.shape[1]
        out = {name: _labelled(levels, codes[name]) for name, levels in self.counts.items()}
        for name, column in self.columns.items():
            unit, count = self._units(column.units, codes, n)
            if column.drawn:
                drawn = np.asarray(column.values(rng, count))
                if drawn.shape != (count,):
                    raise DataError(
                        f"design: the function of {name!r} gave the shape {drawn.shape}, not one "
                        f"value for each of {count} units"
                    )
                out[name] = drawn[unit]
            else:
                out[name] = _labelled(column.values, unit % len(column.values))
        here = np.ones(n, dtype=bool) if complete else self._present(codes, n, rng)
        table = pd.DataFrame(out)
        return table if here.all() else table[here].reset_index(drop=True)

    def _units(self, names: tuple[str, ...], codes: Mapping[str, Ints], n: int) -> tuple[Ints, int]:
        """Number of the unit that each row belongs to, and how many there are."""
        if not names:
            return np.arange(n), n
        shape = [len(self.counts[name]) for name in names]
        unit = np.ravel_multi_index([codes[name] for name in names], shape)
        return np.asarray(unit, dtype=np.intp), int(np.prod(shape))

    def _present(
        self, codes: Mapping[str, Ints], n: int, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        here = np.ones(n, dtype=bool)
        names = list(self.counts)
        for name, share in self.present.items():
            above = tuple(names[: names.index(name)])
            unit, count = self._units(above, codes, n) if above else (np.zeros(n, dtype=int), 1)
            here &= rng.uniform(size=count)[unit] < share[codes[name]]
        if self.missing:
            here &= rng.uniform(size=n) >= self.missing
        return here


def _labelled(levels: Sequence[Any], codes: Ints) -> Any:
    """Levels of the rows: numbers as they are, names as categories in the order given."""
    if all(isinstance(level, int | float | np.number) for level in levels):
        return np.asarray(levels)[codes]
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=[str(level) for level in levels])


def _numbered(name: str, count: Any) -> Sequence[int]:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise DataError(
            f"design: the number of {name!r} must be a whole number above 0, not {count!r}"
        )
    return range(1, int(count) + 1)


def read_layout(
    design: Mapping[str, Any],
    dropout: Mapping[str, Any] | None = None,
    missing: float = 0.0,
) -> Layout:
    """Read a dict of counts.

    Parameters
    ----------
    design : mapping
        Name -> a count or a list of levels (every combination is a row), or
        ``{"unit": levels}`` for a column that varies between units: levels in turn, a
        function of a generator and a size, or ``"normal"``, ``"uniform"``, ``"binary"``.
    dropout : mapping, optional
        Count -> share that has left by its last level, evenly from its first on, or the
        share that is still there at each level.
    missing : float
    """
    counts: dict[str, Sequence[Any]] = {}
    columns: dict[str, Column] = {}
    for name, value in design.items():
        if isinstance(value, Mapping):
            columns[str(name)] = _column(str(name), value)
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value):
            counts[str(name)] = list(value)
        else:
            counts[str(name)] = _numbered(str(name), value)
    if not counts:
        raise DataError("design: give the number of at least one thing, {'person': 40}")
    for name, column in columns.items():
        for unit in column.units:
            if unit not in counts:
                raise DataError(
                    f"design: {name!r} varies between units of {unit!r}, of which there is no "
                    f"count{suggestion(unit, list(counts))}"
                )
    if dropout is not None and not isinstance(dropout, Mapping):
        raise DataError(
            f"dropout: name what units leave by, {{{next(reversed(counts))!r}: 0.3}} for the share "
            f"that has left by its last; not {dropout!r}"
        )
    present = {name: _present(name, value, counts) for name, value in (dropout or {}).items()}
    if not 0.0 <= missing < 1.0:
        raise DataError(f"missing must be a share from 0 to below 1, not {missing!r}")
    return Layout(counts, columns, present, float(missing))


def _column(name: str, value: Mapping[str, Any]) -> Column:
    if len(value) != 1:
        raise DataError(
            f"design: {name!r} varies between one kind of units: {{'person': ['a', 'b']}}"
        )
    ((unit, values),) = value.items()
    units = () if unit == ROW else tuple(part.strip() for part in str(unit).split("/"))
    if isinstance(values, str):
        if values not in DRAWN:
            raise DataError(
                f"design: {name!r} is drawn by {values!r}{suggestion(values, list(DRAWN))}; there "
                f"are {', '.join(map(repr, DRAWN))}, or give a function of (rng, size)"
            )
        return Column(units, DRAWN[values])
    if callable(values):
        return Column(units, values)
    if not isinstance(values, Sequence) or not len(values):
        raise DataError(f"design: {name!r} needs levels, or a function of (rng, size)")
    return Column(units, list(values))


def _present(name: str, value: Any, counts: Mapping[str, Sequence[Any]]) -> Floats:
    """Share of the units that are there at each level."""
    if name not in counts:
        raise DataError(f"dropout: there is no count {name!r}{suggestion(name, list(counts))}")
    k = len(counts[name])
    shares = np.asarray(value, dtype=np.float64)
    if shares.ndim == 0:
        shares = 1.0 - float(shares) * np.arange(k) / max(k - 1, 1)
    if shares.shape != (k,) or np.any(np.diff(shares) > 0) or shares.min() < 0 or shares.max() > 1:
        raise DataError(
            f"dropout: give the share that has left by the last of the {k} {name!r}, or the "
            f"shares that are still there at each, from 1 down; not {value!r}"
        )
    return shares
