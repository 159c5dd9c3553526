"""`standardized_ratios`: providers beside what their patients let expect; funnels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, Written, unprinted
from ranef.display.numbers import number
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.determined import where_determined
from ranef.inference.effects.joint_posterior import GIVEN
from ranef.questions.levels import funnel as funnel_
from ranef.questions.levels import poisson_gamma as poisson_gamma_
from ranef.questions.levels import rank_pictures
from ranef.questions.levels import ratios as ratios_
from ranef.questions.levels.funnel import Funnel
from ranef.questions.levels.place import Place, place_of, posterior_words, shortened
from ranef.questions.levels.ratios import Ratios
from ranef.tables import make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ControlLimits", "StandardizedRatios", "standardized_ratios"]

Floats = NDArray[np.float64]

MOST_PRINTED = 20
NOT_A_CLAIM = (
    "The ratios do not test one level against another, and are no causal statement about "
    "quality. A ratio compares a level with what the model expects of its own rows (indirect "
    "standardisation); two levels are comparable only as far as their rows are alike."
)


@where_determined
def standardized_ratios(
    fit: Any,
    by: str | None = None,
    *,
    reference: str = "typical",
    threshold: float = 1.0,
    per: float = 1.0,
    given: str = "variance",
    conf_level: float = 0.95,
    n: int = 2000,
    rng: Any = 0,
) -> StandardizedRatios:
    """Compare what each level had with what the model expects of its rows.

    Indirect standardisation: the expected sum of a level (a ward, a hospital, a district)
    is that of its own rows in a level whose effect is average. Observed over expected is the
    raw ratio (SIR, SMR), with limits that are exact for Poisson and binomial counts;
    predicted over expected, with the level's own shrunken effect, is the ratio that the
    model believes.

    Parameters
    ----------
    fit : a fit of `glmm` (counts, proportions, normal responses) or `lmm`
        The adjustment is its fixed effects; the exposure of counts its offset, as in
        ``offset(log(patient_days))``.
    by : str, optional
        The grouping factor; may be left out when there is one.
    reference : {"typical", "population"}
        Of whom the expectation is: of a level with effect zero, which is the median
        level; or of all levels together, the effects integrated over their
        distribution. The effects of other factors are treated alike.
    threshold : float
        Also the probability that the ratio exceeds this.
    per : float
        Rates are for this much exposure, such as 1,000 patient-days.
    given : {"variance", "parameters", "nothing"}
        What the posterior of the effects takes as known, see `posterior`.
    conf_level : float
    n : int
        Where a level has several effects.
    rng : int or numpy.random.Generator

    Returns
    -------
    StandardizedRatios
        With ``tidy()``, ``plot()``, ``funnel()`` and ``poisson_gamma()``.

    Notes
    -----
    The effects are normal on the scale of the link. Under a log link with a random
    intercept the shrunken ratio is exp(b).

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> ratios = ranef.standardized_ratios(fit, "herd")
    >>> ratios.tidy()[["level", "observed", "expected", "ratio", "shrunken"]].round(2).head(3)
      level  observed  expected  ratio  shrunken
    0     1       9.0      4.69   1.92      1.62
    1     2       5.0      7.42   0.67      0.77
    2     3      12.0      7.85   1.53      1.40
    """
    place = place_of(fit, by, what="standardized_ratios()")
    reference = arguments.choice("reference", reference, ratios_.REFERENCES)
    given = arguments.choice("given", given, GIVEN)
    limit, unit = _positive("threshold", threshold), _positive("per", per)
    level = arguments.conf_level(conf_level)
    ratios = ratios_.ratios(
        place.fit.inference,
        place.factor,
        reference=reference,
        threshold=limit,
        conf_level=level,
        given=given,
        draws=arguments.count("n", n),
        rng=arguments.generator(rng),
    )
    return StandardizedRatios(
        place, reference, limit, unit, given, level, place.adjusted_for, ratios
    )


def _positive(name: str, value: Any) -> float:
    size = arguments.number(name, value)
    if not 0 < size < np.inf:
        raise ModelError(f"{name} must be positive, not {size:g}")
    return size


@dataclass(frozen=True, eq=False, repr=False)
class StandardizedRatios(Answer):
    """Observed, expected, and their ratios; `ranef.standardized_ratios` makes it.

    Attributes
    ----------
    place : Place
        The fit and the grouping factor.
    reference : str
    threshold, per : float
    given : str
    conf_level : float
    adjusted_for : tuple of str
    found : Ratios
        As arrays, in the order of the levels.
    """

    place: Place
    reference: str
    threshold: float
    per: float
    given: str
    conf_level: float
    adjusted_for: tuple[str, ...]
    found: Ratios

    def tidy(self, *, sort: bool = False) -> Any:
        """Return a row for each level.

        Parameters
        ----------
        sort : bool
            From the largest shrunken ratio to the smallest; else in the order of the
            levels.

        Returns
        -------
        table
            - ``group, level, n_rows, exposure, observed, expected``;
            - ``ratio, ratio_low, ratio_high``: raw, with limits of the counts alone;
            - ``shrunken, conf_low, conf_high``: by the level's own effect;
            - ``reliability``: 1 - v / tau^2 of the effect;
            - ``prob_above``: posterior probability that the ratio exceeds the threshold;
            - ``rate``: observed for one unit of exposure (times `per`);
              ``adjusted_rate``: the shrunken ratio times the overall rate.
        """
        return self.tabled(self._league if arguments.flag("sort", sort) else self.listing())

    @property
    def title(self) -> str:
        return f"Standardised ratios of {len(self.place.levels):,} levels of {self.place.group}"

    @property
    def library(self) -> str:
        return self.place.library

    def tables(self) -> tuple[Listing, ...]:
        ratios, percent = self.found, f"{100 * self.conf_level:g}%"
        overall = ratios.observed.sum() / ratios.exposure.sum()
        whole = Fixed(1 if ratios.kind == "numbers" else 0)
        limits = list(zip(ratios.raw_low, ratios.raw_high, strict=True))
        interval = list(zip(ratios.low, ratios.high, strict=True))
        columns = (
            *self.place.level_columns,
            *unprinted(n_rows=ratios.rows, exposure=ratios.exposure),
            Column("observed", ratios.observed, whole),
            Column("expected", ratios.expected, Fixed(1)),
            Column("ratio", ratios.raw, Fixed(2), "raw"),
            *unprinted(ratio_low=ratios.raw_low, ratio_high=ratios.raw_high),
            Column("limits", limits, Written(_range), f"{percent} limits", tabled=False),
            Column("shrunken", ratios.shrunken, Fixed(2)),
            *unprinted(conf_low=ratios.low, conf_high=ratios.high),
            Column("interval", interval, Written(_range), f"{percent} interval", tabled=False),
            Column("reliability", ratios.reliability, Fixed(2)),
            Column("prob_above", ratios.above, Fixed(3), f"P(> {self.threshold:g})"),
            *unprinted(
                rate=self.per * ratios.observed / ratios.exposure,
                adjusted_rate=self.per * ratios.shrunken * overall,
            ),
        )
        return (Listing("ratios", columns),)

    @property
    def _league(self) -> Listing:
        """The table from the largest ratio."""
        return self.listing().take(np.argsort(-self.found.shrunken, kind="stable"))

    def in_order(self, listing: Listing) -> Listing:
        """Return the table from the largest ratio."""
        return self._league if listing.name == "ratios" else listing

    def poisson_gamma(self) -> Any:
        """Return shrunken ratios under a gamma distribution, in closed form, for comparison.

        The counts of a level are Poisson around a ratio times the expected count, and
        the ratios gamma (Clayton & Kaldor 1987); the model of the fit has them
        lognormal.

        Returns
        -------
        table
            ``group, level, shrunken, conf_low, conf_high, reliability, prob_above``;
            `prob_above` is of a ratio above 1.
        """
        ratios = self.found
        if ratios.kind != "counts":
            raise ModelError(
                "the Poisson-Gamma model is of counts; this fit has "
                f"{'proportions' if ratios.kind == 'proportions' else 'normal responses'}"
            )
        gamma = poisson_gamma_.poisson_gamma(ratios.observed, ratios.expected, self.conf_level)
        values = unprinted(
            shrunken=gamma.estimate,
            conf_low=gamma.low,
            conf_high=gamma.high,
            reliability=gamma.reliability,
            prob_above=gamma.above,
        )
        return self.tabled(Listing("gamma", (*self.place.level_columns, *values)))

    def funnel(
        self,
        *,
        target: float | str = 1.0,
        levels: Sequence[float] = (0.95, 0.998),
        overdispersion: str = "none",
        robust: str = "winsorise",
        share: float = 0.1,
    ) -> ControlLimits:
        """Set the raw ratios against their control limits: a funnel plot and its table.

        Parameters
        ----------
        target : float or "overall"
            The ratio in the middle: 1, what the model expects, as for the ratios'
            own limits; ``"overall"`` is observed over expected of all levels together.
        levels : sequence of float
            Of the limits.
        overdispersion : {"none", "additive", "multiplicative"}
            Limits for counts that vary as the model says within levels, and not between
            them: exact for Poisson and binomial counts, of negative binomial sums with the
            model's mean and variance for others; or wider ones, for a
            variance tau^2 between levels, or a factor phi of all variances, estimated
            from the levels (Spiegelhalter 2005, 2012).
        robust : {"winsorise", "trim", "none"}
            What is done to extreme levels before that is estimated.
        share : float
            How many at each end: 0.1 is a tenth.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...                  ranef.data.load("cbpp"), family="binomial")
        >>> funnel = ranef.standardized_ratios(fit, "herd").funnel()
        >>> funnel.tidy().query("status != 'inside'")[["level", "ratio", "status"]].round(2)
           level  ratio       status
        0      1   1.92    above 95%
        6      7   2.44  above 99.8%
        7      8   1.78    above 95%
        12    13   0.35    below 95%
        13    14   2.59  above 99.8%
        """
        ratios = self.found
        if ratios.kind == "numbers":
            raise ModelError(
                "a funnel has limits of counts or proportions; this fit has normal responses "
                "(see fit.plot.random() for effects with intervals)"
            )
        trials = ratios.exposure if ratios.kind == "proportions" else None
        limits = funnel_.funnel(
            funnel_.Counts(ratios.observed, ratios.expected, trials, ratios.variance),
            target=None if target == "overall" else _positive("target", target),
            levels=tuple(arguments.conf_level(level) for level in levels),
            overdispersion=arguments.choice(
                "overdispersion", overdispersion, funnel_.OVERDISPERSION
            ),
            robust=arguments.choice("robust", robust, funnel_.ROBUST),
            share=_share(share),
        )
        return ControlLimits(self, limits)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the league table with its uncertainty, see `ranef.plots.league`."""
        return rank_pictures.league(self, ax=ax, figure=figure)

    def body(self) -> Iterable[Part]:
        return shortened(self._league, "From the largest ratio"), Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        of = {
            "typical": f"a typical {self.place.group} (effect zero)",
            "population": f"the population of {self.place.group} (effects integrated out)",
        }[self.reference]
        adjusted = ", ".join(self.adjusted_for) or "nothing: the model has no other term"
        return (
            f"Expected is the sum that the level's own rows would have in {of}. Raw is observed "
            f"over expected, its limits are {self.found.limits}; shrunken is predicted over "
            "expected, with the level's own effect (normal on the scale of the link).",
            posterior_words(self.place, self.given),
            NOT_A_CLAIM,
            f"Adjusted for: {adjusted}.",
        )


