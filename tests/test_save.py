"""Saved fits: everything works after loading, and hostile files are refused."""

from __future__ import annotations

import copy
import datetime
import io
import json
import os
import pickle
import threading
import zipfile
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import ranef
from ranef.errors import DataError, FileError, ModelError, RanefError

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def fit():
    return ranef.lmm(FORMULA, ranef.data.load("sleepstudy"))


@pytest.fixture
def stored(fit, tmp_path):
    path = tmp_path / "sleep.ranef"
    fit.save(path)
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def edited(path, change):
    """Apply `change` to the head of a saved fit."""
    contents = members(path)
    head = json.loads(contents["fit.json"])
    change(head)
    contents["fit.json"] = json.dumps(head)
    rewrite(path, contents)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def again(fit, path):
    fit.save(path)
    return ranef.load(path)


# --- there and back ------------------------------------------------------------------


def assert_same(one, two, new):
    assert str(one.summary()) == str(two.summary())
    for effects in ("fixed", "variance", "random"):
        pd.testing.assert_frame_equal(one.tidy(effects), two.tidy(effects), check_dtype=False)
    pd.testing.assert_series_equal(one.fitted(), two.fitted())
    pd.testing.assert_frame_equal(one.augment(), two.augment(), check_dtype=False)
    for kind in ("conditional", "typical", "population"):
        pd.testing.assert_frame_equal(
            one.predict(new, kind=kind, conf_level=0.9), two.predict(new, kind=kind, conf_level=0.9)
        )
    pd.testing.assert_frame_equal(one.simulate(2, rng=1), two.simulate(2, rng=1))
    y = one.simulate(1, rng=2)["sim_1"]
    assert one.refit(y).loglik == two.refit(y).loglik
    np.testing.assert_array_equal(
        one.refit(one.simulate(2, rng=3)).coef, two.refit(one.simulate(2, rng=3)).coef
    )
    assert str(one.equation()) == str(two.equation())
    assert one.optimum.faces == two.optimum.faces
    np.testing.assert_array_equal(one.optimum.trace, two.optimum.trace)


CASES = {
    "slope": ("sleepstudy", FORMULA),
    "nested": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "singular": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    "factors": ("Oats", "yield ~ Variety * factor(nitro) + (1 | Block/Variety)"),
    "structure": ("sleepstudy", "Reaction ~ Days + ar1(0 + Days | Subject)"),
}


@pytest.mark.parametrize("case", CASES)
def test_everything_works_after_loading(case, tmp_path):
    name, formula = CASES[case]
    table = ranef.data.load(name)
    fit = ranef.lmm(formula, table)
    assert_same(fit, again(fit, tmp_path / "a.ranef"), table.head(7))


def test_learned_transformations_are_remembered(tmp_path):
    sleep = ranef.data.load("sleepstudy")
    fit = ranef.lmm("log(Reaction) ~ ns(Days, 3) + (1 | Subject)", sleep)
    back = again(fit, tmp_path / "a.ranef")
    new = pd.DataFrame({"Days": [0.5, 3.25], "Subject": ["308", "309"]})
    np.testing.assert_array_equal(back.predict(new), fit.predict(new))


def test_weights_offset_and_dropped_rows_come_back(tmp_path):
    table = ranef.data.load("sleepstudy").assign(w=np.linspace(1, 2, 180), shift=0.5)
    table.loc[5, "Reaction"] = np.nan
    fit = ranef.lmm(FORMULA, table, weights="w", offset="shift")
    back = again(fit, tmp_path / "a.ranef")
    assert_same(fit, back, table.head(9))
    assert back.n_obs == 179
    assert back.fitted().isna().sum() == 1


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([f"row {i}" for i in range(180)], name="row"),
        pd.RangeIndex(10, 190),
        pd.date_range("2024-01-01", periods=180, freq="h", tz="Europe/Berlin"),
        pd.MultiIndex.from_product([list("abc"), range(60)], names=["a", "b"]),
    ],
    ids=["text", "integer", "time", "two levels"],
)
def test_row_labels_come_back(fit, index, tmp_path):
    table = ranef.data.load("sleepstudy").set_index(index)
    back = again(ranef.lmm(FORMULA, table), tmp_path / "a.ranef")
    assert back.fitted().index.equals(table.index)


