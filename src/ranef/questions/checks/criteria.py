"""What `check` looks at: each function looks at one thing and says what it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ranef.description import doubts
from ranef.description.convergence import rare_line, undetermined_advice, undetermined_line
from ranef.design.terms import rare_columns
from ranef.fits.mixed import MixedFit
from ranef.models.labels import group_name
from ranef.models.sizes import effect_sizes
from ranef.questions.checks import columns, distribution, residual_tests
from ranef.questions.checks.collinearity import collinear
from ranef.questions.checks.findings import NOTE, Candidate, Case
from ranef.questions.checks.influence import Influence
from ranef.questions.checks.residual_tests import ResidualTest
from ranef.questions.checks.simulated_residuals import has_zeros
from ranef.questions.checks.within_between_numbers import within_between
from ranef.solve.optimum import Face

__all__ = ["CRITERIA", "singularity_advice"]

Floats = NDArray[np.float64]

HIGH_VIF = 10.0
TAILS = 3.0
"""Excess kurtosis over squared skewness above which tails are the matter: gammas have 1.5."""
RARE = 0.005
MIXED = 0.02
"""Share of a predictor's variance within and between groups from which one coefficient mixes."""
FEW_LEVELS = 5
FEW_FOR_SHAPE = 10
WITHOUT_DISPERSION = ("poisson", "binomial", "truncated_poisson")


# --- the table


def _table(case: Case) -> Iterator[Candidate]:
    for i, concern in enumerate(case.fit.description.concerns()):
        yield Candidate(
            "table" if i == 0 else f"table ({i + 1})",
            "",
            concern,
            "Look at these rows in the table; mend them there, and fit again.",
            matters=True,
            verdict=NOTE,
        )


# --- the estimate


def _optimum(case: Case) -> Iterator[Candidate]:
    optimum = case.fit.optimum
    yield Candidate(
        "optimum",
        "The search ended at a proved optimum.",
        "The optimum is not proved: the search has not converged.",
        "Centre and scale the predictors, give starting values (start=), or remove random terms "
        "about which the data say little.",
        optimum.decrement,
        matters=not optimum.converged and not case.estimate.runaway,
    )


def _determined(case: Case) -> Iterator[Candidate]:
    text = undetermined_line(case.estimate)
    if text is not None:
        advice = undetermined_advice(case.estimate)
        yield Candidate("determination", "", text, advice, matters=True)


def _seen(case: Case) -> Iterator[Candidate]:
    """Variances that rest on a row or two."""
    for t, term in enumerate(case.estimate.terms):
        for rare in rare_columns(term, case.estimate.factors[term.factor]):
            group = group_name(case.estimate, t)
            yield Candidate(
                f"variance of {rare.name} ({group})",
                "",
                rare_line(rare, term, group),
                "Look at these rows (a misspelt category?); leave the column out, or join it "
                "with another.",
                matters=True,
            )


def _separation(case: Case) -> Iterator[Candidate]:
    estimate = case.estimate
    if case.normal:  # least squares always has a solution
        return
    text = doubts.separation_concern(estimate) or ""
    yield Candidate(
        "separation",
        "No coefficient diverges to infinity.",
        doubts.sentence(text),
        "Use a prior (priors= of glmm), or leave the column out.",
        matters=bool(text),
    )
    if text:
        return
    _, covariance = case.fit.inference.prediction_parameters()
    text = doubts.uncertainty_concern(covariance) or ""
    if text:
        yield Candidate(
            "standard errors", "", text, "Fit a simpler model, or use a prior.", matters=True
        )


def _laplace(case: Case) -> Iterator[Candidate]:
    estimate = case.estimate
    if case.normal or estimate.quadrature != 1:
        return
    text = doubts.laplace_concern(estimate)
    yield Candidate(
        "Laplace approximation",
        "No sign that the Laplace approximation is poor.",
        doubts.sentence(text or ""),
        "If there is one grouping factor, fit with quadrature=25 and compare.",
        matters=text is not None,
    )


