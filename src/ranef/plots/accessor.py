"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.normal import qq
from ranef.plots.profile import density, zeta
from ranef.plots.reading import Fitted
from ranef.plots.residual import residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FitPlots"]

PROFILES = {"zeta": zeta, "density": density}


@dataclass(frozen=True, eq=False)
class FitPlots:
    """The pictures of one fit.

    Each method takes ``ax=`` where it draws one panel, returns the Axes, and
    never shows or saves anything by itself.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> fit.plot.residuals().get_title(loc="left")
    'Residuals against fitted values'
    """

    fit: Fitted

    def random(
        self,
        *,
        group: str | None = None,
        term: str | None = None,
        conf_level: float = 0.95,
        ax: Axes | None = None,
    ) -> Axes | NDArray[np.object_]:
        """Draw the random effects as caterpillars, see `ranef.plots.random`."""
        return random(self.fit, group=group, term=term, conf_level=conf_level, ax=ax)

    def residuals(
        self, *, kind: str | None = None, smooth: bool = True, ax: Axes | None = None
    ) -> Axes:
        """Draw residuals against fitted values, see `ranef.plots.residuals`."""
        return residuals(self.fit, kind=kind, smooth=smooth, ax=ax)

    def qq(
        self,
        effects: str = "residual",
        *,
        group: str | None = None,
        term: str | None = None,
        ax: Axes | None = None,
    ) -> Axes | NDArray[np.object_]:
        """Draw normal quantile plots, see `ranef.plots.qq`."""
        return qq(self.fit, effects, group=group, term=term, ax=ax)

    def fixed(
        self, *, conf_level: float = 0.95, intercept: bool = False, ax: Axes | None = None
    ) -> Axes:
        """Draw the fixed effects with intervals, see `ranef.plots.fixed`."""
        return fixed(self.fit, conf_level=conf_level, intercept=intercept, ax=ax)

    def profile(
        self,
        parameters: str | Sequence[str] | None = None,
        *,
        kind: str = "zeta",
        conf_level: float = 0.95,
        ax: Axes | None = None,
    ) -> Any:
        """Profile the likelihood (`ranef.profile`) and draw it.

        Parameters
        ----------
        parameters : str or list of str, optional
            As in `ranef.profile`; all of them if not given.
        kind : {"zeta", "density"}
        conf_level : float
        ax : matplotlib Axes, optional
            Where to draw when there is one parameter.
        """
        if kind not in PROFILES:
            raise ModelError(f"kind={kind!r} is not known; use one of 'zeta', 'density'")
        fit: Any = self.fit
        found = fit.profile(parameters, conf_level=max(0.99, conf_level))
        return PROFILES[kind](found, conf_level=conf_level, ax=ax)

    def __repr__(self) -> str:
        return "plots of a fit: .random(), .residuals(), .qq(), .fixed(), .profile()"
