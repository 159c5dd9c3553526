"""Scaled residuals from simulations: their quantiles, and their quartiles across the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import ACCENT, BAND, MARK, MUTED, cloud, finish, label, on_figure
from ranef.display.smooth import smooth_line
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["quartile_lines", "simulated", "simulated_text", "uniform_quantiles"]

Floats = NDArray[np.float64]

QUARTILES = (0.25, 0.5, 0.75)
CALM = 0.05
LEAST_IN_BIN = 12
MOST_BINS = 40
BAND_POINTS = 201


def simulated(
    residuals: Any, *, axes: Sequence[Axes] | None = None, figure: Figure | None = None
) -> NDArray[np.object_]:
    """Draw two panels: quantiles of scaled residuals, and residuals against the fit.

    The left one compares them with a uniform distribution; the band holds each point
    with probability 0.95. In the right one the fit runs by rank, and the lines are the
    residuals' quartiles, which stay level if the model holds; they are drawn in the
    accent colour where the test of the trend has a p-value below 0.05.

    Parameters
    ----------
    residuals : SimulatedResiduals
    axes : two matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one; it is resized.

    Returns
    -------
    array of two matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> len(simulated(ranef.simulated_residuals(fit)))
    2
    """
    if axes is not None and (figure is not None or len(axes) != 2):
        raise ModelError("give axes= two panels, or figure=, not both")
    if axes is None:
        axes = list(on_figure(figure, 9.6, 4.2).subplots(1, 2))
    uniform_quantiles(axes[0], residuals)
    quartile_lines(axes[1], residuals)
    return np.asarray(axes, dtype=object)


def simulated_text(residuals: Any) -> str:
    """Describe the picture: the tests that it shows."""
    tests = "; ".join(f"{t.name}, p = {t.p_value:.2g}" for t in residuals.tests)
    return (
        f"Quantiles of {len(residuals.scaled):,} scaled residuals against uniform ones, and "
        f"their quartiles across the fit. Tests: {tests}."
    )


def uniform_quantiles(ax: Axes, residuals: Any) -> None:
    """Draw ordered residuals against those of a uniform distribution."""
    from scipy.special import betaincinv

    u = np.sort(residuals.scaled)
    n = len(u)
    if n == 0:
        raise ModelError("there are no residuals to draw; does the fit have rows?")
    i = np.arange(1.0, n + 1.0)
    at = np.unique(np.linspace(0, n - 1, min(n, BAND_POINTS)).astype(np.intp))
    low, high = (betaincinv(i[at], n + 1.0 - i[at], p) for p in (0.025, 0.975))
    expected = i / (n + 1.0)
    ax.fill_between(expected[at], low, high, color=BAND, lw=0)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0)
    ax.plot(expected, u, "o", color=MARK, **cloud(n))
    label(ax, title="Quantiles of scaled residuals", x="Uniform quantile", y="Scaled residual")
    finish(ax, grid="both")


def quartile_lines(ax: Axes, residuals: Any) -> None:
    """Draw residuals against the rank of the fit, with smooth lines of their quartiles."""
    predicted = residuals.found.predicted
    order = np.argsort(predicted, kind="stable")
    u = residuals.scaled[order]
    x = _ranks(predicted[order])
    alarm = any(t.name.startswith("trend") and t.p_value < CALM for t in residuals.tests)
    for q in QUARTILES:
        ax.axhline(q, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.plot(x, u, "o", color=MARK, **cloud(len(u)))
    for q in QUARTILES:
        line = _quantile_line(x, u, q)
        if len(line[0]):
            ax.plot(*line, color=ACCENT if alarm else MARK, linewidth=2.0)
    ax.set_ylim(-0.03, 1.03)
    label(ax, title="Scaled residuals against the fit", x="Fit, by rank", y="Scaled residual")
    finish(ax, grid="both")


def _ranks(ordered: Floats) -> Floats:
    """Mid-ranks of ordered values, from 0 to 1."""
    _, place, count = np.unique(ordered, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - 0.5 * count
    return np.asarray(middle[place] / len(ordered))


def _quantile_line(x: Floats, u: Floats, q: float) -> tuple[Floats, Floats]:
    """Quantiles of runs of neighbours, smoothed."""
    bins = min(MOST_BINS, len(u) // LEAST_IN_BIN)
    if bins < 4 or len(np.unique(x)) < 4:
        return np.empty(0), np.empty(0)
    runs = np.array_split(np.arange(len(u)), bins)
    centre = np.array([float(np.mean(x[run])) for run in runs])
    value = np.array([float(np.quantile(u[run], q)) for run in runs])
    return smooth_line(centre, value)
