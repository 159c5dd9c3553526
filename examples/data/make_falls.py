"""Make the monthly reports of nursing homes, with the faults that such tables have.

Falls per resident-day rise with the frailty of a home's residents, which also
brings it more staff; within a home a better staffed month has fewer falls. Counts
are overdispersed, and one home reports the running total of the year. The study is
invented; its true values are below. Usage: ``python examples/data/make_falls.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

HOMES, MONTHS = 24, 18
#: effects of staff on the log rate within and between homes, shape of the negative binomial,
#: spread of the homes' log rates
WITHIN, BETWEEN, PHI, SPREAD = -0.30, 0.25, 3.0, 0.25
#: the home that reports running totals
CUMULATIVE = 6


def reports(rng: np.random.Generator) -> pd.DataFrame:
    """Return the months as they were, but for the running totals."""
    home = np.repeat(np.arange(HOMES), MONTHS)
    frailty = rng.normal(size=HOMES)
    usual = 6.0 + 1.1 * frailty + 0.4 * rng.normal(size=HOMES)
    staff = np.round(usual[home] + 0.9 * rng.normal(size=HOMES * MONTHS), 1)
    days = rng.integers(40, 110, HOMES)[home] * 30
    level = np.log(0.006) + SPREAD * rng.normal(size=HOMES)[home]
    means = (np.bincount(home, staff) / MONTHS)[home]
    mu = days * np.exp(level + WITHIN * (staff - means) + BETWEEN * (means - 6.0))
    months = [str(p) for p in pd.period_range("2022-01", periods=MONTHS, freq="M")]
    table = pd.DataFrame(
        {
            "home": [f"H{h + 1:02d}" for h in home],
            "month": months * HOMES,
            "resident_days": days,
            "staff": staff.astype(str),
            "falls": rng.poisson(rng.gamma(PHI, mu / PHI)),
        }
    )
    own = home == CUMULATIVE
    year = table["month"].str[:4][own]
    table.loc[own, "falls"] = table[own].groupby(year)["falls"].cumsum()
    return table


def spoil(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return the reports in no order, with odd spellings, duplicates and codes for missing."""
    table.loc[rng.choice(len(table), 9, replace=False), "staff"] = "-9"
    for i in rng.choice(len(table), 40, replace=False):
        spelling = rng.choice([" {} ", "{}", "home {}"])
        table.loc[i, "home"] = spelling.format(table.loc[i, "home"].lower())
    table = pd.concat([table, table.sample(7, random_state=rng)])
    return table.sample(frac=1.0, random_state=rng)


if __name__ == "__main__":
    generator = np.random.default_rng(20230917)
    here = Path(__file__).parent
    spoil(reports(generator), generator).to_csv(here / "falls.csv", index=False)
