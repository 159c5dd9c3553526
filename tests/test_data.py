"""The bundled data: R's values, names, types and level order in every library."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from subprocess import run

import numpy as np
import pytest

import ranef.data
from ranef.errors import DataError

REFERENCE = json.loads((Path(__file__).parent / "reference" / "data.json").read_text())
NAMES = list(REFERENCE)


def fingerprint(values) -> float:
    """sum(i * value[i]), i from 1, as in make_data.R."""
    return float(np.arange(1, len(values) + 1) @ np.asarray(values, dtype=float))


def test_every_reference_set_is_bundled_and_no_other():
    assert sorted(ranef.data.names()) == sorted(NAMES)
    stored = {p.name for p in files("ranef.data").iterdir() if p.name.endswith(".parquet")}
    assert stored == {f"{name}.parquet" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_pandas_has_r_values(name):
    table = ranef.data.load(name)
    columns = REFERENCE[name]["columns"]
    assert list(table.columns) == list(columns)
    assert len(table) == REFERENCE[name]["rows"]
    assert not table.isna().any().any()
    for column, described in columns.items():
        found = table[column]
        if described["kind"] == "factor":
            assert list(found.cat.categories) == described["levels"]
            assert found.cat.ordered == described["ordered"]
            found = found.cat.codes + 1
        else:
            assert found.dtype == {"integer": np.int32, "double": np.float64}[described["kind"]]
        assert fingerprint(found) == pytest.approx(
            REFERENCE[name]["fingerprints"][column], rel=1e-14
        )


@pytest.mark.parametrize("name", NAMES)
def test_polars_and_pyarrow_agree_with_pandas(name):
    import polars as pl

    pandas = ranef.data.load(name)
    polars = ranef.data.load(name, "polars")
    arrow = ranef.data.load(name, library="pyarrow")
    assert polars.columns == arrow.column_names == list(pandas.columns)
    for column in pandas.columns:
        expected = pandas[column].tolist()
        assert polars[column].to_list() == expected
        assert arrow[column].to_pylist() == expected
        if hasattr(pandas[column], "cat"):
            assert polars.schema[column] == pl.Enum(list(pandas[column].cat.categories))
            assert arrow.schema.field(column).type.ordered == pandas[column].cat.ordered


@pytest.mark.parametrize("name", NAMES)
def test_descriptions_match_the_tables(name):
    entry = ranef.data.describe(name)
    assert entry.rows == REFERENCE[name]["rows"]
    assert list(entry.columns) == list(REFERENCE[name]["columns"])
    assert REFERENCE[name]["package"].split()[0] in entry.source
    assert len(entry.citation) > 50
    text = str(entry)
    assert all(part in text for part in (entry.title, entry.formula, "Licence: "))
    assert max(map(len, text.splitlines())) <= 100


def test_sample_of_pastes_is_cask_within_batch():
    pastes = ranef.data.load("Pastes")
    joined = pastes["batch"].astype(str) + ":" + pastes["cask"].astype(str)
    assert pastes["sample"].tolist() == joined.tolist()


def test_a_loaded_table_can_be_changed_without_changing_the_next():
    table = ranef.data.load("sleepstudy")
    table.loc[0, "Reaction"] = 0.0
    table.loc[0, "Subject"] = None
    fresh = ranef.data.load("sleepstudy")
    assert fresh.loc[0, "Reaction"] == 249.56
    assert fresh.loc[0, "Subject"] == "308"


@pytest.mark.parametrize("call", [ranef.data.load, ranef.data.describe])
def test_unknown_name_suggests_the_nearest(call):
    with pytest.raises(DataError, match="did you mean 'sleepstudy'") as caught:
        call("SleepStudy")
    assert "Penicillin" in str(caught.value)


def test_unknown_library_suggests_the_nearest():
    with pytest.raises(DataError, match="did you mean 'polars'"):
        ranef.data.load("Pastes", "polar")


def test_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(DataError, match="pip install polars"):
        ranef.data.load("Pastes", "polars")


def test_import_loads_no_data_frame_library():
    code = (
        "import sys, ranef.data; ranef.data.names();"
        "print(sorted({'pandas', 'polars', 'pyarrow'} & set(sys.modules)))"
    )
    found = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
