"""Ctrl-C in a bootstrap keeps what was done."""

import numpy as np
import pytest

import ranef
from ranef.errors import Interrupted, ModelError


@pytest.fixture(scope="module")
def fit():
    return ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))


def stopping(after):
    asked = []

    def statistic(refit):
        asked.append(refit)
        if len(asked) > after:
            raise KeyboardInterrupt
        return refit.sigma

    return statistic


def test_an_interrupted_bootstrap_hands_over_its_draws(fit):
    whole = ranef.bootstrap(fit, 300, statistic=lambda f: f.sigma, rng=4)
    with pytest.raises(Interrupted, match=r"interrupted after \d+ of 300 refits") as stopped:
        ranef.bootstrap(fit, 300, statistic=stopping(200), rng=4)
    partial = stopped.value.partial
    done = len(partial.draws)
    assert 0 < done <= 200
    np.testing.assert_array_equal(partial.draws, whole.draws[:done])
    assert np.isfinite(partial.confint()["conf_low"]).all()
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert not isinstance(stopped.value, Exception)


def test_before_the_first_draws_there_is_nothing_to_hand_over(fit):
    with pytest.raises(KeyboardInterrupt) as stopped:
        ranef.bootstrap(fit, 50, statistic=stopping(1), rng=4)
    assert not isinstance(stopped.value, Interrupted)


def test_bca_of_crossed_factors_names_kinds_that_there_are():
    penicillin = ranef.data.load("Penicillin")
    fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", penicillin)
    boot = ranef.bootstrap(fit, 20, rng=1)
    with pytest.raises(ModelError, match=r"kind='bca' needs.*Take kind='percentile'") as refused:
        boot.confint(kind="bca")
    assert "method=" not in str(refused.value)


def test_confint_hands_it_over_too(fit, monkeypatch):
    from ranef.inference import refits as numbers

    real, calls = numbers.Worker.__call__, []

    def work(self, chunk):
        calls.append(chunk)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(self, chunk)

    monkeypatch.setattr(numbers.Worker, "__call__", work)
    with pytest.raises(Interrupted) as stopped:
        fit.confint("bootstrap", n=5000, rng=1, progress=False)
    assert len(stopped.value.partial.draws) == sum(c.count for c in calls[:2])