def _singular(case: Case) -> Iterator[Candidate]:
    faces = [face for face in case.fit.optimum.faces if face.term not in case.unknown_terms]
    if not faces:
        if case.unknown_terms:  # said there
            return
        yield Candidate("singularity", "No variance at zero, no correlation at one.", "", "")
        return
    for face in faces:
        group = group_name(case.estimate, face.term)
        yield Candidate(
            f"singularity ({group})",
            "",
            f"The fit lies on a boundary: {face.description}.",
            singularity_advice(case.fit, face),
            matters=True,
            verdict=NOTE,
        )


def singularity_advice(fit: MixedFit, face: Face) -> str:
    """Say what to do about one boundary that a fit lies on."""
    terms = fit.estimate.specification.terms
    term = terms[face.term] if face.term < len(terms) else None
    if face.rank == 0:
        return (
            "These data show no variation that this term would explain. The other estimates are "
            "the same as without the term. Keep it if the design asks for it, otherwise remove it."
        )
    if face.rank == face.size:
        return (
            "A parameter of its structure is at the end of its range; a simpler structure suffices."
        )
    if "correlation" in face.description:
        label = "the term" if term is None else f"({term.label})"
        return (
            f"The data support fewer dimensions of variation ({face.rank}) than {label} has "
            f"({face.size}). Write || instead of | (diag(...) around a factor) to leave "
            "correlations out, or keep the term: "
            "the fixed effects and their tests remain valid."
        )
    return (
        f"The data support {face.rank} of the {face.size} effects of this term. Leave out those "
        "whose variance is zero, or keep them if the design asks for them."
    )


# --- the distribution of the residuals


def _uniform(case: Case) -> Iterator[Candidate]:
    if case.residuals is None or case.normal:
        return
    test = _named(case, "uniformity")
    yield Candidate(
        "distribution",
        "The responses are distributed like draws from the model.",
        f"The responses do not follow the {case.estimate.family.name} family: their ranks "
        "among draws from the model are not uniform.",
        "Look at the other findings first, and at the plot of simulated residuals; then "
        "try another family.",
        test.statistic,
        test.p_value,
        test.statistic > 0.03,
        after=("dispersion",),
    )


def _normal(case: Case) -> Iterator[Candidate]:
    if case.residuals is None or not case.normal or len(case.scores) < 8:
        return
    shape = distribution.shape(case.scores)
    skewed = abs(shape.skewness) > 0.3
    heavy = shape.kurtosis > max(0.6, TAILS * shape.skewness**2)
    how = (
        f"skewed to the {'right' if shape.skewness > 0 else 'left'} (skewness {shape.skewness:.2f})"
        if skewed and not heavy
        else f"heavier in the tails than normal (excess kurtosis {shape.kurtosis:.1f})"
        if heavy
        else f"not normal (skewness {shape.skewness:.2f}, excess kurtosis {shape.kurtosis:.1f})"
    )
    positive = bool(np.min(case.estimate.specification.y) > 0)
    advice = (
        "With many rows this hardly affects means and their tests, but it affects predictions. "
    )
    if skewed and not heavy and positive and shape.skewness > 0:
        advice += "For a long right tail take the logarithm of the response, or glmm with family "
        advice += "'Gamma' or 'lognormal'."
    elif heavy:
        advice += "glmm with family='t' allows for heavy tails."
    else:
        advice += "Look at the normal quantile plot."
    yield Candidate(
        "residuals normal",
        "The residuals are about normal.",
        f"The residuals are {how}.",
        advice,
        shape.statistic,
        shape.p_value,
        abs(shape.skewness) > 0.2 or abs(shape.kurtosis) > 0.5,
        after=("spread against the fit",),
    )


def _dispersion(case: Case) -> Iterator[Candidate]:
    estimate = case.estimate
    if case.residuals is None or estimate.family.name not in WITHOUT_DISPERSION:
        return
    binomial = estimate.family.name == "binomial"
    if binomial and (estimate.extra is None or np.max(estimate.extra) <= 1):
        return
    test = _named(case, "dispersion")
    ratio = test.statistic
    over = ratio > 1
    family = "binomial" if binomial else "Poisson"
    wide = "family='betabinomial'" if binomial else "family='nbinom2'"
    yield Candidate(
        "dispersion",
        f"The variance of the responses is what the {family} distribution implies.",
        f"The variance of the responses is {ratio:.2g} times what the {family} distribution "
        f"implies ({'over' if over else 'under'}dispersion): standard errors are too "
        + ("small." if over else "large."),
        f"Use {wide}, or add a random effect for each row."
        if over
        else "Use family='compois' or 'genpois'."
        if not binomial
        else "Look for rows that are not independent trials.",
        ratio,
        test.p_value,
        abs(np.log(max(ratio, 1e-300))) > 0.1,
    )


