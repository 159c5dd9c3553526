"""Makes structural_data.csv: a simulated diary of stress, support and negative affect.

80 persons with 5 to 15 prompts; three items a construct at both levels; covariates of the
prompt (x1, x2) and of the person (w1, w2), two sites, and 8% of the items missing.

    python structural_data.py
"""

from pathlib import Path

import numpy as np

rng = np.random.default_rng(20260719)
persons = 80
sizes = rng.integers(5, 16, persons)
person = np.repeat(np.arange(persons), sizes)
n = len(person)
w = rng.normal(size=(persons, 2)).round(2)
x = rng.normal(size=(n, 2)).round(2)
site = (np.arange(persons) % 2)[person]
load = np.array([1.0, 0.9, 0.8])

support_b = rng.normal(0, 0.7, persons)
stress_b = -0.4 * support_b + 0.3 * w[:, 0] + rng.normal(0, 0.6, persons)
affect_b = 0.5 * stress_b - 0.3 * support_b + rng.normal(0, 0.5, persons)
support = rng.normal(0, 0.8, n)
stress = -0.3 * support + 0.2 * x[:, 0] + rng.normal(0, 0.9, n)
slope = 0.4 + 0.2 * w[:, 1] + rng.normal(0, 0.25, persons)
affect = 0.3 * stress - 0.2 * support + slope[person] * x[:, 1] + rng.normal(0, 0.7, n)

columns = {
    "person": person,
    "site": site,
    "x1": x[:, 0],
    "x2": x[:, 1],
    "w1": w[person, 0],
    "w2": w[person, 1],
}
for name, within, between in (
    ("st", stress, stress_b),
    ("su", support, support_b),
    ("na", affect, affect_b),
):
    for k in range(3):
        item = 2 + 0.2 * k + load[k] * (within + between[person] + 0.1 * site * (name == "st"))
        item = item + rng.normal(0, 0.3, persons)[person] + rng.normal(0, 0.7, n)
        columns[f"{name}{k + 1}"] = item.round(2)
items = [f"{name}{k}" for name in ("st", "su", "na") for k in (1, 2, 3)]
gone = rng.random((n, 9)) < 0.08
order = rng.permutation(n)
with open(Path(__file__).parent / "structural_data.csv", "w") as out:
    out.write(",".join([*columns, *(f"m_{i}" for i in items)]) + "\n")
    for r in order:
        cells = [f"{columns[c][r]:g}" for c in columns]
        cells += ["" if gone[r, k] else f"{columns[i][r]:g}" for k, i in enumerate(items)]
        out.write(",".join(cells) + "\n")
