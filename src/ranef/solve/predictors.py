"""A generalised model as arrays, and on the scale that the core works on.

Row i has linear predictors eta_m = o_m + X_m beta + Z_m b. The columns of X_m
belong to entries of one coefficient vector; each random term belongs to one
predictor; terms of several predictors may share a grouping factor. The core knows
only the coefficients that are free (`solve.constraints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import ModelError
from ranef.solve.assembly import check_memory, scale_fixed
from ranef.solve.constraints import FreeCoefficients
from ranef.solve.layout import Block, choose_layout
from ranef.solve.parametrisation import (
    Parametrisation,
    factor_of,
    many_parameters,
    terms_of,
)
from ranef.solve.penalty import core_terms
from ranef.solve.problem import GeneralisedDesign, LinearPredictor
from ranef.solve.quadrature import quadrature_layout
from ranef.solve.resources import available_cores, hold_blas, use_lapack

__all__ = ["GeneralisedAssembly", "assemble_generalised", "free_columns", "owned_factors"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]

SMALL = 1e-6


@dataclass(frozen=True, eq=False)
class End:
    """Where a fit ended.

    Attributes
    ----------
    theta : (k,) float64 array
    coefficients : (P,) float64 array
    x : (K + F,) float64 array
        The parameters of the core.
    modes : _core.Modes or None
        Known to the core, which needs no search to answer about them.
    """

    theta: Floats
    coefficients: Floats
    x: Floats
    modes: _core.Modes | None


@dataclass(frozen=True, eq=False)
class Spot:
    """A theta as the core takes it.

    Attributes
    ----------
    assembly : GeneralisedAssembly
    phi : (k,) float64 array
    slopes : list of arrays
        Derivatives in theta: of each term's Psi, or of phi.
    """

    assembly: GeneralisedAssembly
    phi: Floats
    slopes: list[Floats]

    def gradient(self, found: dict[str, Any]) -> Floats:
        """Gradient in theta, from what the core says of a point."""
        if self.assembly.nodes == 1:
            return self.assembly.chain_rule(self.slopes, found["psi_gradient"])
        by_phi: Floats = found["gradient"][: len(self.phi)]
        return np.asarray(self.slopes[0].T @ by_phi)


@dataclass(frozen=True, eq=False)
class GeneralisedAssembly(Parametrisation):
    """The core's problem with the scales that lead to and from it.

    Attributes
    ----------
    known_by : weak reference to the GeneralisedDesign
        Weak, since the assembly lives as long as its design.
    core : _core.GeneralisedProblem
    free : FreeCoefficients
        The map from the F coefficients that are free, and what the others are.
    scale : (F, F) float64 array
        Free coefficients = scale @ those of the core.
    nodes : int
        Of the quadrature; 1 is the Laplace approximation.
    ends : list of End
        Where its last fit ended, if one did.
    """

    known_by: ReferenceType[GeneralisedDesign]
    core: _core.GeneralisedProblem
    free: FreeCoefficients
    scale: Floats
    nodes: int
    ends: list[End] = field(default_factory=list)

    @property
    def design(self) -> GeneralisedDesign:
        """The design; whoever asks holds it."""
        design = self.known_by()
        assert design is not None
        return design

    def spot(self, theta: Floats, ranks: dict[int, int]) -> Spot:
        """Prepare the core's parameters, and the gradient's way back, at a theta.

        A quadrature with few nodes is a function of the parameters of the factor, not of
        Psi alone, so its gradient goes through these.
        """
        slopes = self.slopes(theta) if self.nodes == 1 else [self._phi_derivatives(theta, ranks)]
        return Spot(self, self.phi(theta, ranks), slopes)

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
        """Coefficients of the core for the user's; those that are held are not read."""
        return np.asarray(np.linalg.solve(self.scale, coefficients[self.free.first]))

    def coefficients(self, inner: Floats) -> Floats:
        """All coefficients of the user for those of the core."""
        return np.asarray(self.free.M @ (self.scale @ inner) + self.free.c)

    @cached_property
    def transform(self) -> Floats:
        """Derivatives (P, F) of the coefficients with respect to those of the core."""
        return np.asarray(self.free.M @ self.scale)

    @cached_property
    def back(self) -> Floats:
        """Derivatives (F, P) of the core's coefficients with respect to the user's."""
        out = np.zeros((self.free.count, len(self.free.c)))
        out[:, self.free.first] = np.linalg.inv(self.scale)
        return out

    def covariance(self, inner: Floats) -> Floats:
        """Covariance (P, P) of the coefficients: equal ones have equal rows, held ones none."""
        with np.errstate(over="ignore", invalid="ignore"):  # of what diverges it has no bound
            own = self.scale @ inner @ self.scale.T
            return np.asarray(self.free.M @ own @ self.free.M.T)

    @cached_property
    def integrated(self) -> Ints:
        """Coefficients of the core that are integrated out."""
        return _free_among(self.free, self.design.integrated)

    @cached_property
    def outer(self) -> Ints:
        """Coefficients of the core that are parameters of the criterion."""
        return np.setdiff1d(np.arange(self.free.count), self.integrated)

    def point(self, theta: Floats, coefficients: Floats, ranks: dict[int, int]) -> Floats:
        """Return the parameters of the criterion as the core takes them."""
        return np.concatenate([self.phi(theta, ranks), self.inner(coefficients)[self.outer]])

    @property
    def shift(self) -> float:
        """What to add to the core's criterion for the user's."""
        if not len(self.integrated):
            return 0.0
        own = np.ix_(self.integrated, self.integrated)
        return -2 * float(np.linalg.slogdet(self.scale[own])[1])

    def held(self, theta: Floats) -> NDArray[np.bool_]:
        """Which entries of theta are held, (k,)."""
        out = np.zeros(len(theta), dtype=np.bool_)
        out[self.design.constraints.entries] = True
        return out


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
    if design.integrated and design.penalty is not None and design.penalty.coefficients:
        raise ModelError(
            "priors on coefficients and reml=True exclude each other: one maximises over the "
            "coefficients, the other integrates over them"
        )
    if quadrature > 1:
        blocks, layout = quadrature_layout(design, quadrature, path)
    else:
        blocks, layout = choose_layout(design, path)
    check_memory(layout)
    large = layout.sparse or layout.order > _core.small_order
    if large or many_parameters(design.terms):
        use_lapack()
    free = design.constraints.free(design.n_coefficients)
    predictors, scale = _scaled(design, free)
    factors = owned_factors(design, blocks)
    problem = _core.GeneralisedProblem(
        design.family,
        _contiguous(design.y),
        None if design.extra is None else _contiguous(design.extra),
        None if design.weights is None else _contiguous(design.weights),
        predictors,
        free.count,
        factors,
        list(layout.chain),
        available_cores(n_jobs),
        quadrature,
        [int(f) for f in _free_among(free, design.integrated)],
        layout.sparse,
    )
    if design.level_weights is not None and quadrature > 1:
        problem.weigh_levels(_contiguous(design.level_weights))
    terms = terms_of(design, blocks, problem)
    if design.penalty is not None:
        transform = free.M @ scale
        rows = [
            (np.ascontiguousarray(transform[k]), prior.core())
            for k, prior in design.penalty.coefficients
        ]
        problem.penalise(core_terms(design.penalty, terms, blocks), rows)
    core = hold_blas(problem, layout.order, layout.sparse)
    assembly = GeneralisedAssembly(
        blocks, layout, terms, ref(design), core, free, scale, quadrature
    )
    _hold(assembly, problem)
    known[path, quadrature] = known[layout.path, quadrature] = assembly
    return assembly


