"""Every picture, once, from messy data to figure.

Two sets of tables as they arrived: answers of a diary study (ids spelled in several ways,
answers sent twice, -99 for "no answer") and infections on hospital wards (a register
that does not show the months without a case). One linear and one Poisson model, and
every picture that a fit and the answers to its questions have. Each is drawn on new axes and
saved; ``ax=`` draws it into a figure of your own.

Figure pictures_random.png: Caterpillar plots of each person's intercept and slope of mood on
stress, sorted, with intervals.
Figure pictures_random_comparison.png: Caterpillar plot of the slopes with shorter bars, whose
ends meet where two persons just differ.
Figure pictures_shrinkage.png: Each person's raw intercept and slope and an arrow to the shrunken
ones, which lie closer together around the average person.
Figure pictures_predictions.png: Mood against stress with a line for each person and the
population's line with its band.
Figure pictures_fixed.png: Points and intervals of the fixed effects beside a line at zero.
Figure pictures_means.png: Marginal means of mood in the morning, at noon and in the evening
with intervals and comparison arrows.
Figure pictures_means_interaction.png: Marginal means of mood along the day, a line for each
group.
Figure pictures_average.png: The average effect of training on mood with its interval, beside
a line at zero.
Figure pictures_residuals.png: Residuals against fitted values with a smooth line near zero.
Figure pictures_scale_location.png: The size of residuals against fitted values with a smooth
line that stays level.
Figure pictures_qq.png: Normal quantile plot of the residuals, on the line.
Figure pictures_qq_random.png: Normal quantile plots of the persons' intercepts and slopes with
bands; the smallest and largest intercepts lie nearer to the middle than normal ones would.
Figure pictures_influence.png: Cook's distances of the twenty-five persons who move the
coefficients most.
Figure pictures_influence_dfbetas.png: How far each coefficient moves without single persons, a
panel for each coefficient.
Figure pictures_zeta.png: Profile zeta of intercepts' and slopes' standard deviations and sigma
with the intervals as bands.
Figure pictures_density.png: The densities that these profiles imply, their intervals filled.
Figure pictures_bootstrap.png: Histograms of bootstrap draws of two coefficients with
intervals.
Figure pictures_check.png: Six panels that show whether the linear model holds.
Figure pictures_autocorrelation.png: Correlations of the residuals of prompts one to twenty apart,
most within the band of none, with the line of the autoregressive model.
Figure pictures_variogram.png: Half the mean squared difference of residuals against the prompts
between them, with the model's line.
Figure pictures_simulated.png: Scaled residuals of the Poisson model as quantiles, on the line,
and their quartiles across the fit, about level.
Figure pictures_ranks.png: Expected ranks of thirty wards with intervals that span most of the
list.
Figure pictures_ratios.png: Standardised infection ratios of thirty wards, raw and shrunken, with
intervals.
Figure pictures_funnel.png: Funnel plot of observed over expected infections with two wards beyond
the 99.8% limits.
Usage: ``python examples/pictures.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

import ranef

matplotlib.use("Agg")
import matplotlib.pyplot as plt

here = Path(__file__).parent / "data"
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def save(name, axes):
    """Write the figure that a picture was drawn on, and say what it was."""
    first = np.ravel(np.asarray(axes, dtype=object))[0]
    first.figure.savefig(folder / f"pictures_{name}.png", dpi=90, bbox_inches="tight")
    print(f"{name:20} {first.get_title(loc='left')}")
    plt.close("all")


# --- a diary study: from what arrived to one row a prompt ------------------------------------
answers = pd.read_csv(here / "diary_answers.csv", na_values={"stress": ["-99"]})
answers["id"] = answers["id"].str.strip().str.upper()
answers = answers.drop_duplicates(["id", "day", "prompt"])
answers["prompt"] = pd.Categorical(answers["prompt"], ["morning", "noon", "evening"])
people = pd.read_csv(here / "diary_people.csv")
people["id"] = people["participant"].map("P{:02d}".format)
diary = answers.merge(people[["id", "group"]], on="id", how="left", validate="many_to_one")

fit = ranef.lmm(
    "mood ~ within(stress, id) * group + between(stress, id) + prompt * group "
    "+ (within(stress, id) | id)",
    diary,
)
print(fit, "\n")

# --- the levels ------------------------------------------------------------------------------
slope = "within(stress, id)"
save("random", fit.plot.random())
save("random_comparison", fit.plot.random(term=slope, bars="comparison"))
save("shrinkage", fit.plot.shrinkage())

# --- what the model says ---------------------------------------------------------------------
save("predictions", fit.plot.predictions("stress"))
save("fixed", fit.plot.fixed())
save("means", fit.plot.means("prompt"))
save("means_interaction", fit.emmeans(["prompt", "group"]).plot("interaction"))
save("average", ranef.average(fit, "group", compare="difference").plot())

# --- does it hold? ---------------------------------------------------------------------------
save("residuals", fit.plot.residuals())
save("scale_location", fit.plot.scale_location())
save("qq", fit.plot.qq())
save("qq_random", fit.plot.qq("random"))
save("influence", fit.plot.influence())
save("influence_dfbetas", fit.influence().plot("dfbetas", most=8))
save("check", fit.check().plot())

# --- do errors remember? ---------------------------------------------------------------------
diary["beep"] = 3 * diary["day"] + diary["prompt"].cat.codes
remembers = ranef.lmm(
    "mood ~ within(stress, id) + between(stress, id) + prompt + (1 | id)",
    diary,
    residual="ar1(beep | id)",
)
save("autocorrelation", remembers.plot.autocorrelation())
save("variogram", remembers.plot.variogram())

# --- how sure is it? -------------------------------------------------------------------------
deviations = ["sd: id: (Intercept)", f"sd: id: {slope}", "sigma"]
save("zeta", fit.plot.profile(deviations))
save("density", fit.plot.profile(deviations, kind="density"))
drawn = fit.bootstrap(300, rng=1, progress=False)
save("bootstrap", drawn.plot.draws([slope, f"{slope}:grouptraining"]))

# --- wards: counts with an exposure ----------------------------------------------------------
cases = pd.read_csv(here / "wards_register.csv", dtype=str).drop_duplicates("case")
cases = cases.dropna(subset="ward")
cases["ward"] = "W" + cases["ward"].str.extract(r"(\d+)")[0].str.zfill(2)
cases["month"] = cases["date"].str[:7]
days = pd.read_csv(here / "wards_bed_days.csv", dtype={"unit": str})
days = days.drop_duplicates(["unit", "month"])
days["ward"] = "W" + days["unit"].str[-2:]
days["month"] = pd.to_datetime(days["month"], format="%b %Y").dt.strftime("%Y-%m")
counts = cases.groupby(["ward", "month"]).size().rename("infections").reset_index()
table = days.merge(counts, on=["ward", "month"], how="left", validate="one_to_one")
table["infections"] = table["infections"].fillna(0).astype(int)

wards = ranef.glmm(
    "infections ~ kind + (1 | ward) + offset(log(patient_days))", table, family="poisson"
)
save("simulated", wards.plot.simulated())
save("ranks", wards.plot.ranks(scale="ratio", order="descending"))
ratios = wards.standardized_ratios("ward")
save("ratios", ratios.plot())
save("funnel", ratios.funnel().plot())
