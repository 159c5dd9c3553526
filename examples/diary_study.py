"""A diary study as it arrives: two CSV files that do not fit together.

The answers have ids such as ``" p07 "`` beside ``"P07"``, empty cells, -99 for
"no answer", and prompts that were sent twice; the list of participants calls
the same people 1, 2, 3 and lacks one of them. The question: on occasions when a
person is more stressed than usual for them, how much lower is their mood, how
much does that differ between people, and does training soften it?

Figure diary_study.png: Caterpillar plot of each person's intercept and slope of mood
on stress, with intervals.
Usage: ``python examples/diary_study.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import pandas as pd

import ranef

matplotlib.use("Agg")
here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- from what arrived to one row a prompt ---------------------------------------------------
answers = pd.read_csv(here / "data" / "diary_answers.csv", na_values={"stress": ["-99"]})
people = pd.read_csv(here / "data" / "diary_people.csv")
print(f"{len(answers)} answers by {answers['id'].nunique()} spellings of an id")

answers["id"] = answers["id"].str.strip().str.upper()
repeated = answers.duplicated(["id", "day", "prompt"])
answers = answers[~repeated]
print(f"{repeated.sum()} answers sent twice; {len(answers)} remain, by {answers['id'].nunique()}")

people["id"] = people["participant"].map("P{:02d}".format)
diary = answers.merge(people[["id", "group"]], on="id", how="left", validate="many_to_one")
unknown = diary.loc[diary["group"].isna(), "id"].unique()
print(f"not on the list of participants: {', '.join(unknown)}\n")

# --- the model: each person's own slope of mood on stress ------------------------------------
fit = ranef.lmm(
    "mood ~ within(stress, id) * group + between(stress, id) + (within(stress, id) | id)",
    diary,
)
print(fit, "\n")

# --- the answer ------------------------------------------------------------------------------
fixed = fit.tidy().set_index("term")
slope = fixed.loc["within(stress, id)"]
change = fixed.loc["within(stress, id):grouptraining"]
spread = fit.tidy("variance").query("term == 'within(stress, id)' and parameter == 'sd'")
print(
    f"One point more stress than usual goes with {slope['estimate']:.2f} points of mood\n"
    f"({slope['conf_low']:.2f} to {slope['conf_high']:.2f}) in the control group. "
    f"People differ: sd {spread['estimate'].item():.2f}.\n"
    f"Training changes the slope by {change['estimate']:+.2f} "
    f"({change['conf_low']:.2f} to {change['conf_high']:.2f})."
)

axes = fit.plot.random()
axes.flat[0].figure.savefig(folder / "diary_study.png", dpi=110, bbox_inches="tight")
