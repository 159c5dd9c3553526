"""A structured linear model at given covariance parameters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ranef.covariance import Structure, lower_entries, structure_of
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.assembly import NO_VARIATION, FixedScale, scale_fixed
from ranef.solve.resources import LARGE_ORDER, available_cores, one_blas_thread
from ranef.solve.structured.contractions import Contracted, contracted, weighted
from ranef.solve.structured.design import Chunk, chunks_of
from ranef.solve.structured.moments import (
    Kept,
    Products,
    RandomCovariance,
    SecondSums,
    Solved,
    Sums,
    average_information,
    cluster_sums,
    products_of,
    second_products,
    solved_clusters,
)
from ranef.solve.structured.places import Places, places_of
from ranef.solve.structured.rows import (
    CAN_BE_SINGULAR,
    LEAST_BESIDE_EFFECTS,
    LEAST_BESIDE_OTHERS,
    RowCovariance,
    row_covariance,
)
from ranef.squares import cholesky

__all__ = [
    "Along",
    "HeldCombination",
    "StructuredPoint",
    "StructuredProblem",
    "structured_problem",
]

Floats = NDArray[np.float64]

OUT_OF_RANGE = (np.linalg.LinAlgError, OverflowError, ZeroDivisionError)
"""What a covariance raises at parameters beyond all reason."""
DIGITS = 1e-4
"""How well two ways of computing r2 agree where it has digits."""


@dataclass(frozen=True, eq=False)
class StructuredPoint:
    """What is known at one theta, sigma profiled out; on the problem's own scales.

    Attributes
    ----------
    theta : (k,) float64 array
    criterion : float
        Minus twice the profiled (restricted) log-likelihood, on the user's scale.
    C : (p, p) float64 array
        (X'H^-1X)^-1.
    beta : (p,) float64 array
    r2, degrees : float
    sums : Sums
    gradient : (k,) float64 array
    hessian : (k, k) float64 array
        By average information, or exact.
    second : Contracted or None
        What the exact one is made of.
    """

    theta: Floats
    criterion: float
    C: Floats
    beta: Floats
    r2: float
    degrees: float
    sums: Sums
    gradient: Floats
    hessian: Floats
    second: Contracted | None = None

    @property
    def exact(self) -> bool:
        """Whether the Hessian is."""
        return self.second is not None

    @cached_property
    def b(self) -> Floats:
        """[-beta, 1]."""
        return np.append(-self.beta, 1.0)

    def projected(self, matrices: Floats) -> Floats:
        """tr(C M_xx) of matrices (..., p + 1, p + 1)."""
        p = len(self.beta)
        return np.asarray(np.einsum("ab,...ab->...", self.C, matrices[..., :p, :p]))

    def contracted(self, matrices: Floats) -> Floats:
        """B'M b of matrices (..., p + 1, p + 1)."""
        return np.asarray((matrices @ self.b) @ self.b)


@dataclass(frozen=True, eq=False)
class HeldCombination:
    """a'beta = value, on the problem's scales, with what was taken out of the response out.

    Attributes
    ----------
    a : (p,) float64 array
    value : float
    """

    a: Floats
    value: float


@dataclass(frozen=True, eq=False)
class Along:
    """The criterion as a function of Psi, of the residuals' parameters and of sigma:

        log_determinant + degrees log(2 pi sigma^2) + r2 / sigma^2,

    sigma in units of the response's scale.

    Attributes
    ----------
    log_determinant : float
        With that of X'H^-1X under REML.
    r2, degrees : float
    slope : float
        Of r2 in the value of a combination that is held.
    traces, scores : (K,) float64 arrays
        Derivatives of log_determinant and, less their sign, of r2: along the entries of the lower
        triangle of each Psi, column by column (both places of an entry move), then in the
        residuals' parameters.
    """

    log_determinant: float
    r2: float
    degrees: float
    slope: float
    traces: Floats
    scores: Floats


@dataclass(frozen=True, eq=False)
class StructuredProblem:
    """A specification whose residuals have a structure, cut into chunks.

    Attributes
    ----------
    spec : Specification
    rows : RowCovariance
    structures : tuple of Structure
        Of the random terms.
    fixed : FixedScale
    taken : (p,) float64 array
        Least-squares coefficients taken out of the response, on the problem's scale of X.
    scale : float
        Unit of the response.
    chunks : tuple of Chunk
    tangent : bool
        Of an unstructured Psi of less than full rank, keep of its second derivatives what
        lies in the tangent space of that boundary.
    """

    spec: Specification
    rows: RowCovariance
    structures: tuple[Structure, ...]
    fixed: FixedScale
    taken: Floats
    scale: float
    chunks: tuple[Chunk, ...]
    tangent: bool = False

    @cached_property
    def places(self) -> Places | None:
        """The same by places, of unstructured residuals without random effects."""
        return None if self.structures else places_of(self.rows, self.chunks)

    @cached_property
    def holds_blas(self) -> bool:
        """Whether the core's threads work on matrices, for which those of BLAS would only wait."""
        sizes = [
            batch.rows.shape[1]
            for chunk in self.chunks
            for batch in chunk.batches
            if not batch.in_order
        ]
        return self.places is None and 0 < max(sizes, default=0) <= LARGE_ORDER

    @cached_property
    def n_random(self) -> int:
        return sum(structure.n_parameters for structure in self.structures)

    @cached_property
    def n_parameters(self) -> int:
        return self.n_random + self.rows.n_parameters

    @cached_property
    def units(self) -> Floats:
        """A modest size (k,) of each parameter: that of an effect of columns of size one."""
        out = []
        root = 1.0 if self.spec.weights is None else np.sqrt(self.spec.weights)[:, None]
        for term, structure in zip(self.spec.terms, self.structures, strict=True):
            size = np.sqrt(np.mean((root * term.z) ** 2, axis=0))
            unit = 1.0 / np.where(size > 0, size, 1.0)
            if structure.kind in ("us", "kernel"):
                out.append(unit[lower_entries(term.size)[0]])
                continue
            if structure.kind == "diag":
                out.append(unit)
                continue
            if structure.kind == "rr":
                out.append(unit[lower_entries(term.size, term.rank)[0]])
                continue
            kinds = [p.kind for p in structure.parameters(term.names)]
            usual = float(np.exp(np.mean(np.log(unit))))
            out.append(np.array([usual if kind == "sd" else 1.0 for kind in kinds]))
        W = self.rows.term.W
        spread = np.sqrt(np.mean((W - W.mean(axis=0)) ** 2, axis=0)) if W.shape[1] else np.zeros(0)
        scales = 1.0 / np.where(spread > 0, spread, 1.0)
        rest = np.ones(self.rows.n_parameters - len(scales))
        return np.concatenate([*out, scales, rest])

    def least_pivot(self, theta: Floats) -> float:
        """Least variance of a residual given those before it in its group, relative to its own."""
        own, least = self.split(theta)[1], 1.0
        for chunk in self.chunks:
            for batch in chunk.batches:
                rows = chunk.rows[batch.rows[:1] if batch.shared else batch.rows]
                if batch.in_order:
                    continue
                R = self.rows.at(own, rows, batch.by).value
                try:
                    pivots = np.diagonal(cholesky(R), axis1=1, axis2=2) ** 2
                except np.linalg.LinAlgError:
                    return 0.0
                least = min(least, float((pivots / np.diagonal(R, axis1=1, axis2=2)).min()))
        return least

    def parameter_labels(self) -> list[str]:
        """What the entries of theta are, and sigma after them, in words."""
        out = []
        for term, structure in zip(self.spec.terms, self.structures, strict=True):
            out += [f"({term.label})"] * structure.n_parameters
        assert self.spec.residual is not None
        label = self.spec.residual.label or "the residual standard deviation"
        return [*out, *([label] * self.rows.n_parameters), "the residual standard deviation"]

    def parameter_terms(self) -> list[int | None]:
        """The random term that each of these belongs to."""
        out: list[int | None] = []
        for t, structure in enumerate(self.structures):
            out += [t] * structure.n_parameters
        return [*out, *([None] * (self.rows.n_parameters + 1))]

    def split(self, theta: Floats) -> tuple[list[Floats], Floats]:
        """Parameters of each random term, and those of the residuals."""
        parts, place = [], 0
        for structure in self.structures:
            parts.append(theta[place : place + structure.n_parameters])
            place += structure.n_parameters
        return parts, theta[place:]

    def random(self, theta: Floats, chunk: Chunk, second: bool = True) -> RandomCovariance:
        """Psi of the effects of a cluster of this chunk."""
        parts, _ = self.split(theta)
        pairs = list(zip(self.structures, parts, strict=True))
        psis = [structure.psi(own) for structure, own in pairs]
        slopes = [structure.derivatives(own) for structure, own in pairs]
        found = self._placed(chunk, psis, slopes)
        if not second:
            return found
        place = 0
        for (structure, own), (across, cut) in zip(pairs, self._places(chunk), strict=True):
            twice = structure.second_derivatives(own)
            if self.tangent and structure.kind in ("us", "kernel"):
                twice = _tangent(structure, own, twice)
            for i in range(len(own)):
                for j in range(i, len(own)):
                    if np.any(twice[i, j]):
                        out = np.zeros_like(found.psi)
                        out[cut, cut] = _blocks(across, twice[i, j])
                        found.second[place + i, place + j] = out
            place += len(own)
        return found

    def _places(self, chunk: Chunk) -> list[tuple[Floats, slice]]:
        """Covariance between each term's levels in a cluster, and where their effects stand."""
        out, start = [], 0
        for structure, term, levels in zip(
            self.structures, self.spec.terms, chunk.levels, strict=True
        ):
            width = levels.shape[1]
            across = np.eye(width)
            if term.kernel is not None:
                across = term.kernel[np.ix_(levels[0], levels[0])]
            out.append((across, slice(start, start + width * structure.size)))
            start += width * structure.size
        return out

    def _placed(
        self, chunk: Chunk, psis: Sequence[Floats], slopes: Sequence[Floats]
    ) -> RandomCovariance:
        """Psi of a cluster's effects from that of each term (r, r) and its slopes (f, r, r)."""
        places = self._places(chunk)
        q = places[-1][1].stop if places else 0
        psi, first = np.zeros((q, q)), np.zeros((sum(len(d) for d in slopes), q, q))
        i = 0
        for own, own_slopes, (across, cut) in zip(psis, slopes, places, strict=True):
            psi[cut, cut] = _blocks(across, own)
            for d in own_slopes:
                first[i, cut, cut] = _blocks(across, d)
                i += 1
        return RandomCovariance(psi, first, {})

    def is_inside(self, theta: Floats) -> bool:
        """Whether the covariance matrices of the random effects are positive semidefinite."""
        own = self.split(theta)[1]
        if self.rows.are_outside(own):
            return False
        if self.structures and self.rows.are_past_edges(own):
            return False
        return self.effects_inside(theta)

    def effects_inside(self, theta: Floats) -> bool:
        """Whether those of the random effects are, whatever the residuals' is."""
        for structure, part in zip(self.structures, self.split(theta)[0], strict=True):
            with np.errstate(all="ignore"):
                psi = structure.psi(part)
            if not np.all(np.isfinite(psi)):
                return False
            if structure.kind not in ("us", "diag", "rr", "kernel"):
                sds = [i for i, p in enumerate(structure.parameters()) if p.kind == "sd"]
                if np.any(part[sds] < 0) or np.linalg.eigvalsh(psi)[0] < -1e-10 * np.trace(psi):
                    return False
        return True

    def point(self, theta: Floats, reml: bool, level: int = 1) -> StructuredPoint | None:
        """Evaluate the criterion; None where it is not defined.

        level : int
            0 for the value, 1 with the gradient and average information, 2 with exact second
            derivatives.
        """
        theta = np.asarray(theta, dtype=np.float64)
        if not self.is_inside(theta):
            return None
        held = one_blas_thread() if self.holds_blas else nullcontext()
        try:
            with held, np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return self._point(theta, reml, level)
        except OUT_OF_RANGE:
            return None

    def _point(self, theta: Floats, reml: bool, level: int) -> StructuredPoint | None:
        _, own = self.split(theta)
        held: list[tuple[Chunk, Products, RandomCovariance, Solved]] = []
        at_places = None if self.places is None else self.places.at(own)
        total = None if at_places is None else at_places.sums(level > 0)
        kept = None if level == 0 else Kept(level > 1)
        for chunk in self.chunks if at_places is None else ():
            found = products_of(self.rows, own, chunk, level > 0, kept=kept)
            random = self.random(theta, chunk, level > 0)
            solved = solved_clusters(found, random.psi)
            moved = None
            if level > 1 and self.structures:
                moved = second_products(self.rows, own, chunk, kept)
            if level == 0:
                random = RandomCovariance(random.psi, random.first[:0], {})
            sums = cluster_sums(found, random, solved, moved)
            total = sums if total is None else _added(total, sums)
            held.append((chunk, found, random, solved))
        assert total is not None
        n, p = self.spec.n, self.spec.p
        m = float(n - p if reml else n)
        XX, Xy, yy = total.S[:p, :p], total.S[:p, p], float(total.S[p, p])
        lower = np.linalg.cholesky(XX) if p else np.zeros((0, 0))
        C = np.linalg.inv(XX) if p else XX
        C = (C + C.T) / 2
        beta = C @ Xy
        r2 = yy - float(Xy @ beta)
        if not (r2 > 0 and _has_digits(r2, total.S, beta)):
            return None
        criterion = total.log_determinant + m * (1.0 + np.log(2.0 * np.pi * r2 / m))
        criterion += self._shift(m, reml)
        if reml:
            criterion += 2.0 * float(np.log(np.diag(lower)).sum())
        k = self.n_parameters
        empty = np.zeros(k), np.zeros((k, k))
        if not np.isfinite(criterion):
            return None
        at = StructuredPoint(theta, float(criterion), C, beta, r2, m, total, *empty)
        if level == 0:
            return at
        ratio = m / r2
        scores = at.contracted(total.first)
        gradient = total.traces - ratio * scores
        if reml:
            gradient = gradient - at.projected(total.first)
        g = total.first[:, :p] @ at.b
        if at_places is not None and level > 1:
            second = at_places.contracted(at.b, C)
        else:
            second = self._second(own, at, level > 1, kept)
        inner = second.products
        if at_places is not None:
            inner = at_places.information(at.b)
        elif level == 1:
            inner = sum(
                (average_information(self.rows, own, *one, at.b, kept) for one in held),
                np.zeros((k, k)),
            )
        inner = inner - g @ C @ g.T
        bent = second.bent_traces - ratio * second.bent_products
        if reml:
            bent = bent - second.bent_projected
        hessian = ratio * inner - ratio / r2 * np.outer(scores, scores) + bent
        if level > 1:
            traces = second.traces
            if reml:
                traces = traces - 2.0 * second.projected + _crossed(C @ total.first[:, :p, :p])
            hessian = hessian + ratio * inner - traces
        hessian = (hessian + hessian.T) / 2
        return replace(at, gradient=gradient, hessian=hessian, second=second if level > 1 else None)

    def _second(
        self, own: Floats, at: StructuredPoint, exact: bool, kept: Kept | None
    ) -> Contracted:
        """Second-order sums, contracted; of random effects alone where not `exact`."""
        sums = at.sums.second
        if sums is not None:
            return Contracted(
                at.contracted(sums.products),
                at.projected(sums.products),
                sums.traces,
                at.contracted(sums.bent),
                at.projected(sums.bent),
                sums.bent_traces,
            )
        if not exact:
            return Contracted(*(np.zeros((self.n_parameters,) * 2) for _ in range(6)))
        (chunk,) = self.chunks
        return contracted(self.rows, own, chunk, at.b, at.C, kept)

    def weighted(self, at: StructuredPoint, W: Floats) -> tuple[Floats, Floats]:
        """Sums over pairs i, j of parameters, weighted by W (K, K), at an exact point.

        Returns
        -------
        products, bent : (p, p) float64 arrays
            Of X'V^-1 V_i V^-1 V_j V^-1 X, and of X'V^-1 V_ij V^-1 X.
        """
        p, sums = self.spec.p, at.sums.second
        if sums is not None:
            found = (
                np.einsum("ij,ijab->ab", W, each[:, :, :p, :p])
                for each in (sums.products, sums.bent)
            )
        elif self.places is not None:
            pair = self.places.at(at.theta).weighted(W)
            found = (each[:p, :p] for each in pair)
        else:
            (chunk,) = self.chunks
            pair = weighted(self.rows, self.split(at.theta)[1], chunk, W)
            found = (each[:p, :p] for each in pair)
        products, bent = found
        return products, bent

    def along(
        self, psis: Sequence[Floats], own: Floats, reml: bool, held: HeldCombination | None = None
    ) -> Along | None:
        """Evaluate at covariance matrices (r, r) of the random terms; None where not defined.

        held : HeldCombination or None
            Of the fixed effects; of the likelihood alone.
        """
        if not np.all(np.isfinite(own)) or self.rows.are_outside(own):
            return None
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return self._along(psis, own, reml, held)
        except OUT_OF_RANGE:
            return None

    def _along(
        self, psis: Sequence[Floats], own: Floats, reml: bool, held: HeldCombination | None
    ) -> Along | None:
        slopes = [_symmetric_units(len(psi)) for psi in psis]
        total = None if self.places is None else self.places.at(own).sums()
        for chunk in self.chunks if self.places is None else ():
            found = products_of(self.rows, own, chunk)
            random = self._placed(chunk, psis, slopes)
            sums = cluster_sums(found, random, solved_clusters(found, random.psi), None)
            total = sums if total is None else _added(total, sums)
        assert total is not None
        p = self.spec.p
        XX, Xy = total.S[:p, :p], total.S[:p, p]
        C = np.linalg.inv(XX)
        beta = C @ Xy
        r2, slope = float(total.S[p, p] - Xy @ beta), 0.0
        if not _has_digits(r2, total.S, beta):
            return None
        if held is not None:
            pull = C @ held.a
            spread, gap = float(held.a @ pull), float(held.value - held.a @ beta)
            beta = beta + pull * (gap / spread)
            r2, slope = r2 + gap**2 / spread, 2.0 * gap / spread
        m = float(self.spec.n - p if reml else self.spec.n)
        log_determinant = total.log_determinant + self._shift(m, reml)
        traces = total.traces
        if reml:
            log_determinant += 2.0 * float(np.log(np.diag(np.linalg.cholesky(XX))).sum())
            traces = traces - np.einsum("ab,kba->k", C, total.first[:, :p, :p])
        if not (r2 > 0 and np.isfinite(log_determinant)):
            return None
        b = np.append(-beta, 1.0)
        scores = (total.first @ b) @ b
        return Along(log_determinant, r2, m, slope, traces, scores)

    def mean_traces(self, theta: Floats, weights: Floats, epsilon: float) -> Floats:
        """tr(P V_k) (k,) with V + epsilon sum_ij w_ij V_ij in the place of V; P is that of REML.

        weights : (K, K) array
        """
        _, own = self.split(theta)
        f, p = self.n_random, self.spec.p
        bend = epsilon * weights[f:, f:]
        total: Sums | None = None
        for chunk in self.chunks:
            found = products_of(self.rows, own, chunk, True, bend)
            random = self.random(theta, chunk)
            psi = random.psi
            for (i, j), bent in random.second.items():
                psi = psi + epsilon * (2.0 - (i == j)) * weights[i, j] * bent
            random = replace(random, psi=psi)
            sums = cluster_sums(found, random, solved_clusters(found, random.psi), None)
            total = sums if total is None else _added(total, sums)
        assert total is not None
        C = np.linalg.inv(total.S[:p, :p])
        return np.asarray(total.traces - np.einsum("ab,kba->k", C, total.first[:, :p, :p]))

    def is_bent(self, theta: Floats) -> bool:
        """Whether V has a second derivative that is not zero."""
        own = self.split(theta)[1]
        for chunk in self.chunks:
            if self.random(theta, chunk).second:
                return True
            for batch in chunk.batches:
                if self.rows.at(own, chunk.rows[batch.rows[:1]], batch.by, True).second:
                    return True
        return False

    def _shift(self, m: float, reml: bool) -> float:
        """What the scales of y and X and the weights add to the criterion."""
        shift = 2.0 * m * float(np.log(self.scale))
        if self.spec.weights is not None:
            shift -= float(np.log(self.spec.weights).sum())
        return shift - 2.0 * self.fixed.log_determinant if reml else shift

    def coefficients(self, at: StructuredPoint) -> Floats:
        """Fixed effects on the user's scale."""
        return np.asarray(self.fixed.transform @ (self.taken + self.scale * at.beta))

    def covariance(self, at: StructuredPoint) -> Floats:
        """C = (X'H^-1X)^-1 on the user's scale of X."""
        return np.asarray(self.fixed.transform @ at.C @ self.fixed.transform.T)


def _blocks(across: Floats, own: Floats) -> Floats:
    """The Kronecker product, of one level without its cost."""
    return np.asarray(own * across[0, 0] if across.size == 1 else np.kron(across, own))


def _crossed(CF: Floats) -> Floats:
    """tr(C F_i C F_j), (k, k), of C F (k, p, p)."""
    flat = CF.reshape(len(CF), -1)
    return np.asarray(flat @ np.swapaxes(CF, 1, 2).reshape(len(CF), -1).T)


def _symmetric_units(size: int) -> Floats:
    """Directions (r (r + 1) / 2, r, r) of the entries of a symmetric matrix."""
    rows, columns = lower_entries(size)
    out = np.zeros((len(rows), size, size))
    k = np.arange(len(rows))
    out[k, rows, columns] = out[k, columns, rows] = 1.0
    return out


def _tangent(structure: Structure, theta: Floats, second: Floats) -> Floats:
    """Second derivatives of Psi in the span of the first, where it has less than full rank."""
    if np.all(theta[np.cumsum([0, *range(structure.size, 1, -1)])] != 0):
        return second
    k, r = len(theta), structure.size
    first = structure.derivatives(theta).reshape(k, r * r).T
    basis, sizes, _ = np.linalg.svd(first, full_matrices=False)
    basis = basis[:, sizes > 1e-10 * sizes.max(initial=1e-300)]
    flat = second.reshape(k * k, r * r).T
    return np.asarray((basis @ (basis.T @ flat)).T.reshape(second.shape))


def _has_digits(r2: float, S: Floats, beta: Floats) -> bool:
    """Whether r2 = y'Wy - y'WX beta is what its quadratic form says.

    Next to a singular covariance its terms may be 1e15 times as large as their difference, which
    is rounding alone; a search would take that for likelihood.
    """
    b = np.append(-beta, 1.0)
    return abs(float(b @ S @ b) - r2) < DIGITS * r2


def _added(a: Sums, b: Sums) -> Sums:
    second = None
    if a.second is not None and b.second is not None:
        second = SecondSums(
            a.second.products + b.second.products,
            a.second.traces + b.second.traces,
            a.second.bent + b.second.bent,
            a.second.bent_traces + b.second.bent_traces,
        )
    return Sums(
        a.log_determinant + b.log_determinant,
        a.S + b.S,
        a.first + b.first,
        a.traces + b.traces,
        second,
    )


_problems: WeakKeyDictionary[Specification, StructuredProblem] = WeakKeyDictionary()


def structured_problem(
    spec: Specification, y: Floats | None = None, threads: int | None = None
) -> StructuredProblem:
    """Cut a specification with a residual structure into chunks; made once each.

    Parameters
    ----------
    y : (n,) array, optional
        Another response; not kept.
    threads : int, optional
        As many as the cores, unless it was made for another number before.
    """
    if y is None and spec in _problems:
        found = _problems[spec]
        if threads is not None and any(chunk.threads != threads for chunk in found.chunks):
            chunks = tuple(replace(chunk, threads=threads) for chunk in found.chunks)
            found = _problems[spec] = replace(found, chunks=chunks)
        return found
    assert spec.residual is not None
    rows = row_covariance(spec.residual)
    kinds = [part.kind for part in spec.residual.parts]
    if spec.terms and kinds and all(kind in CAN_BE_SINGULAR for kind in kinds):
        rows = replace(rows, least_pivot=LEAST_BESIDE_EFFECTS, least_variance=LEAST_BESIDE_OTHERS)
    structures = tuple(structure_of(term) for term in spec.terms)
    root = None if spec.weights is None else np.sqrt(spec.weights)
    given = spec.y if y is None else y
    response = given - (0.0 if spec.offset is None else spec.offset)
    fixed = scale_fixed(spec.X)
    X = fixed.X * fixed.scale
    if root is not None:
        X, response = X * root[:, None], response * root
    taken = np.asarray(np.linalg.lstsq(X, response, rcond=None)[0], dtype=np.float64)
    rest = response - X @ taken
    scale = float(np.sqrt(np.mean(rest**2)))
    if not scale > NO_VARIATION * float(np.sqrt(np.mean(response**2))):
        raise ModelError(
            f"the fixed effects reproduce the response {spec.response} exactly: nothing varies "
            "that a model of its covariance could explain"
        )
    count = sum(structure.n_parameters for structure in structures) + rows.n_parameters
    used = available_cores() if threads is None else threads
    chunks = tuple(
        replace(chunk, threads=used) for chunk in chunks_of(spec, rows, X, rest / scale, count)
    )
    made = StructuredProblem(spec, rows, structures, fixed, taken, scale, chunks)
    if y is None:
        _problems[spec] = made
    return made
