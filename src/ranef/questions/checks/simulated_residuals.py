"""Simulated quantile residuals of a fit, and what they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue
from ranef.display.page import Paragraph
from ranef.display.progress import counted
from ranef.errors import ModelError
from ranef.fits.columns import column_of, groups_of, is_categorical, labels_of, time_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Generative, Likelihood, require
from ranef.questions.checks import residual_tests, simulated_numbers, simulated_picture
from ranef.questions.checks.residual_tests import ResidualTest
from ranef.questions.checks.simulated_numbers import Simulated
from ranef.tables import make_table

__all__ = ["SimulatedResiduals", "simulated_residuals"]

Floats = NDArray[np.float64]

WORDS = {
    "posterior": "effects drawn given the data",
    "conditional": "effects at their modes",
    "new": "effects of new levels",
}
CAUTION = {
    "posterior": "If the model holds, the residuals are independent and uniform.",
    "conditional": "Modes follow the data, so that residuals lie too near 0.5 and the tests of "
    "uniformity and dispersion do not hold their level; effects='posterior' does.",
    "new": "Rows of one level move together, so that tests which take rows for independent do "
    "not hold their level; effects='posterior' does.",
}


def simulated_residuals(
    fit: Any,
    n: int = 250,
    *,
    effects: str = "posterior",
    rng: Any = 0,
    by: Any = None,
    progress: bool | None = None,
) -> SimulatedResiduals:
    """Rank each response among responses that the fitted model draws for its row.

    The scaled residual lies between 0 and 1 and is uniform if the model holds, for every
    family; ties of discrete responses are broken at random.

    Parameters
    ----------
    fit : a fit of ranef
        Linear or generalised; ordered categories count by their order. Multinomial and
        censored responses are refused: they have no rank.
    n : int
        Draws for each row.
    effects : {"posterior", "conditional", "new"}
        Random effects in the draws: drawn once from their distribution given the data
        (then residuals are independent and uniform if the model holds, and all tests
        keep their level); held at their modes (what DHARMa does by default: modes follow
        the data, and tests of dispersion and uniformity are off where levels have few
        rows); or drawn anew (rows of one level move together).
    rng : int or numpy.random.Generator
        The same gives the same residuals.
    by : str or column, optional
        Add data and draws up by group first: a grouping factor, a column that the
        formulas use, or one value a row.
    progress : bool, optional
        Show a progress bar of the draws; None shows one when the work is long.

    Returns
    -------
    SimulatedResiduals

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("count ~ mined + (1 | site)", ranef.data.load("Salamanders"),
    ...                  family="poisson")
    >>> found = ranef.simulated_residuals(fit)
    >>> found.tidy()[["test", "statistic", "p_value"]].round(3)
                      test  statistic  p_value
    0           uniformity      0.151      0.0
    1           dispersion      2.618      0.0
    2             outliers      0.047      0.0
    3                zeros      1.364      0.0
    4  trend: fitted value      0.129      0.0
    """
    fit = require(fit, "simulated_residuals()", Likelihood, Generative)
    n = arguments.count("n", n)
    if n < 19:
        raise ModelError(f"n={n} draws are too few to rank a response among; take 19 at least")
    effects = arguments.choice("effects", effects, simulated_numbers.EFFECTS)
    generator = arguments.generator(rng)
    bar = arguments.optional_flag("progress", progress)
    simulated = simulated_numbers.simulated(
        fit.inference,
        n,
        effects,
        generator,
        watched=lambda numbers: counted(numbers, "simulating", bar, unit=" draws"),
    )
    if by is None:
        return SimulatedResiduals(simulated, fit, effects, None, None)
    codes, levels, name = groups_of(fit, by)
    summed = simulated_numbers.grouped(simulated, codes, generator)
    return SimulatedResiduals(summed, fit, effects, name, tuple(levels))


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedResiduals(Answer):
    """Scaled residuals of a fit; `simulated_residuals` makes them.

    Attributes
    ----------
    found : Simulated
        Data, draws and scaled residuals of the rows in the model (or groups) as arrays.
    fit : fit
    effects : str
    by : str or None
        Name of the groups that rows were added up by.
    levels : tuple or None
        These groups.
    """

    found: Simulated
    fit: MixedFit
    effects: str
    by: str | None
    levels: tuple[Any, ...] | None

    @property
    def title(self) -> str:
        return f"Simulated residuals: {self.fit.formula}"

    @property
    def library(self) -> str:
        return self.fit.frame.library

    @property
    def scaled(self) -> Floats:
        """The residuals of the rows in the model, or of the groups, as an array."""
        return self.found.scaled

    @property
    def residuals(self) -> Any:
        """One residual a row of the user's table, NaN where dropped; or a table by group."""
        if self.levels is None:
            return self.fit.frame.column(self.scaled, "residual")
        columns = {str(self.by): labels_of(self.levels), "residual": self.scaled}
        return make_table(columns, self.library)

    @cached_property
    def tests(self) -> tuple[ResidualTest, ...]:
        """Uniformity, dispersion, outliers, zeros (of counts), trend against the fit."""
        ranked = self.found
        tests = [
            residual_tests.uniformity(ranked),
            residual_tests.dispersion(ranked),
            residual_tests.outliers(ranked),
        ]
        if has_zeros(self.fit) and self.by is None:
            tests.append(residual_tests.zeros(ranked))
        if len(np.unique(ranked.predicted)) > 1:
            tests.append(residual_tests.trend(ranked.predicted, ranked.scaled, "fitted value"))
        return tuple(tests)

    def tidy(self) -> Any:
        """Return the tests as a table: ``test, statistic, expected, p_value, method``.

        Dispersion and zeros are ratios of the data to the draws; outliers the share of
        rows beyond all their draws; trend a multiple correlation.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        tests = self.tests
        columns = (
            Column("test", [t.name for t in tests]),
            Column("statistic", np.array([t.statistic for t in tests]), Fixed(3)),
            Column("expected", np.array([t.expected for t in tests]), Fixed(3)),
            Column("p_value", np.array([t.p_value for t in tests]), PValue(), "p"),
            Column("method", [t.method for t in tests], heading=""),
        )
        return (Listing("tests", columns, "Tests"),)

    def sentences(self) -> tuple[str, ...]:
        units = "rows" if self.by is None else f"groups of {self.by}"
        draws = self.found.draws.shape[1]
        return (
            f"{len(self.scaled):,} {units}, {draws:,} draws each, {WORDS[self.effects]}.",
            CAUTION[self.effects],
        )

    def body(self) -> Iterable[Part]:
        return Paragraph(self.sentences()), self.listing()

    def against(self, predictor: Any) -> ResidualTest:
        """Test whether the quartiles of the residuals depend on a predictor.

        Parameters
        ----------
        predictor : str or column
            A column that the formulas use, or one value a row. Categories are compared
            with each other, numbers by a smooth curve.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
        >>> ranef.simulated_residuals(fit).against("Days").p_value > 0.05
        True
        """
        values, name = column_of(self.fit, predictor, "predictor")
        values, scaled = self._rows(values)
        categories = is_categorical(self.fit, predictor)
        return residual_tests.trend(values, scaled, name, categories=categories)

    def temporal(self, time: Any, *, by: Any = None, rng: Any = 0) -> ResidualTest:
        """Test whether neighbours in time are alike, within groups, by permutation.

        Parameters
        ----------
        time : str or column
            A column that the formulas use, or one value a row; dates too.
        by : str or column, optional
            The groups; by default the grouping factor with the most levels that has
            several rows a level.
        rng : int or numpy.random.Generator

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Reaction ~ Days + (1 | Subject)", ranef.data.load("sleepstudy"))
        >>> ranef.simulated_residuals(fit).temporal("Days").statistic > 0.3
        True
        """
        self._refuse_groups("time")
        groups = self._usual_groups() if by is None else groups_of(self.fit, by)[0]
        return residual_tests.autocorrelation(
            self.scaled, time_of(self.fit, time), groups, arguments.generator(rng)
        )

    def spatial(self, x: Any, y: Any, *, rng: Any = 0) -> ResidualTest:
        """Test whether rows near each other are alike, by Moran's I and permutation.

        Parameters
        ----------
        x, y : str or column
            Coordinates: columns that the formulas use, or one value a row (of grouped
            residuals their mean is taken by group).
        rng : int or numpy.random.Generator

        Examples
        --------
        >>> import numpy as np, ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> place = np.arange(30.0)
        >>> bool(0 < ranef.simulated_residuals(fit).spatial(place, 0 * place).p_value <= 1)
        True
        """
        self._refuse_groups("places")
        east, _ = column_of(self.fit, x, "x")
        north, _ = column_of(self.fit, y, "y")
        return residual_tests.spatial(self.scaled, east, north, arguments.generator(rng))

    def _refuse_groups(self, what: str) -> None:
        if self.by is not None:
            raise ModelError(
                f"these residuals are of groups, and {what} are of rows; make them without by="
            )

    def _rows(self, values: Floats) -> tuple[Floats, Floats]:
        self._refuse_groups("predictors")
        kept = np.isfinite(values)
        return values[kept], self.scaled[kept]

    def _usual_groups(self) -> NDArray[np.int_]:
        spec = self.fit.estimate.specification
        several = [f for f in spec.factors if f.n_levels < spec.n]
        if not several:
            return np.zeros(spec.n, dtype=np.int_)
        return max(several, key=lambda f: f.n_levels).codes.astype(np.int_)

    def plot(self, *, axes: Any = None, figure: Any = None) -> NDArray[np.object_]:
        """Draw uniform quantiles, and the residuals against the fit with quartile lines.

        Parameters
        ----------
        axes : two matplotlib Axes, optional
            Where to draw; a new figure otherwise.
        figure : matplotlib Figure, optional
            An empty figure to use instead.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> [ax.get_title(loc="left") for ax in ranef.simulated_residuals(fit).plot()]
        ['Quantiles of scaled residuals', 'Scaled residuals against the fit']
        """
        return simulated_picture.simulated(self, axes=axes, figure=figure)


def has_zeros(fit: MixedFit) -> bool:
    """Tell whether the responses are such that zeros are worth counting."""
    estimate = fit.estimate
    name = estimate.family.name
    if name in ("binomial", "betabinomial"):
        return estimate.extra is not None and bool(np.max(estimate.extra) > 1)
    counts = ("poisson", "nbinom1", "nbinom2", "nbinom12", "genpois", "compois", "bell", "tweedie")
    return name in counts or "zero" in estimate.parts