def _zeros(case: Case) -> Iterator[Candidate]:
    if case.residuals is None or not has_zeros(case.fit):
        return
    test = _named(case, "zeros")
    if not np.isfinite(test.statistic) and test.p_value > 0.05:
        return
    more = test.statistic > 1
    there = "zero" in case.estimate.parts
    yield Candidate(
        "zeros",
        "There are about as many zeros as the model implies.",
        f"There are {test.statistic:.2g} times as many zeros as the model implies.",
        (
            "If the responses are overdispersed as well, use family='nbinom2' first. Then try "
            "zero='~ 1', or a formula for what causes the extra zeros."
            if more and not there
            else "Leave out the zero part, or reconsider what it depends on."
        ),
        test.statistic,
        test.p_value,
        abs(np.log(max(test.statistic, 1e-300))) > 0.1,
        after=("dispersion",),
    )


def _outliers(case: Case) -> Iterator[Candidate]:
    if case.residuals is None:
        return
    test = _named(case, "outliers")
    n = len(case.residuals.scaled)
    rows, expected = round(test.statistic * n), test.expected * n
    yield Candidate(
        "outliers",
        "No more rows than expected lie outside the range of their draws.",
        f"{rows:,} rows lie outside the range of all draws from the model; {expected:.1f} are "
        "expected.",
        "Look at these rows, which have the simulated residuals closest to 0 and 1. If the data "
        "are correct, another family or a missing predictor may explain them.",
        float(rows),
        test.p_value,
        rows > 2 * expected,
        after=("dispersion", "residuals normal", "spread against the fit"),
    )


# --- against what is known of the rows


def _against_fit(case: Case) -> Iterator[Candidate]:
    if case.residuals is None:
        return
    tests = [t for t in case.residuals.tests if t.name.startswith("trend")]
    for test in tests:
        yield Candidate(
            "residuals against the fit",
            "The residuals do not depend on the fitted value.",
            "The residuals depend on the fitted value: the shape of the mean or the spread is "
            "wrong.",
            "Add a curve (poly(x, 2), ns(x, 3)) or an interaction, or transform the response or "
            "change the link.",
            test.statistic,
            test.p_value,
            test.statistic > 0.05,
            after=("dispersion",),
        )


def _against_predictors(case: Case) -> Iterator[Candidate]:
    if case.residuals is None:
        return
    spec = case.estimate.specification
    for term in columns.terms_of_columns(spec):
        x = spec.X[:, term.columns[0]]
        if term.interaction or len(term.columns) > 1 or len(np.unique(x)) < 4:
            continue
        test = residual_tests.trend(x, case.residuals.scaled, term.name)
        yield Candidate(
            f"residuals against {term.name}",
            f"The residuals do not depend on {term.name}.",
            f"The residuals depend on {term.name}: its effect is not a straight line on this "
            "scale, or the spread changes with it.",
            f"Try poly({term.name}, 2) or ns({term.name}, 3); plot the residuals against it.",
            test.statistic,
            test.p_value,
            test.statistic > 0.05,
            after=("dispersion",),
        )


def _spread(case: Case) -> Iterator[Candidate]:
    if case.residuals is None or case.residuals.found.predicted.size == 0:
        return
    widen = (
        "The logarithm of the response often helps. Otherwise glmm(..., family='gaussian', "
        "dispersion='~ x') models the spread; if it is known, give weights=."
        if case.normal
        else "dispersion='~ x' models the spread, or use a family with another variance function."
    )
    r, p = distribution.spread_against(case.scores, case.residuals.found.predicted)
    yield Candidate(
        "spread against the fit",
        "The spread does not depend on the fitted value.",
        f"The spread {'grows' if r > 0 else 'shrinks'} with the fitted value.",
        widen,
        r,
        p,
        abs(r) > 0.1,
        after=("dispersion",),
    )
    for factor in case.estimate.specification.factors:
        F, p = distribution.spread_by_group(case.scores, factor.codes.astype(np.int_))
        if not np.isfinite(p):
            continue
        yield Candidate(
            f"spread by {factor.name}",
            f"The spread is about the same in all levels of {factor.name}.",
            f"The spread differs between levels of {factor.name}.",
            f"A random slope missing from the model, (x | {factor.name}), can cause this. "
            f"Otherwise dispersion='~ (1 | {factor.name})' of glmm lets the spread itself vary.",
            F,
            p,
            F > 1.2,
            after=("dispersion", "spread against the fit"),
        )


