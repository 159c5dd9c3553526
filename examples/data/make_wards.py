"""Make the two tables of the hospital wards, with the faults that such tables have.

Thirty wards, one year: a register of infections, one line a case, and the bed office's
patient-days by month. The hospital is invented; its true values are below.
Usage: ``python examples/data/make_wards.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

WARDS, MONTHS = 30, 12
#: infections in 1,000 patient-days of a typical medical ward; ratios of the other kinds of
#: ward; standard deviation of the wards' own log rates
RATE, SURGICAL, INTENSIVE, SPREAD = 1.6, 1.5, 3.0, 0.35
KINDS = ("medical", "surgical", "intensive care")


def wards(rng: np.random.Generator) -> pd.DataFrame:
    """Return the wards: number, kind, beds, and what nobody sees, the true ratio."""
    kind = rng.choice(KINDS, WARDS, p=(0.5, 0.33, 0.17))
    beds = np.where(kind == "intensive care", rng.integers(4, 13, WARDS), 0)
    beds = np.where(kind == "intensive care", beds, rng.integers(8, 37, WARDS))
    ratio = np.exp(rng.normal(0.0, SPREAD, WARDS))
    return pd.DataFrame(
        {"ward": np.arange(1, WARDS + 1), "kind": kind, "beds": beds, "ratio": ratio}
    )


def months(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return patient-days and infections of every ward and month."""
    rows = table.merge(pd.DataFrame({"month": np.arange(1, MONTHS + 1)}), how="cross")
    occupied = np.clip(rng.normal(0.85, 0.08, len(rows)), 0.5, 1.0)
    rows["patient_days"] = np.round(30.4 * rows["beds"] * occupied).astype(int)
    times = rows["kind"].map({"medical": 1.0, "surgical": SURGICAL, "intensive care": INTENSIVE})
    mean = RATE / 1000 * rows["patient_days"] * times * rows["ratio"]
    rows["infections"] = rng.poisson(mean)
    return rows


def register(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the register: one line a case, wards as people write them, some cases twice."""
    cases = rows.loc[rows.index.repeat(rows["infections"]), ["ward", "month"]]
    day = rng.integers(1, 29, len(cases))
    cases["date"] = [f"2023-{m:02d}-{d:02d}" for m, d in zip(cases["month"], day, strict=True)]
    cases = cases.sort_values(["date", "ward"], kind="stable").reset_index(drop=True)
    cases.insert(0, "case", [f"HAI-{i:04d}" for i in range(1, len(cases) + 1)])
    styles = ("W{:02d}", "w{}", "Ward {}", "W{:02d} ")
    style = rng.choice(4, len(cases), p=(0.7, 0.1, 0.1, 0.1))
    cases["ward"] = [styles[s].format(w) for s, w in zip(style, cases["ward"], strict=True)]
    unknown = rng.random(len(cases)) < 0.01
    cases.loc[unknown, "ward"] = ""
    twice = cases[rng.random(len(cases)) < 0.03]
    return pd.concat([cases, twice]).sort_index(kind="stable")[["case", "date", "ward"]]


def bed_days(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the bed office's table: other ids, cells that are empty, a month sent twice."""
    names = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    table = pd.DataFrame(
        {
            "unit": [f"4{w:03d}" for w in rows["ward"]],
            "kind": rows["kind"],
            "month": [f"{names[m - 1]} 2023" for m in rows["month"]],
            "patient_days": rows["patient_days"].astype(str),
        }
    )
    table.loc[rng.random(len(table)) < 0.02, "patient_days"] = "n/a"
    again = table[(rows["ward"] <= 5) & (rows["month"] == 6)]
    return pd.concat([table, again])


if __name__ == "__main__":
    generator = np.random.default_rng(20231231)
    here = Path(__file__).parent
    year = months(wards(generator), generator)
    register(year, generator).to_csv(here / "wards_register.csv", index=False)
    bed_days(year, generator).to_csv(here / "wards_bed_days.csv", index=False)