def _range(ends: tuple[float, float]) -> str:
    low, high = (number(float(end), 2) for end in ends)
    return f"{low} to {high}"


def _share(value: Any) -> float:
    share = arguments.number("share", value)
    if not 0 <= share < 0.5:
        raise ModelError(f"share is that of each end, from 0 to below 0.5; not {share:g}")
    return share


@dataclass(frozen=True, eq=False, repr=False)
class ControlLimits(Answer):
    """A funnel: ratios against limits that narrow as the expected count grows.

    Attributes
    ----------
    ratios : StandardizedRatios
    found : Funnel
        As arrays.
    """

    ratios: StandardizedRatios
    found: Funnel

    @property
    def status(self) -> list[str]:
        """Where each level lies: ``"inside"``, ``"above 95%"``, ``"below 99.8%"``."""
        words = [f"{100 * level:g}%" for level in self.found.levels]
        return [
            "inside" if side == 0 else f"{'above' if side > 0 else 'below'} {words[abs(side) - 1]}"
            for side in self.found.side
        ]

    def tidy(self) -> Any:
        """Return a row for each level.

        Returns
        -------
        table
            ``group, level, observed, expected, ratio``, limits such as ``low_95, high_95,
            low_99.8, high_99.8``, ``z`` (distance from the target in standard errors, of
            which 1.96 is at the 95% limits) and ``status``.
        """
        return super().tidy()

    @property
    def title(self) -> str:
        return f"Funnel of {len(self.found.z):,} levels of {self.ratios.place.group}"

    @property
    def library(self) -> str:
        return self.ratios.library

    def tables(self) -> tuple[Listing, ...]:
        funnel = self.found
        columns = (
            *self.ratios.place.level_columns,
            Column("observed", funnel.counts.observed, Fixed(0)),
            Column("expected", funnel.counts.expected, Fixed(1)),
            Column("ratio", funnel.ratio, Fixed(2)),
            *unprinted(**self._limits(funnel.low, funnel.high)),
            Column("z", funnel.z, Fixed(2)),
            Column("status", self.status),
        )
        return (Listing("funnel", columns),)

    def _limits(self, low: Floats, high: Floats) -> dict[str, Floats]:
        """Columns of limits (levels, m), those of each confidence level together."""
        ends: dict[str, Floats] = {}
        for level, below, above in zip(self.found.levels, low, high, strict=True):
            ends |= {f"low_{100 * level:g}": below, f"high_{100 * level:g}": above}
        return ends

    def limits(self, points: int = 200) -> Any:
        """Return the curves of the picture: ``expected`` and the limits there.

        Of proportions for the average expected probability.
        """
        at, low, high = self.found.curve(arguments.count("points", points))
        return make_table({"expected": at, **self._limits(low, high)}, self.library)

    def plot(self, *, ax: Axes | None = None, figure: Figure | None = None) -> Axes:
        """Draw the funnel, see `ranef.plots.funnel`."""
        return rank_pictures.funnel(self, ax=ax, figure=figure)

    def body(self) -> Iterable[Part]:
        """The levels that lie outside, the farthest first, and the sentences."""
        outside = np.flatnonzero(self.found.side)
        farthest = outside[np.argsort(-np.abs(self.found.z[outside]), kind="stable")]
        if len(outside):
            yield self.listing().take(farthest[:MOST_PRINTED], "Outside the limits")
        yield Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        funnel = self.found
        q = len(funnel.z)
        chance = q * (1 - funnel.levels[0])
        limits = self.ratios.found.limits
        law = f"{limits} limits, without allowance for other variation"
        if funnel.counts.variance is not None:
            name = self.ratios.place.fit.family.name
            law = f"{limits}, with the variance that the {name} model gives within levels"
        allowance = {
            "none": law,
            "additive": f"limits with a standard deviation of {funnel.tau:.3f} between levels "
            "on the variance-stabilised scale",
            "multiplicative": f"limits {np.sqrt(max(funnel.phi, 1.0)):.2f} times as wide as by "
            "chance",
        }[funnel.overdispersion]
        doubtful = funnel.phi > funnel.chance * (1 + 2 * np.sqrt(2 / q))
        more = ""
        if funnel.overdispersion == "none" and doubtful:
            more = (
                "; this suggests that many levels differ, for which these limits make no allowance "
                "(overdispersion='additive' does)"
            )
        further = "".join(
            f", {int(np.sum(np.abs(funnel.side) > k))} outside those of {100 * level:g}%"
            for k, level in enumerate(funnel.levels)
            if k
        )
        return (
            f"{np.count_nonzero(funnel.side)} of {q:,} levels lie outside the "
            f"{100 * funnel.levels[0]:g}% limits around {funnel.target:.3f}{further}; by chance "
            f"{chance:.1f} would lie outside the first. The limits are {allowance}.",
            f"Squared distances average {funnel.phi:.2f} ({funnel.chance:.2f} by chance "
            f"alone){more}.",
            NOT_A_CLAIM,
            f"Adjusted for: {', '.join(self.ratios.adjusted_for) or 'nothing'}.",
        )
