"""Growth curves: the law of all leaves, and the leaf that flutters.

Thirty leaves of two varieties were measured for six weeks, not on the same days, some of them not
to the end. All follow one curve on the logarithmic scale, fast and then slow; each has a size and
a speed of its own, and around its own curve it wanders: a leaf that is ahead today is ahead
tomorrow, for reasons that no curve knows. The questions: what is the law, do the varieties differ
in it, and what becomes of the answer when the residuals may remember?

Figure growth_curves.png: Length of every leaf over the days as thin lines, and the curve of each
variety with its interval.
Figure growth_leaf.png: The measurements of one leaf, the curve of its variety, and its own curve.
Usage: ``python examples/growth.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

import ranef

matplotlib.use("Agg")
import matplotlib.pyplot as plt

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
rng = np.random.default_rng(42)


def leaf(number: int) -> pd.DataFrame:
    """Return the measurements of one leaf, in mm, on days of its own."""
    days = np.sort(rng.choice(np.arange(1, 43), rng.integers(10, 22), replace=False))
    days = days[days <= (43 if rng.random() < 0.8 else rng.integers(20, 40))]
    late = number % 2
    law = 4.3 - 2.6 * np.exp(-days / (9.0 + 2.0 * late))
    own = 0.12 * rng.normal() + 0.004 * rng.normal() * (days - 20)
    wander, last = np.empty(len(days)), None
    for k, day in enumerate(days):
        keep = 0.0 if last is None else np.exp(-(day - last) / 6.0)
        before = 0.0 if k == 0 else wander[k - 1]
        wander[k], last = keep * before + 0.08 * np.sqrt(1 - keep**2) * rng.normal(), day
    length = np.exp(law + own + wander)
    variety = "late" if late else "early"
    return pd.DataFrame({"leaf": f"L{number:02d}", "variety": variety, "day": days,
                         "length": length.round(1)})  # fmt: skip


leaves = pd.concat([leaf(k) for k in range(30)]).sample(frac=1, random_state=1)
print(leaves.groupby("variety").agg(leaves=("leaf", "nunique"), rows=("day", "size")), "\n")

# --- the law, each leaf's own size and speed, and residuals that remember or do not ------------
law = "log(length) ~ ns(day, df = 4) * variety + (scale(day) | leaf)"
forgetful = ranef.lmm(law, leaves)
remembers = ranef.lmm(law, leaves, residual="ou(day | leaf)")
print(remembers, "\n")
gain = remembers.loglik - forgetful.loglik
reach = remembers.tidy("variance").query("parameter == 'range'").iloc[0]
print(
    f"Letting a leaf remember raises the log-likelihood by {gain:.1f} for one parameter;\n"
    f"what it remembers falls to a third in {reach['estimate']:.1f} days "
    f"({reach['conf_low']:.1f} to {reach['conf_high']:.1f})."
)

# --- the question: do the varieties grow alike? ---------------------------------------------
for name, fit in (("forgetful", forgetful), ("remembering", remembers)):
    row = fit.anova().tidy().query("term.str.contains(':')").iloc[0]
    print(
        f"varieties' curves, {name} residuals: F = {row['statistic']:.1f}, p = {row['p_value']:.2g}"
    )

# --- pictures --------------------------------------------------------------------------------
days = np.arange(1.0, 43.0)
figure, panel = plt.subplots(figsize=(7, 4.5), layout="constrained")
colours = {"early": "#0072b2", "late": "#c44601"}
for (_, variety), rows in leaves.sort_values("day").groupby(["leaf", "variety"]):
    panel.plot(rows["day"], rows["length"], color=colours[variety], linewidth=0.7, alpha=0.35)
for variety, colour in colours.items():
    new = pd.DataFrame({"day": days, "variety": variety, "leaf": "another"})
    curve = np.exp(remembers.predict(new, kind="typical", conf_level=0.95))  # medians, in mm
    panel.fill_between(days, curve["conf_low"], curve["conf_high"], color=colour, alpha=0.2)
    panel.plot(days, curve["estimate"], color=colour, linewidth=2.2, label=variety)
panel.set(xlabel="Day", ylabel="Length (mm)", title="The law of all leaves")
panel.legend(frameon=False)
figure.savefig(folder / "growth_curves.png", dpi=110)

apart = remembers.residuals().abs().groupby(leaves["leaf"]).mean()
one = apart.idxmax()
rows = leaves[leaves["leaf"] == one].sort_values("day")
new = pd.DataFrame({"day": days, "variety": rows["variety"].iloc[0], "leaf": one})
figure, panel = plt.subplots(figsize=(7, 4.5), layout="constrained")
panel.plot(rows["day"], rows["length"], "o", color="#1b2733", markersize=4, label="measured")
for kind, colour, words in (("typical", "#5a6875", "its variety"), ("conditional", "#0072b2", one)):
    curve = np.exp(remembers.predict(new, kind=kind))
    panel.plot(days, curve, color=colour, linewidth=2, label=words)
panel.set(xlabel="Day", ylabel="Length (mm)", title=f"The leaf that flutters: {one}")
panel.legend(frameon=False)
figure.savefig(folder / "growth_leaf.png", dpi=110)
print(f"\nThe leaf that strays most from its own curve is {one}.")
