"""A generalised model as arrays, and on the scale that the core works on.

Row i has linear predictors eta_m = o_m + X_m beta + Z_m b. The columns of X_m
belong to entries of one coefficient vector; each random term belongs to one
predictor; terms of several predictors may share a grouping factor.

May import `_core`, `covariance`, `design.specification`, `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.specification import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.solve.assembly import (
    Parametrisation,
    check_memory,
    factor_of,
    scale_fixed,
    terms_of,
)
from ranef.solve.layout import choose_layout
from ranef.solve.penalty import Penalty, core_terms
from ranef.solve.resources import available_cores, hold_blas, use_lapack
from ranef.solve.search import chain_rule

__all__ = ["GeneralisedAssembly", "GeneralisedDesign", "LinearPredictor", "assemble_generalised"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]

MOST_COLUMNS = 3
SMALL = 1e-6


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """The fixed part of one linear predictor.

    Attributes
    ----------
    X : (n, c) float64 array
    coefficients : (c,) int array
        Entry of the coefficient vector that each column multiplies.
    offset : (n,) float64 array or None
    """

    X: Floats
    coefficients: Ints
    offset: Floats | None = None


@dataclass(frozen=True, eq=False)
class GeneralisedDesign:
    """A generalised linear mixed model as arrays.

    Attributes
    ----------
    family : _core.Family
        The compiled log density.
    y : (n,) float64 array
    extra : (n,) float64 array or None
        What the family needs beside the response: trials, upper ends.
    weights : (n,) float64 array or None
        They multiply the log density.
    predictors : tuple of LinearPredictor
        One for each of the family's.
    terms : tuple of RandomTerm
        Of all predictors, those of the first predictor first.
    owners : tuple of int
        Predictor of each term.
    factors : tuple of GroupingFactor
    n_coefficients : int
        Length P of the coefficient vector.
    integrated : tuple of int
        Coefficients to integrate out (restricted likelihood): all of some
        predictors or none.
    penalty : Penalty or None
        Priors of its parameters.
    """

    family: _core.Family
    y: Floats
    extra: Floats | None
    weights: Floats | None
    predictors: tuple[LinearPredictor, ...]
    terms: tuple[RandomTerm, ...]
    owners: tuple[int, ...]
    factors: tuple[GroupingFactor, ...]
    n_coefficients: int
    integrated: tuple[int, ...] = ()
    penalty: Penalty | None = None

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def p(self) -> int:
        return self.n_coefficients


@dataclass(frozen=True, eq=False)
class GeneralisedAssembly(Parametrisation):
    """The core's problem with the scales that lead to and from it.

    Attributes
    ----------
    known_by : weak reference to the GeneralisedDesign
        Weak, since the assembly lives as long as its design.
    core : _core.GeneralisedProblem
    transform : (P, P) float64 array
        Coefficients = transform @ those of the core.
    nodes : int
        Of the quadrature; 1 is the Laplace approximation.
    """

    known_by: ReferenceType[GeneralisedDesign]
    core: _core.GeneralisedProblem
    transform: Floats
    nodes: int

    @property
    def design(self) -> GeneralisedDesign:
        """The design; whoever asks holds it."""
        design = self.known_by()
        assert design is not None
        return design

    def theta_gradient(self, theta: Floats, ranks: dict[int, int], found: dict[str, Any]) -> Floats:
        """Gradient in the reported parameters, from what the core says of a point.

        A quadrature with few nodes is a function of the parameters of the factor, not of
        Psi alone, so its gradient goes through these.
        """
        if self.nodes == 1:
            return chain_rule(self, theta, found["psi_gradient"])
        by_phi: Floats = found["gradient"][: self.core.parameters]
        return np.asarray(self._phi_derivatives(theta, ranks).T @ by_phi)

    def _phi_derivatives(self, theta: Floats, ranks: dict[int, int]) -> Floats:
        """Derivatives (k, k) of the core's parameters, by differences: both are smooth."""
        unit = np.concatenate([term.units for term in self.terms])
        columns = []
        for i, step in enumerate(SMALL * np.maximum(np.abs(theta), unit)):
            up, down = theta.copy(), theta.copy()
            up[i] += step
            down[i] -= step
            columns.append((self.phi(up, ranks) - self.phi(down, ranks)) / (2 * step))
        return np.column_stack(columns)

    def inner(self, coefficients: Floats) -> Floats:
        """Coefficients of the core for the user's."""
        return np.asarray(np.linalg.solve(self.transform, coefficients), dtype=np.float64)

    @property
    def outer(self) -> Ints:
        """Coefficients that are parameters of the criterion, not integrated out."""
        return np.setdiff1d(np.arange(self.design.n_coefficients), self.design.integrated)

    def point(self, theta: Floats, coefficients: Floats, ranks: dict[int, int]) -> Floats:
        """Return the parameters of the criterion as the core takes them."""
        return np.concatenate([self.phi(theta, ranks), self.inner(coefficients)[self.outer]])

    @property
    def shift(self) -> float:
        """What to add to the core's criterion for the user's."""
        own = np.ix_(self.design.integrated, self.design.integrated)
        return -2 * float(np.linalg.slogdet(self.transform[own])[1])


