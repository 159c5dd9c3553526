"""Pictures of a fit, in matplotlib.

Each function draws one picture and returns the Axes it drew on; `FitPlots` is
what ``fit.plot`` gives. Nothing here estimates anything: the pictures read the
tables of a fit. May import `tables`, `errors`; matplotlib only inside
functions, and never its global state.
"""

from ranef.plots.accessor import FitPlots
from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.criticism import check_page
from ranef.plots.influence import influence
from ranef.plots.normal import qq
from ranef.plots.predictions import predictions
from ranef.plots.ranks import funnel, league, ranks
from ranef.plots.residual import residuals
from ranef.plots.scale import scale_location
from ranef.plots.shrinkage import shrinkage
from ranef.plots.simulated import simulated
from ranef.plots.words import alt_text

__all__ = [
    "FitPlots",
    "alt_text",
    "check_page",
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
]
