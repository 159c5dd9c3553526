"""Maps and tables of a group in a folder."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranef._version import __version__
from ranef.display.files import write_atomically
from ranef.errors import FileError

__all__ = ["write_maps"]

ENDINGS = {"MGHImage": ".mgh", "GiftiImage": ".func.gii", "Cifti2Image": ".dscalar.nii"}
"""Of kinds of images; those of others are NIfTI."""
OF_MODEL = ("tau2", "i2", "h2", "q", "n", "df", "maxima")
OF_CONTRAST = ("z_score", "stat", "p_value", "effect_size", "effect_variance", "p_fdr")


def write_maps(model: Any, tested: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write a group's maps and tables, named as BIDS names statistical maps.

    Parameters
    ----------
    model : MixedEffectsSecondLevel
        Fitted.
    tested : dict of contrast to maps of its permutation test
    folder : path
        Made if it is not there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {str(folder)!r}: {error.strerror or error}; choose another"
        ) from None
    written = []

    def save(image: Any, name: str) -> None:
        path = folder / f"{name}{ENDINGS.get(type(image).__name__, '.nii.gz')}"
        content = image.to_bytes()
        packed = gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content
        written.append(write_atomically(path, packed))

    first = next(iter(tested))
    whole = model.compute_contrast(first, output_type="all")
    for name in (*OF_MODEL, "outliers") if model.outliers else OF_MODEL:
        save(whole[name], f"stat-{name}_statmap")
    if model.outliers:
        for who, image in model.outlier_maps().items():
            save(image, f"sub-{plain(who.removeprefix('sub-'))}_stat-outlier_statmap")
    for contrast, maps in tested.items():
        label = plain(contrast)
        found = model.compute_contrast(contrast, output_type="all")
        for name in OF_CONTRAST:
            save(found[name], f"contrast-{label}_stat-{name.replace('_', '')}_statmap")
        for name, image in maps.items():
            save(image, f"contrast-{label}_stat-perm{name.replace('_', '')}_statmap")
        answers = {"clusters": model.clusters(contrast), "models": model.compare(contrast)}
        for name, answer in answers.items():
            text = answer.tidy().to_csv(sep="\t", index=False, lineterminator="\n")
            written.append(write_atomically(folder / f"contrast-{label}_{name}.tsv", text))
    people = model.subjects().tidy().to_csv(sep="\t", index=False, lineterminator="\n")
    written.append(write_atomically(folder / "subjects.tsv", people))
    about = {
        "Software": f"ranef {__version__}",
        "Method": model.method,
        "DegreesOfFreedom": model.df,
        "Outliers": model.outliers,
        "Formula": model.formula,
        "Subjects": model.subject_labels_,
        "Contrasts": list(tested),
        "Notes": model.notes_,
    }
    written.append(write_atomically(folder / "model.json", json.dumps(about, indent=2) + "\n"))
    return written


def plain(contrast: str) -> str:
    """A contrast as a part of a file's name.

    Examples
    --------
    >>> plain("intercept - 2*age")
    'interceptMinus2Age'
    """
    words = contrast.replace("-", " minus ").replace("+", " plus ").replace("/", " over ")
    parts = re.findall(r"[A-Za-z0-9]+", words)
    return "".join([parts[0], *(p[0].upper() + p[1:] for p in parts[1:])]) if parts else "contrast"
