"""How good predictions were: scores of responses that the fit had not seen.

All are negatively or positively oriented as usual: the log score is the log density (more is
better), the continuous ranked probability score, the Brier score and squared errors are losses
(Gneiting & Raftery 2007, J. Am. Stat. Assoc. 102).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranef import _core
from ranef.errors import ModelError
from ranef.families import Family
from ranef.families.links import normal_density, normal_probability
from ranef.questions.selection.integrated import Predicted, joint_log_density, row_mixture

__all__ = [
    "SCORES",
    "Rowwise",
    "Summed",
    "check_scores",
    "generalised_rows",
    "joint_logs",
    "linear_rows",
    "scores_of",
    "summed",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SCORES = ("log", "crps", "brier", "rmse")
NEEDS = {
    "crps": "the CRPS is for numbers and for categories with an order",
    "brier": "the Brier score is for probabilities of events and categories",
    "rmse": "the root mean squared error is for numbers and events",
}
RESPONSES = {
    "numbers": "numbers",
    "successes": "events",
    "categories": "categories without an order",
    "interval": "known up to an interval",
}
CATEGORIES = ("ordered categories", "categories")
DRAWN = 400


@dataclass(frozen=True, eq=False)
class Rowwise:
    """Losses of single rows.

    Attributes
    ----------
    mean : (m,) float64 array
        What was predicted.
    observed : (m,) float64 array
        On the same scale: of trials the share of successes.
    crps, brier : (m,) float64 array or None
    """

    mean: Floats
    observed: Floats
    crps: Floats | None = None
    brier: Floats | None = None

    def loss(self, score: str) -> Floats:
        """Of each row: squared errors for ``"rmse"``."""
        if score == "rmse":
            return (self.observed - self.mean) ** 2
        found = self.crps if score == "crps" else self.brier
        assert found is not None
        return found


def linear_rows(y: Floats, mean: Floats, sd: Floats) -> Rowwise:
    """Losses of normal predictions; the CRPS in closed form (Gneiting & Raftery 2007, eq. 21)."""
    z = (y - mean) / sd
    crps = sd * (z * (2 * normal_probability(z) - 1) + 2 * normal_density(z) - 1 / np.sqrt(np.pi))
    return Rowwise(mean, y, crps)


def generalised_rows(
    family: Family,
    core: _core.Family,
    y: Floats,
    extra: Floats | None,
    found: Sequence[Predicted],
    scores: Sequence[str],
    *,
    zero: bool,
) -> Rowwise:
    """Losses of a generalised model's predictions, its predictors integrated over."""
    if family.response in CATEGORIES:
        return _categories(family, y, found)
    together = Predicted(
        np.concatenate([one.rows for one in found]),
        np.hstack([one.etas for one in found]),
        np.concatenate([one.variances for one in found]),
    )
    mixture = row_mixture(together)
    successes = family.response == "successes"
    trials = 1.0 if extra is None or not successes else extra
    means = np.stack([family.mean(eta, extra, zero=zero) for eta in mixture.etas])
    mean, observed = mixture.weights @ means / trials, y / trials
    brier = (observed - mean) ** 2 if successes else None
    crps = _drawn_crps(family, y, extra, together, zero) / trials if "crps" in scores else None
    return Rowwise(mean, observed, crps, brier)


def _categories(family: Family, y: Floats, found: Sequence[Predicted]) -> Rowwise:
    """Losses of probabilities of categories.

    The Brier score is the sum of squares over the categories, the ranked probability score that
    over the cuts between them, which is the CRPS of the categories' numbers (Epstein 1969).
    """
    p = np.vstack([_probabilities(family, one) for one in found])
    seen = np.eye(p.shape[1])[y.astype(np.intp)]
    gaps = np.cumsum(p - seen, axis=1)[:, :-1]
    unknown = np.full(len(y), np.nan)
    return Rowwise(unknown, unknown, np.sum(gaps**2, axis=1), np.sum((p - seen) ** 2, axis=1))


