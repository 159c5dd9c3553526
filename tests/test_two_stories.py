"""A pooled regression beside the slopes within and between groups that it mixes."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef
from ranef.errors import DataError, ModelError, UnknownColumnError
from ranef.questions.stories.picture import stories_text


def diary(persons=40, prompts=25, seed=5):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(persons), prompts)
    own = 4 + 1.2 * rng.normal(size=persons)[g]
    x = own + rng.normal(size=len(g))
    y = 7 - 0.6 * (x - own) + 0.5 * (own - 4) + 0.5 * rng.normal(size=persons)[g]
    return pd.DataFrame({"person": g, "stress": x, "mood": y + 0.8 * rng.normal(size=len(g))})


@pytest.fixture(scope="module")
def both():
    return ranef.two_stories(diary(), "mood", "stress", by="person")


def test_the_stories_are_those_of_least_squares_and_of_the_mixed_model(both):
    table = diary()
    found = both.tidy().set_index("story")
    assert found.index.tolist() == ["pooled", "within", "between", "contextual"]
    assert found.columns.tolist() == [
        "estimate", "std_error", "df", "statistic", "p_value", "conf_low", "conf_high", "n",
        "n_effective",
    ]  # fmt: skip
    X = np.column_stack([np.ones(len(table)), table.stress])
    (_, slope), [rss], *_ = np.linalg.lstsq(X, table.mood, rcond=None)
    error = np.sqrt(rss / (len(table) - 2) * np.linalg.inv(X.T @ X)[1, 1])
    np.testing.assert_allclose(found.loc["pooled", ["estimate", "std_error"]].to_list(),
                               [slope, error], rtol=1e-10)  # fmt: skip
    fit = ranef.lmm("mood ~ within(stress, person) + between(stress, person) + (1 | person)", table)
    expected = (
        fit.tidy().set_index("term").loc[["within(stress, person)", "between(stress, person)"]]
    )
    for name in ("estimate", "std_error", "df", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(found[name][["within", "between"]], expected[name], rtol=1e-6)
    contextual = fit.contrast({"between(stress, person)": 1, "within(stress, person)": -1})
    assert found.std_error["contextual"] == pytest.approx(contextual.std_error, rel=1e-6)


def test_the_pooled_slope_is_the_mixture(both):
    table = diary()
    means = table.groupby("person")[["stress", "mood"]].transform("mean")
    between = np.polyfit(means.stress, means.mood, 1)[0]
    inside = table[["stress", "mood"]] - means
    within = (inside.stress @ inside.mood) / (inside.stress @ inside.stress)
    mixed = both.share_between * between + (1 - both.share_between) * within
    assert both.found.estimate[0] == pytest.approx(mixed, rel=1e-10)


def test_the_reversal_is_said_and_drawn(both):
    assert both.reversed
    assert "opposite signs." in str(both)
    panel = both.plot()
    assert [t.get_text().split(" (")[0] for t in panel.get_legend().get_texts()] == [
        "within", "between", "pooled",
    ]  # fmt: skip
    assert "run against the line between" in stories_text(both)


def test_effective_numbers(both):
    n = both.tidy().n_effective
    assert n[1:].tolist() == [40 * 24, 40, 40]
    # the spread of the pooled slope over samples says what the rows are worth
    slopes, naive = [], []
    for seed in range(60):
        found = ranef.two_stories(diary(seed=100 + seed), "mood", "stress", by="person").tidy()
        slopes.append(found.estimate[0])
        naive.append(found.std_error[0])
    factor = np.var(slopes) / np.mean(np.square(naive))
    assert 0.5 < (1000 / n[0]) / factor < 2.0
    assert factor > 3


def test_same_sign_says_nothing_of_a_reversal():
    table = diary()
    table["mood"] = table.stress + np.random.default_rng(1).normal(size=len(table))
    both = ranef.two_stories(pl.from_pandas(table), "mood", "stress", by="person")
    assert not both.reversed
    assert "opposite" not in str(both)
    assert isinstance(both.tidy(), pl.DataFrame)


def test_rows_without_a_value_are_left_out():
    table = diary()
    table.loc[::7, "mood"] = np.nan
    table.loc[::11, "stress"] = np.nan
    one = ranef.two_stories(table, "mood", "stress", by="person")
    other = ranef.two_stories(table.dropna(), "mood", "stress", by="person")
    np.testing.assert_allclose(one.found.estimate, other.found.estimate, rtol=1e-8)
    assert len(one.x) == len(table.dropna())


@pytest.mark.parametrize(
    ("change", "columns", "error", "message"),
    [
        ({}, ("moood", "stress", "person"), UnknownColumnError, "did you mean 'mood'"),
        ({}, ("mood", "stress", "stress + person"), ModelError, "one grouping factor"),
        ({"stress": 1.0}, ("mood", "stress", "person"), ModelError, "stress is 1 in every row"),
        (
            {"stress": np.nan},
            ("mood", "stress", "person"),
            DataError,
            "no row has both stress and person",
        ),
        (
            {"stress": lambda t: t.person},
            ("mood", "stress", "person"),
            ModelError,
            "vary within",
        ),
    ],
)
def test_what_is_refused(change, columns, error, message):
    outcome, predictor, by = columns
    with pytest.raises(error, match=message):
        ranef.two_stories(diary().assign(**change), outcome, predictor, by=by)
