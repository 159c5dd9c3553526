"""Clinics drawn from the model, with the truth: for trials of a design and of the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.elsewhere import explained
from ranef.errors import ModelError
from ranef.fields.metagenomics.expectation import RATE_WEIGHTS, RATES
from ranef.fields.metagenomics.fitting import MOST_JUMPS
from ranef.tables import make_table

__all__ = ["Clinic", "simulate"]

Floats = NDArray[np.float64]

ESCAPED = 0.5
LEAST_BURST = 0.02
RARELY = 0.002
"""Probability of a library to catch a sporadic taxon that has no rate of its own."""
LANDED, LANDED_SD = float(np.log(5.0)), 1.5
"""Log mass of a contamination of a single library."""


@dataclass(frozen=True, eq=False)
class Clinic:
    """A simulated clinic.

    Attributes
    ----------
    counts : table
        ``sample, taxon, name, rank, reads, total_reads``.
    samples : table
        The sheet of the libraries.
    truth : table
        ``sample, taxon, mass, expected_reads, contaminant_reads`` of what is there.
    reads : (S, T) array
    present : (S, T) bool array
    contamination : (S, T) array
        Expected reads from the reagents and from other libraries.
    """

    counts: Any
    samples: Any
    truth: Any
    reads: NDArray[np.int64]
    present: NDArray[np.bool_]
    contamination: Floats


@explained
def simulate(
    *,
    batches: int = 8,
    patients: int = 12,
    controls: int = 2,
    taxa: int = 400,
    organisms: float = 1.0,
    batch_sd: float = 0.7,
    library_sd: float = 0.25,
    size: float = 2.0,
    hop: float = 1e-4,
    endemic: float = 0.0,
    heavy_tails: bool = False,
    mass_error: float = 0.0,
    patchy: float = 0.0,
    sporadic: float = 0.0,
    bursts: float = 0.0,
    exposure: str = "spike",
    rng: Any = None,
) -> Clinic:
    """Draw a clinic: batches of patients and controls, a profile of contamination a batch.

    Parameters
    ----------
    batches, patients, controls, taxa : int
        Patients and negative controls are of each batch.
    organisms : float
        Mean number of organisms in a patient.
    batch_sd, library_sd : float
        Standard deviations of log contamination between batches and between libraries.
    size : float
        Of the negative binomial distribution: Var = mean + mean^2 / size.
    hop : float
        Share of a run's reads of a taxon that turn up in its other libraries.
    endemic : float
        Prevalence of one more genuine taxon.
    heavy_tails : bool
        Whether batches deviate by a t distribution of three degrees of freedom.
    mass_error : float
        Standard deviation of the log error of mass (and spike-in).
    patchy : float
        Share of the contaminants that half of all libraries escape.
    sporadic : float
        Share of the taxa that are in no reagent and land in single libraries: most of them hardly
        ever, some in one library of ten, three of ten or seven of ten.
    bursts : float
        Share of libraries that caught reads of a foreign sample: 2 to 50 percent of all taxa.
    exposure : {"spike", "mass", "depth"}
        What the sheet tells of the libraries.
    rng : int or numpy.random.Generator, optional

    Examples
    --------
    >>> from ranef import metagenomics as mg
    >>> clinic = mg.simulate(batches=2, patients=3, controls=1, taxa=20, rng=1)
    >>> clinic.reads.shape
    (8, 20)
    """
    draw = arguments.generator(rng)
    exposure = arguments.choice("exposure", exposure, ("spike", "mass", "depth"))
    for name, share in (("patchy", patchy), ("sporadic", sporadic), ("bursts", bursts)):
        if not 0.0 <= arguments.number(name, share) <= 1.0:
            raise ModelError(f"{name} is a share, from 0 to 1, not {share!r}")
    if controls < 0 or min(batches, patients, taxa) < 1:
        raise ModelError("a clinic has at least one batch, one patient and one taxon")
    per = patients + controls
    n = batches * per
    batch = np.repeat(np.arange(batches), per)
    control = np.tile(np.arange(per) >= patients, batches)
    eta = draw.normal(-1.0, 2.2, taxa)
    step = draw.standard_t(3, (batches, taxa)) if heavy_tails else draw.normal(size=(batches, taxa))
    own = draw.normal(0.0, library_sd, n)
    kappa = np.exp(eta + batch_sd * step)[batch] * np.exp(own)[:, None]
    kappa = _uneven(kappa, draw, patchy, sporadic, bursts)
    present = draw.random((n, taxa)) < organisms / taxa
    if endemic:
        present[:, 0] = draw.random(n) < endemic
        kappa[:, 0] = 0.0
    present[control] = False
    a = np.where(present, np.exp(draw.normal(4.5, 2.0, (n, taxa))), 0.0)
    depth = np.exp(draw.normal(np.log(2e6), 0.5, n))
    host = np.where(control, 0.0, np.exp(draw.normal(7.0, 1.0, n)))
    mass = kappa.sum(axis=1) + a.sum(axis=1) + host
    r = np.exp(draw.normal(0.0, 0.6, n))
    own_reads = r[:, None] * (kappa + a)
    n_run = per
    mixed = own_reads * draw.gamma(size, 1.0 / size, (n, taxa))
    straight = draw.poisson(mixed)
    sums = np.zeros((batches, taxa))
    np.add.at(sums, batch, straight)
    chi = hop * (sums[batch] - straight) / n_run
    reads = straight + draw.poisson(chi)
    error = np.exp(draw.normal(0.0, mass_error, n)) if mass_error else np.ones(n)
    total = np.maximum((r * mass).round(), reads.sum(axis=1)).astype(np.int64)
    names = [f"S{i + 1:03d}" for i in range(n)]
    sheet: dict[str, Any] = {
        "sample": names,
        "is_control": control,
        "batch": [f"B{b + 1}" for b in batch],
        "run": [f"B{b + 1}" for b in batch],
        "total_reads": total,
    }
    if exposure == "spike":
        sheet["spike_reads"] = draw.poisson(r * 1000.0)
        sheet["spike_mass"] = 1000.0 * error
    elif exposure == "mass":
        sheet["input_mass"] = mass * error
    del depth
    where_s, where_t = np.nonzero(reads)
    labels = np.array([f"taxon{j + 1:04d}" for j in range(taxa)], dtype=object)
    counts = {
        "sample": np.array(names, dtype=object)[where_s],
        "taxon": labels[where_t],
        "name": labels[where_t],
        "rank": np.full(len(where_s), "S", dtype=object),
        "reads": reads[where_s, where_t],
        "total_reads": total[where_s],
    }
    back = r[:, None] * kappa + chi
    at_s, at_t = np.nonzero(present)
    truth = {
        "sample": np.array(names, dtype=object)[at_s],
        "taxon": labels[at_t],
        "mass": a[at_s, at_t],
        "expected_reads": (r[:, None] * a)[at_s, at_t],
        "contaminant_reads": back[at_s, at_t],
    }
    return Clinic(make_table(counts), make_table(sheet), make_table(truth), reads, present, back)


def _uneven(
    kappa: Floats, draw: np.random.Generator, patchy: float, sporadic: float, bursts: float
) -> Floats:
    """Contamination, (S, T), that libraries escape, and that lands in single libraries."""
    n, taxa = kappa.shape
    if patchy:
        escapes = draw.random(taxa) < patchy
        kappa = np.where(escapes & (draw.random((n, taxa)) < ESCAPED), 0.0, kappa)
    rate = np.zeros((n, taxa))
    if sporadic:
        unsteady = draw.random(taxa) < sporadic
        own = draw.choice(np.maximum(RATES, RARELY), taxa, p=RATE_WEIGHTS)
        kappa = np.where(unsteady, 0.0, kappa)
        rate = np.where(unsteady, own, rate)
    if bursts:
        of_burst = np.exp(draw.uniform(np.log(LEAST_BURST), np.log(MOST_JUMPS), n))
        caught = np.where(draw.random(n) < bursts, of_burst, 0.0)
        rate = 1.0 - (1.0 - rate) * (1.0 - caught[:, None])
    if sporadic or bursts:
        lands = draw.random((n, taxa)) < rate
        kappa = kappa + np.where(lands, np.exp(draw.normal(LANDED, LANDED_SD, (n, taxa))), 0.0)
    return kappa
