"""Summaries: short ones, long tables, correlations of many effects, fits with an influence."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError


@pytest.fixture(scope="module")
def table() -> Any:
    rng = np.random.default_rng(0)
    n = 4000
    made = pd.DataFrame(
        {
            "c": rng.integers(0, 200, n).astype(str),
            "g": rng.integers(0, 50, n),
            "v": rng.integers(0, 6, n),
        }
    )
    effects = rng.normal(size=(50, 6))[made.g, made.v]
    return made.assign(y=effects + rng.normal(size=n), v=made.v.astype(str))


def test_short_summaries_keep_the_tables_and_the_certificate(table: Any) -> None:
    fit = ranef.lmm("y ~ v + (1 | g)", table)
    whole, short = str(fit.summary()), str(fit.summary(short=True))
    assert len(short) < len(whole)
    kept = ("Fixed effects", "Random effects", "Optimum proved", "4,000 rows")
    assert all(words in short for words in kept)
    assert "A coefficient is the difference" in whole
    assert "A coefficient is the difference" not in short


def test_a_long_table_is_cut_and_says_so(table: Any) -> None:
    fit = ranef.lmm("y ~ c + (1 | g)", table)
    text = str(fit)
    assert len(text.splitlines()) < 60
    assert "... 175 more: tidy()" in text
    assert len(fit.tidy()) == 200


def test_correlations_of_many_effects_are_whole(table: Any) -> None:
    fit = ranef.lmm("y ~ v + (0 + v | g)", table)
    text = str(fit)
    assert "correlation with" not in text
    below = text.split("Correlations of the effects of g")[1].splitlines()[1:8]
    numbers = [float(cell) for line in below[2:] for cell in line.split()[2:]]
    variance = fit.tidy("variance")
    expected = variance.loc[variance["parameter"] == "corr", "estimate"]
    assert len(numbers) == 15
    np.testing.assert_allclose(sorted(numbers), sorted(expected.round(2)), atol=0.0051)


def test_correlations_of_few_effects_stand_beside(table: Any) -> None:
    few = table[table.v.isin(["0", "1", "2", "3"])]
    text = str(ranef.lmm("y ~ v + (0 + v | g)", few))
    assert "correlation with" in text
    assert "Correlations of the effects" not in text


def test_a_meta_analysis_answers_influence_as_its_own_method_does() -> None:
    studies = pd.DataFrame({"yi": [0.1, 0.3, 0.5, -0.1], "vi": [0.01, 0.02, 0.03, 0.02]})
    fit = ranef.meta("yi ~ 1", studies, variance="vi")
    pd.testing.assert_frame_equal(ranef.influence(fit).tidy(), fit.influence().tidy())
    with pytest.raises(ModelError, match="one study at a time"):
        ranef.influence(fit, by="study")


def test_captions_in_notebooks_have_the_colour_of_the_words_around_them():
    """A notebook's own style greys captions; on its dark pages that fell to a contrast of 1.7."""
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    for html in (fit._repr_html_(), ranef.table(fit)._repr_html_()):
        [style] = re.findall(r"caption ?\{([^}]*)\}", html)
        assert "color:inherit" in style.replace(" ", "")
