"""`bivariate`: how far the relationship explains two traits by the same effects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.display.answer import Answer
from ranef.display.canvas import percent
from ranef.display.columns import Column, Fixed, Listing, PValue, Written
from ranef.display.progress import arriving
from ranef.elsewhere import explained, explained_methods
from ranef.errors import ModelError
from ranef.fields.gwas.engine import basis_of
from ranef.fields.gwas.jointly import in_common
from ranef.fields.gwas.model import formulas_of
from ranef.fields.gwas.multivariate import Covariances, Several, basis_of_columns, fit_several
from ranef.fields.gwas.variance import NA, Held
from ranef.solve.resources import one_blas_thread

__all__ = ["Bivariate", "Pair", "bivariate", "pair_of"]

Floats = NDArray[np.float64]

ALONG = 1.0 - 1e-5
"""A correlation that is one but for the search's rounding."""
ROWS = ("Vg1", "Vg12", "Vg2", "Ve1", "Ve12", "Ve2", "pve1", "pve2", "rg", "re")
NONE = 1e-6


@dataclass(frozen=True, eq=False)
class Pair:
    """Two traits at once.

    Attributes
    ----------
    n : int
    estimate, std_error : (10,) arrays
        Variances and covariance of the relationship (times its mean diagonal), of the residuals;
        shares of variance; correlations.
    loglik : float
        Restricted.
    p_zero, p_one : float
        Of a correlation of zero, and of a perfect one.
    boundary : bool
        Whether the relationship's covariance is singular.
    """

    n: int
    estimate: Floats
    std_error: Floats
    loglik: float
    p_zero: float
    p_one: float
    boundary: bool


def pair_of(model: Several, trace: float) -> Pair:
    """Fit two traits, (n, 2), freely and with each correlation that is tested."""
    from scipy.special import chdtrc

    best = fit_several(model, reml=True)
    apart, along = (
        _held(model, best, np.array(free)) for free in ((True, False, True), (True, True, False))
    )
    if along.loglik > best.loglik:
        best = along
    estimate, std_error, boundary = _figures(best, trace)
    gains = [max(2.0 * (best.loglik - held.loglik), 0.0) for held in (apart, along)]
    p_one = 0.5 * float(chdtrc(1.0, gains[1])) if gains[1] > 0 and not boundary else 1.0
    return Pair(
        model.n, estimate, std_error, best.loglik, float(chdtrc(1.0, gains[0])), p_one, boundary
    )


def _held(model: Several, best: Covariances, free: NDArray[np.bool_]) -> Covariances:
    """Fit with an element of the factor of Vg held at zero, from both signs of a covariance."""
    starts = [(best.Vg, best.Ve)]
    if free[1]:
        starts.append((best.Vg * np.array([[1.0, -1.0], [-1.0, 1.0]]), best.Ve))
    fits = [fit_several(model, reml=True, start=start, free=free) for start in starts]
    return max(fits, key=lambda fit: fit.loglik)


