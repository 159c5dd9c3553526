"""Whose moods linger? A diary in which persons differ in inertia and variability.

A hundred and twenty people answered four times a day for a week. Some let a bad moment go by the
next prompt; in others it stays for half a day. Three questions: how much do persons differ
in that, do those who are less well have more of it, and what is to be expected of one
person at the next prompt? A lagged outcome centred at each person's observed mean would
find too little inertia (Nickell's bias); here the level is latent.

Figure inertia.png: Inertia of each person with its interval, in order, beside the innovation
standard deviation and inertia of each person, whose size shows their level.
Figure inertia_profile.png: Signed root of the profile likelihood of the spread of inertia
between persons, with its 95% interval.
Usage: ``python examples/inertia.py [FOLDER]``
"""

import sys
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import ranef

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- the diary: what the persons are like, and what they answered ----------------------------
rng = np.random.default_rng(20)
PERSONS, PROMPTS = 120, 28
distress = rng.normal(size=PERSONS)
spread = np.linalg.cholesky([[1.0, 0.3, 0.3], [0.3, 1.0, 0.0], [0.3, 0.0, 1.0]])
own = rng.normal(size=(PERSONS, 3)) @ spread.T
inertia = np.tanh(0.30 + 0.15 * distress + 0.22 * own[:, 0])
variability = np.exp(-0.1 + 0.25 * own[:, 1])
level = 4.0 + 0.8 * distress + 0.7 * own[:, 2]
deviation = np.zeros((PERSONS, PROMPTS))
for t in range(PROMPTS):
    before = deviation[:, t - 1] if t else 0.0
    deviation[:, t] = inertia * before + variability * rng.normal(size=PERSONS)
diary = pd.DataFrame({
    "person": np.repeat(np.arange(1, PERSONS + 1), PROMPTS),
    "prompt": np.tile(np.arange(PROMPTS), PERSONS),
    "distress": np.repeat(distress, PROMPTS),
    "na": (level[:, None] + deviation).ravel(),
})  # fmt: skip
diary = diary[rng.random(len(diary)) < 0.8]  # a prompt in five was missed
print(f"{len(diary):,} answers of {PERSONS} persons, {len(diary) / PERSONS:.0f} each\n")

# --- level, inertia and innovation standard deviation of each person, correlated -------------
fit = ranef.dynamic(
    "na ~ distress + (1 | p | person)", diary, residual="ar1(prompt | person)",
    inertia="~ distress + (1 | p | person)", dispersion="~ 1 + (1 | p | person)",
)  # fmt: skip
print(fit, "\n")
print(fit.check(), "\n")

# --- do persons differ in inertia? -----------------------------------------------------------
alike = ranef.dynamic(
    "na ~ distress + (1 | p | person)", diary, residual="ar1(prompt | person)",
    inertia="~ distress", dispersion="~ 1 + (1 | p | person)",
)  # fmt: skip
print(alike.anova(fit, names=("one inertia", "own inertia")), "\n")
profile = fit.profile("sd: person: inertia: (Intercept)")
limits = profile.confint().iloc[0]
print(
    f"Inertia differs between persons with an sd of {limits['estimate']:.2f} "
    f"({limits['conf_low']:.2f} to {limits['conf_high']:.2f}) on the scale of Fisher's z."
)

# --- what the bias of a lagged outcome would have been ---------------------------------------
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ranef.errors.FormulaWarning)  # it warns of just this bias
    lagged = ranef.lmm(
        "na ~ within(lag(na, person, time=prompt, max_gap=1), person) + distress + (1 | person)",
        diary,
    )
naive = lagged.tidy().set_index("term")["estimate"].iloc[1]
typical = np.tanh(fit.tidy().query("component == 'inertia'")["estimate"].iloc[0])
print(
    f"Inertia of a typical person: {typical:.3f}; by a lagged outcome centred at observed means "
    f"{naive:.3f}; it was made with {np.tanh(0.30):.3f}.\n"
)

# --- the next prompt of one person -----------------------------------------------------------
last = diary[diary["person"] == 1].iloc[-1]
soon = pd.DataFrame({
    "person": 1, "prompt": last["prompt"].astype(int) + np.array([1, 2, 6]),
    "distress": last["distress"],
})  # fmt: skip
print(pd.concat([soon, fit.predict(soon, conf_level=0.9).round(2)], axis=1).to_string(index=False))

# --- the pictures ----------------------------------------------------------------------------
persons = fit.dynamics()
phi = persons[persons["parameter"] == "phi"].sort_values("estimate")
sd = persons[persons["parameter"] == "sd"].set_index("level")["estimate"]
figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
place = np.arange(len(phi))
axes[0].hlines(place, phi["conf_low"], phi["conf_high"], color="#9aa7b5")
axes[0].plot(phi["estimate"], place, "o", color="#0b5394", markersize=3)
axes[0].axvline(0, color="#666", linewidth=0.8)
axes[0].set(xlabel="Inertia, 95% interval", ylabel="Persons in order", yticks=[])
mean = diary.groupby("person")["na"].mean()
axes[1].scatter(
    sd.loc[phi["level"]], phi["estimate"], s=12 * mean.loc[phi["level"]], color="#0b5394", alpha=0.5
)
axes[1].set(xlabel="Innovation standard deviation", ylabel="Inertia")
figure.savefig(folder / "inertia.png", dpi=110)
axis = profile.plot.zeta()
axis.figure.savefig(folder / "inertia_profile.png", dpi=110)
