"""Groups of images: nilearn's numbers, subjects by label, files of every kind, hostile ones."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranef
from ranef import imaging
from ranef.errors import DataError, DataWarning, FileError, ModelError

nib = pytest.importorskip("nibabel")
NILEARN = f"nilearn {pytest.importorskip('nilearn').__version__}"

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (5, 6, 4)


def volume(values, affine=AFFINE, kind="float32"):
    return nib.Nifti1Image(np.asarray(values).astype(kind), affine)


def numbers(K=10, seed=1, kind=np.float64):
    rng = np.random.default_rng(seed)
    v = np.exp(0.5 * rng.normal(size=(K, 1, 1, 1))) * rng.uniform(0.5, 2.0, (K, *SHAPE))
    y = 0.5 + rng.normal(size=v.shape) * np.sqrt(v + 0.3)
    return y.astype(kind), v.astype(kind), rng.normal(size=K)


def images(values):
    return [volume(one, kind="float64") for one in values]


@pytest.fixture
def study(tmp_path):
    """Ten subjects on disk, a participants.tsv in another order, with one more."""
    y, v, age = numbers()
    labels = [f"sub-{k:02d}" for k in range(10)]
    rows = []
    for label, effect, variance in zip(labels, y, v, strict=True):
        paths = [tmp_path / f"{label}_{kind}.nii.gz" for kind in ("effect", "variance")]
        for path, values in zip(paths, (effect, variance), strict=True):
            nib.save(volume(values, kind="float64"), path)
        rows.append((label, "task", str(paths[0]), str(paths[1])))
    names = ["subject_label", "map_name", "effects_map_path", "variance_map_path"]
    people = pd.DataFrame({"participant_id": ["sub-99", *labels[::-1]], "age": [0.0, *age[::-1]],
                           "sex": list("fmfmfmfmfmf")})  # fmt: skip
    people.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    return pd.DataFrame(rows, columns=names), tmp_path / "participants.tsv", (y, v, age)


def test_one_voxel_is_meta(study):
    table, people, (y, v, age) = study
    model = imaging.MixedEffectsSecondLevel(formula="~ age", df="knapp-hartung")
    model.fit(table, table=people, subject="participant_id")
    np.testing.assert_allclose(model.design_matrix_["age"], age)
    maps = model.compute_contrast("age", output_type="all")
    fit = ranef.meta("y ~ age", {"y": y[:, 1, 2, 3], "age": age}, variance=v[:, 1, 2, 3])
    row = fit.tidy()
    at = {name: image.get_fdata()[1, 2, 3] for name, image in maps.items()}
    assert at["effect_size"] == pytest.approx(row["estimate"][1], rel=1e-8)
    assert at["effect_variance"] == pytest.approx(row["std_error"][1] ** 2, rel=1e-8)
    assert at["stat"] == pytest.approx(row["statistic"][1], rel=1e-8)
    assert at["tau2"] == pytest.approx(float(fit.glance()["tau2"].iloc[0]), rel=1e-8)
    assert at["i2"] == pytest.approx(float(fit.glance()["i2"].iloc[0]), rel=1e-6)
    assert (at["n"], at["df"]) == (10, 8)
    assert at["p_value"] == pytest.approx(stats.t.sf(at["stat"], 8))


def test_contrasts_are_expressions(study):
    table, people, _ = study
    model = imaging.MixedEffectsSecondLevel(formula="~ age + sex").fit(table, table=people)
    effect = {
        name: model.compute_contrast(name, output_type="effect_size").get_fdata()
        for name in ("intercept", "age", "sexm", "intercept - 2*age", "(age + sexm)/2")
    }
    np.testing.assert_allclose(
        effect["intercept - 2*age"], effect["intercept"] - 2 * effect["age"], atol=1e-12
    )
    np.testing.assert_allclose(
        effect["(age + sexm)/2"], (effect["age"] + effect["sexm"]) / 2, atol=1e-12
    )
    found = model.compute_contrast(["age", "sexm"], output_type="all")
    squares = model.compute_contrast("age", second_level_stat_type="F", output_type="stat")
    t = model.compute_contrast("age", output_type="stat").get_fdata()
    np.testing.assert_allclose(squares.get_fdata(), t**2, rtol=1e-9)
    assert found["effect_size"].shape == (*SHAPE, 2)
    for wrong, message in (
        ("agee", "did you mean 'age'"), ("age +", "something is missing"), ("2", "no column"),
        ("age * sexm", "by numbers alone"), ("age / 0", "divides by zero"), ("", "empty"),
        ("age - age", "zero"), ([1.0, 2.0], "3 finite weights"), (["age", "2*age"], "depend"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            model.compute_contrast(wrong)
    with pytest.raises(ModelError, match="by F; a t test takes one"):
        model.compute_contrast(["age", "sexm"], second_level_stat_type="t")
    with pytest.raises(ModelError, match="did you mean 'z_score'"):
        model.compute_contrast("age", output_type="z_scores")


def test_joint_f_is_the_one_of_meta(study):
    table, people, (y, v, age) = study
    rows = {"y": y[:, 0, 0, 0], "age": age, "sex": list("fmfmfmfmfm")}
    people = pd.DataFrame({"participant_id": table["subject_label"], **{k: rows[k] for k in rows}})
    model = imaging.MixedEffectsSecondLevel(formula="~ age + sex", df="knapp-hartung")
    model.fit(table, table=people)
    F = model.compute_contrast(["age", "sexm"], output_type="stat").get_fdata()[0, 0, 0]
    fit = ranef.meta("y ~ age + sex", rows, variance=v[:, 0, 0, 0])
    np.testing.assert_allclose(F, fit.test(["age", "sexm"]).statistic, rtol=1e-8)


def test_equal_variances_are_nilearns_least_squares(agree):
    from nilearn.glm.second_level import SecondLevelModel

    y, v, age = numbers()
    mask, design = volume(np.ones(SHAPE)), pd.DataFrame({"intercept": 1.0, "age": age})
    theirs = SecondLevelModel(mask_img=mask).fit(images(y), design_matrix=design)
    same = images(np.full(v.shape, 0.1) + 0 * v)
    own = imaging.MixedEffectsSecondLevel(mask, df="knapp-hartung")
    own.fit(images(y), variances=same, design_matrix=design)
    for contrast in ("intercept", "age", np.eye(2)):
        for output in ("stat", "z_score", "p_value"):
            a = theirs.compute_contrast(contrast, output_type=output).get_fdata()
            b = own.compute_contrast(contrast, output_type=output).get_fdata()
            what = contrast if isinstance(contrast, str) else "both columns"
            agree("imaging.MixedEffectsSecondLevel", f"{output} of {what}, equal variances",
                  b, a, peer=NILEARN, rtol=1e-5, atol=1e-12)  # fmt: skip


def test_fixed_effects_are_nilearns(agree):
    from nilearn.glm.contrasts import compute_fixed_effects

    y, v, _ = numbers()
    mask = volume(np.ones(SHAPE), kind="int8")
    effect, variance, *_ = compute_fixed_effects(
        images(y), images(v), mask, precision_weighted=True
    )
    own = imaging.MixedEffectsSecondLevel(mask, method="fe", df="normal")
    maps = own.fit(images(y), variances=images(v)).compute_contrast(output_type="all")
    for name, theirs in (("effect_size", effect), ("effect_variance", variance)):
        agree("MixedEffectsSecondLevel(method='fe')", name, maps[name].get_fdata(),
              theirs.get_fdata(), peer=f"{NILEARN} (compute_fixed_effects)", rtol=1e-5)  # fmt: skip


def test_it_has_scikit_learns_habits():
    from sklearn.base import clone
    from sklearn.utils.validation import check_is_fitted

    model = imaging.MixedEffectsSecondLevel(formula="~ 1", method="dl", min_subjects=0.5)
    other = clone(model)
    assert other.get_params() == model.get_params()
    assert repr(model) == "MixedEffectsSecondLevel(formula='~ 1', method='dl', min_subjects=0.5)"
    assert model.set_params(method="pm").method == "pm"
    with pytest.raises(ModelError, match="did you mean 'method'"):
        model.set_params(methd="pm")
    with pytest.raises(ModelError, match="call fit"):
        model.compute_contrast()
    y, v, _ = numbers()
    check_is_fitted(model.fit(images(y), variances=images(v)))


def test_first_level_models_bring_effect_and_variance():
    from nilearn.glm.first_level import FirstLevelModel

    rng = np.random.default_rng(3)
    mask = volume(np.ones(SHAPE), kind="int8")
    events = pd.DataFrame({"onset": [10.0, 40.0], "duration": 10.0, "trial_type": "task"})
    models = []
    for label in ("a", "b", "c", "d"):
        run = volume(rng.normal(100, 1, (*SHAPE, 40)))
        one = FirstLevelModel(t_r=2.0, mask_img=mask, subject_label=label, minimize_memory=False)
        models.append(one.fit(run, events=events))
    group = imaging.MixedEffectsSecondLevel().fit(models)
    z = group.compute_contrast("intercept", first_level_contrast="task")
    maps = [one.compute_contrast("task", output_type="all") for one in models]
    plain = imaging.MixedEffectsSecondLevel().fit(
        [m["effect_size"] for m in maps], variances=[m["effect_variance"] for m in maps]
    )
    np.testing.assert_allclose(z.get_fdata(), plain.compute_contrast("intercept").get_fdata())
    assert group.subject_labels_ == ["a", "b", "c", "d"]
    with pytest.raises(ModelError, match="first_level_contrast"):
        imaging.MixedEffectsSecondLevel().fit(models).compute_contrast("intercept")
    confounds = pd.DataFrame({"subject_label": list("dcba"), "age": [4.0, 3.0, 1.0, 2.5]})
    with_age = imaging.MixedEffectsSecondLevel().fit(
        models, confounds=confounds, first_level_contrast="task"
    )
    assert with_age.design_matrix_["age"].tolist() == [2.5, 1.0, 3.0, 4.0]


def test_feat_folders_are_read(tmp_path):
    y, v, _ = numbers(K=5)
    folders = []
    for k in range(5):
        stats_ = tmp_path / f"sub-{k}" / "run.feat" / "reg_standard" / "stats"
        stats_.mkdir(parents=True)
        nib.save(volume(y[k]), stats_ / "cope2.nii.gz")
        nib.save(volume(v[k]), stats_ / "varcope2.nii.gz")
        folders.append(stats_.parents[1])
        (folders[-1] / "design.con").write_text("/ContrastName1\trest\n/ContrastName2\ttask\n")
    model = imaging.MixedEffectsSecondLevel().fit(folders, first_level_contrast="task")
    assert model.subject_labels_ == [f"sub-{k}" for k in range(5)]
    np.testing.assert_allclose(
        model.compute_contrast(output_type="effect_size").get_fdata(),
        imaging.MixedEffectsSecondLevel().fit(folders, first_level_contrast=2)
        .compute_contrast(output_type="effect_size").get_fdata(),
    )  # fmt: skip
    with pytest.raises(FileError, match=r"no cope1.*cope2"):
        imaging.MixedEffectsSecondLevel().fit(folders)
    with pytest.raises(ModelError, match="did you mean 'task'"):
        imaging.MixedEffectsSecondLevel().fit(folders, first_level_contrast="tsk")


def test_bids_derivatives_are_found(tmp_path):
    y, v, _ = numbers(K=4)
    for k in range(4):
        folder = tmp_path / f"sub-{k}" / "func"
        folder.mkdir(parents=True)
        for contrast in ("a", "ab"):
            for kind, values in (("effect", y), ("variance", v)):
                name = f"sub-{k}_contrast-{contrast}_stat-{kind}_statmap.nii.gz"
                nib.save(volume(values[k]), folder / name)
    model = imaging.MixedEffectsSecondLevel().fit(tmp_path, first_level_contrast="a")
    assert model.subject_labels_ == [f"sub-{k}" for k in range(4)]
    with pytest.raises(DataError, match="2 effects"):
        imaging.MixedEffectsSecondLevel().fit(tmp_path)
    (folder / "sub-3_contrast-a_stat-variance_statmap.nii.gz").unlink()
    with pytest.raises(FileError, match="sub-3"):
        imaging.MixedEffectsSecondLevel().fit(tmp_path, first_level_contrast="a")


def test_fsls_design_is_read(tmp_path):
    y, v, age = numbers()
    lines = [f"1 {a:.6e}" for a in age]
    (tmp_path / "design.mat").write_text(
        "/NumWaves\t2\n/NumPoints\t10\n/PPheights\t1 1\n\n/Matrix\n" + "\n".join(lines) + "\n"
    )
    (tmp_path / "design.con").write_text("/ContrastName1 older\n/NumWaves 2\n/Matrix\n0 1\n")
    (tmp_path / "design.grp").write_text("/NumWaves 1\n/NumPoints 10\n/Matrix\n" + "1\n2\n" * 5)
    model = imaging.MixedEffectsSecondLevel()
    model.fit(images(y), variances=images(v), design_matrix=tmp_path / "design.mat")
    contrasts = imaging.read_design(tmp_path / "design.con")
    a = model.compute_contrast(contrasts.loc["older"].to_numpy()).get_fdata()
    np.testing.assert_array_equal(a, model.compute_contrast("ev2").get_fdata())
    assert imaging.read_design(tmp_path / "design.grp").tolist() == [1, 2] * 5
    (tmp_path / "design.mat").write_text("/NumPoints 10\n/Matrix\n1 1\n1 2\n")
    with pytest.raises(FileError, match="NumPoints 10 and holds 2"):
        imaging.read_design(tmp_path / "design.mat")


# --- other kinds of files


def gifti(values, structure="CortexLeft"):
    array = nib.gifti.GiftiDataArray(np.asarray(values, dtype=np.float32))
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure})
    return nib.gifti.GiftiImage(darrays=[array], meta=meta)


def test_surfaces_grayordinates_and_freesurfer(tmp_path):
    y, v, _ = numbers()
    flat_y, flat_v = y.reshape(10, -1)[:, :40], v.reshape(10, -1)[:, :40]
    expected = imaging.mixed_effects(
        flat_y.astype(np.float32), flat_v.astype(np.float32), np.ones((10, 1))
    ).tau2

    def saved(make, ending):
        out = []
        for kind, values in (("e", flat_y), ("v", flat_v)):
            paths = [tmp_path / f"{kind}{k}{ending}" for k in range(10)]
            for path, one in zip(paths, values, strict=True):
                nib.save(make(one), path)
            out.append(paths)
        return out

    axis = nib.cifti2.BrainModelAxis.from_mask(
        np.arange(60).reshape(3, 4, 5) < 40, affine=np.eye(4), name="thalamus_left"
    )

    def cifti(values):
        scalar = nib.cifti2.ScalarAxis(["effect"])
        header = nib.cifti2.Cifti2Header.from_axes((scalar, axis))
        return nib.cifti2.Cifti2Image(np.asarray(values, dtype=np.float32)[None], header)

    def mgh(values):
        return nib.freesurfer.MGHImage(
            np.asarray(values, dtype=np.float32).reshape(-1, 1, 1), np.eye(4)
        )

    for make, ending, read in (
        (gifti, ".func.gii", lambda image: image.darrays[0].data),
        (cifti, ".dscalar.nii", lambda image: image.get_fdata()[0]),
        (mgh, ".mgh", lambda image: image.get_fdata().ravel()),
    ):
        effects, variances = saved(make, ending)
        model = imaging.MixedEffectsSecondLevel().fit(effects, variances=variances)
        image = model.compute_contrast(output_type="tau2")
        np.testing.assert_allclose(read(image), expected, rtol=1e-6, atol=1e-7)
        nib.save(image, tmp_path / f"tau2{ending}")
        pairs = np.column_stack([np.arange(39), np.arange(1, 40)])
        given = {} if ending == ".dscalar.nii" else {"adjacency": pairs}
        maps = model.permutation_test(n_perm=8, tfce=True, rng=1, **given)
        assert set(maps) == {"t", "p", "logp_max_t", "tfce", "logp_max_tfce"}
        if given:
            with pytest.raises(ModelError, match="surface_neighbours"):
                model.permutation_test(n_perm=8, tfce=True)
    with pytest.raises(DataError, match="CortexRight"):
        imaging.MixedEffectsSecondLevel().fit(
            [gifti(one) for one in flat_y],
            variances=[gifti(flat_v[0], "CortexRight"), *(gifti(one) for one in flat_v[1:])],
        )


def test_nilearns_surface_images():
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    y, v, _ = numbers()
    xyz = np.random.default_rng(0).normal(size=(20, 3))
    faces = np.array([[k, k + 1, k + 2] for k in range(18)])
    mesh = PolyMesh(left=InMemoryMesh(xyz, faces), right=InMemoryMesh(xyz, faces))

    def surface(values):
        flat = values.ravel()[:40].astype(np.float32)
        return SurfaceImage(mesh, {"left": flat[:20], "right": flat[20:]})

    model = imaging.MixedEffectsSecondLevel().fit(
        [surface(one) for one in y], variances=[surface(one) for one in v]
    )
    maps = model.permutation_test(n_perm=10, tfce=True, rng=0)
    values = np.concatenate(list(maps["tfce"].data.parts.values()))
    assert values.shape == (40,)
    assert imaging.tfce(maps["t"], two_sided=False).data.parts["left"].shape == (20,)
    assert imaging.surface_neighbours(faces[:1]).tolist() == [[0, 1], [0, 2], [1, 2]]


# --- missing data


def test_voxels_missing_in_some_subjects_keep_the_others():
    y, v, _ = numbers()
    y[0, 0, 0, 0], v[1, 0, 0, 0], v[2, 1, 0, 0] = np.nan, 0.0, -1.0
    y[:8, 4], v[:9, 3, 0, 0] = np.nan, 0.0
    model = imaging.MixedEffectsSecondLevel(min_subjects=3)
    maps = model.fit(images(y), variances=images(v)).compute_contrast(output_type="all")
    n, df = maps["n"].get_fdata(), maps["df"].get_fdata()
    assert (n[0, 0, 0], n[1, 0, 0], df[0, 0, 0]) == (8, 9, 7)
    assert (n[4] == 0).all()  # two subjects are fewer than three: outside
    assert not model.mask_img_.get_fdata()[4].any()
    assert "negative variance" in model.notes_[0]
    keep = np.r_[2:10]
    fit = ranef.meta("y ~ 1", {"y": y[keep, 0, 0, 0]}, variance=v[keep, 0, 0, 0])
    assert maps["tau2"].get_fdata()[0, 0, 0] == pytest.approx(
        float(fit.glance()["tau2"].iloc[0]), rel=1e-8, abs=1e-10
    )
    weights = model.weights()
    assert weights.columns.tolist() == ["subject_label", "mean_weight"]
    assert weights["mean_weight"].sum() == pytest.approx(1.0)


def test_equal_effects_are_no_evidence_without_end():
    _, v, _ = numbers()
    same = images(np.full(v.shape, 0.5))
    for k, image in enumerate(same):
        image.get_fdata()
        image.dataobj[0, 0, 0] = k  # else copies, which are warned of
    model = imaging.MixedEffectsSecondLevel(df="knapp-hartung").fit(same, variances=images(v))
    p = model.compute_contrast(output_type="p_value").get_fdata()
    assert np.isnan(p[1:]).all()


# --- questions


def test_three_models_side_by_side():
    rng = np.random.default_rng(4)
    K = 20
    scale = np.where(np.arange(K) < 5, 50.0, 0.5)[:, None, None, None]
    v = scale * rng.uniform(0.8, 1.2, (K, *SHAPE))
    y = 0.9 + rng.normal(size=v.shape) * np.sqrt(v)
    model = imaging.MixedEffectsSecondLevel().fit(images(y), variances=images(v))
    compared = model.compare()
    table = compared.tidy().set_index("model")
    assert table.index.tolist() == ["FE", "RE", "ME"]
    assert table.loc["ME", "n_significant"] > table.loc["RE", "n_significant"]
    assert "least squares miss" in str(compared)
    assert compared.maps["RE"]["z_score"].shape == SHAPE
    heavy = model.weights().sort_values("mean_weight")["subject_label"]
    assert {int(label) for label in heavy[:5]} == {1, 2, 3, 4, 5}
    assert model.subjects().tidy().shape == (K, 6)
    share = model.weight_maps()["1"].get_fdata()
    assert share.mean() == pytest.approx(model.weights()["mean_weight"][0], rel=1e-6)


def test_groups_have_their_own_variance(tmp_path):
    y, v, age = numbers(K=16, seed=7)
    y[8:] *= 3
    group = np.repeat(["a", "b"], 8)
    labels = [f"s{k}" for k in range(16)]
    people = pd.DataFrame({"subject": labels, "group": group, "age": age})
    both = dict(variances=images(v), table=people, subject=labels, variance_groups=group)
    model = imaging.MixedEffectsSecondLevel(formula="~ group", df="knapp-hartung")
    model.fit(images(y), **both)
    maps = model.compute_contrast("groupb", output_type="all")
    halves = [(y[s].reshape(8, -1), v[s].reshape(8, -1)) for s in (slice(0, 8), slice(8, 16))]
    fits = [imaging.mixed_effects(*h, np.ones((8, 1)), df="knapp-hartung") for h in halves]
    np.testing.assert_allclose(
        maps["effect_size"].get_fdata().ravel(), fits[1].beta[0] - fits[0].beta[0], atol=1e-10
    )
    each = np.array([fit.std_error[0] ** 2 for fit in fits])
    np.testing.assert_allclose(maps["effect_variance"].get_fdata().ravel(), each.sum(axis=0))
    df = each.sum(axis=0) ** 2 / (each**2 / 7).sum(axis=0)
    np.testing.assert_allclose(maps["df"].get_fdata().ravel(), df)
    assert maps["tau2"].shape == (*SHAPE, 2)
    F = model.compute_contrast("groupb", second_level_stat_type="F", output_type="stat")
    np.testing.assert_allclose(F.get_fdata(), maps["stat"].get_fdata() ** 2, rtol=1e-8)
    tied = imaging.MixedEffectsSecondLevel(formula="~ group + age")
    with pytest.raises(ModelError, match="tie the groups together"):
        tied.fit(images(y), **both)


def test_all_flips_of_eight_subjects_by_brute_force():
    import itertools

    y, v, _ = numbers(K=8)
    model = imaging.MixedEffectsSecondLevel(df="normal").fit(images(y), variances=images(v))
    maps = model.permutation_test(n_perm="exact")
    assert (model.exact_, model.n_permutations_) == (True, 256)
    Y, V = y.reshape(8, -1), v.reshape(8, -1)
    every = [
        imaging.mixed_effects(Y * np.array(s)[:, None], V, np.ones((8, 1)), df="normal")
        .contrast([1.0]).stat.max()
        for s in itertools.product([1.0, -1.0], repeat=8)
    ]  # fmt: skip
    t = maps["t"].get_fdata().ravel()
    expected = [np.mean(np.array(every) >= one - 1e-9) for one in t]
    np.testing.assert_allclose(10 ** -maps["logp_max_t"].get_fdata().ravel(), expected)


def test_clusters_blocks_and_exchanges():
    y, v, age = numbers(K=8)
    y[:, :3, :3, :3] += 2.0
    design = pd.DataFrame({"intercept": 1.0, "age": age})
    model = imaging.MixedEffectsSecondLevel()
    model.fit(images(y), variances=images(v), design_matrix=design)
    maps = model.permutation_test(
        "intercept", n_perm=64, threshold=0.01, two_sided_test=True, rng=0
    )
    t, mass, size = (maps[k].get_fdata() for k in ("t", "mass", "size"))
    height = stats.t.isf(0.005, 6)
    from scipy import ndimage

    labels, count = ndimage.label(t > height)
    assert count >= 1
    for k in range(1, count + 1):
        own = labels == k
        assert (size[own] == own.sum()).all()
        np.testing.assert_allclose(mass[own], (t[own] - height).sum())
    paired = [0, 0, 1, 1, 2, 2, 3, 3]
    model.permutation_test("intercept", n_perm="exact", blocks=paired)
    assert model.n_permutations_ == 16
    model.permutation_test("age", n_perm="exact", blocks=paired, exchange="permutations")
    assert model.n_permutations_ == 24
    model.permutation_test(
        "age", n_perm="exact", blocks=dict(zip("12345678", paired, strict=True)), within=True,
        exchange="permutations",
    )  # fmt: skip
    assert model.n_permutations_ == 16
    model.permutation_test("age", n_perm=10, exchange="both", rng=1)
    plain = imaging.MixedEffectsSecondLevel().fit(images(y), variances=images(v))
    with pytest.raises(ModelError, match="does not change a mean"):
        plain.permutation_test(n_perm=5, exchange="permutations")
    with pytest.raises(ModelError, match=r"between 0 and 0\.5"):
        plain.permutation_test(n_perm=5, threshold=2.3)
    with pytest.raises(DataError, match="no entry for subject '2'"):
        plain.permutation_test(n_perm=5, blocks={"1": 0})


def test_clusters_are_tabled_with_their_regions():
    y, v, _ = numbers()
    y[:, :2, :2, :2] += 4.0
    model = imaging.MixedEffectsSecondLevel().fit(images(y), variances=images(v))
    atlas = np.zeros(SHAPE)
    atlas[:2, :2, :2] = 1
    table = model.clusters(height=0.0001, atlas=(volume(atlas), ["outside", "corner"])).tidy()
    assert table["region"][0] == "corner"
    assert table["n_voxels"][0] >= 7
    assert table["volume_mm3"][0] == 8 * table["n_voxels"][0]
    assert len(model.clusters(height=50.0, height_control=None)) == 0
    fdr = model.clusters(height=0.05, height_control="fdr")
    q = model.compute_contrast(output_type="p_fdr").get_fdata()
    assert fdr.tidy()["n_voxels"].sum() == (q <= 0.05).sum()


def test_the_report_is_one_page(study, tmp_path):
    table, people, _ = study
    model = imaging.MixedEffectsSecondLevel(formula="~ age").fit(table, table=people)
    page = model.generate_report(["intercept", "age"], title="A <group>", call="ranef imaging")
    target = page.save_as_html(tmp_path / "report.html")
    text = target.read_text(encoding="utf-8")
    for words in ("A &lt;group&gt;", "Fixed effects (FE)", "Contrast: age", "data:image/png",
                  "restricted maximum likelihood", "sub-03", "1 rows of the table"):  # fmt: skip
        assert words in text


# --- hostile input, each line of the last


def fitted(study, **changes):
    table = study[0].copy()
    for column, (row, value) in changes.items():
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
    return imaging.MixedEffectsSecondLevel().fit(table)


def test_a_shifted_grid_is_refused_by_name(study, tmp_path):
    y = study[2][0]
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.0
    nib.save(volume(y[3], shifted), tmp_path / "moved.nii.gz")
    with pytest.raises(DataError, match=r"'sub-03' \(moved.nii.gz\).*shifted .* 1 mm"):
        fitted(study, effects_map_path=(3, str(tmp_path / "moved.nii.gz")))


def test_another_shape_is_refused_or_resampled(study, tmp_path):
    nib.save(volume(np.ones((10, 12, 8)), np.diag([1.0, 1, 1, 1])), tmp_path / "fine.nii.gz")
    with pytest.raises(DataError, match="10 x 12 x 8"):
        fitted(study, effects_map_path=(3, str(tmp_path / "fine.nii.gz")))
    table = study[0].copy()
    table.loc[3, "effects_map_path"] = str(tmp_path / "fine.nii.gz")
    model = imaging.MixedEffectsSecondLevel(target_affine=AFFINE, target_shape=SHAPE)
    effect = model.fit(table).compute_contrast(output_type="n").get_fdata()
    assert effect.max() == 10
    with pytest.raises(DataError, match="the mask"):
        imaging.MixedEffectsSecondLevel(volume(np.ones((4, 4, 4)))).fit(study[0])


def test_two_volumes_are_refused(study, tmp_path):
    nib.save(volume(np.ones((*SHAPE, 2))), tmp_path / "two.nii.gz")
    with pytest.raises(DataError, match=r"two.nii.gz.* holds 2 volumes"):
        fitted(study, effects_map_path=(1, str(tmp_path / "two.nii.gz")))


def test_text_for_an_image_is_refused(study, tmp_path):
    for name in ("notes.nii.gz", "notes.txt", "notes.nii"):
        (tmp_path / name).write_text("these are words\n" * 50)
        with pytest.raises(FileError, match=rf"'sub-02' \({name}\)"):
            fitted(study, variance_map_path=(2, str(tmp_path / name)))
    with pytest.raises(DataError, match="is float"):
        fitted(study, variance_map_path=(2, 3.5))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_truncated_file_is_refused(study, tmp_path, ending):
    whole = tmp_path / "whole.nii"
    nib.save(volume(study[2][0][0], kind="float64"), whole)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{ending}"
    half = gzip.compress(data)[:-200] if ending == ".nii.gz" else data[:-500]
    cut.write_bytes(half)
    with pytest.raises(FileError, match=r"cut.nii.*cut off"):
        fitted(study, effects_map_path=(0, str(cut)))


def test_a_missing_file_or_folder_is_named(study, tmp_path):
    with pytest.raises(FileError, match=r"subject 'sub-05': there is no file"):
        fitted(study, effects_map_path=(5, str(tmp_path / "gone.nii.gz")))
    with pytest.raises(FileError, match="is a folder"):
        fitted(study, effects_map_path=(5, str(tmp_path)))


def test_a_subject_without_data_is_named(study, tmp_path):
    nib.save(volume(np.zeros(SHAPE)), tmp_path / "zero.nii.gz")
    nib.save(volume(np.full(SHAPE, np.nan)), tmp_path / "nan.nii.gz")
    with pytest.raises(DataError, match=r"'sub-04' has no voxel.*zero everywhere"):
        fitted(study, variance_map_path=(4, str(tmp_path / "zero.nii.gz")))
    with pytest.raises(DataError, match=r"'sub-04' has no voxel.*no data"):
        fitted(study, effects_map_path=(4, str(tmp_path / "nan.nii.gz")))
    for empty in (None, np.nan, ""):
        with pytest.raises(DataError, match="'sub-04' has no image"):
            fitted(study, effects_map_path=(4, empty))
    inside = np.zeros(SHAPE)
    inside[0, 0, 0] = 1
    hole = study[2][0][4].copy()
    hole[0, 0, 0] = np.nan
    nib.save(volume(hole), tmp_path / "hole.nii.gz")
    table = study[0].copy()
    table.loc[4, "effects_map_path"] = str(tmp_path / "hole.nii.gz")
    with pytest.raises(DataError, match=r"'sub-04' has no voxel.*it has no data"):
        imaging.MixedEffectsSecondLevel(volume(inside)).fit(table)


def test_a_label_twice_is_refused(study):
    with pytest.raises(DataError, match="'sub-01' has 2 images"):
        fitted(study, subject_label=(0, "sub-01"))
    with pytest.raises(DataError, match="label is missing"):
        fitted(study, subject_label=(0, None))
    with pytest.raises(DataError, match="are one image"):
        fitted(study, effects_map_path=(0, study[0].loc[1, "effects_map_path"]))
    people = pd.read_csv(study[1], sep="\t")
    people.loc[0, "participant_id"] = "sub-01"
    model = imaging.MixedEffectsSecondLevel(formula="~ age")
    with pytest.raises(DataError, match="2 rows of subject 'sub-01'"):
        model.fit(study[0], table=people)
    with pytest.raises(DataError, match="no row of subject 'sub-03'"):
        model.fit(study[0], table=people[people["participant_id"] != "sub-03"].iloc[1:])


def test_copies_and_units_are_warned_of(study, tmp_path):
    y, v, _ = study[2]
    nib.save(volume(y[1], kind="float64"), tmp_path / "copy.nii.gz")
    with pytest.warns(DataWarning, match="same effects"):
        fitted(study, effects_map_path=(2, str(tmp_path / "copy.nii.gz")))
    nib.save(volume(v[1] * 1e9, kind="float64"), tmp_path / "large.nii.gz")
    with pytest.warns(DataWarning, match="same unit"):
        fitted(study, variance_map_path=(2, str(tmp_path / "large.nii.gz")))


def test_collinear_or_missing_confounds_are_named(study):
    table, people, (_, _, age) = study
    rows = pd.DataFrame({"subject_label": table["subject_label"], "age": age, "twice": 2 * age})
    with pytest.raises(ModelError, match="'twice' of the design is determined"):
        imaging.MixedEffectsSecondLevel().fit(table, confounds=rows)
    with pytest.raises(ModelError, match="twice"):
        imaging.MixedEffectsSecondLevel(formula="~ age + twice").fit(table, table=rows)
    rows.loc[3, "age"] = np.nan
    with pytest.raises(DataError, match=r"'age' is missing.*sub-03"):
        imaging.MixedEffectsSecondLevel(formula="~ age").fit(table, table=rows)
    with pytest.raises(DataError, match=r"'age' is missing.*sub-03"):
        imaging.MixedEffectsSecondLevel().fit(table, confounds=rows[["subject_label", "age"]])
    with pytest.raises(DataError, match="holds text"):
        imaging.MixedEffectsSecondLevel().fit(table, confounds=rows.assign(age="old"))
    with pytest.raises(ModelError, match="needs a formula"):
        imaging.MixedEffectsSecondLevel().fit(table, table=people)


def test_one_subject_is_refused(study):
    with pytest.raises(ModelError, match="1 subject: a group analysis needs several"):
        imaging.MixedEffectsSecondLevel().fit(study[0].iloc[:1])
    with pytest.raises(ModelError, match="empty list"):
        imaging.MixedEffectsSecondLevel().fit([], variances=[])


def test_lists_are_matched_by_label_or_refused(study):
    table, people, (y, v, _) = study
    effects, variances = list(table["effects_map_path"]), list(table["variance_map_path"])
    model = imaging.MixedEffectsSecondLevel(formula="~ age")
    one = model.fit(effects, variances=variances[::-1], table=people)
    two = imaging.MixedEffectsSecondLevel(formula="~ age").fit(table, table=people)
    for contrast in ("intercept", "age"):
        np.testing.assert_array_equal(
            one.compute_contrast(contrast).get_fdata(), two.compute_contrast(contrast).get_fdata()
        )
    with pytest.raises(DataError, match="do not say whose they are"):
        model.fit(images(y), variances=images(v), table=people)
    with pytest.raises(ModelError, match="needs variances="):
        model.fit(effects, table=people)
    with pytest.raises(DataError, match="10 images of effects and 9 variances"):
        model.fit(effects, variances=variances[:-1], table=people)
    with pytest.raises(DataError, match="no column 'variance_map_path'"):
        model.fit(table.drop(columns="variance_map_path"), table=people)
    with pytest.raises(DataError, match="second_level_input is int"):
        model.fit(3)
    four = [volume(np.moveaxis(x, 0, -1), kind="float64") for x in (y, v)]
    plain = imaging.MixedEffectsSecondLevel().fit(four[0], variances=four[1])
    np.testing.assert_allclose(
        plain.compute_contrast().get_fdata(),
        imaging.MixedEffectsSecondLevel().fit(table).compute_contrast().get_fdata(),
    )


def test_smoothing_memory_and_resampling(study, tmp_path):
    table, _, _ = study
    smooth = imaging.MixedEffectsSecondLevel(smoothing_fwhm=4.0, memory=str(tmp_path / "kept"))
    first = smooth.fit(table).compute_contrast(output_type="effect_variance").get_fdata()
    again = smooth.fit(table).compute_contrast(output_type="effect_variance").get_fdata()
    np.testing.assert_array_equal(first, again)
    flat = imaging.MixedEffectsSecondLevel(smoothing_fwhm=4.0).fit(
        [volume(np.full(SHAPE, k), kind="float64") for k in range(5)],
        variances=[volume(np.full(SHAPE, k + 1.0), kind="float64") for k in range(5)],
    )
    np.testing.assert_allclose(
        flat.compute_contrast(output_type="q").get_fdata(), flat.compute_contrast(
            output_type="q").get_fdata()[0, 0, 0], rtol=1e-10
    )  # fmt: skip
    with pytest.raises(ModelError, match="target_affine"):
        imaging.MixedEffectsSecondLevel(target_shape=SHAPE).fit(table)
    with pytest.raises(ModelError, match="positive"):
        imaging.MixedEffectsSecondLevel(smoothing_fwhm=-1.0).fit(table)


def test_blocks_of_dask_arrays():
    da = pytest.importorskip("dask.array")
    y, v, _ = numbers()
    Y, V = y.reshape(10, -1), v.reshape(10, -1)
    whole = imaging.mixed_effects(Y, V, np.ones((10, 1)))
    lazy = [da.from_array(x, chunks=(4, 50)) for x in (Y, V)]
    parts = imaging.mixed_effects(*lazy, np.ones((10, 1)))
    np.testing.assert_allclose(parts.tau2, whole.tau2, rtol=1e-10)
    np.testing.assert_allclose(parts.contrast([1.0]).stat, whole.contrast([1.0]).stat)
    with pytest.raises(DataError, match="both Dask"):
        imaging.mixed_effects(lazy[0], V, np.ones((10, 1)))
