"""Covariance parameters as they are reported, and as the core knows them.

theta is what a user reads, phi what the search moves, Psi what both stand for, on the user's
scale and on that of the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ranef import _core, covariance
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError
from ranef.solve.layout import Block, Grouped, Layout
from ranef.solve.optimum import Face

__all__ = [
    "Parametrisation",
    "Term",
    "at_an_end",
    "effect_unit",
    "factor_entries",
    "factor_of",
    "joined",
    "kernel_unit",
    "many_parameters",
    "terms_of",
]

Floats = NDArray[np.float64]
CANCELLED, ROUNDING = 1e-12, 1e-14
"""Least eigenvalue of effects' correlations at which a change of basis may cancel what it says,
and at which it is nothing but rounding."""
T = TypeVar("T", bound=np.generic)


def joined(parts: Iterable[Floats]) -> Floats:
    """Put what is said of each term end to end; there may be no term."""
    return np.concatenate([np.empty(0), *parts])


def effect_unit(weights: Floats | None) -> float:
    """The unit of effects in which weighted rows look as if of weight one: a power of two.

    Rows count as sqrt(weight) times their values, and the core wants columns of size one.

    Examples
    --------
    >>> effect_unit(np.array([1.1, 0.8])), effect_unit(np.array([1e12, 2e12]))
    (1.0, 9.5367431640625e-07)
    """
    if weights is None or not len(weights):
        return 1.0
    return float(2.0 ** -np.round(np.mean(np.log2(weights)) / 2))


@dataclass(frozen=True, eq=False)
class Term:
    """Where a random term lives in the core.

    Attributes
    ----------
    term : RandomTerm
    block : int
        Its block.
    first : int
        Its first column within the block.
    offset : int
        Its first parameter in phi.
    structure : covariance.Structure
    basis : (r, r) float64 array
        b_user = basis b_core.
    """

    term: RandomTerm
    block: int
    first: int
    offset: int
    structure: covariance.Structure
    basis: Floats

    @cached_property
    def size(self) -> int:
        return self.term.size

    @cached_property
    def count(self) -> int:
        return self.structure.n_parameters

    @cached_property
    def columns(self) -> slice:
        """Its columns within the block."""
        return slice(self.first, self.first + self.size)

    @cached_property
    def inverse_basis(self) -> Floats:
        return np.asarray(np.linalg.inv(self.basis), dtype=np.float64)

    @cached_property
    def units(self) -> Floats:
        """Scale (k,) of each reported parameter: one over its column's size, or a distance."""
        powers = {"range": 1.0, "rate": -1.0}
        kinds = [p.kind for p in self.structure.parameters(self.term.names)]
        distance = np.array([self._distance ** powers.get(kind, 0.0) for kind in kinds])
        return np.asarray(self.sizes * distance)

    @property
    def _distance(self) -> float:
        """A middling distance between the columns."""
        place = self.term.positions
        if place is None or len(place) < 2:
            return 1.0
        rows, columns = np.triu_indices(len(place), 1)
        return float(np.median(np.linalg.norm(place[rows] - place[columns], axis=1)))

    @cached_property
    def sizes(self) -> Floats:
        """Scale (k,) of each reported parameter that has the unit of an effect; 1 of others."""
        scale = np.abs(np.diag(self.basis))
        if self.term.structure == "us":
            return scale[covariance.lower_entries(self.size)[0]]
        if self.term.structure == "diag":
            return scale
        kinds = [p.kind for p in self.structure.parameters(self.term.names)]
        return np.array([scale[0] if kind in ("sd", "loading") else 1.0 for kind in kinds])

    def relative(self, theta: Floats) -> Floats:
        """Reported parameters of columns of unit size: what zero means is judged on these."""
        return np.asarray(theta / self.sizes)

    def psi_user(self, psi: Floats) -> Floats:
        """Relative covariance matrix of the user's effects, from a block's (r, r) matrix."""
        own = psi[self.columns, self.columns]
        out: Floats = self.basis @ own @ self.basis.T
        if self.size == 1 or self.term.structure != "us":
            return out
        sd = np.sqrt(np.maximum(own.diagonal(), 0.0))
        sd[sd == 0] = 1.0
        values, vectors = np.linalg.eigh(own / sd[:, None] / sd)
        if values[0] > CANCELLED * values[-1] and np.linalg.eigvalsh(out)[0] >= 0:
            return out
        kept = values > ROUNDING * values[-1]  # of less than full rank, zeros must stay zero
        root = self.basis @ (sd[:, None] * vectors[:, kept] * np.sqrt(values[kept]))
        return np.asarray(root @ root.T)

    def gradient_user(self, G: Floats) -> Floats:
        """Turn d criterion / d Psi (..., r, r) of the core into that of the user's Psi."""
        G = G[..., self.columns, self.columns]
        out: Floats = self.inverse_basis.T @ G @ self.inverse_basis
        return out

    def theta(self, phi: Floats, psi: Floats, rank: int | None) -> Floats:
        """Reported parameters: of phi, or for `us` of Psi with its rank."""
        part = phi[self.offset : self.offset + self.count]
        kind = self.term.structure
        if kind == "us":
            known = self.size if rank is None else rank
            return factor_entries(self.psi_user(psi), known)
        if kind == "diag":
            return np.abs(part * np.diag(self.basis))
        return self.structure.from_phi(self._rescaled(self.basis[0, 0], part))

    def phi(self, theta: Floats, rank: int | None = None) -> Floats:
        """Parameters of the core for reported ones."""
        kind = self.term.structure
        if kind == "us":
            inner = self.inverse_basis @ self.structure.psi(theta) @ self.inverse_basis.T
            known = self.size if rank is None else rank
            return factor_entries(inner, known)
        if kind == "diag":
            return np.asarray(theta / np.diag(self.basis))
        return self._rescaled(1 / self.basis[0, 0], self.structure.to_phi(theta))

    def core_phi(self, phi: Floats) -> Floats:
        """Parameters of the core for the structure's own unbounded ones (not of `us`, `diag`)."""
        return self._rescaled(1 / self.basis[0, 0], phi)

    def core_start(self, size: float) -> Floats:
        """Parameters of the core where its structure starts, times a size."""
        return self._core.rescale(float(size), self._core.start())

    def _rescaled(self, scale: float, phi: Floats) -> Floats:
        return self._core.rescale(float(scale), np.ascontiguousarray(phi))

    @property
    def _core(self) -> _core.Structure:
        term = self.term
        return _core.Structure(term.structure, self.size, term.rank or 0, _positions(term))


