"""The two-step path: ridge predictions without the tested chromosome, and close kin.

Step 1 predicts each trait by stacked ridge regressions of all variants (Mbatchou et al. 2021).
Step 2 tests the variants of a chromosome on the trait less the prediction by all others, with the
relationships of close kin as the covariance of a random effect (Jiang et al. 2019), by the same
tests as the exact path: what is decomposed are blocks of kin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.progress import arriving
from ranef.elsewhere import explained
from ranef.errors import DataError, ModelError
from ranef.fields.gwas.engine import (
    Basis,
    Group,
    Ready,
    Settings,
    basis_of,
    models_of,
)
from ranef.fields.gwas.genotypes import Genotypes, Rows, Variants
from ranef.fields.gwas.kin import SparseRelationship, read_cut, sparse_of
from ranef.fields.gwas.kinblocks import blocks_of
from ranef.fields.gwas.quality import OK, Limits, judge
from ranef.fields.gwas.relating import relate_given
from ranef.fields.gwas.ridge import SHARES, first_level, folds_of, second_level
from ranef.fields.gwas.ways import Exactly
from ranef.solve.resources import in_threads, one_blas_thread

__all__ = [
    "ABOVE",
    "InTwoSteps",
    "Predicted",
    "TwoStep",
    "TwoSteps",
    "plan_of",
    "step_memory",
    "steps_of",
    "two_step",
]

Floats = NDArray[np.float64]

ABOVE = 20_000
"""Samples beyond which leaving one chromosome out takes two steps."""
MOST_VARIANTS = 200_000
OF_KIN = 20_000
FEWEST_OF_KIN = 2000
BLOCKS = 100
SMALLEST_BLOCK, LARGEST_BLOCK = 50, 1000
FOR_PREDICTION = Limits()


@dataclass(frozen=True, eq=False)
class TwoStep:
    """How the two-step path goes; `two_step` makes it.

    Attributes
    ----------
    kin : "made", None or SparseRelationship
    cut : float
    max_variants : int
    """

    kin: Any
    cut: float
    max_variants: int

    @property
    def pieces(self) -> list[Any]:
        """What tells this plan from another."""
        held: list[Any] = ["two-step", self.cut, self.max_variants]
        if isinstance(self.kin, SparseRelationship):
            return [*held, self.kin.matrix.indptr, self.kin.matrix.indices, self.kin.matrix.data]
        return [*held, self.kin]


@explained
def two_step(kin: Any = "made", *, cut: float = 0.05, max_variants: int = MOST_VARIANTS) -> TwoStep:
    """Return what `scan` takes as ``relationship=`` for the two-step path at any size.

    ``relationship="two-step"`` is the same with its defaults, and ``"loco"`` takes it above 20,000
    samples.

    Parameters
    ----------
    kin : "made", None, SparseRelationship or path
        Close kin: of the genotypes; none; what `sparse_grm` or `read_grm` returned.
    cut : float
        Of kin that are made: see `sparse_grm`.
    max_variants : int
        Variants of step 1, evenly along the file.

    Returns
    -------
    TwoStep

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=200, m=3000, rng=1)
    >>> kin = gwas.sparse_grm(study.genotypes, cut=0.2)
    >>> scan = gwas.scan("trait ~ sex", study.genotypes, study.phenotypes,
    ...                  relationship=gwas.two_step(kin))
    >>> int(scan.glance()["n_tested"][0]) > 2900
    True
    """
    if isinstance(kin, str) and kin != "made":
        from ranef.fields.gwas.relationship import read_grm

        kin = read_grm(kin)
    if kin is not None and kin != "made" and not isinstance(kin, SparseRelationship):
        raise ModelError(
            "kin is 'made', None, or a sparse relationship (gwas.sparse_grm, K.sparse), not "
            f"{type(kin).__name__}"
        )
    return TwoStep(kin, read_cut(cut), arguments.count("max_variants", max_variants))


def plan_of(relationship: Any, n: int, gaussian: bool = True) -> TwoStep | None:
    """Return the plan that a call's relationship means for n samples; None is the exact path.

    gaussian : whether Gaussian traits are tested one by one; there is no other second step.
    """
    wanted = isinstance(relationship, TwoStep) or (
        isinstance(relationship, str) and relationship == "two-step"
    )
    if not gaussian:
        if wanted:
            raise ModelError(
                "the two-step path tests Gaussian traits one by one: not family='binomial', "
                "joint=True or interaction="
            )
        return None
    if isinstance(relationship, TwoStep):
        return relationship
    if not isinstance(relationship, str):
        return None
    if relationship == "two-step" or (relationship == "loco" and n > ABOVE):
        return two_step()
    return None


@dataclass(frozen=True, eq=False)
class TwoSteps:
    """Step 1 of a scan that is done, for a group of traits.

    Attributes
    ----------
    group : Group
    basis : Basis
        Of close kin.
    without : tuple of dict of str to (n,) arrays
        One a trait: see `ridge.Stacked`.
    settings : Settings
    note : str
    """

    group: Group
    basis: Basis
    without: tuple[dict[str, Floats], ...]
    settings: Settings
    note: str

    def ready(self, name: str | None) -> Ready:
        """Return the models of a chromosome's tests; without a name those of the bare traits."""
        rest = [
            trait.y if name is None else trait.y - held.get(name, held[""])
            for trait, held in zip(self.group.traits, self.without, strict=True)
        ]
        return self.basis, models_of(self.basis, self.group.W, rest, self.settings)


