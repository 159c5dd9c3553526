"""Mixed-effects models: from a formula and a table to a proved optimum.

Examples
--------
>>> import ranef
>>> sleep = ranef.data.load("sleepstudy")
>>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
>>> fit.coef.round(3).to_dict()
{'(Intercept)': 251.405, 'Days': 10.467}

The names and their homes stand in ``__init__.pyi``. They are imported when first used, so
that ``import ranef`` costs little.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import lazy_loader

from ranef._version import __version__ as __version__

_attached, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

RENAMED = {"Heterogeneity": "WithinBetween", "heterogeneity": "within_between"}


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        import warnings

        now = RENAMED[name]
        warnings.warn(f"ranef.{name} is now ranef.{now}", FutureWarning, stacklevel=2)
        return _attached(now)
    from ranef.elsewhere import explained, function_hint

    if name in __all__:
        found = _attached(name)
        if isinstance(found, FunctionType):
            found = explained(found)
            found.__module__ = __name__  # by which a copy in another process finds it
            globals()[name] = found
        return found
    raise AttributeError(f"ranef has no name {name!r}{function_hint(name, __all__)}")
