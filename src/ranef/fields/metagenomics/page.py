"""The report of a screen: what a clinician reads, then what a laboratory checks."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ranef._version import __version__
from ranef.display.columns import Column, Fixed, Label, Listing, Significant, Written
from ranef.display.files import write_page
from ranef.display.markup import Markup, element, join, table
from ranef.display.numbers import count as counted
from ranef.fields.metagenomics import pictures
from ranef.fields.metagenomics.arrays import PATIENT
from ranef.fields.metagenomics.judging import COMMON_DOUBT, LEAST_SURE, lists
from ranef.report.page import composed
from ranef.report.pieces import drawn, facts_of, paragraphs
from ranef.report.section import Options, Section

__all__ = ["html", "write"]

MOST = 60
WHOLE = Written("{:,.0f}".format)
FACTORS = (0.1, 1.0, 10.0)
USE = "For research use only. Confirm by another test before anything is done for a patient."


def html(screen: Any, call: str | None = None) -> str:
    """Return the report as one HTML page."""
    how = Options(0.95, call, None)
    sections = [s for s in OWN if (call is not None or s.name != "reproduce") and s.applies(screen)]
    front = [element("p", element("strong", USE)), _facts(screen)]
    return composed(screen.title, front, [(s, screen) for s in sections], how)


def write(screen: Any, path: str | PathLike[str], call: str | None = None) -> Path:
    """Write the report to a file, whole or not at all."""
    return write_page(path, html(screen, call))


def _facts(screen: Any) -> Markup:
    arrays = screen.assembled.arrays
    called = screen.judged.present & (arrays.role[screen.judged.sample] == PATIENT)
    rate = screen.control_rate
    entries = [
        ("Patients' libraries", f"{int((arrays.role == PATIENT).sum()):,}"),
        ("Negative controls", f"{int(arrays.negative.sum()):,}"),
        ("Called present", f"{int(called.sum()):,}"),
        ("Expected to be false", f"{float(screen.judged.lfdr[called].sum()):.2f}"),
        ("False calls of a control left out", "unknown" if np.isnan(rate) else f"{rate:.2f}"),
        ("Parameters", f"ranef {__version__}"
         + (f", background {screen.background_version}" if screen.background_version else "")),
    ]  # fmt: skip
    return facts_of(entries)


def _drawn(screen: Any, name: str, caption: str) -> Markup:
    return drawn(pictures, name, screen, "metagenomics", caption)


def _candidates(screen: Any, how: Options) -> Markup:
    words = paragraphs(
        "Expected: the reads expected from reagents and other libraries, with the upper limit of "
        "95%. Control: the most reads in a negative control of the same batch. LOD: the least "
        "mass that would be called with a probability of 95%. Spill from: the library of the run "
        "that could be the source of hopped reads.",
    )
    arrays = screen.assembled.arrays
    called = screen.judged.present & (arrays.role[screen.judged.sample] == PATIENT)
    made = screen.record_of_pairs(min(int(called.sum()) + 15, MOST))
    columns = (
        Column("sample", made["sample"].tolist()),
        Column("name", made["name"].tolist(), Label(), "taxon"),
        Column("present", ["yes" if p else "no" for p in made["present"]], Label(), "called"),
        Column("probability", made["probability"], Fixed(3)),
        Column("reads", made["reads"], WHOLE),
        Column("rpm", made["rpm"], Significant(3), "per million"),
        Column("expected_reads", made["expected_reads"], Significant(2), "expected"),
        Column("expected_high", made["expected_high"], WHOLE, "up to"),
        Column("control_reads", _absent(made["control_reads"]), WHOLE, "control"),
        Column("estimate", made["estimate"], Significant(2), "mass"),
        Column("conf_low", made["conf_low"], Significant(2), "from"),
        Column("conf_high", made["conf_high"], Significant(2), "to"),
        Column("log10_bf", made["log10_bf"], Fixed(1), "log10 BF"),
        Column("lod", _absent(made["lod"]), Significant(2), "LOD"),
        Column("spill_from", made["spill_from"], Label(), "spill from"),
    )  # fmt: skip
    listing = Listing("pairs", columns, "Ranked candidates", labels=2)
    caption = "Reads of each candidate; the bar holds 95% of what contamination explains."
    return join([words, table(listing), _drawn(screen, "candidates", caption)])


def _absent(values: Any) -> list[Any]:
    return [float(v) if np.isfinite(v) else None for v in values]


def _run(screen: Any, how: Options) -> Markup:
    made = screen.assembled
    arrays = made.arrays
    sums = arrays.reads.sum(axis=1)
    control = ["" if r == PATIENT else (made.sheet.kind[k] or "negative")
               for k, r in enumerate(arrays.role)]  # fmt: skip
    tidy = screen._samples()
    columns = (
        Column("sample", tidy["sample"]),
        Column("batch", [made.cells[c] for c in arrays.cell], Label()),
        Column("control", control, Label()),
        Column("total", arrays.total, WHOLE, "reads"),
        Column("classified", np.where(arrays.total > 0, sums / np.maximum(arrays.total, 1), 0.0),
               Fixed(4), "in taxa"),
        Column("source", tidy["exposure_source"], Label(), "exposure by"),
        Column("share", _absent(tidy["contaminant_share"]), Fixed(3), "contaminant share"),
        Column("deviation", screen.fitted.libraries.deviation, Fixed(2), "log deviation"),
        Column("calls", tidy["calls"], WHOLE),
    )  # fmt: skip
    words = (
        "The deviation is how far a library's contamination is from its batch's, on the log scale."
    )
    return join([paragraphs(words), table(Listing("samples", columns, "Libraries"))])


def _doubts(screen: Any, how: Options) -> Markup:
    return element("ul", *[element("li", f"{note.words} ({note.code})") for note in screen.notes])


def _doubtful(screen: Any) -> bool:
    return bool(screen.notes)


def _removed(screen: Any, how: Options) -> Markup:
    """Taxa with many reads in patients that were not called, and why."""
    made, arrays = screen.assembled, screen.assembled.arrays
    patients = arrays.role == PATIENT
    reads = arrays.reads[patients].sum(axis=0)
    called = np.zeros(len(made.taxa), dtype=bool)
    called[screen.judged.taxon[screen.judged.present]] = True
    order = np.argsort(-np.where(called, -1.0, reads), kind="stable")[:MOST]
    order = order[~called[order] & (reads[order] > 0)]
    classes = screen.found.joined("classes")
    control = arrays.reads[arrays.negative].sum(axis=0)
    spill = screen.expected_spill()[patients].sum(axis=0)
    columns = (
        Column("name", [made.names[k] for k in order], Label(), "taxon"),
        Column("reads", reads[order], WHOLE, "reads in patients"),
        Column("control", control[order], WHOLE, "in controls"),
        Column("ambient", classes[order, 0], Fixed(3), "P(ambient)"),
        Column("why", [_why(classes[k], control[k], spill[k], reads[k]) for k in order], Label()),
    )
    return table(Listing("removed", columns, "Taxa that were not called", labels=1))


def _why(classes: Any, control: float, spill: float, reads: float) -> str:
    if spill > 0.5 * reads:
        return "expected by hopping from other libraries"
    if control > 0 and classes[0] > 0.5:
        return "in negative controls, at the level of the patients"
    if classes[0] > 0.5:
        return "in most libraries in the pattern of contamination, though in no control"
    if classes[2] > 1.0 - COMMON_DOUBT:
        return "genuine by its pattern, but no library passes the list"
    if classes[2] > LEAST_SURE:
        return "its class is undecided: its calls would all be true or all false"
    return "too few reads against sporadic contamination"


def _prior(screen: Any, how: Options) -> Markup:
    """Calls with the prevalence a tenth and ten times as large."""
    arrays, judged = screen.assembled.arrays, screen.judged
    patients = arrays.role[judged.sample] == PATIENT
    p = np.clip(1.0 - judged.lfdr[patients], 1e-15, 1 - 1e-15)
    before = judged.present[patients]
    undecided, unit = judged.undecided[patients], judged.unit[patients]
    rows = []
    for factor in FACTORS:
        odds = p / (1.0 - p) * factor
        now = lists(1.0 / (1.0 + odds), undecided, unit, screen.fdr)
        rows.append((factor, int(now.sum()), int((now & before).sum())))
    columns = (
        Column("factor", [f"times {r[0]:g}" for r in rows], Label(), "prior odds"),
        Column("calls", [r[1] for r in rows], WHOLE, "called"),
        Column("same", [r[2] for r in rows], WHOLE, "of the list above"),
    )
    words = "One-step updates: the odds of presence are multiplied and the list is made again."
    return join([paragraphs(words), table(Listing("prior", columns, "Sensitivity to the prior"))])


def _controls(screen: Any, how: Options) -> Markup:
    tidy = screen._controls()
    columns = (
        Column("sample", tidy["sample"]),
        Column("control_type", tidy["control_type"], Label(), "kind"),
        Column("calls", tidy["calls"], WHOLE, "false calls"),
    )
    words = (
        "Each negative control is analysed as a patient's library, given all other libraries. "
        f"Mean number of false calls: {screen.control_rate:.2f}."
    )
    return join([paragraphs(words), table(Listing("controls", columns, "Controls left out"))])


def _has_controls(screen: Any) -> bool:
    return bool(screen.assembled.arrays.negative.any())


def _positives(screen: Any, how: Options) -> Markup:
    tidy = screen._positives()
    columns = (
        Column("sample", tidy["sample"]),
        Column("name", tidy["name"], Label(), "taxon"),
        Column("reads", tidy["reads"], WHOLE),
        Column("estimate", tidy["estimate"], Significant(3), "mass"),
        Column("probability", tidy["probability"], Fixed(3)),
        Column("present", ["yes" if p else "no" for p in tidy["present"]], Label(), "called"),
    )
    keep = np.flatnonzero(tidy["present"])[:MOST]
    lost = {k for k, r in enumerate(screen.assembled.arrays.role) if r == 3}
    found = {screen.assembled.samples.index(tidy["sample"][k]) for k in keep}
    words = [
        f"Nothing was found in the positive control {screen.assembled.samples[k]}: the run failed, "
        "or the control did." for k in sorted(lost - found)
    ]  # fmt: skip
    listing = Listing("positives", columns, "Positive controls", labels=2)
    return join([paragraphs(*words), table(listing.take(keep))])


def _has_positives(screen: Any) -> bool:
    return bool((screen.assembled.arrays.role == 3).any())


def _profiles(screen: Any, how: Options) -> Markup:
    caption = "Contaminant mass of the leading taxa in each batch, log10."
    return join([_drawn(screen, "profiles", caption), table(screen.listing("parameters"))])


def _method(screen: Any, how: Options) -> Markup:
    inputs = [element("li", f"{name}: SHA-256 {digest}") for name, digest in screen.counts.hashes]
    return join([
        paragraphs(
            "Reads of a taxon in a library are negative binomial around r (kappa + z a) + chi: r "
            "reads per mass, kappa the contaminant mass of the batch, a the mass of what is "
            "present (z = 1), chi reads from other libraries. Parameters are those of the largest "
            "marginal likelihood; log kappa, the library's own deviation and the dispersion are "
            "summed over, so that few controls give wide profiles. The list takes the pairs of the "
            f"smallest local false discovery rates while their mean is at most {screen.fdr:g}.",
            f"Inputs ({counted(len(screen.counts.hashes), 'file')}):",
        ),
        element("ul", *inputs),
    ])  # fmt: skip


def _reproduce(screen: Any, how: Options) -> Markup:
    return element("pre", element("code", how.call or ""))


OWN: list[Section] = [
    Section("candidates", "Ranked candidates", _candidates),
    Section("doubts", "Cautions", _doubts, _doubtful),
    Section("run", "The run", _run),
    Section("removed", "What was removed, and why", _removed),
    Section("controls", "False calls of controls", _controls, _has_controls),
    Section("positives", "Positive controls", _positives, _has_positives),
    Section("prior", "Sensitivity to the prior", _prior),
    Section("profiles", "Contamination", _profiles),
    Section("method", "Method and inputs", _method),
    Section("reproduce", "How to reproduce", _reproduce),
]
