"""Falls in nursing homes: a model that is wrong in three ways, and its repair.

The monthly reports arrive with homes spelled in several ways, -9 for "not
reported", and reports that were sent twice. The question: how do falls change in
months in which a home has more staff than usual? The first model counts falls as
Poisson, with staff as it stands in the table. `check` says what is wrong with it.

Figure falls.png: Scaled residuals as quantiles and against the fit: far off for the first model,
on the line for its repair.
Usage: ``python examples/falls.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

import ranef

here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- from what arrived to one row a home and month -------------------------------------------
falls = pd.read_csv(here / "data" / "falls.csv", na_values={"staff": ["-9"]})
falls["home"] = falls["home"].str.upper().str.removeprefix("HOME").str.strip()
falls = falls.drop_duplicates(["home", "month"]).sort_values(["home", "month"], ignore_index=True)
print(f"{len(falls)} reports of {falls['home'].nunique()} homes, ", end="")
print(f"{falls['staff'].isna().sum()} without the number of staff\n")

# --- the first model, criticised -------------------------------------------------------------
first = ranef.glmm(
    "falls ~ staff + offset(log(resident_days)) + (1 | home)", falls, family="poisson"
)
check = ranef.check(first, time=falls["month"].rank(method="dense"))
print(check, "\n")

# --- one home carries the result: look at its rows -------------------------------------------
found = ranef.influence(first)
worst = found.labels[found.cook.argmax()]
print(f"{worst}:", falls.loc[falls["home"] == worst, "falls"].tolist())
print("Its counts rise until December and start anew: it reports the running total.\n")
own = falls["home"] == worst
year = falls.loc[own, "month"].str[:4]
falls.loc[own, "falls"] = falls[own].groupby(year)["falls"].diff().fillna(falls[own]["falls"])

# --- the model mended: counts with room to vary, staff within and between homes ---------------
mended = ranef.glmm(
    "falls ~ within(staff, home) + between(staff, home) + offset(log(resident_days)) + (1 | home)",
    falls,
    family="nbinom2",
)
print(ranef.check(mended, time=falls["month"].rank(method="dense")), "\n")

# --- the answer ------------------------------------------------------------------------------
ratio = mended.tidy(exponentiate=True).set_index("term")
raw = first.tidy(exponentiate=True).set_index("term").loc["staff"]
within, between = ratio.loc["within(staff, home)"], ratio.loc["between(staff, home)"]
print(
    f"The first model: one more member of staff, rate ratio {raw['estimate']:.2f} "
    f"({raw['conf_low']:.2f} to {raw['conf_high']:.2f}).\n"
    f"In a month with one more than usual: {within['estimate']:.2f} "
    f"({within['conf_low']:.2f} to {within['conf_high']:.2f}).\n"
    f"Between homes that differ by one: {between['estimate']:.2f} "
    f"({between['conf_low']:.2f} to {between['conf_high']:.2f}): who cares for frail people\n"
    "has more staff and more falls."
)

figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.6), layout="constrained")
for row, fit, name in zip(axes, (first, mended), ("First model", "Mended"), strict=True):
    for ax in ranef.simulated_residuals(fit).plot(axes=row):
        ax.set_title(f"{name}: {ax.get_title(loc='left').lower()}", loc="left", fontsize=10.5)
figure.savefig(folder / "falls.png", dpi=110)
