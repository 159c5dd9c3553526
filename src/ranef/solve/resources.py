"""What this process may use: cores, memory, and SciPy's BLAS.

May import `_core` and `errors`.
"""

from __future__ import annotations

import os
from pathlib import Path

from ranef import _core
from ranef.errors import ModelError

__all__ = ["available_cores", "available_memory", "use_lapack"]


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


def _environment(*names: str) -> list[int]:
    found = (os.environ.get(name, "").split(",")[0].strip() for name in names)
    return [int(text) for text in found if text.isdigit() and int(text) > 0]


def _quota() -> list[int]:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return [] if quota == "max" else [max(1, round(int(quota) / int(period)))]
    except (OSError, ValueError):
        return []


def available_memory() -> int | None:
    """Return the bytes of memory that can still be had, or None if unknown."""
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


def use_lapack() -> None:
    """Hand SciPy's BLAS and LAPACK to the core, once.

    Raises
    ------
    ModelError
        When SciPy's routines do not have the signatures that the core calls.
    """
    if _core.has_lapack():
        return
    from scipy.linalg import cython_blas, cython_lapack

    try:
        _core.set_lapack(cython_blas.__pyx_capi__, cython_lapack.__pyx_capi__)
    except ValueError as error:
        raise ModelError(
            f"this SciPy cannot be used for large models: {error}; install SciPy from PyPI"
        ) from error
