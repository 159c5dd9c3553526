"""From counts and a sheet to the arrays of a screen, and what is to be said about them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.numbers import count as counted
from ranef.errors import DataError, suggestion
from ranef.fields.metagenomics.arrays import CONTROL, PATIENT, UNUSED, Arrays
from ranef.fields.metagenomics.exposure import SOURCES, UNSURE, Exposures, exposures
from ranef.fields.metagenomics.reading import Counts
from ranef.fields.metagenomics.sheet import Sheet
from ranef.fields.metagenomics.tree import Levels

__all__ = ["Assembled", "Note", "assemble", "put_in", "with_contaminant_mass"]

Floats = NDArray[np.float64]
WELL = re.compile(r"^([A-Pa-p])0*([1-9]|1\d|2[0-4])$")
RELATIVE = 1e-3
SEQUENCED = re.compile(r"_S\d+(_L\d{3})?(_R?[12])?(_001)?$")


@dataclass(frozen=True)
class Note:
    """What must be known before a screen is believed.

    Attributes
    ----------
    code : str
    words : str
    """

    code: str
    words: str


@dataclass(frozen=True, eq=False)
class Assembled:
    """Arrays and the names of what they hold.

    Attributes
    ----------
    arrays : Arrays
    samples, taxa, names, groups : tuple of str
    cells : tuple of str
        Names of the leaves: batches.
    exposures : Exposures
    sheet : Sheet
        Of the libraries in the arrays.
    notes : tuple of Note
    matched : tuple of (str, int)
    """

    arrays: Arrays
    samples: tuple[str, ...]
    taxa: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    cells: tuple[str, ...]
    exposures: Exposures
    sheet: Sheet
    notes: tuple[Note, ...]
    matched: tuple[tuple[str, int], ...]


def assemble(
    counts: Counts, sheet: Sheet, *, exposure: str = "auto", groups: Mapping[str, str] | None = None
) -> Assembled:
    """Match counts to the sheet and make the arrays."""
    notes: list[Note] = []
    sheet, reads, totals, matched = _matched(counts, sheet, notes)
    reads, totals = _whole(reads, totals, sheet, notes)
    control = sheet.role != PATIENT
    found = _exposures(sheet, totals, control, exposure, notes)
    levels, cell, cells = _levels(sheet, notes)
    _judge_controls(sheet, cells, cell, notes)
    kinds = sorted({k for k, r in zip(sheet.kind, sheet.role, strict=True) if r == CONTROL})
    kind = np.array(
        [1 + kinds.index(k) if r == CONTROL else 0
         for k, r in zip(sheet.kind, sheet.role, strict=True)], dtype=np.intp,
    )  # fmt: skip
    values = np.where(sheet.role == UNUSED, 0.0, found.values)
    if not (values > 0).any():
        raise DataError("no library has reads; there is nothing to screen: look at the counts")
    named = [(groups or {}).get(t) or g for t, g in zip(counts.taxa, counts.groups, strict=True)]
    levels_of_groups = sorted(set(named))
    arrays = Arrays(
        reads=reads,
        total=totals,
        exposure=values,
        looseness=found.looseness,
        kind=kind,
        role=sheet.role,
        cell=cell,
        levels=levels,
        group=np.array([levels_of_groups.index(g) for g in named], dtype=np.intp),
        run=_codes(_run(sheet))[0],
        near=_near(sheet),
        by_mass=SOURCES[int(np.bincount(found.source[~control], minlength=4).argmax())]
        in ("spike", "mass"),
    )
    return Assembled(
        arrays, sheet.samples, counts.taxa, counts.names, tuple(named), cells, found, sheet,
        tuple(notes), matched,
    )  # fmt: skip


def put_in(made: Assembled) -> Floats | None:
    """Masses that were put in, (S,), where the controls' own is not measured; None elsewhere."""
    arrays = made.arrays
    by_mass = made.exposures.source == SOURCES.index("mass")
    mass = made.sheet.numbers.get("input_mass")
    if mass is None or not by_mass[arrays.role == PATIENT].any():
        return None
    if not arrays.negative.any() or (by_mass & arrays.negative).any():
        return None
    return np.where(by_mass, arrays.total / np.maximum(arrays.exposure, 1e-300), 0.0)


