"""Long calls: a bar, what an interrupt keeps, and memory that is said first."""

from __future__ import annotations

import contextlib
import inspect
import re

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
        "lmm", "glmm", "gee", "sem", "dynamic", "anova", "average", "bootstrap", "check", "compare",
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


# --- every long call shows a bar to a person, and none to nobody


@pytest.fixture(scope="module")
def fits() -> dict[str, object]:
    sleep = ranef.data.load("sleepstudy")
    people = pd.DataFrame({"id": np.repeat(range(20), 6), "day": np.tile(range(6), 20)})
    rng = np.random.default_rng(1)
    people["stress"] = rng.normal(size=120)
    people["mood"] = 1 - 0.5 * people["stress"] + rng.normal(size=120)
    people["mood2"] = people["mood"] + rng.normal(size=120)
    people["mood3"] = people["mood"] + rng.normal(size=120)
    return {
        "sleep": sleep,
        "people": people,
        "lmm": ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep),
        "plain": ranef.lmm("Reaction ~ 1 + (1 | Subject)", sleep),
        "meta": ranef.meta("y ~ x", STUDIES, variance="v"),
    }


def _dynamic(fits: dict) -> object:
    with contextlib.suppress(RanefError):
        return ranef.dynamic("mood ~ 1 + (1 | id)", fits["people"], residual="ar1(day | id)")


BARS = {
    "lmm": lambda f: ranef.lmm("Reaction ~ Days + (Days | Subject)", f["sleep"]),
    "glmm": lambda f: ranef.glmm(
        "round(Reaction) ~ 1 + (1 | Subject)", f["sleep"], family="poisson"
    ),
    "gee": lambda f: ranef.gee("Reaction ~ Days", f["sleep"], groups="Subject"),
    "sem": lambda f: ranef.sem(
        "level: 1\nm =~ mood + mood2 + mood3\nlevel: 2\nb =~ mood + mood2 + mood3",
        f["people"], cluster="id",
    ),
    "dynamic": _dynamic,
    "diary": lambda f: ranef.diary(f["people"], "mood", ["stress"], person="id", time="day"),
    "check": lambda f: ranef.check(f["lmm"]),
    "bootstrap": lambda f: ranef.bootstrap(f["lmm"], n=20, rng=1),
    "profile": lambda f: ranef.profile(f["lmm"]),
    "confint": lambda f: f["lmm"].confint(method="profile"),
    "influence": lambda f: ranef.influence(f["lmm"], by="Subject"),
    "cross_validate": lambda f: ranef.cross_validate(f["lmm"], by="group", folds=3, rng=1),
    "variance_test": lambda f: ranef.variance_test(
        f["lmm"], "Subject", method="bootstrap", n=20, rng=1
    ),
    "anova": lambda f: ranef.anova(f["plain"], f["lmm"], method="bootstrap", n=20, rng=1),
    "simulated_residuals": lambda f: ranef.simulated_residuals(f["lmm"], 50, rng=1),
    "permutation_test": lambda f: ranef.permutation_test(f["meta"], n=600, rng=1),
    "power": lambda f: ranef.power(f["lmm"], test="Days", n=20, rng=1),
    "step": lambda f: ranef.step(
        "Reaction ~ Days + (1 | Subject)", f["sleep"], focus="population"
    ),
    "maximal": lambda f: ranef.maximal("Reaction ~ Days + (Days | Subject)", f["sleep"]),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BARS)
def test_a_long_call_shows_how_far_it_is(
    name: str, fits: dict, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A person looks and is patient for no second; then nobody looks."""
    from ranef.display import progress

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_someone_looks", lambda: True)
    BARS[name](fits)
    assert re.search(r"\d+%\||evaluations|steps \[|it/s|models \[", capfd.readouterr().err)
    monkeypatch.setattr(progress, "_someone_looks", lambda: False)
    BARS[name](fits)
    assert capfd.readouterr().err == ""


# --- what is said where nobody looks, and of an interrupt


def test_work_that_lasts_is_forecast_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from ranef.display import progress

    clock = iter(np.arange(0.0, 1e4, 2.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress, "_someone_looks", lambda: False)
    assert list(progress.arriving(range(300), 300, "permuting", None, unit=" draws")) == [
        *range(300)
    ]
    assert (
        capfd.readouterr().err == "ranef: permuting: 3 of 300 draws done, about 10 minutes left\n"
    )
    assert len(list(progress.arriving(range(300), 300, "permuting", False))) == 300
    assert len(list(progress.arriving(range(9), 9, "permuting", None))) == 9  # soon done
    assert capfd.readouterr().err == ""


def test_work_that_is_done_in_blocks_is_forecast_by_whole_blocks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A block of 300 variants counted as one: 12,000 of them were said to last for hours."""
    from ranef.display import progress

    clock = iter(np.arange(0.0, 1e4, 2.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(progress, "_someone_looks", lambda: False)
    with progress.Ticker(12_000, "relationship", None, unit=" variants") as advance:
        for _ in range(40):
            advance(300)
    assert capfd.readouterr().err == (
        "ranef: relationship: 900 of 12,000 variants done, about 1 minute left\n"
    )


def test_an_interrupt_says_how_much_was_done() -> None:
    from ranef.display.progress import arriving

    def stopped() -> object:
        yield from range(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^simulating ended after 4 of 90 fits$"):
        list(arriving(stopped(), 90, "simulating", None))


def test_the_command_line_says_it_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ranef.cli import main

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("scanning ended after 4 of 90 blocks")

    monkeypatch.setattr(ranef, "lmm", interrupted)
    assert main(["fit", "Reaction ~ Days + (1 | Subject)", "sleepstudy"]) == 130
    assert "ranef: interrupted: scanning ended after 4 of 90 blocks" in capsys.readouterr().err


def test_permutations_keep_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, whole = ranef.meta("y ~ x", STUDIES, variance="v"), permutations._each

    def interrupted(*how: object) -> object:
        for k, part in enumerate(whole(*how)):
            if k == 2:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(permutations, "_each", interrupted)
    many = 3 * permutations.BATCH
    with pytest.raises(
        Interrupted, match=rf"after {2 * permutations.BATCH:,} of {many:,} "
    ) as caught:
        fit.permutation_test(n=many, rng=1)
    kept = caught.value.partial
    assert kept.n == 2 * permutations.BATCH
    assert not kept.exact
    assert np.isnan(kept.p_value[0])
    assert 0 < kept.p_value[1] <= 1
