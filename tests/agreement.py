"""Numbers beside a peer's: asserted in the test, and gathered for the validation page.

A test takes the fixture `agree` and calls it for each value that it compares; with
``pytest --validation FILE`` every comparison is also written to FILE, one JSON object a line,
from which ``tools/validation.py`` makes the table of the documentation. So the page shows what
the tests have asserted, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Agree", "agreement"]

Agree = Callable[..., None]


def agreement(target: Path | None) -> Agree:
    """Return the function that compares; it appends to `target` where there is one."""

    def agree(
        function: str,
        quantity: str,
        ours: Any,
        theirs: Any,
        *,
        peer: str,
        rtol: float = 0.0,
        atol: float = 0.0,
    ) -> None:
        """Assert that |ours - theirs| <= atol + rtol |theirs| everywhere.

        Parameters
        ----------
        function : str
            The call of ranef, ``"ranef.rank"``, ``"tidy(df='kenward-roger')"``.
        quantity : str
            What of which model: ``"expected rank of Days, sleepstudy"``.
        ours, theirs : float or array-like
        peer : str
            Package and version that `theirs` comes from, or the paper.
        """
        mine = np.atleast_1d(np.asarray(ours, dtype=float)).ravel()
        known = np.atleast_1d(np.asarray(theirs, dtype=float)).ravel()
        assert mine.shape == known.shape, (quantity, mine.shape, known.shape)
        with np.errstate(invalid="ignore"):
            gap = np.abs(mine - known)
        gap[np.isnan(mine) & np.isnan(known) | (mine == known)] = 0.0
        allowed = atol + rtol * np.abs(known)
        allowed[~np.isfinite(known)] = 0.0
        if target is not None:
            share = np.where(gap == 0, 0.0, gap / np.where(allowed > 0, allowed, 1e-300))
            worst = int(np.argmax(np.where(np.isnan(share), np.inf, share)))
            row = {
                "function": function, "quantity": quantity, "count": int(known.size),
                "value": float(mine[worst]), "peer": peer, "theirs": float(known[worst]),
                "difference": float(gap[worst]), "rtol": rtol, "atol": atol,
            }  # fmt: skip
            with target.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        bad = ~(gap <= allowed)
        assert not bad.any(), (
            f"{function}, {quantity}: {mine[bad][:5]} here, {known[bad][:5]} by {peer}; "
            f"differences {gap[bad][:5]}, allowed {allowed[bad][:5]}"
        )

    return agree
