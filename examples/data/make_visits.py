"""Make the two tables of the trial by visit, as a data-capture system exports them.

Two hundred patients with depression were randomised to a drug or placebo and scored (0 to 60,
lower is better) at baseline and after 2, 4, 6 and 8 weeks. Who fares badly tends to leave: the
scores seen decide, so that what is missing is missing at random given them. The trial is invented;
its true values are below. Usage: ``python examples/data/make_visits.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

PATIENTS = 200
WEEKS = (0, 2, 4, 6, 8)
#: mean score under placebo, what the drug adds, standard deviations, correlation per two weeks
PLACEBO = np.array([31.0, 27.5, 25.2, 23.8, 23.0])
DRUG = np.array([0.0, -0.8, -2.0, -2.9, -3.4])
SD = np.array([5.0, 6.2, 7.0, 7.6, 8.0])
KEPT = 0.8
#: log odds of leaving after a visit: at the mean score, and by ten points above it
LEAVES, WORSE = -2.8, 1.0


def scores(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the arm (drug or not) and the scores of all visits."""
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    root = np.linalg.cholesky(KEPT**lag * np.outer(SD, SD))
    drug = rng.permutation(np.repeat([True, False], PATIENTS // 2))
    y = PLACEBO + drug[:, None] * DRUG + rng.normal(size=(PATIENTS, 5)) @ root.T
    return drug, np.clip(np.round(y), 0, 60)


def seen(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which visits took place: some leave for good, a few miss one."""
    out = np.ones(y.shape, dtype=bool)
    for k in range(1, 5):
        eta = LEAVES + WORSE * (y[:, k - 1] - PLACEBO[k - 1]) / 10
        gone = rng.random(PATIENTS) < 1 / (1 + np.exp(-eta))
        out[:, k:] &= ~gone[:, None]
        out[:, k] &= rng.random(PATIENTS) > 0.03
    return out


def main(folder: Path) -> None:
    """Write the tables."""
    rng = np.random.default_rng(8)
    drug, y = scores(rng)
    kept = seen(y, rng)
    site = rng.integers(1, 13, PATIENTS)
    number = [f"{site[i]:02d}-{i + 1:03d}" for i in range(PATIENTS)]
    rows = []
    for i in range(PATIENTS):
        for k, week in enumerate(WEEKS):
            name = "Baseline" if week == 0 else f"Week {week}"
            name = name.upper() if rng.random() < 0.08 else name
            if kept[i, k]:
                rows.append((number[i], name, f"{y[i, k]:.0f}"))
            elif rng.random() < 0.5:
                rows.append((number[i], name, "ND"))
        if rng.random() < 0.05:
            rows.append((number[i], "Unscheduled", f"{y[i, 2] + 3:.0f}"))
    table = pd.DataFrame(rows, columns=["SUBJID", "VISIT", "SCORE"])
    again = table.sample(9, random_state=1)
    table = pd.concat([table, again]).sample(frac=1, random_state=2)
    table["SUBJID"] = table["SUBJID"].mask(rng.random(len(table)) < 0.05, table["SUBJID"] + " ")
    table.to_csv(folder / "visits_scores.csv", index=False)
    people = pd.DataFrame({"SUBJID": number, "SITE": site, "TRTP": np.where(drug, "B", "A")})
    people.to_csv(folder / "visits_randomisation.csv", index=False)


if __name__ == "__main__":
    main(Path(__file__).parent)
