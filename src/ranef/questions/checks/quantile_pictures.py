"""Normal quantile plots of residuals and of random effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import (
    BAND,
    MARK,
    MUTED,
    cloud,
    finish,
    label,
    normal_order_statistics,
    one_or_all,
    panels,
    told_apart,
)
from ranef.display.reading import Fitted, random_effects, residual_pairs, usual_residuals
from ranef.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["effects_text", "qq", "qq_text"]

Floats = NDArray[np.float64]

BAND_POINTS = 401


def qq(
    fit: Fitted,
    effects: str = "residual",
    *,
    group: str | None = None,
    term: str | None = None,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes | NDArray[np.object_]:
    """Draw quantiles against those of a normal distribution.

    The line goes through the quartiles. The band holds each point with
    probability 0.95 if the values are independent and normal; it is a guide
    and not a test, since residuals and predicted effects are neither quite.

    Parameters
    ----------
    fit : a fit of ranef
    effects : {"residual", "random"}
        Residuals in one panel, or random effects in one panel a coefficient.
    group, term : str, optional
        Only the random effects of this factor or this coefficient.
    ax : matplotlib Axes, optional
        Where to draw when there is one panel.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one; it is resized.

    Returns
    -------
    matplotlib Axes, or an array of them when there are several panels

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> qq(fit).get_xlabel()
    'Normal quantile'
    >>> len(qq(fit, "random"))
    2
    """
    samples = _samples(fit, effects, group, term)
    axes = panels(list(samples), ax, figure, single=(5.4, 4.2), height=3.8)
    for panel, (title, values) in zip(axes, samples.items(), strict=True):
        _quantiles(panel, title, values)
    return one_or_all(axes)


def _samples(fit: Fitted, effects: str, group: str | None, term: str | None) -> dict[str, Floats]:
    """Return title and values of each panel."""
    if effects == "residual":
        return {"Normal quantiles of residuals": residual_pairs(fit, usual_residuals(fit))[1]}
    if effects != "random":
        raise ModelError(f"effects is 'residual' or 'random', not {effects!r}")
    drawn = [e for e in random_effects(fit, 0.95, group) if term in (None, e.term)]
    if not drawn:
        raise ModelError(f"no random effect of {term!r}; see fit.tidy('random')")
    titles = told_apart([f"{e.group}: {e.term}" for e in drawn], 60)
    return dict(zip(titles, (e.estimate for e in drawn), strict=True))


def _quantiles(ax: Axes, title: str, values: Floats) -> None:
    ordered = np.sort(values)
    expected, low, high = normal_order_statistics(len(ordered))
    middle, slope = _quartile_line(ordered)
    if len(ordered) > 2:
        even = np.linspace(expected[0], expected[-1], BAND_POINTS)
        at = np.unique(np.searchsorted(expected, even).clip(0, len(expected) - 1))
        lower, upper = middle + slope * low[at], middle + slope * high[at]
        ax.fill_between(expected[at], lower, upper, color=BAND, lw=0)
    ax.axline((0.0, middle), slope=slope, color=MUTED, linewidth=1.0)
    ax.plot(expected, ordered, "o", color=MARK, **cloud(len(ordered)))
    label(ax, title=title, x="Normal quantile", y="Observed")
    finish(ax, grid="both")


def _quartile_line(ordered: Floats) -> tuple[float, float]:
    """Return intercept and slope of the line through the quartiles."""
    first, third = np.quantile(ordered, [0.25, 0.75])
    return float(first + third) / 2.0, float(third - first) / (2.0 * 0.6744897501960817)


def qq_text(fit: Fitted) -> str:
    """Describe the picture of the residuals: how far the outermost lie."""
    _, residual = residual_pairs(fit, usual_residuals(fit))
    spread = residual.std()
    if spread == 0.0:
        return f"Normal quantile plot of {len(residual):,} residuals, all equal."
    low, high = residual.min() / spread, residual.max() / spread
    return (
        f"Normal quantile plot of {len(residual):,} residuals; the smallest lies "
        f"{-low:.2g} and the largest {high:.2g} standard deviations from zero."
    )


def effects_text(fit: Fitted) -> str:
    """Describe the picture of the random effects: how many leave the band."""
    counts = []
    for effects in random_effects(fit, 0.95, None):
        ordered = np.sort(effects.estimate)
        _, low, high = normal_order_statistics(len(ordered))
        middle, slope = _quartile_line(ordered)
        outside = int(np.sum((ordered < middle + slope * low) | (ordered > middle + slope * high)))
        counts.append(
            f"{effects.group}, {effects.term}: {outside:,} of {len(ordered):,} outside the band"
        )
    return f"Normal quantile plots of the random effects. {'; '.join(counts)}."
