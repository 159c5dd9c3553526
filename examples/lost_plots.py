"""A field trial with lost plots: marginal means, honest about what is missing.

The Oats data after a bad season: hail took some subplots, and every subplot of Victory
with the most nitrogen. Asks what each variety yields at each amount of nitrogen had the
trial stayed whole, which of them differ, and how yield rises. The combination without
rows stays empty: no model knows it.

Figure lost_plots.png: Marginal mean yields of each variety at each amount of nitrogen, with
intervals, and of nitrogen over all varieties with comparison arrows.
Usage: ``python examples/lost_plots.py [FOLDER]``
"""

import sys
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

import ranef

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

oats = ranef.data.load("Oats")
hail = (oats["Variety"] == "Victory") & (oats["nitro"] == 0.6)
hail |= oats.index.isin([3, 4, 17, 30, 31, 45, 52, 66])
harvest = oats[~hail]
cells = harvest.groupby(["Variety", "nitro"], observed=False)["yield"]
print("Mean of what is left:")
print(cells.mean().unstack().round(1), "\n\nFrom so many subplots:")
print(cells.count().unstack(), "\n")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ranef.errors.RankWarning)  # the empty cell: see below
    fit = ranef.lmm("yield ~ Variety * factor(nitro) + (1 | Block/Variety)", harvest)

# The raw means compare different blocks; marginal means compare all in the same ones.
means = ranef.emmeans(fit, "nitro | Variety")
print(means, "\n")

# Within each variety, which steps of nitrogen pay? The family is that of the variety.
steps = means.contrasts("consecutive")
print(steps.tidy().round(3).to_string(), "\n")
print(means.joint_tests().tidy().round(4).to_string(), "\n")

# Without the interaction all cells can be estimated, at the price of assuming it away.
additive = ranef.lmm("yield ~ Variety + factor(nitro) + (1 | Block/Variety)", harvest)
print(ranef.emmeans(additive, "pairwise ~ nitro"), "\n")
print("Rise per unit of nitrogen, were it a line:")
line = ranef.lmm("yield ~ nitro * Variety + (1 | Block/Variety)", harvest)
print(ranef.emtrends(line, "Variety", "nitro").tidy().round(2).to_string())

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
ranef.emmeans(fit, ["nitro", "Variety"]).plot("interaction", ax=left)
ranef.emmeans(additive, "nitro").plot(ax=right)
right.set_title("Nitrogen, over all varieties", loc="left", fontsize=10.5)
figure.savefig(folder / "lost_plots.png", dpi=110)