def factor_entries(psi: Floats, rank: int) -> Floats:
    """Entries of the factor of Psi (r, r) of a rank, whatever the sizes of its columns."""
    sd = np.sqrt(np.maximum(psi.diagonal(), 0.0))
    sd[sd == 0] = 1.0
    size = 2.0 ** np.rint(np.log2(sd))
    entries = _core.trapezoid(np.ascontiguousarray(psi / size[:, None] / size), rank)
    return np.asarray(entries * size[covariance.lower_entries(len(psi))[0]])


def kernel_unit(term: RandomTerm) -> float:
    """One over the size of a term's kernel, to a power of two."""
    if term.kernel is None:
        return 1.0
    return effect_unit(np.diag(term.kernel)[np.diag(term.kernel) > 0])


def _positions(term: RandomTerm) -> Floats:
    """Coordinates of a term's columns, (r, 0) where it has none."""
    if term.positions is None:
        return np.empty((term.size, 0))
    return np.ascontiguousarray(term.positions, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """Reported covariance parameters and those of the core.

    Attributes
    ----------
    blocks : tuple of Block
    layout : Layout
    terms : tuple of Term
        In formula order.
    """

    blocks: tuple[Block, ...]
    layout: Layout
    terms: tuple[Term, ...]

    def theta(self, phi: Floats, psi: list[Floats], ranks: dict[int, int]) -> Floats:
        """Reported parameters in formula order."""
        return joined(t.theta(phi, psi[t.block], ranks.get(i)) for i, t in enumerate(self.terms))

    def phi(self, theta: Floats, ranks: dict[int, int]) -> Floats:
        """Parameters of the core for reported ones."""
        out = np.empty(sum(t.count for t in self.terms))
        for (i, t), part in zip(enumerate(self.terms), self.split(theta), strict=True):
            out[t.offset : t.offset + t.count] = t.phi(part, ranks.get(i))
        return out

    def psis(self, theta: Floats) -> list[Floats]:
        """Relative covariance matrix of each term's effects."""
        return [t.structure.psi(p) for t, p in zip(self.terms, self.split(theta), strict=True)]

    def covariances(self, psi: Sequence[Floats], sigma2: float = 1.0) -> tuple[Floats, ...]:
        """Covariance matrix of each term's effects, of Psi of each block."""
        return tuple(sigma2 * term.psi_user(psi[term.block]) for term in self.terms)

    def modes(self, by_block: Sequence[Floats], scale: float = 1.0) -> tuple[Floats, ...]:
        """Effects (q, r) of each term, of those of each block."""
        return tuple(scale * by_block[term.block][:, term.columns] for term in self.terms)

    def split(self, theta: NDArray[T]) -> list[NDArray[T]]:
        """Cut reported parameters (or what is said of each) by term."""
        parts, first = [], 0
        for term in self.terms:
            parts.append(theta[first : first + term.count])
            first += term.count
        return parts

    def checked(self, start: Floats) -> Floats:
        """Return a user's theta to start from."""
        theta = np.asarray(start, dtype=np.float64)
        count = sum(term.count for term in self.terms)
        if theta.shape != (count,) or not np.all(np.isfinite(theta)):
            raise ModelError(f"start must hold {count} finite numbers, one for each entry of theta")
        return theta

    @property
    def order(self) -> list[int]:
        """Index of the random term for each term of the core, in the core's order."""
        return [i for block in self.blocks for i in block.terms]

    def slopes(self, theta: Floats) -> list[Floats]:
        """Derivatives (k, r, r) of each term's Psi with respect to its own theta."""
        pairs = zip(self.terms, self.split(theta), strict=True)
        return [term.structure.derivatives(part) for term, part in pairs]

    def chain_rule(self, slopes: list[Floats], psi_gradient: list[Floats]) -> Floats:
        """Turn d criterion / d Psi into the gradient in the reported parameters."""
        return joined(
            np.einsum("kij,ij->k", slope, term.gradient_user(psi_gradient[term.block]))
            for term, slope in zip(self.terms, slopes, strict=True)
        )

    def free_entries(self, theta: Floats, ranks: dict[int, int]) -> NDArray[np.bool_]:
        """Which entries of theta are free where some terms have less than full rank, (k,)."""
        parts = []
        for i, (term, part) in enumerate(zip(self.terms, self.split(theta), strict=True)):
            kept = np.ones(len(part), dtype=np.bool_)
            if i in ranks and term.term.structure == "us":
                columns = np.repeat(np.arange(term.size), np.arange(term.size, 0, -1))
                kept = columns < ranks[i]
            elif term.term.structure != "us":
                kept = term.structure.free(term.relative(part))
            parts.append(kept)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty(0, dtype=np.bool_), *parts])

    def room(self, theta: Floats) -> Floats:
        """Distance (k,) of each entry of theta to where its range ends, inf where it does not."""
        parts = []
        for term, part in zip(self.terms, self.split(theta), strict=True):
            ends = np.full(len(part), np.inf)
            parts.append(ends)
            if term.term.structure in ("us", "diag"):
                continue
            for j, parameter in enumerate(term.structure.parameters(term.term.names)):
                if parameter.kind == "corr":
                    ends[j] = 1 - abs(part[j])
                    if term.term.structure in ("cs", "homcs") and part[j] < 0:
                        ends[j] = part[j] + 1 / (term.size - 1)
        return joined(parts)

    def end(self, search: dict[str, Any]) -> tuple[Floats, tuple[Face, ...]]:
        """Return theta at the end of a search, and the boundaries it lies on."""
        order = self.order
        ranks = {order[number]: int(rank) for number, rank, _ in search["faces"]}
        theta = self.theta(search["phi"], search["psi"], ranks)
        parts = self.split(theta)
        faces = [
            _face(self.terms[i], i, parts[i], int(rank), float(curvature))
            for i, (_, rank, curvature) in zip(ranks, search["faces"], strict=True)
        ]
        for i, (term, part) in enumerate(zip(self.terms, parts, strict=True)):
            if i not in ranks and term.term.structure not in ("us", "diag"):
                faces += _edge(term, i, part, search["hessian"])
        return theta, tuple(faces)


