"""The page of limits says what users are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ranef.fields.imaging.repeated import MOST_FIXED
from ranef.fields.imaging.voxels import MOST_COLUMNS
from ranef.fields.structural import mplus, sem, syntax

PAGE = Path(__file__).parents[1] / "docs" / "limitations.md"
NUMBERS = {8: "eight", 16: "16"}
SOURCES = [Path(module.__file__ or "") for module in (mplus, sem, syntax)]
REFUSED = sorted(
    {
        found
        for source in SOURCES
        for found in re.findall(r"[^\"]*not offered", source.read_text(encoding="utf-8"))
        if "refuses what" not in found
    }
)
WORDS = {
    "categor": "categorical", "counts": "count", "censored": "censored", "threshold": "thresholds",
    "class": "latent classes", "composite": "composites", "explorator": "exploratory",
    "weights": "sampling weights",
}  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    return " ".join(PAGE.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("refusal", REFUSED)
def test_what_structural_models_do_not_offer_is_on_the_page(refusal: str, page: str) -> None:
    words = [word for key, word in WORDS.items() if key in refusal]
    assert words, "a refusal of a kind that the page does not know"
    part = page[page.index("**Structural equation models**") : page.index("**Dynamic models**")]
    assert all(word in part for word in words)


def test_sizes_of_designs_are_on_the_page(page: str) -> None:
    assert f"up to {NUMBERS[MOST_COLUMNS]} columns" in page
    assert f"up to {NUMBERS[MOST_FIXED]} fixed" in page