@dataclass(frozen=True, eq=False)
class Predicted:
    """In place of a matrix: each chromosome is tested beside the prediction by the others."""

    name: str = "two-step"
    apart: bool = True

    def matrix(self, places: Any, without: str | None) -> Any:
        """Return the name of the chromosome, by which `InTwoSteps` finds the prediction."""
        return without

    def pieces(self) -> list[Any]:
        """Nothing: the plan tells one from another."""
        return []


@dataclass(frozen=True)
class InTwoSteps(Exactly):
    """The second step: variants beside a prediction, with close kin.

    Attributes
    ----------
    steps : TwoSteps
    """

    steps: TwoSteps | None = None

    def ready(self, group: Group, K: Any, settings: Settings) -> Ready:
        assert self.steps is not None
        return self.steps.ready(K)


class Keeping(Protocol):
    """Where arrays are kept between runs."""

    def load_arrays(self, name: str) -> dict[str, NDArray[Any]] | None: ...

    def store_arrays(self, name: str, arrays: dict[str, NDArray[Any]]) -> None: ...


def steps_of(
    plan: TwoStep,
    source: Genotypes,
    group: Group,
    settings: Settings,
    progress: bool | None,
    keeping: Keeping | None,
    number: int,
) -> TwoSteps:
    """Do step 1 for a group of traits, or take it from where it was kept."""
    name = f"step1-{number}"
    held = None if keeping is None else keeping.load_arrays(name)
    if held is None:
        K = _kin_of(plan, source, group, settings.jobs, progress)
        families = [] if K is None else blocks_of(K)
        without, note = _predict(plan, source, group, families, settings.jobs, progress)
        held = {"note": np.array(note), **_kin_arrays(K)}
        for k, part in enumerate(without):
            held[f"names{k}"] = np.array(list(part), dtype=str)
            held[f"without{k}"] = np.stack(list(part.values()))
        if keeping is not None:
            keeping.store_arrays(name, held)
    n = len(group.chosen)
    basis = basis_of(_kin_matrix(held, n), n, group.intercept, settings.single)
    predictions = tuple(
        dict(zip(held[f"names{k}"].tolist(), held[f"without{k}"], strict=True))
        for k in range(len(group.traits))
    )
    pairs = (len(held["data"]) - n) // 2 if "data" in held else 0
    kept = f"{pairs:,} pairs of close kin as covariance" if pairs else "no close kin among them"
    return TwoSteps(group, basis, predictions, settings, f"{held['note']}; {kept}")


def _kin_of(
    plan: TwoStep, source: Genotypes, group: Group, jobs: int, progress: bool | None
) -> Any:
    """The relationships of close kin among the analysed; None where nobody has any."""
    kin = plan.kin
    if kin is None:
        return None
    if not isinstance(kin, SparseRelationship):
        kin = sparse_of(source, group.chosen, plan.cut, OF_KIN, FOR_PREDICTION, jobs, progress)
        if kin.n_variants < FEWEST_OF_KIN:
            raise ModelError(
                f"{kin.n_variants:,} variants tell kin from chance too badly for the two-step "
                "path; use relationship='loco' or 'centred', or give gwas.two_step(kin=...)"
            )
    return relate_given(kin, source.samples).matrix(group.chosen.places, None)


def _kin_arrays(K: Any) -> dict[str, NDArray[Any]]:
    if K is None or K.nnz <= K.shape[0]:
        return {}
    return {"data": K.data, "indices": K.indices, "indptr": K.indptr}


def _kin_matrix(held: dict[str, NDArray[Any]], n: int) -> Any:
    from scipy.sparse import csr_array

    if "data" not in held:
        return None
    return csr_array((held["data"], held["indices"], held["indptr"]), shape=(n, n))


