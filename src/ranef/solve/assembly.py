"""A specification on the scale that the core works on, and the way back.

Columns of X are scaled to unit mean square (orthogonalised where they are nearly
dependent), the response is freed of its least-squares fit and scaled; the core
itself standardises the columns of Z. All effects are taken in a unit that makes up
for the size of the weights. None of this shows outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.rank import cross_products, whole
from ranef.design.specification import Specification
from ranef.errors import ModelError
from ranef.solve.layout import Layout, choose_layout
from ranef.solve.parametrisation import (
    Parametrisation,
    effect_unit,
    factor_of,
    many_parameters,
    terms_of,
)
from ranef.solve.resources import available_cores, available_memory, hold_blas, use_lapack

__all__ = ["ALWAYS_THERE", "Assembly", "assemble", "check_memory", "scale_fixed"]

Floats = NDArray[np.float64]

NEARLY_DEPENDENT = 1e-5
RELATED = 1e-3
"""The same where orthogonal columns cost next to nothing: beside large effects, digits count."""
CHEAP = 1e6
NO_VARIATION = 1e-10
ALWAYS_THERE = 50_000_000


@dataclass(frozen=True, eq=False)
class FixedScale:
    """X_core = X diag(scale), which spans the user's columns, and what it does to the criterion.

    Attributes
    ----------
    X : (n, p) float64 array or csr_array
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

    X: Any
    scale: Floats
    gram: Floats
    transform: Floats
    log_determinant: float

    @property
    def rows(self) -> Any:
        """X as the core takes it: an array, or compressed rows."""
        if isinstance(self.X, np.ndarray):
            return self.X
        ptr, index = self.X.indptr.astype(np.int64), self.X.indices.astype(np.int32)
        return ptr, index, self.X.data, self.X.shape[1]

    def in_units(self, unit: float) -> FixedScale:
        """The same columns, their coefficients as multiples of `unit`."""
        return FixedScale(
            self.X,
            self.scale * unit,
            self.gram * unit**2,
            self.transform * unit,
            self.log_determinant + len(self.scale) * float(np.log(unit)),
        )


def scale_fixed(X: Any) -> FixedScale:
    """Scale the columns of X, or make them orthogonal where that is not enough."""
    n, p = X.shape
    if p == 0:
        return FixedScale(
            np.ascontiguousarray(X), np.empty(0), np.empty((0, 0)), np.empty((0, 0)), 0.0
        )
    dense = isinstance(X, np.ndarray)
    gram = cross_products(X)
    scale = np.sqrt(n / np.diag(gram))
    gram = gram * scale[:, None] * scale
    cheap = dense and n * p * p <= CHEAP
    if np.linalg.eigvalsh(gram)[0] > (RELATED if cheap else NEARLY_DEPENDENT) * n:
        log_det = float(np.log(scale).sum())
        X = np.ascontiguousarray(X) if dense else X
        return FixedScale(X, scale, gram, np.diag(scale), log_det)
    X = whole(X, "the matrix of the nearly dependent fixed effects")
    q, r = np.linalg.qr(X * scale)
    transform = np.linalg.solve(r, np.eye(p)) * np.sqrt(n) * scale[:, None]
    log_det = p * float(np.log(n)) / 2 - float(np.log(np.abs(np.diag(r)) / scale).sum())
    X = np.ascontiguousarray(q * np.sqrt(n))
    return FixedScale(X, np.ones(p), X.T @ X, transform, log_det)


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
        n, p = self.fixed.X.shape
        m = n - p if reml else n
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
    if path == "iterative":
        raise ModelError(
            "this needs exact inverses, which the iterative path of this fit does not have: "
            "estimates, standard errors, modes and fitted values are to be had. Fit the model "
            "with path='sparse' or 'crossed', or a part of the data, to ask this"
        )
    known = _assembled.setdefault(spec, {})
    if path in known:
        return known[path]
    blocks, layout = choose_layout(spec, path)
    check_memory(layout)
    large = layout.sparse or layout.order > _core.small_order
    if large or many_parameters(spec.terms):
        use_lapack()
    unit = effect_unit(spec.weights)
    fixed = scale_fixed(spec.fixed_rows).in_units(unit)
    problem = _core.Problem(
        [
            factor_of(spec, block, [[unit] * spec.terms[i].size for i in block.terms])
            for block in blocks
        ],
        fixed.rows,
        fixed.scale,
        np.ascontiguousarray(fixed.gram),
        None if spec.weights is None else np.ascontiguousarray(spec.weights),
        list(layout.chain),
        available_cores(n_jobs),
        layout.sparse,
    )
    core = hold_blas(problem, max(layout.order, problem.parameters), layout.sparse)
    terms = terms_of(spec, blocks, core)
    assembly = Assembly(blocks, layout, terms, ref(spec), core, fixed)
    known[path] = known[layout.path] = assembly
    return assembly


def check_memory(layout: Layout) -> None:
    """Refuse what does not fit, before anything is allocated."""
    if layout.bytes < ALWAYS_THERE:
        return
    free = available_memory()
    what = (
        f"a sparse factor of {layout.fill:,.0f} values"
        if layout.sparse
        else f"a dense matrix of order {layout.order:,}"
    )
    if free is not None and layout.bytes > free:
        raise ModelError(
            f"this model needs about {layout.bytes / 1e9:.1f} GB ({what} "
            f"among other things), and {free / 1e9:.1f} GB are free; "
            f"ranef.plan() shows where it goes{layout.way_out}"
        )
