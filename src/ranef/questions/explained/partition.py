"""The variance of the response on the scale of the link, part by part.

R2 and intraclass correlations are ratios of its parts (Nakagawa & Schielzeth 2013,
Methods Ecol. Evol. 4; with random slopes Johnson 2014, Methods Ecol. Evol. 5; of other
families Nakagawa, Johnson & Schielzeth 2017, J. R. Soc. Interface 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranef.errors import ModelError
from ranef.families import BetaBinomial, Binomial, Cumulative
from ranef.inference.coefficients.variance import LATENT
from ranef.inference.effects.linearised import refuse_unordered
from ranef.inference.rows.parts import linear_parts
from ranef.inference.rows.targets import has_zero
from ranef.inference.rows.uncertainty import linear_predictors
from ranef.models.noise import residual_covariance
from ranef.models.records import Estimate, LinearEstimate
from ranef.models.rows import Rows

__all__ = ["METHODS", "Partition", "design_effect", "partition", "term_variances"]

Floats = NDArray[np.float64]

METHODS = ("auto", "lognormal", "delta", "trigamma", "latent")
NODES = 31
ROUNDING = 1e-12
"""Of a linear predictor that is constant, relative to its size."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Variances on the scale of the link.

    Attributes
    ----------
    fixed : float
        Of the fixed effects' linear predictor over the rows.
    terms : (T,) float64 array
        Of each random term of the mean, z' Psi z on average over the rows.
    overdispersion : tuple of int
        Terms with a level for each row: they count as residual.
    distribution : float
        Of an observation given all effects.
    method : str
        How `distribution` was found: ``"residual"`` in linear models.
    mean : float or None
        The response's mean at which it was found, where it depends on one.
    random : float
        Variance of the random effects, without what counts as residual.
    residual : float
        Variance of an observation, effects of single rows included.
    total : float

    The sums stand beside their parts, since the data may determine a sum alone.
    """

    fixed: float
    terms: Floats
    overdispersion: tuple[int, ...]
    distribution: float
    method: str
    mean: float | None
    random: float
    residual: float
    total: float

    @classmethod
    def of(
        cls,
        fixed: float,
        terms: Floats,
        overdispersion: tuple[int, ...],
        distribution: float,
        method: str,
        mean: float | None,
    ) -> Partition:
        """Add the parts up."""
        single = float(terms[list(overdispersion)].sum())
        random, residual = float(terms.sum()) - single, distribution + single
        sums = random, residual, fixed + random + residual
        return cls(fixed, terms, overdispersion, distribution, method, mean, *sums)

    def with_terms(self, terms: Floats) -> Partition:
        """The same with other variances of the random terms."""
        own = self.overdispersion
        return self.of(self.fixed, terms, own, self.distribution, self.method, self.mean)


def partition(estimate: Estimate, method: str = "auto", mean: float | None = None) -> Partition:
    """Return the parts of the variance.

    Parameters
    ----------
    estimate : Estimate
    method : str
        How the variance of an observation is carried to the scale of the link, in
        generalised models: ``"lognormal"``, ``"delta"``, ``"trigamma"``, ``"latent"``;
        ``"auto"`` takes the latent variance of binary, binomial and ordered responses,
        the log-normal one under a log link, and the delta method elsewhere.
    mean : float, optional
        Mean of the response at which it is taken; by default the average over the rows
        of the model's population mean.

    Raises
    ------
    ModelError
        When the method does not go with family and link; the message says why.
    """
    refuse_unordered(estimate, "one variance on the scale of the link")
    part = linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))[0]
    fixed = _variance(part.X @ estimate.coefficients[part.columns])
    terms = term_variances(estimate)
    if estimate.sigma is not None:
        w = estimate.specification.weights
        if isinstance(estimate, LinearEstimate) and estimate.specification.residual is not None:
            own = float(np.mean(residual_covariance(estimate).sds() ** 2))
            return Partition.of(fixed, terms, (), estimate.sigma**2 * own, "residual", None)
        spread = 1.0 if w is None else float(np.mean(1.0 / w))
        return Partition.of(fixed, terms, (), estimate.sigma**2 * spread, "residual", None)
    variance, how, at = _distribution(estimate, method, mean)
    if not np.isfinite(variance):
        raise ModelError(
            f"the variance of an observation under {estimate.family.name} with link "
            f"{estimate.family.link} by method={how!r} is not finite, so there is no R2 and no "
            "ICC; another method= may have one"
        )
    return Partition.of(fixed, terms, _by_row(estimate), variance, how, at)


def _variance(values: Floats) -> float:
    """Variance of values; 0 where they differ by rounding alone."""
    if len(values) < 2 or np.ptp(values) <= ROUNDING * np.max(np.abs(values)):
        return 0.0
    return float(np.var(values, ddof=1))


def term_variances(estimate: Estimate, z: Sequence[Floats] | None = None) -> Floats:
    """Mean over rows of z' Psi z for each random term of the mean (Johnson 2014)."""
    spec = estimate.specification
    columns = [term.z for term in spec.terms] if z is None else z
    covariances = [estimate.covariances[t] for t in estimate.components[0].terms]
    variances = []
    for term, psi, rows in zip(spec.terms, covariances, columns, strict=True):
        v = np.einsum("ni,ij,nj->n", rows, psi, rows)
        if term.kernel is not None and z is None:
            v = v * np.diag(term.kernel)[spec.factors[term.factor].codes]
        variances.append(float(np.mean(v)))
    return np.array(variances)


