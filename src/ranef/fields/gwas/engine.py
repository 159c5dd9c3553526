"""The scan itself: samples and traits in, statistics of every variant out, block by block.

Traits with the same samples and covariates share reading and rotation. A block is the same
whoever works on it, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.errors import DataError
from ranef.fields.gwas.elsewhere import answers_of
from ranef.fields.gwas.genotypes import Block, Chosen, Genotypes, Tally
from ranef.fields.gwas.kinblocks import eigen_by_blocks
from ranef.fields.gwas.model import Trait
from ranef.fields.gwas.profiles import (
    COLLINEAR,
    Found,
    Prepared,
    prepare,
    test_directly,
    test_variants,
)
from ranef.fields.gwas.quality import OK, Limits, judge
from ranef.fields.gwas.spectrum import NullFit, Rotated, constants, eigen, fit_null, nodes_at
from ranef.solve.resources import in_threads, one_blas_thread

__all__ = [
    "LARGE", "Basis", "Columns", "Group", "Kept", "Lot", "Part", "Settings", "Stretch",
    "Tester", "basis_of", "lots_of", "models_of", "null_of", "ready_of", "rotated", "scan_group",
    "stretch_of", "test_exactly",
]  # fmt: skip

Floats = NDArray[np.float64]

SECOND_LOOK = 1e-4
"""p below which a variant is tested again in double precision."""
STEEP = float(np.log(1e3))
"""Log variance ratio of the null model beyond which all variants are: hardly any noise is left."""
LITTLE_LEFT = 1e-2
NEARLY_ALL = 1e-5
EXACT_FIT = 1e-13
LARGE = 3000
INDEFINITE = 1e-4


@dataclass(frozen=True)
class Settings:
    """How variants are tested.

    Attributes
    ----------
    effect : str
    exact : bool
        Whether each variant has its own lambda.
    single : bool
        Whether variants are rotated in single precision first.
    limits : Limits
    block : int
    jobs : int
    """

    effect: str
    exact: bool
    single: bool
    limits: Limits
    block: int
    jobs: int


@dataclass(frozen=True, eq=False)
class Group:
    """Traits of the same samples and covariates."""

    chosen: Chosen
    W: Floats
    intercept: bool
    traits: tuple[Trait, ...]


@dataclass(frozen=True, eq=False)
class Basis:
    """Eigenvectors of the analysed samples' relationship; None of unrelated samples.

    Attributes
    ----------
    d : (n,) array
    U : (n, n) array, sparse array or None
    U_single : (n, n) float32 array, sparse array or None
    """

    d: Floats
    U: Any
    U_single: Any = None

    def rotate(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return rows in the coordinates of the eigenvectors."""
        if self.U is None:
            return X
        out: NDArray[Any] = X @ (self.U if X.dtype == np.float64 else self.U_single)
        return out

    def back(self, V: Floats) -> Floats:
        """Return columns in the coordinates of the samples, (n, k)."""
        return V if self.U is None else np.ascontiguousarray(self.U @ V)


def basis_of(K: Any, n: int, intercept: bool, single: bool) -> Basis:
    """Decompose a relationship matrix, (n, n), of the analysed samples; it is overwritten.

    A sparse one is decomposed block by block and is not centred.
    """
    if K is None:
        return Basis(np.zeros(n), None)
    if not isinstance(K, np.ndarray):
        d, sparse = eigen_by_blocks(K)
        return Basis(d, sparse, sparse.astype(np.float32) if single else None)
    if intercept:
        mean = K.mean(axis=0)
        K -= mean
        K -= (mean - mean.mean())[:, None]
    lowest_allowed = -INDEFINITE * float(np.abs(np.diag(K)).max())
    with one_blas_thread() if n <= LARGE else nullcontext():
        d, U = eigen(K)
    if d.min() < lowest_allowed * n**0.5:
        raise DataError(
            f"the relationship is indefinite: it has the eigenvalue {d.min():.4g} beside "
            f"{d.max():.4g}, and no covariance has one below zero"
        )
    return Basis(np.maximum(d, 0.0), U, U.astype(np.float32) if single else None)


def rotated(basis: Basis, W: Floats, y: Floats) -> Rotated:
    """Return a model in the coordinates of a basis."""
    if basis.U is None:
        return Rotated(basis.d, W, y)
    return Rotated(basis.d, basis.U.T @ W, basis.U.T @ y)


