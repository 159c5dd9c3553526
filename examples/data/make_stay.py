"""Make wards_stay.csv: how long patients of thirty wards stayed, for examples/these_wards.py.

Severity lengthens a stay, less where there are many nurses, and on each ward in its own way too.
The wards are invented. Usage: ``python examples/data/make_stay.py``
"""

from pathlib import Path

import numpy as np
import pandas as pd

rng = np.random.default_rng(48)
ward = np.repeat(np.arange(30), 10)
severity = rng.normal(size=300)
nurses = rng.normal(size=30)
slopes = 1.0 - 0.7 * nurses + 0.45 * rng.normal(size=30)
days = 8 + 1.4 * rng.normal(size=30)[ward] + slopes[ward] * severity + 1.4 * rng.normal(size=300)
table = pd.DataFrame(
    {
        "ward": [f"W{w + 1:02d}" for w in ward],
        "nurses": (5 + 1.2 * nurses[ward]).round(1),
        "severity": severity.round(2),
        "days": days.round(1),
    }
)
table.to_csv(Path(__file__).with_name("wards_stay.csv"), index=False)
