"""Hospital wards ranked by infection rate, from two tables that do not fit together.

The register has one line a case, its wards written as ``"W07"``, ``"w7"``, ``"Ward 7"`` or
not at all, and cases that were reported twice. A ward without a case in a month is not
in it, though its patient-days are what makes the rate. The bed office calls the same wards
``4007``, has months as ``"Jan 2023"``, cells with ``n/a``, and one month that was sent
twice. The question: which wards have more infections for their patient-days than wards
of their kind, and how sure is a league table of that?

Figure hospital_wards.png: Standardised infection ratios of thirty wards with intervals,
their expected ranks with intervals that span most of the list, and a funnel plot with two
wards beyond the 99.8% limits.
Usage: ``python examples/hospital_wards.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import pandas as pd

import ranef

matplotlib.use("Agg")
import matplotlib.pyplot as plt

here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- from what arrived to one row a ward and month -------------------------------------------
cases = pd.read_csv(here / "data" / "wards_register.csv", dtype=str)
repeated = cases.duplicated("case")
cases = cases[~repeated]
nowhere = cases["ward"].isna()
print(f"{len(cases)} cases; {repeated.sum()} were reported twice, {nowhere.sum()} name no ward")
cases = cases[~nowhere]
cases["ward"] = "W" + cases["ward"].str.extract(r"(\d+)")[0].str.zfill(2)
cases["month"] = cases["date"].str[:7]

days = pd.read_csv(here / "data" / "wards_bed_days.csv", dtype={"unit": str})
days = days.drop_duplicates(["unit", "month"])
days["ward"] = "W" + days["unit"].str[-2:]
days["month"] = pd.to_datetime(days["month"], format="%b %Y").dt.strftime("%Y-%m")
counts = cases.groupby(["ward", "month"]).size().rename("infections").reset_index()
table = days.merge(counts, on=["ward", "month"], how="left", validate="one_to_one")
table["infections"] = table["infections"].fillna(0).astype(int)
quiet = (table["infections"] == 0).mean()
print(f"{len(table)} ward-months, {quiet:.0%} without a case: the register does not show these\n")

# --- the model: each ward around the rate of its kind ----------------------------------------
fit = ranef.glmm(
    "infections ~ kind + (1 | ward) + offset(log(patient_days))", table, family="poisson"
)
print(fit, "\n")

# --- the answer: a league table with its uncertainty -----------------------------------------
ratios = ranef.standardized_ratios(fit, "ward", per=1000)
league = ratios.tidy(sort=True)
columns = ["level", "observed", "expected", "ratio", "shrunken", "conf_low", "conf_high"]
print(league[[*columns, "prob_above", "rate"]].head(6).round(2).to_string(index=False), "\n")

ranking = ranef.rank(fit, "ward", scale="ratio", order="descending", top=3)
first = ranking.tidy(sort=True).iloc[0]
print(
    f"{first['level']} comes first, at {first['estimate']:.2f} times the rate of a typical ward of "
    f"its kind\n(95% interval {first['conf_low']:.2f} to {first['conf_high']:.2f}). Its rank lies "
    f"between {first['rank_low']} and {first['rank_high']} of {len(league)}; it is among the\n"
    f"three highest with probability {first['prob_top']:.2f}.\n"
)
print(ranking, "\n")

funnel = ratios.funnel()
print(funnel)

figure, panels = plt.subplots(1, 3, figsize=(16, 7), layout="constrained")
ratios.plot(ax=panels[0])
ranking.plot(ax=panels[1])
funnel.plot(ax=panels[2])
figure.savefig(folder / "hospital_wards.png", dpi=100)
