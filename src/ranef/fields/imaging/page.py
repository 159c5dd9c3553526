"""The report of a group: contrasts with their brains and clusters, models compared, subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.display.files import write_page
from ranef.display.leaving import or_why
from ranef.display.markup import Markup, element, join, table
from ranef.fields.imaging import pictures
from ranef.fields.imaging.clusters import cluster_table
from ranef.fields.imaging.comparing import three_models
from ranef.fields.imaging.group_design import weights_of
from ranef.fields.imaging.groups import GroupedFit
from ranef.fields.imaging.people import subject_report
from ranef.report.page import composed
from ranef.report.pieces import facts_of, paragraphs
from ranef.report.section import Options, Section

__all__ = ["GroupReport", "contrast_section", "group_report", "named_contrasts"]

ESTIMATORS = {
    "reml": "restricted maximum likelihood", "ml": "maximum likelihood",
    "dl": "DerSimonian and Laird's estimator", "he": "Hedges' estimator",
    "hs": "Hunter and Schmidt's estimator", "sj": "Sidik and Jonkman's estimator",
    "pm": "Paule and Mandel's estimator", "eb": "the empirical Bayes estimator",
    "fe": "fixed effects (it is held at zero)",
}  # fmt: skip
TESTS = {
    "knapp-hartung-conservative": "Knapp and Hartung's t tests, their factor never below one",
    "knapp-hartung": "Knapp and Hartung's t tests",
    "t": "t tests",
    "normal": "Wald's z tests",
}


@dataclass(frozen=True, eq=False, repr=False)
class GroupReport:
    """A report: one HTML page.

    Attributes
    ----------
    html : str
    """

    html: str

    def save_as_html(self, file_name: str | PathLike[str]) -> Path:
        """Write the page to a file, whole or not at all."""
        return write_page(file_name, self.html)

    def __str__(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<GroupReport: {len(self.html):,} characters; save_as_html(path) writes it>"

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True, eq=False)
class _About:
    """What the sections speak of."""

    model: Any
    found: Any
    contrasts: Mapping[str, Any]
    settings: Mapping[str, Any]


def group_report(
    model: Any,
    found: Any,
    contrasts: Mapping[str, Any],
    title: str | None,
    settings: Mapping[str, Any],
    call: str | None,
) -> GroupReport:
    """Return the report of a fitted model."""
    about = _About(model, found, contrasts, settings)
    for contrast in contrasts.values():
        weights_of(contrast, found.design.names)
    how = Options(0.95, call, None)
    sections = [section for section in OWN if call is not None or section.name != "reproduce"]
    heading = title or "Mixed-effects analysis of a group of images"
    return GroupReport(composed(heading, [_facts(about)], [(s, about) for s in sections], how))


def named_contrasts(contrasts: Any, names: Sequence[str]) -> dict[str, Any]:
    """Contrasts by name: what was given, or each column."""
    if contrasts is None:
        return {name: np.eye(len(names))[i] for i, name in enumerate(names)}
    if isinstance(contrasts, str):
        return {contrasts: contrasts}
    if isinstance(contrasts, Mapping):
        return dict(contrasts)
    if isinstance(contrasts, list | tuple) and all(isinstance(one, str) for one in contrasts):
        return {one: one for one in contrasts}
    return {"contrast": contrasts}


def _facts(about: _About) -> Markup:
    data, design = about.found.data, about.found.design
    entries = [
        ("Subjects", f"{len(data.labels)}"),
        ("Voxels" if data.places.is_volume else "Places", f"{int(data.inside.sum()):,}"),
        ("Images", data.places.words),
        ("Design", " + ".join(design.names)),
    ]
    return facts_of(entries)


def _contrasts(about: _About, how: Options) -> Markup:
    return join([_contrast(about, name, one) for name, one in about.contrasts.items()])


def _contrast(about: _About, name: str, contrast: Any) -> Markup:
    data, voxels = about.found.data, about.found.voxels
    C = weights_of(contrast, about.found.design.names)
    kind = "F" if len(C) > 1 else "t"
    one = voxels.contrast(C[0]) if kind == "t" else voxels.joint(C)
    return contrast_section(data, one.z_score, name, about.settings)


def contrast_section(data: Any, z: Any, name: str, settings: Mapping[str, Any]) -> Markup:
    """A contrast's brain and its clusters."""

    def shown() -> Markup:
        clusters = cluster_table(data, z, **settings)
        limit = clusters.height
        drawn = pictures.photograph(
            lambda figure: pictures.brain(data, z, limit, figure),
            alt=pictures.brain_text(z, limit),
            caption=f"z of {name}; {clusters.words}.",
        )
        return join([drawn, table(clusters.listing()), paragraphs(*clusters.sentences())])

    def plain() -> Markup:
        limit = 3.29
        return pictures.photograph(
            lambda figure: pictures.brain(data, z, limit, figure),
            alt=pictures.brain_text(z, limit),
            caption=f"z of {name}.",
        )

    inside = or_why("Clusters", shown)
    if "left-out" in inside:
        inside = join([plain(), inside])
    return join([element("h3", f"Contrast: {name}"), inside])


