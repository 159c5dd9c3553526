"""What a generalised fit should warn of: separation, a poor Laplace approximation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranef.derivatives.quadrature_step import LaplaceError, laplace_error, likelihood_gap
from ranef.description.convergence import sentence, undetermined_line, warn_unless_proved
from ranef.display.numbers import number
from ranef.errors import ConvergenceWarning, DataWarning, warn
from ranef.families import family
from ranef.models.family_words import counts, end_words, predictor_of
from ranef.models.labels import coefficient_labels
from ranef.models.records import CONDITIONAL, Estimate, as_generalised
from ranef.models.sizes import effect_sizes
from ranef.solve import quadrature

__all__ = [
    "doubt",
    "laplace_concern",
    "sentence",
    "separation_concern",
    "uncertainty_concern",
    "warn_about",
]

FEW_TRIALS = 5.0
LARGE_SD = 1.0
INTERCEPT = "(Intercept)"
SEPARABLE = ("conditional", "zero", "threshold")
BINARY = ("binomial", "betabinomial", "cumulative", "multinomial")


def warn_about(estimate: Estimate) -> None:
    """Warn of what makes the estimates untrue or poor."""
    separated = separation_concern(estimate)
    if separated is not None:
        warn(separated, ConvergenceWarning)
    else:
        warn_unless_proved(estimate)
    poor = laplace_concern(estimate)
    if poor is not None:
        warn(poor, DataWarning)


def separation_concern(estimate: Estimate) -> str | None:
    """Say which coefficients run off to infinity, in which direction, and what to do."""
    if not estimate.runaway:
        return None
    outcome = _only_outcome(estimate)
    if outcome is not None:
        side = "minus" if not estimate.specification.y.any() else "plus"
        return (
            f"the response is {outcome} in every row, so that the fit diverges: {INTERCEPT} "
            f"towards {side} infinity. No coefficient has a finite estimate, the printed numbers "
            "are meaningless, and nothing can be learned from such rows."
        )
    if _is_needless(estimate):
        return (
            "a coefficient diverges: zero: (Intercept) towards minus infinity. The data show no "
            "more zeros than the model without its zero part, which has the same likelihood; "
            "leave zero out."
        )
    labels = coefficient_labels(estimate)
    named = [
        f"{labels[k].full} towards {'plus' if estimate.coefficients[k] > 0 else 'minus'} infinity"
        for k in estimate.runaway
    ]
    one = len(named) == 1
    runs = f"{'a coefficient diverges' if one else 'coefficients diverge'}: {'; '.join(named)}."
    series = _is_log_series(estimate)
    if series or not any(labels[k].component in SEPARABLE for k in estimate.runaway):
        ends = _ends(estimate)
        return (
            f"{runs} The likelihood is highest at this limit, where {'; '.join(ends)}, or give the "
            "coefficient a prior of its own, see ranef.priors."
        )
    return (
        f"{runs} The data show separation "
        f"({'its column predicts' if one else 'the columns predict'} the response "
        "without error), so that no finite estimate exists; the numbers printed for "
        f"{'it' if one else 'them'} are meaningless. A prior gives a finite estimate: "
        f"priors={{{_offer(estimate)}}}; or leave the column out, or join "
        "categories that hold only one outcome."
    )


def _is_log_series(estimate: Estimate) -> bool:
    """Tell whether a truncated negative binomial runs to its limit, mean and phi together."""
    if estimate.family.name != "truncated_nbinom2":
        return False
    labels = coefficient_labels(estimate)
    running = [labels[k] for k in estimate.runaway]
    down = all(estimate.coefficients[k] < 0 for k in estimate.runaway)
    parts = {label.component for label in running}
    names = {label.term for label in running}
    return down and parts == {CONDITIONAL, "dispersion"} and names == {INTERCEPT}


def _ends(estimate: Estimate) -> list[str]:
    """What the family is at the ends to which its dispersions and shapes run."""
    if _is_log_series(estimate):
        return [end_words(estimate.family, "phi", -1)]
    ends = list(dict.fromkeys(_end(estimate, k) for k in estimate.runaway))
    if len(ends) > 1 and estimate.family.name.endswith("nbinom12"):
        return [end_words(family("nbinom2"), "phi", 1)]
    if len(ends) > 1 and estimate.family.name == "ordbeta":
        return ["without 0 and 1 it is the beta. Use that family"]
    return ends


def _end(estimate: Estimate, coefficient: int) -> str:
    """What the family is at the end to which a coefficient of a dispersion or shape runs."""
    part = next(
        c for c in estimate.components if c.coefficients.start <= coefficient < c.coefficients.stop
    )
    sign = 1 if estimate.coefficients[coefficient] > 0 else -1
    return end_words(estimate.family, predictor_of(estimate, part).label, sign)


def doubt(estimate: Estimate) -> str | None:
    """Say to a reader of an answer that the fit behind it has no finite or no exact optimum."""
    if estimate.runaway:
        labels = coefficient_labels(estimate)
        named = " and ".join(labels[k].full for k in estimate.runaway)
        runs = "run" if len(estimate.runaway) > 1 else "runs"
        return (
            f"Doubtful: {named} of the fit {runs} off to infinity, so that standard errors, tests "
            "and intervals of what rests on it mean nothing (a mean stands at its end of the "
            "scale, a difference from it looks surer than it is); a prior mends that."
        )
    if not estimate.optimum.converged:
        return "Doubtful: the optimum of the fit is not proved."
    if estimate.optimum.monte_carlo is not None:
        return f"{sentence(estimate.optimum.monte_carlo.words(estimate.optimum.theta))}."
    return undetermined_line(estimate)


def _offer(estimate: Estimate) -> str:
    """Priors that make every coefficient that runs off finite, as code."""
    keys: list[str] = []
    for part in estimate.components:
        own = [k for k in estimate.runaway if part.coefficients.start <= k < part.coefficients.stop]
        names = [part.names[k - part.coefficients.start] for k in own]
        if part.name == CONDITIONAL:
            slopes = any(name != INTERCEPT for name in names)
            keys += ["fixed"] if slopes else names
        else:
            keys += [f"{part.name}: {name}" for name in names]
    if "fixed" in keys:
        keys = [key for key in keys if not key.startswith("threshold: ")]
    normal = "ranef.priors.Normal(0, 2.5)"
    return ", ".join(f"{key!r}: {normal}" for key in dict.fromkeys(keys))


def _only_outcome(estimate: Estimate) -> str | None:
    """The outcome of all rows, where they are all at one end of what the family can have."""
    y, extra, family = estimate.specification.y, estimate.extra, estimate.family
    if family.name in BINARY[:2]:
        successes = y == (1.0 if extra is None else extra)
        if successes.all():
            return "a success"
        return "a failure" if not y.any() else None
    return "0" if counts(family) and not y.any() else None


def _is_needless(estimate: Estimate) -> bool:
    """Tell whether a zero part that is one constant runs off, and nothing else."""
    zero = [c for c in estimate.components if c.name == "zero" and c.names == (INTERCEPT,)]
    if not zero or estimate.runaway != (zero[0].coefficients.start,):
        return False
    return bool(estimate.coefficients[estimate.runaway[0]] < 0)


def uncertainty_concern(covariance: NDArray[np.float64]) -> str | None:
    """Say that there are no standard errors, where the estimates' covariance has none."""
    if not np.isnan(covariance).any():
        return None
    return (
        "No standard errors: the matrix of second derivatives is not positive definite, so a "
        "coefficient or a variance cannot be estimated from these data; a simpler model or a prior "
        "helps."
    )


