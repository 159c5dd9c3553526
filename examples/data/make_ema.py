"""Make the tables of ``ema.py``: a momentary assessment of stress and support, as it arrives.

Within persons stress lowers mood and support lifts it; between persons those with more stress
are in a slightly better mood. What is left remembers itself for some hours.
"""

from pathlib import Path

import numpy as np
import pandas as pd

PERSONS, DAYS, PROMPTS = 45, 10, 6
WITHIN_STRESS, WITHIN_SUPPORT, BETWEEN_STRESS = -0.45, 0.25, 0.35
SLOPE_SD, RANGE, NOISE = 0.22, 2.5, 0.35
FIRST_DAY = pd.Timestamp("2025-03-24")
HOME, AWAY = "Europe/Berlin", "America/New_York"


def moments(rng: np.random.Generator) -> pd.DataFrame:
    """Return a row a prompt: what every person felt, whether or not it was answered."""
    rows = []
    for person in range(1, PERSONS + 1):
        usual, backed, level = rng.normal(), rng.normal(), 0.7 * rng.normal()
        slope = WITHIN_STRESS + SLOPE_SD * rng.normal()
        travels = person % 9 == 0
        for day in range(DAYS):
            today, left, last = 0.35 * rng.normal(), rng.normal(), None
            for prompt in range(PROMPTS):
                hour = 9.5 + 2.0 * prompt + rng.uniform(0, 1.2)
                keep = 0.0 if last is None else np.exp(-(hour - last) / RANGE)
                left, last = keep * left + np.sqrt(1 - keep**2) * rng.normal(), hour
                stress, support = rng.normal(), rng.normal()
                mood = 5 + level + today + slope * stress + WITHIN_SUPPORT * support
                mood += BETWEEN_STRESS * usual + 0.7 * left + NOISE * rng.normal()
                zone = AWAY if travels and day >= 6 else HOME
                when = FIRST_DAY + pd.Timedelta(days=day, hours=round(hour, 4))
                planned = when.floor("min").tz_localize(zone)
                rows.append((person, planned, 3.5 + usual + stress, 4 + backed + support, mood))
    return pd.DataFrame(rows, columns=["person", "planned", "stress", "support", "mood"])


def arrived(truth: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the answers as the server has them: unsorted, some twice, ids as typed."""
    answers = truth.copy()
    willing = np.clip(rng.beta(8, 2, PERSONS), 0.3, 0.98)[truth.person - 1]
    gone = rng.random(len(truth)) > willing
    delay = pd.to_timedelta(rng.gamma(2.0, 90.0, len(truth)).round(), unit="s")
    stamps = [p + d for p, d in zip(truth.planned, delay, strict=True)]
    answers["answered"] = [s.isoformat() for s in stamps]
    answers["planned"] = [p.isoformat() for p in truth.planned]
    answers.loc[gone, ["stress", "support", "mood", "answered"]] = None
    for name in ("stress", "support", "mood"):
        answers[name] = answers[name].astype(float).round(1)
    forms = ("p{:02d}", " P{}", "P{:02d}", "{:03d}")
    kinds = rng.choice(len(forms), PERSONS, p=[0.3, 0.2, 0.3, 0.2])
    answers["id"] = [forms[kinds[k - 1]].format(k) for k in answers.person]
    twice = answers[~gone].sample(30, random_state=5)
    shuffled = pd.concat([answers, twice]).sample(frac=1.0, random_state=6)
    return shuffled[["id", "planned", "answered", "stress", "support", "mood"]]


def participants(rng: np.random.Generator) -> pd.DataFrame:
    """Return the list of participants: one who answered is not on it, one on it never answered."""
    numbers = [k for k in range(1, PERSONS + 2) if k != 17]
    ages = rng.integers(19, 64, len(numbers))
    return pd.DataFrame({"participant": numbers, "age": ages})


if __name__ == "__main__":
    generator = np.random.default_rng(20250325)
    folder = Path(__file__).parent
    diary = arrived(moments(generator), generator)
    diary.to_csv(folder / "ema_answers.csv", index=False)
    participants(generator).to_csv(folder / "ema_people.csv", index=False)