def _figures(fit: Covariances, trace: float) -> tuple[Floats, Floats, bool]:
    """All figures, their errors by the delta method, and whether Vg is singular."""
    theta = np.concatenate([fit.Vg[np.tril_indices(2)] * trace, fit.Ve[np.tril_indices(2)]])

    def derived(v: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [v[0] / (v[0] + v[3]), v[2] / (v[2] + v[5])]
            return np.array([
                *v, *shares, v[1] / np.sqrt(v[0] * v[2]), v[4] / np.sqrt(v[3] * v[5]),
            ])  # fmt: skip

    estimate = derived(theta)
    total = theta[[0, 2]] + theta[[3, 5]]
    boundary = bool(np.any(theta[[0, 2]] < NONE * total) or not abs(estimate[8]) < ALONG)
    if np.any(theta[[0, 2]] < NONE * total):
        estimate[8] = np.nan
    else:
        estimate[8] = np.clip(estimate[8], -1.0, 1.0)
    if boundary:
        return estimate, np.full(len(ROWS), np.nan), True
    scale = np.array([trace] * 3 + [1.0] * 3)
    covariance = np.linalg.inv(fit.information) * np.outer(scale, scale)
    step = 1e-6 * np.maximum(np.abs(theta), 1e-3 * np.sqrt(np.mean(theta**2)))
    slopes = np.array([
        (derived(theta + h * e) - derived(theta - h * e)) / (2.0 * h)
        for h, e in zip(step, np.eye(6), strict=True)
    ])  # fmt: skip
    return estimate, np.sqrt(np.einsum("ij,ik,kj->j", slopes, covariance, slopes)), False


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class Bivariate(Answer):
    """Correlations of traits that a relationship explains; `gwas.bivariate` makes it.

    Attributes
    ----------
    pairs : dict of (str, str) to Pair
    conf_level : float
    library : str
    """

    pairs: dict[tuple[str, str], Pair]
    conf_level: float
    library: str

    @property
    def title(self) -> str:
        return "Correlations of traits by the relationship"

    def tidy(self, table: str = "correlations") -> Any:
        """Return the correlations: ``trait, trait2, n, rg, std_error, conf_low, conf_high, p_zero,
        p_one, boundary``; or ``parameters``: ``trait, trait2, parameter, estimate, std_error``.
        """
        return self.tabled(self.listing(table))

    def tables(self) -> tuple[Listing, ...]:
        held = list(self.pairs.values())
        names = list(self.pairs)
        r = np.array([pair.estimate[8] for pair in held])
        error = np.array([pair.std_error[8] for pair in held])
        low, high = _interval(r, error, self.conf_level)
        columns = (
            Column("trait", [a for a, _ in names]),
            Column("trait2", [b for _, b in names], heading="with"),
            Column("n", [pair.n for pair in held], Written("{:,}".format)),
            Column("rg", r, Fixed(4), "correlation"),
            Column("std_error", error, Fixed(4), "std. error"),
            Column("conf_low", low, Fixed(4), f"{percent(self.conf_level)} low"),
            Column("conf_high", high, Fixed(4), "high"),
            Column("p_zero", np.array([pair.p_zero for pair in held]), PValue(), "p (zero)"),
            Column("p_one", np.array([pair.p_one for pair in held]), PValue(), "p (perfect)"),
            Column("boundary", [pair.boundary for pair in held], printed=False),
        )
        k = len(ROWS)
        parameters = (
            Column("trait", [a for a, _ in names for _ in range(k)]),
            Column("trait2", [b for _, b in names for _ in range(k)], heading="with"),
            Column("parameter", list(ROWS) * len(names)),
            Column("estimate", np.concatenate([pair.estimate for pair in held]), Fixed(4)),
            Column(
                "std_error", np.concatenate([pair.std_error for pair in held]), Fixed(4),
                "std. error",
            ),
        )  # fmt: skip
        return (
            Listing("correlations", columns, "Correlations by the relationship (REML)", labels=2),
            Listing("parameters", parameters, "Variances, shares and correlations", labels=3),
        )

    def sentences(self) -> tuple[str, ...]:
        said = [
            "Intervals are by the hyperbolic arctangent. p (zero) is a likelihood ratio with one "
            "degree of freedom, p (perfect) a mixture with none and one."
        ]
        said += [
            f"{a} and {b}: the covariance of the relationship is at its boundary (a correlation of "
            "one in size, or a variance of zero); standard errors are not defined there."
            for (a, b), pair in self.pairs.items()
            if pair.boundary
        ]
        return tuple(said)


def _interval(r: Floats, error: Floats, level: float) -> tuple[Floats, Floats]:
    from scipy.special import ndtri

    z = float(ndtri(0.5 + 0.5 * level))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = z * error / (1.0 - r**2)
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


@explained
def bivariate(
    formula: str,
    phenotypes: Any,
    *,
    traits: Sequence[str],
    relationship: Any,
    covariates: Any = None,
    transform: str | None = None,
    na: Sequence[str] = NA,
    conf_level: float = 0.95,
    progress: bool | None = None,
) -> Bivariate:
    """Estimate the genetic correlation of traits, two at a time, by bivariate REML.

    Samples that have both traits enter; both have the covariates of the formula.

    Parameters
    ----------
    formula : str
        ``"~ covariates"``.
    phenotypes, covariates, transform, na
        As in `scan`.
    traits : sequence of str
        Two columns or more: every pair is fitted.
    relationship : Relationship, matrix or path
        As in `null`.
    conf_level : float
    progress : bool, optional
        Show a progress bar over the pairs: always, never, or (None) where a person looks.

    Returns
    -------
    Bivariate
        ``tidy()``: ``trait, trait2, n, rg, std_error, conf_low, conf_high, p_zero, p_one,
        boundary``; ``tidy("parameters")``: variances, shares of variance, correlations.

    Examples
    --------
    >>> from ranef import gwas
    >>> study = gwas.simulate(n=300, m=600, h2=0.6, rng=1)
    >>> table = study.phenotypes.assign(other=lambda t: -t["trait"] + 0.01 * t["age"] ** 2 % 1)
    >>> K = gwas.grm(study.genotypes)
    >>> found = gwas.bivariate("~ sex", table, traits=["trait", "other"], relationship=K)
    >>> bool(found.tidy()["rg"][0] < -0.9)
    True
    """
    level = arguments.conf_level(conf_level)
    shown = arguments.optional_flag("progress", progress)
    if isinstance(traits, str) or len(list(traits)) < 2:
        raise ModelError("bivariate takes at least two traits: traits=['first', 'second']")
    formulas = formulas_of(formula, list(traits))
    held = Held.of(formulas, phenotypes, relationship, covariates, na)
    each = {name: held.trait(name, text, transform) for name, text in formulas.items()}
    pairs = {}
    both = list(itertools.combinations(each, 2))
    for a, b in arriving(both, len(both), "genetic correlations", shown, unit=" pairs"):
        first, second = in_common([each[a], each[b]])
        K = held.related.matrix(first.places, None)
        basis = basis_of(K, len(first.y), first.intercept, False)
        assert basis.U is not None
        W = basis_of_columns(first.W)
        Y = np.column_stack([first.y, second.y])
        Y = Y - W @ np.linalg.lstsq(W, Y, rcond=None)[0]
        scale = Y.std(axis=0)
        with one_blas_thread():
            model = Several(basis.d, basis.U.T @ W, basis.U.T @ (Y / scale))
            pairs[a, b] = _rescaled(pair_of(model, float(basis.d.mean())), scale, first.W.shape[1])
    return Bivariate(pairs, level, held.matched.library)


def _rescaled(pair: Pair, scale: Floats, c: int) -> Pair:
    """Figures in the traits' own units."""
    s, t = scale
    unit = np.array([s * s, s * t, t * t, s * s, s * t, t * t, 1.0, 1.0, 1.0, 1.0])
    loglik = pair.loglik - (pair.n - c) * float(np.log(scale).sum())
    return Pair(
        pair.n, pair.estimate * unit, pair.std_error * unit, loglik, pair.p_zero, pair.p_one,
        pair.boundary,
    )  # fmt: skip