def _compared(about: _About, how: Options) -> Markup:
    model, found = about.model, about.found
    parts = []
    for name, contrast in about.contrasts.items():
        C = weights_of(contrast, found.design.names)
        if len(C) > 1:
            continue
        three = three_models(
            found.data, found.design, C[0], model.method, model.df, model.n_jobs, model.outliers
        )  # fmt: skip
        parts.append(element("h3", f"Contrast: {name}"))
        parts.append(paragraphs(*three.sentences()))
        parts += [table(one) for one in three.tables()]
    words = paragraphs(
        "Fixed effects (FE) hold for these subjects alone; least squares (RE) give every subject "
        "the same weight; mixed effects (ME) weigh each by its own error and the difference "
        "between subjects."
    )
    return join([words, *parts])


def _heterogeneity(about: _About, how: Options) -> Markup:
    voxels = about.found.voxels
    rows = []
    for name, words in (
        ("tau2", "Variance between subjects, tau²"), ("i2", "I², %"), ("h2", "H²"), ("q", "Q"),
    ):  # fmt: skip
        values = np.asarray(getattr(voxels, name), dtype=np.float64)
        known = values[np.isfinite(values)]
        quartiles = np.quantile(known, [0.25, 0.5, 0.75]) if len(known) else np.full(3, np.nan)
        rows.append((words, *quartiles))
    names, low, middle, high = zip(*rows, strict=True)
    listing = Listing(
        "heterogeneity",
        (
            Column("map", list(names), Label(), heading="Map"),
            Column("low", np.array(low), Significant(4), heading="First quartile"),
            Column("median", np.array(middle), Significant(4), heading="Median"),
            Column("high", np.array(high), Significant(4), heading="Third quartile"),
        ),
        caption="Differences between subjects, over voxels",
    )
    tau2, maxima = np.asarray(voxels.tau2), np.asarray(voxels.maxima)
    known = np.isfinite(tau2)
    said = [
        f"The variance between subjects is zero in {100 * np.mean(tau2[known] == 0):.1f}% of "
        "voxels."
    ]
    several = int((maxima[known] > 1).sum())
    if several:
        said.append(
            f"The likelihood has several maxima in {several:,} voxels; the estimate is the "
            "highest. This occurs where subjects differ much in precision, or in units."
        )
    return join([table(listing), paragraphs(*said)])


def _subjects(about: _About, how: Options) -> Markup:
    data = about.found.data
    report = subject_report(data, about.found.design, about.found.voxels)
    drawn = pictures.photograph(
        lambda figure: pictures.weights(report, figure),
        alt="Mean share of the weights of each subject: "
        + ", ".join(
            f"{n} {100 * w:.1f}%" for n, w in zip(report.labels, report.weight, strict=True)
        ),
        caption="Mean weight of each subject; the broken line marks equal weights.",
    )
    n = np.asarray(about.found.voxels.n)
    counts = np.array([int((n == k).sum()) for k in np.unique(n)])
    here = Listing(
        "n",
        (
            Column("n", np.unique(n), Fixed(0), heading="Subjects with data"),
            Column("voxels", counts, Fixed(0), heading="Voxels"),
        ),
        caption="Number of subjects by voxel",
    )
    return join([drawn, table(report.listing()), paragraphs(*report.sentences()), table(here)])


def _design(about: _About, how: Options) -> Markup:
    design, labels = about.found.design, about.found.data.labels
    columns = [
        Column(name, design.X[:, j], Significant(4), heading=name)
        for j, name in enumerate(design.names)
    ]
    first = Column("subject", list(labels), Label(), heading="Subject")
    rows = Listing("design", (first, *columns), caption="Design matrix, one row per subject")
    return element("details", element("summary", "The design, as a table"), table(rows))


def _method(about: _About, how: Options) -> Markup:
    model = about.model
    grouped = isinstance(about.found.voxels, GroupedFit)
    lines = [
        f"At each voxel the effect of a subject was taken for the group's mean given its columns "
        f"({', '.join(about.found.design.names)}), a deviation with variance tau² between "
        "subjects, and an error whose variance is the subject's own image. tau² was estimated by "
        f"{ESTIMATORS[model.method]}"
        + (", separately in each group of subjects" if grouped else "")
        + (", at the highest maximum over all its values" if model.method in ("reml", "ml") else "")
        + f"; coefficients were tested by {TESTS[model.df]}.",
        "A subject counts as missing at a voxel where its effect is not finite or its variance not "
        "positive; degrees of freedom are those of the voxel.",
    ]
    if model.outliers:
        lines.append(
            "Outlying subjects were sought at each voxel: deviations came from one "
            "normal distribution, or from a mixture of two (Woolrich 2008, NeuroImage 41) where "
            "the Bayesian information criterion preferred it. There a subject's weight is reduced "
            "by its probability of being an outlier, and the degrees of freedom are fewer by the "
            "expected number of outliers."
        )
    if model.smoothing_fwhm is not None:
        lines.append(
            f"Effects were smoothed by a Gaussian of {model.smoothing_fwhm:g} mm (full width at "
            "half maximum); their variances are an upper bound, the smoothed variances."
        )
    notes = [*about.found.design.notes, *about.found.data.notes]
    return join([paragraphs(*lines), *(element("p", f"{note}.") for note in notes)])


def _reproduce(about: _About, how: Options) -> Markup:
    return element("pre", element("code", how.call or ""))


OWN: list[Section] = [
    Section("contrasts", "Contrasts", _contrasts),
    Section("models", "Fixed, random and mixed effects", _compared),
    Section("heterogeneity", "Differences between subjects", _heterogeneity),
    Section("subjects", "Subjects", _subjects),
    Section("design", "Design", _design),
    Section("method", "Method", _method),
    Section("reproduce", "How to reproduce", _reproduce),
]
