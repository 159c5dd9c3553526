"""Profiles of the likelihood: zeta along each parameter, and the density it implies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranef.display.canvas import (
    ACCENT,
    BAND,
    INK,
    MARK,
    MUTED,
    finish,
    label,
    one_or_all,
    panels,
    percent,
    plain,
)
from ranef.display.columns import Listing
from ranef.elsewhere import Pictures
from ranef.errors import ModelError
from ranef.models.labels import CONDITIONAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ProfilePlots", "density", "profile_text", "zeta"]

Floats = NDArray[np.float64]

FINE = 241


class Profiled(Protocol):
    """The part of a profile that the pictures read."""

    @property
    def parameters(self) -> Sequence[Any]: ...

    @property
    def curves(self) -> Sequence[Any]: ...

    @property
    def conf_level(self) -> float: ...

    def intervals(self, conf_level: float) -> Listing: ...


@dataclass(frozen=True, eq=False)
class ProfilePlots(Pictures):
    """The pictures of a profile.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> ranef.profile(fit, "sd: Batch").plot.zeta().get_ylabel()
    'zeta'
    """

    profile: Profiled

    def zeta(self, *, conf_level: float = 0.95, ax: Axes | None = None) -> Any:
        """Draw zeta along each parameter, see `ranef.plots.zeta`."""
        return zeta(self.profile, conf_level=conf_level, ax=ax)

    def density(self, *, conf_level: float = 0.95, ax: Axes | None = None) -> Any:
        """Draw the density that each profile implies, see `ranef.plots.density`."""
        return density(self.profile, conf_level=conf_level, ax=ax)

    def __repr__(self) -> str:
        return "plots of a profile: .zeta(), .density()"


@dataclass(frozen=True, eq=False)
class _CurveLine:
    """One curve, finely."""

    title: str
    value: Floats
    zeta: Floats
    points: tuple[Floats, Floats]
    estimate: float
    limits: tuple[float, float]


def zeta(
    profile: Profiled,
    *,
    conf_level: float = 0.95,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw zeta along each parameter: one panel each, straight where Wald's interval is right.

    Dots are the points computed. The band holds the interval at `conf_level`, between
    the normal quantiles marked by broken lines.

    Parameters
    ----------
    profile : Profile
    conf_level : float
    ax : matplotlib Axes, optional
        Where to draw when there is one parameter.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one.

    Returns
    -------
    matplotlib Axes, or an array of them
    """
    lines = _lines(profile, conf_level)
    reach = NormalDist().inv_cdf((1 + conf_level) / 2)

    def draw(panel: Axes, line: _CurveLine) -> None:
        _band(panel, line)
        for height, style in ((reach, (0, (4, 3))), (-reach, (0, (4, 3))), (0.0, "solid")):
            panel.axhline(height, color=MUTED, linewidth=0.8, linestyle=style)
        panel.plot(line.value, line.zeta, color=MARK, linewidth=1.8)
        panel.plot(*line.points, "o", color=MARK, markersize=3.5)
        panel.plot([line.estimate], [0.0], "D", color=ACCENT, markersize=5)
        _finish(panel, line, "zeta")

    return _drawn(lines, draw, ax, figure)


