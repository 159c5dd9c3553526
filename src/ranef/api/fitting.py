"""`lmm` and `glmm` fit mixed models; `plan` says what that would cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ranef.api import sequence
from ranef.api.fits import GeneralizedMixedModelFit, LinearMixedModelFit
from ranef.api.own_places import by_own_places
from ranef.api.sampling import Sampling, read_sampling
from ranef.description.convergence import warn_unless_proved
from ranef.description.doubts import warn_about
from ranef.design.call import ModelArguments, read_family
from ranef.design.generalised import generalised_specification_of
from ranef.design.kernels import check_used
from ranef.design.specification import Specification
from ranef.design.specify import specification_of
from ranef.display.progress import SearchBar
from ranef.errors import ModelError
from ranef.families import Family
from ranef.models import generalised, linear
from ranef.models.records import CONDITIONAL, Estimate, LinearEstimate
from ranef.priors import Prior
from ranef.solve import forecast
from ranef.solve.forecast import Plan
from ranef.tables.origin import Origin

__all__ = ["glmm", "lmm", "plan"]


def lmm(
    formula: str,
    data: Any,
    *,
    residual: str | Sequence[str] | None = None,
    dispersion: str = "~1",
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    undetermined: str = "raise",
    random: str = "formula",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    priors: Mapping[str, Prior] | None = None,
    fixed: Mapping[str, float] | None = None,
    equal: Sequence[Collection[str]] | None = None,
    path: str | None = None,
    start: Any = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
    rng: Any = None,
) -> LinearMixedModelFit | GeneralizedMixedModelFit:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        As in lme4: ``"y ~ x + (x | g)"``. It is data, never run as code.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays.
    residual : str, optional
        Structure of the residuals of rows of one group: ``"ar1(day | person)"``,
        ``"us(visit | id)"``, ``"ou(hours | person)"``, products such as
        ``"us(partner | couple) * ar1(day | couple)"``. One of ``us cs homcs ar1 hetar1
        arma(t | g, p=1, q=1) toep homtoep ante homante car1 ou exp gau mat``, of which those
        over time or space take ``nugget=True``; with ``by=arm`` each arm has parameters of
        its own, and without a bar all rows are one group. Rows stand where their values say,
        in any order; see :doc:`the page on residuals <residuals>`. Such a model needs no
        random term. A list states a sequence: the first structure is taken whose likelihood has
        a maximum that is proved and that the data determine; the summary and
        ``fit.residual_structures()`` say which, and why not those before.
    dispersion : str
        Formula of the logarithm of the residual standard deviation: ``"~ arm"`` has one for
        each arm, ``"~ power(x)"`` makes it proportional to a power of x, ``"~ exponential(x)"``
        exponential in x.
    reml : bool
        Maximise the restricted likelihood (True) or the likelihood.
    weights : str or (n,) array, optional
        Precision weights, Var(e_i) = sigma^2 / w_i: a column or one value a
        row (a pandas Series by its row labels, anything else by position). They are
        not counts of equal rows, and rescaling all of them rescales sigma^2 and
        changes nothing else.
    offset : str or (n,) array, optional
        Added to the linear predictor with coefficient 1.
    contrasts : dict, optional
        Column -> coding of its categories, such as ``{"period": "contr.sum"}``;
        treatment coding otherwise, of ordered categories too.
    missing : {"drop", "raise"}
        What to do with rows that lack a value: leave them out and report them
        by column, or refuse.
    undetermined : {"raise", "keep"}
        What to do with a random term whose variances the data cannot tell from each other
        or from the residual, by the rank of what they do to Cov(y) (lme4 counts effects
        and rows, and ``check.nobs.vs.nRE`` of its control switches that off): refuse it,
        or fit it all the same. Then the fit says what is not determined, which is NaN
        there and in all answers that rest on it.
    random : {"formula", "none"}
        ``"none"`` fits a formula without random terms, which is otherwise refused: least
        squares by REML or ML, whose log-likelihood stands beside that of a mixed model.
    kernels : dict, optional
        Name -> labelled matrix for ``kernel(1 | id, K)`` or ``kernel(1 | id, inverse=K)``: a
        table, a pair ``(matrix, labels)``, dense or sparse, or a `ranef.pedigree`.
    functions : dict, optional
        Name -> function of an array that the formula may use.
    priors : dict, optional
        Maximise the (restricted) likelihood times the densities of `ranef.priors`,
        keys as in `glmm`: where two laboratories or three machines are all there
        is, ``{"sd": ranef.priors.Gamma(2, 0.1)}`` keeps a variance from zero. The
        engine of `glmm` fits such a model, exactly, and the answer is a fit of its
        kind: normal tests, sigma among its components. `weights` must then be a column.
    fixed, equal : optional
        Parameters that are held at a value or have one value in common, as in
        `glmm`, whose engine fits such a model too; standard deviations are absolute,
        and ``{"dispersion: (Intercept)": math.log(2.0)}`` holds sigma at 2.
    path : {"single", "nested", "crossed", "sparse", "iterative"}, optional
        Force a way of solving; by default the one of least predicted cost of the first four.
        ``"iterative"`` is for crossed factors of tens of thousands of levels each, beyond any
        factorisation: random terms of one column each, by conjugate gradients and random
        probes, whose Monte Carlo error the fit states; never chosen by itself.
    start : array, optional
        Relative covariance parameters to start from, see `Optimum.theta`.
    n_jobs : int, optional
        Threads; None for all that this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.
    rng : int or numpy.random.Generator, optional
        Draws the probes of the iterative path; the same probes by default. Nothing else is
        random.

    Returns
    -------
    LinearMixedModelFit
        With `priors`, `fixed` or `equal` a GeneralizedMixedModelFit of the Gaussian
        family.

    Raises
    ------
    ranef.errors.FormulaError
        The formula cannot be read or names an unknown column.
    ranef.errors.DataError
        The table holds what the model cannot use.
    ranef.errors.ModelError
        The model cannot be fitted, or an argument is not valid.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The search ended without a proof that it stands at the optimum.

    See Also
    --------
    plan : the cost of a fit before it runs.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> fit = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    >>> round(fit.loglik, 3)
    -871.814
    >>> held = ranef.lmm("Yield ~ 1 + (1 | Batch)", ranef.data.load("Dyestuff2"),
    ...                  priors={"sd": ranef.priors.Gamma(2, 0.1)})
    >>> held.optimum.singular
    False
    """

    def arguments(structure: str | None) -> ModelArguments:
        return ModelArguments(
            formula, data, residual=structure, dispersion=dispersion, reml=reml, weights=weights,
            offset=offset, contrasts=contrasts, missing=missing, undetermined=undetermined,
            random=random, kernels=kernels, functions=functions, priors=priors, fixed=fixed,
            equal=equal, path=path, rng=rng, start=start, n_jobs=n_jobs, progress=progress,
        )  # fmt: skip

    check_used(kernels, [str(formula), str(dispersion)])
    if residual is not None and not isinstance(residual, str):
        return _first_that_holds(arguments, sequence.checked(residual))
    call = arguments(residual)
    if call.family is not None:
        return _generalised_fit(call)
    call = by_own_places(call)
    estimate = _estimated(call, specification_of(call))
    warn_unless_proved(estimate)
    return LinearMixedModelFit(estimate, _origin(call, estimate))


