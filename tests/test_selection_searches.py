"""Searches through models: maximal random parts, fixed effects, all subsets."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef.errors import ModelError
from ranef.questions.selection.random_part import parts_of


def words(seed: int = 1) -> pd.DataFrame:
    """The shape of kb07: 56 subjects, 32 items, three factors of two levels."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(list(itertools.product(range(56), range(32))), columns=["subj", "item"])
    cell = (table["subj"] + table["item"]) % 8
    for bit, name in enumerate("SPL"):
        table[name] = np.where(cell & (1 << bit), 1.0, -1.0)
    u = rng.normal(size=(56, 2)) * [300, 60]
    v = rng.normal(size=(32, 2)) * [360, 260]
    table["y"] = (
        2180 - 67 * table["S"] - 333 * table["P"] + 78 * table["L"]
        + u[table["subj"], 0] + u[table["subj"], 1] * table["P"]
        + v[table["item"], 0] + v[table["item"], 1] * table["P"]
        + 680 * rng.normal(size=len(table))
    )  # fmt: skip
    return table.astype({"subj": str, "item": str})


def test_maximal_of_twenty_parameters_in_any_order():
    table = words()
    found = []
    for order in ("SPL", "LSP", "PLS"):
        inside = " + ".join(order)
        bars = [f"(1 + {inside} | subj)", f"(1 + {inside[::-1]} | item)"]
        if order == "LSP":
            bars.reverse()
        formula = f"y ~ {inside} + {' + '.join(bars)}"
        found.append(ranef.maximal(formula, table))
    first = found[0]
    assert ranef.lmm("y ~ S + P + L + (1 + S + P + L | subj) + (1 + S + P + L | item)",
                     table).theta.size == 20  # fmt: skip
    assert all(one.formula == first.formula for one in found)
    assert first.n_fits <= 20
    assert not first.fit.optimum.singular
    assert "P" in first.formula.partition("|")[0].rpartition("(")[2]  # the real slope of items
    steps = first.steps()
    assert steps.columns.tolist() == [
        "step", "change", "formula", "aic", "singular", "kept", "why",
    ]  # fmt: skip
    assert steps["kept"][0]
    assert steps.loc[steps["kept"], "aic"].min() == pytest.approx(first.fit.aic)


def test_maximal_keeps_what_the_data_support():
    found = ranef.maximal("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    assert found.formula == "Reaction ~ 1 + Days + (1 + Days | Subject)"
    assert "too certain" in str(found).replace("\n", " ")


def test_maximal_without_any_variance_ends_with_an_intercept():
    table = ranef.data.load("Dyestuff2")
    found = ranef.maximal("Yield ~ 1 + (1 | Batch)", table)
    assert found.formula == "Yield ~ 1 + (1 | Batch)"
    assert found.fit.optimum.singular


def test_maximal_that_cannot_be_fitted_gets_smaller():
    table = ranef.data.load("sleepstudy")
    found = ranef.maximal("Reaction ~ Days + (factor(Days) | Subject)", table)
    assert "factor(Days)" not in found.formula.partition("(")[2]
    assert "cannot be fitted" in " ".join(found.steps()["why"]) or "random effects" in " ".join(
        found.steps()["why"]
    )


def test_other_structures_stay():
    parts = parts_of("y ~ a * b + (1 + b + a | g) + ar1(0 + t | h) + (x || k)", ())
    assert parts.formula == (
        "y ~ 1 + a + b + a:b + (1 + a + b | g) + ar1(0 + t | h) + diag(1 + x | k)"
    )
    nested = parts_of("y ~ 1 + (1 | a/b)", ())
    assert [b.group for b in nested.blocks] == ["a", "b:a"] or [b.group for b in nested.blocks] == [
        "a",
        "a:b",
    ]


def noisy(seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"g": np.repeat(np.arange(30), 5).astype(str)})
    for name in "abcd":
        table[name] = rng.normal(size=150)
    table["y"] = (
        table["a"] + 0.8 * table["a"] * table["b"] + np.repeat(rng.normal(size=30), 5)
        + rng.normal(size=150)
    )  # fmt: skip
    return table


