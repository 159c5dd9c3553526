"""The process a Python package runs in: JSON lines in, JSON lines out.

``python -m benchmarks.worker PEER`` imports the package first, so that its
import is timed in a fresh process, with numpy already there.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.adapters import Unsupported


def memory(key: str) -> int | None:
    """Return VmRSS or VmHWM of this process in bytes, where the system tells."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            found = [line for line in lines if line.startswith(key)]
    except OSError:
        found = []
    if found:
        return int(found[0].split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Forget the peak so far, where the system can: reading the table had its own."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return


def seconds_to_import(module: str) -> float:
    import_module("numpy")
    start = time.perf_counter()
    import_module(module)
    return time.perf_counter() - start


def version_of(distribution: str) -> str:
    """Return what is installed, or a package's own word: ranef may run from its sources."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return str(import_module(distribution).__version__)


class Worker:
    """One package, one problem at a time."""

    def __init__(self, peer: str) -> None:
        self.adapter = import_module(f"benchmarks.adapters.{peer}")
        self.import_seconds = seconds_to_import(self.adapter.MODULE)

    def open(self, order: dict[str, Any]) -> dict[str, Any]:
        import pandas as pd

        self.problem = order["problem"]
        self.table = self.adapter.prepare(pd.read_parquet(order["parquet"]), self.problem)
        return {
            "version": version_of(self.adapter.DISTRIBUTION),
            "import_seconds": self.import_seconds,
        }

    def fit(self, order: dict[str, Any]) -> dict[str, Any]:
        if order.get("memory"):
            reset_peak()
        before = memory("VmRSS")
        seconds = []
        for _ in range(order["rounds"]):
            start = time.perf_counter()
            self.result = self.adapter.fit(self.table, self.problem)
            seconds.append(time.perf_counter() - start)
        peak = memory("VmHWM")
        answer = vars(self.adapter.read(self.result))
        return {"seconds": seconds, "before": before, "peak": peak, **answer}

    def refit(self, order: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        if not hasattr(self.adapter, "refit"):
            raise Unsupported("no refit")
        responses = np.load(order["npy"])[:, : order["count"]]
        start = time.perf_counter()
        self.adapter.refit(self.result, self.table, self.problem, responses)
        return {"seconds": time.perf_counter() - start}

    def degrees(self, order: dict[str, Any]) -> dict[str, Any]:
        if not hasattr(self.adapter, "degrees"):
            raise Unsupported("no degrees of freedom")
        # a fit keeps its answers
        fresh = self.adapter.fit(self.table, self.problem)
        start = time.perf_counter()
        df = self.adapter.degrees(fresh, order["method"])
        return {"seconds": time.perf_counter() - start, "df": df}

    def bootstrap(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.timed("bootstrap", order["count"])

    def profile(self, order: dict[str, Any]) -> dict[str, Any]:
        return self.timed("profile")

    def timed(self, what: str, *arguments: Any) -> dict[str, Any]:
        if not hasattr(self.adapter, what):
            raise Unsupported(f"no {what}")
        start = time.perf_counter()
        getattr(self.adapter, what)(self.result, *arguments)
        return {"seconds": time.perf_counter() - start}


def main(peer: str) -> None:
    """Answer every line; what packages print themselves goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    worker = Worker(peer)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order["operation"])(order)
        except Exception as error:  # whatever a package raises is its answer
            answer = {"refused": f"{type(error).__name__}: {error}"}
            if isinstance(error, Unsupported):
                answer = {"unsupported": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
