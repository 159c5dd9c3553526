"""Exact second derivatives of a linear model's criterion at its optimum.

The core returns traces tr(M V_i M V_j) and products w_i'P w_j along symmetric
matrices D_i in the place of Psi, V_i = Z D_i Z'; everything asked of them is linear in
the D_i. Here the D_i are the derivatives of Psi with respect to the entries of theta
that are free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import structured
from ranef.derivatives.linear import at_end, solved
from ranef.errors import ModelError
from ranef.solve.assembly import ALWAYS_THERE
from ranef.solve.parametrisation import Term
from ranef.solve.resources import available_memory
from ranef.solve.structured.kept import solved_rows

if TYPE_CHECKING:
    from ranef.models.records import LinearEstimate

__all__ = ["Curvature", "Information", "curvature", "information"]

Floats = NDArray[np.float64]

SPANNED = 1e-9
"""A part of a matrix below this, relative to it, is rounding."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """Derivatives with respect to the f entries of theta that are free.

    Attributes
    ----------
    free : (k,) bool array
        Which these are.
    hessian : (f, f) float64 array
        Second derivatives of minus twice the profiled (restricted) log-likelihood.
    log_r2 : (f,) float64 array
        First derivatives of log r2, r2 = y'Py.
    fixed : (f, p, p) float64 array
        First derivatives of C = (X'H^-1X)^-1; vcov = sigma^2 C.
    gradient : tuple of (r, r) float64 arrays
        Of the criterion in Psi of each term; none of residuals with a structure.
    ratio : float
        m / r2 of the response as the core has it.
    directions : list of (block, (r, r) array)
        Derivatives of Psi in each free entry as the core takes them; none of residuals with a
        structure.
    """

    free: NDArray[np.bool_]
    hessian: Floats
    log_r2: Floats
    fixed: Floats
    gradient: tuple[Floats, ...] = ()
    ratio: float = float("nan")
    directions: Sequence[tuple[int, Floats]] = ()


def curvature(estimate: LinearEstimate) -> Curvature:
    """Second derivatives of the criterion D(theta), sigma profiled out.

    With m = n - p (REML) or n (ML), M = P or H^-1, w_i = V_i Py and G the derivative
    of D with respect to Psi,

        D_ij = 2 (m / r2) w_i'P w_j - (m / r2^2) (w_i'y) (w_j'y) - tr(M V_i M V_j)
               + <G, d2Psi_ij>,

    d log r2 = -w_i'y / r2 (w_i'y standing for y'P V_i Py), and
    dC = C X'H^-1 V_i H^-1 X C. (Lindstrom & Bates 1988, J. Am. Stat. Assoc. 83;
    Searle, Casella & McCulloch 1992, ch. 6.)
    """
    if estimate.specification.residual is not None:
        return _structured_curvature(estimate)
    asked = _Questions(estimate)
    found = asked.ask(of_fixed=False)
    rss, scores = found["rss"], found["scores"]
    ratio = found["degrees"] / rss
    gradient = asked.gradient(found["psi_gradient"])
    hessian = (
        2 * ratio * found["products"][:, 0, :, 0]
        - ratio / rss * (scores[:, None] * scores)
        - found["traces"]
        + asked.bent(gradient)
    )
    T = asked.assembly.fixed.transform
    fixed = T @ found["fixed"] @ T.T
    return Curvature(
        asked.free,
        (hessian + hessian.T) / 2,
        -scores / rss,
        fixed,
        gradient,
        float(ratio),
        asked.directions,
    )


@dataclass(frozen=True, eq=False)
class Information:
    """What the expected information is made of, along the f free entries of theta.

    V_i = Z dPsi_i Z' and V_ij = Z d2Psi_ij Z'; all relative to sigma^2.

    Attributes
    ----------
    C : (p, p) float64 array
        (X'H^-1X)^-1.
    mean : (f,) float64 array
        tr(P V_i).
    traces : (f, f) float64 array
        tr(P V_i P V_j).
    fixed : (f, p, p) float64 array
        C X'H^-1 V_i H^-1 X C.
    bent_mean : (f, f) float64 array
        tr(P V_ij).
    weighted : callable
        Weights w (f, f) -> sums over i, j of w_ij times

        - (p, p): C X'H^-1 V_i P V_j H^-1 X C,
        - (p, p): C X'H^-1 V_ij H^-1 X C,
        - (f,): tr(P V_ij P V_k).
    """

    C: Floats
    mean: Floats
    traces: Floats
    fixed: Floats
    bent_mean: Floats
    weighted: Callable[[Floats], tuple[Floats, Floats, Floats]]


def information(estimate: LinearEstimate) -> Information:
    """Traces and products of a REML fit at its optimum, see `Information`."""
    if estimate.specification.residual is not None:
        return _structured_information(estimate)
    asked = _Questions(estimate)
    # (f, f, directions): d2Psi_ij in terms of all directions
    weights = asked.bend()
    found = asked.ask(of_fixed=True)
    f = int(asked.free.sum())
    T = asked.assembly.fixed.transform
    G = found["psi_gradient"]
    slopes = np.array([np.sum(G[block] * D) for block, D in asked.directions])
    mean = slopes + found["degrees"] / found["rss"] * found["scores"]
    fixed = T @ found["fixed"] @ T.T
    products = np.einsum("ab,ibjc,dc->ijad", T, found["products"][:f, :, :f], T, optimize=True)

    def weighted(W: Floats) -> tuple[Floats, Floats, Floats]:
        along = np.einsum("ij,ijm->m", W, weights)
        return (
            np.einsum("ij,ijab->ab", W, products),
            np.einsum("m,mab->ab", along, fixed),
            along @ found["traces"][:, :f],
        )

    return Information(
        C=T @ found["fixed_covariance"] @ T.T,
        mean=mean[:f],
        traces=found["traces"][:f, :f],
        fixed=fixed[:f],
        bent_mean=weights @ mean,
        weighted=weighted,
    )


def _structured_curvature(estimate: LinearEstimate) -> Curvature:
    """Second derivatives of a model whose residuals have a structure."""
    found = structured.at_optimum(estimate)
    at, free, p = found.at, found.free, len(found.at.beta)
    T = found.problem.fixed.transform
    first = at.sums.first[free]
    return Curvature(
        free,
        found.hessian[np.ix_(free, free)],
        -at.contracted(first) / at.r2,
        T @ (at.C @ first[:, :p, :p] @ at.C) @ T.T,
    )


def _structured_information(estimate: LinearEstimate) -> Information:
    """Traces and products of a REML fit whose residuals have a structure."""
    found = structured.at_optimum(estimate)
    if estimate.optimum.singular:
        found = solved_rows(replace(found.problem, tangent=True), estimate.theta, estimate.reml)
    free, wall = found.free, found.wall
    found, p = found.beside_singular(), len(found.at.beta)
    T, C, second = found.problem.fixed.transform, found.at.C, found.at.second
    assert second is not None
    own = np.ix_(free, free)
    first = found.at.sums.first[free][:, :p, :p]
    CF = C @ first
    crossed = np.einsum("iab,jba->ij", CF, CF, optimize=True)
    outer = T @ C

    def weighted(W: Floats) -> tuple[Floats, Floats, Floats]:
        wide = np.zeros((len(free), len(free)))
        wide[own] = W
        pairs, bent = found.problem.weighted(found.at, wide)
        mixed = np.tensordot(W, first, axes=1)
        inner = pairs - np.einsum("iab,ibc->ac", first @ C, mixed, optimize=True)
        return outer @ inner @ outer.T, outer @ bent @ outer.T, found.bent_traces(wide)[free]

    return Information(
        C=T @ C @ T.T,
        mean=found.at.sums.traces[free] - np.einsum("iaa->i", CF),
        traces=second.traces[own] - 2.0 * second.projected[own] + crossed + wall[own],
        fixed=outer @ first @ outer.T,
        bent_mean=second.bent_traces[own] - second.bent_projected[own],
        weighted=weighted,
    )


class _Questions:
    """The directions along which an optimum is asked: the derivatives of Psi in theta.

    Attributes
    ----------
    free : (k,) bool array
    directions : list of (block, (r, r) array)
        As the core takes them.
    parts : list of _Part
    """

    def __init__(self, estimate: LinearEstimate) -> None:
        end, ranks = solved(estimate), estimate.optimum.ranks
        self.assembly, self.free, self.at = end.assembly, end.free, at_end(estimate)
        self.directions: list[tuple[int, Floats]] = []
        self.parts: list[_Part] = []
        split = self.assembly.split
        loose = split(self.free.astype(np.float64))
        given = zip(self.assembly.terms, split(estimate.theta), loose, strict=True)
        for i, (term, theta, kept) in enumerate(given):
            inside = kept > 0
            first = len(self.directions)
            derivatives = term.structure.derivatives(theta)
            second = term.structure.second_derivatives(theta)
            if not inside.all():
                derivatives, second = derivatives[inside], second[np.ix_(inside, inside)]
            self.directions += self._placed(term, derivatives)
            own = slice(first, len(self.directions))
            flat = i in ranks and term.term.structure == "us"
            self.parts.append(_Part(term, own, derivatives, second, flat))

    def ask(self, *, of_fixed: bool) -> dict[str, Any]:
        """What the core knows along the directions."""
        self._check_memory()
        return self.assembly.core.curvature(*self.at, self.directions, of_fixed)

    def gradient(self, psi_gradient: list[Floats]) -> tuple[Floats, ...]:
        """The core's gradient in Psi as that of each term."""
        terms = [part.term for part in self.parts]
        return tuple(term.gradient_user(psi_gradient[term.block]) for term in terms)

    def bent(self, gradient: tuple[Floats, ...]) -> Floats:
        """<G, d2Psi_ij>, (f, f)."""
        f = int(self.free.sum())
        out = np.zeros((f, f))
        for part, G in zip(self.parts, gradient, strict=True):
            count = len(part.second)
            out[part.own, part.own] = (part.second.reshape(count**2, G.size) @ G.ravel()).reshape(
                count, count
            )
        return out

    def bend(self) -> Floats:
        """Add the directions that second derivatives of Psi need, and write these in all.

        None is needed where Psi can be given parameters in which it is linear. An
        unstructured Psi of less than full rank cannot, but is a boundary of a family that
        can: it is taken to move in the tangent space of that boundary.

        Returns
        -------
        (f, f, directions) float64 array
            d2Psi_ij = sum_m out_ijm direction_m.
        """
        f = len(self.directions)
        pieces = []
        for part in self.parts:
            inside, outside, added = decomposed(part.first, part.second)
            if part.flat:
                outside, added = outside[:, :, :0], added[:0]
            start = len(self.directions)
            self.directions += self._placed(part.term, added)
            pieces.append((part.own, inside, slice(start, len(self.directions)), outside))
        weights = np.zeros((f, f, len(self.directions)))
        for own, inside, new, outside in pieces:
            weights[own, own, own] = inside
            weights[own, own, new] = outside
        return weights

    def _placed(self, term: Term, matrices: Floats) -> list[tuple[int, Floats]]:
        """Matrices (k, r, r) in the place of a term's Psi as the core takes them."""
        size, cut = self.assembly.blocks[term.block].size, term.columns
        out = np.zeros((len(matrices), size, size))
        out[:, cut, cut] = term.inverse_basis @ matrices @ term.inverse_basis.T
        return [(term.block, D) for D in out]

    def _check_memory(self) -> None:
        """Refuse before the core allocates a dense matrix for each direction."""
        layout = self.assembly.layout
        if not layout.chain or not layout.tail or layout.sparse:
            return
        leading = sum(block == layout.chain[0] for block, _ in self.directions)
        needed = 8 * layout.order**2 * (leading + 1)
        free = available_memory() if needed > ALWAYS_THERE else None
        if free is not None and needed > free:
            raise ModelError(
                f"second derivatives of this model need about {needed / 1e9:.1f} GB "
                f"({leading + 1} dense matrices of order {layout.order:,}), and "
                f"{free / 1e9:.1f} GB are free; use df='normal' or df='residual'"
            )


@dataclass(frozen=True, eq=False)
class _Part:
    """One term.

    Attributes
    ----------
    term : Term
    own : slice
        Of the directions.
    first, second : (f, r, r), (f, f, r, r) float64 arrays
        Derivatives of Psi with respect to its free parameters.
    flat : bool
        The term is unstructured and has less than full rank.
    """

    term: Term
    own: slice
    first: Floats
    second: Floats
    flat: bool


def decomposed(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats]:
    """Second derivatives in terms of the first ones and of what these do not span.

    Parameters
    ----------
    first : (f, r, r) array
    second : (f, f, r, r) array

    Returns
    -------
    inside : (f, f, f) float64 array
    outside : (f, f, m) float64 array
    added : (m, r, r) float64 array
        second_ij = sum_k inside_ijk first_k + sum_m outside_ijm added_m.
    """
    f, r = len(first), first.shape[-1]
    if f == 0:
        return np.zeros((0, 0, 0)), np.zeros((0, 0, 0)), np.zeros((0, r, r))
    A = first.reshape(f, r * r).T
    B = second.reshape(f * f, r * r).T
    size = np.linalg.norm(A, axis=0)
    size = np.where(size > 0, size, 1.0)
    inside = np.linalg.lstsq(A / size, B, rcond=1e-13)[0] / size[:, None]
    rest = B - A @ inside
    rest[:, np.linalg.norm(rest, axis=0) <= SPANNED * np.linalg.norm(B, axis=0)] = 0.0
    U, singular, Vt = np.linalg.svd(rest, full_matrices=False)
    kept = singular > SPANNED * singular.max(initial=0.0)
    m = int(kept.sum())
    outside = (singular[kept, None] * Vt[kept]).T.reshape(f, f, m)
    added = U[:, kept].T.reshape(m, r, r)
    return inside.T.reshape(f, f, f), outside, added