@pytest.mark.parametrize(
    "levels",
    [
        ["a", "b", "c"],
        [3, 1, 2],
        [True, False],
        [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2), datetime.date(2023, 1, 1)],
        list(pd.to_datetime(["2024-01-01", "2023-05-01", "2024-02-01"])),
        list(pd.to_datetime(["2024-01-01", "2023-05-01"]).tz_localize("Europe/Berlin")),
        list(pd.to_datetime(["2024-01-01", "2023-05-01"]).tz_localize("+02:30")),
        list(pd.to_timedelta([3, 1, 2], unit="h")),
        [datetime.time(1), datetime.time(0, 30)],
        [Decimal("0.1"), Decimal("0.30"), Decimal("0.2")],
        [Fraction(1, 3), Fraction(2, 3)],
        ["", "a/b", "../c", "x" * 3000, "\u00fc\x00"],
        [2**60, 2**60 + 1, 7],
        [0.1, 2.5, -1.0],
    ],
    ids=["text", "integer", "boolean", "date", "timestamp", "zone", "offset", "duration", "time",
         "decimal", "fraction", "odd text", "large integer", "number"],
)  # fmt: skip
def test_levels_come_back_in_their_type(levels, tmp_path):
    rng = np.random.default_rng(0)
    g = levels * 20
    table = pd.DataFrame({"y": rng.normal(size=len(g)), "g": g})
    fit = ranef.lmm("y ~ 1 + (1 | g)", table)
    back = again(fit, tmp_path / "a.ranef")
    assert list(back.tidy("random")["level"]) == list(fit.tidy("random")["level"])
    assert list(map(type, back.factors[0].levels)) == list(map(type, fit.factors[0].levels))
    assert back.factors[0].levels == fit.factors[0].levels
    assert back.parts["conditional"].recipe.groups[0].levels[0] == tuple(fit.factors[0].levels)
    np.testing.assert_array_equal(back.predict(table), fit.fitted())
    np.testing.assert_array_equal(back.predict(back.frame.rows_used()), fit.fitted())


def test_polars_comes_back_as_polars(tmp_path):
    fit = ranef.lmm(FORMULA, pl.from_pandas(ranef.data.load("sleepstudy")))
    back = again(fit, tmp_path / "a.ranef")
    assert isinstance(back.tidy(), pl.DataFrame)
    assert back.tidy().equals(fit.tidy())


def test_functions_are_handed_over_again(tmp_path):
    sleep = ranef.data.load("sleepstudy")

    def half(x):
        return x / 2

    fit = ranef.lmm("Reaction ~ half(Days) + (1 | Subject)", sleep, functions={"half": half})
    path = tmp_path / "a.ranef"
    fit.save(path)
    with pytest.raises(ModelError, match="half"):
        ranef.load(path).predict(sleep)
    back = ranef.load(path, functions={"half": half})
    np.testing.assert_array_equal(back.predict(sleep), fit.predict(sleep))


def third(x):
    return x / 3


@pytest.mark.parametrize("kind", ["linear", "generalised"])
def test_a_fit_also_pickles(kind):
    sleep, functions = ranef.data.load("sleepstudy"), {"third": third}
    formula = "Reaction ~ third(Days) + (1 | Subject)"
    if kind == "linear":
        fit = ranef.lmm(formula, sleep, functions=functions)
    else:
        fit = ranef.glmm(formula, sleep, family="Gamma", link="log", functions=functions)
    for back in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit)):
        assert type(back) is type(fit)
        assert str(back) == str(fit)
        np.testing.assert_array_equal(back.predict(sleep), fit.predict(sleep))


