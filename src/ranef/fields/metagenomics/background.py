"""What a laboratory has learned of its reagents: trained once, locked, used for each new run."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef._version import __version__
from ranef.display.answer import Answer
from ranef.display.columns import Column, Fixed, Label, Listing, Written
from ranef.display.files import write_atomically
from ranef.display.numbers import count as counted
from ranef.display.progress import Ticker
from ranef.elsewhere import explained, explained_methods
from ranef.errors import FileError, ModelError
from ranef.fields.metagenomics import pictures
from ranef.fields.metagenomics.arrays import Arrays
from ranef.fields.metagenomics.assembly import Assembled, Note
from ranef.fields.metagenomics.expectation import Grid
from ranef.fields.metagenomics.exposure import SOURCES
from ranef.fields.metagenomics.fitting import MOST_LIBRARY_SD, Fitted, adapted, run
from ranef.fields.metagenomics.parameters import Parameters, Prior
from ranef.fields.metagenomics.results import Screen
from ranef.fields.metagenomics.screening import concluded, learned, prepared, prior_of
from ranef.solve.resources import available_cores
from ranef.solve.room import check_regular, check_room

__all__ = ["Background", "Drift", "load", "train"]

Floats = NDArray[np.float64]

KIND = "ranef metagenomic background"
FILE_VERSION = 3
LIMIT = 3.0
TINY = 1e-300
SMALLEST_CLASS = 1e-3
NO_BURSTS = 1e-9
OTHER_UNIT, COPIES = 1000.0, 3
"""Ratio of reads for a unit of mass from which on the units must differ."""
ARRAYS = ("nodes", "root", "classes", "steps", "mass_mean", "mass_sd", "weights", "offsets")


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Background(Answer):
    """Contamination as it was learned from finished runs.

    Attributes
    ----------
    taxa, names : tuple of str
    nodes : (K,) array
        Grid of log contamination.
    root : (T, K) array
        Posterior of each taxon's log contamination.
    classes : (T, 3) array
    parameters : Parameters
    groups : tuple of str
    unit : float
        Mass of one unit of contamination.
    source : str
        What exposures were made from.
    kinds : tuple of str
        Of controls.
    n_samples, n_controls, n_batches : int
    inputs : tuple of (str, str)
        Files and their SHA-256.
    version : str
    library : str
    """

    taxa: tuple[str, ...]
    names: tuple[str, ...]
    nodes: Floats
    root: Floats
    classes: Floats
    parameters: Parameters
    groups: tuple[str, ...]
    unit: float
    source: str
    kinds: tuple[str, ...]
    n_samples: int
    n_controls: int
    n_batches: int
    inputs: tuple[tuple[str, str], ...]
    version: str
    library: str = "pandas"

    @property
    def title(self) -> str:
        return f"Background {self.version}: {counted(len(self.taxa), 'taxon', 'taxa')}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that the background holds."""
        digest = hashlib.sha256(json.dumps(self._head(), sort_keys=True).encode())
        for name, values in self._arrays().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()

    def _arrays(self) -> dict[str, Floats]:
        psi = self.parameters
        held = (self.nodes, self.root, self.classes, psi.steps, psi.mass_mean, psi.mass_sd,
                psi.classes, psi.offsets)  # fmt: skip
        return dict(zip(ARRAYS, held, strict=True))

    def _head(self) -> dict[str, Any]:
        psi = self.parameters
        numbers = ("mean", "sd", "library_sd", "size", "size_sd", "prevalence", "jumps", "escapes",
                   "bursts", "jump_mean", "jump_sd", "leak")  # fmt: skip
        return {
            "kind": KIND, "file_version": FILE_VERSION, "taxa": self.taxa, "names": self.names,
            "groups": self.groups, "unit": self.unit, "source": self.source, "kinds": self.kinds,
            "n_samples": self.n_samples, "n_controls": self.n_controls,
            "n_batches": self.n_batches, "inputs": self.inputs, "version": self.version,
            "numbers": {name: float(getattr(psi, name)) for name in numbers},
            "hop": float(np.mean(psi.hop)),
        }  # fmt: skip

    # --- use

    def screen(
        self,
        counts: Any,
        samples: Any,
        *,
        controls: str = "is_control",
        batch: str = "batch",
        run: str = "run",
        fdr: float = 0.05,
        list_by: str = "study",
        taxa: Any = None,
        n_jobs: int | None = None,
    ) -> Screen:
        """Screen a new run: parameters and taxa as they were learned, batches and libraries new.

        The arguments are those of `ranef.metagenomics.screen`.
        """
        began = time.perf_counter()
        found, _, made = prepared(counts, samples, controls, batch, run, "auto", taxa)
        made = self._joined(made)
        fitted = self._fitted(made.arrays, available_cores(n_jobs))
        version = f"{self.version} ({self.hash[:12]})"
        return concluded(found, made, fitted, Prior(), fdr, list_by, n_jobs, began, version)

    def _joined(self, made: Assembled) -> Assembled:
        own = SOURCES[int(np.bincount(made.exposures.source).argmax())]
        if own != self.source:
            raise ModelError(
                f"the background was learned with exposures by {self.source}, the new run has "
                f"them by {own}; masses cannot be compared: give both runs the same columns"
            )
        strangers = sorted(set(made.groups) - set(self.groups))
        if strangers and len(self.groups) > 1:
            raise ModelError(
                f"the background has no taxa of group {strangers[0]!r}; its groups are "
                f"{', '.join(map(repr, self.groups))}; call groups as the learned run does"
            )
        place = {taxon: k for k, taxon in enumerate(self.taxa)}
        at = np.array([place.get(taxon, -1) for taxon in made.taxa], dtype=np.intp)
        scale = self.unit / made.exposures.unit if self.source != "depth" else 1.0
        if max(scale, 1.0 / scale) > OTHER_UNIT:
            raise ModelError(
                f"a library of the new run has {scale:.2g} times the reads for a unit of mass that "
                f"those of the background have; is the mass of its {self.source} in the same unit?"
            )
        exposure = made.arrays.exposure * scale
        nodes = self._nodes(made.arrays.reads, exposure)
        more = len(nodes) - len(self.nodes)
        root = np.pad(self.root, ((0, 0), (0, more)), constant_values=TINY)
        prior = np.pad(self._prior, (0, more), constant_values=TINY)
        known = at >= 0
        groups = tuple(g if g in self.groups else self.groups[0] for g in made.groups)
        arrays = replace(
            made.arrays,
            exposure=exposure,
            group=np.array([self.groups.index(g) for g in groups], dtype=np.intp),
            kind=self._kind(made),
            root=np.where(known[:, None], root[at], prior),
            classes=np.where(known[:, None], self.classes[at], self.parameters.classes),
        )
        new = int((~known).sum())
        notes = made.notes
        if new:
            words = (
                f"{counted(new, 'taxon', 'taxa')} that the background does not know: judged as "
                "any taxon is before the data."
            )
            notes = (*notes, Note("new-taxa", words))
        exposures = replace(made.exposures, values=made.exposures.values * scale, unit=self.unit)
        return replace(made, arrays=arrays, notes=notes, groups=groups, exposures=exposures)

    @property
    def _prior(self) -> Floats:
        from ranef.fields.metagenomics.tree import normal_prior

        return normal_prior(self.nodes, self.parameters.mean, self.parameters.sd)

    def _nodes(self, reads: Floats, exposure: Floats) -> Floats:
        """The grid, longer where a new run has more reads."""
        some = exposure > 0
        top = float(np.log(max((reads[some] / exposure[some][:, None]).max(initial=0.0), 1.0))) + 1
        step = self.nodes[1] - self.nodes[0]
        more = max(int(np.ceil((top - self.nodes[-1]) / step)), 0)
        return np.asarray(self.nodes[0] + step * np.arange(len(self.nodes) + more))

    def _kind(self, made: Assembled) -> NDArray[np.intp]:
        place = {name: k + 1 for k, name in enumerate(self.kinds)}
        out = [place.get(kind, 0) if made.arrays.kind[k] else 0
               for k, kind in enumerate(made.sheet.kind)]  # fmt: skip
        return np.array(out, dtype=np.intp)

    def _fitted(self, arrays: Arrays, jobs: int) -> Fitted:
        nodes = self._nodes(arrays.reads, arrays.exposure)
        grid = Grid(nodes, (nodes[:, None] - nodes[None, :]) ** 2)
        hop = np.full(int(arrays.run.max(initial=0)) + 1, float(np.mean(self.parameters.hop)))
        depth = len(arrays.levels.names)
        steps = np.resize(self.parameters.steps, depth)
        leak = self.parameters.leak if arrays.near is not None else 0.0
        psi = replace(self.parameters, hop=hop, steps=steps, leak=leak)
        return adapted(arrays, grid, psi, jobs)

    @property
    def _steady(self) -> Background:
        """The same for runs whose load may be any: what rose in all taxa is no burst of them."""
        psi = self.parameters
        loose = replace(psi, bursts=NO_BURSTS, library_sd=max(psi.library_sd, MOST_LIBRARY_SD))
        return replace(self, parameters=loose)

    def drift(self, counts: Any, samples: Any, **how: Any) -> Drift:
        """Tell how far the contamination of each new batch has moved from what was learned.

        The arguments are those of `screen`.
        """
        found = self._steady.screen(counts, samples, **how)
        arrays = found.assembled.arrays
        assert arrays.root is not None
        nodes = found.fitted.grid.nodes
        prior = arrays.root / arrays.root.sum(axis=1, keepdims=True)
        mean = prior @ nodes
        variance = prior @ nodes**2 - mean**2
        leaf, leaf_var = found.found.joined("leaf_mean"), found.found.joined("leaf_var")
        step = float(np.sum(found.fitted.parameters.steps**2))
        between = (variance + step)[:, None]
        informed = np.maximum(between - leaf_var, 0.0)
        # the part of the prior variance that the batch's data remove says where it stands
        ambient = found.found.joined("classes")[:, 0][:, None]
        weight = ambient * informed / between**2
        shift = (weight * (leaf - mean[:, None]) * between / np.maximum(informed, 1e-9)).sum(axis=0)
        total = np.maximum(weight.sum(axis=0), 1e-12)
        shift = shift / total
        n = np.bincount(arrays.cell, minlength=arrays.levels.n_leaves)
        deviation = found.fitted.libraries.deviation
        shift = shift + np.bincount(arrays.cell, deviation, len(n)) / np.maximum(n, 1)
        common = self.parameters.library_sd**2 / np.maximum(n, 1)
        sd = np.sqrt(1.0 / total + common)
        leading = [
            found.assembled.names[int(k)]
            for k in (ambient * (leaf - mean[:, None]) / np.sqrt(between)).argmax(axis=0)
        ]
        columns = {
            "batch": list(found.assembled.cells),
            "estimate": shift,
            "conf_low": shift - 1.959964 * sd,
            "conf_high": shift + 1.959964 * sd,
            "z": shift / sd,
            "leading": leading,
            "flag": np.abs(shift / sd) > LIMIT,
        }
        return Drift(columns, self.version, float(LIMIT * np.median(sd)), self.library)

    # --- how it is kept and said

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the background to a file."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            head = {**self._head(), "hash": self.hash}
            archive.writestr(_entry("background.json"), json.dumps(head))
            for name, values in self._arrays().items():
                held = io.BytesIO()
                np.lib.format.write_array(held, np.asarray(values, dtype="<f8"), allow_pickle=False)
                archive.writestr(_entry(f"{name}.npy"), held.getvalue())
        return write_atomically(arguments.path(path), stream.getvalue())

    def tables(self) -> tuple[Listing, ...]:
        mean = self.root @ self.nodes
        order = np.argsort(-mean, kind="stable")
        sd = np.sqrt(np.maximum(self.root @ self.nodes**2 - mean**2, 0.0))
        columns = (
            Column("taxon", [self.taxa[k] for k in order]),
            Column("name", [self.names[k] for k in order], Label()),
            Column("estimate", self.unit * np.exp(mean[order]), Written("{:.3g}".format)),
            Column("conf_low", self.unit * np.exp((mean - 1.96 * sd)[order]), printed=False),
            Column("conf_high", self.unit * np.exp((mean + 1.96 * sd)[order]), printed=False),
            Column("p_ambient", self.classes[order, 0], Fixed(3), "ambient"),
        )
        return (Listing("taxa", columns, "Contamination", labels=2),)

    def body(self) -> Any:
        yield self.tables()[0].take(np.arange(min(15, len(self.taxa))), "Most contaminating taxa")
        from ranef.display.page import Paragraph

        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        return (
            f"Learned from {counted(self.n_samples, 'library', 'libraries')}, "
            f"{self.n_controls} of them negative controls, in "
            f"{counted(self.n_batches, 'batch', 'batches')}; exposures by {self.source}.",
            f"SHA-256 {self.hash}",
        )


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Drift(Answer):
    """Shifts of contamination, batch by batch: `Background.drift`.

    Attributes
    ----------
    columns : dict
        ``batch, estimate, conf_low, conf_high, z, leading, flag``: the mean shift of log
        contamination, and the taxon that rose most.
    version : str
    limit : float
        Three standard deviations of a typical batch.
    library : str
    """

    columns: dict[str, Any]
    version: str
    limit: float
    library: str

    @property
    def title(self) -> str:
        return f"Drift from background {self.version}"

    def tables(self) -> tuple[Listing, ...]:
        made = self.columns
        columns = (
            Column("batch", made["batch"]),
            Column("estimate", made["estimate"], Fixed(3), "log shift"),
            Column("conf_low", made["conf_low"], Fixed(3), "from"),
            Column("conf_high", made["conf_high"], Fixed(3), "to"),
            Column("z", made["z"], Fixed(2)),
            Column("leading", made["leading"], Label(), "rose most"),
            Column("flag", made["flag"], Written(lambda v: "out" if v else ""), "limits"),
        )
        return (Listing("drift", columns, "Batches"),)

    def plot(self, *, ax: Any = None, figure: Any = None) -> Any:
        """Draw the chart."""
        return pictures.drift(self, ax=ax, figure=figure)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without the time of day, so that equal backgrounds are equal files."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