_assembled: WeakKeyDictionary[
    GeneralisedDesign, dict[tuple[str | None, int], GeneralisedAssembly]
] = WeakKeyDictionary()


def assemble_generalised(
    design: GeneralisedDesign,
    path: str | None = None,
    n_jobs: int | None = None,
    quadrature: int = 1,
) -> GeneralisedAssembly:
    """Bring a design to the core; done once for each path and number of nodes.

    Raises
    ------
    ModelError
        When the design does not fit the path or quadrature, or memory does not
        suffice.
    """
    known = _assembled.setdefault(design, {})
    if (path, quadrature) in known:
        return known[path, quadrature]
    if quadrature > 1:
        _check_quadrature(design)
        path = "single"
    if design.integrated and design.penalty is not None and design.penalty.coefficients:
        raise ModelError(
            "priors on coefficients and reml=True exclude each other: one maximises over the "
            "coefficients, the other integrates over them"
        )
    blocks, layout = choose_layout(design, path)
    check_memory(layout)
    if layout.order > _core.small_order:
        use_lapack()
    predictors, transform = _scaled(design)
    factors = []
    for block in blocks:
        factor = factor_of(design, block)
        factor["owners"] = [
            design.owners[i] for i in block.terms for _ in range(design.terms[i].size)
        ]
        factors.append(factor)
    problem = _core.GeneralisedProblem(
        design.family,
        _contiguous(design.y),
        None if design.extra is None else _contiguous(design.extra),
        None if design.weights is None else _contiguous(design.weights),
        predictors,
        design.n_coefficients,
        factors,
        list(layout.chain),
        available_cores(n_jobs),
        quadrature,
        list(design.integrated),
    )
    terms = terms_of(design, blocks, problem)
    if design.penalty is not None:
        rows = [
            (np.ascontiguousarray(transform[k]), prior.core())
            for k, prior in design.penalty.coefficients
        ]
        problem.penalise(core_terms(design.penalty, terms, blocks), rows)
    core = hold_blas(problem, layout.order)
    assembly = GeneralisedAssembly(blocks, layout, terms, ref(design), core, transform, quadrature)
    known[path, quadrature] = known[layout.path, quadrature] = assembly
    return assembly


def _check_quadrature(design: GeneralisedDesign) -> None:
    """Quadrature takes one factor, three columns, and terms without structure."""
    if design.integrated:
        raise ModelError(
            "quadrature cannot integrate the fixed effects out; give reml=False or quadrature=1"
        )
    if len(design.factors) > 1:
        names = ", ".join(f.name for f in design.factors)
        raise ModelError(
            f"quadrature takes one grouping factor, here are {len(design.factors)} ({names}); "
            "quadrature=1 (the Laplace approximation) takes any number"
        )
    columns = sum(t.size for t in design.terms)
    if columns > MOST_COLUMNS:
        raise ModelError(
            f"quadrature takes up to {MOST_COLUMNS} random effects for each level, here are "
            f"{columns}; use quadrature=1 (the Laplace approximation)"
        )
    for term in design.terms:
        if term.kernel is not None or term.structure not in ("us", "diag"):
            raise ModelError(
                f"quadrature takes terms that are unstructured or diagonal, which ({term.label}) "
                "is not; use quadrature=1 (the Laplace approximation)"
            )


def _contiguous(values: Floats) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64)


def _scaled(design: GeneralisedDesign) -> tuple[list[dict[str, object]], Floats]:
    """Scale the columns of each predictor whose coefficients are its own."""
    uses = np.zeros(design.n_coefficients, dtype=np.int_)
    for predictor in design.predictors:
        uses[predictor.coefficients] += 1
    transform = np.eye(design.n_coefficients)
    out: list[dict[str, object]] = []
    for predictor in design.predictors:
        X, columns = _contiguous(predictor.X), predictor.coefficients
        if X.shape[1] and np.all(uses[columns] == 1):
            fixed = scale_fixed(X)
            X = fixed.X * fixed.scale
            transform[np.ix_(columns, columns)] = fixed.transform
        out.append(
            {
                "X": X,
                "coefficients": [int(k) for k in columns],
                "offset": None if predictor.offset is None else _contiguous(predictor.offset),
            }
        )
    return out, transform