def null_of(basis: Basis, model: Rotated) -> NullFit:
    """Fit the model without a variant; of unrelated samples by least squares."""
    if basis.U is not None:
        return fit_null(model)
    n, c = model.n, model.c
    at = nodes_at(model, np.array([-np.inf]))
    reml, ml = constants(n, c)
    reml += float(at.likelihood(n, c, reml=True)[0])
    ml += float(at.likelihood(n, c, reml=False)[0])
    sigma2 = float(at.yPy[0] / (n - c))
    inverse = np.linalg.inv(model.W.T @ model.W)
    beta = inverse @ (model.W.T @ model.y)
    nothing = float("nan")
    return NullFit(
        n, c, -np.inf, -np.inf, reml, ml, reml, 0.0, nothing, False, sigma2, beta,
        np.sqrt(sigma2 * np.diag(inverse)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Columns:
    """What a test finds of b variants, as (b,) arrays by name."""

    values: dict[str, Floats]

    @classmethod
    def empty(cls, b: int, names: Sequence[str]) -> Columns:
        """Nothing yet for b variants."""
        return cls({name: np.full(b, np.nan) for name in names})

    def put(self, rows: Any, other: Columns) -> None:
        """Write the results of some variants in their places."""
        for name, values in other.values.items():
            self.values[name][rows] = values

    def clear(self, rows: Any) -> None:
        """Leave no number of some variants."""
        for values in self.values.values():
            values[rows] = np.nan

    def __getitem__(self, name: str) -> Floats:
        return self.values[name]


@dataclass(frozen=True, eq=False)
class Part:
    """Results of variants `start` to `stop`.

    Attributes
    ----------
    n, n_missing : (b,) int arrays
    frequency, info : (b,) arrays
    status : list of (b,) arrays of text
        One a trait.
    found : list of Found or of Columns
        One a trait.
    """

    n: NDArray[np.int64]
    n_missing: NDArray[np.int64]
    frequency: Floats
    info: Floats
    status: list[NDArray[np.object_]]
    found: list[Any]

    def packed(self) -> bytes:
        """The part as the bytes of a file."""
        arrays: dict[str, Any] = {
            "n": self.n, "n_missing": self.n_missing, "frequency": self.frequency,
            "info": self.info,
        }  # fmt: skip
        for k, (status, found) in enumerate(zip(self.status, self.found, strict=True)):
            arrays[f"status{k}"] = status.astype("U20")
            if isinstance(found, Columns):
                arrays[f"found{k}"] = np.stack(list(found.values.values()))
                arrays[f"kind{k}"] = np.array(["", *found.values])
                continue
            arrays[f"found{k}"] = np.stack([getattr(found, f.name) for f in fields(found)])
            arrays[f"kind{k}"] = np.array(["Found"])
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Part:
        """A part from the bytes of a file."""
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            count = sum(name.startswith("found") for name in held.files)
            rows = len(held["n"])
            if any(held[name].shape[-1:] != (rows,) for name in held.files if name[:4] != "kind"):
                raise ValueError("the arrays of a part have different lengths")
            return cls(
                held["n"], held["n_missing"], held["frequency"], held["info"],
                [held[f"status{k}"].astype(object) for k in range(count)],
                [_unpacked(held[f"kind{k}"].tolist(), held[f"found{k}"]) for k in range(count)],
            )  # fmt: skip


def _unpacked(names: list[str], rows: Floats) -> Any:
    if names[0]:
        return Found(*rows)
    return Columns(dict(zip(names[1:], rows, strict=True)))


class Kept(Protocol):
    """Where parts are kept between runs."""

    def load(self, group: int, start: int, stop: int) -> Part | None: ...

    def store(self, group: int, start: int, stop: int, part: Part) -> None: ...


Ready = tuple[Basis, tuple[Prepared, ...]]
"""A basis, and the models of a group's traits in it."""


class Tester(Protocol):
    """How variants are tested against one relationship."""

    def ready(self, group: Group, K: Any, settings: Settings) -> Any:
        """Prepare what the variants of a lot share; K may be overwritten."""

    def test(
        self,
        source: Genotypes,
        group: Group,
        ready: Any,
        wanted: NDArray[np.bool_],
        settings: Settings,
        span: tuple[int, int],
    ) -> Part:
        """Test the variants of a span."""


@dataclass(frozen=True, eq=False)
class Lot:
    """Stretches of variants that are tested against one relationship."""

    name: str | None
    stretches: tuple[tuple[int, int], ...]


def lots_of(source: Genotypes, wanted: NDArray[np.bool_], block: int, apart: bool) -> list[Lot]:
    """Cut the variants into stretches, in one lot or in one a chromosome."""
    m = len(source.variants)
    if not apart:
        return [Lot(None, tuple(_stretches(0, m, wanted, block)))]
    of = source.variants.chromosome
    changes = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1], [True]]))
    found: dict[str, list[tuple[int, int]]] = {}
    for low, high in zip(changes[:-1].tolist(), changes[1:].tolist(), strict=True):
        found.setdefault(of[low], []).extend(_stretches(low, high, wanted, block))
    return [Lot(name, tuple(cut)) for name, cut in found.items() if cut]


