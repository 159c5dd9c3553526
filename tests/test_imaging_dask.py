"""Work of images by Dask: the numbers of threads."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from ranef import imaging
from ranef.errors import ArgumentError, ModelError

dask = pytest.importorskip("dask")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("dask")
    V = rng.uniform(0.5, 2.0, (9, 6, 6, 6)).astype(np.float32)
    Y = (rng.normal(size=V.shape) * np.sqrt(V + 0.3)).astype(np.float32)
    Y[:, :2] += 1.5
    rows = []
    for k, (y, v) in enumerate(zip(Y, V, strict=True)):
        paths = [folder / f"sub-{k}_{name}.nii.gz" for name in ("effect", "variance")]
        for path, values in zip(paths, (y, v), strict=True):
            nib.save(nib.Nifti1Image(values, np.eye(4)), path)
        rows.append((f"sub-{k}", *map(str, paths), float(k % 3)))
    names = ["subject_label", "effects_map_path", "variance_map_path", "age"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_files_voxels_and_permutations_are_those_of_threads(group, scheduler):
    found = {}
    for n_jobs in (2, "dask"):
        with dask.config.set(scheduler=scheduler):
            model = imaging.MixedEffectsSecondLevel(formula="~ age", n_jobs=n_jobs).fit(group)
            maps = {
                **model.compute_contrast("age", output_type="all"),
                **model.permutation_test("age", n_perm=20, tfce=True, rng=1),
                **model.permutation_test(["intercept", "age"], n_perm=12, threshold=0.05, rng=2),
            }
        found[n_jobs] = {name: one.get_fdata() for name, one in maps.items()}
    for name, one in found[2].items():
        np.testing.assert_array_equal(found["dask"][name], one, err_msg=name)


def test_arrays_and_repeated_measures():
    rng = np.random.default_rng(1)
    V = rng.uniform(0.5, 2.0, (8, 40_000)).astype(np.float32)
    Y = (rng.normal(size=V.shape) * np.sqrt(V)).astype(np.float32)
    X = np.ones((8, 1))
    one, other = (imaging.mixed_effects(Y, V, X, n_jobs=n) for n in (1, "dask"))
    for name in ("beta", "std_error", "tau2", "q"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    table = pd.DataFrame({"s": np.repeat(np.arange(6), 3), "t": np.tile([0.0, 1.0, 2.0], 6)})
    Z = rng.normal(size=(18, 9000))
    one, other = (
        imaging.lmm("y ~ t + (1 | s)", table, outcomes=Z, n_jobs=n) for n in (1, "dask")
    )  # fmt: skip
    np.testing.assert_array_equal(one.beta, other.beta)


def test_other_words_are_refused():
    Y = np.ones((4, 3)) * np.arange(4)[:, None]
    with pytest.raises(ModelError, match="'dask'"):
        imaging.mixed_effects(Y, Y + 1, np.ones((4, 1)), n_jobs="ray")
    with pytest.raises(ArgumentError, match="'rng'"):
        imaging.sign_flips(Y, Y + 1, np.ones((4, 1)), random_state=1)
    with pytest.raises(ArgumentError, match="mask_img"):
        imaging.MixedEffectsSecondLevel(mask=None)
    with pytest.raises(ArgumentError, match="n_perm"):
        imaging.MixedEffectsSecondLevel().permutation_test(n_permutations=10)
