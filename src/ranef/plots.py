"""The pictures as functions; ``fit.plot`` has them as methods of a fit.

Each draws one picture and returns the Axes it drew on. A picture stands beside the answer
that it draws.
"""

from __future__ import annotations

from typing import Any

from ranef.api.pictures import FitPlots
from ranef.errors import ModelError
from ranef.questions.checks.influence_picture import influence
from ranef.questions.checks.memory_picture import (
    autocorrelation,
    autocorrelation_text,
    variogram,
    variogram_text,
)
from ranef.questions.checks.page_picture import check_page
from ranef.questions.checks.quantile_pictures import qq, qq_text
from ranef.questions.checks.residual_picture import residuals, residuals_text
from ranef.questions.checks.scale_picture import scale_location, scale_location_text
from ranef.questions.checks.simulated_picture import simulated
from ranef.questions.intervals.bootstrap_picture import draws
from ranef.questions.intervals.coefficients_picture import fixed, fixed_text
from ranef.questions.intervals.profile_picture import density, zeta
from ranef.questions.levels.caterpillar import random, random_text
from ranef.questions.levels.rank_pictures import funnel, league, ranks
from ranef.questions.levels.shrinkage_picture import shrinkage, shrinkage_text
from ranef.questions.predictions.picture import predictions

__all__ = [
    "FitPlots",
    "alt_text",
    "autocorrelation",
    "check_page",
    "density",
    "draws",
    "fixed",
    "funnel",
    "influence",
    "league",
    "predictions",
    "qq",
    "random",
    "ranks",
    "residuals",
    "scale_location",
    "shrinkage",
    "simulated",
    "variogram",
    "zeta",
]


def alt_text(fit: Any, picture: str, *, conf_level: float = 0.95, df: str | None = None) -> str:
    """Describe a picture of the fit in a few sentences.

    Parameters
    ----------
    fit : a fit of ranef
    picture : str
        ``"random"``, ``"shrinkage"``, ``"residuals"``, ``"qq"``, ``"scale_location"``,
        ``"fixed"``, ``"variogram"`` or ``"autocorrelation"``: the function that drew it.
    conf_level : float
        Level of the intervals in it.
    df : str, optional
        Method of the degrees of freedom behind them.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> print(alt_text(fit, "fixed"))
    Point and interval plot of 1 coefficient. Days: 10.5, 95% interval 7.21 to 13.7.
    """
    match picture:
        case "random":
            return random_text(fit, conf_level)
        case "shrinkage":
            return shrinkage_text(fit)
        case "residuals":
            return residuals_text(fit)
        case "qq":
            return qq_text(fit)
        case "scale_location":
            return scale_location_text(fit)
        case "variogram":
            return variogram_text(fit)
        case "autocorrelation":
            return autocorrelation_text(fit)
        case "fixed":
            return fixed_text(fit, conf_level=conf_level, df=df)
    raise ModelError(
        "picture is 'random', 'shrinkage', 'residuals', 'qq', 'scale_location', 'fixed', "
        f"'variogram' or 'autocorrelation', not {picture!r}"
    )
