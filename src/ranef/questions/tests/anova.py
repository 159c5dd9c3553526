"""`anova`: the terms of a fit tested, or several fits compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ranef import arguments
from ranef.errors import ModelError
from ranef.fits.mixed import MixedFit
from ranef.fits.protocol import Comparable, Likelihood, offers, require
from ranef.fits.several import gathered
from ranef.questions.tests.likelihood_ratios import ModelComparison, compare_fits
from ranef.questions.tests.term_hypotheses import TYPES
from ranef.questions.tests.term_tests import TermTests, tabulate_terms

__all__ = ["anova"]

METHODS = ("lrt", "bootstrap")
TESTS = ("wald", "score")


def anova(
    fit: MixedFit | Sequence[MixedFit] | Mapping[str, MixedFit],
    *others: MixedFit,
    type: str | int = "III",
    df: str | None = None,
    test: str = "wald",
    refit: bool = True,
    method: str = "lrt",
    n: int = 1000,
    rng: Any = 0,
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> TermTests | ModelComparison:
    """Test the terms of one fit, or compare several fits.

    Parameters
    ----------
    fit : LinearMixedModelFit, GeneralizedMixedModelFit or MarginalModelFit
        Or a list of fits, or a dict of fits by their names, which are compared.
    *others : fits
        Of the same rows and response. With them the fits are compared, without them
        the terms of `fit` are tested: F tests of a linear model, Wald's chi-squared of
        a generalised one, of all its parts.
    type : {"III", "II", "I"}
        Hypotheses about terms. None depends on the contrasts of the fit.

        - III: unweighted means, over all combinations of levels.
        - II: each term after all others that do not contain it.
        - I: each term after those before it in the formula.

        A term contains another that has the same covariates and fewer factors:
        ``dose:sex`` contains ``dose`` (a number), not ``sex``, which is tested where
        dose is 0, as in SAS and lmerTest.
    df : str, optional
        Denominator degrees of freedom of a linear model: ``"satterthwaite"`` (the
        default), or another method of `tidy`.
    test : {"wald", "score"}
        Of the terms of a fit of `gee`: Wald's test, or the generalised score test, for which the
        model is fitted without each term in turn.
    refit : bool
        When fits are compared: fit those by REML again by ML. False compares REML fits
        as they are and refuses different fixed effects.
    method : {"lrt", "bootstrap"}
        When fits are compared: the asymptotic distribution of the likelihood ratio, a
        mixture of chi-squared distributions where the smaller model has zero variances;
        or responses drawn from the smaller model and fitted by both.
    n : int
        Draws of the bootstrap.
    rng : int or numpy.random.Generator
        Of the bootstrap; the same gives the same p-value.
    n_jobs : int, optional
        Threads of the bootstrap; None for all that this process may use.
    progress : bool, optional
        Show a progress bar; None shows one when the work is long.

    Returns
    -------
    TermTests or ModelComparison
        Both print as text and have ``table()``.

    Raises
    ------
    ranef.errors.DataError
        The fits compared use different rows or responses.
    ranef.errors.ModelError
        An argument is not valid, or does not apply to these fits.

    See Also
    --------
    variance_test : tests of the random effects.
    robust : tests that do not rely on the model's covariance.

    Examples
    --------
    >>> import ranef
    >>> stool = ranef.data.load("ergoStool")
    >>> ranef.anova(ranef.lmm("effort ~ Type + (1 | Subject)", stool)).tidy().round(3)
       term  sum_sq  mean_sq  df1   df2  statistic  p_value
    0  Type  81.194   27.065    3  24.0     22.356      0.0

    >>> sleep = ranef.data.load("sleepstudy")
    >>> one = ranef.lmm("Reaction ~ Days + (1 | Subject)", sleep)
    >>> two = ranef.lmm("Reaction ~ Days + (Days | Subject)", sleep)
    >>> ranef.anova(one, two).tidy()[["model", "n_parameters", "statistic", "df"]].round(2)
       model  n_parameters  statistic   df
    0  fit 1             4        NaN  NaN
    1  fit 2             6      42.14  2.0
    """
    fits, names = gathered(fit, others, "anova()")
    if offers(fits[0], Comparable):
        comparison: ModelComparison = fits[0].compared(fits[1:])
        return comparison
    for name, one in zip(names, fits, strict=True):
        require(
            one,
            f"anova(), {name}," if len(fits) > 1 else "anova()",
            *((Likelihood,) if len(fits) > 1 else ()),
        )
    kind = _type(type)
    way = arguments.choice("method", method, METHODS)
    if len(fits) == 1:
        if way != "lrt":
            raise ModelError("method='bootstrap' compares two fits; give the smaller one as well")
        return tabulate_terms(fits[0], kind, df, arguments.choice("test", test, TESTS))
    if df is not None:
        raise ModelError(
            "df belongs to tests of the terms of one fit; a likelihood ratio has no denominator"
        )
    return compare_fits(
        fits,
        names,
        refit=arguments.flag("refit", refit),
        draws=arguments.count("n", n) if way == "bootstrap" else None,
        rng=arguments.generator(rng),
        n_jobs=None if n_jobs is None else arguments.count("n_jobs", n_jobs),
        progress=arguments.optional_flag("progress", progress),
    )


def _type(value: Any) -> str:
    """Read a type as a Roman or Arabic number."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 3:
        return TYPES[value - 1]
    if isinstance(value, str) and value in ("1", "2", "3"):
        return TYPES[int(value) - 1]
    return arguments.choice("type", value, TYPES)
