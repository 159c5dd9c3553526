"""Many voxels: the core beside its NumPy twin, closed forms, brute force and all flips."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage, sparse, stats

import ranef
from ranef import _core, imaging
from ranef.errors import DataError, ModelError
from ranef.solve.synthesis.between import between
from ranef.solve.synthesis.studies import Studies

METHODS = ("reml", "ml", "dl", "he", "hs", "sj", "pm", "fe")


def brains(K=24, N=60, seed=0, missing=0.0, kind=np.float64):
    rng = np.random.default_rng(seed)
    V = np.exp(0.66 * rng.normal(size=(K, 1)) + 0.3 * rng.normal(size=(K, N)))
    tau2 = np.where(rng.uniform(size=N) < 0.25, 0.0, rng.exponential(size=N))
    Y = 0.3 + rng.normal(size=(K, N)) * np.sqrt(V + tau2)
    Y[rng.uniform(size=Y.shape) < missing] = np.nan
    return Y.astype(kind), V.astype(kind), rng.normal(size=(K, 3))


def mixed_units(K=15, N=120, seed=3):
    rng = np.random.default_rng(seed)
    V = 10.0 ** rng.uniform(-3, 4, (K, 1)) * np.exp(0.3 * rng.normal(size=(K, N)))
    size = np.sqrt(V + 10.0 ** rng.uniform(-3, 3, (1, N)))
    return rng.normal(size=(K, N)) * size * 10.0 ** rng.uniform(-1, 1, (K, 1)), V


def twin(y, v, X, method):
    """One voxel by the functions of arrays that `ranef.meta` uses."""
    there = np.isfinite(y) & np.isfinite(v) & (v > 0)
    studies = Studies(y[there].astype(float), v[there].astype(float), X[there])
    found = between(studies, method)
    return studies, found, studies.at(found.tau2)


def compared(fit, Y, V, X, method):
    for i in range(Y.shape[1]):
        studies, found, at = twin(Y[:, i], V[:, i], X, method)
        unit = max(found.tau2, float(studies.v.min()))
        assert abs(fit.tau2[i] - found.tau2) <= 1e-9 * unit
        assert fit.n[i] == studies.n
        np.testing.assert_allclose(fit.beta[:, i], at.beta, rtol=1e-8, atol=1e-10 * unit**0.5)
        error = np.sqrt(np.diag(at.bread) * max(1.0, at.q / studies.df))
        np.testing.assert_allclose(fit.std_error[:, i], error, rtol=1e-8)
        np.testing.assert_allclose(fit.q[i], studies.moments(np.zeros(1)).q1[0], rtol=1e-8)
        if method in ("reml", "ml"):
            assert fit.maxima[i] == len(found.maxima)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("p", [1, 2, 4])
def test_voxels_are_those_of_the_twin(method, p):
    Y, V, columns = brains(missing=0.1)
    X = np.column_stack([np.ones(len(Y)), columns])[:, :p]
    compared(imaging.mixed_effects(Y, V, X, method=method), Y, V, X, method)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_the_optimum_is_the_global_one_where_units_are_mixed(method):
    Y, V = mixed_units()
    X = np.ones((len(Y), 1))
    fit = imaging.mixed_effects(Y, V, X, method=method)
    compared(fit, Y, V, X, method)
    assert (fit.maxima > 1).mean() > 0.05
    grid = np.append(0.0, np.geomspace(1e-5, 1e7, 3000))
    for i in range(0, Y.shape[1], 7):
        studies, found, _ = twin(Y[:, i], V[:, i], X, method)
        values = studies.moments(grid).loglik(method == "reml", studies.n, 1)
        assert found.logliks.max() >= values.max() - 1e-9


def test_float32_is_read_as_it_is_and_summed_in_float64():
    Y, V, _ = brains(kind=np.float32)
    X = np.ones((len(Y), 1))
    single = imaging.mixed_effects(Y, V, X)
    double = imaging.mixed_effects(Y.astype(float), V.astype(float), X)
    np.testing.assert_array_equal(single.tau2, double.tau2)


def test_any_number_of_threads_gives_the_same_bits():
    Y, V, _ = brains(N=2500, K=8)
    X = np.ones((8, 1))
    one, two = (imaging.mixed_effects(Y, V, X, n_jobs=k) for k in (1, 2))
    np.testing.assert_array_equal(one.tau2, two.tau2)
    np.testing.assert_array_equal(one.std_error, two.std_error)


def test_equal_variances_give_the_ordinary_t_test():
    rng = np.random.default_rng(5)
    Y = rng.normal(0.3, 1.0, (14, 30))
    X = np.column_stack([np.ones(14), rng.normal(size=14)])
    fit = imaging.mixed_effects(Y, np.full(Y.shape, 0.01), X, df="knapp-hartung")
    contrast = fit.contrast([0, 1])
    beta, rss, *_ = np.linalg.lstsq(X, Y, rcond=None)
    error = np.sqrt(rss / 12 * np.linalg.inv(X.T @ X)[1, 1])
    np.testing.assert_allclose(contrast.stat, beta[1] / error, rtol=1e-7)
    np.testing.assert_allclose(contrast.p_value, 2 * stats.t.sf(abs(beta[1] / error), 12))
    z = stats.norm.isf(stats.t.sf(beta[1] / error, 12))
    np.testing.assert_allclose(contrast.z_score, z, rtol=1e-6)


def test_fixed_effects_are_precision_weighted():
    Y, V, _ = brains()
    fit = imaging.mixed_effects(Y, V, np.ones((len(Y), 1)), method="fe", df="normal")
    w = 1 / V
    np.testing.assert_allclose(fit.beta[0], (w * Y).sum(0) / w.sum(0), rtol=1e-10)
    np.testing.assert_allclose(fit.std_error[0], w.sum(0) ** -0.5, rtol=1e-10)


def test_z_scores_hold_far_in_the_tail():
    Y = np.array([[1.0], [1.0001], [0.9999], [1.0002]])
    fit = imaging.mixed_effects(Y, np.full((4, 1), 1e-8), np.ones((4, 1)), df="normal")
    contrast = fit.contrast([1.0])
    assert contrast.p_value[0] == 0
    np.testing.assert_allclose(contrast.z_score, contrast.stat, rtol=1e-6)


def test_voxels_without_enough_subjects_have_no_fit():
    Y, V, columns = brains(K=6, N=5)
    Y[2:, 0] = np.nan
    V[:, 1] = 0.0
    V[0, 2] = np.inf
    Y[:, 3] = 0.25
    X = np.column_stack([np.ones(6), columns[:, 0]])
    X[:, 1] = [1, 0, 0, 0, 0, 0]
    Y[0, 4] = np.nan  # without the first, the second column is nothing
    fit = imaging.mixed_effects(Y, V, X, df="knapp-hartung")
    assert fit.n.tolist() == [2, 0, 5, 6, 5]
    assert np.isnan(fit.tau2[[0, 1, 2, 4]]).all()
    assert fit.tau2[3] == 0
    contrast = fit.contrast([1.0, 0.0])
    assert np.isnan(contrast.p_value).all()  # equal effects are no evidence without end
    assert fit.residual_variance_is_zero.tolist() == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("Y", "V", "X", "message"),
    [
        (np.ones((4, 2)), np.ones((4, 3)), np.ones((4, 1)), "must agree"),
        (np.ones(4), np.ones(4), np.ones((4, 1)), "matrix of numbers"),
        (np.full((4, 2), "a"), np.ones((4, 2)), np.ones((4, 1)), "matrix of numbers"),
        (np.ones((4, 2)), np.ones((4, 2)), np.ones((3, 1)), "4 subjects"),
        (np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 2)), "determined by those before it"),
        (np.ones((4, 2)), np.ones((4, 2)), np.full((4, 1), np.nan), "missing or infinite"),
        (np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 1)), "1 subjects are too few"),
        (np.ones((9, 2)), np.ones((9, 2)), np.ones((9, 9)), "1 to 8"),
    ],
)
def test_what_is_wrong_is_said(Y, V, X, message):
    with pytest.raises((DataError, ModelError), match=message):
        imaging.mixed_effects(Y, V, X)


def test_arguments_are_checked():
    Y, V, _ = brains(K=5, N=3)
    X = np.ones((5, 1))
    with pytest.raises(ModelError, match="did you mean 'reml'"):
        imaging.mixed_effects(Y, V, X, method="remll")
    with pytest.raises(ModelError, match="weights"):
        imaging.mixed_effects(Y, V, X).contrast([1.0, 2.0])
    with pytest.raises(ModelError, match="not both"):
        imaging.sign_flips(Y, V, X, mask=np.ones((3, 1, 1)), adjacency=[[0, 1]])
    with pytest.raises(ModelError, match="3 voxels inside"):
        imaging.sign_flips(Y, V, X, mask=np.ones((4, 1, 1)))
    with pytest.raises(ValueError, match="float32"):
        _core.mixed_effects(Y.astype(np.float32), V, X, "reml", 1)


# --- permutations


def test_all_flips_are_those_of_meta():
    Y, V, _ = brains(K=7, N=9)
    X = np.ones((7, 1))
    found = imaging.sign_flips(Y, V, X, n_perm="exact", df="normal", n_jobs=2)
    assert found.exact
    assert len(found.max_t) == 128
    every = np.array(list(itertools.product([1.0, -1.0], repeat=7)))
    maps = []
    for signs in every:
        fit = imaging.mixed_effects(Y * signs[:, None], V, X, df="normal")
        maps.append(np.abs(fit.contrast([1.0]).stat))
    maps = np.array(maps)
    observed = np.abs(imaging.mixed_effects(Y, V, X, df="normal").contrast([1.0]).stat)
    p = (maps >= observed - 1e-9).mean(axis=0)
    np.testing.assert_allclose(found.p_value, p)
    corrected = (maps.max(axis=1)[:, None] >= observed - 1e-9).mean(axis=0)
    np.testing.assert_allclose(10**-found.logp_max_t, corrected)
    one = ranef.meta("y ~ 1", {"y": Y[:, 0]}, variance=V[:, 0], df="normal").permutation_test()
    np.testing.assert_allclose(one.p_value[0], p[0])


def test_flips_with_a_covariate_keep_what_is_not_tested():
    Y, V, columns = brains(K=10, N=20, seed=8)
    X = np.column_stack([np.ones(10), columns[:, 0]])
    found = imaging.sign_flips(Y, V, X, [0.0, 1.0], n_perm=64, rng=1)
    fit = imaging.mixed_effects(Y, V, X)
    np.testing.assert_allclose(found.t, fit.contrast([0.0, 1.0]).stat, rtol=1e-8)
    shifted = imaging.sign_flips(Y + 5, V, X, [0.0, 1.0], n_perm=64, rng=1)
    np.testing.assert_allclose(found.max_t, shifted.max_t, rtol=1e-6)
    again = imaging.sign_flips(Y, V, X, [0.0, 1.0], n_perm=64, rng=1, n_jobs=2)
    np.testing.assert_array_equal(found.max_t, again.max_t)


def test_blocks_flip_together_and_one_side_counts_one():
    Y, V, _ = brains(K=8, N=6)
    X = np.ones((8, 1))
    found = imaging.sign_flips(Y, V, X, n_perm="exact", blocks=[0, 0, 1, 1, 2, 2, 3, 3])
    assert len(found.max_t) == 16
    upper = imaging.sign_flips(Y, V, X, n_perm="exact", two_sided=False)
    lower = imaging.sign_flips(-Y, V, X, n_perm="exact", two_sided=False)
    assert ((upper.p_value + lower.p_value) >= 1 - 1e-12).all()
    with pytest.raises(ModelError, match="one label for each of the 8"):
        imaging.sign_flips(Y, V, X, blocks=[1, 2])
    with pytest.raises(ModelError, match=r"2\^21"):
        imaging.sign_flips(np.ones((21, 1)), np.ones((21, 1)), np.ones((21, 1)), n_perm="exact")


def test_enhanced_maps_are_tested_by_their_largest_value():
    mask = np.ones((3, 2, 2), dtype=bool)
    Y, V, _ = brains(K=6, N=12)
    found = imaging.sign_flips(Y + 0.5, V, np.ones((6, 1)), n_perm="exact", mask=mask)
    volume = found.t.reshape(mask.shape)
    np.testing.assert_allclose(found.tfce, imaging.tfce(volume).ravel())
    assert found.max_tfce[0] == np.abs(found.tfce).max()
    share = (found.max_tfce >= found.max_tfce[0] - 1e-9).mean()
    np.testing.assert_allclose(10 ** -found.logp_max_tfce.max(), share)


# --- enhancement


def by_steps(volume, steps):
    """The definition, by many heights."""
    out = np.zeros(volume.shape)
    dh = volume.max() / steps
    for k in range(steps):
        h = (k + 0.5) * dh
        labels, _ = ndimage.label(volume > h)
        sizes = np.bincount(labels.ravel())
        out += np.where(labels > 0, np.sqrt(sizes[labels]) * h**2 * dh, 0.0)
    return out


def test_two_voxels_have_their_closed_form():
    out = imaging.tfce(np.array([[[2.0, 1.0]]]))
    np.testing.assert_allclose(out.ravel(), [7 / 3 + np.sqrt(2) / 3, np.sqrt(2) / 3], rtol=1e-14)
    np.testing.assert_allclose(out.ravel(), [2.804738, 0.471405], atol=1e-6)


def test_enhancement_is_the_limit_of_steps_and_scales_as_a_cube():
    rng = np.random.default_rng(4)
    volume = ndimage.gaussian_filter(rng.normal(size=(9, 8, 7)), 1.0)
    volume /= np.abs(volume).max()
    exact = imaging.tfce(volume, two_sided=False)
    np.testing.assert_allclose(exact, by_steps(np.maximum(volume, 0), 4000), atol=2e-3)
    np.testing.assert_allclose(imaging.tfce(3 * volume, two_sided=False), 27 * exact, atol=1e-12)
    both = imaging.tfce(volume)
    np.testing.assert_allclose(both, exact - imaging.tfce(-volume, two_sided=False))


def test_ties_plateaus_and_order_do_not_matter():
    volume = np.round(np.random.default_rng(6).uniform(0, 4, (6, 5, 4)))
    exact = imaging.tfce(volume)
    np.testing.assert_allclose(exact, imaging.tfce(volume[::-1])[::-1], rtol=1e-12)
    np.testing.assert_allclose(exact, by_steps(volume, 4000), rtol=2e-3, atol=1e-3)


def test_an_infinite_statistic_does_not_ruin_the_map():
    volume = np.zeros((4, 4, 4))
    volume[0, 0, :] = [np.inf, 2.0, 1.0, 0.5]
    volume[3, 3, :2] = 2.0
    out = imaging.tfce(volume)
    assert np.isinf(out[0, 0, 0])
    assert np.isfinite(out[0, 0, 1:]).all()
    calm = volume.copy()
    calm[0, 0, 0] = 2.0
    np.testing.assert_allclose(out[0, 0, 1:], imaging.tfce(calm)[0, 0, 1:])
    np.testing.assert_allclose(out[3, 3, 0], np.sqrt(2) * 8 / 3)


def test_a_surface_is_a_graph():
    values = np.array([2.0, 1.0, -1.0, np.nan])
    pairs = [[0, 1], [1, 2], [2, 3]]
    found = imaging.tfce(values, adjacency=np.array(pairs))
    np.testing.assert_allclose(found[:2], imaging.tfce(np.array([[[2.0, 1.0]]])).ravel())
    np.testing.assert_allclose(found[2:], [-1 / 3, 0.0])
    graph = sparse.coo_array((np.ones(3), np.array(pairs).T), shape=(4, 4))
    np.testing.assert_array_equal(found, imaging.tfce(values, adjacency=graph))


def test_masks_cut_neighbours():
    volume = np.full((3, 1, 1), 1.0)
    mask = np.array([True, False, True]).reshape(3, 1, 1)
    np.testing.assert_allclose(imaging.tfce(volume, mask=mask).ravel(), [1 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        (np.ones(3), {}, "three dimensions"),
        (np.ones((2, 2, 2)), {"mask": np.ones((2, 2, 1))}, "mask has shape"),
        (np.ones(3), {"adjacency": [[0, 5]]}, "outside 0 to 2"),
        (np.ones(3), {"adjacency": sparse.eye_array(4)}, "there are 3 places"),
        (np.ones((1, 1, 2)), {"E": -1.0}, "between 0 and 10"),
    ],
)
def test_wrong_maps_are_refused(values, how, message):
    with pytest.raises((DataError, ModelError), match=message):
        imaging.tfce(values, **how)


@pytest.mark.parametrize("df", ["knapp-hartung-conservative", "knapp-hartung", "normal"])
def test_flips_of_several_contrasts_are_refits_tested_by_f(df):
    rng = np.random.default_rng(12)
    K, N = 7, 30
    V = rng.uniform(0.3, 3.0, (K, N))
    X = np.column_stack([np.ones(K), rng.normal(size=(K, 2))])
    Y = rng.normal(size=(K, N)) * np.sqrt(V + 0.4) + X[:, 1:2] * np.where(np.arange(N) < 5, 2, 0)
    C = np.array([[0.0, 1.0, 0.0], [0.0, 0.5, -1.0]])
    found = imaging.sign_flips(Y, V, X, C, n_perm="exact", df=df)
    np.testing.assert_allclose(
        found.t, imaging.mixed_effects(Y, V, X, df=df).joint(C).stat, rtol=1e-7
    )
    base = np.ones((K, 1)) @ imaging.mixed_effects(Y, V, np.ones((K, 1))).beta
    every = np.array([
        imaging.mixed_effects(base + signs[:, None] * (Y - base), V, X, df=df).joint(C).stat
        for signs in 1.0 - 2 * ((np.arange(2**K)[:, None] >> np.arange(K)) & 1)
    ])  # fmt: skip
    p = np.mean(every >= found.t * (1 - 1e-7), axis=0)
    np.testing.assert_allclose(found.p_value, p, atol=1e-12)
    np.testing.assert_allclose(np.sort(found.max_t), np.sort(every.max(axis=1)), rtol=1e-7)
    whole = imaging.sign_flips(Y, V, X, np.eye(3), n_perm=16, df=df, rng=1)
    np.testing.assert_allclose(
        whole.t, imaging.mixed_effects(Y, V, X, df=df).joint(np.eye(3)).stat, rtol=1e-7
    )


def test_voxels_of_the_bcg_trials_are_metafors(agree):
    table = ranef.effect_sizes(
        "RR", ranef.data.load("bcg"), ai="tpos", bi="tneg", ci="cpos", di="cneg"
    )
    y, v = (np.asarray(table[name], dtype=float) for name in ("yi", "vi"))
    Y, V = np.column_stack([y, -y, 2 * y]), np.column_stack([v, v, 4 * v])
    known = {  # metafor 3.8-1, REML and DL, test="knha", threshold 1e-12
        "reml": (0.31324326, -0.71453234, 0.18079174),
        "dl": (0.30876026, -0.71411722, 0.18069663),
    }
    for method, (tau2, mean, error) in known.items():
        fit = imaging.mixed_effects(Y, V, np.ones((13, 1)), method=method, df="knapp-hartung")
        for name, ours, theirs in (
            ("tau^2", fit.tau2, [tau2, tau2, 4 * tau2]),
            ("mean", fit.beta[0], [mean, -mean, 2 * mean]),
            ("standard error", fit.std_error[0], [error, error, 2 * error]),
        ):
            agree("imaging.mixed_effects", f"{name}, bcg {method}", ours, theirs,
                  peer="metafor 3.8-1", rtol=1e-7)  # fmt: skip


def test_enhancement_is_the_limit_of_nilearns_steps(agree):
    utils = pytest.importorskip("nilearn.mass_univariate._utils")
    rng = np.random.default_rng(6)
    values = ndimage.gaussian_filter(rng.normal(size=(12, 11, 10)), 1.2)
    values = 3 * values / np.abs(values).max()
    structure = ndimage.generate_binary_structure(3, 1)
    step = 3.1e-3
    theirs = utils.calculate_tfce(values[..., None], structure, dh=step, two_sided_test=True)
    theirs = step * np.asarray(theirs).reshape(values.shape)  # its sum is not times the step
    ours = imaging.tfce(values, two_sided=True)
    far = np.abs(ours) > 0.1 * np.abs(ours).max()
    agree("imaging.tfce", "map of 12 x 11 x 10, steps of 0.0031", ours[far], theirs[far],
          peer="nilearn (calculate_tfce)", rtol=6e-3)  # fmt: skip
