"""Who brings which effect and which variance: every form of input as one list of subjects."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranef.errors import DataError, FileError, ModelError, row_text, suggestion
from ranef.fields.imaging.reading import volumes_of
from ranef.fields.imaging.table_files import is_table_file, read_table
from ranef.formula.labels import list_text
from ranef.tables import Table

__all__ = ["Subject", "label_of", "subjects_of", "text_label"]

EFFECTS, VARIANCES = "effects_map_path", "variance_map_path"
LABEL = "subject_label"
ENTITY = re.compile(r"(?:^|[/\\_])(sub-[0-9A-Za-z+]+)")
STANDARD = "reg_standard"


@dataclass(frozen=True, eq=False)
class Subject:
    """One subject's images.

    Attributes
    ----------
    label : str
    effect, variance : path or image
    named : bool
        Whether the label was given with the images; else it is their number.
    """

    label: str
    effect: Any
    variance: Any
    named: bool = True


def subjects_of(
    given: Any, variances: Any = None, labels: Any = None, contrast: Any = None
) -> list[Subject]:
    """Return the subjects of an input.

    Parameters
    ----------
    given : DataFrame, list of images, list of FirstLevelModels, list of FSL folders, a folder of
        BIDS derivatives, or an image of four dimensions
    variances : list of images, or image of four dimensions, optional
    labels : sequence of str, optional
        Of images that do not carry their subject's label.
    contrast : optional
        Of first-level models: a contrast; the number of a cope of FSL; a contrast's name in BIDS.
    """
    names = None if labels is None else [text_label(one) for one in labels]
    if isinstance(given, Mapping) or (hasattr(given, "columns") and not _is_path(given)):
        found = _of_table(Table.of(given), variances)
    elif isinstance(given, list | tuple):
        found = _of_list(list(given), variances, contrast, names)
        names = None
    elif _is_path(given) and Path(given).is_dir():
        found = _of_bids(Path(given), contrast) if not _is_feat(given) else [_feat(given, contrast)]
    elif is_table_file(given):
        found = _of_table(read_table(given), variances)
    elif _is_path(given) and not Path(given).expanduser().exists():
        raise FileError(f"second_level_input: there is no file or folder {str(given)!r}")
    elif _is_path(given) or hasattr(given, "dataobj"):
        found = _of_four(given, variances)
    else:
        raise DataError(
            f"second_level_input is {type(given).__name__}: give a DataFrame with subject_label, "
            "effects_map_path and variance_map_path, a list of images with variances=, a list of "
            "FirstLevelModels, or FSL's .feat folders"
        )
    if names is not None:
        found = _renamed(found, names)
    _refuse_twice(found)
    return found


def text_label(value: Any, row: int | None = None) -> str:
    """Return a label as text; one that is missing is none."""
    if value is None or (isinstance(value, float) and value != value) or not str(value).strip():
        where = "" if row is None else f" in {row_text(row)}"
        raise DataError(f"a subject's label is missing{where}; every subject has one")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def label_of(path: Any) -> str | None:
    """Return the BIDS label in a path, ``sub-01``."""
    if not _is_path(path):
        return None
    found = ENTITY.findall(str(path))
    return found[-1] if found else None


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _renamed(found: list[Subject], names: list[str]) -> list[Subject]:
    if len(names) != len(found):
        raise DataError(
            f"{len(names)} labels were given for {len(found)} subjects; give one a subject"
        )
    return [Subject(n, s.effect, s.variance) for n, s in zip(names, found, strict=True)]


def _refuse_twice(found: list[Subject]) -> None:
    labels = [one.label for one in found]
    twice = sorted({one for one in labels if labels.count(one) > 1})
    if twice:
        raise DataError(
            f"subject {twice[0]!r} has {labels.count(twice[0])} images: one effect a subject; "
            "combine its runs first (a fixed-effects analysis), or choose one contrast"
            + (f" ({len(twice)} subjects are there more than once)" if len(twice) > 1 else "")
        )
    if len(found) < 2:
        count = "1 subject" if found else "no subjects"
        raise ModelError(f"{count}: a group analysis needs several")


# --- a table


def _of_table(table: Table, variances: Any) -> list[Subject]:
    if variances is not None:
        raise ModelError(f"of a table the variances are its column {VARIANCES!r}, not variances=")
    for name, what in ((LABEL, "who"), (EFFECTS, "what"), (VARIANCES, "how well it was measured")):
        if name not in table:
            more = (
                "; mixed effects weigh each subject by its own precision, so that each effect "
                "needs the image of its variance"
                if name == VARIANCES
                else ""
            )
            raise DataError(
                f"the table has no column {name!r} ({what}){suggestion(name, table.columns)}{more}"
            )
    columns = [list(table.values(name)) for name in (LABEL, EFFECTS, VARIANCES)]
    found = []
    for k, (label, effect, variance) in enumerate(zip(*columns, strict=True)):
        name = text_label(label, k)
        for column, one in ((EFFECTS, effect), (VARIANCES, variance)):
            if one is None or (isinstance(one, float) and one != one) or _is_blank(one):
                raise DataError(
                    f"subject {name!r} has no image in column {column!r}; write its path there, "
                    "or leave the row out"
                )
        found.append(Subject(name, effect, variance))
    return found


# --- a list


def _of_list(
    given: list[Any], variances: Any, contrast: Any, names: list[str] | None
) -> list[Subject]:
    if not given:
        raise ModelError("second_level_input is an empty list; give an image a subject")
    if all(hasattr(one, "compute_contrast") for one in given):
        found = [_first_level(one, contrast) for one in given]
        return found if names is None else _renamed(found, names)
    if all(_is_path(one) and _is_feat(one) for one in given):
        found = [_feat(one, contrast) for one in given]
        return found if names is None else _renamed(found, names)
    if any(hasattr(one, "compute_contrast") for one in given):
        raise DataError("the list mixes FirstLevelModels with images; give one kind")
    if variances is None:
        raise ModelError(
            "a list of images needs variances=, the list of the images of their variances"
        )
    if not isinstance(variances, list | tuple):
        raise ModelError("variances is a list of images, as second_level_input is")
    if len(variances) != len(given):
        raise DataError(f"there are {len(given)} images of effects and {len(variances)} variances")
    return _paired(given, list(variances), names)


def _paired(given: list[Any], variances: list[Any], names: list[str] | None) -> list[Subject]:
    """Effects with their variances, by the labels in their names where all have one."""
    labels = [label_of(one) for one in given]
    others = [label_of(one) for one in variances]
    known = all(labels) and len(set(labels)) == len(labels)
    if known and all(others) and len(set(others)) == len(others):
        missing = [one for one in labels if one not in others]
        if missing:
            raise DataError(
                f"no variance is that of {list_text([str(m) for m in missing])}: the names of the "
                "files tell subjects by sub-LABEL"
            )
        variances = [variances[others.index(one)] for one in labels]
    if names is None:
        own = [str(one) for one in labels] if known else None
        found = own or [str(k + 1) for k in range(len(given))]
        named = own is not None
    else:
        if len(names) != len(given):
            raise DataError(f"{len(names)} labels were given for {len(given)} images")
        found, named = names, True
    return [Subject(*one, named) for one in zip(found, given, variances, strict=True)]


def _first_level(model: Any, contrast: Any) -> Subject:
    label = getattr(model, "subject_label", None)
    if label is None:
        raise DataError("a FirstLevelModel has no subject_label: who is it?")
    if not (getattr(model, "labels_", None) or getattr(model, "results_", None)):
        raise ModelError(f"the FirstLevelModel of {label!r} is not fitted; call its fit() first")
    if contrast is None:
        raise ModelError(
            "first-level models have several effects: name one, first_level_contrast='...'"
        )
    maps = model.compute_contrast(contrast, output_type="all")
    return Subject(text_label(label), maps["effect_size"], maps["effect_variance"])


# --- FSL


def _is_feat(path: Any) -> bool:
    place = Path(path)
    return place.is_dir() and (place.suffix == ".feat" or (place / "stats").is_dir())


def _feat(path: Any, contrast: Any) -> Subject:
    folder = Path(path)
    number = _cope(folder, contrast)
    stats = folder / STANDARD / "stats"
    if not stats.is_dir():
        stats = folder / "stats"
    images = [_image(stats, f"{kind}{number}") for kind in ("cope", "varcope")]
    for kind, image in zip(("cope", "varcope"), images, strict=True):
        if image is None:
            there = sorted(p.name for p in stats.glob("cope*"))[:6]
            raise FileError(
                f"{str(folder)!r} has no {kind}{number} in {str(stats)!r}"
                + (f"; there are {list_text(there)}" if there else "")
            )
    return Subject(label_of(folder) or folder.name.removesuffix(".feat"), images[0], images[1])


def _image(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}{end}" for end in (".nii.gz", ".nii", ".img", ".hdr")]
    return next((one for one in found if one.is_file()), None)


def _cope(folder: Path, contrast: Any) -> int:
    """The number of a cope: itself, ``"cope3"``, or the name of a contrast in design.con."""
    if contrast is None:
        return 1
    text = str(contrast)
    found = re.fullmatch(r"(?:cope)?(\d+)", text)
    if found:
        return int(found[1])
    design = folder / "design.con"
    names = {}
    if design.is_file():
        for line in design.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = re.match(r"/ContrastName(\d+)\s+(.*)", line)
            if entry:
                names[entry[2].strip()] = int(entry[1])
    if text not in names:
        raise ModelError(
            f"{str(folder)!r} has no contrast {text!r}{suggestion(text, names)}; copes are chosen "
            "by number or by their names in design.con"
        )
    return names[text]


# --- BIDS derivatives


def _of_bids(folder: Path, contrast: Any) -> list[Subject]:
    effects: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("sub-*stat-effect_statmap.*")):
        if path.name.endswith((".nii", ".nii.gz", ".gii", ".dscalar.nii")):
            effects.setdefault(label_of(path) or "", []).append(path)
    if not effects:
        raise FileError(
            f"{str(folder)!r} holds no images named sub-*_stat-effect_statmap (BIDS derivatives)"
        )
    if contrast is not None:
        wanted = re.compile(rf"_contrast-{re.escape(str(contrast))}(?:_|$)")
        effects = {k: [p for p in v if wanted.search(p.name)] for k, v in effects.items()}
    return [_pair(label, paths, contrast) for label, paths in sorted(effects.items())]


def _pair(label: str, paths: Sequence[Path], contrast: Any) -> Subject:
    if not paths:
        raise DataError(f"subject {label!r} has no effect of contrast {contrast!r}")
    if len(paths) > 1:
        raise DataError(
            f"subject {label!r} has {len(paths)} effects ({list_text([p.name for p in paths[:4]])})"
            "; choose one by first_level_contrast=, or give a table of paths"
        )
    variance = paths[0].with_name(paths[0].name.replace("stat-effect", "stat-variance"))
    if not variance.is_file():
        raise FileError(f"subject {label!r} has no image {variance.name!r} beside its effect")
    return Subject(label, paths[0], variance)


# --- one image of several volumes


def _of_four(given: Any, variances: Any) -> list[Subject]:
    if variances is None:
        raise ModelError("an image of several volumes needs variances=, another of as many")
    effects = volumes_of(given, "second_level_input")
    others = volumes_of(variances, "variances")
    if len(effects) != len(others):
        raise DataError(f"there are {len(effects)} volumes of effects and {len(others)} variances")
    return [
        Subject(str(k + 1), *both, named=False)
        for k, both in enumerate(zip(effects, others, strict=True))
    ]