def _stretches(
    low: int, high: int, wanted: NDArray[np.bool_], block: int
) -> Iterator[tuple[int, int]]:
    for start in range(low, high, block):
        stop = min(start + block, high)
        if wanted[start:stop].any():
            yield start, stop


def scan_group(
    source: Genotypes,
    group: Group,
    lots: Sequence[Lot],
    matrix: Callable[[str | None], Any],
    wanted: NDArray[np.bool_],
    settings: Settings,
    kept: Kept | None,
    number: int,
    known: Mapping[str | None, Any],
    tester: Tester,
    client: Any = None,
) -> Iterator[tuple[int, int, Part]]:
    """Hand on the parts of all variants wanted, in the order of the lots.

    matrix : the relationship of the group's samples for a lot, a copy that may be overwritten;
    known : lots that are prepared; client : who tests, with ``submit``, in place of threads.
    """
    together = settings.jobs if len(group.chosen) <= LARGE else 1
    for k in range(0, len(lots), together):
        batch, todo = lots[k : k + together], []
        done: dict[tuple[int, int], Part] = {}
        for lot in batch:
            for stretch in lot.stretches:
                part = None if kept is None else kept.load(number, *stretch)
                if part is not None:
                    done[stretch] = part
            if lot.name not in known and any(s not in done for s in lot.stretches):
                todo.append(lot)
        made = in_threads(
            lambda lot: tester.ready(group, matrix(lot.name), settings), todo, together
        )
        ready = {**known, **dict(zip([lot.name for lot in todo], made, strict=True))}
        work = [(lot.name, s) for lot in batch for s in lot.stretches if s not in done]

        def test(
            item: tuple[str | None, tuple[int, int]], ready: dict[Any, Any] = ready
        ) -> tuple[int, int, Part]:
            name, (start, stop) = item
            part = tester.test(source, group, ready[name], wanted, settings, (start, stop))
            if kept is not None:
                kept.store(number, start, stop, part)
            return start, stop, part

        for (start, stop), part in done.items():
            yield start, stop, part
        if client is not None:
            shared = {name: (tester, group, ready[name], settings) for name, _ in work}
            sent = ((s, shared[name], _sent(source, wanted, s)) for name, s in work)
            for (start, stop), part in answers_of(client, test_sent, sent):
                if kept is not None:
                    kept.store(number, start, stop, part)
                yield start, stop, part
            continue
        with one_blas_thread():
            yield from in_threads(test, work, settings.jobs)


@dataclass(frozen=True, eq=False)
class Sent:
    """A span of variants that was read, in place of a source.

    Attributes
    ----------
    block : Block
    several : (b,) bool array or None
        See `Variants.several`.
    """

    block: Block
    several: NDArray[np.bool_] | None

    @property
    def variants(self) -> Sent:
        """Itself, for `several`."""
        return self

    def read(self, start: int, stop: int) -> Block:
        """Return the whole span."""
        return self.block


def _sent(
    source: Genotypes, wanted: NDArray[np.bool_], span: tuple[int, int]
) -> tuple[Sent, NDArray[np.bool_]]:
    several = source.variants.several
    own = None if several is None else several[slice(*span)]
    return Sent(source.read(*span), own), wanted[slice(*span)]


def test_sent(
    shared: tuple[Tester, Group, Any, Settings], sent: Any, wanted: NDArray[np.bool_]
) -> Part:
    """Test the variants of a span that was sent; what is shared is that of the lot."""
    tester, group, ready, settings = shared
    with one_blas_thread():
        return tester.test(sent, group, ready, wanted, settings, (0, len(wanted)))


def ready_of(group: Group, K: Any, settings: Settings) -> Ready:
    """Decompose a relationship and fit the models without a variant; K is overwritten."""
    basis = basis_of(K, len(group.chosen), group.intercept, settings.single)
    return basis, models_of(basis, group.W, [trait.y for trait in group.traits], settings)