def with_contaminant_mass(made: Assembled, mass: Floats, extra: float) -> Assembled:
    """Return the arrays with libraries that hold `extra` beside the mass that was put in."""
    control = made.sheet.role != PATIENT
    nothing = np.full(len(mass), np.nan)
    whole = np.where(control, extra, mass + extra) * made.exposures.unit
    found = exposures(
        made.arrays.total, nothing, nothing, whole, made.sheet.censored, control, "mass"
    )
    looseness = np.where(made.arrays.negative, UNSURE, found.looseness)
    note = Note(
        "contaminant-mass",
        f"Libraries hold about {extra * made.exposures.unit:.3g} of contamination (in the unit of "
        "input_mass) beside what was put in, by how contamination grows as the input falls.",
    )
    arrays = replace(
        made.arrays, exposure=np.where(made.sheet.role == UNUSED, 0.0, found.values),
        looseness=looseness,
    )  # fmt: skip
    return replace(
        made, arrays=arrays, exposures=replace(found, looseness=looseness),
        notes=(*made.notes, note),
    )  # fmt: skip


def _as_sequenced(counts: Counts, sheet: Sheet, notes: list[Note]) -> Counts:
    """Call libraries as the sheet does where files have more behind the names.

    Such as Illumina's ending (``_S3_L001_R1``), or those of pipelines (``_db_S``, ``.filtered``).
    """
    known = set(sheet.samples)
    if known & set(counts.samples):
        return counts
    for shortened in (_without_sequencer, _as_in_sheet):
        names = shortened(counts.samples, sheet.samples)
        if known & set(names) and len(set(names)) == len(names):
            break
    else:
        return counts
    words = (
        f"Names of libraries without what files have behind them: {counts.samples[0]!r} is "
        f"{names[0]!r} of the sheet."
    )
    notes.append(Note("sequenced-names", words))
    return replace(counts, samples=names)


def _without_sequencer(names: Sequence[str], _: Sequence[str]) -> tuple[str, ...]:
    return tuple(SEQUENCED.sub("", name) for name in names)


