"""One level's own answers: fixed effects and the random effects of given levels, together.

Any linear function of beta and of the effects b of some levels has its prediction error
variance from one matrix,

    Var [beta_hat - beta; b_hat - b],

which counts the covariance of the two (Henderson 1975, Biometrics 31). Where each random
term has one level it is filled by polarising quadratic forms that the solver gives;
where a term has several, Henderson's equations are solved, in a linear model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import solve
from ranef.errors import ModelError
from ranef.inference.generalised.rows import LinearPart
from ranef.inference.generalised.uncertainty import error_variance
from ranef.models import naming
from ranef.models.estimate import Estimate, GeneralisedEstimate

__all__ = ["UnitFunctions", "unit_functions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Term = tuple[int, Ints, Floats]


@dataclass(frozen=True, eq=False)
class UnitFunctions:
    """Linear predictors of rows with the effects of their levels.

    Attributes
    ----------
    value : (N,) float64 array
    jacobian : (N, K) float64 array
        In the fixed effects and the effects of the levels concerned.
    covariance : (K, K) float64 array
        Of the errors of both.
    """

    value: Floats
    jacobian: Floats
    covariance: Floats


def unit_functions(estimate: Estimate, part: LinearPart) -> UnitFunctions:
    """Evaluate rows with the random effects of their levels.

    Parameters
    ----------
    estimate : Estimate
    part : LinearPart
        The rows: X with its columns among the coefficients, and the random terms that
        count, by level. Code -1 is a level that the fit has not seen: its effect is
        zero, and its variance counts.
    """
    coefficients, modes = estimate.beta, estimate.modes
    if isinstance(estimate, GeneralisedEstimate):
        coefficients, modes = estimate.coefficients, estimate.term_modes
    P, N = len(coefficients), len(part.X)
    fixed = np.zeros((N, P))
    fixed[:, part.columns] = part.X
    value = fixed @ coefficients
    if part.offset is not None:
        value = value + part.offset
    blocks, picked = [fixed], []
    for term, codes, z in part.random:
        for level in np.unique(codes):
            own = np.where((codes == level)[:, None], z, 0.0)
            blocks.append(own)
            picked.append((term, int(level)))
            if level >= 0:
                value = value + own @ modes[term][level]
    return UnitFunctions(value, np.hstack(blocks), _covariance(estimate, P, picked))


def _covariance(estimate: Estimate, P: int, picked: Sequence[tuple[int, int]]) -> Floats:
    if len({term for term, _ in picked}) == len(picked):
        return _polarised(estimate, P, picked)
    if isinstance(estimate, GeneralisedEstimate):
        raise ModelError(
            "the contrast mixes levels of one grouping factor; of a generalised model unit= takes "
            "contrasts within one level of each factor: name the level of every factor"
        )
    return _henderson(estimate, picked)


def _polarised(estimate: Estimate, P: int, picked: Sequence[tuple[int, int]]) -> Floats:
    """From the variances of all sums of two parameters, Cov(a, b) = [V(a+b) - V(a) - V(b)] / 2."""
    terms = naming.terms_of(estimate)
    sizes = [terms[t].size for t, _ in picked]
    K = P + sum(sizes)
    first, second = np.triu_indices(K)
    basis = np.zeros((len(first), K))
    basis[np.arange(len(first)), first] += 1.0
    basis[np.arange(len(first)), second] += first != second
    cuts = np.cumsum([P, *sizes])
    random = [
        (t, np.full(len(basis), level, dtype=np.int32), np.ascontiguousarray(basis[:, a:b]))
        for (t, level), a, b in zip(picked, cuts[:-1], cuts[1:], strict=True)
    ]
    form = np.zeros((K, K))
    form[first, second] = _variances(estimate, basis[:, :P], random)
    own = np.diag(form).copy()
    out = np.triu((form - own[:, None] - own) / 2, 1)
    return np.asarray(out + out.T + np.diag(own))


def _variances(estimate: Estimate, X: Floats, random: Sequence[Term]) -> Floats:
    if isinstance(estimate, GeneralisedEstimate):
        part = LinearPart(X, np.arange(X.shape[1]), None, tuple(random))
        return error_variance(estimate, (part,), np.ones((1, len(X))), True)
    given: list[tuple[Ints, Floats] | None] = [None] * len(estimate.specification.terms)
    for term, codes, z in random:
        given[term] = (codes, z)
    return solve.prediction_variance(estimate, np.ascontiguousarray(X), given)


def _henderson(estimate: Estimate, picked: Sequence[tuple[int, int]]) -> Floats:
    """From the mixed model equations in u, b = Lambda u, which a singular Psi leaves regular.

    sigma^2 [X'WX, X'WZ Lambda; Lambda'Z'WX, Lambda'Z'WZ Lambda + I]^-1
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    spec = estimate.specification
    w = np.ones(spec.n) if spec.weights is None else spec.weights
    roots = [_root(psi) / estimate.sigma for psi in estimate.covariances]
    columns, starts = [sparse.csr_matrix(spec.X)], []
    p = start = spec.X.shape[1]
    lefts = []
    for term, root in zip(spec.terms, roots, strict=True):
        factor = spec.factors[term.factor]
        left = np.eye(factor.n_levels) if term.kernel is None else _root(term.kernel)
        starts.append(start)
        lefts.append(left)
        columns.append(_columns(factor.codes, term.z @ root, left))
        start += factor.n_levels * term.size
    A = sparse.hstack(columns).tocsr()
    ridge = np.concatenate([np.zeros(p), np.ones(start - p)])
    M = (A.T @ A.multiply(w[:, None]) + sparse.diags(ridge)).tocsc()
    selected = np.zeros((p + sum(spec.terms[t].size for t, _ in picked), start))
    selected[:p, :p] = np.eye(p)
    at, unseen = p, np.zeros((len(selected), len(selected)))
    for t, level in picked:
        r = spec.terms[t].size
        rows = slice(at, at + r)
        if level < 0:
            unseen[rows, rows] = estimate.covariances[t]
        else:
            whole = np.kron(lefts[t][level], roots[t])
            selected[rows, starts[t] : starts[t] + whole.shape[1]] = whole
        at += r
    solved = splu(M).solve(np.ascontiguousarray(selected.T))
    return np.asarray(estimate.sigma**2 * selected @ solved + unseen)


def _columns(codes: Ints, z: Floats, left: Floats) -> Any:
    """Z Lambda, (n, q r): level by level, the columns of a level together."""
    from scipy import sparse

    n, r = z.shape
    indicator = sparse.csr_matrix((np.ones(n), (np.arange(n), codes)), shape=(n, len(left)))
    levels = (indicator @ sparse.csr_matrix(left)).tocoo()
    rows = np.repeat(levels.row, r)
    places = np.repeat(levels.col, r) * r + np.tile(np.arange(r), len(levels.row))
    values = np.repeat(levels.data, r) * z[levels.row].ravel()
    return sparse.csr_matrix((values, (rows, places)), shape=(n, len(left) * r))


def _root(matrix: Floats) -> Floats:
    """Symmetric square root of a matrix that may be singular."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
