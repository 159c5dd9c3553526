"""Files that ranef 0.1.0 saved: they load and answer as they did, and damage is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_save import _pop, _set, edited, members, npy, rewrite

import ranef
from ranef.errors import FileError
from ranef.storage.codec import encode

HERE = Path(__file__).parent / "reference" / "saved-0.1.0"
SAID = json.loads((HERE / "answers.json").read_text())
FUNCTIONS = {"half": lambda x: x / 2}


def loaded(path):
    return ranef.load(path, functions=FUNCTIONS)


def assert_answers(fit, name):
    said = SAID["answers"][name]
    random = fit.tidy("random")
    new = dict(SAID["new"])
    if name.startswith("levels"):
        new["u"] = list(random["level"])[:2]
    assert type(fit).__name__ == said["class"]
    assert (fit.frame.library, fit.n_obs) == (said["library"], said["n_obs"])
    assert fit.loglik == said["loglik"]
    np.testing.assert_array_equal(fit.coefficients, said["coefficients"])
    np.testing.assert_array_equal(fit.estimate.theta, said["theta"])
    assert [str(level) for level in list(random["level"])] == said["levels"]
    np.testing.assert_allclose(np.asarray(random["estimate"]), said["effects"], rtol=1e-12)
    predicted = fit.predict(pd.DataFrame(new), kind="conditional")
    np.testing.assert_allclose(np.asarray(predicted, dtype=float), said["predicted"], rtol=1e-10)


@pytest.mark.parametrize("name", SAID["answers"])
def test_a_file_of_0_1_0_answers_as_it_did(name, tmp_path):
    fit = loaded(HERE / f"{name}.ranef")
    assert_answers(fit, name)
    fit.save(tmp_path / "a.ranef")
    assert_answers(loaded(tmp_path / "a.ranef"), name)


def assert_same_record(one, two):
    """Everything that a file holds is the same."""
    a, b = encode(one), encode(two)
    assert json.dumps(a.values) == json.dumps(b.values)
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name])


def cases():
    spec = importlib.util.spec_from_file_location("make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


@pytest.mark.parametrize("name", SAID["answers"])
def test_a_fit_of_today_comes_back_whole(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = cases()[name]()
    fit.save(tmp_path / "a.ranef")
    back = loaded(tmp_path / "a.ranef")
    assert_same_record(fit, back)
    assert str(back.summary()) == str(fit.summary())
    old = loaded(HERE / f"{name}.ranef")
    assert old.names == fit.names
    assert old.factors[0].levels == fit.factors[0].levels
    assert list(map(type, old.factors[0].levels)) == list(map(type, fit.factors[0].levels))


def test_the_first_format_held_no_columns(tmp_path):
    path = tmp_path / "a.ranef"
    shutil.copy(HERE / "lmm.ranef", path)

    def change(head):
        head["version"] = 1
        del head["values"]["frame"]["columns"]

    edited(path, change)
    assert_answers(loaded(path), "lmm")
    assert loaded(path).frame.data is None


# --- damage --------------------------------------------------------------------------


SPEC = ("values", "specification")
DAMAGE = {
    "no arrays": _pop("arrays"),
    "no values": _pop("values"),
    "version as text": _set("1", "version"),
    "version zero": _set(0, "version"),
    "array gone": _pop("arrays", "beta"),
    "negative shape": _set(["<f8", [-1]], "arrays", "y"),
    "shape as text": _set(["<f8", ["48"]], "arrays", "y"),
    "huge shape": _set(["<f8", [2**62, 2**62]], "arrays", "y"),
    "four dimensions": _set(["<f8", [1, 1, 1, 48]], "arrays", "y"),
    "strange type": _set(["<c16", [24]], "arrays", "y"),
    "path outside": _set(["<f8", [1]], "arrays", "../../y"),
    "sigma as text": _set("25", "values", "sigma"),
    "reml as number": _set(1, "values", "reml"),
    "no recipe": _pop(*SPEC, "recipe"),
    "recipe as list": _set([], *SPEC, "recipe"),
    "recipe empty": _set({}, *SPEC, "recipe"),
    "names too few": _set(["(Intercept)"], *SPEC, "names"),
    "names as numbers": _set([1, 2], *SPEC, "names"),
    "levels too few": _set(["308"], *SPEC, "factors", 0, "levels"),
    "levels nested": _set([[["x"]]] * 8, *SPEC, "factors", 0, "levels"),
    "term of no factor": _set(7, *SPEC, "terms", 0, "factor"),
    "unknown structure": _set("zzz", *SPEC, "terms", 0, "structure"),
    "rows miscounted": _set(49, *SPEC, "n_rows"),
    "library unknown": _set("os", "values", "frame", "library"),
    "index too short": _set({"labels": [1], "name": None}, "values", "frame", "index"),
    "optimum empty": _set({}, "values", "optimum"),
    "face of no term": _set(
        [{"term": 5, "rank": 0, "size": 1, "description": "", "curvature": 0.0}], "values", "faces"
    ),
}
GENERALISED_DAMAGE = {
    "family unknown": _set("nbinom3", "values", "family", "name"),
    "family as list": _set([], "values", "family"),
    "prior unknown": _set("Prior", "values", "priors", "sd: g", "kind"),
    "prior of text": _set({"shape": "2"}, "values", "priors", "sd: g", "values"),
    "prior of another field": _set({"mean": 2}, "values", "priors", "sd: g", "values"),
    "held unknown": _set({"q": 1.0}, "values", "fixed"),
    "held text": _set({"y": "1"}, "values", "fixed"),
    "equal unknown": _set([["o", "q"]], "values", "equal"),
    "runaway unknown": _set([99], "values", "runaway"),
    "no mean": _pop("values", "parts", "conditional"),
    "predictors gone": _pop("arrays", "predictors"),
    "recipe newer": _set(2, "values", "parts", "conditional", "recipe", "version"),
    "response of another kind": _set(
        {"name": "k", "kind": "categories", "takes": "numbers", "levels": None},
        "values", "parts", "conditional", "recipe", "response",
    ),
    "quadrature as text": _set("1", "values", "quadrature"),
    "model unknown": _set("gee", "values", "model"),
    "model of another": _set("linear", "values", "model"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_of_an_old_file_is_a_file_error(case, tmp_path):
    path = tmp_path / "old.ranef"
    shutil.copy(HERE / "lmm.ranef", path)
    edited(path, DAMAGE[case])
    with pytest.raises(FileError, match=r"old\.ranef"):
        ranef.load(path)


@pytest.mark.parametrize("case", GENERALISED_DAMAGE)
def test_damage_of_an_old_generalised_file_is_a_file_error(case, tmp_path):
    path = tmp_path / "old.ranef"
    shutil.copy(HERE / "glmm-priors-fixed-equal.ranef", path)
    edited(path, GENERALISED_DAMAGE[case])
    with pytest.raises(FileError, match=r"old\.ranef"):
        ranef.load(path)


def test_any_member_of_an_old_file_lost_is_a_file_error(tmp_path):
    path = tmp_path / "old.ranef"
    contents = members(HERE / "lmm-crossed-missing.ranef")
    for lost in contents:
        rewrite(path, {k: v for k, v in contents.items() if k != lost})
        with pytest.raises(FileError):
            ranef.load(path)


def test_codes_of_an_old_file_beyond_the_levels_are_refused(tmp_path):
    path = tmp_path / "old.ranef"
    contents = members(HERE / "lmm.ranef")
    codes = np.load(io.BytesIO(contents["factor0.codes.npy"]))
    codes[0] = 18
    rewrite(path, {**contents, "factor0.codes.npy": npy(codes)})
    with pytest.raises(FileError, match="level that is not listed"):
        ranef.load(path)


def test_random_bytes_in_an_old_head_never_escape_as_another_error(tmp_path):
    path = tmp_path / "old.ranef"
    contents = members(HERE / "glmm-nominal.ranef")
    text, rng = bytearray(contents["fit.json"]), np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(text)
        for place in rng.integers(0, len(text), 3):
            broken[place] = rng.integers(32, 127)
        rewrite(path, {**contents, "fit.json": bytes(broken)})
        try:
            ranef.load(path)
        except FileError:
            continue
