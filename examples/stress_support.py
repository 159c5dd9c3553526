"""Stress and support in daily life: constructs of several items, within persons and between them.

A hundred and twenty people answered seven questions up to forty times over a week; prompts were
missed, and some questions skipped. Support is measured by three items, stress by three, and how
well they slept by one number a person. Do moments with more support have less stress? Do people
with more support have less of it, beyond that? Is the scale of stress the same at both levels, how
reliable are its sums, and whose level of stress is high, given how little some answered?

Figure stress_support_effects.png: Standardised effect of support on stress within and between \
persons with 95% intervals.
Figure stress_support_persons.png: Latent level of stress of each person with 95% intervals, \
ordered.
Usage: ``python examples/stress_support.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import ranef

matplotlib.use("Agg")
folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")

# --- the answers: simulated, with ids in no order and gaps as they come ------------------------
rng = np.random.default_rng(11)
people = 120
prompts = rng.integers(4, 41, people)
who = np.repeat(np.arange(people), prompts)
n = len(who)
sleep = rng.normal(7, 1, people).round(1)
support_b = 0.5 * rng.normal(size=people)
stress_b = -0.5 * support_b - 0.3 * (sleep - 7) + 0.5 * rng.normal(size=people)
support_w = 0.8 * rng.normal(size=n)
stress_w = -0.25 * support_w + 0.8 * rng.normal(size=n)
answers = pd.DataFrame({"id": [f"P{k:03}" for k in who], "sleep": sleep[who]})
for name, total in (("su", support_w + support_b[who]), ("st", stress_w + stress_b[who])):
    for k, loading in enumerate((1.0, 0.9, 0.8), 1):
        own = 0.2 * rng.normal(size=people)[who]
        answers[f"{name}{k}"] = (3 + loading * total + own + 0.6 * rng.normal(size=n)).round(1)
items = ["su1", "su2", "su3", "st1", "st2", "st3"]
answers[items] = answers[items].mask(rng.random((n, 6)) < 0.1)
answers = answers.sample(frac=1, random_state=1, ignore_index=True)
print(f"{n} prompts of {people} people; {answers[items].isna().to_numpy().mean():.0%} of the items "
      "are missing\n")  # fmt: skip

# --- the model: every row that has an answer is used -------------------------------------------
model = """
level: 1
  support_w =~ su1 + su2 + su3
  stress_w  =~ st1 + st2 + st3
  stress_w  ~ within*support_w
level: 2
  support_b =~ su1 + su2 + su3
  stress_b  =~ st1 + st2 + st3
  stress_b  ~ between*support_b + sleep
context := between - within
"""
fit = ranef.sem(model, answers, cluster="id", missing="fiml", estimator="MLR")
print(fit, "\n")
print("Each level by itself:")
print(fit.level_fit().round(3).to_string(index=False), "\n")

# --- the contextual effect, by draws -----------------------------------------------------------
print(fit.defined("monte_carlo", n=5000, rng=1).round(3).to_string(index=False), "\n")

# --- is stress the same thing at both levels? --------------------------------------------------
stress = "level: 1\n w =~ st1 + st2 + st3\nlevel: 2\n b =~ st1 + st2 + st3\n"
same = ranef.invariance(stress, answers, cluster="id", missing="fiml")
print(same, "\n")
print("Share of stress between persons:",
      round(float(same.fits["strict"].defined().estimate.iloc[0]), 3), "\n")  # fmt: skip
print(fit.reliability().round(3).to_string(index=False), "\n")

# --- pictures ----------------------------------------------------------------------------------
fit.diagram(folder / "stress_support.svg", standardized=True)
std = fit.standardized().query("op == '~' and lhs.str.startswith('stress')", engine="python")
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
labels = [f"{r.rhs.replace('_w', ' within').replace('_b', ' between')}" for r in std.itertuples()]
ax.errorbar(std.std_all, labels, xerr=[std.std_all - std.conf_low, std.conf_high - std.std_all],
            fmt="o", color="#1b1b1b", capsize=3)  # fmt: skip
ax.axvline(0, color="#999999", linewidth=1)
ax.set_xlabel("standardised effect on stress")
figure.savefig(folder / "stress_support_effects.png", dpi=150)

scores = fit.scores(level=2, se=True).sort_values("stress_b", ignore_index=True)
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
reach = 1.96 * scores.stress_b_se
scores["stress_b"] -= scores.stress_b.mean()
ax.errorbar(scores.index, scores.stress_b, yerr=reach, fmt=".", color="#1b1b1b", ecolor="#bbbbbb")
ax.set_xlabel("person, by level of stress")
ax.set_ylabel("latent level of stress")
figure.savefig(folder / "stress_support_persons.png", dpi=150)
sure = int((scores.stress_b - reach > 0).sum())
print(f"{sure} of {people} people have a level of stress that is above the mean for sure.")
