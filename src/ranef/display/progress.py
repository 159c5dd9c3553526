"""A progress bar for a search whose length is not known beforehand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["SearchBar", "Tally", "Ticker", "arriving", "counted"]

T = TypeVar("T")

PATIENCE = 1.0


class SearchBar:
    """Shows evaluations as the solver reports them.

    Parameters
    ----------
    wanted : bool or None
        Always, never, or (None) for work that lasts longer than a second,
        where a person can see it.
    """

    def __init__(self, wanted: bool | None) -> None:
        self.shown = _someone_looks() if wanted is None else wanted
        self._due = time.monotonic() + (PATIENCE if wanted is None else 0.0)
        self._bar: Any = None

    def __enter__(self) -> SearchBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, evaluation: int, criterion: float, decrement: float) -> None:
        """Take one report: number of the evaluation, criterion, last decrement."""
        if self._bar is None:
            if time.monotonic() < self._due:
                return
            from tqdm.auto import tqdm

            self._bar = tqdm(desc="fitting", unit=" evaluations")
        self._bar.update(evaluation - self._bar.n)
        self._bar.set_postfix_str(f"criterion {criterion:.6g}, next step {decrement:.1e}")


def counted(
    work: Sequence[int], what: str, wanted: bool | None, *, unit: str = " fits"
) -> Iterator[int]:
    """Go through a list of work with a bar: always, never, or (None) where a person looks."""
    yield from arriving(work, len(work), what, wanted, unit=unit)


def arriving(
    answers: Iterable[T],
    total: int,
    what: str,
    wanted: bool | None,
    *,
    unit: str = " fits",
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Hand on answers as they come, with a bar that grows by the `size` of each."""
    shown = _someone_looks() if wanted is None else wanted
    if not shown:
        yield from answers
        return
    from tqdm.auto import tqdm

    delay = PATIENCE if wanted is None else 0.0
    with tqdm(total=total, desc=what, unit=unit, delay=delay) as bar:
        for answer in answers:
            yield answer
            bar.update(size(answer))


class Tally:
    """Shows how many pieces of work are done, where their number is not known beforehand."""

    def __init__(self, what: str, wanted: bool | None, *, unit: str) -> None:
        shown = _someone_looks() if wanted is None else wanted
        self._due = time.monotonic() + (PATIENCE if wanted is None else 0.0)
        self._bar: Any = None
        self._what, self._unit, self._shown, self._done = what, unit, shown, 0

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, now: str) -> None:
        """Count one more, and say what is worked on."""
        self._done += 1
        if not self._shown or time.monotonic() < self._due:
            return
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=self._what, unit=self._unit)
        self._bar.update(self._done - self._bar.n)
        self._bar.set_postfix_str(now)


class Ticker:
    """A progress bar that is told how many pieces of work are done."""

    def __init__(self, total: int, what: str, wanted: bool | None, *, unit: str = " fits") -> None:
        self._work = counted(range(total), what, wanted, unit=unit)
        next(self._work, None)

    def __enter__(self) -> Callable[[int], object]:
        return self._advance

    def _advance(self, count: int) -> None:
        for _ in range(count):
            next(self._work, None)

    def __exit__(self, *raised: object) -> None:
        close = getattr(self._work, "close", None)
        if close is not None:
            close()


def _someone_looks() -> bool:
    """Tell whether the output goes to a terminal or a notebook."""
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())
