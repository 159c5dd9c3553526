"""Repeated measures at many voxels: each is `ranef.lmm`, wherever its optimum lies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import ranef
from ranef import imaging
from ranef.errors import DataError, ModelError, UnknownColumnError


def visits(uneven=False, seed=0, subjects=20, times=4):
    rng = np.random.default_rng(seed)
    s = np.repeat(np.arange(subjects), times)
    t = np.tile(np.arange(float(times)), subjects)
    if uneven:
        t = t + 0.2 * rng.normal(size=len(t))
    return pd.DataFrame({"subject": s, "time": t, "group": np.where(s % 2, "b", "a")})


def outcomes(table, voxels, slope=True, seed=1):
    """Voxels with and without variances, some correlations at their ends."""
    rng = np.random.default_rng(seed)
    s, t = table["subject"].to_numpy(), table["time"].to_numpy()
    K = s.max() + 1
    size = rng.choice([0.0, 0.2, 1.0], size=(2, voxels))
    b = rng.normal(size=(2, K, voxels))
    b[1] = np.where(rng.uniform(size=voxels) < 0.3, b[0], b[1])
    y = 1 + 0.3 * t[:, None] + size[0] * b[0, s] + rng.normal(size=(len(s), voxels))
    return y + (0.5 * size[1] * b[1, s] * t[:, None] if slope else 0)


FORMULAS = (
    "y ~ time * group + (time | subject)",
    "y ~ time + (1 | subject)",
    "y ~ group + (0 + time | subject)",
    "y ~ time + (time + I(time^2) | subject)",
)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("uneven", [False, True])
def test_each_voxel_is_lmm(formula, uneven):
    table = visits(uneven, times=6 if "I(" in formula else 4)
    Y = outcomes(table, 14, seed=len(formula))
    found = imaging.lmm(formula, table, outcomes=Y)
    assert found.converged.all()
    ranks = set()
    for i in range(Y.shape[1]):
        fit = ranef.lmm(formula, table.assign(y=Y[:, i]))
        rows = fit.tidy()
        assert found.loglik[i] >= fit.loglik - 1e-7
        assert found.loglik[i] <= fit.loglik + 1e-5
        np.testing.assert_allclose(found.beta[:, i], rows["estimate"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.std_error[:, i], rows["std_error"], rtol=2e-5)
        np.testing.assert_allclose(found.sigma[i], fit.sigma, rtol=1e-5)
        if found.fits.rank[i] == len(found.terms) or "I(" not in formula:
            np.testing.assert_allclose(found.df[:, i], rows["df"], rtol=1e-3)
        ranks.add(int(found.fits.rank[i]))
    assert len(ranks) > 1  # some on the boundary, some not


def test_maximum_likelihood_and_float32():
    table = visits()
    Y = outcomes(table, 6).astype(np.float32)
    found = imaging.lmm(FORMULAS[0], table, outcomes=Y, reml=False, df="normal")
    for i in range(6):
        fit = ranef.lmm(FORMULAS[0], table.assign(y=Y[:, i].astype(float)), reml=False)
        assert found.loglik[i] == pytest.approx(fit.loglik, abs=1e-6)
        np.testing.assert_allclose(found.std_error[:, i], fit.tidy()["std_error"], rtol=1e-5)
    assert np.isinf(found.df).all()


def test_joint_tests_are_those_of_lmm():
    table = visits(True)
    Y = outcomes(table, 5)
    found = imaging.lmm(FORMULAS[0], table, outcomes=Y)
    F = found.joint(["time", "time:groupb"])
    for i in range(5):
        one = ranef.lmm(FORMULAS[0], table.assign(y=Y[:, i])).test(["time", "time:groupb"])
        assert F.stat[i] == pytest.approx(one.statistic, rel=1e-5)
        assert F.df[i] == pytest.approx(one.df2, rel=1e-3)
        assert F.p_value[i] == pytest.approx(one.p_value, rel=1e-3)


def test_rows_are_missing_for_each_voxel_by_itself():
    table = visits()
    Y = outcomes(table, 8)
    Y[0, 1], Y[3:9, 2], Y[:, 3], Y[5, 4] = np.nan, np.inf, np.nan, np.nan
    Y[:, 5] = 2.0
    Y[4:, 6] = np.nan  # one subject is left
    found = imaging.lmm(FORMULAS[0], table, outcomes=Y)
    assert found.n.tolist()[:4] == [80, 79, 74, 0]
    assert np.isnan(found.loglik[[3, 5, 6]]).all()
    for i in (1, 2, 4):
        y = np.where(np.isfinite(Y[:, i]), Y[:, i], np.nan)
        fit = ranef.lmm(FORMULAS[0], table.assign(y=y))
        assert found.loglik[i] == pytest.approx(fit.loglik, abs=1e-6)
        np.testing.assert_allclose(found.beta[:, i], fit.tidy()["estimate"], rtol=1e-5, atol=1e-6)


def test_units_and_threads_change_nothing():
    table = visits(True)
    Y = outcomes(table, 600)
    one = imaging.lmm(FORMULAS[0], table, outcomes=Y, n_jobs=1)
    two = imaging.lmm(FORMULAS[0], table, outcomes=Y, n_jobs=2)
    np.testing.assert_array_equal(one.loglik, two.loglik)
    large = imaging.lmm(
        FORMULAS[0], table.assign(time=table["time"] * 1e4), outcomes=1e-6 * Y, n_jobs=1
    )
    np.testing.assert_allclose(large.contrast("time").stat, one.contrast("time").stat, rtol=1e-4)


def test_sleepstudy_is_lme4s(agree):
    sleep = ranef.data.load("sleepstudy")
    Y = np.column_stack([sleep["Reaction"], sleep["Reaction"] * 2 + 1])
    found = imaging.lmm("Reaction ~ Days + (Days | Subject)", sleep, outcomes=Y)
    # lme4 1.1-31: logLik -871.8141, sigma 25.5918, SD 24.7407 and 5.9221, correlation 0.0656;
    # lmerTest 3.1-3: df 17 and 17, t 36.838 and 6.771
    sds = np.sqrt(np.diagonal(found.covariance[:, :, 0]))
    for name, ours, theirs, peer, atol in (
        ("log-likelihood", found.loglik[0], -871.8141, "lme4 1.1-31", 1e-4),
        ("residual standard deviation", found.sigma[0], 25.5918, "lme4 1.1-31", 1e-4),
        ("standard deviations", sds, [24.7407, 5.9221], "lme4 1.1-31", 1e-3),
        ("t of Days", found.contrast("Days").stat[0], 6.771, "lmerTest 3.1-3", 1e-3),
        ("Satterthwaite's df", found.df[:, 0], [17.0, 17.0], "lmerTest 3.1-3", 1e-2),
    ):
        agree("imaging.lmm", f"{name}, sleepstudy", ours, theirs, peer=peer, atol=atol)
    assert found.sigma[1] == pytest.approx(2 * found.sigma[0], rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "changes", "message"),
    [
        ("y ~ time + (1 | subject) + (1 | group)", {}, "2 random terms"),
        ("y ~ time + ar1(0 + factor(time) | subject)", {}, "unstructured"),
        ("y ~ time", {}, "random"),
        ("y ~ time + (time | subject)", {"response": "z"}, "has the response 'y'"),
        ("y ~ tme + (1 | subject)", {}, "did you mean 'time'"),
        ("y ~ time + (1 | subject)", {"outcomes": np.ones((3, 2))}, "3 rows"),
        ("y ~ time + (1 | subject)", {"outcomes": None}, "outcomes= is missing"),
        ("y ~ time + (1 | subject)", {"outcomes": np.full((80, 2), "a")}, "matrix of numbers"),
        ("y ~ time + (1 | subject)", {"df": "kenward"}, "df"),
    ],
)
def test_what_is_wrong_is_said(formula, changes, message):
    table = visits()
    how = {"outcomes": outcomes(table, 2)} | changes
    with pytest.raises((ModelError, DataError, UnknownColumnError), match=message):
        imaging.lmm(formula, table, **how)


def test_images_of_visits():
    nib = pytest.importorskip("nibabel")
    table = visits()
    Y = outcomes(table, 24)
    Y[:, 5] = 0.0
    images = [nib.Nifti1Image(y.reshape(2, 3, 4), np.eye(4)) for y in Y]
    model = imaging.LongitudinalModel("~ time * group + (time | subject)").fit(table, images)
    whole = imaging.lmm(FORMULAS[0], table, outcomes=np.delete(Y, 5, axis=1))
    maps = model.compute_contrast("time", output_type="all")
    inside = model.mask_img_.get_fdata().ravel() > 0
    assert inside.sum() == 23
    np.testing.assert_allclose(
        maps["stat"].get_fdata().ravel()[inside], whole.contrast("time").stat, rtol=1e-9
    )
    F = model.compute_contrast(["time", "time:groupb"], output_type="stat").get_fdata()
    np.testing.assert_allclose(
        F.ravel()[inside], whole.joint(["time", "time:groupb"]).stat, rtol=1e-9
    )
    assert model.get_params()["df"] == "satterthwaite"
    assert repr(model) == "LongitudinalModel('~ time * group + (time | subject)')"
    with pytest.raises(ModelError, match="did you mean 'sigma2'"):
        model.compute_contrast("time", output_type="sigm2")
    with pytest.raises(DataError, match="79 images for 80 rows"):
        model.fit(table, images[1:])
    images[7] = nib.Nifti1Image(Y[7].reshape(4, 3, 2), np.eye(4))
    with pytest.raises(DataError, match="the image of row 7"):
        model.fit(table, images)


def test_a_report_of_repeated_images(tmp_path):
    rng = np.random.default_rng(4)
    visits = pd.DataFrame({"s": np.repeat(np.arange(10), 3), "t": np.tile([0.0, 1.0, 2.0], 10)})
    y = rng.normal(size=(10, 6, 6, 6))[visits.s] + rng.normal(size=(30, 6, 6, 6))
    y[:, :3] += 1.5 * visits.t.to_numpy()[:, None, None, None]
    nib = pytest.importorskip("nibabel")
    images = [nib.Nifti1Image(one, np.diag([4, 4, 4, 1])) for one in y]
    model = imaging.LongitudinalModel("~ t + (1 | s)")
    with pytest.raises(ModelError, match=r"fit\(\) first"):
        model.generate_report()
    model.fit(visits, images)
    found = model.clusters("t").tidy()
    assert len(found) >= 1
    page = model.generate_report({"slope": "t"}, title="Visits")
    path = page.save_as_html(tmp_path / "visits.html")
    text = path.read_text()
    for words in ("Visits", "Contrast: slope", "Residual standard deviation", "~ t + (1 | s)",
                  "Satterthwaite", "every voxel"):  # fmt: skip
        assert words in text
    assert "Contrast: intercept" in str(model.generate_report())
