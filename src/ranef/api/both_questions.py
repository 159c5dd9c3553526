"""`two_answers`: what a model says of one level, and of the population, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.api.estimating import gee
from ranef.api.fits import GeneralizedMixedModelFit, LinearMixedModelFit, MarginalModelFit
from ranef.api.fitting import glmm, lmm
from ranef.description.words import listed
from ranef.display.answer import Answer
from ranef.display.canvas import ACCENT, MARK, finish, label, on_axes, percent, plain
from ranef.display.columns import Column, Fixed, Listing, Sized, Written
from ranef.display.numbers import number, significant
from ranef.errors import ModelError
from ranef.families import Cumulative, Family, Multinomial
from ranef.families import family as family_of
from ranef.families.links import LINKS
from ranef.inference.coefficients.sandwich import score_influences
from ranef.inference.coefficients.wald import Intervals, quantile
from ranef.models.family_words import ratio_word
from ranef.models.marginal_errors import influences
from ranef.models.records import as_generalised
from ranef.questions.averages.marginal_numbers import Marginal
from ranef.questions.averages.marginal_numbers import marginal as projected
from ranef.questions.predictions.picture import along_axis, axis_name
from ranef.solve.marginal.degrees import pan_wall
from ranef.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["QUESTIONS", "TwoAnswers", "two_answers"]

Floats = NDArray[np.float64]
QUESTIONS = ("subject", "population", "gee")
NODES = 25
MOST_CLUSTERS = 5000
MOST_CURVES = 60
CHANCE = 0.04
"""That any term is called different where both answers estimate the same."""
MOVED = 0.25
"""Standard errors of the population's coefficient from which a difference matters."""


