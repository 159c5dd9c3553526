"""Make the two tables of the diary study, with the faults that such tables have.

Sixty people answered three prompts a day for seven days. The study is
invented; its true values are below. Usage: ``python examples/data/make_diary.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

PEOPLE, DAYS, PROMPTS = 60, 7, ("morning", "noon", "evening")
#: within-person and between-person effect of stress on mood, the spread of the former between
#: people, and what training adds to it
WITHIN, BETWEEN, SPREAD, TRAINING = -0.50, -0.80, 0.20, 0.25


def answers(rng: np.random.Generator) -> pd.DataFrame:
    """Return the prompts as the phones sent them, before anything went wrong."""
    usual = rng.normal(4.0, 1.0, PEOPLE)
    level = 6.0 + BETWEEN * (usual - 4.0) + rng.normal(0.0, 0.6, PEOPLE)
    trained = np.arange(1, PEOPLE + 1) % 2 == 0
    slope = WITHIN + TRAINING * trained + rng.normal(0.0, SPREAD, PEOPLE)
    rows = []
    for person in range(PEOPLE):
        for day in range(1, DAYS + 1):
            for prompt in PROMPTS:
                strain = rng.normal(0.0, 1.2)
                mood = level[person] + slope[person] * strain + rng.normal(0.0, 0.8)
                stress = round(usual[person] + strain, 1)
                rows.append((f"P{person + 1:02d}", day, prompt, stress, round(mood, 1)))
    return pd.DataFrame(rows, columns=["id", "day", "prompt", "stress", "mood"])


def spoil(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the table with missed prompts, odd spellings, duplicates and codes for missing."""
    table = table[rng.random(len(table)) < 0.85].astype({"stress": str, "mood": str})
    by_hand = rng.random(len(table)) < 0.15
    table = table.assign(id=table["id"].mask(by_hand, " " + table["id"].str.lower() + " "))
    for column, code in (("stress", "-99"), ("mood", "")):
        table.loc[rng.random(len(table)) < 0.03, column] = code
    twice = table[rng.random(len(table)) < 0.02]
    return pd.concat([table, twice]).sort_index(kind="stable")


def people(rng: np.random.Generator) -> pd.DataFrame:
    """Return the list of participants, with ids as the office keeps them."""
    ids = np.arange(1, PEOPLE + 1)
    table = pd.DataFrame({"participant": ids, "group": np.where(ids % 2, "control", "training")})
    left_out = ids == 17
    return table[~left_out].sample(frac=1.0, random_state=rng)


if __name__ == "__main__":
    generator = np.random.default_rng(20240611)
    here = Path(__file__).parent
    spoil(answers(generator), generator).to_csv(here / "diary_answers.csv", index=False)
    people(generator).to_csv(here / "diary_people.csv", index=False)
