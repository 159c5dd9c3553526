"""`screen`: what is in each patient's library beyond what is in the reagents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import Ticker
from ranef.elsewhere import explained
from ranef.errors import DataError, ModelError, shortened, suggestion
from ranef.fields.metagenomics.arrays import PATIENT
from ranef.fields.metagenomics.assembly import (
    Assembled,
    assemble,
    put_in,
    with_contaminant_mass,
)
from ranef.fields.metagenomics.fitting import Fitted, fit, plausible, run, without_reads
from ranef.fields.metagenomics.judging import judge, replicated
from ranef.fields.metagenomics.parameters import Prior
from ranef.fields.metagenomics.reading import Counts, counts_of
from ranef.fields.metagenomics.results import Screen
from ranef.fields.metagenomics.sheet import Sheet, read_sheet
from ranef.solve.resources import available_cores
from ranef.tables import Table

__all__ = ["concluded", "learned", "prepared", "prior_of", "screen", "specimens"]

LISTS = ("study", "patient", "sample")
ORGANISMS, MOST = 0.5, 0.02
"""In a patient before the data, of few taxa; the largest prevalence that follows from it."""


Floats = NDArray[np.float64]

MASSES = 9
LEAST_GAIN = 6.0
"""Masses of contamination that are tried, and what one must gain in log likelihood."""


def prior_of(given: Any) -> Prior:
    """Check a prior: a `Prior`, a dict of its fields, or nothing."""
    if given is None:
        return Prior()
    if isinstance(given, Prior):
        given = vars(given)
    values = arguments.mapping("prior", given, "{'prevalence': 0.01}")
    known = tuple(Prior.__dataclass_fields__)
    for name, value in values.items():
        arguments.choice("prior", name, known)
        if not 0 < arguments.number(name, value) < np.inf:
            raise ModelError(f"{name} of the prior must be above 0, not {value!r}")
        if name in ("prevalence", "hop", "genuine") and not value < 1:
            raise ModelError(f"{name} of the prior is a share, below 1, not {value!r}")
    return Prior(**values)


def prepared(
    counts: Any, samples: Any, controls: str, batch: str, run_: str, exposure: str, taxa: Any
) -> tuple[Counts, Sheet, Assembled]:
    """Read counts and sheet and make the arrays."""
    sheet = read_sheet(samples, controls=controls, batch=batch, run=run_)
    found = counts_of(counts, sheet.samples)
    groups = _groups(taxa)
    if groups and not groups.keys() & set(found.taxa):
        given = next(iter(groups))
        raise DataError(
            f"taxa= has none of the taxa of the counts: {given!r} is not among "
            f"{', '.join(map(repr, found.taxa[:3]))}{suggestion(given, found.taxa)}"
        )
    return found, sheet, assemble(found, sheet, exposure=exposure, groups=groups)


def _groups(taxa: Any) -> dict[str, str]:
    if taxa is None:
        return {}
    if isinstance(taxa, Mapping) and all(isinstance(v, str) for v in taxa.values()):
        return {str(k): v for k, v in taxa.items()}
    table = Table.of(taxa)
    for name in ("taxon", "group"):
        table.column(name)
    pairs = zip(table.values("taxon").tolist(), table.values("group").tolist(), strict=True)
    return {str(taxon): str(group) for taxon, group in pairs}


@explained
def screen(
    counts: Any,
    samples: Any,
    *,
    controls: str = "is_control",
    batch: str = "batch",
    run: str = "run",
    fdr: float = 0.05,
    list_by: str = "study",
    exposure: str = "auto",
    background: Any = None,
    taxa: Any = None,
    prior: Any = None,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Screen:
    """Say of every library and taxon how probable it is that the taxon is truly there.

    Contamination is learned from negative controls and from all patients together, pooled over
    batches, instruments and laboratories; reads that hop between libraries of a run or leak
    between wells are estimated and allowed for.

    Parameters
    ----------
    counts : table, path or paths
        Long (``sample, taxon, reads``, perhaps ``name, total_reads, group``), or wide; or files,
        see `read`.
    samples : table or path
        A sheet with a row a library: ``sample, is_control, control_type, batch, instrument, run,
        lane, lab, well, library, total_reads, input_mass, spike_reads, spike_mass,
        detection_limit, patient, replicate``. A column that is absent is not used.
    controls, batch, run : str
        Columns of the sheet with other names.
    fdr : float
        Bayes false discovery rate of the list.
    list_by : {"study", "patient", "sample"}
        One list, or one for each patient or library.
    exposure : {"auto", "spike", "mass", "depth"}
        How much of a library one unit of mass is: by default the spike-in, else the input mass,
        else the depth.
    background : Background, optional
        What was learned before, see `train`.
    taxa : table or dict, optional
        ``taxon, group``: abundances have a distribution for each group (virus, bacterium ...).
    prior : Prior or dict, optional
        What is assumed before the data.
    rng : int or numpy.random.Generator
        Taken for likeness with the other functions: nothing is drawn.
    n_jobs : int, optional
        Threads.
    progress : bool, optional

    Returns
    -------
    Screen

    Examples
    --------
    >>> from ranef import metagenomics as mg
    >>> clinic = mg.simulate(batches=3, patients=4, controls=2, taxa=60, rng=4)
    >>> found = mg.screen(clinic.counts, clinic.samples)
    >>> found.tidy().columns[:4].tolist()
    ['sample', 'taxon', 'name', 'reads']
    """
    began = time.perf_counter()
    fdr = arguments.number("fdr", fdr)
    if not 0 < fdr < 1:
        raise ModelError(f"fdr must lie between 0 and 1, such as 0.05, not {fdr:g}")
    list_by = arguments.choice("list_by", list_by, LISTS)
    exposure = arguments.choice("exposure", exposure, ("auto", "spike", "mass", "depth"))
    arguments.generator(rng)
    if background is not None:
        if not callable(getattr(background, "drift", None)):
            raise ModelError(
                "background must be what train() or ranef.metagenomics.load(path) returned, "
                f"not {shortened(background)}"
            )
        locked: Screen = background.screen(
            counts, samples, controls=controls, batch=batch, run=run, fdr=fdr, list_by=list_by,
            taxa=taxa, n_jobs=n_jobs,
        )  # fmt: skip
        return locked
    own = prior_of(prior)
    found, _, made = prepared(counts, samples, controls, batch, run, exposure, taxa)
    with Ticker(4, "screening", progress) as tick:
        made, fitted = learned(made, own, available_cores(n_jobs), lambda _: tick(1))
    return concluded(found, made, fitted, own, fdr, list_by, n_jobs, began, None)


def scaled(prior: Prior, n_taxa: int) -> Prior:
    """Return the prior of so many taxa: half an organism a patient, unless another was given."""
    if prior.prevalence != Prior.prevalence:
        return prior
    return replace(prior, prevalence=max(prior.prevalence, min(ORGANISMS / n_taxa, MOST)))


def learned(made: Assembled, prior: Prior, jobs: int, told: Any = None) -> tuple[Assembled, Fitted]:
    """Learn the parameters; where masses are what was put in, the mass of contamination too."""
    prior = scaled(prior, made.arrays.shape[1])
    mass = put_in(made)
    if mass is not None:
        made = _with_likeliest_mass(made, mass, prior, jobs)
    return made, fit(made.arrays, prior, jobs, told)


def _with_likeliest_mass(made: Assembled, mass: Floats, prior: Prior, jobs: int) -> Assembled:
    """Return the arrays with the likeliest mass of contamination beside what was put in."""
    some = mass[(made.arrays.role == PATIENT) & (mass > 0)]
    best, highest = made, plausible(made.arrays, prior, jobs) + LEAST_GAIN
    for extra in np.geomspace(0.3 * some.min(), some.max(), MASSES):
        tried = with_contaminant_mass(made, mass, float(extra))
        value = plausible(tried.arrays, prior, jobs)
        if value > highest:
            best, highest = tried, value
    return best


def specimens(made: Assembled) -> NDArray[np.intp] | None:
    """Return the specimen of each library that has replicates, -1 for others; None without any."""
    labels = made.sheet.labels
    if not any(labels.get("replicate", ())):
        return None
    if "patient" not in labels:
        raise DataError("the column 'replicate' needs the column 'patient': whose replicate it is")
    kinds = labels.get("library", ("",) * len(made.samples))
    keys = [
        (patient, kind) if patient and number and role == PATIENT else None
        for patient, kind, number, role in zip(
            labels["patient"], kinds, labels["replicate"], made.sheet.role, strict=True
        )
    ]
    several = {key for key, n in Counter(keys).items() if key is not None and n > 1}
    place = {key: k for k, key in enumerate(sorted(several))}
    return np.array([-1 if key is None else place.get(key, -1) for key in keys], dtype=np.intp)


def concluded(
    counts: Counts, made: Assembled, fitted: Any, prior: Prior, fdr: float, list_by: str,
    n_jobs: int | None, began: float, version: str | None,
) -> Screen:  # fmt: skip
    """Work out all pairs at the parameters found, and make the lists."""
    arrays = made.arrays
    results = run(arrays, fitted.grid, fitted.parameters, fitted.libraries, available_cores(n_jobs))
    unit = None
    if list_by != "study":
        labels = made.sheet.labels.get("patient") if list_by == "patient" else made.samples
        if labels is None:
            raise ModelError("list_by='patient' needs the column 'patient' of the sheet")
        unit = np.unique(np.array(labels), return_inverse=True)[1].astype(np.intp)
    specimen = specimens(made)
    probability = None
    if specimen is not None:
        empty = without_reads(arrays, fitted.parameters, fitted.libraries, results)[0]
        probability = replicated(arrays, results, specimen, empty)
    judged = judge(arrays, results, fdr, unit, probability)
    return Screen(
        counts, made, fitted, results, judged, prior, fdr, list_by,
        time.perf_counter() - began, version,
    )  # fmt: skip
