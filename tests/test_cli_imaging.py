"""``ranef imaging group``: from files to files, and exit codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ranef import imaging
from ranef.cli import main

nib = pytest.importorskip("nibabel")

SHAPE = (4, 5, 3)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    rng = np.random.default_rng(5)
    labels = [f"sub-{k}" for k in range(8)]
    for label in labels:
        v = rng.uniform(0.5, 2.0, SHAPE)
        y = 1.0 + rng.normal(size=SHAPE) * np.sqrt(v)
        for kind, values in (("effect", y), ("variance", v)):
            nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"{label}_{kind}.nii.gz")
    people = pd.DataFrame({"participant_id": labels, "age": rng.normal(size=8).round(3),
                           "family": [0, 0, 1, 1, 2, 2, 3, 3]})  # fmt: skip
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    return folder


def words(folder, formula, *more):
    return ["imaging", "group", formula, "--table", str(folder / "participants.tsv"), "--effects",
            f"{folder}/{{subject}}_effect.nii.gz", "--variances",
            f"{folder}/{{participant_id}}_variance.nii.gz", *more]  # fmt: skip


def test_from_files_to_files(study, tmp_path, capsys):
    out, report = tmp_path / "out", tmp_path / "r.html"
    more = ["--contrast", "intercept - 2*age", "--permutations", "exact", "--tfce", "--cluster-p",
            "0.01", "--blocks", "family", "--out", str(out), "--report", str(report)]  # fmt: skip
    out.mkdir()
    private = out / "stat-tau2_statmap.nii.gz"
    private.write_bytes(b"before")
    private.chmod(0o600)
    assert main(words(study, "~ age", *more)) == 0
    assert private.stat().st_mode & 0o777 == 0o600
    assert not [file for file in out.iterdir() if file.name.startswith(".")]
    shown = " ".join(capsys.readouterr().out.split())
    assert "8 subjects, 60 voxels; design: intercept, age" in shown
    assert "reading 8 images x 60 voxels" in shown
    assert "Fixed effects call" in shown
    stem = out / "contrast-interceptMinus2Age"
    z = nib.load(f"{stem}_stat-zscore_statmap.nii.gz").get_fdata()
    table = pd.DataFrame({
        "subject_label": [f"sub-{k}" for k in range(8)],
        "effects_map_path": [str(study / f"sub-{k}_effect.nii.gz") for k in range(8)],
        "variance_map_path": [str(study / f"sub-{k}_variance.nii.gz") for k in range(8)],
    })  # fmt: skip
    model = imaging.MixedEffectsSecondLevel(formula="~ age")
    model.fit(table, table=study / "participants.tsv")
    np.testing.assert_allclose(z, model.compute_contrast("intercept - 2*age").get_fdata())
    for name in ("permtfce", "permlogpmaxt", "permlogpmaxmass", "pfdr"):
        assert nib.load(f"{stem}_stat-{name}_statmap.nii.gz").shape == SHAPE
    assert nib.load(out / "stat-tau2_statmap.nii.gz").shape == SHAPE
    assert pd.read_csv(out / "subjects.tsv", sep="\t").shape == (8, 6)
    assert "ranef imaging group" in report.read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--contrast", "agee"], "did you mean 'age'"),
        (["--permutations", "many"], "a number or exact"),
        (["--tfce"], "--permutations N"),
        (["--mask", "none.nii"], "no file"),
        (["--subject", "id"], "no column 'id'"),
        (["--variances", "{subjct}.nii"], "no such column"),
        (["--variances", "one.nii"], "one file for all"),
        (["--variances", "{subject}.nii"], "8 of 16 images are not there"),
        (["--report", "none/r.html"], "there is no folder"),
        (["--blocks", "kin", "--permutations", "8"], "no column 'kin'"),
    ],
)
def test_what_is_wrong_ends_with_words(study, capsys, change, message):
    assert main(words(study, "~ age", "--quiet", *change)) in (2, 3)
    assert message in " ".join(capsys.readouterr().err.split())
