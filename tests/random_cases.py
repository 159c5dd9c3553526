"""Runs cases that are drawn from a seed and a number, and shows those that have faults."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

Seed = list[int]


def main(faults: Callable[[Seed], list[str]], told: Callable[[Seed], dict[str, Any]]) -> None:
    """Run the cases that the command line names: SEED COUNT, or SEED FIRST STOP.

    Parameters
    ----------
    faults : callable
        What is wrong with a case, given its seed.
    told : callable
        What is shown of it beside its faults.
    """
    seed, *numbers = (int(v) for v in sys.argv[1:])
    first, stop = (0, numbers[0]) if len(numbers) == 1 else numbers
    found = []
    for k in range(first, stop):
        case = [seed, k]
        print(json.dumps(case), file=sys.stderr, flush=True)
        wrong = faults(case)
        if wrong:
            found.append({"seed": case, **told(case), "faults": wrong})
    print(json.dumps(found, indent=1))
    sys.exit(1 if found else 0)