@explained
def train(
    counts: Any,
    samples: Any,
    *,
    controls: str = "is_control",
    batch: str = "batch",
    run: str = "run",
    exposure: str = "auto",
    taxa: Any = None,
    prior: Any = None,
    version: str = "1",
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> Background:
    """Learn contamination from finished runs, to be used for later ones.

    Parameters
    ----------
    counts, samples, controls, batch, run, exposure, taxa, prior, n_jobs
        As of `screen`.
    version : str
        Name of this state of the laboratory's reagents.
    progress : bool, optional
        A bar, also None where somebody looks and it lasts longer than a second.

    Examples
    --------
    >>> from ranef import metagenomics as mg
    >>> old = mg.simulate(batches=3, patients=4, controls=2, taxa=60, rng=4)
    >>> background = mg.train(old.counts, old.samples, version="2025-01")
    >>> background.version, len(background.hash)
    ('2025-01', 64)
    """
    if not isinstance(version, str) or not version.strip():
        raise ModelError(f"version must be text such as '2025-01', not {version!r}")
    found, _, made = prepared(counts, samples, controls, batch, run, exposure, taxa)
    jobs = available_cores(n_jobs)
    own = prior_of(prior)
    with Ticker(4, "training", progress) as tick:
        made, fitted = learned(made, own, jobs, lambda _: tick(1))
        results = run_results(made.arrays, fitted, jobs)
        tick(1)
    source = SOURCES[int(np.bincount(made.exposures.source).argmax())]
    n = made.arrays
    classes = np.maximum(results.joined("classes"), SMALLEST_CLASS)
    kinds = sorted({k for k, c in zip(made.sheet.kind, n.negative, strict=True) if c})
    return Background(
        made.taxa, made.names, fitted.grid.nodes, results.joined("root"),
        classes / classes.sum(axis=1, keepdims=True), fitted.parameters,
        tuple(sorted(set(made.groups))), made.exposures.unit, source, tuple(kinds),
        n.shape[0], int(n.negative.sum()), n.levels.n_leaves, found.hashes, version,
        found.library,
    )  # fmt: skip


def run_results(arrays: Arrays, fitted: Fitted, jobs: int) -> Any:
    """Work out all taxa at the parameters found."""
    return run(arrays, fitted.grid, fitted.parameters, fitted.libraries, jobs)


@explained
def load(path: str | PathLike[str]) -> Background:
    """Read a background that `Background.save` wrote; one that was changed is refused."""
    source = arguments.path(path)
    check_regular(source, repr(str(source)))
    try:
        with zipfile.ZipFile(source) as archive:
            size = sum(member.file_size for member in archive.infolist())
            check_room(float(COPIES) * size, repr(str(source)))
            head = json.loads(archive.read("background.json"))
            held = {
                name: np.lib.format.read_array(
                    io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False
                )
                for name in ARRAYS
            }
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(source)!r}") from error
    except FileError:
        raise
    except Exception as error:  # whatever a file makes Python do, it is the file's fault
        raise FileError(
            f"{source.name} is not a background that ranef saved; give the file of its save()"
        ) from error
    if not isinstance(head, dict) or head.get("kind") != KIND:
        raise FileError(
            f"{source.name} is not a background that ranef saved; give the file of its save()"
        )
    if head.get("file_version") != FILE_VERSION:
        raise FileError(
            f"{source.name} was written by another version of ranef than {__version__}; train the "
            "background again"
        )
    try:
        made = _background(head, held)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(f"{source.name} is damaged: {error}; take another copy of it") from error
    if made.hash != head.get("hash"):
        raise FileError(f"{source.name} was changed after it was saved: its hash does not fit")
    return made