def _as_in_sheet(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The longest name of the sheet that a name begins with, up to a mark."""
    marks = tuple("._- ")

    def own(name: str) -> str:
        begun = [k for k in known if name.startswith(k) and name[len(k) :].startswith(marks)]
        return max(begun, key=len, default=name)

    return tuple(own(name) for name in names)


def _matched(
    counts: Counts, sheet: Sheet, notes: list[Note]
) -> tuple[Sheet, Floats, Floats, tuple[tuple[str, int], ...]]:
    counts = _as_sequenced(counts, sheet, notes)
    place = {name: k for k, name in enumerate(counts.samples)}
    known = [k for k, name in enumerate(sheet.samples) if name in place]
    if not known:
        raise DataError(
            f"no sample of the sheet is in the counts: {sheet.samples[0]!r} is not among "
            f"{', '.join(map(repr, counts.samples[:3]))}"
            f"{suggestion(sheet.samples[0], counts.samples)}"
        )
    own_totals = sheet.numbers.get("total_reads", np.full(len(sheet.samples), np.nan))
    kept: list[int] = []
    lost: list[int] = []
    for k, name in enumerate(sheet.samples):
        (kept if name in place or own_totals[k] >= 0 else lost).append(k)
    strangers = [name for name in counts.samples if name not in set(sheet.samples)]
    for names, words in (
        ([sheet.samples[k] for k in lost], "of the sheet without counts left out"),
        (strangers, "of the counts without a row in the sheet left out"),
    ):
        if names:
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            notes.append(
                Note("unmatched", f"{counted(len(names), 'library', 'libraries')} {words}: {some}.")
            )
    reads = np.zeros((len(kept), len(counts.taxa)))
    totals = np.full(len(kept), np.nan)
    for row, k in enumerate(kept):
        if sheet.samples[k] in place:
            reads[row] = counts.reads[place[sheet.samples[k]]]
            totals[row] = counts.totals[place[sheet.samples[k]]]
    chosen = _taken(sheet, kept)
    given = chosen.numbers.get("total_reads")
    if given is not None:
        totals = np.where(np.isfinite(given), given, totals)
    matched = (
        ("libraries", len(kept)), ("patients' libraries", int((chosen.role == PATIENT).sum())),
        ("negative controls", int((chosen.role == CONTROL).sum())),
        ("in the sheet alone", len(lost)), ("in the counts alone", len(strangers)),
    )  # fmt: skip
    if not (chosen.role == PATIENT).any():
        raise DataError(
            "no patient's library of the sheet is in the counts: both call samples by the same "
            "names"
        )
    return chosen, reads, totals, matched


def _taken(sheet: Sheet, rows: Sequence[int]) -> Sheet:
    def some(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[k] for k in rows)

    at = np.array(rows, dtype=np.intp)
    return Sheet(
        some(sheet.samples), sheet.role[at], some(sheet.kind),
        {name: some(v) for name, v in sheet.labels.items()},
        {name: v[at] for name, v in sheet.numbers.items()}, sheet.censored[at],
        {name: some(v) for name, v in sheet.columns.items()}, sheet.notes, sheet.library,
    )  # fmt: skip


def _whole(reads: Floats, totals: Floats, sheet: Sheet, notes: list[Note]) -> tuple[Floats, Floats]:
    """Whole counts; relative abundances need the libraries' totals to become counts."""
    sums = reads.sum(axis=1)
    fractional = bool((reads != np.round(reads)).any())
    if fractional:
        for whole in (1.0, 100.0):
            if (sums <= whole * (1 + RELATIVE)).all() and (sums > 0.5 * whole).mean() > 0.5:
                if not np.isfinite(totals).all():
                    raise DataError(
                        f"the counts are relative abundances (each library sums to {whole:g} at "
                        "most): reads cannot be compared with those of controls; give counts, or "
                        "the column total_reads of the sheet for every library"
                    )
                reads = reads / whole * totals[:, None]
                notes.append(Note("relative", "Relative abundances were made into reads by the "
                                  "libraries' totals."))  # fmt: skip
                break
        else:
            notes.append(Note("fractional", "Fractional counts were rounded to whole reads."))
        reads = np.round(reads)
        sums = reads.sum(axis=1)
        totals = np.where(totals < sums, np.minimum(sums, totals + reads.shape[1]), totals)
    missing = ~np.isfinite(totals)
    if missing.any():
        totals = np.where(missing, sums, totals)
        notes.append(Note("no-totals", "Totals of reads are the sums over the taxa in "
                          f"{counted(int(missing.sum()), 'library', 'libraries')}; reads that no "
                          "taxon has are not in them."))  # fmt: skip
    few = totals < sums
    if few.any():
        k = int(np.argmax(few))
        raise DataError(
            f"total_reads of sample {sheet.samples[k]!r} is {totals[k]:,.0f}, below the "
            f"{sums[k]:,.0f} reads of its taxa"
        )
    empty = [sheet.samples[k] for k in np.flatnonzero((totals <= 0) & (sheet.role != UNUSED))]
    if empty:
        notes.append(Note("empty-library", f"{counted(len(empty), 'library', 'libraries')} without "
                          f"reads hold no information: {', '.join(empty[:5])}."))  # fmt: skip
    return reads, totals


def _exposures(
    sheet: Sheet, totals: Floats, control: NDArray[np.bool_], wanted: str, notes: list[Note]
) -> Exposures:
    nothing = np.full(len(totals), np.nan)
    numbers = sheet.numbers
    spike = numbers.get("spike_reads", nothing)
    spike_mass = numbers.get("spike_mass", np.ones(len(totals)))
    mass = numbers.get("input_mass", nothing).copy()
    limit = numbers.get("detection_limit", nothing)
    censored = sheet.censored | ((mass <= limit) & np.isfinite(limit))
    fill = np.isnan(mass) & np.isfinite(limit)
    mass = np.where(fill, limit, mass)
    censored = censored | fill
    mass = np.where(censored, 0.5 * np.where(np.isfinite(limit), limit, mass), mass)
    if wanted != "auto":
        need = {"spike": "spike_reads", "mass": "input_mass"}.get(wanted)
        if need is not None and need not in numbers:
            raise DataError(f"exposure={wanted!r} needs the column {need!r} of the sheet")
    found = exposures(totals, spike, spike_mass, mass, censored, control, wanted)
    measured = found.source[~control]
    missing = int((measured == SOURCES.index("depth")).sum())
    if missing == len(measured):
        notes.append(Note("no-mass", "Neither spike-in nor input mass is known: how much of a "
                          "library is contamination is told from what its contaminants have in "
                          "common, and prevalent genuine taxa from controls alone."))  # fmt: skip
    elif missing:
        notes.append(
            Note(
                "no-mass",
                f"{counted(missing, 'library', 'libraries')} of patients "
                "without mass or spike-in; their exposures are their depths, loosely.",
            )
        )
    return found


def _run(sheet: Sheet) -> list[str]:
    labels = sheet.labels
    run = labels.get("run") or labels.get("batch") or ("",) * len(sheet.samples)
    lane = labels.get("lane") or ("",) * len(sheet.samples)
    return [f"{a}\t{b}" for a, b in zip(run, lane, strict=True)]


def _codes(values: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    levels = list(dict.fromkeys(values))
    place = {name: k for k, name in enumerate(levels)}
    return np.array([place[v] for v in values], dtype=np.intp), levels


def _levels(sheet: Sheet, notes: list[Note]) -> tuple[Levels, NDArray[np.intp], tuple[str, ...]]:
    """The tree of library kind, laboratory, instrument and batch; merged where one is the other."""
    n = len(sheet.samples)
    labels = dict(sheet.labels)
    if "batch" not in labels:
        labels["batch"] = labels.get("run", ("",) * n)
    keys: list[tuple[str, list[tuple[str, ...]]]] = []
    path: list[tuple[str, ...]] = [()] * n
    merged = []
    for name in ("library", "lab", "instrument", "batch"):
        if name not in labels:
            continue
        further = [(*p, v) for p, v in zip(path, labels[name], strict=True)]
        if len(set(further)) > len(set(path)):
            keys.append((name, further))
            path = further
        elif len(set(labels[name])) > 1:
            merged.append(name)
    if merged and keys:
        notes.append(Note("confounded", f"{' and '.join(merged)} cannot be distinguished from "
                          f"{keys[-1][0]}: each goes with one of them alone; their variances are "
                          "one."))  # fmt: skip
    if not keys:
        keys = [("batch", [(label or "all",) for label in labels["batch"]])]
    # sort leaves so that children of one parent stand together
    ordered = sorted(set(keys[-1][1]))
    place = {key: k for k, key in enumerate(ordered)}
    cell = np.array([place[key] for key in keys[-1][1]], dtype=np.intp)
    nodes: list[tuple[str, ...]] = ordered
    parents: list[NDArray[np.intp]] = []
    names: list[str] = []
    for depth in range(len(keys) - 1, -1, -1):
        names.append(keys[depth][0])
        above: list[tuple[str, ...]] = (
            list(dict.fromkeys(key[:-1] for key in nodes)) if depth else [()]
        )
        at = {key: k for k, key in enumerate(above)}
        parents.append(np.array([at[key[:depth]] for key in nodes], dtype=np.intp))
        nodes = above
    cells = tuple(" / ".join(part for part in key if part) or "all" for key in ordered)
    if len(cells) == 1:
        notes.append(Note("one-batch", "There is one batch: how much contamination varies between "
                          "batches is assumed, not learned."))  # fmt: skip
    return Levels(tuple(names), tuple(parents)), cell, cells


def _judge_controls(
    sheet: Sheet, cells: tuple[str, ...], cell: NDArray[np.intp], notes: list[Note]
) -> None:
    negative = sheet.role == CONTROL
    if not negative.any():
        notes.append(Note("no-controls", "There are no negative controls: a taxon is judged by the "
                          "other patients alone, and one that is in most of them cannot be "
                          "distinguished from contamination without mass."))  # fmt: skip
    elif negative.sum() == 1:
        notes.append(Note("one-control", "There is one negative control: how much controls differ "
                          "is assumed, not learned."))  # fmt: skip
    if negative.any():
        without = sorted(set(cell[sheet.role == PATIENT]) - set(cell[negative]))
        if without:
            some = ", ".join(cells[k] for k in without[:5])
            batches = counted(len(without), "batch", "batches")
            words = f"{batches} of patients without a control of its own: {some}."
            notes.append(Note("batch-without-control", words))


def _near(sheet: Sheet) -> Floats | None:
    """Closeness of wells: exp(-distance) between different wells of a batch's plate."""
    wells = sheet.labels.get("well")
    if wells is None:
        return None
    n = len(wells)
    spots = np.full((n, 2), np.nan)
    for k, well in enumerate(wells):
        found = WELL.match(well)
        if found:
            spots[k] = ord(found[1].upper()) - 65, int(found[2])
        elif well:
            raise DataError(
                f"well {well!r} of sample {sheet.samples[k]!r} is not a well such as A1 or H12"
            )
    plate = _codes(sheet.labels.get("batch") or _run(sheet))[0]
    distance = np.sqrt(((spots[:, None, :] - spots[None, :, :]) ** 2).sum(axis=2))
    near = np.where((plate[:, None] == plate[None, :]) & (distance > 0), np.exp(-distance), 0.0)
    return np.nan_to_num(near)
