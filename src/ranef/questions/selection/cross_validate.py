"""`cross_validate`: how well a model predicts rows that it has not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Level, Listing, Significant, unprinted
from ranef.display.page import Paragraph
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, Refittable, require
from ranef.models.priors import refuse_penalised
from ranef.questions.selection.folding import BY, Folding, folded
from ranef.questions.selection.held_out import UnitScores, fold_scores
from ranef.questions.selection.scores import SCORES, check_scores, scores_of, summed

__all__ = ["CrossValidation", "cross_validate"]

Floats = NDArray[np.float64]

NAMES = {
    "log": "log density, summed",
    "crps": "CRPS, mean",
    "brier": "Brier score, mean",
    "rmse": "root mean squared error",
}
QUESTIONS = {
    "group": "new groups (focus: population); the random effects of a group are integrated out, "
    "and its rows are scored together",
    "row": "new rows of known groups (focus: individual)",
    "future": "the next rows of known groups (focus: individual)",
}


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Answer):
    """Scores of predictions of rows left out; `cross_validate` makes it.

    Attributes
    ----------
    formula : str
    folding : Folding
        What was left out together.
    scored : UnitScores
        Scores by unit: a group, a row, or a stretch of time in a group.
    scores : tuple of str
    failed : int
        Folds whose fit failed.
    library : str
    """

    formula: str
    folding: Folding
    scored: UnitScores
    scores: tuple[str, ...]
    failed: int
    library: str
    title: ClassVar[str] = "Cross-validation"

    @property
    def by(self) -> str:
        """What was left out: ``"group"``, ``"row"`` or ``"future"``."""
        return self.folding.by

    @property
    def focus(self) -> str:
        """``"population"`` or ``"individual"``."""
        return self.folding.focus

    def tidy(self, what: str = "scores") -> Any:
        """Return the scores, or those of each unit.

        Parameters
        ----------
        what : {"scores", "units"}

        Returns
        -------
        table
            ``score, estimate, std_error, n_units``; or ``unit, rows, log`` and the losses,
            the root of the mean of squares for ``rmse``.
        """
        return self.tabled(self.listing(what))

    def tables(self) -> tuple[Listing, ...]:
        found = [summed(name, self._by_unit(name), self.scored.rows) for name in self.scores]
        U = len(self.scored.units)
        scores = (
            Column("score", list(self.scores), printed=False),
            Column("name", [NAMES[name] for name in self.scores], heading="", tabled=False),
            Column("estimate", [one.value for one in found], Significant(5)),
            Column("std_error", [one.std_error for one in found], Significant(3), "std. error"),
            *unprinted(n_units=[U] * len(found)),
        )
        labels = [self.folding.labels[int(u)] for u in self.scored.units]
        losses = {
            name: np.sqrt(sums / self.scored.rows) if name == "rmse" else sums / self.scored.rows
            for name, sums in self.scored.losses.items()
        }
        units = (
            Column("unit", labels, Level(), printed=False),
            *unprinted(rows=self.scored.rows, log=self.scored.logs, **losses),
        )
        return Listing("scores", scores), Listing("units", units)

    def _by_unit(self, name: str) -> Floats:
        return self.scored.logs if name == "log" else self.scored.losses[name]

    def body(self) -> Iterable[Part]:
        yield self.listing("scores")
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        what = {"group": f"levels of {self.folding.group}", "row": "rows"}.get(self.by, "stretches")
        lines = [
            f"{self.formula}: prediction of {QUESTIONS[self.by]}. "
            f"{len(self.scored.units):,} {what} in {len(self.folding.folds):,} folds, the model "
            "refitted without each."
        ]
        if self.failed:
            lines.append(f"{self.failed:,} folds could not be fitted, and are left out.")
        return tuple(lines)


def cross_validate(
    fit: MixedFit,
    by: str = "group",
    *,
    folds: int | None = None,
    score: str | Sequence[str] = "log",
    group: Any = None,
    time: Any = None,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> CrossValidation:
    """Score a model by rows that it has not seen: the model is fitted without them.

    Parameters
    ----------
    fit : fit of `lmm` or `glmm`
    by : {"group", "row", "future"}
        What is left out.

        - group: whole groups. Is the model good for new groups? A group's density is the
          integral over its random effects, of its rows together.
        - row: rows, whose groups have others. Is it good for these groups?
        - future: rows from a time on, predicted from all rows before it.
    folds : int, optional
        Parts in which the groups or rows are left out, 10 by default, or as many as there are
        groups; of the future the number of times from which it is predicted, 5.
    score : {"log", "crps", "brier", "rmse"}, list of these, or "all"
        Log density of what was observed (more is better); continuous ranked probability score,
        Brier score (of events), root mean squared error (less is better). Of ordered categories
        ``"crps"`` is the ranked probability score, and Brier scores of categories are sums over
        these; ``"all"`` has those that the response has.
    group : str or array, optional
        Whose levels are new groups, where the model has several factors of which none holds
        all others.
    time : str or array, optional
        What orders the rows, for the future.
    rng : int or numpy.random.Generator
        Of the folds.
    n_jobs : int, optional
        Threads; None for all this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    CrossValidation
        `tidy` has each score with its standard error, over units: ``tidy("units")``.

    Raises
    ------
    ranef.errors.ModelError
        The scores or groups do not fit the model.

    Notes
    -----
    Predictive distributions carry the uncertainty of the coefficients and random effects, with
    the variance parameters at their estimates from the rows kept. In generalised models the
    random effects of the mean are integrated over; those of other parts (a zero part, a
    dispersion) stand at their modes, at zero for new levels.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranef.cross_validate(fit, by="group", folds=6).tidy().round(1)
      score  estimate  std_error  n_units
    0   log    -893.9       29.8       18
    """
    require(fit, "cross_validate()", Likelihood, Refittable)
    refuse_penalised(fit.estimate, "cross_validate()")
    by = arguments.choice("by", by, BY)
    scores = read_scores(fit, score)
    folding = folded(
        fit,
        by,
        folds=None if folds is None else arguments.count("folds", folds),
        group=group,
        time=time,
        rng=arguments.generator(rng),
    )
    return scored_folds(fit, folding, scores, n_jobs=n_jobs, progress=progress)


def read_scores(fit: MixedFit, score: str | Sequence[str]) -> tuple[str, ...]:
    """Read names of scores."""
    if score == "all":
        score = scores_of(fit.family)
    given = (score,) if isinstance(score, str) else tuple(score)
    if not given:
        raise ModelError(f"score names no score; there are {', '.join(SCORES)}")
    scores = tuple(dict.fromkeys(arguments.choice("score", name, SCORES) for name in given))
    check_scores(fit.family, scores)
    return scores


def scored_folds(
    fit: MixedFit,
    folding: Folding,
    scores: Sequence[str],
    *,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> CrossValidation:
    """Score one fit on folds that are cut already."""
    jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
    shown = arguments.optional_flag("progress", progress)

    def track(answers: Iterable[Any]) -> Iterable[Any]:
        return arriving(answers, len(folding.folds), "cross-validating", shown)

    scored, failed = fold_scores(fit.estimate, folding.folds, scores, n_jobs=jobs, track=track)
    return CrossValidation(fit.formula, folding, scored, tuple(scores), failed, fit.frame.library)
