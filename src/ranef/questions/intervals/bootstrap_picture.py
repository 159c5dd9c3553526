"""What a bootstrap drew: a histogram of each parameter with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    told_apart,
)
from ranef.display.columns import Listing
from ranef.elsewhere import Pictures
from ranef.errors import ModelError, suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BootstrapPlots", "draws"]

Floats = NDArray[np.float64]

FEWEST = 2
NARROW = 1e-12


class Bootstrapped(Protocol):
    """The part of a bootstrap that the picture reads."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def draws(self) -> Floats: ...

    @property
    def estimate(self) -> Floats: ...

    def intervals(self, conf_level: float = ..., kind: str = ...) -> Listing: ...


@dataclass(frozen=True, eq=False)
class BootstrapPlots(Pictures):
    """The picture of a bootstrap.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> ranef.bootstrap(fit, 50, rng=1).plot.draws("sigma").get_title(loc="left")
    'sigma'
    """

    bootstrap: Bootstrapped

    def draws(
        self,
        parameters: str | Sequence[str] | None = None,
        *,
        conf_level: float = 0.95,
        kind: str = "percentile",
        ax: Axes | None = None,
    ) -> Any:
        """Draw a histogram of each parameter, see `ranef.plots.draws`."""
        return draws(self.bootstrap, parameters, conf_level=conf_level, kind=kind, ax=ax)

    def __repr__(self) -> str:
        return "plots of a bootstrap: .draws()"


def draws(
    bootstrap: Bootstrapped,
    parameters: str | Sequence[str] | None = None,
    *,
    conf_level: float = 0.95,
    kind: str = "percentile",
    ax: Axes | None = None,
    figure: Figure | None = None,
) -> Any:
    """Draw a histogram of the draws of each parameter, the interval and the estimate in it.

    Parameters
    ----------
    bootstrap : Bootstrap
    parameters : str or list of str, optional
        Names as in ``bootstrap.names``; all of them if not given.
    conf_level : float
    kind : {"percentile", "basic", "normal", "bca"}
        Of the interval.
    ax : matplotlib Axes, optional
        Where to draw when there is one parameter.
    figure : matplotlib Figure, optional
        An empty figure to use instead of a new one.

    Returns
    -------
    matplotlib Axes, or an array of them
    """
    wanted = _wanted(bootstrap.names, parameters)
    limits = bootstrap.intervals(conf_level, kind).table
    low, high = limits["conf_low"], limits["conf_high"]
    titles = told_apart([bootstrap.names[k] for k in wanted])
    axes = panels(titles, ax, figure, single=(5.6, 3.6), height=3.0)
    for panel, k, title in zip(axes, wanted, titles, strict=True):
        values = bootstrap.draws[:, k]
        values = values[np.isfinite(values)]
        panel.axvspan(low[k], high[k], color=BAND, linewidth=0, zorder=0)
        if len(values) >= FEWEST and np.ptp(values) > NARROW * max(1.0, abs(values[0])):
            bins = int(np.clip(np.sqrt(len(values)), 8, 40))
            panel.hist(values, bins=bins, color=MARK, edgecolor="white", linewidth=0.5)
        panel.axvline(bootstrap.estimate[k], color=ACCENT, linewidth=1.6)
        for end in (low[k], high[k]):
            panel.axvline(end, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        label(panel, title=title, x=f"{percent(conf_level)} {kind} interval", y="replicates")
        finish(panel, grid="y")
        panel.tick_params(axis="x", labelcolor=INK)
    return one_or_all(axes)


def _wanted(names: Sequence[str], parameters: str | Sequence[str] | None) -> list[int]:
    if parameters is None:
        return list(range(len(names)))
    chosen = [parameters] if isinstance(parameters, str) else list(parameters)
    for name in chosen:
        if name not in names:
            raise ModelError(
                f"the bootstrap has no {name!r}{suggestion(name, names)}; it has "
                f"{', '.join(map(repr, names))}"
            )
    return [list(names).index(name) for name in chosen]
