"""`leave_out`: each group, or each row, as the others predict it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Level, Listing, Significant, Written
from ranef.display.numbers import count, number
from ranef.display.page import Paragraph
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.fits.columns import groups_of, labels_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Likelihood, Refittable, require
from ranef.models.priors import refuse_penalised
from ranef.models.records import LinearEstimate
from ranef.questions.selection import held_out, importance, left_out
from ranef.questions.selection.folding import whole_group
from ranef.questions.selection.held_out import UnitScores
from ranef.questions.selection.scores import check_scores, scores_of, summed

__all__ = ["LeaveOut", "leave_out"]

Floats = NDArray[np.float64]

METHODS = ("closed", "psis")
QUICK = 20_000
"""Rows up to which the optimism is worked out unasked."""
CHECKED = 20
"""Sets that are fitted without, to know the optimism of a generalised model."""
MOST_PRINTED = 8


@dataclass(frozen=True, eq=False, repr=False)
class LeaveOut(Answer):
    """Densities of groups or rows that were left out; `leave_out` makes it.

    Attributes
    ----------
    fit : fit
    by : str
        Name of the groups, or ``"row"``.
    labels : list
    sets : (n,) int array
        Group of each row.
    scored : UnitScores
    method : str
        ``"closed"``, ``"refit"`` or ``"psis"``.
    failed : int
        Refits that failed.
    pareto_k : (G,) float64 array or None
        Shapes of the importance weights, of ``"psis"``.
    """

    fit: MixedFit
    by: str
    labels: list[Any]
    sets: NDArray[np.intp]
    scored: UnitScores
    method: str
    failed: int = 0
    pareto_k: Floats | None = None
    title: ClassVar[str] = "Leave-one-out"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    @property
    def focus(self) -> str:
        """``"population"`` where whole groups are left out, else ``"individual"``."""
        return "individual" if self.by == "row" else "population"

    @property
    def elpd(self) -> float:
        """Sum of the log densities."""
        return summed("log", self.scored.logs, self.scored.rows).value

    @property
    def std_error(self) -> float:
        """Of `elpd`, over the groups or rows."""
        return summed("log", self.scored.logs, self.scored.rows).std_error

    @property
    def rmse(self) -> float:
        """Root of the mean squared error of the rows left out.

        NaN of importance samples and of categories.
        """
        if "rmse" not in self.scored.losses:
            return float("nan")
        return summed("rmse", self.scored.losses["rmse"], self.scored.rows).value

    @cached_property
    def _optimism(self) -> tuple[float, float]:
        """How much `elpd` is flattered, and the Monte Carlo error of that."""
        estimate = self.fit.estimate
        if self.method != "closed":
            return 0.0, 0.0
        if isinstance(estimate, LinearEstimate):
            assert self.scored.left is not None
            return left_out.optimism(estimate, self.sets, self.scored.left), 0.0
        G = len(self.scored.units)
        chosen = np.sort(np.random.default_rng(0).choice(G, min(CHECKED, G), replace=False))
        picked = np.searchsorted(chosen, self.sets)
        inside = chosen[np.minimum(picked, len(chosen) - 1)] == self.sets
        again, _ = held_out.refitted_sets(estimate, np.where(inside, picked, -1), ())
        gaps = self.scored.logs[chosen[again.units]] - again.logs
        error = G * float(gaps.std(ddof=1)) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
        return G * float(gaps.mean()), error * np.sqrt(1 - len(gaps) / G)

    def optimism(self) -> float:
        """Return how much `elpd` is flattered by variance parameters that have seen the rows.

        Of a linear model to first order, from the exact second derivatives; of a generalised one
        from refits without some of the groups or rows. 0 after refits.
        """
        return self._optimism[0]

    def tidy(self) -> Any:
        """Return a row for each group or row left out.

        Returns
        -------
        table
            ``level, elpd, n, rmse``: log density of its rows together, their number, and the root
            of the mean squared error. ``pareto_k`` follows after importance sampling.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        found = self.scored
        columns = [
            Column("level", [self.labels[int(u)] for u in found.units], Level(), self.by),
            Column("elpd", found.logs, Fixed(2), "log density"),
            Column("n", found.rows, Written("{:,}".format), "rows"),
        ]
        if "rmse" in found.losses:
            columns.append(
                Column("rmse", np.sqrt(found.losses["rmse"] / found.rows), Significant(4))
            )
        if self.pareto_k is not None:
            columns.append(Column("pareto_k", self.pareto_k, Fixed(2), "Pareto k"))
        return (Listing("levels", tuple(columns)),)

    def body(self) -> Iterable[Part]:
        yield Paragraph(self.sentences())
        order = np.argsort(self.scored.logs / self.scored.rows, kind="stable")[:MOST_PRINTED]
        yield self.listing().take(order, "Least expected")

    def sentences(self) -> tuple[str, ...]:
        G = len(self.scored.units)
        one = "row" if self.by == "row" else f"level of {self.by}"
        how = {
            "closed": "at the variance parameters of the fit, in closed form",
            "refit": "the model fitted again without each",
            "psis": "by importance sampling of the parameters",
        }[self.method]
        lines = [
            f"{self.fit.formula}: prediction of each {one} ({G:,}) from the others, {how}. "
            f"Expected log density {number(self.elpd, 2)} (std. error {number(self.std_error, 2)})"
            + (
                "." if np.isnan(self.rmse) else f", root mean squared error {number(self.rmse, 4)}."
            ),
        ]
        if self.method == "closed":
            lines.append(self._optimism_words())
        if self.failed:
            lines.append(f"{count(self.failed, 'refit')} failed and are left out.")
        return tuple(lines)

    def _optimism_words(self) -> str:
        if self.fit.n_obs > QUICK and "_optimism" not in vars(self):
            return (
                "The variance parameters were estimated with the rows that are left out, so that "
                "the density is somewhat optimistic; optimism() gives the amount, and refit=True "
                "refits without each."
            )
        value, error = self._optimism
        spread = f" (Monte Carlo error {number(error, 1)})" if error else ""
        return (
            "The variance parameters were estimated with the rows that are left out, so that the "
            f"density is optimistic by about {number(value, 1)}{spread}; refit=True refits without "
            "each."
        )


