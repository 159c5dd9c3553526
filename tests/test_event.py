"""Which of two categories is the event stands wherever the answer does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef


@pytest.fixture(scope="module")
def wards() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    table = pd.DataFrame({"ward": np.repeat(list("ABCDEFGHIJ"), 30)})
    table["age"] = rng.normal(60, 10, 300).round()
    table["back"] = np.where(rng.random(300) < 0.2, "ja", "nein")
    return table


def test_the_event_is_named_where_the_answer_stands(wards: pd.DataFrame) -> None:
    """Text stands in alphabetical order, so that "nein" is the event, not "ja"."""
    fit = ranef.glmm("back ~ age + (1 | ward)", wards, family="binomial")
    n = int((wards["back"] == "nein").sum())
    said = f"The probability is that of nein ({n} rows) against ja ({300 - n} rows)"
    pages = [fit.summary(), fit.summary(short=True), fit.table().to_markdown(), fit.methods()]
    for page in pages:
        assert said in " ".join(str(page).split())
    assert "Probability of nein" in str(fit.emmeans(at={"age": [50, 60]}, specs="age"))
    averaged = ranef.gee("back ~ age", wards, groups="ward", family="binomial")
    assert said in " ".join(str(averaged.summary()).split())


def test_ones_and_zeros_need_no_words(wards: pd.DataFrame) -> None:
    table = wards.assign(back=(wards["back"] == "ja").astype(int))
    fit = ranef.glmm("back ~ age + (1 | ward)", table, family="binomial")
    assert "The probability is" not in str(fit.summary())
