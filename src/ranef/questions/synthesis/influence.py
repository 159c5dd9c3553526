"""Studies that move a meta-analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import ACCENT, MARK, MUTED, finish, label, on_axes, plain, told_apart
from ranef.display.columns import Column, Fixed, Label, Listing, Significant
from ranef.questions.synthesis.asked import independent, spread_of
from ranef.questions.synthesis.numbers import Deleted, deleted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["StudyInfluence", "study_influence"]

FAR = 3.0
STATISTICS = ("rstudent", "cook", "dffits", "covratio", "hat", "tau2", "q", "weight")


@dataclass(frozen=True, eq=False, repr=False)
class StudyInfluence(Answer):
    """What a meta-analysis is without each study; ``fit.influence()`` makes it.

    Attributes
    ----------
    studies : tuple of str
    found : Deleted
    weights : (n,) float64 array
        Percent.
    tau2 : float
        Of all studies.
    title, library : str
    """

    studies: tuple[str, ...]
    found: Deleted
    weights: NDArray[np.float64]
    tau2: float
    title: str
    library: str

    def tables(self) -> tuple[Listing, ...]:
        f = self.found
        columns = (
            Column("study", list(self.studies), Label(), ""),
            Column("rstudent", f.rstudent, Fixed(2)),
            Column("cook", f.cook, Fixed(3), "Cook's distance"),
            Column("dffits", f.dffits, Fixed(2), printed=False),
            Column("covratio", f.covratio, Fixed(2), printed=False),
            Column("hat", f.hat, Fixed(3), "leverage"),
            Column("tau2", f.tau2, Significant(3), "tau^2 without it"),
            Column("q", f.q, Fixed(2), "Q without it"),
            Column("estimate", f.estimate, Significant(3), "first coefficient"),
            Column("weight", self.weights, Fixed(1), "weight, %"),
        )
        return (Listing("influence", columns, "Each study left out"),)

    def sentences(self) -> tuple[str, ...]:
        far = [
            plain(name)
            for name, r in zip(self.studies, self.found.rstudent, strict=True)
            if abs(r) > FAR
        ]
        lines = [f"tau^2 of all studies: {self.tau2:.4g}."]
        if far:
            lines.append(
                f"More than {FAR:g} standard errors from what the others predict: {', '.join(far)}."
            )
        return tuple(lines)

    def plot(
        self, statistic: str = "cook", *, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw one statistic of each study, in the order of the table.

        Parameters
        ----------
        statistic : {"rstudent", "cook", "dffits", "covratio", "hat", "tau2", "q", "weight"}
        ax : matplotlib Axes, optional
        """
        name = arguments.choice("statistic", statistic, STATISTICS)
        values = self.weights if name == "weight" else getattr(self.found, name)
        n = len(values)
        ax = on_axes(ax, figure, 6.4, 1.3 + 0.24 * max(n, 4))
        rows = np.arange(n)
        ax.hlines(rows, 0, values, color=MUTED, linewidth=0.9)
        ax.plot(values, rows, "o", color=MARK, markersize=4.5)
        worst = int(np.nanargmax(np.abs(values)))
        ax.plot(values[worst], worst, "o", color=ACCENT, markersize=5.5)
        ax.set_yticks(rows, told_apart(self.studies, 30), parse_math=False)
        ax.set_ylim(n - 0.4, -0.6)
        finish(ax, grid="x")
        label(ax, title="Influence of studies", x=name, y="")
        return ax


def study_influence(fit: Any) -> StudyInfluence:
    """Leave out one study at a time.

    tau^2 is estimated again each time, and covariances are those of the fit's tests (Viechtbauer &
    Cheung 2010, Res. Synth. Methods 1).

    Returns
    -------
    StudyInfluence
        ``tidy()`` has ``study, rstudent, cook, dffits, covratio, hat, tau2, q, estimate, weight``.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> fit = ranef.meta("yi ~ 1", bcg, variance="vi", study="author", df="normal")
    >>> fit.influence().tidy()[["study", "rstudent", "cook", "hat", "tau2"]].round(3).head(3)
                  study  rstudent   cook    hat   tau2
    0           Aronson    -0.218  0.002  0.051  0.336
    1  Ferguson & Simes    -1.292  0.113  0.064  0.293
    2   Rosenthal et al    -0.755  0.026  0.044  0.321
    """
    estimate = independent(fit, "influence()")
    scaled, conservative = spread_of(fit)
    found = deleted(estimate.model.data, estimate.model.method, scaled, conservative)
    return StudyInfluence(
        fit.studies, found, fit.weights, fit.tau2, f"Influence of studies: {fit.formula}",
        fit.frame.library,
    )  # fmt: skip
