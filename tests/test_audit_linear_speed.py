"""What large questions are answered by instead: the same numbers."""

import numpy as np
import pytest
from scipy.stats import t as student

from ranef.design.deletion import SMALL, deletable
from ranef.questions.means.multiplicity import (
    DF_NODES,
    HypothesisFamily,
    _multivariate,
    _smooth_in_df,
)
from ranef.questions.means.multivariate_t import multivariate_t


def test_critical_values_of_many_degrees_of_freedom_go_through_a_few():
    degrees = np.linspace(7.0, 160.0, 40)
    asked = []

    def quantile(df):
        asked.append(df)
        return float(student.ppf(0.999, df))

    found = _smooth_in_df(quantile, degrees)
    assert len(asked) == DF_NODES
    np.testing.assert_allclose(found, student.ppf(0.999, degrees), rtol=2e-4)
    narrow = np.linspace(40.0, 60.0, 40)
    np.testing.assert_allclose(
        _smooth_in_df(quantile, narrow), student.ppf(0.999, narrow), rtol=1e-8
    )


def test_many_tests_are_adjusted_as_each_would_be_alone():
    m, rng = 30, np.random.default_rng(2)
    correlation = np.full((m, m), 0.5) + 0.5 * np.eye(m)
    df = np.linspace(9.0, 30.0, m)
    statistic = np.linspace(0.5, 4.5, m)
    raw = 2 * student.sf(statistic, df)
    found = _multivariate(HypothesisFamily(statistic, df, correlation, m), raw, "mvt", 0.95, None)
    for i in (0, 12, 20, 29):
        alone = multivariate_t(correlation, float(df[i]), rng)
        p, _ = alone.outside(float(statistic[i]))
        assert found.p_value[i] == pytest.approx(np.clip(p, raw[i], m * raw[i]), abs=3e-3)
        limit = alone.quantile(0.95, 1.0, 6.0)
        assert found.critical[i] == pytest.approx(limit, rel=5e-3)


@pytest.mark.parametrize("p", [3, SMALL + 3])
def test_sets_that_columns_need_are_found_for_any_number_of_columns(p):
    rng = np.random.default_rng(p)
    sets = rng.integers(0, 12, 200)
    X = rng.normal(size=(200, p))
    X[:, 1] = np.where(sets == 5, X[:, 1], 0.0)
    X[:, 2] = np.where(sets == 7, X[:, 2], X[:, 0])
    found = deletable(X, sets)
    ranks = [np.linalg.matrix_rank(X[sets != k]) for k in range(12)]
    np.testing.assert_array_equal(found, np.array(ranks) == p)
    assert found.sum() == 10
