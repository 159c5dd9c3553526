"""Long calls: a bar, what an interrupt keeps, and memory that is said first."""

from __future__ import annotations

import contextlib
import inspect

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import gwas, imaging
from ranef import metagenomics as mg
from ranef.errors import Interrupted, RanefError
from ranef.questions.synthesis import permutations

STUDIES = pd.DataFrame({"y": np.linspace(-1, 2, 30), "v": 0.1, "x": np.arange(30.0) % 7})


def test_training_shows_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    clinic = mg.simulate(batches=2, patients=3, controls=2, taxa=20, rng=4)
    mg.train(clinic.counts, clinic.samples, progress=True)
    assert "training: 100%" in capfd.readouterr().err
    mg.train(clinic.counts, clinic.samples, progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("formula", ["y ~ 1", "y ~ x"])
def test_permutations_show_a_bar(formula: str, capfd: pytest.CaptureFixture[str]) -> None:
    fit = ranef.meta(formula, STUDIES, variance="v")
    shown = fit.permutation_test(n=9000, rng=1, progress=True)
    assert "permuting: 100%" in capfd.readouterr().err
    quiet = fit.permutation_test(n=9000, rng=1, progress=False)
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(shown.p_value, quiet.p_value)


def test_permutations_of_many_moderators_come_in_batches() -> None:
    """More than four columns are permuted one data set after the other, 256 between two ticks."""
    rng = np.random.default_rng(2)
    table = STUDIES.assign(**{k: rng.normal(size=30) for k in "abcd"})
    fit = ranef.meta("y ~ a + b + c + d", table, variance="v")
    found = fit.permutation_test(n=600, rng=1)
    assert found.n == 600
    assert np.isnan(found.p_value[0])
    assert np.all((found.p_value[1:] > 0) & (found.p_value[1:] <= 1))


def test_permutations_say_their_memory_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutations, "available_memory", lambda: 2**20)
    fit = ranef.meta("y ~ x", STUDIES, variance="v")
    with pytest.raises(RanefError, match=r"need about [\d.]+ GiB, and 0\.0 GiB are free"):
        fit.permutation_test(n=100_000, rng=1)


def test_power_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranef.api import power_study

    def interrupted(parts, total, what, wanted, **how):
        for k, part in enumerate(parts):
            if k == 3:
                raise KeyboardInterrupt
            yield part

    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
    monkeypatch.setattr(power_study, "arriving", interrupted)
    with pytest.raises(Interrupted, match="after 60 of 200 simulated studies") as caught:
        ranef.power(fit, test="Days", n=200, rng=1, n_jobs=1)
    kept = caught.value.partial
    monkeypatch.undo()
    whole = ranef.power(fit, test="Days", n=60, rng=1, n_jobs=1)
    np.testing.assert_array_equal(kept.tidy()["power"], whole.tidy()["power"])


def test_power_that_has_nothing_yet_is_just_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranef.api import power_study

    def interrupted(*parts, **how):
        raise KeyboardInterrupt
        yield

    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
    monkeypatch.setattr(power_study, "arriving", interrupted)
    kind: type[BaseException] = BaseException
    with contextlib.suppress(RanefError):
        try:
            ranef.power(fit, test="Days", n=40, rng=1)
        except KeyboardInterrupt as error:
            kind = type(error)
    assert kind is KeyboardInterrupt


def test_bootstraps_of_outliers_show_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    fit = ranef.meta("y ~ 1", STUDIES, variance="v")
    shown = fit.outliers(n=300, rng=1, progress=True)
    assert "bootstrap: 100%" in capfd.readouterr().err
    assert fit.outliers(n=300, rng=1, progress=False).p_value == shown.p_value
    assert capfd.readouterr().err == ""


def test_simulated_residuals_show_a_bar_and_say_their_memory(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ranef.questions.checks import simulated_numbers

    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
    shown = fit.simulated_residuals(60, rng=1, progress=True)
    assert "simulating: 100%" in capfd.readouterr().err
    quiet = fit.simulated_residuals(60, rng=1, progress=False)
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(shown.scaled, quiet.scaled)
    monkeypatch.setattr(simulated_numbers, "available_memory", lambda: 2**20)
    monkeypatch.setattr(simulated_numbers, "ALWAYS_THERE", 0)
    with pytest.raises(
        RanefError, match=r"need about 0\.2 GB, and 0\.0 GB are free; take n=\d+ or"
    ):
        fit.simulated_residuals(40_000)


LONG = {
    ranef: (
        "lmm", "glmm", "sem", "dynamic", "anova", "average", "bootstrap", "compare",
        "cross_validate", "impute", "influence", "leave_out", "maximal", "outliers",
        "permutation_test", "power",
        "profile", "simulated_residuals", "step", "subsets", "variance_test",
    ),
    gwas: (
        "bivariate", "gene_sets", "grm", "heritability", "pca", "scan", "simulate", "sparse_grm",
    ),
    imaging: ("lmm", "mixed_effects", "sign_flips"),
    mg: ("screen", "train"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("room", "name"), [(room, n) for room, names in LONG.items() for n in names]
)
def test_every_long_call_has_a_bar_where_a_person_looks(room: object, name: str) -> None:
    """None is the default of all: nobody has to know of the argument to see it."""
    own = inspect.signature(getattr(room, name)).parameters
    assert own["progress"].default is None
    assert "progress" in (getattr(room, name).__doc__ or "")
