"""A population-averaged model criticised: its equations, correlation, mean and clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import MUTED, label, on_figure
from ranef.display.numbers import number
from ranef.errors import ModelError
from ranef.families import Cumulative
from ranef.formula.labels import level_text
from ranef.inference.coefficients import estimating
from ranef.models.labels import CONDITIONAL
from ranef.models.marginal_categories import mean_columns
from ranef.models.marginal_errors import covariance, influences
from ranef.questions.checks.check_answer import Check
from ranef.questions.checks.findings import NOTE, Candidate, judged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MarginalCheck", "marginal_check"]

Floats = NDArray[np.float64]

FEW = 30
CARRIED = 0.5
"""Standard errors that one cluster may move a coefficient by: a quarter of the variance."""
OF_FEW = 2.5
"""Times the root mean square move, which that of one of few clusters may reach by chance."""
APART = 1.5
"""Ratio of robust and model errors from which the working covariance is called off."""
BINS = 20


@dataclass(frozen=True, eq=False, repr=False)
class MarginalCheck(Check):
    """A population-averaged model criticised; `check` makes it."""

    def plot(self, *, figure: Figure | None = None) -> NDArray[np.object_]:
        """Draw residuals against the fit, and how far each cluster moves a coefficient."""
        fit = self.fit
        if fit.categories is not None:
            only: Any = np.array([on_figure(figure, 5.4, 4.4).subplots()])
            _draw_moves(only[0], fit)
            return np.asarray(only)
        axes: Any = on_figure(figure, 10.0, 4.4).subplots(1, 2).ravel()
        eta = np.asarray(fit.predict(type="link"))
        e = np.asarray(fit.residuals("pearson"))
        there = np.isfinite(e)
        axes[0].plot(eta[there], e[there], ".", color=MUTED, alpha=0.4, markersize=3)
        at, means = _binned(eta[there], e[there])
        axes[0].plot(at, means, color="black", linewidth=1.6)
        axes[0].axhline(0, color=MUTED, linestyle="--", linewidth=1)
        label(
            axes[0], title="Residuals and their means", x="Linear predictor", y="Pearson residual"
        )
        _draw_moves(axes[1], fit)
        found: NDArray[np.object_] = axes
        return found

    def plot_text(self) -> str:
        """Describe the pictures."""
        moves = np.abs(_moves(self.fit)).max(axis=1)
        residuals = (
            "Pearson's residuals against the linear predictor with their means in bins, and how "
            if self.fit.categories is None
            else "How "
        )
        return (
            f"{residuals}far leaving out each cluster moves a coefficient: at most "
            f"{number(float(moves.max()), 2)} standard errors."
        )

    @property
    def small_print(self) -> tuple[str, ...]:
        """How it was judged."""
        tests = sum(np.isfinite(f.p_value) for f in self.findings)
        return (
            f"{tests} score tests, judged together: {100 * (1 - self.alpha):g}% of correct models "
            "pass them all.",
        )


def _draw_moves(axes: Any, fit: Any) -> None:
    moves = np.abs(_moves(fit)).max(axis=1)
    axes.plot(np.sort(moves)[::-1], ".", color="black", markersize=3)
    axes.axhline(CARRIED, color=MUTED, linestyle="--", linewidth=1)
    label(axes, title="What one cluster moves", x="Clusters, most first", y="Standard errors")


def _binned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Means of y in bins of equal counts along x."""
    order = np.argsort(x)
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def _moves(fit: Any) -> Floats:
    """What leaving out each cluster moves each coefficient by, in robust standard errors."""
    h = influences(fit.estimate, "jackknife").h
    return np.asarray(h / np.sqrt(np.diag(covariance(fit.estimate, "robust"))))


def marginal_check(fit: Any, alpha: float) -> MarginalCheck:
    """Criticise a population-averaged model."""
    found = [_equations(fit), _definite(fit), _enough(fit), _single(fit)]
    found += [*_errors(fit), *_bend(fit), *_sizes(fit)]
    return MarginalCheck(judged(found, alpha), fit, None, {}, alpha, True)


def _equations(fit: Any) -> Candidate:
    found = fit.estimate
    return Candidate(
        "equations",
        "The estimating equations are solved.",
        f"The estimating function is {found.gap:.1e} of its standard error from zero.",
        "Take a simpler correlation, and look for predictors that separate the responses.",
        found.gap,
        matters=not found.converged,
    )


