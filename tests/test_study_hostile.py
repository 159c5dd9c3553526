"""Hostile saved files, tables and formulas at random: an answer or a typed error, no crash.

Each attack runs in a process of its own, so that a crash of the core is seen as one. What
is found is printed with its seed; ``python tests/hostile.py saved SEED COUNT`` runs it again.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("hostile.py")


def attack(name: str, seed: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name, str(seed), str(count)], capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1:] or [""]
    print(f"{name}: seed {seed}, {count} tries, exit code {done.returncode}, last {last[0]}")
    assert done.returncode in (0, 1), f"the process ended at {last[0]}"
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["saved", "others", "tables", "formulas"])
def test_a_few_with_a_known_seed(name: str) -> None:
    attack(name, 1, 12)


@pytest.mark.study
@pytest.mark.parametrize(
    ("name", "count"), [("saved", 1500), ("others", 1500), ("tables", 3000), ("formulas", 4000)]
)
def test_many_with_a_new_seed(name: str, count: int) -> None:
    attack(name, secrets.randbelow(2**31), count)
