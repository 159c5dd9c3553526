"""One level's own answers: fixed effects and the random effects of given levels, together.

Any linear function of beta and of the effects b of some levels has its prediction error
variance from one matrix,

    Var [beta_hat - beta; b_hat - b],

which counts the covariance of the two (Henderson 1975, Biometrics 31) and how both move
with the variance parameters, as a prediction of one row does (`inference.prediction`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import joint_errors
from ranef.inference.coefficients.covariance import joint_covariance
from ranef.inference.coefficients.degrees import combined_degrees
from ranef.inference.coefficients.functions import Knowledge, wald_test
from ranef.inference.coefficients.parameters import ParameterCovariance
from ranef.inference.coefficients.wald import FTest, f_tail
from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.joint_posterior import by_parameters, generalised_posterior
from ranef.inference.rows.parts import LinearPart
from ranef.inference.rows.prediction import by_theta, degrees
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate

__all__ = ["UnitFunctions", "generalised_unit", "linear_unit"]

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
    degrees : callable
        Degrees of freedom (q,) of functions L (q, K): those of predictions.
    """

    value: Floats
    jacobian: Floats
    covariance: Floats
    degrees: Callable[[Floats], Floats]

    def joint(self, L: Floats, value: Floats) -> FTest:
        """Test that independent functions L (q, K) with these values are zero."""
        normal = wald_test(L, value, self.covariance)
        _, vectors = np.linalg.eigh(L @ self.covariance @ L.T)
        df2 = combined_degrees(self.degrees(vectors.T @ L))
        return f_tail(normal.statistic, normal.df1, df2)

    @property
    def knowledge(self) -> Knowledge:
        return Knowledge(self.covariance, self.degrees, self.joint)


def linear_unit(
    estimate: LinearEstimate, part: LinearPart, known: ParameterCovariance
) -> UnitFunctions:
    """Evaluate rows with the random effects of their levels.

    Parameters
    ----------
    estimate : LinearEstimate
    part : LinearPart
        The rows: X with its columns among the coefficients, and the random terms that
        count, by level. Code -1 is a level that the fit has not seen: its effect is
        zero, and its variance counts.
    known : ParameterCovariance
    """
    value, jacobian, basis = _evaluated(estimate, part)
    given = joint_errors.error_covariance(estimate, basis.X, basis.random)
    slopes = joint_errors.error_covariance_derivatives(estimate, basis.X, basis.random)[known.free]
    d = by_theta(estimate, basis.X, basis.random)[:, known.free]
    spread = given + d @ known.covariance[:-1, :-1] @ d.T

    def degrees_of(L: Floats) -> Floats:
        variance = np.sum(L @ given * L, axis=1)
        return degrees(estimate, known, np.einsum("qi,fij,qj->qf", L, slopes, L), variance)

    return UnitFunctions(value, jacobian, spread, degrees_of)


def generalised_unit(estimate: GeneralisedEstimate, part: LinearPart) -> UnitFunctions:
    """Do the same for a generalised model, whose tests are normal."""
    value, jacobian, basis = _evaluated(estimate, part)
    given = generalised_posterior(estimate, basis, "parameters").covariance()
    given += joint_errors.unseen_covariance(estimate.covariances, basis.random)
    J = by_parameters(estimate, basis)
    spread = given + J @ joint_covariance(estimate) @ J.T
    return UnitFunctions(value, jacobian, spread, lambda L: np.full(len(L), np.inf))


def _evaluated(estimate: Estimate, part: LinearPart) -> tuple[Floats, Floats, Combinations]:
    """Values (N,), derivatives (N, K), and the K parameters as combinations."""
    P, N = len(estimate.coefficients), len(part.X)
    fixed = np.zeros((N, P))
    fixed[:, part.columns] = part.X
    value = fixed @ estimate.coefficients
    if part.offset is not None:
        value = value + part.offset
    blocks, picked = [fixed], []
    for term, codes, z in part.random:
        for level in np.unique(codes):
            own = np.where((codes == level)[:, None], z, 0.0)
            blocks.append(own)
            picked.append((term, int(level)))
            if level >= 0:
                value = value + own @ estimate.modes[term][level]
    return value, np.hstack(blocks), _basis(estimate, P, picked)


def _basis(estimate: Estimate, P: int, picked: list[tuple[int, int]]) -> Combinations:
    """Each coefficient and each effect of the picked levels by itself, (K,)."""
    terms = estimate.terms
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