@dataclass(frozen=True, eq=False, repr=False)
class TwoAnswers(Answer):
    """Subject-specific and population-averaged coefficients; `two_answers` makes it.

    Attributes
    ----------
    mixed : LinearMixedModelFit or GeneralizedMixedModelFit
        The model of one level of the groups.
    marginal : MarginalModelFit
        The model of the population.
    subject, population, gee : Intervals
        Of the coefficients of the mean: of the mixed model, the same integrated over its random
        effects, of the marginal model.
    difference : (p,) float64 array
        `gee` minus `population`.
    difference_error : (p,) float64 array
        Its standard error, by the clusters' influence on both (on `gee` corrected as Mancl and
        DeRouen do, since few clusters may hold most of it); NaN where none is known.
    difference_df : (p,) float64 array
        Its degrees of freedom, by how unequal the clusters' shares in it are (Pan & Wall 2002).
    conf_level : float
    """

    mixed: Any
    marginal: MarginalModelFit
    subject: Intervals
    population: Intervals
    gee: Intervals
    difference: Floats
    difference_error: Floats
    difference_df: Floats
    conf_level: float

    @property
    def title(self) -> str:
        return f"Two answers: {self.marginal.formula}"

    @property
    def library(self) -> str:
        return self.marginal.frame.library

    @property
    def terms(self) -> list[str]:
        """Names of the coefficients."""
        return self.marginal.names

    @property
    def linear(self) -> bool:
        """Whether the two questions have one answer, as under the identity link."""
        return self.marginal.family.link == "identity"

    @property
    def attenuation(self) -> Floats:
        """The population's coefficients over the subject's, (p,)."""
        return self._over_subject(self.population)

    def _over_subject(self, found: Intervals) -> Floats:
        subject = self.subject.estimate
        ratio: Floats = np.divide(
            found.estimate, subject, out=np.full(len(subject), np.nan), where=subject != 0
        )
        return ratio

    def tidy(self) -> Any:
        """Return ``question, term, estimate, std_error, conf_low, conf_high, attenuation``.

        `question` is ``subject`` (one level of the groups), ``population`` (the same model,
        integrated over its random effects) or ``gee``; `attenuation` the estimate over the
        subject's.
        """
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        three = (self.subject, self.population, self.gee)
        p = len(self.terms)
        values = {
            name: np.concatenate([getattr(found, name) for found in three])
            for name in ("estimate", "std_error", "conf_low", "conf_high")
        }
        attenuation = np.concatenate([self._over_subject(found) for found in three])
        sized = Sized(values["std_error"])
        low, high = (f"{percent(self.conf_level)} {side}" for side in ("low", "high"))
        columns = (
            Column("question", [q for q in QUESTIONS for _ in range(p)], heading=""),
            Column("term", self.terms * 3, heading=""),
            Column("estimate", values["estimate"], sized),
            Column("std_error", values["std_error"], sized),
            Column("conf_low", values["conf_low"], sized, low),
            Column("conf_high", values["conf_high"], sized, high),
            *self._ratios(values["estimate"]),
            Column("attenuation", attenuation, Fixed(3)),
        )
        return (Listing("answers", columns, "Coefficients on the scale of the link", labels=2),)

    def _ratios(self, estimates: Floats) -> list[Column]:
        """Exponentials in print, where they are ratios."""
        word = ratio_word(self.marginal.family)
        if word is None:
            return []
        ratios = [
            None if term == "(Intercept)" else float(np.exp(value))
            for term, value in zip(self.terms * 3, estimates, strict=True)
        ]
        style = Written(lambda v: significant(v, 3), measured=True)
        return [Column("ratio", ratios, style, word, tabled=False)]

    def sentences(self) -> tuple[str, ...]:
        group = " and ".join(dict.fromkeys(f.name for f in self.mixed.factors))
        lines = [
            f"subject: how one {group} differs from itself under other values of the predictors "
            "(a patient's question).",
            f"population: the same model, integrated over its random effects: how means over all "
            f"{group} differ (a question of policy).",
            "gee: that question again, asked without a model of the random effects; working "
            f"correlation {self.marginal.description.structure}.",
        ]
        if self.linear:
            lines.append(
                "The link is the identity, so that both questions have one answer: subject and "
                "population coincide, and gee differs by its weights alone."
            )
        else:
            lines.append(self._attenuated())
        return (*lines, *self._compared())

    def _attenuated(self) -> str:
        shares = [
            a
            for term, a in zip(self.terms, self.attenuation, strict=True)
            if term != "(Intercept)" and np.isfinite(a)
        ]
        if not shares:
            return "The mean of the population is not that of a typical level."
        low, high = number(min(shares), 2), number(max(shares), 2)
        if low == high == number(1.0, 2):
            return (
                "The population's effects are the subject's on the scale of the link: averaging "
                "over people who differ moves the intercept alone."
            )
        between = low if low == high else f"{low} to {high}"
        return (
            f"The population's effects are {between} times the subject's on the scale of the link: "
            "averaging over people who differ flattens the curve; neither is wrong."
        )

    @property
    def apart(self) -> list[str]:
        """Terms whose population and gee answers differ by more than their errors allow.

        By t tests of the differences, all of them together at the level of 4%, and by a quarter of
        a standard error of the population's coefficient at the least.
        """
        count = max(len(self.terms), 1)
        allowed = quantile(1 - CHANCE / count, self.difference_df) * self.difference_error
        reach = np.maximum(allowed, MOVED * self.population.std_error)
        with np.errstate(invalid="ignore"):
            far = np.abs(self.difference) > reach
        return [term for term, one in zip(self.terms, far, strict=True) if one]

    def _compared(self) -> list[str]:
        if np.isnan(self.difference_error).all():
            return []
        if not self.apart:
            return [
                "Where the mixed model is right, population and gee estimate the same; they agree "
                "within the error of their difference."
            ]
        bent = any(term.size > 1 for term in self.mixed.terms)
        curve = (
            [
                "With random slopes the population's mean is not straight on the scale of the "
                "link: the two then sum up one curve with different weights, and its means, "
                "mixed.predict(kind='population'), are the answer."
            ]
            if bent
            else []
        )
        return [
            f"population and gee differ by more than their errors allow in {listed(self.apart)}. "
            "Where the mixed model is right they estimate the same, so look for what it misses: "
            "dropout that depends on earlier responses (the mixed model allows for it, gee needs "
            "dropout=), random slopes that were left out (random=), a distribution of the "
            "random effects that is not normal, or responses that go with the size of a cluster.",
            *curve,
        ]

    def plot(
        self, x: str | None = None, *, ax: Axes | None = None, figure: Figure | None = None
    ) -> Axes:
        """Draw curves of single levels under the curve of the population, and that of gee.

        Parameters
        ----------
        x : str, optional
            Column along the axis; the first number that the formula uses.
        ax, figure
            Where to draw.

        Examples
        --------
        >>> import ranef
        >>> both = ranef.two_answers("resp ~ age + smoke", ranef.data.load("ohio"), groups="id",
        ...                          family="binomial")
        >>> both.plot().get_xlabel()
        'age'
        """
        along, table = along_axis(self.mixed, x)
        axes = on_axes(ax, figure, 6.8, 4.6)
        for k, values in enumerate(self._levels(table, len(along))):
            axes.plot(
                along, values, color=MARK, linewidth=1.0, alpha=0.35, zorder=1,
                label="single levels" if k == 0 else None,
            )  # fmt: skip
        said = Table.of(self.mixed.predict(table, kind="population", conf_level=self.conf_level))
        middle, low, high = (said.numeric(c) for c in ("estimate", "conf_low", "conf_high"))
        axes.fill_between(along, low, high, color=ACCENT, alpha=0.15, linewidth=0, zorder=2)
        axes.plot(along, middle, color=ACCENT, linewidth=2.6, zorder=4, label="population")
        typical = np.asarray(self.mixed.predict(table, kind="typical"))
        axes.plot(
            along, typical, "--", color="black", linewidth=1.5, zorder=3, label="typical level"
        )
        of_gee = np.asarray(self.marginal.predict(table))
        axes.plot(along, of_gee, ":", color="black", linewidth=2.2, zorder=5, label="gee")
        name = x if x is not None else axis_name(self.mixed)
        outcome = self.marginal.response
        label(axes, title="One level and the population", x=plain(name), y=f"Mean of {outcome}")
        finish(axes, grid="both")
        axes.legend(frameon=False, fontsize=8.5)
        return axes

    def _levels(self, table: Mapping[str, Any], n: int) -> list[Floats]:
        """The curves of some levels over the whole axis."""
        rows = Table.of(self.mixed.frame.rows_used())
        factor = self.mixed.factors[0]
        first = np.unique(factor.codes, return_index=True)[1]
        if len(first) > MOST_CURVES:
            first = first[np.linspace(0, len(first) - 1, MOST_CURVES).astype(np.intp)]
        names = dict.fromkeys(c for f in self.mixed.factors for c in f.columns)
        curves = []
        for row in first:
            own = {name: np.repeat(np.asarray(rows.values(name))[[row]], n) for name in names}
            curves.append(np.asarray(self.mixed.predict({**table, **own}, kind="conditional")))
        return curves

    def plot_text(self, x: str | None = None) -> str:
        """Describe the picture in words."""
        along, table = along_axis(self.mixed, x)
        ends = {
            name: np.asarray(values)[[0, -1]]
            for name, values in (
                ("a typical level", self.mixed.predict(table, kind="typical")),
                ("the population", self.mixed.predict(table, kind="population")),
                ("gee", self.marginal.predict(table)),
            )
        }
        runs = "; ".join(
            f"{name} goes from {number(float(a), 3)} to {number(float(b), 3)}"
            for name, (a, b) in ends.items()
        )
        return f"Curves of single levels, and over {len(along)} places along the axis: {runs}."


