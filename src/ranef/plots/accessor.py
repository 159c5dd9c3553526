"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.normal import qq
from ranef.plots.predictions import predictions
from ranef.plots.reading import Fitted
from ranef.plots.residual import residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FitPlots"]


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

    def predictions(
        self,
        x: str | None = None,
        *,
        group: str | None = None,
        by: str | None = None,
        kind: str = "population",
        category: Any = None,
        conf_level: float = 0.95,
        data: bool = True,
        ax: Axes | None = None,
    ) -> Axes | NDArray[np.object_]:
        """Draw predictions by level and of the population, see `ranef.plots.predictions`."""
        return predictions(
            self.fit, x, group=group, by=by, kind=kind, category=category,
            conf_level=conf_level, data=data, ax=ax,
        )  # fmt: skip

    def __repr__(self) -> str:
        return "plots of a fit: .random(), .residuals(), .qq(), .fixed(), .predictions()"
