"""The top of the house: `lmm` and `glmm`, and the fits that they return.

A fit that a user holds is composed here of what a fit knows (`ranef.fits`) and the
questions asked of it (`ranef.questions`). May import every room but `cli`.
"""

from __future__ import annotations

from typing import Any

import ranef

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    """Return a public name; all of them stand in `ranef`."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(ranef, name)
