"""Starting a package in its own process, asking it, and stopping it in time."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.adapters import ALL, IN_R

__all__ = ["Peer", "Refused", "absent"]

ROOT = Path(__file__).parent.parent
RSCRIPT = Path(__file__).parent / "adapters" / "peer.R"


class Refused(Exception):
    """The package cannot do it, or not in time: the reason in words."""


def absent(peer: str) -> str | None:
    """Return why a peer cannot run here, or None when it can."""
    if peer in IN_R:
        if shutil.which("Rscript") is None:
            return "R is not installed"
        wanted = f"c('{peer}', 'jsonlite')"
        probe = f"quit(status = !all(sapply({wanted}, requireNamespace, quietly = TRUE)))"
        done = subprocess.run(["Rscript", "-e", probe], capture_output=True, check=False)
        return f"R lacks {peer} or jsonlite" if done.returncode else None
    return None if find_spec(peer) else "not installed"


class Peer:
    """A running package. Leaving the ``with`` block ends the process."""

    def __init__(self, name: str, limit: float) -> None:
        if name not in ALL:
            raise SystemExit(f"no peer {name!r}; there are {', '.join(ALL)}")
        self.name = name
        self.limit = limit
        command = [sys.executable, "-m", "benchmarks.worker", name]
        if name in IN_R:
            command = ["Rscript", "--vanilla", str(RSCRIPT), name]
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (see __exit__)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, operation: str, **order: Any) -> dict[str, Any]:
        """Send one order and wait for its answer, at most `limit` seconds."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        if self.process.poll() is not None:
            raise Refused(f"the process ended: {self.last_words()}")
        stdin.write(json.dumps({"operation": operation, **order}) + "\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], self.limit)
        if not ready:
            self.process.kill()
            raise Refused(f"not within {self.limit:.0f} s")
        line = stdout.readline()
        if not line:
            raise Refused(f"the process ended: {self.last_words()}")
        answer: dict[str, Any] = json.loads(line)
        reason = answer.get("unsupported") or answer.get("refused")
        if reason:
            raise Refused(reason)
        return answer

    def last_words(self) -> str:
        """Return its exit code (of a signal: negative) and its last line on standard error."""
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return f"code {self.process.wait()}, {lines[-1] if lines else 'without a message'}"