def two_answers(
    formula: str,
    data: Any,
    *,
    groups: str,
    time: str | None = None,
    family: str | Family = "gaussian",
    link: str | None = None,
    random: str = "1",
    correlation: str = "exchangeable",
    quadrature: int | None = None,
    weights: Any = None,
    offset: Any = None,
    covariance: str = "robust",
    conf_level: float = 0.95,
    missing: str = "drop",
) -> TwoAnswers:
    """Answer for one level of the groups and for the population, in one table.

    "How will this patient respond?" and "what happens to the country?" have different answers
    when the link is not the identity. The mixed model answers the first; integrated over its
    random effects it answers the second, as generalised estimating equations do without a model
    of the random effects.

    Parameters
    ----------
    formula : str
        The mean, without random terms.
    data : table
    groups : str
        ``"id"``, or nested, ``"site/id"``.
    time : str, optional
        Time of a row within its group, for the working correlations that need it.
    family, link
        As in `glmm`; of the Gaussian family with identity link the mixed model is that of `lmm`.
    random : str
        What varies between the groups, left of the bar of a random term: ``"1"``, ``"age"``.
    correlation : str
        Working correlation of `gee`.
    quadrature : int, optional
        Nodes of `glmm`: by default 25 for random intercepts of one factor, 7 for two effects, else
        the Laplace approximation.
    weights, offset, missing
        As in `glmm`. Of a linear model weights are precisions in both; else they multiply the log
        density in one and the precision in the other.
    covariance : str
        Of `gee`.
    conf_level : float

    Returns
    -------
    TwoAnswers
        With ``tidy()``, ``plot()``, ``mixed`` and ``marginal`` (the fits).

    See Also
    --------
    marginal : the coefficients of a fit, integrated.
    average : effects on the scale of the response.

    Examples
    --------
    >>> import ranef
    >>> both = ranef.two_answers("resp ~ age * smoke", ranef.data.load("ohio"), groups="id",
    ...                          family="binomial")
    >>> both.tidy()[["question", "term", "estimate", "attenuation"]].round(3)
          question         term  estimate  attenuation
    0      subject  (Intercept)    -3.128        1.000
    1      subject          age    -0.216        1.000
    2      subject        smoke     0.462        1.000
    3      subject    age:smoke     0.105        1.000
    4   population  (Intercept)    -1.893        0.605
    5   population          age    -0.142        0.654
    6   population        smoke     0.300        0.650
    7   population    age:smoke     0.071        0.674
    8          gee  (Intercept)    -1.900        0.607
    9          gee          age    -0.141        0.653
    10         gee        smoke     0.314        0.679
    11         gee    age:smoke     0.071        0.672
    """
    level = arguments.conf_level(conf_level)
    one: Any = family
    if isinstance(family, str) and family != Multinomial.name:
        one = family_of(family, link)
    if not isinstance(random, str) or "|" in random:
        raise ModelError(
            f"random={random!r} is what stands left of the bar of a random term, '1' or 'age'"
        )
    if one == Multinomial.name or isinstance(one, Cumulative | Multinomial):
        raise ModelError(
            "two_answers compares coefficients of one mean; of categories the population's "
            "probabilities are what integrates: glmm(...).emmeans(kind='population') beside "
            "gee(...).emmeans()"
        )
    mean = gee(
        formula, data, groups=groups, time=time, family=one, correlation=correlation,
        weights=weights, offset=offset, covariance=covariance, missing=missing,
    )  # fmt: skip
    mixed = _mixed(f"{formula} + ({random} | {groups})", data, one, random, groups, quadrature,
                   weights=weights, offset=offset, missing=missing)  # fmt: skip
    if mixed.names != mean.names or mixed.n_obs != mean.n_obs:
        raise ModelError(
            "the two models have other rows or columns than each other; leave out rows without a "
            "time first"
        )
    return _answers(mixed, mean, level)