def _probabilities(family: Family, found: Predicted) -> Floats:
    """Probabilities (m, J) of the categories of each row by itself."""
    if found.thresholds is not None:
        mixture = row_mixture(found)
        each = [family.mean(np.vstack([eta[:1], found.thresholds])) for eta in mixture.etas]
        return np.asarray(np.tensordot(mixture.weights, np.stack(each), axes=1))
    z = np.random.default_rng(0).standard_normal((DRAWN // 2, found.uncertain))
    draws = np.vstack([z, -z])
    out = np.empty((len(found.rows), found.uncertain + 1))
    for i, one in enumerate(found.each()):
        values, vectors = np.linalg.eigh(one.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        out[i] = family.mean(one.etas + root @ draws.T).mean(axis=0)
    return out


def _drawn_crps(
    family: Family, y: Floats, extra: Floats | None, found: Predicted, zero: bool
) -> Floats:
    """E|Y - y| - E|Y - Y'| / 2 by draws of the response, their predictors stratified."""
    rng = np.random.default_rng(0)
    m = len(y)
    sd = np.sqrt(np.maximum(found.variances, 0.0))
    ranks = (rng.permuted(np.tile(np.arange(DRAWN), (m, 1)), axis=1).T + rng.random((DRAWN, m))) / (
        DRAWN
    )
    from scipy.special import ndtri

    etas = np.repeat(found.etas[:, None], DRAWN, axis=1)
    etas[0] = found.etas[0] + ndtri(np.clip(ranks, 1e-12, 1 - 1e-12)) * sd
    many = None if extra is None else np.tile(extra, DRAWN)
    wide = np.ascontiguousarray(etas.reshape(len(etas), -1))
    drawn = np.sort(family.simulate(rng, wide, many, zero=zero).reshape(DRAWN, m), axis=0)
    weight = (2 * np.arange(1, DRAWN + 1) - DRAWN - 1) / (DRAWN * (DRAWN - 1))
    return np.asarray(np.abs(drawn - y).mean(axis=0) - weight @ drawn)


def joint_logs(
    core: _core.Family,
    y: Floats,
    extra: Floats | None,
    weights: Floats | None,
    found: Sequence[Predicted],
) -> Floats:
    """Log density (G,) of sets of rows, of each set together."""
    out = np.empty(len(found))
    for k, one in enumerate(found):
        own = one.rows
        out[k] = joint_log_density(
            core,
            y[own],
            None if extra is None else extra[own],
            None if weights is None else weights[own],
            one if one.covariance.ndim == 2 else replace(one, covariance=np.diag(one.covariance)),
        )
    return out


@dataclass(frozen=True, eq=False)
class Summed:
    """A score over all units.

    Attributes
    ----------
    value : float
        The sum of log densities, a mean loss, or the root of a mean of squares.
    std_error : float
        As the units are drawn from more of their kind.
    """

    value: float
    std_error: float


def summed(score: str, by_unit: Floats, rows: NDArray[np.integer]) -> Summed:
    """Sum up a score.

    Parameters
    ----------
    score : str
    by_unit : (G,) array
        Log densities, or sums of losses over the rows of a unit.
    rows : (G,) array
        Rows of each unit.
    """
    G = len(by_unit)
    if score == "log":
        spread = float(np.std(by_unit, ddof=1)) if G > 1 else np.nan
        return Summed(float(by_unit.sum()), float(np.sqrt(G)) * spread)
    mean = float(by_unit.sum() / rows.sum())
    rest = by_unit - mean * rows
    error = float(np.sqrt(G / max(G - 1, 1) * np.sum(rest**2))) / float(rows.sum())
    if G < 2:
        error = np.nan
    if score == "rmse":
        root = float(np.sqrt(mean))
        return Summed(root, error / (2 * root) if root > 0 else np.nan)
    return Summed(mean, error)


def check_scores(family: Family, scores: Sequence[str]) -> None:
    """Refuse scores that a response has not."""
    known = scores_of(family)
    for score in scores:
        if score in known:
            continue
        raise ModelError(
            f"{NEEDS[score]}, and a {family.name} response is "
            f"{RESPONSES.get(family.response, family.response)}; use score="
            f"{' or '.join(map(repr, known))}"
        )


def scores_of(family: Family) -> tuple[str, ...]:
    """Names of the scores of a response."""
    return {
        "successes": SCORES,
        "ordered categories": ("log", "crps", "brier"),
        "categories": ("log", "brier"),
        "interval": ("log",),
    }.get(family.response, ("log", "crps", "rmse"))