def _time(case: Case) -> Iterator[Candidate]:
    if case.residuals is None or case.time is None:
        return
    test = case.residuals.temporal(case.time, by=case.by, rng=case.rng)
    yield Candidate(
        "order in time",
        "Neighbours in time are no more alike than others.",
        f"Neighbours in time are {'alike' if test.statistic > 0 else 'opposite'} (correlation "
        f"{test.statistic:.2f}): rows are not independent, and standard errors are wrong.",
        "Add ar1(0 + factor(time) | group) or ou(0 + time | group), or a smooth curve of time.",
        test.statistic,
        test.p_value,
        abs(test.statistic) > 0.05,
    )


# --- the random effects and the fixed effects' columns


def _effects(case: Case) -> Iterator[Candidate]:
    if case.draw is None:
        return
    estimate = case.estimate
    spec = estimate.specification
    covariances = [estimate.covariances[t] for t in estimate.components[0].terms]
    for t, (psi, b) in enumerate(zip(covariances, case.draw.effects, strict=True)):
        term = spec.terms[t]
        if term.kernel is not None or len(b) < FEW_FOR_SHAPE:
            continue
        if estimate.components[0].terms[t] in case.unknown_terms:
            continue
        group = spec.factors[term.factor].name
        sizes = effect_sizes(estimate, t)
        for j, name in enumerate(term.names):
            sd = float(np.sqrt(psi[j, j]))
            if sd * sizes[j] <= 1e-8:
                continue
            shape = distribution.shape(b[:, j] / sd)
            farthest = spec.factors[term.factor].levels[int(np.argmax(np.abs(b[:, j])))]
            which = name.strip("()").lower() if name == "(Intercept)" else name
            yield Candidate(
                f"effects of {group}: {which}",
                f"The effects of {group} ({which}) are about normal.",
                f"The effects of {group} ({which}) are not normal (skewness "
                f"{shape.skewness:.2f}, excess kurtosis {shape.kurtosis:.1f}).",
                "This affects fixed effects little, and predictions for levels more. Look at "
                f"outlying levels ({farthest} is the most extreme), or for a missing predictor of "
                "the levels. (Shrunken modes look more normal than the effects are, so that this "
                "is hard to detect.)",
                shape.statistic,
                shape.p_value,
                abs(shape.skewness) > 0.3 or abs(shape.kurtosis) > 0.6,
                after=(f"influence of {group}",),
            )


def _within_between(case: Case) -> Iterator[Candidate]:
    names = [f.name for f in case.estimate.specification.factors]
    for h in within_between(case.fit.inference):
        if not MIXED <= h.icc <= 1.0 - MIXED:
            continue
        group = names[h.factor]
        slopes = "" if np.isnan(h.within) else f" ({h.within:.3g} and {h.between:.3g})"
        yield Candidate(
            f"{h.term} within and between {group}",
            f"{h.term} has one slope within and between levels of {group}.",
            f"{h.term} has different slopes within and between levels of {group}{slopes}; a "
            f"single coefficient mixes them. {100 * h.icc:.0f}% of the variance of {h.term} lies "
            "between levels.",
            f"Write within({h.term}, {group}) + between({h.term}, {group}) instead of {h.term}.",
            h.test.statistic,
            h.test.p_value,
            True,
        )


