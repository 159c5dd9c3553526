"""How much is explained, and by what: R2 and intraclass correlations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, Significant, Written
from ranef.display.page import Paragraph
from ranef.errors import LevelError, ModelError, UnknownColumnError, suggestion
from ranef.fits.columns import own_columns
from ranef.fits.determined import where_determined
from ranef.fits.mixed import MixedFit
from ranef.fits.new_rows import read_rows
from ranef.fits.protocol import Levelled, Likelihood, require
from ranef.models.records import CONDITIONAL
from ranef.questions.explained import partition
from ranef.questions.explained.partition import METHODS, Partition
from ranef.tables import Table

__all__ = ["ICC", "R2", "GroupICC", "icc", "r2"]

WORDS = {
    "residual": "the residual variance",
    "latent": "the variance of the latent variable that the link stands for",
    "lognormal": "the variance of an observation's logarithm under a log-normal distribution",
    "delta": "the variance of an observation carried through the link by the delta method",
    "trigamma": "the variance of the logarithm of a gamma variable (trigamma)",
}


def share_text(value: float) -> str:
    """A share of the variance in print."""
    return "not determined" if np.isnan(value) else f"{value:.4f}"


@dataclass(frozen=True, eq=False, repr=False)
class R2(Answer):
    """Explained variance; `r2` makes it.

    Attributes
    ----------
    marginal : float
        Share of the fixed effects.
    conditional : float
        Share of fixed and random effects.
    parts : Partition
        The variances.
    names : tuple of str
        Labels of the random terms.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> found = ranef.r2(fit)
    >>> round(found.marginal, 4), round(found.conditional, 4)
    (0.2787, 0.7992)
    """

    parts: Partition
    names: tuple[str, ...]
    title: str
    library: str

    @property
    def marginal(self) -> float:
        return self.parts.fixed / self.parts.total

    @property
    def conditional(self) -> float:
        return (self.parts.fixed + self.parts.random) / self.parts.total

    def _rows(self) -> list[tuple[str, float]]:
        single = set(self.parts.overdispersion)
        rows = [("fixed effects", self.parts.fixed)]
        rows += [
            (name, float(v))
            for t, (name, v) in enumerate(zip(self.names, self.parts.terms, strict=True))
            if t not in single
        ]
        rows += [(f"{self.names[t]} (by row)", float(self.parts.terms[t])) for t in sorted(single)]
        last = "residual" if self.parts.method == "residual" else "observation"
        return [*rows, (last, self.parts.distribution)]

    def tidy(self) -> Any:
        """Return the parts as a table: ``part, variance, share``."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        names, values = zip(*self._rows(), strict=True)
        variance = np.array(values)
        columns = (
            Column("part", list(names), heading=""),
            Column("variance", variance, Significant(4)),
            Column("share", variance / self.parts.total, Fixed(3)),
        )
        return (Listing("variance", columns, "Parts of the variance"),)

    def sentences(self) -> tuple[str, ...]:
        return (
            f"Marginal R2 (fixed effects) {share_text(self.marginal)}; "
            f"conditional R2 (fixed and random effects) {share_text(self.conditional)}.",
            *_method_lines(self.parts),
        )

    def body(self) -> Iterable[Part]:
        return Paragraph(self.sentences()), self.listing()


def _method_lines(parts: Partition) -> list[str]:
    lines = []
    if parts.method != "residual":
        at = "" if parts.mean is None else f", at a mean of {parts.mean:.4g}"
        lines.append(
            f"On the scale of the link; an observation counts by {WORDS[parts.method]}{at} "
            f"(method={parts.method!r})."
        )
    if parts.overdispersion:
        lines.append(
            "Effects with a level for each row are overdispersion: they count as residual."
        )
    return lines


