"""A split-plot field trial: blocks, plots within blocks, subplots within plots.

The Oats data (Yates, 1935): three varieties on plots, four amounts of nitrogen
on the subplots of each. Asks whether the varieties differ (a question at the
level of plots, of which there are few), what nitrogen does, and what yield to
expect on a new field.

Figure field_trial.png: Residuals of the field trial against fitted values.
Usage: ``python examples/field_trial.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import pandas as pd

import ranef

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

oats = ranef.data.load("Oats")
formula = "yield ~ nitro + Variety + (1 | Block/Variety)"
print(ranef.plan(formula, oats), "\n")

fit = ranef.lmm(formula, oats)
print(fit, "\n")

# The degrees of freedom tell the level at which a question is answered: nitrogen varies
# between subplots (many), varieties between plots (few).
print(fit.tidy()[["term", "estimate", "std_error", "df", "p_value"]].round(3), "\n")

new = pd.DataFrame({"nitro": [0.0, 0.3, 0.6], "Variety": "Victory"})
expected = fit.predict(new, kind="population", conf_level=0.95)
print("Expected yield of Victory on a new field:")
print(pd.concat([new, expected], axis=1).round(1))

axes = fit.plot.residuals()
axes.figure.savefig(folder / "field_trial.png", dpi=110, bbox_inches="tight")
