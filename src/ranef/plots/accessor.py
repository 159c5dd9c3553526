"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.normal import qq
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

    def means(
        self, specs: Any, by: Any = None, *, ax: Axes | None = None, **question: Any
    ) -> Axes | NDArray[np.object_]:
        """Draw marginal means with intervals and comparison arrows, see `ranef.emmeans`.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
        >>> [text.get_text() for text in fit.plot.means("Type").get_yticklabels()]
        ['T1', 'T2', 'T3', 'T4']
        """
        fit: Any = self.fit
        axes: Axes | NDArray[np.object_] = fit.emmeans(specs, by, **question).plot(ax=ax)
        return axes

    def __repr__(self) -> str:
        return "plots of a fit: .random(), .residuals(), .qq(), .fixed(), .means()"
