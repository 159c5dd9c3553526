"""A progress bar for a search whose length is not known beforehand."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["SearchBar", "Tally", "Ticker", "arriving", "counted"]

T = TypeVar("T")

PATIENCE = 1.0
FORECAST_AFTER = 5.0
"""Seconds after which work that nobody sees a bar of is forecast."""
WORTH_SAYING = 60.0
"""Seconds left that are said."""


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
    """Hand on answers as they come, with a bar that grows by the `size` of each.

    Where nobody looks at a bar, long work says once, in a line, how long it will last. An
    interrupt says how much was done.
    """
    shown = _someone_looks() if wanted is None else wanted
    counted = _Counted(total, what, unit, said=shown or wanted is not None)
    answers = counted.through(answers, size)
    if not shown:
        yield from answers
        return
    from tqdm.auto import tqdm

    delay = PATIENCE if wanted is None else 0.0
    with tqdm(total=total, desc=what, unit=unit, delay=delay) as bar:
        for answer in answers:
            yield answer
            bar.update(size(answer))


class _Counted:
    """Counts what is done, for the line of long work and for that of an interrupt."""

    def __init__(self, total: int, what: str, unit: str, said: bool) -> None:
        self._total, self._what, self._unit, self._said = total, what, unit, said
        self._done, self._begun = 0, time.monotonic()

    def through(self, answers: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
        try:
            for answer in answers:
                yield answer
                self._done += size(answer)
                if not self._said:
                    self._forecast(time.monotonic() - self._begun)
        except KeyboardInterrupt as error:
            if error.args:
                raise
            raise KeyboardInterrupt(
                f"{self._what} ended after {self._done:,} of {self._total:,}{self._unit}"
            ) from None

    def _forecast(self, spent: float) -> None:
        if spent < FORECAST_AFTER or not self._done:
            return
        self._said = True
        left = spent * (self._total - self._done) / self._done
        if left > WORTH_SAYING:
            minutes = round(left / 60)
            words = f"{minutes} minute{'s' if minutes > 1 else ''}"
            words = words if left < 7200 else f"{left / 3600:,.1f} hours"
            print(
                f"ranef: {self._what}: {self._done:,} of {self._total:,}{self._unit} done, about "
                f"{words} left",
                file=sys.stderr,
            )


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
        self._count = 0
        self._work = arriving(
            itertools.repeat(None), total, what, wanted, unit=unit, size=lambda _: self._count
        )
        next(self._work)

    def __enter__(self) -> Callable[[int], object]:
        return self._advance

    def _advance(self, count: int) -> None:
        self._count = count
        next(self._work)

    def __exit__(self, *raised: object) -> None:
        close = getattr(self._work, "close", None)
        if close is not None:
            close()


def _someone_looks() -> bool:
    """Tell whether the output goes to a terminal or a notebook."""
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())
