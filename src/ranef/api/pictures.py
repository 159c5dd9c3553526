"""``fit.plot``: the pictures as methods of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ranef.elsewhere import Pictures
from ranef.errors import ModelError
from ranef.questions.checks.memory_picture import autocorrelation, variogram
from ranef.questions.checks.quantile_pictures import qq
from ranef.questions.checks.residual_picture import residuals
from ranef.questions.checks.scale_picture import scale_location
from ranef.questions.intervals.coefficients_picture import fixed
from ranef.questions.intervals.profile_picture import density, zeta
from ranef.questions.levels.caterpillar import random
from ranef.questions.levels.rank_pictures import funnel, ranks
from ranef.questions.levels.shrinkage_picture import shrinkage
from ranef.questions.predictions.picture import predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FitPlots"]

PROFILES = {"zeta": zeta, "density": density}

P = ParamSpec("P")
R = TypeVar("R")


class Picture(Generic[P, R]):
    """A function of `ranef.plots` whose first argument is the fit, as a method."""

    def __init__(self, draw: Callable[Concatenate[Any, P], R]) -> None:
        self.draw = draw

    def __get__(self, plots: FitPlots | None, owner: type | None = None) -> Callable[P, R]:
        draw: Any = self.draw
        return cast("Callable[P, R]", draw if plots is None else MethodType(draw, plots.fit))


@dataclass(frozen=True, eq=False)
class FitPlots(Pictures):
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

    fit: Any

    random = Picture(random)
    shrinkage = Picture(shrinkage)

    def ranks(self, by: str | None = None, *, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw expected ranks with intervals; options are those of `ranef.rank`."""
        return ranks(self.fit.rank(by, **options), ax=ax)

    def funnel(
        self,
        by: str | None = None,
        *,
        overdispersion: str = "none",
        ax: Axes | None = None,
        **options: Any,
    ) -> Axes:
        """Draw a funnel of standardised ratios; options are those of `standardized_ratios`."""
        ratios = self.fit.standardized_ratios(by, **options)
        return funnel(ratios.funnel(overdispersion=overdispersion), ax=ax)

    residuals = Picture(residuals)
    qq = Picture(qq)
    fixed = Picture(fixed)
    scale_location = Picture(scale_location)
    variogram = Picture(variogram)
    autocorrelation = Picture(autocorrelation)

    def simulated(
        self, n: int = 250, *, effects: str = "posterior", rng: Any = 0
    ) -> NDArray[np.object_]:
        """Draw scaled residuals, see `ranef.simulated_residuals` and its plot."""
        scaled = self.fit.simulated_residuals(n, effects=effects, rng=rng)
        return cast("NDArray[np.object_]", scaled.plot())

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
        left_out = self.fit.influence(by=by, method=method)
        return cast("Axes", left_out.plot(statistic, term=term, most=most, ax=ax))

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
        return cast("Axes", self.fit.emmeans(specs, by, **question).plot(ax=ax))

    predictions = Picture(predictions)

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
        profiles = self.fit.profile(parameters, conf_level=max(0.99, conf_level))
        return PROFILES[kind](profiles, conf_level=conf_level, ax=ax)

    def __repr__(self) -> str:
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return f"plots of a fit: {', '.join(f'.{name}()' for name in names)}"