def many_parameters(terms: Sequence[RandomTerm]) -> bool:
    """Whether the search has a Hessian that LAPACK should take apart."""
    return sum(covariance.structure_of(term).n_parameters for term in terms) > _core.most_jacobi


def factor_of(spec: Grouped, block: Block, units: Sequence[Sequence[float]]) -> dict[str, Any]:
    """One block as the core takes it, the effects of each column as multiples of its unit.

    A kernel has a size of its own, which the unit of its effects takes up.
    """
    terms = [spec.terms[i] for i in block.terms]
    z = terms[0].z if len(terms) == 1 else np.hstack([t.z for t in terms])
    out: dict[str, Any] = {
        "codes": np.ascontiguousarray(block.factor.codes, dtype=np.int32),
        "z": np.ascontiguousarray(z, dtype=np.float64),
        "levels": block.factor.n_levels,
        "terms": [
            {
                "structure": t.structure,
                "size": t.size,
                "rank": t.rank or 0,
                "positions": _positions(t),
                **_units([unit * kernel_unit(t) for unit in own]),
            }
            for t, own in zip(terms, units, strict=True)
        ],
    }
    if block.kernel:
        kernel = terms[0].kernel
        assert kernel is not None
        out["kernel"] = np.ascontiguousarray(covariance.lower_factor(kernel))
    return out


