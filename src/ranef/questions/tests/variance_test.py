"""`variance_test`: are the variances of the random effects zero?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.effects import Effects, effects_of
from ranef.design.specification import Specification
from ranef.display.answer import Shown
from ranef.display.numbers import number, p_value
from ranef.display.page import Page, Paragraph, TextTable
from ranef.display.progress import Ticker
from ranef.errors import ModelError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, Likelihood, require
from ranef.formula.labels import spelled
from ranef.models.priors import refuse_penalised
from ranef.models.records import Estimate
from ranef.models.refitting import at_criterion
from ranef.questions.tests import removal
from ranef.questions.tests.exact import simulate_ratio, spectrum
from ranef.questions.tests.mixtures import Cone
from ranef.questions.tests.nesting import Nesting, nesting
from ranef.questions.tests.ratio_distributions import (
    bootstrap_ratio,
    naive_tail,
    null_distribution,
    ratio,
    ratios,
)
from ranef.questions.tests.removal import Removal
from ranef.tables import make_table

__all__ = ["VarianceTest", "variance_test"]

METHODS = ("auto", "exact", "mixture", "bootstrap")
DRAWS = 1_000
EXACT_DRAWS = 100_000


@dataclass(frozen=True)
class DroppedTerm:
    """The test of random effects that are taken out.

    Attributes
    ----------
    term : str
        ``"(1 | Batch)"``, ``"Days in (Days | Subject)"``.
    component : str
    n_parameters : int
        Of the model without them.
    loglik : float
        Its (restricted) log-likelihood.
    statistic : float
        Twice the log of the likelihood ratio.
    df : int
        Parameters that go.
    p_value, p_naive : float
        By `method`; by chi-squared with df degrees of freedom.
    method : str
        ``"exact"``, ``"mixture"``, ``"bootstrap"`` or ``""`` where no distribution is known.
    distribution : str
        In words.
    p_zero : float
        Probability that the statistic is zero under the hypothesis.
    assumed : bool
        True where the weights of a mixture take several variances as uncorrelated.
    """

    term: str
    component: str
    n_parameters: int
    loglik: float
    statistic: float
    df: int
    p_value: float
    p_naive: float
    method: str
    distribution: str
    p_zero: float
    assumed: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class VarianceTest(Shown):
    """Tests of the random effects, each taken out in turn; `ranef.variance_test` makes it.

    Attributes
    ----------
    formula : str
    criterion : {"ML", "REML"}
    n_parameters : int
    loglik : float
        Of the whole model.
    tests : tuple of DroppedTerm
    notes : tuple of str
    library : str
    """

    formula: str
    criterion: str
    n_parameters: int
    loglik: float
    tests: tuple[DroppedTerm, ...]
    notes: tuple[str, ...]
    library: str

    def tidy(self) -> Any:
        """Return one row for each effect taken out, in the library the data came in.

        Returns
        -------
        table
            ``term, component, n_parameters, loglik, statistic, df, p_value, p_naive,
            method, distribution, p_zero``, see `DroppedTerm`.
        """
        names = DroppedTerm.__annotations__
        columns = {name: [getattr(t, name) for t in self.tests] for name in names}
        return make_table(columns, self.library)

    @property
    def page(self) -> Page:
        """The answer in words and a table."""
        header = ("without", "parameters", "loglik", "LR", "df", "p", "p naive", "distribution")
        rows = [("nothing", str(self.n_parameters), number(self.loglik, 3), *[""] * 5)]
        several = len({t.component for t in self.tests}) > 1
        for t in self.tests:
            name = f"{t.component}: {t.term}" if several else t.term
            values = (number(t.loglik, 3), number(t.statistic, 4), str(t.df))
            p = (p_value(t.p_value), p_value(t.p_naive))
            rows.append((name, str(t.n_parameters), *values, *p, t.distribution))
        word = "Restricted likelihood" if self.criterion == "REML" else "Likelihood"
        table = TextTable(f"{word} ratios, leaving out each effect in turn", header, tuple(rows))
        notes = (Paragraph(self.notes),) if self.notes else ()
        return Page(f"Tests of the random effects: {self.formula}", (table, *notes))


def variance_test(
    fit: MixedFit,
    group: str | None = None,
    *,
    method: str = "auto",
    whole: bool = False,
    fixed: Sequence[str] = (),
    n: int | None = None,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> VarianceTest:
    """Test whether random effects are there, by taking each out in turn.

    A variance of zero lies on the edge of what a variance may be, so the likelihood
    ratio is not chi-squared: that p-value (`p_naive`, what ``anova`` and ``ranova`` of R
    print) is too large.

    Parameters
    ----------
    fit : LinearMixedModelFit or GeneralizedMixedModelFit
        By REML the restricted likelihood ratio is taken, by ML the likelihood ratio.
    group : str, optional
        Only the effects of this grouping factor.
    method : {"auto", "exact", "mixture", "bootstrap"}
        - ``"exact"``: the distribution in finite samples of the ratio for one variance
          of a linear model, drawn from its spectrum (Crainiceanu & Ruppert 2004); an
          approximation where there are other random effects (Greven et al. 2008).
        - ``"mixture"``: the mixture of chi-squared distributions for many levels (Self &
          Liang 1987, Stram & Lee 1994).
        - ``"bootstrap"``: responses drawn from the model without the effect, and
          fitted with and without it.
        - ``"auto"``: exact where it applies, else the mixture.
    whole : bool
        Take out whole terms, ``(Days | Subject)``, instead of ``Days`` in it.
    fixed : sequence of str
        Fixed-effects terms that are taken out at the same time, tested jointly (linear
        models; by ML, to which a REML fit is changed).
    n : int, optional
        Draws: 100,000 of the exact distribution, 1,000 of the bootstrap.
    rng : int or numpy.random.Generator
        The same gives the same p-values.
    n_jobs : int, optional
        Threads of the bootstrap.
    progress : bool, optional
        Show a progress bar of the bootstrap; None shows one when the work is long.

    Returns
    -------
    VarianceTest
        Prints as text; ``tidy()`` has the numbers.

    Raises
    ------
    ranef.errors.ModelError
        An argument is not valid or does not apply to this fit.

    See Also
    --------
    anova : tests of the fixed effects, and of any two models.

    Examples
    --------
    >>> import ranef
    >>> fit = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff"))
    >>> found = ranef.variance_test(fit)
    >>> found.tidy()[["term", "statistic", "p_naive"]].round(3)
              term  statistic  p_naive
    0  (1 | Batch)      6.369    0.012
    >>> bool(found.tests[0].p_value < 0.005)
    True
    """
    require(fit, "variance_test()", Levelled, Likelihood)
    way = arguments.choice("method", method, METHODS)
    every = arguments.flag("whole", whole)
    usual = DRAWS if way == "bootstrap" else EXACT_DRAWS
    draws = usual if n is None else arguments.count("n", n)
    refuse_penalised(fit.estimate, "variance_test")
    if fit.estimate.sigma is None and way == "exact":
        raise ModelError(
            "method='exact' is for linear models, whose likelihood ratio has a known distribution "
            "in finite samples; use method='mixture' or 'bootstrap'"
        )
    work = _Work(
        way, draws, arguments.generator(rng),
        None if n_jobs is None else arguments.count("n_jobs", n_jobs),
        arguments.optional_flag("progress", progress),
    )  # fmt: skip
    return _test_all(fit, group, every, _names(fixed), work)


@dataclass(frozen=True, eq=False)
class _Work:
    method: str
    draws: int
    rng: np.random.Generator
    n_jobs: int | None
    progress: bool | None


@dataclass(frozen=True, eq=False)
class _Question:
    """One row to be: what goes, and what it is called."""

    label: str
    removal: Removal


def _names(fixed: Any) -> tuple[str, ...]:
    if isinstance(fixed, str):
        return (fixed,)
    if not all(isinstance(name, str) for name in fixed):
        raise ModelError("fixed holds names of fixed-effects terms, such as fixed=['Days']")
    return tuple(fixed)


def _test_all(
    fit: MixedFit, group: str | None, whole: bool, fixed: tuple[str, ...], work: _Work
) -> VarianceTest:
    if group is not None:
        fit.factor_number(group)
    questions = _questions(fit, group, whole)
    estimate, notes = fit.estimate, []
    keep = None
    if fixed:
        if estimate.sigma is None:
            raise ModelError(
                "fixed= is for linear models; compare two fits by ranef.anova(fit1, fit2)"
            )
        keep = _kept_columns(fit, fixed)
        if estimate.reml:
            estimate = at_criterion(estimate, reml=False)
            notes.append("Refitted by ML, since fixed effects are tested as well.")
    tests = [_test(estimate, q, keep, work) for q in questions]
    notes += _notes(tests, estimate)
    if fixed:
        notes.append(f"Each test also leaves out the fixed effects {', '.join(fixed)}.")
    criterion = "REML" if estimate.reml else "ML"
    return VarianceTest(
        fit.formula, criterion, estimate.n_parameters, estimate.loglik,
        tuple(tests), tuple(notes), fit.frame.library,
    )  # fmt: skip


def _questions(fit: MixedFit, group: str | None, whole: bool) -> list[_Question]:
    """What can be taken out of the model: terms, or their columns that no others contain."""
    if fit.frame.data is None:
        fit.frame.rows_used()  # raises: the file does not hold the table
    found = []
    for component, spec in fit.parts.items():
        for t, term in enumerate(spec.terms):
            if group is not None and spec.factors[term.factor].name != group:
                continue
            every = tuple(range(term.size))
            pieces = [] if whole else _pieces(fit, spec, t)
            for name, columns in pieces:
                label = f"{name} in ({term.label})"
                found.append(_Question(label, Removal(component, t, columns)))
            if not pieces:
                found.append(_Question(f"({term.label})", Removal(component, t, every)))
    return found


def _pieces(fit: MixedFit, spec: Specification, t: int) -> list[tuple[str, tuple[int, ...]]]:
    """Parts of a term that can go without the rest of it."""
    term = spec.terms[t]
    if term.size == 1 or term.structure not in ("us", "diag") or term.kernel is not None:
        return []
    parts = spec.recipe.random_parts(fit.frame.data, t, fit.frame.accounting.kept)
    found = []
    for part in parts:
        inside = any(part.variables < other.variables for other in parts)
        if not inside and part.columns and len(part.columns) < term.size:
            found.append((part.name, part.columns))
    return found


def _kept_columns(fit: MixedFit, fixed: tuple[str, ...]) -> NDArray[np.intp]:
    """Columns of X that stay when fixed-effects terms go."""
    spec = fit.estimate.specification
    effects: Effects = effects_of(spec.recipe, fit.frame.data, fit.frame.accounting.kept)
    names = [effect.name for effect in effects.effects]
    fixed = tuple(spelled(name, names) for name in fixed)
    for name in fixed:
        if name not in names:
            known = ", ".join(map(repr, names))
            raise ModelError(
                f"the model has no fixed-effects term {name!r}{suggestion(name, names)}; "
                f"it has {known}"
            )
    gone = np.isin(effects.assigned, [names.index(name) for name in fixed])
    return np.flatnonzero(~gone)


def _test(
    estimate: Estimate, question: _Question, keep: NDArray[np.intp] | None, work: _Work
) -> DroppedTerm:
    small = removal.without(estimate, question.removal, keep)
    statistic = ratio(small.loglik, estimate.loglik)
    df = estimate.n_parameters - small.n_parameters
    fixed = 0 if keep is None else estimate.specification.p - len(keep)
    cone = removal.cone_of(estimate, question.removal, fixed)
    tail = None
    if work.method == "bootstrap":
        tail = _bootstrapped(small, estimate, statistic, df, work)
    if tail is None and work.method in ("auto", "exact"):
        tail = _exact(estimate, question, statistic, fixed, work)
    if tail is None:
        tail = _mixture(small, estimate, cone, statistic)
    return DroppedTerm(
        term=question.label,
        component=question.removal.component,
        n_parameters=small.n_parameters,
        loglik=small.loglik,
        statistic=statistic,
        df=df,
        p_naive=naive_tail(statistic, df),
        **vars(tail),
    )


@dataclass(frozen=True)
class _Tail:
    """A distribution at the statistic, see `DroppedTerm`."""

    p_value: float = math.nan
    method: str = ""
    distribution: str = "not known"
    p_zero: float = math.nan
    assumed: bool = False


def _exact(
    estimate: Estimate, question: _Question, statistic: float, fixed: int, work: _Work
) -> _Tail | None:
    alone = removal.single_variance(estimate, question.removal)
    if alone is None:
        if work.method == "exact":
            raise ModelError(
                f"{question.label}: the exact distribution is known for one variance of its own; "
                "here a covariance or several variances go; use method='mixture' or 'bootstrap'"
            )
        return None
    try:
        eigenvalues = spectrum(alone, 0)
    except ModelError:
        if work.method == "exact":
            raise
        return None
    drawn = simulate_ratio(eigenvalues, work.draws, work.rng, reml=estimate.reml, fixed=fixed)
    words = f"exact, {work.draws:,} draws"
    return _Tail(drawn.tail(statistic), "exact", words, drawn.mass_at_zero)


def _mixture(small: Estimate, estimate: Estimate, cone: Cone | None, statistic: float) -> _Tail:
    if cone is None:
        return _Tail()
    known = Nesting(cone, added=nesting(small, estimate).added)
    law = null_distribution(small, estimate, known)
    assert law is not None
    zero = float(law.weights[law.degrees == 0].sum())
    return _Tail(law.tail(statistic), "mixture", str(law), zero, law.assumed)


def _bootstrapped(
    small: Estimate, estimate: Estimate, statistic: float, df: int, work: _Work
) -> _Tail:
    Y = removal.draw(small, work.draws, work.rng)
    with Ticker(2 * work.draws, "bootstrap", work.progress) as advance:
        draws = ratios(small, estimate, Y, n_jobs=work.n_jobs, advance=advance)
    drawn = bootstrap_ratio(statistic, df, draws)
    lost = f", {drawn.failed} failed" if drawn.failed else ""
    words = f"bootstrap, {len(drawn.draws):,} draws{lost}"
    return _Tail(drawn.p_value, "bootstrap", words, float(np.mean(drawn.draws <= 0)))


def _notes(tests: Sequence[DroppedTerm], estimate: Estimate) -> list[str]:
    notes = [
        "p naive, by chi-squared with df degrees of freedom, is too large for tests of variances."
    ]
    for t in tests:
        if t.statistic == 0 and t.df > 0:
            notes.append(
                f"{t.term}: the estimate is zero, and so is the statistic. Without such an effect "
                f"it is zero with probability {t.p_zero:.3f}. It cannot be smaller, so p is 1 "
                f"(R's exactRLRT shows P(LR > 0) = {1 - t.p_zero:.3f})."
            )
    unknown = [t.term for t in tests if not t.method]
    if unknown:
        notes.append(
            f"{', '.join(unknown)}: correlations or ranges are not defined where the variance is "
            "zero, so no distribution is known; method='bootstrap' simulates it."
        )
    exact = any(t.method == "exact" for t in tests)
    if exact and len(estimate.specification.terms) > 1:
        notes.append(
            "The exact distributions are those of a model with one random effect; with several "
            "they are approximations (Greven et al. 2008)."
        )
    assumed = [t.term for t in tests if t.assumed]
    if assumed:
        notes.append(
            f"{', '.join(assumed)}: the weights of the mixture take the variances under test as "
            "uncorrelated, since the information about them is not known here; "
            "method='bootstrap' does not."
        )
    if any(t.method == "mixture" for t in tests):
        notes.append(
            "The chi-squared mixtures are large-sample approximations: they need many levels."
        )
    return notes
