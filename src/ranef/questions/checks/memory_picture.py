"""What residuals remember: variogram and autocorrelation, with what the model says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.canvas import ACCENT, BAND, MARK, MUTED, finish, label, on_axes, plain
from ranef.errors import ModelError
from ranef.models.noise import residual_covariance, whitened_residuals
from ranef.questions.checks.memory_numbers import ByDistance, Pairs, by_distance, pairs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["autocorrelation", "autocorrelation_text", "variogram", "variogram_text"]

Floats = NDArray[np.float64]

CLASSES = 12
MODEL_PAIRS = 20_000
"""Pairs over which the model's line is averaged at most."""


def variogram(
    fit: Any,
    *,
    whitened: bool = False,
    classes: int = CLASSES,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw the semivariance of the residuals by the distance between rows of one group.

    The semivariance is half the mean squared difference of two standardised residuals; the line
    is what the fitted structure says of it, one minus the correlation. Whitened residuals, from
    which the fitted correlation is taken out, should lie about one at every distance.

    Parameters
    ----------
    fit : a fit of `lmm` with ``residual=``
        Its conditional residuals are drawn. Where there are random effects too, these have taken
        some of what rows share, and the points lie somewhat above the line.
    whitened : bool
    classes : int
        Of distances, about equally full; distances that are few are classes of their own.
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional
        An empty figure to use instead; it is resized.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> fit = ranef.lmm("Reaction ~ Days", sleep, residual="ar1(Days | Subject)")
    >>> variogram(fit).get_ylabel()
    'Semivariance of standardised residuals'
    """
    found, model, what = _found(fit, whitened, classes)
    panel = on_axes(ax, figure, 5.8, 3.8)
    panel.plot(found.distance, found.semivariance, "o", color=MARK, markersize=5)
    panel.plot(found.distance, 1.0 - model, color=ACCENT, linewidth=1.8)
    panel.axhline(1.0, color=MUTED, linewidth=0.9)
    panel.set_ylim(bottom=0.0)
    label(panel, title="Variogram of the residuals", x=_distance(fit),
          y=f"Semivariance of {what} residuals")  # fmt: skip
    finish(panel, grid="y")
    return panel


def autocorrelation(
    fit: Any,
    *,
    whitened: bool = False,
    classes: int = CLASSES,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Axes:
    """Draw the autocorrelation of the residuals by the distance between rows of one group.

    The line is the fitted structure's; the band is where 95% of independent residuals would lie.
    Whitened residuals should lie in it at every distance.

    Parameters
    ----------
    fit, whitened, classes, ax, figure
        As in `variogram`.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> fit = ranef.lmm("Reaction ~ Days", sleep, residual="ar1(Days | Subject)")
    >>> autocorrelation(fit, whitened=True).get_ylabel()
    'Autocorrelation of whitened residuals'
    """
    found, model, what = _found(fit, whitened, classes)
    panel = on_axes(ax, figure, 5.8, 3.8)
    reach = 1.96 / np.sqrt(found.pairs)
    panel.fill_between(found.distance, -reach, reach, color=BAND, linewidth=0)
    panel.axhline(0.0, color=MUTED, linewidth=0.9)
    panel.plot(found.distance, model, color=ACCENT, linewidth=1.8)
    panel.plot(found.distance, found.correlation, "o", color=MARK, markersize=5)
    label(panel, title="Autocorrelation of the residuals", x=_distance(fit),
          y=f"Autocorrelation of {what} residuals")  # fmt: skip
    finish(panel, grid="y")
    return panel


def variogram_text(fit: Any) -> str:
    """Describe the picture."""
    found, model, _ = _found(fit, False, CLASSES)
    return (
        f"Semivariance of standardised residuals by distance, from {found.semivariance[0]:.2f} at "
        f"{found.distance[0]:.3g} to {found.semivariance[-1]:.2f} at {found.distance[-1]:.3g}; the "
        f"fitted structure has {1 - model[0]:.2f} and {1 - model[-1]:.2f}."
    )


def autocorrelation_text(fit: Any) -> str:
    """Describe the picture."""
    found, model, _ = _found(fit, False, CLASSES)
    return (
        f"Autocorrelation of standardised residuals by distance, from {found.correlation[0]:.2f} "
        f"at {found.distance[0]:.3g} to {found.correlation[-1]:.2f} at {found.distance[-1]:.3g}; "
        f"the fitted structure has {model[0]:.2f} and {model[-1]:.2f}."
    )


def _distance(fit: Any) -> str:
    term = fit.estimate.specification.residual
    return f"Distance between two rows: {plain(term.label, 48)}"


def _found(fit: Any, whitened: bool, classes: int) -> tuple[ByDistance, Floats, str]:
    """Means by class, the model's correlations, and what the residuals are."""
    white = arguments.flag("whitened", whitened)
    count = arguments.count("classes", classes)
    spec = getattr(getattr(fit, "estimate", None), "specification", None)
    term = getattr(spec, "residual", None)
    if getattr(fit, "own_likelihood", False):
        white = True
    if term is None or not term.parts:
        raise ModelError(
            "the picture is of residuals that rows of a group share: fit the model with a "
            "structure, such as residual='ar1(day | person)'"
        )
    positions = [np.asarray(part.where, dtype=np.float64) for part in term.parts]
    positions = [p.reshape(len(p), -1) for p in positions]
    moving = [k for k, p in enumerate(positions) if np.any(p != p[0])]
    if not moving:
        raise ModelError(f"{term.label} has no positions: its rows have no distances")
    k = moving[-1]
    others = [p for i, p in enumerate(positions) if i != k]
    keys = np.column_stack([term.group.codes, *others])
    series = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    pairs = pairs_of(series, positions[k])
    if not len(pairs.first):
        raise ModelError(f"{term.label}: no group has two rows at different places")
    residual = _residuals(fit, white)
    found = by_distance(residual, pairs, count)
    model = np.zeros(len(found.distance)) if white else _model(fit, pairs, found)
    return found, model, "whitened" if white else "standardised"


def _residuals(fit: Any, white: bool) -> Floats:
    """Standardised residuals of the rows used; whitened, of a fit by its process one step ahead."""
    if getattr(fit, "own_likelihood", False):
        found = np.asarray(fit.residuals("pearson"), dtype=np.float64)
        return found[np.isfinite(found)]
    if white:
        return whitened_residuals(fit.estimate, fit.inference.residuals("response"))
    return np.asarray(fit.inference.residuals("pearson"))


def _model(fit: Any, pairs: Pairs, found: ByDistance) -> Floats:
    """Mean correlation (B,) of the pairs of each class by the fitted structure."""
    step = max(1, len(pairs.first) // MODEL_PAIRS)
    rows = np.column_stack([pairs.first, pairs.second])[::step]
    place = found.place[::step]
    R = residual_covariance(fit.estimate).covariance(rows)
    correlation = R[:, 0, 1] / np.sqrt(R[:, 0, 0] * R[:, 1, 1])
    counts = np.bincount(place, minlength=len(found.distance))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.bincount(place, correlation, len(found.distance)) / counts)