def _collinear(case: Case) -> Iterator[Candidate]:
    inflation, _ = collinear(case.fit)
    inside = {part for t in inflation.terms if t.interaction for part in t.name.split(":")}
    plain = [
        (t.name, float(v))
        for t, v in zip(inflation.terms, inflation.adjusted, strict=True)
        if not t.interaction and t.name not in inside and np.isfinite(v)
    ]
    if len(inflation.terms) < 2 or not plain:
        return
    high = [f"{name} ({v:.0f})" for name, v in plain if v > HIGH_VIF]
    yield Candidate(
        "collinearity",
        "No predictor is nearly a linear combination of the others.",
        f"Other predictors almost determine {', '.join(high)} (variance inflation in "
        "parentheses), so that this coefficient is uncertain.",
        "Leave one of them out, combine them, or interpret only their joint effect.",
        max(v for _, v in plain),
        matters=bool(high),
    )


def _groups(case: Case) -> Iterator[Candidate]:
    spec = case.estimate.specification
    for factor in spec.factors:
        few = factor.n_levels < FEW_LEVELS
        single = float(np.mean(np.bincount(factor.codes) == 1))
        lonely = not few and single > 0.8 and factor.n_levels < spec.n
        alarm = (
            f"{factor.name} has {factor.n_levels} levels: hardly enough to estimate a variance."
            if few
            else f"{100 * single:.0f}% of the levels of {factor.name} have a single row, which "
            "cannot tell a level's effect from the residual."
        )
        yield Candidate(
            f"levels of {factor.name}",
            f"{factor.name} has {factor.n_levels:,} levels.",
            alarm,
            f"Consider fixed effects of {factor.name}, or a prior on its standard deviation. With "
            "so few levels, wide intervals for between-level effects are justified."
            if few
            else "Interpret the variances with care.",
            float(factor.n_levels),
            matters=few or lonely,
            verdict=NOTE,
        )


def _influence(case: Case) -> Iterator[Candidate]:
    for group, left_out in case.left_out.items():
        worst, carries = _heaviest(left_out)
        moved = left_out.found.dfbetas[worst]
        text = ""
        if carries:
            j = int(np.nanargmax(np.abs(moved)))
            without = left_out.found.beta[worst, j]
            now = without + left_out.found.dfbeta[worst, j]
            text = f": {left_out.terms[j]} goes from {now:.3g} to {without:.3g}"
        yield Candidate(
            f"influence of {group}",
            f"No single level of {group} dominates the result.",
            f"Without {group} {left_out.labels[worst]} the coefficients change{text}.",
            f"Look at {group} {left_out.labels[worst]}: check its rows, and report the result "
            "with and without it.",
            float(left_out.cook[worst]),
            matters=carries,
        )


def _heaviest(left_out: Influence) -> tuple[int, bool]:
    """The level that moves the coefficients most, and whether it moves them far.

    Far is beyond the edge of their 50% region (Cook 1977, Technometrics 19): four times in
    square, or twice if no other level comes near. A level that lies far out widens the
    covariance in which that is measured; in that without it, the distance has the tail of
    a studentised deviate among as many levels.
    """
    from scipy.special import chdtri, stdtrit

    count, p = len(left_out), len(left_out.terms)
    if p == 0:
        return 0, False
    cook = np.nan_to_num(left_out.cook, nan=0.0)
    edge = float(chdtri(p, 0.5)) / p
    worst = int(np.argmax(cook))
    others = float(np.delete(cook, worst).max(initial=0.0))
    if cook[worst] > 4.0 * edge or (cook[worst] > 2.0 * edge and cook[worst] > 3.0 * others):
        return worst, True
    squares = np.nan_to_num(np.mean(left_out.found.dfbetas**2, axis=1), nan=0.0)
    farthest = int(np.argmax(squares))
    tail = float(stdtrit(max(count - 2, 1), RARE / (2.0 * count)))
    if squares[farthest] > max(edge, tail**2 / (count - 1)):
        return farthest, True
    return worst, False


def _named(case: Case, name: str) -> ResidualTest:
    assert case.residuals is not None
    return next(t for t in case.residuals.tests if t.name == name)


CRITERIA: tuple[Callable[[Case], Iterator[Candidate]], ...] = (
    _table,
    _optimum,
    _determined,
    _seen,
    _separation,
    _laplace,
    _singular,
    _dispersion,
    _zeros,
    _uniform,
    _normal,
    _outliers,
    _against_fit,
    _against_predictors,
    _spread,
    _time,
    _effects,
    _within_between,
    _influence,
    _collinear,
    _groups,
)