def _definite(fit: Any) -> Candidate:
    found = fit.estimate
    return Candidate(
        "working correlation",
        "The working correlation is positive definite.",
        f"The working correlation had to be mixed with independence ({found.shrunk:.0%}).",
        "Take a simpler correlation; criteria() compares them.",
        found.shrunk,
        matters=found.shrunk > 0,
    )


def _enough(fit: Any) -> Candidate:
    return Candidate(
        "number of clusters",
        "There are enough clusters for the errors that were chosen.",
        f"There are {fit.n_clusters} clusters, and the sandwich is too small with so few.",
        "Use covariance='kauermann-carroll'.",
        float(fit.n_clusters),
        matters=fit.n_clusters < FEW
        and fit.covariance == "robust"
        and fit.method(None) != "small-sample",
        verdict=NOTE,
    )


def _single(fit: Any) -> Candidate:
    moves = np.abs(_moves(fit))
    k, j = np.unravel_index(int(moves.argmax()), moves.shape)
    factor = fit.estimate.model.clusters[0]
    return Candidate(
        "single clusters",
        "No cluster carries a coefficient.",
        f"{factor.name} {level_text(factor.levels[k])} moves {fit.labels[j].full} by "
        f"{number(float(moves[k, j]), 1)} standard errors.",
        "Look at its rows, and say what the answer is without it.",
        float(moves[k, j]),
        matters=bool(moves[k, j] > max(CARRIED, OF_FEW / np.sqrt(len(moves)))),
    )


def _errors(fit: Any) -> list[Candidate]:
    try:
        model = np.sqrt(np.diag(covariance(fit.estimate, "model")))
    except ModelError:
        return []
    ratio = np.sqrt(np.diag(covariance(fit.estimate, "robust"))) / model
    worst = float(ratio[np.abs(np.log(ratio)).argmax()])
    return [
        Candidate(
            "working covariance",
            "Robust errors and those of the model agree.",
            f"Robust errors are up to {number(worst, 2)} times those of the model: the working "
            "correlation or the variance is off.",
            "The coefficients and their robust errors hold; criteria() finds a correlation that "
            "is nearer, and gives shorter intervals.",
            worst,
            matters=max(worst, 1 / worst) > APART,
            verdict=NOTE,
        )
    ]


def _bend(fit: Any) -> list[Candidate]:
    model = fit.estimate.model
    own = [k for k, one in enumerate(fit.labels) if one.component == CONDITIONAL]
    X = model.specification.X[:, mean_columns(model)]
    p = _added(fit, (X @ fit.coefficients[own]) ** 2) if X.shape[1] == len(own) else None
    if p is None:
        return []
    return [
        Candidate(
            "shape of the mean",
            "The mean is as straight as the link says.",
            "The square of the linear predictor still tells of the response: the mean bends.",
            "Let numbers bend, poly(x, 2) or ns(x, 3), add interactions, or take another link.",
            p_value=p,
            matters=True,
        )
    ]


def _sizes(fit: Any) -> list[Candidate]:
    factor = fit.estimate.model.clusters[0]
    sizes = np.bincount(factor.codes)[factor.codes].astype(np.float64)
    p = _added(fit, np.log(sizes)) if np.ptp(sizes) > 0 else None
    if p is None:
        return []
    return [
        Candidate(
            "size of clusters",
            "The mean does not go with the size of a cluster.",
            "Responses go with the size of the cluster: the mean over rows is not that over "
            f"{factor.name}.",
            "Say which population is meant; if rows are missing, model why: dropout=.",
            p_value=p,
            matters=True,
        )
    ]


def _added(fit: Any, column: Floats) -> float | None:
    """The p-value of the generalised score test of one more column.

    None of a redundant one, and of categories without an order, which would have several.
    """
    problem, solution = fit.estimate.model.problem, fit.estimate.solution
    z = fit.estimate.model.sorted(column)[:, None]
    if fit.categories is not None:
        if not isinstance(fit.family, Cumulative):
            return None
        z = np.repeat(-z, len(fit.categories) - 1, axis=0)
    X = np.hstack([problem.X, z])
    size = np.sqrt(np.sum(X**2, axis=0))
    if np.linalg.matrix_rank(X / np.where(size > 0, size, 1.0), tol=1e-7) < X.shape[1]:
        return None
    wide = replace(problem, X=np.ascontiguousarray(X))
    return estimating.added_column(wide, solution).p_value
