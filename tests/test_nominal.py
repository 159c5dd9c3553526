"""Nominal effects of ordinal models: effects that differ between the thresholds.

The reference is ordinal::clm (`reference/nominal.R`), at a standard deviation of zero
since clmm has no nominal effects; with random effects it is an integral by hand.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from agreement import Agree
from reference_cases import peer
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

import ranef
from ranef.cli.main import main
from ranef.errors import FormulaError, ModelError, UnknownColumnError
from ranef.families import Cumulative

REFERENCE = json.loads((Path(__file__).parent / "reference" / "nominal.json").read_text())
FORMULA = "rating ~ temp + (1 | judge)"
CUTS = ("1|2", "2|3", "3|4", "4|5")
# clm puts the outer ends at 1e5 where they are infinite: at a Cauchy distribution this costs
# about 3e-6 / P(y) a row of the outer categories
SHORT = {"cauchit": 5e-4}


@pytest.fixture(scope="module")
def wine() -> Any:
    return ranef.data.load("wine")


@pytest.fixture(scope="module")
def fit(wine: Any) -> Any:
    return ranef.glmm(FORMULA, wine, family="cumulative", nominal="~ contact")


def likelihood_by_hand(fit: Any, wine: Any) -> float:
    """Integrate each judge's ratings over the normal effect, by adaptive quadrature."""
    tidy = fit.tidy()
    b, a = float(tidy.estimate[0]), tidy.estimate.to_numpy()[1:]
    sd = float(fit.tidy("variance").estimate[0])
    warm = (wine.temp == "warm").to_numpy(dtype=float)
    contact = (wine.contact == "yes").to_numpy(dtype=float)
    y = wine.rating.astype(int).to_numpy()
    total = 0.0
    for judge in wine.judge.unique():
        own = np.flatnonzero(wine.judge == judge)

        def density(u: float, own: Any = own) -> float:
            cuts = a[:4] + np.outer(contact[own], a[4:])
            below = expit(cuts - (b * warm[own] + u)[:, None])
            edges = np.column_stack([np.zeros(len(own)), below, np.ones(len(own))])
            p = np.diff(edges)[np.arange(len(own)), y[own] - 1]
            return float(np.prod(p) * norm.pdf(u, scale=sd))

        total += np.log(quad(density, -8 * sd, 8 * sd, epsabs=0, epsrel=1e-10)[0])
    return float(total)


@pytest.mark.parametrize("link", sorted({entry["link"] for entry in REFERENCE["clm"]}))
def test_without_random_effects_it_is_clm(agree: Agree, link: str, wine: Any) -> None:
    short = SHORT.get(link, 1e-6)
    ours: list[float] = []
    theirs: list[float] = []
    entries = [entry for entry in REFERENCE["clm"] if entry["link"] == link]
    for entry in entries:
        kind = Cumulative(link, entry["threshold"])
        fit = ranef.glmm(FORMULA, wine, family=kind, nominal="~ contact", fixed={"sd: judge": 0.0})
        assert fit.optimum.converged
        assert -1e-6 < fit.loglik - entry["loglik"] < short
        found = fit.tidy().set_index("term").estimate
        ours += list(found[[t.replace(".contactyes", ": contactyes") for t in entry["terms"]]])
        theirs += entry["coef"]
        rows = fit.predict(kind="typical").to_numpy()[np.arange(72), wine.rating.astype(int) - 1]
        assert fit.loglik == pytest.approx(np.log(rows).sum(), abs=1e-10)
    thresholds = ", ".join(entry["threshold"] for entry in entries)
    agree("glmm(nominal=...)", f"coefficients, wine, {link}, thresholds {thresholds}", ours, theirs,
          peer=peer("ordinal", REFERENCE["versions"]), atol=2e-5, rtol=short)  # fmt: skip


def test_quadrature_is_the_integral(wine: Any) -> None:
    exact = ranef.glmm(FORMULA, wine, family="cumulative", nominal="~ contact", quadrature=25)
    assert exact.loglik == pytest.approx(likelihood_by_hand(exact, wine), abs=1e-8)


