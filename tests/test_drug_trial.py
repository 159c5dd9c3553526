"""The drug trial's tables come from their script, and its answer is near the truth."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"


def run(script: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tables_come_from_their_script(tmp_path):
    copy = tmp_path / "make_trial.py"
    copy.write_text((DATA / "make_trial.py").read_text("utf-8"), "utf-8")
    run(copy)
    for name in ("trial_cultures.csv", "trial_patients.csv", "trial_registry.csv"):
        assert (tmp_path / name).read_text("utf-8") == (DATA / name).read_text("utf-8")


def true_difference(people: pd.DataFrame, weights) -> float:
    """Risk difference of the model that the data were drawn from, integrated."""
    spec = importlib.util.spec_from_file_location("make_trial", DATA / "make_trial.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    b = np.hypot(made.WARD, made.PATIENT) * np.random.default_rng(1).normal(size=20_000)
    severe = (people["severity"] == "severe").to_numpy() * 1.0
    base = -0.9 + made.SEVERE * severe + made.DECADE * (people["age"].to_numpy() - 55) / 10
    risks = []
    for drug in (0, 1):
        eta = base + drug * (made.DRUG + made.DRUG_SEVERE * severe)
        risks.append(np.mean(1 / (1 + np.exp(-eta[:, None] - b)), axis=1))
    return float(np.average(risks[1] - risks[0], weights=weights))


def test_the_answer_is_near_the_truth(tmp_path):
    shown = run(ROOT / "examples" / "drug_trial.py", str(tmp_path))
    assert (tmp_path / "drug_trial.png").stat().st_size > 20_000
    registry = pd.read_csv(DATA / "trial_registry.csv")
    patients = pd.read_csv(DATA / "trial_patients.csv")
    truths = {
        "of the trial": true_difference(patients, np.ones(len(patients))),
        "of the hospital": true_difference(registry, registry["patients"]),
    }
    for name, truth in truths.items():
        row = re.search(rf"^ *{name} +(\S+) +(\S+) +(\S+)$", shown, re.MULTILINE)
        estimate, low, high = map(float, row.groups())
        assert low < truth < high, (name, truth)
        assert low < estimate < high < 0
    before, after = (float(v) for v in re.findall(r"ward 3, .*: risk (\S+)", shown))
    assert after > before + 0.05
