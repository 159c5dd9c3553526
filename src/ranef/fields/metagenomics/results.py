"""`Screen`: the answer of a screen, its tables, words and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef._version import __version__
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Significant, Written
from ranef.display.files import write_atomically
from ranef.display.numbers import count as counted
from ranef.display.page import Paragraph
from ranef.elsewhere import explained_methods
from ranef.errors import FileError
from ranef.fields.metagenomics.arrays import CONTROL, PATIENT, POSITIVE, spilled
from ranef.fields.metagenomics.assembly import Assembled, Note
from ranef.fields.metagenomics.contrasts import Differences, contrast, corrected
from ranef.fields.metagenomics.exposure import SOURCES
from ranef.fields.metagenomics.fitting import Fitted, Results
from ranef.fields.metagenomics.judging import (
    Judged,
    Measured,
    limits_of_detection,
    measure,
)
from ranef.fields.metagenomics.parameters import CLASSES, Prior
from ranef.fields.metagenomics.pictures import ScreenPlots
from ranef.fields.metagenomics.reading import Counts
from ranef.fields.metagenomics.recovery import recovered
from ranef.tables import make_table

__all__ = ["TABLES", "Screen"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

TABLES = ("pairs", "taxa", "profiles", "samples", "controls", "parameters", "positives")
TOP = 15
WHOLE = Written("{:,.0f}".format)
Z = 1.959964


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Screen(Answer):
    """A screen: for each library and taxon the probability that the taxon is truly there.

    Attributes
    ----------
    counts : Counts
    assembled : Assembled
    fitted : Fitted
    found : Results
    judged : Judged
    prior : Prior
    fdr : float
    list_by : str
    seconds : float
    background_version : str or None
        Of the background that was used.
    """

    counts: Counts
    assembled: Assembled
    fitted: Fitted
    found: Results
    judged: Judged
    prior: Prior
    fdr: float
    list_by: str
    seconds: float
    background_version: str | None

    @property
    def library(self) -> str:
        return self.counts.library

    @property
    def title(self) -> str:
        patients = int((self.assembled.arrays.role == PATIENT).sum())
        controls = int(self.assembled.arrays.negative.sum())
        taxa = len(self.assembled.taxa)
        return (
            f"Metagenomic screen: {counted(patients, 'library', 'libraries')} of patients, "
            f"{counted(controls, 'negative control')}, {counted(taxa, 'taxon', 'taxa')}"
        )

    # --- numbers that cost work, once

    @cached_property
    def measured(self) -> Measured:
        """Expected reads and masses of the pairs."""
        return measure(self.assembled.arrays, self.fitted, self.found, self.judged)

    @cached_property
    def lod(self) -> Floats:
        """Limit of detection of each pair."""
        return limits_of_detection(
            self.assembled.arrays, self.fitted, self.found, self.judged, self.fdr
        )

    @cached_property
    def order(self) -> Ints:
        """The pairs, the most probable first."""
        reads = self.found.pairs.reads[self.judged.row]
        return np.lexsort((-reads, self.judged.lfdr))

    @property
    def notes(self) -> tuple[Note, ...]:
        """What must be known before the screen is believed: ``.code`` and ``.words``."""
        return (*self.assembled.notes, *self._own_notes)

    @property
    def _own_notes(self) -> tuple[Note, ...]:
        evidence = self.fitted.evidence
        if len(evidence) > 1 and self.fitted.disagree:
            return (Note("starts", "The search ended at different places from different starts; "
                         "the likeliest was taken."),)  # fmt: skip
        return ()

    # --- tables

    def tidy(self, table: str = "pairs") -> Any:
        """Return a table.

        Parameters
        ----------
        table : {"pairs", "taxa", "profiles", "samples", "controls", "parameters", "positives"}
            ``pairs`` (of patients, with reads, the most probable first): ``sample, taxon, name,
            reads, rpm, expected_reads, expected_low, expected_high, control_reads, estimate,
            conf_low, conf_high, probability, lfdr, log10_bf, lod, spill_reads, spill_from,
            present``: `estimate` is the mass if the taxon is present, `lod` the least mass that
            would be called with a probability of 95%, both in the unit of the sheet's masses.
            ``taxa``: ``taxon, name, class, p_contaminant, log10_bf``. ``profiles``: ``batch,
            taxon, estimate, conf_low, conf_high`` of the contaminant mass. ``samples``:
            ``sample, exposure, exposure_source, contaminant_share, calls``. ``controls``:
            ``sample, calls``, each control judged as a patient by what the others say.
            ``positives``: what was found in positive controls.
        """
        name = arguments.choice("table", table, TABLES)
        made: dict[str, Any] = getattr(self, f"_{name}")()
        return make_table(made, self.library)

    def _pairs(self, rows: Ints | None = None) -> dict[str, Any]:
        m, j, made = self.measured, self.judged, self.assembled
        order = self.order
        order = order[made.arrays.role[j.sample[order]] == PATIENT]
        take = order if rows is None else order[rows]
        sample, taxon, pair = j.sample[take], j.taxon[take], j.row[take]
        pairs = self.found.pairs
        reads = pairs.reads[pair]
        total = np.maximum(made.arrays.total[sample], 1.0)
        unit = made.exposures.unit
        return {
            "sample": np.array(made.samples, dtype=object)[sample],
            "taxon": np.array(made.taxa, dtype=object)[taxon],
            "name": np.array(made.names, dtype=object)[taxon],
            "reads": reads.astype(np.int64),
            "rpm": 1e6 * reads / total,
            "expected_reads": m.expected[take],
            "expected_low": m.expected_low[take],
            "expected_high": m.expected_high[take],
            "control_reads": self._control_reads[sample, taxon],
            "estimate": m.mass[take] * unit,
            "conf_low": m.mass_low[take] * unit,
            "conf_high": m.mass_high[take] * unit,
            "probability": 1.0 - j.lfdr[take],
            "lfdr": j.lfdr[take],
            "log10_bf": self.found.joined("log_bf")[pair] / np.log(10.0),
            "lod": self.lod[take] * unit,
            "spill_reads": pairs.spill[pair],
            "spill_from": self._spill_from(sample, taxon, pairs.spill[pair]),
            "present": j.present[take],
        }

    @cached_property
    def _control_reads(self) -> Floats:
        """Most reads of the taxon in a negative control of the library's own batch."""
        arrays = self.assembled.arrays
        out = np.full((arrays.levels.n_leaves, arrays.shape[1]), np.nan)
        for k in np.flatnonzero(arrays.role == CONTROL):
            out[arrays.cell[k]] = np.fmax(out[arrays.cell[k]], arrays.reads[k])
        return out[arrays.cell]

    def _spill_from(self, sample: Ints, taxon: Ints, spill: Floats) -> list[str]:
        made, arrays = self.assembled, self.assembled.arrays
        psi = self.fitted.parameters
        out = []
        for s, t, expected in zip(sample, taxon, spill, strict=True):
            if expected < 0.05:
                out.append("")
                continue
            weight = psi.hop[arrays.run[s]] * (arrays.run == arrays.run[s]) * arrays.reads[:, t]
            weight = weight / max(int((arrays.run == arrays.run[s]).sum()), 1)
            if arrays.near is not None:
                weight = weight + psi.leak * arrays.near[s] * arrays.reads[:, t]
            weight[s] = 0.0
            out.append(made.samples[int(np.argmax(weight))])
        return out

    def _taxa(self) -> dict[str, Any]:
        classes = self.found.joined("classes")
        return {
            "taxon": list(self.assembled.taxa),
            "name": list(self.assembled.names),
            "class": [CLASSES[k] for k in classes.argmax(axis=1)],
            "p_contaminant": classes[:, 0] + classes[:, 1] * self._sporadic_share,
            "log10_bf": self.found.joined("log_bf_taxon") / np.log(10.0),
        }

    @cached_property
    def _sporadic_share(self) -> Floats:
        """Of a sporadic taxon, the share of its reads in patients that is not of presence."""
        arrays, pairs = self.assembled.arrays, self.found.pairs
        here = (arrays.role[pairs.sample] == PATIENT) & (pairs.reads > 0)
        n = arrays.shape[1]
        number = np.bincount(pairs.taxon[here], minlength=n)
        absent = np.bincount(
            pairs.taxon[here], 1.0 - self.found.joined("probability")[here], minlength=n
        )
        return np.where(number > 0, absent / np.maximum(number, 1), 1.0)

    def _profiles(self) -> dict[str, Any]:
        mean, var = self.found.joined("leaf_mean"), self.found.joined("leaf_var")
        n_t, n_c = mean.shape
        sd = np.sqrt(np.maximum(var, 0.0))
        unit = self.assembled.exposures.unit
        return {
            "batch": np.repeat(np.array(self.assembled.cells, dtype=object), n_t),
            "taxon": np.tile(np.array(self.assembled.taxa, dtype=object), n_c),
            "estimate": unit * np.exp(mean.T.ravel()),
            "conf_low": unit * np.exp((mean - Z * sd).T.ravel()),
            "conf_high": unit * np.exp((mean + Z * sd).T.ravel()),
        }

    def _samples(self) -> dict[str, Any]:
        made, arrays = self.assembled, self.assembled.arrays
        called = np.bincount(self.judged.sample[self.judged.present], minlength=len(made.samples))
        called = np.where(arrays.negative, self.judged.control_calls, called)
        return {
            "sample": list(made.samples),
            "exposure": made.exposures.values / made.exposures.unit,
            "exposure_source": [SOURCES[k] for k in made.exposures.source],
            "contaminant_share": self.contaminant_share,
            "calls": called.astype(np.int64),
        }

    @cached_property
    def contaminant_share(self) -> Floats:
        """Share of the taxa's reads in each library that is not of what is present."""
        arrays, pairs = self.assembled.arrays, self.found.pairs
        n = len(self.assembled.samples)
        kept = np.bincount(
            self.judged.sample,
            self.measured.kept * pairs.reads[self.judged.row], minlength=n,
        )  # fmt: skip
        sums = arrays.reads.sum(axis=1)
        return np.where(sums > 0, 1.0 - kept / np.maximum(sums, 1.0), np.nan)

    def _controls(self) -> dict[str, Any]:
        made = self.assembled
        at = np.flatnonzero(made.arrays.negative)
        return {
            "sample": [made.samples[k] for k in at],
            "control_type": [made.sheet.kind[k] for k in at],
            "calls": self.judged.control_calls[at].astype(np.int64),
        }

    def _positives(self) -> dict[str, Any]:
        j, made, m = self.judged, self.assembled, self.measured
        at = self.order[made.arrays.role[j.sample[self.order]] == POSITIVE]
        unit = made.exposures.unit
        return {
            "sample": [made.samples[k] for k in j.sample[at]],
            "taxon": [made.taxa[k] for k in j.taxon[at]],
            "name": [made.names[k] for k in j.taxon[at]],
            "reads": self.found.pairs.reads[j.row[at]].astype(np.int64),
            "estimate": m.mass[at] * unit,
            "conf_low": m.mass_low[at] * unit,
            "conf_high": m.mass_high[at] * unit,
            "probability": 1.0 - j.lfdr[at],
            "present": j.present[at],
        }

    def _parameters(self) -> dict[str, Any]:
        psi = self.fitted.parameters
        rows: list[tuple[str, float]] = [
            ("log contamination, mean", psi.mean + np.log(self.assembled.exposures.unit)),
            ("log contamination, sd between taxa", psi.sd),
        ]
        for name, step in zip(self.assembled.arrays.levels.names, psi.steps, strict=True):
            rows.append((f"log contamination, sd between levels of {name}", float(step)))
        rows += [
            ("log contamination, sd between libraries", psi.library_sd),
            ("negative binomial size", psi.size),
            ("sd of the log size between taxa", psi.size_sd),
            ("prevalence of a taxon in a patient", psi.prevalence),
            ("probability of a sporadic contamination", psi.jumps),
            ("share of contaminants that libraries can escape", psi.escapes),
            ("share of libraries with a burst of them", psi.bursts),
        ]
        groups = sorted(set(self.assembled.groups))
        log_unit = float(np.log(self.assembled.exposures.unit))
        for name, mean, sd in zip(groups, psi.mass_mean, psi.mass_sd, strict=True):
            of = f" of {name}" if name else ""
            rows.append((f"log mass{of}, mean", float(mean) + log_unit))
            rows.append((f"log mass{of}, sd", float(sd)))
        rows += [(f"share of taxa that are {name}", float(w))
                 for name, w in zip(CLASSES, psi.classes, strict=True)]  # fmt: skip
        rows.append(("share of reads that hop", float(np.mean(psi.hop))))
        if self.assembled.arrays.near is not None:
            rows.append(("share of reads that reach a neighbouring well", psi.leak))
        return {"parameter": [r[0] for r in rows], "estimate": np.array([r[1] for r in rows])}

    # --- counts without contamination

    def cleaned(self) -> Any:
        """Return the counts without what is contamination.

        Returns
        -------
        table
            ``sample, taxon, name, reads, cleaned``: of each pair of a patient, the reads and the
            reads expected to be of what is present.
        """
        j, made = self.judged, self.assembled
        at = np.flatnonzero(made.arrays.role[j.sample] == PATIENT)
        reads = self.found.pairs.reads[j.row[at]]
        return make_table({
            "sample": np.array(made.samples, dtype=object)[j.sample[at]],
            "taxon": np.array(made.taxa, dtype=object)[j.taxon[at]],
            "name": np.array(made.names, dtype=object)[j.taxon[at]],
            "reads": reads.astype(np.int64),
            "cleaned": self.measured.kept[at] * reads,
        }, self.library)  # fmt: skip

    def corrected(self, keep: str | None = None) -> Any:
        """Return the counts without contamination and without differences between batches.

        A batch may yield more or less of a taxon than others. The effect of each batch is the
        shrunken random intercept of a negative binomial mixed model of the taxon, with exposure as
        offset; where `keep` is given, the groups are fixed effects of it, so that what differs
        between them is not taken for the batch.

        Parameters
        ----------
        keep : str, optional
            Column of the sheet whose groups of patients are kept apart, such as the diagnosis.
            Groups that no batch has both of are refused.

        Returns
        -------
        table
            ``sample, taxon, name, batch, cleaned, batch_effect, corrected``: `batch_effect` is the
            log ratio of the batch's yield, 0 where a taxon is in too few libraries to tell.
        """
        return make_table(corrected(self, keep), self.library)

    def recovery(self, expected: Any) -> Any:
        """Compare positive controls with what was put in.

        Parameters
        ----------
        expected : dict or table
            Mass of each taxon in a positive control, ``{"562": 1000.0}`` or columns ``taxon,
            mass``, in the unit of the sheet's masses.

        Returns
        -------
        table
            ``sample, taxon, name, mass, reads, estimate, conf_low, conf_high, recovery,
            present``: `recovery` is the estimate over the mass, 0 without reads.
        """
        return make_table(recovered(self, expected), self.library)

    def contrast(self, column: str) -> Differences:
        """Compare the abundance of each taxon between two groups of patients.

        Parameters
        ----------
        column : str
            Of the sheet, with two values among the patients. Groups that no batch has both of
            are refused.

        Returns
        -------
        Differences
            ``taxon, name, n, estimate, std_error, conf_low, conf_high, p_value, q_value``: log
            ratios by negative binomial mixed models of the reads without contamination, batches
            random.
        """
        return contrast(self, column)

    @property
    def control_rate(self) -> float:
        """Mean false calls of a negative control, each left out in turn; NaN without controls."""
        calls = self.judged.control_calls[self.assembled.arrays.negative]
        return float(calls.mean()) if len(calls) else float("nan")

    # --- files

    def record(self) -> dict[str, Any]:
        """Return everything as plain lists: what `save` writes as JSON."""
        tables = {
            name: {k: _plain(v) for k, v in getattr(self, f"_{name}")().items()}
            for name in ("pairs", "taxa", "profiles", "samples", "controls", "parameters")
        }
        return {
            "kind": "ranef metagenomic screen",
            **tables,
            "notes": [{"code": note.code, "words": note.words} for note in self.notes],
            "inputs": [{"name": name, "sha256": digest} for name, digest in self.counts.hashes],
            "fdr": self.fdr,
            "list_by": self.list_by,
            "background": self.background_version,
            "version": __version__,
        }

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the screen: all tables as JSON, or the pairs as ``.csv`` or ``.tsv``."""
        target = arguments.path(path)
        if target.suffix == ".json":
            text = json.dumps(self.record(), allow_nan=False, indent=1)
            return write_atomically(target, text + "\n")
        if target.suffix not in (".csv", ".tsv"):
            raise FileError(f"{target.name} must end in .json, .csv or .tsv")
        mark = "," if target.suffix == ".csv" else "\t"
        import pandas as pd

        table = pd.DataFrame(self._pairs())
        return write_atomically(target, table.to_csv(sep=mark, index=False, lineterminator="\n"))

    def report(self, path: str | PathLike[str], *, call: str | None = None) -> Path:
        """Write the report, one HTML page that a clinician can read.

        Parameters
        ----------
        path : path-like
            An existing file is replaced.
        call : str, optional
            The command that made it, shown under "How to reproduce".
        """
        from ranef.fields.metagenomics import page

        return page.write(self, path, call)

    @property
    def plot(self) -> ScreenPlots:
        """The pictures: ``plot.candidates()``, ``plot.profiles()``, ``plot.dilution()``."""
        return ScreenPlots(self)

    def record_of_pairs(self, n: int) -> dict[str, Any]:
        """Return the columns of the `n` most probable pairs of patients."""
        roles = self.assembled.arrays.role[self.judged.sample]
        return self._pairs(np.arange(min(n, int((roles == PATIENT).sum()))))

    # --- how it is said

    def tables(self) -> tuple[Listing, ...]:
        return (self.candidates(), self._samples_listing(), self._parameters_listing())

    def candidates(self, n: int = TOP) -> Listing:
        """The most probable pairs."""
        order = self.order
        patients = int((self.assembled.arrays.role[self.judged.sample[order]] == PATIENT).sum())
        called = int(
            self.judged.present[self.assembled.arrays.role[self.judged.sample] == PATIENT].sum()
        )
        shown = min(max(n, min(called, 100)), patients)
        table = self._pairs(np.arange(shown))
        control = [_or_none(v) for v in table["control_reads"]]
        columns: tuple[Column, ...] = (
            Column("sample", table["sample"].tolist()),
            Column("taxon", table["taxon"].tolist(), Label()),
            Column("name", table["name"].tolist(), Label()),
            Column("reads", table["reads"], WHOLE),
            Column("expected_reads", table["expected_reads"], Significant(2), "expected"),
            Column("expected_high", table["expected_high"], WHOLE, "up to"),
            Column("control_reads", control, WHOLE, "control"),
            Column("estimate", table["estimate"], Significant(2), "mass"),
            Column("probability", table["probability"], Fixed(3)),
            Column("log10_bf", table["log10_bf"], Fixed(1), "log10 BF"),
            Column("present", ["yes" if p else "" for p in table["present"]], Label()),
        )  # fmt: skip
        if table["taxon"].tolist() == table["name"].tolist():
            columns = (columns[0], *columns[2:])
        return Listing("candidates", columns, "Most probable", labels=2)

    def _samples_listing(self) -> Listing:
        made = self._samples()
        columns = (
            Column("sample", made["sample"]),
            Column("exposure", made["exposure"], Significant(3)),
            Column("exposure_source", made["exposure_source"], Label(), "by"),
            Column("contaminant_share", made["contaminant_share"], Fixed(3), "contaminant share"),
            Column("calls", made["calls"], WHOLE),
        )
        return Listing("samples", columns, "Libraries")

    def _parameters_listing(self) -> Listing:
        made = self._parameters()
        columns = (
            Column("parameter", made["parameter"]),
            Column("estimate", made["estimate"], Significant(3)),
        )
        return Listing("parameters", columns, "Parameters")

    def body(self) -> Any:
        yield self.candidates()
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        patients = self.assembled.arrays.role[self.judged.sample] == PATIENT
        called = patients & self.judged.present
        wrong = float(self.judged.lfdr[called].sum())
        of = {"study": "the study", "patient": "each patient", "sample": "each library"}
        said = [
            f"{counted(int(called.sum()), 'pair')} of library and taxon "
            f"{'is' if called.sum() == 1 else 'are'} called present: the list of "
            f"{of[self.list_by]} at a Bayes false discovery rate of {self.fdr:g}; "
            f"{wrong:.2f} of them are expected to be false.",
        ]
        if np.isfinite(self.control_rate):
            said.append(
                f"Negative controls, each left out and analysed as a patient's library, have "
                f"{self.control_rate:.2f} false calls on average."
            )
        said += [note.words for note in self.notes]
        said.append("For research use only; confirm by another test.")
        return tuple(said)

    def expected_spill(self) -> Floats:
        """Reads expected from other libraries, (S, T)."""
        psi = self.fitted.parameters
        return spilled(self.assembled.arrays, psi.hop, psi.leak)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _plain(values: Any) -> list[Any]:
    """Values of a column for JSON, null where there is no number."""
    items: Sequence[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [None if isinstance(v, float) and not np.isfinite(v) else v for v in items]
