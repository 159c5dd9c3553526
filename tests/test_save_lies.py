"""Saved files that lie consistently: every part has its stated size, and means something false.

Each lie is one that reached the core, or asked for memory, before parts were checked
against each other: a rank beyond its size wrote outside the heap, a level without a row
was read past its end.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lies import KINDS, Arrays, Change, Head, changed, packed, stored, unpacked

import ranef
from ranef.errors import DataError, FileError, ModelError, RanefError
from ranef.storage import saving


def estimate(head: Head) -> Any:
    return head["values"]["estimate"]


def part(head: Head) -> Any:
    return estimate(head)["parts"]["conditional"]


def face(rank: int, size: int = 1, term: int = 0) -> Change:
    def change(head: Head, arrays: Arrays) -> None:
        own = {"class": "Face", "description": "x", "curvature": 1.0}
        estimate(head)["optimum"]["faces"] = [{**own, "term": term, "rank": rank, "size": size}]

    return change


def array(name: str, make: Any) -> Change:
    def change(head: Head, arrays: Arrays) -> None:
        arrays[name] = make(arrays[name]).astype(arrays[name].dtype)

    return change


def value(where: str, new: Any) -> Change:
    def change(head: Head, arrays: Arrays) -> None:
        at: Any = estimate(head)
        *path, last = where.split(".")
        for key in path:
            at = at[int(key) if key.isdigit() else key]
        at[int(last) if last.isdigit() else last] = new

    return change


def fewer_rows(head: Head, arrays: Arrays) -> None:
    """Cut every array of rows: the file of a fit to other data, in which a level has no row."""
    n = 60
    for name, a in arrays.items():
        for axis, size in enumerate(a.shape):
            if size == n:
                arrays[name] = np.take(a, range(0, 60, 6), axis=axis)
    for where in (part(head), head["values"]["frame"]):
        where["accounting"]["n_rows"] = 10


def no_rows(head: Head, arrays: Arrays) -> None:
    for name, a in arrays.items():
        for axis, size in enumerate(a.shape):
            if size == 60:
                arrays[name] = np.take(a, [], axis=axis)
    for where in (part(head), head["values"]["frame"]):
        where["accounting"]["n_rows"] = 0


def more_levels(head: Head, arrays: Arrays) -> None:
    part(head)["factors"][0]["levels"].append(6)
    arrays["modes"] = np.vstack([arrays["modes"], arrays["modes"][:1]])


def longer_recipe(head: Head, arrays: Arrays) -> None:
    part(head)["recipe"]["groups"][0]["levels"][0].append(6)
    arrays["cells"] = np.arange(7, dtype="<i4")[:, None]


LIES: dict[str, tuple[str, Change]] = {
    "a rank beyond the size": ("rank", face(2)),
    "a rank far beyond the size": ("rank", face(10**9)),
    "a negative rank": ("rank", face(-5)),
    "rank and size beyond the term": ("size", face(3, 5)),
    "a face of no term": ("face", face(0, 1, 7)),
    "one level has all rows": ("no row", array("codes", lambda a: 0 * a + 5)),
    "rows of some levels only": ("no row", fewer_rows),
    "no rows at all": ("no row", no_rows),
    "a level that no row has": ("no row", more_levels),
    "levels that only the recipe has": ("recipe", longer_recipe),
    "columns that only the recipe has": ("recipe", value("parts.conditional.recipe.kept", [0])),
    "a column twice": ("recipe", value("parts.conditional.recipe.kept", [1, 1])),
    "a recipe without the random term": (
        "recipe", value("parts.conditional.recipe.random_recipes", []),
    ),
    "theta is not a number": ("finite", array("theta", lambda a: a * np.nan)),
    "modes are infinite": ("finite", array("modes", lambda a: a + np.inf)),
    "coefficients are not numbers": ("finite", array("coefficients", lambda a: a * np.nan)),
    "the model matrix is not finite": ("finite", array("X", lambda a: a / 0.0)),
    "the response is missing": ("missing", array("y", lambda a: a * np.nan)),
    "another covariance than theta's": ("theta", array("covariances", lambda a: a + 1.0)),
    "a covariance that is none": ("theta", array("covariances", lambda a: -1.0 - a)),
    "a huge covariance": ("theta", array("covariances", lambda a: a * 1e300)),
    "variances below zero": ("negative", array("coefficient_vcov", lambda a: -a)),
    "a likelihood of infinity": ("likelihood", value("loglik", float("inf"))),
    "quadrature without nodes": ("quadrature", value("quadrature", 0)),
    "quadrature of too many nodes": ("quadrature", value("quadrature", 10**6)),
    "a structure that is not known": (
        "structure", value("parts.conditional.terms.0.structure", "nonsense"),
    ),
    "a term of another factor": ("factor", value("parts.conditional.terms.0.factor", 3)),
    "runaway coefficients that are none": ("runaway", value("runaway", [9])),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_before_the_core_sees_it(lie: str) -> None:
    words, change = LIES[lie]
    with pytest.raises(FileError, match=words):
        saving.from_bytes(changed("poisson", change))


def _thresholds(head: Head, arrays: Arrays) -> None:
    arrays["coefficients"] = 0 * arrays["coefficients"] + 0.3


def _one_category(head: Head, arrays: Arrays) -> None:
    for name, a in arrays.items():
        if name.partition(".")[0] == "y":
            arrays[name] = 0 * a


@pytest.mark.parametrize(
    ("change", "words"),
    [(_thresholds, "the thresholds do not rise"), (_one_category, "the response has one category")],
)
def test_thresholds_rise_between_categories(change: Change, words: str) -> None:
    for kind in ("nominal", "cumulative"):
        with pytest.raises(FileError, match=f"{words}|linear predictor"):
            saving.from_bytes(changed(kind, change))
    with pytest.raises(FileError, match=words):
        saving.from_bytes(changed("nominal", change))


def test_columns_that_the_terms_do_not_make_are_told() -> None:
    where = "values.estimate.model.specification.recipe.kept"
    head, arrays = unpacked(stored("ordered equations"))
    at: Any = head
    for name in where.split(".")[:-1]:
        at = at[name]
    at["kept"] = [0, 2]
    with pytest.raises(RanefError, match="the terms make 2 columns, and one of a higher place"):
        saving.from_bytes(packed(head, arrays)).anova()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [2000, 10**9, 5, -1])
def test_ranks_of_every_kind_of_fit(kind: str, rank: int) -> None:
    with pytest.raises(FileError, match="rank"):
        saving.from_bytes(changed(kind, face(rank)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_apart_and_put_together_is_the_same(kind: str) -> None:
    again = saving.from_bytes(packed(*unpacked(stored(kind))))
    assert str(again.summary()) == str(saving.from_bytes(stored(kind)).summary())


@pytest.mark.parametrize("count", [5000, 20_000, 2**31 - 1])
def test_categories_without_numbers_ask_for_no_memory(count: int) -> None:
    before = time.process_time()
    with pytest.raises(FileError, match="categories"):
        saving.from_bytes(changed("multinomial", value("family.categories", count)))
    with pytest.raises(FileError, match="categories"):
        saving.from_bytes(changed("cumulative", array("extra", lambda a: 0 * a + count)))
    assert time.process_time() - before < 5.0


# --- files that ask for memory ---------------------------------------------------------


def bomb(path: Path, text: bytes) -> None:
    import zipfile

    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("fit.json", "w") as stream,
    ):
        stream.write(b'{"format":"ranef fit","version":3,"arrays":{},"values":{"a":[')
        for _ in range(20):
            stream.write(text * (2**20 // len(text)))
        stream.write(b"0]}}")


@pytest.mark.parametrize("text", [b"[],", b"{},", b"0,", b"[[[[],[],[]]]],"])
def test_small_objects_count_and_not_only_bytes(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ranef"
    bomb(path, text)
    assert path.stat().st_size < 100_000
    script = textwrap.dedent(f"""
        import resource, ranef
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            ranef.load({str(path)!r}, max_gb=0.1)
        except ranef.errors.FileError as error:
            print("far more than a saved fit" in str(error) and "max_gb" in str(error))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000)
        """)
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_the_limit_is_the_readers(tmp_path: Path) -> None:
    path = tmp_path / "a.ranef"
    path.write_bytes(stored("linear"))
    with pytest.raises(FileError, match="max_gb"):
        ranef.load(path, max_gb=1e-6)
    assert ranef.load(path, max_gb=1).n_obs == 60
    for wrong in (0, -1.0):
        with pytest.raises(ModelError, match="max_gb"):
            ranef.load(path, max_gb=wrong)


@pytest.mark.parametrize("zone", ["dateutil//etc/hostname", "tzlocal()", "../../etc/passwd", "/x"])
def test_a_time_zone_opens_no_file(zone: str) -> None:
    opened: list[str] = []
    sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)

    def change(head: Head, arrays: Arrays) -> None:
        label = {"Timestamp": ["2020-01-01T00:00:00+00:00", zone]}
        levels = part(head)["factors"][0]["levels"]
        levels[0] = label

    with pytest.raises(FileError, match="no label"):
        saving.from_bytes(changed("poisson", change))
    assert not any("hostname" in name or "passwd" in name for name in opened)


@pytest.mark.parametrize("half", ["\ud800", "a\udfff"])
def test_half_a_character_is_neither_saved_nor_read(half: str, tmp_path: Path) -> None:
    def change(head: Head, arrays: Arrays) -> None:
        part(head)["factors"][0]["levels"][0] = half

    with pytest.raises(FileError, match="surrogates"):
        saving.from_bytes(changed("poisson", change))
    with pytest.raises(FileError, match="surrogates"):
        saving.from_bytes(changed("poisson", value("parts.conditional.response", half)))
    dyestuff = ranef.data.load("Dyestuff")
    batch = np.array([half if b == "A" else b for b in dyestuff["Batch"]], dtype=object)
    table = {"Yield": dyestuff["Yield"].to_numpy(), "Batch": batch}
    fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", table)
    with pytest.raises(DataError, match="half a character"):
        fit.save(tmp_path / "a.ranef")
    assert list(tmp_path.iterdir()) == []
