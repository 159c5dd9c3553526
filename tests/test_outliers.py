"""Outliers: a mixture of a population and subjects far from it, of studies and of voxels."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import ranef
from ranef import imaging
from ranef.errors import ModelError
from ranef.solve.synthesis.outliers import Effects, likeliest_mixture, voxelwise

METAPLUS = "metaplus, R Journal 8 (2016), p. 5"
MAGNESIUM = pd.DataFrame({  # Egger et al. 2001; Sterne et al. 2001
    "study": ["Morton", "Rasmussen", "Smith", "Abraham", "Feldstedt", "Shechter 1989",
              "Ceremuzynski", "Bertschat", "Singh", "Pereira", "Shechter 1991", "Golf",
              "Thogersen", "LIMIT-2", "Shechter 1995", "ISIS-4"],
    "ai": [1, 9, 2, 1, 10, 1, 1, 0, 6, 1, 2, 5, 4, 90, 4, 2216],
    "n1": [40, 135, 200, 48, 150, 59, 25, 22, 76, 27, 89, 23, 130, 1159, 107, 29011],
    "ci": [2, 23, 7, 1, 8, 9, 3, 1, 11, 7, 12, 13, 8, 118, 17, 2103],
    "n2": [36, 135, 200, 46, 148, 56, 23, 21, 75, 27, 80, 33, 122, 1157, 108, 29039],
})  # fmt: skip


def density(y, v, X, parameters):
    """Minus the log-likelihood, written down plainly."""
    p = X.shape[1]
    b, (t, more, share) = parameters[:p], parameters[p:]
    e = y - X @ b
    low = (1 - share) * norm.pdf(e, scale=np.sqrt(v + t))
    high = share * norm.pdf(e, scale=np.sqrt(v + t + more))
    return -np.log(np.maximum(low + high, 1e-300)).sum()


def far_studies(seed, n=18, p=2):
    rng = np.random.default_rng(seed)
    v, X = rng.uniform(0.02, 0.3, n), np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    y = 0.3 + rng.normal(size=n) * np.sqrt(v + 0.03)
    y[[3, 11]] += [3.0, -2.5]
    return y, v, X


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_is_the_maximum_of_its_likelihood(seed):
    y, v, X = far_studies(seed)
    data = Effects.of(y[:, None], v[:, None], X)
    found = likeliest_mixture(data, 0.5)
    at = np.concatenate(
        [found.beta[:, 0], found.tau2, found.omega2 - found.tau2, found.share]
    )  # fmt: skip
    assert abs(-density(y, v, X, at) - found.loglik[0]) < 1e-9
    rng, best = np.random.default_rng(seed), np.inf
    bounds = [(None, None)] * 2 + [(0, None), (0, None), (0, 0.5)]
    for _ in range(10):
        start = np.concatenate([rng.normal(size=2), rng.exponential(size=2), [0.1]])
        best = min(best, minimize(lambda a: density(y, v, X, a), start, bounds=bounds).fun)
    assert found.loglik[0] > -best - 1e-6


def test_magnesium_has_none_as_metaplus_says(agree):
    table = ranef.effect_sizes("OR", MAGNESIUM, ai="ai", n1i="n1", ci="ci", n2i="n2")
    found = ranef.meta("yi ~ 1", table, variance="vi", study="study").outliers(n=50, rng=1)
    models, ends = found.listing("models").table, found.listing("coefficients").table
    for name, ours, theirs, atol in (
        ("mean by the mixture", found.mixture.beta[0, 0], -0.7463147, 1e-5),
        ("tau^2", found.mixture.tau2[0], 0.2539981, 1e-5),
        ("log-likelihood", found.mixture.loglik[0], -19.68459, 1e-5),
        ("AIC of both models", models["aic"], [43.36918, 47.36918], 1e-5),
        ("BIC of both models", models["bic"], [44.91436, 50.45954], 1e-5),
        ("profile interval", [ends["conf_low"][0], ends["conf_high"][0]], [-1.2583, -0.3428], 6e-4),
        ("p of the mean", ends["p_value"][0], 0.000501, 1e-6),
    ):  # fmt: skip
        agree("fit.outliers()", f"{name}, magnesium", ours, theirs, peer=METAPLUS, atol=atol)
    assert found.statistic == 0
    assert found.p_value == 1
    assert not found.probability.any()


def test_studies_far_from_the_others_are_named_and_weighed_down():
    y, v, X = far_studies(5)
    table = pd.DataFrame({"y": y, "v": v, "x": X[:, 1]})
    fit = ranef.meta("y ~ x", table, variance="v")
    found = fit.outliers(n=99, rng=2)
    rows = found.tidy()
    assert set(np.flatnonzero(rows.probability > 0.9)) == {3, 11}
    assert (rows.weight[[3, 11]] < rows.weight_before[[3, 11]] / 5).all()
    assert found.bic_difference < -5
    assert found.p_value < 0.03
    ends = found.listing("coefficients").table
    one, both = ({k: ends[k][rows] for k in ends} for rows in (slice(0, 2), slice(2, 4)))
    assert (both["conf_high"] - both["conf_low"] < one["conf_high"] - one["conf_low"]).all()
    assert "More likely outliers than not: 4, 12" in str(found)
    # the ends of the interval are where the likelihood has fallen by half a quantile
    n, bounds = len(y), [(None, None), (0, None), (0, None), (0, 0.5)]
    for end in (both["conf_low"][0], both["conf_high"][0]):
        top = min(
            minimize(
                lambda a, e=end: density(y, v, X, np.concatenate([[e], a])),
                [0.0, 0.01 * k, 2.0, 2 / n], bounds=bounds,
            ).fun
            for k in range(4)
        )  # fmt: skip
        assert abs(2 * (found.mixture.loglik[0] + top) - 3.841459) < 1e-3


def test_too_few_studies_and_dependent_effects_are_refused():
    table = {"y": [0.1, 0.2, 0.4], "v": [0.1, 0.2, 0.1], "s": ["a", "a", "b"]}
    with pytest.raises(ModelError, match="at least 4 studies"):
        ranef.meta("y ~ 1", table, variance="v").outliers()
    nested = ranef.meta("y ~ 1 + (1 | s)", {**table}, variance="v")
    with pytest.raises(ModelError, match="independent studies"):
        nested.outliers()


@pytest.fixture(scope="module")
def voxels():
    rng = np.random.default_rng(11)
    K, N = 16, 600
    V = np.exp(0.6 * rng.normal(size=(K, 1))) * rng.uniform(0.5, 1.5, (K, N))
    Y = rng.normal(size=V.shape) * np.sqrt(V + 0.3)
    Y[4, :300] += 9 * np.sqrt(V[4, :300] + 0.3)
    Y[7, ::50] = np.nan
    return Y, V


def test_searches_of_voxels_find_what_every_start_finds(voxels):
    Y, V = voxels
    X = np.ones((len(Y), 1))
    plain = imaging.mixed_effects(Y, V, X, method="ml")
    data = Effects.of(Y, V, X)
    found, gain = voxelwise(data, plain.beta, plain.tau2)
    for i in range(0, 300, 15):
        alone = likeliest_mixture(data.take(np.array([i])), plain.tau2[i])
        assert found.loglik[i] > alone.loglik[0] - 1e-4
    assert (gain[:300] > np.log(15)).mean() > 0.9


def test_outliers_of_voxels(voxels):
    Y, V = voxels
    X = np.ones((len(Y), 1))
    plain, fit = imaging.mixed_effects(Y, V, X), imaging.mixed_effects(Y, V, X, outliers=True)
    chosen = fit.outlier_probability.any(axis=0)
    assert chosen[:300].mean() > 0.9
    assert chosen[300:].mean() < 0.03
    assert (fit.outlier_probability[4, :300][chosen[:300]] > 0.95).mean() > 0.95
    assert abs(fit.beta[0, :300]).mean() < 0.6 * abs(plain.beta[0, :300]).mean()
    same = ~chosen
    for name in ("beta", "std_error", "tau2", "df"):
        np.testing.assert_allclose(
            getattr(fit, name)[..., same], getattr(plain, name)[..., same], rtol=1e-9, atol=1e-12
        )
    np.testing.assert_allclose(fit.df, plain.n - 1 - fit.outliers, rtol=1e-6)
    assert not fit.outlier_probability[7, ::50].any()
    with pytest.raises(ModelError, match="fit with outliers=True"):
        _ = plain.outliers


def test_a_group_of_images_with_outliers(voxels, tmp_path):
    Y, V = (one.reshape(16, 6, 10, 10).astype(np.float32) for one in voxels)
    image = lambda values: nib.Nifti1Image(values, np.diag([3, 3, 3, 1]))  # noqa: E731
    labels = [f"s{k}" for k in range(16)]
    model = imaging.MixedEffectsSecondLevel(outliers=True, min_subjects=10)
    model.fit([image(y) for y in Y], variances=[image(v) for v in V], subject=labels)
    maps = model.outlier_maps()
    assert list(maps) == labels
    assert maps["s4"].get_fdata()[:3].mean() > 0.85
    number = model.compute_contrast(output_type="outliers").get_fdata()
    np.testing.assert_allclose(number, sum(m.get_fdata() for m in maps.values()), rtol=1e-5)
    assert "outliers" in model.compute_contrast(output_type="all")
    people = model.subjects().tidy().set_index("subject_label")
    assert people.outlier_probability.idxmax() == "s4"
    weights = model.weights().set_index("subject_label").mean_weight
    assert np.isclose(weights.sum(), 1)
    plain = imaging.MixedEffectsSecondLevel(min_subjects=10)
    plain.fit([image(y) for y in Y], variances=[image(v) for v in V], subject=labels)
    assert weights["s4"] < 0.7 * plain.weights().set_index("subject_label").mean_weight["s4"]
    assert model.compare().found["ME"].effect.shape == (600,)
    assert "mixture of two" in str(model.generate_report())
    with pytest.raises(ModelError, match="without outliers="):
        model.permutation_test(n_perm=8)
    with pytest.raises(ModelError, match="fit with outliers=True"):
        plain.outlier_maps()
    with pytest.raises(ModelError, match="fit with outliers=True"):
        plain.compute_contrast(output_type="outliers")


def test_groups_of_variances_look_for_their_own_outliers(voxels):
    Y, V = (one[:, :100].reshape(16, 5, 5, 4).astype(np.float32) for one in voxels)
    image = lambda values: nib.Nifti1Image(values, np.eye(4))  # noqa: E731
    groups = np.repeat([1, 2], 8)
    model = imaging.MixedEffectsSecondLevel(outliers=True, min_subjects=12)
    X = np.column_stack([groups == 1, groups == 2]).astype(float)
    model.fit([image(y) for y in Y], variances=[image(v) for v in V], design_matrix=X,
              variance_groups=groups)  # fmt: skip
    probability = np.array([m.get_fdata().mean() for m in model.outlier_maps().values()])
    assert probability.argmax() == 4


@pytest.mark.parametrize("scale", [1e-40, 1e-9, 1e40])
def test_units_do_not_matter(voxels, scale):
    Y, V = (one[:, 250:350] for one in voxels)
    X = np.ones((len(Y), 1))
    one = imaging.mixed_effects(Y, V, X, outliers=True)
    other = imaging.mixed_effects(Y * scale, V * scale * scale, X, outliers=True)
    np.testing.assert_allclose(other.outlier_probability, one.outlier_probability, atol=1e-5)
    np.testing.assert_allclose(other.beta / scale, one.beta, rtol=1e-4, atol=1e-6)
    y, v, _ = far_studies(2)
    first = ranef.meta("y ~ 1", {"y": y, "v": v}, variance="v").outliers()
    table = {"y": y * scale, "v": v * scale * scale}
    second = ranef.meta("y ~ 1", table, variance="v").outliers()
    np.testing.assert_allclose(second.probability, first.probability, atol=1e-6)
    np.testing.assert_allclose(second.mixture.beta / scale, first.mixture.beta, rtol=1e-5)
    np.testing.assert_allclose(second.intervals[1].low / scale, first.intervals[1].low, rtol=1e-4)
    gap = second.mixture.loglik[0] - first.mixture.loglik[0]
    assert abs(gap + len(y) * np.log(scale)) < 1e-4
