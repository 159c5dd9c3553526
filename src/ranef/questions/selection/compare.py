"""`compare`: fits of the same rows compared by what they are for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from ranef import arguments
from ranef.display.progress import arriving
from ranef.errors import ModelError
from ranef.fits.columns import groups_of
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import require
from ranef.fits.same_rows import refitted_words, same_fixed_effects
from ranef.fits.several import gathered
from ranef.inference.nested import removal
from ranef.inference.nested.nesting import nesting, same_values
from ranef.inference.nested.ratio_distributions import (
    bootstrap_ratio,
    exact_distribution,
    likelihood_ratio,
    ratios,
)
from ranef.models.records import Estimate, LinearEstimate
from ranef.models.refitting import at_criterion
from ranef.questions.selection.alike import (
    FOCUSES,
    check_likelihoods,
    check_rows,
    log_jacobian,
    of_one_kind,
)
from ranef.questions.selection.comparison import (
    Compared,
    FocusedComparison,
    LeftOutScores,
    Quasi,
    RatioTest,
)
from ranef.questions.selection.conditional import ConditionalFit
from ranef.questions.selection.criteria import (
    Marginal,
    conditional_fit,
    group_count,
    marginal_fit,
)
from ranef.questions.selection.cross_validate import read_scores, scored_folds
from ranef.questions.selection.folding import Folding, folded, whole_group
from ranef.questions.selection.held_out import closed_form
from ranef.questions.selection.left_out import optimism
from ranef.questions.selection.penalty import Draws
from ranef.questions.selection.scores import check_scores
from ranef.solve.resources import available_cores
from ranef.tables import Table

__all__ = ["compare", "criterion_of"]

CRITERIA = {
    "population": ("aic", "aicc", "bic", "bic_groups", "bic_hybrid", "cv", "loo"),
    "individual": ("caic", "cv", "loo"),
}
OF_EQUATIONS = ("qicu", "cic")
LEFT_OUT = ("cv", "loo")
QUICK = 20_000
"""Rows up to which the optimism of closed forms is worked out."""
FEW = 4
"""Models up to which all nested pairs are tested."""


def compare(
    fits: Any,
    *others: Any,
    focus: str | None = None,
    criterion: str | None = None,
    refit: bool = True,
    jacobian: bool = False,
    folds: int | None = None,
    group: Any = None,
    bootstrap: int | None = None,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> FocusedComparison:
    """Compare fits by what they are for: new groups, or the groups at hand.

    A model that predicts these wards is not chosen by the rule that chooses one for new wards.

    Parameters
    ----------
    fits : fit, list of fits, or dict of fits by name
    *others : fits
        Of the same rows and response.
    focus : {"population", "individual"}
        - population: groups that were not seen, and coefficients. The likelihood with the
          random effects integrated out, by maximum likelihood: AIC; of fits of `gee` QICu or CIC.
        - individual: the groups that were seen, whose random effects count as parameters, shrunk.
          Conditional AIC with degrees of freedom corrected for estimated variance parameters.
    criterion : str, optional
        Of the population ``"aic"`` (the default), ``"aicc"``, ``"bic"`` (n the rows),
        ``"bic_groups"`` (n the groups), ``"bic_hybrid"`` (each where it counts) or ``"cv"``,
        cross-validation by new groups; of individuals ``"caic"`` (the default) or ``"cv"``, by
        rows. ``"loo"`` leaves out each group or each row in closed form, without refits. Both are
        sums over units, so that their differences have standard errors.
        Of fits of `gee` ``"qicu"`` chooses the mean, ``"cic"`` the working correlation.
    refit : bool
        Fits by REML are fitted again by ML where their restricted likelihoods are of different
        data, and the answer says so. False refuses those instead, and compares fits of the same
        fixed effects by REML.
    jacobian : bool
        Compare fits of ``y`` and of transformations of it on the scale of y.
    folds : int, optional
        Of cross-validation, 10 by default.
    group : str or array, optional
        Of ``"cv"`` and ``"loo"`` by new groups, as in `cross_validate`.
    bootstrap : int, optional
        Draws from the smaller of two nested models by which its likelihood ratio is judged,
        beside its asymptotic distribution.
    rng : int or numpy.random.Generator
        Of folds, draws, and of the rows by which the correction of a large generalised model is
        made.
    n_jobs : int, optional
        Threads; None for all this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    FocusedComparison
        `tidy` is the one table, ``tidy("tests")`` likelihood-ratio tests of nested models with
        the distribution that holds where a variance is zero: of one variance of a linear model
        the exact one in finite samples, else a mixture of chi-squared ones;
        `predict` averages over the
        models, `plot` draws them.

    Raises
    ------
    ranef.errors.ModelError
        No focus is given; the criteria of these fits cannot be compared.
    ranef.errors.DataError
        The fits are of other rows or responses.

    See Also
    --------
    anova : likelihood-ratio tests.
    cross_validate : one model, other scores.

    Examples
    --------
    >>> import ranef
    >>> growth = ranef.data.load("Orthodont")
    >>> fits = {
    ...     "intercepts": ranef.lmm("distance ~ age * Sex + (1 | Subject)", growth),
    ...     "slopes": ranef.lmm("distance ~ age * Sex + (age | Subject)", growth),
    ... }
    >>> ranef.compare(fits, focus="population").tidy()[["model", "df", "aic"]].round(2)
            model  df     aic
    0  intercepts   6  440.64
    1      slopes   8  443.81
    >>> ranef.compare(fits, focus="individual").tidy()[["model", "df", "caic"]].round(2)
            model     df    caic
    0  intercepts  27.08  405.39
    1      slopes  36.36  404.72
    """
    given, names = gathered(fits, others, "compare()")
    for name, fit in zip(names, given, strict=True):
        require(fit, f"compare(), {name},")
    if focus is None:
        raise ModelError(
            "say what the model is for. focus='population': it is to hold for groups that were not "
            "seen (new wards), or its coefficients are the answer. focus='individual': it is to "
            "predict the groups at hand (these wards). The answers differ, and both are right"
        )
    focus = arguments.choice("focus", focus, FOCUSES)
    if not of_one_kind(given, names, focus):
        return _equations(given, names, criterion)
    criterion = criterion_of(focus, criterion, CRITERIA[focus])
    if criterion != "cv" and folds is not None:
        raise ModelError("folds belong to criterion='cv'")
    folds = None if folds is None else arguments.count("folds", folds)
    if criterion not in LEFT_OUT and group is not None:
        raise ModelError("group belongs to criterion='cv' and 'loo'")
    if focus == "individual" and group is not None:
        raise ModelError("group belongs to focus='population'; individuals are left out by rows")
    scaled = arguments.flag("jacobian", jacobian)
    again = arguments.flag("refit", refit)
    fits_ = check_rows(given, names, jacobian=scaled)
    check_likelihoods(fits_, names)
    notes: list[str] = []
    marginal, conditional = _estimates(fits_, names, focus, again, notes)
    shifts = [log_jacobian(fit) if scaled else 0.0 for fit in fits_]
    if scaled:
        notes.append("Likelihoods are those of the response itself, by the jacobian.")
    draws = arguments.later_generator(rng)
    jobs = None if n_jobs is None else arguments.count("n_jobs", n_jobs)
    bar = arguments.optional_flag("progress", progress)
    _check_groups(criterion, fits_)
    folding, scored = None, None
    if criterion in LEFT_OUT and scaled:
        raise ModelError(f"jacobian belongs to criteria of the likelihood, not to {criterion!r}")
    if criterion == "loo":
        scored = _left_out(fits_, focus, group)
    if criterion == "cv":
        by = "group" if focus == "population" else "row"
        folding = folded(fits_[0], by, folds=folds, group=group, time=None, rng=draws())
        scored = _cross_validated(fits_, folding, jobs, bar)
    tests: tuple[RatioTest, ...] = ()
    if focus == "population" and criterion not in LEFT_OUT and not scaled:
        drawn = None if bootstrap is None else arguments.count("bootstrap", bootstrap)
        tests = _tests([m.estimate for m in marginal if m is not None], names, drawn, draws, jobs)
    elif bootstrap is not None:
        raise ModelError("bootstrap judges likelihood ratios of nested models: focus='population'")
    refits = None if criterion == "caic" else False
    models = tuple(
        Compared(
            name,
            fit,
            None if m is None else partial(_marginal, m, shift),
            partial(_conditional, c, shift, refits, draws, jobs, bar),
            None if scored is None else scored[i],
        )
        for i, (name, fit, m, c, shift) in enumerate(
            zip(names, fits_, marginal, conditional, shifts, strict=True)
        )
    )
    reml = not again and fits_[0].estimate.reml
    found = FocusedComparison(
        focus, criterion, models, tests, tuple(notes), given[0].frame.library, reml
    )
    _ = found.values  # what was asked is found now, what stands beside it when it is looked at
    return found


def _marginal(of: _Later, shift: float) -> Marginal:
    return marginal_fit(of.estimate, shift)


def _conditional(
    of: _Later,
    shift: float,
    refits: bool | None,
    draws: Draws,
    n_jobs: int | None,
    progress: bool | None,
) -> ConditionalFit | None:
    """The conditional likelihood; without refits None where it has no closed form."""
    estimate = of.estimate

    def track(answers: Iterable[Any]) -> Iterable[Any]:
        return arriving(answers, estimate.specification.n, "correcting", progress, unit=" rows")

    try:
        return conditional_fit(
            estimate, shift=shift, refits=refits, draws=draws, n_jobs=n_jobs, track=track
        )
    except ModelError:
        if refits is None:
            raise
        return None


def criterion_of(focus: str, criterion: str | None, known: Sequence[str]) -> str:
    """Read a criterion, the first one known where none is given; say whose another one is."""
    other = next((name for name in CRITERIA if name != focus and criterion in CRITERIA[name]), None)
    if other is not None and criterion not in CRITERIA[focus]:
        raise ModelError(
            f"criterion={criterion!r} belongs to focus={other!r}; of focus={focus!r} there are "
            f"{', '.join(map(repr, known))}"
        )
    return arguments.choice("criterion", criterion or known[0], known)


@dataclass(frozen=True, eq=False)
class _Later:
    """An estimate as it was given, or by the other criterion once that is asked for."""

    given: Estimate
    reml: bool

    @cached_property
    def estimate(self) -> Estimate:
        return at_criterion(self.given, self.reml)


def _estimates(
    fits: Sequence[MixedFit], names: Sequence[str], focus: str, refit: bool, notes: list[str]
) -> tuple[Sequence[_Later | None], list[_Later]]:
    """Estimates for the marginal and the conditional likelihood; say what was fitted again."""
    estimates = [fit.estimate for fit in fits]
    own = [_Later(e, e.reml) for e in estimates]
    some = [name for name, e in zip(names, estimates, strict=True) if e.reml]
    if not some:
        return own, own
    mixed = len(some) < len(estimates)
    if not refit:
        if mixed:
            raise ModelError(
                f"some fits are by REML ({', '.join(some)}) and others by ML; refit=True fits all "
                "by ML, or fit all by REML"
            )
        if same_fixed_effects(estimates):
            return own, own
        why = "so their restricted likelihoods are of different data"
        if focus == "population":
            raise ModelError(
                f"the fits have different fixed effects or responses, {why}; refit=True compares "
                "them by ML"
            )
        notes.append(
            "The criterion for the other focus is left out: the fits have different fixed effects "
            f"or responses, {why}."
        )
        return [None] * len(own), own
    by_ml = [_Later(e, False) for e in estimates]
    if focus == "individual" and not mixed:
        notes.append(
            "Conditional likelihoods are those of the response itself, at the estimates by REML; "
            "the criterion for the other focus is by ML."
        )
        return by_ml, own
    notes.append(refitted_words(names, estimates))
    # the conditional likelihood is one of the response itself, by REML too
    return by_ml, by_ml if mixed else own


def _check_groups(criterion: str, fits: Sequence[MixedFit]) -> None:
    """BIC by groups means one grouping factor, the same in all fits."""
    if criterion not in ("bic_groups", "bic_hybrid"):
        return
    levels = [group_count(fit.estimate) for fit in fits]
    if None in levels or len(set(levels)) > 1:
        factors = sorted({factor.name for fit in fits for factor in fit.factors})
        raise ModelError(
            f"{criterion} counts the levels of one grouping factor, and these fits have "
            f"{', '.join(factors) or 'none'}: which number is meant is not clear. Use 'bic', whose "
            "n is the rows"
        )


def _left_out(fits: Sequence[MixedFit], focus: str, group: Any) -> list[Any]:
    """Each group, or each row, left out of each fit in closed form."""
    sets, by = np.arange(fits[0].n_obs), "row"
    if focus == "population":
        named = whole_group(fits[0], "criterion='loo'") if group is None else group
        codes, levels, by = groups_of(fits[0], named)
        sets = codes.astype(np.intp)
        if len(levels) < 2:
            raise ModelError(f"there is one level of {by} only, and without it there are no rows")
    found = []
    for fit in fits:
        check_scores(fit.family, ("log",))
        scored = closed_form(fit.estimate, sets, ())
        flattered = np.nan
        if isinstance(fit.estimate, LinearEstimate) and fit.n_obs <= QUICK:
            assert scored.left is not None
            flattered = optimism(fit.estimate, sets, scored.left)
        found.append(LeftOutScores(scored, by, flattered))
    return found


def _cross_validated(
    fits: Sequence[MixedFit], folding: Folding, n_jobs: int | None, progress: bool | None
) -> list[Any]:
    for fit in fits:
        read_scores(fit, "log")
    found = [scored_folds(fit, folding, ("log",), n_jobs=n_jobs, progress=progress) for fit in fits]
    failed = [one.failed for one in found]
    if any(failed):
        raise ModelError(
            f"{max(failed)} folds of one model could not be fitted, so that the models would be "
            "compared by different rows; use fewer folds, or leave the model out"
        )
    return found


def _tests(
    estimates: Sequence[Estimate],
    names: Sequence[str],
    count: int | None,
    draws: Draws,
    n_jobs: int | None,
) -> tuple[RatioTest, ...]:
    """Each model against those nested in it: of many models the next smaller one alone."""
    order = sorted(range(len(estimates)), key=lambda i: estimates[i].n_parameters)
    few = len(order) <= FEW
    pairs = [(a, b) for j, b in enumerate(order) for a in order[:j]] if few else pairwise(order)
    out = []
    for a, b in pairs:
        small, large = estimates[a], estimates[b]
        gap = nesting(small, large)
        if gap.cone is None and not gap.edge:
            continue
        test = likelihood_ratio(small, large, gap)
        drawn = None
        if count is not None and test.df > 0:
            Y = removal.draw(small, count, draws())
            jobs = available_cores(n_jobs)
            drawn = bootstrap_ratio(test.statistic, test.df, ratios(small, large, Y, n_jobs=jobs))
        beside = len(large.terms) > 1 or sum(term.size for term in large.terms) > 1
        out.append(
            RatioTest(names[b], names[a], test, drawn, exact_distribution(large, gap), beside)
        )
    return tuple(out)


def _quasi(fit: Any, scale: float | None) -> Quasi:
    """Criteria of estimating equations at a scale."""
    table = Table.of(fit.criteria(scale=scale))
    return Quasi(*(float(table.numeric(name)[0]) for name in ("qicu", "cic", "scale")))


def _equations(
    fits: Sequence[Any], names: Sequence[str], criterion: str | None
) -> FocusedComparison:
    """Fits of estimating equations: QICu and CIC at the scale of the largest mean."""
    fits = check_rows(fits, names, jacobian=False)
    for name, fit in zip(names, fits, strict=True):
        if fit.family != fits[0].family:
            raise ModelError(
                f"{names[0]} and {name} have different families, whose quasi-likelihoods have "
                "different constants: QIC does not compare them"
            )
    base = fits[0].parts["conditional"].X
    one_mean = all(same_values(fit.parts["conditional"].X, base) for fit in fits)
    if any(criterion in known for known in CRITERIA.values()):
        raise ModelError(
            f"criterion={criterion!r} is one of likelihoods or of rows left out, and estimating "
            "equations have neither: use 'qicu' for the mean, 'cic' for the working correlation"
        )
    criterion = arguments.choice(
        "criterion", criterion or ("cic" if one_mean else "qicu"), OF_EQUATIONS
    )
    if criterion == "cic" and not one_mean:
        raise ModelError(
            "CIC chooses the working correlation of one mean, and these fits have different "
            "means; use criterion='qicu'"
        )
    largest = max(fits, key=lambda fit: len(fit.coefficients))
    scale = _quasi(largest, None).scale
    found = [_quasi(fit, scale) for fit in fits]
    models = tuple(
        Compared(name, fit, quasi=one) for name, fit, one in zip(names, fits, found, strict=True)
    )
    notes = (
        f"All at the scale of the largest mean, {scale:.6g}. Estimating equations have no "
        "likelihood: QICu chooses the mean, CIC the working correlation.",
    )
    return FocusedComparison("population", criterion, models, (), notes, fits[0].frame.library)
