"""`variance_test`: are the variances of the random effects zero?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranef import arguments
from ranef.design.effects import Effects, effects_of
from ranef.design.specification import Specification
from ranef.display.answer import Answer, Part
from ranef.display.columns import Column, Fixed, Listing, PValue, unprinted
from ranef.display.page import Paragraph
from ranef.display.progress import Ticker
from ranef.errors import ModelError, suggestion
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Levelled, Likelihood, require
from ranef.formula.labels import spelled
from ranef.inference.nested.exact import simulate_ratio, spectrum
from ranef.inference.nested.mixtures import Cone
from ranef.inference.nested.nesting import Nesting, nesting
from ranef.inference.nested.ratio_distributions import (
    bootstrap_ratio,
    naive_tail,
    null_distribution,
    ratio,
    ratios,
)
from ranef.inference.nested.removal import Removal, cone_of, draw, single_variance, without
from ranef.models.priors import refuse_penalised
from ranef.models.records import Estimate
from ranef.models.refitting import at_criterion

__all__ = ["VarianceTest", "variance_test"]

METHODS = ("auto", "exact", "mixture", "bootstrap")
DRAWS = 1_000
EXACT_DRAWS = 100_000
UNDETERMINED = "none"


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
        ``"exact"``, ``"mixture"``, ``"bootstrap"``; ``""`` where no distribution is known,
        ``"none"`` where the data do not determine the variance.
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
class VarianceTest(Answer):
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
        return super().tidy()

    @property
    def title(self) -> str:
        return f"Tests of the random effects: {self.formula}"

    def tables(self) -> tuple[Listing, ...]:
        tests = self.tests
        several = len({t.component for t in tests}) > 1
        labels = [f"{t.component}: {t.term}" if several else t.term for t in tests]
        word = "Restricted likelihood" if self.criterion == "REML" else "Likelihood"
        columns = (
            Column("without", labels, tabled=False),
            *unprinted(term=[t.term for t in tests], component=[t.component for t in tests]),
            Column("n_parameters", [t.n_parameters for t in tests], Fixed(0), "parameters"),
            Column("loglik", [t.loglik for t in tests], Fixed(3)),
            Column("statistic", [t.statistic for t in tests], Fixed(4), "LR"),
            Column("df", [t.df for t in tests], Fixed(0)),
            Column("p_value", [t.p_value for t in tests], PValue(), "p"),
            Column("p_naive", [t.p_naive for t in tests], PValue(), "p naive"),
            *unprinted(method=[t.method for t in tests]),
            Column("distribution", [t.distribution for t in tests]),
            *unprinted(p_zero=[t.p_zero for t in tests], assumed=[t.assumed for t in tests]),
        )
        caption = f"{word} ratios, leaving out each effect in turn"
        return (Listing("variances", columns, caption),)

    def sentences(self) -> tuple[str, ...]:
        return self.notes

    def body(self) -> Iterable[Part]:
        """The table, led by the whole model, and the sentences."""
        whole = {"without": "nothing", "n_parameters": self.n_parameters, "loglik": self.loglik}
        tests = self.listing()
        columns = (replace(c, values=[whole.get(c.name), *c.values]) for c in tests.columns)
        return replace(tests, columns=tuple(columns)), Paragraph(self.sentences())


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


def _names(fixed: Any) -> tuple[str, ...]:
    if isinstance(fixed, str):
        return (fixed,)
    if not isinstance(fixed, Sequence) or not all(isinstance(name, str) for name in fixed):
        raise ModelError("fixed holds names of fixed-effects terms, such as fixed=['Days']")
    return tuple(fixed)


def _test_all(
    fit: MixedFit, group: str | None, whole: bool, fixed: tuple[str, ...], work: _Work
) -> VarianceTest:
    if group is not None:
        fit.factor_number(group)
    removals = _removals(fit, group, whole)
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
    tests = [_test(estimate, one, keep, work) for one in removals]
    notes += _notes(tests, estimate)
    if fixed:
        notes.append(f"Each test also leaves out the fixed effects {', '.join(fixed)}.")
    criterion = "REML" if estimate.reml else "ML"
    return VarianceTest(
        fit.formula, criterion, estimate.n_parameters, estimate.loglik,
        tuple(tests), tuple(notes), fit.frame.library,
    )  # fmt: skip


def _removals(fit: MixedFit, group: str | None, whole: bool) -> list[Removal]:
    """What can be taken out of the model: terms, or their columns that no others contain."""
    assert fit.frame.columns is not None  # refused where a file has not kept the table
    removals = []
    for component, spec in fit.parts.items():
        for t, term in enumerate(spec.terms):
            if group is not None and spec.factors[term.factor].name != group:
                continue
            every = term.columns_of(component)
            pieces = [] if whole else _pieces(fit, spec, t, every)
            for name, columns in pieces:
                label = f"{name} in ({term.label})"
                removals.append(Removal(component, t, columns, label))
            if not pieces:
                within = f" in the {component} part" if term.parts else ""
                removals.append(Removal(component, t, every, f"({term.label}){within}"))
    return removals


def _pieces(
    fit: MixedFit, spec: Specification, t: int, own: tuple[int, ...]
) -> list[tuple[str, tuple[int, ...]]]:
    """Parts of a term that can go without the rest of it; `own` are its columns in this part."""
    term = spec.terms[t]
    if len(own) == 1 or term.structure not in ("us", "diag") or term.kernel is not None:
        return []
    parts = spec.recipe.random_parts(fit.frame.data, t, fit.frame.accounting.kept)
    return [
        (part.name, tuple(own[j] for j in part.columns))
        for part in parts
        if part.columns
        and len(part.columns) < len(own)
        and not any(part.variables < other.variables for other in parts)
    ]


def _kept_columns(fit: MixedFit, fixed: tuple[str, ...]) -> NDArray[np.intp]:
    """Columns of X that stay when fixed-effects terms go."""
    spec = fit.estimate.specification
    effects: Effects = effects_of(spec.recipe, fit.frame.data, fit.frame.accounting.kept)
    names = [effect.name for effect in effects.effects]
    fixed = tuple(spelled(name, names) for name in fixed)
    for name in fixed:
        if name not in names:
            raise ModelError(
                f"the model has no fixed-effects term {name!r}{suggestion(name, names)}; "
                f"it has {', '.join(map(repr, names))}"
            )
    gone = np.isin(effects.assigned, [names.index(name) for name in fixed])
    return np.flatnonzero(~gone)


def _test(
    estimate: Estimate, removal: Removal, keep: NDArray[np.intp] | None, work: _Work
) -> DroppedTerm:
    small = without(estimate, removal, keep)
    statistic = ratio(small.loglik, estimate.loglik)
    df = estimate.n_parameters - small.n_parameters
    fixed = 0 if keep is None else estimate.specification.p - len(keep)
    cone = cone_of(estimate, removal, fixed)
    tail = None
    if statistic < 1e-6 and _is_flat(estimate, removal):
        tail = _Tail(method=UNDETERMINED, distribution="not determined")
    elif work.method == "bootstrap":
        tail = _bootstrapped(small, estimate, statistic, df, work)
    if tail is None and work.method in ("auto", "exact"):
        tail = _exact(estimate, removal, statistic, fixed, work)
    if tail is None:
        tail = _mixture(small, estimate, cone, statistic)
    return DroppedTerm(
        term=removal.label,
        component=removal.component,
        n_parameters=small.n_parameters,
        loglik=small.loglik,
        statistic=statistic,
        df=df,
        p_naive=math.nan if tail.method == UNDETERMINED else naive_tail(statistic, df),
        **vars(tail),
    )


def _is_flat(estimate: Estimate, removal: Removal) -> bool:
    """Tell whether the data do not determine a variance of the term."""
    own = next(c for c in estimate.components if c.name == removal.component)
    term = own.terms[removal.term]
    return any(term in direction.terms for direction in estimate.optimum.flat)


@dataclass(frozen=True)
class _Tail:
    """A distribution at the statistic, see `DroppedTerm`."""

    p_value: float = math.nan
    method: str = ""
    distribution: str = "not known"
    p_zero: float = math.nan
    assumed: bool = False


def _exact(
    estimate: Estimate, removal: Removal, statistic: float, fixed: int, work: _Work
) -> _Tail | None:
    alone = single_variance(estimate, removal)
    if alone is None:
        if work.method == "exact":
            raise ModelError(
                f"{removal.label}: the exact distribution is known for one variance of its own; "
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
    gap = Nesting(cone, added=nesting(small, estimate).added)
    law = null_distribution(small, estimate, gap)
    assert law is not None
    zero = float(law.weights[law.degrees == 0].sum())
    return _Tail(law.tail(statistic), "mixture", str(law), zero, law.assumed)


def _bootstrapped(
    small: Estimate, estimate: Estimate, statistic: float, df: int, work: _Work
) -> _Tail:
    Y = draw(small, work.draws, work.rng)
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
        if t.method == UNDETERMINED:
            notes.append(
                f"{t.term}: the data do not determine its variance, and the model without it has "
                "the same likelihood: there is nothing to test. "
                f"{'; '.join(d.description for d in estimate.optimum.flat).capitalize()}."
            )
        elif t.statistic == 0 and t.df > 0:
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
