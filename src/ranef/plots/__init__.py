"""Pictures of a fit, in matplotlib.

Each function draws one picture and returns the Axes it drew on; `FitPlots` is
what ``fit.plot`` gives. Nothing here estimates anything: the pictures read the
tables of a fit. May import `tables`, `errors`; matplotlib only inside
functions, and never its global state.
"""

from ranef.plots.accessor import FitPlots
from ranef.plots.caterpillar import random
from ranef.plots.coefficients import fixed
from ranef.plots.normal import qq
from ranef.plots.predictions import predictions
from ranef.plots.residual import residuals
from ranef.plots.words import alt_text

__all__ = ["FitPlots", "alt_text", "fixed", "predictions", "qq", "random", "residuals"]
