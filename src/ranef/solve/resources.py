"""What this process may use: cores, memory, and SciPy's BLAS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache, wraps
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast

from ranef import _core
from ranef.errors import ModelError
from ranef.squares import use_lapack

__all__ = [
    "LARGE_ORDER",
    "available_cores",
    "available_memory",
    "hold_blas",
    "in_threads",
    "one_blas_thread",
    "use_lapack",
]

LARGE_ORDER = 1500

Core = TypeVar("Core", _core.Problem, _core.GeneralisedProblem)
T = TypeVar("T")
S = TypeVar("S")


def available_cores(n_jobs: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None
        None means the cores that this process may use: the smallest of its
        affinity, the cgroup's quota, SLURM's allotment and OMP_NUM_THREADS.
        Negative counts from the end, as in joblib (-1 is all of them).

    Raises
    ------
    ModelError
        When ``n_jobs`` is 0.

    Examples
    --------
    >>> available_cores(1)
    1
    """
    if n_jobs is not None and n_jobs > 0:
        return n_jobs
    if n_jobs == 0:
        raise ModelError("n_jobs is 0; give a positive number of threads, -1 for all, or None")
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limits = [cores, *_quota(), *_environment("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")]
    most = max(1, min(limits))
    return most if n_jobs is None else max(1, most + 1 + n_jobs)


def in_threads(work: Callable[[T], S], items: Iterable[T], jobs: int) -> Iterator[S]:
    """Hand on the answers to each item, in order, as they come.

    Where the caller stops or an answer fails, items that are not begun are left, and those
    that are give up at the core's next look.

    Examples
    --------
    >>> list(in_threads(abs, [-2, 3], 2))
    [2, 3]
    """
    if jobs <= 1:
        yield from map(work, items)
        return
    stop = _core.Stop()

    def stoppable(item: T) -> S:
        stop.enter()
        try:
            return work(item)
        finally:
            stop.leave()

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(stoppable, items)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _environment(*names: str) -> list[int]:
    found = (os.environ.get(name, "").split(",")[0].strip() for name in names)
    return [int(text) for text in found if text.isdigit() and int(text) > 0]


@cache
def _quota() -> list[int]:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return [] if quota == "max" else [max(1, round(int(quota) / int(period)))]
    except (OSError, ValueError):
        return []


def available_memory() -> int | None:
    """Return the bytes of memory that can still be had, or None if unknown."""
    known = [n for n in (_free_memory(), _free_addresses()) if n is not None]
    return min(known, default=None)


def _free_addresses() -> int | None:
    """Return what is left of the memory that this process is limited to (``ulimit -v``)."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        taken = int(Path("/proc/self/statm").read_text().split()[0])
        return max(limit - taken * os.sysconf("SC_PAGE_SIZE"), 0)
    except (ImportError, AttributeError, OSError, ValueError, IndexError):
        return None


def _free_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


@cache
def _blas() -> tuple[Any, ...]:
    """The BLAS libraries of this process, as threadpoolctl controls them."""
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def _counts_by_thread(library: Any) -> bool:
    """Whether each thread that calls the library has a number of threads of its own."""
    return getattr(library, "threading_layer", None) == "openmp"


def _set_threads(library: Any, count: int) -> None:
    # threadpoolctl lets the thread that came first alone set what belongs to the process, and
    # others fail in silence: the thread that restores may be another than the one that held
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


class _OneBlasThread:
    """BLAS held to one thread while anybody in the process asks for it.

    The number of BLAS threads belongs to the process. The first holder notes what it was, the
    last one to leave, in whichever thread and for whatever reason, restores it. Where OpenMP
    keeps a number for each thread, each holder does so for its own.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._holders = 0
        self._before: list[tuple[Any, int]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        own = self._hold([library for library in _blas() if _counts_by_thread(library)])
        try:
            with self._lock:
                if self._holders == 0:
                    shared = [library for library in _blas() if not _counts_by_thread(library)]
                    self._before = self._hold(shared)
                self._holders += 1
            try:
                yield
            finally:
                with self._lock:
                    self._holders = max(self._holders - 1, 0)
                    if self._holders == 0:
                        self._restore(self._before)
        finally:
            self._restore(own)

    @staticmethod
    def _hold(libraries: list[Any]) -> list[tuple[Any, int]]:
        before = [(library, library.num_threads) for library in libraries]
        for library in libraries:
            _set_threads(library, 1)
        return before

    @staticmethod
    def _restore(before: list[tuple[Any, int]]) -> None:
        for library, count in before:
            _set_threads(library, count)

    def _forget(self) -> None:
        """In a forked child: its parent's other threads, which may hold, are not there."""
        self._lock = Lock()
        if self._holders:
            self._holders = 0
            self._restore(self._before)


_one_blas_thread = _OneBlasThread()


def one_blas_thread() -> AbstractContextManager[None]:
    """Hold BLAS to one thread: for small matrices, and while own threads run.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    return _one_blas_thread()


class _Held:
    """A problem whose every call runs with BLAS held to one thread."""

    def __init__(self, problem: Any) -> None:
        self._problem = problem

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._problem, name)
        return _held(found) if callable(found) else found


def _held(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def run(*args: Any, **more: Any) -> Any:
        with one_blas_thread():
            return call(*args, **more)

    return run


def hold_blas(problem: Core, order: int, sparse: bool = False) -> Core:
    """Keep BLAS from waking its threads for matrices that are too small for them.

    Between `small_order` and LARGE_ORDER a second thread gives little (15% at
    order 1,142 on two free cores) and on a busy machine costs very much, since
    BLAS threads spin while they wait; above, BLAS keeps the threads that the
    user gave it. The supernodes of a sparse tail are such small matrices.
    """
    if sparse or _core.small_order < order <= LARGE_ORDER:
        return cast(Core, _Held(problem))
    return problem
