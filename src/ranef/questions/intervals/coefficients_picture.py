"""The fixed effects with their intervals: the picture, and the same in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranef import arguments
from ranef.display.canvas import interval_rows, label, on_axes, percent
from ranef.fits.fit import Fit
from ranef.inference.coefficients.wald import Intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fixed", "fixed_text"]


def fixed(
    fit: Fit,
    *,
    conf_level: float = 0.95,
    intercept: bool = False,
    df: str | None = None,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw the fixed effects and their intervals, the first one on top.

    Parameters
    ----------
    fit : a fit of ranef
    conf_level : float
        Confidence level of the intervals.
    intercept : bool
        Whether to show the intercept, which usually has another scale. It is
        shown when it is the only coefficient.
    df : str, optional
        Method of the degrees of freedom, as in ``fit.tidy``.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> [text.get_text() for text in fixed(fit).get_yticklabels()]
    ['Days']
    """
    names, effects = _coefficients(fit, conf_level, df, intercept=intercept)
    ax = on_axes(ax, figure, 6.4, 1.3 + 0.3 * max(len(names), 2))
    interval_rows(ax, names, (effects.estimate, effects.conf_low, effects.conf_high), null=0.0)
    link = fit.family.link
    scale = "" if link == "identity" else f" on the scale of the link ({link})"
    label(ax, title="Fixed effects", x=f"Estimate{scale}, {percent(conf_level)} interval", y="")
    return ax


def fixed_text(fit: Fit, *, conf_level: float = 0.95, df: str | None = None) -> str:
    """Describe the picture that `fixed` draws by default: each coefficient and its interval.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> print(fixed_text(fit))
    Point and interval plot of 1 coefficient. Days: 10.5, 95% interval 7.21 to 13.7.
    """
    names, effects = _coefficients(fit, conf_level, df, intercept=False)
    rows = zip(names, effects.estimate, effects.conf_low, effects.conf_high, strict=True)
    level = percent(conf_level)
    listed = (
        f"{name}: {b:.3g}, {level} interval {low:.3g} to {high:.3g}." for name, b, low, high in rows
    )
    noun = "coefficient" if len(names) == 1 else "coefficients"
    return f"Point and interval plot of {len(names)} {noun}. {' '.join(listed)}"


def _coefficients(
    fit: Fit, conf_level: float, df: str | None, *, intercept: bool
) -> tuple[list[str], Intervals]:
    """The coefficients of the mean; without intercepts unless they are all there is."""
    of_mean = fit.of_mean.tolist() or list(range(len(fit.labels)))
    slopes = [k for k in of_mean if fit.labels[k].term != "(Intercept)"]
    kept = of_mean if intercept or not slopes else slopes
    every = fit.hypotheses(None, arguments.conf_level(conf_level), df)
    intervals = Intervals(**{name: values[kept] for name, values in vars(every).items()})
    return [fit.labels[k].full for k in kept], intervals
