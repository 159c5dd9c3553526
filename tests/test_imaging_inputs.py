"""What groups of images are given by mistake: headers, labels, blocks, grids."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from ranef import imaging
from ranef.errors import DataError, DataWarning, FileError, ModelError, UnknownColumnError

nib = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SHAPE = (4, 3, 5)
LABELS = [f"sub-{k:02d}" for k in range(1, 9)]


def image(values):
    return nib.Nifti1Image(np.asarray(values).astype("float32"), AFFINE)


@pytest.fixture
def numbers():
    rng = np.random.default_rng(4)
    v = rng.uniform(0.5, 2.0, (8, *SHAPE))
    return 0.4 + rng.normal(size=v.shape) * np.sqrt(v + 0.2), v


@pytest.fixture
def table(numbers):
    y, v = numbers
    return pd.DataFrame({"subject_label": LABELS, "effects_map_path": [image(one) for one in y],
                         "variance_map_path": [image(one) for one in v]})  # fmt: skip


def fitted(table, **settings):
    return imaging.MixedEffectsSecondLevel(**settings).fit(table)


def test_a_header_with_two_grids_is_said_and_its_sform_used(table, numbers):
    turned = image(numbers[0][2])
    other = AFFINE.copy()
    other[1, 3] += 5
    turned.set_sform(AFFINE, code=1)
    turned.set_qform(other, code=1)
    given = table.copy()
    given.at[2, "effects_map_path"] = turned
    with pytest.warns(
        DataWarning, match=r"effect of subject 'sub-03'.*up to 5 mm apart; the sform"
    ):
        found = fitted(given).compute_contrast()
    np.testing.assert_array_equal(found.get_fdata(), fitted(table).compute_contrast().get_fdata())
    turned.set_qform(AFFINE + np.diag([0, 0, 0, 0]), code=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        fitted(given)


def test_one_image_in_memory_for_two_subjects_is_refused_without_its_header(table):
    given = table.copy()
    given.at[3, "variance_map_path"] = given.at[2, "variance_map_path"]
    with pytest.raises(DataError, match=r"'sub-04' and .* 'sub-03' are one image in memory$"):
        fitted(given)


def test_labels_that_lost_their_zeros_are_said(table):
    people = pd.DataFrame({"participant_id": range(1, 9), "age": np.arange(8.0)})
    model = imaging.MixedEffectsSecondLevel(formula="~ age")
    with pytest.raises(DataError, match=r"lost their zeros, read the column as text"):
        model.fit(table.assign(subject_label=[one[4:] for one in LABELS]), table=people)


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(FileError, match="no file or folder"):
        imaging.MixedEffectsSecondLevel().fit("subjects")
    with pytest.raises(ModelError, match="no subjects"):
        fitted(pd.DataFrame({"subject_label": [], "effects_map_path": [],
                             "variance_map_path": []}))  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), [
    ({"target_affine": np.ones((3, 3))}, "singular"),
    ({"target_affine": np.ones((2, 2))}, "3 x 3 or 4 x 4"),
    ({"target_affine": "2mm"}, "3 x 3 or 4 x 4"),
    ({"verbose": "much"}, "verbose is a whole number"),
    ({"memory_level": None}, "memory_level is a whole number"),
    ({"memory": 3}, "path"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(table, settings, message):
    with pytest.raises((ModelError, FileError), match=message):
        fitted(table, **settings)


def test_resampling_speaks_of_no_binary_images(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fitted(table, target_affine=np.diag([4.0, 4.0, 4.0]))
    assert found.n_elements_ > 0


def test_blocks_that_hold_everything_or_are_missing_are_refused(table):
    model = fitted(table)
    with pytest.raises(ModelError, match=r"all subjects are in one block.*within=True"):
        model.permutation_test(n_perm=8, blocks=[1] * 8)
    with pytest.raises(ModelError, match="block of a subject is missing"):
        model.permutation_test(n_perm=8, blocks=[1.0, np.nan] * 4)
    inside = model.permutation_test(n_perm="exact", blocks=[1] * 8, within=True)
    free = model.permutation_test(n_perm="exact")
    np.testing.assert_array_equal(inside["p"].get_fdata(), free["p"].get_fdata())


def test_visits_find_their_images_and_bring_one_each(numbers, tmp_path):
    paths = []
    for k, one in enumerate(numbers[0]):
        nib.save(image(one), tmp_path / f"{k}.nii.gz")
        paths.append(str(tmp_path / f"{k}.nii.gz"))
    visits = pd.DataFrame({"s": np.repeat(list("abcd"), 2), "t": [0.0, 1.0] * 4, "scan": paths})
    model = imaging.LongitudinalModel("scan ~ t + (1 | s)")
    found = model.fit(visits).compute_contrast("t")
    again = imaging.LongitudinalModel("~ t + (1 | s)").fit(visits, images="scan")
    np.testing.assert_array_equal(found.get_fdata(), again.compute_contrast("t").get_fdata())
    with pytest.raises(UnknownColumnError, match=r"neither 'image', the response .* give images="):
        imaging.LongitudinalModel("image ~ t + (1 | s)").fit(visits)
    visits.loc[3, "scan"] = paths[2]
    with pytest.raises(DataError, match=r"row 3 and the image of row 2 are one image: .*2"):
        model.fit(visits)


def test_complex_maps_are_not_enhanced():
    with pytest.raises(DataError, match="complex128, not real"):
        imaging.tfce(np.ones((2, 2, 2), dtype=complex))