@where_determined
def r2(fit: MixedFit, *, method: str = "auto", mean: float | None = None) -> R2:
    """Return marginal and conditional R2.

    Of Nakagawa and Schielzeth (2013), with random slopes by Johnson (2014): the variance
    of a random term is the mean of z' Psi z over the rows, so that it does not depend on
    where a covariate has its zero, nor on how the terms are written.

    Parameters
    ----------
    fit : a fit of ranef
    method : {"auto", "lognormal", "delta", "trigamma", "latent"}
        In generalised models, how the variance of an observation is carried to the scale
        of the link (Nakagawa, Johnson and Schielzeth 2017). ``"auto"``: that of the latent
        variable for binary, binomial and ordered responses; log-normal under a log link;
        the delta method elsewhere. It counts dispersion and zero inflation in.
    mean : float, optional
        The mean of the response at which that variance is taken, where it depends on
        one; by default the model's population mean, averaged over the rows.

    Returns
    -------
    R2

    Raises
    ------
    ranef.errors.ModelError
        When there is no such variance; the message says why.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ...                  ranef.data.load("cbpp"), family="binomial")
    >>> ranef.r2(fit).tidy().round(3)
                part  variance  share
    0  fixed effects     0.346  0.085
    1       1 | herd     0.412  0.102
    2    observation     3.290  0.813
    """
    require(fit, "r2()", Likelihood)
    parts = _partition(fit, method, mean)
    names = tuple(term.label for term in fit.estimate.specification.terms)
    return R2(parts, names, f"R2: {fit.formula}", fit.frame.library)


def _partition(fit: MixedFit, method: str, mean: float | None) -> Partition:
    method = arguments.choice("method", method, METHODS)
    if fit.estimate.sigma is not None and (method != "auto" or mean is not None):
        raise ModelError(
            "method= and mean= are for generalised models: a linear model has a residual variance"
        )
    if mean is not None and not np.isfinite(float(mean)):
        raise ModelError(f"mean must be a finite number, not {mean}")
    return partition.partition(fit.estimate, method, mean)


@dataclass(frozen=True)
class GroupICC:
    """The intraclass correlation of one grouping factor.

    Attributes
    ----------
    group : str
    adjusted : float
        Its variance over that of all random effects and residual.
    unadjusted : float
        With the variance of the fixed effects in the denominator.
    levels : int
    size : float
        Rows of the level that a row drawn at random belongs to.
    design_effect : float
        1 + (size - 1) adjusted.
    """

    group: str
    adjusted: float
    unadjusted: float
    levels: int
    size: float
    design_effect: float


@dataclass(frozen=True, eq=False, repr=False)
class ICC(Answer):
    """Intraclass correlations; `icc` makes them.

    Attributes
    ----------
    parts : Partition
        The variances.
    groups : tuple of GroupICC
        One for each grouping factor.
    at : dict
        Values of covariates at which slopes count; empty for the average over rows.
    n_obs : int
    slopes : bool
        True where a random term has more than an intercept.
    title, library : str

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> ranef.icc(fit).tidy().round(3)
       group  adjusted  unadjusted  levels  size  design_effect
    0  Batch     0.418       0.418       6   5.0          2.674
    """

    parts: Partition
    groups: tuple[GroupICC, ...]
    at: Mapping[str, Any]
    n_obs: int
    slopes: bool
    title: str
    library: str

    @property
    def adjusted(self) -> float:
        """Share of all random effects in the variance that the fixed effects leave."""
        return self.parts.random / (self.parts.random + self.parts.residual)

    @property
    def unadjusted(self) -> float:
        """Share of all random effects in the whole variance."""
        return self.parts.random / self.parts.total

    def tidy(self) -> Any:
        """Return ``group, adjusted, unadjusted, levels, size, design_effect``."""
        return super().tidy()

    def tables(self) -> tuple[Listing, ...]:
        groups = self.groups
        whole = all(float(g.size).is_integer() for g in groups)
        columns = (
            Column("group", [g.group for g in groups]),
            Column("adjusted", [g.adjusted for g in groups], Fixed(4)),
            Column("unadjusted", [g.unadjusted for g in groups], Fixed(4)),
            Column("levels", [g.levels for g in groups], Written("{:,}".format)),
            Column("size", [g.size for g in groups], Fixed(0 if whole else 1)),
            Column("design_effect", [g.design_effect for g in groups], Fixed(2), "design effect"),
        )
        return (Listing("icc", columns, "By grouping factor"),)

    def sentences(self) -> tuple[str, ...]:
        slopes = "Random slopes on average over the rows."
        if self.at:
            slopes = f"Random slopes at {', '.join(f'{k} = {v}' for k, v in self.at.items())}."
        return (
            f"Adjusted ICC (of what the fixed effects leave) {share_text(self.adjusted)}; "
            f"unadjusted {share_text(self.unadjusted)}.",
            *([slopes] if self.slopes else []),
            *_method_lines(self.parts),
        )

    def body(self) -> Iterable[Part]:
        design = (
            "The design effect is the factor by which the variance of a mean over rows "
            "exceeds that of independent rows; size is that of the level of a random row."
        )
        return Paragraph(self.sentences()), self.listing(), Paragraph((design,))


