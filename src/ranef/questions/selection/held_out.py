"""Scores of rows that a model has not seen, unit by unit: closed forms, refits, and folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import RanefError
from ranef.families import Multinomial
from ranef.inference.rows.targets import has_zero
from ranef.models.records import Estimate, GeneralisedEstimate, LinearEstimate, as_generalised
from ranef.questions.selection.integrated import Predicted
from ranef.questions.selection.left_out import (
    LeftOut,
    LinearModel,
    left_out,
    log_densities,
    rows_of,
)
from ranef.questions.selection.scores import generalised_rows, joint_logs, linear_rows
from ranef.questions.selection.unseen import left_predicted, trained
from ranef.solve.resources import available_cores, in_threads

__all__ = ["Fold", "UnitScores", "closed_form", "fold_scores", "refitted_sets"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Codes = NDArray[np.integer]
Track = Callable[[Iterable["UnitScores | None"]], Iterable["UnitScores | None"]]


@dataclass(frozen=True, eq=False)
class UnitScores:
    """Scores of U units, which were predicted without being seen.

    Attributes
    ----------
    units : (U,) int array
        Their numbers.
    rows : (U,) int array
        How many rows each has.
    logs : (U,) float64 array
        Log density of its rows together.
    losses : dict of (U,) float64 arrays
        Sums over its rows, by name of the score.
    left : LeftOut or None
        Of a linear model in closed form.
    """

    units: Ints
    rows: Ints
    logs: Floats
    losses: dict[str, Floats]
    left: LeftOut | None = None

    @classmethod
    def joined(cls, parts: Sequence[UnitScores]) -> UnitScores:
        """Several together, by unit."""
        units = np.concatenate([part.units for part in parts])
        order = np.argsort(units, kind="stable")
        names = list(parts[0].losses) if parts else []
        return cls(
            units[order],
            np.concatenate([part.rows for part in parts])[order],
            np.concatenate([part.logs for part in parts])[order],
            {k: np.concatenate([part.losses[k] for part in parts])[order] for k in names},
        )


@dataclass(frozen=True, eq=False)
class Fold:
    """One part of a cross-validation.

    Attributes
    ----------
    keep : (n,) bool array
        Rows that the model is fitted to.
    units : (u,) int array
        Numbers of the units that are predicted.
    sets : list of (m,) int arrays
        Their rows.
    """

    keep: NDArray[np.bool_]
    units: Ints
    sets: list[Ints]


def closed_form(estimate: Estimate, sets: Codes, scores: Sequence[str]) -> UnitScores:
    """Leave out each set at the variance parameters of the fit to all rows."""
    numbers = np.arange(int(sets.max(initial=-1)) + 1)
    generalised = as_generalised(estimate)
    if generalised is not None:
        return _generalised(generalised, numbers, left_predicted(generalised, sets), scores)
    assert isinstance(estimate, LinearEstimate)
    found = left_out(LinearModel.of(estimate), sets)
    return _linear(estimate, numbers, found, estimate.sigma, scores)


def refitted_sets(
    estimate: Estimate,
    sets: Codes,
    scores: Sequence[str],
    *,
    n_jobs: int | None = None,
    track: Track = iter,
) -> tuple[UnitScores, int]:
    """Fit the model without each set in turn; the scores, and how many fits failed."""
    folds = [Fold(sets != g, np.array([g]), [rows]) for g, rows in enumerate(rows_of(sets))]
    return fold_scores(estimate, folds, scores, n_jobs=n_jobs, track=track)


def fold_scores(
    estimate: Estimate,
    folds: Sequence[Fold],
    scores: Sequence[str],
    *,
    n_jobs: int | None = None,
    track: Track = iter,
) -> tuple[UnitScores, int]:
    """Fit the model to the rows kept by each fold and score its units."""

    def one(fold: Fold) -> UnitScores | None:
        try:
            return _scored(estimate, fold, scores)
        except (RanefError, np.linalg.LinAlgError):
            return None

    answers = list(track(in_threads(one, folds, available_cores(n_jobs))))
    if not any(answers):  # all failed: say why
        found = [_scored(estimate, folds[0], scores)]
        return UnitScores.joined(found), len(folds) - 1
    found = [answer for answer in answers if answer is not None]
    return UnitScores.joined(found), len(folds) - len(found)


def _scored(estimate: Estimate, fold: Fold, scores: Sequence[str]) -> UnitScores:
    model = trained(estimate, fold.keep)
    singles = all(len(rows) == 1 for rows in fold.sets)
    spec = estimate.specification
    if as_generalised(estimate) is not None:
        assert isinstance(estimate, GeneralisedEstimate)
        if not singles:
            return _generalised(estimate, fold.units, model.generalised(fold.sets), scores)
        if isinstance(estimate.family, Multinomial):
            return _generalised(estimate, fold.units, model.generalised(fold.sets), scores)
        (every,) = model.generalised([np.concatenate(fold.sets)], joint=False)
        return _generalised(estimate, fold.units, every.each(), scores)
    if not singles:
        found, sigma = model.linear(fold.sets)
        return _linear(estimate, fold.units, found, sigma, scores)
    rows = np.concatenate(fold.sets)
    mean, sd = model.linear_rows(rows)
    rest = [np.array([e]) for e in spec.y[rows] - mean]
    return _linear(
        estimate,
        fold.units,
        LeftOut(fold.sets, rest, [np.array([[v]]) for v in sd**2]),
        1.0,
        scores,
    )


def _linear(
    estimate: Estimate, units: Ints, found: LeftOut, sigma: float, scores: Sequence[str]
) -> UnitScores:
    y = estimate.specification.y
    sizes = np.array([len(rows) for rows in found.rows])
    rows, rest = np.concatenate(found.rows), np.concatenate(found.rest)
    sd = sigma * np.sqrt(np.concatenate([np.diag(S) for S in found.covariance]))
    each = linear_rows(y[rows], y[rows] - rest, sd)
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    losses = {name: np.add.reduceat(each.loss(name), firsts) for name in scores if name != "log"}
    return UnitScores(units, sizes, log_densities(found, sigma), losses, found)


def _generalised(
    estimate: GeneralisedEstimate, units: Ints, found: Sequence[Predicted], scores: Sequence[str]
) -> UnitScores:
    spec, core = estimate.specification, estimate.design.family
    logs = joint_logs(core, spec.y, estimate.extra, spec.weights, found)
    sizes = np.array([len(one.rows) for one in found])
    wanted = [name for name in scores if name != "log"]
    losses: dict[str, Floats] = {}
    if wanted:
        rows = np.concatenate([one.rows for one in found])
        extra = None if estimate.extra is None else estimate.extra[rows]
        each = generalised_rows(
            estimate.family, core, spec.y[rows], extra, found, wanted, zero=has_zero(estimate)
        )
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        losses = {name: np.add.reduceat(each.loss(name), firsts) for name in wanted}
    return UnitScores(units, sizes, logs, losses)
