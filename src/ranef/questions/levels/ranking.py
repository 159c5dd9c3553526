"""`rank`: the levels of a grouping factor in order, and how sure the order is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, Sized, Written, unprinted
from ranef.display.page import Paragraph
from ranef.errors import DataError, ModelError
from ranef.families import Cumulative, Multinomial
from ranef.fits.determined import where_determined
from ranef.fits.estimability import row_names, undetermined_words
from ranef.fits.new_rows import read_rows
from ranef.inference.effects.combinations import Combinations
from ranef.inference.effects.joint_posterior import GIVEN, Posterior
from ranef.models.family_words import ratio
from ranef.models.records import CONDITIONAL
from ranef.questions.levels import rank_pictures
from ranef.questions.levels import ranks as ranks_
from ranef.questions.levels.place import Place, place_of, posterior_words, shortened
from ranef.questions.levels.posterior import chosen_terms
from ranef.questions.levels.ranks import Ranks
from ranef.tables.origin import matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Ranking", "rank"]

Floats = NDArray[np.float64]
Statistic = Callable[[dict[str, Floats]], Floats]
Question = TypeVar("Question", bound=Callable[..., Any])

SCALES = ("effect", "coefficient", "ratio", "response")
ORDERS = ("ascending", "descending")
RISING = ("identity", "log", "logit", "probit", "cloglog", "cauchit")
SCALE_WORDS = {
    "effect": " (random effect)",
    "coefficient": " (fixed plus random effect)",
    "ratio": " (exponential of the random effect)",
    "response": "",
}


def _only_known(question: Question) -> Question:
    """Refuse to rank levels whose effects the data do not determine."""

    @wraps(question)
    def ask(fit: Any, *args: Any, **more: Any) -> Ranking:
        ranking = cast(Ranking, question(fit, *args, **more))
        if getattr(fit, "equally_good", None) is not None and np.isnan(ranking.found.sd).any():
            raise ModelError(
                f"the data do not determine the effects of {ranking.place.group!r} that are to be "
                "ranked: equally good estimates put its levels in other orders, or say differently "
                "how sure an order is; take out the redundant term first"
            )
        return ranking

    return cast(Question, ask)


@_only_known
@where_determined
def rank(
    fit: Any,
    by: str | None = None,
    *,
    statistic: str | Statistic | None = None,
    scale: str | None = None,
    at: Any = None,
    order: str = "ascending",
    top: int | None = None,
    threshold: float | None = None,
    given: str = "variance",
    conf_level: float = 0.95,
    n: int = 4000,
    rng: Any = 0,
    component: str = "conditional",
    response: Any = None,
) -> Ranking:
    """Rank the levels of a grouping factor, and say how sure the order is.

    Ranks come from the joint posterior of the levels, not from the order of the
    estimates: a level with little data sits near the middle since little is known of it.

    Parameters
    ----------
    fit : a fit of `lmm` or `glmm`
    by : str, optional
        The grouping factor; may be left out when there is one.
    statistic : str or callable, optional
        What is ranked: a coefficient that varies over the levels (the intercept, or the
        only one, if left out), or a function of all of them. It is called with a dict
        from the name of a coefficient to an array (draws, levels) and gives such an
        array: ``lambda c: -c["(Intercept)"] / c["Days"]``.
    scale : {"effect", "coefficient", "ratio", "response"}, optional
        The random effect (the default); fixed plus random effect (the default for a
        function); the exponential of the effect, a rate or odds ratio to a typical
        level; the response at one row of covariates, through the inverse link.
    at : table of one row, optional
        For ``scale="response"``: the columns that the formula uses, but the response
        and the grouping factors. Without it the average row of the model matrices, the
        offset left out (the rate for one unit of exposure).
    order : {"ascending", "descending"}
        Which end has rank 1: the smallest value, or the largest.
    top : int, optional
        The k of "among the k largest" and "the k smallest"; a tenth of the levels if
        left out.
    threshold : float, optional
        Also the probability to exceed this value, on the scale shown.
    given : {"variance", "parameters", "nothing"}
        What the posterior takes as known, see `posterior`.
    conf_level : float
    n : int
        Joint draws behind rank intervals and the probabilities of either end.
    rng : int or numpy.random.Generator
        The same gives the same answer.
    component : str
        Part of a generalised model.
    response : optional
        Category of a multinomial response.

    Returns
    -------
    Ranking
        With ``tidy()``, ``pairwise()`` and ``plot()``.

    Notes
    -----
    Expected ranks, pairwise probabilities and those of exceeding a threshold are exact
    under the normal posterior (of up to 2,000 levels, and unless `statistic` is a
    function); where levels are independent the expected rank is
    1 + sum Phi((b_i - b_k) / sqrt(v_i + v_k)).

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> ranking = ranef.rank(fit, "Subject", statistic="Days", top=3)
    >>> table = ranking.tidy()
    >>> table[["level", "expected_rank", "rank_low", "rank_high"]].round(2).head(3)
      level  expected_rank  rank_low  rank_high
    0   308          17.19        15         18
    1   309           2.14         1          5
    2   310           3.96         1          8
    """
    place = place_of(fit, by, component, response, what="rank()")
    if len(place.levels) < 2:
        raise ModelError(f"{place.group!r} has one level: there is nothing to rank")
    given = arguments.choice("given", given, GIVEN)
    order = arguments.choice("order", order, ORDERS)
    q = len(place.levels)
    k = max(1, round(q / 10)) if top is None else arguments.count("top", top)
    if k > q:
        raise ModelError(f"top={k} is more than the {q} levels of {place.group!r}")
    quantity = _quantity(place, statistic, scale, at)
    limit = None if threshold is None else arguments.number("threshold", threshold)
    run = _Run(k, limit, arguments.conf_level(conf_level), arguments.count("n", n))
    generator = arguments.generator(rng)
    posterior = place.fit.inference.posterior(quantity.what, given)
    if quantity.function is not None:
        ranks = _of_draws(place, quantity, quantity.function, posterior, run, generator)
    else:
        ranks = _of_posterior(posterior, quantity, run, generator)
    return Ranking(
        place=place,
        statistic=quantity.name,
        scale=quantity.scale,
        order=order,
        given=given,
        conf_level=run.conf_level,
        top=k,
        threshold=run.threshold,
        adjusted_for=place.adjusted_for,
        found=ranks.descending() if order == "descending" else ranks,
        known=None if quantity.function is not None else posterior,
    )


@dataclass(frozen=True)
class _Run:
    """What a ranking is to give."""

    k: int
    threshold: float | None
    conf_level: float
    draws: int


@dataclass(frozen=True, eq=False)
class _Quantity:
    """What is ranked: combinations, and the scale on which they are shown."""

    name: str
    scale: str
    what: Combinations
    terms: tuple[str, ...]
    inverse: Callable[[Floats], Floats] | None = None
    link: Callable[[Floats], Floats] | None = None
    function: Statistic | None = None


def _quantity(place: Place, statistic: Any, scale: Any, at: Any) -> _Quantity:
    if scale is None:
        scale = "coefficient" if callable(statistic) else "effect"
    scale = arguments.choice("scale", scale, SCALES)
    if at is not None and scale != "response":
        raise ModelError("at= gives the covariates of a response; use it with scale='response'")
    if callable(statistic):
        if scale not in ("effect", "coefficient"):
            raise ModelError(
                f"a function of coefficients is ranked as it is; scale={scale!r} does not apply "
                "(take exp or the like inside the function)"
            )
        what = place.effects.coefficients(with_fixed=scale == "coefficient")
        name = getattr(statistic, "__name__", "function")
        name = "a function of the coefficients" if name == "<lambda>" else name
        return _Quantity(name, scale, what, place.names, function=statistic)
    if scale == "response":
        return _response(place, statistic, at)
    term = _term(place, statistic)
    what = place.effects.coefficients((term,), with_fixed=scale == "coefficient")
    if scale == "ratio":
        if ratio(place.fit.estimate, place.part) is None:
            raise ModelError(
                "scale='ratio' is the exponential of an effect, which is a ratio under the links "
                "log, logit and cloglog; this model has another (use scale='effect')"
            )
        return _Quantity(term, scale, what, (term,), np.exp, np.log)
    return _Quantity(term, scale, what, (term,))


def _term(place: Place, statistic: Any) -> str:
    if statistic is not None:
        return chosen_terms(place, statistic)[0]
    if len(place.names) == 1 or "(Intercept)" in place.names:
        return "(Intercept)" if "(Intercept)" in place.names else place.names[0]
    raise ModelError(
        f"several coefficients vary over {place.group!r}; say which one to rank by: "
        f"statistic= one of {', '.join(map(repr, place.names))}"
    )


def _response(place: Place, statistic: Any, at: Any) -> _Quantity:
    """The response of each level at one row of covariates."""
    estimate, part = place.fit.estimate, place.part
    if statistic is not None:
        raise ModelError(
            "scale='response' ranks the response at one row of covariates (at=), to which all "
            "coefficients contribute; leave statistic out"
        )
    if part.name != CONDITIONAL:
        raise ModelError("scale='response' is for effects on the mean (component='conditional')")
    constant, x, z = _row(place, at)
    what = place.effects.predictions(x, z, constant)
    name = "the response" + (" at the average row" if at is None else " at the row given")
    family = estimate.family
    if isinstance(family, Cumulative | Multinomial):
        raise ModelError(
            "a response of categories has no one number to rank by; use scale='effect', which is "
            "on the scale of the link"
        )
    if "zero" in estimate.parts or family.mean_link is None:
        raise ModelError(
            "the mean of this model is no link of one predictor (a zero part, say); use "
            "scale='effect'"
        )
    if family.mean_link in RISING:
        return _Quantity(name, "response", what, (), family.inverse_link, family.link_function)

    def function(values: dict[str, Floats]) -> Floats:
        return family.inverse_link(values[""])

    return _Quantity(name, "response", what, ("",), function=function)


def _row(place: Place, at: Any) -> tuple[float, Floats, list[Floats]]:
    """Offset and model matrices of a row: the average of all, without offset, or one `at`."""
    spec = place.part.specification
    assert spec is not None
    kept = [spec.names.index(name) for name in place.part.names]
    if at is None:
        return 0.0, spec.X[:, kept].mean(axis=0), [term.z.mean(axis=0) for term in spec.terms]
    if isinstance(at, dict):
        at = {name: [value] if np.ndim(value) == 0 else value for name, value in at.items()}
    rows, origin = read_rows(place.fit, at, "new")
    row = rows.parts[place.part.name]
    if len(row.X) != 1:
        raise DataError(
            f"at= must be one row without missing values; {len(row.X)} such rows were given"
        )
    words = undetermined_words(place.fit, rows, (place.part.name,), row_names(origin))
    if words is not None:
        raise DataError(f"at=: {words}; choose a row whose mean the data determine")
    constant = 0.0 if row.offset is None else float(row.offset[0])
    return constant, row.X[0, kept], [z[0] for _, z in row.random or ()]


def _of_posterior(
    posterior: Posterior, quantity: _Quantity, run: _Run, rng: np.random.Generator
) -> Ranks:
    """Rank numbers whose posterior is normal, on the scale asked for."""
    limit = run.threshold
    if limit is not None and quantity.link is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = float(quantity.link(np.array(limit)))
        if np.isnan(limit):
            raise ModelError(
                f"threshold={run.threshold:g} is no value on the scale {quantity.scale!r}"
            )
    ranks = ranks_.ranks(
        posterior, k=run.k, threshold=limit, conf_level=run.conf_level, draws=run.draws, rng=rng
    )
    return ranks if quantity.inverse is None else ranks.carried(quantity.inverse)


def _of_draws(
    place: Place,
    quantity: _Quantity,
    function: Statistic,
    posterior: Posterior,
    run: _Run,
    rng: np.random.Generator,
) -> Ranks:
    """Rank a function of the coefficients, from draws of them."""
    q, m = len(place.levels), len(quantity.terms)

    def values(flat: Floats) -> Floats:
        cube = flat.reshape(len(flat), q, m)
        by_name = {name: cube[:, :, a] for a, name in enumerate(quantity.terms)}
        out = np.asarray(function(by_name), dtype=np.float64)
        if out.shape != (len(flat), q):
            raise ModelError(
                f"statistic gave an array of shape {out.shape}, not {(len(flat), q)}: it gets "
                "arrays (draws, levels) and must give one"
            )
        if not np.isfinite(out).all():
            raise ModelError(
                f"statistic gave {int((~np.isfinite(out)).sum()):,} values that are not finite "
                "(a division by zero, a log of a negative number?)"
            )
        return out

    drawn = values(posterior.draws(run.draws, rng))
    estimate = values(posterior.mean[None])[0]
    return ranks_.ranks_of_draws(
        drawn, estimate, k=run.k, threshold=run.threshold, conf_level=run.conf_level, rng=rng
    )


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Answer):
    """Levels in order, with how sure the order is; `ranef.rank` makes it.

    Attributes
    ----------
    place : Place
        The fit and the grouping factor.
    statistic : str
        What was ranked.
    scale, order, given : str
    conf_level : float
    top : int
        The k of the probabilities of either end.
    threshold : float or None
    adjusted_for : tuple of str
    found : Ranks
        The ranks as arrays, in the order of the levels.
    known : Posterior or None
        The joint posterior of what was ranked; None for a function of coefficients.
    """

    place: Place
    statistic: str
    scale: str
    order: str
    given: str
    conf_level: float
    top: int
    threshold: float | None
    adjusted_for: tuple[str, ...]
    found: Ranks
    known: Posterior | None

    def tidy(self, *, sort: bool = False) -> Any:
        """Return a row for each level.

        Parameters
        ----------
        sort : bool
            By expected rank, as a league table; else in the order of the levels.

        Returns
        -------
        table
            - ``group, level, estimate, conf_low, conf_high``: the value ranked;
            - ``expected_rank, rank`` (their order), ``rank_low, rank_high`` (interval)
              and ``percentile``, 100 (ER - 0.5) / q counted from the smallest value;
            - ``prob_top, prob_bottom``: to be among the k largest, the k smallest;
              ``prob_above``: to exceed the threshold, if there is one;
            - ``triple_goal``: estimates whose spread and order are right as well (Shen &
              Louis 1998); ``constrained``: posterior means stretched to the spread
              that is expected (Ghosh 1992).
        """
        return self.tabled(self._league if arguments.flag("sort", sort) else self.listing())

    @property
    def title(self) -> str:
        levels = f"{len(self.place.levels):,} levels of {self.place.group}"
        return f"Ranking of {levels} by {self.statistic}{SCALE_WORDS[self.scale]}"

    @property
    def library(self) -> str:
        return self.place.library

    def tables(self) -> tuple[Listing, ...]:
        ranks, place, q = self.found, self.place, len(self.place.levels)
        upward = ranks.expected if self.order == "ascending" else q + 1 - ranks.expected
        spans = list(zip(ranks.rank_low, ranks.rank_high, strict=True))
        above: tuple[Column, ...] = ()
        if ranks.above is not None:
            above = (Column("prob_above", ranks.above, Fixed(3), f"P(> {self.threshold:g})"),)
        columns = (
            *unprinted(**{k: [value] * q for k, value in place.identity_columns.items()}),
            *place.level_columns,
            Column("estimate", ranks.estimate, Sized(ranks.sd)),
            *unprinted(conf_low=ranks.low, conf_high=ranks.high),
            Column("expected_rank", ranks.expected, Fixed(2), "expected rank"),
            *unprinted(rank=np.argsort(self._order, kind="stable") + 1),
            *unprinted(rank_low=ranks.rank_low, rank_high=ranks.rank_high),
            Column("span", spans, Written(_span), f"{self._percent} ranks", tabled=False),
            *unprinted(percentile=100 * (upward - 0.5) / q),
            Column("prob_top", ranks.top, Fixed(3), f"P(top {self.top})"),
            Column("prob_bottom", ranks.bottom, Fixed(3), f"P(bottom {self.top})"),
            *above,
            *unprinted(triple_goal=ranks.triple_goal, constrained=ranks.constrained),
        )
        return (Listing("ranks", columns),)

    @property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(self.found.expected, kind="stable")

    @property
    def _league(self) -> Listing:
        """The table by expected rank."""
        return self.listing().take(self._order)

    def in_order(self, listing: Listing) -> Listing:
        """Return the table by expected rank."""
        return listing.take(self._order) if listing.name == "ranks" else listing

    @property
    def _percent(self) -> str:
        return f"{100 * self.conf_level:g}%"

    def pairwise(self) -> Any:
        """Return the probability that the row's level exceeds the column's, labelled.

        Examples
        --------
        >>> import ranef
        >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
        >>> ranef.rank(fit).pairwise().iloc[:2, :3].round(2)
              A     B     C
        A  0.50  0.26  0.05
        B  0.74  0.50  0.15
        """
        if self.known is not None:
            values = ranks_.pairwise(self.known)
        else:
            assert self.found.draws is not None
            values = ranks_.pairwise_of_draws(self.found.draws)
        labels = list(self.place.levels)
        return matrix(values, labels, labels, self.library, "level")

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw expected ranks with their intervals, see `ranef.plots.ranks`."""
        return rank_pictures.ranks(self, ax=ax)

    def body(self) -> Iterable[Part]:
        return shortened(self._league, "By expected rank"), Paragraph(self.sentences())

    def sentences(self) -> tuple[str, ...]:
        end = "smallest" if self.order == "ascending" else "largest"
        width = self.found.rank_high - self.found.rank_low + 1
        adjusted = ", ".join(self.adjusted_for) or "nothing: the model has no other term"
        return (
            f"Rank 1 is the {end} value; top means the {self.top} largest, bottom the "
            f"{self.top} smallest. A {self._percent} rank interval spans "
            f"{float(np.median(width)):g} of {len(width):,} ranks (median).",
            posterior_words(self.place, self.given),
            "Ranks do not test a level against the others or against one other (pairwise() has "
            "these probabilities), and are no causal statement: levels may differ in variables "
            "that the model does not hold. A level with few rows is shrunken towards the middle.",
            f"Adjusted for: {adjusted}.",
        )


def _span(ends: tuple[int, int]) -> str:
    return f"{ends[0]} to {ends[1]}"
