"""Momentary stress and support: ten days of prompts, and two stories in one table.

Six prompts a day for ten days, as the server has them: rows in no order, ids typed in four ways,
answers uploaded twice, prompts that nobody answered, phones that flew to another continent, and the
night on which the clocks went forward. The list of participants lacks one who answered and has one
who never did. The questions: when a person is more stressed than usual, or has more support than
usual, how is the mood? Is it the same between people? Do people differ in it? And how long does a
bad moment last?

Figure ema_two_stories.png: Mood against stress. Lines within each person fall, the line through
the persons' means rises, the dashed pooled line lies between the two.
Figure ema_slopes.png: Slopes of mood on stress and on support of each person, those of the own
rows alone and the shrunken ones, sorted.
Figure ema_memory.png: Autocorrelation of what the model leaves, falling with the hours between two
prompts of a day.
Figure ema_compliance.png: Map of prompts answered, a row a person and a column a day.
Figure ema_series.png: Mood of six persons over ten days, from the most to the least variable.
Usage: ``python examples/ema.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import pandas as pd

import ranef

matplotlib.use("Agg")
here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- one spelling of each id -----------------------------------------------------------------
answers = pd.read_csv(here / "data" / "ema_answers.csv")
people = pd.read_csv(here / "data" / "ema_people.csv")
print(f"{len(answers)} rows with {answers['id'].nunique()} ids")
answers["number"] = answers["id"].str.extract(r"(\d+)", expand=False).astype(int)
answers["id"] = answers["number"].map("P{:02d}".format)
table = answers.merge(people, left_on="number", right_on="participant", how="left")
lost = table.loc[table["age"].isna(), "id"].unique()
silent = sorted(set(people["participant"]) - set(answers["number"]))
print(f"not on the list of participants: {', '.join(lost)}; on it and silent: {silent}\n")

# --- the whole analysis ----------------------------------------------------------------------
# times keep the offset of the phone: hours count on the world's clock, days on the person's wall
diary = ranef.diary(
    table, "mood", ["stress", "support"], person="id", time="answered", scheduled="planned"
)
print(diary, "\n")

# --- the opening argument: one slope, two stories ----------------------------------------------
answered = table.drop_duplicates(["id", "answered"]).dropna(subset=["mood"])
both = ranef.two_stories(answered, "mood", "stress", by="id")
print(both, "\n")

# --- the answer ------------------------------------------------------------------------------
effects = diary.effects().set_index(["predictor", "effect"])
stress, support = effects.loc[("stress", "within")], effects.loc[("support", "within")]
between = effects.loc[("stress", "between")]
print(
    f"When a person is one point more stressed than usual, mood is {stress['estimate']:+.2f}\n"
    f"({stress['conf_low']:.2f} to {stress['conf_high']:.2f}), and people differ in that: "
    f"sd {stress['slope_sd']:.2f}.\n"
    f"With one point more support than usual it is {support['estimate']:+.2f} "
    f"({support['conf_low']:.2f} to {support['conf_high']:.2f}).\n"
    f"People whose stress is one point higher on average: {between['estimate']:+.2f} "
    f"({between['conf_low']:.2f} to {between['conf_high']:.2f}).\n"
    f"Half of a bad moment is gone after {diary.residual.half_life:.1f} hours "
    "({:.1f} to {:.1f}).".format(*diary.residual.half_life_interval)
)

both.plot().figure.savefig(folder / "ema_two_stories.png", dpi=110, bbox_inches="tight")
axes = diary.plot.slopes()
axes[0].figure.savefig(folder / "ema_slopes.png", dpi=110, bbox_inches="tight")
for picture, name in (("autocorrelation", "memory"), ("compliance", "compliance")):
    panel = getattr(diary.plot, picture)()
    panel.figure.savefig(folder / f"ema_{name}.png", dpi=110, bbox_inches="tight")
diary.plot.series()[0].figure.savefig(folder / "ema_series.png", dpi=110, bbox_inches="tight")
diary.report(folder / "ema.html")
