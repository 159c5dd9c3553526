"""`posterior`: what is known of the levels of a grouping factor, jointly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Level, Listing, Sized, unprinted
from ranef.display.page import Paragraph
from ranef.errors import ModelError, suggestion
from ranef.fits.determined import where_determined
from ranef.formula.labels import spelled
from ranef.inference.coefficients.wald import quantile
from ranef.inference.effects.joint_posterior import GIVEN, Posterior
from ranef.questions.levels.place import Place, level_positions, place_of, posterior_words
from ranef.tables import make_table
from ranef.tables.origin import matrix

__all__ = ["LevelPosterior", "posterior"]

SCALES = ("effect", "coefficient")
MOST_PRINTED = 12


@where_determined
def posterior(
    fit: Any,
    by: str | None = None,
    *,
    terms: str | Sequence[str] | None = None,
    scale: str = "effect",
    levels: Any = None,
    given: str = "variance",
    component: str = "conditional",
    response: Any = None,
) -> LevelPosterior:
    """Return the joint posterior of the effects, or coefficients, of a factor's levels.

    The effects of the levels are not independent: what is not known of the fixed
    effects is common to all, and with crossed factors the levels of one are told apart
    through those of the other. A statement on several levels (a difference, a rank)
    needs their joint distribution.

    Parameters
    ----------
    fit : a fit of `lmm` or `glmm`
    by : str, optional
        The grouping factor; may be left out when there is one.
    terms : str or sequence of str, optional
        Coefficients that vary over the levels; all of them if left out.
    scale : {"effect", "coefficient"}
        Random effects, around zero; or fixed plus random effect.
    levels : sequence, optional
        Only these levels, in this order.
    given : {"variance", "parameters", "nothing"}
        What is taken as known. ``"variance"``: the variance parameters; the covariance
        is that of the errors of prediction, fixed effects included. ``"parameters"``:
        the fixed effects as well, as for `cond_sd` of ``fit.tidy("random")``.
        ``"nothing"``: neither; the uncertainty of the variance parameters enters to
        first order.
    component : str
        Part of a generalised model: ``"conditional"``, ``"zero"``, ``"dispersion"``.
    response : optional
        Category of a multinomial response.

    Returns
    -------
    LevelPosterior
        With ``tidy()``, ``covariance()``, ``draws()`` and ``covariance_by_level()``.

    Notes
    -----
    Exact for linear models (normal, given the variance parameters, with a flat prior for
    the fixed effects). For generalised models it is the normal approximation at the mode
    of the joint density, with the curvature there.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)",
    ...                 ranef.data.load("Penicillin"))
    >>> found = ranef.posterior(fit, "sample")
    >>> found.covariance().iloc[:2, :2].round(3)
           A      B
    A  0.632  0.620
    B  0.620  0.632
    >>> found.draws(1000, rng=1).shape
    (1000, 6, 1)
    """
    place = place_of(fit, by, component, response, what="posterior()")
    given = arguments.choice("given", given, GIVEN)
    scale = arguments.choice("scale", scale, SCALES)
    names = chosen_terms(place, terms)
    what = place.effects.coefficients(names, with_fixed=scale == "coefficient")
    joint = place.fit.inference.posterior(what, given)
    positions = level_positions(place, levels)
    if levels is not None:
        m = len(names)
        joint = joint.take((positions[:, None] * m + np.arange(m)).ravel())
    return LevelPosterior(place, names, positions, scale, given, joint)


def chosen_terms(place: Place, terms: str | Sequence[str] | None) -> tuple[str, ...]:
    """Coefficients asked about, or those there are."""
    if terms is None:
        return place.names
    named = (terms,) if isinstance(terms, str) else tuple(terms)
    wanted = tuple(spelled(str(name), place.names) for name in named)
    for name in wanted:
        if name not in place.names:
            raise ModelError(
                f"the coefficient {name!r} does not vary over {place.group!r}"
                f"{suggestion(str(name), place.names)}; those that do are "
                f"{', '.join(map(repr, place.names))}"
            )
    if not wanted:
        raise ModelError("terms is empty; leave it out for all coefficients")
    return wanted


@dataclass(frozen=True, eq=False, repr=False)
class LevelPosterior(Answer):
    """The joint posterior of the levels of a factor; `ranef.posterior` makes it.

    Attributes
    ----------
    place : Place
        The fit and the grouping factor.
    terms : tuple of str
        The m coefficients.
    positions : (q,) int array
        The levels, as positions among all.
    scale : str
    given : str
    found : Posterior
        The distribution of q m numbers, level by level.
    """

    place: Place
    terms: tuple[str, ...]
    positions: NDArray[np.intp]
    scale: str
    given: str
    found: Posterior

    @property
    def title(self) -> str:
        what = "Random effects" if self.scale == "effect" else "Fixed plus random effects"
        return f"{what} of {len(self.positions):,} levels of {self.place.group}, jointly"

    @property
    def library(self) -> str:
        return self.place.library

    @property
    def levels(self) -> list[Any]:
        """Labels of the levels, in the user's type."""
        return [self.place.levels[int(k)] for k in self.positions]

    @property
    def labels(self) -> list[Any]:
        """Labels of rows and columns of the covariance matrix."""
        if len(self.terms) == 1:
            return self.levels
        return [f"{level}: {term}" for level in self.levels for term in self.terms]

    def tidy(self, *, conf_level: float = 0.95) -> Any:
        """Return a row for each level and coefficient.

        Returns
        -------
        table
            ``group, level, term, estimate, std_error, conf_low, conf_high``.
        """
        return self.tabled(self._moments(arguments.conf_level(conf_level)))

    def tables(self) -> tuple[Listing, ...]:
        return (self._moments(0.95),)

    def _moments(self, conf_level: float) -> Listing:
        mean, sd, group = self.found.mean, self.found.sd, self.place.group
        reach = float(quantile(conf_level, np.array(np.inf))) * sd
        levels = [level for level in self.levels for _ in self.terms]
        columns = (
            *unprinted(group=[group] * len(sd)),
            Column("level", levels, Level(), group),
            Column("term", list(self.terms) * len(self.positions)),
            Column("estimate", mean, Sized(sd)),
            Column("std_error", sd, Sized(sd), "sd"),
            *unprinted(conf_low=mean - reach, conf_high=mean + reach),
        )
        return Listing("moments", columns, "Means and standard deviations", labels=2)

    def covariance(self) -> Any:
        """Return the joint covariance matrix of all levels and coefficients, labelled."""
        labels = self.labels
        return matrix(self.found.covariance(), labels, labels, self.library)

    def covariance_by_level(self) -> Any:
        """Return the covariance matrix of each level's coefficients, in one long table.

        Returns
        -------
        table
            ``group, level, term, term2, covariance``.
        """
        values = self.found.covariances(len(self.terms))
        columns = self.place.covariance_columns(self.levels, self.terms, values)
        return make_table(columns, self.library)

    def draws(self, n: int = 1000, *, rng: Any = None) -> NDArray[np.float64]:
        """Draw jointly: an array (n, levels, terms).

        Parameters
        ----------
        n : int
        rng : int or numpy.random.Generator, optional
            The same gives the same draws.
        """
        drawn = self.found.draws(arguments.count("n", n), arguments.generator(rng))
        return drawn.reshape(len(drawn), len(self.positions), len(self.terms))

    def sentences(self) -> tuple[str, ...]:
        return (
            posterior_words(self.place, self.given),
            "covariance() has every pair of levels; draws() draws all of them at once.",
        )

    def body(self) -> Iterable[Part]:
        moments, count = self.listing(), len(self.found.sd)
        if count > MOST_PRINTED:
            caption = f"{moments.caption} (the first of {count:,})"
            moments = moments.take(np.arange(MOST_PRINTED), caption)
        return Paragraph(self.sentences()), moments