def _check_sizes(head: dict[str, Any], held: dict[str, Floats]) -> None:
    """Refuse arrays that do not belong to each other, or that hold what is no probability."""
    count, size = len(head["taxa"]), len(head["groups"])
    wanted = {
        "nodes": (len(held["nodes"]),), "root": (count, len(held["nodes"])), "classes": (count, 3),
        "steps": (len(held["steps"]),), "mass_mean": (size,), "mass_sd": (size,), "weights": (3,),
        "offsets": (len(head["kinds"]) + 1,),
    }  # fmt: skip
    if len(head["names"]) != count or len(set(head["taxa"])) != count or not count:
        raise ValueError("its taxa do not fit together")
    for name, shape in wanted.items():
        if held[name].dtype.kind != "f" or held[name].shape != shape:
            raise ValueError(f"sizes do not fit together: {name} is {held[name].shape}")
        if not np.isfinite(held[name]).all():
            raise ValueError(f"{name} holds what is not finite")
    rising = len(held["nodes"]) > 1 and bool((np.diff(held["nodes"]) > 0).all())
    chances = all(float(held[name].min(initial=0.0)) >= 0 for name in ("root", "classes"))
    if not rising or not chances:
        raise ValueError("its distributions are none")


def _background(head: dict[str, Any], held: dict[str, Floats]) -> Background:
    numbers = {name: float(value) for name, value in head["numbers"].items()}
    psi = Parameters(
        **numbers, steps=held["steps"], mass_mean=held["mass_mean"], mass_sd=held["mass_sd"],
        classes=held["weights"], hop=np.array([float(head["hop"])]), offsets=held["offsets"],
    )  # fmt: skip
    _check_sizes(head, held)
    if not all(np.isfinite(value) for value in numbers.values()):
        raise ValueError("a number of it is not finite")
    return Background(
        tuple(head["taxa"]), tuple(head["names"]), held["nodes"], held["root"], held["classes"],
        psi, tuple(head["groups"]), float(head["unit"]), str(head["source"]),
        tuple(head["kinds"]), int(head["n_samples"]), int(head["n_controls"]),
        int(head["n_batches"]), tuple((str(a), str(b)) for a, b in head["inputs"]),
        str(head["version"]),
    )  # fmt: skip