def models_of(
    basis: Basis, W: Floats, responses: Sequence[Floats], settings: Settings
) -> tuple[Prepared, ...]:
    """Fit the models without a variant."""
    models = []
    with one_blas_thread():
        for y in responses:
            model = rotated(basis, W, y)
            null = null_of(basis, model)
            exact = settings.exact and basis.U is not None
            models.append(
                prepare(model, null, exact=exact, single=settings.single, back=basis.back)
            )
    return tuple(models)


@dataclass(frozen=True, eq=False)
class Stretch:
    """Variants that were read and judged.

    Attributes
    ----------
    block : Block
    tally : Tally
    status : (b,) array of text
    rows : (k,) int array
        Those to be tested.
    chosen : Chosen
    centred : bool
    """

    block: Block
    tally: Tally
    status: NDArray[np.object_]
    rows: NDArray[np.intp]
    chosen: Chosen
    centred: bool

    def values(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Coded variants, (len(rows), n)."""
        return self.block.coded(rows, self.chosen, self.tally, centred=self.centred, single=False)

    def whole(self, found: Columns) -> tuple[NDArray[np.object_], Columns]:
        """Status and results in the places of all variants; `left` tells who is collinear."""
        status = self.status.copy()
        status[self.rows[~(found["left"] > COLLINEAR)]] = "collinear"
        placed = Columns.empty(len(status), list(found.values))
        placed.put(self.rows, found)
        placed.clear(status != OK)
        return status, placed

    def part(self, status: list[NDArray[np.object_]], found: list[Any]) -> Part:
        """What was found, with what the variants show."""
        tally = self.tally
        return Part(tally.n, tally.n_missing, tally.frequency, tally.info, status, found)


def stretch_of(
    source: Genotypes,
    group: Group,
    wanted: NDArray[np.bool_],
    settings: Settings,
    span: tuple[int, int],
) -> Stretch:
    """Read a span of variants and judge them."""
    start, stop = span
    block = source.read(start, stop)
    tally = block.tally(group.chosen, settings.effect)
    status = judge(tally, settings.limits)
    if source.variants.several is not None:
        status[source.variants.several[start:stop]] = "multiallelic"
    status[~wanted[start:stop]] = "excluded"
    rows = np.flatnonzero(status == OK)
    return Stretch(block, tally, status, rows, group.chosen, group.intercept)


def test_exactly(stretch: Stretch, ready: Ready, settings: Settings) -> Part:
    """Test variants one by one, each with its own variance ratio."""
    basis, models = ready
    status, rows = stretch.status, stretch.rows

    def values(some: NDArray[np.intp]) -> NDArray[Any]:
        return basis.rotate(stretch.values(some))

    statuses, results = [], []
    known: list[Floats | None] = [None] * len(models)
    Z = stretch.values(rows)
    if settings.single:
        known = [None if m.response is None else m.response.times(Z) for m in models]
        Z = Z.astype(np.float32)
    Z = basis.rotate(Z)
    for prepared, zPy in zip(models, known, strict=True):
        found = test_variants(prepared, Z, zPy)
        if settings.single:
            again = np.flatnonzero(_second_look(found, prepared))
            if len(again):
                found.put(again, test_variants(prepared, values(rows[again]), None))
        nearly = (found.left > COLLINEAR) & ~(found.residual >= NEARLY_ALL)
        for k in np.flatnonzero(nearly):
            z = values(rows[k : k + 1])[0]
            left = found.left[k]
            found.put([k], test_directly(prepared.model, prepared.null, z, exact=prepared.exact))
            found.left[k] = left
        own = status.copy()
        own[rows[~(found.left > COLLINEAR)]] = "collinear"
        exact = found.residual < EXACT_FIT
        own[rows[exact]] = "exact_fit"
        whole = Found.empty(len(status))
        whole.put(rows, found)
        for field in fields(whole):
            getattr(whole, field.name)[own != OK] = np.nan
        statuses.append(own)
        results.append(whole)
    return stretch.part(statuses, results)


def _second_look(found: Found, prepared: Prepared) -> NDArray[np.bool_]:
    """Variants whose figures need double precision."""
    from scipy.special import stdtrit

    if max(prepared.null.t_ml, prepared.null.t_reml) > STEEP:
        return np.ones(len(found.wald), dtype=bool)
    df = float(prepared.model.n - prepared.model.c - 1)
    large = float(stdtrit(df, 0.5 * SECOND_LOOK)) ** 2
    out: NDArray[np.bool_] = (found.wald > large) | ~(found.left > LITTLE_LEFT)
    return out
