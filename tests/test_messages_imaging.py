"""Messages of group images: what was given wrongly, and what is said of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ranef import imaging
from ranef.errors import RanefError
from ranef.fields.imaging import gathering
from ranef.fields.imaging.writing import write_maps

nib = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SHAPE = (4, 3, 5)
LABELS = [f"sub-{k:02d}" for k in range(1, 9)]


def image(values):
    return nib.Nifti1Image(np.asarray(values).astype("float32"), AFFINE)


class World:
    """Eight subjects with an effect and its variance, and models of them."""

    def __init__(self, folder):
        self.folder = folder
        rng = np.random.default_rng(4)
        self.v = rng.uniform(0.5, 2.0, (8, *SHAPE))
        self.y = 0.4 + rng.normal(size=self.v.shape) * np.sqrt(self.v + 0.2)
        self.effects = [image(one) for one in self.y]
        self.variances = [image(one) for one in self.v]
        self.table = pd.DataFrame(
            {"subject_label": LABELS, "effects_map_path": self.effects,
             "variance_map_path": self.variances}
        )  # fmt: skip
        self.people = pd.DataFrame({"subject_label": LABELS, "age": np.arange(8.0), "sex": "f"})
        self.mask = image(np.ones(SHAPE))

    def fit(self, given=None, *, settings=None, **how):
        model = imaging.MixedEffectsSecondLevel(**(settings or {}))
        return model.fit(self.table if given is None else given, **how)

    def of_formula(self, formula, table=None, **how):
        people = self.people if table is None else table
        return self.fit(settings={"formula": formula}, table=people, **how)

    def changed(self, row, column, value):
        given = self.table.copy()
        given.at[row, column] = value
        return given

    def effect(self, value):
        return self.fit(self.changed(0, "effects_map_path", value))

    def long(self, **how):
        visits = pd.DataFrame(
            {"id": np.repeat(LABELS[:4], 2), "time": np.tile([0.0, 1.0], 4), "map": self.effects}
        )
        model = imaging.LongitudinalModel("map ~ time + (1 | id)", **how)
        return model, visits

    def of_images(self, images, **how):
        model, visits = self.long(**how)
        return model.fit(visits, images=images)

    def surface(self):
        ys, vs = (
            [surface_image(one.ravel()[:8].reshape(2, 4, 1)) for one in x] for x in (self.y, self.v)
        )
        return self.fit(ys, variances=vs)

    def apart(self, rows):
        """Subjects of some rows have data in a voxel each of their own, where nobody else has."""
        effects = []
        for k, y in enumerate(self.y):
            own = np.full(SHAPE, np.nan) if k in rows else y.copy()
            own.ravel()[list(rows)] = np.nan
            if k in rows:
                own.ravel()[k] = 1.5
            effects.append(image(own))
        return self.table.assign(effects_map_path=effects)

    def latin(self):
        path = self.folder / "people_latin.tsv"
        path.write_bytes("subject_label\tage\nMüller\t3\n".encode("latin-1"))
        return str(path)

    def file(self, name, text="no image"):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("imaging"))


def gifti(*arrays, intent=0):
    kinds = [nib.gifti.GiftiDataArray(np.asarray(a), intent=intent) for a in arrays]
    return nib.gifti.GiftiImage(darrays=kinds)


def cifti(values, pairs=False):
    """Grayordinates: a row a map, or of pairs of places."""
    places = nib.cifti2.BrainModelAxis.from_surface(np.arange(6), 6, name="CortexLeft")
    rows = nib.cifti2.ScalarAxis([f"map{k}" for k in range(len(values))])
    columns = nib.cifti2.ScalarAxis([f"c{k}" for k in range(6)]) if pairs else places
    header = nib.cifti2.Cifti2Header.from_axes((rows, columns))
    return nib.cifti2.Cifti2Image(np.asarray(values, "float32"), header)


def surface_image(values):
    """Values of the vertices of two halves, (2, 4, maps)."""
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    one = InMemoryMesh(corners, np.array([[0, 1, 2], [1, 2, 3]]))
    left, right = np.asarray(values, dtype="float32")
    return SurfaceImage(PolyMesh(left=one, right=one), {"left": left, "right": right})


def bids(world, name, *files):
    folder = world.folder / name
    for file in files:
        world.file(f"{name}/{file}")
    folder.mkdir(exist_ok=True)
    return folder


WRONG = {
    # the table and the lists of subjects
    "variances beside a table": (
        lambda w: w.fit(variances=w.variances),
        "of a table the variances are its column 'variance_map_path', not variances=",
    ),
    "an empty list": (lambda w: w.fit([]), "second_level_input is an empty list"),
    "a list without variances": (
        lambda w: w.fit(w.effects), "needs variances=, the list of the images of their variances"
    ),
    "one image as variances": (
        lambda w: w.fit(w.effects, variances=w.mask),
        "variances is a list of images, as second_level_input is",
    ),
    "fewer variances": (
        lambda w: w.fit(w.effects, variances=w.variances[:7]),
        "there are 8 images of effects and 7 variances",
    ),
    "a missing image": (
        lambda w: w.fit(w.changed(2, "variance_map_path", None)),
        "subject 'sub-03' has no image in column 'variance_map_path'",
    ),
    "no column of variances": (
        lambda w: w.fit(w.table.drop(columns="variance_map_path")),
        "ixed effects weigh each subject by its own precision",
    ),
    "labels for fewer images": (
        lambda w: w.fit(w.effects, variances=w.variances, subject=LABELS[:3]),
        "3 labels were given for 8 images",
    ),
    "a subject twice": (
        lambda w: w.fit(w.table.assign(subject_label=["sub-01"] * 2 + LABELS[2:])),
        "subject 'sub-01' has 2 images: one effect a subject",
    ),
    "one subject": (lambda w: w.fit(w.table.head(1)), "1 subject: a group analysis needs several"),
    "volumes without variances": (
        lambda w: w.fit(image(np.moveaxis(w.y, 0, -1))),
        "an image of several volumes needs variances=, another of as many",
    ),
    "more volumes than variances": (
        lambda w: w.fit(image(np.moveaxis(w.y, 0, -1)),
                        variances=image(np.moveaxis(w.v[:5], 0, -1))),
        "there are 8 volumes of effects and 5 variances",
    ),
    "one map as volumes": (
        lambda w: w.fit(image(w.y[0]), variances=w.variances[0]),
        "is one map: several subjects are one volume each of an image of four dimensions",
    ),
    "first levels and images": (
        lambda w: w.fit([SimpleNamespace(compute_contrast=None), w.effects[0]]),
        "the list mixes FirstLevelModels with images",
    ),
    "a first level of nobody": (
        lambda w: w.fit([SimpleNamespace(compute_contrast=None)] * 2).compute_contrast(),
        "a FirstLevelModel has no subject_label",
    ),
    "a first level before fit": (
        lambda w: w.fit([SimpleNamespace(compute_contrast=None, subject_label="01")] * 2)
        .compute_contrast(),
        "the FirstLevelModel of '01' is not fitted; call its fit() first",
    ),
    "a first level without a contrast": (
        lambda w: w.fit([SimpleNamespace(compute_contrast=1, subject_label="1", labels_=[1])] * 2)
        .compute_contrast(),
        "several effects: name one, first_level_contrast='...'",
    ),
    "an empty folder of derivatives": (
        lambda w: w.fit(bids(w, "empty")), "holds no images named sub-*_stat-effect_statmap"
    ),
    "derivatives of another contrast": (
        lambda w: w.fit(
            bids(w, "faces", "sub-01/sub-01_contrast-faces_stat-effect_statmap.nii.gz"),
            first_level_contrast="houses",
        ),
        "subject 'sub-01' has no effect of contrast 'houses'",
    ),
    "derivatives of two contrasts": (
        lambda w: w.fit(
            bids(w, "two", *(f"sub-01_contrast-{c}_stat-effect_statmap.nii.gz" for c in "ab"))
        ),
        "choose one by first_level_contrast=",
    ),
    "derivatives without variances": (
        lambda w: w.fit(bids(w, "lone", "sub-01_contrast-a_stat-effect_statmap.nii.gz")),
        "has no image 'sub-01_contrast-a_stat-variance_statmap.nii.gz' beside its effect",
    ),
    # one image
    "an image that is none": (
        lambda w: w.effect(w.file("sub-01_effect.nii")),
        "the effect of subject 'sub-01' (sub-01_effect.nii)",
    ),
    "an array in place of an image": (
        lambda w: w.effect(w.y[0]),
        "give the path of an image, or an image of nibabel",
    ),
    "a folder in place of an image": (
        lambda w: w.effect(w.folder), "is a folder, not an image"
    ),
    "a slice": (
        lambda w: w.effect(nib.Nifti1Image(np.ones((4, 3), "float32"), AFFINE)),
        "has 2 dimensions, not three",
    ),
    "no affine": (
        lambda w: w.effect(nib.Nifti1Image(np.ones(SHAPE, "float32"), None)),
        "has no affine: where its voxels are is not known",
    ),
    "colours": (
        lambda w: w.effect(
            nib.Nifti1Image(
                np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), AFFINE
            )
        ),
        "not numbers",
    ),
    "an image of several maps": (
        lambda w: w.effect(image(np.ones((*SHAPE, 2)))), "holds 2 volumes; a subject brings one"
    ),
    "an image without data": (
        lambda w: w.effect(image(np.full(SHAPE, np.nan))),
        "no voxel with an effect and a positive variance: it has no data",
    ),
    "the effect as its variance": (
        lambda w: w.fit(w.changed(0, "variance_map_path", image(np.abs(w.y[0]))).assign(
            effects_map_path=[image(np.abs(w.y[0])), *w.effects[1:]])),
        "the effect and the variance of subject 'sub-01' are the same values",
    ),
    "a variance of zero": (
        lambda w: w.fit(w.changed(0, "variance_map_path", image(np.zeros(SHAPE)))),
        "its variance is zero everywhere",
    ),
    "another grid": (
        lambda w: w.fit(w.changed(1, "effects_map_path", image(np.ones((4, 3, 6))))),
        "resample them on request: target_affine=",
    ),
    "an empty mask": (
        lambda w: w.fit(settings={"mask_img": image(np.zeros(SHAPE))}), "holds no voxel"
    ),
    "two maps on a surface": (
        lambda w: w.effect(gifti(np.ones(5, "float32"), np.ones(5, "float32"))),
        "holds 2 maps; a subject brings one map",
    ),
    "a surface without values": (
        lambda w: w.effect(gifti(np.ones((5, 3), "float32"), intent=1008)),
        "holds a mesh, no values; a subject brings one map",
    ),
    "a matrix on a surface": (
        lambda w: w.effect(gifti(np.ones((5, 2), "float32"))), "not a value a vertex"
    ),
    "smoothing of surfaces": (
        lambda w: w.fit(
            [gifti(w.y[k].ravel().astype("float32")) for k in range(8)],
            variances=[gifti(w.v[k].ravel().astype("float32")) for k in range(8)],
            settings={"smoothing_fwhm": 5},
        ),
        "smoothing_fwhm is for volumes; smooth surfaces before",
    ),
    "resampling of surfaces": (
        lambda w: w.fit(
            [gifti(w.y[k].ravel().astype("float32")) for k in range(8)],
            variances=[gifti(w.v[k].ravel().astype("float32")) for k in range(8)],
            settings={"target_affine": AFFINE},
        ),
        "only volumes are resampled",
    ),
    # the design of the group
    "a response in the formula": (
        lambda w: w.of_formula("bold ~ age"),
        "the formula 'bold ~ age' has a response; the images are it: write '~ age'",
    ),
    "random effects of subjects": (
        lambda w: w.of_formula("~ age + (1 | site)"),
        "Repeated measures are ranef.imaging.LongitudinalModel",
    ),
    "a formula without a table": (
        lambda w: w.fit(settings={"formula": "~ age"}),
        "needs columns of subjects: give table=, a DataFrame or participants.tsv",
    ),
    "a table without a formula": (
        lambda w: w.fit(table=w.people), "a table needs a formula that says which columns enter"
    ),
    "a table without labels": (
        lambda w: w.of_formula("~ age", w.people.rename(columns={"subject_label": "who"})),
        "which column has the subjects' labels? Name it: subject=; there are",
    ),
    "a column of labels that is not there": (
        lambda w: w.of_formula("~ age", subject="sbject_label"),
        "no column 'sbject_label'; did you mean 'subject_label'?",
    ),
    "a subject without a row": (
        lambda w: w.of_formula("~ age", w.people.head(7)),
        "the table has no row of subject 'sub-08' in 'subject_label'",
    ),
    "two rows of a subject": (
        lambda w: w.of_formula("~ age", pd.concat([w.people, w.people.head(1)])),
        "the table has 2 rows of subject 'sub-01': one a subject",
    ),
    "a table and confounds": (
        lambda w: w.of_formula("~ age", confounds=w.people), "give table= or confounds=, not both"
    ),
    "a matrix and a formula": (
        lambda w: w.fit(settings={"formula": "~ 1"}, design_matrix=np.ones((8, 1))),
        "give design_matrix= or formula, not both",
    ),
    "a matrix of three dimensions": (
        lambda w: w.fit(design_matrix=np.ones((8, 1, 1))), "a row a subject, a column a term"
    ),
    "a matrix of fewer rows": (
        lambda w: w.fit(design_matrix=np.ones((7, 1))),
        "the design has 7 rows, and there are 8 subjects",
    ),
    "a matrix with words": (
        lambda w: w.fit(design_matrix=w.people), "column 'sex' of design_matrix holds text"
    ),
    "a matrix without columns": (
        lambda w: w.fit(design_matrix=w.people[["subject_label"]]), "design_matrix has no columns"
    ),
    "as many columns as subjects": (
        lambda w: w.fit(design_matrix=np.eye(8)), "8 subjects are too few for 8 columns"
    ),
    "a column twice": (
        lambda w: w.fit(design_matrix=np.column_stack([np.ones(8), np.arange(8), np.arange(8)])),
        "column 'x3' of the design is determined by those before it",
    ),
    "a missing covariate": (
        lambda w: w.of_formula("~ age", w.people.assign(age=[np.nan, *range(7)])), "sub-01"
    ),
    "a file of people that is not there": (
        lambda w: w.of_formula("~ age", str(w.folder / "people.tsv")), "there is no file"
    ),
    "groups of fewer subjects": (
        lambda w: w.fit(variance_groups=["a", "b"]),
        "variance_groups needs one label for each of the 8 subjects",
    ),
    "a group of one subject": (
        lambda w: w.fit(variance_groups=["a"] + ["b"] * 7), "group a has 1 subjects for 1 columns"
    ),
    # questions of the fit
    "no contrast of several columns": (
        lambda w: w.of_formula("~ age").compute_contrast(), "name a contrast of the columns"
    ),
    "a contrast by an unknown column": (
        lambda w: w.of_formula("~ age").compute_contrast({"agge": 1}),
        "there is no column 'agge'; did you mean 'age'?",
    ),
    "a contrast that is none": (
        lambda w: w.of_formula("~ age").compute_contrast(object()),
        "a contrast is an expression of columns, or their weights",
    ),
    "a level beyond one": (
        lambda w: w.fit().clusters(height=3, height_control="fdr"),
        "a significance level lies between 0 and 1, not 3",
    ),
    "an atlas without names": (
        lambda w: w.fit().clusters(atlas=w.mask),
        "atlas is a pair of an image and names, or has maps and labels",
    ),
    "permutations of groups of variance": (
        lambda w: w.fit(design_matrix=np.eye(2)[[0, 1] * 4], variance_groups=["a", "b"] * 4)
        .permutation_test([1.0, 0.0]),
        "permutations estimate one variance; fit without variance_groups=",
    ),
    # repeated images
    "a question before the fit": (
        lambda w: w.long()[0].compute_contrast("time"), "the model is not fitted; call fit() first"
    ),
    "images as a number": (
        lambda w: w.long()[0].fit(w.long()[1], images=3),
        "images is a column of the table, or a list of images",
    ),
    "fewer images than visits": (
        lambda w: w.long()[0].fit(w.long()[1], images=w.effects[:3]),
        "there are 3 images for 8 rows of the table",
    ),
    "a t test of two rows": (
        lambda w: w.long()[0].fit(w.long()[1]).compute_contrast(
            ["intercept", "time"], stat_type="t"
        ),
        "2 rows are tested together by F; a t test takes one",
    ),
    # arrays
    "a mesh that is not there": (
        lambda w: imaging.surface_neighbours(str(w.folder / "lh.white")),
        "the mesh: there is no file",
    ),
    "a mesh of squares": (
        lambda w: imaging.surface_neighbours([[0, 1, 2, 3]]), "has no triangles"
    ),
    "a mesh without triangles": (
        lambda w: imaging.surface_neighbours(gifti(np.ones((5, 3), "float32"), intent=1008)),
        "holds 0 lists of triangles, not one",
    ),
    "weights of fewer columns": (
        lambda w: imaging.mixed_effects(
            w.y.reshape(8, -1), w.v.reshape(8, -1), np.column_stack([np.ones(8), np.arange(8)])
        ).joint([[1.0]]),
        "rows of a contrast have 2 finite weights",
    ),
    "the same row twice": (
        lambda w: imaging.mixed_effects(
            w.y.reshape(8, -1), w.v.reshape(8, -1), np.column_stack([np.ones(8), np.arange(8)])
        ).joint([[0.0, 1.0], [0.0, 1.0]]),
        "rows of the contrast depend on each other",
    ),
    # places that do not fit, images without data
    "an atlas of another surface": (
        lambda w: w.surface().clusters(atlas=(gifti(np.ones(7, "float32")), ["a"])),
        "the atlas is on another surface than the images; give one of their mesh",
    ),
    "enhancement in a mask of another grid": (
        lambda w: imaging.tfce(w.effects[0], mask=image(np.ones((4, 3, 6)))),
        "is on another grid than the map",
    ),
    "an image of nothing finite": (
        lambda w: w.of_images([image(np.full(SHAPE, np.nan)), *w.effects[1:]]),
        "the image of row 0 has no finite value inside the mask; leave it out",
    ),
    "images that do not vary": (
        lambda w: w.of_images([image(np.full(SHAPE, 3.0)) for _ in range(8)]),
        "no voxel has data that vary in",
    ),
    "an empty mask of visits": (
        lambda w: w.of_images(w.effects, mask_img=image(np.zeros(SHAPE))),
        "holds no voxel; give one that covers the images",
    ),
    "subjects in different places": (
        lambda w: w.fit(w.apart(range(8))),
        "no voxel has data of 2 subjects; are the images in one space?",
    ),
    "a subject beside the others": (
        lambda w: w.fit(w.apart([0]), settings={"min_subjects": 5}),
        "subject 'sub-01' has no data in the voxels of the group; leave it out",
    ),
    "a connectome": (
        lambda w: w.effect(cifti(np.ones((6, 6)), pairs=True)),
        "is a CIFTI image of another kind; give dense scalars (.dscalar)",
    ),
    "grayordinates of two maps": (
        lambda w: w.effect(cifti(np.ones((2, 6)))),
        "holds 2 maps; a subject brings one: write it alone",
    ),
    "a surface file of broken XML": (
        lambda w: w.effect(w.file("broken.gii", "<GIFTI>")), "cannot be read"
    ),
    "two maps of a surface image": (
        lambda w: w.effect(surface_image(np.ones((2, 4, 2)))),
        "holds 2 maps on left; a subject brings one: write it alone",
    ),
    "several contrasts side by side": (
        lambda w: w.of_formula("~ age").compare(np.eye(2)),
        "this takes one contrast, not 2 together; ask for one after the other",
    ),
    "labels for fewer volumes": (
        lambda w: w.fit(image(np.moveaxis(w.y, 0, -1)), variances=image(np.moveaxis(w.v, 0, -1)),
                        subject=LABELS[:3]),
        "3 labels were given for 8 subjects; give one a subject",
    ),
    "a label that is missing": (
        lambda w: w.fit(w.changed(2, "subject_label", None)),
        "a subject's label is missing in row 2; every subject has one",
    ),
    "variances of other subjects": (
        lambda w: w.fit(["sub-01_effect.nii", "sub-02_effect.nii"],
                        variances=["sub-01_var.nii", "sub-03_var.nii"]),
        "no variance is that of 'sub-02': the names of the files tell subjects by sub-LABEL",
    ),
    "a table in another coding": (
        lambda w: w.of_formula("~ age", w.latin()), "people_latin.tsv' cannot be read as a table"
    ),
    "results below a file": (
        lambda w: write_maps(w.fit(), {}, w.file("results.txt") / "maps"),
        "cannot make the folder",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore::ranef.errors.DataWarning")
def test_it_is_refused_in_words(name, world):
    call, said = WRONG[name]
    with pytest.raises(RanefError) as caught:
        call(world)
    assert said in " ".join(str(caught.value).split())


def test_images_that_do_not_fit_into_memory(world, monkeypatch):
    monkeypatch.setattr(gathering, "available_memory", lambda: 100)
    with pytest.raises(RanefError, match=r"GiB of effects and variances, and 0.00 GiB are free; "
                       "give a mask of fewer voxels, or a coarser grid"):  # fmt: skip
        world.fit()


def test_dask_that_is_not_installed(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(RanefError, match=r"not installed: pip install 'ranef\[dask\]'"):
        world.fit(settings={"n_jobs": "dask"})


def test_dask_arrays_of_different_shapes():
    array = pytest.importorskip("dask.array")
    with pytest.raises(RanefError, match=r"Y has shape \(8, 4\) and V \(8, 5\); both are subjects"):
        imaging.mixed_effects(array.ones((8, 4)), array.ones((8, 5)), np.ones((8, 1)))


def test_people_are_named_by_their_lines(world, run):
    """The command names the line of the table, blank lines and the heading counted."""
    path = world.file("people.tsv", "participant_id\tage\n\nsub-01\t3\nn/a\t4\n")
    code, _, said = run(
        "imaging", "group", "~ age", "--table", str(path), "--effects", "{subject}_e.nii",
        "--variances", "{subject}_v.nii", "--out", str(world.folder / "out"),
    )  # fmt: skip
    assert code != 0
    assert "a subject's label is missing in line 4; every subject has one" in said
