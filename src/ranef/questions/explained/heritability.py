"""`heritability`: the share of the variance that goes with relationship."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, Significant
from ranef.display.page import Paragraph
from ranef.errors import ModelError
from ranef.fits.determined import where_determined
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, require
from ranef.models.records import Estimate
from ranef.questions.explained import shares
from ranef.questions.explained.shares import Interval, Shares

__all__ = ["Heritability", "heritability"]

METHODS = ("delta", "profile")
SCALES = ("base", "sample")


@dataclass(frozen=True, eq=False, repr=False)
class Heritability(Answer):
    """A share of the variance with its interval; `heritability` makes it.

    Attributes
    ----------
    group : str
        The grouping factor.
    parts : Shares
        The variances.
    names : tuple of str
        Labels of the random terms.
    std_error : float
        By the delta method; NaN at a boundary.
    interval : pair of float
    method : {"delta", "profile"}
        Of the interval.
    conf_level : float
    scale : {"base", "sample"}
    related : bool
        Whether the terms have a kernel.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> round(ranef.heritability(fit, "Batch").estimate, 3)
    0.418
    """

    group: str
    parts: Shares
    names: tuple[str, ...]
    std_error: float
    interval: Interval
    method: str
    conf_level: float
    scale: str
    related: bool
    title: str
    library: str

    @property
    def estimate(self) -> float:
        """The share."""
        return self.parts.share

    def tidy(self) -> Any:
        """Return ``group, estimate, std_error, conf_low, conf_high``."""
        return super().tidy()

    def variances(self) -> Any:
        """Return the variances that it is a share of: ``part, variance, share``."""
        return self.tabled(self._variances())

    def tables(self) -> tuple[Listing, ...]:
        low, high = self.interval
        columns = (
            Column("group", [self.group]),
            Column("estimate", np.array([self.estimate]), Fixed(4), "heritability"),
            Column("std_error", np.array([self.std_error]), Fixed(4), "std. error"),
            Column("conf_low", np.array([low]), Fixed(4), "low"),
            Column("conf_high", np.array([high]), Fixed(4), "high"),
        )
        level = f"{100 * self.conf_level:g}%"
        caption = f"With a {level} interval by the {self.method} method"
        if self.method == "profile":
            caption = f"With a {level} interval by its profile"
        return (Listing("heritability", columns, caption), self._variances())

    def _variances(self) -> Listing:
        variance = np.append(self.parts.terms, self.parts.residual)
        columns = (
            Column("part", [*self.names, "residual"], heading=""),
            Column("variance", variance, Significant(4)),
            Column("share", variance / self.parts.total, Fixed(3)),
        )
        return Listing("variances", columns, "What the fixed effects leave")

    def sentences(self) -> tuple[str, ...]:
        lines = []
        if not self.related:
            lines.append(
                f"No kernel says how the levels of {self.group} are related, so that this is the "
                "share of all that differs between them (broad-sense heritability, "
                "repeatability)."
            )
        elif self.scale == "sample":
            lines.append(
                "A kernel counts by the variance that it makes expect among the rows (what "
                "genome-wide studies call the proportion of variance explained)."
            )
        else:
            lines.append("A kernel counts by the variance of a level whose own entry in it is 1.")
        return tuple(lines)

    def body(self) -> Iterable[Part]:
        return (*self.tables(), Paragraph(self.sentences()))


@where_determined
def heritability(
    fit: MixedFit,
    group: str | None = None,
    *,
    method: str = "delta",
    scale: str = "base",
    conf_level: float = 0.95,
) -> Heritability:
    """Return the heritability: the share of a group's genetic effects in the variance.

    Parameters
    ----------
    fit : fit of `lmm` or `glmm`
        With ``kernel(1 | id, A)``; its other random terms (a maternal effect, litters, a
        permanent environment) count in the denominator. In a generalised model all is on the
        scale of the link, where an observation counts as in `r2`.
    group : str, optional
        The grouping factor; may be left out when there is one. Its terms with a kernel are
        meant, where it has one, else all of its terms (broad-sense heritability).
    method : {"delta", "profile"}
        Of the interval. ``"delta"``: the standard error's, on the scale of the logit; there
        is none where the estimate is 0 or 1. ``"profile"``: where the (restricted) likelihood
        of a linear model, all other parameters optimised, has fallen as far as the level
        allows; it may end at 0 or 1.
    scale : {"base", "sample"}
        How a kernel counts. ``"base"``: by the variance of a level whose own entry is 1, as
        the base population of a pedigree has. ``"sample"``: by the variance expected among
        the rows used, the mean of the diagonal of the kernel after centring (PVE).
    conf_level : float

    Returns
    -------
    Heritability

    Raises
    ------
    ranef.errors.ModelError
        There is no such group; a profile is asked for of a generalised model.

    Examples
    --------
    >>> import numpy as np, ranef
    >>> rng = np.random.default_rng(1)
    >>> n = 200  # offspring of 20 sires and 50 dams
    >>> family = {"id": [f"o{i}" for i in range(n)], "sire": [f"s{i % 20}" for i in range(n)],
    ...           "dam": [f"d{i % 50}" for i in range(n)]}
    >>> A = ranef.pedigree(family, id="id", sire="sire", dam="dam")
    >>> u = np.linalg.cholesky(A.relationship(family["id"])) @ rng.normal(size=n)
    >>> fit = ranef.lmm("y ~ 1 + kernel(1 | id, A)", family | {"y": u + rng.normal(size=n)},
    ...                 kernels={"A": A})
    >>> fit.heritability("id").tidy().round(3)
      group  estimate  std_error  conf_low  conf_high
    0    id     0.601      0.169     0.274      0.858
    """
    require(fit, "heritability()", Levelled)
    arguments.choice("method", method, METHODS)
    sample = arguments.choice("scale", scale, SCALES) == "sample"
    level = arguments.conf_level(conf_level)
    name = fit.factors[fit.factor_number(group)].name
    spec = fit.estimate.specification
    own = [t for t, term in enumerate(spec.terms) if spec.factors[term.factor].name == name]
    if not own:
        raise ModelError(f"no random term of the mean has the grouping factor {name!r}")
    chosen = tuple(t for t in own if spec.terms[t].kernel is not None) or tuple(own)

    def share(estimate: Estimate) -> float:
        return shares.shares(estimate, chosen, sample, "auto").share

    parts = shares.shares(fit.estimate, chosen, sample, "auto")
    faces = {face.term for face in fit.estimate.optimum.faces} & set(chosen)
    error = float("nan") if faces or not parts.share > 0.0 else fit.inference.delta_error(share)
    if method == "delta":
        interval = shares.delta_interval(parts.share, error, level)
    elif fit.estimate.sigma is None:
        raise ModelError(
            "method='profile' profiles the share of a linear model; for a generalised one take "
            "method='delta', or bootstrap it: ranef.bootstrap(fit, statistic=lambda f: "
            f"f.heritability({name!r}).estimate)"
        )
    else:
        interval = shares.profile_interval(fit.estimate, chosen, sample, level)
    return Heritability(
        name, parts, tuple(term.label for term in spec.terms), error, interval, method, level,
        scale, spec.terms[chosen[0]].kernel is not None, f"Heritability: {fit.formula}",
        fit.frame.library,
    )  # fmt: skip
