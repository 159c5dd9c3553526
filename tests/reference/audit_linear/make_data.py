"""Data for the audit of linear models: messy on purpose. Run once; the CSV files are kept."""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent


def diary(rng: np.random.Generator) -> pd.DataFrame:
    """Unbalanced days of 24 persons, one of whom answered once; missing cells."""
    rows = []
    arms = ["usual", "app", "coach"]
    for i in range(24):
        b = rng.normal(0, [1.1, 0.25])
        days = np.sort(rng.choice(14, size=1 if i == 5 else rng.integers(4, 14), replace=False))
        for day in days:
            stress = rng.normal(0.4 * b[0], 1)
            arm = arms[i % 3] if i < 20 else "usual"
            mood = 5 + b[0] + (0.5 + b[1]) * stress + 0.08 * day - 0.004 * day**2
            mood += {"usual": 0, "app": 0.6, "coach": 0.9}[arm] * (1 - 0.3 * stress)
            rows.append(
                {
                    "person": f"p{i:02d}",
                    "day": int(day),
                    "weekend": bool(day % 7 >= 5),
                    "sex": "F" if i % 5 in (0, 2) else "M",
                    "arm": arm,
                    "stress": round(stress, 3),
                    "dose": ["low", "mid", "high"][int(rng.integers(3))],
                    "w": round(float(rng.uniform(0.5, 3)), 2),
                    "baseline": round(float(rng.normal(2, 1)), 2),
                    "mood": round(float(mood + rng.normal(0, 0.9)), 3),
                }
            )
    table = pd.DataFrame(rows)
    table.loc[rng.choice(len(table), 6, replace=False), "stress"] = np.nan
    table.loc[rng.choice(len(table), 3, replace=False), "mood"] = np.nan
    return table


def ratings(rng: np.random.Generator) -> pd.DataFrame:
    """12 raters (numbers) x 15 items, two fifths of the cells empty."""
    a, b = rng.normal(0, 0.7, 12), rng.normal(0, 1, 15)
    slope = rng.normal(0, 0.5, 15)
    rows = []
    for i in range(12):
        for j in range(15):
            if rng.uniform() < 0.4:
                continue
            cond = "new" if rng.uniform() < 0.5 else "old"
            x = float(rng.normal())
            score = 10 + a[i] + b[j] + (cond == "old") * (0.5 + slope[j]) + 0.3 * x
            rows.append(
                [101 + 7 * i, f"item {j + 1}", cond, round(x, 3), round(score + rng.normal(), 3)]
            )
    return pd.DataFrame(rows, columns=["rater", "item", "cond", "x", "score"])


def pupils(rng: np.random.Generator) -> pd.DataFrame:
    """Pupils in classes in schools, heavily unbalanced, classes of one pupil among them."""
    rows = []
    for s in range(14):
        u, size = rng.normal(0, 2), int(rng.integers(200, 900))
        for c in range(int(rng.integers(1, 5))):
            v = rng.normal(0, 1.5)
            for _ in range(int(rng.choice([1, 1, 3, 8, 20]))):
                ses, hours = rng.normal(0.1 * u, 1), rng.gamma(2, 2)
                math = 50 + u + v + 1.2 * ses + 6 * np.log1p(hours) + rng.normal(0, 3)
                rows.append([s + 1, c + 1, size, round(ses, 3), round(hours, 2), round(math, 2)])
    return pd.DataFrame(rows, columns=["school", "class", "size", "ses", "hours", "math"])


def cells(rng: np.random.Generator) -> pd.DataFrame:
    """Two factors in 9 blocks, one cell of the twelve empty, the others of unequal size."""
    u = rng.normal(0, 1.5, 9)
    rows = []
    for k in range(9):
        for a in range(4):
            for b in range(3):
                if (a, b) == (2, 1) or rng.uniform() < 0.35:
                    continue
                x = rng.normal(a * 0.3, 1)
                y = 20 + u[k] + a - 0.7 * b + 0.4 * a * b + 0.8 * x + rng.normal(0, 1.2)
                rows.append([f"b{k}", "ABCD"[a], "uvw"[b], round(x, 3), round(y, 3)])
    return pd.DataFrame(rows, columns=["block", "a", "b", "x", "y"])


if __name__ == "__main__":
    rng = np.random.default_rng(20240611)
    for make in (diary, ratings, pupils, cells):
        make(rng).to_csv(HERE / f"{make.__name__}.csv", index=False)
