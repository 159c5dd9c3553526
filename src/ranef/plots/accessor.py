"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.normal import qq
from ranef.plots.ranks import funnel, ranks
from ranef.plots.reading import Fitted, Levelled
from ranef.plots.residual import residuals
from ranef.plots.shrinkage import shrinkage

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
        bars: str = "interval",
        ax: Axes | None = None,
    ) -> Axes | NDArray[np.object_]:
        """Draw the random effects as caterpillars, see `ranef.plots.random`."""
        return random(self.fit, group=group, term=term, conf_level=conf_level, bars=bars, ax=ax)

    def shrinkage(
        self,
        *,
        group: str | None = None,
        terms: str | tuple[str, str] | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw raw estimates and where shrinkage takes them, see `ranef.plots.shrinkage`."""
        return shrinkage(self._levelled, group=group, terms=terms, ax=ax)

    def ranks(self, by: str | None = None, *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw expected ranks with intervals; options are those of `ranef.rank`."""
        return ranks(self._levelled.rank(by, **options), ax=ax)

    def funnel(
        self,
        by: str | None = None,
        *,
        overdispersion: str = "none",
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """Draw a funnel of standardised ratios; options are those of `standardized_ratios`."""
        found = self._levelled.standardized_ratios(by, **options)
        return funnel(found.funnel(overdispersion=overdispersion), ax=ax)

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

    @property
    def _levelled(self) -> Levelled:
        """The fit, of a mixed model."""
        return cast(Levelled, self.fit)

    def __repr__(self) -> str:
        return (
            "plots of a fit: .random(), .shrinkage(), .ranks(), .funnel(), .residuals(), .qq(), "
            ".fixed()"
        )