def _by_row(estimate: Estimate) -> tuple[int, ...]:
    """Terms with a level for each row."""
    spec = estimate.specification
    return tuple(
        t for t, term in enumerate(spec.terms) if spec.factors[term.factor].n_levels == spec.n
    )


def _distribution(
    estimate: Estimate, method: str, mean: float | None
) -> tuple[float, str, float | None]:
    """Variance of an observation given all effects, how it was found, and at which mean."""
    family, link = estimate.family, estimate.family.link
    discrete = isinstance(family, Binomial | BetaBinomial | Cumulative)
    if method == "auto":
        latent = discrete and link in LATENT and not has_zero(estimate)
        method = "latent" if latent else "lognormal" if link == "log" else "delta"
    if method == "latent":
        if not discrete or link not in LATENT:
            raise ModelError(
                "method='latent' is for binary, binomial and ordered responses with link "
                f"{', '.join(LATENT)}: their link is the distribution function of a latent "
                f"variable; {family.name} with link {link} has none"
                + (" of finite variance" if link == "cauchit" else "")
            )
        if mean is not None:
            raise ModelError(
                "the variance of a latent variable does not depend on the mean: leave mean= out, "
                "or give method='delta'"
            )
        return LATENT[link], "latent", None
    if isinstance(family, Cumulative):
        raise ModelError(
            "ordered categories have no variance on the scale of numbers, only that of their "
            f"latent variable: method='latent', for links {', '.join(LATENT)} (this one is "
            f"{link}); a cauchit link's has no finite variance"
        )
    if method in ("lognormal", "trigamma") and link != "log":
        raise ModelError(
            f"method={method!r} is for a log link; {family.name} here has link {link}: "
            "method='delta' takes any link"
        )
    etas, at = _typical(estimate, mean)
    zero = has_zero(estimate)
    mu, v = family.mean(etas, None, zero=zero), family.variance(etas, None, zero=zero)
    if method == "delta":
        if link == "log":
            return float((v / mu**2)[0]), method, at
        slope = family.inverse_link_derivatives(etas[0])[0]
        return float((v / slope**2)[0]), method, at
    ratio = float((v / mu**2)[0])
    if method == "lognormal":
        return float(np.log1p(ratio)), method, at
    from scipy.special import polygamma

    return float(polygamma(1, 1.0 / ratio)), method, at


def _typical(estimate: Estimate, mean: float | None) -> tuple[Floats, float]:
    """Predictors (M, 1) at the mean response, and that mean (of trials the probability)."""
    family = estimate.family
    parts = linear_parts(estimate, Rows.of(estimate.parts, estimate.extra))
    etas = linear_predictors(estimate, parts, False)
    if mean is None:
        v = np.zeros(etas.shape[1])
        for t, _, z in parts[0].random:
            v += np.einsum("ni,ij,nj->n", z, estimate.covariances[t], z)
        mean = _population_mean(estimate, etas[0], v)
    typical = etas.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        typical[0] = family.link_function(np.array([mean]))
    if not np.isfinite(typical).all():
        raise ModelError(
            f"a mean of {mean:g} is outside the range of the link {family.link}; give mean= "
            "a value that the family can have"
        )
    return typical, float(mean)


def _population_mean(estimate: Estimate, eta: Floats, v: Floats) -> float:
    """Average over rows of the inverse link's mean under N(eta, v)."""
    family = estimate.family
    if family.link == "log":
        return float(np.mean(np.exp(eta + v / 2.0)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    total = sum(
        w * float(np.mean(family.inverse_link(eta + np.sqrt(v) * x)))
        for x, w in zip(nodes, weights, strict=True)
    )
    return float(total)


def design_effect(sizes: NDArray[np.int_], icc: float) -> tuple[float, float]:
    """Return 1 + (m - 1) icc and m, the size of the group of a row drawn at random.

    With unequal sizes m = sum m_j^2 / sum m_j (Kish 1965, Survey Sampling).
    """
    m = float(np.sum(sizes.astype(np.float64) ** 2) / np.sum(sizes))
    return 1.0 + (m - 1.0) * icc, m