@pytest.mark.parametrize("make", [
    lambda g: pd.cut(g, 4), lambda g: pd.PeriodIndex([str(2000 + int(v)) for v in g], freq="Y"),
    lambda g: pd.Categorical.from_codes(g.astype(int), ["a", 1, 2.5, False, "", "b", "c", "d"]),
    lambda g: g.astype("M8[ns]"), lambda g: g.astype("m8[ns]"), lambda g: g.astype("m8[25s]"),
    lambda g: g.astype("M8[M]"), lambda g: g.astype(np.float32) / 3,
    lambda g: pd.array(g.astype(int), dtype="Int64"), lambda g: g.astype(np.uint64) + 2**63,
], ids=["interval", "period", "mixed", "nanoseconds", "spans", "odd unit", "months", "float32",
        "nullable", "unsigned"])  # fmt: skip
def test_levels_of_any_type_come_back(make, tmp_path):
    g = np.repeat(np.arange(8.0), 6)
    y = np.random.default_rng(3).normal(size=48) + g
    table = {"y": y, "g": make(g)}
    fit = ranef.lmm("y ~ 1 + (1 | g)", table)
    back = again(fit, tmp_path / "a.ranef")
    assert list(map(type, back.factors[0].levels)) == list(map(type, fit.factors[0].levels))
    assert back.factors[0].levels == fit.factors[0].levels
    np.testing.assert_array_equal(back.predict(table), fit.fitted())
    np.testing.assert_array_equal(back.predict(back.frame.rows_used()), fit.fitted())


MOMENTS = [datetime.datetime(2024, 3, 28, 12) + datetime.timedelta(hours=i) for i in range(8)]
TIMES = {
    "pandas": pd.Series(np.repeat(MOMENTS, 6)),
    "pandas in nanoseconds": pd.Series(np.repeat(np.array(MOMENTS, dtype="M8[ns]"), 6)),
    "categories": pd.Categorical(np.repeat(pd.to_datetime(MOMENTS), 6)),
    "objects": pd.Series(np.repeat(np.array(MOMENTS, dtype=object), 6), dtype=object),
    "timestamps": [pd.Timestamp(moment) for moment in MOMENTS for _ in range(6)],
    "numpy": np.repeat(np.array(MOMENTS, dtype="M8[s]"), 6),
    "polars": pl.Series(MOMENTS).repeat_by(6).explode(),
    "arrow": pa.array(np.repeat(np.array(MOMENTS, dtype="M8[ns]"), 6)),
}


@pytest.mark.parametrize("library", TIMES)
def test_times_are_of_one_type_before_and_after(library, tmp_path):
    y = np.random.default_rng(3).normal(size=48) + np.repeat(np.arange(8), 6)
    fit = ranef.lmm("y ~ 1 + (1 | g)", {"y": y, "g": TIMES[library]})
    back = again(fit, tmp_path / "a.ranef")
    for one in (fit, back):
        assert one.factors[0].levels == MOMENTS
        assert one.parts["conditional"].recipe.groups[0].levels == (tuple(MOMENTS),)
        assert {type(level) for level in one.factors[0].levels} == {datetime.datetime}


def test_columns_keep_their_types(tmp_path):
    table = ranef.data.load("sleepstudy").assign(
        whole=np.arange(180) % 7, odd=np.arange(180) % 2 == 1,
        when=pd.date_range("2024-01-01", periods=180), lasted=pd.to_timedelta(np.arange(180), "s"),
    )  # fmt: skip
    formula = (
        "Reaction ~ whole + odd + as.numeric(when) + log(as.numeric(lasted) + 1) + (1 | Subject)"
    )
    fit = ranef.lmm(formula, table)
    used, kept = fit.frame.rows_used(), again(fit, tmp_path / "a.ranef").frame.rows_used()
    assert {k: np.asarray(v).dtype for k, v in used.items()} == {
        k: np.asarray(v).dtype for k, v in kept.items()
    }


def test_columns_by_odd_names_come_back(tmp_path):
    names = ["a/b", "..", "class", "x" * 300, "\u00fc \x00", "array"]
    columns = {name: np.random.default_rng(k).normal(size=180) for k, name in enumerate(names)}
    table = ranef.data.load("sleepstudy").assign(**columns)
    terms = " + ".join(f"`{name}`" for name in names)
    fit = ranef.lmm(f"Reaction ~ {terms} + (1 | Subject)", table)
    back = again(fit, tmp_path / "a.ranef")
    assert back.names == fit.names
    np.testing.assert_array_equal(back.predict(table), fit.fitted())
    for member in members(tmp_path / "a.ranef"):
        assert "/" not in member
        assert len(member) < 60


