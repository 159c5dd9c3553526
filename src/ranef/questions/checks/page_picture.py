"""Six pictures that show whether a model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import MUTED, label, on_figure
from ranef.display.reading import QUANTILE, has_residuals, usual_residuals
from ranef.questions.checks.influence_picture import influence
from ranef.questions.checks.quantile_pictures import qq
from ranef.questions.checks.residual_picture import residuals
from ranef.questions.checks.residual_tests import normal_scores
from ranef.questions.checks.scale_picture import scale_location
from ranef.questions.checks.simulated_picture import quartile_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_LEVELS", "check_page", "check_page_text", "residual_source"]

MOST_LEVELS = 12


def check_page(check: Any, *, figure: Figure | None = None) -> NDArray[np.object_]:
    """Draw six panels: residuals, their quantiles, the effects', draws, influence, spread.

    Parameters
    ----------
    check : Check
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one; it is resized.

    Returns
    -------
    array of six matplotlib Axes

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> [ax.get_title(loc="left") for ax in check_page(ranef.check(fit))][:2]
    ['Residuals against fitted values', 'Normal quantiles of residuals']
    """
    axes = on_figure(figure, 13.0, 7.8).subplots(2, 3).ravel()
    fit = check.fit
    if has_residuals(fit):
        source = residual_source(check)
        residuals(source, ax=axes[0])
        qq(source, ax=axes[1])
        scale_location(source, ax=axes[5])
        if source is not fit:
            for ax in (axes[0], axes[5]):
                title = ax.get_title(loc="left")
                label(ax, title=title, x="Linear predictor", y=ax.get_ylabel())
    else:
        for ax in (axes[0], axes[1], axes[5]):
            _empty(ax, "These responses have no residuals")
    _effects(axes[2], fit)
    if check.residuals is None:
        _empty(axes[3], "These responses have no rank")
    else:
        quartile_lines(axes[3], check.residuals)
    if check.left_out:
        group = max(check.left_out, key=lambda g: len(check.left_out[g].labels))
        influence(check.left_out[group], most=MOST_LEVELS, ax=axes[4])
    else:
        _empty(axes[4], "No level was left out")
    return np.asarray(axes, dtype=object)


def check_page_text(check: Any) -> str:
    """Describe the six panels, and what needs a look."""
    words = (
        "Six panels: residuals against fitted values, normal quantiles of residuals and of "
        "random effects, scaled residuals against the fit, influence, and size of residuals."
    )
    return " ".join([words, *(f.words for f in check.of("look"))])


def residual_source(check: Any) -> Any:
    """The fit; of a generalised one with the residuals that the check rests on."""
    drawn = usual_residuals(check.fit) == QUANTILE and check.residuals is not None
    return _DrawnResiduals(check) if drawn else check.fit


class _DrawnResiduals:
    """The fit with the residuals that the check rests on as its quantile residuals."""

    def __init__(self, check: Any) -> None:
        simulated = check.residuals.found
        self._fit = check.fit
        self.formula = check.fit.formula
        self.estimate = check.fit.estimate
        self._predicted, self._scores = simulated.predicted, normal_scores(simulated.scaled)

    def tidy(self, effects: str = "fixed", *, conf_level: float = 0.95, df: Any = None) -> Any:
        return self._fit.tidy(effects, conf_level=conf_level, df=df)

    def fitted(self) -> Any:
        return self._predicted

    def residuals(self, kind: Any = None) -> Any:
        return self._scores

    def predict(self, new: Any = None, *, kind: str = "typical", type: str = "link") -> Any:
        return self._predicted


def _effects(ax: Axes, fit: Any) -> None:
    """Draw quantiles of the first coefficient of the factor with the most levels."""
    spec = fit.estimate.specification
    if not spec.terms:
        _empty(ax, "The mean has no random effects")
        return
    term = max(spec.terms, key=lambda t: spec.factors[t.factor].n_levels)
    qq(fit, "random", group=spec.factors[term.factor].name, term=term.names[0], ax=ax)
    title = f"Normal quantiles of {ax.get_title(loc='left')}"
    label(ax, title=title, x=ax.get_xlabel(), y=ax.get_ylabel())


def _empty(ax: Axes, words: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", color=MUTED, transform=ax.transAxes)
