"""One level's own answers: fixed effects and the random effects of given levels, together.

Any linear function of beta and of the effects b of some levels has its prediction error
variance from one matrix,

    Var [beta_hat - beta; b_hat - b],

which counts the covariance of the two (Henderson 1975, Biometrics 31) and how both move
with the variance parameters, as a prediction of one row does (`inference.prediction`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import joint_errors
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.degrees import Parameters, combined_degrees
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.effects.combinations import Combinations, fixed_effects, modes_of
from ranef.inference.effects.joint_posterior import by_parameters, posterior
from ranef.inference.rows.parts import LinearPart
from ranef.inference.rows.prediction import by_theta, degrees
from ranef.models.labels import terms_of
from ranef.models.records import Estimate, GeneralisedEstimate

__all__ = ["UnitFunctions", "unit_functions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


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
    given : (K, K) float64 array
        The same given theta.
    estimate : Estimate
    known : ParameterCovariance or None
        None for a generalised model, whose tests are normal.
    slopes : (f, K, K) float64 array
        Derivatives of `given` in theta[free], sigma held.
    """

    value: Floats
    jacobian: Floats
    covariance: Floats
    given: Floats
    estimate: Estimate
    known: ParameterCovariance | None
    slopes: Floats

    def degrees(self, L: Floats) -> Floats:
        """Degrees of freedom (q,) of functions L (q, K): those of predictions."""
        if self.known is None:
            return np.full(len(L), np.inf)
        variance = np.sum(L @ self.given * L, axis=1)
        slopes = np.einsum("qi,fij,qj->qf", L, self.slopes, L)
        return degrees(self.estimate, self.known, slopes, variance)

    def denominator(self, L: Floats) -> float:
        """Denominator of the F test of independent functions L (q, K) together."""
        if self.known is None:
            return float(np.inf)
        _, vectors = np.linalg.eigh(L @ self.covariance @ L.T)
        return combined_degrees(self.degrees(vectors.T @ L))


def unit_functions(
    estimate: Estimate, part: LinearPart, parameters: Parameters | None = None
) -> UnitFunctions:
    """Evaluate rows with the random effects of their levels.

    Parameters
    ----------
    estimate : Estimate
    part : LinearPart
        The rows: X with its columns among the coefficients, and the random terms that
        count, by level. Code -1 is a level that the fit has not seen: its effect is
        zero, and its variance counts.
    parameters : callable, optional
        Gives the `ParameterCovariance` of a linear model.
    """
    coefficients, modes = fixed_effects(estimate), modes_of(estimate)
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
    jacobian, basis = np.hstack(blocks), _basis(estimate, P, picked)
    if isinstance(estimate, GeneralisedEstimate):
        given = posterior(estimate, basis, "parameters").covariance()
        given += joint_errors.unseen_covariance(estimate.term_covariances, basis.random)
        J = by_parameters(estimate, basis)
        spread = given + J @ joint_covariance(estimate) @ J.T
        return UnitFunctions(value, jacobian, spread, given, estimate, None, np.empty((0, 0, 0)))
    assert parameters is not None
    known = parameters()
    given = joint_errors.error_covariance(estimate, basis.X, basis.random)
    slopes = joint_errors.error_covariance_derivatives(estimate, basis.X, basis.random)[known.free]
    d = by_theta(estimate, basis.X, basis.random)[:, known.free]
    spread = given + d @ known.covariance[:-1, :-1] @ d.T
    return UnitFunctions(value, jacobian, spread, given, estimate, known, slopes)


def _basis(estimate: Estimate, P: int, picked: list[tuple[int, int]]) -> Combinations:
    """Each coefficient and each effect of the picked levels by itself, (K,)."""
    terms = terms_of(estimate)
    K = P + sum(terms[t].size for t, _ in picked)
    random: list[tuple[Ints, Floats] | None] = [None] * len(terms)
    at = P
    for t, level in picked:
        size = terms[t].size
        codes, z = random[t] or (np.full(K, max(level, 0), np.int32), np.zeros((K, size)))
        random[t] = codes, z
        codes[at : at + size] = level
        z[at : at + size] = np.eye(size)
        at += size
    return Combinations(np.eye(K, P), tuple(random))
