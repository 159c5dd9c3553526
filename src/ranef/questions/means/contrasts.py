"""`contrasts`: comparisons of marginal means."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from ranef.elsewhere import argument_hint
from ranef.errors import ArgumentError, ModelError
from ranef.questions.means.answers import MarginalMeans
from ranef.questions.means.comparisons import Contrasts
from ranef.questions.means.means import emmeans
from ranef.questions.means.specs import read_specs

__all__ = ["contrasts"]

SETTINGS = frozenset(signature(emmeans).parameters) - {"fit", "specs", "by"}
"""Arguments of `emmeans` that `contrasts` hands to it."""


def contrasts(
    fit: Any,
    specs: Any = None,
    method: Any = "pairwise",
    by: Any = None,
    *,
    interaction: Any = None,
    simple: Any = None,
    ref: Any = None,
    adjust: str | None = None,
    compare: str | None = None,
    conf_level: float | None = None,
    side: str = "two-sided",
    null: float = 0.0,
    delta: float = 0.0,
    unit: Mapping[str, Any] | None = None,
    rng: Any = None,
    **question: Any,
) -> Contrasts:
    """Compare marginal means.

    Parameters
    ----------
    fit : a fit, or MarginalMeans
    specs : str or list of str
        As in `emmeans`; not with means, which have theirs.
    method : str, dict or matrix
        - ``"pairwise"``, ``"revpairwise"``: all pairs.
        - ``"reference"`` (R's ``trt.vs.ctrl``): each with one, `ref`.
        - ``"consecutive"``: each with the one before it.
        - ``"polynomial"``: linear, quadratic, ... trends of equally spaced levels.
        - ``"effects"``, ``"deleted_effects"``: each with the mean of all, or of the
          others. ``"helmert"``: with the mean of those before it. ``"mean_change"``.
        - a dict of names and coefficients, or a matrix with a row for each contrast.
    by : str or list of str, optional
        Compare within each level of these.
    interaction : str or list, optional
        A method for each predictor: contrasts of contrasts.
    simple : str or list of str, optional
        Simple comparisons of these, within each combination of all others.
    ref : object, optional
        Level of the reference; the first.
    adjust : str, optional
        For several tests in each level of `by`: ``"none"``, ``"tukey"``, ``"dunnett"``
        (exact; ``"dunnettx"`` approximate), ``"mvt"``, ``"sidak"``, ``"scheffe"``,
        ``"bonferroni"``, ``"holm"``, ``"hochberg"``, ``"hommel"``, ``"fdr"``, ``"by"``.
        Left out, what is customary: Tukey's for pairs, dunnettx for references, mvt for
        neighbours, false discovery rate for effects, none for trends, interactions and
        your own.
    compare : {"difference", "ratio", "odds", "link"}, optional
        How means of the response are compared: by their difference, ratio, odds ratio,
        or on the scale of the link. Left out, by ratios under a log link, odds ratios
        under a logit, and differences elsewhere.
    conf_level : float, optional
        0.95, or that of the means.
    side : {"two-sided", "greater", "less", "equivalence", "noninferiority", "nonsuperiority"}
        What the tests are against (R's ``side``). The last three need a margin: a small
        p-value says that a value is within `delta` of `null`, above ``null - delta``, or
        below ``null + delta``. Intervals of one-sided tests are one-sided; those of
        equivalence are two-sided. Several tests are then adjusted by Sidak's method where
        it would be by a joint distribution of two-sided ones.
    null, delta : float
        The value tested and the margin, of ratios on the scale of the log: within 25% is
        ``delta=math.log(1.25)``.
    unit : mapping, optional
        ``{"ward": "A"}``: one level's own contrasts, its random effects included.
    rng : int or numpy.random.Generator, optional
        Of ``"mvt"``; without it the seed is fixed.
    **question
        ``at``, ``cov_reduce``, ``weights``, ``df``, ``type``, ``kind``, ``component``,
        ``offset``, ``vcov`` as in `emmeans`.

    Returns
    -------
    Contrasts

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("effort ~ Type + (1 | Subject)", ranef.data.load("ergoStool"))
    >>> differences = ranef.contrasts(fit, "Type", "reference")
    >>> differences.tidy()[["contrast", "estimate", "df", "p_value"]].round(4)
      contrast  estimate    df  p_value
    0  T2 - T1    3.8889  24.0   0.0000
    1  T3 - T1    2.2222  24.0   0.0007
    2  T4 - T1    0.6667  24.0   0.4475
    """
    if isinstance(fit, MarginalMeans):
        if specs is not None or question or unit:
            raise ModelError(
                "these means have their predictors and settings already; give method, by, simple, "
                "interaction, ref, adjust or compare"
            )
        means, split = fit, by
    else:
        if specs is None:
            raise ModelError("name what to compare: contrasts(fit, 'treatment')")
        named = read_specs(specs, by)
        method, split = named.method or method, None
        for name in question:
            if name not in SETTINGS:
                hint = argument_hint(
                    "contrasts", name, [*signature(contrasts).parameters, *SETTINGS]
                )
                raise ArgumentError(f"contrasts() takes no argument {name!r}{hint}")
        level = 0.95 if conf_level is None else conf_level
        factors = list(named.factors)
        means = emmeans(fit, factors, named.by, conf_level=level, unit=unit, **question)
    return means.contrasts(
        method,
        by=split,
        simple=simple,
        interaction=interaction,
        ref=ref,
        adjust=adjust,
        compare=compare,
        conf_level=conf_level,
        side=side,
        null=null,
        delta=delta,
        rng=rng,
    )
