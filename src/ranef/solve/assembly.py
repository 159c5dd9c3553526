"""A specification on the scale that the core works on, and the way back.

Columns of X are scaled to unit mean square (orthogonalised where they are nearly
dependent), the response is freed of its least-squares fit and scaled; the core
itself standardises the columns of Z. None of this shows outside.

May import `_core`, `covariance`, `design.specification`, `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ranef import _core, covariance
from ranef.design.specification import Specification
from ranef.design.terms import RandomTerm
from ranef.errors import ModelError
from ranef.solve.layout import Block, Grouped, Layout, choose_layout
from ranef.solve.resources import available_cores, available_memory, hold_blas, use_lapack

__all__ = [
    "Assembly",
    "Parametrisation",
    "Term",
    "assemble",
    "check_memory",
    "factor_of",
    "scale_fixed",
    "terms_of",
]

Floats = NDArray[np.float64]

NEARLY_DEPENDENT = 1e-5
NO_VARIATION = 1e-10
ALWAYS_THERE = 50_000_000


@dataclass(frozen=True, eq=False)
class FixedScale:
    """X_core = X diag(scale), which spans the user's columns, and what it does to the criterion.

    Attributes
    ----------
    X : (n, p) float64 array
        The user's columns, or orthogonal ones where those are nearly dependent.
    scale : (p,) float64 array
        Factors that bring the columns of `X` to unit mean square.
    gram : (p, p) float64 array
        Cross-products of the scaled columns.
    transform : (p, p) float64 array
        X_core = X_user transform.
    log_determinant : float
        log |det transform|.
    """

    X: Floats
    scale: Floats
    gram: Floats
    transform: Floats
    log_determinant: float


def scale_fixed(X: Floats) -> FixedScale:
    """Scale the columns of X, or make them orthogonal where that is not enough."""
    n, p = X.shape
    if p == 0:
        return FixedScale(
            np.ascontiguousarray(X), np.empty(0), np.empty((0, 0)), np.empty((0, 0)), 0.0
        )
    gram = X.T @ X
    scale = np.sqrt(n / np.diag(gram))
    gram = gram * scale[:, None] * scale
    if np.linalg.eigvalsh(gram)[0] > NEARLY_DEPENDENT * n:
        log_det = float(np.log(scale).sum())
        return FixedScale(np.ascontiguousarray(X), scale, gram, np.diag(scale), log_det)
    q, r = np.linalg.qr(X * scale)
    transform = np.linalg.solve(r, np.eye(p)) * np.sqrt(n) * scale[:, None]
    log_det = p * float(np.log(n)) / 2 - float(np.log(np.abs(np.diag(r)) / scale).sum())
    X = np.ascontiguousarray(q * np.sqrt(n))
    return FixedScale(X, np.ones(p), X.T @ X, transform, log_det)


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

    @property
    def size(self) -> int:
        return self.term.size

    @cached_property
    def count(self) -> int:
        return self.structure.n_parameters

    @cached_property
    def inverse_basis(self) -> Floats:
        return np.asarray(np.linalg.inv(self.basis), dtype=np.float64)

    @cached_property
    def units(self) -> Floats:
        """Scale (k,) of each reported parameter: one over its column's size."""
        scale = np.abs(np.diag(self.basis))
        if self.term.structure == "us":
            return scale[np.triu_indices(self.size)[1]]
        if self.term.structure == "diag":
            return scale
        kinds = [p.kind for p in self.structure.parameters(self.term.names)]
        return np.array([scale[0] if kind in ("sd", "loading") else 1.0 for kind in kinds])

    def of(self, matrix: Floats) -> Floats:
        """Cut this term's part out of a block's (r, r) matrix."""
        part = slice(self.first, self.first + self.size)
        return matrix[part, part]

    def psi_user(self, psi: Floats) -> Floats:
        """Relative covariance matrix of the user's effects."""
        out: Floats = self.basis @ self.of(psi) @ self.basis.T
        return out

    def gradient_user(self, G: Floats) -> Floats:
        """Turn d criterion / d Psi of the core into that of the user's Psi."""
        out: Floats = self.inverse_basis.T @ self.of(G) @ self.inverse_basis
        return out

    def theta(self, phi: Floats, psi: Floats, rank: int | None) -> Floats:
        """Reported parameters: of phi, or for `us` of Psi with its rank."""
        part = phi[self.offset : self.offset + self.count]
        kind = self.term.structure
        if kind == "us":
            known = self.size if rank is None else rank
            matrix = np.ascontiguousarray(self.psi_user(psi))
            return _core.trapezoid(matrix, known)
        if kind == "diag":
            return np.abs(part * np.diag(self.basis))
        return self.structure.from_phi(self._rescaled(self.basis[0, 0], part))

    def phi(self, theta: Floats, rank: int | None = None) -> Floats:
        """Parameters of the core for reported ones."""
        kind = self.term.structure
        if kind == "us":
            inner = self.inverse_basis @ self.structure.psi(theta) @ self.inverse_basis.T
            known = self.size if rank is None else rank
            return _core.trapezoid(np.ascontiguousarray(inner), known)
        if kind == "diag":
            return np.asarray(theta / np.diag(self.basis))
        return self._rescaled(1 / self.basis[0, 0], self.structure.to_phi(theta))

    def core_phi(self, phi: Floats) -> Floats:
        """Parameters of the core for the structure's own unbounded ones (not of `us`, `diag`)."""
        return self._rescaled(1 / self.basis[0, 0], phi)

    def _rescaled(self, scale: float, phi: Floats) -> Floats:
        core = _core.Structure(
            self.term.structure, self.size, self.term.rank or 0, positions_of(self.term)
        )
        return core.rescale(float(scale), np.ascontiguousarray(phi))


