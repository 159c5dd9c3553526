"""The package marginaleffects runs on a fit, and finds what ranef.average does."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

import ranef
from ranef.errors import ModelError

me = pytest.importorskip("marginaleffects")

pl = pytest.importorskip("polars")
categories = pytest.mark.skipif(
    int(pl.__version__.split(".")[0]) >= 2,
    reason="with categories marginaleffects 0.6.0 calls what polars 2 has taken out",
)


PEER = f"marginaleffects {version('marginaleffects')} (Python)"


def same(agree, what, found, ours):
    """Equal but for its derivatives in the parameters, which are differences.

    Its intervals take the t distribution with rows minus coefficients, ours the normal.
    """
    agree("ranef.average", what, ours["estimate"], found.data["estimate"].to_numpy(),
          peer=PEER, rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(found.data["std_error"].to_numpy(), ours["std_error"], rtol=3e-3)


@pytest.fixture(scope="module")
def ohio():
    data = ranef.data.load("ohio")
    return ranef.glmm("resp ~ age * smoke + (1 | id)", data, family="binomial", quadrature=25)


@pytest.mark.parametrize("kind", ["population", "typical"])
def test_avg_comparisons(agree, ohio, kind):
    found = me.avg_comparisons(ohio.for_marginaleffects(kind), variables="smoke")
    ours = ranef.average(ohio, "smoke", kind=kind).tidy()
    same(agree, f"effect of smoke, {kind}, ohio", found, ours)


def test_avg_slopes(ohio):
    found = me.avg_slopes(ohio.for_marginaleffects(), variables="age")
    ours = ranef.average(ohio, "age", change="slope").tidy()
    # a slope is a quotient of differences there and a derivative here
    np.testing.assert_allclose(found.data["estimate"].to_numpy(), ours["estimate"], rtol=1e-4)
    np.testing.assert_allclose(found.data["std_error"].to_numpy(), ours["std_error"], rtol=1e-2)


@categories
def test_categories_of_a_linear_model(agree):
    fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    found = me.avg_comparisons(fit.for_marginaleffects(), variables="Type")
    ours = ranef.average(fit, "Type", df="normal").tidy()
    same(agree, "effects of Type, ergoStool", found, ours)


@categories
def test_trials_and_ordered_categories(agree):
    cbpp = ranef.glmm(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ranef.data.load("cbpp"),
        family="binomial",
    )
    found = me.avg_comparisons(cbpp.for_marginaleffects(), variables="period")
    same(agree, "effects of period, cbpp", found, ranef.average(cbpp, "period").tidy())
    wine = ranef.glmm(
        "rating ~ temp + contact + (1 | judge)", ranef.data.load("wine"), family="cumulative"
    )
    found = me.avg_comparisons(wine.for_marginaleffects(), variables="temp")
    ours = ranef.average(wine, "temp").tidy().set_index("category")
    shown = found.data.to_pandas().set_index("group")
    np.testing.assert_allclose(shown["estimate"], ours.loc[shown.index, "estimate"], rtol=1e-6)
    np.testing.assert_allclose(shown["std_error"], ours.loc[shown.index, "std_error"], rtol=3e-3)


def test_numbers_of_a_linear_model():
    fit = ranef.lmm("distance ~ age + (age | Subject)", ranef.data.load("Orthodont"))
    found = me.avg_slopes(fit.for_marginaleffects(), variables="age")
    row = fit.tidy().iloc[1]
    assert found.data["estimate"][0] == pytest.approx(row["estimate"], rel=1e-6)
    assert found.data["std_error"][0] == pytest.approx(row["std_error"], rel=3e-3)
    people = pl.DataFrame({"age": [8.0, 14.0]})
    shown = me.predictions(fit.for_marginaleffects(), newdata=people).data
    np.testing.assert_allclose(
        shown["estimate"].to_numpy(), fit.predict({"age": [8.0, 14.0]}, kind="typical"), rtol=1e-9
    )


def test_what_it_is_not_for(ohio):
    with pytest.raises(ModelError, match="kind='conditional' is not known"):
        ohio.for_marginaleffects("conditional")
    # the package itself still knows no ranef fit
    with pytest.raises(ValueError, match="Unknown model type"):
        me.avg_comparisons(ohio, variables="smoke")
