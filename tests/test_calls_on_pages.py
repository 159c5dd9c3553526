"""Calls that sentences and tables of the README and the documentation name exist as they stand."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ranef
from ranef.api.fits import MetaModelFit
from ranef.api.meta_pictures import MetaPlots
from ranef.api.pictures import FitPlots
from ranef.fields.gwas.pictures import ScanPlots
from ranef.fields.imaging.second_level import MixedEffectsSecondLevel
from ranef.fields.metagenomics.pictures import ScreenPlots

ROOT = Path(__file__).parent.parent
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.stem not in ("benchmarks", "changelog", "messages")
]
FITS = [
    ranef.LinearMixedModelFit, ranef.GeneralizedMixedModelFit, ranef.MarginalModelFit,
    MetaModelFit, ranef.StructuralModelFit, ranef.DynamicModelFit,
]  # fmt: skip
OWNERS: dict[str, list[Any]] = {
    "ranef": [ranef],
    "gwas": [ranef.gwas],
    "mg": [ranef.metagenomics],
    "imaging": [ranef.imaging],
    "fit": FITS,
    "scan": [ranef.gwas.Scan],
    "screen": [ranef.metagenomics.Screen],
    "background": [ranef.metagenomics.Background],
    "diary": [ranef.Diary],
    "K": [ranef.gwas.Relationship],
    "fit.plot": [FitPlots, MetaPlots],
    "scan.plot": [ScanPlots],
    "screen.plot": [ScreenPlots],
    "diary.fit": FITS,
}
WITHOUT_OWNER: dict[str, list[Any]] = {"imaging": [MixedEffectsSecondLevel, ranef.imaging]}
"""Where calls of a page that name no owner belong; else to `ranef`."""
MADE_WITH_THE_FIT = {"fit.comparisons.saturated"}
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def calls(page: Path) -> Iterator[tuple[str, ast.Call]]:
    """Calls in code between words: what stands between backticks, and each call in it."""
    for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text("utf-8"))):
        try:
            tree = ast.parse(code.replace("\\|", "|"), mode="eval")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield code, node


def found(page: Path, owner: str, name: str) -> list[Any] | None:
    """What a name stands for; None where nothing says whose it is."""
    if owner in OWNERS:
        return [getattr(own, name) for own in OWNERS[owner] if hasattr(own, name)]
    own = [getattr(o, name) for o in WITHOUT_OWNER.get(page.stem, [ranef]) if hasattr(o, name)]
    return own if own and not owner else None


def takes(call: Any, names: set[str]) -> bool:
    parameters = inspect.signature(call).parameters
    return names <= set(parameters) or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_calls_exist_and_take_what_they_are_given(page):
    for code, call in calls(page):
        owner, _, name = ast.unparse(call.func).rpartition(".")
        if owner in MADE_WITH_THE_FIT:
            continue
        those = found(page, owner, name)
        if those is None:
            continue
        assert those, code
        told = {keyword.arg for keyword in call.keywords if keyword.arg}
        assert any(takes(one, told) for one in those if callable(one)), code


def test_there_are_calls_to_look_at():
    looked_at = [
        code
        for page in PAGES
        for code, call in calls(page)
        if found(page, *ast.unparse(call.func).rpartition(".")[::2]) is not None
    ]
    assert len(looked_at) > 300
