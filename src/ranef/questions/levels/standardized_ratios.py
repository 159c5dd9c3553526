"""`standardized_ratios`: providers beside what their patients let expect; funnels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Summary
from ranef.display.numbers import number
from ranef.display.page import Page, Paragraph, TextTable
from ranef.errors import ModelError
from ranef.inference.effects.joint_posterior import GIVEN
from ranef.questions.levels import funnel as funnel_
from ranef.questions.levels import poisson_gamma as poisson_gamma_
from ranef.questions.levels import rank_pictures
from ranef.questions.levels import ratios as ratios_
from ranef.questions.levels.funnel import Funnel
from ranef.questions.levels.place import Place, adjusted_for, place_of, posterior_words
from ranef.questions.levels.ratios import Ratios
from ranef.tables import make_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ControlLimits", "StandardizedRatios", "standardized_ratios"]

SHOWN = 20
NOT_A_CLAIM = (
    "What this is not: a test of one level against another, nor a causal claim about "
    "quality. A ratio compares a level with what the model expects of its own rows; two "
    "ratios compare two levels only as far as their rows are alike."
)


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
    found = ratios_.ratios(
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
        place, reference, limit, unit, given, level, adjusted_for(place), found
    )


def _positive(name: str, value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ModelError(f"{name} must be a number, not {value!r}")
    if not 0 < value < np.inf:
        raise ModelError(f"{name} must be positive, not {value:g}")
    return float(value)


@dataclass(frozen=True, eq=False, repr=False)
class StandardizedRatios:
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
        found, q = self.found, len(self.place.levels)
        overall = found.observed.sum() / found.exposure.sum()
        columns: dict[str, Any] = {
            "group": [self.place.group] * q,
            "level": list(self.place.levels),
            "n_rows": found.rows,
            "exposure": found.exposure,
            "observed": found.observed,
            "expected": found.expected,
            "ratio": found.raw,
            "ratio_low": found.raw_low,
            "ratio_high": found.raw_high,
            "shrunken": found.shrunken,
            "conf_low": found.low,
            "conf_high": found.high,
            "reliability": found.reliability,
            "prob_above": found.above,
            "rate": self.per * found.observed / found.exposure,
            "adjusted_rate": self.per * found.shrunken * overall,
        }
        if arguments.flag("sort", sort):
            by = np.argsort(-found.shrunken, kind="stable")
            columns = {
                name: values[by] if isinstance(values, np.ndarray) else [values[i] for i in by]
                for name, values in columns.items()
            }
        return make_table(columns, self.place.fit.frame.library)

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
        found = self.found
        if found.kind != "counts":
            raise ModelError(
                "the Poisson-Gamma model is of counts; this fit has "
                f"{'proportions' if found.kind == 'proportions' else 'normal responses'}"
            )
        gamma = poisson_gamma_.poisson_gamma(found.observed, found.expected, self.conf_level)
        columns = {
            "group": [self.place.group] * len(found.raw),
            "level": list(self.place.levels),
            "shrunken": gamma.estimate,
            "conf_low": gamma.low,
            "conf_high": gamma.high,
            "reliability": gamma.reliability,
            "prob_above": gamma.above,
        }
        return make_table(columns, self.place.fit.frame.library)

    def funnel(
        self,
        *,
        target: float | None = None,
        levels: Sequence[float] = (0.95, 0.998),
        overdispersion: str = "none",
        robust: str = "winsorise",
        share: float = 0.1,
    ) -> ControlLimits:
        """Set the raw ratios against their control limits: a funnel plot and its table.

        Parameters
        ----------
        target : float, optional
            The ratio in the middle; the overall ratio if left out.
        levels : sequence of float
            Of the limits.
        overdispersion : {"none", "additive", "multiplicative"}
            Exact limits for counts that vary by chance alone; or wider ones, for a
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
        6      7   2.44    above 95%
        7      8   1.78    above 95%
        12    13   0.35    below 95%
        13    14   2.59  above 99.8%
        """
        found = self.found
        if found.kind == "numbers":
            raise ModelError(
                "a funnel has limits of counts or proportions; this fit has normal responses "
                "(see fit.plot.random() for effects with intervals)"
            )
        trials = found.exposure if found.kind == "proportions" else None
        limits = funnel_.funnel(
            funnel_.Counts(found.observed, found.expected, trials),
            target=None if target is None else _positive("target", target),
            levels=tuple(arguments.conf_level(level) for level in levels),
            overdispersion=arguments.choice(
                "overdispersion", overdispersion, funnel_.OVERDISPERSION
            ),
            robust=arguments.choice("robust", robust, funnel_.ROBUST),
            share=_share(share),
        )
        return ControlLimits(self, limits)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the league table with its uncertainty, see `ranef.plots.league`."""
        return rank_pictures.league(self, ax=ax)

    def summary(self) -> Summary:
        """Return the ratios in words and a table."""
        title = f"Standardised ratios of {len(self.place.levels):,} levels of {self.place.group}"
        return Summary(Page(title, (self._table(), Paragraph(self._words()))))

    def _table(self) -> TextTable:
        found, percent = self.found, f"{100 * self.conf_level:g}%"
        by = np.argsort(-found.shrunken, kind="stable")
        cut = len(by) > SHOWN
        shown = np.concatenate([by[: SHOWN // 2], by[-(SHOWN // 2) :]]) if cut else by
        caption = "From the largest ratio" + (f" (the first and last {SHOWN // 2})" if cut else "")
        header = (
            self.place.group, "observed", "expected", "raw", f"{percent} limits", "shrunken",
            f"{percent} interval", f"P(> {self.threshold:g})", "reliability",
        )  # fmt: skip
        return TextTable(caption, header, tuple(self._row(int(i)) for i in shown))

    def _row(self, i: int) -> tuple[str, ...]:
        found = self.found
        whole = 1 if found.kind == "numbers" else 0
        return (
            str(self.place.levels[i]),
            number(float(found.observed[i]), whole),
            number(float(found.expected[i]), 1),
            number(float(found.raw[i]), 2),
            f"{number(float(found.raw_low[i]), 2)} to {number(float(found.raw_high[i]), 2)}",
            number(float(found.shrunken[i]), 2),
            f"{number(float(found.low[i]), 2)} to {number(float(found.high[i]), 2)}",
            number(float(found.above[i]), 3),
            number(float(found.reliability[i]), 2),
        )

    def _words(self) -> tuple[str, ...]:
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

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _share(value: Any) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise ModelError(f"share must be a number, not {value!r}")
    if not 0 <= value < 0.5:
        raise ModelError(f"share is that of each end, from 0 to below 0.5; not {value:g}")
    return float(value)


@dataclass(frozen=True, eq=False, repr=False)
class ControlLimits:
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
            low_99.8, high_99.8``, ``z`` (distance from the target in standard errors, on
            the scale of stable variance) and ``status``.
        """
        found, place = self.found, self.ratios.place
        columns: dict[str, Any] = {
            "group": [place.group] * len(found.z),
            "level": list(place.levels),
            "observed": found.counts.observed,
            "expected": found.counts.expected,
            "ratio": found.ratio,
        }
        for k, level in enumerate(found.levels):
            columns[f"low_{100 * level:g}"] = found.low[k]
            columns[f"high_{100 * level:g}"] = found.high[k]
        columns |= {"z": found.z, "status": self.status}
        return make_table(columns, place.fit.frame.library)

    def limits(self, points: int = 200) -> Any:
        """Return the curves of the picture: ``expected`` and the limits there.

        Of proportions for the average expected probability.
        """
        at, low, high = self.found.curve(arguments.count("points", points))
        columns: dict[str, NDArray[np.float64]] = {"expected": at}
        for k, level in enumerate(self.found.levels):
            columns[f"low_{100 * level:g}"] = low[k]
            columns[f"high_{100 * level:g}"] = high[k]
        return make_table(columns, self.ratios.place.fit.frame.library)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the funnel, see `ranef.plots.funnel`."""
        return rank_pictures.funnel(self, ax=ax)

    def summary(self) -> Summary:
        """Return the funnel in words, with the levels that lie outside."""
        found, place = self.found, self.ratios.place
        outside = [i for i, word in enumerate(self.status) if word != "inside"]
        outside.sort(key=lambda i: -abs(found.z[i]))
        rows = tuple(
            (
                str(place.levels[i]),
                number(float(found.counts.observed[i]), 0),
                number(float(found.counts.expected[i]), 1),
                number(float(found.ratio[i]), 2),
                number(float(found.z[i]), 2),
                self.status[i],
            )
            for i in outside[:SHOWN]
        )
        header = (place.group, "observed", "expected", "ratio", "z", "status")
        table = TextTable("Outside the limits", header, rows)
        title = f"Funnel of {len(found.z):,} levels of {place.group}"
        parts = (*((table,) if rows else ()), Paragraph(self._words(len(outside))))
        return Summary(Page(title, parts))

    def _words(self, outside: int) -> tuple[str, ...]:
        found = self.found
        q = len(found.z)
        chance = q * (1 - found.levels[0])
        law = "binomial" if found.counts.trials is not None else "Poisson"
        allowance = {
            "none": f"exact {law} limits, without allowance for other variation",
            "additive": f"limits with a standard deviation of {found.tau:.3f} between levels "
            "on the variance-stabilised scale",
            "multiplicative": f"limits {np.sqrt(max(found.phi, 1.0)):.2f} times as wide as by "
            "chance",
        }[found.overdispersion]
        doubtful = found.phi > found.chance * (1 + 2 * np.sqrt(2 / q))
        more = ""
        if found.overdispersion == "none" and doubtful:
            more = (
                "; this suggests that most levels differ, for which exact limits make no allowance "
                "(overdispersion='additive' does)"
            )
        further = "".join(
            f", {int(np.sum(np.abs(found.side) > k))} outside those of {100 * level:g}%"
            for k, level in enumerate(found.levels)
            if k
        )
        return (
            f"{outside} of {q:,} levels lie outside the {100 * found.levels[0]:g}% limits around "
            f"{found.target:.3f}{further}; by chance {chance:.1f} would lie outside the first. "
            f"These are {allowance}.",
            f"Squared distances average {found.phi:.2f} ({found.chance:.2f} by chance "
            f"alone){more}.",
            NOT_A_CLAIM,
            f"Adjusted for: {', '.join(self.ratios.adjusted_for) or 'nothing'}.",
        )

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
