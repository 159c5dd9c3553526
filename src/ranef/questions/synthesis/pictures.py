"""Pictures of a meta-analysis: forest, funnel, and what makes the heterogeneity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.canvas import (
    ACCENT,
    BAND,
    GRID,
    INK,
    MARK,
    MUTED,
    finish,
    label,
    name_points,
    on_axes,
    percent,
    plain,
    told_apart,
)
from ranef.errors import ModelError
from ranef.fits.protocol import Synthesised, require
from ranef.inference.coefficients.wald import quantile
from ranef.questions.synthesis import numbers
from ranef.questions.synthesis.asked import independent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["baujat", "forest", "forest_text", "funnel"]

Floats = NDArray[np.float64]

LEVELS = (0.90, 0.95, 0.99)


def forest(
    fit: Any,
    *,
    conf_level: float = 0.95,
    exponentiate: bool = False,
    prediction: bool = True,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw every effect with its interval, and the mean effect as a diamond below.

    The area of a square is the weight of the study; estimates and intervals stand on the right in
    numbers. With moderators the fitted mean of each study
    is drawn beside its effect.

    Parameters
    ----------
    fit : MetaModelFit
    conf_level : float
    exponentiate : bool
        Show ratios on a logarithmic axis, of effects in logs.
    prediction : bool
        Draw the prediction interval of a new study's true effect.
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
        An empty figure to use instead.

    Examples
    --------
    >>> import ranef
    >>> bcg = ranef.effect_sizes("RR", ranef.data.load("bcg"), ai="tpos", bi="tneg",
    ...                          ci="cpos", di="cneg")
    >>> fit = ranef.meta("yi ~ 1", bcg, variance="vi", study="author")
    >>> [text.get_text() for text in fit.plot.forest().get_yticklabels()][-2:]
    ['Comstock et al', 'Mean effect']
    """
    require(fit, "plot.forest()", Synthesised)
    level = arguments.conf_level(conf_level)
    model, n = fit.synthesis.model, fit.n_obs
    carry = np.exp if arguments.flag("exponentiate", exponentiate) else np.asarray
    reach = float(quantile(level, np.array(np.inf))) * np.sqrt(model.variances)
    effects = model.specification.y
    ax = on_axes(ax, figure, 7.2, 1.6 + 0.26 * (n + 2))
    rows = np.arange(n)
    ax.axvline(float(carry(0.0)), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.hlines(rows, carry(effects - reach), carry(effects + reach), color=MARK, linewidth=1.2)
    sizes = 12 + 160 * fit.weights / max(float(fit.weights.max()), 1e-300)
    ax.scatter(carry(effects), rows, s=sizes, marker="s", color=MARK, linewidths=0, zorder=3)
    names = told_apart(fit.studies, 36)
    means = fit.predict(conf_level=level)
    alone = model.specification.names == ("(Intercept)",)
    if alone:
        found = fit.hypotheses(None, level)
        mean = carry(np.array([found.estimate[0], found.conf_low[0], found.conf_high[0]]))
        _diamond(ax, fit, level, carry, mean, n + 0.5, prediction)
        names.append("Mean effect")
        ticks = np.append(rows, n + 0.5)
    else:
        centre = np.asarray(means["estimate"], dtype=np.float64)
        kept = np.isfinite(centre)
        ax.plot(carry(centre[kept]), rows, "D", color=ACCENT, markersize=4.5, fillstyle="none")
        ticks = rows
    ends = carry(np.column_stack([effects, effects - reach, effects + reach]))
    if alone:
        ends = np.vstack([ends, mean])
    _numbers_beside(ax, ticks, ends)
    ax.set_yticks(ticks, names, color=INK, parse_math=False)
    ax.set_ylim(float(ticks[-1]) + 0.9, -0.8)
    if exponentiate:
        _ratios(ax)
    finish(ax, grid="x")
    ax.tick_params(axis="y", length=0)
    what = plain(fit.response)
    scale = f"{what}, exponentiated" if exponentiate else what
    label(ax, title="Effects and their mean", x=f"{scale}, {percent(level)} interval", y="")
    return ax


def _ratios(ax: Axes) -> None:
    """A logarithmic axis with plain numbers: 0.1, 0.2, 0.5, 1 ... where few decades are shown."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if low > 0 and high / low < 1e3:
        ax.set_xticks([k * 10.0**j for j in range(-9, 9) for k in (1, 2, 5)])
        ax.minorticks_off()
        ax.set_xlim(low, high)
    ax.xaxis.set_major_formatter("{x:g}")


def _numbers_beside(ax: Axes, ticks: Floats, ends: Floats) -> None:
    """Write estimates and their intervals (rows, 3) on the right of the axes."""
    width = float(np.median(ends[:, 2] - ends[:, 1]))
    digits = 1 - np.floor(np.log10(width)) if 0 < width < np.inf else 2
    places = int(np.clip(digits, 2 if width < 100 else 0, 8))
    for row, values in zip(ticks, ends, strict=True):
        middle, low, high = (f"{value:.{places}f}" for value in values)
        ax.annotate(
            f"{middle} [{low}, {high}]", (1.02, row),
            xycoords=("axes fraction", "data"), va="center", fontsize=8, color=INK,
        )  # fmt: skip


def _diamond(
    ax: Axes, fit: Any, level: float, carry: Any, mean: Floats, row: float, prediction: bool
) -> None:
    """Draw the mean effect: its estimate and the ends of its interval, (3,)."""
    mid, low, high = mean.tolist()
    ax.axhline(row - 0.75, color=GRID, linewidth=0.8)
    if prediction and fit.tau2 > 0 and np.ptp(fit.synthesis.between) < 1e-12:
        new = fit.predict(conf_level=level, interval="new")
        ends = [
            float(carry(np.nanmax(np.asarray(new[c], float)))) for c in ("conf_low", "conf_high")
        ]
        ax.hlines([row], ends[:1], ends[1:], color=MUTED, linewidth=1.4, linestyle=(0, (2, 1.5)))
    ax.fill([low, mid, high, mid], [row, row - 0.28, row, row + 0.28], color=ACCENT, zorder=3)


def forest_text(fit: Any, *, conf_level: float = 0.95) -> str:
    """Describe the picture that `forest` draws."""
    effects, found = fit.synthesis.model.specification.y, fit.hypotheses(None, conf_level)
    text = f"Forest plot of {fit.n_obs} effects from {effects.min():.3g} to {effects.max():.3g}."
    if fit.names == ["(Intercept)"]:
        text += (
            f" Mean effect {found.estimate[0]:.3g}, {percent(conf_level)} interval "
            f"{found.conf_low[0]:.3g} to {found.conf_high[0]:.3g}."
        )
    return text


def funnel(fit: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw effects against their standard errors, the most precise on top.

    Around the mean effect the regions where 90, 95 and 99 of 100 effects lie that differ by
    sampling alone. With moderators residuals are drawn, around zero.

    Parameters
    ----------
    fit : MetaModelFit
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
    """
    require(fit, "plot.funnel()", Synthesised)
    estimate = fit.synthesis
    alone = fit.names == ["(Intercept)"]
    x = estimate.model.y if alone else estimate.residuals
    centre = float(fit.coefficients[0]) if alone else 0.0
    errors = np.sqrt(estimate.model.variances)
    ax = on_axes(ax, figure, 6.0, 4.6)
    top = 1.06 * float(errors.max())
    for level, shade in zip(reversed(LEVELS), (0.35, 0.65, 1.0), strict=True):
        z = float(quantile(level, np.array(np.inf)))
        ax.fill(
            [centre, centre - z * top, centre + z * top], [0, top, top], color=BAND, alpha=shade,
            linewidth=0,
        )  # fmt: skip
    ax.axvline(centre, color=MUTED, linewidth=0.9)
    ax.plot(x, errors, "o", color=MARK, markersize=5)
    ax.set_ylim(top, 0)
    finish(ax, grid="x")
    what = plain(fit.response) if alone else f"residual of {plain(fit.response)}"
    label(ax, title="Funnel", x=what, y="Standard error")
    return ax


def baujat(fit: Any, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
    """Draw what each study adds to Q against what it moves the mean by (Baujat et al. 2002).

    Parameters
    ----------
    fit : MetaModelFit
        Of independent studies.
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
    """
    studies = independent(fit, "plot.baujat()").model.data
    if studies.n < studies.p + 2:
        raise ModelError("plot.baujat() leaves out one study at a time: there are too few")
    part, moved = numbers.baujat(studies)
    ax = on_axes(ax, figure, 6.0, 4.6)
    ax.plot(part, moved, "o", color=MARK, markersize=5)
    ax.margins(x=0.16)
    finish(ax, grid="both")
    label(
        ax, title="What makes the heterogeneity", x="Part of Q",
        y="Change of the mean without it, squared, in its variance",
    )  # fmt: skip
    shares = part / part.max() + np.nan_to_num(moved / np.nanmax(moved))
    most = np.argsort(-shares)[:5]
    name_points(ax, [fit.studies[i] for i in most], part[most], moved[most])
    return ax