# --- writing -------------------------------------------------------------------------


def test_saving_leaves_only_the_file(fit, tmp_path):
    fit.save(tmp_path / "a.ranef")
    fit.save(str(tmp_path / "a.ranef"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.ranef"]


def test_fits_saved_at_once_leave_one_whole_file(fit, tmp_path):
    path = tmp_path / "a.ranef"
    threads = [threading.Thread(target=fit.save, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ranef.load(path).loglik == fit.loglik
    assert [p.name for p in tmp_path.iterdir()] == ["a.ranef"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_disk_leaves_the_old_file(fit, stored, monkeypatch, error):
    before = stored.read_bytes()

    def full(*_):
        raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((FileError, MemoryError), match=r"no space left|^$"):
        fit.save(stored)
    assert stored.read_bytes() == before
    assert len(list(stored.parent.iterdir())) == 1


def test_a_folder_is_no_file(fit, tmp_path):
    for path in (tmp_path, "."):
        with pytest.raises(FileError, match="cannot write"):
            fit.save(path)
        with pytest.raises(FileError, match="cannot read"):
            ranef.load(path)


@pytest.mark.skipif(not hasattr(os, "umask"), reason="no permissions here")
def test_the_file_has_the_permissions_of_any_new_file(fit, tmp_path):
    fit.save(tmp_path / "a.ranef")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.ranef").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_failed_write_leaves_the_old_file(fit, stored, monkeypatch):
    before = stored.read_bytes()

    def broken(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ranef.storage.saving._write", broken)
    with pytest.raises(KeyboardInterrupt):
        fit.save(stored)
    assert stored.read_bytes() == before
    assert len(list(stored.parent.iterdir())) == 1


def test_a_folder_that_is_not_there_is_named(fit, tmp_path):
    with pytest.raises(FileError, match=r"cannot write .*no such folder"):
        fit.save(tmp_path / "no such folder" / "a.ranef")


@pytest.mark.parametrize("path", ["", 5, None])
def test_what_is_no_path_is_refused(fit, path):
    with pytest.raises(FileError, match="must be text or a path"):
        fit.save(path)
    with pytest.raises(FileError, match="must be text or a path"):
        ranef.load(path)


def test_levels_that_a_file_cannot_hold_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    g = [complex(i % 4) for i in range(60)]
    table = pd.DataFrame({"y": rng.normal(size=60), "g": pd.Categorical(g)})
    with pytest.raises(RanefError, match="complex"):
        ranef.lmm("y ~ 1 + (1 | g)", table).save(tmp_path / "a.ranef")
    assert list(tmp_path.iterdir()) == []


# --- reading what may be hostile -----------------------------------------------------


def test_a_missing_file_is_an_oserror_too(tmp_path):
    with pytest.raises(OSError, match="cannot read"):
        ranef.load(tmp_path / "nowhere.ranef")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "a.ranef"
    path.write_bytes(content)
    with pytest.raises(FileError, match="not a saved fit"):
        ranef.load(path)


def test_a_cut_file_is_refused(stored):
    content = stored.read_bytes()
    stored.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError):
        ranef.load(stored)


def test_another_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    rewrite(path, {"hello.txt": "hello"})
    with pytest.raises(FileError, match=r"no single fit\.json"):
        ranef.load(path)
    rewrite(path, {"fit.json": "{}"})
    with pytest.raises(FileError, match="not a saved fit"):
        ranef.load(path)
    rewrite(path, {"fit.json": "{"})
    with pytest.raises(FileError, match="damaged"):
        ranef.load(path)


def test_a_newer_format_says_so(stored):
    edited(stored, lambda head: head.update(version=99, ranef="9.9"))
    with pytest.raises(FileError, match=r"ranef 9\.9 .* update ranef"):
        ranef.load(stored)


class Trap:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self):
        return (print, ("code was run",))


def test_pickled_arrays_are_refused_and_not_run(stored, capsys):
    contents = members(stored)
    contents["y.npy"] = npy(np.array([Trap()], dtype=object), allow_pickle=True)
    rewrite(stored, contents)
    with pytest.raises(FileError):
        ranef.load(stored)
    head = json.loads(contents["fit.json"])
    head["arrays"]["y"] = ["|O", [1]]
    contents["fit.json"] = json.dumps(head)
    rewrite(stored, contents)
    with pytest.raises(FileError, match="'y'"):
        ranef.load(stored)
    assert "code was run" not in capsys.readouterr().out


def test_a_bomb_is_refused_before_it_unpacks(stored):
    contents = members(stored)
    head = json.loads(contents["fit.json"])
    head["arrays"]["y"] = ["<f8", [200_000_000]]
    contents["fit.json"] = json.dumps(head)
    rewrite(stored, contents)
    block = bytes(1 << 24)
    with (
        zipfile.ZipFile(stored, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.npy", "w", force_zip64=True) as stream,
    ):
        for _ in range(70):
            stream.write(block)
    with pytest.raises(FileError, match="far more than a saved fit"):
        ranef.load(stored)


def test_text_that_would_fill_the_memory_is_refused(stored):
    contents = members(stored)
    contents["fit.json"] = contents["fit.json"][:-1] + b" " * (1 << 27) + b"}"
    rewrite(stored, contents)
    with pytest.raises(FileError, match="far more than a saved fit"):
        ranef.load(stored)


def test_an_array_larger_than_stated_is_refused(stored):
    contents = members(stored)
    contents["y.npy"] = npy(np.zeros(100_000))
    rewrite(stored, contents)
    with pytest.raises(FileError, match="wrong size"):
        ranef.load(stored)


def test_a_repeated_member_is_refused(stored):
    with zipfile.ZipFile(stored, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("fit.json", "{}")
    with pytest.raises(FileError, match="no single"):
        ranef.load(stored)


def _pop(*path):
    def change(head):
        for key in path[:-1]:
            head = head[key]
        del head[path[-1]]

    return change


def _set(value, *path):
    def change(head):
        for key in path[:-1]:
            head = head[key]
        head[path[-1]] = value

    return change


ESTIMATE = ("values", "estimate")
SPEC = (*ESTIMATE, "parts", "conditional")
COLUMN = {"class": "column", "kind": "values", "values": {"array": "theta"}, "levels": []}
DAMAGE = {
    "no arrays": _pop("arrays"),
    "no values": _pop("values"),
    "version as text": _set("1", "version"),
    "version zero": _set(0, "version"),
    "array gone": _pop("arrays", "coefficients"),
    "negative shape": _set(["<f8", [-1]], "arrays", "y"),
    "shape as text": _set(["<f8", ["180"]], "arrays", "y"),
    "huge shape": _set(["<f8", [2**62, 2**62]], "arrays", "y"),
    "four dimensions": _set(["<f8", [1, 1, 1, 180]], "arrays", "y"),
    "strange type": _set(["<c16", [90]], "arrays", "y"),
    "path outside": _set(["<f8", [1]], "arrays", "../../y"),
    "sigma as text": _set("25", *ESTIMATE, "sigma"),
    "reml as number": _set(1, *ESTIMATE, "reml"),
    "no recipe": _pop(*SPEC, "recipe"),
    "recipe as list": _set([], *SPEC, "recipe"),
    "recipe empty": _set({}, *SPEC, "recipe"),
    "names too few": _set(["(Intercept)"], *SPEC, "names"),
    "names as numbers": _set([1, 2], *SPEC, "names"),
    "levels too few": _set(["308"], *SPEC, "factors", 0, "levels"),
    "levels nested": _set([[["x"]]] * 18, *SPEC, "factors", 0, "levels"),
    "term of no factor": _set(7, *SPEC, "terms", 0, "factor"),
    "unknown structure": _set("zzz", *SPEC, "terms", 0, "structure"),
    "rows miscounted": _set(181, *SPEC, "accounting", "n_rows"),
    "library unknown": _set("os", "values", "frame", "library"),
    "index too short": _set([COLUMN], "values", "frame", "index"),
    "optimum empty": _set({}, *ESTIMATE, "optimum"),
    "face of no term": _set(
        [{"class": "Face", "term": 5, "rank": 0, "size": 1, "description": "", "curvature": 0.0}],
        *ESTIMATE,
        "optimum",
        "faces",
    ),
    "kind unknown": _set("gee", "values", "class"),
    "kind of no fit": _set("Accounting", "values", "class"),
    "class unknown": _set("Unknown", *SPEC, "class"),
    "class of another place": _set("Accounting", *SPEC, "class"),
    "field unknown": _set(1, *SPEC, "colour"),
    "array of other rows": _set({"array": "modes"}, *SPEC, "X"),
    "array of another type": _set({"array": "codes"}, *SPEC, "y"),
    "other theta": _set({"array": "coefficients"}, *ESTIMATE, "theta"),
    "other modes": _set([{"array": "X"}], *ESTIMATE, "modes"),
    "other covariances": _set([{"array": "modes"}], *ESTIMATE, "covariances"),
    "modes gone": _set([], *ESTIMATE, "modes"),
    "other part": _pop(*SPEC),
    "family unknown": _set("family Normal", *ESTIMATE, "family", "class"),
    "link unknown": _set("loglog", *ESTIMATE, "family", "link"),
    "column unknown": _set("pickle", "values", "frame", "columns", "Days", "kind"),
    "column of codes": _set("labels", "values", "frame", "columns", "Days", "kind"),
    "column too short": _set(COLUMN, "values", "frame", "columns", "Days"),
    "formula unreadable": _set("Reaction ~ (", *SPEC, "recipe", "formula"),
    "formula of others": _set("Reaction ~ 1", *SPEC, "recipe", "formula"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_a_file_error(case, stored):
    edited(stored, DAMAGE[case])
    with pytest.raises(FileError, match=r"sleep\.ranef"):
        ranef.load(stored)


def test_any_member_lost_is_a_file_error(stored):
    contents = members(stored)
    for lost in contents:
        rewrite(stored, {k: v for k, v in contents.items() if k != lost})
        with pytest.raises(FileError):
            ranef.load(stored)


def test_random_bytes_in_the_head_never_escape_as_another_error(stored):
    contents = members(stored)
    text = bytearray(contents["fit.json"])
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(text)
        for place in rng.integers(0, len(text), 3):
            broken[place] = rng.integers(32, 127)
        rewrite(stored, {**contents, "fit.json": bytes(broken)})
        try:
            ranef.load(stored)
        except FileError:
            continue


def places(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


SPOILT = (None, 0, -1, 10**400, 1.5, float("nan"), "", "x", True, [], [0], {}, {"array": "theta"})


def test_any_value_replaced_never_escapes_as_another_error(stored):
    contents = members(stored)
    head, refused = json.loads(contents["fit.json"]), 0
    rng = np.random.default_rng(4)
    every = [path for path in places(head) if path]
    for k in rng.choice(len(every), 200, replace=False):
        spoilt = json.loads(contents["fit.json"])
        _set(SPOILT[rng.integers(len(SPOILT))], *every[k])(spoilt)
        rewrite(stored, {**contents, "fit.json": json.dumps(spoilt)})
        try:
            ranef.load(stored)
        except FileError:
            refused += 1
    assert refused > 100


def test_flipped_bytes_anywhere_never_escape_as_another_error(stored):
    content = stored.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(200):
        broken = bytearray(content)
        broken[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        stored.write_bytes(broken)
        try:
            ranef.load(stored)
        except FileError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(stored, method):
    contents = members(stored)
    with zipfile.ZipFile(stored, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    with pytest.raises(FileError, match="packed in another way"):
        ranef.load(stored)


def test_codes_beyond_the_levels_are_refused(stored):
    contents = members(stored)
    codes = np.load(io.BytesIO(contents["codes.npy"]))
    codes[0] = 18
    contents["codes.npy"] = npy(codes)
    rewrite(stored, contents)
    with pytest.raises(FileError, match="level that is not listed"):
        ranef.load(stored)


def test_loading_a_file_error_is_also_catchable_as_ranef_error(tmp_path):
    with pytest.raises(RanefError):
        ranef.load(tmp_path / "nothing.ranef")
    assert not issubclass(FileError, DataError)