def density(
    profile: Profiled,
    *,
    conf_level: float = 0.95,
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw the density of each parameter that its zeta, taken as standard normal, implies.

    The filled part holds the interval at `conf_level`. Where zeta stops at the end of
    the parameter's range (a standard deviation at 0) so does the density: what is missing
    of its area is the share of the normal distribution beyond.

    Parameters
    ----------
    profile : Profile
    conf_level : float
    ax : matplotlib Axes, optional
    figure : matplotlib Figure, optional

    Returns
    -------
    matplotlib Axes, or an array of them
    """
    lines = _lines(profile, conf_level)

    def draw(panel: Axes, line: _CurveLine) -> None:
        height = np.gradient(line.zeta, line.value) * np.exp(-(line.zeta**2) / 2)
        height /= np.sqrt(2 * np.pi)
        low, high = line.limits
        inside = (line.value >= low) & (line.value <= high)
        panel.fill_between(line.value, height, where=inside, color=BAND, linewidth=0)
        panel.plot(line.value, height, color=MARK, linewidth=1.8)
        panel.axvline(line.estimate, color=ACCENT, linewidth=1.2)
        panel.set_ylim(bottom=0.0)
        _finish(panel, line, "density")

    return _drawn(lines, draw, ax, figure)


def profile_text(profile: Profiled, conf_level: float) -> str:
    """Describe the picture of zeta: where it bends most."""
    table = profile.intervals(conf_level).table
    value, low, high = (table[c] for c in ("estimate", "conf_low", "conf_high"))
    with np.errstate(all="ignore"):
        skew = np.where(np.isfinite(low) & np.isfinite(high), (high - value) / (value - low), 1.0)
    skew = np.where(np.isfinite(skew) & (skew > 0), skew, np.inf)
    worst = int(np.argmax(np.abs(np.log(skew))))
    text = f"Profile zeta of {len(value)} parameters against their values"
    if np.isinf(skew[worst]):
        return f"{text}; an interval reaches the end of its parameter's range."
    return (
        f"{text}; the line bends most for {profile.parameters[worst].label}, whose "
        f"{percent(conf_level)} interval reaches {skew[worst]:.2g} times as far up as down."
    )


def _drawn(lines: Sequence[_CurveLine], draw: Any, ax: Axes | None, figure: Figure | None) -> Any:
    axes = panels([line.title for line in lines], ax, figure, single=(5.6, 3.6), height=3.0)
    for panel, line in zip(axes, lines, strict=True):
        draw(panel, line)
    return one_or_all(axes)


def _band(panel: Axes, line: _CurveLine) -> None:
    low, high = (float(np.clip(x, line.value[0], line.value[-1])) for x in line.limits)
    panel.axvspan(low, high, color=BAND, linewidth=0, zorder=0)


def _finish(panel: Axes, line: _CurveLine, y: str) -> None:
    label(panel, title=line.title, x="", y=y)
    finish(panel, grid="both")
    panel.margins(x=0.02)
    panel.tick_params(axis="x", labelcolor=INK)


def _lines(profile: Profiled, conf_level: float) -> list[_CurveLine]:
    """Evaluate each curve between its ends."""
    if not 0.0 < conf_level <= profile.conf_level:
        raise ModelError(
            f"conf_level must be at most that of the profile, {percent(profile.conf_level)}"
        )
    lines = []
    reach = NormalDist().inv_cdf((1 + conf_level) / 2)
    for parameter, curve in zip(profile.parameters, profile.curves, strict=True):
        if curve is None or len(curve.c) < 2:
            continue
        c = np.unique(np.concatenate([np.linspace(curve.c[0], curve.c[-1], FINE), curve.c]))
        value = np.array([curve.reading(x) for x in c])
        kept = np.isfinite(value) & np.append(np.diff(value) > 0, True)
        heights, _ = curve.at(c)
        lines.append(
            _CurveLine(
                plain(_title(parameter), 40), value[kept], heights[kept], (curve.value, curve.zeta),
                parameter.estimate, curve.interval(reach),
            )
        )  # fmt: skip
    if not lines:
        raise ModelError("the profile has no curve to draw")
    return lines


def _title(parameter: Any) -> str:
    """``Days``, ``Subject: sd Days`` or, of another part, ``person: sd inertia (Intercept)``."""
    if parameter.group is None or parameter.group == "Residual":
        return str(parameter.label)
    term = " with ".join(x for x in (parameter.term, parameter.term2) if x)
    part = getattr(parameter, "component", None)
    own = "" if part in (None, CONDITIONAL, "residual") or term.startswith(f"{part}:") else part
    return " ".join(x for x in (f"{parameter.group}:", parameter.kind, own, term) if x)
