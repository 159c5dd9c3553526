"""The report of repeated images: contrasts with brains and clusters, variances, method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.display.markup import Markup, element, join, table
from ranef.fields.imaging.group_design import weights_of
from ranef.fields.imaging.page import GroupReport, contrast_section
from ranef.report.page import composed
from ranef.report.pieces import facts_of, paragraphs
from ranef.report.section import Options, Section

__all__ = ["visits_report"]


@dataclass(frozen=True, eq=False)
class _Visits:
    """What the sections speak of."""

    model: Any
    contrasts: Mapping[str, Any]
    settings: Mapping[str, Any]


def visits_report(
    model: Any,
    contrasts: Mapping[str, Any],
    title: str | None,
    settings: Mapping[str, Any],
) -> GroupReport:
    """Return the report of a fitted model of repeated images."""
    for contrast in contrasts.values():
        weights_of(contrast, model.fit_.names)
    about = _Visits(model, contrasts, settings)
    heading = title or "Mixed models of repeated images"
    how = Options(0.95, None, None)
    return GroupReport(composed(heading, [_facts(about)], [(s, about) for s in OWN], how))


def _facts(about: _Visits) -> Markup:
    model = about.model
    data, fit = model._data, model.fit_
    entries = [
        ("Images", f"{len(data.Y)}"),
        ("Voxels" if data.places.is_volume else "Places", f"{int(data.inside.sum()):,}"),
        ("Grid", data.places.words),
        ("Model", model.formula),
        ("Fixed effects", " + ".join(fit.names)),
        ("Random effects", " + ".join(fit.terms)),
    ]
    return facts_of(entries)


def _contrasts(about: _Visits, how: Options) -> Markup:
    parts = []
    for name, contrast in about.contrasts.items():
        C = weights_of(contrast, about.model.fit_.names)
        fit = about.model.fit_
        one = fit.contrast(C[0]) if len(C) == 1 else fit.joint(C)
        parts.append(contrast_section(about.model._data, one.z_score, name, about.settings))
    return join(parts)


def _variances(about: _Visits, how: Options) -> Markup:
    fit = about.model.fit_
    covariance = fit.covariance
    rows: list[tuple[str, Any]] = [
        (f"Standard deviation of {name}", np.sqrt(covariance[i, i]))
        for i, name in enumerate(fit.terms)
    ]
    for i in range(len(fit.terms)):
        for j in range(i + 1, len(fit.terms)):
            with np.errstate(divide="ignore", invalid="ignore"):
                r = covariance[i, j] / np.sqrt(covariance[i, i] * covariance[j, j])
            rows.append((f"Correlation of {fit.terms[i]} and {fit.terms[j]}", r))
    rows.append(("Residual standard deviation", fit.sigma))
    quartiles = []
    for _, values in rows:
        known = values[np.isfinite(values)]
        found = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else np.full(3, np.nan)
        quartiles.append((*found, len(known)))
    low, middle, high, count = (np.array(one, dtype=float) for one in zip(*quartiles, strict=True))
    listing = Listing(
        "variances",
        (
            Column("parameter", [name for name, _ in rows], Label(), heading="Parameter"),
            Column("low", low, Significant(4), heading="First quartile"),
            Column("median", middle, Significant(4), heading="Median"),
            Column("high", high, Significant(4), heading="Third quartile"),
            Column("voxels", count, Fixed(0), heading="Voxels"),
        ),
        caption="Variances, over voxels",
    )
    known = np.isfinite(fit.loglik)
    singular = int((fit.fits.rank[known] < len(fit.terms)).sum())
    said = []
    if singular:
        said.append(
            f"A variance is zero, or a correlation one, in {singular:,} of {int(known.sum()):,} "
            "voxels."
        )
    failed = int((known & ~fit.converged).sum())
    said.append(
        f"The search ended at an optimum in all voxels but {failed:,}."
        if failed
        else "The search ended at an optimum in every voxel."
    )
    return join([table(listing), paragraphs(*said)])


def _method(about: _Visits, how: Options) -> Markup:
    model = about.model
    criterion = "restricted maximum likelihood" if model.reml else "maximum likelihood"
    tests = {
        "satterthwaite": "by t and F with Satterthwaite's degrees of freedom (of F those of Fai "
        "and Cornelius)",
        "normal": "by normal and chi-squared distributions",
    }[model.df]
    lines = [
        f"The linear mixed model {model.formula} was fitted at each voxel by {criterion}; "
        f"contrasts of its fixed effects were tested {tests}.",
        "An image counts as missing at a voxel where its value is not finite.",
    ]
    if model.smoothing_fwhm is not None:
        lines.append(
            f"Images were smoothed by a Gaussian of {model.smoothing_fwhm:g} mm (full width at "
            "half maximum)."
        )
    return element("div", paragraphs(*lines))


OWN: list[Section] = [
    Section("contrasts", "Contrasts", _contrasts),
    Section("variances", "Variances", _variances),
    Section("method", "Method", _method),
]
