"""The pictures as functions; ``fit.plot`` has them as methods of a fit.

Each draws one picture and returns the Axes it drew on. A picture stands beside the answer
that it draws.
"""

from __future__ import annotations

from ranef.api.pictures import FitPlots
from ranef.display.words import alt_text
from ranef.questions.checks.influence_picture import influence
from ranef.questions.checks.page_picture import check_page
from ranef.questions.checks.quantile_pictures import qq
from ranef.questions.checks.residual_picture import residuals
from ranef.questions.checks.scale_picture import scale_location
from ranef.questions.checks.simulated_picture import simulated
from ranef.questions.intervals.bootstrap_picture import draws
from ranef.questions.intervals.profile_picture import density, zeta
from ranef.questions.levels.caterpillar import random
from ranef.questions.levels.rank_pictures import funnel, league, ranks
from ranef.questions.levels.shrinkage_picture import shrinkage
from ranef.questions.predictions.picture import predictions
from ranef.report.coefficients import fixed

__all__ = [
    "FitPlots",
    "alt_text",
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
    "zeta",
]