def owned_factors(design: GeneralisedDesign, blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """The blocks as the core takes them, with the predictor and the unit of each column."""
    factors = []
    for block in blocks:
        units = [[design.predictors[m].unit for m in design.owners[i]] for i in block.terms]
        factor = factor_of(design, block, units)
        factor["owners"] = [m for i in block.terms for m in design.owners[i]]
        for i, term in zip(block.terms, factor["terms"], strict=True):
            if len(set(design.owners[i])) > 1:
                term["owners"] = list(design.owners[i])
        factors.append(factor)
    return factors


def _contiguous(values: Floats) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64)


def _hold(assembly: GeneralisedAssembly, problem: _core.GeneralisedProblem) -> None:
    """Tell the core which of its covariance parameters stay where."""
    constraints = assembly.design.constraints
    if not constraints.deviations:
        return
    unit = np.concatenate([term.units for term in assembly.terms])
    entries = constraints.entries
    phi = assembly.phi(constraints.hold(unit), {})
    places = np.concatenate([term.offset + np.arange(term.count) for term in assembly.terms])
    held = places[entries]
    problem.hold([int(i) for i in held], _contiguous(phi[held]))


def _free_among(free: FreeCoefficients, coefficients: tuple[int, ...]) -> Ints:
    """Free coefficients that these are."""
    if not coefficients:
        return np.arange(0)
    return np.flatnonzero(free.M[list(coefficients)].any(axis=0))


def _scaled(
    design: GeneralisedDesign, free: FreeCoefficients
) -> tuple[list[dict[str, object]], Floats]:
    """Scale the columns of each predictor whose coefficients are its own, or two's together."""
    given = [free_columns(predictor, free) for predictor in design.predictors]
    uses = np.zeros(free.count, dtype=np.int_)
    for predictor in given:
        uses[predictor.coefficients] += 1
    scale = np.eye(free.count)
    joint = _joint_scale([predictor for predictor in given if predictor.together])
    out: list[dict[str, object]] = []
    for predictor in given:
        X, columns = _contiguous(predictor.X), predictor.coefficients
        if predictor.together and joint is not None:
            X = _contiguous(X @ joint)
            scale[np.ix_(columns, columns)] = joint
        elif X.shape[1] and np.all(uses[columns] == 1):
            fixed = scale_fixed(X).in_units(predictor.unit)
            X = fixed.X * fixed.scale
            scale[np.ix_(columns, columns)] = fixed.transform
        out.append(
            {
                "X": X,
                "coefficients": [int(k) for k in columns],
                "offset": None if predictor.offset is None else _contiguous(predictor.offset),
                "unit": predictor.unit,
            }
        )
    return out, scale


def _joint_scale(together: list[LinearPredictor]) -> Floats | None:
    """Transform of the coefficients that these predictors share; None where they share none."""
    if not together or not together[0].X.shape[1]:
        return None
    return scale_fixed(np.vstack([predictor.X for predictor in together])).transform


def free_columns(predictor: LinearPredictor, free: FreeCoefficients) -> LinearPredictor:
    """Add up the columns of equal coefficients; those of held ones go into the offset."""
    if free.everything:
        return predictor
    own = predictor.coefficients
    M, c = free.M[own], free.c[own]
    columns = np.flatnonzero(M.any(axis=0))
    same = len(columns) == len(own)
    X = predictor.X if same else predictor.X @ M[:, columns]
    if not c.any():
        return replace(predictor, X=X, coefficients=columns)
    offset = predictor.X @ c
    if predictor.offset is not None:
        offset = offset + predictor.offset
    return replace(predictor, X=X, coefficients=columns, offset=offset)
