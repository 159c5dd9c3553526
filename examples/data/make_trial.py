"""Make the three tables of the drug trial, with the faults that such tables have.

Twenty-four wards gave about twenty patients each a new drug or the standard one, by
lot, and took up to three cultures of each. The trial is invented; its true values are
below. Usage: ``python examples/data/make_trial.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

WARDS, PATIENTS, WEEKS = 24, 480, 3
#: on the logit scale: what the new drug does to a mild and (more) to a severe case, severity,
#: age by decade, the spread of wards and of patients
DRUG, DRUG_SEVERE, SEVERE, DECADE, WARD, PATIENT = -0.5, -0.7, 1.1, 0.25, 0.8, 1.0


def patients(rng: np.random.Generator) -> pd.DataFrame:
    """Return who was in the trial: few of the old and severe, as in most trials."""
    number = np.arange(1, PATIENTS + 1)
    severe = rng.random(PATIENTS) < 0.25
    age = np.clip(rng.normal(55, 11, PATIENTS), 18, 90).round()
    return pd.DataFrame(
        {
            "number": number,
            "age": age,
            "severity": np.where(severe, "severe", "mild"),
            "drug": rng.permutation(np.repeat(["new", "standard"], PATIENTS // 2)),
        }
    )


def cultures(people: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the cultures, one row each."""
    ward = rng.integers(0, WARDS, PATIENTS)
    eta = (
        -0.9
        + DRUG * (people["drug"] == "new")
        + SEVERE * (people["severity"] == "severe")
        + DRUG_SEVERE * ((people["severity"] == "severe") & (people["drug"] == "new"))
        + DECADE * (people["age"] - 55) / 10
        + WARD * rng.normal(size=WARDS)[ward]
        + PATIENT * rng.normal(size=PATIENTS)
    ).to_numpy()
    rows = []
    for i, number in enumerate(people["number"]):
        for week in range(1, WEEKS + 1):
            positive = rng.random() < 1 / (1 + np.exp(-eta[i]))
            rows.append((f"P-{number:03d}", f"Ward {ward[i] + 1}", week, "yn"[not positive]))
    return pd.DataFrame(rows, columns=["patient", "ward", "week", "infection"])


def spoil(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the cultures with odd spellings, lost samples and samples entered twice."""
    table = table[rng.random(len(table)) < 0.93].copy()
    by_hand = rng.random(len(table)) < 0.2
    table["patient"] = table["patient"].mask(by_hand, table["patient"].str.replace("P-", "p "))
    sloppy = rng.random(len(table)) < 0.15
    table["ward"] = table["ward"].mask(sloppy, table["ward"].str.upper() + " ")
    answers = {"y": ("yes", "Yes", "positive"), "n": ("no", "No", "neg.")}
    table["infection"] = [
        answers[value][int(rng.choice(3, p=[0.8, 0.12, 0.08]))] for value in table["infection"]
    ]
    table.loc[rng.random(len(table)) < 0.02, "infection"] = "lost"
    twice = table[rng.random(len(table)) < 0.02]
    return pd.concat([table, twice]).sort_index(kind="stable")


def registry() -> pd.DataFrame:
    """Return how many patients a year the hospital has, older and iller than the trial."""
    cells = [(age, severity) for age in range(25, 96, 10) for severity in ("mild", "severe")]
    table = pd.DataFrame(cells, columns=["age", "severity"])
    share = np.exp(-(((table["age"] - 68) / 16) ** 2) / 2)
    table["patients"] = (900 * share * np.where(table["severity"] == "severe", 0.8, 1.0)).round()
    return table.astype({"patients": int})


if __name__ == "__main__":
    generator = np.random.default_rng(20240702)
    here = Path(__file__).parent
    who = patients(generator)
    spoil(cultures(who, generator), generator).to_csv(here / "trial_cultures.csv", index=False)
    listed = who.assign(drug=who["drug"].replace({"standard": "Standard "}))
    listed.sample(frac=1.0, random_state=generator).to_csv(here / "trial_patients.csv", index=False)
    registry().to_csv(here / "trial_registry.csv", index=False)