def _first_that_holds(
    arguments: Callable[[str | None], ModelArguments], stated: tuple[str, ...]
) -> LinearMixedModelFit:
    """Fit the structures of a sequence until one has a proved optimum that the data determine."""
    reasons: list[str] = []
    for structure in stated:
        call = arguments(structure)
        estimate = None
        try:
            spec = sequence.noted(specification_of(call), stated, tuple(reasons))
            estimate = _estimated(call, spec)
            why = sequence.objection(estimate)
        except ModelError as error:
            why = sequence.in_short(error)
        if estimate is not None and not why:
            return LinearMixedModelFit(estimate, _origin(call, estimate))
        reasons.append(why)
    said = "; ".join(f"{s}: {why}" for s, why in zip(stated, reasons, strict=True))
    raise ModelError(f"none of the residual structures stated could be fitted. {said}")


def _estimated(call: ModelArguments, spec: Specification) -> LinearEstimate:
    """Fit a linear model."""
    with SearchBar(call.progress) as bar:
        return linear.fit_lmm(
            spec,
            reml=call.reml,
            path=call.path,
            start=call.start,
            n_jobs=call.n_jobs,
            progress=bar if bar.shown else None,
            rng=call.rng,
        )


def glmm(
    formula: str,
    data: Any,
    *,
    family: str | Family,
    link: str | None = None,
    dispersion: str = "~1",
    zero: str = "~0",
    nominal: str = "~1",
    shapes: Mapping[str, str] | None = None,
    quadrature: int = 1,
    reml: bool = False,
    priors: Mapping[str, Prior] | None = None,
    fixed: Mapping[str, float] | None = None,
    equal: Sequence[Collection[str]] | None = None,
    weights: Any = None,
    sampling_weights: Mapping[str, Any] | None = None,
    sampling_scale: str = "none",
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    undetermined: str = "raise",
    random: str = "formula",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    path: str | None = None,
    start: Any = None,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> GeneralizedMixedModelFit:
    """Fit a generalised linear mixed model by maximum likelihood, penalised if priors are given.

    Parameters
    ----------
    formula : str
        The mean, as in lme4: ``"y ~ x + (x | g)"``. A binomial response is 0
        and 1, a category of two levels, ``cbind(success, failure)``, or a
        proportion whose trials are the `weights`; a censored one is
        ``cbind(lower, upper)``.
    data : table
        pandas, polars or pyarrow table, or a dict of arrays.
    family : str or Family
        R's or glmmTMB's name, such as ``"binomial"``, ``"poisson"``,
        ``"nbinom2"``, ``"Gamma"``, ``"beta"``, ``"cumulative"`` (ordered
        categories), ``"multinomial"``; or an object of `ranef.families`.
    link : str, optional
        Link of the mean; the family's own by default.
    dispersion : str
        Formula of the dispersion on its log scale; ``"~1"`` is one constant. It may have random
        effects, which a label ties to those of the mean: ``(1 | p | g)`` in both formulas.
    zero : str
        Formula of the log odds of an extra zero (of any zero in truncated
        families, which makes a hurdle model); ``"~0"`` has no such part.
    nominal : str
        Of ordered categories: fixed effects that are not the same on all thresholds,
        ``"~ x"`` (partial proportional odds). Each of their columns has a coefficient
        on every threshold, and stands here instead of in `formula`. A new row whose
        thresholds come out of order is predicted NaN.
    shapes : dict, optional
        Formulas of further parameters by their names, ``{"df": "~ x"}``.
    quadrature : int
        Nodes of the adaptive Gauss-Hermite quadrature for each random effect; 1 is
        the Laplace approximation. For one grouping factor, or factors nested in each
        other such as ``(1 | school/class)``, with up to three effects a level each.
        A row's density is taken at nodes^effects points, a million at most: two
        nested intercepts with 25 nodes make 625. Crossed factors are refused, since
        their likelihood does not factorise.
    reml : bool
        Integrate the coefficients of the mean out as well, by the Laplace
        approximation (restricted likelihood): less bias in the covariance
        parameters where there are few levels.
    priors : dict, optional
        Priors of `ranef.priors` by the parameters that they hold, such as
        ``{"sd": ranef.priors.HalfT(3, 2.5), "fixed": ranef.priors.Normal(0, 2.5)}``:
        the likelihood times their density is maximised. Names are ``"fixed"``
        (all coefficients of the mean but the intercept), a coefficient's own
        (``"Days"``, ``"zero: Days"``), ``"sd"`` and ``"corr"``, also of one
        factor: ``"sd: Subject"``.
    fixed : dict, optional
        Parameters that are held at a value instead of estimated, by the same names:
        ``{"x": 0.5, "dispersion: (Intercept)": 0.0, "sd: Subject": 1.0}``.
        Coefficients are on the scale of their part's link. Standard deviations can
        be held in terms with one column and in ``diag`` (that is, ``||``) and
        ``homdiag``. What is held has a standard error of 0, takes no part in
        `df_model` and AIC, and the summary says so.
    equal : list of groups, optional
        Coefficients of one part that have one common value:
        ``[("x1", "x2")]``, as if their columns were added up. The group counts as
        one parameter.
    weights : str or (n,) array, optional
        They multiply the log density of a row; of a proportion they are its
        numbers of trials.
    sampling_weights : dict, optional
        How many of the population each level of the grouping factor, and each row of it, stands
        for: ``{"school": "w_school", "row": "w_pupil"}``, columns or one value a row. Weights of
        rows are those given that their level was sampled. They multiply the log density of rows
        and the log integrals of levels (Rabe-Hesketh & Skrondal 2006), which takes one grouping
        factor and `quadrature`; weights of levels count relative to their mean. Standard errors are
        those of the sandwich of the levels, and what needs a likelihood is refused.
    sampling_scale : {"none", "size", "effective"}
        Of weights of rows: as they are; scaled so that they add up to the rows of their level;
        or to its effective rows, (sum w)^2 / sum w^2.
    offset : str or (n,) array, optional
        Added to the linear predictor of the mean with coefficient 1.
    contrasts, missing, undetermined, random, kernels, functions, path
        As in `lmm`; contrasts hold in all formulas.
    start : array, optional
        Covariance parameters to start from, absolute, see `Optimum.theta`.
    n_jobs : int, optional
        Threads; None for all that this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    GeneralizedMixedModelFit

    Raises
    ------
    ranef.errors.FormulaError
        A formula cannot be read or names an unknown column.
    ranef.errors.DataError
        The table holds what the family cannot use.
    ranef.errors.ModelError
        The model cannot be fitted, or an argument is not valid.

    Warns
    -----
    ranef.errors.ConvergenceWarning
        The search ended without a proof that it stands at the optimum, or the
        data separate the response, so that a coefficient has no finite
        estimate.
    ranef.errors.DataWarning
        The Laplace approximation is known to be poor for such data.

    See Also
    --------
    marginal : coefficients of the population.
    plan : the cost of a fit before it runs.

    Examples
    --------
    >>> import ranef
    >>> cbpp = ranef.data.load("cbpp")
    >>> fit = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp,
    ...                  family="binomial")
    >>> round(fit.loglik, 6)
    -92.026282
    >>> fit.coef.round(3).to_dict()
    {'(Intercept)': -1.399, 'period2': -0.992, 'period3': -1.129, 'period4': -1.58}
    >>> held = ranef.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp,
    ...                   family="binomial", fixed={"period4": -1.5},
    ...                   equal=[("period2", "period3")])
    >>> held.coef.round(3).to_dict(), held.df_model
    ({'(Intercept)': -1.41, 'period2': -1.044, 'period3': -1.044, 'period4': -1.5}, 3)
    """
    call = ModelArguments(
        formula, data, read_family(family, link), dispersion, zero, nominal, shapes,
        quadrature=quadrature, reml=reml, priors=priors, fixed=fixed, equal=equal,
        weights=weights, offset=offset, contrasts=contrasts, missing=missing,
        undetermined=undetermined, random=random,
        kernels=kernels, functions=functions, path=path, start=start, n_jobs=n_jobs,
        progress=progress,
    )  # fmt: skip
    texts = [formula, dispersion, zero, nominal, *(shapes or {}).values()]
    check_used(kernels, [str(text) for text in texts])
    return _generalised_fit(call, read_sampling(sampling_weights, sampling_scale, call))


def _generalised_fit(
    call: ModelArguments, sampling: Sampling | None = None
) -> GeneralizedMixedModelFit:
    """Fit a model by the engine of generalised ones."""
    spec, levels = generalised_specification_of(call), None
    if sampling is not None:
        spec, levels = sampling.applied(spec)
    with SearchBar(call.progress) as bar:
        estimate = generalised.fit_glmm(
            spec.parts,
            spec.family,
            extra=spec.extra,
            quadrature=call.quadrature,
            reml=call.reml,
            priors=call.priors,
            fixed=call.fixed,
            equal=call.equal,
            sampling=levels,
            path=call.path,
            start=call.start,
            n_jobs=call.n_jobs,
            progress=bar if bar.shown else None,
        )
    fit = GeneralizedMixedModelFit(estimate, _origin(call, estimate))
    warn_about(estimate)
    return fit


def _origin(call: ModelArguments, estimate: Estimate) -> Origin:
    """Where the rows came from, with the columns that any formula uses."""
    names = {name: None for part in estimate.parts.values() for name in part.recipe.columns}
    return Origin.of(call.table, estimate.parts[CONDITIONAL].accounting, names)


def plan(
    formula: str,
    data: Any,
    *,
    residual: str | None = None,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    missing: str = "drop",
    undetermined: str = "raise",
    random: str = "formula",
    kernels: Mapping[str, Any] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    path: str | None = None,
    family: str | Family | None = None,
    link: str | None = None,
    dispersion: str = "~1",
    zero: str = "~0",
    nominal: str = "~1",
    shapes: Mapping[str, str] | None = None,
    quadrature: int = 1,
    reml: bool = False,
    priors: Mapping[str, Any] | None = None,
    fixed: Mapping[str, float] | None = None,
    equal: Sequence[Collection[str]] | None = None,
) -> Plan:
    """Say what a fit would cost before it runs: blocks, memory, flops, chosen path.

    Takes the arguments of `lmm` that shape the model; with a `family` those of
    `glmm`. With `priors`, `fixed` or `equal` a linear model is planned as it is fitted, by
    the engine of `glmm`. Parameters are counted as far as they are free.

    Examples
    --------
    >>> import ranef
    >>> sleep = ranef.data.load("sleepstudy")
    >>> ranef.plan("Reaction ~ Days + (Days | Subject)", sleep).path
    'single'
    >>> plan = ranef.plan("count ~ spp + (1 | site)", ranef.data.load("Salamanders"),
    ...                   family="nbinom2", zero="~ spp + (1 | site)")
    >>> plan.p, plan.n_parameters
    (15, 2)
    >>> ranef.plan("count ~ spp + (1 | site)", ranef.data.load("Salamanders"),
    ...            family="nbinom2", fixed={"sd: site": 0.5}).n_parameters
    0
    >>> ranef.plan("count ~ spp + (1 | site)", ranef.data.load("Salamanders"),
    ...            family="nbinom2", quadrature=25).points
    25
    """
    call = ModelArguments(
        formula, data, None if family is None else read_family(family, link), dispersion, zero,
        nominal, shapes, residual, quadrature=quadrature, reml=reml, priors=priors, fixed=fixed,
        equal=equal, weights=weights, offset=offset, contrasts=contrasts, missing=missing,
            undetermined=undetermined, random=random,
        kernels=kernels, functions=functions, path=path,
    )  # fmt: skip
    if family is None:
        _refuse_without_family(link=link)
    if call.family is None:
        _refuse_without_family(zero=zero, nominal=nominal, shapes=shapes, quadrature=quadrature)
        return forecast.plan(specification_of(by_own_places(call)), path=call.path)
    spec = generalised_specification_of(call)
    composition = generalised.compose(
        spec.parts,
        spec.family,
        spec.extra,
        priors=call.priors,
        fixed=call.fixed,
        equal=call.equal,
        reml=call.reml,
    )
    return forecast.plan_generalised(
        composition.design,
        call.formula,
        spec.accounting.n_dropped,
        path=call.path,
        quadrature=call.quadrature,
    )


def _refuse_without_family(**given: Any) -> None:
    """The arguments of generalised models mean nothing without a family."""
    usual = {field.name: field.default for field in fields(ModelArguments)} | {"link": None}
    for name, value in given.items():
        if value != usual[name]:
            raise ModelError(f"{name}={value!r} belongs to a generalised model: give a family too")
