"""Large delimited files are read as numbers at once, and say what all-text reading says."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

from ranef.cli import typed
from ranef.cli.delimited import Dialect, read_delimited


def both(monkeypatch, content, **dialect):
    """Read a file as text, and with numbers read as such."""
    answers = []
    for least in (10**12, 0):
        monkeypatch.setattr(typed, "LARGE", least)
        data, notes, _ = read_delimited(content, "'d.csv'", Dialect(**dialect))
        answers.append((data, [note.text for note in notes]))
    return answers


CELLS = {
    "whole": lambda r: str(r.randint(-50, 2000)),
    "gaps": lambda r: r.choice([str(r.randint(0, 9)), "NA", ""]),
    "codes": lambda r: r.choice(["007", "12", "0"]),
    "late code": lambda r: str(r.randint(1, 99)),
    "fraction": lambda r: f"{r.gauss(0, 30):.4f}",
    "odd fraction": lambda r: r.choice(["1.5", "2.", ".25", "1e5", "-3.5E-2", "inf", "+4.75", "7"]),
    "thousand": lambda r: r.choice(["1.059", "812", "99", "2.500"]),
    "three": lambda r: f"{r.random():.3f}",
    "tens": lambda r: r.choice(["1.0", "2.0", "NA", "3.5"]),
    "whole tens": lambda r: r.choice(["1.0", "2.0", "NA"]),
    "comma": lambda r: f"{r.gauss(0, 3):.2f}".replace(".", ","),
    "word": lambda r: r.choice(["a", "b", "treated"]),
    "among": lambda r: r.choice(["1.5", "2.5", "3", "4", "5", "6", "k.A."]),
    "truth": lambda r: r.choice(["TRUE", "FALSE"]),
    "truths": lambda r: r.choice(["true", "false", "NA"]),
    "date": lambda r: f"2024-0{r.randint(1, 9)}-0{r.randint(1, 9)}",
    "time": lambda r: f"0{r.randint(1, 9)}:30",
    "large": lambda r: str(2**53 + r.randint(0, 9)),
    "large gaps": lambda r: r.choice([str(2**53 + r.randint(0, 9)), "NA"]),
    "huge": lambda r: str(2**64 + r.randint(0, 9)),
    "unsigned": lambda r: str(2**63 + r.randint(0, 9)),
    "blank": lambda r: f" {r.randint(0, 99)}",
    "blank code": lambda r: r.choice([" 07", "8"]),
    "empty": lambda r: "",
    "beyond": lambda r: r.choice(["1e400", "2.5"]),
}
LATE = {"late code": "007", "whole": "1.500", "gaps": "2.25", "fraction": "9.750,5", "tens": "x"}


@pytest.mark.parametrize("seed", range(60))
def test_numbers_read_at_once_are_those_of_text(seed, monkeypatch):
    r = random.Random(seed)
    separator = r.choice([",", ",", ";", "\t"])
    quoted = r.random() < 0.4
    kinds = r.sample(sorted(CELLS), r.randint(1, 7))
    rows = [[CELLS[kind](r) for kind in kinds] for _ in range(r.choice([3, 30, 1500]))]
    for k, kind in enumerate(kinds):
        if kind in LATE and r.random() < 0.5:
            rows[-1][k] = LATE[kind]

    def cell(text):
        must = separator in text or (quoted and not text.replace(".", "").isdigit())
        return f'"{text}"' if must else text

    lines = [separator.join(cell(text) for text in row) for row in [kinds, *rows]]
    content = (r.choice(["\n", "\r\n"]).join(lines) + r.choice(["", "\n"])).encode()
    (one, said), (two, says) = both(monkeypatch, content)
    pd.testing.assert_frame_equal(one, two)
    assert says == said


def test_plain_columns_are_found_and_others_stay_text(monkeypatch):
    rng = np.random.default_rng(1)
    lines = [f"{v:.3f},{k},0{k % 7}" for k, v in enumerate(rng.normal(size=3000))]
    lines[2500] = lines[2500].replace(",2500,", ",2500.5,")
    content = "y,n,code\n" + "\n".join(f'{line},"a, b"' for line in lines)
    content = content.replace("y,n,code", "y,n,code,s", 1).encode()
    monkeypatch.setattr(typed, "LARGE", 0)
    reads = []

    def read(content, options):
        reads.append(options)
        return pd.read_csv(pd.io.common.BytesIO(content), **options)

    options = {"sep": ",", "dtype": str, "keep_default_na": False, "na_values": [""]}
    found = typed.read_typed(content, ["y", "n", "code", "s"], options, read)
    assert [look.name for look in found.looks] == ["y"]
    assert found.data.dtypes["y"] == np.float64
    assert reads[-1]["usecols"] == ["n"]
    assert found.data["n"][2500] == "2500.5"
    assert found.data["code"][0] == "00"
