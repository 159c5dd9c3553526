"""A patient's question and a question of policy, from one trial.

Patients of two centres are seen at four visits under a treatment or placebo. "How will I respond?"
asks about one patient; "how many more will be well if we treat everyone?" asks about the
population. With a yes/no answer the two have different numbers, and neither is wrong.

Figure two_questions.png: Curves of single patients along age, which spread from near zero to near
one, and through their midst the flatter curves of the population and of gee, on each other.
Usage: ``python examples/two_questions.py [FOLDER]``
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import ranef

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
trial = ranef.data.load("respiratory")

# --- both questions of one formula -----------------------------------------------------------
both = ranef.two_answers(
    "outcome ~ treat + baseline + age", trial, groups="center:id", time="visit", family="binomial"
)
print(both, "\n")

# --- the patient's: odds, for someone like me ------------------------------------------------
rows = both.tidy().set_index(["question", "term"])["estimate"]
print(f"One patient: placebo multiplies the odds by {2.718281828 ** rows['subject', 'treatP']:.2f}")

# --- policy: how many more are well ----------------------------------------------------------
effect = ranef.average(both.marginal, "treat", reference="P")
print(effect, "\n")

# --- the working correlation hardly matters to the answer, and the criteria say which fits ---
for correlation in ("independence", "exchangeable", "ar1", "unstructured"):
    fit = ranef.gee(
        "outcome ~ treat + baseline + age", trial, groups="center:id", time="visit",
        family="binomial", correlation=correlation,
    )  # fmt: skip
    cic = float(fit.criteria()["cic"].iloc[0])
    print(
        f"{correlation:13} treatP {fit.coef['treatP']:.3f} ({fit.bse['treatP']:.3f}), CIC {cic:.3f}"
    )

# --- the picture -----------------------------------------------------------------------------
figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
both.plot("age", ax=ax)
figure.savefig(folder / "two_questions.png", dpi=150)