def test_equal_nominal_effects_are_proportional_odds(wine: Any, fit: Any) -> None:
    """With one value on all thresholds the effect is that of the formula, its sign turned."""
    names = tuple(f"threshold: {cut}: contactyes" for cut in CUTS)
    held = ranef.glmm(FORMULA, wine, family="cumulative", nominal="~ contact", equal=[names])
    usual = ranef.glmm("rating ~ temp + contact + (1 | judge)", wine, family="cumulative")
    assert held.loglik == pytest.approx(usual.loglik, abs=1e-8)
    assert held.df_model == usual.df_model == fit.df_model - 3
    assert -held.tidy().estimate.iloc[-1] == pytest.approx(usual.coef["contactyes"], rel=1e-5)
    assert fit.loglik > usual.loglik


def test_the_unit_of_a_number_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(40), 15)
    x = rng.normal(size=600)
    at = rng.logistic(size=600) + rng.normal(size=40)[g]
    cuts = np.array([-1.5, 0.2, 1.6]) + np.outer(x, [0.6, 0.1, -0.3])
    y = (at[:, None] > cuts).sum(axis=1)
    data = {"y": y, "x": x, "far": 2000 + 1e-3 * x, "g": g}
    near = ranef.glmm("y ~ (1 | g)", data, family="cumulative", nominal="~ x")
    far = ranef.glmm("y ~ (1 | g)", data, family="cumulative", nominal="~ far")
    assert near.optimum.converged
    assert far.optimum.converged
    assert far.loglik == pytest.approx(near.loglik, abs=1e-6)
    slopes = near.tidy(), far.tidy()
    ours, theirs = (np.asarray(t["estimate"])[3:] for t in slopes)
    np.testing.assert_allclose(theirs, ours * 1e3, rtol=1e-4)
    error = np.asarray(slopes[0]["std_error"])[3:]
    assert np.all(np.abs(ours - [0.6, 0.1, -0.3]) < 3.5 * error)


def test_thresholds_out_of_order_have_no_probabilities() -> None:
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(30), 10)
    x = rng.uniform(0, 1, size=300)
    cuts = np.array([-1.0, 1.0]) + np.outer(x, [0.8, -0.8])
    y = (rng.logistic(size=300)[:, None] > cuts).sum(axis=1)
    fit = ranef.glmm("y ~ (1 | g)", {"y": y, "x": x, "g": g}, family="cumulative", nominal="~ x")
    found = fit.predict({"x": [0.5, 40.0]}, kind="typical").to_numpy()
    assert found[0].sum() == pytest.approx(1)
    assert np.isnan(found[1]).all()
    with pytest.raises(ModelError, match=r"the thresholds of 1 row \(first row 0\)"):
        fit.family.simulate(np.random.default_rng(0), [[0.0], [1.0], [-1.0]])


def test_the_rest_of_a_fit(wine: Any, fit: Any, tmp_path: Path) -> None:
    text = str(fit)
    assert "Nominal effects ~ contact" in text
    assert "4|5: contactyes" in text
    assert "Share of the variance on the latent scale" in text
    assert "c[j] = c0[j] + c1[j]*contactyes[i]" in str(fit.equation())
    assert "c_{j1}" in fit.equation().latex
    assert list(fit.tidy().component) == ["conditional"] + 8 * ["threshold"]
    assert not (fit.tidy(exponentiate=True).estimate[1:] - fit.tidy().estimate[1:]).any()
    fit.save(tmp_path / "fit.ranef")
    again = ranef.load(tmp_path / "fit.ranef")
    assert str(again) == text
    np.testing.assert_array_equal(again.fitted(), fit.fitted())
    drawn = again.simulate(1, rng=3)
    assert again.refit(drawn.iloc[:, 0]).optimum.converged
    assert "Each threshold depended on contact." in fit.methods()
    population = fit.predict(
        pd.DataFrame({"temp": ["cold"], "contact": ["yes"]}), kind="population", conf_level=0.9
    )
    assert population.estimate.sum() == pytest.approx(1)
    means = ranef.marginal(fit).tidy().set_index("term")
    assert 0.5 < means.attenuation["2|3: contactyes"] < 1
    plan = ranef.plan(FORMULA, wine, family="cumulative", nominal="~ contact")
    assert plan.p == 9
    other = ranef.glmm(FORMULA, pl.from_pandas(wine), family="cumulative", nominal="~ contact")
    assert other.loglik == pytest.approx(fit.loglik, abs=1e-10)


