"""How much memory a call may take, and the refusal before it takes more."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranef.errors import ModelError
from ranef.solve.resources import available_memory

__all__ = ["GB", "check_forecast"]

GB = 1e9


def check_forecast(memory: Any, forecast: float, what: str, instead: str) -> None:
    """Refuse work whose forecast is beyond what is allowed, or there.

    memory : what the user allows, in GB or as text; forecast : bytes; what : the work, in words;
    instead : what to do.
    """
    limit = available_memory() if memory is None else _bytes(memory)
    if limit is not None and forecast > limit:
        whose = "there is" if memory is None else "memory= allows"
        raise ModelError(
            f"{what} needs about {forecast / GB:.2g} GB, and {whose} {limit / GB:.2g} GB; {instead}"
        )


def _bytes(memory: Any) -> float:
    text = str(memory).strip().upper().removesuffix("B").strip()
    scale = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    unit = scale.get(text[-1:], GB)
    try:
        value = float(text[:-1] if text[-1:] in scale else text) * unit
    except ValueError:
        value = -1.0
    if isinstance(memory, bool) or not 0 < value < np.inf:
        raise ModelError(f"memory is a number of GB, or text such as '8GB', not {memory!r}")
    return value