def _units(values: list[float]) -> dict[str, float | list[float]]:
    """The unit of all columns of a term, or that of each."""
    return {"unit": values[0]} if len(set(values)) == 1 else {"units": values}


def terms_of(
    spec: Grouped, blocks: tuple[Block, ...], core: _core.Problem | _core.GeneralisedProblem
) -> tuple[Term, ...]:
    """Where each random term lives in the core."""
    placed: dict[int, Term] = {}
    offset = 0
    for b, block in enumerate(blocks):
        first = 0
        for position, i in enumerate(block.terms):
            term = spec.terms[i]
            structure = covariance.structure(
                term.structure, term.size, rank=term.rank, positions=term.positions
            )
            placed[i] = Term(term, b, first, offset, structure, core.basis(b, position))
            first += term.size
            offset += structure.n_parameters
    return tuple(placed[i] for i in range(len(spec.terms)))


def _face(term: Term, index: int, theta: Floats, rank: int, curvature: float) -> Face:
    words = term.structure.boundary(term.relative(theta), term.term.names)
    text = "; ".join(words) if words else f"rank {rank} of {term.size}"
    return Face(index, rank, term.size, text, curvature)


def at_an_end(term: Term, theta: Floats) -> NDArray[np.intp]:
    """Parameters of the core that stand where their range ends, at a structure's relative theta."""
    return term.offset + np.flatnonzero(~term.structure.free(theta))


def _edge(term: Term, index: int, theta: Floats, hessian: Floats) -> list[Face]:
    """Find a structured term at the end of a parameter's range (a correlation of one, say).

    Such an end is an ordinary stationary point of phi: what proves it is the
    curvature there.
    """
    theta = term.relative(theta)
    words = term.structure.boundary(theta, term.term.names)
    if not words:
        return []
    rank = int(np.linalg.matrix_rank(term.structure.psi(theta), hermitian=True))
    stuck = at_an_end(term, theta)
    curvature = min((float(hessian[j, j]) for j in stuck), default=0.0)
    return [Face(index, rank, term.size, "; ".join(words), curvature)]
