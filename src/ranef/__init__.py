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
    if name in __all__:
        return _attached(name)
    from ranef.errors import suggestion

    raise AttributeError(f"ranef has no name {name!r}{suggestion(name, __all__)}")
