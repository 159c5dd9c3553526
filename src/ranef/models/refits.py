"""One linear mixed model, many responses."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.models.linear import fit_lmm
from ranef.models.records import Estimate
from ranef.solve.assembly import Assembly, assemble
from ranef.solve.optimum import MAX_EVALUATIONS
from ranef.solve.parametrisation import Term, factor_entries
from ranef.solve.resources import available_cores, one_blas_thread

__all__ = ["Refits", "refit_many"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Refits:
    """One fit per response.

    Attributes
    ----------
    theta : (m, k) float64 array
    beta : (m, p) float64 array
    sigma, loglik : (m,) float64 arrays
    evaluations : (m,) int array
    converged : (m,) bool array
    """

    theta: Floats
    beta: Floats
    sigma: Floats
    loglik: Floats
    evaluations: NDArray[np.int_]
    converged: NDArray[np.bool_]


def refit_many(
    estimate: Estimate,
    Y: Floats,
    *,
    n_jobs: int | None = None,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Refits:
    """Fit the same model to other responses.

    Parameters
    ----------
    estimate : Estimate
        The fit whose design is used again; its theta is the start.
    Y : (n, m) float64 array
        Responses by column.

    Raises
    ------
    ModelError
        When a response does not vary about its least-squares fit.
    """
    spec, reml = estimate.specification, estimate.reml
    if spec.residual is not None:
        return _one_by_one(estimate, np.asarray(Y, dtype=np.float64))
    assembly = assemble(spec, estimate.optimum.path)
    responses = np.ascontiguousarray(np.asarray(Y, dtype=np.float64).T)
    inner, beta0, scale = assembly.respond(responses)
    start = assembly.phi(estimate.theta, estimate.optimum.ranks)
    # a start on a face could not leave it without a search of its own
    start = np.where(np.abs(start) < 0.05, 0.3 * assembly.core.start() + 0.05, start)
    large = assembly.layout.order > _core.small_order
    with one_blas_thread() if large else nullcontext():
        found = assembly.core.fit_many(inner, reml, start, max_evaluations, available_cores(n_jobs))
    m = spec.n - (spec.p if reml else 0)
    criterion = found["criterion"] + assembly.criterion_shift(reml, scale)
    return Refits(
        theta=_many_thetas(assembly, found),
        beta=(beta0 + scale[:, None] * found["beta"]) @ assembly.fixed.transform.T,
        sigma=scale * np.sqrt(found["rss"] / m),
        loglik=-0.5 * criterion,
        evaluations=found["evaluations"].astype(np.int_),
        converged=found["converged"] > 0,
    )


def _one_by_one(estimate: Estimate, Y: Floats) -> Refits:
    """Fit a model whose residuals have a structure to one response after the other."""
    spec = estimate.specification
    fits = [
        fit_lmm(replace(spec, y=np.ascontiguousarray(y)), reml=estimate.reml, start=estimate.theta)
        for y in Y.T
    ]
    return Refits(
        theta=np.array([fit.theta for fit in fits]),
        beta=np.array([fit.beta for fit in fits]),
        sigma=np.array([fit.sigma for fit in fits]),
        loglik=np.array([fit.loglik for fit in fits]),
        evaluations=np.array([fit.optimum.evaluations for fit in fits], dtype=np.int_),
        converged=np.array([fit.optimum.converged for fit in fits], dtype=np.bool_),
    )


def _many_thetas(assembly: Assembly, found: dict[str, Any]) -> Floats:
    """Reported parameters of every refit."""
    phis, ranks = found["phi"], found["ranks"]
    position = {term: number for number, term in enumerate(assembly.order)}
    out = [
        _term_thetas(t, phis[:, t.offset : t.offset + t.count], ranks[:, position[i]])
        for i, t in enumerate(assembly.terms)
    ]
    return np.hstack([np.zeros((len(phis), 0)), *out])


def _term_thetas(term: Term, phi: Floats, ranks: Floats) -> Floats:
    kind = term.term.structure
    if kind == "diag" or (kind == "us" and term.size == 1):
        return np.abs(phi * np.diag(term.basis))
    if kind != "us":
        return np.array([term.theta(row, phi, None) for row in _placed(term, phi)])
    out = np.empty_like(phi)
    for i, row in enumerate(phi):
        inner = term.structure.psi(row)
        psi = term.basis @ inner @ term.basis.T
        rank = term.size if ranks[i] < 0 else int(ranks[i])
        out[i] = factor_entries(psi, rank)
    return out


def _placed(term: Term, phi: Floats) -> Floats:
    """Pad a term's parameters on the left to where `Term.theta` looks for them."""
    return np.hstack([np.zeros((len(phi), term.offset)), phi])