@where_determined
def icc(
    fit: MixedFit,
    *,
    at: Mapping[str, Any] | None = None,
    method: str = "auto",
    mean: float | None = None,
) -> ICC:
    """Return intraclass correlations, by grouping factor, with design effects.

    Parameters
    ----------
    fit : a fit of ranef
    at : dict, optional
        Values of covariates: with random slopes the ICC is a function of them. Without it
        the variance of the slopes counts by its average over the rows.
    method, mean
        As in `r2`.

    Returns
    -------
    ICC

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", ranef.data.load("sleepstudy"))
    >>> [round(ranef.icc(fit, at={"Days": day}).adjusted, 3) for day in (0, 5, 9)]
    [0.483, 0.708, 0.847]
    """
    require(fit, "icc()", Levelled)
    parts = _partition(fit, method, mean)
    values = arguments.mapping("at", at, "{'age': 40}")
    if values:
        parts = parts.with_terms(partition.term_variances(fit.estimate, _columns_at(fit, values)))
    slopes = any(term.names != ("(Intercept)",) for term in fit.estimate.specification.terms)
    groups, title = _by_group(fit, parts), f"ICC: {fit.formula}"
    return ICC(parts, groups, values, fit.n_obs, slopes, title, fit.frame.library)


def _columns_at(fit: MixedFit, at: Mapping[str, Any]) -> list[Any]:
    """Columns z of each random term with some covariates at one value."""
    rows = own_columns(fit)
    for name, value in at.items():
        if name not in rows:
            raise UnknownColumnError(
                f"at: the formulas use no column {name!r}{suggestion(name, list(rows))}; "
                f"they use {', '.join(map(repr, rows))}"
            )
        rows[name] = _constant(Table.of(rows), name, value)
    at_value, _ = read_rows(fit, rows, "new")
    return [z for _, z in at_value.parts[CONDITIONAL].random or ()]


def _constant(table: Table, name: str, value: Any) -> Any:
    n = table.n_rows
    if table.kind(name) != "categorical":
        return np.full(n, value)
    import pandas as pd

    _, levels = table.codes(name)
    if value not in levels:
        raise LevelError(
            f"at: column {name!r} has no level {value!r}"
            f"{suggestion(str(value), [str(v) for v in levels])}; it has "
            f"{', '.join(map(repr, levels[:10]))}"
        )
    codes = np.full(n, list(levels).index(value))
    return pd.Categorical.from_codes(codes, categories=levels)


def _by_group(fit: MixedFit, parts: Partition) -> tuple[GroupICC, ...]:
    spec = fit.estimate.specification
    out = []
    for f, factor in enumerate(spec.factors):
        terms = [
            t
            for t, term in enumerate(spec.terms)
            if term.factor == f and t not in parts.overdispersion
        ]
        if not terms:
            continue
        variance = float(parts.terms[terms].sum())
        adjusted = variance / (parts.random + parts.residual)
        sizes = np.bincount(factor.codes, minlength=factor.n_levels)
        effect, size = partition.design_effect(sizes, adjusted)
        out.append(
            GroupICC(factor.name, adjusted, variance / parts.total, factor.n_levels, size, effect)
        )
    return tuple(out)