def positions_of(term: RandomTerm) -> Floats:
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
        parts = [t.theta(phi, psi[t.block], ranks.get(i)) for i, t in enumerate(self.terms)]
        return np.concatenate(parts)

    def phi(self, theta: Floats, ranks: dict[int, int]) -> Floats:
        """Parameters of the core for reported ones."""
        out = np.empty(sum(t.count for t in self.terms))
        for (i, t), part in zip(enumerate(self.terms), self.split(theta), strict=True):
            out[t.offset : t.offset + t.count] = t.phi(part, ranks.get(i))
        return out

    def psis(self, theta: Floats) -> list[Floats]:
        """Relative covariance matrix of each term's effects."""
        return [t.structure.psi(p) for t, p in zip(self.terms, self.split(theta), strict=True)]

    def split(self, theta: Floats) -> list[Floats]:
        """Cut reported parameters by term."""
        parts, first = [], 0
        for term in self.terms:
            parts.append(theta[first : first + term.count])
            first += term.count
        return parts


@dataclass(frozen=True, eq=False)
class TakenOut:
    """A response as the core takes it: less its least-squares fit, and scaled.

    Attributes
    ----------
    rest : (n,) float64 array
    beta : (p,) float64 array
        Coefficients taken out, on the core's scale of X.
    scale : float
    """

    rest: Floats
    beta: Floats
    scale: float


