"""A drug trial as it arrives: from messy ids to a risk difference that a ward can use.

Cultures of patients in 24 wards, up to three each, with patients' numbers written as
``P-017`` and ``p 017``, outcomes as "yes", "Yes", "positive", samples lost and samples
entered twice; a list of patients with their drug; and what the trial is for: the
hospital's own patients, older and iller than those of the trial. How many infections
does the new drug prevent, for the patients of the trial and for those of the hospital?

Figure drug_trial.png: Risk of infection under either drug, and the risk difference, for the
patients of the trial and for those of the hospital.
Usage: ``python examples/drug_trial.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd

import ranef

matplotlib.use("Agg")
here = Path(__file__).parent / "data"
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- from what arrived to one row a culture ---------------------------------------------------
cultures = pd.read_csv(here / "trial_cultures.csv")
patients = pd.read_csv(here / "trial_patients.csv")
print(f"{len(cultures)} rows, {cultures['patient'].nunique()} spellings of a patient")

cultures["number"] = cultures["patient"].str.extract(r"(\d+)", expand=False).astype(int)
cultures["ward"] = cultures["ward"].str.strip().str.capitalize()
answers = {"yes": 1, "positive": 1, "no": 0, "neg.": 0}
cultures["infected"] = cultures["infection"].str.lower().map(answers)
cultures = cultures.drop_duplicates(["number", "week"])
patients["drug"] = pd.Categorical(patients["drug"].str.strip().str.lower(), ["standard", "new"])
trial = cultures.merge(patients, on="number", how="left", validate="many_to_one")
print(
    f"{len(trial)} cultures of {trial['number'].nunique()} patients in "
    f"{trial['ward'].nunique()} wards; {trial['infected'].isna().sum()} lost\n"
)

# --- the model: wards differ, and so do patients ----------------------------------------------
fit = ranef.glmm(
    "infected ~ drug * severity + age + (1 | ward) + (1 | number)", trial, family="binomial"
)
print(fit, "\n")

# --- the answer: for the patients of the trial, and for those of the hospital -----------------
in_trial = ranef.average(fit, "drug")
print(in_trial, "\n")

registry = pd.read_csv(here / "trial_registry.csv")
at_home = ranef.average(fit, "drug", population=registry, weights="patients")
by_severity = ranef.average(fit, "drug", population=registry, weights="patients", by="severity")
shown = pd.concat(
    [
        in_trial.tidy().assign(patients="of the trial"),
        at_home.tidy().assign(patients="of the hospital"),
        by_severity.tidy().assign(patients=lambda t: "of the hospital, " + t["severity"]),
    ]
)
print("Risk difference, new drug minus standard:")
print(shown[["patients", "estimate", "conf_low", "conf_high"]].round(3).to_string(index=False))
needed = at_home.number_needed().iloc[0]
print(
    f"\nIn the hospital {needed['estimate']:.1f} patients on the new drug for one infection "
    f"{needed['event']} ({needed['conf_low']:.1f} to {needed['conf_high']:.1f})."
)

# --- a new patient, after two cultures --------------------------------------------------------
next_week = pd.DataFrame(
    {"drug": "new", "severity": "mild", "age": 60, "ward": "Ward 3", "number": [9001]}
)
so_far = pd.concat([next_week, next_week]).assign(infected=[1, 1])
before = fit.predict(next_week, conf_level=0.9).iloc[0]
after = fit.predict(next_week, conf_level=0.9, history=so_far).iloc[0]
for when, row in (("before any culture", before), ("after two positive ones", after)):
    print(
        f"A new patient of ward 3, {when}: risk {row['estimate']:.2f} "
        f"({row['conf_low']:.2f} to {row['conf_high']:.2f})"
    )

# --- a figure ---------------------------------------------------------------------------------
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
fit.plot.predictions("age", group="ward", data=False, ax=axes[0])
by_severity.plot(ax=axes[1])
figure.savefig(folder / "drug_trial.png", dpi=110)
