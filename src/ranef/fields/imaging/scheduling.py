"""Who does the work: threads of this process, or a scheduler of Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from ranef.errors import ModelError
from ranef.solve.resources import available_cores, in_threads

__all__ = ["DASK", "answers", "array_of_blocks", "by_dask", "threads_of"]

Item = TypeVar("Item")
Result = TypeVar("Result")

DASK = "dask"
WAVE = 64
"""Tasks that are handed over together, so that their answers fit into memory."""
BLOCK = 1 << 14
"""Voxels of a block: whole groups of those that the core takes side by side."""


def by_dask(n_jobs: Any) -> bool:
    """Whether Dask does the work; other words are refused."""
    if isinstance(n_jobs, str):
        if n_jobs != DASK:
            raise ModelError(f"n_jobs is a number of threads or 'dask', not {n_jobs!r}")
        _dask()
        return True
    return False


def threads_of(n_jobs: Any) -> int:
    """Threads of this process; one for each task of Dask."""
    return 1 if by_dask(n_jobs) else available_cores(n_jobs)


def _dask() -> Any:
    try:
        import dask
        import dask.array
    except ImportError:
        raise ModelError(
            "n_jobs='dask' needs Dask, which is not installed: pip install 'ranef[dask]'"
        ) from None
    return dask


def answers(
    function: Callable[[Item], Result], items: Iterable[Item], n_jobs: Any
) -> Iterator[Result]:
    """The function of each item, in order."""
    if not by_dask(n_jobs):
        return in_threads(function, items, available_cores(n_jobs))
    return _scheduled(function, items)


def _scheduled(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    dask = _dask()
    task = dask.delayed(function, pure=False)
    left = iter(items)
    while wave := list(islice(left, WAVE)):
        yield from dask.compute(*[task(one) for one in wave])


def array_of_blocks(values: Any) -> Any:
    """A matrix (K, N) as a Dask array of blocks of voxels."""
    matrix = np.asarray(values)
    chunks: Sequence[int] = (matrix.shape[0], BLOCK)
    return _dask().array.from_array(matrix, chunks=chunks)
