"""Residual structures on the example data of nlme: never a lower likelihood, the same estimates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef

REFERENCE = json.loads((Path(__file__).parent / "reference" / "nlme_sets.json").read_text("utf-8"))
CASES = {
    " ".join(filter(None, (k["set"], k["random"], k["correlation"], k["weights"]))): k
    for k in REFERENCE["cases"]
}
WITHOUT_DIGITS = "wafer ~ voltage | Wafer/Site varExp(form = ~ voltage)"
"""Residual variances whose ratio is 2e7: the fit warns that its optimum is not proved."""
ABOVE = {"loblolly": 5.0, "body": 0.5, "rats": 0.1, "oxboys": 0.03, "pixel": 1e-3}
"""How far nlme stops below the maximum, by data set."""


@pytest.mark.filterwarnings("ignore::ranef.errors.RanefWarning")
@pytest.mark.parametrize("name", [name for name in CASES if name != WITHOUT_DIGITS])
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_likelihood_and_estimates_of_nlme(name, reml):
    """nlme 3.1-162, tests/reference/nlme_sets.R."""
    case = CASES[name]
    given = {key: case[key] for key in ("residual", "dispersion") if case[key]}
    table = pd.DataFrame(REFERENCE["data"][case["set"]])
    known = case.get("REML" if reml else "ML")
    fit = ranef.lmm(case["formula"], table, reml=reml, **given)
    assert fit.optimum.converged
    if known is None:  # gls() and lme() ended with an error
        return
    assert fit.loglik > known - 1e-6
    assert fit.loglik < known + ABOVE.get(case["set"], 1e-4)
    if reml and "coef" in case and fit.loglik < known + 1e-5:
        tidy = fit.tidy()
        coef, error = (np.asarray(list(case[k].values())) for k in ("coef", "se"))
        near = 1e-3 * np.asarray(error)
        np.testing.assert_array_less(np.abs(tidy["estimate"] - coef), near)
        np.testing.assert_allclose(tidy["std_error"], error, rtol=2e-3)


def test_variances_that_differ_by_2e7_are_searched_beyond_nlme_and_warned_of():
    case = CASES[WITHOUT_DIGITS]
    table = pd.DataFrame(REFERENCE["data"]["wafer"])
    with pytest.warns(ranef.errors.ConvergenceWarning, match="not proved"):
        fit = ranef.lmm(case["formula"], table, dispersion=case["dispersion"], reml=False)
    assert fit.loglik > case["ML"]