def laplace_concern(estimate: Estimate) -> str | None:
    """Say where the Laplace approximation is poor.

    Where the data say little of each level, by a few steps of quadrature
    (`laplace_error`), since its own estimate of the standard deviation may be one that it
    has shrunk; and with few trials in each level and a large standard deviation in any case,
    as it biases the variance and, through it, the coefficients (Breslow and Lin 1995,
    Biometrika 82; Joe 2008, Comput. Stat. Data Anal. 52).
    """
    generalised = as_generalised(estimate)
    if generalised is None or estimate.quadrature != 1:
        return None
    error = laplace_error(generalised)
    if error is not None and error.poor:
        return _poor(estimate, error.term, error)
    gap = likelihood_gap(generalised)
    if gap is not None:
        side = "below" if gap.gap < 0 else "above"
        return (
            f"the log-likelihood by the Laplace approximation is {number(abs(gap.gap), 2)} {side} "
            f"that by quadrature with {gap.nodes} nodes at the same estimates, as it is where the "
            "dispersion varies between levels of few rows: likelihood ratios, AIC and BIC are off "
            f"by as much. quadrature={gap.nodes} integrates exactly; compare models by it."
        )
    if estimate.family.name not in BINARY:
        return None
    for t, term in enumerate(estimate.terms):
        sd = np.sqrt(np.diag(estimate.covariances[t])) * effect_sizes(estimate, t)
        large = np.max(sd) > LARGE_SD
        if large and term.structure in ("us", "diag") and _rows_a_level(estimate, t) < FEW_TRIALS:
            return _poor(estimate, t, error if error is not None and error.term == t else None)
    return None


def _rows_a_level(estimate: Estimate, term: int) -> float:
    """Median number of rows, of trials where there are such, of the levels of a term."""
    trials = estimate.extra if estimate.family.name in BINARY[:2] else None
    factor = estimate.factors[estimate.terms[term].factor]
    return float(np.median(np.bincount(factor.codes, trials, factor.n_levels)))


def _sd(value: float) -> str:
    """A standard deviation in words, whatever its units."""
    return number(float(value), 2 if 0.1 <= value < 1e4 else None)


def _poor(estimate: Estimate, term: int, error: LaplaceError | None) -> str:
    group = estimate.factors[estimate.terms[term].factor].name
    noun = "trials" if estimate.family.name in BINARY[:2] else "rows"
    few, sd = _rows_a_level(estimate, term), np.sqrt(np.max(np.diag(estimate.covariances[term])))
    found = ""
    if error is not None:
        about = "" if error.final else "about "
        found = f", where quadrature finds {about}{_sd(error.better)}"
    text = (
        f"the Laplace approximation is poor here: the levels of {group} have a median of {few:g} "
        f"{noun if few != 1 else noun[:-1]} and their standard deviation is {_sd(sd)}{found}, so "
        "that it and the coefficients may be off."
    )
    if estimate.design is not None and quadrature.integrable(estimate.design):
        nodes = quadrature.comfortable_nodes(estimate.design)
        return f"{text} quadrature={nodes} integrates exactly; compare the two."
    return f"{text} Interpret them with care."
