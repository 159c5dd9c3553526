"""Scores of a generalised model by cluster: each cluster's share of the gradient.

Clusters that share no random effect are independent, so their log-likelihoods add up, by
the Laplace approximation and by quadrature too. Each cluster is brought to the core by
itself, at the estimates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.design.terms import GroupingFactor, RandomTerm
from ranef.errors import ModelError
from ranef.solve.constraints import FreeCoefficients
from ranef.solve.layout import choose_layout
from ranef.solve.parametrisation import terms_of
from ranef.solve.predictors import GeneralisedAssembly, free_columns, owned_factors
from ranef.solve.problem import GeneralisedDesign, LinearPredictor
from ranef.solve.resources import hold_blas, use_lapack

if TYPE_CHECKING:
    from weakref import ReferenceType

    from ranef.models.records import GeneralisedEstimate

__all__ = ["cluster_scores"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def cluster_scores(
    estimate: GeneralisedEstimate,
    codes: Ints,
    coefficients: Floats | None = None,
    theta: Floats | None = None,
) -> Floats:
    """Gradient of the log-likelihood of each cluster, (m, F + k).

    Parameters
    ----------
    estimate : GeneralisedEstimate
        Every grouping factor nested in the clusters; no coefficients integrated out.
    codes : (n,) int array
        Cluster of each row, from 0, all occurring.
    coefficients : (P,) array, optional
        Where; at the estimates by default.
    theta : (k,) array, optional

    Returns
    -------
    (m, F + k) float64 array
        Free coefficients first (equal ones are one), then theta; zero where a face holds
        theta.
    """
    from weakref import ref

    design = estimate.design
    free = design.constraints.free(design.n_coefficients)
    at = estimate.coefficients if coefficients is None else coefficients
    theta_at = estimate.theta if theta is None else theta
    ranks = estimate.optimum.ranks
    columns = [free_columns(predictor, free) for predictor in design.predictors]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    out = np.zeros((len(ends), free.count + len(estimate.theta)))
    for row, rows in zip(out, np.split(order, ends[:-1]), strict=True):
        part = _rows_of(design, rows)
        assembly = _alone(part, columns, rows, free, estimate.quadrature, ref(part))
        spot = assembly.spot(theta_at, ranks)
        x = np.concatenate([spot.phi, at[free.first]])
        state = assembly.core.state(x, True)
        if not np.isfinite(state["criterion"]):
            raise ModelError("the likelihood of a cluster is not finite at the estimates")
        row[: free.count] = state["gradient"][assembly.core.parameters :]
        row[free.count :] = spot.gradient(state)
    return -0.5 * out


def _rows_of(design: GeneralisedDesign, rows: Ints) -> GeneralisedDesign:
    """The design of some rows, with the levels that occur there."""
    factors, terms = [], []
    for factor in design.factors:
        levels, codes = np.unique(factor.codes[rows], return_inverse=True)
        named = [factor.levels[int(k)] for k in levels]
        factors.append(
            GroupingFactor(factor.name, factor.columns, codes.reshape(-1).astype(np.int32), named)
        )
    for term in design.terms:
        terms.append(_term_of(term, rows))
    return replace(
        design,
        y=design.y[rows],
        extra=None if design.extra is None else design.extra[rows],
        weights=None if design.weights is None else design.weights[rows],
        predictors=tuple(
            LinearPredictor(p.X[rows], p.coefficients, _taken(p.offset, rows), p.unit)
            for p in design.predictors
        ),
        terms=tuple(terms),
        factors=tuple(factors),
        level_weights=None,
    )


def _term_of(term: RandomTerm, rows: Ints) -> RandomTerm:
    return replace(term, z=np.ascontiguousarray(term.z[rows]))


def _taken(values: Floats | None, rows: Ints) -> Floats | None:
    return None if values is None else values[rows]


def _alone(
    design: GeneralisedDesign,
    columns: list[LinearPredictor],
    rows: Ints,
    free: FreeCoefficients,
    nodes: int,
    known_by: ReferenceType[GeneralisedDesign],
) -> GeneralisedAssembly:
    """Bring one cluster to the core, its coefficients on the user's scale."""
    blocks, layout = choose_layout(design, "single" if nodes > 1 else None)
    if layout.sparse or layout.order > _core.small_order:
        use_lapack()
    factors = owned_factors(design, blocks)
    predictors: list[dict[str, object]] = [
        {
            "X": np.ascontiguousarray(p.X[rows]),
            "coefficients": [int(k) for k in p.coefficients],
            "offset": None if p.offset is None else np.ascontiguousarray(p.offset[rows]),
        }
        for p in columns
    ]
    problem = _core.GeneralisedProblem(
        design.family, np.ascontiguousarray(design.y), design.extra, design.weights,
        predictors, free.count, factors, list(layout.chain), 1, nodes, [],
    )  # fmt: skip
    terms = terms_of(design, blocks, problem)
    core = hold_blas(problem, layout.order, layout.sparse)
    identity = np.eye(free.count)
    return GeneralisedAssembly(blocks, layout, terms, known_by, core, free, identity, nodes)