@dataclass(frozen=True, eq=False)
class Assembly(Parametrisation):
    """The core's problem with the scales that lead to and from it.

    Attributes
    ----------
    known_by : weak reference to the Specification
        Weak, since the assembly lives as long as its specification.
    core : _core.Problem
    fixed : FixedScale
    """

    known_by: ReferenceType[Specification]
    core: _core.Problem
    fixed: FixedScale

    @property
    def spec(self) -> Specification:
        """The specification; whoever asks holds it."""
        spec = self.known_by()
        assert spec is not None
        return spec

    def respond(self, y: Floats) -> tuple[Floats, Floats, Floats]:
        """Free responses of their least-squares fit and scale them.

        Parameters
        ----------
        y : (k, n) float64 array
            Responses, row by row.

        Returns
        -------
        response : (k, n) float64 array
        beta : (k, p) float64 array
            Coefficients taken out, on the core's scale of X.
        scale : (k,) float64 array

        Raises
        ------
        ModelError
            When the fixed effects reproduce a response.
        """
        rest, beta, scale, size = self.core.respond(np.ascontiguousarray(y), self.spec.offset)
        if np.any(scale <= NO_VARIATION * size):
            raise ModelError(
                f"the fixed effects reproduce the response {self.spec.response} exactly: nothing "
                "varies that a mixed model could explain (is the response constant, or a "
                "combination of the predictors?)"
            )
        return rest, beta, scale

    def taken(self, y: Floats) -> TakenOut:
        """Free one response (n,) of its least-squares fit."""
        rest, beta, scale = self.respond(np.asarray(y, dtype=np.float64)[None])
        return TakenOut(rest[0], beta[0], float(scale[0]))

    @cached_property
    def own(self) -> TakenOut:
        """The model's own response, free of its least-squares fit."""
        return self.taken(self.spec.y)

    def response(self) -> Floats:
        """Return the model's own response as the core takes it, (n,)."""
        return self.own.rest

    def criterion_shift(self, reml: bool, scale: Any) -> Any:
        """Return what to add to the core's criterion for the user's."""
        m = self.spec.n - (self.spec.p if reml else 0)
        shift = 2 * m * np.log(scale)
        return shift - 2 * self.fixed.log_determinant if reml else shift


_assembled: WeakKeyDictionary[Specification, dict[str | None, Assembly]] = WeakKeyDictionary()


def assemble(spec: Specification, path: str | None = None, n_jobs: int | None = None) -> Assembly:
    """Cross-products of a specification; made once for each path.

    Raises
    ------
    ModelError
        When the design does not fit the path, or memory does not suffice.
    """
    known = _assembled.setdefault(spec, {})
    if path in known:
        return known[path]
    blocks, layout = choose_layout(spec, path)
    check_memory(layout)
    if layout.order > _core.small_order:
        use_lapack()
    fixed = scale_fixed(spec.X)
    problem = _core.Problem(
        [factor_of(spec, block) for block in blocks],
        fixed.X,
        fixed.scale,
        np.ascontiguousarray(fixed.gram),
        None if spec.weights is None else np.ascontiguousarray(spec.weights),
        list(layout.chain),
        available_cores(n_jobs),
    )
    core = hold_blas(problem, layout.order)
    terms = terms_of(spec, blocks, core)
    assembly = Assembly(blocks, layout, terms, ref(spec), core, fixed)
    known[path] = known[layout.path] = assembly
    return assembly


def check_memory(layout: Layout) -> None:
    """Refuse what does not fit, before anything is allocated."""
    if layout.bytes < ALWAYS_THERE:
        return
    free = available_memory()
    if free is not None and layout.bytes > free:
        raise ModelError(
            f"this model needs about {layout.bytes / 1e9:.1f} GB (a dense matrix of order "
            f"{layout.order:,} among other things), and {free / 1e9:.1f} GB are free; "
            "ranef.plan() shows where it goes"
        )


def factor_of(spec: Grouped, block: Block) -> dict[str, Any]:
    """One block as the core takes it."""
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
                "positions": positions_of(t),
            }
            for t in terms
        ],
    }
    if block.kernel:
        kernel = terms[0].kernel
        assert kernel is not None
        out["kernel"] = np.ascontiguousarray(covariance.lower_factor(kernel))
    return out


def terms_of(
    spec: Grouped, blocks: tuple[Block, ...], core: _core.Problem | _core.GeneralisedProblem
) -> tuple[Term, ...]:
    """Where each random term lives in the core."""
    found: dict[int, Term] = {}
    offset = 0
    for b, block in enumerate(blocks):
        first = 0
        for position, i in enumerate(block.terms):
            term = spec.terms[i]
            structure = covariance.structure(
                term.structure, term.size, rank=term.rank, positions=term.positions
            )
            found[i] = Term(term, b, first, offset, structure, core.basis(b, position))
            first += term.size
            offset += structure.n_parameters
    return tuple(found[i] for i in range(len(spec.terms)))
