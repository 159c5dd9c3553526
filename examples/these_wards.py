"""These wards and the new ward: two questions of one table, two models, both right.

Ten patients of each of thirty wards: how long they stayed, how ill they were when they came, and
how many nurses the ward has. Severity lengthens the stay, on some wards more than on others. Is
that because of the nurses, or has each ward its own way, or both? A hospital that plans beds on
these wards asks one question of the table, a hospital that opens a ward the other, and the best
model for the one is not the best for the other. The wards are invented.

Figure these_wards.png: Three models with their distance from the best by either criterion, crossing
over, and beside it the slopes of thirty wards against their nurses, scattered about a falling line.
Usage: ``python examples/these_wards.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

import ranef

matplotlib.use("Agg")
import matplotlib.pyplot as plt

here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
stays = pd.read_csv(here / "data" / "wards_stay.csv")

# --- why severity does not matter alike everywhere: nurses, each ward its own way, or both ---
models = {
    "nurses": ranef.lmm("days ~ severity * nurses + (1 | ward)", stays),
    "each its own": ranef.lmm("days ~ severity + nurses + (severity | ward)", stays),
    "both": ranef.lmm("days ~ severity * nurses + (severity | ward)", stays),
}

# --- a new ward: what is known of it are its nurses ------------------------------------------
new = ranef.compare(models, focus="population")
print(new, "\n")

# --- these wards: what is known of them are their own patients -------------------------------
these = ranef.compare(models, focus="individual")
print(these, "\n")
assert (new.best, these.best) == (models["nurses"], models["both"])

# --- the same by leaving out: wards, and patients of wards that are known --------------------
for by in ("group", "row"):
    scored = {name: fit.cross_validate(by, score="all") for name, fit in models.items()}
    for name, found in scored.items():
        row = found.tidy().set_index("score")["estimate"]
        print(f"{name:13s} {found.focus:11s} log {row['log']:8.1f}  rmse {row['rmse']:.3f} days")
print()

# --- the plan for a new ward with many nurses, and for the ward where severity counts most ---
plan = pd.DataFrame({"severity": [0.0, 2.0], "nurses": [7.0, 7.0], "ward": ["new", "new"]})
print("a new ward with seven nurses, patients of usual and of high severity:")
print(new.predict(plan, conf_level=0.9).round(2), "\n")
slopes = models["both"].tidy("random")
slopes = slopes[slopes["term"] == "severity"]
most = slopes.loc[slopes["estimate"].idxmax(), "level"]
known = stays[stays["ward"] == most].head(1).assign(severity=2.0)
print(f"ward {most}, where severity counts most, a patient of high severity:")
for name, fit in models.items():
    print(f"  {name:13s} {float(fit.predict(known).iloc[0]):.1f} days")

# --- what no search may forget ----------------------------------------------------------------
search = ranef.step("days ~ severity * nurses + (1 | ward)", stays, focus="population")
print("\n", search, sep="")
print(search.bootstrap(40, rng=1).tidy().round(2).to_string(index=False))

figure, panels = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
new.plot(ax=panels[0])
nurses = stays.groupby("ward")["nurses"].first()
beta = models["both"].coef
own = slopes.set_index("level")["estimate"] + beta["severity"]
own += beta["severity:nurses"] * nurses.loc[own.index]
panels[1].plot(nurses.loc[own.index], own, "o", color="#0072b2")
beta = models["nurses"].coef
grid = np.linspace(nurses.min(), nurses.max(), 2)
panels[1].plot(grid, beta["severity"] + beta["severity:nurses"] * grid, color="#c44601")
panels[1].set(title="Slopes of severity", xlabel="nurses", ylabel="days per unit of severity")
figure.savefig(folder / "these_wards.png", dpi=100)
