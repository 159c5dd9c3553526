"""What compares our numbers with a peer's finds a difference, and writes down what it saw."""

from __future__ import annotations

import json

import numpy as np
import pytest
from agreement import agreement


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        (1.0 + 2e-6, 1.0, {"rtol": 1e-6}),
        ([1.0, 2.1], [1.0, 2.0], {"atol": 0.05}),
        (np.nan, 1.0, {"rtol": 1.0}),
        (1.0, np.nan, {"atol": 1.0}),
        (np.inf, 1.0, {"atol": 1.0}),
        (1.0, np.inf, {"rtol": 1.0}),
        ([1.0], [1.0, 2.0], {}),
    ],
)
def test_a_difference_is_found(ours, theirs, tolerance):
    with pytest.raises(AssertionError):
        agreement(None)("f", "x", ours, theirs, peer="p", **tolerance)


def test_what_agrees_is_written_down(tmp_path):
    target = tmp_path / "rows.jsonl"
    agree = agreement(target)
    agree("f", "x", [1.0, 2.0, np.nan, np.inf], [1.0, 2.01, np.nan, np.inf], peer="p 1", rtol=0.01)
    [row] = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert (row["value"], row["theirs"], row["count"]) == (2.0, 2.01, 4)
    assert row["difference"] == pytest.approx(0.01)
