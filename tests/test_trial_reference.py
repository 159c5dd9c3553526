"""A trial by visit against SAS: published output of PROC MIXED, see `reference/fev.json`.

SAS stops its search where a step changes the criterion by 1e-8 of its size, some 1e-4 short in
parameters; that, and responses rounded to five decimals, is what the tolerances leave room for.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranef

FEV = json.loads((Path(__file__).parent / "reference" / "fev.json").read_text())


def table() -> pd.DataFrame:
    rows = [
        (f"PT{i + 1}", arm, f"VIS{k + 1}", np.nan if y is None else y)
        for i, (arm, visits) in enumerate(zip(FEV["arm"], FEV["fev1"], strict=True))
        for k, y in enumerate(visits)
    ]
    out = pd.DataFrame(rows, columns=["USUBJID", "ARMCD", "AVISIT", "FEV1"])
    return out.assign(ARMCD=pd.Categorical(out["ARMCD"], ["P", "T"]))


TABLE = table()


def fitted(structure: str, **given):
    return ranef.lmm("FEV1 ~ ARMCD", TABLE, residual=f"{structure}(AVISIT | USUBJID)", **given)


def test_the_table_is_that_of_sas():
    assert TABLE["FEV1"].notna().sum() == 537
    assert TABLE["USUBJID"].nunique() == 200


@pytest.mark.parametrize("structure", FEV["kenward_roger"])
def test_kenward_roger_of_sas(structure):
    """Standard errors to 1e-3, degrees of freedom to 5e-4 of their size.

    SAS adds the covariance's second derivatives in its own parameters; here the covariance
    matrix does not depend on how it is parametrised. The two differ where the structure is not
    linear in SAS's parameters: for AR(1) between SAS's full and first-order versions.
    """
    sas = FEV["kenward_roger"][structure]
    row = fitted(structure).tidy(df="kenward-roger-observed").iloc[1]
    assert row["estimate"] == pytest.approx(sas["estimate"], abs=2e-4)
    assert row["std_error"] == pytest.approx(sas["std_error"], abs=1e-3)
    assert row["df"] == pytest.approx(sas["df"], rel=5e-4)
    if structure == "ar1":
        assert sas["std_error"] < row["std_error"] < sas["std_error_first_order"]
    else:
        assert row["std_error"] == pytest.approx(sas["std_error"], abs=1e-4)


def test_unstructured_of_sas():
    fit = fitted("us")
    # SAS's criterion where it stopped is not below ours
    minus_2 = FEV["us"]["minus_2_res_log_likelihood"]
    assert -2 * fit.loglik == pytest.approx(minus_2, abs=5e-5)
    variance = fit.tidy("variance")
    sd = variance.loc[variance["parameter"] == "sd", "estimate"].to_numpy()
    corr = iter(variance.loc[variance["parameter"] == "corr", "estimate"])
    found = np.diag(sd**2)
    for j in range(4):
        for i in range(j + 1, 4):
            found[i, j] = next(corr) * sd[i] * sd[j]
    for i, j, value in FEV["us"]["un"]:
        assert found[i - 1, j - 1] == pytest.approx(value, abs=0.04)


@pytest.mark.parametrize(
    ("structure", "ml", "reml"),
    [
        ("us", 3700.68707570, 3700.94648570),
        ("homcs", 3918.1221, 3917.9818),
        ("cs", 3784.6316, 3784.8534),
    ],
)
def test_the_criterion_of_sas_without_predictors(structure, ml, reml):
    """Published in mmrm's own tests, of the intercept alone; SAS's CS is homcs, its CSH cs."""
    for restricted, expected in ((False, ml), (True, reml)):
        fit = ranef.lmm(
            "FEV1 ~ 1", TABLE, residual=f"{structure}(AVISIT | USUBJID)", reml=restricted
        )
        assert -2 * fit.loglik == pytest.approx(expected, abs=1e-4)


def test_least_squares_means_of_sas():
    fit = fitted("us")
    means = ranef.emmeans(fit, "ARMCD", df="kenward-roger-observed").tidy()
    for level, (mean, error, df, low, high) in FEV["us"]["lsmeans"].items():
        row = means[means["ARMCD"] == level].iloc[0]
        assert row["estimate"] == pytest.approx(mean, abs=1e-3)
        assert row["std_error"] == pytest.approx(error, abs=2e-4)
        assert row["df"] == pytest.approx(df, abs=0.6)
        assert (row["conf_low"], row["conf_high"]) == pytest.approx((low, high), abs=2e-3)
    pair = ranef.contrasts(fit, "ARMCD", method="revpairwise", df="kenward-roger-observed").tidy()
    limits = pair.iloc[0][["conf_low", "conf_high"]].tolist()
    assert limits == pytest.approx(FEV["us"]["difference_interval"], abs=1e-3)


def test_satterthwaite_and_parameters_of_sas():
    sas = FEV["ar1"]
    fit = fitted("ar1")
    row = fit.tidy(df="satterthwaite").iloc[1]
    want = sas["satterthwaite"]
    assert row["estimate"] == pytest.approx(want["estimate"], abs=1e-4)
    assert row["std_error"] == pytest.approx(want["std_error"], abs=1e-4)
    assert row["df"] == pytest.approx(want["df"], abs=0.6)
    variance = fit.tidy("variance").set_index("parameter")["estimate"]
    assert variance["phi"] == pytest.approx(sas["phi"], abs=1e-4)
    assert variance["sd"] ** 2 == pytest.approx(sas["variance"], abs=1e-3)
    assert -2 * fit.loglik == pytest.approx(sas["minus_2_res_log_likelihood"], abs=0.05)


def test_observed_information_changes_what_missing_responses_leave():
    """Of complete data both are the same; here the expected one counts too many degrees."""
    fit = fitted("us")
    expected, observed = (
        fit.tidy(df=f"kenward-roger{kind}").iloc[1]["df"] for kind in ("", "-observed")
    )
    assert expected > observed + 5
    complete = TABLE[TABLE.groupby("USUBJID")["FEV1"].transform("count") == 4]
    whole = ranef.lmm("FEV1 ~ ARMCD * AVISIT", complete, residual="us(AVISIT | USUBJID)")
    pair = [whole.tidy(df=f"kenward-roger{kind}") for kind in ("", "-observed")]
    np.testing.assert_allclose(pair[0]["df"], pair[1]["df"], rtol=1e-6)
    np.testing.assert_allclose(pair[0]["std_error"], pair[1]["std_error"], rtol=1e-6)


def test_observed_information_of_models_with_random_effects():
    """A random intercept is compound symmetry: equal covariances by two paths."""
    one = ranef.lmm("FEV1 ~ ARMCD + (1 | USUBJID)", TABLE)
    two = fitted("homcs")
    pair = [fit.tidy(df="kenward-roger-observed") for fit in (one, two)]
    np.testing.assert_allclose(pair[0]["std_error"], pair[1]["std_error"], rtol=1e-6)
    np.testing.assert_allclose(pair[0]["df"], pair[1]["df"], rtol=1e-4)