def leave_out(
    fit: MixedFit,
    by: Any = None,
    *,
    refit: bool = False,
    method: str = "closed",
    n: int = 2000,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> LeaveOut:
    """Predict each group, or each row, from all others.

    Parameters
    ----------
    fit : fit of `lmm` or `glmm`
    by : str or array, optional
        A grouping factor or column whose levels are left out in turn: the density of a level's
        rows together, its random effects integrated out. None leaves out single rows, which
        their groups predict. ``"group"`` is the factor that holds all others.
    refit : bool
        Fit the model again without each. Otherwise the variance parameters are those of the fit,
        coefficients and random effects those of the other rows in closed form; the answer says
        by how much this flatters the density.
    method : {"closed", "psis"}
        With ``"psis"`` parameters are drawn and weighted by the inverse of a group's density, the
        weights smoothed (Vehtari, Gelman & Gabry 2017), and in a generalised model by its
        likelihood, so that the answer is that of the posterior under a flat prior. Refused where
        a Pareto shape exceeds 0.7, with the diagnostic.
    n : int
        Draws of the parameters.
    rng : int or numpy.random.Generator
        Of these.
    n_jobs : int, optional
        Threads of the refits; None for all this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    LeaveOut
        With ``elpd``, ``std_error``, ``rmse``, `optimism` and `tidy`.

    Raises
    ------
    ranef.errors.ModelError
        The other rows do not determine the coefficients; importance sampling fails.

    See Also
    --------
    cross_validate : folds, other scores, and the future.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> found = fit.leave_out(by="Subject")
    >>> round(found.elpd, 2), round(found.optimism(), 2)
    (-878.03, 9.74)
    >>> round(fit.leave_out(by="Subject", refit=True).elpd, 2)
    -891.34
    """
    require(fit, "leave_out()", Likelihood, Refittable)
    refuse_penalised(fit.estimate, "leave_out()")
    check_scores(fit.family, ("log",))
    method = arguments.choice("method", method, METHODS)
    again = arguments.flag("refit", refit)
    if by is None:
        codes, labels, name = np.arange(fit.n_obs), list(range(fit.n_obs)), "row"
    else:
        plain = isinstance(by, str) and by == "group" and "group" not in fit.n_groups
        codes, levels, name = groups_of(fit, whole_group(fit, "by='group'") if plain else by)
        labels = list(labels_of(levels))
    if len(labels) < 2:
        raise ModelError(f"there is one level of {name} only, and without it there are no rows")
    sets = codes.astype(np.intp)
    if method == "psis":
        if again:
            raise ModelError("method='psis' stands in for refits; leave refit out")
        found, k = importance.leave_out(
            fit.estimate, sets, arguments.count("n", n), arguments.generator(rng), name
        )
        return LeaveOut(fit, name, labels, sets, found, "psis", pareto_k=k)
    losses = tuple(one for one in ("rmse",) if one in scores_of(fit.family))
    if not again:
        return LeaveOut(
            fit, name, labels, sets, held_out.closed_form(fit.estimate, sets, losses), "closed"
        )

    def track(answers: Iterable[Any]) -> Iterable[Any]:
        shown = arguments.optional_flag("progress", progress)
        return arriving(answers, len(labels), f"without each {name}", shown)

    jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
    scored, failed = held_out.refitted_sets(fit.estimate, sets, losses, n_jobs=jobs, track=track)
    return LeaveOut(fit, name, labels, sets, scored, "refit", failed)
