"""Two-level models in groups: beside lavaan, beside one fit a group, beside dense densities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sem_numbers import WITHIN, dense, made, somewhere, table

import ranef

HERE = Path(__file__).parent / "reference"
REFERENCE = json.loads((HERE / "structural_groups.json").read_text())
FITTED = ["configural", "metric", "scalar", "configural_mlr", "metric_mlr"]
MODEL = "level: 1\n fw =~ st1 + st2 + st3\n fw ~ x1\nlevel: 2\n fb =~ st1 + st2 + st3\n fb ~ w1\n"
NAMES = {"chisq": "chisq", "baseline.chisq": "baseline_chisq", "cfi": "cfi", "tli": "tli",
         "rmsea": "rmsea", "srmr": "srmr", "srmr_within": "srmr_within",
         "srmr_between": "srmr_between", "unrestricted.logl": "loglik_h1"}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    data = pd.read_csv(HERE / "structural_data.csv")
    return data.assign(site=np.array(["a", "b"])[data.site])


@pytest.fixture(scope="module")
def fits(rows):
    return {
        name: ranef.sem(REFERENCE[name]["model"], rows, cluster="person", group="site",
                        estimator=REFERENCE[name]["estimator"])
        for name in FITTED
    }  # fmt: skip


@pytest.mark.parametrize("name", FITTED)
def test_estimates_and_measures_are_lavaans(name, fits):
    case, fit = REFERENCE[name], fits[name]
    tidy, near = fit.tidy(), case["gradient"] < 1e-4
    assert -1e-6 < fit.loglik - case["fit"]["logl"] < (1e-6 if near else 1e-4)
    compared = 0
    for k, (lhs, op, rhs) in enumerate(zip(case["lhs"], case["op"], case["rhs"], strict=True)):
        if op == "==" or not case["se"][k]:
            continue
        same = ((tidy.lhs == lhs) & (tidy.rhs.fillna("") == rhs)) | (
            (tidy.lhs == rhs) & (tidy.rhs == lhs) & (op == "~~")
        )
        row = tidy[same & (tidy.op == op) & (tidy.level == case["level"][k])
                   & (tidy.group == case["group"][k])].iloc[0]  # fmt: skip
        # lavaan's search ends at a gradient of 0.007 where loadings are equal
        assert abs(row.estimate - case["est"][k]) < (3e-5 if near else 1e-3)
        assert abs(row.std_error - case["se"][k]) < 6e-4
        compared += 1
    assert compared > 28
    measures = fit.fit_measures().iloc[0]
    assert measures.df == case["fit"]["df"]
    assert measures.baseline_df == case["fit"]["baseline.df"]
    for theirs, ours in NAMES.items():
        assert abs(measures[ours] - case["fit"][theirs]) < 8e-4


def test_differences_are_lavaans(fits):
    for pair, found in REFERENCE["difference"].items():
        one, other = pair.split()
        row = fits[one].anova(fits[other]).tidy().iloc[-1]
        assert row.df == found["df"]
        assert abs(row.statistic - found["chisq"]) < 4e-3


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_groups_without_equalities_are_fits_of_their_own(rows, missing):
    """Scores and modification indices too, for which lavaan 0.6 has other values in groups."""
    how = {"cluster": "person"}
    if missing:
        rows = rows.assign(**{n: rows[f"m_{n}"] for n in ("st1", "st2", "st3")})
        how["missing"] = "fiml"
    fit = ranef.sem(MODEL, rows, group="site", **how)
    apart = {s: ranef.sem(MODEL, rows[rows.site == s], **how) for s in ("a", "b")}
    np.testing.assert_allclose(fit.loglik, sum(f.loglik for f in apart.values()), atol=1e-7)
    upper, scores = fit.scores(level=2, se=True).set_index("person"), fit.scores(se=True)
    indices, icc, r2 = fit.modification_indices(), fit.icc(), fit.r2()
    chisq = sum(f.fit_measures().chisq[0] for f in apart.values())
    np.testing.assert_allclose(fit.fit_measures().chisq[0], chisq, atol=2e-5)
    each = [f.level_fit() for f in apart.values()]
    assert np.abs(fit.level_fit().chisq - sum(f.chisq for f in each)).max() < 2e-5
    for site, one in apart.items():
        own = one.scores(level=2, se=True).set_index("person")
        np.testing.assert_allclose(upper.loc[own.index], own, atol=2e-6)
        np.testing.assert_allclose(scores[(rows.site == site).to_numpy()], one.scores(se=True),
                                   atol=2e-6)  # fmt: skip
        np.testing.assert_allclose(icc[icc.group == site].icc, one.icc().icc, atol=2e-6)
        np.testing.assert_allclose(r2[r2.group == site].r2, one.r2().r2, atol=5e-6)
        keys = ["level", "lhs", "op", "rhs"]
        ours = indices[indices.group == site].set_index(keys).sort_index()
        own = one.modification_indices().set_index(keys).sort_index()
        np.testing.assert_allclose(ours.loc[own.index, ["mi", "epc"]], own[["mi", "epc"]],
                                   rtol=2e-4, atol=1e-5)  # fmt: skip


def test_steps_of_invariance_are_the_fits(rows, fits):
    found = ranef.invariance(MODEL, rows, cluster="person", group="site").tidy().set_index("step")
    np.testing.assert_allclose(found.loc["configural", "chisq"],
                               fits["configural"].fit_measures().chisq[0], atol=1e-6)  # fmt: skip
    assert found.df.tolist() == [8, 12, 14, 20]  # residual variances within and between
    assert found.df_diff.iloc[1:].tolist() == [4, 2, 6]
    assert (np.diff(found.chisq) > 0).all()


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_criterion_of_groups_is_that_of_dense_matrices(missing):
    rng = np.random.default_rng(12)
    data = table(rng, missing=missing)
    data["side"] = np.where(data["unit"] % 3 == 0, "left", "right")
    text = WITHIN.replace("f =~ y1 + y2", "f =~ y1 + c(a, a)*y2")
    text += "level: 2\n g =~ y1 + c(b1, b2)*y2 + y3\n g ~ w\n y1 ~~ z\n z ~ w\n"
    model = made(text, data, ("unit",), missing="fiml", group="side")
    for _ in range(3):
        theta = somewhere(model, rng)
        np.testing.assert_allclose(model.main.value(theta), dense(model, theta), rtol=1e-10)
