"""A trial by visit: from the forms of a data-capture system to the table that a report prints.

Two hundred patients with depression took a drug or placebo for eight weeks and were scored at
baseline and at four visits (lower is better). The export has visits spelled in two ways, forms
marked "ND", forms entered twice, unscheduled visits; patients who fared badly left. Who was seen
when? What is the difference at each visit, with the interval and p-value of the primary analysis?
Does it hold with baseline as a response, with those who left on the drug assumed to have lost its
effect, and is the drug at least not worse by more than a margin?

Figure visits_means.png: Mean score by visit under drug and placebo with 95% intervals.
Figure visits_seen.png: Percentage of patients with a score at each visit, by arm.
Usage: ``python examples/visits.py [FOLDER]``
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

# --- from forms to one row a patient and visit ------------------------------------------------
forms = pd.read_csv(here / "visits_scores.csv", dtype=str)
arms = pd.read_csv(here / "visits_randomisation.csv", dtype=str)
forms["SUBJID"] = forms["SUBJID"].str.strip()
forms["VISIT"] = forms["VISIT"].str.capitalize()
planned = ["Baseline", "Week 2", "Week 4", "Week 6", "Week 8"]
print(f"{len(forms)} forms; not planned: {(~forms['VISIT'].isin(planned)).sum()}")
forms = forms[forms["VISIT"].isin(planned)].drop_duplicates()
forms["score"] = pd.to_numeric(forms["SCORE"].replace("ND", None))
arms["arm"] = pd.Categorical(arms["TRTP"].map({"A": "placebo", "B": "drug"}), ["placebo", "drug"])
seen = forms.merge(arms, on="SUBJID", how="left", validate="many_to_one")
seen["visit"] = pd.Categorical(seen["VISIT"], planned)

# --- who was seen when ------------------------------------------------------------------------
patterns = ranef.missing_patterns(seen, "score", subject="SUBJID", visit="visit", arm="arm")
print(patterns, "\n")

# --- the primary analysis: change from baseline, unstructured by visit, Kenward-Roger ---------
wide = seen.pivot(index="SUBJID", columns="visit", values="score")
base = wide["Baseline"].rename("base")
trial = (
    wide.drop(columns="Baseline").stack(future_stack=True).rename("score").reset_index()
    .merge(base, on="SUBJID").merge(arms[["SUBJID", "arm"]], on="SUBJID")
)  # fmt: skip
trial["visit"] = trial["visit"].cat.remove_unused_categories()
trial["change"] = trial["score"] - trial["base"]
sequence = [f"{kind}(visit | SUBJID)" for kind in ("us", "toep", "hetar1", "cs")]
model = "change ~ base * visit + arm * visit"
fit = ranef.lmm(model, trial, residual=sequence)
print(fit.residual_structures().to_string(index=False), "\n")

DF = "kenward-roger-observed"  # as SAS and mmrm count
means = fit.emmeans("arm", by="visit", df=DF)
pairs = fit.contrasts("arm", by="visit", method="revpairwise", df=DF)


def report(means: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a trial report: means by arm, difference, interval and p-value."""
    cell = means.apply(lambda r: f"{r['estimate']:.2f} ({r['std_error']:.2f})", axis=1)
    out = means.assign(cell=cell).pivot(index="visit", columns="arm", values="cell")
    row = pairs.set_index("visit")
    out["difference"] = row["estimate"].map("{:.2f}".format)
    out["95% interval"] = row.apply(lambda r: f"{r['conf_low']:.2f}, {r['conf_high']:.2f}", axis=1)
    out["df"] = row["df"].map("{:.1f}".format)
    out["p"] = row["p_value"].map(lambda p: f"{p:.4f}" if p >= 1e-4 else "< 0.0001")
    counts = trial.dropna(subset="change").groupby(["visit", "arm"], observed=True).size()
    for arm in ("drug", "placebo"):
        out.insert(0, f"n {arm}", counts.xs(arm, level="arm"))
    return out


print("LS means of the change from baseline (standard error)")
print(report(means.tidy(), pairs.tidy()).to_string(), "\n")

# --- baseline as a response, with one mean for both arms (cLDA) --------------------------------
treated = (seen["arm"] == "drug") & (seen["visit"] != "Baseline")
seen["on_drug"] = pd.Categorical(seen["VISIT"].where(treated, "no"), ["no", *planned[1:]])
both = ranef.lmm("score ~ visit + on_drug", seen, residual="us(visit | SUBJID)")
effects = both.tidy(df=DF).set_index("term").filter(like="on_drug", axis=0)
print("With baseline as a response, equal in both arms by randomisation")
print(effects[["estimate", "std_error", "df", "conf_low", "conf_high", "p_value"]].round(3), "\n")

# --- not worse by more than a margin: placebo minus drug is above -1 ---------------------------
last = fit.contrasts("arm", by="visit", method="pairwise", df=DF, side="noninferiority",
                     delta=1.0).tidy().iloc[-1]  # fmt: skip
print(f"Not worse than placebo by more than 1 point at week 8: p = {last['p_value']:.2g}\n")

# --- those who left are assumed to have lost the effect of the drug ---------------------------
drawn = ranef.impute(fit, trial, arm="arm", reference="placebo", method="j2r", n=50, rng=1)
pooled = drawn.pool().contrasts("arm", by="visit", method="revpairwise").tidy()
print("Jump to reference, 50 imputations pooled by Rubin's rules")
print(pooled[["visit", "estimate", "std_error", "df", "conf_low", "conf_high", "p_value"]]
      .round(3).to_string(index=False))  # fmt: skip

# --- figures ----------------------------------------------------------------------------------
figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
for shift, (arm, rows) in zip((-0.04, 0.04), means.tidy().groupby("arm", observed=True),
                              strict=True):  # fmt: skip
    at = [2 * (k + 1) + shift for k in range(len(rows))]
    low, high = rows["estimate"] - rows["conf_low"], rows["conf_high"] - rows["estimate"]
    ax.errorbar(at, rows["estimate"], [low, high], marker="o", capsize=3, label=arm)
ax.set(xlabel="week", ylabel="change from baseline", title="LS means with 95% intervals")
ax.legend(frameon=False)
figure.savefig(folder / "visits_means.png", dpi=110)
figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
patterns.plot(ax=ax)
figure.savefig(folder / "visits_seen.png", dpi=110)
