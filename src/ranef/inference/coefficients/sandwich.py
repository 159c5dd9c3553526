"""Cluster-robust covariance of coefficients: what it answers, and the sandwich of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives import generalised
from ranef.derivatives.scores import cluster_scores
from ranef.errors import ModelError
from ranef.inference.coefficients.wald import FTest, f_tail, independent_rows, scaled_rank
from ranef.models.priors import refuse_penalised
from ranef.models.records import GeneralisedEstimate

__all__ = ["Sandwich", "ScoreSandwich", "score_influences", "score_sandwich"]

Floats = NDArray[np.float64]

TYPES = ("CR0", "CR1")


class Sandwich(Protocol):
    """A cluster-robust covariance of coefficients with the tests that go with it."""

    made_of: ClassVar[str]
    """``"residuals"``, corrected by their covariance, or ``"scores"`` of the clusters."""

    @property
    def type(self) -> str: ...
    @property
    def n_clusters(self) -> int: ...
    @property
    def vcov(self) -> Floats: ...
    def degrees_of_freedom(self, L: Floats) -> Floats:
        """Degrees of freedom (q,) of the t test of each row of L (q, P)."""

    def f_test(self, L: Floats, rhs: Floats | None = None) -> FTest:
        """Test L coefficients = rhs, all rows at once."""


@dataclass(frozen=True, eq=False)
class ScoreSandwich:
    """The sandwich of the scores of clusters.

    Attributes
    ----------
    type : str
    n_clusters : int
    coefficients : (P,) float64 array
    vcov : (P, P) float64 array
    """

    type: str
    n_clusters: int
    coefficients: Floats
    vcov: Floats

    made_of: ClassVar[str] = "scores"

    def degrees_of_freedom(self, L: Floats) -> Floats:
        """One less than there are clusters, for each row of L (q, P)."""
        return np.full(len(np.atleast_2d(L)), self.n_clusters - 1.0)

    def f_test(self, L: Floats, rhs: Floats | None = None) -> FTest:
        """Wald's statistic over q, on q and clusters minus one degrees of freedom."""
        basis, target = independent_rows(len(self.coefficients), L, rhs)
        gap = basis @ self.coefficients - target
        covariance = basis @ self.vcov @ basis.T
        q = len(basis)
        if scaled_rank(covariance) < q or self.n_clusters <= q:
            raise ModelError(
                f"{self.n_clusters} clusters are too few to test {q} hypotheses at once, or some "
                "are about coefficients that are held; test fewer"
            )
        statistic = float(gap @ np.linalg.solve(covariance, gap)) / q
        return f_tail(statistic, q, self.n_clusters - 1.0)


def score_sandwich(
    estimate: GeneralisedEstimate, codes: NDArray[np.intp], kind: str
) -> ScoreSandwich:
    """Covariance (P, P) of all coefficients: H^-1 (sum_i s_i s_i') H^-1.

    s_i is the gradient of the (approximate) marginal log-likelihood of cluster i in
    coefficients and theta, H minus its second derivatives (White 1982; Liang & Zeger
    1986). CR1 multiplies by m / (m - 1), m the number of clusters.
    """
    if kind not in TYPES:
        raise ModelError(
            f"{kind} corrects residuals by their covariance in a linear model; a generalised model "
            "has scores instead, for which only CR0 and CR1 are defined"
        )
    refuse_penalised(estimate, "robust")
    if estimate.sampling is not None:
        raise ModelError(
            "the errors of a fit with sampling_weights are those of a sandwich already, by the "
            "levels of its grouping factor: see tidy()"
        )
    if estimate.reml:
        raise ModelError(
            "the scores are those of the likelihood, and this fit is by restricted likelihood; "
            "fit it with reml=False"
        )
    moves = score_influences(estimate, codes)[:, : len(estimate.coefficients)]
    m = len(moves)
    factor = m / (m - 1) if kind == "CR1" else 1.0
    vcov = np.asarray(factor * (moves.T @ moves), dtype=np.float64)
    return ScoreSandwich(kind, m, estimate.coefficients, vcov)


def score_influences(estimate: GeneralisedEstimate, codes: NDArray[np.intp]) -> Floats:
    """What each cluster moves coefficients and theta by, H^-1 s_i, (m, P + k)."""
    scores = cluster_scores(estimate, codes)
    hessian, free = generalised.joint_hessian(estimate)
    inverse = np.zeros_like(hessian)
    keep = np.ix_(free, free)
    try:
        inverse[keep] = 2 * np.linalg.inv(hessian[keep])
    except np.linalg.LinAlgError:
        raise ModelError(
            "the second derivatives of the likelihood are singular, so that no covariance of the "
            "estimates can be made of them; fit a simpler model"
        ) from None
    moves = scores @ inverse
    M = estimate.design.constraints.free(len(estimate.coefficients)).M
    count = M.shape[1]
    return np.hstack([moves[:, :count] @ M.T, moves[:, count:]])
