"""The report of a scan: what was found, along the genome, and what was left out."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from ranef.display.figures import figure
from ranef.display.files import write_page
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.fields.gwas import pictures
from ranef.report.page import composed
from ranef.report.pieces import facts_of
from ranef.report.section import Options, Section

__all__ = ["html", "write"]

CONF_LEVEL = 0.95


def html(scan: Any, call: str | None = None) -> str:
    """Return the report as one HTML page."""
    how = Options(CONF_LEVEL, call, None)
    sections = [section for section in OWN if call is not None or section.name != "reproduce"]
    return composed(scan.title, [_facts(scan)], [(s, scan) for s in sections], how)


def write(scan: Any, path: str | PathLike[str], call: str | None = None) -> Path:
    """Write the report to a file, whole or not at all."""
    return write_page(path, html(scan, call))


def _facts(scan: Any) -> Markup:
    one = next(iter(scan.found.values()))
    entries = [
        ("Traits", ", ".join(scan.found)),
        ("Samples", f"{len(one.trait.y):,}"),
        ("Variants in the file", f"{len(scan.genotypes.variants):,}"),
        ("Tested", f"{int(one.tested.sum()):,}"),
    ]
    return facts_of(entries)


def _drawn(scan: Any, name: str, trait: str, number: int, caption: str) -> Markup:
    draw: Callable[..., Any] = getattr(pictures, name)
    told: Callable[..., str] = getattr(pictures, f"{name}_text")
    return or_why(
        name.capitalize(),
        lambda: figure(
            lambda canvas: draw(scan, trait=trait, figure=canvas),
            name=f"gwas-{name}-{number}",
            alt=told(scan, trait),
            caption=caption,
        ),
    )


def _model(scan: Any, how: Options) -> Markup:
    lines = [element("p", line) for line in scan.sentences()]
    formulas = [
        element("p", f"{name}: {one.trait.formula.strip()}") for name, one in scan.found.items()
    ]
    return join([*formulas, *lines, table(scan.listing("glance"))])


def _genome(scan: Any, how: Options) -> Markup:
    caption = "Each point is a variant; the broken line is at p = 5e-8."
    return join([_drawn(scan, "manhattan", name, k, caption) for k, name in enumerate(scan.found)])


def _top(scan: Any, how: Options) -> Markup:
    return table(scan.listing("top"))


def _inflation(scan: Any, how: Options) -> Markup:
    words = element(
        "p",
        "Points above the band on the left, at small expected values, indicate p-values "
        "that are too small throughout the scan; at the far right they indicate associations.",
    )
    caption = "The band holds 95% of each order statistic under the null hypothesis."
    drawn = [_drawn(scan, "qq", name, k, caption) for k, name in enumerate(scan.found)]
    return join([words, *drawn])


def _left_out(scan: Any, how: Options) -> Markup:
    return join([table(scan.listing("filters")), table(scan.listing("samples"))])


def _reproduce(scan: Any, how: Options) -> Markup:
    return element("pre", element("code", how.call or ""))


OWN: list[Section] = [
    Section("top", "Smallest p values", _top),
    Section("genome", "Along the genome", _genome),
    Section("inflation", "Inflation", _inflation),
    Section("model", "Model", _model),
    Section("filters", "Variants and samples", _left_out),
    Section("reproduce", "How to reproduce", _reproduce),
]
