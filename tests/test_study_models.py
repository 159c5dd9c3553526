"""Random small models against dense algebra: no wrong number, no raw exception.

A model is drawn from a seed and a number; ``python tests/random_models.py SEED COUNT`` runs them
again, in a process of its own as here, so that a crash of the core is seen as one.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("random_models.py")
SEED = "RANEF_MODELS_SEED"
"""Environment variable that sets the seed of the study."""


def compare(seed: int, count: int) -> None:
    """Run models and show the seeds of those that are wrong."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(seed), str(count)], capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1:] or [""]
    print(f"seed {seed}, {count} models, exit code {done.returncode}, last {last[0]}")
    assert done.returncode in (0, 1), f"the process ended at {last[0]}"
    assert done.returncode == 0, done.stdout


def test_some_models_of_a_known_seed() -> None:
    compare(1, 60)


@pytest.mark.study
def test_10_000_models() -> None:
    seed = int(os.environ.get(SEED, secrets.randbelow(2**31)))
    for part in range(10):
        compare(seed + part, 1000)
