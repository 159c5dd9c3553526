"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ranef.display.reading import Fitted, Levelled
from ranef.errors import ModelError
from ranef.questions.checks.quantile_pictures import qq
from ranef.questions.checks.residual_picture import residuals
from ranef.questions.checks.scale_picture import scale_location
from ranef.questions.intervals.profile_picture import density, zeta
from ranef.questions.levels.caterpillar import random
from ranef.questions.levels.rank_pictures import funnel, ranks
from ranef.questions.levels.shrinkage_picture import shrinkage
from ranef.questions.predictions.picture import predictions
from ranef.report.coefficients import fixed

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
        self,
        *,
        conf_level: float = 0.95,
        intercept: bool = False,
        df: str | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw the fixed effects with intervals, see `ranef.plots.fixed`."""
        return fixed(self.fit, conf_level=conf_level, intercept=intercept, df=df, ax=ax)

    @property
    def _levelled(self) -> Levelled:
        """The fit, of a mixed model."""
        return cast(Levelled, self.fit)

    def scale_location(
        self, *, kind: str | None = None, smooth: bool = True, ax: Axes | None = None
    ) -> Axes:
        """Draw the size of residuals against fitted values, see `ranef.plots.scale_location`."""
        return scale_location(self.fit, kind=kind, smooth=smooth, ax=ax)

    def simulated(
        self, n: int = 250, *, effects: str = "posterior", rng: Any = 0
    ) -> NDArray[np.object_]:
        """Draw scaled residuals, see `ranef.simulated_residuals` and its plot."""
        found = self._diagnosed.simulated_residuals(n, effects=effects, rng=rng)
        return cast("NDArray[np.object_]", found.plot())

    def influence(
        self,
        statistic: str = "cook",
        *,
        by: Any = None,
        method: str | None = None,
        term: str | None = None,
        most: int = 25,
        ax: Axes | None = None,
    ) -> Axes | NDArray[np.object_]:
        """Draw what moves the fit most, see `ranef.influence` and its plot."""
        found = self._diagnosed.influence(by=by, method=method)
        return cast("Axes", found.plot(statistic, term=term, most=most, ax=ax))

    @property
    def _diagnosed(self) -> Any:
        """The fit, which has its diagnostics as methods."""
        return self.fit

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
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return f"plots of a fit: {', '.join(f'.{name}()' for name in names)}"
