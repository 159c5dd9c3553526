"""The machine and the versions in words, without names of hosts or folders."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["machine", "versions"]


def read(path: str, key: str) -> str | None:
    """Return the value of a ``key: value`` line of a system file, where there is one."""
    try:
        with open(path, encoding="utf-8") as lines:
            found = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
    except OSError:
        return None
    return found[0] if found else None


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    processor = read("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory = read("/proc/meminfo", "MemTotal")
    parts = [processor, f"{cores()} cores"]
    if memory is not None:
        parts.append(f"{int(memory.split()[0]) / 2**20:.0f} GiB of memory")
    parts.append(f"{platform.system()} {platform.machine()}")
    return ", ".join(parts)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that every package shares."""
    found = {"Python": platform.python_version()}
    for name in ("numpy", "scipy", "pandas"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
