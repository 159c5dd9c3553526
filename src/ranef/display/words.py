"""The pictures in words, for readers who cannot see them."""

from __future__ import annotations

from typing import cast

import numpy as np

from ranef.display.canvas import percent
from ranef.display.reading import (
    QUANTILE,
    Effects,
    Fitted,
    Intervals,
    Levelled,
    Shrinkage,
    fixed_effects,
    random_effects,
    residual_pairs,
    shrinkage_effects,
    standardised_residuals,
    usual_residuals,
)
from ranef.display.smooth import smooth_line
from ranef.errors import ModelError

__all__ = ["alt_text"]


def alt_text(fit: Fitted, picture: str, *, conf_level: float = 0.95, df: str | None = None) -> str:
    """Describe a picture of the fit in a few sentences.

    Parameters
    ----------
    fit : a fit of ranef
    picture : {"random", "shrinkage", "residuals", "qq", "scale_location", "fixed"}
        Which of the functions of `ranef.plots` drew it.
    conf_level : float
        Level of the intervals in it.
    df : str, optional
        Method of the degrees of freedom behind them.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> print(alt_text(fit, "fixed"))
    Point and interval plot of 1 coefficient. Days: 10.5, 95% interval 7.21 to 13.7.
    """
    match picture:
        case "random":
            found = random_effects(fit, conf_level, None)
            return " ".join(_caterpillar(effects, conf_level) for effects in found)
        case "shrinkage":
            shown = shrinkage_effects(cast(Levelled, fit), None)
            return " ".join(_shrinkage(one) for one in shown)
        case "residuals":
            return _residuals(fit)
        case "qq":
            return _quantiles(fit)
        case "scale_location":
            return _sizes(fit)
        case "fixed":
            return _fixed(fixed_effects(fit, conf_level, intercept=False, df=df), conf_level)
    raise ModelError(
        "picture is 'random', 'shrinkage', 'residuals', 'qq', 'scale_location' or 'fixed', not "
        f"{picture!r}"
    )


def _caterpillar(effects: Effects, conf_level: float) -> str:
    shown = effects.sorted()
    apart = int(np.sum((shown.low > 0) | (shown.high < 0)))
    count = len(shown.names)
    return (
        f"Caterpillar plot of {effects.term} by {effects.group}: {count:,} "
        f"{'level' if count == 1 else 'levels'} from {shown.estimate[0]:.3g} "
        f"({shown.names[0]}) to {shown.estimate[-1]:.3g} ({shown.names[-1]}); "
        f"{apart:,} of the {percent(conf_level)} intervals exclude zero."
    )


def _shrinkage(shown: Shrinkage) -> str:
    there = np.isfinite(shown.raw)
    text = f"Raw and shrunken estimates of {shown.term} by {shown.group}, centre {shown.centre:.3g}"
    if not there.any():
        return f"{text}; no level has a raw estimate."
    before, after = (np.std(values[there]) for values in (shown.raw, shown.estimate))
    moved = np.where(there, np.abs(shown.raw - shown.estimate), -1.0)
    return (
        f"{text}: {int(there.sum()):,} of {len(there):,} levels have a raw estimate, whose "
        f"standard deviation goes from {before:.3g} to {after:.3g}; "
        f"{shown.names[int(np.argmax(moved))]} moves most."
    )


def _residuals(fit: Fitted) -> str:
    fitted, residual = residual_pairs(fit, usual_residuals(fit))
    _, line = smooth_line(fitted, residual)
    kind = usual_residuals(fit)
    what = (
        "quantile residuals against the linear predictor"
        if kind == QUANTILE
        else ("residuals against fitted values")
    )
    text = (
        f"Scatter plot of {len(residual):,} {what}; residuals run "
        f"from {residual.min():.3g} to {residual.max():.3g}, standard deviation "
        f"{residual.std():.3g}."
    )
    if len(line) == 0:
        return text
    return f"{text} The smooth line stays between {line.min():.2g} and {line.max():.2g}."


def _sizes(fit: Fitted) -> str:
    fitted, residual = residual_pairs(fit, standardised_residuals(fit))
    size = np.sqrt(np.abs(residual / (float(residual.std()) or 1.0)))
    text = f"Scatter plot of the root of the size of {len(size):,} standardised residuals"
    _, line = smooth_line(fitted, size)
    if len(line) == 0:
        return f"{text}."
    return (
        f"{text}; the smooth line, level at 0.82 for a constant variance, stays between "
        f"{line.min():.2f} and {line.max():.2f}."
    )


def _quantiles(fit: Fitted) -> str:
    _, residual = residual_pairs(fit, usual_residuals(fit))
    spread = residual.std()
    if spread == 0.0:
        return f"Normal quantile plot of {len(residual):,} residuals, all equal."
    low, high = residual.min() / spread, residual.max() / spread
    return (
        f"Normal quantile plot of {len(residual):,} residuals; the smallest lies "
        f"{-low:.2g} and the largest {high:.2g} standard deviations from zero."
    )


def _fixed(shown: Intervals, conf_level: float) -> str:
    count = len(shown.names)
    listed = (
        f"{name}: {b:.3g}, {percent(conf_level)} interval {low:.3g} to {high:.3g}."
        for name, b, low, high in zip(
            shown.names, shown.estimate, shown.low, shown.high, strict=True
        )
    )
    noun = "coefficient" if count == 1 else "coefficients"
    return f"Point and interval plot of {count} {noun}. {' '.join(listed)}"
