"""A model of dropout, and inverse probabilities of being seen as weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families.links import expit

__all__ = ["Dropout", "fit_dropout"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

STEPS = 50
TOLERANCE = 1e-12
LARGEST = 12.0


@dataclass(frozen=True, eq=False)
class Dropout:
    """A logistic model of being seen at a time, given that one was seen at all before.

    Attributes
    ----------
    formula : str
    names : tuple of str
    coefficients : (q,) array
    covariance : (q, q) array
        Inverse of the information.
    scores : (K, q) array
        Of each cluster.
    slopes : (n, q) array
        Derivatives of the rows' weights in the coefficients.
    weights : (n,) array
        1 / P(seen up to here) of rows that were seen, 0 of others.
    unseen : int
        Rows that were planned and not seen, or came after one that was not.
    """

    formula: str
    names: tuple[str, ...]
    coefficients: Floats
    covariance: Floats
    scores: Floats
    slopes: Floats
    weights: Floats
    unseen: int

    def in_order(self, order: Ints) -> Dropout:
        """Weights and slopes of sorted rows in the order that the rows had."""
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return replace(self, weights=self.weights[back], slopes=self.slopes[back])


def fit_dropout(
    formula: str,
    names: tuple[str, ...],
    Z: Floats,
    seen_here: Floats,
    rows: Ints,
    begins: NDArray[np.bool_],
    seen: NDArray[np.bool_],
) -> Dropout:
    """Fit the model and make weights.

    Parameters
    ----------
    Z, seen_here : (m, q) and (m,) arrays
        Predictors of the rows at risk, and whether they were seen.
    rows : (m,) array
        Which of the n sorted rows these are.
    begins, seen : (n,) bool arrays
        First rows of clusters; rows that were seen with all before them.
    """
    gamma, information = _logistic(Z, seen_here, names)
    chance = expit(Z @ gamma)
    n, q = len(begins), len(gamma)
    group = np.cumsum(begins) - 1
    log_chance, lost = np.zeros(n), np.zeros((n, q))
    log_chance[rows] = np.log(chance)
    lost[rows] = (1 - chance)[:, None] * Z
    weights = np.where(seen, np.exp(-_running(log_chance, begins, group)), 0.0)
    slopes = -weights[:, None] * _running(lost, begins, group)
    scores = np.zeros((group[-1] + 1, q))
    np.add.at(scores, group[rows], (seen_here - chance)[:, None] * Z)
    return Dropout(
        formula, names, gamma, np.asarray(np.linalg.inv(information)), scores, slopes, weights,
        int(np.count_nonzero(~seen)),
    )  # fmt: skip


def _running(values: Floats, begins: NDArray[np.bool_], group: Ints) -> Floats:
    """Sums of the rows up to each, within clusters."""
    total = np.cumsum(values, axis=0)
    return np.asarray(total - (total - values)[begins][group])


def _logistic(Z: Floats, y: Floats, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Coefficients and information of a logistic regression."""
    gamma = np.zeros(Z.shape[1])
    for _ in range(STEPS):
        p = expit(Z @ gamma)
        information = Z.T @ ((p * (1 - p))[:, None] * Z)
        move = np.linalg.lstsq(information, Z.T @ (y - p), rcond=None)[0]
        gamma = gamma + move
        if float(move @ information @ move) < TOLERANCE:
            break
    if np.abs(Z @ gamma).max() > LARGEST or y.all() or not y.any():
        raise ModelError(
            "the model of dropout separates those who are seen from those who are not, along "
            f"{', '.join(names)}: some rows could never have been seen; take a simpler dropout="
        )
    p = expit(Z @ gamma)
    return gamma, np.asarray(Z.T @ ((p * (1 - p))[:, None] * Z))