def _predict(
    plan: TwoStep,
    source: Genotypes,
    group: Group,
    families: Sequence[Rows],
    jobs: int,
    progress: bool | None,
) -> tuple[list[dict[str, Floats]], str]:
    """Predictions of each trait by all chromosomes but one, and what is said of them."""
    blocks = _blocks(source, plan.max_variants)
    total = sum(len(rows) for _, rows in blocks)
    Q = np.linalg.qr(group.W)[0] if group.W.shape[1] else np.zeros((len(group.chosen), 0))
    Y = np.column_stack([_residual(Q, trait.y) for trait in group.traits])
    sd = Y.std(axis=0)
    who = group.chosen.places.tolist()
    names = [(source.samples.iid[place], source.samples.fid[place]) for place in who]
    folds = folds_of(len(who), families, names)
    parts, chromosome, used = _first_steps(
        source, group, blocks, Q, Y / sd, folds, total, jobs, progress
    )
    if not used:
        raise DataError(
            f"no variant of {source.name} is frequent enough and typed well enough to predict by; "
            "use relationship=None"
        )
    without, said = [], []
    with one_blas_thread():
        for k, trait in enumerate(group.traits):
            own = np.concatenate([part[k] for part in parts])
            stacked = second_level(own, chromosome, Y[:, k] / sd[k], folds)
            without.append({name: sd[k] * part for name, part in stacked.without.items()})
            said.append(f"{trait.name}: R2 {stacked.r2:.3f} out of fold")
    note = (
        f"two steps: stacked ridge regressions on {used:,} variants in {len(parts):,} blocks "
        f"predicted each trait ({'; '.join(said)}); variants of a chromosome were tested on the "
        "trait less the prediction by all others"
    )
    return without, note


def step_memory(n: int, m: int, jobs: int) -> float:
    """Bytes that step 1 takes at its peak, roughly."""
    blocks = min(m, MOST_VARIANTS) // LARGEST_BLOCK + BLOCKS
    return jobs * 16.0 * LARGEST_BLOCK * n + 12.0 * blocks * len(SHARES) * n


def _residual(Q: Floats, y: Floats) -> Floats:
    out: Floats = y - Q @ (Q.T @ y)
    return out


def _blocks(source: Genotypes, most: int) -> list[tuple[str, Rows]]:
    """Chromosomes and places of the variants of each block, neighbours on their chromosome."""
    rows = _along(source.variants)
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]
    size = int(np.clip(len(rows) // BLOCKS, SMALLEST_BLOCK, LARGEST_BLOCK))
    of = source.variants.chromosome[rows]
    return [
        (name, np.sort(own[k : k + size]))
        for name in dict.fromkeys(of.tolist())
        for own in (rows[of == name],)
        for k in range(0, len(own), size)
    ]


def _along(variants: Variants) -> Rows:
    """Places of the variants by chromosome and position, whatever their order in the file."""
    _, code = np.unique(variants.chromosome.astype(str), return_inverse=True)
    key = code * 2.0**40 + variants.position
    if (np.diff(key) > 0).all():
        return np.arange(len(key))
    if len(np.unique(key)) == len(key):
        return np.argsort(key, kind="stable")
    return np.lexsort((variants.id.astype(str), key))


def _first_steps(
    source: Genotypes,
    group: Group,
    blocks: Sequence[tuple[str, Rows]],
    Q: Floats,
    Y: Floats,
    folds: Sequence[Rows],
    total: int,
    jobs: int,
    progress: bool | None,
) -> tuple[list[NDArray[np.float32]], list[str], int]:
    """Predictions of all blocks that have variants, the chromosome of each row, and variants."""
    narrow = Q.astype(np.float32)

    def work(block: tuple[str, Rows]) -> tuple[str, int, NDArray[np.float32] | None]:
        name, rows = block
        X = _standardised(source, group, rows, narrow)
        if not len(X):
            return name, 0, None
        return name, len(X), first_level(X, Y, folds, total)

    predictions, chromosome, used = [], [], 0
    with one_blas_thread():
        found = arriving(
            in_threads(work, list(blocks), jobs), len(blocks), "predicting", progress,
            unit=" blocks",
        )  # fmt: skip
        for name, count, part in found:
            if part is not None:
                used += count
                predictions.append(part)
                chromosome += [name] * part.shape[1]
    return predictions, chromosome, used


def _standardised(
    source: Genotypes, group: Group, rows: Rows, Q: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The variants of a block that enter: covariates projected out, variance one, (b, n)."""
    contiguous = rows[-1] - rows[0] + 1 == len(rows)
    block = source.read(int(rows[0]), int(rows[-1]) + 1) if contiguous else source.take(rows)
    tally = block.tally(group.chosen, "additive")
    good = np.flatnonzero((judge(tally, FOR_PREDICTION) == OK) & (tally.levels > 1))
    X: NDArray[Any] = block.coded(good, group.chosen, tally, centred=True, single=True)
    X = X - (X @ Q) @ Q.T
    scale = X.std(axis=1, dtype=np.float64)
    varies = scale > 1e-3
    out: NDArray[np.float32] = X[varies] / scale[varies].astype(np.float32)[:, None]
    return out