def _mixed(
    formula: str, data: Any, one: Family, random: str, groups: str, nodes: int | None, **said: Any
) -> LinearMixedModelFit | GeneralizedMixedModelFit:
    if one.name == "gaussian" and one.link == "identity":
        return lmm(formula, data, **said)
    if nodes is None:
        single = "/" not in groups
        nodes = {"1": NODES}.get(random.strip(), 7 if _is_name(random) else 1) if single else 1
    return glmm(formula, data, family=one, quadrature=nodes, **said)


def _is_name(random: str) -> bool:
    return random.strip().isidentifier()


def _answers(mixed: Any, mean: MarginalModelFit, level: float) -> TwoAnswers:
    subject, of_gee = mixed.intervals(level), mean.intervals(level)
    estimate = as_generalised(mixed.estimate)
    if estimate is None or mean.family.link == "identity":
        population, error = subject, np.full(len(mean.names), np.nan)
        df = np.full(len(mean.names), np.inf)
    else:
        if not np.isfinite(LINKS[mean.family.link].inverse(np.zeros(1))).all():
            raise ModelError(
                f"under the link {mean.family.link!r} the mean over the population does not exist"
            )
        found = projected(estimate, conf_level=level)
        own = [k for k, name in enumerate(found.names) if name in mean.names]
        population = Intervals(
            *(np.asarray(values)[own] for values in vars(found.intervals).values())
        )
        error, df = _error(mixed, mean, found, own)
    return TwoAnswers(
        mixed, mean, subject, population, of_gee, of_gee.estimate - population.estimate, error, df,
        level,
    )  # fmt: skip


def _error(
    mixed: Any, mean: MarginalModelFit, found: Marginal, own: list[int]
) -> tuple[Floats, Floats]:
    """Standard error of gee minus population, and its df: both move with the same clusters."""
    outer, unknown = mean.estimate.model.clusters[0], np.full(len(own), np.nan)
    if outer.n_levels > MOST_CLUSTERS:
        return unknown, unknown
    try:
        moves = score_influences(mixed.estimate, outer.codes.astype(np.intp))
    except ModelError:
        return unknown, unknown
    ours = moves @ found.jacobian[own].T
    theirs = influences(mean.estimate, "mancl-derouen")
    if theirs.whole.any():  # without a cluster a coefficient is not determined
        theirs = influences(mean.estimate, "fay-graubard")
    gap = theirs.h - ours
    return np.asarray(np.sqrt(np.sum(gap**2, axis=0))), pan_wall(gap, np.eye(len(own)))