def test_missing_values_of_a_nominal_column_drop_the_row(wine: Any) -> None:
    holed = wine.assign(contact=wine.contact.astype(object).where(np.arange(72) != 3, None))
    fit = ranef.glmm(FORMULA, holed, family="cumulative", nominal="~ contact")
    assert fit.n_obs == 71
    assert np.isnan(np.asarray(fit.fitted())[3]).all()


@pytest.mark.parametrize(
    ("nominal", "error", "says"),
    [
        ("~ (1 | judge)", ModelError, "has a random term; nominal effects are fixed"),
        ("~ contact + offset(x)", ModelError, "has an offset"),
        ("~ 0 + contact", ModelError, "leave '0 \\+' or '- 1' out"),
        (
            "~ temp",
            ModelError,
            "tempwarm in the formula cannot be distinguished from nominal='~ temp'",
        ),
        ("~ contct", UnknownColumnError, "did you mean 'contact'"),
        ("~ rating", FormulaError, "also stands in the nominal formula"),
    ],
)
def test_refusals(nominal: str, error: type[Exception], says: str, wine: Any) -> None:
    data = wine.assign(x=1.0)
    with pytest.raises(error, match=says):
        ranef.glmm(FORMULA, data, family="cumulative", nominal=nominal)


def test_families_without_thresholds_refuse() -> None:
    salamanders = ranef.data.load("Salamanders")
    with pytest.raises(ModelError, match="belongs to family='cumulative'"):
        ranef.glmm("count ~ spp + (1 | site)", salamanders, family="poisson", nominal="~ mined")
    with pytest.raises(ModelError, match="belongs to a generalised model"):
        ranef.plan("count ~ spp + (1 | site)", salamanders, nominal="~ mined")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "wine.html"
    arguments = ["fit", FORMULA, "wine", "--family", "cumulative", "--nominal", "~ contact"]
    assert main([*arguments, "--report", str(page)]) == 0
    assert "2|3: contactyes" in capsys.readouterr().out
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert "nominal='~ contact'" in text
    assert "2|3: contactyes" in text
    assert main([*arguments[:3], "--nominal", "~ contact"]) != 0
    assert "--nominal belongs to a generalised model" in capsys.readouterr().err


@pytest.mark.study
def test_nominal_effects_are_recovered() -> None:
    """Within Monte Carlo error over 60 tables; standard errors are those of the spread."""
    true = np.array([0.7, -1.2, 0.3, 1.8, 0.8, 0.2, -0.5, 0.9])
    estimates, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        g = np.repeat(np.arange(80), 12)
        x, w = rng.normal(size=960), rng.integers(0, 2, 960)
        cuts = true[1:4] + np.outer(w, true[4:7])
        at = true[0] * x + true[7] * rng.normal(size=80)[g] + rng.logistic(size=960)
        data = {"y": (at[:, None] > cuts).sum(axis=1), "x": x, "w": w, "g": g}
        fit = ranef.glmm("y ~ x + (1 | g)", data, family="cumulative", nominal="~ w", quadrature=9)
        tidy = fit.tidy()
        estimates.append(np.append(tidy["estimate"], fit.tidy("variance")["estimate"]))
        errors.append(np.asarray(tidy["std_error"]))
    found = np.array(estimates)
    spread = found.std(axis=0, ddof=1)
    assert np.all(np.abs(found.mean(axis=0) - true) < 3.5 * spread / np.sqrt(60))
    np.testing.assert_allclose(np.mean(errors, axis=0), spread[:7], rtol=0.35)