def test_step_respects_interactions_and_what_is_kept():
    table = noisy()
    found = ranef.step("y ~ a * b + c + d + (1 | g)", table, focus="population")
    assert found.formula == "y ~ 1 + a + b + a:b + (1 | g)"
    kept = ranef.step("y ~ a * b + c + d + (1 | g)", table, focus="population", keep="d")
    assert "+ d +" in kept.formula
    individual = ranef.step("y ~ a * b + c + d + (1 | g)", table, focus="individual")
    assert individual.criterion == "caic"
    assert found.fit.estimate.reml is False
    # by hand: the criterion of the last step
    by_hand = ranef.lmm("y ~ a * b + (1 | g)", table, reml=False)
    assert found.fit.aic == pytest.approx(by_hand.aic)


def test_all_subsets_are_all_models_with_what_they_contain():
    table = noisy()
    found = ranef.subsets("y ~ a * b + c + (1 | g)", table, focus="population")
    # of a, b, a:b five, each with c or without
    assert len(found) == 10
    assert found.names[0] == "a + b + a:b"
    assert np.all(np.diff(found.values) >= 0)
    assert found.weights.sum() == pytest.approx(1)
    assert len(found.predict(table.head(3))) == 3
    kept = ranef.subsets("y ~ a * b + c + (1 | g)", table, focus="population", keep=["c"])
    assert len(kept) == 5
    with pytest.raises(ModelError, match="most=4"):
        ranef.subsets("y ~ a * b + c + (1 | g)", table, focus="population", most=4)


def test_split_and_bootstrap_of_the_whole_search():
    table = noisy()
    found = ranef.step("y ~ a + c + d + (1 | g)", table, focus="population")
    half = found.split(rng=3)
    assert half.n_groups["g"] == 15
    repeated = found.bootstrap(12, rng=2)
    terms = repeated.tidy().set_index("term")
    assert terms.loc["a", "share"] == 1.0
    assert 0 < terms.loc["a", "conf_low"] < terms.loc["a", "estimate"] < terms.loc["a", "conf_high"]
    assert len(repeated.repeats) == 12
    again = found.bootstrap(12, rng=2).tidy()
    assert again.equals(repeated.tidy())


def test_generalised_models_are_searched_too():
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"g": np.repeat(np.arange(25), 8), "x": rng.normal(size=200)})
    table["z"] = rng.normal(size=200)
    rate = np.exp(0.5 + 0.6 * table["x"] + np.repeat(rng.normal(size=25) * 0.6, 8))
    table["y"] = rng.poisson(rate).astype(float)
    found = ranef.step("y ~ x + z + (1 | g)", table, focus="population", family="poisson")
    assert "x" in found.formula
    random = ranef.maximal("y ~ x + (x | g)", table, family="poisson")
    assert not random.fit.optimum.singular


def test_refusals_of_searches():
    table = noisy()
    with pytest.raises(ModelError, match="what the model is for"):
        ranef.step("y ~ a + (1 | g)", table)
    with pytest.raises(ModelError, match="what the model is for"):
        ranef.subsets("y ~ a + (1 | g)", table)
    with pytest.raises(ModelError, match="no term 'e'"):
        ranef.step("y ~ a + (1 | g)", table, focus="population", keep="e")
    with pytest.raises(ModelError, match="the formula has none"):
        ranef.maximal("y ~ a", table)
    with pytest.raises(ModelError, match="criterion"):
        ranef.step("y ~ a + (1 | g)", table, focus="individual", criterion="aic")
    with pytest.raises(ModelError, match="fraction"):
        ranef.step("y ~ a + (1 | g)", table, focus="population").split(1.5)
    with pytest.raises(ranef.errors.RanefError, match="'aa'"):
        ranef.maximal("y ~ aa + (aa | g)", table)


def test_a_search_shows_its_models_and_an_interrupt_keeps_the_best(monkeypatch, capsys):
    from ranef.api import selection
    from ranef.errors import Interrupted

    growth = ranef.data.load("Orthodont")
    formula = "distance ~ age * Sex + (age | Subject)"
    ranef.step(formula, growth, focus="population", progress=True)
    assert "fixed effects" in capsys.readouterr().err
    fitted, made = [], selection.lmm

    def stopping(*args, **how):
        if fitted:
            raise KeyboardInterrupt
        fitted.append(args[0])
        return made(*args, **how)

    monkeypatch.setattr(selection, "lmm", stopping)
    for search in (
        lambda: ranef.step(formula, growth, focus="population"),
        lambda: ranef.maximal(formula, growth),
    ):
        fitted.clear()
        with pytest.raises(
            Interrupted, match="interrupted; models fitted until then: 1; the best"
        ) as stop:
            search()
        assert stop.value.partial.n_obs == len(growth)
