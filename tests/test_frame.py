"""The columns that a fit keeps: safe from later changes, saved with the fit, in their types."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ranef


def table() -> pd.DataFrame:
    d = ranef.data.load("sleepstudy").copy()
    d["half"] = pd.Categorical(np.where(d.Days > 4, "late", "early"), ["late", "early"])
    d["whole"] = d.Days.astype(int) ** 2
    d["odd"] = d.Days % 2 == 1
    d["text"] = np.where(d.Days % 3 == 0, "x", "y")
    d["unused"] = 1.0
    d["when"] = pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.to_timedelta(
        d.Days.astype(int), unit="D"
    )
    d["lasted"] = pd.to_timedelta(d.Days.astype(int) ** 3, unit="h")
    d.loc[3, "Reaction"] = np.nan
    return d


FORMULA = (
    "Reaction ~ half + Days + whole + odd + text + as.numeric(lasted) + (1 | Subject) + (1 | when)"
)


def same(a: dict[str, object], b: dict[str, object]) -> None:
    assert list(a) == list(b)
    for name, values in a.items():
        assert pd.Series(values).astype(str).tolist() == pd.Series(b[name]).astype(str).tolist()


def test_used_columns_only_of_the_rows_in_the_model() -> None:
    fit = ranef.lmm(FORMULA, table())
    used = fit.frame.rows_used()
    assert "unused" not in used
    assert set(used) == {
        "Reaction", "half", "Days", "whole", "odd", "text", "lasted", "Subject", "when",
    }  # fmt: skip
    assert {len(values) for values in used.values()} == {179}
    assert list(used["half"].categories) == ["late", "early"]


def test_later_changes_of_the_table_do_not_reach_the_fit() -> None:
    d = table()
    fit = ranef.lmm(FORMULA, d)
    d["Days"] = 0.0
    d.loc[:, "whole"] = -1
    assert fit.frame.rows_used()["Days"].max() == 9
    assert fit.frame.rows_used()["whole"].max() == 81


def test_arrays_changed_in_place_do_not_reach_the_fit() -> None:
    sleep = ranef.data.load("sleepstudy")
    d = {name: sleep[name].to_numpy().copy() for name in sleep.columns}
    fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", d)
    d["Days"][:] = 0.0
    assert fit.frame.rows_used()["Days"].max() == 9


def test_saved_with_the_fit(tmp_path) -> None:
    fit = ranef.lmm(FORMULA, table())
    fit.save(tmp_path / "fit.ranef")
    same(fit.frame.rows_used(), ranef.load(tmp_path / "fit.ranef").frame.rows_used())


def test_all_parts_of_a_generalised_model(tmp_path) -> None:
    data = pl.DataFrame(ranef.data.load("Salamanders").to_dict("list"))
    fit = ranef.glmm(
        "count ~ mined + (1 | site)", data, family="nbinom2", zero="~ mined", dispersion="~ spp"
    )
    assert set(fit.frame.rows_used()) == {"count", "mined", "site", "spp"}
    fit.save(tmp_path / "fit.ranef")
    same(fit.frame.rows_used(), ranef.load(tmp_path / "fit.ranef").frame.rows_used())


def test_hypotheses_agree_with_the_table() -> None:
    fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    found = fit.hypotheses(np.array([[0.0, 1.0]]))
    assert found.std_error[0] == pytest.approx(fit.tidy()["std_error"][1])
    test = fit.joint_test(np.array([[0.0, 1.0]]))
    assert test.statistic == pytest.approx(fit.tidy()["statistic"][1] ** 2)
    np.testing.assert_array_equal(fit.inference.covariance(), fit.vcov.to_numpy())
