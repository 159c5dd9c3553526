"""The answer of `power`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Fixed, Label, Listing, Written
from ranef.display.numbers import number
from ranef.errors import ModelError, suggestion
from ranef.questions.power.numbers import share_interval, size_reaching
from ranef.questions.power.picture import draw_power, power_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Power", "Study"]

Floats = NDArray[np.float64]
COUNT = Written("{:,}".format)


@dataclass(frozen=True, eq=False)
class Study:
    """Simulations of one design.

    Attributes
    ----------
    at : dict
        What varies between the designs -> its value here.
    rows : int
        Rows of the study before anything is missing.
    rejected : (n, T) float64 array
        Whether each test rejected, NaN where the fit or the test failed.
    reasons : tuple of str
        Why fits or tests failed.
    """

    at: Mapping[str, Any]
    rows: int
    rejected: Floats
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Power(Answer):
    """How often tests reject; `ranef.power` makes it.

    Attributes
    ----------
    studies : tuple of Study
        One a design.
    tests : tuple of str
        Their names.
    alpha : float
    conf_level : float
        Of the intervals of Monte Carlo error.
    title, library : str
    coded : dict
        Column and level of coefficients that stand for a level of a category.

    Examples
    --------
    >>> import ranef
    >>> power = ranef.power("y ~ x + (1 | g)", {"g": 12, "x": [0, 1]}, fixed={"x": 1.0},
    ...                     sd={"g": 1.0}, sigma=1.0, test="x", n=100, rng=1)
    >>> power.power.shape
    (1, 1)
    """

    studies: tuple[Study, ...]
    tests: tuple[str, ...]
    alpha: float
    conf_level: float
    title: str
    library: str
    coded: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Simulations of each design."""
        return len(self.studies[0].rejected)

    @property
    def power(self) -> Floats:
        """Share of the simulations in which each test rejects, (designs, tests).

        A simulation whose fit or test failed does not reject.
        """
        return np.array([np.nansum(s.rejected, axis=0) / len(s.rejected) for s in self.studies])

    @property
    def n_failed(self) -> NDArray[np.int_]:
        """Simulations that failed, (designs, tests)."""
        return np.array([np.isnan(s.rejected).sum(axis=0) for s in self.studies])

    def reasons(self) -> Counter[str]:
        """Count the reasons why simulations failed."""
        return Counter(reason for study in self.studies for reason in study.reasons)

    def tidy(self) -> Any:
        """Return a row for each design and test.

        Returns
        -------
        table
            What varies between the designs, ``test, rows, n, n_failed, power, conf_low,
            conf_high``.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        T, places = len(self.tests), [s for s in self.studies for _ in self.tests]
        varied = [Column(name, [s.at[name] for s in places], Label()) for name in places[0].at]
        power, counts = self.power.ravel(), np.rint(self.power.ravel() * self.n).astype(int)
        limits = [share_interval(int(k), self.n, self.conf_level) for k in counts]
        columns = (
            *varied,
            Column("test", list(self.tests) * len(self.studies), printed=T > 1 or not varied),
            Column("rows", [s.rows for s in places], COUNT),
            Column("n", [self.n] * len(places), COUNT, printed=False),
            Column("n_failed", self.n_failed.ravel(), COUNT, "failed"),
            Column("power", power, Fixed(3)),
            Column("conf_low", np.array([low for low, _ in limits]), Fixed(3),
                   f"{percent(self.conf_level)} low"),
            Column("conf_high", np.array([high for _, high in limits]), Fixed(3), "high"),
        )  # fmt: skip
        return (Listing("power", columns, "Power", len(varied) + (T > 1 or not varied)),)

    def sentences(self) -> tuple[str, ...]:
        lines = [
            f"Share of {self.n:,} simulated studies of each design in which the test rejects at "
            f"{self.alpha:g}, with its Monte Carlo error."
        ]
        if failed := int(self.n_failed.max()):
            reason = self.reasons().most_common(1)[0][0]
            lines.append(
                f"Up to {failed:,} failed, and count as not rejecting; most often: {reason}"
            )
        return tuple(lines)

    def smallest(self, power: float = 0.8, *, over: str | None = None) -> Any:
        """Return the smallest size at which each test reaches a power.

        Parameters
        ----------
        power : float
        over : str, optional
            What is to be made smaller; the first that varies. The others that vary split
            the table.

        Returns
        -------
        table
            What else varies, ``test``, the size, ``conf_low, conf_high``: the whole number
            from which the curve lies at the power or above, and the same for the ends of
            its Monte Carlo interval. Missing where no size that was simulated reaches it.

        Notes
        -----
        Between the sizes the curve is taken to go straight in the normal quantile of the
        power and the root of the size, after neighbours that fall were pooled. A curve that
        has the power at its first size tells only that this is enough.

        Examples
        --------
        >>> import ranef
        >>> power = ranef.power("y ~ x + (1 | g)", {"g": 8, "x": [0, 1]}, fixed={"x": 1.0},
        ...                     sd={"g": 1.0}, sigma=1.0, test="x", vary={"g": [8, 16, 32]},
        ...                     n=200, rng=1)
        >>> int(power.smallest(0.8)["g"][0]) in range(14, 24)
        True
        """
        if not 0.0 < float(power) < 1.0:
            raise ModelError(f"power must lie between 0 and 1, not {power!r}")
        names = list(self.studies[0].at)
        if not names:
            raise ModelError("smallest() needs designs of several sizes: give power() vary={...}")
        over = names[0] if over is None else over
        if over not in names:
            raise ModelError(f"over: nothing varies by the name {over!r}{suggestion(over, names)}")
        return self.tabled(self._smallest(float(power), over, [n for n in names if n != over]))

    def _smallest(self, power: float, over: str, others: Sequence[str]) -> Listing:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, study in enumerate(self.studies):
            groups.setdefault(tuple(study.at[name] for name in others), []).append(i)
        rows = [
            (*key, test, *self._sizes(places, t, power, over))
            for key, places in groups.items()
            for t, test in enumerate(self.tests)
        ]
        names = (*others, "test", over, "conf_low", "conf_high")
        columns = [Column(n, list(v)) for n, v in zip(names, zip(*rows, strict=True), strict=True)]
        return Listing(
            "smallest", tuple(columns), f"Smallest size with a power of {number(power, 2)}"
        )

    def _sizes(self, places: Sequence[int], t: int, power: float, over: str) -> tuple[float, ...]:
        """Size that reaches the power, and those of the upper and lower ends of the curve."""
        sizes = np.array([float(self.studies[i].at[over]) for i in places])
        order = np.argsort(sizes)
        share = self.power[np.array(places), t][order]
        ends = [share_interval(round(p * self.n), self.n, self.conf_level) for p in share]
        curves = (share, np.array([high for _, high in ends]), np.array([low for low, _ in ends]))
        weights = np.full(len(sizes), float(self.n))
        found = (size_reaching(sizes[order], curve, weights, power) for curve in curves)
        return tuple(float(np.ceil(x - 1e-9)) for x in found)

    def plot(
        self,
        *,
        target: float | None = 0.8,
        ax: Axes | None = None,
        figure: Figure | None = None,
    ) -> Axes:
        """Draw power against what varies first, with its Monte Carlo error.

        Parameters
        ----------
        target : float or None
            Where a line is drawn.
        ax, figure : optional
            Where to draw.
        """
        if not self.studies[0].at:
            raise ModelError("a picture needs designs of several sizes: give power() vary={...}")
        if target is not None:
            target = arguments.number("target", target)
        return draw_power(self, target=target, ax=ax, figure=figure)

    def alt_text(self) -> str:
        """Return the picture in words."""
        return power_text(self)
